/* Few rows to the kernel of ours that reads weights at the speed of memory, many to cuBLASLt.
 *
 * The workspace, from its start: partial sums or cuBLASLt's scratch (calls follow one another on a
 * stream, so the two never live at once), a bias in T, tickets. Only the tickets carry something
 * from one call to the next: they are zero in between. */
#include "worker/cuda/gemm.h"

#include "common/limits.h"
#include "common/mem.h"
#include "worker/cuda/gemm_library.h"
#include "worker/cuda/kernels/convert.h"
#include "worker/cuda/kernels/gemm_skinny.h"

#include <inttypes.h>

#define N_MAX        (1u << 20)
#define BIAS_OFFSET  GEMM_SKINNY_PARTIAL_BYTES
#define TICKET_BYTES (GEMM_SKINNY_TICKETS * sizeof(uint32_t))

_Static_assert(BIAS_OFFSET + N_MAX * 2u + TICKET_BYTES <= GEMM_WORKSPACE_BYTES,
               "the workspace holds its three parts");

struct gemm {
    kernel_device device;
    kernel_dtype type;
    gemm_library *library; /* NULL: batch-invariant */
    gemm_skinny_workspace skinny;
    void *bias; /* [N_MAX] T */
};

status gemm_create(gemm **out, const kernel_device *device, kernel_dtype type, bool batch_invariant,
                   void *workspace, cudaStream_t stream, error *err)
{
    if (type != KERNEL_F16 && (type != KERNEL_BF16 || device->code_arch < 80))
        return error_set(err, ST_INVALID_ARGUMENT,
                         "gemm: element type %d needs newer code than sm_%" PRIu32, (int)type,
                         device->code_arch);
    gemm *g = mem_calloc(1, sizeof *g);
    unsigned char *memory = workspace;
    status st = ST_OK;
    g->device = *device;
    g->type = type;
    g->skinny.partials = workspace;
    g->bias = memory + BIAS_OFFSET;
    g->skinny.tickets = (void *)(memory + GEMM_WORKSPACE_BYTES - TICKET_BYTES);

    cudaError_t e = gemm_skinny_init(device);
    if (e == cudaSuccess) e = cudaMemsetAsync(g->skinny.tickets, 0, TICKET_BYTES, stream);
    if (e != cudaSuccess)
        st = error_set(err, ST_INTERNAL, "gemm: setting up our kernel: %s", cudaGetErrorString(e));
    if (st == ST_OK && !batch_invariant)
        st = gemm_library_create(&g->library, type, workspace, GEMM_SKINNY_PARTIAL_BYTES, err);
    if (st != ST_OK) {
        gemm_destroy(g);
        return st;
    }
    *out = g;
    return ST_OK;
}

void gemm_destroy(gemm *g)
{
    if (g == NULL) return;
    gemm_library_destroy(g->library);
    mem_free(g);
}

static status check_shape(const gemm *g, const gemm_shape *s, uint32_t m, error *err)
{
    if (s->n == 0 || s->n > N_MAX)
        return error_set(err, ST_INVALID_ARGUMENT, "gemm: N is %" PRIu32 ", must be 1 to %u", s->n,
                         N_MAX);
    if (s->k == 0 || s->k % 8 != 0)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "gemm: K is %" PRIu32 ", must be a multiple of 8 and not 0", s->k);
    if (s->d_type != g->type && s->d_type != KERNEL_F32)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "gemm: D is of type %d, must be that of X (%d) or float", (int)s->d_type,
                         (int)g->type);
    if (m > GEMM_ROWS_MAX)
        return error_set(err, ST_INVALID_ARGUMENT, "gemm: M is %" PRIu32 ", at most %u", m,
                         GEMM_ROWS_MAX);
    return ST_OK;
}

status gemm_prepare(gemm *g, const gemm_shape *shape, uint32_t rows_max, const void *w, void *x,
                    void *d, cudaStream_t stream, error *err)
{
    status st = check_shape(g, shape, rows_max, err);
    if (st != ST_OK || g->library == NULL || rows_max <= GEMM_SKINNY_ROWS) return st;
    return gemm_library_prepare(g->library, shape, rows_max, w, x, d, stream, err);
}

/* cuBLASLt wants the bias in D's type. */
static status library_run(gemm *g, const gemm_shape *shape, void *d, const void *x, const void *w,
                          const float *bias, uint32_t m, cudaStream_t stream, error *err)
{
    const void *d_bias = bias;
    if (bias != NULL && shape->d_type != KERNEL_F32) {
        cudaError_t e =
            convert_elements(g->bias, shape->d_type, bias, KERNEL_F32, shape->n, 0, NULL, stream);
        if (e != cudaSuccess)
            return error_set(err, ST_INTERNAL, "gemm: convert_elements bias N=%" PRIu32 ": %s",
                             shape->n, cudaGetErrorString(e));
        d_bias = g->bias;
    }
    return gemm_library_run(g->library, shape, d, x, w, d_bias, m, stream, err);
}

status gemm_run(gemm *g, void *d, kernel_dtype d_type, const void *x, const void *w,
                const float *bias, uint32_t m, uint32_t n, uint32_t k, cudaStream_t stream,
                error *err)
{
    const gemm_shape shape = {.n = n, .k = k, .d_type = d_type, .has_bias = bias != NULL};
    status st = check_shape(g, &shape, m, err);
    if (st != ST_OK || m == 0) return st;
    if (g->library != NULL && m > GEMM_SKINNY_ROWS)
        return library_run(g, &shape, d, x, w, bias, m, stream, err);
    cudaError_t e =
        gemm_skinny(d, d_type, x, w, bias, m, n, k, g->type, &g->skinny, &g->device, stream);
    if (e != cudaSuccess)
        return error_set(err, ST_INTERNAL,
                         "gemm: gemm_skinny M=%" PRIu32 " N=%" PRIu32 " K=%" PRIu32 ": %s", m, n, k,
                         cudaGetErrorString(e));
    return ST_OK;
}
