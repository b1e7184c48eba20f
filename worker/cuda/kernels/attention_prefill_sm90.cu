/* attention_prefill_sm90: attention.h's prefill on Hopper's tensor cores (wgmma), fed by its copy
 * engine (TMA). Contract and formula: attention.h. Shah et al., 2024, arXiv:2407.08608.
 *
 * A block has two warpgroups that compute, each 64 rows, and one warp that loads. Rows are GQA
 * packed: row r of an item is token r / group, query head r % group of the block's KV head, so keys
 * and values are fetched once for all heads that share them and short items still fill rows.
 *
 *   loading warp     keys and values of one tile after the other into two rings of `Stages` tiles;
 *                    a 16-position block of one head is a box of 16 rows for the copy engine, so
 *                    paging costs nothing but smaller boxes
 *   warpgroup        S(i) = Q K(i)^T and O += P(i-1) V(i-1) are both in flight while softmax turns
 *                    S(i) into P(i); P goes from the accumulators of one product to the first
 *                    operand of the next without leaving registers
 *   the two          run freely: the exponentials alone take half as long as the products (one for
 *                    256 multiply-adds, at 1/128 of their rate), and while one group does softmax
 *                    the other has the tensor cores. Making them take turns by barriers, as the
 *                    paper does, cost 2 % here, and a third tile in the rings gained nothing
 *                    (8,192 tokens on an H200: 597 TFLOP/s, with turns 585, with three tiles 590)
 *
 * The loading warp's group gives registers to the other two, whose S, P and O take 160 of a
 * thread's 232. Blocks are persistent: the loading warp is already a tile ahead in the next unit
 * (an item and KV head) while the last is being written. Tiles go from the row's own position down,
 * so masks meet the first and, with a window, the last tiles only.
 *
 * What an item does not see is not loaded, or its scores are replaced (never added to), and its
 * rows of V are overwritten with zeros by the loading warp before the products read them: 0 * NaN
 * would be NaN. A tile in which a row sees nothing changes none of its numbers: its maximum stays,
 * its factor is exp2(0) = 1 and its probabilities are 0. */
#include <math.h>

#include "worker/cuda/kernels/attention.h"
#include "worker/cuda/kernels/attention_sm90.cuh"
#include "worker/cuda/kernels/element.cuh"
#include "worker/cuda/kernels/launch.cuh"
#include "worker/cuda/kernels/ptx_sm90.cuh"

#define LOG2_E 1.4426950408889634f

#if HAVE_SM90A

/* Named barriers, one a warpgroup; 0 is __syncthreads'. */
enum { BARRIER_GROUP = 1 };

/* -- the warpgroups that compute --------------------------------------------------------------- */

/* This thread's two rows, g and g + 8 of its warp's 16. Scores here are S, before `exponent`. */
struct softmax_rows {
    int position[2];
    float maximum[2]; /* -inf before a key was seen */
    float sum[2];     /* of this thread's columns */
};

static __device__ __forceinline__ softmax_rows first_rows(const prefill_params &p,
                                                          const prefill_unit &unit,
                                                          uint32_t thread_row)
{
    softmax_rows rows;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const uint32_t token = (thread_row + r * 8) * p.group_inverse >> 16;
        /* Rows past the item's last are computed, and not stored. */
        rows.position[r] = (int)(unit.position + min(token, unit.token_count - 1));
        rows.maximum[r] = -INFINITY;
        rows.sum[r] = 0.0f;
    }
    return rows;
}

/* Query rows of the warpgroup, swizzled; rows past the item's last are zeros. */
template <typename T, int HeadStride>
static __device__ __forceinline__ void load_queries(const prefill_params &p,
                                                    const prefill_unit &unit, uint32_t first_row,
                                                    unsigned char *tile)
{
    constexpr uint32_t row_chunks = HeadStride / 8, pass_rows = GROUP_THREADS / row_chunks;
    const uint32_t thread = threadIdx.x % GROUP_THREADS;
    const uint32_t chunk = thread % row_chunks;
#pragma unroll 4
    for (uint32_t pass = 0; pass < GROUP_ROWS / pass_rows; pass++) {
        uint32_t row = pass * pass_rows + thread / row_chunks;
        uint32_t packed = first_row + row;
        uint32_t token = packed * p.group_inverse >> 16;
        uint32_t head = unit.head * p.group + packed - token * p.group;
        bool valid = token < unit.token_count;
        const T *source =
            (const T *)p.q +
            ((size_t)(unit.token + (valid ? token : 0)) * p.heads + head) * HeadStride + chunk * 8;
        copy_async_16(tile + chunk / 8 * (GROUP_ROWS * 128) + row * 128 +
                          (chunk % 8 ^ row % 8) * 16,
                      source, valid);
    }
    copy_async_commit();
}

/* S -> probabilities, not yet rounded; the row's maximum and sum follow. `factor`: what O and the
 * sums so far are to be multiplied with. */
template <bool Softcap, int Count>
static __device__ __forceinline__ void softmax_tile(const prefill_params &p, float (&s)[Count],
                                                    softmax_rows &rows, float (&factor)[2],
                                                    int tile_key, bool masked)
{
    if (Softcap) {
#pragma unroll
        for (int i = 0; i < Count; i++)
            s[i] = 1.0f - __fdividef(2.0f, 1.0f + exp2_approximate(s[i] * p.tanh_scale));
    }
    if (masked) {
        const int column = tile_key + (int)(threadIdx.x % 4) * 2;
        const int last[2] = {rows.position[0] - column, rows.position[1] - column};
        const int past = p.window != 0 ? (int)p.window : 0x40000000;
#pragma unroll
        for (int i = 0; i < Count; i++) {
            const int key = i / 4 * 8 + i % 2, r = i / 2 % 2;
            s[i] = key <= last[r] && key > last[r] - past ? s[i] : -INFINITY;
        }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float maximum = rows.maximum[r];
#pragma unroll
        for (int i = 2 * r; i < Count; i += 4)
            maximum = fmaxf(maximum, fmaxf(s[i], s[i + 1]));
        maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
        maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
        /* A row that has seen nothing yet has no maximum to subtract: -inf - -inf is NaN. */
        const float base = maximum == -INFINITY ? 0.0f : maximum;
        factor[r] = exp2_approximate((rows.maximum[r] - base) * p.exponent);
        rows.maximum[r] = maximum;
        const float offset = -base * p.exponent;
        float sum = rows.sum[r] * factor[r];
#pragma unroll
        for (int i = 2 * r; i < Count; i += 4) {
            s[i] = exp2_approximate(fmaf(s[i], p.exponent, offset));
            s[i + 1] = exp2_approximate(fmaf(s[i + 1], p.exponent, offset));
            sum += s[i] + s[i + 1];
        }
        rows.sum[r] = sum;
    }
}

/* Probabilities as the A operand of the next product: four registers for each 16 keys. */
template <typename T, int Count>
static __device__ __forceinline__ void pack_probabilities(const float (&s)[Count],
                                                          uint32_t (&packed)[Count / 2])
{
#pragma unroll
    for (int i = 0; i < Count / 2; i++)
        packed[i] = pack_two<T>(s[2 * i], s[2 * i + 1]);
}

/* words[j] of lane i of four lanes becomes words[i] of lane j. */
static __device__ __forceinline__ void transpose_in_quad(uint32_t (&words)[4])
{
    const bool odd = threadIdx.x & 1, upper = threadIdx.x & 2;
    auto exchange = [](bool second, uint32_t &first_word, uint32_t &second_word, int lanes) {
        uint32_t other = __shfl_xor_sync(0xffffffffu, second ? first_word : second_word, lanes);
        first_word = second ? other : first_word;
        second_word = second ? second_word : other;
    };
    exchange(odd, words[0], words[1], 1);
    exchange(odd, words[2], words[3], 1);
    exchange(upper, words[0], words[2], 2);
    exchange(upper, words[1], words[3], 2);
}

template <typename T, int Count>
static __device__ __forceinline__ void store_rows(const prefill_params &p, const prefill_unit &unit,
                                                  uint32_t first_row, const float (&o)[Count],
                                                  const softmax_rows &rows)
{
    const uint32_t quad = threadIdx.x % 4;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float sum = rows.sum[r];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        const float scale = 1.0f / sum;
        const uint32_t packed = first_row + r * 8;
        const uint32_t token = packed * p.group_inverse >> 16;
        const uint32_t head = unit.head * p.group + packed - token * p.group;
        const bool valid = token < unit.token_count;
        T *row = (T *)p.out + ((size_t)(unit.token + token) * p.heads + head) * p.head_dim;
#pragma unroll
        for (int four = 0; four < Count / 16; four++) {
            uint32_t words[4];
#pragma unroll
            for (int j = 0; j < 4; j++)
                words[j] = pack_two<T>(o[(four * 4 + j) * 4 + r * 2] * scale,
                                       o[(four * 4 + j) * 4 + r * 2 + 1] * scale);
            if (p.wide_stores) {
                transpose_in_quad(words);
                const uint32_t column = (four * 4 + quad) * 8;
                if (valid && column < p.head_dim)
                    *(uint4 *)(row + column) = make_uint4(words[0], words[1], words[2], words[3]);
            } else {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const uint32_t column = (four * 4 + j) * 8 + quad * 2;
                    if (valid && column < p.head_dim) *(uint32_t *)(row + column) = words[j];
                }
            }
        }
    }
}

template <typename T, int HeadStride, bool Softcap>
static __device__ __forceinline__ void compute_units(
    const prefill_params &p, unsigned char *shared,
    ring_barriers<ring_stages_of(HeadStride)> *barriers)
{
    using layout = shared_layout<HeadStride>;
    constexpr int TileKeys = layout::tile_keys;
    const uint32_t group = threadIdx.x / GROUP_THREADS; /* which warpgroup */
    const uint32_t lane = threadIdx.x % 32;
    /* Packed rows of the item: this warpgroup's first, and this thread's first. */
    const uint32_t group_row = group * GROUP_ROWS;
    const uint32_t thread_row = group_row + threadIdx.x % GROUP_THREADS / 32 * 16 + lane / 4;
    const uint32_t units = p.item_count * p.kv_heads;
    unsigned char *queries = shared + group * layout::query_bytes;
    const uint64_t q_matrix = matrix_descriptor(queries, layout::query_slab_bytes);
    const uint64_t k_matrix = matrix_descriptor(shared + layout::keys_at, layout::slab_bytes);
    const uint64_t v_matrix = matrix_descriptor(shared + layout::values_at, layout::slab_bytes);
    ring_place<layout::stages> keys, values;

    float s[TileKeys / 2], o[HeadStride / 2];
    uint32_t probabilities[TileKeys / 4];

    /* S = Q K^T of the ring's next tile; in flight afterwards. */
    auto start_scores = [&]() {
        const uint64_t tile = k_matrix + keys.slot * (layout::tile_bytes / 16);
        wgmma_pin(s);
        wgmma_fence();
#pragma unroll
        for (int d = 0; d < HeadStride; d += 16) {
            const uint64_t a = q_matrix + (d / 64 * layout::query_slab_bytes + d % 64 * 2) / 16;
            const uint64_t b = tile + (d / 64 * layout::slab_bytes + d % 64 * 2) / 16;
            if (d == 0)
                wgmma_shared<false>(s, a, b, T());
            else
                wgmma_shared<true>(s, a, b, T());
        }
        wgmma_commit();
    };
    /* O += P V of the ring's next tile; in flight afterwards. */
    auto start_output = [&]() {
        const uint64_t tile = v_matrix + values.slot * (layout::tile_bytes / 16);
        wgmma_pin(o);
        wgmma_pin(probabilities);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < TileKeys; k += 16)
            wgmma_registers(o, probabilities + k / 4, tile + k * 128 / 16, T());
        wgmma_commit();
    };
    auto await_keys = [&]() { mbarrier_wait(&barriers->keys_full[keys.slot], keys.parity); };
    auto await_values = [&]() {
        mbarrier_wait(&barriers->values_full[values.slot], values.parity);
    };
    auto release_keys = [&]() {
        if (lane == 0) mbarrier_arrive(&barriers->keys_empty[keys.slot]);
        keys.advance();
    };
    auto finish_output = [&]() {
        wgmma_wait<0>();
        wgmma_pin(o);
        wgmma_pin(probabilities);
        if (lane == 0) mbarrier_arrive(&barriers->values_empty[values.slot]);
        values.advance();
    };

    prefill_unit unit = unit_of<TileKeys>(p, unit_at(0), item_of(p, unit_at(0)));
    load_queries<T, HeadStride>(p, unit, group_row, queries);
    for (uint32_t turn = 0; unit_at(turn) < units; turn++) {
        const uint4 next_item = item_of(p, unit_at(turn + 1));
        copy_async_wait<0>();
        fence_async_shared();
        named_barrier_sync(BARRIER_GROUP + group, GROUP_THREADS);

        softmax_rows rows = first_rows(p, unit, thread_row);
        float factor[2];
#pragma unroll
        for (int i = 0; i < HeadStride / 2; i++)
            o[i] = 0.0f;

        if (unit.token_count != 0) {
            /* Keys that all rows see, as far as they lie in whole tiles. */
            const int clear_begin = (int)first_visible(p, unit.position + unit.token_count - 1);
            const int clear_end = (int)unit.position + 1;
            auto softmax = [&](int n) {
                const bool masked = (n + 1) * TileKeys > clear_end || n * TileKeys < clear_begin;
                softmax_tile<Softcap>(p, s, rows, factor, n * TileKeys, masked);
            };

            int n = (int)unit.tile_top;
            await_keys();
            start_scores();
            wgmma_wait<0>();
            wgmma_pin(s);
            release_keys();
            softmax(n);
            pack_probabilities<T>(s, probabilities);
            if (n > (int)unit.tile_begin) await_keys();

            for (n--; n >= (int)unit.tile_begin; n--) {
                start_scores();
                await_values();
                start_output();
                wgmma_wait<1>();
                wgmma_pin(s);
                release_keys();
                softmax(n);
                /* The wait for O belongs after softmax, which does not depend on it: the assembler
                 * moves it up as far as it can, but not past the loop that awaits keys. */
                wgmma_pin(s);
                if (n > (int)unit.tile_begin) await_keys();
                finish_output();
                pack_probabilities<T>(s, probabilities);
                if (__any_sync(0xffffffffu, factor[0] != 1.0f || factor[1] != 1.0f)) {
#pragma unroll
                    for (int i = 0; i < HeadStride / 2; i++)
                        o[i] *= factor[i / 2 % 2];
                }
            }
            await_values();
            start_output();
            finish_output();
        }

        /* All warps are done with the queries: the next ones come while these rows are written. */
        named_barrier_sync(BARRIER_GROUP + group, GROUP_THREADS);
        const prefill_unit next = unit_of<TileKeys>(p, unit_at(turn + 1), next_item);
        load_queries<T, HeadStride>(p, next, group_row, queries);
        store_rows<T>(p, unit, thread_row, o, rows);
        unit = next;
    }
    copy_async_wait<0>();
}

#endif /* HAVE_SM90A */

template <typename T, int HeadStride, bool Softcap>
static __global__ void __launch_bounds__(BLOCK_THREADS, 1)
    prefill_kernel(const __grid_constant__ prefill_params p)
{
#if HAVE_SM90A
    using layout = shared_layout<HeadStride>;
    DYNAMIC_SHARED(shared);
    auto *barriers = (ring_barriers<layout::stages> *)(shared + layout::barriers_at);
    if (threadIdx.x == 0) {
        init_barriers(barriers);
        tensor_map_prefetch(&p.keys);
        tensor_map_prefetch(&p.values);
    }
    __syncthreads();
    grid_dependency_wait();
    grid_dependency_release();
    if (threadIdx.x >= COMPUTE_THREADS) {
        registers_lower<LOAD_REGISTERS>();
        if (threadIdx.x < COMPUTE_THREADS + 32) load_units<HeadStride>(p, shared, barriers);
    } else {
        registers_raise<COMPUTE_REGISTERS>();
        compute_units<T, HeadStride, Softcap>(p, shared, barriers);
    }
#else
    (void)p; /* never launched: the header's launcher refuses */
#endif
}

/* -- launchers -------------------------------------------------------------------------------- */

static tensor_map_encoder encoder;

template <typename T, int HeadStride> static cudaError_t allow_shared()
{
    constexpr size_t bytes = shared_layout<HeadStride>::bytes;
    cudaError_t error = launch_allow_shared(prefill_kernel<T, HeadStride, false>, bytes);
    if (error == cudaSuccess)
        error = launch_allow_shared(prefill_kernel<T, HeadStride, true>, bytes);
    return error;
}

template <typename T> static cudaError_t allow_shared_all()
{
    cudaError_t error = allow_shared<T, 64>();
    if (error == cudaSuccess) error = allow_shared<T, 128>();
    if (error == cudaSuccess) error = allow_shared<T, 256>();
    return error;
}

cudaError_t attention_prefill_sm90_prepare(const kernel_device *device)
{
    if (!device->has_sm90a) return cudaErrorInvalidValue;
    cudaError_t error = tensor_map_find_encoder(&encoder);
    if (error == cudaSuccess) error = allow_shared_all<__half>();
    if (error == cudaSuccess) error = allow_shared_all<__nv_bfloat16>();
    return error;
}

/* 96 has no whole number of 64-column slabs: mma.sync's. */
uint32_t attention_prefill_sm90_tile_tokens(const kernel_device *device, const kernel_kv *kv,
                                            const attention_shape *shape)
{
    if (!device->has_sm90a || kv->kv_heads == 0 || shape->heads % kv->kv_heads != 0) return 0;
    if (kv->head_stride != 64 && kv->head_stride != 128 && kv->head_stride != 256) return 0;
    const uint32_t group = shape->heads / kv->kv_heads;
    return group >= 1 && group <= 64 ? BLOCK_ROWS / group : 0;
}

static bool aligned(const void *pointer, uintptr_t bytes)
{
    return pointer != nullptr && (uintptr_t)pointer % bytes == 0;
}

static bool contract_holds(const kernel_device *device, const attention_prefill_args *args)
{
    const uint32_t tile = attention_prefill_sm90_tile_tokens(device, &args->kv, &args->shape);
    return tile > 0 && args->item_tokens_max <= tile && args->kv.head_dim >= 8 &&
           args->kv.head_dim % 2 == 0 && args->kv.head_dim <= args->kv.head_stride &&
           args->shape.scale > 0 && args->shape.softcap >= 0 &&
           (args->dtype == KERNEL_F16 || args->dtype == KERNEL_BF16) && aligned(args->q, 16) &&
           aligned(args->out, 4) && aligned(args->items, 16) && aligned(args->block_tables, 4) &&
           aligned(args->kv.keys, 128) && aligned(args->kv.values, 128) &&
           args->item_count <= UINT32_MAX / 2 / args->kv.kv_heads && encoder != nullptr;
}

template <typename T, int HeadStride>
static cudaError_t launch_prefill(const kernel_device *device, const prefill_params &params,
                                  bool softcap, cudaStream_t stream)
{
    const uint32_t units = params.item_count * params.kv_heads;
    const dim3 grid(units < device->sm_count ? units : device->sm_count);
    constexpr size_t bytes = shared_layout<HeadStride>::bytes;
    return launch(LAUNCH_OVERLAPPED,
                  softcap ? prefill_kernel<T, HeadStride, true>
                          : prefill_kernel<T, HeadStride, false>,
                  grid, dim3(BLOCK_THREADS), bytes, stream, params);
}

template <typename T>
static cudaError_t launch_of_type(const kernel_device *device, uint32_t head_stride,
                                  const prefill_params &params, bool softcap, cudaStream_t stream)
{
    if (head_stride == 64) return launch_prefill<T, 64>(device, params, softcap, stream);
    if (head_stride == 128) return launch_prefill<T, 128>(device, params, softcap, stream);
    return launch_prefill<T, 256>(device, params, softcap, stream);
}

/* The maps bound coordinates by 2^31 rows, the most that there can be, as the contract does not say
 * how many blocks the cache has. */
static cudaError_t fill_params(const attention_prefill_args *args, prefill_params *params)
{
    const kernel_kv *kv = &args->kv;
    const attention_shape *shape = &args->shape;
    const bool bfloat16 = args->dtype == KERNEL_BF16;
    const uint64_t rows = (uint64_t)1 << 31;
    cudaError_t error = tensor_map_encode(encoder, &params->keys, kv->keys, bfloat16, rows,
                                          kv->head_stride, KERNEL_KV_BLOCK);
    if (error == cudaSuccess)
        error = tensor_map_encode(encoder, &params->values, kv->values, bfloat16, rows,
                                  kv->head_stride, KERNEL_KV_BLOCK);
    params->q = args->q;
    params->out = args->out;
    params->items = (const uint4 *)args->items;
    params->block_tables = args->block_tables;
    params->item_count = args->item_count;
    params->kv_heads = kv->kv_heads;
    params->heads = shape->heads;
    params->group = shape->heads / kv->kv_heads;
    params->group_inverse = 65536 / params->group + 1;
    params->head_dim = kv->head_dim;
    params->window = shape->window;
    params->exponent = (shape->softcap > 0 ? shape->softcap : shape->scale) * LOG2_E;
    params->tanh_scale =
        shape->softcap > 0 ? 2.0f * LOG2_E * (shape->scale / shape->softcap) : 0.0f;
    params->wide_stores = kv->head_dim % 8 == 0 && aligned(args->out, 16);
    return error;
}

cudaError_t attention_prefill_sm90(const kernel_device *device, const attention_prefill_args *args,
                                   cudaStream_t stream)
{
    if (args->item_count == 0) return cudaSuccess;
    if (!contract_holds(device, args)) return cudaErrorInvalidValue;
    prefill_params params;
    cudaError_t error = fill_params(args, &params);
    if (error != cudaSuccess) return error;
    const bool softcap = args->shape.softcap > 0;
    return args->dtype == KERNEL_F16
               ? launch_of_type<__half>(device, args->kv.head_stride, params, softcap, stream)
               : launch_of_type<__nv_bfloat16>(device, args->kv.head_stride, params, softcap,
                                               stream);
}
