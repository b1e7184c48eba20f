/* fake_backend: a backend whose "KV" is the token ids and positions themselves.
 *
 * A step writes its tokens into its sequences' blocks; logits are a hash of what the blocks then
 * hold for positions [0, end). So an answer is a function of its ids exactly when the engine's
 * blocks and positions are right: any mix-up changes the hash, and a slot that holds another
 * position than it should fails the test at once.
 *
 * Steps run when they are submitted, as on a device that runs them in order; with steps_ahead their
 * samples can be collected later, and pending ids come from what their slots sampled last. */
#ifndef GAGGLE_TESTS_ENGINE_FAKE_BACKEND_H
#define GAGGLE_TESTS_ENGINE_FAKE_BACKEND_H

#include "worker/backend.h"

typedef struct fake_backend_options {
    uint32_t kv_blocks, step_tokens, step_sequences, steps_ahead;
    uint32_t vocab, vocab_used;
    uint32_t likely_id;    /* gets a higher logit than the others */
    uint64_t fail_at_step; /* 0 = never; the step of this number (from 1) fails */
    bool cheap; /* every sample is the id behind the last one: for measuring the engine */
} fake_backend_options;

backend *fake_backend_create(const fake_backend_options *options);

/* Tokens run since it was made. */
uint64_t fake_backend_tokens(const backend *b);

#endif
