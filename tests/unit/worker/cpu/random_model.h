/* random_model: small models with random weights, made in memory, for the tests of the CPU backend;
 * and the one way these tests run a sequence. */
#ifndef GAGGLE_TESTS_WORKER_CPU_RANDOM_MODEL_H
#define GAGGLE_TESTS_WORKER_CPU_RANDOM_MODEL_H

#include "tests/unit/worker/engine/test_random.h"
#include "worker/cpu/cpu_backend.h"

typedef struct model_shape {
    const char *name;
    uint32_t hidden, intermediate, layers, heads, kv_heads, head_dim, vocab;
    dtype type;
    bool qkv_bias, output_bias, mlp_bias, tied;
    rope_scaling scaling;
    /* What only some families have; 0 and false: none. */
    uint32_t window;     /* of layers 0, 2, 4... */
    uint32_t rotary_dim; /* 0: head_dim */
    bool local_rope;     /* layers with a window rotate by another base */
    bool qk_norm, sandwich_norms, norm_plus_one, gelu;
    float embedding_scale, attention_scale, attention_softcap, final_softcap;
} model_shape;

float random_spread(test_random *r, float low, float high);

/* The same shape and seed give the same model. Norms are F32 whatever the matrices are, as some
 * checkpoints have it, when the seed is odd. */
model *random_model_create(const model_shape *shape, uint64_t seed);
void random_model_destroy(model *m);

/* One weight element as a double. */
double weight_at(const weight *w, uint32_t row, uint32_t col);

/* CHECKs that creation succeeds. kv_blocks blocks exactly. */
backend *test_backend_create(const model *m, const cpu_kernels *kernels, uint32_t threads,
                             uint32_t kv_blocks, uint32_t step_tokens);

/* A step of one sequence; logits [vocab] or NULL, of its last token. */
void run_tokens_alone(backend *b, const uint32_t *ids, uint32_t count, uint32_t position,
                      const uint32_t *blocks, uint32_t block_count, float *logits);

#endif
