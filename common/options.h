/* options: one table of settings a program. Flags, environment, the INI file, --help and the man
 * page all come from its rows.
 *
 *   static const option_row rows[] = {
 *       {"model", 'm', OPTION_TEXT, &opt.model, "DIR", .help = "model folder"},
 *       {"slots", 0, OPTION_U32, &opt.slots, "N", .help = "at once", .min = 1, .max = 64},
 *       {"verbose", 'v', OPTION_FLAG, &opt.verbose, NULL, .help = "say more", .rare = true},
 *   };
 *
 * A row's value is, in this order: the flag's (--slots 4), the environment's (GAGGLE_SLOTS=4), the
 * file's (slots = 4 in the program's section of --config FILE or GAGGLE_CONFIG), or what the target
 * held before, its default. Of a list, the first of them that has any gives all.
 *
 * A misspelt name is refused with the nearest one: each flag, each key of the program's own
 * sections of the file, and a GAGGLE_ variable that is one slip of the finger away from a row's
 * (others are somebody else's). A refusal names what was written where: "--port",
 * "GAGGLE_PORT", "fleet.ini line 7: port". Before other threads start, or in the one that reads the
 * settings again. */
#ifndef GAGGLE_COMMON_OPTIONS_H
#define GAGGLE_COMMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/status.h"

typedef enum option_type {
    OPTION_FLAG, /* bool *: --name, or --no-name; elsewhere true or false, yes or no, 1 or 0 */
    OPTION_U32,  /* uint32_t * */
    OPTION_U64,  /* uint64_t *; accepts K, M, G, T (powers of 1024) */
    OPTION_F64,  /* double * */
    OPTION_MS,   /* uint32_t *: milliseconds; accepts ms, s, m, h: 500, 500ms, 30s, 2h */
    OPTION_TEXT, /* const char ** */
    OPTION_LIST, /* option_list *: flags and keys are repeated; the environment has commas */
} option_type;

#define OPTION_LIST_MAX 32

typedef struct option_list {
    const char *items[OPTION_LIST_MAX];
    size_t count;
} option_list;

/* Texts live as long as the process: they are argv's, or kept once however often they are read. */
typedef struct option_row {
    const char *name; /* long name, without dashes */
    char letter;      /* 0 = none */
    option_type type;
    void *target;      /* holds the default before options_parse() */
    const char *value; /* what the value is called in --help; NULL for flags */
    const char *help;
    double min, max;            /* numbers: both 0 = any */
    const char *const *choices; /* texts: nothing else is taken; ended by NULL; NULL = any */
    bool rare;                  /* not in --help, but in --help-all and the man page */
    bool reloadable;            /* see options_reload() */
    bool shared;                /* may stand in the table's shared section of the file, too */
} option_row;

typedef struct option_table {
    const char *usage; /* "gaggle-router [options]" */
    const char *about; /* one or two lines */
    const option_row *rows;
    size_t row_count;
    const char *epilogue;       /* examples; may be NULL */
    const char *section;        /* of the INI file; NULL: the program reads none */
    const char *shared_section; /* of several programs, whose rows all mark the same names as
                                   shared; the own section wins; may be NULL */
} option_table;

/* Parse argv[1..], then the environment and the file. Arguments that are not flags are moved to the
 * front of argv[1..] and counted in *rest_count (NULL: none are allowed); "--" ends the flags.
 * --help and --help-all print to stdout and exit 0; so do --version and --man, which prints the man
 * page's source. ST_INVALID_ARGUMENT: `err` is the sentence for the user; so are file_read()'s
 * other codes, when the INI file cannot be read. Targets may have been written then. */
MUST_USE status options_parse(const option_table *table, int argc, char **argv, int *rest_count,
                              error *err);

#define OPTIONS_NAMES_BYTES 512

/* What reading the settings again has changed, as names separated by commas. */
typedef struct option_changes {
    char applied[OPTIONS_NAMES_BYTES];
    char needs_restart[OPTIONS_NAMES_BYTES];
} option_changes;

/* `next` was parsed into other targets than `running`, by the same rows. What may be reloaded is
 * copied from next's targets to running's; what else differs is only named. */
void options_reload(const option_table *running, const option_table *next, option_changes *changes);

/* The man page of a table, as troff source. Its name is the usage's first words. */
void options_print_man(const option_table *table, FILE *out);

/* The name in `names` nearest to `typed` (edit distance); when none is near, one that begins with
 * it ("drain" for drain-ms); or NULL. */
const char *options_nearest(const char *typed, const char *const *names, size_t count);

#endif
