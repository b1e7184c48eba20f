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

typedef struct layer_weights {
    weight input_norm; /* [1, hidden] */
    weight q, k, v;    /* [heads * head_dim, hidden], [kv_heads * head_dim, hidden] twice */
    weight q_bias, k_bias, v_bias, o_bias;
    weight o;        /* [hidden, heads * head_dim] */
    weight mlp_norm; /* [1, hidden] */
    weight gate, up; /* [intermediate, hidden] */
    weight down;     /* [hidden, intermediate] */
    weight gate_bias, up_bias, down_bias;
} layer_weights;

typedef struct model {
    model_config config;
    generation_defaults defaults;
    weight embedding;      /* [vocab, hidden] */
    weight final_norm;     /* [1, hidden] */
    weight head;           /* [vocab, hidden]; the embedding when tied */
    layer_weights *layers; /* [config.layer_count] */
    uint64_t weight_bytes; /* of all tensors used */
    char revision[33];     /* hash over config and tensor table: equal files, equal text */
    struct model_storage *storage;
} model;

typedef enum load_format {
    LOAD_SAFETENSORS, /* DIR/model.safetensors, or the shards of model.safetensors.index.json */
    LOAD_DUMMY,       /* random BF16 weights of DIR/config.json's shape; for benchmarks */
} load_format;

/* `progress` (may be NULL) is called with bytes done and in all while pages are read in, by the
 * calling thread. What model_config_load() and safetensors_open() return; ST_NOT_FOUND for a
 * missing tensor; ST_RESOURCE_EXHAUSTED. On failure nothing stays open. */
MUST_USE status model_load(model **out, const char *dir, load_format format,
                           void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                           error *err);
void model_destroy(model *m); /* NULL is fine */

#endif
