/* envelope_samples: random valid envelopes of every kind, and their comparison field by field. */
#ifndef GAGGLE_TESTS_ENVELOPE_SAMPLES_H
#define GAGGLE_TESTS_ENVELOPE_SAMPLES_H

#include "proto/envelope.h"

/* xorshift64*; the seed is the state and must not be 0. */
uint64_t sample_random(uint64_t *state);

/* A valid envelope of `kind` whose every field is drawn anew; memory from `a`. */
envelope sample_envelope(envelope_kind kind, uint64_t *r, arena *a);

/* The name of the first field that differs, or NULL. */
const char *sample_difference(const envelope *x, const envelope *y);

/* All kinds, ENVELOPE_NONE at the end. */
extern const envelope_kind sample_kinds[];

#endif
