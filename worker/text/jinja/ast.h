/* ast: a parsed template. parser.c builds it, scope.c gives every name its place, then it never
 * changes again, so any number of renders may read it at once. */
#ifndef GAGGLE_WORKER_TEXT_JINJA_AST_H
#define GAGGLE_WORKER_TEXT_JINJA_AST_H

#include "worker/text/jinja/value.h"

typedef struct node node;

typedef struct node_list {
    node **items;
    size_t count;
    size_t capacity;
} node_list;

/* Where a variable lives: `hops` functions outward, then slot `index` of its environment. */
typedef struct slot_ref {
    uint32_t hops;
    uint32_t index;
} slot_ref;

/* What happens to a slot when the scope it belongs to is entered. Leaving clears it. */
typedef enum load_kind {
    LOAD_NOTHING, /* a parameter: whoever enters sets it */
    LOAD_MISSING,
    LOAD_CONTEXT, /* from the template's variables, by name */
    LOAD_OUTER,   /* a copy of an outer scope's variable */
} load_kind;
typedef struct load {
    load_kind kind;
    uint32_t slot;
    text *name;
    slot_ref outer;
} load;
typedef struct scope {
    load *loads;
    size_t count;
} scope;

/* What runs in an environment of its own: the template, a macro, a block, a recursive loop and the
 * filter of a loop. */
typedef struct function_info {
    uint32_t slot_count;
} function_info;

typedef enum node_kind {
    /* expressions */
    NODE_CONSTANT,
    NODE_NAME,
    NODE_MEMBER_TARGET, /* ns.attribute on the left of an assignment */
    NODE_TUPLE,
    NODE_LIST,
    NODE_DICT,
    NODE_CONDITION,
    NODE_AND,
    NODE_OR,
    NODE_NOT,
    NODE_NEGATE,
    NODE_POSITIVE,
    NODE_BINARY,
    NODE_CONCAT,
    NODE_COMPARE,
    NODE_ATTRIBUTE,
    NODE_ITEM,
    NODE_SLICE,
    NODE_CALL,
    NODE_FILTER,
    NODE_TEST,
    /* statements */
    NODE_DATA, /* text between tags, a part of NODE_OUTPUT */
    NODE_OUTPUT,
    NODE_FOR,
    NODE_IF,
    NODE_WITH,
    NODE_SET,
    NODE_SET_BLOCK,
    NODE_MACRO,
    NODE_CALL_BLOCK, /* also {% generation %}, which has no call */
    NODE_FILTER_BLOCK,
    NODE_BLOCK,
    NODE_SCOPE,
    NODE_BREAK,
    NODE_CONTINUE,
    NODE_REFUSED, /* include, import, extends: fail when they are reached */
} node_kind;

typedef enum name_use { NAME_LOAD, NAME_STORE, NAME_PARAMETER } name_use;

typedef enum compare_kind {
    COMPARE_LESS = LESS,
    COMPARE_LESS_EQUAL = LESS_EQUAL,
    COMPARE_GREATER = GREATER,
    COMPARE_GREATER_EQUAL = GREATER_EQUAL,
    COMPARE_EQUAL,
    COMPARE_NOT_EQUAL,
    COMPARE_IN,
    COMPARE_NOT_IN,
} compare_kind;

typedef struct call_arguments {
    node_list positional;
    node_list named;
    text **names;
    node *more_positional; /* *expression, or NULL */
    node *more_named;      /* **expression, or NULL */
} call_arguments;

/* A macro, or the body of a call block. */
typedef struct macro_node {
    text *name; /* NULL: the body of a call block */
    slot_ref slot;
    bool exported; /* at the template's top level */
    node_list parameters;
    node_list defaults; /* of the last parameters */
    node_list body;
    node *call; /* of a call block */
    function_info function;
    scope scope;
    bool takes_caller, takes_named, takes_more;
    bool explicit_caller;
    uint32_t caller_slot, named_slot, more_slot;
} macro_node;

typedef struct for_node {
    node *target;
    node *iterable;
    node *test;
    node_list body;
    node_list otherwise;
    bool recursive;
    bool extended; /* the body uses `loop` */
    scope body_scope;
    scope else_scope;
    scope test_scope;
    slot_ref loop_slot;
    function_info function;      /* of a recursive loop */
    function_info test_function; /* of `test` */
    node *test_target;           /* `target` as the test's function knows it */
} for_node;

typedef struct block_node {
    text *name;
    bool scoped;
    bool required;
    node_list body;
    function_info function;
    scope scope;
    bool takes_self;
    uint32_t self_slot;
    /* Names that a scoped block sees of the place it stands at. */
    text **seen_names;
    slot_ref *seen_slots;
    size_t seen_count;
} block_node;

struct node {
    node_kind kind;
    uint32_t line;
    uint32_t height; /* 1 + the highest child's */
    union {
        value constant;
        text *data;
        struct {
            text *name;
            name_use use;
            slot_ref slot;
            bool exported; /* a store at the template's top level */
        } name;
        struct {
            text *name;
            text *attribute;
            slot_ref slot;
        } member;
        node_list items; /* tuple, list, concat, output */
        struct {
            node_list keys;
            node_list items;
        } dict;
        struct {
            node *test;
            node *yes;
            node *no; /* or NULL */
        } condition;
        struct {
            operation op;
            node *left;
            node *right;
        } binary;      /* also and, or */
        node *operand; /* not, -, + */
        struct {
            node *first;
            node_list rest;
            compare_kind *kinds;
        } compare;
        struct {
            node *object;
            text *name;
        } attribute;
        struct {
            node *object;
            node *key;
        } item;
        struct {
            node *start;
            node *stop;
            node *step;
        } slice;
        struct {
            node *callee;
            call_arguments arguments;
        } call;
        struct {
            node *subject; /* NULL: what a filter block or set block captured */
            text *name;
            const void *row; /* of filters.h or tests.h; NULL: unknown, fails when it is run */
            call_arguments arguments;
        } apply; /* filter and test */
        for_node *loop;
        struct {
            node *test;
            node_list body;
            node_list elifs;
            node_list otherwise;
        } branch;
        struct {
            node_list targets;
            node_list values;
            node_list body;
            scope scope;
        } with; /* also NODE_SCOPE */
        struct {
            node *target;
            node *item;
        } set;
        struct {
            node *target; /* of a set block */
            node *filter;
            node_list body;
            scope scope;
        } capture; /* set block, filter block */
        macro_node *macro;
        block_node *block;
        const char *refused;
    } as;
};

typedef struct program {
    node_list body;
    function_info function;
    scope scope;
    bool takes_self;
    uint32_t self_slot;
    node_list blocks;
} program;

#endif
