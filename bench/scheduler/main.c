/* gaggle-bench-scheduler: what the worker's engine costs of the CPU, a step, beside the device.
 *
 *   engine_step    scheduling, planning, detokenizing, matching stops and giving out, of N answers
 *                  that all decode, one step planned ahead
 *   engine_thread  the same on the engine's thread: and what joins it to the loop
 *
 * The backend answers at once with ids that it made up; what it needs itself is taken off. Times
 * are of the engine's thread alone, by its processor clock: what else runs here does not count, but
 * for the caches it shares. The best of several runs. The budget is 20 us at 64 answers: 5 % of a
 * step of a 0.6B model on an H200. */
#include <math.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/check.h"
#include "common/mem.h"
#include "common/options.h"
#include "worker/engine_thread.h"

enum { PROMPT = 64, WARM_STEPS = 100, STREAMS_MAX = 1024 };

#define BUDGET_US_64 20.0

static const char *model_dir = "models/gosling";
static uint32_t steps = 800, runs = 9;

/* -- a backend that costs nothing ---------------------------------------------------------------
 */

typedef struct idle_backend {
    backend base;
    uint32_t samples[2]; /* of the uncollected steps, the oldest first */
    uint32_t uncollected;
    uint64_t collected;
    uint64_t begin_ns, end_ns; /* the caller's processor time when measuring began and ended */
    uint32_t streams, vocab;
} idle_backend;

static uint64_t thread_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static status idle_submit(backend *base, const step_plan *plan, error *err)
{
    (void)err;
    idle_backend *b = (idle_backend *)base;
    uint32_t samples = 0;
    for (uint32_t i = 0; i < plan->sequence_count; i++)
        samples += plan->sequences[i].wants_sample;
    b->samples[b->uncollected++] = samples;
    return ST_OK;
}

static status idle_collect(backend *base, sampled_token *sampled, error *err)
{
    (void)err;
    idle_backend *b = (idle_backend *)base;
    if (b->samples[0] == b->streams) { /* none is in its prompt any more */
        if (b->collected == WARM_STEPS) b->begin_ns = thread_ns();
        if (b->collected == WARM_STEPS + steps) b->end_ns = thread_ns();
        b->collected++;
    }
    for (uint32_t i = 0; i < b->samples[0]; i++) {
        sampled[i].id = 300 + (uint32_t)(b->collected * 7 + i * 13) % (b->vocab - 300);
        sampled[i].logprob = NAN;
        sampled[i].top_count = 0;
    }
    b->samples[0] = b->samples[1];
    b->uncollected--;
    return ST_OK;
}

static void idle_destroy(backend *base)
{
    mem_free(base);
}

static idle_backend *idle_create(const model *m, uint32_t streams)
{
    static const backend_class class = {idle_submit, idle_collect, idle_destroy};
    idle_backend *b = mem_calloc(1, sizeof *b);
    b->base.class = &class;
    b->base.capacity = (backend_capacity){
        .kv_blocks = streams * (m->config.context_max / LIMIT_KV_BLOCK_TOKENS + 1),
        .kv_block_bytes = 1,
        .step_tokens = 8192,
        .step_sequences = STREAMS_MAX,
        .steps_ahead = 1};
    b->streams = streams;
    b->vocab = m->config.vocab_size;
    return b;
}

static bool is_over(const idle_backend *b)
{
    return b->end_ns > 0;
}

/* Processor time of a step, the backend's included. */
static double step_us(const idle_backend *b)
{
    return (double)(b->end_ns - b->begin_ns) / steps / 1000.0;
}

/* The backend's own: the same calls and nothing else. */
static double run_backend(const model *m, const tokenizer *t, uint32_t streams)
{
    (void)t;
    static step_sequence sequences[STREAMS_MAX];
    static sampled_token sampled[STREAMS_MAX];
    for (uint32_t i = 0; i < streams; i++)
        sequences[i].wants_sample = true;
    const step_plan plan = {.sequences = sequences, .sequence_count = streams};
    idle_backend *b = idle_create(m, streams);
    error err;
    while (!is_over(b)) {
        CHECK(backend_submit(&b->base, &plan, &err) == ST_OK);
        CHECK(backend_collect(&b->base, sampled, &err) == ST_OK);
    }
    double us = step_us(b);
    backend_destroy(&b->base);
    return us;
}

/* -- the two works
 * --------------------------------------------------------------------------------- */

/* As they come: sampled, with a stop string. */
static engine_request *make_request(uint64_t key)
{
    static const char stop[] = "\n\nUser:";
    engine_request *r = mem_calloc(1, sizeof *r);
    r->key = key;
    r->prompt = mem_alloc(PROMPT * sizeof *r->prompt);
    r->prompt_count = PROMPT;
    for (uint32_t i = 0; i < PROMPT; i++)
        r->prompt[i] = 300 + (uint32_t)(key * 31 + i * 7) % 1500;
    r->sampling = sampling_params_default();
    r->stop = mem_alloc(sizeof *r->stop);
    r->stop_sizes = mem_alloc(sizeof *r->stop_sizes);
    r->stop[0] = mem_strdup(stop);
    r->stop_sizes[0] = strlen(stop);
    r->stop_count = 1;
    r->max_tokens = WARM_STEPS + steps + 20;
    r->ignore_eos = true;
    r->credit_end = r->max_tokens;
    return r;
}

static void drop(void *ctx, const engine_output *output)
{
    (void)ctx;
    (void)output;
}

static double run_engine(const model *m, const tokenizer *t, uint32_t streams)
{
    idle_backend *b = idle_create(m, streams);
    const engine_options options = engine_options_default();
    engine *e;
    error err = {0};
    CHECK(engine_create(&e, &b->base, m, t, &options, drop, NULL, &err) == ST_OK);
    for (uint32_t key = 0; key < streams; key++)
        CHECK(engine_submit(e, make_request(key), 1, &err) == ST_OK);
    while (!is_over(b))
        CHECK(engine_step(e, 1, &err));
    double us = step_us(b);
    engine_destroy(e);
    backend_destroy(&b->base);
    return us;
}

static void wake(void *ctx)
{
    sem_post(ctx);
}

static double run_thread(const model *m, const tokenizer *t, uint32_t streams)
{
    idle_backend *b = idle_create(m, streams);
    sem_t woken;
    sem_init(&woken, 0, 0);
    const engine_thread_options options = {.backend = &b->base,
                                           .model = m,
                                           .tokenizer = t,
                                           .engine = engine_options_default(),
                                           .wake = wake,
                                           .wake_ctx = &woken};
    engine_thread *e;
    error err = {0};
    CHECK(engine_thread_start(&e, &options, &err) == ST_OK);
    for (uint32_t key = 0; key < streams; key++)
        CHECK(engine_thread_submit(e, make_request(key), &err) == ST_OK);
    for (uint32_t finished = 0; finished < streams;) {
        sem_wait(&woken);
        for (engine_batch *batch; (batch = engine_thread_take(e)) != NULL;) {
            finished += batch->finish_count;
            engine_batch_destroy(batch);
        }
    }
    engine_thread_stop(e);
    double us = step_us(b);
    engine_thread_destroy(e);
    backend_destroy(&b->base);
    sem_destroy(&woken);
    return us;
}

typedef double bench_run(const model *m, const tokenizer *t, uint32_t streams);

static double best_of(bench_run *run, const model *m, const tokenizer *t, uint32_t streams)
{
    double best = run(m, t, streams);
    for (uint32_t i = 1; i < runs; i++) {
        double us = run(m, t, streams);
        if (us < best) best = us;
    }
    return best;
}

static void report(const char *work, bench_run *run, const model *m, const tokenizer *t,
                   uint32_t streams)
{
    double us = best_of(run, m, t, streams) - best_of(run_backend, m, t, streams);
    double budget = BUDGET_US_64 * streams / 64;
    printf("%s_%u,%.2f,us/step,%.0f,%.3f\n", work, streams, us, budget, us / budget);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const option_row rows[] = {
        {"model", 'm', OPTION_TEXT, &model_dir, "DIR",
         .help = "whose tokenizer makes the text [models/gosling]"},
        {"steps", 0, OPTION_U32, &steps, "N", .help = "measured in a run [800]", .min = 1,
         .max = 100000},
        {"runs", 0, OPTION_U32, &runs, "N", .help = "of which the best counts [9]", .min = 1,
         .max = 1000},
    };
    const option_table table = {"gaggle-bench-scheduler [options]",
                                "What the worker's engine costs of the CPU, beside the device.",
                                rows, sizeof rows / sizeof *rows,
                                "CSV on stdout: figures in microseconds a step, and the budget."};
    error err = {0};
    model *m = NULL;
    tokenizer *t = NULL;
    status st = options_parse(&table, argc, argv, NULL, &err);
    if (st == ST_OK) st = model_load(&m, model_dir, LOAD_SAFETENSORS_UNREAD, NULL, NULL, &err);
    if (st == ST_OK) st = tokenizer_load(&t, model_dir, &err);
    uint32_t tokens = PROMPT + WARM_STEPS + steps + 20;
    if (st == ST_OK && tokens > m->config.context_max)
        st = error_set(&err, ST_INVALID_ARGUMENT,
                       "--steps %u needs a context of %u; the model has %u", steps, tokens,
                       m->config.context_max);
    if (st == ST_OK) {
        printf("work,figure,unit,ceiling,ratio\n");
        static const uint32_t streams[] = {64, 256};
        for (size_t i = 0; i < 2; i++) {
            report("engine_step", run_engine, m, t, streams[i]);
            report("engine_thread", run_thread, m, t, streams[i]);
        }
    }
    if (st != ST_OK) fprintf(stderr, "gaggle-bench-scheduler: %s\n", err.text);
    tokenizer_destroy(t);
    model_destroy(m);
    return st == ST_OK ? 0 : st == ST_INVALID_ARGUMENT ? 2 : 1;
}
