#!/bin/bash
# Chaos in its long form, with figures: real engines, the real program, faults drawn from a seed. The short form of the
# same tests is a part of tests/run.sh.
#
#   tests/chaos.sh --rounds 200 --seed 7             an operator on three managers, 200 faults
#   tests/chaos.sh --kind duel --rounds 200 --seed 7 two operators on three managers, 200 faults of the holder
#   tests/chaos.sh --kind lies --rounds 20 --seed 7  an engine that lies, 500 operations a round
#
# Needs root and what `tests/run.sh packages` installs. Everything lives in namespaces and one temporary folder, and
# goes with them, also after Ctrl-C. The last lines are the figures; the exit code is 0 when nothing was wrong.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
kind=managers rounds=200 seed=$RANDOM profile=(--release)

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

while [ $# -gt 0 ]; do
    case $1 in
    --kind | --rounds | --seed)
        [ $# -ge 2 ] || { echo "$1 needs a value" >&2; exit 2; }
        declare "${1#--}=$2"
        shift 2
        ;;
    --debug) profile=(); shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "there is no argument $1: see --help" >&2; exit 2 ;;
    esac
done
case $kind in managers | duel | lies) ;; *) echo "--kind is managers, duel or lies" >&2; exit 2 ;; esac
for number in "$rounds" "$seed"; do
    [[ $number =~ ^[0-9]+$ ]] || { echo "$number is no number" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "namespaces and engines need root" >&2; exit 2; }
for program in dockerd ip iptables unshare nsenter busybox jq cargo; do
    command -v "$program" > /dev/null || { echo "$program is missing: tests/run.sh packages" >&2; exit 2; }
done

work=$(mktemp -d /tmp/ofop-chaos.XXXXXX)
# shellcheck source=tests/support/work.sh
. tests/support/work.sh
trap 'remove_work "$work"' EXIT
trap 'exit 130' INT TERM
export TMPDIR=$work OFOP_CHAOS_ROUNDS=$rounds OFOP_CHAOS_SEED=$seed OFOP_CHAOS_SECONDS=60

echo "kind $kind, $rounds rounds, seed $seed, commit $(git rev-parse --short HEAD 2> /dev/null || echo unknown)"
echo "machine: $(nproc) cores, $(uname -sr), $(dockerd --version)"
copy_programs chaos "$work" "${profile[@]}"
"$work/chaos" --nocapture --test-threads 1 "$kind::"
