#!/bin/bash
# What takes too long for every push and belongs into a night: a million histories of the lease, and a tenth as many of
# rollouts. A line with the figures of each; the exit code is 0 when nothing was wrong.
#
#   tests/nightly.sh                                  1,000,000 histories and 100,000, from seed 0
#   tests/nightly.sh --histories 50000 --seed 123456  fewer, from another seed on
#
# Needs a Rust toolchain and nothing else. tests/chaos.sh and tests/mutants.sh are the other long forms.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
histories=1000000 seed=0

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

while [ $# -gt 0 ]; do
    case $1 in
    --histories | --seed)
        [ $# -ge 2 ] || { echo "$1 needs a value" >&2; exit 2; }
        [[ $2 =~ ^[0-9]+$ ]] || { echo "$2 is no number" >&2; exit 2; }
        declare "${1#--}=$2"
        shift 2
        ;;
    -h | --help) usage; exit 0 ;;
    *) echo "there is no argument $1: see --help" >&2; exit 2 ;;
    esac
done

echo "commit $(git rev-parse --short HEAD 2> /dev/null || echo unknown), $(nproc) cores, $(uname -sr)"
cargo test --quiet --locked --all-features --release --test lease_model --test plan --no-run
began=$SECONDS
OFOP_LEASE_HISTORIES=$histories OFOP_LEASE_SEED=$seed \
    cargo test --quiet --locked --all-features --release --test lease_model -- --nocapture
echo "$histories histories of the lease from seed $seed on in $((SECONDS - began)) s"
began=$SECONDS
OFOP_ROLLOUT_HISTORIES=$((histories / 10)) OFOP_ROLLOUT_SEED=$seed \
    cargo test --quiet --locked --all-features --release --test plan no_history_breaks -- --nocapture
echo "$((histories / 10)) histories of rollouts from seed $seed on in $((SECONDS - began)) s"
