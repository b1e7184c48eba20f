/* Goal: a line of JSON becomes exactly the Submit it says, or a sentence that names what is wrong.
 * Method: a line with every field; one wrong line for each rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "worker/prompt_line.h"

static void test_every_field_arrives(void **state)
{
    (void)state;
    static const char line[] =
        "{\"prompt\": \"Once\", \"raw\": true, \"temperature\": 0.5, \"top_k\": 20, \"top_p\": "
        "0.75,"
        " \"min_p\": 0.25, \"repetition_penalty\": 1.5, \"presence_penalty\": -1, "
        "\"frequency_penalty\": 0.5, \"seed\": 123456789012345, \"bias_ids\": [3, 4], "
        "\"bias\": [1.5, -2], \"stop\": [\"a\", \"bc\"], \"stop_ids\": [7], \"max_tokens\": 12, "
        "\"min_tokens\": 2, \"ignore_eos\": true, \"logprobs\": 5, \"priority\": -3, "
        "\"prior_ids\": [9, 10, 11]}";
    arena a = {0};
    msg_submit s;
    error err;
    if (prompt_line_parse(&s, line, sizeof line - 1, &a, &err) != ST_OK) fail_msg("%s", err.text);
    assert_true(s.has_text && s.raw && s.ignore_eos);
    assert_true(text_equal(s.text, text_of("Once")));
    const msg_sampling *p = &s.sampling;
    assert_true(p->has_temperature && p->has_top_k && p->has_top_p && p->has_min_p);
    assert_true(p->has_repetition_penalty && p->has_presence_penalty && p->has_frequency_penalty);
    assert_true(p->has_seed);
    assert_true(p->temperature == 0.5f && p->top_p == 0.75f && p->min_p == 0.25f);
    assert_true(p->repetition_penalty == 1.5f && p->presence_penalty == -1.0f);
    assert_true(p->frequency_penalty == 0.5f && p->seed == 123456789012345u);
    assert_int_equal(p->top_k, 20);
    assert_int_equal(p->bias_count, 2);
    assert_int_equal(p->bias_ids[1], 4);
    assert_true(p->bias[0] == 1.5f && p->bias[1] == -2.0f);
    assert_int_equal(s.stop_count, 2);
    assert_true(text_equal(s.stop[1], text_of("bc")));
    assert_int_equal(s.stop_id_count, 1);
    assert_int_equal(s.stop_ids[0], 7);
    assert_int_equal(s.max_tokens, 12);
    assert_int_equal(s.min_tokens, 2);
    assert_int_equal(s.logprobs, 5);
    assert_int_equal(s.priority, -3);
    assert_int_equal(s.prior_count, 3);
    assert_int_equal(s.prior_ids[2], 11);
    arena_free(&a);
}

static void test_what_is_absent_is_absent(void **state)
{
    (void)state;
    arena a = {0};
    msg_submit s;
    error err;
    const char *line = "{\"ids\": [1, 2]}";
    assert_int_equal(prompt_line_parse(&s, line, strlen(line), &a, &err), ST_OK);
    assert_false(s.has_text || s.raw || s.ignore_eos);
    assert_false(s.sampling.has_temperature || s.sampling.has_seed || s.sampling.has_top_k);
    assert_int_equal(s.logprobs, LOGPROBS_NONE);
    assert_int_equal(s.max_tokens, 0);
    assert_int_equal(s.id_count, 2);
    line = "{\"messages\": [{\"role\": \"user\", \"content\": \"h\\u00e9\\u0000!\"}], \"stop\": "
           "\"x\"}";
    assert_int_equal(prompt_line_parse(&s, line, strlen(line), &a, &err), ST_OK);
    assert_int_equal(s.message_count, 1);
    assert_int_equal(s.messages[0].content.size, 5);
    assert_memory_equal(s.messages[0].content.data, "h\xC3\xA9\0!", 5);
    assert_int_equal(s.stop_count, 1);
    arena_free(&a);
}

static void test_wrong_lines_are_refused_with_a_sentence(void **state)
{
    (void)state;
    static const struct {
        const char *line, *text;
    } cases[] = {
        {"[1]", "a request must be an object; it is an array"},
        {"{}", "exactly one of prompt, ids and messages is needed; there are 0"},
        {"{\"prompt\": \"a\", \"ids\": [1]}",
         "exactly one of prompt, ids and messages is needed; there are 2"},
        {"{\"prompt\": 3}", "prompt must be a string; it is an integer"},
        {"{\"ids\": [1, -1]}", "ids is -1; it must be between 0 and 4294967295"},
        {"{\"ids\": [1.5]}", "ids must be an integer; it is a number with a fraction"},
        {"{\"ids\": {}}", "ids must be an array of integers; it is an object"},
        {"{\"prompt\": \"a\", \"temprature\": 1}",
         "unknown field 'temprature'; did you mean 'temperature'?"},
        {"{\"prompt\": \"a\", \"temperature\": \"1\"}",
         "temperature must be a number; it is a string"},
        {"{\"prompt\": \"a\", \"temperature\": 1e300}",
         "temperature is 1e+300, which is out of any range"},
        {"{\"prompt\": \"a\", \"ignore_eos\": 1}",
         "ignore_eos must be true or false; it is an integer"},
        {"{\"prompt\": \"a\", \"max_tokens\": 0}", "max_tokens is 0; it must be at least 1"},
        {"{\"prompt\": \"a\", \"bias\": [1]}",
         "bias has 1 entries and bias_ids 0; they must have equally many"},
        {"{\"messages\": []}", "messages must be an array of at least 1 message; it is an array"},
        {"{\"messages\": [{\"role\": \"user\"}]}",
         "messages[0] must have a role and a content, and nothing else"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": null}]}",
         "messages[0]: content must be a string; it is null"},
        {"{\"prompt\": \"a\", \"priority\": 3000000000}",
         "priority is 3000000000; it must fit 32 bits"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        arena a = {0};
        msg_submit s;
        error err = {0};
        assert_int_equal(prompt_line_parse(&s, cases[i].line, strlen(cases[i].line), &a, &err),
                         ST_INVALID_ARGUMENT);
        assert_string_equal(err.text, cases[i].text);
        arena_free(&a);
    }
    arena a = {0};
    msg_submit s;
    error err = {0};
    assert_int_equal(prompt_line_parse(&s, "{\"prompt\":", 10, &a, &err), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "not valid JSON"));
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_field_arrives),
        cmocka_unit_test(test_what_is_absent_is_absent),
        cmocka_unit_test(test_wrong_lines_are_refused_with_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
