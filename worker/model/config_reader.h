/* config_reader: takes one field after the other from one JSON object. Its first refusal stays and
 * later takes give harmless values, so that code which reads a config is the list of its fields.
 * Private to worker/model. */
#ifndef GAGGLE_WORKER_MODEL_CONFIG_READER_H
#define GAGGLE_WORKER_MODEL_CONFIG_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/json.h"
#include "common/status.h"
#include "worker/model/printable.h"

typedef struct reader {
    const json_t *object;
    const json_t *around; /* the object it is a section of; NULL: none */
    const char *what;     /* heads every sentence: "config.json" */
    status st;
    error *err;
} reader;

#define FOUND_SIZE (PRINTABLE_SIZE + 16)
#define REQUIRED   UINT32_MAX

/* What a value is, for people. */
const char *reader_describe(char out[FOUND_SIZE], const json_t *value);

/* "config.json: hidden_size: expected ..., found ..." */
__attribute__((format(printf, 5, 6))) void refuse(reader *r, status code, const char *key,
                                                  const json_t *found, const char *expected, ...);

const json_t *field(const reader *r, const char *key);

/* A field that transformers treats as not there: missing or null. */
bool is_absent(const json_t *value);

/* Of the first `min`..`max`; absent: what `absent` says, or refused when that is REQUIRED, NAN. */
uint32_t take_u32(reader *r, const char *key, uint32_t min, uint32_t max, uint32_t absent);
double take_number(reader *r, const char *key, double min, double max, double absent);
bool take_bool(reader *r, const char *key, bool absent);
uint32_t take_id(reader *r, const char *key, const json_t *value, uint32_t vocab_size);

#endif
