#!/bin/bash
# How what a daemon costs grows with the factory: the same daemon over 100, 1,000 and 10,000 apps on a real, private
# Swarm, with a constraint that no node meets (so that no container starts) and the embedded registry. For each size one
# row: time to deploy, from a service removed by hand to the one that takes its place, from a changed file to the update,
# a bare create beside it, memory, and what an idle daemon takes of one core. Times of calls are the engine's own, from
# its events. Needs root.
#
#   benches/scale.sh [SIZE…]      100 1000 10000 unless told
#
# Builds a release, unless OFOP_BINARY names a program. OFOP_IDLE: seconds over which the idle daemon is measured, 60.
set -euo pipefail

sizes=("$@")
[ ${#sizes[@]} -gt 0 ] || sizes=(100 1000 10000)
repeats=10
idle=${OFOP_IDLE:-60}
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/private-engine.sh
source "$repo/deploy/private-engine.sh"
for size in "${sizes[@]}"; do
    [[ $size =~ ^[0-9]+0$ ]] || { echo "$size is no number of apps: a multiple of 10" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "the engine needs root" >&2; exit 2; }

work=$(mktemp -d /tmp/ofop-scale.XXXXXX)
socket=$work/docker.sock
export DOCKER_HOST=unix://$socket
daemon='' events=''
stop_daemon() {
    [ -z "$daemon" ] || { kill -TERM "$daemon" 2> /dev/null || true; wait "$daemon" 2> /dev/null || true; }
    [ -z "$events" ] || { kill "$events" 2> /dev/null || true; wait "$events" 2> /dev/null || true; }
    daemon='' events=''
}
clean_up() {
    stop_daemon
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

file_of() { echo "$work/desired/app_$(($1 / 10)).yml"; }

# describe FIRST IMAGE: the ten apps of one file, the first of them with another image if one is named.
describe() {
    local first=$1 image=$2 n
    echo apps:
    for ((n = first; n < first + 10; n++)); do
        cat <<YAML
  press-$n:
    uuid: PRESS-$n
    image: $([ "$n" = "$first" ] && echo "$image" || echo idle:1)
    environment: [LINE=$((n / 10)), CELL=$((n % 10))]
    deploy: { placement: { constraints: [node.labels.none == x] } }
YAML
    done
}

# at ACTION NAME SKIP: when the engine did this to the service, ns; the first time after so many lines of events.
at() {
    local found='' tries
    for ((tries = 0; tries < 3000; tries++)); do
        found=$(tail -n "+$(($3 + 1))" "$work/events" | jq -r --arg action "$1" --arg name "$2" \
            'select(.Action == $action and .Actor.Attributes.name == $name) | .timeNano' | head -n 1)
        [ -z "$found" ] || { echo "$found"; return; }
        sleep 0.02
    done
    echo "service $2: no $1 within a minute" >&2
    return 1
}
lines() { wc -l < "$work/events"; }
median() { sort -n | sed -n "$(((repeats + 1) / 2))p"; }
milliseconds() { echo "scale=1; ($2 - $1) / 1000000" | bc | sed 's/^\./0./'; }
metric() { curl --silent "http://127.0.0.1:$port/metrics" | awk -v name="$1" '$1 == name {print $2}'; }
resident() { awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$daemon/status"; }
ticks() { awk '{print $14 + $15}' "/proc/$daemon/stat"; }

measure() {
    local size=$1 n began took before skip from
    rm -rf "$work/desired" "$work/state"
    mkdir "$work/desired"
    for ((n = 0; n < size; n += 10)); do describe "$n" idle:1 > "$(file_of "$n")"; done
    : > "$work/events"
    docker events --filter type=service --format '{{json .}}' >> "$work/events" &
    events=$!
    port=$((20000 + RANDOM % 20000))
    began=$(date +%s)
    "$ofop" run --desired "$work/desired" --registry embedded --state-dir "$work/state" --listen "127.0.0.1:$port" \
        > "$work/daemon.log" 2>&1 &
    daemon=$!
    until [ "$(docker service ls -q | wc -l)" -ge "$size" ]; do
        kill -0 "$daemon" 2> /dev/null || { tail -5 "$work/daemon.log" >&2; return 1; }
        sleep 0.5
    done
    took=$(($(date +%s) - began))
    # What was written is looked after for a minute.
    sleep 75
    before=$(ticks)
    sleep "$idle"
    local busy
    busy=$(echo "scale=2; ($(ticks) - $before) * 100 / $(getconf CLK_TCK) / $idle" | bc | sed 's/^\./0./')
    for ((n = 0; n < repeats; n++)); do
        local body
        printf -v body '{"Name":"bare-%s-%s","TaskTemplate":{"ContainerSpec":{"Image":"idle:1"}}}' "$size" "$n"
        curl --silent --output /dev/null --unix-socket "$socket" --header 'Content-Type: application/json' \
            --data "$body" --write-out '%{time_total}\n' http://engine/v1.41/services/create
    done | awk '{printf "%.1f\n", $1 * 1000}' > "$work/bare"
    docker service ls -q --filter name=bare- | xargs -r docker service rm > /dev/null
    sleep 2
    for ((n = 0; n < repeats; n++)); do
        local name=press-$((n * size / repeats))
        skip=$(lines)
        docker service rm "$name" > /dev/null
        milliseconds "$(at remove "$name" "$skip")" "$(at create "$name" "$skip")"
        sleep 1
    done > "$work/repair"
    for ((n = 0; n < repeats; n++)); do
        local first=$((n * size / repeats / 10 * 10))
        describe "$first" "idle:$((n + 2))" > "$work/next.yml"
        skip=$(lines)
        from=$(date +%s%N)
        mv "$work/next.yml" "$(file_of "$first")"
        milliseconds "$from" "$(at update "press-$first" "$skip")"
        sleep 1
    done > "$work/change"
    printf '%7d  %8s  %12s  %11s  %11s  %8s  %9s\n' "$size" "$took s" "$(median < "$work/repair") ms" \
        "$(median < "$work/change") ms" "$(median < "$work/bare") ms" "$(resident) MiB" "$busy %"
    stop_daemon
    docker service ls -q | xargs -r -n 100 docker service rm > /dev/null
}

echo "commit $(git -C "$repo" rev-parse --short HEAD 2> /dev/null || echo unknown), $(nproc) cores, $(uname -sr), $(dockerd --version)"
printf '%7s  %8s  %12s  %11s  %11s  %8s  %9s\n' apps deployed 'removed→made' 'file→update' 'bare create' memory 'idle core'
for size in "${sizes[@]}"; do measure "$size"; done
