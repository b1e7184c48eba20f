/* decoder: token spellings back to text, as a stream.
 *
 * tokenizer.json's decoders turn a list of spellings into a text, one list into the next. Here the
 * spellings come one by one and text leaves as early as the rules allow:
 *
 *   per token    Replace, Metaspace, Strip; ByteFallback, which gathers the bytes of a row of
 *                "<0xE2>" tokens and must see its end, because one bad byte makes all of the row
 *                U+FFFD
 *   joining      Fuse (everything is one text from here), ByteLevel (letters to bytes, bytes to
 *                one text; a character waits until it is whole)
 *   afterwards   Strip at both ends of the whole text
 *
 * The decoder is immutable after parsing; each stream has its own decoder_state. */
#ifndef GAGGLE_WORKER_TEXT_DECODER_H
#define GAGGLE_WORKER_TEXT_DECODER_H

#include <jansson.h>

#include "common/mem.h"
#include "common/status.h"
#include "worker/text/pattern.h"

typedef struct decoder_step decoder_step;

typedef struct decoder {
    decoder_step *steps;
    size_t count;
    bool join_with_spaces; /* the file names no decoder */
} decoder;

/* `spec` is tokenizer.json's "decoder": null, an object, or a Sequence of them.
 * On failure *out can still be given to decoder_free(). */
MUST_USE status decoder_parse(decoder *out, const json_t *spec, error *err);
void decoder_free(decoder *d);

typedef struct decoder_state decoder_state;

/* `at_start`: the first token begins the text, so what happens to the start of a text happens to
 * it. `d` must outlive the state. */
decoder_state *decoder_state_create(const decoder *d, bool at_start);
void decoder_state_destroy(decoder_state *s); /* NULL is fine */

/* The next token's spelling (valid UTF-8); append to `out` the text that is certain now. */
void decoder_push(decoder_state *s, const char *token, size_t size, buffer *out);

/* No token will follow: append what is left. */
void decoder_finish(decoder_state *s, buffer *out);

#endif
