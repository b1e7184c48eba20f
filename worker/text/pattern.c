#define PCRE2_CODE_UNIT_WIDTH 8
#include "worker/text/pattern.h"

#include <pcre2.h>
#include <stdint.h>
#include <string.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/mem.h"
#include "worker/text/fields.h"
#include "worker/text/pattern_dialect.h"
#include "worker/text/utf8.h"

/* Work of one match, and its memory in KiB. An ordinary pattern may walk back over a long run of
 * spaces once or twice; a hostile one would walk for ever. */
#define MATCH_STEPS_MIN      1000000u
#define MATCH_STEPS_PER_BYTE 16u
#define MATCH_HEAP_KIB_MAX   16384u

struct pattern {
    char *literal; /* NULL for a regular expression */
    size_t literal_size;
    pcre2_code *code;
    bool jit;
};

struct pattern_search {
    pcre2_match_data *match;
    pcre2_match_context *limits;
};

/* -- compiling ---------------------------------------------------------------------- */

status pattern_compile(pattern **out, const char *source, size_t size, const char *where,
                       error *err)
{
    if (size > LIMIT_PATTERN_BYTES)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "%s: a regular expression of %zu bytes; the limit is %u", where, size,
                         LIMIT_PATTERN_BYTES);
    buffer rewritten = {0};
    status st = pattern_rewrite(&rewritten, source, size, where, err);
    if (st != ST_OK) return st;
    int code;
    PCRE2_SIZE offset;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    CHECK(context != NULL);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_code *compiled = pcre2_compile(
        rewritten.size > 0 ? rewritten.data : (PCRE2_SPTR) "", rewritten.size,
        PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &offset, context);
    pcre2_compile_context_free(context);
    buffer_free(&rewritten);
    if (compiled == NULL) {
        PCRE2_UCHAR why[160];
        pcre2_get_error_message(code, why, sizeof why);
        return error_set(err, ST_INVALID_ARGUMENT, "%s: not a regular expression: %s", where,
                         (const char *)why);
    }
    pattern *p = mem_calloc(1, sizeof *p);
    p->code = compiled;
    /* Without executable memory the interpreter does the same, more slowly. */
    p->jit = pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE) == 0;
    *out = p;
    return ST_OK;
}

pattern *pattern_literal(const char *bytes, size_t size)
{
    pattern *p = mem_calloc(1, sizeof *p);
    p->literal = mem_strndup(bytes, size);
    p->literal_size = size;
    return p;
}

status pattern_parse(pattern **out, const json_t *spec, const char *where, error *err)
{
    const json_t *literal = json_object_get(spec, "String");
    const json_t *regex = json_object_get(spec, "Regex");
    if (json_is_string(literal) && json_string_length(literal) > 0) {
        *out = pattern_literal(json_string_value(literal), json_string_length(literal));
        return ST_OK;
    }
    if (!json_is_string(literal) && !json_is_string(regex))
        return field_wrong(where, "pattern", "{\"String\": ...} or {\"Regex\": ...}", spec, err);
    const json_t *source = json_is_string(regex) ? regex : literal;
    field_path path = field_path_of(where, "pattern");
    return pattern_compile(out, json_string_value(source), json_string_length(source), path.text,
                           err);
}

void pattern_destroy(pattern *p)
{
    if (p == NULL) return;
    mem_free(p->literal);
    pcre2_code_free(p->code);
    mem_free(p);
}

/* -- searching ---------------------------------------------------------------------- */

pattern_search *pattern_search_create(void)
{
    pattern_search *s = mem_calloc(1, sizeof *s);
    s->match = pcre2_match_data_create(1, NULL);
    s->limits = pcre2_match_context_create(NULL);
    CHECK(s->match != NULL && s->limits != NULL);
    pcre2_set_heap_limit(s->limits, MATCH_HEAP_KIB_MAX);
    return s;
}

void pattern_search_destroy(pattern_search *s)
{
    if (s == NULL) return;
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->limits);
    mem_free(s);
}

static bool find_literal(const pattern *p, const char *text, size_t size, size_t from,
                         size_t *start, size_t *end)
{
    const char *found = p->literal_size == 1
                            ? memchr(text + from, p->literal[0], size - from)
                            : memmem(text + from, size - from, p->literal, p->literal_size);
    if (found == NULL) return false;
    *start = (size_t)(found - text);
    *end = *start + p->literal_size;
    return true;
}

static bool find(const pattern *p, pattern_search *s, const char *text, size_t size, size_t from,
                 size_t *start, size_t *end)
{
    if (p->literal != NULL) return find_literal(p, text, size, from, start, end);
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    size_t steps = MATCH_STEPS_MIN + MATCH_STEPS_PER_BYTE * (size - from);
    pcre2_set_match_limit(s->limits, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (p->jit) rc = pcre2_jit_match(p->code, subject, size, from, 0, s->match, s->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(p->code, subject, size, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->match,
                         s->limits);
    if (rc < 0) return false;
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(s->match);
    *start = span[0];
    *end = span[1];
    return *end >= *start; /* \K inside a lookahead can turn it round */
}

bool pattern_next(const pattern *p, pattern_search *s, const char *text, size_t size,
                  pattern_cursor *cursor, size_t *start, size_t *end)
{
    while (size > 0 && cursor->at <= size) {
        if (!find(p, s, text, size, cursor->at, start, end)) break;
        if (*start == *end && cursor->matched && cursor->match_end == *end) {
            size_t length = 1;
            if (cursor->at < size) utf8_decode(text + cursor->at, &length);
            cursor->at += length;
            continue;
        }
        cursor->at = *end;
        cursor->match_end = *end;
        cursor->matched = true;
        return true;
    }
    cursor->at = size + 1;
    return false;
}
