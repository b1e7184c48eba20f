/* Literals, calls and members: what binds tighter than any operator. */
#include <string.h>

#include "worker/text/jinja/parser.h"

/* -- literals and calls ------------------------------------------------------------------------ */

static node *parse_list(parser *p)
{
    node *n = parser_node(p, NODE_LIST, p->current->line);
    parser_expect(p, TOKEN_LBRACKET);
    while (p->current->kind != TOKEN_RBRACKET) {
        if (n->as.items.count > 0) parser_expect(p, TOKEN_COMMA);
        if (p->current->kind == TOKEN_RBRACKET) break;
        parser_list_push(p, &n->as.items, parser_expression(p));
    }
    parser_expect(p, TOKEN_RBRACKET);
    parser_adopt_list(p, n, &n->as.items);
    return n;
}

static node *parse_dict(parser *p)
{
    node *n = parser_node(p, NODE_DICT, p->current->line);
    parser_expect(p, TOKEN_LBRACE);
    while (p->current->kind != TOKEN_RBRACE) {
        if (n->as.dict.keys.count > 0) parser_expect(p, TOKEN_COMMA);
        if (p->current->kind == TOKEN_RBRACE) break;
        parser_list_push(p, &n->as.dict.keys, parser_expression(p));
        parser_expect(p, TOKEN_COLON);
        parser_list_push(p, &n->as.dict.items, parser_expression(p));
    }
    parser_expect(p, TOKEN_RBRACE);
    parser_adopt_list(p, n, &n->as.dict.keys);
    parser_adopt_list(p, n, &n->as.dict.items);
    return n;
}

/* "a" "b" is "ab". */
static node *parse_strings(parser *p)
{
    uint32_t line = p->current->line;
    value first = p->current->item;
    parser_step(p);
    if (p->current->kind != TOKEN_STRING) return parser_constant(p, first, line);
    builder joined = {0};
    builder_add_text(p->in, &joined, first.as.text);
    while (p->current->kind == TOKEN_STRING) {
        builder_add_text(p->in, &joined, p->current->item.as.text);
        parser_step(p);
    }
    text *t = builder_text(p->in, &joined);
    text_length(p->in, t);
    return parser_constant(p, value_text(t), line);
}

/* The constant that a name spells, or VALUE_MISSING. */
value parser_named_constant(const text *name)
{
    if (text_is(name, "true") || text_is(name, "True")) return value_bool(true);
    if (text_is(name, "false") || text_is(name, "False")) return value_bool(false);
    if (text_is(name, "none") || text_is(name, "None")) return value_none();
    return value_missing();
}

static node *parse_name(parser *p, bool members)
{
    const token *t = p->current;
    parser_step(p);
    value constant = parser_named_constant(t->item.as.text);
    if (constant.kind != VALUE_MISSING) return parser_constant(p, constant, t->line);
    if (members && parser_skip(p, TOKEN_DOT)) {
        node *n = parser_node(p, NODE_MEMBER_TARGET, t->line);
        n->as.member.name = t->item.as.text;
        n->as.member.attribute = parser_expect(p, TOKEN_NAME)->item.as.text;
        return n;
    }
    node *n = parser_node(p, NODE_NAME, t->line);
    n->as.name.name = t->item.as.text;
    return n;
}

node *parser_primary(parser *p, bool members)
{
    const token *t = p->current;
    node *n;
    switch (t->kind) {
    case TOKEN_NAME:
        return parse_name(p, members);
    case TOKEN_STRING:
        return parse_strings(p);
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
        parser_step(p);
        return parser_constant(p, t->item, t->line);
    case TOKEN_LPAREN:
        parser_step(p);
        n = parser_tuple(p, (tuple_rules){.parenthesized = true});
        parser_expect(p, TOKEN_RPAREN);
        return n;
    case TOKEN_LBRACKET:
        return parse_list(p);
    case TOKEN_LBRACE:
        return parse_dict(p);
    default:
        interp_fail(p->in, "unexpected '%s'", token_kind_described(t->kind));
    }
}

call_arguments parser_arguments(parser *p)
{
    call_arguments a = {0};
    size_t names_capacity = 0;
    uint32_t line = p->current->line;
    bool comma_due = false, valid = true;
    parser_expect(p, TOKEN_LPAREN);
    while (p->current->kind != TOKEN_RPAREN) {
        if (comma_due) {
            parser_expect(p, TOKEN_COMMA);
            if (p->current->kind == TOKEN_RPAREN) break;
        }
        if (parser_skip(p, TOKEN_MUL)) {
            valid = a.more_positional == NULL && a.more_named == NULL;
            a.more_positional = parser_expression(p);
        } else if (parser_skip(p, TOKEN_POW)) {
            valid = a.more_named == NULL;
            a.more_named = parser_expression(p);
        } else if (p->current->kind == TOKEN_NAME && parser_look(p)->kind == TOKEN_ASSIGN) {
            valid = a.more_named == NULL;
            if (a.named.count == names_capacity) {
                names_capacity = names_capacity < 4 ? 4 : names_capacity * 2;
                text **names = interp_alloc_array(p->in, names_capacity, sizeof *names);
                if (a.named.count > 0) memcpy(names, a.names, a.named.count * sizeof *names);
                a.names = names;
            }
            text *name = p->current->item.as.text;
            interp_spend_items(p->in, a.named.count);
            for (size_t i = 0; i < a.named.count; i++)
                if (text_same(a.names[i], name))
                    interp_fail(p->in, "keyword argument repeated: %.*s", (int)name->size,
                                name->bytes);
            a.names[a.named.count] = name;
            parser_step(p);
            parser_step(p);
            parser_list_push(p, &a.named, parser_expression(p));
        } else {
            valid = a.more_positional == NULL && a.more_named == NULL && a.named.count == 0;
            parser_list_push(p, &a.positional, parser_expression(p));
        }
        if (!valid) {
            p->in->line = line;
            interp_fail(p->in, "invalid syntax for function call expression");
        }
        comma_due = true;
    }
    parser_expect(p, TOKEN_RPAREN);
    return a;
}

void parser_adopt_arguments(parser *p, node *n, const call_arguments *a)
{
    parser_adopt_list(p, n, &a->positional);
    parser_adopt_list(p, n, &a->named);
    parser_adopt(p, n, a->more_positional);
    parser_adopt(p, n, a->more_named);
}

node *parser_call(parser *p, node *callee)
{
    node *n = parser_node(p, NODE_CALL, p->current->line);
    n->as.call.callee = callee;
    n->as.call.arguments = parser_arguments(p);
    parser_adopt(p, n, callee);
    parser_adopt_arguments(p, n, &n->as.call.arguments);
    return n;
}

/* -- members ----------------------------------------------------------------------------------- */

/* Inside [ ]: an expression or a slice. */
static node *parse_subscript(parser *p)
{
    uint32_t line = p->current->line;
    node *bounds[3] = {NULL, NULL, NULL};
    if (p->current->kind != TOKEN_COLON) {
        bounds[0] = parser_expression(p);
        if (p->current->kind != TOKEN_COLON) return bounds[0];
    }
    for (int i = 1; i < 3 && parser_skip(p, TOKEN_COLON); i++) {
        token_kind next = p->current->kind;
        if (next != TOKEN_COLON && next != TOKEN_RBRACKET && next != TOKEN_COMMA)
            bounds[i] = parser_expression(p);
    }
    node *n = parser_node(p, NODE_SLICE, line);
    n->as.slice.start = bounds[0];
    n->as.slice.stop = bounds[1];
    n->as.slice.step = bounds[2];
    for (int i = 0; i < 3; i++)
        parser_adopt(p, n, bounds[i]);
    return n;
}

static node *parse_brackets(parser *p, node *object)
{
    node *n = parser_node(p, NODE_ITEM, p->current->line);
    node *keys = parser_node(p, NODE_TUPLE, p->current->line);
    parser_expect(p, TOKEN_LBRACKET);
    while (p->current->kind != TOKEN_RBRACKET) {
        if (keys->as.items.count > 0) parser_expect(p, TOKEN_COMMA);
        parser_list_push(p, &keys->as.items, parse_subscript(p));
    }
    parser_expect(p, TOKEN_RBRACKET);
    for (size_t i = 0; keys->as.items.count > 1 && i < keys->as.items.count; i++)
        if (keys->as.items.items[i]->kind == NODE_SLICE)
            interp_fail(p->in, "a slice cannot be one of several subscripts");
    parser_adopt_list(p, keys, &keys->as.items);
    n->as.item.object = object;
    n->as.item.key = keys->as.items.count == 1 ? keys->as.items.items[0] : keys;
    parser_adopt(p, n, object);
    parser_adopt(p, n, n->as.item.key);
    return n;
}

static node *parse_dot(parser *p, node *object)
{
    uint32_t line = p->current->line;
    parser_expect(p, TOKEN_DOT);
    const token *t = p->current;
    node *n;
    if (t->kind == TOKEN_NAME) {
        n = parser_node(p, NODE_ATTRIBUTE, line);
        n->as.attribute.object = object;
        n->as.attribute.name = t->item.as.text;
    } else if (t->kind == TOKEN_INTEGER) {
        n = parser_node(p, NODE_ITEM, line);
        n->as.item.object = object;
        n->as.item.key = parser_constant(p, t->item, t->line);
    } else {
        interp_fail(p->in, "expected name or number");
    }
    parser_step(p);
    parser_adopt(p, n, object);
    return n;
}

node *parser_postfix(parser *p, node *n)
{
    for (;;) {
        switch (p->current->kind) {
        case TOKEN_DOT:
            n = parse_dot(p, n);
            break;
        case TOKEN_LBRACKET:
            n = parse_brackets(p, n);
            break;
        case TOKEN_LPAREN:
            n = parser_call(p, n);
            break;
        default:
            return n;
        }
    }
}
