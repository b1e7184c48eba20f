#include "worker/text/jinja/scope.h"

#include <string.h>

#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/symbols.h"
#include "worker/text/jinja/tests.h"
#include "worker/text/jinja/visit.h"

/* Where the walk stands. */
typedef struct frame {
    symbols *names;
    program *program;
    bool toplevel; /* what is set here is seen by blocks */
    bool soft;     /* in a branch: an unknown filter fails only if it is run */
    bool in_loop;  /* break and continue have a loop to work on */
} frame;

static void resolve(const frame *f, node *n);

/* -- what a scope holds ------------------------------------------------------------------------ */

static void collect_names(void *state, node *n);

static void collect_list(symbols *s, const node_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        collect_names(s, list->items[i]);
}

/* What a branch sets may be unset when it is not taken. */
static void collect_branch(symbols *s, node *n)
{
    collect_names(s, n->as.branch.test);
    size_t before = s->stored_count;
    collect_list(s, &n->as.branch.body);
    collect_list(s, &n->as.branch.elifs);
    collect_list(s, &n->as.branch.otherwise);
    for (size_t i = before; i < s->stored_count; i++)
        symbols_load_from_outside(s, &s->all[s->stored[i]], LOAD_CONTEXT);
}

/* The names that belong to the scope `state`; inner scopes are not entered. */
static void collect_names(void *state, node *n)
{
    symbols *s = state;
    switch (n->kind) {
    case NODE_NAME:
        if (n->as.name.use == NAME_LOAD)
            symbols_note_load(s, n->as.name.name);
        else if (n->as.name.use == NAME_STORE)
            symbols_note_store(s, n->as.name.name);
        else
            symbols_note_parameter(s, n->as.name.name);
        break;
    case NODE_MEMBER_TARGET:
        symbols_note_load(s, n->as.member.name);
        break;
    case NODE_IF:
        collect_branch(s, n);
        break;
    case NODE_MACRO:
        symbols_note_store(s, n->as.macro->name);
        break;
    case NODE_SET:
        collect_names(s, n->as.set.item);
        collect_names(s, n->as.set.target);
        break;
    case NODE_FOR:
        collect_names(s, n->as.loop->iterable);
        break;
    case NODE_CALL_BLOCK:
        if (n->as.macro->call != NULL) collect_names(s, n->as.macro->call);
        break;
    case NODE_FILTER_BLOCK:
        collect_names(s, n->as.capture.filter);
        break;
    case NODE_SET_BLOCK:
        collect_names(s, n->as.capture.target);
        break;
    case NODE_WITH:
        collect_list(s, &n->as.with.values);
        break;
    case NODE_SCOPE:
    case NODE_BLOCK:
        break;
    default:
        visit_children(n, collect_names, s);
        break;
    }
}

static void collect_parameters(symbols *s, node *target)
{
    if (target->kind == NODE_NAME) symbols_note_parameter(s, target->as.name.name);
    for (size_t i = 0; target->kind == NODE_TUPLE && i < target->as.items.count; i++)
        collect_parameters(s, target->as.items.items[i]);
}

/* -- special names ----------------------------------------------------------------------------- */

enum { SPECIAL_NAMES = 3 };
typedef struct special_search {
    const char *names[SPECIAL_NAMES];
    bool hidden[SPECIAL_NAMES]; /* set before it was read */
    bool found[SPECIAL_NAMES];
} special_search;

/* Which of the names are read before anything sets them, inner scopes included. */
static void search_special(void *state, node *n)
{
    special_search *search = state;
    if (n->kind == NODE_BLOCK) return;
    if (n->kind != NODE_NAME) {
        visit_children(n, search_special, search);
        return;
    }
    for (int i = 0; i < SPECIAL_NAMES && search->names[i] != NULL; i++) {
        if (!text_is(n->as.name.name, search->names[i])) continue;
        if (n->as.name.use != NAME_LOAD)
            search->hidden[i] = true;
        else if (!search->hidden[i])
            search->found[i] = true;
    }
}

static void search_special_list(special_search *search, const node_list *body)
{
    for (size_t i = 0; i < body->count; i++)
        search_special(search, body->items[i]);
}

static bool reads(const node_list *body, const char *name)
{
    special_search search = {.names = {name}};
    search_special_list(&search, body);
    return search.found[0];
}

typedef struct loop_search {
    interp *in;
    bool scoped_block;
} loop_search;

static void search_loop(void *state, node *n)
{
    loop_search *search = state;
    if (n->kind == NODE_BLOCK && n->as.block->scoped) search->scoped_block = true;
    if (n->kind == NODE_NAME && n->as.name.use == NAME_STORE && text_is(n->as.name.name, "loop")) {
        search->in->line = n->line;
        interp_fail(search->in, "Can't assign to special loop variable in for-loop target");
    }
    visit_children(n, search_loop, search);
}

/* -- resolving --------------------------------------------------------------------------------- */

static slot_ref place_of(const frame *f, text *name)
{
    symbols *owner;
    symbol *found = symbols_find(f->names, name, &owner);
    /* Only the filter of a set block can name what its scope did not collect. */
    if (found == NULL) {
        found = symbols_define(f->names, name, LOAD_CONTEXT);
        owner = f->names;
    }
    return (slot_ref){symbols_hops(f->names->function, owner->function), found->slot};
}

static void resolve_list(const frame *f, const node_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        resolve(f, list->items[i]);
}

static void resolve_child(void *state, node *n)
{
    resolve(state, n);
}

static frame inner_frame(const frame *f, symbols *names)
{
    return (frame){.names = names, .program = f->program, .in_loop = f->in_loop};
}

static symbols *inner_symbols(const frame *f)
{
    return symbols_new(f->names->in, f->names, f->names->function);
}

static void resolve_apply(const frame *f, node *n)
{
    interp *in = f->names->in;
    bool is_filter = n->kind == NODE_FILTER;
    n->as.apply.row = is_filter ? (const void *)filter_find(n->as.apply.name)
                                : (const void *)test_find(n->as.apply.name);
    if (n->as.apply.row == NULL && !f->soft) {
        in->line = n->line;
        interp_fail(in, "No %s named '%.*s'.", is_filter ? "filter" : "test",
                    (int)n->as.apply.name->size, n->as.apply.name->bytes);
    }
    visit_children(n, resolve_child, (void *)f);
}

/* A second tree of the same target, for the function that filters the loop's items. */
static node *copy_target(interp *in, const node *target)
{
    node *copy = interp_alloc(in, sizeof *copy);
    *copy = *target;
    if (target->kind != NODE_TUPLE) return copy;
    copy->as.items.items = interp_alloc_array(in, target->as.items.count, sizeof(node *));
    for (size_t i = 0; i < target->as.items.count; i++)
        copy->as.items.items[i] = copy_target(in, target->as.items.items[i]);
    return copy;
}

static void resolve_loop_test(const frame *f, for_node *loop)
{
    interp *in = f->names->in;
    function_state *fn = symbols_function(in, &loop->test_function, f->names->function);
    symbols *names = symbols_new(in, f->names, fn);
    frame test = {.names = names, .program = f->program};
    loop->test_target = copy_target(in, loop->target);
    collect_parameters(names, loop->test_target);
    collect_names(names, loop->test);
    resolve(&test, loop->test_target);
    resolve(&test, loop->test);
    loop->test_scope = symbols_scope(names);
}

static void resolve_for(const frame *f, node *n)
{
    interp *in = f->names->in;
    for_node *loop = n->as.loop;
    loop_search search = {.in = in};
    search_loop(&search, n);
    loop->extended = loop->recursive || search.scoped_block || reads(&loop->body, "loop");
    resolve(f, loop->iterable);
    if (loop->test != NULL) resolve_loop_test(f, loop);

    function_state *fn = f->names->function;
    if (loop->recursive) fn = symbols_function(in, &loop->function, fn);
    symbols *names = symbols_new(in, f->names, fn);
    frame body = {.names = names, .program = f->program, .in_loop = true};
    if (loop->extended) loop->loop_slot.index = symbols_note_special(names, "loop");
    collect_parameters(names, loop->target);
    collect_list(names, &loop->body);
    resolve(&body, loop->target);
    resolve_list(&body, &loop->body);
    loop->body_scope = symbols_scope(names);

    symbols *else_names = symbols_new(in, f->names, fn);
    frame otherwise = inner_frame(f, else_names);
    otherwise.in_loop = f->in_loop && !loop->recursive;
    collect_list(else_names, &loop->otherwise);
    resolve_list(&otherwise, &loop->otherwise);
    loop->else_scope = symbols_scope(else_names);
}

static void check_explicit_caller(interp *in, const node *n)
{
    const macro_node *macro = n->as.macro;
    size_t required = macro->parameters.count - macro->defaults.count;
    for (size_t i = 0; i < required; i++) {
        if (!text_is(macro->parameters.items[i]->as.name.name, "caller")) continue;
        in->line = n->line;
        interp_fail(in, "When defining macros or call blocks the special \"caller\" argument must "
                        "be omitted or be given a default.");
    }
}

static bool has_parameter(const macro_node *macro, const char *name)
{
    for (size_t i = 0; i < macro->parameters.count; i++)
        if (text_is(macro->parameters.items[i]->as.name.name, name)) return true;
    return false;
}

/* A macro or the body of a call block. */
static void resolve_macro(const frame *f, node *n)
{
    interp *in = f->names->in;
    macro_node *macro = n->as.macro;
    function_state *fn = symbols_function(in, &macro->function, f->names->function);
    symbols *names = symbols_new(in, f->names, fn);
    frame body = {.names = names, .program = f->program};
    special_search search = {.names = {"caller", "kwargs", "varargs"}};
    search_special_list(&search, &macro->body);
    macro->explicit_caller = has_parameter(macro, "caller");
    macro->takes_caller = search.found[0];
    macro->takes_named = search.found[1] && !has_parameter(macro, "kwargs");
    macro->takes_more = search.found[2] && !has_parameter(macro, "varargs");

    collect_list(names, &macro->parameters);
    if (macro->takes_caller && macro->explicit_caller) check_explicit_caller(in, n);
    if (macro->takes_caller && !macro->explicit_caller)
        macro->caller_slot = symbols_note_special(names, "caller");
    if (macro->takes_named) macro->named_slot = symbols_note_special(names, "kwargs");
    if (macro->takes_more) macro->more_slot = symbols_note_special(names, "varargs");
    collect_list(names, &macro->defaults);
    collect_list(names, &macro->body);
    resolve_list(&body, &macro->parameters);
    resolve_list(&body, &macro->defaults);
    resolve_list(&body, &macro->body);
    macro->scope = symbols_scope(names);
}

static void resolve_with(const frame *f, node *n)
{
    symbols *names = inner_symbols(f);
    frame body = inner_frame(f, names);
    resolve_list(f, &n->as.with.values);
    collect_list(names, &n->as.with.targets);
    collect_list(names, &n->as.with.body);
    resolve_list(&body, &n->as.with.targets);
    resolve_list(&body, &n->as.with.body);
    n->as.with.scope = symbols_scope(names);
}

/* A set block or a filter block. */
static void resolve_capture(const frame *f, node *n)
{
    symbols *names = inner_symbols(f);
    frame body = inner_frame(f, names);
    collect_list(names, &n->as.capture.body);
    if (n->kind == NODE_FILTER_BLOCK) collect_names(names, n->as.capture.filter);
    resolve_list(&body, &n->as.capture.body);
    if (n->as.capture.target != NULL) resolve(f, n->as.capture.target);
    if (n->as.capture.filter != NULL) resolve(&body, n->as.capture.filter);
    n->as.capture.scope = symbols_scope(names);
}

/* What a scoped block sees: all that is set around it, innermost first. */
static void note_seen(const frame *f, block_node *block)
{
    interp *in = f->names->in;
    dict *seen = dict_new(in);
    size_t total = 0;
    for (const symbols *s = f->names; s != NULL; s = s->parent)
        total += s->stored_count;
    block->seen_names = interp_alloc_array(in, total, sizeof *block->seen_names);
    block->seen_slots = interp_alloc_array(in, total, sizeof *block->seen_slots);
    for (const symbols *s = f->names; s != NULL; s = s->parent)
        for (size_t i = 0; i < s->stored_count; i++) {
            text *name = s->all[s->stored[i]].name;
            if (dict_find_text(in, seen, name) != NULL) continue;
            dict_set(in, seen, value_text(name), value_none());
            block->seen_names[block->seen_count] = name;
            block->seen_slots[block->seen_count++] = place_of(f, name);
        }
}

/* A block knows nothing of the scope it stands in: its names come from the context. */
static void resolve_block(const frame *f, node *n)
{
    interp *in = f->names->in;
    block_node *block = n->as.block;
    node_list *all = &f->program->blocks;
    interp_spend_items(in, all->count);
    for (size_t i = 0; i < all->count; i++)
        if (text_same(all->items[i]->as.block->name, block->name)) {
            in->line = n->line;
            interp_fail(in, "block '%.*s' defined twice", (int)block->name->size,
                        block->name->bytes);
        }
    if (all->count == all->capacity) {
        size_t capacity = all->capacity < 4 ? 4 : all->capacity * 2;
        node **items = interp_alloc_array(in, capacity, sizeof *items);
        if (all->count > 0) memcpy(items, all->items, all->count * sizeof *items);
        all->items = items;
        all->capacity = capacity;
    }
    all->items[all->count++] = n;
    if (block->scoped) note_seen(f, block);

    symbols *names = symbols_new(in, NULL, symbols_function(in, &block->function, NULL));
    frame body = {.names = names, .program = f->program};
    block->takes_self = reads(&block->body, "self");
    if (block->takes_self) block->self_slot = symbols_note_special(names, "self");
    collect_list(names, &block->body);
    resolve_list(&body, &block->body);
    block->scope = symbols_scope(names);
}

static void resolve(const frame *f, node *n)
{
    frame soft = *f;
    soft.soft = true;
    switch (n->kind) {
    case NODE_NAME:
        n->as.name.slot = place_of(f, n->as.name.name);
        n->as.name.exported = f->toplevel && n->as.name.use == NAME_STORE;
        break;
    case NODE_MEMBER_TARGET:
        n->as.member.slot = place_of(f, n->as.member.name);
        break;
    case NODE_FILTER:
    case NODE_TEST:
        resolve_apply(f, n);
        break;
    case NODE_CONDITION:
    case NODE_IF:
        visit_children(n, resolve_child, &soft);
        break;
    case NODE_FOR:
        resolve_for(f, n);
        break;
    case NODE_MACRO:
        resolve_macro(f, n);
        n->as.macro->slot = place_of(f, n->as.macro->name);
        n->as.macro->exported = f->toplevel;
        break;
    case NODE_CALL_BLOCK:
        resolve_macro(f, n);
        if (n->as.macro->call != NULL) resolve(f, n->as.macro->call);
        break;
    case NODE_WITH:
    case NODE_SCOPE:
        resolve_with(f, n);
        break;
    case NODE_SET_BLOCK:
    case NODE_FILTER_BLOCK:
        resolve_capture(f, n);
        break;
    case NODE_BLOCK:
        resolve_block(f, n);
        break;
    case NODE_BREAK:
    case NODE_CONTINUE:
        f->names->in->line = n->line;
        if (!f->in_loop) interp_fail(f->names->in, "break or continue outside of a loop");
        break;
    default:
        visit_children(n, resolve_child, (void *)f);
        break;
    }
}

void scope_resolve(interp *in, program *p)
{
    symbols *names = symbols_new(in, NULL, symbols_function(in, &p->function, NULL));
    frame top = {.names = names, .program = p, .toplevel = true};
    p->takes_self = reads(&p->body, "self");
    if (p->takes_self) p->self_slot = symbols_note_special(names, "self");
    collect_list(names, &p->body);
    resolve_list(&top, &p->body);
    p->scope = symbols_scope(names);
}
