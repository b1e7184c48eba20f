/* tokenizer: text <-> token ids, as the model's tokenizer.json says.
 *
 * Runs the Hugging Face "tokenizers" pipeline for BPE models, each step in a file of its own:
 *
 *   added_tokens    cuts out tokens that are spelled in the text ("<|im_end|>")
 *   normalizer      NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Prepend, Append, Replace,
 *                   ByteLevel, Sequence
 *   pretokenizer    ByteLevel, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, Metaspace,
 *                   Sequence (regular expressions: pattern)
 *   bpe             byte-level or SentencePiece-style, with byte fallback
 *   post_processor  TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel, Sequence
 *   decoder         ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, Sequence
 *
 * A component that is not in this list is refused at load by name, never skipped. "truncation" and
 * "padding" are not the tokenizer's business here and have no effect. Where the reference library
 * changed its mind, the behaviour is that of version 0.22.
 *
 * tokenizer_config.json counts in one thing. The tokenizer classes for Llama, CodeLlama, Gemma,
 * Cohere and GPT-NeoX (tokenizer_class, with or without "Fast") put their own template in the
 * place of the file's: BOS in front when add_bos_token (where it is absent: true, but false for
 * GPT-NeoX), EOS behind when add_eos_token (false where absent), once for each text of a pair. For
 * every other class the two flags have no effect and tokenizer.json alone decides. (That is the
 * rule of transformers 4, under which these models were published.) clean_up_tokenization_spaces,
 * which takes the space out of "a !" after decoding, is not applied: a server must not alter code.
 *
 * What letters and digits are comes from the Unicode version of the installed PCRE2 and utf8proc;
 * the reference has its own. They differ in the newest characters only.
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

/* Load DIR/tokenizer.json and, where it is present, DIR/tokenizer_config.json.
 * ST_NOT_FOUND: no tokenizer.json; `err` names another kind of tokenizer that is there instead.
 * ST_INVALID_ARGUMENT: `err` names the field, what was expected and what was found.
 * ST_UNIMPLEMENTED: a component of another kind than those above.
 * ST_OUT_OF_RANGE, ST_PERMISSION_DENIED, ST_UNAVAILABLE: the file is too large or cannot be read.
 */
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
 * text      any bytes; each invalid part of UTF-8 counts as one U+FFFD, as when Rust or Python
 *           make text of it
 * flags     of tokenize_special. Without TOKENIZE_PARSE_SPECIAL added tokens that are not special
 *           are still found, as in the reference.
 * Cost: at least 5 MB/s a core on English prose (bench/tokenizer), O(n log n) on any text. Memory:
 * the longest piece; where the model has a normalizer, a copy of the text; and up to 0.8 MB of
 * pieces remembered during the call. */
void tokenizer_encode(const tokenizer *t, const char *text, size_t size, unsigned flags,
                      token_list *out);

/* Two texts as one input (template post-processors with a pair form). */
void tokenizer_encode_pair(const tokenizer *t, const char *a, size_t a_size, const char *b,
                           size_t b_size, unsigned flags, token_list *out);

/* Whole-sequence decoding. Ids that are not in use say nothing. `skip_special`: nor do special
 * tokens. Returns a NUL-terminated string of *out_size bytes; mem_free() it. */
char *tokenizer_decode(const tokenizer *t, const uint32_t *ids, size_t count, bool skip_special,
                       size_t *out_size);

#endif
