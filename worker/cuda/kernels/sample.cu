/* How a token is drawn on the device.
 *
 * Two kernels, each with a few blocks a row (blockIdx.y is the row); the block that finishes last
 * goes on with what needs the whole row.
 *
 *   scan   edits the logits in place (bias, mask, penalties) and finds the largest. Its last block
 *          ends a greedy row. For a row that wants its M likeliest (top-k, logprobs) it takes the
 *          M-th largest of the maxima of GROUPS_MAX groups of logits as a threshold: at least M
 *          logits reach it, and seldom many more.
 *   draw   lists the logits that reach the threshold and adds up weights: of each warp's segment
 *          of the row, or for top-p of BINS classes of likelihood. Its last block
 *            - with top-k sorts the list, truncates it and draws from it;
 *            - with top-p alone learns from the bins which of them the prefix ends in, sorts that
 *              one's logits, and draws by walking over the row;
 *            - without truncation finds the drawn segment by the sums, and reads only that again.
 *
 * When the list or the bin that is to be sorted is too long (thousands of equal logits, a large
 * top-k), the block does what the CPU's twin does: radix selection over the whole row, by itself.
 * Either way the answer is exact.
 *
 * Keys, weights and their sums are integers, and the order of rows, blocks or threads shows in none
 * of them: lists are sorted by (key, id), everything else is a sum or a maximum. */
#include "worker/cuda/kernels/sample.h"

#include "worker/cuda/kernels/launch.cuh"
#include "worker/cuda/kernels/ptx.cuh"
#include "worker/cuda/kernels/sample_draw.cuh"
#include "worker/cuda/kernels/sample_row.cuh"

namespace
{

/* -- scan: edit and compare --------------------------------------------------------------- */

/* Bias and mask of the ids in [begin, end). A broken logit stays as it is, to be found. */
__device__ void edit_listed(const sample_args &a, const sample_row &row, float *logits,
                            uint32_t begin, uint32_t end)
{
    for (uint32_t i = threadIdx.x; i < row.bias_count; i += SAMPLE_THREADS) {
        uint32_t id = a.bias_ids[row.bias_begin + i];
        if (id < begin || id >= end) continue;
        float logit = logits[id];
        if (logit != -INFINITY && !is_broken(logit))
            logits[id] = keep_finite(__fadd_rn(logit, a.bias[row.bias_begin + i]));
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < row.masked_count; i += SAMPLE_THREADS) {
        uint32_t id = a.masked_ids[row.masked_begin + i];
        if (id >= begin && id < end && !is_broken(logits[id])) logits[id] = -INFINITY;
    }
    __syncthreads();
}

__device__ float penalised(float logit, uint32_t seen, const sample_row &row)
{
    if (logit == -INFINITY || is_broken(logit)) return logit;
    if (row.repetition_penalty != 1.0f)
        logit = keep_finite(logit > 0.0f ? __fdiv_rn(logit, row.repetition_penalty)
                                         : __fmul_rn(logit, row.repetition_penalty));
    uint32_t times = seen & 0x7fff;
    if (times > 0)
        logit =
            keep_finite(__fsub_rn(__fsub_rn(logit, __fmul_rn(row.frequency_penalty, (float)times)),
                                  row.presence_penalty));
    return logit;
}

struct best_logit {
    float logit;
    uint32_t id;
    bool broken; /* one of those compared */
};

__device__ __forceinline__ void compare(best_logit *best, const float x[VECTOR], uint32_t id)
{
#pragma unroll
    for (uint32_t i = 0; i < VECTOR; i++) {
        best->broken |= is_broken(x[i]);
        if (x[i] > best->logit) {
            best->logit = x[i];
            best->id = id + i;
        }
    }
}

/* Logits at and above `end` do not count. */
__device__ __forceinline__ void compare_below(best_logit *best, float x[VECTOR], uint32_t id,
                                              uint32_t end)
{
#pragma unroll
    for (uint32_t i = 0; i < VECTOR; i++)
        if (id + i >= end) x[i] = -INFINITY;
    compare(best, x, id);
}

/* The largest of this lane's logits in the warp's segment [begin, end). */
__device__ best_logit scan_segment(const float *logits, uint32_t begin, uint32_t end)
{
    constexpr uint32_t AHEAD = 4;
    best_logit best = {-INFINITY, 0, false};
    uint32_t id = begin + threadIdx.x % 32 * VECTOR;
    for (; id + (AHEAD - 1) * WARP_STEP + VECTOR <= end; id += AHEAD * WARP_STEP) {
        float x[AHEAD][VECTOR];
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++)
            load_vector(x[i], logits + id + i * WARP_STEP);
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++)
            compare(&best, x[i], id + i * WARP_STEP);
    }
    for (; id < end; id += WARP_STEP) {
        float x[VECTOR];
        load_vector(x, logits + id);
        compare_below(&best, x, id, end);
    }
    return best;
}

__device__ best_logit scan_segment_penalised(float *logits, const uint16_t *counts,
                                             const sample_row &row, uint32_t begin, uint32_t end)
{
    best_logit best = {-INFINITY, 0, false};
    for (uint32_t id = begin + threadIdx.x % 32 * VECTOR; id < end; id += WARP_STEP) {
        float x[VECTOR];
        load_vector(x, logits + id);
        uint2 packed = *(const uint2 *)(counts + id);
        uint32_t seen[VECTOR] = {packed.x & 0xffff, packed.x >> 16, packed.y & 0xffff,
                                 packed.y >> 16};
        for (uint32_t i = 0; i < VECTOR; i++) {
            if (seen[i] == 0 || id + i >= end) continue;
            x[i] = penalised(x[i], seen[i], row);
            logits[id + i] = x[i];
        }
        compare_below(&best, x, id, end);
    }
    return best;
}

/* The likelier of two (key, id). */
__device__ uint2 likelier(uint2 a, uint2 b)
{
    return a.x > b.x || (a.x == b.x && a.y < b.y) ? a : b;
}

__device__ uint2 warp_likeliest(uint2 best)
{
    for (int offset = 16; offset > 0; offset /= 2) {
        uint2 other;
        other.x = __shfl_xor_sync(0xffffffffu, best.x, offset);
        other.y = __shfl_xor_sync(0xffffffffu, best.y, offset);
        best = likelier(best, other);
    }
    return best;
}

/* A logit that at least `wanted` of the groups' maxima reach, found to 7 bits of mantissa, which
 * lists a few more; the lowest of all when there are not so many. */
__device__ float find_threshold(const row_space *space, uint32_t groups, uint32_t wanted)
{
    uint32_t key[GROUPS_MAX / SAMPLE_THREADS];
    for (uint32_t i = 0; i < GROUPS_MAX / SAMPLE_THREADS; i++) {
        uint32_t group = threadIdx.x + i * SAMPLE_THREADS;
        key[i] = group < groups ? space->group_best[group] : 0;
    }
    uint32_t threshold = 0;
    for (uint32_t bit = 0x80000000u; bit >= 0x10000u; bit >>= 1) {
        uint32_t reaching = 0;
#pragma unroll
        for (uint32_t i = 0; i < GROUPS_MAX / SAMPLE_THREADS; i++)
            if (i * SAMPLE_THREADS < groups)
                reaching += (uint32_t)__syncthreads_count(key[i] >= (threshold | bit));
        if (reaching >= wanted) threshold |= bit;
    }
    return threshold <= KEY_LOWEST ? -FLT_MAX : logit_of(threshold);
}

/* Unused where the emulated device leaves launch bounds out. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
[[maybe_unused]] constexpr uint32_t SCAN_BLOCKS = 2; /* all the threads that an SM holds */
#else
[[maybe_unused]] constexpr uint32_t SCAN_BLOCKS = 3;
#endif

__global__ void __launch_bounds__(SAMPLE_THREADS, SCAN_BLOCKS)
    scan_kernel(sample_args a, row_split split, bool greedy_only)
{
    grid_dependency_wait();
    grid_dependency_release();
    uint32_t row_index = blockIdx.y, part = blockIdx.x;
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    workspace *all = (workspace *)a.workspace;
    const sample_row &row = a.row[row_index];
    row_wish wish = wish_of(row, a.vocab_used);
    bool is_listed = row.bias_count > 0 || row.masked_count > 0;
    if (is_padding(a, row, row_index)) {
        if (part == 0 && threadIdx.x == 0) tell_host(a, all);
        return;
    }
    row_space *space = &all->rows[row_index];
    bool ends_here = greedy_only || (wish.draw == DRAW_NONE && !wish.logprobs);

    float *logits = a.logits + (size_t)row_index * a.logits_stride;
    uint32_t part_begin = part * SAMPLE_WARPS * split.segment_length;
    uint32_t part_end = part_begin + SAMPLE_WARPS * split.segment_length;
    if (part_end > a.vocab_used) part_end = a.vocab_used;
    if (is_listed) edit_listed(a, row, logits, part_begin, part_end);

    uint32_t begin = part_begin + warp * split.segment_length;
    uint32_t end =
        begin + split.segment_length < part_end ? begin + split.segment_length : part_end;
    best_logit lane_best =
        row.flags & SAMPLE_ROW_PENALTIES
            ? scan_segment_penalised(logits, a.counts + (size_t)row.slot * a.counts_stride, row,
                                     begin, end)
            : scan_segment(logits, begin, end);

    uint2 best = make_uint2(lane_best.broken ? KEY_BROKEN : key_of(lane_best.logit), lane_best.id);
    if (!ends_here && wish.list_wanted > 0) {
        uint32_t group = best.x;
        for (uint32_t offset = 1; offset < split.lanes_per_group; offset *= 2) {
            uint32_t other = __shfl_xor_sync(0xffffffffu, group, (int)offset);
            group = other > group ? other : group;
        }
        if (lane % split.lanes_per_group == 0)
            space->group_best[(part * SAMPLE_THREADS + threadIdx.x) / split.lanes_per_group] =
                group;
    }
    __shared__ uint2 warp_best[SAMPLE_WARPS];
    best = warp_likeliest(best);
    if (lane == 0) warp_best[warp] = best;
    __syncthreads();
    if (warp == 0) {
        best = warp_likeliest(warp_best[lane % SAMPLE_WARPS]);
        if (lane == 0) space->part_best[part] = best;
    }
    if (!is_last_part(&space->scan_arrivals, split.parts)) return;

    best = make_uint2(0, 0xffffffffu);
    for (uint32_t i = lane; i < split.parts; i += 32)
        best = likelier(best, space->part_best[i]);
    best = warp_likeliest(best);
    bool broken = best.x < KEY_LOWEST || best.x == KEY_BROKEN;
    if (broken || ends_here) {
        if (threadIdx.x != 0) return;
        space->is_open = false;
        if (broken)
            publish_broken(a, all, row_index);
        else
            publish(a, all, row, row_index, best.y, NAN, 0);
        return;
    }
    float threshold = 0;
    if (wish.list_wanted > 0) threshold = find_threshold(space, split.groups, wish.list_wanted);
    if (wish.draw == DRAW_TOP_P)
        for (uint32_t i = threadIdx.x; i < BINS; i += SAMPLE_THREADS)
            space->bin_weights[i] = 0;
    if (threadIdx.x == 0) {
        space->is_open = true;
        space->max = logit_of(best.x);
        space->likeliest = best.y;
        space->threshold = threshold;
        space->list_count = 0;
    }
}

/* -- draw: sum and list ---------------------------------------------------------------- */

/* Four logits from `id` on, at least one of which reaches the threshold. Seldom called. */
__device__ __attribute__((noinline)) void list_vector(row_space *space, float threshold,
                                                      uint32_t id, float x0, float x1, float x2,
                                                      float x3)
{
    const float x[VECTOR] = {x0, x1, x2, x3};
#pragma unroll
    for (uint32_t i = 0; i < VECTOR; i++) {
        if (!(x[i] >= threshold)) continue;
        uint32_t at = atomicAdd(&space->list_count, 1u);
        if (at < SAMPLE_LIST_MAX) space->list[at] = list_entry(key_of(x[i]), id + i);
    }
}

/* What a warp finds in its segment: sums of weights at the row's temperature and at 1. */
struct segment_sums {
    uint64_t weights, totals;
};

/* Four logits from `id` on, which may be masked. */
template <row_draw Draw>
__device__ __forceinline__ void sum_vector(segment_sums *sums, row_space *space, const drawing &d,
                                           bool logprobs, float threshold, const float x[VECTOR],
                                           uint32_t id)
{
    if (Draw == DRAW_FROM_ALL)
#pragma unroll
        for (uint32_t i = 0; i < VECTOR; i++)
            sums->weights += d.weight(x[i]);
    if (Draw == DRAW_TOP_P)
#pragma unroll
        for (uint32_t i = 0; i < VECTOR; i++) {
            float exponent = d.exponent(x[i]), fraction = fraction_of(exponent);
            if (fraction >= d.least) radix_add(bin_of(exponent), weight_of(fraction));
        }
    if (logprobs)
#pragma unroll
        for (uint32_t i = 0; i < VECTOR; i++)
            sums->totals += weight_of(fraction_of(__fsub_rn(x[i], d.max)));
    if (fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3])) >= threshold)
        list_vector(space, threshold, id, x[0], x[1], x[2], x[3]);
}

/* This warp's segment [begin, end). */
template <row_draw Draw>
__device__ segment_sums sum_segment(row_space *space, const drawing &d, bool logprobs,
                                    float threshold, uint32_t begin, uint32_t end)
{
    constexpr uint32_t AHEAD = 4;
    segment_sums sums = {0, 0};
    uint32_t id = begin + threadIdx.x % 32 * VECTOR;
    for (; id + (AHEAD - 1) * WARP_STEP + VECTOR <= end; id += AHEAD * WARP_STEP) {
        float x[AHEAD][VECTOR];
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++)
            load_vector(x[i], d.logits + id + i * WARP_STEP);
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++)
            sum_vector<Draw>(&sums, space, d, logprobs, threshold, x[i], id + i * WARP_STEP);
    }
    for (; id < end; id += WARP_STEP) {
        float x[VECTOR];
        load_vector(x, d.logits + id);
#pragma unroll
        for (uint32_t i = 0; i < VECTOR; i++)
            if (id + i >= end) x[i] = -INFINITY;
        sum_vector<Draw>(&sums, space, d, logprobs, threshold, x, id);
    }
    return sums;
}

/* The block's bins before and after its segments: cleared, added to the row's. */
__device__ void clear_bins()
{
    block_shared *s = block_space();
    for (uint32_t i = threadIdx.x; i < BINS; i += SAMPLE_THREADS)
        s->radix.low[i] = s->radix.high[i] = 0;
    __syncthreads();
}

__device__ void add_bins(row_space *space)
{
    block_shared *s = block_space();
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < BINS; i += SAMPLE_THREADS) {
        uint64_t weight = (uint64_t)s->radix.high[i] << 32 | s->radix.low[i];
        if (weight > 0) atomicAdd((unsigned long long *)&space->bin_weights[i], weight);
    }
}
static_assert(BINS <= SAMPLE_RADIX_SIZE, "a block's bins lie where a radix selection's buckets do");

__global__ void __launch_bounds__(SAMPLE_THREADS, 2) draw_kernel(sample_args a, row_split split)
{
    grid_dependency_wait();
    grid_dependency_release();
    uint32_t row_index = blockIdx.y, part = blockIdx.x, warp = threadIdx.x / 32;
    workspace *all = (workspace *)a.workspace;
    row_space *space = &all->rows[row_index];
    const sample_row row = a.row[row_index];
    if (is_padding(a, row, row_index) || !space->is_open) return;
    row_wish wish = wish_of(row, a.vocab_used);
    drawing d = drawing_of(a, row, space, row_index);
    float threshold = wish.list_wanted > 0 ? space->threshold : INFINITY;

    uint32_t segment = part * SAMPLE_WARPS + warp;
    uint32_t begin = segment * split.segment_length;
    uint32_t end = begin + split.segment_length < d.vocab ? begin + split.segment_length : d.vocab;
    segment_sums sums;
    if (wish.draw == DRAW_FROM_ALL) {
        sums = sum_segment<DRAW_FROM_ALL>(space, d, wish.logprobs, threshold, begin, end);
        sums.weights = warp_sum_u64(sums.weights);
        if (threadIdx.x % 32 == 0) space->segment_weights[segment] = sums.weights;
    } else if (wish.draw == DRAW_TOP_P) {
        clear_bins();
        sums = sum_segment<DRAW_TOP_P>(space, d, wish.logprobs, threshold, begin, end);
        add_bins(space);
    } else {
        sums = sum_segment<DRAW_NONE>(space, d, wish.logprobs, threshold, begin, end);
    }
    if (wish.logprobs) {
        uint64_t total = block_total(sums.totals);
        if (threadIdx.x == 0) space->part_totals[part] = total;
    }
    if (is_last_part(&space->draw_arrivals, split.parts)) finish_row(a, all, row_index, split);
}

/* -- counts of penalties ---------------------------------------------------------------------- */

constexpr uint32_t COUNT_THREADS = 256;
constexpr uint32_t COUNTS_IN_VECTOR = 8;

__global__ void clear_counts_kernel(uint16_t *counts, uint32_t vectors)
{
    grid_dependency_wait();
    grid_dependency_release();
    uint32_t i = blockIdx.x * COUNT_THREADS + threadIdx.x;
    if (i < vectors) ((uint4 *)counts)[i] = make_uint4(0, 0, 0, 0);
}

__global__ void add_counts_kernel(uint16_t *counts, const uint32_t *ids, uint32_t id_count,
                                  uint32_t prompt_count)
{
    grid_dependency_wait();
    grid_dependency_release();
    uint32_t i = blockIdx.x * COUNT_THREADS + threadIdx.x;
    if (i >= id_count) return;
    uint32_t *word = (uint32_t *)counts + ids[i] / 2;
    uint32_t shift = ids[i] % 2 * 16;
    uint32_t before = *word, expected;
    do {
        expected = before;
        uint32_t count = expected >> shift & 0xffff;
        if (i < prompt_count)
            count |= 0x8000;
        else if ((count & 0x7fff) < 0x7fff)
            count++;
        uint32_t after = (expected & ~(0xffffu << shift)) | count << shift;
        if (after == expected) return;
        before = atomicCAS(word, expected, after);
    } while (before != expected);
}

uint32_t ceil_divide(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

/* A block for each SM, but none without a load for each of its warps; a row that is one of many in
 * parts small enough that the last of them do not take long. */
row_split split_of(uint32_t sm_count, uint32_t rows, uint32_t vocab)
{
    row_split split;
    uint32_t parts = sm_count / rows, least = ceil_divide(vocab, PART_LOGITS);
    uint32_t most = ceil_divide(vocab, SAMPLE_WARPS * WARP_STEP);
    if (most > PARTS_MAX) most = PARTS_MAX;
    if (parts < least) parts = least;
    split.parts = parts < most ? parts : most;
    split.segment_length = ceil_divide(vocab, split.parts * SAMPLE_WARPS * WARP_STEP) * WARP_STEP;
    split.lanes_per_group = 1;
    while (split.parts * SAMPLE_THREADS / split.lanes_per_group > GROUPS_MAX)
        split.lanes_per_group *= 2;
    split.groups = split.parts * SAMPLE_THREADS / split.lanes_per_group;
    return split;
}

bool is_aligned(const void *p, uintptr_t bytes)
{
    return (uintptr_t)p % bytes == 0;
}

bool is_valid(const kernel_device *device, const sample_args *a)
{
    return device->sm_count > 0 && a->rows <= SAMPLE_ROWS_MAX && a->vocab_used > 0 &&
           a->vocab_used <= SAMPLE_VOCAB_MAX && a->logits_stride % VECTOR == 0 &&
           a->logits_stride >= a->vocab_used && a->logits != NULL && is_aligned(a->logits, 16) &&
           a->row != NULL && is_aligned(a->row, 8) && a->step != NULL && is_aligned(a->step, 8) &&
           a->last_sampled != NULL && a->workspace != NULL && is_aligned(a->workspace, 256) &&
           (a->counts == NULL ||
            (is_aligned(a->counts, 16) && a->counts_stride % COUNTS_IN_VECTOR == 0 &&
             a->counts_stride >= a->vocab_used));
}

} // namespace

extern "C" size_t sample_workspace_bytes(uint32_t rows)
{
    return offsetof(workspace, rows) + (size_t)rows * sizeof(row_space);
}

extern "C" cudaError_t sample(const kernel_device *device, const sample_args *args,
                              bool greedy_only, cudaStream_t stream)
{
    if (!is_valid(device, args)) return cudaErrorInvalidValue;
    if (args->rows == 0) return cudaSuccess;
    row_split split = split_of(device->sm_count, args->rows, args->vocab_used);
    dim3 grid(split.parts, args->rows);
    cudaError_t error = launch(LAUNCH_OVERLAPPED, scan_kernel, grid, dim3(SAMPLE_THREADS), 0,
                               stream, *args, split, greedy_only);
    if (error != cudaSuccess || greedy_only) return error;
    return launch(LAUNCH_OVERLAPPED, draw_kernel, grid, dim3(SAMPLE_THREADS), 0, stream, *args,
                  split);
}

extern "C" cudaError_t sample_counts_load(uint16_t *counts, uint32_t counts_stride, uint32_t slot,
                                          uint32_t vocab, const uint32_t *ids, uint32_t id_count,
                                          uint32_t prompt_count, cudaStream_t stream)
{
    if (counts == NULL || !is_aligned(counts, 16) || counts_stride % COUNTS_IN_VECTOR != 0 ||
        vocab == 0 || vocab > counts_stride || prompt_count > id_count ||
        (ids == NULL && id_count > 0))
        return cudaErrorInvalidValue;
    uint16_t *own = counts + (size_t)slot * counts_stride;
    uint32_t vectors = ceil_divide(vocab, COUNTS_IN_VECTOR);
    cudaError_t error =
        launch(LAUNCH_OVERLAPPED, clear_counts_kernel, dim3(ceil_divide(vectors, COUNT_THREADS)),
               dim3(COUNT_THREADS), 0, stream, own, vectors);
    if (error != cudaSuccess || id_count == 0) return error;
    return launch(LAUNCH_OVERLAPPED, add_counts_kernel, dim3(ceil_divide(id_count, COUNT_THREADS)),
                  dim3(COUNT_THREADS), 0, stream, own, ids, id_count, prompt_count);
}
