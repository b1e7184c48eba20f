/* "..." % items */
#include <string.h>

#include "worker/text/jinja/format.h"
#include "worker/text/jinja/format_field.h"
#include "worker/text/jinja/number.h"

typedef struct percent {
    interp *in;
    const text *pattern;
    size_t at;
    bool safe;
    value items;
    size_t used;
    builder out;
} percent;

static value next_item(percent *p)
{
    if (p->items.kind == VALUE_TUPLE) {
        if (p->used < p->items.as.sequence->count) return p->items.as.sequence->items[p->used++];
    } else if (p->used == 0) {
        p->used = 1;
        return p->items;
    }
    interp_fail(p->in, "not enough arguments for format string");
}

/* %(name)s */
static value named_item(percent *p)
{
    size_t start = p->at;
    int depth = 1;
    while (p->at < p->pattern->size && depth > 0) {
        char c = p->pattern->bytes[p->at++];
        depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    }
    if (depth > 0) interp_fail(p->in, "incomplete format key");
    if (p->items.kind != VALUE_DICT) interp_fail(p->in, "format requires a mapping");
    text *name = text_bytes(p->in, p->pattern, start, p->at - 1);
    value *found = dict_find_text(p->in, p->items.as.dict, name);
    if (found == NULL)
        interp_fail(p->in, "the mapping of a format has no '%.*s'", (int)name->size, name->bytes);
    p->used = 1;
    return *found;
}

/* A number after '%' or '.', or '*' for one of the items. */
static int64_t percent_number(percent *p)
{
    if (!field_take(p->pattern, &p->at, '*')) return field_read_number(p->in, p->pattern, &p->at);
    int64_t number = value_need_int(p->in, "'*' in a format", next_item(p));
    if (number > FIELD_NUMBER_MAX || number < -FIELD_NUMBER_MAX)
        interp_fail(p->in, "a number in a format is too large");
    return number;
}

static text *percent_text(percent *p, const field *f, value item)
{
    text *t;
    if (f->type == 's')
        t = value_str(p->in, item);
    else
        t = value_repr(p->in, item);
    if (f->type == 'a') t = field_ascii(p->in, t);
    if (p->safe && !(f->type == 's' && item.safe)) t = text_escape(p->in, t);
    return field_text(p->in, f, t, '>');
}

static text *percent_character(percent *p, const field *f, value item)
{
    int64_t number;
    text *t = NULL;
    if (value_is_integer(item, &number) && number >= 0 && number <= 0x10FFFF) {
        builder c = {0};
        builder_add_character(p->in, &c, (uint32_t)number);
        t = builder_text(p->in, &c);
    } else if (item.kind == VALUE_TEXT && text_length(p->in, item.as.text) == 1) {
        t = item.as.text;
    } else {
        interp_fail(p->in, "%%c requires int or char");
    }
    return field_text(p->in, f, t, '>');
}

static text *percent_integer(percent *p, field f, value item)
{
    int64_t number;
    if (item.kind == VALUE_UNDEFINED) value_fail_undefined(p->in, item.as.undefined);
    bool decimal = f.type == 'd' || f.type == 'i' || f.type == 'u';
    if (decimal && item.kind == VALUE_FLOAT) {
        if (!number_truncate(item.as.real, &number))
            interp_fail(p->in, "cannot convert a float to a 64-bit integer");
    } else if (!value_is_integer(item, &number)) {
        interp_fail(p->in, "%%%c format: a number is required, not %s", f.type,
                    value_type_name(item));
    }
    if (decimal) f.type = 'd';
    int64_t digits = f.precision;
    f.precision = -1;
    return field_integer(p->in, &f, number, digits);
}

static text *percent_field(percent *p, field f, value item)
{
    switch (f.type) {
    case 's':
    case 'r':
    case 'a':
        f.zero = false;
        return percent_text(p, &f, item);
    case 'c':
        f.zero = false;
        f.precision = -1;
        return percent_character(p, &f, item);
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o':
        return percent_integer(p, f, item);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        if (item.kind == VALUE_UNDEFINED) value_fail_undefined(p->in, item.as.undefined);
        if (!value_is_number(item))
            interp_fail(p->in, "must be real number, not %s", value_type_name(item));
        return field_float(p->in, &f, value_as_double(item));
    default:
        interp_fail(p->in, "unsupported format character '%c'", f.type);
    }
}

/* What stands behind a '%'. */
static void run_percent(percent *p)
{
    field f = {.precision = -1};
    value item = value_missing();
    bool left = false;
    if (field_take(p->pattern, &p->at, '(')) item = named_item(p);
    for (;;) {
        if (field_take(p->pattern, &p->at, '-'))
            left = true;
        else if (field_take(p->pattern, &p->at, '+'))
            f.sign = '+';
        else if (field_take(p->pattern, &p->at, ' '))
            f.sign = f.sign == '+' ? '+' : ' ';
        else if (field_take(p->pattern, &p->at, '#'))
            f.alternate = true;
        else if (field_take(p->pattern, &p->at, '0'))
            f.zero = true;
        else
            break;
    }
    f.width = percent_number(p);
    if (f.width < 0) {
        left = true;
        f.width = -f.width;
    }
    if (field_take(p->pattern, &p->at, '.')) {
        f.precision = percent_number(p);
        if (f.precision < 0) f.precision = 0;
    }
    if (!field_take(p->pattern, &p->at, 'l') && !field_take(p->pattern, &p->at, 'h'))
        field_take(p->pattern, &p->at, 'L');
    if (p->at >= p->pattern->size) interp_fail(p->in, "incomplete format");
    f.type = p->pattern->bytes[p->at++];
    if (f.type == '%') {
        builder_add_literal(p->in, &p->out, "%");
        return;
    }
    if (item.kind == VALUE_MISSING) item = next_item(p);
    if (left) {
        f.zero = false;
        f.align = '<';
    }
    builder_add_text(p->in, &p->out, percent_field(p, f, item));
}

value format_percent(interp *in, text *pattern, bool safe, value items)
{
    percent p = {.in = in, .pattern = pattern, .safe = safe, .items = items};
    while (p.at < pattern->size) {
        const char *mark = memchr(pattern->bytes + p.at, '%', pattern->size - p.at);
        size_t end = mark != NULL ? (size_t)(mark - pattern->bytes) : pattern->size;
        builder_add(in, &p.out, pattern->bytes + p.at, end - p.at);
        p.at = end + 1;
        interp_spend(in, 1);
        if (mark != NULL) run_percent(&p);
    }
    bool tuple = items.kind == VALUE_TUPLE;
    /* What has items by key may stay unused, as Python has it. */
    bool may_stay = items.kind == VALUE_DICT || items.kind == VALUE_LIST ||
                    items.kind == VALUE_UNDEFINED || items.kind == VALUE_RANGE;
    if (tuple ? p.used < items.as.sequence->count : p.used == 0 && !may_stay)
        interp_fail(in, "not all arguments converted during string formatting");
    text *result = builder_text(in, &p.out);
    return safe ? value_markup(result) : value_text(result);
}
