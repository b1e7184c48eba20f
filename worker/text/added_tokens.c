#include "worker/text/added_tokens.h"

#include <string.h>

#include "common/limits.h"
#include "worker/text/fields.h"
#include "worker/text/utf8.h"

/* One token as JSON: its content (escaped at worst six times as long) and six fields. */
#define TOKEN_SPEC_BYTES_MAX (8u * LIMIT_TOKEN_TEXT_BYTES)

/* -- parsing ------------------------------------------------------------------------ */

static status parse_token(added_token *token, const json_t *spec, const char *where, error *err)
{
    const char *content;
    if (!json_is_object(spec))
        return error_set(err, ST_INVALID_ARGUMENT, "%s: expected an object", where);
    status st = field_string(spec, where, "content", &content, &token->size, err);
    if (st == ST_OK) st = field_uint(spec, where, "id", LIMIT_VOCAB - 1, &token->id, err);
    if (st == ST_OK) st = field_bool(spec, where, "single_word", &token->single_word, err);
    if (st == ST_OK) st = field_bool(spec, where, "lstrip", &token->lstrip, err);
    if (st == ST_OK) st = field_bool(spec, where, "rstrip", &token->rstrip, err);
    if (st == ST_OK) st = field_bool(spec, where, "normalized", &token->normalized, err);
    if (st == ST_OK) st = field_bool(spec, where, "special", &token->special, err);
    if (st != ST_OK) return st;
    if (token->size == 0 || token->size > LIMIT_TOKEN_TEXT_BYTES)
        return error_set(err, ST_INVALID_ARGUMENT, "%s.content: expected 1..%u bytes, found %zu",
                         where, LIMIT_TOKEN_TEXT_BYTES, token->size);
    token->content = mem_strndup(content, token->size);
    return ST_OK;
}

static status read_token(added_token *token, json_span span, size_t index, uint32_t expected_next,
                         const vocab *words, error *err)
{
    field_path where = field_path_item("tokenizer.json", "added_tokens", index);
    json_t *spec;
    status st = json_tree_of(span, TOKEN_SPEC_BYTES_MAX, where.text, &spec, err);
    if (st != ST_OK) return st;
    st = parse_token(token, spec, where.text, err);
    json_decref(spec);
    if (st != ST_OK) return st;
    uint32_t expected = vocab_find(words, token->content, token->size);
    if (expected == TOKEN_NONE) expected = expected_next;
    if (token->id != expected)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "%s.id: \"%.60s\" must have id %u (that of the vocabulary, or the next "
                         "free one), found %u",
                         where.text, token->content, expected, token->id);
    return ST_OK;
}

status added_tokens_parse(added_tokens *out, json_span spec, const vocab *words, error *err)
{
    *out = (added_tokens){0};
    size_t capacity = 0, twice;
    uint32_t next_id = (uint32_t)words->count;
    if (!json_is_null_span(spec) && !json_is_array_span(spec))
        return error_set(err, ST_INVALID_ARGUMENT,
                         "tokenizer.json.added_tokens: expected an array");
    if (json_is_null_span(spec)) spec = (json_span){"[]", 2};
    json_walk walk = json_walk_begin(spec);
    json_span item;
    while (json_walk_element(&walk, &item)) {
        if (out->count == LIMIT_VOCAB)
            return error_set(err, ST_INVALID_ARGUMENT,
                             "tokenizer.json.added_tokens: more than %u tokens", LIMIT_VOCAB);
        if (out->count == capacity) {
            capacity = capacity == 0 ? 64 : capacity * 2;
            out->tokens = mem_realloc(out->tokens, capacity * sizeof *out->tokens);
        }
        added_token *token = &out->tokens[out->count++];
        *token = (added_token){0};
        status st = read_token(token, item, out->count - 1, next_id, words, err);
        if (st != ST_OK) return st;
        if (token->id >= next_id) next_id = token->id + 1;
        vocab_add(&out->names, token->content, token->size, token->id);
    }
    if (!vocab_finish(&out->names, &twice))
        return error_set(err, ST_INVALID_ARGUMENT,
                         "tokenizer.json.added_tokens[%zu].content: \"%.60s\" is there twice",
                         twice, out->tokens[twice].content);
    return ST_OK;
}

void added_tokens_free(added_tokens *a)
{
    for (size_t i = 0; i < a->count; i++)
        mem_free(a->tokens[i].content);
    mem_free(a->tokens);
    vocab_free(&a->names);
    mem_free(a->raw.nodes);
    mem_free(a->normalized.nodes);
    *a = (added_tokens){0};
}

/* -- the trees ---------------------------------------------------------------------- */

static uint32_t child_of(const token_tree *tree, uint32_t node, uint8_t byte)
{
    uint32_t child = tree->nodes[node].child;
    while (child != 0 && tree->nodes[child].byte != byte)
        child = tree->nodes[child].sibling;
    return child;
}

static uint32_t tree_node(token_tree *tree, uint8_t byte, uint32_t sibling)
{
    if (tree->count == tree->capacity) {
        tree->capacity = tree->capacity == 0 ? 64 : tree->capacity * 2;
        tree->nodes = mem_realloc(tree->nodes, tree->capacity * sizeof *tree->nodes);
    }
    if (tree->count == 0) tree->nodes[tree->count++] = (token_tree_node){0};
    tree->nodes[tree->count] = (token_tree_node){.byte = byte, .sibling = sibling};
    return (uint32_t)tree->count++;
}

/* Of two tokens with one spelling the first stays. */
static void tree_add(token_tree *tree, const char *spelling, size_t size, size_t token)
{
    uint8_t first = (uint8_t)spelling[0];
    if (tree->roots[first] == 0) tree->roots[first] = tree_node(tree, first, 0);
    uint32_t node = tree->roots[first];
    for (size_t i = 1; i < size; i++) {
        uint8_t byte = (uint8_t)spelling[i];
        uint32_t child = child_of(tree, node, byte);
        if (child == 0) {
            child = tree_node(tree, byte, tree->nodes[node].child);
            tree->nodes[node].child = child;
        }
        node = child;
    }
    if (tree->nodes[node].token == 0) tree->nodes[node].token = (uint32_t)token + 1;
}

status added_tokens_index(added_tokens *a, const normalizer *n, error *err)
{
    pattern_search *search = pattern_search_create();
    buffer spelling = {0}, spare = {0};
    status st = ST_OK;
    /* Special tokens come first, as in the reference: that decides between equal spellings. */
    for (int special = 1; special >= 0; special--)
        for (size_t i = 0; st == ST_OK && i < a->count; i++) {
            const added_token *token = &a->tokens[i];
            if (token->special != (special == 1)) continue;
            if (!token->normalized) {
                tree_add(&a->raw, token->content, token->size, i);
                continue;
            }
            size_t origin = 0;
            normalizer_run(n, search, token->content, token->size, &origin, &spelling, &spare);
            if (spelling.size == 0)
                st = error_set(err, ST_UNIMPLEMENTED,
                               "tokenizer.json.added_tokens[%zu]: the normalizer leaves nothing of "
                               "\"%.60s\"",
                               i, token->content);
            else
                tree_add(&a->normalized, (const char *)spelling.data, spelling.size, i);
        }
    buffer_free(&spelling);
    buffer_free(&spare);
    pattern_search_destroy(search);
    return st;
}

/* -- scanning ----------------------------------------------------------------------- */

/* The first place at or after `from` where a token is, and the longest one there. */
static const added_token *find_next(const added_scan *scan, size_t from, size_t *start, size_t *end)
{
    const token_tree *tree = scan->tree;
    const uint8_t *text = (const uint8_t *)scan->text;
    for (size_t at = from; tree->count > 0 && at < scan->size; at++) {
        uint32_t node = tree->roots[text[at]];
        if (node == 0) continue;
        const added_token *longest = NULL;
        for (size_t i = at + 1; node != 0; i++) {
            if (tree->nodes[node].token != 0) {
                longest = &scan->added->tokens[tree->nodes[node].token - 1];
                *end = i;
            }
            if (i == scan->size) break;
            node = child_of(tree, node, text[i]);
        }
        if (longest != NULL) {
            *start = at;
            return longest;
        }
    }
    return NULL;
}

static size_t character_before(const char *text, size_t end)
{
    size_t at = end - 1;
    while (((unsigned char)text[at] & 0xC0) == 0x80)
        at--;
    return at;
}

static bool stands_alone(const added_scan *scan, size_t start, size_t end)
{
    size_t length;
    if (start > 0 &&
        unicode_is_word(utf8_decode(scan->text + character_before(scan->text, start), &length)))
        return false;
    return end == scan->size || !unicode_is_word(utf8_decode(scan->text + end, &length));
}

/* Not into what is done already; that may even lie behind `start`. */
static size_t strip_left(const added_scan *scan, size_t start)
{
    size_t length;
    if (start < scan->text_at) return scan->text_at;
    while (start > scan->text_at) {
        size_t before = character_before(scan->text, start);
        if (!unicode_is_white_space(utf8_decode(scan->text + before, &length))) break;
        start = before;
    }
    return start;
}

static size_t strip_right(const added_scan *scan, size_t end)
{
    size_t length;
    while (end < scan->size && unicode_is_white_space(utf8_decode(scan->text + end, &length)))
        end += length;
    return end;
}

/* As in the reference the search goes on where the token itself ended, not where the white space
 * that it took ended; so a token may begin inside that, and takes it over. One that would have to
 * give up all of itself is dropped. */
bool added_scan_next(added_scan *scan, added_piece *piece)
{
    if (scan->found != NULL) {
        *piece = (added_piece){scan->found, scan->text_at, scan->found_end};
        scan->text_at = scan->found_end;
        scan->found = NULL;
        return true;
    }
    size_t start, end;
    const added_token *token;
    while ((token = find_next(scan, scan->search_at, &start, &end)) != NULL) {
        scan->search_at = end;
        if (token->special && !scan->parse_special) continue;
        if (token->single_word && !stands_alone(scan, start, end)) continue;
        if (token->lstrip) start = strip_left(scan, start);
        if (token->rstrip) end = strip_right(scan, end);
        if (start >= end) continue;
        if (scan->text_at < start) {
            *piece = (added_piece){NULL, scan->text_at, start};
            scan->text_at = start;
            scan->found = token;
            scan->found_end = end;
        } else {
            *piece = (added_piece){token, start, end};
            scan->text_at = end;
        }
        return true;
    }
    scan->search_at = scan->size;
    if (scan->text_at >= scan->size) return false;
    *piece = (added_piece){NULL, scan->text_at, scan->size};
    scan->text_at = scan->size;
    return true;
}
