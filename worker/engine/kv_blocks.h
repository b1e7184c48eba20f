/* kv_blocks: which of the device's KV blocks are in use, by how many.
 *
 * Numbers only: the memory itself is the backend's. Every block is free (no reference) or held by
 * one or more owners, each of whom gives back what it took. Engine thread only. */
#ifndef GAGGLE_WORKER_ENGINE_KV_BLOCKS_H
#define GAGGLE_WORKER_ENGINE_KV_BLOCKS_H

#include <stdint.h>

#include "common/status.h"

typedef struct kv_blocks kv_blocks;

/* The block number that is none. */
#define KV_BLOCK_NONE UINT32_MAX

kv_blocks *kv_blocks_create(uint32_t count); /* ids 0..count-1, all free; count >= 1 */
void kv_blocks_destroy(kv_blocks *kv);       /* NULL is fine */

uint32_t kv_blocks_count(const kv_blocks *kv);
uint32_t kv_blocks_free_count(const kv_blocks *kv);
uint32_t kv_blocks_references(const kv_blocks *kv, uint32_t id);

/* Take `count` free blocks and write their numbers to `ids`, all or none.
 * Each has one reference, which the caller owns.
 * ST_RESOURCE_EXHAUSTED: fewer are free; `ids` is not written. */
MUST_USE status kv_blocks_take(kv_blocks *kv, uint32_t count, uint32_t *ids);

/* One more reference to a block that has one. */
void kv_blocks_share(kv_blocks *kv, uint32_t id);

/* Give back one reference; with the last one the block is free. */
void kv_blocks_release(kv_blocks *kv, uint32_t id);

/* CHECK that the free list and the counts agree. O(count). */
void kv_blocks_verify(const kv_blocks *kv);

#endif
