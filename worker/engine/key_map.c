/* Linear probing at a load of at most one half. Removal moves later entries of the run back over
 * the hole, so there are no tombstones. */
#include "worker/engine/key_map.h"

#include <stddef.h>

#include "common/check.h"
#include "common/mem.h"

typedef struct slot {
    uint64_t key;
    void *value; /* NULL: empty */
} slot;

struct key_map {
    uint32_t capacity, count, mask;
    slot *slots;
};

key_map *key_map_create(uint32_t capacity)
{
    CHECK(capacity > 0 && capacity <= 1u << 29);
    key_map *m = mem_calloc(1, sizeof *m);
    uint32_t slots = 2;
    while (slots < 2 * capacity)
        slots *= 2;
    m->capacity = capacity;
    m->mask = slots - 1;
    m->slots = mem_calloc(slots, sizeof *m->slots);
    return m;
}

void key_map_destroy(key_map *m)
{
    if (m == NULL) return;
    mem_free(m->slots);
    mem_free(m);
}

uint32_t key_map_count(const key_map *m)
{
    return m->count;
}

/* Keys are often 1, 2, 3, ...: a multiplication spreads them. */
static uint32_t home(const key_map *m, uint64_t key)
{
    return (uint32_t)(key * 0x9E3779B97F4A7C15u >> 32) & m->mask;
}

static uint32_t probe(const key_map *m, uint64_t key)
{
    uint32_t i = home(m, key);
    while (m->slots[i].value != NULL && m->slots[i].key != key)
        i = (i + 1) & m->mask;
    return i;
}

void key_map_add(key_map *m, uint64_t key, void *value)
{
    uint32_t i = probe(m, key);
    CHECK(value != NULL && m->slots[i].value == NULL && m->count < m->capacity);
    m->slots[i] = (slot){.key = key, .value = value};
    m->count++;
}

void *key_map_find(const key_map *m, uint64_t key)
{
    return m->slots[probe(m, key)].value;
}

void *key_map_remove(key_map *m, uint64_t key)
{
    uint32_t hole = probe(m, key);
    void *value = m->slots[hole].value;
    if (value == NULL) return NULL;
    for (uint32_t i = (hole + 1) & m->mask; m->slots[i].value != NULL; i = (i + 1) & m->mask) {
        uint32_t from_home = (i - home(m, m->slots[i].key)) & m->mask;
        if (from_home < ((i - hole) & m->mask)) continue; /* the hole lies before its run */
        m->slots[hole] = m->slots[i];
        hole = i;
    }
    m->slots[hole].value = NULL;
    m->count--;
    return value;
}

void *key_map_next(const key_map *m, uint32_t *cursor)
{
    while (*cursor <= m->mask) {
        void *value = m->slots[(*cursor)++].value;
        if (value != NULL) return value;
    }
    return NULL;
}
