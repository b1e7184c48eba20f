/* D = X W^T for up to 64 rows of X on sm_90a, bound by reading W. gemm_skinny.cu's way, from L2
 * past registers, needs more of an SM's load paths than there are from 16 rows on: every SM also
 * reads X, and every fragment passes through a register. Here the copy engine (TMA) fetches tiles
 * of W and X into shared memory and the tensor cores read both from there (wgmma): W's 64 rows of a
 * warpgroup are operand A, the tokens, padded to 8, 16, 32 or 64, operand B. One warp asks for
 * tiles, two warpgroups only start products and, at the end of a tile, store.
 *
 * Work is cut without a remainder: all stages (128 rows of W by 64 columns) of all tiles in a line
 * are dealt out to the blocks, one an SM, in equal runs ("stream-K", Osama et al., 2023,
 * arXiv:2301.03598). Where the border between two blocks falls inside a tile, both leave their sums
 * in the workspace, as they lie in registers, and whoever comes last (an integer ticket) adds them
 * up in the order of the blocks.
 *
 *   block      0               1               2               3
 *   stages     |-------.-------|---.-----------.---|-----------.-----...
 *   tiles      | tile 0.    tile 1 |   tile 2  .      tile 3   .
 *
 * The loading warp asks for the first stages of W before the kernel ahead is done, and for X after.
 */
#include "worker/cuda/kernels/gemm_skinny_sm90.h"

#include "worker/cuda/kernels/element.cuh"
#include "worker/cuda/kernels/gemm_store.cuh"
#include "worker/cuda/kernels/launch.cuh"
#include "worker/cuda/kernels/ptx_sm90.cuh"

namespace skinny_gemm_sm90
{

constexpr int ROWS = 128; /* of a tile: two warpgroups of 64 */
constexpr int DEPTH = 64; /* columns of a stage: a slab of 128 bytes */
constexpr int COMPUTE_THREADS = ROWS * 2;
constexpr int THREADS = COMPUTE_THREADS + 32;

struct arguments {
    tensor_map w, x;
    gemm_output out;
    float *partials; /* [blocks][2][ROWS * Tokens] */
    uint32_t *tickets;
    uint32_t m;
    uint32_t tile_stages;  /* of a tile: k / DEPTH, rounded up */
    uint32_t total_stages; /* of all tiles */
};

/* Half of an SM's shared memory: the next product's block fits beside this one's and has its first
 * weights on their way while this one's last sums meet. */
constexpr uint32_t SHARED_BYTES_MOST = 113 * 1024;

template <int Tokens> struct layout {
    static constexpr uint32_t w_bytes = ROWS * 128;
    static constexpr uint32_t stage_bytes = w_bytes + Tokens * 128;
    static constexpr uint32_t fixed_bytes = 256; /* barriers, and a word */
    static constexpr int stages = (int)((SHARED_BYTES_MOST - fixed_bytes) / stage_bytes);
    static constexpr uint32_t shared_bytes = stages * stage_bytes + fixed_bytes;
    static_assert(16 * stages + 8 <= fixed_bytes && stages >= 4, "the barriers have their place");
    static_assert(stage_bytes % 1024 == 0, "slabs are 1024-byte aligned");
};

#if HAVE_SM90A

constexpr uint32_t COMPUTE_BARRIER = 1;

/* First stage of a block's run, and the block that has a stage. */
static __device__ __forceinline__ uint32_t run_begin(const arguments &a, uint32_t block)
{
    return (uint32_t)((uint64_t)block * a.total_stages / gridDim.x);
}

static __device__ __forceinline__ uint32_t block_of(const arguments &a, uint32_t stage)
{
    return (uint32_t)((((uint64_t)stage + 1) * gridDim.x - 1) / a.total_stages);
}

struct barriers {
    uint64_t *full, *empty; /* [stages] */
};

/* The loading warp's one thread. */
template <int Tokens>
static __device__ __forceinline__ void load(const arguments &a, unsigned char *ring, barriers b,
                                            uint32_t begin, uint32_t end)
{
    typedef layout<Tokens> shape;
    auto fetch_w = [&](uint32_t i, uint32_t slot) {
        mbarrier_arrive_expect(&b.full[slot], shape::stage_bytes);
        tensor_copy_async_streaming(ring + slot * shape::stage_bytes, &a.w,
                                    (int32_t)(i / a.tile_stages * ROWS),
                                    (int32_t)(i % a.tile_stages * DEPTH), &b.full[slot]);
    };
    auto fetch_x = [&](uint32_t i, uint32_t slot) {
        tensor_copy_async(ring + slot * shape::stage_bytes + shape::w_bytes, &a.x, 0,
                          (int32_t)(i % a.tile_stages * DEPTH), &b.full[slot]);
    };
    tensor_map_prefetch(&a.w);
    tensor_map_prefetch(&a.x);
    uint32_t early = min(end - begin, (uint32_t)shape::stages);
    for (uint32_t i = 0; i < early; i++)
        fetch_w(begin + i, i);
    grid_dependency_wait();
    for (uint32_t i = 0; i < early; i++)
        fetch_x(begin + i, i);
    uint32_t slot = 0, parity = 0; /* of the slot's first use */
    for (uint32_t i = begin + early; i < end; i++) {
        mbarrier_wait(&b.empty[slot], parity);
        fetch_w(i, slot);
        fetch_x(i, slot);
        if (++slot == shape::stages) {
            slot = 0;
            parity ^= 1;
        }
    }
}

/* This thread's sums of the tile's first `here` stages or so are c: make them D, or part of it. */
template <typename T, int Tokens>
static __device__ __forceinline__ void finish_tile(const arguments &a, float (&c)[Tokens / 2],
                                                   uint32_t tile, uint32_t begin, uint32_t end,
                                                   uint32_t *is_last)
{
    uint32_t tile_begin = tile * a.tile_stages, tile_end = tile_begin + a.tile_stages;
    uint32_t octets = (a.m + 7) / 8; /* of tokens that exist */
    if (tile_begin < begin || tile_end > end) {
        /* A run that began inside the tile leaves its sums in the first place of its block, one
         * that begins the tile in the second. */
        constexpr uint32_t place = ROWS * Tokens;
        float *mine = a.partials + (size_t)(2 * blockIdx.x + (tile_begin < begin ? 0 : 1)) * place;
#pragma unroll
        for (int j = 0; j < Tokens / 8; j++)
            if (j < (int)octets)
                __stcg((float4 *)mine + j * COMPUTE_THREADS + threadIdx.x,
                       make_float4(c[4 * j], c[4 * j + 1], c[4 * j + 2], c[4 * j + 3]));
        uint32_t first = block_of(a, tile_begin), last = block_of(a, tile_end - 1);
        __threadfence();
        named_barrier_sync(COMPUTE_BARRIER, COMPUTE_THREADS);
        if (threadIdx.x == 0) {
            *is_last = atomicAdd(&a.tickets[tile], 1u) == last - first;
            if (*is_last) a.tickets[tile] = 0;
        }
        named_barrier_sync(COMPUTE_BARRIER, COMPUTE_THREADS);
        if (!*is_last) return;
        __threadfence();
#pragma unroll
        for (int i = 0; i < Tokens / 2; i++)
            c[i] = 0;
        for (uint32_t block = first; block <= last; block++) {
            const float4 *part =
                (const float4 *)(a.partials +
                                 (size_t)(2 * block + (block == first ? 1 : 0)) * place);
#pragma unroll
            for (int j = 0; j < Tokens / 8; j++)
                if (j < (int)octets) {
                    float4 v = __ldcg(part + j * COMPUTE_THREADS + threadIdx.x);
                    c[4 * j] += v.x;
                    c[4 * j + 1] += v.y;
                    c[4 * j + 2] += v.z;
                    c[4 * j + 3] += v.w;
                }
        }
    }

    /* A lane has two rows of W and two of every eight tokens: eight lanes write a sector. */
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        uint32_t row = tile * ROWS + warp * 16 + half * 8 + lane / 4;
        if (row >= a.out.n) break;
        float bias = a.out.bias == nullptr ? 0 : a.out.bias[row];
#pragma unroll
        for (int j = 0; j < Tokens / 4; j++) {
            uint32_t token = j / 2 * 8 + lane % 4 * 2 + j % 2;
            if (token < a.m)
                gemm_store<T>(a.out, token, row, c[j / 2 * 4 + half * 2 + j % 2] + bias);
        }
    }
}

template <typename T, int Tokens>
static __device__ __forceinline__ void compute(const arguments &a, unsigned char *ring, barriers b,
                                               uint32_t begin, uint32_t end, uint32_t *is_last)
{
    typedef layout<Tokens> shape;
    uint32_t slot = 0, parity = 0;
    int lane = (int)threadIdx.x % 32, warpgroup = (int)threadIdx.x / 128;
    grid_dependency_wait(); /* D and the workspace may be in use */
    for (uint32_t i = begin; i < end;) {
        uint32_t tile = i / a.tile_stages;
        uint32_t tile_end = min((tile + 1) * a.tile_stages, end);
        uint32_t used = slot; /* whose products are in flight */
        bool in_flight = false;
        float c[Tokens / 2];
#pragma unroll
        for (int j = 0; j < Tokens / 2; j++)
            c[j] = 0;
        wgmma_pin(c);
        for (; i < tile_end; i++) {
            mbarrier_wait(&b.full[slot], parity);
            const unsigned char *stage = ring + slot * shape::stage_bytes;
            uint64_t rows = matrix_descriptor(stage + warpgroup * 64 * 128, 0);
            uint64_t tokens = matrix_descriptor(stage + shape::w_bytes, 0);
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < DEPTH / 16; k++)
                wgmma_shared<true>(c, rows + 2 * k, tokens + 2 * k, T());
            wgmma_commit();
            if (in_flight) {
                wgmma_wait<1>();
                if (lane == 0) mbarrier_arrive(&b.empty[used]);
            }
            in_flight = true;
            used = slot;
            if (++slot == shape::stages) {
                slot = 0;
                parity ^= 1;
            }
        }
        wgmma_wait<0>();
        wgmma_pin(c);
        if (lane == 0) mbarrier_arrive(&b.empty[used]);
        finish_tile<T, Tokens>(a, c, tile, begin, end, is_last);
    }
}

#endif

template <typename T, int Tokens>
__global__ void __launch_bounds__(THREADS, 1)
    gemm_skinny_sm90_kernel([[maybe_unused]] const __grid_constant__ arguments a)
{
#if HAVE_SM90A
    typedef layout<Tokens> shape;
    DYNAMIC_SHARED(shared);
    uint64_t *words = (uint64_t *)(shared + shape::stages * shape::stage_bytes);
    barriers b = {words, words + shape::stages};
    grid_dependency_release();
    if (threadIdx.x == 0) {
        for (int i = 0; i < shape::stages; i++) {
            mbarrier_init(&b.full[i], 1);
            mbarrier_init(&b.empty[i], COMPUTE_THREADS / 32);
        }
        mbarrier_init_fence();
    }
    __syncthreads();
    uint32_t begin = run_begin(a, blockIdx.x), end = run_begin(a, blockIdx.x + 1);
    if (threadIdx.x >= COMPUTE_THREADS) {
        if (threadIdx.x == COMPUTE_THREADS) load<Tokens>(a, shared, b, begin, end);
    } else {
        compute<T, Tokens>(a, shared, b, begin, end, (uint32_t *)(words + 2 * shape::stages));
    }
#endif
}

/* The driver's maker of tensor maps; written once, by gemm_skinny_sm90_init(). */
static tensor_map_encoder encoder;

template <int Tokens> static cudaError_t allow_shared()
{
    cudaError_t e =
        launch_allow_shared(gemm_skinny_sm90_kernel<__half, Tokens>, layout<Tokens>::shared_bytes);
    return e != cudaSuccess ? e
                            : launch_allow_shared(gemm_skinny_sm90_kernel<__nv_bfloat16, Tokens>,
                                                  layout<Tokens>::shared_bytes);
}

template <int Tokens>
static cudaError_t start(arguments &a, const void *x, bool bfloat16, uint32_t k, uint32_t blocks,
                         cudaStream_t stream)
{
    cudaError_t e = tensor_map_encode(encoder, &a.x, x, bfloat16, a.m, k, Tokens);
    if (e != cudaSuccess) return e;
    return launch(LAUNCH_OVERLAPPED,
                  bfloat16 ? gemm_skinny_sm90_kernel<__nv_bfloat16, Tokens>
                           : gemm_skinny_sm90_kernel<__half, Tokens>,
                  dim3(blocks), dim3(THREADS), layout<Tokens>::shared_bytes, stream, a);
}

} // namespace skinny_gemm_sm90

using namespace skinny_gemm_sm90;

extern "C" cudaError_t gemm_skinny_sm90_init(const kernel_device *device)
{
    if (!device->has_sm90a) return cudaErrorInvalidValue;
    cudaError_t e = tensor_map_find_encoder(&encoder);
    if (e == cudaSuccess) e = allow_shared<8>();
    if (e == cudaSuccess) e = allow_shared<16>();
    if (e == cudaSuccess) e = allow_shared<32>();
    if (e == cudaSuccess) e = allow_shared<64>();
    return e;
}

extern "C" bool gemm_skinny_sm90_takes(const kernel_device *device, uint32_t n, uint32_t k)
{
    return device->has_sm90a && n >= ROWS && k >= DEPTH;
}

extern "C" cudaError_t gemm_skinny_sm90(void *d, kernel_dtype d_type, const void *x, const void *w,
                                        const float *bias, uint32_t m, uint32_t n, uint32_t k,
                                        kernel_dtype type, const gemm_skinny_workspace *workspace,
                                        const kernel_device *device, cudaStream_t stream)
{
    if (m == 0) return cudaSuccess;
    if (!gemm_skinny_sm90_takes(device, n, k) || (type != KERNEL_F16 && type != KERNEL_BF16) ||
        (d_type != type && d_type != KERNEL_F32) || m > GEMM_SKINNY_SM90_ROWS || n > 1u << 20 ||
        k > 1u << 20 || k % 8 != 0 ||
        (((uintptr_t)d | (uintptr_t)x | (uintptr_t)w | (uintptr_t)workspace->partials) % 16) != 0)
        return cudaErrorInvalidValue;

    arguments a = {};
    uint32_t tiles = (n + ROWS - 1) / ROWS;
    a.out = {d, bias, n, d_type == KERNEL_F32};
    a.partials = workspace->partials;
    a.tickets = workspace->tickets;
    a.m = m;
    a.tile_stages = (k + DEPTH - 1) / DEPTH;
    a.total_stages = tiles * a.tile_stages;
    uint32_t most = GEMM_SKINNY_PARTIAL_BYTES / (2 * ROWS * GEMM_SKINNY_SM90_ROWS * sizeof(float));
    uint32_t blocks = device->sm_count < most ? device->sm_count : most;
    if (blocks > a.total_stages) blocks = a.total_stages;
    bool bfloat16 = type == KERNEL_BF16;
    cudaError_t e = tensor_map_encode(encoder, &a.w, w, bfloat16, n, k, ROWS);
    if (e != cudaSuccess) return e;
    if (m <= 8) return start<8>(a, x, bfloat16, k, blocks, stream);
    if (m <= 16) return start<16>(a, x, bfloat16, k, blocks, stream);
    if (m <= 32) return start<32>(a, x, bfloat16, k, blocks, stream);
    return start<64>(a, x, bfloat16, k, blocks, stream);
}
