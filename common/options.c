#include "common/options.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/mem.h"
#include "common/options_internal.h"

extern char **environ;

#define ENVIRONMENT_PREFIX "GAGGLE_"

typedef struct parsing {
    const option_table *table;
    bool seen[OPTION_ROWS_MAX]; /* set by a flag or the environment */
    const char *config;         /* --config; NULL: not given */
} parsing;

/* -- names ------------------------------------------------------------------------------ */

void option_environment_name(const char *name, char out[OPTION_NAME_SIZE + 8])
{
    snprintf(out, OPTION_NAME_SIZE + 8, ENVIRONMENT_PREFIX "%s", name);
    for (char *at = out; *at != '\0'; at++)
        *at = (char)(*at == '-' ? '_' : toupper((unsigned char)*at));
}

static size_t edit_distance(const char *a, const char *b)
{
    size_t a_size = strlen(a), b_size = strlen(b);
    if (a_size >= OPTION_NAME_SIZE || b_size >= OPTION_NAME_SIZE) return OPTION_NAME_SIZE;
    size_t row[OPTION_NAME_SIZE];
    for (size_t j = 0; j <= b_size; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_size; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b_size];
}

const char *options_nearest(const char *typed, const char *const *names, size_t count)
{
    size_t nearest = count;
    size_t best = strlen(typed) / 3 + 2; /* further away than this is another word */
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(typed, names[i]);
        if (distance < best) {
            best = distance;
            nearest = i;
        }
    }
    if (nearest < count) return names[nearest];
    size_t size = strlen(typed);
    for (size_t i = 0; i < count && size >= 3; i++)
        if (strncmp(names[i], typed, size) == 0) return names[i];
    return NULL;
}

/* A letter too many, too few or wrong, or two that changed places. */
static bool is_one_slip(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b)
        a++, b++;
    size_t a_size = strlen(a), b_size = strlen(b);
    while (a_size > 0 && b_size > 0 && a[a_size - 1] == b[b_size - 1])
        a_size--, b_size--;
    if (a_size == 2 && b_size == 2) return a[0] == b[1] && a[1] == b[0];
    return a_size <= 1 && b_size <= 1 && a_size + b_size > 0;
}

const option_row *option_find(const option_table *table, const char *name)
{
    for (size_t i = 0; i < table->row_count; i++)
        if (strcmp(table->rows[i].name, name) == 0) return &table->rows[i];
    return NULL;
}

static const option_row *find_letter(const option_table *table, char letter)
{
    for (size_t i = 0; i < table->row_count; i++)
        if (table->rows[i].letter == letter) return &table->rows[i];
    return NULL;
}

const char *option_nearest_row(const option_table *table, const char *typed)
{
    const char *names[OPTION_ROWS_MAX];
    for (size_t i = 0; i < table->row_count; i++)
        names[i] = table->rows[i].name;
    return options_nearest(typed, names, table->row_count);
}

/* -- the environment --------------------------------------------------------------------- */

/* A variable that is nobody's may be another program's: only what a slip of the finger makes of one
 * of ours is taken for ours. */
static status check_environment(const option_table *table, error *err)
{
    for (char **entry = environ; *entry != NULL; entry++) {
        char typed[OPTION_NAME_SIZE + 8];
        size_t size = strcspn(*entry, "=");
        if (strncmp(*entry, ENVIRONMENT_PREFIX, sizeof ENVIRONMENT_PREFIX - 1) != 0) continue;
        if (size >= sizeof typed || (*entry)[size] == '\0' || (*entry)[size + 1] == '\0') continue;
        memcpy(typed, *entry, size);
        typed[size] = '\0';
        char name[OPTION_NAME_SIZE + 8], slipped[OPTION_NAME_SIZE + 8] = "";
        bool known = false;
        size_t count = table->row_count + (table->section != NULL ? 1 : 0);
        for (size_t i = 0; i < count && !known; i++) {
            option_environment_name(i < table->row_count ? table->rows[i].name : "config", name);
            known = strcmp(typed, name) == 0;
            if (!known && is_one_slip(typed, name)) memcpy(slipped, name, sizeof slipped);
        }
        if (!known && slipped[0] != '\0')
            return error_set(err, ST_INVALID_ARGUMENT,
                             "the environment has %s, which nothing reads; did you mean %s?", typed,
                             slipped);
    }
    return ST_OK;
}

/* For the rows that no flag has set: a flag wins. */
static status read_environment(parsing *p, error *err)
{
    for (size_t i = 0; i < p->table->row_count; i++) {
        if (p->seen[i]) continue;
        const option_row *row = &p->table->rows[i];
        char name[OPTION_NAME_SIZE + 8];
        option_environment_name(row->name, name);
        const char *value = getenv(name);
        if (value == NULL || *value == '\0') continue;
        p->seen[i] = true;
        status st = ST_OK;
        if (row->type != OPTION_LIST) {
            st = option_set(row, name, value, err);
        } else {
            char *rest = mem_strdup(value);
            char *pieces = rest;
            for (char *piece; st == ST_OK && (piece = strsep(&rest, ",")) != NULL;)
                if (*piece != '\0') st = option_set(row, name, option_keep(piece), err);
            mem_free(pieces);
        }
        if (st != ST_OK) return st;
    }
    return check_environment(p->table, err);
}

/* -- the command line --------------------------------------------------------------------- */

static status unknown_option(const option_table *table, const char *typed, error *err)
{
    option_row built_in[OPTION_BUILT_IN_ROWS];
    const char *names[OPTION_BUILT_IN_ROWS + 1];
    size_t count = option_built_in_rows(table, built_in);
    for (size_t i = 0; i < count; i++)
        names[i] = built_in[i].name;
    const char *own = option_nearest_row(table, typed);
    if (own != NULL) names[count++] = own;
    const char *nearest = options_nearest(typed, names, count);
    if (nearest == NULL)
        return error_set(err, ST_INVALID_ARGUMENT, "there is no option --%s; --help lists them",
                         typed);
    return error_set(err, ST_INVALID_ARGUMENT, "there is no option --%s; did you mean --%s?", typed,
                     nearest);
}

/* The value of a flag that needs one: behind its '=', attached to its letter, or the next argument.
 */
static status take_value(const char *source, const char *called, const char *attached, int argc,
                         char **argv, int *index, const char **out, error *err)
{
    if (attached == NULL && *index + 1 >= argc)
        return error_set(err, ST_INVALID_ARGUMENT, "%s needs a value: %s %s", source, source,
                         called);
    *out = attached != NULL ? attached : argv[++*index];
    return ST_OK;
}

/* One argument that begins with "--"; may take the next one as its value. */
static status parse_long(parsing *p, int argc, char **argv, int *index, error *err)
{
    char name[OPTION_NAME_SIZE];
    const char *typed = argv[*index] + 2;
    const char *equals = strchr(typed, '=');
    size_t size = equals != NULL ? (size_t)(equals - typed) : strlen(typed);
    if (size >= sizeof name)
        return error_set(err, ST_INVALID_ARGUMENT, "there is no option %.80s", argv[*index]);
    memcpy(name, typed, size);
    name[size] = '\0';

    char source[OPTION_NAME_SIZE + 2];
    snprintf(source, sizeof source, "--%s", name);
    const char *attached = equals != NULL ? equals + 1 : NULL, *value = NULL;
    if (p->table->section != NULL && strcmp(name, "config") == 0)
        return take_value(source, "FILE", attached, argc, argv, index, &p->config, err);
    const option_row *row = option_find(p->table, name);
    if (row == NULL && strncmp(name, "no-", 3) == 0) {
        row = option_find(p->table, name + 3);
        if (row != NULL && row->type == OPTION_FLAG && equals == NULL) {
            *(bool *)row->target = false;
            p->seen[row - p->table->rows] = true;
            return ST_OK;
        }
        row = NULL;
    }
    if (row == NULL) return unknown_option(p->table, name, err);
    p->seen[row - p->table->rows] = true;
    if (row->type == OPTION_FLAG && attached == NULL) {
        *(bool *)row->target = true;
        return ST_OK;
    }
    status st = take_value(source, row->value, attached, argc, argv, index, &value, err);
    return st == ST_OK ? option_set(row, source, value, err) : st;
}

/* "-v", "-mDIR" or "-m DIR". */
static status parse_letter(parsing *p, int argc, char **argv, int *index, error *err)
{
    const char *typed = argv[*index];
    const option_row *row = find_letter(p->table, typed[1]);
    if (row == NULL)
        return error_set(err, ST_INVALID_ARGUMENT, "there is no option -%c; --help lists them",
                         typed[1]);
    p->seen[row - p->table->rows] = true;
    if (row->type == OPTION_FLAG && typed[2] == '\0') {
        *(bool *)row->target = true;
        return ST_OK;
    }
    const char source[3] = {'-', typed[1], '\0'}, *value = NULL;
    status st = take_value(source, row->value, typed[2] != '\0' ? typed + 2 : NULL, argc, argv,
                           index, &value, err);
    return st == ST_OK ? option_set(row, source, value, err) : st;
}

/* What prints and ends the program. */
static void answer_and_exit(const option_table *table, const char *flag)
{
    if (strcmp(flag, "--help") == 0 || (strcmp(flag, "-h") == 0 && find_letter(table, 'h') == NULL))
        option_print_help(table, false, stdout);
    else if (strcmp(flag, "--help-all") == 0)
        option_print_help(table, true, stdout);
    else if (strcmp(flag, "--man") == 0)
        options_print_man(table, stdout);
    else if (strcmp(flag, "--version") == 0)
        printf("gaggle %s\n", GAGGLE_VERSION);
    else
        return;
    exit(0);
}

static status parse_arguments(parsing *p, int argc, char **argv, int *rest, error *err)
{
    bool flags_over = false;
    *rest = 0;
    for (int i = 1; i < argc; i++) {
        char *arg = argv[i];
        if (flags_over || arg[0] != '-' || arg[1] == '\0') {
            argv[1 + (*rest)++] = arg;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            flags_over = true;
            continue;
        }
        answer_and_exit(p->table, arg);
        status st = arg[1] == '-' ? parse_long(p, argc, argv, &i, err)
                                  : parse_letter(p, argc, argv, &i, err);
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

/* -- all of it ----------------------------------------------------------------------------- */

static status read_config(const parsing *p, error *err)
{
    if (p->table->section == NULL) return ST_OK;
    const char *path = p->config != NULL ? p->config : getenv(ENVIRONMENT_PREFIX "CONFIG");
    if (path == NULL || *path == '\0') return ST_OK;
    return option_read_file(p->table, path, p->seen, err);
}

status options_parse(const option_table *table, int argc, char **argv, int *rest_count, error *err)
{
    parsing p = {.table = table};
    CHECK(table->row_count <= OPTION_ROWS_MAX);
    int rest;
    status st = parse_arguments(&p, argc, argv, &rest, err);
    if (st == ST_OK) st = read_environment(&p, err);
    if (st == ST_OK) st = read_config(&p, err);
    if (st != ST_OK) return st;
    if (rest_count != NULL) {
        *rest_count = rest;
    } else if (rest > 0) {
        return error_set(err, ST_INVALID_ARGUMENT, "'%s' is not expected here; --help shows usage",
                         argv[1]);
    }
    return ST_OK;
}
