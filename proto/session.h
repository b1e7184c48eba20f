/* session: a conversation of Envelopes over links that come and go.
 *
 * On top of link.h this adds what every pair of gaggle processes needs and nobody should write
 * twice: Hello and Welcome with version refusal in words, the `link`/`n` tripwire, Ping and Pong,
 * the dead timer with its guards, and for the dialling side reconnecting with full jitter.
 *
 *   acceptor   one session per accepted link; it dies with the link.
 *   dialler    one session for the life of the process; links below it come and go
 *              (on_up / on_down alternate), trying the URLs in turn.
 *
 * Hello, Welcome, Ping, Pong, Bye and an Error that is fatal to the link never reach on_envelope. A
 * malformed or oversized message, a wrong `link` or a jump in `n` answers Error(fatal) and closes;
 * on_down tells. Liveness: Ping when nothing was
 * sent for ping_ms; any byte received is life; dead after dead_ms plus three times the hub's lag;
 * when the loop itself was late by more than two ping intervals, all clocks start anew. On ws and
 * wss, where a large message shows nothing until it is whole, the default dead_ms is longer
 * (LIMIT_DEAD_MS_WS_DEFAULT). A client that lets LIMIT_CLIENT_BACKLOG_BYTES pile up is closed.
 *
 * Loop thread only. A callback may call any function here, session_close() on its own session
 * included. */
#ifndef GAGGLE_PROTO_SESSION_H
#define GAGGLE_PROTO_SESSION_H

#include "common/link.h"
#include "proto/envelope.h"

typedef struct session_hub session_hub;           /* one a loop */
typedef struct session_listener session_listener; /* one URL */
typedef struct session session;

typedef struct session_handlers {
    /* Acceptor: a peer says Hello. Judge it (role, token) and fill `welcome` (version, ping, dead
     * and message size are already filled with the agreed values; build text must be static).
     * ST_OK: Welcome is sent, on_up follows. Anything else: Error with that code and err's text is
     * sent and the link closed; on_down is not called for it. After ST_OK on_down comes in any
     * case, on_up only if the callback did not close the session. `*session_ctx` is what
     * later callbacks for `s` get (NULL at the call). */
    status (*on_hello)(void *ctx, session *s, const msg_hello *hello, msg_welcome *welcome,
                       void **session_ctx, error *err);
    /* Envelopes may be sent from here on. `welcome` is NULL on the accepting side. */
    void (*on_up)(void *session_ctx, session *s, const msg_welcome *welcome);
    /* `e` is valid during the call. For a Submit of ST_OUT_OF_RANGE (envelope.h) `refused` is not
     * NULL and only the fields named there are set. */
    void (*on_envelope)(void *session_ctx, session *s, const envelope *e, const error *refused);
    /* Nothing waits to be sent: the time to build Tokens and Ack batches. Called once after
     * session_is_idle() said no while the session was up, and once after on_up. */
    void (*on_idle)(void *session_ctx, session *s);
    /* The link is gone; `why` has ST_OK when session_close() was called here, ST_CANCELLED when the
     * peer said Bye. Acceptor: the session
     * is gone, too, after this call. Dialler: it will try again,
     * unless session_close() was called or `why` is final (see below), in which case
     * on_closed follows. Also called for each failed attempt before the first on_up. */
    void (*on_down)(void *session_ctx, session *s, const error *why);
    /* Dialler: closed for good and freed after this call: session_close() was called, or the
     * router refused us by an Error that trying again cannot mend (UNAUTHENTICATED,
     * PERMISSION_DENIED, FAILED_PRECONDITION = protocol version). Failures of the network or of TLS
     * are never final. */
    void (*on_closed)(void *session_ctx, session *s, const error *why);
} session_handlers; /* unused callbacks may be NULL, except on_envelope */

MUST_USE status session_hub_create(session_hub **out, uv_loop_t *loop, error *err);

/* Close everything, then call `on_closed` and free the hub. Accepted sessions get Bye. */
void session_hub_close(session_hub *hub, void (*on_closed)(void *ctx), void *ctx);

/* Accept sessions on `url`. At most LIMIT_UNAUTHENTICATED_LINKS links may be between accept and
 * Welcome; others are closed. Hello must come within LIMIT_HELLO_TIMEOUT_MS and fit
 * LIMIT_HELLO_BYTES. `ping_ms`/`dead_ms` are what this side uses when the peer asks for 0. */
MUST_USE status session_listen(session_listener **out, session_hub *hub, const char *url,
                               const link_tls *tls, const session_handlers *handlers, void *ctx,
                               error *err);
uint16_t session_listener_port(const session_listener *listener);
void session_listener_close(session_listener *listener);

typedef struct session_dial_options {
    const char *const *urls; /* tried in turn; copied */
    size_t url_count;        /* at least 1 */
    const link_tls *tls;     /* for tls+tcp and wss URLs; copied */
    role role;
    id128 instance;
    const char *token; /* NULL or ""; copied */
    const char *name;  /* copied */
    uint32_t ping_ms;  /* 0 = default */
    uint32_t dead_ms;
} session_dial_options;

/* Start dialling, for ever. ST_INVALID_ARGUMENT: a URL or PEM file is bad, nothing started. */
MUST_USE status session_dial(session **out, session_hub *hub, const session_dial_options *options,
                             const session_handlers *handlers, void *ctx, error *err);

/* Number and append one envelope; `link` and `n` are filled in. Dropped when the session is not
 * up. An envelope over the agreed message size is a bug of the caller (CHECK): batches are sized
 * by limits.h, and Submits are checked before. */
void session_send(session *s, const envelope *e);

bool session_is_up(const session *s);
bool session_is_idle(session *s); /* up, and nothing waits to be sent; no: see on_idle */
size_t session_tx_bytes(const session *s);

/* The last measured round trip of an accepted worker, its loop's own delay included; 0 = not known
 * yet. Measured every LIMIT_MEASURE_MS. */
uint32_t session_rtt_us(const session *s);

/* What went over a hub's sessions since it was made: of clients, or of workers and diallers. */
typedef struct session_traffic {
    uint64_t sent_messages, sent_bytes, received_messages, received_bytes;
} session_traffic;
session_traffic session_hub_traffic(const session_hub *hub, role peers);

const char *session_peer_name(const session *s); /* Hello's name or the URL; for logs */

/* Say Bye with `reason`, send what waits, close. Acceptor: on_down follows. Dialler: no redial;
 * on_down (if it was up) and on_closed follow. Idempotent. */
void session_close(session *s, const char *reason);

/* Debug door for tests: cut the link below as if the network had, without Bye. */
void session_cut(session *s);

#endif
