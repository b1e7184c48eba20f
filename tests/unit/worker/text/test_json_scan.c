/* Goal: reading JSON in place accepts and gives exactly what the tree parser does.
 *
 * Method: common/json.h as the oracle, over hand-made texts, random damage to them, and the shared
 * collection of JSON parsing cases, each of which says what must happen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/limits.h"
#include "common/mem.h"
#include "text_support.h"
#include "worker/text/json_scan.h"

static const char *const good[] = {
    "null",
    " [ ] ",
    "{}",
    "0",
    "-0",
    "1e5",
    "-12.5E-3",
    "\"\"",
    "[1,2,[3,{\"a\":[]}],\"x\"]",
    "{\"a\":1,\"b\":{\"c\":[true,false,null]},\"\":\"\"}",
    "\"\\u00e9\\ud83e\\udd86\\n\\\\\\/\\\"\\b\\f\\r\\t\"",
    "[\"\xC3\xA9\xE6\xBC\xA2\"]",
    "{\"\\u0061b\":\"a\\u0062\"}",
    "[[[[[[[[]]]]]]]]",
    "[0.5,1E+2]",
    "\"\\u0000\"",
};

static const char *const bad[] = {
    "",
    " ",
    "nul",
    "nulll",
    "01",
    "-",
    "1.",
    ".5",
    "1e",
    "+1",
    "[1,]",
    "[,1]",
    "[1 2]",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{a:1}",
    "\"",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\ud800\"",
    "\"\\udc00a\"",
    "\"\\ud800\\u0041\"",
    "\"\x01\"",
    "\"\xFF\"",
    "[1]x",
    "]",
    "}",
    "[}",
    "{]",
    "'a'",
    "\"a",
    "[",
};

/* A tree made by walking; compared with the tree parser's. */
static json_t *tree_by_walking(json_span value)
{
    const char *text;
    size_t size;
    int64_t number;
    buffer scratch = {0};
    json_t *tree = NULL;
    json_walk walk;
    json_span key, item;
    if (json_is_array_span(value)) {
        tree = json_array();
        for (walk = json_walk_begin(value); json_walk_element(&walk, &item);)
            json_array_append_new(tree, tree_by_walking(item));
    } else if (json_is_object_span(value)) {
        tree = json_object();
        for (walk = json_walk_begin(value); json_walk_member(&walk, &key, &item);) {
            assert_true(json_string_span(key, &scratch, &text, &size));
            json_object_setn_new(tree, text, size, tree_by_walking(item));
        }
    } else if (json_string_span(value, &scratch, &text, &size)) {
        tree = json_stringn(text, size);
    } else if (json_integer_span(value, &number)) {
        tree = json_integer(number);
    } else {
        error err = {0};
        assert_int_equal(json_parse(&tree, value.at, value.size, "scalar", &err), ST_OK);
    }
    buffer_free(&scratch);
    return tree;
}

static json_span trimmed(const char *text, size_t size)
{
    while (size > 0 && strchr(" \n\r\t", text[0]) != NULL) {
        text++;
        size--;
    }
    while (size > 0 && strchr(" \n\r\t", text[size - 1]) != NULL)
        size--;
    return (json_span){text, size};
}

/* True when both parsers accept; they must agree, but for what only the tree parser refuses. */
static bool compare(const char *text, size_t size)
{
    error err = {0}, tree_err = {0};
    json_t *expected = NULL;
    char *copy = mem_copy(text, size); /* of exact size, for the sanitizer to see the end */
    bool ok = json_check(copy, size, "test", &err) == ST_OK;
    bool tree_ok = json_parse(&expected, copy, size, "test", &tree_err) == ST_OK;
    bool refuses_more = strstr(tree_err.text, "duplicate") != NULL ||
                        strstr(tree_err.text, "too big") != NULL ||
                        strstr(tree_err.text, "overflow") != NULL ||
                        strstr(tree_err.text, "NUL byte in object key") != NULL;
    if (ok != tree_ok && !(ok && refuses_more))
        fail_msg("%.*s: \"%s\" but \"%s\"", (int)size, text, err.text, tree_err.text);
    if (ok && tree_ok) {
        json_t *got = tree_by_walking(trimmed(copy, size));
        if (!json_equal(got, expected)) fail_msg("%.*s: another tree", (int)size, text);
        json_decref(got);
    }
    json_decref(expected);
    mem_free(copy);
    return ok;
}

static void test_agrees_with_the_tree_parser(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!compare(good[i], strlen(good[i]))) fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (compare(bad[i], strlen(bad[i]))) fail_msg("accepted: %s", bad[i]);
}

static void test_agrees_on_damaged_texts(void **state)
{
    (void)state;
    static const char marks[] = "[]{},:\"\\0e-. u\n\x80";
    uint64_t seed = 5;
    for (int round = 0; round < 20000; round++) {
        char text[128];
        const char *source = good[next_random(&seed) % (sizeof good / sizeof *good)];
        size_t size = strlen(source);
        memcpy(text, source, size);
        for (uint32_t n = next_random(&seed) % 3 + 1; n > 0 && size > 0; n--)
            text[next_random(&seed) % size] = marks[next_random(&seed) % (sizeof marks - 1)];
        compare(text, size);
    }
}

static void test_depth_is_limited(void **state)
{
    (void)state;
    char text[2 * LIMIT_JSON_DEPTH + 2];
    for (size_t depth = LIMIT_JSON_DEPTH; depth <= LIMIT_JSON_DEPTH + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(compare(text, 2 * depth), depth <= LIMIT_JSON_DEPTH);
    }
}

static void test_picks_fields_and_refuses_them_twice(void **state)
{
    (void)state;
    static const char text[] = " {\"x\":{\"b\":9},\"\\u0062\":[1, 2] ,\"a\":\"}\",\"z\":1,\"z\":2}";
    static const char *const keys[] = {"a", "b", "c"}, *const twice[] = {"z"};
    json_span spans[3];
    error err = {0};
    json_span whole = {text, sizeof text - 1};
    assert_int_equal(json_pick(whole, "test", keys, spans, 3, &err), ST_OK);
    assert_int_equal(spans[0].size, 3);
    assert_memory_equal(spans[0].at, "\"}\"", 3);
    assert_int_equal(spans[1].size, 6);
    assert_memory_equal(spans[1].at, "[1, 2]", 6);
    assert_null(spans[2].at);
    assert_int_equal(json_pick(whole, "test", twice, spans, 1, &err), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "test.z"));
}

static void test_integers_that_do_not_fit_are_none(void **state)
{
    (void)state;
    static const char *const none[] = {"1.0", "1e2", "99999999999999999999", "-", "\"1\"", "true"};
    int64_t number;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_false(json_integer_span((json_span){none[i], strlen(none[i])}, &number));
    assert_true(json_integer_span((json_span){"-9223372036854775807", 20}, &number));
    assert_true(number == -INT64_MAX);
}

static size_t from_base64(const char *text, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t size = 0;
    uint32_t bits = 0;
    for (unsigned count = 0; *text != '\0' && *text != '='; text++) {
        bits = bits << 6 | (uint32_t)(strchr(digits, *text) - digits);
        count += 6;
        if (count >= 8) {
            count -= 8;
            out[size++] = (char)(bits >> count);
        }
    }
    return size;
}

static void check_shared_case(const json_t *row)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    const char *expect = json_string_value(json_object_get(row, "expect"));
    const char *encoded = json_string_value(json_object_get(row, "base64"));
    error err = {0};
    char *text = mem_alloc(strlen(encoded) + 1);
    size_t size = from_base64(encoded, text);
    bool ok = json_check(text, size, name, &err) == ST_OK;
    if (strcmp(expect, "accept") == 0 && !ok) fail_msg("%s: %s", name, err.text);
    if (strcmp(expect, "reject") == 0 && ok) fail_msg("%s: accepted", name);
    compare(text, size);
    mem_free(text);
}

static void test_shared_cases_are_judged_as_they_should(void **state)
{
    (void)state;
    char *path = shared_data("json/JSONTestSuite-half.jsonl"), *text;
    if (path == NULL) skip();
    size_t size, count = 0;
    error err = {0};
    if (file_read(&text, &size, path, 4u * LIMIT_MIB, &err) != ST_OK) fail_msg("%s", err.text);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        json_t *row;
        if (json_parse(&row, line, strlen(line), "row", &err) != ST_OK) fail_msg("%s", err.text);
        check_shared_case(row);
        json_decref(row);
        count++;
    }
    mem_free(text);
    mem_free(path);
    assert_true(count > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_the_tree_parser),
        cmocka_unit_test(test_agrees_on_damaged_texts),
        cmocka_unit_test(test_depth_is_limited),
        cmocka_unit_test(test_picks_fields_and_refuses_them_twice),
        cmocka_unit_test(test_integers_that_do_not_fit_are_none),
        cmocka_unit_test(test_shared_cases_are_judged_as_they_should),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
