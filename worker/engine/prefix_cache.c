/* Invariants, with "held" meaning that a sequence has a reference:
 *
 *   1. The cache owns one reference to each published block; idle = published and no other.
 *   2. Whoever holds a published block holds its parent, and so on to the root. Publishing keeps
 *      it: when an equal block is there already the caller goes on with that one, so that a
 *      child's parent is always the published block itself, never a private copy.
 *   3. Hence the children of an idle block are idle, and because holders release last to first,
 *      they became idle before it: in the idle list, oldest first, children come before parents.
 *   4. Hence dropping the oldest idle block never leaves a child without its parent. */
#include "worker/engine/prefix_cache.h"

#include <string.h>
#include <xxhash.h>

#include "common/check.h"
#include "common/mem.h"

/* What a published block is found by. */
typedef struct block_key {
    uint32_t tokens[LIMIT_KV_BLOCK_TOKENS];
    uint32_t parent;
    id128 salt; /* of a sequence's first block; else zero, for the parent stands for it */
} block_key;
_Static_assert(sizeof(block_key) == sizeof(uint32_t) * (LIMIT_KV_BLOCK_TOKENS + 1) + sizeof(id128),
               "keys are hashed and compared as bytes");

typedef struct cached_block {
    block_key key;
    uint32_t bucket;
    uint32_t bucket_next;
    uint32_t older, newer; /* in the idle list */
    uint64_t idle_since_us;
    bool published;
    bool idle;
} cached_block;

struct prefix_cache {
    kv_blocks *kv;
    bool enabled;
    cached_block *blocks; /* [kv_blocks_count] */
    uint32_t *buckets;    /* [bucket_mask + 1] first block of each chain */
    uint32_t bucket_mask;
    uint32_t oldest, newest; /* of the idle list */
    uint32_t idle_count;
    uint64_t now_us;
};

prefix_cache *prefix_cache_create(kv_blocks *kv, bool enabled)
{
    prefix_cache *c = mem_calloc(1, sizeof *c);
    uint32_t count = kv_blocks_count(kv);
    CHECK(count <= 1u << 30);
    uint32_t buckets = 1;
    while (buckets < count)
        buckets *= 2;
    c->kv = kv;
    c->enabled = enabled;
    c->blocks = mem_calloc(count, sizeof *c->blocks);
    c->buckets = mem_alloc((size_t)buckets * sizeof *c->buckets);
    c->bucket_mask = buckets - 1;
    for (uint32_t i = 0; i < buckets; i++)
        c->buckets[i] = KV_BLOCK_NONE;
    c->oldest = c->newest = KV_BLOCK_NONE;
    return c;
}

void prefix_cache_destroy(prefix_cache *c)
{
    if (c == NULL) return;
    mem_free(c->blocks);
    mem_free(c->buckets);
    mem_free(c);
}

/* -- the idle list ----------------------------------------------------------------- */

static void idle_append(prefix_cache *c, uint32_t id)
{
    cached_block *b = &c->blocks[id];
    b->idle = true;
    b->idle_since_us = c->now_us;
    b->older = c->newest;
    b->newer = KV_BLOCK_NONE;
    if (c->newest != KV_BLOCK_NONE)
        c->blocks[c->newest].newer = id;
    else
        c->oldest = id;
    c->newest = id;
    c->idle_count++;
}

static void idle_remove(prefix_cache *c, uint32_t id)
{
    cached_block *b = &c->blocks[id];
    if (b->older != KV_BLOCK_NONE)
        c->blocks[b->older].newer = b->newer;
    else
        c->oldest = b->newer;
    if (b->newer != KV_BLOCK_NONE)
        c->blocks[b->newer].older = b->older;
    else
        c->newest = b->older;
    b->idle = false;
    c->idle_count--;
}

/* -- the table ---------------------------------------------------------------------- */

static block_key key_of(const id128 *salt, uint32_t parent, const uint32_t *tokens)
{
    block_key key = {.parent = parent};
    memcpy(key.tokens, tokens, sizeof key.tokens);
    if (parent == KV_BLOCK_NONE) key.salt = *salt;
    return key;
}

static uint32_t bucket_of(const prefix_cache *c, const block_key *key)
{
    return (uint32_t)XXH3_64bits(key, sizeof *key) & c->bucket_mask;
}

static uint32_t lookup(const prefix_cache *c, uint32_t bucket, const block_key *key)
{
    for (uint32_t id = c->buckets[bucket]; id != KV_BLOCK_NONE; id = c->blocks[id].bucket_next)
        if (memcmp(&c->blocks[id].key, key, sizeof *key) == 0) return id;
    return KV_BLOCK_NONE;
}

static void share(prefix_cache *c, uint32_t id)
{
    if (c->blocks[id].idle) idle_remove(c, id);
    kv_blocks_share(c->kv, id);
}

static void drop_oldest(prefix_cache *c)
{
    uint32_t id = c->oldest;
    cached_block *b = &c->blocks[id];
    idle_remove(c, id);
    uint32_t *link = &c->buckets[b->bucket];
    while (*link != id)
        link = &c->blocks[*link].bucket_next;
    *link = b->bucket_next;
    b->published = false;
    kv_blocks_release(c->kv, id);
}

/* -- what sequences do --------------------------------------------------------------- */

uint32_t prefix_cache_available(const prefix_cache *c)
{
    return kv_blocks_free_count(c->kv) + c->idle_count;
}

status prefix_cache_take(prefix_cache *c, uint32_t count, uint32_t *ids)
{
    if (count > prefix_cache_available(c)) return ST_RESOURCE_EXHAUSTED;
    while (kv_blocks_free_count(c->kv) < count)
        drop_oldest(c);
    return kv_blocks_take(c->kv, count, ids);
}

uint32_t prefix_cache_find(prefix_cache *c, const id128 *salt, uint32_t parent,
                           const uint32_t tokens[LIMIT_KV_BLOCK_TOKENS])
{
    if (!c->enabled) return KV_BLOCK_NONE;
    const block_key key = key_of(salt, parent, tokens);
    uint32_t id = lookup(c, bucket_of(c, &key), &key);
    if (id != KV_BLOCK_NONE) share(c, id);
    return id;
}

uint32_t prefix_cache_publish(prefix_cache *c, const id128 *salt, uint32_t parent,
                              const uint32_t tokens[LIMIT_KV_BLOCK_TOKENS], uint32_t block)
{
    if (!c->enabled) return block;
    CHECK(parent == KV_BLOCK_NONE || c->blocks[parent].published);
    CHECK(!c->blocks[block].published && kv_blocks_references(c->kv, block) == 1);
    const block_key key = key_of(salt, parent, tokens);
    uint32_t bucket = bucket_of(c, &key);
    uint32_t equal = lookup(c, bucket, &key);
    if (equal != KV_BLOCK_NONE) {
        share(c, equal);
        kv_blocks_release(c->kv, block);
        return equal;
    }
    cached_block *b = &c->blocks[block];
    b->key = key;
    b->bucket = bucket;
    b->bucket_next = c->buckets[bucket];
    c->buckets[bucket] = block;
    b->published = true;
    kv_blocks_share(c->kv, block);
    return block;
}

void prefix_cache_release(prefix_cache *c, uint32_t block)
{
    kv_blocks_release(c->kv, block);
    if (c->blocks[block].published && kv_blocks_references(c->kv, block) == 1)
        idle_append(c, block);
}

void prefix_cache_set_time(prefix_cache *c, uint64_t now_us)
{
    c->now_us = now_us;
}

uint64_t prefix_cache_oldest_us(const prefix_cache *c)
{
    return c->oldest != KV_BLOCK_NONE ? c->blocks[c->oldest].idle_since_us : 0;
}

uint32_t prefix_cache_block_count(const prefix_cache *c)
{
    return kv_blocks_count(c->kv);
}

uint32_t prefix_cache_holders(const prefix_cache *c, uint32_t block)
{
    return kv_blocks_references(c->kv, block) - c->blocks[block].published;
}

void prefix_cache_verify(const prefix_cache *c)
{
    kv_blocks_verify(c->kv);
    uint32_t count = kv_blocks_count(c->kv);
    uint32_t *place = mem_calloc(count, sizeof *place); /* in the idle list, from 1 */
    uint32_t idle = 0;
    for (uint32_t id = c->oldest, older = KV_BLOCK_NONE; id != KV_BLOCK_NONE;
         older = id, id = c->blocks[id].newer) {
        CHECK(c->blocks[id].idle && c->blocks[id].older == older && place[id] == 0);
        place[id] = ++idle;
    }
    CHECK(idle == c->idle_count);
    for (uint32_t id = 0; id < count; id++) {
        const cached_block *b = &c->blocks[id];
        uint32_t references = kv_blocks_references(c->kv, id);
        CHECK(b->idle == (b->published && references == 1));
        CHECK(b->idle == (place[id] > 0));
        if (!b->published) continue;
        CHECK(references >= 1);
        CHECK(lookup(c, b->bucket, &b->key) == id);
        uint32_t parent = b->key.parent;
        if (parent == KV_BLOCK_NONE) continue;
        CHECK(id128_is_zero(&b->key.salt) && c->blocks[parent].published);
        if (c->blocks[parent].idle) CHECK(b->idle && place[id] < place[parent]);
    }
    mem_free(place);
}
