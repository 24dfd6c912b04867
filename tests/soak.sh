#!/bin/bash
# The soak in its long form: the daemon over a registry that is paused, restarted and loses its metastore, round by round,
# for so many minutes. The short form of the same test is a part of tests/run.sh.
#
#   tests/soak.sh [MINUTES] [--seed N] [--debug]      60 minutes unless told otherwise
#
# Needs root, what `tests/run.sh packages` installs, and two cores. The last line holds the figures; the exit code is 0
# when nothing was written that nobody asked for.
set -euo pipefail

minutes=60 seed=$RANDOM profile=(--release)

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }
is_number() { [[ $1 =~ ^[0-9]+$ ]] || { echo "$1 is no number" >&2; exit 2; }; }

while [ $# -gt 0 ]; do
    case $1 in
    --seed) [ $# -ge 2 ] || { echo "--seed needs a value" >&2; exit 2; }; seed=$2; shift 2 ;;
    --debug) profile=(); shift ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "there is no argument $1: see --help" >&2; exit 2 ;;
    *) minutes=$1; shift ;;
    esac
done
is_number "$minutes"
is_number "$seed"
[ "$(id -u)" = 0 ] || { echo "the engine and its namespaces need root" >&2; exit 2; }
for program in dockerd ip iptables unshare busybox java mvn jq cargo; do
    command -v "$program" > /dev/null || { echo "$program is missing: tests/run.sh packages" >&2; exit 2; }
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d /tmp/ofop-soak.XXXXXX)
# shellcheck source=tests/support/work.sh
. tests/support/work.sh
trap 'remove_work "$work"' EXIT
trap 'exit 130' INT TERM
export TMPDIR=$work OFOP_SOAK_SECONDS=$((minutes * 60)) OFOP_SOAK_SEED=$seed

echo "$minutes minutes, seed $seed, commit $(git rev-parse --short HEAD 2> /dev/null || echo unknown)"
echo "machine: $(nproc) cores, $(uname -sr), load $(cut -d' ' -f1-3 /proc/loadavg)"
copy_programs soak "$work" "${profile[@]}"
"$work/soak" --nocapture
