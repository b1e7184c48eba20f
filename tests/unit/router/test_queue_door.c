/* Goal: the queue is bounded in requests, bytes and tokens, no class can close it to another,
 * whoever cannot be in time is told so at once, and whoever is refused hears a limit, its value and
 * a time that has to do with how fast the queue moves. Method: each bound and each answer by
 * itself; random arrivals for what must hold at all times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tests/unit/router/queue_fixture.h"
#include "tests/unit/worker/engine/test_random.h"

static void reopen(uint32_t requests, uint64_t bytes, uint64_t tokens)
{
    fixture_close();
    fixture_open(&(queue_sum){requests, bytes, tokens});
}

static void assert_open(const queue_ask *ask, uint32_t displaced)
{
    uint32_t displace = 77;
    error err = {.retry_after_ms = 5};
    assert_int_equal(queue_check(fx.queue, ask, fx.now_ms, &displace, &err), ST_OK);
    assert_int_equal(displace, displaced);
}

/* Returns retry_after_ms. */
static uint32_t assert_refused(const queue_ask *ask, status st, const char *text)
{
    uint32_t displace = 77;
    error err = {.retry_after_ms = 5};
    assert_int_equal(queue_check(fx.queue, ask, fx.now_ms, &displace, &err), st);
    assert_int_equal(err.code, st);
    assert_int_equal(displace, 0);
    if (strstr(err.text, text) == NULL) fail_msg("'%s' is not in '%s'", text, err.text);
    assert_int_equal(queue_check(fx.queue, ask, fx.now_ms, &displace, NULL), st);
    return err.retry_after_ms;
}

/* -- bounds --------------------------------------------------------------------------------- */

static void test_requests_that_wait_are_bounded(void **state)
{
    (void)state;
    reopen(3, 1000, 1000);
    const queue_ask ask = {.model = model_name(0), .tokens = 1};
    for (int i = 0; i < 3; i++) {
        assert_open(&ask, 0);
        push(ask);
    }
    assert_true(assert_refused(&ask, ST_RESOURCE_EXHAUSTED,
                               "the queue is full: 3 requests wait, the limit is 3") > 0);
    /* What comes back from a lost worker was admitted before: it may exceed. */
    int lost = take();
    push(ask);
    settle(lost, 0);
    push_back(lost, 1);
    assert_int_equal(queue_waiting(fx.queue).requests, 4);
    take();
    assert_refused(&ask, ST_RESOURCE_EXHAUSTED, "3 requests");
    take();
    assert_open(&ask, 0);
}

static void test_new_limits_hold_for_those_who_come(void **state)
{
    (void)state;
    reopen(3, 1000, 1000);
    const queue_ask ask = {.model = model_name(0), .tokens = 1};
    for (int i = 0; i < 3; i++)
        push(ask);
    queue_set_limits(fx.queue, &(queue_sum){2, 1000, 1000});
    assert_int_equal(queue_waiting(fx.queue).requests, 3);
    take();
    assert_refused(&ask, ST_RESOURCE_EXHAUSTED, "2 requests wait, the limit is 2");
    queue_set_limits(fx.queue, &(queue_sum){4, 1000, 1000});
    assert_open(&ask, 0);
}

static void test_bytes_that_wait_are_bounded(void **state)
{
    (void)state;
    reopen(100, 1000, 100000);
    int first = push((queue_ask){.bytes = 600, .priority = 1});
    push((queue_ask){.bytes = 70, .priority = -1});
    push((queue_ask){.bytes = 70});
    assert_open(&(queue_ask){.model = model_name(0), .bytes = 260}, 0);
    assert_true(assert_refused(&(queue_ask){.model = model_name(0), .bytes = 331},
                               ST_RESOURCE_EXHAUSTED,
                               "740 bytes of prompts wait, the limit is 1000") > 0);
    remove_waiting(first);
    assert_open(&(queue_ask){.model = model_name(0), .bytes = 331}, 0);
}

static void test_tokens_that_wait_are_bounded(void **state)
{
    (void)state;
    reopen(100, 1000, 5000);
    push((queue_ask){.tokens = 1000, .priority = 1});
    push((queue_ask){.tokens = 1000});
    push((queue_ask){.tokens = 1000, .priority = -1});
    assert_open(&(queue_ask){.model = model_name(0), .tokens = 2000}, 0);
    assert_refused(&(queue_ask){.model = model_name(0), .tokens = 2001, .priority = -1},
                   ST_RESOURCE_EXHAUSTED, "3000 tokens of work wait, the limit is 5000");
}

static void test_what_never_fits_is_not_told_to_wait(void **state)
{
    (void)state;
    reopen(100, 1000, 5000);
    queue_ask ask = {.model = model_name(0), .bytes = 1001};
    assert_int_equal(assert_refused(&ask, ST_RESOURCE_EXHAUSTED,
                                    "1001 bytes; the limit of all that wait is 1000"),
                     0);
    ask = (queue_ask){.model = model_name(0), .tokens = 5001};
    assert_int_equal(assert_refused(&ask, ST_RESOURCE_EXHAUSTED,
                                    "5001 tokens; the limit of all that wait is 5000"),
                     0);
    /* The largest that fits comes into an empty queue, though some of it is kept for others. */
    ask = (queue_ask){.model = model_name(0), .bytes = 1000, .tokens = 5000};
    assert_open(&ask, 0);
}

static void test_no_class_closes_the_queue_to_another(void **state)
{
    (void)state;
    for (int32_t greedy = -1; greedy <= 1; greedy++) {
        reopen(160, UINT64_MAX / 2, UINT64_MAX / 2);
        queue_ask ask = {.model = model_name(0), .tokens = 1, .priority = greedy};
        for (int i = 0; i < 140; i++) {
            assert_open(&ask, 0);
            push(ask);
        }
        assert_refused(&ask, ST_RESOURCE_EXHAUSTED,
                       "140 requests wait, the limit is 160, of which 20 are kept for other");
        for (int32_t other = -1; other <= 1; other++) {
            if (other == greedy) continue;
            ask.priority = other;
            for (int i = 0; i < 10; i++) {
                assert_open(&ask, 0);
                push(ask);
            }
        }
        assert_int_equal(queue_waiting(fx.queue).requests, 160);
    }
}

/* -- displacing ----------------------------------------------------------------------------- */

static void test_others_displace_the_youngest_batch_request(void **state)
{
    (void)state;
    reopen(4, 1000, 100000);
    int batch[3];
    for (uint32_t i = 0; i < 3; i++)
        batch[i] = push((queue_ask){.model = model_name(i),
                                    .tenant = i,
                                    .tokens = 1,
                                    .priority = -1,
                                    .deadline_ms = 5000 - i});
    push((queue_ask){.tokens = 1, .priority = 1});
    assert_refused(&(queue_ask){.model = model_name(0), .tokens = 1, .priority = -1},
                   ST_RESOURCE_EXHAUSTED, "4 requests");
    const queue_ask urgent = {.model = model_name(0), .tokens = 1, .priority = 1};
    for (int i = 2; i >= 0; i--) {
        assert_open(&urgent, 1);
        const request *r = queue_displaced(fx.queue);
        assert_int_equal(r->number, batch[i]);
        remove_waiting((int)r->number);
        push(urgent);
    }
    assert_refused(&urgent, ST_RESOURCE_EXHAUSTED, "4 requests");
}

static void test_as_many_are_displaced_as_it_takes_and_no_more(void **state)
{
    (void)state;
    reopen(1000, 1600, 1u << 30);
    for (int i = 0; i < 16; i++)
        push((queue_ask){.bytes = 50, .tokens = 1, .priority = -1});
    push((queue_ask){.bytes = 800, .tokens = 1, .priority = 1});
    assert_open(&(queue_ask){.model = model_name(0), .bytes = 50}, 1);
    assert_open(&(queue_ask){.model = model_name(0), .bytes = 130}, 3);
    /* Batch keeps a sixteenth, and nobody goes for a request that would not get in all the same. */
    assert_open(&(queue_ask){.model = model_name(0), .bytes = 700}, 14);
    assert_refused(&(queue_ask){.model = model_name(0), .bytes = 701}, ST_RESOURCE_EXHAUSTED,
                   "1600 bytes of prompts wait, the limit is 1600");
    queue_ask small = {.model = model_name(0), .bytes = 1, .priority = -1};
    assert_refused(&small, ST_RESOURCE_EXHAUSTED, "1600 bytes");
}

static void test_who_came_back_is_not_displaced(void **state)
{
    (void)state;
    reopen(1, 1000, 1000);
    int lost = push((queue_ask){.tokens = 1, .priority = -1});
    take();
    settle(lost, 0);
    push_back(lost, 1);
    assert_refused(&(queue_ask){.model = model_name(0), .tokens = 1, .priority = 1},
                   ST_RESOURCE_EXHAUSTED, "1 requests");
}

/* An interactive flood for ever: a batch request that waits, and a few more, are let be. */
static void test_a_flood_does_not_drive_all_batch_out(void **state)
{
    (void)state;
    reopen(320, UINT64_MAX / 2, UINT64_MAX / 2);
    int oldest = push((queue_ask){.tokens = 10, .priority = -1});
    for (int i = 0; i < 3000; i++) {
        queue_ask ask = {.model = model_name(0), .tokens = 10, .priority = i % 4 == 0 ? -1 : 1};
        uint32_t displace;
        if (queue_check(fx.queue, &ask, fx.now_ms, &displace, NULL) != ST_OK) continue;
        for (; displace > 0; displace--)
            remove_waiting((int)queue_displaced(fx.queue)->number);
        push(ask);
        queue_verify(fx.queue);
    }
    assert_int_equal(queue_waiting_class(fx.queue, QUEUE_BATCH).requests, 20);
    assert_non_null(fx.places[oldest].entry);
    for (int i = 0;; i++) {
        assert_true(i <= 17); /* 160 interactive tokens and one request */
        int number = take();
        settle(number, 10);
        if (number == oldest) break;
    }
}

static void test_random_arrivals_stay_within_all_bounds(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        test_random random = {seed};
        const queue_sum limits = {random_between(&random, 1, 100), random_between(&random, 1, 5000),
                                  random_between(&random, 1, 50000)};
        reopen(limits.requests, limits.bytes, limits.tokens);
        for (int step = 0; step < 2000; step++) {
            queue_ask ask = {.model = model_name(random_below(&random, 3)),
                             .tenant = random_below(&random, 3),
                             .priority = (int32_t)random_below(&random, 3) - 1,
                             .bytes = random_below(&random, 200),
                             .tokens = random_below(&random, 2000)};
            uint32_t displace;
            if (queue_check(fx.queue, &ask, fx.now_ms, &displace, NULL) == ST_OK) {
                assert_true(displace <= LIMIT_QUEUE_DISPLACED);
                for (; displace > 0; displace--)
                    remove_waiting((int)queue_displaced(fx.queue)->number);
                push(ask);
            } else if (random_below(&random, 3) == 0) {
                int number = take();
                if (number != NOBODY) settle(number, 0);
            }
            queue_sum all = queue_waiting(fx.queue);
            assert_true(all.requests <= limits.requests && all.bytes <= limits.bytes);
            assert_true(all.tokens <= limits.tokens);
        }
        queue_verify(fx.queue);
    }
}

/* -- tenants -------------------------------------------------------------------------------- */

static void test_tenants_limits_refuse_at_the_door(void **state)
{
    (void)state;
    set_tenant(1, (tenant_limits){.queued = 2, .tokens_per_minute = 6000});
    queue_ask ask = {.model = model_name(0), .tenant = 1, .tokens = 2000};
    int first = push(ask), second = push(ask);
    uint32_t ms = assert_refused(&ask, ST_RESOURCE_EXHAUSTED,
                                 "2 requests of this tenant wait, its limit is 2");
    assert_in_range(ms, 100, 60000); /* by the queue */
    take();
    take();
    push(ask);
    assert_int_equal(assert_refused(&ask, ST_RESOURCE_EXHAUSTED,
                                    "this tenant's limit is 6000 tokens per minute"),
                     20000); /* by the bucket */
    settle(first, 500);
    assert_int_equal(assert_refused(&ask, ST_RESOURCE_EXHAUSTED, "6000"), 5000);
    settle(second, 1500);
    assert_open(&ask, 0);
    ask.tenant = 2;
    assert_open(&ask, 0);
    ask.tenant = TENANT_UNKNOWN;
    assert_open(&ask, 0);
}

/* -- deadlines ------------------------------------------------------------------------------ */

static queue_ask urgent_ask(uint64_t in_ms)
{
    return (queue_ask){
        .model = model_name(0), .tokens = 100, .deadline_ms = fx.now_ms + in_ms, .rate = 1000};
}

static void test_what_cannot_be_in_time_is_refused_at_once(void **state)
{
    (void)state;
    queue_ask ask = urgent_ask(1);
    assert_open(&ask, 0); /* nobody waits */
    for (int i = 0; i < 5; i++)
        push((queue_ask){.tokens = 1000, .deadline_ms = fx.now_ms + 500}); /* 5 s of work */
    for (int i = 0; i < 5; i++)
        push((queue_ask){.tokens = 1000, .deadline_ms = fx.now_ms + 60000}); /* can wait */
    ask = urgent_ask(4999);
    assert_int_equal(assert_refused(&ask, ST_DEADLINE_EXCEEDED,
                                    "in 4999 ms, and it would take "
                                    "about 5000 ms"),
                     0);
    ask = urgent_ask(5001);
    assert_open(&ask, 0);
    ask.service_ms = 2;
    assert_refused(&ask, ST_DEADLINE_EXCEEDED, "about 5002 ms");
    ask = urgent_ask(400); /* before them all */
    assert_open(&ask, 0);
    ask = urgent_ask(0);
    assert_refused(&ask, ST_DEADLINE_EXCEEDED, "in 0 ms");
    ask.deadline_ms = 1; /* it passed long ago */
    assert_refused(&ask, ST_DEADLINE_EXCEEDED, "in 0 ms");
    ask = urgent_ask(1);
    ask.model = model_name(1);
    assert_open(&ask, 0); /* the others want another model */
    ask = urgent_ask(4999);
    ask.rate = 0;
    assert_open(&ask, 0); /* nothing is known of the pace */
}

static void test_others_shares_count_as_far_as_they_have_work(void **state)
{
    (void)state;
    push((queue_ask){.tenant = 1, .tokens = 1000, .deadline_ms = fx.now_ms + 1});
    push((queue_ask){.tenant = 2, .tokens = 400});
    queue_ask ask = urgent_ask(1400);
    ask.tenant = 1;
    assert_refused(&ask, ST_DEADLINE_EXCEEDED, "about 1400 ms"); /* tenant 2 has no more */
    push((queue_ask){.tenant = 2, .tokens = 9000});
    assert_refused(&ask, ST_DEADLINE_EXCEEDED, "about 2000 ms"); /* half and half */
    push((queue_ask){.tenant = 3, .tokens = 90000, .priority = 1});
    assert_refused(&ask, ST_DEADLINE_EXCEEDED, "about 10000 ms"); /* a fifth of it */
    ask.priority = 1;
    assert_open(&ask, 0);
    int lost = push((queue_ask){.tenant = 4, .tokens = 30000, .priority = 1, .deadline_ms = 1});
    while (take() != lost)
        ;
    settle(lost, 0);
    push_back(lost, 30000);
    assert_refused(&ask, ST_DEADLINE_EXCEEDED, "in 1400 ms"); /* that one goes before its class */
}

static void test_the_measured_pace_serves_where_none_is_given(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++)
        push((queue_ask){.tokens = 100, .deadline_ms = fx.now_ms + 1});
    for (int i = 0; i < 100; i++) {
        fx.now_ms += 50; /* 2 tokens a millisecond */
        settle(take(), 100);
    }
    queue_ask ask = urgent_ask(9000);
    ask.rate = 0;
    assert_refused(&ask, ST_DEADLINE_EXCEEDED, "about 10000 ms");
    ask = urgent_ask(11000);
    ask.rate = 0;
    assert_open(&ask, 0);
}

/* max_tokens is seldom reached: what waits is less work than it says. */
static void test_what_requests_ask_for_is_not_what_they_take(void **state)
{
    (void)state;
    for (int i = 0; i < 2000; i++) {
        int number = push((queue_ask){.tokens = 4000});
        take();
        settle(number, 400);
    }
    for (int i = 0; i < 10; i++)
        push((queue_ask){.tokens = 4000, .deadline_ms = fx.now_ms + 1});
    queue_ask ask = urgent_ask(3900); /* they will take 4 s, and not 40 */
    assert_refused(&ask, ST_DEADLINE_EXCEEDED, "3900 ms");
    ask = urgent_ask(4100);
    assert_open(&ask, 0);
}

/* The workers' word and the measured pace: nobody is refused whom one of them lets in. */
static void test_the_more_hopeful_estimate_counts(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++)
        push((queue_ask){.tokens = 100, .deadline_ms = fx.now_ms + 1});
    for (int i = 0; i < 100; i++) {
        fx.now_ms += 50; /* 2 tokens a millisecond: 10 s for the rest */
        settle(take(), 100);
    }
    queue_ask ask = urgent_ask(11000); /* by its rate 20 s */
    assert_open(&ask, 0);
    ask = urgent_ask(5100);
    ask.rate = 4000; /* 5 s */
    assert_open(&ask, 0);
    ask.deadline_ms -= 200;
    assert_refused(&ask, ST_DEADLINE_EXCEEDED, "about 5000 ms");
}

/* -- when to come back ------------------------------------------------------------------------ */

static void test_retry_time_follows_the_pace(void **state)
{
    (void)state;
    const uint32_t intervals_ms[] = {1, 10, 100, 1000};
    uint32_t before_ms = 0;
    for (size_t i = 0; i < sizeof intervals_ms / sizeof *intervals_ms; i++) {
        reopen(1000, 1u << 30, 1u << 30);
        for (int n = 0; n < 800; n++)
            push((queue_ask){.tokens = 50});
        for (int n = 0; n < 1500; n++) {
            fx.now_ms += intervals_ms[i];
            settle(take(), 50);
            push((queue_ask){.tokens = 50});
        }
        uint32_t ms = queue_retry_ms(fx.queue, 50, fx.now_ms);
        uint32_t expected_ms = intervals_ms[i] * 101;
        if (expected_ms > 60000) expected_ms = 60000;
        assert_in_range(ms, expected_ms * 98 / 100, expected_ms * 102 / 100);
        assert_true(ms > before_ms);
        before_ms = ms;
    }
}

static void test_retry_time_is_bounded(void **state)
{
    (void)state;
    assert_in_range(queue_retry_ms(fx.queue, 0, fx.now_ms), 100, 60000);
    for (int i = 0; i < 2000; i++)
        push((queue_ask){.tokens = 1u << 20});
    assert_int_equal(queue_retry_ms(fx.queue, 1, fx.now_ms), 60000); /* nothing is known */
    for (int i = 0; i < 50; i++)
        settle(take(), 1); /* all at once */
    assert_in_range(queue_retry_ms(fx.queue, UINT32_MAX, fx.now_ms), 100, 60000);
    for (int i = 0; i < 50; i++) {
        fx.now_ms += 10000000;
        settle(take(), 1);
    }
    assert_int_equal(queue_retry_ms(fx.queue, 1, fx.now_ms), 60000);
}

/* A quiet night is not a slow queue. */
static void test_idle_time_does_not_count(void **state)
{
    (void)state;
    for (int night = 0; night < 10; night++) {
        fx.now_ms += 36000000;
        push((queue_ask){.tokens = 100});
        settle(take(), 100);
    }
    for (int i = 0; i < 108; i++)
        push((queue_ask){.tokens = 100});
    for (int i = 0; i < 100; i++) {
        fx.now_ms += 50;
        settle(take(), 100);
    }
    assert_in_range(queue_retry_ms(fx.queue, 100, fx.now_ms), 100, 150);
}

static void test_a_queue_that_stands_still_asks_for_more_patience(void **state)
{
    (void)state;
    for (int i = 0; i < 208; i++)
        push((queue_ask){.tokens = 100});
    for (int i = 0; i < 200; i++) {
        fx.now_ms += 50;
        settle(take(), 100);
    }
    assert_in_range(queue_retry_ms(fx.queue, 100, fx.now_ms), 100, 150);
    fx.now_ms += 7000; /* its workers are gone */
    assert_int_equal(queue_retry_ms(fx.queue, 100, fx.now_ms), 7000);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_requests_that_wait_are_bounded),
        CASE(test_new_limits_hold_for_those_who_come),
        CASE(test_bytes_that_wait_are_bounded),
        CASE(test_tokens_that_wait_are_bounded),
        CASE(test_what_never_fits_is_not_told_to_wait),
        CASE(test_no_class_closes_the_queue_to_another),
        CASE(test_others_displace_the_youngest_batch_request),
        CASE(test_as_many_are_displaced_as_it_takes_and_no_more),
        CASE(test_who_came_back_is_not_displaced),
        CASE(test_a_flood_does_not_drive_all_batch_out),
        CASE(test_random_arrivals_stay_within_all_bounds),
        CASE(test_tenants_limits_refuse_at_the_door),
        CASE(test_what_cannot_be_in_time_is_refused_at_once),
        CASE(test_others_shares_count_as_far_as_they_have_work),
        CASE(test_the_measured_pace_serves_where_none_is_given),
        CASE(test_what_requests_ask_for_is_not_what_they_take),
        CASE(test_the_more_hopeful_estimate_counts),
        CASE(test_retry_time_follows_the_pace),
        CASE(test_retry_time_is_bounded),
        CASE(test_idle_time_does_not_count),
        CASE(test_a_queue_that_stands_still_asks_for_more_patience),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
