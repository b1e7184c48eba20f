/* Goal: every line of an INI text is taken for what it is or refused by number, and nothing of it
 * is shown, for it may hold a secret.
 * Method: texts whose items are known; every kind of broken line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/ini.h"
#include "common/mem.h"

static error err;

static void assert_item(ini_reader *r, ini_kind kind, uint32_t line, const char *name,
                        const char *value)
{
    ini_item item;
    if (ini_next(r, &item, &err) != ST_OK) fail_msg("%s", err.text);
    assert_int_equal(item.kind, kind);
    assert_int_equal(item.line, line);
    assert_string_equal(item.name, name);
    if (kind == INI_SETTING) assert_string_equal(item.value, value);
}

static void test_items_come_in_order_with_their_lines(void **state)
{
    (void)state;
    char *text = mem_strdup("# head\n"
                            "early = 1\n"
                            "\n"
                            "  [ first one ]  \n"
                            "\tname\t=  two words # and no comment \r\n"
                            "empty =\n"
                            "equals = a=b\n"
                            "[x]");
    ini_reader r;
    assert_int_equal(ini_begin(&r, "t", text, strlen(text), &err), ST_OK);
    assert_item(&r, INI_SETTING, 2, "early", "1");
    assert_item(&r, INI_SECTION, 4, "first one", NULL);
    assert_item(&r, INI_SETTING, 5, "name", "two words # and no comment");
    assert_item(&r, INI_SETTING, 6, "empty", "");
    assert_item(&r, INI_SETTING, 7, "equals", "a=b");
    assert_item(&r, INI_SECTION, 8, "x", NULL);
    assert_item(&r, INI_END, 8, "", NULL);
    assert_item(&r, INI_END, 8, "", NULL);
    mem_free(text);
}

static void test_an_empty_text_has_no_items(void **state)
{
    (void)state;
    char text[] = "";
    ini_reader r;
    assert_int_equal(ini_begin(&r, "t", text, 0, &err), ST_OK);
    assert_item(&r, INI_END, 0, "", NULL);
}

static void test_broken_lines_are_named_and_not_shown(void **state)
{
    (void)state;
    static const char *const broken[] = {"secret",       "[secret",           "[]",
                                         "[ ]",          "= secret",          "[secret] x",
                                         "secret\x01=",  "a = \x1b[1msecret", "secret = \x7f",
                                         "a = b\rsecret"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        char text[64];
        snprintf(text, sizeof text, "\n# comment\n%s", broken[i]);
        ini_reader r;
        ini_item item;
        assert_int_equal(ini_begin(&r, "file.ini", text, strlen(text), &err), ST_OK);
        if (ini_next(&r, &item, &err) != ST_INVALID_ARGUMENT) fail_msg("%s", broken[i]);
        assert_non_null(strstr(err.text, "file.ini line 3: "));
        assert_null(strstr(err.text, "secret"));
    }
}

static void test_nothing_hides_behind_a_nul(void **state)
{
    (void)state;
    char text[] = "a = b\n\0c = d\n";
    ini_reader r;
    assert_int_equal(ini_begin(&r, "t", text, sizeof text - 1, &err), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "byte 6 is NUL"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_items_come_in_order_with_their_lines),
        cmocka_unit_test(test_an_empty_text_has_no_items),
        cmocka_unit_test(test_broken_lines_are_named_and_not_shown),
        cmocka_unit_test(test_nothing_hides_behind_a_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
