/* What happens to one request: queued, sent to a worker, taken off it, ended. */
#include <string.h>
#include <xxhash.h>

#include "common/check.h"
#include "common/log.h"
#include "router/core_internal.h"

/* -- with its worker ------------------------------------------------------------- */

bool request_worker_is_up(const request *r)
{
    return r->worker != NULL && r->worker->link != NULL && r->worker_stream != 0;
}

bool request_holds_slot(const request *r)
{
    return r->state == REQUEST_RUNNING || r->state == REQUEST_ENDING;
}

uint64_t core_worker_hash(const char *id)
{
    return XXH3_64bits(id, strlen(id)) | 1;
}

void core_worker_has_room(core *c, const worker *w)
{
    for (size_t i = 0; i < w->model_count; i++)
        queue_unblock(c->queue, text_of(w->models[i].name));
}

uint32_t request_tokens_so_far(const request *r)
{
    const kept_submit *kept = r->submit;
    if (kept == NULL) return 0;
    return kept->prefill_tokens + (r->next > kept->base ? r->next - kept->base : 0);
}

void core_settle(core *c, request *r, uint32_t tokens, breaker_outcome outcome)
{
    if (r->submit == NULL || r->submit->place.charged == 0) return;
    breaker_heard(&r->worker->breaker, r->number, outcome, c->now_ms);
    queue_settle(c->queue, &r->submit->place, tokens, c->now_ms);
}

void core_leave_worker(core *c, request *r, breaker_outcome outcome)
{
    worker *w = r->worker;
    if (w == NULL) return;
    core_settle(c, r, request_tokens_so_far(r), outcome);
    if (request_holds_slot(r)) w->streams--;
    core_worker_has_room(c, w);
    work_ledger_settle(&w->work, &r->charge);
    if (r->worker_stream != 0) worker_close_stream(w, r);
    r->worker = NULL;
}

uint32_t core_client_mark(const core_link *l)
{
    return XXH32(l->instance.bytes, sizeof l->instance.bytes, l->tenant) | 1;
}

static void erase_mark(core *c, request *r)
{
    if (r->client != NULL || r->client_mark == 0) return;
    r->client_mark = 0;
    c->detached--;
}

void core_attach_client(core *c, request *r, core_link *l, uint32_t stream)
{
    core_detach_client(c, r);
    erase_mark(c, r);
    request_table_attach(c->requests, r, l, stream);
    r->client_previous = NULL;
    r->client_next = l->requests;
    if (l->requests != NULL) l->requests->client_previous = r;
    l->requests = r;
    l->streams++;
}

void core_detach_client(core *c, request *r)
{
    core_link *l = r->client;
    if (l == NULL) return;
    request *previous = r->client_previous, *next = r->client_next;
    *(previous != NULL ? &previous->client_next : &l->requests) = next;
    if (next != NULL) next->client_previous = previous;
    l->streams--;
    request_table_attach(c->requests, r, NULL, 0);
    r->client_gone_ms = c->now_ms;
    r->client_mark = core_client_mark(l);
    c->detached++;
}

/* -- its end --------------------------------------------------------------------- */

void core_note_end(core *c, request *r, metrics_outcome outcome, const msg_finish *finish)
{
    metrics_ended(&c->metrics, core_meter(r), &r->counted, r->tenant, outcome, finish, r->next,
                  c->now_ms);
}

void core_done(core *c, request *r)
{
    core_note_end(c, r, METRICS_ABANDONED, NULL);
    if (r->state == REQUEST_QUEUED) queue_remove(c->queue, &r->submit->place, c->now_ms);
    core_leave_worker(c, r, BREAKER_CLIENT_FAULT);
    core_detach_client(c, r);
    erase_mark(c, r);
    core_forget_submit(c, r);
    request_set_state(r, REQUEST_DONE, c->now_ms);
    request_table_remove(c->requests, r);
}

void core_end(core *c, request *r, status code, uint32_t retry_after_ms, const char *text)
{
    core_note_end(c, r, metrics_outcome_of(code), NULL);
    error why;
    error_set(&why, code, "%s", text);
    why.retry_after_ms = retry_after_ms;
    char hex[33];
    log_info("request=%s ended code=%s delivered=%u reason=\"%s\"", id128_hex(&r->id, hex),
             status_name(code), r->next, text);
    if (request_worker_is_up(r)) core_send_forget(c, r, 0);
    if (r->client != NULL) {
        core_flush_client(c, r->client); /* the Error must not overtake the tokens before it */
        core_send_error(c, r->client, r->client_stream, &why);
        core_done(c, r);
        return;
    }
    if (r->state == REQUEST_QUEUED) {
        queue_remove(c->queue, &r->submit->place, c->now_ms);
        core_forget_submit(c, r);
    }
    core_leave_worker(c, r, BREAKER_CLIENT_FAULT);
    mem_free(r->failure);
    r->failure = mem_copy(&why, sizeof why);
    if (r->state != REQUEST_FINISHED) request_set_state(r, REQUEST_FINISHED, c->now_ms);
}

/* CRC-32C of the first r->next ids of the answer. */
static uint32_t crc_so_far(core *c, const request *r)
{
    envelope e;
    arena_reset(&c->scratch);
    CHECK(envelope_decode(r->submit->bytes, r->submit->size, &c->scratch, &e, NULL) == ST_OK);
    uint32_t prior = r->submit->prior_count;
    uint32_t crc = ids_crc32c(0, e.submit.prior_ids, prior < r->next ? prior : r->next);
    return r->next > prior ? ids_crc32c(crc, r->submit->ids, r->next - prior) : crc;
}

/* When it was decided to end it: the worker may have heard of it already, and says once when it
 * is free. */
static uint64_t cancelled_since(const core *c, const request *r)
{
    return r->state == REQUEST_ENDING ? r->since_ms : c->now_ms;
}

void core_finish(core *c, request *r)
{
    if (r->submit == NULL) { /* the ids are not known: only an Error is left */
        status code = r->ending == FINISH_DEADLINE ? ST_DEADLINE_EXCEEDED : ST_CANCELLED;
        core_end(c, r, code, 0, "ended; its worker did not answer");
        return;
    }
    core_note_end(c, r, (metrics_outcome)r->ending, NULL);
    if (request_worker_is_up(r)) core_send_forget(c, r, cancelled_since(c, r));
    if (r->state == REQUEST_QUEUED) queue_remove(c->queue, &r->submit->place, c->now_ms);
    core_leave_worker(c, r, BREAKER_CLIENT_FAULT);
    if (r->state != REQUEST_FINISHED) request_set_state(r, REQUEST_FINISHED, c->now_ms);
    if (r->client == NULL) return; /* it is told when it comes back */
    core_flush_client(c, r->client);
    envelope e = {.kind = ENVELOPE_FINISH};
    e.finish = (msg_finish){.stream = r->client_stream,
                            .total = r->next,
                            .reason = (finish_reason)r->ending,
                            .crc = crc_so_far(c, r),
                            .continuations = r->submit->continuations,
                            .approximate = r->submit->approximate};
    core_send(c, r->client, &e);
    char hex[33];
    log_info("request=%s finished reason=%s tokens=%u worker=gone", id128_hex(&r->id, hex),
             finish_reason_name((finish_reason)r->ending), r->next);
}

/* Nothing of it is at any worker. */
static void note_freed_at_once(core *c, const request *r)
{
    if (r->state == REQUEST_QUEUED) metrics_freed(&c->metrics, 0);
}

/* Ask the worker to end it; its Finish follows. */
void core_cancel(core *c, request *r, finish_reason finish, status code, const char *sentence)
{
    if (r->state == REQUEST_RUNNING && request_worker_is_up(r)) {
        r->ending = (uint8_t)finish;
        request_set_state(r, REQUEST_ENDING, c->now_ms);
        core_send_cancel(c, r);
    } else if (r->state == REQUEST_RUNNING ||
               (r->state == REQUEST_QUEUED && r->next > r->submit->prior_count)) {
        note_freed_at_once(c, r);
        r->ending = (uint8_t)finish;
        core_finish(c, r);
    } else if (r->state == REQUEST_QUEUED) {
        note_freed_at_once(c, r);
        core_end(c, r, code, 0, sentence);
    }
}

/* Nobody wants it any more. */
void core_drop(core *c, request *r)
{
    note_freed_at_once(c, r);
    if (request_worker_is_up(r)) core_send_forget(c, r, cancelled_since(c, r));
    core_done(c, r);
}

/* -- dispatch -------------------------------------------------------------------- */

/* Room for a longer stream number and a seed when it is sent on. */
enum { SUBMIT_SLACK_BYTES = 64 };

status core_keep_submit(core *c, request *r, const msg_submit *submit, error *err)
{
    envelope e = {.kind = ENVELOPE_SUBMIT, .submit = *submit};
    buffer_clear(&c->encoded);
    arena_reset(&c->scratch);
    status st = envelope_encode(&e, &c->scratch, &c->encoded);
    if (st != ST_OK || c->encoded.size > LIMIT_MESSAGE_BYTES - SUBMIT_SLACK_BYTES)
        return error_set(err, ST_OUT_OF_RANGE, "the request has more than %u bytes",
                         LIMIT_MESSAGE_BYTES - SUBMIT_SLACK_BYTES);
    kept_submit *kept = mem_alloc(sizeof *kept + c->encoded.size + submit->model.size);
    /* Who made those ids is not known here. */
    *kept = (kept_submit){.prior_count = (uint32_t)submit->prior_count,
                          .approximate = submit->prior_count > 0};
    memcpy(kept->bytes, c->encoded.data, c->encoded.size);
    if (submit->model.size > 0)
        memcpy(kept->bytes + c->encoded.size, submit->model.data, submit->model.size);
    kept->prompt = prefix_chain_create(submit, c->options.seed);
    kept->priority = submit->priority;
    kept->cost = placement_cost(submit);
    kept->max_tokens = submit->max_tokens;
    kept->size = (uint32_t)c->encoded.size;
    kept->model_size = (uint32_t)submit->model.size;
    r->submit = kept;
    c->kept_bytes += kept->size;
    return ST_OK;
}

static text_view kept_model(const request *r)
{
    return (text_view){(const char *)r->submit->bytes + r->submit->size, r->submit->model_size};
}

void core_enqueue(core *c, request *r, bool again)
{
    const queue_ask ask = {.model = kept_model(r),
                           .priority = r->submit->priority,
                           .tenant = r->tenant,
                           .tokens = r->submit->cost,
                           .bytes = r->submit->size,
                           .deadline_ms = r->deadline_ms};
    queue_push(c->queue, r, &r->submit->place, &ask, again, c->now_ms);
    if (again) metrics_move(&c->metrics, &r->submit->meter, METRICS_WAITING);
}

void core_forget_submit(core *c, request *r)
{
    if (r->submit == NULL) return;
    size_t bytes = r->submit->size + sizeof(uint32_t) * r->submit->id_capacity;
    c->kept_bytes -= bytes;
    c->submit_bytes_freed += bytes;
    request_forget_submit(r);
}

/* The ids that the next worker goes on behind: the client's and those relayed since. */
static void add_relayed_ids(core *c, const request *r, msg_submit *submit)
{
    const kept_submit *kept = r->submit;
    if (r->next <= kept->prior_count) {
        submit->prior_count = r->next;
        return;
    }
    uint32_t *ids = arena_alloc(&c->scratch, r->next * sizeof *ids);
    if (kept->prior_count > 0) memcpy(ids, submit->prior_ids, kept->prior_count * sizeof *ids);
    memcpy(ids + kept->prior_count, kept->ids, (r->next - kept->prior_count) * sizeof *ids);
    submit->prior_ids = ids;
    submit->prior_count = r->next;
    submit->prior_unacked = r->next - r->acked;
}

/* A part of the answer may have been made by another worker than the one that goes on with it. */
static void note_numerics(kept_submit *kept, uint32_t next, uint32_t numerics)
{
    bool equal = numerics != 0 && numerics == kept->numerics;
    if (next > kept->prior_count && !equal) kept->approximate = true;
    kept->numerics = numerics;
    kept->base = next;
}

/* False: finished streams that nobody acknowledged fill the link, so it must wait. */
static bool dispatch_to(core *c, request *r, const placement_choice *choice)
{
    worker *w = choice->worker;
    if (!worker_open_stream(w, r)) return false;
    envelope e;
    arena_reset(&c->scratch);
    CHECK(envelope_decode(r->submit->bytes, r->submit->size, &c->scratch, &e, NULL) == ST_OK);
    queue_take(c->queue, &r->submit->place, c->now_ms);
    breaker_sent(&w->breaker, r->number, c->now_ms);
    r->submit->prefill_tokens = choice->prefill_tokens;
    r->worker = w;
    add_relayed_ids(c, r, &e.submit);
    note_numerics(r->submit, r->next, worker_find_model(w, kept_model(r))->numerics);
    r->rewinding = false;
    work_ledger_charge(&w->work, &r->charge, choice->prefill_tokens, choice->decode_tokens);
    r->submit->cached = choice->cached;
    prefix_table_record(c->prefixes, r->submit->prompt->chunk, r->submit->prompt->count,
                        w->prefix_holder, c->now_ms);
    w->streams++;
    request_set_state(r, REQUEST_RUNNING, c->now_ms);
    metrics_placed(&c->metrics, &r->submit->meter,
                   r->submit->continuations > 0 ? METRICS_BY_CONTINUATION
                   : choice->cached.tokens > 0  ? METRICS_BY_PREFIX
                                                : METRICS_BY_LOAD,
                   c->now_ms);

    e.submit.stream = r->worker_stream;
    e.submit.continuations = r->submit->continuations;
    e.submit.approximate = r->submit->approximate;
    e.submit.owner = r->owner;
    if (r->deadline_ms != 0)
        e.submit.deadline_ms =
            r->deadline_ms > c->now_ms ? (uint32_t)(r->deadline_ms - c->now_ms) : 1;
    core_send(c, w->link, &e);
    char hex[33];
    log_info("request=%s placed worker=%s waiting=%u", id128_hex(&r->id, hex), w->id,
             queue_waiting(c->queue).requests);
    return true;
}

static placement_outcome choose_worker(core *c, const request *r, placement_choice *choice)
{
    uint64_t number;
    memcpy(&number, r->id.bytes, sizeof number);
    placement_request asked = {.model = kept_model(r),
                               .prompt = r->submit->prompt,
                               .prior_tokens = r->next,
                               .max_tokens = r->submit->max_tokens,
                               .number = number,
                               .numerics = r->submit->numerics};
    placement_outcome outcome =
        placement_decide(&c->workers, c->prefixes, &c->history, &asked, c->now_ms, choice);
    if (outcome != PLACEMENT_LEASE_END || placement_is_lasting(&c->workers, asked.model))
        return outcome;
    asked.ending_too = true; /* there is nobody to wait for */
    return placement_decide(&c->workers, c->prefixes, &c->history, &asked, c->now_ms, choice);
}

void core_dispatch(core *c)
{
    for (request *r; (r = queue_head(c->queue)) != NULL;) {
        placement_choice choice;
        placement_outcome outcome = choose_worker(c, r, &choice);
        if (outcome == PLACEMENT_LEASE_END)
            queue_hold(c->queue, &r->submit->place); /* a shorter one still may */
        else if (outcome != PLACEMENT_OK || !dispatch_to(c, r, &choice))
            queue_block(c->queue, &r->submit->place);
    }
}
