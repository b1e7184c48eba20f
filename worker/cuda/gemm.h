/* gemm: every matrix product of the model with a weight matrix, behind one C door.
 *
 *   D[m][n] = sum over k of X[m][k] * W[n][k]  (+ bias[n])
 *
 * Up to GEMM_SKINNY_ROWS rows go to our own kernel, which reads the weights once at the speed of
 * memory (kernels/gemm_skinny.h); more go to cuBLASLt, with an algorithm that was chosen once a
 * shape and range of M, at start. With `batch_invariant` everything goes to our own kernel,
 * whose result for a row depends on N, K and that row alone: the same bits for any M, any place of
 * the row, and any run.
 *
 * One gemm belongs to one stream at a time (its workspace is shared by the calls): the engine
 * thread's, with the device current. */
#ifndef GAGGLE_WORKER_CUDA_GEMM_H
#define GAGGLE_WORKER_CUDA_GEMM_H

#include "common/status.h"
#include "worker/cuda/kernels/kernel_types.h"

typedef struct gemm gemm;

/* Device memory that gemm_create() wants, 256-byte aligned: cuBLASLt's, our partial sums (the two
 * never live at once), a bias in T, and the tickets of split sums. */
#define GEMM_WORKSPACE_BYTES ((size_t)36 << 20)

/* Rows that one call may have. */
#define GEMM_ROWS_MAX 16384u

/* A weight's shape, and how it is used. */
typedef struct gemm_shape {
    uint32_t n, k;       /* W [n, k]; n at least 1, k a multiple of 8, at least 8 */
    kernel_dtype d_type; /* of D: T or KERNEL_F32 */
    bool has_bias;
} gemm_shape;

/* A gemm over elements of `type` (KERNEL_F16 or KERNEL_BF16).
 *
 * device     copied
 * workspace  [GEMM_WORKSPACE_BYTES] device memory, the caller's; must outlive the gemm; its ticket
 *            part is zeroed on `stream` now
 * Fails with ST_INVALID_ARGUMENT (BF16 on code older than sm_80) or ST_INTERNAL (a library or
 * device call, named); then nothing is left behind. */
MUST_USE status gemm_create(gemm **out, const kernel_device *device, kernel_dtype type,
                            bool batch_invariant, void *workspace, cudaStream_t stream, error *err);

void gemm_destroy(gemm *g); /* NULL is fine; nothing of it may be running */

/* Choose cuBLASLt's algorithms for a shape, for every range of M up to rows_max, by timing the
 * best few that it proposes. Once a distinct shape, at start, outside graph capture; synchronises
 * `stream`. A shape that was prepared before, for as many rows, costs nothing. Does nothing in
 * batch-invariant mode.
 *
 * w   [n, k] T, a weight of that shape: read only
 * x   [rows_max, k] T, d [rows_max, n] of shape->d_type: scratch; x's content does not matter, d
 *     is written. Any of the three may be NULL: then the library's first proposal is taken, untimed
 *
 * Fails with ST_INVALID_ARGUMENT (the shape or rows_max is out of range), ST_RESOURCE_EXHAUSTED
 * (more distinct shapes than LIMIT_GEMM_SHAPES) or ST_INTERNAL. */
MUST_USE status gemm_prepare(gemm *g, const gemm_shape *shape, uint32_t rows_max, const void *w,
                             void *x, void *d, cudaStream_t stream, error *err);

/* D = X W^T + bias, enqueued on `stream`. Allocates nothing, never synchronises, can be captured.
 *
 * d     [m, n] of d_type (T or KERNEL_F32), row-major, 16-byte aligned; overlaps nothing
 * x     [m, k] T, row-major, 16-byte aligned
 * w     [n, k] T, row-major (as Hugging Face stores it), 16-byte aligned; nothing may be writing
 *       it: it is read before the kernels ahead on the stream are done
 * bias  [n] float, or NULL
 * m     0..GEMM_ROWS_MAX; 0 launches nothing. Above GEMM_SKINNY_ROWS (kernels/gemm_skinny.h) the
 *       shape must have been prepared for at least m rows
 * math  sums in float; a result is within 2^-8 (BF16) or 2^-11 (F16) of itself and float's rounding
 *       of the sum from the exact one; F16 overflows to infinity
 *
 * On failure: ST_INVALID_ARGUMENT, ST_FAILED_PRECONDITION (not prepared), or ST_INTERNAL with the
 * call and the shape in err->text: the CUDA context must then be given up. */
MUST_USE status gemm_run(gemm *g, void *d, kernel_dtype d_type, const void *x, const void *w,
                         const float *bias, uint32_t m, uint32_t n, uint32_t k, cudaStream_t stream,
                         error *err);

#endif
