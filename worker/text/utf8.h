/* utf8: UTF-8 bytes <-> code points, and the few Unicode classes that tokenizers ask for.
 *
 * Pure functions; any thread. */
#ifndef GAGGLE_WORKER_TEXT_UTF8_H
#define GAGGLE_WORKER_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mem.h"

#define UTF8_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

typedef enum utf8_state {
    UTF8_CHARACTER,  /* the bytes begin with a whole character */
    UTF8_INVALID,    /* they begin with bytes that no continuation can save */
    UTF8_INCOMPLETE, /* all of them are the beginning of a character */
} utf8_state;

/* Look at the first character of `size` >= 1 bytes. *length: the bytes it takes (for
 * UTF8_INVALID: the maximal subpart, which one U+FFFD replaces; for UTF8_INCOMPLETE: size). */
utf8_state utf8_step(const void *bytes, size_t size, size_t *length);

bool utf8_valid(const void *bytes, size_t size);

/* Append `bytes` with every maximal invalid subpart replaced by one U+FFFD (the rule of Rust's
 * String::from_utf8_lossy and of the WHATWG decoder). */
void utf8_append_lossy(buffer *out, const void *bytes, size_t size);

/* The code point at `at` of valid UTF-8, and its length in bytes. */
uint32_t utf8_decode(const char *at, size_t *length);

/* Write one code point; returns its length, 1..4. */
size_t utf8_encode(uint32_t code_point, char out[4]);

void utf8_append(buffer *out, uint32_t code_point);

bool unicode_is_white_space(uint32_t code_point);    /* White_Space */
bool unicode_is_numeric(uint32_t code_point);        /* Nd, Nl, No */
bool unicode_is_punctuation(uint32_t code_point);    /* P* and ASCII punctuation */
bool unicode_is_word(uint32_t code_point);           /* \w of Rust's regular expressions */
bool unicode_is_combining_mark(uint32_t code_point); /* Mn, Mc, Me */

#endif
