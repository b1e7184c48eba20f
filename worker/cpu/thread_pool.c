/* The caller publishes a job, everyone claims items, the caller waits until all are done.
 *
 *   ticket   job number (32 bits) | items not claimed yet (32 bits)
 *   done     items of this job that are finished
 *
 * 1. A thread claims an item by moving the ticket from (job, left) to (job, left - 1) with one
 *    compare-exchange. It reads the job's fields only afterwards: they stay as they are until the
 *    item it now holds is done.
 * 2. The fields are rewritten only when all items of the last job are done, and no item of it is
 *    left to claim.
 * 3. Nobody is waited for but those who hold an item: a thread that sleeps, or that the system
 *    took the core from, joins when it can. On a crowded machine the caller may do it all.
 *
 * A forward pass is some hundred jobs within milliseconds, so a thread without work spins for a
 * while before it sleeps: waking one costs as much as a small job. */
#include "worker/cpu/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/mem.h"

/* About 50 us: longer than the serial parts between two jobs of a step, short beside a step. */
#define SPINS 1000u

typedef struct pool_thread {
    thread_pool *pool;
    pthread_t handle;
    uint32_t index;
} pool_thread;

struct thread_pool {
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) _Atomic uint32_t done;
    _Alignas(64) thread_pool_item run; /* the job */
    void *ctx;
    uint32_t count;

    _Atomic uint32_t sleepers;  /* threads in, or about to enter, has_job */
    _Atomic bool caller_sleeps; /* the same for is_done */
    _Atomic bool stopping;
    pthread_mutex_t lock; /* guards the two conditions only */
    pthread_cond_t has_job, is_done;

    uint32_t size;
    uint32_t started;
    pool_thread *threads; /* [size - 1] */
};

static void pause_briefly(void)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint32_t items_left(uint64_t ticket)
{
    return (uint32_t)ticket;
}

/* Claim and run one item. False: none was left in the ticket *seen. */
static bool run_item(thread_pool *pool, uint32_t thread, uint64_t *seen)
{
    uint64_t ticket = atomic_load(&pool->ticket);
    do {
        if (items_left(ticket) == 0) {
            *seen = ticket;
            return false;
        }
    } while (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket - 1));

    uint32_t count = pool->count;
    pool->run(pool->ctx, count - items_left(ticket), thread);
    /* The order of these two and of the caller's two is sequentially consistent: either the caller
     * sees the last item done, or this thread sees that the caller must be woken. */
    if (atomic_fetch_add(&pool->done, 1) + 1 == count && atomic_load(&pool->caller_sleeps)) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_signal(&pool->is_done);
        pthread_mutex_unlock(&pool->lock);
    }
    return true;
}

static void wait_for_job(thread_pool *pool, uint64_t seen)
{
    for (uint32_t i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&pool->ticket, memory_order_relaxed) != seen) return;
        pause_briefly();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->ticket) == seen && !atomic_load(&pool->stopping))
        pthread_cond_wait(&pool->has_job, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void *thread_main(void *argument)
{
    pool_thread *self = argument;
    uint64_t seen;
    while (!atomic_load(&self->pool->stopping))
        if (!run_item(self->pool, self->index, &seen)) wait_for_job(self->pool, seen);
    return NULL;
}

static void wake_threads(thread_pool *pool)
{
    if (atomic_load(&pool->sleepers) == 0) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->has_job);
    pthread_mutex_unlock(&pool->lock);
}

static void wait_until_done(thread_pool *pool, uint32_t count)
{
    for (uint32_t i = 0; i < SPINS; i++) {
        if (atomic_load(&pool->done) == count) return;
        pause_briefly();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->caller_sleeps, true);
    while (atomic_load(&pool->done) != count)
        pthread_cond_wait(&pool->is_done, &pool->lock);
    atomic_store(&pool->caller_sleeps, false);
    pthread_mutex_unlock(&pool->lock);
}

void thread_pool_run(thread_pool *pool, uint32_t count, thread_pool_item run, void *ctx)
{
    if (count <= 1 || pool->size == 1) {
        for (uint32_t i = 0; i < count; i++)
            run(ctx, i, 0);
        return;
    }
    pool->run = run;
    pool->ctx = ctx;
    pool->count = count;
    atomic_store(&pool->done, 0);
    uint64_t job = (atomic_load(&pool->ticket) >> 32) + 1;
    atomic_store(&pool->ticket, job << 32 | count);
    wake_threads(pool);

    uint64_t seen;
    while (run_item(pool, 0, &seen)) {
    }
    wait_until_done(pool, count);
}

static status start_threads(thread_pool *pool, error *err)
{
    /* Signals are for the thread that runs the loop, never for these. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    status st = ST_OK;
    for (uint32_t i = 0; i + 1 < pool->size && st == ST_OK; i++) {
        pool_thread *t = &pool->threads[i];
        t->pool = pool;
        t->index = i + 1;
        int rc = pthread_create(&t->handle, NULL, thread_main, t);
        if (rc == 0)
            pool->started++;
        else
            st = error_set(err, ST_RESOURCE_EXHAUSTED, "thread %u of %u could not be started: %s",
                           i + 2, pool->size, strerror(rc));
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return st;
}

status thread_pool_create(thread_pool **out, uint32_t threads, error *err)
{
    CHECK(threads >= 1 && threads <= THREAD_POOL_THREADS_MAX);
    thread_pool *pool = mem_try_alloc_aligned(_Alignof(thread_pool), sizeof *pool);
    if (pool == NULL) return error_set(err, ST_RESOURCE_EXHAUSTED, "no memory for a thread pool");
    pool->size = threads;
    pool->threads = mem_calloc(threads, sizeof *pool->threads);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->has_job, NULL);
    pthread_cond_init(&pool->is_done, NULL);
    status st = start_threads(pool, err);
    if (st != ST_OK) {
        thread_pool_destroy(pool);
        return st;
    }
    *out = pool;
    return ST_OK;
}

void thread_pool_destroy(thread_pool *pool)
{
    if (pool == NULL) return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->stopping, true);
    pthread_cond_broadcast(&pool->has_job);
    pthread_mutex_unlock(&pool->lock);
    /* Those that spin see no new ticket, run out of spins and find the flag. */
    for (uint32_t i = 0; i < pool->started; i++)
        pthread_join(pool->threads[i].handle, NULL);
    pthread_cond_destroy(&pool->is_done);
    pthread_cond_destroy(&pool->has_job);
    pthread_mutex_destroy(&pool->lock);
    mem_free(pool->threads);
    mem_free(pool);
}

uint32_t thread_pool_size(const thread_pool *pool)
{
    return pool->size;
}

uint32_t thread_pool_cores(void)
{
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) != 0) return 1;
    int count = CPU_COUNT(&cores);
    return count < 1 ? 1 : (uint32_t)count;
}
