/* log: one event, one line, on stderr.
 *
 *   2026-01-31T12:00:00.123Z info  router  listening url=tcp://127.0.0.1:7400
 *
 * The message is the event followed by key=value pairs; a line about a request starts
 * with its id. stdout is for data and is never written here. Any thread; a line is
 * written by one write(2) and so never interleaves. */
#ifndef GAGGLE_COMMON_LOG_H
#define GAGGLE_COMMON_LOG_H

typedef enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG } log_level;

/* `program` (a literal) heads every line. Call once, before other threads start.
 * Lines above `level` are dropped. Default: "gaggle", LOG_INFO. */
void log_init(const char *program, log_level level);

/* "error", "warn", "info" or "debug"; -1 for anything else. */
int log_level_parse(const char *name);

void log_line(log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
