/* options: one table of settings a program; flags and --help come from the same rows.
 *
 *   static const option_row rows[] = {
 *       {"model", 'm', OPTION_TEXT, &opt.model, "DIR", .help = "model folder"},
 *       {"slots", 0, OPTION_U32, &opt.slots, "N", .help = "at once", .min = 1, .max = 64},
 *       {"verbose", 'v', OPTION_FLAG, &opt.verbose, NULL, .help = "say more"},
 *   };
 *
 * Each row is also read from the environment as GAGGLE_SLOTS; a flag wins. A misspelt flag
 * is refused with the nearest name; a number with its range. Before other threads start. */
#ifndef GAGGLE_COMMON_OPTIONS_H
#define GAGGLE_COMMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

typedef enum option_type {
    OPTION_FLAG, /* bool *: --name, or --no-name */
    OPTION_U32,  /* uint32_t * */
    OPTION_U64,  /* uint64_t *; accepts K, M, G, T (powers of 1024) */
    OPTION_F64,  /* double * */
    OPTION_TEXT, /* const char **: points into argv or the environment */
    OPTION_LIST, /* option_list *: may be repeated; in the environment separated by commas */
} option_type;

#define OPTION_LIST_MAX 32

typedef struct option_list {
    const char *items[OPTION_LIST_MAX];
    size_t count;
} option_list;

typedef struct option_row {
    const char *name; /* long name, without dashes */
    char letter;      /* 0 = none */
    option_type type;
    void *target;      /* holds the default before options_parse() */
    const char *value; /* what the value is called in --help; NULL for flags */
    const char *help;
    double min, max; /* numbers: both 0 = any */
} option_row;

typedef struct option_table {
    const char *usage; /* "gaggle-router [options]" */
    const char *about; /* one or two lines */
    const option_row *rows;
    size_t row_count;
    const char *epilogue; /* examples; may be NULL */
} option_table;

/* Parse argv[1..]. Arguments that are not flags are moved to the front of argv[1..] and counted in
 * *rest_count (NULL: none are allowed); "--" ends the flags. --help prints to stdout and exits 0;
 * --version likewise. ST_INVALID_ARGUMENT: `err` is the sentence for the user. */
MUST_USE status options_parse(const option_table *table, int argc, char **argv, int *rest_count,
                              error *err);

/* The name in `names` nearest to `typed` (edit distance), or NULL when none is near. */
const char *options_nearest(const char *typed, const char *const *names, size_t count);

#endif
