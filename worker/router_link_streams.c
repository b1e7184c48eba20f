/* router_link_streams: the answers, and on which link each of them is; see router_link.h. */
#include <math.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/traceparent.h"
#include "worker/held_stream.h"
#include "worker/router_link_internal.h"

/* An answer's life here. Its link and its number there are apart from that: 0 while there is no
 * link, or no router has adopted it yet. */
typedef enum stream_phase {
    STREAM_PREPARING, /* on the thread pool */
    STREAM_RUNNING,   /* in the engine */
    STREAM_FINISHED,  /* every token is made; waits for its last acknowledgement */
} stream_phase;

typedef struct preparation preparation;

struct stream {
    id128 request_id;
    uint32_t owner;       /* whose it is, for the routers */
    id128 router, former; /* the router process whose link it is or was on, and the one before */
    router_peer *peer;    /* NULL: on no link, since alone_since_ms */
    uint64_t alone_since_ms;
    uint64_t key;    /* its name in the engine */
    char trace[33];  /* of the trace it belongs to; "-" = none */
    uint32_t number; /* on its link */
    uint32_t window;
    stream_phase phase;
    held_stream held;
    uint32_t acked; /* by the client: below held.base while it has yet to get what others made */
    bool hold;      /* its router has no client for it: send nothing until a Resume */
    uint32_t continuations; /* the Submit's */
    bool approximate;       /* others of other bits made parts of it */
    bool finish_sent;
    finish_reason cancel_reason; /* asked for while PREPARING; 0 = no */
    uint64_t cancel_t; /* the Cancel's, to be answered when the engine has let go; 0 = none */
    bool cancel_heard; /* it is answered once */
    preparation *preparation; /* while PREPARING */
    msg_finish finish;        /* FINISHED; its texts are the two below */
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
    s->owner = submit->owner;
    s->key = ++l->next_key;
    s->window = submit->window > 0 ? submit->window : LIMIT_WINDOW_TOKENS_DEFAULT;
    traceparent trace = {.trace_id = "-"};
    (void)traceparent_parse(&trace, submit->traceparent.data, submit->traceparent.size);
    memcpy(s->trace, trace.trace_id, sizeof s->trace);
    held_stream_init(&s->held, submit->prior_ids, (uint32_t)submit->prior_count);
    s->acked = (uint32_t)submit->prior_count - submit->prior_unacked;
    s->continuations = submit->continuations;
    s->approximate = submit->approximate;
    s->place = l->stream_count;
    l->streams[l->stream_count++] = s;
    key_map_add(l->by_key, s->key, s);
    return s;
}

/* Finish a stream that we do not hold for this router, whose receiver has `total` tokens. */
static void send_failure(router_peer *p, uint32_t number, uint32_t total, uint32_t crc, status code,
                         const char *text)
{
    envelope e = {.kind = ENVELOPE_FINISH};
    e.finish = (msg_finish){.stream = number, .total = total, .crc = crc, .reason = FINISH_FAILED};
    e.finish.error =
        (msg_error){.stream = number, .code = code, .text = text_of(text), .retry_after_ms = 1000};
    session_send(p->session, &e);
}

/* router_link.h, rule 4. No answer has this total (a prompt has a token, too), so that it is never
 * taken for a whole one. */
static void say_moved(router_peer *p, uint32_t number)
{
    send_failure(p, number, LIMIT_CONTEXT_TOKENS, 0, ST_ABORTED,
                 "another router has this answer now");
}

/* Off its link. */
static void stream_leave(stream *s)
{
    if (s->peer == NULL) return;
    key_map_remove(s->peer->by_number, s->number);
    s->peer = NULL;
    s->number = 0;
    s->alone_since_ms = clock_now_ms();
    s->finish_sent = false;                        /* it may be lost with the link */
    if (s->cancel_t != 0) s->cancel_heard = false; /* it may be asked again */
    s->cancel_t = 0;
}

/* Onto this link; the router whose it was is told. */
static void stream_join(stream *s, router_peer *p, uint32_t number)
{
    router_peer *before = s->peer;
    uint32_t number_before = s->number;
    stream_leave(s);
    if (before != NULL && before != p) say_moved(before, number_before);
    stream *holder = key_map_find(p->by_number, number);
    if (holder != NULL) stream_leave(holder);
    if (!id128_equal(&s->router, &p->router)) s->former = s->router;
    s->router = p->router;
    s->peer = p;
    s->number = number;
    key_map_add(p->by_number, number, s);
}

static void stream_remove(router_link *l, stream *s)
{
    stream_leave(s);
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
    session_send(((router_peer *)ctx)->session, e);
}

void streams_flush(router_peer *p)
{
    if (!token_columns_empty(&p->columns)) token_columns_flush(&p->columns, send_columns, p);
}

static void send_finish(stream *s)
{
    streams_flush(s->peer); /* Finish must not overtake its tokens */
    envelope e = {.kind = ENVELOPE_FINISH, .finish = s->finish};
    e.finish.stream = s->number;
    e.finish.continuations = s->continuations;
    e.finish.approximate = s->approximate;
    e.finish.stop_text = text_of(s->stop_text);
    if (s->failure.code != ST_OK)
        e.finish.error = (msg_error){.stream = s->number,
                                     .code = s->failure.code,
                                     .text = text_of(s->failure.text),
                                     .retry_after_ms = s->failure.retry_after_ms};
    session_send(s->peer->session, &e);
    s->finish_sent = true;
}

/* Whatever the stream has goes onto its link, as far as it may. */
static void stream_emit(stream *s)
{
    if (s->peer == NULL || s->hold) return;
    held_stream_emit(&s->held, s->number, &s->peer->columns);
    if (s->phase == STREAM_FINISHED && !s->finish_sent) send_finish(s);
}

static void stream_finish(stream *s, finish_reason reason)
{
    s->phase = STREAM_FINISHED;
    s->finish.reason = reason;
    s->finish.total = s->held.made;
    s->finish.crc = s->held.crc;
    char hex[33];
    log_info("request=%s finished trace=%s reason=%s tokens=%u", id128_hex(&s->request_id, hex),
             s->trace, finish_reason_name(reason), s->held.made);
    stream_emit(s);
}

/* The device failed (ST_UNAVAILABLE): this worker is about to be gone, and no Finish is sent, so
 * that the router does for its streams what it does for a dead worker's, and another one goes on
 * with the answers. */
static void stream_fail(stream *s, const error *why)
{
    if (why->code == ST_UNAVAILABLE) return;
    s->failure = *why;
    stream_finish(s, FINISH_FAILED);
}

/* -- requests -------------------------------------------------------------------------- */

/* Who wants to hear when the engine has let go of a forgotten stream. */
typedef struct freeing {
    router_peer *peer; /* NULL: its link is gone */
    uint32_t number;
    uint64_t t;
} freeing;

static void say_freed(router_peer *p, uint32_t number, uint64_t t)
{
    envelope e = {.kind = ENVELOPE_CANCEL};
    e.cancel = (msg_cancel){.stream = &number, .count = 1, .t = t};
    session_send(p->session, &e);
}

/* Its Cancel shall be answered: at once where the engine has nothing of it. */
static void note_cancel(stream *s, uint64_t t)
{
    if (t == 0 || s->cancel_heard) return;
    s->cancel_heard = true;
    if (s->phase == STREAM_RUNNING)
        s->cancel_t = t;
    else
        say_freed(s->peer, s->number, t);
}

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
            stream_finish(s, s->cancel_reason);
        } else if (p->st != ST_OK) {
            char hex[33];
            log_info("request=%s refused code=%s reason=\"%s\"", id128_hex(&s->request_id, hex),
                     status_name(p->err.code), p->err.text);
            stream_fail(s, &p->err);
        } else {
            p->request->key = s->key;
            p->request->credit_end = s->acked + s->window;
            p->st = engine_thread_submit(l->engine, p->request, &p->err);
            if (p->st == ST_OK) {
                s->phase = STREAM_RUNNING;
                p->request = NULL; /* the engine's */
            } else {
                stream_fail(s, &p->err);
            }
        }
    }
    engine_request_destroy(p->request);
    buffer_free(&p->frame);
    mem_free(p);
    router_link_finish_closing(l);
}

void streams_refuse(router_peer *p, const msg_submit *submit, status code, const char *text)
{
    uint32_t prior = (uint32_t)submit->prior_count;
    send_failure(p, submit->stream, prior, ids_crc32c(0, submit->prior_ids, prior), code, text);
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
    if (s->phase == STREAM_RUNNING && s->cancel_t != 0) {
        const freeing f = {s->peer, s->number, s->cancel_t};
        key_map_add(l->freeing, s->key, mem_copy(&f, sizeof f));
    }
    stream_remove(l, s);
}

/* Somebody wants tokens that we do not hold: that is an answer, too, and another worker goes on. */
static void say_lost(router_peer *p, uint32_t number, uint32_t next_wanted)
{
    send_failure(p, number, next_wanted, 0, ST_DATA_LOSS, "the worker does not hold these tokens");
}

static void lose(stream *s, uint32_t next_wanted)
{
    router_peer *p = s->peer;
    uint32_t number = s->number;
    log_error("tokens wanted from=%u held=%u..%u", next_wanted, s->held.base, s->held.made);
    forget(p->link, s);
    say_lost(p, number, next_wanted);
}

/* The window is the client's: what it has yet to get of another worker's tokens counts, too. */
static void acknowledge(router_link *l, stream *s, uint32_t next_wanted)
{
    (void)held_stream_acknowledge(&s->held, next_wanted); /* there may be nothing to forget */
    if (next_wanted <= s->acked || next_wanted > s->held.made) return;
    s->acked = next_wanted;
    if (s->phase == STREAM_RUNNING)
        engine_thread_credit(l->engine, s->key, next_wanted + s->window);
}

void streams_submit(router_peer *p, const msg_submit *submit)
{
    router_link *l = p->link;
    stream *s = stream_find_id(l, &submit->request_id);
    if (s != NULL) {
        stream_join(s, p, submit->stream);
        if (s->continuations < submit->continuations) s->continuations = submit->continuations;
        s->approximate |= submit->approximate;
        /* An Ack of them may be lost. */
        acknowledge(l, s, (uint32_t)submit->prior_count - submit->prior_unacked);
        if (rewind_stream(s, (uint32_t)submit->prior_count)) {
            stream_emit(s);
            return;
        }
        forget(l, s); /* its receiver has other tokens than we hold: begin again */
    }
    if (l->stream_count == LIMIT_STREAMS_PER_LINK || l->draining) {
        streams_refuse(p, submit, ST_UNAVAILABLE,
                       l->draining ? "the worker is shutting down"
                                   : "the worker cannot take this request");
        return;
    }
    s = stream_add(l, submit);
    stream_join(s, p, submit->stream);
    char hex[33];
    log_info("request=%s placed trace=%s prior=%u", id128_hex(&s->request_id, hex), s->trace,
             s->held.base);
    prepare(l, s, submit);
}

void streams_acknowledge(router_peer *p, const msg_ack *ack)
{
    for (size_t i = 0; i < ack->count; i++) {
        stream *s = key_map_find(p->by_number, ack->stream[i]);
        if (s == NULL) continue;
        acknowledge(p->link, s, ack->next_wanted[i]);
        if (s->phase == STREAM_FINISHED && s->finish_sent && s->acked == s->held.made)
            stream_remove(p->link, s);
    }
}

void streams_resume(router_peer *p, const msg_resume *resume)
{
    for (size_t i = 0; i < resume->count; i++) {
        stream *s = key_map_find(p->by_number, resume->stream[i]);
        if (s == NULL) { /* acknowledged to its end and forgotten, or another router's */
            say_lost(p, resume->stream[i], resume->next_wanted[i]);
            continue;
        }
        acknowledge(p->link, s, resume->next_wanted[i]);
        if (rewind_stream(s, resume->next_wanted[i]))
            stream_emit(s);
        else
            lose(s, resume->next_wanted[i]);
    }
}

void streams_cancel(router_peer *p, const msg_cancel *cancel)
{
    router_link *l = p->link;
    for (size_t i = 0; i < cancel->count; i++) {
        stream *s = key_map_find(p->by_number, cancel->stream[i]);
        if (s == NULL) continue;
        note_cancel(s, cancel->t);
        if (cancel->forget)
            forget(l, s);
        else if (s->phase == STREAM_PREPARING)
            s->cancel_reason = cancel->finish;
        else if (s->phase == STREAM_RUNNING)
            engine_thread_cancel(l->engine, s->key, cancel->finish);
    }
}

/* Another router than this one sends it to a client. */
static bool is_sent_by_another(const stream *s, const router_peer *p)
{
    return s->peer != NULL && s->peer != p && !s->hold;
}

static void adopt_one(router_peer *p, stream *s, uint32_t number, uint32_t next_wanted)
{
    bool hold = next_wanted == NEXT_WANTED_HOLD;
    if (hold && is_sent_by_another(s, p)) {
        say_moved(p, number);
        return;
    }
    stream_join(s, p, number);
    s->hold = hold;
    if (!hold && !rewind_stream(s, next_wanted))
        lose(s, next_wanted);
    else
        stream_emit(s);
}

void streams_adopt(router_peer *p, const msg_adopt *adopt)
{
    router_link *l = p->link;
    for (size_t i = 0; i < adopt->drop_count; i++) {
        stream *s = stream_find_id(l, &adopt->drop[i]);
        if (s == NULL || is_sent_by_another(s, p)) continue;
        if (s->peer != NULL && s->peer != p) say_moved(s->peer, s->number);
        forget(l, s);
    }
    for (size_t i = 0; i < adopt->count; i++) {
        stream *s = stream_find_id(l, &adopt->request_id[i]);
        if (s != NULL)
            adopt_one(p, s, adopt->stream[i], adopt->next_wanted[i]);
        else if (adopt->next_wanted[i] != NEXT_WANTED_HOLD) /* it ended meanwhile */
            say_lost(p, adopt->stream[i], adopt->next_wanted[i]);
    }
}

/* -- the engine's outputs -------------------------------------------------------------- */

static void take_tokens(router_link *l, const engine_batch *b)
{
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
        if (s == NULL) continue;
        if (s->peer != NULL && token_columns_empty(&s->peer->columns))
            s->peer->columns.emitted_us = b->emitted_us;
        stream_emit(s);
    }
}

static void take_finish(router_link *l, const engine_finish *f)
{
    stream *s = key_map_find(l->by_key, f->key);
    if (s == NULL) {
        freeing *forgotten = key_map_remove(l->freeing, f->key);
        if (forgotten != NULL && forgotten->peer != NULL)
            say_freed(forgotten->peer, forgotten->number, forgotten->t);
        mem_free(forgotten);
        return;
    }
    CHECK(f->total == s->held.made);
    if (s->cancel_t != 0) {
        say_freed(s->peer, s->number, s->cancel_t);
        s->cancel_t = 0;
    }
    s->finish = (msg_finish){.prompt_tokens = f->prompt_tokens,
                             .cached_tokens = f->cached_tokens,
                             .has_stop_id = f->has_stop_id,
                             .stop_id = f->stop_id,
                             .queue_us = f->queue_us,
                             .prefill_us = f->prefill_us,
                             .decode_us = f->decode_us};
    if (f->stop_text != NULL) s->stop_text = mem_strdup(f->stop_text);
    if (f->reason == FINISH_FAILED)
        stream_fail(s, &f->failure);
    else
        stream_finish(s, f->reason);
}

void streams_take(router_link *l, const engine_batch *b)
{
    take_tokens(l, b);
    for (uint32_t i = 0; i < b->finish_count; i++)
        take_finish(l, &b->finishes[i]);
}

/* -- all of them ----------------------------------------------------------------------- */

static bool is_named_to(const router_peer *p, const stream *s, bool returned)
{
    if (s->peer == NULL) return true;
    return returned && s->peer != p && id128_equal(&s->former, &p->router);
}

msg_live *streams_live(const router_peer *p, bool returned, arena *scratch, size_t *count)
{
    const router_link *l = p->link;
    msg_live *live = arena_alloc(scratch, l->stream_count * sizeof *live);
    *count = 0;
    for (uint32_t i = 0; i < l->stream_count; i++) {
        const stream *s = l->streams[i];
        if (!is_named_to(p, s, returned)) continue;
        live[(*count)++] = (msg_live){.request_id = s->request_id,
                                      .base = s->held.base,
                                      .next = s->held.made,
                                      .finished = s->phase == STREAM_FINISHED,
                                      .owner = s->owner,
                                      .yours = id128_equal(&s->router, &p->router) ||
                                               id128_equal(&s->former, &p->router),
                                      .model = text_of(l->model_name)};
    }
    return live;
}

void streams_link_down(router_peer *p)
{
    const router_link *l = p->link;
    token_columns_clear(&p->columns);
    for (uint32_t i = 0; i < l->stream_count; i++)
        if (l->streams[i]->peer == p) stream_leave(l->streams[i]);
    uint32_t cursor = 0;
    for (freeing *f; (f = key_map_next(l->freeing, &cursor)) != NULL;)
        if (f->peer == p) f->peer = NULL;
}

void streams_forget_orphans(router_link *l)
{
    uint64_t now_ms = clock_now_ms();
    uint32_t forgotten = 0;
    for (uint32_t i = l->stream_count; i-- > 0;) {
        stream *s = l->streams[i];
        if (s->peer != NULL || now_ms - s->alone_since_ms < LIMIT_ORPHAN_MS) continue;
        forget(l, s);
        forgotten++;
    }
    if (forgotten > 0) log_warn("no router asked for them any more, forgotten=%u", forgotten);
}

void streams_create(router_link *l)
{
    l->streams = mem_calloc(LIMIT_STREAMS_PER_LINK, sizeof *l->streams);
    l->by_key = key_map_create(LIMIT_STREAMS_PER_LINK);
    l->freeing = key_map_create(LIMIT_STREAMS_PER_LINK); /* the engine has no more */
}

void streams_destroy(router_link *l)
{
    while (l->stream_count > 0)
        stream_remove(l, l->streams[l->stream_count - 1]);
    uint32_t cursor = 0;
    for (freeing *f; l->freeing != NULL && (f = key_map_next(l->freeing, &cursor)) != NULL;)
        mem_free(f);
    key_map_destroy(l->freeing);
    key_map_destroy(l->by_key);
    mem_free(l->streams);
}
