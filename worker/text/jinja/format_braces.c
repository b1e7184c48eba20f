/* "...".format() */
#include "worker/text/jinja/format.h"
#include "worker/text/jinja/format_field.h"

typedef enum numbering { NUMBERING_OPEN, NUMBERING_AUTOMATIC, NUMBERING_MANUAL } numbering;
typedef struct braces {
    interp *in;
    bool safe;
    const arguments *given;
    value mapping;
    numbering numbering;
    size_t next;
} braces;

static text *expand(braces *b, const text *pattern, int depth);

static bool all_digits(const text *t)
{
    for (size_t i = 0; i < t->size; i++)
        if (t->bytes[i] < '0' || t->bytes[i] > '9') return false;
    return t->size > 0;
}

static value positional(braces *b, size_t number)
{
    if (number >= b->given->count)
        interp_fail(b->in, "Replacement index %zu out of range for positional args tuple", number);
    return b->given->positional[number];
}

static value by_name(braces *b, const text *name)
{
    for (size_t i = 0; i < b->given->named_count; i++)
        if (text_same(b->given->named[i].name, name)) return b->given->named[i].item;
    value *found =
        b->mapping.kind == VALUE_DICT ? dict_find_text(b->in, b->mapping.as.dict, name) : NULL;
    if (found == NULL)
        interp_fail(b->in, "format() has no argument '%.*s'", (int)name->size, name->bytes);
    return *found;
}

/* The part of a field's name before the first '.' or '['. */
static value first_value(braces *b, const text *name, bool whole)
{
    if (whole && name->size == 0) {
        if (b->numbering == NUMBERING_MANUAL)
            interp_fail(b->in, "cannot switch from manual field specification to automatic field "
                               "numbering");
        b->numbering = NUMBERING_AUTOMATIC;
        return positional(b, b->next++);
    }
    if (!all_digits(name)) return by_name(b, name);
    if (whole) {
        if (b->numbering == NUMBERING_AUTOMATIC && b->next > 0)
            interp_fail(b->in, "cannot switch from automatic field numbering to manual field "
                               "specification");
        b->numbering = NUMBERING_MANUAL;
    }
    size_t at = 0;
    return positional(b, (size_t)field_read_number(b->in, name, &at));
}

static value follow_bracket(braces *b, value object, const text *name, size_t *at)
{
    size_t start = *at;
    while (*at < name->size && name->bytes[*at] != ']')
        *at += 1;
    if (*at >= name->size) interp_fail(b->in, "Missing ']' in format string");
    text *key = text_bytes(b->in, name, start, *at);
    *at += 1;
    if (key->size == 0) interp_fail(b->in, "Empty attribute in format string");
    size_t digits = 0;
    if (!all_digits(key)) return value_item(b->in, object, value_text(key));
    return value_item(b->in, object, value_int(field_read_number(b->in, key, &digits)));
}

static value field_value(braces *b, const text *name)
{
    size_t at = 0;
    while (at < name->size && name->bytes[at] != '.' && name->bytes[at] != '[')
        at++;
    value v = first_value(b, text_bytes(b->in, name, 0, at), at == name->size);
    while (at < name->size) {
        char mark = name->bytes[at++];
        if (mark == '[') {
            v = follow_bracket(b, v, name, &at);
            continue;
        }
        if (mark != '.')
            interp_fail(b->in, "Only '.' or '[' may follow ']' in format field specifier");
        size_t start = at;
        while (at < name->size && name->bytes[at] != '.' && name->bytes[at] != '[')
            at++;
        if (at == start) interp_fail(b->in, "Empty attribute in format string");
        v = value_attribute(b->in, v, text_bytes(b->in, name, start, at));
    }
    return v;
}

static text *braces_put(braces *b, value v, text *spec)
{
    if (!b->safe) return format_value(b->in, v, spec);
    if (!v.safe) return text_escape(b->in, format_value(b->in, v, spec));
    if (spec->size > 0) interp_fail(b->in, "Unsupported format specification for Markup.");
    return v.as.text;
}

/* One replacement field; `*at` is behind its '{' and moves behind its '}'. */
static text *expand_field(braces *b, const text *pattern, size_t *at, int depth)
{
    interp *in = b->in;
    size_t start = *at, i = start;
    bool bracket = false;
    while (i < pattern->size) {
        char c = pattern->bytes[i];
        if (c == '[') bracket = true;
        if (c == ']') bracket = false;
        if (c == '{') interp_fail(in, "unexpected '{' in field name");
        if (!bracket && (c == '}' || c == '!' || c == ':')) break;
        i++;
    }
    if (i >= pattern->size) interp_fail(in, "expected '}' before end of string");
    text *name = text_bytes(in, pattern, start, i);
    char conversion = 0;
    if (pattern->bytes[i] == '!') {
        conversion = i + 1 < pattern->size ? pattern->bytes[i + 1] : '\0';
        i += 2;
        if (i >= pattern->size || (pattern->bytes[i] != ':' && pattern->bytes[i] != '}'))
            interp_fail(in, "expected ':' after conversion specifier");
    }
    text *spec = text_literal(in, "");
    if (pattern->bytes[i] == ':') {
        size_t from = ++i;
        int open = 1;
        for (; i < pattern->size; i++) {
            open += pattern->bytes[i] == '{' ? 1 : pattern->bytes[i] == '}' ? -1 : 0;
            if (open == 0) break;
        }
        if (i >= pattern->size) interp_fail(in, "expected '}' before end of string");
        spec = text_bytes(in, pattern, from, i);
    }
    *at = i + 1;
    value v = field_value(b, name);
    if (conversion == 's')
        v = value_text(value_str(in, v));
    else if (conversion == 'r')
        v = value_text(value_repr(in, v));
    else if (conversion == 'a')
        v = value_text(field_ascii(in, value_repr(in, v)));
    else if (conversion != 0)
        interp_fail(in, "Unknown conversion specifier '%c'", conversion);
    return braces_put(b, v, expand(b, spec, depth - 1));
}

static text *expand(braces *b, const text *pattern, int depth)
{
    if (depth < 0) interp_fail(b->in, "Max string recursion exceeded");
    builder out = {0};
    for (size_t at = 0; at < pattern->size;) {
        char c = pattern->bytes[at++];
        bool twice = at < pattern->size && pattern->bytes[at] == c;
        if (c == '{' && !twice) {
            interp_spend(b->in, 1);
            if (at >= pattern->size) interp_fail(b->in, "Single '{' encountered in format string");
            builder_add_text(b->in, &out, expand_field(b, pattern, &at, depth));
            continue;
        }
        if (c == '}' && !twice) interp_fail(b->in, "Single '}' encountered in format string");
        if (c == '{' || c == '}') at++;
        builder_add(b->in, &out, &c, 1);
    }
    interp_spend_characters(b->in, pattern->size);
    return builder_text(b->in, &out);
}

value format_braces(interp *in, text *pattern, bool safe, const arguments *given, value mapping)
{
    braces b = {.in = in, .safe = safe, .given = given, .mapping = mapping};
    text *result = expand(&b, pattern, 2);
    return safe ? value_markup(result) : value_text(result);
}
