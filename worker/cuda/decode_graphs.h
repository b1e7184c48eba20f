/* decode_graphs: decode steps as captured CUDA graphs.
 *
 * A decode step launches some ten kernels a layer; one graph launch replaces them. A graph is for a
 * bucket, a number of rows, into which a step with fewer is padded. Lengths are not part of it:
 * what depends on them is read from device memory. A bucket's first step runs as it is, which loads
 * all kernels it needs; the second is captured. Engine thread. */
#ifndef GAGGLE_WORKER_CUDA_DECODE_GRAPHS_H
#define GAGGLE_WORKER_CUDA_DECODE_GRAPHS_H

#include "worker/cuda/forward.h"

typedef struct decode_graphs decode_graphs;

/* For steps of up to `rows_max` rows. */
decode_graphs *decode_graphs_create(uint32_t rows_max);
void decode_graphs_destroy(decode_graphs *d); /* NULL is fine; nothing of it may be running */

/* Device memory to leave for all of them. */
uint64_t decode_graphs_bytes(uint32_t rows_max);

/* The rows a decode step of `rows` is padded to. */
uint32_t decode_graphs_bucket(const decode_graphs *d, uint32_t rows);

/* Enqueue a decode step's logits and samples; `view` is padded to a bucket. */
MUST_USE status decode_graphs_run(decode_graphs *d, gpu_model *m, const step_view *view,
                                  error *err);

#endif
