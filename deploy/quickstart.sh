#!/bin/bash
# One command from a fresh Debian machine to a running factory: sets up what is missing (packages, a Docker
# engine, a single-node Swarm, the network, demo images), builds ofop, starts it in the background on desired/,
# waits until everything is in sync and healthy, shows it, and returns.
#
#   deploy/quickstart.sh          set up and start; run again at will
#   deploy/quickstart.sh --tour   and play the story: drop, edit, break, repair, typo, guard, removal
#   deploy/quickstart.sh --down   stop, and undo exactly what it did
#
# OFOP_BINARY=PATH takes a program that is built already. It needs root, a Rust toolchain without it, and nothing else.
#
# An engine that already answers is used as it is: nothing on it is touched but what this script creates there,
# and a Swarm that exists stays. Otherwise a private engine is started in namespaces of its own, so that it
# leaves no bridge, no firewall rule and no mount behind. Everything that is kept lies in .ofop/.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
state=$repo/.ofop
made=$state/made # one word a line: what this script created, for --down
instance=quickstart
address=${OFOP_ADDRESS:-127.0.0.1:8420}

# shellcheck source=deploy/private-engine.sh
source "$repo/deploy/private-engine.sh"

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
fail() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2; exit 1; }
noted() { grep -qx "$1" "$made" 2> /dev/null; }
note() { noted "$1" || echo "$1" >> "$made"; }
# A process that ended and that nobody has collected is not alive.
alive() { [ -f "$1" ] && grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$(cat "$1")/status" 2> /dev/null; }
ended() { ! alive "$1"; }

# Waits for a command to succeed: wait_for SECONDS WHAT COMMAND…
wait_for() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" > /dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "$what did not happen in time" "look into $state/*.log"
        sleep 0.2
    done
}

engine_answers() { command -v docker > /dev/null && docker version > /dev/null 2>&1; }

packages() {
    local missing=()
    command -v docker > /dev/null || missing+=(docker.io)
    # Many machines have the client alone, for an engine elsewhere: where none answers, a private one needs dockerd.
    if ! engine_answers; then
        command -v dockerd > /dev/null || missing+=(docker.io)
        command -v iptables > /dev/null || missing+=(iptables)
        command -v ip > /dev/null || missing+=(iproute2)
        command -v unshare > /dev/null || missing+=(util-linux)
    fi
    # The busybox of the plain package is not static, and cannot live in an image of its own.
    { command -v busybox > /dev/null && ! ldd "$(command -v busybox)" > /dev/null 2>&1; } || missing+=(busybox-static)
    command -v curl > /dev/null || missing+=(curl)
    if [ -z "${OFOP_BINARY:-}" ]; then
        # librdkafka, SQLite, libgit2 and libssh2 are compiled, and link the system's TLS and compression.
        { command -v cc && command -v c++ && command -v make; } > /dev/null || missing+=(build-essential)
        command -v pkg-config > /dev/null || missing+=(pkg-config)
        pkg-config --exists openssl 2> /dev/null || missing+=(libssl-dev)
        pkg-config --exists zlib 2> /dev/null || missing+=(zlib1g-dev)
    fi
    [ ${#missing[@]} = 0 ] && return
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    say "installing ${missing[*]}"
    [ "$(id -u)" = 0 ] || fail "these packages are missing: ${missing[*]}" "install them, or run this as root"
    # A service manager, if there is one, must not start an engine of its own for our sake.
    local policy=/usr/sbin/policy-rc.d own_policy=
    if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' > $policy; chmod +x $policy; own_policy=1; fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
        > "$state/apt.log" 2>&1 || { [ -z "$own_policy" ] || rm -f $policy; fail "apt-get failed" "look into $state/apt.log"; }
    [ -z "$own_policy" ] || rm -f $policy
    # A shell remembers where it found a command.
    hash -r
}

# The private engine's socket; a socket's path may have at most 107 bytes, which a deep folder would exceed.
engine_run=/run/ofop-$(printf %s "$repo" | cksum | cut -d' ' -f1)

start_private_engine() {
    [ "$(id -u)" = 0 ] || fail "no Docker engine answers, and starting one needs root" "start Docker, or run this as root"
    command -v dockerd > /dev/null || fail "no Docker engine answers, and dockerd is not installed" "apt-get install docker.io"
    say "starting a private Docker engine in $state/engine"
    note private-engine
    start_engine "$state/engine" "$engine_run" "$state/engine.log" "$state/engine.pid"
}

engine() {
    if noted private-engine; then
        export DOCKER_HOST=unix://$engine_run/docker.sock
        alive "$state/engine.pid" || start_private_engine
    elif engine_answers; then
        say "using the Docker engine that answers at ${DOCKER_HOST:-the default socket}"
    else
        export DOCKER_HOST=unix://$engine_run/docker.sock
        start_private_engine
    fi
    wait_for 60 "the engine's answer" docker version
}

swarm() {
    case $(docker info --format '{{.Swarm.LocalNodeState}}/{{.Swarm.ControlAvailable}}') in
        active/true) ;;
        active/*) fail "the engine is a Swarm worker" "point DOCKER_HOST at a manager" ;;
        inactive/*)
            say "making the engine a single-node Swarm"
            docker swarm init --advertise-addr 127.0.0.1 > /dev/null
            note swarm
            ;;
        *) fail "the engine's Swarm is in an odd state" "see: docker info" ;;
    esac
    if ! docker network inspect factory-net > /dev/null 2>&1; then
        say "creating the network factory-net"
        docker network create --driver overlay --attachable factory-net > /dev/null
        note network
    fi
    local version
    for version in 1 2; do
        docker image inspect ofop-demo:$version > /dev/null 2>&1 || note image-$version
    done
    "$repo/deploy/demo-image.sh"
}

build() {
    local binary=${OFOP_BINARY:-}
    if [ -z "$binary" ]; then
        command -v cargo > /dev/null || fail "cargo is missing" "install the Rust toolchain: https://rustup.rs"
        say "building ofop as it is released (the first time takes eight minutes on two cores)"
        (cd "$repo" && cargo build --quiet --locked --release --bin ofop)
        binary=${CARGO_TARGET_DIR:-$repo/target}/release/ofop
    fi
    mkdir -p "$state/bin"
    ln -sf "$binary" "$state/bin/ofop"
}

# What a shell needs to talk to all this: `source .ofop/env`.
environment() {
    [ -f "$state/token" ] || (umask 077; head -c 24 /dev/urandom | base64 > "$state/token")
    {
        [ -z "${DOCKER_HOST:-}" ] || echo "export DOCKER_HOST='$DOCKER_HOST'"
        echo "export PATH='$state/bin':\$PATH"
        echo "export OFOP_DESIRED='$repo/desired' OFOP_STATE_DIR='$state/state' OFOP_INSTANCE=$instance"
        echo "export OPENFACTORY_BASE_DOMAIN=\${OPENFACTORY_BASE_DOMAIN:-plant.example}"
        echo "export OFOP_REGISTRY=embedded OFOP_ADDRESS=$address OFOP_TOKEN_FILE='$state/token'"
    } > "$state/env"
    # shellcheck source=/dev/null
    source "$state/env"
    # Shown paths are as people type them.
    cd "$repo"
    export OFOP_DESIRED=desired
}

start_daemon() {
    if alive "$state/daemon.pid"; then
        say "ofop is running (pid $(cat "$state/daemon.pid"))"
        return
    fi
    say "starting ofop run --desired desired/ in the background; its log is .ofop/daemon.log"
    setsid ofop run --listen "$address" > "$state/daemon.out" 2>> "$state/daemon.log" < /dev/null &
    echo $! > "$state/daemon.pid"
    disown
    note daemon
    wait_for 30 "the daemon's answer" daemon_answers_or_ended
    alive "$state/daemon.pid" || { tail -3 "$state/daemon.log" >&2; fail "ofop ended at once" "its log is $state/daemon.log"; }
}

daemon_answers_or_ended() { ! alive "$state/daemon.pid" || curl -fsS "http://$address/healthz"; }

stop_daemon() {
    alive "$state/daemon.pid" || return 0
    local pid
    pid=$(cat "$state/daemon.pid")
    kill -TERM "$pid"
    for _ in $(seq 150); do alive "$state/daemon.pid" || return 0; sleep 0.1; done
    kill -KILL "$pid" 2> /dev/null || true
}

settled() {
    local names
    names=$(ofop get apps --color never | tail -n +2) && [ -n "$names" ] && ! grep -qv ' Synced  *Healthy ' <<< "$names "
}

up() {
    mkdir -p "$state"
    restore_desired
    packages
    engine
    swarm
    build
    environment
    start_daemon
    say "waiting until everything is in sync and healthy"
    wait_for 120 "everything in sync and healthy" settled
    ofop get all
}

next_steps() {
    cat <<TEXT

Everything runs. Try, in this shell after 'source .ofop/env':
  ofop get all                                  what is wanted beside what is there
  docker service rm scheduler                   it comes back at once; 'ofop events' says why
  docker service scale press-monitor=5          two again
  sed -i 's/demo:1/demo:2/' desired/app_scheduler.yml     the service is updated
  ofop plan                                     what a pass would do
  ofop describe app/SCHEDULER                   everything about one app
  curl $address/metrics                   or open http://$address/
  deploy/quickstart.sh --tour                   the whole story with commentary
  deploy/quickstart.sh --down                   stop, and undo all of it
TEXT
}

# ---------------------------------------------------------------------------------------------- the tour

# The tour changes files in desired/; whatever ends it, they are as they were before.
restore_desired() {
    [ -d "$state/desired-before-tour" ] || return 0
    rm -f "$repo/desired/app_tour.yml"
    cp -a "$state/desired-before-tour/." "$repo/desired/"
    rm -rf "$state/desired-before-tour"
}

chapter() { printf '\n\033[1;36m── %s\033[0m\n' "$*"; }
run() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@" || true; }
image_of() { docker service inspect --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}' "$1" 2> /dev/null; }
replicas_of() { docker service inspect --format '{{.Spec.Mode.Replicated.Replicas}}' "$1" 2> /dev/null; }
runs_image() { [ "$(image_of "$1")" = "$2" ]; }
has_replicas() { [ "$(replicas_of "$1")" = "$2" ]; }
exists() { docker service inspect "$1"; }
other_id() { local id; id=$(docker service inspect --format '{{.ID}}' "$1") && [ "$id" != "$2" ]; }
without_env() { exists "$1" && ! docker service inspect "$1" | grep -q "$2"; }
events() { ofop events --color never | tail -n "$1"; }

tour() {
    mkdir -p "$state/desired-before-tour"
    cp -a "$repo/desired/." "$state/desired-before-tour/"
    trap restore_desired EXIT

    chapter "1. Drop: a file appears in desired/, and the app runs"
    cat > "$repo/desired/app_tour.yml" <<'YAML'
apps:
  welder:
    uuid: WELDER-1
    image: ofop-demo:1
    environment:
      - MODE=auto
    networks:
      - factory-net
YAML
    run cat desired/app_tour.yml
    wait_for 60 "the service welder-1" exists welder-1
    wait_for 60 "everything in sync and healthy" settled
    run ofop get apps

    chapter "2. Edit: another image, another value; one update, in place"
    run sed -i -e 's/demo:1/demo:2/' -e 's/MODE=auto/MODE=manual/' desired/app_tour.yml
    wait_for 60 "the update of welder-1" runs_image welder-1 ofop-demo:2
    run events 1

    chapter "3. Break: somebody removes a service, scales one, edits one; all are put back"
    local id
    id=$(docker service inspect --format '{{.ID}}' welder-1)
    run docker service rm welder-1
    wait_for 60 "the return of welder-1" other_id welder-1 "$id"
    run docker service scale --detach press-monitor=5
    wait_for 60 "two replicas of press-monitor" has_replicas press-monitor 2
    run docker service update --detach --quiet --env-add SABOTAGE=1 dashboard
    wait_for 60 "the environment of dashboard" without_env dashboard SABOTAGE
    wait_for 60 "everything in sync and healthy" settled
    run events 4

    chapter "4. Repair while ofop is away: killed with SIGKILL, and the world changes meanwhile"
    run kill -KILL "$(cat "$state/daemon.pid")"
    wait_for 10 "the end of ofop" ended "$state/daemon.pid"
    run docker service rm scheduler
    start_daemon
    wait_for 60 "the return of scheduler" exists scheduler
    wait_for 60 "everything in sync and healthy" settled
    run events 2

    chapter "5. Typo: an invalid file changes nothing, and says where"
    run sed -i 's/    image:/    imgae:/' desired/app_tour.yml
    run ofop validate
    wait_for 30 "the error in the metrics" grep_metrics 'ofop_manifest_errors [1-9]'
    wait_for 5 "welder-1, which still runs" exists welder-1
    run docker service ls --filter name=welder --format '{{.Name}} {{.Replicas}} {{.Image}}'
    run sed -i 's/    imgae:/    image:/' desired/app_tour.yml
    wait_for 30 "no error in the metrics" grep_metrics 'ofop_manifest_errors 0'

    chapter "6. Removal: the file goes, the app goes"
    run rm desired/app_tour.yml
    wait_for 60 "the end of welder-1" left_nothing_of WELDER-1
    run events 2

    chapter "7. Guard: all files go, nothing is removed until a person says so"
    run find desired -name '*.yml' -delete
    wait_for 30 "the guard" grep_metrics 'ofop_prune_blocked [1-9]'
    run ofop plan
    echo "   … every service still runs:"
    run docker service ls --format '{{.Name}} {{.Replicas}}'
    run ofop reconcile --confirm-prune
    wait_for 90 "the removal of everything" nothing_left
    run ofop get all

    chapter "8. And back"
    restore_desired
    trap - EXIT
    wait_for 120 "everything in sync and healthy" settled
    run ofop get all
}

grep_metrics() { curl -fsS "http://$address/metrics" | grep -qE "^$1"; }
names() { ofop get all -o name 2> /dev/null; }
nothing_left() { local left; left=$(names) && [ -z "$left" ]; }
left_nothing_of() { local left; left=$(names) && ! grep -q "$1" <<< "$left"; }

# -------------------------------------------------------------------------------------------------- down

down() {
    if [ ! -f "$made" ] && [ ! -f "$state/env" ]; then
        say "nothing to undo"
        return
    fi
    restore_desired
    if noted private-engine; then
        export DOCKER_HOST=unix://$engine_run/docker.sock
    elif [ -f "$state/env" ]; then
        # shellcheck source=/dev/null
        source "$state/env"
    fi
    say "stopping ofop"
    stop_daemon
    if docker version > /dev/null 2>&1; then
        local service
        for service in $(docker service ls -q --filter "label=io.openfactory.operator/instance=$instance" 2> /dev/null); do
            docker service rm "$service" > /dev/null
        done
        # what the operator noted
        docker config rm "ofop-$instance" > /dev/null 2>&1 || true
        for _ in $(seq 100); do
            [ -n "$(docker ps -q --filter label=com.docker.swarm.service.name --filter ancestor=ofop-demo:1)$(
                docker ps -q --filter label=com.docker.swarm.service.name --filter ancestor=ofop-demo:2)" ] || break
            sleep 0.2
        done
        if noted network; then
            say "removing the network factory-net"
            for _ in $(seq 50); do docker network rm factory-net > /dev/null 2>&1 && break; sleep 0.2; done
        fi
        if noted swarm; then say "leaving the Swarm that was made here"; docker swarm leave --force > /dev/null; fi
        local version
        for version in 1 2; do
            if noted image-$version; then
                docker ps -aq --filter "ancestor=ofop-demo:$version" | xargs -r docker rm -f > /dev/null 2>&1 || true
                docker image rm -f ofop-demo:$version > /dev/null 2>&1 || true
            fi
        done
    fi
    if noted private-engine; then
        say "stopping the private engine"
        stop_engine "$state/engine.pid"
        rm -rf "$engine_run"
    fi
    local entry
    for entry in made apt.log engine engine.pid engine.log daemon.pid daemon.out daemon.log bin env token state; do
        rm -rf "${state:?}/$entry"
    done
    rmdir "$state" 2> /dev/null || true
    say "done; installed packages and target/ are left, everything else is as it was"
}

case ${1:-} in
    "") up; next_steps ;;
    --tour) up; tour; next_steps ;;
    --down) down ;;
    -h | --help) sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" ;;
    *) fail "unknown argument $1" "see --help" ;;
esac
