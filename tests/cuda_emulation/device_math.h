/* device_math: vectors, bits and functions of the device library. Part of cuda_runtime.h's twin.
 * Fast approximations are the accurate functions: what a kernel's bound allows is tested on a
 * device. */
#ifndef GAGGLE_TESTS_CUDA_EMULATION_DEVICE_MATH_H
#define GAGGLE_TESTS_CUDA_EMULATION_DEVICE_MATH_H

#include "cuda_fp16.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

/* -- vectors -------------------------------------------------------------------------------- */

#define EMULATION_MAKE(prefix, type)                                                               \
    static inline prefix##1 make_##prefix##1(type x)                                               \
    {                                                                                              \
        return {x};                                                                                \
    }                                                                                              \
    static inline prefix##2 make_##prefix##2(type x, type y)                                       \
    {                                                                                              \
        return {x, y};                                                                             \
    }                                                                                              \
    static inline prefix##3 make_##prefix##3(type x, type y, type z)                               \
    {                                                                                              \
        return {x, y, z};                                                                          \
    }                                                                                              \
    static inline prefix##4 make_##prefix##4(type x, type y, type z, type w)                       \
    {                                                                                              \
        return {x, y, z, w};                                                                       \
    }
EMULATION_MAKE(char, signed char)
EMULATION_MAKE(uchar, unsigned char)
EMULATION_MAKE(short, short)
EMULATION_MAKE(ushort, unsigned short)
EMULATION_MAKE(int, int)
EMULATION_MAKE(uint, unsigned int)
EMULATION_MAKE(float, float)
EMULATION_MAKE(longlong, long long)
EMULATION_MAKE(ulonglong, unsigned long long)
EMULATION_MAKE(double, double)

/* -- bits ------------------------------------------------------------------------------------ */

static inline unsigned int __float_as_uint(float x)
{
    return emulation::float_bits(x);
}
static inline int __float_as_int(float x)
{
    return (int)emulation::float_bits(x);
}
static inline float __uint_as_float(unsigned int x)
{
    return emulation::bits_float(x);
}
static inline float __int_as_float(int x)
{
    return emulation::bits_float((unsigned int)x);
}
static inline long long __double_as_longlong(double x)
{
    long long bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline double __longlong_as_double(long long bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline int __popc(unsigned int x)
{
    return __builtin_popcount(x);
}
static inline int __popcll(unsigned long long x)
{
    return __builtin_popcountll(x);
}
static inline int __clz(int x)
{
    return x == 0 ? 32 : __builtin_clz((unsigned int)x);
}
static inline int __clzll(long long x)
{
    return x == 0 ? 64 : __builtin_clzll((unsigned long long)x);
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
static inline int __ffsll(long long x)
{
    return __builtin_ffsll(x);
}
static inline unsigned int __brev(unsigned int x)
{
    unsigned int y = 0;
    for (int i = 0; i < 32; i++)
        y |= (x >> i & 1) << (31 - i);
    return y;
}
static inline unsigned int __umulhi(unsigned int a, unsigned int b)
{
    return (unsigned int)((uint64_t)a * b >> 32);
}
static inline int __mulhi(int a, int b)
{
    return (int)((int64_t)a * b >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline unsigned int __funnelshift_l(unsigned int low, unsigned int high, unsigned int shift)
{
    return (unsigned int)((((uint64_t)high << 32 | low) << (shift & 31)) >> 32);
}
static inline unsigned int __funnelshift_r(unsigned int low, unsigned int high, unsigned int shift)
{
    return (unsigned int)(((uint64_t)high << 32 | low) >> (shift & 31));
}
static inline unsigned int __byte_perm(unsigned int a, unsigned int b, unsigned int selector)
{
    uint64_t bytes = (uint64_t)b << 32 | a;
    unsigned int result = 0;
    for (int i = 0; i < 4; i++) {
        unsigned int which = selector >> (4 * i) & 15;
        unsigned int byte = (unsigned int)(bytes >> (8 * (which & 7))) & 0xff;
        if (which & 8) byte = byte & 0x80 ? 0xff : 0;
        result |= byte << (8 * i);
    }
    return result;
}

/* -- functions -------------------------------------------------------------------------------- */

/* glibc declares functions of these names for itself. */
#define __expf(x)    expf(x)
#define __logf(x)    logf(x)
#define __log2f(x)   log2f(x)
#define __sinf(x)    sinf(x)
#define __cosf(x)    cosf(x)
#define __powf(x, y) powf(x, y)

using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;
using std::signbit;
static inline unsigned int max(int a, unsigned int b)
{
    return std::max((unsigned int)a, b);
}
static inline unsigned int max(unsigned int a, int b)
{
    return std::max(a, (unsigned int)b);
}
static inline unsigned int min(int a, unsigned int b)
{
    return std::min((unsigned int)a, b);
}
static inline unsigned int min(unsigned int a, int b)
{
    return std::min(a, (unsigned int)b);
}
static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
static inline double rsqrt(double x)
{
    return 1.0 / sqrt(x);
}
static inline float __fdividef(float x, float y)
{
    return x / y;
}
static inline float fdividef(float x, float y)
{
    return x / y;
}
static inline float __frcp_rn(float x)
{
    return 1.0f / x;
}
static inline float __fsqrt_rn(float x)
{
    return sqrtf(x);
}
static inline float __frsqrt_rn(float x)
{
    return rsqrtf(x);
}
static inline float __fadd_rn(float x, float y)
{
    return x + y;
}
static inline float __fsub_rn(float x, float y)
{
    return x - y;
}
static inline float __fmul_rn(float x, float y)
{
    return x * y;
}
static inline float __fdiv_rn(float x, float y)
{
    return x / y;
}
static inline float __fmaf_rn(float x, float y, float z)
{
    return fmaf(x, y, z);
}
static inline float __saturatef(float x)
{
    return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f;
}
static inline float __uint2float_rn(unsigned int x)
{
    return (float)x;
}
static inline float __int2float_rn(int x)
{
    return (float)x;
}
static inline int __float2int_rn(float x)
{
    return (int)nearbyintf(x);
}
static inline int __float2int_rz(float x)
{
    return (int)x;
}
static inline unsigned int __float2uint_rz(float x)
{
    return (unsigned int)x;
}
static inline void sincospif(float x, float *sine, float *cosine)
{
    *sine = (float)std::sin(3.14159265358979323846 * (double)x);
    *cosine = (float)std::cos(3.14159265358979323846 * (double)x);
}
static inline float cospif(float x)
{
    return (float)std::cos(3.14159265358979323846 * (double)x);
}
static inline float sinpif(float x)
{
    return (float)std::sin(3.14159265358979323846 * (double)x);
}

#endif
