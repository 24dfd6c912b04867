#!/bin/bash
# What deploy/release.sh packs, used: the package in a base system of Debian (installed, its unit's command line started,
# upgraded to the next version and rolled back), the image in an engine, and the files for deployment.
#
#   tests/shipping.sh              with the program that `cargo build` made, as the build server runs it
#   tests/shipping.sh --release    with the one that is released: deploy/release.sh builds it, twice, and both are the same
#
# The stand-in for the proxy in front of the engine is a container that does nothing: no registry has the real one here.
# What such a proxy must let through is tested by tests/engine_calls.rs.
#
# Needs root and what `tests/run.sh packages` installs. Nothing outside of a temporary folder and the cache of base systems
# is touched.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repo"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ofop-tests
binary=${OFOP_BINARY:-${CARGO_TARGET_DIR:-$repo/target}/debug/ofop}
address=127.0.0.1:18431

# shellcheck source=tests/support/debian.sh
source "$repo/tests/support/debian.sh"
# shellcheck source=deploy/private-engine.sh
source "$repo/deploy/private-engine.sh"

[ "$(id -u)" = 0 ] || { echo "this needs root" >&2; exit 1; }
# Short, since sockets lie below it.
work=$(mktemp -d "${TMPDIR:-/tmp}/ship.XXXXXX")
chmod 755 "$work"
root=$work/root
# A copy without a history has no time of its own.
git rev-parse HEAD > /dev/null 2>&1 || export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1767323045}

daemon=
clean_up() {
    local status=$?
    trap - EXIT
    [ -z "$daemon" ] || kill -KILL "$daemon" 2> /dev/null || true
    [ $status = 0 ] || tail -20 "$work"/*.log 2> /dev/null || true
    stop_engine "$work/engine.pid"
    rm -rf --one-file-system "$work"
    exit $status
}
trap clean_up EXIT
trap 'exit 130' INT TERM

fail() { echo "error: $*" >&2; exit 1; }
check() { "$@" || fail "does not hold: $*"; }

# wait_for WHAT COMMAND…: until the command succeeds.
wait_for() {
    local end=$((SECONDS + 90)) what=$1
    shift
    until "$@" > "$work/last" 2>&1; do
        [ $SECONDS -lt $end ] || { cat "$work/last"; fail "$what: not within 90 s"; }
        sleep 0.2
    done
}

# ----------------------------------------------------------------------------------------------------- packing

pack() {
    mkdir "$work/elsewhere"
    if [ -n "$is_release" ]; then
        deploy/release.sh --out "$work/one"
        (cd / && umask 077 && TZ=Asia/Tokyo TMPDIR=$work/elsewhere "$repo/deploy/release.sh" --out "$work/two")
        check ls "$work/one"/*.cdx.json > /dev/null
        mkdir "$work/unpacked"
        tar -xzf "$work/one"/ofop-*-linux-*.tar.gz -C "$work/unpacked" --strip-components 1
        binary=$work/unpacked/ofop
        check test "$("$binary" version -o json | jq -r .commit)" = "$(git rev-parse HEAD)"
    else
        deploy/release.sh --binary "$binary" --out "$work/one" > "$work/pack.log"
        (cd / && umask 077 && TZ=Asia/Tokyo TMPDIR=$work/elsewhere "$repo/deploy/release.sh" --binary "$binary" --out "$work/two") > "$work/pack.log"
    fi
    diff "$work/one/SHA256SUMS" "$work/two/SHA256SUMS" || fail "the same inputs gave other bytes"
    (cd "$work/one" && sha256sum --quiet -c SHA256SUMS)
    deploy/release.sh --binary "$binary" --version 0.1.1 --out "$work/next" > "$work/pack.log"
    find "$work/one" -type f -printf '    %9s  %f\n' | sort -k2
}

# The unit is one that systemd takes, and that leaves a service little. 10 is everything, 0 nothing.
unit() {
    local unit=$work/units/ofop.service
    mkdir "$work/units"
    sed "s#/usr/bin/ofop#$(realpath "$binary")#" deploy/ofop.service > "$unit"
    systemd-analyze verify --man=no "$unit" > "$work/verify.log" 2>&1 || fail "systemd does not take the unit"
    ! grep -F ofop.service "$work/verify.log" || fail "systemd finds something in the unit"
    systemd-analyze security --offline=true --threshold=20 --no-pager "$unit" > "$work/security.log" || fail "the unit leaves too much"
    tail -1 "$work/security.log"
}

# --------------------------------------------------------------------------------------------------- the engine

engine() {
    mkdir "$work/run"
    start_engine "$work/data" "$work/run" "$work/engine.log" "$work/engine.pid"
    export DOCKER_HOST=unix://$work/run/docker.sock DOCKER_CONFIG=$work/docker
    wait_for "the engine's answer" docker version
    docker swarm init --advertise-addr 127.0.0.1 > /dev/null
    docker network create --driver overlay --attachable factory-net > /dev/null
    deploy/demo-image.sh
}

# manifest UUID: an app.
manifest() { printf 'apps:\n  one:\n    uuid: %s\n    image: ofop-demo:1\n    networks: [factory-net]\n' "$1"; }

written() { docker service inspect --format '{{.Version.Index}}' "$1"; }

# -------------------------------------------------------------------------------------------------- the package

# inside COMMAND: runs a command line in the base system, with the engine's socket and packages that were fetched before.
inside() { (become_inside "$1"); }

# The same in place of this process.
become_inside() {
    exec unshare --mount --propagation private bash -euc '
        mount --bind "$1" "$1"
        mount --bind "$2" "$1/var/cache/apt/archives"
        mount --bind "$3" "$1/mnt"
        mount -t proc proc "$1/proc"
        mount --rbind /dev "$1/dev"
        exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive \
            http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" bash -euc "$4"
    ' inside "$root" "$cache/packages" "$work/run" "$1" < /dev/null
}

install_package() { inside "apt-get install -y -qq --no-install-recommends --allow-downgrades /packages/$1" > "$work/apt.log" 2>&1; }

# The unit's command line as its user, with its settings and without a capability.
start_unit() {
    local command
    command=$(sed -n 's/^ExecStart=//p' "$root/lib/systemd/system/ofop.service")
    check test -n "$command"
    become_inside "
        install -d -m 0700 -o ofop -g ofop /var/lib/ofop
        cd /etc/ofop
        mapfile -t settings < <(grep -v '^#' ofop.env | grep .)
        exec setpriv --reuid ofop --regid ofop --init-groups --no-new-privs --bounding-set=-all \
            env -i OFOP_STATE_DIR=/var/lib/ofop \"\${settings[@]}\" $command" > "$work/daemon.log" 2>&1 &
    daemon=$!
    wait_for "the daemon's answer" inside "ofop health --address $address"
}

stop_unit() {
    kill -TERM "$daemon"
    wait "$daemon" || fail "the daemon ended with $?"
    daemon=
}

settled() { inside "ofop get all --address $address" > "$work/got" && grep -qE '^app/PRESS +Synced +Healthy' "$work/got"; }
knows_creation() { inside "ofop events --address $address" | grep -q 'create service press'; }
is_at() { check test "$(inside 'dpkg-query -W -f "\${Version}" ofop')" = "$1"; }

package() {
    local before
    make_base "$cache" "$work"
    mkdir -p "$cache/packages/partial"
    copy_base "$cache" "$root"
    mkdir "$root/packages"
    cp "$work"/one/*.deb "$work"/next/*.deb "$root/packages/"
    inside 'apt-get update -qq && groupadd --system docker' > "$work/apt.log" 2>&1
    install_package 'ofop_0.1.0_*.deb'
    inside '
        test "$(stat -c "%a %U %G" /etc/ofop /etc/ofop/ofop.env | tr "\n" ,)" = "750 root ofop,640 root ofop,"
        id -nG ofop | grep -qw docker
        dpkg-query -W -f "\${Conffiles}" ofop | grep -q /etc/ofop/ofop.env
        test -s /usr/share/bash-completion/completions/ofop && test -s /usr/share/doc/ofop/policy.yml
        dpkg --verify ofop'
    # The engine's socket is the group's, as the engine's own package has it.
    chgrp "$(inside 'getent group docker' | cut -d: -f3)" "$work/run/docker.sock"
    chmod 660 "$work/run/docker.sock"
    printf 'DOCKER_HOST=unix:///mnt/docker.sock\nOFOP_LISTEN=%s\nOFOP_RESYNC=2s\n' $address >> "$root/etc/ofop/ofop.env"
    manifest PRESS > "$root/etc/ofop/desired/app_press.yml"
    start_unit
    wait_for "everything in sync" settled
    check test "$(stat -c %a "$root/var/lib/ofop")" = 700
    before=$(written press)
    stop_unit
    echo "    installed, and an app deployed by the unit's command line"

    install_package 'ofop_0.1.1_*.deb'
    is_at 0.1.1
    grep -q "OFOP_LISTEN=$address" "$root/etc/ofop/ofop.env" || fail "the upgrade changed the settings"
    start_unit
    wait_for "everything in sync" settled
    check knows_creation
    stop_unit
    install_package 'ofop_0.1.0_*.deb'
    is_at 0.1.0
    start_unit
    wait_for "everything in sync" settled
    check knows_creation
    stop_unit
    check test "$(written press)" = "$before"
    echo "    upgraded and rolled back: state and settings stay, no service was written to"

    inside 'apt-get remove -y -qq ofop && test -s /etc/ofop/ofop.env && test -e /var/lib/ofop/events.db' > "$work/apt.log" 2>&1
    inside 'apt-get purge -y -qq ofop && ! test -e /var/lib/ofop && ! test -e /etc/ofop/ofop.env' > "$work/apt.log" 2>&1
    check test "$(written press)" = "$before"
    docker service rm press > /dev/null
    docker config rm ofop-default > /dev/null
}

# ---------------------------------------------------------------------------------------------------- the image

image() {
    docker load --quiet --input "$(ls "$work"/one/ofop-*-image.tar.gz)" > "$work/load.log"
    grep -q 'ofop:0.1.0' "$work/load.log" || fail "the image has no name"
    check test "$(docker run --rm --read-only --cap-drop ALL ofop:0.1.0 version -o json | jq -r .version)" = 0.1.0
    check test "$(docker image inspect --format '{{.Config.User}} {{index .Config.Healthcheck.Test 2}}' ofop:0.1.0)" = "65532:65532 health"
    # The other form of the same archive.
    mkdir "$work/layout"
    tar -xzf "$work"/one/ofop-*-image.tar.gz -C "$work/layout"
    jq -r '.manifests[0].digest, (.manifests[0].digest | ltrimstr("sha256:"))' "$work/layout/index.json" > "$work/digest"
    (cd "$work/layout/blobs/sha256" && for blob in *; do echo "$blob  $blob"; done | sha256sum --quiet -c)
    check test -s "$work/layout/blobs/sha256/$(tail -1 "$work/digest")"
    echo "    $(docker image inspect --format '{{.Size}}' ofop:0.1.0) bytes unpacked, $(stat -c %s "$work"/one/*-image.tar.gz) packed"
}

operator() { docker ps -q --filter "label=com.docker.swarm.service.name=ofop_operator" --filter status=running | head -1; }
operator_is_well() { docker exec "$(operator)" /usr/bin/ofop health; }
operator_has_settled() { docker exec "$(operator)" /usr/bin/ofop get all > "$work/got" 2>&1 && grep -qE '^app/MILL +Synced +Healthy' "$work/got"; }

stack_is_gone() { [ -z "$(docker ps -q --filter label=com.docker.stack.namespace=ofop)" ]; }

# The socket of the engine itself, in the place of the proxy's.
stack() {
    local before
    chgrp 65532 "$work/run/docker.sock"
    git init -q -b main "$work/plant"
    manifest MILL > "$work/plant/app_mill.yml"
    git -C "$work/plant" add . && git -C "$work/plant" -c user.name=t -c user.email=t@localhost commit -q -m 'The mill'
    git clone -q --bare "$work/plant" "$work/plant.git"
    # git reads no repository of somebody else's.
    chown -R 65532 "$work/plant.git"
    head -c 32 /dev/urandom | base64 | docker secret create ofop_token - > /dev/null
    echo none | docker secret create ofop_git_key - > /dev/null
    echo none | docker config create ofop_known_hosts - > /dev/null
    cat > "$work/stack.yml" <<YAML
version: "3.8"
services:
  engine:
    image: ofop-demo:1
    command: [/bin/sleep, "3600"]
    volumes: [{type: bind, source: "$work/run/docker.sock", target: /var/run/docker.sock, read_only: true}]
  operator:
    environment: {OFOP_RESYNC: 2s}
    volumes: [{type: bind, source: "$work/plant.git", target: /srv/plant.git, read_only: true}]
volumes:
  socket: {driver_opts: {type: none, o: bind, device: "$work/run"}}
YAML
    OFOP_GIT_URL=file:///srv/plant.git docker stack deploy --resolve-image never -c deploy/stack.yml -c "$work/stack.yml" ofop \
        > "$work/stack.log" 2>&1 || { cat "$work/stack.log"; fail "the stack is refused"; }
    # One manager takes one of the two.
    wait_for "an operator that answers" operator_is_well
    wait_for "everything in sync" operator_has_settled
    check grep -q 'lease: held by' "$work/got"
    before=$(written ofop_operator)
    check test "$(docker service inspect --format '{{index .Spec.Labels "io.openfactory.operator/self"}}' ofop_operator)" = true
    check test "$(docker service inspect --format '{{index .Spec.Labels "io.openfactory.operator/instance"}}' mill)" = default
    check test "$(docker top "$(operator)" -o pid,uid | tail -1 | awk "{ print \$2 }")" = 65532
    check test "$(written ofop_operator)" = "$before"
    docker stack rm ofop > /dev/null
    wait_for "the end of the stack" stack_is_gone
    docker service rm mill > /dev/null
    echo "    the stack deployed what the repository describes"
}

compose() { if docker compose version > /dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi; }
plain() { compose --project-directory "$work/plain" --project-name plain -f deploy/compose.yml -f "$work/compose.yml" "$@"; }
plain_has_settled() { plain exec -T operator /usr/bin/ofop get all > "$work/got" 2>&1 && grep -qE '^app/LATHE +Synced +Healthy' "$work/got"; }

composed() {
    mkdir -p "$work/plain/desired"
    printf 'apps:\n  one:\n    uuid: LATHE\n    image: ofop-demo:1\n' > "$work/plain/desired/app_lathe.yml"
    (umask 027; head -c 32 /dev/urandom | base64 > "$work/plain/api_token"; chgrp 65532 "$work/plain/api_token")
    cat > "$work/compose.yml" <<YAML
version: "3.8"
services:
  engine:
    image: ofop-demo:1
    command: [/bin/sleep, "3600"]
    volumes: ["$work/run/docker.sock:/var/run/docker.sock:ro"]
  operator: {environment: {OFOP_RESYNC: 2s}}
volumes:
  socket: {driver_opts: {type: none, o: bind, device: "$work/run"}}
YAML
    plain up -d > "$work/compose.log" 2>&1 || { cat "$work/compose.log"; fail "compose refuses the file"; }
    wait_for "everything in sync" plain_has_settled
    check test "$(docker inspect --format '{{.State.Status}}' lathe)" = running
    plain down --volumes > "$work/compose.log" 2>&1
    docker rm -f lathe > /dev/null
    echo "    compose deployed what the folder describes"
}

is_release=
[ "${1:-}" != --release ] || is_release=1
for part in pack unit engine package image stack composed; do
    began=$SECONDS
    "$part"
    echo "$part: $((SECONDS - began)) s"
done
