#include "router/tenant.h"

#include "common/check.h"
#include "common/mem.h"

enum { MINUTE_MS = 60000 };
/* Beyond it a rate is none, and a bucket's units would not fit. */
#define RATE_MAX (UINT64_C(1) << 40)
_Static_assert(RATE_MAX < INT64_MAX / MINUTE_MS / 128, "a bucket's level and a change fit");

/* A token is MINUTE_MS units, so that a rate a minute is that many units a millisecond. */
typedef struct bucket {
    int64_t level;
    uint64_t filled_ms;
} bucket;

typedef struct tenant {
    tenant_limits limits;
    bucket requests, tokens;
    uint32_t queued, running;
    uint32_t returned; /* of those queued: come back */
} tenant;

struct tenant_table {
    tenant *all; /* [count]: those that were ever heard of */
    uint32_t count;
    tenant unknown;
};

static const tenant blank = {.limits = TENANT_LIMITS_NONE};

tenant_table *tenant_table_create(void)
{
    tenant_table *t = mem_calloc(1, sizeof *t);
    t->unknown = blank;
    return t;
}

void tenant_table_destroy(tenant_table *t)
{
    if (t == NULL) return;
    mem_free(t->all);
    mem_free(t);
}

static const tenant *find(const tenant_table *t, uint32_t number)
{
    if (number == TENANT_UNKNOWN) return &t->unknown;
    return number < t->count ? &t->all[number] : &blank;
}

static tenant *get(tenant_table *t, uint32_t number)
{
    if (number == TENANT_UNKNOWN) return &t->unknown;
    CHECK(number < LIMIT_TENANT_NUMBERS);
    if (number >= t->count) {
        uint32_t count = number + 1 + number / 2;
        t->all = mem_realloc(t->all, count * sizeof *t->all);
        for (uint32_t i = t->count; i < count; i++)
            t->all[i] = blank;
        t->count = count;
    }
    return &t->all[number];
}

/* -- buckets ----------------------------------------------------------------------------- */

static int64_t units(uint64_t tokens)
{
    return (int64_t)(tokens < RATE_MAX ? tokens : RATE_MAX) * MINUTE_MS;
}

static int64_t level_at(const bucket *b, uint64_t rate, uint64_t now_ms)
{
    uint64_t elapsed_ms = now_ms - b->filled_ms;
    int64_t full = units(rate);
    /* An overdrawn bucket takes more than a minute to fill. */
    if (rate == 0 || elapsed_ms >= (uint64_t)(full - b->level) / rate + 1) return full;
    return b->level + (int64_t)(elapsed_ms * rate);
}

/* Until `tokens` may be taken, or the bucket is full. */
static uint64_t wait_ms(const bucket *b, uint64_t rate, uint32_t tokens, uint64_t now_ms)
{
    int64_t level = level_at(b, rate, now_ms);
    int64_t need = units(tokens < rate ? tokens : rate);
    return level >= need ? 0 : ((uint64_t)(need - level) + rate - 1) / rate;
}

static void change(bucket *b, uint64_t rate, int64_t tokens, uint64_t now_ms)
{
    if (rate == 0) return;
    int64_t full = units(rate);
    int64_t level = level_at(b, rate, now_ms) + tokens * MINUTE_MS;
    b->level = level < full ? level : full;
    if (b->level < -full * 60) b->level = -full * 60; /* nobody is shut out for over an hour */
    b->filled_ms = now_ms;
}

static void set_rate(bucket *b, uint64_t before, uint64_t rate, uint64_t now_ms)
{
    int64_t full = units(rate);
    int64_t level = before == 0 ? full : level_at(b, before, now_ms);
    *b = (bucket){level < full ? level : full, now_ms};
}

void tenant_set_limits(tenant_table *t, uint32_t number, const tenant_limits *limits,
                       uint64_t now_ms)
{
    CHECK(limits->weight > 0 && limits->weight <= LIMIT_TENANT_WEIGHT);
    tenant *who = get(t, number);
    tenant_limits fresh = *limits;
    if (fresh.tokens_per_minute > RATE_MAX) fresh.tokens_per_minute = 0;
    set_rate(&who->requests, who->limits.requests_per_minute, fresh.requests_per_minute, now_ms);
    set_rate(&who->tokens, who->limits.tokens_per_minute, fresh.tokens_per_minute, now_ms);
    who->limits = fresh;
}

/* -- judging ----------------------------------------------------------------------------- */

uint32_t tenant_weight(const tenant_table *t, uint32_t number)
{
    return find(t, number)->limits.weight;
}

int32_t tenant_class_max(const tenant_table *t, uint32_t number)
{
    return find(t, number)->limits.class_max;
}

uint32_t tenant_queued(const tenant_table *t, uint32_t number)
{
    return find(t, number)->queued;
}

uint32_t tenant_running(const tenant_table *t, uint32_t number)
{
    return find(t, number)->running;
}

bool tenant_may_run(const tenant_table *t, uint32_t number, bool again)
{
    const tenant *who = find(t, number);
    uint32_t begun = who->running + (again ? 0 : who->returned);
    return who->limits.concurrent == 0 || begun < who->limits.concurrent;
}

static status refuse_rate(error *err, uint64_t rate, const char *what, uint32_t count,
                          uint64_t after_ms)
{
    status st = error_set(err, ST_RESOURCE_EXHAUSTED,
                          "this tenant's limit is %llu %s per minute; this one counts %u",
                          (unsigned long long)rate, what, count);
    if (err != NULL) err->retry_after_ms = after_ms < UINT32_MAX ? (uint32_t)after_ms : UINT32_MAX;
    return st;
}

status tenant_check(const tenant_table *t, uint32_t number, uint32_t tokens, uint64_t now_ms,
                    error *err)
{
    const tenant *who = find(t, number);
    const tenant_limits *l = &who->limits;
    if (l->queued != 0 && who->queued >= l->queued) {
        status st =
            error_set(err, ST_RESOURCE_EXHAUSTED,
                      "%u requests of this tenant wait, its limit is %u", who->queued, l->queued);
        if (err != NULL) err->retry_after_ms = 0;
        return st;
    }
    uint64_t after_ms;
    if (l->requests_per_minute != 0 &&
        (after_ms = wait_ms(&who->requests, l->requests_per_minute, 1, now_ms)) > 0)
        return refuse_rate(err, l->requests_per_minute, "requests", 1, after_ms);
    if (l->tokens_per_minute != 0 &&
        (after_ms = wait_ms(&who->tokens, l->tokens_per_minute, tokens, now_ms)) > 0)
        return refuse_rate(err, l->tokens_per_minute, "tokens", tokens, after_ms);
    return ST_OK;
}

/* -- one request's way ------------------------------------------------------------------- */

void tenant_enter(tenant_table *t, uint32_t number, uint32_t tokens, bool again, uint64_t now_ms)
{
    tenant *who = get(t, number);
    who->queued++;
    who->returned += again;
    if (!again) change(&who->requests, who->limits.requests_per_minute, -1, now_ms);
    change(&who->tokens, who->limits.tokens_per_minute, -(int64_t)tokens, now_ms);
}

static void leave_queue(tenant *who, bool again)
{
    CHECK(who->queued > 0 && who->returned >= again);
    who->queued--;
    who->returned -= again;
}

void tenant_leave(tenant_table *t, uint32_t number, uint32_t tokens, bool again, uint64_t now_ms)
{
    tenant *who = get(t, number);
    leave_queue(who, again);
    change(&who->tokens, who->limits.tokens_per_minute, tokens, now_ms);
}

void tenant_start(tenant_table *t, uint32_t number, bool again)
{
    tenant *who = get(t, number);
    leave_queue(who, again);
    who->running++;
}

void tenant_end(tenant_table *t, uint32_t number, uint32_t charged, uint32_t actual,
                uint64_t now_ms)
{
    tenant *who = get(t, number);
    CHECK(who->running > 0);
    who->running--;
    change(&who->tokens, who->limits.tokens_per_minute, (int64_t)charged - actual, now_ms);
}
