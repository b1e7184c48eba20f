#include "worker/text/vocab.h"

#include <string.h>

#include "common/check.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

void vocab_add(vocab *v, const char *spelling, size_t size, uint32_t id)
{
    CHECK(v->bytes.size + size <= UINT32_MAX && v->count < UINT32_MAX - 1);
    if (v->count == v->capacity) {
        v->capacity = v->capacity == 0 ? 256 : v->capacity + v->capacity / 2;
        v->entries = mem_realloc(v->entries, v->capacity * sizeof *v->entries);
    }
    v->entries[v->count++] =
        (vocab_entry){.offset = (uint32_t)v->bytes.size, .size = (uint32_t)size, .id = id};
    buffer_append(&v->bytes, spelling, size);
}

const char *vocab_spelling(const vocab *v, const vocab_entry *entry)
{
    return v->bytes.data != NULL ? (const char *)v->bytes.data + entry->offset : "";
}

/* The slot that holds `spelling`, or the free one where it belongs. */
static uint32_t *slot_of(const vocab *v, const char *spelling, size_t size)
{
    size_t at = (size_t)XXH3_64bits(spelling, size) & v->slot_mask;
    for (;; at = (at + 1) & v->slot_mask) {
        uint32_t slot = v->slots[at];
        if (slot == 0) return &v->slots[at];
        const vocab_entry *entry = &v->entries[slot - 1];
        if (entry->size == size && memcmp(vocab_spelling(v, entry), spelling, size) == 0)
            return &v->slots[at];
    }
}

bool vocab_finish(vocab *v, size_t *twice)
{
    size_t slots = 16;
    while (slots < v->count * 2)
        slots *= 2;
    v->slots = mem_calloc(slots, sizeof *v->slots);
    v->slot_mask = slots - 1;
    for (size_t i = 0; i < v->count; i++) {
        uint32_t *slot = slot_of(v, vocab_spelling(v, &v->entries[i]), v->entries[i].size);
        if (*slot != 0) {
            *twice = i;
            return false;
        }
        *slot = (uint32_t)i + 1;
    }
    return true;
}

uint32_t vocab_find(const vocab *v, const char *spelling, size_t size)
{
    uint32_t slot = *slot_of(v, spelling, size);
    return slot != 0 ? v->entries[slot - 1].id : TOKEN_NONE;
}

void vocab_free(vocab *v)
{
    buffer_free(&v->bytes);
    mem_free(v->entries);
    mem_free(v->slots);
    *v = (vocab){0};
}
