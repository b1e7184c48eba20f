/* What gemm reaches on the weights of Llama-3.1-8B, against the memory's speed for few rows and
 * against cuBLASLt for many.
 *
 * Each figure: a graph of launches over as many copies of the weight as fit the arena (beyond L2,
 * as the layers of a model are), replayed a few times, the median. gemm_skinny's launches overlap
 * as they do in a step. Ceilings of the same run: a kernel that only reads, cuBLASLt on 8192^3.
 *
 *   bench_gemm [skinny] [library] > gemm.csv */
#include "worker/cuda/kernels/gemm_skinny.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <functional>
#include <vector>

extern "C" {
#include "worker/cuda/gemm_library.h"
}

#define CHECK_CUDA(call) check(call, #call)

static void check(cudaError_t e, const char *call)
{
    if (e == cudaSuccess) return;
    fprintf(stderr, "%s: %s\n", call, cudaGetErrorString(e));
    exit(1);
}

static error failure;

static void check(status st)
{
    if (st == ST_OK) return;
    fprintf(stderr, "%s\n", failure.text);
    exit(1);
}

struct shape {
    const char *name;
    uint32_t n, k;
    bool d_is_float;
};

static const shape shapes[] = {{"qkv", 6144, 4096, false},
                               {"o", 4096, 4096, true},
                               {"gate_up", 28672, 4096, false},
                               {"down", 4096, 14336, true},
                               {"head", 128256, 4096, true}};

static const size_t arena_bytes = (size_t)2304 << 20;
static const uint32_t rows_most = 8192;
static const int launches_most = 20;

static __device__ uint32_t mix(uint32_t x)
{
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

/* Uniform in [-1, 1): numbers like a model's cost the power that a model's cost. */
static __global__ void fill(__nv_bfloat16 *x, size_t count)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        x[i] = __float2bfloat16_rn((float)(int32_t)mix((uint32_t)i) * 0x1p-31f);
}

static __global__ void read_all(const uint4 *x, size_t count, uint32_t *out)
{
    uint32_t sum = 0;
    size_t stride = (size_t)gridDim.x * blockDim.x;
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    for (; i + 7 * stride < count; i += 8 * stride) {
        uint4 v[8];
#pragma unroll
        for (int j = 0; j < 8; j++)
            v[j] = __ldcs(x + i + j * stride);
#pragma unroll
        for (int j = 0; j < 8; j++)
            sum ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
    }
    if (sum == 0x12345678) *out = sum;
}

/* Median seconds of what `enqueue` captures. */
static double seconds_of(cudaStream_t stream, const std::function<void()> &enqueue)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t before, after;
    std::vector<float> ms(5);
    CHECK_CUDA(cudaEventCreate(&before));
    CHECK_CUDA(cudaEventCreate(&after));
    CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    enqueue();
    CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
    CHECK_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    CHECK_CUDA(cudaGraphLaunch(exec, stream));
    for (float &one : ms) {
        CHECK_CUDA(cudaEventRecord(before, stream));
        CHECK_CUDA(cudaGraphLaunch(exec, stream));
        CHECK_CUDA(cudaEventRecord(after, stream));
        CHECK_CUDA(cudaEventSynchronize(after));
        CHECK_CUDA(cudaEventElapsedTime(&one, before, after));
    }
    std::sort(ms.begin(), ms.end());
    CHECK_CUDA(cudaGraphExecDestroy(exec));
    CHECK_CUDA(cudaGraphDestroy(graph));
    CHECK_CUDA(cudaEventDestroy(before));
    CHECK_CUDA(cudaEventDestroy(after));
    return ms[ms.size() / 2] * 1e-3;
}

static void print(const char *work, double figure, const char *unit, double ceiling)
{
    printf("%s,%.1f,%s,%.1f,%.3f\n", work, figure, unit, ceiling, figure / ceiling);
    fflush(stdout);
}

struct bench {
    cudaStream_t stream;
    kernel_device device;
    __nv_bfloat16 *arena, *x;
    void *d;
    unsigned char *workspace;
    gemm_skinny_workspace skinny;
    double read_gb_s, tflop_s;

    /* Seconds of one product; `run` enqueues one with the given weight. */
    double seconds(const shape &s, const std::function<void(const void *w)> &run) const
    {
        size_t weight = (size_t)s.n * s.k;
        int copies = (int)std::min(arena_bytes / 2 / weight, (size_t)launches_most);
        int launches = std::max(copies, weight > 100000000 ? 4 : launches_most);
        return seconds_of(stream,
                          [&] {
                              for (int i = 0; i < launches; i++)
                                  run(arena + (size_t)(i % copies) * weight);
                          }) /
               launches;
    }

    void report(const shape &s, const char *how, uint32_t m, double seconds) const
    {
        char work[80];
        snprintf(work, sizeof work, "%s_%s_%u%s", how, s.name, m, s.d_is_float ? "_f32" : "");
        if (m <= 512) {
            double bytes = 2.0 * s.n * s.k + 2.0 * m * s.k + (s.d_is_float ? 4.0 : 2.0) * m * s.n;
            print(work, bytes / seconds * 1e-9, "GB/s", read_gb_s);
        } else {
            print(work, 2.0 * m * s.n * s.k / seconds * 1e-12, "TFLOP/s", tflop_s);
        }
    }

    void library(const shape &s, uint32_t m) const
    {
        gemm_library *l;
        gemm_shape g = {s.n, s.k, s.d_is_float ? KERNEL_F32 : KERNEL_BF16, false};
        check(gemm_library_create(&l, KERNEL_BF16, workspace, GEMM_SKINNY_PARTIAL_BYTES, &failure));
        check(gemm_library_prepare(l, &g, m, arena, x, d, stream, &failure));
        report(s, "library", m, seconds(s, [&](const void *w) {
                   check(gemm_library_run(l, &g, d, x, w, nullptr, m, stream, &failure));
               }));
        gemm_library_destroy(l);
    }

    void ours(const shape &s, uint32_t m) const
    {
        report(s, "skinny", m, seconds(s, [&](const void *w) {
                   CHECK_CUDA(gemm_skinny(d, s.d_is_float ? KERNEL_F32 : KERNEL_BF16, x, w, nullptr,
                                          m, s.n, s.k, KERNEL_BF16, &skinny, &device, stream));
               }));
    }
};

static double measure_read(const bench &b)
{
    size_t count = arena_bytes / sizeof(uint4);
    return (double)arena_bytes /
           seconds_of(b.stream,
                      [&] {
                          read_all<<<b.device.sm_count * 4, 512, 0, b.stream>>>(
                              (const uint4 *)b.arena, count, (uint32_t *)b.d);
                      }) *
           1e-9;
}

static double measure_copy(const bench &b)
{
    size_t half = arena_bytes / 2;
    unsigned char *arena = (unsigned char *)b.arena;
    return 2.0 * (double)half /
           seconds_of(b.stream,
                      [&] {
                          CHECK_CUDA(cudaMemcpyAsync(arena, arena + half, half,
                                                     cudaMemcpyDeviceToDevice, b.stream));
                      }) *
           1e-9;
}

static double measure_tflops(const bench &b)
{
    gemm_library *l;
    const uint32_t n = 8192;
    const gemm_shape g = {n, n, KERNEL_BF16, false};
    check(gemm_library_create(&l, KERNEL_BF16, b.workspace, GEMM_SKINNY_PARTIAL_BYTES, &failure));
    check(gemm_library_prepare(l, &g, n, b.arena, b.x, b.d, b.stream, &failure));
    double seconds = seconds_of(b.stream, [&] {
        for (int i = 0; i < 4; i++)
            check(gemm_library_run(l, &g, b.d, b.x, b.arena, nullptr, n, b.stream, &failure));
    });
    gemm_library_destroy(l);
    return 4 * 2.0 * n * n * n / seconds * 1e-12;
}

int main(int argc, char **argv)
{
    auto wanted = [&](const char *what) {
        for (int i = 1; i < argc; i++)
            if (strcmp(argv[i], what) == 0) return true;
        return argc == 1;
    };
    bench b = {};
    cudaDeviceProp properties;
    cudaFuncAttributes attributes;
    CHECK_CUDA(cudaGetDeviceProperties(&properties, 0));
    CHECK_CUDA(cudaFuncGetAttributes(&attributes, fill));
    b.device.code_arch = (uint32_t)attributes.ptxVersion;
    b.device.sm_count = (uint32_t)properties.multiProcessorCount;
    b.device.shared_bytes_max = (uint32_t)properties.sharedMemPerBlockOptin;
    CHECK_CUDA(cudaStreamCreateWithFlags(&b.stream, cudaStreamNonBlocking));
    size_t x_count = (size_t)rows_most * 14336;
    CHECK_CUDA(cudaMalloc((void **)&b.arena, arena_bytes));
    CHECK_CUDA(cudaMalloc((void **)&b.x, x_count * 2));
    CHECK_CUDA(cudaMalloc(&b.d, (size_t)rows_most * 128256 * 4));
    CHECK_CUDA(cudaMalloc((void **)&b.workspace, GEMM_WORKSPACE_BYTES));
    CHECK_CUDA(cudaMemset(b.workspace, 0, GEMM_WORKSPACE_BYTES));
    b.skinny.partials = (float *)b.workspace;
    b.skinny.tickets = (uint32_t *)(b.workspace + GEMM_SKINNY_PARTIAL_BYTES);
    fill<<<4096, 256, 0, b.stream>>>(b.arena, arena_bytes / 2);
    fill<<<4096, 256, 0, b.stream>>>(b.x, x_count);
    CHECK_CUDA(cudaGetLastError());
    CHECK_CUDA(gemm_skinny_init(&b.device));

    printf("# %s, code for %u\nwork,figure,unit,ceiling,ratio\n", properties.name,
           b.device.code_arch);
    b.read_gb_s = measure_read(b);
    print("read", b.read_gb_s, "GB/s", b.read_gb_s);
    print("copy", measure_copy(b), "GB/s", b.read_gb_s);
    b.tflop_s = measure_tflops(b);
    print("library_8192", b.tflop_s, "TFLOP/s", b.tflop_s);

    for (const shape &s : shapes) {
        for (uint32_t m : {1u, 2u, 4u, 8u, 16u, 24u, 32u, 48u, 64u, 96u, 128u, 256u, 512u}) {
            if (wanted("skinny")) b.ours(s, m);
            if (wanted("library")) b.library(s, m);
        }
        if (wanted("library"))
            for (uint32_t m : {2048u, 8192u})
                for (bool d_is_float : {false, true})
                    b.library({s.name, s.n, s.k, d_is_float}, m);
    }
    return 0;
}
