/* runtime: how launches, which are templates, reach the emulated streams. */
#ifndef GAGGLE_TESTS_CUDA_EMULATION_RUNTIME_H
#define GAGGLE_TESTS_CUDA_EMULATION_RUNTIME_H

#include "cuda_runtime_api.h"

#include <functional>

namespace emulation
{

/* Check the launch as a driver would, then run `body` once a thread, now or when the graph that
 * captures the stream is launched. */
cudaError_t launch(const cudaLaunchConfig_t &config, const void *kernel,
                   std::function<void()> body);

/* Run `work` now, or record it if the stream captures. */
cudaError_t enqueue(cudaStream_t stream, std::function<void()> work);

} // namespace emulation

#endif
