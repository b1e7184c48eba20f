/* Goal: a real trained model gives the numbers that another program computed from the same weights
 * in float32. Method: stories260K, whose prompts, greedy ids and logits after the prompt stand in
 * greedy.jsonl; with every instruction set this machine has. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/mem.h"
#include "tests/unit/worker/cpu/random_model.h"

#define BLOCKS 32u

static char *golden_path(const char *name)
{
    const char *shared = getenv("GAGGLE_SHARED_DATA");
    char path[512];
    snprintf(path, sizeof path, "%s/weights/stories260K/%s", shared == NULL ? "" : shared, name);
    return mem_strdup(path);
}

static model *load_or_skip(const char *name)
{
    char *dir = golden_path(name);
    model *m = NULL;
    error err = {0};
    status st = model_load(&m, dir, LOAD_SAFETENSORS, NULL, NULL, &err);
    mem_free(dir);
    if (st == ST_NOT_FOUND) {
        print_message("skipped: %s\n", err.text);
        skip();
    }
    if (st != ST_OK) fail_msg("%s", err.text);
    return m;
}

static uint32_t argmax(const float *logits, uint32_t count)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static size_t ids_of(const json_t *list, uint32_t *ids)
{
    size_t count = json_array_size(list);
    assert_in_range(count, 1, BLOCKS * LIMIT_KV_BLOCK_TOKENS / 2);
    for (size_t i = 0; i < count; i++)
        ids[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    return count;
}

static void check_line(backend *b, const json_t *line, double *worst)
{
    uint32_t blocks[BLOCKS];
    for (uint32_t i = 0; i < BLOCKS; i++)
        blocks[i] = (i * 7u) % BLOCKS;
    uint32_t prompt[BLOCKS * LIMIT_KV_BLOCK_TOKENS], greedy[BLOCKS * LIMIT_KV_BLOCK_TOKENS];
    size_t prompt_count = ids_of(json_object_get(line, "prompt_ids"), prompt);
    size_t greedy_count = ids_of(json_object_get(line, "greedy_ids"), greedy);
    float logits[512];
    run_tokens_alone(b, prompt, (uint32_t)prompt_count, 0, blocks, BLOCKS, logits);
    const json_t *expected = json_object_get(line, "last_prompt_logits");
    assert_int_equal(json_array_size(expected), 512);
    for (size_t i = 0; i < 512; i++) {
        double difference =
            fabs(json_number_value(json_array_get(expected, i)) - (double)logits[i]);
        if (!(difference <= *worst)) *worst = difference;
    }
    for (size_t i = 0; i < greedy_count; i++) {
        uint32_t id = argmax(logits, 512);
        assert_int_equal(id, greedy[i]);
        run_tokens_alone(b, &id, 1, (uint32_t)(prompt_count + i), blocks, BLOCKS, logits);
    }
}

static void test_stories260k_f32_matches_llama2c(void **state)
{
    (void)state;
    model *m = load_or_skip("hf");
    char *path = golden_path("greedy.jsonl");
    char *text;
    size_t size;
    error err = {0};
    assert_int_equal(file_read(&text, &size, path, 1u << 20, &err), ST_OK);
    mem_free(path);
    size_t kernel_count;
    const cpu_kernels *const *kernels = cpu_kernels_available(&kernel_count);
    size_t lines = 0;
    for (char *rest = NULL, *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest), lines++) {
        json_t *json;
        assert_int_equal(json_parse(&json, line, strlen(line), "greedy.jsonl", &err), ST_OK);
        for (size_t i = 0; i < kernel_count; i++) {
            backend *b = test_backend_create(m, kernels[i], 2, BLOCKS, 128);
            double worst = 0.0;
            check_line(b, json, &worst);
            print_message("line %zu, %s: largest difference of a logit %.2g\n", lines,
                          kernels[i]->name, worst);
            assert_true(worst <= 1e-3);
            backend_destroy(b);
        }
        json_decref(json);
    }
    assert_int_equal(lines, 6);
    mem_free(text);
    model_destroy(m);
}

/* The same checkpoint rounded to BF16 has no golden numbers of its own: its logits must be near
 * those of F32, by the size of BF16's rounding. */
static void test_stories260k_bf16_is_near_f32(void **state)
{
    (void)state;
    const char *names[] = {"hf", "hf-bf16"};
    float logits[2][512];
    uint32_t prompt[] = {1, 403, 407, 261, 378};
    uint32_t blocks[] = {0};
    for (int i = 0; i < 2; i++) {
        model *m = load_or_skip(names[i]);
        size_t count;
        backend *b = test_backend_create(m, cpu_kernels_available(&count)[0], 1, 1, 16);
        run_tokens_alone(b, prompt, 5, 0, blocks, 1, logits[i]);
        backend_destroy(b);
        model_destroy(m);
    }
    assert_int_equal(argmax(logits[0], 512), argmax(logits[1], 512));
    for (int i = 0; i < 512; i++)
        assert_true(fabsf(logits[0][i] - logits[1][i]) < 0.25f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stories260k_f32_matches_llama2c),
        cmocka_unit_test(test_stories260k_bf16_is_near_f32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
