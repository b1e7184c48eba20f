#include "worker/cuda/attention_plan.h"

#include <stdlib.h>

#include "common/check.h"

/* -- prefill ------------------------------------------------------------------------- */

/* Keys that an item's tokens see, summed, up to the factor that is the same for all. */
static uint64_t prefill_cost(const attention_prefill_item *item)
{
    return (uint64_t)item->token_count * (2ull * item->position + item->token_count + 1u);
}

static int by_cost_descending(const void *a, const void *b)
{
    const attention_prefill_item *x = a, *y = b;
    uint64_t cx = prefill_cost(x), cy = prefill_cost(y);
    if (cx != cy) return cx < cy ? 1 : -1;
    return x->token < y->token ? -1 : x->token > y->token;
}

size_t attention_plan_prefill(const attention_sequence *sequences, size_t sequence_count,
                              uint32_t tile_tokens, attention_prefill_item *items)
{
    CHECK(tile_tokens >= 1);
    size_t count = 0;
    for (size_t s = 0; s < sequence_count; s++) {
        const attention_sequence *seq = &sequences[s];
        for (uint32_t i = 0; i < seq->token_count; i += tile_tokens) {
            uint32_t left = seq->token_count - i;
            items[count++] = (attention_prefill_item){
                .token = seq->token_begin + i,
                .token_count = left < tile_tokens ? left : tile_tokens,
                .position = seq->position + i,
                .block_begin = seq->block_begin,
            };
        }
    }
    qsort(items, count, sizeof *items, by_cost_descending);
    return count;
}

/* -- decode -------------------------------------------------------------------------- */

/* Slots of one sequence that chunks may need beyond its share of the step's keys: where its first
 * and its last key lie within a chunk. */
#define RAGGED_CHUNKS 2u

static uint32_t first_key(uint32_t position, uint32_t window)
{
    return window != 0 && position >= window ? position - window + 1u : 0;
}

static uint32_t visible_keys(const attention_sequence *seq, uint32_t window)
{
    return seq->position + 1u - first_key(seq->position, window);
}

/* What the keys of a whole step ask for. */
typedef struct step_chunks {
    uint32_t tokens;  /* of a chunk, a power of two */
    uint32_t longest; /* no chunk has more keys, but those that CHUNKS_MAX lengthens */
} step_chunks;

static step_chunks chunks_of_step(const attention_sequence *sequences, size_t sequence_count,
                                  uint32_t window, uint32_t items_wanted)
{
    step_chunks step = {.tokens = ATTENTION_CHUNK_TOKENS};
    uint64_t keys = 0;
    for (size_t s = 0; s < sequence_count; s++) {
        uint32_t visible = visible_keys(&sequences[s], window);
        keys += visible;
        if (visible > step.longest) step.longest = visible;
    }
    while (step.tokens < step.longest && keys / (2ull * step.tokens) >= items_wanted)
        step.tokens *= 2u;
    if (step.tokens < step.longest) step.longest = step.tokens;
    return step;
}

size_t attention_plan_decode_items_max(size_t sequence_count, uint32_t context_max,
                                       uint32_t items_wanted)
{
    size_t alone = (size_t)context_max / ATTENTION_CHUNK_TOKENS + RAGGED_CHUNKS;
    size_t most = sequence_count * (alone < ATTENTION_CHUNKS_MAX ? alone : ATTENTION_CHUNKS_MAX);
    size_t shared = 2u * (size_t)items_wanted + RAGGED_CHUNKS * sequence_count;
    return most < shared ? most : shared;
}

/* One sequence's. */
typedef struct decode_chunks {
    uint32_t first_key, tokens, count;
    uint32_t first_chunk; /* counted from position 0 */
} decode_chunks;

static decode_chunks chunks_of(const attention_sequence *seq, uint32_t window, uint32_t tokens)
{
    uint32_t visible = visible_keys(seq, window), first = first_key(seq->position, window);
    while (visible > tokens * (ATTENTION_CHUNKS_MAX - 1u)) /* wherever they begin */
        tokens *= 2u;
    return (decode_chunks){
        .first_key = first,
        .tokens = tokens,
        .first_chunk = first / tokens,
        .count = seq->position / tokens - first / tokens + 1u,
    };
}

static attention_decode_item decode_item(const attention_sequence *seq, const decode_chunks *c,
                                         uint32_t chunk, uint32_t slot_begin)
{
    uint64_t begin = (uint64_t)(c->first_chunk + chunk) * c->tokens;
    uint64_t end = begin + c->tokens;
    return (attention_decode_item){
        .token = seq->token_begin,
        .block_begin = seq->block_begin,
        .key_begin = begin > c->first_key ? (uint32_t)begin : c->first_key,
        .key_end = end <= seq->position ? (uint32_t)end : seq->position + 1u,
        .chunk = chunk,
        .chunk_count = c->count,
        .slot_begin = slot_begin,
        .position = seq->position,
    };
}

/* How long an item is, in quarters of the longest: 3 is longest. */
static uint32_t quarter_of(const attention_decode_item *item, uint32_t longest)
{
    uint64_t quarter = 4ull * (item->key_end - item->key_begin - 1u) / longest;
    return quarter < 3 ? (uint32_t)quarter : 3u;
}

size_t attention_plan_decode(const attention_sequence *sequences, size_t sequence_count,
                             uint32_t window, uint32_t items_wanted, attention_decode_item *items)
{
    step_chunks step = chunks_of_step(sequences, sequence_count, window, items_wanted);
    CHECK(sequence_count == 0 || step.longest > 0);
    size_t count = 0;
    for (uint32_t quarter = 4; quarter-- > 0;) {
        uint32_t slot = 0;
        for (size_t s = 0; s < sequence_count; s++) {
            CHECK(sequences[s].token_count == 1);
            decode_chunks c = chunks_of(&sequences[s], window, step.tokens);
            for (uint32_t chunk = 0; chunk < c.count; chunk++) {
                attention_decode_item item = decode_item(&sequences[s], &c, chunk, slot);
                if (quarter_of(&item, step.longest) == quarter) items[count++] = item;
            }
            slot += c.count;
        }
    }
    return count;
}
