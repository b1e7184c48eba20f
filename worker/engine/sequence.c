#include "worker/engine/sequence.h"

#include <inttypes.h>
#include <string.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/mem.h"
#include "worker/backend.h"

static const char *const state_names[SEQUENCE_STATE_COUNT] = {"waiting", "running", "parked",
                                                              "finished"};

#define TO(state) (1u << SEQUENCE_##state)
static const unsigned next_states[SEQUENCE_STATE_COUNT] = {
    [SEQUENCE_WAITING] = TO(RUNNING) | TO(FINISHED),
    [SEQUENCE_RUNNING] = TO(PARKED) | TO(WAITING) | TO(FINISHED),
    [SEQUENCE_PARKED] = TO(RUNNING) | TO(WAITING) | TO(FINISHED),
    [SEQUENCE_FINISHED] = 0,
};

const char *sequence_state_name(sequence_state state)
{
    return state_names[state];
}

void sequence_init(sequence *s, uint64_t key, uint64_t arrival, int32_t priority,
                   const uint32_t *ids, uint32_t id_count)
{
    CHECK(id_count > 0);
    *s = (sequence){
        .key = key,
        .arrival = arrival,
        .priority = priority,
        .state = SEQUENCE_WAITING,
        .ids = mem_copy(ids, id_count * sizeof *ids),
        .id_count = id_count,
        .id_capacity = id_count,
        .known_count = id_count,
        .id_limit = UINT32_MAX,
    };
}

void sequence_fini(sequence *s)
{
    CHECK(s->block_count == 0);
    mem_free(s->ids);
    mem_free(s->blocks);
    *s = (sequence){.state = SEQUENCE_FINISHED};
}

static void append(uint32_t **items, uint32_t *count, uint32_t *capacity, uint32_t item)
{
    if (*count == *capacity) {
        *capacity = *capacity < 16 ? 16 : *capacity + *capacity / 2;
        *items = mem_realloc(*items, *capacity * sizeof **items);
    }
    (*items)[(*count)++] = item;
}

void sequence_append_id(sequence *s, uint32_t id)
{
    CHECK(s->known_count == s->id_count);
    append(&s->ids, &s->id_count, &s->id_capacity, id);
    s->known_count++;
}

void sequence_append_pending(sequence *s)
{
    append(&s->ids, &s->id_count, &s->id_capacity, STEP_TOKEN_PENDING);
}

void sequence_resolve(sequence *s, uint32_t id)
{
    CHECK(s->known_count < s->id_count);
    s->ids[s->known_count++] = id;
}

void sequence_append_block(sequence *s, uint32_t block)
{
    append(&s->blocks, &s->block_count, &s->block_capacity, block);
}

bool sequence_before(const sequence *a, const sequence *b)
{
    return a->priority != b->priority ? a->priority > b->priority : a->arrival < b->arrival;
}

bool sequence_has_credit(const sequence *s)
{
    return s->id_count < s->id_limit;
}

uint32_t sequence_remaining(const sequence *s)
{
    return s->id_count - s->computed;
}

uint32_t sequence_blocks_needed(const sequence *s)
{
    return (s->id_count + LIMIT_KV_BLOCK_TOKENS - 1) / LIMIT_KV_BLOCK_TOKENS;
}

void sequence_set_state(sequence *s, sequence_state next)
{
    CHECK(next_states[s->state] & (1u << next));
    log_debug("sequence key=%" PRIu64 " state=%s->%s", s->key, state_names[s->state],
              state_names[next]);
    s->state = next;
}

void sequence_verify(const sequence *s)
{
    CHECK(s->id_count > 0 && s->computed < s->id_count && s->known_count <= s->id_count);
    CHECK(s->published <= s->block_count);
    CHECK(s->published * LIMIT_KV_BLOCK_TOKENS <= s->computed);
    switch (s->state) {
    case SEQUENCE_WAITING:
    case SEQUENCE_FINISHED:
        CHECK(s->block_count == 0 && s->computed == 0);
        break;
    case SEQUENCE_RUNNING:
        CHECK(sequence_has_credit(s));
        break;
    case SEQUENCE_PARKED:
        CHECK(!sequence_has_credit(s));
        break;
    }
    if (s->block_count == 0) return;
    CHECK(s->computed <= s->block_count * LIMIT_KV_BLOCK_TOKENS);
    uint32_t publishable = s->computed < s->known_count ? s->computed : s->known_count;
    CHECK(s->published == publishable / LIMIT_KV_BLOCK_TOKENS);
    CHECK(s->block_count <= sequence_blocks_needed(s));
    CHECK(s->block_count + 1 >= sequence_blocks_needed(s)); /* the next one comes with its step */
}
