/* added_tokens: tokens that are found in the text itself, before anything else happens to it.
 *
 * "<|im_end|>" and its like never go through BPE: they are cut out first, the longest at each
 * place, from left to right. Most match the text as it came; those marked `normalized` match the
 * normalized text, and are themselves normalized for that.
 *
 * Immutable after added_tokens_index(); any thread may scan. */
#ifndef GAGGLE_WORKER_TEXT_ADDED_TOKENS_H
#define GAGGLE_WORKER_TEXT_ADDED_TOKENS_H

#include "common/mem.h"
#include "worker/text/json_scan.h"
#include "worker/text/normalizer.h"
#include "worker/text/vocab.h"

typedef struct added_token {
    char *content;
    size_t size;
    uint32_t id;
    bool single_word; /* only where no word character touches it */
    bool lstrip;      /* takes the white space on its left with it */
    bool rstrip;
    bool normalized;
    bool special;
} added_token;

/* A tree of bytes; node 0 is free, roots are found by the first byte. */
typedef struct token_tree_node {
    uint32_t child, sibling;
    uint32_t token; /* index of the token that ends here + 1 */
    uint8_t byte;
} token_tree_node;

typedef struct token_tree {
    uint32_t roots[256];
    token_tree_node *nodes;
    size_t count, capacity;
} token_tree;

typedef struct added_tokens {
    added_token *tokens;
    size_t count;
    vocab names; /* their spellings, in the same order */
    token_tree raw, normalized;
} added_tokens; /* {0} has none */

/* `spec` is tokenizer.json's "added_tokens". The reference library gives an added token the id of
 * its spelling in the vocabulary, or the next free id; a file that says otherwise is refused.
 * On failure *out can still be given to added_tokens_free(). */
MUST_USE status added_tokens_parse(added_tokens *out, json_span spec, const vocab *words,
                                   error *err);

/* Make ready to scan; `n` is the tokenizer's normalizer. Refused: a token of which the normalizer
 * leaves nothing. (The reference then finds it between any two characters.) */
MUST_USE status added_tokens_index(added_tokens *a, const normalizer *n, error *err);

void added_tokens_free(added_tokens *a);

/* Cuts a text into added tokens and what lies between them. */
typedef struct added_scan {
    const added_tokens *added;
    const token_tree *tree;
    const char *text;
    size_t size;
    bool parse_special;       /* otherwise special tokens are passed over */
    size_t search_at;         /* where to look for the next token */
    size_t text_at;           /* what lies before this is done */
    const added_token *found; /* waits for the text before it */
    size_t found_end;
} added_scan;

typedef struct added_piece {
    const added_token *token; /* NULL: plain text */
    size_t start, end;        /* never empty */
} added_piece;

/* The next piece; false at the end. */
bool added_scan_next(added_scan *scan, added_piece *piece);

#endif
