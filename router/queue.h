/* queue: who waits, who is next, who is turned away, and when to come back.
 *
 * Four choices, one inside the other:
 *
 *   model     those that have room take turns
 *   class     by the sign of the priority: interactive, standard, batch; 16 : 4 : 1
 *   tenant    by the weights of their limits
 *   request   the earliest deadline, then the earliest arrival
 *
 * The first three are start-time fair queueing (fair_share.h): each model, class and tenant has a
 * virtual time, which each dispatch moves on by tokens / weight; the one furthest behind is next.
 * Tokens are what a request will probably cost, put right when it has ended. Who comes after a
 * pause, or was held up, starts at the present virtual time of those it competes with: nobody saves
 * up a share, and what one leaves goes to the others by their weights. Models are apart so that a
 * tenant or class waits only for those who want the same workers, and what it gets of one model
 * costs it nothing at another. Between models that share workers a token counts by its class.
 *
 * What follows, and is tested: nobody starves. Between two requests of a class, the first of which
 * cost c tokens, each other class gets at most its weight / this one's * c tokens and one request
 * more: 20,000 tokens and two requests of the others between a batch request of 1,000 and the next.
 * The first after a pause waits for one request of each. The same holds between the tenants of a
 * class, and between models.
 *
 * A request that comes back from a lost worker is never refused, and goes before all of its model
 * and class. Its tenant's concurrent limit counts it all the while, as one that runs.
 *
 * The caller looks at the head, and takes it, blocks its model or holds this one request back;
 * neither costs anything until something about the model's workers changes (queue_unblock). A
 * tenant whose concurrent limit is reached is passed over in the same way, until one of its
 * requests ends.
 *
 * Nothing that runs is called back: what a request costs its worker is its prefill, which would be
 * done twice, and with the classes' shares the urgent wait for the end of one request, not of the
 * queue. A full queue refuses the youngest batch requests that wait in favour of others.
 *
 * Everything is O(log n) in what waits: push, head, take and settle of a request cost 1.3 us
 * together with 4,096 waiting, 5 us with 65,536 of 4,096 tenants (one core of an EPYC); finding and
 * blocking a model without room costs 0.1 us. A request that waits takes 128 bytes besides its
 * queue_place, a tenant in a class of a model 184. No clock; loop thread. */
#ifndef GAGGLE_ROUTER_QUEUE_H
#define GAGGLE_ROUTER_QUEUE_H

#include "proto/envelope.h"
#include "router/tenant.h"

typedef struct queue queue;
struct request;

typedef enum queue_class { QUEUE_INTERACTIVE, QUEUE_STANDARD, QUEUE_BATCH } queue_class;
#define QUEUE_CLASSES 3

/* How a request stands with the queue; in the request, {0} until it is pushed, and after its end.
 */
typedef struct queue_place {
    union {
        struct queue_entry *entry; /* it waits */
        struct queue_flow *flow;   /* it runs: who is charged */
    };
    uint32_t charged; /* tokens, > 0 while it runs */
} queue_place;

typedef struct queue_ask {
    text_view model; /* or any name for what is placed alike: only equal names block each other */
    int32_t priority;
    uint32_t tenant;
    uint32_t tokens; /* probable cost, prompt and answer */
    uint32_t bytes;
    uint64_t deadline_ms; /* absolute; 0 = none */
    uint32_t service_ms;  /* it takes at least so long when it runs; 0 = not known */
    uint32_t rate;        /* real tokens/s that the model's workers get done; 0 = not known */
} queue_ask;

typedef struct queue_sum {
    uint32_t requests;
    uint64_t bytes, tokens;
} queue_sum;

/* `limits`: of all that wait. `tenants` must outlive the queue; the queue tells it of every request
 * that enters, starts, ends or leaves. `seed` shapes its trees. */
queue *queue_create(const queue_sum *limits, tenant_table *tenants, uint64_t seed);
void queue_destroy(queue *q); /* NULL is fine */
/* What waits already stays, be it more. */
void queue_set_limits(queue *q, const queue_sum *limits);

/* -- the door: queue_door.c ---------------------------------------------------------------- */

/* May one more come in?
 *
 * ST_RESOURCE_EXHAUSTED names the limit, of the queue or of the tenant, its value and when to come
 * back (never, when it would not even fit an empty queue). One class may not take the last
 * sixteenth of the queue from another. ST_DEADLINE_EXCEEDED: what is surely dispatched before it
 * takes too long. ST_OK with *displace > 0: after so many times queue_displaced() was refused. */
MUST_USE status queue_check(const queue *q, const queue_ask *ask, uint64_t now_ms,
                            uint32_t *displace, error *err);
/* The batch request that came last. */
struct request *queue_displaced(const queue *q);
/* For whoever is turned away now with a request of `tokens`. */
uint32_t queue_retry_ms(const queue *q, uint32_t tokens, uint64_t now_ms);

/* -- waiting: queue.c ---------------------------------------------------------------------- */

/* It passed queue_check(), or comes back from a lost worker (`again`). */
void queue_push(queue *q, struct request *r, queue_place *p, const queue_ask *ask, bool again,
                uint64_t now_ms);

/* Who is next, among those whose model is not blocked and whose tenant may run more; or NULL.
 * Follow it by queue_take(), queue_block() or queue_hold(). */
struct request *queue_head(queue *q);
/* It is sent to a worker: charge it. */
void queue_take(queue *q, queue_place *p, uint64_t now_ms);
/* Nothing of its model can be sent now. */
void queue_block(queue *q, const queue_place *p);
/* It can not, but others of its model may be: it keeps its place and is passed over. */
void queue_hold(queue *q, const queue_place *p);
/* Something of the model's workers changed (one has room, came, is well again), or of all: what was
 * blocked or held is looked at again. */
void queue_unblock(queue *q, text_view model);
void queue_unblock_all(queue *q);
/* Tenants got other limits. */
void queue_limits_changed(queue *q);

/* It ends without having been sent. */
void queue_remove(queue *q, queue_place *p, uint64_t now_ms);
/* It has ended, or was lost with its worker and may be pushed again: it did cost `actual` tokens,
 * with the part of its prompt that a worker had to read. A worker's word, so that more than
 * LIMIT_CONTEXT_TOKENS is not believed. Without effect on a place of {0}. */
void queue_settle(queue *q, queue_place *p, uint32_t actual, uint64_t now_ms);

/* Any of the model that waits, blocked or not, or NULL. */
struct request *queue_any(const queue *q, text_view model);

queue_sum queue_waiting(const queue *q); /* of all classes */
queue_sum queue_waiting_class(const queue *q, queue_class class);

/* Check what must hold between the parts (CHECK). For tests. */
void queue_verify(const queue *q);

#endif
