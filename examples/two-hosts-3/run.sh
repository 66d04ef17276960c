#!/bin/sh
# Two Docker hosts, one mesh: the hosts' Docker networks are joined to one broadcast domain, and nodes find each other.
#
# A VXLAN link joins the two bridges. Runs on any machine from which docker and a shell reach both hosts; README.md tells
# the rest.
set -eu

HOST1=${HOST1:-ssh://root@host1} # the two engines, as docker -H takes them
HOST2=${HOST2:-ssh://root@host2}
SHELL1=${SHELL1:-ssh root@host1} # what runs a command as root on each host
SHELL2=${SHELL2:-ssh root@host2}
ADDRESS1=${ADDRESS1-} # IP addresses at which the hosts reach each other; needed to start
ADDRESS2=${ADDRESS2-}
SUBNET=${SUBNET:-10.77.0.0/16} # of the common network; each host gives out addresses of its own range in it
RANGE1=${RANGE1:-10.77.1.0/24} GATEWAY1=${GATEWAY1:-10.77.1.1}
RANGE2=${RANGE2:-10.77.2.0/24} GATEWAY2=${GATEWAY2:-10.77.2.1}
VNI=${VNI:-77}            # the number of the VXLAN, the same on both hosts
BRIDGE=${BRIDGE:-br-mesh} # names of interfaces on the hosts, of 15 letters at most
TUNNEL=${TUNNEL:-vx-mesh}
MTU=${MTU:-1450} # VXLAN takes 50 bytes (70 over IPv6) of what the network between the hosts carries
PASSWORD=${PASSWORD:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}

IMAGE=${YGGPY_IMAGE:-yggpy}
PREFIX=${PREFIX-two-hosts-3-}
LABEL=example=${PREFIX}two-hosts-3
NODE="--cap-add=NET_ADMIN --device=/dev/net/tun --sysctl net.ipv6.conf.all.disable_ipv6=0"

# usage: on HOST ARGUMENTS...: docker on that host
on() {
    host=$1
    shift
    docker -H "$host" "$@"
}

# usage: bridge HOST RANGE GATEWAY: this host's part of the common network
bridge() {
    on "$1" network create --label "$LABEL" --subnet "$SUBNET" --ip-range "$2" --gateway "$3" \
        -o com.docker.network.bridge.name="$BRIDGE" -o com.docker.network.driver.mtu="$MTU" "${PREFIX}mesh" >/dev/null
}

# usage: tunnel SHELL HERE THERE: a port of the bridge that leads to the other host
tunnel() {
    $1 ip link add "$TUNNEL" type vxlan id "$VNI" dstport 4789 local "$2" remote "$3"
    $1 ip link set "$TUNNEL" mtu "$MTU" master "$BRIDGE" up
}

# usage: node HOST NAME: a node, which looks for neighbours on its eth0
node() {
    # shellcheck disable=SC2086  # a list of flags
    on "$1" run -d --name "$PREFIX$2" --hostname "$2" --label "$LABEL" --restart unless-stopped \
        --network "${PREFIX}mesh" --network-alias "$2" $NODE -e YGG_MULTICAST_INTERFACES="[
            {\"Regex\": \"^eth0\$\", \"Beacon\": true, \"Listen\": true, \"Password\": \"$PASSWORD\"}
        ]" "$IMAGE" >/dev/null
}

up() {
    : "${ADDRESS1:?set it to the IP address at which host 2 reaches host 1}"
    : "${ADDRESS2:?set it to the IP address at which host 1 reaches host 2}"
    down
    bridge "$HOST1" "$RANGE1" "$GATEWAY1"
    bridge "$HOST2" "$RANGE2" "$GATEWAY2"
    tunnel "$SHELL1" "$ADDRESS1" "$ADDRESS2"
    tunnel "$SHELL2" "$ADDRESS2" "$ADDRESS1"

    node "$HOST1" leaf1
    node "$HOST1" leaf2
    node "$HOST2" leaf3
    node "$HOST2" leaf4
    cat <<TEXT
Started. The password between neighbours is $PASSWORD
  docker -H $HOST1 exec ${PREFIX}leaf1 yggpy-ctl getPeers
  docker -H $HOST2 exec ${PREFIX}leaf3 yggpy-ctl getSelf
  docker -H $HOST1 exec ${PREFIX}leaf1 ping -c 3 THE-IPV6-ADDRESS-OF-LEAF3
TEXT
}

down() {
    # shellcheck disable=SC2086  # lists of names
    for host in "$HOST1" "$HOST2"; do
        containers=$(on "$host" ps -aq --filter "label=$LABEL")
        [ -z "$containers" ] || on "$host" rm -f -v $containers >/dev/null
        networks=$(on "$host" network ls -q --filter "label=$LABEL")
        [ -z "$networks" ] || on "$host" network rm $networks >/dev/null
    done
    for shell in "$SHELL1" "$SHELL2"; do
        $shell ip link show "$TUNNEL" >/dev/null 2>&1 && $shell ip link del "$TUNNEL"
    done
    return 0
}

case ${1-} in
up | down) "$1" ;;
*)
    echo "usage: run.sh up | down" >&2
    exit 2
    ;;
esac
