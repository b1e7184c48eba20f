/* gaggle top: a fleet, live.
 *
 * On a terminal it draws on the alternate screen, without colours, as wide as that is; elsewhere
 * it prints one picture after the other. Whatever ends it, the terminal is as it was. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/fleet_text.h"
#include "common/clock.h"

static connect_options link_options = CONNECT_DEFAULTS;
static bool once;
static uint32_t interval_ms = 1000;

static const option_row rows[] = {
    {"once", '1', OPTION_FLAG, &once, NULL, .help = "one picture, after one interval"},
    {"interval", 'i', OPTION_MS, &interval_ms, "TIME", .help = "between two pictures [1s]",
     .min = 100, .max = 3600000},
    CONNECT_ROWS(link_options),
};

static const option_table table = {
    "gaggle top [options]",
    "The router's workers and what they do, live. Ctrl-C ends it.",
    rows,
    CLI_COUNT(rows),
    NULL,
};

/* -- the terminal -------------------------------------------------------------------------- */

static const char enter_screen[] = "\x1b[?1049h\x1b[?25l";
static const char leave_screen[] = "\x1b[?25h\x1b[?1049l";
static volatile sig_atomic_t suspended;

static void put(const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t wrote = write(STDOUT_FILENO, bytes, size);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) return;
        bytes += wrote;
        size -= (size_t)wrote;
    }
}

static void on_end(int number)
{
    put(leave_screen, sizeof leave_screen - 1);
    _exit(128 + number);
}

static void on_suspend(int number)
{
    (void)number;
    suspended = 1;
}

static void take_screen(void)
{
    struct sigaction action = {.sa_handler = on_end};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    action.sa_handler = on_suspend;
    sigaction(SIGTSTP, &action, NULL);
    put(enter_screen, sizeof enter_screen - 1);
}

/* Ctrl-Z: the shell gets its screen, and we get ours back afterwards. */
static void suspend_if_asked(void)
{
    if (!suspended) return;
    suspended = 0;
    put(leave_screen, sizeof leave_screen - 1);
    raise(SIGSTOP);
    put(enter_screen, sizeof enter_screen - 1);
}

/* -- a picture ------------------------------------------------------------------------------- */

enum { COLUMNS_MIN = 79, FIXED_COLUMNS = 44, HEADER_ROWS = 4 };

typedef struct frame {
    buffer *out;
    bool is_screen;
    size_t columns, rows; /* rows: 0 = as many as it takes */
} frame;

static frame frame_begin(buffer *out, bool is_screen)
{
    frame f = {.out = out, .is_screen = is_screen, .columns = COLUMNS_MIN};
    struct winsize size;
    if (is_screen && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        f.columns = size.ws_col > COLUMNS_MIN ? size.ws_col - 1u : COLUMNS_MIN;
        f.rows = size.ws_row;
    }
    buffer_clear(out);
    if (is_screen) buffer_append(out, "\x1b[H", 3);
    return f;
}

static void end_line(const frame *f)
{
    if (f->is_screen)
        buffer_append(f->out, "\x1b[K\r\n", 5);
    else
        buffer_append(f->out, "\n", 1);
}

static void __attribute__((format(printf, 2, 3))) add_line(const frame *f, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t length = strlen(text);
    buffer_append(f->out, text, length < f->columns ? length : f->columns);
    end_line(f);
}

static const gaggle_worker_report *find_worker(const gaggle_report *r, const char *id)
{
    for (size_t i = 0; r != NULL && i < r->worker_count; i++)
        if (strcmp(r->workers[i].worker_id, id) == 0) return &r->workers[i];
    return NULL;
}

/* What was added per second; 0 after a restart. */
static uint64_t rate(uint64_t before, uint64_t now, uint64_t passed_ms)
{
    return now > before && passed_ms > 0 ? ((now - before) * 1000 + passed_ms / 2) / passed_ms : 0;
}

typedef struct reading {
    gaggle_report *report;
    uint64_t at_ms;
} reading;

static void add_header(const frame *f, const reading *before, const reading *now)
{
    const gaggle_report *r = now->report, *old = before->report;
    uint64_t seconds = r->uptime_ms / 1000;
    add_line(f, "router %s, up %" PRIu64 ":%02" PRIu64 ":%02" PRIu64 "%s, %zu workers, %u clients",
             r->router_build, seconds / 3600, seconds / 60 % 60, seconds % 60,
             r->draining ? ", draining" : "", r->worker_count, r->clients);
    char ttft[24] = "-";
    uint64_t began = r->first_tokens, began_us = r->first_token_us;
    if (old != NULL && old->first_tokens < began) { /* else: of all there ever were */
        began -= old->first_tokens;
        began_us -= old->first_token_us;
    }
    if (began > 0) snprintf(ttft, sizeof ttft, "%.0f ms", (double)began_us / (double)began / 1e3);
    uint64_t tokens_per_s =
        old != NULL ? rate(old->tokens_total, r->tokens_total, now->at_ms - before->at_ms) : 0;
    add_line(f, "%u running, %u queued (%u interactive, %u standard, %u batch)", r->running,
             r->queued, r->queued_interactive, r->queued_standard, r->queued_batch);
    add_line(f, "%" PRIu64 " tokens/s, TTFT %s, %" PRIu64 " requests so far", tokens_per_s, ttft,
             r->requests_total);
    end_line(f);
}

/* Names share what the numbers leave. */
typedef struct widths {
    size_t worker, device, model;
} widths;

static widths share_columns(size_t columns)
{
    size_t left = columns - FIXED_COLUMNS;
    widths w = {.worker = left * 13 / 35, .device = left * 10 / 35};
    w.model = left - w.worker - w.device;
    return w;
}

static void add_worker(const frame *f, const widths *wide, const gaggle_worker_report *w,
                       uint64_t tokens_per_s)
{
    char slots[FLEET_TEXT_SIZE], kv[FLEET_TEXT_SIZE], speed[FLEET_TEXT_SIZE], rtt[FLEET_TEXT_SIZE],
        lease[FLEET_TEXT_SIZE], numbers[128];
    fleet_name(f->out, w->worker_id, wide->worker);
    int size = snprintf(numbers, sizeof numbers, " %-5s ", fleet_state(w));
    buffer_append(f->out, numbers, (size_t)size);
    fleet_name(f->out, w->device, wide->device);
    buffer_append(f->out, " ", 1);
    fleet_name(f->out, w->model_count > 0 ? w->models[0].name : "-", wide->model);
    size = snprintf(numbers, sizeof numbers, " %8s %4s %5s %6s %6s", fleet_slots(slots, w),
                    fleet_kv(kv, w), fleet_rate(speed, tokens_per_s), fleet_rtt(rtt, w->rtt_us),
                    fleet_lease(lease, w->lease_left_ms));
    buffer_append(f->out, numbers, (size_t)size);
    end_line(f);
}

static void add_workers(const frame *f, const reading *before, const reading *now)
{
    const gaggle_report *r = now->report;
    widths wide = share_columns(f->columns);
    add_line(f, "%-*s %-5s %-*s %-*s %8s %4s %5s %6s %6s", (int)wide.worker, "WORKER", "STATE",
             (int)wide.device, "DEVICE", (int)wide.model, "MODEL", "RUN/MAX", "KV", "TOK/S", "RTT",
             "LEASE");
    size_t shown = r->worker_count;
    if (f->rows > 0 && HEADER_ROWS + 2 + shown > f->rows)
        shown = f->rows > HEADER_ROWS + 3 ? f->rows - HEADER_ROWS - 3 : 0;
    for (size_t i = 0; i < shown; i++) {
        const gaggle_worker_report *w = &r->workers[i];
        const gaggle_worker_report *old = find_worker(before->report, w->worker_id);
        add_worker(f, &wide, w,
                   old != NULL
                       ? rate(old->output_tokens, w->output_tokens, now->at_ms - before->at_ms)
                       : 0);
    }
    if (shown < r->worker_count) add_line(f, "and %zu more", r->worker_count - shown);
}

static void draw(buffer *out, bool is_screen, const reading *before, const reading *now,
                 const char *trouble)
{
    const frame f = frame_begin(out, is_screen);
    add_header(&f, before, now);
    add_workers(&f, before, now);
    if (trouble != NULL) add_line(&f, "%s", trouble);
    if (is_screen)
        buffer_append(out, "\x1b[J", 3);
    else
        end_line(&f);
    put((const char *)out->data, out->size);
}

/* -- the loop ---------------------------------------------------------------------------------- */

/* A signal may end it early. */
static void wait_interval(void)
{
    const struct timespec time = {interval_ms / 1000, (long)(interval_ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

/* Returns with --once, or when that fails; else a signal ends it. */
static bool watch(gaggle_client *client, gaggle_error *err)
{
    bool is_screen = !once && isatty(STDOUT_FILENO);
    buffer out = {0};
    reading before = {0}, now = {0};
    bool answered =
        gaggle_query_wait(&now.report, client, link_options.offline_ms, err) == GAGGLE_OK;
    now.at_ms = clock_now_ms();
    bool goes_on = answered;
    if (goes_on && is_screen) take_screen();
    while (goes_on) {
        if (!once) draw(&out, is_screen, &before, &now, answered ? NULL : err->text);
        wait_interval();
        if (is_screen) suspend_if_asked();
        gaggle_report *report = NULL;
        answered = gaggle_query_wait(&report, client, link_options.offline_ms, err) == GAGGLE_OK;
        if (answered) {
            gaggle_report_free(before.report);
            before = now;
            now = (reading){report, clock_now_ms()};
        }
        goes_on = !once;
    }
    if (once && answered) draw(&out, false, &before, &now, NULL);
    gaggle_report_free(before.report);
    gaggle_report_free(now.report);
    buffer_free(&out);
    return answered;
}

int cli_top(int argc, char **argv)
{
    if (!cli_parse("top", &table, argc, argv, NULL)) return EXIT_USAGE;
    gaggle_client *client = connect_client("top", &link_options);
    if (client == NULL) return EXIT_FAILED;
    gaggle_error err;
    int result = watch(client, &err) ? EXIT_DONE : cli_fail("top", &err);
    gaggle_client_destroy(client);
    return result;
}
