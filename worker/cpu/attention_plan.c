/* Attention as items for the pool.
 *
 * A tile is some consecutive tokens of one sequence; (tile, KV head) is an item, which walks over
 * all parts of the positions and adds them up. That leaves threads idle when one long sequence
 * decodes on a model of few KV heads: then (tile, KV head, part) is the item, the records go to
 * `partials`, and a second job adds them up. Both ways do the same operations on a row in the same
 * order (kernels/attention.c, rule 4), so the choice shows in the time only. */
#include <string.h>

#include "common/check.h"
#include "worker/cpu/cpu_backend.h"

static uint32_t group_size(const cpu_backend *b)
{
    return b->model->config.head_count / b->model->config.kv_head_count;
}

static uint32_t part_of(uint32_t position)
{
    return position / ATTENTION_PART_TOKENS;
}

static uint32_t first_part(const cpu_backend *b, uint32_t layer, uint32_t position)
{
    return part_of(attention_first_seen(position, b->model->config.layer_window[layer]));
}

/* Parts are worth their second job when whole items would leave threads without work. */
static uint32_t choose_part_count(const cpu_backend *b, uint32_t token_count,
                                  uint32_t last_position)
{
    const model_config *config = &b->model->config;
    uint32_t parts = part_of(last_position) + 1;
    uint64_t items = (uint64_t)b->tile_count * config->kv_head_count;
    uint64_t floats = (uint64_t)token_count * config->head_count * parts *
                      attention_record_stride(config->head_dim);
    bool idle = items < 4u * thread_pool_size(b->pool);
    return thread_pool_size(b->pool) > 1 && idle && floats <= b->partials_floats ? parts : 1;
}

void attention_plan_make(cpu_backend *b, const step_plan *plan)
{
    uint32_t last_position = 0;
    uint64_t pairs = 0; /* (token, position seen) */
    b->tile_count = 0;
    for (uint32_t s = 0; s < plan->sequence_count; s++) {
        const step_sequence *seq = &plan->sequences[s];
        for (uint32_t i = 0; i < seq->token_count; i += b->tile_tokens) {
            uint32_t left = seq->token_count - i;
            b->tiles[b->tile_count++] = (attention_tile){
                .token = seq->token_begin + i,
                .token_count = left < b->tile_tokens ? left : b->tile_tokens,
                .position = seq->position + i,
                .blocks = seq->blocks,
            };
        }
        uint32_t end = seq->position + seq->token_count;
        pairs += (uint64_t)seq->token_count * end;
        if (end - 1 > last_position) last_position = end - 1;
    }
    b->part_count = choose_part_count(b, plan->token_count, last_position);
    b->attention_work = pairs * b->model->config.head_count * b->model->config.head_dim * 2u;
}

typedef struct attention_job {
    cpu_backend *b;
    uint32_t layer;
} attention_job;

static attention_part part_args(const attention_job *job, const attention_tile *tile, uint32_t head,
                                uint32_t part, float *records)
{
    cpu_backend *b = job->b;
    uint32_t head_dim = b->model->config.head_dim;
    uint32_t group = group_size(b);
    return (attention_part){
        .query = b->wide + tile->token * b->wide_stride + (size_t)head * group * head_dim,
        .query_stride = b->wide_stride,
        .tokens = tile->token_count,
        .group = group,
        .head_dim = head_dim,
        .position = tile->position,
        .window = b->model->config.layer_window[job->layer],
        .softcap = b->model->config.attention_softcap,
        .blocks = tile->blocks,
        .kv = cpu_kv_block(b, job->layer, 0, head),
        .block_stride = b->model->config.kv_head_count * b->head_block_floats,
        .part = part,
        .records = records,
    };
}

static float *output_row(const cpu_backend *b, uint32_t token, uint32_t head)
{
    return b->narrow + token * b->narrow_stride + (size_t)head * b->model->config.head_dim;
}

static void attend_whole(void *ctx, uint32_t item, uint32_t thread)
{
    const attention_job *job = ctx;
    cpu_backend *b = job->b;
    const attention_tile *tile = &b->tiles[item / b->model->config.kv_head_count];
    uint32_t kv_head = item % b->model->config.kv_head_count;
    uint32_t head_dim = b->model->config.head_dim;
    uint32_t group = group_size(b);
    uint32_t rows = tile->token_count * group;
    size_t stride = attention_record_stride(head_dim);
    float *total = b->records + 2u * thread * b->records_floats;
    float *later = total + b->records_floats;

    uint32_t first = first_part(b, job->layer, tile->position);
    uint32_t last = part_of(tile->position + tile->token_count - 1);
    for (uint32_t part = first; part <= last; part++) {
        attention_part a = part_args(job, tile, kv_head, part, part == first ? total : later);
        b->kernels->attention_part(&a);
        if (part == first) continue;
        for (uint32_t row = 0; row < rows; row++) {
            uint32_t position = tile->position + row / group;
            uint32_t begin = first_part(b, job->layer, position);
            if (part == begin)
                memcpy(total + row * stride, later + row * stride, stride * sizeof(float));
            else if (part > begin && part <= part_of(position))
                b->kernels->attention_merge(total + row * stride, later + row * stride, head_dim);
        }
    }
    for (uint32_t row = 0; row < rows; row++)
        b->kernels->attention_finish(
            output_row(b, tile->token + row / group, kv_head * group + row % group),
            total + row * stride, head_dim);
}

/* partials [token of the step][head][part] */
static float *partial_record(const cpu_backend *b, uint32_t token, uint32_t head, uint32_t part)
{
    uint64_t index = ((uint64_t)token * b->model->config.head_count + head) * b->part_count + part;
    return b->partials + index * attention_record_stride(b->model->config.head_dim);
}

static void attend_part(void *ctx, uint32_t item, uint32_t thread)
{
    const attention_job *job = ctx;
    cpu_backend *b = job->b;
    uint32_t part = item % b->part_count;
    uint32_t kv_head = item / b->part_count % b->model->config.kv_head_count;
    const attention_tile *tile = &b->tiles[item / b->part_count / b->model->config.kv_head_count];
    if (part < first_part(b, job->layer, tile->position) ||
        part > part_of(tile->position + tile->token_count - 1))
        return;
    float *records = b->records + 2u * thread * b->records_floats;
    attention_part a = part_args(job, tile, kv_head, part, records);
    b->kernels->attention_part(&a);
    size_t stride = attention_record_stride(a.head_dim);
    for (uint32_t row = 0; row < a.tokens * a.group; row++)
        memcpy(
            partial_record(b, tile->token + row / a.group, kv_head * a.group + row % a.group, part),
            records + row * stride, stride * sizeof(float));
}

/* item: a token of the step */
static void add_parts(void *ctx, uint32_t item, uint32_t thread)
{
    (void)thread;
    const attention_job *job = ctx;
    cpu_backend *b = job->b;
    uint32_t head_dim = b->model->config.head_dim;
    uint32_t first = first_part(b, job->layer, b->positions[item]);
    for (uint32_t head = 0; head < b->model->config.head_count; head++) {
        float *total = partial_record(b, item, head, first);
        for (uint32_t part = first + 1; part <= part_of(b->positions[item]); part++)
            b->kernels->attention_merge(total, partial_record(b, item, head, part), head_dim);
        b->kernels->attention_finish(output_row(b, item, head), total, head_dim);
    }
}

void attention_plan_run(cpu_backend *b, uint32_t layer)
{
    attention_job job = {.b = b, .layer = layer};
    uint32_t items = b->tile_count * b->model->config.kv_head_count;
    if (b->part_count == 1) {
        cpu_run_items(b, items, b->attention_work, attend_whole, &job);
        return;
    }
    const attention_tile *last = &b->tiles[b->tile_count - 1];
    uint32_t tokens = last->token + last->token_count;
    cpu_run_items(b, items * b->part_count, b->attention_work, attend_part, &job);
    cpu_run_items(b, tokens,
                  (uint64_t)tokens * b->model->config.head_count * b->part_count *
                      b->model->config.head_dim,
                  add_parts, &job);
}
