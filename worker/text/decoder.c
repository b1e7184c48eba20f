#include "worker/text/decoder.h"

#include <string.h>

#include "common/limits.h"
#include "worker/text/byte_level.h"
#include "worker/text/fields.h"
#include "worker/text/utf8.h"

typedef enum decoder_kind {
    DECODE_REPLACE,
    DECODE_METASPACE,
    DECODE_STRIP,
    DECODE_BYTE_FALLBACK,
    DECODE_FUSE,
    DECODE_BYTE_LEVEL,
} decoder_kind;

struct decoder_step {
    decoder_kind kind;
    bool whole;    /* stands behind a joining step: sees one text, in fragments */
    pattern *find; /* Replace */
    char *text;    /* Replace: what is put in */
    size_t text_size;
    char character[4]; /* Metaspace, Strip */
    size_t character_size;
    bool drops_first;                /* Metaspace: in the first token replacements vanish */
    uint32_t strip_start, strip_end; /* characters at most */
};

/* -- parsing ------------------------------------------------------------------------ */

static status parse_component(decoder *out, const json_t *spec, const char *where, error *err);

static status parse_sequence(decoder *out, const json_t *spec, const char *where, error *err)
{
    json_t *list;
    status st = field_array(spec, where, "decoders", &list, err);
    for (size_t i = 0; st == ST_OK && i < json_array_size(list); i++) {
        field_path path = field_path_item(where, "decoders", i);
        st = parse_component(out, json_array_get(list, i), path.text, err);
    }
    return st;
}

static status parse_character(decoder_step *step, const json_t *spec, const char *where,
                              const char *key, error *err)
{
    const char *text;
    status st = field_character(spec, where, key, &text, &step->character_size, err);
    if (st == ST_OK) memcpy(step->character, text, step->character_size);
    return st;
}

static status parse_replace(decoder_step *step, const json_t *spec, const char *where, error *err)
{
    const char *content;
    status st = field_string(spec, where, "content", &content, &step->text_size, err);
    if (st != ST_OK) return st;
    step->text = mem_strndup(content, step->text_size);
    return pattern_parse(&step->find, json_object_get(spec, "pattern"), where, err);
}

static status parse_metaspace(decoder_step *step, const json_t *spec, const char *where, error *err)
{
    bool prefix_space = true;
    const char *scheme;
    size_t size;
    status st = parse_character(step, spec, where, "replacement", err);
    if (st == ST_OK) st = field_optional_bool(spec, where, "add_prefix_space", &prefix_space, err);
    if (st == ST_OK) st = field_optional_string(spec, where, "prepend_scheme", &scheme, &size, err);
    if (st != ST_OK) return st;
    step->drops_first = scheme != NULL ? strcmp(scheme, "never") != 0 : prefix_space;
    return ST_OK;
}

static status parse_strip(decoder_step *step, const json_t *spec, const char *where, error *err)
{
    status st = parse_character(step, spec, where, "content", err);
    if (st == ST_OK) st = field_uint(spec, where, "start", UINT16_MAX, &step->strip_start, err);
    if (st == ST_OK) st = field_uint(spec, where, "stop", UINT16_MAX, &step->strip_end, err);
    return st;
}

static status parse_component(decoder *out, const json_t *spec, const char *where, error *err)
{
    const char *type;
    status st = field_type(spec, where, &type, err);
    if (st != ST_OK) return st;
    if (strcmp(type, "Sequence") == 0) return parse_sequence(out, spec, where, err);

    bool whole = false;
    for (size_t i = 0; i < out->count; i++)
        if (out->steps[i].kind == DECODE_FUSE || out->steps[i].kind == DECODE_BYTE_LEVEL)
            whole = true;
    if (whole && strcmp(type, "Fuse") == 0) return ST_OK; /* it is one text already */
    if (out->count == LIMIT_TOKENIZER_STEPS)
        return error_set(err, ST_INVALID_ARGUMENT, "%s: more than %u decoders", where,
                         LIMIT_TOKENIZER_STEPS);
    decoder_step *step = &out->steps[out->count++];
    *step = (decoder_step){.whole = whole};
    if (strcmp(type, "Strip") == 0) {
        step->kind = DECODE_STRIP;
        return parse_strip(step, spec, where, err);
    }
    if (strcmp(type, "Replace") == 0) {
        step->kind = DECODE_REPLACE;
        st = parse_replace(step, spec, where, err);
    } else if (strcmp(type, "Metaspace") == 0) {
        step->kind = DECODE_METASPACE;
        st = parse_metaspace(step, spec, where, err);
    } else if (strcmp(type, "ByteFallback") == 0) {
        step->kind = DECODE_BYTE_FALLBACK;
    } else if (strcmp(type, "Fuse") == 0) {
        step->kind = DECODE_FUSE;
    } else if (strcmp(type, "ByteLevel") == 0) {
        step->kind = DECODE_BYTE_LEVEL;
    } else {
        return field_unknown_type(where, type, err);
    }
    if (st == ST_OK && whole)
        return error_set(err, ST_UNIMPLEMENTED,
                         "%s: \"%s\" behind a decoder that joins the tokens is not supported",
                         where, type);
    return st;
}

status decoder_parse(decoder *out, const json_t *spec, error *err)
{
    *out = (decoder){0};
    if (spec == NULL || json_is_null(spec)) {
        out->join_with_spaces = true;
        return ST_OK;
    }
    out->steps = mem_calloc(LIMIT_TOKENIZER_STEPS, sizeof *out->steps);
    return parse_component(out, spec, "decoder", err);
}

void decoder_free(decoder *d)
{
    for (size_t i = 0; i < d->count; i++) {
        pattern_destroy(d->steps[i].find);
        mem_free(d->steps[i].text);
    }
    mem_free(d->steps);
    *d = (decoder){0};
}

/* -- running ------------------------------------------------------------------------ */

/* What one step remembers between two tokens. */
typedef struct step_state {
    bool began;        /* a token has come through; or: nothing is left to strip in front */
    uint32_t stripped; /* Strip of the whole text: characters taken in front so far */
    uint32_t held;     /* Strip of the whole text: characters kept back at the end */
    buffer bytes;      /* ByteFallback: the row so far; ByteLevel: an unfinished character */
    buffer made;       /* what the step made of a token, for the next step */
} step_state;

struct decoder_state {
    const decoder *decoder;
    pattern_search *search;
    bool began;
    step_state steps[];
};

decoder_state *decoder_state_create(const decoder *d, bool at_start)
{
    decoder_state *s = mem_calloc(1, sizeof *s + d->count * sizeof s->steps[0]);
    s->decoder = d;
    s->search = pattern_search_create();
    s->began = !at_start;
    for (size_t i = 0; i < d->count; i++)
        s->steps[i].began = !at_start;
    return s;
}

void decoder_state_destroy(decoder_state *s)
{
    if (s == NULL) return;
    for (size_t i = 0; i < s->decoder->count; i++) {
        buffer_free(&s->steps[i].bytes);
        buffer_free(&s->steps[i].made);
    }
    pattern_search_destroy(s->search);
    mem_free(s);
}

static void run(decoder_state *s, size_t index, const char *text, size_t size, buffer *out);

static void run_replace(decoder_state *s, size_t index, const char *text, size_t size, buffer *out)
{
    const decoder_step *step = &s->decoder->steps[index];
    buffer *made = &s->steps[index].made;
    pattern_cursor cursor = {0};
    size_t done = 0, start, end;
    buffer_clear(made);
    while (pattern_next(step->find, s->search, text, size, &cursor, &start, &end)) {
        buffer_append(made, text + done, start - done);
        buffer_append(made, step->text, step->text_size);
        done = end;
    }
    buffer_append(made, text + done, size - done);
    run(s, index + 1, (const char *)made->data, made->size, out);
}

static void run_metaspace(decoder_state *s, size_t index, const char *text, size_t size,
                          buffer *out)
{
    const decoder_step *step = &s->decoder->steps[index];
    step_state *state = &s->steps[index];
    bool drop = step->drops_first && !state->began;
    state->began = true;
    buffer_clear(&state->made);
    for (size_t at = 0, length; at < size; at += length) {
        utf8_decode(text + at, &length);
        if (length != step->character_size || memcmp(text + at, step->character, length) != 0)
            buffer_append(&state->made, text + at, length);
        else if (!drop)
            buffer_append(&state->made, " ", 1);
    }
    run(s, index + 1, (const char *)state->made.data, state->made.size, out);
}

static bool begins_with(const decoder_step *step, const char *text, size_t size)
{
    return size >= step->character_size && memcmp(text, step->character, step->character_size) == 0;
}

static void strip_token(decoder_state *s, size_t index, const char *text, size_t size, buffer *out)
{
    const decoder_step *step = &s->decoder->steps[index];
    for (uint32_t i = 0; i < step->strip_start && begins_with(step, text, size); i++) {
        text += step->character_size;
        size -= step->character_size;
    }
    for (uint32_t i = 0; i < step->strip_end && size >= step->character_size; i++) {
        if (!begins_with(step, text + size - step->character_size, step->character_size)) break;
        size -= step->character_size;
    }
    run(s, index + 1, text, size, out);
}

/* The text comes in fragments. In front, up to strip_start characters go. At the end up to
 * strip_end are kept back for as long as they might be the last ones. */
static void strip_whole(decoder_state *s, size_t index, const char *text, size_t size, buffer *out)
{
    const decoder_step *step = &s->decoder->steps[index];
    step_state *state = &s->steps[index];
    while (!state->began && size > 0) {
        if (state->stripped == step->strip_start || !begins_with(step, text, size)) {
            state->began = true;
            break;
        }
        state->stripped++;
        text += step->character_size;
        size -= step->character_size;
    }
    if (size == 0) return;
    size_t run_start = size; /* of the stripped character at the fragment's end */
    uint32_t trailing = 0;
    while (run_start >= step->character_size &&
           begins_with(step, text + run_start - step->character_size, step->character_size)) {
        run_start -= step->character_size;
        trailing++;
    }
    if (run_start > 0) { /* what was kept back is inside the text after all */
        for (; state->held > 0; state->held--)
            run(s, index + 1, step->character, step->character_size, out);
        run(s, index + 1, text, run_start, out);
    }
    for (state->held += trailing; state->held > step->strip_end; state->held--)
        run(s, index + 1, step->character, step->character_size, out);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* "<0xE2>"; the reference's number parser also takes "<0x+2>". */
static bool is_byte_token(const char *token, size_t size, uint8_t *byte)
{
    if (size != 6 || memcmp(token, "<0x", 3) != 0 || token[5] != '>') return false;
    int high = token[3] == '+' ? 0 : hex_digit(token[3]);
    int low = hex_digit(token[4]);
    if (high < 0 || low < 0) return false;
    *byte = (uint8_t)(high << 4 | low);
    return true;
}

/* A row of byte tokens has ended. */
static void end_bytes(decoder_state *s, size_t index, buffer *out)
{
    buffer *bytes = &s->steps[index].bytes;
    size_t size = bytes->size;
    if (size == 0) return;
    bytes->size = 0;
    if (utf8_valid(bytes->data, size)) {
        run(s, index + 1, (const char *)bytes->data, size, out);
        return;
    }
    for (size_t i = 0; i < size; i++)
        run(s, index + 1, UTF8_REPLACEMENT, 3, out);
}

static void run_byte_fallback(decoder_state *s, size_t index, const char *text, size_t size,
                              buffer *out)
{
    uint8_t byte;
    if (is_byte_token(text, size, &byte)) {
        buffer_append(&s->steps[index].bytes, &byte, 1);
        return;
    }
    end_bytes(s, index, out);
    run(s, index + 1, text, size, out);
}

/* Bytes that are or can no longer become a character go on; with `all`, the rest too. */
static void run_bytes(decoder_state *s, size_t index, bool all, buffer *out)
{
    step_state *state = &s->steps[index];
    size_t ready = 0;
    while (ready < state->bytes.size) {
        size_t length;
        if (utf8_step(state->bytes.data + ready, state->bytes.size - ready, &length) ==
                UTF8_INCOMPLETE &&
            !all)
            break;
        ready += length;
    }
    buffer_clear(&state->made);
    utf8_append_lossy(&state->made, state->bytes.data, ready);
    buffer_consume(&state->bytes, ready);
    if (state->made.size > 0)
        run(s, index + 1, (const char *)state->made.data, state->made.size, out);
}

static void run(decoder_state *s, size_t index, const char *text, size_t size, buffer *out)
{
    if (index == s->decoder->count) {
        buffer_append(out, text, size);
        return;
    }
    const decoder_step *step = &s->decoder->steps[index];
    if (text == NULL) text = ""; /* of a buffer that never held anything */
    switch (step->kind) {
    case DECODE_REPLACE:
        run_replace(s, index, text, size, out);
        break;
    case DECODE_METASPACE:
        run_metaspace(s, index, text, size, out);
        break;
    case DECODE_STRIP:
        if (step->whole)
            strip_whole(s, index, text, size, out);
        else
            strip_token(s, index, text, size, out);
        break;
    case DECODE_BYTE_FALLBACK:
        run_byte_fallback(s, index, text, size, out);
        break;
    case DECODE_FUSE:
        run(s, index + 1, text, size, out);
        break;
    case DECODE_BYTE_LEVEL:
        byte_level_append_bytes(&s->steps[index].bytes, text, size);
        run_bytes(s, index, false, out);
        break;
    }
}

void decoder_push(decoder_state *s, const char *token, size_t size, buffer *out)
{
    if (s->decoder->join_with_spaces && s->began) buffer_append(out, " ", 1);
    s->began = true;
    run(s, 0, token, size, out);
}

void decoder_finish(decoder_state *s, buffer *out)
{
    for (size_t i = 0; i < s->decoder->count; i++) {
        if (s->decoder->steps[i].kind == DECODE_BYTE_FALLBACK) end_bytes(s, i, out);
        if (s->decoder->steps[i].kind == DECODE_BYTE_LEVEL) run_bytes(s, i, true, out);
    }
}
