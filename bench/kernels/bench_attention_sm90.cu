/* bench_attention_sm90: prefill attention on Hopper in TFLOP/s, the kernel of wgmma and that of
 * mma.sync beside each other, bf16, causal: 32 heads over 8 KV heads of 128 and of 64, 8 over 4 of
 * 256. A pair of a token and a key that it sees costs 4 * head_dim flop a head, and S tokens have
 * S * S / 2 pairs. Ceiling: cuBLAS, 8192^3, in the same run (0 where it is not found). Prints
 * work,figure,unit,ceiling,ratio. */
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <functional>
#include <string>
#include <vector>

#include "worker/cuda/attention_plan.h"
#include "worker/cuda/kernels/attention.h"

#define CHECK_CUDA(call)                                                                           \
    do {                                                                                           \
        cudaError_t error_ = (call);                                                               \
        if (error_ != cudaSuccess) {                                                               \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call,                          \
                    cudaGetErrorString(error_));                                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* Random bf16, about normal: a sum of four uniform numbers. Zeros would draw less power. */
static __global__ void fill_random(__nv_bfloat16 *x, size_t count, float size, uint32_t seed)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    uint64_t z = ((uint64_t)seed << 40) + i * 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    float sum = 0;
    for (int k = 0; k < 4; k++)
        sum += (float)(z >> (16 * k) & 0xffff) / 65536.0f - 0.5f;
    x[i] = __float2bfloat16_rn(size * 1.7320508f * sum);
}

struct device_memory {
    void *data = nullptr;
    explicit device_memory(size_t bytes)
    {
        CHECK_CUDA(cudaMalloc(&data, bytes > 0 ? bytes : 1));
    }
    device_memory(const device_memory &) = delete;
    ~device_memory()
    {
        cudaFree(data);
    }
};

static inline __nv_bfloat16 *random_elements(device_memory &memory, size_t count, uint32_t seed)
{
    auto *x = (__nv_bfloat16 *)memory.data;
    fill_random<<<(unsigned)((count + 255) / 256), 256>>>(x, count, 1.0f, seed);
    CHECK_CUDA(cudaGetLastError());
    return x;
}

/* Median milliseconds of `count` launches, after four that do not count. */
static inline double median_ms(int count, const std::function<cudaError_t(cudaStream_t)> &run)
{
    cudaEvent_t begin, end;
    CHECK_CUDA(cudaEventCreate(&begin));
    CHECK_CUDA(cudaEventCreate(&end));
    for (int i = 0; i < 4; i++)
        CHECK_CUDA(run(0));
    std::vector<float> times((size_t)count);
    for (float &ms : times) {
        CHECK_CUDA(cudaEventRecord(begin, 0));
        CHECK_CUDA(run(0));
        CHECK_CUDA(cudaEventRecord(end, 0));
        CHECK_CUDA(cudaEventSynchronize(end));
        CHECK_CUDA(cudaEventElapsedTime(&ms, begin, end));
    }
    CHECK_CUDA(cudaEventDestroy(begin));
    CHECK_CUDA(cudaEventDestroy(end));
    std::sort(times.begin(), times.end());
    return (double)times[times.size() / 2];
}

/* TFLOP/s of cuBLAS for 8192^3 in bf16; 0 without cuBLAS. */
static inline double gemm_tflops()
{
    void *library = dlopen("libcublas.so.13", RTLD_NOW);
    if (library == nullptr) library = dlopen("libcublas.so.12", RTLD_NOW);
    if (library == nullptr) library = dlopen("/usr/local/cuda/lib64/libcublas.so", RTLD_NOW);
    if (library == nullptr) return 0;
    typedef cublasStatus_t create_function(cublasHandle_t *);
    typedef cublasStatus_t gemm_function(cublasHandle_t, cublasOperation_t, cublasOperation_t, int,
                                         int, int, const void *, const void *, cudaDataType, int,
                                         const void *, cudaDataType, int, const void *, void *,
                                         cudaDataType, int, cublasComputeType_t, cublasGemmAlgo_t);
    auto create = (create_function *)dlsym(library, "cublasCreate_v2");
    auto gemm = (gemm_function *)dlsym(library, "cublasGemmEx");
    cublasHandle_t handle;
    if (create == nullptr || gemm == nullptr || create(&handle) != CUBLAS_STATUS_SUCCESS) return 0;
    const int n = 8192;
    const size_t count = (size_t)n * n;
    device_memory ma(count * 2), mb(count * 2), mc(count * 2);
    random_elements(ma, count, 1);
    random_elements(mb, count, 2);
    const float one = 1, zero = 0;
    double ms = median_ms(10, [&](cudaStream_t) {
        return gemm(handle, CUBLAS_OP_T, CUBLAS_OP_N, n, n, n, &one, ma.data, CUDA_R_16BF, n,
                    mb.data, CUDA_R_16BF, n, &zero, mc.data, CUDA_R_16BF, n, CUBLAS_COMPUTE_32F,
                    CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS
                   ? cudaSuccess
                   : cudaErrorUnknown;
    });
    return 2.0 * n * n * n / ms * 1e-9;
}

struct shape {
    const char *work;
    uint32_t sequences, tokens; /* prompts of so many tokens each */
    uint32_t heads, kv_heads, head_dim;
    float softcap;
};

/* A step of prompts, blocks of the cache in scattered order. */
struct step {
    shape of;
    device_memory q, out, keys, values, tables, items;
    attention_prefill_args args = {};

    explicit step(const shape &s)
        : of(s), q(elements(s.heads) * 2), out(elements(s.heads) * 2),
          keys(elements(s.kv_heads) * 2), values(elements(s.kv_heads) * 2), tables(blocks() * 4),
          items(items_max() * sizeof(attention_prefill_item))
    {
        std::vector<uint32_t> order(blocks());
        for (uint32_t i = 0; i < order.size(); i++)
            order[i] = i;
        uint32_t state = 1;
        for (uint32_t i = (uint32_t)order.size() - 1; i > 0; i--) {
            state = state * 1664525u + 1013904223u;
            std::swap(order[i], order[(state >> 8) % (i + 1)]);
        }
        CHECK_CUDA(cudaMemcpy(tables.data, order.data(), order.size() * 4, cudaMemcpyHostToDevice));
        args.kv = {random_elements(keys, elements(s.kv_heads), 3),
                   random_elements(values, elements(s.kv_heads), 4), s.kv_heads, s.head_dim,
                   s.head_dim};
        args.shape = {s.heads, 0, 1.0f / sqrtf((float)s.head_dim), s.softcap};
        args.dtype = KERNEL_BF16;
        args.q = random_elements(q, elements(s.heads), 5);
        args.out = out.data;
        args.items = (const attention_prefill_item *)items.data;
        args.block_tables = (const uint32_t *)tables.data;
    }
    size_t elements(uint32_t heads) const
    {
        return (size_t)of.sequences * of.tokens * heads * of.head_dim;
    }
    size_t blocks() const
    {
        return (size_t)of.sequences * of.tokens / 16;
    }
    size_t items_max() const
    {
        return (size_t)of.sequences * of.tokens;
    }
    double flop() const
    {
        return 4.0 * of.tokens * of.tokens / 2 * of.heads * of.head_dim * of.sequences;
    }
    /* Into items of at most `tile` tokens. */
    void cut(uint32_t tile)
    {
        std::vector<attention_sequence> list;
        for (uint32_t i = 0; i < of.sequences; i++)
            list.push_back({i * of.tokens, of.tokens, 0, i * of.tokens / 16});
        std::vector<attention_prefill_item> made(
            attention_plan_prefill_items_max(items_max(), of.sequences, tile));
        args.item_count =
            (uint32_t)attention_plan_prefill(list.data(), of.sequences, tile, made.data());
        args.item_tokens_max = tile < of.tokens ? tile : of.tokens;
        CHECK_CUDA(cudaMemcpy(items.data, made.data(),
                              args.item_count * sizeof(attention_prefill_item),
                              cudaMemcpyHostToDevice));
    }
    void print(const std::string &work, double ceiling,
               const std::function<cudaError_t(cudaStream_t)> &run) const
    {
        double figure = flop() / median_ms(20, run) * 1e-9;
        printf("%s,%.1f,TFLOP/s,%.1f,%.3f\n", work.c_str(), figure, ceiling,
               ceiling > 0 ? figure / ceiling : 0);
        fflush(stdout);
    }
};

static inline kernel_device this_device()
{
    cudaDeviceProp properties;
    CHECK_CUDA(cudaGetDeviceProperties(&properties, 0));
    kernel_device device = {};
    device.code_arch = (uint32_t)(properties.major * 10 + properties.minor);
    device.has_sm90a = properties.major == 9;
    device.sm_count = (uint32_t)properties.multiProcessorCount;
    device.shared_bytes_max = (uint32_t)properties.sharedMemPerBlockOptin;
    return device;
}

int main()
{
    const kernel_device device = this_device();
    if (!device.has_sm90a) {
        printf("skipped: not a Hopper GPU\n");
        return 0;
    }
    CHECK_CUDA(attention_prefill_sm90_prepare(&device));
    CHECK_CUDA(attention_prefill_mma_prepare(&device));
    const double ceiling = gemm_tflops();
    const shape shapes[] = {
        {"attn_prefill_8192", 1, 8192, 32, 8, 128, 0},
        {"attn_prefill_2048", 1, 2048, 32, 8, 128, 0},
        {"attn_prefill_16x512", 16, 512, 32, 8, 128, 0},
        {"attn_prefill_8192_head64", 1, 8192, 32, 8, 64, 0},
        {"attn_prefill_8192_head256", 1, 8192, 8, 4, 256, 0},
        {"attn_prefill_8192_head256_softcap", 1, 8192, 8, 4, 256, 50},
    };
    printf("work,figure,unit,ceiling,ratio\n");
    for (const shape &of : shapes) {
        step s(of);
        s.cut(attention_prefill_sm90_tile_tokens(&device, &s.args.kv, &s.args.shape));
        s.print(of.work, ceiling, [&](cudaStream_t stream) {
            return attention_prefill_sm90(&device, &s.args, stream);
        });
        s.cut(attention_prefill_mma_tile_tokens(&device, &s.args.kv, &s.args.shape));
        s.print(std::string(of.work) + "_mma", ceiling, [&](cudaStream_t stream) {
            return attention_prefill_mma(&device, &s.args, stream);
        });
    }
    return 0;
}
