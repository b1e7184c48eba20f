/* Filters that are generators in Jinja2: nothing happens before the first item is asked for. */
#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/iterate.h"
#include "worker/text/jinja/tests.h"

/* -- items, unique, batch, slice --------------------------------------------------------------- */

static bool next_pair(interp *in, iterator *it, value *out)
{
    if (it->source.kind == VALUE_UNDEFINED) return false;
    if (it->source.kind != VALUE_DICT) interp_fail(in, "Can only get item pairs from a mapping.");
    if (it->position >= it->source.as.dict->count) return false;
    *out = view_item(in, &(view){it->source.as.dict, VIEW_ITEMS}, it->position++);
    return true;
}

static value pairs(interp *in, value subject, const value *given)
{
    (void)given;
    return generator(in, next_pair, subject, NULL);
}

typedef struct unique_state {
    attribute_path path;
    dict *seen;
    iterator *source;
} unique_state;

static bool next_unique(interp *in, iterator *it, value *out)
{
    unique_state *state = it->state;
    if (state->source == NULL) state->source = iterate(in, it->source);
    while (iterate_next(in, state->source, out)) {
        value key = attribute_path_follow(in, &state->path, *out);
        if (dict_find(in, state->seen, key) != NULL) continue;
        dict_set(in, state->seen, key, value_none());
        return true;
    }
    return false;
}

static value unique(interp *in, value subject, const value *given)
{
    unique_state *state = interp_alloc(in, sizeof *state);
    state->path = attribute_path_read(in, given[1], value_missing(), !given_truth(in, given[0]));
    state->seen = dict_new(in);
    return generator(in, next_unique, subject, state);
}

typedef struct batch_state {
    value size;
    value fill;
    value held; /* the first item of the next batch */
    iterator *source;
} batch_state;

static bool next_batch(interp *in, iterator *it, value *out)
{
    batch_state *state = it->state;
    int64_t size = -1; /* a size that is no integer is never reached */
    value_is_integer(state->size, &size);
    if (state->source == NULL) state->source = iterate(in, it->source);
    sequence *items = sequence_new(in, 0);
    if (state->held.kind != VALUE_MISSING) sequence_push(in, items, state->held);
    state->held = value_missing();
    for (value item; iterate_next(in, state->source, &item);) {
        if ((int64_t)items->count == size) {
            state->held = item;
            break;
        }
        sequence_push(in, items, item);
    }
    bool last = state->held.kind == VALUE_MISSING;
    if (last && items->count == 0) return false;
    if (last && state->fill.kind != VALUE_MISSING && state->fill.kind != VALUE_NONE)
        while ((int64_t)items->count < size) {
            interp_spend(in, 1);
            sequence_push(in, items, state->fill);
        }
    *out = value_sequence(VALUE_LIST, items);
    return true;
}

static value batch(interp *in, value subject, const value *given)
{
    batch_state *state = interp_alloc(in, sizeof *state);
    state->size = given[0];
    state->fill = given[1];
    return generator(in, next_batch, subject, state);
}

typedef struct slice_state {
    value count;
    value fill;
    sequence *all;
    size_t taken;
} slice_state;

/* The first `all % count` slices have one item more than the others. */
static bool next_slice(interp *in, iterator *it, value *out)
{
    slice_state *state = it->state;
    if (state->all == NULL) state->all = collect(in, it->source);
    int64_t count = value_need_int(in, "slice", state->count);
    if (count == 0) interp_fail(in, "integer division or modulo by zero");
    if (count < 0 || (int64_t)it->position >= count) return false;
    size_t slices = (size_t)count, more = state->all->count % slices;
    size_t size = state->all->count / slices + (it->position < more);
    sequence *part = sequence_new(in, size + 1);
    for (size_t i = 0; i < size; i++)
        sequence_push(in, part, state->all->items[state->taken++]);
    bool fill = state->fill.kind != VALUE_MISSING && state->fill.kind != VALUE_NONE;
    if (fill && it->position >= more) sequence_push(in, part, state->fill);
    it->position++;
    *out = value_sequence(VALUE_LIST, part);
    return true;
}

static value slice(interp *in, value subject, const value *given)
{
    slice_state *state = interp_alloc(in, sizeof *state);
    state->count = given[0];
    state->fill = given[1];
    return generator(in, next_slice, subject, state);
}

/* -- map --------------------------------------------------------------------------------------- */

typedef struct map_state {
    arguments given;
    iterator *source;
    attribute_path path;
    text *filter_name; /* NULL: an attribute */
    arguments filter_given;
} map_state;

static const value *named(const arguments *given, const char *name)
{
    for (size_t i = 0; i < given->named_count; i++)
        if (text_is(given->named[i].name, name)) return &given->named[i].item;
    return NULL;
}

static void map_prepare(interp *in, map_state *state)
{
    const arguments *given = &state->given;
    const value *attribute = given->count == 0 ? named(given, "attribute") : NULL;
    if (attribute == NULL) {
        if (given->count == 0) interp_fail(in, "map requires a filter argument");
        state->filter_name = value_need_text(in, "map", given->positional[0]);
        state->filter_given = *given;
        state->filter_given.positional++;
        state->filter_given.count--;
        return;
    }
    for (size_t i = 0; i < given->named_count; i++) {
        const text *name = given->named[i].name;
        if (!text_is(name, "attribute") && !text_is(name, "default"))
            interp_fail(in, "Unexpected keyword argument '%.*s'", (int)name->size, name->bytes);
    }
    const value *otherwise = named(given, "default");
    state->path = attribute_path_read(in, *attribute,
                                      otherwise != NULL ? *otherwise : value_missing(), false);
}

static bool next_mapped(interp *in, iterator *it, value *out)
{
    map_state *state = it->state;
    if (state->source == NULL) {
        if (!value_truth(in, it->source)) return false;
        map_prepare(in, state);
        state->source = iterate(in, it->source);
    }
    value item;
    if (!iterate_next(in, state->source, &item)) return false;
    if (state->filter_name == NULL) {
        *out = attribute_path_follow(in, &state->path, item);
        return true;
    }
    const filter_row *row = filter_find(state->filter_name);
    if (row == NULL)
        interp_fail(in, "No filter named '%.*s'.", (int)state->filter_name->size,
                    state->filter_name->bytes);
    *out = filter_run(in, row, item, &state->filter_given);
    return true;
}

static value map(interp *in, value subject, const arguments *given)
{
    map_state *state = interp_alloc(in, sizeof *state);
    state->given = *given;
    return generator(in, next_mapped, subject, state);
}

/* -- select and reject ------------------------------------------------------------------------- */

typedef struct select_state {
    arguments given;
    bool attribute;
    bool wanted;
    iterator *source;
    attribute_path path;
    text *test_name; /* NULL: the item itself must be true */
    arguments test_given;
} select_state;

static void select_prepare(interp *in, select_state *state)
{
    arguments rest = state->given;
    if (state->attribute) {
        if (rest.count == 0) interp_fail(in, "Missing parameter for attribute name");
        state->path = attribute_path_read(in, rest.positional[0], value_missing(), false);
        rest.positional++;
        rest.count--;
    }
    if (rest.count == 0) return;
    state->test_name = value_need_text(in, "select", rest.positional[0]);
    rest.positional++;
    rest.count--;
    state->test_given = rest;
}

static bool passes(interp *in, const select_state *state, value item)
{
    value subject = attribute_path_follow(in, &state->path, item);
    if (state->test_name == NULL) return value_truth(in, subject);
    const test_row *row = test_find(state->test_name);
    if (row == NULL)
        interp_fail(in, "No test named '%.*s'.", (int)state->test_name->size,
                    state->test_name->bytes);
    return test_run(in, row, subject, &state->test_given);
}

static bool next_selected(interp *in, iterator *it, value *out)
{
    select_state *state = it->state;
    if (state->source == NULL) {
        if (!value_truth(in, it->source)) return false;
        select_prepare(in, state);
        state->source = iterate(in, it->source);
    }
    while (iterate_next(in, state->source, out))
        if (passes(in, state, *out) == state->wanted) return true;
    return false;
}

static value make_select(interp *in, value subject, const arguments *given, bool attribute,
                         bool wanted)
{
    select_state *state = interp_alloc(in, sizeof *state);
    state->given = *given;
    state->attribute = attribute;
    state->wanted = wanted;
    return generator(in, next_selected, subject, state);
}

static value select_(interp *in, value subject, const arguments *given)
{
    return make_select(in, subject, given, false, true);
}

static value reject(interp *in, value subject, const arguments *given)
{
    return make_select(in, subject, given, false, false);
}

static value selectattr(interp *in, value subject, const arguments *given)
{
    return make_select(in, subject, given, true, true);
}

static value rejectattr(interp *in, value subject, const arguments *given)
{
    return make_select(in, subject, given, true, false);
}

const filter_row stream_filters[] = {
    {"items", pairs, "", 0, NULL},
    {"map", NULL, "", 0, map},
    {"select", NULL, "", 0, select_},
    {"selectattr", NULL, "", 0, selectattr},
    {"reject", NULL, "", 0, reject},
    {"rejectattr", NULL, "", 0, rejectattr},
    {"unique", unique, "case_sensitive attribute", 0, NULL},
    {"batch", batch, "linecount fill_with", 1, NULL},
    {"slice", slice, "slices fill_with", 1, NULL},
    {0},
};
