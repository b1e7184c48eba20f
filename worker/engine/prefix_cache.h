/* prefix_cache: KV blocks as sequences take and share them.
 *
 * A full block's content is a function of its tokens and of everything before them. Full blocks are
 * published here, and another sequence that begins with the same tokens shares them instead of
 * computing them. A published block that no sequence holds stays, idle, until its place is needed;
 * the one idle longest goes first.
 *
 * The cache is a tree: a block's parent is the block before it in the sequence. A chain is found by
 * hashing (parent block, 16 tokens) and comparing both, so a hash collision cannot mix up two
 * prompts: a published block's parent cannot leave before it does, so the parent's number stands
 * for the whole prefix. The first block has the sequence's salt in its parent's place: sequences of
 * different salts share nothing. Numbered invariants are in prefix_cache.c.
 *
 * Pure bookkeeping: no device, no thread. Engine thread only. */
#ifndef GAGGLE_WORKER_ENGINE_PREFIX_CACHE_H
#define GAGGLE_WORKER_ENGINE_PREFIX_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/limits.h"
#include "proto/envelope.h"
#include "worker/engine/kv_blocks.h"

typedef struct prefix_cache prefix_cache;

/* `kv` must outlive it, and from now on is used through it alone. `enabled` false: nothing is
 * found or kept, the rest works. */
prefix_cache *prefix_cache_create(kv_blocks *kv, bool enabled);
void prefix_cache_destroy(prefix_cache *c); /* NULL is fine */

/* Blocks that prefix_cache_take() could give now: free ones and idle ones. */
uint32_t prefix_cache_available(const prefix_cache *c);

/* Take `count` blocks with no content, dropping the blocks that were idle longest as needed.
 * ST_RESOURCE_EXHAUSTED: fewer are available; nothing was taken or dropped. */
MUST_USE status prefix_cache_take(prefix_cache *c, uint32_t count, uint32_t *ids);

/* The published block with these tokens after `parent` (KV_BLOCK_NONE: at the start of a sequence
 * with this salt, which is not read elsewhere), with one reference for the caller; KV_BLOCK_NONE
 * when there is none. The caller holds `parent`. */
uint32_t prefix_cache_find(prefix_cache *c, const id128 *salt, uint32_t parent,
                           const uint32_t tokens[LIMIT_KV_BLOCK_TOKENS]);

/* `block`, which the caller holds alone, is full: others may share it from now on. The caller holds
 * `parent`, itself published. Returns the block to go on with: `block`, or an equal one that was
 * published before (then the reference to `block` was exchanged for one to it). */
MUST_USE uint32_t prefix_cache_publish(prefix_cache *c, const id128 *salt, uint32_t parent,
                                       const uint32_t tokens[LIMIT_KV_BLOCK_TOKENS],
                                       uint32_t block);

/* What the time is, for prefix_cache_oldest_us(); any monotonic clock, never 0. */
void prefix_cache_set_time(prefix_cache *c, uint64_t now_us);

/* When the block that has been idle longest was used last; 0: none is idle. Everything that was
 * used since is still there. */
uint64_t prefix_cache_oldest_us(const prefix_cache *c);

/* Give back one reference. A sequence releases its blocks last to first, so that the end of a
 * prefix is dropped before its beginning. */
void prefix_cache_release(prefix_cache *c, uint32_t block);

uint32_t prefix_cache_block_count(const prefix_cache *c);
/* References to a block other than the cache's own. */
uint32_t prefix_cache_holders(const prefix_cache *c, uint32_t block);

/* CHECK every invariant. O(blocks). */
void prefix_cache_verify(const prefix_cache *c);

#endif
