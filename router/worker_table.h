/* worker_table: what each worker last told us, and what we have placed on it.
 *
 * A worker is known by its worker_id from its Register on. When its link drops it stays for the
 * worker grace (link NULL), so that a short cut loses nothing. Stream numbers on a worker's link
 * are given out here: a slot in the low bits, above it a number that each opening counts up, so
 * that a late message for an old stream never meets a new one. Loop thread. */
#ifndef GAGGLE_ROUTER_WORKER_TABLE_H
#define GAGGLE_ROUTER_WORKER_TABLE_H

#include "router/breaker.h"
#include "router/request.h"
#include "router/work_ledger.h"

typedef struct worker_model {
    char *name, *revision;
    uint32_t context_max;
    uint32_t numerics; /* equal and not 0: equal bits */
} worker_model;

typedef struct worker {
    char *id, *device;
    id128 instance;
    struct core_link *link; /* NULL: away since gone_ms */
    uint64_t gone_ms;
    worker_model *models;
    size_t model_count;
    uint32_t slots, kv_blocks;
    msg_load load;
    bool draining;
    bool told_to_drain; /* by an admin, through us; so long may what it runs go on, 0 = any time: */
    uint32_t drain_limit_ms;
    breaker breaker;
    bool death_counted;     /* since it came: by the breaker */
    uint64_t lease_end_ms;  /* it will be gone then; 0 = no such end is known */
    uint64_t leave_ms;      /* what still runs then goes elsewhere; 0 = never */
    uint32_t prefix_holder; /* its number in the prefix_table */
    work_ledger work;
    uint32_t streams; /* requests placed here and not finished */

    request **stream_slots; /* [slot_count <= LIMIT_STREAMS_PER_LINK] */
    uint16_t *free_slots;   /* a stack */
    uint32_t slot_count, free_count;
    uint32_t generation; /* of the stream opened last */

    buffer ack_stream, ack_next; /* uint32_t columns that wait for the link to be idle */
} worker;

typedef struct worker_table {
    worker **all;
    size_t count, capacity;
} worker_table; /* {0} is empty */

worker *worker_table_find(const worker_table *t, text_view id);

/* A worker says what it is: the first time, or again. Returns NULL when LIMIT_WORKERS are known. */
worker *worker_table_register(worker_table *t, const msg_register *said);

/* Forget it. Nothing is placed there any more. */
void worker_table_remove(worker_table *t, worker *w);
void worker_table_free(worker_table *t);

/* Does it offer `model`? Else NULL. */
const worker_model *worker_find_model(const worker *w, text_view model);

/* Give the request a number on this worker's link (worker_stream); false when
 * LIMIT_STREAMS_PER_LINK are in use. */
bool worker_open_stream(worker *w, request *r);
/* The request behind a number the worker used, or NULL for one that is over. */
request *worker_find_stream(const worker *w, uint32_t stream);
/* It will be asked for soon. */
void worker_prefetch_stream(const worker *w, uint32_t stream);
void worker_close_stream(worker *w, request *r); /* its worker_stream is 0 again */

#endif
