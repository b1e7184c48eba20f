/* scheduler: which sequences run in the next step, with how many tokens, in which blocks.
 *
 * Order. Sequences rank by priority, then by arrival. A step takes
 *   1. decodes: RUNNING sequences with one token to run, best first;
 *   2. prefills: RUNNING sequences with more, best first, cut to what is left of the step's tokens;
 *   3. admissions: WAITING sequences, best first, while there are slots, tokens and blocks. The
 *      best one is never passed by, so a large prompt cannot starve.
 * Only the best `sequences_max` RUNNING sequences have slots.
 *
 * Blocks. Admission takes all blocks of a sequence's ids at once, less those found in the prefix
 * cache; a decode takes one more each 16 tokens. When none is left, PARKED sequences lose theirs
 * first, then the worst RUNNING one that ranks behind the needy; without such a one the needy just
 * is not in this step. So the best RUNNING sequence is in every step. Losing its blocks
 * (preemption) sends a sequence back to WAITING, to be computed again.
 *
 * Blocks are published as soon as they are full and their ids known, and a sequence in the middle
 * of its prefill takes over blocks that another one has published meanwhile: of 64 requests with
 * one long prompt that arrive at once, one computes it.
 *
 * Pure: no device, clock or thread. Engine thread only. */
#ifndef GAGGLE_WORKER_ENGINE_SCHEDULER_H
#define GAGGLE_WORKER_ENGINE_SCHEDULER_H

#include "worker/engine/prefix_cache.h"
#include "worker/engine/sequence.h"

typedef struct scheduler scheduler;

typedef struct scheduled {
    sequence *sequence;
    uint32_t token_count; /* from its `computed` on */
} scheduled;

/* `cache` must outlive it. 1 <= sequences_max <= step_tokens, so that each slot has a token.
 * sequence_limit: sequences at once, in any state. */
scheduler *scheduler_create(prefix_cache *cache, uint32_t step_tokens, uint32_t sequences_max,
                            uint32_t sequence_limit);
void scheduler_destroy(scheduler *s); /* NULL is fine; the sequences are removed already */

/* `q` (WAITING) stays the caller's and must stay in place until removed. Its ids, grown to their
 * most, must fit all blocks. */
void scheduler_add(scheduler *s, sequence *q);

/* Out of every list, FINISHED, its blocks released. */
void scheduler_remove(scheduler *s, sequence *q);

/* Ids may be appended while there are fewer than `id_limit`; a lower limit than before is ignored.
 */
void scheduler_credit(scheduler *s, sequence *q, uint32_t id_limit);

/* Plan a step into `out` [sequences_max]; returns how many. 0: nobody can run before a sequence is
 * added or credited. Every planned sequence has the blocks its tokens need. */
uint32_t scheduler_plan(scheduler *s, scheduled *out);

/* A step was submitted that runs `token_count` more positions of `q` and, when those are all there
 * are, samples its next id. */
void scheduler_submitted(scheduler *s, sequence *q, uint32_t token_count);

/* The oldest pending id of `q` is `id`. */
void scheduler_resolve(scheduler *s, sequence *q, uint32_t id);

uint32_t scheduler_running(const scheduler *s); /* RUNNING and PARKED */
uint32_t scheduler_waiting(const scheduler *s);
uint64_t scheduler_preemptions(const scheduler *s);

/* CHECK all invariants of sequences, lists and blocks. */
void scheduler_verify(const scheduler *s);

#endif
