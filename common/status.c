#include "common/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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
    char context[ERROR_TEXT_SIZE];
    char sentence[ERROR_TEXT_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    memcpy(sentence, err->text, sizeof sentence);
    size_t used = strlen(context);
    if (used > sizeof err->text - 3) used = sizeof err->text - 3;
    memcpy(err->text, context, used);
    snprintf(err->text + used, sizeof err->text - used, ": %s", sentence);
    return err->code;
}
