/* Goal: every program and command explains itself on one screen and in a man page that formats
 * without a warning; and no two of their settings are so alike that one's variable could be taken
 * for a slip of the other's. Method: the programs themselves, and groff where there is one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { COMMANDS_MAX = 64, OUTPUT_SIZE = 1 << 17, NAMES_MAX = 512, COLUMNS = 80, LINES = 28 };

static char commands[COMMANDS_MAX][64];
static size_t command_count;

/* What a shell command line prints, and its exit status. */
static int run(char out[OUTPUT_SIZE], const char *format, const char *command)
{
    char line[1024];
    int used = snprintf(line, sizeof line, "cd '%s' && ./", getenv("GAGGLE_BIN_DIR"));
    snprintf(line + used, sizeof line - (size_t)used, format, command);
    FILE *f = popen(line, "r");
    assert_non_null(f);
    size_t size = fread(out, 1, OUTPUT_SIZE - 1, f);
    out[size] = '\0';
    int how = pclose(f);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

/* The command, and those that it lists. */
static void find_commands(const char *command)
{
    assert_in_range(command_count, 0, COMMANDS_MAX - 1);
    snprintf(commands[command_count++], sizeof commands[0], "%s", command);
    char *help = malloc(OUTPUT_SIZE);
    assert_int_equal(run(help, "%s --help", command), 0);
    char *rest = help;
    if (strncmp(help, "usage: ", 7) == 0 && strstr(strtok_r(rest, "\n", &rest), " COMMAND") != NULL)
        for (char *line; (line = strtok_r(NULL, "\n", &rest)) != NULL;) {
            char name[24], below[64];
            if (line[0] != ' ' || sscanf(line, "  %23[a-z-] ", name) != 1) continue;
            snprintf(below, sizeof below, "%.30s %s", command, name);
            find_commands(below);
        }
    free(help);
}

static int find_all(void **state)
{
    (void)state;
    find_commands("gaggle-router");
    find_commands("gaggle-worker");
    find_commands("gaggle-worker generate");
    find_commands("gaggle-worker bench");
    find_commands("gaggle");
    return command_count > 8 ? 0 : -1;
}

static void test_help_fits_a_screen(void **state)
{
    (void)state;
    char *help = malloc(OUTPUT_SIZE);
    for (size_t i = 0; i < command_count; i++) {
        assert_int_equal(run(help, "%s --help", commands[i]), 0);
        size_t lines = 0;
        for (char *rest = help, *line; (line = strsep(&rest, "\n")) != NULL && rest != NULL;) {
            lines++;
            if (strlen(line) > COLUMNS) fail_msg("%s: too wide: %s", commands[i], line);
            if (line[0] != '\0' && line[strlen(line) - 1] == ' ')
                fail_msg("%s: ends in a space: %s", commands[i], line);
        }
        if (lines > LINES) fail_msg("%s: %zu lines of help", commands[i], lines);
    }
    free(help);
}

static void test_man_pages_format_without_a_warning(void **state)
{
    (void)state;
    if (system("command -v groff >/dev/null") != 0) {
        print_message("skipped: there is no groff\n");
        return;
    }
    char *out = malloc(OUTPUT_SIZE);
    for (size_t i = 0; i < command_count; i++) {
        assert_int_equal(run(out, "%s --man | groff -man -ww -z -Tutf8 2>&1", commands[i]), 0);
        if (out[0] != '\0') fail_msg("%s: %s", commands[i], out);
        assert_int_equal(run(out, "%s --man", commands[i]), 0);
        assert_ptr_equal(strstr(out, ".TH \""), out);
        assert_non_null(strstr(out, "\n.SH NAME\n"));
    }
    free(out);
}

/* A letter too many, too few or wrong, or two that changed places. */
static bool is_one_slip(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b), begin = 0, end = 0;
    while (begin < n && begin < m && a[begin] == b[begin])
        begin++;
    while (end < n - begin && end < m - begin && a[n - 1 - end] == b[m - 1 - end])
        end++;
    n -= begin + end;
    m -= begin + end;
    if (n == 2 && m == 2) return a[begin] == b[begin + 1] && a[begin + 1] == b[begin];
    return n <= 1 && m <= 1 && n + m > 0;
}

static void test_no_two_settings_are_one_slip_apart(void **state)
{
    (void)state;
    /* These are, and belong to commands that are typed by hand and not fed by one environment. */
    static const char *const known[][2] = {
        {"prompt", "prompts"}, {"top-k", "top-p"}, {"worker", "workers"}};
    static char names[NAMES_MAX][64];
    size_t count = 0;
    char *out = malloc(OUTPUT_SIZE);
    for (size_t i = 0; i < command_count; i++) {
        assert_int_equal(run(out, "%s --help-all 2>/dev/null || true", commands[i]), 0);
        for (char *rest = out, *line; (line = strsep(&rest, "\n")) != NULL;) {
            const char *dashes = strstr(line, " --");
            if (line[0] != ' ' || dashes == NULL || dashes - line > 6) continue;
            assert_in_range(count, 0, NAMES_MAX - 1);
            if (sscanf(dashes, " --%63[a-z0-9-]", names[count]) == 1) count++;
        }
    }
    free(out);
    assert_in_range(count, 40, NAMES_MAX - 1);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < count; k++) {
            bool expected = false;
            for (size_t w = 0; w < sizeof known / sizeof *known; w++)
                expected |=
                    strcmp(names[i], known[w][0]) == 0 && strcmp(names[k], known[w][1]) == 0;
            if (strcmp(names[i], names[k]) < 0 && !expected && is_one_slip(names[i], names[k]))
                fail_msg("--%s and --%s", names[i], names[k]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help_fits_a_screen),
        cmocka_unit_test(test_man_pages_format_without_a_warning),
        cmocka_unit_test(test_no_two_settings_are_one_slip_apart),
    };
    return cmocka_run_group_tests(tests, find_all, NULL);
}
