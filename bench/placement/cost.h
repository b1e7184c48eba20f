/* cost: processor time of one placement, in a router of many workers and long prompts. */
#ifndef GAGGLE_BENCH_PLACEMENT_COST_H
#define GAGGLE_BENCH_PLACEMENT_COST_H

#include <stdint.h>

typedef struct placement_times {
    double hash_us;   /* prefix_chain_create() of a prompt of `prompt_bytes` */
    double decide_us; /* placement_decide(), with a prompt that others have read */
    double record_us; /* prefix_table_record() */
} placement_times;

/* Means over many prompts, which do not lie in the caches; of several rounds the best. */
placement_times cost_measure(uint32_t workers, uint32_t prompt_bytes);

#endif
