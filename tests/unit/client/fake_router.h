/* fake_router: a router that knows every answer by heart and misbehaves on demand.
 *
 * It listens on a free port of 127.0.0.1 and serves clients by the rules of gaggle.proto: credit by
 * Acks, Resume, idempotent Submit. Token i of every answer is fake_token(i), its text fake_text(i).
 * It checks what it hears: prior ids, a constant seed, and that the client's Acks never run ahead.
 * Loop thread. */
#ifndef GAGGLE_TESTS_FAKE_ROUTER_H
#define GAGGLE_TESTS_FAKE_ROUTER_H

#include <uv.h>

#include "proto/session.h"

typedef struct fake_plan {
    uint32_t tokens; /* of each answer */
    uint32_t group;  /* tokens sent at once; 0 = 1..7 at random */
    uint32_t chaos;  /* one of the faults below for so many messages; 0 = never */
    uint64_t seed;
    bool logprobs;       /* send logprobs and alternatives */
    status refuse;       /* answer Submit by this Error */
    uint32_t refusals;   /* so many times; UINT32_MAX = for ever */
    bool refuse_again;   /* only a Submit with prior ids */
    bool wrong_crc;      /* every Finish lies */
    bool silent;         /* accept, then send nothing */
    status hello_status; /* refuse every Hello by this */
} fake_plan;

typedef struct fake_counts {
    uint32_t hellos, submits, resumes, cancels, queries, acks;
    uint32_t cuts, restarts, gaps, repeats, swaps, losses; /* faults done */
    uint32_t repeated_submits;                             /* with prior ids */
    uint32_t sent_max;                                     /* most tokens sent of one answer */
} fake_counts;

typedef struct fake_router fake_router;

fake_router *fake_router_create(uv_loop_t *loop, const fake_plan *plan);
const char *fake_router_url(const fake_router *r);
const fake_counts *fake_router_counts(const fake_router *r);
fake_plan *fake_router_plan(fake_router *r); /* may be changed while it runs */

void fake_router_cut(fake_router *r);     /* every link */
void fake_router_restart(fake_router *r); /* cut, forget everything, another instance */
/* The loop must run until then; frees it. */
void fake_router_close(fake_router *r, void (*on_closed)(void *ctx), void *ctx);

uint32_t fake_token(uint32_t index);
/* Returns its size; `out` holds 16. */
uint32_t fake_text(uint32_t index, char *out);

#endif
