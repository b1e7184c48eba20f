/* byte_level: the alphabet of byte-level BPE: every byte has a printable letter of its own.
 *
 * Printable Latin-1 bytes stand for themselves; the other 68 bytes are U+0100 and up, in order. */
#ifndef GAGGLE_WORKER_TEXT_BYTE_LEVEL_H
#define GAGGLE_WORKER_TEXT_BYTE_LEVEL_H

#include <stdbool.h>

#include "common/mem.h"

/* Append the letters of `bytes` (1 or 2 bytes of UTF-8 each). */
void byte_level_append_letters(buffer *out, const char *bytes, size_t size);

/* Append the bytes that a token's letters stand for. A token with a character that is no letter
 * of the alphabet stands for its own bytes. `token` is valid UTF-8. */
void byte_level_append_bytes(buffer *out, const char *token, size_t size);

#endif
