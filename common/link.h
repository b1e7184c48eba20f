/* link: byte streams on a libuv loop, cut into SP PAIR0 messages.
 *
 * One accepted or dialled stream is one peer; an ordinary nng PAIR0 socket of any language can be
 * that peer. Schemes: tcp, tls+tcp, ws, wss, ipc (also tcp4/tcp6 and the like as nng spells them).
 * tcp and ipc are sockets on the loop; nng carries TLS and WebSocket. This module (link*.c) alone
 * sees nng, and here alone another thread (nng's task threads) meets the loop: their callbacks push
 * a node onto a lock-free list and call uv_async_send(), nothing else. Everything below is for the
 * loop thread.
 *
 * A link's life:   CONNECTING -> UP -> CLOSING -> freed
 *   CONNECTING  dialled or accepted; SP hello travels (tcp, tls, ipc). No callback yet.
 *   UP          on_up was called; messages flow both ways.
 *   CLOSING     by link_close(), the peer, an error or a limit. on_down is called exactly once,
 *               from the loop and never from within link_send() or link_close(); afterwards the
 *               pointer is dead. A dialled link that never came UP gets on_down without on_up; an
 *               accepted one that never came UP was never shown to anyone and goes silently.
 *
 * Receiving: a read of 64 KiB, or of as much as the link's larger frames needed, all complete
 * frames delivered, then the next read is posted; so one link cannot hold the loop. A frame's
 * announced length is checked against max_message_bytes before anything grows, and memory grows
 * with bytes that arrived. Sending: frames are appended to a buffer; one send is in flight at a
 * time and takes all of it. Build batches when link_is_idle(), that is, when nothing is in flight
 * and nothing waits; where it says no, on_idle tells when it is. Who does not ask is not told.
 *
 * Strangers: an accepted link is unproven until link_set_message_bytes() is called or, where
 * first_message_bytes is not used, until it is UP. A hub takes at most LIMIT_UNAUTHENTICATED_LINKS
 * unproven links and LIMIT_LINKS in all; more are closed at once. Accepted tls+tcp links begin
 * their handshakes a few at a time (2 x cores), so that a storm of them cannot starve the others;
 * on wss nng begins them itself. ws and wss show a message when all of it is there, not its bytes:
 * on a slow link a large one is silence. Who connects to them and never becomes a link is
 * noticed from outside nng (link_strangers.c), and closed after connect_ms.
 * Facts and measurements behind all this: ARCHITECTURE.md, "The wire". */
#ifndef GAGGLE_COMMON_LINK_H
#define GAGGLE_COMMON_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "common/limits.h"
#include "common/mem.h"
#include "common/status.h"

typedef struct link_hub link_hub;           /* one a loop: the async handle and flush hooks */
typedef struct link_listener link_listener; /* one URL */
typedef struct link_peer link_peer;

/* PEM files. A listener needs cert and key; with `ca` it demands a client certificate when
 * `require_peer`. A dialler needs `ca` (or `insecure`); cert and key when the listener demands. */
typedef struct link_tls {
    const char *ca_file;
    const char *cert_file;
    const char *key_file;
    const char *server_name; /* dialler: name to check; NULL = the URL's host */
    bool require_peer;       /* listener: client certificate is mandatory */
    bool insecure;           /* dialler: accept any certificate; for tests and first contact */
} link_tls;

typedef struct link_handlers {
    /* The link is UP. For an accepted link `listener_ctx` is what the listener was given, and the
     * callback returns the context for all later callbacks of this link. For a dialled link the
     * context is the one given to link_dial() and the return value replaces it. */
    void *(*on_up)(void *ctx, link_peer *l);
    /* One whole message. `bytes` is valid during the call. May send and may close. */
    void (*on_message)(void *ctx, link_peer *l, const uint8_t *bytes, size_t size);
    /* Everything sent so far has been handed to the kernel. Called once after link_is_idle() said
     * no, and once after on_up. */
    void (*on_idle)(void *ctx, link_peer *l);
    /* Optional: the peer announced or sent a message beyond the limit, or broke the framing; `text`
     * says how. What else it sends is discarded. The link closes after LIMIT_LINGER_MS at most;
     * meanwhile what is sent from here is its last word. on_down follows. */
    void (*on_refused)(void *ctx, link_peer *l, const char *text);
    /* Gone. `why` is ST_OK when link_close() was called here, ST_UNAVAILABLE when the peer or the
     * network went, ST_INVALID_ARGUMENT for garbage or a broken limit, ST_DEADLINE_EXCEEDED for a
     * stalled send, ST_UNAUTHENTICATED where TLS says so; `text` is for a log line. */
    void (*on_down)(void *ctx, link_peer *l, status why, const char *text);
} link_handlers; /* on_idle and on_refused may be NULL */

typedef struct link_limits {
    uint32_t message_bytes;       /* largest frame, either direction; 0 = LIMIT_MESSAGE_BYTES */
    uint32_t first_message_bytes; /* until link_set_message_bytes(); 0 = message_bytes */
    uint32_t tx_stall_ms; /* bytes not accepted for so long: closed; 0 = LIMIT_TX_STALL_MS */
    uint32_t connect_ms;  /* CONNECTING for so long: closed; 0 = LIMIT_HELLO_TIMEOUT_MS */
} link_limits;

/* `loop` must outlive the hub. */
MUST_USE status link_hub_create(link_hub **out, uv_loop_t *loop, error *err);

/* Close every listener and link (their on_down comes first; lingering ones go on lingering), then
 * call `on_closed`; the hub is freed after it. The loop must keep running until then. */
void link_hub_close(link_hub *hub, void (*on_closed)(void *ctx), void *ctx);

/* Listen on `url`. `handlers`, the files named in `tls` and `url` are copied or read at once.
 * tls must be NULL for plain schemes. An ipc:// socket file left by a dead process is replaced; one
 * that a live process serves is refused. ST_INVALID_ARGUMENT: bad URL, unreadable PEM.
 * ST_ALREADY_EXISTS: the address is in use. */
MUST_USE status link_listen(link_listener **out, link_hub *hub, const char *url,
                            const link_tls *tls, const link_limits *limits,
                            const link_handlers *handlers, void *ctx, error *err);

/* The port the listener really has (tcp://127.0.0.1:0 asks for any free one); 0 for ipc. */
uint16_t link_listener_port(const link_listener *listener);

/* No new links; those that are UP stay. The pointer is dead after the call. */
void link_listener_close(link_listener *listener);

/* What link_dial() would refuse at once, without dialling. */
MUST_USE status link_dial_check(const char *url, const link_tls *tls, error *err);

/* Start one connection attempt; `tls` is ignored for plain schemes. The outcome is on_up or
 * on_down, later. No retries: session.h does those. ST_INVALID_ARGUMENT: bad URL or unreadable PEM,
 * nothing started. */
MUST_USE status link_dial(link_peer **out, link_hub *hub, const char *url, const link_tls *tls,
                          const link_limits *limits, const link_handlers *handlers, void *ctx,
                          error *err);

/* Append one message. Sent in this turn of the loop; several become one write.
 * Frames sent after the link began CLOSING are dropped. size <= the limit (CHECK). */
void link_send(link_peer *l, const uint8_t *bytes, size_t size);

/* The same for a message that is built in place: append it to the buffer, then call link_sent();
 * nothing else of this link in between. NULL: it began CLOSING, the message is dropped. */
buffer *link_send_buffer(link_peer *l);
void link_sent(link_peer *l);

/* UP, nothing in flight and nothing waiting. No: on_idle follows, unless the link goes down. */
bool link_is_idle(link_peer *l);
size_t link_tx_bytes(const link_peer *l);   /* waiting or in flight */
uint64_t link_rx_total(const link_peer *l); /* bytes received since CONNECTING: any byte is life */

/* After authentication: allow frames up to `bytes`. */
void link_set_message_bytes(link_peer *l, uint32_t bytes);

/* Send what is appended and wait for the peer to close its end, for `linger_ms` at most, then
 * close: closing first could cut off what is still on its way. 0 closes at once. No callback but
 * on_down comes any more. Idempotent; a later call with 0 ends the lingering. */
void link_close(link_peer *l, uint32_t linger_ms);

/* How late nng's own threads run, in ms: the worst that was measured in the last second. Liveness
 * deadlines grow by it. It is measured when asked for, so ask every tick while a peer is silent. */
uint32_t link_hub_lag_ms(link_hub *hub);

/* Until the next multiple of LIMIT_TICK_MS: timers started with it fall together. */
static inline uint64_t link_until_tick_ms(const uv_loop_t *loop)
{
    return LIMIT_TICK_MS - uv_now(loop) % LIMIT_TICK_MS;
}

#endif
