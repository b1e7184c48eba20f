/* fake_engine: a worker's engine in virtual time, for the policy bench.
 *
 * Steps as the real one: every stream that is past its prompt writes one token a step, and prompts
 * are read in the order of arrival, so much a step as takes `chunk_s`. A step takes
 *
 *     half a full batch's time + its share of the other half + prompt tokens / prefill speed
 *
 * Prompts leave their full blocks in a cache of all KV memory that is not in use; of what nobody
 * uses, what was used longest ago goes first. A stream starts when there is a slot and memory for
 * all of it. */
#ifndef GAGGLE_BENCH_PLACEMENT_FAKE_ENGINE_H
#define GAGGLE_BENCH_PLACEMENT_FAKE_ENGINE_H

#include "bench/placement/loads.h"

typedef struct fake_engine fake_engine;

typedef struct fake_engine_speed {
    double prefill; /* prompt tokens a second */
    double decode;  /* answer tokens a second of all streams, all slots busy */
    uint32_t slots; /* streams at once */
    uint32_t kv_tokens;
} fake_engine_speed;

/* What a step did for a stream. */
typedef struct fake_event {
    uint32_t request;
    bool first;    /* its first token */
    bool finished; /* its last */
    uint32_t cached_tokens;
} fake_event;

fake_engine *fake_engine_create(const fake_engine_speed *speed, const load *l);
void fake_engine_destroy(fake_engine *e);

void fake_engine_submit(fake_engine *e, uint32_t request, double now_s);

/* When its present step ends; INFINITY when it has nothing to do. */
double fake_engine_next_s(const fake_engine *e);
/* Ends the present step at its time and begins the next. Every token is one event: `out` has room
 * for as many as there are slots. */
uint32_t fake_engine_step(fake_engine *e, fake_event *out);

/* As the worker would report it now. */
void fake_engine_load(const fake_engine *e, msg_load *out, double now_s);

/* What it did since the start. */
typedef struct fake_engine_done {
    uint64_t prefill_tokens, cached_tokens, decode_tokens;
} fake_engine_done;

fake_engine_done fake_engine_work(const fake_engine *e);

#endif
