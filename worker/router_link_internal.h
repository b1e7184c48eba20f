/* router_link_internal: shared by the files of router_link.h.
 *
 *   router_link.c          the worker's one timer and engine; start, lease, drain, end
 *   router_link_peers.c    a session with each router: Register, Load, who says what
 *   router_link_streams.c  the answers: made, held, sent, acknowledged; on which link
 *   router_link_names.c    which routers there are: URLs, and what names stand for
 *
 * Loop thread. */
#ifndef GAGGLE_WORKER_ROUTER_LINK_INTERNAL_H
#define GAGGLE_WORKER_ROUTER_LINK_INTERNAL_H

#include "proto/token_columns.h"
#include "worker/engine/key_map.h"
#include "worker/router_link.h"

typedef struct stream stream;
typedef struct router_name router_name;

/* A router, as far as we know: one address. */
typedef struct router_peer {
    router_link *link;
    char *url, *server_name; /* server_name NULL: the URL's host */
    uint32_t name;           /* the URL it came from; for router_link_names.c */
    bool is_listed;          /* the name still stands for it */
    bool is_leaving;         /* to be forgotten once its session is closed */
    bool is_refused;         /* for good */
    bool is_parked;          /* another link goes to the same process; see peers_redial() */
    bool is_registered;      /* Adopt came on this connection */
    bool is_missed;          /* it was said that it does not answer */
    session *session;        /* NULL: refused, or parked */
    id128 router;            /* the process we are, or were last, connected to */
    key_map *by_number;      /* its streams */
    token_columns columns;
} router_peer;

struct router_link {
    uv_loop_t *loop;
    uv_async_t outputs_ready;
    uv_timer_t timer; /* Load, names, orphans, and the end of a drain */
    session_hub *hub;
    engine_thread *engine;
    router_link_options options;
    router_link_events events;
    char *worker_id, *model_name, *device, *revision, *numerics;
    id128 instance;

    router_peer *peers[LIMIT_ROUTERS_PER_WORKER];
    uint32_t peer_count;
    router_name *names; /* [name_count] one a URL */
    uint32_t name_count;
    uint32_t resolving; /* names, at the moment */
    uint64_t resolve_at_ms;

    stream **streams;
    uint32_t stream_count;
    key_map *by_key;
    uint64_t next_key;
    uint32_t preparing; /* on the thread pool, forgotten ones included */
    key_map *freeing;   /* by key: forgotten streams that the engine has yet to let go */

    uint64_t lease_end_ms; /* 0 = none */
    uint64_t drain_deadline_ms;
    uint32_t drain_limit_ms; /* UINT32_MAX = none */
    bool draining, closing, hub_closed;
    error why; /* of the end */
};

/* -- router_link.c ---------------------------------------------------------------------- */

/* Everything ends; on_closed follows. */
void router_link_close(router_link *l, const char *reason);
/* Something that had to end before on_closed() has: if nothing else is left, it comes now. */
void router_link_finish_closing(router_link *l);
/* What is left of the lease; 0 where none ends. */
uint32_t router_link_lease_ms(const router_link *l);

/* -- router_link_peers.c ------------------------------------------------------------------ */

/* Dial one more router. Errors are session_dial()'s, or ST_RESOURCE_EXHAUSTED:
 * LIMIT_ROUTERS_PER_WORKER are known. */
MUST_USE status peers_add(router_link *l, const char *url, const char *server_name, uint32_t name,
                          error *err);
/* Not a router any more. */
void peers_remove(router_link *l, router_peer *p);
void peers_close(router_link *l, const char *reason);
void peers_destroy(router_link *l);
/* To each that is connected. */
void peers_send_load(router_link *l);
void peers_send_drain(router_link *l);
void peers_flush(router_link *l, bool only_idle);
/* Those that were left alone because they were a router that we had another link to. */
void peers_redial(router_link *l);

/* -- router_link_names.c ------------------------------------------------------------------ */

/* Make a peer of each URL. */
MUST_USE status names_start(router_link *l, error *err);
/* Look names up again, when it is time. */
void names_tick(router_link *l);
void names_destroy(router_link *l);

/* -- router_link_streams.c --------------------------------------------------------------- */

void streams_create(router_link *l);
void streams_destroy(router_link *l);

/* What a router says. */
void streams_submit(router_peer *p, const msg_submit *submit);
void streams_refuse(router_peer *p, const msg_submit *submit, status code, const char *text);
void streams_acknowledge(router_peer *p, const msg_ack *ack);
void streams_cancel(router_peer *p, const msg_cancel *cancel);
void streams_resume(router_peer *p, const msg_resume *resume);
void streams_adopt(router_peer *p, const msg_adopt *adopt);

/* What the engine made goes into the columns, as far as it may. */
void streams_take(router_link *l, const engine_batch *batch);
/* The columns go onto the link, which is up. */
void streams_flush(router_peer *p);

/* What Register says of them, *count of them in `scratch`: those on no link, and with `returned`
 * those that left this router and may be wanted back. */
msg_live *streams_live(const router_peer *p, bool returned, arena *scratch, size_t *count);
/* Its streams are on no link any more; what was in the columns will be sent again. */
void streams_link_down(router_peer *p);
/* Those that were on no link for too long. */
void streams_forget_orphans(router_link *l);

#endif
