/* Filters that take a whole sequence and give one value. */
#include <string.h>

#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/iterate.h"
#include "worker/text/jinja/members.h"

static value otherwise(interp *in, value subject, const value *given)
{
    bool replace =
        subject.kind == VALUE_UNDEFINED || (given_truth(in, given[1]) && !value_truth(in, subject));
    if (!replace) return subject;
    return given[0].kind == VALUE_MISSING ? value_literal(in, "") : given[0];
}

static value length(interp *in, value subject, const value *given)
{
    (void)given;
    return value_int((int64_t)value_length(in, subject));
}

static value first(interp *in, value subject, const value *given)
{
    (void)given;
    value item;
    if (iterate_next(in, iterate(in, subject), &item)) return item;
    return value_undefined_hint(in, "No first item, sequence was empty.");
}

static value last(interp *in, value subject, const value *given)
{
    (void)given;
    if (subject.kind == VALUE_TEXT) {
        text *t = subject.as.text;
        size_t at = t->size;
        if (at == 0) return value_undefined_hint(in, "No last item, sequence was empty.");
        text_previous(t, &at);
        return value_text(text_bytes(in, t, at, t->size));
    }
    value item;
    iterator *backward = iterate_backward(in, subject);
    if (backward == NULL)
        interp_fail(in, "'%s' object is not reversible", value_type_name(subject));
    if (iterate_next(in, backward, &item)) return item;
    return value_undefined_hint(in, "No last item, sequence was empty.");
}

static value list(interp *in, value subject, const value *given)
{
    (void)given;
    return value_sequence(VALUE_LIST, collect(in, subject));
}

static value reverse(interp *in, value subject, const value *given)
{
    (void)given;
    if (subject.kind == VALUE_TEXT)
        return value_slice(in, subject, value_none(), value_none(), value_int(-1));
    iterator *backward = iterate_backward(in, subject);
    if (backward != NULL) return (value){.kind = VALUE_ITERATOR, .as.iterator = backward};
    if (!iterable(subject)) interp_fail(in, "argument must be iterable");
    value all = value_sequence(VALUE_LIST, collect(in, subject));
    return value_slice(in, all, value_none(), value_none(), value_int(-1));
}

static value join(interp *in, value subject, const value *given)
{
    value separator = given[0].kind == VALUE_MISSING ? value_literal(in, "") : given[0];
    attribute_path path = attribute_path_read(in, given[1], value_missing(), false);
    text *between = value_str(in, separator);
    builder out = {0};
    bool begun = false;
    iterator *it = iterate(in, subject);
    for (value item; iterate_next(in, it, &item); begun = true) {
        if (begun) builder_add_text(in, &out, between);
        value_write(in, &out, attribute_path_follow(in, &path, item));
    }
    return value_text(builder_text(in, &out));
}

static value sum(interp *in, value subject, const value *given)
{
    value total = given[1].kind == VALUE_MISSING ? value_int(0) : given[1];
    attribute_path path = attribute_path_read(in, given[0], value_missing(), false);
    iterator *it = iterate(in, subject);
    if (total.kind == VALUE_TEXT)
        interp_fail(in, "sum() can't sum strings [use ''.join(seq) instead]");
    for (value item; iterate_next(in, it, &item);)
        total = value_binary(in, OP_ADD, total, attribute_path_follow(in, &path, item));
    return total;
}

static value extreme(interp *in, value subject, const value *given, comparison better)
{
    attribute_path path =
        attribute_path_read(in, given[1], value_missing(), !given_truth(in, given[0]));
    iterator *it = iterate(in, subject);
    value best;
    if (!iterate_next(in, it, &best))
        return value_undefined_hint(in, "No aggregated item, sequence was empty.");
    value best_key = attribute_path_follow(in, &path, best);
    for (value item; iterate_next(in, it, &item);) {
        value key = attribute_path_follow(in, &path, item);
        if (!value_compare(in, better, key, best_key)) continue;
        best = item;
        best_key = key;
    }
    return best;
}

static value minimum(interp *in, value subject, const value *given)
{
    return extreme(in, subject, given, LESS);
}

static value maximum(interp *in, value subject, const value *given)
{
    return extreme(in, subject, given, GREATER);
}

/* -- sorting ----------------------------------------------------------------------------------- */

typedef struct keyed {
    value key;
    value item;
} keyed;

static void merge(interp *in, keyed *items, keyed *spare, size_t middle, size_t count)
{
    size_t left = 0, right = middle, out = 0;
    while (left < middle && right < count) {
        interp_spend(in, 1);
        /* Equal keys keep their order: the right one goes first only when it is less. */
        bool take_right = value_compare(in, LESS, items[right].key, items[left].key);
        spare[out++] = take_right ? items[right++] : items[left++];
    }
    while (left < middle)
        spare[out++] = items[left++];
    memcpy(items, spare, out * sizeof *items);
}

static void merge_sort(interp *in, keyed *items, keyed *spare, size_t count)
{
    for (size_t width = 1; width < count; width *= 2)
        for (size_t at = 0; at + width < count; at += 2 * width) {
            size_t run = count - at < 2 * width ? count - at : 2 * width;
            merge(in, items + at, spare, width, run);
        }
}

static void turn_around(keyed *items, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        keyed swapped = items[i];
        items[i] = items[count - 1 - i];
        items[count - 1 - i] = swapped;
    }
}

/* sorted(items, key=..., reverse=...): equal ones keep their order either way. */
static sequence *sorted(interp *in, keyed *items, size_t count, bool reverse_)
{
    keyed *spare = interp_alloc_array(in, count, sizeof *spare);
    if (reverse_) turn_around(items, count);
    merge_sort(in, items, spare, count);
    if (reverse_) turn_around(items, count);
    sequence *out = sequence_new(in, count);
    for (size_t i = 0; i < count; i++)
        sequence_push(in, out, items[i].item);
    return out;
}

sequence *sequence_sorted(interp *in, const sequence *s)
{
    keyed *items = interp_alloc_array(in, s->count, sizeof *items);
    for (size_t i = 0; i < s->count; i++)
        items[i] = (keyed){s->items[i], s->items[i]};
    return sorted(in, items, s->count, false);
}

/* The key of `sort`: the values of each comma-separated attribute. */
static value sort_key(interp *in, const attribute_path *paths, size_t count, value item)
{
    sequence *key = sequence_new(in, count);
    for (size_t i = 0; i < count; i++)
        sequence_push(in, key, attribute_path_follow(in, &paths[i], item));
    return value_sequence(VALUE_LIST, key);
}

static value sort(interp *in, value subject, const value *given)
{
    bool ignore_case = !given_truth(in, given[1]);
    sequence *names = sequence_new(in, 1);
    if (given[2].kind == VALUE_TEXT)
        names = text_split(in, given[2], text_literal(in, ","), -1);
    else
        sequence_push(in, names, given[2]);
    attribute_path *paths = interp_alloc_array(in, names->count, sizeof *paths);
    for (size_t i = 0; i < names->count; i++)
        paths[i] = attribute_path_read(in, names->items[i], value_missing(), ignore_case);
    sequence *all = collect(in, subject);
    keyed *items = interp_alloc_array(in, all->count, sizeof *items);
    for (size_t i = 0; i < all->count; i++)
        items[i] = (keyed){sort_key(in, paths, names->count, all->items[i]), all->items[i]};
    return value_sequence(VALUE_LIST, sorted(in, items, all->count, given_truth(in, given[0])));
}

static value dictsort(interp *in, value subject, const value *given)
{
    bool ignore_case = !given_truth(in, given[0]);
    const text *by = given[1].kind == VALUE_MISSING ? text_literal(in, "key")
                                                    : value_need_text(in, "dictsort", given[1]);
    bool by_value = text_is(by, "value");
    if (!by_value && !text_is(by, "key"))
        interp_fail(in, "You can only sort by either \"key\" or \"value\"");
    if (subject.kind == VALUE_UNDEFINED) value_fail_undefined(in, subject.as.undefined);
    if (subject.kind != VALUE_DICT)
        interp_fail(in, "'%s' object has no attribute 'items'", value_type_name(subject));
    const dict *d = subject.as.dict;
    keyed *items = interp_alloc_array(in, d->count, sizeof *items);
    for (size_t i = 0; i < d->count; i++) {
        value key = by_value ? d->entries[i].item : d->entries[i].key;
        if (ignore_case && key.kind == VALUE_TEXT) key = value_text(text_lower(in, key.as.text));
        sequence *pair = sequence_pair(in, d->entries[i].key, d->entries[i].item);
        items[i] = (keyed){key, value_sequence(VALUE_TUPLE, pair)};
    }
    return value_sequence(VALUE_LIST, sorted(in, items, d->count, given_truth(in, given[2])));
}

static value groupby(interp *in, value subject, const value *given)
{
    bool ignore_case = !given_truth(in, given[2]);
    attribute_path path = attribute_path_read(in, given[0], given[1], ignore_case);
    attribute_path shown = attribute_path_read(in, given[0], given[1], false);
    sequence *all = collect(in, subject);
    keyed *items = interp_alloc_array(in, all->count, sizeof *items);
    for (size_t i = 0; i < all->count; i++)
        items[i] = (keyed){attribute_path_follow(in, &path, all->items[i]), all->items[i]};
    sorted(in, items, all->count, false);
    sequence *groups = sequence_new(in, 0);
    for (size_t i = 0; i < all->count;) {
        sequence *members = sequence_new(in, 0);
        size_t start = i;
        while (i < all->count && value_equal(in, items[start].key, items[i].key))
            sequence_push(in, members, items[i++].item);
        if (i == start) sequence_push(in, members, items[i++].item); /* a NaN equals nothing */
        value key =
            ignore_case ? attribute_path_follow(in, &shown, items[start].item) : items[start].key;
        sequence *group = sequence_pair(in, key, value_sequence(VALUE_LIST, members));
        group->group = true;
        sequence_push(in, groups, value_sequence(VALUE_TUPLE, group));
    }
    return value_sequence(VALUE_LIST, groups);
}

static value attribute(interp *in, value subject, const value *given)
{
    return value_own_attribute(in, subject, value_need_text(in, "attr", given[0]));
}

const filter_row sequence_filters[] = {
    {"length", length, "", 0, NULL},
    {"count", length, "", 0, NULL},
    {"default", otherwise, "default_value boolean", 0, NULL},
    {"d", otherwise, "default_value boolean", 0, NULL},
    {"join", join, "d attribute", 0, NULL},
    {"first", first, "", 0, NULL},
    {"last", last, "", 0, NULL},
    {"list", list, "", 0, NULL},
    {"reverse", reverse, "", 0, NULL},
    {"sum", sum, "attribute start", 0, NULL},
    {"min", minimum, "case_sensitive attribute", 0, NULL},
    {"max", maximum, "case_sensitive attribute", 0, NULL},
    {"sort", sort, "reverse case_sensitive attribute", 0, NULL},
    {"dictsort", dictsort, "case_sensitive by reverse", 0, NULL},
    {"groupby", groupby, "attribute default case_sensitive", 1, NULL},
    {"attr", attribute, "name", 1, NULL},
    {0},
};
