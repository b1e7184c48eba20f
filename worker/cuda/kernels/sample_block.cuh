/* sample_block: what one block of SAMPLE_THREADS threads does together on its way to a token: sums
 * and prefix sums of 64-bit integers, a sort of a short list, walks over a row in the order of ids,
 * and the search for a truncation's end. All of it is exact, so nothing depends on the number of
 * threads. Every function is for all threads of the block, none of them diverged; shared memory may
 * be used for something else after it returns. */
#ifndef GAGGLE_WORKER_CUDA_SAMPLE_BLOCK_CUH
#define GAGGLE_WORKER_CUDA_SAMPLE_BLOCK_CUH

#include "worker/cuda/kernels/sample_weight.cuh"

constexpr uint32_t SAMPLE_THREADS = 512;
constexpr uint32_t SAMPLE_WARPS = SAMPLE_THREADS / 32;
constexpr uint32_t SAMPLE_LIST_MAX = 2048; /* a row's likeliest, sorted in shared memory */
constexpr uint32_t SAMPLE_LIST_EACH = SAMPLE_LIST_MAX / SAMPLE_THREADS;
constexpr uint32_t SAMPLE_RADIX_SIZE = 2048; /* 11, 11 and 10 bits of a key */
constexpr uint32_t SAMPLE_RADIX_EACH = SAMPLE_RADIX_SIZE / SAMPLE_THREADS;

struct block_shared {
    uint64_t warp_sums[SAMPLE_WARPS];
    uint64_t rest, bucket;
    uint32_t found;
    union {
        uint64_t list[SAMPLE_LIST_MAX];
        struct {
            uint32_t low[SAMPLE_RADIX_SIZE], high[SAMPLE_RADIX_SIZE];
        } radix;
    };
};
static_assert(sizeof(block_shared) <= 48 * 1024, "runs everywhere without opting in");

/* The block's own; by a function so that the compiler sees which memory it is. */
static __device__ __forceinline__ block_shared *block_space()
{
    __shared__ block_shared space;
    return &space;
}

/* -- sums ----------------------------------------------------------------------------- */

static __device__ __forceinline__ uint64_t shuffle_up(uint64_t x, uint32_t offset)
{
    uint32_t low = __shfl_up_sync(0xffffffffu, (uint32_t)x, offset);
    uint32_t high = __shfl_up_sync(0xffffffffu, (uint32_t)(x >> 32), offset);
    return (uint64_t)high << 32 | low;
}

static __device__ __forceinline__ uint64_t warp_sum_u64(uint64_t x)
{
    for (int offset = 16; offset > 0; offset /= 2) {
        uint32_t low = __shfl_xor_sync(0xffffffffu, (uint32_t)x, offset);
        uint32_t high = __shfl_xor_sync(0xffffffffu, (uint32_t)(x >> 32), offset);
        x += (uint64_t)high << 32 | low;
    }
    return x;
}

/* Sum over the threads before this one; *total gets the sum over all. */
static __device__ uint64_t block_prefix(uint64_t x, uint64_t *total)
{
    block_shared *s = block_space();
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint64_t inclusive = x;
    for (uint32_t offset = 1; offset < 32; offset *= 2) {
        uint64_t other = shuffle_up(inclusive, offset);
        if (lane >= offset) inclusive += other;
    }
    __syncthreads();
    if (lane == 31) s->warp_sums[warp] = inclusive;
    __syncthreads();
    uint64_t before = 0, all = 0;
    for (uint32_t w = 0; w < SAMPLE_WARPS; w++) {
        if (w == warp) before = all;
        all += s->warp_sums[w];
    }
    *total = all;
    return before + inclusive - x;
}

static __device__ uint64_t block_total(uint64_t x)
{
    block_shared *s = block_space();
    x = warp_sum_u64(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) s->warp_sums[threadIdx.x / 32] = x;
    __syncthreads();
    uint64_t all = 0;
    for (uint32_t w = 0; w < SAMPLE_WARPS; w++)
        all += s->warp_sums[w];
    return all;
}

/* -- a short list ---------------------------------------------------------------------- */

/* Sort list[0 .. size) ascending; size a power of two up to SAMPLE_LIST_MAX. Bitonic network:
 * Batcher, Sorting networks and their applications, 1968. */
static __device__ void sort_list(uint32_t size)
{
    block_shared *s = block_space();
    bool one_warp = size <= 64; /* barriers are what a short sort costs */
    uint32_t threads = one_warp ? 32 : SAMPLE_THREADS;
    __syncthreads();
    if (threadIdx.x < threads) {
        for (uint32_t run = 2; run <= size; run *= 2) {
            for (uint32_t gap = run / 2; gap > 0; gap /= 2) {
                for (uint32_t pair = threadIdx.x; pair < size / 2; pair += threads) {
                    uint32_t low = 2 * pair - (pair & (gap - 1)), high = low + gap;
                    uint64_t a = s->list[low], b = s->list[high];
                    if ((a > b) == ((low & run) == 0)) {
                        s->list[low] = b;
                        s->list[high] = a;
                    }
                }
                if (one_warp)
                    __syncwarp();
                else
                    __syncthreads();
            }
        }
    }
    __syncthreads();
}

/* -- walks over a row ------------------------------------------------------------------- */

/* The id in [begin, end) at which the running sum of measure(id), in the order of ids, exceeds
 * `target`; the sum over all must. Each round cuts the range to a sixteenth. */
template <typename Measure>
static __device__ uint32_t find_by_sum(uint32_t begin, uint32_t end, uint64_t target,
                                       Measure measure)
{
    block_shared *s = block_space();
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    while (end - begin > SAMPLE_THREADS) {
        uint32_t length = (end - begin + SAMPLE_WARPS - 1) / SAMPLE_WARPS;
        uint32_t warp_begin = begin + warp * length;
        uint32_t warp_end = warp_begin + length < end ? warp_begin + length : end;
        uint64_t sum = 0;
#pragma unroll 4
        for (uint32_t id = warp_begin + lane; id < warp_end; id += 32)
            sum += measure(id);
        sum = warp_sum_u64(sum);
        __syncthreads();
        if (lane == 0) s->warp_sums[warp] = sum;
        __syncthreads();
        uint32_t w = 0;
        while (w + 1 < SAMPLE_WARPS && target >= s->warp_sums[w])
            target -= s->warp_sums[w++];
        begin += w * length;
        end = begin + length < end ? begin + length : end;
    }
    uint32_t id = begin + threadIdx.x;
    uint64_t own = id < end ? measure(id) : 0, total;
    uint64_t before = block_prefix(own, &total);
    if (before <= target && target - before < own) s->found = id;
    __syncthreads();
    uint32_t found = s->found;
    __syncthreads();
    return found;
}

template <typename Measure> static __device__ uint64_t row_total(uint32_t count, Measure measure)
{
    uint64_t sum = 0;
#pragma unroll 4
    for (uint32_t id = threadIdx.x; id < count; id += SAMPLE_THREADS)
        sum += measure(id);
    return block_total(sum);
}

/* A prefix of "likeliest first, lowest id first on a tie". */
struct prefix_end {
    uint32_t key, id; /* of the last one in it */
};

static __device__ __forceinline__ bool is_before_end(prefix_end e, uint32_t key, uint32_t id)
{
    return key > e.key || (key == e.key && id <= e.id);
}

/* radix[bucket] += x, in two words: the low one's carry is seen by whoever caused it. */
static __device__ __forceinline__ void radix_add(uint32_t bucket, uint64_t x)
{
    block_shared *s = block_space();
    uint32_t low = (uint32_t)x, high = (uint32_t)(x >> 32);
    if (low != 0) high += atomicAdd(&s->radix.low[bucket], low) > 0xffffffffu - low;
    if (high != 0) atomicAdd(&s->radix.high[bucket], high);
}

/* The end of the shortest prefix whose measures reach `wanted`; *reached gets how much they are.
 *
 * measure   of an id; 0 for what is not there at all
 * measure_of_key  of a logit that is there
 * wanted    above 0, at most the sum of all measures
 *
 * Three rounds narrow down the last one's key; only when some of its equals do not belong to the
 * prefix, a walk in the order of ids finds the last that does. */
template <typename Measure, typename MeasureOfKey>
static __device__ prefix_end find_prefix_end(const float *logits, uint32_t count, uint64_t wanted,
                                             Measure measure, MeasureOfKey measure_of_key,
                                             uint64_t *reached)
{
    block_shared *s = block_space();
    uint64_t above = wanted;
    prefix_end end = {0, 0xffffffffu};
    uint32_t known_bits = 0;
    for (int round = 0; round < 3; round++) {
        uint32_t shift = round == 0 ? 21 : round == 1 ? 10 : 0;
        uint32_t size = round == 2 ? 1024 : 2048;
        __syncthreads();
        for (uint32_t b = threadIdx.x; b < SAMPLE_RADIX_SIZE; b += SAMPLE_THREADS)
            s->radix.low[b] = s->radix.high[b] = 0;
        __syncthreads();
#pragma unroll 4
        for (uint32_t id = threadIdx.x; id < count; id += SAMPLE_THREADS) {
            uint32_t key = key_of(logits[id]);
            if ((key & known_bits) == end.key) radix_add(key >> shift & (size - 1), measure(id));
        }
        __syncthreads();
        /* Likeliest first: this thread's buckets are top, top - 1, ... */
        uint32_t top = SAMPLE_RADIX_SIZE - 1 - threadIdx.x * SAMPLE_RADIX_EACH;
        uint64_t own[SAMPLE_RADIX_EACH], sum = 0, total;
        for (uint32_t i = 0; i < SAMPLE_RADIX_EACH; i++)
            sum += own[i] = (uint64_t)s->radix.high[top - i] << 32 | s->radix.low[top - i];
        uint64_t before = block_prefix(sum, &total);
        for (uint32_t i = 0; i < SAMPLE_RADIX_EACH; i++) {
            if (before < wanted && wanted - before <= own[i]) {
                s->found = top - i;
                s->rest = wanted - before;
                s->bucket = own[i];
            }
            before += own[i];
        }
        __syncthreads();
        end.key |= s->found << shift;
        known_bits |= (size - 1) << shift;
        wanted = s->rest;
    }
    uint64_t each = measure_of_key(end.key), equals = s->bucket / each;
    uint64_t equals_wanted = (wanted + each - 1) / each;
    *reached = above - wanted + equals_wanted * each;
    if (equals_wanted < equals)
        end.id = find_by_sum(0, count, equals_wanted - 1, [&](uint32_t id) -> uint64_t {
            return key_of(logits[id]) == end.key && measure(id) > 0;
        });
    return end;
}

#endif
