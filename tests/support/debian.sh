# Functions for a base system of Debian, as a new machine has it; sourced by scripts. Needs root, and a Debian machine whose
# apt works.
# shellcheck shell=bash

# How old the kept base system may be: packages that it would install are gone from mirrors some day.
max_age_days=14

# make_base CACHE WORK: a base system in CACHE, with this machine's ways to reach packages.
make_base() {
    local base=$1/debian work=$2 mirror suite
    if [ -n "$(find "$base/done" -mtime -$max_age_days 2> /dev/null)" ]; then return; fi
    command -v debootstrap > /dev/null || {
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap
    } > /dev/null
    read -r mirror suite < <(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Component: main')
    echo "making a base system of $suite"
    rm -rf --one-file-system "$base"
    mkdir -p "$base/root"
    debootstrap --variant=minbase "$suite" "$base/root" "$mirror" > "$work/debootstrap.log" 2>&1 \
        || { tail -20 "$work/debootstrap.log"; return 1; }
    rm -rf "$base"/root/var/cache/apt/archives/*.deb
    touch "$base/done"
}

# copy_base CACHE ROOT: a root file system of one's own from the base, which reaches packages as this machine does.
copy_base() {
    local root=$2
    cp -a --reflink=auto "$1/debian/root" "$root"
    rm -f "$root/etc/apt/sources.list"
    cp -a /etc/apt/. "$root/etc/apt/"
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    # Mirrors and registries behind a gateway with a certificate of its own.
    mkdir -p "$root/etc/ssl/certs" "$root/usr/local/share/ca-certificates"
    [ ! -f /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    cp -a /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" 2> /dev/null || true
}
