/* The router's core against model clients and workers (cluster_model.h): thousands of random steps
 * for each kind of trouble. What a run checks: every token once, in order and its own; every
 * request ends exactly once; nothing is left in any table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/router/cluster_model.h"

enum { SEEDS = 40, STEPS_MAX = 3000000 };

static void run_seeds(cluster_options options, uint32_t seeds)
{
    for (uint32_t seed = 1; seed <= seeds; seed++) {
        options.seed = seed;
        printf("seed %u\r", seed);
        fflush(stdout);
        cluster_run(&options, STEPS_MAX);
    }
}

static void test_undisturbed_requests_complete(void **state)
{
    (void)state;
    cluster_totals before = cluster_sum;
    run_seeds((cluster_options){.clients = 3, .workers = 2, .requests = 60}, SEEDS);
    assert_int_equal(cluster_sum.completed - before.completed, 60 * SEEDS);
}

static void test_cut_links_lose_nothing(void **state)
{
    (void)state;
    cluster_totals before = cluster_sum;
    run_seeds((cluster_options){.clients = 3, .workers = 2, .requests = 60, .cut_links = true},
              SEEDS);
    assert_int_equal(cluster_sum.completed - before.completed +
                         (cluster_sum.unavailable - before.unavailable),
                     60 * SEEDS);
    assert_true(cluster_sum.cuts > before.cuts);
    assert_int_equal(cluster_sum.unavailable, before.unavailable);
}

static void test_router_restarts_lose_nothing(void **state)
{
    (void)state;
    cluster_totals before = cluster_sum;
    run_seeds(
        (cluster_options){
            .clients = 3, .workers = 2, .requests = 60, .cut_links = true, .restart_router = true},
        SEEDS);
    assert_int_equal(cluster_sum.completed - before.completed, 60 * SEEDS);
    assert_true(cluster_sum.resumes > before.resumes);
}

static void test_worker_restarts_end_or_move_requests(void **state)
{
    (void)state;
    cluster_totals before = cluster_sum;
    run_seeds((cluster_options){.clients = 3,
                                .workers = 3,
                                .requests = 60,
                                .cut_links = true,
                                .restart_router = true,
                                .restart_workers = true},
              SEEDS);
    assert_int_equal(cluster_sum.completed - before.completed +
                         (cluster_sum.unavailable - before.unavailable),
                     60 * SEEDS);
    assert_true(cluster_sum.unavailable > before.unavailable);
}

static void test_cancels_and_stalls_free_everything(void **state)
{
    (void)state;
    cluster_totals before = cluster_sum;
    run_seeds((cluster_options){.clients = 3,
                                .workers = 2,
                                .requests = 60,
                                .cut_links = true,
                                .restart_router = true,
                                .restart_workers = true,
                                .cancel = true,
                                .stall = true},
              SEEDS);
    assert_true(cluster_sum.cancelled > before.cancelled);
    assert_true(cluster_sum.stalled > before.stalled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_undisturbed_requests_complete),
        cmocka_unit_test(test_cut_links_lose_nothing),
        cmocka_unit_test(test_router_restarts_lose_nothing),
        cmocka_unit_test(test_worker_restarts_end_or_move_requests),
        cmocka_unit_test(test_cancels_and_stalls_free_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
