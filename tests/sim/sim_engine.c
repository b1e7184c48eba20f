/* engine_thread.h without a model: answers are a hash of prompt, seed and index.
 *
 * A step gives each running request that has credit one token, as the engine does; the time of a
 * step and of a prompt is the worker's. Text, logprobs and alternatives are functions of the same
 * hash, so that whoever hears an answer can check every column of it. */
#include <math.h>
#include <string.h>

#include "common/check.h"
#include "tests/sim/sim.h"
#include "worker/engine_thread.h"
#include "worker/request_prepare.h"

/* Is never more than one window under way, whoever went on with the answer? */
enum { WINDOW_IS_EXACT = 1 };

/* -- the model -------------------------------------------------------------------------- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t at_index(const sim_question *q, uint32_t index, uint64_t what)
{
    return mix(q->hash + 0x9e3779b97f4a7c15u * (index + 1) + what);
}

sim_question sim_question_of(const uint32_t *prompt, size_t count, uint64_t seed,
                             uint32_t max_tokens, uint32_t logprobs)
{
    uint64_t hash = mix(seed + 1);
    for (size_t i = 0; i < count; i++)
        hash = mix(hash ^ prompt[i]);
    uint32_t length = (uint32_t)(mix(hash) % 120);
    if (mix(hash + 1) % 16 == 0) length *= 5;
    return (sim_question){hash, length, max_tokens, logprobs};
}

uint32_t sim_answer_total(const sim_question *q)
{
    return q->max_tokens != 0 && q->max_tokens < q->length ? q->max_tokens : q->length;
}

uint32_t sim_answer_token(const sim_question *q, uint32_t index)
{
    return (uint32_t)(at_index(q, index, 0) % 50000);
}

uint32_t sim_answer_text(const sim_question *q, uint32_t index, char out[SIM_TEXT_MAX])
{
    uint64_t h = at_index(q, index, 1);
    uint32_t size = (uint32_t)(h % SIM_TEXT_MAX); /* often none: text may be held back */
    for (uint32_t i = 0; i < size; i++)
        out[i] = (char)('a' + (h >> (8 + 6 * i)) % 26);
    return size;
}

float sim_answer_logprob(const sim_question *q, uint32_t index)
{
    return -(float)(at_index(q, index, 2) % 4096) / 256;
}

uint32_t sim_answer_top_id(const sim_question *q, uint32_t index, uint32_t rank)
{
    return (uint32_t)(at_index(q, index, 100 + rank) % 50000);
}

float sim_answer_top_logprob(const sim_question *q, uint32_t index, uint32_t rank)
{
    return -(float)(at_index(q, index, 200 + rank) % 4096) / 128;
}

/* -- requests ---------------------------------------------------------------------------- */

static sim_question question_of(const engine_request *r)
{
    return sim_question_of(r->prompt, r->prompt_count, r->sampling.seed, r->max_tokens,
                           r->sampling.logprobs);
}

status request_prepare(engine_request **out, const request_context *context,
                       const msg_submit *submit, int64_t now_seconds, error *err)
{
    (void)context;
    (void)now_seconds;
    CHECK(submit->id_count > 0 && submit->sampling.has_seed);
    if (submit->ids[0] == SIM_BAD_ID)
        return error_set(err, ST_INVALID_ARGUMENT, "ids[0] is %u; it must be below %u", SIM_BAD_ID,
                         SIM_BAD_ID);
    engine_request *r = mem_calloc(1, sizeof *r);
    r->prompt = mem_copy(submit->ids, submit->id_count * sizeof(uint32_t));
    r->prompt_count = (uint32_t)submit->id_count;
    r->prior = mem_copy(submit->prior_ids, submit->prior_count * sizeof(uint32_t));
    r->prior_count = (uint32_t)submit->prior_count;
    r->sampling.seed = submit->sampling.seed;
    r->sampling.logprobs = submit->logprobs;
    r->max_tokens = submit->max_tokens;
    r->priority = submit->priority;
    /* Whoever goes on with an answer goes on with this very one. */
    sim_question q = question_of(r);
    CHECK(r->prior_count <= sim_answer_total(&q));
    for (uint32_t i = 0; i < r->prior_count; i++)
        CHECK(r->prior[i] == sim_answer_token(&q, i));
    *out = r;
    return ST_OK;
}

void engine_request_destroy(engine_request *r)
{
    if (r == NULL) return;
    mem_free(r->prompt);
    mem_free(r->prior);
    mem_free(r);
}

/* -- the thread ----------------------------------------------------------------------------- */

typedef struct running {
    engine_request *request;
    sim_question question;
    uint32_t made, credit_end;
    uint64_t ready_us; /* its prompt is read */
    finish_reason cancelled;
} running;

typedef struct queued_batch {
    struct queued_batch *next;
    engine_batch *batch;
} queued_batch;

struct engine_thread {
    sim_process *process;
    void (*wake)(void *ctx);
    void *wake_ctx;
    sim_device device;
    running *requests; /* oldest first */
    uint32_t count, capacity;
    sim_event *step;
    queued_batch *head, **tail;
    uint64_t hung_until_us, failing_until_us, output_tokens, prompt_tokens;
    bool failed, stopped;
};

static sim_device next_device;
uint32_t sim_engine_failed;

void sim_engine_next_device(const sim_device *device)
{
    next_device = *device;
}

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
    mem_free(b->finishes);
    mem_free(b);
}

/* The columns of a batch while they are filled. */
typedef struct builder {
    buffer key, first_index, count, token, text_len, text, logprob, top_count, top_id, top_logprob;
    buffer finishes;
    bool any_logprob, any_top;
} builder;

static void put32(buffer *b, uint32_t value)
{
    buffer_append(b, &value, sizeof value);
}

static void put_float(buffer *b, float value)
{
    buffer_append(b, &value, sizeof value);
}

static void build_token(builder *b, running *r, uint32_t maker)
{
    const sim_question *q = &r->question;
    CHECK(!WINDOW_IS_EXACT || r->made < sim_credit_end(q));
    buffer_append(&b->key, &r->request->key, sizeof r->request->key);
    put32(&b->first_index, r->made);
    put32(&b->count, 1);
    put32(&b->token, sim_answer_token(q, r->made));
    char text[SIM_TEXT_MAX];
    uint32_t size = sim_answer_text(q, r->made, text);
    put32(&b->text_len, size);
    buffer_append(&b->text, text, size);
    bool wants = q->logprobs != LOGPROBS_NONE;
    put_float(&b->logprob, wants ? sim_answer_logprob(q, r->made) : NAN);
    uint32_t tops = wants ? q->logprobs : 0;
    put32(&b->top_count, tops);
    for (uint32_t rank = 0; rank < tops; rank++) {
        put32(&b->top_id, sim_answer_top_id(q, r->made, rank));
        put_float(&b->top_logprob, sim_answer_top_logprob(q, r->made, rank));
    }
    b->any_logprob |= wants;
    b->any_top |= tops > 0;
    sim_parts_made(q, r->made, maker);
    r->made++;
}

static void *keep(buffer *b, bool wanted)
{
    if (wanted) return b->data;
    buffer_free(b);
    return NULL;
}

static void build_end(engine_thread *t, builder *b)
{
    if (b->key.size == 0 && b->finishes.size == 0) return;
    engine_batch *batch = mem_calloc(1, sizeof *batch);
    size_t tokens = b->token.size / sizeof(uint32_t);
    *batch = (engine_batch){
        .key = (uint64_t *)(void *)b->key.data,
        .first_index = (uint32_t *)(void *)b->first_index.data,
        .count = (uint32_t *)(void *)b->count.data,
        .groups = (uint32_t)(b->key.size / sizeof(uint64_t)),
        .token = (uint32_t *)(void *)b->token.data,
        .text_len = (uint32_t *)(void *)b->text_len.data,
        .tokens = (uint32_t)tokens,
        .text = b->text.data,
        .text_size = (uint32_t)b->text.size,
        .top_total = b->any_top ? (uint32_t)(b->top_id.size / sizeof(uint32_t)) : 0,
        .finishes = (engine_finish *)(void *)b->finishes.data,
        .finish_count = (uint32_t)(b->finishes.size / sizeof(engine_finish)),
        .emitted_us = world.now_us,
    };
    batch->logprob = keep(&b->logprob, b->any_logprob);
    batch->top_count = keep(&b->top_count, b->any_top);
    batch->top_id = keep(&b->top_id, b->any_top);
    batch->top_logprob = keep(&b->top_logprob, b->any_top);
    queued_batch *queued = mem_calloc(1, sizeof *queued);
    queued->batch = batch;
    *t->tail = queued;
    t->tail = &queued->next;
    t->wake(t->wake_ctx);
}

/* It ended: told in the batch, and gone. */
static void build_finish(engine_thread *t, builder *b, uint32_t place, finish_reason reason,
                         const error *why)
{
    running *r = &t->requests[place];
    engine_finish f = {.key = r->request->key,
                       .reason = reason,
                       .total = r->made,
                       .prompt_tokens = r->request->prompt_count};
    if (why != NULL) f.failure = *why;
    buffer_append(&b->finishes, &f, sizeof f);
    engine_request_destroy(r->request);
    memmove(r, r + 1, (t->count - place - 1) * sizeof *r);
    t->count--;
}

static void wait_for_step(engine_thread *t);

static void step(void *ctx)
{
    engine_thread *t = ctx;
    t->step = NULL;
    if (t->failed || t->stopped || t->process->dead) return;
    if (t->hung_until_us > world.now_us) {
        wait_for_step(t);
        return;
    }
    static const error fault = {.code = ST_INTERNAL, .text = "the model's numbers are broken"};
    builder b = {0};
    uint32_t slots = t->device.slots;
    for (uint32_t i = 0; i < t->count;) {
        running *r = &t->requests[i];
        uint32_t total = sim_answer_total(&r->question);
        bool has_slot = slots > 0;
        if (has_slot && r->ready_us <= world.now_us && r->cancelled == 0 && r->made < total &&
            r->made < r->credit_end) {
            slots--;
            if (t->failing_until_us > world.now_us) {
                build_finish(t, &b, i, FINISH_FAILED, &fault);
                sim_engine_failed++;
                continue;
            }
            build_token(&b, r, t->device.maker);
            t->output_tokens++;
        }
        if (r->cancelled != 0)
            build_finish(t, &b, i, r->cancelled, NULL);
        else if (r->made == total && r->ready_us <= world.now_us)
            build_finish(t, &b, i, total < r->question.length ? FINISH_LENGTH : FINISH_STOP, NULL);
        else
            i++;
    }
    build_end(t, &b);
    wait_for_step(t);
}

static bool has_work(const engine_thread *t)
{
    for (uint32_t i = 0; i < t->count; i++) {
        const running *r = &t->requests[i];
        if (r->cancelled != 0 || r->made < r->credit_end) return true;
    }
    return false;
}

static void wait_for_step(engine_thread *t)
{
    if (t->step != NULL || t->failed || t->stopped || !has_work(t)) return;
    uint64_t us = t->device.step_us / 2 + sim_pick(t->device.step_us + 1);
    if (t->hung_until_us > world.now_us + us) us = t->hung_until_us - world.now_us;
    t->step = sim_after(t->process, us, step, t);
}

void sim_engine_hang(engine_thread *t, uint64_t for_us)
{
    sim_trace("%s: the engine hangs for %llu ms", t->process->name,
              (unsigned long long)for_us / 1000);
    t->hung_until_us = world.now_us + for_us;
}

void sim_engine_fail(engine_thread *t, uint64_t for_us)
{
    sim_trace("%s: requests fail for %llu ms", t->process->name, (unsigned long long)for_us / 1000);
    t->failing_until_us = world.now_us + for_us;
}

void sim_engine_break(engine_thread *t)
{
    if (t->failed || t->stopped) return;
    sim_trace("%s: the device fails", t->process->name);
    error why = {.code = ST_UNAVAILABLE, .text = "the device failed"};
    builder b = {0};
    t->failed = true;
    while (t->count > 0)
        build_finish(t, &b, t->count - 1, FINISH_FAILED, &why);
    build_end(t, &b);
    t->wake(t->wake_ctx);
}

uint32_t sim_engine_requests(const engine_thread *t)
{
    return t->count;
}

/* -- engine_thread.h --------------------------------------------------------------------------- */

status engine_thread_start(engine_thread **out, const engine_thread_options *options, error *err)
{
    (void)err;
    engine_thread *t = mem_calloc(1, sizeof *t);
    t->process = world.current;
    t->wake = options->wake;
    t->wake_ctx = options->wake_ctx;
    t->device = next_device;
    t->tail = &t->head;
    *out = t;
    return ST_OK;
}

void engine_thread_stop(engine_thread *t)
{
    t->stopped = true;
    sim_cancel(t->step);
    t->step = NULL;
}

engine_batch *engine_thread_take(engine_thread *t)
{
    queued_batch *queued = t->head;
    if (queued == NULL) return NULL;
    t->head = queued->next;
    if (t->head == NULL) t->tail = &t->head;
    engine_batch *b = queued->batch;
    mem_free(queued);
    return b;
}

void engine_thread_destroy(engine_thread *t)
{
    if (t == NULL) return;
    engine_thread_stop(t);
    for (engine_batch *b; (b = engine_thread_take(t)) != NULL;)
        engine_batch_destroy(b);
    while (t->count > 0)
        engine_request_destroy(t->requests[--t->count].request);
    mem_free(t->requests);
    mem_free(t);
}

status engine_thread_submit(engine_thread *t, engine_request *request, error *err)
{
    if (t->failed || t->stopped) return error_set(err, ST_UNAVAILABLE, "the engine has stopped");
    if (t->count == t->capacity) {
        t->capacity = t->capacity == 0 ? 16 : 2 * t->capacity;
        t->requests = mem_realloc(t->requests, t->capacity * sizeof *t->requests);
    }
    running *r = &t->requests[t->count++];
    *r = (running){.request = request,
                   .question = question_of(request),
                   .made = request->prior_count,
                   .credit_end = request->credit_end};
    t->prompt_tokens += request->prompt_count;
    r->ready_us = world.now_us +
                  (uint64_t)t->device.prefill_us * (request->prompt_count + request->prior_count);
    wait_for_step(t);
    return ST_OK;
}

static running *find(engine_thread *t, uint64_t key)
{
    for (uint32_t i = 0; i < t->count; i++)
        if (t->requests[i].request->key == key) return &t->requests[i];
    return NULL;
}

void engine_thread_cancel(engine_thread *t, uint64_t key, finish_reason reason)
{
    running *r = find(t, key);
    if (r == NULL) return;
    if (r->cancelled == 0) r->cancelled = reason;
    wait_for_step(t);
}

void engine_thread_credit(engine_thread *t, uint64_t key, uint32_t credit_end)
{
    running *r = find(t, key);
    if (r == NULL) return;
    if (credit_end > r->credit_end) r->credit_end = credit_end;
    wait_for_step(t);
}

uint32_t engine_thread_requests(const engine_thread *t)
{
    return t->count;
}

uint32_t engine_thread_context_max(const engine_thread *t)
{
    (void)t;
    return SIM_CONTEXT_TOKENS;
}

engine_thread_state engine_thread_get_state(engine_thread *t)
{
    engine_thread_state state = {.step_us = t->device.step_us, .failed = t->failed};
    uint32_t running_count = t->count < t->device.slots ? t->count : t->device.slots;
    state.engine = (engine_stats){.running = running_count,
                                  .waiting = t->count - running_count,
                                  .kv_blocks = 100,
                                  .kv_blocks_free = 50,
                                  .prompt_tokens = t->prompt_tokens,
                                  .output_tokens = t->output_tokens};
    if (t->failed) error_set(&state.failure, ST_UNAVAILABLE, "the device failed");
    return state;
}
