#include "worker/cuda/device.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/limits.h"
#include "worker/cuda/kernels/probe.h"

#define ARCH_MIN 75u

status gpu_check(gpu *g, cudaError_t code, error *err, const char *format, ...)
{
    if (++g->calls == g->fail_at_call && code == cudaSuccess) code = cudaErrorLaunchFailure;
    if (code == cudaSuccess) return ST_OK;
    char call[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(call, sizeof call, format, arguments);
    va_end(arguments);
    return error_set(err, ST_INTERNAL, "CUDA device %d (%s): %s (%s) in %s", g->ordinal, g->name,
                     cudaGetErrorString(code), cudaGetErrorName(code), call);
}

status gpu_count(uint32_t *count, error *err)
{
    *count = 0;
    int devices = 0;
    cudaError_t code = cudaGetDeviceCount(&devices);
    if (code == cudaErrorInsufficientDriver) {
        int driver = 0, runtime = 0;
        cudaDriverGetVersion(&driver);
        cudaRuntimeGetVersion(&runtime);
        if (driver == 0) return error_set(err, ST_UNAVAILABLE, "there is no NVIDIA driver here");
        return error_set(err, ST_UNAVAILABLE,
                         "the NVIDIA driver here is for CUDA %d.%d and this build needs %d.%d: "
                         "update the driver, or use a build for an older CUDA",
                         driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    }
    if (code != cudaSuccess)
        return error_set(err, ST_UNAVAILABLE, "no CUDA device can be used: %s",
                         cudaGetErrorString(code));
    if (devices <= 0) return error_set(err, ST_UNAVAILABLE, "there is no CUDA device here");
    *count = (uint32_t)devices;
    return ST_OK;
}

/* What the driver made of our kernels on this device. */
static status probe(gpu *g, error *err)
{
    status st = gpu_check(g, probe_code(&g->kernels.code_arch, &g->kernels.has_sm90a), err,
                          "a first kernel");
    if (st == ST_OK) return ST_OK;
    return error_set(err, ST_UNAVAILABLE,
                     "CUDA device %d (%s, sm_%u) runs no code of this build: %s; build with "
                     "-DGAGGLE_CUDA_ARCHS=%u",
                     g->ordinal, g->name, g->arch, err != NULL ? err->text : "", g->arch);
}

status gpu_open(gpu *g, int ordinal, uint64_t fail_at_call, error *err)
{
    *g = (gpu){.ordinal = ordinal};
    uint32_t count;
    status st = gpu_count(&count, err);
    if (st != ST_OK) return st;
    if (ordinal < 0 || (uint32_t)ordinal >= count)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "--device is cuda:%d; this machine has cuda:0 to cuda:%u", ordinal,
                         count - 1);
    struct cudaDeviceProp properties;
    st =
        gpu_check(g, cudaGetDeviceProperties(&properties, ordinal), err, "cudaGetDeviceProperties");
    if (st != ST_OK) return st;
    snprintf(g->name, sizeof g->name, "%.63s", properties.name);
    g->arch = (uint32_t)(properties.major * 10 + properties.minor);
    g->memory_bytes = properties.totalGlobalMem;
    g->kernels.sm_count = (uint32_t)properties.multiProcessorCount;
    g->kernels.shared_bytes_max = (uint32_t)properties.sharedMemPerBlockOptin;
    if (g->arch < ARCH_MIN)
        return error_set(err, ST_UNAVAILABLE,
                         "CUDA device %d (%s) is sm_%u; gaggle needs sm_%u (Turing) or later",
                         ordinal, g->name, g->arch, ARCH_MIN);
    st = gpu_bind_thread(g, err);
    if (st == ST_OK) st = probe(g, err);
    if (st == ST_OK)
        st = gpu_check(g, cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking), err,
                       "cudaStreamCreate");
    g->calls = 0;
    g->fail_at_call = fail_at_call;
    return st;
}

/* After an error the context may refuse everything; there is nothing left to do about it. */
void gpu_close(gpu *g)
{
    if (g->stream != NULL) cudaStreamSynchronize(g->stream);
    while (g->allocation_count > 0) {
        const gpu_allocation *a = &g->allocations[--g->allocation_count];
        if (a->is_host)
            cudaFreeHost(a->memory);
        else
            cudaFree(a->memory);
    }
    if (g->stream != NULL) cudaStreamDestroy(g->stream);
    g->stream = NULL;
}

status gpu_bind_thread(gpu *g, error *err)
{
    return gpu_check(g, cudaSetDevice(g->ordinal), err, "cudaSetDevice");
}

static status out_of_memory(gpu *g, const char *where, const char *what, uint64_t bytes, error *err)
{
    size_t free_bytes = 0, total = 0;
    cudaGetLastError(); /* a failed allocation does not poison the context */
    cudaMemGetInfo(&free_bytes, &total);
    return error_set(err, ST_RESOURCE_EXHAUSTED,
                     "CUDA device %d (%s): no %s memory for %s: %.2f GiB wanted, %.2f GiB of the "
                     "device's %.2f GiB are free",
                     g->ordinal, g->name, where, what, (double)bytes / (1u << 30),
                     (double)free_bytes / (1u << 30), (double)total / (1u << 30));
}

static void remember(gpu *g, void *memory, bool is_host)
{
    CHECK(g->allocation_count < GPU_ALLOCATIONS_MAX);
    g->allocations[g->allocation_count++] = (gpu_allocation){memory, is_host};
}

status gpu_alloc(gpu *g, void **out, uint64_t bytes, const char *what, error *err)
{
    *out = NULL;
    if (bytes == 0) return ST_OK;
    cudaError_t code = cudaMalloc(out, bytes);
    if (code == cudaErrorMemoryAllocation) return out_of_memory(g, "device", what, bytes, err);
    if (code == cudaSuccess) remember(g, *out, false);
    return gpu_check(g, code, err, "cudaMalloc of %llu bytes for %s", (unsigned long long)bytes,
                     what);
}

status gpu_alloc_host(gpu *g, void **out, void **device_view, uint64_t bytes, const char *what,
                      error *err)
{
    *out = NULL;
    cudaError_t code = cudaHostAlloc(out, bytes, cudaHostAllocMapped | cudaHostAllocPortable);
    if (code == cudaErrorMemoryAllocation) return out_of_memory(g, "pinned host", what, bytes, err);
    if (code == cudaSuccess) remember(g, *out, true);
    status st = gpu_check(g, code, err, "cudaHostAlloc of %llu bytes for %s",
                          (unsigned long long)bytes, what);
    if (st != ST_OK || device_view == NULL) return st;
    return gpu_check(g, cudaHostGetDevicePointer(device_view, *out, 0), err,
                     "cudaHostGetDevicePointer of %s", what);
}

status gpu_free_bytes(gpu *g, uint64_t *bytes, error *err)
{
    size_t free_bytes = 0, total = 0;
    status st = gpu_check(g, cudaMemGetInfo(&free_bytes, &total), err, "cudaMemGetInfo");
    *bytes = free_bytes;
    return st;
}

status gpu_synchronize(gpu *g, const char *after, error *err)
{
    return gpu_check(g, cudaDeviceSynchronize(), err, "cudaDeviceSynchronize after %s", after);
}
