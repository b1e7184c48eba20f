/* text: Python's str. UTF-8 inside, code points outside; a lone surrogate (from "\ud800" in a
 * template) is held as its three-byte form and refused when it reaches the output. */
#ifndef GAGGLE_WORKER_TEXT_JINJA_TEXT_H
#define GAGGLE_WORKER_TEXT_JINJA_TEXT_H

#include "worker/text/jinja/interp.h"

typedef struct text {
    const char *bytes; /* not NUL-terminated */
    size_t size;
    size_t length; /* code points; TEXT_UNCOUNTED until asked for */
} text;
#define TEXT_UNCOUNTED SIZE_MAX

/* A growing text. Its memory is the arena's. */
typedef struct builder {
    char *bytes;
    size_t size;
    size_t capacity;
} builder; /* {0} is empty */

void builder_add(interp *in, builder *b, const char *bytes, size_t size);
void builder_add_literal(interp *in, builder *b, const char *literal);
void builder_add_text(interp *in, builder *b, const text *t);
void builder_add_character(interp *in, builder *b, uint32_t character);
void builder_fill(interp *in, builder *b, char byte, size_t count);
void builder_format(interp *in, builder *b, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
text *builder_text(interp *in, const builder *b);

/* Borrows the bytes. */
text *text_new(interp *in, const char *bytes, size_t size);
text *text_literal(interp *in, const char *literal);
bool text_same(const text *a, const text *b);
bool text_is(const text *t, const char *literal);
int text_compare(const text *a, const text *b); /* by code point */

size_t text_length(interp *in, text *t);
bool text_ascii(interp *in, text *t);
/* Where code point `index` (0..length) begins. */
size_t text_offset(interp *in, text *t, size_t index);
/* How many code points lie before byte `offset`. */
size_t text_index(interp *in, text *t, size_t offset);
/* Code points start..stop of it, 0 <= start <= stop <= length. */
text *text_part(interp *in, text *t, size_t start, size_t stop);
/* The same by bytes, on code point borders. */
text *text_bytes(interp *in, const text *t, size_t start, size_t stop);

/* Byte offset of `needle` in bytes from..to, or TEXT_NOT_FOUND. */
#define TEXT_NOT_FOUND SIZE_MAX
size_t text_find(interp *in, const text *t, const text *needle, size_t from, size_t to);
size_t text_find_last(interp *in, const text *t, const text *needle, size_t from, size_t to);

/* The code point at `*offset`, which moves behind it. */
uint32_t text_next(const text *t, size_t *offset);
/* The one that ends at `*offset`, which moves before it. */
uint32_t text_previous(const text *t, size_t *offset);
/* Writes 1..4 bytes; returns how many. */
size_t text_encode(uint32_t character, char out[4]);
/* Where ill-formed UTF-8 begins, or `size`. */
size_t text_well_formed(const char *bytes, size_t size);

/* str.strip() and halves of it; `characters` NULL means white space. */
text *text_strip(interp *in, text *t, const text *characters, bool left, bool right);
text *text_upper(interp *in, text *t);
text *text_lower(interp *in, text *t);
text *text_capitalize(interp *in, text *t);
text *text_title(interp *in, text *t);
text *text_swapcase(interp *in, text *t);
text *text_casefold(interp *in, text *t);
/* At most `count` replacements; negative: all. */
text *text_replace(interp *in, text *t, const text *old, const text *fresh, int64_t count);
/* Pushed left or right, or centered, in `width` code points. An odd place goes to the right in the
 * middle of a format; str.center() puts it to the left when the width is odd. */
typedef enum alignment { ALIGN_LEFT, ALIGN_RIGHT, ALIGN_MIDDLE, ALIGN_CENTER } alignment;
text *text_pad(interp *in, text *t, int64_t width, const text *fill, alignment where);
text *text_escape(interp *in, text *t); /* & < > ' " for HTML */

/* Some character is of that case, and none of another. */
bool text_is_cased(interp *in, const text *t, bool upper);

bool character_is_space(uint32_t c);
bool character_is_line_end(uint32_t c);
bool character_is_alpha(uint32_t c);
bool character_is_decimal(uint32_t c);
bool character_is_digit(uint32_t c);
bool character_is_numeric(uint32_t c);
bool character_is_lower(uint32_t c);
bool character_is_upper(uint32_t c);
bool character_is_title(uint32_t c);
bool character_is_printable(uint32_t c);
bool character_starts_name(uint32_t c);
bool character_continues_name(uint32_t c);
int character_decimal_value(uint32_t c); /* -1 when it is none */

#endif
