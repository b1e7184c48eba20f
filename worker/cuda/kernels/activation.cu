/* activation: elementwise, bound by memory. Both functions are x times a logistic one: GELU's tanh
 * form is x / (1 + e^(-2u)) with u = sqrt(2 / pi) (x + 0.044715 x^3), so that one exponential and
 * one division serve either, and neither end overflows to NaN. The division is the fast one: an
 * exact one's rare branch keeps a thread's elements from overlapping.
 *
 * With row scales a block takes a whole row: once for its largest element, then to write it. It
 * keeps GATED_HELD groups of elements a thread in between and makes the others again. */
#include "worker/cuda/kernels/activation.h"
#include "worker/cuda/kernels/element.cuh"
#include "worker/cuda/kernels/launch.cuh"
#include "worker/cuda/kernels/ptx.cuh"

#define GATED_THREADS       256u
#define GATED_ROW_THREADS   1024u
#define GATED_HELD          4
#define GATED_ROW_LIMIT_LOG 14 /* rows are scaled down to 2^14 */
#define SOFTCAP_THREADS     256u

template <gated_function Function>
static __device__ __forceinline__ float gated(float gate, float up)
{
    float x = gate;
    if (Function == GATED_GELU_TANH)
        x = 1.5957691216057308f * (gate + 0.044715f * gate * gate * gate);
    return __fdividef(gate, 1.0f + __expf(-x)) * up;
}

/* `Width` elements of a row from i on. */
template <gated_function Function, int Width, typename In>
static __device__ __forceinline__ void gated_elements(float (&a)[Width], const In *row,
                                                      uint32_t inner, uint32_t i)
{
    float up[Width];
    load_elements<Width>(a, row + i);
    load_elements<Width>(up, row + inner + i);
#pragma unroll
    for (int k = 0; k < Width; k++)
        a[k] = gated<Function>(a[k], up[k]);
}

template <gated_function Function, int Width, typename T, typename In>
static __global__ __launch_bounds__(GATED_THREADS) void gated_kernel(T *out, const In *gate_up,
                                                                     uint32_t inner)
{
    uint32_t i = (blockIdx.x * GATED_THREADS + threadIdx.x) * Width;
    float a[Width];
    grid_dependency_release();
    grid_dependency_wait();
    if (i >= inner) return;
    gated_elements<Function, Width>(a, gate_up + (int64_t)blockIdx.y * 2 * inner, inner, i);
    store_elements<Width>(out + (int64_t)blockIdx.y * inner + i, a);
}

/* The exponent of the least power of two >= 1 that divides `most` down to the limit. */
static __device__ __forceinline__ int scale_log(float most)
{
    uint32_t bits = __float_as_uint(most);
    int log_up = (int)(bits >> 23) - 127 + ((bits & 0x7fffffu) != 0);
    return log_up > GATED_ROW_LIMIT_LOG ? log_up - GATED_ROW_LIMIT_LOG : 0;
}

static __device__ __forceinline__ float power_of_two(int log)
{
    return __uint_as_float((uint32_t)(127 + log) << 23);
}

template <int Width>
static __device__ __forceinline__ float largest(float most, const float (&a)[Width])
{
#pragma unroll
    for (int k = 0; k < Width; k++)
        most = fmaxf(most, fabsf(a[k]));
    return most;
}

template <int Width, typename T>
static __device__ __forceinline__ void store_scaled(T *out, float (&a)[Width], float scale)
{
#pragma unroll
    for (int k = 0; k < Width; k++)
        a[k] *= scale;
    store_elements<Width>(out, a);
}

template <gated_function Function, int Width, typename T, typename In>
static __global__ __launch_bounds__(GATED_ROW_THREADS) void gated_row_kernel(T *out,
                                                                             const In *gate_up,
                                                                             float *row_scale,
                                                                             uint32_t inner)
{
    __shared__ float partials[32];
    uint32_t first = threadIdx.x * Width, step = blockDim.x * Width, lane = threadIdx.x % 32;
    uint32_t rest = first + GATED_HELD * step;
    const In *row = gate_up + (int64_t)blockIdx.x * 2 * inner;
    T *out_row = out + (int64_t)blockIdx.x * inner;
    float held[GATED_HELD][Width], a[Width], most = 0;
    grid_dependency_release();
    grid_dependency_wait();
#pragma unroll
    for (int h = 0; h < GATED_HELD; h++) {
        if (first + h * step >= inner) continue;
        gated_elements<Function, Width>(held[h], row, inner, first + h * step);
        most = largest<Width>(most, held[h]);
    }
    for (uint32_t i = rest; i < inner; i += step) {
        gated_elements<Function, Width>(a, row, inner, i);
        most = largest<Width>(most, a);
    }
    most = warp_max(most);
    if (lane == 0) partials[threadIdx.x / 32] = most;
    __syncthreads();
    most = warp_max(lane < blockDim.x / 32 ? partials[lane] : 0.0f);

    int log = scale_log(most);
    float inverse = power_of_two(-log);
    if (threadIdx.x == 0) row_scale[blockIdx.x] = power_of_two(log);
#pragma unroll
    for (int h = 0; h < GATED_HELD; h++)
        if (first + h * step < inner)
            store_scaled<Width>(out_row + first + h * step, held[h], inverse);
    for (uint32_t i = rest; i < inner; i += step) {
        gated_elements<Function, Width>(a, row, inner, i);
        store_scaled<Width>(out_row + i, a, inverse);
    }
}

template <gated_function Function, int Width, typename T, typename In>
static cudaError_t gated_width(void *out, const void *gate_up, float *row_scale, uint32_t tokens,
                               uint32_t inner, cudaStream_t stream)
{
    uint32_t groups = inner / Width;
    if (row_scale != nullptr) {
        uint32_t threads = (groups + 31) / 32 * 32;
        if (threads > GATED_ROW_THREADS) threads = GATED_ROW_THREADS;
        return launch(LAUNCH_OVERLAPPED, gated_row_kernel<Function, Width, T, In>, dim3(tokens),
                      dim3(threads), 0, stream, static_cast<T *>(out),
                      static_cast<const In *>(gate_up), row_scale, inner);
    }
    return launch(LAUNCH_OVERLAPPED, gated_kernel<Function, Width, T, In>,
                  dim3((groups + GATED_THREADS - 1) / GATED_THREADS, tokens), dim3(GATED_THREADS),
                  0, stream, static_cast<T *>(out), static_cast<const In *>(gate_up), inner);
}

template <gated_function Function, typename T>
static cudaError_t gated_types(void *out, const void *gate_up, kernel_dtype in_type,
                               float *row_scale, uint32_t tokens, uint32_t inner,
                               cudaStream_t stream)
{
    if (in_type == KERNEL_F32)
        return inner % 8 == 0 ? gated_width<Function, 8, T, float>(out, gate_up, row_scale, tokens,
                                                                   inner, stream)
                              : gated_width<Function, 2, T, float>(out, gate_up, row_scale, tokens,
                                                                   inner, stream);
    return inner % 8 == 0
               ? gated_width<Function, 8, T, T>(out, gate_up, row_scale, tokens, inner, stream)
               : gated_width<Function, 2, T, T>(out, gate_up, row_scale, tokens, inner, stream);
}

template <typename T>
static cudaError_t gated_function_of(gated_function function, void *out, const void *gate_up,
                                     kernel_dtype in_type, float *row_scale, uint32_t tokens,
                                     uint32_t inner, cudaStream_t stream)
{
    return function == GATED_SILU
               ? gated_types<GATED_SILU, T>(out, gate_up, in_type, row_scale, tokens, inner, stream)
               : gated_types<GATED_GELU_TANH, T>(out, gate_up, in_type, row_scale, tokens, inner,
                                                 stream);
}

extern "C" cudaError_t gated_activation(const kernel_device *device, void *out, kernel_dtype type,
                                        const void *gate_up, kernel_dtype in_type,
                                        gated_function function, float *row_scale, uint32_t tokens,
                                        uint32_t inner, cudaStream_t stream)
{
    if (tokens > 16384 || inner < 8 || inner > 262144 || inner % 2 != 0 || type == KERNEL_F32 ||
        (type == KERNEL_BF16 && device->code_arch < 80) ||
        (in_type != type && in_type != KERNEL_F32) || (uintptr_t)out % 16 != 0 ||
        (uintptr_t)gate_up % 16 != 0)
        return cudaErrorInvalidValue;
    if (tokens == 0) return cudaSuccess;
    return type == KERNEL_F16 ? gated_function_of<__half>(function, out, gate_up, in_type,
                                                          row_scale, tokens, inner, stream)
                              : gated_function_of<__nv_bfloat16>(function, out, gate_up, in_type,
                                                                 row_scale, tokens, inner, stream);
}

static __global__ __launch_bounds__(SOFTCAP_THREADS) void softcap_kernel(float4 *x, uint64_t groups,
                                                                         float cap)
{
    uint64_t i = (uint64_t)blockIdx.x * SOFTCAP_THREADS + threadIdx.x;
    grid_dependency_release();
    grid_dependency_wait();
    if (i >= groups) return;
    float4 v = x[i];
    v.x = cap * tanhf(v.x / cap);
    v.y = cap * tanhf(v.y / cap);
    v.z = cap * tanhf(v.z / cap);
    v.w = cap * tanhf(v.w / cap);
    x[i] = v;
}

extern "C" cudaError_t softcap_rows(const kernel_device *device, float *x, uint32_t rows,
                                    uint32_t cols, float cap, cudaStream_t stream)
{
    (void)device;
    uint64_t groups = (uint64_t)rows * cols / 4;
    uint64_t blocks = (groups + SOFTCAP_THREADS - 1) / SOFTCAP_THREADS;
    if (cols % 4 != 0 || !(cap > 0) || (uintptr_t)x % 16 != 0 || blocks > 0x7fffffffu)
        return cudaErrorInvalidValue;
    if (groups == 0) return cudaSuccess;
    return launch(LAUNCH_OVERLAPPED, softcap_kernel, dim3((uint32_t)blocks), dim3(SOFTCAP_THREADS),
                  0, stream, reinterpret_cast<float4 *>(x), groups, cap);
}
