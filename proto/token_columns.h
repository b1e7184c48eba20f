/* token_columns: tokens that wait for a link to become idle, in the shape of a Tokens message.
 *
 * Worker and router append to one of these for each link, and empty it into as few messages as the
 * limits allow when the link can send. So the batch grows with the load and nothing is encoded
 * twice. What may wait is bounded by the windows of the streams on the link, not here.
 *
 * {0} is an empty one. Memory is kept between flushes. Loop thread. */
#ifndef GAGGLE_PROTO_TOKEN_COLUMNS_H
#define GAGGLE_PROTO_TOKEN_COLUMNS_H

#include "proto/envelope.h"

typedef struct token_columns {
    buffer stream, first_index, count; /* uint32_t each, [groups] */
    buffer token, text_len;            /* uint32_t each, [tokens] */
    buffer text;
    buffer logprob;             /* float [tokens]; empty until a token has one */
    buffer top_count;           /* uint32_t [tokens]; empty until a token has alternatives */
    buffer top_id, top_logprob; /* uint32_t, float */
    uint64_t emitted_us;        /* of the oldest batch in it; 0 = none */
} token_columns;

/* One token. `text` may be NULL with text_size 0. logprob NaN = none; top_count 0 = none. */
void token_columns_add(token_columns *c, uint32_t stream, uint32_t index, uint32_t token,
                       const void *text, uint32_t text_size, float logprob, uint32_t top_count,
                       const uint32_t *top_ids, const float *top_logprobs);

/* Where a walk over the groups of a message stands: the start of a group's columns. {0} first. */
typedef struct token_cursor {
    size_t token, text, top;
} token_cursor;

/* Append tokens [skip, count) of one group of `from`, renamed to `stream`. `at` is where the group
 * begins; it is moved behind the group, also when stream is 0, which appends nothing. */
void token_columns_add_group(token_columns *c, const msg_tokens *from, size_t group, uint32_t skip,
                             uint32_t stream, token_cursor *at);

bool token_columns_empty(const token_columns *c);
size_t token_columns_tokens(const token_columns *c);

/* Hand everything to `send` as Tokens messages within the limits, then empty it. */
void token_columns_flush(token_columns *c, void (*send)(void *ctx, const envelope *e), void *ctx);

void token_columns_clear(token_columns *c);
void token_columns_free(token_columns *c);

#endif
