#include "common/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

static void *must(void *pointer, size_t size)
{
    if (pointer == NULL) {
        fprintf(stderr, "fatal: out of memory while asking for %zu bytes\n", size);
        abort();
    }
    return pointer;
}

void *mem_alloc(size_t size)
{
    return must(malloc(size > 0 ? size : 1), size);
}

void *mem_calloc(size_t count, size_t size)
{
    if (count == 0 || size == 0) count = size = 1;
    return must(calloc(count, size), size);
}

void *mem_realloc(void *old, size_t size)
{
    return must(realloc(old, size > 0 ? size : 1), size);
}

void *mem_copy(const void *bytes, size_t size)
{
    void *copy = mem_alloc(size);
    if (size > 0) memcpy(copy, bytes, size);
    return copy;
}

char *mem_strndup(const char *text, size_t length)
{
    char *copy = mem_alloc(length + 1);
    if (length > 0) memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

char *mem_strdup(const char *text)
{
    return mem_strndup(text, strlen(text));
}

void *mem_try_alloc(size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) return NULL;
    return malloc(total > 0 ? total : 1);
}

void *mem_try_alloc_aligned(size_t alignment, size_t size)
{
    size_t rounded;
    if (__builtin_add_overflow(size, alignment - 1, &rounded)) return NULL;
    rounded -= rounded % alignment;
    if (rounded == 0) rounded = alignment;
    void *pointer = aligned_alloc(alignment, rounded);
    if (pointer != NULL) memset(pointer, 0, rounded);
    return pointer;
}

void mem_free(void *pointer)
{
    free(pointer);
}

void buffer_reserve(buffer *b, size_t extra)
{
    size_t needed;
    CHECK(!__builtin_add_overflow(b->size, extra, &needed));
    if (needed <= b->capacity) return;
    size_t capacity = b->capacity + b->capacity / 2; /* no overflow: half of it was allocated */
    if (capacity < 64) capacity = 64;
    if (capacity < needed) capacity = needed;
    b->data = mem_realloc(b->data, capacity);
    b->capacity = capacity;
}

void buffer_consume(buffer *b, size_t size)
{
    CHECK(size <= b->size);
    if (size > 0 && size < b->size) memmove(b->data, b->data + size, b->size - size);
    b->size -= size;
}

void buffer_clear(buffer *b)
{
    b->size = 0;
}

void buffer_free(buffer *b)
{
    mem_free(b->data);
    *b = (buffer){0};
}

/* A chunk is at least ARENA_CHUNK_BYTES; a larger request gets a chunk of its own. */
enum { ARENA_CHUNK_BYTES = 8192, ARENA_ALIGNMENT = 16 };

struct arena_chunk {
    arena_chunk *next;
    size_t capacity;
    size_t used;
    size_t padding; /* keeps `bytes` 16-byte aligned */
    uint8_t bytes[];
};
_Static_assert(offsetof(struct arena_chunk, bytes) % ARENA_ALIGNMENT == 0, "chunk data is aligned");

void *arena_alloc(arena *a, size_t size)
{
    size_t rounded;
    CHECK(!__builtin_add_overflow(size, (size_t)ARENA_ALIGNMENT - 1, &rounded));
    rounded -= rounded % ARENA_ALIGNMENT;
    arena_chunk *chunk = a->chunks;
    if (chunk == NULL || chunk->capacity - chunk->used < rounded) {
        size_t capacity = rounded > ARENA_CHUNK_BYTES ? rounded : ARENA_CHUNK_BYTES;
        CHECK(capacity <= SIZE_MAX - sizeof *chunk);
        chunk = mem_alloc(sizeof *chunk + capacity);
        chunk->next = a->chunks;
        chunk->capacity = capacity;
        chunk->used = 0;
        a->chunks = chunk;
    }
    void *result = chunk->bytes + chunk->used;
    chunk->used += rounded;
    a->bytes += rounded;
    memset(result, 0, rounded);
    return result;
}

void *arena_copy(arena *a, const void *bytes, size_t size)
{
    void *copy = arena_alloc(a, size);
    if (size > 0) memcpy(copy, bytes, size);
    return copy;
}

char *arena_strndup(arena *a, const char *text, size_t length)
{
    char *copy = arena_alloc(a, length + 1);
    if (length > 0) memcpy(copy, text, length);
    return copy;
}

void arena_reset(arena *a)
{
    arena_chunk *chunk = a->chunks;
    arena_chunk *kept = NULL;
    while (chunk != NULL) {
        arena_chunk *next = chunk->next;
        if (kept == NULL && chunk->capacity == ARENA_CHUNK_BYTES)
            kept = chunk;
        else
            mem_free(chunk);
        chunk = next;
    }
    if (kept != NULL) {
        kept->next = NULL;
        kept->used = 0;
    }
    a->chunks = kept;
    a->bytes = 0;
}

void arena_free(arena *a)
{
    arena_reset(a);
    mem_free(a->chunks);
    *a = (arena){0};
}
