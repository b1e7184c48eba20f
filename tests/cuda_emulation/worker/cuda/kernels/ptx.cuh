/* Twin of worker/cuda/kernels/ptx.cuh for the CPU emulation: the same functions, with the fragment
 * layouts written down a second time, element by element.
 *
 * cp.async arrives as late as it may: the destination becomes NaN when the copy is issued and gets
 * its bytes when a wait covers its group, so that a wait that is missing and a buffer that is still
 * being read both show. */
#ifndef GAGGLE_WORKER_CUDA_PTX_CUH
#define GAGGLE_WORKER_CUDA_PTX_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

namespace emulation
{

template <typename T> static inline float element(uint32_t word, int high)
{
    T x;
    uint16_t bits = (uint16_t)(high ? word >> 16 : word);
    memcpy(&x, &bits, sizeof bits);
    return (float)x;
}

struct mma_arguments {
    float *c;
    const uint32_t *a, *b;
};

template <typename T, int K> static void perform_mma(void *const *arguments, uint32_t)
{
    float a[16][K], b[K][8];
    for (int lane = 0; lane < 32; lane++) {
        const mma_arguments *m = static_cast<mma_arguments *>(arguments[lane]);
        int g = lane / 4, i = lane % 4;
        for (int half = 0; half < 2; half++)
            for (int step = 0; step < K / 8; step++) {
                int k = step * 8 + 2 * i + half;
                a[g][k] = element<T>(m->a[2 * step], half);
                a[g + 8][k] = element<T>(m->a[2 * step + 1], half);
                b[k][g] = element<T>(m->b[step], half);
            }
    }
    for (int lane = 0; lane < 32; lane++) {
        float *c = static_cast<mma_arguments *>(arguments[lane])->c;
        for (int r = 0; r < 4; r++) {
            int row = lane / 4 + r / 2 * 8, column = 2 * (lane % 4) + r % 2;
            float sum = 0;
            for (int k = 0; k < K; k++)
                sum += a[row][k] * b[k][column];
            c[r] += sum;
        }
    }
}

template <typename T, int K>
static inline void mma(float *c, const uint32_t *a, const uint32_t *b, place where)
{
    mma_arguments mine = {c, a, b};
    warp_exchange(0xffffffffu, "mma", &mine, perform_mma<T, K>, where);
}

struct ldmatrix_arguments {
    uint32_t *r;
    const void *row;
    place where;
};

template <int Matrices, bool Transposed>
static void perform_ldmatrix(void *const *arguments, uint32_t)
{
    uint16_t m[Matrices][8][8];
    for (int lane = 0; lane < 8 * Matrices; lane++) {
        const ldmatrix_arguments *l = static_cast<ldmatrix_arguments *>(arguments[lane]);
        if ((uintptr_t)l->row % 16 != 0)
            fail(l->where, "ldmatrix: the row of lane %d is not 16-byte aligned", lane);
        memcpy(m[lane / 8][lane % 8], l->row, 16);
    }
    for (int lane = 0; lane < 32; lane++) {
        uint32_t *r = static_cast<ldmatrix_arguments *>(arguments[lane])->r;
        int g = lane / 4, i = lane % 4;
        for (int j = 0; j < Matrices; j++) {
            uint32_t low = Transposed ? m[j][2 * i][g] : m[j][g][2 * i];
            uint32_t high = Transposed ? m[j][2 * i + 1][g] : m[j][g][2 * i + 1];
            r[j] = low | high << 16;
        }
    }
}

template <int Matrices, bool Transposed>
static inline void ldmatrix(uint32_t *r, const void *row, place where)
{
    ldmatrix_arguments mine = {r, row, where};
    warp_exchange(0xffffffffu, "ldmatrix", &mine, perform_ldmatrix<Matrices, Transposed>, where);
}

} // namespace emulation

/* A number for addresses in the block's dynamic shared memory; nothing else has one. */
static inline uint32_t shared_address(const void *p)
{
    return (uint32_t)((const unsigned char *)p - emulation::dynamic_shared());
}

/* -- matrix multiply-accumulate -------------------------------------------------------------- */

static inline void mma_m16n8k8(float c[4], const uint32_t a[2], uint32_t b, __half, EMULATION_PLACE)
{
    emulation::mma<__half, 8>(c, a, &b, where);
}

static inline void mma_m16n8k16(float c[4], const uint32_t a[4], const uint32_t b[2], __half,
                                EMULATION_PLACE)
{
    emulation::mma<__half, 16>(c, a, b, where);
}

#if __CUDA_ARCH__ >= 800 || !defined(__CUDA_ARCH__)
static inline void mma_m16n8k16(float c[4], const uint32_t a[4], const uint32_t b[2], __nv_bfloat16,
                                EMULATION_PLACE)
{
    emulation::mma<__nv_bfloat16, 16>(c, a, b, where);
}
#endif

static inline void ldmatrix_x4(uint32_t r[4], const void *row, EMULATION_PLACE)
{
    emulation::ldmatrix<4, false>(r, row, where);
}
static inline void ldmatrix_x4_transposed(uint32_t r[4], const void *row, EMULATION_PLACE)
{
    emulation::ldmatrix<4, true>(r, row, where);
}
/* -- asynchronous copies ----------------------------------------------------------------------- */

static inline void copy_async_16(void *shared, const void *global, bool valid, EMULATION_PLACE)
{
    if ((uintptr_t)shared % 16 != 0 || (valid && (uintptr_t)global % 16 != 0))
        emulation::fail(where, "copy_async_16: an address is not 16-byte aligned");
#if __CUDA_ARCH__ >= 800
    memset(shared, 0xff, 16);
    emulation::current->copies.push_back({shared, valid ? global : nullptr});
#else
    if (valid)
        memcpy(shared, global, 16);
    else
        memset(shared, 0, 16);
#endif
}

static inline void copy_async_commit()
{
#if __CUDA_ARCH__ >= 800
    emulation::thread &t = *emulation::current;
    t.copy_groups.push_back(std::move(t.copies));
    t.copies.clear();
#endif
}

template <int Pending> static inline void copy_async_wait()
{
#if __CUDA_ARCH__ >= 800
    auto &groups = emulation::current->copy_groups;
    while (groups.size() > (size_t)Pending) {
        for (const emulation::pending_copy &copy : groups.front()) {
            if (copy.global != nullptr)
                memcpy(copy.shared, copy.global, 16);
            else
                memset(copy.shared, 0, 16);
        }
        groups.erase(groups.begin());
    }
#endif
}

/* -- programmatic dependent launch ---------------------------------------------------------------
 */

static inline void grid_dependency_wait()
{
    emulation::grid_dependency_waited();
}

static inline void grid_dependency_release()
{
}

/* -- arithmetic
 * ------------------------------------------------------------------------------------ */

static inline float exp2_approximate(float x)
{
    return exp2f(x);
}

/* -- memory order between blocks
 * --------------------------------------------------------------------- */

static inline uint32_t atomic_add_ordered(uint32_t *global, uint32_t v)
{
    return atomicAdd(global, v);
}

static inline uint32_t atomic_add_ordered_system(uint32_t *global, uint32_t v)
{
    return atomicAdd(global, v);
}

static inline void store_release_system(uint32_t *mapped, uint32_t v)
{
    *static_cast<volatile uint32_t *>(mapped) = v;
}

#endif
