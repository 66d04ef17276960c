#!/bin/sh
# Two Docker hosts, one mesh: inside a host nodes find each other by multicast, and one router of each peers across.
#
# Runs on any machine from which docker reaches both engines; README.md tells the rest.
set -eu

HOST1=${HOST1:-ssh://root@host1} # the two engines, as docker -H takes them
HOST2=${HOST2:-ssh://root@host2}
ADDRESS1=${ADDRESS1:-host1} # where host 1 is reached from containers of host 2
PORT=${PORT:-9001}          # of host 1, for the router of host 2
PASSWORD=${PASSWORD:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}

IMAGE=${YGGPY_IMAGE:-yggpy}
PREFIX=${PREFIX-two-hosts-2-}
LABEL=example=${PREFIX}two-hosts-2
NODE="--cap-add=NET_ADMIN --device=/dev/net/tun --sysctl net.ipv6.conf.all.disable_ipv6=0"

# usage: on HOST ARGUMENTS...: docker on that host
on() {
    host=$1
    shift
    docker -H "$host" "$@"
}

# usage: node HOST NAME OPTIONS...: a node, which looks for neighbours; the options are those of docker run
node() {
    host=$1 name=$2
    shift 2
    # shellcheck disable=SC2086  # a list of flags
    on "$host" run -d --name "$PREFIX$name" --hostname "$name" --label "$LABEL" --restart unless-stopped \
        --network "${PREFIX}mesh" --network-alias "$name" $NODE "$@" "$IMAGE" >/dev/null
}

up() {
    down
    on "$HOST1" network create --label "$LABEL" "${PREFIX}mesh" >/dev/null
    on "$HOST2" network create --label "$LABEL" "${PREFIX}mesh" >/dev/null

    node "$HOST1" router1 -p "$PORT:9001" -e YGG_LISTEN="tls://[::]:9001?password=$PASSWORD"
    node "$HOST2" router2 -e YGG_PEERS="tls://$ADDRESS1:$PORT?password=$PASSWORD"
    node "$HOST1" leaf1
    node "$HOST1" leaf2
    node "$HOST2" leaf3
    node "$HOST2" leaf4
    cat <<TEXT
Started. The password between the hosts is $PASSWORD
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
}

case ${1-} in
up | down) "$1" ;;
*)
    echo "usage: run.sh up | down" >&2
    exit 2
    ;;
esac
