#include "runtime.h"

#include "block.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <vector>

struct CUgraph_st {
    std::vector<std::function<void()>> work;
};

struct CUgraphExec_st {
    std::vector<std::function<void()>> work;
};

struct CUstream_st {
    CUgraph_st *capture; /* shared by all streams of one capture */
    bool origin;         /* of the capture */
    cudaStreamCaptureMode mode;
};

struct CUevent_st {
    CUgraph_st *capture; /* that it was recorded in */
    std::chrono::steady_clock::time_point time;
};

namespace
{

const size_t shared_default = 48 * 1024;
#if __CUDA_ARCH__ >= 900
const size_t shared_most = 227 * 1024;
const int sm_count = 132;
#elif __CUDA_ARCH__ >= 800
const size_t shared_most = 99 * 1024; /* sm_86's, the least of the 8x */
const int sm_count = 80;
#else
const size_t shared_most = 64 * 1024;
const int sm_count = 40;
#endif
const int arch = __CUDA_ARCH__ / 10;
const int driver_version = 13000;

const int devices_max = 16;

struct allocation {
    size_t bytes;
    int device;
};

std::recursive_mutex lock;
std::map<void *, allocation> device_memory;
std::set<void *> host_memory;
size_t device_bytes[devices_max]; /* in use */
thread_local int current_device;
std::map<const void *, size_t> shared_limits; /* of kernels, raised */
std::set<CUstream_st *> streams;
int captures; /* not relaxed, under way */
thread_local cudaError_t last_error;

cudaError_t result(cudaError_t error)
{
    if (error != cudaSuccess) last_error = error;
    return error;
}

size_t memory_total()
{
    const char *text = getenv("CUDA_EMULATION_MEMORY");
    return text != nullptr ? (size_t)strtoull(text, nullptr, 10) : EMULATION_MEMORY_BYTES;
}

int device_count()
{
    const char *text = getenv("CUDA_EMULATION_DEVICES");
    int count = text != nullptr ? atoi(text) : 1;
    return count < devices_max ? count : devices_max;
}

bool is_device(int device)
{
    return device >= 0 && device < device_count();
}

std::unique_lock<std::recursive_mutex> locked()
{
    return std::unique_lock<std::recursive_mutex>(lock);
}

} // namespace

namespace emulation
{

cudaError_t enqueue(cudaStream_t stream, std::function<void()> work)
{
    {
        auto guard = locked();
        if (stream != nullptr && streams.count(stream) == 0) return result(cudaErrorInvalidValue);
        if (stream != nullptr && stream->capture != nullptr) {
            stream->capture->work.push_back(std::move(work));
            return cudaSuccess;
        }
    }
    work();
    return cudaSuccess;
}

cudaError_t launch(const cudaLaunchConfig_t &config, const void *kernel, std::function<void()> body)
{
    dim3 g = config.gridDim, b = config.blockDim;
    launch_shape shape = {g, b, config.dynamicSmemBytes, false};
    if (g.x == 0 || g.y == 0 || g.z == 0 || b.x == 0 || b.y == 0 || b.z == 0 || g.x > 0x7fffffff ||
        g.y > 65535 || g.z > 65535 || b.z > 64 || (size_t)b.x * b.y * b.z > 1024)
        return result(cudaErrorInvalidConfiguration);
    for (unsigned int i = 0; i < config.numAttrs; i++)
        if (config.attrs[i].id == cudaLaunchAttributeProgrammaticStreamSerialization)
            shape.overlapped = config.attrs[i].val.programmaticStreamSerializationAllowed != 0;
    {
        auto guard = locked();
        auto raised = shared_limits.find(kernel);
        if (shape.shared_bytes > (raised == shared_limits.end() ? shared_default : raised->second))
            return result(cudaErrorInvalidValue);
    }
    return enqueue(config.stream, [shape, body = std::move(body)] { run_grid(shape, body); });
}

} // namespace emulation

extern "C" {

/* -- errors, versions, devices ------------------------------------------------------- */

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
#define NAME(e)                                                                                    \
    case e:                                                                                        \
        return #e
        NAME(cudaSuccess);
        NAME(cudaErrorInvalidValue);
        NAME(cudaErrorMemoryAllocation);
        NAME(cudaErrorInitializationError);
        NAME(cudaErrorInvalidConfiguration);
        NAME(cudaErrorInsufficientDriver);
        NAME(cudaErrorInvalidDeviceFunction);
        NAME(cudaErrorNoDevice);
        NAME(cudaErrorInvalidDevice);
        NAME(cudaErrorNoKernelImageForDevice);
        NAME(cudaErrorUnsupportedPtxVersion);
        NAME(cudaErrorSymbolNotFound);
        NAME(cudaErrorNotReady);
        NAME(cudaErrorIllegalAddress);
        NAME(cudaErrorLaunchOutOfResources);
        NAME(cudaErrorHostMemoryAlreadyRegistered);
        NAME(cudaErrorHostMemoryNotRegistered);
        NAME(cudaErrorLaunchFailure);
        NAME(cudaErrorNotSupported);
        NAME(cudaErrorStreamCaptureUnsupported);
        NAME(cudaErrorStreamCaptureInvalidated);
        NAME(cudaErrorUnknown);
#undef NAME
    }
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    return cudaGetErrorName(error);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = driver_version;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = device_count();
    return result(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device)
{
    if (!is_device(device)) return result(cudaErrorInvalidDevice);
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current_device;
    return cudaSuccess;
}

cudaError_t cudaSetDeviceFlags(unsigned int)
{
    return cudaSuccess;
}

cudaError_t cudaInitDevice(int device, unsigned int, unsigned int)
{
    return cudaSetDevice(device);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    if (!is_device(device)) return result(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "emulated sm_%d", arch);
    memcpy(p->uuid.bytes, "emulated device", 16);
    p->uuid.bytes[15] = (char)device;
    p->totalGlobalMem = memory_total();
    p->sharedMemPerBlock = shared_default;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->totalConstMem = 65536;
    p->major = arch / 10;
    p->minor = arch % 10;
    p->multiProcessorCount = sm_count;
    p->canMapHostMemory = p->concurrentKernels = p->unifiedAddressing = 1;
    p->pciBusID = 1 + device;
    p->asyncEngineCount = 2;
    p->memoryBusWidth = 256;
    p->l2CacheSize = 4 << 20;
    p->maxThreadsPerMultiProcessor = arch >= 80 ? 2048 : 1024;
    p->sharedMemPerMultiprocessor = shared_most + 1024;
    p->sharedMemPerBlockOptin = shared_most;
    p->reservedSharedMemPerBlock = arch >= 80 ? 1024 : 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    cudaDeviceProp p;
    cudaError_t error = cudaGetDeviceProperties(&p, device);
    if (error != cudaSuccess) return error;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = p.maxThreadsPerBlock;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = (int)p.sharedMemPerBlock;
        return cudaSuccess;
    case cudaDevAttrWarpSize:
        *value = p.warpSize;
        return cudaSuccess;
    case cudaDevAttrClockRate:
    case cudaDevAttrMemoryClockRate:
        *value = 1000 * 1000;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = p.multiProcessorCount;
        return cudaSuccess;
    case cudaDevAttrIntegrated:
        *value = 0;
        return cudaSuccess;
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrHostRegisterSupported:
        *value = 1;
        return cudaSuccess;
    case cudaDevAttrPciBusId:
        *value = p.pciBusID;
        return cudaSuccess;
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
        *value = 0;
        return cudaSuccess;
    case cudaDevAttrGlobalMemoryBusWidth:
        *value = p.memoryBusWidth;
        return cudaSuccess;
    case cudaDevAttrL2CacheSize:
        *value = p.l2CacheSize;
        return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = p.maxThreadsPerMultiProcessor;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = p.major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = p.minor;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)p.sharedMemPerMultiprocessor;
        return cudaSuccess;
    case cudaDevAttrMaxRegistersPerMultiprocessor:
        *value = p.regsPerMultiprocessor;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)p.sharedMemPerBlockOptin;
        return cudaSuccess;
    case cudaDevAttrReservedSharedMemoryPerBlock:
        *value = (int)p.reservedSharedMemPerBlock;
        return cudaSuccess;
    }
    return result(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device)
{
    if (!is_device(device)) return result(cudaErrorInvalidDevice);
    snprintf(text, (size_t)size, "0000:%02x:00.0", 1 + device);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaDeviceSetLimit(cudaLimit, size_t)
{
    return cudaSuccess;
}

cudaError_t cudaDeviceGetLimit(size_t *value, cudaLimit)
{
    *value = 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    return captures > 0 ? result(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t cudaDeviceReset(void)
{
    return cudaSuccess;
}

/* -- memory ----------------------------------------------------------------------------- */

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    auto guard = locked();
    *p = nullptr;
    if (captures > 0) return result(cudaErrorStreamCaptureUnsupported);
    if (bytes == 0) return cudaSuccess;
    size_t &used = device_bytes[current_device];
    if (bytes > memory_total() - used || posix_memalign(p, 256, bytes) != 0)
        return result(cudaErrorMemoryAllocation);
    /* NaN in every float format; large ones would cost memory that may never be touched. */
    if (bytes <= (size_t)64 << 20) memset(*p, 0xff, bytes);
    device_memory[*p] = {bytes, current_device};
    used += bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    auto guard = locked();
    if (p == nullptr) return cudaSuccess;
    auto found = device_memory.find(p);
    if (found == device_memory.end()) return result(cudaErrorInvalidValue);
    device_bytes[found->second.device] -= found->second.bytes;
    device_memory.erase(found);
    free(p);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned int)
{
    auto guard = locked();
    *p = nullptr;
    if (captures > 0) return result(cudaErrorStreamCaptureUnsupported);
    if (bytes == 0) return cudaSuccess;
    if (posix_memalign(p, 4096, bytes) != 0) return result(cudaErrorMemoryAllocation);
    host_memory.insert(*p);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return cudaHostAlloc(p, bytes, 0);
}

cudaError_t cudaFreeHost(void *p)
{
    auto guard = locked();
    if (p == nullptr) return cudaSuccess;
    if (host_memory.erase(p) == 0) return result(cudaErrorInvalidValue);
    free(p);
    return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned int)
{
    *device = host;
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *, size_t, unsigned int)
{
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *)
{
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    auto guard = locked();
    *total = memory_total();
    *available = *total - device_bytes[current_device];
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *p)
{
    auto guard = locked();
    memset(attributes, 0, sizeof *attributes);
    void *address = const_cast<void *>(p);
    auto after = device_memory.upper_bound(address);
    if (after != device_memory.begin()) {
        auto found = std::prev(after);
        if ((char *)address < (char *)found->first + found->second.bytes) {
            attributes->type = cudaMemoryTypeDevice;
            attributes->device = found->second.device;
            attributes->devicePointer = address;
            return cudaSuccess;
        }
    }
    attributes->type =
        host_memory.count(address) > 0 ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    attributes->hostPointer = attributes->devicePointer = address;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream)
{
    return emulation::enqueue(stream, [=] {
        if (bytes > 0) memcpy(to, from, bytes);
    });
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    if (captures > 0) return result(cudaErrorStreamCaptureUnsupported);
    return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind, cudaStream_t stream)
{
    if (width > to_pitch || width > from_pitch) return result(cudaErrorInvalidValue);
    return emulation::enqueue(stream, [=] {
        for (size_t y = 0; y < height && width > 0; y++)
            memcpy((char *)to + y * to_pitch, (const char *)from + y * from_pitch, width);
    });
}

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                         size_t width, size_t height, cudaMemcpyKind kind)
{
    if (captures > 0) return result(cudaErrorStreamCaptureUnsupported);
    return cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, width, height, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    return emulation::enqueue(stream, [=] {
        if (bytes > 0) memset(p, value, bytes);
    });
}

cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    if (captures > 0) return result(cudaErrorStreamCaptureUnsupported);
    return cudaMemsetAsync(p, value, bytes, nullptr);
}

/* -- streams and events ----------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned int, int)
{
    auto guard = locked();
    *stream = new CUstream_st{};
    streams.insert(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags)
{
    return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithPriority(stream, 0, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    auto guard = locked();
    if (streams.erase(stream) == 0) return result(cudaErrorInvalidValue);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    auto guard = locked();
    if (stream != nullptr && stream->capture != nullptr)
        return result(cudaErrorStreamCaptureUnsupported);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    return cudaStreamQuery(stream);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int)
{
    auto guard = locked();
    if (stream != nullptr && stream->capture == nullptr) stream->capture = event->capture;
    return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *argument)
{
    return emulation::enqueue(stream, [=] { function(argument); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int)
{
    *event = new CUevent_st{};
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    auto guard = locked();
    event->capture = stream != nullptr ? stream->capture : nullptr;
    event->time = std::chrono::steady_clock::now();
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    return event->capture != nullptr ? result(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    return cudaEventSynchronize(event);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
    return cudaSuccess;
}

/* -- graphs ------------------------------------------------------------------------------ */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    auto guard = locked();
    if (stream == nullptr || stream->capture != nullptr)
        return result(cudaErrorStreamCaptureUnsupported);
    stream->capture = new CUgraph_st{};
    stream->origin = true;
    stream->mode = mode;
    captures += mode != cudaStreamCaptureModeRelaxed;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    auto guard = locked();
    *graph = nullptr;
    if (stream == nullptr || stream->capture == nullptr || !stream->origin)
        return result(cudaErrorInvalidValue);
    *graph = stream->capture;
    stream->origin = false;
    captures -= stream->mode != cudaStreamCaptureModeRelaxed;
    for (CUstream_st *other : streams)
        if (other->capture == *graph) other->capture = nullptr;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    auto guard = locked();
    *status = stream != nullptr && stream->capture != nullptr ? cudaStreamCaptureStatusActive
                                                              : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode)
{
    *mode = cudaStreamCaptureModeGlobal;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    *exec = new CUgraphExec_st{graph->work};
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    if (nodes != nullptr) return result(cudaErrorNotSupported);
    *count = graph->work.size();
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    return emulation::enqueue(stream, [exec] {
        for (const auto &work : exec->work)
            work();
    });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

/* -- kernels ------------------------------------------------------------------------------ */

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *kernel)
{
    auto guard = locked();
    memset(attributes, 0, sizeof *attributes);
    attributes->maxThreadsPerBlock = 1024;
    attributes->ptxVersion = attributes->binaryVersion = arch;
    auto raised = shared_limits.find(kernel);
    attributes->maxDynamicSharedSizeBytes =
        (int)(raised == shared_limits.end() ? shared_default : raised->second);
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value)
{
    auto guard = locked();
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || (size_t)value > shared_most) return result(cudaErrorInvalidValue);
    shared_limits[kernel] = (size_t)value;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *,
                                                          int block_threads, size_t shared_bytes)
{
    size_t by_shared = shared_bytes > 0 ? shared_most / shared_bytes : 32;
    size_t by_threads = (size_t)(arch >= 80 ? 1536 : 1024) / (size_t)block_threads;
    *blocks = (int)(by_shared < by_threads ? by_shared : by_threads);
    return cudaSuccess;
}

} // extern "C"
