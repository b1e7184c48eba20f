/* post_processor: puts special tokens around the one or two texts of an input.
 *
 * Immutable after parsing. */
#ifndef GAGGLE_WORKER_TEXT_POST_PROCESSOR_H
#define GAGGLE_WORKER_TEXT_POST_PROCESSOR_H

#include <jansson.h>

#include "common/status.h"
#include "worker/text/tokenizer.h"

typedef enum template_part_kind {
    TEMPLATE_FIRST,
    TEMPLATE_SECOND,
    TEMPLATE_TOKEN
} template_part_kind;

typedef struct template_part {
    template_part_kind kind;
    uint32_t id; /* of TEMPLATE_TOKEN */
} template_part;

/* What an input becomes, part by part. */
typedef struct input_template {
    template_part *parts;
    size_t count;
} input_template;

typedef struct post_processor {
    input_template single, pair;
} post_processor;

/* `spec` is tokenizer.json's "post_processor": null, an object, or a Sequence of them of which at
 * most one adds tokens. Without one, an input is its texts.
 * On failure *out can still be given to post_processor_free(). */
MUST_USE status post_processor_parse(post_processor *out, const json_t *spec, error *err);

/* Another template: `bos` (TOKEN_NONE: none) before each text, `eos` behind it. */
void post_processor_set_bos_eos(post_processor *p, uint32_t bos, uint32_t eos);

void post_processor_free(post_processor *p);

#endif
