#include "worker/cpu/kernels/lanes.h"
#include "worker/cpu/kernels/variant.h"

const cpu_kernels VARIANT(cpu_kernels) = {
#if LANES_AVX512
    .name = "AVX-512",
#elif LANES_AVX2
    .name = "AVX2",
#else
    .name = "portable",
#endif
    .matmul = VARIANT(matmul),
    .attention_part = VARIANT(attention_part),
    .attention_merge = VARIANT(attention_merge),
    .attention_finish = VARIANT(attention_finish),
    .rmsnorm = VARIANT(rmsnorm),
    .rope = VARIANT(rope),
    .silu_multiply = VARIANT(silu_multiply),
    .gelu_multiply = VARIANT(gelu_multiply),
    .softcap = VARIANT(softcap),
    .widen = VARIANT(widen),
    .exponential = VARIANT(exponential),
    .burn = VARIANT(burn),
};
