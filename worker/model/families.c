/* families: one row each, and a function for what only one of them has.
 *
 * What a row says of absent fields is what transformers' config class of that family says. To add a
 * family: its row, its tests. */
#include "worker/model/families.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "worker/model/config_rope.h"

typedef enum bias_rule {
    BIAS_NONE,
    BIAS_QKV,       /* q, k and v have one, always */
    BIAS_ATTENTION, /* attention_bias says, for q, k, v and o */
    BIAS_FIELDS,    /* attention_bias and mlp_bias say */
} bias_rule;

/* Which layers see only sliding_window tokens. */
typedef enum window_rule {
    WINDOW_NONE,
    WINDOW_ALL,    /* all of them, unless sliding_window is null */
    WINDOW_SWITCH, /* with use_sliding_window those of layer_types, or from max_window_layers on */
    WINDOW_ALTERNATE, /* those of layer_types, or all but every `window_pattern`th */
} window_rule;

typedef struct family {
    const char *architecture;
    const char *section; /* the object of config.json that describes the decoder; NULL: all of it */
    uint32_t vocab_absent, context_absent, heads_absent; /* 0: the field is required */
    uint32_t kv_heads_absent;                            /* 0: as many as query heads */
    uint32_t head_dim_absent;                            /* 0: hidden_size / heads */
    double eps_absent;                                   /* 0: 1e-6 */
    bool tie_absent;
    bias_rule bias;
    window_rule window;
    uint32_t window_absent;  /* sliding_window where there is no such field; 0: none */
    uint32_t window_pattern; /* of WINDOW_ALTERNATE */
    const char *activation_key;
    activation activation_absent;
    bool qk_norm, packed_projections;
    rope_rule rope;
    void (*take_rest)(reader *r, model_config *config); /* NULL: nothing */
} family;

static void take_gemma2(reader *r, model_config *config);
static void take_gemma3(reader *r, model_config *config);

/* The decoder of both Gemma 3 rows: alone, and beside the vision tower of the larger ones. */
#define GEMMA3                                                                                     \
    .vocab_absent = 262208, .context_absent = 131072, .heads_absent = 8, .kv_heads_absent = 4,     \
    .head_dim_absent = 256, .tie_absent = true, .bias = BIAS_ATTENTION,                            \
    .window = WINDOW_ALTERNATE, .window_absent = 4096, .window_pattern = 6,                        \
    .activation_key = "hidden_activation", .activation_absent = ACTIVATION_GELU_TANH,              \
    .qk_norm = true, .rope = {.theta_absent = 1e6, .local = true}, .take_rest = take_gemma3

static const family families[] = {
    {.architecture = "LlamaForCausalLM", .bias = BIAS_FIELDS, .window = WINDOW_NONE},
    {.architecture = "MistralForCausalLM",
     .kv_heads_absent = 8,
     .window = WINDOW_ALL,
     .window_absent = 4096},
    {.architecture = "Qwen2ForCausalLM",
     .kv_heads_absent = 32,
     .bias = BIAS_QKV,
     .window = WINDOW_SWITCH,
     .window_absent = 4096},
    {.architecture = "Qwen3ForCausalLM",
     .kv_heads_absent = 32,
     .head_dim_absent = 128,
     .bias = BIAS_ATTENTION,
     .window = WINDOW_SWITCH,
     .window_absent = 4096,
     .qk_norm = true},
    {.architecture = "Gemma2ForCausalLM",
     .kv_heads_absent = 4,
     .head_dim_absent = 256,
     .tie_absent = true,
     .bias = BIAS_ATTENTION,
     .window = WINDOW_ALTERNATE,
     .window_absent = 4096,
     .window_pattern = 2,
     .activation_key = "hidden_activation",
     .activation_absent = ACTIVATION_GELU_TANH,
     .take_rest = take_gemma2},
    {.architecture = "Gemma3ForCausalLM", GEMMA3},
    {.architecture = "Gemma3ForConditionalGeneration", .section = "text_config", GEMMA3},
    {.architecture = "Phi3ForCausalLM",
     .eps_absent = 1e-5,
     .window = WINDOW_ALL,
     .packed_projections = true,
     .rope = {.partial = true, .su_and_yarn_mean_longrope = true, .original_absent = 4096}},
};
#define FAMILY_NAMES                                                                               \
    "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, "                   \
    "Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3ForConditionalGeneration, Phi3ForCausalLM"

static const family *take_family(reader *r)
{
    const json_t *value = field(r, "architectures");
    const char *name = json_string_value(json_array_get(value, 0));
    if (name == NULL) {
        refuse(r, ST_INVALID_ARGUMENT, "architectures", value, "a list with a name");
        return NULL;
    }
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (strcmp(families[i].architecture, name) == 0) return &families[i];
    refuse(r, ST_UNIMPLEMENTED, "architectures", json_array_get(value, 0), "one of " FAMILY_NAMES);
    return NULL;
}

/* -- what all families have ------------------------------------------------------------------- */

static uint32_t or_required(uint32_t absent)
{
    return absent > 0 ? absent : REQUIRED;
}

static void take_sizes(reader *r, const family *f, model_config *config)
{
    config->vocab_size = take_u32(r, "vocab_size", 1, LIMIT_VOCAB, or_required(f->vocab_absent));
    config->hidden_size = take_u32(r, "hidden_size", 1, LIMIT_HIDDEN, REQUIRED);
    config->intermediate_size = take_u32(r, "intermediate_size", 1, LIMIT_INTERMEDIATE, REQUIRED);
    config->layer_count = take_u32(r, "num_hidden_layers", 1, LIMIT_LAYERS, REQUIRED);
    config->context_max = take_u32(r, "max_position_embeddings", 1, LIMIT_CONTEXT_TOKENS,
                                   or_required(f->context_absent));
    config->rms_norm_eps =
        (float)take_number(r, "rms_norm_eps", 1e-12, 1, f->eps_absent > 0 ? f->eps_absent : 1e-6);
    config->tie_embeddings = take_bool(r, "tie_word_embeddings", f->tie_absent);
}

static void take_head_dim(reader *r, const family *f, model_config *config)
{
    if (!is_absent(field(r, "head_dim")) || f->head_dim_absent > 0) {
        config->head_dim = take_u32(r, "head_dim", 2, LIMIT_HEAD_DIM, f->head_dim_absent);
        if (config->head_dim % 2 != 0)
            refuse(r, ST_INVALID_ARGUMENT, "head_dim", field(r, "head_dim"), "an even number");
        return;
    }
    if (config->hidden_size % config->head_count != 0)
        refuse(r, ST_INVALID_ARGUMENT, "hidden_size", field(r, "hidden_size"),
               "a multiple of num_attention_heads (%u), as there is no head_dim",
               config->head_count);
    config->head_dim = config->hidden_size / config->head_count;
    if (config->head_dim < 2 || config->head_dim > LIMIT_HEAD_DIM || config->head_dim % 2 != 0)
        refuse(r, ST_INVALID_ARGUMENT, "hidden_size", field(r, "hidden_size"),
               "an even multiple of num_attention_heads (%u), at most %u times it",
               config->head_count, LIMIT_HEAD_DIM);
}

static void take_heads(reader *r, const family *f, model_config *config)
{
    config->head_count =
        take_u32(r, "num_attention_heads", 1, LIMIT_HEADS, or_required(f->heads_absent));
    uint32_t absent = f->kv_heads_absent;
    if (absent == 0 || json_is_null(field(r, "num_key_value_heads"))) absent = config->head_count;
    config->kv_head_count = take_u32(r, "num_key_value_heads", 1, LIMIT_HEADS, absent);
    if (config->head_count % config->kv_head_count != 0)
        refuse(r, ST_INVALID_ARGUMENT, "num_key_value_heads", field(r, "num_key_value_heads"),
               "a divisor of num_attention_heads (%u)", config->head_count);
    take_head_dim(r, f, config);
    config->attention_scale = 1 / sqrtf((float)config->head_dim);
}

static void take_biases(reader *r, const family *f, model_config *config)
{
    if (f->bias == BIAS_QKV) config->qkv_bias = true;
    if (f->bias == BIAS_ATTENTION || f->bias == BIAS_FIELDS)
        config->qkv_bias = config->output_bias = take_bool(r, "attention_bias", false);
    if (f->bias == BIAS_FIELDS) config->mlp_bias = take_bool(r, "mlp_bias", false);
}

static void take_activation(reader *r, const family *f, model_config *config)
{
    const char *key = f->activation_key != NULL ? f->activation_key : "hidden_act";
    const json_t *value = field(r, key);
    const char *name = json_string_value(value);
    config->activation = f->activation_absent;
    if (is_absent(value)) return;
    if (name != NULL && (strcmp(name, "silu") == 0 || strcmp(name, "swish") == 0))
        config->activation = ACTIVATION_SILU;
    else if (name != NULL && strcmp(name, "gelu_pytorch_tanh") == 0)
        config->activation = ACTIVATION_GELU_TANH;
    else
        refuse(r, ST_UNIMPLEMENTED, key, value, "\"silu\" or \"gelu_pytorch_tanh\"");
}

/* -- windows ------------------------------------------------------------------------------------
 */

/* layer_types, where it is there: true with the layers that slide marked in `sliding`. */
static bool take_layer_types(reader *r, const family *f, const model_config *config, bool *sliding)
{
    const json_t *types = field(r, "layer_types");
    if (is_absent(types)) return false;
    if (!json_is_array(types) || json_array_size(types) != config->layer_count)
        refuse(r, ST_INVALID_ARGUMENT, "layer_types", types, "a list of %u names",
               config->layer_count);
    bool may_slide = f->window == WINDOW_SWITCH || f->window == WINDOW_ALTERNATE;
    for (uint32_t l = 0; r->st == ST_OK && l < config->layer_count; l++) {
        const json_t *type = json_array_get(types, l);
        const char *name = json_string_value(type);
        sliding[l] = may_slide && name != NULL && strcmp(name, "sliding_attention") == 0;
        if (!sliding[l] && (name == NULL || strcmp(name, "full_attention") != 0))
            refuse(r, ST_UNIMPLEMENTED, "layer_types", type,
                   may_slide ? "\"full_attention\" and \"sliding_attention\" only"
                             : "\"full_attention\" in every layer");
    }
    return true;
}

/* Which layers slide where layer_types does not say. */
static void slide_by_rule(reader *r, const family *f, const model_config *config, bool *sliding)
{
    uint32_t first = config->layer_count; /* all from this one on */
    uint32_t pattern = 1;                 /* all but every pattern'th */
    switch (f->window) {
    case WINDOW_NONE:
        break;
    case WINDOW_ALL:
        if (!json_is_null(field(r, "sliding_window")) &&
            (f->window_absent > 0 || field(r, "sliding_window") != NULL))
            first = 0;
        break;
    case WINDOW_SWITCH:
        if (take_bool(r, "use_sliding_window", false) && !json_is_null(field(r, "sliding_window")))
            first = take_u32(r, "max_window_layers", 0, INT32_MAX, 28);
        break;
    case WINDOW_ALTERNATE:
        pattern = take_u32(r, "sliding_window_pattern", 1, LIMIT_LAYERS, f->window_pattern);
        break;
    }
    for (uint32_t l = 0; l < config->layer_count; l++)
        sliding[l] = f->window == WINDOW_ALTERNATE ? (l + 1) % pattern != 0 : l >= first;
}

/* A window that covers the context is none. */
static void take_windows(reader *r, const family *f, bool *sliding, model_config *config)
{
    const char *key = "sliding_window";
    if (!take_layer_types(r, f, config, sliding) || f->window == WINDOW_ALL)
        slide_by_rule(r, f, config, sliding);
    bool any = false;
    for (uint32_t l = 0; l < config->layer_count; l++)
        any = any || sliding[l];
    if (r->st != ST_OK || !any) return;
    if (json_is_null(field(r, key)) ||
        (f->window == WINDOW_SWITCH && !take_bool(r, "use_sliding_window", false)))
        refuse(r, ST_INVALID_ARGUMENT, key, field(r, key),
               "a window that is used, as layers are sliding_attention");
    uint32_t window = take_u32(r, key, 1, INT32_MAX, f->window_absent);
    for (uint32_t l = 0; l < config->layer_count; l++)
        if (sliding[l] && window < config->context_max) config->layer_window[l] = window;
}

/* -- what Gemma has -----------------------------------------------------------------------------
 */

static float round_to_bits(float value, int bits)
{
    int exponent;
    float fraction = frexpf(value, &exponent);
    return ldexpf(rintf(ldexpf(fraction, bits)), exponent - bits);
}

/* sqrt(hidden_size), rounded as transformers rounds it: to the dtype the model was published in. */
static float embedding_scale(reader *r, uint32_t hidden_size)
{
    const char *key = "dtype";
    const json_t *value = field(r, key);
    if (is_absent(value)) value = field(r, key = "torch_dtype");
    if (is_absent(value)) value = json_object_get(r->around, key = "dtype");
    if (is_absent(value)) value = json_object_get(r->around, key = "torch_dtype");
    const char *name = json_string_value(value);
    float scale = (float)sqrt((double)hidden_size);
    if (is_absent(value) || (name != NULL && strcmp(name, "float32") == 0)) return scale;
    if (name != NULL && strcmp(name, "bfloat16") == 0) return round_to_bits(scale, 8);
    if (name != NULL && strcmp(name, "float16") == 0) return round_to_bits(scale, 11);
    refuse(r, ST_UNIMPLEMENTED, key, value, "\"bfloat16\", \"float16\" or \"float32\"");
    return scale;
}

static void take_gemma(reader *r, model_config *config)
{
    config->norm_plus_one = true;
    config->sandwich_norms = true;
    config->embedding_scale = embedding_scale(r, config->hidden_size);
    config->attention_scale =
        (float)(1 / sqrt(take_number(r, "query_pre_attn_scalar", 1e-3, 1e6, 256)));
    if (take_bool(r, "use_bidirectional_attention", false))
        refuse(r, ST_UNIMPLEMENTED, "use_bidirectional_attention",
               field(r, "use_bidirectional_attention"), "false");
}

/* null: none */
static float take_softcap(reader *r, const char *key, double missing)
{
    if (json_is_null(field(r, key))) return 0;
    if (field(r, key) == NULL) return (float)missing;
    return (float)take_number(r, key, 1e-3, 1e6, NAN);
}

static void take_gemma2(reader *r, model_config *config)
{
    take_gemma(r, config);
    config->attention_softcap = take_softcap(r, "attn_logit_softcapping", 50);
    config->final_softcap = take_softcap(r, "final_logit_softcapping", 30);
}

static void take_gemma3(reader *r, model_config *config)
{
    take_gemma(r, config);
    config->final_softcap = take_softcap(r, "final_logit_softcapping", 0);
    if (!is_absent(field(r, "attn_logit_softcapping"))) /* transformers reads it and ignores it */
        refuse(r, ST_UNIMPLEMENTED, "attn_logit_softcapping", field(r, "attn_logit_softcapping"),
               "null");
}

/* -- the whole ----------------------------------------------------------------------------------
 */

void config_take_eos_ids(reader *r, model_config *config)
{
    const char *key = "eos_token_id";
    const json_t *value = field(r, key);
    if (is_absent(value)) return;
    if (!json_is_array(value)) {
        config->eos_ids[0] = take_id(r, key, value, config->vocab_size);
        config->eos_count = 1;
        return;
    }
    if (json_array_size(value) > MODEL_EOS_IDS_MAX) {
        refuse(r, ST_INVALID_ARGUMENT, key, value, "at most %u ids", MODEL_EOS_IDS_MAX);
        return;
    }
    config->eos_count = 0;
    for (size_t i = 0; i < json_array_size(value); i++)
        config->eos_ids[config->eos_count++] =
            take_id(r, key, json_array_get(value, i), config->vocab_size);
}

static void take_ids(reader *r, model_config *config)
{
    const json_t *bos = field(r, "bos_token_id");
    if (!is_absent(bos)) config->bos_id = take_id(r, "bos_token_id", bos, config->vocab_size);
    config_take_eos_ids(r, config);
}

static void refuse_quantised(reader *r)
{
    if (!is_absent(field(r, "quantization_config")))
        refuse(r, ST_UNIMPLEMENTED, "quantization_config", field(r, "quantization_config"),
               "nothing or null: weights are read as F32, F16 or BF16");
}

static void take_decoder(reader *r, const family *f, model_config *config)
{
    bool sliding[LIMIT_LAYERS] = {false};
    snprintf(config->architecture, sizeof config->architecture, "%s", f->architecture);
    config->qk_norm = f->qk_norm;
    config->packed_projections = f->packed_projections;
    config->embedding_scale = 1;
    refuse_quantised(r);
    take_sizes(r, f, config);
    take_heads(r, f, config);
    take_biases(r, f, config);
    take_activation(r, f, config);
    take_windows(r, f, sliding, config);
    config_take_rope(r, &f->rope, sliding, config);
    if (f->take_rest != NULL) f->take_rest(r, config);
    take_ids(r, config);
}

void config_take(reader *r, model_config *config)
{
    config->bos_id = UINT32_MAX;
    const family *f = take_family(r);
    if (f == NULL) return;
    if (f->section == NULL) {
        take_decoder(r, f, config);
        return;
    }
    refuse_quantised(r);
    const json_t *section = field(r, f->section);
    if (!json_is_object(section)) refuse(r, ST_INVALID_ARGUMENT, f->section, section, "an object");
    if (r->st != ST_OK) return;
    reader inner = {
        .object = section, .around = r->object, .what = "config.json: text_config", .err = r->err};
    take_decoder(&inner, f, config);
    r->st = inner.st;
    if (r->st == ST_OK) take_ids(r, config);
}
