#include "worker/text/tokenizer.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "common/limits.h"
#include "common/mem.h"
#include "worker/text/detokenizer.h"
#include "worker/text/tokenizer_internal.h"
#include "worker/text/utf8.h"

/* -- loading ------------------------------------------------------------------------ */

status tokenizer_parse(tokenizer **out, const char *json, size_t size, error *err)
{
    tokenizer *t = mem_calloc(1, sizeof *t);
    status st = tokenizer_read_json(t, json, size, err);
    if (st != ST_OK) {
        tokenizer_destroy(t);
        return st;
    }
    *out = t;
    return ST_OK;
}

/* Name what is there instead of a tokenizer.json. */
static status no_tokenizer(const char *dir, error *err)
{
    static const char *const others[] = {"tokenizer.model", "tekken.json", "vocab.json"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%.4000s/%s", dir, others[i]);
        if (access(path, F_OK) == 0)
            return error_set(err, ST_NOT_FOUND,
                             "%.200s has no tokenizer.json; its %s is not supported, only "
                             "tokenizer.json is",
                             dir, others[i]);
    }
    return error_set(err, ST_NOT_FOUND, "%.200s has no tokenizer.json", dir);
}

status tokenizer_load(tokenizer **out, const char *dir, error *err)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/tokenizer.json", dir) >= (int)sizeof path)
        return error_set(err, ST_INVALID_ARGUMENT, "path too long: %.200s", dir);
    char *json;
    size_t size;
    status st = file_read(&json, &size, path, LIMIT_TOKENIZER_FILE_BYTES, err);
    if (st == ST_NOT_FOUND) return no_tokenizer(dir, err);
    if (st != ST_OK) return st;
    tokenizer *t;
    st = tokenizer_parse(&t, json, size, err);
    mem_free(json);
    if (st != ST_OK) return error_prefix(err, st, "%.200s", path);
    st = tokenizer_apply_config(t, dir, err);
    if (st != ST_OK) {
        tokenizer_destroy(t);
        return st;
    }
    *out = t;
    return ST_OK;
}

void tokenizer_destroy(tokenizer *t)
{
    if (t == NULL) return;
    added_tokens_free(&t->added);
    normalizer_free(&t->normalizer);
    pretokenizer_free(&t->pretokenizer);
    bpe_free(&t->model);
    post_processor_free(&t->post_processor);
    decoder_free(&t->decoder);
    mem_free(t->spellings);
    mem_free(t);
}

/* -- the vocabulary ----------------------------------------------------------------- */

uint32_t tokenizer_vocab_size(const tokenizer *t)
{
    return t->vocab_size;
}

uint32_t tokenizer_find(const tokenizer *t, const char *token, size_t size)
{
    uint32_t id = vocab_find(&t->added.names, token, size);
    return id != TOKEN_NONE ? id : vocab_find(&t->model.words, token, size);
}

const char *tokenizer_spelling(const tokenizer *t, uint32_t id, size_t *size)
{
    if (id >= t->vocab_size || t->spellings[id].bytes == NULL) return NULL;
    *size = t->spellings[id].size;
    return t->spellings[id].bytes;
}

bool tokenizer_is_special(const tokenizer *t, uint32_t id)
{
    return id < t->vocab_size && t->spellings[id].special;
}

void token_list_push(token_list *list, uint32_t id)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 32 : list->capacity + list->capacity / 2;
        list->ids = mem_realloc(list->ids, list->capacity * sizeof *list->ids);
    }
    list->ids[list->count++] = id;
}

void token_list_free(token_list *list)
{
    mem_free(list->ids);
    *list = (token_list){0};
}

/* -- encoding ----------------------------------------------------------------------- */

/* What one call to encode needs; nothing of it outlives the call. */
typedef struct encoding {
    const tokenizer *tokenizer;
    token_list *out;
    bool parse_special;
    pattern_search *search;
    bpe_scratch *bpe;
    pretokenizer_scratch pretokenizer;
    buffer normalized, spare;
} encoding;

static void encoding_init(encoding *e, const tokenizer *t, unsigned flags, size_t text_size,
                          token_list *out)
{
    *e = (encoding){.tokenizer = t, .out = out};
    e->parse_special = (flags & TOKENIZE_PARSE_SPECIAL) != 0;
    e->search = pattern_search_create();
    e->bpe = bpe_scratch_create(text_size);
    e->pretokenizer.search = e->search;
}

static void encoding_fini(encoding *e)
{
    pattern_search_destroy(e->search);
    bpe_scratch_destroy(e->bpe);
    pretokenizer_scratch_free(&e->pretokenizer);
    buffer_free(&e->normalized);
    buffer_free(&e->spare);
}

static void encode_piece(void *context, const char *piece, size_t size)
{
    encoding *e = context;
    bpe_encode(&e->tokenizer->model, e->bpe, piece, size, e->out);
}

/* Text between added tokens: normalize it, take out the tokens that match normalized text, cut the
 * rest into pieces. `first`: it begins the input. */
static void encode_between(encoding *e, const char *text, size_t size, bool first)
{
    const tokenizer *t = e->tokenizer;
    size_t origin = 0;
    if (first) utf8_decode(text, &origin);
    if (t->normalizer.count > 0) {
        normalizer_run(&t->normalizer, e->search, text, size, &origin, &e->normalized, &e->spare);
        text = (const char *)e->normalized.data;
        size = e->normalized.size;
    }
    added_scan scan = {.added = &t->added,
                       .tree = &t->added.normalized,
                       .text = text,
                       .size = size,
                       .parse_special = e->parse_special};
    added_piece piece;
    while (added_scan_next(&scan, &piece)) {
        if (piece.token != NULL)
            token_list_push(e->out, piece.token->id);
        else
            pretokenizer_run(&t->pretokenizer, &e->pretokenizer, text + piece.start,
                             piece.end - piece.start,
                             origin > piece.start ? origin - piece.start : 0, encode_piece, e);
    }
}

static void encode_text(encoding *e, const char *text, size_t size)
{
    buffer repaired = {0};
    if (!utf8_valid(text, size)) {
        utf8_append_lossy(&repaired, text, size);
        text = (const char *)repaired.data;
        size = repaired.size;
    }
    added_scan scan = {.added = &e->tokenizer->added,
                       .tree = &e->tokenizer->added.raw,
                       .text = text,
                       .size = size,
                       .parse_special = e->parse_special};
    added_piece piece;
    while (added_scan_next(&scan, &piece)) {
        if (piece.token != NULL)
            token_list_push(e->out, piece.token->id);
        else
            encode_between(e, text + piece.start, piece.end - piece.start, piece.start == 0);
    }
    buffer_free(&repaired);
}

static void encode_template(const tokenizer *t, const input_template *template, const char *a,
                            size_t a_size, const char *b, size_t b_size, unsigned flags,
                            token_list *out)
{
    encoding e;
    encoding_init(&e, t, flags, a_size + b_size, out);
    for (size_t i = 0; i < template->count; i++) {
        const template_part *part = &template->parts[i];
        if (part->kind == TEMPLATE_FIRST)
            encode_text(&e, a, a_size);
        else if (part->kind == TEMPLATE_SECOND)
            encode_text(&e, b, b_size);
        else if ((flags & TOKENIZE_ADD_SPECIAL) != 0)
            token_list_push(out, part->id);
    }
    encoding_fini(&e);
}

void tokenizer_encode(const tokenizer *t, const char *text, size_t size, unsigned flags,
                      token_list *out)
{
    encode_template(t, &t->post_processor.single, text, size, "", 0, flags, out);
}

void tokenizer_encode_pair(const tokenizer *t, const char *a, size_t a_size, const char *b,
                           size_t b_size, unsigned flags, token_list *out)
{
    encode_template(t, &t->post_processor.pair, a, a_size, b, b_size, flags, out);
}

/* -- decoding ----------------------------------------------------------------------- */

char *tokenizer_decode(const tokenizer *t, const uint32_t *ids, size_t count, bool skip_special,
                       size_t *out_size)
{
    detokenizer *d = detokenizer_create(t, skip_special, true);
    buffer out = {0};
    for (size_t i = 0; i < count; i++)
        detokenizer_push(d, ids[i], &out);
    detokenizer_finish(d, &out);
    detokenizer_destroy(d);
    *out_size = out.size;
    buffer_append(&out, "", 1);
    return (char *)out.data;
}
