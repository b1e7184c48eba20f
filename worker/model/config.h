/* model config: one description of a decoder, read from config.json, that drives every backend.
 *
 * It says in plain values what a forward pass computes; no backend knows a family's name. With all
 * of them, a layer l is
 *
 *     x = residual; n = norm(x, input_norm)
 *     q, k, v = n Wq + bq, n Wk + bk, n Wv + bv        (packed_projections: slices of one tensor)
 *     q, k = norm(q, q_norm), norm(k, k_norm)          (qk_norm: each head by itself)
 *     q, k = rotate(q), rotate(k)                      (rope[layer_rope[l]], rotary_dim)
 *     s = attention_scale * q.k; s = cap(s, attention_softcap); softmax over the keys j that
 *         position p sees: j <= p, and p - j < layer_window[l] unless that is 0; times v
 *     y = attention Wo + bo; y = norm(y, post_attention_norm)             (sandwich_norms)
 *     x = x + y;              n = norm(x, mlp_norm)
 *     y = (act(n Wgate) * (n Wup)) Wdown; y = norm(y, post_mlp_norm)      (sandwich_norms)
 *     residual = x + y
 *
 * before them residual = embedding row * embedding_scale, behind them logits =
 * cap(norm(residual, final_norm) Whead, final_softcap). norm is RMSNorm with rms_norm_eps, whose
 * weight counts as 1 + w everywhere when norm_plus_one; cap(s, c) = c * tanh(s / c), nothing for
 * c = 0.
 *
 * Adding a family touches families.c (what its config.json calls things, what an absent field
 * means) and its tests. Plain value after load; any thread may read. */
#ifndef GAGGLE_WORKER_MODEL_CONFIG_H
#define GAGGLE_WORKER_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"
#include "common/status.h"

typedef enum activation { ACTIVATION_SILU, ACTIVATION_GELU_TANH } activation;

typedef enum rope_scaling {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR,
    ROPE_SCALING_LLAMA3,
    ROPE_SCALING_YARN,
    ROPE_SCALING_LONGROPE
} rope_scaling;

/* One way of rotating. A backend needs of it model_config_rope_frequencies() and attention_factor,
 * by which cosines and sines are multiplied. */
typedef struct rope_config {
    double theta;
    rope_scaling scaling;
    double factor;             /* linear, llama3, yarn */
    double low_freq_factor;    /* llama3 */
    double high_freq_factor;   /* llama3 */
    double beta_fast;          /* yarn */
    double beta_slow;          /* yarn */
    bool truncate;             /* yarn: the ramp begins and ends at whole dimensions */
    uint32_t original_context; /* llama3, yarn, longrope */
    float attention_factor;    /* yarn, longrope; 1 otherwise */
    float short_factors[LIMIT_HEAD_DIM / 2]; /* longrope: [rotary_dim / 2] */
    float long_factors[LIMIT_HEAD_DIM / 2];
} rope_config;

#define MODEL_EOS_IDS_MAX 16u
#define MODEL_ROPES_MAX   2u

typedef struct model_config {
    char architecture[64]; /* "LlamaForCausalLM"; for people */
    uint32_t vocab_size;   /* rows of the embedding; may exceed the tokenizer's */
    uint32_t hidden_size;
    uint32_t intermediate_size;
    uint32_t layer_count;
    uint32_t head_count; /* query heads; a multiple of kv_head_count */
    uint32_t kv_head_count;
    uint32_t head_dim;    /* even; not always hidden_size / head_count */
    uint32_t context_max; /* max_position_embeddings, or less: model_limit_context() */
    float rms_norm_eps;
    bool tie_embeddings; /* the output head is the embedding */
    bool qkv_bias;       /* q, k and v projections have a bias */
    bool output_bias;    /* the o projection too (attention_bias of Llama) */
    bool mlp_bias;

    activation activation;
    bool qk_norm;
    bool sandwich_norms;
    bool norm_plus_one;
    bool packed_projections; /* in the checkpoint; weights.h has slices, as ever */
    float embedding_scale;   /* 1: none */
    float attention_scale;
    float attention_softcap; /* 0: none */
    float final_softcap;     /* 0: none */

    uint32_t layer_window[LIMIT_LAYERS]; /* 0: sees all; otherwise below context_max */
    uint8_t layer_rope[LIMIT_LAYERS];    /* index into rope */
    uint32_t rope_count;
    rope_config rope[MODEL_ROPES_MAX];
    uint32_t rotary_dim; /* even, 2..head_dim: pairs (i, i + rotary_dim / 2) turn, the rest stays */

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

/* Inverse frequencies of config->rope[index]: out[rotary_dim / 2], scaling applied, as transformers
 * computes them (in float, to 1 ulp); attention_factor is not in them.
 *
 * LongRoPE has two sets of factors. transformers takes the long ones once a sequence has outgrown
 * original_context, which would make keys in the cache wrong in the middle of an answer. Here, as
 * in vLLM, the choice is made for all sequences at load: long if context_max > original_context,
 * short otherwise. A worker that is to serve short contexts as they were trained is started with
 * --max-model-len original_context. */
void model_config_rope_frequencies(const model_config *config, uint32_t index, float *out);

#endif
