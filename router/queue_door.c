/* Who may come in, and what those are told who may not. */
#include "common/check.h"
#include "router/queue_internal.h"

enum { RESERVE_DIVISOR = 16, RETRY_MS_MIN = 100, RETRY_MS_MAX = 60000 };

/* -- how fast the queue moves ------------------------------------------------------------ */

/* What a request is taken to need while nothing was measured. */
enum { REQUEST_MS_UNKNOWN = 250, DRAIN_WINDOW_MS = 1000 };

void queue_note_drain(queue *q, uint32_t tokens, uint64_t now_ms)
{
    drain_meter *d = &q->drain;
    /* Only time in which requests waited says how fast they leave; an idle night does not. */
    if (d->waited) {
        d->busy_ms += now_ms - d->taken_ms;
        d->busy_tokens += tokens;
    }
    if (d->busy_ms >= DRAIN_WINDOW_MS) {
        double rate = (double)d->busy_tokens / (double)d->busy_ms;
        d->tokens_per_ms = d->tokens_per_ms > 0 ? d->tokens_per_ms * 0.7 + rate * 0.3 : rate;
        d->busy_ms = d->busy_tokens = 0;
    }
    d->waited = queue_waiting(q).requests > 0;
    d->taken_ms = now_ms;
}

/* As if so many tokens had been expected and used before; an average moves by one request in so
 * many. max_tokens is what people ask for, and seldom what an answer takes. */
enum { COST_PRIOR_TOKENS = 65536, COST_REQUESTS = 64 };

void queue_note_cost(queue *q, uint32_t expected, uint32_t actual)
{
    drain_meter *d = &q->drain;
    if (d->expected == 0) d->expected = d->actual = COST_PRIOR_TOKENS;
    d->expected += expected - d->expected / COST_REQUESTS;
    d->actual += actual - d->actual / COST_REQUESTS;
}

static double actual_per_expected(const queue *q)
{
    return q->drain.expected > 0 ? q->drain.actual / q->drain.expected : 1;
}

/* Until an eighth of the queue has left, and as much as comes in. If nothing has left for longer
 * than that, so long again. */
uint32_t queue_retry_ms(const queue *q, uint32_t tokens, uint64_t now_ms)
{
    const drain_meter *d = &q->drain;
    queue_sum all = queue_waiting(q);
    uint32_t requests = all.requests / 8 + 1;
    double ms = (double)REQUEST_MS_UNKNOWN * requests;
    if (d->tokens_per_ms > 0) ms = ((double)all.tokens / 8 + tokens) / d->tokens_per_ms;
    double still_ms = d->waited ? (double)(now_ms - d->taken_ms) : 0;
    if (ms < still_ms) ms = still_ms;
    return ms < RETRY_MS_MIN ? RETRY_MS_MIN : ms > RETRY_MS_MAX ? RETRY_MS_MAX : (uint32_t)ms;
}

/* -- deadlines --------------------------------------------------------------------------- */

static double part(uint64_t mine, uint64_t others)
{
    return (double)mine / (double)(mine + others);
}

/* Tokens that will be dispatched before it if nobody else comes: what its tenant has with earlier
 * deadlines, and what the others get meanwhile by their weights, as far as they have it. */
static double tokens_ahead(const queue *q, const queue_ask *ask)
{
    const queue_model *m = queue_find_model(q, ask->model);
    if (m == NULL) return 0;
    const queue_lane *l = &m->lanes[queue_class_of(q, ask)];
    const queue_flow *f = queue_find_flow(l, ask->tenant);
    uint64_t earlier = 0, later = 0, other_tenants = ordered_set_sum(&l->ready);
    if (f != NULL) {
        earlier = ordered_set_sum_before(&f->entries, ask->deadline_ms, UINT64_MAX);
        later = ordered_set_sum(&f->entries) - earlier;
        if (f->is_ready) other_tenants -= f->ready.amount;
    }
    uint64_t other_classes = 0;
    for (int i = 0; i < QUEUE_CLASSES; i++)
        if (i != l->class && m->lanes[i].waiting > 0) other_classes += queue_class_weights[i];
    double by_weights =
        (double)earlier / part(tenant_weight(q->tenants, ask->tenant), other_tenants);
    by_weights = (by_weights + (double)ordered_set_sum(&l->returned)) /
                 part(queue_class_weights[l->class], other_classes);
    double all = (double)(m->tokens - later);
    return by_weights < all ? by_weights : all;
}

static status check_deadline(const queue *q, const queue_ask *ask, uint64_t now_ms, error *err)
{
    if (ask->deadline_ms == 0) return ST_OK;
    uint64_t left_ms = ask->deadline_ms > now_ms ? ask->deadline_ms - now_ms : 0;
    /* By what the workers say and by what was measured here; the more hopeful of the two. */
    double ahead = tokens_ahead(q, ask), measured = q->drain.tokens_per_ms;
    double ms = measured > 0 ? ahead / measured : 0;
    double said_ms = ask->rate > 0 ? ahead * actual_per_expected(q) / ask->rate * 1000 : 0;
    if (said_ms > 0 && (measured == 0 || said_ms < ms)) ms = said_ms;
    ms += ask->service_ms;
    if (ms < (double)left_ms) return ST_OK;
    return error_set(err, ST_DEADLINE_EXCEEDED,
                     "the deadline is in %llu ms, and it would take about %.0f ms",
                     (unsigned long long)left_ms, ms);
}

/* -- room -------------------------------------------------------------------------------- */

enum { REQUESTS, BYTES, TOKENS, DIMENSIONS };

typedef struct dimensions {
    uint64_t of[DIMENSIONS];
} dimensions;

static dimensions dimensions_of(const queue_sum *s)
{
    return (dimensions){{s->requests, s->bytes, s->tokens}};
}

/* The part of a limit that the other classes do not use, and may come for. */
static dimensions kept_for_others(const queue *q, const queue_sum waiting[QUEUE_CLASSES],
                                  queue_class class)
{
    dimensions limits = dimensions_of(&q->limits), kept = {{0}};
    for (int i = 0; i < QUEUE_CLASSES; i++) {
        dimensions used = dimensions_of(&waiting[i]);
        for (int d = 0; d < DIMENSIONS && i != (int)class; d++) {
            uint64_t reserve = limits.of[d] / RESERVE_DIVISOR;
            if (used.of[d] < reserve) kept.of[d] += reserve - used.of[d];
        }
    }
    return kept;
}

/* What there would be too much of, or DIMENSIONS. Into an empty queue everybody may come. */
static int lacking(const queue *q, const queue_sum waiting[QUEUE_CLASSES], queue_class class,
                   const queue_sum *more)
{
    queue_sum all = *more;
    for (int i = 0; i < QUEUE_CLASSES; i++) {
        all.requests += waiting[i].requests;
        all.bytes += waiting[i].bytes;
        all.tokens += waiting[i].tokens;
    }
    dimensions limits = dimensions_of(&q->limits), sum = dimensions_of(&all), kept = {{0}};
    if (all.requests > more->requests) kept = kept_for_others(q, waiting, class);
    for (int d = 0; d < DIMENSIONS; d++)
        if (sum.of[d] + kept.of[d] > limits.of[d]) return d;
    return DIMENSIONS;
}

/* How many of the youngest batch requests must go to make room; 0: it cannot be made. */
static uint32_t count_displaced(const queue *q, queue_class class, const queue_sum *more)
{
    if (class == QUEUE_BATCH) return 0;
    queue_sum waiting[QUEUE_CLASSES];
    for (int i = 0; i < QUEUE_CLASSES; i++)
        waiting[i] = q->waiting[i];
    queue_sum *batch = &waiting[QUEUE_BATCH];
    const queue_entry *e = q->batch_youngest;
    for (uint32_t count = 1; e != NULL && count <= LIMIT_QUEUE_DISPLACED;
         count++, e = e->batch_previous) {
        batch->requests--;
        batch->bytes -= e->bytes;
        batch->tokens -= e->tokens;
        if (lacking(q, waiting, class, more) == DIMENSIONS) return count;
    }
    return 0;
}

static status refuse_for_ever(const queue_sum *more, const queue_sum *limits, error *err)
{
    if (more->bytes > limits->bytes)
        return error_set(err, ST_RESOURCE_EXHAUSTED,
                         "the prompt has %llu bytes; the limit of all that wait is %llu",
                         (unsigned long long)more->bytes, (unsigned long long)limits->bytes);
    return error_set(err, ST_RESOURCE_EXHAUSTED,
                     "the request counts %llu tokens; the limit of all that wait is %llu",
                     (unsigned long long)more->tokens, (unsigned long long)limits->tokens);
}

static status refuse_now(const queue *q, queue_class class, int what, error *err)
{
    static const char *const units[DIMENSIONS] = {"requests", "bytes of prompts", "tokens of work"};
    queue_sum all = queue_waiting(q);
    uint64_t kept = kept_for_others(q, q->waiting, class).of[what];
    unsigned long long used = dimensions_of(&all).of[what];
    unsigned long long limit = dimensions_of(&q->limits).of[what];
    if (kept == 0)
        return error_set(err, ST_RESOURCE_EXHAUSTED,
                         "the queue is full: %llu %s wait, the limit is %llu", used, units[what],
                         limit);
    return error_set(err, ST_RESOURCE_EXHAUSTED,
                     "the queue is full: %llu %s wait, the limit is %llu, of which %llu are kept "
                     "for other classes",
                     used, units[what], limit, (unsigned long long)kept);
}

static status check_room(const queue *q, const queue_ask *ask, uint32_t *displace, error *err)
{
    queue_sum more = {1, ask->bytes, ask->tokens > 0 ? ask->tokens : 1};
    if (more.bytes > q->limits.bytes || more.tokens > q->limits.tokens)
        return refuse_for_ever(&more, &q->limits, err);
    queue_class class = queue_class_of(q, ask);
    int what = lacking(q, q->waiting, class, &more);
    if (what == DIMENSIONS) return ST_OK;
    *displace = count_displaced(q, class, &more);
    return *displace > 0 ? ST_OK : refuse_now(q, class, what, err);
}

status queue_check(const queue *q, const queue_ask *ask, uint64_t now_ms, uint32_t *displace,
                   error *err)
{
    error unheard;
    if (err == NULL) err = &unheard;
    err->retry_after_ms = 0;
    *displace = 0;
    status st = tenant_check(q->tenants, ask->tenant, ask->tokens, now_ms, err);
    if (st == ST_OK) st = check_deadline(q, ask, now_ms, err);
    if (st == ST_OK) st = check_room(q, ask, displace, err);
    bool never = ask->bytes > q->limits.bytes || ask->tokens > q->limits.tokens;
    if (st == ST_RESOURCE_EXHAUSTED && !never && err->retry_after_ms == 0)
        err->retry_after_ms = queue_retry_ms(q, ask->tokens, now_ms);
    return st;
}

struct request *queue_displaced(const queue *q)
{
    CHECK(q->batch_youngest != NULL);
    return q->batch_youngest->request;
}
