/* bench_attention: attention at the sizes of Llama-3.1-8B (32 heads, 8 KV heads of 128), bf16.
 *
 *   bench_attention [part of a work's name ...]
 *
 * Prints work,figure,unit,ceiling,ratio. Prefill: TFLOP/s, counting the visible half of the scores,
 * against a cuBLAS product of 8192^3 (0 where there is no libcublas). Decode: GB/s of the visible
 * keys and values, against a copy of the device's memory. Launches of one work walk over several
 * copies of the cache, more than L2 holds together, and stand behind each other in one graph, as
 * the layers of a step do. */
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <functional>
#include <string>
#include <vector>

#include "worker/cuda/attention_plan.h"
#include "worker/cuda/kernels/attention.h"

static const uint32_t heads = 32, kv_heads = 8, head_dim = 128;

static void check(cudaError_t e, const char *call, int line)
{
    if (e == cudaSuccess) return;
    fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, line, call, cudaGetErrorString(e));
    exit(1);
}
#define CHECK_CUDA(call) check(call, #call, __LINE__)

static cudaStream_t stream;

static __global__ void probe_kernel()
{
}

static __global__ void fill_kernel(uint32_t *x, size_t count)
{
    /* bf16 numbers of both signs between 0.5 and 2 */
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x) {
        uint32_t bits = (uint32_t)i * 2654435761u;
        bits ^= bits >> 15;
        x[i] = 0x3f003f00u | (bits & 0x80ff80ffu);
    }
}

static kernel_device describe_device()
{
    cudaDeviceProp properties;
    cudaFuncAttributes attributes;
    CHECK_CUDA(cudaGetDeviceProperties(&properties, 0));
    CHECK_CUDA(cudaFuncGetAttributes(&attributes, probe_kernel));
    kernel_device device = {};
    device.code_arch = (uint32_t)attributes.ptxVersion;
    device.has_sm90a = device.code_arch == 90 && properties.major == 9;
    device.sm_count = (uint32_t)properties.multiProcessorCount;
    device.shared_bytes_max = (uint32_t)properties.sharedMemPerBlockOptin;
    fprintf(stderr, "%s, code for %u\n", properties.name, device.code_arch);
    return device;
}

/* What was allocated lives as long as the program. */
template <typename T> static T *device_memory(size_t count)
{
    void *p;
    CHECK_CUDA(cudaMalloc(&p, count * sizeof(T)));
    CHECK_CUDA(cudaMemset(p, 0, count * sizeof(T)));
    return (T *)p;
}

template <typename T> static T *device_copy(const std::vector<T> &x)
{
    T *p = device_memory<T>(x.size());
    CHECK_CUDA(cudaMemcpy(p, x.data(), x.size() * sizeof(T), cudaMemcpyHostToDevice));
    return p;
}

static void *random_memory(size_t bytes)
{
    uint32_t *p = device_memory<uint32_t>(bytes / 4);
    fill_kernel<<<1024, 256, 0, stream>>>(p, bytes / 4);
    return p;
}

/* Seconds of one launch(i): the median of some graphs of `count` launches. */
static double seconds_of(int count, const std::function<cudaError_t(int)> &enqueue)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t begin, end;
    CHECK_CUDA(cudaDeviceSynchronize()); /* memory is set on another stream */
    CHECK_CUDA(enqueue(0));              /* loads the code */
    CHECK_CUDA(cudaStreamSynchronize(stream));
    CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    for (int i = 0; i < count; i++)
        CHECK_CUDA(enqueue(i));
    CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
    CHECK_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    CHECK_CUDA(cudaEventCreate(&begin));
    CHECK_CUDA(cudaEventCreate(&end));
    std::vector<float> times;
    for (int run = 0; run < 9; run++) {
        CHECK_CUDA(cudaEventRecord(begin, stream));
        CHECK_CUDA(cudaGraphLaunch(exec, stream));
        CHECK_CUDA(cudaEventRecord(end, stream));
        CHECK_CUDA(cudaStreamSynchronize(stream));
        float ms;
        CHECK_CUDA(cudaEventElapsedTime(&ms, begin, end));
        if (run >= 2) times.push_back(ms); /* the first warm up */
    }
    std::sort(times.begin(), times.end());
    CHECK_CUDA(cudaGraphExecDestroy(exec));
    CHECK_CUDA(cudaGraphDestroy(graph));
    return times[times.size() / 2] * 1e-3 / count;
}

static void report(const std::string &work, double figure, const char *unit, double ceiling)
{
    printf("%s,%.1f,%s,%.1f,%.3f\n", work.c_str(), figure, unit, ceiling,
           ceiling > 0 ? figure / ceiling : 0);
    fflush(stdout);
}

/* -- ceilings ----------------------------------------------------------------------------- */

static __global__ void copy_kernel(uint4 *to, const uint4 *from, size_t count)
{
    const size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += 4 * stride) {
        uint4 x[4];
        for (int j = 0; j < 4; j++)
            if (i + j * stride < count) x[j] = from[i + j * stride];
        for (int j = 0; j < 4; j++)
            if (i + j * stride < count) to[i + j * stride] = x[j];
    }
}

/* The better of the runtime's copy and a plain kernel. */
static double copy_gb_s()
{
    const size_t bytes = (size_t)1 << 30;
    void *from = random_memory(bytes), *to = device_memory<char>(bytes);
    double copied = seconds_of(
        4, [&](int) { return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream); });
    double moved = seconds_of(4, [&](int) {
        copy_kernel<<<132 * 16, 512, 0, stream>>>((uint4 *)to, (const uint4 *)from, bytes / 16);
        return cudaGetLastError();
    });
    CHECK_CUDA(cudaFree(from));
    CHECK_CUDA(cudaFree(to));
    return 2e-9 * bytes / std::min(copied, moved);
}

/* cuBLAS by hand, so that the program runs without it. */
static double gemm_tflop_s()
{
    void *lib = nullptr;
    for (const char *name : {"libcublas.so.13", "libcublas.so.12", "libcublas.so"})
        if (lib == nullptr) lib = dlopen(name, RTLD_NOW);
    if (lib == nullptr) return 0;
    auto create = (int (*)(void **))dlsym(lib, "cublasCreate_v2");
    auto set_stream = (int (*)(void *, cudaStream_t))dlsym(lib, "cublasSetStream_v2");
    auto gemm = (int (*)(void *, int, int, int, int, int, const void *, const void *, int, int,
                         const void *, int, int, const void *, void *, int, int, int,
                         int))dlsym(lib, "cublasGemmEx");
    void *handle;
    if (create(&handle) != 0 || set_stream(handle, stream) != 0) return 0;
    const int n = 8192, bf16 = 14 /* CUDA_R_16BF */, f32 = 68 /* CUBLAS_COMPUTE_32F */;
    void *a = random_memory((size_t)n * n * 2), *b = random_memory((size_t)n * n * 2);
    void *c = device_memory<uint16_t>((size_t)n * n);
    const float one = 1, zero = 0;
    double seconds = seconds_of(4, [&](int) {
        int e =
            gemm(handle, 1, 0, n, n, n, &one, a, bf16, n, b, bf16, n, &zero, c, bf16, n, f32, -1);
        return e == 0 ? cudaSuccess : cudaErrorUnknown;
    });
    for (void *p : {a, b, c})
        CHECK_CUDA(cudaFree(p));
    return 2e-12 * n * n * n / seconds;
}

/* -- a step's attention ----------------------------------------------------------------------- */

/* `copies` of the same sequences, each with blocks of its own, in shuffled order. */
struct step {
    kernel_kv kv;
    std::vector<attention_sequence> sequences;
    std::vector<uint32_t *> tables;
    void *q, *out;
    uint32_t tokens = 0;

    step(uint32_t sequence_count, uint32_t position, uint32_t token_count)
    {
        const uint32_t sequence_blocks = (position + token_count + 15) / 16;
        const size_t block_bytes = (size_t)kv_heads * 16 * head_dim * 2;
        const size_t blocks = (size_t)sequence_count * sequence_blocks;
        const size_t copies = std::max<size_t>(1, ((size_t)512 << 20) / (2 * blocks * block_bytes));
        kv = {random_memory(copies * blocks * block_bytes),
              random_memory(copies * blocks * block_bytes), kv_heads, head_dim, head_dim};
        std::vector<uint32_t> order(copies * blocks);
        for (size_t i = 0; i < order.size(); i++)
            order[i] = (uint32_t)i;
        srand(1);
        for (size_t i = order.size() - 1; i > 0; i--)
            std::swap(order[i], order[(size_t)rand() % (i + 1)]);
        for (size_t c = 0; c < copies; c++)
            tables.push_back(
                device_copy(std::vector<uint32_t>(order.begin() + (ptrdiff_t)(c * blocks),
                                                  order.begin() + (ptrdiff_t)((c + 1) * blocks))));
        for (uint32_t s = 0; s < sequence_count; s++) {
            sequences.push_back({tokens, token_count, position, s * sequence_blocks});
            tokens += token_count;
        }
        q = random_memory((size_t)tokens * heads * head_dim * 2);
        out = device_memory<uint16_t>((size_t)tokens * heads * head_dim);
    }
    ~step()
    {
        for (void *p : {kv.keys, kv.values, q, out})
            cudaFree(p);
        for (uint32_t *table : tables)
            cudaFree(table);
    }
    attention_shape shape() const
    {
        return {heads, 0, 0.0883883476f, 0};
    }
};

typedef uint32_t (*tile_function)(const kernel_device *, const kernel_kv *,
                                  const attention_shape *);
typedef cudaError_t (*prefill_function)(const kernel_device *, const attention_prefill_args *,
                                        cudaStream_t);
typedef cudaError_t (*decode_function)(const kernel_device *, const attention_decode_args *,
                                       cudaStream_t);

static double prefill_seconds(const kernel_device &device, step &s, uint32_t tile,
                              prefill_function prefill, int launches)
{
    std::vector<attention_prefill_item> items(
        attention_plan_prefill_items_max(s.tokens, s.sequences.size(), tile));
    items.resize(
        attention_plan_prefill(s.sequences.data(), s.sequences.size(), tile, items.data()));
    attention_prefill_args a = {};
    a.kv = s.kv;
    a.shape = s.shape();
    a.dtype = KERNEL_BF16;
    a.q = s.q;
    a.out = s.out;
    a.items = device_copy(items);
    a.item_count = (uint32_t)items.size();
    a.item_tokens_max = tile;
    return seconds_of(launches, [&](int i) {
        a.block_tables = s.tables[(size_t)i % s.tables.size()];
        return prefill(&device, &a, stream);
    });
}

static double decode_seconds(const kernel_device &device, step &s, decode_function decode,
                             int launches)
{
    uint32_t context = s.sequences[0].position + 1;
    attention_shape shape = s.shape();
    uint32_t wanted = attention_decode_items_wanted(&device, &s.kv, &shape);
    std::vector<attention_decode_item> items(
        attention_plan_decode_items_max(s.sequences.size(), context, wanted));
    size_t slots = items.size();
    items.resize(
        attention_plan_decode(s.sequences.data(), s.sequences.size(), 0, wanted, items.data()));
    attention_decode_args a = {};
    a.kv = s.kv;
    a.shape = shape;
    a.dtype = KERNEL_BF16;
    a.q = s.q;
    a.out = s.out;
    a.items = device_copy(items);
    a.item_count = device_copy(std::vector<uint32_t>{(uint32_t)items.size()});
    a.partials = device_memory<float>(slots * attention_decode_partial_floats(heads, head_dim));
    a.tickets = device_memory<uint32_t>(slots * kv_heads);
    return seconds_of(launches, [&](int i) {
        a.block_tables = s.tables[(size_t)i % s.tables.size()];
        return decode(&device, &a, stream);
    });
}

/* -- the works ----------------------------------------------------------------------------------
 */

static int chosen_count;
static char **chosen_names;

static bool chosen(const std::string &work)
{
    for (int i = 0; i < chosen_count; i++)
        if (work.find(chosen_names[i]) != std::string::npos) return true;
    return chosen_count == 0;
}

static void bench_prefill(const kernel_device &device, const char *kind, tile_function tile,
                          prefill_function prefill, double ceiling)
{
    for (uint32_t n : {8192u, 2048u}) {
        std::string work = "attn_prefill_" + std::to_string(n) + kind;
        if (!chosen(work)) continue;
        step s(1, 0, n);
        attention_shape shape = s.shape();
        double seconds =
            prefill_seconds(device, s, tile(&device, &s.kv, &shape), prefill, n > 4096 ? 4 : 16);
        report(work, 4e-12 * n * n / 2 * heads * head_dim / seconds, "TFLOP/s", ceiling);
    }
}

static const struct {
    uint32_t sequences, context;
} decode_works[] = {{64, 4096}, {1, 4096}, {1, 32768}, {256, 256}, {32, 1024}};

static std::string decode_name(uint32_t sequences, uint32_t context)
{
    return "attn_decode_" + std::to_string(sequences) + "x" + std::to_string(context);
}

static double kv_gb(uint32_t sequences, uint32_t context)
{
    return 4e-9 * sequences * context * kv_heads * head_dim;
}

static void bench_decode(const kernel_device &device, double ceiling)
{
    for (auto w : decode_works) {
        std::string work = decode_name(w.sequences, w.context);
        if (!chosen(work)) continue;
        step s(w.sequences, w.context - 1, 1);
        double seconds = decode_seconds(device, s, attention_decode, 16);
        report(work, kv_gb(w.sequences, w.context) / seconds, "GB/s", ceiling);
    }
}

/* What --batch-invariant decodes with. */
static void bench_invariant_decode(const kernel_device &device, double ceiling)
{
    for (auto w : decode_works) {
        std::string work = decode_name(w.sequences, w.context) + "_invariant";
        if (!chosen(work)) continue;
        step s(w.sequences, w.context - 1, 1);
        double seconds = prefill_seconds(device, s, 1, attention_prefill_mma, 16);
        report(work, kv_gb(w.sequences, w.context) / seconds, "GB/s", ceiling);
    }
}

int main(int argc, char **argv)
{
    chosen_count = argc - 1;
    chosen_names = argv + 1;
    CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    kernel_device device = describe_device();
    CHECK_CUDA(attention_prefill_mma_prepare(&device));
    CHECK_CUDA(attention_decode_prepare(&device));
    double tflop_s = gemm_tflop_s(), gb_s = copy_gb_s();
    printf("work,figure,unit,ceiling,ratio\n");
    bench_prefill(device, "_mma", attention_prefill_mma_tile_tokens, attention_prefill_mma,
                  tflop_s);
    bench_decode(device, gb_s);
    bench_invariant_decode(device, gb_s);
    return 0;
}
