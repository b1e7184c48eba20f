/* The table of filters, and what they share. */
#include "worker/text/jinja/filters.h"

#include <string.h>

#include "worker/text/jinja/members.h"

const filter_row *filter_find(const text *name)
{
    static const filter_row *const tables[] = {text_filters, sequence_filters, stream_filters,
                                               number_filters};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        for (const filter_row *row = tables[i]; row->name != NULL; row++)
            if (text_is(name, row->name)) return row;
    return NULL;
}

value filter_run(interp *in, const filter_row *row, value subject, const arguments *given)
{
    value bound[PARAMETERS_MAX];
    if (row->run_open != NULL) return row->run_open(in, subject, given);
    arguments_bind(in, row->name, row->parameters, row->required, given, bound);
    return row->run(in, subject, bound);
}

/* -- attributes -------------------------------------------------------------------------------- */

/* A part of digits only is a number. */
static value path_part(text *part)
{
    int64_t number = 0;
    for (size_t at = 0; at < part->size;) {
        int digit = character_decimal_value(text_next(part, &at));
        if (digit < 0 || __builtin_mul_overflow(number, (int64_t)10, &number) ||
            __builtin_add_overflow(number, (int64_t)digit, &number))
            return value_text(part);
    }
    return part->size > 0 ? value_int(number) : value_text(part);
}

attribute_path attribute_path_read(interp *in, value attribute, value otherwise, bool ignore_case)
{
    attribute_path path = {.otherwise = otherwise, .ignore_case = ignore_case};
    if (otherwise.kind == VALUE_NONE) path.otherwise = value_missing();
    if (attribute.kind == VALUE_MISSING || attribute.kind == VALUE_NONE) return path;
    if (attribute.kind != VALUE_TEXT) {
        path.parts = interp_alloc(in, sizeof *path.parts);
        path.parts[path.count++] = attribute;
        return path;
    }
    sequence *parts = text_split(in, attribute, text_literal(in, "."), -1);
    path.parts = parts->items;
    path.count = parts->count;
    for (size_t i = 0; i < path.count; i++)
        path.parts[i] = path_part(path.parts[i].as.text);
    return path;
}

value attribute_path_follow(interp *in, const attribute_path *path, value item)
{
    for (size_t i = 0; i < path->count; i++) {
        interp_spend(in, 1);
        item = value_item(in, item, path->parts[i]);
        if (item.kind == VALUE_UNDEFINED && path->otherwise.kind != VALUE_MISSING)
            item = path->otherwise;
    }
    if (path->ignore_case && item.kind == VALUE_TEXT)
        return value_text(text_lower(in, item.as.text));
    return item;
}
