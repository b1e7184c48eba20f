/* tokenizer_internal: the parts of a tokenizer, for the files that build and run it. */
#ifndef GAGGLE_WORKER_TEXT_TOKENIZER_INTERNAL_H
#define GAGGLE_WORKER_TEXT_TOKENIZER_INTERNAL_H

#include "worker/text/added_tokens.h"
#include "worker/text/bpe.h"
#include "worker/text/decoder.h"
#include "worker/text/normalizer.h"
#include "worker/text/post_processor.h"
#include "worker/text/pretokenizer.h"
#include "worker/text/tokenizer.h"

typedef struct token_spelling {
    const char *bytes; /* NULL: the id is not in use */
    uint32_t size;
    bool special;
} token_spelling;

struct tokenizer {
    added_tokens added;
    normalizer normalizer;
    pretokenizer pretokenizer;
    bpe model;
    post_processor post_processor;
    decoder decoder;
    token_spelling *spellings; /* by id; the bytes belong to `added` and `model` */
    uint32_t vocab_size;
};

/* tokenizer_json.c: fill a zeroed tokenizer. On failure it can still be destroyed. */
MUST_USE status tokenizer_read_json(tokenizer *t, const char *json, size_t size, error *err);

/* tokenizer_config.c: let DIR/tokenizer_config.json change the post-processor; no file, no
 * change. */
MUST_USE status tokenizer_apply_config(tokenizer *t, const char *dir, error *err);

#endif
