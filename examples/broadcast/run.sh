#!/bin/sh
# Leaves on one Docker bridge network find each other, without a router and without configuration. README.md has the drawing.
# shellcheck disable=SC2086  # lists of words are split on purpose
set -eu

IMAGE=${YGGPY_IMAGE:-yggpy}
PREFIX=${PREFIX-broadcast-}
LABEL="example=${PREFIX}broadcast"
NODE="--cap-add=NET_ADMIN --device=/dev/net/tun --sysctl net.ipv6.conf.all.disable_ipv6=0"

up() {
    leaves=$(seq --format 'leaf%g' 1 "$1")
    down
    docker network create --label "$LABEL" "${PREFIX}net" >/dev/null
    for name in $leaves; do
        docker run --detach --name "${PREFIX}$name" --hostname "$name" --label "$LABEL" \
            --network "${PREFIX}net" --network-alias "$name" $NODE "$IMAGE" -autoconf >/dev/null &
    done
    wait
    for name in $leaves; do
        wait_healthy "$name"
    done
    echo "up:" $leaves "; try: docker exec ${PREFIX}leaf1 yggpy-ctl getPeers"
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
}

usage() {
    echo "usage: $0 up [NUMBER-OF-LEAVES] | down" >&2
    exit 2
}

case ${1-} in
up)
    case ${2-3} in
    '' | *[!0-9]*) usage ;;
    *) up "${2-3}" ;;
    esac
    ;;
down) down ;;
*) usage ;;
esac
