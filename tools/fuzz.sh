#!/bin/sh
# Runs every fuzz target for FUZZ_SECONDS (60) on the committed corpus; what it finds stays in
# build-fuzz. Needs clang with its runtime. The small quarantine keeps memory flat at 100,000 runs a
# second, so that the limit of 512 MiB speaks of the target and not of the sanitizer.
set -eu
seconds=${FUZZ_SECONDS:-60}
cd "$(dirname "$0")/.."

clang=""
for candidate in clang clang-18 clang-14; do
    command -v $candidate >/dev/null && clang=$candidate && break
done
if [ -z "$clang" ]; then
    root=""; [ "$(id -u)" -eq 0 ] || root=sudo
    $root apt-get update -qq >/dev/null
    $root apt-get install -y -qq --no-install-recommends clang "libclang-rt-dev" >/dev/null 2>&1 ||
        $root apt-get install -y -qq --no-install-recommends clang-14 libclang-rt-14-dev >/dev/null
    command -v clang >/dev/null && clang=clang || clang=clang-14
fi

cmake -S . -B build-fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DGAGGLE_FUZZ=ON \
    -DCMAKE_C_COMPILER="$clang" >/dev/null
cmake --build build-fuzz --target fuzz_all

for corpus in tests/fuzz/*/corpus_*; do
    target=fuzz_$(basename "$corpus" | sed 's/^corpus_//')
    program=$(find build-fuzz/tests -type f -name "$target" -perm -u+x)
    found=build-fuzz/found/$target
    mkdir -p "$found"
    echo "$target: $seconds s"
    ASAN_OPTIONS="quarantine_size_mb=16${ASAN_OPTIONS:+:$ASAN_OPTIONS}" \
        "$program" -max_total_time="$seconds" -rss_limit_mb=512 -timeout=5 -max_len=65536 \
        -artifact_prefix="$found/" "$found" "$corpus" >"$found.log" 2>&1 ||
        { tail -40 "$found.log"; exit 1; }
    grep -E 'DONE|stat::number_of_executed_units' "$found.log" | tail -1
done
