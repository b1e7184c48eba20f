/* device_memory: cached loads, atomics and fences. Part of cuda_runtime.h's twin. All CUDA threads
 * share one OS thread, so plain accesses are atomic. */
#ifndef GAGGLE_TESTS_CUDA_EMULATION_DEVICE_MEMORY_H
#define GAGGLE_TESTS_CUDA_EMULATION_DEVICE_MEMORY_H

#include "block.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#define EMULATION_LOAD(name)                                                                       \
    template <typename T> static inline T name(const T *p)                                         \
    {                                                                                              \
        return *p;                                                                                 \
    }
EMULATION_LOAD(__ldg)
EMULATION_LOAD(__ldcs)
EMULATION_LOAD(__ldca)
EMULATION_LOAD(__ldcg)
EMULATION_LOAD(__ldlu)
EMULATION_LOAD(__ldcv)

#define EMULATION_STORE(name)                                                                      \
    template <typename T> static inline void name(T *p, T value)                                   \
    {                                                                                              \
        *p = value;                                                                                \
    }
EMULATION_STORE(__stwb)
EMULATION_STORE(__stcg)
EMULATION_STORE(__stcs)
EMULATION_STORE(__stwt)

#define EMULATION_ATOMIC(name, expression)                                                         \
    template <typename T> static inline T name(T *p, std::common_type_t<T> value)                  \
    {                                                                                              \
        T old = *p;                                                                                \
        *p = (T)(expression);                                                                      \
        emulation::progress();                                                                     \
        return old;                                                                                \
    }
EMULATION_ATOMIC(atomicAdd, old + value)
EMULATION_ATOMIC(atomicSub, old - value)
EMULATION_ATOMIC(atomicMax, std::max(old, value))
EMULATION_ATOMIC(atomicMin, std::min(old, value))
EMULATION_ATOMIC(atomicAnd, old &value)
EMULATION_ATOMIC(atomicOr, old | value)
EMULATION_ATOMIC(atomicXor, old ^ value)
EMULATION_ATOMIC(atomicExch, value)
EMULATION_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
EMULATION_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)

/* A compare that fails may be a thread that spins: others get a turn. */
template <typename T>
static inline T atomicCAS(T *p, std::common_type_t<T> expected, std::common_type_t<T> value,
                          EMULATION_PLACE)
{
    T old = *p;
    if (old == expected) {
        *p = value;
        emulation::progress();
    } else {
        emulation::poll("atomicCAS", where);
    }
    return old;
}

static inline void __threadfence()
{
}
static inline void __threadfence_block()
{
}
static inline void __threadfence_system()
{
}
static inline void __nanosleep(unsigned int, EMULATION_PLACE)
{
    emulation::poll("__nanosleep", where);
}
[[noreturn]] static inline void __trap(EMULATION_PLACE)
{
    emulation::fail(where, "__trap()");
}
static inline long long clock64()
{
    return 0;
}

#endif
