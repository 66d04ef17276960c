#!/bin/sh
# Two Docker hosts to try the examples with, where there is only one machine.
#
# Each is a network namespace with a Docker daemon of its own, and a cable joins the two: what runs on one host reaches
# what the other publishes at its address, and nothing else of it. Nobody in there can tell them from two machines.
#
#   eval "$(./hosts.sh up yggpy)"   makes them, gives them these images, and sets the variables that the examples take
#   ./hosts.sh down                 removes them, with everything on them
#
# Needs root, dockerd (Debian: docker.io), ip and nsenter. README.md tells more.
set -eu

PREFIX=${PREFIX-example-}
STATE=/run/${PREFIX}hosts # a file system in memory, with all that both hosts keep: what is used of it counts
TIMEOUT=60 # seconds for a daemon to start, or to end

say() { printf '%s\n' "hosts.sh: $*" >&2; }

# usage: on NUMBER ARGUMENTS...: docker on that host
on() {
    number=$1
    shift
    docker -H "unix://$STATE/$number/docker.sock" "$@"
}

start() {
    ip netns add "${PREFIX}host$1"
    ip -n "${PREFIX}host$1" link set lo up
    mkdir "$STATE/$1"
    # A session of its own: Ctrl-C is for this script, not for the daemon.
    setsid nsenter --net="/run/netns/${PREFIX}host$1" dockerd --data-root "$STATE/$1/data" --exec-root "$STATE/$1/exec" \
        --pidfile "$STATE/$1/docker.pid" --host "unix://$STATE/$1/docker.sock" >"$STATE/$1/dockerd.log" 2>&1 &
}

# usage: cable: eth0 of both hosts
cable() {
    ip -n "${PREFIX}host1" link add eth0 type veth peer name eth0 netns "${PREFIX}host2"
    for number in 1 2; do
        ip -n "${PREFIX}host$number" address add "192.0.2.$number/24" dev eth0
        ip -n "${PREFIX}host$number" link set eth0 up
    done
}

# usage: await NUMBER: until the daemon answers
await() {
    limit=$(($(date +%s) + TIMEOUT))
    until on "$1" version >/dev/null 2>&1; do
        if [ "$(date +%s)" -ge "$limit" ]; then
            say "the daemon of host $1 does not answer; the end of $STATE/$1/dockerd.log:"
            tail -n 20 "$STATE/$1/dockerd.log" >&2
            return 1
        fi
        sleep 0.1
    done
}

# usage: give IMAGE...: what images have in common goes over once
give() {
    docker save -o "$STATE/images.tar" "$@"
    on 1 load -qi "$STATE/images.tar" >/dev/null &
    on 2 load -qi "$STATE/images.tar" >/dev/null
    wait $!
    rm "$STATE/images.tar"
}

up() {
    [ "$(id -u)" = 0 ] || { say "must run as root"; exit 1; }
    down
    trap 'say "going back"; trap - EXIT; down' EXIT
    mkdir "$STATE"
    mount -t tmpfs -o mode=0700,size=8g tmpfs "$STATE"
    start 1
    start 2
    cable
    await 1
    await 2
    [ $# = 0 ] || give "$@"
    trap - EXIT
    for number in 1 2; do
        echo "export HOST$number=unix://$STATE/$number/docker.sock ADDRESS$number=192.0.2.$number" \
            "SHELL$number='nsenter --net=/run/netns/${PREFIX}host$number'"
    done
}

# usage: daemon NUMBER: its process id, if it runs
daemon() {
    pid=$(cat "$STATE/$1/docker.pid" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] && echo "$pid"
}

down() {
    for number in 1 2; do
        if pid=$(daemon "$number"); then
            on "$number" ps -q | xargs -r docker -H "unix://$STATE/$number/docker.sock" kill >/dev/null || true
            kill "$pid"
        fi
    done
    limit=$(($(date +%s) + TIMEOUT))
    for number in 1 2; do
        while pid=$(daemon "$number"); do # at the very end it removes the file with its number
            [ "$(date +%s)" -lt "$limit" ] || kill -9 "$pid"
            sleep 0.1
        done
        ip netns delete "${PREFIX}host$number" 2>/dev/null || true
    done
    # What a daemon that was killed has left mounted, and the memory itself.
    awk -v state="$STATE" '$2 == state || index($2, state "/") == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount -l
    rm -rf "$STATE"
}

case ${1-} in
up)
    shift
    up "$@"
    ;;
down) down ;;
*)
    echo "usage: hosts.sh up [IMAGE ...] | down" >&2
    exit 2
    ;;
esac
