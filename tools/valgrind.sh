#!/bin/sh
# Runs the tests of links and sessions under valgrind's memcheck: nng and libuv are not ours to build
# with a sanitizer, and most of what passes here passes through them. In a build folder of its own,
# with debug symbols; one test after the other. Links have deadlines of their own, so the machine
# should have nothing else to do.
#
# usage: valgrind.sh [TEST...]
set -eu
cd "$(dirname "$0")/.."
tools/install-deps.sh valgrind

build=build-valgrind
tests=${*:-test_link test_link_socket test_link_rude test_session test_session_resume test_session_liveness
  test_session_python}

mkdir -p "$build"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo >"$build/configure.log" 2>&1 ||
    { cat "$build/configure.log"; exit 1; }
# shellcheck disable=SC2086
cmake --build "$build" --target $tests

failed=""
for test in $tests; do
    program=$(find "$build/tests/unit" -name "$test" -type f -perm -u+x)
    scratch="$PWD/$build/tests/valgrind-$test"
    mkdir -p "$scratch"
    started=$(date +%s)
    GAGGLE_SOURCE_DIR="$PWD" GAGGLE_TEST_TMP="$scratch" GAGGLE_TEST_SLOWNESS=5 \
        valgrind --quiet --fair-sched=try --error-exitcode=9 --leak-check=full --num-callers=20 \
        "$program" >"$scratch/log" 2>&1 || failed="$failed $test"
    echo "$test: $(($(date +%s) - started)) s, log in $scratch/log"
done
[ -z "$failed" ] && exit 0
echo "failed:$failed" >&2
exit 1
