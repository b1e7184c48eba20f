/* step_plan: a schedule in the form that a backend runs.
 *
 * Owns the arrays that backend.h's step_plan points into; one for all steps. Engine thread only. */
#ifndef GAGGLE_WORKER_ENGINE_STEP_PLAN_H
#define GAGGLE_WORKER_ENGINE_STEP_PLAN_H

#include "worker/backend.h"
#include "worker/engine/scheduler.h"

typedef struct step_plan_builder {
    uint32_t *tokens;         /* [token_capacity] */
    step_sequence *sequences; /* [sequence_capacity] */
    uint32_t token_count, token_capacity;
    uint32_t sequence_count, sequence_capacity;
} step_plan_builder;

void step_plan_init(step_plan_builder *b, uint32_t step_tokens, uint32_t sequences_max);
void step_plan_fini(step_plan_builder *b);

void step_plan_clear(step_plan_builder *b);

/* Add one sequence's share; it samples when the share reaches the end of its ids. The caller
 * fills in what a sample needs. The entry is valid until the step is over, during which neither
 * `share` nor its sequence may change. */
step_sequence *step_plan_add(step_plan_builder *b, const scheduled *share);

step_plan step_plan_finish(const step_plan_builder *b);

#endif
