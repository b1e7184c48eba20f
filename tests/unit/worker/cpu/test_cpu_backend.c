/* Goal: the backend's door: capacity and refusals at creation, samples in plan order, a broken
 * model reported. Method: a small random model. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/mem.h"
#include "tests/sanitized.h"
#include "tests/unit/worker/cpu/random_model.h"

static const model_shape small = {.name = "small",
                                  .hidden = 64,
                                  .intermediate = 96,
                                  .layers = 2,
                                  .heads = 4,
                                  .kv_heads = 2,
                                  .head_dim = 16,
                                  .vocab = 200,
                                  .type = DTYPE_F32,
                                  .tied = true};

/* Bytes of one KV block of `small`: layers, heads, 16 tokens, key and value of 16 floats. */
#define SMALL_BLOCK_BYTES (2u * 2u * 16u * (16u + 16u) * 4u)

static status create(backend **out, const model *m, backend_options options, error *err)
{
    *out = NULL;
    return cpu_backend_create(out, m, &options, err);
}

static void test_capacity_follows_the_options(void **state)
{
    (void)state;
    model *m = random_model_create(&small, 1);
    error err = {0};
    backend *b;
    assert_int_equal(create(&b, m,
                            (backend_options){.threads = 2,
                                              .kv_bytes = 5u * SMALL_BLOCK_BYTES + 17u,
                                              .step_tokens = 40,
                                              .step_sequences = 3},
                            &err),
                     ST_OK);
    assert_int_equal(b->capacity.kv_blocks, 5);
    assert_int_equal(b->capacity.kv_block_bytes, SMALL_BLOCK_BYTES);
    assert_int_equal(b->capacity.step_tokens, 40);
    assert_int_equal(b->capacity.step_sequences, 3);
    assert_non_null(strstr(b->device, "cpu: "));
    assert_non_null(strstr(b->device, "2 threads"));
    backend_destroy(b);

    /* Defaults: sixteen whole contexts when memory allows, which it does for so small a model. */
    assert_int_equal(create(&b, m, (backend_options){0}, &err), ST_OK);
    assert_int_equal(b->capacity.kv_blocks, 16u * m->config.context_max / 16u);
    assert_int_equal(b->capacity.step_tokens, STEP_TOKENS_DEFAULT);
    assert_int_equal(b->capacity.step_sequences, STEP_SEQUENCES_DEFAULT);
    backend_destroy(b);
    random_model_destroy(m);
}

static void test_refusals_name_the_limit_and_the_value(void **state)
{
    (void)state;
    model *m = random_model_create(&small, 1);
    backend *b;
    struct {
        backend_options options;
        status st;
        const char *says;
    } cases[] = {
        {{.kv_bytes = SMALL_BLOCK_BYTES - 1}, ST_RESOURCE_EXHAUSTED, "8191"},
        {{.kv_bytes = UINT64_MAX}, ST_RESOURCE_EXHAUSTED, "17592186044415 MiB"},
        {{.kv_bytes = 1ull << 50}, ST_RESOURCE_EXHAUSTED, "1073741824 MiB"},
        {{.threads = 5000}, ST_INVALID_ARGUMENT, "threads is 5000"},
        {{.step_tokens = LIMIT_STEP_TOKENS + 1}, ST_INVALID_ARGUMENT, "8193"},
        {{.step_sequences = LIMIT_STEP_SEQUENCES + 1}, ST_INVALID_ARGUMENT, "1025"},
        {{.vocab_used = 201}, ST_INVALID_ARGUMENT, "201"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        error err = {0};
        assert_int_equal(create(&b, m, cases[i].options, &err), cases[i].st);
        assert_null(b);
        if (strstr(err.text, cases[i].says) == NULL) fail_msg("case %zu: %s", i, err.text);
    }
    random_model_destroy(m);
}

#define ROWS 40u

/* More rows than fit one group of logits; every third is a chunk that wants neither. */
static void test_samples_come_in_plan_order(void **state)
{
    (void)state;
    model *m = random_model_create(&small, 2);
    backend *b = test_backend_create(m, cpu_kernels_available(&(size_t){0})[0], 3, ROWS, ROWS);
    ((cpu_backend *)b)->logits_rows = 7;
    uint32_t ids[ROWS], blocks[ROWS];
    step_sequence sequences[ROWS];
    sampling_params greedy = sampling_params_default();
    greedy.temperature = 0.0f;
    float *logits = mem_calloc(ROWS * 200, sizeof *logits);
    for (uint32_t i = 0; i < ROWS; i++) {
        ids[i] = (i * 37u) % 200u;
        blocks[i] = i;
        sequences[i] = (step_sequence){
            .token_begin = i,
            .token_count = 1,
            .blocks = &blocks[i],
            .block_count = 1,
            .wants_sample = i % 3 != 0,
            .sampling = &greedy,
            .context = {.ids = &ids[i], .prompt_count = 1, .id_count = 1},
            .logits_out = i % 6 == 0 || i % 3 == 1 ? logits + (size_t)i * 200 : NULL,
        };
    }
    step_plan plan = {
        .tokens = ids, .token_count = ROWS, .sequences = sequences, .sequence_count = ROWS};
    sampled_token sampled[ROWS];
    memset(sampled, 0xff, sizeof sampled);
    error err = {0};
    assert_int_equal(backend_step(b, &plan, sampled, &err), ST_OK);
    uint32_t next = 0;
    float alone[200];
    for (uint32_t i = 0; i < ROWS; i++) {
        run_tokens_alone(b, &ids[i], 1, 0, &blocks[i], 1, alone);
        if (sequences[i].logits_out != NULL)
            assert_memory_equal(alone, sequences[i].logits_out, sizeof alone);
        if (!sequences[i].wants_sample) continue;
        uint32_t best = 0;
        for (uint32_t v = 1; v < 200; v++)
            if (alone[v] > alone[best]) best = v;
        assert_int_equal(sampled[next++].id, best);
    }
    assert_int_equal(sampled[next].id, UINT32_MAX); /* no more than were asked for */
    mem_free(logits);
    backend_destroy(b);
    random_model_destroy(m);
}

static void test_padding_rows_of_the_head_are_never_drawn(void **state)
{
    (void)state;
    model *m = random_model_create(&small, 1);
    backend *b;
    error err = {0};
    assert_int_equal(
        create(&b, m, (backend_options){.kv_bytes = SMALL_BLOCK_BYTES, .vocab_used = 3}, &err),
        ST_OK);
    sampling_params params = sampling_params_default();
    uint32_t id = 9, block = 0;
    for (uint32_t i = 0; i < 16; i++) {
        step_sequence seq = {.token_count = 1,
                             .position = i,
                             .blocks = &block,
                             .block_count = 1,
                             .wants_sample = true,
                             .sampling = &params,
                             .context = {.ids = &id, .prompt_count = 1, .id_count = 1}};
        step_plan plan = {.tokens = &id, .token_count = 1, .sequences = &seq, .sequence_count = 1};
        params.seed = i;
        sampled_token token = {.id = UINT32_MAX};
        assert_int_equal(backend_step(b, &plan, &token, &err), ST_OK);
        assert_in_range(token.id, 0, 2);
    }
    backend_destroy(b);
    random_model_destroy(m);
}

static void test_broken_numbers_are_an_internal_error(void **state)
{
    (void)state;
    model *m = random_model_create(&small, 1);
    ((float *)m->layers[1].down.data)[5] = NAN;
    backend *b = test_backend_create(m, cpu_kernels_available(&(size_t){0})[0], 2, 1, 16);
    sampling_params params = sampling_params_default();
    uint32_t id = 1, block = 0;
    step_sequence seq = {.token_count = 1,
                         .blocks = &block,
                         .block_count = 1,
                         .wants_sample = true,
                         .sampling = &params,
                         .context = {.ids = &id, .prompt_count = 1, .id_count = 1}};
    step_plan plan = {.tokens = &id, .token_count = 1, .sequences = &seq, .sequence_count = 1};
    sampled_token token;
    error err = {0};
    assert_int_equal(backend_step(b, &plan, &token, &err), ST_INTERNAL);
    assert_non_null(strstr(err.text, "sequence 0"));
    backend_destroy(b);
    random_model_destroy(m);
}

/* Resident bytes of this process. */
static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long pages = 0;
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*u %lu", &pages), 1);
    fclose(file);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Scratch depends on a model's widths: an 8B model's (but the hidden size, for the test's time) and
 * a large vocabulary, in one layer. A full step, sampled in the way that needs the most, must stay
 * within the promised 64 MiB beyond weights and KV, of which the rest of a process needs some. */
static void test_scratch_stays_within_64_mib(void **state)
{
    (void)state;
    if (SANITIZED) {
        print_message("skipped: a sanitizer's own memory would be counted\n");
        skip();
    }
    enum { VOCAB = 152064, BLOCKS = 16 };
    static const model_shape wide = {.name = "wide",
                                     .hidden = 512,
                                     .intermediate = 14336,
                                     .layers = 1,
                                     .heads = 32,
                                     .kv_heads = 8,
                                     .head_dim = 128,
                                     .vocab = VOCAB,
                                     .type = DTYPE_BF16,
                                     .tied = true};
    model *m = random_model_create(&wide, 2);
    uint64_t before = resident_bytes();
    backend *b = test_backend_create(m, cpu_kernels_available(&(size_t){0})[0], 8, BLOCKS, 0);
    uint32_t count = b->capacity.step_tokens;
    assert_in_range(count, 16, BLOCKS * LIMIT_KV_BLOCK_TOKENS);
    uint32_t *ids = mem_calloc(count, sizeof *ids);
    uint32_t blocks[BLOCKS];
    for (uint32_t i = 0; i < BLOCKS; i++)
        blocks[i] = i;
    sampling_params params = sampling_params_default();
    params.top_p = 0.999f;
    step_sequence seq = {.token_count = count,
                         .blocks = blocks,
                         .block_count = BLOCKS,
                         .wants_sample = true,
                         .sampling = &params,
                         .context = {.ids = ids, .prompt_count = count, .id_count = count}};
    step_plan plan = {.tokens = ids, .token_count = count, .sequences = &seq, .sequence_count = 1};
    sampled_token token;
    error err = {0};
    assert_int_equal(backend_step(b, &plan, &token, &err), ST_OK);
    uint64_t kv = b->capacity.kv_blocks * b->capacity.kv_block_bytes;
    uint64_t grown = resident_bytes() - before;
    print_message("%llu KiB beyond weights and KV\n", (unsigned long long)(grown - kv) / 1024);
    assert_true(grown - kv < 60u * LIMIT_MIB);
    mem_free(ids);
    backend_destroy(b);
    random_model_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_capacity_follows_the_options),
        cmocka_unit_test(test_refusals_name_the_limit_and_the_value),
        cmocka_unit_test(test_samples_come_in_plan_order),
        cmocka_unit_test(test_padding_rows_of_the_head_are_never_drawn),
        cmocka_unit_test(test_broken_numbers_are_an_internal_error),
        cmocka_unit_test(test_scratch_stays_within_64_mib),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
