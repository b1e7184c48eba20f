#include "worker/engine/kv_blocks.h"

#include "common/check.h"
#include "common/mem.h"

struct kv_blocks {
    uint32_t count;
    uint32_t free_count;
    uint32_t *free;       /* [free_count] used as a stack: warm blocks come back first */
    uint32_t *references; /* [count] */
};

kv_blocks *kv_blocks_create(uint32_t count)
{
    CHECK(count > 0 && count < KV_BLOCK_NONE);
    kv_blocks *kv = mem_calloc(1, sizeof *kv);
    kv->count = count;
    kv->free_count = count;
    kv->free = mem_alloc((size_t)count * sizeof *kv->free);
    kv->references = mem_calloc(count, sizeof *kv->references);
    for (uint32_t i = 0; i < count; i++)
        kv->free[i] = count - 1 - i;
    return kv;
}

void kv_blocks_destroy(kv_blocks *kv)
{
    if (kv == NULL) return;
    mem_free(kv->free);
    mem_free(kv->references);
    mem_free(kv);
}

uint32_t kv_blocks_count(const kv_blocks *kv)
{
    return kv->count;
}

uint32_t kv_blocks_free_count(const kv_blocks *kv)
{
    return kv->free_count;
}

uint32_t kv_blocks_references(const kv_blocks *kv, uint32_t id)
{
    CHECK(id < kv->count);
    return kv->references[id];
}

status kv_blocks_take(kv_blocks *kv, uint32_t count, uint32_t *ids)
{
    if (count > kv->free_count) return ST_RESOURCE_EXHAUSTED;
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = kv->free[--kv->free_count];
        kv->references[ids[i]] = 1;
    }
    return ST_OK;
}

void kv_blocks_share(kv_blocks *kv, uint32_t id)
{
    CHECK(id < kv->count && kv->references[id] > 0 && kv->references[id] < UINT32_MAX);
    kv->references[id]++;
}

void kv_blocks_release(kv_blocks *kv, uint32_t id)
{
    CHECK(id < kv->count && kv->references[id] > 0);
    if (--kv->references[id] == 0) kv->free[kv->free_count++] = id;
}

void kv_blocks_verify(const kv_blocks *kv)
{
    uint8_t *listed = mem_calloc(kv->count, 1);
    CHECK(kv->free_count <= kv->count);
    for (uint32_t i = 0; i < kv->free_count; i++) {
        CHECK(kv->free[i] < kv->count && !listed[kv->free[i]]);
        listed[kv->free[i]] = 1;
    }
    for (uint32_t id = 0; id < kv->count; id++)
        CHECK(listed[id] == (kv->references[id] == 0));
    mem_free(listed);
}
