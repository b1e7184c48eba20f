/* device: which device a worker runs on, and its backend.
 *
 *   auto     the first CUDA device when there is one that can be used, else the CPU
 *   cuda     cuda:0
 *   cuda:N   that one, or a refusal
 *   cpu
 *
 * The CUDA backend is a shared object (libgaggle_cuda.so), looked for beside this program and in
 * ../lib/gaggle, and loaded only when a device is asked for: the same worker starts where there is
 * no driver. Main thread. */
#ifndef GAGGLE_WORKER_DEVICE_H
#define GAGGLE_WORKER_DEVICE_H

#include "worker/backend.h"
#include "worker/cuda/cuda_backend.h"

typedef struct device_choice {
    const cuda_door *cuda; /* NULL: the CPU */
    uint32_t ordinal;
} device_choice;

/* Read --device. Where `auto` falls back to the CPU although this build has the backend, or there
 * is an NVIDIA driver, one line of the log says why. ST_INVALID_ARGUMENT: not one of the above, or
 * no such device; ST_UNAVAILABLE: no CUDA device can be used, says why. */
MUST_USE status device_choose(device_choice *out, const char *text, error *err);

/* The model's form in which this device wants it: a GPU reads the weights itself. */
load_format device_load_format(const device_choice *device, bool dummy);

/* A backend for `m` on the device. `progress` may be NULL. plan_text gets the memory plan, or ""
 * where there is none. With options->plan_only *out is NULL. Errors as the backends' own. */
MUST_USE status device_create_backend(backend **out, const device_choice *device, const model *m,
                                      backend_options *options,
                                      void (*progress)(void *ctx, uint64_t done, uint64_t total),
                                      void *ctx, char plan_text[CUDA_PLAN_TEXT], error *err);

/* How many CUDA devices can be used here; 0 with a reason in `why`. */
uint32_t device_count_cuda(error *why);

#endif
