/* variant: the kernel sources are compiled once for each instruction set (CMakeLists.txt), and
 * VARIANT() gives each compilation's functions names of their own: matmul_avx2. */
#ifndef GAGGLE_WORKER_CPU_KERNELS_VARIANT_H
#define GAGGLE_WORKER_CPU_KERNELS_VARIANT_H

#include "worker/cpu/kernels/kernels.h"

#define VARIANT_JOIN_(name, isa) name##_##isa
#define VARIANT_JOIN(name, isa)  VARIANT_JOIN_(name, isa)
#define VARIANT(name)            VARIANT_JOIN(name, KERNELS_ISA)

void VARIANT(matmul)(const matmul *m);
void VARIANT(attention_part)(const attention_part *a);
void VARIANT(attention_merge)(float *record, const float *later, uint32_t head_dim);
void VARIANT(attention_finish)(float *out, const float *record, uint32_t head_dim);
void VARIANT(rmsnorm)(float *out, const float *in, const float *weight, uint32_t count, float eps);
void VARIANT(rope)(float *vectors, const float *cosines, const float *sines, uint32_t heads,
                   uint32_t head_dim, uint32_t rotary_dim, float scale);
void VARIANT(silu_multiply)(float *out, const float *gate, uint32_t count);
void VARIANT(gelu_multiply)(float *restrict out, const float *restrict gate, uint32_t count);
void VARIANT(softcap)(float *values, float cap, size_t count);
void VARIANT(widen)(float *out, const void *in, dtype type, size_t count);
void VARIANT(exponential)(float *out, const float *in, uint32_t count);
uint64_t VARIANT(burn)(uint64_t rounds, float *sink);

extern const cpu_kernels VARIANT(cpu_kernels);

#endif
