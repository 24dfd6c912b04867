#!/bin/bash
# What following a repository costs in memory: many commits of one small change each, and a repository with a large
# history. The short form is a test of tests/git.rs.
#
#   benches/git-soak.sh [COMMITS [MEGABYTES]]     10,000 commits, 115 MB of history, unless told otherwise
#
# It fails when the memory after all commits is more than 10 % above that after the first 100. Needs git and sshd.
set -euo pipefail

commits=${1:-10000} megabytes=${2:-115}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
echo "machine: $(nproc) cores, $(uname -sr); commit $(git rev-parse --short HEAD 2> /dev/null || echo unknown); load $(cut -d' ' -f1-3 /proc/loadavg)"
cargo test --quiet --locked --all-features --test git --no-run

soak() {
    local began=$SECONDS
    echo "$1, $2 commits, $3 MB of history:"
    OFOP_SOAK_WAY=$1 OFOP_SOAK_COMMITS=$2 OFOP_SOAK_HISTORY=$3 cargo test --quiet --locked --all-features --test git -- \
        --exact memory_does_not_grow_with_the_number_of_commits --nocapture | grep -oE '[^.]*(KiB| failed).*'
    echo "    $((SECONDS - began)) s"
}

for way in https ssh file; do soak $way 100 "$megabytes"; done
soak https "$commits" 0
