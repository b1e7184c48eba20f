/* gaggle-worker: one process for one GPU, or for the CPU.
 *
 *     gaggle-worker -m DIR --router URL     serve (below: settings -> objects -> loop -> teardown)
 *     gaggle-worker generate ...            the engine alone, no router   (generate.c)
 *     gaggle-worker bench ...               speed against the roofline    (bench.c)
 *     gaggle-worker devices                 the devices it could run on, a line each */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/options.h"
#include "common/service_notify.h"
#include "worker/bench.h"
#include "worker/device.h"
#include "worker/generate.h"
#include "worker/health_socket.h"
#include "worker/load_model.h"
#include "worker/router_link.h"

#define DEFAULT_ROUTER "tcp://127.0.0.1:7410"

typedef struct settings {
    model_settings model;
    option_list routers;
    const char *join_token, *name, *served_model_name;
    const char *tls_ca, *tls_cert, *tls_key;
    const char *log_level, *log_format, *health_name;
    bool tls_insecure;
    uint32_t drain_ms, lifetime_ms;
} settings;

typedef struct worker {
    settings settings;
    uv_loop_t loop;
    uv_signal_t sigint, sigterm;
    loaded_model loaded;
    link_tls tls;
    router_link *link;
    health_socket *health; /* NULL: nobody asks */
    const char *model_name;
    char *worker_id;
    bool announced;
    uint64_t start_ms;
    error why;
} worker;

/* What the wire would not carry is refused here, in the words of the command line. */
static status check_name(const char *what, const char *name, error *err)
{
    size_t size = strlen(name);
    if (size == 0 || size > LIMIT_NAME_BYTES)
        return error_set(err, ST_INVALID_ARGUMENT, "%s has %zu bytes; it must have 1 to %u", what,
                         size, LIMIT_NAME_BYTES);
    size_t valid = text_valid_size(text_of(name));
    if (valid == size) return ST_OK;
    return error_set(err, ST_INVALID_ARGUMENT, "%s must be UTF-8; byte %zu is 0x%02x", what, valid,
                     (unsigned)(unsigned char)name[valid]);
}

static status read_settings(settings *s, int argc, char **argv, error *err)
{
    *s = (settings){.model = model_settings_default(),
                    .log_level = "info",
                    .log_format = "text",
                    .drain_ms = 30000};
    const option_row own[] = {
        {"router", 'r', OPTION_LIST, &s->routers, "URL",
         .help = "router to dial; again for each other one [" DEFAULT_ROUTER "]"},
        {"join-token", 0, OPTION_TEXT, &s->join_token, "TOKEN",
         .help = "what the router wants to see"},
        {"name", 'n', OPTION_TEXT, &s->name, "NAME", .help = "name in the fleet [host and device]"},
        {"served-model-name", 0, OPTION_TEXT, &s->served_model_name, "NAME",
         .help = "the model's name for clients [its folder's]"},
        {"tls-ca", 0, OPTION_TEXT, &s->tls_ca, "FILE",
         .help = "CA of the router's certificate (PEM)", .rare = true},
        {"tls-cert", 0, OPTION_TEXT, &s->tls_cert, "FILE",
         .help = "this worker's certificate (PEM)", .rare = true},
        {"tls-key", 0, OPTION_TEXT, &s->tls_key, "FILE", .help = "its private key (PEM)",
         .rare = true},
        {"tls-insecure", 0, OPTION_FLAG, &s->tls_insecure, NULL,
         .help = "accept any router certificate", .rare = true},
        {"drain-ms", 0, OPTION_MS, &s->drain_ms, "TIME",
         .help = "after SIGTERM answers may run so long [30s]", .rare = true},
        {"lifetime", 0, OPTION_MS, &s->lifetime_ms, "TIME",
         .help = "this machine is lent for so long from now on: drain before [no end]",
         .rare = true},
        {"health-name", 0, OPTION_TEXT, &s->health_name, "NAME",
         .help = "answer `gaggle health` by this name, on this machine [off]", .rare = true},
        {"log-level", 0, OPTION_TEXT, &s->log_level, "LEVEL",
         .help = "error, warn, info or debug [info]", .choices = log_level_names},
        {"log-format", 0, OPTION_TEXT, &s->log_format, "FORMAT", .help = "text or json [text]",
         .choices = log_format_names},
    };
    enum { OWN = sizeof own / sizeof *own };
    option_row rows[OWN + MODEL_OPTION_ROWS];
    model_option_rows(&s->model, rows);
    memcpy(rows + MODEL_OPTION_ROWS, own, sizeof own);
    const option_table table = {
        .usage = "gaggle-worker -m DIR [options] (or: generate, bench, devices)",
        .about = "Runs a model and serves it through a router, which it dials.",
        .rows = rows,
        .row_count = OWN + MODEL_OPTION_ROWS,
        .section = "worker",
    };
    status st = options_parse(&table, argc, argv, NULL, err);
    if (st != ST_OK) return st;
    if (s->model.dir == NULL)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "no model: give -m DIR, a Hugging Face folder (config.json, "
                         "*.safetensors, tokenizer.json), or -m ORG/NAME of a pulled one");
    if (s->name != NULL && (st = check_name("--name", s->name, err))) return st;
    if (s->served_model_name != NULL &&
        (st = check_name("--served-model-name", s->served_model_name, err)))
        return st;
    if (s->routers.count == 0) s->routers.items[s->routers.count++] = DEFAULT_ROUTER;
    log_set((log_level)log_level_parse(s->log_level), (log_format)log_format_parse(s->log_format));
    return ST_OK;
}

/* For `gaggle up` and scripts. Why there is no GPU goes to stderr. */
static int list_devices(void)
{
    error why = {0};
    uint32_t count = device_count_cuda(&why);
    if (count == 0) fprintf(stderr, "no GPU: %s\n", why.text);
    for (uint32_t i = 0; i < count; i++)
        printf("cuda:%u\n", i);
    puts("cpu");
    return 0;
}

/* "cuda:1: NVIDIA ..." on lab -> "lab-cuda1" */
static char *default_worker_id(const char *device)
{
    char host[128] = "host";
    gethostname(host, sizeof host - 1);
    char id[160];
    unsigned ordinal;
    if (sscanf(device, "cuda:%u:", &ordinal) == 1)
        snprintf(id, sizeof id, "%s-cuda%u", host, ordinal);
    else
        snprintf(id, sizeof id, "%s-cpu", host);
    return mem_strdup(id);
}

/* One line on stdout when the router knows us; systemd is told, too. */
static void on_registered(void *ctx)
{
    worker *w = ctx;
    log_info("serving model=%s", w->model_name);
    if (w->announced) return;
    w->announced = true;
    json_t *ready =
        json_pack("{s:b, s:s, s:s, s:s, s:I, s:i, s:i, s:s}", "ready", 1, "worker", w->worker_id,
                  "model", w->model_name, "device", w->loaded.backend->device, "kv_tokens",
                  (json_int_t)w->loaded.backend->capacity.kv_blocks * LIMIT_KV_BLOCK_TOKENS,
                  "context", (int)w->loaded.context_max, "slots",
                  (int)w->loaded.engine.sequences_max, "defaults", w->loaded.defaults_text);
    CHECK(ready != NULL);
    json_dumpf(ready, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(ready);
    service_notify("READY=1");
}

/* What `gaggle health` is told; client/cli/health.c goes by the first word. */
static void describe_health(void *ctx, char out[LIMIT_HEALTH_LINE_BYTES])
{
    const worker *w = ctx;
    const router_link_health h = router_link_get_health(w->link);
    const char *word = "connecting";
    if (h.step_ms > LIMIT_ENGINE_STEP_MS)
        word = "hung";
    else if (h.draining)
        word = "draining";
    else if (h.registered > 0)
        word = "serving";
    snprintf(out, LIMIT_HEALTH_LINE_BYTES, "%s registered=%u routers=%u streams=%u step_ms=%u",
             word, h.registered, h.routers, h.streams, h.step_ms);
}

static void close_handles(worker *w)
{
    if (uv_is_closing((uv_handle_t *)&w->sigint)) return;
    uv_close((uv_handle_t *)&w->sigint, NULL);
    uv_close((uv_handle_t *)&w->sigterm, NULL);
    health_socket_close(w->health);
}

static void on_closed(void *ctx, const error *why)
{
    worker *w = ctx;
    w->why = *why;
    close_handles(w);
}

/* The first signal drains, the second stops at once. */
static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    worker *w = handle->data;
    service_notify("STOPPING=1");
    router_link_drain(w->link, w->settings.drain_ms);
}

/* Of --lifetime, what loading the model has left. */
static uint32_t lease_ms(const worker *w)
{
    uint64_t passed_ms = clock_now_ms() - w->start_ms;
    if (w->settings.lifetime_ms == 0) return 0;
    return passed_ms < w->settings.lifetime_ms ? w->settings.lifetime_ms - (uint32_t)passed_ms : 1;
}

static status start_link(worker *w, error *err)
{
    w->tls = (link_tls){.ca_file = w->settings.tls_ca,
                        .cert_file = w->settings.tls_cert,
                        .key_file = w->settings.tls_key,
                        .insecure = w->settings.tls_insecure};
    const router_link_options options = {
        .dial = {.urls = w->settings.routers.items,
                 .url_count = w->settings.routers.count,
                 .tls = &w->tls,
                 .token = w->settings.join_token},
        .worker_id = w->worker_id,
        .model_name = w->model_name,
        .device = w->loaded.backend->device,
        .revision = w->loaded.model->revision,
        .numerics = w->loaded.backend->numerics,
        .lease_ms = lease_ms(w),
        .drain_ms = w->settings.drain_ms,
        .slots = w->loaded.engine.sequences_max,
        .kv_blocks = w->loaded.backend->capacity.kv_blocks,
        .request = {.model = w->loaded.model,
                    .tokenizer = w->loaded.tokenizer,
                    .chat_template = w->loaded.chat_template,
                    .context_max = w->loaded.context_max},
        .engine = {.backend = w->loaded.backend,
                   .model = w->loaded.model,
                   .tokenizer = w->loaded.tokenizer,
                   .engine = w->loaded.engine},
    };
    const router_link_events events = {
        .on_registered = on_registered, .on_closed = on_closed, .ctx = w};
    return router_link_start(&w->link, &w->loop, &options, &events, err);
}

static status serve(worker *w, error *err)
{
    int rv = uv_loop_init(&w->loop);
    if (rv != 0)
        return error_set(err, ST_RESOURCE_EXHAUSTED, "starting the loop: %s", uv_strerror(rv));
    uv_signal_init(&w->loop, &w->sigint);
    uv_signal_init(&w->loop, &w->sigterm);
    w->sigint.data = w->sigterm.data = w;
    status st = ST_OK;
    if (w->settings.health_name != NULL)
        st = health_socket_open(&w->health, &w->loop, w->settings.health_name, describe_health, w,
                                err);
    if (st == ST_OK) st = start_link(w, err);
    if (st == ST_OK) {
        uv_signal_start(&w->sigint, on_signal, SIGINT);
        uv_signal_start(&w->sigterm, on_signal, SIGTERM);
    } else {
        close_handles(w); /* on_closed may not come any more */
    }
    uv_run(&w->loop, UV_RUN_DEFAULT);
    router_link_destroy(w->link);
    CHECK(uv_loop_close(&w->loop) == 0);
    if (st == ST_OK && w->why.code != ST_OK) {
        *err = w->why;
        st = w->why.code;
    }
    return st;
}

/* While the model is loaded there is nothing to let end. In a container the kernel would drop the
 * signal: a process number 1 has no default actions. */
static void end_at_once(int number)
{
    _exit(128 + number);
}

static status run(worker *w, int argc, char **argv, error *err)
{
    status st = read_settings(&w->settings, argc, argv, err);
    if (st != ST_OK) return st;
    signal(SIGTERM, end_at_once);
    signal(SIGINT, end_at_once);
    w->start_ms = clock_now_ms();
    st = load_model(&w->loaded, &w->settings.model, err);
    if (st != ST_OK || w->settings.model.dry_run) return st;
    log_info("model ready in_ms=%llu device=\"%s\" kv_tokens=%u",
             (unsigned long long)(clock_now_ms() - w->start_ms), w->loaded.backend->device,
             w->loaded.backend->capacity.kv_blocks * LIMIT_KV_BLOCK_TOKENS);
    w->model_name =
        w->settings.served_model_name != NULL ? w->settings.served_model_name : w->loaded.name;
    w->worker_id = w->settings.name != NULL ? mem_strdup(w->settings.name)
                                            : default_worker_id(w->loaded.backend->device);
    st = check_name("the model's name (--served-model-name)", w->model_name, err);
    if (st == ST_OK) st = check_name("this worker's name (--name)", w->worker_id, err);
    if (st == ST_OK) st = serve(w, err);
    mem_free(w->worker_id);
    return st;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && strcmp(argv[1], "generate") == 0) return worker_generate(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "bench") == 0) return worker_bench(argc - 1, argv + 1);
    if (argc == 2 && strcmp(argv[1], "devices") == 0) return list_devices();

    static worker w;
    error err = {0};
    log_init("worker", LOG_INFO);
    status st = run(&w, argc, argv, &err);
    loaded_model_destroy(&w.loaded);
    if (st == ST_OK) return 0;
    log_farewell("gaggle-worker", err.text);
    return st == ST_INVALID_ARGUMENT ? 2 : 1;
}
