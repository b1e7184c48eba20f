/* Counting memory: every malloc() of the product and of this program comes through here, so that
 * a run knows how much it holds, and that it gave everything back. */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

static size_t live, peak;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *pointer);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_free(void *pointer);

static void *count(void *pointer)
{
    if (pointer == NULL) return NULL;
    live += malloc_usable_size(pointer);
    if (live > peak) peak = live;
    return pointer;
}

void *__wrap_malloc(size_t size)
{
    return count(__real_malloc(size));
}

void *__wrap_calloc(size_t number, size_t size)
{
    return count(__real_calloc(number, size));
}

void *__wrap_realloc(void *old, size_t size)
{
    size_t before = old != NULL ? malloc_usable_size(old) : 0;
    void *grown = __real_realloc(old, size);
    if (grown == NULL) return NULL;
    live -= before;
    return count(grown);
}

void __wrap_free(void *pointer)
{
    if (pointer != NULL) live -= malloc_usable_size(pointer);
    __real_free(pointer);
}

size_t sim_memory_live(void)
{
    return live;
}

size_t sim_memory_peak(void)
{
    return peak;
}

void sim_memory_reset_peak(void)
{
    peak = live;
}
