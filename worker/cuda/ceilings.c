#include "worker/cuda/ceilings.h"

#include <string.h>

#include "worker/cuda/device.h"
#include "worker/cuda/gemm_library.h"
#include "worker/cuda/kernels/convert.h"

#define COPY_BYTES (1ull << 30)
#define PINNED     (256ull << 20)
#define SIDE       8192u
#define ROUNDS     5
#define REPEATS    8

typedef struct timer {
    gpu *gpu;
    cudaEvent_t begin, end;
} timer;

static status timer_start(timer *t, error *err)
{
    return gpu_check(t->gpu, cudaEventRecord(t->begin, t->gpu->stream), err, "cudaEventRecord");
}

static status timer_stop(timer *t, double *seconds, error *err)
{
    float ms = 0.0f;
    status st = gpu_check(t->gpu, cudaEventRecord(t->end, t->gpu->stream), err, "cudaEventRecord");
    if (st == ST_OK)
        st = gpu_check(t->gpu, cudaEventSynchronize(t->end), err, "cudaEventSynchronize");
    if (st == ST_OK)
        st = gpu_check(t->gpu, cudaEventElapsedTime(&ms, t->begin, t->end), err,
                       "cudaEventElapsedTime");
    *seconds = (double)ms * 1e-3;
    return st;
}

static status measure_copy(timer *t, double *bytes_per_s, error *err)
{
    uint8_t *memory;
    status st = gpu_alloc(t->gpu, (void **)&memory, 2 * COPY_BYTES, "a copy to measure", err);
    for (int round = 0; round < ROUNDS && st == ST_OK; round++) {
        double seconds;
        st = timer_start(t, err);
        for (int i = 0; i < REPEATS && st == ST_OK; i++)
            st = gpu_check(t->gpu,
                           cudaMemcpyAsync(memory + COPY_BYTES, memory, COPY_BYTES,
                                           cudaMemcpyDeviceToDevice, t->gpu->stream),
                           err, "cudaMemcpyAsync on the device");
        if (st == ST_OK) st = timer_stop(t, &seconds, err);
        if (st != ST_OK) return st;
        double rate = 2.0 * COPY_BYTES * REPEATS / seconds;
        if (rate > *bytes_per_s) *bytes_per_s = rate;
    }
    return st;
}

static status measure_upload(timer *t, double *bytes_per_s, error *err)
{
    void *memory, *pinned;
    status st = gpu_alloc(t->gpu, &memory, PINNED, "an upload to measure", err);
    if (st == ST_OK)
        st = gpu_check(t->gpu, cudaHostAlloc(&pinned, PINNED, cudaHostAllocDefault), err,
                       "cudaHostAlloc of an upload to measure");
    if (st != ST_OK) return st;
    memset(pinned, 1, PINNED);
    for (int round = 0; round < ROUNDS && st == ST_OK; round++) {
        double seconds;
        st = timer_start(t, err);
        for (int i = 0; i < REPEATS && st == ST_OK; i++)
            st = gpu_check(
                t->gpu,
                cudaMemcpyAsync(memory, pinned, PINNED, cudaMemcpyHostToDevice, t->gpu->stream),
                err, "cudaMemcpyAsync from pinned memory");
        if (st == ST_OK) st = timer_stop(t, &seconds, err);
        if (st != ST_OK) break;
        double rate = (double)PINNED * REPEATS / seconds;
        if (rate > *bytes_per_s) *bytes_per_s = rate;
    }
    cudaFreeHost(pinned);
    return st;
}

static status run_products(timer *t, gemm_library *l, const gemm_shape *shape, void *d, void *x,
                           void *w, double *flops_per_s, error *err)
{
    status st = gemm_library_prepare(l, shape, SIDE, w, x, d, t->gpu->stream, err);
    for (int round = 0; round < ROUNDS && st == ST_OK; round++) {
        double seconds;
        st = timer_start(t, err);
        for (int i = 0; i < REPEATS && st == ST_OK; i++)
            st = gemm_library_run(l, shape, d, x, w, NULL, SIDE, t->gpu->stream, err);
        if (st == ST_OK) st = timer_stop(t, &seconds, err);
        if (st != ST_OK) return st;
        double rate = 2.0 * SIDE * SIDE * SIDE * REPEATS / seconds;
        if (rate > *flops_per_s) *flops_per_s = rate;
    }
    return st;
}

static status measure_product(timer *t, double *flops_per_s, error *err)
{
    gpu *g = t->gpu;
    kernel_dtype type = g->kernels.code_arch >= 80 ? KERNEL_BF16 : KERNEL_F16;
    const gemm_shape shape = {.n = SIDE, .k = SIDE, .d_type = type};
    uint64_t elements = (uint64_t)SIDE * SIDE;
    void *matrices[3], *workspace;
    status st = gpu_alloc(g, &workspace, GEMM_WORKSPACE_BYTES, "a product's workspace", err);
    for (int i = 0; i < 3 && st == ST_OK; i++) {
        st = gpu_alloc(g, &matrices[i], elements * 2, "a product to measure", err);
        if (st == ST_OK)
            st =
                gpu_check(g, fill_random(matrices[i], type, elements, 1.0f, (uint64_t)i, g->stream),
                          err, "fill_random");
    }
    gemm_library *l = NULL;
    if (st == ST_OK) st = gemm_library_create(&l, type, workspace, GEMM_WORKSPACE_BYTES, err);
    if (st == ST_OK)
        st = run_products(t, l, &shape, matrices[0], matrices[1], matrices[2], flops_per_s, err);
    gemm_library_destroy(l);
    return st;
}

status ceilings_measure(uint32_t ordinal, device_ceilings *out, error *err)
{
    gpu g;
    timer t = {.gpu = &g};
    *out = (device_ceilings){0};
    status st = gpu_open(&g, (int)ordinal, 0, err);
    if (st == ST_OK) st = gpu_check(&g, cudaEventCreate(&t.begin), err, "cudaEventCreate");
    if (st == ST_OK) st = gpu_check(&g, cudaEventCreate(&t.end), err, "cudaEventCreate");
    if (st == ST_OK) st = measure_copy(&t, &out->read_bytes_per_s, err);
    if (st == ST_OK) st = measure_upload(&t, &out->upload_bytes_per_s, err);
    if (st == ST_OK) st = measure_product(&t, &out->flops_per_s, err);
    if (t.begin != NULL) cudaEventDestroy(t.begin);
    if (t.end != NULL) cudaEventDestroy(t.end);
    gpu_close(&g);
    return st;
}
