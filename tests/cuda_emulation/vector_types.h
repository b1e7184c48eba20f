/* Twin of CUDA's header for the CPU emulation (C and C++): the vector types. */
#ifndef GAGGLE_TESTS_CUDA_EMULATION_VECTOR_TYPES_H
#define GAGGLE_TESTS_CUDA_EMULATION_VECTOR_TYPES_H

#define EMULATION_VECTOR1(name, type)                                                              \
    typedef struct name {                                                                          \
        type x;                                                                                    \
    } name
#define EMULATION_VECTOR2(name, type, alignment)                                                   \
    typedef struct __attribute__((aligned(alignment))) name {                                      \
        type x, y;                                                                                 \
    } name
#define EMULATION_VECTOR3(name, type)                                                              \
    typedef struct name {                                                                          \
        type x, y, z;                                                                              \
    } name
#define EMULATION_VECTOR4(name, type, alignment)                                                   \
    typedef struct __attribute__((aligned(alignment))) name {                                      \
        type x, y, z, w;                                                                           \
    } name
#define EMULATION_VECTORS(prefix, type, bytes, most)                                               \
    EMULATION_VECTOR1(prefix##1, type);                                                            \
    EMULATION_VECTOR2(prefix##2, type, 2 * bytes);                                                 \
    EMULATION_VECTOR3(prefix##3, type);                                                            \
    EMULATION_VECTOR4(prefix##4, type, most)

EMULATION_VECTORS(char, signed char, 1, 4);
EMULATION_VECTORS(uchar, unsigned char, 1, 4);
EMULATION_VECTORS(short, short, 2, 8);
EMULATION_VECTORS(ushort, unsigned short, 2, 8);
EMULATION_VECTORS(int, int, 4, 16);
EMULATION_VECTORS(uint, unsigned int, 4, 16);
EMULATION_VECTORS(float, float, 4, 16);
EMULATION_VECTORS(longlong, long long, 8, 16);
EMULATION_VECTORS(ulonglong, unsigned long long, 8, 16);
EMULATION_VECTORS(double, double, 8, 16);

#ifdef __cplusplus
struct dim3 {
    unsigned int x, y, z;
    constexpr dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1)
        : x(x_), y(y_), z(z_)
    {
    }
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z)
    {
    }
};
#else
typedef struct dim3 {
    unsigned int x, y, z;
} dim3;
#endif

#endif
