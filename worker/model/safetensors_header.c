/* safetensors header: a scanner for exactly the JSON that the format allows.
 *
 * Why not jansson: a header may have 100 MB, and a tree of it costs some thirty times that. The
 * grammar has three levels and no freedom, so one pass without recursion reads it into a flat
 * table; memory is the table (bounded by LIMIT_SAFETENSORS_TENSORS) and a pool for the strings
 * worth keeping, which cannot outgrow the header itself.
 *
 *   header  = object of  "__metadata__": object of string: string
 *                     |  name: { "dtype": string, "shape": [n...], "data_offsets": [n, n] }
 *   n       = unsigned 64-bit integer without sign, fraction, exponent or leading zero
 *
 * Stricter than the reference in what no writer produces: a field twice or of another name, a
 * name twice, a NUL in a name. White space around the object is allowed, as the reference does.
 *
 * The first refusal is kept in the scanner; everything after it returns at once. */
#include "worker/model/safetensors_header.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/mem.h"
#include "worker/model/printable.h"

typedef struct scanner {
    const char *at, *begin, *end;
    char *pool; /* decoded strings; as large as the text, so it never fills */
    size_t pool_used;
    status st;
    error *err;
} scanner;

static const struct dtype_row {
    const char *name;
    uint32_t bits;
    dtype type;
} dtypes[] = {
    {"F32", 32, DTYPE_F32},          {"F16", 16, DTYPE_F16},      {"BF16", 16, DTYPE_BF16},
    {"F64", 64, DTYPE_OTHER},        {"C64", 64, DTYPE_OTHER},    {"I64", 64, DTYPE_OTHER},
    {"U64", 64, DTYPE_OTHER},        {"I32", 32, DTYPE_OTHER},    {"U32", 32, DTYPE_OTHER},
    {"I16", 16, DTYPE_OTHER},        {"U16", 16, DTYPE_OTHER},    {"I8", 8, DTYPE_OTHER},
    {"U8", 8, DTYPE_OTHER},          {"BOOL", 8, DTYPE_OTHER},    {"F8_E4M3", 8, DTYPE_OTHER},
    {"F8_E5M2", 8, DTYPE_OTHER},     {"F8_E8M0", 8, DTYPE_OTHER}, {"F8_E4M3FNUZ", 8, DTYPE_OTHER},
    {"F8_E5M2FNUZ", 8, DTYPE_OTHER}, {"F6_E2M3", 6, DTYPE_OTHER}, {"F6_E3M2", 6, DTYPE_OTHER},
    {"F4", 4, DTYPE_OTHER},
};

/* -- characters --------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void refuse(scanner *s, const char *format, ...)
{
    if (s->st != ST_OK) return;
    char sentence[ERROR_TEXT_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    s->st = error_set(s->err, ST_INVALID_ARGUMENT, "header byte %zu: %s",
                      (size_t)(s->at - s->begin), sentence);
    s->at = s->end; /* nothing more to read */
}

static void skip_space(scanner *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
        s->at++;
}

/* Step over `c` if it comes next. */
static bool accept(scanner *s, char c)
{
    skip_space(s);
    if (s->at == s->end || *s->at != c) return false;
    s->at++;
    return true;
}

static void expect(scanner *s, char c)
{
    if (!accept(s, c)) refuse(s, "expected '%c'", c);
}

/* After an element of a list: true when another one follows. */
static bool another(scanner *s, char close)
{
    if (s->st != ST_OK || accept(s, close)) return false;
    if (accept(s, ',')) return true;
    refuse(s, "expected ',' or '%c'", close);
    return false;
}

/* -- strings ------------------------------------------------------------------------- */

static void pool_put(scanner *s, uint32_t byte)
{
    CHECK(s->pool_used < (size_t)(s->end - s->begin));
    s->pool[s->pool_used++] = (char)byte;
}

static void pool_put_code_point(scanner *s, uint32_t c)
{
    if (c < 0x80) {
        pool_put(s, c);
    } else if (c < 0x800) {
        pool_put(s, 0xc0 | c >> 6);
        pool_put(s, 0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        pool_put(s, 0xe0 | c >> 12);
        pool_put(s, 0x80 | (c >> 6 & 0x3f));
        pool_put(s, 0x80 | (c & 0x3f));
    } else {
        pool_put(s, 0xf0 | c >> 18);
        pool_put(s, 0x80 | (c >> 12 & 0x3f));
        pool_put(s, 0x80 | (c >> 6 & 0x3f));
        pool_put(s, 0x80 | (c & 0x3f));
    }
}

/* The four digits after \u. */
static uint32_t take_hex4(scanner *s)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = s->at < s->end ? *s->at : '\0';
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16) {
            refuse(s, "expected four hexadecimal digits after \\u");
            return 0;
        }
        value = value << 4 | digit;
        s->at++;
    }
    return value;
}

static void take_escape(scanner *s)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    char c = s->at < s->end ? *s->at : '\0';
    const char *letter = c != '\0' ? strchr(letters, c) : NULL;
    if (letter != NULL) {
        s->at++;
        pool_put(s, (uint8_t)meanings[letter - letters]);
        return;
    }
    if (c != 'u') {
        refuse(s, "an escape that JSON does not have");
        return;
    }
    s->at++;
    uint32_t code = take_hex4(s);
    if (code >= 0xd800 && code < 0xdc00) {
        if (s->end - s->at < 2 || s->at[0] != '\\' || s->at[1] != 'u') {
            refuse(s, "a lone surrogate");
            return;
        }
        s->at += 2;
        uint32_t low = take_hex4(s);
        if (s->st == ST_OK && (low < 0xdc00 || low > 0xdfff)) {
            refuse(s, "a lone surrogate");
            return;
        }
        code = 0x10000 + ((code - 0xd800) << 10 | (low & 0x3ff));
    } else if (code >= 0xdc00 && code <= 0xdfff) {
        refuse(s, "a lone surrogate");
    }
    if (s->st == ST_OK) pool_put_code_point(s, code);
}

/* One code point of raw UTF-8 beyond ASCII (RFC 3629: shortest form, no surrogates). */
static void take_utf8(scanner *s)
{
    const uint8_t *p = (const uint8_t *)s->at;
    size_t left = (size_t)(s->end - s->at);
    size_t length = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    uint8_t second_min = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t second_max = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    bool good =
        p[0] >= 0xc2 && p[0] <= 0xf4 && left >= length && p[1] >= second_min && p[1] <= second_max;
    for (size_t i = 2; good && i < length; i++)
        good = p[i] >= 0x80 && p[i] <= 0xbf;
    if (!good) {
        refuse(s, "invalid UTF-8");
        return;
    }
    for (size_t i = 0; i < length; i++)
        pool_put(s, p[i]);
    s->at += length;
}

/* A string, decoded to the pool's end and NUL-terminated; the pool keeps it until the caller sets
 * pool_used back. *length is its length, which tells a NUL inside. */
static const char *take_string(scanner *s, size_t *length)
{
    size_t start = s->pool_used;
    expect(s, '"');
    while (s->st == ST_OK) {
        if (s->at == s->end) {
            refuse(s, "the string does not end");
        } else if (*s->at == '"') {
            s->at++;
            break;
        } else if (*s->at == '\\') {
            s->at++;
            take_escape(s);
        } else if ((uint8_t)*s->at < 0x20) {
            refuse(s, "a control character in a string");
        } else if ((uint8_t)*s->at < 0x80) {
            pool_put(s, (uint8_t)*s->at++);
        } else {
            take_utf8(s);
        }
    }
    *length = s->pool_used - start;
    if (s->st != ST_OK) return "";
    pool_put(s, '\0'); /* the quotes left room for it */
    return s->pool + start;
}

/* A string that is a C string, kept in the pool. */
static const char *take_name(scanner *s)
{
    size_t length;
    const char *name = take_string(s, &length);
    if (length > LIMIT_TENSOR_NAME_BYTES)
        refuse(s, "a name of %zu bytes; the limit is %u", length, LIMIT_TENSOR_NAME_BYTES);
    else if (strlen(name) != length)
        refuse(s, "a NUL in a name");
    return name;
}

/* -- values --------------------------------------------------------------------------- */

static uint64_t take_integer(scanner *s)
{
    skip_space(s);
    const char *first = s->at;
    uint64_t value = 0;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*s->at - '0'), &value)) {
            refuse(s, "a number beyond 64 bits");
            return 0;
        }
        s->at++;
    }
    if (s->at == first || (*first == '0' && s->at - first > 1))
        refuse(s, "expected an integer of 0 or more");
    return value;
}

static void take_dtype(scanner *s, header_entry *entry)
{
    char text[PRINTABLE_SIZE];
    size_t mark = s->pool_used;
    const char *name = take_name(s);
    s->pool_used = mark;
    if (s->st != ST_OK) return;
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (strcmp(dtypes[i].name, name) != 0) continue;
        entry->tensor.type = dtypes[i].type;
        entry->tensor.type_name = dtypes[i].name;
        entry->bits = dtypes[i].bits;
        return;
    }
    refuse(s, "dtype \"%s\" is not one of the format's", printable(text, name));
}

static void take_shape(scanner *s, tensor *t)
{
    expect(s, '[');
    if (accept(s, ']')) return;
    do {
        if (t->dim_count == TENSOR_DIMS_MAX) {
            refuse(s, "a shape of more than %u dimensions", TENSOR_DIMS_MAX);
            return;
        }
        t->dims[t->dim_count++] = take_integer(s);
    } while (another(s, ']'));
}

static void take_offsets(scanner *s, header_entry *entry)
{
    expect(s, '[');
    entry->begin = take_integer(s);
    expect(s, ',');
    entry->end = take_integer(s);
    expect(s, ']');
}

/* {"dtype": ..., "shape": ..., "data_offsets": ...} in any order, each once. */
static void take_tensor(scanner *s, header_entry *entry)
{
    static const char *const fields[] = {"dtype", "shape", "data_offsets"};
    char text[PRINTABLE_SIZE];
    unsigned seen = 0;

    expect(s, '{');
    do {
        size_t mark = s->pool_used;
        const char *key = take_name(s);
        s->pool_used = mark;
        unsigned which = 0;
        while (which < 3 && strcmp(fields[which], key) != 0)
            which++;
        if (which == 3 || (seen & 1u << which) != 0)
            refuse(s, "expected dtype, shape and data_offsets, each once; found \"%s\"",
                   printable(text, key));
        seen |= 1u << which;
        expect(s, ':');
        if (s->st != ST_OK) return;
        if (which == 0) take_dtype(s, entry);
        if (which == 1) take_shape(s, &entry->tensor);
        if (which == 2) take_offsets(s, entry);
    } while (another(s, '}'));
    for (unsigned i = 0; i < 3; i++)
        if ((seen & 1u << i) == 0)
            refuse(s, "tensor %s has no %s", printable(text, entry->tensor.name), fields[i]);
}

/* Room for one more in an array that doubles; NULL when there is none. */
static void *grow(scanner *s, void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) return array;
    size_t wanted = *capacity == 0 ? 64 : 2 * *capacity;
    void *larger = mem_try_alloc(wanted, size);
    if (larger == NULL) {
        if (s->st == ST_OK)
            s->st = error_set(s->err, ST_RESOURCE_EXHAUSTED, "no memory for %zu names", wanted);
        s->at = s->end;
        return NULL;
    }
    if (count > 0) memcpy(larger, array, count * size);
    mem_free(array);
    *capacity = wanted;
    return larger;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sort `names` and return one that stands there twice, or NULL. */
static const char *find_duplicate(const char **names, size_t count)
{
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 1; i < count; i++)
        if (strcmp(names[i - 1], names[i]) == 0) return names[i];
    return NULL;
}

/* Free-form text that nothing here reads; checked all the same. */
static void take_metadata(scanner *s)
{
    const char **keys = NULL;
    size_t count = 0;
    size_t capacity = 0;
    char text[PRINTABLE_SIZE];

    expect(s, '{');
    if (accept(s, '}')) return;
    do {
        const char **larger = grow(s, keys, count, &capacity, sizeof *keys);
        if (larger == NULL) break;
        keys = larger;
        keys[count++] = take_name(s);
        expect(s, ':');
        size_t mark = s->pool_used;
        size_t length;
        take_string(s, &length);
        s->pool_used = mark;
        if (count > LIMIT_SAFETENSORS_TENSORS)
            refuse(s, "over %u entries in __metadata__", LIMIT_SAFETENSORS_TENSORS);
    } while (another(s, '}'));
    const char *twice = s->st == ST_OK ? find_duplicate(keys, count) : NULL;
    if (twice != NULL) refuse(s, "\"%s\" stands twice in __metadata__", printable(text, twice));
    mem_free(keys);
}

static void take_header(scanner *s, safetensors_header *header)
{
    size_t capacity = 0;
    bool metadata_seen = false;

    expect(s, '{');
    if (accept(s, '}')) return;
    do {
        const char *name = take_name(s);
        expect(s, ':');
        if (s->st != ST_OK) return;
        if (strcmp(name, "__metadata__") == 0) {
            if (metadata_seen) refuse(s, "__metadata__ stands twice");
            metadata_seen = true;
            take_metadata(s);
            continue;
        }
        if (header->count == LIMIT_SAFETENSORS_TENSORS) {
            refuse(s, "over %u tensors", LIMIT_SAFETENSORS_TENSORS);
            return;
        }
        header_entry *larger =
            grow(s, header->entries, header->count, &capacity, sizeof *header->entries);
        if (larger == NULL) return;
        header->entries = larger;
        header_entry *entry = &header->entries[header->count++];
        *entry = (header_entry){.tensor = {.name = name}};
        take_tensor(s, entry);
    } while (another(s, '}'));
}

status safetensors_header_scan(safetensors_header *out, const char *text, size_t size, error *err)
{
    *out = (safetensors_header){.names = mem_try_alloc(size, 1)};
    if (out->names == NULL)
        return error_set(err, ST_RESOURCE_EXHAUSTED, "no memory for a header of %zu bytes", size);
    scanner s = {.at = text, .begin = text, .end = text + size, .pool = out->names, .err = err};
    take_header(&s, out);
    skip_space(&s);
    if (s.at != s.end) refuse(&s, "expected the end of the header");
    if (s.st != ST_OK) safetensors_header_fini(out);
    return s.st;
}

void safetensors_header_fini(safetensors_header *header)
{
    mem_free(header->entries);
    mem_free(header->names);
    *header = (safetensors_header){0};
}
