/* Goal: a tenant gets what its limits say and no more: at any time no more than one minute's worth
 * beyond its rate, and whoever is told a time to come back is let in then.
 * Method: each limit by itself; random histories beside a bucket in plain floating point. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "router/tenant.h"
#include "tests/unit/worker/engine/test_random.h"

enum { WHO = 7 };

static tenant_table *table;

static int setup(void **state)
{
    (void)state;
    table = tenant_table_create();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tenant_table_destroy(table);
    return 0;
}

static void limit(tenant_limits limits, uint64_t now_ms)
{
    if (limits.weight == 0) limits.weight = LIMIT_TENANT_WEIGHT_DEFAULT;
    tenant_set_limits(table, WHO, &limits, now_ms);
}

static uint32_t refused_ms(uint32_t tokens, uint64_t now_ms, const char *text)
{
    error err = {0};
    assert_int_equal(tenant_check(table, WHO, tokens, now_ms, &err), ST_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(err.text, text));
    assert_int_equal(tenant_check(table, WHO, tokens, now_ms, NULL), ST_RESOURCE_EXHAUSTED);
    return err.retry_after_ms;
}

static void admitted(uint32_t tokens, uint64_t now_ms)
{
    assert_int_equal(tenant_check(table, WHO, tokens, now_ms, NULL), ST_OK);
    tenant_enter(table, WHO, tokens, false, now_ms);
}

static void test_unknown_tenants_have_no_limits(void **state)
{
    (void)state;
    const uint32_t numbers[] = {0, 1, LIMIT_TENANT_NUMBERS - 1, TENANT_UNKNOWN};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        for (int n = 0; n < 10000; n++) {
            assert_int_equal(tenant_check(table, numbers[i], UINT32_MAX, 5, NULL), ST_OK);
            assert_true(tenant_may_run(table, numbers[i], false));
            tenant_enter(table, numbers[i], UINT32_MAX, false, 5);
            if (n % 2 == 0) tenant_start(table, numbers[i], false);
        }
        assert_int_equal(tenant_queued(table, numbers[i]), 5000);
        assert_int_equal(tenant_running(table, numbers[i]), 5000);
        assert_int_equal(tenant_weight(table, numbers[i]), LIMIT_TENANT_WEIGHT_DEFAULT);
        assert_int_equal(tenant_class_max(table, numbers[i]), 1);
    }
    assert_int_equal(tenant_queued(table, 2), 0); /* nobody is anybody else */
}

static void test_requests_that_wait_are_bounded(void **state)
{
    (void)state;
    limit((tenant_limits){.queued = 2}, 0);
    admitted(1, 0);
    admitted(1, 0);
    assert_int_equal(refused_ms(1, 0, "2 requests of this tenant wait, its limit is 2"), 0);
    tenant_start(table, WHO, false);
    admitted(1, 0);
    refused_ms(1, 0, "limit is 2");
    tenant_leave(table, WHO, 1, false, 0);
    admitted(1, 0);
}

static void test_requests_that_run_are_bounded(void **state)
{
    (void)state;
    limit((tenant_limits){.concurrent = 2}, 0);
    for (int i = 0; i < 3; i++)
        admitted(1, 0);
    for (int i = 0; i < 2; i++) {
        assert_true(tenant_may_run(table, WHO, false));
        tenant_start(table, WHO, false);
    }
    assert_false(tenant_may_run(table, WHO, false));
    tenant_end(table, WHO, 1, 1, 0);
    assert_true(tenant_may_run(table, WHO, false));
}

static void test_requests_per_minute(void **state)
{
    (void)state;
    limit((tenant_limits){.requests_per_minute = 60}, 1000);
    for (int i = 0; i < 60; i++)
        admitted(1000000, 1000);
    uint32_t ms = refused_ms(1, 1000, "limit is 60 requests per minute");
    assert_int_equal(ms, 1000);
    assert_int_equal(refused_ms(1, 1999, "60"), 1);
    admitted(1, 2000);
    refused_ms(1, 2000, "60");
    /* A night fills it, and no more. */
    for (int i = 0; i < 60; i++)
        admitted(1, 40000000);
    refused_ms(1, 40000000, "60");
}

static void test_tokens_per_minute(void **state)
{
    (void)state;
    limit((tenant_limits){.tokens_per_minute = 6000}, 0);
    admitted(4000, 0);
    admitted(2000, 0);
    assert_int_equal(refused_ms(100, 0, "limit is 6000 tokens per minute; this one counts 100"),
                     1000);
    admitted(100, 1000);
    /* More than a minute's worth goes when the bucket is full, and is paid for after that. */
    assert_int_equal(refused_ms(18000, 1000, "6000"), 60000);
    admitted(18000, 61000);
    assert_int_equal(refused_ms(1, 61000, "6000"), 120010);
    admitted(1, 61000 + 120010);
}

static void test_a_bucket_is_full_when_it_is_and_holds_no_more(void **state)
{
    (void)state;
    limit((tenant_limits){.tokens_per_minute = 7000}, 0);
    admitted(1, 0); /* 8.57 ms */
    assert_int_equal(refused_ms(7000, 0, "7000"), 9);
    assert_int_equal(refused_ms(7000, 8, "7000"), 1);
    admitted(7000, 9);
    tenant_start(table, WHO, false);
    tenant_end(table, WHO, 7000, 0, 100000); /* after it was full again */
    admitted(7000, 100000);
    refused_ms(1, 100000, "7000");
}

static void test_what_it_did_cost_is_put_right(void **state)
{
    (void)state;
    limit((tenant_limits){.tokens_per_minute = 6000}, 0);
    admitted(6000, 0);
    tenant_start(table, WHO, false);
    tenant_end(table, WHO, 6000, 1000, 0); /* a short answer */
    admitted(5000, 0);
    tenant_leave(table, WHO, 5000, false, 0); /* never sent */
    admitted(5000, 0);
    tenant_start(table, WHO, false);
    tenant_end(table, WHO, 5000, 8000, 0); /* a long one */
    assert_int_equal(refused_ms(100, 0, "6000"), 31000);
}

static void test_coming_back_is_no_new_request(void **state)
{
    (void)state;
    limit((tenant_limits){.requests_per_minute = 1, .tokens_per_minute = 1000}, 0);
    admitted(500, 0);
    tenant_start(table, WHO, false);
    tenant_end(table, WHO, 500, 100, 0); /* its worker was lost */
    tenant_enter(table, WHO, 400, true, 0);
    tenant_start(table, WHO, true);
    tenant_end(table, WHO, 400, 400, 0);
    refused_ms(1, 0, "1 requests per minute");
    admitted(1, 60000);
    /* 500 of 1000 were taken, and a minute fills it. */
    assert_int_equal(tenant_check(table, WHO, 999, 120000, NULL), ST_OK);
}

static void test_new_limits_keep_what_was_taken(void **state)
{
    (void)state;
    limit((tenant_limits){.requests_per_minute = 60}, 0);
    for (int i = 0; i < 60; i++)
        admitted(1, 0);
    limit((tenant_limits){.requests_per_minute = 6, .weight = 5, .class_max = -1}, 0);
    assert_int_equal(refused_ms(1, 0, "6 requests"), 10000);
    assert_int_equal(tenant_weight(table, WHO), 5);
    assert_int_equal(tenant_class_max(table, WHO), -1);
    limit((tenant_limits){0}, 0);
    admitted(1, 0);
    /* A limit where there was none begins with a full bucket; a smaller one is full with less. */
    limit((tenant_limits){.requests_per_minute = 6}, 0);
    limit((tenant_limits){.requests_per_minute = 2}, 0);
    admitted(1, 0);
    admitted(1, 0);
    refused_ms(1, 0, "2 requests");
}

static void test_enormous_rates_do_not_overflow(void **state)
{
    (void)state;
    limit((tenant_limits){.tokens_per_minute = UINT64_MAX, .requests_per_minute = UINT32_MAX}, 0);
    admitted(UINT32_MAX, 0);
    admitted(UINT32_MAX, UINT64_MAX / 2);
    limit((tenant_limits){.tokens_per_minute = UINT64_C(1) << 40}, 5);
    for (int i = 0; i < 256; i++)
        admitted(UINT32_MAX, 5);
    limit((tenant_limits){.tokens_per_minute = 1}, 5);
    admitted(0, 5);
    for (int i = 0; i < 1000; i++) {
        tenant_enter(table, WHO, UINT32_MAX, true, 5);
        tenant_leave(table, WHO, 0, true, 5);
    }
    /* Nobody is shut out for ever. */
    assert_in_range(refused_ms(1, 5, "1 tokens"), 3600000, 3660000);
}

static void test_random_histories_agree_with_a_bucket_in_floating_point(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        test_random random = {seed};
        teardown(NULL);
        setup(NULL);
        double rate = random_between(&random, 10, 100000);
        uint64_t now_ms = random_below(&random, 100000);
        limit((tenant_limits){.tokens_per_minute = (uint64_t)rate}, now_ms);
        double level = rate, taken = 0;
        const uint64_t start_ms = now_ms;
        uint32_t running = 0;
        for (int step = 0; step < 2000; step++) {
            uint64_t pass_ms = random_below(&random, 500);
            now_ms += pass_ms;
            level += rate * (double)pass_ms / 60000;
            if (level > rate) level = rate;
            uint32_t tokens = random_between(&random, 1, (uint32_t)rate / 4 + 1);
            error err = {0};
            status st = tenant_check(table, WHO, tokens, now_ms, &err);
            if (level > tokens + 0.01) assert_int_equal(st, ST_OK);
            if (level < tokens - 0.01) assert_int_equal(st, ST_RESOURCE_EXHAUSTED);
            if (st != ST_OK) {
                /* The time it was told is the first at which it may. */
                uint64_t then_ms = now_ms + err.retry_after_ms;
                assert_int_equal(tenant_check(table, WHO, tokens, then_ms, NULL), ST_OK);
                assert_int_equal(tenant_check(table, WHO, tokens, then_ms - 1, NULL),
                                 ST_RESOURCE_EXHAUSTED);
                continue;
            }
            tenant_enter(table, WHO, tokens, false, now_ms);
            tenant_start(table, WHO, false);
            running++;
            level -= tokens;
            taken += tokens;
            if (random_below(&random, 2) == 0) {
                uint32_t actual = random_below(&random, 2 * tokens);
                tenant_end(table, WHO, tokens, actual, now_ms);
                running--;
                level += (double)tokens - actual;
                taken += (double)actual - tokens;
                if (level > rate) level = rate;
            }
            assert_int_equal(tenant_running(table, WHO), running);
            /* One minute's worth, and what the corrections overdrew it by. */
            double allowed = rate * (1 + (double)(now_ms - start_ms) / 60000);
            assert_true(taken <= allowed + rate / 2 + 2);
        }
    }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_unknown_tenants_have_no_limits),
        CASE(test_requests_that_wait_are_bounded),
        CASE(test_requests_that_run_are_bounded),
        CASE(test_requests_per_minute),
        CASE(test_tokens_per_minute),
        CASE(test_a_bucket_is_full_when_it_is_and_holds_no_more),
        CASE(test_what_it_did_cost_is_put_right),
        CASE(test_coming_back_is_no_new_request),
        CASE(test_new_limits_keep_what_was_taken),
        CASE(test_enormous_rates_do_not_overflow),
        CASE(test_random_histories_agree_with_a_bucket_in_floating_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
