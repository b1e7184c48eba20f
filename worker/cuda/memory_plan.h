/* memory_plan: what a model needs of a device, and how many KV blocks are left for it. Pure.
 *
 *   weights    every tensor, in T (2 bytes an element); norms and biases in float
 *   workspace  activations of a step's tokens, logits of its rows, inputs, the kernels' own
 *   graphs     captured decode steps: what one takes, as measured, times the buckets
 *   kv         the rest of the device's share: whole blocks
 *
 * The share is --gpu-memory-utilization of all the device's memory, less what others hold of it
 * already. */
#ifndef GAGGLE_WORKER_CUDA_MEMORY_PLAN_H
#define GAGGLE_WORKER_CUDA_MEMORY_PLAN_H

#include "worker/backend.h"

typedef struct memory_request {
    const model_config *config;
    uint32_t step_tokens, step_sequences;
    uint64_t total_bytes, free_bytes;       /* of the device, before anything of ours */
    double utilization;                     /* (0, 1] */
    uint64_t kv_bytes;                      /* asked for by hand; 0 = what is left */
    uint64_t weight_bytes, workspace_bytes; /* counted by who allocates them */
    uint64_t graph_bytes;
} memory_request;

typedef struct memory_plan {
    uint64_t weight_bytes, workspace_bytes, graph_bytes, kv_bytes, share_bytes, others_bytes;
    uint64_t kv_block_bytes;
    uint32_t kv_blocks; /* that the scheduler may use; one more is allocated, for padding rows */
    uint32_t head_stride;
} memory_plan;

/* head_dim's row in the KV cache; 0 when no kernel covers it. */
uint32_t memory_plan_head_stride(uint32_t head_dim);

/* ST_RESOURCE_EXHAUSTED: not even one sequence's blocks are left, says what takes how much;
 * ST_UNIMPLEMENTED: head_dim. */
MUST_USE status memory_plan_make(memory_plan *plan, const memory_request *request, error *err);

/* For people: a few lines, each ended. Returns what snprintf returns. */
int memory_plan_describe(const memory_plan *plan, uint32_t context_max, char *text, size_t size);

#endif
