/* gemm_skinny: a product with few rows, bound by reading the weights once.
 *
 *   D[m][n] = sum over k of X[m][k] * W[n][k]  (+ bias[n]) */
#ifndef GAGGLE_WORKER_CUDA_KERNELS_GEMM_SKINNY_H
#define GAGGLE_WORKER_CUDA_KERNELS_GEMM_SKINNY_H

#include "worker/cuda/kernels/kernel_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Up to how many rows this is faster than cuBLASLt (bench/kernels/bench_gemm.cu). */
#define GEMM_SKINNY_ROWS 16u

/* Sums that were cut into parts meet in the workspace: partial sums, then tickets. The parts are
 * never more than what is there; with less, sums are cut less. */
#define GEMM_SKINNY_TICKETS       8192u
#define GEMM_SKINNY_PARTIAL_BYTES ((size_t)32 << 20)

typedef struct gemm_skinny_workspace {
    float *partials;   /* [GEMM_SKINNY_PARTIAL_BYTES], 16-byte aligned; content does not matter */
    uint32_t *tickets; /* [GEMM_SKINNY_TICKETS], zero before the first launch; left zero by each */
} gemm_skinny_workspace;

/* Raise the kernels' limits of shared memory; once, before the first launch, outside capture. */
cudaError_t gemm_skinny_init(const kernel_device *device);

/* D = X W^T + bias.
 *
 * d          [m, n] of d_type: `type` or KERNEL_F32; row-major, 16-byte aligned; overlaps nothing
 * x          [m, k] of `type`, row-major, 16-byte aligned
 * w          [n, k] of `type`, row-major, 16-byte aligned; constant: read before the kernels ahead
 *            on the stream are done
 * bias       [n] float, or NULL
 * type       KERNEL_F16, or KERNEL_BF16 from code_arch 80
 * m          0..16384; made for up to GEMM_SKINNY_ROWS, right for all
 * n          1..2^20
 * k          8..2^20, a multiple of 8
 * workspace  of one stream at a time
 * math       float sums. K is cut into 8 chunks of a multiple of 64 (the last may be short or
 *            empty); each is summed by the tensor cores in ascending order, and the 8 sums are
 *            added as a balanced tree, whoever computes them: a row's bits depend on its own x, w,
 *            bias, n, k and the architecture's mma only, never on m, the row's place, the device's
 *            size or the tile that was chosen. Within the rounding of d_type and
 *            2^-19 * sum|x w| of the exact sum (k <= 16384). NaN and infinity go where they would
 *            in float arithmetic; F16 overflows to infinity
 * arch       sm_75 (F16), sm_80 and later
 * cost       2 m n k flops; 2 n k bytes, plus 2 m k a tile of rows from L2 */
cudaError_t gemm_skinny(void *d, kernel_dtype d_type, const void *x, const void *w,
                        const float *bias, uint32_t m, uint32_t n, uint32_t k, kernel_dtype type,
                        const gemm_skinny_workspace *workspace, const kernel_device *device,
                        cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
