/* Goal: every setting takes what its row says and refuses the rest in words; a flag beats the
 * environment; nothing that was typed is dropped without a word.
 * Method: one table with a row of each type, parsed anew for each command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/options.h"
#include "tests/unit/worker/engine/test_random.h"

typedef struct settings {
    bool verbose, cache;
    uint32_t port, plain;
    uint64_t memory, ranged;
    double rate, any;
    uint32_t wait_ms, any_ms;
    const char *model, *color;
    option_list urls;
} settings;

static settings got;
static error err;
static int rest_count;
static char *rest[64];

enum { ROWS = 13 };

static const char *const colors[] = {"red", "green", "blue", NULL};

static void make_rows(option_row rows[ROWS])
{
    const option_row all[ROWS] = {
        {"verbose", 'v', OPTION_FLAG, &got.verbose, NULL, "say more", 0, 0},
        {"prefix-cache", 0, OPTION_FLAG, &got.cache, NULL, "on", 0, 0},
        {"port", 'p', OPTION_U32, &got.port, "N", "a port", 1, 65535},
        {"plain", 0, OPTION_U32, &got.plain, "N", "any number", 0, 0},
        {"memory", 0, OPTION_U64, &got.memory, "SIZE", "bytes", 0, 0},
        {"ranged-size", 0, OPTION_U64, &got.ranged, "SIZE", "bytes", 1024, 1048576},
        {"rate", 'r', OPTION_F64, &got.rate, "X", "a rate", -2, 2},
        {"any-number", 0, OPTION_F64, &got.any, "X", "a number", 0, 0},
        {"model", 'm', OPTION_TEXT, &got.model, "DIR", "a folder", 0, 0},
        {"listen", 'l', OPTION_LIST, &got.urls, "URL", "addresses", 0, 0},
        {"wait-ms", 0, OPTION_MS, &got.wait_ms, "TIME", "a while", 50, 5400000},
        {"any-ms", 0, OPTION_MS, &got.any_ms, "TIME", "any while", 0, 0},
        {"color", 0, OPTION_TEXT, &got.color, "COLOR", "one of three", .choices = colors},
    };
    memcpy(rows, all, sizeof all);
}

/* Parse the arguments up to NULL. With `rest_allowed` the others end up in `rest`. */
static status parse_with(bool rest_allowed, const char *const *args)
{
    got = (settings){.cache = true, .port = 7400, .memory = 5, .rate = 0.5, .model = "none"};
    option_row rows[ROWS];
    make_rows(rows);
    const option_table table = {.usage = "test [options]",
                                .about = "A test.",
                                .rows = rows,
                                .row_count = ROWS,
                                .epilogue = "The end."};
    static char copies[64][256];
    char *argv[66] = {"test"};
    int argc = 1;
    for (; args[argc - 1] != NULL; argc++) {
        strncpy(copies[argc], args[argc - 1], sizeof copies[argc] - 1);
        argv[argc] = copies[argc];
    }
    err = (error){0};
    rest_count = -1;
    status st = options_parse(&table, argc, argv, rest_allowed ? &rest_count : NULL, &err);
    for (int i = 0; i < rest_count; i++)
        rest[i] = argv[1 + i];
    return st;
}

#define PARSE(...)      parse_with(false, (const char *const[]){__VA_ARGS__, NULL})
#define PARSE_REST(...) parse_with(true, (const char *const[]){__VA_ARGS__, NULL})

static void assert_refused(status st, const char *first, const char *second)
{
    assert_int_equal(st, ST_INVALID_ARGUMENT);
    assert_int_equal(err.code, ST_INVALID_ARGUMENT);
    if (strstr(err.text, first) == NULL || strstr(err.text, second) == NULL)
        fail_msg("\"%s\" should say \"%s\" and \"%s\"", err.text, first, second);
}

static void test_nothing_given_leaves_the_defaults(void **state)
{
    (void)state;
    assert_int_equal(parse_with(false, (const char *const[]){NULL}), ST_OK);
    assert_false(got.verbose);
    assert_true(got.cache);
    assert_int_equal(got.port, 7400);
    assert_int_equal(got.memory, 5);
    assert_string_equal(got.model, "none");
    assert_int_equal(got.urls.count, 0);
}

static void test_every_type_takes_its_value(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--verbose", "--port", "80", "--memory=3", "--rate", "-1.25", "--model",
                           "a b", "--listen", "tcp://a", "--listen=tcp://b"),
                     ST_OK);
    assert_true(got.verbose);
    assert_int_equal(got.port, 80);
    assert_int_equal(got.memory, 3);
    assert_true(got.rate == -1.25);
    assert_string_equal(got.model, "a b");
    assert_int_equal(got.urls.count, 2);
    assert_string_equal(got.urls.items[0], "tcp://a");
    assert_string_equal(got.urls.items[1], "tcp://b");
}

static void test_letters_take_values_attached_or_next(void **state)
{
    (void)state;
    assert_int_equal(PARSE("-v", "-p", "81", "-mdir", "-l", "x", "-ly"), ST_OK);
    assert_true(got.verbose);
    assert_int_equal(got.port, 81);
    assert_string_equal(got.model, "dir");
    assert_int_equal(got.urls.count, 2);
    assert_string_equal(got.urls.items[1], "y");
    assert_refused(PARSE("-x"), "-x", "no option");
    assert_refused(PARSE("-p"), "-p needs a value", "N");
    assert_refused(PARSE("-vp"), "-v", "true or false");
}

static void test_flags_go_on_and_off(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--no-prefix-cache"), ST_OK);
    assert_false(got.cache);
    assert_int_equal(PARSE("--no-prefix-cache", "--prefix-cache"), ST_OK);
    assert_true(got.cache);
    assert_int_equal(PARSE("--verbose=false"), ST_OK);
    assert_false(got.verbose);
    assert_int_equal(PARSE("--verbose=yes"), ST_OK);
    assert_true(got.verbose);
    assert_refused(PARSE("--verbose=maybe"), "--verbose is 'maybe'", "true or false");
    assert_refused(PARSE("--no-port"), "no option --no-port", "");
    assert_refused(PARSE("--no-prefix-cache=1"), "no option", "");
    assert_refused(PARSE("--no-"), "no option", "");
}

static void test_whole_numbers_are_whole(void **state)
{
    (void)state;
    const char *const wrong[] = {"",   " 1",  "+1", "-1",    "1.0", "1e3", "0x10", "one",
                                 "1 ", "1\n", "8K", "1,000", "K",   "--",  "\xb2", "1_000"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_refused(PARSE("--plain", wrong[i]), "--plain is", "whole number");
    assert_int_equal(PARSE("--plain=4294967295"), ST_OK);
    assert_int_equal(got.plain, UINT32_MAX);
    assert_int_equal(PARSE("--plain=0000000000000000000000012"), ST_OK);
    assert_int_equal(got.plain, 12);
}

static void test_a_number_out_of_range_is_told_the_range(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--port=1"), ST_OK);
    assert_int_equal(PARSE("--port=65535"), ST_OK);
    assert_refused(PARSE("--port=0"), "--port is 0", "1 to 65535");
    assert_refused(PARSE("--port=65536"), "--port is 65536", "1 to 65535");
    assert_refused(PARSE("--port=4294967297"), "--port is 4294967297", "1 to 65535");
    assert_refused(PARSE("--port=99999999999999999999999"), "99999999999999999999999",
                   "1 to 65535");
    assert_refused(PARSE("--plain=4294967296"), "--plain is 4294967296", "at most 4294967295");
    assert_refused(PARSE("--memory=18446744073709551616"), "18446744073709551616",
                   "at most 18446744073709551615");
    assert_refused(PARSE("--ranged-size=1023"), "--ranged-size is 1023", "1024 to 1048576");
    assert_refused(PARSE("--ranged-size=2M"), "--ranged-size is 2M", "1024 to 1048576");
}

static void test_sizes_take_powers_of_1024(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t value;
    } cases[] = {
        {"0", 0},
        {"7", 7},
        {"1K", 1024},
        {"1k", 1024},
        {"3M", 3u << 20},
        {"2g", 2ull << 30},
        {"5T", 5ull << 40},
        {"18446744073709551615", UINT64_MAX},
        {"16777215T", 16777215ull << 40},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(PARSE("--memory", cases[i].text), ST_OK);
        assert_true(got.memory == cases[i].value);
    }
    assert_int_equal(PARSE("--ranged-size=1M"), ST_OK);
    const char *const wrong[] = {"1KB", "1KK", "K", "1P", "1 K", "-1K", "1.5G", "\xe2\x82\xac"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_refused(PARSE("--memory", wrong[i]), "--memory is", "whole number");
    assert_refused(PARSE("--memory=16777216T"), "16777216T", "at most");
    assert_refused(PARSE("--memory=18446744073709551615K"), "at most", "");
}

static void test_times_take_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t ms;
    } cases[] = {{"0", 0},       {"7", 7},
                 {"250ms", 250}, {"30s", 30000},
                 {"5m", 300000}, {"2h", 7200000},
                 {"1S", 1000},   {"4294967295", UINT32_MAX},
                 {"00s", 0},     {"4294967s", 4294967000u}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(PARSE("--any-ms", cases[i].text), ST_OK);
        assert_int_equal(got.any_ms, cases[i].ms);
    }
    const char *const wrong[] = {"", "s", "1 s", "1.5s", "-1s", "1d", "1sec", "1mss", "1K", "ms"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_refused(PARSE("--any-ms", wrong[i]), "--any-ms is", "ms, s, m, h");
    assert_refused(PARSE("--any-ms=4294968s"), "--any-ms is 4294968s", "at most 4294967295ms");
    assert_refused(PARSE("--any-ms=18446744073709551615h"), "18446744073709551615h", "at most");
    assert_refused(PARSE("--wait-ms=49ms"), "--wait-ms is 49ms", "50ms to 90m");
    assert_refused(PARSE("--wait-ms=2h"), "--wait-ms is 2h", "50ms to 90m");
    assert_refused(PARSE("--plain=1s"), "--plain is '1s'", "whole number");
}

static void test_only_choices_are_taken(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--color", "green"), ST_OK);
    assert_string_equal(got.color, "green");
    const char *const wrong[] = {"", "gren", "Green", "green ", "redgreen"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_refused(PARSE("--color", wrong[i]), "--color is '", "red, green or blue");
        assert_null(got.color);
    }
}

static void test_real_numbers(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--any-number=1e-3", "-r2"), ST_OK);
    assert_true(got.any == 1e-3 && got.rate == 2);
    const char *const wrong[] = {"", "x", "1x", "nan", "inf", "-inf", "1e999", "1 2"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_refused(PARSE("--any-number", wrong[i]), "--any-number is", "a number");
    assert_refused(PARSE("--rate=2.001"), "--rate is 2.001", "-2 to 2");
    assert_refused(PARSE("--rate=-2.5"), "--rate is -2.5", "-2 to 2");
}

static void test_a_refused_value_changes_nothing(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--port=70000"), ST_INVALID_ARGUMENT);
    assert_int_equal(got.port, 7400);
    assert_int_equal(PARSE("--rate=9"), ST_INVALID_ARGUMENT);
    assert_true(got.rate == 0.5);
    assert_int_equal(PARSE("--memory=x"), ST_INVALID_ARGUMENT);
    assert_int_equal(got.memory, 5);
}

static void test_lists_are_bounded(void **state)
{
    (void)state;
    const char *args[OPTION_LIST_MAX + 2] = {0};
    for (int i = 0; i < OPTION_LIST_MAX; i++)
        args[i] = "--listen=u";
    assert_int_equal(parse_with(false, args), ST_OK);
    assert_int_equal(got.urls.count, OPTION_LIST_MAX);
    args[OPTION_LIST_MAX] = "--listen=u";
    assert_refused(parse_with(false, args), "--listen", "more than 32 times");
}

static void test_misspelt_flags_are_told_the_nearest(void **state)
{
    (void)state;
    assert_refused(PARSE("--prot=1"), "--prot", "did you mean --port");
    assert_refused(PARSE("--verbos"), "--verbos", "did you mean --verbose");
    assert_refused(PARSE("--prefixcache"), "", "did you mean --prefix-cache");
    assert_refused(PARSE("--range-size", "1"), "", "did you mean --ranged-size");
    assert_refused(PARSE("--zzzzzzzzz"), "--zzzzzzzzz", "--help");
    assert_refused(PARSE("--=1"), "no option", "");
    char longest[200];
    memset(longest, 'a', sizeof longest);
    longest[0] = longest[1] = '-';
    longest[sizeof longest - 1] = '\0';
    assert_refused(PARSE(longest), "no option", "");
}

/* The whole matrix, without tricks. */
static size_t slow_distance(const char *a, const char *b)
{
    static size_t d[64][64];
    size_t n = strlen(a), m = strlen(b);
    for (size_t i = 0; i <= n; i++)
        for (size_t j = 0; j <= m; j++) {
            size_t best = i == 0 ? j : j == 0 ? i : d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (i > 0 && d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (j > 0 && d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

static void test_nearest_is_the_first_at_the_least_edit_distance(void **state)
{
    (void)state;
    test_random random = {9};
    char words[6][12], typed[12];
    const char *names[5];
    for (int round = 0; round < 5000; round++) {
        for (int w = 0; w < 6; w++) {
            uint32_t size = random_below(&random, 11);
            for (uint32_t i = 0; i < size; i++)
                words[w][i] = "abc"[random_below(&random, 3)];
            words[w][size] = '\0';
        }
        memcpy(typed, words[5], sizeof typed);
        const char *expected = NULL;
        size_t best = strlen(typed) / 3 + 2;
        for (int w = 0; w < 5; w++) {
            names[w] = words[w];
            size_t distance = slow_distance(typed, words[w]);
            if (distance >= best) continue;
            best = distance;
            expected = words[w];
        }
        for (int w = 0; w < 5 && expected == NULL && strlen(typed) >= 3; w++)
            if (strncmp(words[w], typed, strlen(typed)) == 0) expected = words[w];
        assert_ptr_equal(options_nearest(typed, names, 5), expected);
    }
    names[0] = "max-queue-bytes";
    assert_ptr_equal(options_nearest("max", names, 1), names[0]);
    assert_null(options_nearest("ma", names, 1));
    assert_null(options_nearest("queue", names, 1));
    assert_null(options_nearest("anything", NULL, 0));
}

static void test_values_may_be_missing(void **state)
{
    (void)state;
    assert_refused(PARSE("--port"), "--port needs a value", "--port N");
    assert_refused(PARSE("--verbose", "--model"), "--model needs a value", "--model DIR");
    assert_refused(PARSE("--listen"), "--listen needs a value", "URL");
    assert_int_equal(PARSE("--model="), ST_OK);
    assert_string_equal(got.model, "");
}

static void test_two_dashes_end_the_flags(void **state)
{
    (void)state;
    assert_int_equal(PARSE_REST("one", "--verbose", "two", "-", "--", "--port", "-x", "--"), ST_OK);
    assert_true(got.verbose);
    assert_int_equal(got.port, 7400);
    const char *const expected[] = {"one", "two", "-", "--port", "-x", "--"};
    assert_int_equal(rest_count, 6);
    for (int i = 0; i < 6; i++)
        assert_string_equal(rest[i], expected[i]);
    assert_int_equal(PARSE_REST("--"), ST_OK);
    assert_int_equal(rest_count, 0);
}

static void test_other_arguments_are_refused_where_none_belong(void **state)
{
    (void)state;
    assert_refused(PARSE("--verbose", "stray"), "'stray'", "not expected");
    assert_refused(PARSE("--", "stray"), "'stray'", "not expected");
}

/* -- environment ------------------------------------------------------------------------- */

static void clear_environment(void)
{
    const char *const names[] = {"GAGGLE_VERBOSE", "GAGGLE_PREFIX_CACHE", "GAGGLE_PORT",
                                 "GAGGLE_MEMORY",  "GAGGLE_RATE",         "GAGGLE_MODEL",
                                 "GAGGLE_LISTEN",  "GAGGLE_PLAIN"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
}

static void test_environment_gives_every_type(void **state)
{
    (void)state;
    setenv("GAGGLE_VERBOSE", "1", 1);
    setenv("GAGGLE_PREFIX_CACHE", "no", 1);
    setenv("GAGGLE_PORT", "99", 1);
    setenv("GAGGLE_MEMORY", "2K", 1);
    setenv("GAGGLE_RATE", "1.5", 1);
    setenv("GAGGLE_MODEL", "from the environment", 1);
    setenv("GAGGLE_LISTEN", "tcp://a,,tcp://b,", 1);
    assert_int_equal(PARSE("--plain=1"), ST_OK);
    assert_true(got.verbose && !got.cache);
    assert_int_equal(got.port, 99);
    assert_int_equal(got.memory, 2048);
    assert_true(got.rate == 1.5);
    assert_string_equal(got.model, "from the environment");
    assert_int_equal(got.urls.count, 2);
    assert_string_equal(got.urls.items[0], "tcp://a");
    assert_string_equal(got.urls.items[1], "tcp://b");
    for (size_t i = 0; i < got.urls.count; i++) /* the strings are not the environment's own */
        assert_null(strchr(got.urls.items[i], ','));
}

static void test_a_flag_beats_the_environment(void **state)
{
    (void)state;
    setenv("GAGGLE_VERBOSE", "true", 1);
    setenv("GAGGLE_PORT", "99", 1);
    setenv("GAGGLE_MODEL", "theirs", 1);
    setenv("GAGGLE_LISTEN", "tcp://env", 1);
    assert_int_equal(PARSE("--no-verbose", "-p", "100", "--model=mine", "-l", "tcp://flag"), ST_OK);
    assert_false(got.verbose);
    assert_int_equal(got.port, 100);
    assert_string_equal(got.model, "mine");
    assert_int_equal(got.urls.count, 1);
    assert_string_equal(got.urls.items[0], "tcp://flag");
}

static void test_a_bad_environment_names_its_variable(void **state)
{
    (void)state;
    setenv("GAGGLE_PORT", "70000", 1);
    assert_refused(PARSE("--verbose"), "GAGGLE_PORT is 70000", "1 to 65535");
    setenv("GAGGLE_PORT", "", 1); /* empty is as good as not set */
    assert_int_equal(PARSE("--verbose"), ST_OK);
    setenv("GAGGLE_VERBOSE", "perhaps", 1);
    assert_refused(PARSE("--plain=1"), "GAGGLE_VERBOSE is 'perhaps'", "true or false");
}

static int clean_up(void **state)
{
    (void)state;
    clear_environment();
    return 0;
}

/* -- help -------------------------------------------------------------------------------- */

/* The output of a child that parses `flag`, and how it ended. */
static int run_and_read(const char *flag, char *out, size_t size)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        (void)!PARSE(flag);
        _exit(99);
    }
    close(ends[1]);
    size_t used = 0;
    for (ssize_t n; used < size - 1 && (n = read(ends[0], out + used, size - 1 - used)) > 0;)
        used += (size_t)n;
    out[used] = '\0';
    close(ends[0]);
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

static void test_help_shows_every_row_and_ends_well(void **state)
{
    (void)state;
    static char text[8192];
    const char *const flags[] = {"--help", "-h"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run_and_read(flags[i], text, sizeof text), 0);
        option_row rows[ROWS];
        make_rows(rows);
        for (int r = 0; r < ROWS; r++) {
            assert_non_null(strstr(text, rows[r].name));
            assert_non_null(strstr(text, rows[r].help));
        }
        assert_non_null(strstr(text, "usage: test [options]"));
        assert_non_null(strstr(text, "-p, --port N"));
        assert_non_null(strstr(text, "The end."));
    }
    assert_int_equal(run_and_read("--version", text, sizeof text), 0);
    assert_string_equal(text, "gaggle " GAGGLE_VERSION "\n");
}

int main(void)
{
    clear_environment();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_given_leaves_the_defaults),
        cmocka_unit_test(test_every_type_takes_its_value),
        cmocka_unit_test(test_letters_take_values_attached_or_next),
        cmocka_unit_test(test_flags_go_on_and_off),
        cmocka_unit_test(test_whole_numbers_are_whole),
        cmocka_unit_test(test_a_number_out_of_range_is_told_the_range),
        cmocka_unit_test(test_sizes_take_powers_of_1024),
        cmocka_unit_test(test_times_take_units),
        cmocka_unit_test(test_only_choices_are_taken),
        cmocka_unit_test(test_real_numbers),
        cmocka_unit_test(test_a_refused_value_changes_nothing),
        cmocka_unit_test(test_lists_are_bounded),
        cmocka_unit_test(test_misspelt_flags_are_told_the_nearest),
        cmocka_unit_test(test_nearest_is_the_first_at_the_least_edit_distance),
        cmocka_unit_test(test_values_may_be_missing),
        cmocka_unit_test(test_two_dashes_end_the_flags),
        cmocka_unit_test(test_other_arguments_are_refused_where_none_belong),
        cmocka_unit_test_teardown(test_environment_gives_every_type, clean_up),
        cmocka_unit_test_teardown(test_a_flag_beats_the_environment, clean_up),
        cmocka_unit_test_teardown(test_a_bad_environment_names_its_variable, clean_up),
        cmocka_unit_test(test_help_shows_every_row_and_ends_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
