# Sourced by the long forms of tests: removes the folder of a run. What the run started ends with the test's process, and
# what that holds goes with it: so it is waited for until no process names the folder any more.
#
#   remove_work FOLDER
remove_work() {
    for _ in $(seq 100); do
        grep -lsF "$1" /proc/[0-9]*/cmdline > /dev/null || break
        sleep 0.2
    done
    rm -rf "$1"
}
