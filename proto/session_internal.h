/* session_internal: what session.c (one conversation) and session_hub.c (hub, listening, dialling
 * again) know of each other. Loop thread only. */
#ifndef GAGGLE_PROTO_SESSION_INTERNAL_H
#define GAGGLE_PROTO_SESSION_INTERNAL_H

#include "proto/session.h"

/* Of the link below.
 *
 *   NONE ──link_dial()──▶ DIALLING ──on_up──▶ HELLO ──Hello/Welcome──▶ UP
 *     ▲                       │                 │                       │
 *     └────────── link's on_down ◀──────────── ENDING ◀── fatal, close ─┘
 *
 * A session accepted begins at HELLO and is freed by on_down. */
typedef enum session_phase {
    SESSION_NONE,     /* dialler: waiting to dial again */
    SESSION_DIALLING, /* dialler: the link is connecting */
    SESSION_HELLO,    /* the link is up; Hello or Welcome is awaited */
    SESSION_UP,
    SESSION_ENDING, /* the link is closing; `why` says why */
} session_phase;

/* What a dialler needs to dial again; all copied. */
typedef struct session_dial_plan {
    char **urls;
    size_t url_count;
    size_t url_next;
    bool has_tls;
    link_tls tls; /* its strings are tls_text's */
    char *tls_text[4];
    role role;
    id128 instance;
    char *token;
    uint32_t ping_ms, dead_ms;
    unsigned failures; /* since the last Welcome: the exponent of the back-off */
    uint64_t redial_at_ms;
} session_dial_plan;

struct session {
    session_hub *hub;
    session *prev, *next;
    session_handlers handlers;
    void *ctx; /* accepted and not yet welcomed: the listener's */
    char *name;

    session_listener *listener; /* accepted and not yet welcomed; else NULL */
    session_dial_plan *dial;    /* NULL: accepted */

    link_peer *link; /* NULL: phase is NONE */
    session_phase phase;
    bool closing;   /* session_close() was called */
    bool told;      /* the owner saw this link: on_hello said ST_OK, or on_up was called */
    bool ever_up;   /* dialler: there was an on_up */
    bool is_client; /* accepted: the peer's role */
    bool by_word;   /* `why` was said in an Error, by either side */
    error why;      /* first reason for the end of the link below; code ST_OK with text: ours */

    uint32_t link_id, tx_n, rx_n;
    uint32_t ping_ms, dead_ms;
    uint64_t hello_until_ms;
    uint64_t rx_total; /* bytes, when rx_ms was last set */
    uint64_t rx_ms, tx_ms, ping_sent_ms;
    uint64_t measure_ms; /* when to send the next Ping that asks for the round trip */
    uint64_t asked_us;   /* that Ping's t, until it is answered */
    uint32_t rtt_us;
};

struct session_listener {
    session_hub *hub;
    session_listener *prev, *next;
    link_listener *link;
    session_handlers handlers;
    void *ctx;
    uint32_t dead_ms; /* what this side uses when the peer asks for 0 */
};

struct session_hub {
    uv_loop_t *loop;
    link_hub *links;
    session *sessions;
    session_listener *listeners;
    uv_timer_t tick;   /* liveness */
    uv_timer_t redial; /* the earliest redial_at_ms, or at once for diallers to be closed */
    uint64_t ticked_ms;
    uint32_t tick_ms; /* shorter than LIMIT_TICK_MS while a session pings oftener */
    arena rx_arena;   /* one frame's */
    arena tx_arena;
    session_traffic traffic[2]; /* of others, of accepted clients */
    unsigned handles_open;
    bool closing;
    void (*on_closed)(void *ctx);
    void *on_closed_ctx;
};

extern const link_handlers session_accepted_handlers; /* ctx: session_listener, then session */
extern const link_handlers session_dialled_handlers;  /* ctx: session */

/* -- session.c: one conversation --------------------------------------------------- */

void session_tick(session *s, uint64_t now_ms, uint64_t late_ms);

/* Set `why` unless it is set. */
void session_because(session *s, status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* -- session_hub.c: where sessions come from and go --------------------------------- */

void session_hub_start_tick(session_hub *hub);

session *session_create(session_hub *hub, const session_handlers *handlers, void *ctx);
void session_free(session *s);

/* The link below is gone; may free the session. */
void session_link_gone(session *s, status why, const char *text);

/* A dialler without a link was closed: on_closed comes from the loop. */
void session_finish_soon(session *s);

#endif
