/* clock: monotonic time. The router's core and the engine never read a clock: they are
 * given `now`. Only the loops and the benches call this. Any thread. */
#ifndef GAGGLE_COMMON_CLOCK_H
#define GAGGLE_COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t clock_now_ms(void)
{
    return clock_now_ns() / 1000000u;
}

#endif
