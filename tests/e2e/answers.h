/* answers: what a client hears, and the frame of every test under trouble: the answers one by one
 * and undisturbed first, then all at once while something breaks. A CPU worker's logits are
 * bit-identical in any batch, so both must be equal: sampled, penalised and greedy ones alike. */
#ifndef GAGGLE_TESTS_ANSWERS_H
#define GAGGLE_TESTS_ANSWERS_H

#include "common/mem.h"
#include "tests/e2e/cluster.h"

typedef struct answer {
    buffer ids, text, text_len; /* uint32_t, bytes, uint32_t */
    buffer logprobs, top_count, top_ids, top_logprobs;
    gaggle_finish_reason reason;
    gaggle_code code;
    char sentence[GAGGLE_ERROR_TEXT_SIZE];
    uint32_t retry_after_ms;
    uint32_t continuations;
    bool approximate;
} answer; /* {0}: nothing heard yet */

/* Take events until the end; `until_tokens` stops early when so many have come (false: ended). */
bool answer_read(answer *a, gaggle_stream *s, size_t until_tokens);
/* All that have not ended to their ends, none waiting for another. */
void answers_read_all(answer *answers, gaggle_stream *const *streams, uint32_t count);
uint32_t answer_tokens(const answer *a);
void answer_free(answer *a);

/* The next tokens of it, from a GAGGLE_TOKENS event. */
void answer_hear(answer *a, const gaggle_event *event);
/* What of the two is not equal, to the bit: "ids", "logprobs", ...; NULL: nothing. The first
 * *same of their ids are. */
const char *answer_difference(const answer *a, const answer *b, uint32_t *same);

/* The test fails, and says where they part, when ids, text, its division among the ids, logprobs or
 * reason of the two are not equal, to the bit. */
void assert_answers_equal(const answer *alone, const answer *other, uint32_t number);

/* Mixed on purpose: by `number` greedy, sampled, truncated, penalised, biased, stopped, with
 * logprobs. It points into itself. */
typedef struct mixed_request {
    gaggle_request request;
    gaggle_message message;
} mixed_request;

void prepare_mixed(mixed_request *m, uint32_t number, uint32_t max_tokens);
gaggle_stream *submit_mixed(gaggle_client *client, uint32_t number, uint32_t max_tokens);

/* The mixed answers 0..count one after the other; each must end well. */
void run_alone(gaggle_client *client, answer *answers, uint32_t count, uint32_t max_tokens);

/* What goes on while answers run: `blows` times, whenever every answer has got `tokens_apart` more
 * tokens or has ended, `strike` is called with the blow's number from 1 on. {0} is peace. */
typedef struct trouble {
    uint32_t blows, tokens_apart;
    void (*strike)(cluster *c, uint32_t blow);
} trouble;

/* Run `count` mixed answers alone, then all at once under `t`: equal, each of them. */
void assert_answers_survive(cluster *c, uint32_t count, uint32_t max_tokens, const trouble *t);

#endif
