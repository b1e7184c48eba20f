#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/doctor/backend_file.h"
#include "client/doctor/checks.h"
#include "client/doctor/host_facts.h"
#include "client/pull/disk.h"
#include "common/mem.h"

enum { ARCH_MIN = 75, NO_DEVICE = 100 };

/* The oldest driver of a CUDA: what its release notes say. */
static const char *driver_for(uint32_t cuda_major)
{
    return cuda_major >= 13 ? "580" : "525";
}

/* -- the worker's program --------------------------------------------------------------------- */

void check_worker(findings *f, const worker_probe *w)
{
    if (w->program[0] == '\0') {
        finding_add(f, FINDING_OK, "worker", "gaggle-worker is not here: this machine runs none");
        return;
    }
    if (w->started) {
        finding_add(f, FINDING_OK, "worker", "%s starts", w->program);
        return;
    }
    finding_add(f, FINDING_FAIL, "worker", "%s does not start: %s", w->program, w->words);
    if (strstr(w->words, "GLIBC_") != NULL)
        finding_advise(f,
                       "it was built for a newer system than this: build it here (make), or take "
                       "the package for this distribution");
    else if (strstr(w->words, "shared libraries") != NULL)
        finding_advise(f, "install the package that has this library; ldd %s lists all it needs",
                       w->program);
    else
        finding_advise(f, "run `%s devices` to see more", w->program);
}

/* -- the driver ---------------------------------------------------------------------------------
 */

/* Where the libraries lie when the loader does not look there: Kaggle and many containers, Colab,
 * WSL. */
static const char *library_folder(const char *root)
{
    static const char *const folders[] = {"/usr/local/nvidia/lib64", "/usr/lib64-nvidia",
                                          "/usr/lib/wsl/lib"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/libcuda.so.1", folders[i]);
        if (host_has(root, path)) return folders[i];
    }
    return NULL;
}

/* There is no libcuda.so.1 for us. */
static void say_no_library(findings *f, const char *root, const char *kernel_driver)
{
    const char *folder = library_folder(root);
    uint32_t cards = host_nvidia_cards(root);
    if (folder != NULL) {
        finding_add(f, FINDING_WARN, "driver", "libcuda.so.1 is in %s, where nothing looks for it",
                    folder);
        finding_advise(f, "export LD_LIBRARY_PATH=%s", folder);
    } else if (kernel_driver[0] != '\0') {
        finding_add(f, FINDING_WARN, "driver",
                    "the kernel has NVIDIA's driver %s, but there is no "
                    "libcuda.so.1 here",
                    kernel_driver);
        finding_advise(f, "start the container with its GPUs (docker run --gpus all); outside of "
                          "one install the driver's libraries (Debian: libcuda1)");
    } else if (cards > 0) {
        finding_add(f, FINDING_WARN, "driver", "%u NVIDIA card%s and no driver", cards,
                    cards > 1 ? "s" : "");
        finding_advise(f, "install NVIDIA's driver (Debian: nvidia-driver, Ubuntu: `ubuntu-drivers "
                          "install`) and start the machine again");
    } else {
        finding_add(f, FINDING_OK, "driver", "no NVIDIA GPU here: workers run on the CPU");
    }
}

typedef struct init_advice {
    int code;
    const char *what, *advice;
} init_advice;

/* cuInit's answers that people meet. */
static const init_advice init_advices[] = {
    {NO_DEVICE, "no device can be seen",
     "look at CUDA_VISIBLE_DEVICES and at nvidia-smi; a container is started with --gpus all"},
    {802, "the system is not ready yet",
     "machines with NVSwitch want nvidia-fabricmanager running: systemctl status "
     "nvidia-fabricmanager"},
    {803, "the driver's library and its kernel module are of different versions",
     "start the machine again, or in a container let the NVIDIA runtime bring the library instead "
     "of the image"},
    {804, "this GPU does not support the forward compatible library",
     "take /usr/local/cuda/compat out of LD_LIBRARY_PATH, or update the driver"},
    {999, "an unknown error",
     "modprobe nvidia_uvm; after a suspend or an update start the machine again"},
};

static void say_init_failed(findings *f, const gpu_driver *d)
{
    const init_advice *known = NULL;
    for (size_t i = 0; i < sizeof init_advices / sizeof *init_advices; i++)
        if (init_advices[i].code == d->init_code) known = &init_advices[i];
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    /* Hidden GPUs may be meant to be. */
    finding_add(f, d->init_code == NO_DEVICE ? FINDING_WARN : FINDING_FAIL, "driver",
                "cuInit answers %d: %s%s%s%s", d->init_code,
                known != NULL ? known->what : "no GPU can be used",
                visible != NULL ? "; CUDA_VISIBLE_DEVICES is '" : "",
                visible != NULL ? visible : "", visible != NULL ? "'" : "");
    finding_advise(f, "%s", known != NULL ? known->advice : "nvidia-smi may say more");
}

/* -- the backend ------------------------------------------------------------------------------ */

static status read_backend(backend_file *out, const char *path, error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0 || info.st_size <= 0) {
        if (fd >= 0) close(fd);
        return error_set(err, ST_UNAVAILABLE, "it cannot be read");
    }
    void *bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (bytes == MAP_FAILED) return error_set(err, ST_UNAVAILABLE, "it cannot be mapped");
    status st = backend_file_parse(out, bytes, (size_t)info.st_size, err);
    munmap(bytes, (size_t)info.st_size);
    return st;
}

/* False: what follows from it has nothing to stand on. */
static bool check_backend(findings *f, backend_file *b, const gpu_driver *d, const worker_probe *w)
{
    error err;
    char archs[256];
    if (w->backend[0] == '\0') {
        finding_add(f, FINDING_FAIL, "cuda",
                    "there are GPUs, but gaggle-worker has no CUDA backend "
                    "(libgaggle_cuda.so)");
        finding_advise(f, "install gaggle-worker-cuda, or build where nvcc is (make; "
                          "-DGAGGLE_CUDA=ON)");
        return false;
    }
    if (read_backend(b, w->backend, &err) != ST_OK) {
        finding_add(f, FINDING_FAIL, "cuda", "%s: %s", w->backend, err.text);
        finding_advise(f, "install it again");
        return false;
    }
    backend_file_text(b, archs, sizeof archs);
    if (d->cuda_version / 1000 < b->cuda_major) {
        finding_add(f, FINDING_FAIL, "cuda",
                    "%s is for CUDA %u, and the driver knows CUDA up to "
                    "%u.%u",
                    w->backend, b->cuda_major, d->cuda_version / 1000, d->cuda_version % 1000 / 10);
        finding_advise(f, "update the driver to %s or later, or take a build for CUDA %u",
                       driver_for(b->cuda_major), d->cuda_version / 1000);
        return false;
    }
    finding_add(f, FINDING_OK, "cuda", "%s for CUDA %u: %s", w->backend, b->cuda_major, archs);
    return b->arch_count > 0;
}

/* -- GPUs ---------------------------------------------------------------------------------------
 */

static void check_gpu(findings *f, const gpu_device *d, uint32_t number, const backend_file *b)
{
    char check[32], total[BYTES_TEXT_SIZE], left[BYTES_TEXT_SIZE];
    snprintf(check, sizeof check, "gpu cuda:%u", number);
    bytes_text(total, d->memory_bytes);
    bool known = d->free_bytes != UINT64_MAX;
    if (d->arch < ARCH_MIN) {
        finding_add(f, FINDING_FAIL, check, "%s is sm_%u; gaggle's kernels begin at sm_%u (Turing)",
                    d->name, d->arch, ARCH_MIN);
        finding_advise(f, "use --device cpu, or another GPU");
        return;
    }
    if (b != NULL && !backend_file_covers(b, d->arch)) {
        finding_add(f, FINDING_FAIL, check, "%s is sm_%u, for which the CUDA backend has no code",
                    d->name, d->arch);
        finding_advise(f, "build it with -DGAGGLE_CUDA_ARCHS=%u", d->arch);
        return;
    }
    bool crowded = known && d->free_bytes < d->memory_bytes / 2;
    finding_add(f, crowded ? FINDING_WARN : FINDING_OK, check, "%s, sm_%u, %s%s%s", d->name,
                d->arch, known ? bytes_text(left, d->free_bytes) : "", known ? " free of " : "",
                total);
    if (crowded)
        finding_advise(f, "nvidia-smi says who has the rest; a worker takes what is free "
                          "(--gpu-memory-utilization)");
}

static void check_worker_sees(findings *f, const gpu_driver *d, const worker_probe *w)
{
    if (!w->started || w->gpus == d->device_count) return;
    finding_add(f, FINDING_FAIL, "gpu", "gaggle-worker can use %u of %u: %s", w->gpus,
                d->device_count, w->words[0] != '\0' ? w->words : "it does not say why");
    finding_advise(f, strstr(w->words, "libcublas") != NULL
                          ? "install cuBLAS of the same CUDA (NVIDIA's libcublas-13-0 or the like, "
                            "Debian's libcublaslt12), or add its folder to LD_LIBRARY_PATH"
                          : "run `gaggle-worker devices` to see more");
}

void check_gpus(findings *f, const char *root, const gpu_driver *d, const worker_probe *w)
{
    char kernel_driver[32] = "";
    char *text = host_read(root, "/proc/driver/nvidia/version");
    if (text != NULL) driver_version_parse(kernel_driver, text);
    mem_free(text);
    if (!d->has_cuda) {
        say_no_library(f, root, kernel_driver);
        return;
    }
    if (d->init_code != 0) {
        say_init_failed(f, d);
        return;
    }
    const char *version = d->version[0] != '\0' ? d->version : kernel_driver;
    finding_add(f, FINDING_OK, "driver", "%s, for CUDA up to %u.%u",
                version[0] != '\0' ? version : "NVIDIA's", d->cuda_version / 1000,
                d->cuda_version % 1000 / 10);
    backend_file b;
    bool has_code = w->program[0] != '\0' && check_backend(f, &b, d, w);
    for (uint32_t i = 0; i < d->device_count; i++)
        check_gpu(f, &d->devices[i], i, has_code ? &b : NULL);
    if (has_code) check_worker_sees(f, d, w);
}
