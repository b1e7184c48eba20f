/* sim_watch: what a router says is checked while it says it, against what it was told.
 *
 * Much of what it could do wrong others would mend or hide: a client drops a repeated token, and
 * asks again after a refusal that nothing called for. So that is seen here or nowhere:
 *
 *   - on one link an answer's tokens go on where they stopped, and its end comes once, behind them
 *   - a tenant runs at most as many requests as its limit says, and enters at most as many
 *   - nobody is refused for want of room unless the queue or a limit of the tenant is full
 *   - a worker whose requests fail gets no more, and then one on trial
 *   - the tenants' counts are those of the requests */
#ifndef GAGGLE_TESTS_SIM_WATCH_H
#define GAGGLE_TESTS_SIM_WATCH_H

#include "router/core_internal.h"
#include "tests/sim/sim.h"

enum { SIM_ENTRIES_KEPT = 128, SIM_DRAINS_KEPT = 32 };

/* When requests of a tenant came in, by the core's clock; the last of them. */
typedef struct sim_entries {
    uint64_t at_ms[SIM_ENTRIES_KEPT];
    uint64_t count;
} sim_entries;

/* Over one router process, from its start. */
typedef struct sim_watch {
    core *core;
    const tenant_limits *limits; /* of tenants 1 to SIM_TENANTS, or NULL */
    sim_entries entries[SIM_TENANTS + 1];
    id128 drained[SIM_DRAINS_KEPT]; /* worker processes that were told to, for an admin */
    uint32_t drained_count;
} sim_watch;

/* Over one of its links. */
typedef struct sim_watched {
    sim_watch *watch;
    role role;
    uint32_t tenant;
    id128 instance;
    buffer told;    /* a client, about its answers */
    uint32_t maker; /* a worker */
    uint32_t faults_in_row;
    id128 probe;           /* the request on trial there, until its worker is well; 0 = none */
    const request *ending; /* what the Finish that is being heard is about */
    bool was_closed;       /* the worker's breaker, before */
} sim_watched;

void sim_watched_free(sim_watched *w);

/* An envelope came; the core hears it between the two. */
void sim_watch_before(sim_watched *w, const core_link *l, const envelope *e);
void sim_watch_after(sim_watched *w, const core_link *l, const envelope *e);
/* The core says this. */
void sim_watch_says(sim_watched *w, const core_link *l, const envelope *e);
/* The link is lost; the core hears it between the two. */
void sim_watch_loses(const sim_watched *w, const core_link *l);
void sim_watch_lost(const sim_watch *watch, const worker *lost);
/* Now and then. */
void sim_watch_verify(const sim_watch *watch);

#endif
