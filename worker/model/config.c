/* config: from the files Hugging Face publishes to one checked model_config.
 *
 * A field's absence means what transformers' config class of that family says it means; a field
 * that would change the computation in a way no backend runs (a window shorter than the context,
 * quantised weights, another rope or activation) is refused, never ignored.
 *
 * A reader takes one field after the other from one JSON object. Its first refusal stays and
 * later takes give harmless values, so the code below reads as the list of fields.
 *
 * To add a family: a row in `families`, its rule for what differs, its tests. */
#include "worker/model/config.h"

#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "worker/model/printable.h"

typedef enum bias_rule {
    BIAS_NONE,
    BIAS_QKV,    /* q, k and v have one, always */
    BIAS_FIELDS, /* attention_bias and mlp_bias say */
} bias_rule;

typedef enum window_rule {
    WINDOW_NONE,
    WINDOW_ALWAYS, /* sliding_window holds unless null */
    WINDOW_SWITCH, /* sliding_window holds when use_sliding_window is true */
} window_rule;

typedef struct family {
    const char *architecture;
    bias_rule bias;
    window_rule window;
    uint32_t kv_heads_absent; /* 0: as many as query heads */
} family;

static const family families[] = {
    {"LlamaForCausalLM", BIAS_FIELDS, WINDOW_NONE, 0},
    {"MistralForCausalLM", BIAS_NONE, WINDOW_ALWAYS, 8},
    {"Qwen2ForCausalLM", BIAS_QKV, WINDOW_SWITCH, 32},
};
#define FAMILY_NAMES "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM"

/* transformers' sliding_window of a Mistral or Qwen2 config that has no such field. */
#define WINDOW_ABSENT 4096u

#define REQUIRED UINT32_MAX

typedef struct reader {
    const json_t *object;
    const char *what; /* heads every sentence: "config.json" */
    status st;
    error *err;
} reader;

/* -- sentences -------------------------------------------------------------------- */

#define FOUND_SIZE (PRINTABLE_SIZE + 16)

static const char *describe(char out[FOUND_SIZE], const json_t *value)
{
    char text[PRINTABLE_SIZE];
    if (value == NULL) return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        snprintf(out, FOUND_SIZE, "an array of %zu", json_array_size(value));
        return out;
    case JSON_STRING:
        snprintf(out, FOUND_SIZE, "\"%s\"", printable(text, json_string_value(value)));
        return out;
    case JSON_INTEGER:
        snprintf(out, FOUND_SIZE, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return out;
    case JSON_REAL:
        snprintf(out, FOUND_SIZE, "%.9g", json_real_value(value));
        return out;
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return "something else";
}

/* "config.json: hidden_size: expected ..., found ..." */
__attribute__((format(printf, 5, 6))) static void refuse(reader *r, status code, const char *key,
                                                         const json_t *found, const char *expected,
                                                         ...)
{
    if (r->st != ST_OK) return;
    char sentence[ERROR_TEXT_SIZE];
    char text[FOUND_SIZE];
    va_list args;
    va_start(args, expected);
    vsnprintf(sentence, sizeof sentence, expected, args);
    va_end(args);
    r->st = error_set(r->err, code, "%s: %s: expected %s, found %s", r->what, key, sentence,
                      describe(text, found));
}

/* -- taking one field ------------------------------------------------------------- */

static const json_t *field(const reader *r, const char *key)
{
    return json_object_get(r->object, key);
}

/* A field that transformers treats as not there: missing or null. */
static bool is_absent(const json_t *value)
{
    return value == NULL || json_is_null(value);
}

static uint32_t take_u32(reader *r, const char *key, uint32_t min, uint32_t max, uint32_t absent)
{
    const json_t *value = field(r, key);
    if (is_absent(value) && absent != REQUIRED) return absent;
    if (json_is_integer(value) && json_integer_value(value) >= min &&
        json_integer_value(value) <= max)
        return (uint32_t)json_integer_value(value);
    refuse(r, ST_INVALID_ARGUMENT, key, value, "an integer from %u to %u", min, max);
    return min;
}

/* `absent` NAN: the field must be there. */
static double take_number(reader *r, const char *key, double min, double max, double absent)
{
    const json_t *value = field(r, key);
    if (is_absent(value) && !isnan(absent)) return absent;
    if (json_is_number(value) && json_number_value(value) >= min && json_number_value(value) <= max)
        return json_number_value(value);
    refuse(r, ST_INVALID_ARGUMENT, key, value, "a number from %g to %g", min, max);
    return min;
}

static bool take_bool(reader *r, const char *key, bool absent)
{
    const json_t *value = field(r, key);
    if (is_absent(value)) return absent;
    if (!json_is_boolean(value)) refuse(r, ST_INVALID_ARGUMENT, key, value, "true or false");
    return json_is_true(value);
}

static uint32_t take_id(reader *r, const char *key, const json_t *value, uint32_t vocab_size)
{
    if (json_is_integer(value) && json_integer_value(value) >= 0 &&
        json_integer_value(value) < vocab_size)
        return (uint32_t)json_integer_value(value);
    refuse(r, ST_INVALID_ARGUMENT, key, value, "a token id below vocab_size (%u)", vocab_size);
    return 0;
}

/* eos_token_id: one id, a list of them, or null. Absent leaves the ids as they are. */
static void take_eos_ids(reader *r, model_config *config)
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

/* -- config.json ------------------------------------------------------------------- */

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

static void take_heads(reader *r, const family *f, model_config *config)
{
    config->head_count = take_u32(r, "num_attention_heads", 1, LIMIT_HEADS, REQUIRED);

    uint32_t absent = f->kv_heads_absent;
    if (absent == 0 || json_is_null(field(r, "num_key_value_heads"))) absent = config->head_count;
    config->kv_head_count = take_u32(r, "num_key_value_heads", 1, LIMIT_HEADS, absent);
    if (config->head_count % config->kv_head_count != 0)
        refuse(r, ST_INVALID_ARGUMENT, "num_key_value_heads", field(r, "num_key_value_heads"),
               "a divisor of num_attention_heads (%u)", config->head_count);

    if (is_absent(field(r, "head_dim"))) {
        if (config->hidden_size % config->head_count != 0)
            refuse(r, ST_INVALID_ARGUMENT, "hidden_size", field(r, "hidden_size"),
                   "a multiple of num_attention_heads (%u), as there is no head_dim",
                   config->head_count);
        config->head_dim = config->hidden_size / config->head_count;
        if (config->head_dim < 2 || config->head_dim > LIMIT_HEAD_DIM || config->head_dim % 2 != 0)
            refuse(r, ST_INVALID_ARGUMENT, "hidden_size", field(r, "hidden_size"),
                   "an even multiple of num_attention_heads (%u), at most %u times it",
                   config->head_count, LIMIT_HEAD_DIM);
    } else {
        config->head_dim = take_u32(r, "head_dim", 2, LIMIT_HEAD_DIM, REQUIRED);
        if (config->head_dim % 2 != 0)
            refuse(r, ST_INVALID_ARGUMENT, "head_dim", field(r, "head_dim"), "an even number");
    }
}

/* Attention over all of the context is the only kind there is: a window has to cover it. */
static void check_window(reader *r, const family *f, const model_config *config)
{
    if (f->window == WINDOW_NONE) return;
    if (f->window == WINDOW_SWITCH && !take_bool(r, "use_sliding_window", false)) return;
    const json_t *value = field(r, "sliding_window");
    if (json_is_null(value)) return;
    if (take_u32(r, "sliding_window", 1, INT32_MAX, WINDOW_ABSENT) < config->context_max)
        refuse(r, ST_UNIMPLEMENTED, "sliding_window", value,
               "null or at least max_position_embeddings (%u; a missing field means %u)",
               config->context_max, WINDOW_ABSENT);
}

static void check_layer_types(reader *r)
{
    const json_t *types = field(r, "layer_types");
    if (is_absent(types)) return;
    if (!json_is_array(types))
        refuse(r, ST_INVALID_ARGUMENT, "layer_types", types, "a list of names");
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *name = json_string_value(json_array_get(types, i));
        if (name == NULL || strcmp(name, "full_attention") != 0)
            refuse(r, ST_UNIMPLEMENTED, "layer_types", json_array_get(types, i),
                   "\"full_attention\" in every layer");
    }
}

static void check_activation(reader *r)
{
    const json_t *value = field(r, "hidden_act");
    const char *name = json_string_value(value);
    if (is_absent(value)) return; /* silu in all three families */
    if (name == NULL || (strcmp(name, "silu") != 0 && strcmp(name, "swish") != 0))
        refuse(r, ST_UNIMPLEMENTED, "hidden_act", value, "\"silu\"");
}

static void take_biases(reader *r, const family *f, model_config *config)
{
    switch (f->bias) {
    case BIAS_NONE:
        break;
    case BIAS_QKV:
        config->qkv_bias = true;
        break;
    case BIAS_FIELDS:
        config->qkv_bias = config->output_bias = take_bool(r, "attention_bias", false);
        config->mlp_bias = take_bool(r, "mlp_bias", false);
        break;
    }
}

/* The object is called rope_scaling, from transformers 5 on rope_parameters, and then holds
 * rope_theta as well; the kind is called rope_type, before transformers 4.43 type. */
static void take_rope(reader *r, model_config *config)
{
    const json_t *scaling = field(r, "rope_scaling");
    const json_t *parameters = field(r, "rope_parameters");
    if (!is_absent(scaling) && !is_absent(parameters) && !json_equal(scaling, parameters))
        refuse(r, ST_INVALID_ARGUMENT, "rope_parameters", parameters,
               "the same as rope_scaling, or only one of the two");

    bool newer = is_absent(scaling);
    reader rope = {.object = newer ? parameters : scaling,
                   .what = newer ? "config.json: rope_parameters" : "config.json: rope_scaling",
                   .st = r->st,
                   .err = r->err};
    const double theta_max = 1e15; /* its powers stay far inside a float */
    config->rope_theta = take_number(r, "rope_theta", 1, theta_max, 10000.0);
    if (!is_absent(rope.object) && !json_is_object(rope.object))
        refuse(r, ST_INVALID_ARGUMENT, newer ? "rope_parameters" : "rope_scaling", rope.object,
               "an object or null");
    if (r->st != ST_OK || is_absent(rope.object)) return;

    config->rope_theta = take_number(&rope, "rope_theta", 1, theta_max, config->rope_theta);
    if (take_number(&rope, "partial_rotary_factor", 0, 1, 1) < 1)
        refuse(&rope, ST_UNIMPLEMENTED, "partial_rotary_factor",
               field(&rope, "partial_rotary_factor"), "1");

    const char *key = field(&rope, "rope_type") != NULL ? "rope_type" : "type";
    const json_t *type = field(&rope, key);
    const char *name = json_string_value(type);
    if (name != NULL && strcmp(name, "default") == 0) {
        config->rope_scaling = ROPE_SCALING_NONE;
    } else if (name != NULL && strcmp(name, "linear") == 0) {
        config->rope_scaling = ROPE_SCALING_LINEAR;
        config->rope_factor = take_number(&rope, "factor", 1, 1e6, NAN);
    } else if (name != NULL && strcmp(name, "llama3") == 0) {
        config->rope_scaling = ROPE_SCALING_LLAMA3;
        config->rope_factor = take_number(&rope, "factor", 1, 1e6, NAN);
        config->rope_low_freq_factor = take_number(&rope, "low_freq_factor", 1e-3, 1e6, NAN);
        config->rope_high_freq_factor = take_number(&rope, "high_freq_factor", 1e-3, 1e6, NAN);
        if (!(config->rope_high_freq_factor > config->rope_low_freq_factor))
            refuse(&rope, ST_INVALID_ARGUMENT, "high_freq_factor", field(&rope, "high_freq_factor"),
                   "more than low_freq_factor (%g)", config->rope_low_freq_factor);
        config->rope_original_context =
            take_u32(&rope, "original_max_position_embeddings", 1, LIMIT_CONTEXT_TOKENS, REQUIRED);
    } else {
        refuse(&rope, ST_UNIMPLEMENTED, key, type, "\"default\", \"linear\" or \"llama3\"");
    }
    r->st = rope.st;
}

static void take_config(reader *r, model_config *config)
{
    const family *f = take_family(r);
    if (f == NULL) return;
    snprintf(config->architecture, sizeof config->architecture, "%s", f->architecture);
    if (!is_absent(field(r, "quantization_config")))
        refuse(r, ST_UNIMPLEMENTED, "quantization_config", field(r, "quantization_config"),
               "nothing or null: weights are read as F32, F16 or BF16");

    config->vocab_size = take_u32(r, "vocab_size", 1, LIMIT_VOCAB, REQUIRED);
    config->hidden_size = take_u32(r, "hidden_size", 1, LIMIT_HIDDEN, REQUIRED);
    config->intermediate_size = take_u32(r, "intermediate_size", 1, LIMIT_INTERMEDIATE, REQUIRED);
    config->layer_count = take_u32(r, "num_hidden_layers", 1, LIMIT_LAYERS, REQUIRED);
    config->context_max = take_u32(r, "max_position_embeddings", 1, LIMIT_CONTEXT_TOKENS, REQUIRED);
    config->rms_norm_eps = (float)take_number(r, "rms_norm_eps", 1e-12, 1, 1e-6);
    config->tie_embeddings = take_bool(r, "tie_word_embeddings", false);
    take_heads(r, f, config);
    take_biases(r, f, config);
    take_rope(r, config);
    check_window(r, f, config);
    check_layer_types(r);
    check_activation(r);
    if (take_number(r, "partial_rotary_factor", 0, 1, 1) < 1)
        refuse(r, ST_UNIMPLEMENTED, "partial_rotary_factor", field(r, "partial_rotary_factor"),
               "1");

    const json_t *bos = field(r, "bos_token_id");
    config->bos_id =
        is_absent(bos) ? UINT32_MAX : take_id(r, "bos_token_id", bos, config->vocab_size);
    take_eos_ids(r, config);
}

/* -- generation_config.json --------------------------------------------------------- */

static bool is_there(const reader *r, const char *key)
{
    return !is_absent(field(r, key));
}

static void take_defaults(reader *r, model_config *config, generation_defaults *d)
{
    const double above_zero = 1e-6;
    take_eos_ids(r, config);

    d->greedy = !take_bool(r, "do_sample", true);
    d->has_temperature = is_there(r, "temperature");
    d->temperature = (float)take_number(r, "temperature", 0, 100, 1);
    d->has_top_p = is_there(r, "top_p");
    d->top_p = (float)take_number(r, "top_p", above_zero, 1, 1);
    d->has_min_p = is_there(r, "min_p");
    d->min_p = (float)take_number(r, "min_p", 0, 1, 0);
    d->has_repetition_penalty = is_there(r, "repetition_penalty");
    d->repetition_penalty = (float)take_number(r, "repetition_penalty", above_zero, 100, 1);

    const json_t *top_k = field(r, "top_k");
    d->has_top_k = !is_absent(top_k);
    /* -1 is vLLM's way to say off, 0 transformers' and ours. */
    bool off = json_is_integer(top_k) && json_integer_value(top_k) == -1;
    d->top_k = off ? 0 : take_u32(r, "top_k", 0, INT32_MAX, 0);
}

/* -- the door ------------------------------------------------------------------------ */

static status parse_object(json_t **out, const char *json, size_t size, const char *what,
                           error *err)
{
    status st = json_parse(out, json, size, what, err);
    if (st != ST_OK) return st;
    if (json_is_object(*out)) return ST_OK;
    char text[FOUND_SIZE];
    error_set(err, ST_INVALID_ARGUMENT, "%s: expected an object, found %s", what,
              describe(text, *out));
    json_decref(*out);
    return ST_INVALID_ARGUMENT;
}

status model_config_parse(model_config *config, generation_defaults *defaults, const char *json,
                          size_t size, const char *generation, size_t generation_size, error *err)
{
    memset(config, 0, sizeof *config);
    *defaults = (generation_defaults){.temperature = 1, .top_p = 1, .repetition_penalty = 1};

    json_t *root;
    status st = parse_object(&root, json, size, "config.json", err);
    if (st != ST_OK) return st;
    reader r = {.object = root, .what = "config.json", .err = err};
    take_config(&r, config);
    json_decref(root);
    if (r.st != ST_OK || generation == NULL) return r.st;

    st = parse_object(&root, generation, generation_size, "generation_config.json", err);
    if (st != ST_OK) return st;
    r = (reader){.object = root, .what = "generation_config.json", .err = err};
    take_defaults(&r, config, defaults);
    json_decref(root);
    return r.st;
}

status model_config_load(model_config *config, generation_defaults *defaults, const char *dir,
                         error *err)
{
    char path[PATH_MAX];
    char *json = NULL;
    char *generation = NULL;
    size_t size = 0;
    size_t generation_size = 0;

    if (snprintf(path, sizeof path, "%s/generation_config.json", dir) >= (int)sizeof path)
        return error_set(err, ST_INVALID_ARGUMENT, "the model folder's path has over %d bytes",
                         PATH_MAX);
    error why = {0};
    status st = file_read(&generation, &generation_size, path, LIMIT_CONFIG_FILE_BYTES, &why);
    if (st != ST_OK && st != ST_NOT_FOUND) return error_set(err, st, "%s", why.text);

    snprintf(path, sizeof path, "%s/config.json", dir);
    st = file_read(&json, &size, path, LIMIT_CONFIG_FILE_BYTES, err);
    if (st == ST_OK) {
        st = model_config_parse(config, defaults, json, size, generation, generation_size, err);
        if (st != ST_OK) error_prefix(err, st, "%s", dir);
    }
    mem_free(json);
    mem_free(generation);
    return st;
}

/* -- sums ---------------------------------------------------------------------------- */

uint64_t model_config_parameters(const model_config *config)
{
    const uint64_t hidden = config->hidden_size;
    const uint64_t q = (uint64_t)config->head_count * config->head_dim;
    const uint64_t kv = (uint64_t)config->kv_head_count * config->head_dim;
    const uint64_t inner = config->intermediate_size;

    uint64_t layer = 2 * hidden;                        /* the two norms */
    layer += hidden * q + 2 * hidden * kv + q * hidden; /* q, k and v, o */
    layer += 3 * hidden * inner;                        /* gate, up, down */
    if (config->qkv_bias) layer += q + 2 * kv;
    if (config->output_bias) layer += hidden;
    if (config->mlp_bias) layer += 2 * inner + hidden;

    uint64_t table = config->vocab_size * hidden;
    return (config->tie_embeddings ? 1 : 2) * table + config->layer_count * layer + hidden;
}

uint64_t model_config_kv_elements(const model_config *config)
{
    return 2ull * config->layer_count * config->kv_head_count * config->head_dim;
}
