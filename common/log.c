#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *program_name = "gaggle";
static log_level level_max = LOG_INFO;
static const char *const level_names[] = {"error", "warn", "info", "debug"};

enum { LINE_SIZE = 2048 };

void log_init(const char *program, log_level level)
{
    program_name = program;
    level_max = level;
}

int log_level_parse(const char *name)
{
    for (int i = 0; i < 4; i++)
        if (strcmp(name, level_names[i]) == 0) return i;
    return -1;
}

/* A foreign string in a message must not forge a second line, nor speak to the terminal. */
static void neutralise(char *line, size_t size)
{
    unsigned char *at = (unsigned char *)line;
    for (size_t i = 0; i < size; i++) {
        if (at[i] < 0x20 || at[i] == 0x7f) at[i] = ' ';
        /* U+0080 to U+009F are control characters, too: U+009B begins a sequence like ESC [. */
        if (at[i] == 0xc2 && i + 1 < size && at[i + 1] >= 0x80 && at[i + 1] <= 0x9f)
            at[i] = at[i + 1] = ' ';
    }
}

void log_line(log_level level, const char *format, ...)
{
    if (level > level_max) return;
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    char line[LINE_SIZE];
    size_t used = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    used += (size_t)snprintf(line + used, sizeof line - used, ".%03ldZ %-5s %s  ",
                             now.tv_nsec / 1000000, level_names[level], program_name);
    va_list args;
    va_start(args, format);
    int wrote = vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    if (wrote > 0) used += (size_t)wrote;
    if (used > sizeof line - 2) used = sizeof line - 2;
    neutralise(line, used);
    line[used++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, used);
    (void)ignored;
}
