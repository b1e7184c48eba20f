/* requests: short answers one after the other, at a fixed rate or as many as go, with prompts of
 * any length: what a request costs, beside what a token costs. */
#ifndef GAGGLE_BENCH_ROUTER_REQUESTS_H
#define GAGGLE_BENCH_ROUTER_REQUESTS_H

#include <stdint.h>

typedef struct requests_load {
    const char *router; /* program */
    const char *scheme;
    double per_second; /* 0: as many as go, `open_max` at once */
    uint32_t open_max;
    uint32_t prompt_tokens; /* all different from the first on */
    double seconds;
} requests_load;

typedef struct requests_figures {
    double per_second, cpu_us;           /* of the router, a request */
    uint32_t p50_us, p99_us;             /* from Submit to the first token, in the client */
    uint32_t added_p50_us, added_p99_us; /* of that, what it did not wait in the worker */
    long rss_kib;
} requests_figures;

requests_figures requests_measure(const requests_load *load);

#endif
