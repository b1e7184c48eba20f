/* Goal: JSON from outside is read as RFC 8259 has it, within our limits, and refused in words
 * otherwise; a file is read whole or not at all.
 * Method: every case of JSONTestSuite with the known exceptions listed by name; each limit at its
 * value and one beyond; random texts that must not hang or crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/json.h"
#include "common/limits.h"
#include "common/mem.h"
#include "tests/unit/worker/engine/test_random.h"

static error err;

static status parse(const char *bytes, size_t size, json_t **out)
{
    err = (error){0};
    *out = NULL;
    return json_parse(out, bytes, size, "test.json", &err);
}

static bool accepted(const char *bytes, size_t size)
{
    json_t *root;
    /* A copy of exactly this size, so that a sanitizer sees a read behind it. */
    char *copy = mem_copy(bytes, size);
    status st = parse(copy, size, &root);
    mem_free(copy);
    assert_true(st == ST_OK || st == ST_INVALID_ARGUMENT);
    assert_int_equal(st == ST_OK, root != NULL);
    if (st != ST_OK) assert_non_null(strstr(err.text, "test.json"));
    json_decref(root);
    return st == ST_OK;
}

#define ACCEPTED(literal) accepted(literal, sizeof(literal) - 1)

/* -- JSONTestSuite --------------------------------------------------------------------- */

/* Valid JSON that we refuse all the same. */
static const struct {
    const char *name, *why;
} exceptions[] = {
    {"y_object_duplicated_key.json", "a key given twice is a mistake in every file we read"},
    {"y_object_escaped_null_in_key.json", "jansson's keys are C strings: no NUL"},
};

static bool is_exception(const char *name)
{
    for (size_t i = 0; i < sizeof exceptions / sizeof *exceptions; i++)
        if (strcmp(exceptions[i].name, name) == 0) return true;
    return false;
}

static size_t base64_decode(const char *text, char *out)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0, held = 0;
    size_t size = 0;
    for (; *text != '\0' && *text != '='; text++) {
        const char *at = strchr(letters, *text);
        assert_non_null(at);
        bits = bits << 6 | (uint32_t)(at - letters);
        held += 6;
        if (held >= 8) out[size++] = (char)(bits >> (held -= 8));
    }
    return size;
}

static void test_conformance_suite(void **state)
{
    (void)state;
    const char *data = getenv("GAGGLE_SHARED_DATA");
    char path[1024];
    snprintf(path, sizeof path, "%s/json/JSONTestSuite-half.jsonl", data != NULL ? data : "");
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        print_message("skipped: there is no %s\n", path);
        skip();
    }
    char line[8192], bytes[8192];
    int cases = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        json_t *row = json_loads(line, 0, NULL);
        assert_non_null(row);
        const char *name = json_string_value(json_object_get(row, "name"));
        const char *expect = json_string_value(json_object_get(row, "expect"));
        size_t size = base64_decode(json_string_value(json_object_get(row, "base64")), bytes);
        bool ok = accepted(bytes, size);
        bool wanted = strcmp(expect, "accept") == 0 && !is_exception(name);
        if (strcmp(expect, "either") != 0 && ok != wanted)
            fail_msg("%s was %s: %s", name, ok ? "accepted" : "refused", err.text);
        json_decref(row);
        cases++;
    }
    fclose(file);
    assert_true(cases >= 100);
}

/* -- limits ------------------------------------------------------------------------------ */

static void test_depth_is_bounded_and_exact(void **state)
{
    (void)state;
    static char text[5 * LIMIT_JSON_DEPTH + 64];
    for (uint32_t depth = LIMIT_JSON_DEPTH - 2; depth <= LIMIT_JSON_DEPTH + 2; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(accepted(text, 2 * depth), depth <= LIMIT_JSON_DEPTH);
        if (depth > LIMIT_JSON_DEPTH) assert_non_null(strstr(err.text, "deeper than 128 levels"));

        size_t used = 0; /* {"":{"":1}} */
        for (uint32_t i = 0; i < depth; i++, used += 4)
            memcpy(text + used, "{\"\":", 4);
        text[used++] = '1';
        memset(text + used, '}', depth);
        assert_int_equal(accepted(text, used + depth), depth <= LIMIT_JSON_DEPTH);
    }
}

static void test_brackets_in_strings_have_no_depth(void **state)
{
    (void)state;
    static char text[4096];
    const char *const pieces[] = {"[", "{", "\\\"[", "\\\\", "]}", "\\u005b"};
    for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
        size_t used = 0;
        text[used++] = '[';
        text[used++] = '"';
        for (int i = 0; i < 400; i++) {
            memcpy(text + used, pieces[p], strlen(pieces[p]));
            used += strlen(pieces[p]);
        }
        text[used++] = '"';
        text[used++] = ']';
        assert_true(accepted(text, used));
    }
}

/* Real tokenizer_config.json files hold 10^30; its neighbours stay what they are. */
static void test_integers_beyond_64_bits_are_reals(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\": 1000000000000000019884624838656, \"b\": -7, \"c\": \"99999999999999999999\","
        " \"d\": [123456789012345678901234], \"e\": 1.5e3, \"f\": -99999999999999999999}";
    json_t *root;
    assert_int_equal(json_parse(&root, text, sizeof text - 1, "test", &err), ST_OK);
    assert_true(json_real_value(json_object_get(root, "a")) == 1e30);
    assert_int_equal(json_integer_value(json_object_get(root, "b")), -7);
    assert_string_equal(json_string_value(json_object_get(root, "c")), "99999999999999999999");
    assert_true(json_is_real(json_array_get(json_object_get(root, "d"), 0)));
    assert_true(json_real_value(json_object_get(root, "e")) == 1500);
    assert_true(json_real_value(json_object_get(root, "f")) == -1e20);
    json_decref(root);
}

/* A million brackets must neither overflow the stack nor take long. */
static void test_a_flood_of_brackets_is_refused_at_once(void **state)
{
    (void)state;
    enum { FLOOD = 1 << 20 };
    const char *const pieces[] = {"[", "{", "{\"\":", "[{\"a\":", "]", "}", "[]", "\"[", "\\\"["};
    char *text = mem_alloc(FLOOD + 16);
    for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
        size_t used = 0, size = strlen(pieces[p]);
        while (used < FLOOD) {
            memcpy(text + used, pieces[p], size);
            used += size;
        }
        assert_false(accepted(text, used));
    }
    mem_free(text);
}

static void test_duplicate_keys_are_refused(void **state)
{
    (void)state;
    assert_false(ACCEPTED("{\"a\": 1, \"a\": 1}"));
    assert_non_null(strstr(err.text, "line 1"));
    assert_false(ACCEPTED("[{\"x\": {\"a\": 1, \"b\": 2, \"\\u0061\": 3}}]"));
    assert_true(ACCEPTED("[{\"a\": 1}, {\"a\": 1}]"));
}

static void test_nothing_may_follow(void **state)
{
    (void)state;
    assert_true(ACCEPTED("{} \r\n\t "));
    assert_false(ACCEPTED("{} {}"));
    assert_false(ACCEPTED("{},"));
    assert_false(ACCEPTED("1 2"));
    assert_false(ACCEPTED("[1]]"));
    assert_false(ACCEPTED("[1]\0"));
    assert_false(ACCEPTED("[1]\0[2]"));
    assert_false(ACCEPTED("null\0"));
}

static void test_nul_is_a_character_in_strings_only(void **state)
{
    (void)state;
    json_t *root;
    assert_int_equal(parse("[\"a\\u0000b\"]", 12, &root), ST_OK);
    const json_t *text = json_array_get(root, 0);
    assert_int_equal(json_string_length(text), 3);
    assert_memory_equal(json_string_value(text), "a\0b", 3);
    json_decref(root);
    assert_false(ACCEPTED("[\"a\0b\"]"));
    assert_false(ACCEPTED("[1,\0 2]"));
    assert_false(ACCEPTED("[1\0, 2]"));
    assert_false(ACCEPTED("{\"a\": true\0}"));
    assert_false(ACCEPTED("\0"));
}

static void test_text_must_be_utf8(void **state)
{
    (void)state;
    assert_true(ACCEPTED("[\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"]"));
    const char *const wrong[] = {"\x80",         "\xc3",         "\xc0\xaf",         "\xed\xa0\x80",
                                 "\xe2\x82",     "\xf8\x88\x80", "\xf4\x90\x80\x80", "\xff",
                                 "\xe0\x80\xaf", "\\ud800",      "\\udc00\\ud800"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[32];
        int size = snprintf(text, sizeof text, "[\"%s\"]", wrong[i]);
        assert_false(accepted(text, (size_t)size));
    }
}

static void test_errors_say_where(void **state)
{
    (void)state;
    assert_false(ACCEPTED("{\n  \"a\": 1,\n  \"b\": oops\n}"));
    assert_non_null(strstr(err.text, "test.json"));
    assert_non_null(strstr(err.text, "line 3"));
    assert_non_null(strstr(err.text, "column"));
}

static void test_a_lone_value_is_a_text(void **state)
{
    (void)state;
    assert_true(ACCEPTED("42"));
    assert_true(ACCEPTED("\"x\""));
    assert_true(ACCEPTED(" null "));
    assert_false(ACCEPTED(""));
    assert_false(ACCEPTED(" "));
    json_t *root;
    assert_int_equal(parse(NULL, 0, &root), ST_INVALID_ARGUMENT);
}

static void test_numbers_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    json_t *root;
    assert_int_equal(parse("[9223372036854775807, -9223372036854775808]", 43, &root), ST_OK);
    assert_true(json_integer_value(json_array_get(root, 0)) == INT64_MAX);
    assert_true(json_integer_value(json_array_get(root, 1)) == INT64_MIN);
    json_decref(root);
    assert_true(ACCEPTED("[9223372036854775808]")); /* as a real */
    assert_false(ACCEPTED("[1e400]"));
    assert_true(ACCEPTED("[1e-400]"));
}

/* Whatever is accepted says the same after a round trip. */
static void test_random_texts_are_parsed_or_refused(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "{",    "}",    "[",    "]",    ",",    ":",       "\"",      "\"a\"", "\"b\":", "1",
        "-",    "0",    ".5",   "e9",   "true", "false",   "null",    " ",     "\n",     "\\u00",
        "\\ud", "\\\"", "\xc3", "\xa9", "\0",   "\"x\":[", "{\"k\":", "]}",    "\\",     "\t"};
    test_random random = {5};
    char text[256];
    int valid = 0;
    for (int round = 0; round < 60000; round++) {
        size_t used = 0;
        uint32_t count = random_below(&random, 12);
        for (uint32_t i = 0; i < count; i++) {
            const char *piece = pieces[random_below(&random, sizeof pieces / sizeof *pieces)];
            size_t size = *piece == '\0' ? 1 : strlen(piece);
            memcpy(text + used, piece, size);
            used += size;
        }
        json_t *root, *again;
        if (parse(text, used, &root) != ST_OK) continue;
        valid++;
        char *dumped = json_dumps(root, JSON_ENCODE_ANY);
        assert_non_null(dumped);
        assert_int_equal(parse(dumped, strlen(dumped), &again), ST_OK);
        assert_true(json_equal(root, again));
        free(dumped);
        json_decref(root);
        json_decref(again);
    }
    assert_true(valid > 500);
}

/* -- files ------------------------------------------------------------------------------- */

static const char *scratch_path(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", getenv("GAGGLE_TEST_TMP"), name);
    return path;
}

static const char *write_file(const char *name, const void *bytes, size_t size)
{
    const char *path = scratch_path(name);
    unlink(path);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return path;
}

static status read_path(const char *path, size_t size_max, char **bytes, size_t *size)
{
    err = (error){0};
    *bytes = NULL;
    *size = 12345;
    status st = file_read(bytes, size, path, size_max, &err);
    if (st != ST_OK) {
        assert_null(*bytes);
        assert_non_null(strstr(err.text, path));
        assert_int_equal(err.code, st);
    }
    return st;
}

static void test_files_are_read_whole_up_to_the_limit(void **state)
{
    (void)state;
    char content[5000], *bytes;
    size_t size;
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (char)(i * 7); /* NULs among them */
    const size_t sizes[] = {0, 1, 4095, 4096, 4097, 5000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const char *path = write_file("content", content, sizes[i]);
        assert_int_equal(read_path(path, sizes[i], &bytes, &size), ST_OK);
        assert_int_equal(size, sizes[i]);
        assert_memory_equal(bytes, content, size);
        assert_int_equal(bytes[size], '\0');
        mem_free(bytes);
        if (sizes[i] == 0) continue;
        assert_int_equal(read_path(path, sizes[i] - 1, &bytes, &size), ST_OUT_OF_RANGE);
        char words[64];
        snprintf(words, sizeof words, "%zu bytes; the limit is %zu", sizes[i], sizes[i] - 1);
        assert_non_null(strstr(err.text, words));
    }
}

static void test_files_that_cannot_be_read_say_why(void **state)
{
    (void)state;
    char *bytes;
    size_t size;
    assert_int_equal(read_path(scratch_path("absent"), 100, &bytes, &size), ST_NOT_FOUND);
    write_file("plain", "x", 1);
    assert_int_equal(read_path(scratch_path("plain/below"), 100, &bytes, &size), ST_NOT_FOUND);
    assert_int_equal(read_path(scratch_path("."), 100, &bytes, &size), ST_INVALID_ARGUMENT);
    assert_int_equal(read_path("/dev/zero", 100, &bytes, &size), ST_INVALID_ARGUMENT);
}

static void test_a_pipe_is_refused_and_not_waited_for(void **state)
{
    (void)state;
    char *bytes;
    size_t size;
    const char *path = scratch_path("pipe");
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    alarm(20); /* instead of hanging for ever */
    assert_int_equal(read_path(path, 100, &bytes, &size), ST_INVALID_ARGUMENT);
    alarm(0);
    assert_non_null(strstr(err.text, "not a regular file"));
}

static void test_files_of_others_are_denied(void **state)
{
    (void)state;
    if (geteuid() == 0) {
        print_message("skipped: root may read everything\n");
        skip();
    }
    char *bytes;
    size_t size;
    const char *path = write_file("locked", "x", 1);
    assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(read_path(path, 100, &bytes, &size), ST_PERMISSION_DENIED);
}

static void test_json_files_carry_their_path_in_errors(void **state)
{
    (void)state;
    json_t *root = NULL;
    const char *path = write_file("good.json", "{\"a\": [1, 2]}", 13);
    assert_int_equal(json_load_path(&root, path, 100, &err), ST_OK);
    assert_int_equal(json_array_size(json_object_get(root, "a")), 2);
    json_decref(root);
    assert_int_equal(json_load_path(&root, path, 12, &err), ST_OUT_OF_RANGE);
    path = write_file("bad.json", "{\"a\": [1, 2}", 12);
    assert_int_equal(json_load_path(&root, path, 100, &err), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(json_load_path(&root, scratch_path("absent"), 100, &err), ST_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers_beyond_64_bits_are_reals),
        cmocka_unit_test(test_conformance_suite),
        cmocka_unit_test(test_depth_is_bounded_and_exact),
        cmocka_unit_test(test_brackets_in_strings_have_no_depth),
        cmocka_unit_test(test_a_flood_of_brackets_is_refused_at_once),
        cmocka_unit_test(test_duplicate_keys_are_refused),
        cmocka_unit_test(test_nothing_may_follow),
        cmocka_unit_test(test_nul_is_a_character_in_strings_only),
        cmocka_unit_test(test_text_must_be_utf8),
        cmocka_unit_test(test_errors_say_where),
        cmocka_unit_test(test_a_lone_value_is_a_text),
        cmocka_unit_test(test_numbers_that_do_not_fit_are_refused),
        cmocka_unit_test(test_random_texts_are_parsed_or_refused),
        cmocka_unit_test(test_files_are_read_whole_up_to_the_limit),
        cmocka_unit_test(test_files_that_cannot_be_read_say_why),
        cmocka_unit_test(test_a_pipe_is_refused_and_not_waited_for),
        cmocka_unit_test(test_files_of_others_are_denied),
        cmocka_unit_test(test_json_files_carry_their_path_in_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
