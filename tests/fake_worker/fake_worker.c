#include "tests/fake_worker/fake_worker.h"

#include <math.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "proto/token_columns.h"

typedef struct fake_stream {
    bool used;
    id128 id;
    uint32_t number, next, acked, window, length;
    uint32_t crc;
    uint64_t taken_us;
    uint32_t queue_us; /* until its first step */
} fake_stream;

struct fake_worker {
    fake_worker_options options;
    session *session;
    uv_timer_t timer;
    fake_stream *streams; /* [places]; a number's low 12 bits are its place */
    uint32_t places, open;
    token_columns columns;
    double due_us; /* when the next step of a fixed rate is due */
    char *worker_id, *text;
};

enum { PLACES_MAX = LIMIT_STREAMS_PER_LINK, PLACE_MASK = PLACES_MAX - 1, PLACES_FIRST = 16 };

uint32_t fake_token(const id128 *request_id, uint32_t index)
{
    uint32_t start;
    memcpy(&start, request_id->bytes, sizeof start);
    return (start ^ index * 2654435761u) % 100000;
}

static void send_envelope(void *ctx, const envelope *e)
{
    session_send(((fake_worker *)ctx)->session, e);
}

static void finish(fake_worker *w, fake_stream *s, finish_reason reason)
{
    token_columns_flush(&w->columns, send_envelope, w);
    envelope e = {.kind = ENVELOPE_FINISH};
    e.finish = (msg_finish){.stream = s->number,
                            .total = s->next,
                            .crc = s->crc,
                            .reason = reason,
                            .queue_us = s->queue_us};
    session_send(w->session, &e);
}

/* One token for every stream that has credit. */
static void step(fake_worker *w)
{
    uint64_t now_us = clock_now_ns() / 1000;
    for (uint32_t i = 0; i < w->places; i++) {
        fake_stream *s = &w->streams[i];
        if (!s->used || s->next == s->length || s->next >= s->acked + s->window) continue;
        if (s->taken_us != 0) s->queue_us = (uint32_t)(now_us - s->taken_us);
        s->taken_us = 0;
        uint32_t token = fake_token(&s->id, s->next);
        token_columns_add(&w->columns, s->number, s->next, token, w->text, w->options.text_bytes,
                          NAN, 0, NULL, NULL);
        s->crc = ids_crc32c(s->crc, &token, 1);
        s->next++;
        if (s->next == s->length) finish(w, s, FINISH_LENGTH);
    }
    w->columns.emitted_us = now_us;
    if (!token_columns_empty(&w->columns)) token_columns_flush(&w->columns, send_envelope, w);
}

/* As fast as the link takes it: on_idle goes on where it is not idle. */
static void step_when_idle(fake_worker *w)
{
    if (w->open > 0 && session_is_idle(w->session)) {
        step(w);
        (void)session_is_idle(w->session);
    }
}

static void on_timer(uv_timer_t *timer)
{
    fake_worker *w = timer->data;
    if (w->session == NULL || !session_is_up(w->session) || w->open == 0) return;
    if (w->options.tokens_per_second == 0) {
        step_when_idle(w);
        return;
    }
    double now_us = (double)clock_now_ns() / 1000;
    if (w->due_us == 0 || now_us - w->due_us > 1e6) w->due_us = now_us;
    while (w->due_us <= now_us) {
        w->due_us += 1e6 * w->open / w->options.tokens_per_second;
        step(w);
    }
}

static void on_idle(void *ctx, session *s)
{
    (void)s;
    fake_worker *w = ctx;
    if (w->options.tokens_per_second == 0) step_when_idle(w);
}

static void on_up(void *ctx, session *s, const msg_welcome *welcome)
{
    (void)welcome;
    fake_worker *w = ctx;
    w->places = 0;
    w->open = 0;
    token_columns_clear(&w->columns);
    const msg_model model = {
        .name = text_of(w->options.model), .revision = text_of("fake"), .context_max = 1 << 20};
    envelope e = {.kind = ENVELOPE_REGISTER};
    e.reg = (msg_register){.worker_id = text_of(w->options.worker_id),
                           .device = text_of("fake"),
                           .models = &model,
                           .model_count = 1,
                           .slots = w->options.slots,
                           .kv_blocks = 1,
                           .kv_block_tokens = 16};
    session_send(s, &e);
}

static void release(fake_worker *w, fake_stream *s)
{
    s->used = false;
    w->open--;
}

/* The router gives out the lowest places first. */
static fake_stream *open_place(fake_worker *w, uint32_t place)
{
    uint32_t count = w->places > 0 ? w->places : PLACES_FIRST;
    while (count <= place)
        count *= 2;
    if (count > w->places) {
        w->streams = mem_realloc(w->streams, count * sizeof *w->streams);
        memset(w->streams + w->places, 0, (count - w->places) * sizeof *w->streams);
        w->places = count;
    }
    return &w->streams[place];
}

static void take(fake_worker *w, const msg_submit *submit)
{
    fake_stream *s = open_place(w, submit->stream & PLACE_MASK);
    if (s->used) { /* its last acknowledgement is on the way; the router has let go of it */
        CHECK(s->next == s->length);
        release(w, s);
    }
    *s = (fake_stream){.used = true,
                       .id = submit->request_id,
                       .number = submit->stream,
                       .next = (uint32_t)submit->prior_count,
                       .acked = (uint32_t)submit->prior_count - submit->prior_unacked,
                       .window = submit->window,
                       .length = submit->max_tokens,
                       .taken_us = clock_now_ns() / 1000,
                       .crc = ids_crc32c(0, submit->prior_ids, submit->prior_count)};
    w->open++;
    if (s->next == s->length) finish(w, s, FINISH_LENGTH);
}

static fake_stream *find(fake_worker *w, uint32_t number)
{
    uint32_t place = number & PLACE_MASK;
    if (place >= w->places) return NULL;
    fake_stream *s = &w->streams[place];
    return s->used && s->number == number ? s : NULL;
}

static void on_envelope(void *ctx, session *from, const envelope *e, const error *refused)
{
    (void)from;
    fake_worker *w = ctx;
    if (refused != NULL) return;
    if (e->kind == ENVELOPE_SUBMIT) {
        take(w, &e->submit);
        if (w->options.tokens_per_second == 0) step_when_idle(w);
    }
    for (size_t i = 0; e->kind == ENVELOPE_ACK && i < e->ack.count; i++) {
        fake_stream *s = find(w, e->ack.stream[i]);
        if (s == NULL) continue;
        s->acked = e->ack.next_wanted[i];
        if (s->acked == s->length) release(w, s);
    }
    for (size_t i = 0; e->kind == ENVELOPE_CANCEL && i < e->cancel.count; i++) {
        fake_stream *s = find(w, e->cancel.stream[i]);
        if (s == NULL) continue;
        s->length = s->next;
        if (!e->cancel.forget) finish(w, s, e->cancel.finish);
        release(w, s);
    }
}

static void on_closed(void *ctx, session *from, const error *why)
{
    (void)from;
    (void)why;
    fake_worker *w = ctx;
    w->session = NULL;
    uv_close((uv_handle_t *)&w->timer, NULL);
}

status fake_worker_start(fake_worker **out, uv_loop_t *loop, session_hub *hub,
                         const fake_worker_options *options, error *err)
{
    static const session_handlers handlers = {
        .on_up = on_up, .on_envelope = on_envelope, .on_idle = on_idle, .on_closed = on_closed};
    fake_worker *w = mem_calloc(1, sizeof *w);
    w->options = *options;
    w->options.worker_id = w->worker_id = mem_strdup(options->worker_id);
    w->text = mem_calloc(1, options->text_bytes + 1);
    memset(w->text, 'x', options->text_bytes);
    const session_dial_options dial = {.urls = &options->router,
                                       .url_count = 1,
                                       .role = ROLE_WORKER,
                                       .instance = id128_random(),
                                       .name = options->worker_id,
                                       .dead_ms = options->dead_ms};
    status st = session_dial(&w->session, hub, &dial, &handlers, w, err);
    if (st != ST_OK) {
        fake_worker_destroy(w);
        return st;
    }
    CHECK(uv_timer_init(loop, &w->timer) == 0);
    w->timer.data = w;
    uint32_t tick_ms = options->tick_ms > 0 ? options->tick_ms : 1;
    uv_timer_start(&w->timer, on_timer, tick_ms, tick_ms);
    *out = w;
    return ST_OK;
}

void fake_worker_destroy(fake_worker *w)
{
    if (w == NULL) return;
    token_columns_free(&w->columns);
    mem_free(w->streams);
    mem_free(w->worker_id);
    mem_free(w->text);
    mem_free(w);
}
