/* Goal: one row of logits gives the token that sampling.h promises.
 * Method: known answers for Philox; thousands of random rows and parameters against a naive
 * reference in double with a full sort; a chi-square test of the draw; edge cases by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "tests/unit/worker/engine/test_random.h"
#include "worker/engine/sampling.h"

enum { VOCAB_MAX = 3000 };

/* -- the reference ------------------------------------------------------------------ */

typedef struct reference {
    double logits[VOCAB_MAX];   /* after bias, mask and penalties */
    double logprobs[VOCAB_MAX]; /* of them */
    uint32_t order[VOCAB_MAX];  /* likeliest first */
    double weights[VOCAB_MAX];  /* after truncation, by id; 0 = cut off */
    double total;
    bool near_cut; /* a rounding error could move the end of the truncation */
} reference;

static const double *sort_logits;

static int likelier(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (sort_logits[x] != sort_logits[y]) return sort_logits[x] > sort_logits[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

static void reference_adjust(reference *r, const float *logits, uint32_t vocab,
                             const sampling_params *p, const sampling_context *c)
{
    for (uint32_t i = 0; i < vocab; i++)
        r->logits[i] = (double)logits[i];
    for (uint32_t i = 0; i < p->bias_count; i++)
        if (p->bias_ids[i] < vocab) r->logits[p->bias_ids[i]] += (double)p->bias[i];
    for (uint32_t i = 0; i < c->masked_count; i++)
        if (c->masked_ids[i] < vocab) r->logits[c->masked_ids[i]] = -INFINITY;
    for (uint32_t id = 0; id < vocab; id++) {
        uint32_t seen = 0, answer = 0;
        for (uint32_t i = 0; i < c->id_count; i++) {
            if (c->ids[i] != id) continue;
            seen++;
            if (i >= c->prompt_count) answer++;
        }
        double l = r->logits[id];
        if (seen > 0)
            l = l > 0 ? l / (double)p->repetition_penalty : l * (double)p->repetition_penalty;
        l -= (double)p->frequency_penalty * answer;
        if (answer > 0) l -= (double)p->presence_penalty;
        r->logits[id] = (double)(float)l; /* ties are decided in float */
    }
}

static void reference_truncate(reference *r, uint32_t vocab, const sampling_params *p)
{
    for (uint32_t i = 0; i < vocab; i++)
        r->order[i] = i;
    sort_logits = r->logits;
    qsort(r->order, vocab, sizeof r->order[0], likelier);
    double max = r->logits[r->order[0]], sum = 0;
    for (uint32_t i = 0; i < vocab; i++)
        sum += exp(r->logits[i] - max);
    for (uint32_t i = 0; i < vocab; i++)
        r->logprobs[i] = r->logits[i] - max - log(sum);

    memset(r->weights, 0, sizeof r->weights);
    r->near_cut = false;
    double t = (double)p->temperature, total = 0;
    uint32_t kept = 0;
    for (; kept < vocab; kept++) {
        if (p->top_k > 0 && kept == p->top_k) break;
        double w = exp((r->logits[r->order[kept]] - max) / t);
        if (w < (double)p->min_p * (1 - 1e-5)) break;
        if (p->min_p > 0 && fabs(w - (double)p->min_p) < 1e-5 * (double)p->min_p)
            r->near_cut = true;
        total += w;
    }
    double wanted = (double)p->top_p * total, so_far = 0;
    r->total = 0;
    for (uint32_t i = 0; i < kept && (i == 0 || p->top_p == 1.0f || so_far < wanted); i++) {
        uint32_t id = r->order[i];
        r->weights[id] = exp((r->logits[id] - max) / t);
        so_far += r->weights[id];
        r->total += r->weights[id];
        if (p->top_p < 1.0f && fabs(so_far - wanted) < 1e-5 * total) r->near_cut = true;
    }
}

/* Does `id` own the point that (seed, position) draws, give or take rounding? */
static bool reference_allows(const reference *r, uint32_t vocab, uint64_t random, uint32_t id)
{
    double point = (double)random * 0x1p-64 * r->total, begin = 0;
    for (uint32_t i = 0; i < id && i < vocab; i++)
        begin += r->weights[i];
    double slack = 2e-6 * r->total;
    return r->weights[id] > 0 && point >= begin - slack && point <= begin + r->weights[id] + slack;
}

/* -- against the reference ------------------------------------------------------------ */

static void fill_logits(test_random *r, float *logits, uint32_t vocab)
{
    uint32_t kind = random_below(r, 4);
    float scale = kind == 0 ? 0.1f : kind == 1 ? 3.0f : 12.0f;
    for (uint32_t i = 0; i < vocab; i++) {
        logits[i] = (random_unit(r) + random_unit(r) + random_unit(r) - 1.5f) * scale;
        if (kind == 3) logits[i] = roundf(logits[i]); /* many ties */
    }
}

static void test_draw_agrees_with_full_sort_in_double(void **state)
{
    (void)state;
    sampler *s = sampler_create(VOCAB_MAX);
    reference *ref = mem_alloc(sizeof *ref);
    static float logits[VOCAB_MAX], row[VOCAB_MAX];
    uint32_t near_cuts = 0, rows = 3000;
    for (uint32_t seed = 1; seed <= rows; seed++) {
        test_random r = {seed};
        uint32_t vocab = random_between(&r, 1, random_below(&r, 4) == 0 ? VOCAB_MAX : 60);
        fill_logits(&r, logits, vocab);

        sampling_params p = sampling_params_default();
        p.seed = random_next(&r);
        p.temperature = 0.2f + 2.0f * random_unit(&r);
        if (random_below(&r, 2)) p.top_k = random_between(&r, 1, vocab + 2);
        if (random_below(&r, 2)) p.top_p = 0.01f + 0.98f * random_unit(&r);
        if (random_below(&r, 3) == 0) p.min_p = random_unit(&r) * 0.3f;
        if (random_below(&r, 3) == 0) p.repetition_penalty = 0.5f + 1.5f * random_unit(&r);
        if (random_below(&r, 3) == 0) p.presence_penalty = 4.0f * random_unit(&r) - 2.0f;
        if (random_below(&r, 3) == 0) p.frequency_penalty = 4.0f * random_unit(&r) - 2.0f;
        p.logprobs = random_below(&r, 4) == 0 ? LOGPROBS_OFF : random_below(&r, 21);
        uint32_t bias_ids[3];
        float bias[3];
        while (p.bias_count < 3 && p.bias_count < vocab && random_below(&r, 2)) {
            bias_ids[p.bias_count] = (p.bias_count * 7 + seed) % vocab;
            if (p.bias_count > 0 && bias_ids[p.bias_count] == bias_ids[p.bias_count - 1]) break;
            if (p.bias_count > 1 && bias_ids[p.bias_count] == bias_ids[0]) break;
            bias[p.bias_count++] = 10.0f * random_unit(&r) - 5.0f;
        }
        p.bias_ids = bias_ids;
        p.bias = bias;

        uint32_t ids[50], masked[2];
        sampling_context c = {
            .ids = ids, .id_count = random_between(&r, 1, 50), .masked_ids = masked};
        c.prompt_count = random_between(&r, 1, c.id_count);
        for (uint32_t i = 0; i < c.id_count; i++)
            ids[i] = random_below(&r, vocab);
        if (vocab > 2) c.masked_count = random_below(&r, 3);
        for (uint32_t i = 0; i < c.masked_count; i++)
            masked[i] = random_below(&r, vocab);

        memcpy(row, logits, sizeof row);
        sampled_token token;
        assert_int_equal(sampler_draw(s, row, vocab, &p, &c, &token), ST_OK);

        reference_adjust(ref, logits, vocab, &p, &c);
        reference_truncate(ref, vocab, &p);
        if (ref->near_cut)
            near_cuts++;
        else if (!reference_allows(ref, vocab, sampling_random(p.seed, c.id_count), token.id))
            fail_msg("seed %u: drew %u", seed, token.id);

        if (p.logprobs == LOGPROBS_OFF) {
            assert_true(isnan(token.logprob));
            assert_int_equal(token.top_count, 0);
            continue;
        }
        assert_true(fabs((double)token.logprob - ref->logprobs[token.id]) < 1e-5);
        uint32_t visible = 0;
        for (uint32_t i = 0; i < vocab; i++)
            visible += ref->logits[i] != -INFINITY;
        assert_int_equal(token.top_count, p.logprobs < visible ? p.logprobs : visible);
        for (uint32_t i = 0; i < token.top_count; i++) {
            double expected = ref->logprobs[ref->order[i]];
            assert_true(fabs((double)token.top_logprobs[i] - expected) < 1e-5);
            /* Two logits that round to one float may change places; their values may not. */
            if (i > 0) assert_true(token.top_logprobs[i] <= token.top_logprobs[i - 1]);
        }
    }
    assert_true(near_cuts < rows / 50);
    mem_free(ref);
    sampler_destroy(s);
}

static const sampling_context first_position = {
    .ids = (const uint32_t[]){0}, .prompt_count = 1, .id_count = 1};

static uint32_t draw_once(sampler *s, const float *logits, uint32_t vocab, const sampling_params *p,
                          uint32_t position)
{
    static float row[VOCAB_MAX];
    memcpy(row, logits, vocab * sizeof row[0]);
    static const uint32_t ids[200001];
    sampling_context c = {.ids = ids, .prompt_count = position, .id_count = position};
    sampled_token token;
    assert_int_equal(sampler_draw(s, row, vocab, p, &c, &token), ST_OK);
    return token.id;
}

static void test_draw_follows_the_distribution(void **state)
{
    (void)state;
    enum { VOCAB = 16, DRAWS = 200000 };
    sampler *s = sampler_create(VOCAB);
    for (uint64_t seed = 1; seed <= 4; seed++) {
        float logits[VOCAB];
        double weights[VOCAB], sum = 0;
        for (uint32_t i = 0; i < VOCAB; i++) {
            logits[i] = 0.3f * (float)((i * 7) % VOCAB);
            sum += weights[i] = exp((double)logits[i] / 1.5);
        }
        sampling_params p = sampling_params_default();
        p.temperature = 1.5f;
        p.seed = seed;
        uint32_t seen[VOCAB] = {0};
        for (uint32_t position = 1; position <= DRAWS; position++)
            seen[draw_once(s, logits, VOCAB, &p, position)]++;
        double chi2 = 0;
        for (uint32_t i = 0; i < VOCAB; i++) {
            double expected = DRAWS * weights[i] / sum;
            chi2 += (seen[i] - expected) * (seen[i] - expected) / expected;
        }
        assert_true(chi2 < 44.3); /* 15 degrees of freedom: exceeded once in 10,000 */
        assert_true(chi2 > 1.5);  /* and not too good to be random */
    }
    sampler_destroy(s);
}

/* Neither what was drawn before nor the scratch's state matters; seed and position do. */
static void test_draw_is_a_function_of_seed_and_position(void **state)
{
    (void)state;
    enum { VOCAB = 500 };
    float logits[VOCAB];
    test_random r = {7};
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = random_unit(&r);
    sampling_params p = sampling_params_default();
    p.seed = 0x123456789abcdef;
    p.frequency_penalty = 0.5f;
    p.top_p = 0.9f;
    sampler *used = sampler_create(VOCAB_MAX);
    uint32_t forward[64], same_as_last = 0;
    for (uint32_t i = 0; i < 64; i++)
        forward[i] = draw_once(used, logits, VOCAB, &p, i + 1);
    for (uint32_t i = 64; i-- > 0;) {
        sampler *fresh = sampler_create(VOCAB);
        assert_int_equal(draw_once(fresh, logits, VOCAB, &p, i + 1), forward[i]);
        if (i > 0) same_as_last += forward[i] == forward[i - 1];
        sampler_destroy(fresh);
    }
    assert_true(same_as_last < 10);
    p.seed++;
    uint32_t equal = 0;
    for (uint32_t i = 0; i < 64; i++)
        equal += draw_once(used, logits, VOCAB, &p, i + 1) == forward[i];
    assert_true(equal < 10);
    sampler_destroy(used);
}

/* Vectors of the Random123 distribution, for 10 rounds. */
static void test_philox_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint32_t out[4];
        sampling_philox(vectors[i].key, vectors[i].counter, out);
        assert_memory_equal(out, vectors[i].out, sizeof out);
    }
    assert_true(sampling_random(0, 0) == 0xe169c58d6627e8d5u);
}

static void test_greedy_takes_the_lowest_of_equals(void **state)
{
    (void)state;
    sampler *s = sampler_create(40);
    sampling_params p = sampling_params_default();
    p.temperature = 0;
    float logits[40] = {0};
    logits[5] = -0.0f;
    assert_int_equal(draw_once(s, logits, 40, &p, 1), 0);
    logits[37] = logits[23] = 1.0f;
    assert_int_equal(draw_once(s, logits, 40, &p, 1), 23);
    logits[0] = -INFINITY;
    logits[39] = 5.0f;
    assert_int_equal(draw_once(s, logits, 40, &p, 1), 39);
    assert_int_equal(draw_once(s, logits, 39, &p, 1), 23); /* a padding row */
    sampler_destroy(s);
}

static void test_narrowest_truncation_is_greedy(void **state)
{
    (void)state;
    sampler *s = sampler_create(50);
    for (uint32_t seed = 1; seed <= 200; seed++) {
        test_random r = {seed};
        float logits[50];
        fill_logits(&r, logits, 50);
        sampling_params greedy = sampling_params_default(), p;
        greedy.temperature = 0;
        uint32_t best = draw_once(s, logits, 50, &greedy, seed);
        p = sampling_params_default();
        p.seed = seed;
        p.top_k = 1;
        assert_int_equal(draw_once(s, logits, 50, &p, seed), best);
        p.top_k = 0;
        p.top_p = 1e-6f;
        assert_int_equal(draw_once(s, logits, 50, &p, seed), best);
        p.top_p = 1;
        p.temperature = 1e-30f;
        logits[best] += 0.01f;
        assert_int_equal(draw_once(s, logits, 50, &p, seed), best);
    }
    sampler_destroy(s);
}

/* Of equal logits, truncation keeps the lowest ids. */
static void test_truncation_breaks_ties_by_lowest_id(void **state)
{
    (void)state;
    sampler *s = sampler_create(100);
    float logits[100] = {0};
    sampling_params k = sampling_params_default(), p = k;
    k.top_k = 7;
    p.top_p = 0.0699f;
    bool seen_k[100] = {0}, seen_p[100] = {0};
    for (uint32_t position = 1; position < 500; position++) {
        seen_k[draw_once(s, logits, 100, &k, position)] = true;
        seen_p[draw_once(s, logits, 100, &p, position)] = true;
    }
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(seen_k[i], i < 7);
        assert_int_equal(seen_p[i], i < 7);
    }
    sampler_destroy(s);
}

static void test_broken_logits_are_refused(void **state)
{
    (void)state;
    enum { VOCAB = 37 }; /* not a multiple of any vector */
    sampler *s = sampler_create(VOCAB);
    sampling_params p = sampling_params_default();
    sampled_token token;
    for (uint32_t at = 0; at < VOCAB; at++) {
        float broken[] = {NAN, -NAN, INFINITY};
        for (size_t k = 0; k < 3; k++) {
            float row[VOCAB] = {0};
            row[at] = broken[k];
            p.temperature = at % 2 ? 0.0f : 1.0f;
            assert_int_equal(sampler_draw(s, row, VOCAB, &p, &first_position, &token), ST_INTERNAL);
        }
    }
    float row[VOCAB];
    for (uint32_t i = 0; i < VOCAB; i++)
        row[i] = -INFINITY;
    assert_int_equal(sampler_draw(s, row, VOCAB, &p, &first_position, &token), ST_INTERNAL);
    row[VOCAB - 1] = -3e38f;
    assert_int_equal(sampler_draw(s, row, VOCAB, &p, &first_position, &token), ST_OK);
    assert_int_equal(token.id, VOCAB - 1);
    sampler_destroy(s);
}

/* A request must not be able to make sound logits look broken. */
static void test_extreme_parameters_stay_finite(void **state)
{
    (void)state;
    sampler *s = sampler_create(8);
    uint32_t bias_ids[] = {1, 2};
    float bias[] = {100, -100};
    uint32_t ids[] = {0, 1, 2, 3, 4, 4, 4, 4};
    sampling_context c = {.ids = ids, .prompt_count = 2, .id_count = 8};
    for (uint32_t seed = 0; seed < 200; seed++) {
        test_random r = {seed};
        float row[8];
        for (uint32_t i = 0; i < 8; i++)
            row[i] = (2.0f * random_unit(&r) - 1.0f) * (seed % 2 ? 3.4e38f : 1.0f);
        sampling_params p = sampling_params_default();
        p.seed = seed;
        p.bias_count = 2;
        p.bias_ids = bias_ids;
        p.bias = bias;
        p.repetition_penalty = seed % 3 ? 1e-38f : 100.0f;
        p.frequency_penalty = seed % 5 ? 2.0f : -2.0f;
        p.temperature = seed % 7 == 0 ? 0.0f : seed % 7 == 1 ? 1e-40f : 100.0f;
        p.top_p = seed % 4 ? 1.0f : 1e-40f;
        p.min_p = seed % 11 ? 0.0f : 1.0f;
        p.logprobs = 20;
        sampled_token token;
        assert_int_equal(sampler_draw(s, row, 8, &p, &c, &token), ST_OK);
        assert_true(token.id < 8 && isfinite(token.logprob));
        assert_int_equal(token.top_count, 8);
        for (uint32_t i = 0; i < 8; i++)
            assert_true(isfinite(token.top_logprobs[i]));
    }
    sampler_destroy(s);
}

static void test_masked_tokens_are_never_drawn_or_listed(void **state)
{
    (void)state;
    sampler *s = sampler_create(6);
    uint32_t ids[] = {0, 5}, masked[] = {5, 2};
    sampling_params p = sampling_params_default();
    p.logprobs = 6;
    for (uint32_t seed = 0; seed < 300; seed++) {
        p.seed = seed;
        p.repetition_penalty = seed % 2 ? 1.0f : 1.7f;
        sampling_context c = {
            .ids = ids, .prompt_count = 1, .id_count = 2, .masked_ids = masked, .masked_count = 2};
        float row[6] = {0, 1, 9, 1, 0, 9};
        sampled_token token;
        assert_int_equal(sampler_draw(s, row, 6, &p, &c, &token), ST_OK);
        assert_true(token.id != 2 && token.id != 5);
        assert_int_equal(token.top_count, 4);
        assert_int_equal(token.top_ids[0], 1);
        assert_int_equal(token.top_ids[1], 3);
    }
    sampler_destroy(s);
}

static void test_refusals_name_field_limit_and_value(void **state)
{
    (void)state;
    error err;
    sampling_params p = sampling_params_default();
    assert_int_equal(sampling_params_check(&p, 10, &err), ST_OK);
    struct {
        size_t offset;
        float value;
        const char *text;
    } cases[] = {
        {offsetof(sampling_params, top_p), 1.5f, "top_p is 1.5; it must be above 0 and at most 1"},
        {offsetof(sampling_params, top_p), 0, "top_p is 0; it must be above 0 and at most 1"},
        {offsetof(sampling_params, temperature), -1,
         "temperature is -1; it must be between 0 and 100"},
        {offsetof(sampling_params, temperature), NAN,
         "temperature is nan; it must be between 0 and 100"},
        {offsetof(sampling_params, min_p), 2, "min_p is 2; it must be between 0 and 1"},
        {offsetof(sampling_params, repetition_penalty), 0,
         "repetition_penalty is 0; it must be above 0 and at most 100"},
        {offsetof(sampling_params, presence_penalty), 3,
         "presence_penalty is 3; it must be between -2 and 2"},
        {offsetof(sampling_params, frequency_penalty), -3,
         "frequency_penalty is -3; it must be between -2 and 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        p = sampling_params_default();
        memcpy((char *)&p + cases[i].offset, &cases[i].value, sizeof(float));
        assert_int_equal(sampling_params_check(&p, 10, &err), ST_INVALID_ARGUMENT);
        assert_string_equal(err.text, cases[i].text);
    }
    p = sampling_params_default();
    p.logprobs = 21;
    assert_int_equal(sampling_params_check(&p, 10, &err), ST_INVALID_ARGUMENT);
    assert_string_equal(err.text, "logprobs is 21; it must be at most 20");
    p.logprobs = 20;
    uint32_t ids[] = {3, 10};
    float bias[] = {1, 1};
    p.bias_count = 2;
    p.bias_ids = ids;
    p.bias = bias;
    assert_int_equal(sampling_params_check(&p, 10, &err), ST_INVALID_ARGUMENT);
    assert_string_equal(err.text, "bias_ids[1] is 10; the model has ids below 10");
    ids[1] = 3;
    assert_int_equal(sampling_params_check(&p, 10, &err), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "both 3"));
    ids[1] = 4;
    assert_int_equal(sampling_params_check(&p, 10, &err), ST_OK);
    bias[0] = -101;
    assert_int_equal(sampling_params_check(&p, 10, &err), ST_INVALID_ARGUMENT);
    assert_string_equal(err.text, "bias[0] is -101; it must be between -100 and 100");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_draw_agrees_with_full_sort_in_double),
        cmocka_unit_test(test_draw_follows_the_distribution),
        cmocka_unit_test(test_draw_is_a_function_of_seed_and_position),
        cmocka_unit_test(test_greedy_takes_the_lowest_of_equals),
        cmocka_unit_test(test_narrowest_truncation_is_greedy),
        cmocka_unit_test(test_truncation_breaks_ties_by_lowest_id),
        cmocka_unit_test(test_broken_logits_are_refused),
        cmocka_unit_test(test_extreme_parameters_stay_finite),
        cmocka_unit_test(test_masked_tokens_are_never_drawn_or_listed),
        cmocka_unit_test(test_refusals_name_field_limit_and_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
