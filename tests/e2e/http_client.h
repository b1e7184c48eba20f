/* http_client: what a probe, Prometheus or an admin's curl says to a real router, byte by byte. */
#ifndef GAGGLE_TESTS_HTTP_CLIENT_H
#define GAGGLE_TESTS_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mem.h"

typedef struct http_connection {
    int fd;
    buffer received; /* that no reply has taken */
} http_connection;

typedef struct http_reply {
    int status;  /* 0: the connection was closed instead */
    buffer head; /* with a NUL behind it, as the body */
    buffer body;
} http_reply;

/* The test fails where nobody listens. */
void http_open(http_connection *c, uint16_t port);
void http_end(http_connection *c);

void http_send(http_connection *c, const char *text);
/* The next reply; `of_head`: to a HEAD, which has no body. Fails when it takes over 20 s. */
void http_read(http_reply *r, http_connection *c, bool of_head);
/* Has the other side closed it, with nothing left to read? Waits for that as long. */
bool http_is_closed(http_connection *c);
void http_reply_free(http_reply *r);

/* The text of a header of the reply, without its line's end, in `out`; false: it is not there. */
bool http_header(const http_reply *r, const char *name, char *out, size_t size);

/* One GET on a connection of its own; `bearer` NULL: none is shown. */
void http_get(http_reply *r, uint16_t port, const char *path, const char *bearer);

#endif
