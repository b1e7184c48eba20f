#include "worker/router_link.h"

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "worker/router_link_internal.h"

/* -- the engine's outputs -------------------------------------------------------------- */

static void on_outputs(uv_async_t *handle)
{
    router_link *l = handle->data;
    for (engine_batch *b; (b = engine_thread_take(l->engine)) != NULL;) {
        streams_take(l, b);
        engine_batch_destroy(b);
    }
    if (l->closing) return;
    peers_flush(l, true);
    engine_thread_state state = engine_thread_get_state(l->engine);
    if (!state.failed) return;
    /* The device or the model's numbers are broken: what was made is told, then we end. */
    log_error("engine stopped reason=\"%s\"", state.failure.text);
    l->why = state.failure;
    peers_flush(l, false);
    router_link_close(l, "the engine stopped");
}

/* Any thread. */
static void wake_loop(void *ctx)
{
    uv_async_send(&((router_link *)ctx)->outputs_ready);
}

/* -- start and end ---------------------------------------------------------------------- */

static void on_hub_closed(void *ctx)
{
    router_link *l = ctx;
    l->hub_closed = true;
    router_link_finish_closing(l);
}

/* The pool may still be at work for us after the hub is gone. */
void router_link_finish_closing(router_link *l)
{
    if (!l->hub_closed || l->preparing > 0 || l->resolving > 0) return;
    l->hub_closed = false;
    uv_close((uv_handle_t *)&l->outputs_ready, NULL);
    uv_close((uv_handle_t *)&l->timer, NULL);
    l->events.on_closed(l->events.ctx, &l->why);
}

void router_link_close(router_link *l, const char *reason)
{
    if (l->closing) return;
    l->closing = true;
    uv_timer_stop(&l->timer);
    peers_close(l, reason);
    session_hub_close(l->hub, on_hub_closed, l);
}

uint32_t router_link_lease_ms(const router_link *l)
{
    uint64_t now_ms = clock_now_ms();
    if (l->lease_end_ms == 0) return 0;
    return l->lease_end_ms > now_ms ? (uint32_t)(l->lease_end_ms - now_ms) : 1;
}

/* The lease's last part is for draining, and for saying goodbye. */
static void drain_before_lease_ends(router_link *l)
{
    if (l->lease_end_ms == 0 || l->draining || l->closing) return;
    uint32_t half_ms = l->options.lease_ms / 2;
    uint32_t limit_ms = l->options.drain_ms < half_ms ? l->options.drain_ms : half_ms;
    if (clock_now_ms() + limit_ms + LIMIT_LINGER_MS < l->lease_end_ms) return;
    log_info("the lease ends in_ms=%u", router_link_lease_ms(l));
    router_link_drain(l, limit_ms);
}

static void on_timer(uv_timer_t *timer)
{
    router_link *l = timer->data;
    peers_send_load(l);
    peers_redial(l);
    names_tick(l);
    streams_forget_orphans(l);
    drain_before_lease_ends(l);
    if (!l->draining) return;
    if (l->stream_count == 0 || clock_now_ms() >= l->drain_deadline_ms) {
        if (l->stream_count > 0) log_warn("drain time is over streams=%u", l->stream_count);
        router_link_close(l, "the worker is shutting down");
    }
}

void router_link_drain(router_link *l, uint32_t limit_ms)
{
    if (l->draining || l->closing) {
        router_link_close(l, "the worker is shutting down");
        return;
    }
    l->draining = true;
    l->drain_limit_ms = limit_ms;
    l->drain_deadline_ms = clock_now_ms() + limit_ms;
    log_info("draining streams=%u limit_ms=%u", l->stream_count, limit_ms);
    peers_send_drain(l);
    uv_timer_start(&l->timer, on_timer, 0, 20);
}

status router_link_start(router_link **out, uv_loop_t *loop, const router_link_options *options,
                         const router_link_events *events, error *err)
{
    router_link *l = mem_calloc(1, sizeof *l);
    l->loop = loop;
    l->options = *options;
    l->events = *events;
    l->worker_id = mem_strdup(options->worker_id);
    l->model_name = mem_strdup(options->model_name);
    l->device = mem_strdup(options->device);
    l->revision = mem_strdup(options->revision);
    l->numerics = mem_strdup(options->numerics);
    if (options->lease_ms > 0) l->lease_end_ms = clock_now_ms() + options->lease_ms;
    streams_create(l);
    CHECK(uv_async_init(loop, &l->outputs_ready, on_outputs) == 0);
    CHECK(uv_timer_init(loop, &l->timer) == 0);
    l->outputs_ready.data = l->timer.data = l;
    l->instance = id128_random();
    l->options.dial.name = l->worker_id;
    *out = l; /* from here on the caller closes it */

    status st = session_hub_create(&l->hub, loop, err);
    if (st != ST_OK) {
        uv_close((uv_handle_t *)&l->outputs_ready, NULL);
        uv_close((uv_handle_t *)&l->timer, NULL);
        return st;
    }
    engine_thread_options thread = options->engine;
    thread.wake = wake_loop;
    thread.wake_ctx = l;
    st = engine_thread_start(&l->engine, &thread, err);
    if (st != ST_OK) {
        router_link_close(l, "not started");
        return st;
    }
    st = names_start(l, err);
    if (st != ST_OK) {
        router_link_close(l, "not started");
        return st;
    }
    uv_timer_start(&l->timer, on_timer, LIMIT_LOAD_INTERVAL_MS, LIMIT_LOAD_INTERVAL_MS);
    return ST_OK;
}

router_link_health router_link_get_health(const router_link *l)
{
    router_link_health health = {.routers = l->peer_count,
                                 .streams = l->stream_count,
                                 .draining = l->draining || l->closing};
    for (uint32_t i = 0; i < l->peer_count; i++)
        health.registered += l->peers[i]->is_registered;
    uint64_t now_ms = clock_now_ms();
    uint64_t began_ms = engine_thread_get_state(l->engine).step_began_ms;
    if (began_ms != 0 && now_ms > began_ms) health.step_ms = (uint32_t)(now_ms - began_ms);
    return health;
}

void router_link_destroy(router_link *l)
{
    if (l == NULL) return;
    engine_thread_destroy(l->engine);
    streams_destroy(l);
    peers_destroy(l);
    names_destroy(l);
    mem_free(l->worker_id);
    mem_free(l->model_name);
    mem_free(l->device);
    mem_free(l->revision);
    mem_free(l->numerics);
    mem_free(l);
}
