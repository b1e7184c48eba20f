/* convert: bound by memory, or by the bus that the weights come over. Threads walk the tensor with
 * a stride, eight elements at a time where source and target are aligned for it, one otherwise and
 * at the end. Random numbers are hashes: a strong one of the number of the eight, a short one for
 * each of them, whose four bytes' sum is near enough to normal. */
#include "worker/cuda/kernels/convert.h"
#include "worker/cuda/kernels/element.cuh"
#include "worker/cuda/kernels/launch.cuh"

#define CONVERT_THREADS    256u
#define CONVERT_BLOCKS_MAX 4096u
#define CONVERT_WIDTH      8u

/* Blocks for `items` steps of a thread. */
static dim3 convert_grid(uint64_t items)
{
    uint64_t blocks = (items + CONVERT_THREADS - 1) / CONVERT_THREADS;
    return dim3(blocks < CONVERT_BLOCKS_MAX ? (uint32_t)blocks : CONVERT_BLOCKS_MAX);
}

static __device__ __forceinline__ uint64_t convert_first()
{
    return (uint64_t)blockIdx.x * CONVERT_THREADS + threadIdx.x;
}

static __device__ __forceinline__ uint64_t convert_step()
{
    return (uint64_t)gridDim.x * CONVERT_THREADS;
}

struct conversion_losses {
    uint32_t infinite, zero;
};

/* Convert `Width` neighbours and count what they lose. */
template <int Width, typename To, typename From>
static __device__ __forceinline__ void convert_group(To *out, const From *source, float add,
                                                     conversion_losses *lost)
{
    float x[Width];
    load_elements<Width>(x, source);
#pragma unroll
    for (int k = 0; k < Width; k++) {
        x[k] += add;
        float y = to_float(from_float<To>(x[k]));
        lost->infinite += isfinite(x[k]) && isinf(y);
        lost->zero += x[k] != 0 && y == 0;
    }
    store_elements<Width>(out, x);
}

template <typename To, typename From>
static __global__ __launch_bounds__(CONVERT_THREADS) void convert_kernel(To *out,
                                                                         const From *source,
                                                                         uint64_t elements,
                                                                         bool wide, float add,
                                                                         unsigned long long *counts)
{
    conversion_losses lost = {0, 0};
    uint64_t groups = wide ? elements / CONVERT_WIDTH : 0;
    for (uint64_t g = convert_first(); g < groups; g += convert_step())
        convert_group<CONVERT_WIDTH>(out + g * CONVERT_WIDTH, source + g * CONVERT_WIDTH, add,
                                     &lost);
    for (uint64_t i = groups * CONVERT_WIDTH + convert_first(); i < elements; i += convert_step())
        convert_group<1>(out + i, source + i, add, &lost);
    if (counts == nullptr) return;
    if (lost.infinite > 0) atomicAdd(&counts[0], (unsigned long long)lost.infinite);
    if (lost.zero > 0) atomicAdd(&counts[1], (unsigned long long)lost.zero);
}

template <typename To, typename From>
static cudaError_t convert_types(void *out, const void *source, uint64_t elements, float add,
                                 unsigned long long *counts, cudaStream_t stream)
{
    if ((uintptr_t)source % sizeof(From) != 0) return cudaErrorInvalidValue;
    bool wide = (uintptr_t)source % 16 == 0;
    return launch(LAUNCH_AFTER, convert_kernel<To, From>,
                  convert_grid(wide ? (elements + CONVERT_WIDTH - 1) / CONVERT_WIDTH : elements),
                  dim3(CONVERT_THREADS), 0, stream, static_cast<To *>(out),
                  static_cast<const From *>(source), elements, wide, add, counts);
}

template <typename To>
static cudaError_t convert_from(void *out, const void *source, kernel_dtype source_type,
                                uint64_t elements, float add, unsigned long long *counts,
                                cudaStream_t stream)
{
    switch (source_type) {
    case KERNEL_F16:
        return convert_types<To, __half>(out, source, elements, add, counts, stream);
    case KERNEL_BF16:
        return convert_types<To, __nv_bfloat16>(out, source, elements, add, counts, stream);
    case KERNEL_F32:
        return convert_types<To, float>(out, source, elements, add, counts, stream);
    }
    return cudaErrorInvalidValue;
}

extern "C" cudaError_t convert_elements(void *out, kernel_dtype out_type, const void *source,
                                        kernel_dtype source_type, uint64_t elements, float add,
                                        unsigned long long *counts, cudaStream_t stream)
{
    if ((uintptr_t)out % 16 != 0 || elements > (uint64_t)1 << 40) return cudaErrorInvalidValue;
    if (elements == 0) return cudaSuccess;
    switch (out_type) {
    case KERNEL_F16:
        return convert_from<__half>(out, source, source_type, elements, add, counts, stream);
    case KERNEL_BF16:
        return convert_from<__nv_bfloat16>(out, source, source_type, elements, add, counts, stream);
    case KERNEL_F32:
        return convert_from<float>(out, source, source_type, elements, add, counts, stream);
    }
    return cudaErrorInvalidValue;
}

/* -- numbers out of nothing ------------------------------------------------------------- */

/* splitmix64's mixing of a group's number. */
static __device__ __forceinline__ uint64_t random_group(uint64_t seed, uint64_t group)
{
    uint64_t z = seed + (group + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* The k-th of a group: mean 0, standard deviation 1. Four bytes have a sum of mean 510 and variance
 * 4 * (256^2 - 1) / 12. */
static __device__ __forceinline__ float random_normal(uint64_t group, uint32_t k)
{
    uint32_t x = (uint32_t)group + k * 0x9e3779b9u;
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15 ^ (uint32_t)(group >> 32)) * 0x846ca68bu;
    x ^= x >> 16;
    x = (x & 0x00ff00ffu) + (x >> 8 & 0x00ff00ffu);
    return ((float)((x & 0xffffu) + (x >> 16)) - 510.0f) * 0.0067658651f;
}

template <typename T>
static __global__ __launch_bounds__(CONVERT_THREADS) void fill_random_kernel(T *out,
                                                                             uint64_t elements,
                                                                             float deviation,
                                                                             uint64_t seed)
{
    uint64_t groups = (elements + CONVERT_WIDTH - 1) / CONVERT_WIDTH;
    for (uint64_t g = convert_first(); g < groups; g += convert_step()) {
        uint64_t hash = random_group(seed, g), at = g * CONVERT_WIDTH;
        float x[CONVERT_WIDTH];
#pragma unroll
        for (uint32_t k = 0; k < CONVERT_WIDTH; k++)
            x[k] = deviation * random_normal(hash, k);
        if (at + CONVERT_WIDTH <= elements)
            store_elements<CONVERT_WIDTH>(out + at, x);
        else
            for (uint32_t k = 0; at + k < elements; k++)
                out[at + k] = from_float<T>(x[k]);
    }
}

extern "C" cudaError_t fill_random(void *out, kernel_dtype out_type, uint64_t elements,
                                   float deviation, uint64_t seed, cudaStream_t stream)
{
    if (out_type == KERNEL_F32 || (uintptr_t)out % 16 != 0 || elements > (uint64_t)1 << 40)
        return cudaErrorInvalidValue;
    if (elements == 0) return cudaSuccess;
    dim3 grid = convert_grid((elements + CONVERT_WIDTH - 1) / CONVERT_WIDTH);
    if (out_type == KERNEL_F16)
        return launch(LAUNCH_AFTER, fill_random_kernel<__half>, grid, dim3(CONVERT_THREADS), 0,
                      stream, static_cast<__half *>(out), elements, deviation, seed);
    return launch(LAUNCH_AFTER, fill_random_kernel<__nv_bfloat16>, grid, dim3(CONVERT_THREADS), 0,
                  stream, static_cast<__nv_bfloat16 *>(out), elements, deviation, seed);
}

static __global__ __launch_bounds__(CONVERT_THREADS) void fill_constant_kernel(float *out,
                                                                               uint64_t elements,
                                                                               float value)
{
    for (uint64_t i = convert_first(); i < elements; i += convert_step())
        out[i] = value;
}

extern "C" cudaError_t fill_constant(float *out, uint64_t elements, float value,
                                     cudaStream_t stream)
{
    if ((uintptr_t)out % 4 != 0 || elements > (uint64_t)1 << 40) return cudaErrorInvalidValue;
    if (elements == 0) return cudaSuccess;
    return launch(LAUNCH_AFTER, fill_constant_kernel, convert_grid(elements), dim3(CONVERT_THREADS),
                  0, stream, out, elements, value);
}
