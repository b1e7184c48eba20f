/* ceilings: what the device itself can do, measured, to hold figures against. */
#ifndef GAGGLE_WORKER_CUDA_CEILINGS_H
#define GAGGLE_WORKER_CUDA_CEILINGS_H

#include "common/status.h"

/* bytes_per_s  a large copy within the device's memory, bytes read plus bytes written
 * flops_per_s  an 8192 x 8192 x 8192 product of random BF16 (F16 before sm_80) by the vendor's
 *              library, with float sums
 * Takes a second and 3 GiB of the device (less where less is free) for the time being; the best of
 * several rounds. Main thread, before a backend is created. */
MUST_USE status ceilings_measure(uint32_t ordinal, double *bytes_per_s, double *flops_per_s,
                                 error *err);

#endif
