/* One run, and the judgement. When the troubles are over everything must come to its end by itself.
 */
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "proto/envelope.h"
#include "tests/sim/sim_run.h"

enum {
    WATCH_US = 100000,
    EVENTS_MAX = 3000000,
    BYTES_PER_PROCESS = 128 * 1024, /* buffers; the tables are there from the start */
    BYTES_PER_WISH = 16 * 1024,
};
/* Besides the answers, of virtual time, and a request still waits. */
static const uint64_t LONGEST_US = 900000000;
static const uint64_t SETTLED_US = 120000000; /* all have ended, and something is still held */

sim_rules sim_allowed;

static run now; /* the one that is going on */

uint32_t sim_credit_end(const sim_question *q)
{
    uint32_t end = UINT32_MAX;
    for (uint32_t i = 0; i < now.client_count && end == UINT32_MAX; i++)
        if (now.clients[i] != NULL) end = sim_client_credit_end(now.clients[i], q);
    return end;
}

/* -- who is down comes back -----------------------------------------------------------------------
 */

static bool due(run *r, uint64_t *revive_us)
{
    if (*revive_us == 0) *revive_us = world.now_us + sim_for_us(r->down_ms);
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

/* -- judging
 * -------------------------------------------------------------------------------------------- */

static bool all_done(const run *r)
{
    for (uint32_t i = 0; i < r->client_count; i++)
        if (!sim_client_is_done(r->clients[i])) return false;
    return true;
}

/* A router has told it to drain. */
static bool is_to_end(const run *r, const sim_worker *w)
{
    const id128 *instance = sim_worker_instance(w);
    for (uint32_t i = 0; instance != NULL && i < r->router_count; i++)
        if (sim_router_drained(r->routers[i], instance)) return true;
    return false;
}

static bool nothing_held(const run *r)
{
    for (uint32_t i = 0; i < r->router_count; i++)
        if (sim_router_core(r->routers[i]) != NULL &&
            core_request_count(sim_router_core(r->routers[i])) > 0)
            return false;
    for (uint32_t i = 0; i < r->worker_count; i++)
        if (!sim_worker_is_empty(r->workers[i]) || is_to_end(r, r->workers[i])) return false;
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
    t->ends.turned_away += e->turned_away;
    t->ends.failed += e->failed;
    t->ends.approximate += e->approximate;
}

static void run_all(run *r)
{
    sim_last_request = (id128){0};
    sim_engine_failed = 0;
    sim_parts_begin();
    size_t before = sim_memory_live();
    sim_draw_cluster(r);
    sim_after(NULL, WATCH_US, watch, r);
    size_t started = sim_memory_live();
    sim_memory_reset_peak();
    run_until(r, all_done, LONGEST_US + r->work_us, "somebody waits for ever");
    run_until(r, nothing_held, SETTLED_US, "something is held for ever");
    for (uint32_t i = 0; i < r->router_count; i++)
        if (sim_router_core(r->routers[i]) != NULL) sim_router_verify(r->routers[i]);
    size_t bound = (r->router_count + r->worker_count + r->client_count) * BYTES_PER_PROCESS +
                   SIM_WISHES_MAX * BYTES_PER_WISH;
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
