#include "router/name_table.h"

#include <xxhash.h>

#include "common/check.h"

enum { CAPACITY_FIRST = 16 };

/* The slot of `name`, or the empty one where it would be. */
static uint32_t slot_of(const name_table *t, text_view name)
{
    uint32_t slot = (uint32_t)XXH3_64bits(name.data, name.size) & (t->capacity - 1);
    while (t->slots[slot] != 0 && !text_equal(text_of(t->names[t->slots[slot] - 1]), name))
        slot = (slot + 1) & (t->capacity - 1);
    return slot;
}

uint32_t name_table_find(const name_table *t, text_view name)
{
    if (t->count == 0) return NAME_NONE;
    uint32_t found = t->slots[slot_of(t, name)];
    return found == 0 ? NAME_NONE : found - 1;
}

static void grow(name_table *t)
{
    t->capacity = t->capacity == 0 ? CAPACITY_FIRST : 2 * t->capacity;
    t->names = mem_realloc(t->names, t->capacity / 2 * sizeof *t->names);
    mem_free(t->slots);
    t->slots = mem_calloc(t->capacity, sizeof *t->slots);
    for (uint32_t i = 0; i < t->count; i++)
        t->slots[slot_of(t, text_of(t->names[i]))] = i + 1;
}

uint32_t name_table_add(name_table *t, const char *name)
{
    CHECK(name_table_find(t, text_of(name)) == NAME_NONE);
    if (t->count == t->capacity / 2) grow(t);
    t->names[t->count] = name;
    t->slots[slot_of(t, text_of(name))] = t->count + 1;
    return t->count++;
}

void name_table_free(name_table *t)
{
    mem_free(t->names);
    mem_free(t->slots);
    *t = (name_table){0};
}
