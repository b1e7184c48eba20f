/* A worker process: the real router_link and its streams, on an engine that is played. */
#include <stdio.h>

#include "common/check.h"
#include "tests/sim/sim.h"
#include "worker/router_link_internal.h"

enum { URLS_MAX = 4 };

struct sim_worker {
    sim_process process;
    uint32_t number, routers;
    sim_worker_options options;
    router_link *link;    /* NULL: down */
    sim_event *lease_end; /* NULL: none is set */
};

/* The process ends. */
static void gone(void *ctx)
{
    sim_worker *w = ctx;
    sim_cancel(w->lease_end);
    w->lease_end = NULL;
    router_link_destroy(w->link);
    w->link = NULL;
    w->process.dead = true;
}

static void on_closed(void *ctx, const error *why)
{
    sim_worker *w = ctx;
    sim_trace("worker ends: %s", why->text);
    sim_after(&w->process, 0, gone, w);
}

static void on_registered(void *ctx)
{
    (void)ctx;
}

/* Whoever lent the machine takes it back, ready or not. */
static void lease_ends(void *ctx)
{
    sim_worker *w = ctx;
    w->lease_end = NULL;
    sim_worker_kill(w, sim_chance(50));
}

void sim_worker_start(sim_worker *w)
{
    CHECK(w->link == NULL);
    sim_process *previous = sim_enter(&w->process);
    sim_trace("worker starts");
    w->process.dead = false;
    char text[URLS_MAX][64];
    const char *urls[URLS_MAX];
    for (uint32_t i = 0; i < w->routers; i++) {
        snprintf(text[i], sizeof text[i], SIM_WORKER_URL, (w->number + i) % w->routers);
        urls[i] = text[i];
    }
    char id[16];
    snprintf(id, sizeof id, SIM_WORKER_ID, w->number);
    const sim_device *device = &w->options.device;
    sim_engine_next_device(device);
    uint32_t lease_ms = world.now_us < w->options.calm_us ? w->options.lease_ms : 0;
    if (lease_ms > 0) w->lease_end = sim_after(NULL, (uint64_t)lease_ms * 1000, lease_ends, w);
    const router_link_options options = {
        .dial = {.urls = urls, .url_count = w->routers},
        .worker_id = id,
        .model_name = "model",
        .device = "simulated",
        .revision = "revision",
        .numerics = sim_parts_numerics(device->maker),
        .slots = device->slots,
        .kv_blocks = 100,
        .lease_ms = lease_ms,
        .drain_ms = w->options.drain_ms,
        .request = {.context_max = SIM_CONTEXT_TOKENS},
    };
    const router_link_events events = {
        .on_registered = on_registered, .on_closed = on_closed, .ctx = w};
    error err;
    CHECK(router_link_start(&w->link, &w->process.loop, &options, &events, &err) == ST_OK);
    sim_enter(previous);
}

void sim_worker_kill(sim_worker *w, bool silently)
{
    if (w->link == NULL) return;
    sim_process *previous = sim_enter(&w->process);
    sim_trace("worker is killed%s", silently ? " with its machine" : "");
    w->process.dead = true;
    sim_network_kill(&w->process, silently);
    router_link_drain(w->link, 0);
    router_link_drain(w->link, 0);
    sim_run_out(&w->process);
    CHECK(w->link == NULL);
    sim_enter(previous);
}

void sim_worker_drain(sim_worker *w, uint32_t limit_ms)
{
    if (w->link == NULL || w->link->draining) return;
    sim_process *previous = sim_enter(&w->process);
    sim_trace("worker drains for %u ms", limit_ms);
    router_link_drain(w->link, limit_ms);
    sim_enter(previous);
}

bool sim_worker_is_up(const sim_worker *w)
{
    return w->link != NULL;
}

bool sim_worker_is_empty(const sim_worker *w)
{
    const router_link *l = w->link;
    return l == NULL ||
           (l->stream_count == 0 && l->preparing == 0 && sim_engine_requests(l->engine) == 0);
}

sim_process *sim_worker_process(sim_worker *w)
{
    return &w->process;
}

struct engine_thread *sim_worker_engine(const sim_worker *w)
{
    return w->link != NULL ? w->link->engine : NULL;
}

const id128 *sim_worker_instance(const sim_worker *w)
{
    return w->link != NULL ? &w->link->instance : NULL;
}

sim_worker *sim_worker_create(uint32_t number, uint32_t routers, const sim_worker_options *options)
{
    CHECK(routers <= URLS_MAX);
    sim_worker *w = mem_calloc(1, sizeof *w);
    char name[16];
    snprintf(name, sizeof name, "worker%u", number % 100);
    sim_process_init(&w->process, name, NULL, NULL);
    w->number = number;
    w->routers = routers;
    w->options = *options;
    return w;
}

void sim_worker_destroy(sim_worker *w)
{
    if (w == NULL) return;
    sim_worker_kill(w, false);
    mem_free(w);
}
