/* chat_template: a model's Jinja chat template, rendered as transformers does.
 *
 * Interprets the part of Jinja2 3.1 that chat templates use, set up like transformers'
 * apply_chat_template: immutable sandbox, trim_blocks, lstrip_blocks, loop controls, its tojson,
 * raise_exception, strftime_now, the generation tag. An unknown filter, test or function is an
 * error that names it and its line, never an empty string. Bounded: steps, depth and output size
 * have limits, so that a hostile template ends with an error; less than 512 KiB of stack is used.
 *
 * Immutable after parse: any thread may render at once. */
#ifndef GAGGLE_WORKER_TEXT_CHAT_TEMPLATE_H
#define GAGGLE_WORKER_TEXT_CHAT_TEMPLATE_H

#include <jansson.h>

#include "common/mem.h"
#include "common/status.h"

typedef struct chat_template chat_template;

/* Where a model keeps it: DIR/chat_template.jinja, else tokenizer_config.json's "chat_template"
 * (a string, or a list of {name, template}: "default"). A list's "tool_use", or beside the file
 * DIR/additional_chat_templates/tool_use.jinja, takes its place where the context has tools.
 * ST_NOT_FOUND: the model has none. Else as chat_template_parse(). */
MUST_USE status chat_template_load(chat_template **out, const char *dir, error *err);

/* ST_INVALID_ARGUMENT: it does not parse, is no UTF-8 or is over LIMIT_CHAT_TEMPLATE_BYTES; `err`
 * has the line. ST_RESOURCE_EXHAUSTED: nested too deep. */
MUST_USE status chat_template_parse(chat_template **out, const char *source, size_t size,
                                    error *err);
void chat_template_destroy(chat_template *t); /* NULL is fine */

/* Render into `out` (appended).
 *
 * context   a JSON object: messages, tools, documents, add_generation_prompt, bos_token,
 *           eos_token and whatever else the caller defines; borrowed, not changed.
 *           chat_template_load() remembers the model's own bos_token and eos_token spellings;
 *           they are used where `context` has none.
 * now       seconds since the epoch, for strftime_now (UTC)
 * ST_INVALID_ARGUMENT   the template raised (raise_exception: `err` is its message) or failed
 *                       (`err` names line and reason); nothing was appended
 * ST_RESOURCE_EXHAUSTED a bound was hit */
MUST_USE status chat_template_render(const chat_template *t, const json_t *context, int64_t now,
                                     buffer *out, error *err);

#endif
