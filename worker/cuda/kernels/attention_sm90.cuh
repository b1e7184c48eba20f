/* attention_sm90: what attention_prefill_sm90.cu's warps share (sizes, parameters, the order of
 * work, the rings of tiles), and the warp that loads. The idea is told there. */
#ifndef GAGGLE_WORKER_CUDA_KERNELS_ATTENTION_SM90_CUH
#define GAGGLE_WORKER_CUDA_KERNELS_ATTENTION_SM90_CUH

#include "worker/cuda/kernels/attention.h"
#include "worker/cuda/kernels/ptx_sm90.cuh"

constexpr int BLOCK_ROWS = 128;
constexpr int GROUP_ROWS = 64; /* of a warpgroup: wgmma's M */
constexpr int GROUP_THREADS = 128;
constexpr int COMPUTE_THREADS = 2 * GROUP_THREADS;
constexpr int BLOCK_THREADS = COMPUTE_THREADS + GROUP_THREADS;
constexpr int PAGE = (int)KERNEL_KV_BLOCK;

/* Keys of a tile: S, O and P must fit in registers: 2 * (tile / 4) + head_stride / 2 + tile / 4. */
constexpr int tile_keys_of(int head_stride)
{
    return head_stride <= 128 ? 128 : 64;
}

/* Tiles of a ring, for keys and for values each. At 128 a third tile of each would fit as well and
 * gains nothing; at 64 tiles are half as large and arrive twice as often. */
constexpr int ring_stages_of(int head_stride)
{
    return head_stride == 64 ? 4 : 2;
}

/* Dynamic shared memory: the two warpgroups' queries, ring of keys, ring of values, barriers. All
 * tiles in slabs of 64 columns (ptx_sm90.cuh). */
template <int HeadStride> struct shared_layout {
    static constexpr int stages = ring_stages_of(HeadStride);
    static constexpr int tile_keys = tile_keys_of(HeadStride);
    static constexpr uint32_t slabs = HeadStride / 64;
    static constexpr uint32_t query_slab_bytes = GROUP_ROWS * 128;
    static constexpr uint32_t query_bytes = slabs * query_slab_bytes; /* of a warpgroup */
    static constexpr uint32_t slab_bytes = tile_keys * 128;
    static constexpr uint32_t tile_bytes = slabs * slab_bytes;
    static constexpr uint32_t keys_at = 2 * query_bytes;
    static constexpr uint32_t values_at = keys_at + stages * tile_bytes;
    static constexpr uint32_t barriers_at = values_at + stages * tile_bytes;
    static constexpr uint32_t bytes = barriers_at + (4 * stages + 1) * 8;
    static_assert(bytes <= 227 * 1024, "shared memory of an sm_90 block");
    static_assert(HeadStride % 64 == 0 && tile_keys % PAGE == 0, "whole slabs and boxes");
    static_assert(tile_keys / PAGE * slabs <= 32, "one lane a box");
};

struct prefill_params {
    tensor_map keys, values; /* [blocks * kv_heads * 16][head_stride] */
    const void *q;
    void *out;
    const uint4 *items; /* attention_prefill_item */
    const uint32_t *block_tables;
    uint32_t item_count, kv_heads, heads, group;
    uint32_t group_inverse; /* 65536 / group + 1: r / group = r * it >> 16 for r < 128 */
    uint32_t head_dim;
    uint32_t window;
    float exponent;   /* exp(score) = exp2(exponent * S), S being tanh(..) with a soft cap */
    float tanh_scale; /* 2 log2(e) times tanh's argument for S = 1 */
    bool wide_stores; /* rows of out are made of aligned 16-byte pieces */
};

#if HAVE_SM90A

/* A thread's registers, from 168 at the start; 40 + 2 * 232 is what three times 168 are. */
constexpr int LOAD_REGISTERS = 40, COMPUTE_REGISTERS = 232;
constexpr uint32_t BOX_BYTES = PAGE * 128;

/* -- the order of work ------------------------------------------------------------------------ */

/* Unit (an item and KV head) number `turn` of this block. Items come longest first, so every second
 * round is dealt in the other direction: the blocks' sums then differ by about a tile. */
static __device__ __forceinline__ uint32_t unit_at(uint32_t turn)
{
    return turn * gridDim.x + (turn % 2 ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
}

struct prefill_unit {
    uint32_t token, token_count, position, block_begin;
    uint32_t head;                 /* KV head */
    uint32_t tile_begin, tile_top; /* its key tiles: from the top down to the first */
};

/* Of unit `number`, read early: it takes as long as a tenth of a tile. Past the last: no tokens. */
static __device__ __forceinline__ uint4 item_of(const prefill_params &p, uint32_t number)
{
    if (number >= p.item_count * p.kv_heads) return make_uint4(0, 0, 0, 0);
    return __ldg(p.items + number / p.kv_heads);
}

static __device__ __forceinline__ uint32_t first_visible(const prefill_params &p, uint32_t position)
{
    return p.window != 0 && position >= p.window ? position - p.window + 1 : 0;
}

template <int TileKeys>
static __device__ __forceinline__ prefill_unit unit_of(const prefill_params &p, uint32_t number,
                                                       uint4 item)
{
    prefill_unit unit;
    unit.token = item.x;
    unit.token_count = item.y;
    unit.position = item.z;
    unit.block_begin = item.w;
    unit.head = number % p.kv_heads;
    unit.tile_top = (unit.position + unit.token_count - 1) / TileKeys;
    unit.tile_begin = first_visible(p, unit.position) / TileKeys;
    return unit;
}

/* -- rings ---------------------------------------------------------------------------------------
 */

/* Where one side of a ring stands: a slot, and the parity of its phase. */
template <int Stages> struct ring_place {
    uint32_t slot = 0, parity = 0;
    __device__ __forceinline__ void advance()
    {
        slot++;
        if (slot == Stages) {
            slot = 0;
            parity ^= 1;
        }
    }
};

/* full: loaded, one arrival; empty: a warp of those that compute is done with it, eight. */
template <int Stages> struct ring_barriers {
    uint64_t keys_full[Stages], keys_empty[Stages];
    uint64_t values_full[Stages], values_empty[Stages];
    uint64_t landed; /* values that must be cleaned before they are full */
};

template <int Stages>
static __device__ __forceinline__ void init_barriers(ring_barriers<Stages> *barriers)
{
    for (int i = 0; i < Stages; i++) {
        mbarrier_init(&barriers->keys_full[i], 1);
        mbarrier_init(&barriers->keys_empty[i], COMPUTE_THREADS / 32);
        mbarrier_init(&barriers->values_full[i], 1);
        mbarrier_init(&barriers->values_empty[i], COMPUTE_THREADS / 32);
    }
    mbarrier_init(&barriers->landed, 1);
    mbarrier_init_fence();
}

/* -- the loading warp
 * ------------------------------------------------------------------------------ */

/* Overwrite rows outside of [first, end) of a tile of values with zeros. */
template <int HeadStride>
static __device__ __forceinline__ void clean_values(unsigned char *tile, int first, int end)
{
    using layout = shared_layout<HeadStride>;
    for (int chunk = (int)threadIdx.x % 32; chunk < layout::tile_keys * 8; chunk += 32) {
        const int key = chunk / 8;
        if (key >= first && key < end) continue;
        for (uint32_t slab = 0; slab < layout::slabs; slab++)
            *(uint4 *)(tile + slab * layout::slab_bytes + chunk * 16) = make_uint4(0, 0, 0, 0);
    }
    fence_async_shared();
}

/* Keys run one tile ahead of values, as they are used: K(n), then K(n - 1) and V(n), ... */
template <int HeadStride>
static __device__ __forceinline__ void load_units(
    const prefill_params &p, unsigned char *shared,
    ring_barriers<ring_stages_of(HeadStride)> *barriers)
{
    using layout = shared_layout<HeadStride>;
    constexpr uint32_t pages = layout::tile_keys / PAGE;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t page = lane % pages, slab = lane / pages; /* this lane's box of a tile */
    const uint32_t units = p.item_count * p.kv_heads;
    ring_place<layout::stages> keys, values;
    uint32_t landed_parity = 0;

    /* A tile's boxes, their bytes announced to `barrier`, which counts one arrival. */
    auto copy_boxes = [&](const tensor_map *map, unsigned char *tile, int32_t row,
                          uint64_t *barrier) {
        const uint32_t boxes = __popc(__ballot_sync(0xffffffffu, row >= 0));
        if (lane == 0) mbarrier_arrive_expect(barrier, boxes * BOX_BYTES);
        __syncwarp();
        if (row >= 0)
            tensor_copy_async(tile + slab * layout::slab_bytes + page * BOX_BYTES, map, row,
                              (int32_t)slab * 64, barrier);
    };
    auto load_keys = [&](int32_t row) {
        mbarrier_wait(&barriers->keys_empty[keys.slot], keys.parity ^ 1);
        copy_boxes(&p.keys, shared + layout::keys_at + keys.slot * layout::tile_bytes, row,
                   &barriers->keys_full[keys.slot]);
        keys.advance();
    };
    /* Rows of the tile outside of [first, end) are not visible. */
    auto load_values = [&](int32_t row, int first, int end) {
        unsigned char *tile = shared + layout::values_at + values.slot * layout::tile_bytes;
        uint64_t *full = &barriers->values_full[values.slot];
        mbarrier_wait(&barriers->values_empty[values.slot], values.parity ^ 1);
        values.advance();
        if (first <= 0 && end >= layout::tile_keys) {
            copy_boxes(&p.values, tile, row, full);
            return;
        }
        copy_boxes(&p.values, tile, row, &barriers->landed);
        mbarrier_wait(&barriers->landed, landed_parity);
        landed_parity ^= 1;
        clean_values<HeadStride>(tile, first, end);
        __syncwarp();
        if (lane == 0) mbarrier_arrive(full);
    };

    uint4 item = item_of(p, unit_at(0));
    for (uint32_t turn = 0; unit_at(turn) < units; turn++) {
        const prefill_unit unit = unit_of<layout::tile_keys>(p, unit_at(turn), item);
        item = item_of(p, unit_at(turn + 1));
        if (unit.token_count == 0) continue;
        const uint32_t key_begin = first_visible(p, unit.position);
        const uint32_t key_end = unit.position + unit.token_count;

        /* This lane's box of tile n: its row in the maps, or -1 where nothing is to be seen. */
        auto box_row = [&](int n) -> int32_t {
            const uint32_t block = (uint32_t)n * pages + page;
            if (n < (int)unit.tile_begin || slab >= layout::slabs || block * PAGE >= key_end ||
                (block + 1) * PAGE <= key_begin)
                return -1;
            const uint32_t id = __ldg(p.block_tables + unit.block_begin + block);
            return (int32_t)((id * p.kv_heads + unit.head) * PAGE);
        };

        /* Rows of the next two tiles are looked up ahead of their copies. */
        int n = (int)unit.tile_top;
        int32_t row = box_row(n), row_next = box_row(n - 1);
        load_keys(row);
        for (; n >= (int)unit.tile_begin; n--) {
            const int32_t row_after = box_row(n - 2);
            if (n > (int)unit.tile_begin) load_keys(row_next);
            load_values(row, (int)key_begin - n * layout::tile_keys,
                        (int)key_end - n * layout::tile_keys);
            row = row_next;
            row_next = row_after;
        }
    }
}

#endif /* HAVE_SM90A */

#endif
