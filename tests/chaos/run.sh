#!/bin/sh
# run.sh BUILD [gaggle-chaos options]: the cluster that nothing goes right for (chaos.c).
#
# Links get 50 ms and lose 1 %: by tc netem in a network namespace of our own where root and the
# kernel allow it, else by the cables of the tests.
#
#   tests/chaos/run.sh build --seconds 600          the storm
#   tests/chaos/run.sh build --slow --seconds 300   a reader at 10 bytes a second
set -eu
[ $# -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
build=$(cd "$1" && pwd)
shift
GAGGLE_SOURCE_DIR=$(cd "$(dirname "$0")/../.." && pwd)
GAGGLE_BIN_DIR=$build/bin
GAGGLE_SHARED_DATA=$GAGGLE_SOURCE_DIR
GAGGLE_TEST_TMP=$build/chaos
export GAGGLE_SOURCE_DIR GAGGLE_BIN_DIR GAGGLE_SHARED_DATA GAGGLE_TEST_TMP
mkdir -p "$GAGGLE_TEST_TMP"
rm -f "$GAGGLE_TEST_TMP"/*.log

space=gaggle-chaos-$$
if [ "$(id -u)" = 0 ] && ip netns add "$space" 2>/dev/null; then
    trap 'ip netns del "$space"' EXIT
    ip netns exec "$space" ip link set lo up
    if ip netns exec "$space" tc qdisc add dev lo root netem delay 25ms loss 1% 2>/dev/null; then
        echo "links: tc netem, 25 ms for each of the two hops a message takes, 1 % lost"
        ip netns exec "$space" "$build/bin/gaggle-chaos" --delay-ms 0 --loss 0 "$@"
        exit
    fi
fi
echo "links: the tests' cables, 50 ms, one piece in 100 late by 200 ms; no tc netem here"
"$build/bin/gaggle-chaos" "$@"
