/* request: one answer on its way, from admission to the client's last acknowledgement.
 *
 *        submit                dispatch               worker's Finish          client acked all
 *   ---> QUEUED ------------> RUNNING ------------------> FINISHED -----------------> DONE
 *          ^                   |  |  cancel, deadline,      |  ^
 *          +-- worker lost ----+  |  stall                  |  |
 *              before any token   +-----> ENDING -----------|--+
 *                                                           +--> RUNNING: the client came back
 *                                                                and wants tokens again
 *
 * What the router ends itself is DONE at once, or FINISHED with a `failure` until its client is
 * back to hear it; that holds for QUEUED, too.
 *
 * The client and the worker of a request may each be away for their grace: `client` is NULL, or the
 * worker has no link. Nothing else changes meanwhile: the worker keeps what is not acknowledged.
 *
 * `next` is the index that goes to the client next. Tokens below it are repeats and dropped; a gap
 * asks the worker to send again from `next` (`rewinding` says that this is under way).
 *
 * Owned by the request_table. Loop thread. */
#ifndef GAGGLE_ROUTER_REQUEST_H
#define GAGGLE_ROUTER_REQUEST_H

#include <stddef.h>

#include "router/metrics.h"
#include "router/prefix_chain.h"
#include "router/prefix_table.h"
#include "router/queue.h"
#include "router/work_ledger.h"

typedef enum request_state {
    REQUEST_QUEUED,
    REQUEST_RUNNING,
    REQUEST_ENDING,
    REQUEST_FINISHED,
    REQUEST_DONE,
} request_state;

struct core_link;
struct worker;

/* What it takes to send a request, again when its worker is lost: the encoded Submit with the
 * model's name behind it, the ids relayed since, and its place in the queue. */
typedef struct kept_submit {
    queue_place place; /* in the queue, or who is charged */
    request_meter meter;
    uint32_t *ids; /* [request.next - prior_count] */
    uint32_t id_capacity;
    uint32_t prior_count; /* ids of the answer that the client's Submit brought */
    uint32_t base;        /* token index from which on its worker holds the answer */
    uint32_t numerics;    /* of the worker that ran it last; 0 = none did, or unknown */
    /* What stands above is touched for each token, and fits one cache line. */
    prefix_chain *prompt;
    prefix_belief cached;   /* of its prompt, by its worker */
    uint16_t continuations; /* how often another worker went on with it */
    uint16_t losses;        /* how often its worker was lost */
    bool approximate;       /* workers of different numerics made parts of it */
    int32_t priority;
    uint32_t cost;           /* tokens, probably */
    uint32_t prefill_tokens; /* that its worker has to read */
    uint32_t max_tokens;     /* Submit's */
    uint32_t size, model_size;
    uint8_t bytes[];
} kept_submit;
_Static_assert(offsetof(kept_submit, prompt) <= 64, "relaying touches one line of it");

/* Small, since a router holds tens of thousands. */
typedef struct request {
    id128 id;
    struct core_link *client; /* NULL: away since client_gone_ms */
    struct request *client_next;
    union {
        struct request *client_previous; /* in the client's list */
        uint64_t client_gone_ms;
    };
    struct worker *worker; /* NULL while QUEUED, for answers the router ended itself, and when
                              FINISHED for those whose worker is gone */
    kept_submit *submit;   /* NULL: adopted from a worker after a router restart */
    error *failure;        /* an Error owed to a client that is away */
    uint64_t since_ms;     /* of the last progress: entered the state, relayed, acknowledged */
    uint64_t deadline_ms;  /* absolute; 0 = none */
    uint32_t number;       /* in the table; of a free one, the next free one */
    union {
        uint32_t client_stream;
        uint32_t client_mark; /* away: of the process it was (core_client_mark()); 0 = not known */
    };
    uint32_t worker_stream; /* 0: its worker is away */
    uint32_t next;          /* token index; the total when FINISHED */
    uint32_t acked;         /* token index */
    work_charge charge;     /* what its worker's ledger still has of it */
    uint32_t tenant;        /* whose API token; TENANT_UNKNOWN after a router restart */
    uint32_t owner;         /* the tenant, as all routers call it; 0 = anybody */
    uint8_t state;          /* request_state */
    bool rewinding;
    bool counted;   /* in the metrics, as ended */
    uint8_t ending; /* finish_reason: what the Cancel said; 0 = the worker ends it */
} request;
_Static_assert(sizeof(request) <= 120, "a stream costs the router little memory");

/* Free `submit`, if there is one. */
void request_forget_submit(request *r);

const char *request_state_name(request_state state);

/* The only place where the state changes: checks that the step is allowed, stamps the time and
 * writes a debug line with the id. */
void request_set_state(request *r, request_state next, uint64_t now_ms);

#endif
