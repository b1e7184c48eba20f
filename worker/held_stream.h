/* held_stream: what a worker keeps of one answer until the client has acknowledged it.
 *
 * Tokens [base, made) are held with their text and logprobs: at most the stream's window, so a cut
 * link, a restarted router or a client that was away can all be served again from here. `sent` is
 * the index that goes onto the link next; a new link or a Resume moves it back.
 *
 *      base            sent               made            base + window
 *       |--- on the way --|--- waits for link --|--- credit ----|
 *
 * Loop thread. */
#ifndef GAGGLE_WORKER_HELD_STREAM_H
#define GAGGLE_WORKER_HELD_STREAM_H

#include "proto/token_columns.h"

typedef struct held_stream {
    uint32_t base, sent, made;
    uint32_t crc;  /* over ids [0, made) */
    buffer tokens; /* of held_token, [made - base] */
    buffer text;
    buffer top_ids, top_logprobs;
    size_t sent_text, sent_top; /* where `sent` begins in text and tops */
} held_stream;

/* `prior` tokens were delivered before this worker took over: they count, but are not held. */
void held_stream_init(held_stream *h, const uint32_t *prior, uint32_t prior_count);
void held_stream_free(held_stream *h);

/* The engine made token `made`. */
void held_stream_add(held_stream *h, uint32_t id, const void *text, uint32_t text_size,
                     float logprob, uint32_t top_count, const uint32_t *top_ids,
                     const float *top_logprobs);

/* Tokens below `next_wanted` have arrived: forget them. Values outside [base, made] change
 * nothing, and give false. */
bool held_stream_acknowledge(held_stream *h, uint32_t next_wanted);

/* Send from `next_wanted` on (base <= next_wanted <= made, CHECK). */
void held_stream_rewind(held_stream *h, uint32_t next_wanted);

/* Append [sent, made) to the link's columns under number `stream`; sent becomes made. */
void held_stream_emit(held_stream *h, uint32_t stream, token_columns *out);

#endif
