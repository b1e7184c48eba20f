#include "common/check.h"
#include "worker/text/jinja/runtime.h"

/* -- captures and targets ---------------------------------------------------------------------- */

text *statements_capture(interp *in, environment *env, const node_list *body, flow *out)
{
    builder captured = {0}, *before = in->out;
    in->out = &captured;
    *out = statements_run(in, env, body);
    in->out = before;
    return builder_text(in, &captured);
}

static void unpack(interp *in, environment *env, const node_list *targets, value item)
{
    if (!iterable(item))
        interp_fail(in, "cannot unpack non-iterable %s object", value_type_name(item));
    iterator *it = iterate(in, item);
    sequence *parts = sequence_new(in, targets->count + 1);
    for (value part; parts->count <= targets->count && iterate_next(in, it, &part);)
        sequence_push(in, parts, part);
    if (parts->count < targets->count)
        interp_fail(in, "not enough values to unpack (expected %zu, got %zu)", targets->count,
                    parts->count);
    if (parts->count > targets->count)
        interp_fail(in, "too many values to unpack (expected %zu)", targets->count);
    for (size_t i = 0; i < targets->count; i++)
        target_assign(in, env, targets->items[i], parts->items[i]);
}

void target_assign(interp *in, environment *env, const node *target, value item)
{
    value object;
    switch (target->kind) {
    case NODE_NAME:
        *environment_slot(env, target->as.name.slot) = item;
        if (target->as.name.exported)
            dict_set(in, in->exported, value_text(target->as.name.name), item);
        break;
    case NODE_MEMBER_TARGET:
        object = *environment_slot(env, target->as.member.slot);
        if (object.kind != VALUE_NAMESPACE)
            interp_fail(in, "cannot assign attribute on non-namespace object");
        dict_set(in, object.as.dict, value_text(target->as.member.attribute), item);
        break;
    default:
        unpack(in, env, &target->as.items, item);
        break;
    }
}

/* What a call block or filter block gives must be a string, as "".join() wants it. */
static void write_text(interp *in, value v)
{
    if (v.kind != VALUE_TEXT)
        interp_fail(in, "expected str instance, %s found", value_type_name(v));
    builder_add_text(in, in->out, v.as.text);
}

/* -- loops ------------------------------------------------------------------------------------- */

size_t loop_length(interp *in, loop *l)
{
    if (l->length_known) return l->length;
    if (!value_sized(in, l->source, &l->length)) {
        /* What is left of a generator is taken now, and counted. */
        sequence *rest = collect(in, (value){.kind = VALUE_ITERATOR, .as.iterator = l->items});
        l->items = iterate(in, value_sequence(VALUE_LIST, rest));
        l->length = rest->count + (size_t)(l->index0 + 1) + (l->after.kind != VALUE_MISSING);
    }
    l->length_known = true;
    return l->length;
}

bool loop_peek(interp *in, loop *l, value *out)
{
    if (l->after.kind == VALUE_MISSING && !iterate_next(in, l->items, &l->after)) {
        l->after = value_missing();
        return false;
    }
    *out = l->after;
    return true;
}

static bool loop_next(interp *in, loop *l, value *out)
{
    if (!loop_peek(in, l, out)) return false;
    l->after = value_missing();
    l->index0++;
    l->before = l->now;
    l->now = *out;
    return true;
}

typedef struct loop_filter {
    environment *env;
    const for_node *form;
} loop_filter;

/* The item again, from the variables it was unpacked into. */
static value packed(environment *env, interp *in, const node *target)
{
    if (target->kind == NODE_NAME) return *environment_slot(env, target->as.name.slot);
    sequence *s = sequence_new(in, target->as.items.count);
    for (size_t i = 0; i < target->as.items.count; i++)
        sequence_push(in, s, packed(env, in, target->as.items.items[i]));
    return value_sequence(VALUE_TUPLE, s);
}

static bool next_passing(interp *in, iterator *it, value *out)
{
    loop_filter *filter = it->state;
    const for_node *form = filter->form;
    value item;
    while (iterate_next(in, it->source.as.iterator, &item)) {
        target_assign(in, filter->env, form->test_target, item);
        if (!value_truth(in, expression_run(in, filter->env, form->test))) continue;
        *out = packed(filter->env, in, form->test_target);
        return true;
    }
    return false;
}

static value filtered(interp *in, environment *env, const for_node *form, value items)
{
    if (form->test == NULL) return items;
    loop_filter *filter = interp_alloc(in, sizeof *filter);
    filter->form = form;
    filter->env = environment_new(in, &form->test_function, env);
    scope_enter(in, filter->env, &form->test_scope);
    value source = {.kind = VALUE_ITERATOR, .as.iterator = iterate(in, items)};
    return generator(in, next_passing, source, filter);
}

/* The loop over `items` in `env`, which is the loop's own when it is recursive. */
static flow run_loop(interp *in, environment *env, const for_node *form, value items, size_t depth0)
{
    loop state = {.index0 = -1, .source = items, .depth0 = depth0};
    loop *l = interp_alloc(in, sizeof *l); /* a template may keep it */
    *l = state;
    l->items = iterate(in, items);
    l->recursive = form->recursive ? form : NULL;
    l->outer = form->recursive ? env->outer : NULL;
    /* As in the compiled Python, `else` runs unless some turn came to its body's end. */
    bool turned = false;
    for (value item; loop_next(in, l, &item);) {
        target_assign(in, env, form->target, item);
        if (form->extended)
            env->slots[form->loop_slot.index] = (value){.kind = VALUE_LOOP, .as.loop = l};
        scope_enter(in, env, &form->body_scope);
        flow f = statements_run(in, env, &form->body);
        if (f == FLOW_BREAK) break;
        if (f == FLOW_ON) turned = true;
    }
    scope_leave(env, &form->body_scope);
    if (turned || form->otherwise.count == 0) return FLOW_ON;
    scope_enter(in, env, &form->else_scope);
    flow f = statements_run(in, env, &form->otherwise);
    scope_leave(env, &form->else_scope);
    return f;
}

static void run_recursive(interp *in, environment *outer, const for_node *form, value items,
                          size_t depth0)
{
    environment *env = environment_new(in, &form->function, outer);
    flow f = run_loop(in, env, form, filtered(in, outer, form, items), depth0);
    CHECK(f == FLOW_ON); /* scope.c refuses a break that would leave the function */
}

value loop_recurse(interp *in, const loop *outer, value items)
{
    if (outer->recursive == NULL)
        interp_fail(in, "The loop must have the 'recursive' marker to be called recursively.");
    builder captured = {0}, *before = in->out;
    interp_enter(in);
    in->out = &captured;
    run_recursive(in, outer->outer, outer->recursive, items, outer->depth0 + 1);
    in->out = before;
    interp_leave(in);
    return value_text(builder_text(in, &captured));
}

static flow run_for(interp *in, environment *env, const for_node *form)
{
    value items = expression_run(in, env, form->iterable);
    if (!form->recursive) return run_loop(in, env, form, filtered(in, env, form, items), 0);
    run_recursive(in, env, form, items, 0);
    return FLOW_ON;
}

/* -- other statements -------------------------------------------------------------------------- */

static flow run_if(interp *in, environment *env, const node *n)
{
    if (value_truth(in, expression_run(in, env, n->as.branch.test)))
        return statements_run(in, env, &n->as.branch.body);
    for (size_t i = 0; i < n->as.branch.elifs.count; i++) {
        const node *elif = n->as.branch.elifs.items[i];
        if (value_truth(in, expression_run(in, env, elif->as.branch.test)))
            return statements_run(in, env, &elif->as.branch.body);
    }
    return statements_run(in, env, &n->as.branch.otherwise);
}

static flow run_with(interp *in, environment *env, const node *n)
{
    scope_enter(in, env, &n->as.with.scope);
    for (size_t i = 0; i < n->as.with.targets.count; i++)
        target_assign(in, env, n->as.with.targets.items[i],
                      expression_run(in, env, n->as.with.values.items[i]));
    flow f = statements_run(in, env, &n->as.with.body);
    scope_leave(env, &n->as.with.scope);
    return f;
}

static void check_members(interp *in, environment *env, const node *target)
{
    if (target->kind == NODE_MEMBER_TARGET &&
        environment_slot(env, target->as.member.slot)->kind != VALUE_NAMESPACE)
        interp_fail(in, "cannot assign attribute on non-namespace object");
    for (size_t i = 0; target->kind == NODE_TUPLE && i < target->as.items.count; i++)
        check_members(in, env, target->as.items.items[i]);
}

static void run_set(interp *in, environment *env, const node *n)
{
    check_members(in, env, n->as.set.target);
    value item = expression_run(in, env, n->as.set.item);
    in->line = n->line;
    target_assign(in, env, n->as.set.target, item);
}

/* A chain of filters that ends in the captured text. */
static value run_capture_filter(interp *in, environment *env, const node *filter, value captured)
{
    if (filter == NULL) return captured;
    interp_enter(in);
    value subject = run_capture_filter(in, env, filter->as.apply.subject, captured);
    value result = expression_filter(in, env, filter, subject);
    interp_leave(in);
    return result;
}

static flow run_capture(interp *in, environment *env, const node *n)
{
    flow f;
    scope_enter(in, env, &n->as.capture.scope);
    text *captured = statements_capture(in, env, &n->as.capture.body, &f);
    if (f == FLOW_ON) {
        value result = run_capture_filter(in, env, n->as.capture.filter, value_text(captured));
        in->line = n->line;
        if (n->kind == NODE_FILTER_BLOCK)
            write_text(in, result);
        else
            target_assign(in, env, n->as.capture.target, result);
    }
    scope_leave(env, &n->as.capture.scope);
    return f;
}

static value make_macro(interp *in, environment *env, const macro_node *form)
{
    macro *m = interp_alloc(in, sizeof *m);
    m->node = form;
    m->outer = env;
    m->name = form->name;
    return (value){.kind = VALUE_MACRO, .as.macro = m};
}

static void run_macro(interp *in, environment *env, const node *n)
{
    value m = make_macro(in, env, n->as.macro);
    *environment_slot(env, n->as.macro->slot) = m;
    if (n->as.macro->exported) dict_set(in, in->exported, value_text(n->as.macro->name), m);
}

static void run_call_block(interp *in, environment *env, const node *n)
{
    value caller = make_macro(in, env, n->as.macro);
    const node *call = n->as.macro->call;
    if (call == NULL) {
        write_text(in, value_call(in, caller, &(arguments){0}));
        return;
    }
    value callee = expression_run(in, env, call->as.call.callee);
    arguments given = arguments_run(in, env, &call->as.call.arguments);
    in->line = n->line;
    arguments_add_name(in, &given, text_literal(in, "caller"), caller);
    write_text(in, value_call(in, callee, &given));
}

/* -- blocks ------------------------------------------------------------------------------------ */

const node *block_find(interp *in, const text *name)
{
    const node_list *blocks = &in->program->blocks;
    interp_spend_items(in, blocks->count);
    for (size_t i = 0; i < blocks->count; i++)
        if (text_same(blocks->items[i]->as.block->name, name)) return blocks->items[i];
    return NULL;
}

static void write_block(interp *in, const block_node *block)
{
    environment *env = environment_new(in, &block->function, NULL);
    if (block->takes_self) env->slots[block->self_slot] = (value){.kind = VALUE_SELF};
    interp_enter(in);
    scope_enter(in, env, &block->scope);
    flow f = statements_run(in, env, &block->body);
    CHECK(f == FLOW_ON); /* scope.c refuses a break that would leave the block */
    interp_leave(in);
}

value block_capture(interp *in, const node *block)
{
    builder captured = {0}, *before = in->out;
    in->out = &captured;
    write_block(in, block->as.block);
    in->out = before;
    return value_text(builder_text(in, &captured));
}

static void run_block(interp *in, environment *env, const node *n)
{
    const block_node *block = n->as.block;
    if (block->required)
        interp_fail(in, "Required block '%.*s' not found", (int)block->name->size,
                    block->name->bytes);
    if (!block->scoped) {
        write_block(in, block);
        return;
    }
    /* A context of its own, in which what is set around the block comes first. */
    dict *variables = in->variables, *exported = in->exported;
    dict *seen = dict_new(in);
    for (size_t i = 0; i < variables->count; i++)
        dict_set(in, seen, variables->entries[i].key, variables->entries[i].item);
    for (size_t i = 0; i < exported->count; i++)
        dict_set(in, seen, exported->entries[i].key, exported->entries[i].item);
    for (size_t i = 0; i < block->seen_count; i++) {
        value item = *environment_slot(env, block->seen_slots[i]);
        if (item.kind != VALUE_MISSING) dict_set(in, seen, value_text(block->seen_names[i]), item);
    }
    in->variables = seen;
    in->exported = dict_new(in);
    write_block(in, block);
    in->variables = variables;
    in->exported = exported;
}

/* -- all of them ------------------------------------------------------------------------------- */

static void run_output(interp *in, environment *env, const node *n)
{
    for (size_t i = 0; i < n->as.items.count; i++) {
        const node *part = n->as.items.items[i];
        if (part->kind == NODE_DATA)
            builder_add_text(in, in->out, part->as.data);
        else
            value_write(in, in->out, expression_run(in, env, part));
    }
}

static flow run_statement(interp *in, environment *env, const node *n)
{
    switch (n->kind) {
    case NODE_OUTPUT:
        run_output(in, env, n);
        return FLOW_ON;
    case NODE_FOR:
        return run_for(in, env, n->as.loop);
    case NODE_IF:
        return run_if(in, env, n);
    case NODE_WITH:
    case NODE_SCOPE:
        return run_with(in, env, n);
    case NODE_SET:
        run_set(in, env, n);
        return FLOW_ON;
    case NODE_SET_BLOCK:
    case NODE_FILTER_BLOCK:
        return run_capture(in, env, n);
    case NODE_MACRO:
        run_macro(in, env, n);
        return FLOW_ON;
    case NODE_CALL_BLOCK:
        run_call_block(in, env, n);
        return FLOW_ON;
    case NODE_BLOCK:
        run_block(in, env, n);
        return FLOW_ON;
    case NODE_BREAK:
        return FLOW_BREAK;
    case NODE_CONTINUE:
        return FLOW_CONTINUE;
    case NODE_REFUSED:
        interp_fail(in, "%s is not supported: a chat template stands alone", n->as.refused);
    default:
        interp_fail(in, "not a statement");
    }
}

flow statements_run(interp *in, environment *env, const node_list *body)
{
    interp_enter(in);
    for (size_t i = 0; i < body->count; i++) {
        interp_spend(in, 1);
        in->line = body->items[i]->line;
        flow f = run_statement(in, env, body->items[i]);
        if (f == FLOW_ON) continue;
        interp_leave(in);
        return f;
    }
    interp_leave(in);
    return FLOW_ON;
}

void program_run(interp *in, const program *p)
{
    environment *env = environment_new(in, &p->function, NULL);
    if (p->takes_self) env->slots[p->self_slot] = (value){.kind = VALUE_SELF};
    scope_enter(in, env, &p->scope);
    flow f = statements_run(in, env, &p->body);
    CHECK(f == FLOW_ON); /* scope.c refuses a break outside of a loop */
}
