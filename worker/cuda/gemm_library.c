/* cuBLASLt behind gemm_library.h. Its matrices are column-major, so it is asked for the transposed
 * product D^T [n, m] = W^T^T X^T: W as stored is a [k, n] matrix to be transposed, X a [k, m] one,
 * D an [n, m] one.
 *
 * An algorithm is chosen for each range of rows that ends in a power of two, at its upper end: the
 * library's own first choice is not always the fastest, so the first few are timed at start. Every
 * range keeps one algorithm, so a product's bits do not depend on what was asked for before. */
#include "worker/cuda/gemm_library.h"

#include "common/limits.h"
#include "common/mem.h"

#include <cublasLt.h>
#include <inttypes.h>
#include <math.h>

/* Ranges of M end at 32, 64, ... 16384. */
#define RANGES          10u
#define RANGE_FIRST_END 32u
_Static_assert(RANGE_FIRST_END << (RANGES - 1) == GEMM_ROWS_MAX, "the ranges end at the limit");

#define CANDIDATES 4
#define TIMED_RUNS 3

typedef struct prepared_shape {
    gemm_shape shape;
    uint32_t rows_max;
    cublasLtMatmulAlgo_t algorithms[RANGES];
} prepared_shape;

struct gemm_library {
    cublasLtHandle_t handle;
    cudaDataType_t type;
    void *workspace;
    size_t workspace_bytes;
    cudaEvent_t before, after; /* for timing */
    prepared_shape shapes[LIMIT_GEMM_SHAPES];
    uint32_t shape_count;
};

/* A product as cuBLASLt wants it described; all on the stack. */
typedef struct description {
    cublasLtMatmulDescOpaque_t product;
    cublasLtMatrixLayoutOpaque_t w, x, d;
} description;

static cudaDataType_t data_type(kernel_dtype type)
{
    return type == KERNEL_F16 ? CUDA_R_16F : type == KERNEL_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static uint32_t range_of(uint32_t m)
{
    uint32_t range = 0;
    while (RANGE_FIRST_END << range < m)
        range++;
    return range;
}

static status failed(error *err, const char *call, const char *reason, uint32_t m,
                     const gemm_shape *s)
{
    return error_set(
        err, ST_INTERNAL, "gemm: %s M=%" PRIu32 " N=%" PRIu32 " K=%" PRIu32 " D=%s%s: %s", call, m,
        s->n, s->k, s->d_type == KERNEL_F32 ? "F32" : "T", s->has_bias ? " bias" : "", reason);
}

static status describe(description *out, const gemm_library *l, const gemm_shape *s, uint32_t m,
                       const void *bias, error *err)
{
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasLtEpilogue_t add_bias = CUBLASLT_EPILOGUE_BIAS;
    cudaDataType_t d_type = data_type(s->d_type);
    cublasStatus_t e = cublasLtMatmulDescInit(&out->product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (e == CUBLAS_STATUS_SUCCESS)
        e = cublasLtMatmulDescSetAttribute(&out->product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                           sizeof transposed);
    if (e == CUBLAS_STATUS_SUCCESS && s->has_bias)
        e = cublasLtMatmulDescSetAttribute(&out->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &add_bias,
                                           sizeof add_bias);
    if (e == CUBLAS_STATUS_SUCCESS && s->has_bias)
        e = cublasLtMatmulDescSetAttribute(&out->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                           sizeof bias);
    if (e == CUBLAS_STATUS_SUCCESS && s->has_bias)
        e = cublasLtMatmulDescSetAttribute(&out->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
                                           &d_type, sizeof d_type);
    if (e == CUBLAS_STATUS_SUCCESS)
        e = cublasLtMatrixLayoutInit(&out->w, l->type, s->k, s->n, s->k);
    if (e == CUBLAS_STATUS_SUCCESS) e = cublasLtMatrixLayoutInit(&out->x, l->type, s->k, m, s->k);
    if (e == CUBLAS_STATUS_SUCCESS) e = cublasLtMatrixLayoutInit(&out->d, d_type, s->n, m, s->n);
    if (e != CUBLAS_STATUS_SUCCESS)
        return failed(err, "describing a product to cuBLASLt", cublasLtGetStatusString(e), m, s);
    return ST_OK;
}

static cublasStatus_t multiply(const gemm_library *l, description *described, void *d,
                               const void *x, const void *w, const cublasLtMatmulAlgo_t *algorithm,
                               cudaStream_t stream)
{
    const float one = 1, zero = 0;
    return cublasLtMatmul(l->handle, &described->product, &one, w, &described->w, x, &described->x,
                          &zero, d, &described->d, d, &described->d, algorithm, l->workspace,
                          l->workspace_bytes, stream);
}

status gemm_library_create(gemm_library **out, kernel_dtype type, void *workspace,
                           size_t workspace_bytes, error *err)
{
    gemm_library *l = mem_calloc(1, sizeof *l);
    l->type = data_type(type);
    l->workspace = workspace;
    l->workspace_bytes = workspace_bytes;
    cublasStatus_t e = cublasLtCreate(&l->handle);
    if (e != CUBLAS_STATUS_SUCCESS) {
        gemm_library_destroy(l);
        return error_set(err, ST_INTERNAL, "gemm: cublasLtCreate: %s", cublasLtGetStatusString(e));
    }
    cudaError_t c = cudaEventCreate(&l->before);
    if (c == cudaSuccess) c = cudaEventCreate(&l->after);
    if (c != cudaSuccess) {
        gemm_library_destroy(l);
        return error_set(err, ST_INTERNAL, "gemm: cudaEventCreate: %s", cudaGetErrorString(c));
    }
    *out = l;
    return ST_OK;
}

void gemm_library_destroy(gemm_library *l)
{
    if (l == NULL) return;
    if (l->after != NULL) (void)cudaEventDestroy(l->after);
    if (l->before != NULL) (void)cudaEventDestroy(l->before);
    if (l->handle != NULL) (void)cublasLtDestroy(l->handle);
    mem_free(l);
}

static prepared_shape *find(gemm_library *l, const gemm_shape *s)
{
    for (uint32_t i = 0; i < l->shape_count; i++) {
        gemm_shape *have = &l->shapes[i].shape;
        if (have->n == s->n && have->k == s->k && have->d_type == s->d_type &&
            have->has_bias == s->has_bias)
            return &l->shapes[i];
    }
    return NULL;
}

/* Up to CANDIDATES algorithms, the library's favourite first. */
static status propose(const gemm_library *l, description *described, const gemm_shape *s,
                      uint32_t m, cublasLtMatmulHeuristicResult_t proposals[CANDIDATES], int *count,
                      error *err)
{
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasStatus_t e = cublasLtMatmulPreferenceInit(&preference);
    if (e == CUBLAS_STATUS_SUCCESS)
        e = cublasLtMatmulPreferenceSetAttribute(&preference,
                                                 CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                 &l->workspace_bytes, sizeof l->workspace_bytes);
    /* X, W and D start at 16 bytes, and so does every row of X and W. */
    const uint32_t alignment = 16;
    const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++)
        if (e == CUBLAS_STATUS_SUCCESS)
            e = cublasLtMatmulPreferenceSetAttribute(&preference, alignments[i], &alignment,
                                                     sizeof alignment);
    if (e == CUBLAS_STATUS_SUCCESS)
        e = cublasLtMatmulAlgoGetHeuristic(l->handle, &described->product, &described->w,
                                           &described->x, &described->d, &described->d, &preference,
                                           CANDIDATES, proposals, count);
    if (e != CUBLAS_STATUS_SUCCESS)
        return failed(err, "cublasLtMatmulAlgoGetHeuristic", cublasLtGetStatusString(e), m, s);
    if (*count == 0)
        return failed(err, "cublasLtMatmulAlgoGetHeuristic", "no algorithm for it", m, s);
    return ST_OK;
}

/* Milliseconds of one run; INFINITY for one that the library cannot do after all. */
static status time_one(const gemm_library *l, description *described, const gemm_shape *s,
                       uint32_t m, const cublasLtMatmulAlgo_t *algorithm, const void *w,
                       const void *x, void *d, cudaStream_t stream, float *ms, error *err)
{
    *ms = INFINITY;
    if (multiply(l, described, d, x, w, algorithm, stream) != CUBLAS_STATUS_SUCCESS) return ST_OK;
    float sum_ms = 0;
    cudaError_t e = cudaEventRecord(l->before, stream);
    for (int i = 0; i < TIMED_RUNS; i++)
        (void)multiply(l, described, d, x, w, algorithm, stream);
    if (e == cudaSuccess) e = cudaEventRecord(l->after, stream);
    if (e == cudaSuccess) e = cudaEventSynchronize(l->after);
    if (e == cudaSuccess) e = cudaEventElapsedTime(&sum_ms, l->before, l->after);
    if (e != cudaSuccess) return failed(err, "timing cublasLtMatmul", cudaGetErrorString(e), m, s);
    *ms = sum_ms / TIMED_RUNS;
    return ST_OK;
}

static status choose(const gemm_library *l, const gemm_shape *s, uint32_t m, const void *w,
                     const void *x, void *d, cudaStream_t stream, cublasLtMatmulAlgo_t *algorithm,
                     error *err)
{
    description described;
    cublasLtMatmulHeuristicResult_t proposals[CANDIDATES];
    int count = 0, best = 0;
    float best_ms = INFINITY;
    /* Any bias is as fast as any other: the workspace stands in. */
    status st = describe(&described, l, s, m, l->workspace, err);
    if (st == ST_OK) st = propose(l, &described, s, m, proposals, &count, err);
    if (w != NULL && x != NULL && d != NULL)
        for (int i = 0; st == ST_OK && i < count; i++) {
            float ms;
            st = time_one(l, &described, s, m, &proposals[i].algo, w, x, d, stream, &ms, err);
            if (ms < best_ms) {
                best_ms = ms;
                best = i;
            }
        }
    if (st == ST_OK) *algorithm = proposals[best].algo;
    return st;
}

status gemm_library_prepare(gemm_library *l, const gemm_shape *shape, uint32_t rows_max,
                            const void *w, void *x, void *d, cudaStream_t stream, error *err)
{
    prepared_shape *p = find(l, shape);
    if (p != NULL && p->rows_max >= rows_max) return ST_OK;
    if (p == NULL) {
        if (l->shape_count == LIMIT_GEMM_SHAPES)
            return error_set(err, ST_RESOURCE_EXHAUSTED,
                             "gemm: more than %u shapes of weights (LIMIT_GEMM_SHAPES)",
                             LIMIT_GEMM_SHAPES);
        p = &l->shapes[l->shape_count++];
        p->shape = *shape;
    }
    p->rows_max = 0; /* until all is chosen */
    for (uint32_t range = 0; range <= range_of(rows_max); range++) {
        uint32_t end = RANGE_FIRST_END << range;
        uint32_t m = end < rows_max ? end : rows_max;
        status st = choose(l, shape, m, w, x, d, stream, &p->algorithms[range], err);
        if (st != ST_OK) return st;
    }
    p->rows_max = rows_max;
    return ST_OK;
}

status gemm_library_run(gemm_library *l, const gemm_shape *shape, void *d, const void *x,
                        const void *w, const void *bias, uint32_t m, cudaStream_t stream,
                        error *err)
{
    const prepared_shape *p = find(l, shape);
    if (p == NULL || p->rows_max < m)
        return error_set(err, ST_FAILED_PRECONDITION,
                         "gemm: N=%" PRIu32 " K=%" PRIu32 " was prepared for %" PRIu32
                         " rows, M is %" PRIu32,
                         shape->n, shape->k, p == NULL ? 0 : p->rows_max, m);
    description described;
    status st = describe(&described, l, shape, m, bias, err);
    if (st != ST_OK) return st;
    cublasStatus_t e = multiply(l, &described, d, x, w, &p->algorithms[range_of(m)], stream);
    if (e != CUBLAS_STATUS_SUCCESS)
        return failed(err, "cublasLtMatmul", cublasLtGetStatusString(e), m, shape);
    return ST_OK;
}
