/* ini: cuts an INI text into sections and settings.
 *
 *   # a comment: a line of its own
 *   [section name]
 *   setting = value
 *
 * One item a call, with its line for the errors of whoever knows what it means. White space around
 * names and values is dropped; values are taken as they stand, without quotes or escapes. Strict:
 * what is neither a comment, a section nor a setting is refused. Whether a setting may come before
 * the first section is its reader's matter. No state beyond the struct: any thread. */
#ifndef GAGGLE_COMMON_INI_H
#define GAGGLE_COMMON_INI_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

typedef enum ini_kind { INI_END, INI_SECTION, INI_SETTING } ini_kind;

typedef struct ini_item {
    ini_kind kind;
    uint32_t line;     /* from 1; of INI_END: the number of lines */
    const char *name;  /* of the section or the setting; not empty, except of INI_END */
    const char *value; /* of a setting; may be empty */
} ini_item;

typedef struct ini_reader {
    const char *file; /* in errors */
    char *rest;
    uint32_t line;
} ini_reader;

/* Start reading `text`, which the reader writes into: items point into it. `text` has a NUL behind
 * its `size` bytes. ST_INVALID_ARGUMENT: a NUL among them, behind which nothing would be read. */
MUST_USE status ini_begin(ini_reader *r, const char *file, char *text, size_t size, error *err);

/* The next item. ST_INVALID_ARGUMENT: "FILE line N: ..."; the line itself is not shown, for it may
 * hold a secret. */
MUST_USE status ini_next(ini_reader *r, ini_item *out, error *err);

#endif
