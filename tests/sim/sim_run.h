/* sim_run: one run, shared by the files that make it:
 *
 *   sim_draw.c     a cluster, what is asked of it and what else there is to it, from the seed
 *   sim_trouble.c  what befalls it
 *   sim_run.c      it runs, and is judged */
#ifndef GAGGLE_TESTS_SIM_RUN_H
#define GAGGLE_TESTS_SIM_RUN_H

#include "router/core.h"
#include "tests/sim/sim.h"

enum {
    SIM_NODES_MAX = 4,
    SIM_WISHES_MAX = 40,
    SIM_MANY_WORKERS = 10000, /* no answer loses so many */
};

/* For what is drawn (sim_draw_for). */
enum {
    DRAW_NETWORK,
    DRAW_CLUSTER,
    DRAW_WORKER,
    DRAW_CLIENT,
    DRAW_STRANGER,
    DRAW_TROUBLE,
    DRAW_ROUTER,
    DRAW_FEATURES,
};
#define PURPOSE(what, which, count)                                                                \
    (((uint64_t)DRAW_##what << 48) + ((uint64_t)(which) << 32) + (count))

typedef enum trouble_kind {
    TROUBLE_RESET,
    TROUBLE_SILENT,
    TROUBLE_DEAF,
    TROUBLE_STALL,
    TROUBLE_PART,
    TROUBLE_FREEZE,
    TROUBLE_LEAP,
    TROUBLE_KILL_WORKER,
    TROUBLE_DRAIN_WORKER,
    TROUBLE_BREAK_DEVICE,
    TROUBLE_HANG_ENGINE,
    TROUBLE_KILL_ROUTER,
    TROUBLE_DRAIN_ROUTER,
    TROUBLE_KILL_CLIENT,
    TROUBLE_ANY, /* no kind: for drawing whether there are any */
    TROUBLE_FAIL_REQUESTS,
    TROUBLE_ADMIN_DRAINS,
    TROUBLE_CLIENT_LEAVES,
    TROUBLE_KINDS,
} trouble_kind;

typedef struct run run;

typedef struct trouble {
    run *run;
    trouble_kind kind;
    uint32_t pause_ms; /* between two of them, at most twice this; 0: not in this run */
    uint32_t count;
} trouble;

/* What a cluster may have besides. A part of the seeds has none of it, and is as seeds were before
 * there was any. */
typedef struct sim_features {
    bool any;
    bool quiet; /* no troubles, but those that are features */
    bool third_router;
    bool leases, short_leases; /* too short to hand everything over */
    bool numerics;             /* workers of different bits */
    bool tenants;              /* with limits */
} sim_features;

struct run {
    uint32_t router_count, worker_count, client_count;
    sim_router *routers[SIM_NODES_MAX];
    sim_worker *workers[SIM_NODES_MAX];
    sim_client *clients[SIM_NODES_MAX];
    sim_stranger *stranger; /* NULL: none */
    sim_features features;
    tenant_limits limits[SIM_TENANTS];
    uint64_t revive_us[2]
                      [SIM_NODES_MAX]; /* routers, workers: when one that is down comes back; 0 */
    trouble troubles[TROUBLE_KINDS];
    uint64_t calm_us;
    uint32_t down_ms; /* how long somebody is down, at most */
    uint64_t work_us; /* if one worker, the slowest, gave all answers one after the other */
    sim_ends ends;
    sim_totals *totals;
    core_options core;
};

/* A random time, at most this. */
uint64_t sim_for_us(uint32_t most_ms);

void sim_draw_cluster(run *r);
/* After the cluster; sets sim_allowed. */
void sim_draw_troubles(run *r);

#endif
