/* stream_core: what a client owes one answer, whatever happens to links and routers. Events go in,
 * the next action comes out; no I/O, no clock, no lock. Its caller owns it and does what it says.
 *
 * The idea: every token has an index, so a connection is never trusted, only the index is.
 *
 *   1. `next` is the index wanted next, and ids[0..next) is the answer so far, in order.
 *   2. A token with index == next is taken; one with index < next was taken before and is dropped;
 *      one with index > next shows a gap: Resume(next) is sent once, and everything past the gap
 *      is dropped until the source goes back to it.
 *   3. `consumed` <= next is what the caller has been handed. Ack says `consumed`, and an Ack is
 * the source's credit: it stops `window` tokens past the last Ack. So a caller who stops reading
 *      stops the source, and next - consumed <= 2 * window always: a Resume or a re-Submit
 *      acknowledges `next`, because we hold what lies below it, and may so grant one window more.
 *      What would go beyond that is dropped and asked for again when there is room.
 *   4. Finish counts only if it proves that the answer is whole: total == next and equal CRC.
 *   5. A new link: what was accepted before is resumed, the rest submitted (again: a Submit is
 *      idempotent by its request id). If the router knows nothing of it, or has lost its worker, it
 *      is submitted again with ids[0..next) as prior ids, and the answer goes on behind them.
 *
 *      WAITING --SUBMIT--> SUBMITTED --Accepted--> RUNNING --gap--> RESUMING --Accepted--> RUNNING
 *         ^                                                            |
 *         +--- link lost, or a pause before trying again               +--NOT_FOUND--> SUBMITTED
 *
 *   ENDED follows from every state, once. */
#ifndef GAGGLE_CLIENT_STREAM_CORE_H
#define GAGGLE_CLIENT_STREAM_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/mem.h"
#include "common/status.h"

typedef enum stream_state {
    STREAM_WAITING,
    STREAM_SUBMITTED,
    STREAM_RUNNING,
    STREAM_RESUMING,
    STREAM_ENDED,
} stream_state;

typedef enum stream_action {
    STREAM_NOTHING,
    STREAM_SUBMIT, /* send Submit; prior ids are ids[0..next) */
    STREAM_RESUME, /* send Resume with next_wanted = next */
    STREAM_FINISH, /* hand over the Finish that was given: the answer is whole */
    STREAM_FAIL,   /* the answer ends with an error; what was handed over stays true */
} stream_action;

typedef struct stream_core {
    stream_state state;
    uint32_t window;
    uint32_t next;
    uint32_t consumed;
    uint32_t acked; /* the source may send below acked + window */
    uint32_t crc;   /* of ids */
    buffer ids;     /* uint32_t [next] */
    bool accepted;  /* some router has accepted it: from now on trouble is worth a retry */
    bool doubted;   /* a Finish did not match although nothing was missing */
    bool crowded;   /* tokens were dropped because the caller was 2 * window behind */
    uint32_t patience_ms;
    uint64_t retry_at_ms;
    uint64_t trouble_since_ms; /* 0 = none */
    uint32_t pause_ms;
    uint32_t submitted;     /* `next` at the last Submit */
    uint32_t continuations; /* times somebody went on with it who did not know it */
} stream_core;

/* What of a group of tokens is new: tokens [skip, skip + take) of it. */
typedef struct stream_taken {
    uint32_t skip, take;
    stream_action action;
} stream_taken;

/* `window` is Submit's, at least LIMIT_WINDOW_TOKENS_MIN. Trouble of an accepted stream that may
 * pass is borne for `patience_ms`. */
void stream_core_init(stream_core *s, uint32_t window, uint32_t patience_ms);
void stream_core_fini(stream_core *s);

/* The link is up, or gone. */
stream_action stream_core_up(stream_core *s);
void stream_core_down(stream_core *s);

/* Messages of the source. `now_ms` is monotonic. */
void stream_core_accepted(stream_core *s, bool resumed); /* `resumed`: it was known */
stream_taken stream_core_tokens(stream_core *s, uint32_t first, uint32_t count,
                                const uint32_t *ids);
stream_action stream_core_finish(stream_core *s, uint32_t total, uint32_t crc);
stream_action stream_core_error(stream_core *s, status code, uint32_t retry_after_ms,
                                uint64_t now_ms);

/* Time has passed; the link is up. */
stream_action stream_core_tick(stream_core *s, uint64_t now_ms);

/* The caller was handed `count` more tokens. */
stream_action stream_core_consumed(stream_core *s, uint32_t count);

/* Is an Ack due? Then *next_wanted is its value, and it counts as sent. `lazily`: a quarter of the
 * window must have been consumed; else any change is enough. */
bool stream_core_ack(stream_core *s, bool lazily, uint32_t *next_wanted);

/* Ended by the caller (cancelled without a link, closed) or after STREAM_FAIL of another origin. */
void stream_core_end(stream_core *s);

/* Aborts when an invariant above is broken. For tests, and cheap enough for anybody. */
void stream_core_check(const stream_core *s);

#endif
