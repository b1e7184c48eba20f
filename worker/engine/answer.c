#include "worker/engine/answer.h"

#include "common/check.h"
#include "worker/text/detokenizer.h"
#include "worker/text/stop_matcher.h"

struct answer {
    detokenizer *detokenizer;
    stop_matcher *matcher;
    char **stop; /* [stop_count] NUL-terminated, to name the one that matched */
    uint32_t stop_count;
    uint32_t *end_ids;
    uint32_t end_id_count;
    uint32_t min_tokens, max_tokens;
    uint32_t count;
    buffer fresh; /* text on its way from the detokenizer to the matcher */

    bool ended;
    finish_reason reason;
    bool by_id;
    uint32_t stop_id;
    const char *stop_text;
};

answer *answer_create(const tokenizer *t, const answer_rules *rules)
{
    CHECK(rules->max_tokens > 0);
    answer *a = mem_calloc(1, sizeof *a);
    a->detokenizer = detokenizer_create(t, true, rules->at_start);
    a->matcher = stop_matcher_create(rules->stop, rules->stop_sizes, rules->stop_count);
    a->stop = mem_calloc(rules->stop_count, sizeof *a->stop);
    a->stop_count = rules->stop_count;
    for (uint32_t i = 0; i < rules->stop_count; i++)
        a->stop[i] = mem_strndup(rules->stop[i], rules->stop_sizes[i]);
    a->end_ids = mem_copy(rules->end_ids, rules->end_id_count * sizeof *rules->end_ids);
    a->end_id_count = rules->end_id_count;
    a->min_tokens = rules->min_tokens;
    a->max_tokens = rules->max_tokens;
    return a;
}

void answer_destroy(answer *a)
{
    if (a == NULL) return;
    detokenizer_destroy(a->detokenizer);
    stop_matcher_destroy(a->matcher);
    for (uint32_t i = 0; i < a->stop_count; i++)
        mem_free(a->stop[i]);
    mem_free(a->stop);
    mem_free(a->end_ids);
    buffer_free(&a->fresh);
    mem_free(a);
}

static bool is_end_id(const answer *a, uint32_t id)
{
    for (uint32_t i = 0; i < a->end_id_count; i++)
        if (a->end_ids[i] == id) return true;
    return false;
}

static void match_stops(answer *a, buffer *text)
{
    if (!stop_matcher_push(a->matcher, a->fresh.data, a->fresh.size, text)) return;
    a->ended = true;
    a->reason = FINISH_STOP;
    a->stop_text = a->stop[stop_matcher_matched(a->matcher)];
}

/* Ended by an id or by length: release what was held, unless it turns out to hold a stop string. */
static void end(answer *a, finish_reason reason, buffer *text)
{
    a->ended = true;
    a->reason = reason;
    buffer_clear(&a->fresh);
    detokenizer_finish(a->detokenizer, &a->fresh);
    if (a->count <= a->min_tokens)
        buffer_append(text, a->fresh.data, a->fresh.size);
    else
        match_stops(a, text);
    if (a->stop_text == NULL) stop_matcher_finish(a->matcher, text);
}

void answer_push(answer *a, uint32_t id, buffer *text)
{
    CHECK(!a->ended);
    bool may_end = a->count >= a->min_tokens;
    a->count++;
    if (may_end && is_end_id(a, id)) {
        a->by_id = true;
        a->stop_id = id;
        end(a, FINISH_STOP, text);
        return;
    }
    buffer_clear(&a->fresh);
    detokenizer_push(a->detokenizer, id, &a->fresh);
    if (may_end)
        match_stops(a, text);
    else
        buffer_append(text, a->fresh.data, a->fresh.size);
    if (!a->ended && a->count == a->max_tokens) end(a, FINISH_LENGTH, text);
}

uint32_t answer_count(const answer *a)
{
    return a->count;
}

const uint32_t *answer_masked_ids(const answer *a, uint32_t index, uint32_t *count)
{
    *count = index < a->min_tokens ? a->end_id_count : 0;
    return a->end_ids;
}

bool answer_ended(const answer *a)
{
    return a->ended;
}

finish_reason answer_reason(const answer *a)
{
    CHECK(a->ended);
    return a->reason;
}

bool answer_stop_id(const answer *a, uint32_t *id)
{
    if (a->by_id) *id = a->stop_id;
    return a->by_id;
}

const char *answer_stop_text(const answer *a)
{
    return a->stop_text;
}
