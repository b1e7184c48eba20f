/* Goal: a refusal reaches the reader whole, or cut at its end, never beyond its bounds.
 * Method: every length of sentence and of prefix around the bound, with guard bytes behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/status.h"

static void test_every_code_has_its_grpc_name(void **state)
{
    (void)state;
    assert_string_equal(status_name(ST_OK), "OK");
    assert_string_equal(status_name(ST_DEADLINE_EXCEEDED), "DEADLINE_EXCEEDED");
    assert_string_equal(status_name(ST_RESOURCE_EXHAUSTED), "RESOURCE_EXHAUSTED");
    assert_string_equal(status_name(ST_UNAUTHENTICATED), "UNAUTHENTICATED");
    assert_string_equal(status_name((status)STATUS_COUNT), "UNKNOWN");
    assert_string_equal(status_name((status)-1), "UNKNOWN");
    for (int i = 0; i < STATUS_COUNT; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(status_name((status)i), status_name((status)j));
}

static void test_set_replaces_what_was_there(void **state)
{
    (void)state;
    error err = {.code = ST_UNAVAILABLE, .retry_after_ms = 77, .text = "before"};
    assert_int_equal(error_set(&err, ST_OUT_OF_RANGE, "top_p is %d", 7), ST_OUT_OF_RANGE);
    assert_int_equal(err.code, ST_OUT_OF_RANGE);
    assert_int_equal(err.retry_after_ms, 0);
    assert_string_equal(err.text, "top_p is 7");
    assert_int_equal(error_set(NULL, ST_ABORTED, "nobody asks"), ST_ABORTED);
}

static void test_prefix_keeps_code_and_retry(void **state)
{
    (void)state;
    error err;
    error_set(&err, ST_NOT_FOUND, "no such file");
    err.retry_after_ms = 5;
    assert_int_equal(error_prefix(&err, ST_INTERNAL, "shard %d", 3), ST_NOT_FOUND);
    assert_string_equal(err.text, "shard 3: no such file");
    assert_int_equal(err.retry_after_ms, 5);
    assert_int_equal(error_prefix(NULL, ST_INTERNAL, "x"), ST_INTERNAL);
}

static void test_long_sentences_are_cut_within_bounds(void **state)
{
    (void)state;
    static char letters[2 * ERROR_TEXT_SIZE];
    memset(letters, 'a', sizeof letters - 1);
    struct {
        error err;
        uint8_t guard[64];
    } at;
    for (int size = 0; size < 2 * ERROR_TEXT_SIZE - 1; size++) {
        memset(&at, 0x5a, sizeof at);
        error_set(&at.err, ST_INTERNAL, "%.*s", size, letters);
        size_t kept = size < ERROR_TEXT_SIZE ? (size_t)size : ERROR_TEXT_SIZE - 1;
        assert_int_equal(strnlen(at.err.text, ERROR_TEXT_SIZE), kept);

        char sentence[8];
        error_set(&at.err, ST_INTERNAL, "why");
        error_prefix(&at.err, ST_INTERNAL, "%.*s", size, letters);
        size_t whole = (size_t)size + strlen(": why");
        kept = whole < ERROR_TEXT_SIZE ? whole : ERROR_TEXT_SIZE - 1;
        assert_int_equal(strnlen(at.err.text, ERROR_TEXT_SIZE), kept);
        snprintf(sentence, sizeof sentence, "%s", at.err.text + kept - 5);
        if (whole < ERROR_TEXT_SIZE) assert_string_equal(sentence, ": why");

        error_set(&at.err, ST_INTERNAL, "%.*s", size, letters);
        error_prefix(&at.err, ST_INTERNAL, "in");
        whole = (size_t)size + strlen("in: ");
        kept = whole < ERROR_TEXT_SIZE ? whole : ERROR_TEXT_SIZE - 1;
        assert_int_equal(strnlen(at.err.text, ERROR_TEXT_SIZE), kept);
        assert_memory_equal(at.err.text, "in: ", 4);
        for (size_t i = 0; i < sizeof at.guard; i++)
            assert_int_equal(at.guard[i], 0x5a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_has_its_grpc_name),
        cmocka_unit_test(test_set_replaces_what_was_there),
        cmocka_unit_test(test_prefix_keeps_code_and_retry),
        cmocka_unit_test(test_long_sentences_are_cut_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
