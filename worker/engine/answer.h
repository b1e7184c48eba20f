/* answer: what a request's ids mean: which text each token releases, and where the answer ends.
 *
 * Ids go in one by one. Each releases the text that has become safe with it: whole characters
 * that cannot be part of a stop string any more. The last one releases whatever was held back.
 *
 * A function of the ids alone: feeding the ids of a broken-off answer to a new one brings it to
 * where the first was, and the text it released on the way is what the first one released. */
#ifndef GAGGLE_WORKER_ENGINE_ANSWER_H
#define GAGGLE_WORKER_ENGINE_ANSWER_H

#include "proto/envelope.h"
#include "worker/text/tokenizer.h"

typedef struct answer_rules {
    const char *const *stop; /* [stop_count]; copied */
    const size_t *stop_sizes;
    uint32_t stop_count;
    const uint32_t *end_ids; /* [end_id_count]: stop ids and the model's end tokens; copied */
    uint32_t end_id_count;
    uint32_t min_tokens; /* the first so many neither end the answer nor are searched for stops */
    uint32_t max_tokens; /* >= 1 */
    bool at_start;       /* nothing before the answer has text: detokenizer_create() */
} answer_rules;

typedef struct answer answer;

/* `t` must outlive it. */
answer *answer_create(const tokenizer *t, const answer_rules *rules);
void answer_destroy(answer *a); /* NULL is fine */

/* Append to `text` what `id` releases. Not after the end. A token that is one of end_ids has no
 * text of its own. */
void answer_push(answer *a, uint32_t id, buffer *text);

uint32_t answer_count(const answer *a); /* ids pushed */

/* Ids that must not be drawn for the answer's token `index`: the end ids while min_tokens is not
 * reached. */
const uint32_t *answer_masked_ids(const answer *a, uint32_t index, uint32_t *count);

bool answer_ended(const answer *a);

/* Once ended: */
finish_reason answer_reason(const answer *a);       /* FINISH_STOP or FINISH_LENGTH */
bool answer_stop_id(const answer *a, uint32_t *id); /* false: no end id ended it */
const char *answer_stop_text(const answer *a);      /* NULL: no stop string ended it */

#endif
