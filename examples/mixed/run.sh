#!/bin/sh
# Machines with the Go node and containers with yggpy, in one mesh. README.md has the drawing.
# shellcheck disable=SC2086  # lists of words are split on purpose
set -eu

IMAGE=${YGGPY_IMAGE:-yggpy}
PREFIX=${PREFIX-mixed-}
LABEL="example=${PREFIX}mixed"
NODE="--cap-add=NET_ADMIN --device=/dev/net/tun --sysctl net.ipv6.conf.all.disable_ipv6=0"
YGGDRASIL=${YGGDRASIL:-yggdrasil}
HERE=$(cd "$(dirname "$0")" && pwd)

up() {
    if ! go=$(command -v "$YGGDRASIL"); then
        echo "no Go node: install the package yggdrasil (0.5 or newer), or say where it is: YGGDRASIL=/path $0 up" >&2
        exit 1
    fi
    down
    docker network create --label "$LABEL" "${PREFIX}wan" >/dev/null
    docker network create --label "$LABEL" "${PREFIX}rack" >/dev/null
    metal metal1 wan "$go"
    metal metal2 rack "$go"
    # The way out of the rack: it dials the machine outside by name, and its neighbours inside find it.
    container gate wan $NODE --env "YGG_PEERS=tls://metal1:9001?maxbackoff=5s"
    docker network connect --alias gate "${PREFIX}rack" "${PREFIX}gate"
    for name in box1 box2; do
        container "$name" rack $NODE
    done
    for name in metal1 metal2 gate box1 box2; do
        wait_healthy "$name"
    done
    echo "up: metal1 metal2 (Go), gate box1 box2 (yggpy); try: docker exec ${PREFIX}gate yggpy-ctl getPeers"
}

# metal NAME NETWORK PROGRAM: a container that stands for a machine with the Go node and a configuration file.
metal() {
    docker run --detach --name "${PREFIX}$1" --hostname "$1" --label "$LABEL" --no-healthcheck \
        --network "${PREFIX}$2" --network-alias "$1" $NODE \
        --volume "$3:/usr/local/bin/yggdrasil:ro" --volume "$HERE/$1.conf:/etc/yggdrasil.conf:ro" \
        --entrypoint yggdrasil "$IMAGE" -useconffile /etc/yggdrasil.conf >/dev/null
}

# container NAME NETWORK DOCKER-OPTION...
container() {
    name=$1
    network=$2
    shift 2
    docker run --detach --name "${PREFIX}$name" --hostname "$name" --label "$LABEL" \
        --network "${PREFIX}$network" --network-alias "$name" "$@" "$IMAGE" >/dev/null
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

case ${1-} in
up) up ;;
down) down ;;
*)
    echo "usage: $0 up | down" >&2
    exit 2
    ;;
esac
