#!/bin/sh
# One or two routers, and three leaves that dial them by host name. README.md has the drawing.
# shellcheck disable=SC2086  # lists of words are split on purpose
set -eu

IMAGE=${YGGPY_IMAGE:-yggpy}
PREFIX=${PREFIX-router-}
LABEL="example=${PREFIX}router"
NODE="--cap-add=NET_ADMIN --device=/dev/net/tun --sysctl net.ipv6.conf.all.disable_ipv6=0"
LEAVES="leaf1 leaf2 leaf3"

up() {
    routers="router1 router2"
    peers="tls://router1:9001?maxbackoff=5s,tls://router2:9001?maxbackoff=5s"
    if [ "$1" = 1 ]; then
        routers="router1"
        peers="tls://router1:9001?maxbackoff=5s"
    fi
    down
    docker network create --label "$LABEL" "${PREFIX}net" >/dev/null
    for name in $routers; do
        # The key stays: a router that is made anew keeps its place.
        docker volume create --label "$LABEL" "${PREFIX}$name" >/dev/null
        # A router only passes on, so it needs no TUN device: no capability, no sysctl.
        start "$name" --volume "${PREFIX}$name:/var/lib/yggpy" --env YGG_IF_NAME=none \
            --env "YGG_LISTEN=tls://[::]:9001" --env "YGG_PEERS=$(others "$name")" &
    done
    for name in $LEAVES; do
        start "$name" $NODE --env "YGG_PEERS=$peers" &
    done
    wait
    for name in $routers $LEAVES; do
        wait_healthy "$name"
    done
    echo "up: $routers $LEAVES; try: docker exec ${PREFIX}leaf1 yggpy-ctl getPeers"
}

# The second router dials the first. Who dials does not matter, a link works both ways.
others() {
    if [ "$1" = router2 ]; then echo "tls://router1:9001?maxbackoff=5s"; fi
}

# start NAME DOCKER-OPTION...: multicast is off, so nobody finds anybody but by the routers' names.
start() {
    name=$1
    shift
    docker run --detach --name "${PREFIX}$name" --hostname "$name" --label "$LABEL" \
        --network "${PREFIX}net" --network-alias "$name" --env "YGG_MULTICAST_INTERFACES=[]" "$@" "$IMAGE" >/dev/null
}

wait_healthy() {
    tries=0
    until said=$(docker exec "${PREFIX}$1" yggpy-ctl health 2>&1); do
        tries=$((tries + 1))
        running=$(docker inspect --format '{{.State.Running}}' "${PREFIX}$1" 2>&1) || true
        if [ $tries -ge 60 ] || [ "$running" != true ]; then
            echo "$1 does not get healthy: $said; see docker logs ${PREFIX}$1" >&2
            exit 1
        fi
        sleep 0.5
    done
}

down() {
    docker ps --all --quiet --filter "label=$LABEL" | xargs --no-run-if-empty docker rm --force --volumes >/dev/null
    docker network ls --quiet --filter "label=$LABEL" | xargs --no-run-if-empty docker network rm >/dev/null
    docker volume ls --quiet --filter "label=$LABEL" | xargs --no-run-if-empty docker volume rm >/dev/null
}

case "${1-} ${2-2}" in
"up 1" | "up 2") up "${2-2}" ;;
"down 2") down ;;
*)
    echo "usage: $0 up [1|2] | down" >&2
    exit 2
    ;;
esac
