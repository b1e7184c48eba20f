/* thread_pool: runs the items of one job on all cores, the calling thread among them.
 *
 * Items are claimed one by one, so a core that is busy elsewhere takes fewer; which thread ran an
 * item must not matter to its result. Everything is for the one thread that created the pool. */
#ifndef GAGGLE_WORKER_CPU_THREAD_POOL_H
#define GAGGLE_WORKER_CPU_THREAD_POOL_H

#include <stdint.h>

#include "common/status.h"

#define THREAD_POOL_THREADS_MAX 1024u

typedef struct thread_pool thread_pool;

/* `thread` is below thread_pool_size() and names scratch space: two items that run at the same
 * time have different ones. */
typedef void (*thread_pool_item)(void *ctx, uint32_t item, uint32_t thread);

/* threads  1..THREAD_POOL_THREADS_MAX, the caller included
 * ST_RESOURCE_EXHAUSTED: the system gave fewer; nothing is left running. */
MUST_USE status thread_pool_create(thread_pool **out, uint32_t threads, error *err);
void thread_pool_destroy(thread_pool *pool); /* NULL is fine */

uint32_t thread_pool_size(const thread_pool *pool);

/* Run run(ctx, i, thread) once for each i below `count`; returns when all have. What an item wrote
 * is visible to the caller and to later jobs. A job of one item runs in the caller. */
void thread_pool_run(thread_pool *pool, uint32_t count, thread_pool_item run, void *ctx);

/* Cores that this process may use, at least 1. */
uint32_t thread_pool_cores(void);

#endif
