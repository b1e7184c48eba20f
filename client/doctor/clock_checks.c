#include <stdio.h>
#include <stdlib.h>
#include <sys/timex.h>
#include <time.h>

#include "client/doctor/checks.h"

/* Before this there was no gaggle: 2026-01-01. */
#define CLOCK_FLOOR_S 1767225600

enum { APART_S = 30 }; /* a Date header has whole seconds, and came some way */

static const char advice[] = "set the clock (timedatectl set-ntp true, or chronyd): certificates "
                             "and keys begin and expire by it";

static void utc_text(char out[32], int64_t seconds)
{
    struct tm t;
    time_t time = (time_t)seconds;
    if (gmtime_r(&time, &t) == NULL || strftime(out, 32, "%Y-%m-%d %H:%M:%S UTC", &t) == 0)
        snprintf(out, 32, "beyond all calendars");
}

void check_clock(findings *f, int64_t now_s)
{
    char text[32];
    utc_text(text, now_s);
    struct timex state = {0};
    bool known = adjtimex(&state) >= 0;
    if (now_s < CLOCK_FLOOR_S) {
        finding_add(f, FINDING_FAIL, "clock", "%s: before this program was made", text);
        finding_advise(f, "%s", advice);
    } else if (known && (state.status & STA_UNSYNC) != 0) {
        finding_add(f, FINDING_OK, "clock", "%s; nothing on this kernel says that it is kept right",
                    text);
    } else {
        finding_add(f, FINDING_OK, "clock", "%s%s", text, known ? ", kept by NTP" : "");
    }
}

void check_clock_against(findings *f, const char *whose, int64_t other_s, int64_t now_s)
{
    int64_t ahead_s = now_s - other_s;
    if (llabs(ahead_s) <= APART_S) {
        finding_add(f, FINDING_OK, "clock", "as %s says", whose);
        return;
    }
    finding_add(f, FINDING_WARN, "clock", "%lld s %s of what %s says", (long long)llabs(ahead_s),
                ahead_s > 0 ? "ahead" : "behind", whose);
    finding_advise(f, "%s", advice);
}
