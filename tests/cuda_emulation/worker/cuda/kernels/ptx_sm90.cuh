/* Twin of worker/cuda/kernels/ptx_sm90.cuh for the CPU emulation: the same functions, with layouts
 * and descriptors read back bit by bit.
 *
 * As in ptx.cuh's twin, what is asynchronous happens as late as it may: a tensor copy's destination
 * becomes NaN when it is issued and gets its bytes when a thread waits for its barrier; a product
 * reads its operands and adds to its accumulators, NaN meanwhile, when a wait covers its batch. */
#ifndef GAGGLE_WORKER_CUDA_PTX_SM90_CUH
#define GAGGLE_WORKER_CUDA_PTX_SM90_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>

#include <memory>
#include <vector>

#include "worker/cuda/kernels/ptx.cuh"

#if __CUDA_ARCH__ >= 900
#define HAVE_SM90A 1
#else
#define HAVE_SM90A 0
#endif

/* -- tensor maps ----------------------------------------------------------------------------- */

struct tensor_map {
    const unsigned char *base;
    uint64_t rows;
    uint32_t columns, box_rows;
};

typedef const char *tensor_map_encoder;

static inline cudaError_t tensor_map_find_encoder(tensor_map_encoder *encoder)
{
    *encoder = "emulated";
    return cudaSuccess;
}

static inline cudaError_t tensor_map_encode(tensor_map_encoder encoder, tensor_map *map,
                                            const void *base, bool, uint64_t rows, uint32_t columns,
                                            uint32_t box_rows)
{
    if (encoder == nullptr || (uintptr_t)base % 16 != 0 || rows == 0 || rows > (uint64_t)1 << 32 ||
        columns < 64 || columns % 8 != 0 || box_rows == 0 || box_rows > 256)
        return cudaErrorInvalidValue;
    *map = {static_cast<const unsigned char *>(base), rows, columns, box_rows};
    return cudaSuccess;
}

#if HAVE_SM90A

namespace emulation
{

/* -- barriers -------------------------------------------------------------------------------- */

struct mbarrier {
    uint64_t arrivals : 12, pending : 12, phase : 1, initialised : 7;
    int64_t bytes : 32; /* announced and not come */
};
static_assert(sizeof(mbarrier) == 8, "");
constexpr uint64_t kMbarrierInitialised = 0x5a;

static inline mbarrier *mbarrier_at(uint64_t *barrier, place where)
{
    mbarrier *b = reinterpret_cast<mbarrier *>(barrier);
    if (!is_dynamic_shared(barrier) || b->initialised != kMbarrierInitialised)
        fail(where, "no mbarrier at %p", (void *)barrier);
    return b;
}

static inline void mbarrier_check_phase(mbarrier *b)
{
    if (b->pending != 0 || b->bytes != 0) return;
    b->phase = !b->phase;
    b->pending = b->arrivals;
    progress();
}

static inline void mbarrier_count(mbarrier *b, place where)
{
    if (b->pending == 0) fail(where, "mbarrier: more arrivals than it expects");
    b->pending--;
    mbarrier_check_phase(b);
}

struct tensor_copy {
    unsigned char *shared;
    tensor_map map; /* a copy: the thread that asked, with its parameters, may have ended */
    int32_t row, column;
    uint64_t *barrier;
};

inline std::vector<tensor_copy> tensor_copies; /* issued and not come */

/* 16 bytes of a 128-byte swizzled tile: where its unswizzled address really is. */
static inline uint32_t swizzled(uint32_t address)
{
    return address ^ ((address >> 7 & 7) << 4);
}

static inline void deliver_tensor_copies(uint64_t *barrier)
{
    std::vector<tensor_copy> kept;
    for (const tensor_copy &c : tensor_copies) {
        if (c.barrier != barrier) {
            kept.push_back(c);
            continue;
        }
        uint32_t begin = shared_address(c.shared);
        for (uint32_t r = 0; r < c.map.box_rows; r++)
            for (uint32_t chunk = 0; chunk < 8; chunk++) {
                uint64_t row = (uint64_t)c.row + r;
                uint32_t column = (uint32_t)c.column + chunk * 8;
                unsigned char *to = dynamic_shared() + swizzled(begin + r * 128 + chunk * 16);
                if (row < c.map.rows && column < c.map.columns)
                    memcpy(to, c.map.base + (row * c.map.columns + column) * 2, 16);
                else
                    memset(to, 0, 16);
            }
        mbarrier *b = reinterpret_cast<mbarrier *>(barrier);
        b->bytes -= c.map.box_rows * 128;
        mbarrier_check_phase(b);
    }
    tensor_copies = std::move(kept);
}

} // namespace emulation

static inline void mbarrier_init(uint64_t *barrier, uint32_t arrivals, EMULATION_PLACE)
{
    if (!emulation::is_dynamic_shared(barrier) || (uintptr_t)barrier % 8 != 0 || arrivals == 0)
        emulation::fail(where, "mbarrier_init: bad address or count");
    emulation::mbarrier *b = reinterpret_cast<emulation::mbarrier *>(barrier);
    memset(b, 0, sizeof *b);
    b->arrivals = arrivals & 0xfff;
    b->pending = arrivals & 0xfff;
    b->initialised = emulation::kMbarrierInitialised;
}

static inline void mbarrier_init_fence()
{
}

static inline void mbarrier_arrive(uint64_t *barrier, EMULATION_PLACE)
{
    emulation::mbarrier_count(emulation::mbarrier_at(barrier, where), where);
}

static inline void mbarrier_arrive_expect(uint64_t *barrier, uint32_t bytes, EMULATION_PLACE)
{
    emulation::mbarrier *b = emulation::mbarrier_at(barrier, where);
    b->bytes += bytes;
    emulation::mbarrier_count(b, where);
}

static inline void mbarrier_wait(uint64_t *barrier, uint32_t parity, EMULATION_PLACE)
{
    emulation::mbarrier *b = emulation::mbarrier_at(barrier, where);
    if (b->phase == parity) emulation::deliver_tensor_copies(barrier);
    while (b->phase == parity) {
        emulation::poll("mbarrier_wait", where);
        emulation::deliver_tensor_copies(barrier);
    }
}

static inline void named_barrier_sync(uint32_t id, uint32_t threads, EMULATION_PLACE)
{
    emulation::barrier_wait((int)id, threads, "named_barrier", where);
}

static inline void fence_async_shared()
{
}

/* -- copies ------------------------------------------------------------------------------------ */

static inline void tensor_map_prefetch(const tensor_map *)
{
}

static inline void tensor_copy_async(void *shared, const tensor_map *map, int32_t row,
                                     int32_t column, uint64_t *barrier, EMULATION_PLACE)
{
    emulation::mbarrier_at(barrier, where);
    const size_t bytes = map->box_rows * 128;
    unsigned char *to = static_cast<unsigned char *>(shared);
    if (!emulation::is_dynamic_shared(to) || !emulation::is_dynamic_shared(to + bytes - 1) ||
        shared_address(to) % 1024 != 0)
        emulation::fail(where, "tensor_copy_async: bad address in shared memory");
    if (row < 0 || column < 0)
        emulation::fail(where, "tensor_copy_async: row %d, column %d", row, column);
    memset(to, 0xff, bytes);
    emulation::tensor_copies.push_back({to, *map, row, column, barrier});
}

/* -- registers -----------------------------------------------------------------------------------
 */

template <int Count> static inline void registers_lower()
{
    static_assert(Count >= 24 && Count <= 256 && Count % 8 == 0, "");
}

template <int Count> static inline void registers_raise()
{
    static_assert(Count >= 24 && Count <= 256 && Count % 8 == 0, "");
}

/* -- matrix products of a warpgroup ------------------------------------------------------------ */

static inline uint64_t matrix_descriptor(const void *tile, uint32_t slab_bytes)
{
    return (uint64_t)((shared_address(tile) & 0x3ffffu) >> 4) | (uint64_t)(slab_bytes >> 4) << 16 |
           (uint64_t)(1024u >> 4) << 32 | (uint64_t)1 << 62;
}

namespace emulation
{

/* What one lane brings to a product; a == NULL: A is in shared memory. */
struct wgmma_operands {
    float *c;
    const uint32_t *a;
    uint64_t a_matrix, b_matrix;
};

/* One warp's share of a product: 16 rows. */
struct wgmma_product {
    wgmma_operands lanes[32];
    void (*perform)(const wgmma_product &product);
    uint32_t warp; /* in its warpgroup */
    bool accumulate;
    place where;
};

struct wgmma_queue {
    std::vector<wgmma_product> open;
    std::vector<std::vector<wgmma_product>> batches;
};

inline wgmma_queue wgmma_queues[32]; /* a warp's */

template <typename T> static inline float decoded(uint16_t bits)
{
    static const std::unique_ptr<float[]> table = [] {
        std::unique_ptr<float[]> t(new float[65536]);
        for (uint32_t i = 0; i < 65536; i++)
            t[i] = element<T>(i, 0);
        return t;
    }();
    return table[bits];
}

struct matrix_in_shared {
    uint32_t begin, leading, stride;
    matrix_in_shared(uint64_t descriptor, place where)
        : begin((uint32_t)(descriptor & 0x3fff) << 4),
          leading((uint32_t)(descriptor >> 16 & 0x3fff) << 4),
          stride((uint32_t)(descriptor >> 32 & 0x3fff) << 4)
    {
        if (descriptor >> 62 != 1 || (descriptor >> 46 & 0xffff) != 0)
            fail(where, "wgmma: descriptor %016llx", (unsigned long long)descriptor);
    }
    uint16_t at(uint32_t address, place where) const
    {
        uint32_t real = swizzled(address & ~15u) + address % 16;
        uint16_t bits;
        if (real + 2 > dynamic_shared_bytes())
            fail(where, "wgmma: descriptor reaches past shared memory");
        memcpy(&bits, dynamic_shared() + real, sizeof bits);
        return bits;
    }
    /* rows x depth */
    uint16_t row_depth(uint32_t row, uint32_t depth, place where) const
    {
        return at(begin + row / 8 * stride + row % 8 * 128 + depth * 2, where);
    }
    /* depth x columns */
    uint16_t depth_column(uint32_t depth, uint32_t column, place where) const
    {
        return at(begin + column / 64 * leading + depth / 8 * stride + depth % 8 * 128 +
                      column % 64 * 2,
                  where);
    }
};

template <typename T, int Columns> static void perform_wgmma(const wgmma_product &product)
{
    const wgmma_operands &first = product.lanes[0];
    static float a[16][16], b[16][Columns];
    for (uint32_t lane = 0; lane < 32; lane++)
        for (int r = 0; first.a != nullptr && r < 4; r++)
            for (uint32_t half = 0; half < 2; half++) {
                uint32_t word = product.lanes[lane].a[r];
                a[lane / 4 + r % 2 * 8][lane % 4 * 2 + half + r / 2 * 8] =
                    decoded<T>((uint16_t)(half ? word >> 16 : word));
            }
    if (first.a == nullptr) {
        matrix_in_shared m(first.a_matrix, product.where);
        for (uint32_t row = 0; row < 16; row++)
            for (uint32_t k = 0; k < 16; k++)
                a[row][k] = decoded<T>(m.row_depth(product.warp * 16 + row, k, product.where));
    }
    matrix_in_shared m(first.b_matrix, product.where);
    for (uint32_t k = 0; k < 16; k++)
        for (uint32_t n = 0; n < Columns; n++)
            b[k][n] = decoded<T>(first.a == nullptr ? m.row_depth(n, k, product.where)
                                                    : m.depth_column(k, n, product.where));
    float sums[Columns];
    for (uint32_t row = 0; row < 16; row++) {
        for (uint32_t n = 0; n < Columns; n++)
            sums[n] = 0;
        for (uint32_t k = 0; k < 16; k++)
            for (uint32_t n = 0; n < Columns; n++)
                sums[n] += a[row][k] * b[k][n];
        for (uint32_t n = 0; n < Columns; n++) {
            float *c = product.lanes[row % 8 * 4 + n % 8 / 2].c + n / 8 * 4 + row / 8 * 2 + n % 2;
            *c = product.accumulate ? *c + sums[n] : sums[n];
        }
    }
}

static inline void issue_wgmma(wgmma_operands mine, void (*perform)(const wgmma_product &),
                               bool accumulate, place where)
{
    struct argument {
        wgmma_operands operands;
        wgmma_product product;
    } argument = {mine, {}};
    argument.product.perform = perform;
    argument.product.accumulate = accumulate;
    argument.product.warp = current->warp % 4;
    argument.product.where = where;
    warp_exchange(
        0xffffffffu, "wgmma", &argument,
        [](void *const *arguments, uint32_t) {
            wgmma_product product = static_cast<struct argument *>(arguments[0])->product;
            for (uint32_t lane = 0; lane < 32; lane++) {
                product.lanes[lane] = static_cast<struct argument *>(arguments[lane])->operands;
                if (product.lanes[lane].a_matrix != product.lanes[0].a_matrix ||
                    product.lanes[lane].b_matrix != product.lanes[0].b_matrix)
                    fail(product.where, "wgmma: lanes' descriptors differ");
            }
            wgmma_queues[current->warp].open.push_back(product);
        },
        where);
}

} // namespace emulation

static inline void wgmma_fence()
{
}

static inline void wgmma_commit(EMULATION_PLACE)
{
    emulation::warp_exchange(
        0xffffffffu, "wgmma_commit", nullptr,
        [](void *const *, uint32_t) {
            emulation::wgmma_queue &queue = emulation::wgmma_queues[emulation::current->warp];
            queue.batches.push_back(std::move(queue.open));
            queue.open.clear();
        },
        where);
}

template <int Pending> static inline void wgmma_wait(EMULATION_PLACE)
{
    emulation::warp_exchange(
        0xffffffffu, "wgmma_wait", nullptr,
        [](void *const *, uint32_t) {
            auto &batches = emulation::wgmma_queues[emulation::current->warp].batches;
            while (batches.size() > (size_t)Pending) {
                for (const emulation::wgmma_product &product : batches.front())
                    product.perform(product);
                batches.erase(batches.begin());
            }
        },
        where);
}

template <int Count> static inline void wgmma_pin(float (&)[Count])
{
}

template <int Count> static inline void wgmma_pin(uint32_t (&)[Count])
{
}

template <bool Accumulate, int Registers, typename T>
static inline void wgmma_shared(float (&c)[Registers], uint64_t a, uint64_t b, T, EMULATION_PLACE)
{
    static_assert(Registers >= 4 && Registers <= 64 && (Registers & (Registers - 1)) == 0,
                  "8 to 128 columns");
    if (!Accumulate)
        for (float &register_c : c)
            register_c = NAN;
    emulation::issue_wgmma({c, nullptr, a, b}, emulation::perform_wgmma<T, Registers * 2>,
                           Accumulate, where);
}

template <int Registers, typename T>
static inline void wgmma_registers(float (&c)[Registers], const uint32_t *a, uint64_t b, T,
                                   EMULATION_PLACE)
{
    static_assert(Registers == 32 || Registers == 64 || Registers == 128, "64 to 256 columns");
    emulation::issue_wgmma({c, a, 0, b}, emulation::perform_wgmma<T, Registers * 2>, true, where);
}

#endif /* HAVE_SM90A */

#endif
