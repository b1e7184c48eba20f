/* Goal: the tags, the white space around them and the scopes they make behave as in Jinja2.
 * Method: each row is a small template with one context; what it must give was computed once with
 * Python's Jinja2 3.1.6 set up as transformers does. NULL stands for a refusal. */
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

static void test_white_space_around_tags_follows_the_signs(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"  {% if b %}\n  x\n  {% endif %}\ny", "  x\ny"},
        {"a {%- if b -%} x {%- endif -%} b", "axb"},
        {"  {%+ if b %}x{% endif %}", "  x"},
        {"a\n  {{ n }}\n  b", "a\n  5\n  b"},
        {"{% if b +%}\nx{% endif %}", "\nx"},
        {"a  {{- n -}}  b", "a5b"},
        {"a\n\n{%- set q = 1 -%}\n\nb{{ q }}", "ab1"},
        {"line\n", "line"},
        {"line\n\n", "line\n"},
        {"\n\n", "\n"},
        {"{# c #}\nx", "x"},
        {"{# c +#}\nx", "\nx"},
        {"{#- c -#}  x", "x"},
        {"  {# c #}x", "x"},
        {"  {#+ c #}x", "  x"},
        {"a\r\nb\rc\n", "a\nb\nc"},
        {"{% raw %}\n  {{ x }}{% if %}\n  {% endraw %}\ny", "\n  {{ x }}{% if %}\ny"},
        {"  {% raw %}r{% endraw %}", "r"},
        {"a {%- raw -%}  r  {%- endraw -%} b", "arb"},
        {"{% raw +%}", NULL},
        {"{%+ raw %}r{%+ endraw +%}\nz", "r\nz"},
        {"x {{n}}y", "x 5y"},
        {"\t {%- if b %}\t q{% endif %}", "\t q"},
        {"{% for i in l %}\n  {{ i }}\n{% endfor %}\nend", "  3\n  1\n  2\nend"},
        {"{{ \"a\" }}\n{{ \"b\" }}\n", "a\nb"},
        {"{%- for i in l -%}\n  {{ i }},\n{%- endfor -%}", "3,1,2,"},
        {"text{#", "text"},
        {"text{% raw %}", "text"},
        {" {{+ n }}", " 5"},
    };
    RENDER_CASES(cases, context);
}

static void test_expressions_have_pythons_precedence(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"{{ 1 + 2 * 3 }}", "7"},
        {"{{ (1 + 2) * 3 }}", "9"},
        {"{{ 2 ** 3 ** 2 }}", "64"},
        {"{{ -2 ** 2 }}", "4"},
        {"{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }}", "3 -4 1 2 -2"},
        {"{{ 7 / 2 }} {{ 4 / 2 }}", "3.5 2.0"},
        {"{{ 7.5 // 2 }} {{ -7.5 % 2 }}", "3.0 0.5"},
        {"{{ 2 ** -1 }} {{ 2 ** 0.5 }}", "0.5 1.4142135623730951"},
        {"{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }}", "True False"},
        {"{{ not b or b }}", "True"},
        {"{{ \"a\" ~ 1 ~ none ~ true ~ 1.0 }}", "a1NoneTrue1.0"},
        {"{{ 1 ~ 2 + 3 }}", NULL},
        {"{{ \"x\" * 3 }} {{ 2 * \"ab\" }} {{ [1] * 2 }}", "xxx abab [1, 1]"},
        {"{{ [1] + [2] }} {{ (1,) + (2,) }}", "[1, 2] (1, 2)"},
        {"{{ 1 if b else 2 }}", "1"},
        {"{{ \"yes\" if z }}|", "|"},
        {"{{ (1 if z else 2) if b else 3 }}", "2"},
        {"{{ n is odd and n > 3 }}", "True"},
        {"{{ not n is even }}", "True"},
        {"{{ n is not even }}", "True"},
        {"{{ 1 in l }} {{ 9 not in l }} {{ \"ell\" in s }} {{ \"one\" in d }}",
         "True True True True"},
        {"{{ -n|abs }}", "5"},
        {"{{ (-n)|abs }}", "5"},
        {"{{ +n }} {{ - -n }}", "5 5"},
        {"{{ \"a\" \"b\" 'c' }}", "abc"},
        {"{{ 1, 2 }} {{ (1,) }} {{ () }}", "(1, 2) (1,) ()"},
        {"{{ [1, 2,] }} {{ {\"a\": 1,} }}", "[1, 2] {'a': 1}"},
        {"{{ true and 0 }} {{ 0 or \"x\" }} {{ \"\" or none }}", "0 x None"},
        {"{{ 10 - 2 - 3 }} {{ 100 / 10 / 2 }}", "5 5.0"},
        {"{{ n.real }} {{ 3.0.is_integer() }}", "5 True"},
        {"{{ 1_000 + 0x1F + 0b11 + 0o17 }}", "1049"},
        {"{{ 1e3 }} {{ 1.5e-3 }} {{ 2E2 }}", "1000.0 0.0015 200.0"},
        {"{{ l|join(\",\") ~ \"!\" }}", "3,1,2!"},
        {"{{ s.upper().lower()|title }}", "Hello World"},
        {"{{ l[0] + l[-1] }} {{ l.0 }}", "5 3"},
        {"{{ d[\"one\"] }} {{ d.two }} {{ d.none_such }}|", "1 2 |"},
    };
    RENDER_CASES(cases, context);
}

static void test_wrong_expressions_are_refused(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"{{ }}", NULL},
        {"{{ 1 + }}", NULL},
        {"{{ 1 2 }}", NULL},
        {"{{ (1 }}", NULL},
        {"{{ [1, 2 }}", NULL},
        {"{{ {1: 2, }", NULL},
        {"{{ x", NULL},
        {"{{ \"open }}", NULL},
        {"{{ a b }}", NULL},
        {"{{ 1 | }}", NULL},
        {"{{ x is }}", NULL},
        {"{{ x is string is string }}", NULL},
        {"{{ f(a=1, 2) }}", NULL},
        {"{{ f(**x, *y) }}", NULL},
        {"{{ f(a=1, a=2) }}", NULL},
        {"{{ x. }}", NULL},
        {"{{ x[1:2, 3] }}", NULL},
        {"{{ 012 }}", NULL},
        {"{{ ! }}", NULL},
        {"{{ a ? b }}", NULL},
        {"{{ )( }}", NULL},
        {"{{ [) }}", NULL},
        {"{{ {% }}", NULL},
        {"{{ \"\\xZZ\" }}", NULL},
        {"{{ not }}", NULL},
        {"{{ 1 if }}", NULL},
        {"{{ n|nosuch }}", NULL},
        {"{{ n is nosuch }}", NULL},
        {"{{ l|map(\"nosuch\")|list }}", NULL},
        {"{{ l|select(\"nosuch\")|list }}", NULL},
        {"{{ 1 + \"a\" }}", NULL},
        {"{{ \"a\" + 1 }}", NULL},
        {"{{ [] + () }}", NULL},
        {"{{ none + 1 }}", NULL},
        {"{{ -\"a\" }}", NULL},
        {"{{ 1 / 0 }}", NULL},
        {"{{ 1 // 0 }}", NULL},
        {"{{ 1 % 0 }}", NULL},
        {"{{ 1.0 / 0 }}", NULL},
        {"{{ 0 ** -1 }}", NULL},
        {"{{ 1 < \"a\" }}", NULL},
        {"{{ none < 1 }}", NULL},
        {"{{ {} < {} }}", NULL},
        {"{{ 1 in 5 }}", NULL},
        {"{{ 1 in \"a\" }}", NULL},
        {"{{ n() }}", NULL},
        {"{{ s.nosuch() }}", NULL},
        {"{{ nosuch.x }}", NULL},
        {"{{ nosuch() }}", NULL},
        {"{{ nosuch + 1 }}", NULL},
        {"{{ -nosuch }}", NULL},
        {"{{ nosuch < 1 }}", NULL},
        {"{{ {[]: 1} }}", NULL},
        {"{{ d[[]].x }}", NULL},
        {"{{ z[1:] }}", NULL},
        {"{{ l[\"a\":] }}", NULL},
        {"{{ l[::0] }}", NULL},
        {"{{ z.x.y }}", NULL},
    };
    RENDER_CASES(cases, context);
}

static void test_branches_take_the_first_true_one(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"{% if z %}a{% elif n == 5 %}b{% elif b %}c{% else %}d{% endif %}", "b"},
        {"{% if z %}a{% else %}d{% endif %}", "d"},
        {"{% if [] or {} or \"\" or 0 or 0.0 or none or false %}a{% else %}d{% endif %}", "d"},
        {"{% if [0] and {1: 1} and \"0\" and -1 %}a{% endif %}", "a"},
        {"{% if nosuch %}a{% else %}b{% endif %}", "b"},
        {"{% if false %}{{ n|nosuch }}{% endif %}ok", "ok"},
        {"{% if false %}{% if n is nosuch %}{% endif %}{% endif %}ok", "ok"},
        {"{{ n|nosuch if false else \"ok\" }}", "ok"},
        {"{% if l|select(\"odd\") %}a generator is true{% endif %}", "a generator is true"},
        {"{% if l|select(\"string\")|list %}a{% else %}b{% endif %}", "b"},
        {"{% if true: %}colon{% endif %}", "colon"},
        {"{% if n > 3 and n < 10 %}mid{% endif %}", "mid"},
        {"{% if not z is defined %}a{% else %}b{% endif %}", "b"},
        {"{% if b %}a{% elif %}{% endif %}", NULL},
        {"{% if %}{% endif %}", NULL},
        {"{% if b %}", NULL},
        {"{% endif %}", NULL},
        {"{% else %}", NULL},
        {"{% if b %}{% endfor %}", NULL},
        {"{% if b %}{% else %}{% elif b %}{% endif %}", NULL},
        {"{% if false %}{% for i in l %}{{ i|nosuch }}{% endfor %}{% endif %}", NULL},
    };
    RENDER_CASES(cases, context);
}

static void test_loops_know_where_they_are(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 "
         "}}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}",
         "1032TrueFalse3;2121FalseFalse3;3210FalseTrue3;"},
        {"{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}",
         "<3>1 3<1>2 1<2> "},
        {"{% for i in l %}{{ loop.cycle(\"odd\", \"even\") }} {% endfor %}", "odd even odd "},
        {"{% for i in [1,1,2,2,1] %}{{ loop.changed(i) }} {% endfor %}",
         "True False True False True "},
        {"{% for i in [1,1,2] %}{{ loop.changed(i, 1) }} {% endfor %}", "True False True "},
        {"{% for i in [] %}x{% else %}none{% endfor %}", "none"},
        {"{% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}", "3"},
        {"{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "32"},
        {"{% for i in [1] %}{% continue %}{% else %}skipped turns count as none{% endfor %}",
         "skipped turns count as none"},
        {"{% for i in [1] %}{% break %}{% else %}E{% endfor %}", "E"},
        {"{% for i in l if i > 1 %}{{ loop.index }}/{{ loop.length }}:{{ i }} {% endfor %}",
         "1/2:3 2/2:2 "},
        {"{% for i in l if i > 9 %}x{% else %}none{% endfor %}", "none"},
        {"{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "one=1;two=2;"},
        {"{% for k in d %}{{ k }}{% endfor %}", "onetwo"},
        {"{% for c in \"aé🦙\" %}[{{ c }}]{% endfor %}", "[a][é][🦙]"},
        {"{% for a, (b, c) in [(1, (2, 3)), (4, (5, 6))] %}{{ a }}{{ b }}{{ c }} {% endfor %}",
         "123 456 "},
        {"{% for u in users|selectattr(\"on\") %}{{ loop.index }}{{ u.name }}{{ \",\" if not "
         "loop.last }}{% endfor %}",
         "1Zoe,2Bob"},
        {"{% for i in range(3) %}{% for j in range(2) %}{{ loop.index }}{% endfor %}{{ loop.index "
         "}} {% endfor %}",
         "121 122 123 "},
        {"{% for i in l %}{% set outer = loop %}{% for j in [1, 2] %}{{ outer.index }}.{{ "
         "loop.index }} {% endfor %}{% endfor %}",
         "1.1 1.2 2.1 2.2 3.1 3.2 "},
        {"{% for i in nosuch %}x{% else %}e{% endfor %}", "e"},
        {"{% for i in l|map(\"string\") %}{{ loop.last }}{{ loop.length }} {% endfor %}",
         "False3 False3 True3 "},
        {"{% for i in l %}{{ loop }} {% endfor %}",
         "<LoopContext 1/3> <LoopContext 2/3> <LoopContext 3/3> "},
        {"{% for x in l recursive %}{{ x }}{{ loop.depth }}{% endfor %}", "311121"},
        {"{% for t in tree recursive %}{{ t.v }}{% if t.kids %}({{ loop(t.kids) }}){% endif %}{% "
         "endfor %}",
         "1(23(4))5"},
        {"{% for t in tree recursive %}{{ loop.depth }}{{ loop.depth0 }}{{ loop.index }} {{ "
         "loop(t.kids) }}{% endfor %}",
         "101 211 212 321 102 "},
        {"{% for t in tree if t.v != 2 recursive %}{{ t.v }}{{ loop(t.kids) }}{% else %}-{% endfor "
         "%}",
         "134-5-"},
        {"{{ loop }}|{% for i in l %}{% endfor %}{{ i }}|", "||"},
        {"{% for i in l %}{% if loop.index is divisibleby 2 %}{{ i }}{% endif %}{% endfor %}", "1"},
        {"{% for i in [[1,2],[3,4]] %}{% for j in i %}{{ j }}{% if loop.last %};{% endif %}{% "
         "endfor %}{% endfor %}",
         "12;34;"},
        {"{% for m in msgs %}{% if (m.role == \"user\") != (loop.index0 % 2 == 0) %}{{ m.role }}{% "
         "endif %}{% endfor %}",
         "systemuserassistant"},
        {"{% for i in n %}{% endfor %}", NULL},
        {"{% for i in none %}{% endfor %}", NULL},
        {"{% for a, b in l %}{% endfor %}", NULL},
        {"{% for a, b in [(1, 2, 3)] %}{% endfor %}", NULL},
        {"{% for i in l %}{{ loop(l) }}{% endfor %}", NULL},
        {"{% for loop in l %}{% endfor %}", NULL},
        {"{% break %}", NULL},
        {"{% for i in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", NULL},
        {"{% for x in %}{% endfor %}", NULL},
        {"{% for in l %}{% endfor %}", NULL},
        {"{% for 1 in l %}{% endfor %}", NULL},
        {"{% for i in l %}", NULL},
    };
    RENDER_CASES(cases, context);
}

static void test_assignments_stay_in_their_scope(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"{% set x = 1 %}{{ x }}{% set x = x + 1 %}{{ x }}", "12"},
        {"{% set a, b = 1, 2 %}{{ a }}{{ b }}", "12"},
        {"{% set (a, b), c = [1, 2], 3 %}{{ a }}{{ b }}{{ c }}", "123"},
        {"{% set x = 0 %}{% for i in l %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}",
         "3 1 2 0"},
        {"{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ "
         "ns.x }}",
         "6"},
        {"{% set ns = namespace({\"a\": 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns[\"a\"] }}{{ ns.c is "
         "defined }}",
         "121False"},
        {"{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}{{ ns }}",
         "12<Namespace {'a': 1, 'b': 2}>"},
        {"{% if b %}{% set x = 1 %}{% endif %}{{ x }}", "1"},
        {"{% if z %}{% set n = 1 %}{% endif %}{{ n }}", "5"},
        {"{% if z %}{% set y = 1 %}{% endif %}{{ y is defined }}", "False"},
        {"{% for i in l %}{% if i == 1 %}{% set n = 99 %}{% endif %}{{ n }} {% endfor %}{{ n }}",
         "5 99 5 5"},
        {"{% for i in l %}{{ n }}{% endfor %}{% set n = 7 %}", ""},
        {"{{ n }}{% for i in l %}{{ n }}{% endfor %}{% set n = 7 %}{{ n }}", "55557"},
        {"{% set x %}<b>{{ n }}</b>{% endset %}{{ x }}{{ x|length }}", "<b>5</b>8"},
        {"{% set x | upper | replace(\"A\", \"-\") %}abca{% endset %}{{ x }}", "-BC-"},
        {"{% set x %}{% set y = 1 %}{{ y }}{% endset %}{{ x }}{{ y }}|", "1|"},
        {"{% with %}{% set x = 1 %}{{ x }}{% endwith %}{{ x }}|", "1|"},
        {"{% with x = n, y = 2 %}{{ x }}{{ y }}{% endwith %}{{ x }}|", "52|"},
        {"{% with n = 1 %}{{ n }}{% with n = n + 1 %}{{ n }}{% endwith %}{{ n }}{% endwith %}{{ n "
         "}}",
         "1215"},
        {"{% filter upper %}a{{ n }}{% set n = 1 %}{{ n }}b{% endfilter %}{{ n }}", "A51B5"},
        {"{% filter trim|replace(\"a\", \"b\") %} aXa {% endfilter %}|", "bXb|"},
        {"{% set ns = namespace(n=[]) %}{% for i in l %}{% set ns.n = ns.n + [i * 2] %}{% endfor "
         "%}{{ ns.n }}",
         "[6, 2, 4]"},
        {"{% set ns = namespace(x=1) %}{% set ns.x %}block{% endset %}{{ ns.x }}", "block"},
        {"{% set x = 1, %}{{ x }}", "(1,)"},
        {"{% set d.x = 1 %}", NULL},
        {"{% set x.y = 1 %}", NULL},
        {"{% set 1 = 2 %}", NULL},
        {"{% set true = 1 %}", NULL},
        {"{% set x[0] = 1 %}", NULL},
        {"{% set x %}", NULL},
        {"{% set a, b = 1 %}", NULL},
        {"{% set a, b = [1] %}", NULL},
        {"{% set a, b = [1, 2, 3] %}", NULL},
        {"{% set x = %}", NULL},
        {"{% set ns = namespace(x=0) %}{% for i in [1,2,3] if ns.x < 2 %}{% set ns.x = ns.x + i "
         "%}{{ i }}{% endfor %}{{ ns.x }}",
         "123"},
        {"{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}",
         "<Namespace {'me': <Namespace {...}>}>"},
        {"{% set _p = 1 %}{{ _p }}", "1"},
        {"{% for i in [1, 2] %}{{ x }}{% set x = i %}{{ x }} {% endfor %}", "1 2 "},
        {"{% set x = 1 %}{% for i in [1] %}{% set y = x %}{% endfor %}{{ y }}|{% set z2 = nosuch "
         "%}{{ z2 is defined }}",
         "|False"},
    };
    RENDER_CASES(cases, context);
}

static void test_macros_bind_arguments_as_python_does(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"{% macro m(a, b=2, c=\"x\") %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ m(1) }}{{ m(1, 3) "
         "}}{{ m(c=5, a=4) }}{{ m(*[7, 8]) }}{{ m(**{\"a\": 9}) }}",
         "12x;13x;425;78x;92x;"},
        {"{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m() }}", "[]"},
        {"{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}", "False"},
        {"{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(3) }}", "3"},
        {"{% macro m(a=b2, b2=1) %}{{ a }}|{% endmacro %}{{ m() }}", "|"},
        {"{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
         "(1, 2){'x': 3}"},
        {"{% macro m(a) %}{{ a }}{{ varargs|length }}{% endmacro %}{{ m(1, 2, 3) }}", "12"},
        {"{% macro m() %}({{ caller() }}){% endmacro %}{% call m() %}body{{ n }}{% endcall %}",
         "(body5)"},
        {"{% macro m() %}{{ caller(1, 2) }}{{ caller(3, 4) }}{% endmacro %}{% call(x, y) m() %}{{ "
         "x }}+{{ y }};{% endcall %}",
         "1+2;3+4;"},
        {"{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "False"},
        {"{% macro m(caller=none) %}{{ caller() if caller else \"none\" }}{% endmacro %}{{ m() "
         "}}{% call m() %}c{% endcall %}",
         "nonec"},
        {"{% macro m(x) %}{% if x > 0 %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(4) }}",
         "4321"},
        {"{% macro m() %}{{ late }}{% endmacro %}{% set late = \"seen\" %}{{ m() }}", "seen"},
        {"{% set x = 1 %}{% macro m() %}{% set x = 2 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}",
         "21"},
        {"{% for i in l %}{% macro m() %}<{{ i }}>{% endmacro %}{{ m() }}{% endfor %}",
         "<3><1><2>"},
        {"{% macro m(a, b) %}{% endmacro %}{{ m.name }} {{ m.arguments }} {{ m.catch_kwargs }} {{ "
         "m.catch_varargs }} {{ m.caller }} {{ m }}",
         "m ('a', 'b') False False False <Macro 'm'>"},
        {"{% macro outer() %}{% macro inner(x) %}{{ x }}!{% endmacro %}{{ inner(1) }}{{ inner(2) "
         "}}{% endmacro %}{{ outer() }}",
         "1!2!"},
        {"{% macro m() %}  x  {% endmacro %}[{{ m()|trim }}]", "[x]"},
        {"{% macro a() %}A{{ caller() }}{% endmacro %}{% macro b2() %}B{{ caller() }}{% endmacro "
         "%}{% call a() %}{% call b2() %}c{% endcall %}{% endcall %}",
         "ABc"},
        {"{{ m() }}{% macro m() %}x{% endmacro %}", NULL},
        {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", NULL},
        {"{% macro m(a) %}{% endmacro %}{{ m(b=1) }}", NULL},
        {"{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}", NULL},
        {"{% macro m(a, a) %}{% endmacro %}", NULL},
        {"{% macro m(a=1, b) %}{% endmacro %}", NULL},
        {"{% macro m() %}{% endmacro %}{% call m() %}x{% endcall %}", NULL},
        {"{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", NULL},
        {"{% call n %}{% endcall %}", NULL},
        {"{% call range(3) %}x{% endcall %}", NULL},
        {"{% macro m(caller) %}{{ caller() }}{% endmacro %}", NULL},
        {"{% macro m %}{% endmacro %}", NULL},
        {"{% macro m() %}", NULL},
        {"{% macro m(x, seen=[]) %}{{ seen + [x] }}{% endmacro %}{{ m(1) }}{{ m(2) }}", "[1][2]"},
        {"{% macro m() %}{{ 1 if true }}{% endmacro %}{{ m() + \"a\" }}{{ m()|int + 1 }}", "1a2"},
    };
    RENDER_CASES(cases, context);
}

static void test_other_tags_do_what_jinja_does(void **state)
{
    (void)state;
    static const render_case cases[] = {
        {"{% generation %}a{{ n }}{% endgeneration %}b", "a5b"},
        {"{% for m in msgs %}{% if m.role == \"assistant\" %}{% generation %}{{ m.content }}{% set "
         "q = 1 %}{% endgeneration %}{{ q }}{% endif %}{% endfor %}",
         "Hello"},
        {"{% print n, s %}", "5Hello World"},
        {"{% block one %}x{{ n }}{% endblock %}", "x5"},
        {"{% set y = 1 %}{% block one %}{{ y }}{% set y = 2 %}{% endblock %}{{ y }}", "11"},
        {"{% for i in l %}{% block one scoped %}{{ i }}{{ loop.index }}{% endblock %}{% endfor %}",
         "311223"},
        {"{% for i in l %}{% block one %}[{{ i }}]{% endblock %}{% endfor %}", "[][][]"},
        {"{% block one %}x{% endblock one %}{{ self.one() }}", "xx"},
        {"{% autoescape false %}<{{ s }}>{% endautoescape %}", "<Hello World>"},
        {"{% if false %}{% include \"x\" %}{% import \"y\" as z %}{% extends \"q\" %}{% from \"a\" "
         "import b, c as d %}{% endif %}ok",
         "ok"},
        {"{% include \"x\" %}", NULL},
        {"{% include \"x\" ignore missing %}", NULL},
        {"{% import \"x\" as y %}", NULL},
        {"{% from \"x\" import y %}", NULL},
        {"{% extends \"x\" %}", NULL},
        {"{% autoescape %}x{% endautoescape %}", NULL},
        {"{% do l %}", NULL},
        {"{% nosuch %}", NULL},
        {"{%%}", NULL},
        {"{% block a %}{% endblock %}{% block a %}{% endblock %}", NULL},
        {"{% block a required %}{% endblock %}", NULL},
        {"{% block a required %}x{% endblock %}", NULL},
        {"{% 1 %}", NULL},
        {"{% raw %}{{", NULL},
        {"{# open", NULL},
        {"{% generation %}", NULL},
        {"{% for i in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}", NULL},
        {"{{ raise_exception(\"No \" ~ n) }}", NULL},
        {"{{ strftime_now(\"%Y-%m-%d %H:%M:%S|%d %b %Y|%A %B %j %I %p %y %%|%f%z%Z|%-d\") }}",
         "2024-07-26 12:34:56|26 Jul 2024|Friday July 208 12 PM 24 %|000000|26"},
        {"{{ range(3) }} {{ range(1, 10, 3)|list }} {{ range(5, 0, -2)|list }} {{ range(3)|length "
         "}} {{ range(10)[2:4] }} {{ range(4)[-1] }} {{ 3 in range(0, 9, 3) }}",
         "range(0, 3) [1, 4, 7] [5, 3, 1] 3 range(2, 4) 3 True"},
        {"{{ dict(a=1, b=2) }} {{ dict({\"x\": 1}, y=2) }} {{ dict([[\"a\", 1]]) }}",
         "{'a': 1, 'b': 2} {'x': 1, 'y': 2} {'a': 1}"},
        {"{% set c = cycler(\"a\", \"b\") %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current "
         "}}{{ c.reset() }}{{ c.next() }}",
         "ababNonea"},
        {"{% set j = joiner(\"; \") %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}", "3; 1; 2"},
        {"{{ lipsum is defined }}{{ namespace is defined }}", "TrueTrue"},
        {"{{ range(100001) }}", NULL},
        {"{{ range(1, 2, 0) }}", NULL},
        {"{{ cycler() }}", NULL},
        {"{{ dict(1) }}", NULL},
        {"{{ raise_exception() }}", NULL},
        {"{{ tools }}{{ documents }}", "NoneNone"},
    };
    RENDER_CASES(cases, context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_white_space_around_tags_follows_the_signs),
        cmocka_unit_test(test_expressions_have_pythons_precedence),
        cmocka_unit_test(test_wrong_expressions_are_refused),
        cmocka_unit_test(test_branches_take_the_first_true_one),
        cmocka_unit_test(test_loops_know_where_they_are),
        cmocka_unit_test(test_assignments_stay_in_their_scope),
        cmocka_unit_test(test_macros_bind_arguments_as_python_does),
        cmocka_unit_test(test_other_tags_do_what_jinja_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
