/* router_link_internal: shared by router_link.c (the session with the router, start and end) and
 * router_link_streams.c (the answers: made, held, sent, acknowledged). Loop thread. */
#ifndef GAGGLE_WORKER_ROUTER_LINK_INTERNAL_H
#define GAGGLE_WORKER_ROUTER_LINK_INTERNAL_H

#include "proto/token_columns.h"
#include "worker/engine/key_map.h"
#include "worker/router_link.h"

typedef struct stream stream;

struct router_link {
    uv_loop_t *loop;
    uv_async_t outputs_ready;
    uv_timer_t timer; /* Load, and the end of a drain */
    session_hub *hub;
    session *session;
    engine_thread *engine;
    router_link_options options;
    router_link_events events;
    char *worker_id, *model_name, *device, *revision, *numerics;

    stream **streams;
    uint32_t stream_count;
    key_map *by_key, *by_number;
    uint64_t next_key;
    id128 router;       /* the process we are, or were last, connected to */
    uint32_t preparing; /* on the thread pool, forgotten ones included */
    token_columns columns;
    uint64_t down_since_ms; /* 0 while the link is up */
    uint64_t lease_end_ms;  /* 0 = none */
    uint64_t drain_deadline_ms;
    uint32_t drain_limit_ms; /* UINT32_MAX = none */
    bool draining, closing, hub_closed;
    error why; /* of the end */
};

/* -- router_link.c ---------------------------------------------------------------------- */

/* A request left the thread pool: if nothing else is left, the link is closed now. */
void router_link_finish_closing(router_link *l);

/* -- router_link_streams.c --------------------------------------------------------------- */

void streams_create(router_link *l);
void streams_destroy(router_link *l);

/* What the router says. */
void streams_submit(router_link *l, const msg_submit *submit);
void streams_refuse(router_link *l, const msg_submit *submit, status code, const char *text);
void streams_acknowledge(router_link *l, const msg_ack *ack);
void streams_cancel(router_link *l, const msg_cancel *cancel);
void streams_resume(router_link *l, const msg_resume *resume);
void streams_adopt(router_link *l, const msg_adopt *adopt);

/* What the engine made goes into the columns, as far as it may. */
void streams_take(router_link *l, const engine_batch *batch);
/* The columns go onto the link, which is up. */
void streams_flush(router_link *l);

/* What Register says of them, [stream_count], in `scratch`. */
msg_live *streams_live(const router_link *l, arena *scratch);
/* None has a number any more; what was in the columns will be sent again. */
void streams_link_down(router_link *l);
void streams_forget_all(router_link *l);

#endif
