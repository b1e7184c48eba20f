/* value: what a template computes with. The types and the behaviour are Python's.
 *
 * A value is 16 bytes and passed by value; what it points to lies in the interp's arena. Lists
 * and dicts never change once a template can see them (the sandbox is immutable), so copying is
 * sharing. */
#ifndef GAGGLE_WORKER_TEXT_JINJA_VALUE_H
#define GAGGLE_WORKER_TEXT_JINJA_VALUE_H

#include "worker/text/jinja/interp.h"
#include "worker/text/jinja/text.h"

typedef enum value_kind {
    VALUE_MISSING, /* an argument not given, a variable not set; templates never see it */
    VALUE_UNDEFINED,
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_FLOAT,
    VALUE_TEXT,
    VALUE_LIST,
    VALUE_TUPLE,
    VALUE_DICT,
    VALUE_RANGE,
    VALUE_VIEW, /* dict.keys(), .values(), .items() */
    VALUE_ITERATOR,
    VALUE_NAMESPACE,
    VALUE_CYCLER,
    VALUE_JOINER,
    VALUE_LOOP,
    VALUE_MACRO,
    VALUE_BLOCK, /* self.name */
    VALUE_SELF,
    VALUE_FUNCTION,
    VALUE_METHOD, /* "x".upper, before the call */
} value_kind;

typedef struct value {
    value_kind kind;
    bool safe; /* of VALUE_TEXT: Markup, whose operations escape what joins it */
    union {
        bool boolean;
        int64_t integer;
        double real;
        text *text;
        struct undefined *undefined;
        struct sequence *sequence; /* list and tuple */
        struct dict *dict;         /* dict and namespace */
        struct range *range;
        struct view *view;
        struct iterator *iterator;
        struct cycler *cycler;
        struct joiner *joiner;
        struct loop *loop;
        struct macro *macro;
        const struct node *block;
        const struct builtin *builtin;
        struct method *method;
        const void *identity;
    } as;
} value;

/* Undefined prints as nothing; most other uses fail with a sentence built from these. */
typedef struct undefined {
    const char *hint; /* the whole sentence, or NULL: build it from the rest */
    value object;     /* what lacks it; VALUE_MISSING: a variable */
    value name;
} undefined;

typedef struct sequence {
    value *items;
    size_t count;
    size_t capacity;
    bool group; /* a tuple of the groupby filter: has .grouper and .list */
} sequence;

typedef struct dict_entry {
    value key;
    value item;
    uint64_t hash;
} dict_entry;

/* In order of insertion. */
typedef struct dict {
    dict_entry *entries;
    size_t count;
    size_t capacity;
    uint32_t *index; /* entry number + 1 by hash, open addressing; NULL while small */
    size_t index_size;
} dict;

typedef struct range {
    int64_t start;
    int64_t step;
    int64_t count;
    int64_t stop; /* for printing */
} range;

typedef enum view_kind { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS } view_kind;
typedef struct view {
    dict *of;
    view_kind kind;
} view;

typedef struct cycler {
    sequence *items;
    size_t position;
} cycler;

typedef struct joiner {
    value separator;
    bool used;
} joiner;

/* What a call hands over. */
typedef struct named_argument {
    const text *name;
    value item;
} named_argument;
typedef struct arguments {
    value *positional;
    size_t count;
    named_argument *named;
    size_t named_count;
} arguments;

typedef struct builtin {
    const char *name; /* as str() shows it between < and > */
    value (*run)(interp *in, const arguments *given);
} builtin;

/* A row without a function is a method that the sandbox denies. */
typedef struct method_row {
    const char *name;
    value (*run)(interp *in, value self, const value *given);
    const char *parameters; /* as for arguments_bind() */
    uint8_t required;
    /* Instead of run(): takes what was given as it is. */
    value (*run_open)(interp *in, value self, const arguments *given);
} method_row;
typedef struct method {
    value self;
    const method_row *row;
} method;

/* -- making ------------------------------------------------------------------------------------ */

static inline value value_missing(void)
{
    return (value){.kind = VALUE_MISSING};
}
static inline value value_none(void)
{
    return (value){.kind = VALUE_NONE};
}
static inline value value_bool(bool b)
{
    return (value){.kind = VALUE_BOOL, .as.boolean = b};
}
static inline value value_int(int64_t i)
{
    return (value){.kind = VALUE_INT, .as.integer = i};
}
static inline value value_float(double d)
{
    return (value){.kind = VALUE_FLOAT, .as.real = d};
}
static inline value value_text(text *t)
{
    return (value){.kind = VALUE_TEXT, .as.text = t};
}
static inline value value_markup(text *t)
{
    return (value){.kind = VALUE_TEXT, .safe = true, .as.text = t};
}
/* What is made of Markup is Markup. */
static inline value value_like(value origin, text *t)
{
    return (value){.kind = VALUE_TEXT, .safe = origin.safe, .as.text = t};
}
static inline value value_sequence(value_kind kind, sequence *s)
{
    return (value){.kind = kind, .as.sequence = s};
}
static inline value value_dict(dict *d)
{
    return (value){.kind = VALUE_DICT, .as.dict = d};
}

value value_literal(interp *in, const char *literal);
/* `name` is undefined. */
value value_undefined_name(interp *in, text *name);
/* `object` has no attribute or element `name`. */
value value_undefined_member(interp *in, value object, value name);
/* The sentence itself; `hint` must live as long as the interp. */
value value_undefined_hint(interp *in, const char *hint);
_Noreturn void value_fail_undefined(interp *in, const undefined *u);

sequence *sequence_new(interp *in, size_t capacity);
void sequence_push(interp *in, sequence *s, value item);
sequence *sequence_pair(interp *in, value first, value second);

dict *dict_new(interp *in);
/* Set or replace; a replaced item keeps its place and its first key. */
void dict_set(interp *in, dict *d, value key, value item);
void dict_set_name(interp *in, dict *d, const char *key, value item);
/* NULL when absent. An unhashable key fails. */
value *dict_find(interp *in, const dict *d, value key);
value *dict_find_text(interp *in, const dict *d, const text *key);

/* -- asking ------------------------------------------------------------------------------------ */

/* "str", "int", "NoneType" ... */
const char *value_type_name(value v);
/* "str object", "None", "jinja2.utils.Namespace object" */
const char *value_described(interp *in, value v);
bool value_truth(interp *in, value v);
bool value_is_number(value v);                /* bool, int or float */
bool value_is_integer(value v, int64_t *out); /* bool or int */
double value_as_double(value v);              /* of a number */
bool value_hashable(interp *in, value v);
uint64_t value_hash(interp *in, value v); /* fails on the unhashable */

bool value_same(value a, value b); /* Python's `is` */
bool value_equal(interp *in, value a, value b);

typedef enum comparison { LESS, LESS_EQUAL, GREATER, GREATER_EQUAL } comparison;
bool value_compare(interp *in, comparison op, value a, value b);
/* Python's `item in container`. */
bool value_contains(interp *in, value container, value item);

/* len(); false when `v` has none. */
bool value_sized(interp *in, value v, size_t *out);
size_t value_length(interp *in, value v); /* fails when it has none */

/* -- as text (repr.c) -------------------------------------------------------------------------- */

text *value_str(interp *in, value v);
text *value_repr(interp *in, value v);
/* str(v) appended. */
void value_write(interp *in, struct builder *out, value v);
void value_write_repr(interp *in, struct builder *out, value v);
/* Markup stays Markup, anything else becomes str(v). */
value value_soft_text(interp *in, value v);

/* -- arithmetic (arithmetic.c) ----------------------------------------------------------------- */

typedef enum operation {
    OP_ADD,
    OP_SUBTRACT,
    OP_MULTIPLY,
    OP_DIVIDE,
    OP_FLOOR_DIVIDE,
    OP_MODULO,
    OP_POWER,
} operation;
value value_binary(interp *in, operation op, value a, value b);
value value_negate(interp *in, value v);
value value_positive(interp *in, value v);

/* -- members (members.c) ----------------------------------------------------------------------- */

/* object.name and object[key] as the immutable sandbox has them. */
value value_attribute(interp *in, value object, text *name);
value value_item(interp *in, value object, value key);
/* object[start:stop:step]; VALUE_NONE where a bound is left out. */
value value_slice(interp *in, value object, value start, value stop, value step);
/* As value_attribute() without the fallback to object[name]. */
value value_own_attribute(interp *in, value object, text *name);

/* -- calls (call.c) ---------------------------------------------------------------------------- */

value value_call(interp *in, value callee, const arguments *given);
bool value_callable(value v);
/* Sort `given` into out[], one place a parameter of the space-separated list; VALUE_MISSING where
 * none was given. A name that begins with '-' cannot be given by name. The first `required` must
 * be given. Fails in `what`'s name on anything else. */
enum { PARAMETERS_MAX = 8 };
void arguments_bind(interp *in, const char *what, const char *parameters, size_t required,
                    const arguments *given, value out[PARAMETERS_MAX]);

/* -- argument helpers -------------------------------------------------------------------------- */

/* Each fails in `what`'s name unless `v` is of that type. */
int64_t value_need_int(interp *in, const char *what, value v);
text *value_need_text(interp *in, const char *what, value v);

#endif
