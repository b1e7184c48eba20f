/* json: jansson behind limits. The only way gaggle parses JSON from outside. */
#ifndef GAGGLE_COMMON_JSON_H
#define GAGGLE_COMMON_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "common/status.h"

/* Parse one JSON text. `what` names it in errors ("config.json"). Duplicate keys, depth over
 * LIMIT_JSON_DEPTH, invalid UTF-8, NUL and trailing bytes are refused: ST_INVALID_ARGUMENT, mostly
 * with line and column. The caller json_decref()s the result. An integer beyond
 * 64 bits is read as a real. */
MUST_USE status json_parse(json_t **out, const char *bytes, size_t size, const char *what,
                           error *err);

/* Read a file of at most `size_max` bytes. ST_NOT_FOUND, ST_OUT_OF_RANGE (too large; names both
 * sizes), ST_INVALID_ARGUMENT (not a regular file), ST_PERMISSION_DENIED, ST_UNAVAILABLE (I/O
 * error). NUL-terminated; mem_free(). */
MUST_USE status file_read(char **out, size_t *out_size, const char *path, size_t size_max,
                          error *err);

/* file_read + json_parse. */
MUST_USE status json_load_path(json_t **out, const char *path, size_t size_max, error *err);

#endif
