#include "tests/unit/worker/cpu/random_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/mem.h"
#include "worker/cpu/kernels/lanes.h"

float random_spread(test_random *r, float low, float high)
{
    return low + (high - low) * random_unit(r);
}

/* Rounded to nearest for F16's normal range; enough for weights made here. */
static uint16_t to_f16(float value)
{
    uint32_t bits = float_to_bits(value * 0x1p-112f) + 0x1000u;
    return (uint16_t)((bits >> 16 & 0x8000u) | (bits >> 13 & 0x7fffu));
}

static void store_element(void *data, dtype type, size_t index, float value)
{
    if (type == DTYPE_F32) {
        ((float *)data)[index] = value;
    } else {
        uint16_t half =
            type == DTYPE_F16 ? to_f16(value) : (uint16_t)((float_to_bits(value) + 0x8000u) >> 16);
        ((uint16_t *)data)[index] = half;
    }
}

static weight random_weight(test_random *random, dtype type, uint32_t rows, uint32_t cols,
                            float center, float spread)
{
    size_t count = (size_t)rows * cols;
    void *data = mem_alloc(count * dtype_size(type));
    for (size_t i = 0; i < count; i++)
        store_element(data, type, i, center + random_spread(random, -spread, spread));
    return (weight){.data = data, .type = type, .rows = rows, .cols = cols};
}

static weight random_matrix(test_random *random, dtype type, uint32_t rows, uint32_t cols)
{
    return random_weight(random, type, rows, cols, 0.0f, 1.7f / sqrtf((float)cols));
}

static weight random_bias(test_random *random, dtype type, uint32_t cols, bool present)
{
    if (!present) return (weight){0};
    return random_weight(random, type, 1, cols, 0.0f, 0.5f);
}

static weight random_norm(const model_shape *s, dtype type, uint32_t cols, test_random *random)
{
    return random_weight(random, type, 1, cols, s->norm_plus_one ? 0.0f : 1.0f, 0.3f);
}

static layer_weights random_layer(const model_shape *s, dtype norm, test_random *random)
{
    uint32_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    layer_weights w = {
        .input_norm = random_norm(s, norm, s->hidden, random),
        .q = random_matrix(random, s->type, q, s->hidden),
        .k = random_matrix(random, s->type, kv, s->hidden),
        .v = random_matrix(random, s->type, kv, s->hidden),
        .q_bias = random_bias(random, s->type, q, s->qkv_bias),
        .k_bias = random_bias(random, s->type, kv, s->qkv_bias),
        .v_bias = random_bias(random, s->type, kv, s->qkv_bias),
        .o_bias = random_bias(random, s->type, s->hidden, s->output_bias),
        .o = random_matrix(random, s->type, s->hidden, q),
        .mlp_norm = random_norm(s, norm, s->hidden, random),
        .gate = random_matrix(random, s->type, s->intermediate, s->hidden),
        .up = random_matrix(random, s->type, s->intermediate, s->hidden),
        .down = random_matrix(random, s->type, s->hidden, s->intermediate),
        .gate_bias = random_bias(random, s->type, s->intermediate, s->mlp_bias),
        .up_bias = random_bias(random, s->type, s->intermediate, s->mlp_bias),
        .down_bias = random_bias(random, s->type, s->hidden, s->mlp_bias),
    };
    if (s->qk_norm) {
        w.q_norm = random_norm(s, norm, s->head_dim, random);
        w.k_norm = random_norm(s, norm, s->head_dim, random);
    }
    if (s->sandwich_norms) {
        w.post_attention_norm = random_norm(s, norm, s->hidden, random);
        w.post_mlp_norm = random_norm(s, norm, s->hidden, random);
    }
    return w;
}

static rope_config random_rope(const model_shape *s, double theta, rope_scaling scaling,
                               test_random *random)
{
    rope_config rope = {.theta = theta,
                        .scaling = scaling,
                        .factor = 4.0,
                        .low_freq_factor = 1.0,
                        .high_freq_factor = 4.0,
                        .beta_fast = 32.0,
                        .beta_slow = 1.0,
                        .truncate = true,
                        .original_context = 64,
                        .attention_factor = 1.0f};
    if (scaling == ROPE_SCALING_YARN || scaling == ROPE_SCALING_LONGROPE)
        rope.attention_factor = 1.2f;
    for (uint32_t i = 0; scaling == ROPE_SCALING_LONGROPE && i < s->head_dim / 2; i++) {
        rope.short_factors[i] = random_spread(random, 1.0f, 2.0f);
        rope.long_factors[i] = random_spread(random, 1.0f, 30.0f);
    }
    return rope;
}

static void configure_layers(const model_shape *s, model_config *c, test_random *random)
{
    c->rope[0] = random_rope(s, 10000.0, s->scaling, random);
    c->rope[1] = random_rope(s, 500.0, ROPE_SCALING_NONE, random);
    c->rope_count = s->local_rope ? 2 : 1;
    for (uint32_t l = 0; l < s->layers; l += 2) {
        c->layer_window[l] = s->window;
        c->layer_rope[l] = s->local_rope ? 1 : 0;
    }
}

model *random_model_create(const model_shape *s, uint64_t seed)
{
    test_random random = {seed};
    dtype norm = seed % 2 == 1 ? DTYPE_F32 : s->type;
    model *m = mem_calloc(1, sizeof *m);
    m->config = (model_config){
        .architecture = "LlamaForCausalLM",
        .vocab_size = s->vocab,
        .hidden_size = s->hidden,
        .intermediate_size = s->intermediate,
        .layer_count = s->layers,
        .head_count = s->heads,
        .kv_head_count = s->kv_heads,
        .head_dim = s->head_dim,
        .context_max = 4096,
        .rms_norm_eps = 1e-5f,
        .tie_embeddings = s->tied,
        .qkv_bias = s->qkv_bias,
        .output_bias = s->output_bias,
        .mlp_bias = s->mlp_bias,
        .activation = s->gelu ? ACTIVATION_GELU_TANH : ACTIVATION_SILU,
        .qk_norm = s->qk_norm,
        .sandwich_norms = s->sandwich_norms,
        .norm_plus_one = s->norm_plus_one,
        .embedding_scale = s->embedding_scale > 0 ? s->embedding_scale : 1.0f,
        .attention_scale =
            s->attention_scale > 0 ? s->attention_scale : 1.0f / sqrtf((float)s->head_dim),
        .attention_softcap = s->attention_softcap,
        .final_softcap = s->final_softcap,
        .rotary_dim = s->rotary_dim > 0 ? s->rotary_dim : s->head_dim,
        .bos_id = UINT32_MAX,
    };
    test_random rope_random = {seed + 1000};
    configure_layers(s, &m->config, &rope_random);
    m->embedding = random_weight(&random, s->type, s->vocab, s->hidden, 0.0f, 1.0f);
    m->final_norm = random_norm(s, norm, s->hidden, &random);
    m->head = s->tied ? m->embedding : random_matrix(&random, s->type, s->vocab, s->hidden);
    m->layers = mem_calloc(s->layers, sizeof *m->layers);
    for (uint32_t l = 0; l < s->layers; l++)
        m->layers[l] = random_layer(s, norm, &random);
    return m;
}

void random_model_destroy(model *m)
{
    for (uint32_t l = 0; l < m->config.layer_count; l++) {
        const layer_weights *w = &m->layers[l];
        const weight *all[] = {&w->q_norm,
                               &w->k_norm,
                               &w->post_attention_norm,
                               &w->post_mlp_norm,
                               &w->input_norm,
                               &w->q,
                               &w->k,
                               &w->v,
                               &w->q_bias,
                               &w->k_bias,
                               &w->v_bias,
                               &w->o_bias,
                               &w->o,
                               &w->mlp_norm,
                               &w->gate,
                               &w->up,
                               &w->down,
                               &w->gate_bias,
                               &w->up_bias,
                               &w->down_bias};
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
            mem_free((void *)all[i]->data);
    }
    mem_free(m->layers);
    if (m->head.data != m->embedding.data) mem_free((void *)m->head.data);
    mem_free((void *)m->embedding.data);
    mem_free((void *)m->final_norm.data);
    mem_free(m);
}

double weight_at(const weight *w, uint32_t row, uint32_t col)
{
    size_t index = (size_t)row * w->cols + col;
    if (w->type == DTYPE_F32) return (double)((const float *)w->data)[index];
    uint16_t half = ((const uint16_t *)w->data)[index];
    return (double)(w->type == DTYPE_F16 ? widen_f16(half) : widen_bf16(half));
}

backend *test_backend_create(const model *m, const cpu_kernels *kernels, uint32_t threads,
                             uint32_t kv_blocks, uint32_t step_tokens)
{
    const model_config *c = &m->config;
    uint64_t block_bytes = (uint64_t)c->layer_count * c->kv_head_count * LIMIT_KV_BLOCK_TOKENS *
                           (c->head_dim + attention_value_stride(c->head_dim)) * sizeof(float);
    backend_options options = {
        .threads = threads, .kv_bytes = kv_blocks * block_bytes, .step_tokens = step_tokens};
    error err = {0};
    backend *b = NULL;
    status st = cpu_backend_create_with(&b, m, &options, kernels, &err);
    if (st != ST_OK) fprintf(stderr, "%s\n", err.text);
    CHECK(st == ST_OK);
    CHECK(b->capacity.kv_blocks == kv_blocks && b->capacity.kv_block_bytes == block_bytes);
    return b;
}

void run_tokens_alone(backend *b, const uint32_t *ids, uint32_t count, uint32_t position,
                      const uint32_t *blocks, uint32_t block_count, float *logits)
{
    step_sequence seq = {.token_count = count,
                         .position = position,
                         .blocks = blocks,
                         .block_count = block_count,
                         .logits_out = logits};
    step_plan plan = {.tokens = ids, .token_count = count, .sequences = &seq, .sequence_count = 1};
    error err = {0};
    CHECK(backend_step(b, &plan, NULL, &err) == ST_OK);
}
