#include "tests/e2e/news.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"

enum { TOLD, LOGGED, SOURCES };
static int sources[SOURCES] = {-1, -1};

static void open_once(void)
{
    if (sources[TOLD] >= 0) return;
    const char *logs = getenv("GAGGLE_TEST_TMP");
    CHECK(logs != NULL);
    sources[TOLD] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sources[LOGGED] = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    CHECK(sources[TOLD] >= 0 && sources[LOGGED] >= 0);
    CHECK(inotify_add_watch(sources[LOGGED], logs, IN_MODIFY) >= 0);
}

int news_event(void)
{
    open_once();
    return sources[TOLD];
}

void news_clear(void)
{
    char piece[4096];
    open_once();
    for (int i = 0; i < SOURCES; i++)
        while (read(sources[i], piece, sizeof piece) > 0)
            ;
}

bool news_wait(uint64_t deadline_ms)
{
    struct pollfd fds[SOURCES];
    uint64_t now_ms = clock_now_ms();
    open_once();
    for (int i = 0; i < SOURCES; i++)
        fds[i] = (struct pollfd){.fd = sources[i], .events = POLLIN};
    return now_ms < deadline_ms && poll(fds, SOURCES, (int)(deadline_ms - now_ms)) > 0;
}
