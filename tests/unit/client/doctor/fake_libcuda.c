/* A libcuda.so.1 and a libnvidia-ml.so.1 in one for tests: FAKE_CUDA_INIT is what cuInit answers,
 * FAKE_CUDA_VERSION the version. Two GPUs, whose numbers are the other way round in NVML, as they
 * are when CUDA sorts by speed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GPUS = 2, MAJOR = 75, MINOR = 76 };

typedef struct memory {
    unsigned long long total, free, used;
} memory;

int cuInit(unsigned flags);
int cuDriverGetVersion(int *version);
int cuDeviceGetCount(int *count);
int cuDeviceGet(int *device, int ordinal);
int cuDeviceGetName(char *name, int size, int device);
int cuDeviceGetAttribute(int *value, int attribute, int device);
int cuDeviceTotalMem_v2(size_t *bytes, int device);
int cuDeviceGetPCIBusId(char *id, int size, int device);
int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlSystemGetDriverVersion(char *version, unsigned size);
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device);
int nvmlDeviceGetMemoryInfo(void *device, memory *m);

static const char *const bus_ids[GPUS] = {"0000:00:05.0", "0000:00:04.0"};
static memory memories[GPUS] = {{16ull << 30, 15ull << 30, 1ull << 30},
                                {8ull << 30, 1ull << 30, 7ull << 30}};

static int number_of(const char *variable, int otherwise)
{
    const char *text = getenv(variable);
    return text != NULL ? atoi(text) : otherwise;
}

int cuInit(unsigned flags)
{
    return flags == 0 ? number_of("FAKE_CUDA_INIT", 0) : 1;
}

int cuDriverGetVersion(int *version)
{
    *version = number_of("FAKE_CUDA_VERSION", 13000);
    return 0;
}

int cuDeviceGetCount(int *count)
{
    *count = GPUS;
    return 0;
}

int cuDeviceGet(int *device, int ordinal)
{
    *device = ordinal;
    return ordinal < GPUS ? 0 : 101;
}

int cuDeviceGetName(char *name, int size, int device)
{
    snprintf(name, (size_t)size, "Fake T%d", device);
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    *value = attribute == MAJOR ? 7 + device : attribute == MINOR ? 5 : -1;
    return *value >= 0 ? 0 : 1;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    *bytes = memories[device].total;
    return 0;
}

int cuDeviceGetPCIBusId(char *id, int size, int device)
{
    snprintf(id, (size_t)size, "%s", bus_ids[device]);
    return 0;
}

int nvmlInit_v2(void)
{
    return 0;
}

int nvmlShutdown(void)
{
    return 0;
}

int nvmlSystemGetDriverVersion(char *version, unsigned size)
{
    snprintf(version, size, "580.65.06");
    return 0;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device)
{
    for (int i = 0; i < GPUS; i++)
        if (strcmp(bus_ids[i], bus_id) == 0) {
            *device = &memories[i];
            return 0;
        }
    return 6;
}

int nvmlDeviceGetMemoryInfo(void *device, memory *m)
{
    *m = *(const memory *)device;
    return 0;
}
