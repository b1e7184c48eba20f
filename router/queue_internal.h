/* queue_internal: what queue.c, which orders, and queue_door.c, which refuses, share. */
#ifndef GAGGLE_ROUTER_QUEUE_INTERNAL_H
#define GAGGLE_ROUTER_QUEUE_INTERNAL_H

#include <stddef.h>

#include "router/fair_share.h"
#include "router/ordered_set.h"
#include "router/queue.h"

typedef struct entry_list {
    struct queue_entry *head, *tail;
} entry_list;

/* A request that waits. */
typedef struct queue_entry {
    ordered_node node; /* in its flow's entries, its lane's returned or its model's held */
    struct request *request;
    struct queue_flow *flow;
    struct queue_entry *previous, *next; /* in its lane */
    struct queue_entry *batch_previous, *batch_next;
    uint32_t tokens, bytes;
    bool again, is_held, is_parked;
} queue_entry;

/* A tenant in a class of a model. Exists while it has requests here, and after that as one of the
 * LIMIT_QUEUE_IDLE_FLOWS that went last. */
typedef struct queue_flow {
    ordered_node by_tenant; /* in its lane's flows */
    ordered_node ready;     /* in its lane's ready, or in the queue's parked */
    struct queue_lane *lane;
    ordered_set entries; /* by deadline and arrival; without those that came back or are held */
    fair_account account;
    struct queue_flow *idle_previous, *idle_next;
    uint32_t tenant, waiting, running;
    bool is_ready, is_parked, is_idle;
} queue_flow;

/* A class of a model. */
typedef struct queue_lane {
    struct queue_model *model;
    ordered_set flows;    /* by tenant */
    ordered_set ready;    /* by virtual time: those with entries, and not parked */
    ordered_set returned; /* from lost workers, in that order; these go first; not the parked */
    entry_list all;       /* that wait */
    fair_account account;
    fair_clock clock; /* of its flows */
    uint32_t waiting, running, flow_count;
    uint8_t class;
} queue_lane;

typedef struct queue_model {
    ordered_node ready; /* in the queue's ready */
    queue_lane lanes[QUEUE_CLASSES];
    fair_account account;
    fair_clock clock; /* of its lanes */
    uint64_t tokens;  /* of those that wait */
    uint32_t waiting, running;
    ordered_set held;
    bool is_ready, is_blocked;
    bool is_halted; /* blocked, or holds some back */
    struct queue_model *next_of_bucket;
    struct queue_model *halted_previous, *halted_next;
    uint64_t hash;
    size_t name_size;
    char name[];
} queue_model;

/* How fast those who wait leave, in tokens. */
typedef struct drain_meter {
    double tokens_per_ms; /* 0 = not known */
    uint64_t taken_ms;    /* the last one */
    uint64_t busy_ms;     /* since the rate was worked out, and with requests waiting */
    uint64_t busy_tokens;
    bool waited; /* did requests wait when it had been taken? */
    /* What requests were expected to cost and what they did, the older the less; 0 = none yet. */
    double expected, actual;
} drain_meter;

#define QUEUE_MODEL_BUCKETS 256u

struct queue {
    queue_sum limits;
    tenant_table *tenants;
    queue_sum waiting[QUEUE_CLASSES];
    uint32_t running;
    queue_entry *batch_youngest; /* of class batch and not returned, by arrival */
    queue_model *buckets[QUEUE_MODEL_BUCKETS];
    ordered_set ready; /* models by virtual time: those not blocked with somebody ready */
    fair_clock clock;  /* of the models */
    queue_model *halted;
    /* Of tenants that run as many as they may, by tenant: flows, and entries that came back. */
    ordered_set parked, parked_again;
    queue_flow *idle_oldest, *idle_youngest;
    uint32_t idle_count;
    uint64_t sequence; /* of arrivals and of places in `ready` */
    uint64_t random_state;
    drain_meter drain;
};

/* The struct that has `node` as its member. */
#define OWNER(type, member, node) ((type *)(void *)((char *)(node)-offsetof(type, member)))

extern const uint32_t queue_class_weights[QUEUE_CLASSES];

queue_class queue_class_of(const queue *q, const queue_ask *ask);
queue_model *queue_find_model(const queue *q, text_view model);
queue_flow *queue_find_flow(const queue_lane *lane, uint32_t tenant);

/* A request of `tokens` was taken. */
void queue_note_drain(queue *q, uint32_t tokens, uint64_t now_ms);
/* What one did cost. */
void queue_note_cost(queue *q, uint32_t expected, uint32_t actual);

#endif
