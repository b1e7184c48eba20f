/* gaggle doctor: what this machine and its router would say if they could, a line each, and what to
 * do about it. The checks are client/doctor. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/cli/cli.h"
#include "client/doctor/checks.h"
#include "common/check.h"

static connect_options link_options = CONNECT_DEFAULTS;
static option_list ports;
static const char *model, *as_role = "client";
static bool as_json;

static const char *const role_names[] = {"client", "worker", NULL};

static const option_row rows[] = {
    {"model", 'm', OPTION_TEXT, &model, "MODEL", .help = "look at this folder or ORG/NAME, too"},
    {"role", 0, OPTION_TEXT, &as_role, "ROLE",
     .help = "knock at the router as a client or a worker [client]", .choices = role_names},
    {"port", 0, OPTION_LIST, &ports, "PORT",
     .help = "may be listened on? Again for each other one [7400, 7410, 7480]"},
    {"json", 0, OPTION_FLAG, &as_json, NULL, .help = "one JSON object instead of lines"},
    CONNECT_ROWS(link_options),
};

static const option_table table = {
    "gaggle doctor [options]",
    "Looks at this machine and at the router, and says what is wrong and what to do.\n"
    "Driver, GPUs, memory, ports, clock, disk, certificates, router: ok, warn or FAIL, a line "
    "each.\n"
    "Exit status 1 when something fails.",
    rows,
    CLI_COUNT(rows),
    "A worker's door: gaggle doctor --role worker --router URL --token JOIN_TOKEN",
};

static int check_ports(findings *f)
{
    static const char *const usual[] = {"7400", "7410", "7480"};
    const char *const *texts = ports.count > 0 ? ports.items : usual;
    size_t count = ports.count > 0 ? ports.count : CLI_COUNT(usual);
    for (size_t i = 0; i < count; i++) {
        char *end;
        unsigned long port = strtoul(texts[i], &end, 10);
        if (*end != '\0' || texts[i][0] < '0' || texts[i][0] > '9' || port == 0 || port > 65535) {
            cli_say("doctor", "--port is '%s'; it must be 1 to 65535", texts[i]);
            return EXIT_USAGE;
        }
        check_port(f, "", (uint16_t)port);
    }
    return EXIT_DONE;
}

static void check_routers(findings *f, const link_tls *tls)
{
    const bool with_tls = tls->ca_file != NULL || tls->cert_file != NULL || tls->insecure;
    router_wish wish = {
        .url = GAGGLE_DEFAULT_URL,
        .tls = with_tls ? tls : NULL,
        .role = strcmp(as_role, "worker") == 0 ? ROLE_WORKER : ROLE_CLIENT,
        .token = link_options.token,
        .patience_ms = link_options.offline_ms,
        .named = link_options.routers.count > 0,
    };
    if (!wish.named) check_router(f, &wish);
    for (size_t i = 0; i < link_options.routers.count; i++) {
        wish.url = link_options.routers.items[i];
        check_router(f, &wish);
    }
}

static int check_all(findings *f)
{
    static worker_probe worker;
    static gpu_driver driver;
    const link_tls tls = {.ca_file = link_options.ca_file,
                          .cert_file = link_options.cert_file,
                          .key_file = link_options.key_file,
                          .server_name = link_options.server_name,
                          .insecure = link_options.insecure};
    const int64_t now_s = (int64_t)time(NULL);
    check_host(f, "");
    worker_probe_run(&worker, NULL);
    check_worker(f, &worker);
    gpu_driver_ask(&driver);
    check_gpus(f, "", &driver, &worker);
    int result = check_ports(f);
    if (result != EXIT_DONE) return result;
    check_clock(f, now_s);
    check_cache(f);
    if (model != NULL) check_model(f, "", model);
    check_certificates(f, &tls, now_s);
    check_routers(f, &tls);
    return EXIT_DONE;
}

static void print_lines(const findings *f)
{
    for (size_t i = 0; i < f->count; i++) {
        const finding *x = &f->items[i];
        printf("%-5s %-11s %s%s%s\n", finding_level_name(x->level), x->check, x->text,
               x->advice[0] != '\0' ? " -> " : "", x->advice);
    }
}

static void print_json(const findings *f)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->count; i++) {
        const finding *x = &f->items[i];
        json_t *one = json_object();
        json_object_set_new(one, "check", json_text(x->check, strlen(x->check)));
        json_object_set_new(one, "level", json_string(finding_level_name(x->level)));
        json_object_set_new(one, "text", json_text(x->text, strlen(x->text)));
        if (x->advice[0] != '\0')
            json_object_set_new(one, "advice", json_text(x->advice, strlen(x->advice)));
        json_array_append_new(list, one);
    }
    json_t *all =
        json_pack("{s:b, s:o}", "ok", findings_worst(f) != FINDING_FAIL, "findings", list);
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

int cli_doctor(int argc, char **argv)
{
    if (!cli_parse("doctor", &table, argc, argv, NULL)) return EXIT_USAGE;
    findings f = {0};
    int result = check_all(&f);
    if (result == EXIT_DONE) {
        CHECK(findings_complete(&f));
        if (as_json)
            print_json(&f);
        else
            print_lines(&f);
        if (findings_worst(&f) == FINDING_FAIL) result = EXIT_FAILED;
    }
    findings_free(&f);
    return result;
}
