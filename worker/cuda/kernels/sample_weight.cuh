/* sample_weight: logits as integers, bit for bit as worker/engine/sampling.c has them: keys that
 * order as the logits do, weights whose sums have no order, and the random number. Every operation
 * is rounded on its own: the twin is compiled without contraction. */
#ifndef GAGGLE_WORKER_CUDA_SAMPLE_WEIGHT_CUH
#define GAGGLE_WORKER_CUDA_SAMPLE_WEIGHT_CUH

#include <cfloat>
#include <cmath>
#include <cuda_runtime.h>
#include <stdint.h>

/* A weight is a fraction of the likeliest's, in units of 2^-40. */
#define SAMPLE_WEIGHT_ONE 0x1p40f

/* Larger key, larger logit; +0 and -0 are one. Never 0, nor above KEY_BROKEN - 1, unless NaN. */
static __device__ __forceinline__ uint32_t key_of(float logit)
{
    uint32_t bits = __float_as_uint(__fadd_rn(logit, 0.0f));
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static __device__ __forceinline__ float logit_of(uint32_t key)
{
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

/* The key of -FLT_MAX, the lowest that can be drawn. */
#define KEY_LOWEST 0x00800000u
/* Stands for "NaN or +Inf was seen"; above all keys of numbers. */
#define KEY_BROKEN 0xffffffffu

/* Division by one number many times: correctly rounded, as `/` is, where the quotient lies above
 * -30; elsewhere it may be NaN, which weighs as much. Two corrections of the product with the
 * rounded reciprocal do (Markstein 1990) while nothing overflows, for which numbers below 2^-20 are
 * scaled.
 */
struct divisor {
    float scale, scaled, reciprocal;
};

static __device__ __forceinline__ divisor divisor_of(float value)
{
    divisor d;
    d.scale = value < 0x1p-20f ? 0x1p100f : 1.0f;
    d.scaled = __fmul_rn(value, d.scale);
    d.reciprocal = __fdiv_rn(1.0f, d.scaled);
    return d;
}

static __device__ __forceinline__ float divide(float x, divisor by)
{
    x = __fmul_rn(x, by.scale);
    float q = __fmul_rn(x, by.reciprocal);
    q = fmaf(fmaf(-q, by.scaled, x), by.reciprocal, q);
    return fmaf(fmaf(-q, by.scaled, x), by.reciprocal, q);
}

/* exp(x) for x up to 0, of NaN and below -30 exp(-30): what weigh() of sampling.c computes. */
static __device__ __forceinline__ float fraction_of(float x)
{
    const float round_magic = 0x1.8p23f;
    x = fmaxf(x, -30.0f);
    float shifted = __fadd_rn(__fmul_rn(x, 0x1.715476p+0f), round_magic);
    float n = __fsub_rn(shifted, round_magic);
    float r = __fsub_rn(x, __fmul_rn(n, 0x1.62e4p-1f));
    r = __fsub_rn(r, __fmul_rn(n, 0x1.7f7d1cp-20f));
    float p = 1.0f / 5040;
    p = __fadd_rn(__fmul_rn(p, r), 1.0f / 720);
    p = __fadd_rn(__fmul_rn(p, r), 1.0f / 120);
    p = __fadd_rn(__fmul_rn(p, r), 1.0f / 24);
    p = __fadd_rn(__fmul_rn(p, r), 1.0f / 6);
    p = __fadd_rn(__fmul_rn(p, r), 0.5f);
    p = __fadd_rn(__fmul_rn(p, r), 1.0f);
    p = __fadd_rn(__fmul_rn(p, r), 1.0f);
    /* p * 2^n: n stands in the lowest bits of `shifted`. */
    return __uint_as_float(__float_as_uint(p) + (__float_as_uint(shifted) << 23));
}

/* fraction * 2^40, rounded down; the conversions that devices have for this are slow. */
static __device__ __forceinline__ uint64_t weight_of(float fraction)
{
    uint32_t bits = __float_as_uint(fraction);
    uint64_t mantissa = (bits & 0x7fffffu) | 0x800000u;
    return mantissa << 17 >> (127 - (bits >> 23));
}

/* A request's own numbers may overflow a float; that must not look like a broken model. */
static __device__ __forceinline__ float keep_finite(float x)
{
    return x > FLT_MAX ? FLT_MAX : x < -FLT_MAX ? -FLT_MAX : x;
}

/* Not what the model may give: NaN and +Inf. */
static __device__ __forceinline__ bool is_broken(float logit)
{
    return !(logit < INFINITY);
}

/* sampling_random() of sampling.h: Philox4x32-10. */
static __device__ __forceinline__ uint64_t random_bits(uint64_t seed, uint32_t position)
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    uint32_t c0 = position, c1 = 0, c2 = 0, c3 = 0;
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0;
        uint64_t b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (uint64_t)c1 << 32 | c0;
}

#endif
