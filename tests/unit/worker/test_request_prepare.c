/* Goal: a Submit becomes the engine's request with the model's defaults, or a sentence that names
 * field, limit and value.
 * Method: the fixture's tokenizer and hand-made Submits; one wrong Submit for each rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "tests/unit/worker/engine/fixture.h"
#include "worker/request_prepare.h"

typedef struct rig {
    model model;
    request_context context;
} rig;

static void open_rig(rig *g, const char *template_source)
{
    g->model = fixture_model(100);
    g->context =
        (request_context){.model = &g->model, .tokenizer = fixture_tokenizer(), .context_max = 100};
    if (template_source == NULL) return;
    error err;
    chat_template *t;
    if (chat_template_parse(&t, template_source, strlen(template_source), &err) != ST_OK)
        fail_msg("%s", err.text);
    g->context.chat_template = t;
}

static void close_rig(rig *g)
{
    tokenizer_destroy((tokenizer *)g->context.tokenizer);
    chat_template_destroy((chat_template *)g->context.chat_template);
}

static msg_submit submit_text(const char *text)
{
    return (msg_submit){.has_text = true, .text = text_of(text), .logprobs = LOGPROBS_NONE};
}

static engine_request *prepare(rig *g, const msg_submit *submit)
{
    engine_request *r = NULL;
    error err;
    if (request_prepare(&r, &g->context, submit, 0, &err) != ST_OK) fail_msg("%s", err.text);
    return r;
}

static void expect_refusal(rig *g, const msg_submit *submit, const char *text)
{
    engine_request *r = NULL;
    error err = {0};
    assert_int_equal(request_prepare(&r, &g->context, submit, 0, &err), ST_INVALID_ARGUMENT);
    assert_string_equal(err.text, text);
    assert_null(r);
}

static void test_text_is_tokenized_with_its_special_tokens(void **state)
{
    (void)state;
    rig g;
    open_rig(&g, NULL);
    msg_submit s = submit_text("x<eos>y");
    s.raw = true;
    engine_request *r = prepare(&g, &s);
    assert_int_equal(r->prompt_count, 3);
    assert_memory_equal(r->prompt, ((const uint32_t[]){'x', FIXTURE_EOS, 'y'}), 12);
    assert_int_equal(r->max_tokens, 97); /* what the context leaves */
    engine_request_destroy(r);
    close_rig(&g);
}

static void test_messages_are_rendered_by_the_template(void **state)
{
    (void)state;
    rig g;
    open_rig(&g, "<bos>{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"
                 "{% if add_generation_prompt %}>{% endif %}");
    msg_chat_message messages[] = {{text_of("u"), text_of("hi")}, {text_of("s"), {NULL, 0}}};
    msg_submit s = {.messages = messages, .message_count = 2, .logprobs = LOGPROBS_NONE};
    engine_request *r = prepare(&g, &s);
    const uint32_t expected[] = {FIXTURE_BOS, 'u', ':', 'h', 'i', ';', 's', ':', ';', '>'};
    assert_int_equal(r->prompt_count, sizeof expected / 4);
    assert_memory_equal(r->prompt, expected, sizeof expected);
    engine_request_destroy(r);
    close_rig(&g);
    open_rig(&g, NULL);
    expect_refusal(&g, &s, "the model has no chat template, so it takes no messages; send text");
    close_rig(&g);
    open_rig(&g, "{{ raise_exception('roles must alternate') }}");
    expect_refusal(&g, &s, "roles must alternate");
    close_rig(&g);
}

static void test_defaults_are_the_requests_then_the_models_then_neutral(void **state)
{
    (void)state;
    rig g;
    open_rig(&g, NULL);
    msg_submit s = submit_text("a");
    engine_request *r = prepare(&g, &s);
    assert_true(r->sampling.temperature == 1.0f && r->sampling.top_p == 1.0f);
    assert_int_equal(r->sampling.logprobs, LOGPROBS_OFF);
    uint64_t seed = r->sampling.seed;
    engine_request_destroy(r);
    r = prepare(&g, &s);
    assert_true(r->sampling.seed != seed); /* chosen at random */
    engine_request_destroy(r);

    g.model.defaults = (generation_defaults){.has_temperature = true,
                                             .temperature = 0.6f,
                                             .has_top_k = true,
                                             .top_k = 20,
                                             .has_top_p = true,
                                             .top_p = 0.95f,
                                             .has_min_p = true,
                                             .min_p = 0.05f,
                                             .has_repetition_penalty = true,
                                             .repetition_penalty = 1.05f};
    s.sampling = (msg_sampling){.has_top_k = true, .top_k = 7, .has_seed = true, .seed = 99};
    s.logprobs = 0;
    r = prepare(&g, &s);
    assert_true(r->sampling.temperature == 0.6f && r->sampling.top_p == 0.95f);
    assert_true(r->sampling.min_p == 0.05f && r->sampling.repetition_penalty == 1.05f);
    assert_int_equal(r->sampling.top_k, 7);
    assert_int_equal(r->sampling.seed, 99);
    assert_int_equal(r->sampling.logprobs, 0);
    engine_request_destroy(r);

    g.model.defaults.greedy = true;
    r = prepare(&g, &s);
    assert_true(r->sampling.temperature == 0.0f);
    engine_request_destroy(r);
    s.sampling.has_temperature = true;
    s.sampling.temperature = 0.3f;
    r = prepare(&g, &s);
    assert_true(r->sampling.temperature == 0.3f);
    engine_request_destroy(r);
    close_rig(&g);
}

static void test_everything_else_is_copied(void **state)
{
    (void)state;
    rig g;
    open_rig(&g, NULL);
    uint32_t ids[] = {1, 2, 3}, stop_ids[] = {5, 6}, prior[] = {7, 8}, bias_ids[] = {9};
    float bias[] = {-1};
    text_view stops[] = {text_of("ab"), text_of("c")};
    msg_submit s = {.ids = ids,
                    .id_count = 3,
                    .stop = stops,
                    .stop_count = 2,
                    .stop_ids = stop_ids,
                    .stop_id_count = 2,
                    .prior_ids = prior,
                    .prior_count = 2,
                    .max_tokens = 97,
                    .min_tokens = 4,
                    .ignore_eos = true,
                    .logprobs = 20,
                    .cache_salt = text_of("sixteen letters!"),
                    .sampling = {.bias_ids = bias_ids, .bias = bias, .bias_count = 1}};
    engine_request *r = prepare(&g, &s);
    memset(ids, 0xFF, sizeof ids);
    memset(prior, 0xFF, sizeof prior);
    memset(stop_ids, 0xFF, sizeof stop_ids);
    memset(bias_ids, 0xFF, sizeof bias_ids);
    assert_memory_equal(r->prompt, ((const uint32_t[]){1, 2, 3}), 12);
    assert_memory_equal(r->prior, ((const uint32_t[]){7, 8}), 8);
    assert_memory_equal(r->stop_ids, ((const uint32_t[]){5, 6}), 8);
    assert_int_equal(r->sampling.bias_ids[0], 9);
    assert_true(r->sampling.bias[0] == -1.0f);
    assert_int_equal(r->stop_count, 2);
    assert_string_equal(r->stop[0], "ab");
    assert_int_equal(r->stop_sizes[1], 1);
    assert_int_equal(r->max_tokens, 97);
    assert_int_equal(r->min_tokens, 4);
    assert_true(r->ignore_eos);
    assert_memory_equal(r->cache_salt.bytes, "sixteen letters!", 16);
    assert_int_equal(r->prior_count, 2);
    assert_int_equal(r->key, 0);
    engine_request_destroy(r);
    close_rig(&g);
}

static void test_refusals_name_field_limit_and_value(void **state)
{
    (void)state;
    rig g;
    open_rig(&g, NULL);
    uint32_t many[200] = {0}, unknown[] = {1, FIXTURE_USED};
    char long_stop[300];
    memset(long_stop, 'x', sizeof long_stop);
    msg_submit good = {.ids = many, .id_count = 10, .logprobs = LOGPROBS_NONE}, s;

    s = submit_text("");
    expect_refusal(&g, &s, "the prompt is empty; at least 1 token is needed");
    s = good;
    s.id_count = 100;
    expect_refusal(&g, &s,
                   "the prompt has 100 tokens; it must leave room for an answer in a context of "
                   "100");
    s = good;
    s.ids = unknown;
    s.id_count = 2;
    expect_refusal(&g, &s, "ids[1] is 267; the model has ids below 267");
    s = good;
    s.max_tokens = 91;
    expect_refusal(&g, &s,
                   "max_tokens is 91; the prompt has 10 tokens, which leaves 90 of a context of "
                   "100");
    s = good;
    s.max_tokens = 5;
    s.min_tokens = 6;
    expect_refusal(&g, &s, "min_tokens is 6; it must be at most max_tokens, which is 5");
    s = good;
    s.max_tokens = 5;
    s.prior_ids = many;
    s.prior_count = 6;
    expect_refusal(&g, &s, "prior_ids has 6 tokens; max_tokens is 5");
    s = good;
    s.prior_ids = unknown;
    s.prior_count = 2;
    expect_refusal(&g, &s, "prior_ids[1] is 267; the model has ids below 267");
    s = good;
    s.stop_ids = unknown;
    s.stop_id_count = 2;
    expect_refusal(&g, &s, "stop_ids[1] is 267; the model has ids below 267");
    s = good;
    s.stop_ids = many;
    s.stop_id_count = 65;
    expect_refusal(&g, &s, "stop_ids has 65 entries; the limit is 64");
    text_view stops[17];
    for (size_t i = 0; i < 17; i++)
        stops[i] = text_of("x");
    s = good;
    s.stop = stops;
    s.stop_count = 17;
    expect_refusal(&g, &s, "stop has 17 strings; the limit is 16");
    stops[1] = (text_view){long_stop, 257};
    s.stop_count = 2;
    expect_refusal(&g, &s, "stop[1] has 257 bytes; it must have between 1 and 256");
    stops[1].size = 0;
    expect_refusal(&g, &s, "stop[1] has 0 bytes; it must have between 1 and 256");
    s = good;
    s.sampling = (msg_sampling){.has_top_p = true, .top_p = 1.5f};
    expect_refusal(&g, &s, "top_p is 1.5; it must be above 0 and at most 1");
    s = good;
    s.cache_salt = text_of("a client's own");
    expect_refusal(&g, &s, "cache_salt has 14 bytes; it must have 16");
    s = good;
    s.logprobs = 21;
    expect_refusal(&g, &s, "logprobs is 21; it must be at most 20");
    close_rig(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_tokenized_with_its_special_tokens),
        cmocka_unit_test(test_messages_are_rendered_by_the_template),
        cmocka_unit_test(test_defaults_are_the_requests_then_the_models_then_neutral),
        cmocka_unit_test(test_everything_else_is_copied),
        cmocka_unit_test(test_refusals_name_field_limit_and_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
