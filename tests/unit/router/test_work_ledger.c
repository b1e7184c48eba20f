/* Goal: a worker's ledger is the sum of its requests' charges, whatever order they end in.
 * Method: each rule alone; random requests against a plain sum. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/work_ledger.h"
#include "tests/unit/worker/engine/test_random.h"

static void test_the_first_token_settles_the_prompt(void **state)
{
    (void)state;
    work_ledger l = {0};
    work_charge charge = {0};
    work_ledger_charge(&l, &charge, 1000, 50);
    assert_int_equal(l.prefill_tokens, 1000);
    assert_int_equal(l.decode_tokens, 50);
    work_ledger_progress(&l, &charge, 1);
    assert_int_equal(l.prefill_tokens, 0);
    assert_int_equal(l.decode_tokens, 49);
    work_ledger_progress(&l, &charge, 100); /* the answer is longer than was thought */
    assert_int_equal(l.decode_tokens, 0);
    work_ledger_progress(&l, &charge, 1);
    work_ledger_settle(&l, &charge);
    work_ledger_settle(&l, &charge);
    assert_int_equal(l.decode_tokens, 0);
}

static void test_what_nobody_charged_is_foreign(void **state)
{
    (void)state;
    work_ledger l = {0};
    assert_false(l.was_reported);
    work_charge charge = {0};
    work_ledger_charge(&l, &charge, 10, 20);
    assert_int_equal(l.kv_tokens_since_load, 30);
    work_ledger_report(&l, &(msg_load){.running = 5, .waiting = 3}, 6);
    assert_true(l.was_reported);
    assert_int_equal(l.foreign_streams, 2);
    assert_int_equal(l.kv_tokens_since_load, 0);
    work_ledger_report(&l, &(msg_load){.running = 1}, 6); /* the others are still on their way */
    assert_int_equal(l.foreign_streams, 0);
    work_ledger_report(&l, &(msg_load){.running = UINT32_MAX, .waiting = UINT32_MAX}, 0);
    assert_int_equal(l.foreign_streams, LIMIT_STREAMS_PER_LINK);
    assert_int_equal(l.prefill_tokens, 10);
    assert_int_equal(l.decode_tokens, 20);
}

static void test_random_requests(void **state)
{
    (void)state;
    enum { REQUESTS = 50 };
    test_random random = {9};
    work_ledger l = {0};
    work_charge charges[REQUESTS] = {{0}};
    bool runs[REQUESTS] = {false};
    for (int step = 0; step < 50000; step++) {
        uint32_t i = random_below(&random, REQUESTS);
        uint32_t what = random_below(&random, 8);
        if (!runs[i]) {
            work_ledger_charge(&l, &charges[i],
                               what == 0 ? UINT32_MAX : random_below(&random, 1000),
                               what == 1 ? UINT32_MAX : random_below(&random, 100));
            runs[i] = true;
        } else if (what == 0) {
            work_ledger_settle(&l, &charges[i]);
            assert_int_equal(charges[i].prefill_tokens, 0);
            assert_int_equal(charges[i].decode_tokens, 0);
            runs[i] = false;
        } else {
            work_ledger_progress(&l, &charges[i], random_between(&random, 1, 20));
        }
        uint64_t prefill = 0, decode = 0;
        for (uint32_t j = 0; j < REQUESTS; j++) {
            prefill += charges[j].prefill_tokens;
            decode += charges[j].decode_tokens;
        }
        assert_int_equal(l.prefill_tokens, prefill);
        assert_int_equal(l.decode_tokens, decode);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_token_settles_the_prompt),
        cmocka_unit_test(test_what_nobody_charged_is_foreign),
        cmocka_unit_test(test_random_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
