/* The elementwise kernels in the shapes of Llama-3.1-8B, in BF16 (F16 below sm_80).
 *
 *   bench_elementwise [part of a work's name ...]
 *
 * Each work is a graph of launches that overlap as in the model; buffers rotate beyond the L2 cache
 * where one call moves more than a part of it, and stay in it otherwise, as a decode step's
 * activations do. Prints work,figure,unit,ceiling,ratio: for 8,192 tokens GB/s against a copy on
 * the device, for fewer tokens microseconds a launch against an empty kernel's, overlapped alike.
 */
#include "worker/cuda/kernels/activation.h"
#include "worker/cuda/kernels/convert.h"
#include "worker/cuda/kernels/embed.h"
#include "worker/cuda/kernels/launch.cuh"
#include "worker/cuda/kernels/norm.h"
#include "worker/cuda/kernels/ptx.cuh"
#include "worker/cuda/kernels/rope.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#define CHECK(call)                                                                                \
    do {                                                                                           \
        cudaError_t error_ = (call);                                                               \
        if (error_ != cudaSuccess) {                                                               \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call,                          \
                    cudaGetErrorString(error_));                                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static const uint32_t hidden = 4096, inner = 14336, heads = 32, kv_heads = 8, head_dim = 128;
static const uint32_t tokens_max = 8192;
static const int launches = 40;

static kernel_device device;
static kernel_dtype type = KERNEL_BF16;
static cudaStream_t stream;
static unsigned char *arena;
static const size_t arena_bytes = (size_t)6 << 30;
static double copy_gb_s, empty_us;
static int filter_count;
static char **filters;

static __global__ void empty_kernel()
{
    grid_dependency_release();
    grid_dependency_wait();
}

/* Microseconds of one of `launches` calls of enqueue(n), the median of nine graphs. */
static double measure(const std::function<cudaError_t(int)> &enqueue)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t start, stop;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    for (int n = 0; n < launches; n++)
        CHECK(enqueue(n));
    CHECK(cudaStreamEndCapture(stream, &graph));
    CHECK(cudaGraphInstantiate(&exec, graph, 0));
    std::vector<float> times;
    for (int run = -2; run < 9; run++) {
        float ms;
        CHECK(cudaEventRecord(start, stream));
        CHECK(cudaGraphLaunch(exec, stream));
        CHECK(cudaEventRecord(stop, stream));
        CHECK(cudaEventSynchronize(stop));
        CHECK(cudaEventElapsedTime(&ms, start, stop));
        if (run >= 0) times.push_back(ms);
    }
    CHECK(cudaGraphExecDestroy(exec));
    CHECK(cudaGraphDestroy(graph));
    CHECK(cudaEventDestroy(start));
    CHECK(cudaEventDestroy(stop));
    std::sort(times.begin(), times.end());
    return times[times.size() / 2] * 1000.0 / launches;
}

/* One work whose call moves `bytes`; enqueue(base) works in [base, base + bytes + slack). */
static void work(const std::string &name, uint32_t tokens, size_t bytes,
                 const std::function<cudaError_t(unsigned char *)> &enqueue)
{
    std::string full = name + "_" + std::to_string(tokens);
    bool chosen = filter_count == 0;
    for (int i = 0; i < filter_count; i++)
        chosen = chosen || strstr(full.c_str(), filters[i]) != nullptr;
    if (!chosen) return;
    size_t step = (bytes + bytes / 4 + 4096) / 1024 * 1024;
    size_t copies = tokens >= 8192 ? std::min<size_t>(arena_bytes / step, 8) : 1;
    double us = measure([&](int n) { return enqueue(arena + (size_t)n % copies * step); });
    if (tokens >= 8192)
        printf("%s,%.1f,GB/s,%.1f,%.3f\n", full.c_str(), bytes / us / 1000, copy_gb_s,
               bytes / us / 1000 / copy_gb_s);
    else
        printf("%s,%.2f,us,%.2f,%.3f\n", full.c_str(), us, empty_us, empty_us / us);
    fflush(stdout);
}

/* Cuts aligned pieces off a call's memory. */
struct cutter {
    unsigned char *at;
    template <typename T> T *take(size_t count)
    {
        T *p = reinterpret_cast<T *>(at);
        at += (count * sizeof(T) + 255) / 256 * 256;
        return p;
    }
};

int main(int argc, char **argv)
{
    cudaDeviceProp properties;
    cudaFuncAttributes attributes;
    cudaEvent_t start, stop;
    filter_count = argc - 1;
    filters = argv + 1;
    CHECK(cudaGetDeviceProperties(&properties, 0));
    CHECK(cudaFuncGetAttributes(&attributes, empty_kernel));
    device.code_arch = (uint32_t)attributes.ptxVersion;
    device.sm_count = (uint32_t)properties.multiProcessorCount;
    if (device.code_arch < 80) type = KERNEL_F16;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CHECK(cudaMalloc(reinterpret_cast<void **>(&arena), arena_bytes));
    CHECK(fill_random(arena, type, arena_bytes / 2, 0.5f, 1, stream));

    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    for (int run = 0; run < 5; run++) {
        float ms;
        CHECK(cudaEventRecord(start, stream));
        CHECK(cudaMemcpyAsync(arena, arena + arena_bytes / 2, (size_t)1 << 30,
                              cudaMemcpyDeviceToDevice, stream));
        CHECK(cudaEventRecord(stop, stream));
        CHECK(cudaEventSynchronize(stop));
        CHECK(cudaEventElapsedTime(&ms, start, stop));
        copy_gb_s = std::max(copy_gb_s, 2 * (double)((size_t)1 << 30) / ms / 1e6);
    }
    empty_us = measure(
        [&](int) { return launch(LAUNCH_OVERLAPPED, empty_kernel, dim3(1), dim3(32), 0, stream); });
    printf("# %s, code for %u, copy %.0f GB/s, empty kernel %.2f us\n", properties.name,
           device.code_arch, copy_gb_s, empty_us);
    printf("work,figure,unit,ceiling,ratio\n");

    /* Weights, tables and indices that all calls share. */
    float *weight, *angles, *frequencies;
    uint32_t *ids, *kv_rows;
    unsigned char *table;
    std::vector<uint32_t> host_ids(tokens_max), host_rows(tokens_max);
    for (uint32_t t = 0; t < tokens_max; t++) {
        host_ids[t] = t * 7919u % 128256u;
        host_rows[t] = t * 16u % tokens_max + t * 16u / tokens_max;
    }
    CHECK(cudaMalloc(reinterpret_cast<void **>(&weight), hidden * sizeof(float)));
    CHECK(cudaMalloc(reinterpret_cast<void **>(&frequencies), head_dim * sizeof(float)));
    CHECK(cudaMalloc(reinterpret_cast<void **>(&angles), tokens_max * head_dim * sizeof(float)));
    CHECK(cudaMalloc(reinterpret_cast<void **>(&ids), tokens_max * sizeof *ids));
    CHECK(cudaMalloc(reinterpret_cast<void **>(&kv_rows), tokens_max * sizeof *kv_rows));
    CHECK(cudaMalloc(reinterpret_cast<void **>(&table), (size_t)128256 * hidden * 2));
    CHECK(fill_constant(weight, hidden, 1.0f, stream));
    CHECK(fill_constant(frequencies, head_dim, 0.01f, stream));
    CHECK(fill_random(table, type, (uint64_t)128256 * hidden, 1, 2, stream));
    CHECK(cudaMemcpyAsync(ids, host_ids.data(), tokens_max * sizeof *ids, cudaMemcpyHostToDevice,
                          stream));
    CHECK(cudaMemcpyAsync(kv_rows, host_rows.data(), tokens_max * sizeof *kv_rows,
                          cudaMemcpyHostToDevice, stream));
    CHECK(rope_angles(&device, angles, ids, frequencies, tokens_max, head_dim, 1, stream));
    CHECK(cudaStreamSynchronize(stream));

    for (uint32_t tokens : {1u, 32u, 256u, 8192u}) {
        size_t row = (size_t)tokens * hidden;
        work("residual_norm", tokens, row * 14, [&](unsigned char *base) {
            cutter memory = {base};
            residual_norm_args a = {};
            a.residual = memory.take<float>(row);
            a.delta = memory.take<float>(row);
            a.y = memory.take<uint16_t>(row);
            a.type = type;
            a.weight = weight;
            a.count = tokens;
            a.hidden = hidden;
            a.eps = 1e-5f;
            return residual_norm(&device, &a, stream);
        });
        size_t qkv = (size_t)tokens * (heads + 2 * kv_heads) * head_dim;
        auto rope = [&](unsigned char *base, const float *norm) {
            cutter memory = {base};
            rope_write_args a = {};
            a.qkv = memory.take<uint16_t>(qkv);
            a.q_out = memory.take<uint16_t>((size_t)tokens * heads * head_dim);
            /* The rows of the index lie anywhere in 8,192 places. */
            size_t cache = (size_t)tokens_max * kv_heads * head_dim;
            a.kv = {table, table + 2 * cache, kv_heads, head_dim, head_dim};
            a.type = type;
            a.angles = angles;
            a.kv_rows = kv_rows;
            a.q_norm = a.k_norm = norm;
            a.tokens = tokens;
            a.heads = heads;
            a.rotary_dim = head_dim;
            a.eps = 1e-6f;
            return rope_write(&device, &a, stream);
        };
        size_t rope_bytes = qkv * 4 + (size_t)tokens * head_dim * 4;
        work("rope_write", tokens, rope_bytes,
             [&](unsigned char *base) { return rope(base, nullptr); });
        work("rope_write_normed", tokens, rope_bytes,
             [&](unsigned char *base) { return rope(base, weight); });
        auto gated = [&](unsigned char *base, kernel_dtype in_type, kernel_dtype out_type,
                         bool scaled) {
            cutter memory = {base};
            size_t width = in_type == KERNEL_F32 ? 2 : 1;
            void *in = memory.take<uint16_t>((size_t)tokens * 2 * inner * width);
            void *out = memory.take<uint16_t>((size_t)tokens * inner);
            float *scale = memory.take<float>(tokens);
            return gated_activation(&device, out, out_type, in, in_type, GATED_SILU,
                                    scaled ? scale : nullptr, tokens, inner, stream);
        };
        work("gated_silu", tokens, (size_t)tokens * inner * 6,
             [&](unsigned char *base) { return gated(base, type, type, false); });
        work("gated_silu_scaled_f16", tokens, (size_t)tokens * inner * 10,
             [&](unsigned char *base) { return gated(base, KERNEL_F32, KERNEL_F16, true); });
        work("embed", tokens, row * 6, [&](unsigned char *base) {
            return embed(&device, reinterpret_cast<float *>(base), table, type, ids, nullptr,
                         tokens, hidden, 1, stream);
        });
        work("rope_angles", tokens, (size_t)tokens * head_dim * 4, [&](unsigned char *base) {
            return rope_angles(&device, reinterpret_cast<float *>(base), ids, frequencies, tokens,
                               head_dim, 1, stream);
        });
    }
    const size_t elements = (size_t)1 << 28;
    work("convert_bf16_f16", 8192, elements * 4, [&](unsigned char *base) {
        return convert_elements(base, KERNEL_F16, base + elements * 2, KERNEL_BF16, elements, 0,
                                nullptr, stream);
    });
    work("fill_random", 8192, elements * 2,
         [&](unsigned char *base) { return fill_random(base, type, elements, 0.02f, 7, stream); });
    return 0;
}
