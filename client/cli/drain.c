/* gaggle drain: let a worker end without losing what it runs. */
#include <string.h>
#include <time.h>

#include "client/cli/cli.h"

static connect_options link_options = CONNECT_DEFAULTS;
static uint32_t limit_ms;
static bool no_wait;

static const option_row rows[] = {
    {"limit", 0, OPTION_MS, &limit_ms, "TIME",
     .help = "what still runs after so long goes on elsewhere [never]", .min = 0, .max = 86400000},
    {"no-wait", 0, OPTION_FLAG, &no_wait, NULL, .help = "return when the worker has been told"},
    CONNECT_ROWS(link_options),
};

static const option_table table = {
    "gaggle drain WORKER [options]",
    "The worker gets nothing new and ends when its answers have ended. `gaggle ps` has the names.",
    rows,
    CLI_COUNT(rows),
    "  gaggle drain kaggle-1 --limit 30s    # its answers go on elsewhere after 30 s",
};

static const gaggle_worker_report *find(const gaggle_report *report, const char *worker_id)
{
    for (size_t i = 0; i < report->worker_count; i++)
        if (strcmp(report->workers[i].worker_id, worker_id) == 0) return &report->workers[i];
    return NULL;
}

/* Until it has gone. Says how many answers are left whenever that changes. */
static gaggle_code wait_for_end(gaggle_client *client, const char *worker_id, gaggle_error *err)
{
    uint32_t said = UINT32_MAX;
    for (;;) {
        gaggle_report *report = NULL;
        gaggle_code code = gaggle_query_wait(&report, client, link_options.offline_ms, err);
        if (code != GAGGLE_OK) return code;
        const gaggle_worker_report *w = find(report, worker_id);
        bool gone = w == NULL || !w->connected;
        if (!gone && w->streams != said) {
            said = w->streams;
            cli_say("drain", "%s has %u answers left", worker_id, said);
        }
        gaggle_report_free(report);
        if (gone) return GAGGLE_OK;
        const struct timespec pause = {.tv_nsec = 200 * 1000 * 1000};
        nanosleep(&pause, NULL);
    }
}

int cli_drain(int argc, char **argv)
{
    int rest;
    if (!cli_parse("drain", &table, argc, argv, &rest)) return EXIT_USAGE;
    if (rest != 1) {
        cli_say("drain", "name one worker; gaggle ps lists them");
        return EXIT_USAGE;
    }
    const char *worker_id = argv[1];
    gaggle_client *client = connect_client("drain", &link_options);
    if (client == NULL) return EXIT_FAILED;
    gaggle_report *report = NULL;
    gaggle_error err;
    gaggle_code code =
        gaggle_drain_wait(&report, client, worker_id, limit_ms, link_options.offline_ms, &err);
    gaggle_report_free(report);
    if (code == GAGGLE_OK && !no_wait) code = wait_for_end(client, worker_id, &err);
    if (code == GAGGLE_OK) cli_say("drain", no_wait ? "%s drains" : "%s has ended", worker_id);
    gaggle_client_destroy(client);
    return code == GAGGLE_OK ? EXIT_DONE : cli_fail("drain", &err);
}
