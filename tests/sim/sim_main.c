/* gaggle-sim --seeds N [--from S] | --seed S [--verbose] | --named
 *
 * Runs clusters (sim.h) and says how many passed; with a failed one the exit status is 1, and the
 * line above says which seed replays it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"
#include "tests/sim/sim_named.h"

enum { FAILURES_SHOWN = 20 };

static int usage(void)
{
    fprintf(stderr, "usage: gaggle-sim --seeds N [--from S] | --seed S [--verbose] | --named\n");
    return 2;
}

static void print_totals(const sim_totals *t)
{
    printf("%" PRIu64 " runs, %" PRIu64 " h of cluster time, %" PRIu64 " events, %" PRIu64
           " cuts, %" PRIu64 " kills, %" PRIu64 " drains, %" PRIu64 " freezes, %" PRIu64
           " leaps, %" PRIu64 " faults\n",
           t->runs, t->virtual_us / 3600000000u, t->events, t->cuts, t->kills, t->drains,
           t->freezes, t->leaps, t->faults);
    const sim_ends *e = &t->ends;
    printf("%" PRIu64 " tokens; answers: %u complete, %u cancelled, %u closed, %u past their "
           "deadline, %u slow, %u refused for their content, %u turned away, %u failed by their "
           "worker, %u lost, %u whose client died; %u asked again\n",
           e->tokens, e->complete, e->cancelled, e->closed, e->deadline, e->slow, e->bad,
           e->turned_away, e->failed, e->lost, e->gone, e->retries);
    printf("%" PRIu64 " times another worker went on with an answer; %u answers are approximate\n",
           e->continuations, e->approximate);
    printf("most memory in one run: %zu KiB\n", t->peak_bytes / 1024);
}

static uint64_t failures;

static void run_one(uint64_t seed, bool verbose, sim_totals *totals, const char *name)
{
    if (sim_run(seed, verbose, totals)) return;
    if (failures++ < FAILURES_SHOWN)
        printf("seed %" PRIu64 "%s%s failed %s\n", seed, name[0] != '\0' ? " " : "", name,
               world.failure);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    uint64_t first = 1, count = 0;
    bool verbose = false, named = false;
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--verbose") == 0) {
            verbose = true;
        } else if (strcmp(argv[i], "--named") == 0) {
            named = true;
        } else if (strcmp(argv[i], "--seed") == 0 && has_value) {
            first = strtoull(argv[++i], NULL, 10);
            count = 1;
        } else if (strcmp(argv[i], "--seeds") == 0 && has_value) {
            count = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--from") == 0 && has_value) {
            first = strtoull(argv[++i], NULL, 10);
        } else {
            return usage();
        }
    }
    if (count == 0 && !named) return usage();

    sim_totals totals = {0};
    for (uint64_t seed = first; seed < first + count; seed++)
        run_one(seed, verbose, &totals, "");
    for (const sim_named_seed *n = sim_named_seeds; named && n->name != NULL; n++, count++)
        run_one(n->seed, verbose, &totals, n->name);
    print_totals(&totals);
    if (count == 1) printf("digest %016" PRIx64 "\n", world.digest);
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", count - failures, failures);
    return failures > 0;
}
