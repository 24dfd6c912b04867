#!/bin/bash
# The two commands of README.md on a machine that has nothing: a minimal Debian root file system with a Rust toolchain
# and nothing else, in namespaces of its own.
#
#   tests/bare.sh                deploy/quickstart.sh, as the build server runs it
#   tests/bare.sh --long         all variants of it, each in a root file system of its own
#   tests/bare.sh --long NAME…   only these: bare client busybox curl
#   tests/bare.sh --tests        tests/run.sh, whole; an hour, and 25 GB in TMPDIR for as long
#   tests/bare.sh --tests PART…  only these parts of it
#
# The build server's form proves that the quickstart works on such a machine: the script installs what is missing,
# every crate and C library is compiled and linked with nothing but that, by the script's own `cargo build
# --release`, the program runs there, and `--down` undoes it. Two things are cut short. The release profile is set not
# to optimise, which takes minutes instead of a quarter of an hour. And the variants (a docker client without an engine,
# no busybox, no curl) follow in the same root file system, from which the packages are purged before each.
#
# The long form alone proves that the optimised program is built and runs, and that each variant does from a fresh root
# file system: the first one builds the program, the others take it.
#
# Needs root, cargo, and a Debian machine whose apt works. The base system, packages, and what the builds leave are kept
# between runs in ${XDG_CACHE_HOME:-~/.cache}/ofop-tests. Nothing outside of it and of a temporary folder is touched.
set -euo pipefail

is_long='' is_test=''
case ${1:-} in
--long) is_long=1; shift ;;
--tests) is_test=1; shift ;;
'') ;;
*) echo "see the head of $0" >&2; exit 2 ;;
esac

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ofop-tests
target=$cache/bare-target
[ -z "$is_long" ] || target=$cache/release-target
toolchain=$(cd "$repo" && rustc --print sysroot)
cargo_home=${CARGO_HOME:-$HOME/.cargo}

# shellcheck source=tests/support/debian.sh
source "$repo/tests/support/debian.sh"

[ "$(id -u)" = 0 ] || { echo "this needs root" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/bare.XXXXXX")
[ -z "$is_test" ] || target=$work/target
outer=
clean_up() {
    # The first process of the namespaces takes all others with it, their mounts too.
    [ -z "$outer" ] || kill -KILL "$outer" 2> /dev/null || true
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# make_root NAME: a root file system of its own from the base.
make_root() {
    local root=$work/$1
    copy_base "$cache" "$root"
    mkdir -p "$root"/{rust,cargo/registry,target,cache,old}
    # The repository as a clone has it.
    mkdir "$root/ofop"
    (cd "$repo" && { git ls-files -z --cached --others --exclude-standard 2> /dev/null || find . -path ./target -prune -o -type f -print0; }) \
        | (cd "$repo" && tar --null --ignore-failed-read -cf - -T - 2> /dev/null) | tar -xf - -C "$root/ofop"
}

# enter NAME COMMAND: runs a command line in the root file system as its first process.
enter() {
    local root=$work/$1 variables=() name status=0
    # Ways to reach package registries, and nothing else of this machine's environment.
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY SSL_CERT_FILE; do
        [ -z "${!name:-}" ] || variables+=("$name=${!name}")
    done
    while read -r name; do
        variables+=("$name=${!name}")
    done < <(compgen -e | grep -E '^CARGO_(HTTP|NET|REGISTR)|^GO(PROXY|SUMDB|NOSUMDB)$' || true)
    unshare --mount --pid --fork --kill-child=KILL --propagation private bash -euc '
        root=$1 toolchain=$2 cargo_home=$3 target=$4 cache=$5
        mount --bind "$root" "$root"
        mount --bind -o ro "$toolchain" "$root/rust"
        mkdir -p "$cargo_home/registry"
        mount --bind "$cargo_home/registry" "$root/cargo/registry"
        [ ! -f "$cargo_home/config.toml" ] || cp "$cargo_home/config.toml" "$root/cargo/"
        mount --bind "$target" "$root/target"
        mount --bind "$cache" "$root/var/cache/apt/archives"
        mount -t proc proc "$root/proc"
        mount --rbind /sys "$root/sys"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/run"
        cd "$root"
        pivot_root . old
        umount -l /old
        shift 5
        exec "$@"
    ' bare "$root" "$toolchain" "$cargo_home" "$target" "$cache/packages" \
        /usr/bin/env -i PATH=/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb \
        CARGO_HOME=/cargo CARGO_TARGET_DIR=/target LC_ALL=C.UTF-8 "${variables[@]}" "${environment[@]}" \
        bash -euc 'mkdir -p /run/lock; cd /ofop; '"$2" < /dev/null > "$work/$1.log" 2>&1 &
    outer=$!
    wait $outer || status=$?
    outer=
    [ $status = 0 ] || { tail -60 "$work/$1.log"; cp "$work/$1.log" "$cache/"; echo "all of it: $cache/$1.log"; return 1; }
}

environment=()
story='
deploy/quickstart.sh
.ofop/bin/ofop get all
deploy/quickstart.sh --down
[ ! -e .ofop ]'

# absent COMMAND…: the variant would prove nothing if the base system had these.
absent() {
    local command
    for command in "$@"; do printf '! command -v %s || { echo "%s is there already"; exit 1; }\n' "$command" "$command"; done
}

install='DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND; apt-get update -qq; apt-get install -y -qq --no-install-recommends'

# Without packages, as far as nothing else was installed since.
purge() { printf 'dpkg --purge --force-depends %s > /dev/null\n' "$*"; }

# The build server's form.
variant_short() {
    environment=(CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=256)
    enter short "$(absent docker dockerd busybox curl cc pkg-config iptables ip)
        mark() { echo \"short: \$1 in \$((SECONDS - began)) s\"; began=\$SECONDS; }
        began=\$SECONDS
        $story
        mark 'nothing but the toolchain'
        export OFOP_BINARY=/target/release/ofop
        cp /usr/bin/docker /usr/local/bin/docker
        $(purge docker.io containerd runc busybox-static curl)
        command -v docker; $(absent dockerd containerd busybox curl)
        $story
        mark 'a docker client without an engine, no busybox, no curl'
        rm -f /usr/local/bin/docker
        $(purge busybox-static)
        $(absent busybox)
        $story
        mark 'no busybox'
        $(purge curl)
        $(absent curl)
        $story
        mark 'no curl'"
    grep '^short: ' "$work/short.log"
}

# Nothing but the toolchain: builds the program that people will run.
variant_bare() {
    environment=()
    enter bare "$(absent docker dockerd busybox curl cc pkg-config iptables ip)
        $story"
    grep -E 'building ofop|Finished' "$work/bare.log" || true
}

# A docker client for an engine that is elsewhere, and does not answer.
variant_client() {
    environment=(OFOP_BINARY=/target/release/ofop)
    enter client "$install docker.io; mv /usr/bin/docker /usr/local/bin/docker
        dpkg --purge --force-depends docker.io containerd runc
        apt-mark auto iptables > /dev/null 2>&1 || true
        command -v docker; $(absent dockerd containerd busybox)
        $story"
}

# Everything but busybox.
variant_busybox() {
    environment=(OFOP_BINARY=/target/release/ofop)
    enter busybox "$install docker.io iptables iproute2 curl; $(absent busybox)
        $story"
}

# Everything but curl.
variant_curl() {
    environment=(OFOP_BINARY=/target/release/ofop)
    enter curl "$install docker.io iptables iproute2 busybox-static; $(absent curl)
        $story"
}

# The test command.
variant_tests() {
    environment=()
    echo "what it prints: $work/tests.log"
    enter tests "$(absent docker dockerd busybox curl cc pkg-config iptables ip git go java)
        tests/run.sh $parts"
    grep -E '^ +[a-z0-9]+: [0-9]+ s$|^==> .* after ' "$work/tests.log"
}

mkdir -p "$target" "$cache/packages/partial"
make_base "$cache" "$work"
variants=(short)
[ -z "$is_long" ] || variants=(bare client busybox curl)
if [ -n "$is_test" ]; then
    variants=(tests) parts=$*
elif [ $# != 0 ]; then
    variants=("$@")
fi
for variant in "${variants[@]}"; do
    case $variant in short | tests | bare | client | busybox | curl) ;; *) echo "no variant is called $variant" >&2; exit 2 ;; esac
    if [[ $variant != @(short|tests|bare) ]] && [ ! -x "$target/release/ofop" ]; then
        echo "the variant bare comes first: it builds the program" >&2
        exit 1
    fi
    began=$SECONDS
    make_root "$variant"
    "variant_$variant"
    rm -rf --one-file-system "${work:?}/$variant"
    echo "$variant: up and down in $((SECONDS - began)) s"
done
