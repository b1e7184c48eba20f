#include "common/log_format.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"

/* A va_list in a struct can be handed on by pointer, whatever type it is. */
typedef struct arguments {
    va_list list;
} arguments;

/* -- reading a format ------------------------------------------------------------------ */

/* One field, or one word of the event: where its parts stand in the format. */
typedef struct piece {
    const char *key; /* NULL: a word of the event */
    size_t key_size;
    const char *value; /* of the format, conversions and all */
    size_t value_size;
    bool quoted;
} piece;

static size_t key_size(const char *word)
{
    size_t size = strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return word[size] == '=' ? size : 0;
}

/* The piece at *format, which moves behind it and the space; false at the end. */
static bool next_piece(const char **format, piece *out)
{
    const char *at = *format;
    if (*at == '\0') return false;
    *out = (piece){.key_size = key_size(at)};
    if (out->key_size > 0) {
        out->key = at;
        at += out->key_size + 1;
        out->quoted = *at == '"' && strchr(at + 1, '"') != NULL;
        if (out->quoted) at++;
    }
    out->value = at;
    out->value_size = out->quoted ? strcspn(at, "\"") : strcspn(at, " ");
    at += out->value_size;
    if (out->quoted) at++;
    if (*at == ' ') at++;
    *format = at;
    return true;
}

/* -- what a piece prints --------------------------------------------------------------- */

typedef struct raw_text {
    char data[LOG_LINE_BYTES];
    size_t size;
    bool cut;
} raw_text;

static void raw_append(raw_text *out, const char *bytes, size_t size)
{
    size_t room = sizeof out->data - out->size;
    if (size > room) out->cut = true;
    if (size > room) size = room;
    memcpy(out->data + out->size, bytes, size);
    out->size += size;
}

/* One conversion, the only one in `spec`. */
static void raw_print(raw_text *out, const char *spec, ...)
{
    size_t room = sizeof out->data - out->size;
    va_list args;
    va_start(args, spec);
    int wrote = vsnprintf(out->data + out->size, room, spec, args);
    va_end(args);
    if (wrote >= 0 && (size_t)wrote < room) {
        out->size += (size_t)wrote;
    } else {
        out->size += room > 0 ? room - 1 : 0;
        out->cut = true;
    }
}

static void print_integer(raw_text *out, const char *spec, const char *length, arguments *args)
{
    if (strncmp(length, "ll", 2) == 0)
        raw_print(out, spec, va_arg(args->list, long long));
    else if (*length == 'l')
        raw_print(out, spec, va_arg(args->list, long));
    else if (*length == 'z')
        raw_print(out, spec, va_arg(args->list, size_t));
    else if (*length == 'j')
        raw_print(out, spec, va_arg(args->list, intmax_t));
    else
        raw_print(out, spec, va_arg(args->list, int)); /* char and short are promoted */
}

/* Print the conversion at `at`, a '%', and return what is behind it. */
static const char *print_conversion(raw_text *out, const char *at, arguments *args)
{
    if (at[1] == '%') {
        raw_append(out, "%", 1);
        return at + 2;
    }
    const char *end = at + 1 + strspn(at + 1, "-+ #0123456789.*");
    const char *length = end;
    end += strspn(end, "hljz");

    /* Its own format: '*' becomes the number that stands for it. */
    char spec[48];
    size_t used = 0;
    for (const char *c = at; c <= end; c++) {
        CHECK(used + 12 < sizeof spec);
        if (*c == '*')
            used +=
                (size_t)snprintf(spec + used, sizeof spec - used, "%d", va_arg(args->list, int));
        else
            spec[used++] = *c;
    }
    spec[used] = '\0';

    if (strchr("diuxXoc", *end) != NULL)
        print_integer(out, spec, length, args);
    else if (*end == 's')
        raw_print(out, spec, va_arg(args->list, const char *));
    else if (strchr("fFeEgG", *end) != NULL)
        raw_print(out, spec, va_arg(args->list, double));
    else
        UNREACHABLE("a conversion that log lines do not know");
    return end + 1;
}

static void print_value(raw_text *out, const piece *p, arguments *args)
{
    out->size = 0;
    out->cut = false;
    const char *end = p->value + p->value_size;
    for (const char *at = p->value; at < end;) {
        if (*at == '%') {
            at = print_conversion(out, at, args);
            continue;
        }
        size_t size = strcspn(at, "%");
        if (size > (size_t)(end - at)) size = (size_t)(end - at);
        raw_append(out, at, size);
        at += size;
    }
}

/* -- writing a line -------------------------------------------------------------------- */

/* Enough behind the last byte of a value for what must follow it: a quote, the note that the line
 * was cut, and its end. */
#define JSON_CUT ",\"cut\":true"
enum { LINE_ROOM = LOG_LINE_BYTES - (int)sizeof "\"" JSON_CUT "}\n" };

typedef struct line_text {
    char *data;
    size_t size;
    bool cut;
} line_text;

/* All of it or nothing; after something was left out, nothing more. */
static bool put(line_text *l, const char *bytes, size_t size)
{
    if (l->cut || l->size + size > LINE_ROOM) {
        l->cut = true;
        return false;
    }
    memcpy(l->data + l->size, bytes, size);
    l->size += size;
    return true;
}

static void put_text(line_text *l, const char *text)
{
    put(l, text, strlen(text));
}

static void close_quote(line_text *l)
{
    l->data[l->size++] = '"'; /* LINE_ROOM kept it free */
}

/* The size of the character at `at`, 0 when it is not UTF-8. */
static size_t character_size(const unsigned char *at, size_t left)
{
    if (at[0] < 0x80) return 1;
    size_t size = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4 || size > left) return 0;
    for (size_t i = 1; i < size; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    bool overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    bool surrogate = at[0] == 0xed && at[1] > 0x9f;
    bool beyond = at[0] == 0xf4 && at[1] > 0x8f;
    return overlong || surrogate || beyond ? 0 : size;
}

/* U+0000 to U+001F, U+007F to U+009F: U+009B begins a terminal's command, as ESC [ does. */
static bool is_control(const unsigned char *at, size_t size)
{
    return (size == 1 && (at[0] < 0x20 || at[0] == 0x7f)) ||
           (size == 2 && at[0] == 0xc2 && at[1] <= 0x9f);
}

typedef enum escaping { ESCAPE_NOTHING, ESCAPE_QUOTES, ESCAPE_JSON } escaping;

/* Control characters become spaces, in JSON \u escapes. */
static void put_escaped(line_text *l, const char *bytes, size_t bytes_size, escaping how)
{
    const unsigned char *at = (const unsigned char *)bytes, *end = at + bytes_size;
    while (at < end && !l->cut) {
        size_t size = character_size(at, (size_t)(end - at));
        char escape[8];
        if (size == 0) {
            put_text(l, "\xef\xbf\xbd");
        } else if (is_control(at, size) && how == ESCAPE_JSON) {
            snprintf(escape, sizeof escape, "\\u%04x", size == 1 ? at[0] : at[1]);
            put_text(l, escape);
        } else if (is_control(at, size)) {
            put(l, "  ", size);
        } else if ((*at == '"' || *at == '\\') && how != ESCAPE_NOTHING) {
            escape[0] = '\\';
            escape[1] = (char)*at;
            put(l, escape, 2);
        } else {
            put(l, (const char *)at, size);
        }
        at += size == 0 ? 1 : size;
    }
}

/* -- text ------------------------------------------------------------------------------ */

static bool needs_quotes(const raw_text *value)
{
    for (size_t i = 0; i < value->size; i++) {
        const unsigned char *at = (const unsigned char *)value->data + i;
        if (*at == ' ' || *at == '"' || *at == '=') return true;
        if (is_control(at, 1) || (i + 1 < value->size && is_control(at, 2))) return true;
    }
    return value->size == 0;
}

static void put_field_text(line_text *l, const piece *p, const raw_text *value)
{
    put(l, p->key, p->key_size + 1);
    if (!p->quoted && !needs_quotes(value)) {
        put_escaped(l, value->data, value->size, ESCAPE_NOTHING);
    } else if (put(l, "\"", 1)) {
        put_escaped(l, value->data, value->size, ESCAPE_QUOTES);
        close_quote(l);
    }
}

size_t log_format_text(char line[LOG_LINE_BYTES], const log_head *head, const char *format,
                       va_list args)
{
    line_text l = {.data = line};
    l.size =
        (size_t)snprintf(line, LINE_ROOM, "%s %-5s %s ", head->time, head->level, head->program);
    arguments left;
    va_copy(left.list, args);
    raw_text value;
    for (piece p; !l.cut && next_piece(&format, &p);) {
        print_value(&value, &p, &left);
        if (!put(&l, " ", 1)) break;
        if (p.key != NULL)
            put_field_text(&l, &p, &value);
        else
            put_escaped(&l, value.data, value.size, ESCAPE_NOTHING);
        l.cut |= value.cut;
    }
    va_end(left.list);
    line[l.size++] = '\n';
    return l.size;
}

/* -- JSON ------------------------------------------------------------------------------ */

/* Is the whole text a number as JSON spells it, and short enough for the 64 bits of most who read
 * it? printf's may also be nan or 007. */
static bool is_json_number(const raw_text *value)
{
    static const char digits[] = "0123456789";
    char text[64];
    if (value->size == 0 || value->size >= sizeof text) return false;
    memcpy(text, value->data, value->size);
    text[value->size] = '\0';
    const char *at = text + (text[0] == '-');
    size_t whole = strspn(at, digits);
    if (whole == 0 || whole > 18 || (at[0] == '0' && whole > 1)) return false;
    at += whole;
    if (*at == '.') {
        size_t fraction = strspn(at + 1, digits);
        if (fraction == 0) return false;
        at += 1 + fraction;
    }
    if (*at == 'e' || *at == 'E') {
        at += 1 + (at[1] == '+' || at[1] == '-');
        size_t exponent = strspn(at, digits);
        if (exponent == 0) return false;
        at += exponent;
    }
    return *at == '\0';
}

/* "%u" and the like, alone and without quotes. */
static bool is_numeric(const piece *p)
{
    return !p->quoted && p->value_size >= 2 && p->value[0] == '%' &&
           memchr(p->value + 1, '%', p->value_size - 1) == NULL &&
           strchr("diufFeEgG", p->value[p->value_size - 1]) != NULL;
}

/* A member whose name or number does not fit is left out; a string may be cut. */
static void put_member(line_text *l, const piece *p, const raw_text *value)
{
    size_t before = l->size;
    put(l, ",\"", 2);
    put(l, p->key, p->key_size);
    put(l, "\":", 2);
    if (is_numeric(p) && is_json_number(value)) {
        put(l, value->data, value->size);
        if (l->cut) l->size = before;
        return;
    }
    put(l, "\"", 1);
    if (l->cut) {
        l->size = before;
        return;
    }
    put_escaped(l, value->data, value->size, ESCAPE_JSON);
    close_quote(l);
}

size_t log_format_json(char line[LOG_LINE_BYTES], const log_head *head, const char *format,
                       va_list args)
{
    line_text l = {.data = line};
    l.size = (size_t)snprintf(line, LINE_ROOM,
                              "{\"time\":\"%s\",\"level\":\"%s\",\"program\":\"%s\",\"event\":\"",
                              head->time, head->level, head->program);
    /* Twice over the format: the event's words first, wherever they stand. */
    bool cut = false;
    for (int fields = 0; fields < 2; fields++) {
        arguments left;
        va_copy(left.list, args);
        raw_text value;
        const char *at = format;
        bool first = true;
        for (piece p; !l.cut && next_piece(&at, &p);) {
            print_value(&value, &p, &left);
            if ((p.key != NULL) != (fields == 1)) continue;
            cut |= value.cut;
            if (fields == 1) {
                put_member(&l, &p, &value);
                continue;
            }
            if (!first) put(&l, " ", 1);
            first = false;
            put_escaped(&l, value.data, value.size, ESCAPE_JSON);
        }
        va_end(left.list);
        if (fields == 0) close_quote(&l);
        cut |= l.cut;
    }
    if (cut) {
        memcpy(line + l.size, JSON_CUT, sizeof JSON_CUT - 1);
        l.size += sizeof JSON_CUT - 1;
    }
    memcpy(line + l.size, "}\n", 2);
    return l.size + 2;
}
