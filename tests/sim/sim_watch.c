#include "tests/sim/sim_watch.h"

#include "common/check.h"

enum { MINUTE_MS = 60000, FAULTS_THAT_OPEN = 3, ON_ITS_WAY_MS = 1000 };

/* One answer on its way to one client over one link: what the router may send next. */
typedef struct told {
    uint32_t stream;
    bool known; /* `next` is: after an Accepted it is not until tokens come */
    bool over;  /* Finish or Error was sent */
    uint32_t next;
} told;

void sim_watched_free(sim_watched *w)
{
    buffer_free(&w->told);
}

/* -- answers ------------------------------------------------------------------------------ */

static told *told_find(const sim_watched *w, uint32_t stream)
{
    told *all = (told *)(void *)w->told.data;
    for (size_t i = w->told.size / sizeof *all; i-- > 0;)
        if (all[i].stream == stream) return &all[i];
    return NULL;
}

/* What ended may begin, or be refused, once more. */
static void asks_again(const sim_watched *w, uint32_t stream)
{
    told *t = told_find(w, stream);
    if (t != NULL) t->over = false;
}

static void check_answer(sim_watched *w, const envelope *e)
{
    told *t;
    switch (e->kind) {
    case ENVELOPE_ACCEPTED:
        if ((t = told_find(w, e->accepted.stream)) == NULL) {
            told fresh = {.stream = e->accepted.stream};
            buffer_append(&w->told, &fresh, sizeof fresh);
        } else {
            *t = (told){.stream = e->accepted.stream};
        }
        break;
    case ENVELOPE_TOKENS:
        for (size_t i = 0; i < e->tokens.groups; i++) {
            t = told_find(w, e->tokens.stream[i]);
            CHECK(t != NULL && !t->over);
            if (t->known && e->tokens.first_index[i] != t->next)
                sim_fail("the router sends token %u of stream %x where %u is due",
                         e->tokens.first_index[i], t->stream, t->next);
            t->known = true;
            t->next = e->tokens.first_index[i] + e->tokens.count[i];
        }
        break;
    case ENVELOPE_FINISH:
        t = told_find(w, e->finish.stream);
        CHECK(t != NULL && !t->over && (!t->known || t->next == e->finish.total));
        t->over = true;
        break;
    case ENVELOPE_ERROR:
        if ((t = told_find(w, e->error.stream)) == NULL) break; /* refused before it was accepted */
        CHECK(!t->over);
        t->over = true;
        break;
    default:
        break;
    }
}

/* -- tenants ------------------------------------------------------------------------------ */

static const tenant_limits *limits_of(const sim_watch *watch, uint32_t tenant)
{
    static const tenant_limits none = TENANT_LIMITS_NONE;
    bool limited = watch->limits != NULL && tenant >= 1 && tenant <= SIM_TENANTS;
    return limited ? &watch->limits[tenant - 1] : &none;
}

static bool is_charged(const request *r)
{
    return r->state != REQUEST_QUEUED && r->submit != NULL && r->submit->place.charged > 0;
}

typedef struct tally {
    uint32_t waiting, running;
} tally;

static tally count(const core *c, uint32_t tenant)
{
    tally sum = {0};
    for (uint32_t i = 0; i < request_table_end(c->requests); i++) {
        const request *r = request_table_at(c->requests, i);
        if (r == NULL || r->tenant != tenant) continue;
        sum.waiting += r->state == REQUEST_QUEUED;
        sum.running += is_charged(r);
    }
    return sum;
}

static uint64_t entries_within(const sim_watch *watch, uint32_t tenant, uint64_t ms)
{
    const sim_entries *e = &watch->entries[tenant];
    uint64_t within = 0;
    for (uint64_t i = 0; i < e->count && i < SIM_ENTRIES_KEPT; i++)
        within += watch->core->now_ms - e->at_ms[i] < ms;
    return within;
}

/* The bucket holds a minute's worth and fills in a minute. */
static void enters(sim_watch *watch, uint32_t tenant)
{
    sim_entries *e = &watch->entries[tenant];
    e->at_ms[e->count++ % SIM_ENTRIES_KEPT] = watch->core->now_ms;
    uint64_t rate = limits_of(watch, tenant)->requests_per_minute;
    CHECK(rate == 0 || entries_within(watch, tenant, MINUTE_MS) <= 2 * rate + 1);
}

/* With fewer entries in a minute the bucket has something left, since it is never overdrawn by
 * requests. What its tokens cost is the workers' word; that limit only has to be there, and used.
 */
static bool is_too_much(const sim_watch *watch, uint32_t tenant)
{
    const core *c = watch->core;
    if (queue_waiting(c->queue).requests >= c->options.queue_requests_max) return true;
    const tenant_limits *l = limits_of(watch, tenant);
    if (l->queued != 0 && count(c, tenant).waiting >= l->queued) return true;
    if (l->requests_per_minute != 0 &&
        entries_within(watch, tenant, MINUTE_MS) >= l->requests_per_minute)
        return true;
    return l->tokens_per_minute != 0 && watch->entries[tenant].count > 0;
}

/* It was refused while its client was away. */
static bool is_old_news(const sim_watched *w, const core_link *l, uint32_t stream)
{
    const request *r = request_table_find_stream(w->watch->core->requests, l, stream);
    return r != NULL && r->failure != NULL;
}

static void check_client(sim_watched *w, const core_link *l, const envelope *e)
{
    if (e->kind == ENVELOPE_ACCEPTED && !e->accepted.resumed) enters(w->watch, w->tenant);
    if (e->kind == ENVELOPE_ERROR && e->error.code == ST_RESOURCE_EXHAUSTED) {
        CHECK(is_old_news(w, l, e->error.stream) || is_too_much(w->watch, w->tenant));
        CHECK(e->error.retry_after_ms > 0);
    }
    check_answer(w, e);
}

/* -- workers ------------------------------------------------------------------------------ */

/* One at a time. */
static void check_probe(sim_watched *w, const worker *to, const request *r)
{
    if (to->breaker.state == BREAKER_CLOSED) return;
    CHECK(to->breaker.state == BREAKER_PROBING && to->breaker.probe == r->number);
    const request *before = request_table_find(w->watch->core->requests, &w->probe);
    CHECK(before == NULL || before == r || before->worker != to || !is_charged(before));
    w->probe = r->id;
}

static void check_placement(sim_watched *w, const core_link *l, const msg_submit *submit)
{
    const core *c = w->watch->core;
    const request *r = worker_find_stream(l->worker, submit->stream);
    CHECK(r != NULL && r->worker == l->worker && is_charged(r));
    check_probe(w, l->worker, r);
    uint32_t most = limits_of(w->watch, r->tenant)->concurrent;
    CHECK(most == 0 || count(c, r->tenant).running <= most);
    sim_question q = sim_question_of(submit->ids, submit->id_count, submit->sampling.seed,
                                     submit->max_tokens, submit->logprobs);
    sim_parts_placed(&q, w->maker);
}

static void check_worker(sim_watched *w, const core_link *l, const envelope *e)
{
    if (e->kind == ENVELOPE_SUBMIT) check_placement(w, l, &e->submit);
    sim_watch *watch = w->watch;
    if (e->kind == ENVELOPE_DRAIN && e->drain.worker_id.size > 0 &&
        watch->drained_count < SIM_DRAINS_KEPT)
        watch->drained[watch->drained_count++] = w->instance;
}

void sim_watch_before(sim_watched *w, const core_link *l, const envelope *e)
{
    if (e->kind == ENVELOPE_SUBMIT) asks_again(w, e->submit.stream);
    for (size_t i = 0; e->kind == ENVELOPE_RESUME && i < e->resume.count; i++)
        asks_again(w, e->resume.stream[i]);
    if (e->kind == ENVELOPE_REGISTER) w->maker = sim_parts_maker_of(e->reg.numerics);
    w->ending = NULL;
    if (e->kind != ENVELOPE_FINISH || l->worker == NULL) return;
    const request *r = worker_find_stream(l->worker, e->finish.stream);
    if (r == NULL || !is_charged(r)) return;
    w->ending = r;
    w->was_closed = l->worker->breaker.state == BREAKER_CLOSED;
}

void sim_watch_after(sim_watched *w, const core_link *l, const envelope *e)
{
    if (l->worker != NULL && l->worker->breaker.state == BREAKER_CLOSED) w->probe = (id128){0};
    const request *r = w->ending;
    w->ending = NULL;
    if (r == NULL || r->state != REQUEST_FINISHED) return; /* it did not count as the end */
    bool is_fault = e->finish.reason == FINISH_FAILED && e->finish.error.code == ST_INTERNAL;
    bool is_well = e->finish.reason == FINISH_STOP || e->finish.reason == FINISH_LENGTH;
    if (is_fault && w->was_closed) w->faults_in_row++;
    if (w->faults_in_row >= FAULTS_THAT_OPEN) CHECK(l->worker->breaker.state != BREAKER_CLOSED);
    if (is_well || l->worker->breaker.state != BREAKER_CLOSED) w->faults_in_row = 0;
}

void sim_watch_says(sim_watched *w, const core_link *l, const envelope *e)
{
    /* The core rejects a peer that breaks the rules: ours never do. */
    CHECK(e->kind != ENVELOPE_ERROR || !e->error.fatal);
    if (w->role == ROLE_WORKER)
        check_worker(w, l, e);
    else if (w->tenant != SIM_TENANT_STRANGER)
        check_client(w, l, e);
}

/* A worker that says when it will end runs nothing any more when it does, but for what was still on
 * its way to it. */
void sim_watch_loses(const sim_watched *w, const core_link *l)
{
    if (!sim_allowed.handed_over || w->role != ROLE_WORKER) return;
    const core *c = w->watch->core;
    for (uint32_t i = 0; i < request_table_end(c->requests); i++) {
        const request *r = request_table_at(c->requests, i);
        if (r == NULL || r->worker != l->worker || r->state != REQUEST_RUNNING) continue;
        CHECK(r->submit != NULL && r->next == r->submit->base);
        CHECK(c->now_ms - r->since_ms < ON_ITS_WAY_MS);
    }
}

void sim_watch_lost(const sim_watch *watch, const worker *lost)
{
    if (!sim_allowed.handed_over || lost == NULL) return;
    const core *c = watch->core;
    for (uint32_t i = 0; i < request_table_end(c->requests); i++) {
        const request *r = request_table_at(c->requests, i);
        CHECK(r == NULL || r->worker != lost);
    }
}

void sim_watch_verify(const sim_watch *watch)
{
    const core *c = watch->core;
    for (uint32_t tenant = 0; tenant <= SIM_TENANT_STRANGER; tenant++) {
        tally sum = count(c, tenant);
        CHECK(tenant_queued(c->tenants, tenant) == sum.waiting);
        CHECK(tenant_running(c->tenants, tenant) == sum.running);
    }
    for (size_t i = 0; i < c->workers.count; i++) {
        const worker *w = c->workers.all[i];
        if (w->breaker.state != BREAKER_PROBING) continue;
        const request *r = request_table_at(c->requests, w->breaker.probe);
        CHECK(r != NULL && r->worker == w && is_charged(r)); /* else nobody ever decides */
    }
}
