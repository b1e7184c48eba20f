/* dummy weights: a benchmark waits for them, so they are made at memory speed.
 *
 * The memory is cut into blocks; a block's numbers depend on its index only, so any thread may
 * fill any block. Each number is a table entry chosen by 12 random bits: 4096 evenly spaced BF16
 * values, which cost a load instead of a conversion. Uniform, not normal: no kernel's speed
 * depends on it, and the activations stay as small. */
#include "worker/model/dummy_weights.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "common/limits.h"

#define BLOCK_ELEMENTS ((size_t)LIMIT_MIB)
#define THREADS_MAX    16
#define TABLE_SIZE     4096u

typedef struct fill_job {
    uint16_t *values;
    size_t count;
    uint16_t table[TABLE_SIZE];
    atomic_size_t next_block;
} fill_job;

static uint16_t bf16_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits += 0x7fff + (bits >> 16 & 1); /* to nearest, ties to even */
    return (uint16_t)(bits >> 16);
}

/* Steele, Lea, Flood: Fast splittable pseudorandom number generators. OOPSLA 2014. */
static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void fill_table(uint16_t *table)
{
    const float reach = 0.02f * 1.7320508f; /* uniform in [-a, a] has deviation a / sqrt(3) */
    for (uint32_t i = 0; i < TABLE_SIZE; i++)
        table[i] = bf16_from_float(((float)i + 0.5f) * (2.0f * reach / TABLE_SIZE) - reach);
}

/* Fill one block that no one has begun. Returns its elements; 0 when all are taken. */
static size_t fill_next_block(fill_job *job)
{
    size_t block = atomic_fetch_add(&job->next_block, 1);
    size_t begin = block * BLOCK_ELEMENTS;
    if (begin >= job->count) return 0;
    size_t left = job->count - begin;
    size_t count = left < BLOCK_ELEMENTS ? left : BLOCK_ELEMENTS;

    uint16_t *out = job->values + begin;
    uint64_t state = block << 32;
    uint64_t bits = 0;
    for (size_t i = 0; i < count; i++) {
        bits = i % 4 == 0 ? splitmix64(&state) : bits >> 16;
        out[i] = job->table[bits % TABLE_SIZE];
    }
    return count;
}

static void *fill_thread(void *arg)
{
    while (fill_next_block(arg) > 0)
        continue;
    return NULL;
}

static int thread_count(void)
{
    cpu_set_t cpus;
    int count = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
    return count < THREADS_MAX ? count : THREADS_MAX;
}

status dummy_weights_reserve(uint16_t **out, size_t size, error *err)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return error_set(err, ST_RESOURCE_EXHAUSTED, "no memory for %zu bytes of weights: %s", size,
                         strerror(errno));
    *out = memory;
    return ST_OK;
}

status dummy_weights_map(uint16_t **out, size_t size,
                         void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                         error *err)
{
    uint16_t *memory;
    status st = dummy_weights_reserve(&memory, size, err);
    if (st != ST_OK) return st;
    madvise(memory, size, MADV_HUGEPAGE); /* a wish: fewer page faults */

    fill_job job = {.values = memory, .count = size / sizeof(uint16_t)};
    fill_table(job.table);
    pthread_t threads[THREADS_MAX];
    int started = 0;
    int helpers = size > BLOCK_ELEMENTS * sizeof(uint16_t) ? thread_count() - 1 : 0;
    /* A thread that does not start leaves its share to the others. */
    while (started < helpers && pthread_create(&threads[started], NULL, fill_thread, &job) == 0)
        started++;

    /* This thread fills too, and reports: what the counter says was begun is near enough. */
    while (fill_next_block(&job) > 0) {
        uint64_t begun = atomic_load(&job.next_block) * BLOCK_ELEMENTS * sizeof(uint16_t);
        if (progress != NULL && begun < size) progress(ctx, begun, size);
    }
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    if (progress != NULL) progress(ctx, size, size);
    *out = memory;
    return ST_OK;
}
