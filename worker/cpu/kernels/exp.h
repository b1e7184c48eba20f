/* exp: e^x and tanh(x), the same bits everywhere.
 *
 * libm's result depends on its version and on the machine it picks a variant for; a continued
 * answer may not. x = n ln 2 + r with |r| <= ln 2 / 2; e^r is its Taylor sum to the 7th power
 * (the rest is below 6e-9, a tenth of an ulp), in Horner's order; 2^n goes into the exponent.
 * Without branches, so that loops over it vectorise. */
#ifndef GAGGLE_WORKER_CPU_KERNELS_EXP_H
#define GAGGLE_WORKER_CPU_KERNELS_EXP_H

#include "worker/cpu/kernels/lanes.h"

LANES_INLINE float exp_of(float x)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    float inside = x < -87.0f ? -87.0f : x;
    inside = inside > 88.0f ? 88.0f : inside;
    float shifted = inside * 1.44269504f + shift; /* x / ln 2 */
    float n = shifted - shift;
    float r = fma_exact(n, -0x1.63p-1f, inside); /* ln 2 in two parts; the first has 9 bits, */
    r = fma_exact(n, 0x1.bd0106p-13f, r);        /* so that n times it is exact */
    float sum = 1.0f / 5040.0f;
    sum = fma_exact(sum, r, 1.0f / 720.0f);
    sum = fma_exact(sum, r, 1.0f / 120.0f);
    sum = fma_exact(sum, r, 1.0f / 24.0f);
    sum = fma_exact(sum, r, 1.0f / 6.0f);
    sum = fma_exact(sum, r, 0.5f);
    sum = fma_exact(sum, r, 1.0f);
    sum = fma_exact(sum, r, 1.0f);
    uint32_t exponent = float_to_bits(shifted) - float_to_bits(shift);
    float power = float_from_bits((exponent + 127u) << 23);
    float result = sum * power;
    result = x < -87.0f ? 0.0f : result;
    return x != x ? x : result;
}

/* 1 - 2 / (e^2|x| + 1), which loses digits near 0: there the Taylor sum to the 9th power (the rest
 * is below 1e-8 of it). At most 6 ulp off. */
LANES_INLINE float tanh_of(float x)
{
    float size = float_from_bits(float_to_bits(x) & 0x7fffffffu);
    float large = 1.0f - 2.0f / (exp_of(2.0f * size) + 1.0f);
    float square = size * size;
    float sum = 62.0f / 2835.0f;
    sum = fma_exact(sum, square, -17.0f / 315.0f);
    sum = fma_exact(sum, square, 2.0f / 15.0f);
    sum = fma_exact(sum, square, -1.0f / 3.0f);
    float small = fma_exact(size * square, sum, size);
    float result = size < 0.25f ? small : large;
    return float_from_bits(float_to_bits(result) | (float_to_bits(x) & 0x80000000u));
}

#endif
