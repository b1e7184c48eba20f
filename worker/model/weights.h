/* weights: every tensor a forward pass needs, by role, with its shape and dtype checked.
 *
 * Tensors stay in the mapped checkpoint in its own dtype. A wrong checkpoint gets a sentence
 * that names the tensor, what was expected and what was found. Immutable after load. */
#ifndef GAGGLE_WORKER_MODEL_WEIGHTS_H
#define GAGGLE_WORKER_MODEL_WEIGHTS_H

#include "worker/model/config.h"
#include "worker/model/safetensors.h"

/* [rows, cols] row-major; a vector has rows == 1. data == NULL: the model has none. Otherwise data
 * is aligned to its dtype's size (4 or 2 bytes), and to no more: what lies misaligned in its file
 * is copied at load. dtypes may differ from weight to weight. */
typedef struct weight {
    const void *data;
    dtype type;
    uint32_t rows, cols;
} weight;

/* In the order a layer uses them; config.h says which of them a model has. Where the checkpoint
 * packs q, k and v, or gate and up, into one tensor, these are its row slices: one behind the
 * other. */
typedef struct layer_weights {
    weight input_norm; /* [1, hidden] */
    weight q, k, v;    /* [heads * head_dim, hidden], [kv_heads * head_dim, hidden] twice */
    weight q_bias, k_bias, v_bias, o_bias;
    weight q_norm, k_norm;      /* [1, head_dim] */
    weight o;                   /* [hidden, heads * head_dim] */
    weight post_attention_norm; /* [1, hidden], of what attention adds to the residual */
    weight mlp_norm;            /* [1, hidden], before the MLP */
    weight gate, up;            /* [intermediate, hidden] */
    weight down;                /* [hidden, intermediate] */
    weight gate_bias, up_bias, down_bias;
    weight post_mlp_norm; /* [1, hidden], of what the MLP adds to the residual */
} layer_weights;

typedef struct model {
    model_config config;
    generation_defaults defaults;
    weight embedding;      /* [vocab, hidden] */
    weight final_norm;     /* [1, hidden] */
    weight head;           /* [vocab, hidden]; the embedding when tied */
    layer_weights *layers; /* [config.layer_count] */
    uint64_t weight_bytes; /* of all tensors used */
    bool is_dummy;
    char revision[33];             /* hash over config and tensor table: equal files, equal text */
    struct model_storage *storage; /* NULL: not from model_load() */
} model;

typedef enum load_format {
    LOAD_SAFETENSORS, /* DIR/model.safetensors, or the shards of model.safetensors.index.json */
    LOAD_DUMMY,       /* random BF16 weights of DIR/config.json's shape; for benchmarks */
    /* The same for a backend that copies weights to memory of its own: a checkpoint's pages are not
     * read in before somebody reads them, and dummy weights are addresses of zeros for it to fill
     * as it likes (is_dummy). */
    LOAD_SAFETENSORS_UNREAD,
    LOAD_DUMMY_UNREAD,
} load_format;

/* `progress` (may be NULL) is called with bytes done and in all while pages are read in, by the
 * calling thread. What model_config_load() and safetensors_open() return; ST_NOT_FOUND for a
 * missing tensor; ST_RESOURCE_EXHAUSTED. On failure nothing stays open. */
MUST_USE status model_load(model **out, const char *dir, load_format format,
                           void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                           error *err);
void model_destroy(model *m); /* NULL is fine */

/* Copy `size` bytes of a weight, from `from` within its data, by the fastest way there is. What
 * safetensors_read() returns. Any thread. */
MUST_USE status model_read(const model *m, const void *from, size_t size, void *to, error *err);

/* Serve contexts of at most `tokens` (<= config.context_max), before a backend is made. This may
 * choose other rope frequencies (config.h); the revision then changes with them. */
void model_limit_context(model *m, uint32_t tokens);

#endif
