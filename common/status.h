/* status: what every fallible function of gaggle returns.
 *
 * The numbers are gRPC's canonical codes, so that the code a function returns is
 * the code that travels on the wire and the code a user reads. Trouble from
 * outside (network, files, full queues, bad input) is a status. A bug in our own
 * code is not: it ends the process through CHECK() in check.h.
 *
 * Where a person will read the refusal, a function also takes an `error *` and
 * fills it with one sentence that names the field, the limit and the value. */
#ifndef GAGGLE_COMMON_STATUS_H
#define GAGGLE_COMMON_STATUS_H

#include <stdint.h>

typedef enum status {
    ST_OK = 0,
    ST_CANCELLED = 1,
    ST_UNKNOWN = 2,
    ST_INVALID_ARGUMENT = 3,
    ST_DEADLINE_EXCEEDED = 4,
    ST_NOT_FOUND = 5,
    ST_ALREADY_EXISTS = 6,
    ST_PERMISSION_DENIED = 7,
    ST_RESOURCE_EXHAUSTED = 8,
    ST_FAILED_PRECONDITION = 9,
    ST_ABORTED = 10,
    ST_OUT_OF_RANGE = 11,
    ST_UNIMPLEMENTED = 12,
    ST_INTERNAL = 13,
    ST_UNAVAILABLE = 14,
    ST_DATA_LOSS = 15,
    ST_UNAUTHENTICATED = 16,
} status;

#define STATUS_COUNT 17

/* A status that must be handled or passed up. */
#define MUST_USE __attribute__((warn_unused_result))

/* "OK", "INVALID_ARGUMENT", ...; "UNKNOWN" for a number outside the enum. */
const char *status_name(status st);

#define ERROR_TEXT_SIZE 512

/* A refusal as a person and a program see it. Plain value: copy freely. */
typedef struct error {
    status code;             /* ST_OK when nothing went wrong */
    uint32_t retry_after_ms; /* when waiting helps, how long; 0 = it does not */
    char text[ERROR_TEXT_SIZE];
} error;

/* Fill `err` (may be NULL) with a code and a sentence, and return the code, so that
 * a check reads `return error_set(err, ST_INVALID_ARGUMENT, "top_p must be ...")`.
 * A sentence longer than ERROR_TEXT_SIZE - 1 bytes is cut. Any thread. */
status error_set(error *err, status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "context: " in front of the sentence already in `err`, and return err->code
 * (`st` when err is NULL). */
status error_prefix(error *err, status st, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__
/* It reads one file at a time, and could not know that a refusal is never ST_OK. */
#define error_set(err, code, ...)  ((void)error_set(err, code, __VA_ARGS__), (code))
#define error_prefix(err, st, ...) ((void)error_prefix(err, st, __VA_ARGS__), (st))
#endif

#endif
