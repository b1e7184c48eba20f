/* tojson as transformers has it: json.dumps(value, ensure_ascii, indent, separators, sort_keys). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/iterate.h"
#include "worker/text/jinja/number.h"

typedef struct json_writer {
    interp *in;
    builder out;
    bool ascii;
    bool sorted;
    const text *margin; /* of one level; NULL: all on one line */
    const text *item_separator;
    const text *key_separator;
    size_t level;
} json_writer;

static void write_value(json_writer *w, value v);

static void write_escape(json_writer *w, uint32_t c)
{
    if (c > 0xFFFF) {
        builder_format(w->in, &w->out, "\\u%04x", 0xD800 + ((c - 0x10000) >> 10));
        c = 0xDC00 + ((c - 0x10000) & 0x3FF);
    }
    builder_format(w->in, &w->out, "\\u%04x", c);
}

static void write_text(json_writer *w, const text *t)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    builder_add_literal(w->in, &w->out, "\"");
    size_t copied = 0;
    for (size_t at = 0; at < t->size;) {
        size_t start = at;
        uint32_t c = text_next(t, &at);
        if (c >= 0x20 && c != '"' && c != '\\' && (c < 0x7F || !w->ascii)) continue;
        builder_add(w->in, &w->out, t->bytes + copied, start - copied);
        copied = at;
        const char *known = c < 0x80 && c != 0 ? strchr(plain, (int)c) : NULL;
        if (known != NULL)
            builder_format(w->in, &w->out, "\\%c", letters[known - plain]);
        else
            write_escape(w, c);
    }
    interp_spend_characters(w->in, t->size);
    builder_add(w->in, &w->out, t->bytes + copied, t->size - copied);
    builder_add_literal(w->in, &w->out, "\"");
}

static void write_scalar(json_writer *w, value v)
{
    char number[NUMBER_TEXT_SIZE];
    switch (v.kind) {
    case VALUE_NONE:
        builder_add_literal(w->in, &w->out, "null");
        break;
    case VALUE_BOOL:
        builder_add_literal(w->in, &w->out, v.as.boolean ? "true" : "false");
        break;
    case VALUE_INT:
        builder_format(w->in, &w->out, "%lld", (long long)v.as.integer);
        break;
    case VALUE_FLOAT:
        number_repr(v.as.real, number);
        if (isnan(v.as.real))
            builder_add_literal(w->in, &w->out, "NaN");
        else if (isinf(v.as.real))
            builder_add_literal(w->in, &w->out, v.as.real < 0 ? "-Infinity" : "Infinity");
        else
            builder_add_literal(w->in, &w->out, number);
        break;
    default:
        interp_fail(w->in, "Object of type %s is not JSON serializable", value_type_name(v));
    }
}

static void write_key(json_writer *w, value key)
{
    if (key.kind == VALUE_TEXT) {
        write_text(w, key.as.text);
        return;
    }
    if (key.kind != VALUE_NONE && !value_is_number(key))
        interp_fail(w->in, "keys must be str, int, float, bool or None, not %s",
                    value_type_name(key));
    builder_add_literal(w->in, &w->out, "\"");
    write_scalar(w, key);
    builder_add_literal(w->in, &w->out, "\"");
}

static void new_line(json_writer *w)
{
    if (w->margin == NULL) return;
    builder_add_literal(w->in, &w->out, "\n");
    for (size_t i = 0; i < w->level && w->margin->size > 0; i++)
        builder_add_text(w->in, &w->out, w->margin);
}

static void write_list(json_writer *w, const sequence *s)
{
    builder_add_literal(w->in, &w->out, "[");
    w->level++;
    for (size_t i = 0; i < s->count; i++) {
        if (i > 0) builder_add_text(w->in, &w->out, w->item_separator);
        new_line(w);
        write_value(w, s->items[i]);
    }
    w->level--;
    if (s->count > 0) new_line(w);
    builder_add_literal(w->in, &w->out, "]");
}

/* A dict's items in the order of their keys, as sorted(d.items()) has it. */
static const dict_entry *in_order(json_writer *w, const dict *d)
{
    const view items = {(dict *)d, VIEW_ITEMS};
    sequence *pairs = sequence_new(w->in, d->count);
    for (size_t i = 0; i < d->count; i++)
        sequence_push(w->in, pairs, view_item(w->in, &items, i));
    pairs = sequence_sorted(w->in, pairs);
    dict_entry *entries = interp_alloc_array(w->in, d->count, sizeof *entries);
    for (size_t i = 0; i < d->count; i++) {
        const value *pair = pairs->items[i].as.sequence->items;
        entries[i] = (dict_entry){.key = pair[0], .item = pair[1]};
    }
    return entries;
}

static void write_dict(json_writer *w, const dict *d)
{
    const dict_entry *entries = w->sorted ? in_order(w, d) : d->entries;
    builder_add_literal(w->in, &w->out, "{");
    w->level++;
    for (size_t i = 0; i < d->count; i++) {
        if (i > 0) builder_add_text(w->in, &w->out, w->item_separator);
        new_line(w);
        write_key(w, entries[i].key);
        builder_add_text(w->in, &w->out, w->key_separator);
        write_value(w, entries[i].item);
    }
    w->level--;
    if (d->count > 0) new_line(w);
    builder_add_literal(w->in, &w->out, "}");
}

static void write_value(json_writer *w, value v)
{
    interp_enter(w->in);
    interp_spend(w->in, 1);
    if (v.kind == VALUE_TEXT)
        write_text(w, v.as.text);
    else if (v.kind == VALUE_LIST || v.kind == VALUE_TUPLE)
        write_list(w, v.as.sequence);
    else if (v.kind == VALUE_DICT)
        write_dict(w, v.as.dict);
    else
        write_scalar(w, v);
    interp_leave(w->in);
}

value filter_tojson(interp *in, value subject, const value *given)
{
    json_writer w = {.in = in};
    int64_t width;
    w.ascii = given_truth(in, given[0]);
    w.sorted = given_truth(in, given[3]);
    w.key_separator = text_literal(in, ": ");
    w.item_separator = text_literal(in, ", ");
    if (given[1].kind == VALUE_TEXT) {
        w.margin = given[1].as.text;
    } else if (given[1].kind != VALUE_MISSING && given[1].kind != VALUE_NONE) {
        width = value_need_int(in, "indent", given[1]);
        w.margin = value_binary(in, OP_MULTIPLY, value_literal(in, " "), value_int(width)).as.text;
    }
    if (w.margin != NULL) w.item_separator = text_literal(in, ",");
    if (given[2].kind != VALUE_MISSING && given[2].kind != VALUE_NONE) {
        sequence *pair = collect(in, given[2]);
        if (pair->count != 2) interp_fail(in, "separators must be two strings");
        w.item_separator = value_need_text(in, "separators", pair->items[0]);
        w.key_separator = value_need_text(in, "separators", pair->items[1]);
    }
    write_value(&w, subject);
    return value_text(builder_text(in, &w.out));
}
