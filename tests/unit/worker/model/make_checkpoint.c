#include "tests/unit/worker/model/make_checkpoint.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/check.h"
#include "common/mem.h"

#define TENSORS_MAX 1024u
#define SHARDS_MAX  64u

/* -- values ------------------------------------------------------------------------- */

float made_value(uint64_t seed, const char *name, uint64_t index)
{
    uint64_t z = seed;
    for (const char *c = name; *c != '\0'; c++)
        z = (z ^ (uint8_t)*c) * 0x100000001b3u;
    z += (index + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    float spread = (float)(z >> 40) * (0.2f / 16777216.0f) - 0.1f;
    return strstr(name, "norm") != NULL ? 1.0f + spread : spread;
}

static uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Values of made_value() only: no infinities, and what is subnormal as F16 becomes zero. */
static uint16_t to_f16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude < 113u << 23) return (uint16_t)sign;
    uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - (112u << 23)) >> 13);
}

/* -- files --------------------------------------------------------------------------- */

static FILE *open_to_write(const char *dir, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    return file;
}

static void finish(FILE *file)
{
    CHECK(ferror(file) == 0);
    CHECK(fclose(file) == 0);
}

void make_file(const char *dir, const char *name, const void *bytes, size_t size)
{
    FILE *file = open_to_write(dir, name);
    CHECK(size == 0 || fwrite(bytes, 1, size, file) == size);
    finish(file);
}

static void shard_name(char *out, size_t size, uint32_t shard, uint32_t count)
{
    snprintf(out, size, "model-%05u-of-%05u.safetensors", shard + 1, count);
}

static void remove_old(const char *dir)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json",
                                        "generation_config.json"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
}

/* -- tensors -------------------------------------------------------------------------- */

typedef struct tensor_list {
    made_tensor *items;
    size_t count;
} tensor_list;

__attribute__((format(printf, 5, 6))) static void add(tensor_list *list,
                                                      const checkpoint_plan *plan, uint32_t rows,
                                                      uint32_t cols, const char *name, ...)
{
    CHECK(list->count < TENSORS_MAX);
    made_tensor *t = &list->items[list->count];
    *t = (made_tensor){.type = plan->type, .dim_count = rows == 0 ? 1 : 2, .dims = {rows, cols}};
    if (rows == 0) t->dims[0] = cols;
    snprintf(t->type_name, sizeof t->type_name, "%s", dtype_name(plan->type));
    va_list args;
    va_start(args, name);
    vsnprintf(t->name, sizeof t->name, name, args);
    va_end(args);
    if (plan->edit == NULL || plan->edit(t)) list->count++;
}

/* rows == 0: a vector. */
static tensor_list list_tensors(const checkpoint_plan *p)
{
    const model_config *c = &p->config;
    const uint32_t h = c->hidden_size;
    const uint32_t m = c->intermediate_size;
    const uint32_t q = c->head_count * c->head_dim;
    const uint32_t kv = c->kv_head_count * c->head_dim;
    tensor_list list = {.items = mem_calloc(TENSORS_MAX, sizeof(made_tensor))};

    if (!c->tie_embeddings) add(&list, p, c->vocab_size, h, "lm_head.weight");
    add(&list, p, c->vocab_size, h, "model.embed_tokens.weight");
    add(&list, p, 0, h, "model.norm.weight");
    for (uint32_t i = 0; i < c->layer_count; i++) {
        add(&list, p, 0, h, "model.layers.%u.input_layernorm.weight", i);
        add(&list, p, 0, h, "model.layers.%u.post_attention_layernorm.weight", i);
        add(&list, p, q, h, "model.layers.%u.self_attn.q_proj.weight", i);
        add(&list, p, kv, h, "model.layers.%u.self_attn.k_proj.weight", i);
        add(&list, p, kv, h, "model.layers.%u.self_attn.v_proj.weight", i);
        add(&list, p, h, q, "model.layers.%u.self_attn.o_proj.weight", i);
        add(&list, p, m, h, "model.layers.%u.mlp.gate_proj.weight", i);
        add(&list, p, m, h, "model.layers.%u.mlp.up_proj.weight", i);
        add(&list, p, h, m, "model.layers.%u.mlp.down_proj.weight", i);
        if (c->qkv_bias) {
            add(&list, p, 0, q, "model.layers.%u.self_attn.q_proj.bias", i);
            add(&list, p, 0, kv, "model.layers.%u.self_attn.k_proj.bias", i);
            add(&list, p, 0, kv, "model.layers.%u.self_attn.v_proj.bias", i);
        }
        if (c->output_bias) add(&list, p, 0, h, "model.layers.%u.self_attn.o_proj.bias", i);
        if (c->mlp_bias) {
            add(&list, p, 0, m, "model.layers.%u.mlp.gate_proj.bias", i);
            add(&list, p, 0, m, "model.layers.%u.mlp.up_proj.bias", i);
            add(&list, p, 0, h, "model.layers.%u.mlp.down_proj.bias", i);
        }
    }
    return list;
}

static uint64_t element_count(const made_tensor *t)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < t->dim_count; i++)
        count *= t->dims[i];
    return count;
}

static void write_values(FILE *file, uint64_t seed, const made_tensor *t)
{
    for (uint64_t i = 0; i < element_count(t); i++) {
        float value = made_value(seed, t->name, i);
        uint16_t half = t->type == DTYPE_BF16 ? to_bf16(value) : to_f16(value);
        if (t->type == DTYPE_F32)
            fwrite(&value, sizeof value, 1, file);
        else
            fwrite(&half, sizeof half, 1, file);
    }
}

/* Every `stride`th tensor from `first` on, in the order of the list. */
static void write_safetensors(const checkpoint_plan *plan, const tensor_list *list, size_t first,
                              size_t stride, const char *dir, const char *name)
{
    char *text = NULL;
    size_t size = 0;
    FILE *header = open_memstream(&text, &size);
    CHECK(header != NULL);
    uint64_t offset = 0;
    fprintf(header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = first; i < list->count; i += stride) {
        const made_tensor *t = &list->items[i];
        uint64_t end = offset + element_count(t) * dtype_size(t->type);
        fprintf(header, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name, t->type_name);
        for (uint32_t d = 0; d < t->dim_count; d++)
            fprintf(header, d == 0 ? "%" PRIu64 : ",%" PRIu64, t->dims[d]);
        fprintf(header, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", offset, end);
        offset = end;
    }
    fprintf(header, "}");
    finish(header);

    FILE *file = open_to_write(dir, name);
    uint64_t padded = (size + 7) / 8 * 8 + plan->header_padding;
    fwrite(&padded, sizeof padded, 1, file);
    fprintf(file, "%s%*s", text, (int)(padded - size), "");
    for (size_t i = first; i < list->count; i += stride)
        write_values(file, plan->seed, &list->items[i]);
    finish(file);
    free(text);
}

static void write_shards(const checkpoint_plan *plan, const tensor_list *list, const char *dir)
{
    char name[64];
    CHECK(plan->shard_count <= SHARDS_MAX);
    FILE *index = open_to_write(dir, "model.safetensors.index.json");
    fprintf(index, "{\"metadata\":{},\"weight_map\":{");
    for (size_t i = 0; i < list->count; i++) {
        shard_name(name, sizeof name, (uint32_t)i % plan->shard_count, plan->shard_count);
        fprintf(index, "%s\"%s\":\"%s\"", i == 0 ? "" : ",", list->items[i].name, name);
    }
    fprintf(index, "}}");
    finish(index);
    for (uint32_t s = 0; s < plan->shard_count; s++) {
        shard_name(name, sizeof name, s, plan->shard_count);
        write_safetensors(plan, list, s, plan->shard_count, dir, name);
    }
}

/* -- config.json ----------------------------------------------------------------------- */

static const char *truth(bool value)
{
    return value ? "true" : "false";
}

static void write_rope(FILE *file, const model_config *c)
{
    const rope_config *rope = &c->rope[0];
    fprintf(file, "\"rope_theta\":%.17g,", rope->theta);
    switch (rope->scaling) {
    case ROPE_SCALING_NONE:
        fprintf(file, "\"rope_scaling\":null,");
        break;
    case ROPE_SCALING_LINEAR:
        fprintf(file, "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":%.17g},",
                rope->factor);
        break;
    case ROPE_SCALING_LLAMA3:
        fprintf(file,
                "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":%.17g,"
                "\"low_freq_factor\":%.17g,\"high_freq_factor\":%.17g,"
                "\"original_max_position_embeddings\":%u},",
                rope->factor, rope->low_freq_factor, rope->high_freq_factor,
                rope->original_context);
        break;
    case ROPE_SCALING_YARN:
    case ROPE_SCALING_LONGROPE:
        UNREACHABLE("no test of files needs it");
    }
}

static void write_config(const model_config *c, const char *dir)
{
    FILE *file = open_to_write(dir, "config.json");
    fprintf(file,
            "{\"architectures\":[\"%s\"],\"vocab_size\":%u,\"hidden_size\":%u,"
            "\"intermediate_size\":%u,\"num_hidden_layers\":%u,\"num_attention_heads\":%u,"
            "\"num_key_value_heads\":%u,\"head_dim\":%u,\"max_position_embeddings\":%u,"
            "\"rms_norm_eps\":%.9g,\"tie_word_embeddings\":%s,\"attention_bias\":%s,"
            "\"mlp_bias\":%s,\"hidden_act\":\"silu\",\"sliding_window\":null,",
            c->architecture, c->vocab_size, c->hidden_size, c->intermediate_size, c->layer_count,
            c->head_count, c->kv_head_count, c->head_dim, c->context_max, (double)c->rms_norm_eps,
            truth(c->tie_embeddings), truth(c->output_bias), truth(c->mlp_bias));
    write_rope(file, c);
    if (c->bos_id != UINT32_MAX) fprintf(file, "\"bos_token_id\":%u,", c->bos_id);
    fprintf(file, "\"eos_token_id\":[");
    for (uint32_t i = 0; i < c->eos_count; i++)
        fprintf(file, i == 0 ? "%u" : ",%u", c->eos_ids[i]);
    fprintf(file, "]}");
    finish(file);
}

/* -- the door --------------------------------------------------------------------------- */

checkpoint_plan checkpoint_plan_small(void)
{
    return (checkpoint_plan){
        .config = {.architecture = "LlamaForCausalLM",
                   .vocab_size = 64,
                   .hidden_size = 32,
                   .intermediate_size = 48,
                   .layer_count = 2,
                   .head_count = 4,
                   .kv_head_count = 2,
                   .head_dim = 8,
                   .context_max = 128,
                   .rms_norm_eps = 1e-5f,
                   .rope = {{.theta = 10000.0}},
                   .bos_id = 1,
                   .eos_ids = {2},
                   .eos_count = 1},
        .type = DTYPE_F32,
        .seed = 1,
    };
}

void make_checkpoint(const checkpoint_plan *plan, const char *dir)
{
    mkdir(dir, 0755); /* may be there already */
    remove_old(dir);
    write_config(&plan->config, dir);
    if (plan->generation_config != NULL)
        make_file(dir, "generation_config.json", plan->generation_config,
                  strlen(plan->generation_config));
    tensor_list list = list_tensors(plan);
    if (plan->shard_count == 0)
        write_safetensors(plan, &list, 0, 1, dir, "model.safetensors");
    else
        write_shards(plan, &list, dir);
    mem_free(list.items);
}
