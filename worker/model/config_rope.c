#include "worker/model/config_rope.h"

#include <math.h>
#include <string.h>

#define THETA_MAX 1e15 /* its powers stay far inside a float */

/* A rotary angle stays below 2^20 quarter turns, which is how far the backends' sines are exact. */
#define LONGROPE_FACTOR_MIN 0.75
#define LONGROPE_FACTOR_MAX 1e6

/* -- one kind of scaling ---------------------------------------------------------------------- */

static void take_llama3(reader *r, rope_config *rope)
{
    rope->scaling = ROPE_SCALING_LLAMA3;
    rope->factor = take_number(r, "factor", 1, 1e6, NAN);
    rope->low_freq_factor = take_number(r, "low_freq_factor", 1e-3, 1e6, NAN);
    rope->high_freq_factor = take_number(r, "high_freq_factor", 1e-3, 1e6, NAN);
    if (!(rope->high_freq_factor > rope->low_freq_factor))
        refuse(r, ST_INVALID_ARGUMENT, "high_freq_factor", field(r, "high_freq_factor"),
               "more than low_freq_factor (%g)", rope->low_freq_factor);
    rope->original_context =
        take_u32(r, "original_max_position_embeddings", 1, LIMIT_CONTEXT_TOKENS, REQUIRED);
}

/* Peng et al.: YaRN: efficient context window extension of large language models. 2023. */
static void take_yarn(reader *r, const model_config *config, rope_config *rope)
{
    rope->scaling = ROPE_SCALING_YARN;
    rope->factor = take_number(r, "factor", 1, 1e6, NAN);
    rope->original_context = take_u32(r, "original_max_position_embeddings", 1,
                                      LIMIT_CONTEXT_TOKENS, config->context_max);
    rope->beta_fast = take_number(r, "beta_fast", 1e-3, 1e6, 32);
    rope->beta_slow = take_number(r, "beta_slow", 1e-3, 1e6, 1);
    rope->truncate = take_bool(r, "truncate", true);
    if (!(rope->theta > 1))
        refuse(r, ST_INVALID_ARGUMENT, "rope_theta", field(r, "rope_theta"), "more than 1");
    if (!is_absent(field(r, "mscale")) && !is_absent(field(r, "mscale_all_dim")))
        refuse(r, ST_UNIMPLEMENTED, "mscale_all_dim", field(r, "mscale_all_dim"),
               "nothing beside mscale");
    rope->attention_factor =
        (float)take_number(r, "attention_factor", 1e-3, 1e3, 0.1 * log(rope->factor) + 1);
}

static void take_factors(reader *r, const char *key, uint32_t count, float *out)
{
    const json_t *list = field(r, key);
    if (!json_is_array(list) || json_array_size(list) != count) {
        refuse(r, ST_INVALID_ARGUMENT, key, list, "a list of %u numbers", count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(list, i);
        double number = json_number_value(value);
        if (!json_is_number(value) || !(number >= LONGROPE_FACTOR_MIN) ||
            !(number <= LONGROPE_FACTOR_MAX)) {
            refuse(r, ST_INVALID_ARGUMENT, key, value, "numbers from %g to %g only",
                   LONGROPE_FACTOR_MIN, LONGROPE_FACTOR_MAX);
            return;
        }
        out[i] = (float)number;
    }
}

/* Ding et al.: LongRoPE: extending LLM context window beyond 2 million tokens. 2024. The original
 * context stands in the config itself, or in the rope object. */
static void take_longrope(reader *r, reader *root, const rope_rule *rule,
                          const model_config *config, rope_config *rope)
{
    const char *key = "original_max_position_embeddings";
    uint32_t absent = rule->original_absent > 0 ? rule->original_absent : config->context_max;
    rope->scaling = ROPE_SCALING_LONGROPE;
    rope->original_context = is_absent(field(root, key))
                                 ? take_u32(r, key, 2, LIMIT_CONTEXT_TOKENS, absent)
                                 : take_u32(root, key, 2, LIMIT_CONTEXT_TOKENS, absent);
    take_factors(r, "short_factor", config->rotary_dim / 2, rope->short_factors);
    take_factors(r, "long_factor", config->rotary_dim / 2, rope->long_factors);
    double factor =
        take_number(r, "factor", 1e-3, 1e6, (double)config->context_max / rope->original_context);
    double attention =
        factor <= 1 ? 1 : sqrt(1 + log(factor) / log((double)rope->original_context));
    rope->attention_factor = (float)take_number(r, "attention_factor", 1e-3, 1e3, attention);
}

/* -- one object ------------------------------------------------------------------------------- */

/* r's object, which may be absent, on top of a theta that stood outside it. */
static void take_one(reader *r, reader *root, const rope_rule *rule, double theta,
                     const model_config *config, rope_config *rope)
{
    rope->theta = theta;
    rope->attention_factor = 1;
    if (is_absent(r->object)) return;
    rope->theta = take_number(r, "rope_theta", 1, THETA_MAX, theta);

    const char *key = field(r, "rope_type") != NULL ? "rope_type" : "type";
    const json_t *type = field(r, key);
    const char *name = json_string_value(type);
    if (name == NULL) name = "";
    bool alias =
        rule->su_and_yarn_mean_longrope && (strcmp(name, "su") == 0 || strcmp(name, "yarn") == 0);
    if (alias || strcmp(name, "longrope") == 0) {
        take_longrope(r, root, rule, config, rope);
    } else if (strcmp(name, "default") == 0) {
        rope->scaling = ROPE_SCALING_NONE;
    } else if (strcmp(name, "linear") == 0) {
        rope->scaling = ROPE_SCALING_LINEAR;
        rope->factor = take_number(r, "factor", 1, 1e6, NAN);
    } else if (strcmp(name, "llama3") == 0) {
        take_llama3(r, rope);
    } else if (strcmp(name, "yarn") == 0) {
        take_yarn(r, config, rope);
    } else {
        refuse(r, ST_UNIMPLEMENTED, key, type,
               "\"default\", \"linear\", \"llama3\", \"yarn\" or \"longrope\"");
    }
}

/* The part of each head that turns; `rope` or `root` names it. */
static uint32_t take_rotary_dim(reader *rope, reader *root, const rope_rule *rule,
                                const model_config *config)
{
    const char *key = "partial_rotary_factor";
    reader *r = !is_absent(rope->object) && !is_absent(field(rope, key)) ? rope : root;
    double factor = take_number(r, key, 0, 1, 1);
    if (factor < 1 && !rule->partial) refuse(r, ST_UNIMPLEMENTED, key, field(r, key), "1");
    uint32_t dim = (uint32_t)(config->head_dim * factor);
    if (dim >= 2 && dim % 2 == 0) return dim;
    refuse(r, ST_INVALID_ARGUMENT, key, field(r, key),
           "a part of head_dim (%u) that is an even number, at least 2", config->head_dim);
    return config->head_dim;
}

/* A refusal inside an object is the whole config's. */
static void join(reader *root, const reader *part)
{
    if (root->st == ST_OK) root->st = part->st;
}

static reader part_of(const reader *root, const json_t *object, const char *what)
{
    return (reader){.object = object, .what = what, .st = root->st, .err = root->err};
}

static void take_two(reader *root, const rope_rule *rule, const json_t *parameters,
                     const json_t *scaling, model_config *config)
{
    double global = take_number(root, "rope_theta", 1, THETA_MAX, rule->theta_absent);
    double local = take_number(root, "rope_local_base_freq", 1, THETA_MAX, 10000);
    reader full = part_of(root, scaling, "config.json: rope_scaling");
    reader slide = part_of(root, NULL, "config.json: rope_parameters: sliding_attention");
    if (is_absent(scaling) && !is_absent(parameters)) {
        full = part_of(root, json_object_get(parameters, "full_attention"),
                       "config.json: rope_parameters: full_attention");
        slide.object = json_object_get(parameters, "sliding_attention");
        if (!json_is_object(full.object) || !json_is_object(slide.object))
            refuse(root, ST_INVALID_ARGUMENT, "rope_parameters", parameters,
                   "an object of the objects full_attention and sliding_attention");
        if (root->st != ST_OK) return;
    }
    config->rotary_dim = take_rotary_dim(&full, root, rule, config);
    join(root, &full);
    take_one(&full, root, rule, global, config, &config->rope[0]);
    join(root, &full);
    slide.st = root->st; /* the first refusal stays */
    take_one(&slide, root, rule, local, config, &config->rope[1]);
    join(root, &slide);
    config->rope_count = 2;
}

/* The object is called rope_scaling, from transformers 5 on rope_parameters, and then holds
 * rope_theta as well (and with two ropes one object for each); the kind is called rope_type, before
 * transformers 4.43 type. */
void config_take_rope(reader *root, const rope_rule *rule, const bool *sliding,
                      model_config *config)
{
    const json_t *scaling = field(root, "rope_scaling");
    const json_t *parameters = field(root, "rope_parameters");
    bool newer = is_absent(scaling);
    if (!newer && !is_absent(parameters) && !json_equal(scaling, parameters))
        refuse(root, ST_INVALID_ARGUMENT, "rope_parameters", parameters,
               "the same as rope_scaling, or only one of the two");
    const json_t *object = newer ? parameters : scaling;
    if (!is_absent(object) && !json_is_object(object))
        refuse(root, ST_INVALID_ARGUMENT, newer ? "rope_parameters" : "rope_scaling", object,
               "an object or null");
    config->rotary_dim = config->head_dim;
    if (root->st != ST_OK) return;

    if (rule->local) {
        take_two(root, rule, parameters, scaling, config);
        for (uint32_t l = 0; l < config->layer_count; l++)
            config->layer_rope[l] = sliding[l] ? 1 : 0;
        return;
    }
    double theta_absent = rule->theta_absent > 0 ? rule->theta_absent : 10000;
    double theta = take_number(root, "rope_theta", 1, THETA_MAX, theta_absent);
    reader rope =
        part_of(root, object, newer ? "config.json: rope_parameters" : "config.json: rope_scaling");
    config->rotary_dim = take_rotary_dim(&rope, root, rule, config);
    join(root, &rope);
    take_one(&rope, root, rule, theta, config, &config->rope[0]);
    join(root, &rope);
    config->rope_count = 1;
}
