/* health_socket: where `gaggle health` asks a worker how it is.
 *
 * A worker has no listener on any network. This one is a Unix socket with an abstract name: it lies
 * in no folder, so a read-only file system is enough; it is reached from the worker's own network
 * namespace only (its container, its pod); and it is gone the moment the process is. Who connects
 * is told one line, made then by the loop, and the connection is closed: a loop that does not turn
 * tells nothing, so no old news is ever read. Nothing is read from callers, and nobody is waited
 * for. Loop thread. */
#ifndef GAGGLE_WORKER_HEALTH_SOCKET_H
#define GAGGLE_WORKER_HEALTH_SOCKET_H

#include <uv.h>

#include "common/limits.h"
#include "common/status.h"

typedef struct health_socket health_socket;

/* Writes what a caller is told: a text without the line's end. */
typedef void (*health_line)(void *ctx, char out[LIMIT_HEALTH_LINE_BYTES]);

/* `name`: 1 to LIMIT_HEALTH_NAME_BYTES bytes. ST_INVALID_ARGUMENT: it is not; ST_ALREADY_EXISTS:
 * another process has it. */
MUST_USE status health_socket_open(health_socket **out, uv_loop_t *loop, const char *name,
                                   health_line line, void *ctx, error *err);

/* It frees itself when the loop has closed it. NULL is fine. */
void health_socket_close(health_socket *h);

#endif
