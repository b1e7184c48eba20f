/* line_editor: one line of text under a person's fingers.
 *
 * Bytes of a terminal in raw mode go in, one at a time; the line, its cursor and the history
 * change. No terminal here, so that it can be tested; line_read() joins it to one. Keys: arrows,
 * Home, End, Delete, Backspace, Ctrl-A E B F K U W P N. */
#ifndef GAGGLE_CLIENT_CLI_LINE_EDITOR_H
#define GAGGLE_CLIENT_CLI_LINE_EDITOR_H

#include <stddef.h>

#include "common/mem.h"

enum { LINE_HISTORY_MAX = 200, LINE_BYTES_MAX = 65536 };

typedef enum line_result {
    LINE_MORE,        /* go on */
    LINE_DONE,        /* Enter */
    LINE_INTERRUPTED, /* Ctrl-C: the line is emptied */
    LINE_END,         /* Ctrl-D on an empty line */
} line_result;

typedef struct line_editor {
    buffer text;      /* UTF-8, not NUL-terminated */
    size_t cursor;    /* byte offset, at a character */
    char pending[16]; /* of a key or character that is not complete */
    size_t pending_size;
    char *history[LINE_HISTORY_MAX]; /* oldest first */
    size_t history_count;
    size_t history_at; /* == history_count: the line being written */
    char *draft;       /* that line, while an older one is shown */
} line_editor;         /* {0} is a fresh one */

void line_editor_free(line_editor *e);

/* Empty the line for the next one; the history stays. */
void line_editor_clear(line_editor *e);

line_result line_editor_feed(line_editor *e, char byte);

/* Remember a line that was entered. */
void line_editor_remember(line_editor *e, const char *line);

/* What a terminal of `columns` shows behind a prompt of `prompt_columns`: bytes [*from, *to) of the
 * text, with the cursor in column *cursor of them. */
void line_editor_view(const line_editor *e, size_t columns, size_t *from, size_t *to,
                      size_t *cursor);

/* Ask for a line. From a terminal with editing, else just the next line of stdin, without `prompt`.
 * *line is NUL-terminated; mem_free() it. LINE_END at the end of input. */
line_result line_read(line_editor *e, const char *prompt, char **line);

#endif
