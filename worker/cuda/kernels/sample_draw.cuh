/* sample_draw: from a row's sums and its list of the likeliest to a token. Like sample_block, every
 * function is for all threads of a block, unless it says otherwise. */
#ifndef GAGGLE_WORKER_CUDA_SAMPLE_DRAW_CUH
#define GAGGLE_WORKER_CUDA_SAMPLE_DRAW_CUH

#include "worker/cuda/kernels/sample_row.cuh"

/* Sorts as "likeliest first, lowest id first on a tie". */
static __device__ uint64_t list_entry(uint32_t key, uint32_t id)
{
    return (uint64_t)~key << 32 | id;
}

static __device__ float listed_logit(uint64_t entry)
{
    return logit_of(~(uint32_t)(entry >> 32));
}

/* Everything that the last block of a row works with; the same in all its threads. */
struct drawing {
    const float *logits;
    uint32_t vocab;
    float max;
    divisor temperature;
    float least;    /* fraction of the likeliest's weight that min-p asks for */
    prefix_end end; /* of the truncation so far */

    __device__ __forceinline__ float exponent(float logit) const
    {
        return divide(__fsub_rn(logit, max), temperature);
    }

    /* 0 for what min-p removes. */
    __device__ __forceinline__ uint64_t weight(float logit) const
    {
        float fraction = fraction_of(exponent(logit));
        return fraction >= least ? weight_of(fraction) : 0;
    }

    __device__ uint64_t weight_left(uint32_t id) const
    {
        return is_before_end(end, key_of(logits[id]), id) ? weight(logits[id]) : 0;
    }
};

static __device__ drawing drawing_of(const sample_args &a, const sample_row &row,
                                     const row_space *space, uint32_t row_index)
{
    drawing d;
    d.logits = a.logits + (size_t)row_index * a.logits_stride;
    d.vocab = a.vocab_used;
    d.max = space->max;
    d.temperature = divisor_of(row.temperature);
    uint64_t weight_min = (uint64_t)__fmul_rn(row.min_p, SAMPLE_WEIGHT_ONE);
    d.least = (float)(weight_min > 0 ? weight_min : 1) / SAMPLE_WEIGHT_ONE; /* exact */
    d.end.key = 0;
    d.end.id = 0xffffffffu;
    return d;
}

/* Which bin a logit's weight belongs to: the likelier, the lower; all weights that are not 0 have
 * exponents above -30. */
static __device__ __forceinline__ uint32_t bin_of(float exponent)
{
    float shifted = __fadd_rn(__fmul_rn(fmaxf(exponent, -30.0f), -34.0f), 0x1p23f);
    return __float_as_uint(shifted) & (BINS - 1);
}
static_assert(30 * 34 < BINS, "bins reach down to weight 0");

/* Where a random point of [0, total) lies. */
static __device__ uint64_t target_of(const sample_row &row, uint64_t total)
{
    return __umul64hi(random_bits(row.seed, row.position), total);
}

/* How much a prefix of top-p weighs at least. */
static __device__ uint64_t nucleus_of(const sample_row &row, uint64_t total)
{
    uint64_t wanted = (uint64_t)ceil((double)row.top_p * (double)total);
    return wanted > 0 ? wanted : 1;
}

static __device__ uint32_t draw_from_all(const sample_row &row, const drawing &d,
                                         const row_space *space, row_split split)
{
    constexpr uint32_t each = SEGMENTS_MAX / SAMPLE_THREADS;
    block_shared *s = block_space();
    uint64_t own[each], sum = 0, total;
    for (uint32_t i = 0; i < each; i++) {
        uint32_t segment = threadIdx.x * each + i;
        sum += own[i] = segment < split.parts * SAMPLE_WARPS ? space->segment_weights[segment] : 0;
    }
    uint64_t before = block_prefix(sum, &total), target = target_of(row, total);
    for (uint32_t i = 0; i < each; i++) {
        if (before <= target && target - before < own[i]) {
            s->found = threadIdx.x * each + i;
            s->rest = target - before;
        }
        before += own[i];
    }
    __syncthreads();
    uint32_t begin = s->found * split.segment_length;
    uint32_t end = begin + split.segment_length < d.vocab ? begin + split.segment_length : d.vocab;
    return find_by_sum(begin, end, s->rest, [&](uint32_t id) { return d.weight(d.logits[id]); });
}

/* Draw by what the CPU's twin does: slow, and right for every row. */
static __device__ __attribute__((noinline)) uint32_t draw_by_radix(const sample_row &row, drawing d)
{
    auto weight = [&](uint32_t id) { return d.weight_left(id); };
    auto presence = [&](uint32_t id) -> uint64_t { return d.weight_left(id) > 0; };
    uint64_t reached;
    if (row.top_k > 0 && row_total(d.vocab, presence) > row.top_k)
        d.end = find_prefix_end(
            d.logits, d.vocab, row.top_k, presence, [](uint32_t) -> uint64_t { return 1; },
            &reached);
    uint64_t total = row_total(d.vocab, weight);
    if (row.top_p < 1.0f) {
        prefix_end end = find_prefix_end(
            d.logits, d.vocab, nucleus_of(row, total), weight,
            [&](uint32_t key) { return d.weight(logit_of(key)); }, &total);
        if (end.key == d.end.key && end.id > d.end.id) end.id = d.end.id;
        d.end = end;
    }
    return find_by_sum(0, d.vocab, target_of(row, total), weight);
}

static __device__ uint32_t sorted_size(uint32_t count)
{
    uint32_t size = SAMPLE_LIST_EACH;
    while (size < count)
        size *= 2;
    return size;
}

/* The row's list, sorted, in s->list, filled up with entries that sort behind all others. */
static __device__ void load_list(const row_space *space, uint32_t count)
{
    block_shared *s = block_space();
    uint32_t size = sorted_size(count);
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < size; i += SAMPLE_THREADS)
        s->list[i] = i < count ? space->list[i] : ~(uint64_t)0;
    sort_list(size);
}

/* Truncate by top-k, then by top-p, and draw from the sorted list, which is used up. False: the
 * list ends too early, nothing drawn. Each thread looks after SAMPLE_LIST_EACH entries that follow
 * each other. */
static __device__ bool draw_top_k(const sample_row &row, const drawing &d, float threshold,
                                  uint32_t count, uint32_t *id_out)
{
    block_shared *s = block_space();
    uint32_t first = threadIdx.x * SAMPLE_LIST_EACH, size = sorted_size(count);
    uint64_t entry[SAMPLE_LIST_EACH], weight[SAMPLE_LIST_EACH];
    uint64_t present = 0, sum = 0, total;
    for (uint32_t i = 0; i < SAMPLE_LIST_EACH; i++) {
        bool exists = first + i < count;
        entry[i] = exists ? s->list[first + i] : 0;
        weight[i] = exists ? d.weight(listed_logit(entry[i])) : 0;
        present += weight[i] > 0;
    }
    uint64_t before = block_prefix(present, &total);
    /* What is not listed lies below the threshold; may it pass min-p? exp() is monotone but for
     * rounding. */
    float highest = fraction_of(d.exponent(threshold));
    bool complete = threshold == -FLT_MAX || highest + highest * 0x1p-16f < d.least;
    if (total < row.top_k && !complete) return false;
    for (uint32_t i = 0; i < SAMPLE_LIST_EACH; i++)
        if (weight[i] > 0 && before++ >= row.top_k) weight[i] = 0;
    for (uint32_t i = 0; i < SAMPLE_LIST_EACH; i++)
        sum += weight[i];
    before = block_prefix(sum, &total);
    if (row.top_p < 1.0f) {
        uint64_t wanted = nucleus_of(row, total);
        sum = 0;
        for (uint32_t i = 0; i < SAMPLE_LIST_EACH; i++) {
            uint64_t w = weight[i];
            if (before >= wanted) weight[i] = 0;
            before += w;
            sum += weight[i];
        }
        total = block_total(sum);
    }
    /* The draw walks in the order of ids. */
    uint64_t target = target_of(row, total);
    __syncthreads();
    for (uint32_t i = 0; i < SAMPLE_LIST_EACH; i++)
        if (first + i < size)
            s->list[first + i] = weight[i] > 0 ? entry[i] << 32 | entry[i] >> 32 : ~(uint64_t)0;
    sort_list(size);
    sum = 0;
    for (uint32_t i = 0; i < SAMPLE_LIST_EACH; i++) {
        entry[i] = first + i < size ? s->list[first + i] : ~(uint64_t)0;
        weight[i] = entry[i] != ~(uint64_t)0 ? d.weight(logit_of(~(uint32_t)entry[i])) : 0;
        sum += weight[i];
    }
    before = block_prefix(sum, &total);
    for (uint32_t i = 0; i < SAMPLE_LIST_EACH; i++) {
        if (before <= target && target - before < weight[i]) s->found = (uint32_t)(entry[i] >> 32);
        before += weight[i];
    }
    __syncthreads();
    *id_out = s->found;
    return true;
}

/* Truncate by top-p and draw: the bins tell which of them the prefix ends in, whose logits are
 * sorted. False: they are too many, nothing drawn. */
static __device__ bool draw_top_p(const sample_row &row, drawing d, const row_space *space,
                                  uint32_t *id_out)
{
    constexpr uint32_t each = BINS / SAMPLE_THREADS;
    block_shared *s = block_space();
    uint64_t own[each], sum = 0, total;
    for (uint32_t i = 0; i < each; i++)
        sum += own[i] = space->bin_weights[threadIdx.x * each + i];
    uint64_t before = block_prefix(sum, &total), wanted = nucleus_of(row, total);
    for (uint32_t i = 0; i < each; i++) {
        if (before < wanted && wanted - before <= own[i]) {
            s->found = threadIdx.x * each + i;
            s->rest = wanted - before;
        }
        before += own[i];
    }
    __syncthreads();
    uint32_t bin = s->found;
    uint64_t rest = s->rest;
    __syncthreads();

    if (threadIdx.x == 0) s->found = 0;
    __syncthreads();
#pragma unroll 8
    for (uint32_t id = threadIdx.x; id < d.vocab; id += SAMPLE_THREADS) {
        float logit = d.logits[id];
        if (bin_of(d.exponent(logit)) != bin || d.weight(logit) == 0) continue;
        uint32_t at = atomicAdd(&s->found, 1u);
        if (at < SAMPLE_LIST_MAX) s->list[at] = list_entry(key_of(logit), id);
    }
    __syncthreads();
    uint32_t count = s->found, size = sorted_size(count);
    if (count > SAMPLE_LIST_MAX) return false;
    for (uint32_t i = count + threadIdx.x; i < size; i += SAMPLE_THREADS)
        s->list[i] = ~(uint64_t)0;
    sort_list(size);

    uint32_t first = threadIdx.x * SAMPLE_LIST_EACH;
    uint64_t weight[SAMPLE_LIST_EACH];
    sum = 0;
    for (uint32_t i = 0; i < SAMPLE_LIST_EACH; i++)
        sum += weight[i] = first + i < count ? d.weight(listed_logit(s->list[first + i])) : 0;
    before = block_prefix(sum, &total);
    for (uint32_t i = 0; i < SAMPLE_LIST_EACH; i++) {
        if (before < rest && rest - before <= weight[i]) {
            s->found = first + i;
            s->rest = before + weight[i];
        }
        before += weight[i];
    }
    __syncthreads();
    d.end.key = ~(uint32_t)(s->list[s->found] >> 32);
    d.end.id = (uint32_t)s->list[s->found];
    total = wanted - rest + s->rest;
    *id_out = find_by_sum(0, d.vocab, target_of(row, total),
                          [&](uint32_t id) { return d.weight_left(id); });
    return true;
}

/* The `wanted` likeliest, at least one, in s->list, sorted, from the whole row. Returns how many
 * there are. */
static __device__ __attribute__((noinline)) uint32_t list_by_radix(const drawing &d,
                                                                   uint32_t wanted)
{
    block_shared *s = block_space();
    auto presence = [&](uint32_t id) -> uint64_t { return d.logits[id] != -INFINITY; };
    prefix_end end = {0, 0xffffffffu};
    uint64_t reached;
    if (row_total(d.vocab, presence) > wanted)
        end = find_prefix_end(
            d.logits, d.vocab, wanted, presence, [](uint32_t) -> uint64_t { return 1; }, &reached);
    __syncthreads();
    if (threadIdx.x == 0) s->found = 0;
    for (uint32_t i = threadIdx.x; i < 32; i += SAMPLE_THREADS)
        s->list[i] = ~(uint64_t)0;
    __syncthreads();
    for (uint32_t id = threadIdx.x; id < d.vocab; id += SAMPLE_THREADS) {
        uint32_t key = key_of(d.logits[id]);
        if (key >= KEY_LOWEST && is_before_end(end, key, id))
            s->list[atomicAdd(&s->found, 1u)] = list_entry(key, id);
    }
    sort_list(32);
    return s->found;
}
static_assert(SAMPLE_TOP_MAX <= 32, "list_by_radix sorts 32");

/* Natural log of the sum of exp(logits). */
static __device__ double normaliser_of(const row_space *space, uint32_t parts)
{
    uint64_t total = row_total(parts, [&](uint32_t i) { return space->part_totals[i]; });
    return (double)space->max + log((double)total / (double)SAMPLE_WEIGHT_ONE);
}

static __device__ float logprob_of(float logit, double normaliser)
{
    return keep_finite((float)((double)logit - normaliser));
}

/* Top ids and logprobs from the beginning of the sorted s->list. */
static __device__ uint32_t write_top(sample_result *result, uint32_t wanted, uint32_t count,
                                     double normaliser)
{
    block_shared *s = block_space();
    if (count > wanted) count = wanted;
    for (uint32_t i = threadIdx.x; i < count; i += SAMPLE_THREADS) {
        result->top_ids[i] = (uint32_t)s->list[i];
        result->top_logprobs[i] = logprob_of(listed_logit(s->list[i]), normaliser);
    }
    return count;
}

/* Not inlined, so that the draw kernel's loop has the registers. */
static __device__ __attribute__((noinline)) void finish_row(const sample_args &a, workspace *all,
                                                            uint32_t row_index, row_split split)
{
    const sample_row row = a.row[row_index];
    const row_space *space = &all->rows[row_index];
    row_wish wish = wish_of(row, a.vocab_used);
    drawing d = drawing_of(a, row, space, row_index);
    sample_result *result = &a.step->results[row_index];
    uint32_t list_count = wish.list_wanted > 0 ? space->list_count : 0;
    bool has_list = list_count <= SAMPLE_LIST_MAX;
    if (has_list && list_count > 0) load_list(space, list_count);
    double normaliser = wish.logprobs ? normaliser_of(space, split.parts) : 0;
    uint32_t top_count = 0;
    if (wish.logprobs && has_list)
        top_count = write_top(result, row.logprobs, list_count, normaliser);

    uint32_t id = space->likeliest;
    bool found = wish.draw == DRAW_NONE;
    if (wish.draw == DRAW_FROM_ALL) {
        id = draw_from_all(row, d, space, split);
        found = true;
    } else if (wish.draw == DRAW_TOP_K && has_list) {
        found = draw_top_k(row, d, space->threshold, list_count, &id);
    } else if (wish.draw == DRAW_TOP_P) {
        found = draw_top_p(row, d, space, &id);
    }
    if (!found) id = draw_by_radix(row, d);

    if (wish.logprobs && !has_list && row.logprobs > 0)
        top_count = write_top(result, row.logprobs, list_by_radix(d, row.logprobs), normaliser);
    __syncthreads();
    if (threadIdx.x == 0)
        publish(a, all, row, row_index, id,
                wish.logprobs ? logprob_of(d.logits[id], normaliser) : NAN, top_count);
}

#endif
