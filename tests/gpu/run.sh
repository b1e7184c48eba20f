#!/bin/bash
# Everything that needs a real GPU, in one call: builds, checks, measures.
#
#   tests/gpu/run.sh OUT [PART...]     logs and results go to the folder OUT
#
# PART    kernels    kernel tests: sm_90a, and the PTX of compute_75 and compute_86
#         models     golden answers, and families against transformers, on all three
#         soak       256 streams, cancelled at random, each against its own solo run
#         sanitizer  compute-sanitizer's memcheck and racecheck over the kernel tests
#         bench      the figures that bench/results keeps
#                    [all]
#
# BUILD, BUILD_PTX75, BUILD_PTX86   finished builds (presets cuda, cuda-ptx75, cuda-ptx86) to take
#                                   instead of building here, so that device time is not spent on it
# SHARED                            folder with weights/stories260K, for the golden answers
# SOAK_S                            seconds of the soak [120]
#
# Exit status 1 when a check failed; OUT/summary.txt has a line for each.
set -u
out=$(mkdir -p "$1" && cd "$1" && pwd)
shift
parts=("${@:-all}")
cd "$(dirname "$0")/../.."
failed=0
shape=bench/shapes/llama-3.1-8b
soak_s=${SOAK_S:-120}

wanted() { # PART
    [[ " ${parts[*]} " == *" all "* || " ${parts[*]} " == *" $1 "* ]]
}

# step NAME SECONDS COMMAND...: its output goes to OUT/NAME.log. The command may be one of the
# functions below; what it started ends with it.
step() {
    local name=$1 limit=$2 start=$SECONDS code=0
    shift 2
    timeout -k 5 "$limit" bash -c '"$@"' - "$@" >"$out/$name.log" 2>&1 || code=$?
    [ $code -eq 0 ] || failed=1
    printf '%-34s %s %4d s\n' "$name" "$([ $code -eq 0 ] && echo ok || echo "FAILED ($code)")" \
        $((SECONDS - start)) | tee -a "$out/summary.txt"
}

build() { # PRESET
    cmake --preset "$1" >/dev/null && cmake --build --preset "$1" -j "$(nproc)" >/dev/null
}

prepare() { # VARIABLE PRESET
    [ -n "${!1:-}" ] && return
    step "build_$2" 1200 build "$2"
    printf -v "$1" '%s' "$PWD/build-$2"
}

kernel_tests() { # NAME BUILD
    local test
    for test in "$2"/gpu/test_*; do
        step "$1_$(basename "$test")" 120 "$test"
    done
}

# A router and a worker on the GPU around a command; the worker's flags come first, up to "--". Says
# how long the worker took until it was ready, as a row of the results.
with_cluster() {
    rm -f "$out/worker.ready"
    local flags=() url=ipc://$out/clients.sock worker_url=ipc://$out/workers.sock
    while [ "$1" != -- ]; do flags+=("$1"); shift; done
    shift
    "$BUILD"/bin/gaggle-router --listen "$url" --worker-listen "$worker_url" >"$out/router.log" 2>&1 &
    local router=$!
    "$BUILD"/bin/gaggle-worker --router "$worker_url" --device cuda:0 "${flags[@]}" \
        >"$out/worker.ready" 2>"$out/worker.log" &
    local worker=$! code=0 begin=$EPOCHREALTIME
    while [ ! -s "$out/worker.ready" ] && kill -0 $worker 2>/dev/null; do sleep 0.2; done
    awk "BEGIN { printf \"load_8b,%.2f,s,6,\n\", $EPOCHREALTIME - $begin }"
    "$@" --router "$url" || code=$?
    kill -TERM $worker && wait $worker || code=$?
    kill -TERM $router && wait $router || code=$?
    return $code
}
export -f build with_cluster

engine() { # NAME FLAGS...: one run of the engine's bench on the 8B shape
    local name=$1
    shift
    step "$name" 120 "$BUILD"/bin/gaggle-worker bench -m $shape --load-format dummy \
        --device cuda:0 --rounds 3 "$@"
}

kernels() {
    kernel_tests sm90a "$BUILD"
    kernel_tests ptx75 "$BUILD_PTX75"
    kernel_tests ptx86 "$BUILD_PTX86"
}

models() {
    local build name
    for build in "$BUILD" "$BUILD_PTX75" "$BUILD_PTX86"; do
        name=$(basename "$build")
        step "golden_$name" 120 python3 tests/gpu/check_golden.py \
            --worker "$build/bin/gaggle-worker" --shared "${SHARED:-}"
    done
    step transformers 580 python3 tests/gpu/compare_transformers.py --device cuda:0 --worker \
        "$BUILD/bin/gaggle-worker" "$BUILD_PTX75/bin/gaggle-worker" "$BUILD_PTX86/bin/gaggle-worker"
    step golden_invariant 120 python3 tests/gpu/check_golden.py \
        --worker "$BUILD/bin/gaggle-worker" --shared "${SHARED:-}" -- --batch-invariant
}

soak() {
    step soak $((soak_s + 120)) with_cluster -m models/gosling --batch-invariant \
        --gpu-memory-utilization 0.3 --max-num-seqs 256 -- \
        "$BUILD/bin/gaggle-bench-cluster" --streams 256 --soak "$soak_s"
}

sanitizer() {
    local tool test short=()
    for tool in memcheck racecheck; do
        [ $tool = memcheck ] || short=(KERNEL_TEST_SHORT=1) # it slows kernels a hundredfold
        for test in "$BUILD"/gpu/test_*; do
            step "${tool}_$(basename "$test")" 240 env "${short[@]}" compute-sanitizer \
                --tool $tool --error-exitcode 3 "$test"
        done
    done
}

# The rows of a log that are called NAME (a pattern), under another name if one is given.
rows() { # LOG NAME [AS]
    grep -E "^$2,[0-9.]+," "$out/$1.log" | sed -E "s/^($2),/${3:-\\1},/"
}

# The table of the committed results, with the commit behind its figures.
collect() {
    local commit=${COMMIT:-$(git rev-parse --short HEAD 2>/dev/null || echo unknown)} name
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | sed 's/^/# /'
    echo "work,figure,unit,ceiling,ratio,commit"
    {
        for name in decode_1 decode_32 decode_256 prefill_8192; do rows bench_$name $name; done
        rows bench_invariant decode_256 decode_256_invariant
        for name in attention_sm90 attention gemm elementwise sample; do
            rows bench_$name '[a-z][a-z0-9_]*'
        done
        rows bench_upload 'upload_[0-9]*'
        rows ready_8b load_8b
        rows cluster_256 cluster_256
    } | sed "s/\$/,$commit/"
}

bench() {
    local prompt="--prompt-tokens 128 --output-tokens 128"
    engine bench_decode_1 --streams 1 $prompt
    engine bench_decode_32 --streams 32 $prompt
    engine bench_decode_256 --streams 256 $prompt
    engine bench_prefill_8192 --streams 1 --prompt-tokens 8192 --output-tokens 16
    engine bench_invariant --streams 256 $prompt --batch-invariant
    mkdir -p "$out/8b" && cp $shape/config.json "$out/8b/"
    step make_checkpoint 300 python3 tests/gpu/random_checkpoint.py "$out/8b"
    step bench_upload 120 "$BUILD"/bin/gaggle-worker bench -m "$out/8b" --device cuda:0 \
        --rounds 1 --prompt-tokens 16 --output-tokens 2
    cp models/gosling/tokenizer.json "$out/8b/" # any will do: the weights are random
    step ready_8b 60 with_cluster -m "$out/8b" -- true
    rm -r "$out/8b"
    for name in attention_sm90 gemm elementwise sample; do
        step "bench_$name" 60 "$BUILD/gpu/bench_$name"
    done
    step bench_attention 60 "$BUILD/gpu/bench_attention" attn_decode # the other has prefill
    cp models/gosling/tokenizer.json $shape/
    engine cluster_engine --streams 256 --prompt-tokens 128 --output-tokens 512
    local rate
    rate=$(sed -n 's/^decode_256,\([0-9.]*\),token.*/\1/p' "$out/cluster_engine.log")
    step cluster_256 120 with_cluster -m $shape --load-format dummy --max-num-seqs 256 \
        --max-model-len 4096 -- \
        "$BUILD/bin/gaggle-bench-cluster" --streams 256 --prompt-tokens 128 --output-tokens 512 \
        --engine-rate "${rate:-0}"
    rm $shape/tokenizer.json
    collect >"$out/results.csv"
}

: >"$out/summary.txt"
prepare BUILD cuda
if wanted kernels || wanted models; then
    prepare BUILD_PTX75 cuda-ptx75
    prepare BUILD_PTX86 cuda-ptx86
fi
export BUILD out
for part in kernels models soak sanitizer bench; do
    wanted $part && $part
done
exit $failed
