#include "tests/unit/worker/engine/fake_backend.h"

#include <string.h>

#include "common/check.h"
#include "common/mem.h"

typedef struct kv_slot {
    uint32_t token;
    uint32_t position;
    bool written;
} kv_slot;

typedef struct fake_backend {
    backend base;
    fake_backend_options options;
    kv_slot *slots; /* [kv_blocks * LIMIT_KV_BLOCK_TOKENS] */
    float *logits;
    sampler *sampler;
    uint64_t steps, tokens;
    uint32_t *last_sampled; /* [backend_slots()] */
    uint32_t *plan_tokens;  /* [step_tokens] of the step at hand, none pending */
    uint32_t *ids;          /* a context's, none pending */
    uint32_t ids_capacity;
    struct {
        sampled_token *tokens; /* [step_sequences] */
        uint32_t count;
        float **logits_to, *logits; /* [step_sequences] of the engine's, and [][vocab] */
        uint32_t logits_count;
    } uncollected[2]; /* the oldest first */
    uint32_t uncollected_count;
} fake_backend;

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 32) * 0xD6E8FEB86659FD93u;
    x = (x ^ x >> 32) * 0xD6E8FEB86659FD93u;
    return x ^ x >> 32;
}

static kv_slot *slot_at(fake_backend *f, const step_sequence *s, uint32_t position)
{
    uint32_t index = position / LIMIT_KV_BLOCK_TOKENS;
    CHECK(index < s->block_count);
    uint32_t block = s->blocks[index];
    CHECK(block < f->options.kv_blocks);
    return &f->slots[(size_t)block * LIMIT_KV_BLOCK_TOKENS + position % LIMIT_KV_BLOCK_TOKENS];
}

static void fill_logits(fake_backend *f, const step_sequence *s, uint32_t end)
{
    uint64_t hash = 1;
    for (uint32_t position = 0; position < end; position++) {
        const kv_slot *slot = slot_at(f, s, position);
        CHECK(slot->written && slot->position == position);
        hash = mix(hash * 31 + slot->token);
    }
    for (uint32_t id = 0; id < f->options.vocab; id++) {
        f->logits[id] = (float)(mix(hash + id) >> 40) * 0x1p-24f * 6.0f;
        if (id >= 'a' && id <= 'd') f->logits[id] += 4.0f; /* so that stop strings turn up */
    }
    f->logits[f->options.likely_id] += 3.0f;
    /* Padding rows may hold anything. */
    for (uint32_t id = f->options.vocab_used; id < f->options.vocab; id++)
        f->logits[id] = 1e30f;
}

/* The context with every id known: the last may be one that only the device knows. */
static sampling_context known_context(fake_backend *f, const step_sequence *s)
{
    sampling_context context = s->context;
    if (context.id_count > f->ids_capacity) {
        f->ids_capacity = 2 * context.id_count;
        f->ids = mem_realloc(f->ids, f->ids_capacity * sizeof *f->ids);
    }
    for (uint32_t i = 0; i < context.id_count; i++)
        f->ids[i] =
            context.ids[i] == STEP_TOKEN_PENDING ? f->last_sampled[s->slot] : context.ids[i];
    context.ids = f->ids;
    return context;
}

static status fake_submit(backend *b, const step_plan *plan, error *err)
{
    fake_backend *f = (fake_backend *)b;
    const fake_backend_options *o = &f->options;
    CHECK(f->uncollected_count <= o->steps_ahead);
    CHECK(plan->token_count >= 1 && plan->token_count <= o->step_tokens);
    CHECK(plan->sequence_count >= 1 && plan->sequence_count <= o->step_sequences);
    f->steps++;
    f->tokens += plan->token_count;
    if (f->steps == o->fail_at_step)
        return error_set(err, ST_UNAVAILABLE, "the fake device is on fire");

    /* Last to first: nobody may rely on what another sequence writes in the same step. */
    uint32_t samples = 0, tokens = 0;
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        samples += plan->sequences[i].wants_sample;
        CHECK(plan->sequences[i].token_begin == tokens);
        tokens += plan->sequences[i].token_count;
    }
    CHECK(tokens == plan->token_count);
    uint32_t step = f->uncollected_count++;
    sampled_token *sampled = f->uncollected[step].tokens;
    f->uncollected[step].count = samples;
    f->uncollected[step].logits_count = 0;
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const step_sequence *s = &plan->sequences[i];
        CHECK(s->slot < backend_slots(&b->capacity));
        for (uint32_t t = s->token_begin; t < s->token_begin + s->token_count; t++) {
            bool pending = plan->tokens[t] == STEP_TOKEN_PENDING;
            CHECK(!pending || (o->steps_ahead > 0 && t + 1 == s->token_begin + s->token_count));
            f->plan_tokens[t] = pending ? f->last_sampled[s->slot] : plan->tokens[t];
        }
    }
    for (uint32_t i = plan->sequence_count; i-- > 0;) {
        const step_sequence *s = &plan->sequences[i];
        uint32_t end = s->position + s->token_count;
        if (o->cheap) {
            if (s->wants_sample)
                sampled[--samples] = (sampled_token){
                    .id = 'a' + f->plan_tokens[s->token_begin + s->token_count - 1] % 26};
            if (s->wants_sample) f->last_sampled[s->slot] = sampled[samples].id;
            continue;
        }
        for (uint32_t t = 0; t < s->token_count; t++)
            *slot_at(f, s, s->position + t) = (kv_slot){
                .token = f->plan_tokens[s->token_begin + t],
                .position = s->position + t,
                .written = true,
            };
        if (!s->wants_sample) continue;
        CHECK(s->context.id_count == end);
        fill_logits(f, s, end);
        if (s->logits_out != NULL) {
            uint32_t at = f->uncollected[step].logits_count++;
            f->uncollected[step].logits_to[at] = s->logits_out;
            memcpy(f->uncollected[step].logits + (size_t)at * o->vocab, f->logits,
                   o->vocab * sizeof(float));
        }
        sampling_context context = known_context(f, s);
        if (sampler_draw(f->sampler, f->logits, o->vocab_used, s->sampling, &context,
                         &sampled[--samples]) != ST_OK)
            return error_set(err, ST_INTERNAL, "no sample");
        f->last_sampled[s->slot] = sampled[samples].id;
    }
    return ST_OK;
}

static status fake_collect(backend *b, sampled_token *sampled, error *err)
{
    (void)err;
    fake_backend *f = (fake_backend *)b;
    CHECK(f->uncollected_count > 0);
    memcpy(sampled, f->uncollected[0].tokens, f->uncollected[0].count * sizeof *sampled);
    for (uint32_t i = 0; i < f->uncollected[0].logits_count; i++)
        memcpy(f->uncollected[0].logits_to[i],
               f->uncollected[0].logits + (size_t)i * f->options.vocab,
               f->options.vocab * sizeof(float));
    f->uncollected_count--;
    typeof(f->uncollected[0]) oldest = f->uncollected[0];
    f->uncollected[0] = f->uncollected[1];
    f->uncollected[1] = oldest;
    return ST_OK;
}

static void fake_destroy(backend *b)
{
    fake_backend *f = (fake_backend *)b;
    mem_free(f->slots);
    mem_free(f->logits);
    sampler_destroy(f->sampler);
    mem_free(f->last_sampled);
    mem_free(f->plan_tokens);
    mem_free(f->ids);
    for (int i = 0; i < 2; i++) {
        mem_free(f->uncollected[i].tokens);
        mem_free(f->uncollected[i].logits_to);
        mem_free(f->uncollected[i].logits);
    }
    mem_free(f);
}

backend *fake_backend_create(const fake_backend_options *options)
{
    static const backend_class class = {fake_submit, fake_collect, fake_destroy};
    fake_backend *f = mem_calloc(1, sizeof *f);
    f->base.class = &class;
    f->base.capacity = (backend_capacity){
        .kv_blocks = options->kv_blocks,
        .kv_block_bytes = 1,
        .step_tokens = options->step_tokens,
        .step_sequences = options->step_sequences,
        .steps_ahead = options->steps_ahead,
    };
    f->options = *options;
    f->slots = mem_calloc((size_t)options->kv_blocks * LIMIT_KV_BLOCK_TOKENS, sizeof *f->slots);
    f->logits = mem_alloc(options->vocab * sizeof *f->logits);
    f->sampler = sampler_create(options->vocab);
    f->last_sampled = mem_calloc(backend_slots(&f->base.capacity), sizeof *f->last_sampled);
    f->plan_tokens = mem_alloc(options->step_tokens * sizeof *f->plan_tokens);
    for (int i = 0; i < 2; i++) {
        f->uncollected[i].tokens = mem_calloc(options->step_sequences, sizeof(sampled_token));
        f->uncollected[i].logits_to = mem_calloc(options->step_sequences, sizeof(float *));
        f->uncollected[i].logits =
            mem_alloc((size_t)options->step_sequences * options->vocab * sizeof(float));
    }
    return &f->base;
}

uint64_t fake_backend_tokens(const backend *b)
{
    return ((const fake_backend *)b)->tokens;
}
