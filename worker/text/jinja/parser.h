/* parser: Jinja2's grammar, with the loop controls and {% generation %}. */
#ifndef GAGGLE_WORKER_TEXT_JINJA_PARSER_H
#define GAGGLE_WORKER_TEXT_JINJA_PARSER_H

#include "worker/text/jinja/ast.h"
#include "worker/text/jinja/lexer.h"

/* Names have no places yet: scope_resolve() comes next. */
program *parser_run(interp *in, const token_list *tokens);

/* -- for the other files of the parser --------------------------------------------------------- */

typedef struct parser {
    interp *in;
    const token *current;
    const char *innermost; /* the tag that is open, for errors */
} parser;

typedef struct tuple_rules {
    bool simplified;         /* names and literals only, as on the left of an assignment */
    bool no_condition;       /* no "a if b" */
    bool parenthesized;      /* "()" is a tuple */
    bool members;            /* ns.name is a target */
    const char *end_keyword; /* a name that ends it, or NULL */
} tuple_rules;

/* parser_support.c */
node *parser_node(parser *p, node_kind kind, uint32_t line);
node *parser_constant(parser *p, value item, uint32_t line);
node *parser_unary(parser *p, node_kind kind, node *operand, uint32_t line);
node *parser_binary(parser *p, node_kind kind, operation op, node *left, node *right,
                    uint32_t line);
void parser_list_push(parser *p, node_list *list, node *item);
/* `parent` stands over `child`, which may be NULL. */
void parser_adopt(parser *p, node *parent, const node *child);
void parser_adopt_list(parser *p, node *parent, const node_list *list);

void parser_step(parser *p);
const token *parser_look(const parser *p); /* the one after the current */
bool parser_token_is(const token *t, const char *name);
_Noreturn void parser_fail_token(parser *p, const char *expected);
bool parser_at_name(const parser *p, const char *name);
bool parser_skip(parser *p, token_kind kind);
bool parser_skip_name(parser *p, const char *name);
const token *parser_expect(parser *p, token_kind kind);
void parser_expect_name(parser *p, const char *name);

/* parser_primary.c */
node *parser_primary(parser *p, bool members);
node *parser_postfix(parser *p, node *n);
node *parser_call(parser *p, node *callee);
call_arguments parser_arguments(parser *p);
void parser_adopt_arguments(parser *p, node *n, const call_arguments *a);
/* The constant that a name spells, or VALUE_MISSING. */
value parser_named_constant(const text *name);

/* parser_expression.c */
node *parser_expression(parser *p);
node *parser_tuple(parser *p, tuple_rules rules);
/* The chain of filters that follows, its first subject NULL; `named`: the '|' before the first is
 * already read. NULL when there is none. */
node *parser_filters(parser *p, node *subject, bool named);
/* A target of an assignment; its names have use `use`. */
node *parser_target(parser *p, name_use use, tuple_rules rules);
node *parser_target_name(parser *p, name_use use);

#endif
