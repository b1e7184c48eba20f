/* Goal: every item runs exactly once, and all are done when the call returns, however many threads
 * and however small the jobs. Method: many jobs of random size; each item marks its place. Run it
 * under the thread sanitizer, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "tests/unit/worker/engine/test_random.h"
#include "worker/cpu/thread_pool.h"

#define ITEMS_MAX 300u

typedef struct marks {
    uint32_t threads;
    uint8_t runs[ITEMS_MAX];
    _Atomic bool busy[16]; /* by thread: two items never share one */
    _Atomic uint32_t wrong;
} marks;

static void mark(void *ctx, uint32_t item, uint32_t thread)
{
    marks *m = ctx;
    if (item >= ITEMS_MAX || thread >= m->threads || atomic_exchange(&m->busy[thread], true)) {
        atomic_fetch_add(&m->wrong, 1);
        return;
    }
    m->runs[item]++;
    atomic_store(&m->busy[thread], false);
}

static void check_pool(uint32_t threads, uint32_t jobs)
{
    thread_pool *pool;
    error err = {0};
    assert_int_equal(thread_pool_create(&pool, threads, &err), ST_OK);
    assert_int_equal(thread_pool_size(pool), threads);
    marks *m = mem_calloc(1, sizeof *m);
    m->threads = threads;
    test_random random = {threads};
    for (uint32_t job = 0; job < jobs; job++) {
        uint32_t count = job % 5 == 0 ? random_below(&random, 3) : random_below(&random, ITEMS_MAX);
        memset(m->runs, 0, sizeof m->runs);
        thread_pool_run(pool, count, mark, m);
        for (uint32_t i = 0; i < ITEMS_MAX; i++)
            assert_int_equal(m->runs[i], i < count ? 1 : 0);
    }
    assert_int_equal(atomic_load(&m->wrong), 0);
    thread_pool_destroy(pool);
    mem_free(m);
}

static void test_every_item_runs_exactly_once(void **state)
{
    (void)state;
    static const uint32_t threads[] = {1, 2, 3, 8, 16};
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++)
        check_pool(threads[i], 3000);
}

static void test_a_pool_that_never_ran_can_be_destroyed(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 50; i++)
        check_pool(1 + i % 4, i % 2);
    thread_pool_destroy(NULL);
}

/* A long and a short item: the thread with the short one sleeps while the caller is still at work,
 * and the other way round; both must be woken. */
static void spin_item(void *ctx, uint32_t item, uint32_t thread)
{
    (void)thread;
    volatile uint32_t *sink = ctx;
    uint32_t rounds = item == 0 ? 2000000u : 10u;
    for (uint32_t i = 0; i < rounds; i++)
        sink[item]++;
}

static void test_sleepers_are_woken(void **state)
{
    (void)state;
    thread_pool *pool;
    error err = {0};
    assert_int_equal(thread_pool_create(&pool, 3, &err), ST_OK);
    uint32_t *sums = mem_calloc(8, sizeof *sums);
    for (uint32_t job = 1; job <= 30; job++) {
        thread_pool_run(pool, 8, spin_item, sums);
        assert_int_equal(sums[0], job * 2000000u);
        assert_int_equal(sums[7], job * 10u);
    }
    thread_pool_destroy(pool);
    mem_free(sums);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_item_runs_exactly_once),
        cmocka_unit_test(test_a_pool_that_never_ran_can_be_destroyed),
        cmocka_unit_test(test_sleepers_are_woken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
