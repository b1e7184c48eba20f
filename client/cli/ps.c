/* gaggle ps: what a router knows of its fleet. */
#include <inttypes.h>

#include "client/cli/cli.h"
#include "client/cli/fleet_text.h"

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
                      "s:I, s:I, s:I, s:I, s:I, s:s, s:I}",
                      "worker_id", w->worker_id, "device", w->device, "models", models, "connected",
                      w->connected, "draining", w->draining, "slots", (json_int_t)w->slots,
                      "running", (json_int_t)w->running, "waiting", (json_int_t)w->waiting,
                      "streams", (json_int_t)w->streams, "kv_blocks", (json_int_t)w->kv_blocks,
                      "kv_blocks_free", (json_int_t)w->kv_blocks_free, "step_us",
                      (json_int_t)w->step_us, "prompt_tokens", (json_int_t)w->prompt_tokens,
                      "cached_tokens", (json_int_t)w->cached_tokens, "output_tokens",
                      (json_int_t)w->output_tokens, "preemptions", (json_int_t)w->preemptions,
                      "prefill_rate", (json_int_t)w->prefill_rate, "decode_rate",
                      (json_int_t)w->decode_rate, "rtt_us", (json_int_t)w->rtt_us, "lease_left_ms",
                      (json_int_t)w->lease_left_ms, "state", fleet_state(w), "outstanding_tokens",
                      (json_int_t)w->outstanding_tokens));
    }
    json_t *out = json_pack(
        "{s:s, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "router",
        r->router_build, "uptime_ms", (json_int_t)r->uptime_ms, "draining", r->draining, "clients",
        (json_int_t)r->clients, "queued", (json_int_t)r->queued, "running", (json_int_t)r->running,
        "requests_total", (json_int_t)r->requests_total, "tokens_total",
        (json_int_t)r->tokens_total, "queued_interactive", (json_int_t)r->queued_interactive,
        "queued_standard", (json_int_t)r->queued_standard, "queued_batch",
        (json_int_t)r->queued_batch, "first_tokens", (json_int_t)r->first_tokens, "first_token_us",
        (json_int_t)r->first_token_us, "workers", workers);
    json_dumpf(out, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(out);
}

static void print_name(const char *text, size_t width)
{
    buffer name = {0};
    fleet_name(&name, text, width);
    printf("%.*s", (int)name.size, (const char *)name.data);
    buffer_free(&name);
}

static void print_worker(const gaggle_worker_report *w)
{
    char slots[FLEET_TEXT_SIZE], kv[FLEET_TEXT_SIZE], prefill[FLEET_TEXT_SIZE],
        decode[FLEET_TEXT_SIZE], rtt[FLEET_TEXT_SIZE], lease[FLEET_TEXT_SIZE], step[24];
    snprintf(step, sizeof step, "%.1fms", w->step_us / 1e3);
    print_name(w->worker_id, 20);
    printf(" %-5s ", fleet_state(w));
    print_name(w->model_count > 0 ? w->models[0].name : "-", 20);
    printf(" %9s %4s %7s %8s %8s %10" PRIu64 " %6s %6s  ", fleet_slots(slots, w), fleet_kv(kv, w),
           step, fleet_rate(prefill, w->prefill_rate), fleet_rate(decode, w->decode_rate),
           w->output_tokens, fleet_rtt(rtt, w->rtt_us), fleet_lease(lease, w->lease_left_ms));
    print_name(w->device, 0);
    putchar('\n');
    for (size_t k = 1; k < w->model_count; k++) {
        printf("%-20s %-5s ", "", "");
        print_name(w->models[k].name, 20);
        putchar('\n');
    }
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
    printf("%-20s %-5s %-20s %9s %4s %7s %8s %8s %10s %6s %6s  %s\n", "WORKER", "STATE", "MODEL",
           "RUN/SLOTS", "KV", "STEP", "READ/S", "WRITE/S", "TOKENS", "RTT", "LEASE", "DEVICE");
    for (size_t i = 0; i < r->worker_count; i++)
        print_worker(&r->workers[i]);
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
