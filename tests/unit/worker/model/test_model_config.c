/* Goal: a config.json is either understood as transformers would or refused with a sentence that
 * names the field, what was expected and what was found.
 *
 * Method: one good config, edited a field at a time; configs of published models from the shared
 * data where that is there. */
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/limits.h"
#include "common/mem.h"
#include "tests/unit/worker/model/config_support.h"

/* -- what is read -------------------------------------------------------------------------- */

static void test_fields_of_a_llama_are_read(void **state)
{
    (void)state;
    model_config c = accepted("{}");
    assert_string_equal(c.architecture, "LlamaForCausalLM");
    assert_int_equal(c.vocab_size, 1000);
    assert_int_equal(c.hidden_size, 64);
    assert_int_equal(c.intermediate_size, 172);
    assert_int_equal(c.layer_count, 5);
    assert_int_equal(c.head_count, 8);
    assert_int_equal(c.kv_head_count, 4);
    assert_int_equal(c.head_dim, 8);
    assert_int_equal(c.context_max, 512);
    assert_true(c.rms_norm_eps == 1e-5f);
    assert_false(c.tie_embeddings);
    assert_false(c.qkv_bias || c.output_bias || c.mlp_bias);
    assert_true(c.rope[0].theta == 10000.0);
    assert_int_equal(c.rope[0].scaling, ROPE_SCALING_NONE);
    assert_int_equal(c.bos_id, 1);
    assert_int_equal(c.eos_count, 1);
    assert_int_equal(c.eos_ids[0], 2);
}

static void test_absent_fields_mean_what_transformers_takes_them_for(void **state)
{
    (void)state;
    model_config c = accepted("{\"num_key_value_heads\":\"absent\",\"rms_norm_eps\":\"absent\","
                              "\"bos_token_id\":\"absent\",\"eos_token_id\":null,"
                              "\"hidden_act\":\"absent\",\"head_dim\":null}");
    assert_int_equal(c.kv_head_count, 8);
    assert_int_equal(c.head_dim, 8);
    assert_true(c.rms_norm_eps == 1e-6f);
    assert_int_equal(c.bos_id, UINT32_MAX);
    assert_int_equal(c.eos_count, 0);

    c = accepted("{\"architectures\":[\"MistralForCausalLM\"],\"num_key_value_heads\":\"absent\"}");
    assert_int_equal(c.kv_head_count, 8);
    c = accepted("{\"architectures\":[\"Qwen2ForCausalLM\"],\"num_key_value_heads\":null}");
    assert_int_equal(c.kv_head_count, 8);
}

static void test_biases_follow_the_family(void **state)
{
    (void)state;
    model_config c = accepted("{\"attention_bias\":true}");
    assert_true(c.qkv_bias && c.output_bias && !c.mlp_bias);
    c = accepted("{\"mlp_bias\":true}");
    assert_true(!c.qkv_bias && !c.output_bias && c.mlp_bias);
    c = accepted("{\"architectures\":[\"Qwen2ForCausalLM\"]}");
    assert_true(c.qkv_bias && !c.output_bias && !c.mlp_bias);
    c = accepted("{\"architectures\":[\"MistralForCausalLM\"],\"attention_bias\":true}");
    assert_true(!c.qkv_bias && !c.output_bias && !c.mlp_bias);
}

static void test_head_dim_may_differ_from_hidden_over_heads(void **state)
{
    (void)state;
    model_config c = accepted("{\"head_dim\":32}");
    assert_int_equal(c.head_dim, 32);
    c = accepted("{\"head_dim\":10,\"hidden_size\":63}");
    assert_int_equal(c.head_dim, 10);
}

static void test_eos_may_be_one_id_a_list_or_none(void **state)
{
    (void)state;
    model_config c = accepted("{\"eos_token_id\":[7,8,9]}");
    assert_int_equal(c.eos_count, 3);
    assert_int_equal(c.eos_ids[2], 9);
    c = accepted("{\"eos_token_id\":[]}");
    assert_int_equal(c.eos_count, 0);
    c = accepted("{\"eos_token_id\":\"absent\"}");
    assert_int_equal(c.eos_count, 0);
}

static void test_rope_is_read_in_every_spelling(void **state)
{
    (void)state;
    assert_true(accepted("{\"rope_theta\":500000}").rope[0].theta == 500000.0);
    assert_int_equal(accepted("{\"rope_scaling\":null}").rope[0].scaling, ROPE_SCALING_NONE);
    assert_int_equal(accepted("{\"rope_scaling\":{\"type\":\"default\"}}").rope[0].scaling,
                     ROPE_SCALING_NONE);

    model_config c = accepted("{\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}}");
    assert_int_equal(c.rope[0].scaling, ROPE_SCALING_LINEAR);
    assert_true(c.rope[0].factor == 4.0);

    static const char *const llama3[] = {
        "{\"rope_theta\":5e5,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,"
        "\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":8192}}",
        "{\"rope_parameters\":{\"rope_theta\":5e5,\"rope_type\":\"llama3\",\"factor\":8.0,"
        "\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":8192}}",
        "{\"rope_theta\":1,\"rope_scaling\":{\"rope_type\":\"llama3\",\"type\":\"linear\","
        "\"rope_theta\":5e5,\"factor\":8.0,\"low_freq_factor\":1,\"high_freq_factor\":4,"
        "\"original_max_position_embeddings\":8192}}",
    };
    for (size_t i = 0; i < sizeof llama3 / sizeof llama3[0]; i++) {
        c = accepted(llama3[i]);
        assert_int_equal(c.rope[0].scaling, ROPE_SCALING_LLAMA3);
        assert_true(c.rope[0].theta == 500000.0);
        assert_true(c.rope[0].factor == 8.0);
        assert_true(c.rope[0].low_freq_factor == 1.0);
        assert_true(c.rope[0].high_freq_factor == 4.0);
        assert_int_equal(c.rope[0].original_context, 8192);
    }

    c = accepted("{\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":2},"
                 "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":2}}");
    assert_int_equal(c.rope[0].scaling, ROPE_SCALING_LINEAR);
}

static void test_parameters_and_kv_are_counted(void **state)
{
    (void)state;
    model_config c = accepted("{\"vocab_size\":512,\"tie_word_embeddings\":true}");
    /* the embedding; a layer: two norms, q and o, k and v, gate, up and down; the last norm */
    uint64_t layer = 2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 172;
    assert_int_equal(model_config_parameters(&c), 512 * 64 + 5 * layer + 64);
    assert_int_equal(model_config_kv_elements(&c), 2 * 5 * 4 * 8);

    c = accepted("{\"vocab_size\":512,\"attention_bias\":true,\"mlp_bias\":true}");
    layer += 64 + 2 * 32 + 64 + 2 * 172 + 64;
    assert_int_equal(model_config_parameters(&c), 2 * 512 * 64 + 5 * layer + 64);

    c = accepted("{" GEMMA3 ",\"vocab_size\":512,\"head_dim\":8}");
    layer = 4 * 64 + 2 * 8 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 172;
    assert_int_equal(model_config_parameters(&c), 512 * 64 + 5 * layer + 64);
}

/* -- what is refused ------------------------------------------------------------------------ */

static void test_wrong_numbers_are_refused_by_name(void **state)
{
    (void)state;
    static const refusal cases[] = {
        {"{\"vocab_size\":0}", INVALID,
         "config.json: vocab_size: expected an integer from 1 to 1048576, found 0"},
        {"{\"vocab_size\":1048577}", INVALID, "vocab_size: expected"},
        {"{\"vocab_size\":\"absent\"}", INVALID, "found nothing"},
        {"{\"vocab_size\":null}", INVALID, "found null"},
        {"{\"vocab_size\":64.0}", INVALID, "found 64"},
        {"{\"vocab_size\":\"64\"}", INVALID, "found \"64\""},
        {"{\"vocab_size\":[64]}", INVALID, "found an array of 1"},
        {"{\"vocab_size\":true}", INVALID, "found true"},
        {"{\"hidden_size\":-64}", INVALID, "hidden_size: expected an integer from 1 to 65536"},
        {"{\"hidden_size\":65}", INVALID,
         "hidden_size: expected a multiple of num_attention_heads (8), as there is no head_dim"},
        {"{\"hidden_size\":72}", INVALID, "hidden_size: expected an even multiple"},
        {"{\"hidden_size\":4}", INVALID, "hidden_size: expected a multiple"},
        {"{\"hidden_size\":65536,\"num_attention_heads\":8,\"num_key_value_heads\":1}", INVALID,
         "at most 1024 times it"},
        {"{\"intermediate_size\":262145}", INVALID, "intermediate_size: expected"},
        {"{\"num_hidden_layers\":1000}", INVALID,
         "num_hidden_layers: expected an integer from 1 to 512, found 1000"},
        {"{\"num_attention_heads\":0}", INVALID, "num_attention_heads: expected"},
        {"{\"num_key_value_heads\":3}", INVALID,
         "num_key_value_heads: expected a divisor of num_attention_heads (8), found 3"},
        {"{\"num_key_value_heads\":16}", INVALID, "num_key_value_heads: expected a divisor"},
        {"{\"head_dim\":7}", INVALID, "head_dim: expected an even number, found 7"},
        {"{\"head_dim\":1026}", INVALID, "head_dim: expected an integer from 2 to 1024"},
        {"{\"max_position_embeddings\":1048577}", INVALID, "max_position_embeddings: expected"},
        {"{\"max_position_embeddings\":\"absent\"}", INVALID, "max_position_embeddings"},
        {"{\"rms_norm_eps\":0}", INVALID, "rms_norm_eps: expected a number"},
        {"{\"rms_norm_eps\":\"1e-5\"}", INVALID, "rms_norm_eps: expected a number"},
        {"{\"tie_word_embeddings\":1}", INVALID,
         "tie_word_embeddings: expected true or false, found 1"},
        {"{\"attention_bias\":\"yes\"}", INVALID, "attention_bias"},
        {"{\"bos_token_id\":1000}", INVALID,
         "bos_token_id: expected a token id below vocab_size (1000), found 1000"},
        {"{\"bos_token_id\":-1}", INVALID, "bos_token_id"},
        {"{\"eos_token_id\":[2,1000]}", INVALID, "eos_token_id: expected a token id"},
        {"{\"eos_token_id\":[[2]]}", INVALID, "eos_token_id: expected a token id"},
        {"{\"eos_token_id\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}", INVALID,
         "eos_token_id: expected at most 16 ids, found an array of 17"},
    };
    ASSERT_REFUSALS(cases, false);
}

static void test_what_no_backend_runs_is_refused_with_what_one_does(void **state)
{
    (void)state;
    static const refusal cases[] = {
        {"{\"architectures\":[\"GPT2LMHeadModel\"]}", ST_UNIMPLEMENTED,
         "expected one of LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, "
         "Qwen3ForCausalLM, Gemma2ForCausalLM, Gemma3ForCausalLM, "
         "Gemma3ForConditionalGeneration, Phi3ForCausalLM, found \"GPT2LMHeadModel\""},
        {"{\"architectures\":[\"evil\\nname\\u00e9\"]}", ST_UNIMPLEMENTED, "\"evil?name??\""},
        {"{\"architectures\":\"LlamaForCausalLM\"}", INVALID, "architectures: expected a list"},
        {"{\"architectures\":[]}", INVALID, "architectures: expected a list"},
        {"{\"architectures\":null}", INVALID, "architectures: expected a list"},
        {"{\"quantization_config\":{\"quant_method\":\"gptq\"}}", ST_UNIMPLEMENTED,
         "quantization_config: expected nothing or null"},
        {"{\"hidden_act\":\"gelu\"}", ST_UNIMPLEMENTED,
         "hidden_act: expected \"silu\" or \"gelu_pytorch_tanh\", found \"gelu\""},
        {"{\"partial_rotary_factor\":0.5}", ST_UNIMPLEMENTED, "partial_rotary_factor"},
        {"{\"layer_types\":" SLIDING_LAST "}", ST_UNIMPLEMENTED,
         "layer_types: expected \"full_attention\" in every layer, found \"sliding_attention\""},
        {"{" GEMMA2 ",\"layer_types\":[\"a\",\"a\",\"a\",\"a\",\"chunked_attention\"]}",
         ST_UNIMPLEMENTED,
         "layer_types: expected \"full_attention\" and \"sliding_attention\" only"},
        {"{\"layer_types\":\"full_attention\"}", INVALID,
         "layer_types: expected a list of 5 names"},
        {"{\"layer_types\":[\"full_attention\"]}", INVALID, "found an array of 1"},
        {"{" MISTRAL ",\"sliding_window\":\"wide\"}", INVALID, "sliding_window: expected"},
        {"{" MISTRAL ",\"sliding_window\":0}", INVALID,
         "sliding_window: expected an integer from 1"},
        {"{" GEMMA2 ",\"sliding_window\":null}", INVALID, "sliding_window: expected a window"},
        {"{" QWEN2 ",\"layer_types\":" SLIDING_LAST "}", INVALID,
         "sliding_window: expected a window that is used, as layers are sliding_attention"},
        {"{" GEMMA3 ",\"attn_logit_softcapping\":50}", ST_UNIMPLEMENTED,
         "attn_logit_softcapping: expected null"},
        {"{" GEMMA3 ",\"use_bidirectional_attention\":true}", ST_UNIMPLEMENTED,
         "use_bidirectional_attention: expected false"},
        {"{" GEMMA2 ",\"attn_logit_softcapping\":0}", INVALID, "attn_logit_softcapping: expected"},
        {"{" GEMMA2 ",\"query_pre_attn_scalar\":-1}", INVALID, "query_pre_attn_scalar: expected"},
        {"{" GEMMA2 ",\"torch_dtype\":\"int8\"}", ST_UNIMPLEMENTED, "torch_dtype: expected"},
        {"{\"architectures\":[\"Gemma3ForConditionalGeneration\"]}", INVALID,
         "config.json: text_config: expected an object, found nothing"},
        {"{\"architectures\":[\"Gemma3ForConditionalGeneration\"],\"text_config\":{}}", INVALID,
         "config.json: text_config: hidden_size: expected"},
        {"{\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":4}}", ST_UNIMPLEMENTED,
         "rope_scaling: rope_type: expected \"default\", \"linear\", \"llama3\", \"yarn\" or "
         "\"longrope\", found \"dynamic\""},
        {"{\"rope_scaling\":{\"factor\":4}}", ST_UNIMPLEMENTED,
         "rope_scaling: type: expected \"default\", \"linear\", \"llama3\", \"yarn\" or "
         "\"longrope\", found nothing"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"mscale\":1,"
         "\"mscale_all_dim\":1}}",
         ST_UNIMPLEMENTED, "mscale_all_dim"},
        {"{\"rope_parameters\":{\"full_attention\":{}}}", ST_UNIMPLEMENTED, "found nothing"},
        {"{\"rope_parameters\":{\"rope_type\":\"default\",\"partial_rotary_factor\":0.5}}",
         ST_UNIMPLEMENTED, "rope_parameters: partial_rotary_factor: expected 1"},
    };
    ASSERT_REFUSALS(cases, false);
}

#define LLAMA3(low, high, original)                                                                \
    "{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":" low            \
    ",\"high_freq_factor\":" high ",\"original_max_position_embeddings\":" original "}}"

static void test_wrong_rope_numbers_are_refused_by_name(void **state)
{
    (void)state;
    static const refusal cases[] = {
        {"{\"rope_theta\":0}", INVALID, "rope_theta: expected a number from 1"},
        {"{\"rope_theta\":1e300}", INVALID, "rope_theta"},
        {"{\"rope_scaling\":\"linear\"}", INVALID,
         "rope_scaling: expected an object or null, found \"linear\""},
        {"{\"rope_parameters\":[]}", INVALID, "rope_parameters: expected an object or null"},
        {"{\"rope_scaling\":{\"type\":\"linear\"}}", INVALID,
         "rope_scaling: factor: expected a number from 1 to 1e+06, found nothing"},
        {"{\"rope_scaling\":{\"type\":\"linear\",\"factor\":0.5}}", INVALID, "found 0.5"},
        {"{\"rope_scaling\":{\"type\":\"linear\",\"factor\":null}}", INVALID, "found null"},
        {"{\"rope_scaling\":{\"type\":\"linear\",\"factor\":2},"
         "\"rope_parameters\":{\"type\":\"linear\",\"factor\":4}}",
         INVALID, "rope_parameters: expected the same as rope_scaling"},
        {"{\"rope_theta\":1,\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4}}", INVALID,
         "rope_theta: expected more than 1"},
        {"{" PHI3 ",\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1,1,1],"
         "\"long_factor\":[1,1,1,1]}}",
         INVALID, "short_factor: expected a list of 4 numbers, found an array of 3"},
        {"{" PHI3 ",\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1,1,1,1],"
         "\"long_factor\":[1,1,\"a\",1]}}",
         INVALID, "long_factor: expected numbers from 0.75 to 1e+06 only, found \"a\""},
        {"{" PHI3 ",\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1,1,1,0.5],"
         "\"long_factor\":[1,1,1,1]}}",
         INVALID, "short_factor: expected numbers from 0.75"},
        {"{" PHI3 ",\"original_max_position_embeddings\":1,\"rope_scaling\":" LONGROPE("") "}",
         INVALID, "original_max_position_embeddings: expected an integer from 2"},
        {"{" PHI3 ",\"partial_rotary_factor\":0.2}", INVALID,
         "partial_rotary_factor: expected a part"},
        {"{" GEMMA3 ",\"rope_parameters\":{\"rope_type\":\"default\"}}", INVALID,
         "rope_parameters: expected an object of the objects full_attention and sliding_attention"},
        {"{" GEMMA3 ",\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"linear\"},"
         "\"sliding_attention\":{\"rope_type\":\"unheard of\"}}}",
         INVALID, "full_attention: factor: expected a number"},
        {"{" GEMMA3 ",\"rope_local_base_freq\":0}", INVALID, "rope_local_base_freq: expected"},
        {LLAMA3("4", "4", "8192"), INVALID,
         "high_freq_factor: expected more than low_freq_factor (4), found 4"},
        {LLAMA3("0", "4", "8192"), INVALID, "low_freq_factor: expected a number from 0.001"},
        {LLAMA3("1", "4", "0"), INVALID, "original_max_position_embeddings: expected"},
        {LLAMA3("1", "4", "null"), INVALID, "original_max_position_embeddings: expected"},
    };
    ASSERT_REFUSALS(cases, false);
}

static void test_text_that_is_no_json_object_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "[]", "null", "{", "{\"a\":1,\"a\":2}", "{}{}", "7"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        model_config config;
        generation_defaults defaults;
        error err = {0};
        assert_int_equal(
            model_config_parse(&config, &defaults, texts[i], strlen(texts[i]), NULL, 0, &err),
            ST_INVALID_ARGUMENT);
        assert_non_null(strstr(err.text, "config.json"));
        assert_int_equal(model_config_parse(&config, &defaults, base_config, strlen(base_config),
                                            texts[i], strlen(texts[i]), &err),
                         ST_INVALID_ARGUMENT);
        assert_non_null(strstr(err.text, "generation_config.json"));
    }
}

/* -- generation_config.json ------------------------------------------------------------------- */

/* NULL: there is no file. */
static generation_defaults defaults_of(const char *generation, model_config *config)
{
    generation_defaults defaults;
    error err;
    if (parse_edited("{}", generation, config, &defaults, &err) != ST_OK)
        fail_msg("refused: %s", err.text);
    return defaults;
}

static void test_defaults_without_a_file_are_neutral(void **state)
{
    (void)state;
    model_config config;
    generation_defaults none = defaults_of(NULL, &config);
    generation_defaults empty = defaults_of("{\"temperature\":null}", &config);
    for (int i = 0; i < 2; i++) {
        const generation_defaults *d = i == 0 ? &none : &empty;
        assert_false(d->has_temperature || d->has_top_k || d->has_top_p || d->has_min_p ||
                     d->has_repetition_penalty || d->greedy);
        assert_true(d->temperature == 1 && d->top_k == 0 && d->top_p == 1 && d->min_p == 0 &&
                    d->repetition_penalty == 1);
    }
    assert_int_equal(config.eos_ids[0], 2);
}

static void test_defaults_are_read_and_eos_ids_replaced(void **state)
{
    (void)state;
    model_config config;
    generation_defaults d =
        defaults_of("{\"do_sample\":true,\"temperature\":0.6,\"top_k\":20,\"top_p\":0.95,"
                    "\"min_p\":0.05,\"repetition_penalty\":1.1,\"eos_token_id\":[5,6],"
                    "\"bos_token_id\":9,\"transformers_version\":\"4.44.0\"}",
                    &config);
    assert_true(d.has_temperature && d.has_top_k && d.has_top_p && d.has_min_p &&
                d.has_repetition_penalty);
    assert_false(d.greedy);
    assert_true(d.temperature == 0.6f && d.top_k == 20 && d.top_p == 0.95f && d.min_p == 0.05f &&
                d.repetition_penalty == 1.1f);
    assert_int_equal(config.eos_count, 2);
    assert_int_equal(config.eos_ids[0], 5);
    assert_int_equal(config.eos_ids[1], 6);

    d = defaults_of("{\"top_k\":-1,\"eos_token_id\":null}", &config);
    assert_true(d.has_top_k && d.top_k == 0);
    assert_int_equal(config.eos_count, 1);
}

static void test_only_an_explicit_do_sample_false_is_greedy(void **state)
{
    (void)state;
    model_config config;
    assert_true(defaults_of("{\"do_sample\":false,\"temperature\":0.6}", &config).greedy);
    assert_false(defaults_of("{\"do_sample\":true}", &config).greedy);
    assert_false(defaults_of("{\"temperature\":0.6}", &config).greedy);
    assert_false(defaults_of("{}", &config).greedy);
}

static void test_wrong_defaults_are_refused_by_name(void **state)
{
    (void)state;
    static const refusal cases[] = {
        {"{\"temperature\":-0.1}", INVALID,
         "generation_config.json: temperature: expected a number from 0 to 100, found -0.1"},
        {"{\"temperature\":101}", INVALID, "temperature"},
        {"{\"top_p\":0}", INVALID, "top_p: expected a number"},
        {"{\"top_p\":1.5}", INVALID, "top_p: expected a number"},
        {"{\"top_k\":-2}", INVALID, "top_k: expected an integer"},
        {"{\"top_k\":1.5}", INVALID, "top_k: expected an integer"},
        {"{\"min_p\":2}", INVALID, "min_p: expected a number from 0 to 1, found 2"},
        {"{\"repetition_penalty\":0}", INVALID, "repetition_penalty: expected a number"},
        {"{\"do_sample\":\"no\"}", INVALID, "do_sample: expected true or false, found \"no\""},
        {"{\"eos_token_id\":5000}", INVALID, "generation_config.json: eos_token_id: expected"},
    };
    ASSERT_REFUSALS(cases, true);
}

/* -- files --------------------------------------------------------------------------------------
 */

static void test_a_folder_without_config_is_not_found(void **state)
{
    (void)state;
    model_config config;
    generation_defaults defaults;
    error err = {0};
    assert_int_equal(model_config_load(&config, &defaults, "/nonexistent", &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nonexistent/config.json"));
    char long_path[PATH_MAX + 8];
    memset(long_path, 'a', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    assert_int_equal(model_config_load(&config, &defaults, long_path, &err), ST_INVALID_ARGUMENT);
}

static void test_stories260k_config_is_read(void **state)
{
    (void)state;
    const char *shared = getenv("GAGGLE_SHARED_DATA");
    char dir[PATH_MAX];
    model_config c;
    generation_defaults defaults;
    error err = {0};
    snprintf(dir, sizeof dir, "%s/weights/stories260K/hf", shared != NULL ? shared : "");
    status st = model_config_load(&c, &defaults, dir, &err);
    if (st == ST_NOT_FOUND) {
        print_message("skipped: no %s\n", dir);
        skip();
    }
    if (st != ST_OK) fail_msg("%s", err.text);
    assert_int_equal(c.hidden_size, 64);
    assert_int_equal(c.layer_count, 5);
    assert_int_equal(c.vocab_size, 512);
    assert_true(c.tie_embeddings);
    assert_int_equal(c.eos_ids[0], 2);
    assert_false(defaults.greedy);
}

/* The archive's configs: a Llama 3.2 fine-tune (quantised), a SmolLM
 * fine-tune (a classifier) and a GPT-2, each refused for that; the first two are read once it is
 * edited out. Unpacked where `tar` is. */
static json_t *archived_config(const char *name)
{
    const char *shared = getenv("GAGGLE_SHARED_DATA");
    const char *scratch = getenv("GAGGLE_TEST_TMP");
    char command[2 * PATH_MAX];
    char path[PATH_MAX];
    json_t *root = NULL;
    if (shared == NULL || scratch == NULL) return NULL;
    snprintf(path, sizeof path, "%s/tokenizers/%s/config.json", scratch, name);
    if (access(path, R_OK) != 0) {
        snprintf(command, sizeof command,
                 "tar -xJf '%s/tokenizers.tar.xz' -C '%s' tokenizers/llama3/config.json "
                 "tokenizers/smollm/config.json tokenizers/gpt2/config.json 2>/dev/null",
                 shared, scratch);
        if (system(command) != 0) return NULL;
    }
    return json_load_path(&root, path, LIMIT_CONFIG_FILE_BYTES, NULL) == ST_OK ? root : NULL;
}

static status parse_tree(const json_t *root, model_config *config, error *err)
{
    generation_defaults defaults;
    char *text = json_dumps(root, 0);
    status st = model_config_parse(config, &defaults, text, strlen(text), NULL, 0, err);
    free(text);
    return st;
}

static void test_published_configs_are_judged(void **state)
{
    (void)state;
    model_config c;
    error err = {0};
    json_t *root = archived_config("llama3");
    if (root == NULL) {
        print_message("skipped: no tokenizers.tar.xz in GAGGLE_SHARED_DATA\n");
        skip();
    }
    assert_int_equal(parse_tree(root, &c, &err), ST_UNIMPLEMENTED);
    assert_non_null(strstr(err.text, "quantization_config"));
    json_object_del(root, "quantization_config");
    assert_int_equal(parse_tree(root, &c, &err), ST_OK);
    assert_int_equal(c.rope[0].scaling, ROPE_SCALING_LLAMA3);
    assert_true(c.rope[0].factor == 32.0);
    assert_int_equal(c.head_dim, 64);
    assert_int_equal(c.kv_head_count, 8);
    assert_int_equal(c.vocab_size, 128256);
    assert_int_equal(model_config_parameters(&c), 1235814400); /* "1B": 1.24 billion */
    json_decref(root);

    root = archived_config("smollm");
    assert_non_null(root);
    assert_int_equal(parse_tree(root, &c, &err), ST_UNIMPLEMENTED);
    assert_non_null(strstr(err.text, "LlamaForSequenceClassification"));
    json_object_set_new(root, "architectures", json_pack("[s]", "LlamaForCausalLM"));
    assert_int_equal(parse_tree(root, &c, &err), ST_OK);
    assert_int_equal(model_config_parameters(&c), 134515584); /* "135M" and one token more */
    assert_int_equal(c.head_dim, 64);
    assert_int_equal(c.head_count, 9);
    assert_int_equal(c.kv_head_count, 3);
    json_decref(root);

    root = archived_config("gpt2");
    assert_non_null(root);
    assert_int_equal(parse_tree(root, &c, &err), ST_UNIMPLEMENTED);
    assert_non_null(strstr(err.text, "GPT2LMHeadModel"));
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_of_a_llama_are_read),
        cmocka_unit_test(test_absent_fields_mean_what_transformers_takes_them_for),
        cmocka_unit_test(test_biases_follow_the_family),
        cmocka_unit_test(test_head_dim_may_differ_from_hidden_over_heads),
        cmocka_unit_test(test_eos_may_be_one_id_a_list_or_none),
        cmocka_unit_test(test_rope_is_read_in_every_spelling),
        cmocka_unit_test(test_parameters_and_kv_are_counted),
        cmocka_unit_test(test_wrong_numbers_are_refused_by_name),
        cmocka_unit_test(test_what_no_backend_runs_is_refused_with_what_one_does),
        cmocka_unit_test(test_wrong_rope_numbers_are_refused_by_name),
        cmocka_unit_test(test_text_that_is_no_json_object_is_refused),
        cmocka_unit_test(test_defaults_without_a_file_are_neutral),
        cmocka_unit_test(test_defaults_are_read_and_eos_ids_replaced),
        cmocka_unit_test(test_only_an_explicit_do_sample_false_is_greedy),
        cmocka_unit_test(test_wrong_defaults_are_refused_by_name),
        cmocka_unit_test(test_a_folder_without_config_is_not_found),
        cmocka_unit_test(test_stories260k_config_is_read),
        cmocka_unit_test(test_published_configs_are_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
