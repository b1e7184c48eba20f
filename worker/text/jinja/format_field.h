/* format_field: one value as one field of a pattern: sign, digits, padding. */
#ifndef GAGGLE_WORKER_TEXT_JINJA_FORMAT_FIELD_H
#define GAGGLE_WORKER_TEXT_JINJA_FORMAT_FIELD_H

#include "worker/text/jinja/value.h"

/* Of a width or precision: wider than any text that could still be put out. */
enum { FIELD_NUMBER_MAX = 100000000 };

/* One field: how wide, how precise and in which notation. */
typedef struct field {
    text *fill; /* NULL: a space */
    char align; /* '<' '>' '^' '=' or 0 */
    char sign;  /* '+' ' ' '-' or 0 */
    bool alternate;
    bool zero;
    int64_t width;
    char grouping;     /* ',' '_' or 0 */
    int64_t precision; /* -1: none */
    char type;         /* 0: none */
} field;

/* At least `digits_min` digits. */
text *field_integer(interp *in, const field *f, int64_t number, int64_t digits_min);
text *field_float(interp *in, const field *f, double d);
/* `align` where the field has none. */
text *field_text(interp *in, const field *f, text *t, char align);
/* ascii(): what repr() wrote without characters beyond ASCII. */
text *field_ascii(interp *in, text *t);

/* The decimal number at `*at` (0 when there is none), which moves behind it. */
int64_t field_read_number(interp *in, const text *spec, size_t *at);
/* Is `c` at `*at`? Then `*at` moves behind it. */
bool field_take(const text *spec, size_t *at, char c);

#endif
