/* One step: inputs are built and copied, kernels enqueued (as one graph launch where the step is a
 * decode), an event recorded; collecting waits for the event and reads what the sampling kernel
 * left in mapped memory. Two steps can be under way, so that the device never waits for the CPU:
 * the second takes its input ids from where the first one's sampling leaves them. */
#include "worker/cuda/cuda_backend.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "worker/cuda/ceilings.h"
#include "worker/cuda/decode_graphs.h"
#include "worker/cuda/memory_plan.h"

#define STEPS_UNDER_WAY 2u

#define UTILIZATION_DEFAULT 0.90

/* Of the batch-invariant kernels: count it up with any change that changes a bit. */
#define CUDA_NUMERICS "1"

typedef struct pending_step {
    sample_result *results;        /* mapped: host's view */
    sample_result *results_device; /* and the device's */
    cudaEvent_t finished;
    uint32_t *sample_of; /* [step_sequences] the result of each token to hand out */
    uint32_t token_count;
} pending_step;

typedef struct cuda_backend {
    backend base;
    gpu gpu;
    gpu_model model;
    step_inputs *inputs;
    decode_graphs *graphs;                 /* NULL: every step is enqueued kernel by kernel */
    pending_step pending[STEPS_UNDER_WAY]; /* by parity of the step's number */
    uint32_t *done_device;                 /* mapped; the sampling kernel's last word */
    uint64_t submitted, collected;
    counts_load *loads; /* [step_sequences] scratch */
    uint32_t *load_ids; /* device [context_max] */
} cuda_backend;

/* -- a step ----------------------------------------------------------------------------------- */

static status load_counts(cuda_backend *b, uint32_t count, error *err)
{
    gpu_model *m = &b->model;
    for (uint32_t i = 0; i < count; i++) {
        const counts_load *l = &b->loads[i];
        status st = gpu_check(&b->gpu,
                              cudaMemcpyAsync(b->load_ids, l->ids, l->id_count * sizeof *l->ids,
                                              cudaMemcpyHostToDevice, b->gpu.stream),
                              err, "cudaMemcpyAsync of %u ids", l->id_count);
        if (st == ST_OK)
            st = gpu_check(&b->gpu,
                           sample_counts_load(m->memory.penalty_counts, m->logits_stride,
                                              l->device_slot, m->logits_stride, b->load_ids,
                                              l->id_count, l->prompt_count, b->gpu.stream),
                           err, "sample_counts_load ids=%u", l->id_count);
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

static status copy_logits(cuda_backend *b, const step_plan *plan, error *err)
{
    uint32_t row = 0;
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const step_sequence *q = &plan->sequences[i];
        if (!q->wants_sample && q->logits_out == NULL) continue;
        const float *from = b->model.memory.logits + (uint64_t)row++ * b->model.logits_stride;
        if (q->logits_out == NULL) continue;
        status st = gpu_check(&b->gpu,
                              cudaMemcpyAsync(q->logits_out, from,
                                              b->model.config->vocab_size * sizeof *from,
                                              cudaMemcpyDeviceToHost, b->gpu.stream),
                              err, "cudaMemcpyAsync of logits");
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

static status enqueue(cuda_backend *b, const step_plan *plan, const step_view *view, bool is_bucket,
                      error *err)
{
    if (is_bucket) return decode_graphs_run(b->graphs, &b->model, view, err);
    status st = forward_logits(&b->model, view, err);
    if (st == ST_OK) st = copy_logits(b, plan, err);
    if (st == ST_OK) st = forward_sample(&b->model, view, err);
    return st;
}

static void note_samples(pending_step *p, const step_plan *plan)
{
    uint32_t row = 0;
    p->token_count = 0;
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const step_sequence *q = &plan->sequences[i];
        if (q->wants_sample) p->sample_of[p->token_count++] = row;
        row += q->wants_sample || q->logits_out != NULL;
    }
}

static status submit_step(cuda_backend *b, const step_plan *plan, error *err)
{
    CHECK(b->submitted - b->collected < STEPS_UNDER_WAY);
    status st = gpu_bind_thread(&b->gpu, err);
    if (st != ST_OK) return st;
    uint32_t parity = (uint32_t)(b->submitted % STEPS_UNDER_WAY);
    pending_step *p = &b->pending[parity];
    uint32_t bucket = 0, load_count;
    if (b->graphs != NULL && step_inputs_is_decode(plan))
        bucket = decode_graphs_bucket(b->graphs, plan->sequence_count);
    step_view view;
    st = step_inputs_send(b->inputs, plan, bucket, parity, p->results_device, b->done_device,
                          (uint32_t)b->submitted + 1, &view, b->loads, &load_count, err);
    if (st == ST_OK) st = load_counts(b, load_count, err);
    if (st == ST_OK) st = enqueue(b, plan, &view, bucket > 0, err);
    if (st == ST_OK)
        st =
            gpu_check(&b->gpu, cudaEventRecord(p->finished, b->gpu.stream), err, "cudaEventRecord");
    if (st != ST_OK) return st;
    note_samples(p, plan);
    b->submitted++;
    return ST_OK;
}

/* A step's error is the device's: somebody else's device may go on with the same answers. */
static status device_failed(error *err)
{
    if (err != NULL) err->code = ST_UNAVAILABLE;
    return ST_UNAVAILABLE;
}

static status submit(backend *base, const step_plan *plan, error *err)
{
    status st = submit_step((cuda_backend *)base, plan, err);
    if (st == ST_OK) return ST_OK;
    (void)error_prefix(err, st, "a step of %u sequences, %u tokens", plan->sequence_count,
                       plan->token_count);
    return device_failed(err);
}

/* The step behind this one is enqueued already, so some microseconds late cost nothing: yield at
 * first, then sleep, rather than burn a core. */
static status wait_for(cuda_backend *b, const pending_step *p, error *err)
{
    uint64_t start_ns = clock_now_ns();
    cudaError_t code;
    while ((code = cudaEventQuery(p->finished)) == cudaErrorNotReady)
        if (clock_now_ns() - start_ns > 50000)
            nanosleep(&(struct timespec){.tv_nsec = 10000}, NULL);
    return gpu_check(&b->gpu, code, err, "a step of %u samples", p->token_count);
}

static void read_token(sampled_token *out, const sample_result *result)
{
    out->id = result->id;
    out->logprob = result->logprob;
    out->top_count = result->top_count;
    memcpy(out->top_ids, result->top_ids, result->top_count * sizeof out->top_ids[0]);
    memcpy(out->top_logprobs, result->top_logprobs,
           result->top_count * sizeof out->top_logprobs[0]);
}
_Static_assert(SAMPLE_TOP_MAX == LIMIT_LOGPROBS_TOP, "a result has room for every alternative");
_Static_assert(SAMPLE_LOGPROBS_OFF == LOGPROBS_OFF, "one word for no logprobs");

static status collect(backend *base, sampled_token *sampled, error *err)
{
    cuda_backend *b = (cuda_backend *)base;
    CHECK(b->collected < b->submitted);
    const pending_step *p = &b->pending[b->collected % STEPS_UNDER_WAY];
    if (wait_for(b, p, err) != ST_OK) return device_failed(err);
    b->collected++;
    for (uint32_t i = 0; i < p->token_count; i++) {
        const sample_result *result = &p->results[p->sample_of[i]];
        if (result->status != SAMPLE_DRAWN)
            return error_set(err, ST_INTERNAL,
                             "the logits of row %u of the step are not finite numbers: the "
                             "checkpoint's numbers are broken or overflow",
                             p->sample_of[i]);
        read_token(&sampled[i], result);
    }
    return ST_OK;
}

static void destroy(backend *base)
{
    cuda_backend *b = (cuda_backend *)base;
    if (b->gpu.stream != NULL) cudaStreamSynchronize(b->gpu.stream);
    for (uint32_t i = 0; i < STEPS_UNDER_WAY; i++) {
        if (b->pending[i].finished != NULL) cudaEventDestroy(b->pending[i].finished);
        mem_free(b->pending[i].sample_of);
    }
    mem_free(b->loads);
    decode_graphs_destroy(b->graphs);
    gemm_destroy(b->model.gemm);
    step_inputs_destroy(b->inputs);
    gpu_weights_fini(&b->model.weights);
    gpu_close(&b->gpu);
    mem_free(b);
}

static const backend_class cuda_class = {.submit = submit, .collect = collect, .destroy = destroy};

/* -- making one ----------------------------------------------------------------------------------
 */

/* sm_75 has no BF16, and F16 keeps three more bits of a checkpoint that never was BF16. */
static kernel_dtype choose_type(const gpu *g, const model *m)
{
    return g->kernels.code_arch >= 80 && m->layers[0].q.type == DTYPE_BF16 ? KERNEL_BF16
                                                                           : KERNEL_F16;
}

/* A step of an 8B model should keep those who decode waiting for about a tenth of a second. */
static uint32_t default_step_tokens(const gpu *g)
{
    if (g->arch >= 90) return 4096;
    return g->arch >= 80 ? 1024 : 512;
}

static uint32_t default_step_sequences(const gpu *g)
{
    return g->arch >= 80 ? 256 : 128;
}

static status check_model(const model_config *c, error *err)
{
    uint32_t queries = c->head_count * c->head_dim;
    if (c->hidden_size % GPU_PADDING != 0)
        return error_set(err, ST_UNIMPLEMENTED,
                         "hidden_size is %u; the CUDA backend wants a multiple of %u",
                         c->hidden_size, GPU_PADDING);
    if (queries % GPU_PADDING != 0)
        return error_set(err, ST_UNIMPLEMENTED,
                         "heads * head_dim is %u; the CUDA backend wants a multiple of %u", queries,
                         GPU_PADDING);
    if (memory_plan_head_stride(c->head_dim) == 0)
        return error_set(err, ST_UNIMPLEMENTED,
                         "head_dim is %u; the CUDA backend has kernels up to 256", c->head_dim);
    return ST_OK;
}

static status size_model(cuda_backend *b, const model *m, const backend_options *o, error *err)
{
    gpu_model *g = &b->model;
    status st = check_model(&m->config, err);
    if (st != ST_OK) return st;
    uint32_t tokens = o->step_tokens > 0 ? o->step_tokens : default_step_tokens(&b->gpu);
    uint32_t sequences =
        o->step_sequences > 0 ? o->step_sequences : default_step_sequences(&b->gpu);
    if (tokens > LIMIT_STEP_TOKENS)
        return error_set(err, ST_INVALID_ARGUMENT, "step_tokens is %u; the limit is %u", tokens,
                         LIMIT_STEP_TOKENS);
    if (sequences > LIMIT_STEP_SEQUENCES)
        return error_set(err, ST_INVALID_ARGUMENT, "step_sequences is %u; the limit is %u",
                         sequences, LIMIT_STEP_SEQUENCES);
    *g = (gpu_model){.gpu = &b->gpu,
                     .config = &m->config,
                     .step_tokens = tokens > sequences ? tokens : sequences,
                     .step_sequences = sequences,
                     .device_slots = (STEPS_UNDER_WAY + 1) * sequences,
                     .logits_stride = gpu_padded(m->config.vocab_size),
                     .context_max = o->context_max > 0 ? o->context_max : m->config.context_max,
                     .head_stride = memory_plan_head_stride(m->config.head_dim),
                     .batch_invariant = o->batch_invariant};
    g->vocab_used = o->vocab_used > 0 ? o->vocab_used : m->config.vocab_size;
    g->weights.type = choose_type(&b->gpu, m);
    return forward_windows(&m->config, g->windows, &g->window_count, err);
}

static step_inputs_options inputs_options(const gpu_model *m, uint32_t kv_blocks)
{
    step_inputs_options options = {.step_tokens = m->step_tokens,
                                   .step_sequences = m->step_sequences,
                                   .context_max = m->context_max,
                                   .kv_blocks = kv_blocks,
                                   .window_count = m->window_count,
                                   .tile_tokens = forward_tile_tokens(m),
                                   .items_wanted = forward_items_wanted(m),
                                   .all_prefill = m->batch_invariant,
                                   .device_slots = m->device_slots};
    memcpy(options.windows, m->windows, sizeof options.windows);
    return options;
}

static status make_plan(memory_plan *plan, cuda_backend *b, const model *m,
                        const backend_options *o, error *err)
{
    const step_inputs_options inputs = inputs_options(&b->model, 0);
    uint64_t free_bytes;
    status st = gpu_free_bytes(&b->gpu, &free_bytes, err);
    if (st != ST_OK) return st;
    const memory_request request = {
        .config = &m->config,
        .step_tokens = b->model.step_tokens,
        .step_sequences = b->model.step_sequences,
        .total_bytes = b->gpu.memory_bytes,
        .free_bytes = free_bytes,
        .utilization = o->memory_utilization > 0 ? o->memory_utilization : UTILIZATION_DEFAULT,
        .kv_bytes = o->kv_bytes,
        .weight_bytes = gpu_weights_bytes(m, b->model.weights.type),
        .workspace_bytes = forward_workspace_bytes(&b->model) + step_inputs_device_bytes(&inputs) +
                           b->model.context_max * sizeof(uint32_t),
        .graph_bytes = o->eager ? 0 : decode_graphs_bytes(b->model.step_sequences),
    };
    return memory_plan_make(plan, &request, err);
}

static status allocate_kv(cuda_backend *b, const memory_plan *plan, error *err)
{
    gpu_model *m = &b->model;
    m->kv_layer_bytes = (plan->kv_blocks + 1ull) * m->config->kv_head_count *
                        LIMIT_KV_BLOCK_TOKENS * m->head_stride * 2;
    return gpu_alloc(&b->gpu, &m->kv, plan->kv_bytes, "the KV cache", err);
}

static status create_steps(cuda_backend *b, uint32_t kv_blocks, error *err)
{
    const gpu_model *m = &b->model;
    const step_inputs_options inputs = inputs_options(m, kv_blocks);
    status st = step_inputs_create(&b->inputs, &b->gpu, &inputs, err);
    void *done;
    if (st == ST_OK)
        st = gpu_alloc_host(&b->gpu, &done, (void **)&b->done_device, sizeof(uint32_t),
                            "the last word of a step", err);
    if (st == ST_OK)
        st = gpu_alloc(&b->gpu, (void **)&b->load_ids, m->context_max * sizeof(uint32_t),
                       "ids to count", err);
    b->loads = mem_calloc(m->step_sequences, sizeof *b->loads);
    for (uint32_t i = 0; i < STEPS_UNDER_WAY && st == ST_OK; i++) {
        pending_step *p = &b->pending[i];
        p->sample_of = mem_calloc(m->step_sequences, sizeof *p->sample_of);
        st = gpu_alloc_host(&b->gpu, (void **)&p->results, (void **)&p->results_device,
                            m->step_sequences * sizeof *p->results, "a step's results", err);
        if (st == ST_OK)
            st = gpu_check(&b->gpu, cudaEventCreateWithFlags(&p->finished, cudaEventDisableTiming),
                           err, "cudaEventCreate");
    }
    return st;
}

static void report_conversion(const gpu *g, const gpu_weights *w)
{
    if (w->overflowed > 0)
        log_warn("weights beyond F16's range became infinite; answers may be broken "
                 "device=\"%s\" count=%llu",
                 g->name, (unsigned long long)w->overflowed);
    if (w->flushed > 0)
        log_info("weights too small for F16 became zero count=%llu",
                 (unsigned long long)w->flushed);
}

static void describe(cuda_backend *b)
{
    snprintf(b->base.device, sizeof b->base.device, "cuda:%d: %s, sm_%u%s, %s%s", b->gpu.ordinal,
             b->gpu.name, b->gpu.arch,
             b->gpu.kernels.code_arch / 10 < b->gpu.arch / 10 ? " (older code)" : "",
             b->model.weights.type == KERNEL_F16 ? "F16" : "BF16",
             b->model.batch_invariant ? ", batch-invariant" : "");
    /* The code that runs and the device that runs it both decide; sizes of memory do not. */
    if (b->model.batch_invariant)
        snprintf(b->base.numerics, sizeof b->base.numerics,
                 "cuda sm_%u code_%u %s invariant " CUDA_NUMERICS, b->gpu.arch,
                 b->gpu.kernels.code_arch, b->model.weights.type == KERNEL_F16 ? "f16" : "bf16");
}

static status load(cuda_backend *b, const model *m, const backend_options *o,
                   const memory_plan *plan,
                   void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                   error *err)
{
    kernel_dtype type = b->model.weights.type;
    status st = gpu_weights_upload(&b->model.weights, &b->gpu, m, type, progress, ctx, err);
    if (st != ST_OK) return st;
    report_conversion(&b->gpu, &b->model.weights);
    if ((st = forward_allocate(&b->model, err)) != ST_OK) return st;
    if ((st = allocate_kv(b, plan, err)) != ST_OK) return st;
    if ((st = forward_prepare(&b->model, err)) != ST_OK) return st;
    if ((st = create_steps(b, plan->kv_blocks, err)) != ST_OK) return st;
    if (!o->eager) b->graphs = decode_graphs_create(b->model.step_sequences);
    b->base.capacity = (backend_capacity){.kv_blocks = plan->kv_blocks,
                                          .kv_block_bytes = plan->kv_block_bytes,
                                          .step_tokens = b->model.step_tokens,
                                          .step_sequences = b->model.step_sequences,
                                          .steps_ahead = STEPS_UNDER_WAY - 1};
    describe(b);
    return ST_OK;
}

static status create(backend **out, const model *m, const backend_options *o,
                     void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                     char plan_text[CUDA_PLAN_TEXT], error *err)
{
    *out = NULL;
    cuda_backend *b = mem_calloc(1, sizeof *b);
    b->base.class = &cuda_class;
    memory_plan plan;
    status st = gpu_open(&b->gpu, (int)o->device_ordinal, o->fail_device_call, err);
    if (st == ST_OK) st = size_model(b, m, o, err);
    if (st == ST_OK) st = make_plan(&plan, b, m, o, err);
    if (st != ST_OK) goto fail;
    memory_plan_describe(&plan, b->model.context_max, plan_text, CUDA_PLAN_TEXT);
    if (o->plan_only) goto fail; /* not a failure: there is nothing to keep */
    st = load(b, m, o, &plan, progress, ctx, err);
    if (st != ST_OK) goto fail;
    *out = &b->base;
    return ST_OK;

fail:
    destroy(&b->base);
    return st;
}

const cuda_door gaggle_cuda_door = {.version = CUDA_DOOR_VERSION,
                                    .count_devices = gpu_count,
                                    .create = create,
                                    .measure_ceilings = ceilings_measure};
