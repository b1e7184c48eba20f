/* sequence: the ids of one request and how far their KV has come, as the scheduler sees it.
 *
 *   ids     prompt, then answer; grows by one with each step that samples for it, when that step is
 *           submitted. Ids from `known_count` on are pending (STEP_TOKEN_PENDING): the device has
 *           them and nobody here does until the step is collected. At most one is while a step is
 *           planned
 *   blocks  KV blocks in order of position: the first `published` are full and shared through the
 *           prefix cache, the others are this sequence's alone
 *
 *           positions   0 ......... published*16 ...... computed ........... id_count
 *                       | shared, full   | own, written  | still to be run    |
 *
 *           "written" by the steps submitted so far. A block is published once its ids are known.
 *
 * A sequence is in one state at a time:
 *
 *   WAITING   has no blocks: new, or preempted
 *   RUNNING   has blocks for its ids up to now, and credit
 *   PARKED    has blocks but no credit; keeps them until somebody needs them
 *   FINISHED  has nothing any more
 *
 * Embedded in the engine's own record of a request. Engine thread only. */
#ifndef GAGGLE_WORKER_ENGINE_SEQUENCE_H
#define GAGGLE_WORKER_ENGINE_SEQUENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/envelope.h"

typedef enum sequence_state {
    SEQUENCE_WAITING,
    SEQUENCE_RUNNING,
    SEQUENCE_PARKED,
    SEQUENCE_FINISHED,
} sequence_state;

#define SEQUENCE_STATE_COUNT 4

typedef struct sequence {
    uint64_t key;     /* for logs */
    uint64_t arrival; /* no two are equal; lower came first */
    int32_t priority; /* higher first */
    sequence_state state;

    uint32_t *ids; /* [id_count] */
    uint32_t id_count, id_capacity;
    uint32_t known_count; /* ids that are not pending */
    uint32_t id_limit;    /* credit: ids may be appended while id_count is below it */

    uint32_t *blocks; /* [block_count] */
    uint32_t block_count, block_capacity;
    uint32_t computed;  /* positions whose KV is in the blocks; below id_count */
    uint32_t published; /* blocks */

    id128 cache_salt;          /* only sequences of the same salt share blocks */
    uint32_t cached;           /* positions that its first prefill found in the prefix cache */
    bool cached_known;         /* the first prefill is over: `cached` stays */
    uint32_t admission_blocks; /* what was missing when it last was refused admission; or 0 */
} sequence;

/* WAITING, with a copy of `ids` (at least one); id_limit is UINT32_MAX, the salt zero. */
void sequence_init(sequence *s, uint64_t key, uint64_t arrival, int32_t priority,
                   const uint32_t *ids, uint32_t id_count);
void sequence_fini(sequence *s); /* FINISHED, or never given to a scheduler */

void sequence_append_id(sequence *s, uint32_t id); /* nothing is pending */
void sequence_append_pending(sequence *s);
void sequence_resolve(sequence *s, uint32_t id); /* the oldest pending one */
void sequence_append_block(sequence *s, uint32_t block);

/* Does `a` go before `b`? Priority, then arrival; a total order. */
bool sequence_before(const sequence *a, const sequence *b);

bool sequence_has_credit(const sequence *s);

/* Positions still to be run before the next id can be sampled; at least 1. */
uint32_t sequence_remaining(const sequence *s);

/* Blocks that its ids up to now need. */
uint32_t sequence_blocks_needed(const sequence *s);

/* The only way a state changes; a transition outside the table is a bug (CHECK). */
void sequence_set_state(sequence *s, sequence_state next);

const char *sequence_state_name(sequence_state state);

/* CHECK what must hold in its state. */
void sequence_verify(const sequence *s);

#endif
