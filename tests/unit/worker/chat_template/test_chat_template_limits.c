/* Goal: no template, however hostile, takes more than its share of stack, memory or time, and what
 * is refused says where and why.
 * Method: one template for each way to grow without end; each must end with
 * ST_RESOURCE_EXHAUSTED or ST_INVALID_ARGUMENT, quickly and without a crash (the sanitizers
 * watch). Then the sentences of errors, and one template rendered by several threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/limits.h"
#include "render_support.h"

/* `count` times `part` between `before` and `after`. */
static char *repeated(const char *before, const char *part, size_t count, const char *after)
{
    buffer b = {0};
    buffer_append(&b, before, strlen(before));
    for (size_t i = 0; i < count; i++)
        buffer_append(&b, part, strlen(part));
    buffer_append(&b, after, strlen(after) + 1);
    return (char *)b.data;
}

static status outcome(const char *source, const char *context)
{
    rendered r = render_text(source, context);
    status st = r.parsed != ST_OK ? r.parsed : r.code;
    if (st != ST_OK) {
        assert_int_equal(r.text.size, 0);
        assert_int_equal(r.err.code, st);
        assert_true(r.err.text[0] != '\0');
    }
    rendered_free(&r);
    return st;
}

static void test_deep_nesting_of_the_source_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *before, *part, *after;
    } cases[] = {
        {"{{ ", "(", ""},
        {"{{ ", "[", ""},
        {"{{ ", "{1:", ""},
        {"{{ ", "not ", "x }}"},
        {"{{ ", "-", "1 }}"},
        {"{{ ", "- ", "1 }}"},
        {"{{ 1", " + 1", " }}"},
        {"{{ 1", " * 1", " }}"},
        {"{{ x", " and x", " }}"},
        {"{{ x", ".x", " }}"},
        {"{{ x", "[0]", " }}"},
        {"{{ x", "(0)", " }}"},
        {"{{ x", "|string", " }}"},
        {"{{ x", " if x", " }}"},
        {"{{ x", " if x else x", " }}"},
        {"{{ ", "x if x else ", "x }}"},
        {"{{ ", "f(", ""},
        {"{{ ", "x[", ""},
        {"", "{% if x %}", ""},
        {"", "{% for x in y %}", ""},
        {"", "{% macro m() %}", ""},
        {"", "{% set x %}", ""},
        {"{% filter ", "upper|", "upper %}{% endfilter %}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *source = repeated(cases[i].before, cases[i].part, 60000, cases[i].after);
        status st = outcome(source, "{}");
        if (st != ST_RESOURCE_EXHAUSTED) print_error("nested %s: %d\n", cases[i].part, (int)st);
        assert_int_equal(st, ST_RESOURCE_EXHAUSTED);
        mem_free(source);
    }
}

static void test_as_much_nesting_as_jinja_takes_is_rendered(void **state)
{
    (void)state;
    char *source = repeated("{{ ", "(", 90, "1");
    char *whole = repeated(source, ")", 90, " }}");
    assert_int_equal(outcome(whole, "{}"), ST_OK);
    mem_free(source);
    mem_free(whole);
    source = repeated("{{ 1", " + 1", 150, " }}");
    assert_int_equal(outcome(source, "{}"), ST_OK);
    mem_free(source);
    source = repeated("{% if x %}", "{% elif y %}a", 5000, "{% else %}b{% endif %}");
    assert_int_equal(outcome(source, "{}"), ST_OK);
    mem_free(source);
    source = repeated("{{ 1", " ~ 1", 5000, " }}");
    assert_int_equal(outcome(source, "{}"), ST_OK);
    mem_free(source);
}

static void test_growth_without_end_is_stopped(void **state)
{
    (void)state;
    static const char *const exhausting[] = {
        /* time */
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{{ x[0:5] }}{{ x.find('q') }}{% endfor %}",
        "{% for a in range(100000) %}{{ x.replace('a', 'b')|length }}{% endfor %}",
        "{% for a in range(90000) if a < 0 or [1] * 10000 == [] %}{% endfor %}",
        "{{ (['ab'] * 100000)|map('replace', 'a', x)|list }}",
        "{% set a = [1] * 500000 %}{% set b = [1] * 500000 %}"
        "{% for i in range(100000) %}{{ a == b }}{% endfor %}",
        "{% set a = ('y',) * 500000 %}{% for i in range(100000) %}{{ 'x'.startswith(a) }}"
        "{% endfor %}",
        "{{ dict(**{}.fromkeys(range(100000)|map('string')|list)) }}",
        /* stack */
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(n) %}{% if n %}{{ m([n]) }}{% endif %}{% endmacro %}{{ m(1) }}",
        "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% block b %}{{ self.b() }}{% endblock %}",
        "{% set n = namespace(l=[]) %}{% for i in range(5000) %}{% set n.l = [n.l] %}{% endfor %}"
        "{{ n.l }}",
        "{% set n = namespace(l=[]) %}{% for i in range(5000) %}{% set n.l = [n.l] %}{% endfor %}"
        "{{ n.l|tojson }}",
        "{% set n = namespace(l=[]) %}{% for i in range(5000) %}{% set n.l = [n.l] %}{% endfor %}"
        "{{ n.l|pprint }}",
        "{% set n = namespace(l=[], k=[]) %}{% for i in range(5000) %}"
        "{% set n.l = [n.l] %}{% set n.k = [n.k] %}{% endfor %}{{ n.l == n.k }}",
        "{% set n = namespace(l=(), k=()) %}{% for i in range(5000) %}"
        "{% set n.l = (n.l,) %}{% set n.k = (n.k,) %}{% endfor %}{{ n.l < n.k }}",
        "{% set n = namespace(l=()) %}{% for i in range(5000) %}{% set n.l = (n.l,) %}{% endfor %}"
        "{{ {n.l: 1} }}",
        "{% set n = namespace(l=()) %}{% for i in range(5000) %}{% set n.l = (n.l,) %}{% endfor %}"
        "{{ n.l is filter }}",
        "{% set n = namespace(l=()) %}{% for i in range(5000) %}{% set n.l = (n.l,) %}{% endfor %}"
        "{{ {}[n.l] }}",
        "{% set n = namespace(l=[1]) %}{% for i in range(5000) %}"
        "{% set n.l = n.l|map('string') %}{% endfor %}{{ n.l|list }}",
        /* memory and output */
        "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}"
        "{% endfor %}",
        "{% set n = namespace(s=[1]) %}{% for i in range(60) %}{% set n.s = n.s + n.s %}"
        "{% endfor %}",
        "{{ 'x' * 1000000000000 }}",
        "{{ 'xy' * 1000000000000 }}",
        "{{ [1] * 1000000000000 }}",
        "{{ 'x'.center(1000000000000) }}",
        "{{ 'x'.zfill(1000000000000) }}",
        "{{ 'x\\ny'|indent(1000000000000) }}",
        "{{ '\\t'.expandtabs(1000000000000) }}",
        "{{ '%099999999d' % 1 }}",
        "{{ [1]|batch(1000000000000, 0)|list }}",
        "{{ [1]|slice(1000000000000)|list }}",
        "{% for i in range(100000) %}{{ x }}{% endfor %}",
    };
    char *big = repeated("{\"x\": \"", "abcdefgh", 10000, "\"}");
    for (size_t i = 0; i < sizeof exhausting / sizeof exhausting[0]; i++) {
        status st = outcome(exhausting[i], big);
        if (st != ST_RESOURCE_EXHAUSTED) print_error("%s: %d\n", exhausting[i], (int)st);
        assert_int_equal(st, ST_RESOURCE_EXHAUSTED);
    }
    mem_free(big);
}

static void test_names_without_end_are_stopped_when_they_are_parsed(void **state)
{
    (void)state;
    static const struct {
        const char *before, *each, *after;
    } cases[] = {
        {"{% macro m(", "%sp%u", ") %}{% endmacro %}"},
        {"{{ f(", "%sp%u=1", ") }}"},
        {"", "%.0s{%% block b%u %%}{%% endblock %%}", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        buffer source = {0};
        buffer_append(&source, cases[i].before, strlen(cases[i].before));
        for (uint32_t k = 0; source.size < LIMIT_CHAT_TEMPLATE_BYTES - 100; k++) {
            char name[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            int size = snprintf(name, sizeof name, cases[i].each, k > 0 ? "," : "", k);
#pragma GCC diagnostic pop
            buffer_append(&source, name, (size_t)size);
        }
        buffer_append(&source, cases[i].after, strlen(cases[i].after) + 1);
        assert_int_equal(outcome((const char *)source.data, "{}"), ST_RESOURCE_EXHAUSTED);
        buffer_free(&source);
    }
}

static void test_a_number_that_equals_nothing_is_no_trap(void **state)
{
    (void)state;
    rendered r = render_text("{% set n = 'nan'|float %}{{ {n: 1, 2: 3}|tojson(sort_keys=true) }} "
                             "{{ 1 == n }} {{ n == 1 }} {{ {n: 1}[n] is defined }}",
                             "{}");
    assert_string_equal((const char *)r.text.data, "{\"NaN\": 1, \"2\": 3} False False False");
    rendered_free(&r);
}

static void test_sizes_out_of_reason_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "{{ range(10**9) }}",
        "{{ range(0, 9223372036854775807, 9223372036854775806) }}",
        "{{ 9223372036854775807 + 1 }}",
        "{{ -9223372036854775807 - 2 }}",
        "{{ 9223372036854775807 * 2 }}",
        "{{ 2 ** 63 }}",
        "{{ (-9223372036854775807 - 1) // -1 }}",
        "{{ -(-9223372036854775807 - 1) }}",
        "{{ (-9223372036854775807 - 1)|abs }}",
        "{{ 99999999999999999999 }}",
        "{{ '99999999999999999999'|int }}",
        "{{ 1e30|int }}",
        "{{ '{:999999999999}'.format(1) }}",
        "{{ '%.99999f' % 1.5 }}",
        "{{ '%.*f' % (4294967297, 1.5) }}",
        "{{ '%*d' % (-9223372036854775807 - 1, 5) }}",
        "{{ range(-9223372036854775807, 1, 9223372036854775806)[::-1] }}",
        "{{ 10.0 ** 400 }}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        status st = outcome(wrong[i], "{}");
        if (st != ST_INVALID_ARGUMENT) print_error("%s: %d\n", wrong[i], (int)st);
        assert_int_equal(st, ST_INVALID_ARGUMENT);
    }
    rendered r = render_text("{{ (-9223372036854775807 - 1) % -1 }} {{ l[::9223372036854775807] }} "
                             "{{ l[-9223372036854775807:9223372036854775807] }} "
                             "{{ 'ab'[::-9223372036854775807] }} {{ l|round(99) if 0 else 1 }} "
                             "{{ 1.5|round(400) }} {{ 1.5|round(-400) }} {{ 5|round(-400) }}",
                             "{\"l\": [1, 2]}");
    assert_string_equal((const char *)r.text.data, "0 [1] [1, 2] b 1 1.5 0.0 0");
    rendered_free(&r);
}

static void test_source_over_the_limit_is_refused(void **state)
{
    (void)state;
    char *source = repeated("", "x", LIMIT_CHAT_TEMPLATE_BYTES, "");
    rendered r = render_text(source, "{}");
    assert_int_equal(r.parsed, ST_OK);
    assert_int_equal(r.text.size, LIMIT_CHAT_TEMPLATE_BYTES);
    rendered_free(&r);
    mem_free(source);
    source = repeated("", "x", LIMIT_CHAT_TEMPLATE_BYTES + 1, "");
    r = render_text(source, "{}");
    assert_int_equal(r.parsed, ST_INVALID_ARGUMENT);
    assert_non_null(strstr(r.err.text, "1048577"));
    assert_non_null(strstr(r.err.text, "1048576"));
    rendered_free(&r);
    mem_free(source);
}

static void test_what_is_not_utf8_is_refused(void **state)
{
    (void)state;
    static const char *const broken[] = {"\xff",         "a\xc3",           "{{ '\xe2\x82' }}",
                                         "\xed\xa0\x80", "\xc0\xaf",        "\xf4\x90\x80\x80",
                                         "x\x80y",       "\xf0\x80\x80\x80"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        rendered r = render_text(broken[i], "{}");
        assert_int_equal(r.parsed, ST_INVALID_ARGUMENT);
        assert_non_null(strstr(r.err.text, "UTF-8"));
        rendered_free(&r);
    }
    /* A lone surrogate may be computed with but not put out. */
    assert_int_equal(outcome("{{ '\\ud800' }}", "{}"), ST_INVALID_ARGUMENT);
    rendered r =
        render_text("{{ '\\ud800'|length }}{{ '\\ud83d'|tojson(ensure_ascii=true) }}", "{}");
    assert_string_equal((const char *)r.text.data, "1\"\\ud83d\"");
    rendered_free(&r);
}

static void test_errors_name_line_and_reason(void **state)
{
    (void)state;
    static const struct {
        const char *source, *expected;
    } cases[] = {
        {"a\nb\n{{ nosuch.x }}", "line 3: 'nosuch' is undefined"},
        {"{{ x.y.z }}", "line 1: 'dict object' has no attribute 'y'"},
        {"\n\n{{ x[1].z }}", "line 3: dict object has no element 1"},
        {"{% if x %}\n{{ 1 | nofilter }}\n{% endif %}",
         "line 2: No filter named 'nofilter' found."},
        {"\n{{ 1 | nofilter }}", "line 2: No filter named 'nofilter'."},
        {"\n{{ 1 is notest }}", "line 2: No test named 'notest'."},
        {"\n{% nosuch %}", "line 2: Encountered unknown tag 'nosuch'."},
        {"x\n{% if x %}\ny",
         "line 3: Unexpected end of template. The innermost block that needs to "
         "be closed is 'if' and 'elif' would close it."},
        {"\n\n{{ 'a' + 1 }}", "line 3: can only concatenate str (not \"int\") to str"},
        {"\n{{ x.nosuch() }}", "line 2: 'dict object' has no attribute 'nosuch'"},
        {"{{ x.update({}) }}", "line 1: access to attribute 'update' of 'dict' object is unsafe."},
        {"{% macro m() %}\n{{ 1 / 0 }}{% endmacro %}\n\n{{ m() }}", "line 2: division by zero"},
        {"{{ x\n.y() }}", "line 2: 'dict object' has no attribute 'y'"},
        {"{{ raise_exception('Only ' ~ 1 ~ ' allowed') }}", "Only 1 allowed"},
        {"\n{% include 'x' %}", "line 2: include is not supported: a chat template stands alone"},
        {"{{ 'abc }}", "line 1: a string does not end"},
        {"{{ strftime_now(1) }}", "line 1: strftime_now needs a string, not 'int'"},
        {"{{ 'x'|truncate(size=1) }}", "line 1: truncate has no argument 'size'"},
        {"{{ 'x'.replace('a') }}", "line 1: replace needs at least 2 arguments"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rendered r = render_text(cases[i].source, "{\"x\": {\"k\": 1}}");
        assert_string_equal(r.err.text, cases[i].expected);
        rendered_free(&r);
    }
}

static void test_failure_appends_nothing_and_context_stays(void **state)
{
    (void)state;
    static const char source[] = "text {{ x }}{{ nosuch.y }}";
    chat_template *t;
    error err = {0};
    buffer out = {0};
    json_t *context = json_pack("{s:[i,i]}", "x", 1, 2), *before = json_deep_copy(context);
    buffer_append(&out, "kept", 4);
    assert_int_equal(chat_template_parse(&t, source, sizeof source - 1, &err), ST_OK);
    assert_int_equal(err.code, ST_OK);
    assert_int_equal(chat_template_render(t, context, RENDER_NOW, &out, &err), ST_INVALID_ARGUMENT);
    assert_int_equal(out.size, 4);
    assert_true(json_equal(context, before));
    assert_int_equal(chat_template_render(t, context, RENDER_NOW, &out, NULL), ST_INVALID_ARGUMENT);
    json_t *array = json_array();
    assert_int_equal(chat_template_render(t, array, RENDER_NOW, &out, &err), ST_INVALID_ARGUMENT);
    json_decref(array);
    json_object_set_new(context, "nosuch", json_object());
    assert_int_equal(chat_template_render(t, context, RENDER_NOW, &out, &err), ST_OK);
    assert_int_equal(out.size, 4 + strlen("text [1, 2]"));
    chat_template_destroy(t);
    chat_template_destroy(NULL);
    buffer_free(&out);
    json_decref(context);
    json_decref(before);
}

enum { THREADS = 4, ROUNDS = 200 };
typedef struct shared_render {
    const chat_template *t;
    const json_t *context;
    int wrong;
} shared_render;

static void *render_many(void *argument)
{
    static const char expected[] = "é1é2é3é[ÀB]4";
    shared_render *mine = argument;
    for (int i = 0; i < ROUNDS; i++) {
        buffer out = {0};
        status st = chat_template_render(mine->t, mine->context, RENDER_NOW, &out, NULL);
        mine->wrong += st != ST_OK || out.size != strlen(expected) ||
                       memcmp(out.data, expected, out.size) != 0;
        buffer_free(&out);
    }
    return NULL;
}

static void test_threads_share_a_template(void **state)
{
    (void)state;
    static const char source[] =
        "{% macro m(x) %}[{{ x|upper }}]{% endmacro %}{% for i in l %}{{ 'é' }}{{ i }}{% endfor %}"
        "{{ 'éabc'[0] }}{{ m('àb') }}{{ 'éabc'|length }}";
    chat_template *t;
    error err;
    assert_int_equal(chat_template_parse(&t, source, sizeof source - 1, &err), ST_OK);
    json_t *context = json_pack("{s:[i,i,i]}", "l", 1, 2, 3);
    pthread_t threads[THREADS];
    shared_render jobs[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (shared_render){t, context, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, render_many, &jobs[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].wrong, 0);
    }
    json_decref(context);
    chat_template_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deep_nesting_of_the_source_is_refused),
        cmocka_unit_test(test_as_much_nesting_as_jinja_takes_is_rendered),
        cmocka_unit_test(test_growth_without_end_is_stopped),
        cmocka_unit_test(test_names_without_end_are_stopped_when_they_are_parsed),
        cmocka_unit_test(test_a_number_that_equals_nothing_is_no_trap),
        cmocka_unit_test(test_sizes_out_of_reason_are_refused),
        cmocka_unit_test(test_source_over_the_limit_is_refused),
        cmocka_unit_test(test_what_is_not_utf8_is_refused),
        cmocka_unit_test(test_errors_name_line_and_reason),
        cmocka_unit_test(test_failure_appends_nothing_and_context_stays),
        cmocka_unit_test(test_threads_share_a_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
