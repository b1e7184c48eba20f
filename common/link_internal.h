/* link_internal: what link.c (the hub), link_peer.c (one link), its two transports (link_socket.c:
 * tcp and ipc on the loop; link_nng.c: TLS and WebSocket by nng), link_endpoint.c (URLs, TLS,
 * listening, dialling) and link_strangers.c (who is no link yet) know of each other. Nobody else
 * includes this. Loop thread, except where link_op says otherwise. */
#ifndef GAGGLE_COMMON_LINK_INTERNAL_H
#define GAGGLE_COMMON_LINK_INTERNAL_H

#include <nng/nng.h>
#include <stdatomic.h>

#include "common/limits.h"
#include "common/link.h"

/* One asynchronous operation of nng's. While it is in flight the aio, and the memory it names,
 * belong to nng; its completion puts `next` onto the hub's list and nothing else. */
typedef struct link_op {
    struct link_op *next;
    link_hub *hub;
    void *owner;
    nng_aio *aio;
    void (*done)(struct link_op *op); /* on the loop, in_flight already false */
    bool in_flight;
    atomic_bool completed; /* and not yet taken by the loop */
} link_op;

/* How messages are told apart in the stream. */
typedef enum link_framing {
    LINK_FRAMING_TCP, /* SP hello; 8-byte big-endian length */
    LINK_FRAMING_IPC, /* SP hello; one byte 1, then the length */
    LINK_FRAMING_WS,  /* no hello; one binary WebSocket message each, cut by nng */
} link_framing;

/* What carries a link's bytes. At most one read and one send are in flight. */
typedef struct link_transport {
    /* Read into rx_bytes from rx_size on. rx.in_flight is true until link_peer_fail(), or until
     * link_peer_received(), after which a transport that needs it is asked again. */
    void (*receive)(link_peer *l);
    /* Send tx_sending from tx_sent on. What goes at once is counted in tx_sent; for the rest
     * tx.in_flight becomes true and link_peer_sent() follows, or link_peer_send_failed() does. */
    void (*send)(link_peer *l);
    /* Stop all. link_hub_attend() when both in_flight are false, if that is later. */
    void (*close)(link_peer *l);
} link_transport;

extern const link_transport link_socket_transport, link_nng_transport;

typedef struct link_socket link_socket; /* a descriptor on the loop */
typedef struct link_socket_dial link_socket_dial;

typedef struct link_scheme {
    const char *name;
    link_framing framing;
    bool tls;
    const link_transport *transport;
} link_scheme;

/* The other end of a connection: an IPv4 or IPv6 address and a port, both as on the wire. */
typedef struct link_remote {
    uint8_t address[16];
    uint16_t port; /* 0 = not known */
} link_remote;

/* A connection that nng holds and that is no link (link_strangers.c). */
typedef struct link_stranger {
    int fd;
    link_remote remote;
    uint64_t since_ms;
    uint32_t patience_ms;
} link_stranger;

typedef enum link_state {
    LINK_CONNECTING, /* dialling, TLS, SP hello */
    LINK_UP,
    LINK_LINGERING, /* sends what waits and discards what comes, until the peer closes */
    LINK_CLOSING,   /* transport closed; on_down due or done; freed when both ops are back */
} link_state;

struct link_peer {
    link_hub *hub;
    link_peer *prev, *next;    /* hub->links */
    link_peer *attention_next; /* hub->attention, while `attention` */
    link_peer *tls_next;       /* hub->tls_waiting, while `tls_waiting` */
    link_listener *listener;   /* of an accepted link that is CONNECTING; else NULL */
    const link_scheme *scheme;
    link_limits limits; /* zeros replaced by their defaults */
    link_handlers handlers;
    void *ctx;

    link_op rx; /* the dial, then the one receive; of a socket only in_flight is used */
    link_op tx; /* the one send; likewise */
    union {
        struct {
            nng_stream_dialer *dialer; /* until the dial is over */
            nng_stream *stream;        /* NULL while dialling */
        };
        struct {
            link_socket *socket;    /* NULL when closed, and between two addresses */
            link_socket_dial *dial; /* until the dial is over */
        };
    };

    link_state state;
    status why;
    char why_text[192];
    bool dialled;
    bool was_up;
    link_remote remote; /* of an accepted ws link */
    bool attention;
    bool idle_due;  /* on_idle is owed as soon as nothing waits */
    bool down_told; /* on_down was called, or is not owed */
    bool unproven;  /* counted in hub->unproven */
    bool tls_waiting, tls_slot;
    bool hello_seen;
    bool tx_failed; /* nothing can be sent any more; what has arrived is still read */

    uint64_t connect_until_ms;
    uint64_t close_until_ms; /* LINGERING or tx_failed */
    uint64_t free_from_ms;   /* CLOSING */
    uint64_t tls_slot_until_ms;
    uint64_t tx_moved_ms; /* the send in flight last made progress */

    uint8_t *rx_bytes;
    size_t rx_size, rx_capacity;
    uint64_t rx_total;
    bool seems_lost; /* the stream was dead at the last tick, with this rx_total */
    uint64_t lost_at_total;
    uint32_t rx_limit;

    buffer tx_waiting; /* frames appended since the send in flight began */
    size_t tx_message; /* where the message between link_send_buffer() and link_sent() begins */
    buffer tx_sending;
    size_t tx_sent; /* bytes of tx_sending that the transport has taken */
};

struct link_listener {
    link_hub *hub;
    link_listener *prev, *next; /* hub->listeners */
    const link_scheme *scheme;
    nng_stream_listener *nng; /* with its accepts; NULL where it is a socket */
    link_op accepts[LIMIT_ACCEPTS_POSTED];
    size_t accepts_in_flight;
    link_socket *socket;
    char *path; /* of an ipc socket, removed in the end */
    link_limits limits;
    link_handlers handlers;
    void *ctx;
    uint16_t port;
    bool closed;
};

struct link_hub {
    uv_loop_t *loop;
    uv_async_t async;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_timer_t tick;
    unsigned handles_open;
    _Atomic(link_op *) completed; /* the only thing here that nng's threads write */

    link_peer *links;
    link_listener *listeners;
    size_t link_count;
    size_t unproven; /* accepted links that have not shown who they are */
    link_peer *attention_first, *attention_last;

    link_peer *tls_first, *tls_last; /* accepted, waiting for a handshake slot */
    unsigned tls_slots;              /* free ones */

    link_stranger *strangers; /* oldest first */
    size_t stranger_count;
    uint64_t strangers_next_ms;

    uint64_t ticked_ms;
    link_op probe;
    uint64_t probe_start_ns;
    uint64_t probe_end_ns; /* written by nng's thread before the completion is pushed */
    uint64_t probe_next_ms;
    uint32_t lags_ms[4]; /* the last second's measurements */
    unsigned lag_next;

    bool closing;
    void (*on_closed)(void *ctx);
    void *on_closed_ctx;
};

/* -- link.c ----------------------------------------------------------------------- */

/* ST_RESOURCE_EXHAUSTED when nng is out of memory; nothing to release then. */
MUST_USE status link_op_init(link_op *op, link_hub *hub, void *owner, void (*done)(link_op *op));
void link_op_fini(link_op *op); /* not in flight; fine for one that was never initialised */

/* Ask that link_peer_service() be called before the loop polls again. */
void link_hub_attend(link_hub *hub, link_peer *l);

void link_hub_add(link_hub *hub, link_peer *l);
void link_hub_remove(link_hub *hub, link_peer *l);

/* Let an accepted TLS link begin its handshake now, or when a slot is free. */
void link_hub_admit_tls(link_hub *hub, link_peer *l);
void link_hub_release_tls(link_hub *hub, link_peer *l); /* no slot and not waiting: nothing */

/* -- link_peer.c ------------------------------------------------------------------ */

/* A link without a stream, CONNECTING. */
link_peer *link_peer_create(link_hub *hub, const link_scheme *scheme, const link_limits *limits,
                            const link_handlers *handlers, void *ctx);
void link_peer_free(link_peer *l);

/* A message's length, as it stands before it. */
static inline uint64_t link_get_be64(const uint8_t *bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* The transport is there: begin to talk (ws is UP at once). */
void link_peer_start(link_peer *l);
/* Send the SP hello and begin to receive: this starts a TLS handshake. */
void link_peer_talk(link_peer *l);

/* Begin CLOSING with this reason; nothing if it is CLOSING already. */
void link_peer_fail(link_peer *l, status why, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* From the transport. */
void link_peer_received(link_peer *l, size_t count); /* bytes, in rx_bytes at rx_size */
void link_peer_received_message(link_peer *l, const uint8_t *bytes, size_t size); /* ws */
void link_peer_sent(link_peer *l); /* tx.in_flight is false again */
void link_peer_send_failed(link_peer *l, status why, const char *text);

void link_peer_shift(link_peer *l, uint64_t ms);    /* put all deadlines off */
void link_peer_service(link_peer *l);               /* may free `l` */
void link_peer_tick(link_peer *l, uint64_t now_ms); /* deadlines */

/* -- link_socket.c ----------------------------------------------------------------- */

MUST_USE status link_socket_check(const char *url, const link_scheme *scheme, error *err);
void link_socket_dial_start(link_peer *l, const char *url); /* the outcome comes by service */
/* Sets socket, port and path of the listener. */
MUST_USE status link_socket_listen(link_listener *listener, const char *url, error *err);
void link_socket_listener_tick(link_listener *listener); /* accept again */
void link_socket_listener_close(link_listener *listener);

/* -- link_nng.c --------------------------------------------------------------------- */

/* Before link_peer_start() and the dial. ST_RESOURCE_EXHAUSTED when nng is out of memory. */
MUST_USE status link_nng_prepare(link_peer *l);
void link_nng_release(link_peer *l);                               /* neither op is in flight */
void link_nng_dial_start(link_peer *l, nng_stream_dialer *dialer); /* takes the dialer */
void link_nng_notice_lost_receive(link_peer *l);                   /* each tick */
status link_nng_status(int nng_error);

/* -- link_strangers.c ---------------------------------------------------------------- */

void link_strangers_tick(link_hub *hub, uint64_t now_ms);
void link_strangers_free(link_hub *hub);
link_remote link_stream_remote(nng_stream *stream);

/* -- link_endpoint.c -------------------------------------------------------------- */

void link_listener_tick(link_listener *listener); /* post accepts that had failed */
/* An accepted link, to be given its transport; NULL: there are too many, or it is closing. */
link_peer *link_listener_admit(link_listener *listener);

#endif
