#include "router/http_request.h"

#include <string.h>
#include <strings.h>

enum { FIELDS_MAX = 64 };

/* What the fields say, besides what http_request keeps. */
typedef struct head {
    http_request *request;
    bool is_1_0;
    unsigned hosts, authorizations, lengths;
    bool is_chunked, has_body;
    const char *why;
} head;

static bool is_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(text_view text)
{
    for (size_t i = 0; i < text.size; i++)
        if (!is_token_char(text.data[i])) return false;
    return text.size > 0;
}

static bool is_named(text_view text, const char *name)
{
    return text.size == strlen(name) && strncasecmp(text.data, name, text.size) == 0;
}

static text_view trim(text_view text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t'))
        text.size--;
    return text;
}

/* The part of *rest before `stop`, which is taken off together with it; all when it is not there.
 */
static text_view cut(text_view *rest, char stop)
{
    const char *at = rest->size > 0 ? memchr(rest->data, stop, rest->size) : NULL;
    text_view part = *rest;
    if (at == NULL) {
        *rest = (text_view){rest->data + rest->size, 0};
        return part;
    }
    part.size = (size_t)(at - rest->data);
    *rest = (text_view){at + 1, rest->size - part.size - 1};
    return part;
}

static int refuse(head *h, int code, const char *why)
{
    h->why = why;
    return code;
}

/* METHOD SP /path[?query] SP HTTP/1.x */
static int parse_first_line(head *h, text_view line)
{
    text_view method = cut(&line, ' ');
    text_view target = cut(&line, ' ');
    if (!is_token(method)) return refuse(h, 400, "the request line does not begin with a method");
    if (target.size == 0 || target.data[0] != '/')
        return refuse(h, 400, "the target must be a path that begins with '/'");
    for (size_t i = 0; i < target.size; i++)
        if (target.data[i] <= 0x20 || target.data[i] >= 0x7f || target.data[i] == '#')
            return refuse(h, 400, "the path has a character that must be percent-encoded");
    if (line.size != 8 || memcmp(line.data, "HTTP/", 5) != 0)
        return refuse(h, 400, "the request line must end with HTTP/1.1");
    if (memcmp(line.data, "HTTP/1.1", 8) != 0 && memcmp(line.data, "HTTP/1.0", 8) != 0)
        return refuse(h, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    h->is_1_0 = line.data[7] == '0';
    h->request->method = method;
    h->request->path = cut(&target, '?');
    h->request->query = target;
    h->request->keep_alive = !h->is_1_0;
    return 200;
}

static int take_length(head *h, text_view value)
{
    h->lengths++;
    if (value.size == 0) return refuse(h, 400, "Content-Length must be a number");
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return refuse(h, 400, "Content-Length must be a number");
        if (value.data[i] != '0') h->has_body = true;
    }
    return 200;
}

static void take_connection(head *h, text_view value)
{
    while (value.size > 0)
        if (is_named(trim(cut(&value, ',')), "close")) h->request->keep_alive = false;
}

static void take_authorization(head *h, text_view value)
{
    h->authorizations++;
    text_view scheme = cut(&value, ' ');
    if (is_named(scheme, "Bearer")) h->request->bearer = trim(value);
}

static int parse_field(head *h, text_view line)
{
    if (line.data[0] == ' ' || line.data[0] == '\t')
        return refuse(h, 400, "a header field is folded into several lines");
    for (size_t i = 0; i < line.size; i++) {
        unsigned char c = (unsigned char)line.data[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return refuse(h, 400, "a header field has a control character");
    }
    if (memchr(line.data, ':', line.size) == NULL)
        return refuse(h, 400, "a header field has no colon");
    text_view name = cut(&line, ':');
    if (!is_token(name)) return refuse(h, 400, "a header field's name is not a token");
    text_view value = trim(line);
    if (is_named(name, "Host")) h->hosts++;
    if (is_named(name, "Content-Length")) return take_length(h, value);
    if (is_named(name, "Transfer-Encoding")) h->is_chunked = true;
    if (is_named(name, "Connection")) take_connection(h, value);
    if (is_named(name, "Authorization")) take_authorization(h, value);
    return 200;
}

/* What the fields say together. */
static int judge(head *h)
{
    if (h->hosts > 1 || (h->hosts == 0 && !h->is_1_0))
        return refuse(h, 400, "the header field Host must stand there once");
    if (h->authorizations > 1) return refuse(h, 400, "Authorization stands there twice");
    if (h->lengths > 1 || (h->lengths > 0 && h->is_chunked))
        return refuse(h, 400, "the length of the body is said twice");
    if (h->has_body || h->is_chunked)
        return refuse(h, 413, "requests with a body are not taken here");
    return 200;
}

/* The line at *at, without its end; data NULL while it is not whole. *bad: an LF without CR, a NUL
 * and the like are the fields' to refuse. */
static text_view next_line(const char *bytes, size_t size, size_t *at, bool *bad)
{
    const char *end = size > *at ? memchr(bytes + *at, '\n', size - *at) : NULL;
    if (end == NULL) return (text_view){0};
    text_view line = {bytes + *at, (size_t)(end - bytes) - *at};
    *at += line.size + 1;
    if (line.size == 0 || line.data[line.size - 1] != '\r')
        *bad = true;
    else
        line.size--;
    return line;
}

static int parse(head *h, const char *bytes, size_t size)
{
    size_t at = 0;
    for (unsigned line_number = 0;; line_number++) {
        bool bad = false;
        text_view line = next_line(bytes, size, &at, &bad);
        if (line.data == NULL) return 0;
        if (bad) return refuse(h, 400, "a line does not end with CR LF");
        if (line.size == 0 && line_number > 0) break;
        if (line_number > FIELDS_MAX) return refuse(h, 431, "there are more than 64 header fields");
        int code = line_number == 0 ? parse_first_line(h, line) : parse_field(h, line);
        if (code != 200) return code;
    }
    h->request->size = at;
    return judge(h);
}

int http_request_parse(const char *bytes, size_t size, http_request *out, const char **why)
{
    http_request request = {0};
    head h = {.request = &request};
    size_t seen = size < LIMIT_HTTP_HEAD_BYTES ? size : LIMIT_HTTP_HEAD_BYTES;
    int code = parse(&h, bytes, seen);
    if (code == 0 && size >= LIMIT_HTTP_HEAD_BYTES)
        code = refuse(&h, 431, "the request's head has more than 8192 bytes");
    if (code == 200) *out = request;
    if (code != 0 && code != 200) *why = h.why;
    return code;
}
