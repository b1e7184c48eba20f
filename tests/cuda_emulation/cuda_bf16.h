/* Twin of CUDA's header for the CPU emulation: __nv_bfloat16 in software, rounded to nearest
 * even. */
#ifndef GAGGLE_TESTS_CUDA_EMULATION_CUDA_BF16_H
#define GAGGLE_TESTS_CUDA_EMULATION_CUDA_BF16_H

#include "cuda_fp16.h"

struct __nv_bfloat16 {
    uint16_t bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float x)
    {
        uint32_t word = emulation::float_bits(x);
        bits = (word & 0x7fffffffu) > 0x7f800000u
                   ? 0x7fff
                   : (uint16_t)((word + 0x7fffu + (word >> 16 & 1)) >> 16);
    }
    __nv_bfloat16(double x) : __nv_bfloat16((float)x)
    {
    }
    __nv_bfloat16(int x) : __nv_bfloat16((float)x)
    {
    }
    operator float() const
    {
        return emulation::bits_float((uint32_t)bits << 16);
    }
};
typedef __nv_bfloat16 nv_bfloat16;

struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
    __nv_bfloat162() = default;
    __nv_bfloat162(__nv_bfloat16 low, __nv_bfloat16 high) : x(low), y(high)
    {
    }
};
typedef __nv_bfloat162 nv_bfloat162;

struct __nv_bfloat16_raw {
    uint16_t x;
};

static inline float __bfloat162float(__nv_bfloat16 x)
{
    return (float)x;
}
static inline __nv_bfloat16 __float2bfloat16(float x)
{
    return __nv_bfloat16(x);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    return __nv_bfloat16(x);
}
static inline __nv_bfloat16 __double2bfloat16(double x)
{
    return __nv_bfloat16(x);
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    __nv_bfloat16 x;
    x.bits = bits;
    return x;
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x)
{
    return x.bits;
}
static inline bool __hisnan(__nv_bfloat16 x)
{
    return (x.bits & 0x7fff) > 0x7f80;
}
static inline int __hisinf(__nv_bfloat16 x)
{
    return (x.bits & 0x7fff) == 0x7f80 ? (x.bits & 0x8000 ? -1 : 1) : 0;
}

static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 low, __nv_bfloat16 high)
{
    return __nv_bfloat162(low, high);
}
static inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 low, __nv_bfloat16 high)
{
    return __nv_bfloat162(low, high);
}
static inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x)
{
    return __nv_bfloat162(x, x);
}
static inline __nv_bfloat162 __float2bfloat162_rn(float x)
{
    return __nv_bfloat162(__nv_bfloat16(x), __nv_bfloat16(x));
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float low, float high)
{
    return __nv_bfloat162(__nv_bfloat16(low), __nv_bfloat16(high));
}
static inline __nv_bfloat162 __float22bfloat162_rn(float2 x)
{
    return __nv_bfloat162(__nv_bfloat16(x.x), __nv_bfloat16(x.y));
}
static inline float2 __bfloat1622float2(__nv_bfloat162 x)
{
    return {(float)x.x, (float)x.y};
}
static inline float __low2float(__nv_bfloat162 x)
{
    return (float)x.x;
}
static inline float __high2float(__nv_bfloat162 x)
{
    return (float)x.y;
}
static inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 x)
{
    return x.x;
}
static inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 x)
{
    return x.y;
}

EMULATION_HALF_ARITHMETIC(__nv_bfloat16, __nv_bfloat162)

#endif
