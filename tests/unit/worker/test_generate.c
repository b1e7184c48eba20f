/* Goal: the whole worker without a router gives the ids, texts and logits of a real model, however
 * the batch is cut.
 * Method: stories260K through `generate`, against ids and logits computed by llama2.c's run.c. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/mem.h"
#include "worker/generate.h"

enum { PROMPTS_MAX = 16, ARGUMENTS_MAX = 24 };

static char model_dir[1024], golden_path[1024], prompts_path[1024], output_path[1024];

static bool find_data(void)
{
    const char *data = getenv("GAGGLE_SHARED_DATA"), *tmp = getenv("GAGGLE_TEST_TMP");
    if (data == NULL || tmp == NULL) return false;
    snprintf(model_dir, sizeof model_dir, "%s/weights/stories260K/hf", data);
    snprintf(golden_path, sizeof golden_path, "%s/weights/stories260K/greedy.jsonl", data);
    snprintf(prompts_path, sizeof prompts_path, "%s/prompts.jsonl", tmp);
    snprintf(output_path, sizeof output_path, "%s/output.jsonl", tmp);
    return access(golden_path, R_OK) == 0;
}

#define NEED_DATA()                                                                                \
    do {                                                                                           \
        if (!find_data()) {                                                                        \
            puts("skipped: no weights/stories260K in GAGGLE_SHARED_DATA");                         \
            return;                                                                                \
        }                                                                                          \
    } while (0)

/* Lines of a JSON-lines file. */
static uint32_t read_lines(const char *path, json_t **lines)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *line = NULL;
    size_t capacity = 0;
    uint32_t count = 0;
    for (ssize_t size; (size = getline(&line, &capacity, file)) > 0;) {
        error err;
        assert_true(count < PROMPTS_MAX);
        if (json_parse(&lines[count++], line, (size_t)size, path, &err) != ST_OK)
            fail_msg("%s", err.text);
    }
    free(line);
    fclose(file);
    return count;
}

static void release(json_t **lines, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        json_decref(lines[i]);
}

static void write_prompts(const char *const *lines, uint32_t count)
{
    FILE *file = fopen(prompts_path, "w");
    assert_non_null(file);
    for (uint32_t i = 0; i < count; i++)
        fprintf(file, "%s\n", lines[i]);
    assert_int_equal(fclose(file), 0);
}

/* Run `generate` with more arguments (NULL-terminated); its stdout is read back. */
static int generate(json_t **lines, uint32_t *count, const char *const *more)
{
    char *argv[ARGUMENTS_MAX] = {"generate",          "-m", model_dir, "--prompts", prompts_path,
                                 "--kv-cache-memory", "16M"};
    int argc = 7;
    for (; *more != NULL; more++)
        argv[argc++] = (char *)*more;
    fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    int file = open(output_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(saved >= 0 && file >= 0);
    dup2(file, STDOUT_FILENO);
    int code = worker_generate(argc, argv);
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(file);
    *count = read_lines(output_path, lines);
    return code;
}

static void compare_with_golden(const char *const *more, bool with_logits)
{
    json_t *golden[PROMPTS_MAX], *lines[PROMPTS_MAX];
    uint32_t golden_count = read_lines(golden_path, golden), count;
    FILE *file = fopen(prompts_path, "w");
    for (uint32_t i = 0; i < golden_count; i++) {
        json_t *line =
            json_pack("{s:O, s:i, s:f, s:b}", "prompt", json_object_get(golden[i], "prompt"),
                      "max_tokens", 64, "temperature", 0.0, "ignore_eos", 1);
        json_dumpf(line, file, JSON_COMPACT);
        fputc('\n', file);
        json_decref(line);
    }
    fclose(file);
    assert_int_equal(generate(lines, &count, more), 0);
    assert_int_equal(count, golden_count);
    for (uint32_t i = 0; i < count; i++) {
        if (!json_equal(json_object_get(lines[i], "ids"), json_object_get(golden[i], "greedy_ids")))
            fail_msg("prompt %u: %s", i, json_string_value(json_object_get(lines[i], "text")));
        assert_string_equal(json_string_value(json_object_get(lines[i], "text")),
                            json_string_value(json_object_get(golden[i], "greedy_text")));
        assert_string_equal(json_string_value(json_object_get(lines[i], "finish")), "length");
        assert_int_equal(json_integer_value(json_object_get(lines[i], "prompt_tokens")),
                         json_array_size(json_object_get(golden[i], "prompt_ids")));
        if (!with_logits) continue;
        const json_t *logits = json_object_get(lines[i], "logits");
        const json_t *expected = json_object_get(golden[i], "last_prompt_logits");
        assert_int_equal(json_array_size(logits), json_array_size(expected));
        for (size_t k = 0; k < json_array_size(logits); k++) {
            double difference = json_number_value(json_array_get(logits, k)) -
                                json_number_value(json_array_get(expected, k));
            assert_true(fabs(difference) < 1e-3);
        }
    }
    release(golden, golden_count);
    release(lines, count);
}

static void test_greedy_answers_equal_the_reference(void **state)
{
    (void)state;
    NEED_DATA();
    compare_with_golden((const char *const[]){"--logits", NULL}, true);
}

static void test_batching_changes_nothing(void **state)
{
    (void)state;
    NEED_DATA();
    compare_with_golden((const char *const[]){"--max-num-seqs", "1", "--threads", "1", NULL},
                        false);
    compare_with_golden((const char *const[]){"--max-num-seqs", "4", "--max-num-batched-tokens",
                                              "5", "--no-prefix-cache", NULL},
                        false);
}

/* Sampled answers too are a function of the request alone: prompts that share beginnings, in chunks
 * of 7 tokens, in a KV memory that forces preemption, against one at a time. */
static void test_seeded_answers_do_not_depend_on_the_batch(void **state)
{
    (void)state;
    NEED_DATA();
    static const char *const prompts[] = {
        "Once upon a time, there was a little girl named Lily. She loved to", "The big dog was",
        "Once upon a time, there was a little girl named Lily. One day", "Tom and his mom"};
    FILE *file = fopen(prompts_path, "w");
    for (int i = 0; i < PROMPTS_MAX; i++)
        fprintf(file,
                "{\"prompt\": \"%s\", \"seed\": %d, \"temperature\": 1, \"top_p\": 0.95, "
                "\"max_tokens\": 150, \"logprobs\": 1}\n",
                prompts[i % 4], i);
    fclose(file);
    json_t *alone[PROMPTS_MAX], *batch[PROMPTS_MAX];
    uint32_t count;
    assert_int_equal(
        generate(alone, &count,
                 (const char *const[]){"--max-num-seqs", "1", "--no-prefix-cache", NULL}),
        0);
    assert_int_equal(count, PROMPTS_MAX);
    assert_int_equal(
        generate(batch, &count,
                 (const char *const[]){"--max-num-seqs", "6", "--max-num-batched-tokens", "7",
                                       "--kv-cache-memory", "640K", NULL}),
        0);
    assert_int_equal(count, PROMPTS_MAX);
    for (int i = 0; i < PROMPTS_MAX; i++)
        for (const char *const *field =
                 (const char *const[]){"ids", "text", "finish", "logprobs", NULL};
             *field != NULL; field++)
            if (!json_equal(json_object_get(alone[i], *field), json_object_get(batch[i], *field)))
                fail_msg("line %d: %s differs", i, *field);
    release(alone, PROMPTS_MAX);
    release(batch, PROMPTS_MAX);
}

/* A seeded answer, broken off and continued, is the same answer. */
static void test_a_seeded_answer_can_be_continued(void **state)
{
    (void)state;
    NEED_DATA();
    json_t *whole[1] = {0}, *rest[1] = {0};
    uint32_t count;
    write_prompts((const char *const[]){"{\"prompt\": \"Once upon a time\", \"seed\": 7, "
                                        "\"temperature\": 1, \"max_tokens\": 60}"},
                  1);
    assert_int_equal(generate(whole, &count, (const char *const[]){NULL}), 0);
    const json_t *ids = json_object_get(whole[0], "ids");
    const char *text = json_string_value(json_object_get(whole[0], "text"));
    for (size_t cut = 1; cut < json_array_size(ids); cut += 11) {
        json_t *prior = json_array();
        for (size_t i = 0; i < cut; i++)
            json_array_append(prior, json_array_get(ids, i));
        json_t *line = json_pack("{s:s, s:i, s:f, s:i, s:o}", "prompt", "Once upon a time", "seed",
                                 7, "temperature", 1.0, "max_tokens", 60, "prior_ids", prior);
        char *packed = json_dumps(line, 0);
        write_prompts((const char *const[]){packed}, 1);
        assert_int_equal(generate(rest, &count, (const char *const[]){NULL}), 0);
        const json_t *rest_ids = json_object_get(rest[0], "ids");
        assert_int_equal(json_array_size(rest_ids) + cut, json_array_size(ids));
        for (size_t i = 0; i < json_array_size(rest_ids); i++)
            assert_true(json_equal(json_array_get(rest_ids, i), json_array_get(ids, cut + i)));
        const char *rest_text = json_string_value(json_object_get(rest[0], "text"));
        assert_true(strlen(rest_text) <= strlen(text));
        assert_string_equal(rest_text, text + strlen(text) - strlen(rest_text));
        free(packed);
        json_decref(line);
        release(rest, 1);
    }
    release(whole, 1);
}

static void test_bad_lines_are_answered_in_their_place(void **state)
{
    (void)state;
    NEED_DATA();
    json_t *lines[PROMPTS_MAX] = {0};
    uint32_t count;
    write_prompts(
        (const char *const[]){"{\"prompt\": \"a\", \"max_tokens\": 3, \"logprobs\": 0}",
                              "{\"prompt\": \"a\", \"max_tokens\": 9999}", "", "no json",
                              "{\"ids\": [1, 403], \"max_tokens\": 2, \"stop\": \"zzz\"}"},
        5);
    assert_int_equal(generate(lines, &count, (const char *const[]){NULL}), 1);
    assert_int_equal(count, 4); /* the empty line is none */
    assert_int_equal(json_array_size(json_object_get(lines[0], "logprobs")), 3);
    const json_t *refusal = json_object_get(lines[1], "error");
    assert_string_equal(json_string_value(json_object_get(refusal, "code")), "INVALID_ARGUMENT");
    assert_non_null(
        strstr(json_string_value(json_object_get(refusal, "text")), "max_tokens is 9999"));
    assert_non_null(json_object_get(lines[2], "error"));
    assert_int_equal(json_array_size(json_object_get(lines[3], "ids")), 2);
    release(lines, count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_answers_equal_the_reference),
        cmocka_unit_test(test_batching_changes_nothing),
        cmocka_unit_test(test_seeded_answers_do_not_depend_on_the_batch),
        cmocka_unit_test(test_a_seeded_answer_can_be_continued),
        cmocka_unit_test(test_bad_lines_are_answered_in_their_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
