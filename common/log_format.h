/* log_format: a log line's words and fields (log.h) as text or as JSON, without I/O. */
#ifndef GAGGLE_COMMON_LOG_FORMAT_H
#define GAGGLE_COMMON_LOG_FORMAT_H

#include <stdarg.h>
#include <stddef.h>

enum { LOG_LINE_BYTES = 2048 };

/* What heads every line. */
typedef struct log_head {
    const char *time, *level, *program;
} log_head;

/* Both write at most LOG_LINE_BYTES with the newline at the end, and return how many. */
size_t log_format_text(char line[LOG_LINE_BYTES], const log_head *head, const char *format,
                       va_list args);
size_t log_format_json(char line[LOG_LINE_BYTES], const log_head *head, const char *format,
                       va_list args);

#endif
