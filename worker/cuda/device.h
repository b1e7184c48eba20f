/* device: one CUDA device: its stream, its memory, and the place where CUDA's errors become
 * sentences.
 *
 * Everything runs on one stream, so that steps happen in the order in which they were enqueued.
 * An error of the device is final: the context may be poisoned, and whoever meets one passes
 * ST_INTERNAL up until the process ends; nothing is retried. Engine thread only after gpu_open().
 */
#ifndef GAGGLE_WORKER_CUDA_DEVICE_H
#define GAGGLE_WORKER_CUDA_DEVICE_H

#include "common/status.h"
#include "worker/cuda/kernels/kernel_types.h"

#define GPU_ALLOCATIONS_MAX 64u

typedef struct gpu_allocation {
    void *memory;
    bool is_host;
} gpu_allocation;

typedef struct gpu {
    int ordinal;
    char name[64];
    uint32_t arch; /* its own: 75, 80, 86, 89, 90 ... */
    kernel_device kernels;
    cudaStream_t stream;
    uint64_t memory_bytes; /* in all */
    gpu_allocation allocations[GPU_ALLOCATIONS_MAX];
    uint32_t allocation_count;
    uint64_t calls, fail_at_call; /* checked calls so far, and the one to fail; 0 = none */
} gpu;

/* Devices a process sees. ST_UNAVAILABLE: no driver, no device, or a driver too old for this build;
 * says which and what to do. */
MUST_USE status gpu_count(uint32_t *count, error *err);

/* Make `ordinal` current for this thread and open it. fail_at_call: a debug knob, the Nth checked
 * call fails as if the device had; 0 = none. ST_INVALID_ARGUMENT: no such device, naming those
 * that exist; ST_UNAVAILABLE: it is older than sm_75, or this build has no code for it. On failure
 * gpu_close() is still fine. */
MUST_USE status gpu_open(gpu *g, int ordinal, uint64_t fail_at_call, error *err);
void gpu_close(gpu *g); /* frees what was allocated through it */

/* Another thread is going to use it. */
MUST_USE status gpu_bind_thread(gpu *g, error *err);

/* Device memory, freed by gpu_close(); 256-byte aligned; not cleared. ST_RESOURCE_EXHAUSTED names
 * `what` and the size. bytes may be 0: *out is NULL. */
MUST_USE status gpu_alloc(gpu *g, void **out, uint64_t bytes, const char *what, error *err);

/* Pinned host memory that the device can address too: *device_view (may be NULL) is where. */
MUST_USE status gpu_alloc_host(gpu *g, void **out, void **device_view, uint64_t bytes,
                               const char *what, error *err);

MUST_USE status gpu_free_bytes(gpu *g, uint64_t *bytes, error *err);

/* Turn a CUDA result into a status; `format` names the call and its shape:
 *     gpu_check(g, rmsnorm(...), err, "residual_norm tokens=%u hidden=%u", ...) */
MUST_USE status gpu_check(gpu *g, cudaError_t code, error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Wait for everything on every stream. Also between work that names no stream (cudaMemset, and
 * cudaMemcpy from pageable memory, which may return before the bytes are there) and work on
 * `stream`: the two are not ordered by themselves. */
MUST_USE status gpu_synchronize(gpu *g, const char *after, error *err);

#endif
