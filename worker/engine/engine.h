/* engine: takes requests, schedules them into steps, runs the backend, gives out tokens.
 *
 * A step is: take (commands) -> schedule (who runs, how many tokens) -> plan -> run (backend) ->
 * emit (detokenize, match stops, finish). Continuous batching: decodes first, then prefill chunks
 * within the step's token budget; paged KV in 16-token blocks with prefix reuse; preemption by
 * recomputation, youngest first; credit a stream; cancel takes effect between two steps.
 *
 * Where the backend can be given a step before the one before it is over (backend_capacity's
 * steps_ahead), the engine plans one step ahead: it goes on as if every answer under way got one
 * more token, whose id only the device knows. An answer that turns out to have ended keeps a row in
 * the step that is under way by then; what that row samples is dropped, and its blocks can be given
 * away at once, for steps run in order.
 *
 * Every answer is a function of its request alone (prompt, parameters, seed): not of the batch,
 * of chunking, of the cache or of preemption, as far as the backend's logits are (backend.h).
 *
 * The engine has no thread, lock or clock of its own: whoever calls it is "the engine thread", and
 * `now_us` is any monotonic clock. worker/engine_thread.h runs it on one and joins it to the loop
 * by two rings; `gaggle-worker generate` calls it directly. */
#ifndef GAGGLE_WORKER_ENGINE_ENGINE_H
#define GAGGLE_WORKER_ENGINE_ENGINE_H

#include "proto/envelope.h"
#include "worker/backend.h"
#include "worker/text/tokenizer.h"

typedef struct engine engine;

/* A request ready to run: tokenized and checked. The engine takes ownership of the struct and of
 * everything in it (all from mem_*), from engine_submit() on. */
typedef struct engine_request {
    uint64_t key;     /* the caller's name for it; not in use */
    uint32_t *prompt; /* [prompt_count] at least 1 */
    uint32_t prompt_count;
    uint32_t *prior; /* [prior_count] answer tokens delivered before: replayed, not emitted */
    uint32_t prior_count;
    sampling_params sampling;
    char **stop; /* [stop_count] */
    size_t *stop_sizes;
    uint32_t stop_count;
    uint32_t *stop_ids; /* [stop_id_count]: the request's own; the model's end tokens are added */
    uint32_t stop_id_count;
    uint32_t max_tokens; /* of the answer, prior included; prompt + max_tokens <= context */
    uint32_t min_tokens;
    bool ignore_eos;
    int32_t priority;
    id128 cache_salt;    /* KV is shared with requests of the same salt only */
    uint32_t credit_end; /* may emit token indices below this; see engine_credit() */
    bool wants_logits;   /* keep the raw logits after the prompt: engine_output.logits */
} engine_request;

/* Frees it and all it owns; for requests that were never submitted. NULL is fine. */
void engine_request_destroy(engine_request *request);

typedef struct engine_options {
    uint32_t step_tokens;       /* prefill and decode tokens a step; 0 = the backend's capacity */
    uint32_t sequences_max;     /* running at once; 0 = the backend's capacity */
    uint32_t context_max;       /* 0 = the model's; see engine_context_max() */
    bool prefix_cache;          /* reuse KV of equal prefixes */
    uint64_t (*clock_us)(void); /* read after the backend ran, so that a request's times count the
                                   step; NULL: the step's start stands for its end */
} engine_options;

engine_options engine_options_default(void);

/* What one step gave one request. Pointers are valid during the callback. */
typedef struct engine_output {
    uint64_t key;
    uint32_t first_index;        /* index of tokens[0] in the answer */
    uint32_t token_count;        /* 0 or 1 */
    const sampled_token *tokens; /* [token_count] */
    const uint32_t *text_sizes;  /* [token_count] bytes of `text` that belong to each */
    const uint8_t *text;         /* whole UTF-8 characters; held-back text comes later */
    uint32_t text_size;
    const float *logits; /* [vocab] with wants_logits, on the first output */
    bool finished;       /* then the rest is set and the key is free again */
    finish_reason reason;
    uint32_t total; /* tokens of the answer, prior included */
    uint32_t prompt_tokens, cached_tokens;
    bool has_stop_id;
    uint32_t stop_id;
    const char *stop_text; /* NUL-terminated or NULL */
    uint32_t queue_us, prefill_us, decode_us;
    error failure; /* with FINISH_FAILED */
} engine_output;

typedef void (*engine_sink)(void *ctx, const engine_output *output);

/* `b`, `m` and `t` must outlive it; the sink is called from engine_step() alone and must not call
 * the engine. ST_INVALID_ARGUMENT: an option is above what backend or model can do; says which. */
MUST_USE status engine_create(engine **out, backend *b, const model *m, const tokenizer *t,
                              const engine_options *options, engine_sink sink, void *sink_ctx,
                              error *err);
void engine_destroy(engine *e); /* drops what still runs, without outputs */

/* Tokens that prompt and answer together may have: the smallest of the option, the model's context
 * and what all KV blocks hold. */
uint32_t engine_context_max(const engine *e);

/* Queue a request. Its first output, or its refusal (finished, FINISH_FAILED), comes from a later
 * engine_step(). ST_INVALID_ARGUMENT: an empty prompt, prompt + max_tokens beyond
 * engine_context_max(), an id outside the vocabulary, prior tokens that go on after the answer's
 * end. ST_RESOURCE_EXHAUSTED: LIMIT_STREAMS_PER_LINK requests are in the engine already. `err` says
 * which, and `request` stays the caller's. Prior tokens that already end the answer make it finish
 * at once, without a further token. */
MUST_USE status engine_submit(engine *e, engine_request *request, uint64_t now_us, error *err);

/* End it: one last output with `reason` (FINISH_CANCELLED, _DEADLINE, _SLOW_CONSUMER) comes from
 * the next engine_step(), and its blocks are free after it. Unknown keys are ignored. */
void engine_cancel(engine *e, uint64_t key, finish_reason reason);

/* The receiver now allows token indices below `credit_end`. Never moves back. A sequence without
 * credit leaves the batch but keeps its blocks until somebody needs them. */
void engine_credit(engine *e, uint64_t key, uint32_t credit_end);

/* Run one step. Returns true when it did something and should be called again, false when there is
 * nothing to do until a submit, cancel or credit. An error of the backend (backend.h:
 * ST_UNAVAILABLE or ST_INTERNAL) ends every request with FINISH_FAILED and is returned in `err`:
 * the worker must exit. */
bool engine_step(engine *e, uint64_t now_us, error *err);

typedef struct engine_stats {
    uint32_t running, waiting;          /* with and without KV blocks */
    uint32_t kv_blocks, kv_blocks_free; /* free includes cached blocks nobody uses */
    uint32_t last_step_tokens, last_step_sequences;
    uint32_t last_step_read; /* of its tokens, those of prompts (and answers) that are read again */
    uint32_t last_step_us;   /* the device was at it for so long */
    uint64_t cache_oldest_us; /* as prefix_cache_oldest_us() */
    uint64_t steps, prompt_tokens, cached_tokens, output_tokens, preemptions;
} engine_stats;

engine_stats engine_get_stats(const engine *e);

/* Check every invariant between scheduler, sequences and blocks (CHECK). For tests. */
void engine_verify(const engine *e);

#endif
