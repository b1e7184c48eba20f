/* Filters that give numbers, or work on them. */
#include <math.h>
#include <string.h>

#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/number.h"

static value absolute(interp *in, value subject, const value *given)
{
    (void)given;
    if (subject.kind == VALUE_UNDEFINED) value_fail_undefined(in, subject.as.undefined);
    if (!value_is_number(subject))
        interp_fail(in, "bad operand type for abs(): '%s'", value_type_name(subject));
    if (subject.kind == VALUE_FLOAT) return value_float(fabs(subject.as.real));
    value number = value_positive(in, subject);
    return number.as.integer < 0 ? value_negate(in, number) : number;
}

static value truncated(interp *in, double d)
{
    int64_t whole;
    if (!number_truncate(d, &whole))
        interp_fail(in, "integer overflow: the result does not fit 64 bits");
    return value_int(whole);
}

static value to_integer(interp *in, value subject, const value *given)
{
    value otherwise = given[0].kind == VALUE_MISSING ? value_int(0) : given[0];
    int64_t base = given[1].kind == VALUE_MISSING ? 10 : value_need_int(in, "int", given[1]);
    int64_t whole;
    double real;
    if (subject.kind == VALUE_UNDEFINED) value_fail_undefined(in, subject.as.undefined);
    if (value_is_integer(subject, &whole)) return value_int(whole);
    if (subject.kind == VALUE_FLOAT) {
        if (isnan(subject.as.real)) return otherwise;
        if (isinf(subject.as.real)) interp_fail(in, "cannot convert float infinity to integer");
        return truncated(in, subject.as.real);
    }
    if (subject.kind != VALUE_TEXT) return otherwise;
    switch (number_parse_int(in, subject.as.text, base, &whole)) {
    case NUMBER_OK:
        return value_int(whole);
    case NUMBER_TOO_LARGE:
        interp_fail(in, "integer overflow: a number in a string does not fit 64 bits");
    case NUMBER_MALFORMED:
        break;
    }
    /* "42.23" is 42. */
    if (number_parse_float(in, subject.as.text, &real) != NUMBER_OK || !isfinite(real))
        return otherwise;
    return truncated(in, real);
}

static value to_float(interp *in, value subject, const value *given)
{
    double real;
    if (subject.kind == VALUE_UNDEFINED) value_fail_undefined(in, subject.as.undefined);
    if (value_is_number(subject)) return value_float(value_as_double(subject));
    if (subject.kind == VALUE_TEXT && number_parse_float(in, subject.as.text, &real) == NUMBER_OK)
        return value_float(real);
    return given[0].kind == VALUE_MISSING ? value_float(0) : given[0];
}

/* round(whole, digits) with digits < 0: to a multiple of a power of ten, half to even. */
static value round_integer(interp *in, int64_t whole, int64_t digits)
{
    if (digits >= 0) return value_int(whole);
    if (digits < -19) return value_int(0);
    __int128 unit = 1;
    for (int64_t i = digits; i < 0; i++)
        unit *= 10;
    __int128 rest = whole % unit;
    if (rest < 0) rest += unit;
    __int128 down = whole - rest;
    bool up = rest * 2 > unit || (rest * 2 == unit && (down / unit) % 2 != 0);
    __int128 rounded = up ? down + unit : down;
    if (rounded > INT64_MAX || rounded < INT64_MIN)
        interp_fail(in, "integer overflow: the result does not fit 64 bits");
    return value_int((int64_t)rounded);
}

static value round_directed(interp *in, value subject, value precision, bool up)
{
    /* value * 10**precision, to an integer, / 10**precision, as Jinja2 does it. */
    value scale = value_binary(in, OP_POWER, value_int(10), precision);
    value scaled = value_binary(in, OP_MULTIPLY, subject, scale);
    if (scaled.kind == VALUE_FLOAT) {
        if (!isfinite(scaled.as.real)) interp_fail(in, "cannot convert the float to an integer");
        scaled = truncated(in, up ? ceil(scaled.as.real) : floor(scaled.as.real));
    }
    return value_binary(in, OP_DIVIDE, scaled, scale);
}

static value round_number(interp *in, value subject, const value *given)
{
    value precision = given[0].kind == VALUE_MISSING ? value_int(0) : given[0];
    const text *how = given[1].kind == VALUE_MISSING ? text_literal(in, "common")
                                                     : value_need_text(in, "round", given[1]);
    bool common = text_is(how, "common"), up = text_is(how, "ceil");
    if (!common && !up && !text_is(how, "floor"))
        interp_fail(in, "method must be common, ceil or floor");
    if (subject.kind == VALUE_UNDEFINED) value_fail_undefined(in, subject.as.undefined);
    if (!value_is_number(subject))
        interp_fail(in, "type %s doesn't define __round__ method", value_type_name(subject));
    int64_t whole;
    if (!common) return round_directed(in, subject, precision, up);
    if (value_is_integer(subject, &whole)) {
        if (precision.kind == VALUE_NONE) return value_int(whole);
        return round_integer(in, whole, value_need_int(in, "round", precision));
    }
    if (precision.kind == VALUE_NONE) return truncated(in, number_round(subject.as.real, 0));
    return value_float(number_round(subject.as.real, value_need_int(in, "round", precision)));
}

static value filesizeformat(interp *in, value subject, const value *given)
{
    static const char *const decimal[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    static const char *const binary[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
    bool is_binary = given_truth(in, given[0]);
    double bytes, base = is_binary ? 1024 : 1000;
    if (subject.kind == VALUE_UNDEFINED) value_fail_undefined(in, subject.as.undefined);
    if (value_is_number(subject))
        bytes = value_as_double(subject);
    else if (subject.kind != VALUE_TEXT ||
             number_parse_float(in, subject.as.text, &bytes) != NUMBER_OK)
        interp_fail(in, "could not convert %s to float", value_type_name(subject));
    builder out = {0};
    if (bytes == 1) return value_literal(in, "1 Byte");
    if (bytes < base) {
        builder_format(in, &out, "%lld Bytes", (long long)truncated(in, bytes).as.integer);
        return value_text(builder_text(in, &out));
    }
    double unit = base * base;
    size_t i = 0;
    for (; i < 7 && bytes >= unit; i++)
        unit *= base;
    builder_format(in, &out, "%.1f %s", base * bytes / unit, (is_binary ? binary : decimal)[i]);
    return value_text(builder_text(in, &out));
}

const filter_row number_filters[] = {
    {"int", to_integer, "default base", 0, NULL},          {"float", to_float, "default", 0, NULL},
    {"round", round_number, "precision method", 0, NULL},  {"abs", absolute, "", 0, NULL},
    {"filesizeformat", filesizeformat, "binary", 0, NULL}, {0},
};
