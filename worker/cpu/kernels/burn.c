/* burn: the most multiply-adds this instruction set does in a second, for the bench. Independent
 * sums enough to hide the latency, nothing read from memory. */
#include "worker/cpu/kernels/lanes.h"
#include "worker/cpu/kernels/variant.h"

#if LANES_AVX512
#define CHAINS 16u
#else
#define CHAINS 5u /* of two registers each; with the factors they fill sixteen */
#endif

uint64_t VARIANT(burn)(uint64_t rounds, float *sink)
{
    lanes sum[CHAINS];
    lanes factor = lanes_set(*sink);
    /* All different: of two equal registers the compiler would compute one. */
    float start[CHAINS * LANES];
    for (unsigned i = 0; i < CHAINS * LANES; i++)
        start[i] = *sink + (float)i;
    foreach (i, CHAINS)
        sum[i] = lanes_load_f32(start + i * LANES);
    for (uint64_t round = 0; round < rounds; round++) {
        foreach (i, CHAINS)
            sum[i] = lanes_fma(sum[i], factor, factor);
    }
    float total = 0.0f;
    foreach (i, CHAINS)
        total += lanes_sum(sum[i]);
    *sink = total;
    return rounds * CHAINS * LANES * 2u;
}
