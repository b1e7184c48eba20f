/* fields: typed access to one object of tokenizer.json, with errors that name the field.
 *
 * `where` is the path of the object ("pre_tokenizer.pretokenizers[1]"). Strings are borrowed from
 * the JSON tree. All functions give ST_OK or ST_INVALID_ARGUMENT. */
#ifndef GAGGLE_WORKER_TEXT_FIELDS_H
#define GAGGLE_WORKER_TEXT_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

#define FIELD_PATH_SIZE 160

typedef struct field_path {
    char text[FIELD_PATH_SIZE];
} field_path;

/* "parent.key" and "parent.key[index]", cut where too long. */
field_path field_path_of(const char *parent, const char *key);
field_path field_path_item(const char *parent, const char *key, size_t index);

/* "expected X, found Y" for `value` (NULL: it is missing). Returns ST_INVALID_ARGUMENT. */
status field_wrong(const char *where, const char *key, const char *expected, const json_t *value,
                   error *err);

MUST_USE status field_bool(const json_t *object, const char *where, const char *key, bool *out,
                           error *err);
/* Absent and null leave *out as it is. */
MUST_USE status field_optional_bool(const json_t *object, const char *where, const char *key,
                                    bool *out, error *err);
MUST_USE status field_string(const json_t *object, const char *where, const char *key,
                             const char **out, size_t *size, error *err);
/* Absent and null give NULL and 0. */
MUST_USE status field_optional_string(const json_t *object, const char *where, const char *key,
                                      const char **out, size_t *size, error *err);
MUST_USE status field_array(const json_t *object, const char *where, const char *key, json_t **out,
                            error *err);
/* An integer of 0..max. */
MUST_USE status field_uint(const json_t *object, const char *where, const char *key, uint32_t max,
                           uint32_t *out, error *err);
/* A string of exactly one character, as its bytes. */
MUST_USE status field_character(const json_t *object, const char *where, const char *key,
                                const char **out, size_t *size, error *err);

/* `component` must be an object with a "type"; ST_OK and *type, or an error. */
MUST_USE status field_type(const json_t *component, const char *where, const char **type,
                           error *err);
/* Returns ST_UNIMPLEMENTED: "where: component type "X" is not supported". */
status field_unknown_type(const char *where, const char *type, error *err);

#endif
