#include "worker/health_socket.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/check.h"
#include "common/mem.h"

/* So many callers may wait for the loop's next turn, and are answered in one. */
enum { BACKLOG = 16 };

struct health_socket {
    uv_poll_t poll;
    int fd;
    health_line line;
    void *ctx;
};

/* Answers who waits. A caller that does not take its line at once does without. */
static void on_callers(uv_poll_t *poll, int failed, int events)
{
    (void)failed;
    (void)events;
    const health_socket *h = poll->data;
    for (int i = 0; i < BACKLOG; i++) {
        int caller = accept4(h->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (caller < 0) return;
        char line[LIMIT_HEALTH_LINE_BYTES + 1] = "";
        h->line(h->ctx, line);
        size_t size = strlen(line);
        line[size++] = '\n';
        ssize_t sent = send(caller, line, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)sent;
        close(caller);
    }
}

status health_socket_open(health_socket **out, uv_loop_t *loop, const char *name, health_line line,
                          void *ctx, error *err)
{
    size_t size = strlen(name);
    if (size == 0 || size > LIMIT_HEALTH_NAME_BYTES)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "--health-name has %zu bytes; it must have 1 to %u", size,
                         LIMIT_HEALTH_NAME_BYTES);
    struct sockaddr_un address = {.sun_family = AF_UNIX}; /* abstract: its first byte is 0 */
    memcpy(address.sun_path + 1, name, size);
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + size);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, length) != 0 ||
        listen(fd, BACKLOG) != 0) {
        int why = errno;
        if (fd >= 0) close(fd);
        return error_set(err, why == EADDRINUSE ? ST_ALREADY_EXISTS : ST_UNAVAILABLE,
                         why == EADDRINUSE ? "--health-name %s: another process here has it"
                                           : "--health-name %s: the system gives no such socket",
                         name);
    }
    health_socket *h = mem_alloc(sizeof *h);
    *h = (health_socket){.fd = fd, .line = line, .ctx = ctx};
    CHECK(uv_poll_init(loop, &h->poll, fd) == 0);
    h->poll.data = h;
    CHECK(uv_poll_start(&h->poll, UV_READABLE, on_callers) == 0);
    *out = h;
    return ST_OK;
}

static void on_closed(uv_handle_t *handle)
{
    health_socket *h = handle->data;
    close(h->fd);
    mem_free(h);
}

void health_socket_close(health_socket *h)
{
    if (h == NULL || uv_is_closing((uv_handle_t *)&h->poll)) return;
    uv_close((uv_handle_t *)&h->poll, on_closed);
}
