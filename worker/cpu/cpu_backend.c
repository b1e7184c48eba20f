#include "worker/cpu/cpu_backend.h"

#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/mem.h"
#include "worker/cpu/memory.h"

static uint64_t max_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t min_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* -- vectors ------------------------------------------------------------------- */

/* Norms and biases are small and read by every token, so they are widened once. */
static const float *widen_vector(cpu_backend *b, float **cursor, const weight *w)
{
    if (w->data == NULL) return NULL;
    float *out = *cursor;
    *cursor += w->cols;
    b->kernels->widen(out, w->data, w->type, w->cols);
    return out;
}

/* A norm's weight counts as 1 + w in some models. */
static const float *widen_norm(cpu_backend *b, float **cursor, const weight *w)
{
    float *out = *cursor;
    if (widen_vector(b, cursor, w) == NULL) return NULL;
    if (b->model->config.norm_plus_one)
        for (uint32_t i = 0; i < w->cols; i++)
            out[i] += 1.0f;
    return out;
}

static size_t vector_floats(const model *m)
{
    size_t sum = m->final_norm.cols;
    for (uint32_t l = 0; l < m->config.layer_count; l++) {
        const layer_weights *w = &m->layers[l];
        const weight *all[] = {&w->input_norm,    &w->mlp_norm,  &w->post_attention_norm,
                               &w->post_mlp_norm, &w->q_norm,    &w->k_norm,
                               &w->q_bias,        &w->k_bias,    &w->v_bias,
                               &w->o_bias,        &w->gate_bias, &w->up_bias,
                               &w->down_bias};
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
            if (all[i]->data != NULL) sum += all[i]->cols;
    }
    return sum;
}

static bool create_vectors(cpu_backend *b)
{
    const model *m = b->model;
    b->vectors = mem_try_alloc(vector_floats(m), sizeof(float));
    if (b->vectors == NULL) return false;
    b->layers = mem_calloc(m->config.layer_count, sizeof *b->layers);
    float *cursor = b->vectors;
    b->final_norm = widen_norm(b, &cursor, &m->final_norm);
    for (uint32_t l = 0; l < m->config.layer_count; l++) {
        const layer_weights *w = &m->layers[l];
        b->layers[l] = (cpu_layer){
            .input_norm = widen_norm(b, &cursor, &w->input_norm),
            .mlp_norm = widen_norm(b, &cursor, &w->mlp_norm),
            .post_attention_norm = widen_norm(b, &cursor, &w->post_attention_norm),
            .post_mlp_norm = widen_norm(b, &cursor, &w->post_mlp_norm),
            .q_norm = widen_norm(b, &cursor, &w->q_norm),
            .k_norm = widen_norm(b, &cursor, &w->k_norm),
            .q_bias = widen_vector(b, &cursor, &w->q_bias),
            .k_bias = widen_vector(b, &cursor, &w->k_bias),
            .v_bias = widen_vector(b, &cursor, &w->v_bias),
            .o_bias = widen_vector(b, &cursor, &w->o_bias),
            .gate_bias = widen_vector(b, &cursor, &w->gate_bias),
            .up_bias = widen_vector(b, &cursor, &w->up_bias),
            .down_bias = widen_vector(b, &cursor, &w->down_bias),
        };
    }
    uint32_t pairs = m->config.rotary_dim / 2;
    b->rope_frequencies = mem_calloc((size_t)m->config.rope_count * pairs, sizeof(float));
    for (uint32_t r = 0; r < m->config.rope_count; r++)
        model_config_rope_frequencies(&m->config, r, b->rope_frequencies + (size_t)r * pairs);
    return true;
}

/* -- KV ------------------------------------------------------------------------ */

#define KV_BYTES_UNKNOWN   (1024ull * LIMIT_MIB) /* where the system does not say what is free */
#define KV_SEQUENCES_ASKED 16u /* whole contexts that the default makes room for, if it can */

static uint64_t default_kv_bytes(const cpu_backend *b, uint64_t available)
{
    uint64_t blocks_per_context =
        (b->model->config.context_max + LIMIT_KV_BLOCK_TOKENS - 1) / LIMIT_KV_BLOCK_TOKENS;
    uint64_t wanted = KV_SEQUENCES_ASKED * blocks_per_context * b->base.capacity.kv_block_bytes;
    return min_of(wanted, available > 0 ? available / 4 : KV_BYTES_UNKNOWN);
}

static status create_kv(cpu_backend *b, uint64_t kv_bytes, error *err)
{
    const model_config *config = &b->model->config;
    b->head_block_floats = (size_t)LIMIT_KV_BLOCK_TOKENS *
                           (config->head_dim + attention_value_stride(config->head_dim));
    uint64_t block_bytes = (uint64_t)config->layer_count * config->kv_head_count *
                           b->head_block_floats * sizeof(float);
    b->base.capacity.kv_block_bytes = block_bytes;
    uint64_t available = memory_available();
    if (kv_bytes == 0) kv_bytes = default_kv_bytes(b, available);
    if (available > 0 && kv_bytes > available)
        return error_set(
            err, ST_RESOURCE_EXHAUSTED, "kv_bytes is %llu MiB; this machine has %llu MiB to give",
            (unsigned long long)kv_bytes / LIMIT_MIB, (unsigned long long)available / LIMIT_MIB);
    uint64_t blocks = kv_bytes / block_bytes;
    if (blocks == 0)
        return error_set(err, ST_RESOURCE_EXHAUSTED,
                         "kv_bytes is %llu; one block of %u tokens of this model needs %llu",
                         (unsigned long long)kv_bytes, LIMIT_KV_BLOCK_TOKENS,
                         (unsigned long long)block_bytes);
    b->base.capacity.kv_blocks = (uint32_t)min_of(blocks, UINT32_MAX);
    b->kv_bytes = b->base.capacity.kv_blocks * block_bytes;
    b->kv = memory_reserve(b->kv_bytes);
    if (b->kv == NULL)
        return error_set(err, ST_RESOURCE_EXHAUSTED, "%llu MiB for KV could not be had",
                         (unsigned long long)b->kv_bytes / LIMIT_MIB);
    return ST_OK;
}

/* -- scratch ------------------------------------------------------------------- */

static uint32_t clamp_u32(uint64_t value, uint32_t low, uint32_t high)
{
    return value < low ? low : value > high ? high : (uint32_t)value;
}

static uint64_t activation_bytes_per_token(const cpu_backend *b)
{
    return (b->model->config.hidden_size + b->narrow_stride + b->wide_stride +
            cpu_angles_stride(b) + (uint64_t)GATE_ROWS * thread_pool_size(b->pool)) *
           sizeof(float);
}

/* Rows that a matrix kernel reads side by side: an odd number of cache lines apart, because at a
 * power of two they would all want the same few places of L1. */
static size_t row_stride(uint64_t floats_needed)
{
    return ((floats_needed + 15u) / 16u | 1u) * 16u;
}

static void choose_step_size(cpu_backend *b, const backend_options *options)
{
    const model_config *config = &b->model->config;
    uint32_t q = config->head_count * config->head_dim;
    uint32_t kv = config->kv_head_count * config->head_dim;
    b->narrow_stride = row_stride(max_of(config->hidden_size, q));
    uint64_t wide = max_of(q + 2u * kv, config->intermediate_size);
    b->wide_stride = row_stride(config->sandwich_norms ? max_of(wide, config->hidden_size) : wide);

    uint32_t tokens = options->step_tokens;
    if (tokens == 0)
        tokens = clamp_u32(ACTIVATION_BYTES / activation_bytes_per_token(b) / 16u * 16u, 16u,
                           STEP_TOKENS_DEFAULT);
    uint32_t sequences = options->step_sequences;
    if (sequences == 0) sequences = (uint32_t)min_of(STEP_SEQUENCES_DEFAULT, tokens);
    b->base.capacity.step_tokens = tokens;
    b->base.capacity.step_sequences = sequences;
}

/* Enough for a few tokens' parts at the longest context the KV holds, if that is within bounds:
 * with more tokens there are items enough without parts. */
#define PARTIALS_TOKENS 8u

static size_t partials_needed(const cpu_backend *b)
{
    const model_config *config = &b->model->config;
    uint64_t positions =
        min_of((uint64_t)b->base.capacity.kv_blocks * LIMIT_KV_BLOCK_TOKENS, config->context_max);
    uint64_t parts = (positions + ATTENTION_PART_TOKENS - 1) / ATTENTION_PART_TOKENS;
    uint64_t floats =
        PARTIALS_TOKENS * parts * config->head_count * attention_record_stride(config->head_dim);
    return min_of(floats, PARTIALS_BYTES / sizeof(float));
}

/* Zeroed, aligned to cache lines; never NULL for a count of 0. */
static float *floats(uint64_t count)
{
    size_t padded = (size_t)(count + 15u);
    return mem_try_alloc_aligned(64, padded * sizeof(float));
}

static bool create_scratch(cpu_backend *b)
{
    const model_config *config = &b->model->config;
    uint64_t tokens = b->base.capacity.step_tokens;
    uint64_t threads = thread_pool_size(b->pool);
    uint32_t group = config->head_count / config->kv_head_count;

    b->tile_tokens = clamp_u32(ATTENTION_TILE_ROWS / group, 1, ATTENTION_TILE_ROWS);
    b->records_floats = (size_t)b->tile_tokens * group * attention_record_stride(config->head_dim);
    b->partials_floats = partials_needed(b);
    b->logits_rows = clamp_u32(LOGITS_BYTES / sizeof(float) / config->vocab_size, 1,
                               b->base.capacity.step_sequences);

    b->residual = floats(tokens * config->hidden_size);
    b->narrow = floats(tokens * b->narrow_stride);
    b->wide = floats(tokens * b->wide_stride);
    b->angles = floats(tokens * cpu_angles_stride(b));
    b->gate = floats(threads * tokens * GATE_ROWS);
    b->records = floats(threads * 2u * b->records_floats);
    b->partials = floats(b->partials_floats);
    b->logits = floats((uint64_t)b->logits_rows * config->vocab_size);
    b->positions = mem_calloc(tokens, sizeof *b->positions);
    b->kv_blocks = mem_calloc(tokens, sizeof *b->kv_blocks);
    b->tiles = mem_calloc(tokens, sizeof *b->tiles);
    b->wanted = mem_calloc(b->base.capacity.step_sequences, sizeof *b->wanted);
    b->row_status = mem_calloc(b->logits_rows, sizeof *b->row_status);
    b->sampled = mem_alloc(b->base.capacity.step_sequences * sizeof *b->sampled);
    b->sampler_count =
        clamp_u32(min_of(threads, SAMPLERS_BYTES / SAMPLER_TOKEN_BYTES / config->vocab_size), 1,
                  SAMPLERS_MAX);
    for (uint32_t i = 0; i < b->sampler_count; i++)
        b->samplers[i] = sampler_create(config->vocab_size);
    return b->residual != NULL && b->narrow != NULL && b->wide != NULL && b->angles != NULL &&
           b->gate != NULL && b->records != NULL && b->partials != NULL && b->logits != NULL;
}

/* Every table of kernels, any number of threads and every machine compute the same (kernels.h), so
 * this says all. Count the number up with any change that changes a bit of any answer. */
#define CPU_NUMERICS "cpu f32 1"

/* -- the object ---------------------------------------------------------------- */

static void describe_device(cpu_backend *b)
{
    char name[64] = "processor";
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "model name : %63[^\n]", name) == 1) break;
    if (file != NULL) fclose(file);
    snprintf(b->base.device, sizeof b->base.device, "cpu: %s, %u threads, %s", name,
             thread_pool_size(b->pool), b->kernels->name);
    snprintf(b->base.numerics, sizeof b->base.numerics, CPU_NUMERICS);
}

static status check_options(const backend_options *options, const model *m, error *err)
{
    if (options->threads > THREAD_POOL_THREADS_MAX)
        return error_set(err, ST_INVALID_ARGUMENT, "threads is %u; the limit is %u",
                         options->threads, THREAD_POOL_THREADS_MAX);
    if (options->step_tokens > LIMIT_STEP_TOKENS)
        return error_set(err, ST_INVALID_ARGUMENT, "step_tokens is %u; the limit is %u",
                         options->step_tokens, LIMIT_STEP_TOKENS);
    if (options->step_sequences > LIMIT_STEP_SEQUENCES)
        return error_set(err, ST_INVALID_ARGUMENT, "step_sequences is %u; the limit is %u",
                         options->step_sequences, LIMIT_STEP_SEQUENCES);
    if (options->vocab_used > m->config.vocab_size)
        return error_set(err, ST_INVALID_ARGUMENT, "vocab_used is %u; the model has %u rows",
                         options->vocab_used, m->config.vocab_size);
    return ST_OK;
}

/* The step runs here and now; collect() only hands over what it sampled. */
static status submit(backend *base, const step_plan *plan, error *err)
{
    cpu_backend *b = (cpu_backend *)base;
    b->sampled_count = 0;
    for (uint32_t i = 0; i < plan->sequence_count; i++)
        b->sampled_count += plan->sequences[i].wants_sample;
    return cpu_forward(b, plan, b->sampled, err);
}

static status collect(backend *base, sampled_token *sampled, error *err)
{
    (void)err;
    const cpu_backend *b = (const cpu_backend *)base;
    if (b->sampled_count > 0) memcpy(sampled, b->sampled, b->sampled_count * sizeof *sampled);
    return ST_OK;
}

static void destroy(backend *base)
{
    cpu_backend *b = (cpu_backend *)base;
    for (uint32_t i = 0; i < b->sampler_count; i++)
        sampler_destroy(b->samplers[i]);
    mem_free(b->row_status);
    mem_free(b->sampled);
    mem_free(b->wanted);
    mem_free(b->tiles);
    mem_free(b->kv_blocks);
    mem_free(b->positions);
    mem_free(b->logits);
    mem_free(b->partials);
    mem_free(b->records);
    mem_free(b->gate);
    mem_free(b->angles);
    mem_free(b->wide);
    mem_free(b->narrow);
    mem_free(b->residual);
    memory_release(b->kv, b->kv_bytes);
    mem_free(b->rope_frequencies);
    mem_free(b->layers);
    mem_free(b->vectors);
    thread_pool_destroy(b->pool);
    mem_free(b);
}

static const backend_class cpu_class = {.submit = submit, .collect = collect, .destroy = destroy};

status cpu_backend_create_with(backend **out, const model *m, const backend_options *options,
                               const cpu_kernels *kernels, error *err)
{
    status st = check_options(options, m, err);
    if (st != ST_OK) return st;
    cpu_backend *b = mem_calloc(1, sizeof *b);
    b->base.class = &cpu_class;
    b->model = m;
    b->kernels = kernels;
    b->vocab_used = options->vocab_used > 0 ? options->vocab_used : m->config.vocab_size;
    uint32_t threads = options->threads > 0 ? options->threads : thread_pool_cores();
    st = thread_pool_create(&b->pool, clamp_u32(threads, 1, THREAD_POOL_THREADS_MAX), err);
    if (st != ST_OK) goto fail;
    choose_step_size(b, options);
    st = create_kv(b, options->kv_bytes, err);
    if (st != ST_OK) goto fail;
    if (!create_vectors(b) || !create_scratch(b)) {
        st =
            error_set(err, ST_RESOURCE_EXHAUSTED, "no memory for the scratch of steps of %u tokens",
                      b->base.capacity.step_tokens);
        goto fail;
    }
    describe_device(b);
    *out = &b->base;
    return ST_OK;
fail:
    destroy(&b->base);
    return st;
}

status cpu_backend_create(backend **out, const model *m, const backend_options *options, error *err)
{
    size_t count;
    return cpu_backend_create_with(out, m, options, cpu_kernels_available(&count)[0], err);
}
