/* symbols: the names of one scope while scope.c looks at it, and the slots they get. */
#ifndef GAGGLE_WORKER_TEXT_JINJA_SYMBOLS_H
#define GAGGLE_WORKER_TEXT_JINJA_SYMBOLS_H

#include "worker/text/jinja/ast.h"

/* What scope.h calls a function. */
typedef struct function_state {
    function_info *info;
    struct function_state *outer;
    /* Scopes that lie side by side share variables, as they do in the compiled Python: one slot
     * for each name and level. */
    dict *slots;
} function_state;

typedef struct symbol {
    text *name;
    uint32_t slot;
    load_kind load;
    slot_ref outer; /* of LOAD_OUTER */
    bool stored;
} symbol;

typedef struct symbols {
    interp *in;
    struct symbols *parent;
    function_state *function;
    uint32_t level;
    dict *numbers; /* name -> number of its symbol */
    symbol *all;
    size_t count;
    size_t capacity;
    size_t *stored; /* numbers of the symbols that are stored, in that order */
    size_t stored_count;
    size_t stored_capacity;
} symbols;

function_state *symbols_function(interp *in, function_info *info, function_state *outer);
symbols *symbols_new(interp *in, symbols *parent, function_state *fn);

/* The innermost scope from `s` outward that has the name; NULL when none does. */
symbol *symbols_find(symbols *s, const text *name, symbols **owner);
uint32_t symbols_hops(const function_state *from, const function_state *to);
/* The symbol of this scope, made when it has none, loaded that way. */
symbol *symbols_define(symbols *s, text *name, load_kind how);
/* The symbol starts as a copy of the outer scope's, or as `otherwise` when there is none. */
void symbols_load_from_outside(symbols *s, symbol *sym, load_kind otherwise);

/* The scope reads the name, sets it, or has it as a parameter. */
void symbols_note_load(symbols *s, text *name);
void symbols_note_store(symbols *s, text *name);
uint32_t symbols_note_parameter(symbols *s, text *name); /* its slot */
uint32_t symbols_note_special(symbols *s, const char *name);

/* What a run needs of it. */
scope symbols_scope(const symbols *s);

#endif
