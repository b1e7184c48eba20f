/* A queue with its tenants, and requests that are known by small numbers. */
#ifndef GAGGLE_TESTS_QUEUE_FIXTURE_H
#define GAGGLE_TESTS_QUEUE_FIXTURE_H

#include "router/queue.h"
#include "router/request.h"

enum { FIXTURE_REQUESTS = 2048, NOBODY = -1 };

typedef struct queue_fixture {
    tenant_table *tenants;
    queue *queue;
    uint64_t now_ms;
    request requests[FIXTURE_REQUESTS]; /* a request's `number` is its place here */
    queue_place places[FIXTURE_REQUESTS];
    queue_ask asks[FIXTURE_REQUESTS];
} queue_fixture;

extern queue_fixture fx;

void fixture_open(const queue_sum *limits); /* NULL: as good as none */
void fixture_close(void);
int fixture_setup(void **state); /* fixture_open(NULL) */
int fixture_teardown(void **state);

text_view model_name(uint32_t number);                  /* "m0", "m1", ... */
void set_tenant(uint32_t tenant, tenant_limits limits); /* weight 0: the default */

/* Put a request that is not known yet into the queue; returns its number. */
int push(queue_ask ask);
void push_back(int number, uint32_t tokens); /* from a lost worker */
int head(void);                              /* its number, or NOBODY */
int take(void);                              /* the head, or NOBODY */
void settle(int number, uint32_t actual);    /* it is unknown after that */
void remove_waiting(int number);

/* Take the head, end it at the cost that was expected, and put the same again. Returns its number,
 * of which fx.asks is still good until the next push. */
int take_and_repeat(void);
/* The same so many times: how many of them were of each tenant. */
void count_next(int dispatches, uint32_t *of, uint32_t tenants);

#endif
