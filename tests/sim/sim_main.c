/* gaggle-sim --seeds N [--from S] | --seed S [--verbose]
 *
 * Runs clusters (sim.h) and says how many passed; with a failed one the exit status is 1, and the
 * line above says which seed replays it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

enum { FAILURES_SHOWN = 20 };

static int usage(void)
{
    fprintf(stderr, "usage: gaggle-sim --seeds N [--from S] | --seed S [--verbose]\n");
    return 2;
}

static void print_totals(const sim_totals *t)
{
    printf("%" PRIu64 " runs, %" PRIu64 " h of cluster time, %" PRIu64 " events, %" PRIu64
           " cuts, %" PRIu64 " kills, %" PRIu64 " drains, %" PRIu64 " freezes, %" PRIu64 " leaps\n",
           t->runs, t->virtual_us / 3600000000u, t->events, t->cuts, t->kills, t->drains,
           t->freezes, t->leaps);
    const sim_ends *e = &t->ends;
    printf("%" PRIu64 " tokens; answers: %u complete, %u cancelled, %u closed, %u past their "
           "deadline, %u slow, %u refused for their content, %u lost, %u whose client died; %u "
           "asked again\n",
           e->tokens, e->complete, e->cancelled, e->closed, e->deadline, e->slow, e->bad, e->lost,
           e->gone, e->retries);
    printf("%" PRIu64 " times another worker went on with an answer\n", e->continuations);
    printf("most memory in one run: %zu KiB\n", t->peak_bytes / 1024);
}

int main(int argc, char **argv)
{
    uint64_t first = 1, count = 1;
    bool verbose = false, chosen = false;
    for (int i = 1; i < argc; i++) {
        uint64_t value = i + 1 < argc ? strtoull(argv[i + 1], NULL, 10) : 0;
        if (strcmp(argv[i], "--verbose") == 0) {
            verbose = true;
        } else if (i + 1 == argc) {
            return usage();
        } else if (strcmp(argv[i], "--seed") == 0 || strcmp(argv[i], "--from") == 0) {
            chosen |= argv[i][2] == 's';
            first = value;
            i++;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            chosen = true;
            count = value;
            i++;
        } else {
            return usage();
        }
    }
    if (!chosen) return usage();

    sim_totals totals = {0};
    uint64_t failed = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        if (sim_run(seed, verbose, &totals)) continue;
        if (failed++ < FAILURES_SHOWN) printf("seed %" PRIu64 " failed %s\n", seed, world.failure);
        fflush(stdout);
    }
    print_totals(&totals);
    if (count == 1) printf("digest %016" PRIx64 "\n", world.digest);
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", count - failed, failed);
    return failed > 0;
}
