/* pattern_dialect: regular expressions from Oniguruma's dialect to PCRE2's.
 *
 * The two differ in places that matter for tokenizers:
 *
 *   \s \S        White_Space exactly (PCRE2 counts U+180E in)
 *   \w \W        letters, marks, Nd, Nl, Pc and the circled letters (PCRE2: letters, numbers, _)
 *   \h \v \uHHHH a hexadecimal digit, a vertical tab, a code point
 *   \p{Han}      the script itself, not its extensions
 *   [[:alpha:]]  and the like, by their Unicode properties
 *   [a[bc]]      a class inside a class adds to it
 *   [ab&&[^b]]   what is in both: the sides but the last become lookaheads
 *   {n,m}+ {n}?  a repeated group, not possessive or lazy
 *   {,n}         {0,n}
 *   (?m:...)     dot matches newline; ^ and $ always match at lines (an option for the compiler)
 *
 * What has no equal (inner negated classes, upper or lower case properties in a class under (?i),
 * absence operator, verbs, ...) is refused by name. */
#ifndef GAGGLE_WORKER_TEXT_PATTERN_DIALECT_H
#define GAGGLE_WORKER_TEXT_PATTERN_DIALECT_H

#include "common/mem.h"
#include "common/status.h"

/* Rewrite `source` into the empty buffer *out, which the caller frees; nothing is there to free on
 * failure. `where` names the expression in errors.
 * ST_INVALID_ARGUMENT: not a regular expression. ST_UNIMPLEMENTED: one that PCRE2 cannot run. */
MUST_USE status pattern_rewrite(buffer *out, const char *source, size_t size, const char *where,
                                error *err);

#endif
