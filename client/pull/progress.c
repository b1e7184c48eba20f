#include "client/pull/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/pull/disk.h"
#include "common/clock.h"

enum { TERMINAL_MS = 100, LINE_MS = 5000, SAMPLE_MS = 1000, BAR = 24 };

void progress_begin(progress *p, const char *command, const char *label, uint64_t done,
                    uint64_t total)
{
    uint64_t now_ms = clock_now_ms();
    *p = (progress){.command = command,
                    .label = label,
                    .is_terminal = isatty(STDERR_FILENO) == 1,
                    .total = total,
                    .begin_ms = now_ms,
                    .said_ms = now_ms,
                    .sample_count = 1};
    p->samples[0].at_ms = now_ms;
    p->samples[0].done = done;
}

static void take_sample(progress *p, uint64_t now_ms, uint64_t done)
{
    uint32_t last = p->sample_count - 1;
    if (now_ms - p->samples[last].at_ms < SAMPLE_MS) return;
    if (p->sample_count == PROGRESS_SAMPLES) {
        memmove(p->samples, p->samples + 1, sizeof p->samples - sizeof *p->samples);
        p->sample_count--;
    }
    p->samples[p->sample_count].at_ms = now_ms;
    p->samples[p->sample_count++].done = done;
}

/* Bytes a second; 0 when that is not known yet. */
static double rate(const progress *p, uint64_t now_ms, uint64_t done)
{
    uint64_t ms = now_ms - p->samples[0].at_ms, before = p->samples[0].done;
    return ms >= 300 && done > before ? (double)(done - before) * 1000 / (double)ms : 0;
}

static void time_text(char *out, size_t size, double seconds)
{
    uint64_t s = seconds < 1e7 ? (uint64_t)(seconds + 0.5) : 9999999;
    if (s < 3600)
        snprintf(out, size, "%" PRIu64 ":%02" PRIu64, s / 60, s % 60);
    else
        snprintf(out, size, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, s / 3600, s / 60 % 60, s % 60);
}

static void compose(const progress *p, char *out, size_t size, uint64_t now_ms, uint64_t done,
                    bool checking)
{
    char done_text[BYTES_TEXT_SIZE], total_text[BYTES_TEXT_SIZE], rate_text[BYTES_TEXT_SIZE];
    int percent = p->total > 0 ? (int)((double)done * 100 / (double)p->total) : 100;
    if (percent == 100 && done < p->total) percent = 99;
    int used = snprintf(out, size, "%3d %%  %s of %s", percent, bytes_text(done_text, done),
                        bytes_text(total_text, p->total));
    double now_rate = rate(p, now_ms, done);
    char *rest = out + used;
    size_t room = size - (size_t)used;
    if (done < p->total && now_rate > 0) {
        char left[24];
        time_text(left, sizeof left, (double)(p->total - done) / now_rate);
        snprintf(rest, room, "  %s/s  %s left", bytes_text(rate_text, (uint64_t)now_rate), left);
    } else if (checking) {
        snprintf(rest, room, "  checking what came");
    }
}

void progress_show(progress *p, uint64_t done, bool checking)
{
    uint64_t now_ms = clock_now_ms();
    take_sample(p, now_ms, done);
    if (now_ms - p->said_ms < (p->is_terminal ? TERMINAL_MS : LINE_MS)) return;
    p->said_ms = now_ms;
    char text[160];
    compose(p, text, sizeof text, now_ms, done, checking);
    if (!p->is_terminal) {
        fprintf(stderr, "gaggle %s: %s: %s\n", p->command, p->label, text + strspn(text, " "));
        return;
    }
    char line[320], bar[BAR + 1];
    size_t filled = p->total > 0 ? (size_t)((double)done * BAR / (double)p->total) : BAR;
    memset(bar, ' ', BAR);
    memset(bar, '#', filled < BAR ? filled : BAR);
    bar[BAR] = '\0';
    snprintf(line, sizeof line, "%s [%s] %s", p->label, bar, text);
    struct winsize size = {0};
    ioctl(STDERR_FILENO, TIOCGWINSZ, &size);
    fprintf(stderr, "\r\x1b[K%.*s", size.ws_col > 1 ? size.ws_col - 1 : 79, line);
    p->shown = true;
}

void progress_clear(progress *p)
{
    if (p->shown) fputs("\r\x1b[K", stderr);
    p->shown = false;
}

void progress_say(progress *p, const char *sentence)
{
    progress_clear(p);
    fprintf(stderr, "gaggle %s: %s\n", p->command, sentence);
}
