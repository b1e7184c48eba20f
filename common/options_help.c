#include <string.h>

#include "common/options_internal.h"

enum { SCREEN_COLUMNS = 80, HELP_COLUMN = 34 };

size_t option_built_in_rows(const option_table *table, option_row rows[OPTION_BUILT_IN_ROWS])
{
    size_t count = 0;
    if (table->section != NULL)
        rows[count++] =
            (option_row){"config", 0,      OPTION_TEXT,
                         NULL,     "FILE", .help = "read settings from this INI file, too"};
    rows[count++] = (option_row){"help", 0, OPTION_FLAG, .help = "this text"};
    if (table->row_count > 0)
        rows[count++] = (option_row){"help-all", 0, OPTION_FLAG, .help = "every option, and stop"};
    rows[count++] = (option_row){"version", 0, OPTION_FLAG, .help = "the version, and stop"};
    return count;
}

/* In lines of words that end before the screen does, each `indent` wide of its edge; the first one
 * begins at `column`, where something stands already. */
static void print_wrapped(const char *text, size_t column, size_t indent, FILE *out)
{
    if (column > 0 && column >= indent) {
        putc('\n', out);
        column = 0;
    }
    while (*text != '\0') {
        size_t size = strcspn(text, "\n"), room = SCREEN_COLUMNS - indent;
        if (size > room) {
            size = room;
            while (size > 0 && text[size] != ' ')
                size--;
            if (size == 0) size = strcspn(text, " \n"); /* a word too long for any line */
        }
        fprintf(out, "%*s%.*s\n", (int)(indent - column), "", (int)size, text);
        text += size;
        if (*text != '\0') text++;
        column = 0;
    }
}

static void print_row(const option_row *row, FILE *out)
{
    char left[OPTION_NAME_SIZE + 48], letter[4] = "   ";
    if (row->letter != 0) {
        letter[0] = '-';
        letter[1] = row->letter;
        letter[2] = ',';
    }
    int used = snprintf(left, sizeof left, "  %s --%s%s%s", letter, row->name,
                        row->value != NULL ? " " : "", row->value != NULL ? row->value : "");
    fputs(left, out);
    print_wrapped(row->help, (size_t)used, HELP_COLUMN, out);
}

void option_print_help(const option_table *table, bool all, FILE *out)
{
    fprintf(out, "usage: %s\n", table->usage);
    print_wrapped(table->about, 0, 0, out);
    putc('\n', out);
    size_t left_out = 0;
    for (size_t i = 0; i < table->row_count; i++) {
        if (!table->rows[i].rare || all)
            print_row(&table->rows[i], out);
        else
            left_out++;
    }
    option_row rows[OPTION_BUILT_IN_ROWS];
    size_t count = option_built_in_rows(table, rows);
    for (size_t i = 0; i < count; i++) {
        char more[48];
        snprintf(more, sizeof more, "%zu more options, and stop", left_out);
        if (strcmp(rows[i].name, "help-all") == 0 && !all) {
            if (left_out == 0) continue;
            rows[i].help = more;
        }
        print_row(&rows[i], out);
    }
    if (table->epilogue != NULL) fprintf(out, "\n%s\n", table->epilogue);
}
