/* request_prepare: from a Submit, or a line of JSON, to an engine_request.
 *
 * Renders the chat template, tokenizes, applies generation_config.json's defaults and checks every
 * value with its limit. Slow for long prompts (about 0.2 s a megabyte), so the worker calls it
 * from a pool thread; all it reads is immutable. */
#ifndef GAGGLE_WORKER_REQUEST_PREPARE_H
#define GAGGLE_WORKER_REQUEST_PREPARE_H

#include "worker/engine/engine.h"
#include "worker/text/chat_template.h"

typedef struct request_context {
    const model *model;
    const tokenizer *tokenizer;
    const chat_template *chat_template; /* NULL: the model has none, `messages` are refused */
    uint32_t context_max;               /* tokens of prompt and answer together */
} request_context;

/* ST_INVALID_ARGUMENT / ST_OUT_OF_RANGE with a sentence for people; *out is untouched then.
 * The request's key, priority and credit_end are left 0 for the caller. */
MUST_USE status request_prepare(engine_request **out, const request_context *context,
                                const msg_submit *submit, int64_t now_seconds, error *err);

#endif
