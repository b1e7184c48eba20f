/* The command line against a real cluster: what `gaggle complete`, `ps` and `tokenize` print, and
 * that a model whose greedy answers are known from another engine gives the same ids through router
 * and client as the engine gives alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/check.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/e2e/cluster.h"

static json_t *parse(const char *text)
{
    json_t *value;
    error err = {0};
    if (json_parse(&value, text, strlen(text), "output", &err) != ST_OK)
        fail_msg("%s: %s", err.text, text);
    return value;
}

/* Run a program to its end; its output and exit status. */
static char *run(const char *program, const char *const *args, int *exit_status)
{
    process p;
    process_start(&p, program, args, false);
    return process_output(&p, exit_status);
}

static void assert_ids_equal(const json_t *expected, const json_t *found, const char *prompt)
{
    assert_true(json_array_size(expected) > 0);
    if (!json_equal(expected, found)) fail_msg("ids differ for '%s'", prompt);
}

/* "1,403,407" */
static char *id_list(const json_t *ids)
{
    buffer out = {0};
    for (size_t i = 0; i < json_array_size(ids); i++) {
        char number[24];
        int size = snprintf(number, sizeof number, "%s%lld", i > 0 ? "," : "",
                            (long long)json_integer_value(json_array_get(ids, i)));
        buffer_append(&out, number, (size_t)size);
    }
    buffer_append(&out, "", 1);
    return (char *)out.data;
}

static void test_known_greedy_answers_arrive_through_the_cluster(void **state)
{
    (void)state;
    const char *golden = shared_data("weights/stories260K/greedy.jsonl");
    if (golden == NULL) skip();
    FILE *lines = fopen(golden, "r");
    assert_non_null(lines);
    cluster c;
    cluster_start(&c,
                  &(cluster_options){.workers = 1, .model = shared_data("weights/stories260K/hf")});
    char *line = NULL;
    size_t capacity = 0;
    int count = 0;
    while (getline(&line, &capacity, lines) > 0) {
        json_t *want = parse(line);
        char *prompt = id_list(json_object_get(want, "prompt_ids"));
        char length[16];
        snprintf(length, sizeof length, "%zu",
                 json_array_size(json_object_get(want, "greedy_ids")));
        int code;
        char *output = run("gaggle",
                           (const char *[]){"complete", "--router", c.client_url, "--json", "--ids",
                                            prompt, "--max-tokens", length, "--temperature", "0",
                                            "--ignore-eos", NULL},
                           &code);
        assert_int_equal(code, 0);
        json_t *found = parse(output);
        assert_ids_equal(json_object_get(want, "greedy_ids"), json_object_get(found, "ids"),
                         prompt);
        count++;
        json_decref(want);
        json_decref(found);
        mem_free(prompt);
        mem_free(output);
    }
    assert_int_equal(count, 6);
    free(line);
    fclose(lines);
    cluster_stop(&c);
}

static void test_complete_prints_text_logprobs_usage_and_timings(void **state)
{
    (void)state;
    cluster c;
    cluster_start(&c, &(cluster_options){.workers = 1, .model = bundled_model()});
    int code;
    char *output = run("gaggle",
                       (const char *[]){"complete", "--router", c.client_url, "--json",
                                        "--logprobs", "2", "--max-tokens", "8", "--ignore-eos",
                                        "--seed", "7", "Once upon a time", NULL},
                       &code);
    assert_int_equal(code, 0);
    json_t *o = parse(output);
    assert_int_equal(json_array_size(json_object_get(o, "ids")), 8);
    assert_int_equal(json_array_size(json_object_get(o, "logprobs")), 8);
    assert_int_equal(json_array_size(json_array_get(json_object_get(o, "top_logprobs"), 0)), 2);
    assert_string_equal(json_string_value(json_object_get(o, "finish_reason")), "length");
    assert_true(json_string_length(json_object_get(o, "text")) > 0);
    json_t *usage = json_object_get(o, "usage");
    assert_int_equal(json_integer_value(json_object_get(usage, "completion_tokens")), 8);
    assert_true(json_number_value(json_object_get(json_object_get(o, "timings"), "total_ms")) > 0);
    json_decref(o);
    mem_free(output);

    output = run("gaggle", (const char *[]){"ps", "--router", c.client_url, "--json", NULL}, &code);
    assert_int_equal(code, 0);
    o = parse(output);
    json_t *worker = json_array_get(json_object_get(o, "workers"), 0);
    assert_string_equal(json_string_value(json_object_get(worker, "worker_id")), "w0");
    assert_int_equal(json_integer_value(json_object_get(o, "tokens_total")), 8);
    json_decref(o);
    mem_free(output);
    cluster_stop(&c);
}

static void test_up_answers_a_first_prompt_and_stops(void **state)
{
    (void)state;
    char port[8];
    snprintf(port, sizeof port, "%u", free_port());
    int code;
    char *output = run("gaggle",
                       (const char *[]){"up", "-m", bundled_model(), "--port", port, "--oneshot",
                                        "--prompt", "What is the capital of France?", NULL},
                       &code);
    assert_int_equal(code, 0);
    assert_non_null(strstr(output, "Paris"));
    mem_free(output);
}

static void test_misspelt_option_names_the_nearest(void **state)
{
    (void)state;
    int code;
    char *output = run("gaggle-router", (const char *[]){"--lisen", "x", NULL}, &code);
    assert_int_equal(code, 2);
    mem_free(output);
    output = run("gaggle-worker", (const char *[]){"--version", NULL}, &code);
    assert_int_equal(code, 0);
    assert_non_null(strstr(output, "gaggle"));
    mem_free(output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_greedy_answers_arrive_through_the_cluster),
        cmocka_unit_test(test_complete_prints_text_logprobs_usage_and_timings),
        cmocka_unit_test(test_up_answers_a_first_prompt_and_stops),
        cmocka_unit_test(test_misspelt_option_names_the_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
