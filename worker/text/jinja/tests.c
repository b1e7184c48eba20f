#include "worker/text/jinja/tests.h"

#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/iterate.h"
#include "worker/text/jinja/members.h"

/* -- kinds ------------------------------------------------------------------------------------- */

static bool is_defined(interp *in, value v, const value *given)
{
    (void)in, (void)given;
    return v.kind != VALUE_UNDEFINED;
}

static bool is_undefined(interp *in, value v, const value *given)
{
    (void)in, (void)given;
    return v.kind == VALUE_UNDEFINED;
}

static bool is_none(interp *in, value v, const value *given)
{
    (void)in, (void)given;
    return v.kind == VALUE_NONE;
}

static bool is_boolean(interp *in, value v, const value *given)
{
    (void)in, (void)given;
    return v.kind == VALUE_BOOL;
}

static bool is_true(interp *in, value v, const value *given)
{
    (void)in, (void)given;
    return v.kind == VALUE_BOOL && v.as.boolean;
}

static bool is_false(interp *in, value v, const value *given)
{
    (void)in, (void)given;
    return v.kind == VALUE_BOOL && !v.as.boolean;
}

static bool is_integer(interp *in, value v, const value *given)
{
    (void)in, (void)given;
    return v.kind == VALUE_INT;
}

static bool is_float(interp *in, value v, const value *given)
{
    (void)in, (void)given;
    return v.kind == VALUE_FLOAT;
}

static bool is_number(interp *in, value v, const value *given)
{
    (void)in, (void)given;
    return value_is_number(v);
}

static bool is_string(interp *in, value v, const value *given)
{
    (void)in, (void)given;
    return v.kind == VALUE_TEXT;
}

static bool is_mapping(interp *in, value v, const value *given)
{
    (void)in, (void)given;
    return v.kind == VALUE_DICT;
}

/* Has a length and items by key; dicts and undefined do. */
static bool is_sequence(interp *in, value v, const value *given)
{
    size_t length;
    (void)given;
    return v.kind != VALUE_VIEW && v.kind != VALUE_LOOP && value_sized(in, v, &length);
}

static bool is_iterable(interp *in, value v, const value *given)
{
    (void)in, (void)given;
    return iterable(v);
}

static bool is_callable(interp *in, value v, const value *given)
{
    (void)in, (void)given;
    return value_callable(v);
}

static bool is_escaped(interp *in, value v, const value *given)
{
    (void)in, (void)given;
    return v.kind == VALUE_TEXT && v.safe;
}

/* -- text -------------------------------------------------------------------------------------- */

static bool is_lower(interp *in, value v, const value *given)
{
    (void)given;
    return text_is_cased(in, value_str(in, v), false);
}

static bool is_upper(interp *in, value v, const value *given)
{
    (void)given;
    return text_is_cased(in, value_str(in, v), true);
}

/* -- names ------------------------------------------------------------------------------------- */

/* Jinja2 has these too; they are not offered here, but templates may ask. */
static bool is_known_filter(const text *name)
{
    return filter_find(name) != NULL || text_is(name, "random") || text_is(name, "urlize") ||
           text_is(name, "wordwrap");
}

static bool is_filter(interp *in, value v, const value *given)
{
    (void)given;
    if (!value_hashable(in, v)) interp_fail(in, "unhashable type: '%s'", value_type_name(v));
    return v.kind == VALUE_TEXT && is_known_filter(v.as.text);
}

static bool is_test(interp *in, value v, const value *given)
{
    (void)given;
    if (!value_hashable(in, v)) interp_fail(in, "unhashable type: '%s'", value_type_name(v));
    return v.kind == VALUE_TEXT && test_find(v.as.text) != NULL;
}

/* -- comparisons ------------------------------------------------------------------------------- */

static bool is_equal(interp *in, value v, const value *given)
{
    return value_equal(in, v, given[0]);
}

static bool is_not_equal(interp *in, value v, const value *given)
{
    return !value_equal(in, v, given[0]);
}

static bool is_less(interp *in, value v, const value *given)
{
    return value_compare(in, LESS, v, given[0]);
}

static bool is_less_or_equal(interp *in, value v, const value *given)
{
    return value_compare(in, LESS_EQUAL, v, given[0]);
}

static bool is_greater(interp *in, value v, const value *given)
{
    return value_compare(in, GREATER, v, given[0]);
}

static bool is_greater_or_equal(interp *in, value v, const value *given)
{
    return value_compare(in, GREATER_EQUAL, v, given[0]);
}

static bool is_same(interp *in, value v, const value *given)
{
    (void)in;
    return value_same(v, given[0]);
}

static bool is_in(interp *in, value v, const value *given)
{
    return value_contains(in, given[0], v);
}

static bool remainder_is(interp *in, value v, value divisor, int64_t wanted)
{
    return value_equal(in, value_binary(in, OP_MODULO, v, divisor), value_int(wanted));
}

static bool is_odd(interp *in, value v, const value *given)
{
    (void)given;
    return remainder_is(in, v, value_int(2), 1);
}

static bool is_even(interp *in, value v, const value *given)
{
    (void)given;
    return remainder_is(in, v, value_int(2), 0);
}

static bool is_divisible(interp *in, value v, const value *given)
{
    return remainder_is(in, v, given[0], 0);
}

/* -- the table --------------------------------------------------------------------------------- */

static const test_row rows[] = {
    {"defined", is_defined, "", 0},
    {"undefined", is_undefined, "", 0},
    {"none", is_none, "", 0},
    {"boolean", is_boolean, "", 0},
    {"true", is_true, "", 0},
    {"false", is_false, "", 0},
    {"integer", is_integer, "", 0},
    {"float", is_float, "", 0},
    {"number", is_number, "", 0},
    {"string", is_string, "", 0},
    {"mapping", is_mapping, "", 0},
    {"sequence", is_sequence, "", 0},
    {"iterable", is_iterable, "", 0},
    {"callable", is_callable, "", 0},
    {"escaped", is_escaped, "", 0},
    {"lower", is_lower, "", 0},
    {"upper", is_upper, "", 0},
    {"filter", is_filter, "", 0},
    {"test", is_test, "", 0},
    {"in", is_in, "seq", 1},
    {"sameas", is_same, "other", 1},
    {"odd", is_odd, "", 0},
    {"even", is_even, "", 0},
    {"divisibleby", is_divisible, "num", 1},
    {"==", is_equal, "-b", 1},
    {"eq", is_equal, "-b", 1},
    {"equalto", is_equal, "-b", 1},
    {"!=", is_not_equal, "-b", 1},
    {"ne", is_not_equal, "-b", 1},
    {"<", is_less, "-b", 1},
    {"lt", is_less, "-b", 1},
    {"lessthan", is_less, "-b", 1},
    {"<=", is_less_or_equal, "-b", 1},
    {"le", is_less_or_equal, "-b", 1},
    {">", is_greater, "-b", 1},
    {"gt", is_greater, "-b", 1},
    {"greaterthan", is_greater, "-b", 1},
    {">=", is_greater_or_equal, "-b", 1},
    {"ge", is_greater_or_equal, "-b", 1},
};

const test_row *test_find(const text *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (text_is(name, rows[i].name)) return &rows[i];
    return NULL;
}

bool test_run(interp *in, const test_row *row, value subject, const arguments *given)
{
    value bound[PARAMETERS_MAX];
    arguments_bind(in, row->name, row->parameters, row->required, given, bound);
    return row->run(in, subject, bound);
}
