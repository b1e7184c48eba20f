/* Goal: what a person types is what is asked, with the keys that fingers know.
 * Method: bytes as a terminal in raw mode sends them, and the line that comes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "client/cli/line_editor.h"
#include "proto/envelope.h"

#define LEFT   "\x1b[D"
#define RIGHT  "\x1b[C"
#define UP     "\x1b[A"
#define DOWN   "\x1b[B"
#define DELETE "\x1b[3~"

static line_result type(line_editor *e, const char *keys)
{
    line_result result = LINE_MORE;
    for (; *keys != '\0'; keys++)
        result = line_editor_feed(e, *keys);
    return result;
}

static void assert_line(const line_editor *e, const char *expected, size_t cursor)
{
    assert_int_equal(e->text.size, strlen(expected));
    assert_memory_equal(e->text.data, expected, e->text.size);
    assert_int_equal(e->cursor, cursor);
}

static void test_keys_edit_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *keys, *line;
        size_t cursor;
    } cases[] = {
        {"abc", "abc", 3},
        {"abc" LEFT LEFT "X", "aXbc", 2},
        {"abc\x7f\x7f", "a", 1},
        {"\x7f" LEFT RIGHT, "", 0},
        {"abc\x01X\x05Y", "XabcY", 5},
        {"abc" LEFT DELETE, "ab", 2},
        {"abc\x1b[H" DELETE "\x1b[FZ", "bcZ", 3},
        {"abc\x1bOHX", "Xabc", 1},
        {"one two  three\x17", "one two  ", 9},
        {"one two  \x17", "one ", 4},
        {"abcdef" LEFT LEFT "\x0b", "abcd", 4},
        {"abcdef" LEFT LEFT "\x15", "ef", 0},
        {"a\tb", "a b", 3},
        {"na\xc3\xafve" LEFT LEFT LEFT "X", "naX\xc3\xafve", 3},
        {"\xe6\xbc\xa2\x7f", "", 0},
        {"\xf0\x9f\xa6\xa2x" LEFT LEFT DELETE, "x", 0},
        {"a\xff\xffz", "az", 2},         /* not UTF-8: dropped */
        {"a\x1b[5;2~b\x1bxc", "abc", 3}, /* keys that mean nothing */
        {"a\x04", "a", 1},               /* Ctrl-D deletes to the right, here nothing */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        line_editor e = {0};
        assert_int_equal(type(&e, cases[i].keys), LINE_MORE);
        assert_line(&e, cases[i].line, cases[i].cursor);
        line_editor_free(&e);
    }
}

static void test_line_ends(void **state)
{
    (void)state;
    line_editor e = {0};
    assert_int_equal(type(&e, "abc\r"), LINE_DONE);
    line_editor_clear(&e);
    assert_int_equal(type(&e, "abc\x03"), LINE_INTERRUPTED);
    assert_line(&e, "", 0);
    assert_int_equal(type(&e, "\x04"), LINE_END);
    line_editor_free(&e);
}

static void test_history_is_walked_and_the_draft_kept(void **state)
{
    (void)state;
    line_editor e = {0};
    line_editor_remember(&e, "first");
    line_editor_remember(&e, "second");
    line_editor_remember(&e, "second"); /* once is enough */
    line_editor_remember(&e, "");
    line_editor_clear(&e);
    type(&e, "draft" UP);
    assert_line(&e, "second", 6);
    type(&e, UP UP UP);
    assert_line(&e, "first", 5);
    type(&e, DOWN);
    assert_line(&e, "second", 6);
    type(&e, DOWN DOWN);
    assert_line(&e, "draft", 5);
    type(&e, "\x10\x10\x0e"); /* Ctrl-P, Ctrl-N */
    assert_line(&e, "second", 6);
    line_editor_clear(&e);
    for (int i = 0; i < 2 * LINE_HISTORY_MAX; i++)
        line_editor_remember(&e, i % 2 ? "odd" : "even");
    assert_int_equal(e.history_count, LINE_HISTORY_MAX);
    line_editor_free(&e);
}

static void test_long_lines_scroll_with_the_cursor(void **state)
{
    (void)state;
    line_editor e = {0};
    for (int i = 0; i < 100; i++)
        type(&e, "x");
    size_t from, to, cursor;
    line_editor_view(&e, 40, &from, &to, &cursor);
    assert_int_equal(to, 100);
    assert_int_equal(cursor, 39);
    assert_int_equal(from, 61);
    type(&e, "\x01");
    line_editor_view(&e, 40, &from, &to, &cursor);
    assert_int_equal(from, 0);
    assert_int_equal(cursor, 0);
    assert_int_equal(to, 39);
    line_editor_clear(&e);
    for (int i = 0; i < 30; i++)
        type(&e, "\xe6\xbc\xa2"); /* two columns each */
    line_editor_view(&e, 40, &from, &to, &cursor);
    assert_int_equal(cursor, 38);
    assert_int_equal(to, 90);
    assert_int_equal(from, 33);
    line_editor_free(&e);
}

/* Any bytes: the line stays UTF-8, bounded, and the cursor at a character. */
static void test_random_keys_keep_the_line_sound(void **state)
{
    (void)state;
    line_editor e = {0};
    uint64_t random = 99;
    static const char *const keys[] = {
        LEFT,       RIGHT,      UP,     DOWN, DELETE, "\x7f", "\x17", "\x0b", "\x15", "\x01",
        "\xc3\xa9", "\xe6\xbc", "\xa2", "w ", "\x1b", "[",    "q",    "\xff", "\x05", "\x04"};
    for (int i = 0; i < 60000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        type(&e, keys[(random >> 20) % (sizeof keys / sizeof keys[0])]);
        if (i % 500 == 0) {
            char *line = mem_strndup((const char *)e.text.data, e.text.size);
            line_editor_remember(&e, line);
            mem_free(line);
        }
        text_view view = {(const char *)e.text.data, e.text.size};
        assert_int_equal(text_valid_size(view), e.text.size);
        assert_true(e.cursor <= e.text.size && e.text.size <= LINE_BYTES_MAX);
        if (e.cursor < e.text.size) assert_true(text_character_size(view, e.cursor) > 0);
    }
    line_editor_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_edit_the_line),
        cmocka_unit_test(test_line_ends),
        cmocka_unit_test(test_history_is_walked_and_the_draft_kept),
        cmocka_unit_test(test_long_lines_scroll_with_the_cursor),
        cmocka_unit_test(test_random_keys_keep_the_line_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
