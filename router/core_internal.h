/* core_internal: what the files of the router's core share. core.c owns the objects and the time;
 * core_requests.c moves one request; core_clients.c hears clients; core_workers.c hears workers. */
#ifndef GAGGLE_ROUTER_CORE_INTERNAL_H
#define GAGGLE_ROUTER_CORE_INTERNAL_H

#include "proto/token_columns.h"
#include "router/core.h"
#include "router/metrics.h"
#include "router/placement.h"
#include "router/queue.h"
#include "router/request_table.h"
#include "router/worker_table.h"

struct core_link {
    void *handle;
    role role;
    uint32_t tenant, owner;
    id128 cache_salt; /* the tenant's */
    id128 instance;
    char *name;
    worker *worker;        /* a worker's link, once it registered */
    request *requests;     /* a client's open ones */
    uint32_t streams;      /* how many */
    token_columns columns; /* towards a client, until its link is idle */
    bool replaced;         /* by a newer link of the same process: nothing it says counts */
    core_link *previous, *next;
    core_link *next_dirty; /* in the list of links with something to flush */
    bool dirty;
};

/* A Resume for a request nobody knows yet: after a router restart its worker may be seconds away.
 */
typedef struct pending_resume {
    core_link *client;
    id128 request_id;
    uint32_t stream, next_wanted;
    uint64_t since_ms;
} pending_resume;

struct core {
    core_options options;
    core_io io;
    request_table *requests;
    worker_table workers;
    prefix_table *prefixes;
    placement_history history;
    tenant_table *tenants;
    queue *queue;
    breaker_book forgotten;
    core_metrics metrics;
    core_link *links;
    core_link *dirty;
    uint32_t client_count;
    uint32_t detached;      /* requests with a client_mark */
    buffer pending_resumes; /* of pending_resume */
    arena scratch;          /* for re-decoding a kept Submit */
    buffer encoded;
    uint64_t started_ms;
    uint64_t heard_ms; /* the caller's clock at the last event */
    uint64_t now_ms;   /* the same without the times in which this process stood still */
    uint64_t requests_total, tokens_total;
    uint64_t seed_state;
    uint64_t kept_bytes;       /* of Submits and ids */
    size_t submit_bytes_freed; /* since the heap was trimmed last */
    uint64_t trimmed_ms;
    bool draining;
    bool has_predecessor; /* somebody came with a request of a router before this one */
};

/* Actions. */
void core_send(core *c, const core_link *l, const envelope *e);
void core_send_error(core *c, const core_link *l, uint32_t stream, const error *why);
/* To its worker: again from r->acked, since a Resume acknowledges; repeats are dropped. */
void core_send_resume(core *c, request *r);
/* To its worker: end it and say so in a Finish, or drop it without a word. The worker says once
 * when what it held is free; `since_ms` is when it was decided to end it, 0: that is not asked. */
void core_send_cancel(core *c, const request *r); /* with r->ending, of r->since_ms */
void core_send_forget(core *c, const request *r, uint64_t since_ms);
void core_forward_ack(core *c, request *r); /* r->acked, when its worker is up and idle */
void core_refuse(core *c, const core_link *l, uint32_t stream, status code, const char *text);
/* A peer broke the rules of the conversation: it is told, and let go. */
void core_reject_link(core *c, const core_link *l, const char *what);
void core_mark_dirty(core *c, core_link *l); /* it has something for core_flush() */
void core_flush_client(core *c, core_link *l);

/* Requests. */
bool request_worker_is_up(const request *r);
bool request_holds_slot(const request *r); /* counts against its worker's slots */
/* Nothing the worker says about it is heard any more. `outcome` for its breaker, unless it was
 * settled before. */
void core_leave_worker(core *c, request *r, breaker_outcome outcome);
/* Its worker is through with it: the tenant's charge is put right, the breaker hears of it. */
void core_settle(core *c, request *r, uint32_t tokens, breaker_outcome outcome);
uint32_t request_tokens_so_far(const request *r); /* that it cost its worker */
void core_worker_has_room(core *c, const worker *w);
/* Into the queue; `again`: it comes back from a worker. */
void core_enqueue(core *c, request *r, bool again);
uint64_t core_worker_hash(const char *id); /* for `forgotten` */
/* ST_OUT_OF_RANGE: it would not fit a message any more when sent on; nothing is kept. */
MUST_USE status core_keep_submit(core *c, request *r, const msg_submit *submit, error *err);
void core_forget_submit(core *c, request *r);
void core_attach_client(core *c, request *r, core_link *l, uint32_t stream);
void core_detach_client(core *c, request *r);
/* A client's process, not 0. Another one may have the same mark: what is dropped for that is asked
 * for again, and goes on. */
uint32_t core_client_mark(const core_link *l);
void core_done(core *c, request *r);
/* It ended, however often that is said. */
void core_note_end(core *c, request *r, metrics_outcome outcome, const msg_finish *finish);
static inline request_meter *core_meter(request *r)
{
    return r->submit != NULL ? &r->submit->meter : NULL;
}
/* Nobody wants it any more, at its worker either. */
void core_drop(core *c, request *r);
/* The router itself ends it. A client that is away finds the error when it comes back. */
void core_end(core *c, request *r, status code, uint32_t retry_after_ms, const char *text);
/* End it by its worker, whose Finish follows; without one, at once: with a Finish where the client
 * has a part of the answer, else with this code and sentence. */
void core_cancel(core *c, request *r, finish_reason finish, status code, const char *sentence);
/* The router itself finishes it behind r->next, for the reason r->ending; its worker is gone, or
 * does not answer. */
void core_finish(core *c, request *r);
/* Another worker goes on with it behind r->next. */
void core_continue(core *c, request *r);
/* Place what waits, as far as there is room. */
void core_dispatch(core *c);

/* Clients: core_clients.c. */
void core_client_envelope(core *c, core_link *l, const envelope *e);
void core_answer_pending_resumes(core *c);
void core_forget_pending_resumes(core *c, const core_link *l);

/* Workers: core_workers.c. */
void core_worker_envelope(core *c, core_link *l, const envelope *e);
void core_worker_link_lost(core *c, worker *w);
/* It drained, and its link is lost because it is gone: nothing waits for it to come back. */
void core_worker_gone(core *c, worker *w);
/* An admin wants it to end: say so, again where the word may be lost. */
void core_send_drain(core *c, worker *w);
/* Its worker is gone for good, or came back without it. */
void core_lose_worker(core *c, request *r);
/* Everything goes elsewhere: the worker is about to end. */
void core_hand_over(core *c, worker *w);

#endif
