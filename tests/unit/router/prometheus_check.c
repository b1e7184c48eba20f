#include "prometheus_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "proto/envelope.h"

typedef struct checker {
    char *line;
    unsigned number;
    char *helped[4096], *typed[4096]; /* families, in order */
    size_t helped_count, typed_count;
    char type[16]; /* of the last family */
    char **series; /* name and labels of every sample */
    size_t series_count, series_capacity;
    /* Of the histogram series under way: */
    char *bucket_labels;
    double le, value;
    bool infinite;
} checker;

#define EXPECT(k, condition)                                                                       \
    do {                                                                                           \
        if (!(condition)) fail_msg("line %u: %s: %s", (k)->number, #condition, (k)->line);         \
    } while (0)

static size_t name_size(const char *text, bool colons)
{
    size_t size = 0;
    for (; text[size] != '\0'; size++) {
        char c = text[size];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        bool digit = c >= '0' && c <= '9' && size > 0;
        if (!letter && !digit && !(colons && c == ':')) break;
    }
    return size;
}

static bool is_known(char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

static void check_comment(checker *k)
{
    bool help = strncmp(k->line, "# HELP ", 7) == 0;
    EXPECT(k, help || strncmp(k->line, "# TYPE ", 7) == 0);
    char *name = k->line + 7;
    size_t size = name_size(name, true);
    EXPECT(k, size > 0 && name[size] == ' ' && name[size + 1] != '\0');
    char *copy = mem_strndup(name, size);
    if (help) {
        EXPECT(k, !is_known(k->helped, k->helped_count, copy));
        EXPECT(k, k->helped_count == k->typed_count); /* its type follows at once */
        EXPECT(k, k->helped_count < sizeof k->helped / sizeof *k->helped);
        k->helped[k->helped_count++] = copy;
        return;
    }
    EXPECT(k, k->helped_count == k->typed_count + 1);
    EXPECT(k, strcmp(k->helped[k->helped_count - 1], copy) == 0);
    k->typed[k->typed_count++] = copy;
    snprintf(k->type, sizeof k->type, "%s", name + size + 1);
    EXPECT(k, strcmp(k->type, "counter") == 0 || strcmp(k->type, "gauge") == 0 ||
                  strcmp(k->type, "histogram") == 0);
    size_t total = size > 6 && strcmp(copy + size - 6, "_total") == 0;
    EXPECT(k, (strcmp(k->type, "counter") == 0) == (total == 1));
}

/* {a="x",b="y"}; returns its size, 0 without labels. *le is where the value of le begins. */
static size_t labels_size(checker *k, const char *text, const char **le)
{
    if (text[0] != '{') return 0;
    size_t at = 1;
    for (;;) {
        size_t size = name_size(text + at, false);
        EXPECT(k, size > 0 && strncmp(text + at + size, "=\"", 2) == 0);
        if (size == 2 && strncmp(text + at, "le", 2) == 0) *le = text + at + 4;
        at += size + 2;
        for (; text[at] != '"'; at++) {
            EXPECT(k, text[at] != '\0');
            if (text[at] != '\\') continue;
            at++;
            EXPECT(k, text[at] == '\\' || text[at] == '"' || text[at] == 'n');
        }
        at++;
        if (text[at] == '}') return at + 1;
        EXPECT(k, text[at] == ',');
        at++;
    }
}

static double number(checker *k, const char *text, const char **end)
{
    if (strncmp(text, "+Inf", 4) == 0) {
        *end = text + 4;
        return 1e300;
    }
    char *behind;
    double value = strtod(text, &behind);
    EXPECT(k, behind != text);
    *end = behind;
    return value;
}

/* Buckets of one label set come together, rise, and end with +Inf, which is the count. */
static void check_bucket(checker *k, const char *labels, const char *le, double value)
{
    EXPECT(k, le != NULL);
    const char *end;
    double bound = number(k, le, &end);
    EXPECT(k, *end == '"');
    size_t prefix = (size_t)(le - labels) - 4;
    bool first = k->bucket_labels == NULL;
    if (first) {
        k->bucket_labels = mem_strndup(labels, prefix);
    } else {
        EXPECT(k, strncmp(k->bucket_labels, labels, prefix) == 0);
        EXPECT(k, bound > k->le && value >= k->value && !k->infinite);
    }
    k->le = bound;
    k->value = value;
    k->infinite = bound > 1e299;
}

static void check_sample(checker *k)
{
    const char *name = k->line, *le = NULL, *end;
    size_t size = name_size(name, true);
    size_t labels = labels_size(k, name + size, &le);
    EXPECT(k, size > 0 && name[size + labels] == ' ');
    double value = number(k, name + size + labels + 1, &end);
    EXPECT(k, *end == '\0');
    EXPECT(k, value >= 0);

    EXPECT(k, k->typed_count > 0 && k->helped_count == k->typed_count);
    const char *family = k->typed[k->typed_count - 1];
    size_t family_size = strlen(family);
    EXPECT(k, strncmp(name, family, family_size) == 0);
    text_view suffix = {name + family_size, size - family_size};
    if (strcmp(k->type, "histogram") != 0) {
        EXPECT(k, suffix.size == 0 && le == NULL);
    } else if (text_equal(suffix, text_of("_bucket"))) {
        check_bucket(k, name + size, le, value);
    } else if (text_equal(suffix, text_of("_sum"))) {
        EXPECT(k, k->infinite);
    } else {
        EXPECT(k, text_equal(suffix, text_of("_count")) && k->infinite && value == k->value);
        mem_free(k->bucket_labels);
        k->bucket_labels = NULL;
        k->infinite = false;
    }
    if (k->series_count == k->series_capacity) {
        k->series_capacity = k->series_capacity * 2 + 64;
        k->series = mem_realloc(k->series, k->series_capacity * sizeof *k->series);
    }
    k->series[k->series_count++] = mem_strndup(name, size + labels);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

size_t prometheus_check(const char *page, size_t size)
{
    checker *k = mem_calloc(1, sizeof *k);
    assert_true(size > 0 && page[size - 1] == '\n');
    assert_int_equal(text_valid_size((text_view){page, size}), size);
    for (size_t at = 0; at < size;) {
        const char *end = memchr(page + at, '\n', size - at);
        k->line = mem_strndup(page + at, (size_t)(end - page) - at);
        k->number++;
        if (k->line[0] == '#') {
            EXPECT(k, k->bucket_labels == NULL);
            check_comment(k);
        } else {
            check_sample(k);
        }
        mem_free(k->line);
        at = (size_t)(end - page) + 1;
    }
    assert_true(k->helped_count == k->typed_count && k->bucket_labels == NULL);
    qsort(k->series, k->series_count, sizeof *k->series, compare);
    for (size_t i = 1; i < k->series_count; i++)
        if (strcmp(k->series[i - 1], k->series[i]) == 0)
            fail_msg("twice on the page: %s", k->series[i]);
    size_t count = k->series_count;
    for (size_t i = 0; i < count; i++)
        mem_free(k->series[i]);
    for (size_t i = 0; i < k->typed_count; i++) {
        mem_free(k->helped[i]);
        mem_free(k->typed[i]);
    }
    mem_free(k->series);
    mem_free(k);
    return count;
}

double prometheus_value(const char *page, size_t size, const char *series)
{
    size_t length = strlen(series);
    for (size_t at = 0; at < size;) {
        const char *end = memchr(page + at, '\n', size - at);
        assert_non_null(end);
        if ((size_t)(end - page) - at > length && strncmp(page + at, series, length) == 0 &&
            page[at + length] == ' ')
            return strtod(page + at + length + 1, NULL);
        at = (size_t)(end - page) + 1;
    }
    fail_msg("not on the page: %s", series);
    return 0;
}
