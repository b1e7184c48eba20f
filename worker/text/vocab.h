/* vocab: the model's tokens: spelling -> id.
 *
 * Built once, then immutable; any thread may look up. Spellings live in one block of memory and
 * stay where they are once vocab_finish() was called. */
#ifndef GAGGLE_WORKER_TEXT_VOCAB_H
#define GAGGLE_WORKER_TEXT_VOCAB_H

#include <stdbool.h>

#include "common/mem.h"
#include "worker/text/tokenizer.h"

typedef struct vocab_entry {
    uint32_t offset, size; /* in `bytes` */
    uint32_t id;
} vocab_entry;

typedef struct vocab {
    buffer bytes;
    vocab_entry *entries;
    size_t count, capacity;
    uint32_t *slots; /* entry index + 1; 0 is free; open addressing */
    size_t slot_mask;
} vocab; /* {0} is empty */

void vocab_add(vocab *v, const char *spelling, size_t size, uint32_t id);

/* Index what was added. False when a spelling occurs twice; *twice is the later entry. */
bool vocab_finish(vocab *v, size_t *twice);

/* The id of this spelling, or TOKEN_NONE. After vocab_finish(). */
uint32_t vocab_find(const vocab *v, const char *spelling, size_t size);

const char *vocab_spelling(const vocab *v, const vocab_entry *entry);

void vocab_free(vocab *v);

#endif
