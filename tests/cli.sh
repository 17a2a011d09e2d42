# shellcheck shell=bash
# What the tests of the command lines share. Sourced, with PROGRAM FIXTURES as arguments: sets program, name and fixtures,
# and moves to a new folder that is removed at the end.
set -uo pipefail

program=$(realpath -e "$1") || exit 1
fixtures=$(realpath -e "$2") || exit 1
name=$(basename "$program")
work=$(mktemp -d)
running=  # a process to end with the test
cleanup() {
    [ -z "$running" ] || kill -KILL "$running" 2> /dev/null
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work" || exit 1
: > in
failures=0

fail() {
    printf 'FAILED: %s\n' "$*"
    sed 's/^/  stdout: /' out
    sed 's/^/  stderr: /' err
    failures=$((failures + 1))
}

# run STATUS ARGUMENTS...: the program must end with that status; ./in is its standard input.
run() {
    local wanted=$1 got=0
    shift
    "$program" "$@" > out 2> err < in || got=$?
    [ "$got" = "$wanted" ] || fail "$name $*: status $got instead of $wanted"
}

# refuse STATUS WORDS ARGUMENTS...: and say so in one line on stderr that contains the words; nothing on stdout.
refuse() {
    local status=$1 words=$2
    shift 2
    run "$status" "$@"
    [ "$(wc -l < err)" = 1 ] && grep -q "^$name: " err || fail "$name $*: not one line"
    grep -qF -- "$words" err || fail "$name $*: does not mention \"$words\""
    [ ! -s out ] || fail "$name $*: writes to stdout"
}

# The test's last line.
finish() {
    [ "$failures" = 0 ] && echo "all well"
    exit $((failures > 0))
}
