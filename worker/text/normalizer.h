/* normalizer: the first step of encoding: rewrites text before it is cut into pieces.
 *
 * Immutable after parsing; any thread may run it, each with its own buffers. */
#ifndef GAGGLE_WORKER_TEXT_NORMALIZER_H
#define GAGGLE_WORKER_TEXT_NORMALIZER_H

#include <jansson.h>

#include "common/mem.h"
#include "common/status.h"
#include "worker/text/pattern.h"

typedef struct normalizer_step normalizer_step;

typedef struct normalizer {
    normalizer_step *steps;
    size_t count;
} normalizer; /* {0} changes nothing */

/* `spec` is tokenizer.json's "normalizer": null, an object, or a Sequence of them.
 * On failure *out can still be given to normalizer_free(). */
MUST_USE status normalizer_parse(normalizer *out, const json_t *spec, error *err);
void normalizer_free(normalizer *n);

/* Rewrite `text` (valid UTF-8) into *out, replacing what it held; `spare` is scratch.
 *
 * *origin   in: how many leading bytes of `text` stem from the first character of the whole
 *           input; out: the same for the result. (Metaspace's "first" asks for it.) */
void normalizer_run(const normalizer *n, pattern_search *search, const char *text, size_t size,
                    size_t *origin, buffer *out, buffer *spare);

#endif
