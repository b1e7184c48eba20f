/* libm's sine differs between its versions and between the variants it picks by machine; a
 * continued answer may not. So: the angle, exactly as a double, minus the nearest multiple of
 * pi / 2, and Taylor sums to the 16th power on [-pi / 4, pi / 4], where the rest is below 1e-16.
 * Only double additions and multiplications, which every machine rounds alike. */
#include "worker/cpu/rope_table.h"

#include "common/limits.h"

/* pi / 2 in two parts: the first has 33 bits, so that up to 2^20 times it is exact in a double. */
#define HALF_PI_HIGH 0x1.921fb544p+0
#define HALF_PI_LOW  0x1.0b4611a626331p-34

/* NOLINTNEXTLINE(misc-redundant-expression): they are equal today */
_Static_assert(LIMIT_CONTEXT_TOKENS <= 1u << 20, "an angle holds pi / 2 fewer than 2^20 times");

static double sine_near_zero(double r)
{
    double square = r * r;
    double sum = -1.0 / 1307674368000.0; /* 15! */
    sum = sum * square + 1.0 / 6227020800.0;
    sum = sum * square - 1.0 / 39916800.0;
    sum = sum * square + 1.0 / 362880.0;
    sum = sum * square - 1.0 / 5040.0;
    sum = sum * square + 1.0 / 120.0;
    sum = sum * square - 1.0 / 6.0;
    return r + r * (square * sum);
}

static double cosine_near_zero(double r)
{
    double square = r * r;
    double sum = 1.0 / 20922789888000.0; /* 16! */
    sum = sum * square - 1.0 / 87178291200.0;
    sum = sum * square + 1.0 / 479001600.0;
    sum = sum * square - 1.0 / 3628800.0;
    sum = sum * square + 1.0 / 40320.0;
    sum = sum * square - 1.0 / 720.0;
    sum = sum * square + 1.0 / 24.0;
    sum = sum * square - 0.5;
    return 1.0 + square * sum;
}

void rope_table_fill(float *cosines, float *sines, const float *frequencies, uint32_t count,
                     uint32_t position)
{
    for (uint32_t i = 0; i < count; i++) {
        double angle = (float)position * frequencies[i];
        uint32_t quarters = (uint32_t)(angle * 0.63661977236758134 + 0.5);
        double r = (angle - quarters * HALF_PI_HIGH) - quarters * HALF_PI_LOW;
        double s = sine_near_zero(r), c = cosine_near_zero(r);
        double sine = quarters & 1u ? c : s;
        double cosine = quarters & 1u ? s : c;
        sines[i] = (float)(quarters & 2u ? -sine : sine);
        cosines[i] = (float)((quarters + 1u) & 2u ? -cosine : cosine);
    }
}
