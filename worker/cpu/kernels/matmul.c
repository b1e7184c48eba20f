/* matmul: activations times a weight matrix that stays as the checkpoint has it.
 *
 * Weight rows and activation rows both run along the summed index, so an output element is a dot
 * product of two contiguous rows and nothing has to be packed. A tile of outputs lives in
 * registers, one lanes (sixteen partial sums) an element:
 *
 *              tokens ->        each step of 16 along cols loads TILE_ROWS weight vectors, widens
 *            t0  t1  t2 ..      them in registers, and multiplies each with every token's vector.
 *   rows r0  s   s   s
 *    |   r1  s   s   s          One token is the same tile one token wide (and more rows deep, to
 *    v   ..                     hide the latency of the multiply-add): decode reads weights at the
 *                               speed of memory, prefill is bound by arithmetic.
 *
 * Invariant: the summed index is never cut or reordered, whatever the tile: blocking is over tokens
 * and rows only. So an element has the same bits alone, in any batch and from any thread.
 *
 * Order of the loops: blocks of tokens whose activations fit half of L2, then weight tiles, then
 * token tiles; a weight tile is read from L1 by all token tiles after the first.
 *
 * A tile reads several rows side by side, and processors foresee that badly: 8 rows came at 13 GB/s
 * a core where a plain read gave 25 (EPYC, Zen 4). So while a tile is computed, the next one is
 * prefetched in the order of its addresses, which the processor's own prefetcher then runs ahead
 * of: 24 GB/s. One row at a time is as quick from memory, but waits for every multiply-add when
 * the weights are in cache. */
#include "worker/cpu/kernels/lanes.h"
#include "worker/cpu/kernels/variant.h"

/* Registers: 32 of 16 floats with AVX-512 hold 4 x 6 sums, 4 weights and a token; 16 of 8 floats
 * hold 2 x 3 sums. A tile is wider in tokens than in rows because it is weights that must be
 * widened. */
#if LANES_AVX512
#define TILE_ROWS   4u
#define TILE_TOKENS 6u
#define TILE_DEEP   8u
#else
#define TILE_ROWS   2u
#define TILE_TOKENS 3u
#define TILE_DEEP   4u
#endif

#define TOKEN_BLOCK_BYTES (512u * 1024u) /* half of a 1 MiB L2 */
#define CACHE_LINE        64u

LANES_INLINE void store_element(const matmul *m, uint32_t token, uint32_t row, float sum)
{
    float *out = m->out + (size_t)token * m->out_stride + row;
    if (m->bias != NULL) sum += m->bias[row];
    *out = m->accumulate ? *out + sum : sum;
}

/* rows, tokens and type are constants where this is inlined. */
LANES_INLINE void tile(const matmul *m, uint32_t row, uint32_t token, unsigned rows,
                       unsigned tokens, dtype type)
{
    const size_t size = type_bytes(type);
    const size_t weight_stride = m->cols * size;
    const uint8_t *weight = (const uint8_t *)m->weight + row * weight_stride;
    const float *in = m->in + (size_t)token * m->in_stride;
    lanes sum[TILE_DEEP][TILE_TOKENS];
    foreach (r, rows)
        foreach (t, tokens)
            sum[r][t] = lanes_set(0.0f);

    uint32_t whole = m->cols - m->cols % LANES;
    /* The next tile, or this one again when it is the last: what lies behind belongs to others. */
    const uint8_t *ahead = row + 2 * rows <= m->rows ? weight + rows * weight_stride : weight;
    for (uint32_t k = 0; k < whole; k += LANES) {
        for (size_t line = 0; line < rows * LANES * size; line += CACHE_LINE)
            __builtin_prefetch(ahead + line);
        ahead += rows * LANES * size;
        /* Register by register of the sixteen lanes, so that only one of a weight's is alive. */
        foreach (p, REGS) {
            reg w[TILE_DEEP];
            uint32_t lane = k + p * REG_LANES;
            foreach (r, rows)
                w[r] = reg_load(type, weight + r * weight_stride + lane * size);
            foreach (t, tokens) {
                reg x = reg_load_f32(in + t * m->in_stride + lane);
                foreach (r, rows)
                    sum[r][t].part[p] = reg_fma(w[r], x, sum[r][t].part[p]);
            }
        }
    }
    if (whole < m->cols) {
        unsigned rest = m->cols - whole;
        lanes w[TILE_DEEP];
        foreach (r, rows)
            w[r] = lanes_load_tail(type, weight + r * weight_stride + whole * size, rest);
        foreach (t, tokens) {
            lanes x = lanes_load_tail(DTYPE_F32, in + t * m->in_stride + whole, rest);
            foreach (r, rows)
                sum[r][t] = lanes_fma(w[r], x, sum[r][t]);
        }
    }
    foreach (r, rows)
        foreach (t, tokens)
            store_element(m, token + t, row + r, lanes_sum(sum[r][t]));
}

LANES_INLINE void tile_of(const matmul *m, uint32_t row, uint32_t token, unsigned rows,
                          unsigned tokens, dtype type)
{
    switch (tokens) {
    case 1:
        tile(m, row, token, rows, 1, type);
        break;
    case 2:
        tile(m, row, token, rows, 2, type);
        break;
    case 3:
        tile(m, row, token, rows, 3, type);
        break;
#if LANES_AVX512
    case 4:
        tile(m, row, token, rows, 4, type);
        break;
    case 5:
        tile(m, row, token, rows, 5, type);
        break;
    case 6:
        tile(m, row, token, rows, 6, type);
        break;
#endif
    default:
        break;
    }
}

/* Tokens in nearly equal tiles: seven are 4 + 3, not 6 + 1. */
LANES_INLINE void token_tiles(const matmul *m, uint32_t row, unsigned rows, uint32_t first,
                              uint32_t count, dtype type)
{
    uint32_t tiles = (count + TILE_TOKENS - 1) / TILE_TOKENS;
    uint32_t token = first;
    for (uint32_t i = 0; i < tiles; i++) {
        unsigned tokens = count / tiles + (i < count % tiles);
        tile_of(m, row, token, rows, tokens, type);
        token += tokens;
    }
}

static uint32_t token_block(uint32_t cols)
{
    uint32_t tokens = TOKEN_BLOCK_BYTES / (cols * (uint32_t)sizeof(float));
    return tokens < TILE_TOKENS ? TILE_TOKENS : tokens - tokens % TILE_TOKENS;
}

LANES_INLINE void matmul_as(const matmul *m, dtype type)
{
    uint32_t block = token_block(m->cols);
    for (uint32_t token = 0; token < m->tokens; token += block) {
        uint32_t tokens = m->tokens - token < block ? m->tokens - token : block;
        uint32_t row = 0;
        if (tokens == 1)
            for (; row + TILE_DEEP <= m->rows; row += TILE_DEEP)
                tile(m, row, token, TILE_DEEP, 1, type);
        for (; row + TILE_ROWS <= m->rows; row += TILE_ROWS)
            token_tiles(m, row, TILE_ROWS, token, tokens, type);
        for (; row < m->rows; row++)
            token_tiles(m, row, 1, token, tokens, type);
    }
}

void VARIANT(matmul)(const matmul *m)
{
    switch (m->type) {
    case DTYPE_F32:
        matmul_as(m, DTYPE_F32);
        break;
    case DTYPE_F16:
        matmul_as(m, DTYPE_F16);
        break;
    case DTYPE_BF16:
        matmul_as(m, DTYPE_BF16);
        break;
    case DTYPE_OTHER:
        break; /* weights.h lets none through; the backend checks */
    }
}
