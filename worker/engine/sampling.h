/* sampling: from one row of logits to one token.
 *
 * Order, as vLLM and transformers have it: logit bias; min_tokens mask; repetition penalty (over
 * prompt and answer), frequency and presence penalties (over the answer); logprobs are of the
 * distribution at this point, before temperature and truncation; temperature; min-p; top-k; top-p;
 * draw. Temperature 0 is greedy: the likeliest token, the lowest id on a tie.
 *
 * The draw uses Philox4x32-10 keyed by the seed with the absolute position as counter, so no
 * generator state moves: the same seed at the same position draws the same number whatever else
 * ran, after a preemption or on another worker. Sums are of integers, so they have no order.
 *
 * Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011. */
#ifndef GAGGLE_WORKER_ENGINE_SAMPLING_H
#define GAGGLE_WORKER_ENGINE_SAMPLING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"
#include "common/status.h"

/* Complete and checked: no field is "absent" any more. */
typedef struct sampling_params {
    float temperature;        /* 0, or up to 100 */
    uint32_t top_k;           /* 0 = off */
    float top_p;              /* (0, 1] */
    float min_p;              /* [0, 1] */
    float repetition_penalty; /* (0, 100]; 1 = off */
    float presence_penalty;   /* [-2, 2] */
    float frequency_penalty;  /* [-2, 2] */
    uint64_t seed;
    uint32_t logprobs; /* LOGPROBS_OFF, or 0..LIMIT_LOGPROBS_TOP alternatives */
    uint32_t bias_count;
    uint32_t *bias_ids; /* [bias_count], distinct, < vocab; owned by whoever owns the struct */
    float *bias;        /* [bias_count], [-100, 100] */
} sampling_params;

#define LOGPROBS_OFF UINT32_MAX

/* Neutral values: greedy off, temperature 1, everything else off. */
sampling_params sampling_params_default(void);

/* Range check; `err` names field, limit and value. vocab: ids must be below it. */
MUST_USE status sampling_params_check(const sampling_params *params, uint32_t vocab, error *err);

/* What the penalties and the draw need to know about one sequence at one step. */
typedef struct sampling_context {
    const uint32_t *ids;        /* prompt and answer so far */
    uint32_t prompt_count;      /* ids[0 .. prompt_count) are the prompt */
    uint32_t id_count;          /* the new token's absolute position */
    const uint32_t *masked_ids; /* must not be drawn now (end tokens before min_tokens) */
    uint32_t masked_count;
} sampling_context;

typedef struct sampled_token {
    uint32_t id;
    float logprob;                        /* natural log; NaN when logprobs are off */
    uint32_t top_count;                   /* at most params.logprobs; masked tokens are left out */
    uint32_t top_ids[LIMIT_LOGPROBS_TOP]; /* likeliest first; lowest id first on a tie */
    float top_logprobs[LIMIT_LOGPROBS_TOP];
} sampled_token;

typedef struct sampler sampler; /* scratch for one vocabulary size; one thread at a time */

sampler *sampler_create(uint32_t vocab);
void sampler_destroy(sampler *s);

/* logits    [vocab] float; overwritten
 * vocab_used ids at and above it (padding rows of the head) are never drawn
 * NaN or +Inf logits give ST_INTERNAL: the model's numbers are broken and nothing is drawn.
 * Cost: O(vocab), no full sort. */
MUST_USE status sampler_draw(sampler *s, float *logits, uint32_t vocab_used,
                             const sampling_params *params, const sampling_context *context,
                             sampled_token *out);

/* Philox4x32-10: four random words for a key and a counter. */
void sampling_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]);

/* The draw's 64 random bits: Philox with the seed as key (low word first) and (position, 0, 0, 0)
 * as counter; output words 0 (low) and 1. Exposed for tests and the GPU's twin. */
uint64_t sampling_random(uint64_t seed, uint32_t position);

#endif
