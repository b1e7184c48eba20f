#include "worker/text/jinja/value.h"

#include <math.h>
#include <string.h>

#include "worker/text/jinja/iterate.h"
#include "worker/text/jinja/number.h"
#include "worker/text/jinja/runtime.h"

/* -- making ------------------------------------------------------------------------------------ */

value value_literal(interp *in, const char *literal)
{
    return value_text(text_literal(in, literal));
}

static value undefined_new(interp *in, undefined u)
{
    undefined *kept = interp_alloc(in, sizeof *kept);
    *kept = u;
    return (value){.kind = VALUE_UNDEFINED, .as.undefined = kept};
}

value value_undefined_name(interp *in, text *name)
{
    return undefined_new(in, (undefined){.name = value_text(name)});
}

value value_undefined_member(interp *in, value object, value name)
{
    return undefined_new(in, (undefined){.object = object, .name = name});
}

value value_undefined_hint(interp *in, const char *hint)
{
    return undefined_new(in, (undefined){.hint = hint});
}

void value_fail_undefined(interp *in, const undefined *u)
{
    if (u->hint != NULL) interp_fail(in, "%s", u->hint);
    text *name = value_repr(in, u->name);
    int size = name->size < 200 ? (int)name->size : 200;
    if (u->object.kind == VALUE_MISSING) interp_fail(in, "%.*s is undefined", size, name->bytes);
    const char *object = value_described(in, u->object);
    if (u->name.kind == VALUE_TEXT)
        interp_fail(in, "'%s' has no attribute %.*s", object, size, name->bytes);
    interp_fail(in, "%s has no element %.*s", object, size, name->bytes);
}

sequence *sequence_new(interp *in, size_t capacity)
{
    sequence *s = interp_alloc(in, sizeof *s);
    s->capacity = capacity;
    if (capacity > 0) s->items = interp_alloc_array(in, capacity, sizeof *s->items);
    return s;
}

void sequence_push(interp *in, sequence *s, value item)
{
    if (s->count == s->capacity) {
        size_t capacity = s->capacity < 4 ? 4 : s->capacity * 2;
        value *items = interp_alloc_array(in, capacity, sizeof *items);
        if (s->count > 0) memcpy(items, s->items, s->count * sizeof *items);
        s->items = items;
        s->capacity = capacity;
    }
    s->items[s->count++] = item;
}

sequence *sequence_pair(interp *in, value first, value second)
{
    sequence *pair = sequence_new(in, 2);
    sequence_push(in, pair, first);
    sequence_push(in, pair, second);
    return pair;
}

/* -- dict -------------------------------------------------------------------------------------- */

/* Below this a dict is searched from end to end. */
enum { DICT_INDEXED = 8 };

dict *dict_new(interp *in)
{
    return interp_alloc(in, sizeof(dict));
}

static void index_insert(dict *d, size_t entry)
{
    size_t at = d->entries[entry].hash & (d->index_size - 1);
    while (d->index[at] != 0)
        at = (at + 1) & (d->index_size - 1);
    d->index[at] = (uint32_t)entry + 1;
}

static void dict_grow(interp *in, dict *d)
{
    size_t capacity = d->capacity == 0 ? 4 : d->capacity * 2;
    dict_entry *entries = interp_alloc_array(in, capacity, sizeof *entries);
    if (d->count > 0) memcpy(entries, d->entries, d->count * sizeof *entries);
    d->entries = entries;
    d->capacity = capacity;
    if (capacity <= DICT_INDEXED) return;
    d->index_size = capacity * 2;
    d->index = interp_alloc_array(in, d->index_size, sizeof *d->index);
    for (size_t i = 0; i < d->count; i++)
        index_insert(d, i);
}

static dict_entry *find_entry(interp *in, const dict *d, value key, uint64_t hash)
{
    if (d->index == NULL) {
        for (size_t i = 0; i < d->count; i++)
            if (d->entries[i].hash == hash && value_equal(in, d->entries[i].key, key))
                return &d->entries[i];
        return NULL;
    }
    for (size_t at = hash & (d->index_size - 1);; at = (at + 1) & (d->index_size - 1)) {
        if (d->index[at] == 0) return NULL;
        interp_spend(in, 1); /* whoever chooses keys that collide pays for it */
        dict_entry *entry = &d->entries[d->index[at] - 1];
        if (entry->hash == hash && value_equal(in, entry->key, key)) return entry;
    }
}

void dict_set(interp *in, dict *d, value key, value item)
{
    uint64_t hash = value_hash(in, key);
    dict_entry *found = find_entry(in, d, key, hash);
    if (found != NULL) {
        found->item = item;
        return;
    }
    if (d->count == d->capacity) dict_grow(in, d);
    d->entries[d->count] = (dict_entry){.key = key, .item = item, .hash = hash};
    if (d->index != NULL) index_insert(d, d->count);
    d->count++;
}

void dict_set_name(interp *in, dict *d, const char *key, value item)
{
    dict_set(in, d, value_literal(in, key), item);
}

value *dict_find(interp *in, const dict *d, value key)
{
    dict_entry *entry = find_entry(in, d, key, value_hash(in, key));
    return entry != NULL ? &entry->item : NULL;
}

value *dict_find_text(interp *in, const dict *d, const text *key)
{
    text copy = *key;
    return dict_find(in, d, value_text(&copy));
}

/* -- asking ------------------------------------------------------------------------------------ */

const char *value_type_name(value v)
{
    switch (v.kind) {
    case VALUE_MISSING:
        return "missing";
    case VALUE_UNDEFINED:
        return "Undefined";
    case VALUE_NONE:
        return "NoneType";
    case VALUE_BOOL:
        return "bool";
    case VALUE_INT:
        return "int";
    case VALUE_FLOAT:
        return "float";
    case VALUE_TEXT:
        return v.safe ? "Markup" : "str";
    case VALUE_LIST:
        return "list";
    case VALUE_TUPLE:
        return v.as.sequence->group ? "_GroupTuple" : "tuple";
    case VALUE_DICT:
        return "dict";
    case VALUE_RANGE:
        return "range";
    case VALUE_VIEW:
        return v.as.view->kind == VIEW_KEYS     ? "dict_keys"
               : v.as.view->kind == VIEW_VALUES ? "dict_values"
                                                : "dict_items";
    case VALUE_ITERATOR:
        return v.as.iterator->type_name;
    case VALUE_NAMESPACE:
        return "Namespace";
    case VALUE_CYCLER:
        return "Cycler";
    case VALUE_JOINER:
        return "Joiner";
    case VALUE_LOOP:
        return "LoopContext";
    case VALUE_MACRO:
        return "Macro";
    case VALUE_BLOCK:
        return "BlockReference";
    case VALUE_SELF:
        return "TemplateReference";
    case VALUE_FUNCTION:
        return "function";
    case VALUE_METHOD:
        return "builtin_function_or_method";
    }
    return "object";
}

const char *value_described(interp *in, value v)
{
    if (v.kind == VALUE_NONE) return "None";
    const char *module = "";
    switch (v.kind) {
    case VALUE_NAMESPACE:
    case VALUE_CYCLER:
    case VALUE_JOINER:
        module = "jinja2.utils.";
        break;
    case VALUE_LOOP:
    case VALUE_MACRO:
    case VALUE_BLOCK:
    case VALUE_SELF:
    case VALUE_UNDEFINED:
        module = "jinja2.runtime.";
        break;
    case VALUE_TEXT:
        module = v.safe ? "markupsafe." : "";
        break;
    default:
        break;
    }
    builder b = {0};
    builder_format(in, &b, "%s%s object", module, value_type_name(v));
    builder_add(in, &b, "", 1);
    return b.bytes;
}

bool value_sized(interp *in, value v, size_t *out)
{
    switch (v.kind) {
    case VALUE_UNDEFINED:
        *out = 0;
        return true;
    case VALUE_TEXT:
        *out = text_length(in, v.as.text);
        return true;
    case VALUE_LIST:
    case VALUE_TUPLE:
        *out = v.as.sequence->count;
        return true;
    case VALUE_DICT:
        *out = v.as.dict->count;
        return true;
    case VALUE_VIEW:
        *out = v.as.view->of->count;
        return true;
    case VALUE_RANGE:
        *out = (size_t)v.as.range->count;
        return true;
    case VALUE_LOOP:
        *out = loop_length(in, v.as.loop);
        return true;
    default:
        return false;
    }
}

size_t value_length(interp *in, value v)
{
    size_t length;
    if (!value_sized(in, v, &length))
        interp_fail(in, "object of type '%s' has no len()", value_type_name(v));
    return length;
}

bool value_truth(interp *in, value v)
{
    size_t length;
    switch (v.kind) {
    case VALUE_MISSING:
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return false;
    case VALUE_BOOL:
        return v.as.boolean;
    case VALUE_INT:
        return v.as.integer != 0;
    case VALUE_FLOAT:
        return v.as.real != 0;
    case VALUE_TEXT:
        return v.as.text->size > 0;
    default:
        return !value_sized(in, v, &length) || length > 0;
    }
}

bool value_is_number(value v)
{
    return v.kind == VALUE_BOOL || v.kind == VALUE_INT || v.kind == VALUE_FLOAT;
}

bool value_is_integer(value v, int64_t *out)
{
    if (v.kind == VALUE_BOOL)
        *out = v.as.boolean;
    else if (v.kind == VALUE_INT)
        *out = v.as.integer;
    else
        return false;
    return true;
}

double value_as_double(value v)
{
    int64_t whole;
    return value_is_integer(v, &whole) ? (double)whole : v.as.real;
}

bool value_hashable(interp *in, value v)
{
    if (v.kind == VALUE_TUPLE) {
        bool hashable = true;
        interp_enter(in);
        interp_spend_items(in, v.as.sequence->count);
        for (size_t i = 0; i < v.as.sequence->count && hashable; i++)
            hashable = value_hashable(in, v.as.sequence->items[i]);
        interp_leave(in);
        return hashable;
    }
    return v.kind != VALUE_LIST && v.kind != VALUE_DICT &&
           !(v.kind == VALUE_VIEW && v.as.view->kind != VIEW_VALUES);
}

static uint64_t mix(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    h ^= h >> 33;
    return h;
}

uint64_t value_hash(interp *in, value v)
{
    int64_t whole;
    switch (v.kind) {
    case VALUE_BOOL:
    case VALUE_INT:
        value_is_integer(v, &whole);
        return mix((uint64_t)whole);
    case VALUE_FLOAT: /* equal numbers hash alike whatever their type */
        if (number_truncate(v.as.real, &whole) && (double)whole == v.as.real)
            return mix((uint64_t)whole);
        uint64_t bits;
        memcpy(&bits, &v.as.real, sizeof bits);
        return mix(bits);
    case VALUE_TEXT: {
        uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
        interp_spend_bytes(in, v.as.text->size);
        for (size_t i = 0; i < v.as.text->size; i++)
            h = (h ^ (unsigned char)v.as.text->bytes[i]) * 0x100000001b3u;
        return mix(h);
    }
    case VALUE_TUPLE: {
        uint64_t h = 1;
        interp_enter(in);
        interp_spend_items(in, v.as.sequence->count);
        for (size_t i = 0; i < v.as.sequence->count; i++)
            h = mix(h * 31 + value_hash(in, v.as.sequence->items[i]));
        interp_leave(in);
        return h;
    }
    case VALUE_NONE:
    case VALUE_UNDEFINED: /* every undefined equals every other */
        return mix((uint64_t)v.kind);
    case VALUE_RANGE:
        return mix((uint64_t)v.as.range->count);
    default:
        if (!value_hashable(in, v)) interp_fail(in, "unhashable type: '%s'", value_type_name(v));
        return mix((uint64_t)(uintptr_t)v.as.identity);
    }
}

bool value_same(value a, value b)
{
    if (a.kind != b.kind) return false;
    switch (a.kind) {
    case VALUE_NONE:
        return true;
    case VALUE_BOOL:
        return a.as.boolean == b.as.boolean;
    case VALUE_INT: /* Python shares the small integers and, in one template, equal constants */
        return a.as.integer == b.as.integer;
    case VALUE_FLOAT:
        return a.as.real == b.as.real;
    case VALUE_TEXT:
        return a.safe == b.safe && (a.as.text == b.as.text || text_same(a.as.text, b.as.text));
    case VALUE_METHOD:
        return false;
    default:
        return a.as.identity == b.as.identity;
    }
}

static bool sequences_equal(interp *in, const sequence *a, const sequence *b)
{
    if (a->count != b->count) return false;
    interp_spend_items(in, a->count);
    for (size_t i = 0; i < a->count; i++)
        if (!value_equal(in, a->items[i], b->items[i])) return false;
    return true;
}

static bool dicts_equal(interp *in, const dict *a, const dict *b)
{
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++) {
        dict_entry *other = find_entry(in, b, a->entries[i].key, a->entries[i].hash);
        if (other == NULL || !value_equal(in, a->entries[i].item, other->item)) return false;
    }
    return true;
}

static bool ranges_equal(const range *a, const range *b)
{
    if (a->count != b->count) return false;
    if (a->count == 0) return true;
    return a->start == b->start && (a->count == 1 || a->step == b->step);
}

/* Views of keys and items are sets. */
static bool views_equal(interp *in, const view *a, const view *b)
{
    if (a == b) return true;
    if (a->kind == VIEW_VALUES || b->kind == VIEW_VALUES || a->of->count != b->of->count)
        return false;
    value other = {.kind = VALUE_VIEW, .as.view = (view *)b};
    for (size_t i = 0; i < a->of->count; i++)
        if (!value_contains(in, other, view_item(in, a, i))) return false;
    return true;
}

static bool numbers_equal(value a, value b)
{
    int64_t i, k;
    bool a_whole = value_is_integer(a, &i), b_whole = value_is_integer(b, &k);
    if (a_whole && b_whole) return i == k;
    if (a_whole) return !isnan(b.as.real) && number_compare(i, b.as.real) == 0;
    if (b_whole) return !isnan(a.as.real) && number_compare(k, a.as.real) == 0;
    return a.as.real == b.as.real;
}

bool value_equal(interp *in, value a, value b)
{
    if (value_is_number(a) && value_is_number(b)) return numbers_equal(a, b);
    if (a.kind != b.kind) return false;
    bool equal;
    switch (a.kind) {
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return true;
    case VALUE_TEXT:
        if (a.as.text->size == b.as.text->size) interp_spend_bytes(in, a.as.text->size);
        return text_same(a.as.text, b.as.text);
    case VALUE_RANGE:
        return ranges_equal(a.as.range, b.as.range);
    case VALUE_METHOD:
        return a.as.method->row == b.as.method->row &&
               value_same(a.as.method->self, b.as.method->self);
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_DICT:
    case VALUE_VIEW:
        break;
    default:
        return a.as.identity == b.as.identity;
    }
    interp_enter(in);
    interp_spend(in, 1);
    if (a.kind == VALUE_DICT)
        equal = dicts_equal(in, a.as.dict, b.as.dict);
    else if (a.kind == VALUE_VIEW)
        equal = views_equal(in, a.as.view, b.as.view);
    else
        equal = sequences_equal(in, a.as.sequence, b.as.sequence);
    interp_leave(in);
    return equal;
}

static bool ordered(comparison op, int order)
{
    switch (op) {
    case LESS:
        return order < 0;
    case LESS_EQUAL:
        return order <= 0;
    case GREATER:
        return order > 0;
    case GREATER_EQUAL:
        return order >= 0;
    }
    return false;
}

static bool numbers_ordered(comparison op, value a, value b)
{
    int64_t i, k;
    bool a_whole = value_is_integer(a, &i), b_whole = value_is_integer(b, &k);
    if (a_whole && b_whole) return ordered(op, i < k ? -1 : i > k);
    double x = a_whole ? 0 : a.as.real, y = b_whole ? 0 : b.as.real;
    if (isnan(x) || isnan(y)) return false;
    if (a_whole) return ordered(op, number_compare(i, y));
    if (b_whole) return ordered(op, -number_compare(k, x));
    return ordered(op, x < y ? -1 : x > y);
}

bool value_compare(interp *in, comparison op, value a, value b)
{
    static const char *const signs[] = {"<", "<=", ">", ">="};
    if (value_is_number(a) && value_is_number(b)) return numbers_ordered(op, a, b);
    if (a.kind == VALUE_UNDEFINED) value_fail_undefined(in, a.as.undefined);
    if (b.kind == VALUE_UNDEFINED) value_fail_undefined(in, b.as.undefined);
    if (a.kind == VALUE_TEXT && b.kind == VALUE_TEXT) {
        interp_spend_bytes(in, a.as.text->size);
        return ordered(op, text_compare(a.as.text, b.as.text));
    }
    if (a.kind != b.kind || (a.kind != VALUE_LIST && a.kind != VALUE_TUPLE))
        interp_fail(in, "'%s' not supported between instances of '%s' and '%s'", signs[op],
                    value_type_name(a), value_type_name(b));
    const sequence *x = a.as.sequence, *y = b.as.sequence;
    size_t common = x->count < y->count ? x->count : y->count;
    interp_enter(in);
    for (size_t i = 0; i < common; i++) {
        interp_spend(in, 1);
        if (value_same(x->items[i], y->items[i]) || value_equal(in, x->items[i], y->items[i]))
            continue;
        bool result = value_compare(in, op, x->items[i], y->items[i]);
        interp_leave(in);
        return result;
    }
    interp_leave(in);
    return ordered(op, x->count < y->count ? -1 : x->count > y->count);
}

bool value_contains(interp *in, value container, value item)
{
    int64_t number;
    switch (container.kind) {
    case VALUE_TEXT:
        if (item.kind != VALUE_TEXT)
            interp_fail(in, "'in <string>' requires string as left operand, not %s",
                        value_type_name(item));
        return text_find(in, container.as.text, item.as.text, 0, container.as.text->size) !=
               TEXT_NOT_FOUND;
    case VALUE_DICT:
        return dict_find(in, container.as.dict, item) != NULL;
    case VALUE_RANGE:
        if (item.kind == VALUE_FLOAT)
            return number_truncate(item.as.real, &number) && (double)number == item.as.real &&
                   range_contains(container.as.range, number);
        return value_is_integer(item, &number) && range_contains(container.as.range, number);
    case VALUE_VIEW:
        if (container.as.view->kind == VIEW_KEYS)
            return dict_find(in, container.as.view->of, item) != NULL;
        break;
    default:
        if (!iterable(container))
            interp_fail(in, "argument of type '%s' is not iterable", value_type_name(container));
        break;
    }
    iterator *it = iterate(in, container);
    for (value each; iterate_next(in, it, &each);)
        if (value_same(each, item) || value_equal(in, each, item)) return true;
    return false;
}

int64_t value_need_int(interp *in, const char *what, value v)
{
    int64_t number;
    if (v.kind == VALUE_UNDEFINED) value_fail_undefined(in, v.as.undefined);
    if (!value_is_integer(v, &number))
        interp_fail(in, "%s needs an integer, not '%s'", what, value_type_name(v));
    return number;
}

text *value_need_text(interp *in, const char *what, value v)
{
    if (v.kind == VALUE_UNDEFINED) value_fail_undefined(in, v.as.undefined);
    if (v.kind != VALUE_TEXT)
        interp_fail(in, "%s needs a string, not '%s'", what, value_type_name(v));
    return v.as.text;
}
