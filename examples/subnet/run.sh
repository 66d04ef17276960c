#!/bin/sh
# Two hosts, one node on each and none in the containers: a Docker network on each host takes its node's 300::/64.
#
# Runs on any machine from which docker reaches both engines and a shell both hosts; README.md tells the rest.
set -eu

HOST1=${HOST1:-ssh://root@host1} # the two engines, as docker -H takes them
HOST2=${HOST2:-ssh://root@host2}
SHELL1=${SHELL1:-ssh root@host1} # what runs a command on the hosts, as root
SHELL2=${SHELL2:-ssh root@host2}
ADDRESS1=${ADDRESS1:-host1} # where host 2 reaches host 1
PORT=${PORT:-9001}          # of host 1, for the node of host 2
PASSWORD=${PASSWORD:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}

IMAGE=${YGGPY_IMAGE:-yggpy}
PREFIX=${PREFIX-subnet-}
LABEL=example=${PREFIX}subnet
WAIT=60 # seconds until a node must be there

# usage: on HOST ARGUMENTS...: docker on that host
on() {
    host=$1
    shift
    docker -H "$host" "$@"
}

# usage: node HOST OPTIONS...: the node of a host. It is in the host's own network, and the volume keeps its key: with
# the key its subnet stays the same.
node() {
    host=$1
    shift
    on "$host" volume create --label "$LABEL" "${PREFIX}node" >/dev/null
    on "$host" run -d --name "${PREFIX}node" --label "$LABEL" --restart unless-stopped --network host \
        --cap-add=NET_ADMIN --device=/dev/net/tun --volume "${PREFIX}node:/var/lib/yggpy" \
        -e YGG_MULTICAST_INTERFACES='[]' "$@" "$IMAGE" >/dev/null
}

# usage: network HOST SHELL: make the node's subnet a Docker network
network() {
    limit=$(($(date +%s) + WAIT))
    until commands=$(on "$1" exec "${PREFIX}node" yggpy-ctl subnet docker "network=${PREFIX}mesh" 2>&1); do
        if [ "$(date +%s)" -ge $limit ]; then
            echo "the node on $1 does not answer within $WAIT s ($commands); see docker logs ${PREFIX}node" >&2
            exit 1
        fi
        sleep 0.3
    done
    # shellcheck disable=SC2086  # a command and its arguments
    printf '%s\n' "$commands" | DOCKER_HOST=$1 $2 sh >/dev/null
}

# usage: container HOST NAME COMMAND...: nothing in it knows of the mesh. Any image will do; this one is there.
container() {
    host=$1 name=$2
    shift 2
    on "$host" run -d --name "$PREFIX$name" --hostname "$name" --label "$LABEL" --network "${PREFIX}mesh" \
        --entrypoint python3 "$IMAGE" "$@" >/dev/null
}

up() {
    down
    node "$HOST1" -e YGG_LISTEN="tls://[::]:$PORT?password=$PASSWORD"
    node "$HOST2" -e YGG_PEERS="tls://$ADDRESS1:$PORT?password=$PASSWORD&maxbackoff=5s"
    network "$HOST1" "$SHELL1"
    network "$HOST2" "$SHELL2"
    container "$HOST1" web -u -m http.server --bind :: --directory /opt 80
    container "$HOST2" client -c 'import signal; signal.pause()'
    cat <<TEXT
Started. The web server has the mesh address $(address "$HOST1" web), the client $(address "$HOST2" client)
  docker -H $HOST2 exec ${PREFIX}client ping -c 3 $(address "$HOST1" web)
TEXT
}

# usage: address HOST NAME
address() {
    on "$1" inspect -f '{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}' "$PREFIX$2"
}

down() {
    for host in "$HOST1" "$HOST2"; do
        # Lists that are empty, or not: names have no blanks.
        containers=$(on "$host" ps -aq --filter "label=$LABEL")
        # shellcheck disable=SC2086
        [ -z "$containers" ] || on "$host" rm -f -v $containers >/dev/null
        network=$(on "$host" network ls -q --filter "name=^${PREFIX}mesh\$")
        [ -z "$network" ] || on "$host" network rm "$network" >/dev/null
        volume=$(on "$host" volume ls -q --filter "label=$LABEL")
        [ -z "$volume" ] || on "$host" volume rm "$volume" >/dev/null
    done
}

case ${1-} in
up | down) "$1" ;;
address)
    case ${2-} in
    web) address "$HOST1" web ;;
    client) address "$HOST2" client ;;
    *) exec "$0" ;;
    esac
    ;;
*)
    echo "usage: run.sh up | address web|client | down" >&2
    exit 2
    ;;
esac
