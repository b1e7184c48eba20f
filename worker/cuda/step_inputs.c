#include "worker/cuda/step_inputs.h"

#include <string.h>

#include "common/check.h"
#include "common/mem.h"
#include "worker/cuda/kernels/embed.h"

#define ALIGNMENT 256u
#define NOBODY    UINT64_MAX

/* A row's biases in the pool: ids, then after a fixed distance the values, so that both have the
 * same index from their own base. */
#define BIAS_DISTANCE LIMIT_LOGIT_BIASES

/* Pool entries one sequence may need beside its block table: biases, and ids that end the answer
 * (the request's own and the model's). */
#define POOL_EXTRAS (2u * LIMIT_LOGIT_BIASES + LIMIT_STOP_IDS + MODEL_EOS_IDS_MAX)

struct step_inputs {
    gpu *gpu;
    step_inputs_options options;
    uint8_t *host[2];
    uint8_t *device;
    uint64_t head_bytes, decode_bytes; /* of the largest step; the pool follows */
    uint64_t pool_entries;
    device_slot *slots; /* [device_slots] */
    uint32_t *slot_of;  /* [backend_slots()] last device slot of an engine's slot */
    uint32_t slot_hand; /* where the search for a free one goes on */
    uint64_t steps;
    attention_sequence *prefills, *decodes; /* [step_sequences] scratch */
};

/* Offsets in the head for so many rows. */
typedef struct head_layout {
    uint64_t tokens, positions, kv_rows, wanted, sample_rows, sample_step, decode_counts,
        prefill_items, size;
} head_layout;

static uint64_t take(uint64_t *used, uint64_t bytes)
{
    uint64_t at = *used;
    *used = (at + bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return at;
}

static head_layout lay_out(uint32_t tokens, uint32_t samples, uint32_t prefill_items)
{
    head_layout l;
    uint64_t used = 0;
    l.sample_step = take(&used, sizeof(sample_step));
    l.decode_counts = take(&used, STEP_WINDOWS_MAX * sizeof(uint32_t));
    l.tokens = take(&used, tokens * sizeof(uint32_t));
    l.positions = take(&used, tokens * sizeof(uint32_t));
    l.kv_rows = take(&used, tokens * sizeof(uint32_t));
    l.wanted = take(&used, samples * sizeof(uint32_t));
    l.sample_rows = take(&used, samples * sizeof(sample_row));
    l.prefill_items = take(&used, prefill_items * sizeof(attention_prefill_item));
    l.size = used;
    return l;
}

static uint32_t prefill_items_max(const step_inputs_options *o)
{
    return (uint32_t)attention_plan_prefill_items_max(o->step_tokens, o->step_sequences,
                                                      o->tile_tokens);
}

static uint64_t head_bytes_max(const step_inputs_options *o)
{
    return lay_out(o->step_tokens, o->step_sequences, prefill_items_max(o)).size;
}

/* Of one window's list. */
static uint64_t decode_bytes_max(const step_inputs_options *o)
{
    uint64_t used = 0;
    take(&used,
         attention_plan_decode_items_max(o->step_sequences, o->context_max, o->items_wanted) *
             sizeof(attention_decode_item));
    return used;
}

static uint64_t pool_entries_max(const step_inputs_options *o)
{
    uint64_t blocks = o->context_max / LIMIT_KV_BLOCK_TOKENS + 1;
    return o->step_sequences * (blocks + POOL_EXTRAS);
}

uint64_t step_inputs_device_bytes(const step_inputs_options *o)
{
    return head_bytes_max(o) + o->window_count * decode_bytes_max(o) +
           pool_entries_max(o) * sizeof(uint32_t);
}

status step_inputs_create(step_inputs **out, gpu *g, const step_inputs_options *options, error *err)
{
    step_inputs *s = mem_calloc(1, sizeof *s);
    s->gpu = g;
    s->options = *options;
    s->head_bytes = head_bytes_max(options);
    s->decode_bytes = decode_bytes_max(options);
    s->pool_entries = pool_entries_max(options);
    s->slots = mem_calloc(options->device_slots, sizeof *s->slots);
    for (uint32_t i = 0; i < options->device_slots; i++)
        s->slots[i].key = NOBODY;
    const backend_capacity capacity = {.step_sequences = options->step_sequences, .steps_ahead = 1};
    s->slot_of = mem_calloc(backend_slots(&capacity), sizeof *s->slot_of);
    s->prefills = mem_calloc(options->step_sequences, sizeof *s->prefills);
    s->decodes = mem_calloc(options->step_sequences, sizeof *s->decodes);
    uint64_t bytes = step_inputs_device_bytes(options);
    status st = gpu_alloc(g, (void **)&s->device, bytes, "the step's inputs", err);
    for (int i = 0; i < 2 && st == ST_OK; i++)
        st = gpu_alloc_host(g, (void **)&s->host[i], NULL, bytes, "the step's inputs", err);
    if (st != ST_OK) {
        step_inputs_destroy(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

void step_inputs_destroy(step_inputs *s)
{
    if (s == NULL) return;
    mem_free(s->slots);
    mem_free(s->slot_of);
    mem_free(s->prefills);
    mem_free(s->decodes);
    mem_free(s);
}

bool step_inputs_is_decode(const step_plan *plan)
{
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const step_sequence *q = &plan->sequences[i];
        if (q->token_count != 1 || !q->wants_sample || q->logits_out != NULL) return false;
    }
    return true;
}

/* -- sequences on the device --------------------------------------------------------------- */

/* A slot for a sequence that has none: the first that nobody of this step or the one before uses.
 * There are more slots than two steps have sequences. */
static uint32_t find_free_slot(step_inputs *s)
{
    for (uint32_t i = 0; i < s->options.device_slots; i++) {
        s->slot_hand = (s->slot_hand + 1) % s->options.device_slots;
        const device_slot *d = &s->slots[s->slot_hand];
        if (d->key == NOBODY || d->last_step + 1 < s->steps) return s->slot_hand;
    }
    CHECK(false);
    return 0;
}

static uint32_t device_slot_of(step_inputs *s, const step_sequence *q)
{
    uint32_t at = s->slot_of[q->slot];
    if (s->slots[at].key != q->key) {
        at = find_free_slot(s);
        s->slots[at] = (device_slot){.key = q->key};
        s->slot_of[q->slot] = at;
    }
    s->slots[at].last_step = s->steps;
    return at;
}

/* -- building ---------------------------------------------------------------------------- */

typedef struct building {
    step_inputs *inputs;
    const step_plan *plan;
    uint8_t *host;
    head_layout head;
    uint32_t *pool; /* host */
    uint64_t pool_used;
    uint32_t sample_count, prefill_count, decode_count;
    bool greedy_only;
    counts_load *loads;
    uint32_t load_count;
} building;

static void build_tokens(building *b, const step_sequence *q, uint32_t slot)
{
    const step_inputs_options *o = &b->inputs->options;
    uint32_t *tokens = (uint32_t *)(b->host + b->head.tokens) + q->token_begin;
    uint32_t *positions = (uint32_t *)(b->host + b->head.positions) + q->token_begin;
    uint32_t *kv_rows = (uint32_t *)(b->host + b->head.kv_rows) + q->token_begin;
    for (uint32_t i = 0; i < q->token_count; i++) {
        uint32_t id = b->plan->tokens[q->token_begin + i];
        uint32_t position = q->position + i;
        uint32_t block = q->blocks[position / LIMIT_KV_BLOCK_TOKENS];
        CHECK(block < o->kv_blocks);
        CHECK(id != STEP_TOKEN_PENDING || i + 1 == q->token_count);
        tokens[i] = id == STEP_TOKEN_PENDING ? EMBED_FROM_SLOT | slot : id;
        positions[i] = position;
        kv_rows[i] = block * LIMIT_KV_BLOCK_TOKENS + position % LIMIT_KV_BLOCK_TOKENS;
    }
}

static uint32_t pool_add(building *b, const uint32_t *items, uint32_t count)
{
    uint32_t at = (uint32_t)b->pool_used;
    CHECK(b->pool_used + count <= b->inputs->pool_entries);
    if (count > 0) memcpy(b->pool + at, items, count * sizeof *items);
    b->pool_used += count;
    return at;
}

static void build_attention(building *b, const step_sequence *q)
{
    step_inputs *s = b->inputs;
    uint32_t keys = q->position + q->token_count;
    uint32_t blocks = (keys + LIMIT_KV_BLOCK_TOKENS - 1) / LIMIT_KV_BLOCK_TOKENS;
    CHECK(blocks <= q->block_count && keys <= s->options.context_max);
    attention_sequence entry = {.token_begin = q->token_begin,
                                .token_count = q->token_count,
                                .position = q->position,
                                .block_begin = pool_add(b, q->blocks, blocks)};
    if (q->token_count == 1 && !s->options.all_prefill)
        s->decodes[b->decode_count++] = entry;
    else
        s->prefills[b->prefill_count++] = entry;
}

static bool has_penalties(const sampling_params *p)
{
    return p->repetition_penalty != 1.0f || p->presence_penalty != 0.0f ||
           p->frequency_penalty != 0.0f;
}

/* The counts on the device follow the sequence: whatever is sampled for it is counted there. */
static void follow_counts(building *b, const step_sequence *q, uint32_t slot)
{
    device_slot *d = &b->inputs->slots[slot];
    const sampling_context *context = &q->context;
    if (d->counted != context->id_count)
        b->loads[b->load_count++] = (counts_load){.device_slot = slot,
                                                  .ids = context->ids,
                                                  .id_count = context->id_count,
                                                  .prompt_count = context->prompt_count};
    d->counted = context->id_count + 1;
}

static void build_sample(building *b, const step_sequence *q, uint32_t slot)
{
    const sampling_params *p = q->sampling;
    const sampling_context *context = &q->context;
    uint32_t index = b->sample_count++;
    ((uint32_t *)(b->host + b->head.wanted))[index] = q->token_begin + q->token_count - 1;
    sample_row *row = (sample_row *)(b->host + b->head.sample_rows) + index;
    if (!q->wants_sample) {
        *row = (sample_row){.flags = SAMPLE_ROW_SKIP};
        return;
    }
    *row = (sample_row){
        .seed = p->seed,
        .slot = slot,
        .position = context->id_count,
        .temperature = p->temperature,
        .top_k = p->top_k,
        .top_p = p->top_p,
        .min_p = p->min_p,
        .repetition_penalty = p->repetition_penalty,
        .presence_penalty = p->presence_penalty,
        .frequency_penalty = p->frequency_penalty,
        .logprobs = p->logprobs,
        .bias_count = p->bias_count,
        .masked_count = context->masked_count,
        .flags = has_penalties(p) ? SAMPLE_ROW_PENALTIES : 0,
    };
    row->masked_begin = pool_add(b, context->masked_ids, context->masked_count);
    if (p->bias_count > 0) {
        row->bias_begin = pool_add(b, p->bias_ids, p->bias_count);
        b->pool_used = row->bias_begin + BIAS_DISTANCE;
        uint32_t *values = b->pool + b->pool_used;
        CHECK(b->pool_used + p->bias_count <= b->inputs->pool_entries);
        memcpy(values, p->bias, p->bias_count * sizeof *values);
        b->pool_used += p->bias_count;
    }
    if (has_penalties(p)) follow_counts(b, q, slot);
    b->greedy_only = b->greedy_only && p->temperature == 0.0f && p->logprobs == LOGPROBS_OFF;
}

static void build_padding(building *b, uint32_t rows)
{
    uint32_t *tokens = (uint32_t *)(b->host + b->head.tokens);
    uint32_t *positions = (uint32_t *)(b->host + b->head.positions);
    uint32_t *kv_rows = (uint32_t *)(b->host + b->head.kv_rows);
    uint32_t *wanted = (uint32_t *)(b->host + b->head.wanted);
    sample_row *sample_rows = (sample_row *)(b->host + b->head.sample_rows);
    for (uint32_t i = b->plan->token_count; i < rows; i++) {
        tokens[i] = positions[i] = 0;
        kv_rows[i] = b->inputs->options.kv_blocks * LIMIT_KV_BLOCK_TOKENS;
        wanted[i] = i;
        sample_rows[i] = (sample_row){.flags = SAMPLE_ROW_SKIP};
    }
}

/* Rows whose logits somebody wants. */
static uint32_t count_samples(const step_plan *plan)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->sequence_count; i++)
        count += plan->sequences[i].wants_sample || plan->sequences[i].logits_out != NULL;
    return count;
}

static void build_sequences(building *b)
{
    step_inputs *s = b->inputs;
    uint32_t tokens = 0;
    for (uint32_t i = 0; i < b->plan->sequence_count; i++) {
        const step_sequence *q = &b->plan->sequences[i];
        CHECK(q->token_begin == tokens && q->token_count >= 1);
        tokens += q->token_count;
        CHECK(tokens <= s->options.step_tokens);
        uint32_t slot = device_slot_of(s, q);
        build_tokens(b, q, slot);
        build_attention(b, q);
        if (q->wants_sample || q->logits_out != NULL) build_sample(b, q, slot);
    }
    CHECK(tokens == b->plan->token_count);
}

/* -- sending ------------------------------------------------------------------------------- */

static status copy(step_inputs *s, const uint8_t *host, uint64_t offset, uint64_t bytes,
                   const char *what, error *err)
{
    if (bytes == 0) return ST_OK;
    return gpu_check(s->gpu,
                     cudaMemcpyAsync(s->device + offset, host + offset, bytes,
                                     cudaMemcpyHostToDevice, s->gpu->stream),
                     err, "cudaMemcpyAsync of %s, %llu bytes", what, (unsigned long long)bytes);
}

status step_inputs_send(step_inputs *s, const step_plan *plan, uint32_t bucket, uint32_t parity,
                        sample_result *results, uint32_t *done, uint32_t sequence, step_view *view,
                        counts_load *loads, uint32_t *load_count, error *err)
{
    const step_inputs_options *o = &s->options;
    CHECK(plan->token_count >= 1 && plan->sequence_count <= o->step_sequences);
    CHECK(bucket == 0 || (bucket >= plan->token_count && bucket <= o->step_sequences));
    uint32_t rows = bucket > 0 ? bucket : plan->token_count;
    uint32_t samples = bucket > 0 ? bucket : count_samples(plan);
    /* A bucket's items: one a row when decode rows are prefill items, none otherwise. */
    uint32_t items_room = bucket == 0 ? prefill_items_max(o) : o->all_prefill ? bucket : 0;
    uint64_t pool_offset = s->head_bytes + o->window_count * s->decode_bytes;
    s->steps++;
    building b = {.inputs = s,
                  .plan = plan,
                  .host = s->host[parity],
                  .head = lay_out(rows, samples, items_room),
                  .pool = (uint32_t *)(s->host[parity] + pool_offset),
                  .greedy_only = true,
                  .loads = loads};
    build_sequences(&b);
    build_padding(&b, rows);
    *load_count = b.load_count;

    attention_prefill_item *items = (attention_prefill_item *)(b.host + b.head.prefill_items);
    uint32_t item_count =
        (uint32_t)attention_plan_prefill(s->prefills, b.prefill_count, o->tile_tokens, items);
    uint32_t tokens_max = 0;
    for (uint32_t i = 0; i < b.prefill_count; i++)
        if (s->prefills[i].token_count > tokens_max) tokens_max = s->prefills[i].token_count;
    for (; bucket > 0 && item_count < items_room; item_count++)
        items[item_count] = (attention_prefill_item){0};
    *(sample_step *)(b.host + b.head.sample_step) = (sample_step){
        .results = results, .done = done, .sequence = sequence, .row_count = b.sample_count};

    uint32_t *decode_counts = (uint32_t *)(b.host + b.head.decode_counts);
    *view = (step_view){
        .token_count = rows,
        .sample_count = samples,
        .samples_are_tokens = samples == rows,
        .greedy_only = b.greedy_only,
        .tokens = (const uint32_t *)(s->device + b.head.tokens),
        .positions = (const uint32_t *)(s->device + b.head.positions),
        .kv_rows = (const uint32_t *)(s->device + b.head.kv_rows),
        .prefill_items = (const attention_prefill_item *)(s->device + b.head.prefill_items),
        .prefill_item_count = item_count,
        .prefill_tokens_max = tokens_max < o->tile_tokens ? tokens_max : o->tile_tokens,
        .has_decode = b.decode_count > 0,
        .decode_counts = (const uint32_t *)(s->device + b.head.decode_counts),
        .pool = (const uint32_t *)(s->device + pool_offset),
        .wanted = (const uint32_t *)(s->device + b.head.wanted),
        .sample_rows = (const sample_row *)(s->device + b.head.sample_rows),
        .sample_step = (const sample_step *)(s->device + b.head.sample_step),
        .bias = (const float *)(s->device + pool_offset) + BIAS_DISTANCE,
    };
    for (uint32_t w = 0; w < o->window_count; w++) {
        uint64_t offset = s->head_bytes + w * s->decode_bytes;
        decode_counts[w] = (uint32_t)attention_plan_decode(
            s->decodes, b.decode_count, o->windows[w], o->items_wanted,
            (attention_decode_item *)(b.host + offset));
        view->decode_items[w] = (const attention_decode_item *)(s->device + offset);
        status st = copy(s, b.host, offset, decode_counts[w] * sizeof(attention_decode_item),
                         "decode items", err);
        if (st != ST_OK) return st;
    }
    status st =
        copy(s, b.host, 0, b.head.prefill_items + item_count * sizeof *items, "inputs", err);
    if (st != ST_OK) return st;
    return copy(s, b.host, pool_offset, b.pool_used * sizeof(uint32_t), "block tables", err);
}
