/* Twin of worker/cuda/kernels/launch.cuh for the CPU emulation. */
#ifndef GAGGLE_WORKER_CUDA_LAUNCH_CUH
#define GAGGLE_WORKER_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

#define DYNAMIC_SHARED(name) unsigned char *const name = emulation::dynamic_shared()

enum launch_order { LAUNCH_AFTER, LAUNCH_OVERLAPPED };

template <typename... Parameters, typename... Arguments>
static inline cudaError_t launch(launch_order order, void (*kernel)(Parameters...), dim3 grid,
                                 dim3 block, size_t shared_bytes, cudaStream_t stream,
                                 Arguments... arguments)
{
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {grid,   block,      shared_bytes,
                                 stream, &attribute, order == LAUNCH_OVERLAPPED ? 1u : 0u};
    return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

template <typename... Parameters>
static inline cudaError_t launch_allow_shared(void (*kernel)(Parameters...), size_t bytes)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
}

#endif
