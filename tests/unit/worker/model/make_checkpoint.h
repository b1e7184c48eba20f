/* make_checkpoint: small model folders, written by the tests that load them.
 *
 * Writes config.json and safetensors files as transformers lays them out, with weights that are a
 * function of (seed, tensor name, element), so a test can say what should stand where. Any I/O
 * trouble ends the program: a test cannot go on without its input. */
#ifndef GAGGLE_TESTS_MAKE_CHECKPOINT_H
#define GAGGLE_TESTS_MAKE_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/model/config.h"
#include "worker/model/safetensors.h"

/* A tensor about to be written. */
typedef struct made_tensor {
    char name[128];
    dtype type;         /* of the bytes written; the plan's unless edited */
    char type_name[16]; /* as written to the header */
    uint32_t dim_count;
    uint64_t dims[4];
} made_tensor;

typedef struct checkpoint_plan {
    model_config config;
    dtype type; /* of all tensors */
    uint64_t seed;
    uint32_t shard_count;          /* 0: one model.safetensors; else that many files and an index */
    uint32_t header_padding;       /* extra spaces behind the header, which shift the data */
    const char *generation_config; /* text of generation_config.json; NULL: no such file */
    /* Spoils a tensor before it is written; false leaves it out. NULL: nothing is spoilt. */
    bool (*edit)(made_tensor *t);
} checkpoint_plan;

/* A two-layer Llama with grouped-query attention and an untied head, F32, unspoilt: 64 tokens,
 * 32 wide, 4 query and 2 key-value heads of 8, 48 wide inside, 128 tokens of context. */
checkpoint_plan checkpoint_plan_small(void);

/* Write the folder `dir`, made if need be; files of an earlier plan there are removed. */
void make_checkpoint(const checkpoint_plan *plan, const char *dir);

/* What make_checkpoint() puts at `index` of tensor `name`, before rounding to its dtype:
 * about 1 in norms, else evenly spread within 0.1 of 0. */
float made_value(uint64_t seed, const char *name, uint64_t index);

/* Write `size` bytes to DIR/NAME. */
void make_file(const char *dir, const char *name, const void *bytes, size_t size);

#endif
