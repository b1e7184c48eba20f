/* object.name, object[key] and object[a:b:c]. */
#include <string.h>

#include "worker/text/jinja/members.h"
#include "worker/text/jinja/runtime.h"

typedef enum lookup { LOOKUP_NONE, LOOKUP_FOUND, LOOKUP_UNSAFE } lookup;

static const method_row *find_row(const method_row *rows, const text *name)
{
    for (; rows->name != NULL; rows++)
        if (text_is(name, rows->name)) return rows;
    return NULL;
}

static lookup find_method(interp *in, const method_row *rows, value self, const text *name,
                          value *out)
{
    const method_row *row = find_row(rows, name);
    if (row == NULL) return LOOKUP_NONE;
    if (row->run == NULL && row->run_open == NULL) return LOOKUP_UNSAFE;
    method *m = interp_alloc(in, sizeof *m);
    *m = (method){.self = self, .row = row};
    *out = (value){.kind = VALUE_METHOD, .as.method = m};
    return LOOKUP_FOUND;
}

static lookup find_loop_member(interp *in, value self, const text *name, value *out)
{
    loop *l = self.as.loop;
    int64_t index0 = l->index0;
    value peeked;
    if (text_is(name, "index0"))
        *out = value_int(index0);
    else if (text_is(name, "index"))
        *out = value_int(index0 + 1);
    else if (text_is(name, "first"))
        *out = value_bool(index0 == 0);
    else if (text_is(name, "last"))
        *out = value_bool(!loop_peek(in, l, &peeked));
    else if (text_is(name, "length"))
        *out = value_int((int64_t)loop_length(in, l));
    else if (text_is(name, "revindex0"))
        *out = value_int((int64_t)loop_length(in, l) - index0 - 1);
    else if (text_is(name, "revindex"))
        *out = value_int((int64_t)loop_length(in, l) - index0);
    else if (text_is(name, "depth0"))
        *out = value_int((int64_t)l->depth0);
    else if (text_is(name, "depth"))
        *out = value_int((int64_t)l->depth0 + 1);
    else if (text_is(name, "previtem"))
        *out = index0 == 0 ? value_undefined_hint(in, "there is no previous item") : l->before;
    else if (text_is(name, "nextitem"))
        *out =
            loop_peek(in, l, &peeked) ? peeked : value_undefined_hint(in, "there is no next item");
    else
        return find_method(in, loop_methods, self, name, out);
    return LOOKUP_FOUND;
}

static lookup find_macro_member(interp *in, const macro *m, const text *name, value *out)
{
    const macro_node *form = m->node;
    if (text_is(name, "name")) {
        *out = m->name != NULL ? value_text(m->name) : value_none();
    } else if (text_is(name, "arguments")) {
        sequence *names = sequence_new(in, form->parameters.count);
        for (size_t i = 0; i < form->parameters.count; i++)
            sequence_push(in, names, value_text(form->parameters.items[i]->as.name.name));
        *out = value_sequence(VALUE_TUPLE, names);
    } else if (text_is(name, "catch_kwargs")) {
        *out = value_bool(form->takes_named);
    } else if (text_is(name, "catch_varargs")) {
        *out = value_bool(form->takes_more);
    } else if (text_is(name, "caller")) {
        *out = value_bool(form->takes_caller);
    } else if (text_is(name, "explicit_caller")) {
        *out = value_bool(form->explicit_caller);
    } else {
        return LOOKUP_NONE;
    }
    return LOOKUP_FOUND;
}

static lookup find_number_member(interp *in, value self, const text *name, value *out)
{
    int64_t whole;
    bool integer = value_is_integer(self, &whole);
    if (text_is(name, "real") || (integer && text_is(name, "numerator")))
        *out = integer ? value_int(whole) : self;
    else if (text_is(name, "imag"))
        *out = integer ? value_int(0) : value_float(0);
    else if (integer && text_is(name, "denominator"))
        *out = value_int(1);
    else
        return find_method(in, integer ? integer_methods : float_methods, self, name, out);
    return LOOKUP_FOUND;
}

static lookup find_text_member(interp *in, value self, const text *name, value *out)
{
    lookup found = find_method(in, text_methods, self, name, out);
    if (found == LOOKUP_NONE) found = find_method(in, text_questions, self, name, out);
    if (found != LOOKUP_NONE || !self.safe) return found;
    return find_method(in, markup_methods, self, name, out);
}

static lookup find_tuple_member(interp *in, value self, const text *name, value *out)
{
    if (self.as.sequence->group && (text_is(name, "grouper") || text_is(name, "list"))) {
        *out = self.as.sequence->items[text_is(name, "list")];
        return LOOKUP_FOUND;
    }
    return find_method(in, tuple_methods, self, name, out);
}

static lookup find_range_member(const range *r, const text *name, value *out)
{
    if (text_is(name, "start"))
        *out = value_int(r->start);
    else if (text_is(name, "stop"))
        *out = value_int(r->stop);
    else if (text_is(name, "step"))
        *out = value_int(r->step);
    else
        return LOOKUP_NONE;
    return LOOKUP_FOUND;
}

static lookup find_cycler_member(interp *in, value self, const text *name, value *out)
{
    const cycler *c = self.as.cycler;
    if (text_is(name, "current"))
        *out = c->items->items[c->position];
    else if (text_is(name, "pos"))
        *out = value_int((int64_t)c->position);
    else if (text_is(name, "items"))
        *out = value_sequence(VALUE_TUPLE, c->items);
    else
        return find_method(in, cycler_methods, self, name, out);
    return LOOKUP_FOUND;
}

static lookup find_joiner_member(const joiner *j, const text *name, value *out)
{
    if (text_is(name, "sep"))
        *out = j->separator;
    else if (text_is(name, "used"))
        *out = value_bool(j->used);
    else
        return LOOKUP_NONE;
    return LOOKUP_FOUND;
}

static lookup find_namespace_member(interp *in, value self, const text *name, value *out)
{
    value *found = dict_find_text(in, self.as.dict, name);
    if (found == NULL) return LOOKUP_NONE;
    *out = *found;
    return LOOKUP_FOUND;
}

/* What every Python object has. */
static bool is_internal(const text *name)
{
    static const char *const names[] = {
        "__class__",   "__delattr__", "__dir__",           "__doc__",          "__eq__",
        "__format__",  "__ge__",      "__getattribute__",  "__getstate__",     "__gt__",
        "__hash__",    "__init__",    "__init_subclass__", "__le__",           "__lt__",
        "__ne__",      "__new__",     "__reduce__",        "__reduce_ex__",    "__repr__",
        "__setattr__", "__sizeof__",  "__str__",           "__subclasshook__",
    };
    if (name->size < 5 || name->bytes[0] != '_') return false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (text_is(name, names[i])) return true;
    return false;
}

/* getattr(object, name) behind the sandbox. */
static lookup find_member(interp *in, value object, const text *name, value *out)
{
    lookup found = LOOKUP_NONE;
    switch (object.kind) {
    case VALUE_BOOL:
    case VALUE_INT:
    case VALUE_FLOAT:
        found = find_number_member(in, object, name, out);
        break;
    case VALUE_TEXT:
        found = find_text_member(in, object, name, out);
        break;
    case VALUE_LIST:
        found = find_method(in, list_methods, object, name, out);
        break;
    case VALUE_TUPLE:
        found = find_tuple_member(in, object, name, out);
        break;
    case VALUE_DICT:
        found = find_method(in, dict_methods, object, name, out);
        break;
    case VALUE_RANGE:
        found = find_range_member(object.as.range, name, out);
        break;
    case VALUE_NAMESPACE:
        found = find_namespace_member(in, object, name, out);
        break;
    case VALUE_CYCLER:
        found = find_cycler_member(in, object, name, out);
        break;
    case VALUE_JOINER:
        found = find_joiner_member(object.as.joiner, name, out);
        break;
    case VALUE_LOOP:
        found = find_loop_member(in, object, name, out);
        break;
    case VALUE_MACRO:
        found = find_macro_member(in, object.as.macro, name, out);
        break;
    default:
        break;
    }
    if (found == LOOKUP_NONE && is_internal(name) && object.kind != VALUE_NAMESPACE)
        return LOOKUP_UNSAFE;
    if (found == LOOKUP_FOUND && name->size > 0 && name->bytes[0] == '_') return LOOKUP_UNSAFE;
    return found;
}

static value unsafe(interp *in, value object, const text *name)
{
    builder hint = {0};
    builder_format(in, &hint, "access to attribute '%.*s' of '%s' object is unsafe.",
                   name->size < 100 ? (int)name->size : 100, name->bytes, value_type_name(object));
    builder_add(in, &hint, "", 1);
    return value_undefined_hint(in, hint.bytes);
}

/* object[key] alone; false where Python raises a TypeError or LookupError. */
static bool find_item(interp *in, value object, value key, value *out)
{
    int64_t index;
    size_t length;
    value *found;
    const node *block;
    switch (object.kind) {
    case VALUE_UNDEFINED:
        value_fail_undefined(in, object.as.undefined);
    case VALUE_DICT:
        if (!value_hashable(in, key)) return false;
        found = dict_find(in, object.as.dict, key);
        if (found != NULL) *out = *found;
        return found != NULL;
    case VALUE_SELF:
        block = key.kind == VALUE_TEXT ? block_find(in, key.as.text) : NULL;
        if (block != NULL) *out = (value){.kind = VALUE_BLOCK, .as.block = block};
        return block != NULL;
    case VALUE_TEXT:
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_RANGE:
        if (!value_is_integer(key, &index)) return false;
        length = value_length(in, object);
        if (index < 0) index += (int64_t)length;
        if (index < 0 || index >= (int64_t)length) return false;
        break;
    default:
        return false;
    }
    if (object.kind == VALUE_TEXT) {
        text *part = text_part(in, object.as.text, (size_t)index, (size_t)index + 1);
        *out = value_like(object, part);
    } else if (object.kind == VALUE_RANGE) {
        *out = value_int(range_item(object.as.range, index));
    } else {
        *out = object.as.sequence->items[index];
    }
    return true;
}

/* getattr() alone; false where Python raises an AttributeError. */
static bool find_attribute(interp *in, value object, const text *name, value *out)
{
    if (object.kind == VALUE_UNDEFINED) value_fail_undefined(in, object.as.undefined);
    lookup found = find_member(in, object, name, out);
    if (found == LOOKUP_UNSAFE) *out = unsafe(in, object, name);
    return found != LOOKUP_NONE;
}

value value_own_attribute(interp *in, value object, text *name)
{
    value out;
    if (find_attribute(in, object, name, &out)) return out;
    return value_undefined_member(in, object, value_text(name));
}

value value_attribute(interp *in, value object, text *name)
{
    value out;
    if (find_attribute(in, object, name, &out)) return out;
    if (find_item(in, object, value_text(name), &out)) return out;
    return value_undefined_member(in, object, value_text(name));
}

value value_item(interp *in, value object, value key)
{
    value out;
    if (find_item(in, object, key, &out)) return out;
    if (key.kind == VALUE_TEXT) return value_own_attribute(in, object, key.as.text);
    return value_undefined_member(in, object, key);
}

/* -- slices ------------------------------------------------------------------------------------ */

static bool slice_bound(interp *in, value v, int64_t *out)
{
    if (v.kind == VALUE_NONE) return false;
    if (!value_is_integer(v, out))
        interp_fail(in, "slice indices must be integers or None or have an __index__ method");
    return true;
}

static int64_t clamp(int64_t bound, int64_t length, int64_t low, int64_t high)
{
    if (bound < 0) bound += length;
    return bound < low ? low : bound > high ? high : bound;
}

static text *slice_text(interp *in, text *t, int64_t start, int64_t step, size_t count)
{
    if (count == 0) return text_literal(in, "");
    if (step == 1) return text_part(in, t, (size_t)start, (size_t)start + count);
    builder out = {0};
    size_t at = text_offset(in, t, (size_t)start);
    for (size_t i = 0; i < count; i++) {
        interp_spend(in, 1);
        size_t next = at;
        text_next(t, &next);
        builder_add(in, &out, t->bytes + at, next - at);
        if (i + 1 == count) break;
        for (int64_t k = 0; k < step; k++)
            text_next(t, &at);
        for (int64_t k = 0; k > step; k--)
            text_previous(t, &at);
    }
    interp_spend_bytes(in, t->size);
    return builder_text(in, &out);
}

/* start, stop and step as Python has them, which may lie one step outside of the range. */
static value slice_range(interp *in, const range *r, int64_t start, int64_t stop, int64_t step,
                         size_t count)
{
    range *part = interp_alloc(in, sizeof *part);
    int64_t first, end;
    if (__builtin_mul_overflow(start, r->step, &first) ||
        __builtin_add_overflow(r->start, first, &part->start) ||
        __builtin_mul_overflow(stop, r->step, &end) ||
        __builtin_add_overflow(r->start, end, &part->stop) ||
        __builtin_mul_overflow(r->step, step, &part->step))
        interp_fail(in, "integer overflow: a range's slice does not fit 64 bits");
    part->count = (int64_t)count;
    return (value){.kind = VALUE_RANGE, .as.range = part};
}

value value_slice(interp *in, value object, value start_value, value stop_value, value step_value)
{
    if (object.kind == VALUE_UNDEFINED) value_fail_undefined(in, object.as.undefined);
    bool sliceable = object.kind == VALUE_TEXT || object.kind == VALUE_LIST ||
                     object.kind == VALUE_TUPLE || object.kind == VALUE_RANGE;
    if (!sliceable) interp_fail(in, "'%s' object cannot be sliced", value_type_name(object));
    int64_t start, stop, step = 1, length = (int64_t)value_length(in, object);
    slice_bound(in, step_value, &step);
    if (step == 0) interp_fail(in, "slice step cannot be zero");
    /* A step longer than the whole takes one item, whatever its size. */
    if (step > length + 1) step = length + 1;
    if (step < -length - 1) step = -length - 1;
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? length : length - 1;
    start = slice_bound(in, start_value, &start) ? clamp(start, length, low, high)
            : step > 0                           ? low
                                                 : high;
    stop = slice_bound(in, stop_value, &stop) ? clamp(stop, length, low, high)
           : step > 0                         ? high
                                              : low;
    int64_t distance = step > 0 ? stop - start : start - stop;
    int64_t stride = step > 0 ? step : -step;
    size_t count = distance <= 0 ? 0 : (size_t)((distance + stride - 1) / stride);

    if (object.kind == VALUE_TEXT) {
        text *part = slice_text(in, object.as.text, start, step, count);
        return value_like(object, part);
    }
    if (object.kind == VALUE_RANGE)
        return slice_range(in, object.as.range, start, stop, step, count);
    sequence *part = sequence_new(in, count);
    interp_spend_bytes(in, count * sizeof(value));
    for (size_t i = 0; i < count; i++)
        sequence_push(in, part, object.as.sequence->items[start + (int64_t)i * step]);
    return value_sequence(object.kind, part);
}
