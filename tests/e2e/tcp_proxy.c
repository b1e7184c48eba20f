#include "tests/e2e/tcp_proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/mem.h"

enum {
    PAIRS_MAX = 64,
    FAMILIES = 2,
    CHUNK = 65536,
    THROTTLE_MS = 100,
    RESEND_MS = 200,
    LATE_MS = 5
};

enum command { CUT = 'c', HOLD = 'h', RELEASE = 'r', WAKE = 't', STOP = 's' };

/* Bytes from `from` that `to` has not taken yet. */
typedef struct direction {
    int from, to;
    char *bytes;
    size_t start, end;
    uint64_t due_ms; /* before which they do not go on */
} direction;

typedef struct pair {
    direction there, back;
} pair;

struct tcp_proxy {
    int listeners[FAMILIES];
    size_t listener_count;
    uint16_t port, to_port;
    in_addr_t to_address; /* 0: this machine */
    int commands[2];      /* the test writes, the thread reads a command */
    int done[2];          /* the thread writes when it has obeyed */
    pthread_t thread;
    pair pairs[PAIRS_MAX];
    size_t count;
    bool held;
    _Atomic uint32_t delay_ms, loss;
    uint32_t pieces;
    _Atomic uint32_t bytes_per_second;
    uint64_t allowed_ms; /* of `allowance`, when bytes_per_second is not 0 */
    size_t allowance;
    _Atomic uint32_t connections;
    _Atomic int event; /* -1: nobody is told */
};

/* What localhost means differs between machines: 127.0.0.1, ::1, or both in either order. Numbers
 * need nobody to look them up. */
static const int families[FAMILIES] = {AF_INET, AF_INET6};

typedef union loopback {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} loopback;

static loopback loopback_at(int family, uint16_t port)
{
    loopback a = {.any.sa_family = (sa_family_t)family};
    if (family == AF_INET) {
        a.v4.sin_port = htons(port);
        a.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        a.v6.sin6_port = htons(port);
        a.v6.sin6_addr = in6addr_loopback;
    }
    return a;
}

/* -1: nobody listens there. */
static int connect_on(const tcp_proxy *p)
{
    for (size_t i = 0; i < (p->to_address != 0 ? 1 : FAMILIES); i++) {
        int fd = socket(families[i], SOCK_STREAM | SOCK_CLOEXEC, 0);
        loopback to = loopback_at(families[i], p->to_port);
        if (p->to_address != 0) to.v4.sin_addr.s_addr = p->to_address;
        if (fd >= 0 && connect(fd, &to.any, sizeof to) == 0) return fd;
        if (fd >= 0) close(fd);
    }
    return -1;
}

/* One free port of both families, or of IPv4 where there is no other. */
static void listen_at(tcp_proxy *p)
{
    for (size_t i = 0; i < FAMILIES; i++) {
        int fd = socket(families[i], SOCK_STREAM | SOCK_CLOEXEC, 0);
        loopback at = loopback_at(families[i], p->port);
        socklen_t size = sizeof at;
        if (fd >= 0 && bind(fd, &at.any, size) == 0 && listen(fd, 64) == 0) {
            CHECK(getsockname(fd, &at.any, &size) == 0);
            p->port = ntohs(families[i] == AF_INET ? at.v4.sin_port : at.v6.sin6_port);
            p->listeners[p->listener_count++] = fd;
        } else if (fd >= 0) {
            close(fd);
        }
    }
    CHECK(p->listener_count > 0);
}

static void reset_and_close(int fd)
{
    struct linger at_once = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}

static void tell(tcp_proxy *p)
{
    const uint64_t one = 1;
    int event = atomic_load(&p->event);
    if (event >= 0) CHECK(write(event, &one, sizeof one) == sizeof one);
}

static void remove_pair(tcp_proxy *p, size_t index)
{
    pair *gone = &p->pairs[index];
    reset_and_close(gone->there.from);
    reset_and_close(gone->there.to);
    mem_free(gone->there.bytes);
    mem_free(gone->back.bytes);
    *gone = p->pairs[--p->count];
    tell(p);
}

static void accept_one(tcp_proxy *p, int listener)
{
    int near_end = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (near_end < 0) return;
    int far_end = !p->held && p->count < PAIRS_MAX ? connect_on(p) : -1;
    if (far_end < 0) {
        reset_and_close(near_end);
        return;
    }
    fcntl(far_end, F_SETFL, O_NONBLOCK);
    int on = 1;
    setsockopt(near_end, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(far_end, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    p->pairs[p->count++] = (pair){{near_end, far_end, mem_alloc(CHUNK), 0, 0, 0},
                                  {far_end, near_end, mem_alloc(CHUNK), 0, 0, 0}};
    atomic_fetch_add(&p->connections, 1);
}

static uint64_t due_ms(tcp_proxy *p)
{
    uint32_t loss = atomic_load(&p->loss);
    bool lost = loss != 0 && ++p->pieces % loss == 0;
    return clock_now_ms() + atomic_load(&p->delay_ms) + (lost ? RESEND_MS : 0);
}

/* False when the connection is over. At most *allowance bytes, which become fewer. */
static bool move_bytes(tcp_proxy *p, direction *d, short from_events, short to_events,
                       size_t *allowance)
{
    if (d->start == d->end && (from_events & (POLLIN | POLLHUP | POLLERR)) != 0) {
        ssize_t got = read(d->from, d->bytes, CHUNK);
        if (got <= 0) return false;
        d->start = 0;
        d->end = (size_t)got;
        d->due_ms = due_ms(p);
        to_events |= POLLOUT;
    }
    if (d->start < d->end && (to_events & POLLOUT) != 0 && clock_now_ms() >= d->due_ms) {
        size_t size = d->end - d->start < *allowance ? d->end - d->start : *allowance;
        ssize_t wrote = size > 0 ? send(d->to, d->bytes + d->start, size, MSG_NOSIGNAL) : 0;
        if (wrote > 0) {
            d->start += (size_t)wrote;
            *allowance -= (size_t)wrote;
            tell(p);
        }
    }
    return true;
}

static short wanted(const direction *in, const direction *out, size_t out_allowance)
{
    short events = 0;
    if (in->start == in->end) events |= POLLIN;
    if (out->start < out->end && out_allowance > 0 && clock_now_ms() >= out->due_ms)
        events |= POLLOUT;
    return events;
}

/* What may go to the diallers now. */
static void allow(tcp_proxy *p)
{
    uint32_t rate = atomic_load(&p->bytes_per_second);
    uint64_t now_ms = clock_now_ms();
    if (rate == 0) {
        p->allowance = SIZE_MAX;
    } else {
        if (p->allowance > rate) p->allowance = 0;
        p->allowance += (size_t)((now_ms - p->allowed_ms) * rate / 1000);
        if (p->allowance == 0) return; /* the time goes on counting */
        if (p->allowance > rate) p->allowance = rate;
    }
    p->allowed_ms = now_ms;
}

/* False: stop. */
static bool obey(tcp_proxy *p)
{
    char command;
    CHECK(read(p->commands[0], &command, 1) == 1);
    if (command == HOLD) p->held = true;
    if (command == RELEASE) p->held = false;
    while ((command == CUT || command == HOLD || command == STOP) && p->count > 0)
        remove_pair(p, p->count - 1);
    CHECK(write(p->done[1], "d", 1) == 1);
    return command != STOP;
}

static void *run(void *ctx)
{
    tcp_proxy *p = ctx;
    for (;;) {
        struct pollfd fds[1 + FAMILIES + 2 * PAIRS_MAX];
        struct pollfd *at_listeners = fds + 1, *at_pairs = at_listeners + p->listener_count;
        size_t pairs = p->count, no_limit = SIZE_MAX;
        allow(p);
        fds[0] = (struct pollfd){.fd = p->commands[0], .events = POLLIN};
        for (size_t i = 0; i < p->listener_count; i++)
            at_listeners[i] = (struct pollfd){.fd = p->listeners[i], .events = POLLIN};
        for (size_t i = 0; i < pairs; i++) {
            const pair *q = &p->pairs[i];
            at_pairs[2 * i] = (struct pollfd){.fd = q->there.from,
                                              .events = wanted(&q->there, &q->back, p->allowance)};
            at_pairs[2 * i + 1] = (struct pollfd){.fd = q->back.from,
                                                  .events = wanted(&q->back, &q->there, no_limit)};
        }
        int wait_ms = p->allowance == SIZE_MAX ? -1 : THROTTLE_MS;
        if (atomic_load(&p->delay_ms) > 0) wait_ms = LATE_MS;
        poll(fds, 1 + p->listener_count + 2 * pairs, wait_ms);
        for (size_t i = pairs; i-- > 0;) {
            short near_events = at_pairs[2 * i].revents, far_events = at_pairs[2 * i + 1].revents;
            if (!move_bytes(p, &p->pairs[i].there, near_events, far_events, &no_limit) ||
                !move_bytes(p, &p->pairs[i].back, far_events, near_events, &p->allowance))
                remove_pair(p, i);
        }
        for (size_t i = 0; i < p->listener_count; i++)
            if (at_listeners[i].revents != 0) accept_one(p, p->listeners[i]);
        if (fds[0].revents != 0 && !obey(p)) return NULL;
    }
}

tcp_proxy *tcp_proxy_start(uint16_t to_port)
{
    tcp_proxy *p = mem_calloc(1, sizeof *p);
    p->to_port = to_port;
    p->event = -1;
    listen_at(p);
    CHECK(pipe2(p->commands, O_CLOEXEC) == 0 && pipe2(p->done, O_CLOEXEC) == 0);
    CHECK(pthread_create(&p->thread, NULL, run, p) == 0);
    return p;
}

void tcp_proxy_lead_to(tcp_proxy *p, const char *address)
{
    CHECK(inet_pton(AF_INET, address, &p->to_address) == 1);
}

uint16_t tcp_proxy_port(const tcp_proxy *p)
{
    return p->port;
}

static void command(tcp_proxy *p, enum command what)
{
    char byte = (char)what;
    CHECK(write(p->commands[1], &byte, 1) == 1);
    CHECK(read(p->done[0], &byte, 1) == 1);
}

void tcp_proxy_cut(tcp_proxy *p)
{
    command(p, CUT);
}

void tcp_proxy_hold(tcp_proxy *p)
{
    command(p, HOLD);
}

void tcp_proxy_release(tcp_proxy *p)
{
    command(p, RELEASE);
}

void tcp_proxy_worsen(tcp_proxy *p, uint32_t delay_ms, uint32_t loss)
{
    atomic_store(&p->delay_ms, delay_ms);
    atomic_store(&p->loss, loss);
    command(p, WAKE);
}

void tcp_proxy_throttle(tcp_proxy *p, uint32_t bytes_per_second)
{
    atomic_store(&p->bytes_per_second, bytes_per_second);
    command(p, WAKE);
}

void tcp_proxy_tell(tcp_proxy *p, int event)
{
    atomic_store(&p->event, event);
}

uint32_t tcp_proxy_connections(const tcp_proxy *p)
{
    return atomic_load(&p->connections);
}

void tcp_proxy_stop(tcp_proxy *p)
{
    if (p == NULL) return;
    command(p, STOP);
    pthread_join(p->thread, NULL);
    for (size_t i = 0; i < p->listener_count; i++)
        close(p->listeners[i]);
    close(p->commands[0]);
    close(p->commands[1]);
    close(p->done[0]);
    close(p->done[1]);
    mem_free(p);
}
