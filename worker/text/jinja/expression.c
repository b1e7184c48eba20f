#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/runtime.h"
#include "worker/text/jinja/tests.h"

/* -- variables --------------------------------------------------------------------------------- */

environment *environment_new(interp *in, const function_info *info, environment *outer)
{
    size_t slots = (size_t)info->slot_count * sizeof(value);
    environment *env = interp_alloc(in, sizeof *env + slots);
    env->outer = outer;
    return env; /* zeroed: every slot is VALUE_MISSING */
}

value *environment_slot(environment *env, slot_ref where)
{
    for (uint32_t i = 0; i < where.hops; i++)
        env = env->outer;
    return &env->slots[where.index];
}

static value from_context(interp *in, const text *name)
{
    value *found = dict_find_text(in, in->exported, name);
    if (found == NULL) found = dict_find_text(in, in->variables, name);
    return found != NULL ? *found : value_missing();
}

void scope_enter(interp *in, environment *env, const scope *s)
{
    interp_spend(in, s->count);
    for (size_t i = 0; i < s->count; i++) {
        const load *l = &s->loads[i];
        switch (l->kind) {
        case LOAD_NOTHING:
            break;
        case LOAD_MISSING:
            env->slots[l->slot] = value_missing();
            break;
        case LOAD_CONTEXT:
            env->slots[l->slot] = from_context(in, l->name);
            break;
        case LOAD_OUTER:
            env->slots[l->slot] = *environment_slot(env, l->outer);
            break;
        }
    }
}

void scope_leave(environment *env, const scope *s)
{
    for (size_t i = 0; i < s->count; i++)
        env->slots[s->loads[i].slot] = value_missing();
}

/* -- parts of expressions ---------------------------------------------------------------------- */

static sequence *run_items(interp *in, environment *env, const node_list *items)
{
    sequence *s = sequence_new(in, items->count);
    for (size_t i = 0; i < items->count; i++)
        sequence_push(in, s, expression_run(in, env, items->items[i]));
    return s;
}

static value run_dict(interp *in, environment *env, const node *n)
{
    dict *d = dict_new(in);
    for (size_t i = 0; i < n->as.dict.keys.count; i++) {
        value key = expression_run(in, env, n->as.dict.keys.items[i]);
        dict_set(in, d, key, expression_run(in, env, n->as.dict.items.items[i]));
    }
    return value_dict(d);
}

static value run_condition(interp *in, environment *env, const node *n)
{
    if (value_truth(in, expression_run(in, env, n->as.condition.test)))
        return expression_run(in, env, n->as.condition.yes);
    if (n->as.condition.no != NULL) return expression_run(in, env, n->as.condition.no);
    return value_undefined_hint(
        in, "the inline if-expression evaluated to false and no else section was defined.");
}

static value run_concat(interp *in, environment *env, const node *n)
{
    sequence *parts = run_items(in, env, &n->as.items);
    builder out = {0};
    for (size_t i = 0; i < parts->count; i++)
        value_write(in, &out, parts->items[i]);
    return value_text(builder_text(in, &out));
}

static bool compare_pair(interp *in, compare_kind kind, value left, value right)
{
    switch (kind) {
    case COMPARE_EQUAL:
        return value_equal(in, left, right);
    case COMPARE_NOT_EQUAL:
        return !value_equal(in, left, right);
    case COMPARE_IN:
        return value_contains(in, right, left);
    case COMPARE_NOT_IN:
        return !value_contains(in, right, left);
    default:
        return value_compare(in, (comparison)kind, left, right);
    }
}

/* a < b < c is a < b and b < c. */
static value run_compare(interp *in, environment *env, const node *n)
{
    value left = expression_run(in, env, n->as.compare.first);
    for (size_t i = 0; i < n->as.compare.rest.count; i++) {
        value right = expression_run(in, env, n->as.compare.rest.items[i]);
        if (!compare_pair(in, n->as.compare.kinds[i], left, right)) return value_bool(false);
        left = right;
    }
    return value_bool(true);
}

static value run_bound(interp *in, environment *env, const node *bound)
{
    return bound != NULL ? expression_run(in, env, bound) : value_none();
}

static value run_item(interp *in, environment *env, const node *n)
{
    value object = expression_run(in, env, n->as.item.object);
    const node *key = n->as.item.key;
    if (key->kind != NODE_SLICE) return value_item(in, object, expression_run(in, env, key));
    value start = run_bound(in, env, key->as.slice.start);
    value stop = run_bound(in, env, key->as.slice.stop);
    return value_slice(in, object, start, stop, run_bound(in, env, key->as.slice.step));
}

void arguments_add_name(interp *in, arguments *a, const text *name, value item)
{
    interp_spend_items(in, a->named_count);
    for (size_t i = 0; i < a->named_count; i++)
        if (text_same(a->named[i].name, name))
            interp_fail(in, "a call got multiple values for keyword argument '%.*s'",
                        (int)name->size, name->bytes);
    a->named[a->named_count++] = (named_argument){name, item};
}

arguments arguments_run(interp *in, environment *env, const call_arguments *a)
{
    sequence *positional = run_items(in, env, &a->positional);
    size_t named_max = a->named.count + 1; /* room for a call block's caller */
    dict *more = NULL;
    if (a->more_positional != NULL) {
        iterator *it = iterate(in, expression_run(in, env, a->more_positional));
        for (value item; iterate_next(in, it, &item);)
            sequence_push(in, positional, item);
    }
    if (a->more_named != NULL) {
        value mapping = expression_run(in, env, a->more_named);
        if (mapping.kind != VALUE_DICT) interp_fail(in, "argument after ** must be a mapping");
        more = mapping.as.dict;
        named_max += more->count;
    }
    arguments given = {.positional = positional->items, .count = positional->count};
    given.named = interp_alloc_array(in, named_max, sizeof *given.named);
    for (size_t i = 0; i < a->named.count; i++)
        arguments_add_name(in, &given, a->names[i], expression_run(in, env, a->named.items[i]));
    for (size_t i = 0; more != NULL && i < more->count; i++) {
        if (more->entries[i].key.kind != VALUE_TEXT) interp_fail(in, "keywords must be strings");
        arguments_add_name(in, &given, more->entries[i].key.as.text, more->entries[i].item);
    }
    return given;
}

value expression_filter(interp *in, environment *env, const node *n, value subject)
{
    arguments given = arguments_run(in, env, &n->as.apply.arguments);
    in->line = n->line;
    if (n->as.apply.row == NULL)
        interp_fail(in, "No filter named '%.*s' found.", (int)n->as.apply.name->size,
                    n->as.apply.name->bytes);
    return filter_run(in, n->as.apply.row, subject, &given);
}

static value run_test(interp *in, environment *env, const node *n)
{
    value subject = expression_run(in, env, n->as.apply.subject);
    arguments given = arguments_run(in, env, &n->as.apply.arguments);
    in->line = n->line;
    if (n->as.apply.row == NULL)
        interp_fail(in, "No test named '%.*s' found.", (int)n->as.apply.name->size,
                    n->as.apply.name->bytes);
    return value_bool(test_run(in, n->as.apply.row, subject, &given));
}

static value run_call(interp *in, environment *env, const node *n)
{
    value callee = expression_run(in, env, n->as.call.callee);
    arguments given = arguments_run(in, env, &n->as.call.arguments);
    in->line = n->line;
    return value_call(in, callee, &given);
}

static value run_name(interp *in, environment *env, const node *n)
{
    value v = *environment_slot(env, n->as.name.slot);
    return v.kind == VALUE_MISSING ? value_undefined_name(in, n->as.name.name) : v;
}

static value run_binary(interp *in, environment *env, const node *n)
{
    value left = expression_run(in, env, n->as.binary.left);
    value right = expression_run(in, env, n->as.binary.right);
    in->line = n->line;
    return value_binary(in, n->as.binary.op, left, right);
}

static value run_node(interp *in, environment *env, const node *n)
{
    value left;
    switch (n->kind) {
    case NODE_CONSTANT:
        return n->as.constant;
    case NODE_DATA:
        return value_text(n->as.data);
    case NODE_NAME:
        return run_name(in, env, n);
    case NODE_TUPLE:
        return value_sequence(VALUE_TUPLE, run_items(in, env, &n->as.items));
    case NODE_LIST:
        return value_sequence(VALUE_LIST, run_items(in, env, &n->as.items));
    case NODE_DICT:
        return run_dict(in, env, n);
    case NODE_CONDITION:
        return run_condition(in, env, n);
    case NODE_AND:
        left = expression_run(in, env, n->as.binary.left);
        return value_truth(in, left) ? expression_run(in, env, n->as.binary.right) : left;
    case NODE_OR:
        left = expression_run(in, env, n->as.binary.left);
        return value_truth(in, left) ? left : expression_run(in, env, n->as.binary.right);
    case NODE_NOT:
        return value_bool(!value_truth(in, expression_run(in, env, n->as.operand)));
    case NODE_NEGATE:
        return value_negate(in, expression_run(in, env, n->as.operand));
    case NODE_POSITIVE:
        return value_positive(in, expression_run(in, env, n->as.operand));
    case NODE_BINARY:
        return run_binary(in, env, n);
    case NODE_CONCAT:
        return run_concat(in, env, n);
    case NODE_COMPARE:
        return run_compare(in, env, n);
    case NODE_ATTRIBUTE:
        return value_attribute(in, expression_run(in, env, n->as.attribute.object),
                               n->as.attribute.name);
    case NODE_ITEM:
        return run_item(in, env, n);
    case NODE_CALL:
        return run_call(in, env, n);
    case NODE_FILTER:
        return expression_filter(in, env, n, expression_run(in, env, n->as.apply.subject));
    case NODE_TEST:
        return run_test(in, env, n);
    default:
        interp_fail(in, "not an expression");
    }
}

value expression_run(interp *in, environment *env, const node *n)
{
    interp_enter(in);
    interp_spend(in, 1);
    in->line = n->line;
    value result = run_node(in, env, n);
    interp_leave(in);
    return result;
}
