/* weights: from a config to the pointers a forward pass reads.
 *
 * The config says which tensors there have to be and in which shape: that is a list of roles, and
 * both ways of loading walk it. Families name their tensors alike but for what stands in front and
 * the norms of a sandwich, so there is one list. A role may be several weights, which are the rows
 * of one tensor one behind the other.
 *
 * What the checkpoint has besides is not used. That is said once, in the log, except for tensors
 * known to be redundant: the rotary frequencies old exporters saved, and the output head of a
 * model whose head is its embedding.
 *
 * revision: XXH3-128 over config.json's bytes and, for each file in order of name: its size, its
 * header (names, dtypes, shapes, offsets), the first and last 4 KiB of each tensor in order of
 * offset. Two workers with equal revisions hold the same model unless someone changed only the
 * middle of a tensor; reading every byte would cost a start-up minute per 100 GB. A dummy model
 * hashes config.json and the word "dummy". */
#include "worker/model/weights.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "common/check.h"
#include "common/json.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/mem.h"
#include "worker/model/checkpoint.h"
#include "worker/model/dummy_weights.h"
#include "worker/model/printable.h"

#define ALIGNMENT_BYTES 64u /* of what we allocate: a cache line */

struct model_storage {
    checkpoint files;
    void **copies; /* [copy_count] of tensors that lie misaligned in their file */
    size_t copy_count;
    void *dummy; /* mapping; NULL: none */
    size_t dummy_size;
};

/* -- roles ------------------------------------------------------------------------------- */

typedef enum role_kind { ROLE_MATRIX, ROLE_BIAS, ROLE_NORM } role_kind;

#define ROLE_PARTS_MAX 3u

typedef struct role {
    weight *parts[ROLE_PARTS_MAX];
    uint32_t part_rows[ROLE_PARTS_MAX];
    uint32_t part_count;
    role_kind kind;
    uint32_t rows, cols; /* of all parts */
    char name[96];
} role;

#define ROLES_OUTSIDE_LAYERS 3u
#define ROLES_PER_LAYER      20u

typedef struct role_list {
    role *roles;
    size_t count;
} role_list;

/* `prefix` stands before the layers' own names. */
typedef struct naming {
    const char *prefix;
    uint32_t layer;
} naming;

static role *add(role_list *list, const char *prefix, const char *name)
{
    role *r = &list->roles[list->count++];
    snprintf(r->name, sizeof r->name, "%s%s", prefix, name);
    return r;
}

static role *add_to_layer(role_list *list, naming n, const char *name)
{
    role *r = &list->roles[list->count++];
    snprintf(r->name, sizeof r->name, "%slayers.%u.%s", n.prefix, n.layer, name);
    return r;
}

static void holds(role *r, role_kind kind, weight *target, uint32_t rows, uint32_t cols)
{
    CHECK(r->part_count < ROLE_PARTS_MAX);
    r->kind = kind;
    r->parts[r->part_count] = target;
    r->part_rows[r->part_count++] = rows;
    r->rows += rows;
    r->cols = cols;
}

static void add_norm(role_list *list, naming n, weight *target, uint32_t cols, const char *name)
{
    holds(add_to_layer(list, n, name), ROLE_NORM, target, 1, cols);
}

static void add_bias(role_list *list, naming n, weight *target, uint32_t cols, const char *name)
{
    holds(add_to_layer(list, n, name), ROLE_BIAS, target, 1, cols);
}

static void add_matrix(role_list *list, naming n, weight *target, uint32_t rows, uint32_t cols,
                       const char *name)
{
    holds(add_to_layer(list, n, name), ROLE_MATRIX, target, rows, cols);
}

static void add_attention(role_list *list, const model_config *c, layer_weights *l, naming n)
{
    const uint32_t hidden = c->hidden_size;
    const uint32_t q = c->head_count * c->head_dim;
    const uint32_t kv = c->kv_head_count * c->head_dim;

    if (c->packed_projections) {
        role *packed = add_to_layer(list, n, "self_attn.qkv_proj.weight");
        holds(packed, ROLE_MATRIX, &l->q, q, hidden);
        holds(packed, ROLE_MATRIX, &l->k, kv, hidden);
        holds(packed, ROLE_MATRIX, &l->v, kv, hidden);
    } else {
        add_matrix(list, n, &l->q, q, hidden, "self_attn.q_proj.weight");
        add_matrix(list, n, &l->k, kv, hidden, "self_attn.k_proj.weight");
        add_matrix(list, n, &l->v, kv, hidden, "self_attn.v_proj.weight");
    }
    if (c->qkv_bias) {
        add_bias(list, n, &l->q_bias, q, "self_attn.q_proj.bias");
        add_bias(list, n, &l->k_bias, kv, "self_attn.k_proj.bias");
        add_bias(list, n, &l->v_bias, kv, "self_attn.v_proj.bias");
    }
    if (c->qk_norm) {
        add_norm(list, n, &l->q_norm, c->head_dim, "self_attn.q_norm.weight");
        add_norm(list, n, &l->k_norm, c->head_dim, "self_attn.k_norm.weight");
    }
    add_matrix(list, n, &l->o, hidden, q, "self_attn.o_proj.weight");
    if (c->output_bias) add_bias(list, n, &l->o_bias, hidden, "self_attn.o_proj.bias");
}

static void add_mlp(role_list *list, const model_config *c, layer_weights *l, naming n)
{
    const uint32_t hidden = c->hidden_size;
    const uint32_t inner = c->intermediate_size;

    if (c->packed_projections) {
        role *packed = add_to_layer(list, n, "mlp.gate_up_proj.weight");
        holds(packed, ROLE_MATRIX, &l->gate, inner, hidden);
        holds(packed, ROLE_MATRIX, &l->up, inner, hidden);
    } else {
        add_matrix(list, n, &l->gate, inner, hidden, "mlp.gate_proj.weight");
        add_matrix(list, n, &l->up, inner, hidden, "mlp.up_proj.weight");
    }
    add_matrix(list, n, &l->down, hidden, inner, "mlp.down_proj.weight");
    if (c->mlp_bias) {
        add_bias(list, n, &l->gate_bias, inner, "mlp.gate_proj.bias");
        add_bias(list, n, &l->up_bias, inner, "mlp.up_proj.bias");
        add_bias(list, n, &l->down_bias, hidden, "mlp.down_proj.bias");
    }
}

/* With a sandwich of norms, post_attention_layernorm is what its name says; without, it is the norm
 * before the MLP. */
static void add_layer(role_list *list, const model_config *c, layer_weights *l, naming n)
{
    const uint32_t hidden = c->hidden_size;
    add_norm(list, n, &l->input_norm, hidden, "input_layernorm.weight");
    add_attention(list, c, l, n);
    if (c->sandwich_norms) {
        add_norm(list, n, &l->post_attention_norm, hidden, "post_attention_layernorm.weight");
        add_norm(list, n, &l->mlp_norm, hidden, "pre_feedforward_layernorm.weight");
    } else {
        add_norm(list, n, &l->mlp_norm, hidden, "post_attention_layernorm.weight");
    }
    add_mlp(list, c, l, n);
    if (c->sandwich_norms)
        add_norm(list, n, &l->post_mlp_norm, hidden, "post_feedforward_layernorm.weight");
}

/* The decoder of a model that also sees images has its tensors under a longer name. */
static const char *const prefixes[] = {"model.", "language_model.model.", "model.language_model."};

static role_list list_roles(model *m, const char *prefix)
{
    const model_config *c = &m->config;
    const size_t most = ROLES_OUTSIDE_LAYERS + (size_t)c->layer_count * ROLES_PER_LAYER;
    role_list list = {.roles = mem_calloc(most, sizeof(role))};

    holds(add(&list, prefix, "embed_tokens.weight"), ROLE_MATRIX, &m->embedding, c->vocab_size,
          c->hidden_size);
    for (uint32_t i = 0; i < c->layer_count; i++)
        add_layer(&list, c, &m->layers[i], (naming){prefix, i});
    holds(add(&list, prefix, "norm.weight"), ROLE_NORM, &m->final_norm, 1, c->hidden_size);
    if (!c->tie_embeddings)
        holds(add(&list, "", "lm_head.weight"), ROLE_MATRIX, &m->head, c->vocab_size,
              c->hidden_size);
    CHECK(list.count <= most);
    return list;
}

/* The parts' pointers into the role's data. */
static void set_parts(const role *r, const void *data, dtype type)
{
    const uint8_t *next = data;
    for (uint32_t i = 0; i < r->part_count; i++) {
        *r->parts[i] =
            (weight){.data = next, .type = type, .rows = r->part_rows[i], .cols = r->cols};
        next += (size_t)r->part_rows[i] * r->cols * dtype_size(type);
    }
}

static uint64_t role_elements(const role *r)
{
    return (uint64_t)r->rows * r->cols;
}

/* -- from a checkpoint ------------------------------------------------------------------- */

static const char *shape_text(char *out, size_t size, const uint64_t *dims, uint32_t count)
{
    size_t used = (size_t)snprintf(out, size, "[");
    for (uint32_t i = 0; i < count && used < size; i++)
        used +=
            (size_t)snprintf(out + used, size - used, i == 0 ? "%" PRIu64 : ", %" PRIu64, dims[i]);
    if (used < size) snprintf(out + used, size - used, "]");
    return out;
}

static status check_tensor(const role *r, const tensor *t, error *err)
{
    const uint64_t matrix[] = {r->rows, r->cols};
    const uint64_t *dims = r->kind == ROLE_MATRIX ? matrix : matrix + 1;
    const uint32_t dim_count = r->kind == ROLE_MATRIX ? 2 : 1;
    if (t->dim_count != dim_count || memcmp(t->dims, dims, dim_count * sizeof *dims) != 0) {
        char expected[64];
        char found[TENSOR_DIMS_MAX * 24];
        return error_set(err, ST_INVALID_ARGUMENT,
                         "tensor %s: expected shape %s by config.json, found %s", r->name,
                         shape_text(expected, sizeof expected, dims, dim_count),
                         shape_text(found, sizeof found, t->dims, t->dim_count));
    }
    if (t->type == DTYPE_OTHER)
        return error_set(err, ST_INVALID_ARGUMENT, "tensor %s: expected F32, F16 or BF16, found %s",
                         r->name, t->type_name);
    return ST_OK;
}

/* The tensor's bytes, aligned to its dtype: in place, or else in a copy that `storage` owns. */
static status align_data(struct model_storage *storage, const tensor *t, const void **out,
                         error *err)
{
    if ((uintptr_t)t->data % dtype_size(t->type) == 0) {
        *out = t->data;
        return ST_OK;
    }
    void *copy = mem_try_alloc_aligned(ALIGNMENT_BYTES, (size_t)t->size);
    if (copy == NULL)
        return error_set(err, ST_RESOURCE_EXHAUSTED,
                         "no memory to copy misaligned tensor %s (%" PRIu64 " bytes)", t->name,
                         t->size);
    memcpy(copy, t->data, (size_t)t->size);
    storage->copies[storage->copy_count++] = copy;
    *out = copy;
    return ST_OK;
}

static status bind_roles(model *m, const role_list *list, error *err)
{
    struct model_storage *storage = m->storage;
    storage->copies = mem_calloc(list->count, sizeof *storage->copies);
    for (size_t i = 0; i < list->count; i++) {
        const role *r = &list->roles[i];
        const tensor *t = NULL;
        status st = checkpoint_find(&storage->files, r->name, &t, err);
        if (st == ST_OK) st = check_tensor(r, t, err);
        if (st != ST_OK) return st;
        const void *data = NULL;
        if ((st = align_data(storage, t, &data, err)) != ST_OK) return st;
        set_parts(r, data, t->type);
        m->weight_bytes += t->size;
    }
    if (storage->copy_count > 0)
        log_warn("misaligned tensors copied to memory of this process alone count=%zu",
                 storage->copy_count);
    return ST_OK;
}

static int compare_roles(const void *a, const void *b)
{
    return strcmp(((const role *)a)->name, ((const role *)b)->name);
}

static int compare_name_to_role(const void *name, const void *r)
{
    return strcmp(name, ((const role *)r)->name);
}

static bool is_redundant(const model_config *c, const char *name)
{
    static const char frequencies[] = "rotary_emb.inv_freq";
    size_t length = strlen(name);
    if (c->tie_embeddings && strcmp(name, "lm_head.weight") == 0) return true;
    return length >= sizeof frequencies - 1 &&
           strcmp(name + length - (sizeof frequencies - 1), frequencies) == 0;
}

/* Sorts the roles by name. */
static void log_unused(const model *m, role_list *list)
{
    const checkpoint *files = &m->storage->files;
    const char *first = NULL;
    size_t count = 0;
    qsort(list->roles, list->count, sizeof *list->roles, compare_roles);
    for (size_t f = 0; f < files->file_count; f++) {
        for (size_t i = 0; i < safetensors_count(files->files[f]); i++) {
            const char *name = safetensors_at(files->files[f], i)->name;
            if (is_redundant(&m->config, name)) continue;
            if (bsearch(name, list->roles, list->count, sizeof *list->roles,
                        compare_name_to_role) != NULL)
                continue;
            if (count++ == 0) first = name;
        }
    }
    char text[PRINTABLE_SIZE];
    if (count > 0)
        log_warn("model has tensors that nothing uses count=%zu first=%s", count,
                 printable(text, first));
}

/* The prefix under which the checkpoint has an embedding; the first where it has none, which will
 * be the sentence. */
static const char *find_prefix(const checkpoint *files)
{
    char name[96];
    const tensor *t;
    error why;
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        snprintf(name, sizeof name, "%sembed_tokens.weight", prefixes[i]);
        if (checkpoint_find(files, name, &t, &why) == ST_OK) return prefixes[i];
    }
    return prefixes[0];
}

static status load_checkpoint(model *m, role_list *list, const char *dir, bool read_in,
                              void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                              XXH3_state_t *hash, error *err)
{
    status st = checkpoint_open(&m->storage->files, dir, err);
    if (st != ST_OK) return st;
    *list = list_roles(m, find_prefix(&m->storage->files));
    if ((st = bind_roles(m, list, err)) != ST_OK) return error_prefix(err, st, "%s", dir);
    log_unused(m, list);
    if (read_in) checkpoint_read_in(&m->storage->files, progress, ctx);
    checkpoint_hash(&m->storage->files, hash);
    return ST_OK;
}

/* -- made up ----------------------------------------------------------------------------- */

/* Bytes of a role in the dummy mapping, rounded so that the next one is aligned. */
static size_t dummy_stride(const role *r)
{
    size_t bytes = (size_t)role_elements(r) * sizeof(uint16_t);
    return (bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
}

static status load_dummy(model *m, role_list *list, bool fill,
                         void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                         XXH3_state_t *hash, error *err)
{
    size_t size = 0;
    *list = list_roles(m, prefixes[0]);
    for (size_t i = 0; i < list->count; i++)
        size += dummy_stride(&list->roles[i]);
    uint16_t *memory;
    status st = fill ? dummy_weights_map(&memory, size, progress, ctx, err)
                     : dummy_weights_reserve(&memory, size, err);
    if (st != ST_OK) return st;
    m->is_dummy = true;
    m->storage->dummy = memory;
    m->storage->dummy_size = size;

    for (size_t i = 0; i < list->count; i++) {
        const role *r = &list->roles[i];
        if (fill && r->kind == ROLE_NORM)
            for (uint32_t j = 0; j < r->cols; j++)
                memory[j] = m->config.norm_plus_one ? 0 : BF16_ONE;
        set_parts(r, memory, DTYPE_BF16);
        m->weight_bytes += role_elements(r) * sizeof(uint16_t);
        memory += dummy_stride(r) / sizeof(uint16_t);
    }
    /* Weights are immutable; a stray write should be found as it is in a mapped file. */
    CHECK(mprotect(m->storage->dummy, size, PROT_READ) == 0);
    XXH3_128bits_update(hash, "dummy", 5);
    return ST_OK;
}

/* -- the door ----------------------------------------------------------------------------- */

static status hash_config(XXH3_state_t *hash, const char *dir, error *err)
{
    char path[PATH_MAX];
    char *bytes;
    size_t size;
    snprintf(path, sizeof path, "%s/config.json", dir); /* as long as the one just loaded */
    status st = file_read(&bytes, &size, path, LIMIT_CONFIG_FILE_BYTES, err);
    if (st != ST_OK) return st;
    uint64_t length = size;
    XXH3_128bits_update(hash, &length, sizeof length);
    XXH3_128bits_update(hash, bytes, size);
    mem_free(bytes);
    return ST_OK;
}

static void set_revision(model *m, const XXH3_state_t *hash)
{
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(hash));
    _Static_assert(sizeof m->revision == 2 * sizeof digest.digest + 1, "two digits a byte");
    for (size_t i = 0; i < sizeof digest.digest; i++)
        snprintf(m->revision + 2 * i, 3, "%02x", digest.digest[i]);
}

status model_load(model **out, const char *dir, load_format format,
                  void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx, error *err)
{
    role_list list = {0};
    XXH3_state_t *hash = XXH3_createState();
    CHECK(hash != NULL);
    XXH3_128bits_reset(hash);

    model *m = mem_calloc(1, sizeof *m);
    m->storage = mem_calloc(1, sizeof *m->storage);
    status st = model_config_load(&m->config, &m->defaults, dir, err);
    if (st != ST_OK) goto done;
    if ((st = hash_config(hash, dir, err)) != ST_OK) goto done;
    m->layers = mem_calloc(m->config.layer_count, sizeof *m->layers);
    if (format == LOAD_DUMMY || format == LOAD_DUMMY_UNREAD)
        st = load_dummy(m, &list, format == LOAD_DUMMY, progress, ctx, hash, err);
    else
        st = load_checkpoint(m, &list, dir, format == LOAD_SAFETENSORS, progress, ctx, hash, err);
    if (st != ST_OK) goto done;
    if (m->config.tie_embeddings) m->head = m->embedding;
    set_revision(m, hash);
    *out = m;
    m = NULL;
done:
    mem_free(list.roles);
    XXH3_freeState(hash);
    model_destroy(m);
    return st;
}

static bool takes_long_factors(const model_config *c)
{
    bool any = false;
    for (uint32_t i = 0; i < c->rope_count; i++)
        any = any || (c->rope[i].scaling == ROPE_SCALING_LONGROPE &&
                      c->context_max > c->rope[i].original_context);
    return any;
}

void model_limit_context(model *m, uint32_t tokens)
{
    CHECK(tokens >= 1 && tokens <= m->config.context_max);
    bool before = takes_long_factors(&m->config);
    m->config.context_max = tokens;
    for (uint32_t l = 0; l < m->config.layer_count; l++)
        if (m->config.layer_window[l] >= tokens) m->config.layer_window[l] = 0;
    if (takes_long_factors(&m->config) == before) return;
    XXH3_state_t *hash = XXH3_createState();
    CHECK(hash != NULL);
    XXH3_128bits_reset(hash);
    XXH3_128bits_update(hash, m->revision, sizeof m->revision);
    set_revision(m, hash);
    XXH3_freeState(hash);
}

status model_read(const model *m, const void *from, size_t size, void *to, error *err)
{
    const checkpoint none = {0};
    const checkpoint *files = m->storage != NULL ? &m->storage->files : &none;
    for (size_t i = 0; i < files->file_count; i++)
        if (safetensors_holds(files->files[i], from))
            return safetensors_read(files->files[i], from, size, to, err);
    memcpy(to, from, size); /* made up, or copied to be aligned */
    return ST_OK;
}

void model_destroy(model *m)
{
    if (m == NULL) return;
    for (size_t i = 0; i < m->storage->copy_count; i++)
        mem_free(m->storage->copies[i]);
    mem_free(m->storage->copies);
    checkpoint_close(&m->storage->files);
    if (m->storage->dummy != NULL) munmap(m->storage->dummy, m->storage->dummy_size);
    mem_free(m->storage);
    mem_free(m->layers);
    mem_free(m);
}
