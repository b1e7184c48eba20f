/* router_link_peers: a session with each router; see router_link.h. */
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "worker/router_link_internal.h"

static bool is_up(const router_peer *p)
{
    return p->session != NULL && session_is_up(p->session);
}

/* -- what they are told ------------------------------------------------------------------ */

static uint32_t age_ms(uint64_t since_us)
{
    uint64_t now_us = clock_now_ns() / 1000;
    if (since_us == 0 || since_us >= now_us) return 0;
    uint64_t ms = (now_us - since_us) / 1000;
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

static void send_load(const router_peer *p)
{
    router_link *l = p->link;
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
    session_send(p->session, &e);
}

static void send_drain(const router_peer *p)
{
    const router_link *l = p->link;
    uint64_t now_ms = clock_now_ms();
    uint64_t left_ms = l->drain_deadline_ms > now_ms ? l->drain_deadline_ms - now_ms : 1;
    envelope e = {.kind = ENVELOPE_DRAIN};
    bool limited = l->drain_limit_ms != UINT32_MAX;
    e.drain = (msg_drain){.deadline_ms = limited ? (uint32_t)left_ms : 0,
                          .reason = text_of("the worker is stopping")};
    session_send(p->session, &e);
}

static void send_register(router_peer *p, const msg_live *live, size_t live_count)
{
    const router_link *l = p->link;
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
                           .live = live,
                           .live_count = live_count,
                           .lease_ms = router_link_lease_ms(l),
                           .numerics = text_of(l->numerics)};
    session_send(p->session, &e);
}

void peers_send_load(router_link *l)
{
    for (uint32_t i = 0; i < l->peer_count; i++)
        if (is_up(l->peers[i])) send_load(l->peers[i]);
}

void peers_send_drain(router_link *l)
{
    for (uint32_t i = 0; i < l->peer_count; i++)
        if (is_up(l->peers[i])) send_drain(l->peers[i]);
}

void peers_flush(router_link *l, bool only_idle)
{
    for (uint32_t i = 0; i < l->peer_count; i++) {
        router_peer *p = l->peers[i];
        if (is_up(p) && (!only_idle || session_is_idle(p->session))) streams_flush(p);
    }
}

/* -- sessions ----------------------------------------------------------------------------- */

/* The router has closed the older link to itself, or is about to: what was on it is ours. */
static void leave_twins(router_peer *p)
{
    router_link *l = p->link;
    for (uint32_t i = 0; i < l->peer_count; i++) {
        router_peer *other = l->peers[i];
        if (other == p || other->session == NULL || !id128_equal(&other->router, &p->router))
            continue;
        log_info("router=%s is the one at url=%s too, and is not dialled twice", other->url,
                 p->url);
        streams_link_down(other);
        other->is_parked = true;
        session_close(other->session, "this process has another link");
    }
}

static void on_up(void *ctx, session *dialler, const msg_welcome *welcome)
{
    (void)dialler;
    router_peer *p = ctx;
    p->router = welcome->router_instance;
    p->is_registered = false;
    leave_twins(p);
    arena scratch = {0};
    size_t live_count;
    const msg_live *live = streams_live(p, true, &scratch, &live_count);
    send_register(p, live, live_count);
    send_load(p);
    if (p->link->draining) send_drain(p);
    arena_free(&scratch);
}

static void on_adopt(router_peer *p, const msg_adopt *adopt)
{
    const router_link *l = p->link;
    streams_adopt(p, adopt);
    if (p->is_registered) return;
    p->is_registered = true;
    l->events.on_registered(l->events.ctx);
}

static void on_envelope(void *ctx, session *dialler, const envelope *e, const error *refused)
{
    (void)dialler;
    router_peer *p = ctx;
    router_link *l = p->link;
    if (refused != NULL) {
        streams_refuse(p, &e->submit, refused->code, refused->text);
        return;
    }
    switch (e->kind) {
    case ENVELOPE_SUBMIT:
        streams_submit(p, &e->submit);
        break;
    case ENVELOPE_ACK:
        streams_acknowledge(p, &e->ack);
        break;
    case ENVELOPE_CANCEL:
        streams_cancel(p, &e->cancel);
        break;
    case ENVELOPE_RESUME:
        streams_resume(p, &e->resume);
        break;
    case ENVELOPE_ADOPT:
        on_adopt(p, &e->adopt);
        break;
    case ENVELOPE_DRAIN:
        if (e->drain.worker_id.size == 0)
            log_info("router=%s is draining", p->url);
        else if (!l->draining)
            router_link_drain(l, e->drain.deadline_ms > 0 ? e->drain.deadline_ms : UINT32_MAX);
        break;
    case ENVELOPE_ERROR:
        log_warn("router=%s says code=%s text=\"%.*s\"", p->url, status_name(e->error.code),
                 (int)e->error.text.size, e->error.text.data);
        break;
    default:
        log_warn("unexpected %s from router=%s", envelope_kind_name(e->kind), p->url);
    }
    if (p->session != NULL && session_is_idle(p->session)) streams_flush(p);
}

static void on_idle(void *ctx, session *dialler)
{
    (void)dialler;
    streams_flush(ctx);
}

/* Rule 5: what was on a lost link is told to a router that is there. */
static void offer_orphans(router_link *l)
{
    for (uint32_t i = 0; i < l->peer_count; i++) {
        router_peer *p = l->peers[i];
        if (!is_up(p) || !p->is_registered) continue;
        arena scratch = {0};
        size_t live_count;
        const msg_live *live = streams_live(p, false, &scratch, &live_count);
        if (live_count > 0) send_register(p, live, live_count);
        arena_free(&scratch);
        return;
    }
}

static void on_down(void *ctx, session *dialler, const error *why)
{
    (void)dialler;
    router_peer *p = ctx;
    router_link *l = p->link;
    if (l->closing)
        log_debug("router=%s left", p->url);
    else if (p->is_registered)
        log_warn("router=%s lost reason=\"%s\"", p->url, why->text);
    else if (!p->is_missed)
        log_warn("router=%s does not answer; dialling on reason=\"%s\"", p->url, why->text);
    p->is_missed = true;
    p->is_registered = false;
    streams_link_down(p);
    if (!l->closing) offer_orphans(l);
}

static void peer_destroy(router_peer *p)
{
    mem_free(p->url);
    mem_free(p->server_name);
    key_map_destroy(p->by_number);
    token_columns_free(&p->columns);
    mem_free(p);
}

static void forget_peer(router_link *l, router_peer *p)
{
    for (uint32_t i = 0; i < l->peer_count; i++) {
        if (l->peers[i] != p) continue;
        l->peer_count--;
        memmove(&l->peers[i], &l->peers[i + 1], (l->peer_count - i) * sizeof(router_peer *));
        peer_destroy(p);
        return;
    }
}

static bool all_refused(const router_link *l)
{
    for (uint32_t i = 0; i < l->peer_count; i++)
        if (!l->peers[i]->is_refused) return false;
    return true;
}

static void on_session_closed(void *ctx, session *dialler, const error *why)
{
    (void)dialler;
    router_peer *p = ctx;
    router_link *l = p->link;
    p->session = NULL;
    if (l->closing) return;
    if (p->is_leaving) {
        forget_peer(l, p);
        return;
    }
    if (p->is_parked) return;
    p->is_refused = true;
    if (!all_refused(l)) {
        log_error("router=%s refuses this worker reason=\"%s\"", p->url, why->text);
        return;
    }
    l->why = *why;
    router_link_close(l, "closed");
}

static const session_handlers handlers = {
    .on_up = on_up,
    .on_envelope = on_envelope,
    .on_idle = on_idle,
    .on_down = on_down,
    .on_closed = on_session_closed,
};

/* -- dialling ------------------------------------------------------------------------------- */

static status dial_peer(router_peer *p, error *err)
{
    router_link *l = p->link;
    const char *url = p->url;
    link_tls tls = {0};
    session_dial_options dial = l->options.dial;
    if (dial.tls != NULL) tls = *dial.tls;
    if (p->server_name != NULL) tls.server_name = p->server_name;
    dial.tls = &tls;
    dial.urls = &url;
    dial.url_count = 1;
    dial.role = ROLE_WORKER;
    dial.instance = l->instance;
    p->is_parked = false;
    return session_dial(&p->session, l->hub, &dial, &handlers, p, err);
}

status peers_add(router_link *l, const char *url, const char *server_name, uint32_t name,
                 error *err)
{
    if (l->peer_count == LIMIT_ROUTERS_PER_WORKER)
        return error_set(err, ST_RESOURCE_EXHAUSTED,
                         "more than %u routers, or addresses of them; %s is not dialled",
                         LIMIT_ROUTERS_PER_WORKER, url);
    router_peer *p = mem_calloc(1, sizeof *p);
    p->link = l;
    p->url = mem_strdup(url);
    if (server_name != NULL) p->server_name = mem_strdup(server_name);
    p->name = name;
    p->is_listed = true;
    p->by_number = key_map_create(LIMIT_STREAMS_PER_LINK);
    status st = dial_peer(p, err);
    if (st != ST_OK) {
        peer_destroy(p);
        return st;
    }
    l->peers[l->peer_count++] = p;
    return ST_OK;
}

void peers_remove(router_link *l, router_peer *p)
{
    p->is_leaving = true;
    if (p->session != NULL)
        session_close(p->session, "this address is not a router's any more");
    else
        forget_peer(l, p);
}

void peers_redial(router_link *l)
{
    for (uint32_t i = 0; i < l->peer_count; i++) {
        router_peer *p = l->peers[i];
        if (p->session != NULL || !p->is_parked) continue;
        bool has_twin = false;
        for (uint32_t k = 0; k < l->peer_count; k++)
            has_twin |= is_up(l->peers[k]) && id128_equal(&l->peers[k]->router, &p->router);
        error err;
        if (!has_twin && dial_peer(p, &err) != ST_OK)
            log_warn("router=%s cannot be dialled reason=\"%s\"", p->url, err.text);
    }
}

void peers_close(router_link *l, const char *reason)
{
    for (uint32_t i = 0; i < l->peer_count; i++)
        if (l->peers[i]->session != NULL) session_close(l->peers[i]->session, reason);
}

void peers_destroy(router_link *l)
{
    while (l->peer_count > 0)
        peer_destroy(l->peers[--l->peer_count]);
}
