/* sample_row: what the kernels of sample.cu share about a row: how it is cut up, what its
 * parameters ask for, what its blocks leave for each other, and how its answer reaches the host. */
#ifndef GAGGLE_WORKER_CUDA_SAMPLE_ROW_CUH
#define GAGGLE_WORKER_CUDA_SAMPLE_ROW_CUH

#include "worker/cuda/kernels/ptx.cuh"
#include "worker/cuda/kernels/sample.h"
#include "worker/cuda/kernels/sample_block.cuh"

constexpr uint32_t PARTS_MAX = 64; /* blocks of one row */
constexpr uint32_t SEGMENTS_MAX = PARTS_MAX * SAMPLE_WARPS;
constexpr uint32_t GROUPS_MAX = 1024;
constexpr uint32_t VECTOR = 4;              /* logits in 16 bytes */
constexpr uint32_t WARP_STEP = 32 * VECTOR; /* logits that a warp loads at once */
constexpr uint32_t LISTED_TOP_K_MAX = 768;  /* of 1024 groups' maxima reached by 1,400 logits */
constexpr uint32_t BINS = 1024;
constexpr uint32_t PART_LOGITS = 32768; /* a block costs 2 us of its own: not many less */

/* What the blocks of one row leave for each other. */
struct row_space {
    uint32_t scan_arrivals, draw_arrivals; /* 0 between launches */
    uint32_t is_open;                      /* the draw kernel has something to do */
    float max;
    uint32_t likeliest;
    float threshold; /* logits from here on are listed */
    uint32_t list_count;
    uint2 part_best[PARTS_MAX];             /* key, id */
    uint64_t part_totals[PARTS_MAX];        /* at temperature 1 */
    uint64_t segment_weights[SEGMENTS_MAX]; /* at the row's temperature, at least min-p */
    uint64_t bin_weights[BINS];             /* the same; top-p only */
    uint32_t group_best[GROUPS_MAX];        /* keys */
    uint64_t list[SAMPLE_LIST_MAX];         /* list_entry() */
};

struct workspace {
    uint32_t rows_done; /* 0 between launches */
    alignas(256) row_space rows[1];
};

/* How a row is cut up: blocks, then warps, each a contiguous segment. */
struct row_split {
    uint32_t parts;
    uint32_t segment_length;  /* multiple of WARP_STEP */
    uint32_t lanes_per_group; /* power of two; a group is the logits of these lanes */
    uint32_t groups;
};

/* How a row's token is found once its largest logit is known. */
enum row_draw {
    DRAW_NONE,     /* it is the likeliest */
    DRAW_FROM_ALL, /* no truncation: from sums of weights */
    DRAW_TOP_K,    /* from the list, which holds the top_k likeliest; top-p goes on from there */
    DRAW_TOP_P,    /* from weights binned by likelihood */
    DRAW_BY_RADIX, /* a large top_k */
};

/* What a row's parameters ask for. */
struct row_wish {
    row_draw draw;
    bool logprobs;
    uint32_t list_wanted; /* this many of the likeliest, at least; 0 = no list */
};

static __device__ row_wish wish_of(const sample_row &row, uint32_t vocab)
{
    row_wish w;
    w.logprobs = row.logprobs != SAMPLE_LOGPROBS_OFF;
    if (row.temperature == 0.0f)
        w.draw = DRAW_NONE;
    else if (row.top_k > 0 && row.top_k < vocab)
        w.draw = row.top_k <= LISTED_TOP_K_MAX ? DRAW_TOP_K : DRAW_BY_RADIX;
    else
        w.draw = row.top_p < 1.0f ? DRAW_TOP_P : DRAW_FROM_ALL;
    w.list_wanted = w.draw == DRAW_TOP_K ? row.top_k : 0;
    if (w.logprobs && row.logprobs > w.list_wanted) w.list_wanted = row.logprobs;
    return w;
}

static __device__ bool is_padding(const sample_args &a, const sample_row &row, uint32_t row_index)
{
    uint32_t flags = row.flags, row_count = a.step->row_count; /* both loads at once */
    return ((flags & SAMPLE_ROW_SKIP) != 0) | (row_index >= row_count);
}

static __device__ __forceinline__ void load_vector(float x[VECTOR], const float *logits)
{
    float4 v = *(const float4 *)logits;
    x[0] = v.x;
    x[1] = v.y;
    x[2] = v.z;
    x[3] = v.w;
}

/* -- the end of a row ------------------------------------------------------------------- */

/* One thread a row, after the block's writes: the last row's tells the host. */
static __device__ void tell_host(const sample_args &a, workspace *space)
{
    if (a.rows > 1) {
        if (atomic_add_ordered_system(&space->rows_done, 1) + 1 < a.rows) return;
        space->rows_done = 0;
    }
    store_release_system(a.step->done, a.step->sequence);
}

/* One thread, after the block has written top_ids and top_logprobs. */
static __device__ void publish(const sample_args &a, workspace *space, const sample_row &row,
                               uint32_t row_index, uint32_t id, float logprob, uint32_t top_count)
{
    a.last_sampled[row.slot] = id;
    if (row.flags & SAMPLE_ROW_PENALTIES) {
        uint16_t *count = &a.counts[(size_t)row.slot * a.counts_stride + id];
        if ((*count & 0x7fff) < 0x7fff) (*count)++;
    }
    uint4 head = make_uint4(SAMPLE_DRAWN, id, __float_as_uint(logprob), top_count);
    *(uint4 *)&a.step->results[row_index] = head;
    tell_host(a, space);
}

static __device__ void publish_broken(const sample_args &a, workspace *space, uint32_t row_index)
{
    a.step->results[row_index].status = SAMPLE_BROKEN;
    tell_host(a, space);
}

/* Has every other block of the row written its share? Then this one goes on. */
static __device__ bool is_last_part(uint32_t *arrivals, uint32_t parts)
{
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomic_add_ordered(arrivals, 1) + 1 == parts;
        if (last) *arrivals = 0;
    }
    __syncthreads();
    return last;
}

#endif
