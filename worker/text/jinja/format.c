#include "worker/text/jinja/format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/text/jinja/number.h"

/* One field: how wide, how precise and in which notation. */
typedef struct field {
    text *fill; /* NULL: a space */
    char align; /* '<' '>' '^' '=' or 0 */
    char sign;  /* '+' ' ' '-' or 0 */
    bool alternate;
    bool zero;
    int64_t width;
    char grouping;     /* ',' '_' or 0 */
    int64_t precision; /* -1: none */
    char type;         /* 0: none */
} field;

/* Wider than any text that could still be put out. */
enum { FIELD_MAX = 100000000 };
/* More digits than a double has. */
enum { PRECISION_MAX = 1100 };

/* -- putting a field together
 * ---------------------------------------------------------------------------- */

static text *aligned(interp *in, const field *f, text *t, char otherwise)
{
    char align = f->align != 0 ? f->align : otherwise;
    text *fill = f->fill != NULL ? f->fill : text_literal(in, f->zero ? "0" : " ");
    return text_pad(in, t, f->width, fill,
                    align == '<'   ? ALIGN_LEFT
                    : align == '^' ? ALIGN_MIDDLE
                                   : ALIGN_RIGHT);
}

static void add_grouped(interp *in, builder *out, const char *digits, size_t count, char grouping,
                        size_t group)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && grouping != 0 && (count - i) % group == 0) builder_add(in, out, &grouping, 1);
        builder_add(in, out, digits + i, 1);
    }
}

/* sign, prefix, digits and what follows them (point, exponent, percent sign), padded. */
static text *number_field(interp *in, const field *f, bool negative, const char *prefix,
                          const char *digits, size_t count, const char *rest)
{
    builder head = {0}, body = {0}, out = {0};
    char sign = negative ? '-' : f->sign == '-' ? 0 : f->sign;
    size_t group = f->type == 'x' || f->type == 'X' || f->type == 'o' || f->type == 'b' ? 4 : 3;
    if (sign != 0) builder_add(in, &head, &sign, 1);
    builder_add_literal(in, &head, prefix);
    bool pad_inside = f->align == '=' || (f->align == 0 && f->zero);
    size_t room = f->width > 0 ? (size_t)f->width : 0, fixed = head.size + strlen(rest);
    const text *fill = f->fill != NULL ? f->fill : text_literal(in, f->zero ? "0" : " ");
    if (pad_inside && text_is(fill, "0") && room > fixed) {
        /* Zeros are digits, so they are grouped too. */
        size_t wanted = count, length = count;
        if (f->grouping != 0) {
            while ((length = wanted + (wanted - 1) / group) < room - fixed)
                wanted++;
        } else if (room - fixed > count) {
            wanted = room - fixed;
        }
        builder zeros = {0};
        builder_fill(in, &zeros, '0', wanted - count);
        builder_add(in, &zeros, digits, count);
        digits = zeros.bytes;
        count = zeros.size;
    }
    add_grouped(in, &body, digits, count, f->grouping, group);
    builder_add_literal(in, &body, rest);
    builder_add_text(in, &out, builder_text(in, &head));
    if (pad_inside && room > head.size + body.size)
        for (size_t i = head.size + body.size; i < room; i++)
            builder_add_text(in, &out, fill);
    builder_add_text(in, &out, builder_text(in, &body));
    return aligned(in, f, builder_text(in, &out), '>');
}

static text *integer_field(interp *in, const field *f, int64_t number, int64_t digits_min)
{
    char digits[80];
    size_t at = sizeof digits;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    unsigned base = f->type == 'b' ? 2 : f->type == 'o' ? 8 : (f->type | 0x20) == 'x' ? 16 : 10;
    const char *alphabet = f->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    do {
        digits[--at] = alphabet[rest % base];
        rest /= base;
    } while (rest != 0);
    const char *prefix = "";
    if (f->alternate)
        prefix = f->type == 'b'   ? "0b"
                 : f->type == 'o' ? "0o"
                 : f->type == 'x' ? "0x"
                 : f->type == 'X' ? "0X"
                                  : "";
    size_t count = sizeof digits - at;
    if (digits_min <= (int64_t)count)
        return number_field(in, f, number < 0, prefix, digits + at, count, "");
    builder longer = {0};
    builder_fill(in, &longer, '0', (size_t)digits_min - count);
    builder_add(in, &longer, digits + at, count);
    return number_field(in, f, number < 0, prefix, longer.bytes, longer.size, "");
}

/* What format(d, ".5") writes: like 'g' but never without a fraction. */
static void general_with_point(interp *in, builder *out, double magnitude, int precision, bool keep)
{
    char printed[PRECISION_MAX + 40];
    if (precision == 0) precision = 1;
    snprintf(printed, sizeof printed, "%.*e", precision - 1, magnitude);
    int exponent = atoi(strchr(printed, 'e') + 1);
    bool scientific = exponent < -4 || exponent + 1 > precision - 1;
    if (scientific) {
        snprintf(printed, sizeof printed, keep ? "%#.*g" : "%.*g", precision, magnitude);
        if (strchr(printed, 'e') == NULL) {
            /* C would still write this one out; shorten the mantissa by hand. */
            snprintf(printed, sizeof printed, "%.*e", precision - 1, magnitude);
            char *mark = strchr(printed, 'e'), *end = mark;
            if (!keep && memchr(printed, '.', (size_t)(mark - printed)) != NULL) {
                while (end[-1] == '0')
                    end--;
                if (end[-1] == '.') end--;
            }
            memmove(end, mark, strlen(mark) + 1);
        }
    } else {
        snprintf(printed, sizeof printed, keep ? "%#.*g" : "%.*g", precision, magnitude);
        if (strchr(printed, '.') == NULL) strcat(printed, ".0");
    }
    builder_add_literal(in, out, printed);
}

static void print_float(char *out, size_t size, char type, bool alternate, int precision, double d)
{
    switch (type) {
    case 'e':
        snprintf(out, size, alternate ? "%#.*e" : "%.*e", precision, d);
        break;
    case 'E':
        snprintf(out, size, alternate ? "%#.*E" : "%.*E", precision, d);
        break;
    case 'f':
    case 'F':
        snprintf(out, size, alternate ? "%#.*f" : "%.*f", precision, d);
        break;
    case 'g':
        snprintf(out, size, alternate ? "%#.*g" : "%.*g", precision, d);
        break;
    default:
        snprintf(out, size, alternate ? "%#.*G" : "%.*G", precision, d);
        break;
    }
}

static text *float_field(interp *in, const field *f, double d)
{
    char printed[PRECISION_MAX + 400];
    builder body = {0};
    double magnitude = f->type == '%' ? fabs(d) * 100 : fabs(d);
    char type = f->type == '%' ? 'f' : f->type == 'n' ? 'g' : f->type;
    int precision = (int)f->precision;
    if (precision > PRECISION_MAX - 10) interp_fail(in, "a precision in a format is too large");
    if (!isfinite(d)) {
        bool capital = type == 'F' || type == 'E' || type == 'G';
        builder_add_literal(in, &body,
                            isnan(d) ? (capital ? "NAN" : "nan") : (capital ? "INF" : "inf"));
    } else if (type == 0 && precision < 0) {
        number_repr(magnitude, printed);
        size_t mantissa = strcspn(printed, "e");
        builder_add(in, &body, printed, mantissa);
        if (f->alternate && memchr(printed, '.', mantissa) == NULL)
            builder_add_literal(in, &body, ".");
        builder_add_literal(in, &body, printed + mantissa);
    } else if (type == 0) {
        general_with_point(in, &body, magnitude, precision, f->alternate);
    } else {
        print_float(printed, sizeof printed, type, f->alternate, precision < 0 ? 6 : precision,
                    magnitude);
        builder_add_literal(in, &body, printed);
    }
    if (f->type == '%') builder_add_literal(in, &body, "%");
    builder_add(in, &body, "", 1);
    size_t whole = strspn(body.bytes, "0123456789");
    if (whole == 0) { /* inf, nan: nothing to group or to fill with zeros */
        return number_field(in, f, !isnan(d) && signbit(d), "", body.bytes, body.size - 1, "");
    }
    return number_field(in, f, !isnan(d) && signbit(d), "", body.bytes, whole, body.bytes + whole);
}

static text *text_field(interp *in, const field *f, text *t, char align)
{
    if (f->precision >= 0 && (uint64_t)f->precision < text_length(in, t))
        t = text_part(in, t, 0, (size_t)f->precision);
    return aligned(in, f, t, align);
}

/* ascii(): what repr() wrote without characters beyond ASCII. */
static text *ascii_of(interp *in, text *t)
{
    builder out = {0};
    for (size_t at = 0; at < t->size;) {
        size_t start = at;
        uint32_t c = text_next(t, &at);
        if (c < 0x80)
            builder_add(in, &out, t->bytes + start, 1);
        else
            builder_format(in, &out,
                           c <= 0xFF     ? "\\x%02x"
                           : c <= 0xFFFF ? "\\u%04x"
                                         : "\\U%08x",
                           c);
    }
    return builder_text(in, &out);
}

/* -- format(v, spec)
 * ----------------------------------------------------------------------------------------- */

static int64_t read_number(interp *in, const text *spec, size_t *at)
{
    int64_t number = 0;
    while (*at < spec->size && spec->bytes[*at] >= '0' && spec->bytes[*at] <= '9') {
        number = number * 10 + (spec->bytes[*at] - '0');
        if (number > FIELD_MAX) interp_fail(in, "a number in a format is too large");
        *at += 1;
    }
    return number;
}

static bool take(const text *spec, size_t *at, char c)
{
    if (*at >= spec->size || spec->bytes[*at] != c) return false;
    *at += 1;
    return true;
}

static bool is_align(const text *spec, size_t at)
{
    return at < spec->size && spec->bytes[at] != 0 && strchr("<>=^", spec->bytes[at]) != NULL;
}

/* [[fill]align][sign][#][0][width][grouping][.precision][type] */
static field read_spec(interp *in, text *spec)
{
    field f = {.precision = -1};
    size_t at = 0, first = 0;
    if (spec->size > 0) text_next(spec, &first);
    if (first > 0 && is_align(spec, first)) {
        f.fill = text_bytes(in, spec, 0, first);
        f.align = spec->bytes[first];
        at = first + 1;
    } else if (is_align(spec, 0)) {
        f.align = spec->bytes[at++];
    }
    if (take(spec, &at, '+'))
        f.sign = '+';
    else if (take(spec, &at, '-'))
        f.sign = '-';
    else if (take(spec, &at, ' '))
        f.sign = ' ';
    f.alternate = take(spec, &at, '#');
    f.zero = f.fill == NULL && take(spec, &at, '0');
    f.width = read_number(in, spec, &at);
    if (take(spec, &at, ','))
        f.grouping = ',';
    else if (take(spec, &at, '_'))
        f.grouping = '_';
    if (take(spec, &at, '.')) {
        size_t digits = at;
        f.precision = read_number(in, spec, &at);
        if (at == digits) interp_fail(in, "Format specifier missing precision");
    }
    if (at < spec->size) f.type = spec->bytes[at++];
    if (at < spec->size) interp_fail(in, "Invalid format specifier");
    const char *groupable = f.grouping == '_' ? "deEfFgG%boxX" : "deEfFgG%";
    if (f.grouping != 0 && f.type != 0 && strchr(groupable, f.type) == NULL)
        interp_fail(in, "Cannot specify '%c' with '%c'.", f.grouping, f.type);
    return f;
}

_Noreturn static void unknown_type(interp *in, char type, value v)
{
    interp_fail(in, "Unknown format code '%c' for object of type '%s'", type, value_type_name(v));
}

static text *format_integer(interp *in, value v, field f)
{
    int64_t number;
    value_is_integer(v, &number);
    if (f.type != 0 && strchr("eEfFgG%", f.type) != NULL)
        return float_field(in, &f, (double)number);
    if (f.precision >= 0) interp_fail(in, "Precision not allowed in integer format specifier");
    if (f.type == 'c') {
        if (f.sign != 0 || f.alternate)
            interp_fail(in, "Sign not allowed with integer format specifier 'c'");
        if (number < 0 || number > 0x10FFFF) interp_fail(in, "%%c arg not in range(0x110000)");
        builder c = {0};
        builder_add_character(in, &c, (uint32_t)number);
        return aligned(in, &f, builder_text(in, &c), '>');
    }
    if (f.type != 0 && strchr("bdnoxX", f.type) == NULL) unknown_type(in, f.type, v);
    return integer_field(in, &f, number, 0);
}

text *format_value(interp *in, value v, text *spec)
{
    if (spec->size == 0) return value_str(in, v);
    if (v.kind != VALUE_TEXT && !value_is_number(v))
        interp_fail(in, "unsupported format string passed to %s.__format__", value_type_name(v));
    field f = read_spec(in, spec);
    if (v.kind == VALUE_TEXT) {
        if (f.type != 0 && f.type != 's') unknown_type(in, f.type, v);
        if (f.sign != 0 || f.alternate || f.grouping != 0 || f.align == '=')
            interp_fail(in, "a number's option in a string's format specifier");
        return text_field(in, &f, v.as.text, '<');
    }
    if (v.kind != VALUE_FLOAT) return format_integer(in, v, f);
    if (f.type != 0 && strchr("eEfFgGn%", f.type) == NULL) unknown_type(in, f.type, v);
    return float_field(in, &f, v.as.real);
}

/* -- "..." % items
 * --------------------------------------------------------------------------------------------- */

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
    if (take(p->pattern, &p->at, '*'))
        return value_need_int(p->in, "'*' in a format", next_item(p));
    return read_number(p->in, p->pattern, &p->at);
}

static text *percent_text(percent *p, const field *f, value item)
{
    text *t;
    if (f->type == 's')
        t = value_str(p->in, item);
    else
        t = value_repr(p->in, item);
    if (f->type == 'a') t = ascii_of(p->in, t);
    if (p->safe && !(f->type == 's' && item.safe)) t = text_escape(p->in, t);
    return text_field(p->in, f, t, '>');
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
    return text_field(p->in, f, t, '>');
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
    return integer_field(p->in, &f, number, digits);
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
        return float_field(p->in, &f, value_as_double(item));
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
    if (take(p->pattern, &p->at, '(')) item = named_item(p);
    for (;;) {
        if (take(p->pattern, &p->at, '-'))
            left = true;
        else if (take(p->pattern, &p->at, '+'))
            f.sign = '+';
        else if (take(p->pattern, &p->at, ' '))
            f.sign = f.sign == '+' ? '+' : ' ';
        else if (take(p->pattern, &p->at, '#'))
            f.alternate = true;
        else if (take(p->pattern, &p->at, '0'))
            f.zero = true;
        else
            break;
    }
    f.width = percent_number(p);
    if (f.width < 0) {
        left = true;
        f.width = -f.width;
    }
    if (take(p->pattern, &p->at, '.')) {
        f.precision = percent_number(p);
        if (f.precision < 0) f.precision = 0;
    }
    if (!take(p->pattern, &p->at, 'l') && !take(p->pattern, &p->at, 'h'))
        take(p->pattern, &p->at, 'L');
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

/* -- "...".format()
 * ------------------------------------------------------------------------------------------- */

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
    return positional(b, (size_t)read_number(b->in, name, &at));
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
    return value_item(b->in, object, value_int(read_number(b->in, key, &digits)));
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

static text *field_text(braces *b, value v, text *spec)
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
        v = value_text(ascii_of(in, value_repr(in, v)));
    else if (conversion != 0)
        interp_fail(in, "Unknown conversion specifier '%c'", conversion);
    return field_text(b, v, expand(b, spec, depth - 1));
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
    interp_spend_bytes(b->in, pattern->size * 4);
    return builder_text(b->in, &out);
}

value format_braces(interp *in, text *pattern, bool safe, const arguments *given, value mapping)
{
    braces b = {.in = in, .safe = safe, .given = given, .mapping = mapping};
    text *result = expand(&b, pattern, 2);
    return safe ? value_markup(result) : value_text(result);
}
