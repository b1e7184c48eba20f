/* router_link_streams: the answers behind a router_link; see router_link_internal.h. */
#include <math.h>

#include "common/check.h"
#include "common/log.h"
#include "common/traceparent.h"
#include "worker/held_stream.h"
#include "worker/router_link_internal.h"

/* An answer's life here. Its number on the link is apart from that: 0 while there is no link, or
 * the router has not adopted it yet. */
typedef enum stream_phase {
    STREAM_PREPARING, /* on the thread pool */
    STREAM_RUNNING,   /* in the engine */
    STREAM_FINISHED,  /* every token is made; waits for its last acknowledgement */
} stream_phase;

typedef struct preparation preparation;

struct stream {
    id128 request_id;
    id128 router;   /* the router process that gave it its number last */
    uint64_t key;   /* its name in the engine */
    char trace[33]; /* of the trace it belongs to; "-" = none */
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
};

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

/* -- streams ------------------------------------------------------------------------ */

static stream *stream_add(router_link *l, const msg_submit *submit)
{
    stream *s = mem_calloc(1, sizeof *s);
    s->request_id = submit->request_id;
    s->key = ++l->next_key;
    s->window = submit->window > 0 ? submit->window : LIMIT_WINDOW_TOKENS_DEFAULT;
    traceparent trace = {.trace_id = "-"};
    (void)traceparent_parse(&trace, submit->traceparent.data, submit->traceparent.size);
    memcpy(s->trace, trace.trace_id, sizeof s->trace);
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
    last->place = s->place; /* NOLINT(clang-analyzer-core.NullDereference): it may be `s` itself */
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

void streams_flush(router_link *l)
{
    if (!token_columns_empty(&l->columns)) token_columns_flush(&l->columns, send_columns, l);
}

static void send_finish(router_link *l, stream *s)
{
    streams_flush(l); /* Finish must not overtake its tokens */
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
    char hex[33];
    log_info("request=%s finished trace=%s reason=%s tokens=%u", id128_hex(&s->request_id, hex),
             s->trace, finish_reason_name(reason), s->held.made);
    stream_emit(l, s);
}

/* The device failed (ST_UNAVAILABLE): this worker is about to be gone, and no Finish is sent, so
 * that the router does for its streams what it does for a dead worker's, and another one goes on
 * with the answers. */
static void stream_fail(router_link *l, stream *s, const error *why)
{
    if (why->code == ST_UNAVAILABLE) return;
    s->failure = *why;
    stream_finish(l, s, FINISH_FAILED);
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
    router_link_finish_closing(l);
}

/* Finish a stream that we do not hold (any more), and whose receiver has `total` tokens. */
static void send_failure(router_link *l, uint32_t number, uint32_t total, uint32_t crc, status code,
                         const char *text)
{
    envelope e = {.kind = ENVELOPE_FINISH};
    e.finish = (msg_finish){.stream = number, .total = total, .crc = crc, .reason = FINISH_FAILED};
    e.finish.error =
        (msg_error){.stream = number, .code = code, .text = text_of(text), .retry_after_ms = 1000};
    session_send(l->session, &e);
}

void streams_refuse(router_link *l, const msg_submit *submit, status code, const char *text)
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

/* Somebody wants tokens that we do not hold: that is an answer, too, and another worker goes on. */
static void say_lost(router_link *l, uint32_t number, uint32_t next_wanted)
{
    send_failure(l, number, next_wanted, 0, ST_DATA_LOSS, "the worker does not hold these tokens");
}

static void lose(router_link *l, stream *s, uint32_t next_wanted)
{
    uint32_t number = s->number;
    log_error("tokens wanted from=%u held=%u..%u", next_wanted, s->held.base, s->held.made);
    forget(l, s);
    say_lost(l, number, next_wanted);
}

void streams_submit(router_link *l, const msg_submit *submit)
{
    stream *s = stream_find_id(l, &submit->request_id);
    if (s != NULL && rewind_stream(s, (uint32_t)submit->prior_count)) {
        stream_set_number(l, s, submit->stream);
        stream_emit(l, s);
        return;
    }
    if (s != NULL) forget(l, s); /* its receiver has other tokens than we hold: begin again */
    if (l->stream_count == LIMIT_STREAMS_PER_LINK || l->draining) {
        streams_refuse(l, submit, ST_UNAVAILABLE,
                       l->draining ? "the worker is shutting down"
                                   : "the worker cannot take this request");
        return;
    }
    s = stream_add(l, submit);
    stream_set_number(l, s, submit->stream);
    char hex[33];
    log_info("request=%s placed trace=%s prior=%u", id128_hex(&s->request_id, hex), s->trace,
             s->held.base);
    prepare(l, s, submit);
}

static void acknowledge(router_link *l, stream *s, uint32_t next_wanted)
{
    if (!held_stream_acknowledge(&s->held, next_wanted)) return;
    if (s->phase == STREAM_RUNNING)
        engine_thread_credit(l->engine, s->key, next_wanted + s->window);
}

void streams_acknowledge(router_link *l, const msg_ack *ack)
{
    for (size_t i = 0; i < ack->count; i++) {
        stream *s = key_map_find(l->by_number, ack->stream[i]);
        if (s == NULL) continue;
        acknowledge(l, s, ack->next_wanted[i]);
        if (s->phase == STREAM_FINISHED && s->finish_sent && s->held.base == s->held.made)
            stream_remove(l, s);
    }
}

void streams_resume(router_link *l, const msg_resume *resume)
{
    for (size_t i = 0; i < resume->count; i++) {
        stream *s = key_map_find(l->by_number, resume->stream[i]);
        if (s == NULL) { /* acknowledged to its end and forgotten, but not by whoever asks */
            say_lost(l, resume->stream[i], resume->next_wanted[i]);
            continue;
        }
        acknowledge(l, s, resume->next_wanted[i]);
        if (rewind_stream(s, resume->next_wanted[i]))
            stream_emit(l, s);
        else
            lose(l, s, resume->next_wanted[i]);
    }
}

void streams_cancel(router_link *l, const msg_cancel *cancel)
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

void streams_adopt(router_link *l, const msg_adopt *adopt)
{
    for (size_t i = 0; i < adopt->drop_count; i++) {
        stream *s = stream_find_id(l, &adopt->drop[i]);
        if (s != NULL) forget(l, s);
    }
    for (size_t i = 0; i < adopt->count; i++) {
        stream *s = stream_find_id(l, &adopt->request_id[i]);
        bool hold = adopt->next_wanted[i] == NEXT_WANTED_HOLD;
        if (s == NULL) { /* it ended while Register was on its way */
            if (!hold) say_lost(l, adopt->stream[i], adopt->next_wanted[i]);
            continue;
        }
        stream_set_number(l, s, adopt->stream[i]);
        s->hold = hold;
        if (!s->hold && !rewind_stream(s, adopt->next_wanted[i]))
            lose(l, s, adopt->next_wanted[i]);
        else
            stream_emit(l, s);
    }
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
            if (text != NULL) text += b->text_len[token]; /* NULL: none of them has any */
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

void streams_take(router_link *l, const engine_batch *b)
{
    take_tokens(l, b);
    for (uint32_t i = 0; i < b->finish_count; i++)
        take_finish(l, &b->finishes[i]);
}

/* -- all of them ----------------------------------------------------------------------- */

msg_live *streams_live(const router_link *l, arena *scratch)
{
    msg_live *live = arena_alloc(scratch, l->stream_count * sizeof *live);
    for (uint32_t i = 0; i < l->stream_count; i++) {
        const stream *s = l->streams[i];
        live[i] = (msg_live){.request_id = s->request_id,
                             .base = s->held.base,
                             .next = s->held.made,
                             .finished = s->phase == STREAM_FINISHED,
                             .yours = id128_equal(&s->router, &l->router),
                             .model = text_of(l->model_name)};
    }
    return live;
}

void streams_link_down(router_link *l)
{
    token_columns_clear(&l->columns);
    for (uint32_t i = 0; i < l->stream_count; i++) {
        stream_set_number(l, l->streams[i], 0);
        l->streams[i]->finish_sent = false; /* it may be lost with the link */
    }
}

void streams_forget_all(router_link *l)
{
    while (l->stream_count > 0)
        forget(l, l->streams[l->stream_count - 1]);
}

void streams_create(router_link *l)
{
    l->streams = mem_calloc(LIMIT_STREAMS_PER_LINK, sizeof *l->streams);
    l->by_key = key_map_create(LIMIT_STREAMS_PER_LINK);
    l->by_number = key_map_create(LIMIT_STREAMS_PER_LINK);
}

void streams_destroy(router_link *l)
{
    while (l->stream_count > 0)
        stream_remove(l, l->streams[l->stream_count - 1]);
    key_map_destroy(l->by_key);
    key_map_destroy(l->by_number);
    token_columns_free(&l->columns);
    mem_free(l->streams);
}
