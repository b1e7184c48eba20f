/* scope: gives every name of a parsed template its place.
 *
 * Jinja2 compiles a template to Python and decides there, before anything runs, which variable a
 * name means; the decisions are visible in renderings (a name that a template sets anywhere at
 * its top level is not looked up in the context inside a loop, say), so the same are taken here:
 *
 *   A scope (the template, a loop's body, a macro ...) has one variable for each name that is set
 *   in it, and one for each name that is read in it and known to no scope around it. On entry
 *   a name that is first read comes from the context; one that is first set is a copy of the
 *   outer scope's, or missing; one that only a branch of an `if` sets is a copy of the outer
 *   scope's or comes from the context. On exit all are missing again.
 *
 *   Macros, blocks, recursive loops and the filter of a loop are functions: their variables are
 *   new at each call. They see the variables around them as they are when they are read. */
#ifndef GAGGLE_WORKER_TEXT_JINJA_SCOPE_H
#define GAGGLE_WORKER_TEXT_JINJA_SCOPE_H

#include "worker/text/jinja/ast.h"

/* Also refuses what Jinja2's compiler refuses: unknown filters and tests outside of branches,
 * break outside a loop, two blocks of one name. */
void scope_resolve(interp *in, program *p);

#endif
