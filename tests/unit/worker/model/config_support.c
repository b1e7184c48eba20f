#include "tests/unit/worker/model/config_support.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const char base_config[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":1000,\"hidden_size\":64,"
    "\"intermediate_size\":172,\"num_hidden_layers\":5,\"num_attention_heads\":8,"
    "\"num_key_value_heads\":4,\"max_position_embeddings\":512,\"rms_norm_eps\":1e-5,"
    "\"bos_token_id\":1,\"eos_token_id\":2,\"hidden_act\":\"silu\"}";

/* The base with the fields of `edit` (an object) set; a field set to "absent" is removed. */
static char *edited(const char *edit)
{
    json_t *root = json_loads(base_config, 0, NULL);
    json_t *fields = json_loads(edit, 0, NULL);
    if (fields == NULL) fail_msg("the test's own JSON is broken: %s", edit);
    const char *key;
    json_t *value;
    json_object_foreach(fields, key, value)
    {
        const char *text = json_string_value(value);
        if (text != NULL && strcmp(text, "absent") == 0)
            json_object_del(root, key);
        else
            json_object_set(root, key, value);
    }
    char *result = json_dumps(root, 0);
    json_decref(root);
    json_decref(fields);
    return result;
}

status parse_edited(const char *edit, const char *generation, model_config *config,
                    generation_defaults *defaults, error *err)
{
    char *text = edited(edit);
    *err = (error){0};
    status st = model_config_parse(config, defaults, text, strlen(text), generation,
                                   generation != NULL ? strlen(generation) : 0, err);
    free(text);
    return st;
}

model_config accepted(const char *edit)
{
    model_config config;
    generation_defaults defaults;
    error err;
    if (parse_edited(edit, NULL, &config, &defaults, &err) != ST_OK)
        fail_msg("%s: refused: %s", edit, err.text);
    return config;
}

void assert_refusals(const refusal *cases, size_t count, bool in_generation)
{
    for (size_t i = 0; i < count; i++) {
        model_config config;
        generation_defaults defaults;
        error err;
        status st = parse_edited(in_generation ? "{}" : cases[i].edit,
                                 in_generation ? cases[i].edit : NULL, &config, &defaults, &err);
        if (st != cases[i].code || strstr(err.text, cases[i].sentence) == NULL)
            fail_msg("%s: expected %s \"%s\", found %s \"%s\"", cases[i].edit,
                     status_name(cases[i].code), cases[i].sentence, status_name(st), err.text);
    }
}
