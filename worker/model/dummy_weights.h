/* dummy weights: memory full of small random BF16 numbers. Private to worker/model. */
#ifndef GAGGLE_WORKER_MODEL_DUMMY_WEIGHTS_H
#define GAGGLE_WORKER_MODEL_DUMMY_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

#define BF16_ONE 0x3f80u

/* Map `size` bytes (a multiple of 2) of zeros that take no memory until they are touched.
 * ST_RESOURCE_EXHAUSTED. Freed by munmap(). */
MUST_USE status dummy_weights_reserve(uint16_t **out, size_t size, error *err);

/* Map `size` bytes (a multiple of 2) and fill them with BF16 numbers of mean 0 and standard
 * deviation 0.02: a function of `size` alone, whatever the machine and its number of threads.
 * `progress` may be NULL. ST_RESOURCE_EXHAUSTED. Freed by munmap(). */
MUST_USE status dummy_weights_map(uint16_t **out, size_t size,
                                  void (*progress)(void *ctx, uint64_t done, uint64_t total),
                                  void *ctx, error *err);

#endif
