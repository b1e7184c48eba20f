/* gpu_driver: what NVIDIA's own libraries say, found at run time: libcuda.so.1, which the CUDA
 * backend stands on, and libnvidia-ml.so.1, which knows how much memory is free. Nothing here needs
 * CUDA to build, and no context is made on any GPU. */
#ifndef GAGGLE_DOCTOR_GPU_DRIVER_H
#define GAGGLE_DOCTOR_GPU_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

enum { GPU_DEVICES_MAX = 32 };

typedef struct gpu_device {
    char name[96];
    uint32_t arch; /* 75 = sm_75 */
    uint64_t memory_bytes;
    uint64_t free_bytes; /* UINT64_MAX: not known */
} gpu_device;

typedef struct gpu_driver {
    bool has_cuda; /* libcuda.so.1 was loaded */
    char cuda_error[256];
    int init_code;         /* cuInit's; 0 = ready */
    uint32_t cuda_version; /* 12040 = 12.4; 0 = not known */
    char version[32];      /* of the driver, by libnvidia-ml; "" = not known */
    gpu_device devices[GPU_DEVICES_MAX];
    uint32_t device_count;
} gpu_driver;

void gpu_driver_ask(gpu_driver *out);

#endif
