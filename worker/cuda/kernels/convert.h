/* convert: weights on their way in: another element type, or numbers out of nothing.
 *
 * source  of source_type (F16, BF16 or F32), aligned to its element
 * out     of out_type (F16, BF16 or F32), 16-byte aligned; may not overlap source
 * add     added in float before rounding (1 for norms whose weight counts as 1 + w; otherwise 0)
 * counts  device, two of them, or NULL: counts[0] grows by the finite elements that became infinite
 *         in out_type, counts[1] by those not zero that became zero
 * elements 0..2^40
 * arch    sm_75 and later, all types
 * cost    bytes of both */
#ifndef GAGGLE_WORKER_CUDA_KERNELS_CONVERT_H
#define GAGGLE_WORKER_CUDA_KERNELS_CONVERT_H

#include "worker/cuda/kernels/kernel_types.h"

#ifdef __cplusplus
extern "C" {
#endif

cudaError_t convert_elements(void *out, kernel_dtype out_type, const void *source,
                             kernel_dtype source_type, uint64_t elements, float add,
                             unsigned long long *counts, cudaStream_t stream);

/* out[i] of mean 0 and the given standard deviation (the sum of a few uniform numbers): a function
 * of (seed, i) alone. out_type F16 or BF16. */
cudaError_t fill_random(void *out, kernel_dtype out_type, uint64_t elements, float deviation,
                        uint64_t seed, cudaStream_t stream);

cudaError_t fill_constant(float *out, uint64_t elements, float value, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
