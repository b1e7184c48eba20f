/* A router process: the real core, joined to real sessions as router/main.c does it. */
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/link.h"
#include "common/log.h"
#include "proto/session.h"
#include "router/core.h"
#include "tests/sim/sim.h"

enum { VERIFY_EVERY = 32 };

struct sim_router {
    sim_process process;
    uint32_t number;
    core_options options;
    core *core; /* NULL: down */
    session_hub *hub;
    id128 instance;
    uv_timer_t tick;
    uint64_t drain_deadline_ms;
    bool stopping;
    uint32_t turns;
};

/* One answer on its way to one client over one link: what the router may send next. */
typedef struct told {
    uint32_t stream;
    bool known; /* `next` is: after an Accepted it is not until tokens come */
    bool over;  /* Finish or Error was sent */
    uint32_t next;
} told;

typedef struct peer {
    sim_router *router;
    session *session;
    core_link *link;
    role role;
    uint32_t tenant;
    id128 instance;
    buffer told; /* of told */
} peer;

static told *told_find(peer *p, uint32_t stream)
{
    told *all = (told *)(void *)p->told.data;
    for (size_t i = p->told.size / sizeof *all; i-- > 0;)
        if (all[i].stream == stream) return &all[i];
    return NULL;
}

/* What ended may begin, or be refused, once more. */
static void asks_again(peer *p, uint32_t stream)
{
    told *t = told_find(p, stream);
    if (t != NULL) t->over = false;
}

static status on_hello(void *ctx, session *s, const msg_hello *hello, msg_welcome *welcome,
                       void **session_ctx, error *err)
{
    (void)err;
    sim_router *r = ctx;
    peer *p = mem_calloc(1, sizeof *p);
    *p = (peer){.router = r, .session = s, .role = hello->role, .instance = hello->instance};
    p->tenant = hello->token.size > 0; /* strangers are another one */
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
    p->link = core_link_up(p->router->core, p, p->role, p->tenant, p->tenant + 1, &p->instance,
                           session_peer_name(s), clock_now_ms());
}

static void on_envelope(void *ctx, session *s, const envelope *e, const error *refused)
{
    (void)s;
    peer *p = ctx;
    if (p->router->core == NULL) return;
    if (e->kind == ENVELOPE_SUBMIT) asks_again(p, e->submit.stream);
    for (size_t i = 0; e->kind == ENVELOPE_RESUME && i < e->resume.count; i++)
        asks_again(p, e->resume.stream[i]);
    core_envelope(p->router->core, p->link, e, refused, clock_now_ms());
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
    if (p->link != NULL && p->router->core != NULL)
        core_link_down(p->router->core, p->link, why->code == ST_CANCELLED, clock_now_ms());
    buffer_free(&p->told);
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

/* A client could mend a gap or a repeat by itself, so it is seen here or nowhere: on one link each
 * answer's tokens go on where they stopped, unless the client asked for them again; and its end
 * comes once, behind them. */
static void watch_client(peer *p, const envelope *e)
{
    told *t;
    switch (e->kind) {
    case ENVELOPE_ACCEPTED:
        if ((t = told_find(p, e->accepted.stream)) == NULL) {
            told fresh = {.stream = e->accepted.stream};
            buffer_append(&p->told, &fresh, sizeof fresh);
        } else {
            *t = (told){.stream = e->accepted.stream};
        }
        break;
    case ENVELOPE_TOKENS:
        for (size_t i = 0; i < e->tokens.groups; i++) {
            t = told_find(p, e->tokens.stream[i]);
            CHECK(t != NULL && !t->over);
            if (t->known && e->tokens.first_index[i] != t->next)
                sim_fail("the router sends token %u of stream %x where %u is due",
                         e->tokens.first_index[i], t->stream, t->next);
            t->known = true;
            t->next = e->tokens.first_index[i] + e->tokens.count[i];
        }
        break;
    case ENVELOPE_FINISH:
        t = told_find(p, e->finish.stream);
        CHECK(t != NULL && !t->over && (!t->known || t->next == e->finish.total));
        t->over = true;
        break;
    case ENVELOPE_ERROR:
        if ((t = told_find(p, e->error.stream)) == NULL) break; /* refused before it was accepted */
        CHECK(!t->over);
        t->over = true;
        break;
    default:
        break;
    }
}

static void io_send(void *ctx, void *handle, const envelope *e)
{
    (void)ctx;
    peer *p = handle;
    /* The core rejects a peer that breaks the rules: ours never do. */
    CHECK(e->kind != ENVELOPE_ERROR || !e->error.fatal);
    if (p->role == ROLE_CLIENT && p->tenant == 0) watch_client(p, e);
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

static void on_turn(void *ctx)
{
    sim_router *r = ctx;
    if (r->core == NULL) return;
    core_flush(r->core);
    if (++r->turns % VERIFY_EVERY == 0) core_verify(r->core);
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

sim_router *sim_router_create(uint32_t number, const core_options *options)
{
    sim_router *r = mem_calloc(1, sizeof *r);
    char name[16];
    snprintf(name, sizeof name, "router%u", number % 100);
    sim_process_init(&r->process, name, on_turn, r);
    r->number = number;
    r->options = *options;
    return r;
}

void sim_router_destroy(sim_router *r)
{
    if (r == NULL) return;
    sim_router_kill(r, false);
    mem_free(r);
}
