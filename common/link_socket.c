/* tcp and ipc: sockets of our own on the loop.
 *
 * nng could do these as well, and speaks the same bytes; but each of its completions crosses two
 * threads, which costs a request more than all that the router does for it (ARCHITECTURE.md).
 *
 * One link_socket is one descriptor under one uv_poll_t. It is let go of rather than waited for:
 * socket_close() stops the callbacks at once, and libuv frees the rest when it is ready. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/check.h"
#include "common/link_internal.h"

enum { ACCEPTS_PER_TURN = 64 };

struct link_socket {
    uv_poll_t poll;
    int fd;
    int events;
    void *owner;
    void (*ready)(link_socket *s, int events);
};

/* One dial: names become addresses, which are tried in their order. */
struct link_socket_dial {
    uv_getaddrinfo_t resolve;
    link_peer *link; /* NULL: given up, freed when the resolver is back */
    bool resolving;
    struct addrinfo *addresses, *next;
    status why; /* of the last address */
    char why_text[96];
};

static status status_of_errno(int code)
{
    switch (code) {
    case EADDRINUSE:
        return ST_ALREADY_EXISTS;
    case EACCES:
    case EPERM:
        return ST_PERMISSION_DENIED;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
        return ST_RESOURCE_EXHAUSTED;
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
        return ST_INVALID_ARGUMENT;
    default:
        return ST_UNAVAILABLE;
    }
}

/* -- one descriptor ------------------------------------------------------------------------ */

static void on_poll(uv_poll_t *poll, int rv, int events)
{
    link_socket *s = poll->data;
    if (rv != 0) {
        /* Something is wrong with the socket, and libuv has stopped: reading or writing says what,
         * but may first have bytes to give. */
        events = s->events;
        uv_poll_start(&s->poll, s->events, on_poll);
    }
    s->ready(s, events);
}

static void watch(link_socket *s, int events)
{
    if (s->events == events) return;
    s->events = events;
    int rv = events == 0 ? uv_poll_stop(&s->poll) : uv_poll_start(&s->poll, events, on_poll);
    CHECK(rv == 0);
}

/* Takes `fd`. NULL, with `fd` closed, when the loop cannot poll it. */
static link_socket *socket_open(link_hub *hub, int fd, void *owner,
                                void (*ready)(link_socket *s, int events))
{
    link_socket *s = mem_calloc(1, sizeof *s);
    *s = (link_socket){.fd = fd, .owner = owner, .ready = ready};
    s->poll.data = s;
    if (uv_poll_init(hub->loop, &s->poll, fd) == 0) return s;
    close(fd);
    mem_free(s);
    return NULL;
}

static void on_poll_closed(uv_handle_t *poll)
{
    mem_free(poll->data);
}

static void socket_close(link_socket *s)
{
    uv_close((uv_handle_t *)&s->poll, on_poll_closed);
    close(s->fd);
}

/* -- an open link ---------------------------------------------------------------------------- */

static void watch_link(link_peer *l)
{
    watch(l->socket, (l->rx.in_flight ? UV_READABLE : 0) | (l->tx.in_flight ? UV_WRITABLE : 0));
}

static void read_once(link_peer *l)
{
    size_t room = l->rx_capacity - l->rx_size;
    ssize_t count = recv(l->socket->fd, l->rx_bytes + l->rx_size, room, 0);
    if (count > 0)
        link_peer_received(l, (size_t)count);
    else if (count == 0)
        link_peer_fail(l, ST_UNAVAILABLE, "%sconnection closed by the peer",
                       l->was_up ? "" : "connecting: ");
    else if (errno != EAGAIN && errno != EINTR)
        link_peer_fail(l, status_of_errno(errno), "%s%s",
                       l->was_up ? "" : "connecting: ", strerror(errno));
}

static void link_ready(link_socket *s, int events)
{
    link_peer *l = s->owner;
    if ((events & UV_WRITABLE) != 0 && l->tx.in_flight) {
        l->tx.in_flight = false;
        link_peer_sent(l);
        if (l->socket == NULL) return;
        watch_link(l);
    }
    if ((events & UV_READABLE) != 0) read_once(l);
}

static void receive(link_peer *l)
{
    l->rx.in_flight = true; /* for good: read_once() is called while it is */
    watch_link(l);
}

static void send_now(link_peer *l)
{
    size_t size = l->tx_sending.size - l->tx_sent;
    ssize_t count = send(l->socket->fd, l->tx_sending.data + l->tx_sent, size, MSG_NOSIGNAL);
    if (count < 0 && errno != EAGAIN && errno != EINTR) {
        link_peer_send_failed(l, status_of_errno(errno), strerror(errno));
        return;
    }
    if (count > 0) l->tx_sent += (size_t)count;
    if (count == (ssize_t)size) return;
    l->tx.in_flight = true;
    l->tx_moved_ms = uv_now(l->hub->loop);
    watch_link(l);
}

static void dial_free(link_socket_dial *d)
{
    if (d->addresses != NULL) freeaddrinfo(d->addresses);
    mem_free(d);
}

static void close_link(link_peer *l)
{
    if (l->socket != NULL) socket_close(l->socket);
    l->socket = NULL;
    link_socket_dial *d = l->dial;
    l->dial = NULL;
    if (d != NULL) {
        d->link = NULL;
        if (d->resolving)
            uv_cancel((uv_req_t *)&d->resolve);
        else
            dial_free(d);
    }
    l->rx.in_flight = l->tx.in_flight = false;
}

const link_transport link_socket_transport = {
    .receive = receive, .send = send_now, .close = close_link};

/* -- dialling ---------------------------------------------------------------------------------- */

static void connect_next(link_peer *l);

static void dial_trouble(link_socket_dial *d, int code)
{
    d->why = status_of_errno(code);
    snprintf(d->why_text, sizeof d->why_text, "%s", strerror(code));
}

static void connected(link_peer *l)
{
    link_socket_dial *d = l->dial;
    l->dial = NULL;
    dial_free(d);
    l->rx.in_flight = false;
    l->socket->ready = link_ready;
    link_peer_start(l);
}

static void dial_ready(link_socket *s, int events)
{
    (void)events;
    link_peer *l = s->owner;
    int code = 0;
    socklen_t size = sizeof code;
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &code, &size) != 0) code = errno;
    if (code == 0) {
        connected(l);
        return;
    }
    dial_trouble(l->dial, code);
    l->socket = NULL;
    socket_close(s);
    connect_next(l);
}

static int open_stream(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd >= 0 && family != AF_UNIX) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* Begins; dial_ready() follows. Otherwise errno says why not. */
static bool try_address(link_peer *l, const struct sockaddr *address, socklen_t size)
{
    int fd = open_stream(address->sa_family);
    if (fd < 0) return false;
    if (connect(fd, address, size) != 0 && errno != EINPROGRESS) {
        int code = errno;
        close(fd);
        errno = code;
        return false;
    }
    l->socket = socket_open(l->hub, fd, l, dial_ready);
    if (l->socket == NULL) {
        errno = ENOMEM;
        return false;
    }
    watch(l->socket, UV_WRITABLE);
    return true;
}

static void connect_next(link_peer *l)
{
    link_socket_dial *d = l->dial;
    while (d->next != NULL) {
        struct addrinfo *a = d->next;
        d->next = a->ai_next;
        if (try_address(l, a->ai_addr, a->ai_addrlen)) return;
        dial_trouble(d, errno);
    }
    status why = d->why;
    char text[sizeof d->why_text];
    memcpy(text, d->why_text, sizeof text);
    link_peer_fail(l, why, "connecting: %s", text);
}

static void resolved(uv_getaddrinfo_t *resolve, int rv, struct addrinfo *addresses)
{
    link_socket_dial *d = resolve->data;
    d->resolving = false;
    d->addresses = d->next = addresses;
    link_peer *l = d->link;
    if (l == NULL)
        dial_free(d);
    else if (rv != 0)
        link_peer_fail(l, ST_UNAVAILABLE, "connecting: %s", uv_strerror(rv));
    else
        connect_next(l);
}

static int family_of(const link_scheme *scheme)
{
    char last = scheme->name[strlen(scheme->name) - 1];
    return last == '4' ? AF_INET : last == '6' ? AF_INET6 : AF_UNSPEC;
}

static struct sockaddr_un ipc_address(const char *url)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = strstr(url, "://") + 3; /* its length has been checked */
    memcpy(address.sun_path, path, strlen(path) + 1);
    return address;
}

/* Host and port of a URL; nng_url_free() it. */
static status split_url(nng_url **out, const char *url, error *err)
{
    int rv = nng_url_parse(out, url);
    if (rv != 0) return error_set(err, ST_INVALID_ARGUMENT, "\"%s\": %s", url, nng_strerror(rv));
    if ((*out)->u_port != NULL && (*out)->u_port[0] != 0) return ST_OK;
    nng_url_free(*out);
    return error_set(err, ST_INVALID_ARGUMENT, "\"%s\" names no port", url);
}

status link_socket_check(const char *url, const link_scheme *scheme, error *err)
{
    if (scheme->framing == LINK_FRAMING_IPC) return ST_OK;
    nng_url *parts;
    status st = split_url(&parts, url, err);
    if (st != ST_OK) return st;
    if (parts->u_hostname == NULL || parts->u_hostname[0] == 0)
        st = error_set(err, ST_INVALID_ARGUMENT, "\"%s\" names no host to dial", url);
    nng_url_free(parts);
    return st;
}

/* The outcome may be there before this returns, but is told only by link_peer_service(). */
static void dial_ipc(link_peer *l, const char *url)
{
    struct sockaddr_un address = ipc_address(url);
    if (try_address(l, (const struct sockaddr *)&address, sizeof address)) return;
    link_peer_fail(l, status_of_errno(errno), "connecting: %s", strerror(errno));
}

void link_socket_dial_start(link_peer *l, const char *url)
{
    link_socket_dial *d = mem_calloc(1, sizeof *d);
    d->link = l;
    d->why = ST_UNAVAILABLE;
    d->resolve.data = d;
    l->dial = d;
    l->rx.in_flight = true;
    if (l->scheme->framing == LINK_FRAMING_IPC) {
        dial_ipc(l, url);
        return;
    }
    nng_url *parts;
    error err;
    status st = split_url(&parts, url, &err);
    if (st != ST_OK) {
        link_peer_fail(l, st, "connecting: %s", err.text);
        return;
    }
    struct addrinfo hints = {.ai_family = family_of(l->scheme),
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    /* Numbers need no resolver, and no thread. */
    if (getaddrinfo(parts->u_hostname, parts->u_port, &hints, &d->addresses) == 0) {
        d->next = d->addresses;
        connect_next(l);
    } else {
        hints.ai_flags = 0;
        int rv = uv_getaddrinfo(l->hub->loop, &d->resolve, resolved, parts->u_hostname,
                                parts->u_port, &hints);
        d->resolving = rv == 0;
        if (rv != 0) link_peer_fail(l, ST_UNAVAILABLE, "connecting: %s", uv_strerror(rv));
    }
    nng_url_free(parts);
}

/* -- listening ------------------------------------------------------------------------------------
 */

static void accept_ready(link_socket *s, int events)
{
    (void)events;
    link_listener *listener = s->owner;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            /* Out of descriptors or the like: link_socket_listener_tick() goes on; at once would
             * spin. */
            bool is_transient = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
            if (!is_transient) watch(s, 0);
            return;
        }
        link_peer *l = link_listener_admit(listener);
        if (l == NULL) {
            close(fd);
            continue;
        }
        int on = 1;
        if (l->scheme->framing != LINK_FRAMING_IPC)
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        l->socket = socket_open(l->hub, fd, l, link_ready);
        if (l->socket != NULL)
            link_peer_start(l);
        else
            link_peer_fail(l, ST_RESOURCE_EXHAUSTED, "the loop takes no more descriptors");
    }
}

void link_socket_listener_tick(link_listener *listener)
{
    watch(listener->socket, UV_READABLE);
}

void link_socket_listener_close(link_listener *listener)
{
    socket_close(listener->socket);
    if (listener->path != NULL) unlink(listener->path);
    mem_free(listener->path);
}

/* A socket file stays when its process dies. Nobody serves it: remove it. */
static bool remove_stale(const struct sockaddr_un *address)
{
    int fd = open_stream(AF_UNIX);
    if (fd < 0) return false;
    bool is_stale = connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
                    errno == ECONNREFUSED;
    close(fd);
    return is_stale && unlink(address->sun_path) == 0;
}

static int bind_ipc(int fd, const struct sockaddr_un *address)
{
    const struct sockaddr *any = (const struct sockaddr *)address;
    if (bind(fd, any, sizeof *address) == 0) return 0;
    if (errno != EADDRINUSE) return -1;
    if (!remove_stale(address)) {
        errno = EADDRINUSE;
        return -1;
    }
    return bind(fd, any, sizeof *address);
}

/* A listening descriptor, or -1 with errno. */
static int listen_on(const struct sockaddr *address, socklen_t size)
{
    int fd = open_stream(address->sa_family);
    if (fd < 0) return -1;
    int on = 1, rv;
    if (address->sa_family == AF_UNIX) {
        rv = bind_ipc(fd, (const struct sockaddr_un *)(const void *)address);
    } else {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        rv = bind(fd, address, size);
    }
    if (rv == 0 && listen(fd, SOMAXCONN) == 0) return fd;
    int code = errno;
    close(fd);
    errno = code;
    return -1;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0) return 0;
    if (address.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)(const void *)&address)->sin_port);
    if (address.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)&address)->sin6_port);
    return 0;
}

static status listen_tcp(int *fd, const link_scheme *scheme, const char *url, error *err)
{
    nng_url *parts;
    status st = split_url(&parts, url, err);
    if (st != ST_OK) return st;
    const char *host = parts->u_hostname;
    bool is_any = host == NULL || host[0] == 0 || strcmp(host, "*") == 0;
    const struct addrinfo hints = {
        .ai_family = family_of(scheme), .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *first = NULL;
    int rv = getaddrinfo(is_any ? NULL : host, parts->u_port, &hints, &first);
    if (rv != 0) {
        st = error_set(err, ST_INVALID_ARGUMENT, "listening on %s: %s", url, gai_strerror(rv));
    } else {
        *fd = listen_on(first->ai_addr, first->ai_addrlen);
        if (*fd < 0)
            st =
                error_set(err, status_of_errno(errno), "listening on %s: %s", url, strerror(errno));
        freeaddrinfo(first);
    }
    nng_url_free(parts);
    return st;
}

static status listen_ipc(int *fd, const char *url, error *err)
{
    struct sockaddr_un address = ipc_address(url);
    *fd = listen_on((const struct sockaddr *)&address, sizeof address);
    if (*fd >= 0) return ST_OK;
    return error_set(err, status_of_errno(errno), "listening on %s: %s", url, strerror(errno));
}

status link_socket_listen(link_listener *listener, const char *url, error *err)
{
    bool is_ipc = listener->scheme->framing == LINK_FRAMING_IPC;
    int fd = -1;
    status st = is_ipc ? listen_ipc(&fd, url, err) : listen_tcp(&fd, listener->scheme, url, err);
    if (st != ST_OK) return st;
    listener->port = port_of(fd);
    listener->socket = socket_open(listener->hub, fd, listener, accept_ready);
    if (listener->socket == NULL)
        return error_set(err, ST_RESOURCE_EXHAUSTED, "listening on %s: out of descriptors", url);
    if (is_ipc) listener->path = mem_strdup(strstr(url, "://") + 3);
    return ST_OK;
}
