/* gemm_library for the CPU emulation: loops in the place of cuBLASLt, behind the same header, and
 * as strict about shapes that nobody prepared. Sums are double, rounded once. */
#include "runtime.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cinttypes>
#include <vector>

extern "C" {
#include "worker/cuda/gemm_library.h"
}

struct gemm_library {
    kernel_dtype type;
    struct prepared_shape {
        gemm_shape shape;
        uint32_t rows_max;
    };
    std::vector<prepared_shape> shapes;
};

static gemm_library::prepared_shape *find(gemm_library *l, const gemm_shape &s)
{
    for (auto &p : l->shapes)
        if (p.shape.n == s.n && p.shape.k == s.k && p.shape.d_type == s.d_type &&
            p.shape.has_bias == s.has_bias)
            return &p;
    return nullptr;
}

static float element(const void *values, kernel_dtype type, size_t i)
{
    if (type == KERNEL_F16) return __half2float(static_cast<const __half *>(values)[i]);
    if (type == KERNEL_BF16) return __bfloat162float(static_cast<const __nv_bfloat16 *>(values)[i]);
    return static_cast<const float *>(values)[i];
}

static void set_element(void *values, kernel_dtype type, size_t i, float value)
{
    if (type == KERNEL_F16)
        static_cast<__half *>(values)[i] = __float2half_rn(value);
    else if (type == KERNEL_BF16)
        static_cast<__nv_bfloat16 *>(values)[i] = __float2bfloat16_rn(value);
    else
        static_cast<float *>(values)[i] = value;
}

static std::vector<float> row_of(const void *matrix, kernel_dtype type, size_t row, size_t k)
{
    std::vector<float> values(k);
    for (size_t c = 0; c < k; c++)
        values[c] = element(matrix, type, row * k + c);
    return values;
}

status gemm_library_create(gemm_library **out, kernel_dtype type, void *, size_t, error *)
{
    *out = new gemm_library{type, {}};
    return ST_OK;
}

void gemm_library_destroy(gemm_library *l)
{
    delete l;
}

status gemm_library_prepare(gemm_library *l, const gemm_shape *shape, uint32_t rows_max,
                            const void *, void *, void *, cudaStream_t, error *)
{
    gemm_library::prepared_shape *p = find(l, *shape);
    if (p == nullptr)
        l->shapes.push_back({*shape, rows_max});
    else
        p->rows_max = std::max(p->rows_max, rows_max);
    return ST_OK;
}

status gemm_library_run(gemm_library *l, const gemm_shape *shape, void *d, const void *x,
                        const void *w, const void *bias, uint32_t m, cudaStream_t stream,
                        error *err)
{
    const gemm_library::prepared_shape *p = find(l, *shape);
    if (p == nullptr || p->rows_max < m)
        return error_set(err, ST_FAILED_PRECONDITION,
                         "gemm: N=%" PRIu32 " K=%" PRIu32 " was prepared for %" PRIu32
                         " rows, M is %" PRIu32,
                         shape->n, shape->k, p == nullptr ? 0 : p->rows_max, m);
    const gemm_shape s = *shape;
    const kernel_dtype type = l->type;
    cudaError_t e = emulation::enqueue(stream, [=] {
        std::vector<std::vector<float>> rows;
        for (size_t i = 0; i < m; i++)
            rows.push_back(row_of(x, type, i, s.k));
        for (size_t j = 0; j < s.n; j++) {
            std::vector<float> weights = row_of(w, type, j, s.k);
            float add = bias == nullptr ? 0 : element(bias, s.d_type, j);
            for (size_t i = 0; i < m; i++) {
                double sum = add;
                for (size_t c = 0; c < s.k; c++)
                    sum += (double)rows[i][c] * (double)weights[c];
                set_element(d, s.d_type, i * s.n + j, (float)sum);
            }
        }
    });
    return e == cudaSuccess
               ? ST_OK
               : error_set(err, ST_INTERNAL, "gemm: the emulation: %s", cudaGetErrorString(e));
}
