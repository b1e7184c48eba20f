/* Goal: every family computes what transformers computes, from config.json to logits.
 *
 * Method: tests/golden/families.jsonl has a tiny model of each on a line: its config.json, its
 * tensors by name, and log-probabilities that transformers computed in float32 after some positions
 * (make_families.py there wrote it). The folder is made anew from that line, with weights by the
 * same formula, and loaded and run like any other. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/check.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/unit/worker/cpu/random_model.h"

#define TOKENS_MAX 64u
#define BLOCKS     (TOKENS_MAX / LIMIT_KV_BLOCK_TOKENS)
#define TOLERANCE  1e-4

/* -- a line becomes a folder --------------------------------------------------------------- */

/* In [-1, 1): splitmix64 of FNV-1a of the name, plus index. */
static float made_value(uint64_t name_hash, uint64_t index)
{
    uint64_t x = name_hash + (index + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (float)((double)(x >> 40) / 8388608.0 - 1.0);
}

static uint64_t hash_name(const char *name)
{
    uint64_t hash = 14695981039346656037u;
    for (; *name != '\0'; name++)
        hash = (hash ^ (uint8_t)*name) * 1099511628211u;
    return hash;
}

static uint64_t element_count(const json_t *dims)
{
    uint64_t count = 1;
    for (size_t d = 0; d < json_array_size(dims); d++)
        count *= (uint64_t)json_integer_value(json_array_get(dims, d));
    return count;
}

/* [name, dims, mean, deviation, the name its values are made of] */
static void write_tensor(FILE *file, const json_t *t)
{
    uint64_t hash = hash_name(json_string_value(json_array_get(t, 4)));
    float mean = (float)json_number_value(json_array_get(t, 2));
    float deviation = (float)json_number_value(json_array_get(t, 3));
    for (uint64_t i = 0; i < element_count(json_array_get(t, 1)); i++) {
        float value = mean + deviation * made_value(hash, i);
        CHECK(fwrite(&value, sizeof value, 1, file) == 1);
    }
}

static FILE *open_file(const char *dir, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "we");
    CHECK(file != NULL);
    return file;
}

static void write_folder(const json_t *line, const char *dir)
{
    FILE *file = open_file(dir, "config.json");
    json_dumpf(json_object_get(line, "config"), file, 0);
    CHECK(fclose(file) == 0);

    const json_t *tensors = json_object_get(line, "tensors");
    json_t *header = json_object();
    uint64_t offset = 0;
    size_t i;
    json_t *t;
    json_array_foreach(tensors, i, t)
    {
        uint64_t end = offset + element_count(json_array_get(t, 1)) * sizeof(float);
        json_object_set_new(header, json_string_value(json_array_get(t, 0)),
                            json_pack("{s:s, s:O, s:[I, I]}", "dtype", "F32", "shape",
                                      json_array_get(t, 1), "data_offsets", (json_int_t)offset,
                                      (json_int_t)end));
        offset = end;
    }
    char *text = json_dumps(header, 0);
    uint64_t size = strlen(text);
    uint64_t padded = (size + 7) / 8 * 8;
    file = open_file(dir, "model.safetensors");
    CHECK(fwrite(&padded, sizeof padded, 1, file) == 1);
    fprintf(file, "%s%*s", text, (int)(padded - size), "");
    json_array_foreach(tensors, i, t) write_tensor(file, t);
    CHECK(fclose(file) == 0);
    free(text);
    json_decref(header);
}

/* -- and is run ----------------------------------------------------------------------------- */

static double log_sum_exp(const float *logits, uint32_t count)
{
    double maximum = -INFINITY, sum = 0.0;
    for (uint32_t i = 0; i < count; i++)
        maximum = fmax(maximum, (double)logits[i]);
    for (uint32_t i = 0; i < count; i++)
        sum += exp((double)logits[i] - maximum);
    return maximum + log(sum);
}

/* {"position", "ids", "logprobs"} against the logits after that position. */
static double largest_difference(const json_t *expected, const float *logits, uint32_t vocab)
{
    const json_t *ids = json_object_get(expected, "ids");
    const json_t *logprobs = json_object_get(expected, "logprobs");
    double total = log_sum_exp(logits, vocab), worst = 0.0;
    assert_int_equal(json_array_size(ids), 5);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        json_int_t id = json_integer_value(json_array_get(ids, i));
        assert_in_range(id, 0, vocab - 1);
        double off =
            fabs((double)logits[id] - total - json_number_value(json_array_get(logprobs, i)));
        if (!(off <= worst)) worst = off;
    }
    return worst;
}

static void check_line(const json_t *line)
{
    const char *dir = getenv("GAGGLE_TEST_TMP");
    const char *name = json_string_value(json_object_get(line, "name"));
    const json_t *limit = json_object_get(line, "context");
    const json_t *list = json_object_get(line, "ids");
    uint32_t ids[TOKENS_MAX], blocks[BLOCKS] = {2, 0, 3, 1};
    size_t count = json_array_size(list), kernel_count, i;
    assert_in_range(count, 1, TOKENS_MAX);
    for (i = 0; i < count; i++)
        ids[i] = (uint32_t)json_integer_value(json_array_get(list, i));

    model *m = NULL;
    error err = {0};
    write_folder(line, dir);
    if (model_load(&m, dir, LOAD_SAFETENSORS, NULL, NULL, &err) != ST_OK)
        fail_msg("%s: %s", name, err.text);
    if (limit != NULL) model_limit_context(m, (uint32_t)json_integer_value(limit));
    backend *b = test_backend_create(m, cpu_kernels_available(&kernel_count)[0], 2, BLOCKS, 32);
    float *logits = mem_calloc(m->config.vocab_size, sizeof *logits);
    uint32_t done = 0;
    double worst = 0.0;
    json_t *expected;
    json_array_foreach(json_object_get(line, "expected"), i, expected)
    {
        uint32_t end = (uint32_t)json_integer_value(json_object_get(expected, "position")) + 1;
        assert_in_range(end, done + 1, count);
        run_tokens_alone(b, ids + done, end - done, done, blocks, BLOCKS, logits);
        done = end;
        double off = largest_difference(expected, logits, m->config.vocab_size);
        if (!(off <= worst)) worst = off;
    }
    print_message("%s: largest difference %.2g\n", name, worst);
    if (!(worst <= TOLERANCE)) fail_msg("%s: a log-probability is %g off", name, worst);
    mem_free(logits);
    backend_destroy(b);
    model_destroy(m);
}

static void test_every_family_computes_what_transformers_does(void **state)
{
    (void)state;
    char path[512];
    char *text;
    size_t size, lines = 0;
    error err = {0};
    snprintf(path, sizeof path, "%s/tests/golden/families.jsonl", getenv("GAGGLE_SOURCE_DIR"));
    if (file_read(&text, &size, path, 1u << 20, &err) != ST_OK) fail_msg("%s", err.text);
    for (char *rest = NULL, *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest), lines++) {
        json_t *json;
        assert_int_equal(json_parse(&json, line, strlen(line), "families.jsonl", &err), ST_OK);
        check_line(json);
        json_decref(json);
    }
    assert_in_range(lines, 10, 1000);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_family_computes_what_transformers_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
