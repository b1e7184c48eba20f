/* Device code knows what it was compiled for; nobody else can be sure. */
#include "worker/cuda/kernels/launch.cuh"
#include "worker/cuda/kernels/probe.h"

static __global__ void tell_code(uint32_t *out)
{
#ifdef __CUDA_ARCH__
    out[0] = __CUDA_ARCH__ / 10;
#endif
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    out[1] = 1;
#else
    out[1] = 0;
#endif
}

extern "C" cudaError_t probe_code(uint32_t *code_arch, bool *has_sm90a)
{
    uint32_t *device = NULL, host[2] = {0, 0};
    cudaError_t code = cudaMalloc((void **)&device, sizeof host);
    if (code != cudaSuccess) return code;
    code = launch(LAUNCH_AFTER, tell_code, dim3(1), dim3(1), 0, NULL, device);
    if (code == cudaSuccess) code = cudaMemcpy(host, device, sizeof host, cudaMemcpyDeviceToHost);
    cudaFree(device);
    *code_arch = host[0];
    *has_sm90a = host[1] != 0;
    return code;
}
