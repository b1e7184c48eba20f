#include "common/log.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/log_format.h"

const char *const log_level_names[] = {"error", "warn", "info", "debug", NULL};
const char *const log_format_names[] = {"text", "json", NULL};

static const char *program_name = "gaggle";
static _Atomic log_level level_max = LOG_INFO;
static _Atomic log_format format_chosen = LOG_TEXT;

void log_init(const char *program, log_level level)
{
    program_name = program;
    atomic_store_explicit(&level_max, level, memory_order_relaxed);
}

void log_set(log_level level, log_format format)
{
    atomic_store_explicit(&level_max, level, memory_order_relaxed);
    atomic_store_explicit(&format_chosen, format, memory_order_relaxed);
}

static int find_name(const char *const *names, const char *name)
{
    for (int i = 0; names[i] != NULL; i++)
        if (strcmp(name, names[i]) == 0) return i;
    return -1;
}

int log_level_parse(const char *name)
{
    return find_name(log_level_names, name);
}

int log_format_parse(const char *name)
{
    return find_name(log_format_names, name);
}

static void write_stderr(const char *bytes, size_t size)
{
    ssize_t ignored = write(STDERR_FILENO, bytes, size);
    (void)ignored;
}

void log_line(log_level level, const char *format, ...)
{
    if (level > atomic_load_explicit(&level_max, memory_order_relaxed)) return;
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    char time[48];
    size_t used = strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(time + used, sizeof time - used, ".%03ldZ", now.tv_nsec / 1000000);
    const log_head head = {time, log_level_names[level], program_name};

    char line[LOG_LINE_BYTES];
    va_list args;
    va_start(args, format);
    bool json = atomic_load_explicit(&format_chosen, memory_order_relaxed) == LOG_JSON;
    size_t size = json ? log_format_json(line, &head, format, args)
                       : log_format_text(line, &head, format, args);
    va_end(args);
    write_stderr(line, size);
}

void log_farewell(const char *command, const char *sentence)
{
    if (atomic_load_explicit(&format_chosen, memory_order_relaxed) == LOG_JSON)
        log_error("ended reason=\"%s\"", sentence);
    else
        fprintf(stderr, "%s: %s\n", command, sentence);
}
