/* Goal: of each way in which a GPU can be out of reach gaggle doctor says which it is, and what to
 * do.
 * Method: fake libraries of NVIDIA's that are really loaded; made-up drivers, roots and workers
 * (scripts) for what they cannot play. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "backend_image.h"
#include "client/doctor/checks.h"
#include "common/check.h"
#include "fake_root.h"

static const gpu_driver t4 = {.has_cuda = true,
                              .cuda_version = 12040,
                              .version = "550.54.14",
                              .devices = {{.name = "Tesla T4",
                                           .arch = 75,
                                           .memory_bytes = 15ull << 30,
                                           .free_bytes = 14ull << 30}},
                              .device_count = 1};

/* A backend's file for sm_75 and the CUDA of `cuda` in the scratch folder, and a worker that has
 * it. */
static worker_probe worker_with(const char *cuda, uint16_t arch, uint32_t gpus)
{
    worker_probe w = {.program = "/usr/bin/gaggle-worker", .started = true, .gpus = gpus};
    char libraries[64] = "";
    int size = snprintf(libraries + 1, sizeof libraries - 1, "libcublasLt.so.%s", cuda) + 2;
    buffer image;
    backend_image(&image, &(backend_arch){.number = arch}, 1, libraries, (size_t)size);
    snprintf(w.backend, sizeof w.backend, "%s/libgaggle_cuda.so", getenv("GAGGLE_TEST_TMP"));
    FILE *file = fopen(w.backend, "wb");
    CHECK(file != NULL && fwrite(image.data, 1, image.size, file) == image.size &&
          fclose(file) == 0);
    buffer_free(&image);
    return w;
}

static void test_the_libraries_are_asked(void **state)
{
    (void)state;
    static gpu_driver d;
    gpu_driver_ask(&d);
    assert_true(d.has_cuda);
    assert_int_equal(d.init_code, 0);
    assert_int_equal(d.cuda_version, 13000);
    assert_string_equal(d.version, "580.65.06");
    assert_int_equal(d.device_count, 2);
    assert_string_equal(d.devices[0].name, "Fake T0");
    assert_int_equal(d.devices[0].arch, 75);
    assert_int_equal(d.devices[1].arch, 85);
    assert_int_equal(d.devices[0].free_bytes, 15ull << 30);
    assert_int_equal(d.devices[1].free_bytes, 1ull << 30);

    setenv("FAKE_CUDA_INIT", "100", 1);
    gpu_driver_ask(&d);
    unsetenv("FAKE_CUDA_INIT");
    assert_int_equal(d.init_code, 100);
    assert_int_equal(d.device_count, 0);
}

static void test_all_is_well(void **state)
{
    (void)state;
    findings f = {0};
    const worker_probe w = worker_with("12", 75, 1);
    check_gpus(&f, fake_root(), &t4, &w);
    assert_finding(&f, "driver", FINDING_OK, "550.54.14, for CUDA up to 12.4", NULL);
    assert_finding(&f, "cuda", FINDING_OK, "for CUDA 12: sm_75", NULL);
    assert_finding(&f, "gpu cuda:0", FINDING_OK, "Tesla T4, sm_75, 14.0 GiB free of 15.0 GiB",
                   NULL);
    assert_int_equal(f.count, 3);
    findings_free(&f);
}

static void test_without_a_gpu_all_is_well_too(void **state)
{
    (void)state;
    findings f = {0};
    check_gpus(&f, fake_root(), &(gpu_driver){0}, &(worker_probe){0});
    assert_finding(&f, "driver", FINDING_OK, "workers run on the CPU", NULL);
    findings_free(&f);
}

static void test_a_missing_library_is_explained(void **state)
{
    (void)state;
    findings f = {0};
    const char *root = fake_root();
    fake_file("/sys/bus/pci/devices/0000:00:04.0/vendor", "0x10de\n");
    fake_file("/sys/bus/pci/devices/0000:00:04.0/class", "0x030200\n");
    check_gpus(&f, root, &(gpu_driver){0}, &(worker_probe){0});
    assert_finding(&f, "driver", FINDING_WARN, "1 NVIDIA card and no driver",
                   "install NVIDIA's driver");
    fake_file("/proc/driver/nvidia/version",
              "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat\n");
    check_gpus(&f, root, &(gpu_driver){0}, &(worker_probe){0});
    assert_finding(&f, "driver", FINDING_WARN, "535.104.05, but there is no libcuda.so.1",
                   "--gpus all");
    fake_file("/usr/local/nvidia/lib64/libcuda.so.1", "");
    check_gpus(&f, root, &(gpu_driver){0}, &(worker_probe){0});
    assert_finding(&f, "driver", FINDING_WARN, "where nothing looks for it",
                   "export LD_LIBRARY_PATH=/usr/local/nvidia/lib64");
    findings_free(&f);
}

static void test_what_the_driver_refuses_is_explained(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *text, *advice;
    } cases[] = {{100, "no device", "CUDA_VISIBLE_DEVICES"},
                 {802, "not ready", "fabricmanager"},
                 {803, "different versions", "start the machine again"},
                 {804, "compatible", "LD_LIBRARY_PATH"},
                 {999, "unknown", "modprobe nvidia_uvm"},
                 {304, "cuInit answers 304", "nvidia-smi"}};
    setenv("CUDA_VISIBLE_DEVICES", "7", 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        findings f = {0};
        check_gpus(&f, fake_root(), &(gpu_driver){.has_cuda = true, .init_code = cases[i].code},
                   &(worker_probe){0});
        finding_level level = cases[i].code == 100 ? FINDING_WARN : FINDING_FAIL;
        assert_finding(&f, "driver", level, cases[i].text, cases[i].advice);
        assert_finding(&f, "driver", level, "CUDA_VISIBLE_DEVICES is '7'", cases[i].advice);
        findings_free(&f);
    }
    unsetenv("CUDA_VISIBLE_DEVICES");
}

static void test_the_backend_must_fit_driver_and_gpu(void **state)
{
    (void)state;
    findings f = {0};
    worker_probe w = worker_with("13", 75, 0);
    check_gpus(&f, fake_root(), &t4, &w);
    assert_finding(&f, "cuda", FINDING_FAIL, "is for CUDA 13, and the driver knows CUDA up to 12.4",
                   "update the driver to 580 or later, or take a build for CUDA 12");
    assert_finding(&f, "gpu cuda:0", FINDING_OK, "Tesla T4", NULL); /* it is not to blame */

    w = worker_with("12", 80, 1);
    check_gpus(&f, fake_root(), &t4, &w);
    assert_finding(&f, "gpu cuda:0", FINDING_FAIL, "no code", "-DGAGGLE_CUDA_ARCHS=75");

    w.backend[0] = '\0';
    check_gpus(&f, fake_root(), &t4, &w);
    assert_finding(&f, "cuda", FINDING_FAIL, "no CUDA backend", "gaggle-worker-cuda");

    snprintf(w.backend, sizeof w.backend, "%s", "/proc/self/status");
    check_gpus(&f, fake_root(), &t4, &w);
    assert_finding(&f, "cuda", FINDING_FAIL, "cannot be read", "install it again");
    findings_free(&f);
}

static void test_old_and_crowded_gpus_are_told(void **state)
{
    (void)state;
    findings f = {0};
    const worker_probe w = worker_with("12", 75, 2);
    gpu_driver d = t4;
    d.device_count = 2;
    d.devices[1] = (gpu_device){"Tesla P100", 60, 16ull << 30, UINT64_MAX};
    d.devices[0].free_bytes = 1ull << 30;
    check_gpus(&f, fake_root(), &d, &w);
    assert_finding(&f, "gpu cuda:0", FINDING_WARN, "1.00 GiB free of 15.0 GiB", "nvidia-smi");
    assert_finding(&f, "gpu cuda:1", FINDING_FAIL, "Tesla P100 is sm_60", "--device cpu");
    findings_free(&f);
}

static void test_what_the_worker_cannot_use_is_in_its_words(void **state)
{
    (void)state;
    findings f = {0};
    worker_probe w = worker_with("12", 75, 0);
    snprintf(w.words, sizeof w.words, "no GPU: libcublasLt.so.12: cannot open shared object file");
    check_gpus(&f, fake_root(), &t4, &w);
    assert_finding(&f, "gpu", FINDING_FAIL, "0 of 1: no GPU: libcublasLt.so.12", "libcublaslt12");
    findings_free(&f);
}

/* A gaggle-worker that is a script. */
static void probe_script(worker_probe *w, const char *script)
{
    char folder[600], path[640];
    fake_root();
    fake_file("/bin/gaggle-worker", script);
    fake_file("/lib/gaggle/libgaggle_cuda.so", "");
    snprintf(folder, sizeof folder, "%s/root/bin", getenv("GAGGLE_TEST_TMP"));
    snprintf(path, sizeof path, "%s/gaggle-worker", folder);
    CHECK(chmod(path, 0755) == 0);
    worker_probe_run(w, folder);
}

static void test_the_worker_is_started(void **state)
{
    (void)state;
    static worker_probe w;
    findings f = {0};
    probe_script(&w, "#!/bin/sh\n[ \"$1\" = devices ] && printf 'cuda:0\\ncuda:1\\ncpu\\n'\n");
    assert_true(w.started);
    assert_int_equal(w.gpus, 2);
    assert_non_null(strstr(w.backend, "/lib/gaggle/libgaggle_cuda.so"));
    check_worker(&f, &w);
    assert_finding(&f, "worker", FINDING_OK, "starts", NULL);

    probe_script(&w, "#!/bin/sh\necho 'no GPU: there is no CUDA device here' >&2\necho cpu\n");
    assert_true(w.started);
    assert_int_equal(w.gpus, 0);
    assert_string_equal(w.words, "no GPU: there is no CUDA device here");

    probe_script(&w, "#!/bin/sh\necho \"gaggle-worker: libc.so.6: version \\`GLIBC_2.38' not "
                     "found\" >&2\nexit 1\n");
    check_worker(&f, &w);
    assert_finding(&f, "worker", FINDING_FAIL, "GLIBC_2.38", "built for a newer system");

    probe_script(&w, "#!/bin/sh\necho 'error while loading shared libraries: libnng.so.1: cannot "
                     "open' >&2\nexit 127\n");
    check_worker(&f, &w);
    assert_finding(&f, "worker", FINDING_FAIL, "libnng.so.1", "ldd");

    probe_script(&w, "#!/bin/sh\nkill -SEGV $$\n");
    check_worker(&f, &w);
    assert_finding(&f, "worker", FINDING_FAIL, "it died by signal 11", "devices");

    probe_script(&w, "not a program");
    assert_false(w.started);
    check_worker(&f, &w);
    assert_int_equal(finding_of(&f, "worker")->level, FINDING_FAIL);

    setenv("PATH", "/nowhere:/nor/here", 1);
    worker_probe_run(&w, "/nowhere");
    check_worker(&f, &w);
    assert_finding(&f, "worker", FINDING_OK, "runs none", NULL);
    assert_true(findings_complete(&f));
    findings_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_libraries_are_asked),
        cmocka_unit_test(test_all_is_well),
        cmocka_unit_test(test_without_a_gpu_all_is_well_too),
        cmocka_unit_test(test_a_missing_library_is_explained),
        cmocka_unit_test(test_what_the_driver_refuses_is_explained),
        cmocka_unit_test(test_the_backend_must_fit_driver_and_gpu),
        cmocka_unit_test(test_old_and_crowded_gpus_are_told),
        cmocka_unit_test(test_what_the_worker_cannot_use_is_in_its_words),
        cmocka_unit_test(test_the_worker_is_started),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
