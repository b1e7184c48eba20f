/* text_support: what the tests of worker/text share. */
#ifndef GAGGLE_TESTS_TEXT_SUPPORT_H
#define GAGGLE_TESTS_TEXT_SUPPORT_H

#include <jansson.h>
#include <stdbool.h>

#include "worker/text/tokenizer.h"

/* A path below the shared test data, or NULL (and a line that says so) where there is none.
 * mem_free(). */
char *shared_data(const char *path);

/* The folder of the real tokenizers, unpacked into the scratch folder at the first call; NULL
 * where there is no shared data. mem_free(). */
char *real_tokenizers(void);

/* One of them; fails the test when it does not load. */
tokenizer *real_tokenizer(const char *folder, const char *name);

/* Fails the test when `json` is no tokenizer. */
tokenizer *small_tokenizer(const char *json);

/* Fails the test, naming `what`, when the ids differ. `expected` is a JSON array of integers. */
void assert_ids(const char *what, const token_list *got, const json_t *expected);

/* A small xorshift generator: the same numbers on every machine. */
uint32_t next_random(uint64_t *state);

/* Feed `ids` to a detokenizer in one go and compare with tokenizer_decode(). */
void assert_stream_equals_decode(const tokenizer *t, const uint32_t *ids, size_t count,
                                 bool skip_special);

#endif
