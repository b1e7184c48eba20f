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

static const model_shape shapes[] = {
    {.name = "f32",
     .hidden = 64,
     .intermediate = 172,
     .layers = 2,
     .heads = 8,
     .kv_heads = 4,
     .head_dim = 8,
     .vocab = 101,
     .type = DTYPE_F32,
     .tied = true},
    {.name = "f16",
     .hidden = 64,
     .intermediate = 176,
     .layers = 2,
     .heads = 4,
     .kv_heads = 4,
     .head_dim = 16,
     .vocab = 130,
     .type = DTYPE_F16,
     .qkv_bias = true},
    {.name = "bf16",
     .hidden = 96,
     .intermediate = 100,
     .layers = 2,
     .heads = 6,
     .kv_heads = 2,
     .head_dim = 16,
     .vocab = 64,
     .type = DTYPE_BF16,
     .qkv_bias = true,
     .tied = true},
    {.name = "head of 2",
     .hidden = 18,
     .intermediate = 34,
     .layers = 2,
     .heads = 3,
     .kv_heads = 1,
     .head_dim = 2,
     .vocab = 33,
     .type = DTYPE_F32,
     .qkv_bias = true,
     .output_bias = true,
     .mlp_bias = true},
    {.name = "head of 24",
     .hidden = 48,
     .intermediate = 50,
     .layers = 2,
     .heads = 5,
     .kv_heads = 5,
     .head_dim = 24,
     .vocab = 40,
     .type = DTYPE_BF16,
     .output_bias = true,
     .tied = true,
     .scaling = ROPE_SCALING_LINEAR},
    {.name = "head of 64",
     .hidden = 70,
     .intermediate = 61,
     .layers = 2,
     .heads = 7,
     .kv_heads = 1,
     .head_dim = 64,
     .vocab = 50,
     .type = DTYPE_F16,
     .qkv_bias = true,
     .mlp_bias = true,
     .tied = true,
     .scaling = ROPE_SCALING_LLAMA3},
    {.name = "head of 80",
     .hidden = 80,
     .intermediate = 90,
     .layers = 1,
     .heads = 4,
     .kv_heads = 2,
     .head_dim = 80,
     .vocab = 50,
     .type = DTYPE_F32,
     .mlp_bias = true},
    {.name = "head of 128",
     .hidden = 128,
     .intermediate = 65,
     .layers = 2,
     .heads = 2,
     .kv_heads = 2,
     .head_dim = 128,
     .vocab = 31,
     .type = DTYPE_BF16,
     .output_bias = true,
     .mlp_bias = true,
     .tied = true,
     .scaling = ROPE_SCALING_LLAMA3},
    {.name = "narrow",
     .hidden = 2,
     .intermediate = 1,
     .layers = 1,
     .heads = 1,
     .kv_heads = 1,
     .head_dim = 2,
     .vocab = 3,
     .type = DTYPE_F32,
     .qkv_bias = true,
     .output_bias = true,
     .mlp_bias = true,
     .tied = true},
    {.name = "many heads to one",
     .hidden = 32,
     .intermediate = 40,
     .layers = 1,
     .heads = 70,
     .kv_heads = 1,
     .head_dim = 4,
     .vocab = 20,
     .type = DTYPE_BF16,
     .qkv_bias = true,
     .tied = true},
};

#define TOKENS 75u
#define BLOCKS 5u

/* What each family adds to that, alone or with others. */
static const model_shape families[] = {
    {.name = "heads normed",
     .hidden = 64,
     .intermediate = 80,
     .layers = 2,
     .heads = 6,
     .kv_heads = 2,
     .head_dim = 16,
     .vocab = 60,
     .type = DTYPE_BF16,
     .qk_norm = true},
    {.name = "windows",
     .hidden = 48,
     .intermediate = 64,
     .layers = 3,
     .heads = 4,
     .kv_heads = 2,
     .head_dim = 16,
     .vocab = 50,
     .type = DTYPE_F32,
     .window = 19},
    {.name = "window of one",
     .hidden = 32,
     .intermediate = 40,
     .layers = 2,
     .heads = 2,
     .kv_heads = 1,
     .head_dim = 16,
     .vocab = 50,
     .type = DTYPE_F32,
     .window = 1},
    {.name = "soft caps",
     .hidden = 48,
     .intermediate = 64,
     .layers = 2,
     .heads = 4,
     .kv_heads = 2,
     .head_dim = 16,
     .vocab = 50,
     .type = DTYPE_F32,
     .attention_softcap = 1.5f,
     .final_softcap = 2.0f},
    {.name = "sandwich, hidden the widest",
     .hidden = 200,
     .intermediate = 30,
     .layers = 2,
     .heads = 2,
     .kv_heads = 1,
     .head_dim = 8,
     .vocab = 50,
     .type = DTYPE_F16,
     .tied = true,
     .output_bias = true,
     .mlp_bias = true,
     .sandwich_norms = true,
     .norm_plus_one = true},
    {.name = "like Gemma 2",
     .hidden = 64,
     .intermediate = 96,
     .layers = 4,
     .heads = 4,
     .kv_heads = 2,
     .head_dim = 32,
     .vocab = 80,
     .type = DTYPE_BF16,
     .tied = true,
     .window = 24,
     .sandwich_norms = true,
     .norm_plus_one = true,
     .gelu = true,
     .embedding_scale = 8.0f,
     .attention_scale = 0.11f,
     .attention_softcap = 3.0f,
     .final_softcap = 5.0f},
    {.name = "like Gemma 3",
     .hidden = 64,
     .intermediate = 96,
     .layers = 3,
     .heads = 4,
     .kv_heads = 1,
     .head_dim = 32,
     .vocab = 80,
     .type = DTYPE_BF16,
     .tied = true,
     .scaling = ROPE_SCALING_LINEAR,
     .window = 16,
     .local_rope = true,
     .qk_norm = true,
     .sandwich_norms = true,
     .norm_plus_one = true,
     .gelu = true,
     .embedding_scale = 8.0f},
    {.name = "like Phi",
     .hidden = 96,
     .intermediate = 70,
     .layers = 2,
     .heads = 3,
     .kv_heads = 3,
     .head_dim = 32,
     .vocab = 60,
     .type = DTYPE_F16,
     .scaling = ROPE_SCALING_LONGROPE,
     .window = 33,
     .rotary_dim = 24},
    {.name = "yarn",
     .hidden = 64,
     .intermediate = 70,
     .layers = 2,
     .heads = 4,
     .kv_heads = 2,
     .head_dim = 64,
     .vocab = 60,
     .type = DTYPE_F32,
     .qkv_bias = true,
     .scaling = ROPE_SCALING_YARN},
};

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

static void check_shapes(const model_shape *all, size_t shape_count)
{
    size_t count;
    const cpu_kernels *const *kernels = cpu_kernels_available(&count);
    for (size_t s = 0; s < shape_count; s++)
        for (uint64_t seed = 0; seed < 2; seed++) {
            double worst = check_shape(&all[s], seed, kernels[0]);
            if (!(worst < 3e-5))
                fail_msg("%s, seed %d: a logit is %g off", all[s].name, (int)seed, worst);
        }
}

static void test_logits_match_double_precision(void **state)
{
    (void)state;
    check_shapes(shapes, sizeof shapes / sizeof shapes[0]);
}

static void test_logits_match_with_what_families_add(void **state)
{
    (void)state;
    check_shapes(families, sizeof families / sizeof families[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_match_double_precision),
        cmocka_unit_test(test_logits_match_with_what_families_add),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
