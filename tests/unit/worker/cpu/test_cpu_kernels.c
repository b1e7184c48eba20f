/* Goal: each kernel computes its formula, and the same bits with every instruction set.
 * Method: random inputs of every size from 1 to some vectors and of larger odd sizes; the formula
 * in double precision, and memcmp between the tables. Buffers end where the contract says they end,
 * so a sanitizer sees what reads beyond. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "tests/unit/worker/cpu/random_model.h"
#include "worker/cpu/rope_table.h"

#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

static float *random_floats(test_random *random, size_t count, float spread)
{
    float *out = mem_calloc(count, sizeof *out);
    for (size_t i = 0; i < count; i++)
        out[i] = random_spread(random, -spread, spread);
    return out;
}

/* -- matmul -------------------------------------------------------------------- */

/* The formula, with the weight widened by the portable table (tested below). */
static double matmul_element(const matmul *m, const float *matrix, uint32_t token, uint32_t row,
                             float old)
{
    double sum = m->bias != NULL ? (double)m->bias[row] : 0.0;
    for (uint32_t k = 0; k < m->cols; k++)
        sum += (double)m->in[token * m->in_stride + k] * (double)matrix[(size_t)row * m->cols + k];
    return sum + (m->accumulate ? (double)old : 0.0);
}

static void check_matmul(uint32_t tokens, uint32_t rows, uint32_t cols, dtype type, uint64_t seed)
{
    test_random random = {seed};
    size_t table_count;
    const cpu_kernels *const *tables = cpu_kernels_available(&table_count);
    size_t elements = (size_t)rows * cols;
    uint16_t *half = mem_calloc(elements, sizeof *half);
    for (size_t i = 0; i < elements; i++) /* finite numbers of moderate size in both formats */
        half[i] = (uint16_t)((random_next(&random) & 0x83ffu) | 0x3800u);
    float *wide = random_floats(&random, elements, 1.0f);
    const void *matrix = type == DTYPE_F32 ? (const void *)wide : half;
    if (type != DTYPE_F32) tables[table_count - 1]->widen(wide, half, type, elements);

    size_t in_stride = cols + random_below(&random, 3);
    size_t out_stride = rows + random_below(&random, 3);
    float *in = random_floats(&random, (tokens - 1) * in_stride + cols, 1.0f);
    float *bias = random_floats(&random, rows, 1.0f);
    size_t out_count = (tokens - 1) * out_stride + rows;
    float *old = random_floats(&random, out_count, 1.0f);
    float *out = mem_calloc(out_count, sizeof *out);
    float *first = mem_calloc(out_count, sizeof *first);
    matmul m = {.out = out,
                .out_stride = out_stride,
                .in = in,
                .in_stride = in_stride,
                .weight = matrix,
                .type = type,
                .tokens = tokens,
                .rows = rows,
                .cols = cols,
                .bias = seed % 2 == 0 ? bias : NULL,
                .accumulate = seed % 3 == 0};
    for (size_t i = 0; i < table_count; i++) {
        memcpy(out, old, out_count * sizeof *out);
        tables[i]->matmul(&m);
        if (i == 0) memcpy(first, out, out_count * sizeof *out);
        if (memcmp(first, out, out_count * sizeof *out) != 0)
            fail_msg("%s differs for %u x %u x %u", tables[i]->name, tokens, rows, cols);
    }
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t r = 0; r < rows; r++) {
            double want = matmul_element(&m, wide, t, r, old[t * out_stride + r]);
            if (!(fabs(want - (double)out[t * out_stride + r]) < 1e-5 * sqrt(cols)))
                fail_msg("[%u, %u] of %u x %u x %u is %g, not %g", t, r, tokens, rows, cols,
                         (double)out[t * out_stride + r], want);
        }
    /* Alone, each row and token has the same bits. */
    matmul alone = m;
    uint32_t token = random_below(&random, tokens), row = random_below(&random, rows);
    float element = old[token * out_stride + row];
    alone.out = &element;
    alone.in = in + token * in_stride;
    alone.weight = (const uint8_t *)matrix + (size_t)row * cols * dtype_size(type);
    alone.bias = m.bias != NULL ? bias + row : NULL;
    alone.tokens = alone.rows = 1;
    tables[0]->matmul(&alone);
    assert_memory_equal(&element, &first[token * out_stride + row], sizeof element);
    mem_free(first);
    mem_free(out);
    mem_free(old);
    mem_free(bias);
    mem_free(in);
    mem_free(wide);
    mem_free(half);
}

static void test_matmul_is_its_formula_for_all_sizes(void **state)
{
    (void)state;
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    uint64_t seed = 0;
    for (size_t t = 0; t < ARRAY_COUNT(types); t++) {
        for (uint32_t tokens = 1; tokens <= 14; tokens++)
            for (uint32_t rows = 1; rows <= 18; rows++)
                check_matmul(tokens, rows, 1 + (uint32_t)(seed % 50), types[t], seed), seed++;
        check_matmul(1, 67, 1003, types[t], seed++);
        check_matmul(40, 9, 21000, types[t], seed++); /* several blocks of tokens */
    }
}

/* -- attention ----------------------------------------------------------------- */

typedef struct attention_case {
    uint32_t tokens, group, head_dim, position, window;
    float softcap;
} attention_case;

static double attention_element(const attention_part *a, uint32_t row, uint32_t dim)
{
    const float *query =
        a->query + row / a->group * a->query_stride + (size_t)(row % a->group) * a->head_dim;
    double sum = 0.0, out = 0.0;
    uint32_t position = a->position + row / a->group;
    for (uint32_t p = 0; p <= position; p++) {
        if (a->window != 0 && position - p >= a->window) continue;
        const float *block = a->kv + a->blocks[p / 16] * a->block_stride;
        double score = 0.0;
        for (uint32_t d = 0; d < a->head_dim; d++)
            score += (double)query[d] * (double)block[d * 16 + p % 16];
        if (a->softcap > 0) score = (double)a->softcap * tanh(score / (double)a->softcap);
        const float *values = block + a->head_dim * 16;
        sum += exp(score);
        out += exp(score) * (double)values[p % 16 * attention_value_stride(a->head_dim) + dim];
    }
    return out / sum;
}

/* All parts of all rows with one table; the rows' results in out [rows][head_dim]. */
static void attend_all(const cpu_kernels *kernels, attention_part a, float *out)
{
    uint32_t rows = a.tokens * a.group;
    size_t stride = attention_record_stride(a.head_dim);
    float *total = mem_calloc(rows * stride, sizeof *total);
    float *later = mem_calloc(rows * stride, sizeof *later);
    uint32_t last = (a.position + a.tokens - 1) / ATTENTION_PART_TOKENS;
    a.records = later;
    for (a.part = 0; a.part <= last; a.part++) {
        kernels->attention_part(&a);
        for (uint32_t row = 0; row < rows; row++) {
            uint32_t position = a.position + row / a.group;
            uint32_t first = attention_first_seen(position, a.window) / ATTENTION_PART_TOKENS;
            if (a.part == first)
                memcpy(total + row * stride, later + row * stride, stride * sizeof *total);
            else if (a.part > first && a.part <= position / ATTENTION_PART_TOKENS)
                kernels->attention_merge(total + row * stride, later + row * stride, a.head_dim);
        }
    }
    for (uint32_t row = 0; row < rows; row++)
        kernels->attention_finish(out + (size_t)row * a.head_dim, total + row * stride, a.head_dim);
    mem_free(later);
    mem_free(total);
}

static void check_attention(const attention_case *c, uint64_t seed)
{
    test_random random = {seed};
    size_t table_count;
    const cpu_kernels *const *tables = cpu_kernels_available(&table_count);
    uint32_t block_count = (c->position + c->tokens + 15) / 16;
    size_t block_stride = 16 * (c->head_dim + attention_value_stride(c->head_dim));
    float *kv = random_floats(&random, block_count * block_stride, 1.0f);
    for (uint32_t p = c->position + c->tokens; p < block_count * 16; p++) {
        float *block = kv + (block_count - 1 - p / 16) * block_stride;
        for (uint32_t d = 0; d < c->head_dim; d++) {
            block[d * 16 + p % 16] = NAN; /* not written yet: must not be looked at */
            block[c->head_dim * 16 + p % 16 * attention_value_stride(c->head_dim) + d] = NAN;
        }
    }
    uint32_t *blocks = mem_calloc(block_count, sizeof *blocks);
    for (uint32_t i = 0; i < block_count; i++)
        blocks[i] = block_count - 1 - i;
    size_t query_stride = (size_t)c->group * c->head_dim + random_below(&random, 5);
    float *query = random_floats(&random, c->tokens * query_stride, 0.7f);
    uint32_t rows = c->tokens * c->group;
    float *out = mem_calloc((size_t)rows * c->head_dim, sizeof *out);
    float *first = mem_calloc((size_t)rows * c->head_dim, sizeof *first);
    attention_part a = {.query = query,
                        .query_stride = query_stride,
                        .tokens = c->tokens,
                        .group = c->group,
                        .head_dim = c->head_dim,
                        .position = c->position,
                        .window = c->window,
                        .softcap = c->softcap,
                        .blocks = blocks,
                        .kv = kv,
                        .block_stride = block_stride};
    for (size_t i = 0; i < table_count; i++) {
        attend_all(tables[i], a, out);
        if (i == 0) memcpy(first, out, (size_t)rows * c->head_dim * sizeof *out);
        assert_memory_equal(first, out, (size_t)rows * c->head_dim * sizeof *out);
    }
    for (uint32_t row = 0; row < rows; row++)
        for (uint32_t d = 0; d < c->head_dim; d++) {
            double want = attention_element(&a, row, d);
            if (!(fabs(want - (double)out[(size_t)row * c->head_dim + d]) < 2e-6))
                fail_msg("row %u, %u of case %u", row, d, (uint32_t)seed);
        }
    mem_free(first);
    mem_free(out);
    mem_free(query);
    mem_free(blocks);
    mem_free(kv);
}

static void test_attention_is_softmax_for_all_shapes(void **state)
{
    (void)state;
    static const attention_case cases[] = {
        {1, 1, 8, 0, 0, 0},
        {1, 1, 8, 15, 0, 0},
        {1, 1, 8, 16, 0, 0},
        {3, 1, 2, 14, 0, 0},
        {7, 3, 10, 5, 0, 0},
        {16, 4, 64, 0, 0, 0},
        {17, 2, 80, 9, 0, 0},
        {5, 1, 128, 40, 0, 0},
        {2, 7, 96, 511, 0, 0},
        {20, 2, 16, 500, 0, 0},
        {1, 5, 32, 1100, 0, 0},
        {9, 4, 24, 1020, 0, 0},
        {1, 9, 256, 33, 0, 0},
        /* windows: within a block, of one block, across parts, all, one token, one more or less */
        {9, 3, 16, 20, 5, 0},
        {40, 1, 8, 3, 16, 0},
        {30, 2, 16, 1010, 300, 0},
        {64, 1, 8, 0, 64, 0},
        {50, 1, 8, 500, 1, 0},
        {64, 1, 8, 0, 63, 0},
        {64, 1, 8, 0, 65, 0},
        {33, 4, 16, 1020, 513, 0},
        {1, 8, 16, 1535, 512, 0},
        {1, 8, 16, 1536, 512, 0},
        {16, 2, 256, 90, 17, 0},
        {4, 1, 8, 2100, 1024, 0},
        /* soft caps, alone and under a window */
        {9, 3, 16, 20, 0, 1.0f},
        {30, 2, 24, 1000, 100, 2.5f},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        check_attention(&cases[i], i);
}

/* -- elementwise --------------------------------------------------------------- */

enum { NORM, ROPE, ROPE_OF_A_PART, SILU, GELU, SOFTCAP, KINDS };

static void run_elementwise(const cpu_kernels *k, uint32_t kind, float *out, const float *b,
                            const float *cosines, const float *sines, uint32_t count)
{
    switch (kind) {
    case NORM:
        k->rmsnorm(out, out, b, count, 1e-5f);
        break;
    case ROPE:
        k->rope(out, cosines, sines, 1, count, count, 0.5f);
        break;
    case ROPE_OF_A_PART:
        k->rope(out, cosines, sines, 1, count, count / 4 * 2, 0.5f);
        break;
    case SILU:
        k->silu_multiply(out, b, count);
        break;
    case GELU:
        k->gelu_multiply(out, b, count);
        break;
    default:
        k->softcap(out, 2.0f, count);
    }
}

/* Of vector a [count], whose first `dim` numbers turn. */
static double turned(const float *a, const float *cosines, const float *sines, uint32_t dim,
                     uint32_t i)
{
    if (i >= dim) return (double)a[i] * 0.5;
    uint32_t pair = i % (dim / 2);
    double other = i < dim / 2 ? -(double)a[i + dim / 2] : (double)a[i - dim / 2];
    return ((double)a[i] * (double)cosines[pair] + other * (double)sines[pair]) * 0.5;
}

static void test_elementwise_kernels_are_their_formulas(void **state)
{
    (void)state;
    size_t table_count;
    const cpu_kernels *const *tables = cpu_kernels_available(&table_count);
    enum { COUNT_MAX = 140 };
    static float first[KINDS][COUNT_MAX];
    for (uint32_t count = 2; count <= COUNT_MAX; count += 2) {
        test_random random = {count};
        float *a = random_floats(&random, count, 3.0f), *b = random_floats(&random, count, 3.0f);
        float *cosines = random_floats(&random, count / 2, 1.0f);
        float *sines = random_floats(&random, count / 2, 1.0f);
        float *out = mem_calloc(count, sizeof *out);
        for (size_t i = 0; i < table_count; i++)
            for (uint32_t k = 0; k < KINDS; k++) {
                memcpy(out, a, count * sizeof *out);
                run_elementwise(tables[i], k, out, b, cosines, sines, count);
                if (i == 0) memcpy(first[k], out, count * sizeof *out);
                assert_memory_equal(first[k], out, count * sizeof *out);
            }
        double squares = 0.0;
        for (uint32_t i = 0; i < count; i++)
            squares += (double)a[i] * (double)a[i];
        for (uint32_t i = 0; i < count; i++) {
            double x = (double)a[i], gate = (double)b[i];
            double inner = sqrt(2 / M_PI) * (gate + 0.044715 * gate * gate * gate);
            double want[KINDS] = {
                [NORM] = x / sqrt(squares / count + 1e-5) * gate,
                [ROPE] = turned(a, cosines, sines, count, i),
                [ROPE_OF_A_PART] = turned(a, cosines, sines, count / 4 * 2, i),
                [SILU] = gate / (1.0 + exp(-gate)) * x,
                [GELU] = gate / 2 * (1.0 + tanh(inner)) * x,
                [SOFTCAP] = 2.0 * tanh(x / 2.0),
            };
            for (uint32_t k = 0; k < KINDS; k++)
                if (!(fabs((double)first[k][i] - want[k]) < 3e-6))
                    fail_msg("kernel %u, %u of %u: %.9g, not %.9g", k, i, count,
                             (double)first[k][i], want[k]);
        }
        mem_free(out);
        mem_free(sines);
        mem_free(cosines);
        mem_free(b);
        mem_free(a);
    }
}

/* Units in the last place between a float and the exact value. */
static double ulps(float got, double want)
{
    int exponent;
    frexp(want, &exponent);
    return fabs((double)got - want) / ldexp(1.0, exponent - 24);
}

static void test_exponential_is_within_one_ulp(void **state)
{
    (void)state;
    size_t table_count;
    const cpu_kernels *const *tables = cpu_kernels_available(&table_count);
    enum { N = 1 << 20 };
    float *in = mem_calloc(N, sizeof *in), *out = mem_calloc(N, sizeof *out);
    float *first = mem_calloc(N, sizeof *first);
    test_random random = {11};
    for (size_t i = 0; i < N; i++)
        in[i] = i % 2 == 0 ? random_spread(&random, -87.0f, 88.0f)
                           : random_spread(&random, -3.0f, 3.0f);
    static const float edges[] = {0.0f,  -0.0f,  -87.0f,    88.0f,    -87.0001f, -1e30f,
                                  1e30f, 1e-30f, -INFINITY, INFINITY, NAN,       -88.0f};
    memcpy(in, edges, sizeof edges);
    double worst = 0.0;
    for (size_t t = 0; t < table_count; t++) {
        tables[t]->exponential(out, in, N);
        if (t == 0) memcpy(first, out, N * sizeof *out);
        assert_memory_equal(first + ARRAY_COUNT(edges), out + ARRAY_COUNT(edges),
                            (N - ARRAY_COUNT(edges)) * sizeof *out);
        assert_true(out[0] == 1.0f && out[1] == 1.0f && out[4] == 0.0f && out[5] == 0.0f);
        assert_true(out[6] == out[3] && out[7] == 1.0f && out[8] == 0.0f && out[9] == out[3]);
        assert_true(isnan(out[10]) && out[11] == 0.0f);
    }
    for (size_t i = ARRAY_COUNT(edges); i < N; i++)
        worst = fmax(worst, ulps(out[i], exp((double)in[i])));
    print_message("largest error of the exponential: %.3f ulp\n", worst);
    assert_true(worst <= 1.0);
    mem_free(first);
    mem_free(out);
    mem_free(in);
}

/* IEEE's and bfloat16's meaning, written out. */
static void test_softcap_is_within_a_few_ulp(void **state)
{
    (void)state;
    size_t table_count;
    const cpu_kernels *const *tables = cpu_kernels_available(&table_count);
    enum { N = 1 << 18 };
    float *in = mem_calloc(N, sizeof *in), *out = mem_calloc(N, sizeof *out);
    float *first = mem_calloc(N, sizeof *first);
    test_random random = {13};
    for (size_t i = 0; i < N; i++)
        in[i] = i % 2 == 0 ? random_spread(&random, -12.0f, 12.0f)
                           : random_spread(&random, -0.5f, 0.5f);
    static const float edges[] = {0.0f,  1e-30f, -1e-30f,   1e30f,    -1e30f,
                                  50.0f, -50.0f, -INFINITY, INFINITY, NAN};
    memcpy(in, edges, sizeof edges);
    double worst = 0.0;
    for (size_t t = 0; t < table_count; t++) {
        memcpy(out, in, N * sizeof *out);
        tables[t]->softcap(out, 1.0f, N);
        if (t == 0) memcpy(first, out, N * sizeof *out);
        assert_memory_equal(first, out, (ARRAY_COUNT(edges) - 1) * sizeof *out);
        assert_true(isnan(out[ARRAY_COUNT(edges) - 1]));
        assert_memory_equal(first + ARRAY_COUNT(edges), out + ARRAY_COUNT(edges),
                            (N - ARRAY_COUNT(edges)) * sizeof *out);
        assert_true(out[0] == 0.0f && out[3] == 1.0f && out[4] == -1.0f);
        assert_true(out[7] == -1.0f && out[8] == 1.0f);
        for (size_t i = ARRAY_COUNT(edges); i < N; i++)
            worst = fmax(worst, ulps(out[i], tanh((double)in[i])));
    }
    print_message("largest error of tanh: %.2f ulp\n", worst);
    assert_true(worst <= 6.0);
    mem_free(first);
    mem_free(out);
    mem_free(in);
}

static double half_value(uint16_t bits, int exponent_bits)
{
    int fraction_bits = 15 - exponent_bits;
    int exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1);
    int fraction = bits & ((1 << fraction_bits) - 1);
    int bias = (1 << (exponent_bits - 1)) - 1;
    double sign = bits >> 15 ? -1.0 : 1.0;
    if (exponent == (1 << exponent_bits) - 1) return fraction == 0 ? sign * INFINITY : NAN;
    if (exponent == 0) return sign * ldexp(fraction, 1 - bias - fraction_bits);
    return sign * ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
}

static void test_widening_is_exact_for_every_half(void **state)
{
    (void)state;
    size_t table_count;
    const cpu_kernels *const *tables = cpu_kernels_available(&table_count);
    enum { N = 65535 }; /* odd, so that the tail is taken too */
    uint16_t *in = mem_calloc(N, sizeof *in);
    float *out = mem_calloc(N, sizeof *out);
    for (size_t i = 0; i < N; i++)
        in[i] = (uint16_t)i;
    for (size_t t = 0; t < table_count; t++)
        for (int exponent_bits = 5; exponent_bits <= 8; exponent_bits += 3) {
            tables[t]->widen(out, in, exponent_bits == 5 ? DTYPE_F16 : DTYPE_BF16, N);
            for (size_t i = 0; i < N; i++) {
                double want = half_value(in[i], exponent_bits);
                if (isnan(want) ? !isnan(out[i])
                                : (double)out[i] != want || !signbit(out[i]) != !signbit(want))
                    fail_msg("%s widens %04x wrongly", tables[t]->name, in[i]);
            }
        }
    mem_free(out);
    mem_free(in);
}

/* -- what must not depend on the machine ---------------------------------------- */

/* The portable multiply-add, by way of a product of one column added to what was there, against
 * the C library's, with operands that cancel, overflow and underflow. */
static void test_portable_multiply_add_is_fused(void **state)
{
    (void)state;
    size_t table_count;
    const cpu_kernels *portable = cpu_kernels_available(&table_count)[table_count - 1];
    test_random random = {5};
    for (uint32_t i = 0; i < 2000000; i++) {
        float in[17] = {0}, matrix[17] = {0};
        uint32_t bits[3];
        for (int k = 0; k < 3; k++)
            bits[k] = (uint32_t)random_next(&random);
        if (i % 4 != 0) /* near 1, where sums cancel */
            for (int k = 0; k < 3; k++)
                bits[k] = (bits[k] & 0x807fffffu) | (0x3f000000u + (bits[k] >> 4 & 0x1800000u));
        memcpy(&matrix[0], &bits[2], sizeof(float));
        memcpy(&matrix[16], &bits[0], sizeof(float));
        memcpy(&in[16], &bits[1], sizeof(float));
        in[0] = 1.0f;
        if (i % 4 == 3) matrix[0] = -matrix[16] * in[16]; /* only the rounding error is left */
        float out;
        matmul m = {.out = &out,
                    .out_stride = 1,
                    .in = in,
                    .in_stride = 17,
                    .weight = matrix,
                    .type = DTYPE_F32,
                    .tokens = 1,
                    .rows = 1,
                    .cols = 17};
        portable->matmul(&m);
        /* Lane 0: matrix[0] * 1 + 0, then matrix[16] * in[16] is added; other lanes add zeros. */
        float want = fmaf(matrix[16], in[16], fmaf(matrix[0], 1.0f, 0.0f)) + 0.0f;
        /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): its bits are what counts */
        if (isnan(want) ? !isnan(out) : memcmp(&want, &out, sizeof out) != 0)
            fail_msg("%a * %a + %a is %a, not %a", (double)matrix[16], (double)in[16],
                     (double)matrix[0], (double)out, (double)want);
    }
}

static void test_rope_table_is_correct_to_the_last_bit_or_one(void **state)
{
    (void)state;
    test_random random = {9};
    double worst = 0.0;
    for (uint32_t i = 0; i < 300000; i++) {
        uint32_t position = i < 1000 ? i : random_below(&random, LIMIT_CONTEXT_TOKENS);
        float frequency = i % 3 == 0 ? 1.0f : powf(10.0f, random_spread(&random, -6.0f, 0.0f));
        float cosine, sine;
        rope_table_fill(&cosine, &sine, &frequency, 1, position);
        double angle = (double)((float)position * frequency);
        worst = fmax(worst, ulps(cosine, cos(angle)));
        worst = fmax(worst, angle == 0.0 ? fabs((double)sine) : ulps(sine, sin(angle)));
    }
    print_message("largest error of the angles: %.3f ulp\n", worst);
    assert_true(worst <= 1.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul_is_its_formula_for_all_sizes),
        cmocka_unit_test(test_attention_is_softmax_for_all_shapes),
        cmocka_unit_test(test_elementwise_kernels_are_their_formulas),
        cmocka_unit_test(test_exponential_is_within_one_ulp),
        cmocka_unit_test(test_softcap_is_within_a_few_ulp),
        cmocka_unit_test(test_widening_is_exact_for_every_half),
        cmocka_unit_test(test_portable_multiply_add_is_fused),
        cmocka_unit_test(test_rope_table_is_correct_to_the_last_bit_or_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
