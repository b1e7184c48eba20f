#include "router/core.h"

#include <malloc.h>
#include <string.h>
#include <xxhash.h>

#include "common/check.h"
#include "common/log.h"
#include "router/core_internal.h"

/* Freed bytes of Submits that are worth looking for, and how often at most. */
enum { TRIM_BYTES = 16 * 1024, TRIM_MS = 1000 };

core_options core_options_default(void)
{
    return (core_options){
        .queue_requests_max = LIMIT_QUEUE_REQUESTS,
        .queue_bytes_max = LIMIT_SUBMIT_BYTES_QUEUE,
        .queue_tokens_max = LIMIT_QUEUE_TOKENS,
        .kept_bytes_max = LIMIT_KEPT_BYTES,
        .client_grace_ms = LIMIT_CLIENT_GRACE_MS_DEFAULT,
        .worker_grace_ms = LIMIT_WORKER_GRACE_MS_DEFAULT,
        .stall_ms = LIMIT_STALL_MS_DEFAULT,
        .continuations_max = LIMIT_CONTINUATIONS,
    };
}

static queue_sum queue_limits(const core_options *o)
{
    return (queue_sum){o->queue_requests_max, o->queue_bytes_max, o->queue_tokens_max};
}

core *core_create(const core_options *options, const core_io *io, uint64_t now_ms)
{
    core *c = mem_calloc(1, sizeof *c);
    c->options = *options;
    c->io = *io;
    c->requests = request_table_create(options->seed);
    c->prefixes = prefix_table_create(LIMIT_PREFIX_ENTRIES);
    c->history = placement_history_default();
    c->seed_state = options->seed;
    c->started_ms = c->heard_ms = c->now_ms = now_ms;
    metrics_init(&c->metrics);
    c->tenants = tenant_table_create();
    const queue_sum limits = queue_limits(options);
    c->queue = queue_create(&limits, c->tenants, options->seed);
    return c;
}

static void link_free(core_link *l)
{
    token_columns_free(&l->columns);
    mem_free(l->name);
    mem_free(l);
}

void core_destroy(core *c)
{
    if (c == NULL) return;
    while (c->links != NULL) {
        core_link *next = c->links->next;
        link_free(c->links);
        c->links = next;
    }
    request_table_destroy(c->requests);
    queue_destroy(c->queue);
    metrics_fini(&c->metrics);
    tenant_table_destroy(c->tenants);
    worker_table_free(&c->workers);
    prefix_table_destroy(c->prefixes);
    buffer_free(&c->pending_resumes);
    buffer_free(&c->encoded);
    arena_free(&c->scratch);
    mem_free(c);
}

/* -- small actions --------------------------------------------------------------- */

void core_send(core *c, const core_link *l, const envelope *e)
{
    c->io.send(c->io.ctx, l->handle, e);
}

void core_send_error(core *c, const core_link *l, uint32_t stream, const error *why)
{
    if (l->role == ROLE_CLIENT) metrics_error(&c->metrics, why->code);
    envelope e = {.kind = ENVELOPE_ERROR};
    e.error = (msg_error){.stream = stream,
                          .code = why->code,
                          .text = text_of(why->text),
                          .retry_after_ms = why->retry_after_ms};
    core_send(c, l, &e);
}

void core_refuse(core *c, const core_link *l, uint32_t stream, status code, const char *text)
{
    error why;
    error_set(&why, code, "%s", text);
    core_send_error(c, l, stream, &why);
}

/* A peer broke the rules of the conversation: it is told, and let go. */
void core_reject_link(core *c, const core_link *l, const char *what)
{
    log_warn("peer=%s rejected reason=\"%s\"", l->name, what);
    envelope e = {.kind = ENVELOPE_ERROR};
    e.error = (msg_error){.code = ST_FAILED_PRECONDITION, .text = text_of(what), .fatal = true};
    core_send(c, l, &e);
    c->io.close(c->io.ctx, l->handle, what);
}

static void send_cancel(core *c, const request *r, finish_reason finish, bool forget)
{
    envelope e = {.kind = ENVELOPE_CANCEL};
    e.cancel =
        (msg_cancel){.stream = &r->worker_stream, .count = 1, .finish = finish, .forget = forget};
    core_send(c, r->worker->link, &e);
}

void core_send_cancel(core *c, const request *r)
{
    send_cancel(c, r, (finish_reason)r->ending, false);
}

void core_send_forget(core *c, const request *r)
{
    send_cancel(c, r, FINISH_CANCELLED, true);
}

void core_send_resume(core *c, request *r)
{
    envelope e = {.kind = ENVELOPE_RESUME};
    e.resume = (msg_resume){
        .request_id = &r->id, .stream = &r->worker_stream, .next_wanted = &r->acked, .count = 1};
    core_send(c, r->worker->link, &e);
    r->rewinding = true;
}

void core_mark_dirty(core *c, core_link *l)
{
    if (l->dirty) return;
    l->dirty = true;
    l->next_dirty = c->dirty;
    c->dirty = l;
}

void core_forward_ack(core *c, request *r)
{
    if (!request_worker_is_up(r)) return;
    buffer_append(&r->worker->ack_stream, &r->worker_stream, sizeof(uint32_t));
    buffer_append(&r->worker->ack_next, &r->acked, sizeof(uint32_t));
    core_mark_dirty(c, r->worker->link);
}

bool request_worker_is_up(const request *r)
{
    return r->worker != NULL && r->worker->link != NULL && r->worker_stream != 0;
}

/* Time in which this very process was stopped is nobody's fault: no grace and no stall runs in it.
 */
static void pass_time(core *c, uint64_t now_ms)
{
    uint64_t passed_ms = now_ms - c->heard_ms;
    c->heard_ms = now_ms;
    c->now_ms += passed_ms > LIMIT_STANDSTILL_MS ? LIMIT_TICK_MS : passed_ms;
}

/* -- a request's end ------------------------------------------------------------- */

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

void core_attach_client(core *c, request *r, core_link *l, uint32_t stream)
{
    core_detach_client(c, r);
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
}

void core_note_end(core *c, request *r, metrics_outcome outcome, const msg_finish *finish)
{
    metrics_ended(&c->metrics, core_meter(r), &r->counted, r->tenant, outcome, finish, r->next,
                  c->now_ms);
}

const core_metrics *core_read_metrics(const core *c)
{
    return &c->metrics;
}

void core_done(core *c, request *r)
{
    core_note_end(c, r, METRICS_ABANDONED, NULL);
    if (r->state == REQUEST_QUEUED) queue_remove(c->queue, &r->submit->place, c->now_ms);
    core_leave_worker(c, r, BREAKER_CLIENT_FAULT);
    core_detach_client(c, r);
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
    if (request_worker_is_up(r)) core_send_forget(c, r);
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

void core_finish(core *c, request *r)
{
    if (r->submit == NULL) { /* the ids are not known: only an Error is left */
        status code = r->ending == FINISH_DEADLINE ? ST_DEADLINE_EXCEEDED : ST_CANCELLED;
        core_end(c, r, code, 0, "ended; its worker did not answer");
        return;
    }
    core_note_end(c, r, (metrics_outcome)r->ending, NULL);
    if (request_worker_is_up(r)) core_send_forget(c, r);
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

/* Ask the worker to end it; its Finish follows. */
void core_cancel(core *c, request *r, finish_reason finish, status code, const char *sentence)
{
    if (r->state == REQUEST_RUNNING && request_worker_is_up(r)) {
        r->ending = (uint8_t)finish;
        request_set_state(r, REQUEST_ENDING, c->now_ms);
        core_send_cancel(c, r);
    } else if (r->state == REQUEST_RUNNING ||
               (r->state == REQUEST_QUEUED && r->next > r->submit->prior_count)) {
        r->ending = (uint8_t)finish;
        core_finish(c, r);
    } else if (r->state == REQUEST_QUEUED) {
        core_end(c, r, code, 0, sentence);
    }
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
    *kept = (kept_submit){.prior_count = (uint32_t)submit->prior_count};
    memcpy(kept->bytes, c->encoded.data, c->encoded.size);
    if (submit->model.size > 0)
        memcpy(kept->bytes + c->encoded.size, submit->model.data, submit->model.size);
    kept->prompt = prefix_chain_create(submit, c->options.seed, r->tenant);
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
    const placement_request asked = {.model = kept_model(r),
                                     .prompt = r->submit->prompt,
                                     .prior_tokens = r->next,
                                     .max_tokens = r->submit->max_tokens,
                                     .number = number,
                                     .numerics = r->submit->numerics};
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

void core_set_tenant(core *c, uint32_t tenant, const tenant_limits *limits, uint64_t now_ms)
{
    pass_time(c, now_ms);
    tenant_set_limits(c->tenants, tenant, limits, c->now_ms);
}

void core_tenants_changed(core *c)
{
    queue_limits_changed(c->queue);
    core_dispatch(c);
}

/* -- events ---------------------------------------------------------------------- */

/* The process is back before we noticed that it was gone. What is still on its way over the older
 * link must not take anything from the newer one. */
static void replace_older(core *c, role what, uint32_t tenant, const id128 *instance)
{
    for (core_link *l = c->links; l != NULL; l = l->next) {
        if (l->role != what || l->tenant != tenant || l->replaced ||
            !id128_equal(&l->instance, instance))
            continue;
        l->replaced = true;
        core_forget_pending_resumes(c, l);
        while (l->requests != NULL)
            core_detach_client(c, l->requests);
        c->io.close(c->io.ctx, l->handle, "replaced by a newer connection of this process");
    }
}

core_link *core_link_up(core *c, void *handle, role what, uint32_t tenant, uint32_t owner,
                        const id128 *instance, const char *name, uint64_t now_ms)
{
    pass_time(c, now_ms);
    replace_older(c, what, tenant, instance);
    core_link *l = mem_calloc(1, sizeof *l);
    l->handle = handle;
    l->role = what;
    l->tenant = tenant;
    l->owner = owner;
    l->instance = *instance;
    l->name = mem_strdup(name);
    l->next = c->links;
    if (c->links != NULL) c->links->previous = l;
    c->links = l;
    c->client_count += what == ROLE_CLIENT;
    return l;
}

void core_envelope(core *c, core_link *l, const envelope *e, const error *refused, uint64_t now_ms)
{
    pass_time(c, now_ms);
    if (l->replaced) return;
    if (refused != NULL && l->role == ROLE_CLIENT)
        core_send_error(c, l, e->submit.stream, refused);
    else if (l->role == ROLE_CLIENT)
        core_client_envelope(c, l, e);
    else
        core_worker_envelope(c, l, e);
}

static void unlink_dirty(core *c, const core_link *l)
{
    core_link **at = &c->dirty;
    while (*at != NULL && *at != l)
        at = &(*at)->next_dirty;
    if (*at != NULL) *at = l->next_dirty;
}

/* Nobody wants it any more. */
void core_drop(core *c, request *r)
{
    if (request_worker_is_up(r)) core_send_forget(c, r);
    core_done(c, r);
}

void core_link_down(core *c, core_link *l, bool for_good, uint64_t now_ms)
{
    pass_time(c, now_ms);
    if (l->role == ROLE_WORKER && l->worker != NULL) core_worker_link_lost(c, l->worker);
    if (l->role == ROLE_CLIENT) {
        c->client_count--;
        core_forget_pending_resumes(c, l);
        while (l->requests != NULL) {
            request *r = l->requests;
            core_detach_client(c, r);
            if (for_good) core_drop(c, r);
        }
    }
    unlink_dirty(c, l);
    *(l->previous != NULL ? &l->previous->next : &c->links) = l->next;
    if (l->next != NULL) l->next->previous = l->previous;
    link_free(l);
}

/* When tick_request() would do something about it if nothing happened any more. What happens
 * meanwhile starts a grace anew and never ends it sooner than the shorter of them from now. */
static uint64_t next_look_ms(const core *c, const request *r)
{
    uint32_t stall_ms = c->options.stall_ms, grace_ms = c->options.client_grace_ms;
    uint64_t look_ms = c->now_ms + (stall_ms < grace_ms ? stall_ms : grace_ms);
    if (r->deadline_ms != 0 && r->deadline_ms < look_ms) look_ms = r->deadline_ms;
    if (r->client == NULL && r->client_gone_ms + grace_ms < look_ms)
        look_ms = r->client_gone_ms + grace_ms;
    bool stalls = r->state == REQUEST_FINISHED || r->state == REQUEST_ENDING ||
                  (r->state == REQUEST_RUNNING && r->client != NULL && r->acked < r->next);
    if (stalls && r->since_ms + stall_ms < look_ms) look_ms = r->since_ms + stall_ms;
    return look_ms > c->now_ms ? look_ms : c->now_ms + 1;
}

/* May free it. */
static void tick_request(core *c, request *r)
{
    uint64_t idle_ms = c->now_ms - r->since_ms;
    if (r->client == NULL && c->now_ms - r->client_gone_ms >= c->options.client_grace_ms) {
        core_drop(c, r);
    } else if (r->deadline_ms != 0 && c->now_ms >= r->deadline_ms) {
        r->deadline_ms = 0;
        core_cancel(c, r, FINISH_DEADLINE, ST_DEADLINE_EXCEEDED, "the deadline passed");
    } else if (r->state == REQUEST_FINISHED && idle_ms >= c->options.stall_ms) {
        core_drop(c, r);
    } else if (r->state == REQUEST_ENDING && idle_ms >= c->options.stall_ms) {
        core_settle(c, r, request_tokens_so_far(r), BREAKER_WORKER_FAULT);
        core_finish(c, r);
    } else if (r->state == REQUEST_RUNNING && r->client != NULL && r->acked < r->next &&
               idle_ms >= c->options.stall_ms) {
        core_cancel(c, r, FINISH_SLOW_CONSUMER, ST_CANCELLED, "tokens were not acknowledged");
    }
}

/* A worker is about to be forgotten. Nobody would ever take what waits for what only it offers. */
static void end_unservable(core *c, const worker *gone)
{
    for (size_t m = 0; m < gone->model_count; m++) {
        text_view model = text_of(gone->models[m].name);
        uint32_t offers = 0;
        for (size_t i = 0; i < c->workers.count; i++)
            offers += worker_find_model(c->workers.all[i], model) != NULL;
        for (request *r; offers == 1 && (r = queue_any(c->queue, model)) != NULL;)
            core_end(c, r, ST_UNAVAILABLE, 1000, "no worker offers the model any more");
    }
}

/* The C library keeps the memory of a burst of Submits, in as many pieces. */
static void trim_heap(core *c)
{
    if (c->submit_bytes_freed < TRIM_BYTES || c->now_ms - c->trimmed_ms < TRIM_MS) return;
    malloc_trim(0);
    c->submit_bytes_freed = 0;
    c->trimmed_ms = c->now_ms;
}

/* Nobody has heard of it for its grace. */
static void forget_worker(core *c, worker *w)
{
    for (uint32_t i = request_table_end(c->requests); i-- > 0;) {
        request *r = request_table_at(c->requests, i);
        if (r != NULL && r->worker == w) core_lose_worker(c, r);
    }
    log_warn("worker=%s forgotten", w->id);
    c->metrics.workers_lost++;
    prefix_table_leave(c->prefixes, w->prefix_holder);
    end_unservable(c, w);
    breaker_book_keep(&c->forgotten, core_worker_hash(w->id), &w->breaker);
    worker_table_remove(&c->workers, w);
}

void core_tick(core *c, uint64_t now_ms)
{
    pass_time(c, now_ms);
    uint32_t number = 0;
    for (request *r; (r = request_table_due(c->requests, number, c->now_ms)) != NULL; number++) {
        number = r->number;
        request_table_wake_at(c->requests, r, next_look_ms(c, r));
        tick_request(c, r);
    }
    for (size_t i = c->workers.count; i-- > 0;) {
        worker *w = c->workers.all[i];
        if (w->link != NULL && w->leave_ms != 0 && c->now_ms >= w->leave_ms) core_hand_over(c, w);
        if (w->link == NULL && c->now_ms - w->gone_ms >= c->options.worker_grace_ms)
            forget_worker(c, w);
    }
    core_answer_pending_resumes(c);
    queue_unblock_all(c->queue); /* leases and breakers change with time */
    core_dispatch(c);
    trim_heap(c);
}

typedef struct column_target {
    core *c;
    core_link *link;
} column_target;

static void send_columns(void *ctx, const envelope *e)
{
    column_target *target = ctx;
    core_send(target->c, target->link, e);
}

void core_flush_client(core *c, core_link *l)
{
    if (token_columns_empty(&l->columns)) return;
    column_target target = {c, l};
    token_columns_flush(&l->columns, send_columns, &target);
}

static void flush_acks(core *c, worker *w)
{
    if (w->ack_stream.size == 0) return;
    const uint32_t *stream = (const uint32_t *)(void *)w->ack_stream.data;
    const uint32_t *next_wanted = (const uint32_t *)(void *)w->ack_next.data;
    size_t count = w->ack_stream.size / sizeof(uint32_t);
    for (size_t sent = 0; sent < count; sent += LIMIT_STREAMS_PER_LINK) {
        size_t part = count - sent;
        if (part > LIMIT_STREAMS_PER_LINK) part = LIMIT_STREAMS_PER_LINK;
        envelope e = {.kind = ENVELOPE_ACK};
        e.ack = (msg_ack){stream + sent, next_wanted + sent, part};
        core_send(c, w->link, &e);
    }
    buffer_clear(&w->ack_stream);
    buffer_clear(&w->ack_next);
}

void core_flush(core *c)
{
    core_link **at = &c->dirty;
    while (*at != NULL) {
        core_link *l = *at;
        if (!c->io.is_idle(c->io.ctx, l->handle)) {
            at = &l->next_dirty;
            continue;
        }
        *at = l->next_dirty;
        l->dirty = false;
        if (l->role == ROLE_CLIENT)
            core_flush_client(c, l);
        else if (l->worker != NULL)
            flush_acks(c, l->worker);
    }
}

void core_drain(core *c, const char *reason)
{
    c->draining = true;
    envelope e = {.kind = ENVELOPE_DRAIN};
    e.drain = (msg_drain){.reason = text_of(reason)};
    for (core_link *l = c->links; l != NULL; l = l->next)
        core_send(c, l, &e);
}

void core_set_options(core *c, const core_options *options)
{
    uint64_t seed = c->options.seed;
    c->options = *options;
    c->options.seed = seed;
    const queue_sum limits = queue_limits(options);
    queue_set_limits(c->queue, &limits);
}

size_t core_request_count(const core *c)
{
    return request_table_count(c->requests);
}

size_t core_waited_for(const core *c)
{
    size_t count = 0;
    for (const core_link *l = c->links; l != NULL; l = l->next)
        count += l->streams;
    return count;
}

void core_verify(const core *c)
{
    queue_verify(c->queue);
    uint32_t queued = 0;
    size_t known = 0, kept_bytes = 0;
    for (uint32_t i = 0; i < request_table_end(c->requests); i++) {
        const request *r = request_table_at(c->requests, i);
        if (r == NULL) continue;
        known++;
        if (r->submit != NULL)
            kept_bytes += r->submit->size + sizeof(uint32_t) * r->submit->id_capacity;
        CHECK(r->number == i);
        CHECK(request_table_find(c->requests, &r->id) == r);
        CHECK(r->acked <= r->next);
        queued += r->state == REQUEST_QUEUED;
        CHECK(r->state != REQUEST_QUEUED || (r->worker == NULL && r->submit != NULL));
        CHECK(r->state != REQUEST_DONE);
        CHECK(r->submit == NULL || r->next <= r->submit->prior_count ||
              r->next - r->submit->prior_count <= r->submit->id_capacity);
        if (r->client != NULL)
            CHECK(request_table_find_stream(c->requests, r->client, r->client_stream) == r);
        if (r->worker_stream != 0) CHECK(worker_find_stream(r->worker, r->worker_stream) == r);
    }
    CHECK(queued == queue_waiting(c->queue).requests && known == request_table_count(c->requests));
    CHECK(kept_bytes == c->kept_bytes);
    for (size_t i = 0; i < c->workers.count; i++) {
        const worker *w = c->workers.all[i];
        uint32_t streams = 0;
        uint64_t prefill = 0, decode = 0;
        for (uint32_t j = 0; j < request_table_end(c->requests); j++) {
            const request *r = request_table_at(c->requests, j);
            if (r == NULL || r->worker != w) continue;
            streams += request_holds_slot(r);
            prefill += r->charge.prefill_tokens;
            decode += r->charge.decode_tokens;
        }
        CHECK(streams == w->streams && prefill == w->work.prefill_tokens &&
              decode == w->work.decode_tokens);
        CHECK(w->link == NULL || w->link->worker == w);
    }
    for (const core_link *l = c->links; l != NULL; l = l->next) {
        uint32_t streams = 0;
        for (const request *r = l->requests; r != NULL; r = r->client_next, streams++)
            CHECK(r->client == l &&
                  (r->client_next == NULL || r->client_next->client_previous == r));
        CHECK(streams == l->streams);
    }
}
