/* str() and repr() of value.h. */
#include <string.h>

#include "worker/text/jinja/iterate.h"
#include "worker/text/jinja/number.h"
#include "worker/text/jinja/runtime.h"
#include "worker/text/jinja/value.h"

/* The containers around what is written now: one that holds itself (a namespace can) is written
 * as "..." where it comes again. */
typedef struct around {
    const void *container;
    const struct around *outer;
} around;

static void write_repr(interp *in, builder *out, value v, const around *outer);

static bool is_around(interp *in, const around *a, const void *container)
{
    size_t looked_at = 0;
    for (; a != NULL && a->container != container; a = a->outer)
        looked_at++;
    interp_spend_items(in, looked_at);
    return a != NULL;
}

static void write_text_repr(interp *in, builder *out, const text *t)
{
    bool single = memchr(t->bytes, '\'', t->size) != NULL;
    bool twofold = memchr(t->bytes, '"', t->size) != NULL;
    char quote = single && !twofold ? '"' : '\'';
    builder_add(in, out, &quote, 1);
    for (size_t at = 0; at < t->size;) {
        size_t start = at;
        uint32_t c = text_next(t, &at);
        if (c == (uint32_t)quote || c == '\\')
            builder_format(in, out, "\\%c", (char)c);
        else if (c == '\n')
            builder_add_literal(in, out, "\\n");
        else if (c == '\r')
            builder_add_literal(in, out, "\\r");
        else if (c == '\t')
            builder_add_literal(in, out, "\\t");
        else if (character_is_printable(c))
            builder_add(in, out, t->bytes + start, at - start);
        else if (c <= 0xFF)
            builder_format(in, out, "\\x%02x", c);
        else
            builder_format(in, out, c <= 0xFFFF ? "\\u%04x" : "\\U%08x", c);
    }
    interp_spend_characters(in, t->size);
    builder_add(in, out, &quote, 1);
}

static void write_items(interp *in, builder *out, const sequence *s, const char *open,
                        const char *close, const around *outer)
{
    if (is_around(in, outer, s)) {
        builder_format(in, out, "%s...%s", open, close);
        return;
    }
    around here = {s, outer};
    builder_add_literal(in, out, open);
    for (size_t i = 0; i < s->count; i++) {
        if (i > 0) builder_add_literal(in, out, ", ");
        write_repr(in, out, s->items[i], &here);
    }
    if (s->count == 1 && *open == '(') builder_add_literal(in, out, ",");
    builder_add_literal(in, out, close);
}

static void write_dict(interp *in, builder *out, const dict *d, const around *outer)
{
    if (is_around(in, outer, d)) {
        builder_add_literal(in, out, "{...}");
        return;
    }
    around here = {d, outer};
    builder_add_literal(in, out, "{");
    for (size_t i = 0; i < d->count; i++) {
        if (i > 0) builder_add_literal(in, out, ", ");
        write_repr(in, out, d->entries[i].key, &here);
        builder_add_literal(in, out, ": ");
        write_repr(in, out, d->entries[i].item, &here);
    }
    builder_add_literal(in, out, "}");
}

static void write_view(interp *in, builder *out, value v, const around *outer)
{
    builder_format(in, out, "%s([", value_type_name(v));
    for (size_t i = 0; i < v.as.view->of->count; i++) {
        if (i > 0) builder_add_literal(in, out, ", ");
        write_repr(in, out, view_item(in, v.as.view, i), outer);
    }
    builder_add_literal(in, out, "])");
}

static void write_range(interp *in, builder *out, const range *r)
{
    builder_format(in, out, "range(%lld, %lld", (long long)r->start, (long long)r->stop);
    if (r->step != 1) builder_format(in, out, ", %lld", (long long)r->step);
    builder_add_literal(in, out, ")");
}

static void write_repr(interp *in, builder *out, value v, const around *outer)
{
    char number[NUMBER_TEXT_SIZE];
    interp_enter(in);
    interp_spend(in, 1);
    switch (v.kind) {
    case VALUE_MISSING:
    case VALUE_UNDEFINED:
        builder_add_literal(in, out, "Undefined");
        break;
    case VALUE_NONE:
        builder_add_literal(in, out, "None");
        break;
    case VALUE_BOOL:
        builder_add_literal(in, out, v.as.boolean ? "True" : "False");
        break;
    case VALUE_INT:
        builder_format(in, out, "%lld", (long long)v.as.integer);
        break;
    case VALUE_FLOAT:
        number_repr(v.as.real, number);
        builder_add_literal(in, out, number);
        break;
    case VALUE_TEXT:
        if (v.safe) builder_add_literal(in, out, "Markup(");
        write_text_repr(in, out, v.as.text);
        if (v.safe) builder_add_literal(in, out, ")");
        break;
    case VALUE_LIST:
        write_items(in, out, v.as.sequence, "[", "]", outer);
        break;
    case VALUE_TUPLE:
        write_items(in, out, v.as.sequence, "(", ")", outer);
        break;
    case VALUE_DICT:
        write_dict(in, out, v.as.dict, outer);
        break;
    case VALUE_NAMESPACE:
        builder_add_literal(in, out, "<Namespace ");
        write_dict(in, out, v.as.dict, outer);
        builder_add_literal(in, out, ">");
        break;
    case VALUE_RANGE:
        write_range(in, out, v.as.range);
        break;
    case VALUE_VIEW:
        write_view(in, out, v, outer);
        break;
    case VALUE_LOOP:
        builder_format(in, out, "<LoopContext %lld/%zu>", (long long)v.as.loop->index0 + 1,
                       loop_length(in, v.as.loop));
        break;
    case VALUE_MACRO:
        builder_add_literal(in, out, "<Macro ");
        if (v.as.macro->name != NULL)
            write_text_repr(in, out, v.as.macro->name);
        else
            builder_add_literal(in, out, "anonymous");
        builder_add_literal(in, out, ">");
        break;
    case VALUE_FUNCTION:
        builder_format(in, out, "<%s>", v.as.builtin->name);
        break;
    case VALUE_METHOD:
        builder_format(in, out, "<built-in method %s of %s object>", v.as.method->row->name,
                       value_type_name(v.as.method->self));
        break;
    case VALUE_SELF:
        builder_add_literal(in, out, "<TemplateReference None>");
        break;
    case VALUE_ITERATOR:
    case VALUE_CYCLER:
    case VALUE_JOINER:
    case VALUE_BLOCK:
        builder_format(in, out, "<%s>", value_described(in, v));
        break;
    }
    interp_leave(in);
}

void value_write_repr(interp *in, builder *out, value v)
{
    write_repr(in, out, v, NULL);
}

void value_write(interp *in, builder *out, value v)
{
    if (v.kind == VALUE_TEXT)
        builder_add_text(in, out, v.as.text);
    else if (v.kind != VALUE_UNDEFINED)
        write_repr(in, out, v, NULL);
}

text *value_str(interp *in, value v)
{
    if (v.kind == VALUE_TEXT) return v.as.text;
    builder out = {0};
    value_write(in, &out, v);
    return builder_text(in, &out);
}

text *value_repr(interp *in, value v)
{
    builder out = {0};
    value_write_repr(in, &out, v);
    return builder_text(in, &out);
}

value value_soft_text(interp *in, value v)
{
    return v.kind == VALUE_TEXT ? v : value_text(value_str(in, v));
}
