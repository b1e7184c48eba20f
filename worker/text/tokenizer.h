/* tokenizer: text <-> token ids, as the model's tokenizer.json says.
 *
 * Runs the Hugging Face "tokenizers" pipeline for BPE models: added tokens, normalizers,
 * pre-tokenizers (PCRE2), byte-level or SentencePiece-style BPE with byte fallback, template
 * post-processors, decoders. A component this file does not know is refused at load by name,
 * never skipped.
 *
 * Immutable after load: any number of threads may encode at once. */
#ifndef GAGGLE_WORKER_TEXT_TOKENIZER_H
#define GAGGLE_WORKER_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

typedef struct tokenizer tokenizer;

#define TOKEN_NONE UINT32_MAX

/* Load DIR/tokenizer.json (and, where DIR/tokenizer_config.json is present, its add_bos_token /
 * add_eos_token where the reference library lets them count).
 * ST_NOT_FOUND: no tokenizer.json. ST_INVALID_ARGUMENT: `err` names the field, what was expected
 * and what was found. ST_UNIMPLEMENTED: a component of another kind than those above. */
MUST_USE status tokenizer_load(tokenizer **out, const char *dir, error *err);

/* The same from bytes, for tests and fuzzing. */
MUST_USE status tokenizer_parse(tokenizer **out, const char *json, size_t size, error *err);

void tokenizer_destroy(tokenizer *t); /* NULL is fine */

/* One more than the largest id it knows. */
uint32_t tokenizer_vocab_size(const tokenizer *t);

/* The id of exactly this token (added or ordinary), or TOKEN_NONE. */
uint32_t tokenizer_find(const tokenizer *t, const char *token, size_t size);

/* How the token is spelled in the vocabulary (not decoded); NULL for an unused id. */
const char *tokenizer_spelling(const tokenizer *t, uint32_t id, size_t *size);

bool tokenizer_is_special(const tokenizer *t, uint32_t id);

typedef struct token_list {
    uint32_t *ids;
    size_t count;
    size_t capacity;
} token_list; /* {0} is empty */

void token_list_push(token_list *list, uint32_t id);
void token_list_free(token_list *list);

typedef enum tokenize_special {
    TOKENIZE_ADD_SPECIAL = 1,   /* run the post-processor: BOS, EOS as the model wants them */
    TOKENIZE_PARSE_SPECIAL = 2, /* "<|eot|>" in the text becomes that token; else plain text */
} tokenize_special;

/* Append the ids of `text` to `out`.
 *
 * text      any bytes; invalid UTF-8 is treated as the reference does with U+FFFD
 * flags     of tokenize_special
 * Cost: at least 5 MB/s a core on English prose; memory O(longest pre-token). */
void tokenizer_encode(const tokenizer *t, const char *text, size_t size, unsigned flags,
                      token_list *out);

/* Two texts as one input (template post-processors with a pair form). */
void tokenizer_encode_pair(const tokenizer *t, const char *a, size_t a_size, const char *b,
                           size_t b_size, unsigned flags, token_list *out);

/* Whole-sequence decoding. Returns a NUL-terminated string of *out_size bytes; mem_free() it. */
char *tokenizer_decode(const tokenizer *t, const uint32_t *ids, size_t count, bool skip_special,
                       size_t *out_size);

#endif
