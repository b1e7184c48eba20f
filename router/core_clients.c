/* What clients say, and what it means. */
#include <stdio.h>

#include "common/check.h"
#include "common/log.h"
#include "router/cache_salt.h"
#include "router/core_internal.h"

static void list_models(const core *c, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < c->workers.count; i++) {
        const worker *w = c->workers.all[i];
        for (size_t m = 0; m < w->model_count; m++) {
            bool listed = false;
            for (size_t j = 0; j < i && !listed; j++)
                listed = worker_find_model(c->workers.all[j], text_of(w->models[m].name)) != NULL;
            if (listed || used >= size) continue;
            int wrote =
                snprintf(out + used, size - used, "%s%s", used > 0 ? ", " : "", w->models[m].name);
            if (wrote > 0) used += (size_t)wrote;
        }
    }
}

/* Until a restarted router has heard from its workers it does not know what it does not know. */
static bool has_just_started(const core *c)
{
    return c->now_ms - c->started_ms < 5 * LIMIT_RESUME_UNKNOWN_MS;
}

static bool may_become_known(const core *c)
{
    if (has_just_started(c)) return true;
    for (size_t i = 0; i < c->workers.count; i++)
        if (c->workers.all[i]->link == NULL) return true;
    return false;
}

static status check_model(const core *c, text_view model, error *err)
{
    if (placement_is_offered(&c->workers, model)) return ST_OK;
    if (c->workers.count == 0) {
        error_set(err, ST_UNAVAILABLE, "no worker is connected yet");
        err->retry_after_ms = 1000;
        return err->code;
    }
    char known[ERROR_TEXT_SIZE - 160];
    list_models(c, known, sizeof known);
    if (model.size == 0)
        return error_set(err, ST_INVALID_ARGUMENT, "model is empty; choose one of: %s", known);
    if (c->has_predecessor && has_just_started(c)) {
        error_set(err, ST_UNAVAILABLE,
                  "the router has restarted and no worker with model '%.*s' is back yet",
                  model.size > 100 ? 100 : (int)model.size, model.data);
        err->retry_after_ms = 1000;
        return err->code;
    }
    return error_set(err, ST_NOT_FOUND, "model '%.*s' is not served here; models: %s",
                     model.size > 100 ? 100 : (int)model.size, model.data, known);
}

static status check_submit(core *c, const core_link *l, const msg_submit *submit, error *err)
{
    if (c->draining) {
        error_set(err, ST_UNAVAILABLE, "the router is shutting down");
        err->retry_after_ms = 1000;
        return err->code;
    }
    if (l->streams >= LIMIT_STREAMS_PER_LINK)
        return error_set(err, ST_RESOURCE_EXHAUSTED,
                         "%u streams are open on this link, the limit is %u", l->streams,
                         LIMIT_STREAMS_PER_LINK);
    if (submit->window != 0 &&
        (submit->window < LIMIT_WINDOW_TOKENS_MIN || submit->window > LIMIT_WINDOW_TOKENS_MAX))
        return error_set(err, ST_OUT_OF_RANGE, "window is %u; it must be %u to %u", submit->window,
                         LIMIT_WINDOW_TOKENS_MIN, LIMIT_WINDOW_TOKENS_MAX);
    status st = check_model(c, submit->model, err);
    if (st != ST_OK) return st;
    size_t bytes = submit->text.size + 4 * (submit->id_count + submit->prior_count);
    for (size_t i = 0; i < submit->message_count; i++)
        bytes += submit->messages[i].content.size;
    if (c->kept_bytes + bytes > c->options.kept_bytes_max) {
        error_set(err, ST_RESOURCE_EXHAUSTED,
                  "the prompts and answers of all open requests have %llu bytes, the limit is %llu",
                  (unsigned long long)c->kept_bytes, (unsigned long long)c->options.kept_bytes_max);
        err->retry_after_ms = 1000;
        return err->code;
    }
    /* An answer under way is not refused on an estimate. */
    bool judged = submit->deadline_ms != 0 && submit->prior_count == 0;
    const queue_ask ask = {.model = submit->model,
                           .priority = submit->priority,
                           .tenant = l->tenant,
                           .tokens = placement_cost(submit),
                           .bytes = (uint32_t)bytes,
                           .deadline_ms = judged ? c->now_ms + submit->deadline_ms : 0,
                           .rate = judged ? placement_rate(&c->workers, submit) : 0};
    uint32_t displace;
    st = queue_check(c->queue, &ask, c->now_ms, &displace, err);
    for (; displace > 0; displace--)
        core_end(c, queue_displaced(c->queue), ST_RESOURCE_EXHAUSTED,
                 queue_retry_ms(c->queue, 0, c->now_ms),
                 "the queue is full, and more urgent requests came");
    return st;
}

/* splitmix64 (Steele, Lea, Flood 2014): seeds for requests that bring none. */
static uint64_t next_seed(core *c)
{
    uint64_t z = (c->seed_state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void send_accepted(core *c, const request *r, bool resumed)
{
    envelope e = {.kind = ENVELOPE_ACCEPTED};
    e.accepted = (msg_accepted){.stream = r->client_stream, .resumed = resumed};
    core_send(c, r->client, &e);
}

/* The client has the answer up to `next_wanted`: is there anybody who can go on from there? */
static bool worker_holds(const request *r, uint32_t next_wanted)
{
    return r->worker != NULL && (r->submit == NULL || next_wanted >= r->submit->base);
}

/* Give a known request to a client: after a reconnect, or by a repeated Submit. */
static void reattach(core *c, core_link *l, request *r, uint32_t stream, uint32_t next_wanted)
{
    if (next_wanted < r->acked) {
        core_refuse(c, l, stream, ST_OUT_OF_RANGE,
                    "tokens from there were acknowledged and are gone");
        return;
    }
    if (r->client != l || r->client_stream != stream) core_attach_client(c, r, l, stream);
    r->since_ms = c->now_ms;
    send_accepted(c, r, true);
    if (r->failure != NULL) {
        core_send_error(c, l, stream, r->failure);
        core_done(c, r);
        return;
    }
    r->next = r->acked = next_wanted;
    if (r->state == REQUEST_QUEUED) return;
    if (!worker_holds(r, next_wanted)) {
        if (r->ending != 0)
            core_finish(c, r);
        else
            core_continue(c, r);
        return;
    }
    if (r->state == REQUEST_FINISHED) {
        request_set_state(r, REQUEST_RUNNING, c->now_ms);
        r->worker->streams++;
        if (r->submit != NULL) metrics_move(&c->metrics, &r->submit->meter, METRICS_RUNNING);
    }
    if (request_worker_is_up(r)) core_send_resume(c, r);
}

/* What we know of it cannot go on from there: adopted from a worker that took over behind tokens
 * which a former router had relayed, and which never arrived; or the client had more of it from
 * another router meanwhile. */
static bool cannot_go_on(const request *r, size_t next_wanted)
{
    return r->submit == NULL ? next_wanted < r->acked : next_wanted > r->next;
}

static bool may_claim(const core_link *l, const request *r)
{
    if (r->tenant != TENANT_UNKNOWN) return r->tenant == l->tenant;
    return r->owner == 0 || r->owner == l->owner;
}

static void on_submit(core *c, core_link *l, const msg_submit *submit)
{
    request *known = request_table_find_stream(c->requests, l, submit->stream);
    if (known != NULL && !id128_equal(&known->id, &submit->request_id)) {
        core_refuse(c, l, submit->stream, ST_ALREADY_EXISTS, "stream is in use by another request");
        return;
    }
    known = request_table_find(c->requests, &submit->request_id);
    if (known != NULL && may_claim(l, known) && cannot_go_on(known, submit->prior_count)) {
        core_drop(c, known);
        known = NULL;
    }
    if (known != NULL) {
        if (!may_claim(l, known))
            core_refuse(c, l, submit->stream, ST_PERMISSION_DENIED, "request_id is in use");
        else
            reattach(c, l, known, submit->stream, (uint32_t)submit->prior_count);
        return;
    }

    error why = {0};
    msg_submit seeded = *submit;
    if (seeded.model.size == 0) seeded.model = placement_only_model(&c->workers);
    if (check_submit(c, l, &seeded, &why) != ST_OK) {
        char hex[33];
        log_info("request=%s refused code=%s reason=\"%s\"", id128_hex(&submit->request_id, hex),
                 status_name(why.code), why.text);
        core_send_error(c, l, submit->stream, &why);
        metrics_refused(&c->metrics, l->tenant, submit->priority);
        return;
    }
    request *r = request_table_add(c->requests, &submit->request_id);
    if (r == NULL) {
        error_set(&why, ST_RESOURCE_EXHAUSTED, "%u requests are open, the limit is %u",
                  LIMIT_REQUESTS, LIMIT_REQUESTS);
        why.retry_after_ms = 1000;
        core_send_error(c, l, submit->stream, &why);
        metrics_refused(&c->metrics, l->tenant, submit->priority);
        return;
    }
    if (!seeded.sampling.has_seed) {
        seeded.sampling.has_seed = true;
        seeded.sampling.seed = next_seed(c);
    }
    const id128 salt = cache_salt_join(&l->cache_salt, submit->cache_salt);
    seeded.cache_salt = (text_view){(const char *)salt.bytes, sizeof salt.bytes};
    if (id128_is_zero(&salt)) seeded.cache_salt.size = 0;
    r->tenant = l->tenant;
    r->owner = l->owner;
    if (core_keep_submit(c, r, &seeded, &why) != ST_OK) {
        request_table_remove(c->requests, r);
        core_send_error(c, l, submit->stream, &why);
        metrics_refused(&c->metrics, l->tenant, submit->priority);
        return;
    }
    r->state = REQUEST_QUEUED;
    r->since_ms = c->now_ms;
    r->next = r->acked = (uint32_t)submit->prior_count;
    if (submit->deadline_ms != 0) r->deadline_ms = c->now_ms + submit->deadline_ms;
    core_attach_client(c, r, l, submit->stream);
    c->requests_total++;
    metrics_submitted(&c->metrics, &r->submit->meter, seeded.model, submit->priority, c->now_ms);
    core_enqueue(c, r, false);
    send_accepted(c, r, false);
    core_dispatch(c);
}

static void resume_one(core *c, core_link *l, const id128 *id, uint32_t stream,
                       uint32_t next_wanted)
{
    request *taken = request_table_find_stream(c->requests, l, stream);
    if (taken != NULL && !id128_equal(&taken->id, id)) {
        core_refuse(c, l, stream, ST_ALREADY_EXISTS, "stream is in use by another request");
        return;
    }
    request *r = request_table_find(c->requests, id);
    if (r != NULL && may_claim(l, r) && cannot_go_on(r, next_wanted)) {
        core_drop(c, r);
        core_refuse(c, l, stream, ST_NOT_FOUND, "another part of it is known here");
        return;
    }
    if (r != NULL && may_claim(l, r)) {
        if (r->tenant == TENANT_UNKNOWN) r->tenant = l->tenant;
        reattach(c, l, r, stream, next_wanted);
        return;
    }
    if (r == NULL) c->has_predecessor = true;
    if (r == NULL && may_become_known(c) &&
        c->pending_resumes.size < LIMIT_REQUESTS * sizeof(pending_resume)) {
        pending_resume p = {l, *id, stream, next_wanted, c->now_ms};
        buffer_append(&c->pending_resumes, &p, sizeof p);
        return;
    }
    core_refuse(c, l, stream, ST_NOT_FOUND, "request_id is not known here");
}

void core_answer_pending_resumes(core *c)
{
    size_t count = c->pending_resumes.size / sizeof(pending_resume);
    if (count == 0) return;
    /* resume_one() may queue again: walk a copy. */
    pending_resume *pending = mem_copy(c->pending_resumes.data, c->pending_resumes.size);
    buffer_clear(&c->pending_resumes);
    for (size_t i = 0; i < count; i++) {
        pending_resume *p = &pending[i];
        bool known = request_table_find(c->requests, &p->request_id) != NULL;
        if (known)
            resume_one(c, p->client, &p->request_id, p->stream, p->next_wanted);
        else if (c->now_ms - p->since_ms >= LIMIT_RESUME_UNKNOWN_MS)
            core_refuse(c, p->client, p->stream, ST_NOT_FOUND, "request_id is not known here");
        else
            buffer_append(&c->pending_resumes, p, sizeof *p);
    }
    mem_free(pending);
}

void core_forget_pending_resumes(core *c, const core_link *l)
{
    pending_resume *all = (pending_resume *)(void *)c->pending_resumes.data;
    size_t count = c->pending_resumes.size / sizeof *all;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (all[i].client != l) all[kept++] = all[i];
    c->pending_resumes.size = kept * sizeof *all;
}

static void on_ack(core *c, core_link *l, const msg_ack *ack)
{
    for (size_t i = 0; i < ack->count; i++) {
        request *r = request_table_find_stream(c->requests, l, ack->stream[i]);
        uint32_t next_wanted = ack->next_wanted[i];
        if (r == NULL || next_wanted > r->next) continue; /* over, or nonsense */
        if (next_wanted > r->acked) {
            r->acked = next_wanted;
            if (r->state != REQUEST_ENDING) r->since_ms = c->now_ms;
        } else if (r->state != REQUEST_FINISHED || next_wanted != r->next) {
            continue; /* nothing new; but an answer of no tokens ends by it */
        }
        core_forward_ack(c, r);
        if (r->state == REQUEST_FINISHED && next_wanted == r->next) core_done(c, r);
    }
}

static void on_cancel(core *c, core_link *l, const msg_cancel *message)
{
    for (size_t i = 0; i < message->count; i++) {
        request *r = request_table_find_stream(c->requests, l, message->stream[i]);
        if (r != NULL) core_cancel(c, r, FINISH_CANCELLED, ST_CANCELLED, "cancelled by the client");
    }
}

/* An admin wants a worker to end (who may is main.c's to say). It drains as by SIGTERM. */
static void on_drain(core *c, const core_link *l, const msg_drain *drain)
{
    worker *w = worker_table_find(&c->workers, drain->worker_id);
    if (w == NULL || w->link == NULL) {
        char text[ERROR_TEXT_SIZE];
        snprintf(text, sizeof text, "worker '%.*s' is not connected here; gaggle ps lists them",
                 (int)drain->worker_id.size, drain->worker_id.data);
        core_refuse(c, l, 0, ST_NOT_FOUND, text);
        return;
    }
    w->told_to_drain = true;
    w->drain_limit_ms = drain->deadline_ms;
    log_info("worker=%s is told to drain by=%s limit_ms=%u", w->id, l->name, drain->deadline_ms);
    core_send_drain(c, w);
}

/* 0: no end is known; what is over is 1. */
static uint32_t lease_left(const core *c, const worker *w)
{
    if (w->lease_end_ms == 0) return 0;
    uint64_t left_ms = w->lease_end_ms > c->now_ms ? w->lease_end_ms - c->now_ms : 1;
    return left_ms < UINT32_MAX ? (uint32_t)left_ms : UINT32_MAX;
}

static msg_worker_report report_worker(core *c, const worker *w)
{
    msg_model *models = arena_alloc(&c->scratch, w->model_count * sizeof *models);
    for (size_t m = 0; m < w->model_count; m++)
        models[m] = (msg_model){.name = text_of(w->models[m].name),
                                .revision = text_of(w->models[m].revision),
                                .context_max = w->models[m].context_max};
    bool has_rtt = w->link != NULL && c->io.rtt_us != NULL;
    return (msg_worker_report){
        .worker_id = text_of(w->id),
        .device = text_of(w->device),
        .models = models,
        .model_count = w->model_count,
        .slots = w->slots,
        .kv_blocks = w->kv_blocks,
        .load = w->load,
        .connected = w->link != NULL,
        .draining = w->draining,
        .streams = w->streams,
        .outstanding_tokens = w->work.prefill_tokens + w->work.decode_tokens,
        .lease_left_ms = lease_left(c, w),
        .rtt_us = has_rtt ? c->io.rtt_us(c->io.ctx, w->link->handle) : 0,
        .breaker = w->breaker.state,
    };
}

msg_report core_report(core *c)
{
    arena_reset(&c->scratch);
    msg_worker_report *workers = arena_alloc(&c->scratch, c->workers.count * sizeof *workers);
    uint32_t running = 0;
    for (size_t i = 0; i < c->workers.count; i++) {
        workers[i] = report_worker(c, c->workers.all[i]);
        running += c->workers.all[i]->streams;
    }
    msg_report report = {
        .build = text_of(GAGGLE_VERSION),
        .uptime_ms = c->now_ms - c->started_ms,
        .workers = workers,
        .worker_count = c->workers.count,
        .clients = c->client_count,
        .queued = queue_waiting(c->queue).requests,
        .running = running,
        .requests_total = c->requests_total,
        .tokens_total = c->tokens_total,
        .draining = c->draining,
        .queued_interactive = queue_waiting_class(c->queue, QUEUE_INTERACTIVE).requests,
        .queued_standard = queue_waiting_class(c->queue, QUEUE_STANDARD).requests,
        .queued_batch = queue_waiting_class(c->queue, QUEUE_BATCH).requests,
    };
    report.first_tokens = metrics_first_tokens(&c->metrics, &report.first_token_us);
    return report;
}

static void on_query(core *c, const core_link *l, const msg_query *query)
{
    envelope e = {.kind = ENVELOPE_REPORT, .report = core_report(c)};
    e.report.id = query->id;
    core_send(c, l, &e);
}

void core_client_envelope(core *c, core_link *l, const envelope *e)
{
    switch (e->kind) {
    case ENVELOPE_SUBMIT:
        on_submit(c, l, &e->submit);
        break;
    case ENVELOPE_RESUME:
        for (size_t i = 0; i < e->resume.count; i++)
            resume_one(c, l, &e->resume.request_id[i], e->resume.stream[i],
                       e->resume.next_wanted[i]);
        break;
    case ENVELOPE_ACK:
        on_ack(c, l, &e->ack);
        break;
    case ENVELOPE_CANCEL:
        on_cancel(c, l, &e->cancel);
        break;
    case ENVELOPE_QUERY:
        on_query(c, l, &e->query);
        break;
    case ENVELOPE_DRAIN:
        on_drain(c, l, &e->drain);
        break;
    default:
        core_reject_link(c, l, "a client may send Submit, Resume, Ack, Cancel, Query and Drain");
    }
}
