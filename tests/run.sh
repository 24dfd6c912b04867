#!/bin/bash
# THE test command: sets up what is missing, checks formatting and lints, builds once, runs every test including
# those on real engines, and the scripts. It says what it does and how long it took, fails when a part cannot
# run, and leaves nothing running or mounted. Run it as root: the tests start private Docker engines.
#
#   tests/run.sh            everything
#   tests/run.sh NAME…      only the named parts (see `parts` below), or `engine29-all`
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repo"
started=$SECONDS

# Everything that a test creates lies below one folder, so that what is left behind shows. The path is short,
# because sockets lie below it and theirs may have at most 107 bytes.
work=$(mktemp -d /tmp/ofop-tests.XXXXXX)
export TMPDIR=$work
chmod 755 "$work"

say() { printf '\n==> %s\n' "$*"; }

leftovers() {
    { grep -lsF "$work" /proc/[0-9]*/cmdline || true; } | while read -r file; do
        pid=${file#/proc/}
        pid=${pid%/cmdline}
        [ "$pid" = $$ ] || echo "process $pid: $(tr '\0' ' ' < "/proc/$pid/cmdline" 2> /dev/null)"
    done
    { grep -F "$work" /proc/mounts || true; } | cut -d' ' -f2 | sed 's/^/mount /'
}

clean_up() {
    local status=$? left
    trap - EXIT
    left=$(leftovers)
    if [ -n "$left" ]; then
        printf 'left behind:\n%s\n' "$left" >&2
        [ $status != 0 ] || status=1
        # Ours alone: their command lines name the folder of this very run.
        sed -n 's/^process \([0-9]*\):.*/\1/p' <<< "$left" | xargs -r kill -KILL 2> /dev/null || true
        sed -n 's/^mount //p' <<< "$left" | sort -r | xargs -r umount -l 2> /dev/null || true
    fi
    rm -rf "$work"
    printf '\n==> %s after %d s\n' "$([ $status = 0 ] && echo 'all passed' || echo "FAILED (exit $status)")" $((SECONDS - started))
    exit $status
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# ------------------------------------------------------------------------------------------------- parts

apt_install() {
    # No service of these packages shall start by itself.
    local policy=/usr/sbin/policy-rc.d own='' status=0
    if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' > $policy; chmod +x $policy; own=1; fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } \
        > "$work/apt.log" 2>&1 || status=$?
    [ -z "$own" ] || rm -f $policy
    [ $status = 0 ] || tail -20 "$work/apt.log"
    return $status
}

packages() {
    local missing=() command package
    while read -r command package; do
        command -v "$command" > /dev/null || missing+=("$package")
    done <<'LIST'
dockerd docker.io
docker docker.io
docker-registry docker-registry
iptables iptables
busybox busybox-static
ip iproute2
unshare util-linux
nsenter util-linux
setpriv util-linux
openssl openssl
curl curl
debootstrap debootstrap
git git
ssh-keygen openssh-client
sshd openssh-server
jq jq
prometheus prometheus
promtool prometheus
chromium chromium
chromedriver chromium-driver
pkg-config pkg-config
cc build-essential
c++ build-essential
java default-jre-headless
mvn maven
shellcheck shellcheck
systemd-analyze systemd
dpkg-shlibdeps dpkg-dev
strip binutils
docker-compose docker-compose
LIST
    # librdkafka, libgit2 and libssh2 link the system's TLS, librdkafka its compression.
    pkg-config --exists openssl || missing+=(libssl-dev)
    pkg-config --exists zlib || missing+=(zlib1g-dev)
    # busybox of the plain package is not static and cannot live in an image of its own.
    ! ldd "$(command -v busybox)" > /dev/null 2>&1 || missing+=(busybox-static)
    if [ ${#missing[@]} = 0 ]; then
        echo "every package is there"
        return
    fi
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    echo "installing ${missing[*]}"
    apt_install "${missing[@]}"
}

toolchain() {
    command -v cargo > /dev/null || { echo "cargo is missing: install the Rust toolchain, https://rustup.rs" >&2; return 1; }
    cargo fmt --version > /dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version > /dev/null 2>&1 || rustup component add clippy
    cargo --version
}

format() { cargo fmt --check; }
lint() { cargo clippy --quiet --locked --all-targets --all-features -- -D warnings; }
# Building the tests builds the program that they run too, `target/debug/ofop`.
build() { cargo test --quiet --locked --all-features --no-run; }

# What takes longest, in the order in which it is begun.
longest=(chaos registry rollback_memory rollouts plan history registry_story high_availability lease_model device_story page walkthrough lib)

# Every test: two test programs at a time, since most of them wait for an engine or a broker more than they compute.
# What a program prints comes in one piece when it has ended.
unit() {
    mkdir "$work/unit"
    cargo test --quiet --locked --all-features --no-run --message-format json > "$work/unit/built"
    jq -r 'select(.executable and .profile.test)
        | "\(if .target.kind == ["test"] then .target.name else .target.kind[0] end) \(.executable)"' \
        "$work/unit/built" > "$work/unit/programs"
    { printf '%s\n' "${longest[@]}"; cut -d' ' -f1 "$work/unit/programs"; } | awk '!seen[$0]++' > "$work/unit/order"
    [ "$(wc -l < "$work/unit/order")" = "$(wc -l < "$work/unit/programs")" ] \
        || { echo "a program in the list of the longest is gone"; return 1; }
    local status=0
    export work repo
    export -f test_program
    xargs -P 2 -L 1 bash -c 'test_program "$1"' _ < "$work/unit/order" || status=$?
    cargo test --quiet --locked --all-features --doc || status=$?
    [ ! -s "$work/unit/failed" ] || echo "failed: $(tr '\n' ' ' < "$work/unit/failed")" >&2
    return $status
}

# Runs one test program, from where cargo would, and prints what it said.
test_program() {
    local name=$1 program status=0
    program=$(grep "^$name " "$work/unit/programs" | cut -d' ' -f2)
    CARGO_MANIFEST_DIR=$repo "$program" --quiet > "$work/unit/$name.log" 2>&1 || status=$?
    {
        flock 9
        printf '\n--> %s: %s s, exit %s\n' "$name" "$SECONDS" $status
        cat "$work/unit/$name.log"
        [ $status = 0 ] || echo "$name" >> "$work/unit/failed"
    } 9> "$work/unit/lock"
    return $status
}

fuzz() { tests/fuzz.sh 60; }
# Front doors name the private files behind them: such links serve who reads the code.
documentation() {
    RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --quiet --locked --no-deps --all-features
}

scripts() {
    shellcheck -S warning deploy/*.sh deploy/debian/* tests/*.sh benches/*.sh .ci/run
    shellcheck -S warning --shell bash tests/support/*.sh
}

# The quickstart on a copy of the repository, so that nothing of a developer's own quickstart is touched: up,
# the whole tour, down, twice in a row.
quickstart() {
    local copy=$work/copy address=127.0.0.1:18420 round
    mkdir "$copy"
    cp -a deploy desired "$copy/"
    for round in 1 2; do
        (
            unset DOCKER_HOST
            # Nobody else's engine: what answers here is the private one that the script starts.
            export DOCKER_CONFIG=$work/docker OFOP_ADDRESS=$address OFOP_BINARY=${CARGO_TARGET_DIR:-$repo/target}/debug/ofop
            export DOCKER_HOST=unix://$work/none.sock
            "$copy/deploy/quickstart.sh" --tour && "$copy/deploy/quickstart.sh" --down
        ) > "$work/quickstart.log" 2>&1 || { tail -60 "$work/quickstart.log"; return 1; }
        diff -r desired "$copy/desired" || { echo "the tour changed desired/"; return 1; }
        [ ! -e "$copy/.ofop" ] || { echo "--down left $(ls "$copy/.ofop")"; return 1; }
        echo "round $round: up, tour, down"
    done
}

# What is released, packed from the program that the tests built, installed and started.
shipping() { tests/shipping.sh; }

# The quickstart on a machine that has nothing but a Rust toolchain. Before anything is installed here, so that it is
# this machine as it came that shows whether the scripts find out what they need.
bare() { tests/bare.sh; }

# Today's engine. No distribution has it, so Go builds it once, at the versions that were tried.
engine29_versions='moby v2.0.0-beta.24 runc v1.5.3'
engine29_folder=${XDG_CACHE_HOME:-$HOME/.cache}/ofop-tests/engine-29

go_version=1.26.8

# A Go that is new enough for the engine. Any will do to fetch it: Go's toolchains are modules, and the checksum
# database vouches for what is downloaded.
find_go() {
    command -v go > /dev/null || apt_install golang-go ca-certificates
    export GOTOOLCHAIN=auto
    # From 1.21 on, Go fetches by itself what a module asks for.
    [ "$(printf 'go1.21\n%s\n' "$(go env GOVERSION)" | sort -V | head -1)" != go1.21 ] || return 0
    local module
    module=$(go mod download -json "golang.org/toolchain@v0.0.1-go$go_version.linux-$(go env GOARCH)" | jq -r .Dir)
    cp -r "$module" "$work/go"
    chmod -R u+w "$work/go"
    chmod -R u+x "$work/go/bin" "$work/go/pkg/tool"
    PATH=$work/go/bin:$PATH
}

build_engine29() {
    if [ "$(cat "$engine29_folder/versions" 2> /dev/null)" = "$engine29_versions" ]; then return; fi
    find_go
    pkg-config --exists libseccomp || apt_install libseccomp-dev
    echo "building Docker Engine 29 (some minutes, once)"
    mkdir -p "$engine29_folder"
    local moby runc
    read -r _ moby _ runc <<< "$engine29_versions"
    export GOBIN=$engine29_folder GOFLAGS='-p=2 -buildvcs=false' CGO_ENABLED=1
    go install -tags 'exclude_graphdriver_btrfs no_systemd' "github.com/moby/moby/v2/cmd/dockerd@$moby"
    # Debian's does not take over the socket that this engine has opened for a published port.
    go install "github.com/moby/moby/v2/cmd/docker-proxy@$moby"
    # Debian's runc does not know the namespaces that this engine asks for.
    go install -tags seccomp "github.com/opencontainers/runc@$runc"
    echo "$engine29_versions" > "$engine29_folder/versions"
}

# Every test program that starts an engine. The chaos has managers of its own: `PATH` chooses theirs as well.
engine_suites() { grep -lE 'support/engine\.rs|mod engine;' tests/*.rs | sed 's#.*/\(.*\)\.rs$#\1#'; }

# Runs test programs on today's engine. They start whatever `dockerd` is found first, and check that it speaks what is
# said here.
on_engine29() {
    build_engine29
    export PATH=$engine29_folder:$PATH OFOP_TEST_API=1.56
    local suites=() suite
    for suite in "$@"; do suites+=(--test "$suite"); done
    cargo test --quiet --locked --all-features --no-fail-fast "${suites[@]}"
}

# The adapter, its faults, and what is said of secrets and of images, on today's engine.
engine29() { on_engine29 swarm_engine swarm_faults secrets private_images; }

# Everything that runs on an engine, and what matters on one that refuses clients older than itself, as 29.0 does.
# It has to be named.
engine29-all() {
    local suites status=0
    mapfile -t suites < <(engine_suites)
    on_engine29 "${suites[@]}" || status=$?
    DOCKER_MIN_API_VERSION=1.44 on_engine29 swarm_engine e2e || status=$?
    return $status
}

parts=(bare packages toolchain format lint build unit engine29 fuzz documentation scripts quickstart)
[ $# = 0 ] || parts=("$@")
for part in "${parts[@]}"; do
    [ "$(type -t "$part")" = function ] || { echo "no part is called $part" >&2; exit 2; }
    say "$part"
    began=$SECONDS
    # In a subshell of its own, so that `set -e` holds inside: it would not behind `||`.
    set +e
    (set -e; "$part")
    status=$?
    set -e
    echo "    $part: $((SECONDS - began)) s"
    [ $status = 0 ] || exit $status
done
