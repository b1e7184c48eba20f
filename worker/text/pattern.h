/* pattern: a literal or a regular expression that finds places in UTF-8 text.
 *
 * tokenizer.json holds regular expressions in Oniguruma's dialect; they run here on PCRE2, whose
 * dialect differs (pattern_dialect.h).
 *
 * Immutable after compilation: any thread may search, each with its own pattern_search. */
#ifndef GAGGLE_WORKER_TEXT_PATTERN_H
#define GAGGLE_WORKER_TEXT_PATTERN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

typedef struct pattern pattern;

/* Compile a regular expression. `where` names it in errors ("pre_tokenizer.pattern").
 * ST_INVALID_ARGUMENT: not a regular expression. ST_UNIMPLEMENTED: one that PCRE2 cannot run. */
MUST_USE status pattern_compile(pattern **out, const char *source, size_t size, const char *where,
                                error *err);

/* A pattern that finds exactly these bytes, one or more. */
pattern *pattern_literal(const char *bytes, size_t size);

/* What tokenizer.json writes as a pattern: {"String": "..."} or {"Regex": "..."}. */
MUST_USE status pattern_parse(pattern **out, const json_t *spec, const char *where, error *err);

void pattern_destroy(pattern *p); /* NULL is fine */

/* What one thread needs to search; reusable for any pattern. */
typedef struct pattern_search pattern_search;
pattern_search *pattern_search_create(void);
void pattern_search_destroy(pattern_search *s); /* NULL is fine */

/* Where the next search goes on; {0} before the first. */
typedef struct pattern_cursor {
    size_t at;        /* where the next search begins */
    size_t match_end; /* end of the match before, valid when `matched` */
    bool matched;
} pattern_cursor;

/* The next match in valid UTF-8: *start..*end. Matches do not overlap; an empty match directly
 * after a match is passed over, as Oniguruma's iterator does; an
 * empty text has no match. A regular expression that hits its
 * step limit counts as one that does not match. */
bool pattern_next(const pattern *p, pattern_search *s, const char *text, size_t size,
                  pattern_cursor *cursor, size_t *start, size_t *end);

#endif
