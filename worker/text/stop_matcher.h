/* stop_matcher: finds stop strings in streamed text and holds back what might become one.
 *
 * Text goes in as it is decoded, in pieces of any size; what comes out is safe to send: no byte
 * of it can be part of a stop string any more. The first byte that completes a stop string ends
 * the text; where it completes several, the longest wins. A function of the text alone.
 * One owner at a time. */
#ifndef GAGGLE_WORKER_TEXT_STOP_MATCHER_H
#define GAGGLE_WORKER_TEXT_STOP_MATCHER_H

#include <stdbool.h>

#include "common/limits.h"
#include "common/mem.h"

typedef struct stop_matcher stop_matcher;

/* strings   `count` of 0..LIMIT_STOP_STRINGS, each 1..LIMIT_STOP_STRING_BYTES bytes; copied */
stop_matcher *stop_matcher_create(const char *const *strings, const size_t *sizes, size_t count);
void stop_matcher_destroy(stop_matcher *m); /* NULL is fine */

/* Append to `safe` what can be sent. Returns true when a stop string is complete: text before it
 * has been appended, the rest is gone, and nothing may be pushed any more. Cost O(size). */
bool stop_matcher_push(stop_matcher *m, const void *text, size_t size, buffer *safe);

/* The answer ended for another reason: release what is held back. */
void stop_matcher_finish(stop_matcher *m, buffer *safe);

/* After push returned true: which of `strings` matched. */
size_t stop_matcher_matched(const stop_matcher *m);

#endif
