/* prompt_line: one request as a line of JSON, for the commands that run without a router.
 *
 *   {"prompt": "Once upon a time", "max_tokens": 64, "temperature": 0}
 *
 * Exactly one of "prompt" (text), "ids" and "messages" ([{"role":..., "content":...}]); everything
 * else has the name and the meaning that gaggle.proto's Submit and Sampling give it. An unknown
 * field is refused by name. */
#ifndef GAGGLE_WORKER_PROMPT_LINE_H
#define GAGGLE_WORKER_PROMPT_LINE_H

#include "common/mem.h"
#include "proto/envelope.h"

/* `submit` points into the arena; ranges are for request_prepare() to check.
 * ST_INVALID_ARGUMENT: `err` names the field, what was expected and what was found. */
MUST_USE status prompt_line_parse(msg_submit *submit, const char *line, size_t size, arena *a,
                                  error *err);

#endif
