/* The man page in the classic "man" macros, which man-db, mandoc and groff all read. Every text
 * goes through print_escaped(): to troff a backslash is a command, so is a full stop or an
 * apostrophe that begins a line, and a bare '-' is a hyphen that nobody can copy into a shell. */
#include <ctype.h>
#include <string.h>

#include "common/options_internal.h"

static void print_escaped(const char *text, size_t size, FILE *out)
{
    for (size_t i = 0; i < size; i++) {
        bool begins = i == 0 || text[i - 1] == '\n';
        if (begins && (text[i] == '.' || text[i] == '\'')) fputs("\\&", out);
        if (text[i] == '\\')
            fputs("\\e", out);
        else if (text[i] == '-')
            fputs("\\-", out);
        else
            putc(text[i], out);
    }
}

static void print_text(const char *text, FILE *out)
{
    print_escaped(text, strlen(text), out);
}

/* The usage's words before its options: "gaggle-worker bench". */
static size_t name_size(const char *usage)
{
    size_t size = 0;
    for (const char *word = usage; islower((unsigned char)*word);) {
        size_t word_size = strcspn(word, " ");
        size = (size_t)(word - usage) + word_size;
        word += word_size + strspn(word + word_size, " ");
    }
    return size;
}

/* "gaggle-worker-bench", as the page is called. */
static void print_page_name(const char *usage, bool upper, FILE *out)
{
    for (size_t i = 0; i < name_size(usage); i++) {
        char c = usage[i] == ' ' ? '-' : usage[i];
        if (upper) c = (char)toupper((unsigned char)c);
        print_escaped(&c, 1, out);
    }
}

static void print_head(const option_table *table, FILE *out)
{
    size_t first_line = strcspn(table->about, "\n");
    size_t sentence = first_line;
    if (sentence > 0 && table->about[sentence - 1] == '.') sentence--;
    fputs(".TH \"", out);
    print_page_name(table->usage, true, out);
    fputs("\" 1 \"\" \"gaggle " GAGGLE_VERSION "\" \"gaggle\"\n.SH NAME\n", out);
    print_page_name(table->usage, false, out);
    fputs(" \\- ", out);
    print_escaped(table->about, sentence, out);
    fputs("\n.SH SYNOPSIS\n.B ", out);
    size_t name = name_size(table->usage);
    print_escaped(table->usage, name, out);
    putc('\n', out);
    const char *rest = table->usage + name + strspn(table->usage + name, " ");
    if (*rest != '\0') {
        print_text(rest, out);
        putc('\n', out);
    }
    fputs(".SH DESCRIPTION\n", out);
    print_text(table->about, out);
    putc('\n', out);
}

static void print_row(const option_table *table, const option_row *row, FILE *out)
{
    fputs(".TP\n", out);
    if (row->letter != 0) fprintf(out, "\\fB\\-%c\\fR, ", row->letter);
    fputs("\\fB\\-\\-", out);
    print_text(row->name, out);
    fputs("\\fR", out);
    if (row->value != NULL) {
        fputs(" \\fI", out);
        print_text(row->value, out);
        fputs("\\fR", out);
    }
    putc('\n', out);
    putc(toupper((unsigned char)row->help[0]), out);
    print_text(row->help + 1, out);
    fputs(".\n", out);
    char range[80];
    if (option_range(row, range, sizeof range)) fprintf(out, "From %s.\n", range);
    if (row->type == OPTION_LIST) fputs("May be repeated.\n", out);
    if (row->reloadable) fputs("Takes effect on SIGHUP, too.\n", out);
    if (row->shared && table->shared_section != NULL) {
        fputs("In the file also in [", out);
        print_text(table->shared_section, out);
        fputs("].\n", out);
    }
}

static void print_sources(const option_table *table, FILE *out)
{
    if (table->row_count == 0) return;
    fputs(
        ".SH ENVIRONMENT\n"
        "Every option can be set as a variable, too: GAGGLE_ and its name in capitals, with _ for "
        "\\-.\nAn option on the command line is stronger.\nA list's items are separated by "
        "commas.\n",
        out);
    if (table->section == NULL) return;
    fputs(
        ".SH FILES\n"
        "The INI file of \\fB\\-\\-config\\fR or GAGGLE_CONFIG sets what neither the command line "
        "nor the environment does.\nIts lines are a comment behind #, a [section], or a name "
        "without the dashes, = and a value.\nA list's name is repeated.\nThis program reads [",
        out);
    print_text(table->section, out);
    if (table->shared_section != NULL) {
        fputs("] and, for what several commands share, [", out);
        print_text(table->shared_section, out);
    }
    fputs("].\nA name that is not known is refused.\n", out);
}

static void print_units(const option_table *table, FILE *out)
{
    bool times = false, sizes = false;
    for (size_t i = 0; i < table->row_count; i++) {
        times |= table->rows[i].type == OPTION_MS;
        sizes |= table->rows[i].type == OPTION_U64;
    }
    if (times) fputs("Times are milliseconds, or have a unit: 500ms, 30s, 5m, 2h.\n", out);
    if (sizes) fputs("Sizes may end in K, M, G or T: 256M.\n", out);
}

void options_print_man(const option_table *table, FILE *out)
{
    print_head(table, out);
    fputs(".SH OPTIONS\n", out);
    print_units(table, out);
    for (size_t i = 0; i < table->row_count; i++)
        print_row(table, &table->rows[i], out);
    option_row rows[OPTION_BUILT_IN_ROWS];
    size_t count = option_built_in_rows(table, rows);
    for (size_t i = 0; i < count; i++)
        print_row(table, &rows[i], out);
    print_sources(table, out);
    if (table->epilogue == NULL) return;
    fputs(".SH NOTES\n.nf\n", out);
    print_text(table->epilogue, out);
    fputs("\n.fi\n", out);
}
