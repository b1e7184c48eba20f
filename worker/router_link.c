#include "worker/router_link.h"

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "worker/router_link_internal.h"

static void close_link(router_link *l, const char *reason);

/* -- the engine's outputs -------------------------------------------------------------- */

static void on_outputs(uv_async_t *handle)
{
    router_link *l = handle->data;
    for (engine_batch *b; (b = engine_thread_take(l->engine)) != NULL;) {
        streams_take(l, b);
        engine_batch_destroy(b);
    }
    if (l->closing) return;
    if (session_is_idle(l->session)) streams_flush(l);
    engine_thread_state state = engine_thread_get_state(l->engine);
    if (!state.failed) return;
    /* The device or the model's numbers are broken: what was made is told, then we end. */
    log_error("engine stopped reason=\"%s\"", state.failure.text);
    l->why = state.failure;
    streams_flush(l);
    close_link(l, "the engine stopped");
}

/* Any thread. */
static void wake_loop(void *ctx)
{
    uv_async_send(&((router_link *)ctx)->outputs_ready);
}

/* -- the session ----------------------------------------------------------------------- */

static uint32_t age_ms(uint64_t since_us)
{
    uint64_t now_us = clock_now_ns() / 1000;
    if (since_us == 0 || since_us >= now_us) return 0;
    uint64_t ms = (now_us - since_us) / 1000;
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

static void send_load(router_link *l)
{
    engine_thread_state state = engine_thread_get_state(l->engine);
    const engine_stats *stats = &state.engine;
    envelope e = {.kind = ENVELOPE_LOAD};
    e.load = (msg_load){.running = stats->running,
                        .waiting = stats->waiting + l->preparing,
                        .kv_blocks_free = stats->kv_blocks_free,
                        .step_us = state.step_us,
                        .prompt_tokens = stats->prompt_tokens,
                        .cached_tokens = stats->cached_tokens,
                        .output_tokens = stats->output_tokens,
                        .preemptions = stats->preemptions,
                        .prefill_rate = state.prefill_rate,
                        .decode_rate = state.decode_rate,
                        .cache_age_ms = age_ms(stats->cache_oldest_us)};
    session_send(l->session, &e);
}

static void send_drain(router_link *l)
{
    uint64_t now_ms = clock_now_ms();
    uint64_t left_ms = l->drain_deadline_ms > now_ms ? l->drain_deadline_ms - now_ms : 1;
    envelope e = {.kind = ENVELOPE_DRAIN};
    bool limited = l->drain_limit_ms != UINT32_MAX;
    e.drain = (msg_drain){.deadline_ms = limited ? (uint32_t)left_ms : 0,
                          .reason = text_of("the worker is stopping")};
    session_send(l->session, &e);
}

/* What is left of the lease; 0 where none ends. */
static uint32_t lease_left_ms(const router_link *l)
{
    uint64_t now_ms = clock_now_ms();
    if (l->lease_end_ms == 0) return 0;
    return l->lease_end_ms > now_ms ? (uint32_t)(l->lease_end_ms - now_ms) : 1;
}

static void on_up(void *ctx, session *dialler, const msg_welcome *welcome)
{
    (void)dialler;
    router_link *l = ctx;
    l->down_since_ms = 0;
    l->router = welcome->router_instance;
    arena scratch = {0};
    msg_model offered = {.name = text_of(l->model_name),
                         .revision = text_of(l->revision),
                         .context_max = l->options.request.context_max};
    envelope e = {.kind = ENVELOPE_REGISTER};
    e.reg = (msg_register){.worker_id = text_of(l->worker_id),
                           .device = text_of(l->device),
                           .models = &offered,
                           .model_count = 1,
                           .slots = l->options.slots,
                           .kv_blocks = l->options.kv_blocks,
                           .kv_block_tokens = LIMIT_KV_BLOCK_TOKENS,
                           .live = streams_live(l, &scratch),
                           .live_count = l->stream_count,
                           .lease_ms = lease_left_ms(l),
                           .numerics = text_of(l->numerics)};
    session_send(l->session, &e);
    send_load(l);
    if (l->draining) send_drain(l);
    arena_free(&scratch);
}

static void on_envelope(void *ctx, session *dialler, const envelope *e, const error *refused)
{
    (void)dialler;
    router_link *l = ctx;
    if (refused != NULL) {
        streams_refuse(l, &e->submit, refused->code, refused->text);
        return;
    }
    switch (e->kind) {
    case ENVELOPE_SUBMIT:
        streams_submit(l, &e->submit);
        break;
    case ENVELOPE_ACK:
        streams_acknowledge(l, &e->ack);
        break;
    case ENVELOPE_CANCEL:
        streams_cancel(l, &e->cancel);
        break;
    case ENVELOPE_RESUME:
        streams_resume(l, &e->resume);
        break;
    case ENVELOPE_ADOPT:
        streams_adopt(l, &e->adopt);
        l->events.on_registered(l->events.ctx);
        break;
    case ENVELOPE_DRAIN:
        if (e->drain.worker_id.size == 0)
            log_info("the router is draining");
        else if (!l->draining)
            router_link_drain(l, e->drain.deadline_ms > 0 ? e->drain.deadline_ms : UINT32_MAX);
        break;
    case ENVELOPE_ERROR:
        log_warn("router says code=%s text=\"%.*s\"", status_name(e->error.code),
                 (int)e->error.text.size, e->error.text.data);
        break;
    default:
        log_warn("unexpected %s from the router", envelope_kind_name(e->kind));
    }
    if (session_is_idle(l->session)) streams_flush(l);
}

static void on_idle(void *ctx, session *dialler)
{
    (void)dialler;
    streams_flush(ctx);
}

static void on_down(void *ctx, session *dialler, const error *why)
{
    (void)dialler;
    router_link *l = ctx;
    if (l->down_since_ms == 0) {
        l->down_since_ms = clock_now_ms();
        log_warn("router lost streams=%u reason=\"%s\"", l->stream_count, why->text);
    }
    streams_link_down(l);
}

static void on_session_closed(void *ctx, session *dialler, const error *why)
{
    (void)dialler;
    router_link *l = ctx;
    l->session = NULL;
    if (l->why.code == ST_OK && !l->closing) l->why = *why;
    close_link(l, "closed");
}

static const session_handlers handlers = {
    .on_up = on_up,
    .on_envelope = on_envelope,
    .on_idle = on_idle,
    .on_down = on_down,
    .on_closed = on_session_closed,
};

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
    if (!l->hub_closed || l->preparing > 0) return;
    l->hub_closed = false;
    uv_close((uv_handle_t *)&l->outputs_ready, NULL);
    uv_close((uv_handle_t *)&l->timer, NULL);
    l->events.on_closed(l->events.ctx, &l->why);
}

static void close_link(router_link *l, const char *reason)
{
    if (l->closing) return;
    l->closing = true;
    uv_timer_stop(&l->timer);
    if (l->session != NULL) session_close(l->session, reason);
    session_hub_close(l->hub, on_hub_closed, l);
}

/* A router that stays away: its clients have given up, and the streams hold KV blocks. */
static void forget_orphans(router_link *l)
{
    if (l->down_since_ms == 0 || clock_now_ms() - l->down_since_ms < LIMIT_ORPHAN_MS) return;
    if (l->stream_count > 0) log_warn("router away too long forgotten=%u", l->stream_count);
    streams_forget_all(l);
}

/* The lease's last part is for draining, and for saying goodbye. */
static void drain_before_lease_ends(router_link *l)
{
    if (l->lease_end_ms == 0 || l->draining || l->closing) return;
    uint32_t half_ms = l->options.lease_ms / 2;
    uint32_t limit_ms = l->options.drain_ms < half_ms ? l->options.drain_ms : half_ms;
    if (clock_now_ms() + limit_ms + LIMIT_LINGER_MS < l->lease_end_ms) return;
    log_info("the lease ends in_ms=%u", lease_left_ms(l));
    router_link_drain(l, limit_ms);
}

static void on_timer(uv_timer_t *timer)
{
    router_link *l = timer->data;
    if (l->session != NULL && session_is_up(l->session)) send_load(l);
    forget_orphans(l);
    drain_before_lease_ends(l);
    if (!l->draining) return;
    if (l->stream_count == 0 || clock_now_ms() >= l->drain_deadline_ms) {
        if (l->stream_count > 0) log_warn("drain time is over streams=%u", l->stream_count);
        close_link(l, "the worker is shutting down");
    }
}

void router_link_drain(router_link *l, uint32_t limit_ms)
{
    if (l->draining || l->session == NULL) {
        close_link(l, "the worker is shutting down");
        return;
    }
    l->draining = true;
    l->drain_limit_ms = limit_ms;
    l->drain_deadline_ms = clock_now_ms() + limit_ms;
    log_info("draining streams=%u limit_ms=%u", l->stream_count, limit_ms);
    if (session_is_up(l->session)) send_drain(l);
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
    l->down_since_ms = clock_now_ms();
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
        close_link(l, "not started");
        return st;
    }
    session_dial_options dial = options->dial;
    dial.role = ROLE_WORKER;
    dial.instance = id128_random();
    st = session_dial(&l->session, l->hub, &dial, &handlers, l, err);
    if (st != ST_OK) {
        close_link(l, "not started");
        return st;
    }
    uv_timer_start(&l->timer, on_timer, LIMIT_LOAD_INTERVAL_MS, LIMIT_LOAD_INTERVAL_MS);
    return ST_OK;
}

void router_link_destroy(router_link *l)
{
    if (l == NULL) return;
    engine_thread_destroy(l->engine);
    streams_destroy(l);
    mem_free(l->worker_id);
    mem_free(l->model_name);
    mem_free(l->device);
    mem_free(l->revision);
    mem_free(l->numerics);
    mem_free(l);
}
