/* ceilings: what the device itself can do, measured, to hold figures against. */
#ifndef GAGGLE_WORKER_CUDA_CEILINGS_H
#define GAGGLE_WORKER_CUDA_CEILINGS_H

#include "worker/cuda/cuda_backend.h"

/* read    a large copy within the device's memory, bytes read plus bytes written
 * flops   an 8192 x 8192 x 8192 product of random BF16 (F16 before sm_80) by the vendor's library,
 *         with float sums
 * upload  a large copy from pinned memory
 * Takes a second and 3 GiB of the device (less where less is free) for the time being; the best of
 * several rounds. Main thread, before a backend is created. */
MUST_USE status ceilings_measure(uint32_t ordinal, device_ceilings *out, error *err);

#endif
