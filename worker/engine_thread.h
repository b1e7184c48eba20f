/* engine_thread: the engine on a thread of its own, joined to the loop by two rings.
 *
 *     loop thread                                       engine thread
 *     submit, cancel, credit  ---- inbox (tickets) ---->  between two steps
 *     engine_thread_take()    <--- outbox (batches) ----  one batch a step
 *     `wake` (uv_async_send)  <-------------------------  after each batch
 *
 * The loop never waits for the engine. The engine waits when it has nothing to do, and when the
 * outbox is full: a loop that does not take stops the engine, not the memory.
 *
 * Every request that was accepted here finishes exactly once, as an entry of some batch's
 * `finishes`, unless the thread is stopped or fails before. Its key is free again once that batch
 * was taken.
 *
 * All functions belong to the loop thread. */
#ifndef GAGGLE_WORKER_ENGINE_THREAD_H
#define GAGGLE_WORKER_ENGINE_THREAD_H

#include "worker/engine/engine.h"

typedef struct engine_thread engine_thread;

typedef struct engine_thread_options {
    backend *backend; /* these three must outlive the thread; nobody else may use the backend */
    const model *model;
    const tokenizer *tokenizer;
    engine_options engine;   /* clock_us is set here */
    void (*wake)(void *ctx); /* called on the engine thread when there is something to take */
    void *wake_ctx;
} engine_thread_options;

/* How one request ended; engine_output says what the fields mean. */
typedef struct engine_finish {
    uint64_t key;
    finish_reason reason;
    uint32_t total;
    uint32_t prompt_tokens, cached_tokens;
    bool has_stop_id;
    uint32_t stop_id;
    char *stop_text; /* NULL: none */
    uint32_t queue_us, prefill_us, decode_us;
    error failure; /* code ST_OK but with FINISH_FAILED */
} engine_finish;

/* What one step gave, in the columns of a Tokens message: group g is count[g] tokens of key[g],
 * the first with index first_index[g]; tokens, text and logprobs of all groups lie behind each
 * other in group order. A key's finish follows its tokens. Never empty. */
typedef struct engine_batch {
    uint64_t *key; /* [groups] */
    uint32_t *first_index, *count;
    uint32_t groups;
    uint32_t *token, *text_len; /* [tokens] */
    uint32_t tokens;
    uint8_t *text; /* [text_size] */
    uint32_t text_size;
    float *logprob;      /* [tokens], or NULL: nobody asked; NaN where this one did not */
    uint32_t *top_count; /* [tokens], or NULL: nobody asked for alternatives */
    uint32_t *top_id;    /* [top_total] */
    float *top_logprob;
    uint32_t top_total;
    engine_finish *finishes; /* [finish_count] */
    uint32_t finish_count;
    uint64_t emitted_us; /* monotonic */
} engine_batch;

void engine_batch_destroy(engine_batch *b); /* NULL is fine */

/* Make the engine and start its thread. Errors are engine_create()'s, or ST_RESOURCE_EXHAUSTED
 * when there can be no thread. */
MUST_USE status engine_thread_start(engine_thread **out, const engine_thread_options *options,
                                    error *err);

/* Let the step at hand end, then end the thread, and wait for it. What still runs is dropped
 * without a finish; batches made before can still be taken. Twice is fine. */
void engine_thread_stop(engine_thread *t);

/* Stops it when it still runs. NULL is fine. */
void engine_thread_destroy(engine_thread *t);

/* Hand a request to the engine, which owns it from then on. Its key is not in use. What the engine
 * refuses comes back as a finish with FINISH_FAILED and the engine's sentence.
 * ST_RESOURCE_EXHAUSTED: LIMIT_STREAMS_PER_LINK requests are in use, or the engine is that far
 * behind; ST_UNAVAILABLE: the thread has stopped or failed. `request` then stays the caller's. */
MUST_USE status engine_thread_submit(engine_thread *t, engine_request *request, error *err);

/* As engine_cancel() and engine_credit(); never refused. Unknown keys are ignored. */
void engine_thread_cancel(engine_thread *t, uint64_t key, finish_reason reason);
void engine_thread_credit(engine_thread *t, uint64_t key, uint32_t credit_end);

/* The next batch, or NULL. The caller destroys it. Each wake may stand for several: take until
 * NULL. */
engine_batch *engine_thread_take(engine_thread *t);

uint32_t engine_thread_requests(const engine_thread *t); /* accepted and not yet finished */
uint32_t engine_thread_context_max(const engine_thread *t);

typedef struct engine_thread_state {
    engine_stats engine;                /* after the last step */
    uint32_t step_us;                   /* duration of the last step that ran something */
    uint64_t step_began_ms;             /* monotonic, of the one that runs; 0: none does */
    uint32_t prefill_rate, decode_rate; /* as speed_meter.h */
    bool failed; /* the device is broken: `failure` says how; the worker must exit */
    error failure;
} engine_thread_state;

engine_thread_state engine_thread_get_state(engine_thread *t);

#endif
