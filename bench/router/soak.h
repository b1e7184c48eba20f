/* soak: the mixed life of a small fleet for as long as one likes, and whether the router's memory
 * stays where it was.
 *
 * Answers that end, are cancelled or meet their deadlines; clients that come and go as somebody
 * new, or are killed; workers that leave, are killed, and register again, some under new names;
 * tokens that change by SIGHUP and shut out who still has old ones. Beside the fake workers, a real
 * one where a model is given. Prompts are of a limited number, so that the router's table of them
 * fills in the warm-up. */
#ifndef GAGGLE_BENCH_ROUTER_SOAK_H
#define GAGGLE_BENCH_ROUTER_SOAK_H

#include <stdbool.h>
#include <stdint.h>

typedef struct soak_load {
    const char *router, *worker; /* programs */
    const char *scheme;
    const char *model; /* folder of the real worker's; NULL = none */
    double minutes;
} soak_load;

/* What was seen every 10 s after a warm-up of a sixth of the time. */
typedef struct soak_series {
    double first_max, last_max; /* of the first and of the last third of it */
    double bound;    /* for last_max: 5 % over first_max, and 1 MiB of memory or 8 files */
    double per_hour; /* the straight line through the last two thirds */
    bool flat;       /* last_max is within the bound */
} soak_series;

typedef struct soak_figures {
    soak_series router_kib, router_files, worker_kib; /* the last one with a model */
    double router_cpu_share;
    uint64_t finished, cancelled, deadlines, refused, tokens;
    uint64_t clients, worker_processes, reloads;
    uint64_t wrong; /* ids or indices that were not the right ones */
} soak_figures;

/* Shows on a terminal's stderr how it goes. */
soak_figures soak_measure(const soak_load *load);

#endif
