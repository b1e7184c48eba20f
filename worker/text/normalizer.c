#include "worker/text/normalizer.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "common/check.h"
#include "common/limits.h"
#include "worker/text/byte_level.h"
#include "worker/text/fields.h"
#include "worker/text/utf8.h"

typedef enum normalizer_kind {
    NORMALIZE_NFC,
    NORMALIZE_NFD,
    NORMALIZE_NFKC,
    NORMALIZE_NFKD,
    NORMALIZE_LOWERCASE,
    NORMALIZE_STRIP,
    NORMALIZE_STRIP_ACCENTS,
    NORMALIZE_PREPEND,
    NORMALIZE_APPEND,
    NORMALIZE_REPLACE,
    NORMALIZE_BYTE_LEVEL,
} normalizer_kind;

struct normalizer_step {
    normalizer_kind kind;
    bool strip_left, strip_right;
    pattern *find; /* Replace */
    char *text;    /* Prepend, Append, Replace: what is put in */
    size_t text_size;
};

static const struct {
    const char *type;
    normalizer_kind kind;
} types[] = {
    {"NFC", NORMALIZE_NFC},
    {"NFD", NORMALIZE_NFD},
    {"NFKC", NORMALIZE_NFKC},
    {"NFKD", NORMALIZE_NFKD},
    {"Lowercase", NORMALIZE_LOWERCASE},
    {"Strip", NORMALIZE_STRIP},
    {"StripAccents", NORMALIZE_STRIP_ACCENTS},
    {"Prepend", NORMALIZE_PREPEND},
    {"Append", NORMALIZE_APPEND},
    {"Replace", NORMALIZE_REPLACE},
    {"ByteLevel", NORMALIZE_BYTE_LEVEL},
};

/* -- parsing ------------------------------------------------------------------------ */

static status parse_text(normalizer_step *step, const json_t *spec, const char *where,
                         const char *key, error *err)
{
    const char *text;
    status st = field_string(spec, where, key, &text, &step->text_size, err);
    if (st == ST_OK) step->text = mem_strndup(text, step->text_size);
    return st;
}

static status parse_step(normalizer *out, const json_t *spec, const char *where, error *err);

static status parse_sequence(normalizer *out, const json_t *spec, const char *where, error *err)
{
    json_t *list;
    status st = field_array(spec, where, "normalizers", &list, err);
    for (size_t i = 0; st == ST_OK && i < json_array_size(list); i++) {
        field_path path = field_path_item(where, "normalizers", i);
        st = parse_step(out, json_array_get(list, i), path.text, err);
    }
    return st;
}

static status parse_step(normalizer *out, const json_t *spec, const char *where, error *err)
{
    const char *type;
    status st = field_type(spec, where, &type, err);
    if (st != ST_OK) return st;
    if (strcmp(type, "Sequence") == 0) return parse_sequence(out, spec, where, err);

    size_t known = 0;
    while (known < sizeof types / sizeof *types && strcmp(types[known].type, type) != 0)
        known++;
    if (known == sizeof types / sizeof *types) return field_unknown_type(where, type, err);
    if (out->count == LIMIT_TOKENIZER_STEPS)
        return error_set(err, ST_INVALID_ARGUMENT, "%s: more than %u normalizers", where,
                         LIMIT_TOKENIZER_STEPS);

    normalizer_step *step = &out->steps[out->count++];
    *step = (normalizer_step){.kind = types[known].kind};
    switch (step->kind) {
    case NORMALIZE_STRIP:
        if ((st = field_bool(spec, where, "strip_left", &step->strip_left, err)) != ST_OK)
            return st;
        return field_bool(spec, where, "strip_right", &step->strip_right, err);
    case NORMALIZE_PREPEND:
        return parse_text(step, spec, where, "prepend", err);
    case NORMALIZE_APPEND:
        return parse_text(step, spec, where, "append", err);
    case NORMALIZE_REPLACE:
        if ((st = parse_text(step, spec, where, "content", err)) != ST_OK) return st;
        return pattern_parse(&step->find, json_object_get(spec, "pattern"), where, err);
    default:
        return ST_OK;
    }
}

status normalizer_parse(normalizer *out, const json_t *spec, error *err)
{
    *out = (normalizer){0};
    if (spec == NULL || json_is_null(spec)) return ST_OK;
    out->steps = mem_calloc(LIMIT_TOKENIZER_STEPS, sizeof *out->steps);
    return parse_step(out, spec, "normalizer", err);
}

void normalizer_free(normalizer *n)
{
    for (size_t i = 0; i < n->count; i++) {
        pattern_destroy(n->steps[i].find);
        mem_free(n->steps[i].text);
    }
    mem_free(n->steps);
    *n = (normalizer){0};
}

/* -- running ------------------------------------------------------------------------ */

static bool is_ascii(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] >= 0x80) return false;
    return true;
}

static void append_unicode_form(normalizer_kind kind, const char *text, size_t size, buffer *out)
{
    utf8proc_option_t options = UTF8PROC_STABLE;
    options |=
        kind == NORMALIZE_NFC || kind == NORMALIZE_NFKC ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
    if (kind == NORMALIZE_NFKC || kind == NORMALIZE_NFKD) options |= UTF8PROC_COMPAT;
    utf8proc_uint8_t *mapped = NULL;
    utf8proc_ssize_t mapped_size =
        utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &mapped, options);
    CHECK(mapped_size >= 0);
    buffer_append(out, mapped, (size_t)mapped_size);
    free(mapped);
}

static void run_unicode_form(normalizer_kind kind, const char *text, size_t size, size_t *origin,
                             buffer *out)
{
    if (is_ascii(text, size)) {
        buffer_append(out, text, size);
        return;
    }
    /* How far the first characters reach: as far as they would alone, up to the end of a character
     * that they may have joined with what follows. */
    if (*origin > 0) append_unicode_form(kind, text, *origin, out);
    size_t reach = out->size;
    buffer_clear(out);
    append_unicode_form(kind, text, size, out);
    if (reach > out->size) reach = out->size;
    while (reach < out->size && (out->data[reach] & 0xC0) == 0x80)
        reach++;
    *origin = reach;
}

static void run_lowercase(const char *text, size_t size, size_t *origin, buffer *out)
{
    size_t new_origin = 0;
    for (size_t at = 0, length; at < size; at += length) {
        uint32_t c = utf8_decode(text + at, &length);
        if (c < 0x80) {
            char lower = (char)(c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c);
            buffer_append(out, &lower, 1);
        } else if (c == 0x130) { /* the one character whose lower case is two */
            buffer_append(out, "i\xCC\x87", 3);
        } else {
            utf8_append(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
        }
        if (at < *origin) new_origin = out->size;
    }
    *origin = new_origin;
}

static void run_strip(const normalizer_step *step, const char *text, size_t size, size_t *origin,
                      buffer *out)
{
    size_t start = 0, end = size, length;
    while (step->strip_left && start < size &&
           unicode_is_white_space(utf8_decode(text + start, &length)))
        start += length;
    while (step->strip_right && end > start) {
        size_t last = end - 1;
        while (((unsigned char)text[last] & 0xC0) == 0x80)
            last--;
        if (!unicode_is_white_space(utf8_decode(text + last, &length))) break;
        end = last;
    }
    buffer_append(out, text + start, end - start);
    *origin = *origin > start ? *origin - start : 0;
    if (*origin > out->size) *origin = out->size;
}

static void run_strip_accents(const char *text, size_t size, size_t *origin, buffer *out)
{
    size_t new_origin = 0;
    for (size_t at = 0, length; at < size; at += length) {
        if (unicode_is_combining_mark(utf8_decode(text + at, &length))) continue;
        buffer_append(out, text + at, length);
        if (at < *origin) new_origin = out->size;
    }
    *origin = new_origin;
}

static void run_replace(const normalizer_step *step, pattern_search *search, const char *text,
                        size_t size, size_t *origin, buffer *out)
{
    pattern_cursor cursor = {0};
    size_t done = 0, start, end, new_origin = 0;
    while (pattern_next(step->find, search, text, size, &cursor, &start, &end)) {
        buffer_append(out, text + done, start - done);
        if (done < *origin) new_origin = out->size - (start > *origin ? start - *origin : 0);
        buffer_append(out, step->text, step->text_size);
        /* What is put in counts as coming from the last byte that it replaces. */
        if (end > start && end <= *origin) new_origin = out->size;
        done = end;
    }
    buffer_append(out, text + done, size - done);
    if (done < *origin) new_origin = out->size - (size - *origin);
    *origin = new_origin;
}

static void run_step(const normalizer_step *step, pattern_search *search, const char *text,
                     size_t size, size_t *origin, buffer *out)
{
    switch (step->kind) {
    case NORMALIZE_NFC:
    case NORMALIZE_NFD:
    case NORMALIZE_NFKC:
    case NORMALIZE_NFKD:
        run_unicode_form(step->kind, text, size, origin, out);
        break;
    case NORMALIZE_LOWERCASE:
        run_lowercase(text, size, origin, out);
        break;
    case NORMALIZE_STRIP:
        run_strip(step, text, size, origin, out);
        break;
    case NORMALIZE_STRIP_ACCENTS:
        run_strip_accents(text, size, origin, out);
        break;
    case NORMALIZE_PREPEND:
        if (size > 0) buffer_append(out, step->text, step->text_size);
        if (*origin > 0) *origin += out->size;
        buffer_append(out, text, size);
        break;
    case NORMALIZE_APPEND:
        buffer_append(out, text, size);
        if (size > 0) buffer_append(out, step->text, step->text_size);
        break;
    case NORMALIZE_REPLACE:
        run_replace(step, search, text, size, origin, out);
        break;
    case NORMALIZE_BYTE_LEVEL:
        byte_level_append_letters(out, text, *origin);
        text += *origin;
        size -= *origin;
        *origin = out->size;
        byte_level_append_letters(out, text, size);
        break;
    }
}

void normalizer_run(const normalizer *n, pattern_search *search, const char *text, size_t size,
                    size_t *origin, buffer *out, buffer *spare)
{
    buffer_clear(out);
    if (n->count == 0) buffer_append(out, text, size);
    for (size_t i = 0; i < n->count; i++) {
        buffer_clear(spare);
        run_step(&n->steps[i], search, text, size, origin, spare);
        buffer done = *spare;
        *spare = *out;
        *out = done;
        text = (const char *)out->data;
        size = out->size;
    }
}
