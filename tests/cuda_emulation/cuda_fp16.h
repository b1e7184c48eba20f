/* Twin of CUDA's header for the CPU emulation: __half in software, rounded to nearest even,
 * subnormals kept, as on the device. */
#ifndef GAGGLE_TESTS_CUDA_EMULATION_CUDA_FP16_H
#define GAGGLE_TESTS_CUDA_EMULATION_CUDA_FP16_H

#include "vector_types.h"

#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulation
{

inline uint32_t float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

inline float half_to_float(uint16_t half)
{
    /* Move exponent and mantissa into place, then let a multiplication correct the bias: it also
     * normalises subnormals. */
    float x = bits_float((half & 0x7fffu) << 13) * 0x1p112f;
    uint32_t bits = float_bits(x);
    if ((half & 0x7c00u) == 0x7c00u) bits |= 0x7f800000u;
    return bits_float(bits | (half & 0x8000u) << 16);
}

inline uint16_t float_to_half(float x)
{
    uint32_t bits = float_bits(x);
    uint32_t sign = bits & 0x80000000u;
    bits ^= sign;
    uint32_t half;
    if (bits > 0x7f800000u) return 0x7fff; /* NaN */
    if (bits >= 0x47800000u)
        half = 0x7c00; /* from 65536: infinity */
    else if (bits < 0x38800000u)
        /* Below the least normal: adding 0.5 leaves the rounded mantissa in the low bits. */
        half = float_bits(bits_float(bits) + 0.5f) - 0x3f000000u;
    else
        half = (bits + 0xc8000fffu + (bits >> 13 & 1)) >> 13;
    return (uint16_t)(half | sign >> 16);
}

} // namespace emulation

struct __half {
    uint16_t bits;
    __half() = default;
    __half(float x) : bits(emulation::float_to_half(x))
    {
    }
    __half(double x) : __half((float)x)
    {
    }
    __half(int x) : __half((float)x)
    {
    }
    operator float() const
    {
        return emulation::half_to_float(bits);
    }
};
typedef __half half;

struct alignas(4) __half2 {
    __half x, y;
    __half2() = default;
    __half2(__half low, __half high) : x(low), y(high)
    {
    }
};
typedef __half2 half2;

struct __half_raw {
    uint16_t x;
};

static inline float __half2float(__half x)
{
    return (float)x;
}
static inline __half __float2half(float x)
{
    return __half(x);
}
static inline __half __float2half_rn(float x)
{
    return __half(x);
}
static inline __half __double2half(double x)
{
    return __half(x);
}
static inline __half __ushort_as_half(unsigned short bits)
{
    __half x;
    x.bits = bits;
    return x;
}
static inline unsigned short __half_as_ushort(__half x)
{
    return x.bits;
}
static inline short __half_as_short(__half x)
{
    return (short)x.bits;
}
static inline bool __hisnan(__half x)
{
    return (x.bits & 0x7fff) > 0x7c00;
}
static inline int __hisinf(__half x)
{
    return (x.bits & 0x7fff) == 0x7c00 ? (x.bits & 0x8000 ? -1 : 1) : 0;
}

static inline __half2 __halves2half2(__half low, __half high)
{
    return __half2(low, high);
}
static inline __half2 make_half2(__half low, __half high)
{
    return __half2(low, high);
}
static inline __half2 __half2half2(__half x)
{
    return __half2(x, x);
}
static inline __half2 __float2half2_rn(float x)
{
    return __half2(__half(x), __half(x));
}
static inline __half2 __floats2half2_rn(float low, float high)
{
    return __half2(__half(low), __half(high));
}
static inline __half2 __float22half2_rn(float2 x)
{
    return __half2(__half(x.x), __half(x.y));
}
static inline float2 __half22float2(__half2 x)
{
    return {(float)x.x, (float)x.y};
}
static inline float __low2float(__half2 x)
{
    return (float)x.x;
}
static inline float __high2float(__half2 x)
{
    return (float)x.y;
}
static inline __half __low2half(__half2 x)
{
    return x.x;
}
static inline __half __high2half(__half2 x)
{
    return x.y;
}

#define EMULATION_HALF_ARITHMETIC(type, type2)                                                     \
    static inline type __hadd(type a, type b)                                                      \
    {                                                                                              \
        return type((float)a + (float)b);                                                          \
    }                                                                                              \
    static inline type __hsub(type a, type b)                                                      \
    {                                                                                              \
        return type((float)a - (float)b);                                                          \
    }                                                                                              \
    static inline type __hmul(type a, type b)                                                      \
    {                                                                                              \
        return type((float)a * (float)b);                                                          \
    }                                                                                              \
    static inline type __hdiv(type a, type b)                                                      \
    {                                                                                              \
        return type((float)a / (float)b);                                                          \
    }                                                                                              \
    static inline type __hneg(type a)                                                              \
    {                                                                                              \
        a.bits ^= 0x8000;                                                                          \
        return a;                                                                                  \
    }                                                                                              \
    static inline type __habs(type a)                                                              \
    {                                                                                              \
        a.bits &= 0x7fff;                                                                          \
        return a;                                                                                  \
    }                                                                                              \
    static inline type __hfma(type a, type b, type c)                                              \
    {                                                                                              \
        return type(std::fma((float)a, (float)b, (float)c));                                       \
    }                                                                                              \
    static inline type __hmax(type a, type b)                                                      \
    {                                                                                              \
        return type(std::fmax((float)a, (float)b));                                                \
    }                                                                                              \
    static inline type __hmin(type a, type b)                                                      \
    {                                                                                              \
        return type(std::fmin((float)a, (float)b));                                                \
    }                                                                                              \
    static inline bool __hgt(type a, type b)                                                       \
    {                                                                                              \
        return (float)a > (float)b;                                                                \
    }                                                                                              \
    static inline bool __hlt(type a, type b)                                                       \
    {                                                                                              \
        return (float)a < (float)b;                                                                \
    }                                                                                              \
    static inline type operator+(type a, type b)                                                   \
    {                                                                                              \
        return __hadd(a, b);                                                                       \
    }                                                                                              \
    static inline type operator-(type a, type b)                                                   \
    {                                                                                              \
        return __hsub(a, b);                                                                       \
    }                                                                                              \
    static inline type operator*(type a, type b)                                                   \
    {                                                                                              \
        return __hmul(a, b);                                                                       \
    }                                                                                              \
    static inline type operator/(type a, type b)                                                   \
    {                                                                                              \
        return __hdiv(a, b);                                                                       \
    }                                                                                              \
    static inline type operator-(type a)                                                           \
    {                                                                                              \
        return __hneg(a);                                                                          \
    }                                                                                              \
    static inline type2 __hadd2(type2 a, type2 b)                                                  \
    {                                                                                              \
        return type2(__hadd(a.x, b.x), __hadd(a.y, b.y));                                          \
    }                                                                                              \
    static inline type2 __hsub2(type2 a, type2 b)                                                  \
    {                                                                                              \
        return type2(__hsub(a.x, b.x), __hsub(a.y, b.y));                                          \
    }                                                                                              \
    static inline type2 __hmul2(type2 a, type2 b)                                                  \
    {                                                                                              \
        return type2(__hmul(a.x, b.x), __hmul(a.y, b.y));                                          \
    }                                                                                              \
    static inline type2 __hfma2(type2 a, type2 b, type2 c)                                         \
    {                                                                                              \
        return type2(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));                                \
    }                                                                                              \
    static inline type2 __hmax2(type2 a, type2 b)                                                  \
    {                                                                                              \
        return type2(__hmax(a.x, b.x), __hmax(a.y, b.y));                                          \
    }                                                                                              \
    static inline type2 __hmin2(type2 a, type2 b)                                                  \
    {                                                                                              \
        return type2(__hmin(a.x, b.x), __hmin(a.y, b.y));                                          \
    }

EMULATION_HALF_ARITHMETIC(__half, __half2)

#endif
