/* value_call() and the ways arguments find their parameters. */
#include <string.h>

#include "common/check.h"
#include "worker/text/jinja/runtime.h"

/* -- built-in functions, methods, filters and tests -------------------------------------------- */

static size_t word_length(const char *at)
{
    size_t length = 0;
    while (at[length] != '\0' && at[length] != ' ')
        length++;
    return length;
}

/* The number of the parameter, or `count` when there is none of that name. */
static size_t find_parameter(const char *parameters, size_t count, const text *name)
{
    const char *at = parameters;
    for (size_t i = 0; i < count; i++) {
        size_t length = word_length(at);
        if (length == name->size && memcmp(at, name->bytes, length) == 0) return i;
        at += length + (at[length] == ' ');
    }
    return count;
}

void arguments_bind(interp *in, const char *what, const char *parameters, size_t required,
                    const arguments *given, value out[PARAMETERS_MAX])
{
    size_t count = 0;
    for (const char *at = parameters; *at != '\0'; count++) {
        at += word_length(at);
        at += *at == ' ';
    }
    CHECK(count <= PARAMETERS_MAX);
    for (size_t i = 0; i < PARAMETERS_MAX; i++)
        out[i] = value_missing();
    if (given->count > count)
        interp_fail(in, "%s takes at most %zu arguments (%zu given)", what, count, given->count);
    for (size_t i = 0; i < given->count; i++)
        out[i] = given->positional[i];
    for (size_t i = 0; i < given->named_count; i++) {
        const text *name = given->named[i].name;
        size_t at = find_parameter(parameters, count, name);
        if (at == count)
            interp_fail(in, "%s has no argument '%.*s'", what, (int)name->size, name->bytes);
        if (out[at].kind != VALUE_MISSING)
            interp_fail(in, "%s got multiple values for argument '%.*s'", what, (int)name->size,
                        name->bytes);
        out[at] = given->named[i].item;
    }
    for (size_t i = 0; i < required; i++)
        if (out[i].kind == VALUE_MISSING)
            interp_fail(in, "%s needs at least %zu arguments", what, required);
}

static value call_method(interp *in, const method *m, const arguments *given)
{
    value bound[PARAMETERS_MAX];
    if (m->row->run_open != NULL) return m->row->run_open(in, m->self, given);
    arguments_bind(in, m->row->name, m->row->parameters, m->row->required, given, bound);
    return m->row->run(in, m->self, bound);
}

/* -- macros ------------------------------------------------------------------------------------ */

typedef struct macro_call {
    const macro *macro;
    const arguments *given;
    bool *used; /* of given->named */
    environment *env;
} macro_call;

/* The argument of that name, which is then used; VALUE_MISSING when there is none. */
static value take_named(interp *in, macro_call *call, const text *name)
{
    interp_spend_items(in, call->given->named_count);
    for (size_t i = 0; i < call->given->named_count; i++) {
        if (call->used[i] || !text_same(call->given->named[i].name, name)) continue;
        call->used[i] = true;
        return call->given->named[i].item;
    }
    return value_missing();
}

static void set_caller(interp *in, macro_call *call)
{
    const macro_node *form = call->macro->node;
    if (!form->takes_caller || form->explicit_caller) return;
    value caller = take_named(in, call, text_literal(in, "caller"));
    if (caller.kind == VALUE_MISSING || caller.kind == VALUE_NONE)
        caller = value_undefined_hint(in, "No caller defined");
    call->env->slots[form->caller_slot] = caller;
}

/* What no parameter took goes to kwargs and varargs, or is one too many. */
static void set_rest(interp *in, macro_call *call)
{
    const macro_node *form = call->macro->node;
    const arguments *given = call->given;
    const text *name = call->macro->name;
    int size = name != NULL ? (int)name->size : 6;
    const char *bytes = name != NULL ? name->bytes : "caller";
    dict *named = dict_new(in);
    for (size_t i = 0; i < given->named_count; i++) {
        if (call->used[i]) continue;
        const text *key = given->named[i].name;
        if (!form->takes_named && text_is(key, "caller"))
            interp_fail(in,
                        "macro '%.*s' was invoked with two values for the special caller "
                        "argument. This is most likely a bug.",
                        size, bytes);
        if (!form->takes_named)
            interp_fail(in, "macro '%.*s' takes no keyword argument '%.*s'", size, bytes,
                        (int)key->size, key->bytes);
        dict_set(in, named, value_text(text_new(in, key->bytes, key->size)), given->named[i].item);
    }
    if (form->takes_named) call->env->slots[form->named_slot] = value_dict(named);
    size_t taken = form->parameters.count;
    if (!form->takes_more && given->count > taken)
        interp_fail(in, "macro '%.*s' takes not more than %zu argument(s)", size, bytes, taken);
    if (!form->takes_more) return;
    sequence *more = sequence_new(in, 0);
    for (size_t i = taken; i < given->count; i++)
        sequence_push(in, more, given->positional[i]);
    call->env->slots[form->more_slot] = value_sequence(VALUE_TUPLE, more);
}

/* Defaults see the parameters before them. */
static void set_defaults(interp *in, environment *env, const macro_node *form)
{
    size_t required = form->parameters.count - form->defaults.count;
    for (size_t i = 0; i < form->parameters.count; i++) {
        const node_list *parameters = &form->parameters;
        value *slot = &env->slots[parameters->items[i]->as.name.slot.index];
        if (slot->kind != VALUE_MISSING) continue;
        if (i >= required) {
            *slot = expression_run(in, env, form->defaults.items[i - required]);
            continue;
        }
        const text *name = parameters->items[i]->as.name.name;
        builder hint = {0};
        builder_format(in, &hint, "parameter '%.*s' was not provided", (int)name->size,
                       name->bytes);
        builder_add(in, &hint, "", 1);
        *slot = value_undefined_hint(in, hint.bytes);
    }
}

static value call_macro(interp *in, const macro *m, const arguments *given)
{
    const macro_node *form = m->node;
    macro_call call = {.macro = m, .given = given};
    call.used = interp_alloc(in, given->named_count);
    call.env = environment_new(in, &form->function, m->outer);
    for (size_t i = 0; i < form->parameters.count; i++) {
        const node_list *parameters = &form->parameters;
        uint32_t slot = parameters->items[i]->as.name.slot.index;
        call.env->slots[slot] = i < given->count
                                    ? given->positional[i]
                                    : take_named(in, &call, parameters->items[i]->as.name.name);
    }
    set_caller(in, &call);
    set_rest(in, &call);
    interp_enter(in);
    scope_enter(in, call.env, &form->scope);
    set_defaults(in, call.env, form);
    flow f;
    text *written = statements_capture(in, call.env, &form->body, &f);
    CHECK(f == FLOW_ON); /* scope.c refuses a break that would leave the macro */
    interp_leave(in);
    return value_text(written);
}

/* -- the rest ---------------------------------------------------------------------------------- */

static value call_joiner(interp *in, joiner *j)
{
    if (j->used) return j->separator;
    j->used = true;
    return value_literal(in, "");
}

static value call_loop(interp *in, const loop *l, const arguments *given)
{
    value bound[PARAMETERS_MAX];
    arguments_bind(in, "loop", "iterable", 1, given, bound);
    return loop_recurse(in, l, bound[0]);
}

bool value_callable(value v)
{
    switch (v.kind) {
    case VALUE_UNDEFINED:
    case VALUE_FUNCTION:
    case VALUE_METHOD:
    case VALUE_MACRO:
    case VALUE_LOOP:
    case VALUE_JOINER:
    case VALUE_BLOCK:
        return true;
    default:
        return false;
    }
}

value value_call(interp *in, value callee, const arguments *given)
{
    switch (callee.kind) {
    case VALUE_FUNCTION:
        return callee.as.builtin->run(in, given);
    case VALUE_METHOD:
        return call_method(in, callee.as.method, given);
    case VALUE_MACRO:
        return call_macro(in, callee.as.macro, given);
    case VALUE_LOOP:
        return call_loop(in, callee.as.loop, given);
    case VALUE_JOINER:
        return call_joiner(in, callee.as.joiner);
    case VALUE_BLOCK:
        return block_capture(in, callee.as.block);
    case VALUE_UNDEFINED:
        value_fail_undefined(in, callee.as.undefined);
    default:
        interp_fail(in, "'%s' object is not callable", value_type_name(callee));
    }
}
