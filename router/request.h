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
 * The client and the worker of a request may each be away for their grace: `client` is NULL, or the
 * worker has no link. Nothing else changes meanwhile: the worker keeps what is not acknowledged.
 *
 * `next` is the index that goes to the client next. Tokens below it are repeats and dropped; a gap
 * asks the worker to send again from `next` (`rewinding` says that this is under way).
 *
 * Owned by the request_table. Loop thread. */
#ifndef GAGGLE_ROUTER_REQUEST_H
#define GAGGLE_ROUTER_REQUEST_H

#include "proto/envelope.h"

typedef enum request_state {
    REQUEST_QUEUED,
    REQUEST_RUNNING,
    REQUEST_ENDING,
    REQUEST_FINISHED,
    REQUEST_DONE,
} request_state;

struct core_link;
struct worker;

/* An encoded Submit with the model's name behind it. */
typedef struct kept_submit {
    uint32_t size, model_size;
    uint8_t bytes[];
} kept_submit;

typedef struct request {
    id128 id;
    struct core_link *client; /* NULL: away since client_gone_ms */
    struct worker *worker;    /* NULL while QUEUED, and for answers the router ended itself */
    kept_submit *submit;      /* until a token was relayed: it may be sent again */
    struct request *queue_previous, *queue_next; /* while QUEUED */
    error *failure;                              /* an Error owed to a client that is away */
    uint64_t since_ms; /* of the last progress: entered the state, relayed, acknowledged */
    uint64_t client_gone_ms;
    uint64_t deadline_ms; /* absolute; 0 = none */
    uint32_t table_index; /* place in the table's dense array */
    uint32_t client_stream;
    uint32_t worker_stream;
    uint32_t next;   /* token index */
    uint32_t acked;  /* token index */
    uint32_t first;  /* prior tokens: the answer's first index here */
    uint32_t total;  /* FINISHED: tokens in all */
    uint32_t cost;   /* outstanding tokens that the worker is charged for */
    uint32_t tenant; /* which API token it came with; TENANT_UNKNOWN after a router restart */
    int32_t priority;
    uint8_t state; /* request_state */
    bool rewinding;
} request;

#define TENANT_UNKNOWN UINT32_MAX

const char *request_state_name(request_state state);

/* The only place where the state changes: checks that the step is allowed, stamps the time and
 * writes a debug line with the id. */
void request_set_state(request *r, request_state next, uint64_t now_ms);

#endif
