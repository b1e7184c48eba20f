/* embed: the residual stream's beginning: rows of the embedding table.
 *
 *   residual[t][i] = scale * table[id(t)][i]
 *   id(t) = tokens[t], or last_sampled[tokens[t] & EMBED_SLOT_MASK] when EMBED_FROM_SLOT is set:
 *           an id that a step before sampled and that never left the device
 *
 * residual     [count, hidden] float, 16-byte aligned
 * table        [vocab, hidden] T, 16-byte aligned
 * tokens       [count] device; every id below vocab (nobody can check that here)
 * last_sampled [slots] device
 * count        0..16384; hidden a multiple of 2, 8..65536
 * math         exact but for the product with scale, in float
 * arch         sm_75 and later, BF16 from sm_80
 * cost         6 * count * hidden bytes */
#ifndef GAGGLE_WORKER_CUDA_KERNELS_EMBED_H
#define GAGGLE_WORKER_CUDA_KERNELS_EMBED_H

#include "worker/cuda/kernels/kernel_types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EMBED_FROM_SLOT 0x80000000u
#define EMBED_SLOT_MASK 0x7fffffffu

cudaError_t embed(const kernel_device *device, float *residual, const void *table,
                  kernel_dtype type, const uint32_t *tokens, const uint32_t *last_sampled,
                  uint32_t count, uint32_t hidden, float scale, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
