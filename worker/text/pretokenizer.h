/* pretokenizer: cuts normalized text into the pieces ("words") that BPE never merges across.
 *
 * Pieces stream through the steps one at a time, so memory is that of the longest piece of each
 * step, not of the text. Immutable after parsing; any thread may run it, each with its own
 * pretokenizer_scratch. */
#ifndef GAGGLE_WORKER_TEXT_PRETOKENIZER_H
#define GAGGLE_WORKER_TEXT_PRETOKENIZER_H

#include <jansson.h>

#include "common/limits.h"
#include "common/mem.h"
#include "common/status.h"
#include "worker/text/pattern.h"

typedef struct pretokenizer_step pretokenizer_step;

typedef struct pretokenizer {
    pretokenizer_step *steps;
    size_t count;
} pretokenizer; /* {0} cuts nothing */

/* `spec` is tokenizer.json's "pre_tokenizer": null, an object, or a Sequence of them.
 * On failure *out can still be given to pretokenizer_free(). */
MUST_USE status pretokenizer_parse(pretokenizer *out, const json_t *spec, error *err);
void pretokenizer_free(pretokenizer *p);

typedef struct pretokenizer_scratch {
    pattern_search *search;             /* borrowed */
    buffer text[LIMIT_TOKENIZER_STEPS]; /* what a step that rewrites its piece made of it */
} pretokenizer_scratch;

void pretokenizer_scratch_free(pretokenizer_scratch *s);

typedef void pretokenizer_emit(void *context, const char *piece, size_t size);

/* Call `emit` for every piece of `text` (valid UTF-8), in order; never for an empty one.
 * `origin`: how many leading bytes stem from the first character of the whole input. */
void pretokenizer_run(const pretokenizer *p, pretokenizer_scratch *s, const char *text, size_t size,
                      size_t origin, pretokenizer_emit *emit, void *context);

#endif
