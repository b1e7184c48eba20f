/* The hub: all links of a loop, and where nng's threads meet it.
 *
 * A link over tcp or ipc is a socket on the loop (link_socket.c). The others are nng's streams.
 * nng completes an operation by calling back on a thread of its own. That callback, op_completed(),
 * may touch three things: the op's flag `completed`, the hub's list `completed` and
 * uv_async_send(). All else here belongs to the loop.
 *
 *     nng task thread                     loop thread
 *     op_completed()                      async:    take the whole list, oldest first, op->done()
 *       push op on `completed`            check:    service links (after I/O callbacks)
 *       uv_async_send()                   prepare:  service links (after timers, before polling)
 *
 * `completed` is a lock-free stack with many pushers and one taker that always takes all of it, so
 * there is no ABA. The node is part of the op: completing allocates nothing and cannot fail.
 *
 * Work that may call out or free is never done where it arises. A link that needs a send started,
 * on_idle or on_down called, or itself freed is queued once (`attention`) and served in check or
 * prepare, whichever comes first; hence:
 *   1. several link_send() in one turn of the loop become one write;
 *   2. on_down and on_idle never come from within link_send() or link_close();
 *   3. a link is freed only in link_peer_service(), when no callback of its own is on the stack
 *      and neither of its operations is with nng.
 *
 * nng must not be used in a child after fork() without exec: its threads are not there. */
#include "common/link.h"

#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/link_internal.h"
#include "common/log.h"

enum {
    PROBE_MS = 250,
    /* A silent peer may not hold a handshake slot for longer: slots bound the CPU that handshakes
     * take (about 11 ms each), and one that waits for its peer takes none. */
    TLS_SLOT_MS = 250,
    STOOD_STILL_MS = 1000,
};

/* -- operations ------------------------------------------------------------------- */

static void op_completed(void *arg)
{
    link_op *op = arg;
    /* nng 1.5.2 completes a ws dial twice that is cancelled while it succeeds. */
    if (atomic_exchange_explicit(&op->completed, true, memory_order_acq_rel)) return;
    link_hub *hub = op->hub;
    link_op *head = atomic_load_explicit(&hub->completed, memory_order_relaxed);
    do {
        op->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&hub->completed, &head, op,
                                                    memory_order_release, memory_order_relaxed));
    /* The loop may already have taken `op`, but frees no aio, and so no hub, before this callback
     * has returned: nng_aio_free() waits for it. */
    uv_async_send(&hub->async);
}

status link_op_init(link_op *op, link_hub *hub, void *owner, void (*done)(link_op *op))
{
    *op = (link_op){.hub = hub, .owner = owner, .done = done};
    return nng_aio_alloc(&op->aio, op_completed, op) == 0 ? ST_OK : ST_RESOURCE_EXHAUSTED;
}

void link_op_fini(link_op *op)
{
    CHECK(!op->in_flight);
    if (op->aio != NULL) nng_aio_free(op->aio);
    op->aio = NULL;
}

static void on_async(uv_async_t *async)
{
    link_hub *hub = async->data;
    link_op *op = atomic_exchange_explicit(&hub->completed, NULL, memory_order_acquire);
    link_op *oldest = NULL;
    while (op != NULL) {
        link_op *next = op->next;
        op->next = oldest;
        oldest = op;
        op = next;
    }
    while (oldest != NULL) {
        link_op *taken = oldest;
        oldest = taken->next; /* done() may start the operation anew */
        atomic_store_explicit(&taken->completed, false, memory_order_release);
        if (!taken->in_flight) continue;
        taken->in_flight = false;
        taken->done(taken);
    }
}

/* -- links that need attention ------------------------------------------------------ */

void link_hub_attend(link_hub *hub, link_peer *l)
{
    if (l->attention) return;
    l->attention = true;
    l->attention_next = NULL;
    if (hub->attention_last != NULL)
        hub->attention_last->attention_next = l;
    else
        hub->attention_first = l;
    hub->attention_last = l;
}

static void handle_closed(uv_handle_t *handle)
{
    link_hub *hub = handle->data;
    if (--hub->handles_open > 0) return;
    void (*on_closed)(void *) = hub->on_closed;
    void *ctx = hub->on_closed_ctx;
    link_op_fini(&hub->probe);
    link_strangers_free(hub);
    mem_free(hub);
    if (on_closed != NULL) on_closed(ctx);
}

/* Those that ask while this runs have to wait: on_idle, and what it sends, may go on for ever. */
static void service(link_hub *hub)
{
    const link_peer *last = hub->attention_last;
    for (link_peer *l = hub->attention_first, *next; l != NULL; l = next) {
        next = l != last ? l->attention_next : NULL;
        hub->attention_first = l->attention_next;
        if (hub->attention_first == NULL) hub->attention_last = NULL;
        l->attention = false;
        link_peer_service(l);
    }
    if (!hub->closing || hub->links != NULL || hub->listeners != NULL || hub->probe.in_flight ||
        uv_is_closing((uv_handle_t *)&hub->async))
        return;
    uv_close((uv_handle_t *)&hub->async, handle_closed);
    uv_close((uv_handle_t *)&hub->prepare, handle_closed);
    uv_close((uv_handle_t *)&hub->check, handle_closed);
    uv_close((uv_handle_t *)&hub->tick, handle_closed);
}

static void on_prepare(uv_prepare_t *prepare)
{
    link_hub *hub = prepare->data;
    service(hub);
    if (hub->attention_first != NULL) uv_async_send(&hub->async); /* do not sleep */
}

static void on_check(uv_check_t *check)
{
    service(check->data);
}

void link_hub_add(link_hub *hub, link_peer *l)
{
    l->next = hub->links;
    if (l->next != NULL) l->next->prev = l;
    hub->links = l;
    hub->link_count++;
}

void link_hub_remove(link_hub *hub, link_peer *l)
{
    if (l->prev != NULL)
        l->prev->next = l->next;
    else
        hub->links = l->next;
    if (l->next != NULL) l->next->prev = l->prev;
    hub->link_count--;
}

/* -- TLS handshakes, a few at a time ------------------------------------------------- */

static void tls_begin(link_hub *hub, link_peer *l)
{
    hub->tls_slots--;
    l->tls_slot = true;
    l->tls_slot_until_ms = uv_now(hub->loop) + TLS_SLOT_MS;
    link_peer_talk(l);
}

void link_hub_admit_tls(link_hub *hub, link_peer *l)
{
    if (hub->tls_slots > 0) {
        tls_begin(hub, l);
        return;
    }
    l->tls_waiting = true;
    l->tls_next = NULL;
    if (hub->tls_last != NULL)
        hub->tls_last->tls_next = l;
    else
        hub->tls_first = l;
    hub->tls_last = l;
}

static void tls_leave_queue(link_hub *hub, link_peer *l)
{
    link_peer *before = NULL;
    for (link_peer *w = hub->tls_first; w != l; w = w->tls_next)
        before = w;
    if (before != NULL)
        before->tls_next = l->tls_next;
    else
        hub->tls_first = l->tls_next;
    if (hub->tls_last == l) hub->tls_last = before;
    l->tls_waiting = false;
}

void link_hub_release_tls(link_hub *hub, link_peer *l)
{
    if (l->tls_waiting) tls_leave_queue(hub, l);
    if (!l->tls_slot) return;
    l->tls_slot = false;
    hub->tls_slots++;
    link_peer *first = hub->tls_first;
    if (first == NULL || hub->closing) return;
    tls_leave_queue(hub, first);
    tls_begin(hub, first);
}

/* -- the clock ------------------------------------------------------------------------ */

static uint32_t lag_of(uint64_t start_ns, uint64_t end_ns)
{
    uint64_t ms = (end_ns - start_ns) / 1000000;
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

/* On nng's thread: take the time there, then complete like any other. */
static void probe_completed(void *arg)
{
    link_op *op = arg;
    op->hub->probe_end_ns = clock_now_ns();
    op_completed(op);
}

static void probe_done(link_op *op)
{
    link_hub *hub = op->hub;
    hub->lags_ms[hub->lag_next++ % 4] = lag_of(hub->probe_start_ns, hub->probe_end_ns);
}

/* A sleep that is cancelled at once: left to end by itself, nng's timer thread would spin through
 * its last millisecond. */
static void start_probe(link_hub *hub, uint64_t now)
{
    if (now >= hub->probe_next_ms + 3 * PROBE_MS) memset(hub->lags_ms, 0, sizeof hub->lags_ms);
    hub->probe_next_ms = now + PROBE_MS;
    hub->probe.in_flight = true;
    hub->probe_start_ns = clock_now_ns();
    nng_sleep_aio(PROBE_MS, hub->probe.aio);
    nng_aio_cancel(hub->probe.aio);
}

uint32_t link_hub_lag_ms(link_hub *hub)
{
    uint64_t now = uv_now(hub->loop);
    uint32_t lag = 0;
    if (hub->probe.in_flight)
        lag = lag_of(hub->probe_start_ns, clock_now_ns());
    else if (now >= hub->probe_next_ms && !hub->closing)
        start_probe(hub, now);
    for (unsigned i = 0; i < 4; i++)
        if (hub->lags_ms[i] > lag) lag = hub->lags_ms[i];
    return lag;
}

static void on_tick(uv_timer_t *tick)
{
    link_hub *hub = tick->data;
    uv_timer_start(tick, on_tick, link_until_tick_ms(hub->loop), 0);
    uint64_t now = uv_now(hub->loop);
    uint64_t late = now - hub->ticked_ms;
    hub->ticked_ms = now;
    /* This loop stood still (a stopped process, a long callback): what came meanwhile is not read
     * yet, so nobody's time is over. */
    bool stood_still = late > STOOD_STILL_MS;
    for (link_peer *l = hub->links; l != NULL; l = l->next) {
        if (stood_still) link_peer_shift(l, late);
        if (l->tls_slot && now >= l->tls_slot_until_ms) link_hub_release_tls(hub, l);
        link_peer_tick(l, now);
    }
    for (link_listener *listener = hub->listeners; listener != NULL; listener = listener->next)
        link_listener_tick(listener);
    link_strangers_tick(hub, now);
}

/* -- life ------------------------------------------------------------------------------ */

status link_hub_create(link_hub **out, uv_loop_t *loop, error *err)
{
    link_hub *hub = mem_calloc(1, sizeof *hub);
    hub->loop = loop;
    atomic_init(&hub->completed, NULL);
    hub->probe = (link_op){.hub = hub, .done = probe_done};
    int rv = nng_aio_alloc(&hub->probe.aio, probe_completed, &hub->probe);
    if (rv != 0) {
        error_set(err, ST_RESOURCE_EXHAUSTED, "starting nng: %s", nng_strerror(rv));
        goto fail;
    }
    /* The only handle whose init can fail (it opens a descriptor). */
    rv = uv_async_init(loop, &hub->async, on_async);
    if (rv != 0) {
        error_set(err, ST_RESOURCE_EXHAUSTED, "waking the loop: %s", uv_strerror(rv));
        goto fail;
    }
    uv_prepare_init(loop, &hub->prepare);
    uv_check_init(loop, &hub->check);
    uv_timer_init(loop, &hub->tick);
    hub->async.data = hub->prepare.data = hub->check.data = hub->tick.data = hub;
    hub->handles_open = 4;
    uv_prepare_start(&hub->prepare, on_prepare);
    uv_check_start(&hub->check, on_check);
    hub->ticked_ms = uv_now(loop);
    uv_timer_start(&hub->tick, on_tick, link_until_tick_ms(loop), 0);

    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    hub->tls_slots = 2 * (cores > 0 ? (unsigned)cores : 1);
    *out = hub;
    return ST_OK;

fail:
    link_op_fini(&hub->probe);
    mem_free(hub);
    return ST_RESOURCE_EXHAUSTED;
}

void link_hub_close(link_hub *hub, void (*on_closed)(void *ctx), void *ctx)
{
    CHECK(!hub->closing);
    hub->closing = true;
    hub->on_closed = on_closed;
    hub->on_closed_ctx = ctx;
    for (link_listener *listener = hub->listeners, *next; listener != NULL; listener = next) {
        next = listener->next;
        if (!listener->closed) link_listener_close(listener);
    }
    for (link_peer *l = hub->links; l != NULL; l = l->next)
        if (l->state != LINK_LINGERING) link_close(l, 0);
    nng_aio_cancel(hub->probe.aio);
}
