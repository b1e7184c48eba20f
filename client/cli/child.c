#include "client/cli/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"

enum { PAUSE_MS_FIRST = 500, PAUSE_MS_MAX = 30000, HEALTHY_MS = 60000 };

static bool spawn(child *c, const char **why);

/* -- lines ------------------------------------------------------------------------------ */

static void out_line(child *c, const char *line, size_t size)
{
    error err;
    json_t *json;
    if (json_parse(&json, line, size, c->label, &err) != ST_OK) return;
    if (json_is_true(json_object_get(json, "ready"))) {
        c->ready = c->ever_ready = true;
        c->handlers->on_ready(c->ctx, c, json);
    }
    json_decref(json);
}

static void err_line(child *c, const char *line, size_t size)
{
    (void)size;
    c->handlers->on_line(c->ctx, c, line);
}

/* Hand over every whole line; of one that has no end, as much as is kept. */
static void lines_take(child *c, buffer *b, void (*take)(child *c, const char *line, size_t size))
{
    for (;;) {
        if (b->size == 0) return;
        char *end = memchr(b->data, '\n', b->size);
        if (end == NULL && b->size < CHILD_LINE_BYTES_MAX) return;
        size_t size = end != NULL ? (size_t)(end - (char *)b->data) : b->size;
        char *line = mem_strndup((const char *)b->data, size);
        buffer_consume(b, end != NULL ? size + 1 : size);
        take(c, line, size);
        mem_free(line);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)handle;
    *out = uv_buf_init(mem_alloc(suggested), (unsigned)suggested);
}

/* -- the end of a run ---------------------------------------------------------------------- */

static void on_pause_over(uv_timer_t *timer)
{
    child *c = timer->data;
    const char *why;
    if (c->stopping || spawn(c, &why)) return;
    snprintf(c->how, sizeof c->how, "cannot be started: %s", why);
    c->handlers->on_exit(c->ctx, c, c->how, 0);
}

/* Process and pipes are gone: all it had to say was said. */
static void run_over(child *c)
{
    bool again = !c->stopping && c->ever_ready;
    if (c->ready && clock_now_ms() - c->started_ms >= HEALTHY_MS) c->pause_ms = 0;
    c->pause_ms = c->pause_ms == 0 ? PAUSE_MS_FIRST : 2 * c->pause_ms;
    if (c->pause_ms > PAUSE_MS_MAX) c->pause_ms = PAUSE_MS_MAX;
    c->running = c->ready = false;
    if (again) uv_timer_start(&c->pause, on_pause_over, c->pause_ms, 0);
    c->handlers->on_exit(c->ctx, c, c->how, again ? c->pause_ms : 0);
}

static void on_handle_closed(uv_handle_t *handle)
{
    child *c = handle->data;
    if (--c->handles_open == 0) run_over(c);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *bytes)
{
    child *c = stream->data;
    bool is_out = stream == (uv_stream_t *)&c->out;
    buffer *b = is_out ? &c->out_line : &c->err_line;
    if (size > 0) {
        buffer_append(b, bytes->base, (size_t)size);
        lines_take(c, b, is_out ? out_line : err_line);
    }
    mem_free(bytes->base);
    if (size < 0) uv_close((uv_handle_t *)stream, on_handle_closed);
}

static void on_process_exit(uv_process_t *process, int64_t code, int signal_number)
{
    child *c = process->data;
    if (signal_number != 0)
        snprintf(c->how, sizeof c->how, "was ended by signal %d (%s)", signal_number,
                 strsignal(signal_number));
    else
        snprintf(c->how, sizeof c->how, "ended with status %d", (int)code);
    uv_close((uv_handle_t *)process, on_handle_closed);
}

/* -- a run ------------------------------------------------------------------------------------ */

static bool spawn(child *c, const char **why)
{
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&c->out},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&c->err},
    };
    uv_process_options_t options = {.exit_cb = on_process_exit,
                                    .file = c->args[0],
                                    .args = c->args,
                                    .stdio = stdio,
                                    .stdio_count = 3};
    uv_pipe_init(c->loop, &c->out, 0);
    uv_pipe_init(c->loop, &c->err, 0);
    c->out.data = c->err.data = c->process.data = c;
    buffer_clear(&c->out_line);
    buffer_clear(&c->err_line);
    int failed = uv_spawn(c->loop, &c->process, &options);
    CHECK(failed == 0 || !uv_is_active((uv_handle_t *)&c->process));
    if (failed != 0) {
        *why = uv_strerror(failed);
        uv_close((uv_handle_t *)&c->out, NULL);
        uv_close((uv_handle_t *)&c->err, NULL);
        uv_close((uv_handle_t *)&c->process, NULL);
        return false;
    }
    c->handles_open = 3;
    c->running = true;
    c->started_ms = clock_now_ms();
    uv_read_start((uv_stream_t *)&c->out, on_alloc, on_read);
    uv_read_start((uv_stream_t *)&c->err, on_alloc, on_read);
    return true;
}

bool child_start(child *c, uv_loop_t *loop, const char *label, const char *const *args,
                 const child_handlers *handlers, void *ctx, const char **why)
{
    static char self[4096], parent[16];
    size_t self_size = sizeof self;
    CHECK(uv_exepath(self, &self_size) == 0);
    snprintf(parent, sizeof parent, "%d", (int)getpid());
    *c = (child){.label = label, .loop = loop, .handlers = handlers, .ctx = ctx};
    const char *shim[] = {self, "__exec", parent};
    size_t count = 0;
    for (; count < 3; count++)
        c->args[count] = mem_strdup(shim[count]);
    for (; args[count - 3] != NULL; count++) {
        CHECK(count < CHILD_ARGS_MAX);
        c->args[count] = mem_strdup(args[count - 3]);
    }
    uv_timer_init(loop, &c->pause);
    c->pause.data = c;
    if (spawn(c, why)) return true;
    child_close(c);
    return false;
}

void child_stop(child *c, int signal_number)
{
    c->stopping = true;
    uv_timer_stop(&c->pause);
    if (c->running) uv_process_kill(&c->process, signal_number);
}

bool child_is_running(const child *c)
{
    return c->running;
}

void child_close(child *c)
{
    if (c->closed) return;
    c->closed = true;
    uv_close((uv_handle_t *)&c->pause, NULL);
    buffer_free(&c->out_line);
    buffer_free(&c->err_line);
    for (size_t i = 0; c->args[i] != NULL; i++)
        mem_free(c->args[i]);
}

int child_exec(int argc, char **argv)
{
    if (argc < 4) return 2;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != atoi(argv[2])) return 1; /* it died before we asked */
    execv(argv[3], argv + 3);
    fprintf(stderr, "gaggle: cannot run %s: %s\n", argv[3], strerror(errno));
    return 127;
}
