/* number: Python's int and float as text and back, and its rounding. */
#ifndef GAGGLE_WORKER_TEXT_JINJA_NUMBER_H
#define GAGGLE_WORKER_TEXT_JINJA_NUMBER_H

#include "worker/text/jinja/text.h"

/* repr(float): the shortest digits that read back as the same number. */
enum { NUMBER_TEXT_SIZE = 40 };
void number_repr(double d, char out[NUMBER_TEXT_SIZE]);

typedef enum number_parse { NUMBER_OK, NUMBER_MALFORMED, NUMBER_TOO_LARGE } number_parse;
/* int(text, base): white space around, a sign, '_' between digits, a prefix where base says so;
 * base 0 reads the prefix. */
number_parse number_parse_int(interp *in, const text *t, int64_t base, int64_t *out);
/* float(text): also "inf", "nan" and '_' between digits. */
number_parse number_parse_float(interp *in, const text *t, double *out);

/* round(d, digits): half to even of the exact value. */
double number_round(double d, int64_t digits);
/* a / b correctly rounded, b != 0. */
double number_divide(int64_t a, int64_t b);
/* False when d has no integer part in 64 bits. */
bool number_truncate(double d, int64_t *out);
/* <0, 0, >0 by exact value; d is not NaN. */
int number_compare(int64_t i, double d);

#endif
