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
} fake_stream;

struct fake_worker {
    fake_worker_options options;
    session *session;
    uv_timer_t timer;
    fake_stream *streams; /* [slots + slack], a number's low 12 bits are its place */
    uint32_t open;
    token_columns columns;
    double due_us; /* when the next step of a fixed rate is due */
    char *text;
};

enum { SLOT_COUNT = LIMIT_STREAMS_PER_LINK, SLOT_MASK = SLOT_COUNT - 1 };

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

static void finish(fake_worker *w, fake_stream *s)
{
    token_columns_flush(&w->columns, send_envelope, w);
    envelope e = {.kind = ENVELOPE_FINISH};
    e.finish =
        (msg_finish){.stream = s->number, .total = s->next, .crc = s->crc, .reason = FINISH_LENGTH};
    session_send(w->session, &e);
}

/* One token for every stream that has credit. */
static void step(fake_worker *w)
{
    uint64_t now_us = clock_now_ns() / 1000;
    for (uint32_t i = 0; i < SLOT_COUNT; i++) {
        fake_stream *s = &w->streams[i];
        if (!s->used || s->next == s->length || s->next >= s->acked + s->window) continue;
        uint32_t token = fake_token(&s->id, s->next);
        token_columns_add(&w->columns, s->number, s->next, token, w->text, w->options.text_bytes,
                          NAN, 0, NULL, NULL);
        s->crc = ids_crc32c(s->crc, &token, 1);
        s->next++;
        if (s->next == s->length) finish(w, s);
    }
    w->columns.emitted_us = now_us;
    if (!token_columns_empty(&w->columns)) token_columns_flush(&w->columns, send_envelope, w);
}

static void on_timer(uv_timer_t *timer)
{
    fake_worker *w = timer->data;
    if (w->session == NULL || !session_is_up(w->session) || w->open == 0) return;
    if (w->options.tokens_per_second == 0) {
        if (session_is_idle(w->session)) step(w);
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
    fake_worker *w = ctx;
    if (w->options.tokens_per_second == 0 && session_is_up(s) && w->open > 0) step(w);
}

static void on_up(void *ctx, session *s, const msg_welcome *welcome)
{
    (void)welcome;
    fake_worker *w = ctx;
    memset(w->streams, 0, SLOT_COUNT * sizeof *w->streams);
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

static void take(fake_worker *w, const msg_submit *submit)
{
    fake_stream *s = &w->streams[submit->stream & SLOT_MASK];
    CHECK(!s->used);
    *s = (fake_stream){.used = true,
                       .id = submit->request_id,
                       .number = submit->stream,
                       .window = submit->window,
                       .length = submit->max_tokens};
    w->open++;
}

static fake_stream *find(fake_worker *w, uint32_t number)
{
    fake_stream *s = &w->streams[number & SLOT_MASK];
    return s->used && s->number == number ? s : NULL;
}

static void release(fake_worker *w, fake_stream *s)
{
    s->used = false;
    w->open--;
}

static void on_envelope(void *ctx, session *from, const envelope *e, const error *refused)
{
    (void)from;
    fake_worker *w = ctx;
    if (refused != NULL) return;
    if (e->kind == ENVELOPE_SUBMIT) take(w, &e->submit);
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
        if (!e->cancel.forget) finish(w, s);
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
    w->streams = mem_calloc(SLOT_COUNT, sizeof *w->streams);
    w->text = mem_calloc(1, options->text_bytes + 1);
    memset(w->text, 'x', options->text_bytes);
    const session_dial_options dial = {.urls = &options->router,
                                       .url_count = 1,
                                       .role = ROLE_WORKER,
                                       .instance = id128_random(),
                                       .name = options->worker_id};
    status st = session_dial(&w->session, hub, &dial, &handlers, w, err);
    if (st != ST_OK) {
        fake_worker_destroy(w);
        return st;
    }
    CHECK(uv_timer_init(loop, &w->timer) == 0);
    w->timer.data = w;
    uv_timer_start(&w->timer, on_timer, 1, 1);
    *out = w;
    return ST_OK;
}

void fake_worker_destroy(fake_worker *w)
{
    if (w == NULL) return;
    token_columns_free(&w->columns);
    mem_free(w->streams);
    mem_free(w->text);
    mem_free(w);
}
