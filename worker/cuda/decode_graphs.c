#include "worker/cuda/decode_graphs.h"

#include "common/check.h"
#include "common/mem.h"

/* A graph of 32 layers takes 1 to 3 MiB of the device (measured by free memory before and after).
 */
#define GRAPH_BYTES (4ull * LIMIT_MIB)

/* Greedy steps have a kernel less. */
typedef struct bucket {
    uint32_t rows;
    bool seen[2];
    cudaGraphExec_t graph[2]; /* by greedy_only; NULL: not captured */
} bucket;

struct decode_graphs {
    bucket *buckets; /* [count], rows ascending */
    uint32_t count;
};

/* Fine where a row more costs little beside reading the weights: small batches; above, about an
 * eighth may be padding. */
static uint32_t next_rows(uint32_t rows)
{
    if (rows < 4) return rows + 1;
    if (rows < 16) return rows + 4;
    if (rows < 64) return rows + 8;
    return rows + rows / 8;
}

static uint32_t count_buckets(uint32_t rows_max)
{
    uint32_t count = 1;
    for (uint32_t rows = 1; rows < rows_max; rows = next_rows(rows))
        count++;
    return count;
}

decode_graphs *decode_graphs_create(uint32_t rows_max)
{
    decode_graphs *d = mem_calloc(1, sizeof *d);
    d->count = count_buckets(rows_max);
    d->buckets = mem_calloc(d->count, sizeof *d->buckets);
    uint32_t rows = 1;
    for (uint32_t i = 0; i < d->count; i++, rows = next_rows(rows))
        d->buckets[i].rows = rows < rows_max ? rows : rows_max;
    return d;
}

void decode_graphs_destroy(decode_graphs *d)
{
    if (d == NULL) return;
    for (uint32_t i = 0; i < d->count; i++)
        for (int g = 0; g < 2; g++)
            if (d->buckets[i].graph[g] != NULL) cudaGraphExecDestroy(d->buckets[i].graph[g]);
    mem_free(d->buckets);
    mem_free(d);
}

uint64_t decode_graphs_bytes(uint32_t rows_max)
{
    return 2 * GRAPH_BYTES * count_buckets(rows_max);
}

static bucket *find(const decode_graphs *d, uint32_t rows)
{
    uint32_t i = 0;
    while (i < d->count && d->buckets[i].rows < rows)
        i++;
    CHECK(i < d->count);
    return &d->buckets[i];
}

uint32_t decode_graphs_bucket(const decode_graphs *d, uint32_t rows)
{
    return find(d, rows)->rows;
}

static status enqueue(gpu_model *m, const step_view *view, error *err)
{
    status st = forward_logits(m, view, err);
    return st == ST_OK ? forward_sample(m, view, err) : st;
}

static status capture(cudaGraphExec_t *out, gpu_model *m, const step_view *view, error *err)
{
    gpu *g = m->gpu;
    cudaGraph_t graph = NULL;
    status st = gpu_check(g, cudaStreamBeginCapture(g->stream, cudaStreamCaptureModeThreadLocal),
                          err, "cudaStreamBeginCapture rows=%u", view->token_count);
    if (st != ST_OK) return st;
    st = enqueue(m, view, err);
    cudaError_t code = cudaStreamEndCapture(g->stream, &graph);
    if (st == ST_OK)
        st = gpu_check(g, code, err, "cudaStreamEndCapture rows=%u", view->token_count);
    if (st == ST_OK)
        st = gpu_check(g, cudaGraphInstantiate(out, graph, 0), err, "cudaGraphInstantiate rows=%u",
                       view->token_count);
    if (graph != NULL) cudaGraphDestroy(graph);
    return st;
}

status decode_graphs_run(decode_graphs *d, gpu_model *m, const step_view *view, error *err)
{
    bucket *b = find(d, view->token_count);
    CHECK(b->rows == view->token_count);
    cudaGraphExec_t *graph = &b->graph[view->greedy_only];
    if (!b->seen[view->greedy_only]) {
        b->seen[view->greedy_only] = true;
        return enqueue(m, view, err);
    }
    if (*graph == NULL) {
        status st = capture(graph, m, view, err);
        if (st != ST_OK) return st;
    }
    return gpu_check(m->gpu, cudaGraphLaunch(*graph, m->gpu->stream), err,
                     "cudaGraphLaunch rows=%u", view->token_count);
}
