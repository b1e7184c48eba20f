/* gemm_skinny_sm90: gemm_skinny's products (gemm_skinny.h) on Hopper's tensor cores, faster from
 * about a dozen rows, but without its promise about bits. */
#ifndef GAGGLE_WORKER_CUDA_KERNELS_GEMM_SKINNY_SM90_H
#define GAGGLE_WORKER_CUDA_KERNELS_GEMM_SKINNY_SM90_H

#include "worker/cuda/kernels/gemm_skinny.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows that it can take. */
#define GEMM_SKINNY_SM90_ROWS 64u

/* Once, before the first launch, outside capture; cudaErrorInvalidValue unless
 * device->has_sm90a. */
cudaError_t gemm_skinny_sm90_init(const kernel_device *device);

/* Whether a weight's shape is one for this kernel: n at least 128, k at least 64. */
bool gemm_skinny_sm90_takes(const kernel_device *device, uint32_t n, uint32_t k);

/* D = X W^T + bias: gemm_skinny()'s contract with these differences.
 *
 * m          0..GEMM_SKINNY_SM90_ROWS
 * n, k       such that gemm_skinny_sm90_takes()
 * math       float sums. The same bits whenever m, n, k and the number of SMs are the same; a row's
 *            bits may differ between other row counts
 * arch       sm_90a */
cudaError_t gemm_skinny_sm90(void *d, kernel_dtype d_type, const void *x, const void *w,
                             const float *bias, uint32_t m, uint32_t n, uint32_t k,
                             kernel_dtype type, const gemm_skinny_workspace *workspace,
                             const kernel_device *device, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
