/* Goal: what each family's config.json says becomes the values that transformers computes with.
 *
 * Method: one good config, edited a field at a time. That the values are honoured is for the
 * backends' tests. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/worker/model/config_support.h"

static void assert_windows(const char *edit, uint32_t a, uint32_t b, uint32_t c, uint32_t d,
                           uint32_t e)
{
    model_config config = accepted(edit);
    const uint32_t expected[] = {a, b, c, d, e};
    assert_int_equal(config.layer_count, 5);
    for (uint32_t l = 0; l < 5; l++)
        if (config.layer_window[l] != expected[l])
            fail_msg("%s: layer %u: expected a window of %u, found %u", edit, l, expected[l],
                     config.layer_window[l]);
}

static void test_a_window_that_covers_the_context_is_no_window(void **state)
{
    (void)state;
    assert_windows("{" MISTRAL ",\"sliding_window\":null,\"max_position_embeddings\":32768}", 0, 0,
                   0, 0, 0);
    assert_windows("{" MISTRAL ",\"sliding_window\":512}", 0, 0, 0, 0, 0);
    assert_windows("{" MISTRAL ",\"max_position_embeddings\":4096}", 0, 0, 0, 0, 0);
    assert_windows("{" QWEN2 ",\"sliding_window\":128,\"use_sliding_window\":false,"
                   "\"layer_types\":" FULL "}",
                   0, 0, 0, 0, 0);
    assert_windows("{\"sliding_window\":16}", 0, 0, 0, 0, 0); /* a Llama has no such field */
}

static void test_windows_lie_on_the_layers_that_transformers_gives_them(void **state)
{
    (void)state;
    assert_windows("{" MISTRAL ",\"sliding_window\":511}", 511, 511, 511, 511, 511);
    assert_windows("{" MISTRAL ",\"max_position_embeddings\":4097}", 4096, 4096, 4096, 4096, 4096);
    assert_windows("{" QWEN2 ",\"use_sliding_window\":true,\"sliding_window\":128,"
                   "\"max_window_layers\":3}",
                   0, 0, 0, 128, 128);
    assert_windows("{" QWEN2 ",\"use_sliding_window\":true,\"sliding_window\":128}", 0, 0, 0, 0, 0);
    assert_windows("{" QWEN3 ",\"use_sliding_window\":true,\"sliding_window\":128,"
                   "\"max_window_layers\":0,\"layer_types\":" SLIDING_LAST "}",
                   0, 0, 0, 0, 128);
    assert_windows("{" GEMMA2 ",\"sliding_window\":64}", 64, 0, 64, 0, 64);
    assert_windows("{" GEMMA2 ",\"sliding_window\":64,\"layer_types\":" SLIDING_LAST "}", 0, 0, 0,
                   0, 64);
    assert_windows("{" GEMMA3 ",\"sliding_window\":64,\"sliding_window_pattern\":3}", 64, 64, 0, 64,
                   64);
    assert_windows("{" GEMMA3 ",\"sliding_window\":64}", 64, 64, 64, 64, 64);
    assert_windows("{" PHI3 "}", 0, 0, 0, 0, 0);
    assert_windows("{" PHI3 ",\"sliding_window\":null}", 0, 0, 0, 0, 0);
    assert_windows("{" PHI3 ",\"sliding_window\":100}", 100, 100, 100, 100, 100);
}

static void test_plain_families_have_nothing_special(void **state)
{
    (void)state;
    static const char *const edits[] = {"{}", "{" MISTRAL "}", "{" QWEN2 "}"};
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        model_config c = accepted(edits[i]);
        assert_int_equal(c.activation, ACTIVATION_SILU);
        assert_false(c.qk_norm || c.sandwich_norms || c.norm_plus_one || c.packed_projections);
        assert_true(c.embedding_scale == 1.0f && c.attention_scale == 1.0f / sqrtf(8.0f));
        assert_true(c.attention_softcap == 0.0f && c.final_softcap == 0.0f);
        assert_int_equal(c.rotary_dim, c.head_dim);
        assert_int_equal(c.rope_count, 1);
        assert_true(c.rope[0].attention_factor == 1.0f);
        assert_int_equal(c.layer_rope[4], 0);
    }
}

static void test_fields_of_a_qwen3_are_read(void **state)
{
    (void)state;
    model_config c = accepted("{" QWEN3 "}");
    assert_true(c.qk_norm && !c.qkv_bias && !c.output_bias);
    assert_int_equal(c.head_dim, 128);
    c = accepted("{" QWEN3 ",\"attention_bias\":true,\"head_dim\":16}");
    assert_true(c.qkv_bias && c.output_bias && !c.mlp_bias);
    assert_int_equal(c.head_dim, 16);
}

static void test_fields_of_a_gemma2_are_read(void **state)
{
    (void)state;
    model_config c = accepted("{" GEMMA2 ",\"torch_dtype\":\"bfloat16\",\"hidden_size\":1152}");
    assert_true(c.sandwich_norms && c.norm_plus_one && c.tie_embeddings && !c.qk_norm);
    assert_int_equal(c.activation, ACTIVATION_GELU_TANH);
    assert_int_equal(c.head_dim, 256);
    assert_true(c.embedding_scale == 34.0f); /* the square root is 33.94 */
    assert_true(c.attention_scale == 0.0625f);
    assert_true(c.attention_softcap == 50.0f && c.final_softcap == 30.0f);
    assert_int_equal(c.rope_count, 1);

    c = accepted("{" GEMMA2 ",\"dtype\":\"float16\",\"hidden_size\":1152,\"head_dim\":16,"
                 "\"query_pre_attn_scalar\":144,\"attn_logit_softcapping\":null,"
                 "\"final_logit_softcapping\":20,\"hidden_activation\":\"silu\"}");
    assert_true(c.embedding_scale == 33.9375f);
    assert_true(c.attention_scale == (float)(1.0 / 12.0));
    assert_true(c.attention_softcap == 0.0f && c.final_softcap == 20.0f);
    assert_int_equal(c.activation, ACTIVATION_SILU);
    assert_true(accepted("{" GEMMA2 "}").embedding_scale == 8.0f);
}

static void assert_gemma3(model_config c)
{
    assert_true(c.sandwich_norms && c.norm_plus_one && c.tie_embeddings && c.qk_norm);
    assert_true(c.attention_softcap == 0.0f && c.final_softcap == 0.0f);
    assert_int_equal(c.rope_count, 2);
    assert_true(c.rope[0].theta == 1e6 && c.rope[1].theta == 10000.0);
    assert_int_equal(c.rope[0].scaling, ROPE_SCALING_LINEAR);
    assert_true(c.rope[0].factor == 8.0);
    assert_int_equal(c.rope[1].scaling, ROPE_SCALING_NONE);
    static const uint8_t ropes[] = {1, 1, 0, 1, 1};
    assert_memory_equal(c.layer_rope, ropes, sizeof ropes);
    assert_int_equal(c.layer_window[1], 64);
}

static void test_a_gemma3_has_two_ropes_in_either_spelling(void **state)
{
    (void)state;
    assert_gemma3(accepted("{" GEMMA3 ",\"sliding_window\":64,\"sliding_window_pattern\":3,"
                           "\"rope_theta\":1000000,\"rope_local_base_freq\":10000,"
                           "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":8}}"));
    assert_gemma3(accepted("{" GEMMA3 ",\"sliding_window\":64,\"sliding_window_pattern\":3,"
                           "\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1000000.0,"
                           "\"rope_type\":\"linear\",\"factor\":8},\"sliding_attention\":{"
                           "\"rope_theta\":10000.0,\"rope_type\":\"default\"}}}"));
    /* A window that covers the context leaves the layer its rope. */
    model_config c = accepted("{" GEMMA3 "}");
    assert_int_equal(c.layer_window[0], 0);
    assert_int_equal(c.layer_rope[0], 1);
}

static void test_a_decoder_may_be_a_section(void **state)
{
    (void)state;
    model_config c = accepted(
        "{\"architectures\":[\"Gemma3ForConditionalGeneration\"],\"hidden_size\":7,"
        "\"dtype\":\"bfloat16\",\"eos_token_id\":[1,106],\"text_config\":{\"hidden_size\":2560,"
        "\"intermediate_size\":10240,\"num_hidden_layers\":34,\"sliding_window\":1024,"
        "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":8.0}}}");
    assert_int_equal(c.vocab_size, 262208);
    assert_int_equal(c.hidden_size, 2560);
    assert_int_equal(c.head_count, 8);
    assert_int_equal(c.kv_head_count, 4);
    assert_int_equal(c.head_dim, 256);
    assert_int_equal(c.context_max, 131072);
    assert_int_equal(c.eos_count, 2);
    assert_true(c.embedding_scale == 50.5f);
    assert_int_equal(c.layer_window[4], 1024);
    assert_int_equal(c.layer_window[5], 0);
    assert_int_equal(c.layer_rope[5], 0);
    assert_int_equal(model_config_parameters(&c), 3880263168); /* "4B" without its eyes */
}

static void test_fields_of_a_phi3_are_read(void **state)
{
    (void)state;
    model_config c = accepted("{" PHI3 ",\"rms_norm_eps\":\"absent\"}");
    assert_true(c.packed_projections && !c.qkv_bias);
    assert_true(c.rms_norm_eps == 1e-5f);

    c = accepted("{" PHI3 ",\"max_position_embeddings\":131072,\"rope_scaling\":" LONGROPE("") "}");
    assert_int_equal(c.rope[0].scaling, ROPE_SCALING_LONGROPE);
    assert_int_equal(c.rope[0].original_context, 4096);
    assert_true(c.rope[0].long_factors[3] == 64.5f && c.rope[0].short_factors[2] == 1.5f);
    assert_true(c.rope[0].attention_factor == (float)sqrt(1 + log(32) / log(4096)));

    c = accepted("{" PHI3 ",\"original_max_position_embeddings\":128,"
                 "\"rope_parameters\":{\"rope_type\":\"su\",\"short_factor\":[1,1],"
                 "\"long_factor\":[2,2],\"partial_rotary_factor\":0.5,\"attention_factor\":1.25,"
                 "\"original_max_position_embeddings\":64}}");
    assert_int_equal(c.rope[0].scaling, ROPE_SCALING_LONGROPE);
    assert_int_equal(c.rope[0].original_context, 128);
    assert_int_equal(c.rotary_dim, 4);
    assert_true(c.rope[0].attention_factor == 1.25f);
    assert_int_equal(accepted("{" PHI3 ",\"partial_rotary_factor\":0.75}").rotary_dim, 6);
}

static void test_yarn_is_read(void **state)
{
    (void)state;
    model_config c = accepted("{" QWEN2 ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4.0,"
                              "\"original_max_position_embeddings\":32768}}");
    assert_int_equal(c.rope[0].scaling, ROPE_SCALING_YARN);
    assert_int_equal(c.rope[0].original_context, 32768);
    assert_true(c.rope[0].beta_fast == 32 && c.rope[0].beta_slow == 1 && c.rope[0].truncate);
    assert_true(c.rope[0].attention_factor == (float)(0.1 * log(4.0) + 1));
    c = accepted("{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2,\"beta_fast\":16,"
                 "\"attention_factor\":1,\"truncate\":false}}");
    assert_int_equal(c.rope[0].original_context, 512);
    assert_true(c.rope[0].beta_fast == 16 && !c.rope[0].truncate);
    assert_true(c.rope[0].attention_factor == 1.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_window_that_covers_the_context_is_no_window),
        cmocka_unit_test(test_windows_lie_on_the_layers_that_transformers_gives_them),
        cmocka_unit_test(test_plain_families_have_nothing_special),
        cmocka_unit_test(test_fields_of_a_qwen3_are_read),
        cmocka_unit_test(test_fields_of_a_gemma2_are_read),
        cmocka_unit_test(test_a_gemma3_has_two_ropes_in_either_spelling),
        cmocka_unit_test(test_a_decoder_may_be_a_section),
        cmocka_unit_test(test_fields_of_a_phi3_are_read),
        cmocka_unit_test(test_yarn_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
