/* mem: the three ways gaggle holds memory beyond a plain struct.
 *
 *   mem_*     malloc and friends that end the process when memory is out. Used for
 *             small bookkeeping, whose size our limits bound; large or foreign sizes
 *             (KV, checkpoints, frames) are allocated with mem_try_* and give
 *             ST_RESOURCE_EXHAUSTED.
 *   buffer    a growable byte array; whoever appends to it bounds it.
 *   arena     many small allocations freed by one call.
 *
 * No locks: an object belongs to one thread at a time. */
#ifndef GAGGLE_COMMON_MEM_H
#define GAGGLE_COMMON_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/status.h"

/* Never return NULL (size 0 gives a valid pointer). Free with mem_free(). */
void *mem_alloc(size_t size);
void *mem_calloc(size_t count, size_t size);
void *mem_realloc(void *old, size_t size);
void *mem_copy(const void *bytes, size_t size);
char *mem_strdup(const char *text);
char *mem_strndup(const char *text, size_t length); /* adds the NUL */

/* NULL when memory is out or count * size overflows. */
void *mem_try_alloc(size_t count, size_t size);
/* The same at `alignment` bytes (a power of two >= 8); zeroed; free with mem_free(). */
void *mem_try_alloc_aligned(size_t alignment, size_t size);

void mem_free(void *pointer); /* NULL is fine */

/* -- buffer ------------------------------------------------------------------- */

typedef struct buffer {
    uint8_t *data;
    size_t size;     /* bytes in use */
    size_t capacity; /* bytes allocated */
} buffer;            /* {0} is an empty buffer */

/* Make room for `extra` more bytes; the content stays. Grows geometrically. */
void buffer_reserve(buffer *b, size_t extra);
/* In the header, since columns of tokens are made of it: a constant size becomes one store. */
static inline void buffer_append(buffer *b, const void *bytes, size_t size)
{
    if (size == 0) return;
    if (b->capacity - b->size < size) buffer_reserve(b, size);
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): what has room is not NULL */
    memcpy(b->data + b->size, bytes, size);
    b->size += size;
}
/* Drop the first `size` bytes, moving the rest down. */
void buffer_consume(buffer *b, size_t size);
void buffer_clear(buffer *b); /* size = 0, memory kept */
void buffer_free(buffer *b);  /* back to {0} */

/* -- arena -------------------------------------------------------------------- */

typedef struct arena_chunk arena_chunk;
typedef struct arena {
    arena_chunk *chunks;
    size_t bytes; /* handed out since the last reset */
} arena;          /* {0} is an empty arena */

/* 16-byte aligned, zeroed. Valid until arena_reset() or arena_free(). */
void *arena_alloc(arena *a, size_t size);
void *arena_copy(arena *a, const void *bytes, size_t size);
char *arena_strndup(arena *a, const char *text, size_t length);
/* Forget everything but keep one chunk for reuse. */
void arena_reset(arena *a);
void arena_free(arena *a);

#endif
