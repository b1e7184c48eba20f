/* runtime: what runs a resolved template. expression.c evaluates, statement.c executes, call.c
 * calls; the structs that only a run has are here. */
#ifndef GAGGLE_WORKER_TEXT_JINJA_RUNTIME_H
#define GAGGLE_WORKER_TEXT_JINJA_RUNTIME_H

#include "worker/text/jinja/ast.h"
#include "worker/text/jinja/iterate.h"

/* The variables of one call of one function (scope.h). */
typedef struct environment {
    struct environment *outer;
    value slots[];
} environment;

typedef struct macro {
    const macro_node *node;
    environment *outer;
    text *name; /* NULL: the body of a call block */
} macro;

/* The variable `loop`. */
typedef struct loop {
    iterator *items;
    value source;
    int64_t index0;
    value before;
    value now;
    value after; /* already taken from `items`; VALUE_MISSING: not */
    value last_changed;
    bool length_known;
    size_t length;
    size_t depth0;
    const for_node *recursive; /* NULL: loop() is an error */
    environment *outer;
} loop;

typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;

environment *environment_new(interp *in, const function_info *info, environment *outer);
value *environment_slot(environment *env, slot_ref where);
void scope_enter(interp *in, environment *env, const scope *s);
void scope_leave(environment *env, const scope *s);

value expression_run(interp *in, environment *env, const node *n);
/* Evaluate what a call's parentheses hold. */
arguments arguments_run(interp *in, environment *env, const call_arguments *a);
void arguments_add_name(interp *in, arguments *a, const text *name, value item);
/* Apply a filter node to `subject`. */
value expression_filter(interp *in, environment *env, const node *n, value subject);

flow statements_run(interp *in, environment *env, const node_list *body);
/* The whole template, into in->out. */
void program_run(interp *in, const program *p);
/* What the body writes, as text. */
text *statements_capture(interp *in, environment *env, const node_list *body, flow *out);
/* Assign to a name, ns.name or a tuple of them. */
void target_assign(interp *in, environment *env, const node *target, value item);
/* loop(items): one level deeper. */
value loop_recurse(interp *in, const loop *outer, value items);
size_t loop_length(interp *in, loop *l);
bool loop_peek(interp *in, loop *l, value *out);
/* self.name() */
value block_capture(interp *in, const node *block);
/* The block of the program by name; NULL when there is none. */
const node *block_find(interp *in, const text *name);

/* The variables every template has: range, namespace, raise_exception ... */
void globals_add(interp *in, dict *variables);

#endif
