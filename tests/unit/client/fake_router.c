#include "fake_router.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"

enum { STREAMS_MAX = 256, PEERS_MAX = 64, TICK_MS = 1, GROUP_MAX = 64 };

typedef struct peer {
    fake_router *router;
    session *session;
} peer;

typedef struct fake_stream {
    id128 id;
    uint64_t seed; /* of the first Submit: stays when the rest is forgotten */
    bool known;
    peer *peer; /* NULL while its client is away */
    uint32_t number, position, acked, window, total;
    bool cancelled, finish_sent;
} fake_stream;

struct fake_router {
    session_hub *hub;
    session_listener *listener;
    uv_timer_t tick;
    char url[64];
    fake_plan plan;
    fake_counts counts;
    uint64_t random;
    id128 instance;
    peer *peers[PEERS_MAX];
    fake_stream streams[STREAMS_MAX];
    size_t stream_count;
    void (*on_closed)(void *ctx);
    void *ctx;
};

uint32_t fake_token(uint32_t index)
{
    return index * 2654435761u >> 12;
}

uint32_t fake_text(uint32_t index, char *out)
{
    if (index % 5 == 4) return 0; /* some tokens add no text */
    return (uint32_t)snprintf(out, 16, "%s%u", index % 3 == 0 ? "\xc3\xa9" : " ", index);
}

static uint32_t draw(fake_router *r, uint32_t below)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return (uint32_t)((r->random >> 20) % below);
}

/* -- sending --------------------------------------------------------------------------- */

static void send_error(peer *p, uint32_t stream, status code)
{
    envelope e = {.kind = ENVELOPE_ERROR,
                  .error = {.stream = stream,
                            .code = code,
                            .text = text_of("the fake router was told to refuse"),
                            .retry_after_ms = 20}};
    session_send(p->session, &e);
}

static void send_accepted(fake_stream *s, bool resumed)
{
    envelope e = {.kind = ENVELOPE_ACCEPTED, .accepted = {s->number, resumed}};
    session_send(s->peer->session, &e);
}

static void send_tokens(fake_router *r, fake_stream *s, uint32_t first, uint32_t count)
{
    uint32_t ids[GROUP_MAX], text_len[GROUP_MAX], top_count[GROUP_MAX];
    uint32_t top_ids[2 * GROUP_MAX];
    float logprobs[GROUP_MAX], top_logprobs[2 * GROUP_MAX];
    uint8_t text[16 * GROUP_MAX];
    size_t text_size = 0, tops = 0;
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = fake_token(first + i);
        text_len[i] = fake_text(first + i, (char *)text + text_size);
        text_size += text_len[i];
        logprobs[i] = -(float)(first + i);
        top_count[i] = (first + i) % 3;
        for (uint32_t k = 0; k < top_count[i]; k++, tops++) {
            top_ids[tops] = ids[i] + k;
            top_logprobs[tops] = logprobs[i] - (float)k;
        }
    }
    envelope e = {.kind = ENVELOPE_TOKENS,
                  .tokens = {.stream = &s->number,
                             .first_index = &first,
                             .count = &count,
                             .groups = 1,
                             .token = ids,
                             .text_len = text_len,
                             .tokens = count,
                             .text = text,
                             .text_size = text_size}};
    if (r->plan.logprobs) {
        e.tokens.logprob = logprobs;
        e.tokens.top_count = top_count;
        e.tokens.top_id = top_ids;
        e.tokens.top_logprob = top_logprobs;
        e.tokens.top_total = tops;
    }
    session_send(s->peer->session, &e);
}

static void send_finish(fake_router *r, fake_stream *s)
{
    uint32_t crc = r->plan.wrong_crc;
    for (uint32_t i = 0; i < s->position; i++)
        crc = ids_crc32c(crc, &(uint32_t){fake_token(i)}, 1);
    envelope e = {.kind = ENVELOPE_FINISH,
                  .finish = {.stream = s->number,
                             .total = s->position,
                             .reason = s->cancelled ? FINISH_CANCELLED : FINISH_STOP,
                             .crc = crc,
                             .prompt_tokens = 11,
                             .cached_tokens = 3,
                             .stop_text = text_of(s->cancelled ? NULL : "the end"),
                             .queue_us = 1,
                             .prefill_us = 2,
                             .decode_us = 3}};
    session_send(s->peer->session, &e);
    s->finish_sent = true;
}

void fake_router_cut(fake_router *r)
{
    for (size_t i = 0; i < PEERS_MAX; i++)
        if (r->peers[i] != NULL) session_cut(r->peers[i]->session);
}

void fake_router_restart(fake_router *r)
{
    fake_router_cut(r);
    for (size_t i = 0; i < r->stream_count; i++)
        r->streams[i].known = false;
    r->instance = id128_random();
}

/* A group of the stream's next tokens, or something that should not happen. True: it was cut. */
static bool send_group(fake_router *r, fake_stream *s, uint32_t end)
{
    uint32_t count = r->plan.group != 0 ? r->plan.group : 1 + draw(r, 7);
    if (count > end - s->position) count = end - s->position;
    uint32_t first = s->position;
    s->position += count;
    if (s->position > r->counts.sent_max) r->counts.sent_max = s->position;

    if (r->plan.chaos == 0 || draw(r, r->plan.chaos) != 0) {
        send_tokens(r, s, first, count);
        return false;
    }
    switch (draw(r, 6)) {
    case 0:
        r->counts.gaps++; /* it is just not sent */
        return false;
    case 1:
        r->counts.repeats++;
        send_tokens(r, s, first, count);
        send_tokens(r, s, first > 3 ? first - 3 : 0, count);
        return false;
    case 2:
        r->counts.swaps++;
        if (count > 1) {
            send_tokens(r, s, first + 1, count - 1);
            send_tokens(r, s, first, 1);
        }
        return false;
    case 3:
        r->counts.losses++;
        s->known = false;
        send_error(s->peer, s->number, ST_UNAVAILABLE);
        return false;
    case 4:
        r->counts.cuts++;
        fake_router_cut(r);
        return true;
    default:
        r->counts.restarts++;
        fake_router_restart(r);
        return true;
    }
}

static void on_tick(uv_timer_t *timer)
{
    fake_router *r = timer->data;
    if (r->plan.silent) return;
    for (size_t i = 0; i < r->stream_count; i++) {
        fake_stream *s = &r->streams[i];
        if (!s->known || s->peer == NULL || s->finish_sent) continue;
        uint32_t end = s->acked + s->window < s->total ? s->acked + s->window : s->total;
        if (s->position < end && !s->cancelled) {
            if (send_group(r, s, end)) return;
        } else if (s->position == s->total || s->cancelled) {
            send_finish(r, s);
        }
    }
}

/* -- hearing ------------------------------------------------------------------------------ */

static fake_stream *find_id(fake_router *r, const id128 *id)
{
    for (size_t i = 0; i < r->stream_count; i++)
        if (id128_equal(&r->streams[i].id, id)) return &r->streams[i];
    return NULL;
}

static fake_stream *find_number(fake_router *r, const peer *p, uint32_t number)
{
    for (size_t i = 0; i < r->stream_count; i++)
        if (r->streams[i].known && r->streams[i].peer == p && r->streams[i].number == number)
            return &r->streams[i];
    return NULL;
}

static void on_submit(peer *p, const msg_submit *m)
{
    fake_router *r = p->router;
    r->counts.submits++;
    r->counts.repeated_submits += m->prior_count > 0;
    for (size_t i = 0; i < m->prior_count; i++)
        CHECK(m->prior_ids[i] == fake_token((uint32_t)i));
    CHECK(m->sampling.has_seed);
    if (r->plan.refuse != ST_OK && r->plan.refusals > 0 &&
        (!r->plan.refuse_again || m->prior_count > 0)) {
        r->plan.refusals -= r->plan.refusals != UINT32_MAX;
        send_error(p, m->stream, r->plan.refuse);
        return;
    }
    fake_stream *s = find_id(r, &m->request_id);
    bool resumed = s != NULL && s->known;
    if (s == NULL) {
        CHECK(r->stream_count < STREAMS_MAX);
        s = &r->streams[r->stream_count++];
        s->id = m->request_id;
        s->seed = m->sampling.seed;
    }
    CHECK(s->seed == m->sampling.seed);
    CHECK(find_number(r, p, m->stream) == NULL || find_number(r, p, m->stream) == s);
    s->known = true;
    s->peer = p;
    s->number = m->stream;
    s->position = s->acked = (uint32_t)m->prior_count;
    s->window = m->window;
    s->total = r->plan.tokens;
    s->cancelled = s->finish_sent = false;
    send_accepted(s, resumed);
}

static void on_resume(peer *p, const msg_resume *m)
{
    fake_router *r = p->router;
    for (size_t i = 0; i < m->count; i++) {
        r->counts.resumes++;
        fake_stream *s = find_id(r, &m->request_id[i]);
        if (s == NULL || !s->known) {
            send_error(p, m->stream[i], ST_NOT_FOUND);
            continue;
        }
        CHECK(m->next_wanted[i] >= s->acked && m->next_wanted[i] <= s->total);
        s->peer = p;
        s->number = m->stream[i];
        s->position = s->acked = m->next_wanted[i];
        s->finish_sent = false;
        send_accepted(s, true);
    }
}

static void on_ack(peer *p, const msg_ack *m)
{
    for (size_t i = 0; i < m->count; i++) {
        p->router->counts.acks++;
        fake_stream *s = find_number(p->router, p, m->stream[i]);
        if (s == NULL) continue;
        CHECK(m->next_wanted[i] <= s->position || p->router->plan.chaos > 0);
        if (m->next_wanted[i] > s->acked) s->acked = m->next_wanted[i];
        if (s->finish_sent && s->acked == s->position) s->known = false; /* all of it arrived */
    }
}

static void on_query(peer *p, const msg_query *m)
{
    p->router->counts.queries++;
    msg_model model = {text_of("fake-model"), text_of("r1"), 4096};
    msg_worker_report workers[2] = {
        {.worker_id = text_of("w1"),
         .device = text_of("cpu: fake"),
         .models = &model,
         .model_count = 1,
         .slots = 8,
         .kv_blocks = 100,
         .load = {.running = 2, .waiting = 1, .kv_blocks_free = 75, .step_us = 1500},
         .connected = true},
        {.worker_id = text_of("w2"), .draining = true},
    };
    envelope e = {.kind = ENVELOPE_REPORT,
                  .report = {.id = m->id,
                             .build = text_of("fake 1"),
                             .uptime_ms = 3723000,
                             .workers = workers,
                             .worker_count = 2,
                             .clients = 1,
                             .tokens_total = 5000000000u}};
    session_send(p->session, &e);
}

static void on_envelope(void *ctx, session *s, const envelope *e, const error *refused)
{
    (void)s;
    peer *p = ctx;
    CHECK(refused == NULL);
    switch (e->kind) {
    case ENVELOPE_SUBMIT:
        on_submit(p, &e->submit);
        break;
    case ENVELOPE_RESUME:
        on_resume(p, &e->resume);
        break;
    case ENVELOPE_ACK:
        on_ack(p, &e->ack);
        break;
    case ENVELOPE_CANCEL:
        for (size_t i = 0; i < e->cancel.count; i++) {
            p->router->counts.cancels++;
            fake_stream *stream = find_number(p->router, p, e->cancel.stream[i]);
            if (stream != NULL) stream->cancelled = true;
            if (stream != NULL && p->router->plan.silent) send_finish(p->router, stream);
        }
        break;
    case ENVELOPE_QUERY:
        on_query(p, &e->query);
        break;
    default:
        CHECK(e->kind == ENVELOPE_NONE);
    }
}

static status on_hello(void *ctx, session *s, const msg_hello *hello, msg_welcome *welcome,
                       void **session_ctx, error *err)
{
    fake_router *r = ctx;
    CHECK(hello->role == ROLE_CLIENT);
    r->counts.hellos++;
    if (r->plan.hello_status != ST_OK)
        return error_set(err, r->plan.hello_status, "the fake router does not know this token");
    welcome->router_instance = r->instance;
    welcome->window_default = LIMIT_WINDOW_TOKENS_DEFAULT;
    welcome->streams_max = LIMIT_STREAMS_PER_LINK;
    peer *p = mem_calloc(1, sizeof *p);
    p->router = r;
    p->session = s;
    *session_ctx = p;
    for (size_t i = 0; i < PEERS_MAX; i++) {
        if (r->peers[i] != NULL) continue;
        r->peers[i] = p;
        return ST_OK;
    }
    CHECK(r->peers[0] == NULL);
    return ST_OK;
}

static void on_down(void *ctx, session *s, const error *why)
{
    (void)s;
    (void)why;
    peer *p = ctx;
    fake_router *r = p->router;
    for (size_t i = 0; i < PEERS_MAX; i++)
        if (r->peers[i] == p) r->peers[i] = NULL;
    for (size_t i = 0; i < r->stream_count; i++)
        if (r->streams[i].peer == p) r->streams[i].peer = NULL;
    mem_free(p);
}

/* -- life --------------------------------------------------------------------------------- */

fake_router *fake_router_create(uv_loop_t *loop, const fake_plan *plan)
{
    static const session_handlers handlers = {
        .on_hello = on_hello, .on_envelope = on_envelope, .on_down = on_down};
    fake_router *r = mem_calloc(1, sizeof *r);
    r->plan = *plan;
    r->random = plan->seed * 0x9e3779b97f4a7c15u + 1;
    r->instance = id128_random();
    error err;
    if (session_hub_create(&r->hub, loop, &err) != ST_OK ||
        session_listen(&r->listener, r->hub, "tcp://127.0.0.1:0", NULL, &handlers, r, &err) !=
            ST_OK) {
        fprintf(stderr, "fake router: %s\n", err.text);
        CHECK(r->listener != NULL);
    }
    snprintf(r->url, sizeof r->url, "tcp://127.0.0.1:%u",
             (unsigned)session_listener_port(r->listener));
    uv_timer_init(loop, &r->tick);
    r->tick.data = r;
    uv_timer_start(&r->tick, on_tick, TICK_MS, TICK_MS);
    return r;
}

const char *fake_router_url(const fake_router *r)
{
    return r->url;
}

const fake_counts *fake_router_counts(const fake_router *r)
{
    return &r->counts;
}

fake_plan *fake_router_plan(fake_router *r)
{
    return &r->plan;
}

static void on_tick_closed(uv_handle_t *handle)
{
    fake_router *r = handle->data;
    void (*on_closed)(void *ctx) = r->on_closed;
    void *ctx = r->ctx;
    mem_free(r);
    on_closed(ctx);
}

static void on_hub_closed(void *ctx)
{
    fake_router *r = ctx;
    uv_close((uv_handle_t *)&r->tick, on_tick_closed);
}

void fake_router_close(fake_router *r, void (*on_closed)(void *ctx), void *ctx)
{
    r->on_closed = on_closed;
    r->ctx = ctx;
    uv_timer_stop(&r->tick);
    session_hub_close(r->hub, on_hub_closed, r);
}
