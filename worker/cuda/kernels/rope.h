/* rope: rotate queries and keys, and put keys and values where attention reads them.
 *
 * rope_angles, once a step and way of rotating:
 *   angles[t][i] = factor * (cos, sin)(float(positions[t]) * frequencies[i])
 *
 * rope_write, once a layer, for each token t:
 *   q[h], k[g]  are normed first where q_norm, k_norm are given: x / sqrt(mean(x^2) + eps) * w,
 *               over the head's head_dim elements
 *   the first rotary_dim elements turn in pairs (i, i + rotary_dim / 2):
 *               (a, b) -> (a cos - b sin, b cos + a sin)
 *   q_out[t][h] gets the query; K and V of row kv_rows[t] in `kv` get key and value; elements from
 *               head_dim to head_stride become zero
 *
 * positions    [tokens] device
 * frequencies  [rotary_dim / 2] float, device
 * angles       [tokens, rotary_dim / 2] float2, 16-byte aligned
 * qkv          [tokens, (heads + 2 * kv.kv_heads) * head_dim] T: queries, keys, values; 16-byte
 *              aligned
 * q_norm, k_norm [head_dim] float, both or neither
 * q_out        [tokens, heads, head_stride] T, 16-byte aligned, not overlapping qkv
 * kv_rows      [tokens] device: block * KERNEL_KV_BLOCK + place; two tokens share one only in a
 *              spare block that nobody reads
 * tokens       0..16384
 * rotary_dim   even, 2..head_dim; head_dim even, up to head_stride
 * heads        1 or more; with twice the KV heads at most 4096
 * math         float; cosines and sines to 2 ulp at any position; results rounded to T once
 * arch         sm_75 and later, BF16 from sm_80
 * cost         about 4 bytes an element of qkv; launched with programmatic overlap
 * source       Su et al., 2021, arXiv:2104.09864 */
#ifndef GAGGLE_WORKER_CUDA_KERNELS_ROPE_H
#define GAGGLE_WORKER_CUDA_KERNELS_ROPE_H

#include "worker/cuda/kernels/kernel_types.h"

#ifdef __cplusplus
extern "C" {
#endif

cudaError_t rope_angles(const kernel_device *device, float *angles, const uint32_t *positions,
                        const float *frequencies, uint32_t tokens, uint32_t rotary_dim,
                        float factor, cudaStream_t stream);

typedef struct rope_write_args {
    void *q_out;
    kernel_kv kv;
    kernel_dtype type;
    const void *qkv;
    const float *angles;
    const uint32_t *kv_rows;
    const float *q_norm, *k_norm;
    uint32_t tokens, heads, rotary_dim;
    float eps;
} rope_write_args;

cudaError_t rope_write(const kernel_device *device, const rope_write_args *args,
                       cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
