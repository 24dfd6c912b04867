#!/bin/bash
# How fast services reach a real Swarm: the same N services, with a constraint that no node meets (so that no
# container starts), deployed by `ofop apply`, by `docker stack deploy` and by bare API calls in parallel, in one
# run on one private engine, in changing order. Prints seconds and ratios; needs root.
#
#   benches/swarm.sh [SERVICES [ROUNDS]]      300 services and 3 rounds unless told
#
# Builds a release, unless OFOP_BINARY names a program.
set -euo pipefail

services=${1:-300}
rounds=${2:-3}
connections=8 # as many as ofop's default concurrency
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/private-engine.sh
source "$repo/deploy/private-engine.sh"

work=$(mktemp -d /tmp/ofop-bench.XXXXXX)
socket=$work/docker.sock
export DOCKER_HOST=unix://$socket
clean_up() {
    stop_engine "$work/engine.pid"
    rm -rf "$work"
}
trap clean_up EXIT

ofop=${OFOP_BINARY:-}
if [ -z "$ofop" ]; then
    (cd "$repo" && cargo build --quiet --locked --release --bin ofop)
    ofop=${CARGO_TARGET_DIR:-$repo/target}/release/ofop
fi

start_engine "$work/data" "$work" "$work/engine.log" "$work/engine.pid"
until docker version > /dev/null 2>&1; do sleep 0.1; done
docker swarm init --advertise-addr 127.0.0.1 > /dev/null

# The same services three times: manifests, the bodies they compile to, and a compose file.
mkdir "$work/desired" "$work/bodies"
for ((n = 1; n <= services; n++)); do
    cat >> "$work/desired/app_$((n / 50)).yml.part" <<YAML
  bench-$n:
    uuid: BENCH-$n
    image: ofop-bench:1
    environment: [N=$n]
    deploy: { placement: { constraints: [node.labels.none == x] } }
YAML
done
for part in "$work"/desired/*.part; do { echo apps:; cat "$part"; } > "${part%.part}"; rm "$part"; done
"$ofop" render "$work/desired" -o json | jq -c '.resources[].services[]' > "$work/bodies/all"
n=0
while read -r body; do
    n=$((n + 1))
    echo "$body" > "$work/bodies/$n.json"
    [ $n = 1 ] || echo next >> "$work/curl.conf"
    cat >> "$work/curl.conf" <<CONF
url = "http://engine/v1.41/services/create"
unix-socket = "$socket"
header = "Content-Type: application/json"
data = "@$work/bodies/$n.json"
output = /dev/null
silent
show-error
fail
CONF
done < "$work/bodies/all"
[ "$n" = "$services" ] || { echo "rendered $n services, not $services" >&2; exit 1; }
jq -s '{version: "3.8", services: (map({key: .Name, value: {
        image: .TaskTemplate.ContainerSpec.Image,
        environment: .TaskTemplate.ContainerSpec.Env,
        deploy: {placement: {constraints: ["node.labels.none == x"]}}}}) | from_entries)}' \
    "$work/bodies/all" > "$work/stack.yml"

by_ofop() {
    "$ofop" apply --quiet --registry embedded --state-dir "$work/state" --desired "$work/desired" \
        --concurrency $connections > /dev/null
}
by_stack() { docker stack deploy --resolve-image never --compose-file "$work/stack.yml" bench > "$work/stack.log" 2>&1; }
by_calls() { curl --silent --show-error --parallel --parallel-immediate --parallel-max $connections --config "$work/curl.conf"; }

empty() {
    docker service ls -q | xargs -r -n 50 docker service rm > /dev/null
    docker network rm bench_default > /dev/null 2>&1 || true
    rm -rf "$work/state"
}

ways=(ofop stack calls)
for ((round = 1; round <= rounds; round++)); do
    for ((turn = 0; turn < 3; turn++)); do
        way=${ways[$(((turn + round) % 3))]}
        began=$(date +%s.%N)
        "by_$way"
        ended=$(date +%s.%N)
        found=$(docker service ls -q | wc -l)
        [ "$found" = "$services" ] || { echo "$way left $found services, not $services" >&2; exit 1; }
        took=$(echo "$ended - $began" | bc)
        echo "$took" >> "$work/$way.times"
        printf 'round %d  %-5s  %6.2f s  %5.0f services/s\n' "$round" "$way" "$took" "$(echo "$services / $took" | bc -l)"
        empty
    done
done

median() { sort -n "$work/$1.times" | sed -n "$(((rounds + 1) / 2))p"; }
ofop_time=$(median ofop) stack_time=$(median stack) calls_time=$(median calls)
printf '\n%d services, median of %d: ofop apply %.2f s, docker stack deploy %.2f s, %d parallel API calls %.2f s\n' \
    "$services" "$rounds" "$ofop_time" "$stack_time" $connections "$calls_time"
printf 'ofop is %.2f times as fast as docker stack deploy, and reaches %.2f of the bare calls\n' \
    "$(echo "$stack_time / $ofop_time" | bc -l)" "$(echo "$calls_time / $ofop_time" | bc -l)"
