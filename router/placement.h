/* placement: which worker runs a request. A pure function of the worker table.
 *
 * Least outstanding tokens: the worker with the smallest sum of (prompt + answer tokens still to
 * be computed) per slot takes the next request, among those that are connected, not draining, offer
 * the model and have room. Ties go to the one registered first. */
#ifndef GAGGLE_ROUTER_PLACEMENT_H
#define GAGGLE_ROUTER_PLACEMENT_H

#include "router/worker_table.h"

typedef enum placement_outcome {
    PLACEMENT_OK,
    PLACEMENT_FULL,     /* workers offer the model, all are full or away: wait */
    PLACEMENT_NO_MODEL, /* nobody offers it */
} placement_outcome;

/* What an empty model name stands for: the name that all workers' offers share; empty when there
 * are several, or none. */
text_view placement_only_model(const worker_table *workers);

placement_outcome placement_choose(const worker_table *workers, text_view model, worker **out);

/* Requests a worker is given at once: its slots and a few more, so that a finished sequence's
 * place is taken without waiting for a round trip. */
uint32_t placement_stream_limit(const worker *w);

/* What a request will cost in tokens, as far as a router without a tokenizer can tell. */
uint32_t placement_cost(const msg_submit *submit);

#endif
