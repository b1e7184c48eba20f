#include "worker/text/jinja/parser.h"

#include <string.h>

#include "common/limits.h"

static node_list parse_until(parser *p, const char *const *ends);

/* -- bodies ------------------------------------------------------------------------------------ */

static bool at_one_of(const parser *p, const char *const *names)
{
    for (; *names != NULL; names++)
        if (parser_at_name(p, *names)) return true;
    return false;
}

/* The body of a tag up to one of these tags, whose name is then the current token. */
static node_list parse_body(parser *p, const char *const *ends)
{
    parser_skip(p, TOKEN_COLON);
    parser_expect(p, TOKEN_BLOCK_END);
    node_list body = parse_until(p, ends);
    if (p->current->kind == TOKEN_END)
        interp_fail(p->in,
                    "Unexpected end of template. The innermost block that needs to be closed is "
                    "'%s' and '%s' would close it.",
                    p->innermost, ends[0]);
    return body;
}

/* The same with one possible end, whose name is read too. */
static node_list parse_whole_body(parser *p, const char *end)
{
    const char *const ends[] = {end, NULL};
    node_list body = parse_body(p, ends);
    parser_expect_name(p, end);
    return body;
}

/* -- statements -------------------------------------------------------------------------------- */

static node *parse_set(parser *p, uint32_t line)
{
    node *target = parser_target(p, NAME_STORE, (tuple_rules){.members = true});
    if (parser_skip(p, TOKEN_ASSIGN)) {
        node *n = parser_node(p, NODE_SET, line);
        n->as.set.target = target;
        n->as.set.item = parser_tuple(p, (tuple_rules){0});
        parser_adopt(p, n, n->as.set.item);
        return n;
    }
    node *n = parser_node(p, NODE_SET_BLOCK, line);
    n->as.capture.target = target;
    n->as.capture.filter = parser_filters(p, NULL, false);
    n->as.capture.body = parse_whole_body(p, "endset");
    parser_adopt(p, n, n->as.capture.filter);
    parser_adopt_list(p, n, &n->as.capture.body);
    return n;
}

static node *parse_for(parser *p, uint32_t line)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    node *n = parser_node(p, NODE_FOR, line);
    for_node *loop = n->as.loop = interp_alloc(p->in, sizeof *loop);
    loop->target = parser_target(p, NAME_STORE, (tuple_rules){.end_keyword = "in"});
    parser_expect_name(p, "in");
    loop->iterable =
        parser_tuple(p, (tuple_rules){.no_condition = true, .end_keyword = "recursive"});
    if (parser_skip_name(p, "if")) loop->test = parser_expression(p);
    loop->recursive = parser_skip_name(p, "recursive");
    loop->body = parse_body(p, ends);
    if (parser_skip_name(p, "else"))
        loop->otherwise = parse_whole_body(p, "endfor");
    else
        parser_expect_name(p, "endfor");
    parser_adopt(p, n, loop->target);
    parser_adopt(p, n, loop->iterable);
    parser_adopt(p, n, loop->test);
    parser_adopt_list(p, n, &loop->body);
    parser_adopt_list(p, n, &loop->otherwise);
    return n;
}

/* Test and body of an if or elif. */
static node *parse_branch(parser *p, uint32_t line)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    node *n = parser_node(p, NODE_IF, line);
    n->as.branch.test = parser_tuple(p, (tuple_rules){.no_condition = true});
    n->as.branch.body = parse_body(p, ends);
    parser_adopt(p, n, n->as.branch.test);
    parser_adopt_list(p, n, &n->as.branch.body);
    return n;
}

static node *parse_if(parser *p, uint32_t line)
{
    node *n = parse_branch(p, line);
    for (;;) {
        uint32_t elif_line = p->current->line;
        if (!parser_skip_name(p, "elif")) break;
        node *elif = parse_branch(p, elif_line);
        parser_adopt(p, n, elif);
        parser_list_push(p, &n->as.branch.elifs, elif);
    }
    if (parser_skip_name(p, "else")) {
        n->as.branch.otherwise = parse_whole_body(p, "endif");
        parser_adopt_list(p, n, &n->as.branch.otherwise);
    } else {
        parser_expect_name(p, "endif");
    }
    return n;
}

static node *parse_with(parser *p, uint32_t line)
{
    node *n = parser_node(p, NODE_WITH, line);
    while (p->current->kind != TOKEN_BLOCK_END) {
        if (n->as.with.targets.count > 0) parser_expect(p, TOKEN_COMMA);
        node *target = parser_target(p, NAME_PARAMETER, (tuple_rules){0});
        parser_list_push(p, &n->as.with.targets, target);
        parser_expect(p, TOKEN_ASSIGN);
        parser_list_push(p, &n->as.with.values, parser_expression(p));
    }
    n->as.with.body = parse_whole_body(p, "endwith");
    parser_adopt_list(p, n, &n->as.with.values);
    parser_adopt_list(p, n, &n->as.with.body);
    return n;
}

/* Only {% autoescape false %}, which changes nothing here, is taken. */
static node *parse_autoescape(parser *p, uint32_t line)
{
    node *flag = parser_expression(p);
    if (flag->kind != NODE_CONSTANT || value_truth(p->in, flag->as.constant))
        interp_fail(p->in, "autoescape is not supported");
    node *n = parser_node(p, NODE_SCOPE, line);
    n->as.with.body = parse_whole_body(p, "endautoescape");
    parser_adopt_list(p, n, &n->as.with.body);
    return n;
}

static bool is_blank(const node *n)
{
    for (size_t i = 0; i < n->as.items.count; i++) {
        const node *part = n->as.items.items[i];
        if (part->kind != NODE_DATA) return false;
        for (size_t at = 0; at < part->as.data->size;)
            if (!character_is_space(text_next(part->as.data, &at))) return false;
    }
    return true;
}

static node *parse_block(parser *p, uint32_t line)
{
    node *n = parser_node(p, NODE_BLOCK, line);
    block_node *block = n->as.block = interp_alloc(p->in, sizeof *block);
    block->name = parser_expect(p, TOKEN_NAME)->item.as.text;
    block->scoped = parser_skip_name(p, "scoped");
    block->required = parser_skip_name(p, "required");
    block->body = parse_whole_body(p, "endblock");
    for (size_t i = 0; block->required && i < block->body.count; i++)
        if (block->body.items[i]->kind != NODE_OUTPUT || !is_blank(block->body.items[i]))
            interp_fail(p->in, "Required blocks can only contain comments or whitespace");
    if (p->current->kind == TOKEN_NAME && text_same(p->current->item.as.text, block->name))
        parser_expect(p, TOKEN_NAME);
    parser_adopt_list(p, n, &block->body);
    return n;
}

static void parse_parameters(parser *p, node *n, macro_node *macro)
{
    parser_expect(p, TOKEN_LPAREN);
    while (p->current->kind != TOKEN_RPAREN) {
        if (macro->parameters.count > 0) parser_expect(p, TOKEN_COMMA);
        node *parameter = parser_target_name(p, NAME_PARAMETER);
        if (parser_skip(p, TOKEN_ASSIGN))
            parser_list_push(p, &macro->defaults, parser_expression(p));
        else if (macro->defaults.count > 0)
            interp_fail(p->in, "non-default argument follows default argument");
        interp_spend_items(p->in, macro->parameters.count);
        for (size_t i = 0; i < macro->parameters.count; i++)
            if (text_same(macro->parameters.items[i]->as.name.name, parameter->as.name.name))
                interp_fail(p->in, "duplicate argument in a macro definition");
        parser_list_push(p, &macro->parameters, parameter);
    }
    parser_expect(p, TOKEN_RPAREN);
    parser_adopt_list(p, n, &macro->defaults);
}

static node *parse_macro(parser *p, uint32_t line)
{
    node *n = parser_node(p, NODE_MACRO, line);
    macro_node *macro = n->as.macro = interp_alloc(p->in, sizeof *macro);
    macro->name = parser_target_name(p, NAME_STORE)->as.name.name;
    parse_parameters(p, n, macro);
    macro->body = parse_whole_body(p, "endmacro");
    parser_adopt_list(p, n, &macro->body);
    return n;
}

static node *parse_call_block(parser *p, uint32_t line)
{
    node *n = parser_node(p, NODE_CALL_BLOCK, line);
    macro_node *macro = n->as.macro = interp_alloc(p->in, sizeof *macro);
    if (p->current->kind == TOKEN_LPAREN) parse_parameters(p, n, macro);
    macro->call = parser_expression(p);
    if (macro->call->kind != NODE_CALL) interp_fail(p->in, "expected call");
    macro->body = parse_whole_body(p, "endcall");
    parser_adopt(p, n, macro->call);
    parser_adopt_list(p, n, &macro->body);
    return n;
}

/* Transformers marks what the assistant wrote with it; what it holds is rendered like the body of
 * a call block. */
static node *parse_generation(parser *p, uint32_t line)
{
    node *n = parser_node(p, NODE_CALL_BLOCK, line);
    n->as.macro = interp_alloc(p->in, sizeof *n->as.macro);
    n->as.macro->body = parse_whole_body(p, "endgeneration");
    parser_adopt_list(p, n, &n->as.macro->body);
    return n;
}

static node *parse_filter_block(parser *p, uint32_t line)
{
    node *n = parser_node(p, NODE_FILTER_BLOCK, line);
    n->as.capture.filter = parser_filters(p, NULL, true);
    n->as.capture.body = parse_whole_body(p, "endfilter");
    parser_adopt(p, n, n->as.capture.filter);
    parser_adopt_list(p, n, &n->as.capture.body);
    return n;
}

static node *parse_print(parser *p, uint32_t line)
{
    node *n = parser_node(p, NODE_OUTPUT, line);
    while (p->current->kind != TOKEN_BLOCK_END) {
        if (n->as.items.count > 0) parser_expect(p, TOKEN_COMMA);
        parser_list_push(p, &n->as.items, parser_expression(p));
    }
    parser_adopt_list(p, n, &n->as.items);
    return n;
}

static node *parse_break(parser *p, uint32_t line)
{
    return parser_node(p, NODE_BREAK, line);
}

static node *parse_continue(parser *p, uint32_t line)
{
    return parser_node(p, NODE_CONTINUE, line);
}

static node *refused(parser *p, uint32_t line, const char *tag)
{
    node *n = parser_node(p, NODE_REFUSED, line);
    n->as.refused = tag;
    return n;
}

static void skip_context_words(parser *p)
{
    if (parser_skip_name(p, "with") || parser_skip_name(p, "without"))
        parser_expect_name(p, "context");
}

static node *parse_include(parser *p, uint32_t line)
{
    parser_expression(p);
    if (parser_skip_name(p, "ignore")) parser_expect_name(p, "missing");
    skip_context_words(p);
    return refused(p, line, "include");
}

static node *parse_extends(parser *p, uint32_t line)
{
    parser_expression(p);
    return refused(p, line, "extends");
}

static node *parse_import(parser *p, uint32_t line)
{
    parser_expression(p);
    parser_expect_name(p, "as");
    parser_target_name(p, NAME_STORE);
    skip_context_words(p);
    return refused(p, line, "import");
}

static node *parse_from(parser *p, uint32_t line)
{
    parser_expression(p);
    parser_expect_name(p, "import");
    do {
        parser_target_name(p, NAME_STORE);
        if (parser_skip_name(p, "as")) parser_target_name(p, NAME_STORE);
    } while (parser_skip(p, TOKEN_COMMA));
    skip_context_words(p);
    return refused(p, line, "import");
}

static node *parse_statement(parser *p)
{
    static const struct {
        const char *tag;
        node *(*parse)(parser *p, uint32_t line);
    } statements[] = {
        {"set", parse_set},
        {"if", parse_if},
        {"for", parse_for},
        {"macro", parse_macro},
        {"generation", parse_generation},
        {"break", parse_break},
        {"continue", parse_continue},
        {"call", parse_call_block},
        {"filter", parse_filter_block},
        {"with", parse_with},
        {"print", parse_print},
        {"block", parse_block},
        {"autoescape", parse_autoescape},
        {"include", parse_include},
        {"import", parse_import},
        {"from", parse_from},
        {"extends", parse_extends},
    };
    if (p->current->kind != TOKEN_NAME) interp_fail(p->in, "tag name expected");
    uint32_t line = p->current->line;
    const char *outer = p->innermost;
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        if (!parser_skip_name(p, statements[i].tag)) continue;
        p->innermost = statements[i].tag;
        interp_enter(p->in);
        node *n = statements[i].parse(p, line);
        interp_leave(p->in);
        p->innermost = outer;
        return n;
    }
    const text *tag = p->current->item.as.text;
    int size = tag->size < 100 ? (int)tag->size : 100;
    if (outer != NULL)
        interp_fail(p->in,
                    "Encountered unknown tag '%.*s'. The innermost block that needs to be closed "
                    "is '%s'.",
                    size, tag->bytes, outer);
    interp_fail(p->in, "Encountered unknown tag '%.*s'.", size, tag->bytes);
}

static node *output_of(parser *p, node_list *body, uint32_t line)
{
    node *last = body->count > 0 ? body->items[body->count - 1] : NULL;
    if (last != NULL && last->kind == NODE_OUTPUT) return last;
    node *n = parser_node(p, NODE_OUTPUT, line);
    parser_list_push(p, body, n);
    return n;
}

/* Text, prints and statements up to one of these tags (NULL: up to the end of the template). */
static node_list parse_until(parser *p, const char *const *ends)
{
    node_list body = {0};
    for (;;) {
        const token *t = p->current;
        node *part;
        switch (t->kind) {
        case TOKEN_DATA:
            part = parser_node(p, NODE_DATA, t->line);
            part->as.data = t->item.as.text;
            parser_expect(p, TOKEN_DATA);
            break;
        case TOKEN_VARIABLE_BEGIN:
            parser_expect(p, TOKEN_VARIABLE_BEGIN);
            part = parser_tuple(p, (tuple_rules){0});
            parser_expect(p, TOKEN_VARIABLE_END);
            break;
        case TOKEN_BLOCK_BEGIN:
            parser_expect(p, TOKEN_BLOCK_BEGIN);
            if (ends != NULL && at_one_of(p, ends)) return body;
            parser_list_push(p, &body, parse_statement(p));
            parser_expect(p, TOKEN_BLOCK_END);
            continue;
        default:
            return body;
        }
        node *output = output_of(p, &body, t->line);
        parser_list_push(p, &output->as.items, part);
        parser_adopt(p, output, part);
    }
}

program *parser_run(interp *in, const token_list *tokens)
{
    parser p = {.in = in, .current = tokens->items};
    in->line = 1;
    program *result = interp_alloc(in, sizeof *result);
    result->body = parse_until(&p, NULL);
    return result;
}
