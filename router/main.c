/* gaggle-router: configuration -> objects -> loop -> teardown in reverse.
 *
 * Everything that decides is in core.c; this file joins it to sessions on a libuv loop. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/options.h"
#include "proto/session.h"
#include "router/auth.h"
#include "router/core.h"

#define DEFAULT_LISTEN        "tcp://127.0.0.1:7400"
#define DEFAULT_WORKER_LISTEN "tcp://127.0.0.1:7410"

typedef struct settings {
    option_list listen, worker_listen;
    auth auth;
    const char *api_token_file, *join_token_file;
    const char *tls_cert, *tls_key, *worker_ca, *client_ca;
    const char *log_level;
    uint32_t client_grace_ms, worker_grace_ms, stall_ms, drain_ms;
    uint32_t queue_requests;
    uint64_t queue_bytes;
} settings;

typedef struct router router;

/* Which roles a listener admits. */
typedef struct door {
    router *router;
    role admits;
} door;

struct router {
    settings settings;
    uv_loop_t loop;
    uv_timer_t tick;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_signal_t sigint, sigterm;
    session_hub *hub;
    core *core;
    id128 instance;
    door client_door, worker_door;
    uint64_t drain_deadline_ms; /* 0 = serving */
    bool stopping;
};

/* What a session carries between on_hello and on_down. */
typedef struct peer {
    router *router;
    core_link *link; /* NULL until the session is up */
    role role;
    uint32_t tenant;
    id128 instance;
} peer;

/* -- sessions -> core -------------------------------------------------------------- */

static status on_hello(void *ctx, session *s, const msg_hello *hello, msg_welcome *welcome,
                       void **session_ctx, error *err)
{
    (void)s;
    const door *d = ctx;
    if (hello->role != d->admits)
        return error_set(err, ST_PERMISSION_DENIED, "this address is for %s; %s",
                         d->admits == ROLE_WORKER ? "workers" : "clients",
                         d->admits == ROLE_WORKER ? "clients use --listen's address"
                                                  : "workers use --worker-listen's address");
    uint32_t tenant;
    status st = auth_check_hello(&d->router->settings.auth, hello, &tenant, err);
    if (st != ST_OK) return st;
    peer *p = mem_calloc(1, sizeof *p);
    *p = (peer){
        .router = d->router, .role = hello->role, .tenant = tenant, .instance = hello->instance};
    *session_ctx = p;
    welcome->router_instance = d->router->instance;
    welcome->window_default = LIMIT_WINDOW_TOKENS_DEFAULT;
    welcome->streams_max = LIMIT_STREAMS_PER_LINK;
    welcome->build = text_of("gaggle-router " GAGGLE_VERSION);
    return ST_OK;
}

static void on_up(void *ctx, session *s, const msg_welcome *welcome)
{
    (void)welcome;
    peer *p = ctx;
    p->link = core_link_up(p->router->core, s, p->role, p->tenant, &p->instance,
                           session_peer_name(s), clock_now_ms());
    log_info("peer=%s connected role=%s", session_peer_name(s),
             p->role == ROLE_WORKER ? "worker" : "client");
}

static void on_envelope(void *ctx, session *s, const envelope *e, const error *refused)
{
    (void)s;
    peer *p = ctx;
    core_envelope(p->router->core, p->link, e, refused, clock_now_ms());
}

static void on_idle(void *ctx, session *s)
{
    (void)s;
    peer *p = ctx;
    core_flush(p->router->core);
}

static void on_down(void *ctx, session *s, const error *why)
{
    peer *p = ctx;
    log_info("peer=%s disconnected reason=\"%s\"", session_peer_name(s), why->text);
    if (p->link != NULL)
        core_link_down(p->router->core, p->link, why->code == ST_CANCELLED, clock_now_ms());
    mem_free(p);
}

static const session_handlers handlers = {
    .on_hello = on_hello,
    .on_up = on_up,
    .on_envelope = on_envelope,
    .on_idle = on_idle,
    .on_down = on_down,
};

/* -- core -> sessions -------------------------------------------------------------- */

static void io_send(void *ctx, void *handle, const envelope *e)
{
    (void)ctx;
    session_send(handle, e);
}

static bool io_is_idle(void *ctx, void *handle)
{
    (void)ctx;
    return session_is_idle(handle);
}

static void io_close(void *ctx, void *handle, const char *reason)
{
    (void)ctx;
    session_close(handle, reason);
}

/* -- the loop ---------------------------------------------------------------------- */

static void on_hub_closed(void *ctx)
{
    router *r = ctx;
    uv_close((uv_handle_t *)&r->tick, NULL);
    uv_close((uv_handle_t *)&r->prepare, NULL);
    uv_close((uv_handle_t *)&r->check, NULL);
    uv_close((uv_handle_t *)&r->sigint, NULL);
    uv_close((uv_handle_t *)&r->sigterm, NULL);
}

static void stop(router *r)
{
    if (r->stopping) return;
    r->stopping = true;
    session_hub_close(r->hub, on_hub_closed, r);
}

static void on_tick(uv_timer_t *timer)
{
    router *r = timer->data;
    if (r->stopping) return;
    uv_timer_start(timer, on_tick, link_until_tick_ms(&r->loop), 0);
    uint64_t now_ms = clock_now_ms();
    core_tick(r->core, now_ms);
    if (r->drain_deadline_ms == 0) return;
    size_t left = core_request_count(r->core);
    if (left == 0 || now_ms >= r->drain_deadline_ms) {
        if (left > 0) log_warn("drain time is over requests=%zu", left);
        stop(r);
    }
}

static void on_prepare(uv_prepare_t *handle)
{
    core_flush(((router *)handle->data)->core);
}

static void on_check(uv_check_t *handle)
{
    core_flush(((router *)handle->data)->core);
}

/* The first signal drains, the second stops at once. */
static void on_signal(uv_signal_t *handle, int number)
{
    router *r = handle->data;
    if (r->drain_deadline_ms != 0) {
        stop(r);
        return;
    }
    log_info("draining signal=%s requests=%zu limit_ms=%u", number == SIGINT ? "INT" : "TERM",
             core_request_count(r->core), r->settings.drain_ms);
    r->drain_deadline_ms = clock_now_ms() + r->settings.drain_ms;
    core_drain(r->core, "the router is shutting down");
}

/* -- setting up --------------------------------------------------------------------- */

static status read_settings(settings *s, int argc, char **argv, error *err)
{
    *s = (settings){.log_level = "info",
                    .client_grace_ms = LIMIT_CLIENT_GRACE_MS_DEFAULT,
                    .worker_grace_ms = LIMIT_WORKER_GRACE_MS_DEFAULT,
                    .stall_ms = LIMIT_STALL_MS_DEFAULT,
                    .drain_ms = 30000,
                    .queue_requests = LIMIT_QUEUE_REQUESTS,
                    .queue_bytes = LIMIT_SUBMIT_BYTES_QUEUE};
    const option_row rows[] = {
        {"listen", 'l', OPTION_LIST, &s->listen, "URL", "clients connect here [" DEFAULT_LISTEN "]",
         0, 0},
        {"worker-listen", 'w', OPTION_LIST, &s->worker_listen, "URL",
         "workers connect here [" DEFAULT_WORKER_LISTEN "]", 0, 0},
        {"api-token", 0, OPTION_LIST, &s->auth.api_tokens, "TOKEN",
         "clients must show one of these", 0, 0},
        {"api-token-file", 0, OPTION_TEXT, &s->api_token_file, "FILE", "the same, one a line", 0,
         0},
        {"join-token", 0, OPTION_LIST, &s->auth.join_tokens, "TOKEN",
         "workers must show one of these", 0, 0},
        {"join-token-file", 0, OPTION_TEXT, &s->join_token_file, "FILE", "the same, one a line", 0,
         0},
        {"tls-cert", 0, OPTION_TEXT, &s->tls_cert, "FILE", "certificate (PEM) for tls+tcp and wss",
         0, 0},
        {"tls-key", 0, OPTION_TEXT, &s->tls_key, "FILE", "its private key (PEM)", 0, 0},
        {"worker-ca", 0, OPTION_TEXT, &s->worker_ca, "FILE",
         "workers must have a certificate of this CA", 0, 0},
        {"client-ca", 0, OPTION_TEXT, &s->client_ca, "FILE",
         "clients must have a certificate of this CA", 0, 0},
        {"max-queue", 0, OPTION_U32, &s->queue_requests, "N", "requests that may wait [4096]", 1,
         LIMIT_REQUESTS},
        {"max-queue-bytes", 0, OPTION_U64, &s->queue_bytes, "SIZE",
         "memory of their prompts [256M]", 1, 1e12},
        {"client-grace-ms", 0, OPTION_U32, &s->client_grace_ms, "MS",
         "a client may be away so long [30000]", 0, 0},
        {"worker-grace-ms", 0, OPTION_U32, &s->worker_grace_ms, "MS",
         "a worker may be away so long [5000]", 0, 0},
        {"stall-ms", 0, OPTION_U32, &s->stall_ms, "MS",
         "a stream that is not read ends after [30000]", 0, 0},
        {"drain-ms", 0, OPTION_U32, &s->drain_ms, "MS",
         "after SIGTERM requests may run so long [30000]", 0, 0},
        {"log-level", 0, OPTION_TEXT, &s->log_level, "LEVEL", "error, warn, info or debug [info]",
         0, 0},
    };
    const option_table table = {
        .usage = "gaggle-router [options]",
        .about =
            "Takes requests from clients, places them on workers, streams the tokens back.\n"
            "URLs: tcp:// tls+tcp:// ws:// wss:// ipc://; an option may be GAGGLE_NAME=... too.",
        .rows = rows,
        .row_count = sizeof rows / sizeof *rows,
    };
    status st = options_parse(&table, argc, argv, NULL, err);
    if (st != ST_OK) return st;
    if (s->listen.count == 0) s->listen.items[s->listen.count++] = DEFAULT_LISTEN;
    if (s->worker_listen.count == 0)
        s->worker_listen.items[s->worker_listen.count++] = DEFAULT_WORKER_LISTEN;
    int level = log_level_parse(s->log_level);
    if (level < 0)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "--log-level is '%s'; it must be error, warn, info or debug",
                         s->log_level);
    log_init("router", (log_level)level);
    st = auth_check(&s->auth, err);
    if (st == ST_OK && s->api_token_file != NULL)
        st = auth_load_file(&s->auth.api_tokens, s->api_token_file, err);
    if (st == ST_OK && s->join_token_file != NULL)
        st = auth_load_file(&s->auth.join_tokens, s->join_token_file, err);
    return st;
}

static bool url_has_tls(const char *url)
{
    return strncmp(url, "tls+tcp", 7) == 0 || strncmp(url, "wss", 3) == 0;
}

/* Opens every URL of one role and appends what they really are to `opened`. */
static status open_doors(router *r, const option_list *urls, door *d, const char *ca,
                         json_t *opened, error *err)
{
    const link_tls tls = {.cert_file = r->settings.tls_cert,
                          .key_file = r->settings.tls_key,
                          .ca_file = ca,
                          .require_peer = ca != NULL};
    for (size_t i = 0; i < urls->count; i++) {
        const char *url = urls->items[i];
        status st = auth_check_listener(&r->settings.auth, url, d->admits, err);
        if (st != ST_OK) return st;
        session_listener *listener;
        st = session_listen(&listener, r->hub, url, url_has_tls(url) ? &tls : NULL, &handlers, d,
                            err);
        if (st != ST_OK) return st;
        uint16_t port = session_listener_port(listener);
        const char *colon = strrchr(url, ':');
        char real[512]; /* ":0" asked for any port: say which one it is */
        if (port != 0 && colon != NULL && strtoul(colon + 1, NULL, 10) == 0)
            snprintf(real, sizeof real, "%.*s:%u%s", (int)(colon - url), url, port,
                     strchr(colon, '/') != NULL ? strchr(colon, '/') : "");
        else
            snprintf(real, sizeof real, "%s", url);
        log_info("listening url=%s for=%s", real, d->admits == ROLE_WORKER ? "workers" : "clients");
        if (json_array_append_new(opened, json_string(real)) != 0)
            return error_set(err, ST_INVALID_ARGUMENT, "the URL %s is not UTF-8", url);
    }
    return ST_OK;
}

/* One line on stdout: for `gaggle up` and for scripts. */
static void print_ready(json_t *clients, json_t *workers)
{
    json_t *ready =
        json_pack("{s:b, s:O, s:O}", "ready", 1, "listen", clients, "worker_listen", workers);
    CHECK(ready != NULL);
    json_dumpf(ready, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(ready);
}

static void start_loop_handles(router *r)
{
    uv_timer_init(&r->loop, &r->tick);
    uv_prepare_init(&r->loop, &r->prepare);
    uv_check_init(&r->loop, &r->check);
    uv_signal_init(&r->loop, &r->sigint);
    uv_signal_init(&r->loop, &r->sigterm);
    r->tick.data = r->prepare.data = r->check.data = r->sigint.data = r->sigterm.data = r;
    uv_timer_start(&r->tick, on_tick, link_until_tick_ms(&r->loop), 0);
    uv_prepare_start(&r->prepare, on_prepare);
    uv_check_start(&r->check, on_check);
    uv_signal_start(&r->sigint, on_signal, SIGINT);
    uv_signal_start(&r->sigterm, on_signal, SIGTERM);
}

static status serve(router *r, error *err)
{
    core_options options = core_options_default();
    options.client_grace_ms = r->settings.client_grace_ms;
    options.worker_grace_ms = r->settings.worker_grace_ms;
    options.stall_ms = r->settings.stall_ms;
    options.queue_requests_max = r->settings.queue_requests;
    options.queue_bytes_max = r->settings.queue_bytes;
    if (getrandom(&options.seed, sizeof options.seed, 0) != sizeof options.seed)
        return error_set(err, ST_INTERNAL, "the kernel gives no random numbers");
    r->instance = id128_random();
    const core_io io = {.send = io_send, .is_idle = io_is_idle, .close = io_close, .ctx = r};

    int rv = uv_loop_init(&r->loop);
    if (rv != 0)
        return error_set(err, ST_RESOURCE_EXHAUSTED, "starting the loop: %s", uv_strerror(rv));
    status st = session_hub_create(&r->hub, &r->loop, err);
    if (st != ST_OK) return st;
    r->core = core_create(&options, &io, clock_now_ms());
    start_loop_handles(r);
    r->client_door = (door){r, ROLE_CLIENT};
    r->worker_door = (door){r, ROLE_WORKER};
    json_t *clients = json_array(), *workers = json_array();
    st = open_doors(r, &r->settings.listen, &r->client_door, r->settings.client_ca, clients, err);
    if (st == ST_OK)
        st = open_doors(r, &r->settings.worker_listen, &r->worker_door, r->settings.worker_ca,
                        workers, err);
    if (st == ST_OK)
        print_ready(clients, workers);
    else
        stop(r);
    json_decref(clients);
    json_decref(workers);
    uv_run(&r->loop, UV_RUN_DEFAULT);

    core_destroy(r->core);
    CHECK(uv_loop_close(&r->loop) == 0);
    if (st == ST_OK) log_info("stopped");
    return st;
}

int main(int argc, char **argv)
{
    static router r;
    error err = {0};
    signal(SIGPIPE, SIG_IGN);
    if (read_settings(&r.settings, argc, argv, &err) != ST_OK || serve(&r, &err) != ST_OK) {
        fprintf(stderr, "gaggle-router: %s\n", err.text);
        return err.code == ST_INVALID_ARGUMENT ? 2 : 1;
    }
    return 0;
}
