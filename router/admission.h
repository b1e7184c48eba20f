/* admission: who waits, in what order, and when to come back.
 *
 * One bounded queue: higher priority first, then in order of arrival. Full is an ordinary answer,
 * with a retry time from the rate at which requests have been leaving. Loop thread. */
#ifndef GAGGLE_ROUTER_ADMISSION_H
#define GAGGLE_ROUTER_ADMISSION_H

#include "router/request.h"

typedef struct admission {
    request *head, *tail;
    uint32_t count;
    uint32_t requests_max;
    uint64_t bytes; /* of the Submits that wait */
    uint64_t bytes_max;
    double finish_interval_ms; /* moving average between two ends; 0 = not known */
    uint64_t finished_ms;      /* of the last end */
    bool waited;               /* did requests wait at the last end? */
} admission;

void admission_init(admission *a, uint32_t requests_max, uint64_t bytes_max);

/* Room for one more of `bytes`? ST_RESOURCE_EXHAUSTED names the limit and when to come back;
 * never, when it would not even fit an empty queue. */
MUST_USE status admission_check(const admission *a, size_t bytes, error *err);

/* Queue a request that passed admission_check(), or one that comes back from a lost worker
 * (`first`: before all of its priority). */
void admission_push(admission *a, request *r, bool first);
void admission_remove(admission *a, request *r);

/* A request ended: feeds the retry estimate. */
void admission_note_finish(admission *a, uint64_t now_ms);

#endif
