/* link.h without a network: connections between the processes of the simulation.
 *
 * A wire has two ends (link_peer) and two lanes, one towards each end. What an end sends waits at
 * the end until the "kernel" takes it (a flush, which is what makes the link idle again), then
 * travels in the lane and arrives in order. A lane holds at most a window of bytes: a receiver that
 * stands still stops its sender, as TCP does.
 *
 * Loss is TCP's: an arbitrary end of what was on its way is gone, and the connection with it.
 * A wire that was cut silently takes what is sent and delivers nothing, until an end gives up.
 *
 * A wire lives as long as one of its ends. A killed process's ends stay (without a wire) until its
 * own code has let go of them. */
#include <stdio.h>

#include "common/check.h"
#include "common/link.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_frames.h"

typedef struct lane {
    sim_frames frames;
    uint64_t last_us; /* when the last of them arrives */
    sim_event *arrival;
    bool lost;  /* swallows everything */
    bool ended; /* its `end` is on its way, or has arrived: more is dropped */
} lane;

typedef struct wire {
    struct wire *previous, *next;
    sim_process *process[2]; /* dialler, listener */
    link_peer *end[2];
    lane to[2];
    bool accepting; /* end[1] will come */
    char url[64];
} wire;

typedef enum peer_phase { PEER_CONNECTING, PEER_UP, PEER_CLOSING } peer_phase;

struct link_peer {
    link_hub *hub;
    link_peer *previous, *next;
    link_handlers handlers;
    void *ctx;
    wire *wire; /* NULL: not connected yet, or its process was killed */
    unsigned side;
    peer_phase phase;
    sim_frames waiting;
    sim_event *flush, *down;
    bool blocked;  /* the lane is full */
    bool idle_due; /* on_idle is owed */
    buffer out;
    uint64_t rx_total;
    status why;
    char text[64];
    char url[64];
};

struct link_listener {
    link_hub *hub;
    link_listener *next_in_hub, *next;
    link_handlers handlers;
    void *ctx;
    char url[64];
};

struct link_hub {
    sim_process *process;
    link_peer *peers;
    link_listener *listeners;
    bool closing, closed;
    void (*on_closed)(void *ctx);
    void *on_closed_ctx;
};

static struct {
    wire *wires;
    link_listener *listeners;
    uint32_t latency_us, jitter_us, window_bytes;
    uint64_t cuts;
} net;

/* -- lanes ------------------------------------------------------------------------------ */

static void arrive(void *ctx);
static void start_flush(link_peer *l);

static void lane_wait(wire *w, unsigned side)
{
    lane *to = &w->to[side];
    if (to->arrival != NULL || to->frames.head == NULL || w->end[side] == NULL || to->lost) return;
    uint64_t at_us = to->frames.head->at_us;
    uint64_t delay_us = at_us > world.now_us ? at_us - world.now_us : 0;
    to->arrival = sim_after(w->process[side], delay_us, arrive, w->end[side]);
}

static uint64_t travel_us(void)
{
    uint64_t us = net.latency_us + sim_pick(net.jitter_us + 1);
    if (sim_pick(200) == 0) us += sim_pick(300000); /* a packet was sent again */
    return us;
}

static void lane_put(wire *w, unsigned side, sim_frame *f)
{
    lane *to = &w->to[side];
    if (to->ended) {
        mem_free(f);
        return;
    }
    uint64_t at_us = world.now_us + travel_us();
    if (at_us < to->last_us) at_us = to->last_us;
    f->at_us = to->last_us = at_us;
    to->ended = f->end;
    sim_frames_add(&to->frames, f);
    lane_wait(w, side);
}

static void lane_end(wire *w, unsigned side)
{
    sim_frame *f = sim_frame_create(NULL, 0);
    f->end = true;
    lane_put(w, side, f);
}

static void lane_lose_some(wire *w, unsigned side)
{
    lane *to = &w->to[side];
    sim_cancel(to->arrival);
    to->arrival = NULL;
    sim_frames_truncate(&to->frames, sim_pick(sim_frames_count(&to->frames) + 1));
    to->ended = false; /* its end, if there was one, may be lost, too */
    for (const sim_frame *f = to->frames.head; f != NULL; f = f->next)
        to->ended |= f->end;
    lane_wait(w, side);
}

/* -- wires ------------------------------------------------------------------------------- */

static wire *wire_create(sim_process *dialler, sim_process *listener, const char *url)
{
    wire *w = mem_calloc(1, sizeof *w);
    w->process[0] = dialler;
    w->process[1] = listener;
    snprintf(w->url, sizeof w->url, "%s", url);
    w->next = net.wires;
    if (w->next != NULL) w->next->previous = w;
    net.wires = w;
    return w;
}

static void wire_release(wire *w)
{
    if (w->end[0] != NULL || w->end[1] != NULL || w->accepting) return;
    for (unsigned side = 0; side < 2; side++) {
        sim_cancel(w->to[side].arrival);
        sim_frames_clear(&w->to[side].frames);
    }
    if (w->previous != NULL)
        w->previous->next = w->next;
    else
        net.wires = w->next;
    if (w->next != NULL) w->next->previous = w->previous;
    mem_free(w);
}

/* An end lets go; the other one will hear of it. */
static void detach(link_peer *l)
{
    wire *w = l->wire;
    if (w == NULL) return;
    l->wire = NULL;
    w->end[l->side] = NULL;
    lane *to = &w->to[l->side];
    sim_cancel(to->arrival);
    to->arrival = NULL;
    sim_frames_clear(&to->frames);
    to->ended = true;
    lane_end(w, 1 - l->side);
    wire_release(w);
}

/* -- hubs and peers ------------------------------------------------------------------------- */

static void maybe_hub_closed(link_hub *hub);

static link_peer *peer_create(link_hub *hub, const link_handlers *handlers, void *ctx)
{
    link_peer *l = mem_calloc(1, sizeof *l);
    l->hub = hub;
    l->handlers = *handlers;
    l->ctx = ctx;
    l->next = hub->peers;
    if (l->next != NULL) l->next->previous = l;
    hub->peers = l;
    return l;
}

static void down(void *ctx)
{
    link_peer *l = ctx;
    link_hub *hub = l->hub;
    l->down = NULL;
    l->phase = PEER_CLOSING;
    detach(l);
    sim_cancel(l->flush);
    sim_frames_clear(&l->waiting);
    if (l->previous != NULL)
        l->previous->next = l->next;
    else
        hub->peers = l->next;
    if (l->next != NULL) l->next->previous = l->previous;
    l->handlers.on_down(l->ctx, l, l->why, l->text);
    buffer_free(&l->out);
    mem_free(l);
    maybe_hub_closed(hub);
}

static void go_down(link_peer *l, uint64_t delay_us, status why, const char *text)
{
    if (l->phase != PEER_CLOSING || l->text[0] == '\0') {
        l->why = why;
        snprintf(l->text, sizeof l->text, "%s", text);
    }
    l->phase = PEER_CLOSING;
    sim_cancel(l->down);
    l->down = sim_after(l->hub->process, delay_us, down, l);
}

/* A frame reaches its end. */
static void arrive(void *ctx)
{
    link_peer *l = ctx;
    wire *w = l->wire;
    lane *to = &w->to[l->side];
    to->arrival = NULL;
    sim_frame *f = sim_frames_take(&to->frames);
    link_peer *sender = w->end[1 - l->side];
    if (sender != NULL && sender->blocked && to->frames.bytes < net.window_bytes) {
        sender->blocked = false;
        start_flush(sender);
    }
    lane_wait(w, l->side);
    if (f->end) {
        bool was_closing = l->phase == PEER_CLOSING;
        go_down(l, sim_pick(100), was_closing ? ST_OK : ST_UNAVAILABLE,
                was_closing ? "closed here" : "the peer closed the connection");
    } else if (l->phase == PEER_UP) {
        l->rx_total += f->size;
        world.digest = (world.digest ^ f->size) * 0x100000001b3u;
        sim_trace_message(w->process[1 - l->side]->name, f->bytes, f->size);
        l->handlers.on_message(l->ctx, l, f->bytes, f->size);
    }
    mem_free(f);
}

/* What waits is taken by the kernel. */
static void flush(void *ctx)
{
    link_peer *l = ctx;
    l->flush = NULL;
    wire *w = l->wire;
    if (w != NULL && w->to[1 - l->side].frames.bytes >= net.window_bytes) {
        l->blocked = true;
        return;
    }
    for (sim_frame *f; (f = sim_frames_take(&l->waiting)) != NULL;) {
        if (w != NULL)
            lane_put(w, 1 - l->side, f);
        else
            mem_free(f);
    }
    if (l->phase != PEER_UP || !l->idle_due) return;
    l->idle_due = false;
    if (l->handlers.on_idle != NULL) l->handlers.on_idle(l->ctx, l);
}

static void start_flush(link_peer *l)
{
    if (l->flush == NULL && !l->blocked)
        l->flush = sim_after(l->hub->process, sim_pick(sim_pick(50) == 0 ? 20000 : 100), flush, l);
}

static void come_up(link_peer *l, wire *w, unsigned side)
{
    l->wire = w;
    l->side = side;
    w->end[side] = l;
    l->phase = PEER_UP;
    l->idle_due = true;
    l->ctx = l->handlers.on_up(l->ctx, l);
    start_flush(l);
    lane_wait(w, side);
}

static link_listener *find_listener(const char *url)
{
    for (link_listener *listener = net.listeners; listener != NULL; listener = listener->next)
        if (strcmp(listener->url, url) == 0) return listener;
    return NULL;
}

static bool apart(const sim_process *p)
{
    return p->apart_until_us > world.now_us;
}

static void accept_wire(void *ctx)
{
    wire *w = ctx;
    w->accepting = false;
    link_listener *listener = find_listener(w->url);
    if (listener == NULL || listener->hub->process->dead) {
        lane_end(w, 0);
        wire_release(w);
        return;
    }
    come_up(peer_create(listener->hub, &listener->handlers, listener->ctx), w, 1);
}

static void connect_peer(void *ctx)
{
    link_peer *l = ctx;
    l->flush = NULL; /* it stood for the attempt */
    sim_process *p = l->hub->process;
    link_listener *listener = find_listener(l->url);
    if (p->dead || listener == NULL || listener->hub->process->dead) {
        go_down(l, 0, ST_UNAVAILABLE, "connection refused");
        return;
    }
    sim_process *there = listener->hub->process;
    if (apart(p) || apart(there)) {
        go_down(l, sim_chance(50) ? sim_pick(20000) : sim_pick(3000000), ST_UNAVAILABLE,
                "no route to host");
        return;
    }
    wire *w = wire_create(p, there, l->url);
    w->accepting = true;
    sim_after(there, sim_pick(500), accept_wire, w);
    come_up(l, w, 0);
}

/* -- link.h -------------------------------------------------------------------------------- */

status link_hub_create(link_hub **out, uv_loop_t *loop, error *err)
{
    (void)err;
    *out = mem_calloc(1, sizeof **out);
    (*out)->process = loop->data;
    return ST_OK;
}

static void hub_closed(void *ctx)
{
    link_hub *hub = ctx;
    void (*on_closed)(void *) = hub->on_closed;
    void *on_closed_ctx = hub->on_closed_ctx;
    mem_free(hub);
    on_closed(on_closed_ctx);
}

static void maybe_hub_closed(link_hub *hub)
{
    if (!hub->closing || hub->closed || hub->peers != NULL) return;
    hub->closed = true;
    sim_after(hub->process, 0, hub_closed, hub);
}

void link_hub_close(link_hub *hub, void (*on_closed)(void *ctx), void *ctx)
{
    hub->closing = true;
    hub->on_closed = on_closed;
    hub->on_closed_ctx = ctx;
    while (hub->listeners != NULL)
        link_listener_close(hub->listeners);
    for (link_peer *l = hub->peers; l != NULL; l = l->next)
        if (l->phase != PEER_CLOSING) link_close(l, 0);
    maybe_hub_closed(hub);
}

status link_listen(link_listener **out, link_hub *hub, const char *url, const link_tls *tls,
                   const link_limits *limits, const link_handlers *handlers, void *ctx, error *err)
{
    (void)tls;
    (void)limits;
    (void)err;
    CHECK(find_listener(url) == NULL);
    link_listener *listener = mem_calloc(1, sizeof *listener);
    listener->hub = hub;
    listener->handlers = *handlers;
    listener->ctx = ctx;
    snprintf(listener->url, sizeof listener->url, "%s", url);
    listener->next_in_hub = hub->listeners;
    hub->listeners = listener;
    listener->next = net.listeners;
    net.listeners = listener;
    *out = listener;
    return ST_OK;
}

uint16_t link_listener_port(const link_listener *listener)
{
    (void)listener;
    return 1;
}

void link_listener_close(link_listener *listener)
{
    link_listener **at = &listener->hub->listeners;
    while (*at != listener)
        at = &(*at)->next_in_hub;
    *at = listener->next_in_hub;
    at = &net.listeners;
    while (*at != listener)
        at = &(*at)->next;
    *at = listener->next;
    mem_free(listener);
}

status link_dial_check(const char *url, const link_tls *tls, error *err)
{
    (void)url;
    (void)tls;
    (void)err;
    return ST_OK;
}

status link_dial(link_peer **out, link_hub *hub, const char *url, const link_tls *tls,
                 const link_limits *limits, const link_handlers *handlers, void *ctx, error *err)
{
    (void)tls;
    (void)limits;
    (void)err;
    link_peer *l = peer_create(hub, handlers, ctx);
    snprintf(l->url, sizeof l->url, "%s", url);
    l->flush = sim_after(hub->process, travel_us(), connect_peer, l);
    *out = l;
    return ST_OK;
}

buffer *link_send_buffer(link_peer *l)
{
    if (l->phase != PEER_UP) return NULL;
    buffer_clear(&l->out);
    return &l->out;
}

void link_sent(link_peer *l)
{
    CHECK(l->out.size <= LIMIT_MESSAGE_BYTES);
    sim_frames_add(&l->waiting, sim_frame_create(l->out.data, l->out.size));
    start_flush(l);
}

bool link_is_idle(link_peer *l)
{
    bool is_idle = l->phase == PEER_UP && l->waiting.head == NULL && l->flush == NULL;
    if (!is_idle) l->idle_due = true;
    return is_idle;
}

size_t link_tx_bytes(const link_peer *l)
{
    return l->waiting.bytes;
}

uint64_t link_rx_total(const link_peer *l)
{
    return l->rx_total;
}

void link_set_message_bytes(link_peer *l, uint32_t bytes)
{
    (void)l;
    (void)bytes;
}

void link_close(link_peer *l, uint32_t linger_ms)
{
    if (l->phase == PEER_CLOSING) {
        if (linger_ms == 0) go_down(l, 0, ST_OK, "closed here");
        return;
    }
    wire *w = l->wire;
    if (l->phase == PEER_CONNECTING) {
        sim_cancel(l->flush);
        l->flush = NULL;
    }
    l->phase = PEER_CLOSING;
    for (sim_frame *f; w != NULL && (f = sim_frames_take(&l->waiting)) != NULL;)
        lane_put(w, 1 - l->side, f);
    if (w == NULL) linger_ms = 0;
    if (linger_ms > 0) lane_end(w, 1 - l->side);
    go_down(l, (uint64_t)linger_ms * 1000, ST_OK, "closed here");
}

uint32_t link_hub_lag_ms(link_hub *hub)
{
    (void)hub;
    return 0;
}

/* -- troubles --------------------------------------------------------------------------------- */

static void cut(wire *w, sim_cut how)
{
    net.cuts++;
    static const char *const names[] = {"reset", "silent", "deaf"};
    sim_trace("link %s - %s is cut: %s", w->process[0]->name, w->process[1]->name, names[how]);
    unsigned deaf = sim_pick(2);
    for (unsigned side = 0; side < 2; side++) {
        if (how == SIM_CUT_DEAF && side != deaf) continue;
        lane_lose_some(w, side);
        if (how == SIM_CUT_RESET)
            lane_end(w, side);
        else
            w->to[side].lost = sim_chance(50) || w->to[side].frames.head == NULL;
        /* What survived of a silent lane may still arrive; nothing after it does. */
        if (how != SIM_CUT_RESET) w->to[side].ended = true;
    }
}

static bool touches(const wire *w, const sim_process *p)
{
    return w->process[0] == p || w->process[1] == p;
}

static wire *any_wire(const sim_process *p)
{
    uint32_t count = 0;
    wire *chosen = NULL;
    for (wire *w = net.wires; w != NULL; w = w->next)
        if (touches(w, p) && sim_pick(++count) == 0) chosen = w;
    return chosen;
}

bool sim_network_cut(const sim_process *p, sim_cut how)
{
    wire *w = any_wire(p);
    if (w != NULL) cut(w, how);
    return w != NULL;
}

bool sim_network_stall(const sim_process *p, uint64_t for_us)
{
    wire *w = any_wire(p);
    if (w == NULL) return false;
    unsigned side = sim_pick(2);
    sim_trace("nothing travels from %s to %s for %llu ms", w->process[1 - side]->name,
              w->process[side]->name, (unsigned long long)for_us / 1000);
    lane *to = &w->to[side];
    if (to->last_us < world.now_us + for_us) to->last_us = world.now_us + for_us;
    return true;
}

void sim_network_part(sim_process *p, uint64_t for_us)
{
    sim_trace("%s has no network for %llu ms", p->name, (unsigned long long)for_us / 1000);
    p->apart_until_us = world.now_us + for_us;
    for (wire *w = net.wires; w != NULL; w = w->next)
        if (touches(w, p)) cut(w, SIM_CUT_SILENT);
}

void sim_network_kill(const sim_process *p, bool silently)
{
    for (wire *w = net.wires, *next; w != NULL; w = next) {
        next = w->next;
        if (!touches(w, p)) continue;
        unsigned side = w->process[0] == p ? 0 : 1;
        lane_lose_some(w, 1 - side);
        if (silently) w->to[1 - side].ended = true;
        link_peer *l = w->end[side];
        if (l == NULL) continue;
        detach(l);
        if (l->phase == PEER_CLOSING) go_down(l, 0, ST_OK, "closed here"); /* lingers no more */
    }
}

uint64_t sim_network_cuts(void)
{
    return net.cuts;
}

void sim_network_begin(uint32_t latency_us, uint32_t jitter_us, uint32_t window_bytes)
{
    net.wires = NULL;
    net.listeners = NULL;
    net.latency_us = latency_us;
    net.jitter_us = jitter_us;
    net.window_bytes = window_bytes;
    net.cuts = 0;
}

void sim_network_end(void)
{
    CHECK(net.wires == NULL && net.listeners == NULL);
}
