/* gaggle up: one router and its workers on this machine, from nothing to an answer.
 *
 * One loop runs everything: the children (child.h) and an ordinary client of the router.
 *
 *   STARTING  router -> ready -> workers -> one is ready -> Query until the router lists it
 *   SERVING   the banner, the first prompt and its answer, then until a signal (not with --oneshot)
 *   STOPPING  the client closes; SIGTERM to the workers; when they are gone, to the router
 *
 * A child that dies before it was ever ready has a reason that starting it again does not mend:
 * everything stops, exit 1. */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/cli/child.h"
#include "client/cli/cli.h"
#include "client/cli/devices.h"
#include "client/cli/model_argument.h"
#include "common/check.h"
#include "common/clock.h"
#include "worker/text/chat_template.h"

enum { WORKERS_MAX = 64, QUERY_EVERY_MS = 200, KILL_EXTRA_MS = 5000 };

#define DEFAULT_PROMPT "What is the capital of France?"

typedef enum phase { STARTING, SERVING, STOPPING } phase;

static const char *model, *host = "127.0.0.1", *prompt = DEFAULT_PROMPT, *device = "auto";
static uint32_t worker_count, port = 7400, max_tokens = 128, threads, drain_ms = 10000;
static bool oneshot, verbose;

static const option_row rows[] = {
    {"model", 'm', OPTION_TEXT, &model, "MODEL",
     .help = "Hugging Face model folder, or ORG/NAME, which is pulled when it is not here"},
    {"workers", 'w', OPTION_U32, &worker_count, "N",
     .help = "worker processes [one for each GPU, or 1]", .min = 1, .max = WORKERS_MAX},
    {"host", 0, OPTION_TEXT, &host, "ADDRESS", .help = "clients connect here [127.0.0.1]"},
    {"port", 0, OPTION_U32, &port, "PORT",
     .help = "and at this port; workers at the port 10 above [7400]", .min = 1, .max = 65525},
    {"device", 0, OPTION_TEXT, &device, "DEVICE", .help = "auto, cpu or cuda:N [auto]"},
    {"threads", 't', OPTION_U32, &threads, "N", .help = "CPU threads of each worker [all, shared]",
     .min = 0, .max = 1024},
    {"prompt", 'p', OPTION_TEXT, &prompt, "TEXT", .help = "first prompt [" DEFAULT_PROMPT "]"},
    {"max-tokens", 'n', OPTION_U32, &max_tokens, "N", .help = "longest first answer [128]",
     .min = 1, .max = 1 << 20},
    {"oneshot", 0, OPTION_FLAG, &oneshot, NULL, .help = "stop after the first answer"},
    {"drain-ms", 0, OPTION_MS, &drain_ms, "TIME",
     .help = "when stopping, answers may run so long [10s]", .min = 1, .max = 3600000},
    {"verbose", 'v', OPTION_FLAG, &verbose, NULL, .help = "show the children's logs"},
};

static const option_table table = {
    "gaggle up -m MODEL [options]",
    "Serve a model on this machine: a router and its workers, watched over until Ctrl-C.",
    rows,
    CLI_COUNT(rows),
    "The first answer goes to stdout, everything else to stderr.",
};

typedef struct up {
    uv_loop_t loop;
    uv_signal_t sigint, sigterm;
    uv_timer_t timer; /* Query while STARTING, the end of patience while STOPPING */
    phase phase;
    int result;
    char *model_dir;
    child router, workers[WORKERS_MAX];
    bool router_started, router_stopping;
    uint32_t workers_started;
    char labels[WORKERS_MAX][24], devices[WORKERS_MAX][32];
    char url[128], worker_url[64];
    json_t *ready; /* what the first worker said */
    gaggle_client *client;
    bool client_gone, query_running;
    gaggle_stream *stream;
    uint64_t asked_ns, first_token_ns;
    bool status_shown;
} up;

static void stop(up *u, int result);

/* -- what a person sees -------------------------------------------------------------------- */

/* One line that the next one replaces; on a terminal only. */
static void status_show(up *u, const char *label, const char *text)
{
    if (!isatty(STDERR_FILENO)) {
        fprintf(stderr, "%s: %s\n", label, text);
        return;
    }
    struct winsize size = {0};
    ioctl(STDERR_FILENO, TIOCGWINSZ, &size);
    char line[512];
    snprintf(line, sizeof line, "%s: %s", label, text);
    fprintf(stderr, "\r\x1b[K%.*s", size.ws_col > 1 ? size.ws_col - 1 : 79, line);
    u->status_shown = true;
}

static void status_clear(up *u)
{
    if (u->status_shown) fprintf(stderr, "\r\x1b[K");
    u->status_shown = false;
}

/* "2026-01-31T12:00:00.123Z info  worker  loading percent=10" -> "loading percent=10"; NULL for a
 * line that a person should see as it is. When all is coming down, lost links are no news. */
static const char *quiet_part(const up *u, const char *line)
{
    int at = 0;
    char level[8] = "";
    if (sscanf(line, "%*4d-%*2d-%*2dT%*s %7s %*s %n", level, &at) != 1 || at == 0) return NULL;
    bool quiet = strcmp(level, "info") == 0 || strcmp(level, "debug") == 0 ||
                 (u->phase == STOPPING && strcmp(level, "warn") == 0);
    return quiet ? line + at : NULL;
}

static void on_child_line(void *ctx, child *c, const char *line)
{
    up *u = ctx;
    const char *quiet = quiet_part(u, line);
    if (quiet == NULL || verbose) {
        status_clear(u);
        fprintf(stderr, "%s\n", line);
    } else if (u->phase == STARTING) {
        status_show(u, c->label, quiet);
    }
}

static const char *ready_text(const up *u, const char *key)
{
    const char *text = json_string_value(json_object_get(u->ready, key));
    return text != NULL ? text : "?";
}

static json_int_t ready_number(const up *u, const char *key)
{
    return json_integer_value(json_object_get(u->ready, key));
}

static void banner(up *u)
{
    status_clear(u);
    fprintf(stderr,
            "gaggle %s\n"
            "  model     %s, context %" JSON_INTEGER_FORMAT " tokens\n"
            "  device    %s%s",
            gaggle_version(), ready_text(u, "model"), ready_number(u, "context"),
            ready_text(u, "device"), worker_count > 1 ? "" : "\n");
    if (worker_count > 1) fprintf(stderr, ", %u workers\n", worker_count);
    fprintf(stderr,
            "  KV cache  %" JSON_INTEGER_FORMAT " tokens%s\n"
            "  sampling  %s\n"
            "  address   %s\n"
            "  talk      gaggle chat --router %s\n\n",
            ready_number(u, "kv_tokens"), worker_count > 1 ? " a worker" : "",
            ready_text(u, "defaults"), u->url, u->url);
}

/* -- the first prompt ------------------------------------------------------------------------ */

static void on_event(void *ctx, gaggle_stream *stream, const gaggle_event *e)
{
    up *u = ctx;
    if (e->type == GAGGLE_TOKENS) {
        if (u->first_token_ns == 0) u->first_token_ns = clock_now_ns();
        fwrite(e->text, 1, e->text_size, stdout);
        fflush(stdout);
        return;
    }
    u->stream = NULL;
    gaggle_stream_close(stream);
    if (u->phase == STOPPING) return;
    putchar('\n');
    fflush(stdout);
    bool answered = e->reason == GAGGLE_FINISH_STOP || e->reason == GAGGLE_FINISH_LENGTH;
    if (e->error != NULL) {
        cli_fail("up", e->error);
    } else if (e->total_tokens > 1) {
        double first_s = (double)(u->first_token_ns - u->asked_ns) / 1e9;
        fprintf(stderr, "[%s: %u tokens, the first after %.2f s, then %.1f a second]\n",
                gaggle_finish_reason_name(e->reason), e->total_tokens, first_s,
                e->decode_us > 0 ? (e->total_tokens - 1) * 1e6 / e->decode_us : 0.0);
    }
    if (oneshot) {
        stop(u, answered ? EXIT_DONE : EXIT_FAILED);
    } else {
        fprintf(stderr, "serving; Ctrl-C stops\n");
    }
}

/* Does the model know how a conversation is written? */
static bool has_chat_template(const up *u)
{
    chat_template *t = NULL;
    error err;
    status st = chat_template_load(&t, u->model_dir, &err);
    chat_template_destroy(t);
    return st == ST_OK;
}

static void ask(up *u)
{
    gaggle_message message = {"user", prompt};
    gaggle_request request = {.max_tokens = max_tokens, .on_event = on_event, .ctx = u};
    if (has_chat_template(u)) {
        request.messages = &message;
        request.message_count = 1;
    } else {
        request.text = prompt;
    }
    fprintf(stderr, "> %s\n", prompt);
    u->asked_ns = clock_now_ns();
    gaggle_error err;
    if (gaggle_submit(&u->stream, u->client, &request, &err) == GAGGLE_OK) return;
    cli_fail("up", &err);
    stop(u, EXIT_USAGE);
}

/* -- starting -----------------------------------------------------------------------------------
 */

static void on_report(void *ctx, const gaggle_report *report, const gaggle_error *err)
{
    (void)err; /* asked again */
    up *u = ctx;
    u->query_running = false;
    if (u->phase != STARTING || report == NULL) return;
    for (size_t i = 0; i < report->worker_count; i++) {
        const gaggle_worker_report *w = &report->workers[i];
        if (!w->connected || w->model_count == 0) continue;
        u->phase = SERVING;
        uv_timer_stop(&u->timer);
        banner(u);
        ask(u);
        return;
    }
}

static void on_query_time(uv_timer_t *timer)
{
    up *u = timer->data;
    enum { PATIENCE_MS = 5000 };
    if (u->query_running) return;
    u->query_running = gaggle_query(u->client, PATIENCE_MS, on_report, u, NULL) == GAGGLE_OK;
}

static void on_worker_ready(void *ctx, child *c, const json_t *line)
{
    up *u = ctx;
    if (u->phase == STOPPING) return; /* too late, and the timer has other work */
    if (u->ready == NULL) {
        u->ready = json_deep_copy(line);
        uv_timer_start(&u->timer, on_query_time, 0, QUERY_EVERY_MS);
    } else if (u->phase == SERVING) {
        fprintf(stderr, "%s is up\n", c->label);
    }
}

static void on_exit_of(void *ctx, child *c, const char *how, uint32_t again_in_ms);

static bool start_child(up *u, child *c, const char *label, const char *const *args,
                        const child_handlers *handlers)
{
    const char *why;
    if (child_start(c, &u->loop, label, args, handlers, u, &why)) return true;
    status_clear(u);
    cli_say("up", "%s cannot be started: %s", label, why);
    stop(u, EXIT_FAILED);
    return false;
}

/* A program beside our own; valid until the next call. */
static const char *program(const char *name)
{
    static char path[4096];
    size_t size = sizeof path;
    /* Without /proc our place is not known, and starting it fails in words. */
    size_t used = 0;
    if (uv_exepath(path, &size) == 0) used = (size_t)(strrchr(path, '/') + 1 - path);
    snprintf(path + used, sizeof path - used, "%s", name);
    return path;
}

/* `--device auto`: worker i runs on the i-th GPU, and round again where there are more workers;
 * without a GPU the worker itself chooses. */
static void choose_devices(up *u)
{
    uint32_t gpus = strcmp(device, "auto") == 0 ? devices_count_gpus(program("gaggle-worker")) : 0;
    if (worker_count == 0) worker_count = gpus > 0 ? gpus : 1;
    if (worker_count > WORKERS_MAX) worker_count = WORKERS_MAX;
    for (uint32_t i = 0; i < worker_count; i++) {
        if (gpus > 0)
            snprintf(u->devices[i], sizeof u->devices[i], "cuda:%u", i % gpus);
        else
            snprintf(u->devices[i], sizeof u->devices[i], "%s", device);
    }
}

static void start_workers(up *u)
{
    static const child_handlers handlers = {on_worker_ready, on_child_line, on_exit_of};
    choose_devices(u);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (threads == 0 && worker_count > 1)
        threads = cores > (long)worker_count ? (uint32_t)(cores / worker_count) : 1;
    char threads_text[16], drain_text[16];
    snprintf(threads_text, sizeof threads_text, "%u", threads);
    snprintf(drain_text, sizeof drain_text, "%u", drain_ms);
    for (uint32_t i = 0; i < worker_count; i++) {
        char *label = u->labels[i];
        snprintf(label, sizeof u->labels[i], "worker-%u", i);
        const char *args[] = {program("gaggle-worker"),
                              "--model",
                              model,
                              "--router",
                              u->worker_url,
                              "--device",
                              u->devices[i],
                              "--name",
                              label,
                              "--drain-ms",
                              drain_text,
                              NULL,
                              NULL,
                              NULL};
        if (threads > 0) {
            args[11] = "--threads";
            args[12] = threads_text;
        }
        if (!start_child(u, &u->workers[i], label, args, &handlers)) return;
        u->workers_started++;
    }
}

static void on_router_ready(void *ctx, child *c, const json_t *line)
{
    (void)c;
    (void)line;
    up *u = ctx;
    if (u->phase == STOPPING) return; /* too late: nothing may begin any more */
    if (u->client != NULL) return;    /* restarted: client and workers find it by themselves */
    const char *url = u->url;
    gaggle_options options = {
        .urls = &url, .url_count = 1, .name = "gaggle up", .uv_loop = &u->loop};
    gaggle_error err;
    if (gaggle_client_create(&u->client, &options, &err) != GAGGLE_OK) {
        cli_fail("up", &err);
        stop(u, EXIT_FAILED);
        return;
    }
    u->client_gone = false;
    start_workers(u);
}

static void start_router(up *u)
{
    static const child_handlers handlers = {on_router_ready, on_child_line, on_exit_of};
    char drain_text[16];
    snprintf(drain_text, sizeof drain_text, "%u", drain_ms);
    const char *args[] = {program("gaggle-router"),
                          "--listen",
                          u->url,
                          "--worker-listen",
                          u->worker_url,
                          "--drain-ms",
                          drain_text,
                          NULL};
    status_show(u, "router", "starting");
    u->router_started = start_child(u, &u->router, "router", args, &handlers);
}

/* -- stopping -------------------------------------------------------------------------------------
 */

static void stop_next(up *u)
{
    if (!u->client_gone) return;
    for (uint32_t i = 0; i < u->workers_started; i++)
        if (child_is_running(&u->workers[i])) return;
    if (u->router_started && child_is_running(&u->router)) {
        if (!u->router_stopping) child_stop(&u->router, SIGTERM);
        u->router_stopping = true;
        return;
    }
    for (uint32_t i = 0; i < u->workers_started; i++)
        child_close(&u->workers[i]);
    if (u->router_started) child_close(&u->router);
    uv_close((uv_handle_t *)&u->timer, NULL);
    uv_close((uv_handle_t *)&u->sigint, NULL);
    uv_close((uv_handle_t *)&u->sigterm, NULL);
}

static void on_client_closed(void *ctx)
{
    up *u = ctx;
    u->client_gone = true;
    stop_next(u);
}

static void kill_all(up *u)
{
    for (uint32_t i = 0; i < u->workers_started; i++)
        child_stop(&u->workers[i], SIGKILL);
    if (u->router_started) child_stop(&u->router, SIGKILL);
}

static void on_patience_over(uv_timer_t *timer)
{
    up *u = timer->data;
    cli_say("up", "not everything stopped within %u ms; killing the rest", drain_ms);
    kill_all(u);
}

static void on_stop_turn(uv_timer_t *timer)
{
    up *u = timer->data;
    uv_timer_start(&u->timer, on_patience_over, drain_ms + KILL_EXTRA_MS, 0);
    if (u->client != NULL) gaggle_client_close(u->client, on_client_closed, u);
    for (uint32_t i = 0; i < u->workers_started; i++)
        child_stop(&u->workers[i], SIGTERM);
    stop_next(u);
}

/* Begins in a turn of the loop of its own: whoever calls this may still hold what is to go. */
static void stop(up *u, int result)
{
    if (u->phase == STOPPING) return;
    status_clear(u);
    u->phase = STOPPING;
    u->result = result;
    uv_timer_start(&u->timer, on_stop_turn, 0, 0);
}

static void on_exit_of(void *ctx, child *c, const char *how, uint32_t again_in_ms)
{
    up *u = ctx;
    if (u->phase == STOPPING) {
        stop_next(u);
        return;
    }
    status_clear(u);
    if (again_in_ms > 0) {
        cli_say("up", "%s %s; it starts again in %.1f s", c->label, how, again_in_ms / 1000.0);
        return;
    }
    cli_say("up", "%s %s before it was ready", c->label, how);
    stop(u, EXIT_FAILED);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    up *u = handle->data;
    if (u->phase == STOPPING) {
        kill_all(u); /* asked twice */
        return;
    }
    fprintf(stderr, "stopping\n");
    stop(u, oneshot ? EXIT_INTERRUPTED : EXIT_DONE);
}

int cli_up(int argc, char **argv)
{
    if (!cli_parse("up", &table, argc, argv, NULL)) return EXIT_USAGE;
    if (model == NULL) {
        cli_say("up", "-m DIR is needed: a Hugging Face model folder; or -m ORG/NAME");
        return EXIT_USAGE;
    }
    static up u;
    int result = model_open(&u.model_dir, "up", model);
    if (result != EXIT_DONE) return result;
    u.client_gone = true;
    snprintf(u.url, sizeof u.url, "tcp://%s:%u", host, port);
    snprintf(u.worker_url, sizeof u.worker_url, "tcp://127.0.0.1:%u", port + 10);
    CHECK(uv_loop_init(&u.loop) == 0);
    uv_timer_init(&u.loop, &u.timer);
    uv_signal_init(&u.loop, &u.sigint);
    uv_signal_init(&u.loop, &u.sigterm);
    u.timer.data = u.sigint.data = u.sigterm.data = &u;
    uv_signal_start(&u.sigint, on_signal, SIGINT);
    uv_signal_start(&u.sigterm, on_signal, SIGTERM);
    start_router(&u);
    uv_run(&u.loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&u.loop) == 0);
    json_decref(u.ready);
    mem_free(u.model_dir);
    return u.result;
}
