/* router_link: the worker's side of the wire, joined to the engine thread.
 *
 * On the loop thread: hears the routers (Submit, Ack, Cancel, Resume, Adopt), prepares requests on
 * the loop's thread pool (request_prepare.h), hands them to the engine thread, and holds every
 * answer until it is acknowledged (held_stream.h). Links, routers and clients may come and go: the
 * answers stay. After every connect it registers with what it holds.
 *
 * Several routers: every URL is dialled, and of a tcp or tls+tcp name every address, asked for
 * again each LIMIT_RESOLVE_INTERVAL_MS (ws and wss names are left whole: a proxy may go by them).
 * One engine and one set of streams serve them all. Routers know nothing of each other, so this is
 * where it is decided whose a stream is:
 *
 *   1. A stream is on at most one link, and has its number there. Its tokens and its Finish go to
 *      that link alone, and only that link's Ack, Resume and Cancel move it.
 *   2. It goes to the link whose router asked for it last with a client: by Submit, or by an Adopt
 *      that says from where. What it was acknowledged stays acknowledged; if the newer wants
 *      tokens that are gone, the answer is made again from there.
 *   3. An Adopt on HOLD means that a router knows it and has no client for it. It gets the stream
 *      only if no other link is sending it.
 *   4. The router that loses it so is told: Finish with FAILED and ABORTED, as long as its link is
 *      up. It must not place the request again by itself, or two routers would take it from each
 *      other for ever: it lets it go, and a client that is still there asks again.
 *   5. When a link is lost its streams are on none. They are named in every Register that follows,
 *      and in one more at once to another router that is connected. A stream that was on no link
 *      for LIMIT_ORPHAN_MS is forgotten.
 *   6. What moved away from a router is named to it when it is back, because it may be waiting for
 *      it; on HOLD rule 3 answers, so that it knows.
 *
 * So no token reaches a client twice or out of order whatever routers believe: the client counts,
 * and whichever router it is with sends from the index that it names.
 *
 * Two addresses may be one router. The second connection of a process replaces its first, so the
 * older of the two links is not dialled again while the newer is up.
 *
 * Where its lease ends a worker drains by itself, early enough to be done before (or, of a short
 * lease, from its half on). */
#ifndef GAGGLE_WORKER_ROUTER_LINK_H
#define GAGGLE_WORKER_ROUTER_LINK_H

#include "proto/session.h"
#include "worker/engine_thread.h"
#include "worker/request_prepare.h"

typedef struct router_link router_link;

typedef struct router_link_options {
    session_dial_options dial; /* all URLs are dialled; role, instance and name are filled in; what
                                  it points to, but for the URLs, outlives the link */
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
    /* A router knows us: the first time, and after every reconnect. */
    void (*on_registered)(void *ctx);
    /* Gone for good: stopped, refused by all routers, or the engine broke (`why` is not ST_OK). */
    void (*on_closed)(void *ctx, const error *why);
    void *ctx;
} router_link_events;

/* Start the engine thread, then dial every router. On failure *out is set where the loop must still
 * run until on_closed (or nothing is left to close), and router_link_destroy() is due all the same.
 */
MUST_USE status router_link_start(router_link **out, uv_loop_t *loop,
                                  const router_link_options *options,
                                  const router_link_events *events, error *err);

/* Take nothing new, finish what runs for at most `limit_ms` (UINT32_MAX: without a limit), then
 * close; on_closed follows. The routers take over in time what will not be finished. A second call
 * closes at once. */
void router_link_drain(router_link *l, uint32_t limit_ms);

/* How it is, for probes. */
typedef struct router_link_health {
    uint32_t routers, registered; /* known; of these, those that know us */
    uint32_t streams;
    uint32_t step_ms; /* so long the engine has been in its step; 0: it waits for work */
    bool draining;
} router_link_health;

router_link_health router_link_get_health(const router_link *l);

/* After on_closed and once the loop has ended: stops the engine thread. NULL is fine. */
void router_link_destroy(router_link *l);

#endif
