/* traceparent: the W3C trace context's header value, which names the trace a request belongs to.
 *
 *   00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
 *   version-trace id-parent id-flags
 *
 * Pure: any thread. */
#ifndef GAGGLE_COMMON_TRACEPARENT_H
#define GAGGLE_COMMON_TRACEPARENT_H

#include <stdbool.h>
#include <stddef.h>

enum { TRACEPARENT_SIZE = 55 }; /* of version 00, which we write; a later one may be longer */

typedef struct traceparent {
    char trace_id[33], parent_id[17]; /* hexadecimal, NUL-terminated */
    bool sampled;
} traceparent;

/* False: not a traceparent, and nothing is written; the standard has it ignored then, as if none
 * was sent. A version later than 00 is read as far as 00 goes. */
bool traceparent_parse(traceparent *out, const char *text, size_t size);

#endif
