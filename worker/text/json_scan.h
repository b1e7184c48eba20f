/* json_scan: reads JSON where it lies, without building a tree.
 *
 * A tokenizer.json is one small tree around two huge lists: the vocabulary and the merges, up to a
 * million strings. As a tree they take ten times the file's size, and a hostile file far more. So
 * the file is checked and its wanted fields found in one pass (json_pick), the two lists are read
 * in place, and the small fields go through common/json.h one by one.
 *
 * Same grammar and limits as common/json.h: RFC 8259, valid UTF-8, no lone surrogates, depth up to
 * LIMIT_JSON_DEPTH. Numbers of any size pass (model_max_length is 1e30 in many files). */
#ifndef GAGGLE_WORKER_TEXT_JSON_SCAN_H
#define GAGGLE_WORKER_TEXT_JSON_SCAN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mem.h"
#include "common/status.h"

/* One JSON value inside a larger text; borrowed. {0}: there is none. */
typedef struct json_span {
    const char *at;
    size_t size;
} json_span;

/* Check that `text` is one valid JSON text. `what` names it in errors. ST_INVALID_ARGUMENT with
 * the byte offset. Every other function here relies on it. */
MUST_USE status json_check(const char *text, size_t size, const char *what, error *err);

/* Find the fields `keys` of an object; spans[i] is {0} where keys[i] is absent. `object` is checked
 * text. ST_INVALID_ARGUMENT: not an object, or one of the keys is there twice. */
MUST_USE status json_pick(json_span object, const char *what, const char *const *keys,
                          json_span *spans, size_t count, error *err);

/* Walk a checked array or object. */
typedef struct json_walk {
    const char *at, *end;
} json_walk;

bool json_is_array_span(json_span value);
bool json_is_object_span(json_span value);
bool json_is_null_span(json_span value);    /* absent, or null */
json_walk json_walk_begin(json_span value); /* of an array or object */
bool json_walk_element(json_walk *walk, json_span *value);
bool json_walk_member(json_walk *walk, json_span *key, json_span *value);

/* The text of a string value: borrowed from the JSON where it has no escapes, else written to
 * `scratch` (replacing what it held). False when the value is no string. May hold NUL bytes. */
bool json_string_span(json_span value, buffer *scratch, const char **text, size_t *size);

/* False when the value is no integer or does not fit. */
bool json_integer_span(json_span value, int64_t *number);

/* A small value as a tree; the caller json_decref()s it. Absent and null give NULL.
 * ST_INVALID_ARGUMENT: more than `size_max` bytes. */
MUST_USE status json_tree_of(json_span value, size_t size_max, const char *what, json_t **out,
                             error *err);

/* An object of the fields `keys` of `object` as a tree; fields that are absent or null are absent.
 */
MUST_USE status json_pick_tree(json_span object, const char *what, const char *const *keys,
                               size_t count, json_t **out, error *err);

#endif
