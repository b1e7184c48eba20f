#include <string.h>

#include "common/limits.h"
#include "worker/text/jinja/parser.h"

/* -- nodes ------------------------------------------------------------------------------------- */

node *parser_node(parser *p, node_kind kind, uint32_t line)
{
    node *n = interp_alloc(p->in, sizeof *n);
    n->kind = kind;
    n->line = line;
    n->height = 1;
    return n;
}

void parser_list_push(parser *p, node_list *list, node *item)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity < 4 ? 4 : list->capacity * 2;
        node **items = interp_alloc_array(p->in, capacity, sizeof *items);
        if (list->count > 0) memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
}

void parser_adopt(parser *p, node *parent, const node *child)
{
    if (child == NULL || child->height < parent->height) return;
    parent->height = child->height + 1;
    if (parent->height > LIMIT_CHAT_TEMPLATE_HEIGHT) {
        p->in->line = parent->line;
        interp_exhausted(p->in, "levels of nesting", LIMIT_CHAT_TEMPLATE_HEIGHT);
    }
}

void parser_adopt_list(parser *p, node *parent, const node_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        parser_adopt(p, parent, list->items[i]);
}

node *parser_binary(parser *p, node_kind kind, operation op, node *left, node *right, uint32_t line)
{
    node *n = parser_node(p, kind, line);
    n->as.binary.op = op;
    n->as.binary.left = left;
    n->as.binary.right = right;
    parser_adopt(p, n, left);
    parser_adopt(p, n, right);
    return n;
}

node *parser_unary(parser *p, node_kind kind, node *operand, uint32_t line)
{
    node *n = parser_node(p, kind, line);
    n->as.operand = operand;
    parser_adopt(p, n, operand);
    return n;
}

node *parser_constant(parser *p, value item, uint32_t line)
{
    node *n = parser_node(p, NODE_CONSTANT, line);
    n->as.constant = item;
    return n;
}

/* -- tokens ------------------------------------------------------------------------------------ */

void parser_step(parser *p)
{
    if (p->current->kind != TOKEN_END) p->current++;
    p->in->line = p->current->line;
}

const token *parser_look(const parser *p)
{
    return p->current->kind == TOKEN_END ? p->current : p->current + 1;
}

bool parser_token_is(const token *t, const char *name)
{
    return t->kind == TOKEN_NAME && text_is(t->item.as.text, name);
}

bool parser_at_name(const parser *p, const char *name)
{
    return parser_token_is(p->current, name);
}

bool parser_skip(parser *p, token_kind kind)
{
    if (p->current->kind != kind) return false;
    parser_step(p);
    return true;
}

bool parser_skip_name(parser *p, const char *name)
{
    if (!parser_at_name(p, name)) return false;
    parser_step(p);
    return true;
}

void parser_fail_token(parser *p, const char *expected)
{
    p->in->line = p->current->line;
    if (p->current->kind == TOKEN_NAME) {
        const text *t = p->current->item.as.text;
        interp_fail(p->in, "expected token '%s', got '%.*s'", expected,
                    t->size < 100 ? (int)t->size : 100, t->bytes);
    }
    interp_fail(p->in, "expected token '%s', got '%s'", expected,
                token_kind_described(p->current->kind));
}

const token *parser_expect(parser *p, token_kind kind)
{
    if (p->current->kind != kind) parser_fail_token(p, token_kind_described(kind));
    const token *t = p->current;
    parser_step(p);
    return t;
}

void parser_expect_name(parser *p, const char *name)
{
    if (!parser_skip_name(p, name)) parser_fail_token(p, name);
}
