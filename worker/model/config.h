/* model config: one description of a decoder, read from config.json, that drives every backend.
 *
 * Families differ only in the values here and in their tensor names (weights.h). Adding a family
 * touches config.c (what its config.json calls things) and its tests. Plain value after load;
 * any thread may read. */
#ifndef GAGGLE_WORKER_MODEL_CONFIG_H
#define GAGGLE_WORKER_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"
#include "common/status.h"

typedef enum rope_scaling {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR,
    ROPE_SCALING_LLAMA3
} rope_scaling;

#define MODEL_EOS_IDS_MAX 16u

typedef struct model_config {
    char architecture[64]; /* "LlamaForCausalLM" */
    uint32_t vocab_size;   /* rows of the embedding; may exceed the tokenizer's */
    uint32_t hidden_size;
    uint32_t intermediate_size;
    uint32_t layer_count;
    uint32_t head_count; /* query heads; a multiple of kv_head_count */
    uint32_t kv_head_count;
    uint32_t head_dim;    /* even; not always hidden_size / head_count */
    uint32_t context_max; /* max_position_embeddings */
    float rms_norm_eps;
    bool tie_embeddings; /* the output head is the embedding */
    bool qkv_bias;       /* q, k and v projections have a bias */
    bool output_bias;    /* the o projection too (attention_bias of Llama) */
    bool mlp_bias;

    double rope_theta;
    rope_scaling rope_scaling;
    double rope_factor;             /* linear, llama3 */
    double rope_low_freq_factor;    /* llama3 */
    double rope_high_freq_factor;   /* llama3 */
    uint32_t rope_original_context; /* llama3 */

    uint32_t bos_id; /* UINT32_MAX = none */
    uint32_t eos_ids[MODEL_EOS_IDS_MAX];
    uint32_t eos_count;
} model_config;

/* generation_config.json's sampling defaults; a flag says which were there. The others are neutral:
 * temperature 1, top_k 0, top_p 1, min_p 0, repetition_penalty 1. */
typedef struct generation_defaults {
    bool has_temperature, has_top_k, has_top_p, has_min_p, has_repetition_penalty;
    float temperature;
    uint32_t top_k;
    float top_p, min_p;
    float repetition_penalty;
    /* do_sample is false: temperature 0 unless the request says otherwise. Where do_sample is
     * absent the fields above apply, at temperature 1 when that is absent too, as with vLLM and
     * OpenAI; transformers' own generate() would be greedy. */
    bool greedy;
} generation_defaults;

/* Read DIR/config.json and, when present, DIR/generation_config.json (whose eos ids replace the
 * config's; null leaves them). A missing field means what transformers takes it for; a missing bos
 * or eos id means none. Every number is checked against limits.h and against the others.
 * ST_NOT_FOUND, ST_INVALID_ARGUMENT (names field, expected, found), ST_UNIMPLEMENTED (an
 * architecture, activation or rope type gaggle does not run; names those it does). */
MUST_USE status model_config_load(model_config *config, generation_defaults *defaults,
                                  const char *dir, error *err);

/* The same from bytes, for tests and fuzzing; `generation` may be NULL. */
MUST_USE status model_config_parse(model_config *config, generation_defaults *defaults,
                                   const char *json, size_t size, const char *generation,
                                   size_t generation_size, error *err);

/* Parameters of the model, and of one token's KV entries (elements, all layers, K and V). */
uint64_t model_config_parameters(const model_config *config);
uint64_t model_config_kv_elements(const model_config *config);

/* Inverse frequencies: out[head_dim / 2], scaling applied, as transformers computes them (in
 * float, to 1 ulp). */
void model_config_rope_frequencies(const model_config *config, float *out);

#endif
