/* child: a program that runs under `gaggle up`.
 *
 * It is started, its first line on stdout (JSON) says that it is ready, its lines on stderr are
 * handed on, and it is started again with growing pauses when it dies after it was ready. It is in
 * a process group of its own, so that Ctrl-C reaches only us and we can stop things in order; and
 * it gets SIGTERM from the kernel should we die without a word. Loop thread. */
#ifndef GAGGLE_CLIENT_CLI_CHILD_H
#define GAGGLE_CLIENT_CLI_CHILD_H

#include <jansson.h>
#include <uv.h>

#include "common/mem.h"

enum { CHILD_ARGS_MAX = 24, CHILD_LINE_BYTES_MAX = 16384 };

typedef struct child child;

typedef struct child_handlers {
    void (*on_ready)(void *ctx, child *c, const json_t *line); /* each time it is started */
    void (*on_line)(void *ctx, child *c, const char *line);    /* of stderr */
    /* It died. `again_in_ms` 0: it will not be started again, because it was never ready or was
     * told to stop. */
    void (*on_exit)(void *ctx, child *c, const char *how, uint32_t again_in_ms);
} child_handlers;

struct child {
    const char *label; /* for people */
    uv_loop_t *loop;
    const child_handlers *handlers;
    void *ctx;
    char *args[CHILD_ARGS_MAX + 1];
    uv_process_t process;
    uv_pipe_t out, err;
    uv_timer_t pause;
    buffer out_line, err_line;
    int handles_open; /* process, out, err of the current run */
    bool running, ready, ever_ready, stopping, closed;
    uint32_t pause_ms;
    uint64_t started_ms;
    char how[64]; /* it ended */
};

/* `args` (ended by NULL; args[0] is the program's path) is copied. Starts it at once.
 * False: it could not be started; *why says so; nothing is left to undo. */
bool child_start(child *c, uv_loop_t *loop, const char *label, const char *const *args,
                 const child_handlers *handlers, void *ctx, const char **why);

/* Ask it to stop; on_exit follows, unless it is not running. No more restarts. */
void child_stop(child *c, int signal_number);

bool child_is_running(const child *c);

/* After its last on_exit: give everything back. */
void child_close(child *c);

/* What `gaggle __exec PARENT PROGRAM ARGS...` does in the new process. Does not return on success.
 */
int child_exec(int argc, char **argv);

#endif
