/* attention_prefill: attention of many tokens over paged KV with mma.sync (FlashAttention-2's
 * loop).
 *
 * One block for each item and KV head. Its rows are (token, query head of the KV head's group), so
 * that keys and values are loaded once for the whole group, short chunks fill the tile, and causal
 * waste at the diagonal is a few tokens. A warp owns whole rows: nothing is exchanged between warps
 * but the tiles of keys and values.
 *
 * Per tile of Keys keys: s = q k^T in registers, softmax against the row's running maximum, and s,
 * rounded to T, is at once the A operand of out += p v. What bounds it on large GPUs is the rate of
 * mma.sync and, close behind, shared memory: every warp reads the whole tile, so a warp owns two
 * blocks of 16 rows and uses every fragment twice. Three forms, the same bits from each:
 *   wide    4 warps x 32 rows, two tiles in flight, q in shared memory; two blocks an SM need 2 x
 *           96 KiB: sm_90
 *   narrow  4 warps x 16 rows, one tile of keys and one of values, loaded in turn: the next values
 *           while scores are computed, the next keys while values are added. sm_75 carries them in
 *           registers (it has no asynchronous copies), others copy asynchronously
 *   single  1 warp x 16 rows: decode rows in batch-invariant mode
 *
 * The bits are the same since a row's tiles start at multiples of Keys, each is one softmax step in
 * one warp, and tiles that a row does not see change nothing (attention_mma.cuh). */
#include "worker/cuda/kernels/attention_mma.cuh"
#include "worker/cuda/kernels/launch.cuh"

/* Keys of a tile: fixes a row's rounding, so it depends on Head alone. 256 leaves room for 32. */
template <int Head> static constexpr int prefill_keys = Head == 256 ? 32 : 64;

template <typename Element, int HeadStride, int WarpCount, int BlocksAWarp, int StageCount>
struct prefill_form {
    using T = Element;
    static constexpr int Head = HeadStride;
    static constexpr int Warps = WarpCount;
    static constexpr int Blocks = BlocksAWarp; /* of 16 rows */
    static constexpr int Stages = StageCount;  /* 1: keys and values loaded in turn */
    static constexpr int Keys = prefill_keys<Head>;
    static constexpr int Threads = 32 * Warps;
    static constexpr int Rows = 16 * Blocks * Warps;
    static constexpr bool QueryShared = Blocks > 1; /* registers do not hold it any more */
    static constexpr int TileChunks = Keys * Head / 8;
    static constexpr int QueryChunks = QueryShared ? Rows * Head / 8 : 0;
    static constexpr int SharedBytes = 16 * (2 * Stages * TileChunks + QueryChunks);
    static constexpr int ArchMin = Stages == 2 ? 900 : 750;
    static_assert(SharedBytes <= (ArchMin >= 900 ? 227 : 64) * 1024, "a block's, on the least SM");
    static_assert(Warps > 1 || SharedBytes <= 48 * 1024, "nobody raises the single form's limit");
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    static constexpr int BlocksAnSm = 2; /* more registers: shared memory has room for no more */
#else
    static constexpr int BlocksAnSm = Warps == 1 ? 4 : Blocks > 1 || Head == 256 ? 2 : 3;
#endif
};

template <typename T, int Head> using wide_form = prefill_form<T, Head, 4, 2, 2>;
template <typename T, int Head> using narrow_form = prefill_form<T, Head, 4, 1, 1>;
template <typename T, int Head> using single_form = prefill_form<T, Head, 1, 1, 1>;

/* The wide form does not exist for 256: 32 rows of it fill the registers alone. */
static constexpr bool has_wide_form(uint32_t head_stride)
{
    return head_stride <= 128;
}

static_assert(2 * (wide_form<__half, 128>::SharedBytes + 1024) <= 227 * 1024, "two blocks an SM");

/* -- loading tiles --------------------------------------------------------------------- */

/* Which keys of a sequence an item may see; nothing else is read. */
struct key_range {
    uint32_t begin, end;
};

/* Block table entries of one tile; 0 where it has no visible key. */
template <int Keys> struct tile_pages {
    uint32_t block[Keys / 16];

    __device__ __forceinline__ void look_up(const uint32_t *table, uint32_t tile, key_range visible)
    {
#pragma unroll
        for (int p = 0; p < Keys / 16; p++) {
            uint32_t page = tile * (Keys / 16) + p;
            bool used = page * 16 < visible.end && page * 16 + 16 > visible.begin;
            block[p] = used ? __ldg(table + page) : 0;
        }
    }
};

/* One tile on its way into shared memory: begin() starts it, when everyone is done with what is
 * there; finish() must come before the barrier after which it is read. From sm_80 the copies are
 * asynchronous and finish() waits for all of them. On sm_75 the tile waits in registers, unless a
 * thread's share is too large for them: then begin() copies it. */
template <typename Form> struct tile_copy {
    static constexpr int PageChunks = 2 * Form::Head;
    static constexpr int RowChunks = Form::Head / 8;
    static constexpr int Passes = Form::TileChunks / Form::Threads;
    static_assert(Form::TileChunks % Form::Threads == 0, "every thread copies alike");
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    static constexpr bool Staged = Passes <= 8 && Form::Head < 256;
#else
    static constexpr bool Staged = false;
#endif
    uint4 staged[Staged ? Passes : 1];

    static __device__ __forceinline__ uint32_t chunk_of(int pass)
    {
        return pass * Form::Threads + threadIdx.x;
    }

    static __device__ __forceinline__ uint32_t place_of(uint32_t chunk)
    {
        return tile_chunk<Form::Head>(chunk / RowChunks, chunk % RowChunks);
    }

    /* `head`: this KV head's part of block 0; block_chunks: 16-byte chunks from block to block */
    __device__ __forceinline__ void begin(uint4 *shared, const uint4 *head, int64_t block_chunks,
                                          const tile_pages<Form::Keys> &pages, uint32_t tile,
                                          key_range visible)
    {
#pragma unroll
        for (int pass = 0; pass < Passes; pass++) {
            const uint32_t chunk = chunk_of(pass);
            /* A pass covers parts of two pages at most: constant indices keep them in registers. */
            const int low = pass * Form::Threads / PageChunks;
            const int high = (pass * Form::Threads + Form::Threads - 1) / PageChunks;
            const bool is_low = chunk / PageChunks == (uint32_t)low;
            const uint32_t block = is_low ? pages.block[low] : pages.block[high];
            const uint32_t key = tile * Form::Keys + chunk / RowChunks;
            const bool valid = key >= visible.begin && key < visible.end;
            const uint4 *from = head + block * block_chunks + chunk % PageChunks;
            if constexpr (Staged)
                staged[pass] = valid ? __ldg(from) : make_uint4(0, 0, 0, 0);
            else
                copy_async_16(shared + place_of(chunk), from, valid);
        }
        copy_async_commit();
    }

    __device__ __forceinline__ void finish(uint4 *shared)
    {
        if constexpr (Staged) {
#pragma unroll
            for (int pass = 0; pass < Passes; pass++)
                shared[place_of(chunk_of(pass))] = staged[pass];
        }
        copy_async_wait<0>();
    }
};

/* -- a warp's rows ------------------------------------------------------------------------ */

template <typename Form> struct prefill_rows {
    using T = typename Form::T;
    static constexpr int Head = Form::Head, Keys = Form::Keys, Blocks = Form::Blocks;

    float out[Blocks][Head / 8][4];
    running_rows running[Blocks];
    uint32_t query[Form::QueryShared ? 1 : Head / 16][4];
    uint32_t position[Blocks][2]; /* of this lane's rows */
    uint32_t lowest, highest;     /* position of any row of the warp */
    bool used;                    /* has the warp a row at all? */

    /* Of the block's row, counted from the item's first: token and head within the group. */
    __device__ __forceinline__ void start(const attention_prefill_args &args,
                                          const attention_prefill_item &item, uint32_t kv_head,
                                          uint32_t group, uint4 *query_shared)
    {
        uint32_t first = threadIdx.x / 32 * (16 * Blocks);
        uint32_t rows = item.token_count * group;
        used = first < rows;
        lowest = item.position + min(first, rows - 1) / group;
        highest = item.position + (min(first + 16 * Blocks, rows) - 1) / group;
#pragma unroll
        for (int b = 0; b < Blocks; b++) {
            start_rows(running[b]);
#pragma unroll
            for (int n = 0; n < Head / 8; n++)
                out[b][n][0] = out[b][n][1] = out[b][n][2] = out[b][n][3] = 0.0f;
#pragma unroll
            for (int r = 0; r < 2; r++) {
                uint32_t row = first + 16 * b + 8 * r + threadIdx.x % 32 / 4;
                position[b][r] = item.position + min(row, rows - 1) / group;
            }
        }
        const T *q =
            (const T *)args.q + ((int64_t)item.token * args.shape.heads + kv_head * group) * Head;
        int64_t token_stride = (int64_t)args.shape.heads * Head;
        if constexpr (Form::QueryShared) {
            for (uint32_t c = threadIdx.x; c < Form::QueryChunks; c += Form::Threads) {
                uint32_t row = c / (Head / 8), column = c % (Head / 8);
                const T *from = q + row / group * token_stride + row % group * Head + 8 * column;
                copy_async_16(query_shared + tile_chunk<Head>(row, column), row < rows ? from : q,
                              row < rows);
            }
            copy_async_commit();
        } else {
            const T *from[2];
#pragma unroll
            for (int r = 0; r < 2; r++) {
                uint32_t row = first + 8 * r + threadIdx.x % 32 / 4;
                from[r] = q + row / group * token_stride + row % group * Head;
                if (row >= rows) from[r] = nullptr;
            }
            load_query<T, Head>(query, from[0], from[1]);
        }
    }

    __device__ __forceinline__ void scores(float (&s)[Blocks][Keys / 8][4], const uint4 *keys,
                                           const uint4 *query_shared)
    {
#pragma unroll
        for (int b = 0; b < Blocks; b++) {
#pragma unroll
            for (int n = 0; n < Keys / 8; n++)
                s[b][n][0] = s[b][n][1] = s[b][n][2] = s[b][n][3] = 0.0f;
        }
#pragma unroll
        for (int step = 0; step < Head / 16; step++) {
            uint32_t a[Blocks][4];
#pragma unroll
            for (int b = 0; b < Blocks; b++) {
                if constexpr (Form::QueryShared) {
                    uint32_t lane = threadIdx.x % 32;
                    uint32_t row = threadIdx.x / 32 * (16 * Blocks) + 16 * b + lane % 16;
                    ldmatrix_x4(a[b], query_shared + tile_chunk<Head>(row, 2 * step + lane / 16));
                } else {
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        a[b][j] = query[step][j];
                }
            }
#pragma unroll
            for (int pair = 0; pair < Keys / 16; pair++) {
                uint32_t k[4];
                load_key_fragment<T, Head>(k, keys, 16 * pair, step);
#pragma unroll
                for (int b = 0; b < Blocks; b++) {
                    mma_m16n8k16(s[b][2 * pair], a[b], k, T());
                    mma_m16n8k16(s[b][2 * pair + 1], a[b], k + 2, T());
                }
            }
        }
    }

    /* -inf where the row does not see the key. */
    __device__ __forceinline__ void mask(float (&s)[Blocks][Keys / 8][4], uint32_t first_key,
                                         uint32_t window)
    {
#pragma unroll
        for (int b = 0; b < Blocks; b++) {
#pragma unroll
            for (int n = 0; n < Keys / 8; n++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    uint32_t key = first_key + 8 * n + threadIdx.x % 4 * 2 + j % 2;
                    uint32_t at = position[b][j / 2];
                    bool seen = key <= at && (window == 0 || at - key < window);
                    if (!seen) s[b][n][j] = -INFINITY;
                }
            }
        }
    }

    __device__ __forceinline__ void add_values(const float (&p)[Blocks][Keys / 8][4],
                                               const uint4 *values)
    {
#pragma unroll
        for (int pair = 0; pair < Keys / 16; pair++) {
            uint32_t a[Blocks][4];
#pragma unroll
            for (int b = 0; b < Blocks; b++)
                pack_probabilities<T>(a[b], p[b], pair);
#pragma unroll
            for (int step = 0; step < Head / 16; step++) {
                uint32_t v[4];
                load_value_fragment<T, Head>(v, values, 16 * pair, step);
#pragma unroll
                for (int b = 0; b < Blocks; b++) {
                    mma_m16n8k16(out[b][2 * step], a[b], v, T());
                    mma_m16n8k16(out[b][2 * step + 1], a[b], v + 2, T());
                }
            }
        }
    }

    /* Does a row of the warp see a key of this tile? Do all of them see all of it? */
    __device__ __forceinline__ bool sees(uint32_t first_key, uint32_t window) const
    {
        return used && first_key <= highest &&
               (window == 0 || first_key + Keys + window > lowest + 1);
    }

    __device__ __forceinline__ bool sees_all(uint32_t first_key, uint32_t window) const
    {
        return first_key + Keys <= lowest + 1 && (window == 0 || highest - first_key < window);
    }

    __device__ __forceinline__ void probabilities(float (&s)[Blocks][Keys / 8][4],
                                                  uint32_t first_key, uint32_t window,
                                                  const score_rule &rule)
    {
        if (rule.cap > 0) {
#pragma unroll
            for (int b = 0; b < Blocks; b++) {
#pragma unroll
                for (int n = 0; n < Keys / 8; n++) {
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        s[b][n][j] = capped(s[b][n][j], rule);
                }
            }
        }
        if (!sees_all(first_key, window)) mask(s, first_key, window);
#pragma unroll
        for (int b = 0; b < Blocks; b++)
            softmax_step(s[b], out[b], running[b], rule.exponent_scale);
    }

    __device__ __forceinline__ void write(const attention_prefill_args &args,
                                          const attention_prefill_item &item, uint32_t kv_head,
                                          uint32_t group)
    {
        uint32_t rows = item.token_count * group;
        uint32_t head_dim = args.kv.head_dim;
#pragma unroll
        for (int b = 0; b < Blocks; b++) {
#pragma unroll
            for (int r = 0; r < 2; r++) {
                float inverse = 1.0f / row_sum(running[b].sum[r]);
                uint32_t row =
                    threadIdx.x / 32 * (16 * Blocks) + 16 * b + 8 * r + threadIdx.x % 32 / 4;
                if (row >= rows) continue;
                int64_t head = (int64_t)(item.token + row / group) * args.shape.heads +
                               kv_head * group + row % group;
                T *to = (T *)args.out + head * head_dim;
#pragma unroll
                for (int n = 0; n < Head / 8; n++) {
                    uint32_t column = 8 * n + threadIdx.x % 4 * 2;
                    /* + 0: an underflow to -0 must not tell a skipped tile from one of zeros */
                    if (column < head_dim)
                        *(uint32_t *)(to + column) =
                            pack_two<T>(out[b][n][2 * r] * inverse + 0.0f,
                                        out[b][n][2 * r + 1] * inverse + 0.0f);
                }
            }
        }
    }
};

/* -- the kernel ----------------------------------------------------------------------------- */

template <typename Form>
static __device__ __forceinline__ void attend_item(const attention_prefill_args &args,
                                                   const score_rule &rule, unsigned char *shared)
{
    constexpr int Keys = Form::Keys;
    const uint32_t kv_heads = args.kv.kv_heads;
    const uint32_t group = args.shape.heads / kv_heads;
    const uint32_t window = args.shape.window;
    const uint32_t kv_head = blockIdx.x % kv_heads;
    const attention_prefill_item item = args.items[blockIdx.x / kv_heads];
    if (item.token_count == 0) {
        grid_dependency_wait(); /* who waits for this grid waits for those before */
        return;
    }

    uint4 *keys = (uint4 *)shared;
    uint4 *values = keys + Form::Stages * Form::TileChunks;
    uint4 *query_shared = values + Form::Stages * Form::TileChunks;
    const int64_t block_chunks = (int64_t)kv_heads * 2 * Form::Head;
    const uint4 *key_head = (const uint4 *)args.kv.keys + (int64_t)kv_head * 2 * Form::Head;
    const uint4 *value_head = (const uint4 *)args.kv.values + (int64_t)kv_head * 2 * Form::Head;
    const uint32_t *table = args.block_tables + item.block_begin;

    key_range visible = {0, item.position + item.token_count};
    if (window != 0 && item.position >= window) visible.begin = item.position - window + 1;
    const uint32_t tile_begin = visible.begin / Keys;
    const uint32_t tile_end = (visible.end + Keys - 1) / Keys;

    tile_pages<Keys> pages;
    pages.look_up(table, tile_begin, visible);
    grid_dependency_wait();

    prefill_rows<Form> rows;
    tile_copy<Form> key_copy, value_copy;
    rows.start(args, item, kv_head, group, query_shared);

    if constexpr (Form::Stages == 2) {
        key_copy.begin(keys, key_head, block_chunks, pages, tile_begin, visible);
        value_copy.begin(values, value_head, block_chunks, pages, tile_begin, visible);
        pages.look_up(table, tile_begin + 1, visible);
        for (uint32_t tile = tile_begin; tile < tile_end; tile++) {
            const uint32_t now = (tile - tile_begin) % 2 * Form::TileChunks;
            const uint32_t next = Form::TileChunks - now;
            key_copy.finish(keys + now);
            value_copy.finish(values + now);
            __syncthreads(); /* and everyone is done with the other stage */
            if (tile + 1 < tile_end) {
                key_copy.begin(keys + next, key_head, block_chunks, pages, tile + 1, visible);
                value_copy.begin(values + next, value_head, block_chunks, pages, tile + 1, visible);
                pages.look_up(table, tile + 2, visible);
            }
            if (!rows.sees(tile * Keys, window)) continue;
            float s[Form::Blocks][Keys / 8][4];
            rows.scores(s, keys + now, query_shared);
            rows.probabilities(s, tile * Keys, window, rule);
            rows.add_values(s, values + now);
        }
    } else {
        key_copy.begin(keys, key_head, block_chunks, pages, tile_begin, visible);
        for (uint32_t tile = tile_begin; tile < tile_end; tile++) {
            key_copy.finish(keys);
            __syncthreads(); /* keys are there; everyone is done with the values before */
            value_copy.begin(values, value_head, block_chunks, pages, tile, visible);
            pages.look_up(table, tile + 1, visible);
            const bool sees = rows.sees(tile * Keys, window);
            float s[Form::Blocks][Keys / 8][4];
            if (sees) rows.scores(s, keys, query_shared);
            value_copy.finish(values);
            __syncthreads(); /* values are there; everyone is done with the keys */
            if (tile + 1 < tile_end)
                key_copy.begin(keys, key_head, block_chunks, pages, tile + 1, visible);
            if (!sees) continue;
            rows.probabilities(s, tile * Keys, window, rule);
            rows.add_values(s, values);
        }
    }
    grid_dependency_release();
    if (rows.used) rows.write(args, item, kv_head, group);
}

template <typename Form>
__global__ void __launch_bounds__(Form::Threads, Form::BlocksAnSm)
    attention_prefill_kernel(const attention_prefill_args args, const score_rule rule)
{
    if constexpr (attention_compiled<typename Form::T, Form::ArchMin>) {
        DYNAMIC_SHARED(shared);
        attend_item<Form>(args, rule, shared);
    }
}

/* -- launchers -------------------------------------------------------------------------------- */

static bool uses_wide_form(const kernel_device *device, uint32_t head_stride)
{
    return device->code_arch >= 90 && has_wide_form(head_stride) &&
           device->shared_bytes_max >= 200 * 1024;
}

static uint32_t group_of(const kernel_kv *kv, const attention_shape *shape)
{
    return kv->kv_heads == 0 ? 0 : shape->heads / kv->kv_heads;
}

extern "C" uint32_t attention_prefill_mma_tile_tokens(const kernel_device *device,
                                                      const kernel_kv *kv,
                                                      const attention_shape *shape)
{
    uint32_t rows = uses_wide_form(device, kv->head_stride) ? 128 : 64;
    uint32_t group = group_of(kv, shape);
    return group == 0 ? 0 : rows / group;
}

template <typename Form>
static cudaError_t launch_form(const attention_prefill_args *args, cudaStream_t stream)
{
    return launch(LAUNCH_OVERLAPPED, attention_prefill_kernel<Form>,
                  dim3(args->item_count * args->kv.kv_heads), dim3(Form::Threads),
                  Form::SharedBytes, stream, *args, score_rule_of(&args->shape));
}

template <typename T, int Head>
static cudaError_t launch_head(const kernel_device *device, const attention_prefill_args *args,
                               cudaStream_t stream)
{
    uint32_t rows = args->item_tokens_max * group_of(&args->kv, &args->shape);
    if (rows <= single_form<T, Head>::Rows) return launch_form<single_form<T, Head>>(args, stream);
    if constexpr (has_wide_form(Head)) {
        if (uses_wide_form(device, Head)) return launch_form<wide_form<T, Head>>(args, stream);
    }
    return launch_form<narrow_form<T, Head>>(args, stream);
}

template <typename T>
static cudaError_t launch_type(const kernel_device *device, const attention_prefill_args *args,
                               cudaStream_t stream)
{
    switch (args->kv.head_stride) {
    case 64:
        return launch_head<T, 64>(device, args, stream);
    case 96:
        return launch_head<T, 96>(device, args, stream);
    case 128:
        return launch_head<T, 128>(device, args, stream);
    case 256:
        return launch_head<T, 256>(device, args, stream);
    default:
        return cudaErrorInvalidValue;
    }
}

extern "C" cudaError_t attention_prefill_mma(const kernel_device *device,
                                             const attention_prefill_args *args,
                                             cudaStream_t stream)
{
    if (!attention_shape_valid(&args->kv, &args->shape)) return cudaErrorInvalidValue;
    if (args->item_count == 0) return cudaSuccess;
    if (args->item_tokens_max == 0 ||
        args->item_tokens_max > attention_prefill_mma_tile_tokens(device, &args->kv, &args->shape))
        return cudaErrorInvalidValue;
    if (args->dtype == KERNEL_F16) return launch_type<__half>(device, args, stream);
    if (args->dtype == KERNEL_BF16 && device->code_arch >= 80)
        return launch_type<__nv_bfloat16>(device, args, stream);
    return cudaErrorInvalidValue;
}

template <typename T, int Head> static cudaError_t prepare_head(const kernel_device *device)
{
    cudaError_t e = launch_allow_shared(attention_prefill_kernel<narrow_form<T, Head>>,
                                        narrow_form<T, Head>::SharedBytes);
    if constexpr (has_wide_form(Head)) {
        if (e == cudaSuccess && uses_wide_form(device, Head))
            e = launch_allow_shared(attention_prefill_kernel<wide_form<T, Head>>,
                                    wide_form<T, Head>::SharedBytes);
    }
    return e;
}

template <typename T> static cudaError_t prepare_type(const kernel_device *device)
{
    cudaError_t e = prepare_head<T, 64>(device);
    if (e == cudaSuccess) e = prepare_head<T, 96>(device);
    if (e == cudaSuccess) e = prepare_head<T, 128>(device);
    if (e == cudaSuccess) e = prepare_head<T, 256>(device);
    return e;
}

extern "C" cudaError_t attention_prefill_mma_prepare(const kernel_device *device)
{
    cudaError_t e = prepare_type<__half>(device);
    if (e == cudaSuccess && device->code_arch >= 80) e = prepare_type<__nv_bfloat16>(device);
    return e;
}
