/* prefix_table: which worker has read which beginnings of prompts, as far as the router believes.
 *
 * Of every chunk hash (prefix_chain.h) that went to a worker lately the table keeps up to
 * PREFIX_HOLDERS workers and when each used it last. It is bounded: a new hash takes the place of
 * the one used longest ago. A belief is void when
 *
 *   - its worker left or restarted: a holder's number is never given out twice, so that all of its
 *     entries are void at once, without a search;
 *   - it was used before the worker's horizon, which the worker reports: the time when the oldest
 *     block was used that its own cache still has.
 *
 * What is believed still may be wrong, for instance of a worker that reports no horizon. So what a
 * worker says it found is compared with what was believed: if it had dropped something used at some
 * time, it has dropped all that it used before, and its horizon is moved there.
 *
 * Memory: PREFIX_ENTRY_BYTES an entry, touched only as it fills; LIMIT_PREFIX_ENTRIES of them are
 * 16 MiB and stand for 32 million tokens. Every call but prefix_table_verify() is O(1) a chunk. No
 * clock of its own. Loop thread. */
#ifndef GAGGLE_ROUTER_PREFIX_TABLE_H
#define GAGGLE_ROUTER_PREFIX_TABLE_H

#include <stdint.h>

#include "common/limits.h"

enum { PREFIX_HOLDERS = 4, PREFIX_ENTRY_BYTES = 60 };

typedef struct prefix_table prefix_table;

/* `entries_max` is 1 to LIMIT_PREFIX_ENTRIES. */
prefix_table *prefix_table_create(uint32_t entries_max);
void prefix_table_destroy(prefix_table *t); /* NULL is fine */

/* A worker's cache, empty as far as we know: a number for it, never 0. At most LIMIT_WORKERS at
 * once. */
uint32_t prefix_table_join(prefix_table *t);
/* It is gone, with all that it held. */
void prefix_table_leave(prefix_table *t, uint32_t holder);

/* What the holder used last before `oldest_ms` it has dropped since. */
void prefix_table_set_horizon(prefix_table *t, uint32_t holder, uint64_t oldest_ms);

/* A prompt was given to the holder, or it just finished it: it has all of these. */
void prefix_table_record(prefix_table *t, const uint64_t *chunk, uint32_t count, uint32_t holder,
                         uint64_t now_ms);

/* It never read them: it has none but the first `kept` of them. */
void prefix_table_forget(prefix_table *t, const uint64_t *chunk, uint32_t count, uint32_t holder,
                         uint32_t kept);

/* What was believed of the worker that a prompt was given to. */
typedef struct prefix_belief {
    uint64_t given_ms;
    uint64_t used_ms; /* when it used the last of them before */
    uint32_t tokens;  /* that it had in its cache; 0: none, and the times say nothing */
} prefix_belief;

/* The holder found `found` tokens in its cache. */
void prefix_table_correct(prefix_table *t, uint32_t holder, const prefix_belief *belief,
                          uint32_t found);

/* What everybody has of one prompt. */
typedef struct prefix_match {
    uint16_t chunks[LIMIT_WORKERS]; /* by the holder's place */
} prefix_match;

/* Look the prompt up, from its first chunk to the first that nobody is known to have. Changes
 * nothing: looking is not using. */
void prefix_table_match(const prefix_table *t, const uint64_t *chunk, uint32_t count,
                        prefix_match *out);
/* Chunks from the first that `holder`, which is 0 or has joined, is believed to have. */
uint32_t prefix_match_chunks(const prefix_match *m, uint32_t holder);

/* When the holder used this chunk last; 0 when nothing is known of it. */
uint64_t prefix_table_used_ms(const prefix_table *t, uint64_t chunk, uint32_t holder);

uint32_t prefix_table_count(const prefix_table *t); /* of entries */

/* CHECK what must hold between list, buckets and entries. O(entries). For tests. */
void prefix_table_verify(const prefix_table *t);

#endif
