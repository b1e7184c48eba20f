/* checkpoint: the safetensors files of one model folder. Private to worker/model.
 *
 * Either DIR/model.safetensors or, where that is missing, the shards that
 * DIR/model.safetensors.index.json names. One owner; immutable after open. */
#ifndef GAGGLE_WORKER_MODEL_CHECKPOINT_H
#define GAGGLE_WORKER_MODEL_CHECKPOINT_H

#include <jansson.h>
#include <xxhash.h>

#include "worker/model/safetensors.h"

typedef struct checkpoint {
    json_t *weight_map;  /* tensor name -> file name; NULL: there is one file */
    safetensors **files; /* [file_count] sorted by name */
    char **names;        /* [file_count] */
    size_t file_count;
} checkpoint; /* {0} is an empty one */

/* ST_NOT_FOUND, ST_INVALID_ARGUMENT and what safetensors_open() returns. On failure `c` is to be
 * closed all the same. */
MUST_USE status checkpoint_open(checkpoint *c, const char *dir, error *err);
void checkpoint_close(checkpoint *c);

/* ST_NOT_FOUND: the index or the file that it names has no such tensor. */
MUST_USE status checkpoint_find(const checkpoint *c, const char *name, const tensor **out,
                                error *err);

/* Bring all files' pages into memory, front to back, so that no forward pass waits for the disk. */
void checkpoint_read_in(const checkpoint *c,
                        void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx);

/* What tells this checkpoint from another one: see the essay in weights.c. */
void checkpoint_hash(const checkpoint *c, XXH3_state_t *hash);

#endif
