/* Goal: a breaker opens for a worker's own faults and for nothing else, lets exactly one request
 * through when it tries again, and goes by that one's end alone.
 * Method: each rule by itself; then random requests, ends and times beside a model that keeps the
 * whole history and works every answer out anew from it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/breaker.h"
#include "tests/unit/worker/engine/test_random.h"

/* One request that was sent and has ended. */
static void run(breaker *b, breaker_outcome outcome, uint64_t now_ms)
{
    assert_true(breaker_allows(b, now_ms));
    breaker_sent(b, 9, now_ms);
    breaker_heard(b, 9, outcome, now_ms);
}

static breaker opened_at(uint64_t now_ms)
{
    breaker b = {0};
    for (uint32_t i = 0; i < BREAKER_TRIP / BREAKER_FAULT; i++)
        run(&b, BREAKER_WORKER_FAULT, now_ms);
    assert_int_equal(b.state, BREAKER_OPEN);
    return b;
}

static void test_three_faults_in_a_row_open_it(void **state)
{
    (void)state;
    breaker b = {0};
    run(&b, BREAKER_WORKER_FAULT, 100);
    run(&b, BREAKER_WORKER_FAULT, 100);
    assert_true(breaker_allows(&b, 100));
    run(&b, BREAKER_WORKER_FAULT, 100);
    assert_false(breaker_allows(&b, 100));
    assert_false(breaker_allows(&b, 100 + BREAKER_OPEN_MS_FIRST - 1));
    assert_true(breaker_allows(&b, 100 + BREAKER_OPEN_MS_FIRST));
}

/* 400s open no breaker, and 503s neither: a busy worker is alive. */
static void test_only_the_workers_faults_count(void **state)
{
    (void)state;
    breaker b = {0};
    for (int i = 0; i < 10000; i++) {
        run(&b, BREAKER_BUSY, 5);
        run(&b, BREAKER_CLIENT_FAULT, 5);
        run(&b, BREAKER_OK, 5);
    }
    assert_int_equal(b.faults, 0);
    /* Nor do they make up for faults. */
    run(&b, BREAKER_WORKER_FAULT, 5);
    run(&b, BREAKER_WORKER_FAULT, 5);
    run(&b, BREAKER_BUSY, 5);
    run(&b, BREAKER_CLIENT_FAULT, 5);
    run(&b, BREAKER_WORKER_FAULT, 5);
    assert_false(breaker_allows(&b, 5));
}

static void test_one_fault_in_ten_is_borne_and_one_in_three_is_not(void **state)
{
    (void)state;
    breaker b = {0};
    for (int i = 0; i < 10000; i++)
        run(&b, i % 10 == 0 ? BREAKER_WORKER_FAULT : BREAKER_OK, 5);
    assert_int_equal(b.state, BREAKER_CLOSED);
    int i = 0;
    for (; i < 100 && b.state == BREAKER_CLOSED; i++)
        run(&b, i % 3 == 0 ? BREAKER_WORKER_FAULT : BREAKER_OK, 5);
    assert_in_range(i, 5, 25);
}

static void test_streams_that_die_with_their_worker_open_it(void **state)
{
    (void)state;
    breaker b = {0};
    for (uint32_t i = 0; i < 20; i++)
        breaker_sent(&b, i, 5);
    for (uint32_t i = 0; i < 20; i++)
        breaker_heard(&b, i, BREAKER_WORKER_FAULT, 50);
    assert_false(breaker_allows(&b, 50));
    assert_int_equal(b.open_ms, BREAKER_OPEN_MS_FIRST); /* one opening, not seventeen */
}

static void test_exactly_one_probe_goes(void **state)
{
    (void)state;
    breaker b = opened_at(0);
    breaker_sent(&b, 1, 1000);
    for (uint64_t now_ms = 1000; now_ms < 10000000; now_ms += 99999)
        assert_false(breaker_allows(&b, now_ms));
    breaker_heard(&b, 1, BREAKER_OK, 10000000);
    assert_true(breaker_allows(&b, 10000000));
    assert_int_equal(b.state, BREAKER_CLOSED);
}

static void test_a_probe_that_fails_opens_it_for_twice_as_long(void **state)
{
    (void)state;
    breaker b = opened_at(0);
    uint64_t now_ms = 0;
    for (uint64_t open_ms = BREAKER_OPEN_MS_FIRST; open_ms < 1u << 20; open_ms *= 2) {
        uint64_t expected_ms = open_ms < BREAKER_OPEN_MS_MAX ? open_ms : BREAKER_OPEN_MS_MAX;
        assert_false(breaker_allows(&b, now_ms + expected_ms - 1));
        now_ms += expected_ms;
        assert_true(breaker_allows(&b, now_ms));
        run(&b, BREAKER_WORKER_FAULT, now_ms);
    }
}

static void test_a_probe_without_verdict_lets_another_go_at_once(void **state)
{
    (void)state;
    const breaker_outcome none[] = {BREAKER_CLIENT_FAULT, BREAKER_BUSY};
    for (int i = 0; i < 2; i++) {
        breaker b = opened_at(0);
        breaker_sent(&b, 1, 1000);
        assert_false(breaker_allows(&b, 1001));
        breaker_heard(&b, 1, none[i], 1001);
        assert_true(breaker_allows(&b, 1001));
        breaker_sent(&b, 2, 1001);
        assert_false(breaker_allows(&b, 1002)); /* again only one */
        breaker_heard(&b, 2, BREAKER_WORKER_FAULT, 1002);
        assert_false(breaker_allows(&b, 1002 + 2 * BREAKER_OPEN_MS_FIRST - 1));
    }
}

/* Requests from before the opening end while it is open or probed: a success must not close it, a
 * fault must not fail the probe. */
static void test_ends_of_earlier_requests_do_not_decide(void **state)
{
    (void)state;
    breaker b = {0};
    for (uint32_t i = 1; i <= 3; i++)
        breaker_sent(&b, i, 0);
    for (int i = 0; i < 3; i++)
        run(&b, BREAKER_WORKER_FAULT, 0);
    breaker_heard(&b, 1, BREAKER_OK, 10);
    assert_int_equal(b.state, BREAKER_OPEN);
    breaker_sent(&b, 50, 1000);
    breaker_heard(&b, 2, BREAKER_WORKER_FAULT, 1001);
    breaker_heard(&b, 3, BREAKER_OK, 1001);
    assert_int_equal(b.state, BREAKER_PROBING);
    breaker_heard(&b, 50, BREAKER_OK, 1002);
    assert_int_equal(b.state, BREAKER_CLOSED);
}

static void test_a_worker_that_was_well_for_long_starts_anew(void **state)
{
    (void)state;
    breaker b = opened_at(0);
    run(&b, BREAKER_WORKER_FAULT, 1000); /* the probe: now 2 s */
    run(&b, BREAKER_OK, 3000);
    uint64_t soon_ms = 3000 + BREAKER_OPEN_MS_MAX - 1, later_ms = soon_ms + 1;
    breaker flapping = b, well = b;
    for (int i = 0; i < 3; i++) {
        run(&flapping, BREAKER_WORKER_FAULT, soon_ms);
        run(&well, BREAKER_WORKER_FAULT, later_ms);
    }
    assert_int_equal(flapping.open_ms, 4 * BREAKER_OPEN_MS_FIRST);
    assert_int_equal(well.open_ms, BREAKER_OPEN_MS_FIRST);
}

/* -- the model: everything that happened, and what follows from it ---------------------------- */

typedef struct event {
    uint64_t now_ms;
    uint32_t number;
    bool sent; /* or heard */
    breaker_outcome outcome;
} event;

/* Read the history from its beginning: is a request allowed at now_ms? */
static bool model_allows(const event *history, int count, uint64_t now_ms)
{
    bool is_open = false, has_probe = false;
    uint32_t probe = 0;
    int weight = 0;
    uint64_t opened_ms = 0, closed_ms = 0, open_ms = 0;
    for (int i = 0; i < count; i++) {
        const event *e = &history[i];
        if (e->sent) {
            has_probe = is_open;
            probe = e->number;
            continue;
        }
        bool fault = e->outcome == BREAKER_WORKER_FAULT, ok = e->outcome == BREAKER_OK;
        bool opens = false;
        if (is_open) {
            if (!has_probe || probe != e->number) continue;
            has_probe = false;
            opens = fault;
            if (ok) {
                is_open = false;
                closed_ms = e->now_ms;
                weight = 0;
            }
        } else {
            weight += fault ? 4 : ok && weight > 0 ? -1 : 0;
            opens = weight >= 12;
        }
        if (!opens) continue;
        bool anew = open_ms == 0 || (!is_open && e->now_ms - closed_ms >= 60000);
        open_ms = anew ? 1000 : open_ms * 2 > 60000 ? 60000 : open_ms * 2;
        is_open = true;
        opened_ms = e->now_ms;
    }
    return !is_open || (!has_probe && now_ms - opened_ms >= open_ms);
}

static void test_random_histories_agree_with_the_model(void **state)
{
    (void)state;
    enum { STEPS = 400, SLOTS = 8 };
    for (uint64_t seed = 1; seed <= 200; seed++) {
        test_random random = {seed};
        breaker b = {0};
        event history[STEPS];
        bool running[SLOTS] = {false};
        uint32_t odds[4];
        for (int i = 0; i < 4; i++)
            odds[i] = random_between(&random, 1, 10);
        int count = 0;
        uint64_t now_ms = random_below(&random, 2) == 0 ? 0 : 100000;
        for (int step = 0; step < STEPS; step++) {
            now_ms += random_below(&random, 4) == 0 ? random_below(&random, 20000)
                                                    : random_below(&random, 50);
            assert_int_equal(breaker_allows(&b, now_ms), model_allows(history, count, now_ms));
            uint32_t slot = random_below(&random, SLOTS);
            if (!running[slot]) {
                if (!breaker_allows(&b, now_ms)) continue;
                breaker_sent(&b, slot, now_ms);
                history[count++] = (event){.now_ms = now_ms, .number = slot, .sent = true};
            } else {
                uint32_t roll = random_below(&random, odds[0] + odds[1] + odds[2] + odds[3]);
                int outcome = 0;
                while (roll >= odds[outcome])
                    roll -= odds[outcome++];
                breaker_heard(&b, slot, (breaker_outcome)outcome, now_ms);
                history[count++] =
                    (event){.now_ms = now_ms, .number = slot, .outcome = (breaker_outcome)outcome};
            }
            running[slot] = !running[slot];
        }
    }
}

static void test_a_forgotten_worker_comes_back_with_its_breaker(void **state)
{
    (void)state;
    static breaker_book book;
    const breaker closed = {0}, open = opened_at(700);
    breaker_book_keep(&book, 1, &closed); /* nothing to remember */
    breaker_book_keep(&book, 2, &open);
    breaker b = breaker_book_take(&book, 2);
    assert_false(breaker_allows(&b, 701));
    assert_true(breaker_allows(&b, 1700));
    b = breaker_book_take(&book, 2); /* it is known again now */
    assert_int_equal(b.open_ms, 0);
    b = breaker_book_take(&book, 1);
    assert_int_equal(b.open_ms, 0);
    for (uint64_t worker = 10; worker < 11 + BREAKER_BOOK_SIZE; worker++)
        breaker_book_keep(&book, worker, &open);
    b = breaker_book_take(&book, 10);
    assert_int_equal(b.open_ms, 0); /* one too many */
    b = breaker_book_take(&book, 11);
    assert_int_equal(b.open_ms, BREAKER_OPEN_MS_FIRST);
}

static void test_states_have_names(void **state)
{
    (void)state;
    assert_string_equal(breaker_state_name(BREAKER_CLOSED), "closed");
    assert_string_equal(breaker_state_name(BREAKER_OPEN), "open");
    assert_string_equal(breaker_state_name(BREAKER_PROBING), "probing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_faults_in_a_row_open_it),
        cmocka_unit_test(test_only_the_workers_faults_count),
        cmocka_unit_test(test_one_fault_in_ten_is_borne_and_one_in_three_is_not),
        cmocka_unit_test(test_streams_that_die_with_their_worker_open_it),
        cmocka_unit_test(test_exactly_one_probe_goes),
        cmocka_unit_test(test_a_probe_that_fails_opens_it_for_twice_as_long),
        cmocka_unit_test(test_a_probe_without_verdict_lets_another_go_at_once),
        cmocka_unit_test(test_ends_of_earlier_requests_do_not_decide),
        cmocka_unit_test(test_a_worker_that_was_well_for_long_starts_anew),
        cmocka_unit_test(test_random_histories_agree_with_the_model),
        cmocka_unit_test(test_a_forgotten_worker_comes_back_with_its_breaker),
        cmocka_unit_test(test_states_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
