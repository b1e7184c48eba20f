/* detokenizer: ids to text as a stream.
 *
 * Feeding the ids of an answer one by one gives, concatenated, exactly what tokenizer_decode()
 * gives for the answer in the context of its prompt (so a SentencePiece answer keeps its leading
 * space when it continues a prompt). Never emits half a UTF-8 character: incomplete bytes wait for
 * the next token; bytes that can no longer become a character come out as U+FFFD. Where the model
 * spells bytes as "<0xE6>" tokens (ByteFallback), a whole row of them waits for its end, because
 * one bad byte makes all of the row U+FFFD.
 *
 * A function of the ids alone, so that a continued stream can be replayed. One owner at a time. */
#ifndef GAGGLE_WORKER_TEXT_DETOKENIZER_H
#define GAGGLE_WORKER_TEXT_DETOKENIZER_H

#include "common/mem.h"
#include "worker/text/tokenizer.h"

typedef struct detokenizer detokenizer;

/* `t` must outlive it. `skip_special`: special tokens give no text.
 * `at_start`: the first id begins a text (nothing before it), as in tokenizer_decode(). */
detokenizer *detokenizer_create(const tokenizer *t, bool skip_special, bool at_start);
void detokenizer_destroy(detokenizer *d); /* NULL is fine */

/* Append the text that `id` completes to `out`; often nothing. */
void detokenizer_push(detokenizer *d, uint32_t id, buffer *out);

/* The answer is over: append what is left, incomplete bytes as U+FFFD. */
void detokenizer_finish(detokenizer *d, buffer *out);

#endif
