#!/bin/sh
# Workers that come and go: each makes a key when it starts and takes it along when it ends. README.md has the drawing.
# shellcheck disable=SC2086  # lists of words are split on purpose
set -eu

IMAGE=${YGGPY_IMAGE:-yggpy}
PREFIX=${PREFIX-ephemeral-}
LABEL="example=${PREFIX}ephemeral"
NODE="--cap-add=NET_ADMIN --device=/dev/net/tun --sysctl net.ipv6.conf.all.disable_ipv6=0"

up() {
    down
    docker network create --label "$LABEL" "${PREFIX}net" >/dev/null
    scale 1
}

# Start the workers up to the number that do not run, and stop those above it.
scale() {
    wanted=$(seq --format 'worker%g' 1 "$1")
    running=$(docker ps --filter "label=$LABEL" --format '{{.Names}}')
    there=$(docker ps --all --filter "label=$LABEL" --format '{{.Names}}')
    for name in $wanted; do
        if ! among "${PREFIX}$name" $running; then
            replace "$name" &
        fi
    done
    wait
    surplus=
    for name in $there; do
        among "${name#"$PREFIX"}" $wanted || surplus="$surplus $name"
    done
    if [ -n "$surplus" ]; then
        docker stop --time 5 $surplus >/dev/null
        docker rm --force --volumes $surplus >/dev/null
    fi
    for name in $wanted; do
        wait_healthy "$name"
    done
    echo "up:" $wanted "; try: docker exec ${PREFIX}worker1 yggpy-ctl getPeers"
}

# replace NAME: start a worker, in the place of one that has ended.
replace() {
    docker rm --force --volumes "${PREFIX}$1" >/dev/null 2>&1 || true
    docker run --detach --name "${PREFIX}$1" --hostname "$1" --label "$LABEL" \
        --network "${PREFIX}net" --network-alias "$1" $NODE "$IMAGE" -autoconf >/dev/null
}

# among WORD WORD...: whether the first is one of the others.
among() {
    sought=$1
    shift
    for word in "$@"; do
        if [ "$word" = "$sought" ]; then return 0; fi
    done
    return 1
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
    echo "usage: $0 up | scale NUMBER | down" >&2
    exit 2
}

case ${1-} in
up) up ;;
scale)
    case ${2-} in
    '' | *[!0-9]*) usage ;;
    *) scale "$2" ;;
    esac
    ;;
down) down ;;
*) usage ;;
esac
