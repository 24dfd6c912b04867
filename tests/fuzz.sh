#!/bin/bash
# Fuzzes the manifest parser: a minute by default, or as many seconds as the first argument says. New inputs
# that reach new code go to a folder of their own and are thrown away; what breaks the parser is kept and named.
#
#   tests/fuzz.sh              one minute, as CI does
#   tests/fuzz.sh 3600         an hour
#   tests/fuzz.sh 0 FILE…      runs the parser once on each file
#
# `cargo fuzz run manifest` works as well, where cargo-fuzz and a nightly toolchain are installed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-60}
shift || true

target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
RUSTC_WORKSPACE_WRAPPER="$PWD/fuzz/instrument.sh" cargo build --quiet --manifest-path fuzz/Cargo.toml --bin manifest
fuzzer=$target/debug/manifest

if [ "$seconds" = 0 ]; then
    exec "$fuzzer" "$@"
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/ofop-fuzz.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/found" "$work/broken"
echo "fuzzing the manifest parser for $seconds s"
# One input may take five seconds (of an unoptimised build) and 256 MiB, which is far above what any text of 8 KiB should need.
if ! "$fuzzer" "$work/found" fuzz/corpus/manifest -max_total_time="$seconds" -max_len=8192 -timeout=5 \
    -rss_limit_mb=256 -artifact_prefix="$work/broken/" -print_final_stats=1 2> "$work/log"; then
    tail -n 40 "$work/log" >&2
    kept=$(mktemp -d "${TMPDIR:-/tmp}/ofop-fuzz-broken.XXXXXX")
    cp "$work"/broken/* "$kept"/
    echo "the parser broke; the input is in $kept, run it with: tests/fuzz.sh 0 $kept/*" >&2
    exit 1
fi
sed -n 's/^stat::number_of_executed_units: */executed: /p; s/^stat::peak_rss_mb: */memory in MiB at most: /p' "$work/log"
