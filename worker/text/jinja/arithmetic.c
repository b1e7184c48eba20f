/* The operators of value.h with Python's results. Integers have 64 bits; beyond them is an error,
 * never a wrong number. */
#include <math.h>
#include <string.h>

#include "worker/text/jinja/format.h"
#include "worker/text/jinja/number.h"
#include "worker/text/jinja/value.h"

static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};

_Noreturn static void unsupported(interp *in, operation op, value a, value b)
{
    if (a.kind == VALUE_UNDEFINED) value_fail_undefined(in, a.as.undefined);
    if (b.kind == VALUE_UNDEFINED) value_fail_undefined(in, b.as.undefined);
    if (op == OP_ADD && (a.kind == VALUE_TEXT || a.kind == VALUE_LIST || a.kind == VALUE_TUPLE))
        interp_fail(in, "can only concatenate %s (not \"%s\") to %s", value_type_name(a),
                    value_type_name(b), value_type_name(a));
    interp_fail(in, "unsupported operand type(s) for %s: '%s' and '%s'", signs[op],
                value_type_name(a), value_type_name(b));
}

_Noreturn static void overflow(interp *in)
{
    interp_fail(in, "integer overflow: the result does not fit 64 bits");
}

/* -- sequences --------------------------------------------------------------------------------- */

static value add_texts(interp *in, value a, value b)
{
    /* What is not Markup is escaped before it joins Markup. */
    bool safe = a.safe || b.safe;
    text *left = safe && !a.safe ? text_escape(in, a.as.text) : a.as.text;
    text *right = safe && !b.safe ? text_escape(in, b.as.text) : b.as.text;
    builder out = {0};
    builder_add_text(in, &out, left);
    builder_add_text(in, &out, right);
    text *joined = builder_text(in, &out);
    if (left->length != TEXT_UNCOUNTED && right->length != TEXT_UNCOUNTED)
        joined->length = left->length + right->length;
    return safe ? value_markup(joined) : value_text(joined);
}

static value add_sequences(interp *in, value a, value b)
{
    const sequence *x = a.as.sequence, *y = b.as.sequence;
    sequence *joined = sequence_new(in, x->count + y->count);
    interp_spend_bytes(in, (x->count + y->count) * sizeof(value));
    if (x->count > 0) memcpy(joined->items, x->items, x->count * sizeof *x->items);
    if (y->count > 0) memcpy(joined->items + x->count, y->items, y->count * sizeof *y->items);
    joined->count = x->count + y->count;
    return value_sequence(a.kind, joined);
}

static value repeat(interp *in, value v, int64_t times)
{
    size_t count = times < 0 ? 0 : (size_t)times;
    if (v.kind == VALUE_TEXT) {
        const text *t = v.as.text;
        builder out = {0};
        if (t->size == 1) {
            builder_fill(in, &out, t->bytes[0], count);
        } else if (t->size > 0) {
            interp_spend(in, count);
            for (; count > 0; count--)
                builder_add_text(in, &out, t);
        }
        text *repeated = builder_text(in, &out);
        return value_like(v, repeated);
    }
    const sequence *s = v.as.sequence;
    if (s->count == 0) count = 0;
    interp_spend(in, count);
    sequence *repeated = sequence_new(in, 0);
    for (; count > 0; count--)
        for (size_t i = 0; i < s->count; i++) {
            interp_spend(in, 1);
            sequence_push(in, repeated, s->items[i]);
        }
    return value_sequence(v.kind, repeated);
}

static bool is_repeatable(value v)
{
    return v.kind == VALUE_TEXT || v.kind == VALUE_LIST || v.kind == VALUE_TUPLE;
}

/* -- integers ---------------------------------------------------------------------------------- */

static value integer_power(interp *in, int64_t base, int64_t exponent)
{
    if (exponent < 0) {
        if (base == 0) interp_fail(in, "0.0 cannot be raised to a negative power");
        return value_float(pow((double)base, (double)exponent));
    }
    int64_t result = 1;
    for (;;) {
        if (exponent & 1 && __builtin_mul_overflow(result, base, &result)) overflow(in);
        exponent >>= 1;
        if (exponent == 0) return value_int(result);
        /* A base that no longer fits is an overflow unless nothing multiplies by it. */
        if (__builtin_mul_overflow(base, base, &base)) overflow(in);
    }
}

static value integers(interp *in, operation op, int64_t a, int64_t b)
{
    int64_t result = 0;
    bool over = false;
    switch (op) {
    case OP_ADD:
        over = __builtin_add_overflow(a, b, &result);
        break;
    case OP_SUBTRACT:
        over = __builtin_sub_overflow(a, b, &result);
        break;
    case OP_MULTIPLY:
        over = __builtin_mul_overflow(a, b, &result);
        break;
    case OP_DIVIDE:
        if (b == 0) interp_fail(in, "division by zero");
        return value_float(number_divide(a, b));
    case OP_FLOOR_DIVIDE:
    case OP_MODULO:
        if (b == 0) interp_fail(in, "integer division or modulo by zero");
        if (b == -1) { /* the one divisor that overflows in C */
            if (op == OP_MODULO) return value_int(0);
            over = __builtin_sub_overflow((int64_t)0, a, &result);
            break;
        }
        int64_t quotient = a / b, rest = a % b;
        if (rest != 0 && (rest < 0) != (b < 0)) {
            quotient--;
            rest += b;
        }
        result = op == OP_MODULO ? rest : quotient;
        break;
    case OP_POWER:
        return integer_power(in, a, b);
    }
    if (over) overflow(in);
    return value_int(result);
}

/* -- floats ------------------------------------------------------------------------------------ */

static double float_power(interp *in, double a, double b)
{
    if (a == 0 && b < 0) interp_fail(in, "0.0 cannot be raised to a negative power");
    if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b))
        interp_fail(in, "a negative number to a fractional power is complex");
    double result = pow(a, b);
    if (isinf(result) && isfinite(a) && isfinite(b)) interp_fail(in, "Result too large");
    return result;
}

/* Both results of divmod(a, b), b != 0. */
static double float_floor_divide(double a, double b, double *rest)
{
    double modulo = fmod(a, b);
    double quotient = (a - modulo) / b;
    if (modulo == 0) {
        modulo = copysign(0, b);
    } else if ((b < 0) != (modulo < 0)) {
        modulo += b;
        quotient -= 1;
    }
    *rest = modulo;
    if (quotient == 0) return copysign(0, a / b);
    double whole = floor(quotient);
    return quotient - whole > 0.5 ? whole + 1 : whole;
}

static value floats(interp *in, operation op, double a, double b)
{
    double rest;
    switch (op) {
    case OP_ADD:
        return value_float(a + b);
    case OP_SUBTRACT:
        return value_float(a - b);
    case OP_MULTIPLY:
        return value_float(a * b);
    case OP_POWER:
        return value_float(float_power(in, a, b));
    case OP_DIVIDE:
    case OP_FLOOR_DIVIDE:
    case OP_MODULO:
        break;
    }
    if (b == 0) interp_fail(in, "float division by zero");
    if (op == OP_DIVIDE) return value_float(a / b);
    double quotient = float_floor_divide(a, b, &rest);
    return value_float(op == OP_MODULO ? rest : quotient);
}

/* -- operators --------------------------------------------------------------------------------- */

value value_binary(interp *in, operation op, value a, value b)
{
    int64_t i, k;
    if (value_is_number(a) && value_is_number(b)) {
        if (value_is_integer(a, &i) && value_is_integer(b, &k)) return integers(in, op, i, k);
        return floats(in, op, value_as_double(a), value_as_double(b));
    }
    if (op == OP_MODULO && a.kind == VALUE_TEXT) return format_percent(in, a.as.text, a.safe, b);
    if (op == OP_ADD && a.kind == b.kind) {
        if (a.kind == VALUE_TEXT) return add_texts(in, a, b);
        if (a.kind == VALUE_LIST || a.kind == VALUE_TUPLE) return add_sequences(in, a, b);
    }
    if (op == OP_MULTIPLY && is_repeatable(a) && value_is_integer(b, &k)) return repeat(in, a, k);
    if (op == OP_MULTIPLY && is_repeatable(b) && value_is_integer(a, &i)) return repeat(in, b, i);
    unsupported(in, op, a, b);
}

static value signed_number(interp *in, value v, const char *sign)
{
    if (v.kind == VALUE_UNDEFINED) value_fail_undefined(in, v.as.undefined);
    if (!value_is_number(v))
        interp_fail(in, "bad operand type for unary %s: '%s'", sign, value_type_name(v));
    return v.kind == VALUE_BOOL ? value_int(v.as.boolean) : v;
}

value value_negate(interp *in, value v)
{
    value number = signed_number(in, v, "-");
    if (number.kind == VALUE_FLOAT) return value_float(-number.as.real);
    return integers(in, OP_SUBTRACT, 0, number.as.integer);
}

value value_positive(interp *in, value v)
{
    return signed_number(in, v, "+");
}
