#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/mem.h"
#include "common/options_internal.h"

/* -- units ------------------------------------------------------------------------------ */

typedef struct unit {
    const char *name;
    uint64_t factor;
} unit;

static const unit sizes[] = {
    {"K", 1ull << 10}, {"M", 1ull << 20}, {"G", 1ull << 30}, {"T", 1ull << 40}, {NULL, 0}};
static const unit times[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {NULL, 0}};

static const unit *find_unit(option_type type, const char *name)
{
    const unit *all = type == OPTION_U64 ? sizes : type == OPTION_MS ? times : NULL;
    for (const unit *u = all; u != NULL && u->name != NULL; u++)
        if (strcasecmp(u->name, name) == 0) return u;
    return NULL;
}

/* A time in its largest unit that keeps it whole: 90000 -> "90s". */
static void write_number(const option_row *row, double value, char *out, size_t size)
{
    const unit *best = NULL;
    for (const unit *u = times; row->type == OPTION_MS && value > 0 && u->name != NULL; u++)
        if (fmod(value, (double)u->factor) == 0) best = u;
    if (best != NULL)
        snprintf(out, size, "%.10g%s", value / (double)best->factor, best->name);
    else
        snprintf(out, size, "%.10g", value);
}

bool option_range(const option_row *row, char *out, size_t size)
{
    if (row->min == 0 && row->max == 0) return false;
    char min[32], max[32];
    write_number(row, row->min, min, sizeof min);
    write_number(row, row->max, max, sizeof max);
    snprintf(out, size, "%s to %s", min, max);
    return true;
}

/* -- numbers ---------------------------------------------------------------------------- */

static status check_range(const option_row *row, const char *source, const char *text, double value,
                          error *err)
{
    char range[80];
    if (!option_range(row, range, sizeof range)) return ST_OK;
    if (value >= row->min && value <= row->max) return ST_OK;
    return error_set(err, ST_INVALID_ARGUMENT, "%s is %s; it must be %s", source, text, range);
}

static status parse_whole(const option_row *row, const char *source, const char *text,
                          uint64_t limit, uint64_t *out, error *err)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    bool fits = errno == 0;
    const unit *u = *end != '\0' ? find_unit(row->type, end) : NULL;
    if (u != NULL) {
        fits = fits && value <= UINT64_MAX / u->factor;
        value *= u->factor;
        end += strlen(u->name);
    }
    if (!isdigit((unsigned char)text[0]) || *end != '\0')
        return error_set(err, ST_INVALID_ARGUMENT, "%s is '%s'; it must be a whole number%s",
                         source, text,
                         row->type == OPTION_U64  ? " (K, M, G, T allowed)"
                         : row->type == OPTION_MS ? " of ms (or with a unit: ms, s, m, h)"
                                                  : "");
    if (fits && value <= limit) {
        *out = value;
        return check_range(row, source, text, (double)value, err);
    }
    status st = check_range(row, source, text, INFINITY, err);
    if (st != ST_OK) return st;
    return error_set(err, ST_INVALID_ARGUMENT, "%s is %s; it must be at most %llu%s", source, text,
                     (unsigned long long)limit, row->type == OPTION_MS ? "ms" : "");
}

static status set_real(const option_row *row, const char *source, const char *text, error *err)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value))
        return error_set(err, ST_INVALID_ARGUMENT, "%s is '%s'; it must be a number", source, text);
    status st = check_range(row, source, text, value, err);
    if (st == ST_OK) *(double *)row->target = value;
    return st;
}

/* -- the others ------------------------------------------------------------------------- */

typedef struct kept_text {
    struct kept_text *next;
    char text[];
} kept_text;

static kept_text *kept;

const char *option_keep(const char *text)
{
    for (const kept_text *k = kept; k != NULL; k = k->next)
        if (strcmp(k->text, text) == 0) return k->text;
    size_t size = strlen(text) + 1;
    kept_text *k = mem_alloc(sizeof *k + size);
    memcpy(k->text, text, size);
    k->next = kept;
    kept = k;
    return k->text;
}

void option_forget_kept(void)
{
    while (kept != NULL) {
        kept_text *next = kept->next;
        mem_free(kept);
        kept = next;
    }
}

static status set_flag(const option_row *row, const char *source, const char *text, error *err)
{
    static const char *const words[] = {"0", "1", "false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(text, words[i]) != 0) continue;
        *(bool *)row->target = i % 2 == 1;
        return ST_OK;
    }
    return error_set(err, ST_INVALID_ARGUMENT, "%s is '%s'; it must be true or false", source,
                     text);
}

/* "error, warn, info or debug" */
static void write_choices(const option_row *row, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; row->choices[i] != NULL && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s",
                                 i == 0                        ? ""
                                 : row->choices[i + 1] == NULL ? " or "
                                                               : ", ",
                                 row->choices[i]);
}

static status set_text(const option_row *row, const char *source, const char *text, error *err)
{
    size_t i = 0;
    while (row->choices != NULL && row->choices[i] != NULL && strcmp(text, row->choices[i]) != 0)
        i++;
    if (row->choices != NULL && row->choices[i] == NULL) {
        char choices[160];
        write_choices(row, choices, sizeof choices);
        return error_set(err, ST_INVALID_ARGUMENT, "%s is '%s'; it must be %s", source, text,
                         choices);
    }
    *(const char **)row->target = text;
    return ST_OK;
}

static status add_item(const option_row *row, const char *source, const char *text, error *err)
{
    option_list *list = row->target;
    if (list->count == OPTION_LIST_MAX)
        return error_set(err, ST_INVALID_ARGUMENT, "%s is given more than %d times", source,
                         OPTION_LIST_MAX);
    list->items[list->count++] = text;
    return ST_OK;
}

status option_set(const option_row *row, const char *source, const char *text, error *err)
{
    uint64_t whole = 0;
    status st;
    switch (row->type) {
    case OPTION_FLAG:
        return set_flag(row, source, text, err);
    case OPTION_U32:
    case OPTION_MS:
        st = parse_whole(row, source, text, UINT32_MAX, &whole, err);
        if (st == ST_OK) *(uint32_t *)row->target = (uint32_t)whole;
        return st;
    case OPTION_U64:
        st = parse_whole(row, source, text, UINT64_MAX, &whole, err);
        if (st == ST_OK) *(uint64_t *)row->target = whole;
        return st;
    case OPTION_F64:
        return set_real(row, source, text, err);
    case OPTION_TEXT:
        return set_text(row, source, text, err);
    case OPTION_LIST:
        return add_item(row, source, text, err);
    }
    UNREACHABLE("option type");
}

/* -- reading again ----------------------------------------------------------------------- */

static size_t target_size(option_type type)
{
    switch (type) {
    case OPTION_FLAG:
        return sizeof(bool);
    case OPTION_U32:
    case OPTION_MS:
        return sizeof(uint32_t);
    case OPTION_U64:
        return sizeof(uint64_t);
    case OPTION_F64:
        return sizeof(double);
    case OPTION_TEXT:
        return sizeof(const char *);
    case OPTION_LIST:
        return sizeof(option_list);
    }
    UNREACHABLE("option type");
}

static bool same_text(const char *a, const char *b)
{
    if (a == NULL || b == NULL) return a == b;
    return strcmp(a, b) == 0;
}

static bool same_value(const option_row *a, const option_row *b)
{
    if (a->type == OPTION_TEXT)
        return same_text(*(const char **)a->target, *(const char **)b->target);
    if (a->type != OPTION_LIST) return memcmp(a->target, b->target, target_size(a->type)) == 0;
    const option_list *x = a->target, *y = b->target;
    if (x->count != y->count) return false;
    for (size_t i = 0; i < x->count; i++)
        if (!same_text(x->items[i], y->items[i])) return false;
    return true;
}

static void add_name(char names[OPTIONS_NAMES_BYTES], const char *name)
{
    size_t used = strlen(names);
    snprintf(names + used, OPTIONS_NAMES_BYTES - used, "%s%s", used > 0 ? "," : "", name);
}

void options_reload(const option_table *running, const option_table *next, option_changes *changes)
{
    CHECK(running->row_count == next->row_count);
    *changes = (option_changes){0};
    for (size_t i = 0; i < running->row_count; i++) {
        const option_row *old = &running->rows[i], *new = &next->rows[i];
        CHECK(strcmp(old->name, new->name) == 0 && old->type == new->type);
        if (same_value(old, new)) continue;
        add_name(old->reloadable ? changes->applied : changes->needs_restart, old->name);
        if (old->reloadable) memcpy(old->target, new->target, target_size(old->type));
    }
}
