/* iterate: Python's iteration. Generators (map, select, a loop's `if` ...) are lazy here as they
 * are there: templates can see it, in what is truthy, in what has a length, in when errors come
 * and in a namespace that changes between two steps. */
#ifndef GAGGLE_WORKER_TEXT_JINJA_ITERATE_H
#define GAGGLE_WORKER_TEXT_JINJA_ITERATE_H

#include "worker/text/jinja/value.h"

typedef struct iterator {
    /* The next item, or false at the end; then it is not called again. */
    bool (*next)(interp *in, struct iterator *it, value *out);
    const char *type_name; /* Python's */
    bool done;
    value source;
    size_t position;
    void *state; /* next()'s own */
} iterator;

/* iter(v); fails when `v` cannot be iterated. An iterator gives itself. */
iterator *iterate(interp *in, value v);
bool iterate_next(interp *in, iterator *it, value *out);
bool iterable(value v);
/* reversed(v); NULL when `v` cannot be reversed. */
iterator *iterate_backward(interp *in, value v);
/* A generator around next(); its type is "generator". */
value generator(interp *in, bool (*next)(interp *, iterator *, value *), value source, void *state);
/* list(v) */
sequence *collect(interp *in, value v);

int64_t range_item(const range *r, int64_t index);
bool range_contains(const range *r, int64_t number);
/* Item `index` of a view. */
value view_item(interp *in, const view *v, size_t index);

#endif
