/* lexer: template source into tokens, with Jinja2's rules for white space around tags
 * (trim_blocks and lstrip_blocks on, one newline at the end dropped). */
#ifndef GAGGLE_WORKER_TEXT_JINJA_LEXER_H
#define GAGGLE_WORKER_TEXT_JINJA_LEXER_H

#include "worker/text/jinja/value.h"

typedef enum token_kind {
    TOKEN_END,
    TOKEN_DATA,
    TOKEN_VARIABLE_BEGIN,
    TOKEN_VARIABLE_END,
    TOKEN_BLOCK_BEGIN,
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_STRING,
    TOKEN_INTEGER,
    TOKEN_FLOAT,
    TOKEN_ADD,
    TOKEN_SUB,
    TOKEN_DIV,
    TOKEN_FLOORDIV,
    TOKEN_MUL,
    TOKEN_MOD,
    TOKEN_POW,
    TOKEN_TILDE,
    TOKEN_LBRACKET,
    TOKEN_RBRACKET,
    TOKEN_LPAREN,
    TOKEN_RPAREN,
    TOKEN_LBRACE,
    TOKEN_RBRACE,
    TOKEN_EQ,
    TOKEN_NE,
    TOKEN_GT,
    TOKEN_GTEQ,
    TOKEN_LT,
    TOKEN_LTEQ,
    TOKEN_ASSIGN,
    TOKEN_DOT,
    TOKEN_COLON,
    TOKEN_PIPE,
    TOKEN_COMMA,
    TOKEN_SEMICOLON,
} token_kind;

typedef struct token {
    token_kind kind;
    uint32_t line;
    value item; /* the text of data, name and string; the number */
} token;

typedef struct token_list {
    token *items; /* the last one is TOKEN_END */
    size_t count;
    size_t capacity;
} token_list;

/* `source` must be well-formed UTF-8. */
token_list lexer_run(interp *in, const char *source, size_t size);

/* "end of print statement", "name" ... for errors. */
const char *token_kind_described(token_kind kind);

#endif
