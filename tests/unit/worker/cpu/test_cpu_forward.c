/* Goal: the forward pass is the model's formula, for every dtype, option and odd size.
 * Method: small random models against the same formula in double precision (reference_forward.c),
 * logits after every token of a prompt that is run in uneven chunks, so that whole and partial
 * blocks, first and later chunks all occur. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/mem.h"
#include "tests/unit/worker/cpu/random_model.h"
#include "tests/unit/worker/cpu/reference_forward.h"

/* name, hidden, intermediate, layers, heads, kv heads, head dim, vocab, dtype, biases q/o/mlp,
 * tied, rope */
static const model_shape shapes[] = {
    {"f32", 64, 172, 2, 8, 4, 8, 101, DTYPE_F32, false, false, false, true, ROPE_SCALING_NONE},
    {"f16", 64, 176, 2, 4, 4, 16, 130, DTYPE_F16, true, false, false, false, ROPE_SCALING_NONE},
    {"bf16", 96, 100, 2, 6, 2, 16, 64, DTYPE_BF16, true, false, false, true, ROPE_SCALING_NONE},
    {"head of 2", 18, 34, 2, 3, 1, 2, 33, DTYPE_F32, true, true, true, false, ROPE_SCALING_NONE},
    {"head of 24", 48, 50, 2, 5, 5, 24, 40, DTYPE_BF16, false, true, false, true,
     ROPE_SCALING_LINEAR},
    {"head of 64", 70, 61, 2, 7, 1, 64, 50, DTYPE_F16, true, false, true, true,
     ROPE_SCALING_LLAMA3},
    {"head of 80", 80, 90, 1, 4, 2, 80, 50, DTYPE_F32, false, false, true, false,
     ROPE_SCALING_NONE},
    {"head of 128", 128, 65, 2, 2, 2, 128, 31, DTYPE_BF16, false, true, true, true,
     ROPE_SCALING_LLAMA3},
    {"narrow", 2, 1, 1, 1, 1, 2, 3, DTYPE_F32, true, true, true, true, ROPE_SCALING_NONE},
    {"many heads to one", 32, 40, 1, 70, 1, 4, 20, DTYPE_BF16, true, false, false, true,
     ROPE_SCALING_NONE},
};

#define TOKENS 75u
#define BLOCKS 5u

static double check_shape(const model_shape *shape, uint64_t seed, const cpu_kernels *kernels)
{
    test_random random = {seed};
    model *m = random_model_create(shape, seed);
    uint32_t ids[TOKENS];
    for (uint32_t i = 0; i < TOKENS; i++)
        ids[i] = random_below(&random, shape->vocab);
    double *expected = mem_calloc((size_t)TOKENS * shape->vocab, sizeof *expected);
    reference_forward(m, ids, TOKENS, expected);

    static const uint32_t chunks[] = {1, 16, 5, 20, 1, 1, 31};
    static const uint32_t blocks[BLOCKS] = {3, 0, 4, 1, 2};
    backend *b = test_backend_create(m, kernels, 2, BLOCKS, 32);
    float *logits = mem_calloc(shape->vocab, sizeof *logits);
    double worst = 0.0;
    uint32_t done = 0;
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        run_tokens_alone(b, ids + done, chunks[i], done, blocks, BLOCKS, logits);
        done += chunks[i];
        for (uint32_t v = 0; v < shape->vocab; v++) {
            double want = expected[(size_t)(done - 1) * shape->vocab + v];
            double off = fabs((double)logits[v] - want) / fmax(1.0, fabs(want));
            if (!(off <= worst)) worst = off;
        }
    }
    assert_int_equal(done, TOKENS);
    backend_destroy(b);
    mem_free(logits);
    mem_free(expected);
    random_model_destroy(m);
    return worst;
}

static void test_logits_match_double_precision(void **state)
{
    (void)state;
    size_t count;
    const cpu_kernels *const *kernels = cpu_kernels_available(&count);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (uint64_t seed = 0; seed < 2; seed++) {
            double worst = check_shape(&shapes[s], seed, kernels[0]);
            if (!(worst < 3e-5))
                fail_msg("%s, seed %d: a logit is %g off", shapes[s].name, (int)seed, worst);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_logits_match_double_precision)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
