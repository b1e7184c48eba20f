/* Random numbers for tests: splitmix64, so that a seed in a failure message replays the test. */
#ifndef GAGGLE_TESTS_ENGINE_TEST_RANDOM_H
#define GAGGLE_TESTS_ENGINE_TEST_RANDOM_H

#include <stdint.h>

typedef struct test_random {
    uint64_t state;
} test_random;

static inline uint64_t random_next(test_random *r)
{
    uint64_t z = r->state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* 0 .. below - 1 */
static inline uint32_t random_below(test_random *r, uint32_t below)
{
    return (uint32_t)((random_next(r) >> 32) * below >> 32);
}

static inline uint32_t random_between(test_random *r, uint32_t low, uint32_t high)
{
    return low + random_below(r, high - low + 1);
}

/* [0, 1) */
static inline float random_unit(test_random *r)
{
    return (float)(random_next(r) >> 40) * 0x1p-24f;
}

#endif
