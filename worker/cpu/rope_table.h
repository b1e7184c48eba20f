/* rope_table: cosine and sine of a position's rotary angles. Any thread. */
#ifndef GAGGLE_WORKER_CPU_ROPE_TABLE_H
#define GAGGLE_WORKER_CPU_ROPE_TABLE_H

#include <stdint.h>

/* cosines, sines  [count], of the angles position * frequencies[i], rounded to float32 first, as
 * transformers does. Correct to 1 ulp for angles from 0 to LIMIT_CONTEXT_TOKENS; the same bits on
 * every machine. */
void rope_table_fill(float *cosines, float *sines, const float *frequencies, uint32_t count,
                     uint32_t position);

#endif
