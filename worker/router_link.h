/* router_link: the worker's side of the wire, joined to the engine thread.
 *
 * On the loop thread: hears the router (Submit, Ack, Cancel, Resume, Adopt), prepares requests on
 * the loop's thread pool (request_prepare.h), hands them to the engine thread, and holds every
 * answer until it is acknowledged (held_stream.h). Link, router and client may come and go: the
 * answers stay. After every connect it registers with what it holds.
 *
 * Where its lease ends it drains by itself, early enough to be done before (or, of a short lease,
 * from its half on). */
#ifndef GAGGLE_WORKER_ROUTER_LINK_H
#define GAGGLE_WORKER_ROUTER_LINK_H

#include "proto/session.h"
#include "worker/engine_thread.h"
#include "worker/request_prepare.h"

typedef struct router_link router_link;

typedef struct router_link_options {
    session_dial_options dial; /* role and instance are filled in */
    const char *worker_id;
    const char *model_name;
    const char *device;
    const char *revision;
    const char *numerics; /* backend.h's */
    uint32_t slots;
    uint32_t kv_blocks;
    uint32_t lease_ms;       /* this worker will be gone in so long; 0 = no such end is known */
    uint32_t drain_ms;       /* of that, answers may run so long once it has begun to end */
    request_context request; /* everything these two point to outlives the link */
    engine_thread_options engine; /* wake is filled in */
} router_link_options;

typedef struct router_link_events {
    /* The router knows us: the first time, and after every reconnect. */
    void (*on_registered)(void *ctx);
    /* Gone for good: stopped, refused, or the engine broke (`why` is not ST_OK). */
    void (*on_closed)(void *ctx, const error *why);
    void *ctx;
} router_link_events;

/* Start the engine thread, then dial. On failure *out is set where the loop must still run until
 * on_closed (or nothing is left to close), and router_link_destroy() is due all the same. */
MUST_USE status router_link_start(router_link **out, uv_loop_t *loop,
                                  const router_link_options *options,
                                  const router_link_events *events, error *err);

/* Take nothing new, finish what runs for at most `limit_ms` (UINT32_MAX: without a limit), then
 * close; on_closed follows. The router takes over in time what will not be finished. A second call
 * closes at once. */
void router_link_drain(router_link *l, uint32_t limit_ms);

/* After on_closed and once the loop has ended: stops the engine thread. NULL is fine. */
void router_link_destroy(router_link *l);

#endif
