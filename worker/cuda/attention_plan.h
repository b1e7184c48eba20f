/* attention_plan: which token meets which keys in which block, for all layers of a step.
 *
 * Pure: sequences in, item lists out (worker/cuda/kernels/attention.h says what an item is). The
 * lists differ between layers only where their windows differ: one decode list for each window of
 * the model; the prefill list serves all. Any thread. */
#ifndef GAGGLE_WORKER_CUDA_ATTENTION_PLAN_H
#define GAGGLE_WORKER_CUDA_ATTENTION_PLAN_H

#include "worker/cuda/kernels/attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One sequence's part of a step. */
typedef struct attention_sequence {
    uint32_t token_begin; /* row of its first token in q and out */
    uint32_t token_count;
    uint32_t position;    /* of its first token: the number of keys before it */
    uint32_t block_begin; /* its first entry in the step's block tables */
} attention_sequence;

/* A decode chunk has at least this many keys: they cost 3 % of their KV bytes in partial results at
 * 4 heads a KV head. */
#define ATTENTION_CHUNK_TOKENS 256u

/* Items of token_count tokens in sequences that tile_tokens cuts: never more. */
static inline size_t attention_plan_prefill_items_max(size_t token_count, size_t sequence_count,
                                                      uint32_t tile_tokens)
{
    return token_count / tile_tokens + sequence_count;
}

/* Decode items, and slots of `partials`, of at most `sequence_count` sequences of at most
 * context_max tokens: never more. */
size_t attention_plan_decode_items_max(size_t sequence_count, uint32_t context_max,
                                       uint32_t items_wanted);

/* Items of tile_tokens tokens, those with most work first, so that the last blocks to run are
 * short ones. tile_tokens >= 1; writes and returns at most attention_plan_prefill_items_max(). */
size_t attention_plan_prefill(const attention_sequence *sequences, size_t sequence_count,
                              uint32_t tile_tokens, attention_prefill_item *items);

/* Items of sequences of one token each, long ones before short ones.
 *
 * A step has one size of chunk, a power of two: the largest with which all keys of the step still
 * give items_wanted items, since every cut costs (64 sequences of 4,096 keys on an H200: in chunks
 * of 256 at 65 % of the speed of memory, whole at 110 % of a copy's), but idle blocks cost more.
 * items_wanted >= 1: attention_decode_items_wanted(). */
size_t attention_plan_decode(const attention_sequence *sequences, size_t sequence_count,
                             uint32_t window, uint32_t items_wanted, attention_decode_item *items);

#ifdef __cplusplus
}
#endif

#endif
