/* log: one event, one line, on stderr, as text for people or as JSON for machines.
 *
 *   log_info("request=%s placed worker=%s waiting=%u", id, worker, waiting);
 *
 *   2026-01-31T12:00:00.123Z info  router  request=5f.. placed worker=lab-cuda1 waiting=3
 *   {"time":"2026-01-31T12:00:00.123Z","level":"info","program":"router","event":"placed",
 *    "request":"5f..","worker":"lab-cuda1","waiting":3}
 *
 * The format is words with one space between them. A word key=value is a field: the key is of a-z,
 * 0-9 and '_', the value ends at the next space, or when it begins with a quote, at the next quote.
 * All other words, in their order, are the event. It is the format that decides, never what a
 * conversion prints: a text from outside cannot make up a field, a line or a terminal's command.
 * Values with spaces or quotes are quoted as they need it; one integer or real alone is a number in
 * JSON; bytes that are not UTF-8 become U+FFFD. A line too long is cut, and is still JSON.
 *
 * A line about a request starts with its id. stdout is for data and is never written here. Any
 * thread; a line is written by one write(2) and so never interleaves. */
#ifndef GAGGLE_COMMON_LOG_H
#define GAGGLE_COMMON_LOG_H

typedef enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG } log_level;
typedef enum log_format { LOG_TEXT, LOG_JSON } log_format;

/* "error", "warn", "info", "debug"; "text", "json": in the order of the enums, ended by NULL. */
extern const char *const log_level_names[];
extern const char *const log_format_names[];

/* `program` (a literal) heads every line. Call once, before other threads start.
 * Lines above `level` are dropped. Default: "gaggle", LOG_INFO. */
void log_init(const char *program, log_level level);
/* From now on, in every thread. */
void log_set(log_level level, log_format format);

/* The number of a name; -1 for anything else. */
int log_level_parse(const char *name);
int log_format_parse(const char *name);

void log_line(log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* The last words of a program that cannot start or go on: "gaggle-router: sentence", or in JSON a
 * line like any other. */
void log_farewell(const char *command, const char *sentence);

#endif
