#!/bin/bash
# Mutants: changes src/plan and src/reconcile in one place after the other, and looks whether a test fails. The fast, pure
# tests only; nothing of it needs root or an engine.
#
#   tests/mutants.sh                  60 mutants, spread evenly over all of them, from a drawn one on
#   tests/mutants.sh 200 --seed 7     200, repeatable
#   tests/mutants.sh all              all of them: a night or two
#   tests/mutants.sh all --file src/plan/removal.rs
#
# It works on a copy of the tree. cargo-mutants is installed into the cache when it is missing. The last lines are the
# survivors and the score; the lists and logs are in target/mutants.out. The exit code is 0 when no mutant survived, 2 when
# one did.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=27.1.0
sample=60 seed=$RANDOM files=()

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

while [ $# -gt 0 ]; do
    case $1 in
    --seed)
        [[ ${2-} =~ ^[0-9]+$ ]] || { echo "--seed needs a number" >&2; exit 1; }
        seed=$2
        shift 2
        ;;
    --file)
        [ -f "${2-}" ] || { echo "--file needs a file" >&2; exit 1; }
        files+=(--file "$2")
        shift 2
        ;;
    -h | --help) usage; exit 0 ;;
    all) sample=all; shift ;;
    *)
        [[ $1 =~ ^[1-9][0-9]*$ ]] || { echo "there is no argument $1: see --help" >&2; exit 1; }
        sample=$1
        shift
        ;;
    esac
done
[ ${#files[@]} -gt 0 ] || files=(--file 'src/plan/**' --file 'src/reconcile/**' --file src/plan.rs --file src/reconcile.rs)

tool=${XDG_CACHE_HOME:-$HOME/.cache}/ofop-tests/mutants-$version
# Unoptimised: it waits for compilers and tests all the time.
[ -x "$tool/bin/cargo-mutants" ] || cargo install --quiet --locked --debug --root "$tool" cargo-mutants --version "$version"
PATH=$tool/bin:$PATH

# The pure tests: planning, the loop with fakes, and the lease.
tests=(--lib --test lease --test lease_model --test plan --test promises --test reconcile --test simulation)
# Enough to see what is wrong; every mutant pays for it.
export OFOP_LEASE_HISTORIES=500 OFOP_SIM_SEEDS=60 OFOP_PLAN_HISTORIES=64 PROPTEST_MAX_SHRINK_ITERS=0
# Without line numbers the tests of a mutant are built in half the time.
export CARGO_PROFILE_TEST_DEBUG=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$PWD/target/mutants

total=$(cargo mutants --list "${files[@]}" | wc -l)
part=()
if [ "$sample" != all ] && [ "$sample" -lt "$total" ]; then
    parts=$((total / sample))
    # Every so-manieth, from a drawn one on: each file has its share.
    part=(--shard "$((seed % parts))/$parts" --sharding round-robin)
fi
echo "commit $(git rev-parse --short HEAD 2> /dev/null || echo unknown), $total mutants, sample $sample, seed $seed, ${tests[*]}"
status=0
cargo mutants "${files[@]}" "${part[@]}" --all-features --jobs 1 --no-shuffle --output target --colors never \
    --minimum-test-timeout 300 -- "${tests[@]}" || status=$?
out=target/mutants.out
count() { if [ -e "$out/$1.txt" ]; then wc -l < "$out/$1.txt"; else echo 0; fi; }
caught=$(($(count caught) + $(count timeout))) missed=$(count missed)
[ $((caught + missed)) -gt 0 ] || { echo "no mutant could be tried: see $out/log" >&2; exit 1; }
if [ "$missed" -gt 0 ]; then
    echo "survivors:"
    sed 's/^/  /' "$out/missed.txt"
fi
echo "$((caught + missed)) viable mutants, $(count unviable) that do not compile: $caught caught ($(count timeout) by never ending)," \
    "$missed survive: $((1000 * caught / (caught + missed) / 10)).$((1000 * caught / (caught + missed) % 10)) %"
exit $status
