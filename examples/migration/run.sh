#!/bin/sh
# A service moves from one Docker host to the other with its key, so that it keeps its mesh address.
#
# On both hosts a reverse proxy knows nothing of the service but that address. Runs on any machine from which docker
# reaches both engines; README.md tells the rest.
set -eu

HOST1=${HOST1:-ssh://root@host1} # the two engines, as docker -H takes them
HOST2=${HOST2:-ssh://root@host2}
ADDRESS1=${ADDRESS1:-host1} # where host 1 is reached from containers of host 2
PORT=${PORT:-9001}          # of host 1, for the router of host 2
WEB_PORT=${WEB_PORT:-8080}  # of both hosts, for the users of the service
PASSWORD=${PASSWORD:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}

IMAGE=${YGGPY_IMAGE:-yggpy}
NGINX_IMAGE=${NGINX_IMAGE:-nginx}
PREFIX=${PREFIX-migration-}
LABEL=example=${PREFIX}migration
NODE="--cap-add=NET_ADMIN --device=/dev/net/tun --sysctl net.ipv6.conf.all.disable_ipv6=0"
KEY=/var/lib/yggpy/key.pem # where the image keeps a node's key
READY_TIMEOUT=${READY_TIMEOUT:-30} # seconds for the service to be in the mesh again after a move

# usage: on NUMBER ARGUMENTS...: docker on that host
on() {
    case $1 in
    1) host=$HOST1 ;;
    2) host=$HOST2 ;;
    esac
    shift
    docker -H "$host" "$@"
}

# usage: node NUMBER run|create NAME OPTIONS...: a node without multicast, which dials the router of its host
node() {
    number=$1 verb=$2 name=$3
    shift 3
    [ "$verb" = create ] || verb="run -d"
    # shellcheck disable=SC2086  # lists of flags
    on "$number" $verb --name "$PREFIX$name" --hostname "$name" --label "$LABEL" --restart unless-stopped \
        --network "${PREFIX}mesh" --network-alias "$name" $NODE -e YGG_MULTICAST_INTERFACES='[]' \
        -e YGG_PEERS="tls://router:9001?password=$PASSWORD" "$@" "$IMAGE" >/dev/null
}

# usage: router NUMBER OPTIONS...
router() {
    number=$1
    shift
    node "$number" run router -e YGG_LISTEN="tls://[::]:9001?password=$PASSWORD" -e YGG_PEERS= "$@"
}

# usage: service NUMBER: the service's containers, not started: a node, and a web server that uses the node's network
service() {
    on "$1" volume create --label "$LABEL" "${PREFIX}service" >/dev/null
    node "$1" create service -v "${PREFIX}service:${KEY%/*}"
    on "$1" create --name "${PREFIX}web" --label "$LABEL" --restart unless-stopped \
        --network "container:${PREFIX}service" --no-healthcheck --stop-signal SIGINT --entrypoint sh "$IMAGE" -c "
            mkdir -p /srv/www && echo 'hello from host $1' >/srv/www/index.html
            exec python3 -m http.server --bind :: --directory /srv/www 8000
        " >/dev/null
}

# usage: proxy NUMBER ADDRESS: a node, and nginx, which uses the node's network
proxy() {
    node "$1" run proxy -p "$WEB_PORT:80"
    on "$1" run -d --name "${PREFIX}nginx" --label "$LABEL" --restart unless-stopped \
        --network "container:${PREFIX}proxy" -e CONFIG="
            events {}
            error_log stderr;
            http {
                access_log off;
                server {
                    listen 80;
                    location / {
                        proxy_pass http://[$2]:8000;
                        proxy_connect_timeout 1s;
                    }
                }
            }
            daemon off;
        " --entrypoint sh "$NGINX_IMAGE" -c 'printenv CONFIG >/tmp/nginx.conf && exec nginx -c /tmp/nginx.conf' >/dev/null
}

up() {
    down
    on 1 network create --label "$LABEL" "${PREFIX}mesh" >/dev/null
    on 2 network create --label "$LABEL" "${PREFIX}mesh" >/dev/null
    router 1 -p "$PORT:9001"
    router 2 -e YGG_PEERS="tls://$ADDRESS1:$PORT?password=$PASSWORD"
    service 1
    service 2
    # Makes the key, which is on host 1 only, and prints the address that goes with it.
    address=$(on 1 run --rm -v "${PREFIX}service:${KEY%/*}" "$IMAGE" -autoconf -address)
    on 1 start "${PREFIX}service" "${PREFIX}web" >/dev/null
    proxy 1 "$address"
    proxy 2 "$address"
    cat <<TEXT
Started. The service has the address $address, and runs on host 1.
  curl http://$ADDRESS1:$WEB_PORT/    # and the same on host 2
  run.sh move 2
TEXT
}

# usage: has_key NUMBER
has_key() { on "$1" cp "${PREFIX}service:$KEY" - >/dev/null 2>&1; }

# usage: ready NUMBER: waits until the service's node is in the mesh
ready() {
    limit=$(($(date +%s) + READY_TIMEOUT))
    until on "$1" exec "${PREFIX}service" yggpy-ctl health >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$limit" ] || return 1
        sleep 0.2
    done
}

# usage: move TO
move() {
    to=$1 from=$((3 - $1))
    if ! has_key "$from"; then
        echo "run.sh: no key of the service is on host $from: is it on host $to already, or not up?" >&2
        exit 1
    fi
    # While the service still runs: its key, to where it is going.
    on "$from" cp "${PREFIX}service:$KEY" - | on "$to" cp - "${PREFIX}service:${KEY%/*}"
    if ! has_key "$to"; then
        echo "run.sh: the key could not be copied to host $to; the service runs on host $from as before" >&2
        exit 1
    fi
    # Two nodes with one key at the same time would take the traffic from each other: first one stops, then the other starts.
    on "$from" stop "${PREFIX}service" "${PREFIX}web" >/dev/null
    if ! on "$to" start "${PREFIX}service" "${PREFIX}web" >/dev/null || ! ready "$to"; then
        echo "run.sh: not in the mesh from host $to within $READY_TIMEOUT s; back to host $from. The last words there:" >&2
        on "$to" logs --tail 20 "${PREFIX}service" >&2 || true
        on "$to" stop "${PREFIX}service" "${PREFIX}web" >/dev/null || true
        on "$from" start "${PREFIX}service" "${PREFIX}web" >/dev/null
        forget "$to"
        exit 1
    fi
    forget "$from"
    echo "The service runs on host $to."
}

# usage: forget NUMBER: removes the key where the service does not run
forget() { on "$1" run --rm -v "${PREFIX}service:${KEY%/*}" --entrypoint rm "$IMAGE" "$KEY"; }

down() {
    # shellcheck disable=SC2086  # lists of names
    for number in 1 2; do
        containers=$(on "$number" ps -aq --filter "label=$LABEL")
        [ -z "$containers" ] || on "$number" rm -f -v $containers >/dev/null
        networks=$(on "$number" network ls -q --filter "label=$LABEL")
        [ -z "$networks" ] || on "$number" network rm $networks >/dev/null
        volumes=$(on "$number" volume ls -q --filter "label=$LABEL")
        [ -z "$volumes" ] || on "$number" volume rm $volumes >/dev/null
    done
}

case "$# ${1-} ${2-}" in
"1 up " | "1 down ") "$1" ;;
"2 move 1" | "2 move 2") move "$2" ;;
*)
    echo "usage: run.sh up | move 1|2 | down" >&2
    exit 2
    ;;
esac
