/* TLS and WebSocket: nng's byte streams.
 *
 * A send is never cancelled except to close, because nng's TLS could then attribute written bytes
 * to the wrong buffer; its sends complete with partial counts. On ws two sends would interleave.
 *
 * Closing: nng_stream_close() makes nng give back both operations; where it does not (a blocked ws
 * send whose peer is gone), cancelling them does. Only then are they and the stream freed.
 *
 * A ws dial that is given up is cancelled, but its dialer is neither closed nor freed at once. nng
 * 1.5.2 forgets an attempt whose connection was made just then without waking who waits for it in
 * freeing the dialer, and never ends one whose dialer is closed before its request is sent. So such
 * a dialer, about a KiB, is never freed. (nng may also complete the dial twice: see
 * op_completed().)
 */
#include <string.h>

#include "common/check.h"
#include "common/link_internal.h"

enum {
    /* nng gives a ws peer 100 ms to answer the closing frame, and freeing the stream before that
     * blocks its one reaper thread for the rest: a hundred at once would hold their descriptors for
     * ten seconds. */
    WS_FREE_MS = 110,
    /* So long nng may take to let go of a ws dial that was given up. */
    WS_DIAL_MS = 1000,
};

status link_nng_status(int nng_error)
{
    switch (nng_error) {
    case NNG_ECRYPTO:
    case NNG_EPEERAUTH:
        return ST_UNAUTHENTICATED;
    case NNG_EPROTO:
    case NNG_EMSGSIZE:
        return ST_INVALID_ARGUMENT;
    case NNG_ENOMEM:
    case NNG_ENOFILES:
        return ST_RESOURCE_EXHAUSTED;
    case NNG_EPERM:
        return ST_PERMISSION_DENIED;
    case NNG_EADDRINUSE:
        return ST_ALREADY_EXISTS;
    case NNG_EADDRINVAL:
    case NNG_EINVAL:
    case NNG_ENOTSUP:
        return ST_INVALID_ARGUMENT;
    default:
        return ST_UNAVAILABLE;
    }
}

/* -- sending ------------------------------------------------------------------------- */

static void send_bytes(link_peer *l)
{
    nng_iov iov = {.iov_buf = l->tx_sending.data + l->tx_sent,
                   .iov_len = l->tx_sending.size - l->tx_sent};
    nng_aio_set_iov(l->tx.aio, 1, &iov);
}

/* ws: the next of the frames in tx_sending, as one nng message. */
static bool send_message(link_peer *l)
{
    const uint8_t *frame = l->tx_sending.data + l->tx_sent;
    size_t size = (size_t)link_get_be64(frame);
    nng_msg *message;
    int rv = nng_msg_alloc(&message, size);
    if (rv != 0) {
        link_peer_fail(l, link_nng_status(rv), "sending: %s", nng_strerror(rv));
        return false;
    }
    if (size > 0) memcpy(nng_msg_body(message), frame + 8, size);
    nng_aio_set_msg(l->tx.aio, message);
    return true;
}

static void send_some(link_peer *l)
{
    if (l->scheme->framing != LINK_FRAMING_WS)
        send_bytes(l);
    else if (!send_message(l))
        return;
    l->tx.in_flight = true;
    l->tx_moved_ms = uv_now(l->hub->loop);
    nng_stream_send(l->stream, l->tx.aio);
}

static void send_done(link_op *op)
{
    link_peer *l = op->owner;
    int rv = nng_aio_result(op->aio);
    size_t count = nng_aio_count(op->aio);
    if (l->scheme->framing == LINK_FRAMING_WS) {
        nng_msg *unsent = nng_aio_get_msg(op->aio);
        if (unsent != NULL) nng_msg_free(unsent);
        nng_aio_set_msg(op->aio, NULL);
        if (rv == 0) count = 8 + (size_t)link_get_be64(l->tx_sending.data + l->tx_sent);
    }
    if (l->state == LINK_CLOSING) {
        link_hub_attend(l->hub, l);
    } else if (rv != 0) {
        link_peer_send_failed(l, link_nng_status(rv), nng_strerror(rv));
    } else {
        l->tx_sent += count;
        link_peer_sent(l);
    }
}

/* -- receiving -------------------------------------------------------------------------- */

/* nng's tls and ws streams notice the peer's end also while no receive is posted, and then never
 * complete the next one. A dead stream has no peer any more, which can be asked for. */
static bool stream_is_dead(const link_peer *l)
{
    nng_sockaddr peer;
    return nng_stream_get_addr(l->stream, NNG_OPT_REMADDR, &peer) != 0;
}

/* A receive that is still out one tick after the stream died is lost; a shorter time could be that
 * of a completion on its way. Cancelling would not do: on tls it is lost as well. */
void link_nng_notice_lost_receive(link_peer *l)
{
    if (!l->rx.in_flight || l->stream == NULL || !stream_is_dead(l)) {
        l->seems_lost = false;
    } else if (l->seems_lost && l->rx_total == l->lost_at_total) {
        link_peer_fail(l, ST_UNAVAILABLE, "%s", nng_strerror(NNG_ECONNSHUT));
    } else {
        l->seems_lost = true;
        l->lost_at_total = l->rx_total;
    }
}

static void receive(link_peer *l)
{
    if (l->scheme->framing != LINK_FRAMING_WS) {
        nng_iov iov = {.iov_buf = l->rx_bytes + l->rx_size, .iov_len = l->rx_capacity - l->rx_size};
        nng_aio_set_iov(l->rx.aio, 1, &iov);
    }
    l->rx.in_flight = true;
    nng_stream_recv(l->stream, l->rx.aio);
}

static void take_message(link_peer *l)
{
    nng_msg *message = nng_aio_get_msg(l->rx.aio);
    nng_aio_set_msg(l->rx.aio, NULL);
    link_peer_received_message(l, nng_msg_body(message), nng_msg_len(message));
    nng_msg_free(message);
}

static void receive_done(link_op *op)
{
    link_peer *l = op->owner;
    int rv = nng_aio_result(op->aio);
    if (rv != 0)
        link_peer_fail(l, link_nng_status(rv), "%s%s",
                       l->was_up ? "" : "connecting: ", nng_strerror(rv));
    else if (l->scheme->framing == LINK_FRAMING_WS)
        take_message(l);
    else
        link_peer_received(l, nng_aio_count(op->aio));
    if (l->state == LINK_CLOSING)
        link_hub_attend(l->hub, l);
    else
        receive(l);
}

/* -- life --------------------------------------------------------------------------------- */

static void close_stream(link_peer *l)
{
    if (l->tx.aio == NULL) return; /* link_nng_prepare() failed */
    bool is_ws = l->scheme->framing == LINK_FRAMING_WS;
    if (is_ws)
        l->free_from_ms =
            uv_now(l->hub->loop) + (l->dialer != NULL ? (uint64_t)WS_DIAL_MS : WS_FREE_MS);
    if (l->dialer != NULL && !is_ws) nng_stream_dialer_close(l->dialer);
    if (l->stream != NULL) nng_stream_close(l->stream);
    nng_aio_cancel(l->rx.aio);
    nng_aio_cancel(l->tx.aio);
}

status link_nng_prepare(link_peer *l)
{
    if (link_op_init(&l->rx, l->hub, l, receive_done) == ST_OK &&
        link_op_init(&l->tx, l->hub, l, send_done) == ST_OK)
        return ST_OK;
    link_op_fini(&l->rx);
    link_op_fini(&l->tx);
    return ST_RESOURCE_EXHAUSTED;
}

/* Dialers that were given up, kept in sight of leak checkers. */
typedef struct given_up {
    struct given_up *next;
    nng_stream_dialer *dialer;
} given_up;

static _Atomic(given_up *) all_given_up;

static void keep_for_ever(nng_stream_dialer *dialer)
{
    given_up *g = mem_alloc(sizeof *g);
    *g = (given_up){atomic_load(&all_given_up), dialer};
    while (!atomic_compare_exchange_weak(&all_given_up, &g->next, g)) {
    }
}

void link_nng_release(link_peer *l)
{
    link_op_fini(&l->rx);
    link_op_fini(&l->tx);
    if (l->dialer != NULL && l->scheme->framing == LINK_FRAMING_WS)
        keep_for_ever(l->dialer);
    else if (l->dialer != NULL)
        nng_stream_dialer_free(l->dialer);
    if (l->stream != NULL) nng_stream_free(l->stream);
}

const link_transport link_nng_transport = {
    .receive = receive, .send = send_some, .close = close_stream};

/* -- dialling ------------------------------------------------------------------------------- */

static void dial_done(link_op *op)
{
    link_peer *l = op->owner;
    int rv = nng_aio_result(op->aio);
    l->rx.done = receive_done;
    if (l->state == LINK_CLOSING && rv != 0) {
        link_hub_attend(l->hub, l); /* the dialer is freed with the link */
        return;
    }
    nng_stream_dialer_free(l->dialer);
    l->dialer = NULL;
    if (rv == 0) l->stream = nng_aio_get_output(op->aio, 0);
    if (l->state == LINK_CLOSING) {
        close_stream(l);
        link_hub_attend(l->hub, l);
    } else if (rv != 0) {
        link_peer_fail(l, link_nng_status(rv), "connecting: %s", nng_strerror(rv));
    } else {
        link_peer_start(l);
    }
}

void link_nng_dial_start(link_peer *l, nng_stream_dialer *dialer)
{
    l->dialer = dialer;
    l->rx.done = dial_done;
    l->rx.in_flight = true;
    nng_stream_dialer_dial(dialer, l->rx.aio);
}
