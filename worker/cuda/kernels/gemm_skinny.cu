/* D = X W^T for few rows of X: each weight is used a few times only, so the kernel is a pump that
 * must keep enough bytes on their way (bandwidth times latency: 23 KiB for each of an H200's SMs)
 * and do its arithmetic in passing.
 *
 * The weights are operand A of mma.m16n8k16 (16 rows of W), the tokens operand B (8 of them), so
 * one token costs as much tensor time as eight. The sum over k may be taken in any order as long as
 * A and B agree: lane (g, i) of a fragment holds columns 8i..8i+7 of a slice of 32, not the
 * figure's 2i, 2i+1, 2i+8, 2i+9. Then a lane's share of two mma is 16 contiguous bytes of row g,
 * for W and X alike: it is copied by cp.async straight into the place from where the same lane
 * number will read it, 512 contiguous bytes a warp. Nothing is shuffled, re-packed or in conflict
 * for a bank.
 *
 * A block runs through its units of work (tile of rows, part of K) without a seam: the ring of
 * stages is already being filled for the next unit while the sums of this one are added up. Where
 * one warp alone uses what it loads (few tokens) the ring needs no barrier at all, each lane waits
 * for its own copies. The first stages of weights are asked for before the kernel ahead is done.
 * The first stages of X go around cp.async, lest they queue behind those weights.
 *
 * The order of additions is that of K's 8 chunks and their balanced tree (gemm_skinny.h), however
 * they are dealt out: `Chunks` in a row to a warp, `ChunkWarps` of those to a block, `splits` of
 * those to blocks that meet through a workspace, where the last to arrive (an integer ticket)
 * adds up. So tiles can be chosen by speed alone.
 *
 * sm_75 has no cp.async: it fetches the next stage into registers while it works on this one. */
#include "worker/cuda/kernels/gemm_skinny.h"

#include "worker/cuda/kernels/element.cuh"
#include "worker/cuda/kernels/launch.cuh"
#include "worker/cuda/kernels/ptx.cuh"

namespace skinny_gemm
{

constexpr int K_CHUNKS = 8;
constexpr int CHUNK_MULTIPLE = 64;
constexpr int PIECE_BYTES = 512; /* what a warp copies at once: 8 rows of a slice */
constexpr int SLICE = 32;        /* columns that two mma take */

template <typename T> constexpr bool is_half = false;
template <> constexpr bool is_half<__half> = true;

struct output {
    void *d; /* [tokens, n] of T or float, 16-byte aligned */
    const float *bias;
    uint32_t n;
    bool is_float;
};

struct arguments {
    output out;
    const void *x, *w;
    float *partials;
    uint32_t *tickets;
    uint32_t m, n, k;
    uint32_t chunk; /* columns of a chunk of K */
    uint32_t token_tiles, units;
};

/* Shared memory that a block may use on code of `arch`, when `blocks` share an SM. */
__host__ __device__ constexpr int shared_budget(int arch, int blocks)
{
    return arch >= 90 ? (227 * 1024 - (blocks - 1) * 1024) / blocks
                      : (arch >= 80 ? 99 * 1024 : 64 * 1024);
}

template <int RowTiles, int TokenTiles, int RowWarps, int TokenWarps, int ChunkWarps, int Chunks,
          int Slices, int BlocksPerSm>
struct tile {
    static constexpr int row_tiles = RowTiles;     /* of 16 rows, a warp's */
    static constexpr int token_tiles = TokenTiles; /* of 8 tokens, a warp's */
    static constexpr int token_warps = TokenWarps;
    static constexpr int chunk_warps = ChunkWarps, chunks = Chunks;
    static constexpr int slices = Slices; /* of a stage */
    static constexpr int blocks_per_sm = BlocksPerSm;
    static constexpr int rows = RowTiles * 16 * RowWarps;
    static constexpr int tokens = TokenTiles * 8 * TokenWarps;
    static constexpr int group = RowWarps * TokenWarps; /* warps that share what they load */
    static constexpr int threads = group * ChunkWarps * 32;
    static constexpr int splits = K_CHUNKS / (ChunkWarps * Chunks);
    static constexpr int depth = Slices * SLICE;                           /* columns of a stage */
    static constexpr int row_pieces = rows / 8, token_pieces = tokens / 8; /* of a slice */
    static constexpr int stage_bytes =
        ChunkWarps * (row_pieces + token_pieces) * Slices * PIECE_BYTES;
    /* Sums on their way from the mma layout: rows are contiguous, and a pitch of 4 more than a
     * multiple of 16 words puts the 32 lanes of a store into 32 banks. */
    static constexpr int pitch = rows + 4;
    static constexpr int sums_bytes = ChunkWarps * tokens * pitch * 4 + 16; /* and a word */

    static_assert(splits * ChunkWarps * Chunks == K_CHUNKS, "all chunks, once");
    static_assert(row_pieces % group == 0 && token_pieces % group == 0, "warps load alike");
    static_assert(CHUNK_MULTIPLE % depth == 0, "a chunk is whole stages");

    static __host__ __device__ constexpr int stages(int arch)
    {
        int fit = (shared_budget(arch, BlocksPerSm) - sums_bytes) / stage_bytes;
        int most = arch >= 80 ? 10 : 2;
        return fit < most ? fit : most;
    }
    static __host__ __device__ constexpr bool fits(int arch)
    {
        return stages(arch) >= 2;
    }
    static __host__ __device__ constexpr int shared_bytes(int arch)
    {
        return stages(arch) * stage_bytes + sums_bytes;
    }
};

/* A stage of work that a warp will do, as far as loading it is concerned. */
template <class Tile> struct place {
    uint32_t unit, step;
    uint32_t row, token, column; /* of the stage's corner */

    __device__ __forceinline__ void enter(const arguments &a, uint32_t unit_now,
                                          uint32_t chunk_warp)
    {
        unit = unit_now;
        step = 0;
        uint32_t rest = unit / a.token_tiles;
        token = unit % a.token_tiles * Tile::tokens;
        row = rest / Tile::splits * Tile::rows;
        column = ((rest % Tile::splits) * Tile::chunk_warps + chunk_warp) * Tile::chunks * a.chunk;
    }
    __device__ __forceinline__ void advance(const arguments &a, uint32_t chunk_warp)
    {
        step++;
        column += Tile::depth;
        if (step * Tile::depth == Tile::chunks * a.chunk) enter(a, unit + gridDim.x, chunk_warp);
    }
};

/* Call use(piece number of this warp, source, byte in the stage, source is inside) for this lane's
 * 16 bytes of each piece of the weights, or of the tokens, that this warp loads. */
template <typename T, class Tile, typename Use>
static __device__ __forceinline__ void for_weight_pieces(const arguments &a,
                                                         const place<Tile> &where, int chunk_warp,
                                                         int member, Use use)
{
    int lane = (int)threadIdx.x % 32;
    uint32_t column = where.column + lane % 4 * 8;
#pragma unroll
    for (int j = 0; j < Tile::row_pieces / Tile::group; j++) {
        int piece = member + j * Tile::group;
        uint32_t row = min(where.row + piece * 8 + lane / 4, a.n - 1);
        const T *source = (const T *)a.w + (size_t)row * a.k + column;
#pragma unroll
        for (int s = 0; s < Tile::slices; s++)
            use(j * Tile::slices + s, source + s * SLICE,
                ((chunk_warp * Tile::row_pieces + piece) * Tile::slices + s) * PIECE_BYTES +
                    lane * 16,
                column + s * SLICE < a.k);
    }
}

template <typename T, class Tile, typename Use>
static __device__ __forceinline__ void for_token_pieces(const arguments &a,
                                                        const place<Tile> &where, int chunk_warp,
                                                        int member, Use use)
{
    constexpr int first = Tile::chunk_warps * Tile::row_pieces * Tile::slices * PIECE_BYTES;
    int lane = (int)threadIdx.x % 32;
    uint32_t column = where.column + lane % 4 * 8;
#pragma unroll
    for (int j = 0; j < Tile::token_pieces / Tile::group; j++) {
        int piece = member + j * Tile::group;
        uint32_t token = where.token + piece * 8 + lane / 4;
        const T *source = (const T *)a.x + (size_t)min(token, a.m - 1) * a.k + column;
#pragma unroll
        for (int s = 0; s < Tile::slices; s++)
            use(j * Tile::slices + s, source + s * SLICE,
                first +
                    ((chunk_warp * Tile::token_pieces + piece) * Tile::slices + s) * PIECE_BYTES +
                    lane * 16,
                token < a.m && column + s * SLICE < a.k);
    }
}

static __device__ __forceinline__ uint4 load_or_zero(const void *global, bool valid)
{
    return valid ? *(const uint4 *)global : make_uint4(0, 0, 0, 0);
}

template <class Tile> using sums = float[Tile::row_tiles][Tile::token_tiles][4];

template <class Tile> static __device__ __forceinline__ void clear(sums<Tile> &c)
{
#pragma unroll
    for (int i = 0; i < Tile::row_tiles * Tile::token_tiles * 4; i++)
        (&c[0][0][0])[i] = 0;
}

template <class Tile>
static __device__ __forceinline__ void add_before(sums<Tile> &c, const sums<Tile> &before)
{
#pragma unroll
    for (int i = 0; i < Tile::row_tiles * Tile::token_tiles * 4; i++)
        (&c[0][0][0])[i] = (&before[0][0][0])[i] + (&c[0][0][0])[i];
}

template <class Tile>
static __device__ __forceinline__ void copy(sums<Tile> &to, const sums<Tile> &from)
{
#pragma unroll
    for (int i = 0; i < Tile::row_tiles * Tile::token_tiles * 4; i++)
        (&to[0][0][0])[i] = (&from[0][0][0])[i];
}

/* c += the stage's product. */
template <typename T, class Tile>
static __device__ __forceinline__ void multiply(sums<Tile> &c, const unsigned char *stage,
                                                int chunk_warp, int row_warp, int token_warp)
{
    int lane = (int)threadIdx.x % 32;
    const unsigned char *rows = stage +
                                (chunk_warp * Tile::row_pieces + row_warp * Tile::row_tiles * 2) *
                                    Tile::slices * PIECE_BYTES +
                                lane * 16;
    const unsigned char *tokens =
        stage +
        (Tile::chunk_warps * Tile::row_pieces + chunk_warp * Tile::token_pieces +
         token_warp * Tile::token_tiles) *
            Tile::slices * PIECE_BYTES +
        lane * 16;
#pragma unroll
    for (int s = 0; s < Tile::slices; s++) {
        uint32_t weights[Tile::row_tiles][2][4]; /* [two mma of a slice] */
#pragma unroll
        for (int r = 0; r < Tile::row_tiles; r++) {
            uint4 low = *(const uint4 *)(rows + ((r * 2) * Tile::slices + s) * PIECE_BYTES);
            uint4 high = *(const uint4 *)(rows + ((r * 2 + 1) * Tile::slices + s) * PIECE_BYTES);
            weights[r][0][0] = low.x;
            weights[r][0][1] = high.x;
            weights[r][0][2] = low.y;
            weights[r][0][3] = high.y;
            weights[r][1][0] = low.z;
            weights[r][1][1] = high.z;
            weights[r][1][2] = low.w;
            weights[r][1][3] = high.w;
        }
#pragma unroll
        for (int t = 0; t < Tile::token_tiles; t++) {
            uint4 x = *(const uint4 *)(tokens + (t * Tile::slices + s) * PIECE_BYTES);
            uint32_t first[2] = {x.x, x.y}, second[2] = {x.z, x.w};
#pragma unroll
            for (int r = 0; r < Tile::row_tiles; r++)
                mma_m16n8k16(c[r][t], weights[r][0], first, T());
#pragma unroll
            for (int r = 0; r < Tile::row_tiles; r++)
                mma_m16n8k16(c[r][t], weights[r][1], second, T());
        }
    }
}

/* part(first) + ... + part(first + Count - 1) as a balanced tree. */
template <int Count, typename Part>
static __device__ __forceinline__ float4 tree_sum(Part part, int first)
{
    if constexpr (Count == 1) {
        return part(first);
    } else {
        float4 a = tree_sum<Count / 2>(part, first);
        float4 b = tree_sum<Count / 2>(part, first + Count / 2);
        return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
    }
}

/* Element (token, row) of D, row below n, from a sum with its bias. */
template <typename T>
static __device__ __forceinline__ void store_one(const output &out, uint32_t token, uint32_t row,
                                                 float sum)
{
    size_t at = (size_t)token * out.n + row;
    if (out.is_float)
        ((float *)out.d)[at] = sum;
    else
        ((T *)out.d)[at] = from_float<T>(sum);
}

/* Four neighbouring elements of a token's row of D, those below n. */
template <typename T>
static __device__ __forceinline__ void store_four(const output &out, uint32_t token, uint32_t row,
                                                  float4 sum)
{
    float v[4] = {sum.x, sum.y, sum.z, sum.w};
    if (out.bias != nullptr) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (row + i < out.n) v[i] += out.bias[row + i];
    }
    if (out.n % 4 != 0) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (row + i < out.n) store_one<T>(out, token, row + i, v[i]);
    } else if (row < out.n) {
        size_t at = (size_t)token * out.n + row;
        if (out.is_float)
            *(float4 *)((float *)out.d + at) = make_float4(v[0], v[1], v[2], v[3]);
        else
            *(uint2 *)((T *)out.d + at) =
                make_uint2(pack_two<T>(v[0], v[1]), pack_two<T>(v[2], v[3]));
    }
}

/* The unit's sums are in every warp's registers: add up those of the block, and if it was the last
 * of a split sum's blocks, those of all, and store D. */
template <typename T, class Tile>
static __device__ void finish_unit(const arguments &a, uint32_t unit, const sums<Tile> &c,
                                   float *block_sums, int chunk_warp, int row_warp, int token_warp)
{
    int lane = (int)threadIdx.x % 32;
    if (Tile::group == 1)
        __syncthreads(); /* the last unit's sums were read; else the ring's barriers say so */
    float *mine = block_sums +
                  (chunk_warp * Tile::tokens + token_warp * Tile::token_tiles * 8 + lane % 4 * 2) *
                      Tile::pitch +
                  row_warp * Tile::row_tiles * 16 + lane / 4;
#pragma unroll
    for (int r = 0; r < Tile::row_tiles; r++) {
#pragma unroll
        for (int t = 0; t < Tile::token_tiles; t++) {
            float *at = mine + t * 8 * Tile::pitch + r * 16;
            at[0] = c[r][t][0];
            at[Tile::pitch] = c[r][t][1];
            at[8] = c[r][t][2];
            at[Tile::pitch + 8] = c[r][t][3];
        }
    }
    __syncthreads();

    constexpr uint32_t quads = Tile::rows / 4; /* of a token */
    place<Tile> where;
    where.enter(a, unit, 0);
    uint32_t rest = unit / a.token_tiles, split = rest % Tile::splits;
    uint32_t sum_index = rest / Tile::splits * a.token_tiles + unit % a.token_tiles;
    uint32_t tokens = min((uint32_t)Tile::tokens, a.m - where.token);
    float *partial = Tile::splits == 1 ? nullptr
                                       : a.partials + (size_t)sum_index * Tile::splits *
                                                          Tile::tokens * Tile::rows;
    for (uint32_t q = threadIdx.x; q < tokens * quads; q += Tile::threads) {
        uint32_t token = q / quads, row = q % quads * 4;
        float4 sum = tree_sum<Tile::chunk_warps>(
            [&](int warp) {
                return *(const float4 *)(block_sums + (warp * Tile::tokens + token) * Tile::pitch +
                                         row);
            },
            0);
        if (Tile::splits == 1)
            store_four<T>(a.out, where.token + token, where.row + row, sum);
        else
            __stcg((float4 *)(partial + (split * Tile::tokens + token) * Tile::rows + row), sum);
    }
    if (Tile::splits == 1) return;

    uint32_t *is_last = (uint32_t *)block_sums + Tile::sums_bytes / 4 - 4;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        *is_last = atomicAdd(&a.tickets[sum_index], 1u) == Tile::splits - 1;
        if (*is_last) a.tickets[sum_index] = 0;
    }
    __syncthreads();
    if (!*is_last) return;
    __threadfence();
    for (uint32_t q = threadIdx.x; q < tokens * quads; q += Tile::threads) {
        uint32_t token = q / quads, row = q % quads * 4;
        float4 sum = tree_sum<Tile::splits>(
            [&](int part) {
                return __ldcg(
                    (const float4 *)(partial + (part * Tile::tokens + token) * Tile::rows + row));
            },
            0);
        store_four<T>(a.out, where.token + token, where.row + row, sum);
    }
}

template <typename T, class Tile, int Arch>
static __device__ __forceinline__ void run(const arguments &a, unsigned char *shared)
{
    constexpr int stages = Tile::stages(Arch);
    float *block_sums = (float *)(shared + stages * Tile::stage_bytes);
    int warp = (int)threadIdx.x / 32;
    int chunk_warp = warp / Tile::group, member = warp % Tile::group;
    int row_warp = member / Tile::token_warps, token_warp = member % Tile::token_warps;

    place<Tile> loading;
    loading.enter(a, blockIdx.x, chunk_warp);

#if __CUDA_ARCH__ >= 800
    place<Tile> tokens_loading = loading;
#pragma unroll
    for (int i = 0; i < stages - 1; i++) {
        if (loading.unit < a.units)
            for_weight_pieces<T>(
                a, loading, chunk_warp, member, [&](int, const T *source, int at, bool valid) {
                    copy_async_16(shared + i * Tile::stage_bytes + at, source, valid);
                });
        copy_async_commit();
        loading.advance(a, chunk_warp);
    }
    grid_dependency_wait();
    constexpr int pieces = Tile::token_pieces / Tile::group * Tile::slices;
    uint4 first_tokens[(stages - 1) * pieces];
    int first_at[pieces];
#pragma unroll
    for (int i = 0; i < stages - 1; i++) {
        bool exists = tokens_loading.unit < a.units;
        for_token_pieces<T>(
            a, tokens_loading, chunk_warp, member, [&](int j, const T *source, int at, bool valid) {
                first_tokens[i * pieces + j] = load_or_zero(source, valid && exists);
                first_at[j] = at;
            });
        tokens_loading.advance(a, chunk_warp);
    }
#pragma unroll
    for (int i = 0; i < (stages - 1) * pieces; i++)
        *(uint4 *)(shared + i / pieces * Tile::stage_bytes + first_at[i % pieces]) =
            first_tokens[i];
#else
    uint4 next_weights[Tile::row_pieces / Tile::group * Tile::slices];
    uint4 next_tokens[Tile::token_pieces / Tile::group * Tile::slices];
    auto fetch = [&]() {
        if (loading.unit >= a.units) return;
        for_weight_pieces<T>(a, loading, chunk_warp, member,
                             [&](int j, const T *source, int, bool valid) {
                                 next_weights[j] = load_or_zero(source, valid);
                             });
        for_token_pieces<T>(a, loading, chunk_warp, member,
                            [&](int j, const T *source, int, bool valid) {
                                next_tokens[j] = load_or_zero(source, valid);
                            });
    };
    auto put = [&](int stage) {
        if (loading.unit >= a.units) return;
        for_weight_pieces<T>(a, loading, chunk_warp, member, [&](int j, const T *, int at, bool) {
            *(uint4 *)(shared + stage * Tile::stage_bytes + at) = next_weights[j];
        });
        for_token_pieces<T>(a, loading, chunk_warp, member, [&](int j, const T *, int at, bool) {
            *(uint4 *)(shared + stage * Tile::stage_bytes + at) = next_tokens[j];
        });
    };
    grid_dependency_wait();
    fetch();
    put(0);
    loading.advance(a, chunk_warp);
#endif

    int stage = 0;
    for (uint32_t unit = blockIdx.x; unit < a.units; unit += gridDim.x) {
        sums<Tile> c, level[Tile::chunks > 4 ? 3 : (Tile::chunks > 2 ? 2 : 1)];
        clear<Tile>(c);
        for (int chunk = 0; chunk < Tile::chunks; chunk++) {
            for (uint32_t column = 0; column < a.chunk; column += Tile::depth) {
#if __CUDA_ARCH__ >= 800
                copy_async_wait<stages - 2>();
                if (Tile::group > 1) __syncthreads();
                if (loading.unit < a.units) {
                    unsigned char *free_stage =
                        shared + (stage == 0 ? stages - 1 : stage - 1) * Tile::stage_bytes;
                    auto load = [&](int, const T *source, int at, bool valid) {
                        copy_async_16(free_stage + at, source, valid);
                    };
                    for_weight_pieces<T>(a, loading, chunk_warp, member, load);
                    for_token_pieces<T>(a, loading, chunk_warp, member, load);
                }
                copy_async_commit();
#else
                if (Tile::group > 1) __syncthreads();
                fetch();
#endif
                multiply<T, Tile>(c, shared + stage * Tile::stage_bytes, chunk_warp, row_warp,
                                  token_warp);
                stage = stage == stages - 1 ? 0 : stage + 1;
#if __CUDA_ARCH__ < 800
                put(stage);
#endif
                loading.advance(a, chunk_warp);
            }
            /* Counting in binary: level[i] waits for the other half of its 2^(i+1) chunks. */
            if constexpr (Tile::chunks > 1) {
                bool full = true;
#pragma unroll
                for (int i = 0; (2 << i) <= Tile::chunks; i++) {
                    if (!full) continue;
                    if (chunk >> i & 1) {
                        add_before<Tile>(c, level[i]);
                    } else {
                        copy<Tile>(level[i], c);
                        full = false;
                    }
                }
                if (chunk < Tile::chunks - 1) clear<Tile>(c);
            }
        }
        finish_unit<T, Tile>(a, unit, c, block_sums, chunk_warp, row_warp, token_warp);
    }
}

template <typename T, class Tile>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks_per_sm)
    gemm_skinny_kernel(arguments a)
{
#if __CUDA_ARCH__ >= 750
    constexpr int arch = __CUDA_ARCH__ / 10;
    /* Other tiles, and bf16 before sm_80, are never launched on this architecture. */
    if constexpr (Tile::fits(arch) && (arch >= 80 || is_half<T>)) {
        DYNAMIC_SHARED(shared);
        grid_dependency_release();
        run<T, Tile, arch>(a, shared);
    }
#endif
}

/* A tile as the host sees it. */
struct variant {
    uint32_t rows, tokens, splits, threads, blocks_per_sm;
    bool (*fits)(int arch);
    int (*shared_bytes)(int arch);
    void (*half_kernel)(arguments);
    void (*bf16_kernel)(arguments);
};

template <class Tile> constexpr variant describe()
{
    return {Tile::rows,
            Tile::tokens,
            Tile::splits,
            Tile::threads,
            Tile::blocks_per_sm,
            Tile::fits,
            Tile::shared_bytes,
            gemm_skinny_kernel<__half, Tile>,
            gemm_skinny_kernel<__nv_bfloat16, Tile>};
}

/* A block of few rows is balanced finely over the SMs; one of many reads X less often. More parts
 * of K balance better and cost the way through the workspace. Of each size what was fastest on an
 * H200, and what fits the shared memory of sm_75 and sm_86. */
static const variant variants[] = {
    /*       row tiles, token tiles, row, token, chunk warps, chunks, slices, blocks an SM */
    describe<tile<2, 1, 1, 1, 8, 1, 2, 1>>(), /*  32 rows,  8 tokens, K whole */
    describe<tile<1, 1, 1, 1, 8, 1, 2, 1>>(), /*  16        8          whole */
    describe<tile<1, 1, 1, 1, 2, 1, 2, 6>>(), /*  16        8          in 4 parts */
    describe<tile<2, 2, 1, 1, 8, 1, 2, 1>>(), /*  32       16          whole */
    describe<tile<2, 2, 1, 1, 4, 1, 1, 2>>(), /*  32       16          in 2 */
    describe<tile<2, 4, 2, 1, 4, 2, 1, 1>>(), /*  64       32          whole */
    describe<tile<2, 4, 2, 1, 4, 1, 2, 1>>(), /*  64       32          in 2 */
    describe<tile<2, 4, 2, 1, 2, 1, 1, 2>>(), /*  64       32          in 4 */
    describe<tile<2, 8, 2, 1, 2, 1, 1, 2>>(), /*  64       64          in 4 */
    describe<tile<2, 4, 4, 2, 1, 2, 1, 1>>(), /* 128       64          in 4 */
    describe<tile<2, 4, 4, 2, 1, 8, 1, 1>>(), /* 128       64          whole */
};

static uint32_t divide_up(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

struct plan {
    const variant *tile;
    uint32_t token_tiles, sum_tiles, units;
};

static plan plan_of(const variant *v, uint32_t m, uint32_t n)
{
    uint32_t token_tiles = divide_up(m, v->tokens);
    uint32_t sum_tiles = token_tiles * divide_up(n, v->rows);
    return {v, token_tiles, sum_tiles, sum_tiles * v->splits};
}

/* What an SM moves, in bytes, with those of X and D from and to L2 and the time that a unit's sums
 * and their meeting in the workspace take counted as bytes, too. Halfway between the busiest SM and
 * the average: memory is what is scarce, and an SM that works alone at the end gets more of it. */
static uint64_t cost_of(const plan &p, uint32_t m, uint32_t k, uint32_t sm_count)
{
    const uint64_t finishing = 24576, meeting = 32768;
    uint64_t rows = p.tile->rows, tokens = m < p.tile->tokens ? m : p.tile->tokens;
    uint64_t unit = 2 * (rows + tokens) * (k / p.tile->splits) + finishing;
    if (p.tile->splits > 1) unit += 4 * tokens * rows + meeting;
    return (divide_up(p.units, sm_count) * sm_count + p.units) * unit;
}

static bool is_possible(const plan &p, const kernel_device *device)
{
    const variant *v = p.tile;
    int arch = (int)device->code_arch;
    if (!v->fits(arch) || (uint32_t)v->shared_bytes(arch) > device->shared_bytes_max) return false;
    return v->splits == 1 ||
           (p.sum_tiles <= GEMM_SKINNY_TICKETS &&
            (size_t)p.units * v->rows * v->tokens * 4 <= GEMM_SKINNY_PARTIAL_BYTES);
}

/* The cheapest of the tiles for that many tokens. Speed only: no bit depends on it. */
static plan choose(uint32_t m, uint32_t n, uint32_t k, const kernel_device *device)
{
    plan best = {};
    uint64_t best_cost = UINT64_MAX;
    for (const variant &v : variants) {
        if (v.tokens < 64 && m > v.tokens) continue;
        if (v.tokens > 8 && m <= v.tokens / 2) continue;
        plan p = plan_of(&v, m, n);
        uint64_t cost = cost_of(p, m, k, device->sm_count);
        if (cost < best_cost && is_possible(p, device)) {
            best = p;
            best_cost = cost;
        }
    }
    return best;
}

} // namespace skinny_gemm

using namespace skinny_gemm;

extern "C" cudaError_t gemm_skinny_init(const kernel_device *device)
{
    int arch = (int)device->code_arch;
    for (const variant &v : variants) {
        if (!v.fits(arch) || (uint32_t)v.shared_bytes(arch) > device->shared_bytes_max) continue;
        cudaError_t e = launch_allow_shared(v.half_kernel, (size_t)v.shared_bytes(arch));
        if (e == cudaSuccess && arch >= 80)
            e = launch_allow_shared(v.bf16_kernel, (size_t)v.shared_bytes(arch));
        if (e != cudaSuccess) return e;
    }
    return cudaSuccess;
}

extern "C" cudaError_t gemm_skinny(void *d, kernel_dtype d_type, const void *x, const void *w,
                                   const float *bias, uint32_t m, uint32_t n, uint32_t k,
                                   kernel_dtype type, const gemm_skinny_workspace *workspace,
                                   const kernel_device *device, cudaStream_t stream)
{
    if (m == 0) return cudaSuccess;
    int arch = (int)device->code_arch;
    if ((type != KERNEL_F16 && (type != KERNEL_BF16 || arch < 80)) ||
        (d_type != type && d_type != KERNEL_F32) || m > 16384 || n == 0 || n > 1u << 20 || k == 0 ||
        k > 1u << 20 || k % 8 != 0 ||
        (((uintptr_t)d | (uintptr_t)x | (uintptr_t)w | (uintptr_t)workspace->partials) % 16) != 0)
        return cudaErrorInvalidValue;

    plan p = choose(m, n, k, device);
    const variant *v = p.tile;
    if (v == nullptr) return cudaErrorInvalidValue;
    arguments a = {};
    a.out = {d, bias, n, d_type == KERNEL_F32};
    a.x = x;
    a.w = w;
    a.partials = workspace->partials;
    a.tickets = workspace->tickets;
    a.m = m;
    a.n = n;
    a.k = k;
    a.chunk = divide_up(k, K_CHUNKS * CHUNK_MULTIPLE) * CHUNK_MULTIPLE;
    a.token_tiles = p.token_tiles;
    a.units = p.units;
    uint32_t resident = device->sm_count * (arch >= 90 ? v->blocks_per_sm : 1);
    return launch(LAUNCH_OVERLAPPED, type == KERNEL_F16 ? v->half_kernel : v->bf16_kernel,
                  dim3(p.units < resident ? p.units : resident), dim3(v->threads),
                  (size_t)v->shared_bytes(arch), stream, a);
}
