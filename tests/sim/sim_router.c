/* A router process: the real core, joined to real sessions as router/main.c does it. */
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/link.h"
#include "common/log.h"
#include "proto/session.h"
#include "tests/sim/sim_watch.h"

enum { VERIFY_EVERY = 32 };

struct sim_router {
    sim_process process;
    uint32_t number;
    core_options options;
    const tenant_limits *limits; /* NULL: none */
    core *core;                  /* NULL: down */
    sim_watch watch;
    session_hub *hub;
    id128 instance;
    uv_timer_t tick;
    uint64_t drain_deadline_ms;
    bool stopping;
    uint32_t turns;
};

typedef struct peer {
    sim_router *router;
    session *session;
    core_link *link;
    sim_watched watched;
} peer;

static uint32_t tenant_of(text_view token)
{
    if (token.size == 0) return 0;
    if (text_equal(token, text_of(SIM_STRANGER_TOKEN))) return SIM_TENANT_STRANGER;
    return (uint32_t)(token.data[token.size - 1] - '0'); /* SIM_TENANT_TOKEN */
}

static status on_hello(void *ctx, session *s, const msg_hello *hello, msg_welcome *welcome,
                       void **session_ctx, error *err)
{
    (void)err;
    sim_router *r = ctx;
    peer *p = mem_calloc(1, sizeof *p);
    *p = (peer){.router = r, .session = s};
    p->watched = (sim_watched){.watch = &r->watch,
                               .role = hello->role,
                               .tenant = tenant_of(hello->token),
                               .instance = hello->instance};
    *session_ctx = p;
    welcome->router_instance = r->instance;
    welcome->window_default = LIMIT_WINDOW_TOKENS_DEFAULT;
    welcome->streams_max = LIMIT_STREAMS_PER_LINK;
    return ST_OK;
}

static void on_up(void *ctx, session *s, const msg_welcome *welcome)
{
    (void)welcome;
    peer *p = ctx;
    if (p->router->core == NULL) return;
    log_info("peer=%s connected", session_peer_name(s));
    const sim_watched *w = &p->watched;
    const core_tenant whose = {
        .number = w->tenant, .owner = w->tenant + 1, .cache_salt = {{(uint8_t)(w->tenant + 1)}}};
    p->link = core_link_up(p->router->core, p, w->role, &whose, &w->instance, session_peer_name(s),
                           clock_now_ms());
}

static void on_envelope(void *ctx, session *s, const envelope *e, const error *refused)
{
    (void)s;
    peer *p = ctx;
    if (p->router->core == NULL) return;
    sim_watch_before(&p->watched, p->link, e);
    core_envelope(p->router->core, p->link, e, refused, clock_now_ms());
    sim_watch_after(&p->watched, p->link, e);
}

static void on_idle(void *ctx, session *s)
{
    (void)s;
    peer *p = ctx;
    if (p->router->core != NULL) core_flush(p->router->core);
}

static void on_down(void *ctx, session *s, const error *why)
{
    peer *p = ctx;
    log_info("peer=%s disconnected reason=\"%s\"", session_peer_name(s), why->text);
    if (p->link != NULL && p->router->core != NULL) {
        const worker *lost = p->link->worker;
        sim_watch_loses(&p->watched, p->link);
        core_link_down(p->router->core, p->link, why->code == ST_CANCELLED, clock_now_ms());
        sim_watch_lost(&p->router->watch, lost);
    }
    sim_watched_free(&p->watched);
    mem_free(p);
}

static const session_handlers handlers = {
    .on_hello = on_hello,
    .on_up = on_up,
    .on_envelope = on_envelope,
    .on_idle = on_idle,
    .on_down = on_down,
};

/* -- what the core says --------------------------------------------------------------------- */

static void io_send(void *ctx, void *handle, const envelope *e)
{
    (void)ctx;
    peer *p = handle;
    sim_watch_says(&p->watched, p->link, e);
    session_send(p->session, e);
}

static bool io_is_idle(void *ctx, void *handle)
{
    (void)ctx;
    return session_is_idle(((peer *)handle)->session);
}

static void io_close(void *ctx, void *handle, const char *reason)
{
    (void)ctx;
    session_close(((peer *)handle)->session, reason);
}

/* -- the process ------------------------------------------------------------------------------- */

void sim_router_verify(const sim_router *r)
{
    core_verify(r->core);
    sim_watch_verify(&r->watch);
}

static void on_turn(void *ctx)
{
    sim_router *r = ctx;
    if (r->core == NULL) return;
    core_flush(r->core);
    if (++r->turns % VERIFY_EVERY == 0) sim_router_verify(r);
}

static void on_hub_closed(void *ctx)
{
    sim_router *r = ctx;
    uv_close((uv_handle_t *)&r->tick, NULL);
    r->hub = NULL;
    core_destroy(r->core);
    r->core = NULL;
}

static void stop(sim_router *r)
{
    if (r->stopping) return;
    r->stopping = true;
    session_hub_close(r->hub, on_hub_closed, r);
}

static void on_tick(uv_timer_t *timer)
{
    sim_router *r = timer->data;
    if (r->stopping || r->core == NULL) return;
    uv_timer_start(timer, on_tick, link_until_tick_ms(&r->process.loop), 0);
    core_tick(r->core, clock_now_ms());
    if (r->drain_deadline_ms == 0) return;
    if (core_waited_for(r->core) == 0 || clock_now_ms() >= r->drain_deadline_ms) stop(r);
}

/* As of a keys file. */
static void set_limits(const sim_router *r)
{
    if (r->limits == NULL) return;
    for (uint32_t i = 0; i < SIM_TENANTS; i++)
        core_set_tenant(r->core, i + 1, &r->limits[i], clock_now_ms());
    core_tenants_changed(r->core);
}

void sim_router_start(sim_router *r)
{
    CHECK(r->hub == NULL);
    sim_process *previous = sim_enter(&r->process);
    r->process.dead = r->stopping = false;
    r->drain_deadline_ms = 0;
    sim_trace("router starts");
    uint64_t halves[2] = {sim_random(), sim_random()};
    memcpy(r->instance.bytes, halves, sizeof halves);
    const core_io io = {.send = io_send, .is_idle = io_is_idle, .close = io_close, .ctx = r};
    r->options.seed = sim_random();
    r->core = core_create(&r->options, &io, clock_now_ms());
    r->watch = (sim_watch){.core = r->core, .limits = r->limits};
    set_limits(r);
    error err;
    CHECK(session_hub_create(&r->hub, &r->process.loop, &err) == ST_OK);
    session_listener *listener;
    char url[64];
    snprintf(url, sizeof url, SIM_CLIENT_URL, r->number);
    CHECK(session_listen(&listener, r->hub, url, NULL, &handlers, r, &err) == ST_OK);
    snprintf(url, sizeof url, SIM_WORKER_URL, r->number);
    CHECK(session_listen(&listener, r->hub, url, NULL, &handlers, r, &err) == ST_OK);
    uv_timer_init(&r->process.loop, &r->tick);
    r->tick.data = r;
    uv_timer_start(&r->tick, on_tick, link_until_tick_ms(&r->process.loop), 0);
    sim_enter(previous);
}

void sim_router_kill(sim_router *r, bool silently)
{
    if (r->hub == NULL) return;
    sim_process *previous = sim_enter(&r->process);
    sim_trace("router is killed%s", silently ? " with its machine" : "");
    r->process.dead = true;
    sim_network_kill(&r->process, silently);
    core_destroy(r->core);
    r->core = NULL;
    stop(r);
    sim_run_out(&r->process);
    CHECK(r->hub == NULL);
    sim_enter(previous);
}

void sim_router_drain(sim_router *r, uint32_t limit_ms)
{
    if (r->core == NULL || r->drain_deadline_ms != 0) return;
    sim_process *previous = sim_enter(&r->process);
    sim_trace("router drains for %u ms", limit_ms);
    r->drain_deadline_ms = clock_now_ms() + limit_ms;
    core_drain(r->core, "the router is shutting down");
    sim_enter(previous);
}

bool sim_router_is_up(const sim_router *r)
{
    return r->hub != NULL;
}

sim_process *sim_router_process(sim_router *r)
{
    return &r->process;
}

struct core *sim_router_core(const sim_router *r)
{
    return r->core;
}

bool sim_router_drained(const sim_router *r, const id128 *worker_instance)
{
    /* A worker that it forgot meanwhile is a new one when it comes back. */
    if (r->core == NULL || core_read_metrics(r->core)->workers_lost > 0) return false;
    for (uint32_t i = 0; i < r->watch.drained_count; i++)
        if (id128_equal(&r->watch.drained[i], worker_instance)) return true;
    return false;
}

sim_router *sim_router_create(uint32_t number, const core_options *options,
                              const tenant_limits *limits)
{
    sim_router *r = mem_calloc(1, sizeof *r);
    char name[16];
    snprintf(name, sizeof name, "router%u", number % 100);
    sim_process_init(&r->process, name, on_turn, r);
    r->number = number;
    r->options = *options;
    r->limits = limits;
    return r;
}

void sim_router_destroy(sim_router *r)
{
    if (r == NULL) return;
    sim_router_kill(r, false);
    sim_run_out(&r->process); /* one that has ended may just have been dialled */
    mem_free(r);
}
