/* One conversation over one link: Hello and Welcome, the tripwire, Ping, Pong and the dead timer.
 *
 * The tripwire: the dialler draws a random `link` for each connection and both sides number their
 * envelopes. What carries another number comes from an earlier connection (a PAIR0 socket's queue
 * outlives its connections); a jump in `n` is a lost message. Neither can be mended in place: the
 * link is closed with an Error, and both sides resume on a new one.
 *
 * Life is any byte received. Ping is sent when this side was silent for ping_ms (so that the peer
 * hears something) and when the peer was for half as long again (so that a peer that only answers
 * is heard). nng's TLS
 * never reports a peer that vanished, so both ends run the timer. Three guards keep a slow machine
 * from killing healthy links: the clocks start anew when this loop itself was late, the limit
 * grows with nng's own delay, and large batches that wait to be sent hold back Pings, not death. */
#include "proto/session.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "proto/session_internal.h"

enum {
    LAG_FACTOR = 3,
    LAG_MS_MAX = 10000,
    /* Pings and Pongs do not wait for on_idle, but a peer that does not read gets no more of them.
     */
    PING_BACKLOG_BYTES = 64 * 1024,
};

/* -- sending -------------------------------------------------------------------------- */

static void put(session *s, envelope *e)
{
    session_hub *hub = s->hub;
    buffer *frame = link_send_buffer(s->link);
    if (frame == NULL) return;
    e->link = s->link_id;
    e->n = ++s->tx_n;
    size_t before = frame->size;
    CHECK(envelope_encode(e, &hub->tx_arena, frame) == ST_OK);
    session_traffic *traffic = &hub->traffic[s->is_client];
    traffic->sent_messages++;
    traffic->sent_bytes += frame->size - before;
    link_sent(s->link);
    arena_reset(&hub->tx_arena);
    s->tx_ms = uv_now(hub->loop);
}

void session_send(session *s, const envelope *e)
{
    if (s->phase != SESSION_UP) return;
    envelope numbered = *e;
    put(s, &numbered);
    /* Clients are strangers: one that asks and asks and never reads must not fill our memory. */
    if (s->is_client && link_tx_bytes(s->link) > LIMIT_CLIENT_BACKLOG_BYTES) {
        session_because(s, ST_RESOURCE_EXHAUSTED, "%zu bytes wait and the client does not read",
                        link_tx_bytes(s->link));
        s->phase = SESSION_ENDING;
        link_close(s->link, 0);
    }
}

bool session_is_up(const session *s)
{
    return s->phase == SESSION_UP;
}

bool session_is_idle(session *s)
{
    return s->phase == SESSION_UP && link_is_idle(s->link);
}

size_t session_tx_bytes(const session *s)
{
    return s->link != NULL ? link_tx_bytes(s->link) : 0;
}

session_traffic session_hub_traffic(const session_hub *hub, role peers)
{
    return hub->traffic[peers == ROLE_CLIENT];
}

uint32_t session_rtt_us(const session *s)
{
    return s->rtt_us;
}

const char *session_peer_name(const session *s)
{
    if (s->dial != NULL) return s->dial->urls[s->dial->url_next];
    return s->name != NULL ? s->name : "unknown";
}

/* -- ending ------------------------------------------------------------------------------ */

void session_because(session *s, status code, const char *format, ...)
{
    if (s->why.text[0] != 0) return;
    va_list args;
    va_start(args, format);
    vsnprintf(s->why.text, sizeof s->why.text, format, args);
    va_end(args);
    s->why.code = code;
    s->why.retry_after_ms = 0;
}

/* Error(fatal) with `why` as the last word. */
static void put_last_error(session *s)
{
    envelope e = {.kind = ENVELOPE_ERROR,
                  .error = {.code = s->why.code,
                            .text = text_of(s->why.text),
                            .retry_after_ms = s->why.retry_after_ms,
                            .fatal = true}};
    put(s, &e);
    s->phase = SESSION_ENDING;
}

static void refuse(session *s, const error *why)
{
    s->why = *why;
    s->by_word = true;
    put_last_error(s);
    link_close(s->link, LIMIT_LINGER_MS);
}

static void __attribute__((format(printf, 3, 4)))
fail(session *s, status code, const char *format, ...)
{
    error why = {.code = code};
    va_list args;
    va_start(args, format);
    vsnprintf(why.text, sizeof why.text, format, args);
    va_end(args);
    refuse(s, &why);
}

/* The peer said why, or is silent: nothing more to say. */
static void hang_up(session *s)
{
    s->phase = SESSION_ENDING;
    link_close(s->link, 0);
}

void session_close(session *s, const char *reason)
{
    if (s->closing) return;
    s->closing = true;
    session_because(s, ST_OK, "closed here: %s", reason);
    if (s->phase == SESSION_UP) {
        envelope bye = {.kind = ENVELOPE_BYE, .bye.reason = text_of(reason)};
        put(s, &bye);
        s->phase = SESSION_ENDING;
        link_close(s->link, LIMIT_LINGER_MS);
    } else if (s->phase == SESSION_NONE) {
        session_finish_soon(s);
    } else if (s->phase != SESSION_ENDING) {
        hang_up(s);
    }
}

void session_cut(session *s)
{
    if (s->link == NULL || s->phase == SESSION_ENDING) return;
    session_because(s, ST_UNAVAILABLE, "the link was cut");
    hang_up(s);
}

/* -- Hello and Welcome ------------------------------------------------------------------------ */

static uint32_t within(uint32_t value, uint32_t least, uint32_t most)
{
    if (value < least) return least;
    return value < most ? value : most;
}

/* Both sides keep to what Welcome says, so it must make sense: at least two Pings fit before the
 * peer is dead. */
static void set_liveness(session *s, uint32_t ping_ms, uint32_t dead_ms)
{
    s->ping_ms = within(ping_ms, LIMIT_PING_MS_MIN, LIMIT_DEAD_MS_MAX / 2);
    s->dead_ms = within(dead_ms, 2 * s->ping_ms, LIMIT_DEAD_MS_MAX);
    if (s->ping_ms / 2 < s->hub->tick_ms) s->hub->tick_ms = s->ping_ms / 2;
}

static void start_clocks(session *s)
{
    s->rx_total = link_rx_total(s->link);
    s->rx_ms = s->tx_ms = s->ping_sent_ms = uv_now(s->hub->loop);
}

static void come_up(session *s)
{
    s->phase = SESSION_UP;
    link_set_message_bytes(s->link, LIMIT_MESSAGE_BYTES);
    start_clocks(s);
    s->measure_ms = uv_now(s->hub->loop) + s->ping_ms;
}

static bool check_sizes(session *s, uint32_t max_message_bytes)
{
    if (max_message_bytes == 0 || max_message_bytes >= LIMIT_MESSAGE_BYTES) return true;
    fail(s, ST_FAILED_PRECONDITION,
         "max_message_bytes is %" PRIu32 "; protocol version %u needs at least %u",
         max_message_bytes, LIMIT_PROTOCOL_VERSION, LIMIT_MESSAGE_BYTES);
    return false;
}

/* The link may have run empty before the session was up: its on_idle is still owed. */
static void first_idle(session *s)
{
    if (session_is_idle(s) && s->handlers.on_idle != NULL) s->handlers.on_idle(s->ctx, s);
}

static void take_hello(session *s, const envelope *e)
{
    if (e->kind != ENVELOPE_HELLO || e->n != 1 || e->link == 0) {
        fail(s, ST_FAILED_PRECONDITION,
             "the first message must be Hello with n 1 and a link that is not 0; it is %s with n "
             "%" PRIu32 " and link %" PRIu32,
             envelope_kind_name(e->kind), e->n, e->link);
        return;
    }
    const msg_hello *hello = &e->hello;
    if (hello->version != LIMIT_PROTOCOL_VERSION) {
        fail(s, ST_FAILED_PRECONDITION,
             "the peer speaks protocol version %" PRIu32 ", this gaggle %s speaks version %u; "
             "update the older of the two",
             hello->version, GAGGLE_VERSION, LIMIT_PROTOCOL_VERSION);
        return;
    }
    if (!check_sizes(s, hello->max_message_bytes)) return;
    s->rx_n = 1;
    s->is_client = hello->role == ROLE_CLIENT;
    s->name = text_dup(hello->name);
    set_liveness(s, hello->ping_ms != 0 ? hello->ping_ms : LIMIT_PING_MS_DEFAULT,
                 hello->dead_ms != 0 ? hello->dead_ms : s->listener->dead_ms);

    msg_welcome welcome = {.version = LIMIT_PROTOCOL_VERSION,
                           .ping_ms = s->ping_ms,
                           .dead_ms = s->dead_ms,
                           .max_message_bytes = LIMIT_MESSAGE_BYTES};
    void *session_ctx = NULL;
    error err = {0};
    status st = ST_OK;
    if (s->handlers.on_hello != NULL)
        st = s->handlers.on_hello(s->ctx, s, hello, &welcome, &session_ctx, &err);
    s->listener = NULL;
    if (st != ST_OK) {
        err.code = st;
        if (s->phase == SESSION_HELLO) refuse(s, &err);
        return;
    }
    s->ctx = session_ctx;
    s->told = true;
    if (s->phase != SESSION_HELLO) return; /* the callback closed it; on_down follows */
    come_up(s);
    envelope answer = {.kind = ENVELOPE_WELCOME, .welcome = welcome};
    put(s, &answer);
    if (s->handlers.on_up != NULL) s->handlers.on_up(s->ctx, s, NULL);
    first_idle(s);
}

static void put_hello(session *s)
{
    const session_dial_plan *plan = s->dial;
    envelope e = {.kind = ENVELOPE_HELLO,
                  .hello = {.version = LIMIT_PROTOCOL_VERSION,
                            .role = plan->role,
                            .instance = plan->instance,
                            .token = text_of(plan->token),
                            .ping_ms = plan->ping_ms,
                            .dead_ms = plan->dead_ms,
                            .max_message_bytes = LIMIT_MESSAGE_BYTES,
                            .build = text_of("gaggle " GAGGLE_VERSION),
                            .name = text_of(s->name)}};
    put(s, &e);
}

/* A fatal Error from the peer. */
static void take_refusal(session *s, const msg_error *m)
{
    session_because(s, m->code, "%.*s", (int)m->text.size, m->text.data);
    if (s->why.text[0] == 0) session_because(s, m->code, "%s", status_name(m->code));
    s->why.retry_after_ms = m->retry_after_ms;
    s->by_word = true;
    hang_up(s);
}

static void take_welcome(session *s, const envelope *e)
{
    if (e->kind == ENVELOPE_ERROR) {
        take_refusal(s, &e->error);
        return;
    }
    if (e->kind != ENVELOPE_WELCOME || e->n != 1 || e->link != s->link_id) {
        fail(s, ST_ABORTED,
             "Hello must be answered by Welcome with n 1 and link %" PRIu32
             "; the answer is %s with n %" PRIu32 " and link %" PRIu32,
             s->link_id, envelope_kind_name(e->kind), e->n, e->link);
        return;
    }
    const msg_welcome *welcome = &e->welcome;
    if (welcome->version != LIMIT_PROTOCOL_VERSION) {
        fail(s, ST_FAILED_PRECONDITION,
             "the router speaks protocol version %" PRIu32 ", this gaggle %s speaks version %u",
             welcome->version, GAGGLE_VERSION, LIMIT_PROTOCOL_VERSION);
        return;
    }
    if (!check_sizes(s, welcome->max_message_bytes)) return;
    s->rx_n = 1;
    s->dial->failures = 0;
    set_liveness(s, welcome->ping_ms, welcome->dead_ms);
    come_up(s);
    s->told = true;
    s->ever_up = true;
    if (s->handlers.on_up != NULL) s->handlers.on_up(s->ctx, s, welcome);
    first_idle(s);
}

/* -- receiving ------------------------------------------------------------------------------------
 */

static bool check_tripwire(session *s, const envelope *e)
{
    if (e->link != s->link_id) {
        fail(s, ST_ABORTED,
             "a message of link %" PRIu32 " came over link %" PRIu32 ": it is from an earlier "
             "connection",
             e->link, s->link_id);
        return false;
    }
    if (e->n != s->rx_n + 1) {
        fail(s, ST_DATA_LOSS, "message %" PRIu32 " came where %" PRIu32 " was due: some were lost",
             e->n, s->rx_n + 1);
        return false;
    }
    s->rx_n = e->n;
    return true;
}

static void take_round_trip(session *s, uint64_t t)
{
    if (s->asked_us == 0 || t != s->asked_us) return;
    uint64_t rtt_us = uv_hrtime() / 1000 - s->asked_us;
    s->rtt_us = rtt_us < UINT32_MAX ? (uint32_t)rtt_us : UINT32_MAX;
    if (s->rtt_us == 0) s->rtt_us = 1;
    s->asked_us = 0;
}

static void take(session *s, const envelope *e, const error *refused)
{
    if (!check_tripwire(s, e)) return;
    switch (e->kind) {
    case ENVELOPE_PING:
        /* Whoever sent something within ping_ms was heard without a Pong. */
        if ((e->ping.measure || uv_now(s->hub->loop) - s->tx_ms >= s->ping_ms) &&
            link_tx_bytes(s->link) < PING_BACKLOG_BYTES) {
            envelope pong = {.kind = ENVELOPE_PONG, .pong.t = e->ping.t};
            put(s, &pong);
        }
        break;
    case ENVELOPE_PONG: /* its bytes were life */
        take_round_trip(s, e->pong.t);
        break;
    case ENVELOPE_BYE:
        session_because(s, ST_CANCELLED, "the peer said goodbye: %.*s", (int)e->bye.reason.size,
                        e->bye.reason.data);
        hang_up(s);
        break;
    case ENVELOPE_HELLO:
    case ENVELOPE_WELCOME:
        fail(s, ST_ABORTED, "%s came a second time", envelope_kind_name(e->kind));
        break;
    case ENVELOPE_ERROR:
        if (e->error.fatal && e->error.stream == 0) {
            take_refusal(s, &e->error);
            break;
        }
        s->handlers.on_envelope(s->ctx, s, e, refused);
        break;
    default:
        s->handlers.on_envelope(s->ctx, s, e, refused);
    }
}

static void on_message(void *ctx, link_peer *l, const uint8_t *bytes, size_t size)
{
    (void)l;
    session *s = ctx;
    arena *scratch = &s->hub->rx_arena;
    s->hub->traffic[s->is_client].received_messages++;
    s->hub->traffic[s->is_client].received_bytes += size;
    envelope e;
    error err = {0};
    status st = envelope_decode(bytes, size, scratch, &e, &err);
    if (st != ST_OK && st != ST_OUT_OF_RANGE) {
        refuse(s, &err);
    } else if (s->phase == SESSION_UP) {
        take(s, &e, st == ST_OUT_OF_RANGE ? &err : NULL);
    } else if (s->dial != NULL) {
        take_welcome(s, &e);
    } else {
        s->link_id = e.link;
        take_hello(s, &e);
    }
    arena_reset(scratch);
}

static void on_link_idle(void *ctx, link_peer *l)
{
    (void)l;
    session *s = ctx;
    if (s->phase == SESSION_UP && s->handlers.on_idle != NULL) s->handlers.on_idle(s->ctx, s);
}

/* The link lingers and closes by itself after this. */
static void on_refused(void *ctx, link_peer *l, const char *text)
{
    (void)l;
    session *s = ctx;
    session_because(s, ST_INVALID_ARGUMENT, "%s", text);
    put_last_error(s);
}

/* -- life and death of the link below
 * ----------------------------------------------------------------- */

static void begin_hello(session *s, link_peer *l)
{
    s->link = l;
    s->phase = SESSION_HELLO;
    s->tx_n = s->rx_n = 0;
    s->hello_until_ms = uv_now(s->hub->loop) + LIMIT_HELLO_TIMEOUT_MS;
}

static void *on_accepted(void *ctx, link_peer *l)
{
    session_listener *listener = ctx;
    session *s = session_create(listener->hub, &listener->handlers, listener->ctx);
    s->listener = listener;
    begin_hello(s, l);
    return s;
}

static void *on_dialled(void *ctx, link_peer *l)
{
    session *s = ctx;
    begin_hello(s, l);
    id128 random = id128_random();
    memcpy(&s->link_id, random.bytes, sizeof s->link_id);
    if (s->link_id == 0) s->link_id = 1;
    put_hello(s);
    return s;
}

static void on_link_down(void *ctx, link_peer *l, status why, const char *text)
{
    (void)l;
    session_link_gone(ctx, why, text);
}

const link_handlers session_accepted_handlers = {.on_up = on_accepted,
                                                 .on_message = on_message,
                                                 .on_idle = on_link_idle,
                                                 .on_refused = on_refused,
                                                 .on_down = on_link_down};
const link_handlers session_dialled_handlers = {.on_up = on_dialled,
                                                .on_message = on_message,
                                                .on_idle = on_link_idle,
                                                .on_refused = on_refused,
                                                .on_down = on_link_down};

void session_tick(session *s, uint64_t now_ms, uint64_t late_ms)
{
    bool stood_still =
        late_ms > 2 * (uint64_t)(s->phase == SESSION_UP ? s->ping_ms : LIMIT_PING_MS_DEFAULT);
    if (stood_still) s->hello_until_ms += late_ms;
    if (s->phase == SESSION_HELLO && now_ms >= s->hello_until_ms)
        fail(s, ST_DEADLINE_EXCEEDED, "no %s within %u ms", s->dial != NULL ? "Welcome" : "Hello",
             LIMIT_HELLO_TIMEOUT_MS);
    if (s->phase != SESSION_UP) return;
    if (stood_still) {
        start_clocks(s);
    } else if (s->rx_total != link_rx_total(s->link)) {
        s->rx_total = link_rx_total(s->link);
        s->rx_ms = now_ms;
    }

    /* The peer pings at this interval, too, and may be a tick late. */
    uint64_t silent_ms = now_ms - s->rx_ms;
    bool overdue = silent_ms >= s->ping_ms + s->ping_ms / 2;
    uint64_t grace_ms = 0;
    if (overdue) grace_ms = (uint64_t)LAG_FACTOR * link_hub_lag_ms(s->hub->links);
    if (grace_ms > LAG_MS_MAX) grace_ms = LAG_MS_MAX;
    if (silent_ms >= s->dead_ms + grace_ms) {
        session_because(s, ST_UNAVAILABLE,
                        "the peer is dead: nothing came from it for %" PRIu64 " ms", silent_ms);
        hang_up(s);
        return;
    }
    bool silent_here = now_ms - s->tx_ms >= s->ping_ms;
    bool silent_there = overdue && now_ms - s->ping_sent_ms >= s->ping_ms;
    /* Only of the workers that came to us: theirs is what people want to know. */
    bool measure = s->dial == NULL && !s->is_client && now_ms >= s->measure_ms;
    if ((silent_here || silent_there || measure) && link_tx_bytes(s->link) < PING_BACKLOG_BYTES) {
        uint64_t now_us = uv_hrtime() / 1000;
        envelope ping = {.kind = ENVELOPE_PING, .ping = {now_us, measure}};
        put(s, &ping);
        s->ping_sent_ms = now_ms;
        if (measure) {
            s->asked_us = now_us;
            s->measure_ms = now_ms + LIMIT_MEASURE_MS;
        }
    }
}
