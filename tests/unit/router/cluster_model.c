#include "tests/unit/router/cluster_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/log.h"
#include "proto/token_columns.h"
#include "router/core.h"

enum {
    MESSAGES_MAX = 4096, /* waiting on one link in one direction */
    HELD_MAX = 256,      /* streams a model worker holds */
    WINDOW = 32,
    CLIENT_GRACE_MS = 3000,
    WORKER_GRACE_MS = 2000,
    STALL_MS = 4000,
};

cluster_totals cluster_sum;

typedef struct pipe {
    buffer messages[MESSAGES_MAX];
    uint32_t head, count;
} pipe;

typedef enum answer_state { ANSWER_NEW, ANSWER_OPEN, ANSWER_ENDED } answer_state;

typedef struct answer {
    id128 id;
    answer_state state;
    uint32_t length; /* tokens the worker will make */
    uint32_t next, acked;
    uint32_t stream;
    uint32_t prior; /* of the last Submit */
    bool accepted;
    bool cancel_sent;
    bool stalled; /* never acknowledges */
} answer;

typedef struct node { /* a client or a worker */
    struct cluster *cluster;
    bool is_worker;
    uint32_t number;
    id128 instance;
    core_link *link; /* NULL: not connected */
    bool closing;    /* the core asked for it */
    uint64_t redial_ms;
    pipe *to_core, *to_node;
    /* client */
    answer *answers;
    uint32_t answer_count;
    uint32_t next_stream;
    /* worker */
    struct held {
        bool used, finished, finish_sent, hold;
        id128 id;
        uint32_t stream, base, made, sent, length, window;
        uint32_t router; /* which router gave it its stream number */
        finish_reason reason;
    } held[HELD_MAX];
} node;

struct cluster {
    cluster_options options;
    uint64_t random;
    uint64_t now_ms;
    uint32_t router_number; /* counts restarts */
    core *core;
    node *nodes;
    uint32_t node_count;
    arena scratch;
};

static uint64_t next_random(cluster *t)
{
    uint64_t z = (t->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint32_t pick(cluster *t, uint32_t below)
{
    return (uint32_t)(next_random(t) % below);
}

static id128 model_id(cluster *t)
{
    id128 id;
    uint64_t halves[2] = {next_random(t), next_random(t)};
    memcpy(id.bytes, halves, sizeof id.bytes);
    return id;
}

/* What the answer to request `id` says at `index`. */
static uint32_t model_token(const id128 *id, uint32_t index)
{
    uint32_t start;
    memcpy(&start, id->bytes, sizeof start);
    return (start ^ (index * 2654435761u)) % 50000;
}

static uint32_t model_length(const id128 *id)
{
    return 1 + id->bytes[5] % 120;
}

/* -- links -------------------------------------------------------------------------- */

static void pipe_push(cluster *t, pipe *p, const envelope *e)
{
    CHECK(p->count < MESSAGES_MAX);
    buffer *b = &p->messages[(p->head + p->count++) % MESSAGES_MAX];
    buffer_clear(b);
    arena_reset(&t->scratch);
    CHECK(envelope_encode(e, &t->scratch, b) == ST_OK);
}

static void pipe_clear(pipe *p)
{
    p->head = p->count = 0;
}

static void io_send(void *ctx, void *handle, const envelope *e)
{
    pipe_push(ctx, ((node *)handle)->to_node, e);
}

static bool io_is_idle(void *ctx, void *handle)
{
    (void)ctx;
    return ((node *)handle)->to_node->count < 4;
}

static void io_close(void *ctx, void *handle, const char *reason)
{
    (void)ctx;
    (void)reason;
    ((node *)handle)->closing = true;
}

static void node_send(node *n, const envelope *e)
{
    if (n->link != NULL) pipe_push(n->cluster, n->to_core, e);
}

static void node_cut(node *n)
{
    cluster *t = n->cluster;
    if (n->link == NULL) return;
    /* What was on its way may have arrived or not. */
    core_link_down(t->core, n->link, false, t->now_ms);
    n->link = NULL;
    n->closing = false;
    pipe_clear(n->to_core);
    pipe_clear(n->to_node);
    n->redial_ms = t->now_ms + pick(t, 400);
    for (uint32_t i = 0; n->is_worker && i < HELD_MAX; i++)
        n->held[i].stream = 0;
    cluster_sum.cuts++;
}

/* -- model client --------------------------------------------------------------------- */

static void client_submit(node *n, answer *a)
{
    uint32_t prior[256];
    for (uint32_t i = 0; i < a->next; i++)
        prior[i] = model_token(&a->id, i);
    uint32_t prompt[3] = {1, 2, 3};
    envelope e = {.kind = ENVELOPE_SUBMIT};
    e.submit = (msg_submit){.stream = a->stream,
                            .request_id = a->id,
                            .model = text_of("m"),
                            .ids = prompt,
                            .id_count = 3,
                            .prior_ids = prior,
                            .prior_count = a->next,
                            .max_tokens = 500,
                            .window = WINDOW,
                            .logprobs = LOGPROBS_NONE};
    a->state = ANSWER_OPEN;
    a->prior = a->next;
    node_send(n, &e);
}

static void client_resume(node *n, answer *a)
{
    envelope e = {.kind = ENVELOPE_RESUME};
    e.resume = (msg_resume){
        .request_id = &a->id, .stream = &a->stream, .next_wanted = &a->next, .count = 1};
    cluster_sum.resumes++;
    node_send(n, &e);
}

static void client_ack(node *n, answer *a)
{
    if (a->stalled) return;
    envelope e = {.kind = ENVELOPE_ACK};
    e.ack = (msg_ack){.stream = &a->stream, .next_wanted = &a->next, .count = 1};
    a->acked = a->next;
    node_send(n, &e);
}

static answer *client_answer(node *n, uint32_t stream)
{
    for (uint32_t i = 0; i < n->answer_count; i++)
        if (n->answers[i].stream == stream && n->answers[i].state == ANSWER_OPEN)
            return &n->answers[i];
    return NULL;
}

static void client_end(answer *a)
{
    CHECK(a->state == ANSWER_OPEN); /* ends exactly once */
    a->state = ANSWER_ENDED;
}

static void client_tokens(node *n, const msg_tokens *m)
{
    size_t at = 0;
    for (size_t g = 0; g < m->groups; g++) {
        answer *a = client_answer(n, m->stream[g]);
        for (uint32_t i = 0; i < m->count[g]; i++, at++) {
            if (a == NULL) continue;
            uint32_t index = m->first_index[g] + i;
            if (index < a->next) continue;
            CHECK(index == a->next); /* the router never leaves a gap on one link */
            CHECK(m->token[at] == model_token(&a->id, index));
            a->next++;
            cluster_sum.tokens++;
        }
        if (a != NULL && a->next - a->acked >= WINDOW / 4) client_ack(n, a);
    }
}

static void client_hear(node *n, const envelope *e)
{
    answer *a;
    switch (e->kind) {
    case ENVELOPE_ACCEPTED:
        a = client_answer(n, e->accepted.stream);
        if (a != NULL) a->accepted = true;
        break;
    case ENVELOPE_TOKENS:
        client_tokens(n, &e->tokens);
        break;
    case ENVELOPE_FINISH:
        a = client_answer(n, e->finish.stream);
        if (a == NULL) break;
        CHECK(e->finish.total == a->next);
        if (e->finish.reason == FINISH_STOP) {
            CHECK(a->next == a->length);
            cluster_sum.completed++;
        } else if (e->finish.reason == FINISH_SLOW_CONSUMER) {
            CHECK(a->stalled);
            cluster_sum.stalled++;
        } else {
            CHECK(e->finish.reason == FINISH_CANCELLED && (a->cancel_sent || a->stalled));
            cluster_sum.cancelled++;
        }
        client_ack(n, a);
        client_end(a);
        break;
    case ENVELOPE_ERROR:
        a = client_answer(n, e->error.stream);
        if (a == NULL) break;
        if (e->error.code == ST_NOT_FOUND) {
            cluster_sum.resubmits++;
            client_submit(n, a);
        } else if (e->error.code == ST_UNAVAILABLE && !a->accepted) {
            a->state = ANSWER_NEW; /* refused: try again later */
        } else if (e->error.code == ST_UNAVAILABLE) {
            CHECK(n->cluster->options.restart_workers || n->cluster->options.cut_links);
            cluster_sum.unavailable++;
            client_end(a);
        } else {
            CHECK(e->error.code == ST_CANCELLED && (a->cancel_sent || a->stalled));
            cluster_sum.cancelled++;
            client_end(a);
        }
        break;
    default:
        UNREACHABLE("clients hear nothing else");
    }
}

static void client_connected(node *n)
{
    for (uint32_t i = 0; i < n->answer_count; i++)
        if (n->answers[i].state == ANSWER_OPEN) client_resume(n, &n->answers[i]);
}

static void client_act(node *n)
{
    cluster *t = n->cluster;
    answer *a = &n->answers[pick(t, n->answer_count)];
    if (a->state == ANSWER_NEW) {
        a->stream = ++n->next_stream;
        client_submit(n, a);
    } else if (a->state == ANSWER_OPEN && t->options.cancel && pick(t, 40) == 0) {
        envelope e = {.kind = ENVELOPE_CANCEL};
        e.cancel = (msg_cancel){.stream = &a->stream, .count = 1};
        a->cancel_sent = true;
        node_send(n, &e);
    } else if (a->state == ANSWER_OPEN && a->next > a->acked) {
        client_ack(n, a);
    }
}

/* -- model worker --------------------------------------------------------------------- */

static struct held *worker_held(node *n, uint32_t stream)
{
    for (uint32_t i = 0; i < HELD_MAX; i++)
        if (n->held[i].used && n->held[i].stream == stream) return &n->held[i];
    return NULL;
}

static struct held *worker_held_id(node *n, const id128 *id)
{
    for (uint32_t i = 0; i < HELD_MAX; i++)
        if (n->held[i].used && id128_equal(&n->held[i].id, id)) return &n->held[i];
    return NULL;
}

static void worker_connected(node *n)
{
    msg_live live[HELD_MAX];
    size_t count = 0;
    for (uint32_t i = 0; i < HELD_MAX; i++) {
        struct held *h = &n->held[i];
        if (!h->used) continue;
        live[count++] = (msg_live){.request_id = h->id,
                                   .base = h->base,
                                   .next = h->made,
                                   .finished = h->finished,
                                   .yours = h->router == n->cluster->router_number,
                                   .model = text_of("m")};
        h->hold = true;
    }
    char name[16] = {'w', (char)('0' + n->number), '\0'};
    msg_model m = {.name = text_of("m"), .revision = text_of("r"), .context_max = 1000};
    envelope e = {.kind = ENVELOPE_REGISTER};
    e.reg = (msg_register){.worker_id = text_of(name),
                           .device = text_of("model"),
                           .models = &m,
                           .model_count = 1,
                           .slots = 4,
                           .kv_blocks = 100,
                           .kv_block_tokens = 16,
                           .live = live,
                           .live_count = count};
    node_send(n, &e);
}

static void worker_take(node *n, const msg_submit *s)
{
    CHECK(worker_held(n, s->stream) == NULL);
    struct held *h = worker_held_id(n, &s->request_id);
    for (uint32_t i = 0; h == NULL && i < HELD_MAX; i++)
        if (!n->held[i].used) h = &n->held[i];
    CHECK(h != NULL);
    uint32_t prior = (uint32_t)s->prior_count;
    for (uint32_t i = 0; i < prior; i++)
        CHECK(s->prior_ids[i] == model_token(&s->request_id, i));
    *h = (struct held){.used = true,
                       .id = s->request_id,
                       .stream = s->stream,
                       .router = n->cluster->router_number,
                       .base = prior,
                       .made = prior,
                       .sent = prior,
                       .length = model_length(&s->request_id),
                       .window = s->window,
                       .reason = FINISH_STOP};
    if (h->made >= h->length) h->finished = true;
}

static void worker_hear(node *n, const envelope *e)
{
    switch (e->kind) {
    case ENVELOPE_SUBMIT:
        worker_take(n, &e->submit);
        break;
    case ENVELOPE_ADOPT:
        for (size_t i = 0; i < e->adopt.count; i++) {
            struct held *h = worker_held_id(n, &e->adopt.request_id[i]);
            CHECK(h != NULL);
            h->stream = e->adopt.stream[i];
            h->router = n->cluster->router_number;
            h->hold = e->adopt.next_wanted[i] == NEXT_WANTED_HOLD;
            if (!h->hold) {
                CHECK(e->adopt.next_wanted[i] >= h->base && e->adopt.next_wanted[i] <= h->made);
                h->sent = e->adopt.next_wanted[i];
            }
            h->finish_sent = false;
        }
        for (size_t i = 0; i < e->adopt.drop_count; i++)
            worker_held_id(n, &e->adopt.drop[i])->used = false;
        break;
    case ENVELOPE_RESUME:
        for (size_t i = 0; i < e->resume.count; i++) {
            struct held *h = worker_held(n, e->resume.stream[i]);
            if (h == NULL) continue;
            CHECK(e->resume.next_wanted[i] >= h->base && e->resume.next_wanted[i] <= h->made);
            h->sent = h->base = e->resume.next_wanted[i];
            h->hold = h->finish_sent = false;
        }
        break;
    case ENVELOPE_ACK:
        for (size_t i = 0; i < e->ack.count; i++) {
            struct held *h = worker_held(n, e->ack.stream[i]);
            if (h == NULL) continue;
            CHECK(e->ack.next_wanted[i] <= h->made);
            if (e->ack.next_wanted[i] > h->base) h->base = e->ack.next_wanted[i];
            if (h->finish_sent && h->base == h->made) h->used = false;
        }
        break;
    case ENVELOPE_CANCEL:
        for (size_t i = 0; i < e->cancel.count; i++) {
            struct held *h = worker_held(n, e->cancel.stream[i]);
            if (h == NULL) continue;
            if (e->cancel.forget) {
                h->used = false;
            } else if (!h->finished) {
                h->finished = true;
                h->reason = e->cancel.finish;
            }
        }
        break;
    default:
        UNREACHABLE("workers hear nothing else");
    }
}

static void worker_send_finish(node *n, struct held *h)
{
    envelope e = {.kind = ENVELOPE_FINISH};
    e.finish = (msg_finish){.stream = h->stream, .total = h->made, .reason = h->reason};
    h->finish_sent = true;
    node_send(n, &e);
}

static void send_columns(void *ctx, const envelope *e)
{
    node_send(ctx, e);
}

static void worker_act(node *n)
{
    cluster *t = n->cluster;
    token_columns columns = {0};
    for (uint32_t i = 0; i < HELD_MAX; i++) {
        struct held *h = &n->held[i];
        if (!h->used || h->stream == 0 || pick(t, 3) == 0) continue;
        if (!h->finished && h->made < h->base + h->window) {
            h->made++;
            h->finished = h->made == h->length;
        }
        if (h->hold) continue;
        while (h->sent < h->made) {
            token_columns_add(&columns, h->stream, h->sent, model_token(&h->id, h->sent), "x", 1,
                              NAN, 0, NULL, NULL);
            h->sent++;
        }
    }
    token_columns_flush(&columns, send_columns, n);
    token_columns_free(&columns);
    for (uint32_t i = 0; i < HELD_MAX; i++) {
        struct held *h = &n->held[i];
        if (h->used && h->stream != 0 && !h->hold && h->finished && h->sent == h->made &&
            !h->finish_sent)
            worker_send_finish(n, h);
    }
}

/* -- the run --------------------------------------------------------------------------- */

static void core_make(cluster *t)
{
    core_options o = core_options_default();
    o.client_grace_ms = CLIENT_GRACE_MS;
    o.worker_grace_ms = WORKER_GRACE_MS;
    o.stall_ms = STALL_MS;
    o.seed = next_random(t);
    const core_io io = {.send = io_send, .is_idle = io_is_idle, .close = io_close, .ctx = t};
    t->core = core_create(&o, &io, t->now_ms);
}

static void restart_router(cluster *t)
{
    for (uint32_t i = 0; i < t->node_count; i++)
        node_cut(&t->nodes[i]);
    core_destroy(t->core);
    t->router_number++;
    core_make(t);
}

static void node_connect(node *n)
{
    cluster *t = n->cluster;
    n->link = core_link_up(t->core, n, n->is_worker ? ROLE_WORKER : ROLE_CLIENT, 0, &n->instance,
                           "model", t->now_ms);
    if (n->is_worker)
        worker_connected(n);
    else
        client_connected(n);
}

static void deliver(cluster *t, node *n, bool to_core)
{
    pipe *p = to_core ? n->to_core : n->to_node;
    if (n->link == NULL || p->count == 0) return;
    buffer *b = &p->messages[p->head];
    envelope e;
    arena scratch = {0};
    error err;
    status st = envelope_decode(b->data, b->size, &scratch, &e, &err);
    CHECK(st == ST_OK);
    if (to_core)
        core_envelope(t->core, n->link, &e, NULL, t->now_ms);
    else if (n->is_worker)
        worker_hear(n, &e);
    else
        client_hear(n, &e);
    arena_free(&scratch);
    /* the pipe may have been cleared by what happened */
    if (p->count > 0) {
        p->head = (p->head + 1) % MESSAGES_MAX;
        p->count--;
    }
}

static bool all_ended(const cluster *t)
{
    for (uint32_t i = 0; i < t->node_count; i++)
        for (uint32_t a = 0; a < t->nodes[i].answer_count; a++)
            if (t->nodes[i].answers[a].state != ANSWER_ENDED) return false;
    return true;
}

static void step(cluster *t, bool quiet)
{
    node *n = &t->nodes[pick(t, t->node_count)];
    if (n->link == NULL) {
        if (t->now_ms >= n->redial_ms) node_connect(n);
    } else if (n->closing) {
        node_cut(n);
    } else {
        switch (pick(t, 4)) {
        case 0:
            if (n->is_worker)
                worker_act(n);
            else if (n->answer_count > 0)
                client_act(n);
            break;
        case 1:
        case 2:
            deliver(t, n, true);
            break;
        default:
            deliver(t, n, false);
        }
    }
    if (!quiet && t->options.cut_links && pick(t, 500) == 0) node_cut(n);
    if (!quiet && t->options.restart_workers && n->is_worker && pick(t, 4000) == 0) {
        node_cut(n);
        memset(n->held, 0, sizeof n->held);
        n->instance = model_id(t);
    }
    if (!quiet && t->options.restart_router && pick(t, 8000) == 0) restart_router(t);
    core_flush(t->core);
    if (pick(t, 8) == 0) t->now_ms += pick(t, 10);
    if (pick(t, 16) == 0) core_tick(t->core, t->now_ms);
}

static void set_up(cluster *t, const cluster_options *options)
{
    *t = (cluster){.options = *options, .random = options->seed, .now_ms = 1000000};
    log_init("test", LOG_ERROR);
    t->node_count = options->clients + options->workers;
    t->nodes = mem_calloc(t->node_count, sizeof *t->nodes);
    uint32_t each = options->requests / options->clients;
    for (uint32_t i = 0; i < t->node_count; i++) {
        node *n = &t->nodes[i];
        n->cluster = t;
        n->is_worker = i >= options->clients;
        n->number = i;
        n->instance = model_id(t);
        n->to_core = mem_calloc(1, sizeof *n->to_core);
        n->to_node = mem_calloc(1, sizeof *n->to_node);
        if (n->is_worker) continue;
        n->answer_count = each;
        n->answers = mem_calloc(each, sizeof *n->answers);
        for (uint32_t a = 0; a < each; a++) {
            n->answers[a].id = model_id(t);
            n->answers[a].length = model_length(&n->answers[a].id);
            n->answers[a].stalled =
                options->stall && n->answers[a].length > 2 * WINDOW && pick(t, 4) == 0;
        }
    }
    core_make(t);
}

static void tear_down(cluster *t)
{
    core_destroy(t->core);
    for (uint32_t i = 0; i < t->node_count; i++) {
        node *n = &t->nodes[i];
        for (uint32_t m = 0; m < MESSAGES_MAX; m++) {
            buffer_free(&n->to_core->messages[m]);
            buffer_free(&n->to_node->messages[m]);
        }
        mem_free(n->to_core);
        mem_free(n->to_node);
        mem_free(n->answers);
    }
    mem_free(t->nodes);
    arena_free(&t->scratch);
}

/* What still waits, for whoever looks at a failing seed. */
static void dump(const cluster *t)
{
    fprintf(stderr, "seed %llu at %llu ms\n", (unsigned long long)t->options.seed,
            (unsigned long long)t->now_ms);
    for (uint32_t i = 0; i < t->node_count; i++) {
        const node *n = &t->nodes[i];
        fprintf(stderr, "%s %u %s to_core=%u to_node=%u\n", n->is_worker ? "worker" : "client", i,
                n->link != NULL ? "up" : "down", n->to_core->count, n->to_node->count);
        for (uint32_t a = 0; a < n->answer_count; a++)
            if (n->answers[a].state != ANSWER_ENDED)
                fprintf(stderr, "  answer %02x%02x state=%d stream=%u next=%u acked=%u length=%u\n",
                        n->answers[a].id.bytes[0], n->answers[a].id.bytes[1], n->answers[a].state,
                        n->answers[a].stream, n->answers[a].next, n->answers[a].acked,
                        n->answers[a].length);
        for (uint32_t h = 0; n->is_worker && h < HELD_MAX; h++)
            if (n->held[h].used)
                fprintf(stderr, "  held %02x%02x stream=%u base=%u made=%u sent=%u hold=%d\n",
                        n->held[h].id.bytes[0], n->held[h].id.bytes[1], n->held[h].stream,
                        n->held[h].base, n->held[h].made, n->held[h].sent, n->held[h].hold);
    }
}

void cluster_run(const cluster_options *options, uint64_t steps_max)
{
    cluster t;
    set_up(&t, options);
    uint64_t i = 0;
    for (; i < steps_max && !all_ended(&t); i++) {
        step(&t, false);
        if (i % 16 == 0) core_verify(t.core);
    }
    if (!all_ended(&t)) dump(&t);
    CHECK(all_ended(&t)); /* nobody waits for ever */

    /* Left alone, everything is forgotten on both sides after the graces. */
    uint64_t settled_ms = t.now_ms + CLIENT_GRACE_MS + WORKER_GRACE_MS + 2 * STALL_MS;
    while (t.now_ms < settled_ms)
        step(&t, true);
    core_verify(t.core);
    CHECK(core_request_count(t.core) == 0);
    for (uint32_t n = options->clients; n < t.node_count; n++)
        for (uint32_t h = 0; h < HELD_MAX; h++)
            CHECK(!t.nodes[n].held[h].used);
    tear_down(&t);
}
