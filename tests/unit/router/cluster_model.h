/* cluster_model: a router core with model clients and model workers around it, in one thread.
 *
 * Messages travel encoded, in order within a link and in random order between links; links are
 * cut, workers and the router restart, clients stop reading. Time is a counter. The models know
 * what every answer must be (token i of a request is a function of its id and i), so that a lost,
 * doubled or foreign token is seen at once. */
#ifndef GAGGLE_TESTS_CLUSTER_MODEL_H
#define GAGGLE_TESTS_CLUSTER_MODEL_H

#include <stdbool.h>
#include <stdint.h>

typedef struct cluster cluster;

typedef struct cluster_options {
    uint64_t seed;
    uint32_t clients, workers, requests;
    bool cut_links;       /* drop connections at random */
    bool restart_router;  /* the core is destroyed and made anew */
    bool restart_workers; /* a worker comes back empty */
    bool cancel;          /* clients cancel at random */
    bool stall;           /* some clients stop acknowledging for ever */
} cluster_options;

/* Run until every request has ended, or `steps_max` steps. Checks every delivered token, that every
 * request ends exactly once and that nothing is left behind; fails by CHECK. */
void cluster_run(const cluster_options *options, uint64_t steps_max);

typedef struct cluster_totals {
    uint64_t completed, cancelled, unavailable, stalled, tokens, cuts, resumes, resubmits;
} cluster_totals;

/* Summed over all runs of this process. */
extern cluster_totals cluster_sum;

#endif
