/* What befalls a cluster. Troubles are drawn as a swarm: each kind is in a run or not, so that rare
 * ones also meet alone. They end at a drawn time. */
#include "tests/sim/sim_run.h"

static sim_process *any_process(const run *r)
{
    uint32_t all = r->router_count + r->worker_count + r->client_count;
    uint32_t which = sim_pick(all);
    if (which < r->router_count) return sim_router_process(r->routers[which]);
    which -= r->router_count;
    if (which < r->worker_count) return sim_worker_process(r->workers[which]);
    return sim_client_process(r->clients[which - r->worker_count]);
}

uint64_t sim_for_us(uint32_t most_ms)
{
    return (uint64_t)sim_between(1, most_ms) * 1000;
}

/* Often twice; sometimes one that there is not. */
static void admin_drains(run *r, sim_client *admin)
{
    uint32_t worker = sim_chance(15) ? SIM_NOBODY : sim_pick(r->worker_count);
    uint32_t limit_ms = sim_chance(40) ? 0 : (uint32_t)(sim_for_us(5000) / 1000);
    sim_client_drain(admin, worker, limit_ms);
    if (sim_chance(30)) sim_client_drain(admin, worker, limit_ms);
    if (sim_chance(30)) sim_client_drain(admin, SIM_NOBODY, limit_ms);
    r->totals->drains++;
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
        sim_network_stall(p, sim_for_us(sim_chance(70) ? 900 : 5000));
        break;
    case TROUBLE_PART:
        sim_network_part(p, sim_for_us(sim_chance(50) ? 2000 : 12000));
        break;
    case TROUBLE_FREEZE:
        if (p->dead) break;
        sim_freeze(p, sim_for_us(sim_chance(50) ? 800 : 6000));
        r->totals->freezes++;
        break;
    case TROUBLE_LEAP:
        if (p->dead) break;
        sim_leap(p, sim_for_us(sim_chance(50) ? 3000 : 90000));
        r->totals->leaps++;
        break;
    case TROUBLE_KILL_WORKER:
        sim_worker_kill(w, sim_chance(30));
        r->totals->kills++;
        break;
    case TROUBLE_DRAIN_WORKER:
        sim_worker_drain(w, (uint32_t)(sim_for_us(5000) / 1000));
        r->totals->drains++;
        break;
    case TROUBLE_BREAK_DEVICE:
        if (sim_worker_engine(w) != NULL) sim_engine_break(sim_worker_engine(w));
        break;
    case TROUBLE_HANG_ENGINE:
        if (sim_worker_engine(w) != NULL) sim_engine_hang(sim_worker_engine(w), sim_for_us(8000));
        break;
    case TROUBLE_KILL_ROUTER:
        sim_router_kill(router, sim_chance(30));
        r->totals->kills++;
        break;
    case TROUBLE_DRAIN_ROUTER:
        sim_router_drain(router, (uint32_t)(sim_for_us(5000) / 1000));
        r->totals->drains++;
        break;
    case TROUBLE_FAIL_REQUESTS:
        if (sim_worker_engine(w) == NULL) break;
        sim_engine_fail(sim_worker_engine(w), sim_for_us(3000));
        r->totals->faults++;
        break;
    case TROUBLE_ADMIN_DRAINS:
        admin_drains(r, client);
        break;
    case TROUBLE_CLIENT_LEAVES:
        sim_client_leave(client);
        break;
    default:
        sim_client_kill(client, sim_chance(30));
        r->totals->kills++;
    }
}

static void trouble_comes(void *ctx)
{
    trouble *t = ctx;
    if (world.now_us >= t->run->calm_us) return;
    sim_draw_for(PURPOSE(TROUBLE, t->kind, ++t->count));
    sim_after(NULL, sim_for_us(2 * t->pause_ms), trouble_comes, t);
    strike(t->run, t->kind);
}

/* Of these kinds, in this run. */
static uint32_t pauses(const run *r, trouble_kind from, trouble_kind below)
{
    uint32_t sum = 0;
    for (uint32_t kind = from; kind < below; kind++)
        sum += r->troubles[kind].pause_ms;
    return sum;
}

void sim_draw_troubles(run *r)
{
    sim_draw_for(PURPOSE(TROUBLE, TROUBLE_ANY, 0));
    bool peaceful = sim_chance(8);
    uint32_t kinds = r->features.any ? TROUBLE_KINDS : TROUBLE_ANY;
    for (uint32_t kind = 0; kind < kinds; kind++) {
        trouble *t = &r->troubles[kind];
        *t = (trouble){.run = r, .kind = (trouble_kind)kind};
        sim_draw_for(PURPOSE(TROUBLE, kind, 0));
        if (kind < TROUBLE_ANY && r->features.quiet) continue;
        if (kind == TROUBLE_ANY || peaceful || !sim_chance(28)) continue;
        t->pause_ms = sim_between(200, 5000);
        sim_after(NULL, sim_for_us(2 * t->pause_ms), trouble_comes, t);
    }
    const trouble *t = r->troubles;
    bool any = pauses(r, 0, TROUBLE_KINDS) > 0;
    /* What is about to end in time, and what fails by itself, loses nothing. */
    bool loses = pauses(r, 0, TROUBLE_ANY) + t[TROUBLE_ADMIN_DRAINS].pause_ms > 0 ||
                 r->features.short_leases;
    sim_allowed = (sim_rules){
        .lost = loses && r->core.continuations_max < SIM_MANY_WORKERS,
        .continued = any || r->features.leases,
        .early_deadline = t[TROUBLE_LEAP].pause_ms > 0,
        .adopted = r->router_count > 1 ||
                   t[TROUBLE_KILL_ROUTER].pause_ms + t[TROUBLE_DRAIN_ROUTER].pause_ms > 0,
        .handed_over = !loses && r->features.leases,
        .punctual = !any && !r->features.leases,
    };
}
