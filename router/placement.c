#include "router/placement.h"

/* Bytes of text a token stands for, about, in the languages people prompt in; and the answer
 * length when the client names none. */
enum { BYTES_PER_TOKEN = 4, ANSWER_TOKENS = 256 };

uint32_t placement_stream_limit(const worker *w)
{
    if (w->slots == 0) return 0;
    uint64_t limit = (uint64_t)w->slots + 1 + w->slots / 8;
    return limit < LIMIT_STREAMS_PER_LINK ? (uint32_t)limit : LIMIT_STREAMS_PER_LINK;
}

uint32_t placement_cost(const msg_submit *submit)
{
    size_t bytes = submit->text.size;
    for (size_t i = 0; i < submit->message_count; i++)
        bytes += submit->messages[i].content.size;
    size_t prompt = bytes / BYTES_PER_TOKEN + submit->id_count + submit->prior_count;
    size_t answer = submit->max_tokens > 0 ? submit->max_tokens : ANSWER_TOKENS;
    size_t cost = prompt + answer;
    return cost < LIMIT_CONTEXT_TOKENS ? (uint32_t)cost : LIMIT_CONTEXT_TOKENS;
}

text_view placement_only_model(const worker_table *workers)
{
    text_view only = {0};
    for (size_t i = 0; i < workers->count; i++) {
        const worker *w = workers->all[i];
        for (size_t m = 0; m < w->model_count; m++) {
            text_view name = text_of(w->models[m].name);
            if (only.size > 0 && !text_equal(only, name)) return (text_view){0};
            only = name;
        }
    }
    return only;
}

placement_outcome placement_choose(const worker_table *workers, text_view model, worker **out)
{
    placement_outcome outcome = PLACEMENT_NO_MODEL;
    worker *best = NULL;
    for (size_t i = 0; i < workers->count; i++) {
        worker *w = workers->all[i];
        if (worker_find_model(w, model) == NULL) continue;
        outcome = PLACEMENT_FULL;
        if (w->link == NULL || w->draining || w->streams >= placement_stream_limit(w)) continue;
        /* w's share of work per slot is smaller than best's; cross-multiplied to stay whole */
        if (best == NULL ||
            w->outstanding_tokens * best->slots < best->outstanding_tokens * w->slots)
            best = w;
    }
    if (best == NULL) return outcome;
    *out = best;
    return PLACEMENT_OK;
}
