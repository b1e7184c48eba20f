/* Goal: an event is one line, whatever is in it; foreign bytes neither forge a line nor reach the
 * terminal as commands.
 * Method: stderr is a file for the time of a call; what stands in it afterwards is read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

enum { CAPTURE_BYTES = 1 << 20, HEAD_BYTES = 38 };

static char captured[CAPTURE_BYTES];

typedef struct capture {
    int file, stderr_before;
} capture;

static capture capture_begin(void)
{
    char path[512];
    snprintf(path, sizeof path, "%s/stderr", getenv("GAGGLE_TEST_TMP"));
    capture c;
    c.file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600);
    assert_true(c.file >= 0);
    c.stderr_before = dup(STDERR_FILENO);
    assert_int_equal(dup2(c.file, STDERR_FILENO), STDERR_FILENO);
    return c;
}

/* What was written, NUL-terminated, in `captured`. */
static size_t capture_end(capture c)
{
    dup2(c.stderr_before, STDERR_FILENO);
    close(c.stderr_before);
    ssize_t size = pread(c.file, captured, sizeof captured - 1, 0);
    assert_true(size >= 0);
    captured[size] = '\0';
    close(c.file);
    return (size_t)size;
}

/* The message part of the only line. */
static const char *only_message(size_t size)
{
    assert_true(size > HEAD_BYTES);
    assert_int_equal(captured[size - 1], '\n');
    assert_ptr_equal(strchr(captured, '\n'), captured + size - 1);
    captured[size - 1] = '\0';
    const char *message = strstr(captured, "  ");
    assert_non_null(message);
    return strstr(message, "tester  ") + strlen("tester  ");
}

static const char *logged(const char *text)
{
    capture c = capture_begin();
    log_info("%s", text);
    return only_message(capture_end(c));
}

static void test_a_line_has_time_level_and_program(void **state)
{
    (void)state;
    log_init("tester", LOG_INFO);
    capture c = capture_begin();
    log_warn("queue full waiting=%d", 3);
    size_t size = capture_end(c);
    int year, month, day, hour, minute, second, thousandth, end = 0;
    char level[8];
    assert_int_equal(sscanf(captured, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %7s tester  %n", &year, &month,
                            &day, &hour, &minute, &second, &thousandth, level, &end),
                     8);
    assert_true(year >= 2024 && month <= 12 && day <= 31 && hour < 24 && minute < 60);
    assert_string_equal(level, "warn");
    assert_int_equal(captured[23], 'Z');
    assert_string_equal(only_message(size), "queue full waiting=3");
}

static void test_levels_below_are_dropped(void **state)
{
    (void)state;
    const char *const names[] = {"error", "warn", "info", "debug"};
    for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
        assert_int_equal(log_level_parse(names[level]), level);
        log_init("tester", (log_level)level);
        capture c = capture_begin();
        log_error("0");
        log_warn("1");
        log_info("2");
        log_debug("3");
        size_t size = capture_end(c), lines = 0;
        for (size_t i = 0; i < size; i++)
            lines += captured[i] == '\n';
        assert_int_equal(lines, level + 1);
    }
    assert_int_equal(log_level_parse("verbose"), -1);
    assert_int_equal(log_level_parse(""), -1);
    log_init("tester", LOG_INFO);
}

static void test_foreign_text_stays_on_one_line(void **state)
{
    (void)state;
    assert_string_equal(logged("a\nb\r\nc\td"), "a b  c d");
    assert_string_equal(logged("\x1b[2Jx\x07y\x7fz"), " [2Jx y z");
    for (int byte = 1; byte < 0x20; byte++) {
        const char text[] = {'<', (char)byte, '>', '\0'};
        assert_string_equal(logged(text), "< >");
    }
}

static void test_control_characters_beyond_ascii_are_neutralised(void **state)
{
    (void)state;
    assert_string_equal(logged("a\xc2\x9b"
                               "31mb"),
                        "a  31mb");
    assert_string_equal(logged("\xc2\x80|\xc2\x9f|\xc2\xa0"), "  |  |\xc2\xa0");
    /* What people write is left alone: letters whose bytes look like those. */
    assert_string_equal(logged("gr\xc3\x9f caf\xc3\xa9 \xe6\x97\xa5 \xf0\x9f\x98\x80"),
                        "gr\xc3\x9f caf\xc3\xa9 \xe6\x97\xa5 \xf0\x9f\x98\x80");
}

static void test_long_lines_are_cut_and_still_end(void **state)
{
    (void)state;
    static char text[6000];
    for (size_t size = 1900; size < 2200; size++) {
        memset(text, 'x', size);
        text[size] = '\0';
        size_t got = strlen(logged(text));
        assert_true(got == size || (size > 1900 && got > 1900 && got < 2048));
    }
    memset(text, 'x', sizeof text - 1);
    assert_true(strlen(logged(text)) < 2048);
}

static void test_format_and_level_may_change_while_it_runs(void **state)
{
    (void)state;
    assert_int_equal(log_format_parse("text"), LOG_TEXT);
    assert_int_equal(log_format_parse("json"), LOG_JSON);
    assert_int_equal(log_format_parse("yaml"), -1);
    capture c = capture_begin();
    log_set(LOG_DEBUG, LOG_JSON);
    log_debug("request=%s state=%s->%s", "5f", "queued", "running");
    log_set(LOG_WARN, LOG_TEXT);
    log_info("dropped");
    log_warn("kept");
    log_set(LOG_INFO, LOG_TEXT);
    capture_end(c);
    static const char expected[] = "\"level\":\"debug\",\"program\":\"tester\",\"event\":\"\","
                                   "\"request\":\"5f\",\"state\":\"queued->running\"}\n";
    assert_int_equal(captured[0], '{');
    char *first_end = strchr(captured, '\n');
    assert_non_null(first_end);
    if (strstr(captured, expected) == NULL) fail_msg("%s", captured);
    assert_non_null(strstr(first_end, "tester  kept\n"));
    assert_null(strstr(captured, "dropped"));
}

static void test_last_words_are_a_sentence_or_json(void **state)
{
    (void)state;
    capture c = capture_begin();
    log_farewell("gaggle-tester", "no \"model\"");
    capture_end(c);
    assert_string_equal(captured, "gaggle-tester: no \"model\"\n");
    c = capture_begin();
    log_set(LOG_INFO, LOG_JSON);
    log_farewell("gaggle-tester", "no \"model\"");
    log_set(LOG_INFO, LOG_TEXT);
    size_t size = capture_end(c);
    static const char expected[] = "\"event\":\"ended\",\"reason\":\"no \\\"model\\\"\"}\n";
    assert_true(size > sizeof expected);
    assert_string_equal(captured + size - (sizeof expected - 1), expected);
}

enum { THREADS = 4, LINES = 500 };

static void *log_many(void *arg)
{
    for (int i = 0; i < LINES; i++)
        log_info("thread=%d line=%d end", *(const int *)arg, i);
    return NULL;
}

static void test_lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    int numbers[THREADS], next[THREADS] = {0};
    capture c = capture_begin();
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    capture_end(c);
    int lines = 0;
    for (char *line = strtok(captured, "\n"); line != NULL; line = strtok(NULL, "\n"), lines++) {
        int thread, number, end = 0;
        const char *message = strstr(line, "tester  ");
        assert_non_null(message);
        assert_int_equal(sscanf(message, "tester  thread=%d line=%d end%n", &thread, &number, &end),
                         2);
        assert_int_equal(message[end], '\0');
        assert_in_range(thread, 0, THREADS - 1);
        assert_int_equal(number, next[thread]++);
    }
    assert_int_equal(lines, THREADS * LINES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_has_time_level_and_program),
        cmocka_unit_test(test_levels_below_are_dropped),
        cmocka_unit_test(test_foreign_text_stays_on_one_line),
        cmocka_unit_test(test_control_characters_beyond_ascii_are_neutralised),
        cmocka_unit_test(test_long_lines_are_cut_and_still_end),
        cmocka_unit_test(test_format_and_level_may_change_while_it_runs),
        cmocka_unit_test(test_last_words_are_a_sentence_or_json),
        cmocka_unit_test(test_lines_of_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
