/* forward: one step through the model, from token ids to sampled ids.
 *
 *   embed
 *   each layer   norm -> q k v -> (norm,) rotate, store KV -> attention -> o (-> norm)
 *                norm -> gate, up, activation -> down (-> norm)     (each added to the residual)
 *   the rows whose logits are wanted: norm -> head -> sample
 *
 * Every line is one job for the thread pool: its items write different places, and the next job
 * starts when all are done. Items are cut by rows of a weight or by tokens, never along a sum.
 *
 * config.h has the formulas. What is in parentheses is there where the model has it. */
#include <string.h>

#include "common/check.h"
#include "worker/cpu/cpu_backend.h"
#include "worker/cpu/rope_table.h"

#define TOKENS_PER_ITEM 8u /* of the jobs that are cut by tokens */

void cpu_run_items(cpu_backend *b, uint32_t count, uint64_t work, thread_pool_item run, void *ctx)
{
    if (work >= SERIAL_WORK) {
        thread_pool_run(b->pool, count, run, ctx);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        run(ctx, i, 0);
}

/* -- jobs cut by tokens -------------------------------------------------------- */

typedef struct token_job {
    cpu_backend *b;
    const step_plan *plan;
    uint32_t layer;
    const float *norm;
    uint32_t token_count;
} token_job;

static void run_tokens(token_job *job, uint64_t work_per_token, thread_pool_item run)
{
    uint32_t items = (job->token_count + TOKENS_PER_ITEM - 1) / TOKENS_PER_ITEM;
    cpu_run_items(job->b, items, work_per_token * job->token_count, run, job);
}

static uint32_t item_end(const token_job *job, uint32_t item)
{
    uint32_t end = (item + 1) * TOKENS_PER_ITEM;
    return end < job->token_count ? end : job->token_count;
}

static void embed_item(void *ctx, uint32_t item, uint32_t thread)
{
    (void)thread;
    const token_job *job = ctx;
    cpu_backend *b = job->b;
    const weight *table = &b->model->embedding;
    size_t row_bytes = table->cols * dtype_size(table->type);
    float scale = b->model->config.embedding_scale;
    for (uint32_t t = item * TOKENS_PER_ITEM; t < item_end(job, item); t++) {
        float *row = b->residual + (size_t)t * table->cols;
        b->kernels->widen(row, (const uint8_t *)table->data + job->plan->tokens[t] * row_bytes,
                          table->type, table->cols);
        if (scale == 1.0f) continue;
        for (uint32_t i = 0; i < table->cols; i++)
            row[i] *= scale;
    }
}

static void embed(cpu_backend *b, const step_plan *plan)
{
    token_job job = {.b = b, .plan = plan, .token_count = plan->token_count};
    run_tokens(&job, b->model->config.hidden_size, embed_item);
}

static void norm_item(void *ctx, uint32_t item, uint32_t thread)
{
    (void)thread;
    const token_job *job = ctx;
    cpu_backend *b = job->b;
    uint32_t hidden = b->model->config.hidden_size;
    for (uint32_t t = item * TOKENS_PER_ITEM; t < item_end(job, item); t++)
        b->kernels->rmsnorm(b->narrow + t * b->narrow_stride, b->residual + (size_t)t * hidden,
                            job->norm, hidden, b->model->config.rms_norm_eps);
}

static void norm(cpu_backend *b, const float *scale, uint32_t token_count)
{
    token_job job = {.b = b, .norm = scale, .token_count = token_count};
    run_tokens(&job, b->model->config.hidden_size, norm_item);
}

/* residual += norm(what `in` holds), which is normed in place. */
typedef struct norm_add_job {
    cpu_backend *b;
    float *in;
    size_t in_stride;
    const float *norm;
    uint32_t token_count;
} norm_add_job;

static void norm_add_item(void *ctx, uint32_t item, uint32_t thread)
{
    (void)thread;
    const norm_add_job *job = ctx;
    cpu_backend *b = job->b;
    uint32_t hidden = b->model->config.hidden_size;
    uint32_t begin = item * TOKENS_PER_ITEM;
    for (uint32_t t = begin; t < begin + TOKENS_PER_ITEM && t < job->token_count; t++) {
        float *row = job->in + t * job->in_stride;
        float *sum = b->residual + (size_t)t * hidden;
        b->kernels->rmsnorm(row, row, job->norm, hidden, b->model->config.rms_norm_eps);
        for (uint32_t i = 0; i < hidden; i++)
            sum[i] += row[i];
    }
}

static void norm_heads(cpu_backend *b, float *vectors, uint32_t heads, const float *norm)
{
    uint32_t head_dim = b->model->config.head_dim;
    for (uint32_t h = 0; norm != NULL && h < heads; h++) {
        float *head = vectors + (size_t)h * head_dim;
        b->kernels->rmsnorm(head, head, norm, head_dim, b->model->config.rms_norm_eps);
    }
}

static void store_kv(cpu_backend *b, uint32_t layer, uint32_t token, const float *keys,
                     const float *values)
{
    const model_config *config = &b->model->config;
    uint32_t head_dim = config->head_dim;
    uint32_t place = b->positions[token] % LIMIT_KV_BLOCK_TOKENS;
    for (uint32_t h = 0; h < config->kv_head_count; h++) {
        float *block = cpu_kv_block(b, layer, b->kv_blocks[token], h);
        for (uint32_t d = 0; d < head_dim; d++)
            block[(size_t)d * LIMIT_KV_BLOCK_TOKENS + place] = keys[(size_t)h * head_dim + d];
        float *value = block + (size_t)head_dim * LIMIT_KV_BLOCK_TOKENS +
                       place * attention_value_stride(head_dim);
        memcpy(value, values + (size_t)h * head_dim, head_dim * sizeof(float));
    }
}

static void rotate_item(void *ctx, uint32_t item, uint32_t thread)
{
    (void)thread;
    const token_job *job = ctx;
    cpu_backend *b = job->b;
    const model_config *config = &b->model->config;
    const cpu_layer *vectors = &b->layers[job->layer];
    uint32_t head_dim = config->head_dim, rotary_dim = config->rotary_dim;
    size_t rope = (size_t)config->layer_rope[job->layer] * rotary_dim;
    for (uint32_t t = item * TOKENS_PER_ITEM; t < item_end(job, item); t++) {
        const float *cosines = b->angles + t * cpu_angles_stride(b) + rope;
        const float *sines = cosines + rotary_dim / 2;
        float *queries = b->wide + t * b->wide_stride;
        float *keys = queries + (size_t)config->head_count * head_dim;
        float *values = keys + (size_t)config->kv_head_count * head_dim;
        norm_heads(b, queries, config->head_count, vectors->q_norm);
        norm_heads(b, keys, config->kv_head_count, vectors->k_norm);
        b->kernels->rope(queries, cosines, sines, config->head_count, head_dim, rotary_dim,
                         config->attention_scale);
        b->kernels->rope(keys, cosines, sines, config->kv_head_count, head_dim, rotary_dim, 1.0f);
        store_kv(b, job->layer, t, keys, values);
    }
}

static void rotate_and_store(cpu_backend *b, uint32_t layer, uint32_t token_count)
{
    const model_config *config = &b->model->config;
    token_job job = {.b = b, .layer = layer, .token_count = token_count};
    run_tokens(&job, (uint64_t)config->head_dim * (config->head_count + 2u * config->kv_head_count),
               rotate_item);
}

/* -- jobs cut by rows of weights ----------------------------------------------- */

#define MATMULS_MAX 3u

typedef struct matmul_job {
    cpu_backend *b;
    matmul of[MATMULS_MAX]; /* the same tokens and cols */
    uint32_t count;
    uint32_t rows_per_item;
} matmul_job;

/* Several items a thread, so that one that is held up does not hold up the rest; but not so small
 * that beginning one shows: the first rows of an item come from memory unforeseen. */
#define ITEMS_PER_THREAD 8u
#define ITEM_BYTES       (256u * 1024u)
#define ITEM_ROWS        8u /* a multiple of this: whole tiles */

static uint32_t rows_per_item(const cpu_backend *b, uint64_t rows, uint64_t row_bytes)
{
    uint64_t threads = thread_pool_size(b->pool);
    uint64_t share = rows / (ITEMS_PER_THREAD * threads);
    /* NOLINTNEXTLINE(clang-analyzer-core.DivideZero): no model has rows of nothing */
    uint64_t least = ITEM_BYTES / row_bytes;
    uint64_t most = (rows + threads - 1) / threads;
    if (share < least) share = least;
    if (share > most) share = most;
    return (uint32_t)((share + ITEM_ROWS - 1) / ITEM_ROWS * ITEM_ROWS);
}

static uint32_t items_of(const matmul_job *job, uint32_t i)
{
    return (job->of[i].rows + job->rows_per_item - 1) / job->rows_per_item;
}

/* Rows [begin, begin + count) of a matmul, as a matmul. */
static matmul matmul_slice(const matmul *m, uint32_t begin, uint32_t count)
{
    matmul slice = *m;
    slice.out += begin;
    slice.weight = (const uint8_t *)m->weight + (size_t)begin * m->cols * dtype_size(m->type);
    if (m->bias != NULL) slice.bias += begin;
    slice.rows = m->rows - begin < count ? m->rows - begin : count;
    return slice;
}

static void matmul_item(void *ctx, uint32_t item, uint32_t thread)
{
    (void)thread;
    const matmul_job *job = ctx;
    uint32_t i = 0;
    for (; item >= items_of(job, i); i++)
        item -= items_of(job, i);
    matmul slice = matmul_slice(&job->of[i], item * job->rows_per_item, job->rows_per_item);
    job->b->kernels->matmul(&slice);
}

static void run_matmuls(cpu_backend *b, matmul_job *job)
{
    uint64_t rows = 0;
    for (uint32_t i = 0; i < job->count; i++)
        rows += job->of[i].rows;
    job->b = b;
    job->rows_per_item = rows_per_item(b, rows, job->of[0].cols * dtype_size(job->of[0].type));
    uint32_t items = 0;
    for (uint32_t i = 0; i < job->count; i++)
        items += items_of(job, i);
    cpu_run_items(b, items, rows * job->of[0].cols * job->of[0].tokens, matmul_item, job);
}

static matmul matmul_of(const weight *w, const float *bias, const float *in, size_t in_stride,
                        float *out, size_t out_stride, uint32_t tokens)
{
    return (matmul){.out = out,
                    .out_stride = out_stride,
                    .in = in,
                    .in_stride = in_stride,
                    .weight = w->data,
                    .type = w->type,
                    .tokens = tokens,
                    .rows = w->rows,
                    .cols = w->cols,
                    .bias = bias};
}

static void project_qkv(cpu_backend *b, uint32_t layer, uint32_t tokens)
{
    const layer_weights *w = &b->model->layers[layer];
    const cpu_layer *vectors = &b->layers[layer];
    float *keys = b->wide + w->q.rows;
    float *values = keys + w->k.rows;
    matmul_job job = {
        .of = {matmul_of(&w->q, vectors->q_bias, b->narrow, b->narrow_stride, b->wide,
                         b->wide_stride, tokens),
               matmul_of(&w->k, vectors->k_bias, b->narrow, b->narrow_stride, keys, b->wide_stride,
                         tokens),
               matmul_of(&w->v, vectors->v_bias, b->narrow, b->narrow_stride, values,
                         b->wide_stride, tokens)},
        .count = 3,
    };
    run_matmuls(b, &job);
}

/* residual += in w + bias, by way of `scratch` where what is added is normed first. */
typedef struct scratch_rows {
    float *rows;
    size_t stride;
} scratch_rows;

static void add_to_residual(cpu_backend *b, const weight *w, const float *bias, const float *norm,
                            scratch_rows in, scratch_rows scratch, uint32_t tokens)
{
    scratch_rows out = norm != NULL ? scratch : (scratch_rows){b->residual, w->rows};
    matmul_job job = {.of = {matmul_of(w, bias, in.rows, in.stride, out.rows, out.stride, tokens)},
                      .count = 1};
    job.of[0].accumulate = norm == NULL;
    run_matmuls(b, &job);
    if (norm == NULL) return;
    norm_add_job add = {.b = b,
                        .in = scratch.rows,
                        .in_stride = scratch.stride,
                        .norm = norm,
                        .token_count = tokens};
    cpu_run_items(b, (tokens + TOKENS_PER_ITEM - 1) / TOKENS_PER_ITEM, (uint64_t)tokens * w->rows,
                  norm_add_item, &add);
}

/* Gate rows into the thread's scratch, the same up rows into `wide`, then the activation while both
 * are in cache. */
static void gate_up_item(void *ctx, uint32_t item, uint32_t thread)
{
    const matmul_job *job = ctx;
    cpu_backend *b = job->b;
    uint32_t begin = item * job->rows_per_item;
    matmul gate = matmul_slice(&job->of[0], begin, job->rows_per_item);
    matmul up = matmul_slice(&job->of[1], begin, job->rows_per_item);
    gate.out = b->gate + (size_t)thread * b->base.capacity.step_tokens * GATE_ROWS;
    gate.out_stride = GATE_ROWS;
    b->kernels->matmul(&gate);
    b->kernels->matmul(&up);
    void (*activate)(float *out, const float *gate, uint32_t count) =
        b->model->config.activation == ACTIVATION_SILU ? b->kernels->silu_multiply
                                                       : b->kernels->gelu_multiply;
    for (uint32_t t = 0; t < up.tokens; t++)
        activate(up.out + t * up.out_stride, gate.out + (size_t)t * GATE_ROWS, up.rows);
}

static void gate_up(cpu_backend *b, uint32_t layer, uint32_t tokens)
{
    const layer_weights *w = &b->model->layers[layer];
    const cpu_layer *vectors = &b->layers[layer];
    matmul_job job = {
        .b = b,
        .of = {matmul_of(&w->gate, vectors->gate_bias, b->narrow, b->narrow_stride, b->wide,
                         b->wide_stride, tokens),
               matmul_of(&w->up, vectors->up_bias, b->narrow, b->narrow_stride, b->wide,
                         b->wide_stride, tokens)},
        .count = 2,
    };
    uint32_t rows = rows_per_item(b, w->up.rows, 2u * w->up.cols * dtype_size(w->up.type));
    job.rows_per_item = rows < GATE_ROWS ? rows : GATE_ROWS;
    cpu_run_items(b, items_of(&job, 1), 2ull * w->up.rows * w->up.cols * tokens, gate_up_item,
                  &job);
}

/* -- the rows at the end ------------------------------------------------------- */

typedef struct sample_job {
    cpu_backend *b;
    const step_plan *plan;
    const uint32_t *wanted; /* [count], the group's sequences */
    uint32_t count;
    sampled_token *sampled; /* of the group's first sequence that wants a sample */
} sample_job;

/* item: a sampler, which takes every sampler_count'th row */
static void sample_item(void *ctx, uint32_t item, uint32_t thread)
{
    (void)thread;
    const sample_job *job = ctx;
    cpu_backend *b = job->b;
    uint32_t vocab = b->model->config.vocab_size;
    sampled_token *out = job->sampled;
    for (uint32_t i = 0; i < job->count; i++) {
        const step_sequence *seq = &job->plan->sequences[job->wanted[i]];
        sampled_token *own = out;
        if (seq->wants_sample) out++;
        if (i % b->sampler_count != item) continue;
        float *logits = b->logits + (size_t)i * vocab;
        if (b->model->config.final_softcap != 0.0f)
            b->kernels->softcap(logits, b->model->config.final_softcap, vocab);
        if (seq->logits_out != NULL) memcpy(seq->logits_out, logits, vocab * sizeof(float));
        b->row_status[i] = ST_OK;
        if (seq->wants_sample)
            b->row_status[i] = sampler_draw(b->samplers[item], logits, b->vocab_used, seq->sampling,
                                            &seq->context, own);
    }
}

/* Logits of the group's rows, then their samples. */
static status finish_group(cpu_backend *b, sample_job *job, error *err)
{
    const model_config *config = &b->model->config;
    for (uint32_t i = 0; i < job->count; i++) {
        const step_sequence *seq = &job->plan->sequences[job->wanted[i]];
        size_t row = seq->token_begin + seq->token_count - 1;
        b->kernels->rmsnorm(b->narrow + i * b->narrow_stride,
                            b->residual + row * config->hidden_size, b->final_norm,
                            config->hidden_size, config->rms_norm_eps);
    }
    matmul_job head = {.of = {matmul_of(&b->model->head, NULL, b->narrow, b->narrow_stride,
                                        b->logits, config->vocab_size, job->count)},
                       .count = 1};
    run_matmuls(b, &head);
    cpu_run_items(b, b->sampler_count, (uint64_t)job->count * config->vocab_size, sample_item, job);
    for (uint32_t i = 0; i < job->count; i++)
        if (b->row_status[i] != ST_OK)
            return error_set(err, b->row_status[i],
                             "the logits of sequence %u of the step are not finite numbers: the "
                             "checkpoint's numbers are broken or overflow",
                             job->wanted[i]);
    return ST_OK;
}

static status finish_rows(cpu_backend *b, const step_plan *plan, sampled_token *sampled, error *err)
{
    uint32_t count = 0;
    for (uint32_t s = 0; s < plan->sequence_count; s++)
        if (plan->sequences[s].wants_sample || plan->sequences[s].logits_out != NULL)
            b->wanted[count++] = s;
    for (uint32_t first = 0; first < count; first += b->logits_rows) {
        sample_job job = {.b = b,
                          .plan = plan,
                          .wanted = b->wanted + first,
                          .count = count - first < b->logits_rows ? count - first : b->logits_rows,
                          .sampled = sampled};
        status st = finish_group(b, &job, err);
        if (st != ST_OK) return st;
        for (uint32_t i = 0; i < job.count; i++)
            if (plan->sequences[job.wanted[i]].wants_sample) sampled++;
    }
    return ST_OK;
}

/* -- the step ------------------------------------------------------------------ */

static void fill_angles(cpu_backend *b, uint32_t token, uint32_t position)
{
    const model_config *config = &b->model->config;
    uint32_t pairs = config->rotary_dim / 2;
    for (uint32_t r = 0; r < config->rope_count; r++) {
        float *cosines = b->angles + token * cpu_angles_stride(b) + (size_t)r * 2u * pairs;
        rope_table_fill(cosines, cosines + pairs, b->rope_frequencies + (size_t)r * pairs, pairs,
                        position);
        float factor = config->rope[r].attention_factor;
        for (uint32_t i = 0; factor != 1.0f && i < 2u * pairs; i++)
            cosines[i] *= factor;
    }
}

/* What every layer needs to know about each token, worked out once; the engine's promises about
 * the plan are checked on the way. */
static void lay_out_tokens(cpu_backend *b, const step_plan *plan)
{
    const model_config *config = &b->model->config;
    const backend_capacity *capacity = &b->base.capacity;
    CHECK(plan->token_count >= 1 && plan->token_count <= capacity->step_tokens);
    CHECK(plan->sequence_count >= 1 && plan->sequence_count <= capacity->step_sequences);
    uint32_t token = 0;
    for (uint32_t s = 0; s < plan->sequence_count; s++) {
        const step_sequence *seq = &plan->sequences[s];
        CHECK(seq->token_begin == token && seq->token_count >= 1 &&
              seq->token_count <= plan->token_count - token);
        CHECK((uint64_t)seq->position + seq->token_count <=
              (uint64_t)seq->block_count * LIMIT_KV_BLOCK_TOKENS);
        CHECK((uint64_t)seq->position + seq->token_count <= LIMIT_CONTEXT_TOKENS);
        for (uint32_t i = 0; i < seq->token_count; i++, token++) {
            uint32_t position = seq->position + i;
            CHECK(plan->tokens[token] < config->vocab_size);
            b->positions[token] = position;
            b->kv_blocks[token] = seq->blocks[position / LIMIT_KV_BLOCK_TOKENS];
            CHECK(b->kv_blocks[token] < capacity->kv_blocks);
            fill_angles(b, token, position);
        }
    }
    CHECK(token == plan->token_count);
}

status cpu_forward(cpu_backend *b, const step_plan *plan, sampled_token *sampled, error *err)
{
    uint32_t tokens = plan->token_count;
    lay_out_tokens(b, plan);
    attention_plan_make(b, plan);
    embed(b, plan);
    const scratch_rows narrow = {b->narrow, b->narrow_stride};
    const scratch_rows wide = {b->wide, b->wide_stride};
    for (uint32_t l = 0; l < b->model->config.layer_count; l++) {
        const layer_weights *w = &b->model->layers[l];
        const cpu_layer *vectors = &b->layers[l];
        norm(b, vectors->input_norm, tokens);
        project_qkv(b, l, tokens);
        rotate_and_store(b, l, tokens);
        attention_plan_run(b, l);
        add_to_residual(b, &w->o, vectors->o_bias, vectors->post_attention_norm, narrow, wide,
                        tokens);
        norm(b, vectors->mlp_norm, tokens);
        gate_up(b, l, tokens);
        add_to_residual(b, &w->down, vectors->down_bias, vectors->post_mlp_norm, wide, narrow,
                        tokens);
    }
    return finish_rows(b, plan, sampled, err);
}
