/* hub_http: GET requests to a hub and to wherever it sends us, many at once, one thread.
 *
 * A request lives through several tries. What passes by itself is tried again: a lost, silent or
 * refused connection, 408, 429 and 5xx, after a random time up to a bound that doubles (full
 * jitter), or after what Retry-After says. A try that brought PROGRESS_BYTES counts anew, so only
 * fruitless tries are bounded. Each try asks its sink from where to go on.
 *
 * Redirects are followed here and not by libcurl: the token goes to the hub's own scheme, host and
 * port and nowhere else, never from https to http, ten in a row at most. What the last of them led
 * to may serve later requests of the same file as a shortcut, since hubs count how often they are
 * asked; a shortcut that is refused is dropped for the plain way. */
#ifndef GAGGLE_PULL_HUB_HTTP_H
#define GAGGLE_PULL_HUB_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/pull/hub_settings.h"

#define HTTP_ETAG_SIZE 128

typedef struct http_head {
    long code;                        /* 0: no answer came */
    char etag[HTTP_ETAG_SIZE];        /* of this answer, without quotes; empty: none */
    char linked_etag[HTTP_ETAG_SIZE]; /* what the hub said of the file before it sent us on */
    bool from_hub;                    /* nobody else answered */
    bool has_range;
    uint64_t range_first, range_total; /* total: UINT64_MAX when not said */
    uint64_t length;                   /* of the body; UINT64_MAX when not said */
    uint64_t retry_after_ms;           /* 0: not said */
    char error_code[64];               /* X-Error-Code */
    char error_text[256];              /* X-Error-Message; printable */
} http_head;

typedef struct http_try {
    bool ranged;
    uint64_t first, last; /* bytes to ask for, when `ranged` */
    const char *shortcut; /* NULL: none; copied */
} http_try;

/* on_try returns false when nothing is left to ask for: the request ends well. on_head sees the
 * head of a 2xx answer before its body, on_complete its end. They and on_body return ST_UNAVAILABLE
 * for a try that is to be made again, anything else but ST_OK to end the request with it. on_end
 * comes once, after all others, unless http_abort() came first; in it other requests may be started
 * and aborted, in the others not. */
typedef struct http_sink {
    bool (*on_try)(void *ctx, http_try *next);
    status (*on_head)(void *ctx, const http_head *head, const char *url, error *err);
    status (*on_body)(void *ctx, const void *bytes, size_t size, error *err);
    status (*on_complete)(void *ctx, error *err);
    void (*on_end)(void *ctx, status st, const error *why, const http_head *head);
    void (*on_shortcut_refused)(void *ctx); /* may be NULL */
} http_sink;

typedef struct http_options {
    const hub_settings *hub;
    uint32_t silent_ms;   /* a connection that is silent for so long is lost */
    uint32_t tries_max;   /* fruitless ones in a row */
    uint32_t retry_ms;    /* the first wait is up to this */
    uint32_t connections; /* to be kept open */
    void (*say)(void *ctx, const char *sentence); /* of tries that are made again */
    void *ctx;
} http_options;

typedef struct hub_http hub_http;
typedef struct http_request http_request;

MUST_USE status hub_http_create(hub_http **out, const http_options *options, error *err);
void hub_http_destroy(hub_http *h); /* aborts what is running; NULL is fine */

/* `what` names it in sentences. All strings are copied. */
http_request *http_start(hub_http *h, const char *url, const char *what, const http_sink *sink,
                         void *ctx);
void http_abort(http_request *r);

/* Whether anything is running or waits for its next try. */
bool hub_http_is_busy(const hub_http *h);

/* Do what is to be done, waiting for it up to `wait_ms`. */
void hub_http_turn(hub_http *h, int wait_ms);
/* End that waiting. Any thread. */
void hub_http_wake(hub_http *h);

#endif
