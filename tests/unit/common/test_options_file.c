/* Goal: the INI file means what its line says, is weaker than environment and flags, and nothing in
 * it is dropped without a word; what is misspelt anywhere is refused with the nearest name; reading
 * again changes what may change and names the rest.
 * Method: files written for each case, read through a table of each kind of row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/limits.h"
#include "common/options.h"

typedef struct settings {
    uint32_t port, wait_ms;
    bool verbose;
    const char *level, *model;
    option_list listen;
} settings;

enum { ROWS = 6, ARGS = 8 };

static const char *const levels[] = {"low", "high", NULL};
static settings got;
static error err;
static char path[512];

static option_table make_table(settings *s, option_row rows[ROWS])
{
    const option_row all[ROWS] = {
        {"port", 'p', OPTION_U32, &s->port, "N", "a port", 1, 65535, .reloadable = true},
        {"wait-ms", 0, OPTION_MS, &s->wait_ms, "TIME", "a while", .reloadable = true},
        {"verbose", 'v', OPTION_FLAG, &s->verbose, NULL, "say more"},
        {"level", 0, OPTION_TEXT, &s->level, "LEVEL", "how much", .choices = levels,
         .reloadable = true},
        {"model", 'm', OPTION_TEXT, &s->model, "NAME", "a model", .shared = true},
        {"listen", 'l', OPTION_LIST, &s->listen, "URL", "addresses", .shared = true},
    };
    memcpy(rows, all, sizeof all);
    *s = (settings){.port = 7400, .wait_ms = 5, .level = "low"};
    return (option_table){.usage = "test [options]",
                          .about = "A test.",
                          .rows = rows,
                          .row_count = ROWS,
                          .section = "gaggle test",
                          .shared_section = "gaggle"};
}

static void write_file(const char *text, size_t size)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static status parse_into(settings *s, const char *const *args)
{
    option_row rows[ROWS];
    const option_table table = make_table(s, rows);
    char *argv[ARGS + 2] = {"test"};
    int argc = 1;
    for (; args[argc - 1] != NULL; argc++)
        argv[argc] = (char *)args[argc - 1];
    err = (error){0};
    return options_parse(&table, argc, argv, NULL, &err);
}

/* Parse `text` as the file, and then the arguments. */
#define PARSE(text, ...)                                                                           \
    (write_file(text, strlen(text)),                                                               \
     parse_into(&got, (const char *const[]){"--config", path, ##__VA_ARGS__, NULL}))

static void assert_refused(status st, const char *first, const char *second)
{
    assert_int_equal(st, ST_INVALID_ARGUMENT);
    assert_int_equal(err.code, ST_INVALID_ARGUMENT);
    if (strstr(err.text, first) == NULL || strstr(err.text, second) == NULL)
        fail_msg("\"%s\" should say \"%s\" and \"%s\"", err.text, first, second);
}

static int clear_environment(void **state)
{
    (void)state;
    const char *const names[] = {"GAGGLE_PORT",   "GAGGLE_LISTEN", "GAGGLE_CONFIG", "GAGGLE_PROT",
                                 "GAGGLE_LISTNE", "GAGGLE_CONFG",  "GAGGLE_MODELS", "GAGGLE_MODEL"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    return 0;
}

/* -- the file --------------------------------------------------------------------------------- */

static void test_a_file_gives_every_type(void **state)
{
    (void)state;
    assert_int_equal(PARSE("# for this machine\n\n"
                           "[gaggle test]\n"
                           "port = 80\n"
                           "  wait-ms=2m  \n"
                           "verbose = on\n"
                           "level = high\r\n"
                           "model = a b # c = d\n"
                           "listen = tcp://a,b\n"
                           "listen = tcp://c\n"),
                     ST_OK);
    assert_int_equal(got.port, 80);
    assert_int_equal(got.wait_ms, 120000);
    assert_true(got.verbose);
    assert_string_equal(got.level, "high");
    assert_string_equal(got.model, "a b # c = d");
    assert_int_equal(got.listen.count, 2);
    assert_string_equal(got.listen.items[0], "tcp://a,b");
    assert_string_equal(got.listen.items[1], "tcp://c");
}

static void test_other_programs_sections_are_left_alone(void **state)
{
    (void)state;
    assert_int_equal(PARSE("[router]\nport = no number\nanything = 1\n"
                           "[gaggle chat]\nport = 9\n"
                           "[gaggle test]\nport = 81\n"
                           "[worker]\nport = 10\n"
                           "[gaggle test]\nwait-ms = 3\n"),
                     ST_OK);
    assert_int_equal(got.port, 81);
    assert_int_equal(got.wait_ms, 3);
    assert_int_equal(PARSE(""), ST_OK);
    assert_int_equal(got.port, 7400);
}

static void test_the_own_section_beats_the_shared_one(void **state)
{
    (void)state;
    assert_int_equal(PARSE("[gaggle test]\nlisten = mine\n"
                           "[gaggle]\nlisten = ours\nlisten = too\nmodel = ours\n"),
                     ST_OK);
    assert_int_equal(got.listen.count, 1);
    assert_string_equal(got.listen.items[0], "mine");
    assert_string_equal(got.model, "ours");
    assert_refused(PARSE("[gaggle]\nport = 1\n"), "line 2: port is not for every command",
                   "[gaggle test]");
    assert_refused(PARSE("[gaggle]\nmodl = 1\n"), "line 2: [gaggle] has no setting modl",
                   "did you mean model");
}

static void test_flag_environment_file_default(void **state)
{
    (void)state;
    const char *file = "[gaggle test]\nport = 3\nlisten = file\nlisten = file2\nmodel = file\n";
    setenv("GAGGLE_PORT", "2", 1);
    setenv("GAGGLE_LISTEN", "environment", 1);
    assert_int_equal(PARSE(file, "--port", "1", "-l", "flag"), ST_OK);
    assert_int_equal(got.port, 1);
    assert_int_equal(got.listen.count, 1);
    assert_string_equal(got.listen.items[0], "flag");
    assert_string_equal(got.model, "file");
    assert_int_equal(PARSE(file), ST_OK);
    assert_int_equal(got.port, 2);
    assert_int_equal(got.listen.count, 1);
    assert_string_equal(got.listen.items[0], "environment");
    unsetenv("GAGGLE_PORT");
    unsetenv("GAGGLE_LISTEN");
    assert_int_equal(PARSE(file), ST_OK);
    assert_int_equal(got.port, 3);
    assert_int_equal(got.listen.count, 2);
    assert_int_equal(got.wait_ms, 5);
}

static void test_the_environment_names_the_file(void **state)
{
    (void)state;
    write_file("[gaggle test]\nport = 5\n", 23);
    setenv("GAGGLE_CONFIG", path, 1);
    assert_int_equal(parse_into(&got, (const char *const[]){NULL}), ST_OK);
    assert_int_equal(got.port, 5);
    setenv("GAGGLE_CONFIG", "/nonexistent/file", 1);
    assert_int_equal(parse_into(&got, (const char *const[]){NULL}), ST_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nonexistent/file"));
    char flag[600];
    snprintf(flag, sizeof flag, "--config=%s", path); /* a flag wins */
    assert_int_equal(parse_into(&got, (const char *const[]){flag, NULL}), ST_OK);
    assert_int_equal(got.port, 5);
    setenv("GAGGLE_CONFIG", "", 1);
    assert_int_equal(parse_into(&got, (const char *const[]){NULL}), ST_OK);
    assert_int_equal(got.port, 7400);
    assert_refused(parse_into(&got, (const char *const[]){"--config", NULL}),
                   "--config needs a value", "FILE");
}

static void test_what_is_wrong_in_a_file_is_refused_by_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *first, *second;
    } cases[] = {
        {"[gaggle test]\n\nprot = 1\n", "line 3: [gaggle test] has no setting prot", "mean port?"},
        {"[gaggle test]\nzzzzzzzz = 1\n", "line 2: [gaggle test] has no setting zzzzzzzz", ""},
        {"[gaggle test]\nPort = 1\n", "line 2", "mean port?"},
        {"[gaggle test]\nport = 0\n", "line 2: port is 0", "must be 1 to 65535"},
        {"[gaggle test]\nport = 8 # eight\n", "line 2: port is '8 # eight'", "whole number"},
        {"[gaggle test]\nlevel = medium\n", "line 2: level is 'medium'", "low or high"},
        {"[gaggle test]\nverbose = maybe\n", "line 2: verbose is 'maybe'", "true or false"},
        {"[gaggle test]\nno-verbose = true\n", "line 2", "verbose"},
        {"[gaggle test]\nport = 1\nport = 1\n", "line 3: port is given already", "line 2"},
        {"[gaggle test]\nport =\n", "line 2: port has no value", "default"},
        {"[gaggle test]\nport\n", "line 2", ""},
        {"[gaggle test\nport = 1\n", "line 1", ""},
        {"port = 1\n", "line 1: port stands before any [section]", ""},
        {"[gagle]\n", "line 1: there is no section [gagle]", "mean [gaggle]?"},
        {"[roter]\n", "line 1", "mean [router]?"},
        {"[something else]\n", "line 1: there is no section [something else]", ""},
        {"[gaggle test]\nconfig = /other\n", "line 2: [gaggle test] has no setting config", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_refused(PARSE(cases[i].text), cases[i].first, cases[i].second);
        assert_non_null(strstr(err.text, path));
    }
}

static void test_what_a_flag_overrules_must_still_be_right(void **state)
{
    (void)state;
    assert_refused(PARSE("[gaggle test]\nport = x\n", "--port=1"), "line 2: port is 'x'", "");
    assert_refused(PARSE("[gaggle test]\nport = 1\nport = 2\n", "--port=1"), "given already", "");
    assert_int_equal(PARSE("[gaggle test]\nport = 2\nlisten = a\n", "--port=1", "-l", "b"), ST_OK);
    assert_int_equal(got.port, 1);
    assert_int_equal(got.listen.count, 1);
}

static void test_odd_files_are_refused(void **state)
{
    (void)state;
    const char with_nul[] = "[gaggle test]\nport = 1\n\0port = 2\n";
    write_file(with_nul, sizeof with_nul - 1);
    assert_refused(parse_into(&got, (const char *const[]){"--config", path, NULL}), "NUL", path);
    char *large = malloc(LIMIT_OPTIONS_FILE_BYTES + 1);
    memset(large, '\n', LIMIT_OPTIONS_FILE_BYTES + 1);
    write_file(large, LIMIT_OPTIONS_FILE_BYTES);
    assert_int_equal(parse_into(&got, (const char *const[]){"--config", path, NULL}), ST_OK);
    write_file(large, LIMIT_OPTIONS_FILE_BYTES + 1);
    assert_int_equal(parse_into(&got, (const char *const[]){"--config", path, NULL}),
                     ST_OUT_OF_RANGE);
    free(large);
    assert_int_equal(parse_into(&got, (const char *const[]){"--config", "/", NULL}),
                     ST_INVALID_ARGUMENT);
    char list[40 * (OPTION_LIST_MAX + 1)];
    size_t used = (size_t)snprintf(list, sizeof list, "[gaggle test]\n");
    for (int i = 0; i <= OPTION_LIST_MAX; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "listen = x\n");
    assert_refused(PARSE(list), "line 34: listen", "more than 32 times");
}

/* -- misspelt variables -------------------------------------------------------------------------
 */

static void test_one_slip_in_a_variable_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *typed, *meant;
    } slips[] = {{"GAGGLE_PROT", "GAGGLE_PORT"},
                 {"GAGGLE_LISTNE", "GAGGLE_LISTEN"},
                 {"GAGGLE_MODELS", "GAGGLE_MODEL"},
                 {"GAGGLE_CONFG", "GAGGLE_CONFIG"}};
    for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
        setenv(slips[i].typed, "1", 1);
        assert_refused(parse_into(&got, (const char *const[]){NULL}), slips[i].typed,
                       slips[i].meant);
        setenv(slips[i].typed, "", 1); /* as good as not set */
        assert_int_equal(parse_into(&got, (const char *const[]){NULL}), ST_OK);
        unsetenv(slips[i].typed);
    }
}

static void test_variables_of_others_are_left_alone(void **state)
{
    (void)state;
    const char *const names[] = {
        "GAGGLE_TEST_SLOWNESS", "GAGGLE_SHARED_DATA", "GAGGLE_POT_LUCK",    "GAGGLE_",
        "GAGGLE_PARTS",         "GOGGLE_PORT",        "GAGGLE_PORT_MAXIMUM"};
    char before[8];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *old = getenv(names[i]);
        snprintf(before, sizeof before, "%s", old != NULL ? "kept" : "");
        if (old == NULL) setenv(names[i], "1", 1);
        assert_int_equal(parse_into(&got, (const char *const[]){NULL}), ST_OK);
        if (before[0] == '\0') unsetenv(names[i]);
    }
}

/* -- reading again --------------------------------------------------------------------------------
 */

static option_changes reload(settings *running, const char *text)
{
    option_row running_rows[ROWS], next_rows[ROWS];
    settings kept = *running, next;
    const option_table running_table = make_table(running, running_rows);
    *running = kept;
    write_file(text, strlen(text));
    assert_int_equal(parse_into(&next, (const char *const[]){"--config", path, NULL}), ST_OK);
    kept = next;
    const option_table next_table = make_table(&next, next_rows);
    next = kept;
    option_changes changes;
    options_reload(&running_table, &next_table, &changes);
    return changes;
}

static void test_a_reload_changes_what_may_change(void **state)
{
    (void)state;
    assert_int_equal(PARSE("[gaggle test]\nport = 1\nlevel = high\nlisten = a\n"), ST_OK);
    settings running = got;
    option_changes changes =
        reload(&running, "[gaggle test]\nport = 1\nlevel = high\nlisten = a\n");
    assert_string_equal(changes.applied, "");
    assert_string_equal(changes.needs_restart, "");

    changes = reload(&running, "[gaggle test]\nport = 2\nwait-ms = 9\nverbose = 1\nlisten = b\n");
    assert_string_equal(changes.applied, "port,wait-ms,level");
    assert_string_equal(changes.needs_restart, "verbose,listen");
    assert_int_equal(running.port, 2);
    assert_int_equal(running.wait_ms, 9);
    assert_string_equal(running.level, "low");
    assert_false(running.verbose);
    assert_string_equal(running.listen.items[0], "a");

    /* What waits for a restart is named each time, until it is taken back. */
    changes = reload(&running, "[gaggle test]\nport = 2\nwait-ms = 9\nlisten = a\nlisten = b\n");
    assert_string_equal(changes.applied, "");
    assert_string_equal(changes.needs_restart, "listen");
    changes = reload(&running, "[gaggle test]\nport = 2\nwait-ms = 9\nlisten = a\n");
    assert_string_equal(changes.needs_restart, "");
}

static void test_texts_are_kept_once(void **state)
{
    (void)state;
    assert_int_equal(PARSE("[gaggle]\nmodel = the same text\n"), ST_OK);
    const char *first = got.model;
    assert_int_equal(PARSE("[gaggle]\nmodel = the same text\n"), ST_OK);
    assert_ptr_equal(got.model, first);
    assert_int_equal(PARSE("[gaggle]\nmodel = another text\n"), ST_OK);
    assert_string_equal(first, "the same text");
}

int main(void)
{
    snprintf(path, sizeof path, "%s/fleet.ini", getenv("GAGGLE_TEST_TMP"));
    clear_environment(NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_gives_every_type),
        cmocka_unit_test(test_other_programs_sections_are_left_alone),
        cmocka_unit_test(test_the_own_section_beats_the_shared_one),
        cmocka_unit_test_teardown(test_flag_environment_file_default, clear_environment),
        cmocka_unit_test_teardown(test_the_environment_names_the_file, clear_environment),
        cmocka_unit_test(test_what_is_wrong_in_a_file_is_refused_by_line),
        cmocka_unit_test(test_what_a_flag_overrules_must_still_be_right),
        cmocka_unit_test(test_odd_files_are_refused),
        cmocka_unit_test_teardown(test_one_slip_in_a_variable_is_refused, clear_environment),
        cmocka_unit_test(test_variables_of_others_are_left_alone),
        cmocka_unit_test(test_a_reload_changes_what_may_change),
        cmocka_unit_test(test_texts_are_kept_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
