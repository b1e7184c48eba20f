#!/bin/sh
# Runs every test of a build folder. The test programs share the machine two at a time.
set -eu
build=${1:?usage: run-tests.sh BUILD}
cd "$build"
exec ctest --output-on-failure -j 2 --no-tests=error
