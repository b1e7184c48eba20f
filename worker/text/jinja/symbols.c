#include "worker/text/jinja/symbols.h"

#include <string.h>

function_state *symbols_function(interp *in, function_info *info, function_state *outer)
{
    function_state *fn = interp_alloc(in, sizeof *fn);
    fn->info = info;
    fn->outer = outer;
    fn->slots = dict_new(in);
    return fn;
}

symbols *symbols_new(interp *in, symbols *parent, function_state *fn)
{
    symbols *s = interp_alloc(in, sizeof *s);
    s->in = in;
    s->parent = parent;
    s->function = fn;
    s->level = parent != NULL ? parent->level + 1 : 0;
    s->numbers = dict_new(in);
    return s;
}

static symbol *find_here(const symbols *s, const text *name)
{
    value *number = dict_find_text(s->in, s->numbers, name);
    return number != NULL ? &s->all[number->as.integer] : NULL;
}

symbol *symbols_find(symbols *s, const text *name, symbols **owner)
{
    for (; s != NULL; s = s->parent) {
        symbol *found = find_here(s, name);
        if (found == NULL) continue;
        *owner = s;
        return found;
    }
    return NULL;
}

uint32_t symbols_hops(const function_state *from, const function_state *to)
{
    uint32_t hops = 0;
    for (; from != to; from = from->outer)
        hops++;
    return hops;
}

static uint32_t slot_for(symbols *s, text *name)
{
    value key =
        value_sequence(VALUE_TUPLE, sequence_pair(s->in, value_int(s->level), value_text(name)));
    value *known = dict_find(s->in, s->function->slots, key);
    if (known != NULL) return (uint32_t)known->as.integer;
    uint32_t slot = s->function->info->slot_count++;
    dict_set(s->in, s->function->slots, key, value_int(slot));
    return slot;
}

symbol *symbols_define(symbols *s, text *name, load_kind how)
{
    symbol *known = find_here(s, name);
    if (known == NULL) {
        if (s->count == s->capacity) {
            size_t capacity = s->capacity < 8 ? 8 : s->capacity * 2;
            symbol *all = interp_alloc_array(s->in, capacity, sizeof *all);
            /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): what counts is there */
            if (s->count > 0) memcpy(all, s->all, s->count * sizeof *all);
            s->all = all;
            s->capacity = capacity;
        }
        dict_set(s->in, s->numbers, value_text(name), value_int((int64_t)s->count));
        known = &s->all[s->count++];
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): below the capacity */
        *known = (symbol){.name = name, .slot = slot_for(s, name)};
    }
    known->load = how;
    return known;
}

static void mark_stored(symbols *s, symbol *sym)
{
    if (sym->stored) return;
    sym->stored = true;
    if (s->stored_count == s->stored_capacity) {
        size_t capacity = s->stored_capacity < 8 ? 8 : s->stored_capacity * 2;
        size_t *stored = interp_alloc_array(s->in, capacity, sizeof *stored);
        if (s->stored_count > 0) memcpy(stored, s->stored, s->stored_count * sizeof *stored);
        s->stored = stored;
        s->stored_capacity = capacity;
    }
    s->stored[s->stored_count++] = (size_t)(sym - s->all);
}

void symbols_load_from_outside(symbols *s, symbol *sym, load_kind otherwise)
{
    symbols *owner = NULL;
    symbol *outer = s->parent != NULL ? symbols_find(s->parent, sym->name, &owner) : NULL;
    sym->load = outer != NULL ? LOAD_OUTER : otherwise;
    if (outer != NULL)
        sym->outer = (slot_ref){symbols_hops(s->function, owner->function), outer->slot};
}

void symbols_note_load(symbols *s, text *name)
{
    symbols *owner;
    if (symbols_find(s, name, &owner) == NULL) symbols_define(s, name, LOAD_CONTEXT);
}

void symbols_note_store(symbols *s, text *name)
{
    symbol *known = find_here(s, name);
    if (known == NULL) {
        known = symbols_define(s, name, LOAD_MISSING);
        symbols_load_from_outside(s, known, LOAD_MISSING);
    }
    mark_stored(s, known);
}

uint32_t symbols_note_parameter(symbols *s, text *name)
{
    symbol *sym = symbols_define(s, name, LOAD_NOTHING);
    mark_stored(s, sym);
    return sym->slot;
}

uint32_t symbols_note_special(symbols *s, const char *name)
{
    return symbols_note_parameter(s, text_literal(s->in, name));
}

scope symbols_scope(const symbols *s)
{
    scope result = {.count = s->count};
    if (s->count > 0) result.loads = interp_alloc_array(s->in, s->count, sizeof *result.loads);
    for (size_t i = 0; i < s->count; i++)
        result.loads[i] = (load){s->all[i].load, s->all[i].slot, s->all[i].name, s->all[i].outer};
    return result;
}
