/* gemm_store: how our products' sums leave the chip, alike for all of them: bias, rounding, and the
 * edges of D. */
#ifndef GAGGLE_WORKER_CUDA_KERNELS_GEMM_STORE_CUH
#define GAGGLE_WORKER_CUDA_KERNELS_GEMM_STORE_CUH

#include "worker/cuda/kernels/element.cuh"

struct gemm_output {
    void *d; /* [tokens, n] of T or float, 16-byte aligned */
    const float *bias;
    uint32_t n;
    bool is_float;
};

/* Element (token, row) of D, row below n, from a sum with its bias. */
template <typename T>
static __device__ __forceinline__ void gemm_store(const gemm_output &out, uint32_t token,
                                                  uint32_t row, float sum)
{
    size_t at = (size_t)token * out.n + row;
    if (out.is_float)
        ((float *)out.d)[at] = sum;
    else
        ((T *)out.d)[at] = from_float<T>(sum);
}

#endif
