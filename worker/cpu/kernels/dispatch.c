/* dispatch: which kernel tables this machine can run. */
#include "worker/cpu/kernels/kernels.h"

extern const cpu_kernels cpu_kernels_portable;

#ifdef __x86_64__
#include <cpuid.h>

extern const cpu_kernels cpu_kernels_avx2;
extern const cpu_kernels cpu_kernels_avx512;

/* The compiler's own test also asks whether the operating system saves the wide registers; of
 * F16C only newer compilers know, and it needs no more than AVX's. */
static bool has_f16c(void)
{
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
#endif

const cpu_kernels *const *cpu_kernels_available(size_t *count)
{
#ifdef __x86_64__
    static const cpu_kernels *const all[] = {&cpu_kernels_avx512, &cpu_kernels_avx2,
                                             &cpu_kernels_portable};
    size_t skip = has_avx512() ? 0 : has_avx2() ? 1 : 2;
#else
    static const cpu_kernels *const all[] = {&cpu_kernels_portable};
    size_t skip = 0;
#endif
    *count = sizeof all / sizeof all[0] - skip;
    return all + skip;
}
