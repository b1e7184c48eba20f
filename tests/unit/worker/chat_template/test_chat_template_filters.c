/* Goal: the filters give what Jinja2's give, and tojson what transformers' gives.
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

static void test_text_filters_agree_with_jinja(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"{{ \"  a \".strip()|trim }}|{{ \"xxaxx\"|trim(\"x\") }}|{{ 5|trim }}", "a|a|5"},
        {"{{ \"aB c\"|upper }} {{ \"aB\"|lower }} {{ \"hello wORLD-foo (bar) o'neil\"|title }} {{ "
         "\"aBC dEF\"|capitalize }} {{ [\"a\"]|upper }}",
         "AB C ab Hello World-Foo (Bar) O'neil Abc def ['A']"},
        {"{{ \"aaa\"|replace(\"a\", \"b\") }} {{ \"aaa\"|replace(\"a\", \"b\", 2) }} {{ "
         "121|replace(1, 3) }} {{ \"ab\"|replace(\"\", \"-\") }}",
         "bbb bba 323 -a-b-"},
        {"{{ \"a\\nb\\n\\nc\"|indent }}|{{ \"a\\nb\"|indent(2, true) }}|{{ \"a\\n\\nb\"|indent(1, "
         "blank=true) }}|{{ \"a\\nb\"|indent(\"> \") }}|{{ \"a\\n\"|indent }}|{{ \"\"|indent }}",
         "a\n    b\n\n    c|  a\n  b|a\n \n b|a\n> b|a\n|"},
        {"{{ \"foo bar baz qux\"|truncate(9) }} {{ \"foo bar baz qux\"|truncate(9, true) }} {{ "
         "\"foo bar\"|truncate(5, false, \"…\", 0) }} {{ \"foo bar baz\"|truncate(8, leeway=5) }}",
         "foo... foo ba... foo… foo bar baz"},
        {"{{ \"a\"|center(5) }}| {{ \"ab cd, ef_g 12\"|wordcount }} {{ \"%s-%s\"|format(1, \"a\") "
         "}} {{ \"%(a)s\"|format(a=1) }}",
         "  a  | 4 1-a 1"},
        {"{{ \"<a href='x'>T&amp;C</a>\"|striptags }} {{ \"a <!-- <b> --> b\"|striptags }} {{ "
         "\"&lt;x&gt; &#65;&#x42; &nosuch;\"|striptags }}",
         "T&C a b <x> AB &nosuch;"},
        {"{{ \"<b>\\\"&'\"|e }} {{ \"<b>\"|escape|upper }} {{ \"<\"|e + \"<\" }} {{ \"<\" + "
         "(\"<\"|safe) }} {{ \"<\"|safe ~ \"<\" }} {{ \"<\"|e|e }} {{ \"<\"|e|forceescape }} {{ "
         "5|e }} {{ \"%s<\"|safe % \"<\" }} {{ (\"<\"|safe).join([\"<\", \">\"]) }}",
         "&lt;b&gt;&#34;&amp;&#39; &LT;B&GT; &lt;&lt; &lt;< << &lt; &amp;lt; 5 &lt;< &lt;<&gt;"},
        {"{{ {\"a\": 1, \"b\": none, \"c\": \"<\"}|xmlattr }}|{{ {\"a\": 1}|xmlattr(false) }}",
         " a=\"1\" c=\"&lt;\"|a=\"1\""},
        {"{{ \"a b/c?d=é&f\"|urlencode }} {{ {\"a b\": \"c/d\", \"e\": 1}|urlencode }} {{ [[\"x\", "
         "\"y z\"]]|urlencode }} {{ 5|urlencode }}",
         "a%20b/c%3Fd%3D%C3%A9%26f a+b=c%2Fd&e=1 x=y+z 5"},
        {"{{ 5|string ~ none|string ~ [1]|string }} {{ \"x\"|string|length }}", "5None[1] 1"},
        {"{{ [1, {\"b\": 2, \"a\": [none, \"x\"]}]|pprint }}\n{{ {\"key one\": \"a rather long "
         "value that goes on\", \"key two\": [\"more\", \"and more\", \"and yet more "
         "text\"]}|pprint }}",
         "[1, {'a': [None, 'x'], 'b': 2}]\n{'key one': 'a rather long value that goes on',\n 'key "
         "two': ['more', 'and more', 'and yet more text']}"},
        {"{{ nosuch|upper }}|{{ nosuch|trim }}|{{ nosuch|default(\"d\") }}|{{ nosuch|e }}|{{ "
         "nosuch|replace(\"a\", \"b\") }}|{{ nosuch|wordcount }}",
         "||d|||0"},
        {"{{ \"a b\"|indent(nosuch) }}", NULL},
        {"{{ none|indent }}", NULL},
        {"{{ \"abc\"|truncate(1) }}", NULL},
        {"{{ {\"a b\": 1}|xmlattr }}", NULL},
        {"{{ \"%d\"|format(\"x\") }}", NULL},
        {"{{ \"a\"|replace(\"b\") }}", NULL},
        {"{{ \"a\"|upper(1) }}", NULL},
        {"{{ \"a\"|trim(nope=1) }}", NULL},
        {"{{ \"a\"|center(1, 2) }}", NULL},
    };
    RENDER_CASES(cases, context);
}

static void test_number_filters_agree_with_jinja(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"{{ \"42\"|int }} {{ \"42.9\"|int }} {{ \"x\"|int }} {{ \"x\"|int(7) }} {{ "
         "\"0x1F\"|int(0, 16) }} {{ \"11\"|int(0, 2) }} {{ 3.9|int }} {{ -3.9|int }} {{ true|int "
         "}} {{ none|int }} {{ \" 7 \"|int }} {{ \"1_000\"|int }} {{ \"1e3\"|int }} {{ "
         "\"inf\"|int(5) }}",
         "42 42 0 7 31 3 3 -3 1 0 7 1000 1000 5"},
        {"{{ \"3.14\"|float }} {{ \"x\"|float }} {{ \"x\"|float(1.5) }} {{ 2|float }} {{ "
         "\"1e3\"|float }} {{ \"inf\"|float }} {{ \"-nan\"|float }} {{ \" 1_0.5 \"|float }} {{ "
         "none|float }}",
         "3.14 0.0 1.5 2.0 1000.0 inf nan 10.5 0.0"},
        {"{{ 42.55|round }} {{ 42.55|round(1) }} {{ 42.55|round(1, \"floor\") }} {{ 42.51|round(0, "
         "\"ceil\") }} {{ 2.5|round }} {{ 3.5|round }} {{ 5|round }} {{ 15|round(-1) }} {{ "
         "25|round(-1) }} {{ 1234.5|round(-2) }} {{ 2.675|round(2) }} {{ -0.4|round }} {{ "
         "7|round(1, \"ceil\") }} {{ 2.5|round|int }}",
         "43.0 42.5 42.5 43.0 2.0 4.0 5 20 20 1200.0 2.67 -0.0 7.0 2"},
        {"{{ -5|abs }} {{ (-5)|abs }} {{ -2.5|abs }} {{ true|abs }}", "5 5 2.5 1"},
        {"{{ 0|filesizeformat }} {{ 1|filesizeformat }} {{ 1000|filesizeformat }} {{ "
         "1024|filesizeformat(true) }} {{ 123456789|filesizeformat }}",
         "0 Bytes 1 Byte 1.0 kB 1.0 KiB 123.5 MB"},
        {"{{ nosuch|int }}", NULL},
        {"{{ nosuch|round }}", NULL},
        {"{{ \"a\"|abs }}", NULL},
        {"{{ \"a\"|round }}", NULL},
        {"{{ 1|round(0, \"x\") }}", NULL},
        {"{{ [1]|round }}", NULL},
    };
    RENDER_CASES(cases, context);
}

static void test_sequence_filters_agree_with_jinja(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"{{ l|length }} {{ \"abc\"|length }} {{ d|length }} {{ l|count }} {{ nosuch|length }}",
         "3 3 2 3 0"},
        {"{{ l|first }} {{ l|last }} {{ \"abc\"|first }} {{ \"abé\"|last }} {{ d|first }} {{ "
         "[]|first }}| {{ []|last }}| {{ range(3)|last }}",
         "3 2 a é one | | 2"},
        {"{{ l|join }} {{ l|join(\", \") }} {{ users|join(\";\", attribute=\"name\") }} {{ "
         "\"abc\"|join(\"-\") }} {{ [1, none, true]|join(\",\") }} {{ d|join(\",\") }}",
         "312 3, 1, 2 Zoe;adam;Bob a-b-c 1,None,True one,two"},
        {"{{ l|sort }} {{ w|sort }} {{ w|sort(case_sensitive=true) }} {{ l|sort(reverse=true) }} "
         "{{ users|sort(attribute=\"age,name\")|map(attribute=\"name\")|join(\",\") }} {{ "
         "users|sort(attribute=\"age\", reverse=true)|map(attribute=\"name\")|join(\",\") }} {{ "
         "\"cab\"|sort }}",
         "[1, 2, 3] ['a', 'b', 'C'] ['C', 'a', 'b'] [3, 2, 1] adam,Bob,Zoe Zoe,Bob,adam ['a', 'b', "
         "'c']"},
        {"{{ [1, 2, 1, \"a\", \"A\"]|unique|list }} {{ [\"a\", \"A\"]|unique(true)|list }} {{ "
         "users|unique(attribute=\"age\")|map(attribute=\"name\")|list }}",
         "[1, 2, 'a'] ['a', 'A'] ['Zoe', 'adam']"},
        {"{{ l|min }} {{ l|max }} {{ w|min }} {{ w|max }} {{ users|max(attribute=\"age\") }} {{ "
         "[]|max }}| {{ \"bca\"|min }}",
         "1 3 a C {'name': 'Zoe', 'age': 30, 'on': True} | a"},
        {"{{ l|sum }} {{ users|sum(attribute=\"age\") }} {{ [[1], [2]]|sum(start=[]) }} {{ [0.1, "
         "0.2]|sum }} {{ []|sum }}",
         "6 85 [1, 2] 0.30000000000000004 0"},
        {"{{ l|reverse|list }} {{ \"abc\"|reverse }} {{ l|map(\"string\")|reverse }} {{ "
         "range(3)|reverse|list }} {{ d|reverse|list }}",
         "[2, 1, 3] cba ['2', '1', '3'] [2, 1, 0] ['two', 'one']"},
        {"{{ \"abc\"|list }} {{ d|list }} {{ (1, 2)|list }} {{ nosuch|list }}",
         "['a', 'b', 'c'] ['one', 'two'] [1, 2] []"},
        {"{{ d|dictsort }} {{ {\"b\": 1, \"A\": 2}|dictsort }} {{ {\"b\": 1, \"A\": "
         "2}|dictsort(true) }} {{ {\"b\": 1, \"A\": 2}|dictsort(by=\"value\", reverse=true) }}",
         "[('one', 1), ('two', 2)] [('A', 2), ('b', 1)] [('A', 2), ('b', 1)] [('A', 2), ('b', 1)]"},
        {"{{ d|items|list }} {% for k, v in d|items %}{{ k }}{{ v }}{% endfor %} {{ "
         "nosuch|items|list }}",
         "[('one', 1), ('two', 2)] one1two2 []"},
        {"{% for k, g in users|groupby(\"age\") %}{{ k }}:{{ g|map(attribute=\"name\")|join(\",\") "
         "}};{% endfor %}",
         "25:adam;30:Zoe,Bob;"},
        {"{% for g in users|groupby(\"on\") %}{{ g.grouper }}{{ g.list|length }}{{ g[0] }};{% "
         "endfor %} {{ [{\"a\": \"x\"}, {\"a\": \"X\"}]|groupby(\"a\")|length }} {{ [{\"a\": "
         "\"x\"}, {}]|groupby(\"a\", default=\"z\") }}",
         "False1False;True2True; 1 [('x', [{'a': 'x'}]), ('z', [{}])]"},
        {"{{ range(7)|batch(3)|list }} {{ range(7)|batch(3, 0)|list }} {{ range(7)|slice(3)|list "
         "}} {{ range(7)|slice(3, \"-\")|list }}",
         "[[0, 1, 2], [3, 4, 5], [6]] [[0, 1, 2], [3, 4, 5], [6, 0, 0]] [[0, 1, 2], [3, 4], [5, "
         "6]] [[0, 1, 2], [3, 4, '-'], [5, 6, '-']]"},
        {"{{ l|map(\"string\")|list }} {{ users|map(attribute=\"name\")|list }} {{ "
         "users|map(attribute=\"nope\", default=\"d\")|list }} {{ [[1, 2], [3, "
         "4]]|map(\"last\")|list }} {{ [\"a b\"]|map(\"replace\", \" \", \"_\")|list }} {{ "
         "none|map(\"x\")|list }} {{ [{\"a\": {\"b\": [5]}}]|map(attribute=\"a.b.0\")|list }}",
         "['3', '1', '2'] ['Zoe', 'adam', 'Bob'] ['d', 'd', 'd'] [2, 4] ['a_b'] [] [5]"},
        {"{{ range(6)|select(\"odd\")|list }} {{ [0, 1, \"\"]|select|list }} {{ "
         "range(6)|reject(\"divisibleby\", 3)|list }} {{ [0, 1]|reject|list }} {{ [1, "
         "\"a\"]|select(\"string\")|list }}",
         "[1, 3, 5] [1] [1, 2, 4, 5] [0] ['a']"},
        {"{{ users|selectattr(\"on\")|map(attribute=\"name\")|list }} {{ users|selectattr(\"age\", "
         "\"gt\", 26)|map(attribute=\"name\")|list }} {{ "
         "users|rejectattr(\"on\")|map(attribute=\"name\")|list }} {{ msgs|selectattr(\"role\", "
         "\"equalto\", \"user\")|list|length }} {{ msgs|selectattr(\"role\", \"in\", [\"user\", "
         "\"system\"])|map(attribute=\"content\")|join(\"|\") }} {{ users|selectattr(\"nope\", "
         "\"defined\")|list }}",
         "['Zoe', 'Bob'] ['Zoe', 'Bob'] ['adam'] 1 Be kind.| Hi  []"},
        {"{{ z|default(\"d\") }} {{ z|default(\"d\", true) }} {{ nosuch|default }}| {{ d.x|d(5) }} "
         "{{ 0|default(1, boolean=true) }} {{ \"\"|default(\"e\") }}|",
         "None d | 5 1 |"},
        {"{{ s|attr(\"upper\") is callable }} {{ d|attr(\"one\") }}|", "True |"},
        {"{% set it = [1, 2, 3]|map(\"string\") %}{{ it|first }}{{ it|first }}{{ it|list }}",
         "12['3']"},
        {"{{ (l|map(\"string\"))|length }}", NULL},
        {"{{ (l|map(\"string\"))|last }}", NULL},
        {"{{ 5|first }}", NULL},
        {"{{ none|list }}", NULL},
        {"{{ none|join }}", NULL},
        {"{{ [1, \"a\"]|sort }}", NULL},
        {"{{ [[1]]|unique|list }}", NULL},
        {"{{ [\"a\"]|sum }}", NULL},
        {"{{ 1|dictsort }}", NULL},
        {"{{ [1]|items|list }}", NULL},
        {"{{ d|dictsort(by=\"x\") }}", NULL},
        {"{{ l|map|list }}", NULL},
        {"{{ l|selectattr|list }}", NULL},
        {"{{ [{\"a\": 1}]|map(attribute=\"b.c\")|list }}", NULL},
        {"{{ 5|length }}", NULL},
        {"{{ [1, none]|max }}", NULL},
    };
    RENDER_CASES(cases, context);
}

static void test_tojson_agrees_with_transformers(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"{{ {\"a\": [1, 2.5, true, false, none, \"x\"], \"b\": {}}|tojson }}",
         "{\"a\": [1, 2.5, true, false, null, \"x\"], \"b\": {}}"},
        {"{{ {\"a\": [1, {\"c\": []}], \"b\": {}}|tojson(indent=2) }}",
         "{\n  \"a\": [\n    1,\n    {\n      \"c\": []\n    }\n  ],\n  \"b\": {}\n}"},
        {"{{ {\"b\": 1, \"a\": {\"d\": 1, \"c\": 2}}|tojson(sort_keys=true) }}",
         "{\"a\": {\"c\": 2, \"d\": 1}, \"b\": 1}"},
        {"{{ \"é中🦙\\n\\t\\\"\\\\/<>&'\\x01\\x7f\"|tojson }} {{ "
         "\"é中🦙\\x7f\"|tojson(ensure_ascii=true) }}",
         "\"é中🦙\\n\\t\\\"\\\\/<>&'\\u0001\177\" \"\\u00e9\\u4e2d\\ud83e\\udd99\\u007f\""},
        {"{{ [1, 2]|tojson(separators=(\",\", \":\")) }} {{ {\"a\": [1]}|tojson(indent=4, "
         "separators=(\",\", \": \")) }} {{ {\"a\": 1}|tojson(indent=0) }} {{ "
         "[1]|tojson(indent=\"--\") }}",
         "[1,2] {\n    \"a\": [\n        1\n    ]\n} {\n\"a\": 1\n} [\n--1\n]"},
        {"{{ {1: 1, 2.5: 2, true: 3, none: 4}|tojson }}", "{\"1\": 3, \"2.5\": 2, \"null\": 4}"},
        {"{{ (1, 2)|tojson }} {{ \"a\"|e|tojson }} {{ 1e16|tojson }} {{ \"inf\"|float|tojson }} {{ "
         "[[], {}]|tojson(indent=1) }}",
         "[1, 2] \"a\" 1e+16 Infinity [\n [],\n {}\n]"},
        {"{{ d|tojson|replace(\"one\", \"eins\") }} {{ d|tojson + \"x\" }}",
         "{\"eins\": 1, \"two\": 2} {\"one\": 1, \"two\": 2}x"},
        {"{{ nosuch|tojson }}", NULL},
        {"{{ range(2)|tojson }}", NULL},
        {"{{ d.keys()|tojson }}", NULL},
        {"{{ {(1,): 1}|tojson }}", NULL},
        {"{{ d|tojson(nope=1) }}", NULL},
        {"{{ {\"a\": 1, 2: 2}|tojson(sort_keys=true) }}", NULL},
    };
    RENDER_CASES(cases, context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_filters_agree_with_jinja),
        cmocka_unit_test(test_number_filters_agree_with_jinja),
        cmocka_unit_test(test_sequence_filters_agree_with_jinja),
        cmocka_unit_test(test_tojson_agrees_with_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
