/* activation: the inside of a gated MLP, and the cap on logits.
 *
 *   a[t][i]   = f(gate[t][i]) * up[t][i]        f = x / (1 + e^-x), or GELU in its tanh form
 *   out[t][i] = T(a[t][i] / row_scale[t])
 *
 * row_scale NULL: no scaling. Otherwise it is written: the least power of two >= 1 that brings
 * every element of the row to 2^14 or below, so that a row which F16 could not hold is 1 times
 * itself for all others; whoever multiplies `out` on gives the scale back (norm.h).
 *
 * gate_up   [tokens, 2 * inner] of in_type (T or KERNEL_F32): gate first; 16-byte aligned
 * out       [tokens, inner] T, 16-byte aligned, not overlapping gate_up
 * tokens    0..16384; inner a multiple of 2, 8..262144
 * math      float
 * arch      sm_75 and later, BF16 from sm_80
 * cost      6 (T) or 10 (float) bytes an element of out; launched with programmatic overlap
 * source    Shazeer, 2020, arXiv:2002.05202; Hendrycks and Gimpel, 2016, arXiv:1606.08415 */
#ifndef GAGGLE_WORKER_CUDA_KERNELS_ACTIVATION_H
#define GAGGLE_WORKER_CUDA_KERNELS_ACTIVATION_H

#include "worker/cuda/kernels/kernel_types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum gated_function { GATED_SILU, GATED_GELU_TANH } gated_function;

cudaError_t gated_activation(const kernel_device *device, void *out, kernel_dtype type,
                             const void *gate_up, kernel_dtype in_type, gated_function function,
                             float *row_scale, uint32_t tokens, uint32_t inner,
                             cudaStream_t stream);

/* x = cap * tanh(x / cap), in place: [rows, cols] float with cols a multiple of 4, 16-byte aligned;
 * cap > 0. */
cudaError_t softcap_rows(const kernel_device *device, float *x, uint32_t rows, uint32_t cols,
                         float cap, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
