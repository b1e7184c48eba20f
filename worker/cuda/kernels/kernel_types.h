/* kernel_types: what the kernels' contract headers share. Plain C; kernels know nothing of
 * sequences, requests or models.
 *
 * Launchers: every launcher checks its contract, enqueues on `stream`, allocates nothing, never
 * synchronises, can be captured in a graph, and returns a cudaError_t: cudaErrorInvalidValue when a
 * line of its contract is broken (nothing launched), otherwise what the launch returned. A count of
 * 0 launches nothing and succeeds. Any thread, with its device current.
 *
 * Element type. `T` in a contract is the model's element type on the device: F16 on sm_75, BF16
 * from sm_80 unless the checkpoint is F16 or F32. The residual stream, norms' weights, biases and
 * all accumulation are float. */
#ifndef GAGGLE_WORKER_CUDA_KERNEL_TYPES_H
#define GAGGLE_WORKER_CUDA_KERNEL_TYPES_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum kernel_dtype { KERNEL_F16, KERNEL_BF16, KERNEL_F32 } kernel_dtype;

/* Positions of a KV block; one head's keys of one block are contiguous. */
#define KERNEL_KV_BLOCK 16u

/* KV cache of one layer, K and V apart, both [blocks][kv_heads][KERNEL_KV_BLOCK][head_stride] of T,
 * 128-byte aligned. head_stride is 64, 96, 128 or 256, the least that holds head_dim; elements at
 * and above head_dim are zero. */
typedef struct kernel_kv {
    void *keys, *values;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t head_stride;
} kernel_kv;

/* A launcher's view of the device, filled once by device.c.
 * code_arch: the virtual architecture that the kernels in use were compiled for (75, 80, 86, 89,
 * 90); less than the device's own when an older PTX was compiled by the driver. Decides which
 * kernel is launched; `has_sm90a`: the sm_90a code (wgmma, TMA) is in use. */
typedef struct kernel_device {
    uint32_t code_arch;
    bool has_sm90a;
    uint32_t sm_count;
    uint32_t shared_bytes_max; /* of one block, opted in */
} kernel_device;

#endif
