#include "router/core.h"

#include <malloc.h>
#include <string.h>

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
        .client_grace_ms = LIMIT_CLIENT_GRACE_MS_DEFAULT,
        .worker_grace_ms = LIMIT_WORKER_GRACE_MS_DEFAULT,
        .stall_ms = LIMIT_STALL_MS_DEFAULT,
    };
}

core *core_create(const core_options *options, const core_io *io, uint64_t now_ms)
{
    core *c = mem_calloc(1, sizeof *c);
    c->options = *options;
    c->io = *io;
    c->requests = request_table_create(options->seed);
    c->seed_state = options->seed;
    c->started_ms = c->now_ms = now_ms;
    admission_init(&c->queue, options->queue_requests_max, options->queue_bytes_max);
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
    worker_table_free(&c->workers);
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

/* -- a request's end ------------------------------------------------------------- */

void request_uncharge(request *r, uint32_t tokens)
{
    if (tokens > r->cost) tokens = r->cost;
    r->cost -= tokens;
    r->worker->outstanding_tokens -= tokens;
}

bool request_holds_slot(const request *r)
{
    return r->state == REQUEST_RUNNING || r->state == REQUEST_ENDING;
}

/* Take it off its worker: nothing the worker says about it is heard any more. */
void request_leave_worker(request *r)
{
    worker *w = r->worker;
    if (w == NULL) return;
    if (request_holds_slot(r)) w->streams--;
    request_uncharge(r, r->cost);
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

void core_done(core *c, request *r)
{
    if (r->state == REQUEST_QUEUED) admission_remove(&c->queue, r);
    request_leave_worker(r);
    core_detach_client(c, r);
    core_forget_submit(c, r);
    request_set_state(r, REQUEST_DONE, c->now_ms);
    request_table_remove(c->requests, r);
}

void core_end(core *c, request *r, status code, uint32_t retry_after_ms, const char *text)
{
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
        admission_remove(&c->queue, r);
        core_forget_submit(c, r);
    }
    request_leave_worker(r);
    mem_free(r->failure);
    r->failure = mem_copy(&why, sizeof why);
    if (r->state != REQUEST_FINISHED) request_set_state(r, REQUEST_FINISHED, c->now_ms);
}

/* Ask the worker to end it; its Finish follows. */
void core_cancel(core *c, request *r, finish_reason finish, status code, const char *sentence)
{
    if (r->state == REQUEST_RUNNING && request_worker_is_up(r)) {
        r->ending = (uint8_t)finish;
        request_set_state(r, REQUEST_ENDING, c->now_ms);
        core_send_cancel(c, r);
        return;
    }
    if (r->state == REQUEST_QUEUED || r->state == REQUEST_RUNNING)
        core_end(c, r, code, 0, sentence);
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
    memcpy(kept->bytes, c->encoded.data, c->encoded.size);
    if (submit->model.size > 0)
        memcpy(kept->bytes + c->encoded.size, submit->model.data, submit->model.size);
    kept->queue_previous = kept->queue_next = NULL;
    kept->priority = submit->priority;
    kept->size = (uint32_t)c->encoded.size;
    kept->model_size = (uint32_t)submit->model.size;
    r->submit = kept;
    return ST_OK;
}

static text_view kept_model(const request *r)
{
    return (text_view){(const char *)r->submit->bytes + r->submit->size, r->submit->model_size};
}

void core_forget_submit(core *c, request *r)
{
    if (r->submit == NULL) return;
    c->submit_bytes_freed += r->submit->size;
    mem_free(r->submit);
    r->submit = NULL;
}

/* False: finished streams that nobody acknowledged fill the link, so it must wait. */
static bool dispatch_to(core *c, request *r, worker *w)
{
    if (!worker_open_stream(w, r)) return false;
    envelope e;
    arena_reset(&c->scratch);
    CHECK(envelope_decode(r->submit->bytes, r->submit->size, &c->scratch, &e, NULL) == ST_OK);
    admission_remove(&c->queue, r);
    r->worker = w;
    r->cost = placement_cost(&e.submit);
    r->rewinding = false;
    w->outstanding_tokens += r->cost;
    w->streams++;
    request_set_state(r, REQUEST_RUNNING, c->now_ms);

    e.submit.stream = r->worker_stream;
    if (r->deadline_ms != 0)
        e.submit.deadline_ms =
            r->deadline_ms > c->now_ms ? (uint32_t)(r->deadline_ms - c->now_ms) : 1;
    core_send(c, w->link, &e);
    char hex[33];
    log_info("request=%s placed worker=%s waiting=%u", id128_hex(&r->id, hex), w->id,
             c->queue.count);
    return true;
}

static bool any_room(const core *c)
{
    for (size_t i = 0; i < c->workers.count; i++) {
        const worker *w = c->workers.all[i];
        if (w->link != NULL && !w->draining && w->streams < placement_stream_limit(w)) return true;
    }
    return false;
}

void core_dispatch(core *c)
{
    text_view full = {0}; /* the model last found without room: what waits for it is passed over */
    bool room = any_room(c);
    for (request *r = c->queue.head, *next; r != NULL && room; r = next) {
        next = r->submit->queue_next;
        text_view model = kept_model(r);
        if (text_equal(model, full)) continue;
        worker *w;
        if (placement_choose(&c->workers, model, &w) == PLACEMENT_OK && dispatch_to(c, r, w))
            room = any_room(c);
        else
            full = model;
    }
}

/* -- events ---------------------------------------------------------------------- */

core_link *core_link_up(core *c, void *handle, role what, uint32_t tenant, const id128 *instance,
                        const char *name, uint64_t now_ms)
{
    c->now_ms = now_ms;
    core_link *l = mem_calloc(1, sizeof *l);
    l->handle = handle;
    l->role = what;
    l->tenant = tenant;
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
    c->now_ms = now_ms;
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
static void drop(core *c, request *r)
{
    if (request_worker_is_up(r)) core_send_forget(c, r);
    core_done(c, r);
}

void core_link_down(core *c, core_link *l, bool for_good, uint64_t now_ms)
{
    c->now_ms = now_ms;
    if (l->role == ROLE_WORKER && l->worker != NULL) core_worker_link_lost(c, l->worker);
    if (l->role == ROLE_CLIENT) {
        c->client_count--;
        core_forget_pending_resumes(c, l);
        while (l->requests != NULL) {
            request *r = l->requests;
            core_detach_client(c, r);
            if (for_good) drop(c, r);
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
        drop(c, r);
    } else if (r->deadline_ms != 0 && c->now_ms >= r->deadline_ms) {
        r->deadline_ms = 0;
        core_cancel(c, r, FINISH_DEADLINE, ST_DEADLINE_EXCEEDED, "the deadline passed");
    } else if (r->state == REQUEST_FINISHED && idle_ms >= c->options.stall_ms) {
        drop(c, r);
    } else if (r->state == REQUEST_ENDING && idle_ms >= c->options.stall_ms) {
        core_end(c, r, ST_CANCELLED, 0, "cancelled; the worker did not answer");
    } else if (r->state == REQUEST_RUNNING && r->client != NULL && r->acked < r->next &&
               idle_ms >= c->options.stall_ms) {
        core_cancel(c, r, FINISH_SLOW_CONSUMER, ST_CANCELLED, "tokens were not acknowledged");
    }
}

/* A model's last worker is gone: nobody would ever take what waits for it. */
static void end_unservable(core *c)
{
    for (request *r = c->queue.head, *next; r != NULL; r = next) {
        next = r->submit->queue_next;
        worker *w;
        if (placement_choose(&c->workers, kept_model(r), &w) == PLACEMENT_NO_MODEL)
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

void core_tick(core *c, uint64_t now_ms)
{
    c->now_ms = now_ms;
    uint32_t number = 0;
    for (request *r; (r = request_table_due(c->requests, number, now_ms)) != NULL; number++) {
        number = r->number;
        request_table_wake_at(c->requests, r, next_look_ms(c, r));
        tick_request(c, r);
    }
    for (size_t i = c->workers.count; i-- > 0;) {
        worker *w = c->workers.all[i];
        if (w->link != NULL || now_ms - w->gone_ms < c->options.worker_grace_ms) continue;
        for (uint32_t j = request_table_end(c->requests); j-- > 0;) {
            request *r = request_table_at(c->requests, j);
            if (r != NULL && r->worker == w) core_lose_worker(c, r);
        }
        log_warn("worker=%s forgotten", w->id);
        worker_table_remove(&c->workers, w);
        end_unservable(c);
    }
    core_answer_pending_resumes(c);
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

size_t core_request_count(const core *c)
{
    return request_table_count(c->requests);
}

void core_verify(const core *c)
{
    uint32_t queued = 0;
    size_t known = 0;
    for (uint32_t i = 0; i < request_table_end(c->requests); i++) {
        const request *r = request_table_at(c->requests, i);
        if (r == NULL) continue;
        known++;
        CHECK(r->number == i);
        CHECK(request_table_find(c->requests, &r->id) == r);
        CHECK(r->acked <= r->next);
        queued += r->state == REQUEST_QUEUED;
        CHECK(r->state != REQUEST_QUEUED || (r->worker == NULL && r->submit != NULL));
        CHECK(r->state != REQUEST_DONE);
        if (r->client != NULL)
            CHECK(request_table_find_stream(c->requests, r->client, r->client_stream) == r);
        if (r->worker_stream != 0) CHECK(worker_find_stream(r->worker, r->worker_stream) == r);
    }
    CHECK(queued == c->queue.count && known == request_table_count(c->requests));
    for (size_t i = 0; i < c->workers.count; i++) {
        const worker *w = c->workers.all[i];
        uint32_t streams = 0;
        uint64_t outstanding = 0;
        for (uint32_t j = 0; j < request_table_end(c->requests); j++) {
            const request *r = request_table_at(c->requests, j);
            if (r == NULL || r->worker != w) continue;
            streams += request_holds_slot(r);
            outstanding += r->cost;
        }
        CHECK(streams == w->streams && outstanding == w->outstanding_tokens);
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
