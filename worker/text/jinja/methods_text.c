/* The methods of str and Markup. */
#include <string.h>

#include "worker/text/jinja/format.h"
#include "worker/text/jinja/iterate.h"
#include "worker/text/jinja/members.h"

static int64_t integer_or(interp *in, const char *what, value v, int64_t otherwise)
{
    return v.kind == VALUE_MISSING || v.kind == VALUE_NONE ? otherwise
                                                           : value_need_int(in, what, v);
}

/* -- change of case and padding ---------------------------------------------------------------- */

static value upper(interp *in, value self, const value *given)
{
    (void)given;
    return value_like(self, text_upper(in, self.as.text));
}

static value lower(interp *in, value self, const value *given)
{
    (void)given;
    return value_like(self, text_lower(in, self.as.text));
}

static value capitalize(interp *in, value self, const value *given)
{
    (void)given;
    return value_like(self, text_capitalize(in, self.as.text));
}

static value title(interp *in, value self, const value *given)
{
    (void)given;
    return value_like(self, text_title(in, self.as.text));
}

static value swapcase(interp *in, value self, const value *given)
{
    (void)given;
    return value_like(self, text_swapcase(in, self.as.text));
}

static value casefold(interp *in, value self, const value *given)
{
    (void)given;
    return value_like(self, text_casefold(in, self.as.text));
}

static value pad(interp *in, value self, const value *given, alignment where)
{
    text *fill = given[1].kind == VALUE_MISSING ? text_literal(in, " ")
                                                : value_need_text(in, "a fill character", given[1]);
    if (text_length(in, fill) != 1)
        interp_fail(in, "The fill character must be exactly one character long");
    int64_t width = value_need_int(in, "a width", given[0]);
    return value_like(self, text_pad(in, self.as.text, width, fill, where));
}

static value center(interp *in, value self, const value *given)
{
    return pad(in, self, given, ALIGN_CENTER);
}

static value ljust(interp *in, value self, const value *given)
{
    return pad(in, self, given, ALIGN_LEFT);
}

static value rjust(interp *in, value self, const value *given)
{
    return pad(in, self, given, ALIGN_RIGHT);
}

static value zfill(interp *in, value self, const value *given)
{
    text *t = self.as.text;
    int64_t width = value_need_int(in, "zfill()", given[0]);
    size_t length = text_length(in, t);
    if (width <= 0 || (uint64_t)width <= length) return self;
    size_t sign = t->size > 0 && (t->bytes[0] == '-' || t->bytes[0] == '+');
    builder out = {0};
    builder_add(in, &out, t->bytes, sign);
    builder_fill(in, &out, '0', (size_t)width - length);
    builder_add(in, &out, t->bytes + sign, t->size - sign);
    return value_like(self, builder_text(in, &out));
}

static value expandtabs(interp *in, value self, const value *given)
{
    const text *t = self.as.text;
    int64_t size = integer_or(in, "expandtabs()", given[0], 8), column = 0;
    builder out = {0};
    for (size_t at = 0; at < t->size;) {
        size_t start = at;
        uint32_t c = text_next(t, &at);
        if (c == '\t') {
            int64_t fill = size > 0 ? size - column % size : 0;
            builder_fill(in, &out, ' ', (size_t)fill);
            column += fill;
            continue;
        }
        column = c == '\n' || c == '\r' ? 0 : column + 1;
        builder_add(in, &out, t->bytes + start, at - start);
    }
    interp_spend_characters(in, t->size);
    return value_like(self, builder_text(in, &out));
}

/* -- stripping --------------------------------------------------------------------------------- */

static value strip_sides(interp *in, value self, value characters, bool left, bool right)
{
    const text *set = NULL;
    if (characters.kind != VALUE_MISSING && characters.kind != VALUE_NONE)
        set = value_need_text(in, "strip()", characters);
    return value_like(self, text_strip(in, self.as.text, set, left, right));
}

static value strip(interp *in, value self, const value *given)
{
    return strip_sides(in, self, given[0], true, true);
}

static value lstrip(interp *in, value self, const value *given)
{
    return strip_sides(in, self, given[0], true, false);
}

static value rstrip(interp *in, value self, const value *given)
{
    return strip_sides(in, self, given[0], false, true);
}

static bool starts_at(const text *t, const text *part, size_t at, size_t end)
{
    return at <= end && part->size <= end - at &&
           (part->size == 0 || memcmp(t->bytes + at, part->bytes, part->size) == 0);
}

static value removeprefix(interp *in, value self, const value *given)
{
    text *t = self.as.text;
    const text *prefix = value_need_text(in, "removeprefix()", given[0]);
    if (!starts_at(t, prefix, 0, t->size)) return self;
    return value_like(self, text_bytes(in, t, prefix->size, t->size));
}

static value removesuffix(interp *in, value self, const value *given)
{
    text *t = self.as.text;
    const text *suffix = value_need_text(in, "removesuffix()", given[0]);
    if (suffix->size > t->size || !starts_at(t, suffix, t->size - suffix->size, t->size))
        return self;
    return value_like(self, text_bytes(in, t, 0, t->size - suffix->size));
}

/* -- searching --------------------------------------------------------------------------------- */

/* The bytes from..to that start and end (code points, may be negative or missing) leave. False
 * when nothing, not even "", lies there. */
static bool search_bounds(interp *in, text *t, value start, value end, size_t *from, size_t *to)
{
    int64_t length = (int64_t)text_length(in, t);
    int64_t first = integer_or(in, "a start", start, 0);
    int64_t last = integer_or(in, "an end", end, length);
    if (last > length) last = length;
    if (last < 0) last = last + length < 0 ? 0 : last + length;
    if (first < 0) first = first + length < 0 ? 0 : first + length;
    if (first > last) return false;
    *from = first == 0 ? 0 : text_offset(in, t, (size_t)first);
    *to = last == length ? t->size : text_offset(in, t, (size_t)last);
    return true;
}

static int64_t search(interp *in, value self, const value *given, bool backward)
{
    text *t = self.as.text;
    const text *needle = value_need_text(in, "find()", given[0]);
    size_t from, to;
    if (!search_bounds(in, t, given[1], given[2], &from, &to)) return -1;
    size_t found =
        backward ? text_find_last(in, t, needle, from, to) : text_find(in, t, needle, from, to);
    return found == TEXT_NOT_FOUND ? -1 : (int64_t)text_index(in, t, found);
}

static value find(interp *in, value self, const value *given)
{
    return value_int(search(in, self, given, false));
}

static value rfind(interp *in, value self, const value *given)
{
    return value_int(search(in, self, given, true));
}

static value index_or_fail(interp *in, int64_t found)
{
    if (found < 0) interp_fail(in, "substring not found");
    return value_int(found);
}

static value index_of(interp *in, value self, const value *given)
{
    return index_or_fail(in, search(in, self, given, false));
}

static value rindex_of(interp *in, value self, const value *given)
{
    return index_or_fail(in, search(in, self, given, true));
}

static value count(interp *in, value self, const value *given)
{
    text *t = self.as.text;
    const text *needle = value_need_text(in, "count()", given[0]);
    size_t from, to;
    if (!search_bounds(in, t, given[1], given[2], &from, &to)) return value_int(0);
    if (needle->size == 0)
        return value_int((int64_t)(text_index(in, t, to) - text_index(in, t, from)) + 1);
    int64_t found = 0;
    for (;;) {
        const char *at = memmem(t->bytes + from, to - from, needle->bytes, needle->size);
        if (at == NULL) break;
        interp_spend(in, 1);
        found++;
        from = (size_t)(at - t->bytes) + needle->size;
    }
    interp_spend_bytes(in, t->size);
    return value_int(found);
}

/* startswith() and endswith(): one text or a tuple of them. */
static bool has_affix(interp *in, value self, const value *given, bool at_end)
{
    text *t = self.as.text;
    size_t from, to;
    value *affixes = (value *)&given[0];
    size_t affix_count = 1;
    if (given[0].kind == VALUE_TUPLE) {
        affixes = given[0].as.sequence->items;
        affix_count = given[0].as.sequence->count;
    }
    bool inside = search_bounds(in, t, given[1], given[2], &from, &to);
    bool found = false;
    interp_spend_items(in, affix_count);
    for (size_t i = 0; i < affix_count; i++) {
        const text *affix = value_need_text(in, "startswith() or endswith()", affixes[i]);
        if (!inside || affix->size > to - from) continue;
        interp_spend_bytes(in, affix->size);
        found = found || starts_at(t, affix, at_end ? to - affix->size : from, to);
    }
    return found;
}

static value startswith(interp *in, value self, const value *given)
{
    return value_bool(has_affix(in, self, given, false));
}

static value endswith(interp *in, value self, const value *given)
{
    return value_bool(has_affix(in, self, given, true));
}

static value replace(interp *in, value self, const value *given)
{
    const text *old = value_need_text(in, "replace()", given[0]);
    text *fresh = value_need_text(in, "replace()", given[1]);
    if (self.safe && !given[1].safe) fresh = text_escape(in, fresh);
    int64_t times = given[2].kind == VALUE_MISSING ? -1 : value_need_int(in, "replace()", given[2]);
    return value_like(self, text_replace(in, self.as.text, old, fresh, times));
}

/* -- splitting and joining --------------------------------------------------------------------- */

static void push_part(interp *in, sequence *parts, value self, size_t start, size_t stop)
{
    sequence_push(in, parts, value_like(self, text_bytes(in, self.as.text, start, stop)));
}

static size_t skip(const text *t, size_t at, bool space)
{
    while (at < t->size) {
        size_t next = at;
        if (character_is_space(text_next(t, &next)) != space) break;
        at = next;
    }
    return at;
}

static size_t skip_back(const text *t, size_t at, bool space)
{
    while (at > 0) {
        size_t previous = at;
        if (character_is_space(text_previous(t, &previous)) != space) break;
        at = previous;
    }
    return at;
}

static sequence *split_space(interp *in, value self, int64_t limit)
{
    const text *t = self.as.text;
    sequence *parts = sequence_new(in, 0);
    for (size_t at = skip(t, 0, true); at < t->size;) {
        size_t stop = limit == 0 ? t->size : skip(t, at, false);
        push_part(in, parts, self, at, stop);
        at = skip(t, stop, true);
        limit--;
    }
    interp_spend_characters(in, t->size);
    return parts;
}

sequence *text_split(interp *in, value self, const text *separator, int64_t limit)
{
    if (separator == NULL) return split_space(in, self, limit);
    if (separator->size == 0) interp_fail(in, "empty separator");
    const text *t = self.as.text;
    sequence *parts = sequence_new(in, 0);
    size_t at = 0;
    for (; limit != 0; limit--) {
        const char *found =
            t->size - at < separator->size
                ? NULL
                : memmem(t->bytes + at, t->size - at, separator->bytes, separator->size);
        if (found == NULL) break;
        push_part(in, parts, self, at, (size_t)(found - t->bytes));
        at = (size_t)(found - t->bytes) + separator->size;
    }
    interp_spend_bytes(in, t->size);
    push_part(in, parts, self, at, t->size);
    return parts;
}

static void turn_around(sequence *s)
{
    for (size_t i = 0; i < s->count / 2; i++) {
        value first = s->items[i];
        s->items[i] = s->items[s->count - 1 - i];
        s->items[s->count - 1 - i] = first;
    }
}

static sequence *split_backward(interp *in, value self, const text *separator, int64_t limit)
{
    const text *t = self.as.text;
    sequence *parts = sequence_new(in, 0);
    size_t end = t->size;
    if (separator == NULL) {
        for (end = skip_back(t, end, true); end > 0; limit--) {
            size_t start = limit == 0 ? 0 : skip_back(t, end, false);
            push_part(in, parts, self, start, end);
            end = skip_back(t, start, true);
        }
    } else {
        if (separator->size == 0) interp_fail(in, "empty separator");
        for (; limit != 0; limit--) {
            size_t found = text_find_last(in, t, separator, 0, end);
            if (found == TEXT_NOT_FOUND) break;
            push_part(in, parts, self, found + separator->size, end);
            end = found;
        }
        push_part(in, parts, self, 0, end);
    }
    interp_spend_characters(in, t->size);
    turn_around(parts);
    return parts;
}

static const text *separator_of(interp *in, value v)
{
    return v.kind == VALUE_MISSING || v.kind == VALUE_NONE ? NULL
                                                           : value_need_text(in, "split()", v);
}

static value split(interp *in, value self, const value *given)
{
    int64_t limit = given[1].kind == VALUE_MISSING ? -1 : value_need_int(in, "split()", given[1]);
    return value_sequence(VALUE_LIST, text_split(in, self, separator_of(in, given[0]), limit));
}

static value rsplit(interp *in, value self, const value *given)
{
    int64_t limit = given[1].kind == VALUE_MISSING ? -1 : value_need_int(in, "rsplit()", given[1]);
    return value_sequence(VALUE_LIST, split_backward(in, self, separator_of(in, given[0]), limit));
}

sequence *text_lines(interp *in, value self, bool keep_ends)
{
    const text *t = self.as.text;
    sequence *lines = sequence_new(in, 0);
    size_t start = 0;
    for (size_t at = 0; at < t->size;) {
        size_t end = at;
        uint32_t c = text_next(t, &at);
        if (!character_is_line_end(c)) continue;
        if (c == '\r' && at < t->size && t->bytes[at] == '\n') at++;
        push_part(in, lines, self, start, keep_ends ? at : end);
        start = at;
    }
    if (start < t->size) push_part(in, lines, self, start, t->size);
    interp_spend_characters(in, t->size);
    return lines;
}

static value splitlines(interp *in, value self, const value *given)
{
    bool keep = given[0].kind != VALUE_MISSING && value_truth(in, given[0]);
    return value_sequence(VALUE_LIST, text_lines(in, self, keep));
}

value text_join(interp *in, value separator, value items)
{
    builder out = {0};
    bool first = true;
    size_t number = 0;
    iterator *it = iterate(in, items);
    for (value item; iterate_next(in, it, &item); number++) {
        if (!first) builder_add_text(in, &out, separator.as.text);
        first = false;
        if (separator.safe) {
            text *t = value_str(in, item);
            builder_add_text(in, &out, item.safe ? t : text_escape(in, t));
            continue;
        }
        if (item.kind != VALUE_TEXT)
            interp_fail(in, "sequence item %zu: expected str instance, %s found", number,
                        value_type_name(item));
        builder_add_text(in, &out, item.as.text);
    }
    return value_like(separator, builder_text(in, &out));
}

static value join(interp *in, value self, const value *given)
{
    return text_join(in, self, given[0]);
}

static value parts_of(interp *in, value self, size_t found, const text *separator, bool backward)
{
    text *t = self.as.text;
    sequence *parts = sequence_new(in, 3);
    if (found == TEXT_NOT_FOUND) {
        value nothing = value_like(self, text_literal(in, ""));
        sequence_push(in, parts, backward ? nothing : self);
        sequence_push(in, parts, nothing);
        sequence_push(in, parts, backward ? self : nothing);
    } else {
        push_part(in, parts, self, 0, found);
        push_part(in, parts, self, found, found + separator->size);
        push_part(in, parts, self, found + separator->size, t->size);
    }
    return value_sequence(VALUE_TUPLE, parts);
}

static value partition(interp *in, value self, const value *given)
{
    const text *separator = value_need_text(in, "partition()", given[0]);
    if (separator->size == 0) interp_fail(in, "empty separator");
    size_t found = text_find(in, self.as.text, separator, 0, self.as.text->size);
    return parts_of(in, self, found, separator, false);
}

static value rpartition(interp *in, value self, const value *given)
{
    const text *separator = value_need_text(in, "rpartition()", given[0]);
    if (separator->size == 0) interp_fail(in, "empty separator");
    size_t found = text_find_last(in, self.as.text, separator, 0, self.as.text->size);
    return parts_of(in, self, found, separator, true);
}

/* -- the rest ---------------------------------------------------------------------------------- */

static value format(interp *in, value self, const arguments *given)
{
    return format_braces(in, self.as.text, self.safe, given, value_missing());
}

static value format_map(interp *in, value self, const value *given)
{
    return format_braces(in, self.as.text, self.safe, &(arguments){0}, given[0]);
}

static value not_offered(interp *in, value self, const arguments *given)
{
    (void)self, (void)given;
    interp_fail(in, "the str methods encode, maketrans and translate are not supported");
}

static value unescape(interp *in, value self, const value *given)
{
    (void)given;
    return value_text(markup_unescape(in, self.as.text));
}

static value striptags(interp *in, value self, const value *given)
{
    (void)given;
    return value_text(markup_strip_tags(in, self.as.text));
}

const method_row text_methods[] = {
    {"strip", strip, "-chars", 0, NULL},
    {"split", split, "sep maxsplit", 0, NULL},
    {"startswith", startswith, "-prefix -start -end", 1, NULL},
    {"endswith", endswith, "-suffix -start -end", 1, NULL},
    {"replace", replace, "-old -new -count", 2, NULL},
    {"lstrip", lstrip, "-chars", 0, NULL},
    {"rstrip", rstrip, "-chars", 0, NULL},
    {"upper", upper, "", 0, NULL},
    {"lower", lower, "", 0, NULL},
    {"title", title, "", 0, NULL},
    {"capitalize", capitalize, "", 0, NULL},
    {"swapcase", swapcase, "", 0, NULL},
    {"casefold", casefold, "", 0, NULL},
    {"join", join, "-iterable", 1, NULL},
    {"format", NULL, "", 0, format},
    {"format_map", format_map, "-mapping", 1, NULL},
    {"rsplit", rsplit, "sep maxsplit", 0, NULL},
    {"splitlines", splitlines, "keepends", 0, NULL},
    {"partition", partition, "-sep", 1, NULL},
    {"rpartition", rpartition, "-sep", 1, NULL},
    {"find", find, "-sub -start -end", 1, NULL},
    {"rfind", rfind, "-sub -start -end", 1, NULL},
    {"index", index_of, "-sub -start -end", 1, NULL},
    {"rindex", rindex_of, "-sub -start -end", 1, NULL},
    {"count", count, "-sub -start -end", 1, NULL},
    {"removeprefix", removeprefix, "-prefix", 1, NULL},
    {"removesuffix", removesuffix, "-suffix", 1, NULL},
    {"center", center, "-width -fillchar", 1, NULL},
    {"ljust", ljust, "-width -fillchar", 1, NULL},
    {"rjust", rjust, "-width -fillchar", 1, NULL},
    {"zfill", zfill, "-width", 1, NULL},
    {"expandtabs", expandtabs, "tabsize", 0, NULL},
    {"encode", NULL, "", 0, not_offered},
    {"maketrans", NULL, "", 0, not_offered},
    {"translate", NULL, "", 0, not_offered},
    {0},
};

const method_row markup_methods[] = {
    {"unescape", unescape, "", 0, NULL},
    {"striptags", striptags, "", 0, NULL},
    {0},
};
