/* bench_sampling: what one draw from 131,072 logits costs the CPU, by kind. Best of five runs. */
#include <stdio.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/mem.h"
#include "tests/unit/worker/engine/test_random.h"
#include "worker/engine/sampling.h"

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
