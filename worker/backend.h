/* backend: the narrow door between the engine and a device.
 *
 * A backend holds the weights and the KV blocks of one model on one device and runs steps. It
 * knows nothing of requests, text or scheduling; the engine knows nothing of devices. Backends:
 * cpu/ (plain C; the reference) and cuda/.
 *
 * Engine thread only. Steps run in the order in which they were submitted, each as if the ones
 * before it were over: a block that one step reads may be given to the next.
 *
 * Determinism: a CPU step, and a batch-invariant CUDA step, gives each output row as a fixed-order
 * function of that row's own inputs, so a sequence's logits are bit-identical in any batch, chunked
 * or whole, cached or not. */
#ifndef GAGGLE_WORKER_BACKEND_H
#define GAGGLE_WORKER_BACKEND_H

#include "worker/engine/sampling.h"
#include "worker/model/weights.h"

/* One sequence's part of a step: `token_count` tokens whose first has absolute position
 * `position`. KV of positions [0, position) is in the blocks already; the step writes the rest.
 * Sum of position + token_count <= block_count * LIMIT_KV_BLOCK_TOKENS. */
typedef struct step_sequence {
    uint32_t token_begin; /* index of its first token in step_plan.tokens */
    uint32_t token_count; /* >= 1 */
    uint32_t position;
    const uint32_t *blocks; /* [block_count] KV block ids in order of position */
    uint32_t block_count;
    bool wants_sample; /* sample after its last token; false inside a chunked prefill */
    uint64_t key;      /* names the sequence; never used for another one */
    uint32_t slot;     /* below backend_slots(); no other sequence has it until this one's last
                          step is collected */
    const sampling_params *sampling; /* with wants_sample; engine's, until the step is submitted */
    sampling_context context;        /* the same */
    float *logits_out; /* [vocab] or NULL: raw logits after its last token; written by collect() */
} step_sequence;

/* In place of an input id: the one that the step before sampled for this sequence, which nobody has
 * collected yet. Only a sequence's last id, and only where capacity.steps_ahead > 0. */
#define STEP_TOKEN_PENDING UINT32_MAX

typedef struct step_plan {
    const uint32_t *tokens; /* [token_count] input ids, sequences behind each other; the plan and
                               all it points to but logits_out is the caller's again once
                               submitted */
    uint32_t token_count;   /* 1..capacity.step_tokens */
    const step_sequence *sequences;
    uint32_t sequence_count; /* 1..capacity.step_sequences */
} step_plan;

typedef struct backend_capacity {
    uint32_t kv_blocks;      /* of LIMIT_KV_BLOCK_TOKENS tokens; ids 0..kv_blocks-1 */
    uint64_t kv_block_bytes; /* all layers, K and V */
    uint32_t step_tokens;
    uint32_t step_sequences;
    uint32_t
        steps_ahead; /* steps that may be submitted before an earlier one is collected; 0 or 1 */
} backend_capacity;

typedef struct backend backend;

typedef struct backend_class {
    /* Start a step; at most steps_ahead others are uncollected. */
    status (*submit)(backend *b, const step_plan *plan, error *err);
    /* Wait for the oldest step that is not collected: one token for each sequence with
     * wants_sample, in plan order, into `sampled`.
     * From either, and then the worker must not go on: ST_UNAVAILABLE, the device is broken, so
     * that another worker may go on with its answers; ST_INTERNAL, the model's numbers are. */
    status (*collect)(backend *b, sampled_token *sampled, error *err);
    void (*destroy)(backend *b);
} backend_class;

/* First member of every backend's own struct. */
struct backend {
    const backend_class *class;
    backend_capacity capacity;
    char device[128]; /* for people: "cpu: AMD EPYC, 2 threads, AVX-512" */
    /* How it computes: with the same weights, backends of equal text give equal bits. Empty: bits
     * also depend on what else is in a step. */
    char numerics[64];
};

typedef struct backend_options {
    uint32_t threads;        /* CPU: 0 = all cores this process may use */
    uint64_t kv_bytes;       /* memory for KV; 0 = chosen by the backend from what is free */
    uint32_t step_tokens;    /* 0 = the backend's default */
    uint32_t step_sequences; /* 0 = the backend's default */
    uint32_t vocab_used;     /* ids at and above are padding; 0 = the model's vocab_size */
    /* CUDA: */
    uint32_t device_ordinal;
    uint32_t context_max;      /* of any sequence; 0 = the model's */
    double memory_utilization; /* share of the device's memory; 0 = the backend's default */
    bool batch_invariant;      /* a row's bits depend on its own sequence alone */
    bool eager;                /* no CUDA graphs; for tests */
    bool plan_only;            /* work out what memory would be used for, and stop */
    uint64_t fail_device_call; /* for tests: the Nth call of the device fails; 0 = none */
} backend_options;

/* `m` must outlive it. ST_RESOURCE_EXHAUSTED: the KV memory could not be had; says how much. */
MUST_USE status cpu_backend_create(backend **out, const model *m, const backend_options *options,
                                   error *err);

static inline status backend_submit(backend *b, const step_plan *plan, error *err)
{
    return b->class->submit(b, plan, err);
}

static inline status backend_collect(backend *b, sampled_token *sampled, error *err)
{
    return b->class->collect(b, sampled, err);
}

/* A step from beginning to end, when no other is under way. */
static inline status backend_step(backend *b, const step_plan *plan, sampled_token *sampled,
                                  error *err)
{
    status st = backend_submit(b, plan, err);
    return st == ST_OK ? backend_collect(b, sampled, err) : st;
}

/* Sequences that can be known at once: all of the engine's, and those that ended while a step with
 * them was under way. */
static inline uint32_t backend_slots(const backend_capacity *capacity)
{
    return LIMIT_STREAMS_PER_LINK + (capacity->steps_ahead + 1) * capacity->step_sequences;
}

static inline void backend_destroy(backend *b)
{
    if (b != NULL) b->class->destroy(b);
}

#endif
