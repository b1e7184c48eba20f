#include "common/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#undef error_set /* the analyzer's */
#undef error_prefix

static const char *const names[STATUS_COUNT] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

const char *status_name(status st)
{
    return (unsigned)st < STATUS_COUNT ? names[st] : "UNKNOWN";
}

status error_set(error *err, status code, const char *format, ...)
{
    if (err == NULL) return code;
    err->code = code;
    err->retry_after_ms = 0;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    return code;
}

status error_prefix(error *err, status st, const char *format, ...)
{
    if (err == NULL) return st;
    char sentence[ERROR_TEXT_SIZE];
    memcpy(sentence, err->text, sizeof sentence);
    va_list args;
    va_start(args, format);
    int wrote = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    size_t used = wrote < 0 ? 0 : (size_t)wrote;
    if (used > sizeof err->text - 3) used = sizeof err->text - 3;
    size_t room = sizeof err->text - used - 3;
    size_t kept = strnlen(sentence, room);
    memcpy(err->text + used, ": ", 2);
    memcpy(err->text + used + 2, sentence, kept);
    err->text[used + 2 + kept] = '\0';
    return err->code;
}
