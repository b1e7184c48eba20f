#include "tests/e2e/http_client.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/check.h"

enum { PATIENCE_S = 20 };

void http_open(http_connection *c, uint16_t port)
{
    *c = (http_connection){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(c->fd >= 0);
    CHECK(setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    CHECK(connect(c->fd, (const struct sockaddr *)&address, sizeof address) == 0);
}

void http_end(http_connection *c)
{
    close(c->fd);
    buffer_free(&c->received);
}

void http_send(http_connection *c, const char *text)
{
    for (size_t size = strlen(text); size > 0;) {
        ssize_t sent = send(c->fd, text, size, MSG_NOSIGNAL);
        CHECK(sent > 0);
        text += sent;
        size -= (size_t)sent;
    }
}

/* False: the other side has closed it. */
static bool receive(http_connection *c)
{
    char bytes[16 * 1024];
    ssize_t got = recv(c->fd, bytes, sizeof bytes, 0);
    if (got < 0) fail_msg("nothing came in %d s", PATIENCE_S);
    if (got > 0) buffer_append(&c->received, bytes, (size_t)got);
    return got > 0;
}

/* The first `size` received bytes, and a NUL. */
static void take(http_connection *c, size_t size, buffer *out)
{
    *out = (buffer){0};
    buffer_append(out, c->received.data, size);
    buffer_append(out, "", 1);
    c->received.size -= size;
    memmove(c->received.data, c->received.data + size, c->received.size);
}

bool http_header(const http_reply *r, const char *name, char *out, size_t size)
{
    size_t length = strlen(name);
    for (const char *line = strstr((const char *)r->head.data, "\r\n"); line != NULL;
         line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, length) != 0 || line[length] != ':') continue;
        line += length + 1 + strspn(line + length + 1, " ");
        snprintf(out, size, "%.*s", (int)strcspn(line, "\r"), line);
        return true;
    }
    return false;
}

/* The empty line; NULL: it has not come yet. */
static const char *end_of_head(const http_connection *c)
{
    if (c->received.size == 0) return NULL;
    return memmem(c->received.data, c->received.size, "\r\n\r\n", 4);
}

void http_read(http_reply *r, http_connection *c, bool of_head)
{
    *r = (http_reply){0};
    const char *end;
    while ((end = end_of_head(c)) == NULL)
        if (!receive(c)) return;
    take(c, (size_t)(end - (const char *)c->received.data) + 4, &r->head);
    assert_int_equal(sscanf((const char *)r->head.data, "HTTP/1.1 %3d ", &r->status), 1);
    char length[32];
    assert_true(http_header(r, "Content-Length", length, sizeof length));
    size_t size = of_head ? 0 : strtoul(length, NULL, 10);
    while (c->received.size < size)
        assert_true(receive(c));
    take(c, size, &r->body);
}

bool http_is_closed(http_connection *c)
{
    return c->received.size == 0 && !receive(c);
}

void http_reply_free(http_reply *r)
{
    buffer_free(&r->head);
    buffer_free(&r->body);
}

void http_get(http_reply *r, uint16_t port, const char *path, const char *bearer)
{
    char request[1024];
    http_connection c;
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: router\r\n%s%s%s\r\n", path,
             bearer != NULL ? "Authorization: Bearer " : "", bearer != NULL ? bearer : "",
             bearer != NULL ? "\r\n" : "");
    http_open(&c, port);
    http_send(&c, request);
    http_read(r, &c, false);
    http_end(&c);
}
