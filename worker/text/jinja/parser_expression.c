#include "worker/text/jinja/parser.h"

static node *parse_or(parser *p);
static node *parse_unary(parser *p, bool with_filters);

/* -- filters and tests ------------------------------------------------------------------------- */

/* A name, dots included. */
static text *parse_dotted_name(parser *p)
{
    text *name = parser_expect(p, TOKEN_NAME)->item.as.text;
    while (parser_skip(p, TOKEN_DOT)) {
        builder joined = {0};
        builder_add_text(p->in, &joined, name);
        builder_add_literal(p->in, &joined, ".");
        builder_add_text(p->in, &joined, parser_expect(p, TOKEN_NAME)->item.as.text);
        name = builder_text(p->in, &joined);
        text_length(p->in, name);
    }
    return name;
}

node *parser_filters(parser *p, node *subject, bool named)
{
    while (named || parser_skip(p, TOKEN_PIPE)) {
        named = false;
        node *n = parser_node(p, NODE_FILTER, p->current->line);
        n->as.apply.subject = subject;
        n->as.apply.name = parse_dotted_name(p);
        if (p->current->kind == TOKEN_LPAREN) n->as.apply.arguments = parser_arguments(p);
        parser_adopt(p, n, subject);
        parser_adopt_arguments(p, n, &n->as.apply.arguments);
        subject = n;
    }
    return subject;
}

static bool begins_test_argument(const parser *p)
{
    switch (p->current->kind) {
    case TOKEN_STRING:
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
    case TOKEN_LBRACKET:
    case TOKEN_LBRACE:
        return true;
    case TOKEN_NAME:
        return !parser_at_name(p, "else") && !parser_at_name(p, "or") && !parser_at_name(p, "and");
    default:
        return false;
    }
}

static node *parse_test(parser *p, node *subject)
{
    node *n = parser_node(p, NODE_TEST, p->current->line);
    parser_expect_name(p, "is");
    bool negated = parser_skip_name(p, "not");
    n->as.apply.subject = subject;
    n->as.apply.name = parse_dotted_name(p);
    if (p->current->kind == TOKEN_LPAREN) {
        n->as.apply.arguments = parser_arguments(p);
    } else if (begins_test_argument(p)) {
        if (parser_at_name(p, "is")) interp_fail(p->in, "You cannot chain multiple tests with is");
        node *argument = parser_postfix(p, parser_primary(p, false));
        parser_list_push(p, &n->as.apply.arguments.positional, argument);
    }
    parser_adopt(p, n, subject);
    parser_adopt_arguments(p, n, &n->as.apply.arguments);
    return negated ? parser_unary(p, NODE_NOT, n, n->line) : n;
}

static node *parse_filters_and_tests(parser *p, node *n)
{
    for (;;) {
        if (p->current->kind == TOKEN_PIPE)
            n = parser_filters(p, n, false);
        else if (parser_at_name(p, "is"))
            n = parse_test(p, n);
        else if (p->current->kind == TOKEN_LPAREN)
            n = parser_call(p, n);
        else
            return n;
    }
}

/* -- operators, loosest last ------------------------------------------------------------------- */

static node *parse_unary(parser *p, bool with_filters)
{
    uint32_t line = p->current->line;
    node *n;
    interp_enter(p->in);
    if (parser_skip(p, TOKEN_SUB))
        n = parser_unary(p, NODE_NEGATE, parse_unary(p, false), line);
    else if (parser_skip(p, TOKEN_ADD))
        n = parser_unary(p, NODE_POSITIVE, parse_unary(p, false), line);
    else
        n = parser_primary(p, false);
    n = parser_postfix(p, n);
    if (with_filters) n = parse_filters_and_tests(p, n);
    interp_leave(p->in);
    return n;
}

static node *parse_power(parser *p)
{
    uint32_t line = p->current->line;
    node *left = parse_unary(p, true);
    while (parser_skip(p, TOKEN_POW))
        left = parser_binary(p, NODE_BINARY, OP_POWER, left, parse_unary(p, true), line);
    return left;
}

static node *parse_product(parser *p)
{
    uint32_t line = p->current->line;
    node *left = parse_power(p);
    for (;;) {
        operation op;
        switch (p->current->kind) {
        case TOKEN_MUL:
            op = OP_MULTIPLY;
            break;
        case TOKEN_DIV:
            op = OP_DIVIDE;
            break;
        case TOKEN_FLOORDIV:
            op = OP_FLOOR_DIVIDE;
            break;
        case TOKEN_MOD:
            op = OP_MODULO;
            break;
        default:
            return left;
        }
        parser_step(p);
        left = parser_binary(p, NODE_BINARY, op, left, parse_power(p), line);
    }
}

static node *parse_concat(parser *p)
{
    uint32_t line = p->current->line;
    node *first = parse_product(p);
    if (p->current->kind != TOKEN_TILDE) return first;
    node *n = parser_node(p, NODE_CONCAT, line);
    parser_list_push(p, &n->as.items, first);
    while (parser_skip(p, TOKEN_TILDE))
        parser_list_push(p, &n->as.items, parse_product(p));
    parser_adopt_list(p, n, &n->as.items);
    return n;
}

static node *parse_sum(parser *p)
{
    uint32_t line = p->current->line;
    node *left = parse_concat(p);
    for (;;) {
        bool add = p->current->kind == TOKEN_ADD;
        if (!add && p->current->kind != TOKEN_SUB) return left;
        parser_step(p);
        left =
            parser_binary(p, NODE_BINARY, add ? OP_ADD : OP_SUBTRACT, left, parse_concat(p), line);
    }
}

/* The comparison that comes next, which is then behind us. */
static bool parse_compare_kind(parser *p, compare_kind *out)
{
    switch (p->current->kind) {
    case TOKEN_EQ:
        *out = COMPARE_EQUAL;
        break;
    case TOKEN_NE:
        *out = COMPARE_NOT_EQUAL;
        break;
    case TOKEN_LT:
        *out = COMPARE_LESS;
        break;
    case TOKEN_LTEQ:
        *out = COMPARE_LESS_EQUAL;
        break;
    case TOKEN_GT:
        *out = COMPARE_GREATER;
        break;
    case TOKEN_GTEQ:
        *out = COMPARE_GREATER_EQUAL;
        break;
    default:
        *out = COMPARE_IN;
        if (parser_skip_name(p, "in")) return true;
        *out = COMPARE_NOT_IN;
        if (!parser_at_name(p, "not") || !parser_token_is(parser_look(p), "in")) return false;
        parser_step(p);
        break;
    }
    parser_step(p);
    return true;
}

static node *parse_compare(parser *p)
{
    uint32_t line = p->current->line;
    node *first = parse_sum(p);
    compare_kind kind;
    if (!parse_compare_kind(p, &kind)) return first;
    node *n = parser_node(p, NODE_COMPARE, line);
    size_t capacity = 0;
    n->as.compare.first = first;
    do {
        size_t count = n->as.compare.rest.count;
        if (count == capacity) {
            capacity = capacity < 2 ? 2 : capacity * 2;
            compare_kind *kinds = interp_alloc_array(p->in, capacity, sizeof *kinds);
            if (count > 0) memcpy(kinds, n->as.compare.kinds, count * sizeof *kinds);
            n->as.compare.kinds = kinds;
        }
        n->as.compare.kinds[count] = kind;
        parser_list_push(p, &n->as.compare.rest, parse_sum(p));
    } while (parse_compare_kind(p, &kind));
    parser_adopt(p, n, first);
    parser_adopt_list(p, n, &n->as.compare.rest);
    return n;
}

static node *parse_not(parser *p)
{
    uint32_t line = p->current->line;
    if (!parser_skip_name(p, "not")) return parse_compare(p);
    interp_enter(p->in);
    node *n = parser_unary(p, NODE_NOT, parse_not(p), line);
    interp_leave(p->in);
    return n;
}

static node *parse_and(parser *p)
{
    uint32_t line = p->current->line;
    node *left = parse_not(p);
    while (parser_skip_name(p, "and"))
        left = parser_binary(p, NODE_AND, OP_ADD, left, parse_not(p), line);
    return left;
}

static node *parse_or(parser *p)
{
    uint32_t line = p->current->line;
    node *left = parse_and(p);
    while (parser_skip_name(p, "or"))
        left = parser_binary(p, NODE_OR, OP_ADD, left, parse_and(p), line);
    return left;
}

node *parser_expression(parser *p)
{
    uint32_t line = p->current->line;
    interp_enter(p->in);
    node *n = parse_or(p);
    while (parser_skip_name(p, "if")) {
        node *condition = parser_node(p, NODE_CONDITION, line);
        condition->as.condition.yes = n;
        condition->as.condition.test = parse_or(p);
        if (parser_skip_name(p, "else")) condition->as.condition.no = parser_expression(p);
        parser_adopt(p, condition, condition->as.condition.test);
        parser_adopt(p, condition, n);
        parser_adopt(p, condition, condition->as.condition.no);
        n = condition;
    }
    interp_leave(p->in);
    return n;
}

/* -- tuples and targets ------------------------------------------------------------------------ */

static bool at_tuple_end(const parser *p, const char *end_keyword)
{
    switch (p->current->kind) {
    case TOKEN_VARIABLE_END:
    case TOKEN_BLOCK_END:
    case TOKEN_RPAREN:
        return true;
    default:
        return end_keyword != NULL && parser_at_name(p, end_keyword);
    }
}

static node *parse_tuple_item(parser *p, const tuple_rules *rules)
{
    if (rules->simplified) return parser_primary(p, rules->members);
    return rules->no_condition ? parse_or(p) : parser_expression(p);
}

node *parser_tuple(parser *p, tuple_rules rules)
{
    node_list items = {0};
    uint32_t line = p->current->line;
    bool is_tuple = false;
    while (!at_tuple_end(p, rules.end_keyword)) {
        parser_list_push(p, &items, parse_tuple_item(p, &rules));
        if (!parser_skip(p, TOKEN_COMMA)) break;
        is_tuple = true;
    }
    if (!is_tuple && items.count > 0) return items.items[0];
    if (!is_tuple && !rules.parenthesized)
        interp_fail(p->in, "Expected an expression, got '%s'",
                    token_kind_described(p->current->kind));
    node *n = parser_node(p, NODE_TUPLE, line);
    n->as.items = items;
    parser_adopt_list(p, n, &n->as.items);
    return n;
}

/* Every name of the target gets its use; what cannot be assigned to is refused. */
static void make_target(parser *p, node *target, name_use use)
{
    switch (target->kind) {
    case NODE_NAME:
        target->as.name.use = use;
        break;
    case NODE_MEMBER_TARGET:
        break;
    case NODE_TUPLE:
        for (size_t i = 0; i < target->as.items.count; i++)
            make_target(p, target->as.items.items[i], use);
        break;
    default:
        p->in->line = target->line;
        interp_fail(p->in, "can't assign to an expression");
    }
}

node *parser_target(parser *p, name_use use, tuple_rules rules)
{
    rules.simplified = true;
    node *target = parser_tuple(p, rules);
    make_target(p, target, use);
    return target;
}

node *parser_target_name(parser *p, name_use use)
{
    const token *t = parser_expect(p, TOKEN_NAME);
    if (parser_named_constant(t->item.as.text).kind != VALUE_MISSING) {
        p->in->line = t->line;
        interp_fail(p->in, "can't assign to a constant");
    }
    node *n = parser_node(p, NODE_NAME, t->line);
    n->as.name.name = t->item.as.text;
    n->as.name.use = use;
    return n;
}
