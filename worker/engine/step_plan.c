#include "worker/engine/step_plan.h"

#include <string.h>

#include "common/check.h"
#include "common/mem.h"

void step_plan_init(step_plan_builder *b, uint32_t step_tokens, uint32_t sequences_max)
{
    *b = (step_plan_builder){
        .tokens = mem_alloc(step_tokens * sizeof *b->tokens),
        .sequences = mem_alloc(sequences_max * sizeof *b->sequences),
        .token_capacity = step_tokens,
        .sequence_capacity = sequences_max,
    };
}

void step_plan_fini(step_plan_builder *b)
{
    mem_free(b->tokens);
    mem_free(b->sequences);
    *b = (step_plan_builder){0};
}

void step_plan_clear(step_plan_builder *b)
{
    b->token_count = 0;
    b->sequence_count = 0;
}

step_sequence *step_plan_add(step_plan_builder *b, const scheduled *share)
{
    const sequence *q = share->sequence;
    CHECK(share->token_count > 0 && share->token_count <= sequence_remaining(q));
    CHECK(share->token_count <= b->token_capacity - b->token_count);
    CHECK(b->sequence_count < b->sequence_capacity);
    uint32_t end = q->computed + share->token_count;
    CHECK(end <= q->block_count * LIMIT_KV_BLOCK_TOKENS);

    step_sequence *entry = &b->sequences[b->sequence_count++];
    *entry = (step_sequence){
        .token_begin = b->token_count,
        .token_count = share->token_count,
        .position = q->computed,
        .blocks = q->blocks,
        .block_count = q->block_count,
        .wants_sample = end == q->id_count,
    };
    memcpy(&b->tokens[b->token_count], &q->ids[q->computed],
           share->token_count * sizeof b->tokens[0]);
    b->token_count += share->token_count;
    return entry;
}

step_plan step_plan_finish(const step_plan_builder *b)
{
    return (step_plan){
        .tokens = b->tokens,
        .token_count = b->token_count,
        .sequences = b->sequences,
        .sequence_count = b->sequence_count,
    };
}
