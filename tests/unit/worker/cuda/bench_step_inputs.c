/* bench_step_inputs: what turning a plan into the arrays that kernels read costs of the CPU, a
 * step.
 *
 * Decode steps of N sequences with `keys` keys each, as they follow each other; each writes and
 * copies the same bytes as on a device, but the copy is the emulation's: a memcpy here, so figures
 * are a little above what they are there. Processor time of this thread, the best of several runs;
 * prints the lines of gaggle-bench-scheduler's CSV. */
#include <stdio.h>
#include <time.h>

#include "common/check.h"
#include "common/mem.h"
#include "worker/cuda/step_inputs.h"

enum { SEQUENCES_MAX = 256, CONTEXT = 8192, STEPS = 400, RUNS = 9, ANSWER = 64 };

#define BUDGET_US_64 20.0

static double thread_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

typedef struct bench {
    gpu gpu;
    step_inputs *inputs;
    step_sequence sequences[SEQUENCES_MAX];
    uint32_t tokens[SEQUENCES_MAX];
    uint32_t *blocks; /* [SEQUENCES_MAX][CONTEXT / LIMIT_KV_BLOCK_TOKENS] */
    sampling_params sampling;
} bench;

static void prepare(bench *b)
{
    error err = {0};
    if (gpu_open(&b->gpu, 0, 0, &err) != ST_OK) UNREACHABLE("an emulated device opens");
    const step_inputs_options options = {.step_tokens = 4096,
                                         .step_sequences = SEQUENCES_MAX,
                                         .context_max = CONTEXT,
                                         .kv_blocks = SEQUENCES_MAX * CONTEXT / 16,
                                         .window_count = 1,
                                         .tile_tokens = 64,
                                         .items_wanted = 132,
                                         .device_slots = 3 * SEQUENCES_MAX};
    CHECK(step_inputs_create(&b->inputs, &b->gpu, &options, &err) == ST_OK);
    const uint32_t blocks_each = CONTEXT / LIMIT_KV_BLOCK_TOKENS;
    b->blocks = mem_alloc(SEQUENCES_MAX * blocks_each * sizeof *b->blocks);
    for (uint32_t i = 0; i < SEQUENCES_MAX * blocks_each; i++)
        b->blocks[i] = i * 2654435761u % (SEQUENCES_MAX * blocks_each);
    b->sampling = sampling_params_default();
    for (uint32_t i = 0; i < SEQUENCES_MAX; i++)
        b->sequences[i] = (step_sequence){.token_begin = i,
                                          .token_count = 1,
                                          .blocks = b->blocks + i * blocks_each,
                                          .block_count = blocks_each,
                                          .wants_sample = true,
                                          .key = i,
                                          .slot = i,
                                          .sampling = &b->sampling};
}

/* Microseconds a step. */
static double run(bench *b, uint32_t count, uint32_t keys)
{
    static counts_load loads[SEQUENCES_MAX];
    double begin_us = 0;
    for (uint32_t step = 0; step < 2 * STEPS; step++) {
        if (step == STEPS) begin_us = thread_us();
        for (uint32_t i = 0; i < count; i++) {
            b->tokens[i] = STEP_TOKEN_PENDING;
            b->sequences[i].position = keys + step % ANSWER;
            b->sequences[i].context.id_count = keys + step % ANSWER + 1;
        }
        const step_plan plan = {b->tokens, count, b->sequences, count};
        step_view view;
        uint32_t load_count;
        error err;
        CHECK(step_inputs_send(b->inputs, &plan, count, step % 2, NULL, NULL, step + 1, &view,
                               loads, &load_count, &err) == ST_OK);
    }
    return (thread_us() - begin_us) / STEPS;
}

int main(void)
{
    static bench b;
    prepare(&b);
    static const uint32_t counts[] = {64, 256}, keys[] = {512, 4096};
    printf("work,figure,unit,ceiling,ratio\n");
    for (size_t c = 0; c < 2; c++)
        for (size_t k = 0; k < 2; k++) {
            double best = run(&b, counts[c], keys[k]);
            for (int i = 1; i < RUNS; i++) {
                double us = run(&b, counts[c], keys[k]);
                if (us < best) best = us;
            }
            double budget = BUDGET_US_64 * counts[c] / 64;
            printf("step_inputs_%ux%u,%.2f,us/step,%.0f,%.3f\n", counts[c], keys[k], best, budget,
                   best / budget);
        }
    step_inputs_destroy(b.inputs);
    gpu_close(&b.gpu);
    mem_free(b.blocks);
    return 0;
}
