/* Goal: a sequence's logits are the same bits whatever runs beside it, however it is cut into
 * chunks, wherever its blocks lie, whoever computes it: the promise that lets an answer continue
 * on another worker.
 *
 * Method: every position's logits once, the plainest way: alone, one token a step, one thread, the
 * best instruction set. Then the same sequences in random chunks and random company, for each
 * instruction set and several thread counts, with scattered blocks and a KV memory full of NaN;
 * every logit that comes out is compared with memcmp. Lengths cross a part of attention. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "tests/unit/worker/cpu/random_model.h"

#define SEQUENCES   5u
#define STEP_TOKENS 96u

static const uint32_t lengths[SEQUENCES] = {1040, 300, 100, 33, 1};
#define LENGTH_MAX 1040u
#define BLOCKS_MAX ((LENGTH_MAX + LIMIT_KV_BLOCK_TOKENS - 1) / LIMIT_KV_BLOCK_TOKENS)

typedef struct fixture {
    const model *m;
    uint32_t ids[SEQUENCES][LENGTH_MAX];
    float *expected[SEQUENCES]; /* [length][vocab] */
} fixture;

static uint32_t blocks_of(uint32_t length)
{
    return (length + LIMIT_KV_BLOCK_TOKENS - 1) / LIMIT_KV_BLOCK_TOKENS;
}

static void fixture_init(fixture *f, const model *m)
{
    test_random random = {7};
    size_t kernel_count;
    f->m = m;
    uint32_t vocab = m->config.vocab_size;
    uint32_t blocks[BLOCKS_MAX];
    for (uint32_t i = 0; i < BLOCKS_MAX; i++)
        blocks[i] = i;
    backend *b = test_backend_create(m, cpu_kernels_available(&kernel_count)[0], 1, BLOCKS_MAX, 16);
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        f->expected[s] = mem_calloc((size_t)lengths[s] * vocab, sizeof(float));
        for (uint32_t i = 0; i < lengths[s]; i++) {
            f->ids[s][i] = random_below(&random, vocab);
            run_tokens_alone(b, &f->ids[s][i], 1, i, blocks, BLOCKS_MAX,
                             f->expected[s] + (size_t)i * vocab);
        }
    }
    backend_destroy(b);
}

static void fixture_fini(fixture *f)
{
    for (uint32_t s = 0; s < SEQUENCES; s++)
        mem_free(f->expected[s]);
}

/* Deal all blocks out at random. */
static void scatter_blocks(test_random *random, uint32_t blocks[SEQUENCES][BLOCKS_MAX],
                           uint32_t total)
{
    uint32_t *order = mem_calloc(total, sizeof *order);
    for (uint32_t i = 0; i < total; i++) {
        uint32_t k = random_below(random, i + 1);
        order[i] = order[k];
        order[k] = i;
    }
    uint32_t next = 0;
    for (uint32_t s = 0; s < SEQUENCES; s++)
        for (uint32_t i = 0; i < blocks_of(lengths[s]); i++)
            blocks[s][i] = order[next++];
    mem_free(order);
}

typedef struct run_state {
    uint32_t blocks[SEQUENCES][BLOCKS_MAX];
    uint32_t done[SEQUENCES];
    float *logits; /* [SEQUENCES][vocab] */
} run_state;

/* One step of some of the sequences, in any order, each some tokens further. */
static uint32_t random_step(const fixture *f, run_state *run, backend *b, test_random *random)
{
    uint32_t vocab = f->m->config.vocab_size;
    uint32_t tokens[STEP_TOKENS];
    step_sequence sequences[SEQUENCES];
    uint32_t members[SEQUENCES];
    step_plan plan = {.tokens = tokens, .sequences = sequences};
    uint32_t first = random_below(random, SEQUENCES);
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        uint32_t s = (first + i) % SEQUENCES;
        uint32_t left = lengths[s] - run->done[s];
        uint32_t room = STEP_TOKENS - plan.token_count;
        if (left == 0 || room == 0 || random_below(random, 4) == 0) continue;
        uint32_t count = random_below(random, 3) == 0 ? 1 : 1 + random_below(random, STEP_TOKENS);
        if (count > left) count = left;
        if (count > room) count = room;
        memcpy(tokens + plan.token_count, f->ids[s] + run->done[s], count * sizeof tokens[0]);
        members[plan.sequence_count] = s;
        sequences[plan.sequence_count++] = (step_sequence){
            .token_begin = plan.token_count,
            .token_count = count,
            .position = run->done[s],
            .blocks = run->blocks[s],
            .block_count = blocks_of(lengths[s]),
            .logits_out = random_below(random, 5) == 0 ? NULL : run->logits + (size_t)s * vocab,
        };
        plan.token_count += count;
    }
    if (plan.sequence_count == 0) return 0;
    error err = {0};
    assert_int_equal(backend_step(b, &plan, NULL, &err), ST_OK);
    uint32_t compared = 0;
    for (uint32_t i = 0; i < plan.sequence_count; i++) {
        uint32_t s = members[i];
        run->done[s] += sequences[i].token_count;
        if (sequences[i].logits_out == NULL) continue;
        const float *want = f->expected[s] + (size_t)(run->done[s] - 1) * vocab;
        if (memcmp(want, sequences[i].logits_out, vocab * sizeof(float)) != 0)
            fail_msg("%s: sequence %u differs at position %u", b->device, s, run->done[s] - 1);
        compared++;
    }
    return compared;
}

static void check_random_run(const fixture *f, const cpu_kernels *kernels, uint32_t threads,
                             uint64_t seed)
{
    test_random random = {seed};
    uint32_t total = 3, compared = 0;
    for (uint32_t s = 0; s < SEQUENCES; s++)
        total += blocks_of(lengths[s]);
    run_state *run = mem_calloc(1, sizeof *run);
    run->logits = mem_calloc((size_t)SEQUENCES * f->m->config.vocab_size, sizeof(float));
    scatter_blocks(&random, run->blocks, total);
    backend *b = test_backend_create(f->m, kernels, threads, total, STEP_TOKENS);
    /* What an unused place holds must not matter. */
    cpu_backend *cpu = (cpu_backend *)b;
    for (size_t i = 0; i < cpu->kv_bytes / sizeof(float); i++)
        cpu->kv[i] = NAN;
    bool more = true;
    while (more) {
        compared += random_step(f, run, b, &random);
        more = false;
        for (uint32_t s = 0; s < SEQUENCES; s++)
            more = more || run->done[s] < lengths[s];
    }
    assert_true(compared > 10);
    backend_destroy(b);
    mem_free(run->logits);
    mem_free(run);
}

static void check_shape(const model_shape *shape)
{
    model *m = random_model_create(shape, 3);
    fixture *f = mem_calloc(1, sizeof *f);
    fixture_init(f, m);
    size_t kernel_count;
    const cpu_kernels *const *kernels = cpu_kernels_available(&kernel_count);
    for (size_t k = 0; k < kernel_count; k++) {
        check_random_run(f, kernels[k], 3, k);
        /* The portable path may have to emulate the fused multiply-add: one run is enough. */
        if (k + 1 < kernel_count) check_random_run(f, kernels[k], 7, 100 + k);
    }
    fixture_fini(f);
    mem_free(f);
    random_model_destroy(m);
}

static void test_logits_are_the_same_bits_in_any_step_bf16(void **state)
{
    (void)state;
    check_shape(&(model_shape){.name = "grouped",
                               .hidden = 80,
                               .intermediate = 100,
                               .layers = 2,
                               .heads = 6,
                               .kv_heads = 2,
                               .head_dim = 24,
                               .vocab = 150,
                               .type = DTYPE_BF16,
                               .qkv_bias = true,
                               .tied = true});
}

static void test_logits_are_the_same_bits_in_any_step_f16(void **state)
{
    (void)state;
    check_shape(&(model_shape){.name = "one kv head",
                               .hidden = 48,
                               .intermediate = 172,
                               .layers = 1,
                               .heads = 3,
                               .kv_heads = 1,
                               .head_dim = 64,
                               .vocab = 90,
                               .type = DTYPE_F16,
                               .output_bias = true,
                               .mlp_bias = true,
                               .scaling = ROPE_SCALING_LLAMA3});
}

static void test_logits_are_the_same_bits_in_any_step_f32(void **state)
{
    (void)state;
    check_shape(&(model_shape){.name = "no groups",
                               .hidden = 64,
                               .intermediate = 72,
                               .layers = 1,
                               .heads = 4,
                               .kv_heads = 4,
                               .head_dim = 16,
                               .vocab = 70,
                               .type = DTYPE_F32});
}

/* Windows begin inside blocks and parts, so that rows of one tile begin at different ones. */
static void test_logits_are_the_same_bits_in_any_step_with_windows(void **state)
{
    (void)state;
    check_shape(&(model_shape){.name = "windows",
                               .hidden = 48,
                               .intermediate = 40,
                               .layers = 3,
                               .heads = 4,
                               .kv_heads = 2,
                               .head_dim = 16,
                               .vocab = 70,
                               .type = DTYPE_F32,
                               .window = 301,
                               .local_rope = true,
                               .qk_norm = true,
                               .attention_softcap = 2.0f});
}

static void test_logits_are_the_same_bits_in_any_step_with_all_norms(void **state)
{
    (void)state;
    check_shape(&(model_shape){.name = "sandwich",
                               .hidden = 80,
                               .intermediate = 60,
                               .layers = 2,
                               .heads = 3,
                               .kv_heads = 1,
                               .head_dim = 32,
                               .vocab = 90,
                               .type = DTYPE_BF16,
                               .tied = true,
                               .window = 15,
                               .rotary_dim = 24,
                               .sandwich_norms = true,
                               .norm_plus_one = true,
                               .gelu = true,
                               .embedding_scale = 9.0f,
                               .final_softcap = 4.0f});
}

/* The numbers themselves, once: a change of compiler, of flags or of a kernel that moves a bit
 * breaks continuing answers between old and new workers, and must be meant. */
static void test_logits_have_the_bits_they_always_had(void **state)
{
    (void)state;
    static const model_shape shape = {.name = "fixed",
                                      .hidden = 128,
                                      .intermediate = 172,
                                      .layers = 3,
                                      .heads = 6,
                                      .kv_heads = 2,
                                      .head_dim = 24,
                                      .vocab = 300,
                                      .type = DTYPE_BF16,
                                      .qkv_bias = true,
                                      .output_bias = true,
                                      .mlp_bias = true,
                                      .tied = true,
                                      .scaling = ROPE_SCALING_LLAMA3};
    enum { CHUNK = 128, CHUNKS = 7, BLOCKS = CHUNK * CHUNKS / LIMIT_KV_BLOCK_TOKENS };
    uint32_t blocks[BLOCKS], ids[CHUNK];
    for (uint32_t i = 0; i < BLOCKS; i++)
        blocks[i] = i;
    float logits[300];
    size_t kernel_count;
    const cpu_kernels *const *kernels = cpu_kernels_available(&kernel_count);
    model *m = random_model_create(&shape, 1);
    for (size_t k = 0; k < kernel_count; k++) {
        backend *b = test_backend_create(m, kernels[k], 2, BLOCKS, CHUNK);
        uint64_t hash = 14695981039346656037u; /* FNV-1a over words */
        for (uint32_t c = 0; c < CHUNKS; c++) {
            for (uint32_t i = 0; i < CHUNK; i++)
                ids[i] = (c * 131 + i * 17) % 300;
            run_tokens_alone(b, ids, CHUNK, c * CHUNK, blocks, BLOCKS, logits);
            for (uint32_t v = 0; v < 300; v++) {
                uint32_t bits;
                memcpy(&bits, &logits[v], sizeof bits);
                hash = (hash ^ bits) * 1099511628211u;
            }
        }
        if (hash != 0xa99777fbff0f6fb1u)
            fail_msg("%s: the hash is %016llx", b->device, (unsigned long long)hash);
        backend_destroy(b);
    }
    random_model_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_have_the_bits_they_always_had),
        cmocka_unit_test(test_logits_are_the_same_bits_in_any_step_bf16),
        cmocka_unit_test(test_logits_are_the_same_bits_in_any_step_f16),
        cmocka_unit_test(test_logits_are_the_same_bits_in_any_step_f32),
        cmocka_unit_test(test_logits_are_the_same_bits_in_any_step_with_windows),
        cmocka_unit_test(test_logits_are_the_same_bits_in_any_step_with_all_norms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
