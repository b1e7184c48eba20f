/* Goal: the real tokenizers give, id for id, what their models were trained with.
 *
 * Method: the test vectors that other projects publish for gpt2, smollm, llama2, llama3 and
 * falcon, each against the model's own tokenizer.json; their decoded texts too; and random ids,
 * most of them torn bytes, through the detokenizer on every one of these tokenizers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/limits.h"
#include "common/mem.h"
#include "text_support.h"

static const struct vector_file {
    const char *path; /* below tokenizer-vectors/ */
    const char *model;
    unsigned flags;
    bool cleaned; /* "decoded" went through clean_up() too */
} vector_files[] = {
    {"llama.cpp/falcon.jsonl", "falcon", 0, false},
    {"llama.cpp/gpt-2.jsonl", "gpt2", 0, false},
    {"llama.cpp/llama-bpe.jsonl", "llama3", 0, false},
    {"llama.cpp/llama-spm.jsonl", "llama2", 0, false},
    {"llama.cpp/smollm.jsonl", "smollm", 0, false},
    {"gpt-tokenizer/r50k_base.jsonl", "gpt2", 0, false},
    {"swift-transformers/falcon.jsonl", "falcon", 3, true},
    {"swift-transformers/gpt2.jsonl", "gpt2", 3, true},
    {"swift-transformers/llama2.jsonl", "llama2", 3, false},
    {"swift-transformers/llama3.2.jsonl", "llama3", 3, true},
    {"transformers.js/falcon.jsonl", "falcon", 3, true},
    {"transformers.js/gpt2.jsonl", "gpt2", 3, true},
    {"transformers.js/llama2.jsonl", "llama2", 3, false},
    {"transformers.js/llama3.jsonl", "llama3", TOKENIZE_PARSE_SPECIAL, true},
    {"transformers.js/llama3-new.jsonl", "llama3", 3, true},
};

static const struct paragraph_file {
    const char *path, *model;
} paragraph_files[] = {
    {"swift-transformers/falcon_encoded.json", "falcon"},
    {"swift-transformers/gpt2_encoded_tokens.json", "gpt2"},
    {"swift-transformers/llama_encoded.json", "llama2"},
    {"swift-transformers/llama_3.2_encoded.json", "llama3"},
};

static const char *const models[] = {"gpt2", "smollm", "llama2", "llama3", "falcon", "minimind"};

static char *folder; /* of the unpacked tokenizers; NULL: no shared data */

static int unpack(void **state)
{
    (void)state;
    folder = real_tokenizers();
    return 0;
}

static int forget(void **state)
{
    (void)state;
    mem_free(folder);
    return 0;
}

static char *read_vectors(const char *name, size_t *size)
{
    char path[256];
    error err = {0};
    snprintf(path, sizeof path, "tokenizer-vectors/%s", name);
    char *whole = shared_data(path), *text = NULL;
    assert_non_null(whole);
    if (file_read(&text, size, whole, 4u * LIMIT_MIB, &err) != ST_OK) fail_msg("%s", err.text);
    mem_free(whole);
    return text;
}

/* What Python's transformers does to a decoded text when clean_up_tokenization_spaces is set; not
 * the tokenizer's work, but the published texts went through it. */
static void clean_up(char *text)
{
    static const char *const marks[] = {" .",  " ?",  " !",   " ,",  " n't",
                                        " 'm", " 's", " 've", " 're"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        for (char *at = text; (at = strstr(at, marks[i])) != NULL;)
            memmove(at, at + 1, strlen(at));
}

static void check_decoded(const tokenizer *t, const json_t *row, const token_list *ids,
                          const char *key, bool skip_special, bool cleaned)
{
    const char *expected = json_string_value(json_object_get(row, key));
    if (expected == NULL) return;
    size_t size;
    char *decoded = tokenizer_decode(t, ids->ids, ids->count, skip_special, &size);
    if (cleaned) clean_up(decoded);
    assert_string_equal(decoded, expected);
    mem_free(decoded);
}

static void check_row(const tokenizer *t, const struct vector_file *file, const json_t *row)
{
    const json_t *text = json_object_get(row, "text"), *pair = json_object_get(row, "text_pair");
    token_list got = {0};
    if (json_is_string(pair))
        tokenizer_encode_pair(t, json_string_value(text), json_string_length(text),
                              json_string_value(pair), json_string_length(pair), file->flags, &got);
    else
        tokenizer_encode(t, json_string_value(text), json_string_length(text), file->flags, &got);
    assert_ids(json_string_value(text), &got, json_object_get(row, "ids"));
    check_decoded(t, row, &got, "decoded", false, file->cleaned);
    check_decoded(t, row, &got, "decoded_with_special", false, file->cleaned);
    check_decoded(t, row, &got, "decoded_without_special", true, file->cleaned);
    assert_stream_equals_decode(t, got.ids, got.count, true);
    token_list_free(&got);
}

static void test_published_vectors_hold_id_for_id(void **state)
{
    (void)state;
    if (folder == NULL) skip();
    size_t rows = 0;
    for (size_t i = 0; i < sizeof vector_files / sizeof *vector_files; i++) {
        const struct vector_file *file = &vector_files[i];
        tokenizer *t = real_tokenizer(folder, file->model);
        size_t size;
        char *text = read_vectors(file->path, &size);
        for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
            error err = {0};
            json_t *row;
            if (json_parse(&row, line, strlen(line), file->path, &err) != ST_OK)
                fail_msg("%s", err.text);
            check_row(t, file, row);
            json_decref(row);
            rows++;
        }
        mem_free(text);
        tokenizer_destroy(t);
    }
    assert_true(rows > 450);
}

static void test_published_paragraphs_hold_id_for_id(void **state)
{
    (void)state;
    if (folder == NULL) skip();
    for (size_t i = 0; i < sizeof paragraph_files / sizeof *paragraph_files; i++) {
        struct vector_file as = {paragraph_files[i].path, paragraph_files[i].model, 3, false};
        error err = {0};
        json_t *row;
        size_t size;
        tokenizer *t = real_tokenizer(folder, as.model);
        char *text = read_vectors(as.path, &size);
        if (json_parse(&row, text, size, as.path, &err) != ST_OK) fail_msg("%s", err.text);
        json_object_set(row, "ids", json_object_get(row, "token_ids"));
        json_object_set(row, "decoded", json_object_get(row, "decoded_text"));
        check_row(t, &as, row);
        json_decref(row);
        mem_free(text);
        tokenizer_destroy(t);
    }
}

/* Half of the ids are those of single bytes, so that characters come torn and broken. */
static void test_streaming_equals_decoding_for_random_ids(void **state)
{
    (void)state;
    if (folder == NULL) skip();
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        tokenizer *t = real_tokenizer(folder, models[m]);
        uint64_t seed = 88172645463325252u + m;
        uint32_t vocab = tokenizer_vocab_size(t);
        for (int round = 0; round < 1500; round++) {
            uint32_t ids[40];
            size_t count = next_random(&seed) % 40;
            for (size_t i = 0; i < count; i++)
                ids[i] = next_random(&seed) % (next_random(&seed) % 2 == 0 ? 300 : vocab + 5);
            assert_stream_equals_decode(t, ids, count, round % 2 == 0);
        }
        tokenizer_destroy(t);
    }
}

/* Text that goes in comes out again: no model here changes it but for llama2's first space. */
static void test_decoding_gives_the_text_back(void **state)
{
    (void)state;
    static const char text[] = "Hello  w\xC3\xB6rld\n\n\t 12345 \xE6\xBC\xA2\xE5\xAD\x97 "
                               "\xF0\x9F\xA6\x86! it's  ";
    if (folder == NULL) skip();
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        tokenizer *t = real_tokenizer(folder, models[m]);
        token_list ids = {0};
        size_t size;
        tokenizer_encode(t, text, sizeof text - 1, TOKENIZE_ADD_SPECIAL, &ids);
        char *back = tokenizer_decode(t, ids.ids, ids.count, true, &size);
        assert_string_equal(back, text);
        mem_free(back);
        token_list_free(&ids);
        tokenizer_destroy(t);
    }
}

/* -- the folder around tokenizer.json -------------------------------------------------- */

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[4200];
    snprintf(path, sizeof path, "%.4096s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static const char with_bos_and_eos[] =
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"<s>\":0,\"</s>\":1,\"a\":2},\"merges\":[]}}";

static const struct {
    const char *config;
    uint32_t ids[3];
    size_t count;
} configs[] = {
    {"{\"tokenizer_class\":\"LlamaTokenizer\"}", {0, 2}, 2},
    {"{\"tokenizer_class\":\"LlamaTokenizerFast\",\"add_eos_token\":true,"
     "\"eos_token\":{\"content\":\"</s>\"}}",
     {0, 2, 1},
     3},
    {"{\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":false}", {2}, 1},
    {"{\"tokenizer_class\":\"GemmaTokenizer\",\"bos_token\":\"</s>\"}", {1, 2}, 2},
    {"{\"tokenizer_class\":\"GPTNeoXTokenizer\"}", {2}, 1},
    {"{\"tokenizer_class\":\"GPTNeoXTokenizerFast\",\"add_bos_token\":true,"
     "\"bos_token\":\"<s>\"}",
     {0, 2},
     2},
    {"{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"add_bos_token\":true}", {2}, 1},
    {"{\"add_bos_token\":true,\"model_max_length\":1000000000000000019884624838656}", {2}, 1},
};

static void test_config_flags_count_for_the_classes_that_read_them(void **state)
{
    (void)state;
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/config", getenv("GAGGLE_TEST_TMP"));
    mkdir(dir, 0755);
    write_file(dir, "tokenizer.json", with_bos_and_eos);
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        error err = {0};
        tokenizer *t = NULL;
        token_list ids = {0};
        write_file(dir, "tokenizer_config.json", configs[i].config);
        if (tokenizer_load(&t, dir, &err) != ST_OK) fail_msg("%s", err.text);
        tokenizer_encode(t, "a", 1, TOKENIZE_ADD_SPECIAL, &ids);
        assert_int_equal(ids.count, configs[i].count);
        assert_memory_equal(ids.ids, configs[i].ids, ids.count * sizeof *ids.ids);
        token_list_free(&ids);
        tokenizer_destroy(t);
    }
}

static void test_config_naming_an_unknown_bos_is_refused(void **state)
{
    (void)state;
    char dir[4096];
    error err = {0};
    tokenizer *t = NULL;
    snprintf(dir, sizeof dir, "%s/config", getenv("GAGGLE_TEST_TMP"));
    mkdir(dir, 0755);
    write_file(dir, "tokenizer.json", with_bos_and_eos);
    write_file(dir, "tokenizer_config.json",
               "{\"tokenizer_class\":\"LlamaTokenizer\",\"bos_token\":\"<b>\"}");
    assert_int_equal(tokenizer_load(&t, dir, &err), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "bos_token"));
    assert_non_null(strstr(err.text, "<b>"));
}

static void test_folder_without_tokenizer_json_is_refused_by_what_it_has(void **state)
{
    (void)state;
    char dir[4096];
    error err = {0};
    tokenizer *t = NULL;
    snprintf(dir, sizeof dir, "%s/ranks", getenv("GAGGLE_TEST_TMP"));
    mkdir(dir, 0755);
    assert_int_equal(tokenizer_load(&t, dir, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.text, "tokenizer.json"));
    write_file(dir, "tokenizer.model", "not base64 at all");
    assert_int_equal(tokenizer_load(&t, dir, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.text, "tokenizer.model"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_vectors_hold_id_for_id),
        cmocka_unit_test(test_published_paragraphs_hold_id_for_id),
        cmocka_unit_test(test_streaming_equals_decoding_for_random_ids),
        cmocka_unit_test(test_decoding_gives_the_text_back),
        cmocka_unit_test(test_config_flags_count_for_the_classes_that_read_them),
        cmocka_unit_test(test_config_naming_an_unknown_bos_is_refused),
        cmocka_unit_test(test_folder_without_tokenizer_json_is_refused_by_what_it_has),
    };
    return cmocka_run_group_tests(tests, unpack, forget);
}
