/* Goal: tensors that only some families have, and those that one tensor packs, are bound as
 * weights.h says; a limited context changes what it has to and nothing else.
 *
 * Method: dummy weights of small configs, which are laid out by the same list of roles; refusals
 * on a Llama's checkpoint under another family's config. Loading real files of each family is
 * tests/unit/worker/cpu/test_cpu_families.c. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/worker/model/make_checkpoint.h"
#include "worker/model/weights.h"

#define SIZES                                                                                      \
    "\"vocab_size\":64,\"hidden_size\":32,\"intermediate_size\":48,\"num_hidden_layers\":2,"       \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":8,"                          \
    "\"max_position_embeddings\":128"
#define FAMILY(name, more) "{\"architectures\":[\"" name "\"]," SIZES more "}"

static char dir[PATH_MAX];

static int make_small_checkpoint(void **state)
{
    (void)state;
    const char *scratch = getenv("GAGGLE_TEST_TMP");
    snprintf(dir, sizeof dir, "%s/checkpoint", scratch != NULL ? scratch : "/tmp");
    checkpoint_plan plan = checkpoint_plan_small();
    make_checkpoint(&plan, dir);
    return 0;
}

static model *dummy_of(const char *config)
{
    model *m = NULL;
    error err = {0};
    make_file(dir, "config.json", config, strlen(config));
    if (model_load(&m, dir, LOAD_DUMMY, NULL, NULL, &err) != ST_OK) fail_msg("%s", err.text);
    assert_int_equal(m->weight_bytes, 2 * model_config_parameters(&m->config));
    return m;
}

static void assert_shape(const weight *w, uint32_t rows, uint32_t cols)
{
    assert_non_null(w->data);
    assert_int_equal(w->rows, rows);
    assert_int_equal(w->cols, cols);
}

static void assert_follows(const weight *w, const weight *before)
{
    assert_ptr_equal(w->data, (const uint16_t *)before->data + (size_t)before->rows * before->cols);
}

static void test_packed_projections_are_slices_one_behind_the_other(void **state)
{
    (void)state;
    model *m = dummy_of(FAMILY("Phi3ForCausalLM", ""));
    for (uint32_t l = 0; l < 2; l++) {
        const layer_weights *w = &m->layers[l];
        assert_shape(&w->q, 32, 32);
        assert_shape(&w->k, 16, 32);
        assert_shape(&w->v, 16, 32);
        assert_follows(&w->k, &w->q);
        assert_follows(&w->v, &w->k);
        assert_shape(&w->gate, 48, 32);
        assert_shape(&w->up, 48, 32);
        assert_follows(&w->up, &w->gate);
        assert_null(w->q_norm.data);
        assert_null(w->post_mlp_norm.data);
    }
    model_destroy(m);
}

static void test_norms_are_there_where_the_family_has_them(void **state)
{
    (void)state;
    model *m = dummy_of(FAMILY("Qwen3ForCausalLM", ""));
    assert_shape(&m->layers[1].q_norm, 1, 8);
    assert_shape(&m->layers[1].k_norm, 1, 8);
    assert_null(m->layers[1].post_attention_norm.data);
    assert_int_equal(*(const uint16_t *)m->layers[1].mlp_norm.data, 0x3f80); /* one */
    model_destroy(m);

    m = dummy_of(FAMILY("Gemma2ForCausalLM", ""));
    assert_shape(&m->layers[0].post_attention_norm, 1, 32);
    assert_shape(&m->layers[0].post_mlp_norm, 1, 32);
    assert_shape(&m->layers[0].mlp_norm, 1, 32);
    assert_null(m->layers[0].q_norm.data);
    assert_int_equal(*(const uint16_t *)m->layers[0].mlp_norm.data, 0); /* 1 + 0 */
    model_destroy(m);

    m = dummy_of(FAMILY("Gemma3ForCausalLM", ""));
    assert_shape(&m->layers[0].post_mlp_norm, 1, 32);
    assert_shape(&m->layers[0].k_norm, 1, 8);
    model_destroy(m);
}

static void test_a_missing_tensor_of_a_family_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *config, *name;
    } cases[] = {
        {FAMILY("Phi3ForCausalLM", ""), "model.layers.0.self_attn.qkv_proj.weight"},
        {FAMILY("Qwen3ForCausalLM", ""), "model.layers.0.self_attn.q_norm.weight"},
        {FAMILY("Gemma2ForCausalLM", ""), "model.layers.0.pre_feedforward_layernorm.weight"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        model *m = NULL;
        error err = {0};
        make_file(dir, "config.json", cases[i].config, strlen(cases[i].config));
        assert_int_equal(model_load(&m, dir, LOAD_SAFETENSORS, NULL, NULL, &err), ST_NOT_FOUND);
        if (strstr(err.text, cases[i].name) == NULL)
            fail_msg("expected %s, found \"%s\"", cases[i].name, err.text);
    }
}

#define LONGROPE                                                                                   \
    ",\"original_max_position_embeddings\":64,\"rope_scaling\":{\"type\":\"longrope\","            \
    "\"short_factor\":[1,1,1,1],\"long_factor\":[2,2,2,2]}"

static void test_a_limited_context_may_choose_other_frequencies_and_says_so(void **state)
{
    (void)state;
    model *m = dummy_of(FAMILY("Phi3ForCausalLM", LONGROPE));
    float frequencies[4];
    char revision[sizeof m->revision];
    memcpy(revision, m->revision, sizeof revision);
    float attention_factor = m->config.rope[0].attention_factor;
    model_limit_context(m, 65);
    model_config_rope_frequencies(&m->config, 0, frequencies);
    assert_true(frequencies[0] == 0.5f);
    assert_string_equal(m->revision, revision);

    model_limit_context(m, 64);
    model_config_rope_frequencies(&m->config, 0, frequencies);
    assert_true(frequencies[0] == 1.0f);
    assert_string_not_equal(m->revision, revision);
    assert_int_equal(strspn(m->revision, "0123456789abcdef"), 32);
    assert_true(m->config.rope[0].attention_factor == attention_factor);
    model_destroy(m);
}

static void test_a_window_as_long_as_the_limited_context_is_none(void **state)
{
    (void)state;
    model *m = dummy_of(FAMILY("MistralForCausalLM", ",\"sliding_window\":50"));
    char revision[sizeof m->revision];
    memcpy(revision, m->revision, sizeof revision);
    model_limit_context(m, 51);
    assert_int_equal(m->config.layer_window[1], 50);
    model_limit_context(m, 50);
    assert_int_equal(m->config.layer_window[1], 0);
    assert_int_equal(m->config.context_max, 50);
    assert_string_equal(m->revision, revision);
    model_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packed_projections_are_slices_one_behind_the_other),
        cmocka_unit_test(test_norms_are_there_where_the_family_has_them),
        cmocka_unit_test(test_a_missing_tensor_of_a_family_is_named),
        cmocka_unit_test(test_a_limited_context_may_choose_other_frequencies_and_says_so),
        cmocka_unit_test(test_a_window_as_long_as_the_limited_context_is_none),
    };
    return cmocka_run_group_tests(tests, make_small_checkpoint, NULL);
}
