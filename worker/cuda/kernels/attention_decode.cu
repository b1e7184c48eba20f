/* attention_decode: attention of one token a sequence over long paged KV, bound by memory bandwidth
 * (flash decoding: Dao et al., 2023, https://pytorch.org/blog/flash-decoding/).
 *
 * The query heads of one KV head are the rows of one 16-row tile, so each key and value is read
 * once for all of them and the products cost nothing that matters on tensor cores. What matters is
 * bytes in flight: 4.3 TB/s at 1 us need 32 KB an SM at any time.
 *
 * A unit is an item (a token's chunk of keys) and a KV head. A block's warps take the chunk's pages
 * in turn, one page (16 keys: one contiguous piece of memory) a step. Every warp runs its own ring
 * of pages in shared memory, keys and values apart, with asynchronous copies and no barrier: when a
 * warp waits, the others' copies are still on their way. When it has used its last page it asks for
 * the first ones of the block's next unit, so that they travel while the warps' results are added
 * up. sm_75 copies through registers; at 260 GB/s four warps' pages are enough in flight all the
 * same.
 *
 * At a unit's end the warps' (maximum, sum, out) are added in warp order. With several chunks the
 * result goes to `partials`, then the block draws a ticket; the last adds up all chunks in their
 * order, whichever block it is. So the order of additions depends on how the token is cut alone.
 *
 * Blocks live as long as the grid (as many as fit the device) and take every gridDim-th unit. A
 * block's first pages are asked for before the kernel ahead on the stream has ended: they were
 * written by earlier steps, only the page with the token's own key was not. */
#include "worker/cuda/kernels/attention_mma.cuh"
#include "worker/cuda/kernels/launch.cuh"

template <typename Element, int HeadStride, int ArchLeast, int StageCount, int BlockCount>
struct decode_form {
    using T = Element;
    static constexpr int Head = HeadStride;
    static constexpr int Warps = 4;
    static constexpr int Stages = StageCount; /* pages of keys, and of values, of a warp */
    static constexpr int BlocksAnSm = BlockCount;
    static constexpr int ArchMin = ArchLeast;
    /* Is the ring filled again while outputs are added? Only asynchronous copies gain by it. */
    static constexpr bool Ahead = ArchMin >= 800;
    static constexpr int Threads = 32 * Warps;
    static constexpr int PageChunks = 2 * Head; /* of 16 bytes */
    static constexpr int WarpChunks = 2 * Stages * PageChunks;
    static constexpr int RingBytes = 16 * Warps * WarpChunks;
    static constexpr int OutputBytes = Warps * 8 * Head * (int)sizeof(float); /* 8 rows at a time */
    static constexpr int SharedBytes = RingBytes + (Ahead ? OutputBytes : 0);
    /* Of an SM: sm_75's, the least of sm_80 to sm_89 (sm_86's), sm_90's; from sm_80 every block
     * costs 1 KiB more. */
    static constexpr int SmBytes = ArchMin >= 900   ? 228 * 1024
                                   : ArchMin >= 800 ? 100 * 1024
                                                    : 65536;
    static constexpr int ReservedBytes = ArchMin >= 800 ? 1024 : 0;
    static_assert(RingBytes >= OutputBytes, "outputs fit the ring");
    static_assert(16 * ATTENTION_CHUNKS_MAX * sizeof(float) <= OutputBytes, "so do weights");
    static_assert(BlocksAnSm * (SharedBytes + ReservedBytes) <= SmBytes, "as many as an SM holds");
};

/* sm_75: as many as its 64 KiB hold. */
template <typename T, int Head>
using small_decode = decode_form<T, Head, 750, 1, 65536 / (256 * Head)>;
/* sm_80 to sm_89: within the 99 KiB of sm_86. */
template <typename T, int Head>
using medium_decode = decode_form<T, Head, 800,
                                  Head == 64    ? 4
                                  : Head <= 128 ? 2
                                                : 1,
                                  1>;
/* sm_90: its 227 KiB in three, two or one blocks. */
template <typename T, int Head>
using large_decode = decode_form<T, Head, 900, Head <= 96 ? 4 : 3,
                                 Head == 64    ? 3
                                 : Head <= 128 ? 2
                                               : 1>;

/* -- one unit: an item, a KV head, and at most 16 of its query heads ------------------------- */

struct decode_unit {
    attention_decode_item item;
    uint32_t kv_head;
    uint32_t head;  /* its first query head */
    uint32_t heads; /* 1..16 */
};

/* Query heads of a KV head, and the units they make. */
struct head_group {
    uint32_t heads, tiles;
};

static __device__ __forceinline__ void choose_tile(decode_unit &unit, head_group group,
                                                   uint32_t tile)
{
    unit.head = unit.kv_head * group.heads + tile * 16;
    unit.heads = min(16u, group.heads - tile * 16);
}

static __device__ __forceinline__ attention_decode_item
load_item(const attention_decode_item *items, uint32_t index)
{
    const uint4 *from = (const uint4 *)(items + index);
    union {
        uint4 words[2];
        attention_decode_item item;
    } u;
    u.words[0] = __ldg(from);
    u.words[1] = __ldg(from + 1);
    return u.item;
}

static __device__ __forceinline__ decode_unit unit_at(const attention_decode_args &args,
                                                      head_group group, uint32_t index)
{
    const uint32_t item_units = args.kv.kv_heads * group.tiles;
    decode_unit unit;
    unit.item = load_item(args.items, index / item_units);
    unit.kv_head = index % item_units / group.tiles;
    choose_tile(unit, group, index % group.tiles);
    return unit;
}

/* -- a warp's pages of a chunk ------------------------------------------------------------ */

/* The warp's page number i is page `first + i * Warps` of the sequence. */
template <typename Form> struct page_stream {
    static constexpr int Head = Form::Head;
    static constexpr int PageChunks = Form::PageChunks;

    const uint4 *keys, *values; /* this KV head's part of block 0 */
    int64_t block_chunks;       /* from block to block */
    const uint32_t *table;
    uint32_t first, count;
    uint32_t key_begin, key_end;
    uint4 *ring;
    uint32_t entries = 0; /* lane l: block of page i / 32 * 32 + l, i the page asked for last */
    uint32_t block = 0;   /* of the page asked for last */

    /* The unit's pages; asks for nothing but their table entries. */
    __device__ __forceinline__ void start(const attention_decode_args &args,
                                          const decode_unit &unit, uint4 *warp_ring)
    {
        block_chunks = (int64_t)args.kv.kv_heads * PageChunks;
        keys = (const uint4 *)args.kv.keys + (int64_t)unit.kv_head * PageChunks;
        values = (const uint4 *)args.kv.values + (int64_t)unit.kv_head * PageChunks;
        table = args.block_tables + unit.item.block_begin;
        key_begin = unit.item.key_begin;
        key_end = unit.item.key_end;
        first = key_begin / 16 + threadIdx.x / 32;
        ring = warp_ring;
        const uint32_t end = (key_end + 15) / 16;
        count = first < end ? (end - first + Form::Warps - 1) / Form::Warps : 0;
        look_up(0);
    }

    __device__ __forceinline__ void look_up(uint32_t i)
    {
        const uint32_t mine = i + threadIdx.x % 32;
        entries = mine < count ? __ldg(table + first + mine * Form::Warps) : 0;
    }

    /* Is the page of the token's own key among those that begin_first() asks for? */
    __device__ __forceinline__ bool first_have(uint32_t position) const
    {
        return first + (Form::Stages - 1) * Form::Warps >= position / 16;
    }

    __device__ __forceinline__ void begin_first()
    {
#pragma unroll
        for (int i = 0; i < Form::Stages; i++) {
            begin_keys(i);
            begin_values(i);
        }
    }

    /* Ask for page i's keys; its values must be asked for before those of page i + 1. */
    __device__ __forceinline__ void begin_keys(uint32_t i)
    {
        if (i < count) {
            if (i > 0 && i % 32 == 0) look_up(i);
            block = __shfl_sync(0xffffffffu, entries, i % 32);
            copy(ring + i % Form::Stages * PageChunks, keys, i);
        }
        copy_async_commit();
    }

    __device__ __forceinline__ void begin_values(uint32_t i)
    {
        if (i < count) copy(ring + (Form::Stages + i % Form::Stages) * PageChunks, values, i);
        copy_async_commit();
    }

    __device__ __forceinline__ void copy(uint4 *to, const uint4 *head, uint32_t i)
    {
        const uint4 *from = head + block * block_chunks;
        uint32_t page_key = (first + i * Form::Warps) * 16;
#pragma unroll
        for (int pass = 0; pass < PageChunks / 32; pass++) {
            uint32_t chunk = pass * 32 + threadIdx.x % 32;
            uint32_t row = chunk / (Head / 8);
            uint32_t key = page_key + row;
            copy_async_16(to + tile_chunk<Head>(row, chunk % (Head / 8)), from + chunk,
                          key >= key_begin && key < key_end);
        }
    }
};

/* -- writing -------------------------------------------------------------------------------- */

template <typename T>
static __device__ __forceinline__ void write_four(T *out, uint32_t column, uint32_t head_dim,
                                                  float4 x)
{
    if (column < head_dim) *(uint32_t *)(out + column) = pack_two<T>(x.x, x.y);
    if (column + 2 < head_dim) *(uint32_t *)(out + column + 2) = pack_two<T>(x.z, x.w);
}

static __device__ __forceinline__ void add_scaled(float4 &sum, float4 x, float factor)
{
    sum.x = fmaf(x.x, factor, sum.x);
    sum.y = fmaf(x.y, factor, sum.y);
    sum.z = fmaf(x.z, factor, sum.z);
    sum.w = fmaf(x.w, factor, sum.w);
}

/* -- chunks of one token: partials [slot][heads][Head + 4], at Head the largest, then the sum ----
 */

template <typename Form>
static __device__ __forceinline__ float *partial_of(const attention_decode_args &args,
                                                    const decode_unit &unit, uint32_t chunk,
                                                    uint32_t row)
{
    constexpr int64_t stride = Form::Head + 4;
    int64_t slot = (int64_t)unit.item.slot_begin + chunk;
    return args.partials + (slot * args.shape.heads + unit.head + row) * stride;
}

/* Has every chunk of the unit's token and KV head been written, this one as the last? */
static __device__ __forceinline__ bool draw_last_ticket(const attention_decode_args &args,
                                                        const decode_unit &unit, uint32_t tiles,
                                                        uint32_t *shared)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence(); /* of all the block's writes: the barrier put them before it */
        uint32_t *ticket =
            args.tickets + (int64_t)unit.item.slot_begin * args.kv.kv_heads + unit.kv_head;
        bool last = atomicAdd(ticket, 1u) == unit.item.chunk_count * tiles - 1;
        if (last) *ticket = 0; /* for the next layer */
        *shared = last;
        __threadfence();
    }
    __syncthreads();
    return *shared != 0;
}

/* out of the unit's heads = sum over chunks, in their order. `shared`: the ring, free. */
template <typename Form>
static __device__ __forceinline__ void add_chunks(const attention_decode_args &args,
                                                  const decode_unit &unit, float exponent_scale,
                                                  float *shared)
{
    constexpr int Head = Form::Head;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t chunks = unit.item.chunk_count;
    for (uint32_t row = warp; row < unit.heads; row += Form::Warps) {
        float largest = -INFINITY, sum = 0;
        for (uint32_t c = lane; c < chunks; c += 32)
            largest = fmaxf(largest, __ldcg(partial_of<Form>(args, unit, c, row) + Head));
        largest = warp_max(largest);
        float base = finite_base(largest);
        for (uint32_t c = lane; c < chunks; c += 32) {
            float2 state = __ldcg((const float2 *)(partial_of<Form>(args, unit, c, row) + Head));
            float weight = exp2_approximate((state.x - base) * exponent_scale);
            sum += weight * state.y;
            shared[row * chunks + c] = weight;
        }
        sum = warp_sum(sum);
        for (uint32_t c = lane; c < chunks; c += 32)
            shared[row * chunks + c] /= sum;
    }
    __syncthreads();
    for (uint32_t e = threadIdx.x; e < unit.heads * (Head / 4); e += Form::Threads) {
        uint32_t row = e / (Head / 4), column = e % (Head / 4) * 4;
        const float *weights = shared + row * chunks;
        const float *from = partial_of<Form>(args, unit, 0, row) + column;
        const int64_t stride = (int64_t)args.shape.heads * (Head + 4);
        float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 16
        for (uint32_t c = 0; c < chunks; c++)
            add_scaled(sum, __ldcg((const float4 *)(from + c * stride)), weights[c]);
        int64_t head = (int64_t)unit.item.token * args.shape.heads + unit.head + row;
        write_four((typename Form::T *)args.out + head * args.kv.head_dim, column, args.kv.head_dim,
                   sum);
    }
    __syncthreads();
}

/* -- adding up the warps ---------------------------------------------------------------------- */

/* Index in the shared array of outputs [Warps][8][Head]; turned so that rows meet in no bank. */
template <int Head>
static __device__ __forceinline__ uint32_t output_index(uint32_t warp, uint32_t row,
                                                        uint32_t column)
{
    return (8 * warp + row) * Head + ((column / 8) ^ (row & 3)) * 8 + column % 8;
}

/* rows: from the warp's largest and sum to the chunk's. factor: what the warp's outputs are to be
 * multiplied with; with `whole` they are divided by the sum, too. */
template <typename Form>
static __device__ __forceinline__ void join_rows(running_rows &rows, float (&factor)[2],
                                                 float exponent_scale, float2 *states, bool whole)
{
    constexpr int Warps = Form::Warps;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const float2 mine[2] = {make_float2(rows.largest[0], row_sum(rows.sum[0])),
                            make_float2(rows.largest[1], row_sum(rows.sum[1]))};
    __syncthreads();
    if (lane % 4 == 0) {
        states[16 * warp + lane / 4] = mine[0];
        states[16 * warp + lane / 4 + 8] = mine[1];
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float2 state[Warps];
        rows.largest[r] = -INFINITY;
        rows.sum[r] = 0.0f;
#pragma unroll
        for (int w = 0; w < Warps; w++) {
            state[w] = states[16 * w + lane / 4 + 8 * r];
            rows.largest[r] = fmaxf(rows.largest[r], state[w].x);
        }
        float base = finite_base(rows.largest[r]);
#pragma unroll
        for (int w = 0; w < Warps; w++)
            rows.sum[r] += state[w].y * exp2_approximate((state[w].x - base) * exponent_scale);
        factor[r] = exp2_approximate((mine[r].x - base) * exponent_scale);
        if (whole) factor[r] /= rows.sum[r];
    }
}

/* The unit's result, from the warps' to where it belongs. No thread that has come here, or has
 * returned, uses `shared`. */
template <typename Form>
static __device__ __forceinline__ void write_unit(const attention_decode_args &args,
                                                  decode_unit unit, head_group group,
                                                  const float (&out)[Form::Head / 8][4],
                                                  running_rows &rows, float exponent_scale,
                                                  float *shared)
{
    using T = typename Form::T;
    constexpr int Head = Form::Head;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const bool whole = unit.item.chunk_count == 1;
    float factor[2];
    join_rows<Form>(rows, factor, exponent_scale, (float2 *)shared, whole);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const uint32_t row_begin = 8 * r;
        if (row_begin >= unit.heads) break;
        const uint32_t row_count = min(8u, unit.heads - row_begin);
        __syncthreads(); /* what stood in `shared` was read */
        if (lane / 4 < row_count) {
#pragma unroll
            for (int n = 0; n < Head / 8; n++)
                *(float2 *)(shared + output_index<Head>(warp, lane / 4, 8 * n + lane % 4 * 2)) =
                    make_float2(out[n][2 * r] * factor[r], out[n][2 * r + 1] * factor[r]);
        }
        __syncthreads();
        for (uint32_t e = threadIdx.x; e < row_count * (Head / 4); e += Form::Threads) {
            uint32_t row = e / (Head / 4), column = e % (Head / 4) * 4;
            float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
            for (int w = 0; w < Form::Warps; w++)
                add_scaled(sum, *(const float4 *)(shared + output_index<Head>(w, row, column)), 1);
            if (whole) {
                int64_t head =
                    (int64_t)unit.item.token * args.shape.heads + unit.head + row_begin + row;
                write_four((T *)args.out + head * args.kv.head_dim, column, args.kv.head_dim, sum);
            } else {
                float *to = partial_of<Form>(args, unit, unit.item.chunk, row_begin + row);
                *(float4 *)(to + column) = sum;
            }
        }
        if (!whole && warp == 0 && lane % 4 == 0 && lane / 4 < row_count) {
            float *to = partial_of<Form>(args, unit, unit.item.chunk, row_begin + lane / 4);
            *(float2 *)(to + Head) = make_float2(rows.largest[r], rows.sum[r]);
        }
    }
    if (!whole) {
        bool last = draw_last_ticket(args, unit, group.tiles, (uint32_t *)shared);
        __syncthreads(); /* the ticket was read */
        for (uint32_t tile = 0; last && tile < group.tiles; tile++) {
            choose_tile(unit, group, tile);
            add_chunks<Form>(args, unit, exponent_scale, shared);
        }
    }
    __syncthreads();
}

/* -- a warp's share of a unit --------------------------------------------------------------- */

/* One page of 16 keys. */
template <typename Form>
static __device__ __forceinline__ void page_scores(float (&s)[2][4],
                                                   const uint32_t (&query)[Form::Head / 16][4],
                                                   const uint4 *keys)
{
    using T = typename Form::T;
#pragma unroll
    for (int n = 0; n < 2; n++)
        s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
#pragma unroll
    for (int step = 0; step < Form::Head / 16; step++) {
        uint32_t k[4];
        load_key_fragment<T, Form::Head>(k, keys, 0, step);
        mma_m16n8k16(s[0], query[step], k, T());
        mma_m16n8k16(s[1], query[step], k + 2, T());
    }
}

template <typename Form>
static __device__ __forceinline__ void page_values(float (&out)[Form::Head / 8][4],
                                                   const float (&p)[2][4], const uint4 *values)
{
    using T = typename Form::T;
    uint32_t a[4];
    pack_probabilities<T>(a, p, 0);
#pragma unroll
    for (int step = 0; step < Form::Head / 16; step++) {
        uint32_t v[4];
        load_value_fragment<T, Form::Head>(v, values, 0, step);
        mma_m16n8k16(out[2 * step], a, v, T());
        mma_m16n8k16(out[2 * step + 1], a, v + 2, T());
    }
}

/* Cap, and -inf for keys outside of [begin, end), counted from the page's first. */
static __device__ __forceinline__ void cap_and_mask(float (&s)[2][4], const score_rule &rule,
                                                    int begin, int end)
{
#pragma unroll
    for (int n = 0; n < 2; n++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int key = 8 * n + threadIdx.x % 4 * 2 + j % 2;
            if (rule.cap > 0) s[n][j] = capped(s[n][j], rule);
            if (key < begin || key >= end) s[n][j] = -INFINITY;
        }
    }
}

/* All its pages, of which the first have been asked for. */
template <typename Form>
static __device__ __forceinline__ void attend_pages(page_stream<Form> &pages,
                                                    const uint32_t (&query)[Form::Head / 16][4],
                                                    const score_rule &rule,
                                                    float (&out)[Form::Head / 8][4],
                                                    running_rows &rows)
{
    constexpr int Stages = Form::Stages;
    for (uint32_t i = 0; i < pages.count; i++) {
        const uint4 *keys = pages.ring + i % Stages * Form::PageChunks;
        const uint4 *values = keys + Stages * Form::PageChunks;
        const int page_key = (int)(pages.first + i * Form::Warps) * 16;
        float s[2][4];
        copy_async_wait<2 * Stages - 1>();
        __syncwarp();
        page_scores<Form>(s, query, keys);
        __syncwarp();
        pages.begin_keys(i + Stages);
        cap_and_mask(s, rule, (int)pages.key_begin - page_key, (int)pages.key_end - page_key);
        softmax_step(s, out, rows, rule.exponent_scale);
        copy_async_wait<2 * Stages - 1>();
        __syncwarp();
        page_values<Form>(out, s, values);
        __syncwarp();
        pages.begin_values(i + Stages);
    }
}

/* -- the kernel ----------------------------------------------------------------------------- */

template <typename Form>
static __device__ __forceinline__ void attend_units(const attention_decode_args &args,
                                                    const score_rule &rule, unsigned char *shared)
{
    using T = typename Form::T;
    constexpr int Head = Form::Head;
    const uint32_t lane = threadIdx.x % 32;
    uint4 *ring = (uint4 *)shared + threadIdx.x / 32 * Form::WarpChunks;
    float *outputs = (float *)(shared + (Form::Ahead ? Form::RingBytes : 0));
    head_group group;
    group.heads = args.shape.heads / args.kv.kv_heads;
    group.tiles = (group.heads + 15) / 16;
    const uint32_t unit_count = __ldg(args.item_count) * args.kv.kv_heads * group.tiles;

    uint32_t index = blockIdx.x;
    if (index >= unit_count) {
        grid_dependency_wait(); /* who waits for this grid waits for those before */
        return;
    }
    decode_unit unit = unit_at(args, group, index);
    page_stream<Form> pages;
    pages.start(args, unit, ring);
    /* Only the page of the token's own key comes from this step. */
    if (pages.first_have(unit.item.position)) grid_dependency_wait();
    pages.begin_first();
    grid_dependency_wait();
    while (true) {
        index += gridDim.x;
        const bool more = index < unit_count;
        decode_unit next = unit;
        if (more)
            next = unit_at(args, group, index);
        else
            grid_dependency_release();

        uint32_t query[Head / 16][4];
        const T *q =
            (const T *)args.q + ((int64_t)unit.item.token * args.shape.heads + unit.head) * Head;
        load_query<T, Head>(query, lane / 4 < unit.heads ? q + lane / 4 * Head : nullptr,
                            lane / 4 + 8 < unit.heads ? q + (lane / 4 + 8) * Head : nullptr);
        float out[Head / 8][4];
#pragma unroll
        for (int n = 0; n < Head / 8; n++)
            out[n][0] = out[n][1] = out[n][2] = out[n][3] = 0.0f;
        running_rows rows;
        start_rows(rows);
        attend_pages<Form>(pages, query, rule, out, rows);

        if (Form::Ahead && more) {
            pages.start(args, next, ring);
            pages.begin_first();
        }
        write_unit<Form>(args, unit, group, out, rows, rule.exponent_scale, outputs);
        if (!more) return;
        if (!Form::Ahead) {
            pages.start(args, next, ring);
            pages.begin_first();
        }
        unit = next;
    }
}

template <typename Form>
__global__ void __launch_bounds__(Form::Threads, Form::BlocksAnSm)
    attention_decode_kernel(const attention_decode_args args, const score_rule rule)
{
    if constexpr (attention_compiled<typename Form::T, Form::ArchMin>) {
        DYNAMIC_SHARED(shared);
        attend_units<Form>(args, rule, shared);
    }
}

/* -- launchers -------------------------------------------------------------------------------- */

/* A form by the architecture that the code was compiled for; large where its shared memory is. */
enum decode_size { DECODE_SMALL, DECODE_MEDIUM, DECODE_LARGE };

static decode_size size_for(const kernel_device *device)
{
    if (device->code_arch < 80) return DECODE_SMALL;
    bool large = device->code_arch >= 90 && device->shared_bytes_max >= 200 * 1024;
    return large ? DECODE_LARGE : DECODE_MEDIUM;
}

/* Calls f with the form as an argument of no content. */
template <typename T, int Head, typename F>
static cudaError_t with_form(const kernel_device *device, F f)
{
    switch (size_for(device)) {
    case DECODE_SMALL:
        return f(small_decode<T, Head>());
    case DECODE_MEDIUM:
        return f(medium_decode<T, Head>());
    default:
        return f(large_decode<T, Head>());
    }
}

template <typename T, typename F>
static cudaError_t with_head(const kernel_device *device, uint32_t head_stride, F f)
{
    switch (head_stride) {
    case 64:
        return with_form<T, 64>(device, f);
    case 96:
        return with_form<T, 96>(device, f);
    case 128:
        return with_form<T, 128>(device, f);
    case 256:
        return with_form<T, 256>(device, f);
    default:
        return cudaErrorInvalidValue;
    }
}

struct decode_launch {
    const kernel_device *device;
    const attention_decode_args *args;
    cudaStream_t stream;

    template <typename Form> cudaError_t operator()(Form) const
    {
        return launch(LAUNCH_OVERLAPPED, attention_decode_kernel<Form>,
                      dim3(device->sm_count * Form::BlocksAnSm), dim3(Form::Threads),
                      Form::SharedBytes, stream, *args, score_rule_of(&args->shape));
    }
};

struct decode_prepare {
    template <typename Form> cudaError_t operator()(Form) const
    {
        return launch_allow_shared(attention_decode_kernel<Form>, Form::SharedBytes);
    }
};

/* Blocks that the device holds at once. */
struct decode_blocks {
    const kernel_device *device;
    uint32_t *blocks;

    template <typename Form> cudaError_t operator()(Form) const
    {
        *blocks = device->sm_count * Form::BlocksAnSm;
        return cudaSuccess;
    }
};

extern "C" uint32_t attention_decode_items_wanted(const kernel_device *device, const kernel_kv *kv,
                                                  const attention_shape *shape)
{
    uint32_t blocks = 0;
    if (with_head<__half>(device, kv->head_stride, decode_blocks{device, &blocks}) != cudaSuccess)
        return 1;
    /* Three quarters: memory is busy by then, and a cut more would cost all of them. */
    uint32_t units = kv->kv_heads * ((shape->heads / kv->kv_heads + 15) / 16);
    uint32_t items = blocks * 3 / 4 / units;
    return items > 0 ? items : 1;
}

extern "C" cudaError_t attention_decode(const kernel_device *device,
                                        const attention_decode_args *args, cudaStream_t stream)
{
    if (!attention_shape_valid(&args->kv, &args->shape)) return cudaErrorInvalidValue;
    decode_launch f = {device, args, stream};
    if (args->dtype == KERNEL_F16) return with_head<__half>(device, args->kv.head_stride, f);
    if (args->dtype == KERNEL_BF16 && device->code_arch >= 80)
        return with_head<__nv_bfloat16>(device, args->kv.head_stride, f);
    return cudaErrorInvalidValue;
}

extern "C" cudaError_t attention_decode_prepare(const kernel_device *device)
{
    for (uint32_t head_stride : {64u, 96u, 128u, 256u}) {
        cudaError_t e = with_head<__half>(device, head_stride, decode_prepare());
        if (e == cudaSuccess && device->code_arch >= 80)
            e = with_head<__nv_bfloat16>(device, head_stride, decode_prepare());
        if (e != cudaSuccess) return e;
    }
    return cudaSuccess;
}
