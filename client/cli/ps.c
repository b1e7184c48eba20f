/* gaggle ps: what a router knows of its fleet. */
#include <inttypes.h>

#include "client/cli/cli.h"

static connect_options link_options = CONNECT_DEFAULTS;
static bool as_json;

static const option_row rows[] = {
    {"json", 0, OPTION_FLAG, &as_json, NULL, .help = "one JSON object instead of a table"},
    CONNECT_ROWS(link_options),
};

static const option_table table = {
    "gaggle ps [options]",
    "The router's workers, their models and their load.",
    rows,
    CLI_COUNT(rows),
    NULL,
};

static void print_json(const gaggle_report *r)
{
    json_t *workers = json_array();
    for (size_t i = 0; i < r->worker_count; i++) {
        const gaggle_worker_report *w = &r->workers[i];
        json_t *models = json_array();
        for (size_t k = 0; k < w->model_count; k++)
            json_array_append_new(models,
                                  json_pack("{s:s, s:s, s:I}", "name", w->models[k].name,
                                            "revision", w->models[k].revision, "context_max",
                                            (json_int_t)w->models[k].context_max));
        json_array_append_new(
            workers,
            json_pack("{s:s, s:s, s:o, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
                      "s:I}",
                      "worker_id", w->worker_id, "device", w->device, "models", models, "connected",
                      w->connected, "draining", w->draining, "slots", (json_int_t)w->slots,
                      "running", (json_int_t)w->running, "waiting", (json_int_t)w->waiting,
                      "streams", (json_int_t)w->streams, "kv_blocks", (json_int_t)w->kv_blocks,
                      "kv_blocks_free", (json_int_t)w->kv_blocks_free, "step_us",
                      (json_int_t)w->step_us, "prompt_tokens", (json_int_t)w->prompt_tokens,
                      "cached_tokens", (json_int_t)w->cached_tokens, "output_tokens",
                      (json_int_t)w->output_tokens, "preemptions", (json_int_t)w->preemptions));
    }
    json_t *out =
        json_pack("{s:s, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:o}", "router", r->router_build,
                  "uptime_ms", (json_int_t)r->uptime_ms, "draining", r->draining, "clients",
                  (json_int_t)r->clients, "queued", (json_int_t)r->queued, "running",
                  (json_int_t)r->running, "requests_total", (json_int_t)r->requests_total,
                  "tokens_total", (json_int_t)r->tokens_total, "workers", workers);
    json_dumpf(out, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(out);
}

static const char *worker_state(const gaggle_worker_report *w)
{
    if (!w->connected) return "lost";
    return w->draining ? "draining" : "up";
}

static void print_table(const gaggle_report *r)
{
    uint64_t seconds = r->uptime_ms / 1000;
    printf("router %s, up %" PRIu64 ":%02" PRIu64 ":%02" PRIu64
           "%s: %u clients, %u running, %u queued, %" PRIu64 " requests, %" PRIu64 " tokens\n",
           r->router_build, seconds / 3600, seconds / 60 % 60, seconds % 60,
           r->draining ? ", draining" : "", r->clients, r->running, r->queued, r->requests_total,
           r->tokens_total);
    if (r->worker_count == 0) {
        printf("no workers\n");
        return;
    }
    printf("%-20s %-8s %-24s %9s %7s %6s %8s %10s  %s\n", "WORKER", "STATE", "MODEL", "RUN/SLOTS",
           "WAITING", "KV", "STEP", "TOKENS", "DEVICE");
    for (size_t i = 0; i < r->worker_count; i++) {
        const gaggle_worker_report *w = &r->workers[i];
        char slots[24], kv[24], step[24];
        snprintf(slots, sizeof slots, "%u/%u", w->running, w->slots);
        uint32_t used = w->kv_blocks > w->kv_blocks_free ? w->kv_blocks - w->kv_blocks_free : 0;
        snprintf(kv, sizeof kv, "%.0f%%", w->kv_blocks > 0 ? 100.0 * used / w->kv_blocks : 0.0);
        snprintf(step, sizeof step, "%.1f ms", w->step_us / 1e3);
        printf("%-20s %-8s %-24s %9s %7u %6s %8s %10" PRIu64 "  %s\n", w->worker_id,
               worker_state(w), w->model_count > 0 ? w->models[0].name : "-", slots, w->waiting, kv,
               step, w->output_tokens, w->device);
        for (size_t k = 1; k < w->model_count; k++)
            printf("%-20s %-8s %-24s\n", "", "", w->models[k].name);
    }
}

int cli_ps(int argc, char **argv)
{
    if (!cli_parse("ps", &table, argc, argv, NULL)) return EXIT_USAGE;
    gaggle_client *client = connect_client("ps", &link_options);
    if (client == NULL) return EXIT_FAILED;
    gaggle_report *report = NULL;
    gaggle_error err;
    int result = EXIT_DONE;
    if (gaggle_query_wait(&report, client, link_options.offline_ms, &err) != GAGGLE_OK)
        result = cli_fail("ps", &err);
    else if (as_json)
        print_json(report);
    else
        print_table(report);
    gaggle_report_free(report);
    gaggle_client_destroy(client);
    return result;
}
