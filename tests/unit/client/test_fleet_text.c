/* Goal: what workers call themselves stays in its column and moves nobody's cursor, and every
 * number is as wide as its column whatever its size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "client/cli/fleet_text.h"

static void expect_name(const char *text, size_t width, const char *expected)
{
    buffer out = {0};
    fleet_name(&out, text, width);
    buffer_append(&out, "", 1);
    assert_string_equal((const char *)out.data, expected);
    buffer_free(&out);
}

static void test_names_fill_their_column(void **state)
{
    (void)state;
    expect_name("abc", 5, "abc  ");
    expect_name("abcde", 5, "abcde");
    expect_name("abcdef", 5, "abcd~");
    expect_name("", 3, "   ");
    expect_name("abcdef", 0, "abcdef");
    expect_name("abcdef", 1, "~");
}

static void test_wide_characters_count_twice(void **state)
{
    (void)state;
    expect_name("\xe6\x97\xa5\xe6\x9c\xac", 5, "\xe6\x97\xa5\xe6\x9c\xac ");
    expect_name("\xe6\x97\xa5\xe6\x9c\xac", 3, "\xe6\x97\xa5~");
    expect_name("\xe6\x97\xa5\xe6\x9c\xac", 2, "~ ");
    expect_name("h\xc3\xa9llo", 4, "h\xc3\xa9l~");
}

static void test_names_move_no_cursor(void **state)
{
    (void)state;
    expect_name("a\x1b[2Jb\r\nc\x7f", 12, "a?[2Jb??c?  ");
    expect_name("\xc2\x9b"
                "2J",
                0, "?2J"); /* C1's way to say ESC [ */
    expect_name("e\xcc\x81\xe2\x80\xae", 0, "e??");
    expect_name("\xff\xfe", 3, "?? ");
}

static void test_numbers_keep_to_their_columns(void **state)
{
    (void)state;
    char text[FLEET_TEXT_SIZE];
    assert_string_equal(fleet_lease(text, 0), "-");
    assert_string_equal(fleet_lease(text, 12000), "12s");
    assert_string_equal(fleet_lease(text, 250000), "4m10s");
    assert_string_equal(fleet_lease(text, 41400000), "11h30m");
    assert_true(strlen(fleet_lease(text, UINT32_MAX)) <= 6);
    assert_string_equal(fleet_rtt(text, 0), "-");
    assert_string_equal(fleet_rtt(text, 230), "0.2ms");
    assert_string_equal(fleet_rtt(text, 230000), "230ms");
    assert_string_equal(fleet_rate(text, 0), "-");
    assert_string_equal(fleet_rate(text, 12345), "12.3k");
    for (uint64_t n = 1; n < 99000000; n = n * 7 / 5 + 1) {
        assert_true(strlen(fleet_rate(text, n)) <= 5);
        assert_true(strlen(fleet_rtt(text, (uint32_t)n)) <= 6);
    }
    gaggle_worker_report w = {.connected = true, .slots = 4096, .running = 4096, .waiting = 0};
    assert_string_equal(fleet_slots(text, &w), "4096/4096");
    w.running = 3;
    w.waiting = 2;
    w.slots = 64;
    assert_string_equal(fleet_slots(text, &w), "3+2/64");
    assert_string_equal(fleet_kv(text, &w), "0%");
    w.kv_blocks = 8;
    w.kv_blocks_free = 6;
    assert_string_equal(fleet_kv(text, &w), "25%");
}

static void test_a_workers_state_says_the_most_important(void **state)
{
    (void)state;
    gaggle_worker_report w = {.connected = true};
    assert_string_equal(fleet_state(&w), "up");
    w.breaker = 1;
    assert_string_equal(fleet_state(&w), "open");
    w.breaker = 2;
    assert_string_equal(fleet_state(&w), "trial");
    w.draining = true;
    assert_string_equal(fleet_state(&w), "drain");
    w.connected = false;
    assert_string_equal(fleet_state(&w), "lost");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_fill_their_column),
        cmocka_unit_test(test_wide_characters_count_twice),
        cmocka_unit_test(test_names_move_no_cursor),
        cmocka_unit_test(test_numbers_keep_to_their_columns),
        cmocka_unit_test(test_a_workers_state_says_the_most_important),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
