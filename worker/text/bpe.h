/* bpe: byte-pair encoding of one piece of text: joins neighbours, the earliest rule first.
 *
 * Immutable after bpe_finish(); any thread may encode, each with its own bpe_scratch. */
#ifndef GAGGLE_WORKER_TEXT_BPE_H
#define GAGGLE_WORKER_TEXT_BPE_H

#include "common/mem.h"
#include "worker/text/tokenizer.h"
#include "worker/text/vocab.h"

typedef struct bpe_rule bpe_rule;

#define BPE_CHARACTERS 1024u /* code points whose tokens are found without hashing */

typedef struct bpe {
    vocab words;

    bpe_rule *rules; /* open addressing over (left, right) */
    size_t rule_mask;
    size_t rule_count;
    uint32_t next_rank;
    uint64_t *bigrams; /* which characters a rule may join: see bpe.c */

    uint32_t characters[BPE_CHARACTERS];
    uint32_t byte_tokens[256]; /* "<0x00>".. with byte_fallback, else TOKEN_NONE */

    uint32_t unknown; /* TOKEN_NONE: unknown characters leave no trace */
    bool fuse_unknown;
    bool ignore_merges; /* a piece that is a token is that token, whatever the rules say */
    bool byte_fallback;
    char *prefix; /* of every character but a piece's first; NULL for none */
    size_t prefix_size;
    char *suffix; /* of a piece's last character; NULL for none */
    size_t suffix_size;
} bpe; /* {0}, then fill in the fields above and add words, then rules */

/* All words are in: index them. False when a word is there twice; *twice is the later one. */
bool bpe_index_words(bpe *b, size_t *twice);

/* The rule of the next rank: `left` and `right` become one. Of equal rules the last counts.
 * ST_INVALID_ARGUMENT: a side or the result is no word; *missing is "left", "right" or "result". */
MUST_USE status bpe_add_rule(bpe *b, const char *left, size_t left_size, const char *right,
                             size_t right_size, const char **missing);

/* All rules are in. */
void bpe_finish(bpe *b);

void bpe_free(bpe *b);

typedef struct bpe_scratch bpe_scratch;

/* `text_size`: how much text is coming, which decides how many pieces are remembered. */
bpe_scratch *bpe_scratch_create(size_t text_size);
void bpe_scratch_destroy(bpe_scratch *s); /* NULL is fine */

/* Append the tokens of one piece (valid UTF-8, not empty). O(n log n) for a piece of n bytes. */
void bpe_encode(const bpe *b, bpe_scratch *s, const char *piece, size_t size, token_list *out);

#endif
