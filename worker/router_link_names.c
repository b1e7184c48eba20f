/* router_link_names: which routers there are.
 *
 * A URL is one router, until the name in it stands for several addresses: then each of these is
 * one, and stays one until the name no longer stands for it and its link is gone. Names are asked
 * for on the loop's thread pool. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "worker/router_link_internal.h"

enum { HOST_BYTES_MAX = 253, ADDRESS_URL_BYTES = 512 };

struct router_name {
    uv_getaddrinfo_t request;
    router_link *link;
    uint32_t number;
    char *url;
    char host[HOST_BYTES_MAX + 1]; /* "" = nothing to look up */
    size_t host_at;                /* in url */
    bool is_resolving;
};

/* The host of a tcp or tls+tcp URL, unless it is an address already. */
static void find_host(router_name *n)
{
    const char *scheme_end = strstr(n->url, "://");
    if (scheme_end == NULL) return;
    size_t scheme_size = (size_t)(scheme_end - n->url);
    if (strncmp(n->url, "tcp", scheme_size) != 0 && strncmp(n->url, "tls+tcp", scheme_size) != 0)
        return;
    const char *host = scheme_end + 3;
    size_t size = strcspn(host, ":/[");
    if (size == 0 || size > HOST_BYTES_MAX || host[size] != ':') return;
    memcpy(n->host, host, size);
    n->host_at = (size_t)(host - n->url);
    struct in_addr address;
    if (inet_pton(AF_INET, n->host, &address) == 1) n->host[0] = '\0';
}

/* The URL with an address in the name's place; false: it would be too long. */
static bool address_url(char out[ADDRESS_URL_BYTES], const router_name *n,
                        const struct addrinfo *found)
{
    char address[INET6_ADDRSTRLEN];
    bool is_v6 = found->ai_family == AF_INET6;
    int rv = is_v6 ? uv_ip6_name((const struct sockaddr_in6 *)(const void *)found->ai_addr, address,
                                 sizeof address)
                   : uv_ip4_name((const struct sockaddr_in *)(const void *)found->ai_addr, address,
                                 sizeof address);
    if (rv != 0) return false;
    int size =
        snprintf(out, ADDRESS_URL_BYTES, "%.*s%s%s%s%s", (int)n->host_at, n->url, is_v6 ? "[" : "",
                 address, is_v6 ? "]" : "", n->url + n->host_at + strlen(n->host));
    return size > 0 && size < ADDRESS_URL_BYTES;
}

static router_peer *find_peer(const router_link *l, const char *url)
{
    for (uint32_t i = 0; i < l->peer_count; i++)
        if (strcmp(l->peers[i]->url, url) == 0) return l->peers[i];
    return NULL;
}

static void list_address(router_link *l, const router_name *n, const char *url)
{
    router_peer *p = find_peer(l, url);
    error err;
    if (p != NULL)
        p->is_listed = true;
    else if (peers_add(l, url, n->host, n->number, &err) == ST_OK)
        log_info("router=%s is one of %s", url, n->host);
    else
        log_warn("router=%s is left out reason=\"%s\"", url, err.text);
}

/* What the name does not stand for any more goes once its link is gone; a link that is up knows
 * better. */
static void drop_unlisted(router_link *l, uint32_t name)
{
    for (uint32_t i = l->peer_count; i-- > 0;) {
        router_peer *p = l->peers[i];
        if (p->name != name || p->is_listed || p->is_leaving) continue;
        if (p->session == NULL || !session_is_up(p->session)) peers_remove(l, p);
    }
}

static void take_addresses(router_link *l, const router_name *n, const struct addrinfo *found)
{
    uint32_t count = 0;
    char url[ADDRESS_URL_BYTES];
    for (const struct addrinfo *a = found; a != NULL; a = a->ai_next)
        count += address_url(url, n, a);
    bool by_address = find_peer(l, n->url) == NULL;
    if (count == 0 || (count == 1 && !by_address)) return;
    for (uint32_t i = 0; i < l->peer_count; i++)
        if (l->peers[i]->name == n->number) l->peers[i]->is_listed = false;
    for (const struct addrinfo *a = found; a != NULL; a = a->ai_next)
        if (address_url(url, n, a)) list_address(l, n, url);
    router_peer *whole = find_peer(l, n->url);
    if (whole != NULL && !whole->is_leaving) peers_remove(l, whole);
    drop_unlisted(l, n->number);
}

static void on_resolved(uv_getaddrinfo_t *request, int rv, struct addrinfo *found)
{
    router_name *n = request->data;
    router_link *l = n->link;
    n->is_resolving = false;
    l->resolving--;
    if (rv == 0 && !l->closing) take_addresses(l, n, found);
    uv_freeaddrinfo(found);
    router_link_finish_closing(l);
}

static void resolve(router_link *l, router_name *n)
{
    if (n->host[0] == '\0' || n->is_resolving) return;
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    n->request.data = n;
    if (uv_getaddrinfo(l->loop, &n->request, on_resolved, n->host, NULL, &hints) != 0) return;
    n->is_resolving = true;
    l->resolving++;
}

void names_tick(router_link *l)
{
    uint64_t now_ms = clock_now_ms();
    if (l->closing || now_ms < l->resolve_at_ms) return;
    l->resolve_at_ms = now_ms + LIMIT_RESOLVE_INTERVAL_MS;
    for (uint32_t i = 0; i < l->name_count; i++)
        resolve(l, &l->names[i]);
}

status names_start(router_link *l, error *err)
{
    const session_dial_options *dial = &l->options.dial;
    l->name_count = (uint32_t)dial->url_count;
    l->names = mem_calloc(l->name_count, sizeof *l->names);
    for (uint32_t i = 0; i < l->name_count; i++) {
        router_name *n = &l->names[i];
        n->link = l;
        n->number = i;
        n->url = mem_strdup(dial->urls[i]);
        find_host(n);
        status st = find_peer(l, n->url) == NULL ? peers_add(l, n->url, NULL, i, err) : ST_OK;
        if (st != ST_OK) return st;
    }
    names_tick(l);
    return ST_OK;
}

void names_destroy(router_link *l)
{
    for (uint32_t i = 0; i < l->name_count; i++)
        mem_free(l->names[i].url);
    mem_free(l->names);
}
