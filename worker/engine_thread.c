/* The inbox carries tickets, not commands. A request has one ticket, which says what the loop
 * wants of it: run it, the credit it has, the reason to end it. Wishes that come before the engine
 * looks just overwrite each other, so a ticket is in the inbox at most once, and cancel and credit
 * can never find it full: a ticket that is out of use may still lie there, so submit refuses
 * before (requests in use + tickets in the inbox) could exceed its size.
 *
 * A ticket has up to two owners: the loop, until it has taken the finish, and the inbox. The last
 * one frees it. */
#include "worker/engine_thread.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/mem.h"
#include "common/ring.h"
#include "worker/engine/key_map.h"
#include "worker/speed_meter.h"

_Static_assert(LIMIT_STREAMS_PER_LINK < LIMIT_ENGINE_INBOX, "every request has a place");

typedef struct ticket {
    uint64_t key;
    engine_request *request; /* until the engine takes it */
    _Atomic uint32_t credit_end;
    _Atomic uint32_t cancel_reason; /* 0 = go on */
    atomic_bool queued;             /* in the inbox */
    _Atomic uint32_t owners;
} ticket;

/* A batch in the making: the same columns as growable arrays. */
typedef struct batch_builder {
    buffer key, first_index, count, token, text_len, text, logprob, top_count, top_id, top_logprob;
    buffer finishes;
    bool wants_logprob, wants_top;
} batch_builder;

struct engine_thread {
    engine *engine; /* engine thread, once started */
    void (*wake)(void *ctx);
    void *wake_ctx;
    ring *inbox, *outbox;
    batch_builder building; /* engine thread, as the next two */
    speed_meter speed;
    uint32_t slots;

    key_map *tickets; /* loop thread */
    uint32_t context_max;
    pthread_t thread;
    bool joined;

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t changed;
    bool called; /* something was put into the inbox or taken from the outbox, or `stopping` */
    bool stopping;
    engine_thread_state state;
};

static uint64_t now_us(void)
{
    return clock_now_ns() / 1000;
}

/* -- tickets ------------------------------------------------------------------------- */

static void ticket_release(ticket *k)
{
    if (atomic_fetch_sub_explicit(&k->owners, 1, memory_order_acq_rel) > 1) return;
    engine_request_destroy(k->request);
    mem_free(k);
}

static void call_engine(engine_thread *t)
{
    pthread_mutex_lock(&t->lock);
    t->called = true;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

/* Put a ticket into the inbox unless it is there: then the engine has yet to read it. */
static void enqueue(engine_thread *t, ticket *k)
{
    if (atomic_exchange_explicit(&k->queued, true, memory_order_acq_rel)) return;
    atomic_fetch_add_explicit(&k->owners, 1, memory_order_relaxed);
    CHECK(ring_push(t->inbox, k));
    call_engine(t);
}

/* -- batches ------------------------------------------------------------------------- */

void engine_batch_destroy(engine_batch *b)
{
    if (b == NULL) return;
    mem_free(b->key);
    mem_free(b->first_index);
    mem_free(b->count);
    mem_free(b->token);
    mem_free(b->text_len);
    mem_free(b->text);
    mem_free(b->logprob);
    mem_free(b->top_count);
    mem_free(b->top_id);
    mem_free(b->top_logprob);
    for (uint32_t i = 0; i < b->finish_count; i++)
        mem_free(b->finishes[i].stop_text);
    mem_free(b->finishes);
    mem_free(b);
}

static void builder_fini(batch_builder *b)
{
    buffer *columns[] = {&b->key,      &b->first_index, &b->count,   &b->token,
                         &b->text_len, &b->text,        &b->logprob, &b->top_count,
                         &b->top_id,   &b->top_logprob, &b->finishes};
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        buffer_free(columns[i]);
}

static void append_u32(buffer *column, uint32_t value)
{
    buffer_append(column, &value, sizeof value);
}

static void append_tokens(batch_builder *b, const engine_output *o)
{
    buffer_append(&b->key, &o->key, sizeof o->key);
    append_u32(&b->first_index, o->first_index);
    append_u32(&b->count, o->token_count);
    for (uint32_t i = 0; i < o->token_count; i++) {
        const sampled_token *token = &o->tokens[i];
        append_u32(&b->token, token->id);
        append_u32(&b->text_len, o->text_sizes[i]);
        buffer_append(&b->logprob, &token->logprob, sizeof token->logprob);
        append_u32(&b->top_count, token->top_count);
        buffer_append(&b->top_id, token->top_ids, token->top_count * sizeof token->top_ids[0]);
        buffer_append(&b->top_logprob, token->top_logprobs,
                      token->top_count * sizeof token->top_logprobs[0]);
        b->wants_logprob |= !isnan(token->logprob);
        b->wants_top |= token->top_count > 0;
    }
    buffer_append(&b->text, o->text, o->text_size);
}

static void append_finish(batch_builder *b, const engine_output *o)
{
    engine_finish finish = {
        .key = o->key,
        .reason = o->reason,
        .total = o->total,
        .prompt_tokens = o->prompt_tokens,
        .cached_tokens = o->cached_tokens,
        .has_stop_id = o->has_stop_id,
        .stop_id = o->stop_id,
        .stop_text = o->stop_text != NULL ? mem_strdup(o->stop_text) : NULL,
        .queue_us = o->queue_us,
        .prefill_us = o->prefill_us,
        .decode_us = o->decode_us,
        .failure = o->failure,
    };
    buffer_append(&b->finishes, &finish, sizeof finish);
}

static void take_output(void *ctx, const engine_output *output)
{
    engine_thread *t = ctx;
    if (output->token_count > 0) append_tokens(&t->building, output);
    if (output->finished) append_finish(&t->building, output);
}

/* The column's bytes become the batch's; the next batch is likely to be as large. */
static void *hand_over(buffer *column)
{
    buffer next = {0};
    buffer_reserve(&next, column->size);
    void *data = column->data;
    *column = next;
    return data;
}

static void publish_batch(engine_thread *t)
{
    batch_builder *b = &t->building;
    if (b->key.size == 0 && b->finishes.size == 0) return;
    engine_batch *batch = mem_calloc(1, sizeof *batch);
    batch->groups = (uint32_t)(b->key.size / sizeof(uint64_t));
    batch->tokens = (uint32_t)(b->token.size / sizeof(uint32_t));
    batch->text_size = (uint32_t)b->text.size;
    batch->top_total = (uint32_t)(b->top_id.size / sizeof(uint32_t));
    batch->finish_count = (uint32_t)(b->finishes.size / sizeof(engine_finish));
    batch->emitted_us = now_us();
    batch->key = hand_over(&b->key);
    batch->first_index = hand_over(&b->first_index);
    batch->count = hand_over(&b->count);
    batch->token = hand_over(&b->token);
    batch->text_len = hand_over(&b->text_len);
    batch->text = hand_over(&b->text);
    if (b->wants_logprob) batch->logprob = hand_over(&b->logprob);
    if (b->wants_top) batch->top_count = hand_over(&b->top_count);
    batch->top_id = hand_over(&b->top_id);
    batch->top_logprob = hand_over(&b->top_logprob);
    batch->finishes = hand_over(&b->finishes);
    buffer_clear(&b->logprob);
    buffer_clear(&b->top_count);
    b->wants_logprob = b->wants_top = false;
    CHECK(ring_push(t->outbox, batch)); /* the step began with room for it */
    t->wake(t->wake_ctx);
}

/* -- the engine thread ----------------------------------------------------------------- */

static void take_ticket(engine_thread *t, ticket *k)
{
    /* From here on the loop puts it into the inbox again for a new wish. */
    atomic_exchange_explicit(&k->queued, false, memory_order_acq_rel);
    engine_request *request = k->request;
    if (request != NULL) {
        k->request = NULL;
        error err;
        if (engine_submit(t->engine, request, now_us(), &err) != ST_OK) {
            engine_output refusal = {
                .key = request->key,
                .finished = true,
                .reason = FINISH_FAILED,
                .total = request->prior_count,
                .prompt_tokens = request->prompt_count,
                .failure = err,
            };
            append_finish(&t->building, &refusal);
            engine_request_destroy(request);
            return;
        }
    }
    uint32_t reason = atomic_load_explicit(&k->cancel_reason, memory_order_relaxed);
    engine_credit(t->engine, k->key, atomic_load_explicit(&k->credit_end, memory_order_relaxed));
    if (reason != 0) engine_cancel(t->engine, k->key, (finish_reason)reason);
}

/* Before each turn; `wait`: there is nothing to do until the loop calls. Returns false when the
 * thread shall end. */
static bool begin_turn(engine_thread *t, bool wait)
{
    pthread_mutex_lock(&t->lock);
    t->state.step_began_ms = 0;
    while (wait && !t->called)
        pthread_cond_wait(&t->changed, &t->lock);
    t->called = false;
    bool go_on = !t->stopping && !t->state.failed;
    if (go_on) t->state.step_began_ms = clock_now_ms();
    pthread_mutex_unlock(&t->lock);
    return go_on;
}

static void record_step(engine_thread *t, uint64_t began_us, bool worked, const error *err)
{
    engine_stats stats = engine_get_stats(t->engine);
    if (stats.steps != t->state.engine.steps)
        speed_meter_add(&t->speed, stats.last_step_read,
                        stats.last_step_tokens - stats.last_step_read, stats.last_step_us);
    pthread_mutex_lock(&t->lock);
    t->state.engine = stats;
    t->state.prefill_rate = speed_meter_prefill_rate(&t->speed);
    t->state.decode_rate = speed_meter_decode_rate(&t->speed, t->slots);
    if (worked) t->state.step_us = (uint32_t)(now_us() - began_us);
    t->state.failed = err->code != ST_OK;
    if (t->state.failed) t->state.failure = *err;
    pthread_mutex_unlock(&t->lock);
}

static void *run(void *argument)
{
    engine_thread *t = argument;
    bool worked = true;
    while (begin_turn(t, !worked)) {
        worked = false;
        if (ring_count(t->outbox) == ring_capacity(t->outbox)) continue;
        for (ticket *k; (k = ring_pop(t->inbox)) != NULL;) {
            take_ticket(t, k);
            ticket_release(k);
        }
        error err;
        uint64_t began_us = now_us();
        worked = engine_step(t->engine, began_us, &err);
        record_step(t, began_us, worked, &err);
        publish_batch(t);
    }
    return NULL;
}

/* -- the loop thread ------------------------------------------------------------------- */

status engine_thread_start(engine_thread **out, const engine_thread_options *options, error *err)
{
    engine_thread *t = mem_calloc(1, sizeof *t);
    t->joined = true;
    t->wake = options->wake;
    t->wake_ctx = options->wake_ctx;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    t->inbox = ring_create(LIMIT_ENGINE_INBOX);
    t->outbox = ring_create(LIMIT_ENGINE_OUTBOX);
    t->tickets = key_map_create(LIMIT_STREAMS_PER_LINK);

    engine_options timed = options->engine;
    timed.clock_us = now_us;
    status st = engine_create(&t->engine, options->backend, options->model, options->tokenizer,
                              &timed, take_output, t, err);
    if (st != ST_OK) goto fail;
    t->context_max = engine_context_max(t->engine);
    t->slots =
        timed.sequences_max > 0 ? timed.sequences_max : options->backend->capacity.step_sequences;
    t->state.engine = engine_get_stats(t->engine);
    if (pthread_create(&t->thread, NULL, run, t) != 0) {
        st = error_set(err, ST_RESOURCE_EXHAUSTED, "the system gives no thread for the engine");
        goto fail;
    }
    t->joined = false;
    *out = t;
    return ST_OK;

fail:
    engine_thread_destroy(t);
    return st;
}

void engine_thread_stop(engine_thread *t)
{
    if (t->joined) return;
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    t->called = true;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    t->joined = true;
}

void engine_thread_destroy(engine_thread *t)
{
    if (t == NULL) return;
    engine_thread_stop(t);
    for (engine_batch *b; (b = ring_pop(t->outbox)) != NULL;)
        engine_batch_destroy(b);
    for (ticket *k; (k = ring_pop(t->inbox)) != NULL;)
        ticket_release(k);
    uint32_t cursor = 0;
    for (ticket *k; (k = key_map_next(t->tickets, &cursor)) != NULL;)
        ticket_release(k);
    key_map_destroy(t->tickets);
    ring_destroy(t->inbox);
    ring_destroy(t->outbox);
    builder_fini(&t->building);
    engine_destroy(t->engine);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

status engine_thread_submit(engine_thread *t, engine_request *request, error *err)
{
    uint32_t in_use = key_map_count(t->tickets);
    if (t->joined || engine_thread_get_state(t).failed)
        return error_set(err, ST_UNAVAILABLE, "the engine has stopped");
    if (in_use == LIMIT_STREAMS_PER_LINK)
        return error_set(err, ST_RESOURCE_EXHAUSTED,
                         "the worker has %u requests already, which is its limit", in_use);
    if (in_use + ring_count(t->inbox) >= ring_capacity(t->inbox))
        return error_set(err, ST_RESOURCE_EXHAUSTED,
                         "the engine has yet to read %u commands, which is its limit",
                         ring_count(t->inbox));
    ticket *k = mem_calloc(1, sizeof *k);
    k->key = request->key;
    k->request = request;
    atomic_init(&k->credit_end, request->credit_end);
    atomic_init(&k->owners, 1);
    key_map_add(t->tickets, k->key, k);
    enqueue(t, k);
    return ST_OK;
}

void engine_thread_cancel(engine_thread *t, uint64_t key, finish_reason reason)
{
    ticket *k = key_map_find(t->tickets, key);
    if (k == NULL) return;
    atomic_store_explicit(&k->cancel_reason, (uint32_t)reason, memory_order_relaxed);
    enqueue(t, k);
}

void engine_thread_credit(engine_thread *t, uint64_t key, uint32_t credit_end)
{
    ticket *k = key_map_find(t->tickets, key);
    if (k == NULL) return;
    if (credit_end <= atomic_load_explicit(&k->credit_end, memory_order_relaxed)) return;
    atomic_store_explicit(&k->credit_end, credit_end, memory_order_relaxed);
    enqueue(t, k);
}

engine_batch *engine_thread_take(engine_thread *t)
{
    engine_batch *b = ring_pop(t->outbox);
    if (b == NULL) return NULL;
    call_engine(t); /* it may be waiting for room */
    for (uint32_t i = 0; i < b->finish_count; i++) {
        ticket *k = key_map_remove(t->tickets, b->finishes[i].key);
        CHECK(k != NULL);
        ticket_release(k);
    }
    return b;
}

uint32_t engine_thread_requests(const engine_thread *t)
{
    return key_map_count(t->tickets);
}

uint32_t engine_thread_context_max(const engine_thread *t)
{
    return t->context_max;
}

engine_thread_state engine_thread_get_state(engine_thread *t)
{
    pthread_mutex_lock(&t->lock);
    engine_thread_state state = t->state;
    pthread_mutex_unlock(&t->lock);
    return state;
}
