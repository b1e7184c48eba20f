/* connect_notebook: the notebooks of deploy/, which this program carries, with their settings
 * filled in. */
#ifndef GAGGLE_CLIENT_CLI_CONNECT_NOTEBOOK_H
#define GAGGLE_CLIENT_CLI_CONNECT_NOTEBOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef enum notebook { NOTEBOOK_KAGGLE, NOTEBOOK_COLAB } notebook;

/* A line `NAME = "..."` of the first code cell; the value is UTF-8. */
typedef struct notebook_setting {
    const char *name, *value;
} notebook_setting;

/* Print the notebook with these settings: as a whole, for a file.ipynb, or all its code as one
 * cell. */
void notebook_print(FILE *out, notebook which, const notebook_setting *settings, size_t count,
                    bool whole);

#endif
