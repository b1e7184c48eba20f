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

static void send_cancel(core *c, const request *r, finish_reason finish, bool forget,
                        uint64_t since_ms)
{
    envelope e = {.kind = ENVELOPE_CANCEL};
    e.cancel = (msg_cancel){
        .stream = &r->worker_stream, .count = 1, .finish = finish, .forget = forget, .t = since_ms};
    core_send(c, r->worker->link, &e);
}

void core_send_cancel(core *c, const request *r)
{
    send_cancel(c, r, (finish_reason)r->ending, false, r->since_ms);
}

void core_send_forget(core *c, const request *r, uint64_t since_ms)
{
    send_cancel(c, r, FINISH_CANCELLED, true, since_ms);
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

/* Time in which this very process was stopped is nobody's fault: no grace and no stall runs in it.
 */
static void pass_time(core *c, uint64_t now_ms)
{
    uint64_t passed_ms = now_ms - c->heard_ms;
    c->heard_ms = now_ms;
    c->now_ms += passed_ms > LIMIT_STANDSTILL_MS ? LIMIT_TICK_MS : passed_ms;
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

core_link *core_link_up(core *c, void *handle, role what, const core_tenant *tenant,
                        const id128 *instance, const char *name, uint64_t now_ms)
{
    pass_time(c, now_ms);
    replace_older(c, what, tenant->number, instance);
    core_link *l = mem_calloc(1, sizeof *l);
    l->handle = handle;
    l->role = what;
    l->tenant = tenant->number;
    l->owner = tenant->owner;
    l->cache_salt = tenant->cache_salt;
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

/* What the client had over earlier links, and did not ask for again. */
static void drop_detached(core *c, const core_link *l)
{
    uint32_t mark = core_client_mark(l);
    for (uint32_t i = request_table_end(c->requests); c->detached > 0 && i-- > 0;) {
        request *r = request_table_at(c->requests, i);
        if (r != NULL && r->client == NULL && r->client_mark == mark) core_drop(c, r);
    }
}

void core_link_down(core *c, core_link *l, bool for_good, uint64_t now_ms)
{
    pass_time(c, now_ms);
    if (l->role == ROLE_WORKER && l->worker != NULL) {
        core_worker_link_lost(c, l->worker);
        if (for_good && l->worker->draining) core_worker_gone(c, l->worker);
    }
    if (l->role == ROLE_CLIENT) {
        c->client_count--;
        core_forget_pending_resumes(c, l);
        while (l->requests != NULL) {
            request *r = l->requests;
            core_detach_client(c, r);
            if (for_good) core_drop(c, r);
        }
    }
    if (l->role == ROLE_CLIENT && for_good && !l->replaced) drop_detached(c, l);
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

const core_metrics *core_read_metrics(const core *c)
{
    return &c->metrics;
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
    uint32_t queued = 0, detached = 0;
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
        detached += r->client == NULL && r->client_mark != 0;
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
    CHECK(kept_bytes == c->kept_bytes && detached == c->detached);
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
