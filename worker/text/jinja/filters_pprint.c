/* pprint: Python's pprint.pformat() at its width of 80. What fits the rest of a line is written
 * like repr(), with the keys of dicts sorted; what does not gets a line for each item, and long
 * strings are broken between words. */
#include <string.h>

#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/members.h"

enum { LINE_WIDTH = 80 };

typedef struct printer {
    interp *in;
    builder out;
} printer;

/* How much a value may take: it begins at column `indent`, and `allowance` columns behind it are
 * for closing brackets. `top`: it is the whole. */
typedef struct place {
    int64_t indent;
    int64_t allowance;
    bool top;
} place;

static void print(printer *p, value v, place at);

static bool goes_first(interp *in, value a, value b)
{
    bool comparable = (a.kind == VALUE_TEXT && b.kind == VALUE_TEXT) ||
                      (value_is_number(a) && value_is_number(b)) ||
                      (a.kind == VALUE_TUPLE && b.kind == VALUE_TUPLE);
    if (comparable) return value_compare(in, LESS, a, b);
    return strcmp(value_type_name(a), value_type_name(b)) < 0;
}

/* The numbers of a dict's entries in the order of their keys. */
static size_t *key_order(interp *in, const dict *d)
{
    size_t *order = interp_alloc_array(in, d->count, sizeof *order);
    for (size_t i = 0; i < d->count; i++) {
        size_t at = i;
        for (; at > 0; at--) {
            interp_spend(in, 1);
            if (!goes_first(in, d->entries[i].key, d->entries[order[at - 1]].key)) break;
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
    return order;
}

static bool is_plain_sequence(value v)
{
    return v.kind == VALUE_LIST || (v.kind == VALUE_TUPLE && !v.as.sequence->group);
}

/* repr() with sorted keys. */
static void write_line(interp *in, builder *out, value v)
{
    interp_enter(in);
    interp_spend(in, 1);
    if (v.kind == VALUE_DICT) {
        const dict *d = v.as.dict;
        const size_t *order = key_order(in, d);
        builder_add_literal(in, out, "{");
        for (size_t i = 0; i < d->count; i++) {
            if (i > 0) builder_add_literal(in, out, ", ");
            write_line(in, out, d->entries[order[i]].key);
            builder_add_literal(in, out, ": ");
            write_line(in, out, d->entries[order[i]].item);
        }
        builder_add_literal(in, out, "}");
    } else if (is_plain_sequence(v)) {
        const sequence *s = v.as.sequence;
        bool list = v.kind == VALUE_LIST;
        builder_add_literal(in, out, list ? "[" : "(");
        for (size_t i = 0; i < s->count; i++) {
            if (i > 0) builder_add_literal(in, out, ", ");
            write_line(in, out, s->items[i]);
        }
        if (!list && s->count == 1) builder_add_literal(in, out, ",");
        builder_add_literal(in, out, list ? "]" : ")");
    } else {
        value_write_repr(in, out, v);
    }
    interp_leave(in);
}

static text *line_of(interp *in, value v)
{
    builder out = {0};
    write_line(in, &out, v);
    return builder_text(in, &out);
}

static void new_line(printer *p, int64_t indent)
{
    builder_add_literal(p->in, &p->out, "\n");
    builder_fill(p->in, &p->out, ' ', (size_t)indent);
}

static void print_sequence(printer *p, value v, place at)
{
    const sequence *s = v.as.sequence;
    const char *end = v.kind == VALUE_LIST ? "]" : s->count == 1 ? ",)" : ")";
    builder_add_literal(p->in, &p->out, v.kind == VALUE_LIST ? "[" : "(");
    for (size_t i = 0; i < s->count; i++) {
        bool last = i + 1 == s->count;
        int64_t allowance = last ? at.allowance + (int64_t)strlen(end) : 1;
        print(p, s->items[i], (place){at.indent + 1, allowance, false});
        if (last) break;
        builder_add_literal(p->in, &p->out, ",");
        new_line(p, at.indent + 1);
    }
    builder_add_literal(p->in, &p->out, end);
}

static void print_dict(printer *p, const dict *d, place at)
{
    const size_t *order = key_order(p->in, d);
    builder_add_literal(p->in, &p->out, "{");
    for (size_t i = 0; i < d->count; i++) {
        bool last = i + 1 == d->count;
        text *key = line_of(p->in, d->entries[order[i]].key);
        builder_add_text(p->in, &p->out, key);
        builder_add_literal(p->in, &p->out, ": ");
        int64_t column = at.indent + 1 + (int64_t)text_length(p->in, key) + 2;
        print(p, d->entries[order[i]].item, (place){column, last ? at.allowance + 1 : 1, false});
        if (last) break;
        builder_add_literal(p->in, &p->out, ",");
        new_line(p, at.indent + 1);
    }
    builder_add_literal(p->in, &p->out, "}");
}

/* Where the word that begins at `at`, with the white space behind it, ends. */
static size_t word_end(const text *t, size_t at)
{
    bool space = false;
    while (at < t->size) {
        size_t next = at;
        bool is_space = character_is_space(text_next(t, &next));
        if (space && !is_space) break;
        space = is_space;
        at = next;
    }
    return at;
}

static text *repr_part(interp *in, const text *t, size_t start, size_t stop)
{
    return value_repr(in, value_text(text_bytes(in, t, start, stop)));
}

/* One line of a string in pieces of whole words. */
static void break_line(interp *in, sequence *pieces, const text *line, int64_t width,
                       int64_t last_width)
{
    size_t start = 0;
    for (size_t at = 0; at < line->size;) {
        size_t end = word_end(line, at);
        int64_t room = end == line->size ? last_width : width;
        text *longer = repr_part(in, line, start, end);
        if ((int64_t)text_length(in, longer) > room) {
            if (at > start) sequence_push(in, pieces, value_text(repr_part(in, line, start, at)));
            start = at;
        }
        at = end;
    }
    if (start < line->size)
        sequence_push(in, pieces, value_text(repr_part(in, line, start, line->size)));
}

static void print_text(printer *p, value v, place at)
{
    interp *in = p->in;
    sequence *lines = text_lines(in, v, true), *pieces = sequence_new(in, 0);
    if (at.top) {
        at.indent++;
        at.allowance++;
    }
    int64_t width = LINE_WIDTH - at.indent;
    for (size_t i = 0; i < lines->count; i++) {
        text *whole = value_repr(in, lines->items[i]);
        int64_t last_width = i + 1 == lines->count ? width - at.allowance : width;
        if ((int64_t)text_length(in, whole) <= last_width)
            sequence_push(in, pieces, value_text(whole));
        else
            break_line(in, pieces, lines->items[i].as.text, width, last_width);
    }
    bool wrapped = at.top && pieces->count > 1;
    if (wrapped) builder_add_literal(in, &p->out, "(");
    for (size_t i = 0; i < pieces->count; i++) {
        if (i > 0) new_line(p, at.indent);
        builder_add_text(in, &p->out, pieces->items[i].as.text);
    }
    if (wrapped) builder_add_literal(in, &p->out, ")");
}

static void print(printer *p, value v, place at)
{
    text *line = line_of(p->in, v);
    interp_enter(p->in);
    if ((int64_t)text_length(p->in, line) <= LINE_WIDTH - at.indent - at.allowance)
        builder_add_text(p->in, &p->out, line);
    else if (v.kind == VALUE_DICT)
        print_dict(p, v.as.dict, at);
    else if (is_plain_sequence(v))
        print_sequence(p, v, at);
    else if (v.kind == VALUE_TEXT && !v.safe && v.as.text->size > 0)
        print_text(p, v, at);
    else
        builder_add_text(p->in, &p->out, line);
    interp_leave(p->in);
}

value filter_pprint(interp *in, value subject, const value *given)
{
    (void)given;
    printer p = {.in = in};
    print(&p, subject, (place){.top = true});
    return value_text(builder_text(in, &p.out));
}
