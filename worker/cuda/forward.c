#include "worker/cuda/forward.h"

#include <string.h>

#include "common/check.h"
#include "common/mem.h"
#include "worker/cuda/kernels/activation.h"
#include "worker/cuda/kernels/embed.h"
#include "worker/cuda/kernels/norm.h"
#include "worker/cuda/kernels/rope.h"

#define ALIGNMENT 256u

#define TRY(expression)                                                                            \
    do {                                                                                           \
        status try_status = (expression);                                                          \
        if (try_status != ST_OK) return try_status;                                                \
    } while (0)

/* -- what a model is to the kernels ------------------------------------------------------- */

status forward_windows(const model_config *config, uint32_t windows[STEP_WINDOWS_MAX],
                       uint32_t *count, error *err)
{
    *count = 0;
    for (uint32_t l = 0; l < config->layer_count; l++) {
        uint32_t w = 0;
        while (w < *count && windows[w] != config->layer_window[l])
            w++;
        if (w < *count) continue;
        if (w == STEP_WINDOWS_MAX)
            return error_set(err, ST_UNIMPLEMENTED,
                             "layer %u has a third sliding window, %u; the CUDA backend runs "
                             "models with %u",
                             l, config->layer_window[l], STEP_WINDOWS_MAX);
        windows[(*count)++] = config->layer_window[l];
    }
    return ST_OK;
}

static uint32_t window_index(const gpu_model *m, uint32_t layer)
{
    for (uint32_t w = 0; w < m->window_count; w++)
        if (m->windows[w] == m->config->layer_window[layer]) return w;
    CHECK(false);
    return 0;
}

static kernel_kv layer_kv(const gpu_model *m, uint32_t layer)
{
    uint8_t *keys = (uint8_t *)m->kv + 2ull * layer * m->kv_layer_bytes;
    return (kernel_kv){.keys = keys,
                       .values = keys + m->kv_layer_bytes,
                       .kv_heads = m->config->kv_head_count,
                       .head_dim = m->config->head_dim,
                       .head_stride = m->head_stride};
}

static attention_shape layer_shape(const gpu_model *m, uint32_t layer)
{
    return (attention_shape){.heads = m->config->head_count,
                             .window = m->config->layer_window[layer],
                             .scale = m->config->attention_scale,
                             .softcap = m->config->attention_softcap};
}

static uint32_t qkv_rows(const model_config *c)
{
    return (c->head_count + 2 * c->kv_head_count) * c->head_dim;
}

static uint32_t inner_size(const model_config *c)
{
    return gpu_padded(c->intermediate_size);
}

static kernel_dtype gate_up_type(const gpu_model *m)
{
    return m->weights.type == KERNEL_F16 ? KERNEL_F32 : m->weights.type;
}

/* The least over all layers, so that one list of items serves them all. */
uint32_t forward_tile_tokens(const gpu_model *m)
{
    uint32_t least = UINT32_MAX;
    for (uint32_t l = 0; l < m->config->layer_count; l++) {
        kernel_kv kv = layer_kv(m, l);
        attention_shape shape = layer_shape(m, l);
        uint32_t tokens = m->batch_invariant
                              ? attention_prefill_mma_tile_tokens(&m->gpu->kernels, &kv, &shape)
                              : attention_prefill_tile_tokens(&m->gpu->kernels, &kv, &shape);
        if (tokens < least) least = tokens;
    }
    return least;
}

/* All layers have the same heads. */
uint32_t forward_items_wanted(const gpu_model *m)
{
    kernel_kv kv = layer_kv(m, 0);
    attention_shape shape = layer_shape(m, 0);
    return attention_decode_items_wanted(&m->gpu->kernels, &kv, &shape);
}

/* -- memory ------------------------------------------------------------------------------- */

/* Places pieces behind each other; with base NULL it only adds up. */
typedef struct layout {
    uint8_t *base;
    uint64_t used;
} layout;

static void *piece(layout *l, uint64_t bytes)
{
    void *at = l->base == NULL ? NULL : l->base + l->used;
    l->used += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return bytes > 0 ? at : NULL;
}

static void lay_out(layout *l, gpu_model *m)
{
    const model_config *c = m->config;
    gpu_activations *a = &m->memory;
    uint64_t tokens = m->step_tokens, element = 2;
    uint64_t queries = (uint64_t)c->head_count * c->head_dim;
    a->residual = piece(l, tokens * c->hidden_size * sizeof(float));
    a->delta = piece(l, tokens * c->hidden_size * sizeof(float));
    a->normed = piece(l, tokens * c->hidden_size * element);
    a->inner = piece(l, tokens * inner_size(c) * element);
    if (m->weights.type == KERNEL_F16) a->row_scale = piece(l, tokens * sizeof(float));
    for (uint32_t r = 0; r < c->rope_count; r++)
        a->angles[r] = piece(l, tokens * c->rotary_dim * sizeof(float));
    for (uint32_t r = 0; r < c->rope_count; r++)
        m->frequencies[r] = piece(l, c->rotary_dim / 2 * sizeof(float));

    layout attention = *l;
    a->qkv = piece(&attention, tokens * qkv_rows(c) * element);
    a->queries = piece(&attention, tokens * c->head_count * m->head_stride * element);
    a->attended = piece(&attention, tokens * queries * element);
    uint64_t gate_up_element = gate_up_type(m) == KERNEL_F32 ? 4 : 2;
    a->gate_up = piece(l, tokens * 2 * inner_size(c) * gate_up_element);
    if (attention.used > l->used) l->used = attention.used;

    size_t slots =
        attention_plan_decode_items_max(m->step_sequences, m->context_max, forward_items_wanted(m));
    a->logits = piece(l, (uint64_t)m->step_sequences * m->logits_stride * sizeof(float));
    a->partials = piece(l, slots * attention_decode_partial_floats(c->head_count, m->head_stride) *
                               sizeof(float));
    a->tickets = piece(l, slots * c->kv_head_count * sizeof(uint32_t));
    a->sample_workspace = piece(l, sample_workspace_bytes(m->step_sequences));
    a->gemm_workspace = piece(l, GEMM_WORKSPACE_BYTES);
    a->last_sampled = piece(l, m->device_slots * sizeof(uint32_t));
    a->penalty_counts = piece(l, (uint64_t)m->device_slots * m->logits_stride * sizeof(uint16_t));
}

uint64_t forward_workspace_bytes(const gpu_model *m)
{
    gpu_model copy = *m;
    layout sizes = {0};
    lay_out(&sizes, &copy);
    return sizes.used;
}

static status send_frequencies(gpu_model *m, uint32_t rope, error *err)
{
    uint32_t count = m->config->rotary_dim / 2;
    float *host = mem_calloc(count, sizeof *host);
    model_config_rope_frequencies(m->config, rope, host);
    status st = gpu_check(
        m->gpu,
        cudaMemcpy(m->frequencies[rope], host, count * sizeof *host, cudaMemcpyHostToDevice), err,
        "cudaMemcpy of %u rope frequencies", count);
    mem_free(host);
    return st;
}

status forward_allocate(gpu_model *m, error *err)
{
    void *base;
    uint64_t bytes = forward_workspace_bytes(m);
    TRY(gpu_alloc(m->gpu, &base, bytes, "workspace", err));
    layout places = {.base = base};
    lay_out(&places, m);
    /* Tickets and the sampler's workspace begin as zeros; and no padding row reads a NaN. */
    TRY(gpu_check(m->gpu, cudaMemset(base, 0, bytes), err, "cudaMemset of the workspace"));
    for (uint32_t r = 0; r < m->config->rope_count; r++)
        TRY(send_frequencies(m, r, err));
    return gpu_synchronize(m->gpu, "clearing the workspace", err);
}

/* -- preparing ------------------------------------------------------------------------------ */

static status prepare_gemm(gpu_model *m, uint32_t n, uint32_t k, kernel_dtype d_type, bool has_bias,
                           uint32_t rows, const void *w, void *x, void *d, error *err)
{
    const gemm_shape shape = {.n = n, .k = k, .d_type = d_type, .has_bias = has_bias};
    return gemm_prepare(m->gemm, &shape, rows, w, x, d, m->gpu->stream, err);
}

status forward_prepare(gpu_model *m, error *err)
{
    const model_config *c = m->config;
    const gpu_layer *l = &m->weights.layers[0];
    gpu_activations *a = &m->memory;
    gpu *g = m->gpu;
    kernel_dtype type = m->weights.type;
    uint32_t tokens = m->step_tokens, queries = c->head_count * c->head_dim;
    TRY(gpu_check(g, attention_prefill_mma_prepare(&g->kernels), err, "attention's preparation"));
    if (g->kernels.has_sm90a)
        TRY(gpu_check(g, attention_prefill_sm90_prepare(&g->kernels), err,
                      "attention's preparation"));
    TRY(gpu_check(g, attention_decode_prepare(&g->kernels), err, "attention's preparation"));
    TRY(gemm_create(&m->gemm, &g->kernels, type, m->batch_invariant, a->gemm_workspace, g->stream,
                    err));
    TRY(prepare_gemm(m, qkv_rows(c), c->hidden_size, type, l->qkv_bias != NULL, tokens, l->qkv,
                     a->normed, a->qkv, err));
    TRY(prepare_gemm(m, c->hidden_size, queries, KERNEL_F32, l->o_bias != NULL, tokens, l->o,
                     a->attended, a->delta, err));
    TRY(prepare_gemm(m, 2 * inner_size(c), c->hidden_size, gate_up_type(m), l->gate_up_bias != NULL,
                     tokens, l->gate_up, a->normed, a->gate_up, err));
    TRY(prepare_gemm(m, c->hidden_size, inner_size(c), KERNEL_F32, l->down_bias != NULL, tokens,
                     l->down, a->inner, a->delta, err));
    TRY(prepare_gemm(m, m->logits_stride, c->hidden_size, KERNEL_F32, false, m->step_sequences,
                     m->weights.head, a->normed, a->logits, err));
    return gpu_synchronize(g, "the preparation of products", err);
}

/* -- one layer ------------------------------------------------------------------------------ */

static status run_gemm(gpu_model *m, void *d, kernel_dtype d_type, const void *x, const void *w,
                       const float *bias, uint32_t rows, uint32_t n, uint32_t k, error *err)
{
    TRY(gemm_run(m->gemm, d, d_type, x, w, bias, rows, n, k, m->gpu->stream, err));
    return gpu_check(m->gpu, cudaSuccess, err, "product m=%u n=%u k=%u", rows, n, k);
}

/* Add `delta` (unless NULL) to the residual, and norm it. */
static status run_norm(gpu_model *m, const float *delta, const float *row_scale,
                       const float *post_weight, const float *norm_weight, const uint32_t *rows,
                       uint32_t count, error *err)
{
    const residual_norm_args args = {.residual = m->memory.residual,
                                     .delta = delta,
                                     .row_scale = row_scale,
                                     .post_weight = post_weight,
                                     .y = m->memory.normed,
                                     .type = m->weights.type,
                                     .weight = norm_weight,
                                     .rows = rows,
                                     .count = count,
                                     .hidden = m->config->hidden_size,
                                     .eps = m->config->rms_norm_eps};
    return gpu_check(m->gpu, residual_norm(&m->gpu->kernels, &args, m->gpu->stream), err,
                     "residual_norm count=%u hidden=%u", count, args.hidden);
}

static status run_rope(gpu_model *m, uint32_t layer, const step_view *view, error *err)
{
    const model_config *c = m->config;
    const gpu_layer *l = &m->weights.layers[layer];
    const rope_write_args args = {.q_out = m->memory.queries,
                                  .kv = layer_kv(m, layer),
                                  .type = m->weights.type,
                                  .qkv = m->memory.qkv,
                                  .angles = m->memory.angles[c->layer_rope[layer]],
                                  .kv_rows = view->kv_rows,
                                  .q_norm = l->q_norm,
                                  .k_norm = l->k_norm,
                                  .tokens = view->token_count,
                                  .heads = c->head_count,
                                  .rotary_dim = c->rotary_dim,
                                  .eps = c->rms_norm_eps};
    return gpu_check(m->gpu, rope_write(&m->gpu->kernels, &args, m->gpu->stream), err,
                     "rope_write tokens=%u heads=%u kv_heads=%u head_dim=%u", view->token_count,
                     c->head_count, c->kv_head_count, c->head_dim);
}

static status run_prefill(gpu_model *m, uint32_t layer, const step_view *view, error *err)
{
    const attention_prefill_args args = {.kv = layer_kv(m, layer),
                                         .shape = layer_shape(m, layer),
                                         .dtype = m->weights.type,
                                         .q = m->memory.queries,
                                         .out = m->memory.attended,
                                         .items = view->prefill_items,
                                         .block_tables = view->pool,
                                         .item_count = view->prefill_item_count,
                                         .item_tokens_max = view->prefill_tokens_max};
    cudaError_t code = m->batch_invariant
                           ? attention_prefill_mma(&m->gpu->kernels, &args, m->gpu->stream)
                           : attention_prefill(&m->gpu->kernels, &args, m->gpu->stream);
    return gpu_check(m->gpu, code, err,
                     "attention_prefill items=%u heads=%u kv_heads=%u head_dim=%u", args.item_count,
                     args.shape.heads, args.kv.kv_heads, args.kv.head_dim);
}

static status run_decode(gpu_model *m, uint32_t layer, const step_view *view, error *err)
{
    uint32_t window = window_index(m, layer);
    const attention_decode_args args = {.kv = layer_kv(m, layer),
                                        .shape = layer_shape(m, layer),
                                        .dtype = m->weights.type,
                                        .q = m->memory.queries,
                                        .out = m->memory.attended,
                                        .items = view->decode_items[window],
                                        .item_count = view->decode_counts + window,
                                        .block_tables = view->pool,
                                        .partials = m->memory.partials,
                                        .tickets = m->memory.tickets};
    return gpu_check(m->gpu, attention_decode(&m->gpu->kernels, &args, m->gpu->stream), err,
                     "attention_decode rows=%u heads=%u kv_heads=%u head_dim=%u", view->token_count,
                     args.shape.heads, args.kv.kv_heads, args.kv.head_dim);
}

static status run_attention(gpu_model *m, uint32_t layer, const step_view *view, error *err)
{
    const model_config *c = m->config;
    const gpu_layer *l = &m->weights.layers[layer];
    gpu_activations *a = &m->memory;
    uint32_t tokens = view->token_count;
    TRY(run_gemm(m, a->qkv, m->weights.type, a->normed, l->qkv, l->qkv_bias, tokens, qkv_rows(c),
                 c->hidden_size, err));
    TRY(run_rope(m, layer, view, err));
    if (view->prefill_item_count > 0) TRY(run_prefill(m, layer, view, err));
    if (view->has_decode) TRY(run_decode(m, layer, view, err));
    return run_gemm(m, a->delta, KERNEL_F32, a->attended, l->o, l->o_bias, tokens, c->hidden_size,
                    c->head_count * c->head_dim, err);
}

static status run_mlp(gpu_model *m, uint32_t layer, const step_view *view, error *err)
{
    const model_config *c = m->config;
    const gpu_layer *l = &m->weights.layers[layer];
    gpu_activations *a = &m->memory;
    uint32_t tokens = view->token_count, inner = inner_size(c);
    TRY(run_gemm(m, a->gate_up, gate_up_type(m), a->normed, l->gate_up, l->gate_up_bias, tokens,
                 2 * inner, c->hidden_size, err));
    gated_function function = c->activation == ACTIVATION_SILU ? GATED_SILU : GATED_GELU_TANH;
    TRY(gpu_check(m->gpu,
                  gated_activation(&m->gpu->kernels, a->inner, m->weights.type, a->gate_up,
                                   gate_up_type(m), function, a->row_scale, tokens, inner,
                                   m->gpu->stream),
                  err, "gated_activation tokens=%u inner=%u", tokens, inner));
    return run_gemm(m, a->delta, KERNEL_F32, a->inner, l->down, l->down_bias, tokens,
                    c->hidden_size, inner, err);
}

/* -- the step ------------------------------------------------------------------------------- */

static status begin(gpu_model *m, const step_view *view, error *err)
{
    const model_config *c = m->config;
    gpu *g = m->gpu;
    TRY(gpu_check(g,
                  embed(&g->kernels, m->memory.residual, m->weights.embedding, m->weights.type,
                        view->tokens, m->memory.last_sampled, view->token_count, c->hidden_size,
                        c->embedding_scale, g->stream),
                  err, "embed count=%u hidden=%u", view->token_count, c->hidden_size));
    for (uint32_t r = 0; r < c->rope_count; r++)
        TRY(gpu_check(
            g,
            rope_angles(&g->kernels, m->memory.angles[r], view->positions, m->frequencies[r],
                        view->token_count, c->rotary_dim, c->rope[r].attention_factor, g->stream),
            err, "rope_angles tokens=%u rotary_dim=%u", view->token_count, c->rotary_dim));
    return run_norm(m, NULL, NULL, NULL, m->weights.layers[0].input_norm, NULL, view->token_count,
                    err);
}

status forward_logits(gpu_model *m, const step_view *view, error *err)
{
    const model_config *c = m->config;
    gpu_activations *a = &m->memory;
    uint32_t last = c->layer_count - 1;
    TRY(begin(m, view, err));
    for (uint32_t layer = 0; layer <= last; layer++) {
        const gpu_layer *l = &m->weights.layers[layer];
        TRY(run_attention(m, layer, view, err));
        TRY(run_norm(m, a->delta, NULL, l->post_attention_norm, l->mlp_norm, NULL,
                     view->token_count, err));
        TRY(run_mlp(m, layer, view, err));
        if (layer < last)
            TRY(run_norm(m, a->delta, a->row_scale, l->post_mlp_norm, l[1].input_norm, NULL,
                         view->token_count, err));
    }
    TRY(run_norm(m, a->delta, a->row_scale, m->weights.layers[last].post_mlp_norm,
                 m->weights.final_norm, view->samples_are_tokens ? NULL : view->wanted,
                 view->sample_count, err));
    if (view->sample_count == 0) return ST_OK;
    TRY(run_gemm(m, a->logits, KERNEL_F32, a->normed, m->weights.head, NULL, view->sample_count,
                 m->logits_stride, c->hidden_size, err));
    if (c->final_softcap == 0.0f) return ST_OK;
    return gpu_check(m->gpu,
                     softcap_rows(&m->gpu->kernels, a->logits, view->sample_count, m->logits_stride,
                                  c->final_softcap, m->gpu->stream),
                     err, "softcap_rows rows=%u vocab=%u", view->sample_count, c->vocab_size);
}

status forward_sample(gpu_model *m, const step_view *view, error *err)
{
    const gpu_activations *a = &m->memory;
    const sample_args args = {.logits = a->logits,
                              .logits_stride = m->logits_stride,
                              .rows = view->sample_count,
                              .vocab_used = m->vocab_used,
                              .row = view->sample_rows,
                              .step = view->sample_step,
                              .bias_ids = view->pool,
                              .bias = view->bias,
                              .masked_ids = view->pool,
                              .counts = a->penalty_counts,
                              .counts_stride = m->logits_stride,
                              .last_sampled = a->last_sampled,
                              .workspace = a->sample_workspace};
    return gpu_check(m->gpu, sample(&m->gpu->kernels, &args, view->greedy_only, m->gpu->stream),
                     err, "sample rows=%u vocab=%u", args.rows, args.vocab_used);
}
