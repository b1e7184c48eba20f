/* kernels: the arithmetic of the CPU backend, one table of functions for each instruction set.
 *
 * All tables give the same bits for the same arguments (lanes.h says how), so which of them runs
 * is a matter of speed alone. A kernel knows tensors, never sequences or threads: the caller cuts
 * the work and hands each piece to a thread. No kernel allocates, and each output element depends
 * on its own inputs only, never on how many others are computed in the same call.
 *
 * Everything is float32 unless said otherwise; "stride" is the distance between rows in floats.
 * Buffers need no more alignment than their element type, weights not even that. */
#ifndef GAGGLE_WORKER_CPU_KERNELS_KERNELS_H
#define GAGGLE_WORKER_CPU_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"
#include "worker/model/safetensors.h"

/* out[t, r] = sum over k of in[t, k] * weight[r, k], (+ bias[r]), (+ what out[t, r] held)
 *
 * in      [tokens, cols], out [tokens, rows], bias [rows] or NULL; in and out do not overlap
 * weight  [rows, cols] row-major, dtype `type`: F32, F16 or BF16, widened exactly
 * ranges  tokens, rows, cols >= 1
 * Sum order: lanes.h, rule 1, over cols; then bias; then the old value.
 * Bytes: the weight once when in [tokens, cols] fits half the L2 cache. Flops: 2 tokens rows cols.
 */
typedef struct matmul {
    float *out;
    size_t out_stride;
    const float *in;
    size_t in_stride;
    const void *weight;
    dtype type;
    uint32_t tokens, rows, cols;
    const float *bias;
    bool accumulate;
} matmul;

/* Attention looks at positions in parts of this many, counted from position 0, and adds the parts
 * up in order; so parts of one sequence may be computed by different threads. */
#define ATTENTION_PART_TOKENS 512u
#define ATTENTION_PART_BLOCKS (ATTENTION_PART_TOKENS / LIMIT_KV_BLOCK_TOKENS)

/* The first position that one at `position` sees. */
static inline uint32_t attention_first_seen(uint32_t position, uint32_t window)
{
    return window == 0 || position < window ? 0 : position - window + 1;
}

/* Consecutive tokens of one sequence against one part of the positions of one KV head.
 *
 * Row r = token r / group, query head first_head + r % group, of tokens * group rows.
 * query       of the first row; token t, head h of the group at t * query_stride + h * head_dim.
 *             Already rotated and scaled.
 * position    of the first token; token t sees positions j <= position + t, and of them with a
 *             window (not 0) only those with position + t - j < window
 * softcap     not 0: scores s become softcap * tanh(s / softcap)
 * blocks      the sequence's KV block ids; kv + id * block_stride is that block of this KV head
 *             and layer: keys [head_dim, 16], values [16, value_stride] (cpu_backend.h draws it)
 * part        positions [part, part + 1) * ATTENTION_PART_TOKENS; rows that see none of them
 *             keep an undefined record
 * records     [tokens * group, attention_record_stride(head_dim)], out */
typedef struct attention_part {
    const float *query;
    size_t query_stride;
    uint32_t tokens, group, head_dim;
    uint32_t position, window;
    float softcap;
    const uint32_t *blocks;
    const float *kv;
    size_t block_stride;
    uint32_t part;
    float *records;
} attention_part;

/* One row's unfinished softmax: output sums, lane sums of the weights, their total, the maximum. */
static inline size_t attention_value_stride(uint32_t head_dim)
{
    return (head_dim + 15u) / 16u * 16u;
}

static inline size_t attention_record_stride(uint32_t head_dim)
{
    return attention_value_stride(head_dim) + 32u;
}

typedef struct cpu_kernels {
    const char *name; /* "AVX-512" */

    void (*matmul)(const matmul *m);

    void (*attention_part)(const attention_part *a);
    /* Add a later part's record of the same row to the sum of the earlier parts. */
    void (*attention_merge)(float *record, const float *later, uint32_t head_dim);
    /* out[head_dim] = what the record sums up to */
    void (*attention_finish)(float *out, const float *record, uint32_t head_dim);

    /* out[i] = in[i] * weight[i] / sqrt(mean of in^2 + eps); out may be in. */
    void (*rmsnorm)(float *out, const float *in, const float *weight, uint32_t count, float eps);
    /* Rotate the pairs (i, i + rotary_dim / 2) of each of `heads` vectors, then multiply all of it
     * by `scale`. cosines, sines [rotary_dim / 2] */
    void (*rope)(float *vectors, const float *cosines, const float *sines, uint32_t heads,
                 uint32_t head_dim, uint32_t rotary_dim, float scale);
    /* out[i] = gate[i] / (1 + exp(-gate[i])) * out[i] */
    void (*silu_multiply)(float *out, const float *gate, uint32_t count);
    /* out[i] = gate[i] / 2 * (1 + tanh(sqrt(2 / pi) * (gate[i] + 0.044715 * gate[i]^3))) * out[i]
     */
    void (*gelu_multiply)(float *out, const float *gate, uint32_t count);
    /* values[i] = cap * tanh(values[i] / cap) */
    void (*softcap)(float *values, float cap, size_t count);
    /* out[i] = in[i], exactly; `in` of dtype F32, F16 or BF16 */
    void (*widen)(float *out, const void *in, dtype type, size_t count);
    /* out[i] = exp(in[i]): at most 1 ulp off; 0 below -87, exp(88) above 88, NaN for NaN. */
    void (*exponential)(float *out, const float *in, uint32_t count);

    /* For the bench: `rounds` of nothing but multiply-adds in registers. Returns how many flops
     * that were; `sink` keeps the compiler honest. */
    uint64_t (*burn)(uint64_t rounds, float *sink);
} cpu_kernels;

/* The tables this machine can run, best first; *count of them, the portable one always last. */
const cpu_kernels *const *cpu_kernels_available(size_t *count);

#endif
