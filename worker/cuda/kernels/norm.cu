/* norm: one block a row, bound by memory, and at one token by latency: the weights, which nothing
 * writes, are read before the wait for the kernel in front, and a row up to NORM_HELD_MAX stays in
 * registers between its sums. Longer rows, and those whose length is no multiple of 8, are read
 * again instead: from cache, since the same block wrote them.
 *
 * A thread's elements, and with them the order of every sum, follow from `hidden` alone. */
#include "worker/cuda/kernels/element.cuh"
#include "worker/cuda/kernels/launch.cuh"
#include "worker/cuda/kernels/norm.h"
#include "worker/cuda/kernels/ptx.cuh"

#define NORM_WIDTH       8u
#define NORM_THREADS_MAX 1024u
#define NORM_HELD_MAX    (NORM_WIDTH * NORM_THREADS_MAX)

/* The block's sum in every thread; `partials` is this sum's own. */
static __device__ __forceinline__ float block_sum(float x, float (&partials)[32])
{
    uint32_t lane = threadIdx.x % 32;
    x = warp_sum(x);
    if (lane == 0) partials[threadIdx.x / 32] = x;
    __syncthreads();
    return warp_sum(lane < blockDim.x / 32 ? partials[lane] : 0.0f);
}

static __device__ __forceinline__ float root_inverse(float squares, uint32_t hidden, float eps)
{
    return rsqrtf(__fdividef(squares, (float)hidden) + eps);
}

template <int Width> static __device__ __forceinline__ float sum_of_squares(const float (&x)[Width])
{
    float sum = 0;
#pragma unroll
    for (int k = 0; k < Width; k++)
        sum += x[k] * x[k];
    return sum;
}

template <typename T, int Width>
static __global__ __launch_bounds__(NORM_THREADS_MAX) void norm_held(residual_norm_args a)
{
    __shared__ float partials[2][32];
    uint32_t i = threadIdx.x * Width;
    bool mine = i < a.hidden;
    float x[Width] = {}, d[Width] = {}, weight[Width] = {}, post_weight[Width] = {};

    grid_dependency_release();
    if (mine && a.y != nullptr) load_elements<Width>(weight, a.weight + i);
    if (mine && a.post_weight != nullptr) load_elements<Width>(post_weight, a.post_weight + i);
    grid_dependency_wait();

    uint32_t row = a.rows != nullptr ? a.rows[blockIdx.x] : blockIdx.x;
    int64_t at = (int64_t)row * a.hidden + i;
    if (mine) load_elements<Width>(x, a.residual + at);
    if (a.delta != nullptr) {
        float scale = a.row_scale != nullptr ? a.row_scale[row] : 1.0f;
        if (mine) load_elements<Width>(d, a.delta + at);
#pragma unroll
        for (int k = 0; k < Width; k++)
            d[k] *= scale;
        if (a.post_weight != nullptr) {
            float r =
                root_inverse(block_sum(sum_of_squares<Width>(d), partials[0]), a.hidden, a.eps);
#pragma unroll
            for (int k = 0; k < Width; k++)
                d[k] *= r * post_weight[k];
        }
#pragma unroll
        for (int k = 0; k < Width; k++)
            x[k] += d[k];
        if (mine) store_elements<Width>(a.residual + at, x);
    }
    if (a.y == nullptr) return;

    float r = root_inverse(block_sum(sum_of_squares<Width>(x), partials[1]), a.hidden, a.eps);
#pragma unroll
    for (int k = 0; k < Width; k++)
        x[k] *= r * weight[k];
    if (mine) store_elements<Width>(static_cast<T *>(a.y) + (int64_t)blockIdx.x * a.hidden + i, x);
}

template <typename T, int Width>
static __global__ __launch_bounds__(NORM_THREADS_MAX) void norm_reread(residual_norm_args a)
{
    __shared__ float partials[2][32];
    uint32_t first = threadIdx.x * Width, step = blockDim.x * Width;
    float x[Width], d[Width], weight[Width];

    grid_dependency_release();
    grid_dependency_wait();
    uint32_t row = a.rows != nullptr ? a.rows[blockIdx.x] : blockIdx.x;
    float *residual = a.residual + (int64_t)row * a.hidden;
    const float *delta = a.delta + (a.delta != nullptr ? (int64_t)row * a.hidden : 0);
    float scale = a.row_scale != nullptr && a.delta != nullptr ? a.row_scale[row] : 1.0f;
    float r = 1.0f;
    if (a.delta != nullptr && a.post_weight != nullptr) {
        float squares = 0;
        for (uint32_t i = first; i < a.hidden; i += step) {
            load_elements<Width>(d, delta + i);
#pragma unroll
            for (int k = 0; k < Width; k++)
                d[k] *= scale;
            squares += sum_of_squares<Width>(d);
        }
        r = root_inverse(block_sum(squares, partials[0]), a.hidden, a.eps);
    }

    float squares = 0;
    for (uint32_t i = first; i < a.hidden; i += step) {
        load_elements<Width>(x, residual + i);
        if (a.delta != nullptr) {
            load_elements<Width>(d, delta + i);
#pragma unroll
            for (int k = 0; k < Width; k++)
                d[k] *= scale;
            if (a.post_weight != nullptr) {
                load_elements<Width>(weight, a.post_weight + i);
#pragma unroll
                for (int k = 0; k < Width; k++)
                    d[k] *= r * weight[k];
            }
#pragma unroll
            for (int k = 0; k < Width; k++)
                x[k] += d[k];
            store_elements<Width>(residual + i, x);
        }
        squares += sum_of_squares<Width>(x);
    }
    if (a.y == nullptr) return;

    r = root_inverse(block_sum(squares, partials[1]), a.hidden, a.eps);
    T *y = static_cast<T *>(a.y) + (int64_t)blockIdx.x * a.hidden;
    for (uint32_t i = first; i < a.hidden; i += step) {
        load_elements<Width>(x, residual + i);
        load_elements<Width>(weight, a.weight + i);
#pragma unroll
        for (int k = 0; k < Width; k++)
            x[k] *= r * weight[k];
        store_elements<Width>(y + i, x);
    }
}

/* Whole warps, one thread for `width` elements as far as a block has threads. */
static uint32_t norm_threads(uint32_t hidden, uint32_t width)
{
    uint32_t threads = (hidden / width + 31) / 32 * 32;
    return threads < NORM_THREADS_MAX ? threads : NORM_THREADS_MAX;
}

template <typename T> static cudaError_t norm_rows(const residual_norm_args *a, cudaStream_t stream)
{
    void (*kernel)(residual_norm_args) = norm_reread<T, 2>;
    uint32_t width = 2;
    if (a->hidden % NORM_WIDTH == 0) {
        width = NORM_WIDTH;
        kernel = a->hidden <= NORM_HELD_MAX ? norm_held<T, NORM_WIDTH> : norm_reread<T, NORM_WIDTH>;
    }
    return launch(LAUNCH_OVERLAPPED, kernel, dim3(a->count), dim3(norm_threads(a->hidden, width)),
                  0, stream, *a);
}

extern "C" cudaError_t residual_norm(const kernel_device *device, const residual_norm_args *a,
                                     cudaStream_t stream)
{
    uintptr_t addresses = (uintptr_t)a->residual | (uintptr_t)a->delta | (uintptr_t)a->post_weight |
                          (uintptr_t)a->y | (a->y != nullptr ? (uintptr_t)a->weight : 0);
    if (a->count > 16384 || a->hidden < 8 || a->hidden > 65536 || a->hidden % 2 != 0 ||
        a->type == KERNEL_F32 || (a->type == KERNEL_BF16 && device->code_arch < 80) ||
        a->residual == nullptr || (a->y != nullptr && a->weight == nullptr) || addresses % 16 != 0)
        return cudaErrorInvalidValue;
    if (a->count == 0 || (a->delta == nullptr && a->y == nullptr)) return cudaSuccess;
    return a->type == KERNEL_F16 ? norm_rows<__half>(a, stream)
                                 : norm_rows<__nv_bfloat16>(a, stream);
}
