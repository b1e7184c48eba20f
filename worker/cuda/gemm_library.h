/* gemm_library: the part of gemm.c that knows cuBLASLt. The tests' CPU emulation has plain loops in
 * its place (tests/cuda_emulation/gemm_emulated.cpp).
 *
 * Products with many rows. What gemm.h says of shapes, rows, threads and failures holds here too.
 */
#ifndef GAGGLE_WORKER_CUDA_GEMM_LIBRARY_H
#define GAGGLE_WORKER_CUDA_GEMM_LIBRARY_H

#include "worker/cuda/gemm.h"

typedef struct gemm_library gemm_library;

/* workspace: device memory, 256-byte aligned, for as long as the library is used. */
MUST_USE status gemm_library_create(gemm_library **out, kernel_dtype type, void *workspace,
                                    size_t workspace_bytes, error *err);
void gemm_library_destroy(gemm_library *l); /* NULL is fine */

MUST_USE status gemm_library_prepare(gemm_library *l, const gemm_shape *shape, uint32_t rows_max,
                                     const void *w, void *x, void *d, cudaStream_t stream,
                                     error *err);

/* d = x w^T + bias; unlike gemm_run(), `bias` has d's type (cuBLASLt knows no other). */
MUST_USE status gemm_library_run(gemm_library *l, const gemm_shape *shape, void *d, const void *x,
                                 const void *w, const void *bias, uint32_t m, cudaStream_t stream,
                                 error *err);

#endif
