/* http_request: the head of an HTTP/1.x request, read strictly.
 *
 * Written for a server that answers GET and HEAD without bodies, where strangers may call: what is
 * ambiguous is refused, since a proxy in front may have read it otherwise. Lines end with CR LF;
 * a field is never folded and has no space before its colon; Host stands there exactly once; what
 * Content-Length and Transfer-Encoding announce is refused instead of skipped.
 *
 * Pure: looks at bytes, keeps nothing. Any thread. */
#ifndef GAGGLE_ROUTER_HTTP_REQUEST_H
#define GAGGLE_ROUTER_HTTP_REQUEST_H

#include "proto/envelope.h"

/* Views point into the bytes that were parsed. */
typedef struct http_request {
    text_view method;
    text_view path;   /* with its '/', without the query; not decoded */
    text_view query;  /* behind the '?'; may be empty */
    text_view bearer; /* of Authorization: Bearer; empty without it */
    bool keep_alive;
    size_t size; /* bytes of the head */
} http_request;

/* Parse the head at the start of `bytes`.
 *
 * returns  0 when more bytes are needed; 200 with *out filled; else the HTTP status to refuse it
 *          with, and *why a sentence: 400, 413 (a body), 431 (longer than LIMIT_HTTP_HEAD_BYTES),
 *          505. Of a refused one nothing is filled. */
int http_request_parse(const char *bytes, size_t size, http_request *out, const char **why);

#endif
