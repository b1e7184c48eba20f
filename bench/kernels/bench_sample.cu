/* How long sampling takes on a device, as CSV: work,figure,unit,ceiling,ratio.
 *
 * For each kind of row and number of rows, microseconds of one step in a captured graph of many
 * (logits of different steps lie in different memory, more than L2 holds), and the rate at which
 * the rows' logits were dealt with, once each, against the device's copy bandwidth. `latency` is
 * from a launch to the host's seeing the result, of one row. */
#include "worker/cuda/kernels/sample.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime.h>
#include <functional>
#include <string>
#include <vector>

#define CHECK_CUDA(call)                                                                           \
    do {                                                                                           \
        cudaError_t error_ = (call);                                                               \
        if (error_ != cudaSuccess) {                                                               \
            fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(error_));                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static const uint32_t vocab = 128256, rows_most = 256;
static const size_t logits_bytes = (size_t)512 << 20;

static cudaStream_t stream;
static kernel_device device;

static double median(std::vector<double> x)
{
    std::sort(x.begin(), x.end());
    return x[x.size() / 2];
}

/* Microseconds of one of `steps` steps, captured together. */
static double time_steps(uint32_t steps, const std::function<void(uint32_t)> &enqueue)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t begin, end;
    CHECK_CUDA(cudaEventCreate(&begin));
    CHECK_CUDA(cudaEventCreate(&end));
    CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    for (uint32_t i = 0; i < steps; i++)
        enqueue(i);
    CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
    CHECK_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    std::vector<double> us;
    for (int i = 0; i < 9; i++) {
        CHECK_CUDA(cudaEventRecord(begin, stream));
        CHECK_CUDA(cudaGraphLaunch(exec, stream));
        CHECK_CUDA(cudaEventRecord(end, stream));
        CHECK_CUDA(cudaEventSynchronize(end));
        float ms;
        CHECK_CUDA(cudaEventElapsedTime(&ms, begin, end));
        if (i >= 2) us.push_back((double)ms * 1000 / steps);
    }
    CHECK_CUDA(cudaGraphExecDestroy(exec));
    CHECK_CUDA(cudaGraphDestroy(graph));
    CHECK_CUDA(cudaEventDestroy(begin));
    CHECK_CUDA(cudaEventDestroy(end));
    return median(us);
}

struct work {
    const char *name;
    bool greedy_only;
    float temperature;
    uint32_t top_k;
    float top_p;
    uint32_t logprobs;
    float sharpness; /* logits' standard deviation */
};

static const work works[] = {
    {"greedy", true, 0, 0, 1, SAMPLE_LOGPROBS_OFF, 3},
    {"top_k_top_p", false, 0.8f, 40, 0.95f, SAMPLE_LOGPROBS_OFF, 3},
    {"temperature", false, 0.8f, 0, 1, SAMPLE_LOGPROBS_OFF, 3},
    {"logprobs_5", false, 0, 0, 1, 5, 3},
    {"top_p", false, 0.8f, 0, 0.95f, SAMPLE_LOGPROBS_OFF, 3},
    {"top_p_flat", false, 0.8f, 0, 0.95f, SAMPLE_LOGPROBS_OFF, 0.5f},
};

static float *logits;
static sample_row *row;
static sample_step *step;
static sample_result *results;
static uint32_t *done, *last_sampled;
static void *workspace;

/* Normal numbers, the same few million again and again. */
static void fill_logits(float sharpness)
{
    static float filled;
    if (filled == sharpness) return;
    filled = sharpness;
    std::vector<float> x((size_t)16 * vocab);
    uint64_t state = 1;
    for (float &logit : x) {
        double sum = -6;
        for (int i = 0; i < 12; i++) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            sum += (double)(state >> 33) * 0x1p-31;
        }
        logit = (float)sum * sharpness;
    }
    for (size_t at = 0; at < logits_bytes / 4; at += x.size()) {
        size_t count = std::min(x.size(), logits_bytes / 4 - at);
        CHECK_CUDA(cudaMemcpy(logits + at, x.data(), count * 4, cudaMemcpyHostToDevice));
    }
}

static void describe(const work &w)
{
    fill_logits(w.sharpness);
    std::vector<sample_row> described(rows_most);
    for (uint32_t i = 0; i < rows_most; i++) {
        sample_row &r = described[i];
        memset(&r, 0, sizeof r);
        r.seed = i;
        r.slot = i;
        r.position = 100 + i;
        r.temperature = w.temperature;
        r.top_k = w.top_k;
        r.top_p = w.top_p;
        r.repetition_penalty = 1;
        r.logprobs = w.logprobs;
    }
    CHECK_CUDA(
        cudaMemcpy(row, described.data(), sizeof(sample_row) * rows_most, cudaMemcpyHostToDevice));
}

static sample_args args_of(uint32_t rows, uint32_t i)
{
    size_t each = (size_t)rows * vocab, buffers = logits_bytes / 4 / each;
    sample_args a = {};
    a.logits = logits + i % buffers * each;
    a.logits_stride = vocab;
    a.rows = rows;
    a.vocab_used = vocab;
    a.row = row;
    a.step = step;
    a.last_sampled = last_sampled;
    a.workspace = workspace;
    return a;
}

static double time_work(const work &w, uint32_t rows)
{
    uint32_t steps = rows > 64 ? 8 : rows > 8 ? 24 : 100;
    return time_steps(steps, [&](uint32_t i) {
        sample_args a = args_of(rows, i);
        CHECK_CUDA(sample(&device, &a, w.greedy_only, stream));
    });
}

static double copy_bandwidth()
{
    size_t half = logits_bytes / 2;
    double us = time_steps(4, [&](uint32_t) {
        CHECK_CUDA(
            cudaMemcpyAsync(logits, (char *)logits + half, half, cudaMemcpyDeviceToDevice, stream));
    });
    return 2 * (double)half / us / 1e3;
}

/* Median microseconds from the host's launch to its seeing the result. */
static double latency(const work &w)
{
    std::vector<double> us;
    for (uint32_t i = 0; i < 60; i++) {
        sample_step next = {results, done, i + 1, 1};
        CHECK_CUDA(cudaMemcpy(step, &next, sizeof next, cudaMemcpyHostToDevice));
        sample_args a = args_of(1, i);
        auto begin = std::chrono::steady_clock::now();
        CHECK_CUDA(sample(&device, &a, w.greedy_only, stream));
        while (__atomic_load_n(done, __ATOMIC_ACQUIRE) != i + 1) {
        }
        us.push_back(
            std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin)
                .count());
        CHECK_CUDA(cudaStreamSynchronize(stream));
    }
    return median(us);
}

int main()
{
    cudaDeviceProp properties;
    CHECK_CUDA(cudaGetDeviceProperties(&properties, 0));
    device.sm_count = (uint32_t)properties.multiProcessorCount;
    CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CHECK_CUDA(cudaMalloc((void **)&logits, logits_bytes));
    CHECK_CUDA(cudaMalloc((void **)&row, sizeof(sample_row) * rows_most));
    CHECK_CUDA(cudaMalloc((void **)&step, sizeof(sample_step)));
    CHECK_CUDA(cudaMalloc((void **)&last_sampled, 4 * rows_most));
    CHECK_CUDA(cudaMalloc(&workspace, sample_workspace_bytes(rows_most)));
    CHECK_CUDA(cudaMemset(workspace, 0, sample_workspace_bytes(rows_most)));
    CHECK_CUDA(
        cudaHostAlloc((void **)&results, sizeof(sample_result) * rows_most, cudaHostAllocMapped));
    CHECK_CUDA(cudaHostAlloc((void **)&done, 4, cudaHostAllocMapped));
    sample_step first = {results, done, 1, rows_most};
    CHECK_CUDA(cudaMemcpy(step, &first, sizeof first, cudaMemcpyHostToDevice));

    double copy = copy_bandwidth();
    printf("work,figure,unit,ceiling,ratio\n");
    for (const work &w : works) {
        describe(w);
        for (uint32_t rows : {1u, 32u, 256u}) {
            double us = time_work(w, rows);
            double rate = 4.0 * rows * vocab / us / 1e3;
            printf("sample_%s_%u,%.2f,us,,\n", w.name, rows, us);
            printf("sample_%s_%u,%.0f,GB/s,%.0f,%.3f\n", w.name, rows, rate, copy, rate / copy);
        }
        fflush(stdout);
    }
    for (const work &w : works) {
        describe(w);
        printf("sample_%s_latency,%.2f,us,,\n", w.name, latency(w));
    }
    return 0;
}
