/* fleet: a router's placement and some fake engines in virtual time, under one load.
 *
 * The policy under test knows what a router knows: when requests come, when their tokens come back,
 * what a Finish says, and each worker's Load, every LIMIT_LOAD_INTERVAL_MS. Lengths of answers and
 * the engines' caches it must guess. */
#ifndef GAGGLE_BENCH_PLACEMENT_FLEET_H
#define GAGGLE_BENCH_PLACEMENT_FLEET_H

#include "bench/placement/fake_engine.h"

enum { FLEET_WORKERS = 8 };

typedef enum policy {
    POLICY_GAGGLE,
    /* As others have them: a request goes to a worker when it comes, and waits there. */
    POLICY_ROUND_ROBIN,
    POLICY_LEAST_OUTSTANDING,
    /* The same in our router's place: a worker that has its fill is passed over, and when all have,
     * requests wait for the first that has not. */
    POLICY_ROUND_ROBIN_ROOM,
    POLICY_LEAST_OUTSTANDING_ROOM,
    POLICY_COUNT,
} policy;

const char *policy_name(policy p);

typedef struct fleet_result {
    double throughput; /* answer tokens a second, until the last one */
    double ttft_mean_s, ttft_p99_s;
    double done_mean_s;  /* from arrival to the last token */
    double cached_share; /* of prompt tokens */
    double worst_share;  /* of the work, over the share of the fleet's ability */
} fleet_result;

fleet_result fleet_run(const load *l, policy p, const fake_engine_speed speeds[FLEET_WORKERS]);

#endif
