#include "worker/engine/engine.h"

#include <inttypes.h>
#include <string.h>

#include "common/check.h"
#include "common/log.h"
#include "common/mem.h"
#include "worker/engine/answer.h"
#include "worker/engine/key_map.h"
#include "worker/engine/kv_blocks.h"
#include "worker/engine/prefix_cache.h"
#include "worker/engine/scheduler.h"
#include "worker/engine/step_plan.h"

/* One request in the engine. Its sequence is with the scheduler until it is over; from then on the
 * job is in `over`, until the next step gives out its last output. Then it is finished: nobody can
 * name it any more, and it only waits for the steps under way that it is part of. */
typedef struct job {
    sequence sequence; /* first: the scheduler hands it back, and job_of() finds the job */
    uint32_t slot;     /* step_sequence's */
    uint32_t steps_under_way;
    engine_request *request;
    answer *answer;
    float *logits; /* wanted and not given out yet: [vocab], else NULL */
    uint64_t submitted_us, scheduled_us, first_token_us, last_token_us; /* 0 = not yet */
    bool is_over, is_finished;
    finish_reason reason; /* once over */
} job;

/* A step that was submitted and is not collected. */
typedef struct step_under_way {
    job **jobs;  /* [job_count], in plan order */
    bool *draws; /* [job_count]: one token of its sample is this job's */
    uint32_t job_count;
    uint32_t token_count, read_count;
    uint64_t submitted_us;
} step_under_way;

#define STEPS_UNDER_WAY_MAX 2u

struct engine {
    backend *backend;
    const model *model;
    const tokenizer *tokenizer;
    engine_sink sink;
    void *sink_ctx;
    uint64_t (*clock_us)(void);

    uint32_t vocab; /* ids that both the model and its tokenizer know */
    uint32_t context_max;
    uint32_t step_tokens, sequences_max;

    kv_blocks *kv;
    prefix_cache *cache;
    scheduler *scheduler;
    key_map *jobs; /* all, by key */
    job **over;    /* [over_count] */
    uint32_t over_count;
    uint64_t arrivals;

    uint32_t *free_slots; /* [free_slot_count] */
    uint32_t free_slot_count;

    scheduled *shares; /* [sequences_max] scratch of one step */
    step_plan_builder plan;
    step_under_way under_way[STEPS_UNDER_WAY_MAX]; /* the oldest first */
    uint32_t under_way_count;
    sampled_token *sampled; /* [sequences_max] */
    buffer text;

    uint64_t collected_us; /* the last step was over */
    engine_stats stats;
};

static job *job_of(sequence *q)
{
    return (job *)q;
}
_Static_assert(offsetof(job, sequence) == 0, "a job begins with its sequence");

void engine_request_destroy(engine_request *r)
{
    if (r == NULL) return;
    mem_free(r->prompt);
    mem_free(r->prior);
    mem_free(r->sampling.bias_ids);
    mem_free(r->sampling.bias);
    for (uint32_t i = 0; i < r->stop_count; i++)
        mem_free(r->stop[i]);
    mem_free(r->stop);
    mem_free(r->stop_sizes);
    mem_free(r->stop_ids);
    mem_free(r);
}

/* -- making one -------------------------------------------------------------------- */

engine_options engine_options_default(void)
{
    return (engine_options){.prefix_cache = true};
}

/* An option's value: 0 stands for `most`, and more than that is refused. */
static status resolve(uint32_t *value, uint32_t option, uint32_t most, const char *name,
                      const char *whose, error *err)
{
    if (option > most)
        return error_set(err, ST_INVALID_ARGUMENT, "%s is %u; %s allows at most %u", name, option,
                         whose, most);
    *value = option > 0 ? option : most;
    return ST_OK;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

status engine_create(engine **out, backend *b, const model *m, const tokenizer *t,
                     const engine_options *options, engine_sink sink, void *sink_ctx, error *err)
{
    const backend_capacity *capacity = &b->capacity;
    engine *e = mem_calloc(1, sizeof *e);
    e->backend = b;
    e->model = m;
    e->tokenizer = t;
    e->sink = sink;
    e->sink_ctx = sink_ctx;
    e->clock_us = options->clock_us;
    e->vocab = smaller(m->config.vocab_size, tokenizer_vocab_size(t));

    status st = resolve(&e->step_tokens, options->step_tokens, capacity->step_tokens, "step_tokens",
                        "the backend", err);
    if (st != ST_OK) goto fail;
    /* Each sequence needs a token in each step (scheduler.h). */
    st = resolve(&e->sequences_max, options->sequences_max,
                 smaller(capacity->step_sequences, e->step_tokens), "sequences_max",
                 "the step's size", err);
    if (st != ST_OK) goto fail;
    st = resolve(&e->context_max, options->context_max, m->config.context_max, "context_max",
                 "the model", err);
    if (st != ST_OK) goto fail;
    if (e->context_max / LIMIT_KV_BLOCK_TOKENS >= capacity->kv_blocks)
        e->context_max = capacity->kv_blocks * LIMIT_KV_BLOCK_TOKENS;

    e->kv = kv_blocks_create(capacity->kv_blocks);
    e->cache = prefix_cache_create(e->kv, options->prefix_cache);
    e->scheduler =
        scheduler_create(e->cache, e->step_tokens, e->sequences_max, LIMIT_STREAMS_PER_LINK);
    e->jobs = key_map_create(LIMIT_STREAMS_PER_LINK);
    e->over = mem_calloc(LIMIT_STREAMS_PER_LINK, sizeof(job *));
    CHECK(capacity->steps_ahead < STEPS_UNDER_WAY_MAX);
    e->free_slot_count = backend_slots(capacity);
    e->free_slots = mem_alloc(e->free_slot_count * sizeof *e->free_slots);
    for (uint32_t i = 0; i < e->free_slot_count; i++)
        e->free_slots[i] = e->free_slot_count - 1 - i;
    for (uint32_t i = 0; i < STEPS_UNDER_WAY_MAX; i++) {
        e->under_way[i].jobs = mem_alloc(e->sequences_max * sizeof(job *));
        e->under_way[i].draws = mem_alloc(e->sequences_max * sizeof(bool));
    }
    e->shares = mem_alloc(e->sequences_max * sizeof *e->shares);
    e->sampled = mem_alloc(e->sequences_max * sizeof *e->sampled);
    step_plan_init(&e->plan, e->step_tokens, e->sequences_max);
    *out = e;
    return ST_OK;

fail:
    engine_destroy(e);
    return st;
}

static void job_destroy(engine *e, job *j)
{
    e->free_slots[e->free_slot_count++] = j->slot;
    sequence_fini(&j->sequence);
    engine_request_destroy(j->request);
    answer_destroy(j->answer);
    mem_free(j->logits);
    mem_free(j);
}

/* Nobody can name it any more. */
static void job_finish(engine *e, job *j)
{
    key_map_remove(e->jobs, j->sequence.key);
    j->is_finished = true;
    if (j->steps_under_way == 0) job_destroy(e, j);
}

/* Forget the oldest step; what it sampled has been given out or is not wanted. */
static void drop_step(engine *e)
{
    step_under_way oldest = e->under_way[0];
    for (uint32_t i = 0; i < oldest.job_count; i++) {
        job *j = oldest.jobs[i];
        if (--j->steps_under_way == 0 && j->is_finished) job_destroy(e, j);
    }
    e->under_way_count--;
    for (uint32_t i = 0; i < e->under_way_count; i++)
        e->under_way[i] = e->under_way[i + 1];
    e->under_way[e->under_way_count] = oldest;
}

void engine_destroy(engine *e)
{
    if (e == NULL) return;
    while (e->under_way_count > 0)
        drop_step(e);
    uint32_t cursor = 0;
    for (job *j; e->jobs != NULL && (j = key_map_next(e->jobs, &cursor)) != NULL;) {
        if (!j->is_over) scheduler_remove(e->scheduler, &j->sequence);
        job_destroy(e, j);
    }
    scheduler_destroy(e->scheduler);
    prefix_cache_destroy(e->cache);
    kv_blocks_destroy(e->kv);
    key_map_destroy(e->jobs);
    mem_free(e->over);
    mem_free(e->free_slots);
    for (uint32_t i = 0; i < STEPS_UNDER_WAY_MAX; i++) {
        mem_free(e->under_way[i].jobs);
        mem_free(e->under_way[i].draws);
    }
    mem_free(e->shares);
    mem_free(e->sampled);
    step_plan_fini(&e->plan);
    buffer_free(&e->text);
    mem_free(e);
}

uint32_t engine_context_max(const engine *e)
{
    return e->context_max;
}

/* -- taking a request ----------------------------------------------------------------- */

static status check_ids(const engine *e, const char *name, const uint32_t *ids, uint32_t count,
                        error *err)
{
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] >= e->vocab)
            return error_set(err, ST_INVALID_ARGUMENT, "%s[%u] is %u; the model has ids below %u",
                             name, i, ids[i], e->vocab);
    return ST_OK;
}

static status check_request(const engine *e, const engine_request *r, error *err)
{
    if (r->prompt_count == 0)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "the prompt is empty; at least 1 token is needed");
    if (r->max_tokens == 0)
        return error_set(err, ST_INVALID_ARGUMENT, "max_tokens is 0; it must be at least 1");
    if ((uint64_t)r->prompt_count + r->max_tokens > e->context_max)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "the prompt has %u tokens and max_tokens is %u; together they may have at "
                         "most %u",
                         r->prompt_count, r->max_tokens, e->context_max);
    if (r->prior_count > r->max_tokens)
        return error_set(err, ST_INVALID_ARGUMENT, "prior_ids has %u tokens; max_tokens is %u",
                         r->prior_count, r->max_tokens);
    status st = check_ids(e, "prompt", r->prompt, r->prompt_count, err);
    if (st == ST_OK) st = check_ids(e, "prior_ids", r->prior, r->prior_count, err);
    if (st == ST_OK) st = check_ids(e, "stop_ids", r->stop_ids, r->stop_id_count, err);
    if (st == ST_OK) st = sampling_params_check(&r->sampling, e->vocab, err);
    return st;
}

/* The prompt gives no text when all of it is special, as a lone BOS: then the answer's first
 * token begins the text. */
static bool has_text(const engine *e, const engine_request *r)
{
    for (uint32_t i = 0; i < r->prompt_count; i++)
        if (!tokenizer_is_special(e->tokenizer, r->prompt[i])) return true;
    return false;
}

static status create_answer(answer **out, const engine *e, const engine_request *r, error *err)
{
    const model_config *config = &e->model->config;
    uint32_t end_ids[LIMIT_STOP_IDS + MODEL_EOS_IDS_MAX];
    uint32_t count = 0;
    if (r->stop_id_count > LIMIT_STOP_IDS)
        return error_set(err, ST_INVALID_ARGUMENT, "stop_ids has %u entries; the limit is %u",
                         r->stop_id_count, LIMIT_STOP_IDS);
    for (uint32_t i = 0; i < r->stop_id_count; i++)
        end_ids[count++] = r->stop_ids[i];
    for (uint32_t i = 0; !r->ignore_eos && i < config->eos_count; i++)
        if (config->eos_ids[i] < e->vocab) end_ids[count++] = config->eos_ids[i];
    if (r->min_tokens > 0 && count >= e->vocab)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "min_tokens is %u, but the %u ids that end the answer leave no other of "
                         "the model's %u",
                         r->min_tokens, count, e->vocab);
    answer_rules rules = {
        .stop = (const char *const *)r->stop,
        .stop_sizes = r->stop_sizes,
        .stop_count = r->stop_count,
        .end_ids = end_ids,
        .end_id_count = count,
        .min_tokens = r->min_tokens,
        .max_tokens = r->max_tokens,
        .at_start = !has_text(e, r),
    };
    *out = answer_create(e->tokenizer, &rules);
    return ST_OK;
}

/* Bring the answer to where its prior tokens end. Their text was delivered with them. */
static status replay(engine *e, answer *a, const engine_request *r, error *err)
{
    for (uint32_t i = 0; i < r->prior_count; i++) {
        if (answer_ended(a))
            return error_set(err, ST_INVALID_ARGUMENT,
                             "prior_ids has %u tokens; the answer ended after %u", r->prior_count,
                             i);
        buffer_clear(&e->text);
        answer_push(a, r->prior[i], &e->text);
    }
    return ST_OK;
}

static void end_job(engine *e, job *j, finish_reason reason)
{
    j->is_over = true;
    j->reason = reason;
    e->over[e->over_count++] = j;
}

/* Credit is in indices of the answer; the sequence counts its prompt too. No step runs beyond the
 * answer's greatest length, also while the last tokens are pending. */
static uint32_t id_limit(const job *j, uint32_t credit_end)
{
    return j->request->prompt_count + smaller(credit_end, j->request->max_tokens);
}

status engine_submit(engine *e, engine_request *request, uint64_t now_us, error *err)
{
    if (key_map_count(e->jobs) == LIMIT_STREAMS_PER_LINK)
        return error_set(err, ST_RESOURCE_EXHAUSTED,
                         "the worker has %u requests already, which is its limit",
                         LIMIT_STREAMS_PER_LINK);
    CHECK(key_map_find(e->jobs, request->key) == NULL);
    answer *a = NULL;
    status st = check_request(e, request, err);
    if (st == ST_OK) st = create_answer(&a, e, request, err);
    if (st == ST_OK) st = replay(e, a, request, err);
    if (st != ST_OK) {
        answer_destroy(a);
        return st;
    }

    job *j = mem_calloc(1, sizeof *j);
    j->request = request;
    j->answer = a;
    j->submitted_us = now_us;
    j->slot = e->free_slots[--e->free_slot_count];
    sequence_init(&j->sequence, request->key, e->arrivals++, request->priority, request->prompt,
                  request->prompt_count);
    for (uint32_t i = 0; i < request->prior_count; i++)
        sequence_append_id(&j->sequence, request->prior[i]);
    j->sequence.id_limit = id_limit(j, request->credit_end);
    j->sequence.cache_salt = request->cache_salt;
    key_map_add(e->jobs, request->key, j);
    if (answer_ended(a)) {
        end_job(e, j, answer_reason(a));
        return ST_OK;
    }
    if (request->wants_logits) j->logits = mem_alloc(e->model->config.vocab_size * sizeof(float));
    scheduler_add(e->scheduler, &j->sequence);
    return ST_OK;
}

void engine_cancel(engine *e, uint64_t key, finish_reason reason)
{
    job *j = key_map_find(e->jobs, key);
    if (j == NULL || j->is_over) return;
    scheduler_remove(e->scheduler, &j->sequence);
    end_job(e, j, reason);
}

void engine_credit(engine *e, uint64_t key, uint32_t credit_end)
{
    job *j = key_map_find(e->jobs, key);
    if (j == NULL || j->is_over) return;
    scheduler_credit(e->scheduler, &j->sequence, id_limit(j, credit_end));
}

/* -- giving out ------------------------------------------------------------------------ */

static uint32_t elapsed_us(uint64_t from, uint64_t to)
{
    if (from == 0 || to < from) return 0;
    uint64_t us = to - from;
    return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

static uint32_t cached_tokens(const job *j)
{
    return smaller(j->sequence.cached, j->request->prompt_count);
}

/* Give out a job's last output and forget it. */
static void finish_job(engine *e, job *j, engine_output *output)
{
    output->finished = true;
    output->reason = j->reason;
    output->total = answer_count(j->answer);
    output->prompt_tokens = j->request->prompt_count;
    output->cached_tokens = cached_tokens(j);
    output->queue_us = elapsed_us(j->submitted_us, j->scheduled_us);
    output->prefill_us = elapsed_us(j->scheduled_us, j->first_token_us);
    output->decode_us = elapsed_us(j->first_token_us, j->last_token_us);
    if (answer_ended(j->answer)) {
        output->has_stop_id = answer_stop_id(j->answer, &output->stop_id);
        output->stop_text = answer_stop_text(j->answer);
    }
    log_debug("request key=%" PRIu64 " finished reason=%s tokens=%u", j->sequence.key,
              finish_reason_name(j->reason), output->total);
    e->sink(e->sink_ctx, output);
    job_finish(e, j);
}

/* Requests that were cancelled, or whose prior tokens were all of the answer. */
static uint32_t give_out_over(engine *e)
{
    uint32_t count = e->over_count;
    for (uint32_t i = 0; i < count; i++) {
        job *j = e->over[i];
        engine_output output = {.key = j->sequence.key, .first_index = answer_count(j->answer)};
        finish_job(e, j, &output);
    }
    e->over_count = 0;
    return count;
}

static void give_out_token(engine *e, job *j, const sampled_token *token, uint64_t now_us)
{
    if (j->first_token_us == 0) {
        j->first_token_us = now_us;
        e->stats.cached_tokens += cached_tokens(j);
    }
    j->last_token_us = now_us;
    e->stats.output_tokens++;

    uint32_t index = answer_count(j->answer);
    buffer_clear(&e->text);
    answer_push(j->answer, token->id, &e->text);
    uint32_t text_size = (uint32_t)e->text.size;
    float *logits = j->logits;
    j->logits = NULL;
    engine_output output = {
        .key = j->sequence.key,
        .first_index = index,
        .token_count = 1,
        .tokens = token,
        .text_sizes = &text_size,
        .text = e->text.data,
        .text_size = text_size,
        .logits = logits,
    };
    if (answer_ended(j->answer)) {
        scheduler_remove(e->scheduler, &j->sequence);
        j->is_over = true;
        j->reason = answer_reason(j->answer);
        finish_job(e, j, &output);
    } else {
        e->sink(e->sink_ctx, &output);
    }
    mem_free(logits);
}

/* -- one step --------------------------------------------------------------------------- */

static void plan_step(engine *e, uint32_t share_count, uint64_t now_us)
{
    step_plan_clear(&e->plan);
    for (uint32_t i = 0; i < share_count; i++) {
        job *j = job_of(e->shares[i].sequence);
        const sequence *q = &j->sequence;
        uint32_t prompt = j->request->prompt_count;
        if (j->scheduled_us == 0) j->scheduled_us = now_us;
        step_sequence *entry = step_plan_add(&e->plan, &e->shares[i]);
        entry->key = q->arrival;
        entry->slot = j->slot;
        if (!entry->wants_sample) continue;
        entry->sampling = &j->request->sampling;
        if (q->id_count == prompt + j->request->prior_count) entry->logits_out = j->logits;
        entry->context.ids = q->ids;
        entry->context.prompt_count = prompt;
        entry->context.id_count = q->id_count;
        entry->context.masked_ids =
            answer_masked_ids(j->answer, q->id_count - prompt, &entry->context.masked_count);
    }
}

/* The backend has the step: remember whose it is, and go on as if it were over. */
static void step_submitted(engine *e, uint32_t share_count, uint64_t now_us)
{
    step_under_way *step = &e->under_way[e->under_way_count++];
    step->submitted_us = now_us;
    step->read_count = 0;
    step->job_count = share_count;
    step->token_count = e->plan.token_count;
    for (uint32_t i = 0; i < share_count; i++) {
        const scheduled *share = &e->shares[i];
        job *j = job_of(share->sequence);
        step->jobs[i] = j;
        step->draws[i] = e->plan.sequences[i].wants_sample;
        if (share->token_count > 1 || !step->draws[i]) step->read_count += share->token_count;
        j->steps_under_way++;
        uint32_t prompt = j->request->prompt_count, begin = j->sequence.computed;
        if (begin < prompt) e->stats.prompt_tokens += smaller(share->token_count, prompt - begin);
        scheduler_submitted(e->scheduler, &j->sequence, share->token_count);
    }
}

/* A step begins when it was submitted, or when the one before it is over. */
static void note_step(engine *e, uint64_t now_us)
{
    const step_under_way *step = &e->under_way[0];
    uint64_t began_us = step->submitted_us > e->collected_us ? step->submitted_us : e->collected_us;
    e->collected_us = now_us;
    e->stats.steps++;
    e->stats.last_step_tokens = step->token_count;
    e->stats.last_step_sequences = step->job_count;
    e->stats.last_step_read = step->read_count;
    e->stats.last_step_us = elapsed_us(began_us, now_us);
}

/* Tokens of a job that is over by now, or was when the step was planned ahead, are dropped. */
static void emit_step(engine *e, uint64_t now_us)
{
    const step_under_way *step = &e->under_way[0];
    const sampled_token *next = e->sampled;
    for (uint32_t i = 0; i < step->job_count; i++) {
        job *j = step->jobs[i];
        if (!step->draws[i]) continue;
        const sampled_token *token = next++;
        if (j->is_over) continue;
        CHECK(token->id < e->vocab); /* else backend_options.vocab_used was not set */
        scheduler_resolve(e->scheduler, &j->sequence, token->id);
        give_out_token(e, j, token, now_us);
    }
}

/* The device or the model's numbers are broken: nothing can be trusted to go on here. What other
 * steps under way made is not given out. */
static void fail_all(engine *e, const error *why)
{
    while (e->under_way_count > 0)
        drop_step(e);
    uint32_t cursor = 0;
    for (job *j; (j = key_map_next(e->jobs, &cursor)) != NULL;) {
        if (j->is_over) continue;
        scheduler_remove(e->scheduler, &j->sequence);
        end_job(e, j, FINISH_FAILED);
    }
    for (uint32_t i = 0; i < e->over_count; i++) {
        job *j = e->over[i];
        engine_output output = {.key = j->sequence.key, .first_index = answer_count(j->answer)};
        if (j->reason == FINISH_FAILED) output.failure = *why;
        finish_job(e, j, &output);
    }
    e->over_count = 0;
}

bool engine_step(engine *e, uint64_t now_us, error *err)
{
    if (now_us == 0) now_us = 1; /* 0 means "not yet" */
    err->code = ST_OK;
    prefix_cache_set_time(e->cache, now_us);
    uint32_t given_out = give_out_over(e);
    uint32_t share_count = scheduler_plan(e->scheduler, e->shares);
    if (share_count == 0 && e->under_way_count == 0) return given_out > 0;

    if (share_count > 0) {
        plan_step(e, share_count, now_us);
        step_plan plan = step_plan_finish(&e->plan);
        if (backend_submit(e->backend, &plan, err) != ST_OK) goto broken;
        step_submitted(e, share_count, now_us);
        if (e->under_way_count <= e->backend->capacity.steps_ahead) return true;
    }
    if (backend_collect(e->backend, e->sampled, err) != ST_OK) goto broken;
    uint64_t over_us = e->clock_us != NULL ? e->clock_us() : now_us;
    note_step(e, over_us);
    prefix_cache_set_time(e->cache, over_us);
    emit_step(e, over_us);
    drop_step(e);
    return true;

broken:
    fail_all(e, err);
    return false;
}

engine_stats engine_get_stats(const engine *e)
{
    engine_stats stats = e->stats;
    stats.running = scheduler_running(e->scheduler);
    stats.waiting = scheduler_waiting(e->scheduler);
    stats.kv_blocks = e->backend->capacity.kv_blocks;
    stats.kv_blocks_free = prefix_cache_available(e->cache);
    stats.preemptions = scheduler_preemptions(e->scheduler);
    stats.cache_oldest_us = prefix_cache_oldest_us(e->cache);
    return stats;
}

void engine_verify(const engine *e)
{
    scheduler_verify(e->scheduler);
    uint32_t with_scheduler = 0, over = 0, cursor = 0;
    for (const job *j; (j = key_map_next(e->jobs, &cursor)) != NULL;) {
        CHECK(key_map_find(e->jobs, j->sequence.key) == j);
        if (j->is_over) {
            over++;
            continue;
        }
        with_scheduler++;
        CHECK(j->sequence.state != SEQUENCE_FINISHED && !answer_ended(j->answer));
        CHECK(j->sequence.known_count == j->request->prompt_count + answer_count(j->answer));
        CHECK(j->sequence.id_count - j->sequence.known_count <= j->steps_under_way);
        CHECK(j->sequence.id_count <= j->request->prompt_count + j->request->max_tokens);
    }
    CHECK(over == e->over_count);
    CHECK(with_scheduler == scheduler_running(e->scheduler) + scheduler_waiting(e->scheduler));
}
