/* bench_engine: what a step costs beside the backend, and what a draw costs.
 *
 * The engine with a backend that does nothing: scheduling, planning, detokenizing, matching stops
 * and giving out, per step, by batch size; the budget is 20 us at batch 64, which is 5 % of a step
 * of a 0.6B model on an H200. Then one draw from 131,072 logits by kind. Best of five runs. */
#include <stdio.h>
#include <stdlib.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/mem.h"
#include "tests/unit/worker/engine/fake_backend.h"
#include "tests/unit/worker/engine/fixture.h"
#include "tests/unit/worker/engine/test_random.h"

static void count_bytes(void *ctx, const engine_output *output)
{
    *(uint64_t *)ctx += output->text_size;
}

static double step_us(uint32_t batch, bool with_stop)
{
    enum { PROMPT = 100, ANSWER = 900 };
    fake_backend_options fake = {
        .kv_blocks = (batch + 1) * 64,
        .step_tokens = 8192,
        .step_sequences = 512,
        .vocab = FIXTURE_VOCAB,
        .vocab_used = FIXTURE_USED,
        .cheap = true,
    };
    model m = fixture_model(1024);
    tokenizer *t = fixture_tokenizer();
    backend *b = fake_backend_create(&fake);
    engine_options options = engine_options_default();
    engine *e;
    error err;
    uint64_t bytes = 0;
    CHECK(engine_create(&e, b, &m, t, &options, count_bytes, &bytes, &err) == ST_OK);
    for (uint32_t key = 0; key < batch; key++) {
        uint32_t ids[PROMPT];
        for (uint32_t i = 0; i < PROMPT; i++)
            ids[i] = (key * 31 + i) % 256;
        engine_request *q = fixture_request(key, ids, PROMPT, ANSWER);
        if (with_stop) fixture_add_stop(q, "\n\nUser:");
        CHECK(engine_submit(e, q, 0, &err) == ST_OK);
    }
    while (engine_get_stats(e).output_tokens < 2 * (uint64_t)batch) /* all prefilled */
        CHECK(engine_step(e, 1, &err));
    enum { STEPS = 800 };
    uint64_t begin = clock_now_ns();
    for (int i = 0; i < STEPS; i++)
        CHECK(engine_step(e, 1, &err));
    uint64_t end = clock_now_ns();
    CHECK(engine_get_stats(e).last_step_sequences == batch && bytes > 0);
    engine_destroy(e);
    backend_destroy(b);
    tokenizer_destroy(t);
    return (double)(end - begin) / STEPS / 1000.0;
}

static double draw_us(const sampling_params *p)
{
    enum { VOCAB = 131072, DRAWS = 50 };
    sampler *s = sampler_create(VOCAB);
    float *logits = mem_alloc(VOCAB * sizeof *logits), *row = mem_alloc(VOCAB * sizeof *row);
    test_random r = {1};
    for (uint32_t i = 0; i < VOCAB; i++) /* a head's logits: bell-shaped, a few far out */
        logits[i] = (random_unit(&r) + random_unit(&r) + random_unit(&r) - 1.5f) * 6.0f +
                    (i % 10000 == 7 ? 12.0f : 0.0f);
    uint32_t ids[1000];
    for (uint32_t i = 0; i < 1000; i++)
        ids[i] = random_below(&r, VOCAB);
    sampling_context c = {.ids = ids, .prompt_count = 500, .id_count = 1000};
    uint64_t spent = 0;
    for (int i = 0; i < DRAWS; i++) {
        for (uint32_t k = 0; k < VOCAB; k++)
            row[k] = logits[k];
        sampled_token token;
        uint64_t begin = clock_now_ns();
        CHECK(sampler_draw(s, row, VOCAB, p, &c, &token) == ST_OK);
        spent += clock_now_ns() - begin;
    }
    mem_free(logits);
    mem_free(row);
    sampler_destroy(s);
    return (double)spent / DRAWS / 1000.0;
}

int main(void)
{
    static const uint32_t batches[] = {1, 16, 64, 256};
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        double plain = 1e9, stops = 1e9;
        for (int run = 0; run < 5; run++) {
            double a = step_us(batches[i], false), b = step_us(batches[i], true);
            plain = a < plain ? a : plain;
            stops = b < stops ? b : stops;
        }
        printf("step, batch %3u: %7.2f us, with a stop string %7.2f us\n", batches[i], plain,
               stops);
    }
    sampling_params greedy = sampling_params_default(), plain = greedy, usual = greedy;
    greedy.temperature = 0;
    usual.temperature = 0.7f;
    usual.top_k = 20;
    usual.top_p = 0.9f;
    usual.repetition_penalty = 1.05f;
    sampling_params wide = usual;
    wide.top_k = 0;
    sampling_params logprobs = greedy;
    logprobs.logprobs = 20;
    const struct {
        const char *name;
        const sampling_params *params;
    } draws[] = {{"greedy", &greedy},
                 {"greedy, 20 logprobs", &logprobs},
                 {"temperature 1", &plain},
                 {"temperature, top-k 20, top-p, repetition", &usual},
                 {"temperature, top-p, repetition", &wide}};
    for (size_t i = 0; i < sizeof draws / sizeof draws[0]; i++) {
        double best = 1e9;
        for (int run = 0; run < 5; run++) {
            double us = draw_us(draws[i].params);
            best = us < best ? us : best;
        }
        printf("draw of 131072, %s: %.0f us\n", draws[i].name, best);
    }
    return 0;
}
