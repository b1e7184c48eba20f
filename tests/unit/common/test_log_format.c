/* Goal: a log line says the same as text and as JSON; in JSON it is one valid object whatever a
 * value holds, and only the format, never a value, makes a field.
 * Method: lines are formatted into memory; the JSON is read back by a strict parser of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "common/log_format.h"
#include "tests/unit/worker/engine/test_random.h"

static const log_head head = {"2026-01-31T12:00:00.123Z", "warn", "tester"};
static char line[LOG_LINE_BYTES + 1];

__attribute__((format(printf, 1, 2))) static const char *as_text(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t size = log_format_text(line, &head, format, args);
    va_end(args);
    assert_in_range(size, 1, LOG_LINE_BYTES);
    assert_int_equal(line[size - 1], '\n');
    assert_ptr_equal(memchr(line, '\n', size), line + size - 1);
    line[size - 1] = '\0';
    static const char begin[] = "2026-01-31T12:00:00.123Z warn  tester ";
    assert_memory_equal(line, begin, sizeof begin - 1);
    const char *message = line + sizeof begin - 1;
    return *message == ' ' ? message + 1 : message;
}

/* The members, decref'd by the next call. */
__attribute__((format(printf, 1, 2))) static json_t *as_json(const char *format, ...)
{
    static json_t *object;
    json_decref(object);
    va_list args;
    va_start(args, format);
    size_t size = log_format_json(line, &head, format, args);
    va_end(args);
    assert_in_range(size, 1, LOG_LINE_BYTES);
    assert_ptr_equal(memchr(line, '\n', size), line + size - 1);
    for (size_t i = 0; i + 1 < size; i++) /* a terminal gets nothing but text */
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) fail_msg("byte %zu: %s", i, line);
    json_error_t why;
    object = json_loadb(line, size, JSON_REJECT_DUPLICATES, &why);
    line[size] = '\0';
    if (object == NULL) fail_msg("%s: %s", why.text, line);
    return object;
}

static const char *text_member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value)) fail_msg("%s is no text: %s", key, line);
    return json_string_value(value);
}

static void test_a_line_has_its_head_event_and_fields(void **state)
{
    (void)state;
    json_t *o = as_json("request=%s placed worker=%s waiting=%u", "5f", "lab-cuda1", 3u);
    assert_string_equal(line, "{\"time\":\"2026-01-31T12:00:00.123Z\",\"level\":\"warn\","
                              "\"program\":\"tester\",\"event\":\"placed\",\"request\":\"5f\","
                              "\"worker\":\"lab-cuda1\",\"waiting\":3}\n");
    assert_int_equal(json_object_size(o), 7);
    assert_string_equal(as_text("request=%s placed worker=%s waiting=%u", "5f", "lab-cuda1", 3u),
                        "request=5f placed worker=lab-cuda1 waiting=3");
}

static void test_words_that_are_no_fields_are_the_event(void **state)
{
    (void)state;
    assert_string_equal(text_member(as_json("model ready in_ms=%d of %s it", 7, "all"), "event"),
                        "model ready of all it");
    assert_string_equal(text_member(as_json("stopped"), "event"), "stopped");
    assert_string_equal(text_member(as_json("worker=%s", "w"), "event"), "");
    assert_string_equal(text_member(as_json("%s", "two  words, a=b"), "event"), "two  words, a=b");
    assert_string_equal(text_member(as_json("URL a==b =c Key=1 k-y=2 100%%"), "event"),
                        "URL =c Key=1 k-y=2 100%");
    assert_string_equal(text_member(as_json("URL a==b"), "a"), "=b");
}

static void test_every_conversion_is_printed(void **state)
{
    (void)state;
    as_json("a=%d b=%u c=%lld d=%llu e=%zu f=%ld g=%lu h=%x i=%.2f j=%g k=%c l=%.*s "
            "m=%03d n=%s->%s o=%u..%u p=\"%s of %d\" q=%" PRIu64 " r=%hhu s=%-5s t=%%",
            -1, 4294967295u, -900000000000000000LL, 18446744073709551615ull, (size_t)5, -6L, 7ul,
            255u, 1.005, 1e300, 'x', 2, "yes", 7, "old", "new", 1u, 2u, "three", 4,
            UINT64_C(123456789012345678), (unsigned char)8, "ab");
    static const char expected[] =
        "\"event\":\"\",\"a\":-1,\"b\":4294967295,\"c\":-900000000000000000,"
        "\"d\":\"18446744073709551615\",\"e\":5,\"f\":-6,\"g\":7,\"h\":\"ff\",\"i\":1.00,\"j\":1e+"
        "300,"
        "\"k\":\"x\",\"l\":\"ye\",\"m\":\"007\",\"n\":\"old->new\",\"o\":\"1..2\","
        "\"p\":\"three of 4\",\"q\":123456789012345678,\"r\":8,\"s\":\"ab   \",\"t\":\"%\"}\n";
    if (strstr(line, expected) == NULL) fail_msg("%s", line);
    as_json("a=%f b=%f c=\"%d\" d=%d%d e=%d;", NAN, -INFINITY, 1, 2, 3, 4);
    if (strstr(line, "\"a\":\"nan\",\"b\":\"-inf\",\"c\":\"1\",\"d\":\"23\",\"e\":\"4;\"}") == NULL)
        fail_msg("%s", line);
}

static void test_quotes_of_the_format_hold_words_together(void **state)
{
    (void)state;
    json_t *o = as_json("link down reason=\"%s\" url=%s", "no route to host", "tcp://a");
    assert_string_equal(text_member(o, "reason"), "no route to host");
    assert_string_equal(text_member(o, "url"), "tcp://a");
    assert_string_equal(text_member(o, "event"), "link down");
    assert_string_equal(as_text("link down reason=\"%s\" url=%s", "no route", "tcp://a"),
                        "link down reason=\"no route\" url=tcp://a");
    assert_string_equal(text_member(as_json("a=\"b c"), "a"), "\"b"); /* never closed: no quote */
}

static void test_a_value_cannot_make_a_field(void **state)
{
    (void)state;
    static const char *const evil[] = {
        "x level=error",
        "x\" level=\"error",
        "x\",\"level\":\"error",
        "\\",
        "\\\"",
        "x\nlevel=error",
        "\",\"a\":{",
        "}\n{",
        "%s%s%s%n",
        "=",
        "",
        " ",
        "\"",
        "\xff\"",
        "\xf0\x9f\"",
        "a\\u0022",
    };
    for (size_t i = 0; i < sizeof evil / sizeof *evil; i++) {
        json_t *o =
            as_json("request=%s said \"%s\" name=\"%s\" end=%d", evil[i], evil[i], evil[i], 1);
        assert_int_equal(json_object_size(o), 7);
        assert_string_equal(text_member(o, "level"), "warn");
        assert_string_equal(text_member(o, "request"), text_member(o, "name"));
        assert_true(json_integer_value(json_object_get(o, "end")) == 1);
    }
    /* In text, what could be taken for more than one value stands in quotes. */
    assert_string_equal(as_text("a=%s b=%s", "x b=2", "1"), "a=\"x b=2\" b=1");
    assert_string_equal(as_text("a=%s b=%s", "x\" b=\"2", "1"), "a=\"x\\\" b=\\\"2\" b=1");
    assert_string_equal(as_text("a=%s b=%s", "", "="), "a=\"\" b=\"=\"");
    assert_string_equal(as_text("a=\"%s\"", "back\\slash"), "a=\"back\\\\slash\"");
    assert_string_equal(as_text("a=%s", "x\ny"), "a=\"x y\"");
}

static void test_json_tells_control_characters_and_what_is_not_utf8(void **state)
{
    (void)state;
    json_t *o = as_json("a=%s", "\x01\x1b[2J\t\r\n\x7f\xc2\x9b"
                                "31m");
    assert_string_equal(text_member(o, "a"), "\x01\x1b[2J\t\r\n\x7f\xc2\x9b"
                                             "31m");
    assert_non_null(strstr(line, "\\u0001\\u001b[2J\\u0009\\u000d\\u000a\\u007f\\u009b31m"));
    static const struct {
        const char *bytes, *expected;
    } cases[] = {
        {"caf\xe9", "caf\xef\xbf\xbd"},
        {"\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80", "\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                                 /* overlong */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},                 /* surrogate */
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* beyond */
        {"\xe6\x97", "\xef\xbf\xbd\xef\xbf\xbd"},                                 /* cut off */
        {"\x80x", "\xef\xbf\xbdx"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_string_equal(text_member(as_json("a=%s", cases[i].bytes), "a"), cases[i].expected);
        assert_string_equal(as_text("%s", cases[i].bytes), cases[i].expected);
    }
}

static void test_long_lines_are_cut_and_still_json(void **state)
{
    (void)state;
    static char text[3 * LOG_LINE_BYTES];
    static const char *const fillings[] = {"x",        "\"",   "\x01",
                                           "\xc3\xa9", "\xff", "\xf0\x9f\x98\x80"};
    for (size_t f = 0; f < sizeof fillings / sizeof *fillings; f++) {
        size_t unit = strlen(fillings[f]);
        bool was_cut = false;
        for (size_t size = 0; size + unit < sizeof text; size += unit * (size < 200 ? 1 : 7)) {
            for (size_t at = 0; at < size; at += unit)
                memcpy(text + at, fillings[f], unit);
            text[size] = '\0';
            json_t *o = as_json("long text=\"%s\" number=%d", text, 12345);
            bool cut = json_is_true(json_object_get(o, "cut"));
            assert_string_equal(text_member(o, "event"), "long");
            assert_true(cut || !was_cut);
            assert_true(cut || json_integer_value(json_object_get(o, "number")) == 12345);
            assert_true(cut || unit == 0 || json_string_length(json_object_get(o, "text")) >= size);
            was_cut = cut;
            o = as_json("%s number=%d", text, 1); /* in the event */
            assert_true(json_is_true(json_object_get(o, "cut")) ||
                        json_object_get(o, "number") != NULL);
            as_text("long text=\"%s\" number=%d", text, 12345);
            as_text("%s number=%d", text, 12345);
        }
        assert_true(was_cut);
    }
    /* Whatever is cut: a key, a number, the space between. */
    for (int size = 1700; size < 2060; size++) {
        memset(text, 'y', sizeof text);
        json_t *o = as_json("a=%.*s number=%d other=\"%s\" rest=%u", size, text, 1234567, "q", 3u);
        const json_t *number = json_object_get(o, "number");
        assert_true(number == NULL || json_integer_value(number) == 1234567);
        as_text("a=%.*s number=%d other=\"%s\" rest=%u", size, text, 1234567, "q", 3u);
    }
}

/* Any bytes at all, at any length. */
static void test_random_values_are_always_json(void **state)
{
    (void)state;
    test_random random = {7};
    static char a[900], b[900];
    static const char likely[] = "\"\\ ={}[]:,%\n\x1b\xc2\x9b\xe6\x97\xa5\xff\xf0";
    for (int round = 0; round < 20000; round++) {
        for (int k = 0; k < 2; k++) {
            char *to = k == 0 ? a : b;
            uint32_t size = random_below(&random, round % 10 == 0 ? 899 : 20);
            for (uint32_t i = 0; i < size; i++)
                to[i] = random_below(&random, 2) == 0
                            ? likely[random_below(&random, sizeof likely - 1)]
                            : (char)(1 + random_below(&random, 255));
            to[size] = '\0';
        }
        json_t *o = as_json("one=%s two %s three=\"%s|%s\"", a, b, a, b);
        size_t members = json_object_size(o);
        assert_true(members == 6 || json_is_true(json_object_get(o, "cut")));
        as_text("one=%s two %s three=\"%s|%s\"", a, b, a, b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_has_its_head_event_and_fields),
        cmocka_unit_test(test_words_that_are_no_fields_are_the_event),
        cmocka_unit_test(test_every_conversion_is_printed),
        cmocka_unit_test(test_quotes_of_the_format_hold_words_together),
        cmocka_unit_test(test_a_value_cannot_make_a_field),
        cmocka_unit_test(test_json_tells_control_characters_and_what_is_not_utf8),
        cmocka_unit_test(test_long_lines_are_cut_and_still_json),
        cmocka_unit_test(test_random_values_are_always_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
