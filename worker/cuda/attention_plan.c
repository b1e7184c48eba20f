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

/* The least power of two, from ATTENTION_CHUNK_TOKENS on, that cuts `visible` keys, wherever they
 * begin, into at most ATTENTION_CHUNKS_MAX chunks. */
static uint32_t chunk_tokens(uint32_t visible)
{
    uint32_t chunk = ATTENTION_CHUNK_TOKENS;
    while (visible > chunk * (ATTENTION_CHUNKS_MAX - 1u))
        chunk *= 2u;
    return chunk;
}

size_t attention_plan_decode_items_max(size_t sequence_count, uint32_t context_max)
{
    size_t chunks = (size_t)context_max / ATTENTION_CHUNK_TOKENS + 2u;
    return sequence_count * (chunks < ATTENTION_CHUNKS_MAX ? chunks : ATTENTION_CHUNKS_MAX);
}

typedef struct decode_chunks {
    uint32_t first_key, tokens, count;
    uint32_t first_chunk; /* counted from position 0 */
} decode_chunks;

static decode_chunks chunks_of(uint32_t position, uint32_t window)
{
    uint32_t first_key = window != 0 && position >= window ? position - window + 1u : 0;
    uint32_t tokens = chunk_tokens(position + 1u - first_key);
    uint32_t first_chunk = first_key / tokens;
    return (decode_chunks){
        .first_key = first_key,
        .tokens = tokens,
        .first_chunk = first_chunk,
        .count = position / tokens - first_chunk + 1u,
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

size_t attention_plan_decode(const attention_sequence *sequences, size_t sequence_count,
                             uint32_t window, attention_decode_item *items)
{
    size_t count = 0;
    for (int whole = 1; whole >= 0; whole--) {
        uint32_t slot = 0;
        for (size_t s = 0; s < sequence_count; s++) {
            CHECK(sequences[s].token_count == 1);
            decode_chunks c = chunks_of(sequences[s].position, window);
            for (uint32_t chunk = 0; chunk < c.count; chunk++) {
                attention_decode_item item = decode_item(&sequences[s], &c, chunk, slot);
                if ((item.key_end - item.key_begin == c.tokens) == whole) items[count++] = item;
            }
            slot += c.count;
        }
    }
    return count;
}
