#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/limits.h"
#include "worker/text/fields.h"
#include "worker/text/json_scan.h"
#include "worker/text/tokenizer_internal.h"

#define FILE_NAME "tokenizer_config.json"

/* The tokenizer classes that put BOS and EOS by their flags, whatever tokenizer.json says, and how
 * they spell them where the file does not. */
typedef struct flag_class {
    const char *name, *bos, *eos;
    bool add_bos; /* where the file does not say */
} flag_class;

static const flag_class flag_classes[] = {
    {"LlamaTokenizer", "<s>", "</s>", true},
    {"LlamaTokenizerFast", "<s>", "</s>", true},
    {"CodeLlamaTokenizer", "<s>", "</s>", true},
    {"CodeLlamaTokenizerFast", "<s>", "</s>", true},
    {"GemmaTokenizer", "<bos>", "<eos>", true},
    {"GemmaTokenizerFast", "<bos>", "<eos>", true},
    {"CohereTokenizer", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", true},
    {"CohereTokenizerFast", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", true},
    {"GPTNeoXTokenizer", "<|endoftext|>", "<|endoftext|>", false},
    {"GPTNeoXTokenizerFast", "<|endoftext|>", "<|endoftext|>", false},
};

static const flag_class *class_of(const json_t *config)
{
    const char *name = json_string_value(json_object_get(config, "tokenizer_class"));
    for (size_t i = 0; name != NULL && i < sizeof flag_classes / sizeof *flag_classes; i++)
        if (strcmp(flag_classes[i].name, name) == 0) return &flag_classes[i];
    return NULL;
}

/* A special token is written as its spelling, or as an object with "content". */
static status find_token(const tokenizer *t, const json_t *config, const char *key,
                         const char *spelling, uint32_t *id, error *err)
{
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    if (json_object_get(config, key) != NULL) {
        if (!json_is_string(value)) return field_wrong(FILE_NAME, key, "a token", value, err);
        spelling = json_string_value(value);
    }
    *id = tokenizer_find(t, spelling, strlen(spelling));
    if (*id == TOKEN_NONE)
        return error_set(err, ST_INVALID_ARGUMENT,
                         FILE_NAME ".%s: \"%.60s\" is not a token of tokenizer.json", key,
                         spelling);
    return ST_OK;
}

static status apply(tokenizer *t, const json_t *config, error *err)
{
    const flag_class *class = class_of(config);
    if (class == NULL) return ST_OK;
    bool add_bos = class->add_bos, add_eos = false;
    uint32_t bos = TOKEN_NONE, eos = TOKEN_NONE;
    status st = field_optional_bool(config, FILE_NAME, "add_bos_token", &add_bos, err);
    if (st == ST_OK) st = field_optional_bool(config, FILE_NAME, "add_eos_token", &add_eos, err);
    if (st == ST_OK && add_bos) st = find_token(t, config, "bos_token", class->bos, &bos, err);
    if (st == ST_OK && add_eos) st = find_token(t, config, "eos_token", class->eos, &eos, err);
    if (st == ST_OK) post_processor_set_bos_eos(&t->post_processor, bos, eos);
    return st;
}

status tokenizer_apply_config(tokenizer *t, const char *dir, error *err)
{
    static const char *const keys[] = {"tokenizer_class", "add_bos_token", "add_eos_token",
                                       "bos_token", "eos_token"};
    char path[4096];
    if (snprintf(path, sizeof path, "%s/" FILE_NAME, dir) >= (int)sizeof path)
        return error_set(err, ST_INVALID_ARGUMENT, "path too long: %.200s", dir);
    char *text;
    size_t size;
    status st = file_read(&text, &size, path, LIMIT_TOKENIZER_FILE_BYTES, err);
    if (st == ST_NOT_FOUND) return ST_OK;
    if (st != ST_OK) return st;
    json_t *config = NULL;
    st = json_check(text, size, FILE_NAME, err);
    if (st == ST_OK)
        st = json_pick_tree((json_span){text, size}, FILE_NAME, keys, sizeof keys / sizeof *keys,
                            &config, err);
    if (st == ST_OK) st = apply(t, config, err);
    json_decref(config);
    mem_free(text);
    return st;
}
