/* Filters that work on text, whatever they are given. */
#include <string.h>

#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/format.h"
#include "worker/text/jinja/iterate.h"
#include "worker/text/jinja/members.h"

static value upper(interp *in, value subject, const value *given)
{
    (void)given;
    value v = value_soft_text(in, subject);
    return value_like(v, text_upper(in, v.as.text));
}

static value lower(interp *in, value subject, const value *given)
{
    (void)given;
    value v = value_soft_text(in, subject);
    return value_like(v, text_lower(in, v.as.text));
}

static value capitalize(interp *in, value subject, const value *given)
{
    (void)given;
    value v = value_soft_text(in, subject);
    return value_like(v, text_capitalize(in, v.as.text));
}

static bool parts_words(uint32_t c)
{
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || character_is_space(c);
}

/* Capital letters where words begin, small ones elsewhere; unlike str.title() only white space,
 * hyphens and opening brackets part words. */
static value title(interp *in, value subject, const value *given)
{
    (void)given;
    text *t = value_str(in, subject);
    builder out = {0};
    for (size_t at = 0; at < t->size;) {
        size_t start = at, first = at;
        uint32_t c = text_next(t, &first);
        bool gap = parts_words(c);
        at = first;
        while (at < t->size) {
            size_t next = at;
            if (parts_words(text_next(t, &next)) != gap) break;
            at = next;
        }
        builder_add_text(in, &out, text_upper(in, text_bytes(in, t, start, first)));
        builder_add_text(in, &out, text_lower(in, text_bytes(in, t, first, at)));
    }
    return value_text(builder_text(in, &out));
}

static value trim(interp *in, value subject, const value *given)
{
    value v = value_soft_text(in, subject);
    const text *characters = NULL;
    if (given[0].kind != VALUE_MISSING && given[0].kind != VALUE_NONE)
        characters = value_need_text(in, "trim", given[0]);
    return value_like(v, text_strip(in, v.as.text, characters, true, true));
}

static value replace(interp *in, value subject, const value *given)
{
    int64_t count = -1;
    if (given[2].kind != VALUE_MISSING && given[2].kind != VALUE_NONE)
        count = value_need_int(in, "replace", given[2]);
    text *old = value_str(in, given[0]), *fresh = value_str(in, given[1]);
    return value_text(text_replace(in, value_str(in, subject), old, fresh, count));
}

static value string(interp *in, value subject, const value *given)
{
    (void)given;
    return value_soft_text(in, subject);
}

static value center(interp *in, value subject, const value *given)
{
    value v = value_soft_text(in, subject);
    int64_t width = given[0].kind == VALUE_MISSING ? 80 : value_need_int(in, "center", given[0]);
    return value_like(v, text_pad(in, v.as.text, width, text_literal(in, " "), ALIGN_CENTER));
}

static value indent(interp *in, value subject, const value *given)
{
    text *t = value_need_text(in, "indent", subject);
    bool first = given_truth(in, given[1]), blank = given_truth(in, given[2]);
    text *margin;
    if (given[0].kind == VALUE_TEXT) {
        margin = given[0].as.text;
    } else {
        int64_t width = given[0].kind == VALUE_MISSING ? 4 : value_need_int(in, "indent", given[0]);
        margin = value_binary(in, OP_MULTIPLY, value_literal(in, " "), value_int(width)).as.text;
    }
    if (subject.safe && given[0].kind == VALUE_TEXT && !given[0].safe)
        margin = text_escape(in, margin);
    builder with_end = {0}, out = {0};
    builder_add_text(in, &with_end, t);
    builder_add_literal(in, &with_end, "\n"); /* so that a last empty line counts */
    sequence *lines = text_lines(in, value_text(builder_text(in, &with_end)), false);
    for (size_t i = 0; i < lines->count; i++) {
        const text *line = lines->items[i].as.text;
        if (i > 0) builder_add_literal(in, &out, "\n");
        if (i == 0 ? first : blank || line->size > 0) builder_add_text(in, &out, margin);
        builder_add_text(in, &out, line);
    }
    return value_like(subject, builder_text(in, &out));
}

static value truncate(interp *in, value subject, const value *given)
{
    int64_t length =
        given[0].kind == VALUE_MISSING ? 255 : value_need_int(in, "truncate", given[0]);
    bool kill_words = given_truth(in, given[1]);
    value end = given[2].kind == VALUE_MISSING ? value_literal(in, "...") : given[2];
    int64_t leeway = 5;
    if (given[3].kind != VALUE_MISSING && given[3].kind != VALUE_NONE)
        leeway = value_need_int(in, "truncate", given[3]);
    text *tail = value_need_text(in, "truncate", end);
    int64_t tail_length = (int64_t)text_length(in, tail);
    if (length < tail_length)
        interp_fail(in, "expected length >= %lld, got %lld", (long long)tail_length,
                    (long long)length);
    if (leeway < 0) interp_fail(in, "expected leeway >= 0, got %lld", (long long)leeway);
    if ((int64_t)value_length(in, subject) - leeway <= length) return subject;
    text *t = value_need_text(in, "truncate", subject);
    text *head = text_part(in, t, 0, (size_t)(length - tail_length));
    if (!kill_words) {
        size_t space = text_find_last(in, head, text_literal(in, " "), 0, head->size);
        if (space != TEXT_NOT_FOUND) head = text_bytes(in, head, 0, space);
    }
    return value_binary(in, OP_ADD, value_like(subject, head), end);
}

static value wordcount(interp *in, value subject, const value *given)
{
    (void)given;
    text *t = value_str(in, subject);
    int64_t words = 0;
    bool inside = false;
    for (size_t at = 0; at < t->size;) {
        uint32_t c = text_next(t, &at);
        bool word =
            c == '_' || character_is_alpha(c) || character_is_numeric(c) || character_is_digit(c);
        words += word && !inside;
        inside = word;
    }
    interp_spend_characters(in, t->size);
    return value_int(words);
}

static value format(interp *in, value subject, const arguments *given)
{
    if (given->count > 0 && given->named_count > 0)
        interp_fail(in, "can't handle positional and keyword arguments at the same time");
    value v = value_soft_text(in, subject), items;
    if (given->named_count > 0) {
        dict *d = dict_new(in);
        for (size_t i = 0; i < given->named_count; i++) {
            const text *name = given->named[i].name;
            dict_set(in, d, value_text(text_new(in, name->bytes, name->size)),
                     given->named[i].item);
        }
        items = value_dict(d);
    } else {
        sequence *s = sequence_new(in, given->count);
        for (size_t i = 0; i < given->count; i++)
            sequence_push(in, s, given->positional[i]);
        items = value_sequence(VALUE_TUPLE, s);
    }
    return format_percent(in, v.as.text, v.safe, items);
}

/* -- HTML and URLs ----------------------------------------------------------------------------- */

static value escape(interp *in, value subject, const value *given)
{
    (void)given;
    if (subject.kind == VALUE_TEXT && subject.safe) return subject;
    return value_markup(text_escape(in, value_str(in, subject)));
}

static value forceescape(interp *in, value subject, const value *given)
{
    (void)given;
    return value_markup(text_escape(in, value_str(in, subject)));
}

static value safe(interp *in, value subject, const value *given)
{
    (void)given;
    return value_markup(value_str(in, subject));
}

static value striptags(interp *in, value subject, const value *given)
{
    (void)given;
    return value_text(markup_strip_tags(in, value_str(in, subject)));
}

static value xmlattr(interp *in, value subject, const value *given)
{
    if (subject.kind == VALUE_UNDEFINED) value_fail_undefined(in, subject.as.undefined);
    if (subject.kind != VALUE_DICT)
        interp_fail(in, "xmlattr needs a mapping, not '%s'", value_type_name(subject));
    bool lead = given[0].kind == VALUE_MISSING || value_truth(in, given[0]);
    const dict *d = subject.as.dict;
    builder out = {0};
    for (size_t i = 0; i < d->count; i++) {
        value item = d->entries[i].item;
        if (item.kind == VALUE_NONE || item.kind == VALUE_UNDEFINED) continue;
        text *key = value_need_text(in, "an attribute's name", d->entries[i].key);
        for (size_t k = 0; k < key->size; k++)
            if (memchr(" \t\n\r\f\v/>=", key->bytes[k], 10) != NULL)
                interp_fail(in, "Invalid character in attribute name: %.*s", (int)key->size,
                            key->bytes);
        if (out.size > 0 || lead) builder_add_literal(in, &out, " ");
        builder_add_text(in, &out, escape(in, d->entries[i].key, NULL).as.text);
        builder_add_literal(in, &out, "=\"");
        builder_add_text(in, &out, escape(in, item, NULL).as.text);
        builder_add_literal(in, &out, "\"");
    }
    return value_text(builder_text(in, &out));
}

static void add_quoted(interp *in, builder *out, const text *t, bool query)
{
    for (size_t i = 0; i < t->size; i++) {
        char c = t->bytes[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !query);
        if (plain)
            builder_add(in, out, &c, 1);
        else if (c == ' ' && query)
            builder_add_literal(in, out, "+");
        else
            builder_format(in, out, "%%%02X", (unsigned char)c);
    }
    interp_spend_characters(in, t->size);
}

static value urlencode(interp *in, value subject, const value *given)
{
    (void)given;
    builder out = {0};
    if (subject.kind == VALUE_TEXT || !iterable(subject)) {
        add_quoted(in, &out, value_str(in, subject), false);
        return value_text(builder_text(in, &out));
    }
    if (subject.kind == VALUE_DICT) {
        view *items = interp_alloc(in, sizeof *items);
        *items = (view){subject.as.dict, VIEW_ITEMS};
        subject = (value){.kind = VALUE_VIEW, .as.view = items};
    }
    bool first = true;
    iterator *it = iterate(in, subject);
    for (value item; iterate_next(in, it, &item); first = false) {
        sequence *pair = collect(in, item);
        if (pair->count != 2) interp_fail(in, "urlencode needs pairs of key and value");
        if (!first) builder_add_literal(in, &out, "&");
        add_quoted(in, &out, value_str(in, pair->items[0]), true);
        builder_add_literal(in, &out, "=");
        add_quoted(in, &out, value_str(in, pair->items[1]), true);
    }
    return value_text(builder_text(in, &out));
}

const filter_row text_filters[] = {
    {"tojson", filter_tojson, "ensure_ascii indent separators sort_keys", 0, NULL},
    {"trim", trim, "chars", 0, NULL},
    {"string", string, "", 0, NULL},
    {"upper", upper, "", 0, NULL},
    {"lower", lower, "", 0, NULL},
    {"capitalize", capitalize, "", 0, NULL},
    {"title", title, "", 0, NULL},
    {"replace", replace, "old new count", 2, NULL},
    {"indent", indent, "width first blank", 0, NULL},
    {"truncate", truncate, "length killwords end leeway", 0, NULL},
    {"center", center, "width", 0, NULL},
    {"wordcount", wordcount, "", 0, NULL},
    {"format", NULL, "", 0, format},
    {"pprint", filter_pprint, "", 0, NULL},
    {"safe", safe, "", 0, NULL},
    {"escape", escape, "", 0, NULL},
    {"e", escape, "", 0, NULL},
    {"forceescape", forceescape, "", 0, NULL},
    {"striptags", striptags, "", 0, NULL},
    {"xmlattr", xmlattr, "autospace", 0, NULL},
    {"urlencode", urlencode, "", 0, NULL},
    {0},
};
