#include "client/doctor/findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/mem.h"

const char *finding_level_name(finding_level level)
{
    static const char *const names[] = {"ok", "warn", "FAIL"};
    return names[level];
}

static void make_printable(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c != '\0'; c++)
        if (*c < 0x20 || *c == 0x7f || (*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0)) *c = '?';
}

static void format_into(char *out, size_t size, const char *format, va_list args)
{
    vsnprintf(out, size, format, args);
    make_printable(out);
}

void finding_add(findings *f, finding_level level, const char *check, const char *format, ...)
{
    f->items = mem_realloc(f->items, (f->count + 1) * sizeof *f->items);
    finding *added = &f->items[f->count++];
    *added = (finding){.level = level};
    snprintf(added->check, sizeof added->check, "%s", check);
    make_printable(added->check);
    va_list args;
    va_start(args, format);
    format_into(added->text, sizeof added->text, format, args);
    va_end(args);
}

void finding_advise(findings *f, const char *format, ...)
{
    CHECK(f->count > 0 && f->items[f->count - 1].level != FINDING_OK);
    finding *last = &f->items[f->count - 1];
    va_list args;
    va_start(args, format);
    format_into(last->advice, sizeof last->advice, format, args);
    va_end(args);
}

finding_level findings_worst(const findings *f)
{
    finding_level worst = FINDING_OK;
    for (size_t i = 0; i < f->count; i++)
        if (f->items[i].level > worst) worst = f->items[i].level;
    return worst;
}

bool findings_complete(const findings *f)
{
    for (size_t i = 0; i < f->count; i++)
        if ((f->items[i].level == FINDING_OK) != (f->items[i].advice[0] == '\0')) return false;
    return true;
}

void findings_free(findings *f)
{
    mem_free(f->items);
    *f = (findings){0};
}
