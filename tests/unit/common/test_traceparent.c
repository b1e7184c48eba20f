/* Goal: exactly what the W3C trace context calls valid is taken, and nothing is read beyond it.
 * Method: one valid value, and each way of breaking it; copies without a NUL, for the sanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/traceparent.h"

#define VALID "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static traceparent got;

/* From memory that ends with the text. */
static bool parse(const char *text)
{
    size_t size = strlen(text);
    char *exact = malloc(size > 0 ? size : 1);
    memcpy(exact, text, size);
    got = (traceparent){.trace_id = "before"};
    bool ok = traceparent_parse(&got, exact, size);
    free(exact);
    if (!ok) assert_string_equal(got.trace_id, "before");
    return ok;
}

static void test_a_valid_one_is_taken_apart(void **state)
{
    (void)state;
    assert_int_equal(strlen(VALID), TRACEPARENT_SIZE);
    assert_true(parse(VALID));
    assert_string_equal(got.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_string_equal(got.parent_id, "00f067aa0ba902b7");
    assert_true(got.sampled);
    assert_true(parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe"));
    assert_false(got.sampled);
    assert_true(parse("00-00000000000000000000000000000001-0000000000000001-00"));
}

static void test_later_versions_are_read_as_far_as_we_know_them(void **state)
{
    (void)state;
    assert_true(parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    assert_true(parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what is new"));
    assert_true(parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-"));
    assert_false(parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what"));
    assert_false(parse("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    assert_false(parse(VALID "-"));
    assert_false(parse(VALID "-more"));
}

static void test_what_is_broken_is_refused(void **state)
{
    (void)state;
    char text[TRACEPARENT_SIZE + 1];
    for (size_t size = 0; size < TRACEPARENT_SIZE; size++) {
        memcpy(text, VALID, size);
        text[size] = '\0';
        assert_false(parse(text));
    }
    /* No byte may become one that is neither a digit nor a dash, nor a dash become a digit. */
    static const char wrong[] = {'g', 'A', ' ', '/', ':', '`', '@', '\x80', '\n'};
    for (size_t at = 0; at < TRACEPARENT_SIZE; at++) {
        for (size_t w = 0; w < sizeof wrong; w++) {
            memcpy(text, VALID, sizeof text);
            text[at] = wrong[w];
            assert_false(parse(text));
        }
        memcpy(text, VALID, sizeof text);
        text[at] = text[at] == '-' ? '0' : '-';
        assert_false(parse(text));
    }
    assert_false(parse("00-00000000000000000000000000000000-00f067aa0ba902b7-01"));
    assert_false(parse("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_valid_one_is_taken_apart),
        cmocka_unit_test(test_later_versions_are_read_as_far_as_we_know_them),
        cmocka_unit_test(test_what_is_broken_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
