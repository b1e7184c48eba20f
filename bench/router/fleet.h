/* fleet: many workers and many streams at once, held for a while: what each costs the router. */
#ifndef GAGGLE_BENCH_ROUTER_FLEET_H
#define GAGGLE_BENCH_ROUTER_FLEET_H

#include <stdint.h>

typedef struct fleet_load {
    const char *router; /* program */
    const char *scheme;
    uint32_t workers, streams;
    uint32_t prompt_tokens;
    double tokens_per_second; /* of all streams together */
    double seconds;
} fleet_load;

typedef struct fleet_figures {
    double worker_bytes,
        stream_bytes; /* of the router's own memory; streams hold `stream_tokens` */
    double stream_tokens;
    double tokens_per_second, cpu_share;
    double idle_cpu_share; /* with all workers and no stream */
    long rss_kib;
} fleet_figures;

fleet_figures fleet_measure(const fleet_load *load);

#endif
