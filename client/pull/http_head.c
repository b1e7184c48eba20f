#include "client/pull/http_head.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "common/limits.h"

typedef struct text {
    const char *at;
    size_t size;
} text;

static text trimmed(const char *at, size_t size)
{
    while (size > 0 && isspace((unsigned char)at[0]))
        at++, size--;
    while (size > 0 && isspace((unsigned char)at[size - 1]))
        size--;
    return (text){at, size};
}

/* The digits at the beginning; false: none, or too many. */
static bool take_number(text *t, uint64_t *out)
{
    size_t digits = 0;
    *out = 0;
    for (; digits < t->size && isdigit((unsigned char)t->at[digits]); digits++) {
        if (digits == 18) return false;
        *out = *out * 10 + (uint64_t)(t->at[digits] - '0');
    }
    t->at += digits;
    t->size -= digits;
    return digits > 0;
}

static bool take_character(text *t, char c)
{
    if (t->size == 0 || t->at[0] != c) return false;
    t->at++;
    t->size--;
    return true;
}

static void copy_printable(char *out, size_t out_size, text t)
{
    size_t used = 0;
    for (size_t i = 0; i < t.size && used + 1 < out_size; i++)
        out[used++] = t.at[i] >= ' ' && t.at[i] <= '~' ? t.at[i] : '?';
    out[used] = '\0';
}

/* W/"abc" -> abc */
static void copy_etag(char out[HTTP_ETAG_SIZE], text t)
{
    if (t.size > 2 && t.at[0] == 'W' && t.at[1] == '/') t = (text){t.at + 2, t.size - 2};
    if (t.size >= 2 && t.at[0] == '"' && t.at[t.size - 1] == '"') t = (text){t.at + 1, t.size - 2};
    copy_printable(out, HTTP_ETAG_SIZE, t);
}

/* bytes 100-199/1000, or with * for the total */
static void read_range(http_head *head, text t)
{
    uint64_t first, last, total = UINT64_MAX;
    if (t.size < 6 || strncasecmp(t.at, "bytes ", 6) != 0) return;
    t = (text){t.at + 6, t.size - 6};
    if (!take_number(&t, &first) || !take_character(&t, '-') || !take_number(&t, &last) ||
        !take_character(&t, '/') || last < first)
        return;
    if (!take_character(&t, '*') && !take_number(&t, &total)) return;
    head->has_range = t.size == 0;
    head->range_first = first;
    head->range_total = total;
}

static void begin(http_head *head, text t)
{
    http_head fresh = {.length = UINT64_MAX, .range_total = UINT64_MAX};
    memcpy(fresh.linked_etag, head->linked_etag, sizeof fresh.linked_etag);
    while (t.size > 0 && t.at[0] != ' ')
        t = (text){t.at + 1, t.size - 1};
    uint64_t code;
    t = trimmed(t.at, t.size);
    if (take_number(&t, &code) && code < 1000) fresh.code = (long)code;
    *head = fresh;
}

static bool is(text name, const char *other)
{
    return name.size == strlen(other) && strncasecmp(name.at, other, name.size) == 0;
}

void http_head_line(http_head *head, const char *line, size_t size)
{
    if (size >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        begin(head, (text){line, size});
        return;
    }
    const char *colon = memchr(line, ':', size);
    if (colon == NULL) return;
    text name = {line, (size_t)(colon - line)};
    text value = trimmed(colon + 1, size - name.size - 1);
    uint64_t number;
    if (is(name, "ETag"))
        copy_etag(head->etag, value);
    else if (is(name, "X-Linked-Etag"))
        copy_etag(head->linked_etag, value);
    else if (is(name, "Content-Range"))
        read_range(head, value);
    else if (is(name, "Content-Length") && take_number(&value, &number))
        head->length = number;
    else if (is(name, "Retry-After") && take_number(&value, &number))
        head->retry_after_ms = number < 1000000 ? number * 1000 : 1000000000;
    else if (is(name, "X-Error-Code"))
        copy_printable(head->error_code, sizeof head->error_code, value);
    else if (is(name, "X-Error-Message"))
        copy_printable(head->error_text, sizeof head->error_text, value);
}
