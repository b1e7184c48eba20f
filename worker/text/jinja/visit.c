#include "worker/text/jinja/visit.h"

typedef struct visitor {
    void (*visit)(void *state, node *child);
    void *state;
} visitor;

static void one(const visitor *v, node *child)
{
    if (child != NULL) v->visit(v->state, child);
}

static void each(const visitor *v, const node_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        v->visit(v->state, list->items[i]);
}

static void arguments_of(const visitor *v, const call_arguments *a)
{
    each(v, &a->positional);
    each(v, &a->named);
    one(v, a->more_positional);
    one(v, a->more_named);
}

static void of_macro(const visitor *v, const macro_node *macro)
{
    one(v, macro->call);
    each(v, &macro->parameters);
    each(v, &macro->defaults);
    each(v, &macro->body);
}

static void of_loop(const visitor *v, const for_node *loop)
{
    one(v, loop->target);
    one(v, loop->iterable);
    each(v, &loop->body);
    each(v, &loop->otherwise);
    one(v, loop->test);
}

void visit_children(const node *n, void (*visit)(void *state, node *child), void *state)
{
    const visitor with = {visit, state}, *v = &with;
    switch (n->kind) {
    case NODE_CONSTANT:
    case NODE_NAME:
    case NODE_MEMBER_TARGET:
    case NODE_DATA:
    case NODE_BREAK:
    case NODE_CONTINUE:
    case NODE_REFUSED:
        break;
    case NODE_TUPLE:
    case NODE_LIST:
    case NODE_CONCAT:
    case NODE_OUTPUT:
        each(v, &n->as.items);
        break;
    case NODE_DICT:
        for (size_t i = 0; i < n->as.dict.keys.count; i++) {
            one(v, n->as.dict.keys.items[i]);
            one(v, n->as.dict.items.items[i]);
        }
        break;
    case NODE_CONDITION:
        one(v, n->as.condition.test);
        one(v, n->as.condition.yes);
        one(v, n->as.condition.no);
        break;
    case NODE_AND:
    case NODE_OR:
    case NODE_BINARY:
        one(v, n->as.binary.left);
        one(v, n->as.binary.right);
        break;
    case NODE_NOT:
    case NODE_NEGATE:
    case NODE_POSITIVE:
        one(v, n->as.operand);
        break;
    case NODE_COMPARE:
        one(v, n->as.compare.first);
        each(v, &n->as.compare.rest);
        break;
    case NODE_ATTRIBUTE:
        one(v, n->as.attribute.object);
        break;
    case NODE_ITEM:
        one(v, n->as.item.object);
        one(v, n->as.item.key);
        break;
    case NODE_SLICE:
        one(v, n->as.slice.start);
        one(v, n->as.slice.stop);
        one(v, n->as.slice.step);
        break;
    case NODE_CALL:
        one(v, n->as.call.callee);
        arguments_of(v, &n->as.call.arguments);
        break;
    case NODE_FILTER:
    case NODE_TEST:
        one(v, n->as.apply.subject);
        arguments_of(v, &n->as.apply.arguments);
        break;
    case NODE_FOR:
        of_loop(v, n->as.loop);
        break;
    case NODE_IF:
        one(v, n->as.branch.test);
        each(v, &n->as.branch.body);
        each(v, &n->as.branch.elifs);
        each(v, &n->as.branch.otherwise);
        break;
    case NODE_WITH:
    case NODE_SCOPE:
        each(v, &n->as.with.targets);
        each(v, &n->as.with.values);
        each(v, &n->as.with.body);
        break;
    case NODE_SET:
        one(v, n->as.set.target);
        one(v, n->as.set.item);
        break;
    case NODE_SET_BLOCK:
        one(v, n->as.capture.target);
        one(v, n->as.capture.filter);
        each(v, &n->as.capture.body);
        break;
    case NODE_FILTER_BLOCK:
        each(v, &n->as.capture.body);
        one(v, n->as.capture.filter);
        break;
    case NODE_MACRO:
    case NODE_CALL_BLOCK:
        of_macro(v, n->as.macro);
        break;
    case NODE_BLOCK:
        each(v, &n->as.block->body);
        break;
    }
}
