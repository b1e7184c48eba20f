/* The methods of list, tuple, dict, numbers, and of loop and cycler. */
#include <math.h>

#include "worker/text/jinja/members.h"
#include "worker/text/jinja/runtime.h"

/* -- sequences --------------------------------------------------------------------------------- */

static int64_t bound(interp *in, value v, int64_t otherwise, int64_t length)
{
    if (v.kind == VALUE_MISSING) return otherwise;
    int64_t i = value_need_int(in, "index()", v);
    return i < 0 ? i + length : i;
}

static value index_of(interp *in, value self, const value *given)
{
    const sequence *s = self.as.sequence;
    int64_t length = (int64_t)s->count;
    int64_t first = bound(in, given[1], 0, length), last = bound(in, given[2], length, length);
    for (int64_t i = first < 0 ? 0 : first; i < last && i < length; i++) {
        interp_spend(in, 1);
        if (value_same(s->items[i], given[0]) || value_equal(in, s->items[i], given[0]))
            return value_int(i);
    }
    interp_fail(in, "the value is not in the %s", value_type_name(self));
}

static value count(interp *in, value self, const value *given)
{
    const sequence *s = self.as.sequence;
    int64_t found = 0;
    interp_spend(in, s->count);
    for (size_t i = 0; i < s->count; i++)
        found += value_same(s->items[i], given[0]) || value_equal(in, s->items[i], given[0]);
    return value_int(found);
}

static value copy(interp *in, value self, const value *given)
{
    (void)given;
    return value_sequence(VALUE_LIST, collect(in, self));
}

const method_row list_methods[] = {
    {"index", index_of, "-value -start -stop", 1, NULL},
    {"count", count, "-value", 1, NULL},
    {"copy", copy, "", 0, NULL},
    {"append", NULL, "", 0, NULL},
    {"clear", NULL, "", 0, NULL},
    {"extend", NULL, "", 0, NULL},
    {"insert", NULL, "", 0, NULL},
    {"pop", NULL, "", 0, NULL},
    {"remove", NULL, "", 0, NULL},
    {"reverse", NULL, "", 0, NULL},
    {"sort", NULL, "", 0, NULL},
    {0},
};

const method_row tuple_methods[] = {
    {"index", index_of, "-value -start -stop", 1, NULL},
    {"count", count, "-value", 1, NULL},
    {0},
};

/* -- dict -------------------------------------------------------------------------------------- */

static value get(interp *in, value self, const value *given)
{
    value *found = dict_find(in, self.as.dict, given[0]);
    if (found != NULL) return *found;
    return given[1].kind == VALUE_MISSING ? value_none() : given[1];
}

static value make_view(interp *in, value self, view_kind kind)
{
    view *v = interp_alloc(in, sizeof *v);
    *v = (view){self.as.dict, kind};
    return (value){.kind = VALUE_VIEW, .as.view = v};
}

static value keys(interp *in, value self, const value *given)
{
    (void)given;
    return make_view(in, self, VIEW_KEYS);
}

static value values(interp *in, value self, const value *given)
{
    (void)given;
    return make_view(in, self, VIEW_VALUES);
}

static value items(interp *in, value self, const value *given)
{
    (void)given;
    return make_view(in, self, VIEW_ITEMS);
}

static value copy_dict(interp *in, value self, const value *given)
{
    (void)given;
    dict *d = dict_new(in);
    for (size_t i = 0; i < self.as.dict->count; i++)
        dict_set(in, d, self.as.dict->entries[i].key, self.as.dict->entries[i].item);
    return value_dict(d);
}

static value fromkeys(interp *in, value self, const value *given)
{
    (void)self;
    dict *d = dict_new(in);
    iterator *it = iterate(in, given[0]);
    for (value key; iterate_next(in, it, &key);)
        dict_set(in, d, key, given[1].kind == VALUE_MISSING ? value_none() : given[1]);
    return value_dict(d);
}

const method_row dict_methods[] = {
    {"get", get, "-key -default", 1, NULL},
    {"items", items, "", 0, NULL},
    {"keys", keys, "", 0, NULL},
    {"values", values, "", 0, NULL},
    {"copy", copy_dict, "", 0, NULL},
    {"fromkeys", fromkeys, "-iterable -value", 1, NULL},
    {"clear", NULL, "", 0, NULL},
    {"pop", NULL, "", 0, NULL},
    {"popitem", NULL, "", 0, NULL},
    {"setdefault", NULL, "", 0, NULL},
    {"update", NULL, "", 0, NULL},
    {0},
};

/* -- numbers ----------------------------------------------------------------------------------- */

static uint64_t magnitude(value self)
{
    int64_t i;
    value_is_integer(self, &i);
    return i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
}

static value bit_length(interp *in, value self, const value *given)
{
    (void)in, (void)given;
    uint64_t m = magnitude(self);
    return value_int(m == 0 ? 0 : 64 - __builtin_clzll(m));
}

static value bit_count(interp *in, value self, const value *given)
{
    (void)in, (void)given;
    return value_int(__builtin_popcountll(magnitude(self)));
}

static value conjugate(interp *in, value self, const value *given)
{
    (void)given;
    return value_positive(in, self);
}

static value is_integer(interp *in, value self, const value *given)
{
    (void)in, (void)given;
    return value_bool(isfinite(self.as.real) && floor(self.as.real) == self.as.real);
}

const method_row integer_methods[] = {
    {"bit_length", bit_length, "", 0, NULL},
    {"bit_count", bit_count, "", 0, NULL},
    {"conjugate", conjugate, "", 0, NULL},
    {0},
};

const method_row float_methods[] = {
    {"is_integer", is_integer, "", 0, NULL},
    {"conjugate", conjugate, "", 0, NULL},
    {0},
};

/* -- cycler and loop --------------------------------------------------------------------------- */

static value next(interp *in, value self, const value *given)
{
    (void)in, (void)given;
    cycler *c = self.as.cycler;
    value now = c->items->items[c->position];
    c->position = (c->position + 1) % c->items->count;
    return now;
}

static value reset(interp *in, value self, const value *given)
{
    (void)in, (void)given;
    self.as.cycler->position = 0;
    return value_none();
}

const method_row cycler_methods[] = {
    {"next", next, "", 0, NULL},
    {"reset", reset, "", 0, NULL},
    {0},
};

static value cycle(interp *in, value self, const arguments *given)
{
    if (given->named_count > 0) interp_fail(in, "cycle() takes no keyword arguments");
    if (given->count == 0) interp_fail(in, "no items for cycling given");
    /* Before the first turn index0 is -1, which is the last item. */
    int64_t count_ = (int64_t)given->count, at = self.as.loop->index0 % count_;
    return given->positional[at < 0 ? at + count_ : at];
}

static value changed(interp *in, value self, const arguments *given)
{
    if (given->named_count > 0) interp_fail(in, "changed() takes no keyword arguments");
    loop *l = self.as.loop;
    sequence *now = sequence_new(in, given->count);
    for (size_t i = 0; i < given->count; i++)
        sequence_push(in, now, given->positional[i]);
    value seen = value_sequence(VALUE_TUPLE, now);
    bool differs = l->last_changed.kind == VALUE_MISSING || !value_equal(in, l->last_changed, seen);
    if (differs) l->last_changed = seen;
    return value_bool(differs);
}

const method_row loop_methods[] = {
    {"cycle", NULL, "", 0, cycle},
    {"changed", NULL, "", 0, changed},
    {0},
};
