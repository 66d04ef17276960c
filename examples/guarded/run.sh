#!/bin/sh
# A service behind five guards, and for each guard an intruder that has everything but what this one asks for.
# README.md has the drawing.
set -eu

IMAGE=${YGGPY_IMAGE:-yggpy}
PREFIX=${PREFIX-guarded-}
GUARDS=${GUARDS-allowed password regex group firewall} # those that are up; GUARDS= shows what comes of having none
LABEL="example=${PREFIX}guarded"
NODE="--cap-add=NET_ADMIN --device=/dev/net/tun --sysctl net.ipv6.conf.all.disable_ipv6=0"
PASSWORD=let-me-in    # of links
GROUP=family          # of the traffic
WAIT=60               # seconds until something must have happened

MEMBERS="server client guest member insider" # whose keys the router knows

up() {
    down
    # "outside" is a second network of the server's machine, where somebody else lives.
    docker network create --label "$LABEL" "${PREFIX}mesh" >/dev/null
    docker network create --label "$LABEL" "${PREFIX}outside" >/dev/null
    # Keys are made before the nodes run, since the router and the server must know them.
    for name in router stranger neighbour $MEMBERS; do
        make_key "$name" &
    done
    wait

    allowed=
    if guarded allowed; then
        for name in $MEMBERS; do allowed="$allowed${allowed:+,}$(key "$name")"; done
    fi
    start router mesh --env YGG_IF_NAME=none --env "YGG_LISTEN=tls://[::]:9001?$(password "$PASSWORD")" \
        --env "YGG_ALLOWED_PUBLIC_KEYS=$allowed" --env "YGG_MULTICAST_INTERFACES=[]"

    regex='.*'
    if guarded regex; then regex='^eth0$'; fi
    firewall='{"Enable": false}'
    if guarded firewall; then
        firewall='{"Rules": [{"Name": "web", "From": "'$(key client)'", "Protocol": "tcp", "Ports": 80}]}'
    fi
    # It dials the router, and looks for neighbours on its first interface alone.
    # shellcheck disable=SC2086  # several words
    start server mesh $NODE --env "YGG_PEERS=$(door "$PASSWORD")" --env "$(group "$GROUP")" \
        --env "YGG_MULTICAST_INTERFACES=[{\"Regex\": \"$regex\", \"Beacon\": true, \"Listen\": true, \"Password\": \"$PASSWORD\"}]" \
        --env "YGG_FIREWALL=$firewall"
    docker network connect "${PREFIX}outside" "${PREFIX}server" # becomes eth1
    # The service itself, beside the node: it listens on all addresses of the server, as services do.
    docker run --detach --name "${PREFIX}web" --label "$LABEL" --network "container:${PREFIX}server" \
        --entrypoint python3 "$IMAGE" -m http.server --bind :: --directory /opt 80 >/dev/null

    leaf client "$PASSWORD" "$GROUP"   # may come in
    leaf stranger "$PASSWORD" "$GROUP" # lacks a key that the router allows
    leaf guest guessed "$GROUP"        # lacks the password of links
    leaf member "$PASSWORD" guessed    # lacks the password of the group
    leaf insider "$PASSWORD" "$GROUP"  # lacks nothing; no rule of the packet filter is for it
    # Lacks nothing either, not even the password; looks for the server from the other network.
    # shellcheck disable=SC2086  # several words
    start neighbour outside $NODE --env "$(group "$GROUP")" \
        --env "YGG_MULTICAST_INTERFACES=[{\"Regex\": \".*\", \"Beacon\": true, \"Listen\": true, \"Password\": \"$PASSWORD\"}]"

    wait_for "the server to be healthy" docker exec "${PREFIX}server" yggpy-ctl health
    wait_for "the client to get the page" fetch client
    echo "up; guards: ${GUARDS:-none}; try: $0 try"
}

# Lets everybody have a go. Exit code 1 if somebody got in who should not, or the client did not.
try() {
    verdict=0
    report client "the page" "$(fetch client && echo in || echo out)" in
    # Not let in, they are in no mesh at all: their nodes have nobody.
    wait_for "a word from stranger's node" attempted stranger
    report stranger "a link to the router" "$(linked stranger)" out "$(failure stranger)"
    wait_for "a word from guest's node" attempted guest
    report guest "a link to the router" "$(linked guest)" out "$(failure guest)"
    report neighbour "to be found by multicast" "$(neighbour)" out
    # These two are in the mesh.
    wait_for "member to be in the mesh" docker exec "${PREFIX}member" yggpy-ctl health
    report member "a ping" "$(pings member && echo in || echo out)" out
    wait_for "insider to be in the mesh" docker exec "${PREFIX}insider" yggpy-ctl health
    report insider "the page" "$(fetch insider && echo in || echo out)" out "refused by the filter: $(refused)"
    return $verdict
}

# ---- pieces ---------------------------------------------------------------------------------------------------------

guarded() { case " $GUARDS " in *" $1 "*) true ;; *) false ;; esac; }

# group PASSWORD: as a variable; one without a value has no effect
group() { if guarded group; then echo "YGG_GROUP_PASSWORD=$1"; else echo "YGG_GROUP_PASSWORD="; fi; }

# password PASSWORD: as an option of a URI
password() { if guarded password; then echo "password=$1"; fi; }

# door PASSWORD: how the router is dialled. Those who fail try again every five seconds.
door() { echo "tls://router:9001?maxbackoff=5s&$(password "$1")"; }

# make_key NAME: the first question after its key makes it, and the volume keeps it
make_key() {
    docker volume create --label "$LABEL" "${PREFIX}$1" >/dev/null
    key "$1" >/dev/null
}

key() { docker run --rm --label "$LABEL" --volume "${PREFIX}$1:/var/lib/yggpy" "$IMAGE" -autoconf -publickey; }

# start NAME NETWORK DOCKER-OPTION...
start() {
    name=$1
    network=$2
    shift 2
    docker run --detach --name "${PREFIX}$name" --hostname "$name" --label "$LABEL" --network "${PREFIX}$network" \
        --network-alias "$name" --volume "${PREFIX}$name:/var/lib/yggpy" "$@" "$IMAGE" >/dev/null
}

# leaf NAME LINK-PASSWORD GROUP-PASSWORD: dials the router; multicast is off
leaf() {
    # shellcheck disable=SC2086  # several words
    start "$1" mesh $NODE --env "YGG_PEERS=$(door "$2")" --env "$(group "$3")" --env "YGG_MULTICAST_INTERFACES=[]"
}

# wait_for WHAT COMMAND...
wait_for() {
    what=$1
    shift
    limit=$(($(date +%s) + WAIT))
    until "$@" >/dev/null 2>&1; do
        if [ "$(date +%s)" -ge $limit ]; then
            echo "$what: not within $WAIT s; see docker logs" >&2
            exit 1
        fi
        sleep 0.3
    done
}

# ask NAME COMMAND EXPRESSION: print what Python makes of the answer
ask() { docker exec "${PREFIX}$1" yggpy-ctl -json "$2" | docker exec -i "${PREFIX}$1" python3 -c \
    "import json, sys; answer = json.load(sys.stdin); print($3)"; }

address() { ask "$1" getSelf 'answer["address"]'; }

# fetch NAME: the page of the server, as NAME sees it
fetch() {
    docker exec "${PREFIX}$1" python3 -c 'import sys, urllib.request
urllib.request.urlopen(f"http://[{sys.argv[1]}]/", timeout=3).read()' "$(address server)" >/dev/null 2>&1
}

pings() { docker exec "${PREFIX}$1" ping -c 3 -i 0.3 -W 1 "$(address server)" >/dev/null 2>&1; }

# attempted NAME: whether its node has come to an end of dialling the router, the one or the other
attempted() { ask "$1" getPeers 'answer["peers"][0]["up"] or answer["peers"][0]["last_error"]'; }

linked() { ask "$1" getPeers '"in" if answer["peers"][0]["up"] else "out"'; }

failure() { ask "$1" getPeers 'answer["peers"][0].get("last_error", "")'; }

# neighbour: beacons go out every second or two, so in six seconds they would have met
neighbour() {
    for _ in 1 2 3 4 5 6; do
        if [ "$(ask neighbour getPeers 'len(answer.get("peers") or [])')" != 0 ]; then
            echo in
            return
        fi
        sleep 1
    done
    echo out
}

refused() { ask server getFirewall 'answer.get("denied", 0)'; }

# report NAME WHAT IS SHOULD [NOTE]
report() {
    if [ "$3" = "$4" ]; then mark=ok; else
        mark=WRONG
        verdict=1
    fi
    printf '%-6s %-10s wants %-26s %s%s\n' "$mark" "$1" "$2:" "$3" "${5:+ ($5)}"
}

down() {
    docker ps --all --quiet --filter "label=$LABEL" | xargs --no-run-if-empty docker rm --force --volumes >/dev/null
    docker network ls --quiet --filter "label=$LABEL" | xargs --no-run-if-empty docker network rm >/dev/null
    docker volume ls --quiet --filter "label=$LABEL" | xargs --no-run-if-empty docker volume rm >/dev/null
}

case ${1-} in
up) up ;;
try) try ;;
down) down ;;
*)
    echo "usage: $0 up | try | down" >&2
    exit 2
    ;;
esac
