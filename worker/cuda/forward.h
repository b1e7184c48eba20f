/* forward: one step through the model, as kernels in the order in which they are enqueued.
 *
 *   embed, angles
 *   each layer   norm -> qkv -> rotate, store KV -> attention -> o          -> delta
 *                delta into the residual, norm -> gate, up -> activation -> down -> delta
 *   delta into the residual, norm of the rows whose logits are wanted -> head -> sample
 *
 * The residual stream is float. What attention and the MLP add to it comes as `delta`, float too,
 * and is added by the next norm, which also holds Gemma's norms of deltas and the scale of rows
 * that F16 could not hold: one seam for all families.
 *
 * Allocates nothing and never waits, so that a step can be captured in a graph. Engine thread. */
#ifndef GAGGLE_WORKER_CUDA_FORWARD_H
#define GAGGLE_WORKER_CUDA_FORWARD_H

#include "worker/cuda/gemm.h"
#include "worker/cuda/step_inputs.h"
#include "worker/cuda/upload.h"

/* Device memory of one step's rows; sizes for step_tokens T and step_sequences S. Queries, keys,
 * values and attention's output share the MLP's memory: one is dead when the other lives. */
typedef struct gpu_activations {
    float *residual;                /* [T, hidden] */
    float *delta;                   /* [T, hidden] */
    void *normed;                   /* [T, hidden] */
    void *qkv;                      /* [T, (heads + 2 kv_heads) * head_dim] */
    void *queries;                  /* [T, heads, head_stride] */
    void *attended;                 /* [T, heads * head_dim] */
    void *gate_up;                  /* [T, 2 * intermediate], float where T is F16 */
    void *inner;                    /* [T, intermediate] */
    float *row_scale;               /* [T]; NULL unless T is F16 */
    float *angles[MODEL_ROPES_MAX]; /* [T, rotary_dim / 2] pairs */
    float *logits;                  /* [S, logits_stride] */
    float *partials;                /* attention_decode_args */
    uint32_t *tickets;
    void *sample_workspace;
    void *gemm_workspace;
    uint32_t *last_sampled;   /* [device_slots] */
    uint16_t *penalty_counts; /* [device_slots, logits_stride] */
} gpu_activations;

typedef struct gpu_model {
    gpu *gpu;
    const model_config *config;
    gpu_weights weights;
    gpu_activations memory;
    gemm *gemm;
    float *frequencies[MODEL_ROPES_MAX]; /* device */
    uint32_t step_tokens, step_sequences, device_slots;
    uint32_t vocab_used, logits_stride; /* gpu_padded(the vocabulary) */
    uint32_t windows[STEP_WINDOWS_MAX], window_count;
    uint32_t context_max;
    void *kv;                /* [layers][2][kv_blocks + 1][kv_heads][16][head_stride] */
    uint64_t kv_layer_bytes; /* of one layer's keys, or values */
    uint32_t head_stride;
    bool batch_invariant;
} gpu_model;

/* Distinct windows of a model's layers. ST_UNIMPLEMENTED: more than STEP_WINDOWS_MAX. */
MUST_USE status forward_windows(const model_config *config, uint32_t windows[STEP_WINDOWS_MAX],
                                uint32_t *count, error *err);

/* Tokens that attention's prefill tiles have for this model and device. */
uint32_t forward_tile_tokens(const gpu_model *m);

/* Items that attention's decode wants in a step (attention_plan.h). */
uint32_t forward_items_wanted(const gpu_model *m);

/* Bytes that forward_allocate() takes. */
uint64_t forward_workspace_bytes(const gpu_model *m);
MUST_USE status forward_allocate(gpu_model *m, error *err);

/* Once, after the weights are there: shared memory limits, the GEMM's algorithms. Waits. */
MUST_USE status forward_prepare(gpu_model *m, error *err);

/* Layers and head: enqueue everything up to the logits of `view`'s samples. */
MUST_USE status forward_logits(gpu_model *m, const step_view *view, error *err);

/* Enqueue the samples; overwrites the logits. */
MUST_USE status forward_sample(gpu_model *m, const step_view *view, error *err);

#endif
