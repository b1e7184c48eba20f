/* attention: softmax(scale * q k^T) v of a step's new tokens over the paged KV of one layer.
 *
 *   s[j]  = scale * dot(q[t][h], K[j][g])       for keys j <= p, and p - j < window if window > 0
 *   s[j]  = softcap * tanh(s[j] / softcap)      if softcap > 0
 *   out[t][h] = sum_j exp(s[j]) V[j][g] / sum_j exp(s[j])        g = h / (heads / kv_heads)
 *
 * with p the absolute position of token t. Its own key is visible, so a row is never empty.
 *
 * q       [tokens, heads, head_stride] T, 16-byte aligned; elements from head_dim on are zero
 * out     [tokens, heads * head_dim] T, 4-byte aligned, not overlapping q
 * kv      kernel_types.h; key j of a sequence is row j % 16 of block block_tables[b + j / 16]
 * heads   a multiple of kv_heads; heads / kv_heads 1..ATTENTION_GROUP_MAX
 * head_dim even, 8..head_stride
 * scale > 0, softcap >= 0, window 0 (all keys) or more
 *
 * What is not visible is never used: blocks and positions outside of what an item may see may hold
 * anything, NaN too, and table entries past an item's last key are not read.
 *
 * Which tokens: flat arrays of self-contained items in device memory, made once a step by
 * worker/cuda/attention_plan.h and used by all layers of the same window. Tokens without an item
 * are not written.
 *
 * math    scores, maximum, sum and accumulation in float; exp2 to 2 ulp; probabilities are rounded
 *         to T before they meet V. Against the float64 reference, over a row: NMSE <= 1e-6 (F16)
 *         and 2e-5 (BF16), the rounding of T in P and out (2^-11 and 2^-9, squared, over 3)
 * archs   F16 from sm_75, BF16 from sm_80
 * source  online softmax: Milakov and Gimelshein, 2018, arXiv:1805.02867; tiling: Dao, 2023,
 *         arXiv:2307.08691; paged KV: Kwon et al., 2023, arXiv:2309.06180 */
#ifndef GAGGLE_WORKER_CUDA_KERNELS_ATTENTION_H
#define GAGGLE_WORKER_CUDA_KERNELS_ATTENTION_H

#include <stddef.h>

#include "worker/cuda/kernels/kernel_types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ATTENTION_GROUP_MAX 64u /* query heads of one KV head */

/* What is the same for all tokens of a layer. */
typedef struct attention_shape {
    uint32_t heads;
    uint32_t window; /* 0: all keys up to the token's own */
    float scale;
    float softcap; /* 0: none */
} attention_shape;

/* -- prefill: any number of tokens of a sequence ---------------------------------------
 *
 * An item is some consecutive tokens of one sequence, at most the launcher's tile: one block for
 * each item and KV head (or head). Sequences' keys up to the item's last token must be written.
 *
 * Invariance: a row's result depends on its own q, keys, values and position only, bit for bit;
 * not on how tokens are cut into items, nor on the items beside it. Key tiles start at multiples
 * of a fixed size from position 0, a row's tiles are added in order, and a tile in which a row sees
 * nothing leaves the row as it was. So a launcher that runs decode rows, too, (items of one token)
 * gives the same bits for a token however it is computed: --batch-invariant does that. What it
 * costs: one warp walks over all keys of a sequence and KV head. On an H200 with 8 KV heads of 128
 * mma's decode rows read 4.3 TB/s at 64 sequences of 4,096 keys, but 0.11 TB/s at one.
 *
 * cost    4 * head_dim * heads flop a visible (token, key) pair; keys and values are read once an
 *         item from L2 or memory */
typedef struct attention_prefill_item {
    uint32_t token;       /* row in q and out of its first token */
    uint32_t token_count; /* 1..tile; 0: nothing to do, so that a list can be padded */
    uint32_t position;    /* absolute, of its first token */
    uint32_t block_begin; /* in block_tables: the entry of its sequence's position 0 */
} attention_prefill_item;

typedef struct attention_prefill_args {
    kernel_kv kv;
    attention_shape shape;
    kernel_dtype dtype;
    const void *q;
    void *out;
    const attention_prefill_item *items; /* device [item_count], 16-byte aligned */
    const uint32_t *block_tables;        /* device */
    uint32_t item_count;
    uint32_t item_tokens_max; /* no item has more: lets decode rows run in small blocks */
} attention_prefill_args;

/* Tokens of an item that the launcher below takes at most, for a device and shape; the plan cuts
 * sequences into items of that many. sm90's is 0 where it does not cover the shape. */
uint32_t attention_prefill_mma_tile_tokens(const kernel_device *device, const kernel_kv *kv,
                                           const attention_shape *shape);
uint32_t attention_prefill_sm90_tile_tokens(const kernel_device *device, const kernel_kv *kv,
                                            const attention_shape *shape);

/* mma.sync, every architecture. */
cudaError_t attention_prefill_mma(const kernel_device *device, const attention_prefill_args *args,
                                  cudaStream_t stream);

/* wgmma and TMA; only with device->has_sm90a and a shape that its tile_tokens covers, otherwise
 * cudaErrorInvalidValue. Its bits differ from mma's. */
cudaError_t attention_prefill_sm90(const kernel_device *device, const attention_prefill_args *args,
                                   cudaStream_t stream);

/* The better of the two for this device and shape, whatever the items (attention_select.c). */
uint32_t attention_prefill_tile_tokens(const kernel_device *device, const kernel_kv *kv,
                                       const attention_shape *shape);
cudaError_t attention_prefill(const kernel_device *device, const attention_prefill_args *args,
                              cudaStream_t stream);

/* -- decode: one token a sequence -------------------------------------------------------
 *
 * An item is one token and a chunk of the keys it sees; a block takes one item and KV head, whose
 * query heads are rows of one 16-row tile. A token with one chunk is written at once; otherwise
 * (maximum, sum, sums of V) go to `partials`, and the block that comes last (an integer ticket)
 * adds the chunks up in their order. Chunks depend on how many keys the step has in all
 * (attention_plan.h), so the last bits of a token's result depend on the batch.
 *
 * Graphs: the grid depends on the device only; blocks walk over a list whose length is read from
 * device memory. One captured launch serves any lengths.
 *
 * Keys before a token's own must have been written by earlier steps (they are read ahead of the
 * kernel that comes before this one); its own key by any kernel before.
 *
 * cost    bytes of the visible keys and values, once; partials add 8 * heads * (head_stride + 2)
 *         bytes a chunk, which stay in L2 */
#define ATTENTION_CHUNKS_MAX 65u /* of one token */

typedef struct attention_decode_item {
    uint32_t token;       /* row in q and out */
    uint32_t block_begin; /* in block_tables: the entry of its sequence's position 0 */
    uint32_t key_begin;   /* this chunk's first visible key */
    uint32_t key_end;     /* one past its last; the token's own position + 1 in its last chunk */
    uint32_t chunk;       /* 0..chunk_count-1 */
    uint32_t chunk_count; /* of this token, 1..ATTENTION_CHUNKS_MAX */
    uint32_t slot_begin;  /* in partials: its token's first chunk's; unused with one chunk */
    uint32_t position;    /* of the token */
} attention_decode_item;

typedef struct attention_decode_args {
    kernel_kv kv;
    attention_shape shape;
    kernel_dtype dtype;
    const void *q;
    void *out;
    const attention_decode_item *items; /* device, 16-byte aligned */
    const uint32_t *item_count;         /* device */
    const uint32_t *block_tables;       /* device */
    float *partials;   /* device, attention_decode_partial_floats() * slots, 16-byte aligned */
    uint32_t *tickets; /* device [slots * kv_heads]: zero before the first launch; left zero */
} attention_decode_args;

/* Floats of one slot of `partials`, all heads. */
static inline size_t attention_decode_partial_floats(uint32_t heads, uint32_t head_stride)
{
    return (size_t)heads * (head_stride + 4);
}

/* Items that keep the device busy, at least 1: with fewer, chunks had better be smaller. */
uint32_t attention_decode_items_wanted(const kernel_device *device, const kernel_kv *kv,
                                       const attention_shape *shape);

cudaError_t attention_decode(const kernel_device *device, const attention_decode_args *args,
                             cudaStream_t stream);

/* Raise the kernels' shared memory limits: once a device, before any capture. */
cudaError_t attention_prefill_mma_prepare(const kernel_device *device);
cudaError_t attention_prefill_sm90_prepare(const kernel_device *device);
cudaError_t attention_decode_prepare(const kernel_device *device);

#ifdef __cplusplus
}
#endif

#endif
