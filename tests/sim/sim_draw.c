/* A cluster and what is asked of it, from a seed. */
#include "tests/sim/sim_run.h"

enum {
    TWO_ROUTERS_PERCENT = 25,
    PLAIN_PERCENT = 40,
    /* Of the numbers that could stand here, one with which the seeds that found faults before there
     * were features (sim_named.c) have none. */
    FEATURES_COUNT = 103682905,
};

static void draw_features(run *r)
{
    sim_draw_for(PURPOSE(FEATURES, 0, FEATURES_COUNT));
    if (sim_chance(PLAIN_PERCENT)) return;
    r->features = (sim_features){.any = true};
    r->features.quiet = sim_chance(20);
    r->features.third_router = sim_chance(20);
    r->features.leases = sim_chance(30);
    r->features.short_leases = r->features.leases && sim_chance(30);
    r->features.numerics = sim_chance(40);
    r->features.tenants = sim_chance(35);
}

static void draw_limits(run *r)
{
    for (uint32_t i = 0; i < SIM_TENANTS; i++) {
        sim_draw_for(PURPOSE(FEATURES, 1, i));
        tenant_limits *l = &r->limits[i];
        *l = (tenant_limits)TENANT_LIMITS_NONE;
        l->weight = sim_between(1, 300);
        if (sim_chance(60)) l->concurrent = sim_between(1, 4);
        if (sim_chance(30)) l->queued = sim_between(1, 4);
        if (sim_chance(25)) l->requests_per_minute = sim_between(6, 60);
        if (sim_chance(20)) l->tokens_per_minute = sim_between(3000, 20000);
        if (sim_chance(30)) l->class_max = (int32_t)sim_pick(2) - 1;
    }
}

static sim_wish draw_wish(const run *r, bool with_deadlines, uint32_t cancel_percent,
                          uint32_t slow_percent)
{
    uint64_t busy_us = r->calm_us - world.now_us;
    sim_wish w = {
        .at_us = sim_random() % busy_us,
        .prompt_count = sim_between(1, 40),
        .seed = sim_random(),
        .max_tokens = sim_chance(30) ? sim_between(1, 200) : 0,
        .logprobs = sim_chance(70) ? LOGPROBS_NONE : sim_pick(4),
        .window = sim_between(0, 2) * 32,
        .priority = (int32_t)sim_pick(3) - 1,
        .read_max = UINT32_MAX,
        .cancel_at = UINT32_MAX,
    };
    for (uint32_t i = 0; i < w.prompt_count; i++)
        w.prompt[i] = sim_pick(50000);
    if (sim_pick(60) == 0) w.prompt[0] = SIM_BAD_ID;
    if (with_deadlines && sim_chance(20)) w.deadline_ms = sim_between(1, 8000);
    if (sim_chance(cancel_percent)) {
        w.cancel_at = sim_pick(4) == 0 ? 0 : sim_pick(120);
        w.close = sim_chance(30);
    }
    if (sim_chance(slow_percent)) {
        w.read_us = sim_between(1000, 400000);
        if (sim_chance(30)) w.read_max = sim_pick(40);
    }
    w.leaves = r->features.tenants && sim_chance(20);
    return w;
}

static void stranger_leaves(void *ctx)
{
    sim_stranger_leave(((run *)ctx)->stranger);
}

static void draw_routers(run *r)
{
    r->core = core_options_default();
    r->core.client_grace_ms = sim_between(1000, 6000);
    r->core.worker_grace_ms = sim_between(300, 4000);
    r->core.stall_ms = sim_between(6000, 12000);
    if (sim_chance(20)) r->core.queue_requests_max = sim_between(1, 6);
    r->core.continuations_max = sim_chance(20) ? sim_pick(4) : SIM_MANY_WORKERS;
    sim_draw_noise();
    for (uint32_t i = 0; i < r->router_count; i++) {
        r->routers[i] = sim_router_create(i, &r->core, r->features.tenants ? r->limits : NULL);
        sim_router_start(r->routers[i]);
    }
}

static uint32_t draw_lease_ms(const sim_features *f)
{
    if (!f->leases || sim_chance(30)) return 0;
    return f->short_leases ? sim_between(300, 4000) : sim_between(4000, 20000);
}

/* Gives back the slowest. */
static sim_device draw_workers(run *r, uint32_t step_us)
{
    sim_device slowest = {0};
    for (uint32_t i = 0; i < r->worker_count; i++) {
        sim_draw_for(PURPOSE(WORKER, i, 0));
        sim_worker_options o = {.calm_us = r->calm_us};
        o.device = (sim_device){.slots = sim_between(1, 8),
                                .step_us = step_us * (sim_chance(20) ? 10 : 1),
                                .prefill_us = sim_between(10, 20000)};
        if (slowest.step_us < o.device.step_us) slowest.step_us = o.device.step_us;
        if (slowest.prefill_us < o.device.prefill_us) slowest.prefill_us = o.device.prefill_us;
        uint32_t numerics = sim_pick(SIM_NUMERICS + 1);
        o.device.maker = sim_parts_maker(i, r->features.numerics ? numerics : 0);
        o.lease_ms = draw_lease_ms(&r->features);
        o.drain_ms = sim_between(100, 10000);
        sim_draw_noise();
        r->workers[i] = sim_worker_create(i, r->router_count, &o);
        sim_worker_start(r->workers[i]);
    }
    return slowest;
}

/* A step lasts half as long again at most. */
static uint64_t work_us(const sim_wish *w, const sim_device *slowest)
{
    sim_question q =
        sim_question_of(w->prompt, w->prompt_count, w->seed, w->max_tokens, w->logprobs);
    uint64_t total = sim_answer_total(&q);
    return total * slowest->step_us * 3 / 2 + (w->prompt_count + total) * slowest->prefill_us;
}

static void draw_clients(run *r, const sim_device *slowest)
{
    sim_draw_for(PURPOSE(CLIENT, SIM_NODES_MAX, 0));
    bool with_deadlines = sim_chance(30);
    uint32_t cancel_percent = sim_chance(40) ? sim_pick(40) : 0;
    uint32_t slow_percent = sim_chance(40) ? sim_pick(40) : 0;
    uint32_t wishes_left = sim_between(5, SIM_WISHES_MAX);
    for (uint32_t i = 0; i < r->client_count; i++) {
        uint32_t count = wishes_left / (r->client_count - i);
        wishes_left -= count;
        sim_wish wishes[SIM_WISHES_MAX];
        for (uint32_t j = 0; j < count; j++) {
            sim_draw_for(PURPOSE(CLIENT, i, j + 1));
            wishes[j] = draw_wish(r, with_deadlines, cancel_percent, slow_percent);
            r->work_us += work_us(&wishes[j], slowest);
        }
        sim_draw_for(PURPOSE(FEATURES, 2, i));
        uint32_t tenant = r->features.tenants ? sim_pick(SIM_TENANTS + 1) : 0;
        sim_draw_noise();
        r->clients[i] = sim_client_create(i, tenant, r->router_count, wishes, count, &r->ends);
        sim_client_start(r->clients[i]);
    }
}

void sim_draw_cluster(run *r)
{
    sim_draw_for(PURPOSE(NETWORK, 0, 0));
    uint32_t latency_us = sim_between(20, sim_chance(30) ? 80000 : 1000);
    uint32_t jitter_us = sim_pick(20000);
    sim_network_begin(latency_us, jitter_us, sim_between(2, 64) * 1024);
    sim_draw_for(PURPOSE(ROUTER, 0, 0));
    r->router_count = sim_chance(TWO_ROUTERS_PERCENT) ? 2 : 1;
    draw_features(r);
    if (r->features.third_router) r->router_count = 3;
    draw_limits(r);
    sim_draw_for(PURPOSE(CLUSTER, 0, 0));
    r->calm_us = world.now_us + sim_for_us(12000) + 500000;
    r->worker_count = sim_between(1, SIM_NODES_MAX);
    r->client_count = sim_between(1, SIM_NODES_MAX);
    r->down_ms = sim_chance(50) ? 300 : 4000;
    uint32_t step_us = sim_between(500, 30000);
    draw_routers(r);
    const sim_device slowest = draw_workers(r, step_us);
    draw_clients(r, &slowest);
    sim_draw_for(PURPOSE(STRANGER, 0, 0));
    if (sim_chance(20)) {
        sim_draw_noise();
        r->stranger = sim_stranger_create(sim_pick(r->router_count));
        sim_after(NULL, r->calm_us - world.now_us, stranger_leaves, r);
    }
    sim_draw_troubles(r);
    sim_draw_noise();
}
