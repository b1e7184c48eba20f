/* Who connects to a ws or wss listener and never becomes a link.
 *
 * nng waits for ever for the rest of a TLS handshake or of an HTTP request, and shows such a
 * connection to nobody. But its descriptor is this process's, so it can be found: twice a second
 * each descriptor whose own port is that of a ws listener and whose other end is no link's is a
 * stranger, and one that stays a stranger for as long as a link may connect is shut down, which nng
 * takes for its end. Too many of them are shut down at once, the latest first.
 *
 * A descriptor may be closed by nng and be another's between the look and the blow. That one loses
 * a link, which is made again; nothing else is lost. */
#include <arpa/inet.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/link_internal.h"
#include "common/log.h"

enum { LOOK_MS = 500 };

static int compare_remotes(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(link_remote));
}

static int compare_by_age(const void *a, const void *b)
{
    const link_stranger *left = a, *right = b;
    return (left->since_ms > right->since_ms) - (left->since_ms < right->since_ms);
}

static link_remote remote_of(const void *address, size_t size, uint16_t port)
{
    link_remote remote = {.port = port};
    memcpy(remote.address, address, size);
    return remote;
}

link_remote link_stream_remote(nng_stream *stream)
{
    nng_sockaddr peer;
    if (nng_stream_get_addr(stream, NNG_OPT_REMADDR, &peer) == 0) {
        if (peer.s_family == NNG_AF_INET)
            return remote_of(&peer.s_in.sa_addr, sizeof peer.s_in.sa_addr, peer.s_in.sa_port);
        if (peer.s_family == NNG_AF_INET6)
            return remote_of(peer.s_in6.sa_addr, sizeof peer.s_in6.sa_addr, peer.s_in6.sa_port);
    }
    return (link_remote){0};
}

/* Of a socket of IPv4 or IPv6; false: it is none, or has no such end. */
static bool get_end(int fd, int (*get)(int, struct sockaddr *, socklen_t *), link_remote *out)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_storage room;
    } address;
    socklen_t size = sizeof address;
    if (get(fd, &address.any, &size) != 0) return false;
    if (address.any.sa_family == AF_INET)
        *out = remote_of(&address.in.sin_addr, 4, address.in.sin_port);
    else if (address.any.sa_family == AF_INET6)
        *out = remote_of(&address.in6.sin6_addr, 16, address.in6.sin6_port);
    else
        return false;
    return true;
}

static const link_listener *ws_listener_at(const link_hub *hub, uint16_t port)
{
    for (const link_listener *l = hub->listeners; l != NULL; l = l->next)
        if (l->scheme->framing == LINK_FRAMING_WS && !l->closed && htons(l->port) == port) return l;
    return NULL;
}

static bool has_ws_listener(const link_hub *hub)
{
    const link_listener *l = hub->listeners;
    while (l != NULL && (l->scheme->framing != LINK_FRAMING_WS || l->closed))
        l = l->next;
    return l != NULL;
}

/* The other ends of all ws links, sorted. */
static link_remote *known_remotes(const link_hub *hub, size_t *count)
{
    link_remote *known = mem_calloc(hub->link_count + 1, sizeof *known);
    *count = 0;
    for (const link_peer *l = hub->links; l != NULL; l = l->next)
        if (l->scheme->framing == LINK_FRAMING_WS && l->remote.port != 0)
            known[(*count)++] = l->remote;
    qsort(known, *count, sizeof *known, compare_remotes);
    return known;
}

/* When it was first seen; at most one look earlier than now. */
static uint64_t seen_since(const link_hub *hub, int fd, const link_remote *remote, uint64_t now_ms)
{
    for (size_t i = 0; i < hub->stranger_count; i++)
        if (hub->strangers[i].fd == fd && compare_remotes(&hub->strangers[i].remote, remote) == 0)
            return hub->strangers[i].since_ms;
    return now_ms - LOOK_MS;
}

static void look_at(const link_hub *hub, int fd, const link_remote *known, size_t known_count,
                    uint64_t now_ms, buffer *found)
{
    link_remote here, there;
    if (!get_end(fd, getsockname, &here)) return;
    const link_listener *listener = ws_listener_at(hub, here.port);
    if (listener == NULL || !get_end(fd, getpeername, &there)) return;
    if (bsearch(&there, known, known_count, sizeof there, compare_remotes) != NULL) return;
    const link_stranger s = {.fd = fd,
                             .remote = there,
                             .since_ms = seen_since(hub, fd, &there, now_ms),
                             .patience_ms = listener->limits.connect_ms};
    buffer_append(found, &s, sizeof s);
}

static void shut_down(const link_stranger *s, const char *why)
{
    shutdown(s->fd, SHUT_RDWR);
    log_debug("connection ended that was no link yet why=\"%s\"", why);
}

void link_strangers_tick(link_hub *hub, uint64_t now_ms)
{
    if (now_ms < hub->strangers_next_ms) return;
    hub->strangers_next_ms = now_ms + LOOK_MS;
    DIR *folder = has_ws_listener(hub) ? opendir("/proc/self/fd") : NULL;
    buffer found = {0};
    if (folder != NULL) {
        size_t known_count;
        link_remote *known = known_remotes(hub, &known_count);
        for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
            if (entry->d_name[0] != '.')
                look_at(hub, atoi(entry->d_name), known, known_count, now_ms, &found);
        closedir(folder);
        mem_free(known);
    }
    link_strangers_free(hub);
    hub->strangers = (link_stranger *)(void *)found.data;
    hub->stranger_count = found.size / sizeof *hub->strangers;
    if (hub->stranger_count == 0) return;
    qsort(hub->strangers, hub->stranger_count, sizeof *hub->strangers, compare_by_age);
    for (size_t i = 0; i < hub->stranger_count; i++) {
        const link_stranger *s = &hub->strangers[i];
        if (i >= LIMIT_UNAUTHENTICATED_LINKS)
            shut_down(s, "too many are not links yet");
        else if (now_ms + LOOK_MS > s->since_ms + s->patience_ms)
            shut_down(s, "it took too long");
    }
}

void link_strangers_free(link_hub *hub)
{
    mem_free(hub->strangers);
    hub->strangers = NULL;
    hub->stranger_count = 0;
}
