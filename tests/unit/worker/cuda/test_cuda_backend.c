/* Goal: the CUDA backend is a backend: its logits are the CPU backend's as far as F16 and BF16 go,
 * steps may follow each other before they are collected, and in batch-invariant mode a sequence's
 * bits depend on nothing but itself.
 *
 * Method: the whole backend, kernels and all, on the CPU emulation of CUDA (tests/cuda_emulation),
 * once as sm_75's F16 code and once as sm_80's BF16; small random models. tests/gpu runs the same
 * on a real device. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/mem.h"
#include "tests/unit/worker/cpu/random_model.h"
#include "worker/cuda/cuda_backend.h"

#define SEQUENCES   5u
#define LENGTH_MAX  150u
#define BLOCKS_MAX  ((LENGTH_MAX + LIMIT_KV_BLOCK_TOKENS - 1) / LIMIT_KV_BLOCK_TOKENS)
#define KV_BLOCKS   (SEQUENCES * BLOCKS_MAX + 7)
#define STEP_TOKENS 64u

static const model_shape shapes[] = {
    {.name = "grouped queries",
     .hidden = 64,
     .intermediate = 96,
     .layers = 2,
     .heads = 4,
     .kv_heads = 2,
     .head_dim = 16,
     .vocab = 101,
     .type = DTYPE_BF16},
    {.name = "biases, tied, odd sizes",
     .hidden = 40,
     .intermediate = 52,
     .layers = 2,
     .heads = 6,
     .kv_heads = 1,
     .head_dim = 12,
     .vocab = 77,
     .type = DTYPE_F16,
     .qkv_bias = true,
     .output_bias = true,
     .mlp_bias = true,
     .tied = true},
    {.name = "one head each",
     .hidden = 128,
     .intermediate = 128,
     .layers = 1,
     .heads = 2,
     .kv_heads = 2,
     .head_dim = 64,
     .vocab = 300,
     .type = DTYPE_F32},
};

static backend *cuda_create(const model *m, backend_options options)
{
    backend *b;
    error err = {0};
    char plan[CUDA_PLAN_TEXT];
    options.kv_bytes = 1; /* replaced below: blocks are what tests think in */
    options.step_tokens = STEP_TOKENS;
    options.step_sequences = SEQUENCES;
    const model_config *c = &m->config;
    uint64_t stride = c->head_dim <= 64 ? 64 : 128;
    options.kv_bytes =
        (uint64_t)KV_BLOCKS * 2 * c->layer_count * c->kv_head_count * 16 * stride * 2;
    options.context_max = LENGTH_MAX + 10;
    if (gaggle_cuda_door.create(&b, m, &options, NULL, NULL, plan, &err) != ST_OK)
        fail_msg("%s", err.text);
    return b;
}

/* How far two rows of logits are apart: mean square difference over variance. */
static double distance(const float *a, const float *b, uint32_t count)
{
    double mean = 0, noise = 0, signal = 0;
    for (uint32_t i = 0; i < count; i++)
        mean += a[i] / (double)count;
    for (uint32_t i = 0; i < count; i++) {
        noise += (a[i] - b[i]) * (double)(a[i] - b[i]);
        signal += (a[i] - mean) * (a[i] - mean);
    }
    return noise / signal;
}

typedef struct sequences {
    uint32_t ids[SEQUENCES][LENGTH_MAX];
    uint32_t blocks[SEQUENCES][BLOCKS_MAX]; /* scattered */
    uint32_t length[SEQUENCES];
} sequences;

static void make_sequences(sequences *s, uint32_t vocab, uint64_t seed)
{
    static const uint32_t lengths[SEQUENCES] = {LENGTH_MAX, 70, 33, 16, 1};
    test_random r = {seed};
    uint32_t order[KV_BLOCKS];
    for (uint32_t i = 0; i < KV_BLOCKS; i++)
        order[i] = i;
    for (uint32_t i = KV_BLOCKS - 1; i > 0; i--) {
        uint32_t j = random_below(&r, i + 1), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    for (uint32_t q = 0; q < SEQUENCES; q++) {
        s->length[q] = lengths[q];
        for (uint32_t i = 0; i < LENGTH_MAX; i++)
            s->ids[q][i] = random_below(&r, vocab);
        memcpy(s->blocks[q], order + q * BLOCKS_MAX, sizeof s->blocks[q]);
    }
}

static step_sequence entry(const sequences *s, uint32_t q, uint32_t begin, uint32_t position,
                           uint32_t count, float *logits)
{
    return (step_sequence){.token_begin = begin,
                           .token_count = count,
                           .position = position,
                           .blocks = s->blocks[q],
                           .block_count = BLOCKS_MAX,
                           .key = q,
                           .slot = q,
                           .logits_out = logits};
}

/* A whole sequence in chunks of at most `chunk`, alone; logits after its last token. */
static void run_alone(backend *b, const sequences *s, uint32_t q, uint32_t chunk, float *logits)
{
    error err = {0};
    for (uint32_t done = 0; done < s->length[q];) {
        uint32_t count = s->length[q] - done < chunk ? s->length[q] - done : chunk;
        bool last = done + count == s->length[q];
        step_sequence one = entry(s, q, 0, done, count, last ? logits : NULL);
        step_plan plan = {s->ids[q] + done, count, &one, 1};
        if (backend_step(b, &plan, NULL, &err) != ST_OK) fail_msg("%s", err.text);
        done += count;
    }
}

static void test_logits_are_the_cpu_backends(void **state)
{
    (void)state;
    size_t kernel_count;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        model *m = random_model_create(&shapes[i], 3);
        backend *gpu = cuda_create(m, (backend_options){0});
        backend *cpu =
            test_backend_create(m, cpu_kernels_available(&kernel_count)[0], 1, KV_BLOCKS, 64);
        sequences s;
        make_sequences(&s, m->config.vocab_size, i);
        float *expected = mem_calloc(m->config.vocab_size, sizeof(float));
        float *found = mem_calloc(m->config.vocab_size, sizeof(float));
        for (uint32_t q = 0; q < SEQUENCES; q++) {
            run_alone(cpu, &s, q, 64, expected);
            run_alone(gpu, &s, q, q % 2 ? 7 : 64, found);
            double d = distance(expected, found, m->config.vocab_size);
            if (!(d < 1e-4)) fail_msg("%s, length %u: NMSE %g", shapes[i].name, s.length[q], d);
        }
        mem_free(expected);
        mem_free(found);
        backend_destroy(gpu);
        backend_destroy(cpu);
        random_model_destroy(m);
    }
}

static void test_invariant_bits_depend_on_the_sequence_alone(void **state)
{
    (void)state;
    model *m = random_model_create(&shapes[0], 5);
    uint32_t vocab = m->config.vocab_size;
    backend *b = cuda_create(m, (backend_options){.batch_invariant = true});
    sequences s;
    make_sequences(&s, vocab, 9);
    float *whole = mem_calloc(SEQUENCES * vocab, sizeof(float));
    float *found = mem_calloc(SEQUENCES * vocab, sizeof(float));
    for (uint32_t q = 0; q < SEQUENCES; q++)
        run_alone(b, &s, q, STEP_TOKENS, whole + q * vocab);
    static const uint32_t chunks[] = {1, 16, 29};
    for (size_t c = 0; c < 3; c++)
        for (uint32_t q = 0; q < SEQUENCES; q++) {
            run_alone(b, &s, q, chunks[c], found);
            assert_memory_equal(found, whole + q * vocab, vocab * sizeof(float));
        }
    /* All last tokens in one step, as decoding has it, among others. */
    step_sequence all[SEQUENCES];
    uint32_t tokens[SEQUENCES];
    for (uint32_t q = 0; q < SEQUENCES; q++) {
        tokens[q] = s.ids[q][s.length[q] - 1];
        all[q] = entry(&s, q, q, s.length[q] - 1, 1, found + q * vocab);
    }
    step_plan plan = {tokens, SEQUENCES, all, SEQUENCES};
    error err;
    assert_int_equal(backend_step(b, &plan, NULL, &err), ST_OK);
    assert_memory_equal(found, whole, SEQUENCES * vocab * sizeof(float));
    mem_free(whole);
    mem_free(found);
    backend_destroy(b);
    random_model_destroy(m);
}

/* Answers of `count` tokens for all sequences together, after their prompts; each step is submitted
 * before the one before it is collected when `ahead`. */
static void generate(backend *b, const sequences *prompts, bool ahead, uint32_t count,
                     const sampling_params *params, uint32_t out[SEQUENCES][16])
{
    error err = {0};
    sequences s = *prompts;
    sampled_token sampled[SEQUENCES];
    uint32_t known[SEQUENCES];
    for (uint32_t q = 0; q < SEQUENCES; q++) {
        known[q] = s.length[q] = s.length[q] > LENGTH_MAX - 16 ? LENGTH_MAX - 16 : s.length[q];
        sequences prompt = s;
        prompt.length[q]--;
        if (prompt.length[q] > 0) run_alone(b, &prompt, q, STEP_TOKENS, NULL);
    }
    uint32_t submitted = 0;
    for (uint32_t collected = 0; collected < count; collected++) {
        for (; submitted < count && submitted <= collected + ahead; submitted++) {
            step_sequence all[SEQUENCES];
            uint32_t tokens[SEQUENCES];
            for (uint32_t q = 0; q < SEQUENCES; q++) {
                uint32_t at = s.length[q] + submitted - 1;
                bool pending = at >= known[q];
                if (pending) s.ids[q][at] = STEP_TOKEN_PENDING;
                tokens[q] = s.ids[q][at];
                all[q] = entry(&s, q, q, at, 1, NULL);
                all[q].wants_sample = true;
                all[q].sampling = &params[q];
                all[q].context = (sampling_context){
                    .ids = s.ids[q], .prompt_count = s.length[q], .id_count = at + 1};
            }
            step_plan plan = {tokens, SEQUENCES, all, SEQUENCES};
            if (backend_submit(b, &plan, &err) != ST_OK) fail_msg("%s", err.text);
        }
        if (backend_collect(b, sampled, &err) != ST_OK) fail_msg("%s", err.text);
        for (uint32_t q = 0; q < SEQUENCES; q++) {
            s.ids[q][known[q]++] = sampled[q].id;
            out[q][collected] = sampled[q].id;
        }
    }
}

static void test_running_ahead_and_graphs_change_nothing(void **state)
{
    (void)state;
    enum { COUNT = 12 };
    model *m = random_model_create(&shapes[0], 6);
    sequences s;
    make_sequences(&s, m->config.vocab_size, 10);
    sampling_params params[SEQUENCES];
    for (uint32_t q = 0; q < SEQUENCES; q++) {
        params[q] = sampling_params_default();
        params[q].seed = q;
        params[q].temperature = q % 2 ? 0.9f : 0.0f;
        params[q].repetition_penalty = q > 1 ? 1.3f : 1.0f;
        params[q].frequency_penalty = q > 2 ? 0.5f : 0.0f;
    }
    uint32_t expected[SEQUENCES][16], found[SEQUENCES][16];
    for (int variant = 0; variant < 4; variant++) {
        backend *b =
            cuda_create(m, (backend_options){.batch_invariant = true, .eager = variant % 2 == 0});
        generate(b, &s, variant >= 2, COUNT, params, variant == 0 ? expected : found);
        backend_destroy(b);
        if (variant == 0) continue;
        for (uint32_t q = 0; q < SEQUENCES; q++)
            assert_memory_equal(found[q], expected[q], COUNT * sizeof found[q][0]);
    }
    random_model_destroy(m);
}

static void test_every_failing_call_is_a_named_error(void **state)
{
    (void)state;
    model *m = random_model_create(&shapes[2], 7);
    sequences s;
    make_sequences(&s, m->config.vocab_size, 11);
    uint32_t failures = 0;
    for (uint64_t call = 1;; call++) {
        backend *b = NULL;
        error err = {0};
        char plan_text[CUDA_PLAN_TEXT];
        backend_options options = {.step_tokens = 8,
                                   .step_sequences = 2,
                                   .context_max = 64,
                                   .kv_bytes = 1u << 20,
                                   .fail_device_call = call};
        status st = gaggle_cuda_door.create(&b, m, &options, NULL, NULL, plan_text, &err);
        if (st == ST_OK) {
            step_sequence one = entry(&s, 0, 0, 0, 8, NULL);
            step_plan plan = {s.ids[0], 8, &one, 1};
            st = backend_step(b, &plan, NULL, &err);
        }
        backend_destroy(b);
        if (st == ST_OK) break;
        assert_true(err.text[0] != '\0' && st != ST_CANCELLED);
        failures++;
        assert_true(call < 2000);
    }
    assert_true(failures > 30);
    random_model_destroy(m);
}

static void test_a_model_that_does_not_fit_is_refused_with_sums(void **state)
{
    (void)state;
    model *m = random_model_create(&shapes[0], 8);
    backend *b;
    error err;
    char plan[CUDA_PLAN_TEXT];
    backend_options options = {
        .step_tokens = 8192, .step_sequences = 1024, .memory_utilization = 0.001};
    assert_int_equal(gaggle_cuda_door.create(&b, m, &options, NULL, NULL, plan, &err),
                     ST_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(err.text, "--gpu-memory-utilization"));
    assert_null(b);
    options = (backend_options){
        .step_tokens = 64, .step_sequences = 4, .plan_only = true, .context_max = 64};
    assert_int_equal(gaggle_cuda_door.create(&b, m, &options, NULL, NULL, plan, &err), ST_OK);
    assert_null(b);
    assert_non_null(strstr(plan, "KV cache"));
    random_model_destroy(m);
}

/* -- numbers that do not fit --------------------------------------------------------------------
 */

static bool computes_in_f16(const backend *b)
{
    return strstr(b->device, ", F16") != NULL;
}

static void set_bf16(const weight *w, uint32_t index, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    ((uint16_t *)w->data)[index] = (uint16_t)(bits >> 16);
}

/* What making a backend for `m` wrote to stderr; valid until the next call. */
static const char *create_logged(backend **b, const model *m)
{
    static char text[4096];
    FILE *log = tmpfile();
    assert_non_null(log);
    int before = dup(STDERR_FILENO);
    dup2(fileno(log), STDERR_FILENO);
    *b = cuda_create(m, (backend_options){0});
    dup2(before, STDERR_FILENO);
    close(before);
    rewind(log);
    text[fread(text, 1, sizeof text - 1, log)] = '\0';
    fclose(log);
    return text;
}

/* Two tokens, the second planned while the first is under way. */
static status sample_two(backend *b, error *err)
{
    sequences s;
    make_sequences(&s, 50, 12);
    sampling_params params = sampling_params_default();
    status st = ST_OK;
    for (uint32_t step = 0; step < 2 && st == ST_OK; step++) {
        step_sequence one = entry(&s, 0, 0, step == 0 ? 0 : 9 + step, step == 0 ? 10 : 1, NULL);
        one.wants_sample = true;
        one.sampling = &params;
        one.context =
            (sampling_context){.ids = s.ids[0], .prompt_count = 10, .id_count = 10 + step};
        uint32_t pending = STEP_TOKEN_PENDING;
        step_plan plan = {step == 0 ? s.ids[0] : &pending, one.token_count, &one, 1};
        st = backend_submit(b, &plan, err);
    }
    sampled_token sampled;
    for (uint32_t step = 0; step < 2 && st == ST_OK; step++)
        st = backend_collect(b, &sampled, err);
    return st;
}

static void expect_broken_logits(backend *b)
{
    error err = {0};
    assert_int_equal(sample_two(b, &err), ST_INTERNAL);
    if (strstr(err.text, "not finite numbers") == NULL) fail_msg("%s", err.text);
}

/* A BF16 checkpoint on a GPU without BF16: what F16 cannot hold is counted and said, and makes no
 * answer. */
static void test_weights_beyond_f16_are_reported_and_give_no_token(void **state)
{
    (void)state;
    model *m = random_model_create(&shapes[0], 20);
    backend *b;
    const char *log = create_logged(&b, m);
    if (strstr(log, "F16") != NULL) fail_msg("nothing to report, but: %s", log);
    backend_destroy(b);

    set_bf16(&m->layers[1].down, 5, 65504.0f); /* in BF16 the next below: fits */
    set_bf16(&m->layers[1].down, 6, 66048.0f);
    set_bf16(&m->layers[1].down, 70, -1e30f);
    set_bf16(&m->layers[0].q, 1, 1e-20f);
    log = create_logged(&b, m);
    error err = {0};
    if (computes_in_f16(b)) {
        if (strstr(log, "weights beyond F16's range became infinite") == NULL ||
            strstr(log, "count=2\n") == NULL)
            fail_msg("no overflow of 2 in: %s", log);
        if (strstr(log, "too small for F16 became zero count=1") == NULL)
            fail_msg("no underflow of 1 in: %s", log);
        expect_broken_logits(b);
    } else {
        if (strstr(log, "F16") != NULL) fail_msg("BF16 holds all of them, but: %s", log);
        if (sample_two(b, &err) != ST_OK) fail_msg("%s", err.text);
    }
    backend_destroy(b);
    random_model_destroy(m);
}

/* Weights that fit, and values that do not: an error, too, and no token. */
static void test_values_beyond_f16_give_an_error_and_no_token(void **state)
{
    (void)state;
    model *m = random_model_create(&shapes[0], 22);
    for (uint32_t i = 0; i < m->layers[0].v.rows * m->layers[0].v.cols; i++)
        set_bf16(&m->layers[0].v, i, i % 3 == 0 ? 60000.0f : -50000.0f);
    backend *b;
    const char *log = create_logged(&b, m);
    if (strstr(log, "F16's range") != NULL) fail_msg("%s", log);
    error err = {0};
    if (computes_in_f16(b))
        expect_broken_logits(b);
    else if (sample_two(b, &err) != ST_OK)
        fail_msg("%s", err.text);
    backend_destroy(b);
    random_model_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_are_the_cpu_backends),
        cmocka_unit_test(test_invariant_bits_depend_on_the_sequence_alone),
        cmocka_unit_test(test_running_ahead_and_graphs_change_nothing),
        cmocka_unit_test(test_every_failing_call_is_a_named_error),
        cmocka_unit_test(test_a_model_that_does_not_fit_is_refused_with_sums),
        cmocka_unit_test(test_weights_beyond_f16_are_reported_and_give_no_token),
        cmocka_unit_test(test_values_beyond_f16_give_an_error_and_no_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
