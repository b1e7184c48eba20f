/* lanes: sixteen float32 numbers that are computed on side by side.
 *
 * Every kernel is written once, over this type, and compiled once for each instruction set: one
 * AVX-512 register, two AVX2 registers, or sixteen floats for the compiler to place. What a kernel
 * computes is therefore the same sequence of IEEE operations everywhere, and the bits agree:
 *
 *   1. Sixteen lanes, always. Lane i of a dot product sums the products whose index is i mod 16,
 *      in rising order, each by one fused multiply-add.
 *   2. lanes_sum() adds lane i to lane i+8, then i to i+4, i to i+2, i to i+1.
 *   3. A fused multiply-add is fused on every path. Where the machine has none (x86 before 2013),
 *      fma_exact() computes the same bits from double precision, slowly.
 *
 * The few operations on a register (reg) below are spelled with intrinsics because compilers do not
 * turn loops over sixteen floats into registers that live across a whole tile; everything above
 * them is loops.
 *
 * Tried and dropped: GCC's 64-byte vector type. There is no fused multiply-add for it (contraction
 * is the compiler's taste, and off), and GCC 12 moves it through memory where registers are 32
 * bytes. */
#ifndef GAGGLE_WORKER_CPU_KERNELS_LANES_H
#define GAGGLE_WORKER_CPU_KERNELS_LANES_H

#include <stdint.h>
#include <string.h>

#include "worker/model/safetensors.h"

#define LANES 16u

#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
#include <immintrin.h>
#define LANES_AVX512 1
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>
#define LANES_AVX2 1
#endif

#define LANES_INLINE static inline __attribute__((always_inline))

/* A loop over a tile, whose count is a constant of at most 16, unrolled: registers have no index,
 * so the tile stays in them only when the loop is gone. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
/* NOLINTNEXTLINE(bugprone-macro-parentheses): `index` is a name */
#define foreach(index, count) UNROLL for (unsigned index = 0; index < (count); index++)

/* a * b + c, rounded once. */
LANES_INLINE float fma_exact(float a, float b, float c)
{
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__FP_FAST_FMAF)
    return __builtin_fmaf(a, b, c);
#else
    /* The product is exact in double (24 + 24 bits). The sum is rounded to odd: `rest` is what
     * rounding lost (Knuth's two-sum), and a sum that lost something and is even moves one step
     * towards it. Rounding that to float is then the one rounding that counts (Boldo and Melquiond,
     * Emulation of FMA and correctly rounded sums, 2008). Infinities and NaN have a NaN rest. */
    double product = (double)a * (double)b;
    double addend = (double)c;
    double sum = product + addend;
    double part = sum - product;
    double rest = (product - (sum - part)) + (addend - part);
    uint64_t sum_bits, rest_bits;
    memcpy(&sum_bits, &sum, sizeof sum);
    memcpy(&rest_bits, &rest, sizeof rest);
    uint64_t inexact = (uint64_t)(rest > 0) | (uint64_t)(rest < 0);
    uint64_t step = inexact & ~sum_bits & 1u;
    uint64_t towards_zero = (sum_bits ^ rest_bits) >> 63;
    sum_bits += (step ^ (0u - towards_zero)) + towards_zero; /* + step or - step */
    memcpy(&sum, &sum_bits, sizeof sum);
    return (float)sum;
#endif
}

LANES_INLINE float float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

LANES_INLINE uint32_t float_to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

LANES_INLINE float widen_bf16(uint16_t half)
{
    return float_from_bits((uint32_t)half << 16);
}

/* Exact: each half has a float32 of the same value. Without branches, so that loops vectorise. */
LANES_INLINE float widen_f16(uint16_t half)
{
    uint32_t magnitude = half & 0x7fffu;
    /* Exponent and fraction in float32's place; a power of two then moves the bias from 15 to
     * 127, which also turns subnormal halves into the normal floats that they are. */
    float scaled = float_from_bits(magnitude << 13) * 0x1p112f;
    uint32_t bits = float_to_bits(scaled);
    bits |= magnitude >= 0x7c00u ? 0x7f800000u : 0u; /* infinity and NaN */
    return float_from_bits(bits | (uint32_t)(half & 0x8000u) << 16);
}

/* -- one register ---------------------------------------------------------------- */

#if LANES_AVX512

typedef __m512 reg;
#define REG_LANES 16u

LANES_INLINE reg reg_set(float value)
{
    return _mm512_set1_ps(value);
}

LANES_INLINE reg reg_load_f32(const void *from)
{
    return _mm512_loadu_ps(from);
}

LANES_INLINE reg reg_load_bf16(const void *from)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

LANES_INLINE reg reg_load_f16(const void *from)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(from));
}

LANES_INLINE void reg_store(float *to, reg a)
{
    _mm512_storeu_ps(to, a);
}

LANES_INLINE reg reg_fma(reg a, reg b, reg c)
{
    return _mm512_fmadd_ps(a, b, c);
}

LANES_INLINE reg reg_mul(reg a, reg b)
{
    return _mm512_mul_ps(a, b);
}

#elif LANES_AVX2

typedef __m256 reg;
#define REG_LANES 8u

LANES_INLINE reg reg_set(float value)
{
    return _mm256_set1_ps(value);
}

LANES_INLINE reg reg_load_f32(const void *from)
{
    return _mm256_loadu_ps(from);
}

LANES_INLINE reg reg_load_bf16(const void *from)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

LANES_INLINE reg reg_load_f16(const void *from)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(from));
}

LANES_INLINE void reg_store(float *to, reg a)
{
    _mm256_storeu_ps(to, a);
}

LANES_INLINE reg reg_fma(reg a, reg b, reg c)
{
    return _mm256_fmadd_ps(a, b, c);
}

LANES_INLINE reg reg_mul(reg a, reg b)
{
    return _mm256_mul_ps(a, b);
}

#else

typedef struct reg {
    float at[LANES];
} reg;
#define REG_LANES 16u

LANES_INLINE reg reg_set(float value)
{
    reg a;
    for (unsigned i = 0; i < LANES; i++)
        a.at[i] = value;
    return a;
}

LANES_INLINE reg reg_load_f32(const void *from)
{
    reg a;
    memcpy(a.at, from, sizeof a.at);
    return a;
}

LANES_INLINE reg reg_load_bf16(const void *from)
{
    uint16_t half[LANES];
    memcpy(half, from, sizeof half);
    reg a;
    for (unsigned i = 0; i < LANES; i++)
        a.at[i] = widen_bf16(half[i]);
    return a;
}

LANES_INLINE reg reg_load_f16(const void *from)
{
    uint16_t half[LANES];
    memcpy(half, from, sizeof half);
    reg a;
    for (unsigned i = 0; i < LANES; i++)
        a.at[i] = widen_f16(half[i]);
    return a;
}

LANES_INLINE void reg_store(float *to, reg a)
{
    memcpy(to, a.at, sizeof a.at);
}

LANES_INLINE reg reg_fma(reg a, reg b, reg c)
{
    for (unsigned i = 0; i < LANES; i++)
        c.at[i] = fma_exact(a.at[i], b.at[i], c.at[i]);
    return c;
}

LANES_INLINE reg reg_mul(reg a, reg b)
{
    for (unsigned i = 0; i < LANES; i++)
        a.at[i] *= b.at[i];
    return a;
}

#endif

/* `type` is a constant where this is inlined. */
LANES_INLINE reg reg_load(dtype type, const void *from)
{
    if (type == DTYPE_BF16) return reg_load_bf16(from);
    if (type == DTYPE_F16) return reg_load_f16(from);
    return reg_load_f32(from);
}

/* -- sixteen lanes ------------------------------------------------------------------ */

#define REGS (LANES / REG_LANES)

typedef struct lanes {
    reg part[REGS];
} lanes;

LANES_INLINE size_t type_bytes(dtype type)
{
    return type == DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
}

LANES_INLINE lanes lanes_set(float value)
{
    lanes a;
    foreach (p, REGS)
        a.part[p] = reg_set(value);
    return a;
}

LANES_INLINE lanes lanes_load(dtype type, const void *from)
{
    lanes a;
    foreach (p, REGS)
        a.part[p] = reg_load(type, (const uint8_t *)from + p * REG_LANES * type_bytes(type));
    return a;
}

LANES_INLINE lanes lanes_load_f32(const float *from)
{
    return lanes_load(DTYPE_F32, from);
}

/* The first `count` (< LANES) numbers and zeros behind them; reads nothing beyond. A zero
 * contributes fma(0, 0, sum) = sum. */
#if LANES_AVX512
LANES_INLINE lanes lanes_load_tail(dtype type, const void *from, unsigned count)
{
    __mmask16 mask = (__mmask16)((1u << count) - 1u);
    if (type == DTYPE_F32) return (lanes){{_mm512_maskz_loadu_ps(mask, from)}};
    __m256i half = _mm256_maskz_loadu_epi16(mask, from);
    if (type == DTYPE_F16) return (lanes){{_mm512_cvtph_ps(half)}};
    return (lanes){{_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))}};
}
#else
/* Out of line: a tile that ends in one would otherwise hold ten copies of it. */
static __attribute__((noinline, unused)) lanes lanes_load_tail(dtype type, const void *from,
                                                               unsigned count)
{
    uint8_t padded[LANES * sizeof(float)] = {0};
    memcpy(padded, from, count * type_bytes(type));
    return lanes_load(type, padded);
}
#endif

LANES_INLINE void lanes_store(float *to, lanes a)
{
    foreach (p, REGS)
        reg_store(to + p * REG_LANES, a.part[p]);
}

LANES_INLINE lanes lanes_fma(lanes a, lanes b, lanes c)
{
    foreach (p, REGS)
        c.part[p] = reg_fma(a.part[p], b.part[p], c.part[p]);
    return c;
}

LANES_INLINE lanes lanes_mul(lanes a, lanes b)
{
    foreach (p, REGS)
        a.part[p] = reg_mul(a.part[p], b.part[p]);
    return a;
}

/* The fixed tree of the essay. */
LANES_INLINE float lanes_sum(lanes a)
{
#if LANES_AVX512 || LANES_AVX2
#if LANES_AVX512
    __m256 eight =
        _mm256_add_ps(_mm512_castps512_ps256(a.part[0]), _mm512_extractf32x8_ps(a.part[0], 1));
#else
    __m256 eight = _mm256_add_ps(a.part[0], a.part[1]);
#endif
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
    float *at = a.part[0].at;
    for (unsigned width = LANES / 2; width > 0; width /= 2)
        for (unsigned i = 0; i < width; i++)
            at[i] += at[i + width];
    return at[0];
#endif
}

#endif
