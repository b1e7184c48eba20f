#include "client/cli/connect_notebook.h"

#include <jansson.h>
#include <string.h>

#include "common/check.h"
#include "common/mem.h"

/* The files themselves, so that there is one text of each notebook only. */
#define EMBED(name, path)                                                                          \
    __asm__(".section .rodata\n" #name ":\n.incbin \"" path "\"\n" #name "_end:\n.previous")

extern const char embedded_kaggle[], embedded_kaggle_end[];
extern const char embedded_colab[], embedded_colab_end[];
EMBED(embedded_kaggle, GAGGLE_DEPLOY_DIR "/kaggle/gaggle.ipynb");
EMBED(embedded_colab, GAGGLE_DEPLOY_DIR "/colab/gaggle.ipynb");

static json_t *load(notebook which)
{
    const char *text = which == NOTEBOOK_KAGGLE ? embedded_kaggle : embedded_colab;
    const char *end = which == NOTEBOOK_KAGGLE ? embedded_kaggle_end : embedded_colab_end;
    json_t *book = json_loadb(text, (size_t)(end - text), 0, NULL);
    CHECK(book != NULL);
    return book;
}

static bool is_code(const json_t *cell)
{
    return strcmp(json_string_value(json_object_get(cell, "cell_type")), "code") == 0;
}

/* `NAME = "old"  # what it is` -> `NAME = "new"  # what it is`. A JSON string is a Python one. */
static json_t *line_with_value(const char *line, const notebook_setting *setting)
{
    json_t *value = json_string(setting->value);
    CHECK(value != NULL); /* argv and files were checked for UTF-8 */
    char *literal = json_dumps(value, JSON_ENCODE_ANY);
    const char *rest = strstr(line, "  # ");
    CHECK(literal != NULL && rest != NULL);
    json_t *filled = json_sprintf("%s = %s%s", setting->name, literal, rest);
    CHECK(filled != NULL);
    free(literal);
    json_decref(value);
    return filled;
}

static void fill(json_t *lines, const notebook_setting *setting)
{
    size_t size = strlen(setting->name), at;
    bool found = false;
    json_t *line;
    json_array_foreach(lines, at, line)
    {
        const char *text = json_string_value(line);
        if (strncmp(text, setting->name, size) != 0 || strncmp(text + size, " = ", 3) != 0)
            continue;
        CHECK(json_array_set_new(lines, at, line_with_value(text, setting)) == 0);
        found = true;
    }
    CHECK(found);
}

static void print_lines(FILE *out, const json_t *lines)
{
    size_t at;
    json_t *line;
    json_array_foreach(lines, at, line) fputs(json_string_value(line), out);
    fputc('\n', out);
}

void notebook_print(FILE *out, notebook which, const notebook_setting *settings, size_t count,
                    bool whole)
{
    json_t *book = load(which);
    json_t *cell;
    size_t at;
    bool is_first = true;
    json_array_foreach(json_object_get(book, "cells"), at, cell)
    {
        if (!is_code(cell)) continue;
        json_t *lines = json_object_get(cell, "source");
        for (size_t i = 0; is_first && i < count; i++)
            fill(lines, &settings[i]);
        if (!whole && !is_first) fputc('\n', out);
        if (!whole) print_lines(out, lines);
        is_first = false;
    }
    if (whole) {
        json_dumpf(book, out, JSON_INDENT(1));
        fputc('\n', out);
    }
    json_decref(book);
}
