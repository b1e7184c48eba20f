/* ptx_sm90: Hopper's own instructions, one inline function each: barriers with transaction counts
 * (mbarrier), the bulk tensor copy engine (TMA) and matrix products of warpgroups (wgmma). The CPU
 * emulation that the tests use (tests/cuda_emulation) has a file of the same name in front of this
 * one. Everything for sm_90a; kernels call it under `#if HAVE_SM90A` only.
 *
 * Tiles in shared memory. A tile of [rows][columns] 16-bit elements is stored as columns / 64
 * slabs of [rows][64], a row of a slab being 128 bytes, slabs at multiples of 1024 bytes. Within a
 * slab, the 16-byte chunk c (0..7) of row r lies at chunk c ^ (r % 8): the "128-byte swizzle", with
 * which neither the copy engine's rows nor the products' columns collide in banks.
 *
 * Matrix descriptors, 64 bits, all sizes in units of 16 bytes: bits 0-13 address, 16-29 leading
 * offset, 32-45 stride offset, 62-63 the swizzle (1: 128 bytes). For such a tile
 *   as rows x depth ("K-major": a row's elements lie along the depth of the product) the stride
 *   offset is 1024 bytes, from 8 rows to the next 8; the leading one is unused; 16 of depth more
 *   are 32 bytes more in the address, within a slab
 *   as depth x columns ("MN-major", the tile's rows lie along the depth) the leading offset is a
 *   slab, from 64 columns to the next 64; the stride offset 1024 bytes, from depth 8 to the next 8;
 *   16 of depth more are 2048 bytes more in the address
 * Fragments: warp w of the warpgroup has rows 16w.. of A and C; within a warp A is mma.m16n8k16's
 * (ptx.cuh), C is mma's beside each other: c[4j], c[4j+1] row g, columns 8j + 2i and next;
 * c[4j+2], c[4j+3] row g + 8. */
#ifndef GAGGLE_WORKER_CUDA_PTX_SM90_CUH
#define GAGGLE_WORKER_CUDA_PTX_SM90_CUH

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "worker/cuda/kernels/ptx.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HAVE_SM90A 1
#else
#define HAVE_SM90A 0
#endif

/* -- tensor maps: host ------------------------------------------------------------------- */

/* The driver's own form of a tensor in global memory; a kernel takes it as a `const
 * __grid_constant__` parameter. */
typedef CUtensorMap tensor_map;

typedef CUresult (*tensor_map_encoder)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                                       const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                                       const cuuint32_t *, CUtensorMapInterleave,
                                       CUtensorMapSwizzle, CUtensorMapL2promotion,
                                       CUtensorMapFloatOOBfill);

/* The driver's function that makes maps, without linking against the driver. */
static inline cudaError_t tensor_map_find_encoder(tensor_map_encoder *encoder)
{
    void *function = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                         cudaEnableDefault, &found);
#else
    cudaError_t error =
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
    if (error == cudaSuccess && (found != cudaDriverEntryPointSuccess || function == nullptr))
        error = cudaErrorNotSupported;
    *encoder = reinterpret_cast<tensor_map_encoder>(function);
    return error;
}

/* Map of [rows][columns] 16-bit elements at `base` (16-byte aligned; a row of a multiple of 16
 * bytes, without gaps), read in boxes of box_rows x 64 that arrive swizzled. `rows` only bounds the
 * coordinates. */
static inline cudaError_t tensor_map_encode(tensor_map_encoder encoder, tensor_map *map,
                                            const void *base, bool bfloat16, uint64_t rows,
                                            uint32_t columns, uint32_t box_rows)
{
    const cuuint64_t sizes[2] = {columns, rows};
    const cuuint64_t strides[1] = {(cuuint64_t)columns * 2};
    const cuuint32_t box[2] = {64, box_rows};
    const cuuint32_t steps[2] = {1, 1};
    CUresult result =
        encoder(map, bfloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
                2, const_cast<void *>(base), sizes, strides, box, steps,
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

#if HAVE_SM90A

/* -- barriers ------------------------------------------------------------------------------ */

/* A barrier in shared memory, 8-byte aligned. Its phase ends when `arrivals` threads have arrived
 * and all bytes that were announced have come; then the next begins. */
static __device__ __forceinline__ void mbarrier_init(uint64_t *barrier, uint32_t arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}

/* After the inits, by the thread that made them, before the block's barrier: lets the copy engine
 * see them, too. */
static __device__ __forceinline__ void mbarrier_init_fence()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

static __device__ __forceinline__ void mbarrier_arrive(uint64_t *barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
                 : "memory");
}

/* Arrive, and announce `bytes` of copies for this phase. */
static __device__ __forceinline__ void mbarrier_arrive_expect(uint64_t *barrier, uint32_t bytes)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
        "r"(bytes)
        : "memory");
}

/* Wait for the end of the phase with this parity: 0 is the first phase, 1 the second, 0 the third.
 * The one "before the first" (1) has ended from the start. What others wrote before they arrived,
 * and the announced copies, can be read afterwards. */
static __device__ __forceinline__ void mbarrier_wait(uint64_t *barrier, uint32_t parity)
{
    uint32_t done = 0;
    while (!done) {
        asm volatile("{\n"
                     ".reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n"
                     "}\n"
                     : "=r"(done)
                     : "r"(shared_address(barrier)), "r"(parity)
                     : "memory");
    }
}

/* The block's numbered barriers (1..15; 0 is __syncthreads'), for `threads` threads. Whole warps.
 */
static __device__ __forceinline__ void named_barrier_sync(uint32_t id, uint32_t threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* This thread's ordinary writes to shared memory can be read by the copy engine and by matrix
 * products of threads that meet it in a barrier afterwards. */
static __device__ __forceinline__ void fence_async_shared()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* -- copies ---------------------------------------------------------------------------------- */

static __device__ __forceinline__ void tensor_map_prefetch(const tensor_map *map)
{
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/* Copy the map's box whose first element is (row, column) to shared memory, swizzled, 1024-byte
 * aligned; its bytes count towards `barrier`'s phase. One thread. */
static __device__ __forceinline__ void tensor_copy_async(void *shared, const tensor_map *map,
                                                         int32_t row, int32_t column,
                                                         uint64_t *barrier)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];" ::"r"(shared_address(shared)),
                 "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier))
                 : "memory");
}

/* -- registers ------------------------------------------------------------------------------- */

/* Give back or take registers: this warpgroup's threads have `Count` each afterwards (a multiple of
 * 8, 24..256). The kernel must state its threads in __launch_bounds__(threads, 1), and the
 * warpgroups' roles must be the branches of one if. */
template <int Count> static __device__ __forceinline__ void registers_lower()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
}

template <int Count> static __device__ __forceinline__ void registers_raise()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
}

/* -- matrix products of a warpgroup ------------------------------------------------------- */

/* Descriptor of a tile as above; `slab_bytes` is the distance of slabs, which only depth x columns
 * needs. Adding bytes / 16 moves the address. */
static __device__ __forceinline__ uint64_t matrix_descriptor(const void *tile, uint32_t slab_bytes)
{
    return (uint64_t)((shared_address(tile) & 0x3ffffu) >> 4) | (uint64_t)(slab_bytes >> 4) << 16 |
           (uint64_t)(1024u >> 4) << 32 | (uint64_t)1 << 62;
}

/* Before a batch of products: registers written so far may be read by them. */
static __device__ __forceinline__ void wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Wait until at most `Pending` of the committed batches are unfinished. */
template <int Pending> static __device__ __forceinline__ void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

/* The compiler knows nothing of products in flight: registers that they read or write must be named
 * here before a batch and after its wait, so that no use of them moves across. No instruction. */
template <int Count> static __device__ __forceinline__ void wgmma_pin(float (&registers)[Count])
{
#pragma unroll
    for (int i = 0; i < Count; i++)
        asm volatile("" : "+f"(registers[i])::"memory");
}

template <int Count> static __device__ __forceinline__ void wgmma_pin(uint32_t (&registers)[Count])
{
#pragma unroll
    for (int i = 0; i < Count; i++)
        asm volatile("" : "+r"(registers[i])::"memory");
}

#define WGMMA_C4(o) "+f"(c[o]), "+f"(c[o + 1]), "+f"(c[o + 2]), "+f"(c[o + 3])
#define WGMMA_C8(o)                                                                                \
    "+f"(c[o]), "+f"(c[o + 1]), "+f"(c[o + 2]), "+f"(c[o + 3]), "+f"(c[o + 4]), "+f"(c[o + 5]),    \
        "+f"(c[o + 6]), "+f"(c[o + 7])
#define WGMMA_C16(o)  WGMMA_C8(o), WGMMA_C8(o + 8)
#define WGMMA_C32(o)  WGMMA_C8(o), WGMMA_C8(o + 8), WGMMA_C8(o + 16), WGMMA_C8(o + 24)
#define WGMMA_C64(o)  WGMMA_C32(o), WGMMA_C32(o + 32)
#define WGMMA_C128(o) WGMMA_C64(o), WGMMA_C64(o + 64)
#define WGMMA_N4      "%0,%1,%2,%3"
#define WGMMA_N8      WGMMA_N4 ",%4,%5,%6,%7"
#define WGMMA_N16     WGMMA_N8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define WGMMA_N32                                                                                  \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,"   \
    "%25,%26,%27,%28,%29,%30,%31"
#define WGMMA_N64                                                                                  \
    WGMMA_N32                                                                                      \
    ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,"    \
    "%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define WGMMA_N128                                                                                 \
    WGMMA_N64                                                                                      \
    ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,"    \
    "%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,"  \
    "%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,"   \
    "%125,%126,%127"

/* c = a b^T, or c += with Accumulate: a 64 x 16 and b columns x 16, both rows x depth in shared
 * memory. Overloaded for 8, 16, 32, 64 and 128 columns (c: columns / 2 registers). In flight until
 * waited for. */
#define WGMMA_SHARED(columns, registers, type, name, descriptor_a, descriptor_b, accumulate)       \
    template <bool Accumulate>                                                                     \
    static __device__ __forceinline__ void wgmma_shared(float(&c)[registers], uint64_t a,          \
                                                        uint64_t b, type)                          \
    {                                                                                              \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" accumulate ", 0;\n"                      \
                     "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." name "." name         \
                     " {" WGMMA_N##registers "}, %" descriptor_a ", %" descriptor_b                \
                                             ", p, 1, 1, 0, 0;\n}\n"                               \
                     : WGMMA_C##registers(0)                                                       \
                     : "l"(a), "l"(b), "n"(Accumulate ? 1 : 0)                                     \
                     : "memory");                                                                  \
    }
WGMMA_SHARED(8, 4, __half, "f16", "4", "5", "6")
WGMMA_SHARED(8, 4, __nv_bfloat16, "bf16", "4", "5", "6")
WGMMA_SHARED(16, 8, __half, "f16", "8", "9", "10")
WGMMA_SHARED(16, 8, __nv_bfloat16, "bf16", "8", "9", "10")
WGMMA_SHARED(32, 16, __half, "f16", "16", "17", "18")
WGMMA_SHARED(32, 16, __nv_bfloat16, "bf16", "16", "17", "18")
WGMMA_SHARED(64, 32, __half, "f16", "32", "33", "34")
WGMMA_SHARED(64, 32, __nv_bfloat16, "bf16", "32", "33", "34")
WGMMA_SHARED(128, 64, __half, "f16", "64", "65", "66")
WGMMA_SHARED(128, 64, __nv_bfloat16, "bf16", "64", "65", "66")

/* c += a b: a 64 x 16 in registers, b depth x columns in shared memory. Overloaded for 64, 128 and
 * 256 columns. In flight until waited for, `a` must not change before. */
#define WGMMA_REGISTERS(columns, registers, type, name, a0, a1, a2, a3, descriptor_b)              \
    static __device__ __forceinline__ void wgmma_registers(float(&c)[registers],                   \
                                                           const uint32_t *a, uint64_t b, type)    \
    {                                                                                              \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." name "." name         \
                     " {" WGMMA_N##registers "}, {%" a0 ",%" a1 ",%" a2 ",%" a3                    \
                                             "}, %" descriptor_b ", 1, 1, 1, 1;"                   \
                     : WGMMA_C##registers(0)                                                       \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)                          \
                     : "memory");                                                                  \
    }
WGMMA_REGISTERS(64, 32, __half, "f16", "32", "33", "34", "35", "36")
WGMMA_REGISTERS(64, 32, __nv_bfloat16, "bf16", "32", "33", "34", "35", "36")
WGMMA_REGISTERS(128, 64, __half, "f16", "64", "65", "66", "67", "68")
WGMMA_REGISTERS(128, 64, __nv_bfloat16, "bf16", "64", "65", "66", "67", "68")
WGMMA_REGISTERS(256, 128, __half, "f16", "128", "129", "130", "131", "132")
WGMMA_REGISTERS(256, 128, __nv_bfloat16, "bf16", "128", "129", "130", "131", "132")

#undef WGMMA_SHARED
#undef WGMMA_REGISTERS
#undef WGMMA_C4
#undef WGMMA_C8
#undef WGMMA_C16
#undef WGMMA_C32
#undef WGMMA_C64
#undef WGMMA_C128
#undef WGMMA_N4
#undef WGMMA_N8
#undef WGMMA_N16
#undef WGMMA_N32
#undef WGMMA_N64
#undef WGMMA_N128

#endif /* HAVE_SM90A */

#endif
