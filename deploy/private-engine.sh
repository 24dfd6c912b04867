# Functions to start and stop a private Docker engine; sourced by scripts. The engine lives in a network, mount
# and process namespace of its own, so that stopping it leaves no bridge, firewall rule, mount or process behind.
# Needs root. Works without systemd.
# shellcheck shell=bash

# start_engine DATA RUN LOG PIDFILE: data and log may lie anywhere; RUN holds the socket RUN/docker.sock, whose
# path may have at most 107 bytes.
start_engine() {
    local data=$1 run=$2 log=$3 pidfile=$4
    mkdir -p "$data" "$run"
    rm -f "$run/pid" "$run"/*.sock
    # The shell in between reaps orphans and passes the signal on.
    setsid unshare --net --mount --pid --fork --kill-child=KILL --mount-proc sh -c '
        ip link set lo up
        dockerd --data-root "$1" --exec-root "$2/exec" -H "unix://$2/docker.sock" --pidfile "$2/pid" &
        engine=$!
        trap "kill -TERM $engine" TERM INT
        while kill -0 $engine 2> /dev/null; do wait $engine; done
    ' sh "$data" "$run" > "$log" 2>&1 < /dev/null &
    echo $! > "$pidfile"
    disown
}

# stop_engine PIDFILE: tidily within 15 s, else at once.
stop_engine() {
    local outer inner
    outer=$(cat "$1" 2> /dev/null) || return 0
    kill -0 "$outer" 2> /dev/null || return 0
    # unshare itself ignores the signal; its child is the shell above.
    inner=$(cat "/proc/$outer/task/$outer/children" 2> /dev/null || true)
    # shellcheck disable=SC2086
    [ -z "$inner" ] || kill -TERM $inner 2> /dev/null || true
    for _ in $(seq 150); do kill -0 "$outer" 2> /dev/null || return 0; sleep 0.1; done
    kill -KILL "$outer" 2> /dev/null || true
}
