/* bench: what limits a step is known, so a figure stands beside its ceiling.
 *
 *   decode   every step reads all weights once, and each stream's KV: bytes a second, against
 *            memory's: on the CPU a loop over all threads that only reads, on a GPU a large copy
 *   prefill  weights are reused for many tokens: multiply-adds a second, against arithmetic's: on
 *            the CPU a loop over all threads that only multiplies and adds in registers, on a GPU
 *            the vendor's library with a large product
 *   load     a checkpoint's way to a GPU: seconds until the backend is ready
 *
 * Steps follow each other as the engine's do: on a GPU each is submitted before the one before it
 * is collected.
 *
 * Ceilings and figures are taken in turns within one run, the best of several rounds each: a
 * neighbour on a shared machine slows some rounds, and nothing makes one too fast. */
#include "worker/bench.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/options.h"
#include "worker/cpu/kernels/kernels.h"
#include "worker/cpu/memory.h"
#include "worker/cpu/thread_pool.h"
#include "worker/device.h"
#include "worker/find_model.h"

#define READ_BYTES  (256ull * LIMIT_MIB) /* several times any cache */
#define READ_PIECE  (1ull * LIMIT_MIB)
#define BURN_ROUNDS 2000000ull /* about a tenth of a second a thread */
#define CACHE_PIECE (8ull * LIMIT_MIB)
#define CACHE_READS 512u /* pieces of the embedding, from its beginning again at its end */

typedef struct bench {
    const char *dir, *load_format, *device;
    uint32_t threads, prompt_tokens, output_tokens, streams, rounds;

    double memory_utilization;
    bool batch_invariant, enforce_eager;

    device_choice choice;
    model *model;
    backend *backend;
    thread_pool *pool; /* CPU: for the ceilings; asleep while the backend works */
    uint8_t *memory;   /* CPU: [READ_BYTES] */
    uint32_t *tokens;  /* [streams] of a decode step */
    uint32_t *ids;     /* [streams * (prompt + output)] */
    uint32_t *blocks;  /* [streams * blocks_per_stream] */
    uint32_t blocks_per_stream;
    step_sequence *sequences; /* [streams] */
    sampled_token *sampled;   /* [streams] */
    sampling_params greedy;

    _Atomic uint64_t read_sum;
    device_ceilings ceilings;
    double page_cache_bytes_per_s;
    double prefill_s, decode_s; /* all prompts; one step of all streams, on average */
    uint64_t load_begin_ns;
    double upload_s; /* from the mapped model to weights on the device */
    double load_s;   /* to a backend that is ready */
} bench;

static double seconds_since(uint64_t start_ns)
{
    return (double)(clock_now_ns() - start_ns) * 1e-9;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* 0 is "not measured yet". */
static double shorter(double a, double b)
{
    return a == 0.0 || b < a ? b : a;
}

/* -- ceilings ------------------------------------------------------------------ */

static void read_piece(void *ctx, uint32_t item, uint32_t thread)
{
    (void)thread;
    bench *s = ctx;
    const uint64_t *words = (const uint64_t *)(s->memory + item * READ_PIECE);
    uint64_t sums[16] = {0};
    for (size_t i = 0; i < READ_PIECE / sizeof *words; i += 16)
        for (size_t k = 0; k < 16; k++)
            sums[k] += words[i + k];
    uint64_t total = 0;
    for (size_t k = 0; k < 16; k++)
        total += sums[k];
    atomic_fetch_add(&s->read_sum, total); /* without a use of it there would be no loop */
}

static void burn_piece(void *ctx, uint32_t item, uint32_t thread)
{
    (void)ctx, (void)item, (void)thread;
    size_t count;
    float sink = 0.5f;
    cpu_kernels_available(&count)[0]->burn(BURN_ROUNDS / 10, &sink);
}

static void measure_cpu_ceilings(bench *s)
{
    uint64_t start = clock_now_ns();
    thread_pool_run(s->pool, READ_BYTES / READ_PIECE, read_piece, s);
    s->ceilings.read_bytes_per_s =
        larger(s->ceilings.read_bytes_per_s, (double)READ_BYTES / seconds_since(start));

    size_t count;
    float sink = 0.5f;
    uint64_t flops = cpu_kernels_available(&count)[0]->burn(1, &sink) * (BURN_ROUNDS / 10);
    uint32_t pieces = 10u * thread_pool_size(s->pool);
    start = clock_now_ns();
    thread_pool_run(s->pool, pieces, burn_piece, s);
    s->ceilings.flops_per_s =
        larger(s->ceilings.flops_per_s, (double)flops * (double)pieces / seconds_since(start));
}

static uint64_t elements(const weight *w)
{
    return (uint64_t)w->rows * w->cols;
}

static uint64_t weight_bytes(const weight *w)
{
    return elements(w) * dtype_size(w->type);
}

typedef struct cache_reader {
    const model *model;
    uint8_t *pieces; /* [threads][CACHE_PIECE] */
    _Atomic bool failed;
} cache_reader;

static void read_cached_piece(void *ctx, uint32_t item, uint32_t thread)
{
    cache_reader *r = ctx;
    const weight *w = &r->model->embedding;
    uint64_t size = weight_bytes(w);
    uint64_t piece = size < CACHE_PIECE ? size : CACHE_PIECE;
    uint64_t begin = item % (size / piece) * piece;
    error err;
    if (model_read(r->model, (const uint8_t *)w->data + begin, piece,
                   r->pieces + thread * CACHE_PIECE, &err) != ST_OK)
        atomic_store(&r->failed, true);
}

/* How fast all cores together read weights that the page cache holds, after a first round that
 * brings them there. */
static status measure_page_cache(bench *s, error *err)
{
    thread_pool *pool;
    status st = thread_pool_create(&pool, thread_pool_cores(), err);
    if (st != ST_OK) return st;
    cache_reader reader = {.model = s->model,
                           .pieces = mem_alloc(thread_pool_size(pool) * CACHE_PIECE)};
    thread_pool_run(pool, CACHE_READS, read_cached_piece, &reader);
    uint64_t begin = clock_now_ns();
    thread_pool_run(pool, CACHE_READS, read_cached_piece, &reader);
    uint64_t size = weight_bytes(&s->model->embedding);
    if (size > CACHE_PIECE) size = CACHE_PIECE;
    s->page_cache_bytes_per_s = (double)(CACHE_READS * size) / seconds_since(begin);
    mem_free(reader.pieces);
    thread_pool_destroy(pool);
    return reader.failed ? error_set(err, ST_UNAVAILABLE, "cannot read the weights") : ST_OK;
}

/* -- figures ------------------------------------------------------------------- */

static status prefill_stream(bench *s, uint32_t stream, error *err)
{
    step_sequence *seq = &s->sequences[stream];
    uint32_t chunk = s->backend->capacity.step_tokens;
    for (uint32_t done = 0; done < s->prompt_tokens; done += seq->token_count) {
        uint32_t left = s->prompt_tokens - done;
        seq->token_begin = 0;
        seq->token_count = left < chunk ? left : chunk;
        seq->position = done;
        seq->wants_sample = seq->token_count == left;
        step_plan plan = {.tokens = seq->context.ids + done,
                          .token_count = seq->token_count,
                          .sequences = seq,
                          .sequence_count = 1};
        status st = backend_step(s->backend, &plan, &s->sampled[stream], err);
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

static uint32_t *stream_ids(const bench *s, uint32_t stream)
{
    return s->ids + (size_t)stream * (s->prompt_tokens + s->output_tokens);
}

/* Step `index` of the answers: its input ids are here where the step before is collected. */
static status submit_decode(bench *s, uint32_t index, error *err)
{
    bool known = index == 0 || s->backend->capacity.steps_ahead == 0;
    for (uint32_t i = 0; i < s->streams; i++) {
        step_sequence *seq = &s->sequences[i];
        s->tokens[i] = known ? s->sampled[i].id : STEP_TOKEN_PENDING;
        stream_ids(s, i)[s->prompt_tokens + index] = s->tokens[i];
        seq->token_begin = i;
        seq->token_count = 1;
        seq->position = s->prompt_tokens + index;
        seq->wants_sample = true;
        seq->context.id_count = seq->position + 1;
    }
    step_plan plan = {.tokens = s->tokens,
                      .token_count = s->streams,
                      .sequences = s->sequences,
                      .sequence_count = s->streams};
    return backend_submit(s->backend, &plan, err);
}

static status decode_all(bench *s, error *err)
{
    uint32_t submitted = 0, ahead = s->backend->capacity.steps_ahead;
    status st = ST_OK;
    for (uint32_t collected = 0; collected < s->output_tokens && st == ST_OK; collected++) {
        for (; submitted <= collected + ahead && submitted < s->output_tokens && st == ST_OK;
             submitted++)
            st = submit_decode(s, submitted, err);
        if (st == ST_OK) st = backend_collect(s->backend, s->sampled, err);
    }
    return st;
}

static status measure_round(bench *s, error *err)
{
    if (s->choice.cuda == NULL) measure_cpu_ceilings(s);
    uint64_t start = clock_now_ns();
    for (uint32_t i = 0; i < s->streams; i++) {
        s->sequences[i].context.id_count = s->prompt_tokens;
        status st = prefill_stream(s, i, err);
        if (st != ST_OK) return st;
    }
    s->prefill_s = shorter(s->prefill_s, seconds_since(start));

    start = clock_now_ns();
    status st = decode_all(s, err);
    s->decode_s = shorter(s->decode_s, seconds_since(start) / s->output_tokens);
    return st;
}

/* -- sums ---------------------------------------------------------------------- */

static double prefill_flops(const bench *s)
{
    const model *m = s->model;
    uint64_t matrices = 0;
    for (uint32_t l = 0; l < m->config.layer_count; l++) {
        const layer_weights *w = &m->layers[l];
        matrices += elements(&w->q) + elements(&w->k) + elements(&w->v) + elements(&w->o) +
                    elements(&w->gate) + elements(&w->up) + elements(&w->down);
    }
    double tokens = s->prompt_tokens;
    /* Scores and sums of values: two multiply-adds for each position a token sees. */
    double attention = tokens * (tokens + 1) / 2 * 4.0 * m->config.layer_count *
                       m->config.head_count * m->config.head_dim;
    double head = 2.0 * (double)elements(&m->head);
    return s->streams * (2.0 * (double)matrices * tokens + attention + head);
}

static double decode_bytes(const bench *s)
{
    const model *m = s->model;
    double weights = (double)m->weight_bytes;
    if (m->head.data != m->embedding.data)
        weights -= (double)(elements(&m->embedding) * dtype_size(m->embedding.type));
    double positions = s->prompt_tokens + s->output_tokens / 2.0;
    double kv_token = (double)s->backend->capacity.kv_block_bytes / LIMIT_KV_BLOCK_TOKENS;
    return weights + s->streams * positions * kv_token;
}

static void print_line(const char *kind, uint32_t size, double figure, const char *unit,
                       double ceiling)
{
    char work[32];
    snprintf(work, sizeof work, "%s_%u", kind, size);
    fprintf(stderr, "%-14s %10.1f %-8s  of %10.1f  %5.1f %%\n", work, figure, unit, ceiling,
            100.0 * figure / ceiling);
    printf("%s,%.2f,%s,%.2f,%.3f\n", work, figure, unit, ceiling, figure / ceiling);
}

static void print_results(const bench *s)
{
    double step_bytes = decode_bytes(s), flops = prefill_flops(s);
    double tokens = (double)s->prompt_tokens * s->streams;
    fprintf(stderr,
            "%s\n%s, %.1f MiB of weights; prompt of %u, %u decode steps, %u streams; best of %u "
            "rounds\nceilings: %.1f GB/s read, %.1f GFLOP/s multiply-add\n",
            s->backend->device, s->model->config.architecture,
            (double)s->model->weight_bytes / LIMIT_MIB, s->prompt_tokens, s->output_tokens,
            s->streams, s->rounds, s->ceilings.read_bytes_per_s * 1e-9,
            s->ceilings.flops_per_s * 1e-9);
    puts("work,figure,unit,ceiling,ratio");
    print_line("decode", s->streams, s->streams / s->decode_s, "token/s",
               s->streams * s->ceilings.read_bytes_per_s / step_bytes);
    print_line("decode", s->streams, step_bytes / s->decode_s * 1e-9, "GB/s",
               s->ceilings.read_bytes_per_s * 1e-9);
    print_line("prefill", s->prompt_tokens, tokens / s->prefill_s, "token/s",
               tokens * s->ceilings.flops_per_s / flops);
    print_line("prefill", s->prompt_tokens, flops / s->prefill_s * 1e-9, "GFLOP/s",
               s->ceilings.flops_per_s * 1e-9);
    if (s->choice.cuda == NULL || s->model->is_dummy) return;
    fprintf(stderr, "ready after %.2f s; reading from the page cache %.1f GB/s, PCIe %.1f GB/s\n",
            s->load_s, s->page_cache_bytes_per_s * 1e-9, s->ceilings.upload_bytes_per_s * 1e-9);
    print_line("upload", (uint32_t)((double)s->model->weight_bytes / LIMIT_MIB),
               (double)s->model->weight_bytes / s->upload_s * 1e-9, "GB/s",
               shorter(s->ceilings.upload_bytes_per_s, s->page_cache_bytes_per_s) * 1e-9);
}

/* -- setup --------------------------------------------------------------------- */

static status parse(bench *s, int argc, char **argv, error *err)
{
    const option_row rows[] = {
        {"model", 'm', OPTION_TEXT, &s->dir, "MODEL",
         "Hugging Face model folder, or ORG/NAME that was pulled", 0, 0},
        {"load-format", 0, OPTION_TEXT, &s->load_format, "FORMAT",
         "safetensors or dummy (random weights) [safetensors]", 0, 0},
        {"device", 0, OPTION_TEXT, &s->device, "DEVICE", "cpu or cuda:N [cpu]", 0, 0},
        {"threads", 't', OPTION_U32, &s->threads, "N", "CPU threads [all]", 0,
         THREAD_POOL_THREADS_MAX},
        {"prompt-tokens", 0, OPTION_U32, &s->prompt_tokens, "N", "of each stream [512]", 1,
         LIMIT_CONTEXT_TOKENS / 2.0},
        {"output-tokens", 0, OPTION_U32, &s->output_tokens, "N", "decode steps [32]", 1,
         LIMIT_CONTEXT_TOKENS / 2.0},
        {"streams", 0, OPTION_U32, &s->streams, "N", "decoded together [1]", 1,
         LIMIT_STEP_SEQUENCES},
        {"rounds", 0, OPTION_U32, &s->rounds, "N", "the best counts [5]", 1, 1000},
        {"gpu-memory-utilization", 0, OPTION_F64, &s->memory_utilization, "SHARE",
         "of a GPU's memory [0.90]", 0.05, 1.0},
        {"batch-invariant", 0, OPTION_FLAG, &s->batch_invariant, NULL,
         "GPU: the same bits whatever else runs", 0, 0},
        {"enforce-eager", 0, OPTION_FLAG, &s->enforce_eager, NULL, "GPU: no CUDA graphs", 0, 0},
    };
    const option_table table = {
        .usage = "gaggle-worker bench -m DIR [options]",
        .about = "Measures decode and prefill beside the machine's memory bandwidth and "
                 "arithmetic.",
        .rows = rows,
        .row_count = sizeof rows / sizeof rows[0],
    };
    status st = options_parse(&table, argc, argv, NULL, err);
    if (st != ST_OK) return st;
    if (s->dir == NULL)
        return error_set(err, ST_INVALID_ARGUMENT, "no model: give -m DIR, with a config.json");
    if (strcmp(s->load_format, "dummy") != 0 && strcmp(s->load_format, "safetensors") != 0)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "--load-format is '%s'; it must be safetensors or dummy", s->load_format);
    return device_choose(&s->choice, s->device, err);
}

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    bench *s = ctx;
    if (done == total) s->upload_s = seconds_since(s->load_begin_ns);
}

static status create_backend(bench *s, error *err)
{
    load_format format = device_load_format(&s->choice, strcmp(s->load_format, "dummy") == 0);
    char *dir;
    status st = find_model(&dir, s->dir, err);
    if (st != ST_OK) return st;
    if (s->choice.cuda != NULL)
        st = s->choice.cuda->measure_ceilings(s->choice.ordinal, &s->ceilings, err);
    if (st == ST_OK) st = model_load(&s->model, dir, format, NULL, NULL, err);
    mem_free(dir);
    if (st != ST_OK) return st;
    uint32_t tokens = s->prompt_tokens + s->output_tokens;
    if (tokens > s->model->config.context_max)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "prompt and output are %u tokens; the model's context is %u", tokens,
                         s->model->config.context_max);
    model_limit_context(s->model, tokens);
    backend_options options = {.threads = s->threads,
                               .step_sequences = s->streams,
                               .memory_utilization = s->memory_utilization,
                               .batch_invariant = s->batch_invariant,
                               .eager = s->enforce_eager};
    char plan[CUDA_PLAN_TEXT];
    s->load_begin_ns = clock_now_ns();
    st = device_create_backend(&s->backend, &s->choice, s->model, &options, on_progress, s, plan,
                               err);
    if (st != ST_OK) return st;
    s->load_s = seconds_since(s->load_begin_ns);
    if (s->choice.cuda != NULL && !s->model->is_dummy) st = measure_page_cache(s, err);
    if (st != ST_OK) return st;
    fputs(plan, stderr);
    s->blocks_per_stream = (tokens + LIMIT_KV_BLOCK_TOKENS - 1) / LIMIT_KV_BLOCK_TOKENS;
    uint64_t needed = (uint64_t)s->blocks_per_stream * s->streams;
    const backend_capacity *capacity = &s->backend->capacity;
    if (needed > capacity->kv_blocks)
        return error_set(err, ST_RESOURCE_EXHAUSTED,
                         "%u streams of %u tokens need %llu KV blocks; there are %u", s->streams,
                         tokens, (unsigned long long)needed, capacity->kv_blocks);
    if (s->streams > capacity->step_tokens)
        return error_set(err, ST_RESOURCE_EXHAUSTED, "%u streams; a step holds %u tokens",
                         s->streams, capacity->step_tokens);
    return ST_OK;
}

static status create_streams(bench *s, error *err)
{
    uint32_t tokens = s->prompt_tokens + s->output_tokens;
    s->ids = mem_calloc((size_t)tokens * s->streams, sizeof *s->ids);
    s->blocks = mem_calloc((size_t)s->blocks_per_stream * s->streams, sizeof *s->blocks);
    s->sequences = mem_calloc(s->streams, sizeof *s->sequences);
    s->sampled = mem_calloc(s->streams, sizeof *s->sampled);
    s->greedy = sampling_params_default();
    s->greedy.temperature = 0.0f;
    for (uint32_t i = 0; i < s->blocks_per_stream * s->streams; i++)
        s->blocks[i] = i;
    for (uint32_t i = 0; i < s->streams; i++) {
        uint32_t *ids = stream_ids(s, i);
        for (uint32_t k = 0; k < tokens; k++)
            ids[k] = (k * 7919u + i * 104729u) % s->model->config.vocab_size;
        s->sequences[i] =
            (step_sequence){.key = i,
                            .slot = i,
                            .blocks = s->blocks + (size_t)i * s->blocks_per_stream,
                            .block_count = s->blocks_per_stream,
                            .sampling = &s->greedy,
                            .context = {.ids = ids, .prompt_count = s->prompt_tokens}};
    }
    s->tokens = mem_calloc(s->streams, sizeof *s->tokens);
    if (s->choice.cuda != NULL) return ST_OK;
    s->memory = memory_reserve(READ_BYTES);
    if (s->memory == NULL)
        return error_set(err, ST_RESOURCE_EXHAUSTED, "no memory for the bandwidth's ceiling");
    memset(s->memory, 0, READ_BYTES); /* pages of its own, not one page of zeros many times */
    return thread_pool_create(&s->pool, s->threads > 0 ? s->threads : thread_pool_cores(), err);
}

static void bench_fini(bench *s)
{
    thread_pool_destroy(s->pool);
    if (s->memory != NULL) memory_release(s->memory, READ_BYTES);
    mem_free(s->tokens);
    mem_free(s->sampled);
    mem_free(s->sequences);
    mem_free(s->blocks);
    mem_free(s->ids);
    backend_destroy(s->backend);
    model_destroy(s->model);
}

int worker_bench(int argc, char **argv)
{
    bench s = {.load_format = "safetensors",
               .device = "cpu",
               .prompt_tokens = 512,
               .output_tokens = 32,
               .streams = 1,
               .rounds = 5};
    error err = {0};
    status st = parse(&s, argc, argv, &err);
    if (st == ST_OK) st = create_backend(&s, &err);
    if (st == ST_OK) st = create_streams(&s, &err);
    for (uint32_t i = 0; i < s.rounds && st == ST_OK; i++)
        st = measure_round(&s, &err);
    if (st == ST_OK) print_results(&s);
    bench_fini(&s);
    if (st == ST_OK) return 0;
    fprintf(stderr, "gaggle-worker bench: %s\n", err.text);
    return st == ST_INVALID_ARGUMENT ? 2 : 1;
}
