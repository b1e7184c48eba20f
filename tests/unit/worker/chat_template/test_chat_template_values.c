/* Goal: values print, compare and compute as in Python, and have its methods.
 * Method: as in test_chat_template_language.c: rows whose results Python's Jinja2 gave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "render_support.h"

static const char context[] =
    "{\"s\": \"Hello World\", \"n\": 5, \"f\": 2.5, \"b\": true, \"z\": null, \"l\": [3, "
    "1, 2], \"w\": [\"b\", \"a\", \"C\"], \"d\": {\"one\": 1, \"two\": 2}, "
    "\"users\": [{\"name\": \"Zoe\", \"age\": 30, \"on\": true}, {\"name\": \"adam\", "
    "\"age\": 25, \"on\": false}, {\"name\": \"Bob\", \"age\": 30, \"on\": true}], "
    "\"tree\": [{\"v\": 1, \"kids\": [{\"v\": 2, \"kids\": []}, {\"v\": 3, "
    "\"kids\": [{\"v\": 4, \"kids\": []}]}]}, {\"v\": 5, \"kids\": []}], "
    "\"msgs\": [{\"role\": \"system\", \"content\": \"Be kind.\"}, {\"role\": \"user\", "
    "\"content\": \" Hi \"}, {\"role\": \"assistant\", \"content\": \"Hello\"}]}";

static void test_values_print_as_python_prints_them(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"{{ true }} {{ false }} {{ none }} {{ nosuch }}|", "True False None |"},
        {"{{ 1.0 }} {{ 0.1 }} {{ 1e16 }} {{ 1e15 }} {{ 123456789.123 }} {{ 1e-5 }} {{ 0.0001 }} {{ "
         "-0.0 }} {{ 1e100 }} {{ 5e-324 }} {{ 0.1 + 0.2 }} {{ 1/3 }} {{ 100 / 3 }} {{ 2.0 ** 0.5 "
         "}} {{ 1e22 }} {{ 6.2434971006319845e144 }}",
         "1.0 0.1 1e+16 1000000000000000.0 123456789.123 1e-05 0.0001 -0.0 1e+100 5e-324 "
         "0.30000000000000004 0.3333333333333333 33.333333333333336 1.4142135623730951 1e+22 "
         "6.243497100631985e+144"},
        {"{{ 9223372036854775807 }} {{ -9223372036854775807 - 1 }}",
         "9223372036854775807 -9223372036854775808"},
        {"{{ ['a', \"it's\", '\"', '\\'\"', '\\n\\t\\r\\\\', 'é中🦙', "
         "'\\x00\\x1b\\x7f\\xa0\\u200b\\ue000'] }}",
         "['a', \"it's\", '\"', '\\'\"', '\\n\\t\\r\\\\', 'é中🦙', "
         "'\\x00\\x1b\\x7f\\xa0\\u200b\\ue000']"},
        {"{{ [1, 1.0, true, none, \"x\", [], {}, (), (1,), nosuch] }}",
         "[1, 1.0, True, None, 'x', [], {}, (), (1,), Undefined]"},
        {"{{ {\"a\": 1, 2: [3], none: {\"b\": ()}} }}", "{'a': 1, 2: [3], None: {'b': ()}}"},
        {"{{ {1: \"a\", 1.0: \"b\", true: \"c\"} }}", "{1: 'c'}"},
        {"{{ d.keys() }} {{ d.values() }} {{ d.items() }}",
         "dict_keys(['one', 'two']) dict_values([1, 2]) dict_items([('one', 1), ('two', 2)])"},
        {"{{ \"<&>\" |e }} {{ [\"<\"|e] }}", "&lt;&amp;&gt; [Markup('&lt;')]"},
        {"{{ (1, 2)|string ~ [3]|string }}", "(1, 2)[3]"},
        {"{{ '\\u00e9\\x41\\101\\q\\U0001F600' }}", "éAA\\q😀"},
        {"{{ \"a\\\nb\" }}", "ab"},
    };
    RENDER_CASES(cases, context);
}

static void test_strings_have_pythons_methods(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"{{ \"  a b \".strip() }}|{{ \" x \".lstrip() }}|{{ \" x \".rstrip() }}|{{ "
         "\"xxaxx\".strip(\"x\") }}|{{ \"abcba\".strip(\"ab\") }}",
         "a b|x | x|a|c"},
        {"{{ \"a,b,,c\".split(\",\") }} {{ \" a  b \".split() }} {{ \"a,b,c\".split(\",\", 1) }} "
         "{{ \"a b c\".split(none, 1) }} {{ \"\".split() }} {{ \"\".split(\",\") }}",
         "['a', 'b', '', 'c'] ['a', 'b'] ['a', 'b,c'] ['a', 'b c'] [] ['']"},
        {"{{ \"a,b,c\".rsplit(\",\", 1) }} {{ \"a b  c \".rsplit(none, 1) }} {{ "
         "\"a</think>b</think>c\".split(\"</think>\")[-1] }}",
         "['a,b', 'c'] ['a b', 'c'] c"},
        {"{{ \"a\\nb\\r\\nc\\n\".splitlines() }} {{ \"a\\nb\".splitlines(true) }}",
         "['a', 'b', 'c'] ['a\\n', 'b']"},
        {"{{ \"Abc\".startswith(\"Ab\") }} {{ \"abc\".endswith((\"x\", \"bc\")) }} {{ "
         "\"abc\".startswith(\"b\", 1) }} {{ \"abc\".startswith(\"\") }}",
         "True True True True"},
        {"{{ \"aXbX\".replace(\"X\", \"-\") }} {{ \"aXbX\".replace(\"X\", \"-\", 1) }} {{ "
         "\"abc\".replace(\"\", \".\") }}",
         "a-b- a-bX .a.b.c."},
        {"{{ \"hello\".find(\"l\") }} {{ \"hello\".rfind(\"l\") }} {{ \"hello\".find(\"z\") }} {{ "
         "\"hello\".index(\"e\") }} {{ \"héllo\".find(\"l\") }} {{ \"hello\".count(\"l\") }} {{ "
         "\"aaa\".count(\"aa\") }} {{ \"abc\".count(\"\") }}",
         "2 3 -1 1 2 2 1 4"},
        {"{{ \"-\".join([\"a\", \"b\"]) }} {{ \",\".join(\"abc\") }}", "a-b a,b,c"},
        {"{{ \"hello world\".title() }} {{ \"hELLO\".capitalize() }} {{ \"aBc\".swapcase() }} {{ "
         "\"straße\".upper() }} {{ \"ΑΣ\".lower() }} {{ \"ﬁ\".upper() }} {{ \"Straße\".casefold() "
         "}}",
         "Hello World Hello AbC STRASSE ας FI strasse"},
        {"{{ \"5\".zfill(3) }} {{ \"-5\".zfill(4) }} {{ \"a\".center(4, \"*\") }} {{ "
         "\"a\".ljust(3) }}| {{ \"a\".rjust(3) }}",
         "005 -005 *a** a  |   a"},
        {"{{ \"a=b=c\".partition(\"=\") }} {{ \"a=b=c\".rpartition(\"=\") }} {{ "
         "\"abc\".partition(\"x\") }}",
         "('a', '=', 'b=c') ('a=b', '=', 'c') ('abc', '', '')"},
        {"{{ \"prefix-x\".removeprefix(\"prefix-\") }} {{ \"x.txt\".removesuffix(\".txt\") }}",
         "x x"},
        {"{{ \"12\".isdigit() }} {{ \"1a\".isdigit() }} {{ \"²\".isdigit() }} {{ \"½\".isnumeric() "
         "}} {{ \"ab\".isalpha() }} {{ \" \".isspace() }} {{ \"\".isspace() }} {{ \"A1\".isalnum() "
         "}} {{ \"AB\".isupper() }} {{ \"ab1\".islower() }} {{ \"Ab Cd\".istitle() }} {{ "
         "\"a_1\".isidentifier() }} {{ \"é\".isascii() }}",
         "True False True True True True False True True True True True False"},
        {"{{ \"{} {}\".format(1, \"a\") }} {{ \"{0}{1}{0}\".format(\"a\", \"b\") }} {{ "
         "\"{x}\".format(x=1) }} {{ \"{:>5}|{:<5}|{:^5}\".format(\"a\", \"b\", \"c\") }} {{ "
         "\"{:.2f} {:05d} {:,} {:x} {:%}\".format(3.14159, 42, 1234567, 255, 0.25) }} {{ "
         "\"{{}}\".format() }} {{ \"{0[0]} {1.name}\".format([7], {\"name\": \"n\"}) }} {{ "
         "\"{!r}\".format(\"a\") }}",
         "1 a aba 1     a|b    |  c   3.14 00042 1,234,567 ff 25.000000% {} 7 n 'a'"},
        {"{{ \"%s is %d and %.1f\" % (\"a\", 5, 2.55) }} {{ \"%5s|%-5s|%05d|%x|%%\" % (\"a\", "
         "\"b\", 42, 255) }} {{ \"%(k)s\" % {\"k\": 1} }} {{ \"%s\" % \"x\" }} {{ \"%r\" % \"x\" "
         "}} {{ \"%s\" % none }}",
         "a is 5 and 2.5     a|b    |00042|ff|% 1 x 'x' None"},
        {"{{ \"a\\tb\".expandtabs(4) }}", "a   b"},
        {"{{ \"héllo\"[1] }} {{ \"héllo\"[1:3] }} {{ \"héllo\"[::-1] }} {{ \"héllo\"[-2:] }} {{ "
         "\"🦙x\"|length }} {{ \"abc\"[5:] }}| {{ \"abc\"[9] }}|",
         "é él olléh lo 2 | |"},
        {"{{ \"abc\" < \"abd\" }} {{ \"Z\" < \"a\" }} {{ \"é\" > \"z\" }}", "True True True"},
        {"{{ \"abc\".nosuch }}|{{ \"a\".__class__ }}|{{ s.upper is callable }}", "||True"},
        {"{{ \"a\".join([1]) }}", NULL},
        {"{{ \"a\".split(\"\") }}", NULL},
        {"{{ \"a\".index(\"z\") }}", NULL},
        {"{{ \"{}\".format() }}", NULL},
        {"{{ \"{x}\".format() }}", NULL},
        {"{{ \"%s %s\" % \"a\" }}", NULL},
        {"{{ \"%d\" % \"a\" }}", NULL},
        {"{{ \"a\" % 1 }}", NULL},
        {"{{ \"a\".center(5, \"ab\") }}", NULL},
        {"{{ \"a\".strip(1) }}", NULL},
        {"{{ \"a\".upper(1) }}", NULL},
        {"{{ \"a\".__class__.x }}", NULL},
    };
    RENDER_CASES(cases, context);
}

static void test_lists_and_dicts_have_pythons_methods(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"{{ l.index(1) }} {{ l.count(1) }} {{ l.copy() }} {{ (1, 2, 1).count(1) }}",
         "1 1 [3, 1, 2] 2"},
        {"{{ d.get(\"one\") }} {{ d.get(\"x\") }} {{ d.get(\"x\", 9) }} {{ d.keys()|list }} {{ "
         "d.values()|list }} {{ d.items()|list }}",
         "1 None 9 ['one', 'two'] [1, 2] [('one', 1), ('two', 2)]"},
        {"{{ d.copy() == d }} {{ d is mapping }} {{ \"one\" in d }} {{ \"one\" in d.keys() }} {{ "
         "(\"one\", 1) in d.items() }} {{ 2 in d.values() }}",
         "True True True True True True"},
        {"{{ l[1:] }} {{ l[:-1] }} {{ l[::-1] }} {{ l[::2] }} {{ l[5:] }} {{ l[-9:2] }} {{ l[9] "
         "}}|",
         "[1, 2] [3, 1] [2, 1, 3] [3, 2] [] [3, 1] |"},
        {"{{ {\"items\": 1}.items is callable }} {{ {\"items\": 1}[\"items\"] }} {{ {\"x\": "
         "{\"y\": 2}}.x.y }}",
         "True 1 2"},
        {"{{ (1, 2)[0] }} {{ [1, [2, 3]][1][0] }}", "1 2"},
        {"{{ [1, 2] == [1, 2] }} {{ [1] == (1,) }} {{ {\"a\": 1, \"b\": 2} == {\"b\": 2, \"a\": 1} "
         "}} {{ 1 == 1.0 == true }} {{ [1, 2] < [1, 3] }} {{ \"1\" == 1 }} {{ none == false }}",
         "True False True True True False False"},
        {"{{ {(0, 0): 5}[(0, 0)] }} {{ {1: \"a\"}[1.0] }} {{ {none: 1}[none] }}", "5 a 1"},
        {"{{ l.append(4) }}", NULL},
        {"{{ l.pop() }}", NULL},
        {"{{ l.sort() }}", NULL},
        {"{{ d.update({}) }}", NULL},
        {"{{ d.pop(\"one\") }}", NULL},
        {"{{ d.setdefault(\"x\", 1) }}", NULL},
        {"{{ d.clear() }}", NULL},
        {"{{ l.append is defined }} {{ d.pop is defined }}", "False False"},
        {"{{ l.index(9) }}", NULL},
        {"{{ l.nosuch }}|{{ l[\"x\"] }}|{{ d[1] }}|", "|||"},
        {"{{ d.fromkeys([\"a\"], 0) }}", "{'a': 0}"},
    };
    RENDER_CASES(cases, context);
}

static void test_tests_agree_with_jinja(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"{{ z is defined }} {{ nosuch is defined }} {{ nosuch is undefined }} {{ d.x is defined "
         "}}",
         "True False True False"},
        {"{{ none is none }} {{ 0 is none }} {{ true is true }} {{ 1 is true }} {{ false is false "
         "}} {{ true is boolean }} {{ 1 is boolean }}",
         "True False True False True True False"},
        {"{{ 1 is number }} {{ 1.5 is number }} {{ true is number }} {{ \"1\" is number }} {{ 1 is "
         "integer }} {{ true is integer }} {{ 1.0 is float }} {{ 1 is float }}",
         "True True True False True False True False"},
        {"{{ \"a\" is string }} {{ [] is string }} {{ {} is mapping }} {{ [] is mapping }} {{ [] "
         "is sequence }} {{ \"a\" is sequence }} {{ {} is sequence }} {{ 1 is sequence }} {{ "
         "nosuch is sequence }} {{ range(1) is sequence }} {{ d.keys() is sequence }}",
         "True False True False True True True False True True False"},
        {"{{ [] is iterable }} {{ \"a\" is iterable }} {{ 1 is iterable }} {{ none is iterable }} "
         "{{ nosuch is iterable }} {{ l|map(\"string\") is iterable }}",
         "True True False False True True"},
        {"{{ 3 is odd }} {{ 3 is even }} {{ 4 is divisibleby 2 }} {{ 4 is divisibleby(3) }}",
         "True False True False"},
        {"{{ 1 is eq 1 }} {{ 1 is ne(2) }} {{ 1 is lt 2 }} {{ 2 is le(2) }} {{ 3 is gt 2 }} {{ 3 "
         "is ge 3 }} {{ 1 is equalto 1 }} {{ 1 is lessthan 2 }} {{ 1 is greaterthan 0 }} {{ 1 is "
         "sameas 1 }} {{ none is sameas none }} {{ true is sameas 1 }}",
         "True True True True True True True True True True True False"},
        {"{{ 1 is in [1, 2] }} {{ \"a\" is in \"abc\" }} {{ 3 is not in [1] }} {{ \"one\" is in d "
         "}}",
         "True True True True"},
        {"{{ \"abc\" is lower }} {{ \"ABC\" is upper }} {{ \"Abc\" is lower }} {{ \"1\" is upper "
         "}}",
         "True True False False"},
        {"{{ s is callable }} {{ range is callable }} {{ \"upper\" is filter }} {{ \"nosuch\" is "
         "filter }} {{ \"odd\" is test }} {{ \"x\"|e is escaped }} {{ \"x\" is escaped }}",
         "False True True False True True False"},
        {"{{ msgs is string }} {{ msgs is iterable and msgs is not string }} {{ msgs[0].content is "
         "string }}",
         "False True True"},
        {"{{ \"a\" is odd }}", NULL},
        {"{{ nosuch is odd }}", NULL},
        {"{{ none is odd }}", NULL},
        {"{{ 1 is divisibleby 0 }}", NULL},
        {"{{ 1 is eq }}", NULL},
        {"{{ 1 is in 1 }}", NULL},
        {"{{ 1 is defined(1) }}", NULL},
    };
    RENDER_CASES(cases, context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_print_as_python_prints_them),
        cmocka_unit_test(test_strings_have_pythons_methods),
        cmocka_unit_test(test_lists_and_dicts_have_pythons_methods),
        cmocka_unit_test(test_tests_agree_with_jinja),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
