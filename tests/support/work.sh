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

# copy_programs SUITE FOLDER [OPTION…]: builds a test program and the operator, and copies both, so that whatever is built
# meanwhile does not change under the run.
copy_programs() {
    local suite=$1 folder=$2 program
    shift 2
    cargo test --quiet --locked --all-features "$@" --test "$suite" --no-run
    program=$(cargo test --locked --all-features "$@" --test "$suite" --no-run --message-format json 2> /dev/null |
        jq -r --arg suite "$suite" 'select(.target.name? == $suite and .executable != null) | .executable' | tail -1)
    cp "$program" "$folder/$suite"
    cp "$(dirname "$(dirname "$program")")/ofop" "$folder/ofop"
    export OFOP_TEST_PROGRAM=$folder/ofop
}
