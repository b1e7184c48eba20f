#include "common/ini.h"

#include <stdbool.h>
#include <string.h>

static const char spaces[] = " \t";

/* Without the white space at both ends; writes a NUL behind the rest. */
static char *trimmed(char *text)
{
    text += strspn(text, spaces);
    size_t size = strlen(text);
    while (size > 0 && strchr(spaces, text[size - 1]) != NULL)
        size--;
    text[size] = '\0';
    return text;
}

status ini_begin(ini_reader *r, const char *file, char *text, size_t size, error *err)
{
    *r = (ini_reader){.file = file, .rest = text};
    if (strlen(text) == size) return ST_OK;
    return error_set(err, ST_INVALID_ARGUMENT, "%s is not text: byte %zu is NUL", file,
                     strlen(text));
}

static status refuse(const ini_reader *r, error *err, const char *why)
{
    return error_set(err, ST_INVALID_ARGUMENT, "%s line %u: %s", r->file, r->line, why);
}

/* Tabs stand between words; whatever else is invisible could hide what a line says. */
static bool has_control_character(const char *text)
{
    for (; *text != '\0'; text++)
        if (((unsigned char)*text < ' ' && *text != '\t') || *text == 0x7f) return true;
    return false;
}

static status cut_section(ini_reader *r, char *line, ini_item *out, error *err)
{
    size_t size = strlen(line);
    if (line[size - 1] != ']') return refuse(r, err, "a section ends with ']'");
    line[size - 1] = '\0';
    char *name = trimmed(line + 1);
    if (*name == '\0') return refuse(r, err, "the section has no name");
    *out = (ini_item){INI_SECTION, r->line, name, NULL};
    return ST_OK;
}

static status cut_setting(ini_reader *r, char *line, ini_item *out, error *err)
{
    char *equals = strchr(line, '=');
    if (equals == NULL)
        return refuse(r, err, "neither '[section]' nor 'setting = value' nor '# comment'");
    *equals = '\0';
    char *name = trimmed(line);
    if (*name == '\0') return refuse(r, err, "nothing stands before '='");
    *out = (ini_item){INI_SETTING, r->line, name, trimmed(equals + 1)};
    return ST_OK;
}

status ini_next(ini_reader *r, ini_item *out, error *err)
{
    while (r->rest != NULL && *r->rest != '\0') {
        char *line = strsep(&r->rest, "\n");
        r->line++;
        size_t size = strlen(line);
        if (size > 0 && line[size - 1] == '\r') line[size - 1] = '\0';
        line = trimmed(line);
        if (*line == '\0' || *line == '#') continue;
        if (has_control_character(line)) return refuse(r, err, "a control character is in it");
        return *line == '[' ? cut_section(r, line, out, err) : cut_setting(r, line, out, err);
    }
    *out = (ini_item){INI_END, r->line, "", ""};
    return ST_OK;
}
