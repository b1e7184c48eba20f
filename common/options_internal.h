/* What the files of options (options.h) share. */
#ifndef GAGGLE_COMMON_OPTIONS_INTERNAL_H
#define GAGGLE_COMMON_OPTIONS_INTERNAL_H

#include "common/options.h"

enum {
    OPTION_NAME_SIZE = 64,
    OPTION_SOURCE_SIZE = 640, /* the longest: a file's path, its line and a name */
    OPTION_ROWS_MAX = 128,
};

/* -- options_value.c ------------------------------------------------------------------- */

/* `source` is what the user wrote and where: "--port", "GAGGLE_PORT", "a.ini line 3: port". */
status option_set(const option_row *row, const char *source, const char *text, error *err);
/* The range a number must be in, as it is written: "1 to 65535", "50ms to 1h"; false: any. */
bool option_range(const option_row *row, char *out, size_t size);
/* The same text, once a process: what is read again and again does not add up. */
const char *option_keep(const char *text);
/* All of them are gone. For the fuzzer, whose rows are gone, too. */
void option_forget_kept(void);

/* -- options.c ------------------------------------------------------------------------- */

const option_row *option_find(const option_table *table, const char *name);
/* NULL when none is near. */
const char *option_nearest_row(const option_table *table, const char *typed);
/* "max-num-seqs" -> "GAGGLE_MAX_NUM_SEQS" */
void option_environment_name(const char *name, char out[OPTION_NAME_SIZE + 8]);

/* -- options_file.c -------------------------------------------------------------------- */

/* Set the rows that are not in `seen` from the table's sections of an INI file. */
status option_read_file(const option_table *table, const char *path, const bool *seen, error *err);
/* The same for its text, which has a NUL behind its `size` bytes. */
status option_read_text(const option_table *table, const char *path, const char *text, size_t size,
                        const bool *seen, error *err);

/* -- options_help.c -------------------------------------------------------------------- */

void option_print_help(const option_table *table, bool all, FILE *out);

/* The flags that every table has, for --help and the man page. */
#define OPTION_BUILT_IN_ROWS 4
size_t option_built_in_rows(const option_table *table, option_row rows[OPTION_BUILT_IN_ROWS]);

#endif
