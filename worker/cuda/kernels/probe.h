/* probe: which of this build's code the driver runs on the current device.
 *
 * *code_arch  the virtual architecture the kernels were compiled for: 75 on an sm_90 device when
 *             only compute_75 code was there and the driver compiled it
 * *has_sm90a  the code is sm_90a's, with wgmma and TMA
 *
 * Runs one thread and waits for it; not for use in a graph. cudaErrorNoKernelImageForDevice: the
 * build has nothing for this device. */
#ifndef GAGGLE_WORKER_CUDA_KERNELS_PROBE_H
#define GAGGLE_WORKER_CUDA_KERNELS_PROBE_H

#include "worker/cuda/kernels/kernel_types.h"

#ifdef __cplusplus
extern "C" {
#endif

cudaError_t probe_code(uint32_t *code_arch, bool *has_sm90a);

#ifdef __cplusplus
}
#endif

#endif
