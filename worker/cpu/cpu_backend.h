/* cpu_backend: what the files of the CPU backend share. Private to this folder and its tests.
 *
 * One backend object holds everything: nothing is allocated during a step. Engine thread only; the
 * pool's threads see it while that thread waits for them.
 *
 * Keys and values are float32 whatever the checkpoint's dtype: nothing is rounded on the way to
 * the logits but sums, one attention kernel serves all checkpoints, and up to some thousand tokens
 * of context decode reads far more weights than KV anyway. (16-bit KV would halve that traffic
 * beyond. It belongs into attention's loads, and would change every logit.)
 *
 *   kv  [layer][block][kv head] of one head's block:
 *
 *       keys    [head_dim][16 positions]        values  [16 positions][value stride]
 *       d=0     p0 p1 p2 ... p15                p0      d0 d1 ... d(head_dim-1) 0 ...
 *       d=1     p0 p1 p2 ... p15                p1      d0 d1 ...
 *       ...                                     ...
 *
 *   Keys have the position as the fast index, so that one vector of sixteen lanes scores a whole
 *   block; values the dimension, so that one weight multiplies a vector of outputs. The value
 *   stride is head_dim rounded up to 16; what lies beyond head_dim stays zero.
 *
 * Scratch, in bytes, for T = step_tokens, rows in floats:
 *
 *   residual   T * hidden                                   the sum all layers add to
 *   narrow     T * max(hidden, heads * head_dim)            normed input, or attention's output
 *   wide       T * max((heads + 2 kv heads) * head_dim, intermediate)    q k v, or the MLP's inside
 *              (and at least hidden where o's output is normed before it is added)
 *   angles     T * ropes * rotary_dim                       cosines and sines
 *   gate       threads * T * GATE_ROWS
 *   records    threads * 2 * rows of an attention tile * record stride
 *   partials   <= PARTIALS_BYTES                            attention parts awaiting their sum
 *   logits     <= LOGITS_BYTES, or one row
 *   samplers   <= SAMPLERS_BYTES, or one
 *   vectors    norms and biases, widened
 *
 * The default T is chosen so that the first five stay below ACTIVATION_BYTES. 24 + 4 + 16 + 12 MiB
 * and the small things leave some MiB for code, stacks and malloc: a process stays within
 * weights + KV + 64 MiB. */
#ifndef GAGGLE_WORKER_CPU_CPU_BACKEND_H
#define GAGGLE_WORKER_CPU_CPU_BACKEND_H

#include "worker/backend.h"
#include "worker/cpu/kernels/kernels.h"
#include "worker/cpu/thread_pool.h"

#define ACTIVATION_BYTES (24u * LIMIT_MIB)
#define LOGITS_BYTES     (16u * LIMIT_MIB)
#define PARTIALS_BYTES   (4u * LIMIT_MIB)
#define SAMPLERS_BYTES   (12u * LIMIT_MIB)

/* Weights are read once for so many tokens, which is far past being bound by memory. */
#define STEP_TOKENS_DEFAULT    256u
#define STEP_SEQUENCES_DEFAULT 64u
#define SAMPLER_TOKEN_BYTES    20u /* a sampler's scratch for each token of the vocabulary */
#define SAMPLERS_MAX           4u  /* rows sampled at once */
#define GATE_ROWS              64u /* of the MLP that one item computes before the activation */
#define ATTENTION_TILE_ROWS    64u /* (token, head) rows that read a KV block while it is in L1 */

/* Multiply-adds below which waking other threads costs more than they bring. */
#define SERIAL_WORK 65536u

/* A layer's vectors, widened, norms as what they multiply by; NULL where the model has none. */
typedef struct cpu_layer {
    const float *input_norm, *mlp_norm, *post_attention_norm, *post_mlp_norm;
    const float *q_norm, *k_norm;
    const float *q_bias, *k_bias, *v_bias, *o_bias;
    const float *gate_bias, *up_bias, *down_bias;
} cpu_layer;

/* Consecutive tokens of one sequence that attend together. */
typedef struct attention_tile {
    uint32_t token; /* first, in the step */
    uint32_t token_count;
    uint32_t position; /* of the first */
    const uint32_t *blocks;
} attention_tile;

typedef struct cpu_backend {
    backend base;
    const model *model;
    const cpu_kernels *kernels;
    thread_pool *pool;

    float *vectors;
    cpu_layer *layers; /* [layer_count] */
    const float *final_norm;
    float *rope_frequencies; /* [rope_count][rotary_dim / 2] */

    float *kv;
    uint64_t kv_bytes;
    size_t head_block_floats; /* one head's keys and values of one block */

    float *residual, *narrow, *wide, *angles;
    size_t narrow_stride, wide_stride;
    float *gate;    /* [threads][step_tokens][GATE_ROWS] */
    float *records; /* [threads][2][records_floats] */
    size_t records_floats;
    float *partials;
    size_t partials_floats;
    float *logits; /* [logits_rows][vocab] */
    uint32_t logits_rows;

    uint32_t *positions;    /* [step_tokens] */
    uint32_t *kv_blocks;    /* [step_tokens], the block each token's KV goes to */
    uint32_t *wanted;       /* [step_sequences], sequences whose logits are wanted */
    status *row_status;     /* [logits_rows] */
    sampled_token *sampled; /* [step_sequences] of the last step, the first sampled_count */
    uint32_t sampled_count;

    attention_tile *tiles; /* [step_tokens] */
    uint32_t tile_tokens;  /* at most, of a tile */
    uint32_t tile_count;
    uint32_t part_count; /* 1, or parts to compute apart and add up afterwards */
    uint64_t attention_work;

    sampler *samplers[SAMPLERS_MAX];
    uint32_t sampler_count;
    uint32_t vocab_used;
} cpu_backend;

/* cpu_backend_create() with kernels of the caller's choice; a test's way to compare them. */
MUST_USE status cpu_backend_create_with(backend **out, const model *m,
                                        const backend_options *options, const cpu_kernels *kernels,
                                        error *err);

/* forward.c: one step; see backend.h. */
MUST_USE status cpu_forward(cpu_backend *b, const step_plan *plan, sampled_token *sampled,
                            error *err);

/* attention_plan.c: cut the step's attention into items once, run them in every layer. Queries are
 * in `wide`, rotated and scaled; the result goes to `narrow`. */
void attention_plan_make(cpu_backend *b, const step_plan *plan);
void attention_plan_run(cpu_backend *b, uint32_t layer);

/* Run items on the pool, or here when the work (multiply-adds) is small. */
void cpu_run_items(cpu_backend *b, uint32_t count, uint64_t work, thread_pool_item run, void *ctx);

/* A token's angles: for each rope rotary_dim / 2 cosines, then as many sines. */
static inline size_t cpu_angles_stride(const cpu_backend *b)
{
    return (size_t)b->model->config.rope_count * b->model->config.rotary_dim;
}

/* One head's block in a layer. */
static inline float *cpu_kv_block(const cpu_backend *b, uint32_t layer, uint32_t block,
                                  uint32_t head)
{
    uint64_t index = (uint64_t)layer * b->base.capacity.kv_blocks + block;
    return b->kv + (index * b->model->config.kv_head_count + head) * b->head_block_floats;
}

#endif
