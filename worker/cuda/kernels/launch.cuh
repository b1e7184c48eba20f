/* launch: how kernels are started, and their dynamic shared memory. The CPU emulation that the
 * tests use (tests/cuda_emulation) has a file of the same name in front of this one. */
#ifndef GAGGLE_WORKER_CUDA_LAUNCH_CUH
#define GAGGLE_WORKER_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

/* In a kernel: `name` is the block's dynamic shared memory, 1024-byte aligned. */
#define DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]

/* May a kernel's beginning overlap the end of the one before it on the stream (programmatic
 * dependent launch, from sm_90)? Such a kernel calls grid_dependency_wait() (ptx.cuh) before it
 * touches anything that an earlier kernel writes or reads-and-will-be-overwritten. */
enum launch_order { LAUNCH_AFTER, LAUNCH_OVERLAPPED };

/* Launch kernel<<<grid, block, shared_bytes, stream>>>(args...). Above 48 KiB of dynamic shared
 * memory the kernel's limit must have been raised before with launch_allow_shared(). OVERLAPPED
 * means AFTER where the driver's code is older than sm_90. */
template <typename... Parameters, typename... Arguments>
static inline cudaError_t launch(launch_order order, void (*kernel)(Parameters...), dim3 grid,
                                 dim3 block, size_t shared_bytes, cudaStream_t stream,
                                 Arguments... arguments)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &attribute;
    config.numAttrs = order == LAUNCH_OVERLAPPED ? 1 : 0;
    return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

/* Once a kernel, outside of graph capture; cheap to repeat. */
template <typename... Parameters>
static inline cudaError_t launch_allow_shared(void (*kernel)(Parameters...), size_t bytes)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
}

#endif
