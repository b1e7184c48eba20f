/* config: from the files Hugging Face publishes to one checked model_config.
 *
 * A field's absence means what transformers' config class of that family says it means; a field
 * that would change the computation in a way no backend runs (quantised weights, another rope or
 * activation) is refused, never ignored. families.c reads config.json; this is the rest. */
#include "worker/model/config.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "worker/model/families.h"

/* -- generation_config.json --------------------------------------------------------- */

static bool is_there(const reader *r, const char *key)
{
    return !is_absent(field(r, key));
}

static void take_defaults(reader *r, model_config *config, generation_defaults *d)
{
    const double above_zero = 1e-6;
    config_take_eos_ids(r, config);

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
              reader_describe(text, *out));
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
    config_take(&r, config);
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
    if (config->sandwich_norms) layer += 2 * hidden;
    if (config->qk_norm) layer += 2ull * config->head_dim;
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
