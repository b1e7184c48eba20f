#include "worker/cuda/memory_plan.h"

#include <stdio.h>

#define GIB (1024.0 * 1024.0 * 1024.0)

/* A worker that cannot hold one sequence of this many blocks serves nobody. */
#define KV_BLOCKS_LEAST 4u

uint32_t memory_plan_head_stride(uint32_t head_dim)
{
    static const uint32_t strides[] = {64, 96, 128, 256};
    for (size_t i = 0; i < sizeof strides / sizeof strides[0]; i++)
        if (head_dim <= strides[i]) return strides[i];
    return 0;
}

static status too_small(const memory_plan *p, const memory_request *r, uint64_t needed, error *err)
{
    return error_set(err, ST_RESOURCE_EXHAUSTED,
                     "the model does not fit: %.2f GiB for weights, %.2f for workspace, %.2f for "
                     "graphs and %.3f for %u KV blocks make %.2f GiB; this worker's share of the "
                     "device is %.2f of %.2f GiB (%.2f are held by others). "
                     "--gpu-memory-utilization (now %.2f), --max-num-batched-tokens (%u) and "
                     "--max-num-seqs (%u) change it",
                     (double)p->weight_bytes / GIB, (double)p->workspace_bytes / GIB,
                     (double)p->graph_bytes / GIB,
                     (double)(p->kv_block_bytes * KV_BLOCKS_LEAST) / GIB, KV_BLOCKS_LEAST,
                     (double)needed / GIB, (double)p->share_bytes / GIB,
                     (double)r->total_bytes / GIB, (double)p->others_bytes / GIB, r->utilization,
                     r->step_tokens, r->step_sequences);
}

status memory_plan_make(memory_plan *plan, const memory_request *r, error *err)
{
    const model_config *c = r->config;
    *plan = (memory_plan){
        .weight_bytes = r->weight_bytes,
        .workspace_bytes = r->workspace_bytes,
        .graph_bytes = r->graph_bytes,
        .others_bytes = r->total_bytes - r->free_bytes,
        .head_stride = memory_plan_head_stride(c->head_dim),
    };
    if (plan->head_stride == 0)
        return error_set(err, ST_UNIMPLEMENTED,
                         "head_dim is %u; the CUDA backend has kernels up to 256", c->head_dim);
    plan->kv_block_bytes =
        2ull * c->layer_count * c->kv_head_count * LIMIT_KV_BLOCK_TOKENS * plan->head_stride * 2;
    double share = (double)r->total_bytes * r->utilization - (double)plan->others_bytes;
    plan->share_bytes = share > 0 ? (uint64_t)share : 0;

    uint64_t fixed = plan->weight_bytes + plan->workspace_bytes + plan->graph_bytes;
    uint64_t needed = fixed + plan->kv_block_bytes * (KV_BLOCKS_LEAST + 1);
    if (needed > plan->share_bytes) return too_small(plan, r, needed, err);
    uint64_t left = plan->share_bytes - fixed;
    if (r->kv_bytes > left)
        return error_set(err, ST_RESOURCE_EXHAUSTED,
                         "--kv-cache-memory is %.2f GiB; beside weights (%.2f), workspace (%.2f) "
                         "and graphs (%.2f) the device has %.2f GiB left",
                         (double)r->kv_bytes / GIB, (double)plan->weight_bytes / GIB,
                         (double)plan->workspace_bytes / GIB, (double)plan->graph_bytes / GIB,
                         (double)left / GIB);
    uint64_t blocks = (r->kv_bytes > 0 ? r->kv_bytes : left) / plan->kv_block_bytes;
    if (r->kv_bytes == 0) blocks--; /* the spare one */
    uint64_t most = (uint64_t)UINT32_MAX / LIMIT_KV_BLOCK_TOKENS - 1;
    plan->kv_blocks = (uint32_t)(blocks < most ? blocks : most);
    if (plan->kv_blocks < 1)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "--kv-cache-memory is %llu bytes; one block of %u tokens takes %llu",
                         (unsigned long long)r->kv_bytes, LIMIT_KV_BLOCK_TOKENS,
                         (unsigned long long)plan->kv_block_bytes);
    plan->kv_bytes = (plan->kv_blocks + 1ull) * plan->kv_block_bytes;
    return ST_OK;
}

int memory_plan_describe(const memory_plan *p, uint32_t context_max, char *text, size_t size)
{
    uint64_t tokens = (uint64_t)p->kv_blocks * LIMIT_KV_BLOCK_TOKENS;
    return snprintf(
        text, size,
        "device memory: %.2f GiB for this worker (%.2f held by others)\n"
        "  weights    %8.2f GiB\n"
        "  workspace  %8.2f GiB\n"
        "  graphs     %8.2f GiB\n"
        "  KV cache   %8.2f GiB: %llu tokens, %.1f answers of the whole context of %u\n",
        (double)p->share_bytes / GIB, (double)p->others_bytes / GIB, (double)p->weight_bytes / GIB,
        (double)p->workspace_bytes / GIB, (double)p->graph_bytes / GIB, (double)p->kv_bytes / GIB,
        (unsigned long long)tokens, (double)tokens / context_max, context_max);
}
