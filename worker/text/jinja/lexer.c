#include "worker/text/jinja/lexer.h"

#include <string.h>

#include "worker/text/jinja/number.h"

typedef struct lexer {
    interp *in;
    text source;
    size_t at;
    token_list tokens;
    char *expected; /* closing brackets that are due, innermost last */
    size_t open;
    size_t open_capacity;
    bool line_starting; /* what was read last ended with a newline */
} lexer;

const char *token_kind_described(token_kind kind)
{
    static const char *const described[] = {
        [TOKEN_END] = "end of template",
        [TOKEN_DATA] = "template data / text",
        [TOKEN_VARIABLE_BEGIN] = "begin of print statement",
        [TOKEN_VARIABLE_END] = "end of print statement",
        [TOKEN_BLOCK_BEGIN] = "begin of statement block",
        [TOKEN_BLOCK_END] = "end of statement block",
        [TOKEN_NAME] = "name",
        [TOKEN_STRING] = "string",
        [TOKEN_INTEGER] = "integer",
        [TOKEN_FLOAT] = "float",
        [TOKEN_ADD] = "+",
        [TOKEN_SUB] = "-",
        [TOKEN_DIV] = "/",
        [TOKEN_FLOORDIV] = "//",
        [TOKEN_MUL] = "*",
        [TOKEN_MOD] = "%",
        [TOKEN_POW] = "**",
        [TOKEN_TILDE] = "~",
        [TOKEN_LBRACKET] = "[",
        [TOKEN_RBRACKET] = "]",
        [TOKEN_LPAREN] = "(",
        [TOKEN_RPAREN] = ")",
        [TOKEN_LBRACE] = "{",
        [TOKEN_RBRACE] = "}",
        [TOKEN_EQ] = "==",
        [TOKEN_NE] = "!=",
        [TOKEN_GT] = ">",
        [TOKEN_GTEQ] = ">=",
        [TOKEN_LT] = "<",
        [TOKEN_LTEQ] = "<=",
        [TOKEN_ASSIGN] = "=",
        [TOKEN_DOT] = ".",
        [TOKEN_COLON] = ":",
        [TOKEN_PIPE] = "|",
        [TOKEN_COMMA] = ",",
        [TOKEN_SEMICOLON] = ";",
    };
    return described[kind];
}

/* -- helpers ----------------------------------------------------------------------------------- */

/* The newline that ends the source is dropped and the others become "\n". */
static text normalized(interp *in, const char *source, size_t size)
{
    char *bytes = interp_alloc(in, size + 1);
    size_t kept = 0;
    for (size_t i = 0; i < size; i++) {
        if (source[i] == '\r') {
            bytes[kept++] = '\n';
            if (i + 1 < size && source[i + 1] == '\n') i++;
        } else {
            bytes[kept++] = source[i];
        }
    }
    if (kept > 0 && bytes[kept - 1] == '\n') kept--;
    return (text){.bytes = bytes, .size = kept, .length = TEXT_UNCOUNTED};
}

static bool looking_at(const lexer *lx, size_t at, const char *literal)
{
    size_t size = strlen(literal);
    return at <= lx->source.size && lx->source.size - at >= size &&
           memcmp(lx->source.bytes + at, literal, size) == 0;
}

static size_t skip_space(const lexer *lx, size_t at)
{
    while (at < lx->source.size) {
        size_t next = at;
        if (!character_is_space(text_next(&lx->source, &next))) break;
        at = next;
    }
    return at;
}

static void count_lines(lexer *lx, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        lx->in->line += lx->source.bytes[i] == '\n';
}

/* Move to `to`, counting lines. */
static void advance(lexer *lx, size_t to)
{
    count_lines(lx, lx->at, to);
    if (to > lx->at) lx->line_starting = lx->source.bytes[to - 1] == '\n';
    lx->at = to;
}

static void push(lexer *lx, token_kind kind, value item)
{
    token_list *list = &lx->tokens;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        token *items = interp_alloc_array(lx->in, capacity, sizeof *items);
        if (list->count > 0) memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = (token){kind, lx->in->line, item};
}

static value text_between(lexer *lx, size_t from, size_t to)
{
    text *t = text_bytes(lx->in, &lx->source, from, to);
    text_length(lx->in, t); /* counted now: renders share it and must not write to it */
    return value_text(t);
}

/* -- literals ---------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* `digits` hexadecimal digits at `*at`, which moves behind them. */
static uint32_t hex_escape(lexer *lx, size_t *at, size_t end, int digits)
{
    uint32_t c = 0;
    for (int i = 0; i < digits; i++) {
        int digit = *at < end ? hex_digit(lx->source.bytes[*at]) : -1;
        if (digit < 0)
            interp_fail(lx->in, "truncated \\%c escape in a string",
                        digits == 2   ? 'x'
                        : digits == 4 ? 'u'
                                      : 'U');
        c = c << 4 | (uint32_t)digit;
        *at += 1;
    }
    if (c > 0x10FFFF) interp_fail(lx->in, "illegal Unicode character in a string");
    return c;
}

/* One escape; `*at` is behind the backslash. */
static void unescape(lexer *lx, builder *out, size_t *at, size_t end)
{
    static const char plain[] = "\\'\"abfnrtv", meant[] = "\\'\"\a\b\f\n\r\t\v";
    size_t start = *at;
    uint32_t c = text_next(&lx->source, at);
    const char *known = c < 0x80 && c != 0 ? strchr(plain, (int)c) : NULL;
    if (known != NULL) {
        builder_add(lx->in, out, meant + (known - plain), 1);
    } else if (c == '\n') {
        /* a line that goes on */
    } else if (c >= '0' && c <= '7') {
        uint32_t octal = c - '0';
        for (int i = 0; i < 2 && *at < end; i++) {
            char digit = lx->source.bytes[*at];
            if (digit < '0' || digit > '7') break;
            octal = octal * 8 + (uint32_t)(digit - '0');
            *at += 1;
        }
        builder_add_character(lx->in, out, octal);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        builder_add_character(lx->in, out,
                              hex_escape(lx, at, end,
                                         c == 'x'   ? 2
                                         : c == 'u' ? 4
                                                    : 8));
    } else if (c == 'N') {
        interp_fail(lx->in, "\\N{...} escapes are not supported");
    } else if (c >= 0x80) {
        /* Jinja2 writes such a character as an escape first, whose backslash then meets this
         * one: what is left is the escape's text. */
        builder_format(lx->in, out, c <= 0xFF ? "\\x%02x" : c <= 0xFFFF ? "\\u%04x" : "\\U%08x", c);
    } else {
        builder_add_literal(lx->in, out, "\\");
        builder_add(lx->in, out, lx->source.bytes + start, *at - start);
    }
}

static void lex_string(lexer *lx)
{
    const text *source = &lx->source;
    char quote = source->bytes[lx->at];
    size_t start = lx->at + 1, end = start;
    while (end < source->size && source->bytes[end] != quote)
        end += source->bytes[end] == '\\' ? 2 : 1;
    if (end >= source->size) interp_fail(lx->in, "a string does not end");
    if (memchr(source->bytes + start, '\\', end - start) == NULL) {
        push(lx, TOKEN_STRING, text_between(lx, start, end));
        advance(lx, end + 1);
        return;
    }
    builder out = {0};
    for (size_t at = start; at < end;) {
        size_t from = at;
        while (at < end && source->bytes[at] != '\\')
            at++;
        builder_add(lx->in, &out, source->bytes + from, at - from);
        if (at >= end) break;
        at++;
        unescape(lx, &out, &at, end);
    }
    text *t = builder_text(lx->in, &out);
    text_length(lx->in, t);
    push(lx, TOKEN_STRING, value_text(t));
    advance(lx, end + 1);
}

static bool is_digit_of(char c, int base)
{
    int digit = hex_digit(c);
    return digit >= 0 && digit < base;
}

/* Digits of `base` with single '_' between; where they end. */
static size_t skip_digits(const lexer *lx, size_t at, int base)
{
    const text *s = &lx->source;
    while (at < s->size) {
        if (is_digit_of(s->bytes[at], base))
            at++;
        else if (s->bytes[at] == '_' && at + 1 < s->size && is_digit_of(s->bytes[at + 1], base))
            at += 2;
        else
            break;
    }
    return at;
}

/* Where a float that begins here ends; the start itself when none does. */
static size_t float_end(const lexer *lx)
{
    const text *s = &lx->source;
    size_t start = lx->at;
    if (start > 0 && s->bytes[start - 1] == '.') return start;
    size_t end = skip_digits(lx, start, 10);
    bool is_float = false;
    if (end + 1 < s->size && s->bytes[end] == '.' && is_digit_of(s->bytes[end + 1], 10)) {
        end = skip_digits(lx, end + 1, 10);
        is_float = true;
    }
    if (end < s->size && (s->bytes[end] | 0x20) == 'e') {
        size_t digits = end + 1;
        if (digits < s->size && (s->bytes[digits] == '+' || s->bytes[digits] == '-')) digits++;
        if (digits < s->size && is_digit_of(s->bytes[digits], 10)) {
            end = skip_digits(lx, digits, 10);
            is_float = true;
        }
    }
    return is_float ? end : start;
}

static size_t integer_end(const lexer *lx)
{
    const text *s = &lx->source;
    size_t at = lx->at;
    if (s->bytes[at] != '0') return skip_digits(lx, at, 10);
    char letter = at + 1 < s->size ? (char)(s->bytes[at + 1] | 0x20) : 0;
    int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (base != 0) {
        size_t digits = at + 2;
        if (digits < s->size && s->bytes[digits] == '_') digits++;
        size_t end = skip_digits(lx, digits, base);
        if (end > digits) return end;
    }
    /* Zeros only: "012" is two numbers, which no grammar rule takes. */
    return skip_digits(lx, at, 1);
}

static void lex_number(lexer *lx)
{
    size_t end = float_end(lx);
    if (end > lx->at) {
        double real;
        text *digits = text_bytes(lx->in, &lx->source, lx->at, end);
        if (number_parse_float(lx->in, digits, &real) != NUMBER_OK)
            interp_fail(lx->in, "malformed number");
        push(lx, TOKEN_FLOAT, value_float(real));
        advance(lx, end);
        return;
    }
    end = integer_end(lx);
    int64_t whole;
    text *digits = text_bytes(lx->in, &lx->source, lx->at, end);
    number_parse parse = number_parse_int(lx->in, digits, 0, &whole);
    if (parse == NUMBER_TOO_LARGE)
        interp_fail(lx->in, "integer overflow: a number of the template does not fit 64 bits");
    if (parse != NUMBER_OK) interp_fail(lx->in, "malformed number");
    push(lx, TOKEN_INTEGER, value_int(whole));
    advance(lx, end);
}

static void lex_name(lexer *lx)
{
    size_t end = lx->at;
    while (end < lx->source.size) {
        size_t next = end;
        if (!character_continues_name(text_next(&lx->source, &next))) break;
        end = next;
    }
    push(lx, TOKEN_NAME, text_between(lx, lx->at, end));
    advance(lx, end);
}

/* -- operators --------------------------------------------------------------------------------- */

static void open_bracket(lexer *lx, char closing)
{
    if (lx->open == lx->open_capacity) {
        size_t capacity = lx->open_capacity == 0 ? 32 : lx->open_capacity * 2;
        char *expected = interp_alloc(lx->in, capacity);
        if (lx->open > 0) memcpy(expected, lx->expected, lx->open);
        lx->expected = expected;
        lx->open_capacity = capacity;
    }
    lx->expected[lx->open++] = closing;
}

static void close_bracket(lexer *lx, char closing)
{
    if (lx->open == 0) interp_fail(lx->in, "unexpected '%c'", closing);
    char expected = lx->expected[--lx->open];
    if (expected != closing)
        interp_fail(lx->in, "unexpected '%c', expected '%c'", closing, expected);
}

static void lex_operator(lexer *lx)
{
    static const char two[][3] = {"//", "**", "==", "!=", ">=", "<="};
    static const token_kind two_kinds[] = {TOKEN_FLOORDIV, TOKEN_POW,  TOKEN_EQ,
                                           TOKEN_NE,       TOKEN_GTEQ, TOKEN_LTEQ};
    static const char one[] = "+-/*%~[](){}><=.:|,;";
    static const token_kind one_kinds[] = {
        TOKEN_ADD,    TOKEN_SUB,      TOKEN_DIV,      TOKEN_MUL,    TOKEN_MOD,
        TOKEN_TILDE,  TOKEN_LBRACKET, TOKEN_RBRACKET, TOKEN_LPAREN, TOKEN_RPAREN,
        TOKEN_LBRACE, TOKEN_RBRACE,   TOKEN_GT,       TOKEN_LT,     TOKEN_ASSIGN,
        TOKEN_DOT,    TOKEN_COLON,    TOKEN_PIPE,     TOKEN_COMMA,  TOKEN_SEMICOLON};
    for (size_t i = 0; i < sizeof two / sizeof two[0]; i++) {
        if (!looking_at(lx, lx->at, two[i])) continue;
        push(lx, two_kinds[i], value_none());
        advance(lx, lx->at + 2);
        return;
    }
    char c = lx->source.bytes[lx->at];
    const char *known = c != '\0' ? strchr(one, c) : NULL;
    if (known == NULL) {
        size_t next = lx->at;
        interp_fail(lx->in, "unexpected character U+%04X", text_next(&lx->source, &next));
    }
    if (c == '(') open_bracket(lx, ')');
    if (c == '[') open_bracket(lx, ']');
    if (c == '{') open_bracket(lx, '}');
    if (c == ')' || c == ']' || c == '}') close_bracket(lx, c);
    push(lx, one_kinds[known - one], value_none());
    advance(lx, lx->at + 1);
}

/* -- tags -------------------------------------------------------------------------------------- */

/* If the end of a tag with this closing mark is here, where what follows it begins; else 0.
 * "-" eats the white space behind, "+" keeps the newline that a block or comment else eats. */
static size_t tag_end(const lexer *lx, size_t at, const char *mark, bool trims)
{
    char sign = at < lx->source.size ? lx->source.bytes[at] : '\0';
    if (sign == '-' && looking_at(lx, at + 1, mark)) return skip_space(lx, at + 3);
    if (sign == '+' && trims && looking_at(lx, at + 1, mark)) return at + 3;
    if (!looking_at(lx, at, mark)) return 0;
    return at + 2 + (trims && looking_at(lx, at + 2, "\n"));
}

/* Everything up to the mark that ends this tag. */
static void lex_inside(lexer *lx, const char *mark, bool block)
{
    while (lx->at < lx->source.size) {
        size_t end = lx->open == 0 ? tag_end(lx, lx->at, mark, block) : 0;
        if (end > 0) {
            push(lx, block ? TOKEN_BLOCK_END : TOKEN_VARIABLE_END, value_none());
            advance(lx, end);
            return;
        }
        size_t next = lx->at;
        uint32_t c = text_next(&lx->source, &next);
        if (character_is_space(c))
            advance(lx, skip_space(lx, lx->at));
        else if (c >= '0' && c <= '9')
            lex_number(lx);
        else if (character_starts_name(c))
            lex_name(lx);
        else if (c == '\'' || c == '"')
            lex_string(lx);
        else
            lex_operator(lx);
    }
}

/* The text before a tag whose opening mark has this sign, with the white space that the sign or
 * lstrip_blocks takes away. */
static void push_data(lexer *lx, size_t end, char sign, bool strips_line)
{
    size_t start = lx->at, kept = end;
    text before = {lx->source.bytes + start, end - start, TEXT_UNCOUNTED};
    if (sign == '-') {
        kept = start + text_strip(lx->in, &before, NULL, false, true)->size;
    } else if (sign != '+' && strips_line) {
        const char *newline = before.size > 0 ? memrchr(before.bytes, '\n', before.size) : NULL;
        size_t line = newline != NULL ? (size_t)(newline - lx->source.bytes) + 1 : start;
        /* An empty rest of a line is not white space, but nothing is lost with it either. */
        if ((line > start || lx->line_starting) && skip_space(lx, line) >= end) kept = line;
    }
    if (kept > start) push(lx, TOKEN_DATA, text_between(lx, start, kept));
    advance(lx, end);
}

static char sign_at(const lexer *lx, size_t at, bool plus)
{
    char c = at < lx->source.size ? lx->source.bytes[at] : '\0';
    return c == '-' || (plus && c == '+') ? c : '\0';
}

/* A "{% raw %}" tag at `at`: where its content begins; else 0. */
static size_t raw_begin(const lexer *lx, size_t at)
{
    at += 2 + (sign_at(lx, at + 2, true) != '\0');
    at = skip_space(lx, at);
    if (!looking_at(lx, at, "raw")) return 0;
    at = skip_space(lx, at + 3);
    if (looking_at(lx, at, "-%}")) return skip_space(lx, at + 3);
    return looking_at(lx, at, "%}") ? at + 2 : 0;
}

/* A "{% endraw %}" tag at `at`: where what follows it begins; else 0. */
static size_t raw_end(const lexer *lx, size_t at)
{
    at += 2 + (sign_at(lx, at + 2, true) != '\0');
    at = skip_space(lx, at);
    if (!looking_at(lx, at, "endraw")) return 0;
    return tag_end(lx, skip_space(lx, at + 6), "%}", true);
}

static void lex_raw(lexer *lx)
{
    if (lx->at >= lx->source.size) return; /* Jinja2 lets the template end here */
    for (size_t at = lx->at; at < lx->source.size; at++) {
        if (!looking_at(lx, at, "{%")) continue;
        size_t end = raw_end(lx, at);
        if (end == 0) continue;
        push_data(lx, at, sign_at(lx, at + 2, true), true);
        advance(lx, end);
        return;
    }
    interp_fail(lx->in, "Missing end of raw directive");
}

static void lex_comment(lexer *lx)
{
    if (lx->at >= lx->source.size) return; /* Jinja2 lets the template end here */
    for (size_t at = lx->at; at < lx->source.size; at++) {
        size_t end = tag_end(lx, at, "#}", true);
        if (end == 0) continue;
        advance(lx, end);
        return;
    }
    interp_fail(lx->in, "Missing end of comment tag");
}

/* Where the next "{{", "{%" or "{#" begins, or the end. */
static size_t find_tag(const lexer *lx)
{
    const text *s = &lx->source;
    for (size_t at = lx->at; at + 1 < s->size; at++) {
        const char *brace = memchr(s->bytes + at, '{', s->size - 1 - at);
        if (brace == NULL) break;
        at = (size_t)(brace - s->bytes);
        if (brace[1] == '{' || brace[1] == '%' || brace[1] == '#') return at;
    }
    return s->size;
}

static void lex_tag(lexer *lx, size_t tag)
{
    char kind = lx->source.bytes[tag + 1];
    char sign = sign_at(lx, tag + 2, true);
    size_t inside = tag + 2 + (sign != '\0');
    size_t raw = kind == '%' ? raw_begin(lx, tag) : 0;
    push_data(lx, tag, sign, kind != '{');
    if (raw > 0) {
        advance(lx, raw);
        lex_raw(lx);
    } else if (kind == '#') {
        advance(lx, inside);
        lex_comment(lx);
    } else {
        push(lx, kind == '{' ? TOKEN_VARIABLE_BEGIN : TOKEN_BLOCK_BEGIN, value_none());
        advance(lx, inside);
        if (kind == '{')
            lex_inside(lx, "}}", false);
        else
            lex_inside(lx, "%}", true);
    }
}

token_list lexer_run(interp *in, const char *source, size_t size)
{
    lexer lx = {.in = in, .source = normalized(in, source, size), .line_starting = true};
    in->line = 1;
    while (lx.at < lx.source.size) {
        size_t tag = find_tag(&lx);
        if (tag < lx.source.size) {
            lex_tag(&lx, tag);
            continue;
        }
        push(&lx, TOKEN_DATA, text_between(&lx, lx.at, tag));
        advance(&lx, tag);
    }
    push(&lx, TOKEN_END, value_none());
    return lx.tokens;
}
