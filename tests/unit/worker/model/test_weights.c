/* Goal: a loaded model's every role points at its own tensor, and a checkpoint that does not fit
 * its config is refused with a sentence that names the tensor, what was expected and what found.
 *
 * Method: small checkpoints whose values are a function of the tensor's name, spoilt one way at a
 * time; the real stories260K where the shared data is there. */
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/limits.h"
#include "common/mem.h"
#include "tests/unit/worker/model/make_checkpoint.h"
#include "worker/model/weights.h"

static char dir[PATH_MAX];

static int choose_dir(void **state)
{
    (void)state;
    const char *scratch = getenv("GAGGLE_TEST_TMP");
    snprintf(dir, sizeof dir, "%s/checkpoint", scratch != NULL ? scratch : "/tmp");
    return 0;
}

static model *loaded(load_format format)
{
    error err = {0};
    model *m = NULL;
    if (model_load(&m, dir, format, NULL, NULL, &err) != ST_OK) fail_msg("refused: %s", err.text);
    return m;
}

static void assert_refused(status code, const char *sentence)
{
    error err = {0};
    model *m = NULL;
    status st = model_load(&m, dir, LOAD_SAFETENSORS, NULL, NULL, &err);
    if (st != code || strstr(err.text, sentence) == NULL)
        fail_msg("expected %s \"%s\", found %s \"%s\"", status_name(code), sentence,
                 status_name(st), err.text);
    assert_null(m);
}

/* -- values ------------------------------------------------------------------------------- */

static float value_at(const weight *w, uint64_t index)
{
    uint32_t bits = 0;
    uint16_t half = 0;
    float value;
    if (w->type == DTYPE_F32) {
        memcpy(&bits, (const uint8_t *)w->data + 4 * index, 4);
    } else {
        memcpy(&half, (const uint8_t *)w->data + 2 * index, 2);
        if (w->type == DTYPE_BF16)
            bits = (uint32_t)half << 16;
        else if ((half & 0x7fff) != 0)
            bits = (uint32_t)(half & 0x8000) << 16 | ((uint32_t)(half & 0x7fff) + (112u << 10))
                                                         << 13;
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The weight has this shape and holds this tensor from its first element to its last. */
static void assert_holds(const weight *w, uint32_t rows, uint32_t cols, uint64_t seed,
                         const char *name)
{
    assert_non_null(w->data);
    assert_int_equal(w->rows, rows);
    assert_int_equal(w->cols, cols);
    assert_int_equal((uintptr_t)w->data % dtype_size(w->type), 0);
    float tolerance = w->type == DTYPE_F32 ? 0 : w->type == DTYPE_F16 ? 6e-4f : 4e-3f;
    uint64_t count = (uint64_t)rows * cols;
    for (uint64_t i = 0; i < count; i++) {
        float expected = made_value(seed, name, i);
        /* What F16 has only as a subnormal, make_checkpoint() writes as zero. */
        if (fabsf(value_at(w, i) - expected) >
            tolerance * fabsf(expected) + 7e-5f * (tolerance > 0))
            fail_msg("%s[%llu]: expected %.9g, found %.9g", name, (unsigned long long)i,
                     (double)expected, (double)value_at(w, i));
    }
}

static void assert_layer(const model *m, uint32_t i, uint64_t seed)
{
    const model_config *c = &m->config;
    const layer_weights *l = &m->layers[i];
    const uint32_t q = c->head_count * c->head_dim;
    const uint32_t kv = c->kv_head_count * c->head_dim;
    const uint32_t h = c->hidden_size;
    const uint32_t n = c->intermediate_size;
    const struct {
        const weight *w;
        bool there;
        uint32_t rows, cols;
        const char *name;
    } roles[] = {
        {&l->input_norm, true, 1, h, "input_layernorm.weight"},
        {&l->q, true, q, h, "self_attn.q_proj.weight"},
        {&l->k, true, kv, h, "self_attn.k_proj.weight"},
        {&l->v, true, kv, h, "self_attn.v_proj.weight"},
        {&l->q_bias, c->qkv_bias, 1, q, "self_attn.q_proj.bias"},
        {&l->k_bias, c->qkv_bias, 1, kv, "self_attn.k_proj.bias"},
        {&l->v_bias, c->qkv_bias, 1, kv, "self_attn.v_proj.bias"},
        {&l->o, true, h, q, "self_attn.o_proj.weight"},
        {&l->o_bias, c->output_bias, 1, h, "self_attn.o_proj.bias"},
        {&l->mlp_norm, true, 1, h, "post_attention_layernorm.weight"},
        {&l->gate, true, n, h, "mlp.gate_proj.weight"},
        {&l->up, true, n, h, "mlp.up_proj.weight"},
        {&l->down, true, h, n, "mlp.down_proj.weight"},
        {&l->gate_bias, c->mlp_bias, 1, n, "mlp.gate_proj.bias"},
        {&l->up_bias, c->mlp_bias, 1, n, "mlp.up_proj.bias"},
        {&l->down_bias, c->mlp_bias, 1, h, "mlp.down_proj.bias"},
    };
    for (size_t r = 0; r < sizeof roles / sizeof roles[0]; r++) {
        char name[128];
        snprintf(name, sizeof name, "model.layers.%u.%s", i, roles[r].name);
        if (roles[r].there)
            assert_holds(roles[r].w, roles[r].rows, roles[r].cols, seed, name);
        else
            assert_null(roles[r].w->data);
    }
}

static void assert_model(const model *m, uint64_t seed)
{
    const uint32_t vocab = m->config.vocab_size;
    const uint32_t hidden = m->config.hidden_size;
    assert_holds(&m->embedding, vocab, hidden, seed, "model.embed_tokens.weight");
    assert_holds(&m->final_norm, 1, hidden, seed, "model.norm.weight");
    if (m->config.tie_embeddings)
        assert_ptr_equal(m->head.data, m->embedding.data);
    else
        assert_holds(&m->head, vocab, hidden, seed, "lm_head.weight");
    for (uint32_t i = 0; i < m->config.layer_count; i++)
        assert_layer(m, i, seed);
    assert_int_equal(m->weight_bytes,
                     model_config_parameters(&m->config) * dtype_size(m->embedding.type));
    assert_int_equal(strspn(m->revision, "0123456789abcdef"), 32);
}

/* -- loading ------------------------------------------------------------------------------- */

static void assert_plan_loads(const checkpoint_plan *plan)
{
    make_checkpoint(plan, dir);
    model *m = loaded(LOAD_SAFETENSORS);
    assert_string_equal(m->config.architecture, plan->config.architecture);
    assert_int_equal(m->embedding.type, plan->type);
    assert_model(m, plan->seed);
    model_destroy(m);
}

static void test_every_role_holds_its_tensor_in_every_dtype(void **state)
{
    (void)state;
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    for (size_t i = 0; i < 3; i++) {
        checkpoint_plan plan = checkpoint_plan_small();
        plan.type = types[i];
        assert_plan_loads(&plan);
    }
}

static void test_every_family_and_bias_is_bound(void **state)
{
    (void)state;
    checkpoint_plan plan = checkpoint_plan_small();
    plan.config.tie_embeddings = true;
    plan.config.head_dim = 10; /* 40 wide attention in a 32 wide model */
    assert_plan_loads(&plan);

    plan.config.qkv_bias = plan.config.output_bias = plan.config.mlp_bias = true;
    assert_plan_loads(&plan);

    plan = checkpoint_plan_small();
    strcpy(plan.config.architecture, "Qwen2ForCausalLM");
    plan.config.qkv_bias = true;
    assert_plan_loads(&plan);

    plan = checkpoint_plan_small();
    strcpy(plan.config.architecture, "MistralForCausalLM");
    plan.config.kv_head_count = 4;
    assert_plan_loads(&plan);
}

static void test_shards_load_like_one_file(void **state)
{
    (void)state;
    checkpoint_plan plan = checkpoint_plan_small();
    for (plan.shard_count = 1; plan.shard_count <= 3; plan.shard_count++)
        assert_plan_loads(&plan);
}

static void test_misaligned_data_is_copied_to_aligned_memory(void **state)
{
    (void)state;
    for (uint32_t padding = 1; padding < 4; padding++) {
        checkpoint_plan plan = checkpoint_plan_small();
        plan.header_padding = padding;
        assert_plan_loads(&plan);
        plan.type = DTYPE_BF16;
        assert_plan_loads(&plan);
    }
}

static bool keep_norms_in_f32(made_tensor *t)
{
    if (strstr(t->name, "norm") != NULL) {
        t->type = DTYPE_F32;
        strcpy(t->type_name, "F32");
    }
    return true;
}

static void test_dtypes_may_differ_between_tensors(void **state)
{
    (void)state;
    checkpoint_plan plan = checkpoint_plan_small();
    plan.type = DTYPE_BF16;
    plan.edit = keep_norms_in_f32;
    make_checkpoint(&plan, dir);
    model *m = loaded(LOAD_SAFETENSORS);
    assert_int_equal(m->final_norm.type, DTYPE_F32);
    assert_int_equal(m->layers[0].up.type, DTYPE_BF16);
    assert_layer(m, 1, plan.seed);
    assert_int_equal(m->weight_bytes, 2 * model_config_parameters(&m->config) + 2 * 5 * 32);
    model_destroy(m);
}

typedef struct progress_log {
    uint64_t done, total;
    unsigned calls;
} progress_log;

static void note_progress(void *ctx, uint64_t done, uint64_t total)
{
    progress_log *log = ctx;
    assert_true(done >= log->done && done <= total);
    if (log->calls > 0) assert_int_equal(total, log->total);
    *log = (progress_log){done, total, log->calls + 1};
}

static void test_progress_counts_up_to_all_bytes(void **state)
{
    (void)state;
    checkpoint_plan plan = checkpoint_plan_small();
    plan.config.vocab_size = 100000; /* 2 * 12.8 MB: several reports */
    plan.shard_count = 2;
    make_checkpoint(&plan, dir);
    static const load_format formats[] = {LOAD_SAFETENSORS, LOAD_DUMMY};
    for (size_t i = 0; i < 2; i++) {
        progress_log log = {0};
        model *m = NULL;
        assert_int_equal(model_load(&m, dir, formats[i], note_progress, &log, NULL), ST_OK);
        assert_int_equal(log.done, log.total);
        assert_true(log.total >= m->weight_bytes);
        /* Threads that were faster may leave the calling one only the last report of a dummy. */
        assert_true(log.calls >= (formats[i] == LOAD_DUMMY ? 1 : 2));
        model_destroy(m);
    }
}

static void test_generation_config_comes_along(void **state)
{
    (void)state;
    checkpoint_plan plan = checkpoint_plan_small();
    plan.generation_config = "{\"temperature\":0.5,\"eos_token_id\":[3,4]}";
    make_checkpoint(&plan, dir);
    model *m = loaded(LOAD_SAFETENSORS);
    assert_true(m->defaults.has_temperature && m->defaults.temperature == 0.5f);
    assert_int_equal(m->config.eos_count, 2);
    model_destroy(m);
}

/* -- extra tensors --------------------------------------------------------------------------- */

static bool rename_last_head(made_tensor *t)
{
    if (strcmp(t->name, "lm_head.weight") == 0)
        strcpy(t->name, "model.layers.0.self_attn.rotary_emb.inv_freq");
    return true;
}

static void test_tensors_no_role_wants_are_left_alone(void **state)
{
    (void)state;
    /* An untied file under a tied config: the head is there and not used. */
    checkpoint_plan plan = checkpoint_plan_small();
    make_checkpoint(&plan, dir);
    checkpoint_plan tied = plan;
    tied.config.tie_embeddings = true;
    char path[PATH_MAX + 32];
    char kept[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    snprintf(kept, sizeof kept, "%s/kept", dir);
    assert_int_equal(rename(path, kept), 0);
    make_checkpoint(&tied, dir);
    assert_int_equal(rename(kept, path), 0);
    model *m = loaded(LOAD_SAFETENSORS);
    assert_model(m, plan.seed);
    model_destroy(m);

    plan.edit = rename_last_head;
    make_checkpoint(&plan, dir);
    assert_int_equal(rename(path, kept), 0);
    make_checkpoint(&tied, dir);
    assert_int_equal(rename(kept, path), 0);
    m = loaded(LOAD_SAFETENSORS);
    assert_model(m, plan.seed);
    model_destroy(m);
}

/* -- refusals -------------------------------------------------------------------------------- */

static bool drop_k(made_tensor *t)
{
    return strcmp(t->name, "model.layers.1.self_attn.k_proj.weight") != 0;
}

static bool drop_head(made_tensor *t)
{
    return strcmp(t->name, "lm_head.weight") != 0;
}

static bool transpose_up(made_tensor *t)
{
    if (strcmp(t->name, "model.layers.0.mlp.up_proj.weight") == 0) {
        uint64_t rows = t->dims[0];
        t->dims[0] = t->dims[1];
        t->dims[1] = rows;
    }
    return true;
}

static bool flatten_down(made_tensor *t)
{
    if (strcmp(t->name, "model.layers.0.mlp.down_proj.weight") == 0) {
        t->dims[0] *= t->dims[1];
        t->dim_count = 1;
    }
    return true;
}

static bool row_norm(made_tensor *t)
{
    if (strcmp(t->name, "model.norm.weight") == 0) {
        t->dims[1] = t->dims[0];
        t->dims[0] = 1;
        t->dim_count = 2;
    }
    return true;
}

static bool integer_q(made_tensor *t)
{
    if (strcmp(t->name, "model.layers.0.self_attn.q_proj.weight") == 0) strcpy(t->type_name, "I32");
    return true;
}

static void test_a_checkpoint_that_does_not_fit_its_config_is_refused(void **state)
{
    (void)state;
    static const struct {
        bool (*edit)(made_tensor *t);
        status code;
        const char *sentence;
    } cases[] = {
        {drop_k, ST_NOT_FOUND,
         "tensor model.layers.1.self_attn.k_proj.weight is missing in model.safetensors"},
        {drop_head, ST_NOT_FOUND, "tensor lm_head.weight is missing"},
        {transpose_up, ST_INVALID_ARGUMENT,
         "tensor model.layers.0.mlp.up_proj.weight: expected shape [48, 32] by config.json, found "
         "[32, 48]"},
        {flatten_down, ST_INVALID_ARGUMENT,
         "tensor model.layers.0.mlp.down_proj.weight: expected shape [32, 48] by config.json, "
         "found "
         "[1536]"},
        {row_norm, ST_INVALID_ARGUMENT,
         "tensor model.norm.weight: expected shape [32] by config.json, found [1, 32]"},
        {integer_q, ST_INVALID_ARGUMENT,
         "tensor model.layers.0.self_attn.q_proj.weight: expected F32, F16 or BF16, found I32"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        checkpoint_plan plan = checkpoint_plan_small();
        plan.edit = cases[i].edit;
        make_checkpoint(&plan, dir);
        assert_refused(cases[i].code, cases[i].sentence);
    }
}

static void remove_file(const char *name)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(unlink(path), 0);
}

static void test_a_folder_without_weights_is_refused(void **state)
{
    (void)state;
    checkpoint_plan plan = checkpoint_plan_small();
    make_checkpoint(&plan, dir);
    remove_file("model.safetensors");
    assert_refused(ST_NOT_FOUND, "has neither model.safetensors nor model.safetensors.index.json");
    make_file(dir, "model.safetensors", "", 0);
    assert_refused(ST_INVALID_ARGUMENT, "model.safetensors: not a safetensors file");
    remove_file("config.json");
    assert_refused(ST_NOT_FOUND, "config.json");
}

static void test_a_wrong_index_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *index;
        status code;
        const char *sentence;
    } cases[] = {
        {"[]", ST_INVALID_ARGUMENT, "weight_map: expected an object"},
        {"{\"weight_map\":{}}", ST_INVALID_ARGUMENT, "weight_map: expected an object"},
        {"{\"weight_map\":[\"a\"]}", ST_INVALID_ARGUMENT, "weight_map: expected an object"},
        {"{\"weight_map\":{\"a\":1}}", ST_INVALID_ARGUMENT, "a: expected the name of a file"},
        {"{\"weight_map\":{\"a\":\"\"}}", ST_INVALID_ARGUMENT, "a: expected the name of a file"},
        {"{\"weight_map\":{\"a\":\"../b\"}}", ST_INVALID_ARGUMENT,
         "a: expected the name of a file"},
        {"{\"weight_map\":{\"a\":\"..\"}}", ST_INVALID_ARGUMENT, "a: expected the name of a file"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", ST_INVALID_ARGUMENT, "a: expected the name"},
        {"{\"weight_map\":{\"a\":\"b\\u0000c\"}}", ST_INVALID_ARGUMENT, "a: expected the name"},
        {"{\"weight_map\":{\"a\":\"absent.safetensors\"}}", ST_NOT_FOUND, "absent.safetensors"},
        {"{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\"}}", ST_NOT_FOUND,
         "tensor model.embed_tokens.weight is missing in model.safetensors.index.json"},
        {"{\"weight_map\":{\"model.embed_tokens.weight\":\"model-00001-of-00002.safetensors\"}}",
         ST_NOT_FOUND,
         "tensor model.embed_tokens.weight is missing in model-00001-of-00002.safetensors"},
        {"{\"weight_map\":", ST_INVALID_ARGUMENT, "not valid JSON"},
    };
    checkpoint_plan plan = checkpoint_plan_small();
    plan.shard_count = 2; /* the embedding, second of the list, is in the second file */
    make_checkpoint(&plan, dir);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        make_file(dir, "model.safetensors.index.json", cases[i].index, strlen(cases[i].index));
        assert_refused(cases[i].code, cases[i].sentence);
    }
}

/* -- dummy --------------------------------------------------------------------------------------
 */

static void test_dummy_weights_are_small_random_and_repeatable(void **state)
{
    (void)state;
    checkpoint_plan plan = checkpoint_plan_small();
    plan.config.vocab_size = 70000; /* over two blocks, so that several threads take part */
    plan.config.qkv_bias = plan.config.output_bias = true;
    make_checkpoint(&plan, dir);
    remove_file("model.safetensors"); /* config.json is all it takes */
    model *m = loaded(LOAD_DUMMY);
    model *again = loaded(LOAD_DUMMY);

    uint64_t count = 70000ull * 32;
    double sum = 0;
    double squares = 0;
    for (uint64_t i = 0; i < count; i++) {
        double value = value_at(&m->head, i);
        sum += value;
        squares += value * value;
    }
    assert_true(fabs(sum / (double)count) < 1e-4);
    assert_true(fabs(sqrt(squares / (double)count) - 0.02) < 1e-4);

    assert_memory_equal(m->embedding.data, again->embedding.data, count * 2);
    assert_memory_not_equal(m->embedding.data, m->head.data, count * 2);
    assert_string_equal(m->revision, again->revision);
    for (uint32_t i = 0; i < 32; i++) {
        assert_true(value_at(&m->final_norm, i) == 1.0f);
        assert_true(value_at(&m->layers[1].mlp_norm, i) == 1.0f);
        assert_true(value_at(&m->layers[1].q_bias, i) < 0.04f);
    }
    assert_null(m->layers[0].gate_bias.data);
    assert_int_equal(m->weight_bytes, 2 * model_config_parameters(&m->config));
    model_destroy(m);
    model_destroy(again);
}

/* -- revision
 * -------------------------------------------------------------------------------------- */

static void revision_of(const checkpoint_plan *plan, char out[33])
{
    make_checkpoint(plan, dir);
    model *m = loaded(LOAD_SAFETENSORS);
    memcpy(out, m->revision, 33);
    model_destroy(m);
}

static void test_revision_tells_models_apart_and_knows_the_same_one(void **state)
{
    (void)state;
    char first[33];
    char other[33];
    checkpoint_plan plan = checkpoint_plan_small();
    revision_of(&plan, first);
    revision_of(&plan, other);
    assert_string_equal(first, other);

    checkpoint_plan seed = plan;
    seed.seed = 2;
    revision_of(&seed, other);
    assert_string_not_equal(first, other);

    checkpoint_plan config = plan;
    config.config.rope[0].theta = 20000;
    revision_of(&config, other);
    assert_string_not_equal(first, other);

    checkpoint_plan padded = plan;
    padded.header_padding = 8;
    revision_of(&padded, other);
    assert_string_not_equal(first, other);

    make_checkpoint(&plan, dir);
    model *dummy = loaded(LOAD_DUMMY);
    assert_string_not_equal(first, dummy->revision);
    model_destroy(dummy);
    model_destroy(NULL);
}

/* -- real files
 * --------------------------------------------------------------------------------------- */

static model *load_shared(const char *name)
{
    const char *shared = getenv("GAGGLE_SHARED_DATA");
    char path[PATH_MAX];
    error err = {0};
    model *m = NULL;
    snprintf(path, sizeof path, "%s/weights/stories260K/%s", shared != NULL ? shared : "", name);
    status st = model_load(&m, path, LOAD_SAFETENSORS, NULL, NULL, &err);
    if (st == ST_NOT_FOUND) return NULL;
    if (st != ST_OK) fail_msg("refused: %s", err.text);
    return m;
}

static void test_stories260k_loads_and_its_bf16_copy_agrees(void **state)
{
    (void)state;
    model *full = load_shared("hf");
    model *half = load_shared("hf-bf16");
    if (full == NULL || half == NULL) {
        print_message("skipped: no weights/stories260K in GAGGLE_SHARED_DATA\n");
        model_destroy(full);
        model_destroy(half);
        skip();
        return;
    }
    assert_int_equal(full->embedding.type, DTYPE_F32);
    assert_int_equal(half->embedding.type, DTYPE_BF16);
    assert_string_not_equal(full->revision, half->revision);
    assert_int_equal(full->weight_bytes, 4 * model_config_parameters(&full->config));
    for (uint32_t i = 0; i < full->config.layer_count; i++) {
        const weight *a = &full->layers[i].down;
        const weight *b = &half->layers[i].down;
        for (uint64_t j = 0; j < (uint64_t)a->rows * a->cols; j++)
            assert_true(fabsf(value_at(a, j) - value_at(b, j)) <= fabsf(value_at(a, j)) / 256);
    }
    model_destroy(full);
    model_destroy(half);
}

/* The real index of a three-shard model, without the shards. */
static void test_a_published_index_asks_for_its_shards(void **state)
{
    (void)state;
    const char *shared = getenv("GAGGLE_SHARED_DATA");
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/configs/mistral-7b-v0.3.model.safetensors.index.json",
             shared != NULL ? shared : "");
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        print_message("skipped: no %s\n", path);
        skip();
    }
    char *text = mem_alloc(LIMIT_MIB);
    size_t size = fread(text, 1, LIMIT_MIB, file);
    fclose(file);
    checkpoint_plan plan = checkpoint_plan_small();
    make_checkpoint(&plan, dir);
    remove_file("model.safetensors");
    make_file(dir, "model.safetensors.index.json", text, size);
    mem_free(text);
    assert_refused(ST_NOT_FOUND, "model-00001-of-00003.safetensors");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_role_holds_its_tensor_in_every_dtype),
        cmocka_unit_test(test_every_family_and_bias_is_bound),
        cmocka_unit_test(test_shards_load_like_one_file),
        cmocka_unit_test(test_misaligned_data_is_copied_to_aligned_memory),
        cmocka_unit_test(test_dtypes_may_differ_between_tensors),
        cmocka_unit_test(test_progress_counts_up_to_all_bytes),
        cmocka_unit_test(test_generation_config_comes_along),
        cmocka_unit_test(test_tensors_no_role_wants_are_left_alone),
        cmocka_unit_test(test_a_checkpoint_that_does_not_fit_its_config_is_refused),
        cmocka_unit_test(test_a_folder_without_weights_is_refused),
        cmocka_unit_test(test_a_wrong_index_is_refused),
        cmocka_unit_test(test_dummy_weights_are_small_random_and_repeatable),
        cmocka_unit_test(test_revision_tells_models_apart_and_knows_the_same_one),
        cmocka_unit_test(test_stories260k_loads_and_its_bf16_copy_agrees),
        cmocka_unit_test(test_a_published_index_asks_for_its_shards),
    };
    return cmocka_run_group_tests(tests, choose_dir, NULL);
}
