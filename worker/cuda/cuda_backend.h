/* cuda_backend: the shared object's door. The worker loads it when it is there (worker/device.c);
 * nothing else of worker/cuda is seen from outside.
 *
 * Memory, status, log and model functions come from the program that loads it. */
#ifndef GAGGLE_WORKER_CUDA_CUDA_BACKEND_H
#define GAGGLE_WORKER_CUDA_CUDA_BACKEND_H

#include "worker/backend.h"

#define CUDA_DOOR_SYMBOL  "gaggle_cuda_door"
#define CUDA_DOOR_VERSION 2u
#define CUDA_PLAN_TEXT    1024

/* What a device itself can do, measured, to hold figures against. */
typedef struct device_ceilings {
    double read_bytes_per_s;   /* of its memory */
    double flops_per_s;        /* of a matrix product, a multiply-add as two */
    double upload_bytes_per_s; /* from pinned memory of the host; 0: the device is the host */
} device_ceilings;

typedef struct cuda_door {
    uint32_t version; /* CUDA_DOOR_VERSION; the first member, for ever */

    /* Devices this process sees. ST_UNAVAILABLE: none, or an old driver; says what to do. */
    status (*count_devices)(uint32_t *count, error *err);

    /* Load `m` (best unread, weights.h) onto options->device_ordinal. `progress` may be NULL.
     * plan_text gets the memory plan. With options->plan_only nothing is loaded and *out is NULL.
     * ST_RESOURCE_EXHAUSTED: it does not fit, says what takes how much; ST_UNIMPLEMENTED: the
     * kernels do not cover the model; ST_UNAVAILABLE, ST_INVALID_ARGUMENT, ST_INTERNAL. */
    status (*create)(backend **out, const model *m, const backend_options *options,
                     void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                     char plan_text[CUDA_PLAN_TEXT], error *err);

    status (*measure_ceilings)(uint32_t ordinal, device_ceilings *out, error *err);
} cuda_door;

extern const cuda_door gaggle_cuda_door __attribute__((visibility("default")));

#endif
