/* http: a small HTTP/1.1 server on the router's loop, for probes, metrics and admins.
 *
 * GET and HEAD, answers that are made at once, no bodies in requests, no TLS (a proxy brings it).
 * A caller costs a connection of LIMIT_HTTP_HEAD_BYTES; at most LIMIT_HTTP_CONNECTIONS are open,
 * and for one more the one that was opened first of those that ask nothing is closed. Within
 * LIMIT_HTTP_MS a request must have come whole, and its answer must have been taken, else the
 * connection is closed; so long it may also be idle between two requests. Answers are shared, so
 * that a page costs its memory once, however many take it slowly.
 *
 * Why not libwebsockets: ARCHITECTURE.md. Loop thread. */
#ifndef GAGGLE_ROUTER_HTTP_H
#define GAGGLE_ROUTER_HTTP_H

#include <uv.h>

#include "common/mem.h"
#include "router/http_request.h"

typedef struct http_server http_server;

/* What an answer consists of, counted: whoever keeps it takes it once more. */
typedef struct http_body {
    unsigned taken;
    buffer bytes;
} http_body;

http_body *http_body_create(void); /* taken once, empty: append to its bytes */
http_body *http_body_take(http_body *b);
void http_body_release(http_body *b);

typedef struct http_answer {
    int status;          /* 200, or an error's */
    const char *type;    /* Content-Type */
    const char *headers; /* more lines, each with its CR LF; NULL = none */
    http_body *body;     /* the server releases it */
} http_answer;

/* Called with GET and HEAD; `request` is valid during the call. */
typedef void (*http_handler)(void *ctx, const http_request *request, http_answer *answer);

/* An answer of one sentence, as JSON: {"error": "..."}. */
http_answer http_refusal(int status, const char *sentence);

/* Listen on http://HOST:PORT; HOST is an IPv4 address, an IPv6 address in brackets, or localhost.
 * ST_INVALID_ARGUMENT: not such a URL; ST_ALREADY_EXISTS: the address is in use. */
MUST_USE status http_listen(http_server **out, uv_loop_t *loop, const char *url,
                            http_handler handler, void *ctx, error *err);
uint16_t http_port(const http_server *s);

/* Close it with all its connections. It frees itself when the loop has done so. NULL is fine. */
void http_close(http_server *s);

#endif
