/* Twin of CUDA's header for the CPU emulation: what a .cu file finds without asking. Included in
 * front of every kernel source (-include). */
#ifndef GAGGLE_TESTS_CUDA_EMULATION_CUDA_RUNTIME_H
#define GAGGLE_TESTS_CUDA_EMULATION_CUDA_RUNTIME_H

#include "block.h"
#include "cuda_runtime_api.h"
#include "runtime.h"

#include <cassert>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

/* -- the language -------------------------------------------------------------------------- */

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
/* One block runs at a time, so a static variable is a block's. Not poisoned, unlike dynamic. */
#define __shared__ static

#define threadIdx (emulation::current->index)
#define blockIdx  (emulation::block_index)
#define blockDim  (emulation::block_shape)
#define gridDim   (emulation::grid_shape)
static const int warpSize = 32;

#include "device_math.h"
#include "device_memory.h"
#include "device_warp.h"

/* -- launching ------------------------------------------------------------------------------ */

template <typename... Parameters, typename... Arguments>
static inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config,
                                             void (*kernel)(Parameters...),
                                             Arguments &&...arguments)
{
    std::tuple<std::decay_t<Parameters>...> copies(std::forward<Arguments>(arguments)...);
    return emulation::launch(*config, reinterpret_cast<const void *>(kernel),
                             [kernel, copies] { std::apply(kernel, copies); });
}

template <typename Kernel>
static inline cudaError_t cudaFuncSetAttribute(Kernel *kernel, cudaFuncAttribute attribute,
                                               int value)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), attribute, value);
}

template <typename Kernel>
static inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, Kernel *kernel)
{
    return cudaFuncGetAttributes(attributes, reinterpret_cast<const void *>(kernel));
}

template <typename Kernel>
static inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Kernel *kernel,
                                                                        int block_threads,
                                                                        size_t shared_bytes)
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks, reinterpret_cast<const void *>(kernel), block_threads, shared_bytes);
}

template <typename T> static inline cudaError_t cudaMalloc(T **p, size_t bytes)
{
    return cudaMalloc(reinterpret_cast<void **>(p), bytes);
}

template <typename T>
static inline cudaError_t cudaHostAlloc(T **p, size_t bytes, unsigned int flags)
{
    return cudaHostAlloc(reinterpret_cast<void **>(p), bytes, flags);
}

template <typename T> static inline cudaError_t cudaMallocHost(T **p, size_t bytes)
{
    return cudaMallocHost(reinterpret_cast<void **>(p), bytes);
}

template <typename T>
static inline cudaError_t cudaMemcpyToSymbol(T &symbol, const void *from, size_t bytes)
{
    memcpy(&symbol, from, bytes);
    return cudaSuccess;
}

#endif
