/* element: T, the model's element type on the device, seen alike by all kernels. */
#ifndef GAGGLE_WORKER_CUDA_ELEMENT_CUH
#define GAGGLE_WORKER_CUDA_ELEMENT_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

static __device__ __forceinline__ float to_float(__half x)
{
    return __half2float(x);
}

static __device__ __forceinline__ float to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

static __device__ __forceinline__ float to_float(float x)
{
    return x;
}

template <typename T> static __device__ __forceinline__ T from_float(float x);

template <> __device__ __forceinline__ __half from_float<__half>(float x)
{
    return __float2half_rn(x);
}

template <> __device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x)
{
    return __float2bfloat16_rn(x);
}

template <> __device__ __forceinline__ float from_float<float>(float x)
{
    return x;
}

/* Two elements in a register, the first in the low half. */
template <typename T> static __device__ __forceinline__ uint32_t pack_two(float low, float high)
{
    union {
        T elements[2];
        uint32_t word;
    } u;
    u.elements[0] = from_float<T>(low);
    u.elements[1] = from_float<T>(high);
    return u.word;
}

/* `Width` neighbours as floats and back. `p` is aligned to all of them, or to 16 bytes where they
 * are more. */
template <int Bytes> struct element_word;
template <> struct element_word<2> {
    typedef uint16_t type;
};
template <> struct element_word<4> {
    typedef uint32_t type;
};
template <> struct element_word<8> {
    typedef uint2 type;
};
template <> struct element_word<16> {
    typedef uint4 type;
};

template <int Width, typename T> union element_group {
    static constexpr int bytes = Width * (int)sizeof(T);
    typedef typename element_word<(bytes < 16 ? bytes : 16)>::type word;
    static constexpr int word_count = bytes / (int)sizeof(word);

    T elements[Width];
    word words[word_count];
};

template <int Width, typename T>
static __device__ __forceinline__ void load_elements(float (&x)[Width], const T *p)
{
    typedef element_group<Width, T> group;
    group g;
#pragma unroll
    for (int i = 0; i < group::word_count; i++)
        g.words[i] = reinterpret_cast<const typename group::word *>(p)[i];
#pragma unroll
    for (int i = 0; i < Width; i++)
        x[i] = to_float(g.elements[i]);
}

template <int Width, typename T>
static __device__ __forceinline__ void store_elements(T *p, const float (&x)[Width])
{
    typedef element_group<Width, T> group;
    group g;
#pragma unroll
    for (int i = 0; i < Width; i++)
        g.elements[i] = from_float<T>(x[i]);
#pragma unroll
    for (int i = 0; i < group::word_count; i++)
        reinterpret_cast<typename group::word *>(p)[i] = g.words[i];
}

/* Sum or maximum over a warp's lanes, the same in every lane, in a fixed order. */
static __device__ __forceinline__ float warp_sum(float x)
{
    for (int offset = 16; offset > 0; offset /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

static __device__ __forceinline__ float warp_max(float x)
{
    for (int offset = 16; offset > 0; offset /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
    return x;
}

#endif
