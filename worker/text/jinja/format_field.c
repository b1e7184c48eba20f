#include "worker/text/jinja/format_field.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/text/jinja/format.h"
#include "worker/text/jinja/number.h"

/* More digits than a double has. */
enum { PRECISION_MAX = 1100 };

static text *field_align(interp *in, const field *f, text *t, char otherwise)
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
        size_t wanted = count;
        if (f->grouping != 0) {
            while (wanted + (wanted - 1) / group < room - fixed)
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
    return field_align(in, f, builder_text(in, &out), '>');
}

text *field_integer(interp *in, const field *f, int64_t number, int64_t digits_min)
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
    }
    builder_add_literal(in, out, printed);
    if (!scientific && strchr(printed, '.') == NULL) builder_add_literal(in, out, ".0");
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

text *field_float(interp *in, const field *f, double d)
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

text *field_text(interp *in, const field *f, text *t, char align)
{
    if (f->precision >= 0 && (uint64_t)f->precision < text_length(in, t))
        t = text_part(in, t, 0, (size_t)f->precision);
    return field_align(in, f, t, align);
}

text *field_ascii(interp *in, text *t)
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

/* -- format(v, spec) --------------------------------------------------------------------------- */

int64_t field_read_number(interp *in, const text *spec, size_t *at)
{
    int64_t number = 0;
    while (*at < spec->size && spec->bytes[*at] >= '0' && spec->bytes[*at] <= '9') {
        number = number * 10 + (spec->bytes[*at] - '0');
        if (number > FIELD_NUMBER_MAX) interp_fail(in, "a number in a format is too large");
        *at += 1;
    }
    return number;
}

bool field_take(const text *spec, size_t *at, char c)
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
    if (field_take(spec, &at, '+'))
        f.sign = '+';
    else if (field_take(spec, &at, '-'))
        f.sign = '-';
    else if (field_take(spec, &at, ' '))
        f.sign = ' ';
    f.alternate = field_take(spec, &at, '#');
    f.zero = f.fill == NULL && field_take(spec, &at, '0');
    f.width = field_read_number(in, spec, &at);
    if (field_take(spec, &at, ','))
        f.grouping = ',';
    else if (field_take(spec, &at, '_'))
        f.grouping = '_';
    if (field_take(spec, &at, '.')) {
        size_t digits = at;
        f.precision = field_read_number(in, spec, &at);
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
        return field_float(in, &f, (double)number);
    if (f.precision >= 0) interp_fail(in, "Precision not allowed in integer format specifier");
    if (f.type == 'c') {
        if (f.sign != 0 || f.alternate)
            interp_fail(in, "Sign not allowed with integer format specifier 'c'");
        if (number < 0 || number > 0x10FFFF) interp_fail(in, "%%c arg not in range(0x110000)");
        builder c = {0};
        builder_add_character(in, &c, (uint32_t)number);
        return field_align(in, &f, builder_text(in, &c), '>');
    }
    if (f.type != 0 && strchr("bdnoxX", f.type) == NULL) unknown_type(in, f.type, v);
    return field_integer(in, &f, number, 0);
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
        return field_text(in, &f, v.as.text, '<');
    }
    if (v.kind != VALUE_FLOAT) return format_integer(in, v, f);
    if (f.type != 0 && strchr("eEfFgGn%", f.type) == NULL) unknown_type(in, f.type, v);
    return field_float(in, &f, v.as.real);
}
