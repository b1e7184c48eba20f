/* Where sessions come from and go: the hub, listeners, and diallers that dial again for ever.
 *
 * Back-off is exponential with full jitter: after k failures in a row the next attempt comes after
 * a time drawn evenly from [0, 50 ms x 2^k), capped at 2 s, so that a thousand workers whose router
 * restarts do not come back in one wave. A router that is full says when to come back
 * (Error.retry_after_ms); that is waited for, too.
 *
 * Who frees a session: session_link_gone() (an accepted one, or a closed dialler whose link has
 * gone), on_redial() (a dialler closed between links) and links_closed() (what the hub's end finds
 * left). All three run from the loop with no callback of the session on the stack. */
#include <string.h>

#include "common/check.h"
#include "common/log.h"
#include "proto/session_internal.h"

static const link_limits limits = {.message_bytes = LIMIT_MESSAGE_BYTES,
                                   .first_message_bytes = LIMIT_HELLO_BYTES};

/* -- sessions ------------------------------------------------------------------------- */

static void on_tick(uv_timer_t *tick)
{
    session_hub *hub = tick->data;
    if (hub->sessions == NULL) return;
    session_hub_start_tick(hub);
    uint64_t now = uv_now(hub->loop);
    uint64_t late = now - hub->ticked_ms;
    hub->ticked_ms = now;
    for (session *s = hub->sessions; s != NULL; s = s->next)
        session_tick(s, now, late);
}

void session_hub_start_tick(session_hub *hub)
{
    uint64_t until = link_until_tick_ms(hub->loop);
    uv_timer_start(&hub->tick, on_tick, until < hub->tick_ms ? until : hub->tick_ms, 0);
}

session *session_create(session_hub *hub, const session_handlers *handlers, void *ctx)
{
    session *s = mem_calloc(1, sizeof *s);
    s->hub = hub;
    s->handlers = *handlers;
    s->ctx = ctx;
    s->next = hub->sessions;
    if (s->next != NULL) s->next->prev = s;
    hub->sessions = s;
    if (!uv_is_active((uv_handle_t *)&hub->tick)) {
        hub->ticked_ms = uv_now(hub->loop);
        hub->tick_ms = LIMIT_TICK_MS;
        session_hub_start_tick(hub);
    }
    return s;
}

static void dial_plan_free(session_dial_plan *plan)
{
    if (plan == NULL) return;
    for (size_t i = 0; i < plan->url_count; i++)
        mem_free(plan->urls[i]);
    mem_free(plan->urls);
    for (size_t i = 0; i < sizeof plan->tls_text / sizeof plan->tls_text[0]; i++)
        mem_free(plan->tls_text[i]);
    mem_free(plan->token);
    mem_free(plan);
}

void session_free(session *s)
{
    CHECK(s->link == NULL);
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        s->hub->sessions = s->next;
    if (s->next != NULL) s->next->prev = s->prev;
    dial_plan_free(s->dial);
    mem_free(s->name);
    mem_free(s);
}

static void finish(session *s)
{
    if (s->handlers.on_closed != NULL) s->handlers.on_closed(s->ctx, s, &s->why);
    session_free(s);
}

/* -- dialling ---------------------------------------------------------------------------- */

static void on_redial(uv_timer_t *timer);

static void arm_redial(session_hub *hub)
{
    uint64_t now = uv_now(hub->loop);
    uint64_t wait = UINT64_MAX;
    for (session *s = hub->sessions; s != NULL; s = s->next) {
        if (s->dial == NULL || s->phase != SESSION_NONE) continue;
        uint64_t left = s->dial->redial_at_ms > now ? s->dial->redial_at_ms - now : 0;
        if (left < wait) wait = left;
    }
    if (wait == UINT64_MAX || hub->closing)
        uv_timer_stop(&hub->redial);
    else
        uv_timer_start(&hub->redial, on_redial, wait, 0);
}

void session_finish_soon(session *s)
{
    s->dial->redial_at_ms = 0;
    arm_redial(s->hub);
}

static status attempt(session *s, error *err)
{
    session_dial_plan *plan = s->dial;
    s->why = (error){0};
    s->by_word = false;
    status st =
        link_dial(&s->link, s->hub->links, plan->urls[plan->url_next],
                  plan->has_tls ? &plan->tls : NULL, &limits, &session_dialled_handlers, s, err);
    if (st == ST_OK) s->phase = SESSION_DIALLING;
    return st;
}

static uint64_t redial_delay_ms(unsigned failures, uint32_t retry_after_ms)
{
    uint32_t bound = LIMIT_REDIAL_MS_FIRST;
    for (unsigned i = 0; i < failures && bound < LIMIT_REDIAL_MS_MAX; i++)
        bound *= 2;
    if (bound > LIMIT_REDIAL_MS_MAX) bound = LIMIT_REDIAL_MS_MAX;
    id128 random = id128_random();
    uint32_t draw;
    memcpy(&draw, random.bytes, sizeof draw);
    if (retry_after_ms > LIMIT_REDIAL_MS_ASKED) retry_after_ms = LIMIT_REDIAL_MS_ASKED;
    return retry_after_ms + draw % bound;
}

/* Trying again cannot mend it: the other side said so, or it speaks another version. */
static bool is_final(const session *s)
{
    return s->by_word &&
           (s->why.code == ST_UNAUTHENTICATED || s->why.code == ST_PERMISSION_DENIED ||
            s->why.code == ST_FAILED_PRECONDITION);
}

/* This attempt is over; `why` says how. Frees a closed session. */
static void dialler_down(session *s)
{
    session_dial_plan *plan = s->dial;
    bool tell = s->told || (!s->ever_up && !s->closing);
    s->told = false;
    if (tell && s->handlers.on_down != NULL) s->handlers.on_down(s->ctx, s, &s->why);
    if (s->closing || is_final(s)) {
        finish(s);
        return;
    }
    uint64_t delay = redial_delay_ms(plan->failures, s->why.retry_after_ms);
    log_debug("session down url=%s redial_ms=%llu why=\"%s\"", plan->urls[plan->url_next],
              (unsigned long long)delay, s->why.text);
    plan->failures++;
    plan->url_next = (plan->url_next + 1) % plan->url_count;
    plan->redial_at_ms = uv_now(s->hub->loop) + delay;
    arm_redial(s->hub);
}

static void on_redial(uv_timer_t *timer)
{
    session_hub *hub = timer->data;
    uint64_t now = uv_now(hub->loop);
    for (session *s = hub->sessions, *next; s != NULL; s = next) {
        next = s->next;
        if (s->dial == NULL || s->phase != SESSION_NONE || s->dial->redial_at_ms > now) continue;
        if (s->closing) {
            finish(s);
            continue;
        }
        error err = {0};
        if (attempt(s, &err) == ST_OK) continue;
        s->why = err;
        dialler_down(s);
    }
    arm_redial(hub);
}

void session_link_gone(session *s, status why, const char *text)
{
    s->link = NULL;
    s->phase = SESSION_NONE;
    session_because(s, why == ST_OK ? ST_UNAVAILABLE : why, "%s", text);
    if (s->dial != NULL) {
        dialler_down(s);
        return;
    }
    if (s->told && s->handlers.on_down != NULL) s->handlers.on_down(s->ctx, s, &s->why);
    session_free(s);
}

static char *keep(session_dial_plan *plan, unsigned slot, const char *text)
{
    if (text != NULL) plan->tls_text[slot] = mem_strdup(text);
    return plan->tls_text[slot];
}

static session_dial_plan *dial_plan_create(const session_dial_options *options)
{
    session_dial_plan *plan = mem_calloc(1, sizeof *plan);
    plan->urls = mem_calloc(options->url_count, sizeof *plan->urls);
    plan->url_count = options->url_count;
    for (size_t i = 0; i < options->url_count; i++)
        plan->urls[i] = mem_strdup(options->urls[i]);
    if (options->tls != NULL) {
        plan->has_tls = true;
        plan->tls = *options->tls;
        plan->tls.ca_file = keep(plan, 0, options->tls->ca_file);
        plan->tls.cert_file = keep(plan, 1, options->tls->cert_file);
        plan->tls.key_file = keep(plan, 2, options->tls->key_file);
        plan->tls.server_name = keep(plan, 3, options->tls->server_name);
    }
    plan->role = options->role;
    plan->instance = options->instance;
    plan->token = mem_strdup(options->token != NULL ? options->token : "");
    plan->ping_ms = options->ping_ms;
    plan->dead_ms = options->dead_ms;
    return plan;
}

/* What Hello would be refused for, or could not even be encoded with. */
static status check_options(const session_dial_options *options, error *err)
{
    if (options->url_count == 0)
        return error_set(err, ST_INVALID_ARGUMENT, "at least one URL is needed");
    if (options->token != NULL && strlen(options->token) > LIMIT_TOKEN_BYTES)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "the token has %zu bytes; at most %u are allowed", strlen(options->token),
                         LIMIT_TOKEN_BYTES);
    if (options->name != NULL && strlen(options->name) > LIMIT_NAME_BYTES)
        return error_set(err, ST_INVALID_ARGUMENT, "the name has %zu bytes; at most %u are allowed",
                         strlen(options->name), LIMIT_NAME_BYTES);
    for (size_t i = 0; i < options->url_count; i++) {
        status st = link_dial_check(options->urls[i], options->tls, err);
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

status session_dial(session **out, session_hub *hub, const session_dial_options *options,
                    const session_handlers *handlers, void *ctx, error *err)
{
    if (hub->closing) return error_set(err, ST_FAILED_PRECONDITION, "shutting down");
    status st = check_options(options, err);
    if (st != ST_OK) return st;
    session *s = session_create(hub, handlers, ctx);
    s->name = mem_strdup(options->name != NULL ? options->name : "");
    s->dial = dial_plan_create(options);
    st = attempt(s, err);
    if (st != ST_OK) {
        session_free(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

/* -- listening ----------------------------------------------------------------------------- */

status session_listen(session_listener **out, session_hub *hub, const char *url,
                      const link_tls *tls, const session_handlers *handlers, void *ctx, error *err)
{
    if (hub->closing) return error_set(err, ST_FAILED_PRECONDITION, "shutting down");
    session_listener *listener = mem_calloc(1, sizeof *listener);
    listener->hub = hub;
    listener->handlers = *handlers;
    listener->ctx = ctx;
    listener->dead_ms =
        strncmp(url, "ws", 2) == 0 ? LIMIT_DEAD_MS_WS_DEFAULT : LIMIT_DEAD_MS_DEFAULT;
    status st = link_listen(&listener->link, hub->links, url, tls, &limits,
                            &session_accepted_handlers, listener, err);
    if (st != ST_OK) {
        mem_free(listener);
        return st;
    }
    listener->next = hub->listeners;
    if (listener->next != NULL) listener->next->prev = listener;
    hub->listeners = listener;
    *out = listener;
    return ST_OK;
}

uint16_t session_listener_port(const session_listener *listener)
{
    return link_listener_port(listener->link);
}

void session_listener_close(session_listener *listener)
{
    for (session *s = listener->hub->sessions; s != NULL; s = s->next)
        if (s->listener == listener) session_close(s, "the listener was closed");
    link_listener_close(listener->link);
    if (listener->prev != NULL)
        listener->prev->next = listener->next;
    else
        listener->hub->listeners = listener->next;
    if (listener->next != NULL) listener->next->prev = listener->prev;
    mem_free(listener);
}

/* -- the hub ---------------------------------------------------------------------------------- */

status session_hub_create(session_hub **out, uv_loop_t *loop, error *err)
{
    session_hub *hub = mem_calloc(1, sizeof *hub);
    status st = link_hub_create(&hub->links, loop, err);
    if (st != ST_OK) {
        mem_free(hub);
        return st;
    }
    hub->loop = loop;
    uv_timer_init(loop, &hub->tick);
    uv_timer_init(loop, &hub->redial);
    hub->tick.data = hub->redial.data = hub;
    *out = hub;
    return ST_OK;
}

static void handle_closed(uv_handle_t *handle)
{
    session_hub *hub = handle->data;
    if (--hub->handles_open > 0) return;
    void (*on_closed)(void *) = hub->on_closed;
    void *ctx = hub->on_closed_ctx;
    arena_free(&hub->rx_arena);
    arena_free(&hub->tx_arena);
    mem_free(hub);
    if (on_closed != NULL) on_closed(ctx);
}

static void links_closed(void *ctx)
{
    session_hub *hub = ctx;
    while (hub->sessions != NULL)
        finish(hub->sessions); /* diallers that waited to dial again */
    hub->handles_open = 2;
    uv_close((uv_handle_t *)&hub->tick, handle_closed);
    uv_close((uv_handle_t *)&hub->redial, handle_closed);
}

void session_hub_close(session_hub *hub, void (*on_closed)(void *ctx), void *ctx)
{
    CHECK(!hub->closing);
    hub->closing = true;
    hub->on_closed = on_closed;
    hub->on_closed_ctx = ctx;
    while (hub->listeners != NULL)
        session_listener_close(hub->listeners);
    for (session *s = hub->sessions; s != NULL; s = s->next)
        session_close(s, "shutting down");
    link_hub_close(hub->links, links_closed, hub);
}
