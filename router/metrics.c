#include "router/metrics.h"

#include "common/mem.h"

/* vLLM's buckets, so that dashboards and rules for it compare; a small model on a fast device is
 * below the first of them. */
const histogram_bounds bounds_first_token = {
    .upper = {1000,     5000,     10000,    20000,     40000,     60000,     80000,   100000,
              250000,   500000,   750000,   1000000,   2500000,   5000000,   7500000, 10000000,
              20000000, 40000000, 80000000, 160000000, 640000000, 2560000000},
    .count = 22,
    .scale = 1000000};
const histogram_bounds bounds_between_tokens = {
    .upper = {1000,    2500,    5000,     10000,    25000,    50000,   75000,   100000,
              150000,  200000,  300000,   400000,   500000,   750000,  1000000, 2500000,
              5000000, 7500000, 10000000, 20000000, 40000000, 80000000},
    .count = 22,
    .ours = 3,
    .scale = 1000000};
const histogram_bounds bounds_whole = {
    .upper = {10000,     50000,     100000,    300000,    500000,     800000,
              1000000,   1500000,   2000000,   2500000,   5000000,    10000000,
              15000000,  20000000,  30000000,  40000000,  50000000,   60000000,
              120000000, 240000000, 480000000, 960000000, 1920000000, 7680000000},
    .count = 24,
    .ours = 3,
    .scale = 1000000};
const histogram_bounds bounds_tokens = {.upper = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000,
                                                  5000, 10000, 20000, 50000, 100000, 200000, 500000,
                                                  1000000},
                                        .count = 19,
                                        .scale = 1};
const histogram_bounds bounds_cancel = {.upper = {1000, 2500, 5000, 10000, 25000, 50000, 100000,
                                                  250000, 500000, 1000000, 2500000, 5000000,
                                                  10000000},
                                        .count = 13,
                                        .scale = 1000000};

/* -- names --------------------------------------------------------------------------------- */

metrics_outcome metrics_outcome_of(status code)
{
    switch (code) {
    case ST_CANCELLED:
        return METRICS_CANCELLED;
    case ST_DEADLINE_EXCEEDED:
        return METRICS_DEADLINE;
    case ST_RESOURCE_EXHAUSTED:
        return METRICS_REFUSED;
    default:
        return METRICS_FAILED;
    }
}

const char *metrics_outcome_name(metrics_outcome outcome)
{
    static const char *const names[METRICS_OUTCOMES] = {"open",      "stop",     "length",
                                                        "cancelled", "deadline", "slow_consumer",
                                                        "failed",    "refused",  "abandoned"};
    return names[outcome];
}

/* -- models and tenants ---------------------------------------------------------------------- */

void metrics_init(core_metrics *m)
{
    m->models = mem_calloc(1, sizeof *m->models);
    memcpy(m->models[0].name, "other", sizeof "other");
    m->model_count = 1;
}

void metrics_fini(core_metrics *m)
{
    mem_free(m->models);
    m->models = NULL;
    m->model_count = 0;
}

uint8_t metrics_model_number(core_metrics *m, text_view name)
{
    for (uint32_t i = 0; i < m->model_count; i++)
        if (text_equal(text_of(m->models[i].name), name)) return (uint8_t)i;
    if (m->model_count > METRICS_MODELS || name.size > LIMIT_NAME_BYTES) return 0;
    m->models = mem_realloc(m->models, (m->model_count + 1) * sizeof *m->models);
    model_metrics *model = &m->models[m->model_count];
    memset(model, 0, sizeof *model);
    memcpy(model->name, name.data, name.size);
    return (uint8_t)m->model_count++;
}

static tenant_metrics *tenant_place(core_metrics *m, uint32_t tenant)
{
    if (tenant >= LIMIT_TENANT_NUMBERS) return &m->tenants[METRICS_TENANTS];
    uint8_t *place = &m->tenant_places[tenant];
    if (*place == 0) {
        if (m->tenant_count == METRICS_TENANTS) return &m->tenants[METRICS_TENANTS];
        m->tenants[m->tenant_count].tenant = tenant;
        *place = (uint8_t)++m->tenant_count;
    }
    return &m->tenants[*place - 1];
}

/* As the sign of the priority asks; a tenant's limit may let it wait in a lower class. */
static queue_class class_of(int32_t priority)
{
    if (priority == 0) return QUEUE_STANDARD;
    return priority > 0 ? QUEUE_INTERACTIVE : QUEUE_BATCH;
}

/* -- what happens ---------------------------------------------------------------------------- */

void metrics_submitted(core_metrics *m, request_meter *r, text_view model, int32_t priority,
                       uint64_t now_ms)
{
    *r = (request_meter){.submitted_ms = now_ms,
                         .model = metrics_model_number(m, model),
                         .class = (uint8_t)class_of(priority)};
    metrics_move(m, r, METRICS_WAITING);
}

void metrics_refused(core_metrics *m, uint32_t tenant, int32_t priority)
{
    m->ended[class_of(priority)][METRICS_REFUSED]++;
    tenant_place(m, tenant)->ended[METRICS_REFUSED]++;
}

void metrics_placed(core_metrics *m, request_meter *r, metrics_placement why, uint64_t now_ms)
{
    m->placements[why]++;
    metrics_move(m, r, METRICS_RUNNING);
    if (r->placed) return;
    r->placed = true;
    histogram_add(&m->models[r->model].queued, &bounds_whole, (now_ms - r->submitted_ms) * 1000, 1);
}

void metrics_move(core_metrics *m, request_meter *r, metrics_where where)
{
    model_metrics *model = &m->models[r->model];
    model->waiting -= r->where == METRICS_WAITING;
    model->running -= r->where == METRICS_RUNNING;
    model->waiting += where == METRICS_WAITING;
    model->running += where == METRICS_RUNNING;
    r->where = (uint8_t)where;
}

static void add_finish(core_metrics *m, model_metrics *model, tenant_metrics *tenant,
                       const msg_finish *finish)
{
    model->prompt_tokens += finish->prompt_tokens;
    model->cached_tokens += finish->cached_tokens;
    tenant->prompt_tokens += finish->prompt_tokens;
    m->approximate += finish->approximate;
    if (finish->reason == FINISH_FAILED) return; /* its times say nothing */
    histogram_add(&model->prefill, &bounds_whole, finish->prefill_us, 1);
    histogram_add(&model->decode, &bounds_whole, finish->decode_us, 1);
    histogram_add(&model->prompt_length, &bounds_tokens, finish->prompt_tokens, 1);
}

void metrics_ended(core_metrics *m, request_meter *r, bool *counted, uint32_t tenant_number,
                   metrics_outcome outcome, const msg_finish *finish, uint32_t tokens,
                   uint64_t now_ms)
{
    if (r != NULL) metrics_move(m, r, METRICS_NOWHERE);
    if (*counted) return;
    *counted = true;
    model_metrics *model = &m->models[r != NULL ? r->model : 0];
    tenant_metrics *tenant = tenant_place(m, tenant_number);
    m->ended[r != NULL ? r->class : QUEUE_STANDARD][outcome]++;
    model->ended[outcome]++;
    tenant->ended[outcome]++;
    tenant->output_tokens += tokens;
    if (finish != NULL) add_finish(m, model, tenant, finish);
    if (r == NULL || tokens == 0) return;
    histogram_add(&model->whole, &bounds_whole, (now_ms - r->submitted_ms) * 1000, 1);
    histogram_add(&model->output_length, &bounds_tokens, tokens, 1);
}

uint64_t metrics_first_tokens(const core_metrics *m, uint64_t *sum_us)
{
    uint64_t count = 0;
    *sum_us = 0;
    for (uint32_t i = 0; i < m->model_count; i++) {
        const histogram *h = &m->models[i].first_token;
        for (uint32_t cell = 0; cell <= HISTOGRAM_BOUNDS_MAX; cell++)
            count += h->cells[cell];
        *sum_us += h->sum;
    }
    return count;
}
