#include "worker/router_link.h"

#include <math.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "worker/engine/key_map.h"
#include "worker/held_stream.h"

/* An answer's life here. Its number on the link is apart from that: 0 while there is no link, or
 * the router has not adopted it yet. */
typedef enum stream_phase {
    STREAM_PREPARING, /* on the thread pool */
    STREAM_RUNNING,   /* in the engine */
    STREAM_FINISHED,  /* every token is made; waits for its last acknowledgement */
} stream_phase;

typedef struct preparation preparation;

typedef struct stream {
    id128 request_id;
    id128 router; /* the router process that gave it its number last */
    uint64_t key; /* its name in the engine */
    uint32_t number;
    uint32_t window;
    stream_phase phase;
    held_stream held;
    bool hold; /* the client is away: send nothing until a Resume */
    bool finish_sent;
    finish_reason cancel_reason; /* asked for while PREPARING; 0 = no */
    preparation *preparation;    /* while PREPARING */
    msg_finish finish;           /* FINISHED; its texts are the two below */
    char *stop_text;
    error failure;
    uint32_t place; /* in router_link.streams */
} stream;

/* A Submit on the thread pool. Outlives its stream when that is forgotten meanwhile. */
struct preparation {
    uv_work_t work;
    router_link *link;
    stream *stream; /* NULL: forgotten */
    const request_context *context;
    buffer frame; /* the Submit, encoded: the pool thread decodes its own copy */
    int64_t now_seconds;
    status st;
    error err;
    engine_request *request;
};

struct router_link {
    uv_loop_t *loop;
    uv_async_t outputs_ready;
    uv_timer_t timer; /* Load, and the end of a drain */
    session_hub *hub;
    session *session;
    engine_thread *engine;
    router_link_options options;
    router_link_events events;
    char *worker_id, *model_name, *device, *revision;

    stream **streams;
    uint32_t stream_count;
    key_map *by_key, *by_number;
    uint64_t next_key;
    id128 router;       /* the process we are, or were last, connected to */
    uint32_t preparing; /* on the thread pool, forgotten ones included */
    token_columns columns;
    uint64_t down_since_ms; /* 0 while the link is up */
    uint64_t drain_deadline_ms;
    bool draining, closing, hub_closed;
    error why; /* of the end */
};

/* -- streams ------------------------------------------------------------------------ */

static stream *stream_add(router_link *l, const msg_submit *submit)
{
    stream *s = mem_calloc(1, sizeof *s);
    s->request_id = submit->request_id;
    s->key = ++l->next_key;
    s->window = submit->window > 0 ? submit->window : LIMIT_WINDOW_TOKENS_DEFAULT;
    held_stream_init(&s->held, submit->prior_ids, (uint32_t)submit->prior_count);
    s->place = l->stream_count;
    l->streams[l->stream_count++] = s;
    key_map_add(l->by_key, s->key, s);
    return s;
}

static void stream_set_number(router_link *l, stream *s, uint32_t number)
{
    if (s->number != 0) key_map_remove(l->by_number, s->number);
    s->number = number;
    if (number == 0) return;
    s->router = l->router;
    stream *holder = key_map_remove(l->by_number, number);
    if (holder != NULL) holder->number = 0;
    key_map_add(l->by_number, number, s);
}

static void stream_remove(router_link *l, stream *s)
{
    stream_set_number(l, s, 0);
    key_map_remove(l->by_key, s->key);
    stream *last = l->streams[--l->stream_count];
    l->streams[s->place] = last;
    last->place = s->place;
    if (s->preparation != NULL) s->preparation->stream = NULL;
    held_stream_free(&s->held);
    mem_free(s->stop_text);
    mem_free(s);
}

static stream *stream_find_id(const router_link *l, const id128 *id)
{
    for (uint32_t i = 0; i < l->stream_count; i++)
        if (id128_equal(&l->streams[i]->request_id, id)) return l->streams[i];
    return NULL;
}

/* -- sending ------------------------------------------------------------------------- */

static void send_columns(void *ctx, const envelope *e)
{
    session_send(((router_link *)ctx)->session, e);
}

static void flush_tokens(router_link *l)
{
    if (!token_columns_empty(&l->columns)) token_columns_flush(&l->columns, send_columns, l);
}

static void send_finish(router_link *l, stream *s)
{
    flush_tokens(l); /* Finish must not overtake its tokens */
    envelope e = {.kind = ENVELOPE_FINISH, .finish = s->finish};
    e.finish.stream = s->number;
    e.finish.stop_text = text_of(s->stop_text);
    if (s->failure.code != ST_OK)
        e.finish.error = (msg_error){.stream = s->number,
                                     .code = s->failure.code,
                                     .text = text_of(s->failure.text),
                                     .retry_after_ms = s->failure.retry_after_ms};
    session_send(l->session, &e);
    s->finish_sent = true;
}

/* Whatever the stream has goes onto the link, as far as it may. */
static void stream_emit(router_link *l, stream *s)
{
    if (s->number == 0 || s->hold) return;
    held_stream_emit(&s->held, s->number, &l->columns);
    if (s->phase == STREAM_FINISHED && !s->finish_sent) send_finish(l, s);
}

static void stream_finish(router_link *l, stream *s, finish_reason reason)
{
    s->phase = STREAM_FINISHED;
    s->finish.reason = reason;
    s->finish.total = s->held.made;
    s->finish.crc = s->held.crc;
    stream_emit(l, s);
}

static void stream_fail(router_link *l, stream *s, const error *why)
{
    s->failure = *why;
    stream_finish(l, s, FINISH_FAILED);
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
                        .preemptions = stats->preemptions};
    session_send(l->session, &e);
}

/* -- requests -------------------------------------------------------------------------- */

static void prepare_on_pool(uv_work_t *work)
{
    preparation *p = work->data;
    arena scratch = {0};
    envelope e;
    p->st = envelope_decode(p->frame.data, p->frame.size, &scratch, &e, &p->err);
    if (p->st == ST_OK)
        p->st = request_prepare(&p->request, p->context, &e.submit, p->now_seconds, &p->err);
    arena_free(&scratch);
}

static void finish_closing(router_link *l);

static void prepared(uv_work_t *work, int cancelled)
{
    preparation *p = work->data;
    router_link *l = p->link;
    stream *s = p->stream;
    l->preparing--;
    if (s != NULL) {
        s->preparation = NULL;
        CHECK(cancelled == 0);
        if (s->cancel_reason != 0) {
            stream_finish(l, s, s->cancel_reason);
        } else if (p->st != ST_OK) {
            char hex[33];
            log_info("request=%s refused code=%s reason=\"%s\"", id128_hex(&s->request_id, hex),
                     status_name(p->err.code), p->err.text);
            stream_fail(l, s, &p->err);
        } else {
            p->request->key = s->key;
            p->request->credit_end = s->held.base + s->window;
            p->st = engine_thread_submit(l->engine, p->request, &p->err);
            if (p->st == ST_OK) {
                s->phase = STREAM_RUNNING;
                p->request = NULL; /* the engine's */
            } else {
                stream_fail(l, s, &p->err);
            }
        }
    }
    engine_request_destroy(p->request);
    buffer_free(&p->frame);
    mem_free(p);
    finish_closing(l);
}

/* Finish a stream that we do not hold, and whose receiver has `total` tokens. */
static void send_failure(router_link *l, uint32_t number, uint32_t total, uint32_t crc, status code,
                         const char *text)
{
    envelope e = {.kind = ENVELOPE_FINISH};
    e.finish = (msg_finish){.stream = number, .total = total, .crc = crc, .reason = FINISH_FAILED};
    e.finish.error =
        (msg_error){.stream = number, .code = code, .text = text_of(text), .retry_after_ms = 1000};
    session_send(l->session, &e);
}

static void refuse(router_link *l, const msg_submit *submit, status code, const char *text)
{
    uint32_t prior = (uint32_t)submit->prior_count;
    send_failure(l, submit->stream, prior, ids_crc32c(0, submit->prior_ids, prior), code, text);
}

static void prepare(router_link *l, stream *s, const msg_submit *submit)
{
    preparation *p = mem_calloc(1, sizeof *p);
    arena scratch = {0};
    envelope e = {.kind = ENVELOPE_SUBMIT, .submit = *submit};
    CHECK(envelope_encode(&e, &scratch, &p->frame) == ST_OK);
    arena_free(&scratch);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    p->work.data = p;
    p->link = l;
    p->stream = s;
    p->context = &l->options.request;
    p->now_seconds = now.tv_sec;
    s->preparation = p;
    l->preparing++;
    CHECK(uv_queue_work(l->loop, &p->work, prepare_on_pool, prepared) == 0);
}

static bool rewind_stream(stream *s, uint32_t next_wanted)
{
    if (next_wanted < s->held.base || next_wanted > s->held.made) return false;
    held_stream_rewind(&s->held, next_wanted);
    s->hold = false;
    s->finish_sent = false;
    return true;
}

static void forget(router_link *l, stream *s)
{
    if (s->phase == STREAM_RUNNING) engine_thread_cancel(l->engine, s->key, FINISH_CANCELLED);
    stream_remove(l, s);
}

/* Somebody wants tokens that we do not hold: that is an answer, too. */
static void lose(router_link *l, stream *s, uint32_t next_wanted)
{
    uint32_t number = s->number;
    log_error("tokens wanted from=%u held=%u..%u", next_wanted, s->held.base, s->held.made);
    forget(l, s);
    send_failure(l, number, next_wanted, 0, ST_DATA_LOSS, "the worker does not hold these tokens");
}

static void on_submit(router_link *l, const msg_submit *submit)
{
    stream *s = stream_find_id(l, &submit->request_id);
    if (s != NULL && rewind_stream(s, (uint32_t)submit->prior_count)) {
        stream_set_number(l, s, submit->stream);
        stream_emit(l, s);
        return;
    }
    if (s != NULL) forget(l, s); /* its receiver has other tokens than we hold: begin again */
    if (l->stream_count == LIMIT_STREAMS_PER_LINK || l->draining) {
        refuse(l, submit, ST_UNAVAILABLE,
               l->draining ? "the worker is shutting down" : "the worker cannot take this request");
        return;
    }
    s = stream_add(l, submit);
    stream_set_number(l, s, submit->stream);
    prepare(l, s, submit);
}

static void acknowledge(router_link *l, stream *s, uint32_t next_wanted)
{
    if (!held_stream_acknowledge(&s->held, next_wanted)) return;
    if (s->phase == STREAM_RUNNING)
        engine_thread_credit(l->engine, s->key, next_wanted + s->window);
}

static void on_ack(router_link *l, const msg_ack *ack)
{
    for (size_t i = 0; i < ack->count; i++) {
        stream *s = key_map_find(l->by_number, ack->stream[i]);
        if (s == NULL) continue;
        acknowledge(l, s, ack->next_wanted[i]);
        if (s->phase == STREAM_FINISHED && s->finish_sent && s->held.base == s->held.made)
            stream_remove(l, s);
    }
}

static void on_resume(router_link *l, const msg_resume *resume)
{
    for (size_t i = 0; i < resume->count; i++) {
        stream *s = key_map_find(l->by_number, resume->stream[i]);
        if (s == NULL) continue;
        acknowledge(l, s, resume->next_wanted[i]);
        if (rewind_stream(s, resume->next_wanted[i]))
            stream_emit(l, s);
        else
            lose(l, s, resume->next_wanted[i]);
    }
}

static void on_cancel(router_link *l, const msg_cancel *cancel)
{
    for (size_t i = 0; i < cancel->count; i++) {
        stream *s = key_map_find(l->by_number, cancel->stream[i]);
        if (s == NULL) continue;
        if (cancel->forget)
            forget(l, s);
        else if (s->phase == STREAM_PREPARING)
            s->cancel_reason = cancel->finish;
        else if (s->phase == STREAM_RUNNING)
            engine_thread_cancel(l->engine, s->key, cancel->finish);
    }
}

static void on_adopt(router_link *l, const msg_adopt *adopt)
{
    for (size_t i = 0; i < adopt->drop_count; i++) {
        stream *s = stream_find_id(l, &adopt->drop[i]);
        if (s != NULL) forget(l, s);
    }
    for (size_t i = 0; i < adopt->count; i++) {
        stream *s = stream_find_id(l, &adopt->request_id[i]);
        if (s == NULL) continue; /* it ended while Register was on its way: Resume finds nothing */
        stream_set_number(l, s, adopt->stream[i]);
        s->hold = adopt->next_wanted[i] == NEXT_WANTED_HOLD;
        if (!s->hold && !rewind_stream(s, adopt->next_wanted[i]))
            lose(l, s, adopt->next_wanted[i]);
        else
            stream_emit(l, s);
    }
    l->events.on_registered(l->events.ctx);
}

/* -- the engine's outputs -------------------------------------------------------------- */

static void take_tokens(router_link *l, const engine_batch *b)
{
    if (token_columns_empty(&l->columns)) l->columns.emitted_us = b->emitted_us;
    uint32_t token = 0, top = 0;
    const uint8_t *text = b->text;
    for (uint32_t g = 0; g < b->groups; g++) {
        stream *s = key_map_find(l->by_key, b->key[g]); /* NULL: forgotten meanwhile */
        CHECK(s == NULL || b->first_index[g] == s->held.made);
        for (uint32_t i = 0; i < b->count[g]; i++, token++) {
            uint32_t tops = b->top_count != NULL ? b->top_count[token] : 0;
            if (s != NULL)
                held_stream_add(&s->held, b->token[token], text, b->text_len[token],
                                b->logprob != NULL ? b->logprob[token] : NAN, tops,
                                tops > 0 ? b->top_id + top : NULL,
                                tops > 0 ? b->top_logprob + top : NULL);
            text += b->text_len[token];
            top += tops;
        }
        if (s != NULL) stream_emit(l, s);
    }
}

static void take_finish(router_link *l, const engine_finish *f)
{
    stream *s = key_map_find(l->by_key, f->key);
    if (s == NULL) return;
    CHECK(f->total == s->held.made);
    s->finish = (msg_finish){.prompt_tokens = f->prompt_tokens,
                             .cached_tokens = f->cached_tokens,
                             .has_stop_id = f->has_stop_id,
                             .stop_id = f->stop_id,
                             .queue_us = f->queue_us,
                             .prefill_us = f->prefill_us,
                             .decode_us = f->decode_us};
    if (f->stop_text != NULL) s->stop_text = mem_strdup(f->stop_text);
    if (f->reason == FINISH_FAILED)
        stream_fail(l, s, &f->failure);
    else
        stream_finish(l, s, f->reason);
}

static void close_link(router_link *l, const char *reason);

static void on_outputs(uv_async_t *handle)
{
    router_link *l = handle->data;
    for (engine_batch *b; (b = engine_thread_take(l->engine)) != NULL;) {
        take_tokens(l, b);
        for (uint32_t i = 0; i < b->finish_count; i++)
            take_finish(l, &b->finishes[i]);
        engine_batch_destroy(b);
    }
    if (l->closing) return;
    if (session_is_idle(l->session)) flush_tokens(l);
    engine_thread_state state = engine_thread_get_state(l->engine);
    if (!state.failed) return;
    /* The device or the model's numbers are broken: what was made is told, then we end. */
    log_error("engine stopped reason=\"%s\"", state.failure.text);
    l->why = state.failure;
    flush_tokens(l);
    close_link(l, "the engine stopped");
}

/* Any thread. */
static void wake_loop(void *ctx)
{
    uv_async_send(&((router_link *)ctx)->outputs_ready);
}

/* -- the session ----------------------------------------------------------------------- */

static void on_up(void *ctx, session *dialler, const msg_welcome *welcome)
{
    (void)dialler;
    router_link *l = ctx;
    l->down_since_ms = 0;
    l->router = welcome->router_instance;
    arena scratch = {0};
    msg_live *live = arena_alloc(&scratch, l->stream_count * sizeof *live);
    for (uint32_t i = 0; i < l->stream_count; i++) {
        const stream *s = l->streams[i];
        live[i] = (msg_live){.request_id = s->request_id,
                             .base = s->held.base,
                             .next = s->held.made,
                             .finished = s->phase == STREAM_FINISHED,
                             .yours = id128_equal(&s->router, &welcome->router_instance),
                             .model = text_of(l->model_name)};
    }
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
                           .live_count = l->stream_count};
    session_send(l->session, &e);
    send_load(l);
    arena_free(&scratch);
}

static void on_envelope(void *ctx, session *dialler, const envelope *e, const error *refused)
{
    (void)dialler;
    router_link *l = ctx;
    if (refused != NULL) {
        refuse(l, &e->submit, refused->code, refused->text);
        return;
    }
    switch (e->kind) {
    case ENVELOPE_SUBMIT:
        on_submit(l, &e->submit);
        break;
    case ENVELOPE_ACK:
        on_ack(l, &e->ack);
        break;
    case ENVELOPE_CANCEL:
        on_cancel(l, &e->cancel);
        break;
    case ENVELOPE_RESUME:
        on_resume(l, &e->resume);
        break;
    case ENVELOPE_ADOPT:
        on_adopt(l, &e->adopt);
        break;
    case ENVELOPE_DRAIN:
        log_info("the router is draining");
        break;
    case ENVELOPE_ERROR:
        log_warn("router says code=%s text=\"%.*s\"", status_name(e->error.code),
                 (int)e->error.text.size, e->error.text.data);
        break;
    default:
        log_warn("unexpected %s from the router", envelope_kind_name(e->kind));
    }
    if (session_is_idle(l->session)) flush_tokens(l);
}

static void on_idle(void *ctx, session *dialler)
{
    (void)dialler;
    flush_tokens(ctx);
}

static void on_down(void *ctx, session *dialler, const error *why)
{
    (void)dialler;
    router_link *l = ctx;
    if (l->down_since_ms == 0) {
        l->down_since_ms = clock_now_ms();
        log_warn("router lost streams=%u reason=\"%s\"", l->stream_count, why->text);
    }
    token_columns_clear(&l->columns);
    for (uint32_t i = 0; i < l->stream_count; i++)
        stream_set_number(l, l->streams[i], 0);
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
    finish_closing(l);
}

/* The pool may still be at work for us after the hub is gone. */
static void finish_closing(router_link *l)
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
    while (l->stream_count > 0)
        forget(l, l->streams[l->stream_count - 1]);
}

static void on_timer(uv_timer_t *timer)
{
    router_link *l = timer->data;
    if (l->session != NULL && session_is_up(l->session)) send_load(l);
    forget_orphans(l);
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
    l->drain_deadline_ms = clock_now_ms() + limit_ms;
    log_info("draining streams=%u limit_ms=%u", l->stream_count, limit_ms);
    envelope e = {.kind = ENVELOPE_DRAIN};
    e.drain = (msg_drain){.deadline_ms = limit_ms, .reason = text_of("shutting down")};
    if (session_is_up(l->session)) session_send(l->session, &e);
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
    l->streams = mem_calloc(LIMIT_STREAMS_PER_LINK, sizeof *l->streams);
    l->by_key = key_map_create(LIMIT_STREAMS_PER_LINK);
    l->by_number = key_map_create(LIMIT_STREAMS_PER_LINK);
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
    while (l->stream_count > 0)
        stream_remove(l, l->streams[l->stream_count - 1]);
    key_map_destroy(l->by_key);
    key_map_destroy(l->by_number);
    token_columns_free(&l->columns);
    mem_free(l->streams);
    mem_free(l->worker_id);
    mem_free(l->model_name);
    mem_free(l->device);
    mem_free(l->revision);
    mem_free(l);
}
