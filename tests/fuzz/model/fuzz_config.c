/* Goal: whatever a config.json says, an accepted one is within limits.h and gives finite rotary
 * frequencies. Input: config.json, and behind the first NUL, if any, generation_config.json. */
#include <math.h>
#include <string.h>

#include "common/check.h"
#include "worker/model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_config(const model_config *c, const generation_defaults *d)
{
    float frequencies[LIMIT_HEAD_DIM / 2];
    CHECK(c->vocab_size >= 1 && c->vocab_size <= LIMIT_VOCAB);
    CHECK(c->hidden_size >= 1 && c->hidden_size <= LIMIT_HIDDEN);
    CHECK(c->intermediate_size >= 1 && c->intermediate_size <= LIMIT_INTERMEDIATE);
    CHECK(c->layer_count >= 1 && c->layer_count <= LIMIT_LAYERS);
    CHECK(c->head_count >= 1 && c->head_count <= LIMIT_HEADS);
    CHECK(c->kv_head_count >= 1 && c->head_count % c->kv_head_count == 0);
    CHECK(c->head_dim >= 2 && c->head_dim <= LIMIT_HEAD_DIM && c->head_dim % 2 == 0);
    CHECK(c->context_max >= 1 && c->context_max <= LIMIT_CONTEXT_TOKENS);
    CHECK(c->rms_norm_eps > 0 && c->rms_norm_eps <= 1);
    CHECK(c->bos_id == UINT32_MAX || c->bos_id < c->vocab_size);
    CHECK(c->eos_count <= MODEL_EOS_IDS_MAX);
    for (uint32_t i = 0; i < c->eos_count; i++)
        CHECK(c->eos_ids[i] < c->vocab_size);
    CHECK(model_config_parameters(c) > 0 && model_config_kv_elements(c) > 0);
    CHECK(c->rotary_dim >= 2 && c->rotary_dim <= c->head_dim && c->rotary_dim % 2 == 0);
    CHECK(c->rope_count >= 1 && c->rope_count <= MODEL_ROPES_MAX);
    for (uint32_t r = 0; r < c->rope_count; r++) {
        model_config_rope_frequencies(c, r, frequencies);
        for (uint32_t i = 0; i < c->rotary_dim / 2; i++)
            CHECK(isfinite(frequencies[i]) && frequencies[i] >= 0 && frequencies[i] < 1.34f);
        CHECK(c->rope[r].attention_factor > 0 && c->rope[r].attention_factor <= 1e3f);
    }
    for (uint32_t l = 0; l < c->layer_count; l++) {
        CHECK(c->layer_window[l] < c->context_max);
        CHECK(c->layer_rope[l] < c->rope_count);
    }
    CHECK(isfinite(c->attention_scale) && c->attention_scale > 0);
    CHECK(isfinite(c->embedding_scale) && c->embedding_scale > 0);
    CHECK(isfinite(c->attention_softcap) && c->attention_softcap >= 0);
    CHECK(isfinite(c->final_softcap) && c->final_softcap >= 0);

    CHECK(d->temperature >= 0 && d->temperature <= 100);
    CHECK(d->top_p > 0 && d->top_p <= 1 && d->min_p >= 0 && d->min_p <= 1);
    CHECK(d->repetition_penalty > 0 && d->repetition_penalty <= 100);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *split = size > 0 ? memchr(text, '\0', size) : NULL;
    size_t config_size = split != NULL ? (size_t)(split - text) : size;
    const char *generation = split != NULL ? split + 1 : NULL;
    size_t generation_size = split != NULL ? size - config_size - 1 : 0;

    model_config config;
    generation_defaults defaults;
    error err = {0};
    status st = model_config_parse(&config, &defaults, text, config_size, generation,
                                   generation_size, &err);
    if (st == ST_OK)
        check_config(&config, &defaults);
    else
        CHECK(err.code == st && err.text[0] != '\0');
    return 0;
}
