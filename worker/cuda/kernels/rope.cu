/* rope: bound by memory. A head is a row of units: first those that turn, each `Width` elements of
 * the first half with their partners of the second; then what does not turn; then the padding. A
 * group of lanes (a power of two) takes a head of a token, so that a norm's sum is a few shuffles,
 * and everything is read once, before the sum is known.
 *
 * With 8 elements a unit, one a lane, every access is 16 bytes; dimensions that do not divide so go
 * one by one, up to 8 units a lane. */
#include "worker/cuda/kernels/element.cuh"
#include "worker/cuda/kernels/launch.cuh"
#include "worker/cuda/kernels/ptx.cuh"
#include "worker/cuda/kernels/rope.h"

#define ROPE_THREADS 128u

static __global__ __launch_bounds__(ROPE_THREADS) void rope_angles_kernel(
    float2 *angles, const uint32_t *positions, const float *frequencies, uint32_t elements,
    uint32_t pairs, float factor)
{
    uint32_t i = blockIdx.x * ROPE_THREADS + threadIdx.x;
    grid_dependency_release();
    grid_dependency_wait();
    if (i >= elements) return;
    uint32_t token = i / pairs, pair = i % pairs;
    float sine, cosine;
    sincosf((float)positions[token] * frequencies[pair], &sine, &cosine);
    angles[i] = make_float2(factor * cosine, factor * sine);
}

extern "C" cudaError_t rope_angles(const kernel_device *device, float *angles,
                                   const uint32_t *positions, const float *frequencies,
                                   uint32_t tokens, uint32_t rotary_dim, float factor,
                                   cudaStream_t stream)
{
    (void)device;
    if (tokens > 16384 || rotary_dim < 2 || rotary_dim > 65536 || rotary_dim % 2 != 0 ||
        (uintptr_t)angles % 16 != 0)
        return cudaErrorInvalidValue;
    if (tokens == 0) return cudaSuccess;
    uint32_t pairs = rotary_dim / 2, elements = tokens * pairs;
    return launch(LAUNCH_OVERLAPPED, rope_angles_kernel,
                  dim3((elements + ROPE_THREADS - 1) / ROPE_THREADS), dim3(ROPE_THREADS), 0, stream,
                  reinterpret_cast<float2 *>(angles), positions, frequencies, elements, pairs,
                  factor);
}

/* How a head is divided; the same for all heads of a launch. */
struct rope_units {
    uint32_t turning;   /* in front of the others */
    uint32_t lanes_log; /* of a group */
};

/* A lane's share of a head: turning units have elements in x and their partners in y, others in x
 * alone. The norm's weights lie alike, (cosine, sine) pairs beside each other. */
template <int Width> struct rope_unit {
    float x[Width], y[Width];
    float x_weight[Width], y_weight[Width];
    float angle[2 * Width];
};

template <typename T, int Width, int Units>
static __global__ __launch_bounds__(ROPE_THREADS) void rope_write_kernel(rope_write_args a,
                                                                         rope_units units)
{
    uint32_t lanes = 1u << units.lanes_log, lane = threadIdx.x & (lanes - 1);
    uint32_t head_dim = a.kv.head_dim, stride = a.kv.head_stride, pairs = a.rotary_dim / 2;
    uint32_t heads_all = a.heads + 2 * a.kv.kv_heads;
    uint32_t group = (blockIdx.x * ROPE_THREADS + threadIdx.x) >> units.lanes_log;
    bool mine = group < a.tokens * heads_all;
    uint32_t token = mine ? group / heads_all : 0, head = mine ? group % heads_all : 0;
    bool query = head < a.heads, turns = head < a.heads + a.kv.kv_heads;
    const float *weight = query ? a.q_norm : turns ? a.k_norm : nullptr;
    /* Where unit u begins: a turning one below `pairs`, another at or above rotary_dim. */
    auto begin = [&](uint32_t u) {
        return u < units.turning ? u * Width : a.rotary_dim + (u - units.turning) * Width;
    };

    grid_dependency_release();
    rope_unit<Width> held[Units] = {};
#pragma unroll
    for (int n = 0; n < Units; n++) {
        uint32_t i = begin(lane + n * lanes);
        if (weight == nullptr || i >= head_dim) continue;
        load_elements<Width>(held[n].x_weight, weight + i);
        if (i < pairs) load_elements<Width>(held[n].y_weight, weight + pairs + i);
    }
    grid_dependency_wait();

    const T *in = static_cast<const T *>(a.qkv) + ((int64_t)token * heads_all + head) * head_dim;
    const float *angles = a.angles + (int64_t)token * a.rotary_dim;
    float squares = 0;
#pragma unroll
    for (int n = 0; n < Units; n++) {
        rope_unit<Width> &unit = held[n];
        uint32_t i = begin(lane + n * lanes);
        if (i >= head_dim) continue;
        load_elements<Width>(unit.x, in + i);
        if (i < pairs) {
            load_elements<Width>(unit.y, in + pairs + i);
            if (turns) load_elements<2 * Width>(unit.angle, angles + 2 * i);
        }
#pragma unroll
        for (int k = 0; k < Width; k++)
            squares += unit.x[k] * unit.x[k] + unit.y[k] * unit.y[k];
    }
    float r = 1.0f;
    if (a.q_norm != nullptr) {
        for (uint32_t offset = lanes / 2; offset > 0; offset /= 2)
            squares += __shfl_xor_sync(0xffffffffu, squares, offset);
        r = rsqrtf(__fdividef(squares, (float)head_dim) + a.eps);
    }
    if (!mine) return;

    T *out;
    if (query) {
        out = static_cast<T *>(a.q_out) + ((int64_t)token * a.heads + head) * stride;
    } else {
        uint32_t row = a.kv_rows[token];
        uint32_t kv_head = head - a.heads - (turns ? 0 : a.kv.kv_heads);
        int64_t at = (int64_t)(row / KERNEL_KV_BLOCK) * a.kv.kv_heads + kv_head;
        at = (at * KERNEL_KV_BLOCK + row % KERNEL_KV_BLOCK) * stride;
        out = static_cast<T *>(turns ? a.kv.keys : a.kv.values) + at;
    }
#pragma unroll
    for (int n = 0; n < Units; n++) {
        rope_unit<Width> &unit = held[n];
        uint32_t i = begin(lane + n * lanes);
        if (i >= stride) continue;
#pragma unroll
        for (int k = 0; k < Width; k++) {
            if (weight != nullptr) {
                unit.x[k] *= r * unit.x_weight[k];
                unit.y[k] *= r * unit.y_weight[k];
            }
            if (turns && i < pairs) {
                float cosine = unit.angle[2 * k], sine = unit.angle[2 * k + 1], first = unit.x[k];
                unit.x[k] = first * cosine - unit.y[k] * sine;
                unit.y[k] = unit.y[k] * cosine + first * sine;
            }
        }
        store_elements<Width>(out + i, unit.x);
        if (i < pairs) store_elements<Width>(out + pairs + i, unit.y);
    }
}

template <typename T, int Width, int Units>
static cudaError_t rope_write_units(const rope_write_args *a, cudaStream_t stream)
{
    rope_units units;
    units.turning = a->rotary_dim / 2 / Width;
    uint32_t count = units.turning + (a->kv.head_stride - a->rotary_dim) / Width;
    units.lanes_log = 0;
    while (units.lanes_log < 5 && 1u << units.lanes_log < count)
        units.lanes_log++;
    uint32_t threads = a->tokens * (a->heads + 2 * a->kv.kv_heads) << units.lanes_log;
    return launch(LAUNCH_OVERLAPPED, rope_write_kernel<T, Width, Units>,
                  dim3((threads + ROPE_THREADS - 1) / ROPE_THREADS), dim3(ROPE_THREADS), 0, stream,
                  *a, units);
}

extern "C" cudaError_t rope_write(const kernel_device *device, const rope_write_args *a,
                                  cudaStream_t stream)
{
    const kernel_kv *kv = &a->kv;
    uint32_t stride = kv->head_stride;
    uintptr_t addresses = (uintptr_t)a->q_out | (uintptr_t)a->qkv | (uintptr_t)a->angles |
                          (uintptr_t)kv->keys | (uintptr_t)kv->values;
    if (a->tokens > 16384 || a->heads == 0 || kv->kv_heads == 0 ||
        a->heads + 2 * (uint64_t)kv->kv_heads > 4096 || kv->head_dim % 2 != 0 ||
        (stride != 64 && stride != 96 && stride != 128 && stride != 256) || kv->head_dim > stride ||
        a->rotary_dim < 2 || a->rotary_dim % 2 != 0 || a->rotary_dim > kv->head_dim ||
        (a->q_norm == nullptr) != (a->k_norm == nullptr) || a->type == KERNEL_F32 ||
        (a->type == KERNEL_BF16 && device->code_arch < 80) || addresses % 16 != 0)
        return cudaErrorInvalidValue;
    if (a->tokens == 0) return cudaSuccess;
    uintptr_t weights = (uintptr_t)a->q_norm | (uintptr_t)a->k_norm;
    bool wide = a->rotary_dim % 16 == 0 && kv->head_dim % 8 == 0 && weights % 16 == 0;
    if (a->type == KERNEL_F16)
        return wide ? rope_write_units<__half, 8, 1>(a, stream)
                    : rope_write_units<__half, 1, 8>(a, stream);
    return wide ? rope_write_units<__nv_bfloat16, 8, 1>(a, stream)
                : rope_write_units<__nv_bfloat16, 1, 8>(a, stream);
}
