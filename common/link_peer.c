/* One link: the bytes of its transport in and out, cut into messages; and its states.
 *
 * Two operations at most are with the transport: `rx` (the dial, then one receive) and `tx` (one
 * send). Once it is closed and both are back, the link is freed. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/link_internal.h"
#include "common/log.h"

enum {
    HELLO_SIZE = 8,
    /* A buffer that a burst or one large message blew up is given back once it is empty. */
    RX_KEEP_BYTES = 256 * 1024,
    TX_KEEP_BYTES = 16 * 1024,
    /* Our send failed: how long what the peer sent before that may still take to be read. */
    LAST_WORDS_MS = 250,
};

/* SP over a byte stream: both sides send this, 0x0010 being PAIR version 0. */
static const uint8_t sp_hello[HELLO_SIZE] = {0, 'S', 'P', 0, 0, 0x10, 0, 0};

static void put_be64(uint8_t *bytes, uint64_t value)
{
    for (int i = 7; i >= 0; i--) {
        bytes[i] = (uint8_t)value;
        value >>= 8;
    }
}

static size_t header_size(const link_peer *l)
{
    return l->scheme->framing == LINK_FRAMING_IPC ? 9 : 8;
}

/* -- closing ------------------------------------------------------------------------ */

static void prove(link_peer *l)
{
    if (l->unproven) l->hub->unproven--;
    l->unproven = false;
}

/* why and why_text are set. */
static void begin_closing(link_peer *l)
{
    l->state = LINK_CLOSING;
    l->listener = NULL;
    prove(l);
    link_hub_release_tls(l->hub, l);
    l->scheme->transport->close(l);
    link_hub_attend(l->hub, l);
}

static void set_why(link_peer *l, status why, const char *format, va_list args)
{
    l->why = why;
    vsnprintf(l->why_text, sizeof l->why_text, format, args);
}

void link_peer_fail(link_peer *l, status why, const char *format, ...)
{
    if (l->state == LINK_CLOSING) return;
    /* A lingering link has its reason already. */
    if (l->state != LINK_LINGERING) {
        va_list args;
        va_start(args, format);
        set_why(l, why, format, args);
        va_end(args);
    }
    begin_closing(l);
}

static void linger(link_peer *l, uint32_t linger_ms)
{
    l->state = LINK_LINGERING;
    l->close_until_ms = uv_now(l->hub->loop) + linger_ms;
    link_hub_attend(l->hub, l);
}

/* The peer broke a rule: let the owner say why, then close. */
static void __attribute__((format(printf, 2, 3))) refuse(link_peer *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set_why(l, ST_INVALID_ARGUMENT, format, args);
    va_end(args);
    if (l->state == LINK_UP && l->handlers.on_refused != NULL) {
        char text[sizeof l->why_text];
        memcpy(text, l->why_text, sizeof text);
        l->handlers.on_refused(l->ctx, l, text);
        if (l->state != LINK_UP) return;
        linger(l, LIMIT_LINGER_MS);
        return;
    }
    begin_closing(l);
}

void link_close(link_peer *l, uint32_t linger_ms)
{
    if (l->state == LINK_CLOSING || (l->state == LINK_LINGERING && linger_ms > 0)) return;
    if (l->state != LINK_LINGERING) {
        l->why = ST_OK;
        snprintf(l->why_text, sizeof l->why_text, "closed here");
    }
    if (l->state == LINK_UP && linger_ms > 0 && !l->tx_failed)
        linger(l, linger_ms);
    else
        begin_closing(l);
}

/* -- sending ------------------------------------------------------------------------- */

/* Of what waits. False: nothing does. */
static bool next_batch(link_peer *l)
{
    buffer drained = l->tx_sending;
    l->tx_sending = l->tx_waiting;
    l->tx_sent = 0;
    buffer_clear(&drained);
    if (drained.capacity > TX_KEEP_BYTES) buffer_free(&drained);
    l->tx_waiting = drained;
    return l->tx_sending.size > 0;
}

static void send_more(link_peer *l)
{
    while (!l->tx.in_flight && !l->tx_failed && l->state != LINK_CLOSING) {
        if (l->tx_sent == l->tx_sending.size && !next_batch(l)) return;
        l->scheme->transport->send(l);
        CHECK(l->tx_sent <= l->tx_sending.size);
    }
}

void link_peer_sent(link_peer *l)
{
    send_more(l);
    if (l->idle_due && !l->tx.in_flight) link_hub_attend(l->hub, l);
}

/* The peer may have sent its reason before it closed: read on for a moment. */
void link_peer_send_failed(link_peer *l, status why, const char *text)
{
    l->tx_failed = true;
    l->close_until_ms = uv_now(l->hub->loop) + LAST_WORDS_MS;
    if (!l->rx.in_flight) link_peer_fail(l, why, "sending: %s", text);
}

void link_send(link_peer *l, const uint8_t *bytes, size_t size)
{
    buffer *out = link_send_buffer(l);
    if (out == NULL) return;
    buffer_append(out, bytes, size);
    link_sent(l);
}

buffer *link_send_buffer(link_peer *l)
{
    if (l->state != LINK_UP || l->tx_failed) return NULL;
    static const uint8_t header[9] = {1};
    size_t prefix = header_size(l);
    buffer_append(&l->tx_waiting, header + sizeof header - prefix, prefix);
    l->tx_message = l->tx_waiting.size;
    return &l->tx_waiting;
}

void link_sent(link_peer *l)
{
    size_t size = l->tx_waiting.size - l->tx_message;
    CHECK(size <= l->limits.message_bytes);
    put_be64(l->tx_waiting.data + l->tx_message - 8, size);
    link_hub_attend(l->hub, l);
}

bool link_is_idle(link_peer *l)
{
    if (l->state != LINK_UP || l->tx_failed) return false;
    bool is_idle = !l->tx.in_flight && link_tx_bytes(l) == 0;
    if (!is_idle) l->idle_due = true;
    return is_idle;
}

size_t link_tx_bytes(const link_peer *l)
{
    return l->tx_waiting.size + l->tx_sending.size - l->tx_sent;
}

/* -- receiving -------------------------------------------------------------------------- */

static void come_up(link_peer *l)
{
    l->state = LINK_UP;
    l->was_up = true;
    l->idle_due = true;
    link_hub_release_tls(l->hub, l);
    if (l->limits.first_message_bytes == l->limits.message_bytes) prove(l);
    link_hub_attend(l->hub, l);
    /* Last, and not a tail of anything: the callback may close this link. */
    l->listener = NULL;
    l->ctx = l->handlers.on_up(l->ctx, l);
}

/* The part of an SP hello that has arrived is right so far. Garbage is noticed at its first byte.
 */
static bool check_hello(link_peer *l)
{
    size_t size = l->rx_size < HELLO_SIZE ? l->rx_size : HELLO_SIZE;
    if (memcmp(l->rx_bytes, sp_hello, size) == 0) return true;
    if (size == HELLO_SIZE && memcmp(l->rx_bytes, sp_hello, 4) == 0)
        refuse(l, "the peer speaks SP protocol 0x%02x%02x, not PAIR0 (0x0010)", l->rx_bytes[4],
               l->rx_bytes[5]);
    else
        refuse(l, "the peer does not speak nng's SP protocol");
    return false;
}

/* Deliver the message at `at` if all of it is there. Returns its size with the header, or 0. */
static size_t deliver_one(link_peer *l, size_t at)
{
    size_t prefix = header_size(l);
    size_t left = l->rx_size - at;
    const uint8_t *frame = l->rx_bytes + at;
    if (left > 0 && prefix == 9 && frame[0] != 1) {
        refuse(l, "ipc message type is %u, not 1", frame[0]);
        return 0;
    }
    if (left < prefix) return 0;
    uint64_t size = link_get_be64(frame + prefix - 8);
    if (size > l->rx_limit) {
        refuse(l, "a message of %llu bytes is announced; the limit is %u", (unsigned long long)size,
               l->rx_limit);
        return 0;
    }
    if (left - prefix < size) return 0;
    l->handlers.on_message(l->ctx, l, frame + prefix, (size_t)size);
    return prefix + (size_t)size;
}

/* Of the message that has begun to arrive, with its header; that has been checked. */
static size_t pending_size(const link_peer *l)
{
    size_t prefix = header_size(l);
    if (l->rx_size < prefix) return prefix;
    return prefix + (size_t)link_get_be64(l->rx_bytes + prefix - 8);
}

/* Replace the receive buffer. False, with the link failed, when memory is out. */
static bool resize_rx(link_peer *l, size_t capacity)
{
    uint8_t *bytes = mem_try_alloc(1, capacity);
    if (bytes == NULL) {
        link_peer_fail(l, ST_RESOURCE_EXHAUSTED, "no memory for a receive buffer of %zu bytes",
                       capacity);
        return false;
    }
    memcpy(bytes, l->rx_bytes, l->rx_size);
    mem_free(l->rx_bytes);
    l->rx_bytes = bytes;
    l->rx_capacity = capacity;
    return true;
}

/* All complete messages, then make room for the next read. */
static void parse(link_peer *l)
{
    size_t at = 0;
    if (!l->hello_seen) {
        if (!check_hello(l) || l->rx_size < HELLO_SIZE) return;
        l->hello_seen = true;
        at = HELLO_SIZE;
        come_up(l);
    }
    while (l->state == LINK_UP) {
        size_t used = deliver_one(l, at);
        if (used == 0) break;
        at += used;
    }
    if (l->state != LINK_UP) return;
    if (at > 0) memmove(l->rx_bytes, l->rx_bytes + at, l->rx_size - at);
    l->rx_size -= at;
    size_t needed = pending_size(l);
    if (needed > l->rx_capacity && l->rx_size > l->rx_capacity / 2)
        resize_rx(l, needed < 2 * l->rx_capacity ? needed : 2 * l->rx_capacity);
    else if (l->rx_capacity > RX_KEEP_BYTES && l->rx_size <= LIMIT_LINK_READ_BYTES / 2)
        resize_rx(l, LIMIT_LINK_READ_BYTES);
}

void link_peer_received(link_peer *l, size_t count)
{
    l->rx_total += count;
    l->rx_size += count;
    if (l->state != LINK_LINGERING && l->state != LINK_CLOSING) parse(l);
    if (l->state == LINK_LINGERING) l->rx_size = 0;
}

void link_peer_received_message(link_peer *l, const uint8_t *bytes, size_t size)
{
    l->rx_total += size + 1; /* an empty message is life, too */
    if (l->state != LINK_UP) return;
    if (size > l->rx_limit)
        refuse(l, "a message has %zu bytes; the limit is %u", size, l->rx_limit);
    else
        l->handlers.on_message(l->ctx, l, bytes, size);
}

uint64_t link_rx_total(const link_peer *l)
{
    return l->rx_total;
}

void link_set_message_bytes(link_peer *l, uint32_t bytes)
{
    CHECK(bytes <= l->limits.message_bytes);
    l->rx_limit = bytes;
    prove(l);
}

/* -- life --------------------------------------------------------------------------------- */

link_peer *link_peer_create(link_hub *hub, const link_scheme *scheme, const link_limits *limits,
                            const link_handlers *handlers, void *ctx)
{
    link_peer *l = mem_calloc(1, sizeof *l);
    l->hub = hub;
    l->scheme = scheme;
    l->limits = *limits;
    l->handlers = *handlers;
    l->ctx = ctx;
    l->rx_limit = limits->first_message_bytes;
    l->connect_until_ms = uv_now(hub->loop) + limits->connect_ms;
    link_hub_add(hub, l);
    return l;
}

void link_peer_free(link_peer *l)
{
    CHECK(!l->attention && !l->unproven && !l->tls_waiting && !l->tls_slot);
    link_hub_remove(l->hub, l);
    CHECK(!l->rx.in_flight && !l->tx.in_flight);
    if (l->scheme->transport == &link_nng_transport) link_nng_release(l);
    mem_free(l->rx_bytes);
    buffer_free(&l->tx_waiting);
    buffer_free(&l->tx_sending);
    mem_free(l);
}

void link_peer_start(link_peer *l)
{
    if (l->scheme->framing == LINK_FRAMING_WS) {
        l->hello_seen = true;
        come_up(l);
        if (l->state != LINK_CLOSING) l->scheme->transport->receive(l);
        return;
    }
    l->rx_capacity = LIMIT_LINK_READ_BYTES;
    l->rx_bytes = mem_alloc(l->rx_capacity);
    if (l->scheme->tls && !l->dialled)
        link_hub_admit_tls(l->hub, l);
    else
        link_peer_talk(l);
}

void link_peer_talk(link_peer *l)
{
    buffer_append(&l->tx_waiting, sp_hello, sizeof sp_hello);
    send_more(l);
    if (l->state != LINK_CLOSING) l->scheme->transport->receive(l);
}

void link_peer_service(link_peer *l)
{
    if (l->state == LINK_CLOSING) {
        if (!l->down_told) {
            l->down_told = true;
            if (l->was_up || l->dialled)
                l->handlers.on_down(l->ctx, l, l->why, l->why_text);
            else
                log_debug("link refused scheme=%s why=\"%s\"", l->scheme->name, l->why_text);
        }
        /* link_peer_tick() asks again until the time has come. */
        bool due = uv_now(l->hub->loop) >= l->free_from_ms;
        if (due && !l->rx.in_flight && !l->tx.in_flight) link_peer_free(l);
        return;
    }
    send_more(l);
    if (l->idle_due && link_is_idle(l)) {
        l->idle_due = false;
        if (l->handlers.on_idle != NULL) {
            l->handlers.on_idle(l->ctx, l);
            send_more(l); /* what on_idle appended, without another round */
        }
    }
    if (l->idle_due && !l->tx.in_flight && l->state == LINK_UP) link_hub_attend(l->hub, l);
}

void link_peer_shift(link_peer *l, uint64_t ms)
{
    l->connect_until_ms += ms;
    l->close_until_ms += ms;
    l->tls_slot_until_ms += ms;
    l->tx_moved_ms += ms;
}

void link_peer_tick(link_peer *l, uint64_t now_ms)
{
    if (l->state == LINK_CLOSING) {
        if (l->free_from_ms > 0) link_hub_attend(l->hub, l);
        return;
    }
    if (l->state == LINK_CONNECTING && now_ms >= l->connect_until_ms)
        link_peer_fail(l, ST_DEADLINE_EXCEEDED, "connecting took longer than %u ms",
                       l->limits.connect_ms);
    else if ((l->state == LINK_LINGERING || l->tx_failed) && now_ms >= l->close_until_ms)
        link_peer_fail(l, ST_UNAVAILABLE, "sending failed");
    else if (l->tx.in_flight && now_ms >= l->tx_moved_ms + l->limits.tx_stall_ms)
        link_peer_fail(l, ST_DEADLINE_EXCEEDED,
                       "the peer took nothing for %u ms; %zu bytes were waiting",
                       l->limits.tx_stall_ms, link_tx_bytes(l));
    else if (l->scheme->transport == &link_nng_transport)
        link_nng_notice_lost_receive(l);
}
