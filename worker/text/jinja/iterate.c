#include "worker/text/jinja/iterate.h"

#include <string.h>

int64_t range_item(const range *r, int64_t index)
{
    return r->start + index * r->step;
}

bool range_contains(const range *r, int64_t number)
{
    if (r->count == 0) return false;
    int64_t last = range_item(r, r->count - 1);
    int64_t low = r->step > 0 ? r->start : last, high = r->step > 0 ? last : r->start;
    if (number < low || number > high) return false;
    return ((__int128)number - r->start) % r->step == 0;
}

value view_item(interp *in, const view *v, size_t index)
{
    const dict_entry *entry = &v->of->entries[index];
    switch (v->kind) {
    case VIEW_KEYS:
        return entry->key;
    case VIEW_VALUES:
        return entry->item;
    case VIEW_ITEMS:
        break;
    }
    return value_sequence(VALUE_TUPLE, sequence_pair(in, entry->key, entry->item));
}

/* Item `index` of what has a length and an order of its own. */
static value item_at(interp *in, value v, size_t index)
{
    switch (v.kind) {
    case VALUE_LIST:
    case VALUE_TUPLE:
        return v.as.sequence->items[index];
    case VALUE_DICT:
        return v.as.dict->entries[index].key;
    case VALUE_VIEW:
        return view_item(in, v.as.view, index);
    default:
        return value_int(range_item(v.as.range, (int64_t)index));
    }
}

static bool next_item(interp *in, iterator *it, value *out)
{
    if (it->position >= value_length(in, it->source)) return false;
    *out = item_at(in, it->source, it->position++);
    return true;
}

static bool previous_item(interp *in, iterator *it, value *out)
{
    if (it->position == 0) return false;
    *out = item_at(in, it->source, --it->position);
    return true;
}

static bool next_character(interp *in, iterator *it, value *out)
{
    const text *t = it->source.as.text;
    if (it->position >= t->size) return false;
    size_t start = it->position;
    text_next(t, &it->position);
    text *c = text_bytes(in, t, start, it->position);
    c->length = 1;
    *out = value_text(c);
    return true;
}

static bool next_nothing(interp *in, iterator *it, value *out)
{
    (void)in, (void)it, (void)out;
    return false;
}

static iterator *iterator_new(interp *in, bool (*next)(interp *, iterator *, value *),
                              const char *type_name, value source)
{
    iterator *it = interp_alloc(in, sizeof *it);
    it->next = next;
    it->type_name = type_name;
    it->source = source;
    return it;
}

bool iterable(value v)
{
    switch (v.kind) {
    case VALUE_UNDEFINED:
    case VALUE_TEXT:
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_DICT:
    case VALUE_RANGE:
    case VALUE_VIEW:
    case VALUE_ITERATOR:
    case VALUE_LOOP:
    case VALUE_SELF:
        return true;
    default:
        return false;
    }
}

iterator *iterate(interp *in, value v)
{
    switch (v.kind) {
    case VALUE_UNDEFINED:
        return iterator_new(in, next_nothing, "generator", v);
    case VALUE_TEXT:
        return iterator_new(in, next_character, "str_iterator", v);
    case VALUE_LIST:
        return iterator_new(in, next_item, "list_iterator", v);
    case VALUE_TUPLE:
        return iterator_new(in, next_item, "tuple_iterator", v);
    case VALUE_DICT:
    case VALUE_VIEW:
        return iterator_new(in, next_item, "dict_iterator", v);
    case VALUE_RANGE:
        return iterator_new(in, next_item, "range_iterator", v);
    case VALUE_ITERATOR:
        return v.as.iterator;
    default:
        interp_fail(in, "'%s' object is not iterable", value_type_name(v));
    }
}

bool iterate_next(interp *in, iterator *it, value *out)
{
    if (it->done) return false;
    interp_spend(in, 1);
    interp_enter(in); /* generators draw on generators */
    it->done = !it->next(in, it, out);
    interp_leave(in);
    return !it->done;
}

iterator *iterate_backward(interp *in, value v)
{
    switch (v.kind) {
    case VALUE_UNDEFINED:
        return iterator_new(in, next_nothing, "reversed", v);
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_DICT:
    case VALUE_VIEW:
    case VALUE_RANGE: {
        iterator *it = iterator_new(in, previous_item, "reversed", v);
        it->position = value_length(in, v);
        return it;
    }
    default:
        return NULL;
    }
}

value generator(interp *in, bool (*next)(interp *, iterator *, value *), value source, void *state)
{
    iterator *it = iterator_new(in, next, "generator", source);
    it->state = state;
    return (value){.kind = VALUE_ITERATOR, .as.iterator = it};
}

sequence *collect(interp *in, value v)
{
    sequence *items = sequence_new(in, 0);
    iterator *it = iterate(in, v);
    for (value item; iterate_next(in, it, &item);)
        sequence_push(in, items, item);
    return items;
}
