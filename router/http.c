#include "router/http.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/check.h"
#include "common/log.h"
#include "router/page.h"

enum { ANSWER_HEAD_SIZE = 512, HOST_SIZE = 64 };

/* READING -> WRITING -> READING ... or -> LINGERING -> CLOSING
 *
 * WRITING: nothing is read, so that whoever asks on and on without taking answers waits.
 *
 * LINGERING: the last answer is sent; what the peer still sends is read and forgotten, since to
 * close with bytes unread would take the answer back. */
typedef enum phase { READING, WRITING, LINGERING, CLOSING } phase;

typedef struct connection {
    http_server *server;
    struct connection *previous, *next;
    uv_tcp_t tcp;
    uv_timer_t timer;
    uv_write_t write;
    uv_shutdown_t shutdown;
    phase phase;
    bool keep_alive;
    unsigned handles_open;
    http_body *body; /* being written */
    char head[ANSWER_HEAD_SIZE];
    size_t size; /* bytes of `received` in use */
    char received[LIMIT_HTTP_HEAD_BYTES];
} connection;

struct http_server {
    uv_loop_t *loop;
    uv_tcp_t tcp;
    http_handler handler;
    void *ctx;
    connection *connections;
    uint32_t connection_count;
    bool listening; /* the listener's handle is open */
    bool closing;
};
_Static_assert(sizeof(connection) <= 12 * 1024, "a stranger costs less than 16 KiB");

/* -- answers ------------------------------------------------------------------------------- */

http_body *http_body_create(void)
{
    http_body *b = mem_calloc(1, sizeof *b);
    b->taken = 1;
    return b;
}

http_body *http_body_take(http_body *b)
{
    b->taken++;
    return b;
}

void http_body_release(http_body *b)
{
    if (b == NULL || --b->taken > 0) return;
    buffer_free(&b->bytes);
    mem_free(b);
}

http_answer http_refusal(int code, const char *sentence)
{
    http_answer answer = {.status = code, .type = "application/json", .body = http_body_create()};
    buffer *out = &answer.body->bytes;
    page_text(out, "{\"error\": \"");
    page_json(out, sentence, strlen(sentence));
    page_text(out, "\"}\n");
    return answer;
}

static const char *reason_phrase(int code)
{
    static const struct {
        int code;
        const char *text;
    } phrases[] = {{200, "OK"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {413, "Content Too Large"},
                   {431, "Request Header Fields Too Large"},
                   {503, "Service Unavailable"},
                   {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
        if (phrases[i].code == code) return phrases[i].text;
    UNREACHABLE("a status without a phrase");
}

/* -- a connection's end -------------------------------------------------------------------- */

static void free_if_closed(http_server *s)
{
    if (s->closing && !s->listening && s->connections == NULL) mem_free(s);
}

static void on_connection_closed(uv_handle_t *handle)
{
    connection *c = handle->data;
    if (--c->handles_open > 0) return;
    http_server *s = c->server;
    *(c->previous != NULL ? &c->previous->next : &s->connections) = c->next;
    if (c->next != NULL) c->next->previous = c->previous;
    s->connection_count--;
    http_body_release(c->body);
    mem_free(c);
    free_if_closed(s);
}

static void close_connection(connection *c)
{
    if (c->phase == CLOSING) return;
    c->phase = CLOSING;
    uv_close((uv_handle_t *)&c->tcp, on_connection_closed);
    uv_close((uv_handle_t *)&c->timer, on_connection_closed);
}

static void on_timeout(uv_timer_t *timer)
{
    close_connection(timer->data);
}

/* -- a request and its answer -------------------------------------------------------------- */

static void take_request(connection *c);
static void on_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *out);
static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf);

static void on_shutdown(uv_shutdown_t *request, int failed)
{
    connection *c = request->data;
    if (failed != 0) close_connection(c);
}

static void read_on(connection *c, phase next)
{
    c->phase = next;
    if (uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) != 0) close_connection(c);
}

static void linger(connection *c)
{
    read_on(c, LINGERING);
    if (c->phase == CLOSING) return;
    c->shutdown.data = c;
    uv_timer_start(&c->timer, on_timeout, LIMIT_LINGER_MS, 0);
    if (uv_shutdown(&c->shutdown, (uv_stream_t *)&c->tcp, on_shutdown) != 0) close_connection(c);
}

static void on_written(uv_write_t *write, int failed)
{
    connection *c = write->data;
    http_body_release(c->body);
    c->body = NULL;
    if (c->phase == CLOSING) return;
    if (failed != 0) {
        close_connection(c);
    } else if (!c->keep_alive) {
        linger(c);
    } else {
        uv_timer_start(&c->timer, on_timeout, LIMIT_HTTP_MS, 0);
        read_on(c, READING);
        if (c->phase == READING) take_request(c);
    }
}

/* Takes the answer's body. */
static void send_answer(connection *c, const http_answer *answer, bool head_only)
{
    int size = snprintf(c->head, sizeof c->head,
                        "HTTP/1.1 %d %s\r\n"
                        "Content-Type: %s\r\n"
                        "Content-Length: %zu\r\n"
                        "Cache-Control: no-store\r\n"
                        "X-Content-Type-Options: nosniff\r\n"
                        "%s%s\r\n",
                        answer->status, reason_phrase(answer->status), answer->type,
                        answer->body->bytes.size, answer->headers != NULL ? answer->headers : "",
                        c->keep_alive ? "" : "Connection: close\r\n");
    CHECK(size > 0 && (size_t)size < sizeof c->head);
    c->phase = WRITING;
    uv_read_stop((uv_stream_t *)&c->tcp);
    c->body = answer->body;
    c->write.data = c;
    const uv_buf_t parts[] = {
        uv_buf_init(c->head, (unsigned)size),
        uv_buf_init((char *)answer->body->bytes.data, (unsigned)answer->body->bytes.size)};
    uv_timer_start(&c->timer, on_timeout, LIMIT_HTTP_MS, 0);
    unsigned count = head_only || answer->body->bytes.size == 0 ? 1 : 2;
    if (uv_write(&c->write, (uv_stream_t *)&c->tcp, parts, count, on_written) != 0)
        close_connection(c);
}

static bool is_method(const http_request *request, const char *name)
{
    return text_equal(request->method, text_of(name));
}

/* Answer the request that stands at the start of what was received, when it is whole. */
static void take_request(connection *c)
{
    http_request request;
    const char *why = NULL;
    int code = http_request_parse(c->received, c->size, &request, &why);
    if (code == 0) return;
    http_answer answer;
    bool head_only = false;
    if (code != 200) {
        c->keep_alive = false;
        answer = http_refusal(code, why);
    } else if (!is_method(&request, "GET") && !is_method(&request, "HEAD")) {
        c->keep_alive = false;
        answer = http_refusal(405, "only GET and HEAD are answered here");
        answer.headers = "Allow: GET, HEAD\r\n";
    } else {
        c->keep_alive = request.keep_alive;
        head_only = is_method(&request, "HEAD");
        answer = (http_answer){.status = 200};
        c->server->handler(c->server->ctx, &request, &answer);
    }
    if (code == 200) {
        memmove(c->received, c->received + request.size, c->size - request.size);
        c->size -= request.size;
    }
    send_answer(c, &answer, head_only);
}

/* -- receiving ------------------------------------------------------------------------------- */

/* There is room: what fills all of it without being a request is refused. */
static void on_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *out)
{
    (void)wanted;
    connection *c = handle->data;
    if (c->phase == LINGERING) c->size = 0;
    *out = uv_buf_init(c->received + c->size, (unsigned)(sizeof c->received - c->size));
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    (void)buf;
    connection *c = stream->data;
    if (count < 0) {
        close_connection(c);
        return;
    }
    if (count == 0 || c->phase == LINGERING) return;
    c->size += (size_t)count;
    if (c->phase == READING) take_request(c);
}

/* Who has asked nothing for longest makes room: strangers that hold all connections must not keep a
 * probe from its answer. */
static void close_longest_waiting(http_server *s)
{
    connection *longest = s->connections; /* the newest, if all others are answered just now */
    for (connection *c = s->connections; c != NULL; c = c->next)
        if (c->phase == READING) longest = c;
    close_connection(longest);
}

static void on_connection(uv_stream_t *listener, int failed)
{
    http_server *s = listener->data;
    if (failed != 0) {
        log_warn("http accept failed reason=\"%s\"", uv_strerror(failed));
        return;
    }
    connection *c = mem_alloc(sizeof *c);
    memset(c, 0, offsetof(connection, received));
    c->server = s;
    c->handles_open = 2;
    CHECK(uv_tcp_init(s->loop, &c->tcp) == 0 && uv_timer_init(s->loop, &c->timer) == 0);
    c->tcp.data = c->timer.data = c;
    c->next = s->connections;
    if (c->next != NULL) c->next->previous = c;
    s->connections = c;
    s->connection_count++;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) != 0 || uv_tcp_nodelay(&c->tcp, 1) != 0 ||
        uv_timer_start(&c->timer, on_timeout, LIMIT_HTTP_MS, 0) != 0)
        close_connection(c);
    else
        read_on(c, READING);
    if (s->connection_count > LIMIT_HTTP_CONNECTIONS) close_longest_waiting(s);
}

/* -- the server ------------------------------------------------------------------------------ */

static status parse_url(const char *url, struct sockaddr_storage *out, error *err)
{
    char host[HOST_SIZE];
    unsigned port = 0;
    int read = 0;
    bool fits = sscanf(url, "http://[%63[0-9a-fA-F:.]]:%5u%n", host, &port, &read) == 2 ||
                sscanf(url, "http://%63[0-9a-z.]:%5u%n", host, &port, &read) == 2;
    if (fits && (url[read] == '\0' || strcmp(url + read, "/") == 0) && port <= 65535) {
        const char *address = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
        if (uv_ip4_addr(address, (int)port, (struct sockaddr_in *)out) == 0) return ST_OK;
        if (uv_ip6_addr(address, (int)port, (struct sockaddr_in6 *)out) == 0) return ST_OK;
    }
    return error_set(err, ST_INVALID_ARGUMENT,
                     "%s is not http://ADDRESS:PORT with an IPv4 address, an IPv6 address in "
                     "brackets, or localhost",
                     url);
}

status http_listen(http_server **out, uv_loop_t *loop, const char *url, http_handler handler,
                   void *ctx, error *err)
{
    struct sockaddr_storage address = {0};
    status st = parse_url(url, &address, err);
    if (st != ST_OK) return st;
    http_server *s = mem_calloc(1, sizeof *s);
    *s = (http_server){.loop = loop, .handler = handler, .ctx = ctx, .listening = true};
    CHECK(uv_tcp_init(loop, &s->tcp) == 0);
    s->tcp.data = s;
    int rv = uv_tcp_bind(&s->tcp, (const struct sockaddr *)&address, 0);
    if (rv == 0) rv = uv_listen((uv_stream_t *)&s->tcp, LIMIT_HTTP_CONNECTIONS, on_connection);
    if (rv != 0) {
        http_close(s);
        return error_set(err, rv == UV_EADDRINUSE ? ST_ALREADY_EXISTS : ST_UNAVAILABLE,
                         "listening on %s: %s", url, uv_strerror(rv));
    }
    *out = s;
    return ST_OK;
}

uint16_t http_port(const http_server *s)
{
    struct sockaddr_storage address = {0};
    int size = sizeof address;
    CHECK(uv_tcp_getsockname(&s->tcp, (struct sockaddr *)&address, &size) == 0);
    in_port_t port = address.ss_family == AF_INET6
                         ? ((const struct sockaddr_in6 *)&address)->sin6_port
                         : ((const struct sockaddr_in *)&address)->sin_port;
    return ntohs(port);
}

static void on_listener_closed(uv_handle_t *handle)
{
    http_server *s = handle->data;
    s->listening = false;
    free_if_closed(s);
}

void http_close(http_server *s)
{
    if (s == NULL || s->closing) return;
    s->closing = true;
    uv_close((uv_handle_t *)&s->tcp, on_listener_closed);
    for (connection *c = s->connections, *next; c != NULL; c = next) {
        next = c->next;
        close_connection(c);
    }
}
