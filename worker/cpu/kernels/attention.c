/* attention: softmax(q k^T) v over paged keys and values, one row (token, head) at a time in
 * arithmetic, several rows at a time in memory traffic.
 *
 * A KV block holds 16 positions and a register 16 floats. Keys are stored with the position as
 * the fast index, so one register of scores is a whole block:
 *
 *   scores[0..15]  = sum over d of q[d] * keys[d][0..15]        a broadcast and a multiply-add a d
 *   maximum, weights = exp(scores - maximum), rescale            the online softmax
 *   out[d..d+15]  += sum over t of weights[t] * values[t][d..d+15]
 *
 * The order of operations of a row depends on its own position alone:
 *   1. Blocks start at multiples of 16 and parts at multiples of ATTENTION_PART_TOKENS, counted
 *      from position 0, wherever the chunk began.
 *   2. Positions that a row may not see take no part: their scores are replaced before the
 *      maximum, and the value loop leaves them out. What a free place of a block holds, be it a
 *      NaN, reaches no row. Blocks outside a row's window are not looked at.
 *   3. Rows share loads of keys and values when they see the same of a block, and are done one by
 *      one when they do not. Either way each does the same operations.
 *   4. A part starts from nothing; attention_merge() adds the parts that a row sees any of up in
 *      rising order.
 *
 * Milakov, Gimelshein: Online normalizer calculation for softmax. 2018.
 * Dao et al.: FlashAttention. 2022, and Flash-Decoding, 2023, for the parts. */
#include <math.h>

#include "worker/cpu/kernels/exp.h"
#include "worker/cpu/kernels/lanes.h"
#include "worker/cpu/kernels/variant.h"

#define ROWS_TILE 4u /* rows that share loads: four chains hide the multiply-add's latency */
/* Lanes of output that each of them keeps in registers while it walks over a block's values. */
#if LANES_AVX512
#define DEPTH_TILE 4u
#else
#define DEPTH_TILE 1u
#endif

_Static_assert(LIMIT_KV_BLOCK_TOKENS == LANES, "a block of scores is one lanes");

/* A record, see kernels.h: output sums, lane sums of the weights, maximum, total. */
LANES_INLINE float *record_weights(float *record, uint32_t head_dim)
{
    return record + attention_value_stride(head_dim);
}

#define RECORD_MAXIMUM LANES /* behind the weights' lane sums */
#define RECORD_TOTAL   (LANES + 1u)

LANES_INLINE const float *row_query(const attention_part *a, uint32_t row)
{
    return a->query + (size_t)(row / a->group) * a->query_stride +
           (size_t)(row % a->group) * a->head_dim;
}

/* The places [begin, end) of a block that a row sees; none when they are equal. */
typedef struct block_view {
    uint32_t begin, end;
} block_view;

/* Not inlined: where there is no cap it would only cost registers. */
static __attribute__((noinline)) void cap_scores(float *scores, float cap)
{
    for (uint32_t i = 0; i < LANES; i++)
        scores[i] = cap * tanh_of(scores[i] / cap);
}

/* Scores of one block become weights; the row's maximum and total move along. Returns by how much
 * the row's older output must be scaled. */
LANES_INLINE float softmax_block(float *restrict weights, float *restrict tail, block_view view)
{
    float maximum = tail[RECORD_MAXIMUM];
    if (view.end - view.begin < LANES)
        for (uint32_t i = 0; i < LANES; i++)
            weights[i] = i >= view.begin && i < view.end ? weights[i] : -INFINITY;
    foreach (i, LANES)
        maximum = weights[i] > maximum ? weights[i] : maximum;
    float rescale = exp_of(tail[RECORD_MAXIMUM] - maximum);
    for (uint32_t i = 0; i < LANES; i++) {
        weights[i] = exp_of(weights[i] - maximum);
        tail[i] = fma_exact(tail[i], rescale, weights[i]);
    }
    tail[RECORD_MAXIMUM] = maximum;
    return rescale;
}

/* out = out * rescale + weights . values, for `depth` registers of each row. */
LANES_INLINE void add_values(const attention_part *a, const float *values, uint32_t first_row,
                             uint32_t d, const float (*weights)[LANES], const float *rescale,
                             block_view view, unsigned rows, unsigned depth)
{
    size_t value_stride = attention_value_stride(a->head_dim);
    size_t record_stride = attention_record_stride(a->head_dim);
    float *out = a->records + first_row * record_stride + d;
    lanes sum[ROWS_TILE][DEPTH_TILE];
    foreach (r, rows)
        foreach (i, depth)
            sum[r][i] = lanes_mul(lanes_load_f32(out + r * record_stride + i * LANES),
                                  lanes_set(rescale[r]));
    for (uint32_t t = view.begin; t < view.end; t++) {
        lanes value[DEPTH_TILE];
        foreach (i, depth)
            value[i] = lanes_load_f32(values + t * value_stride + d + i * LANES);
        foreach (r, rows) {
            lanes weight = lanes_set(weights[r][t]);
            foreach (i, depth)
                sum[r][i] = lanes_fma(weight, value[i], sum[r][i]);
        }
    }
    foreach (r, rows)
        foreach (i, depth)
            lanes_store(out + r * record_stride + i * LANES, sum[r][i]);
}

/* `rows` rows from first_row, each of which sees the same of the block. */
LANES_INLINE void attend_block(const attention_part *a, const float *block, uint32_t first_row,
                               block_view view, unsigned rows)
{
    const float *query[ROWS_TILE];
    lanes score[ROWS_TILE];
    foreach (r, rows) {
        query[r] = row_query(a, first_row + r);
        score[r] = lanes_set(0.0f);
    }
    for (uint32_t d = 0; d < a->head_dim; d++) {
        lanes keys = lanes_load_f32(block + (size_t)d * LANES);
        foreach (r, rows)
            score[r] = lanes_fma(lanes_set(query[r][d]), keys, score[r]);
    }

    float weights[ROWS_TILE][LANES];
    float rescale[ROWS_TILE];
    size_t record_stride = attention_record_stride(a->head_dim);
    foreach (r, rows) {
        lanes_store(weights[r], score[r]);
        if (a->softcap != 0.0f) cap_scores(weights[r], a->softcap);
        float *record = a->records + (first_row + r) * record_stride;
        rescale[r] = softmax_block(weights[r], record_weights(record, a->head_dim), view);
    }

    const float *values = block + (size_t)a->head_dim * LANES;
    size_t value_stride = attention_value_stride(a->head_dim);
    uint32_t d = 0;
    for (; d + DEPTH_TILE * LANES <= value_stride; d += DEPTH_TILE * LANES)
        add_values(a, values, first_row, d, weights, rescale, view, rows, DEPTH_TILE);
    for (; d < value_stride; d += LANES)
        add_values(a, values, first_row, d, weights, rescale, view, rows, 1);
}

LANES_INLINE block_view row_sees(const attention_part *a, uint32_t row, uint32_t block_position)
{
    uint32_t position = a->position + row / a->group;
    uint32_t first = attention_first_seen(position, a->window);
    if (position < block_position || first >= block_position + LANES) return (block_view){0, 0};
    uint32_t end = position - block_position + 1;
    return (block_view){.begin = first > block_position ? first - block_position : 0,
                        .end = end < LANES ? end : LANES};
}

static void attend_rows(const attention_part *a, const float *block, uint32_t block_position,
                        uint32_t first_row, uint32_t rows)
{
    block_view first = row_sees(a, first_row, block_position);
    block_view last = row_sees(a, first_row + rows - 1, block_position);
    /* Both ends rise with the row until the window has left the block, which takes more than four
     * rows: equal at the ends is equal in between. */
    if (rows == ROWS_TILE && first.begin == last.begin && first.end == last.end) {
        if (first.end > 0) attend_block(a, block, first_row, first, ROWS_TILE);
        return;
    }
    for (uint32_t row = first_row; row < first_row + rows; row++) {
        block_view view = row_sees(a, row, block_position);
        if (view.end > 0) attend_block(a, block, row, view, 1);
    }
}

void VARIANT(attention_part)(const attention_part *a)
{
    uint32_t rows = a->tokens * a->group;
    size_t record_stride = attention_record_stride(a->head_dim);
    memset(a->records, 0, rows * record_stride * sizeof(float));
    for (uint32_t row = 0; row < rows; row++)
        record_weights(a->records + row * record_stride, a->head_dim)[RECORD_MAXIMUM] = -INFINITY;

    uint32_t last_block = (a->position + a->tokens - 1) / LIMIT_KV_BLOCK_TOKENS;
    uint32_t begin = a->part * ATTENTION_PART_BLOCKS;
    uint32_t end = begin + ATTENTION_PART_BLOCKS;
    uint32_t first_block = attention_first_seen(a->position, a->window) / LIMIT_KV_BLOCK_TOKENS;
    if (begin < first_block) begin = first_block;
    if (end > last_block + 1) end = last_block + 1;
    for (uint32_t b = begin; b < end; b++) {
        const float *block = a->kv + a->blocks[b] * a->block_stride;
        for (uint32_t row = 0; row < rows; row += ROWS_TILE)
            attend_rows(a, block, b * LIMIT_KV_BLOCK_TOKENS, row,
                        rows - row < ROWS_TILE ? rows - row : ROWS_TILE);
    }
    for (uint32_t row = 0; row < rows; row++) {
        float *tail = record_weights(a->records + row * record_stride, a->head_dim);
        tail[RECORD_TOTAL] = lanes_sum(lanes_load_f32(tail));
    }
}

void VARIANT(attention_merge)(float *record, const float *later, uint32_t head_dim)
{
    float *tail = record_weights(record, head_dim);
    const float *later_tail = later + attention_value_stride(head_dim);
    float maximum = tail[RECORD_MAXIMUM];
    if (later_tail[RECORD_MAXIMUM] > maximum) maximum = later_tail[RECORD_MAXIMUM];
    float scale = exp_of(tail[RECORD_MAXIMUM] - maximum);
    float later_scale = exp_of(later_tail[RECORD_MAXIMUM] - maximum);
    for (uint32_t d = 0; d < head_dim; d++)
        record[d] = fma_exact(later[d], later_scale, record[d] * scale);
    tail[RECORD_TOTAL] =
        fma_exact(later_tail[RECORD_TOTAL], later_scale, tail[RECORD_TOTAL] * scale);
    tail[RECORD_MAXIMUM] = maximum;
}

void VARIANT(attention_finish)(float *out, const float *record, uint32_t head_dim)
{
    float inverse = 1.0f / record[attention_value_stride(head_dim) + RECORD_TOTAL];
    for (uint32_t d = 0; d < head_dim; d++)
        out[d] = record[d] * inverse;
}
