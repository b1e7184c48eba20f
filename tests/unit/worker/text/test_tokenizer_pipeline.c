/* Goal: every component of a tokenizer.json does what it does in the reference library.
 *
 * Method: pipeline_cases.json holds one small vocabulary and, for each component and option, a
 * tokenizer around it, a text, and what the reference library (tokenizers 0.22) makes of them. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/mem.h"
#include "text_support.h"

static json_t *file;

static int load_cases(void **state)
{
    (void)state;
    error err = {0};
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/unit/worker/text/pipeline_cases.json",
             getenv("GAGGLE_SOURCE_DIR"));
    return json_load_path(&file, path, 1u << 20, &err) == ST_OK ? 0 : 1;
}

static int free_cases(void **state)
{
    (void)state;
    json_decref(file);
    return 0;
}

/* `pairs`: write merges as ["a", "b"] instead of "a b". */
static tokenizer *build(const json_t *entry, bool pairs)
{
    json_t *model = json_object();
    json_t *merges = json_array();
    size_t i;
    json_t *rule;
    json_array_foreach(json_object_get(file, "merges"), i, rule)
    {
        const char *text = json_string_value(rule), *space = strchr(text, ' ');
        json_array_append_new(merges,
                              pairs ? json_pack("[s%, s]", text, (size_t)(space - text), space + 1)
                                    : json_string(text));
    }
    json_object_set(model, "vocab", json_object_get(file, "vocab"));
    json_object_set_new(model, "merges", merges);
    json_object_set_new(model, "type", json_string("BPE"));
    if (json_object_get(entry, "model") != NULL)
        json_object_update(model, json_object_get(entry, "model"));
    json_t *whole = json_pack("{s:s, s:O, s:o}", "version", "1.0", "added_tokens",
                              json_object_get(file, "added_tokens"), "model", model);
    json_object_update(whole, json_object_get(entry, "parts"));
    char *text = json_dumps(whole, pairs ? JSON_ENSURE_ASCII | JSON_INDENT(2) : JSON_COMPACT);
    json_decref(whole);
    tokenizer *t = small_tokenizer(text);
    free(text);
    return t;
}

static void check_case(const json_t *entry, bool pairs)
{
    const char *what = json_string_value(json_object_get(entry, "what"));
    const json_t *text = json_object_get(entry, "text"), *pair = json_object_get(entry, "pair");
    unsigned flags = (unsigned)json_integer_value(json_object_get(entry, "flags"));
    tokenizer *t = build(entry, pairs);
    token_list got = {0};
    if (pair == NULL)
        tokenizer_encode(t, json_string_value(text), json_string_length(text), flags, &got);
    else
        tokenizer_encode_pair(t, json_string_value(text), json_string_length(text),
                              json_string_value(pair), json_string_length(pair), flags, &got);
    assert_ids(what, &got, json_object_get(entry, "ids"));

    size_t size;
    char *decoded = tokenizer_decode(t, got.ids, got.count, false, &size);
    if (strcmp(decoded, json_string_value(json_object_get(entry, "decoded"))) != 0)
        fail_msg("%s: decoded to \"%s\"", what, decoded);
    mem_free(decoded);
    assert_stream_equals_decode(t, got.ids, got.count, false);
    assert_stream_equals_decode(t, got.ids, got.count, true);
    token_list_free(&got);
    tokenizer_destroy(t);
}

static void test_every_component_agrees_with_the_reference(void **state)
{
    (void)state;
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(file, "cases"), i, entry) check_case(entry, false);
    assert_true(i > 60);
}

static void test_merges_as_pairs_and_escaped_json_mean_the_same(void **state)
{
    (void)state;
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(file, "cases"), i, entry) check_case(entry, true);
}

static void test_invalid_utf8_becomes_replacement_characters(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *repaired;
    } cases[] = {
        {"a\xFF"
         "b",
         "a\xEF\xBF\xBD"
         "b"},
        {"\xE6\xBC", "\xEF\xBF\xBD"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xF0\x9F\x99\xC3\xA9", "\xEF\xBF\xBD\xC3\xA9"},
        {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD"},
    };
    tokenizer *t = small_tokenizer(
        "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\",\"vocab\":{\"?\":0,\"a\":1,\"b\":2,"
        "\"\\u00e9\":3,\"\\ufffd\":4},\"merges\":[]}}");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        token_list got = {0}, expected = {0};
        tokenizer_encode(t, cases[i].bytes, strlen(cases[i].bytes), 0, &got);
        tokenizer_encode(t, cases[i].repaired, strlen(cases[i].repaired), 0, &expected);
        assert_int_equal(got.count, expected.count);
        assert_memory_equal(got.ids, expected.ids, got.count * sizeof *got.ids);
        token_list_free(&got);
        token_list_free(&expected);
    }
    tokenizer_destroy(t);
}

static void test_find_and_spelling_are_inverse(void **state)
{
    (void)state;
    tokenizer *t = build(json_array_get(json_object_get(file, "cases"), 0), false);
    size_t size;
    assert_int_equal(tokenizer_vocab_size(t), 57);
    for (uint32_t id = 0; id < tokenizer_vocab_size(t); id++) {
        const char *spelling = tokenizer_spelling(t, id, &size);
        assert_non_null(spelling);
        assert_int_equal(tokenizer_find(t, spelling, size), id);
        assert_int_equal(tokenizer_is_special(t, id), id >= 55);
    }
    assert_null(tokenizer_spelling(t, 57, &size));
    assert_int_equal(tokenizer_find(t, "nothing", 7), TOKEN_NONE);
    assert_false(tokenizer_is_special(t, TOKEN_NONE));
    tokenizer_destroy(t);
}

#define THREADS 4

typedef struct thread_job {
    const tokenizer *tokenizer;
    const char *text;
    token_list ids;
    char *decoded;
} thread_job;

static void *encode_and_decode(void *argument)
{
    thread_job *job = argument;
    size_t size;
    for (int round = 0; round < 50; round++) {
        mem_free(job->decoded);
        job->ids.count = 0;
        tokenizer_encode(job->tokenizer, job->text, strlen(job->text), 3, &job->ids);
        job->decoded = tokenizer_decode(job->tokenizer, job->ids.ids, job->ids.count, true, &size);
    }
    return NULL;
}

/* The rows with a regular expression, the byte fallback and the added tokens; the thread sanitizer
 * watches for what they might share. */
static void test_threads_encode_at_once(void **state)
{
    (void)state;
    static const size_t rows[] = {0, 4, 24};
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        tokenizer *t = build(json_array_get(json_object_get(file, "cases"), rows[row]), false);
        thread_job jobs[THREADS] = {0};
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++) {
            jobs[i] = (thread_job){.tokenizer = t, .text = "ab the  <s>ab's \xE6\xBC\xA2 12 abc!"};
            assert_int_equal(pthread_create(&threads[i], NULL, encode_and_decode, &jobs[i]), 0);
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(jobs[i].ids.count, jobs[0].ids.count);
            assert_memory_equal(jobs[i].ids.ids, jobs[0].ids.ids,
                                jobs[0].ids.count * sizeof *jobs[0].ids.ids);
            assert_string_equal(jobs[i].decoded, jobs[0].decoded);
        }
        for (int i = 0; i < THREADS; i++) {
            token_list_free(&jobs[i].ids);
            mem_free(jobs[i].decoded);
        }
        tokenizer_destroy(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_component_agrees_with_the_reference),
        cmocka_unit_test(test_merges_as_pairs_and_escaped_json_mean_the_same),
        cmocka_unit_test(test_invalid_utf8_becomes_replacement_characters),
        cmocka_unit_test(test_find_and_spelling_are_inverse),
        cmocka_unit_test(test_threads_encode_at_once),
    };
    return cmocka_run_group_tests(tests, load_cases, free_cases);
}
