/* norm: the seams between a layer's parts: add to the residual, then RMSNorm of it.
 *
 *   d[i]        = delta[i] * row_scale                          (row_scale NULL: 1)
 *   d[i]        = d[i] / sqrt(mean(d^2) + eps) * post_weight[i] (post_weight NULL: d)
 *   residual[i] = residual[i] + d[i]                            (delta NULL: unchanged)
 *   y[i]        = T(residual[i] / sqrt(mean(residual^2) + eps) * weight[i])  (y NULL: nothing)
 *
 * for each row t; with `rows`, output row o is made from row rows[o] of residual, delta and
 * row_scale, and no row may be named twice while delta is given.
 *
 * residual    [tokens, hidden] float, 16-byte aligned, updated in place
 * delta       [tokens, hidden] float, 16-byte aligned, or NULL
 * row_scale   [tokens] float, or NULL
 * post_weight, weight  [hidden] float, 16-byte aligned; nothing writes them while a step runs
 * y           [count, hidden] T, 16-byte aligned
 * rows        [count] device, or NULL
 * count       0..16384; hidden a multiple of 2, 8..65536
 * math        float sums in an order that depends on hidden alone
 * arch        sm_75 and later, BF16 from sm_80
 * cost        14 * count * hidden bytes with delta and y; launched with programmatic overlap
 * source      Zhang and Sennrich, 2019, arXiv:1910.07467 */
#ifndef GAGGLE_WORKER_CUDA_KERNELS_NORM_H
#define GAGGLE_WORKER_CUDA_KERNELS_NORM_H

#include "worker/cuda/kernels/kernel_types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct residual_norm_args {
    float *residual;
    const float *delta, *row_scale, *post_weight;
    void *y;
    kernel_dtype type; /* of y */
    const float *weight;
    const uint32_t *rows;
    uint32_t count, hidden;
    float eps;
} residual_norm_args;

cudaError_t residual_norm(const kernel_device *device, const residual_norm_args *args,
                          cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
