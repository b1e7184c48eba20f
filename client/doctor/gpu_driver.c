#include "client/doctor/gpu_driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* As NVIDIA documents them for CUDA's driver interface and for NVML; both are stable. */
enum {
    CU_MAJOR = 75, /* CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR */
    CU_MINOR = 76,
    NO_DEVICE = 100, /* CUDA_ERROR_NO_DEVICE */
    BUS_ID_BYTES = 32,
};

typedef struct nvml_memory {
    unsigned long long total, free, used;
} nvml_memory;

typedef struct cuda_library {
    int (*init)(unsigned flags);
    int (*version)(int *version);
    int (*count)(int *count);
    int (*device)(int *device, int ordinal);
    int (*name)(char *name, int size, int device);
    int (*attribute)(int *value, int attribute, int device);
    int (*memory)(size_t *bytes, int device);
    int (*bus_id)(char *id, int size, int device);
} cuda_library;

typedef struct nvml_library {
    int (*init)(void);
    int (*shutdown)(void);
    int (*driver_version)(char *version, unsigned size);
    int (*device)(const char *bus_id, void **device);
    int (*memory)(void *device, nvml_memory *memory);
} nvml_library;

/* POSIX promises that a function's address survives being a void pointer. */
static bool find(void *library, const char *name, void *function)
{
    void *address = dlsym(library, name);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

static bool load_cuda(cuda_library *c, char why[256])
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL); /* for the process's life */
    if (library == NULL) {
        snprintf(why, 256, "%s", dlerror());
        return false;
    }
    if (find(library, "cuInit", &c->init) && find(library, "cuDriverGetVersion", &c->version) &&
        find(library, "cuDeviceGetCount", &c->count) && find(library, "cuDeviceGet", &c->device) &&
        find(library, "cuDeviceGetName", &c->name) &&
        find(library, "cuDeviceGetAttribute", &c->attribute) &&
        find(library, "cuDeviceTotalMem_v2", &c->memory) &&
        find(library, "cuDeviceGetPCIBusId", &c->bus_id))
        return true;
    snprintf(why, 256, "libcuda.so.1 is not a CUDA driver's");
    return false;
}

static bool load_nvml(nvml_library *n)
{
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    return library != NULL && find(library, "nvmlInit_v2", &n->init) &&
           find(library, "nvmlShutdown", &n->shutdown) &&
           find(library, "nvmlSystemGetDriverVersion", &n->driver_version) &&
           find(library, "nvmlDeviceGetHandleByPciBusId_v2", &n->device) &&
           find(library, "nvmlDeviceGetMemoryInfo", &n->memory) && n->init() == 0;
}

/* The same card by its place on the bus: CUDA's numbers leave out what CUDA_VISIBLE_DEVICES does,
 * and may be in another order. */
static uint64_t free_memory(const nvml_library *n, const char *bus_id)
{
    void *device;
    nvml_memory memory;
    if (n->device(bus_id, &device) != 0 || n->memory(device, &memory) != 0) return UINT64_MAX;
    return memory.free;
}

static bool read_device(gpu_device *d, const cuda_library *c, const nvml_library *n, int ordinal)
{
    int device, major, minor;
    size_t bytes;
    char bus_id[BUS_ID_BYTES];
    *d = (gpu_device){.free_bytes = UINT64_MAX};
    if (c->device(&device, ordinal) != 0 || c->attribute(&major, CU_MAJOR, device) != 0 ||
        c->attribute(&minor, CU_MINOR, device) != 0 || c->memory(&bytes, device) != 0 ||
        c->name(d->name, sizeof d->name, device) != 0)
        return false;
    d->arch = (uint32_t)(major * 10 + minor);
    d->memory_bytes = bytes;
    if (n != NULL && c->bus_id(bus_id, sizeof bus_id, device) == 0)
        d->free_bytes = free_memory(n, bus_id);
    return true;
}

static void ask_devices(gpu_driver *out, const cuda_library *c, const nvml_library *n)
{
    int count = 0;
    out->init_code = c->init(0);
    if (out->init_code == 0) out->init_code = c->count(&count);
    if (out->init_code == 0 && count <= 0) out->init_code = NO_DEVICE;
    for (int i = 0; i < count && out->device_count < GPU_DEVICES_MAX; i++)
        out->device_count += read_device(&out->devices[out->device_count], c, n, i);
}

void gpu_driver_ask(gpu_driver *out)
{
    *out = (gpu_driver){0};
    cuda_library cuda;
    nvml_library nvml;
    bool has_nvml = load_nvml(&nvml);
    if (has_nvml && nvml.driver_version(out->version, sizeof out->version) != 0)
        out->version[0] = '\0';
    out->has_cuda = load_cuda(&cuda, out->cuda_error);
    if (out->has_cuda) {
        int version = 0;
        if (cuda.version(&version) == 0 && version > 0) out->cuda_version = (uint32_t)version;
        ask_devices(out, &cuda, has_nvml ? &nvml : NULL);
    }
    if (has_nvml) nvml.shutdown();
}
