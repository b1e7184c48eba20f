#include "worker/text/json_scan.h"

#include <string.h>

#include "common/check.h"
#include "common/json.h"
#include "common/limits.h"
#include "worker/text/fields.h"
#include "worker/text/utf8.h"

#define PICK_KEYS_MAX 16u

/* -- checking ----------------------------------------------------------------------- */

typedef struct checker {
    const char *begin, *at, *end;
    uint32_t depth;
    const char *problem;
} checker;

static bool fail(checker *c, const char *problem)
{
    if (c->problem == NULL) c->problem = problem;
    return false;
}

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    return at;
}

static bool is_digit(const checker *c)
{
    return c->at < c->end && *c->at >= '0' && *c->at <= '9';
}

static bool check_digits(checker *c)
{
    if (!is_digit(c)) return fail(c, "a digit is missing");
    while (is_digit(c))
        c->at++;
    return true;
}

static bool check_number(checker *c)
{
    if (*c->at == '-') c->at++;
    if (c->at < c->end && *c->at == '0') {
        c->at++;
    } else if (!check_digits(c)) {
        return false;
    }
    if (c->at < c->end && *c->at == '.') {
        c->at++;
        if (!check_digits(c)) return false;
    }
    if (c->at < c->end && (*c->at == 'e' || *c->at == 'E')) {
        c->at++;
        if (c->at < c->end && (*c->at == '+' || *c->at == '-')) c->at++;
        if (!check_digits(c)) return false;
    }
    return true;
}

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
    return -1;
}

/* Four hexadecimal digits at `at`, or -1. */
static int32_t hex_unit(const char *at, const char *end)
{
    int32_t unit = 0;
    if (end - at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(at[i]);
        if (digit < 0) return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

/* A \u escape, or two that are one character; `*at` is behind the u. -1: not valid. */
static int32_t escaped_code_point(const char **at, const char *end)
{
    int32_t unit = hex_unit(*at, end);
    if (unit < 0) return -1;
    *at += 4;
    if (unit < 0xD800 || unit > 0xDFFF) return unit;
    if (unit > 0xDBFF || end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u') return -1;
    int32_t low = hex_unit(*at + 2, end);
    if (low < 0xDC00 || low > 0xDFFF) return -1;
    *at += 6;
    return 0x10000 + ((unit - 0xD800) << 10 | (low - 0xDC00));
}

static bool check_string(checker *c)
{
    c->at++;
    while (c->at < c->end) {
        unsigned char byte = (unsigned char)*c->at++;
        if (byte == '"') return true;
        if (byte < 0x20) return fail(c, "a control character in a string");
        if (byte != '\\') continue;
        if (c->at == c->end) break;
        char escape = *c->at++;
        if (escape == 'u') {
            if (escaped_code_point(&c->at, c->end) < 0) return fail(c, "a bad \\u escape");
        } else if (escape == '\0' || strchr("\"\\/bfnrt", escape) == NULL) {
            return fail(c, "an unknown escape");
        }
    }
    return fail(c, "a string is not closed");
}

static bool check_word(checker *c, const char *word)
{
    size_t size = strlen(word);
    if ((size_t)(c->end - c->at) < size || memcmp(c->at, word, size) != 0)
        return fail(c, "an unknown word");
    c->at += size;
    return true;
}

static bool check_value(checker *c);

/* The inside of an array or object, up to its closing bracket. */
static bool check_items(checker *c, char close, bool members)
{
    if (++c->depth > LIMIT_JSON_DEPTH) return fail(c, "nested too deeply");
    c->at = skip_space(c->at + 1, c->end);
    bool first = true;
    while (c->at < c->end && *c->at != close) {
        if (!first) {
            if (*c->at != ',') return fail(c, "a comma is missing");
            c->at = skip_space(c->at + 1, c->end);
        }
        first = false;
        if (members) {
            if (c->at == c->end || *c->at != '"') return fail(c, "a key is missing");
            if (!check_string(c)) return false;
            c->at = skip_space(c->at, c->end);
            if (c->at == c->end || *c->at != ':') return fail(c, "a colon is missing");
            c->at++;
        }
        if (!check_value(c)) return false;
        c->at = skip_space(c->at, c->end);
    }
    if (c->at == c->end) return fail(c, "it ends too early");
    c->at++;
    c->depth--;
    return true;
}

static bool check_value(checker *c)
{
    c->at = skip_space(c->at, c->end);
    if (c->at == c->end) return fail(c, "it ends too early");
    switch (*c->at) {
    case '{':
        return check_items(c, '}', true);
    case '[':
        return check_items(c, ']', false);
    case '"':
        return check_string(c);
    case 't':
        return check_word(c, "true");
    case 'f':
        return check_word(c, "false");
    case 'n':
        return check_word(c, "null");
    default:
        if (*c->at != '-' && !is_digit(c)) return fail(c, "a value is missing");
        return check_number(c);
    }
}

status json_check(const char *text, size_t size, const char *what, error *err)
{
    checker c = {.begin = text, .at = text, .end = text + size};
    if (!utf8_valid(text, size))
        return error_set(err, ST_INVALID_ARGUMENT, "%s: not valid UTF-8", what);
    if (check_value(&c)) {
        c.at = skip_space(c.at, c.end);
        if (c.at != c.end) fail(&c, "something follows the end");
    }
    if (c.problem != NULL)
        return error_set(err, ST_INVALID_ARGUMENT, "%s: not valid JSON at byte %zu: %s", what,
                         (size_t)(c.at - c.begin), c.problem);
    return ST_OK;
}

/* -- walking checked text ----------------------------------------------------------- */

static const char *skip_string(const char *at)
{
    for (at++; *at != '"'; at++)
        if (*at == '\\') at++;
    return at + 1;
}

static const char *skip_value(const char *at, const char *end)
{
    uint32_t depth = 0;
    if (*at != '{' && *at != '[' && *at != '"') { /* a number or a word */
        while (at < end && strchr(",]} \n\r\t", *at) == NULL)
            at++;
        return at;
    }
    do {
        if (*at == '"') {
            at = skip_string(at);
            continue;
        }
        if (*at == '{' || *at == '[') depth++;
        if (*at == '}' || *at == ']') depth--;
        at++;
    } while (depth > 0);
    return at;
}

bool json_is_array_span(json_span value)
{
    return value.size > 0 && *value.at == '[';
}

bool json_is_object_span(json_span value)
{
    return value.size > 0 && *value.at == '{';
}

bool json_is_null_span(json_span value)
{
    return value.size == 0 || *value.at == 'n';
}

json_walk json_walk_begin(json_span value)
{
    return (json_walk){value.at + 1, value.at + value.size};
}

static json_span take_value(json_walk *walk)
{
    const char *start = skip_space(walk->at, walk->end);
    walk->at = skip_value(start, walk->end);
    return (json_span){start, (size_t)(walk->at - start)};
}

bool json_walk_element(json_walk *walk, json_span *value)
{
    walk->at = skip_space(walk->at, walk->end);
    if (*walk->at == ',') walk->at++;
    if (*walk->at == ']') return false;
    *value = take_value(walk);
    return true;
}

bool json_walk_member(json_walk *walk, json_span *key, json_span *value)
{
    walk->at = skip_space(walk->at, walk->end);
    if (*walk->at == ',') walk->at++;
    if (*walk->at == '}') return false;
    *key = take_value(walk);
    walk->at = skip_space(walk->at, walk->end) + 1; /* the colon */
    *value = take_value(walk);
    return true;
}

status json_pick(json_span object, const char *what, const char *const *keys, json_span *spans,
                 size_t count, error *err)
{
    object.size -= (size_t)(skip_space(object.at, object.at + object.size) - object.at);
    object.at = skip_space(object.at, object.at + object.size);
    if (!json_is_object_span(object))
        return error_set(err, ST_INVALID_ARGUMENT, "%s: expected an object", what);
    memset(spans, 0, count * sizeof *spans);
    json_walk walk = json_walk_begin(object);
    json_span key, value;
    buffer scratch = {0};
    status st = ST_OK;
    while (st == ST_OK && json_walk_member(&walk, &key, &value)) {
        const char *name;
        size_t size;
        if (!json_string_span(key, &scratch, &name, &size)) continue;
        for (size_t i = 0; i < count; i++) {
            if (strlen(keys[i]) != size || memcmp(keys[i], name, size) != 0) continue;
            if (spans[i].at != NULL)
                st = error_set(err, ST_INVALID_ARGUMENT, "%s.%s: is there twice", what, keys[i]);
            spans[i] = value;
        }
    }
    buffer_free(&scratch);
    return st;
}

static void append_escaped(buffer *out, const char **at, const char *end)
{
    static const char escapes[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    char escape = *(*at)++;
    if (escape == 'u') {
        utf8_append(out, (uint32_t)escaped_code_point(at, end));
        return;
    }
    const char *known = strchr(escapes, escape);
    buffer_append(out, known != NULL ? &meanings[known - escapes] : &escape, 1);
}

bool json_string_span(json_span value, buffer *scratch, const char **text, size_t *size)
{
    if (value.size == 0 || *value.at != '"') return false;
    const char *at = value.at + 1, *end = value.at + value.size - 1;
    *text = at;
    *size = (size_t)(end - at);
    const char *escape = memchr(at, '\\', *size);
    if (escape == NULL) return true;
    buffer_clear(scratch);
    while (escape != NULL) {
        buffer_append(scratch, at, (size_t)(escape - at));
        at = escape + 1;
        append_escaped(scratch, &at, end);
        escape = memchr(at, '\\', (size_t)(end - at));
    }
    buffer_append(scratch, at, (size_t)(end - at));
    *text = (const char *)scratch->data;
    *size = scratch->size;
    return true;
}

bool json_integer_span(json_span value, int64_t *number)
{
    size_t at = 0;
    bool negative = value.size > 0 && value.at[0] == '-';
    if (negative) at++;
    if (at == value.size) return false;
    int64_t result = 0;
    for (; at < value.size; at++) {
        if (value.at[at] < '0' || value.at[at] > '9') return false;
        if (__builtin_mul_overflow(result, 10, &result) ||
            __builtin_add_overflow(result, value.at[at] - '0', &result))
            return false;
    }
    *number = negative ? -result : result;
    return true;
}

/* -- small values as trees ---------------------------------------------------------- */

status json_tree_of(json_span value, size_t size_max, const char *what, json_t **out, error *err)
{
    *out = NULL;
    if (json_is_null_span(value)) return ST_OK;
    if (value.size > size_max)
        return error_set(err, ST_INVALID_ARGUMENT, "%s: %zu bytes; the limit is %zu", what,
                         value.size, size_max);
    return json_parse(out, value.at, value.size, what, err);
}

status json_pick_tree(json_span object, const char *what, const char *const *keys, size_t count,
                      json_t **out, error *err)
{
    json_span spans[PICK_KEYS_MAX];
    CHECK(count <= PICK_KEYS_MAX);
    status st = json_pick(object, what, keys, spans, count, err);
    json_t *tree = json_object();
    for (size_t i = 0; st == ST_OK && i < count; i++) {
        json_t *field;
        field_path where = field_path_of(what, keys[i]);
        st = json_tree_of(spans[i], LIMIT_CONFIG_FILE_BYTES, where.text, &field, err);
        if (st == ST_OK && field != NULL) json_object_set_new(tree, keys[i], field);
    }
    if (st == ST_OK)
        *out = tree;
    else
        json_decref(tree);
    return st;
}
