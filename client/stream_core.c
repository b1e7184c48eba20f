#include "client/stream_core.h"

#include "common/check.h"
#include "proto/envelope.h"

void stream_core_init(stream_core *s, uint32_t window, uint32_t patience_ms)
{
    CHECK(window >= LIMIT_WINDOW_TOKENS_MIN && window <= LIMIT_WINDOW_TOKENS_MAX);
    *s = (stream_core){.state = STREAM_WAITING, .window = window, .patience_ms = patience_ms};
}

void stream_core_fini(stream_core *s)
{
    buffer_free(&s->ids);
}

void stream_core_check(const stream_core *s)
{
    CHECK(s->consumed <= s->next);
    CHECK(s->next - s->consumed <= 2 * s->window);
    CHECK(s->acked <= s->next);
    CHECK(s->ids.size == s->next * sizeof(uint32_t));
}

/* Both tell the source that everything below `next` is here. */
static stream_action submit(stream_core *s)
{
    s->state = STREAM_SUBMITTED;
    s->submitted = s->acked = s->next;
    s->crowded = false;
    return STREAM_SUBMIT;
}

static stream_action resume(stream_core *s)
{
    s->state = STREAM_RESUMING;
    s->acked = s->next;
    s->crowded = false;
    return STREAM_RESUME;
}

static stream_action fail(stream_core *s)
{
    s->state = STREAM_ENDED;
    return STREAM_FAIL;
}

stream_action stream_core_up(stream_core *s)
{
    if (s->state == STREAM_ENDED) return STREAM_NOTHING;
    CHECK(s->state == STREAM_WAITING);
    return s->accepted ? resume(s) : submit(s);
}

void stream_core_down(stream_core *s)
{
    if (s->state != STREAM_ENDED) s->state = STREAM_WAITING;
}

void stream_core_accepted(stream_core *s, bool resumed)
{
    if (s->state != STREAM_SUBMITTED && s->state != STREAM_RESUMING) return;
    if (!resumed && s->state == STREAM_SUBMITTED && s->submitted > 0) s->continuations++;
    s->state = STREAM_RUNNING;
    s->crowded = false; /* from here on the source sends everything past the Resume again */
    s->accepted = true;
    s->trouble_since_ms = 0;
    s->pause_ms = 0;
}

stream_taken stream_core_tokens(stream_core *s, uint32_t first, uint32_t count, const uint32_t *ids)
{
    stream_taken taken = {0, 0, STREAM_NOTHING};
    if (s->state == STREAM_ENDED || s->state == STREAM_WAITING) return taken;
    if (first > s->next) {
        /* Once is enough: the answer to the Resume under way closes this gap too. */
        if (s->state != STREAM_RESUMING && !s->crowded) taken.action = resume(s);
        return taken;
    }
    taken.skip = s->next - first;
    if (taken.skip >= count) return taken;

    taken.take = count - taken.skip;
    uint32_t room = 2 * s->window - (s->next - s->consumed);
    if (taken.take > room) {
        taken.take = room;
        s->crowded = true;
    }
    s->crc = ids_crc32c(s->crc, ids + taken.skip, taken.take);
    buffer_append(&s->ids, ids + taken.skip, taken.take * sizeof *ids);
    s->next += taken.take;
    return taken;
}

stream_action stream_core_finish(stream_core *s, uint32_t total, uint32_t crc)
{
    if (s->state == STREAM_ENDED || s->state == STREAM_WAITING) return STREAM_NOTHING;
    if (total == s->next && crc == s->crc) {
        s->state = STREAM_ENDED;
        return STREAM_FINISH;
    }
    /* It will be said again behind the tokens that are missing. */
    if (s->state == STREAM_RESUMING || s->crowded) return STREAM_NOTHING;
    if (total > s->next) return resume(s);
    if (s->doubted) return fail(s);
    s->doubted = true;
    return resume(s);
}

/* Trouble that may pass: the worker was lost, the router has restarted and its workers are not all
 * back, or is full. UNAVAILABLE without a time: the router has tried often enough. */
static bool may_pass(status code, uint32_t retry_after_ms)
{
    return (code == ST_UNAVAILABLE && retry_after_ms > 0) || code == ST_RESOURCE_EXHAUSTED ||
           code == ST_NOT_FOUND || code == ST_ABORTED;
}

stream_action stream_core_error(stream_core *s, status code, uint32_t retry_after_ms,
                                uint64_t now_ms)
{
    if (s->state == STREAM_ENDED || s->state == STREAM_WAITING) return STREAM_NOTHING;
    if (s->state == STREAM_RESUMING && code == ST_NOT_FOUND) return submit(s);
    /* The first Submit's refusal is for the caller to read. An answer under way is worth patience.
     */
    if (!s->accepted || !may_pass(code, retry_after_ms)) return fail(s);
    if (s->trouble_since_ms == 0) s->trouble_since_ms = now_ms;
    if (now_ms - s->trouble_since_ms >= s->patience_ms) return fail(s);

    s->pause_ms = s->pause_ms == 0 ? LIMIT_REDIAL_MS_FIRST : 2 * s->pause_ms;
    if (s->pause_ms > LIMIT_REDIAL_MS_MAX) s->pause_ms = LIMIT_REDIAL_MS_MAX;
    s->retry_at_ms = now_ms + (retry_after_ms > s->pause_ms ? retry_after_ms : s->pause_ms);
    s->state = STREAM_WAITING;
    return STREAM_NOTHING;
}

stream_action stream_core_tick(stream_core *s, uint64_t now_ms)
{
    if (s->state != STREAM_WAITING || now_ms < s->retry_at_ms) return STREAM_NOTHING;
    return submit(s); /* after an Error the router has forgotten it */
}

stream_action stream_core_consumed(stream_core *s, uint32_t count)
{
    CHECK(count <= s->next - s->consumed);
    s->consumed += count;
    bool room = s->next - s->consumed <= s->window;
    bool listening = s->state == STREAM_RUNNING || s->state == STREAM_SUBMITTED;
    if (!s->crowded || !room) return STREAM_NOTHING;
    if (!listening) return STREAM_NOTHING; /* the Resume under way, or the next link, asks again */
    return resume(s);
}

bool stream_core_ack(stream_core *s, bool lazily, uint32_t *next_wanted)
{
    if (s->state != STREAM_RUNNING && s->state != STREAM_RESUMING) return false;
    if (s->consumed <= s->acked) return false;
    if (lazily && s->consumed - s->acked < s->window / 4) return false;
    s->acked = s->consumed;
    *next_wanted = s->acked;
    return true;
}

void stream_core_end(stream_core *s)
{
    s->state = STREAM_ENDED;
}
