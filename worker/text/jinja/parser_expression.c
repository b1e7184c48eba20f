#include <string.h>

#include "common/limits.h"
#include "worker/text/jinja/parser.h"

static node *parse_or(parser *p);
static node *parse_unary(parser *p, bool with_filters);

/* -- nodes ------------------------------------------------------------------------------------ */

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

static node *make_binary(parser *p, node_kind kind, operation op, node *left, node *right,
                         uint32_t line)
{
    node *n = parser_node(p, kind, line);
    n->as.binary.op = op;
    n->as.binary.left = left;
    n->as.binary.right = right;
    parser_adopt(p, n, left);
    parser_adopt(p, n, right);
    return n;
}

static node *make_unary(parser *p, node_kind kind, node *operand, uint32_t line)
{
    node *n = parser_node(p, kind, line);
    n->as.operand = operand;
    parser_adopt(p, n, operand);
    return n;
}

static node *make_constant(parser *p, value item, uint32_t line)
{
    node *n = parser_node(p, NODE_CONSTANT, line);
    n->as.constant = item;
    return n;
}

/* -- tokens -------------------------------------------------------------------------------------
 */

static void step(parser *p)
{
    if (p->current->kind != TOKEN_END) p->current++;
    p->in->line = p->current->line;
}

static const token *look(const parser *p)
{
    return p->current->kind == TOKEN_END ? p->current : p->current + 1;
}

static bool token_is_name(const token *t, const char *name)
{
    return t->kind == TOKEN_NAME && text_is(t->item.as.text, name);
}

bool parser_at_name(const parser *p, const char *name)
{
    return token_is_name(p->current, name);
}

bool parser_skip(parser *p, token_kind kind)
{
    if (p->current->kind != kind) return false;
    step(p);
    return true;
}

bool parser_skip_name(parser *p, const char *name)
{
    if (!parser_at_name(p, name)) return false;
    step(p);
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
    step(p);
    return t;
}

void parser_expect_name(parser *p, const char *name)
{
    if (!parser_skip_name(p, name)) parser_fail_token(p, name);
}

/* -- literals and calls
 * ---------------------------------------------------------------------------- */

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
    step(p);
    if (p->current->kind != TOKEN_STRING) return make_constant(p, first, line);
    builder joined = {0};
    builder_add_text(p->in, &joined, first.as.text);
    while (p->current->kind == TOKEN_STRING) {
        builder_add_text(p->in, &joined, p->current->item.as.text);
        step(p);
    }
    text *t = builder_text(p->in, &joined);
    text_length(p->in, t);
    return make_constant(p, value_text(t), line);
}

/* The constant that a name spells, or VALUE_MISSING. */
static value named_constant(const text *name)
{
    if (text_is(name, "true") || text_is(name, "True")) return value_bool(true);
    if (text_is(name, "false") || text_is(name, "False")) return value_bool(false);
    if (text_is(name, "none") || text_is(name, "None")) return value_none();
    return value_missing();
}

static node *parse_name(parser *p, bool members)
{
    const token *t = p->current;
    step(p);
    value constant = named_constant(t->item.as.text);
    if (constant.kind != VALUE_MISSING) return make_constant(p, constant, t->line);
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

static node *parse_primary(parser *p, bool members)
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
        step(p);
        return make_constant(p, t->item, t->line);
    case TOKEN_LPAREN:
        step(p);
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

static call_arguments parse_arguments(parser *p)
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
        } else if (p->current->kind == TOKEN_NAME && look(p)->kind == TOKEN_ASSIGN) {
            valid = a.more_named == NULL;
            if (a.named.count == names_capacity) {
                names_capacity = names_capacity < 4 ? 4 : names_capacity * 2;
                text **names = interp_alloc_array(p->in, names_capacity, sizeof *names);
                if (a.named.count > 0) memcpy(names, a.names, a.named.count * sizeof *names);
                a.names = names;
            }
            text *name = p->current->item.as.text;
            for (size_t i = 0; i < a.named.count; i++)
                if (text_same(a.names[i], name))
                    interp_fail(p->in, "keyword argument repeated: %.*s", (int)name->size,
                                name->bytes);
            a.names[a.named.count] = name;
            step(p);
            step(p);
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

static void adopt_arguments(parser *p, node *n, const call_arguments *a)
{
    parser_adopt_list(p, n, &a->positional);
    parser_adopt_list(p, n, &a->named);
    parser_adopt(p, n, a->more_positional);
    parser_adopt(p, n, a->more_named);
}

static node *parse_call(parser *p, node *callee)
{
    node *n = parser_node(p, NODE_CALL, p->current->line);
    n->as.call.callee = callee;
    n->as.call.arguments = parse_arguments(p);
    parser_adopt(p, n, callee);
    adopt_arguments(p, n, &n->as.call.arguments);
    return n;
}

/* -- members
 * ----------------------------------------------------------------------------------------- */

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
        n->as.item.key = make_constant(p, t->item, t->line);
    } else {
        interp_fail(p->in, "expected name or number");
    }
    step(p);
    parser_adopt(p, n, object);
    return n;
}

static node *parse_postfix(parser *p, node *n)
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
            n = parse_call(p, n);
            break;
        default:
            return n;
        }
    }
}

/* -- filters and tests
 * --------------------------------------------------------------------------------- */

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
        if (p->current->kind == TOKEN_LPAREN) n->as.apply.arguments = parse_arguments(p);
        parser_adopt(p, n, subject);
        adopt_arguments(p, n, &n->as.apply.arguments);
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
        n->as.apply.arguments = parse_arguments(p);
    } else if (begins_test_argument(p)) {
        if (parser_at_name(p, "is")) interp_fail(p->in, "You cannot chain multiple tests with is");
        node *argument = parse_postfix(p, parse_primary(p, false));
        parser_list_push(p, &n->as.apply.arguments.positional, argument);
    }
    parser_adopt(p, n, subject);
    adopt_arguments(p, n, &n->as.apply.arguments);
    return negated ? make_unary(p, NODE_NOT, n, n->line) : n;
}

static node *parse_filters_and_tests(parser *p, node *n)
{
    for (;;) {
        if (p->current->kind == TOKEN_PIPE)
            n = parser_filters(p, n, false);
        else if (parser_at_name(p, "is"))
            n = parse_test(p, n);
        else if (p->current->kind == TOKEN_LPAREN)
            n = parse_call(p, n);
        else
            return n;
    }
}

/* -- operators, loosest last
 * ------------------------------------------------------------------------------ */

static node *parse_unary(parser *p, bool with_filters)
{
    uint32_t line = p->current->line;
    node *n;
    interp_enter(p->in);
    if (parser_skip(p, TOKEN_SUB))
        n = make_unary(p, NODE_NEGATE, parse_unary(p, false), line);
    else if (parser_skip(p, TOKEN_ADD))
        n = make_unary(p, NODE_POSITIVE, parse_unary(p, false), line);
    else
        n = parse_primary(p, false);
    n = parse_postfix(p, n);
    if (with_filters) n = parse_filters_and_tests(p, n);
    interp_leave(p->in);
    return n;
}

static node *parse_power(parser *p)
{
    uint32_t line = p->current->line;
    node *left = parse_unary(p, true);
    while (parser_skip(p, TOKEN_POW))
        left = make_binary(p, NODE_BINARY, OP_POWER, left, parse_unary(p, true), line);
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
        step(p);
        left = make_binary(p, NODE_BINARY, op, left, parse_power(p), line);
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
        step(p);
        left = make_binary(p, NODE_BINARY, add ? OP_ADD : OP_SUBTRACT, left, parse_concat(p), line);
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
        if (!parser_at_name(p, "not") || !token_is_name(look(p), "in")) return false;
        step(p);
        break;
    }
    step(p);
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
    node *n = make_unary(p, NODE_NOT, parse_not(p), line);
    interp_leave(p->in);
    return n;
}

static node *parse_and(parser *p)
{
    uint32_t line = p->current->line;
    node *left = parse_not(p);
    while (parser_skip_name(p, "and"))
        left = make_binary(p, NODE_AND, OP_ADD, left, parse_not(p), line);
    return left;
}

static node *parse_or(parser *p)
{
    uint32_t line = p->current->line;
    node *left = parse_and(p);
    while (parser_skip_name(p, "or"))
        left = make_binary(p, NODE_OR, OP_ADD, left, parse_and(p), line);
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

/* -- tuples and targets
 * -------------------------------------------------------------------------------------- */

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
    if (rules->simplified) return parse_primary(p, rules->members);
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
    if (named_constant(t->item.as.text).kind != VALUE_MISSING) {
        p->in->line = t->line;
        interp_fail(p->in, "can't assign to a constant");
    }
    node *n = parser_node(p, NODE_NAME, t->line);
    n->as.name.name = t->item.as.text;
    n->as.name.use = use;
    return n;
}
