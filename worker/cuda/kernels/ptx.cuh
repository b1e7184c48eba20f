/* ptx: the instructions that CUDA C++ has no name for, one inline function each. The CPU emulation
 * that the tests use (tests/cuda_emulation) has a file of the same name in front of this one, so
 * kernels contain no inline assembly of their own.
 *
 * Fragments follow the PTX ISA's figures for mma.m16n8k8 and mma.m16n8k16 (row.col): with
 * g = lane / 4 and i = lane % 4
 *   A 16xK  registers of two elements: a[0] rows g, a[1] rows g + 8, columns 2i, 2i+1; for k16
 *           a[2], a[3] the same rows, columns 8 more
 *   B Kx8   b[0] rows 2i, 2i+1 of column g; for k16 b[1] rows 8 more
 *   C 16x8  c[0], c[1] row g, columns 2i, 2i+1; c[2], c[3] row g + 8
 * Everything here is for whole warps, converged. */
#ifndef GAGGLE_WORKER_CUDA_PTX_CUH
#define GAGGLE_WORKER_CUDA_PTX_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

static __device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* -- matrix multiply-accumulate, float accumulators -------------------------------- */

/* c += a * b, fp16, sm_75 and later. */
static __device__ __forceinline__ void mma_m16n8k8(float c[4], const uint32_t a[2], uint32_t b,
                                                   __half)
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b));
}

/* c += a * b. sm_80 has it as one instruction; fp16 on sm_75 takes two of half the depth. */
static __device__ __forceinline__ void mma_m16n8k16(float c[4], const uint32_t a[4],
                                                    const uint32_t b[2], __half)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    mma_m16n8k8(c, a, b[0], __half());
    mma_m16n8k8(c, a + 2, b[1], __half());
#endif
}

#if __CUDA_ARCH__ >= 800 || !defined(__CUDA_ARCH__)
static __device__ __forceinline__ void mma_m16n8k16(float c[4], const uint32_t a[4],
                                                    const uint32_t b[2], __nv_bfloat16)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

/* Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8
 * (16 bytes, aligned); register j of lane l gets elements 2i, 2i+1 of row g of matrix j. */
static __device__ __forceinline__ void ldmatrix_x4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* The same with each matrix transposed: elements 2i, 2i+1 of column g. */
static __device__ __forceinline__ void ldmatrix_x4_transposed(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* -- asynchronous copies: sm_80 and later; sm_75 stages through registers ------------ */

/* 16 bytes from global to shared memory past L1; with `valid` false, zeros and nothing is read. */
static __device__ __forceinline__ void copy_async_16(void *shared, const void *global, bool valid)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
                 :
                 : "r"(shared_address(shared)), "l"(global), "r"(valid ? 16 : 0)
                 : "memory");
#else
    *(uint4 *)shared = valid ? *(const uint4 *)global : make_uint4(0, 0, 0, 0);
#endif
}

static __device__ __forceinline__ void copy_async_commit()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Wait until at most `Pending` of this thread's committed groups are unfinished. */
template <int Pending> static __device__ __forceinline__ void copy_async_wait()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#endif
}

/* -- programmatic dependent launch, from sm_90; nothing before --------------------------- */

/* Wait until everything that the kernel before this one wrote can be read. */
static __device__ __forceinline__ void grid_dependency_wait()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* The next kernel's blocks may start once all of this grid's have called it or ended. */
static __device__ __forceinline__ void grid_dependency_release()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* -- arithmetic ------------------------------------------------------------------------ */

/* 2^x, to 2 ulp. */
static __device__ __forceinline__ float exp2_approximate(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* -- memory order between blocks ------------------------------------------------------- */

/* *global += v; returns what it was. Whoever adds later sees what this thread saw and wrote before;
 * the same by way of the host's memory for the second. */
static __device__ __forceinline__ uint32_t atomic_add_ordered(uint32_t *global, uint32_t v)
{
    uint32_t before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
                 : "=r"(before)
                 : "l"(global), "r"(v)
                 : "memory");
    return before;
}

static __device__ __forceinline__ uint32_t atomic_add_ordered_system(uint32_t *global, uint32_t v)
{
    uint32_t before;
    asm volatile("atom.acq_rel.sys.global.add.u32 %0, [%1], %2;"
                 : "=r"(before)
                 : "l"(global), "r"(v)
                 : "memory");
    return before;
}

static __device__ __forceinline__ void store_release_system(uint32_t *mapped, uint32_t v)
{
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(mapped), "r"(v) : "memory");
}

#endif
