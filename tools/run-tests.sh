#!/bin/sh
# Runs every test of a build folder, two at a time. The Python client is tested in an environment of
# its own with pynng and protobuf from PyPI; where that cannot be had its test says that it is skipped.
set -eu
build=${1:?usage: run-tests.sh BUILD}
cd "$build"

if [ ! -x venv/bin/python ] || ! venv/bin/python -c 'import pynng, google.protobuf' 2>/dev/null; then
    { python3 -m venv venv && venv/bin/pip install --quiet --timeout 20 pynng protobuf; } \
        >venv.log 2>&1 || echo "no Python environment for the client's test: see $build/venv.log"
fi
exec ctest --output-on-failure -j 2 --no-tests=error
