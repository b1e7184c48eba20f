/* The INI file of options.h: sections [router], [worker], [gaggle] and [gaggle COMMAND], so that
 * one file serves a machine. A program checks its own sections in full and leaves the others to
 * those that they are for. */
#include <string.h>

#include "common/ini.h"
#include "common/json.h"
#include "common/limits.h"
#include "common/mem.h"
#include "common/options_internal.h"

/* One section being read. */
typedef struct reading {
    const option_table *table;
    const char *path;
    const char *section;
    bool shared;                        /* it is the table's shared one */
    const bool *seen;                   /* rows that a stronger source has set */
    uint32_t given_at[OPTION_ROWS_MAX]; /* line, 0 = not given */
} reading;

static status check_section(const option_table *table, const char *path, const ini_item *item,
                            error *err)
{
    static const char command[] = "gaggle ";
    const char *names[] = {"router", "worker", "gaggle", table->section};
    const size_t count = sizeof names / sizeof *names;
    for (size_t i = 0; i < count; i++)
        if (strcmp(item->name, names[i]) == 0) return ST_OK;
    if (strncmp(item->name, command, sizeof command - 1) == 0) return ST_OK;
    const char *nearest = options_nearest(item->name, names, count);
    return error_set(err, ST_INVALID_ARGUMENT, "%s line %u: there is no section [%s]%s%s%s", path,
                     item->line, item->name, nearest != NULL ? "; did you mean [" : "",
                     nearest != NULL ? nearest : "", nearest != NULL ? "]?" : "");
}

static status refuse_name(const reading *in, const ini_item *item, error *err)
{
    if (option_find(in->table, item->name) != NULL)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "%s line %u: %s is not for every command; it belongs into [%s]", in->path,
                         item->line, item->name, in->table->section);
    const char *nearest = option_nearest_row(in->table, item->name);
    return error_set(err, ST_INVALID_ARGUMENT, "%s line %u: [%s] has no setting %.80s%s%s%s",
                     in->path, item->line, in->section, item->name,
                     nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
                     nearest != NULL ? "?" : "");
}

static status read_setting(reading *in, const ini_item *item, error *err)
{
    const option_row *row = option_find(in->table, item->name);
    if (row == NULL || (in->shared && !row->shared)) return refuse_name(in, item, err);
    char source[OPTION_SOURCE_SIZE];
    snprintf(source, sizeof source, "%s line %u: %s", in->path, item->line, row->name);
    if (*item->value == '\0')
        return error_set(err, ST_INVALID_ARGUMENT,
                         "%s has no value; without the line it is the default", source);
    uint32_t *given_at = &in->given_at[row - in->table->rows];
    if (*given_at != 0 && row->type != OPTION_LIST)
        return error_set(err, ST_INVALID_ARGUMENT, "%s is given already in line %u", source,
                         *given_at);
    *given_at = item->line;
    bool is_text = row->type == OPTION_TEXT || row->type == OPTION_LIST;
    if (!in->seen[row - in->table->rows])
        return option_set(row, source, is_text ? option_keep(item->value) : item->value, err);

    /* Even what a flag overrules must be right: it counts on the day the flag is left out. */
    option_list list = {0};
    union {
        bool flag;
        uint32_t u32;
        uint64_t u64;
        double f64;
        const char *text;
    } scalar;
    option_row trial = *row;
    trial.target = row->type == OPTION_LIST ? (void *)&list : (void *)&scalar;
    return option_set(&trial, source, item->value, err);
}

static status read_section(reading *in, char *text, size_t size, error *err)
{
    ini_reader reader;
    ini_item item;
    bool inside = false, any = false;
    status st = ini_begin(&reader, in->path, text, size, err);
    while (st == ST_OK && (st = ini_next(&reader, &item, err)) == ST_OK && item.kind != INI_END) {
        if (item.kind == INI_SECTION) {
            st = check_section(in->table, in->path, &item, err);
            inside = st == ST_OK && strcmp(item.name, in->section) == 0;
            any = true;
        } else if (!any) {
            st =
                error_set(err, ST_INVALID_ARGUMENT, "%s line %u: %.80s stands before any [section]",
                          in->path, item.line, item.name);
        } else if (inside) {
            st = read_setting(in, &item, err);
        }
    }
    return st;
}

static bool shares_rows(const option_table *table)
{
    for (size_t i = 0; i < table->row_count; i++)
        if (table->rows[i].shared) return true;
    return false;
}

status option_read_text(const option_table *table, const char *path, const char *text, size_t size,
                        const bool *seen, error *err)
{
    bool taken[OPTION_ROWS_MAX];
    memcpy(taken, seen, table->row_count * sizeof *taken);
    const char *const sections[] = {table->section,
                                    shares_rows(table) ? table->shared_section : NULL};
    status st = ST_OK;
    for (int i = 0; st == ST_OK && i < 2 && sections[i] != NULL; i++) {
        reading in = {
            .table = table, .path = path, .section = sections[i], .shared = i == 1, .seen = taken};
        char *copy = mem_copy(text, size + 1); /* the reader writes into it */
        st = read_section(&in, copy, size, err);
        mem_free(copy);
        for (size_t row = 0; row < table->row_count; row++)
            taken[row] |= in.given_at[row] != 0;
    }
    return st;
}

status option_read_file(const option_table *table, const char *path, const bool *seen, error *err)
{
    char *text;
    size_t size;
    status st = file_read(&text, &size, path, LIMIT_OPTIONS_FILE_BYTES, err);
    if (st != ST_OK) return st;
    st = option_read_text(table, path, text, size, seen, err);
    mem_free(text);
    return st;
}
