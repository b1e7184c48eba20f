/* Goal: a worker's stated speeds are what its steps showed: reading apart from writing, writing
 * with all slots told from smaller batches, but not beyond reach; old steps fade.
 * Method: steps of a device whose time is a + b n, by a scripted clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/speed_meter.h"

static void near(uint32_t value, double wanted)
{
    if (value < wanted * 0.98 || value > wanted * 1.02)
        fail_msg("%u is not near %.0f", value, wanted);
}

/* A step of n answers takes 10 ms and 0.1 ms an answer. */
static void write_steps(speed_meter *m, uint32_t answers, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        speed_meter_add(m, 0, answers, 10000 + 100 * answers);
}

static double true_rate(uint32_t answers)
{
    return answers * 1e6 / (10000.0 + 100 * answers);
}

static void test_nothing_seen_is_not_known(void **state)
{
    (void)state;
    speed_meter m = {0};
    assert_int_equal(speed_meter_prefill_rate(&m), 0);
    assert_int_equal(speed_meter_decode_rate(&m, 64), 0);
    speed_meter_add(&m, 0, 0, 1000);
    speed_meter_add(&m, 100, 0, 0);
    assert_int_equal(speed_meter_prefill_rate(&m), 0);
    assert_int_equal(speed_meter_decode_rate(&m, 64), 0);
}

static void test_reading_counts_only_steps_that_mostly_read(void **state)
{
    (void)state;
    speed_meter m = {0};
    for (int i = 0; i < 50; i++) {
        speed_meter_add(&m, 512, 8, 64000); /* 8,000 a second */
        speed_meter_add(&m, 7, 8, 64000);
    }
    near(speed_meter_prefill_rate(&m), 8000);
    assert_int_equal(speed_meter_decode_rate(&m, 64), 0);
}

static void test_all_slots_are_told_from_smaller_batches(void **state)
{
    (void)state;
    speed_meter m = {0};
    write_steps(&m, 1, 100);
    write_steps(&m, 16, 100);
    near(speed_meter_decode_rate(&m, 1), true_rate(1));
    near(speed_meter_decode_rate(&m, 16), true_rate(16));
    near(speed_meter_decode_rate(&m, 64), true_rate(64));
    /* Nobody has seen more than 16 at once, so a batch of 256 is not believed. */
    near(speed_meter_decode_rate(&m, 256), true_rate(64));
}

static void test_one_batch_size_reaches_a_little_further(void **state)
{
    (void)state;
    speed_meter m = {0};
    write_steps(&m, 2, 100);
    near(speed_meter_decode_rate(&m, 2), true_rate(2));
    near(speed_meter_decode_rate(&m, 256), 4 * true_rate(2));
}

static void test_noise_cannot_make_a_batch_free_or_worse_than_alone(void **state)
{
    (void)state;
    speed_meter m = {0};
    speed_meter_add(&m, 0, 1, 20000);
    speed_meter_add(&m, 0, 8, 10000); /* a slow first step */
    near(speed_meter_decode_rate(&m, 8), 800);
    near(speed_meter_decode_rate(&m, 32), 3200);
    m = (speed_meter){0};
    speed_meter_add(&m, 0, 1, 1);
    speed_meter_add(&m, 0, 8, 80000);
    near(speed_meter_decode_rate(&m, 32), 100);
}

static void test_old_steps_fade(void **state)
{
    (void)state;
    speed_meter m = {0};
    for (int i = 0; i < 10000; i++)
        speed_meter_add(&m, 1000, 0, 100000);
    near(speed_meter_prefill_rate(&m), 10000);
    for (int i = 0; i < 1500; i++) /* 150 s at half the speed */
        speed_meter_add(&m, 500, 0, 100000);
    near(speed_meter_prefill_rate(&m), 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_seen_is_not_known),
        cmocka_unit_test(test_reading_counts_only_steps_that_mostly_read),
        cmocka_unit_test(test_all_slots_are_told_from_smaller_batches),
        cmocka_unit_test(test_one_batch_size_reaches_a_little_further),
        cmocka_unit_test(test_noise_cannot_make_a_batch_free_or_worse_than_alone),
        cmocka_unit_test(test_old_steps_fade),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
