#!/bin/bash
# What one bad commit does to a factory: N apps with real containers on a private Swarm, changed at once by a commit with a
# tag that does not exist, one whose program ends after 5 s, one whose health check fails, and one that is fine; by
# `ofop run` with its defaults, by `ofop run --rollout off`, and by `docker stack deploy`. Prints for each how many apps
# were down at most, and app-seconds down within the time of a round; needs root.
#
#   benches/rollouts.sh [APPS [SECONDS [COMMIT…]]]    60 apps, 120 s a round and gone crashes sick fine unless told
#
# Builds a release, unless OFOP_BINARY names a program. An app is down while no task of its service runs, which the engine is
# asked about twice a second; a task with a health check runs once that passes.
set -euo pipefail

apps=${1:-60}
seconds=${2:-120}
commits=("${@:3}")
[ ${#commits[@]} -gt 0 ] || commits=(gone crashes sick fine)
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/private-engine.sh
source "$repo/deploy/private-engine.sh"

work=$(mktemp -d /tmp/ofop-bench.XXXXXX)
socket=$work/docker.sock
export DOCKER_HOST=unix://$socket
clean_up() {
    # Rounds run in subshells, whose variables are not seen here.
    [ ! -s "$work/daemon.pid" ] || kill "$(cat "$work/daemon.pid")" 2> /dev/null || true
    stop_engine "$work/engine.pid"
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

ofop=${OFOP_BINARY:-}
if [ -z "$ofop" ]; then
    (cd "$repo" && cargo build --quiet --locked --release --bin ofop)
    ofop=${CARGO_TARGET_DIR:-$repo/target}/release/ofop
fi

start_engine "$work/data" "$work" "$work/engine.log" "$work/engine.pid"
until docker version > /dev/null 2>&1; do sleep 0.1; done
docker swarm init --advertise-addr 127.0.0.1 > /dev/null
docker network create --driver overlay --attachable factory-net > /dev/null

busybox=$(command -v busybox)
mkdir -p "$work/image/bin"
cp "$busybox" "$work/image/bin/busybox"
for name in sh sleep false true; do ln -s busybox "$work/image/bin/$name"; done
image() { # TAG COMMAND [CHANGE…]
    local tag=$1 command=$2 changes=()
    shift 2
    for change in "$@"; do changes+=(--change "$change"); done
    tar -C "$work/image" -c . | docker import --change "CMD [\"/bin/sh\", \"-c\", \"$command\"]" "${changes[@]}" - "bench:$tag" > /dev/null
}
idle="trap 'exit 0' TERM; while :; do sleep 1 & wait \$!; done"
image good "$idle"
image fine "$idle # 2"
image crashes "sleep 5; exit 3"
image sick "$idle # 3" 'HEALTHCHECK --interval=1s --timeout=1s --retries=3 CMD /bin/false'

# Names of the services of which a task runs, counted.
running() {
    curl --silent --unix-socket "$socket" \
        'http://engine/v1.41/tasks?filters=%7B%22desired-state%22%3A%5B%22running%22%5D%7D' |
        jq '[.[] | select(.Status.State == "running") | .ServiceID] | unique | length'
}

all_run() { until [ "$(running)" = "$apps" ]; do sleep 0.5; done; }

# Watches one round: the most apps that are down, and app-seconds down.
watch_round() {
    local most=0 sum=0 now down end=$((SECONDS + seconds)) last=$EPOCHREALTIME
    while [ $SECONDS -lt $end ]; do
        down=$((apps - $(running)))
        now=$EPOCHREALTIME
        sum=$(jq -n "$sum + $down * ($now - $last)")
        last=$now
        [ $down -le $most ] || most=$down
        sleep 0.5
    done
    printf '%s %.0f %s\n' "$most" "$sum" "$((apps - $(running)))"
}

manifests() { # TAG
    {
        echo apps:
        for ((n = 1; n <= apps; n++)); do
            printf '  press-%s:\n    uuid: PRESS-%s\n    image: bench:%s\n    networks: [factory-net]\n' $n $n "$1"
        done
    } > "$work/new"
    mkdir -p "$work/desired"
    mv "$work/new" "$work/desired/apps.yml"
}

compose() { # TAG
    {
        printf 'version: "3.8"\nnetworks: {factory-net: {external: true}}\nservices:\n'
        for ((n = 1; n <= apps; n++)); do printf '  press-%s: {image: "bench:%s", networks: [factory-net]}\n' $n "$1"; done
    } > "$work/stack.yml"
}

by_ofop() { # TAG [ARGUMENT…]
    local tag=$1
    shift
    manifests good
    OFOP_STATE_DIR=$work/state "$ofop" run --desired "$work/desired" --registry embedded --listen 127.0.0.1:0 "$@" \
        > "$work/ofop.log" 2>&1 &
    local daemon=$!
    echo "$daemon" > "$work/daemon.pid"
    all_run
    sleep 15
    manifests "$tag"
    watch_round
    kill "$daemon"
    wait "$daemon" || true
    rm "$work/daemon.pid"
    OFOP_STATE_DIR=$work/state "$ofop" down --all --yes --desired "$work/desired" --registry embedded > /dev/null 2>&1 || true
    docker service ls -q | xargs -r docker service rm > /dev/null
    rm -rf "$work/state"
    # What is noted of the round goes as well.
    docker config ls -q | xargs -r docker config rm > /dev/null
    until [ "$(running)" = 0 ] && [ -z "$(docker ps -q)" ]; do sleep 0.5; done
}

by_stack() { # TAG
    compose good
    docker stack deploy --compose-file "$work/stack.yml" plant > /dev/null 2>&1
    all_run
    sleep 5
    compose "$1"
    docker stack deploy --compose-file "$work/stack.yml" plant > /dev/null 2>&1 &
    watch_round
    wait
    docker stack rm plant > /dev/null 2>&1
    until [ "$(running)" = 0 ] && [ -z "$(docker ps -q)" ]; do sleep 0.5; done
}

echo "$apps apps, $seconds s a round, $(nproc) cores, $(uname -sr), engine $(docker version --format '{{.Server.Version}}'), $("$ofop" --version)"
printf '%-10s %-18s %10s %14s %12s\n' commit by 'most down' 'app-seconds' 'down at end'
for tag in "${commits[@]}"; do
    for by in ofop 'ofop, off' stack; do
        case $by in
        ofop) result=$(by_ofop "$tag") ;;
        'ofop, off') result=$(by_ofop "$tag" --rollout off) ;;
        stack) result=$(by_stack "$tag") ;;
        esac
        read -r most sum end <<< "$result"
        printf '%-10s %-18s %10s %14s %12s\n' "$tag" "$by" "$most" "$sum" "$end"
    done
done
