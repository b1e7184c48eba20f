/* link: nng byte streams on a libuv loop, cut into SP PAIR0 messages.
 *
 * One accepted or dialled stream is one peer; an ordinary nng PAIR0 socket of any language can be
 * that peer. Schemes: tcp, tls+tcp, ws, wss, ipc (also tcp4/tcp6 and the like as nng spells them).
 * This is the only file in gaggle that sees nng, and the only one where another thread (nng's task
 * threads) meets the loop: their callbacks push a node onto a lock-free list and call
 * uv_async_send(), nothing else. Everything below is for the loop thread alone.
 *
 * A link's life:   CONNECTING -> UP -> CLOSING -> freed
 *   CONNECTING  dialled or accepted; SP hello travels (tcp, tls, ipc). No callback yet.
 *   UP          on_up was called; messages flow both ways.
 *   CLOSING     by link_close(), the peer, an error or a limit. on_down is called exactly once,
 *               from the loop and never from within link_send() or link_close(); afterwards the
 *               pointer is dead. A link that never came UP gets on_down without on_up.
 *
 * Receiving: 64 KiB reads, all complete frames delivered, then the next read is posted; so one
 * link cannot hold the loop. A frame's announced length is checked against max_message_bytes
 * before anything grows, and memory grows with bytes that arrived.
 * Sending: frames are appended to a buffer; one send is in flight at a time and takes all of it.
 * on_idle says that nothing is in flight and nothing waits: build batches then, not before.
 * Facts and measurements behind all this: ARCHITECTURE.md, "The wire". */
#ifndef GAGGLE_COMMON_LINK_H
#define GAGGLE_COMMON_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

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
    /* Everything sent so far has been handed to the kernel. Called once after each time the link
     * runs empty, and once after on_up. */
    void (*on_idle)(void *ctx, link_peer *l);
    /* Gone. `why` is ST_OK when link_close() was called here, ST_UNAVAILABLE when the peer or the
     * network went, ST_INVALID_ARGUMENT for garbage or a broken limit, ST_DEADLINE_EXCEEDED for a
     * stalled send, ST_UNAUTHENTICATED where TLS says so; `text` is for a log line. */
    void (*on_down)(void *ctx, link_peer *l, status why, const char *text);
} link_handlers;

typedef struct link_limits {
    uint32_t message_bytes;       /* largest frame, either direction; 0 = LIMIT_MESSAGE_BYTES */
    uint32_t first_message_bytes; /* until link_set_message_bytes(); 0 = message_bytes */
    uint32_t tx_stall_ms; /* bytes not accepted for so long: closed; 0 = LIMIT_TX_STALL_MS */
    uint32_t connect_ms;  /* CONNECTING for so long: closed; 0 = LIMIT_HELLO_TIMEOUT_MS */
} link_limits;

/* `loop` must outlive the hub. */
MUST_USE status link_hub_create(link_hub **out, uv_loop_t *loop, error *err);

/* Close every listener and link (their on_down comes first), then call `on_closed`; the hub is
 * freed after it. The loop must keep running until then. */
void link_hub_close(link_hub *hub, void (*on_closed)(void *ctx), void *ctx);

/* Listen on `url`. `handlers`, the files named in `tls` and `url` are copied or read at once.
 * tls is NULL for plain schemes. An ipc:// socket file left by a dead process is replaced; one
 * that a live process serves is refused. ST_INVALID_ARGUMENT: bad URL, unreadable PEM.
 * ST_ALREADY_EXISTS: the address is in use. */
MUST_USE status link_listen(link_listener **out, link_hub *hub, const char *url,
                            const link_tls *tls, const link_limits *limits,
                            const link_handlers *handlers, void *ctx, error *err);

/* The port the listener really has (tcp://127.0.0.1:0 asks for any free one); 0 for ipc. */
uint16_t link_listener_port(const link_listener *listener);

/* No new links; those that are UP stay. The pointer is dead after the call. */
void link_listener_close(link_listener *listener);

/* Start one connection attempt; the outcome is on_up or on_down, later. No retries: session.h
 * does those. ST_INVALID_ARGUMENT: bad URL or unreadable PEM, nothing started. */
MUST_USE status link_dial(link_peer **out, link_hub *hub, const char *url, const link_tls *tls,
                          const link_limits *limits, const link_handlers *handlers, void *ctx,
                          error *err);

/* Append one message. Sent in this turn of the loop; several become one write.
 * Frames sent after the link began CLOSING are dropped. size <= the limit (CHECK). */
void link_send(link_peer *l, const uint8_t *bytes, size_t size);

bool link_is_idle(const link_peer *l);      /* UP, nothing in flight and nothing waiting */
size_t link_tx_bytes(const link_peer *l);   /* waiting or in flight */
uint64_t link_rx_total(const link_peer *l); /* bytes received since CONNECTING: any byte is life */

/* After authentication: allow frames up to `bytes`. */
void link_set_message_bytes(link_peer *l, uint32_t bytes);

/* Send what is appended (for at most `linger_ms`), then close. 0 closes at once. Idempotent. */
void link_close(link_peer *l, uint32_t linger_ms);

/* How late nng's own threads run, measured every 250 ms, in ms: added to liveness deadlines. */
uint32_t link_hub_lag_ms(const link_hub *hub);

#endif
