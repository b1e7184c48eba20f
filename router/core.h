/* core: the router without its sockets: events in, actions out.
 *
 * Holds every client, worker and request, and decides everything: who is admitted, where it runs,
 * what is relayed, what a lost link or a passed deadline means. It has no clock, no I/O and no
 * randomness of its own: the caller brings `now_ms`, a seed and `core_io`. main.c joins it to
 * sessions on a libuv loop; a simulator can join it to anything.
 *
 * The journey of a request through this file:
 *     on Submit    admit -> queue -> dispatch -> Submit to a worker
 *     on Tokens    relay: drop repeats, notice gaps, append to the client link's columns
 *     on Finish    flush the columns, Finish to the client, wait for its last Ack
 *     on Ack       forward; the last one frees the request
 *     on tick      deadlines, graces, stalls, workers that end
 *
 * A worker that is lost, or about to end, loses nothing: Submit and ids relayed so far are kept,
 * and another worker goes on behind them.
 *
 * Loop thread. Actions are called from within events, and must not call back into the core. */
#ifndef GAGGLE_ROUTER_CORE_H
#define GAGGLE_ROUTER_CORE_H

#include "proto/envelope.h"
#include "router/metrics.h"
#include "router/tenant_limits.h"

typedef struct core core;
typedef struct core_link core_link; /* one connected client or worker */

typedef struct core_io {
    /* Send to a link that is up. `handle` is what core_link_up() was given. */
    void (*send)(void *ctx, void *handle, const envelope *e);
    /* Has everything sent to it been taken by the network? */
    bool (*is_idle)(void *ctx, void *handle);
    /* Say Bye and close; core_link_down() follows later. */
    void (*close)(void *ctx, void *handle, const char *reason);
    /* Round trip, 0 = not known yet; NULL: never known. */
    uint32_t (*rtt_us)(void *ctx, void *handle);
    void *ctx;
} core_io;

typedef struct core_options {
    uint32_t queue_requests_max;
    uint64_t queue_bytes_max, queue_tokens_max;
    uint64_t kept_bytes_max;    /* Submits and ids of all open requests, so that they can go on */
    uint32_t client_grace_ms;   /* a client may be away so long before its requests are cancelled */
    uint32_t worker_grace_ms;   /* a worker may be away so long before its streams end */
    uint32_t stall_ms;          /* a stream without acknowledgement ends after so long */
    uint32_t continuations_max; /* workers that one answer may lose */
    uint64_t seed;              /* of hash tables and of requests that bring none */
} core_options;

core_options core_options_default(void);

core *core_create(const core_options *options, const core_io *io, uint64_t now_ms);
void core_destroy(core *c); /* no actions; NULL is fine */

/* Whose a client is. All zero: there are no tenants, and of workers. */
typedef struct core_tenant {
    uint32_t number;  /* tells clients with different keys apart at this router */
    uint32_t owner;   /* the same at all routers: a hash of the tenant's name */
    id128 cache_salt; /* cache_salt_of_tenant() */
} core_tenant;

/* A peer said Hello and was let in. */
core_link *core_link_up(core *c, void *handle, role what, const core_tenant *tenant,
                        const id128 *instance, const char *name, uint64_t now_ms);

/* What a tenant may take from now on; without it, all it wants. After the last of them,
 * core_tenants_changed(). */
void core_set_tenant(core *c, uint32_t tenant, const tenant_limits *limits, uint64_t now_ms);
void core_tenants_changed(core *c);

/* A validated envelope came. `refused` as in session.h: a Submit that broke a limit. */
void core_envelope(core *c, core_link *l, const envelope *e, const error *refused, uint64_t now_ms);

/* The link is gone; the pointer is dead after the call. `for_good`: the peer said Bye, so that a
 * client's requests are dropped, and a draining worker's go elsewhere, at once instead of after the
 * grace. */
void core_link_down(core *c, core_link *l, bool for_good, uint64_t now_ms);

/* Time passes: call at least every 100 ms. */
void core_tick(core *c, uint64_t now_ms);

/* Send the token and acknowledgement columns of every link that is idle: call at the end of each
 * turn of the loop, and when a link becomes idle. */
void core_flush(core *c);

/* No new requests from now on; those that run may end. */
void core_drain(core *c, const char *reason);

/* Other limits and times from now on; the seed stays. */
void core_set_options(core *c, const core_options *options);

/* How it is: what a Query is answered with. Valid until the next event. */
msg_report core_report(core *c);
const core_metrics *core_read_metrics(const core *c);

/* Requests not DONE. */
size_t core_request_count(const core *c);

/* Those of clients that are here: when draining, 0 means that nothing is left to wait for. Whose
 * client is away keeps its tokens at its worker, for the next router. */
size_t core_waited_for(const core *c);

/* Check what must hold between requests, links, workers and queue (CHECK). For tests. */
void core_verify(const core *c);

#endif
