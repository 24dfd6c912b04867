#!/bin/sh
# Cargo calls this in front of rustc for the crates of this workspace: it adds what libFuzzer steers by. The
# dependencies stay as every other build has made them, so fuzzing costs no second build of the world.
exec "$@" --cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Copt-level=1 -Cdebug-assertions
