/* loads: what clients ask, for the policy bench. */
#ifndef GAGGLE_BENCH_PLACEMENT_LOADS_H
#define GAGGLE_BENCH_PLACEMENT_LOADS_H

#include "router/prefix_chain.h"

/* A prompt is a row of blocks; equal numbers are equal text after equal beginnings. */
typedef struct load_request {
    double arrival_s;
    uint32_t prompt_tokens, answer_tokens;
    uint32_t *block;      /* [block_count]; the last may be partly filled */
    uint32_t block_count; /* ceil(prompt_tokens / block_tokens) */
    prefix_chain *prompt; /* as the router hashes its bytes */
} load_request;

typedef struct load {
    const char *name;
    load_request *requests; /* by time of arrival */
    uint32_t count;
    uint32_t block_tokens;
    uint32_t block_numbers; /* every block's is below */
    uint64_t prompt_tokens, answer_tokens;
    uint64_t repeated_tokens; /* of prompts: what an endless cache would have had */
} load;

/* The Mooncake trace: lengths, times and shared blocks of real requests, `speed` times as fast.
 * ST_NOT_FOUND where the file is not. */
MUST_USE status load_mooncake(load *out, const char *path, double speed, error *err);

/* Prompts of 4,000 tokens, 70 % of each shared with others: `groups` beginnings of unequal
 * popularity (the k-th in proportion to 1/k), Poisson arrivals. */
void load_shared_prefix(load *out, uint32_t count, uint32_t groups, double requests_per_s);

void load_free(load *l);

#endif
