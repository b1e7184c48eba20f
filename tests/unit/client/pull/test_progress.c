/* Goal: a pull says how far it is: on a terminal one line that renews itself, elsewhere a line
 * every 5 s, never more than all of it, and with a rate of what came lately. Method: the meter
 * itself, whose clock is turned back by hand; stderr is a file, then a terminal.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/pull/progress.h"

#define MIB (1024u * 1024u)

static int real_stderr, reader;

/* From here on what is said can be read from `reader`. */
static void catch_stderr(int writer, int from)
{
    real_stderr = dup(STDERR_FILENO);
    dup2(writer, STDERR_FILENO);
    close(writer);
    reader = from;
}

static const char *caught(void)
{
    static char text[4096];
    fflush(stderr);
    ssize_t size = read(reader, text, sizeof text - 1);
    text[size > 0 ? size : 0] = '\0';
    return text;
}

static void give_back(void)
{
    fflush(stderr);
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    close(reader);
}

static void turn_back(progress *p, uint64_t ms)
{
    p->said_ms -= ms;
    for (uint32_t i = 0; i < p->sample_count; i++)
        p->samples[i].at_ms -= ms;
}

static void test_elsewhere_a_line_comes_every_5_s(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s/said", getenv("GAGGLE_TEST_TMP"));
    int writer = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    catch_stderr(writer, open(path, O_RDONLY));
    progress p;
    progress_begin(&p, "pull", "geese/gosling", 10 * MIB, 100 * MIB);
    char first[64], second[256], third[256];
    progress_show(&p, 11 * MIB, false);
    snprintf(first, sizeof first, "%.60s", caught());
    turn_back(&p, 10000);
    progress_show(&p, 30 * MIB, false);
    progress_show(&p, 31 * MIB, false);
    snprintf(second, sizeof second, "%.250s", caught());
    turn_back(&p, 5000);
    progress_show(&p, 100 * MIB, true);
    snprintf(third, sizeof third, "%.250s", caught());
    give_back();
    assert_string_equal(first, "");
    /* 20 MiB in 10 s: 2 a second, so 35 s for the other 70. */
    assert_string_equal(
        second, "gaggle pull: geese/gosling: 30 %  30.0 MiB of 100 MiB  2.00 MiB/s  0:35 left\n");
    assert_string_equal(
        third, "gaggle pull: geese/gosling: 100 %  100 MiB of 100 MiB  checking what came\n");
}

static void test_a_terminal_has_one_line_of_its_own_width(void **state)
{
    (void)state;
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) skip();
    int writer = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    if (writer < 0) skip();
    struct winsize size = {.ws_row = 24, .ws_col = 40};
    ioctl(terminal, TIOCSWINSZ, &size);
    catch_stderr(writer, terminal);
    progress p;
    progress_begin(&p, "pull", "geese/gosling", 0, 100);
    turn_back(&p, 1000);
    progress_show(&p, 50, false);
    char line[256], said[256];
    snprintf(line, sizeof line, "%.250s", caught());
    progress_say(&p, "a sentence");
    snprintf(said, sizeof said, "%.250s", caught());
    give_back();
    assert_memory_equal(line, "\r\x1b[K", 4);
    assert_int_equal(strlen(line), 4 + 39); /* a column is left, so that it does not wrap */
    assert_memory_equal(line + 4, "geese/gosling [############            ]", 39);
    assert_string_equal(said, "\r\x1b[Kgaggle pull: a sentence\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elsewhere_a_line_comes_every_5_s),
        cmocka_unit_test(test_a_terminal_has_one_line_of_its_own_width),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
