#include "common/ring.h"

#include <stdatomic.h>
#include <stddef.h>

#include "common/check.h"
#include "common/mem.h"

/* Both counters only grow and wrap at 2^32; the entries between them are in use. Each lies on its
 * own cache line, so that the two threads do not slow each other down. */
struct ring {
    _Alignas(64) _Atomic uint32_t pushed;
    _Alignas(64) _Atomic uint32_t popped;
    _Alignas(64) uint32_t capacity;
    void **items;
};

ring *ring_create(uint32_t capacity)
{
    CHECK(capacity > 0 && capacity <= 1u << 30 && (capacity & (capacity - 1)) == 0);
    ring *r = mem_try_alloc_aligned(_Alignof(ring), sizeof *r);
    CHECK(r != NULL);
    r->capacity = capacity;
    r->items = mem_calloc(capacity, sizeof *r->items);
    return r;
}

void ring_destroy(ring *r)
{
    if (r == NULL) return;
    mem_free(r->items);
    mem_free(r);
}

bool ring_push(ring *r, void *item)
{
    CHECK(item != NULL);
    uint32_t pushed = atomic_load_explicit(&r->pushed, memory_order_relaxed);
    uint32_t popped = atomic_load_explicit(&r->popped, memory_order_acquire);
    if (pushed - popped == r->capacity) return false;
    r->items[pushed & (r->capacity - 1)] = item;
    atomic_store_explicit(&r->pushed, pushed + 1, memory_order_release);
    return true;
}

void *ring_pop(ring *r)
{
    uint32_t popped = atomic_load_explicit(&r->popped, memory_order_relaxed);
    uint32_t pushed = atomic_load_explicit(&r->pushed, memory_order_acquire);
    if (pushed == popped) return NULL;
    void *item = r->items[popped & (r->capacity - 1)];
    atomic_store_explicit(&r->popped, popped + 1, memory_order_release);
    return item;
}

uint32_t ring_count(const ring *r)
{
    /* `popped` first: it can only fall behind what is read next, never overtake it. */
    uint32_t popped = atomic_load_explicit(&r->popped, memory_order_acquire);
    return atomic_load_explicit(&r->pushed, memory_order_acquire) - popped;
}

uint32_t ring_capacity(const ring *r)
{
    return r->capacity;
}
