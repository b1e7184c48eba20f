/* attention_mma: what the mma.sync attention kernels share: a tile of keys or values in shared
 * memory, the products with it, and the running softmax.
 *
 * A warp works on blocks of 16 query rows. Scores and outputs are C fragments (ptx.cuh): lane l
 * has, of rows l / 4 and l / 4 + 8, columns 2 (l % 4) and 2 (l % 4) + 1 of each eight; four lanes
 * share a row.
 *
 * What a row gets is a fixed-order function of its own query, keys and values: no operation here
 * mixes rows, and one on keys that a row does not see changes nothing (probability 0, factor 1). */
#ifndef GAGGLE_WORKER_CUDA_KERNELS_ATTENTION_MMA_CUH
#define GAGGLE_WORKER_CUDA_KERNELS_ATTENTION_MMA_CUH

#include <math.h>
#include <type_traits>

#include "worker/cuda/kernels/attention.h"
#include "worker/cuda/kernels/element.cuh"
#include "worker/cuda/kernels/ptx.cuh"

/* Is T's code for devices from ArchMin on (800: sm_80) wanted in this pass of the compiler? The
 * host's pass sees everything. */
#ifdef __CUDA_ARCH__
template <typename T, int ArchMin>
static constexpr bool attention_compiled = __CUDA_ARCH__ >= ArchMin &&
                                           (std::is_same<T, __half>::value || __CUDA_ARCH__ >= 800);
#else
template <typename T, int ArchMin> static constexpr bool attention_compiled = true;
#endif

/* What both launchers refuse. */
static inline bool attention_shape_valid(const kernel_kv *kv, const attention_shape *shape)
{
    uint32_t stride = kv->head_stride;
    return kv->kv_heads > 0 && shape->heads > 0 && shape->heads % kv->kv_heads == 0 &&
           shape->heads / kv->kv_heads <= ATTENTION_GROUP_MAX && kv->head_dim >= 8 &&
           kv->head_dim % 2 == 0 && kv->head_dim <= stride &&
           (stride == 64 || stride == 96 || stride == 128 || stride == 256) && shape->scale > 0 &&
           shape->softcap >= 0;
}

/* -- tiles ----------------------------------------------------------------------------
 * Rows of Head elements in 16-byte chunks, permuted within a row so that the eight rows that
 * ldmatrix reads at one column lie in eight different groups of banks. */

/* Index of chunk `column` of row `row`. */
template <int Head>
static __device__ __forceinline__ uint32_t tile_chunk(uint32_t row, uint32_t column)
{
    constexpr uint32_t chunks = Head / 8;
    static_assert(chunks % 8 == 0 || chunks % 8 == 4, "rows begin at every or every fourth group");
    uint32_t turn = chunks % 8 == 0 ? row & 7u : (row >> 1) & 3u;
    return row * chunks + (column ^ turn);
}

/* -- products -------------------------------------------------------------------------- */

/* s += q k^T for 16 keys from row `key` of the tile on; q: A fragment of columns 16 step on. */
template <typename T, int Head>
static __device__ __forceinline__ void load_key_fragment(uint32_t b[4], const uint4 *keys,
                                                         uint32_t key, uint32_t step)
{
    uint32_t lane = threadIdx.x % 32;
    uint32_t row = key + (lane / 16) * 8 + lane % 8;
    ldmatrix_x4(b, keys + tile_chunk<Head>(row, 2 * step + (lane / 8) % 2));
}

/* B fragments of values: keys `key` to key + 15, columns 16 step to 16 step + 15. */
template <typename T, int Head>
static __device__ __forceinline__ void load_value_fragment(uint32_t b[4], const uint4 *values,
                                                           uint32_t key, uint32_t step)
{
    uint32_t lane = threadIdx.x % 32;
    uint32_t row = key + lane % 16;
    ldmatrix_x4_transposed(b, values + tile_chunk<Head>(row, 2 * step + lane / 16));
}

/* Query rows l / 4 and l / 4 + 8 of a block, from global memory, as A fragments of all steps;
 * NULL: zeros. */
template <typename T, int Head>
static __device__ __forceinline__ void load_query(uint32_t q[Head / 16][4], const T *row_low,
                                                  const T *row_high)
{
    uint32_t column = threadIdx.x % 4;
    const uint32_t *low = (const uint32_t *)row_low, *high = (const uint32_t *)row_high;
#pragma unroll
    for (int step = 0; step < Head / 16; step++) {
        q[step][0] = low != nullptr ? low[8 * step + column] : 0;
        q[step][1] = high != nullptr ? high[8 * step + column] : 0;
        q[step][2] = low != nullptr ? low[8 * step + column + 4] : 0;
        q[step][3] = high != nullptr ? high[8 * step + column + 4] : 0;
    }
}

/* -- softmax ----------------------------------------------------------------------------- */

/* From raw dot products to exponents of two: exp(score) = 2^(exponent_scale * s), where s is the
 * dot product, or the capped score. */
struct score_rule {
    float exponent_scale;
    float cap, cap_slope; /* s = cap * tanh(cap_slope * dot) */
};

static inline score_rule score_rule_of(const attention_shape *shape)
{
    const float log2_e = 1.44269504088896340736f;
    score_rule r = {shape->scale * log2_e, 0.0f, 0.0f};
    if (shape->softcap > 0) r = {log2_e, shape->softcap, shape->scale / shape->softcap};
    return r;
}

/* tanh to 2e-7 absolute: 1 - 2 / (e^2x + 1), right at both infinities. */
static __device__ __forceinline__ float capped(float dot, const score_rule &rule)
{
    float e = exp2_approximate(dot * rule.cap_slope * 2.88539008177792681472f);
    return rule.cap * (1.0f - __fdividef(2.0f, e + 1.0f));
}

/* Two rows (l / 4 and l / 4 + 8): largest s so far, and this lane's share of the sum of
 * 2^(exponent_scale * (s - largest)). */
struct running_rows {
    float largest[2];
    float sum[2];
};

static __device__ __forceinline__ void start_rows(running_rows &rows)
{
    rows.largest[0] = rows.largest[1] = -INFINITY;
    rows.sum[0] = rows.sum[1] = 0.0f;
}

static __device__ __forceinline__ float row_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

static __device__ __forceinline__ float row_sum(float x)
{
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

/* What a maximum is subtracted as: a row that saw nothing yet must not give inf - inf. */
static __device__ __forceinline__ float finite_base(float largest)
{
    return largest == -INFINITY ? 0.0f : largest;
}

/* s (masked ones -inf) becomes probabilities relative to the new maximum; what was summed before is
 * brought to that maximum. Where no row of the warp has a new one the factor is 1 and is left
 * out. */
template <int Tiles, int Columns>
static __device__ __forceinline__ void softmax_step(float (&s)[Tiles][4], float (&out)[Columns][4],
                                                    running_rows &rows, float exponent_scale)
{
    float largest[2] = {rows.largest[0], rows.largest[1]};
#pragma unroll
    for (int n = 0; n < Tiles; n++) {
        largest[0] = fmaxf(largest[0], fmaxf(s[n][0], s[n][1]));
        largest[1] = fmaxf(largest[1], fmaxf(s[n][2], s[n][3]));
    }
    largest[0] = row_max(largest[0]);
    largest[1] = row_max(largest[1]);
    float base[2] = {finite_base(largest[0]), finite_base(largest[1])};
    bool moved = largest[0] != rows.largest[0] || largest[1] != rows.largest[1];
    if (__any_sync(0xffffffffu, moved)) {
        float factor[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            factor[r] = exp2_approximate((rows.largest[r] - base[r]) * exponent_scale);
            rows.sum[r] *= factor[r];
            rows.largest[r] = largest[r];
        }
#pragma unroll
        for (int n = 0; n < Columns; n++) {
            out[n][0] *= factor[0];
            out[n][1] *= factor[0];
            out[n][2] *= factor[1];
            out[n][3] *= factor[1];
        }
    }
    float shift[2] = {-base[0] * exponent_scale, -base[1] * exponent_scale};
#pragma unroll
    for (int n = 0; n < Tiles; n++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            s[n][j] = exp2_approximate(fmaf(s[n][j], exponent_scale, shift[j / 2]));
            rows.sum[j / 2] += s[n][j];
        }
    }
}

/* Probabilities of keys 16 pair to 16 pair + 15 as an A fragment. */
template <typename T, int Tiles>
static __device__ __forceinline__ void pack_probabilities(uint32_t a[4], const float (&s)[Tiles][4],
                                                          int pair)
{
    a[0] = pack_two<T>(s[2 * pair][0], s[2 * pair][1]);
    a[1] = pack_two<T>(s[2 * pair][2], s[2 * pair][3]);
    a[2] = pack_two<T>(s[2 * pair + 1][0], s[2 * pair + 1][1]);
    a[3] = pack_two<T>(s[2 * pair + 1][2], s[2 * pair + 1][3]);
}

#endif
