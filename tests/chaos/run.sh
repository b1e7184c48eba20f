#!/bin/sh
# run.sh BUILD [gaggle-chaos options]: the cluster that nothing goes right for (chaos.c).
#
#   tests/chaos/run.sh build --seconds 600
#
# Links are 50 ms long and lose 1 %. As root, all of it runs in a network namespace of its own, where
# tc netem delays and drops real packets; where the kernel has no netem, gaggle-lossy-link does, on a
# tun device. Where nobody may make a namespace or a tun, the tests' own cables stand in
# (tests/e2e/tcp_proxy.h): 50 ms, and one piece in 100 comes 200 ms late, as TCP sends a lost packet
# again. The first lines say which it is. Links are cut, for up to 10 s, by the cables in any case.
set -eu
[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2; }
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
if ! refused=$(ip netns add "$space" 2>&1); then
    echo "namespace: none ($refused)"
    echo "links: the tests' cables, 50 ms, one piece in 100 late by 200 ms"
    exec "$build/bin/gaggle-chaos" "$@"
fi
line=
trap '[ -z "$line" ] || kill "$line"; ip netns del "$space"' EXIT
echo "namespace: $space"
ip netns exec "$space" ip link set lo up
if refused=$(ip netns exec "$space" tc qdisc add dev lo root netem delay 25ms loss 1% 2>&1); then
    echo "links: tc netem, 25 ms for each of the two hops a message takes, 1 % lost"
    set -- --delay-ms 0 --loss 0 "$@"
else
    mkfifo "$GAGGLE_TEST_TMP/line"
    ip netns exec "$space" "$build/bin/gaggle-lossy-link" --delay-ms 50 --loss 100 \
        >"$GAGGLE_TEST_TMP/line" &
    line=$!
    if read -r _ <"$GAGGLE_TEST_TMP/line"; then
        echo "links: gaggle-lossy-link, 50 ms, 1 % lost; no tc netem ($refused)"
        set -- --lossy-line --delay-ms 0 --loss 0 "$@"
    else
        line=
        echo "links: the tests' cables, 50 ms, one piece in 100 late by 200 ms; no tc netem ($refused)"
    fi
    rm "$GAGGLE_TEST_TMP/line"
fi
ip netns exec "$space" "$build/bin/gaggle-chaos" "$@"
