/* visit: the children of a node of ast.h. */
#ifndef GAGGLE_WORKER_TEXT_JINJA_VISIT_H
#define GAGGLE_WORKER_TEXT_JINJA_VISIT_H

#include "worker/text/jinja/ast.h"

/* Calls visit(state, child) for each child, in the order in which Jinja2 keeps them. */
void visit_children(const node *n, void (*visit)(void *state, node *child), void *state);

#endif
