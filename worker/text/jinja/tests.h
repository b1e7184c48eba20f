/* tests: what may stand behind `is`. */
#ifndef GAGGLE_WORKER_TEXT_JINJA_TESTS_H
#define GAGGLE_WORKER_TEXT_JINJA_TESTS_H

#include "worker/text/jinja/value.h"

typedef struct test_row {
    const char *name;
    bool (*run)(interp *in, value subject, const value *given);
    const char *parameters; /* as for arguments_bind(), without the subject */
    uint8_t required;
} test_row;

/* NULL when there is no such test. */
const test_row *test_find(const text *name);
bool test_run(interp *in, const test_row *row, value subject, const arguments *given);

#endif
