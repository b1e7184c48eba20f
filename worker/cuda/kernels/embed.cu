/* embed: a gather, bound by memory. A block takes a stretch of one row; a thread reads 16 bytes of
 * the table and writes 32 of the residual. */
#include "worker/cuda/kernels/element.cuh"
#include "worker/cuda/kernels/embed.h"
#include "worker/cuda/kernels/launch.cuh"
#include "worker/cuda/kernels/ptx.cuh"

#define EMBED_THREADS 256u

template <typename T, int Width>
static __global__ void embed_kernel(float *residual, const T *table, const uint32_t *tokens,
                                    const uint32_t *last_sampled, uint32_t hidden, float scale)
{
    uint32_t i = (blockIdx.x * EMBED_THREADS + threadIdx.x) * Width;
    grid_dependency_release();
    grid_dependency_wait();
    if (i >= hidden) return;
    uint32_t id = tokens[blockIdx.y];
    if (id & EMBED_FROM_SLOT) id = last_sampled[id & EMBED_SLOT_MASK];

    float x[Width];
    load_elements<Width>(x, table + (int64_t)id * hidden + i);
#pragma unroll
    for (int k = 0; k < Width; k++)
        x[k] *= scale;
    store_elements<Width>(residual + (int64_t)blockIdx.y * hidden + i, x);
}

template <typename T>
static cudaError_t embed_rows(float *residual, const void *table, const uint32_t *tokens,
                              const uint32_t *last_sampled, uint32_t count, uint32_t hidden,
                              float scale, cudaStream_t stream)
{
    uint32_t width = hidden % 8 == 0 ? 8 : 2;
    uint32_t stretches = (hidden / width + EMBED_THREADS - 1) / EMBED_THREADS;
    return launch(LAUNCH_OVERLAPPED, width == 8 ? embed_kernel<T, 8> : embed_kernel<T, 2>,
                  dim3(stretches, count), dim3(EMBED_THREADS), 0, stream, residual,
                  static_cast<const T *>(table), tokens, last_sampled, hidden, scale);
}

extern "C" cudaError_t embed(const kernel_device *device, float *residual, const void *table,
                             kernel_dtype type, const uint32_t *tokens,
                             const uint32_t *last_sampled, uint32_t count, uint32_t hidden,
                             float scale, cudaStream_t stream)
{
    if (count > 16384 || hidden < 8 || hidden > 65536 || hidden % 2 != 0 || type == KERNEL_F32 ||
        (type == KERNEL_BF16 && device->code_arch < 80) || (uintptr_t)residual % 16 != 0 ||
        (uintptr_t)table % 16 != 0)
        return cudaErrorInvalidValue;
    if (count == 0) return cudaSuccess;
    return type == KERNEL_F16 ? embed_rows<__half>(residual, table, tokens, last_sampled, count,
                                                   hidden, scale, stream)
                              : embed_rows<__nv_bfloat16>(residual, table, tokens, last_sampled,
                                                          count, hidden, scale, stream);
}
