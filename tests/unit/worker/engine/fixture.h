/* fixture: a small tokenizer and a model without weights for engine tests.
 *
 * Ids 0..255 are the bytes themselves, 256.. are words and special tokens: random ids give broken
 * UTF-8, characters spread over tokens, and text that stop strings can be found in. */
#ifndef GAGGLE_TESTS_ENGINE_FIXTURE_H
#define GAGGLE_TESTS_ENGINE_FIXTURE_H

#include "worker/engine/engine.h"

enum {
    FIXTURE_WORDS = 256, /* " alpha", " beta", ...: FIXTURE_WORD_COUNT of them */
    FIXTURE_WORD_COUNT = 8,
    FIXTURE_BOS = 264,
    FIXTURE_EOS = 265,
    FIXTURE_EOS_2 = 266,
    FIXTURE_USED = 267,  /* ids the tokenizer knows */
    FIXTURE_VOCAB = 272, /* rows of the model's head: the last are padding */
};

tokenizer *fixture_tokenizer(void);
model fixture_model(uint32_t context_max);

/* A request for `count` prompt ids (copied), neutral sampling, unlimited credit. */
engine_request *fixture_request(uint64_t key, const uint32_t *ids, uint32_t count,
                                uint32_t max_tokens);
void fixture_add_stop(engine_request *r, const char *text);
void fixture_set_prior(engine_request *r, const uint32_t *ids, uint32_t count);

#endif
