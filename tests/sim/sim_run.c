/* One run: a cluster and its troubles, drawn from a seed; and the judgement.
 *
 * Troubles are drawn as a swarm: each kind is in a run or not, so that rare ones also meet alone.
 * They end at a drawn time; from then on everything must come to its end by itself. */
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "proto/envelope.h"
#include "router/core.h"
#include "tests/sim/sim.h"

enum {
    NODES_MAX = 4,
    WISHES_MAX = 40,
    TWO_ROUTERS_PERCENT = 25,
    WATCH_US = 100000,
    MANY_WORKERS = 10000, /* no answer loses so many */
    EVENTS_MAX = 3000000,
    BYTES_PER_PROCESS = 128 * 1024, /* buffers; the tables are there from the start */
    BYTES_PER_WISH = 16 * 1024,
};
static const uint64_t LONGEST_US = 900000000; /* of virtual time, and a request still waits */
static const uint64_t SETTLED_US = 120000000; /* all have ended, and something is still held */

sim_rules sim_allowed;

/* For what is drawn (sim_draw_for). */
enum {
    DRAW_NETWORK,
    DRAW_CLUSTER,
    DRAW_WORKER,
    DRAW_CLIENT,
    DRAW_STRANGER,
    DRAW_TROUBLE,
    DRAW_ROUTER
};
#define PURPOSE(what, which, count)                                                                \
    (((uint64_t)DRAW_##what << 48) + ((uint64_t)(which) << 32) + (count))

typedef enum trouble_kind {
    TROUBLE_RESET,
    TROUBLE_SILENT,
    TROUBLE_DEAF,
    TROUBLE_STALL,
    TROUBLE_PART,
    TROUBLE_FREEZE,
    TROUBLE_LEAP,
    TROUBLE_KILL_WORKER,
    TROUBLE_DRAIN_WORKER,
    TROUBLE_BREAK_DEVICE,
    TROUBLE_HANG_ENGINE,
    TROUBLE_KILL_ROUTER,
    TROUBLE_DRAIN_ROUTER,
    TROUBLE_KILL_CLIENT,
    TROUBLE_KINDS,
} trouble_kind;

typedef struct run run;

typedef struct trouble {
    run *run;
    trouble_kind kind;
    uint32_t pause_ms; /* between two of them, at most twice this; 0: not in this run */
    uint32_t count;
} trouble;

struct run {
    uint32_t router_count, worker_count, client_count;
    sim_router *routers[NODES_MAX];
    sim_worker *workers[NODES_MAX];
    sim_client *clients[NODES_MAX];
    sim_stranger *stranger;           /* NULL: none */
    uint64_t revive_us[2][NODES_MAX]; /* routers, workers: when one that is down comes back; 0 */
    trouble troubles[TROUBLE_KINDS];
    uint64_t calm_us;
    uint32_t down_ms; /* how long somebody is down, at most */
    sim_ends ends;
    sim_totals *totals;
    core_options core;
};

static run now; /* the one that is going on */

uint32_t sim_credit_end(const sim_question *q)
{
    uint32_t end = UINT32_MAX;
    for (uint32_t i = 0; i < now.client_count && end == UINT32_MAX; i++)
        if (now.clients[i] != NULL) end = sim_client_credit_end(now.clients[i], q);
    return end;
}

static bool calm(const run *r)
{
    return world.now_us >= r->calm_us;
}

/* -- troubles -------------------------------------------------------------------------------- */

static sim_process *any_process(const run *r)
{
    uint32_t all = r->router_count + r->worker_count + r->client_count;
    uint32_t which = sim_pick(all);
    if (which < r->router_count) return sim_router_process(r->routers[which]);
    which -= r->router_count;
    if (which < r->worker_count) return sim_worker_process(r->workers[which]);
    return sim_client_process(r->clients[which - r->worker_count]);
}

static uint64_t for_us(uint32_t most_ms)
{
    return (uint64_t)sim_between(1, most_ms) * 1000;
}

static void strike(run *r, trouble_kind kind)
{
    sim_process *p = any_process(r);
    sim_worker *w = r->workers[sim_pick(r->worker_count)];
    sim_router *router = r->routers[sim_pick(r->router_count)];
    sim_client *client = r->clients[sim_pick(r->client_count)];
    switch (kind) {
    case TROUBLE_RESET:
        sim_network_cut(p, SIM_CUT_RESET);
        break;
    case TROUBLE_SILENT:
        sim_network_cut(p, SIM_CUT_SILENT);
        break;
    case TROUBLE_DEAF:
        sim_network_cut(p, SIM_CUT_DEAF);
        break;
    case TROUBLE_STALL:
        sim_network_stall(p, for_us(sim_chance(70) ? 900 : 5000));
        break;
    case TROUBLE_PART:
        sim_network_part(p, for_us(sim_chance(50) ? 2000 : 12000));
        break;
    case TROUBLE_FREEZE:
        if (p->dead) break;
        sim_freeze(p, for_us(sim_chance(50) ? 800 : 6000));
        r->totals->freezes++;
        break;
    case TROUBLE_LEAP:
        if (p->dead) break;
        sim_leap(p, for_us(sim_chance(50) ? 3000 : 90000));
        r->totals->leaps++;
        break;
    case TROUBLE_KILL_WORKER:
        sim_worker_kill(w, sim_chance(30));
        r->totals->kills++;
        break;
    case TROUBLE_DRAIN_WORKER:
        sim_worker_drain(w, (uint32_t)(for_us(5000) / 1000));
        r->totals->drains++;
        break;
    case TROUBLE_BREAK_DEVICE:
        if (sim_worker_engine(w) != NULL) sim_engine_break(sim_worker_engine(w));
        break;
    case TROUBLE_HANG_ENGINE:
        if (sim_worker_engine(w) != NULL) sim_engine_hang(sim_worker_engine(w), for_us(8000));
        break;
    case TROUBLE_KILL_ROUTER:
        sim_router_kill(router, sim_chance(30));
        r->totals->kills++;
        break;
    case TROUBLE_DRAIN_ROUTER:
        sim_router_drain(router, (uint32_t)(for_us(5000) / 1000));
        r->totals->drains++;
        break;
    default:
        sim_client_kill(client, sim_chance(30));
        r->totals->kills++;
    }
}

static void trouble_comes(void *ctx)
{
    trouble *t = ctx;
    if (calm(t->run)) return;
    sim_draw_for(PURPOSE(TROUBLE, t->kind, ++t->count));
    sim_after(NULL, for_us(2 * t->pause_ms), trouble_comes, t);
    strike(t->run, t->kind);
}

/* -- who is down comes back -----------------------------------------------------------------------
 */

static bool due(run *r, uint64_t *revive_us)
{
    if (*revive_us == 0) *revive_us = world.now_us + for_us(r->down_ms);
    if (world.now_us < *revive_us) return false;
    *revive_us = 0;
    return true;
}

static void watch(void *ctx)
{
    run *r = ctx;
    for (uint32_t i = 0; i < r->router_count; i++)
        if (!sim_router_is_up(r->routers[i]) && due(r, &r->revive_us[0][i]))
            sim_router_start(r->routers[i]);
    for (uint32_t i = 0; i < r->worker_count; i++)
        if (!sim_worker_is_up(r->workers[i]) && due(r, &r->revive_us[1][i]))
            sim_worker_start(r->workers[i]);
    sim_after(NULL, WATCH_US, watch, r);
}

/* -- setting up
 * -------------------------------------------------------------------------------------- */

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
    return w;
}

static void draw_troubles(run *r)
{
    sim_draw_for(PURPOSE(TROUBLE, TROUBLE_KINDS, 0));
    bool peaceful = sim_chance(8);
    for (uint32_t kind = 0; kind < TROUBLE_KINDS; kind++) {
        trouble *t = &r->troubles[kind];
        *t = (trouble){.run = r, .kind = (trouble_kind)kind};
        sim_draw_for(PURPOSE(TROUBLE, kind, 0));
        if (peaceful || !sim_chance(28)) continue;
        t->pause_ms = sim_between(200, 5000);
        sim_after(NULL, for_us(2 * t->pause_ms), trouble_comes, t);
    }
    uint32_t pauses = 0;
    for (uint32_t kind = 0; kind < TROUBLE_KINDS; kind++)
        pauses += r->troubles[kind].pause_ms;
    const trouble *t = r->troubles;
    sim_allowed = (sim_rules){
        .lost = (pauses > 0) && (r->core.continuations_max < MANY_WORKERS),
        .continued = (pauses > 0),
        .early_deadline = t[TROUBLE_LEAP].pause_ms > 0,
        .adopted = r->router_count > 1 ||
                   t[TROUBLE_KILL_ROUTER].pause_ms + t[TROUBLE_DRAIN_ROUTER].pause_ms > 0,
    };
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
    r->core.continuations_max = sim_chance(20) ? sim_pick(4) : MANY_WORKERS;
    sim_draw_noise();
    for (uint32_t i = 0; i < r->router_count; i++) {
        r->routers[i] = sim_router_create(i, &r->core);
        sim_router_start(r->routers[i]);
    }
}

static void draw_workers(run *r, uint32_t step_us)
{
    for (uint32_t i = 0; i < r->worker_count; i++) {
        sim_draw_for(PURPOSE(WORKER, i, 0));
        const sim_engine_speed speed = {.slots = sim_between(1, 8),
                                        .step_us = step_us * (sim_chance(20) ? 10 : 1),
                                        .prefill_us = sim_between(10, 20000)};
        sim_draw_noise();
        r->workers[i] = sim_worker_create(i, r->router_count, &speed);
        sim_worker_start(r->workers[i]);
    }
}

static void draw_clients(run *r)
{
    sim_draw_for(PURPOSE(CLIENT, NODES_MAX, 0));
    bool with_deadlines = sim_chance(30);
    uint32_t cancel_percent = sim_chance(40) ? sim_pick(40) : 0;
    uint32_t slow_percent = sim_chance(40) ? sim_pick(40) : 0;
    uint32_t wishes_left = sim_between(5, WISHES_MAX);
    for (uint32_t i = 0; i < r->client_count; i++) {
        uint32_t count = wishes_left / (r->client_count - i);
        wishes_left -= count;
        sim_wish wishes[WISHES_MAX];
        for (uint32_t j = 0; j < count; j++) {
            sim_draw_for(PURPOSE(CLIENT, i, j + 1));
            wishes[j] = draw_wish(r, with_deadlines, cancel_percent, slow_percent);
        }
        sim_draw_noise();
        r->clients[i] = sim_client_create(i, r->router_count, wishes, count, &r->ends);
        sim_client_start(r->clients[i]);
    }
}

static void draw_cluster(run *r)
{
    sim_draw_for(PURPOSE(NETWORK, 0, 0));
    uint32_t latency_us = sim_between(20, sim_chance(30) ? 80000 : 1000);
    uint32_t jitter_us = sim_pick(20000);
    sim_network_begin(latency_us, jitter_us, sim_between(2, 64) * 1024);
    sim_draw_for(PURPOSE(ROUTER, 0, 0));
    r->router_count = sim_chance(TWO_ROUTERS_PERCENT) ? 2 : 1;
    sim_draw_for(PURPOSE(CLUSTER, 0, 0));
    r->calm_us = world.now_us + for_us(12000) + 500000;
    r->worker_count = sim_between(1, NODES_MAX);
    r->client_count = sim_between(1, NODES_MAX);
    r->down_ms = sim_chance(50) ? 300 : 4000;
    uint32_t step_us = sim_between(500, 30000);
    draw_routers(r);
    draw_workers(r, step_us);
    draw_clients(r);
    sim_draw_for(PURPOSE(STRANGER, 0, 0));
    if (sim_chance(20)) {
        sim_draw_noise();
        r->stranger = sim_stranger_create(sim_pick(r->router_count));
        sim_after(NULL, r->calm_us - world.now_us, stranger_leaves, r);
    }
    draw_troubles(r);
    sim_draw_noise();
    sim_after(NULL, WATCH_US, watch, r);
}

/* -- judging
 * -------------------------------------------------------------------------------------------- */

static bool all_done(const run *r)
{
    for (uint32_t i = 0; i < r->client_count; i++)
        if (!sim_client_is_done(r->clients[i])) return false;
    return true;
}

static bool nothing_held(const run *r)
{
    for (uint32_t i = 0; i < r->router_count; i++)
        if (sim_router_core(r->routers[i]) != NULL &&
            core_request_count(sim_router_core(r->routers[i])) > 0)
            return false;
    for (uint32_t i = 0; i < r->worker_count; i++)
        if (!sim_worker_is_empty(r->workers[i])) return false;
    for (uint32_t i = 0; i < r->client_count; i++)
        if (!sim_client_is_empty(r->clients[i])) return false;
    return true;
}

static void run_until(const run *r, bool (*over)(const run *r), uint64_t limit_us, const char *what)
{
    uint64_t until_us = world.now_us + limit_us;
    while (!over(r)) {
        if (world.now_us < until_us && world.events < EVENTS_MAX) {
            CHECK(sim_step());
            continue;
        }
        for (uint32_t i = 0; i < r->client_count; i++)
            sim_client_dump(r->clients[i]);
        sim_fail("%s after %llu events", what, (unsigned long long)world.events);
    }
}

static void tear_down(run *r)
{
    sim_stranger_destroy(r->stranger);
    for (uint32_t i = 0; i < r->client_count; i++)
        sim_client_destroy(r->clients[i]);
    for (uint32_t i = 0; i < r->worker_count; i++)
        sim_worker_destroy(r->workers[i]);
    for (uint32_t i = 0; i < r->router_count; i++)
        sim_router_destroy(r->routers[i]);
    sim_network_end();
    sim_end();
}

static void add_totals(sim_totals *t, const run *r)
{
    t->runs++;
    t->cuts += sim_network_cuts();
    t->events += world.events;
    t->virtual_us += world.now_us;
    const sim_ends *e = &r->ends;
    t->ends.complete += e->complete;
    t->ends.cancelled += e->cancelled;
    t->ends.deadline += e->deadline;
    t->ends.slow += e->slow;
    t->ends.bad += e->bad;
    t->ends.lost += e->lost;
    t->ends.closed += e->closed;
    t->ends.gone += e->gone;
    t->ends.retries += e->retries;
    t->ends.tokens += e->tokens;
    t->ends.continuations += e->continuations;
}

static void run_all(run *r)
{
    sim_last_request = (id128){0};
    size_t before = sim_memory_live();
    draw_cluster(r);
    size_t started = sim_memory_live();
    sim_memory_reset_peak();
    run_until(r, all_done, LONGEST_US, "somebody waits for ever");
    run_until(r, nothing_held, SETTLED_US, "something is held for ever");
    for (uint32_t i = 0; i < r->router_count; i++)
        if (sim_router_core(r->routers[i]) != NULL) core_verify(sim_router_core(r->routers[i]));
    size_t bound = (r->router_count + r->worker_count + r->client_count) * BYTES_PER_PROCESS +
                   WISHES_MAX * BYTES_PER_WISH;
    size_t held = sim_memory_peak() - started;
    if (held > bound) sim_fail("%zu bytes were held; at most %zu are right", held, bound);
    if (held > r->totals->peak_bytes) r->totals->peak_bytes = held;
    tear_down(r);
    add_totals(r->totals, r);
    if (sim_memory_live() != before)
        sim_fail("%zd bytes were not given back", (ssize_t)(sim_memory_live() - before));
}

bool sim_run(uint64_t seed, bool verbose, sim_totals *totals)
{
    now = (run){.totals = totals};
    sim_begin(seed, verbose);
    if (setjmp(world.escape) != 0) return false; /* what the broken run held stays behind */
    run_all(&now);
    return true;
}
