/* Goal: regular expressions mean what they mean to Oniguruma, which the reference library uses.
 *
 * Method: a table of expressions where the dialects differ, each with a text and the matches that
 * the reference gives; a table of what is refused; searches that would not end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "worker/text/pattern.h"

/* `matches`: each match in angle brackets, the rest as it is. */
static const struct {
    const char *source, *text, *matches;
} cases[] = {
    {"\\s+",
     "a \xC2\xA0\xE3\x80\x80"
     "b\xE1\xA0\x8E"
     "c",
     "a< \xC2\xA0\xE3\x80\x80>b\xE1\xA0\x8E"
     "c"},
    {"\\S+", "\xE1\xA0\x8E a", "<\xE1\xA0\x8E> <a>"},
    {"[^\\s]+",
     "\xE1\xA0\x8E\xC2\x85"
     "a",
     "<\xE1\xA0\x8E>\xC2\x85<a>"},
    {"[\\S\\n]+", "a\xE1\xA0\x8E\n b", "<a\xE1\xA0\x8E\n> <b>"},
    {"\\w+", "a\xCC\x81_\xE2\x80\xBF\xE2\x85\xA3 \xC2\xB2 \xE2\x82\x82",
     "<a\xCC\x81_\xE2\x80\xBF\xE2\x85\xA3> <\xC2\xB2> \xE2\x82\x82"},
    {"[\\w]+", "a\xC2\xB2", "<a>\xC2\xB2"},
    {"\\W", "a-b", "a<->b"},
    {"\\bab\\b",
     "ab abc a\xCC\x81"
     "ab",
     "<ab> abc a\xCC\x81"
     "ab"},
    {"\\h+", "fF0 g", "<fF0> g"},
    {"\\v",
     "a\x0B"
     "b\nc",
     "a<\x0B>b\nc"},
    {"\\u00e9", "e\xC3\xA9", "e<\xC3\xA9>"},
    {"[\\u00e0-\\u00ef]", "\xC3\xA9", "<\xC3\xA9>"},
    {"\\p{N}{1,3}+", "12345", "<12345>"},
    {"a{2}?", "aaa", "<aa>a<>"},
    {"x{,2}y", "xxxy", "x<xxy>"},
    {"a{b", "a{b", "<a{b>"},
    {"(?:ab){2,3}+c", "ababababc", "<ababababc>"},
    {"\xC3\xA9{1,2}+", "\xC3\xA9\xC3\xA9\xC3\xA9", "<\xC3\xA9\xC3\xA9\xC3\xA9>"},
    {"^a", "a\na", "<a>\n<a>"},
    {"a$", "a\na", "<a>\n<a>"},
    {"a.b", "a\nb a b", "a\nb <a b>"},
    {"(?m:a.b)", "a\nb", "<a\nb>"},
    {"(?i:'s)", "'S 's '\xC5\xBF", "<'S> <'s> <'\xC5\xBF>"},
    {"(?i)k", "K\xE2\x84\xAA", "<K><\xE2\x84\xAA>"},
    {"\\p{Han}", "\xE4\xB8\x80\xE3\x80\x81", "<\xE4\xB8\x80>\xE3\x80\x81"},
    {"\\p{^L}", "a1", "a<1>"},
    {"[[:alpha:]]+",
     "a\xE2\x85\xA3"
     "1",
     "<a\xE2\x85\xA3>1"},
    {"[[:punct:]]+", "a$\xE2\x96\x81!", "a<$\xE2\x96\x81!>"},
    {"[]a]+", "a]b", "<a]>b"},
    {"[a[bc]]+", "abcd", "<abc>d"},
    {"[a[b]-z]+", "abyz-", "<ab>y<z->"},
    {"[a-z&&[^b]]+", "abcB-d", "<a>b<c>B-<d>"},
    {"[^a-c&&b-d]", "abcde", "<a>bc<d><e>"},
    {"[a-z&&b-y&&[^m]]{2}+", "abclmno", "a<bc>lm<no>"},
    {"[\\]a&&a-z]", "]ab", "]<a>b"},
    {"(?<=[a-z&&[^m]])1", "a1m1", "a<1>m1"},
    {"[\\p{L}&&[^\\p{Han}]]+", "a\xE4\xB8\x80\xC3\xA9", "<a>\xE4\xB8\x80<\xC3\xA9>"},
    {"(?i)[a-c&&b-d]+", "ABc", "A<Bc>"},
    {"[a&b]+", "a&b", "<a&b>"},
    {"(?i:\\p{Lu})b|[\\p{Lu}]", "aBA", "a<B><A>"},
    {"[^(\\s|[.,!])]+", "a(b|c.d e)", "<a>(<b>|<c>.<d> <e>)"},
    {"[\\s-]+", " a-x", "< >a<->x"},
    {"(?i)ab|c", "ABC", "<AB><C>"},
    {"x*", "ax", "<>a<x>"},
    {"", "ab", "<>a<>b<>"},
    {"(?<=a)b|(?<!a)c", "abac bc", "a<b>ac b<c>"},
    {"(\\w)\\1", "abba", "a<bb>a"},
    {"(?<x>a)\\k<x>", "aab", "<aa>b"},
    {"a++b", "aab", "<aab>"},
    {"\\s+(?!\\S)|\\s+", "a   b  ", "a<  >< >b<  >"},
    {"a|", "", ""},
};

static void test_expressions_match_as_in_the_reference(void **state)
{
    (void)state;
    pattern_search *search = pattern_search_create();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        error err = {0};
        pattern *p;
        if (pattern_compile(&p, cases[i].source, strlen(cases[i].source), "test", &err) != ST_OK)
            fail_msg("%s: %s", cases[i].source, err.text);
        buffer shown = {0};
        const char *text = cases[i].text;
        size_t done = 0, start, end;
        pattern_cursor cursor = {0};
        while (pattern_next(p, search, text, strlen(text), &cursor, &start, &end)) {
            buffer_append(&shown, text + done, start - done);
            buffer_append(&shown, "<", 1);
            buffer_append(&shown, text + start, end - start);
            buffer_append(&shown, ">", 1);
            done = end;
        }
        buffer_append(&shown, text + done, strlen(text) - done);
        buffer_append(&shown, "", 1);
        if (strcmp((const char *)shown.data, cases[i].matches) != 0)
            fail_msg("%s gives %s", cases[i].source, (const char *)shown.data);
        buffer_free(&shown);
        pattern_destroy(p);
    }
    pattern_search_destroy(search);
}

static const struct {
    const char *source;
    status code;
} refused[] = {
    {"[&&b]", ST_UNIMPLEMENTED},
    {"[a&&]", ST_UNIMPLEMENTED},
    {"[a&&^b]", ST_UNIMPLEMENTED},
    {"[a&&[^b]c]", ST_UNIMPLEMENTED},
    {"[a[b&&c]]", ST_UNIMPLEMENTED},
    {"[a&&b", ST_INVALID_ARGUMENT},
    {"(?i)[\\p{Lu}]", ST_UNIMPLEMENTED},
    {"(?i:a[^[:lower:]])", ST_UNIMPLEMENTED},
    {"(?i:(?-i:a)[\\P{Ll}])", ST_UNIMPLEMENTED},
    {"[a[^bc]]", ST_UNIMPLEMENTED},
    {"a(?i)b|c", ST_UNIMPLEMENTED},
    {"[\\W]", ST_UNIMPLEMENTED},
    {"(?~ab)", ST_UNIMPLEMENTED},
    {"(?x)a b", ST_UNIMPLEMENTED},
    {"(*UTF)a", ST_UNIMPLEMENTED},
    {"(?#note)a", ST_UNIMPLEMENTED},
    {"\\Qa\\E", ST_UNIMPLEMENTED},
    {"\\K", ST_UNIMPLEMENTED},
    {"\\pL", ST_UNIMPLEMENTED},
    {"(", ST_INVALID_ARGUMENT},
    {")", ST_INVALID_ARGUMENT},
    {"[a", ST_INVALID_ARGUMENT},
    {"*", ST_INVALID_ARGUMENT},
    {"a\\", ST_INVALID_ARGUMENT},
    {"\\p{Nonsense}", ST_INVALID_ARGUMENT},
    {"(?<n", ST_INVALID_ARGUMENT},
    {"\\u12", ST_INVALID_ARGUMENT},
    {"[b-a]", ST_INVALID_ARGUMENT},
    {"(?<=a+)b", ST_INVALID_ARGUMENT},
};

static void test_what_has_no_equal_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        error err = {0};
        pattern *p = NULL;
        status st =
            pattern_compile(&p, refused[i].source, strlen(refused[i].source), "field", &err);
        if (st != refused[i].code)
            fail_msg("%s: %s %s", refused[i].source, status_name(st), err.text);
        assert_non_null(strstr(err.text, "field"));
    }
}

static void test_endless_searches_end(void **state)
{
    (void)state;
    static const char source[] = "(a+)+$";
    char text[64];
    error err = {0};
    pattern *p;
    pattern_cursor cursor = {0};
    size_t start, end;
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 'b';
    assert_int_equal(pattern_compile(&p, source, sizeof source - 1, "test", &err), ST_OK);
    pattern_search *search = pattern_search_create();
    assert_false(pattern_next(p, search, text, sizeof text, &cursor, &start, &end));
    pattern_search_destroy(search);
    pattern_destroy(p);
}

/* Walking back over a megabyte of spaces is work, but not endless. */
static void test_long_runs_of_spaces_match_whole(void **state)
{
    (void)state;
    static const char source[] = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    const size_t size = 3u << 20;
    char *text = mem_alloc(size);
    error err = {0};
    pattern *p;
    pattern_cursor cursor = {0};
    size_t start, end;
    memset(text, ' ', size - 1);
    text[size - 1] = 'a';
    assert_int_equal(pattern_compile(&p, source, sizeof source - 1, "test", &err), ST_OK);
    pattern_search *search = pattern_search_create();
    assert_true(pattern_next(p, search, text, size, &cursor, &start, &end));
    assert_int_equal(start, 0);
    assert_int_equal(end, size - 2);
    pattern_search_destroy(search);
    pattern_destroy(p);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expressions_match_as_in_the_reference),
        cmocka_unit_test(test_what_has_no_equal_is_refused),
        cmocka_unit_test(test_endless_searches_end),
        cmocka_unit_test(test_long_runs_of_spaces_match_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
