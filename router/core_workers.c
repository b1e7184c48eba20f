/* What workers say, and what it means. */
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/log.h"
#include "router/core_internal.h"

static void requeue(core *c, request *r)
{
    core_leave_worker(c, r, BREAKER_BUSY);
    request_set_state(r, REQUEST_QUEUED, c->now_ms);
    core_enqueue(c, r, true);
}

void core_continue(core *c, request *r)
{
    kept_submit *kept = r->submit;
    if (request_worker_is_up(r)) core_send_forget(c, r, 0);
    size_t bytes = kept->size + sizeof(uint32_t) * (size_t)(r->next - kept->prior_count);
    if (r->next > kept->prior_count && bytes > LIMIT_MESSAGE_BYTES - LIMIT_HELLO_BYTES) {
        core_end(c, r, ST_RESOURCE_EXHAUSTED, 0,
                 "the request with its answer so far is too large to go on elsewhere");
        return;
    }
    if (kept->continuations < UINT16_MAX) kept->continuations++;
    c->metrics.continuations++;
    requeue(c, r);
    core_dispatch(c);
}

/* A worker's death is one fault, however many requests it takes along. */
static breaker_outcome outcome_of_loss(const request *r)
{
    worker *w = r->worker;
    bool decides = w->breaker.state == BREAKER_PROBING && w->breaker.probe == r->number;
    bool first = !w->death_counted;
    w->death_counted = true;
    return first || decides ? BREAKER_WORKER_FAULT : BREAKER_BUSY;
}

/* Its worker is gone for good, or came back without it. */
void core_lose_worker(core *c, request *r)
{
    char worker_id[64];
    snprintf(worker_id, sizeof worker_id, "%s", r->worker->id);
    if (r->submit != NULL && r->submit->place.charged > 0)
        core_settle(c, r, request_tokens_so_far(r), outcome_of_loss(r));
    if (r->state == REQUEST_FINISHED) {
        /* Finish was relayed. Should the client want a part of it again, another worker makes it.
         */
        if (r->submit != NULL)
            core_leave_worker(c, r, BREAKER_BUSY);
        else
            core_done(c, r);
    } else if (r->state == REQUEST_ENDING) {
        core_finish(c, r);
    } else if (r->submit == NULL) {
        char text[ERROR_TEXT_SIZE];
        snprintf(text, sizeof text, "worker %s was lost after %u tokens", worker_id, r->next);
        core_end(c, r, ST_UNAVAILABLE, 1000, text);
    } else if (++r->submit->losses > c->options.continuations_max) {
        char text[ERROR_TEXT_SIZE];
        snprintf(text, sizeof text,
                 "worker %s was lost; this request has lost %u workers, %u are allowed; %u tokens "
                 "were delivered",
                 worker_id, r->submit->losses, c->options.continuations_max, r->next);
        core_end(c, r, ST_UNAVAILABLE, 0, text);
    } else {
        core_continue(c, r);
    }
}

/* Its Finish was relayed, and its worker wants to end: should the client want a part of it again,
 * another worker makes it. */
static void release_finished(core *c, request *r)
{
    if (r->state != REQUEST_FINISHED || r->submit == NULL) return;
    if (request_worker_is_up(r)) core_send_forget(c, r, 0);
    core_leave_worker(c, r, BREAKER_BUSY);
}

void core_hand_over(core *c, worker *w)
{
    uint32_t moved = 0;
    w->draining = true;
    for (uint32_t slot = 0; slot < w->slot_count; slot++) {
        request *r = w->stream_slots[slot];
        if (r == NULL || r->submit == NULL || r->state == REQUEST_ENDING) continue;
        if (r->state == REQUEST_FINISHED) {
            release_finished(c, r);
        } else {
            core_continue(c, r);
            moved++;
        }
    }
    w->leave_ms = 0;
    log_info("worker=%s leaves streams_moved=%u", w->id, moved);
}

/* What was on its way to it when it ended was never heard, and is no loss. */
void core_worker_gone(core *c, worker *w)
{
    for (uint32_t i = request_table_end(c->requests); i-- > 0;) {
        request *r = request_table_at(c->requests, i);
        if (r == NULL || r->worker != w) continue;
        if (r->state == REQUEST_ENDING)
            core_finish(c, r);
        else if (r->state == REQUEST_RUNNING && r->submit != NULL)
            core_continue(c, r);
        else
            core_lose_worker(c, r);
    }
}

void core_worker_link_lost(core *c, worker *w)
{
    w->link = NULL;
    w->gone_ms = c->now_ms;
    buffer_clear(&w->ack_stream);
    buffer_clear(&w->ack_next);
    log_warn("worker=%s disconnected streams=%u grace_ms=%u", w->id, w->streams,
             c->options.worker_grace_ms);
    /* Stream numbers were the link's. */
    for (uint32_t slot = 0; slot < w->slot_count; slot++) {
        request *r = w->stream_slots[slot];
        if (r != NULL) worker_close_stream(w, r);
    }
}

void core_send_drain(core *c, worker *w)
{
    w->draining = true;
    envelope e = {.kind = ENVELOPE_DRAIN};
    e.drain = (msg_drain){.deadline_ms = w->drain_limit_ms,
                          .reason = text_of("drained by an admin"),
                          .worker_id = text_of(w->id)};
    core_send(c, w->link, &e);
}

typedef struct adoption {
    id128 *request_id, *drop;
    uint32_t *stream, *next_wanted;
    size_t count, drop_count;
} adoption;

/* One stream that a worker still holds: ours, an orphan of a former router's, or of no use. */
static void adopt_one(core *c, worker *w, const msg_live *live, adoption *a)
{
    request *r = request_table_find(c->requests, &live->request_id);
    if (r != NULL && r->worker != w) { /* it went on elsewhere meanwhile */
        a->drop[a->drop_count++] = live->request_id;
        return;
    }
    if (r != NULL && r->worker_stream != 0) return; /* named twice */
    if (r == NULL) {
        c->has_predecessor |= !live->yours;
        /* Ours, but ended: what told the worker so was lost with its link. */
        if (!live->yours) r = request_table_add(c->requests, &live->request_id);
        if (r == NULL) {
            a->drop[a->drop_count++] = live->request_id;
            return;
        }
        r->state = REQUEST_RUNNING;
        r->worker = w;
        r->tenant = TENANT_UNKNOWN;
        r->owner = live->owner;
        r->next = r->acked = live->base;
        r->since_ms = r->client_gone_ms = c->now_ms;
        w->streams++;
        work_ledger_charge(&w->work, &r->charge, 0, (uint32_t)c->history.answer_tokens);
    }
    if (!worker_open_stream(w, r)) {
        a->drop[a->drop_count++] = live->request_id;
        core_lose_worker(c, r);
        return;
    }
    /* The lost link may have taken it along. Of an orphan that nobody came for it is not known. */
    if (r->client != NULL || r->submit != NULL) core_forward_ack(c, r);
    r->rewinding = true;
    a->request_id[a->count] = r->id;
    a->stream[a->count] = r->worker_stream;
    a->next_wanted[a->count] = r->client != NULL ? r->next : NEXT_WANTED_HOLD;
    a->count++;
}

/* The worker will be gone in `left_ms`: what runs then goes elsewhere in time. */
static void plan_leave(const core *c, worker *w, uint32_t left_ms)
{
    uint32_t margin_ms = left_ms / 2 < LIMIT_HANDOVER_MS ? left_ms / 2 : LIMIT_HANDOVER_MS;
    uint64_t leave_ms = c->now_ms + left_ms - margin_ms;
    if (w->leave_ms == 0 || leave_ms < w->leave_ms) w->leave_ms = leave_ms;
}

/* The streams it still holds: each is answered in Adopt. */
static void adopt_streams(core *c, core_link *l, const msg_register *said)
{
    arena_reset(&c->scratch);
    adoption a = {
        .request_id = arena_alloc(&c->scratch, said->live_count * sizeof(id128)),
        .drop = arena_alloc(&c->scratch, said->live_count * sizeof(id128)),
        .stream = arena_alloc(&c->scratch, said->live_count * sizeof(uint32_t)),
        .next_wanted = arena_alloc(&c->scratch, said->live_count * sizeof(uint32_t)),
    };
    for (size_t i = 0; i < said->live_count; i++)
        adopt_one(c, l->worker, &said->live[i], &a);
    envelope e = {.kind = ENVELOPE_ADOPT};
    e.adopt = (msg_adopt){.request_id = a.request_id,
                          .stream = a.stream,
                          .next_wanted = a.next_wanted,
                          .count = a.count,
                          .drop = a.drop,
                          .drop_count = a.drop_count};
    core_send(c, l, &e);
}

/* It lost its link to another router, whose clients may come here. These streams are more than
 * those that it has from us. */
static void take_orphans(core *c, core_link *l, const msg_register *said)
{
    adopt_streams(c, l, said);
    log_info("worker=%s brings another router's streams=%zu", l->worker->id, said->live_count);
    core_answer_pending_resumes(c);
}

static void on_register(core *c, core_link *l, const msg_register *said)
{
    if (l->worker != NULL) {
        take_orphans(c, l, said);
        return;
    }
    worker *w = worker_table_find(&c->workers, said->worker_id);
    bool known = w != NULL;
    if (known && w->link != NULL) {
        log_warn("worker=%s registered again while connected; the older link is closed", w->id);
        core_link *old = w->link;
        core_worker_link_lost(c, w);
        old->worker = NULL;
        c->io.close(c->io.ctx, old->handle, "replaced by a newer connection of this worker");
    }
    bool restarted = known && !id128_equal(&w->instance, &l->instance);
    w = worker_table_register(&c->workers, said);
    if (w == NULL) {
        core_reject_link(c, l, "too many workers");
        return;
    }
    if (!known || restarted) { /* its cache is empty */
        if (known) prefix_table_leave(c->prefixes, w->prefix_holder);
        w->prefix_holder = prefix_table_join(c->prefixes);
        w->load = (msg_load){0};
        w->work.was_reported = false;
        w->told_to_drain = false;
    }
    if (!known) w->breaker = breaker_book_take(&c->forgotten, core_worker_hash(w->id));
    w->instance = l->instance;
    w->link = l;
    w->death_counted = false;
    l->worker = w;
    if (said->lease_ms != 0) {
        w->lease_end_ms = c->now_ms + said->lease_ms;
        plan_leave(c, w, said->lease_ms);
    }

    adopt_streams(c, l, said);
    log_info(
        "worker=%s registered device=\"%s\" model=%s slots=%u kv_blocks=%u live=%zu restarted=%s",
        w->id, w->device, w->models[0].name, w->slots, w->kv_blocks, said->live_count,
        restarted ? "yes" : "no");

    /* What we placed here and it does not hold: the Submit was lost with the link, or the worker
     * was restarted. */
    for (uint32_t i = 0; known && i < request_table_end(c->requests); i++) {
        request *r = request_table_at(c->requests, i);
        if (r != NULL && r->worker == w && r->worker_stream == 0) core_lose_worker(c, r);
    }
    /* What the lost link may have taken with it. */
    for (uint32_t slot = 0; slot < w->slot_count; slot++) {
        request *r = w->stream_slots[slot];
        if (r != NULL && r->state == REQUEST_ENDING) core_send_cancel(c, r);
    }
    if (w->told_to_drain) core_send_drain(c, w);
    for (size_t i = 0; i < w->model_count; i++) /* its series begin now, before its first request */
        metrics_model_number(&c->metrics, text_of(w->models[i].name));
    core_worker_has_room(c, w);
    core_answer_pending_resumes(c);
    core_dispatch(c);
}

/* What was relayed, in case another worker must go on behind it. */
static void keep_ids(core *c, request *r, const uint32_t *ids, uint32_t count)
{
    kept_submit *kept = r->submit;
    if (kept == NULL || r->next < kept->prior_count) return;
    uint32_t used = r->next - kept->prior_count;
    if (used + count > kept->id_capacity) {
        uint32_t wanted = kept->id_capacity + kept->id_capacity / 2 + 16;
        if (wanted < used + count) wanted = used + count;
        c->kept_bytes += sizeof(uint32_t) * (wanted - kept->id_capacity);
        kept->id_capacity = wanted;
        kept->ids = mem_realloc(kept->ids, kept->id_capacity * sizeof *kept->ids);
    }
    memcpy(kept->ids + used, ids, count * sizeof *ids);
}

/* A worker on trial has shown enough, be the answer long or its reader slow. */
static void note_progress(core *c, const request *r)
{
    breaker *b = &r->worker->breaker;
    if (b->state == BREAKER_PROBING && b->probe == r->number && r->submit != NULL &&
        r->next - r->submit->base >= LIMIT_WINDOW_TOKENS_MIN)
        breaker_heard(b, r->number, BREAKER_OK, c->now_ms);
}

static void relay_group(core *c, request *r, const msg_tokens *t, size_t group, token_cursor *at)
{
    uint32_t first = t->first_index[group];
    uint32_t count = t->count[group];
    uint64_t end = (uint64_t)first + count;
    if (r == NULL || r->client == NULL || first > r->next || end <= r->next) {
        token_columns_add_group(NULL, t, group, count, 0, at);
        if (r != NULL && r->client != NULL && first > r->next && !r->rewinding) {
            log_warn("gap in a worker's stream, asking again worker=%s expected=%u found=%u",
                     r->worker->id, r->next, first);
            core_send_resume(c, r);
        }
        return;
    }
    uint32_t skip = r->next - first;
    r->rewinding = false;
    const uint32_t fresh = count - skip;
#ifdef GAGGLE_PLANT_TOKEN_LOSS
    uint32_t planted; /* one token in a million is lost: tests/sim must notice */
    memcpy(&planted, r->id.bytes, sizeof planted);
    if ((planted ^ r->next * 2654435761u) % 1000000 == 0) skip++;
#endif
    keep_ids(c, r, t->token + at->token + skip, fresh);
    token_columns_add_group(&r->client->columns, t, group, skip, r->client_stream, at);
    core_mark_dirty(c, r->client);
    if (r->acked == r->next) r->since_ms = c->now_ms; /* from here on there is something to ack */
    r->next += fresh;
    work_ledger_progress(&r->worker->work, &r->charge, fresh);
    c->tokens_total += fresh;
    note_progress(c, r);
    metrics_relayed(&c->metrics, core_meter(r), fresh, c->now_ms);
}

static void prefetch_submit(const worker *w, uint32_t stream)
{
    const request *r = worker_find_stream(w, stream);
    if (r == NULL || r->submit == NULL) return;
    const char *kept = (const char *)r->submit;
    __builtin_prefetch(kept, 1);
    __builtin_prefetch(kept + 48, 1); /* it may lie across two lines */
}

static void prefetch_ids(const worker *w, uint32_t stream)
{
    const request *r = worker_find_stream(w, stream);
    if (r != NULL && r->submit != NULL && r->submit->ids != NULL &&
        r->next >= r->submit->prior_count)
        __builtin_prefetch(r->submit->ids + (r->next - r->submit->prior_count), 1);
}

static void on_tokens(core *c, core_link *l, const msg_tokens *t)
{
    /* A batch comes when the caches have long held something else: fetch what will be touched, each
     * time what the one before points to. */
    enum { REQUEST_AHEAD = 12, SUBMIT_AHEAD = 8, IDS_AHEAD = 4 };
    const worker *w = l->worker;
    token_cursor at = {0};
    for (size_t g = 0; g < t->groups; g++) {
        if (g + REQUEST_AHEAD < t->groups) worker_prefetch_stream(w, t->stream[g + REQUEST_AHEAD]);
        if (g + SUBMIT_AHEAD < t->groups) prefetch_submit(w, t->stream[g + SUBMIT_AHEAD]);
        if (g + IDS_AHEAD < t->groups) prefetch_ids(w, t->stream[g + IDS_AHEAD]);
        relay_group(c, worker_find_stream(l->worker, t->stream[g]), t, g, &at);
    }
}

/* What a Finish teaches about lengths, speeds and caches. */
static void note_finish(core *c, const request *r, const msg_finish *finish)
{
    const prefix_chain *prompt = r->submit->prompt;
    uint32_t holder = r->worker->prefix_holder;
    placement_learn(&c->history, prompt, finish);
    if (finish->total == r->submit->base) { /* the prompt may never have been read */
        prefix_table_forget(c->prefixes, prompt->chunk, prompt->count, holder, 0);
        return;
    }
    prefix_table_correct(c->prefixes, holder, &r->submit->cached, finish->cached_tokens);
    prefix_table_record(c->prefixes, prompt->chunk, prompt->count, holder, c->now_ms);
}

static breaker_outcome outcome_of(const msg_finish *finish)
{
    if (finish->reason == FINISH_STOP || finish->reason == FINISH_LENGTH) return BREAKER_OK;
    if (finish->reason != FINISH_FAILED) return BREAKER_CLIENT_FAULT;
    switch (finish->error.code) {
    case ST_RESOURCE_EXHAUSTED:
    case ST_UNAVAILABLE:
        return BREAKER_BUSY;
    case ST_UNKNOWN:
    case ST_ABORTED:
    case ST_INTERNAL:
    case ST_DATA_LOSS:
        return BREAKER_WORKER_FAULT;
    default:
        return BREAKER_CLIENT_FAULT;
    }
}

/* Its client came to another router, which has it now. To place it again from here would take it
 * back, for ever to and fro: only a client may. One that is attached here is either long gone or
 * will ask again. */
static void on_moved(core *c, request *r)
{
    if (r->client == NULL)
        core_done(c, r);
    else if (r->state == REQUEST_ENDING)
        core_finish(c, r);
    else
        core_end(c, r, ST_UNAVAILABLE, LIMIT_MOVED_RETRY_MS, "another router has this answer now");
}

static void on_finish(core *c, core_link *l, const msg_finish *finish)
{
    request *r = worker_find_stream(l->worker, finish->stream);
    if (r == NULL || r->state == REQUEST_FINISHED) return;
    bool failed = finish->reason == FINISH_FAILED;
    if (failed && finish->error.code == ST_ABORTED) {
        on_moved(c, r);
        return;
    }
    if (r->client == NULL) return;
    if (failed && finish->error.code == ST_DATA_LOSS) {
        core_settle(c, r, request_tokens_so_far(r), BREAKER_WORKER_FAULT);
        core_lose_worker(c, r); /* the worker does not hold it any more */
        return;
    }
    if (finish->total != r->next) {
        if (!r->rewinding) core_send_resume(c, r);
        return;
    }
    if (l->worker->draining && r->submit != NULL && failed &&
        finish->error.code ==
            ST_UNAVAILABLE) { /* it was on its way when the worker began to drain */
        if (r->state == REQUEST_ENDING) {
            core_finish(c, r);
        } else {
            requeue(c, r);
            core_dispatch(c);
        }
        return;
    }
    core_flush_client(c, r->client); /* Finish must not overtake its tokens */
    envelope e = {.kind = ENVELOPE_FINISH, .finish = *finish};
    e.finish.stream = r->client_stream;
    if (r->submit != NULL) {
        /* The worker knows of those before this router had it. */
        if (e.finish.continuations < r->submit->continuations)
            e.finish.continuations = r->submit->continuations;
        e.finish.approximate = r->submit->approximate;
    }
    core_send(c, r->client, &e);
    r->rewinding = false;
    if (r->submit != NULL) note_finish(c, r, finish);
    work_ledger_settle(&r->worker->work, &r->charge);
    r->worker->streams--;
    core_note_end(c, r, (metrics_outcome)finish->reason, &e.finish);
    request_set_state(r, REQUEST_FINISHED, c->now_ms);
    if (r->submit != NULL) {
        uint32_t cached = finish->cached_tokens;
        uint32_t read = cached < finish->prompt_tokens ? finish->prompt_tokens - cached : 0;
        uint32_t made = r->next > r->submit->base ? r->next - r->submit->base : 0;
        core_settle(c, r, read + made, outcome_of(finish));
    }
    core_worker_has_room(c, r->worker);
    char hex[33];
    log_info("request=%s finished reason=%s tokens=%u", id128_hex(&r->id, hex),
             finish_reason_name(finish->reason), finish->total);
    if (l->worker->draining) release_finished(c, r);
    core_dispatch(c);
}

/* What a stream held is free. The time is our own, from the Cancel that asked. */
static void on_freed(core *c, const msg_cancel *freed)
{
    if (freed->t == 0 || freed->t > c->now_ms) return;
    for (size_t i = 0; i < freed->count; i++)
        metrics_freed(&c->metrics, c->now_ms - freed->t);
}

static void on_load(core *c, worker *w, const msg_load *load)
{
    w->load = *load;
    work_ledger_report(&w->work, load, w->streams);
    if (load->cache_age_ms > 0 && load->cache_age_ms <= c->now_ms)
        prefix_table_set_horizon(c->prefixes, w->prefix_holder, c->now_ms - load->cache_age_ms);
}

void core_worker_envelope(core *c, core_link *l, const envelope *e)
{
    if (l->worker == NULL && e->kind != ENVELOPE_REGISTER) {
        core_reject_link(c, l, "a worker must send Register first");
        return;
    }
    switch (e->kind) {
    case ENVELOPE_REGISTER:
        on_register(c, l, &e->reg);
        break;
    case ENVELOPE_TOKENS:
        on_tokens(c, l, &e->tokens);
        break;
    case ENVELOPE_FINISH:
        on_finish(c, l, &e->finish);
        break;
    case ENVELOPE_LOAD:
        on_load(c, l->worker, &e->load);
        break;
    case ENVELOPE_CANCEL:
        on_freed(c, &e->cancel);
        break;
    case ENVELOPE_DRAIN:
        l->worker->draining = true;
        if (e->drain.deadline_ms != 0) plan_leave(c, l->worker, e->drain.deadline_ms);
        for (uint32_t slot = 0; slot < l->worker->slot_count; slot++)
            if (l->worker->stream_slots[slot] != NULL)
                release_finished(c, l->worker->stream_slots[slot]);
        log_info("worker=%s draining streams=%u", l->worker->id, l->worker->streams);
        break;
    default:
        core_reject_link(c, l,
                         "a worker may send Register, Tokens, Finish, Load, Cancel and Drain");
    }
}
