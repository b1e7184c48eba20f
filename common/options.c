#include "common/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/mem.h"

enum { NAME_SIZE = 64, ROWS_MAX = 128 };

/* "max-num-seqs" -> "GAGGLE_MAX_NUM_SEQS" */
static void environment_name(const char *name, char out[NAME_SIZE + 8])
{
    snprintf(out, NAME_SIZE + 8, "GAGGLE_%s", name);
    for (char *at = out; *at != '\0'; at++)
        *at = (char)(*at == '-' ? '_' : toupper((unsigned char)*at));
}

static size_t edit_distance(const char *a, const char *b)
{
    size_t a_size = strlen(a), b_size = strlen(b);
    if (a_size >= NAME_SIZE || b_size >= NAME_SIZE) return NAME_SIZE;
    size_t row[NAME_SIZE];
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
    const char *nearest = NULL;
    size_t best = strlen(typed) / 3 + 2; /* further away than this is another word */
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(typed, names[i]);
        if (distance < best) {
            best = distance;
            nearest = names[i];
        }
    }
    return nearest;
}

static status check_range(const option_row *row, const char *source, const char *text, double value,
                          error *err)
{
    if (row->min == 0 && row->max == 0) return ST_OK;
    if (value >= row->min && value <= row->max) return ST_OK;
    return error_set(err, ST_INVALID_ARGUMENT, "%s is %s; it must be %.10g to %.10g", source, text,
                     row->min, row->max);
}

static status parse_whole(const option_row *row, const char *source, const char *text,
                          uint64_t limit, uint64_t *out, error *err)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    bool fits = errno == 0;
    if (row->type == OPTION_U64 && *end != '\0') {
        static const char suffixes[] = "KMGT";
        const char *suffix = strchr(suffixes, toupper((unsigned char)*end));
        if (suffix != NULL) {
            unsigned shift = 10u * (unsigned)(suffix - suffixes + 1);
            fits = fits && value <= UINT64_MAX >> shift;
            value <<= shift;
            end++;
        }
    }
    if (!isdigit((unsigned char)text[0]) || *end != '\0')
        return error_set(err, ST_INVALID_ARGUMENT, "%s is '%s'; it must be a whole number%s",
                         source, text, row->type == OPTION_U64 ? " (K, M, G, T allowed)" : "");
    if (fits && value <= limit) {
        *out = value;
        return check_range(row, source, text, (double)value, err);
    }
    status st = check_range(row, source, text, INFINITY, err);
    if (st != ST_OK) return st;
    return error_set(err, ST_INVALID_ARGUMENT, "%s is %s; it must be at most %llu", source, text,
                     (unsigned long long)limit);
}

static status list_add(const option_row *row, const char *source, const char *text, error *err)
{
    option_list *list = row->target;
    if (list->count == OPTION_LIST_MAX)
        return error_set(err, ST_INVALID_ARGUMENT, "%s is given more than %d times", source,
                         OPTION_LIST_MAX);
    list->items[list->count++] = text;
    return ST_OK;
}

/* `source` is what the user wrote: "--port" or "GAGGLE_PORT". */
static status set_value(const option_row *row, const char *source, const char *text, error *err)
{
    uint64_t whole = 0;
    status st;
    switch (row->type) {
    case OPTION_FLAG: {
        bool on = strcmp(text, "1") == 0 || strcmp(text, "true") == 0 || strcmp(text, "yes") == 0;
        bool off = strcmp(text, "0") == 0 || strcmp(text, "false") == 0 || strcmp(text, "no") == 0;
        if (!on && !off)
            return error_set(err, ST_INVALID_ARGUMENT, "%s is '%s'; it must be true or false",
                             source, text);
        *(bool *)row->target = on;
        return ST_OK;
    }
    case OPTION_U32:
        st = parse_whole(row, source, text, UINT32_MAX, &whole, err);
        if (st == ST_OK) *(uint32_t *)row->target = (uint32_t)whole;
        return st;
    case OPTION_U64:
        st = parse_whole(row, source, text, UINT64_MAX, &whole, err);
        if (st == ST_OK) *(uint64_t *)row->target = whole;
        return st;
    case OPTION_F64: {
        char *end;
        double value = strtod(text, &end);
        if (end == text || *end != '\0' || !isfinite(value))
            return error_set(err, ST_INVALID_ARGUMENT, "%s is '%s'; it must be a number", source,
                             text);
        st = check_range(row, source, text, value, err);
        if (st == ST_OK) *(double *)row->target = value;
        return st;
    }
    case OPTION_TEXT:
        *(const char **)row->target = text;
        return ST_OK;
    case OPTION_LIST:
        return list_add(row, source, text, err);
    }
    UNREACHABLE("option type");
    return ST_INTERNAL;
}

/* For the rows that no flag has set: a flag wins. */
static status read_environment(const option_table *table, const bool *seen, error *err)
{
    for (size_t i = 0; i < table->row_count; i++) {
        if (seen[i]) continue;
        const option_row *row = &table->rows[i];
        char name[NAME_SIZE + 8];
        environment_name(row->name, name);
        const char *value = getenv(name);
        if (value == NULL || *value == '\0') continue;
        if (row->type != OPTION_LIST) {
            status st = set_value(row, name, value, err);
            if (st != ST_OK) return st;
            continue;
        }
        /* The pieces must live as long as the process, like argv does. */
        char *pieces = mem_strdup(value);
        for (char *piece = strtok(pieces, ","); piece != NULL; piece = strtok(NULL, ",")) {
            status st = list_add(row, name, piece, err);
            if (st != ST_OK) return st;
        }
    }
    return ST_OK;
}

static const option_row *find_long(const option_table *table, const char *name)
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

static status unknown_option(const option_table *table, const char *typed, error *err)
{
    const char *names[ROWS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < table->row_count && count < ROWS_MAX; i++)
        names[count++] = table->rows[i].name;
    const char *nearest = options_nearest(typed, names, count);
    if (nearest == NULL)
        return error_set(err, ST_INVALID_ARGUMENT, "there is no option --%s; --help lists them",
                         typed);
    return error_set(err, ST_INVALID_ARGUMENT, "there is no option --%s; did you mean --%s?", typed,
                     nearest);
}

static void print_help(const option_table *table, FILE *out)
{
    fprintf(out, "usage: %s\n%s\n\n", table->usage, table->about);
    for (size_t i = 0; i < table->row_count; i++) {
        const option_row *row = &table->rows[i];
        char left[96];
        char letter[4] = {' ', ' ', ' ', '\0'};
        if (row->letter != 0) {
            letter[0] = '-';
            letter[1] = row->letter;
            letter[2] = ',';
        }
        snprintf(left, sizeof left, "%s --%s %s", letter, row->name,
                 row->value != NULL ? row->value : "");
        fprintf(out, "  %-31s %s\n", left, row->help);
    }
    fprintf(out, "      --help                      this text\n"
                 "      --version                   the version\n");
    if (table->epilogue != NULL) fprintf(out, "\n%s\n", table->epilogue);
}

/* One argument that begins with "--"; may take the next one as its value. */
static status parse_long(const option_table *table, int argc, char **argv, int *index, bool *seen,
                         error *err)
{
    char name[NAME_SIZE];
    const char *typed = argv[*index] + 2;
    const char *equals = strchr(typed, '=');
    size_t size = equals != NULL ? (size_t)(equals - typed) : strlen(typed);
    if (size >= sizeof name)
        return error_set(err, ST_INVALID_ARGUMENT, "there is no option %.80s", argv[*index]);
    memcpy(name, typed, size);
    name[size] = '\0';

    char source[NAME_SIZE + 2];
    snprintf(source, sizeof source, "--%s", name);
    const option_row *row = find_long(table, name);
    if (row == NULL && strncmp(name, "no-", 3) == 0) {
        row = find_long(table, name + 3);
        if (row != NULL && row->type == OPTION_FLAG && equals == NULL) {
            *(bool *)row->target = false;
            seen[row - table->rows] = true;
            return ST_OK;
        }
        row = NULL;
    }
    if (row == NULL) return unknown_option(table, name, err);
    seen[row - table->rows] = true;
    if (equals != NULL) return set_value(row, source, equals + 1, err);
    if (row->type == OPTION_FLAG) {
        *(bool *)row->target = true;
        return ST_OK;
    }
    if (*index + 1 >= argc)
        return error_set(err, ST_INVALID_ARGUMENT, "%s needs a value: %s %s", source, source,
                         row->value);
    return set_value(row, source, argv[++*index], err);
}

/* "-v", "-mDIR" or "-m DIR". */
static status parse_letter(const option_table *table, int argc, char **argv, int *index, bool *seen,
                           error *err)
{
    const char *typed = argv[*index];
    const option_row *row = find_letter(table, typed[1]);
    if (row == NULL)
        return error_set(err, ST_INVALID_ARGUMENT, "there is no option -%c; --help lists them",
                         typed[1]);
    seen[row - table->rows] = true;
    if (row->type == OPTION_FLAG && typed[2] == '\0') {
        *(bool *)row->target = true;
        return ST_OK;
    }
    char source[3] = {'-', typed[1], '\0'};
    if (typed[2] != '\0') return set_value(row, source, typed + 2, err);
    if (*index + 1 >= argc)
        return error_set(err, ST_INVALID_ARGUMENT, "%s needs a value: %s %s", source, source,
                         row->value);
    return set_value(row, source, argv[++*index], err);
}

status options_parse(const option_table *table, int argc, char **argv, int *rest_count, error *err)
{
    bool seen[ROWS_MAX] = {false};
    CHECK(table->row_count <= ROWS_MAX);
    status st = ST_OK;
    int rest = 0;
    bool flags_over = false;
    for (int i = 1; st == ST_OK && i < argc; i++) {
        char *arg = argv[i];
        if (flags_over || arg[0] != '-' || arg[1] == '\0') {
            argv[1 + rest++] = arg;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            flags_over = true;
            continue;
        }
        if (strcmp(arg, "--help") == 0 || (strcmp(arg, "-h") == 0 && !find_letter(table, 'h'))) {
            print_help(table, stdout);
            exit(0);
        }
        if (strcmp(arg, "--version") == 0) {
            printf("gaggle %s\n", GAGGLE_VERSION);
            exit(0);
        }
        st = arg[1] == '-' ? parse_long(table, argc, argv, &i, seen, err)
                           : parse_letter(table, argc, argv, &i, seen, err);
    }
    if (st == ST_OK) st = read_environment(table, seen, err);
    if (st != ST_OK) return st;
    if (rest_count != NULL) {
        *rest_count = rest;
    } else if (rest > 0) {
        return error_set(err, ST_INVALID_ARGUMENT, "'%s' is not expected here; --help shows usage",
                         argv[1]);
    }
    return ST_OK;
}
