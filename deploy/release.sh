#!/bin/bash
# Everything that a release consists of, in one command:
#
#   deploy/release.sh                     builds the program, then packs it
#   deploy/release.sh --binary PATH       packs a program that is built already
#
# What lies in --out DIR (target/release-files) afterwards, VERSION and the machine in each name:
#
#   ofop-…-linux-amd64.tar.gz     the program, completions, manual pages, files for deployment, documentation
#   ofop_…_amd64.deb              the same for Debian and Ubuntu, with the unit
#   ofop-…-image.tar.gz           a container image: an OCI layout that `docker load` takes as well
#   ofop-….cdx.json               what it is made of (CycloneDX); not with --binary
#   CHANGES.md, SHA256SUMS        this version's section of CHANGELOG.md; sums of all others
#
# The same commit gives the same bytes: times are those of the commit (or SOURCE_DATE_EPOCH), the program is built in a root
# file system of its own with paths of its own, and everything is packed in order. --version V names another version.
#
# The program is built in Debian 11: it needs a C library of 2.31 or newer (Debian 11, Ubuntu 20.04 and later) and nothing
# else, since OpenSSL and zlib are linked in. A build with musl, which would also run on Alpine, needs a Rust toolchain for
# that target, and then no root file system; on Alpine use the image.
#
# Building needs root, debootstrap, cargo and about 15 minutes; packing needs dpkg-dev, binutils, jq, ca-certificates.
set -euo pipefail
export LC_ALL=C TZ=UTC
umask 022

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repo"

fail() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2; exit 1; }
say() { printf '==> %s\n' "$*"; }

binary='' out=${CARGO_TARGET_DIR:-$repo/target}/release-files
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
while [ $# != 0 ]; do
    case $1 in
    --binary | --out | --version) [ $# -gt 1 ] || fail "$1 needs a value" ;;&
    --binary) binary=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --version) version=$2; shift 2 ;;
    -h | --help) sed -n '2,25s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;;
    *) fail "unknown argument $1" "see --help" ;;
    esac
done
grep -qxE '[0-9]+(\.[0-9]+){2}([~+.][A-Za-z0-9.~]+)?' <<< "$version" || fail "$version is no version" "write 1.2.3, or 1.2.3~rc1"

# The largest image that is let out, packed, in bytes.
max_image=$((40 * 1000 * 1000))
# What the program is built in: the oldest one that it shall run on.
suite=bullseye
# The user and group of the image.
user=65532

work=$(mktemp -d "${TMPDIR:-/tmp}/ofop-release.XXXXXX")
clean_up() { rm -rf --one-file-system "$work"; }
trap clean_up EXIT
trap 'exit 130' INT TERM

# ------------------------------------------------------------------------------------------ when, and what of

if git rev-parse HEAD > /dev/null 2>&1; then
    commit=$(git rev-parse HEAD)
    : "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
else
    # The sources of a release, unpacked.
    commit=${OFOP_BUILD_COMMIT:-}
    [ -n "${SOURCE_DATE_EPOCH:-}" ] || fail "this is no repository, and nothing says of when it is" "set SOURCE_DATE_EPOCH"
fi
export SOURCE_DATE_EPOCH
date=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)

case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*) fail "nobody has tried this on $(uname -m)" ;;
esac

# ---------------------------------------------------------------------------------------------------- building

# The sources, as they are committed: what is not cannot be built again.
sources() {
    [ -z "$(git status --porcelain 2> /dev/null)" ] || fail "there is something that is not committed" "git status"
    mkdir -p "$1"
    if [ -n "$commit" ] && git rev-parse HEAD > /dev/null 2>&1; then git archive HEAD | tar -x -C "$1"; else cp -a . "$1"; fi
}

# The root file system, made once: a compiler, and what OpenSSL's build needs.
build_root() {
    local base=${XDG_CACHE_HOME:-$HOME/.cache}/ofop-release/$suite mirror
    if [ ! -e "$base/done" ]; then
        [ "$(id -u)" = 0 ] || fail "making a root file system needs root"
        command -v debootstrap > /dev/null || fail "debootstrap is missing" "apt-get install debootstrap"
        mirror=${OFOP_RELEASE_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' | head -1)}
        say "making a root file system of $suite"
        rm -rf --one-file-system "$base"
        mkdir -p "$base/root"
        debootstrap --variant=minbase --include=gcc,g++,make,perl,pkg-config,ca-certificates "$suite" "$base/root" "$mirror" \
            > "$work/debootstrap.log" 2>&1 || { tail -20 "$work/debootstrap.log"; fail "debootstrap failed"; }
        rm -rf "$base"/root/var/cache/apt/archives/*.deb
        touch "$base/done"
    fi
    cp -a --reflink=auto "$base/root" "$work/root"
}

# Builds the program in the root file system, without a network, at paths that are the same everywhere.
build() {
    local toolchain cargo_home=${CARGO_HOME:-$HOME/.cargo}
    toolchain=$(rustc --print sysroot)
    sources "$work/src"
    cargo fetch --quiet --locked
    build_root
    mkdir -p "$work/root"/{rust,cargo/registry,src,target} "$cargo_home/registry"
    say "building in $suite"
    # shellcheck disable=SC2016
    unshare --mount --net --pid --fork --kill-child=KILL --propagation private bash -euc '
        root=$1
        mount --bind "$root" "$root"
        mount --bind -o ro "$2" "$root/rust"
        mount --bind "$3/registry" "$root/cargo/registry"
        mount --bind "$4" "$root/src"
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        shift 4
        exec chroot "$root" /usr/bin/env -i "$@"
    ' build "$work/root" "$toolchain" "$cargo_home" "$work/src" \
        PATH=/rust/bin:/usr/bin:/bin HOME=/root LC_ALL=C TZ=UTC CARGO_HOME=/cargo CARGO_TARGET_DIR=/target \
        CARGO_INCREMENTAL=0 CARGO_NET_OFFLINE=true ${CARGO_BUILD_JOBS:+CARGO_BUILD_JOBS=$CARGO_BUILD_JOBS} \
        SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" OFOP_BUILD_COMMIT="$commit" OFOP_BUILD_DATE="$date" \
        RUSTFLAGS='--remap-path-prefix=/src=ofop --remap-path-prefix=/cargo/registry/src=crates -C link-arg=-static-libgcc -C link-arg=-Wl,--build-id=none' \
        CFLAGS='-ffile-prefix-map=/target=target -ffile-prefix-map=/cargo/registry/src=crates' \
        bash -c 'cd /src && cargo build --quiet --locked --release -p openfactory-operator -p ofop-static' < /dev/null
    binary=$work/root/target/release/ofop
}

# Compares what the program needs with what the oldest system has.
check_needs() {
    local newest
    newest=$(objdump -T "$1" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -1)
    [ "$(printf '%s\nGLIBC_2.31\n' "$newest" | sort -V | tail -1)" = GLIBC_2.31 ] || fail "the program needs $newest"
    ! objdump -p "$1" | grep -E 'NEEDED.*(ssl|crypto|libz|libgcc|stdc)' || fail "the program links what a system may not have"
}

# ----------------------------------------------------------------------------------------------------- packing

# What a release's tar holds is in order, and of nobody.
packed() { tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=gnu "$@"; }

# Files for deployment and documentation: in the tarball as they are, in the package below /usr/share/doc.
documents() {
    mkdir -p "$1"
    cp -r README.md CHANGELOG.md LICENSE SECURITY.md docs "$1"
    mkdir "$1/deploy"
    cp -r deploy/{ofop.service,ofop.env,stack.yml,compose.yml,engine-calls.txt,policy.yml,prometheus,grafana} "$1/deploy"
}

# What the program tells of itself: scripts for shells, and manual pages where it knows how to write them.
generated() {
    local shell
    mkdir -p "$1/completions"
    for shell in bash zsh fish; do "$binary" completions $shell > "$1/completions/$shell"; done
    mkdir -p "$1/man"
    "$binary" man --out "$1/man" > /dev/null 2>&1 || rmdir "$1/man"
}

tarball() {
    local name=ofop-$version-linux-$arch
    mkdir -p "$work/tar/$name"
    install -m 0755 "$binary" "$work/tar/$name/ofop"
    documents "$work/tar/$name"
    cp -r "$work/generated/." "$work/tar/$name"
    packed -C "$work/tar" -c "$name" | gzip -n > "$out/$name.tar.gz"
}

debian() {
    local root=$work/deb depends size
    install -D -m 0755 "$binary" "$root/usr/bin/ofop"
    install -D -m 0644 deploy/ofop.service "$root/lib/systemd/system/ofop.service"
    install -D -m 0640 deploy/ofop.env "$root/etc/ofop/ofop.env"
    documents "$root/usr/share/doc/ofop"
    cp LICENSE "$root/usr/share/doc/ofop/copyright"
    cp deploy/policy.yml "$root/usr/share/doc/ofop/policy.yml"
    install -D -m 0644 "$work/generated/completions/bash" "$root/usr/share/bash-completion/completions/ofop"
    install -D -m 0644 "$work/generated/completions/zsh" "$root/usr/share/zsh/vendor-completions/_ofop"
    install -D -m 0644 "$work/generated/completions/fish" "$root/usr/share/fish/vendor_completions.d/ofop.fish"
    if [ -d "$work/generated/man" ]; then
        mkdir -p "$root/usr/share/man/man1"
        cp "$work/generated/man"/*.1 "$root/usr/share/man/man1/"
        gzip -n "$root/usr/share/man/man1"/*.1
    fi
    # The libraries, by the symbols that the program takes from them.
    mkdir -p "$work/shlibs/debian"
    printf 'Source: ofop\n\nPackage: ofop\nArchitecture: any\n' > "$work/shlibs/debian/control"
    depends=$(cd "$work/shlibs" && dpkg-shlibdeps -O -e"$root/usr/bin/ofop" 2> "$work/shlibs.log" | sed -n 's/^shlibs:Depends=//p')
    [ -n "$depends" ] || { cat "$work/shlibs.log" >&2; fail "nobody knows which packages the program needs"; }
    size=$(find "$root" -type f -printf '%s\n' | awk '{ sum += int(($1 + 1023) / 1024) } END { print sum }')
    mkdir "$root/DEBIAN"
    install -m 0755 deploy/debian/{postinst,prerm,postrm} "$root/DEBIAN/"
    echo /etc/ofop/ofop.env > "$root/DEBIAN/conffiles"
    (cd "$root" && find usr lib -type f -print0 | sort -z | xargs -0 md5sum) > "$root/DEBIAN/md5sums"
    cat > "$root/DEBIAN/control" <<CONTROL
Package: ofop
Version: $version
Architecture: $arch
Maintainer: openfactory-operator contributors <ofop@localhost>
Installed-Size: $size
Depends: $depends, adduser
Recommends: ca-certificates
Suggests: docker-ce | docker.io
Section: admin
Priority: optional
Description: GitOps operator for OpenFactory
 A daemon that keeps an OpenFactory cluster on Docker Swarm, Kafka and ksqlDB in
 the state that a directory or git repository of YAML describes.
CONTROL
    find "$root" -print0 | xargs -0 touch --no-dereference --date "@$SOURCE_DATE_EPOCH"
    # gzip, since Debian's own choice of xz packs the same bytes otherwise on a machine with other cores.
    dpkg-deb --root-owner-group -Zgzip --build "$root" "$out/ofop_${version}_$arch.deb" > /dev/null
}

# The root file system of the image: the program, the libraries that it loads, authorities, and who it is.
image_root() {
    local root=$1 from=$2 library
    mkdir -p "$root"/{etc/ssl/certs,etc/ofop,usr/bin,tmp,var/lib/ofop,run}
    install -m 0755 "$binary" "$root/usr/bin/ofop"
    # Names of hosts are looked up by libraries that nothing names.
    {
        ldd "$binary" | grep -oE '/[^ ]+'
        for library in libnss_files.so.2 libnss_dns.so.2 libresolv.so.2; do ldconfig -p | awk -v name=$library '$1 == name { print $NF; exit }'; done
    } | sort -u | while read -r library; do
        [ ! -e "$from$library" ] || install -D -m 0755 "$from$library" "$root$library"
    done
    printf 'ofop:x:%s:%s::/var/lib/ofop:/nonexistent\n' $user $user > "$root/etc/passwd"
    printf 'ofop:x:%s:\n' $user > "$root/etc/group"
    echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
    # Those that Debian's package has, and none that this machine has besides.
    find "$from/usr/share/ca-certificates/mozilla" -name '*.crt' -print0 | sort -z | xargs -0 cat > "$root/etc/ssl/certs/ca-certificates.crt"
    chmod 1777 "$root/tmp"
    chmod 0700 "$root/var/lib/ofop"
}

# blob FILE: puts it into the layout and prints its digest.
blob() {
    local digest
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    mv "$1" "$work/oci/blobs/sha256/$digest"
    echo "$digest"
}

size_of() { stat -c %s "$work/oci/blobs/sha256/$1"; }

image() {
    local root=$work/image diff layer config manifest name=ofop:$version packed_image
    image_root "$root" "$1"
    mkdir -p "$work/oci/blobs/sha256"
    # Everything is root's, but what the program writes to.
    packed -C "$root" --exclude=./var/lib/ofop -cf "$work/layer.tar" .
    tar --mtime="@$SOURCE_DATE_EPOCH" --owner=$user --group=$user --numeric-owner --format=gnu -C "$root" -rf "$work/layer.tar" ./var/lib/ofop
    diff=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
    gzip -n "$work/layer.tar"
    layer=$(blob "$work/layer.tar.gz")
    jq -n -c --arg arch $arch --arg date "$date" --arg diff "sha256:$diff" --arg version "$version" --arg commit "$commit" --arg user $user:$user '{
        architecture: $arch, os: "linux", created: $date,
        config: {
            User: $user, WorkingDir: "/etc/ofop", Entrypoint: ["/usr/bin/ofop"], Cmd: ["run"], StopSignal: "SIGTERM",
            Env: ["PATH=/usr/bin", "HOME=/var/lib/ofop", "OFOP_STATE_DIR=/var/lib/ofop", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],
            ExposedPorts: {"8420/tcp": {}}, Volumes: {"/var/lib/ofop": {}},
            Healthcheck: {Test: ["CMD", "/usr/bin/ofop", "health"], Interval: 30000000000, Timeout: 10000000000, StartPeriod: 10000000000, Retries: 3},
            Labels: {
                "org.opencontainers.image.title": "ofop", "org.opencontainers.image.licenses": "Apache-2.0",
                "org.opencontainers.image.version": $version, "org.opencontainers.image.revision": $commit, "org.opencontainers.image.created": $date
            }
        },
        rootfs: {type: "layers", diff_ids: [$diff]},
        history: [{created: $date, created_by: "deploy/release.sh"}]
    }' > "$work/config.json"
    config=$(blob "$work/config.json")
    jq -n -c --arg config "sha256:$config" --arg layer "sha256:$layer" --argjson config_size "$(size_of "$config")" --argjson layer_size "$(size_of "$layer")" '{
        schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json",
        config: {mediaType: "application/vnd.oci.image.config.v1+json", digest: $config, size: $config_size},
        layers: [{mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest: $layer, size: $layer_size}]
    }' > "$work/manifest.json"
    manifest=$(blob "$work/manifest.json")
    jq -n -c --arg digest "sha256:$manifest" --argjson size "$(size_of "$manifest")" --arg version "$version" --arg name "$name" --arg arch $arch '{
        schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json",
        manifests: [{
            mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $digest, size: $size,
            platform: {architecture: $arch, os: "linux"},
            annotations: {"org.opencontainers.image.ref.name": $version, "io.containerd.image.name": ("docker.io/library/" + $name)}
        }]
    }' > "$work/oci/index.json"
    echo '{"imageLayoutVersion":"1.0.0"}' > "$work/oci/oci-layout"
    # For engines that know no OCI layout.
    jq -n -c --arg config "blobs/sha256/$config" --arg layer "blobs/sha256/$layer" --arg name "$name" \
        '[{Config: $config, RepoTags: [$name], Layers: [$layer]}]' > "$work/oci/manifest.json"
    packed_image=$out/ofop-$version-image.tar.gz
    packed -C "$work/oci" -c blobs index.json manifest.json oci-layout | gzip -n > "$packed_image"
    [ "$(stat -c %s "$packed_image")" -le $max_image ] || fail "the image takes $(stat -c %s "$packed_image") bytes, more than $max_image"
}

# What it is made of, from the lock file, as `cargo cyclonedx` sees it.
bill_of_materials() {
    (cd "$work/src" && cargo cyclonedx --quiet --format json --spec-version 1.5 --target x86_64-unknown-linux-gnu --override-filename ofop --manifest-path Cargo.toml)
    mv "$work/src/ofop.json" "$out/ofop-$version.cdx.json"
}

# This version's section of the changelog, or what is not released yet.
changes() {
    local section
    for section in "$version" Unreleased; do
        awk -v section="$section" '/^## / { on = index(tolower($0), tolower(section)) > 0; next } on' CHANGELOG.md > "$out/CHANGES.md"
        [ ! -s "$out/CHANGES.md" ] || return 0
    done
    fail "CHANGELOG.md says nothing of $version"
}

if [ -n "$(ls -A "$out" 2> /dev/null)" ]; then
    # What an earlier run left, and nothing else.
    [ -f "$out/SHA256SUMS" ] || fail "$out holds something else" "name an empty folder with --out"
    (cd "$out" && sed 's/^[0-9a-f]*  //' SHA256SUMS | xargs rm -f && rm SHA256SUMS)
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
built='' libraries=''
if [ -z "$binary" ]; then
    command -v cargo-cyclonedx > /dev/null || fail "cargo-cyclonedx is missing" "cargo install --locked cargo-cyclonedx"
    build
    built=1 libraries=$work/root
fi
[ -x "$binary" ] || fail "$binary is no program"
# The names of functions help nobody who has no sources beside.
strip --strip-all -o "$work/ofop" "$binary"
binary=$work/ofop
[ -z "$built" ] || check_needs "$binary"
say "packing ofop $version ($arch, of $date)"
mkdir "$work/generated"
generated "$work/generated"
tarball
debian
image "$libraries"
[ -z "$built" ] || bill_of_materials
changes
(cd "$out" && find . -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum) > "$out/SHA256SUMS"
find "$out" -type f -printf '    %9s  %f\n' | sort -k2
say "in $out"
