#include "worker/device.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

#define BACKEND_FILE "libgaggle_cuda.so"

/* The library's path in `folder` relative to this program's. */
static bool backend_path(char *path, size_t size, const char *folder)
{
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return false;
    program[length] = '\0';
    char *slash = strrchr(program, '/');
    if (slash == NULL) return false;
    *slash = '\0';
    int used = snprintf(path, size, "%s/%s%s", program, folder, BACKEND_FILE);
    return used > 0 && (size_t)used < size && access(path, R_OK) == 0;
}

/* ST_NOT_FOUND: this build has no CUDA backend; ST_UNAVAILABLE: it has, and cannot load it. */
static status open_door(const cuda_door **out, error *err)
{
    char path[PATH_MAX + 64];
    if (!backend_path(path, sizeof path, "") && !backend_path(path, sizeof path, "../lib/gaggle/"))
        return error_set(err, ST_NOT_FOUND,
                         "this build has no CUDA backend (%s): configure with -DGAGGLE_CUDA=ON "
                         "where nvcc is installed",
                         BACKEND_FILE);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* stays for the life of the process */
    if (library == NULL)
        return error_set(err, ST_UNAVAILABLE, "the CUDA backend cannot be loaded: %s", dlerror());
    const cuda_door *door = dlsym(library, CUDA_DOOR_SYMBOL);
    if (door == NULL || door->version != CUDA_DOOR_VERSION)
        return error_set(err, ST_UNAVAILABLE, "%s is of another version than this program", path);
    *out = door;
    return ST_OK;
}

static status find_cuda(const cuda_door **door, uint32_t *count, error *err)
{
    *count = 0;
    status st = open_door(door, err);
    return st == ST_OK ? (*door)->count_devices(count, err) : st;
}

uint32_t device_count_cuda(error *why)
{
    const cuda_door *door;
    uint32_t count;
    return find_cuda(&door, &count, why) == ST_OK ? count : 0;
}

/* Is there something that a person would call an NVIDIA GPU here? */
static bool has_nvidia_driver(void)
{
    return access("/dev/nvidiactl", F_OK) == 0 || access("/proc/driver/nvidia", F_OK) == 0;
}

static void choose_auto(device_choice *out)
{
    error why = {0};
    uint32_t count;
    const cuda_door *door = NULL;
    status st = find_cuda(&door, &count, &why);
    if (st == ST_OK)
        out->cuda = door;
    else if (has_nvidia_driver())
        log_warn("using the CPU although there is an NVIDIA driver reason=\"%s\"", why.text);
    else if (st != ST_NOT_FOUND)
        log_info("using the CPU reason=\"%s\"", why.text);
}

status device_choose(device_choice *out, const char *text, error *err)
{
    *out = (device_choice){0};
    if (strcmp(text, "cpu") == 0) return ST_OK;
    if (strcmp(text, "auto") == 0) {
        choose_auto(out);
        return ST_OK;
    }
    char *end = NULL;
    unsigned long ordinal = 0;
    if (strncmp(text, "cuda:", 5) == 0 && text[5] >= '0' && text[5] <= '9')
        ordinal = strtoul(text + 5, &end, 10);
    bool is_cuda = strcmp(text, "cuda") == 0 || (end != NULL && *end == '\0');
    if (!is_cuda || ordinal > INT_MAX)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "--device is '%s'; it must be auto, cpu, cuda or cuda:N", text);
    uint32_t count;
    status st = find_cuda(&out->cuda, &count, err);
    if (st != ST_OK) return error_prefix(err, st, "--device %s", text);
    if (ordinal >= count)
        return error_set(err, ST_INVALID_ARGUMENT, "--device is %s; this machine has %u: cuda:0%s",
                         text, count, count > 1 ? " and on" : "");
    out->ordinal = (uint32_t)ordinal;
    return ST_OK;
}

load_format device_load_format(const device_choice *device, bool dummy)
{
    if (device->cuda != NULL) return dummy ? LOAD_DUMMY_UNREAD : LOAD_SAFETENSORS_UNREAD;
    return dummy ? LOAD_DUMMY : LOAD_SAFETENSORS;
}

status device_create_backend(backend **out, const device_choice *device, const model *m,
                             backend_options *options,
                             void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                             char plan_text[CUDA_PLAN_TEXT], error *err)
{
    plan_text[0] = '\0';
    options->device_ordinal = device->ordinal;
    if (device->cuda != NULL)
        return device->cuda->create(out, m, options, progress, ctx, plan_text, err);
    *out = NULL;
    if (options->plan_only) return ST_OK;
    return cpu_backend_create(out, m, options, err);
}
