#include <string.h>

#include "common/limits.h"
#include "worker/text/fields.h"
#include "worker/text/json_scan.h"
#include "worker/text/tokenizer_internal.h"

#define FILE_NAME "tokenizer.json"

/* -- model: the vocabulary and the rules ---------------------------------------------- */

#define SHOWN_BYTES 60 /* of a spelling in an error */

static int shown(size_t size)
{
    return size < SHOWN_BYTES ? (int)size : SHOWN_BYTES;
}

static status read_word(bpe *model, json_span key, json_span value, buffer *scratch, error *err)
{
    const char *spelling;
    size_t size;
    int64_t id;
    json_string_span(key, scratch, &spelling, &size);
    if (size > LIMIT_TOKEN_TEXT_BYTES)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "model.vocab[\"%.*s...\"]: a token of %zu bytes; the limit is %u",
                         shown(size), spelling, size, LIMIT_TOKEN_TEXT_BYTES);
    if (!json_integer_span(value, &id) || id < 0 || id >= (int64_t)LIMIT_VOCAB)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "model.vocab[\"%.*s\"]: expected an id of 0..%u, found %.*s", shown(size),
                         spelling, LIMIT_VOCAB - 1, shown(value.size), value.at);
    if (model->words.count == LIMIT_VOCAB)
        return error_set(err, ST_INVALID_ARGUMENT, "model.vocab: more than %u tokens", LIMIT_VOCAB);
    vocab_add(&model->words, spelling, size, (uint32_t)id);
    return ST_OK;
}

static status read_words(bpe *model, json_span words, error *err)
{
    if (!json_is_object_span(words))
        return error_set(err, ST_INVALID_ARGUMENT, "model.vocab: expected an object");
    json_walk walk = json_walk_begin(words);
    json_span key, value;
    buffer scratch = {0};
    status st = ST_OK;
    while (st == ST_OK && json_walk_member(&walk, &key, &value))
        st = read_word(model, key, value, &scratch, err);
    buffer_free(&scratch);
    return st;
}

/* The two sides of a rule; `text` is where escaped ones are written. */
typedef struct rule_sides {
    const char *text[2];
    size_t size[2];
    buffer scratch[2];
} rule_sides;

/* "left right": exactly one space. */
static bool split_rule(rule_sides *r, const char *text, size_t size)
{
    const char *space = memchr(text, ' ', size);
    if (space == NULL) return false;
    r->text[0] = text;
    r->size[0] = (size_t)(space - text);
    r->text[1] = space + 1;
    r->size[1] = size - r->size[0] - 1;
    return memchr(r->text[1], ' ', r->size[1]) == NULL;
}

/* ["left", "right"] */
static bool split_rule_pair(rule_sides *r, json_span rule)
{
    if (!json_is_array_span(rule)) return false;
    json_walk walk = json_walk_begin(rule);
    json_span side;
    for (int i = 0; i < 2; i++)
        if (!json_walk_element(&walk, &side) ||
            !json_string_span(side, &r->scratch[i], &r->text[i], &r->size[i]))
            return false;
    return !json_walk_element(&walk, &side);
}

static status read_rule(bpe *model, rule_sides *r, json_span rule, size_t index, error *err)
{
    static const char version[] = "#version"; /* a heading that old files keep in the list */
    const char *text, *missing;
    size_t size;
    bool ok;
    if (json_string_span(rule, &r->scratch[0], &text, &size)) {
        if (size >= sizeof version - 1 && memcmp(text, version, sizeof version - 1) == 0)
            return ST_OK;
        ok = split_rule(r, text, size);
    } else {
        ok = split_rule_pair(r, rule);
    }
    if (!ok)
        return error_set(
            err, ST_INVALID_ARGUMENT,
            "model.merges[%zu]: expected \"left right\" or [\"left\", \"right\"], found "
            "%.*s",
            index, shown(rule.size), rule.at);
    if (bpe_add_rule(model, r->text[0], r->size[0], r->text[1], r->size[1], &missing) != ST_OK)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "model.merges[%zu]: the %s of \"%.*s\" and \"%.*s\" is not in the "
                         "vocabulary",
                         index, missing, shown(r->size[0]), r->text[0], shown(r->size[1]),
                         r->text[1]);
    return ST_OK;
}

static status read_rules(bpe *model, json_span rules, error *err)
{
    json_walk walk = json_walk_begin(rules);
    json_span rule;
    rule_sides sides = {0};
    status st = ST_OK;
    for (size_t i = 0; st == ST_OK && json_walk_element(&walk, &rule); i++)
        st = read_rule(model, &sides, rule, i, err);
    buffer_free(&sides.scratch[0]);
    buffer_free(&sides.scratch[1]);
    return st;
}

static status read_affix(const json_t *fields, const char *key, char **out, size_t *size,
                         error *err)
{
    const char *text;
    status st = field_optional_string(fields, "model", key, &text, size, err);
    if (st != ST_OK || *size == 0) return st;
    if (*size > LIMIT_TOKEN_TEXT_BYTES / 2)
        return error_set(err, ST_INVALID_ARGUMENT, "model.%s: %zu bytes; the limit is %u", key,
                         *size, LIMIT_TOKEN_TEXT_BYTES / 2);
    *out = mem_strndup(text, *size);
    return ST_OK;
}

static status read_options(bpe *model, const json_t *fields, error *err)
{
    const json_t *dropout = json_object_get(fields, "dropout");
    if (dropout != NULL && (!json_is_number(dropout) || json_number_value(dropout) != 0))
        return error_set(err, ST_UNIMPLEMENTED,
                         "model.dropout: only null is supported (a text must always give the same "
                         "tokens)");
    status st = field_optional_bool(fields, "model", "fuse_unk", &model->fuse_unknown, err);
    if (st == ST_OK)
        st = field_optional_bool(fields, "model", "byte_fallback", &model->byte_fallback, err);
    if (st == ST_OK)
        st = field_optional_bool(fields, "model", "ignore_merges", &model->ignore_merges, err);
    if (st == ST_OK)
        st = read_affix(fields, "continuing_subword_prefix", &model->prefix, &model->prefix_size,
                        err);
    if (st == ST_OK)
        st = read_affix(fields, "end_of_word_suffix", &model->suffix, &model->suffix_size, err);
    return st;
}

/* Options first, as rules need the prefix; then words, then rules between them. */
static status read_parts(bpe *model, const json_t *fields, json_span words, json_span rules,
                         error *err)
{
    const char *unknown;
    size_t size, twice;
    status st = read_options(model, fields, err);
    if (st == ST_OK) st = field_optional_string(fields, "model", "unk_token", &unknown, &size, err);
    if (st == ST_OK) st = read_words(model, words, err);
    if (st != ST_OK) return st;
    if (!bpe_index_words(model, &twice)) {
        const vocab_entry *word = &model->words.entries[twice];
        return error_set(err, ST_INVALID_ARGUMENT, "model.vocab[\"%.*s\"]: is there twice",
                         shown(word->size), vocab_spelling(&model->words, word));
    }
    /* A name that is no word is harmless as long as no character is unknown, and common. */
    model->unknown = unknown != NULL ? vocab_find(&model->words, unknown, size) : TOKEN_NONE;
    st = read_rules(model, rules, err);
    if (st == ST_OK) bpe_finish(model);
    return st;
}

static status read_model(bpe *model, json_span spec, error *err)
{
    enum { VOCAB, MERGES, LISTS };
    static const char *const lists[] = {[VOCAB] = "vocab", [MERGES] = "merges"};
    static const char *const options[] = {"type",
                                          "dropout",
                                          "unk_token",
                                          "continuing_subword_prefix",
                                          "end_of_word_suffix",
                                          "fuse_unk",
                                          "byte_fallback",
                                          "ignore_merges"};
    json_span list[LISTS];
    json_t *fields;
    if (!json_is_object_span(spec))
        return error_set(err, ST_INVALID_ARGUMENT, "model: expected an object");
    status st = json_pick(spec, "model", lists, list, LISTS, err);
    if (st == ST_OK)
        st = json_pick_tree(spec, "model", options, sizeof options / sizeof *options, &fields, err);
    if (st != ST_OK) return st;
    /* Files from before models had a type are told by their fields. */
    const json_t *type = json_object_get(fields, "type");
    if (type != NULL && !json_is_string(type))
        st = field_wrong("model", "type", "a string", type, err);
    else if (type != NULL && strcmp(json_string_value(type), "BPE") != 0)
        st = field_unknown_type("model", json_string_value(type), err);
    else if (!json_is_array_span(list[MERGES]))
        st = error_set(err, ST_INVALID_ARGUMENT, "model.merges: expected an array");
    else
        st = read_parts(model, fields, list[VOCAB], list[MERGES], err);
    json_decref(fields);
    return st;
}

/* -- all of it ---------------------------------------------------------------------- */

static status spell(tokenizer *t, uint32_t id, const char *bytes, size_t size, error *err)
{
    const token_spelling *other = &t->spellings[id];
    if (other->bytes != NULL)
        return error_set(err, ST_INVALID_ARGUMENT,
                         FILE_NAME ": id %u is taken twice, by \"%.*s\" and \"%.*s\"", id,
                         shown(other->size), other->bytes, shown(size), bytes);
    t->spellings[id] = (token_spelling){.bytes = bytes, .size = (uint32_t)size};
    return ST_OK;
}

/* The table from ids to spellings. An added token that is also a word keeps the word's place. */
static status index_spellings(tokenizer *t, error *err)
{
    const vocab *words = &t->model.words;
    for (size_t i = 0; i < words->count; i++)
        if (words->entries[i].id >= t->vocab_size) t->vocab_size = words->entries[i].id + 1;
    for (size_t i = 0; i < t->added.count; i++)
        if (t->added.tokens[i].id >= t->vocab_size) t->vocab_size = t->added.tokens[i].id + 1;
    t->spellings = mem_calloc(t->vocab_size, sizeof *t->spellings);
    status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < words->count; i++) {
        const vocab_entry *word = &words->entries[i];
        st = spell(t, word->id, vocab_spelling(words, word), word->size, err);
    }
    for (size_t i = 0; st == ST_OK && i < t->added.count; i++) {
        const added_token *token = &t->added.tokens[i];
        if (vocab_find(words, token->content, token->size) == TOKEN_NONE)
            st = spell(t, token->id, token->content, token->size, err);
        t->spellings[token->id].special = token->special;
    }
    return st;
}

status tokenizer_read_json(tokenizer *t, const char *json, size_t size, error *err)
{
    enum { VERSION, MODEL, ADDED, NORMALIZER, PRE_TOKENIZER, POST_PROCESSOR, DECODER, PARTS };
    static const char *const names[] = {
        [VERSION] = "version",
        [MODEL] = "model",
        [ADDED] = "added_tokens",
        [NORMALIZER] = "normalizer",
        [PRE_TOKENIZER] = "pre_tokenizer",
        [POST_PROCESSOR] = "post_processor",
        [DECODER] = "decoder",
    };
    json_span span[PARTS];
    json_t *tree[PARTS] = {0};
    status st = json_check(json, size, FILE_NAME, err);
    if (st == ST_OK) st = json_pick((json_span){json, size}, FILE_NAME, names, span, PARTS, err);
    for (int i = 0; st == ST_OK && i < PARTS; i++)
        if (i != MODEL && i != ADDED)
            st = json_tree_of(span[i], LIMIT_CONFIG_FILE_BYTES, names[i], &tree[i], err);
    if (st == ST_OK && tree[VERSION] != NULL &&
        (!json_is_string(tree[VERSION]) || strcmp(json_string_value(tree[VERSION]), "1.0") != 0))
        st = error_set(err, ST_UNIMPLEMENTED, FILE_NAME ".version: only \"1.0\" is supported");
    if (st == ST_OK) st = read_model(&t->model, span[MODEL], err);
    if (st == ST_OK) st = added_tokens_parse(&t->added, span[ADDED], &t->model.words, err);
    if (st == ST_OK) st = index_spellings(t, err);
    if (st == ST_OK) st = normalizer_parse(&t->normalizer, tree[NORMALIZER], err);
    if (st == ST_OK) st = pretokenizer_parse(&t->pretokenizer, tree[PRE_TOKENIZER], err);
    if (st == ST_OK) st = post_processor_parse(&t->post_processor, tree[POST_PROCESSOR], err);
    if (st == ST_OK) st = decoder_parse(&t->decoder, tree[DECODER], err);
    if (st == ST_OK) st = added_tokens_index(&t->added, &t->normalizer, err);
    for (int i = 0; i < PARTS; i++)
        json_decref(tree[i]);
    return st;
}
