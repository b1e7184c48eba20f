/* metrics: what the router counts of its requests, and how long things took.
 *
 * Plain numbers that the core's events feed; metrics_page.h writes them down for Prometheus. Every
 * label set is bounded: a model or tenant beyond its limit is counted as "other", which is also
 * where answers go whose model is not known (adopted from a worker after a router restart).
 *
 * A request carries a `request_meter`, which makes each thing count once: a request ends once,
 * however often its Finish is sent, and waits or runs in one place. No clock: times are given. Loop
 * thread. */
#ifndef GAGGLE_ROUTER_METRICS_H
#define GAGGLE_ROUTER_METRICS_H

#include "proto/envelope.h"
#include "router/queue.h"

/* How a request ended; the first are finish_reason's. */
typedef enum metrics_outcome {
    METRICS_OPEN = 0, /* it has not */
    METRICS_STOP = FINISH_STOP,
    METRICS_LENGTH = FINISH_LENGTH,
    METRICS_CANCELLED = FINISH_CANCELLED,
    METRICS_DEADLINE = FINISH_DEADLINE,
    METRICS_SLOW_CONSUMER = FINISH_SLOW_CONSUMER,
    METRICS_FAILED = FINISH_FAILED,
    METRICS_REFUSED,   /* never admitted */
    METRICS_ABANDONED, /* its client went away */
} metrics_outcome;
#define METRICS_OUTCOMES 9

typedef enum metrics_where { METRICS_NOWHERE, METRICS_WAITING, METRICS_RUNNING } metrics_where;

/* Why a worker was chosen. */
typedef enum metrics_placement {
    METRICS_BY_LOAD,         /* the fewest seconds, nothing of its prompt known anywhere there */
    METRICS_BY_PREFIX,       /* it is believed to have a part of the prompt in its cache */
    METRICS_BY_CONTINUATION, /* it goes on with an answer that another one began */
} metrics_placement;
#define METRICS_PLACEMENTS 3

/* -- histograms -------------------------------------------------------------------------------- */

#define HISTOGRAM_BOUNDS_MAX 24

typedef struct histogram_bounds {
    uint64_t upper[HISTOGRAM_BOUNDS_MAX]; /* ascending, in the histogram's unit */
    uint32_t count;
    uint32_t ours;  /* the first so many are finer than vLLM's, whose buckets the others are */
    uint32_t scale; /* units of one that is written: 1000000 for us in a histogram of seconds */
} histogram_bounds;

extern const histogram_bounds bounds_first_token, bounds_between_tokens, bounds_whole,
    bounds_tokens, bounds_cancel;

typedef struct histogram {
    uint64_t cells[HISTOGRAM_BOUNDS_MAX + 1]; /* not cumulative; the last one is +Inf */
    uint64_t sum;
} histogram; /* {0} is empty */

/* `value` was seen `times` times. */
static inline void histogram_add(histogram *h, const histogram_bounds *b, uint64_t value,
                                 uint64_t times)
{
    uint32_t cell = 0;
    while (cell < b->count && value > b->upper[cell])
        cell++;
    h->cells[cell] += times;
    h->sum += value * times;
}

/* -- what is counted --------------------------------------------------------------------------- */

#define METRICS_MODELS  32u /* and "other", which is number 0 */
#define METRICS_TENANTS 64u

typedef struct model_metrics {
    char name[LIMIT_NAME_BYTES + 1];
    uint32_t waiting, running;
    uint64_t prompt_tokens, cached_tokens; /* of finished requests */
    uint64_t output_tokens;                /* relayed */
    uint64_t ended[METRICS_OUTCOMES];
    histogram first_token, between_tokens, whole, queued; /* us */
    histogram prefill, decode;                            /* us, as the worker says */
    histogram prompt_length, output_length;               /* tokens */
} model_metrics;

typedef struct tenant_metrics {
    uint32_t tenant;
    uint64_t ended[METRICS_OUTCOMES];
    uint64_t prompt_tokens, output_tokens; /* of finished requests */
} tenant_metrics;

typedef struct core_metrics {
    model_metrics *models; /* [model_count]; 0 is "other" */
    uint32_t model_count;
    tenant_metrics tenants[METRICS_TENANTS + 1]; /* the last one is "other" */
    uint32_t tenant_count;                       /* without "other" */
    uint8_t tenant_places[LIMIT_TENANT_NUMBERS]; /* 1 + place in tenants; 0: none yet */

    uint64_t ended[QUEUE_CLASSES][METRICS_OUTCOMES];
    uint64_t errors[STATUS_COUNT]; /* said to clients, by code */
    uint64_t placements[METRICS_PLACEMENTS];
    uint64_t continuations, approximate, workers_lost;
    histogram cancel; /* us from the end that somebody wanted until it is free */
} core_metrics;

void metrics_init(core_metrics *m);
void metrics_fini(core_metrics *m);

/* A model's place, from now on; 0 when there are METRICS_MODELS already. Said of what workers
 * offer, too, so that its numbers are there before its first request. */
uint8_t metrics_model_number(core_metrics *m, text_view name);

/* In a request that is kept; {0} until metrics_submitted(). */
typedef struct request_meter {
    uint64_t submitted_ms;
    uint64_t token_ms; /* when the last token was relayed; 0 = none was */
    uint8_t model;
    uint8_t class; /* queue_class */
    uint8_t where; /* metrics_where */
    bool placed;   /* once at least */
} request_meter;

/* -- what happens; `r` may be NULL for requests whose Submit is not known ------------------------
 */

/* Admitted, and waits. */
void metrics_submitted(core_metrics *m, request_meter *r, text_view model, int32_t priority,
                       uint64_t now_ms);
/* Not admitted. */
void metrics_refused(core_metrics *m, uint32_t tenant, int32_t priority);
/* Sent to a worker, the first one or another. */
void metrics_placed(core_metrics *m, request_meter *r, metrics_placement why, uint64_t now_ms);
/* It waits, or runs, or does neither from now on. */
void metrics_move(core_metrics *m, request_meter *r, metrics_where where);
/* It has ended, however often that is said: `counted` is the request's, false before.
 * `finish` is its worker's, NULL when the router itself ended it; `tokens` of its answer came. */
void metrics_ended(core_metrics *m, request_meter *r, bool *counted, uint32_t tenant,
                   metrics_outcome outcome, const msg_finish *finish, uint32_t tokens,
                   uint64_t now_ms);

/* A client was told an error. */
static inline void metrics_error(core_metrics *m, status code)
{
    m->errors[(unsigned)code < STATUS_COUNT ? code : ST_UNKNOWN]++;
}

/* What a request held is free, `ms` after it was decided to end it before its time. */
static inline void metrics_freed(core_metrics *m, uint64_t ms)
{
    histogram_add(&m->cancel, &bounds_cancel, ms * 1000, 1);
}

/* Tokens of it were relayed, at least one. */
static inline void metrics_relayed(core_metrics *m, request_meter *r, uint32_t tokens,
                                   uint64_t now_ms)
{
    model_metrics *model = &m->models[r != NULL ? r->model : 0];
    model->output_tokens += tokens;
    if (r == NULL) return;
    if (r->token_ms != 0) {
        uint64_t each_us = (now_ms - r->token_ms) * 1000 / tokens;
        histogram_add(&model->between_tokens, &bounds_between_tokens, each_us, tokens);
    } else {
        uint64_t waited_us = (now_ms - r->submitted_ms) * 1000;
        histogram_add(&model->first_token, &bounds_first_token, waited_us, 1);
    }
    r->token_ms = now_ms;
}

/* Answers that began, and the sum of the times that took them. */
uint64_t metrics_first_tokens(const core_metrics *m, uint64_t *sum_us);

/* What DEADLINE_EXCEEDED and the like mean for a request that the router ends. */
metrics_outcome metrics_outcome_of(status code);
const char *metrics_outcome_name(metrics_outcome outcome);

#endif
