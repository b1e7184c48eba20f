#!/bin/bash
# notebook.sh BUILD: Kaggle's notebook with a router of its own, run here cell by cell; needs nothing but
# BUILD's programs. It has to find them as a dataset leaves them, start one worker for each device and give
# the answer that the engine gives alone: on the CPU, and on two GPUs where BUILD has the emulated ones.
# notebooks.sh does the rest, with a network and for minutes.
set -euo pipefail
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
out=$(mktemp -d "${GAGGLE_TEST_TMP:-/tmp}/notebook.XXXXXX")
trap 'rm -rf "$out"' EXIT

run() { # PROGRAMS DEVICE...: a notebook that finds these programs has a worker on each of these
    local programs=$1 device
    shift
    rm -rf "$out"/*
    mkdir -p "$out/input/dataset/gaggle/bin" "$out/keep"
    cp -L "$programs"/{gaggle,gaggle-router,gaggle-worker} "$out/input/dataset/gaggle/bin/"
    [ "$1" = cpu ] || cp -L "$programs/libgaggle_cuda.so" "$out/input/dataset/gaggle/bin/"
    chmod 444 "$out"/input/dataset/gaggle/bin/*
    CUDA_EMULATION_DEVICES=$# python3 tests/deploy/run_notebook.py deploy/kaggle/gaggle.ipynb - \
        INPUTS="$out/input" WORK="$out/work" KEEP="$out/keep" MODEL="$PWD/models/gosling" \
        WORKER_OPTIONS="--max-num-seqs 2 --max-model-len 128" | tee "$out/said"
    for device; do
        grep -q "kaggle-[0-9a-f]*-$device serves" "$out/said"
    done
    echo '{"prompt": "Geese fly in a V because", "max_tokens": 64, "temperature": 0}' |
        "$build/bin/gaggle-worker" generate -m models/gosling --device cpu --prompts - 2>/dev/null |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["text"])' >"$out/expected"
    tail -n "$(wc -l <"$out/expected")" "$out/said" | diff - "$out/expected"
}
run "$build/bin" cpu
if [ -e "$build/bin-emulated/libgaggle_cuda.so" ]; then
    run "$build/bin-emulated" cuda0 cuda1
else
    echo "skipped: two GPUs, for this build has no emulated ones"
fi
