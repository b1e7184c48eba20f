/* gaggle-router: configuration -> objects -> loop -> teardown in reverse.
 *
 * Everything that decides is in core.c; this file joins it to sessions on a libuv loop. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <xxhash.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/service_notify.h"
#include "proto/session.h"
#include "router/cache_salt.h"
#include "router/core.h"
#include "router/settings.h"
#include "router/sight.h"

typedef struct router router;
typedef struct peer peer;

/* Which roles a listener admits. */
typedef struct door {
    router *router;
    role admits;
} door;

struct router {
    settings settings;
    int argc; /* to read the settings again */
    char **argv;
    uv_loop_t loop;
    uv_timer_t tick;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_signal_t sigint, sigterm, sighup;
    session_hub *hub;
    core *core;
    sight *sight; /* NULL: no HTTP */
    id128 instance;
    door client_door, worker_door;
    peer *peers;                /* all that were let in */
    uint64_t recheck_ms;        /* when to ask next whether they still may be here */
    uint64_t drain_deadline_ms; /* 0 = serving */
    bool stopping;
};

/* What a session carries between on_hello and on_down. */
struct peer {
    router *router;
    session *session;
    core_link *link; /* NULL until the session is up */
    bool refused;    /* its key is no longer good: it will not come back */
    identity who;
    id128 instance;
    peer *previous, *next;
};

/* Keys expire while their owners are connected. */
enum { RECHECK_EVERY_MS = 1000 };

/* -- sessions -> core -------------------------------------------------------------- */

static void peer_add(router *r, peer *p)
{
    p->next = r->peers;
    if (r->peers != NULL) r->peers->previous = p;
    r->peers = p;
}

static void peer_remove(peer *p)
{
    if (p->next != NULL) p->next->previous = p->previous;
    *(p->previous != NULL ? &p->previous->next : &p->router->peers) = p->next;
    mem_free(p);
}

static status on_hello(void *ctx, session *s, const msg_hello *hello, msg_welcome *welcome,
                       void **session_ctx, error *err)
{
    const door *d = ctx;
    if (hello->role != d->admits)
        return error_set(err, ST_PERMISSION_DENIED, "this address is for %s; %s",
                         d->admits == ROLE_WORKER ? "workers" : "clients",
                         d->admits == ROLE_WORKER ? "clients use --listen's address"
                                                  : "workers use --worker-listen's address");
    identity who;
    status st = auth_judge(&d->router->settings.auth, hello, time(NULL), &who, err);
    if (st != ST_OK) return st;
    peer *p = mem_alloc(sizeof *p);
    *p = (peer){.router = d->router, .session = s, .who = who, .instance = hello->instance};
    peer_add(d->router, p);
    *session_ctx = p;
    welcome->router_instance = d->router->instance;
    welcome->window_default = LIMIT_WINDOW_TOKENS_DEFAULT;
    welcome->streams_max = LIMIT_STREAMS_PER_LINK;
    welcome->build = text_of("gaggle-router " GAGGLE_VERSION);
    return ST_OK;
}

/* Other routers with the same keys get the same owner and salt, since they go by the name. */
static core_tenant tenant_of(const router *r, const identity *who)
{
    const auth *a = &r->settings.auth;
    if (who->what == ROLE_WORKER || (a->keys == NULL && a->api_tokens.count == 0))
        return (core_tenant){.number = who->tenant};
    char name[AUTH_TENANT_NAME_SIZE];
    auth_tenant_name(a, who->tenant, name);
    return (core_tenant){.number = who->tenant,
                         .owner = XXH32(name, strlen(name), 0) | 1,
                         .cache_salt = cache_salt_of_tenant(name)};
}

static void on_up(void *ctx, session *s, const msg_welcome *welcome)
{
    (void)welcome;
    peer *p = ctx;
    const core_tenant tenant = tenant_of(p->router, &p->who);
    p->link = core_link_up(p->router->core, s, p->who.what, &tenant, &p->instance,
                           session_peer_name(s), clock_now_ms());
    log_info("peer=%s connected role=%s key=%s", session_peer_name(s),
             p->who.what == ROLE_WORKER ? "worker" : "client",
             p->who.key_id[0] != '\0' ? p->who.key_id : "none");
}

/* Say why, and with `fatal` close: what follows is on_down(). */
static void refuse_peer(const peer *p, const error *why, bool fatal)
{
    log_warn("peer=%s refused code=%s reason=\"%s\"", session_peer_name(p->session),
             status_name(why->code), why->text);
    envelope e = {.kind = ENVELOPE_ERROR};
    e.error = (msg_error){.code = why->code, .text = text_of(why->text), .fatal = fatal};
    session_send(p->session, &e);
    if (fatal) session_close(p->session, why->text);
}

static void on_envelope(void *ctx, session *s, const envelope *e, const error *refused)
{
    (void)s;
    peer *p = ctx;
    error why;
    if (auth_check_envelope(&p->router->settings.auth, &p->who, e, &why) == ST_OK)
        core_envelope(p->router->core, p->link, e, refused, clock_now_ms());
    else
        refuse_peer(p, &why, e->kind == ENVELOPE_REGISTER);
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
        core_link_down(p->router->core, p->link, p->refused || why->code == ST_CANCELLED,
                       clock_now_ms());
    peer_remove(p);
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

static uint32_t io_rtt_us(void *ctx, void *handle)
{
    (void)ctx;
    return session_rtt_us(handle);
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
    uv_close((uv_handle_t *)&r->sighup, NULL);
}

static void stop(router *r)
{
    if (r->stopping) return;
    r->stopping = true;
    sight_close(r->sight);
    session_hub_close(r->hub, on_hub_closed, r);
}

/* Close the links of keys that expired, were revoked, or went from the settings. */
static void recheck_peers(router *r, uint64_t now_ms)
{
    r->recheck_ms = now_ms + RECHECK_EVERY_MS;
    int64_t now_s = time(NULL);
    for (peer *p = r->peers, *next; p != NULL; p = next) {
        next = p->next;
        error why;
        if (session_is_up(p->session) &&
            auth_recheck(&r->settings.auth, &p->who, now_s, &why) != ST_OK) {
            p->refused = true;
            refuse_peer(p, &why, true);
        }
    }
}

static void on_tick(uv_timer_t *timer)
{
    router *r = timer->data;
    if (r->stopping) return;
    uv_timer_start(timer, on_tick, link_until_tick_ms(&r->loop), 0);
    uint64_t now_ms = clock_now_ms();
    core_tick(r->core, now_ms);
    if (now_ms >= r->recheck_ms) recheck_peers(r, now_ms);
    if (r->drain_deadline_ms == 0) return;
    size_t left = core_waited_for(r->core);
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
             core_waited_for(r->core), r->settings.drain_ms);
    r->drain_deadline_ms = clock_now_ms() + r->settings.drain_ms;
    service_notify("STOPPING=1");
    core_drain(r->core, "the router is shutting down");
}

/* What the tenants of the keys file may take. */
static void apply_tenants(router *r)
{
    const auth *a = &r->settings.auth;
    uint32_t count = a->keys != NULL ? keys_tenant_count(a->keys) : 0;
    for (uint32_t i = 0; i < count; i++) {
        const tenant_limits limits = auth_tenant_limits(a, AUTH_TENANTS_PLAIN + i);
        core_set_tenant(r->core, AUTH_TENANTS_PLAIN + i, &limits, clock_now_ms());
    }
    core_tenants_changed(r->core);
}

/* Reads the settings again. All of them are right, or nothing changes. */
static void on_hangup(uv_signal_t *handle, int number)
{
    (void)number;
    router *r = handle->data;
    option_changes changes;
    error err = {0};
    if (settings_reload(&r->settings, r->argc, r->argv, &changes, &err) != ST_OK) {
        log_error("settings refused; nothing has changed reason=\"%s\"", err.text);
        return;
    }
    settings_apply_log(&r->settings);
    const core_options options = settings_core_options(&r->settings);
    core_set_options(r->core, &options);
    apply_tenants(r);
    log_info("settings read again changed=%s",
             changes.applied[0] != '\0' ? changes.applied : "nothing");
    if (changes.needs_restart[0] != '\0')
        log_warn("changed settings wait for a restart names=%s", changes.needs_restart);
    recheck_peers(r, clock_now_ms());
}

/* -- setting up --------------------------------------------------------------------- */

static bool url_has_tls(const char *url)
{
    return strncmp(url, "tls+tcp", 7) == 0 || strncmp(url, "wss", 3) == 0;
}

/* Say what was opened, and append it to `opened`: ":0" asked for any port. */
static status note_opened(const char *url, uint16_t port, const char *whom, json_t *opened,
                          error *err)
{
    const char *colon = strrchr(url, ':');
    char real[512];
    if (port != 0 && colon != NULL && strtoul(colon + 1, NULL, 10) == 0)
        snprintf(real, sizeof real, "%.*s:%u%s", (int)(colon - url), url, port,
                 strchr(colon, '/') != NULL ? strchr(colon, '/') : "");
    else
        snprintf(real, sizeof real, "%s", url);
    log_info("listening url=%s for=%s", real, whom);
    if (json_array_append_new(opened, json_string(real)) != 0)
        return error_set(err, ST_INVALID_ARGUMENT, "the URL %s is not UTF-8", url);
    return ST_OK;
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
        session_listener *listener;
        status st = session_listen(&listener, r->hub, url, url_has_tls(url) ? &tls : NULL,
                                   &handlers, d, err);
        if (st == ST_OK)
            st = note_opened(url, session_listener_port(listener),
                             d->admits == ROLE_WORKER ? "workers" : "clients", opened, err);
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

static status open_sight(router *r, json_t *opened, error *err)
{
    const settings *s = &r->settings;
    if (s->http_listen == NULL) return ST_OK;
    const sight_source source = {.core = r->core,
                                 .hub = r->hub,
                                 .auth = &s->auth,
                                 .vllm = strcmp(s->metrics_compat, "vllm") == 0};
    status st = sight_open(&r->sight, &r->loop, s->http_listen, &source, err);
    if (st != ST_OK) return st;
    return note_opened(s->http_listen, sight_port(r->sight), "http", opened, err);
}

/* One line on stdout, for `gaggle up` and for scripts; systemd is told, too. */
static void print_ready(json_t *clients, json_t *workers, json_t *http)
{
    json_t *ready = json_pack("{s:b, s:O, s:O, s:O}", "ready", 1, "listen", clients,
                              "worker_listen", workers, "http_listen", http);
    CHECK(ready != NULL);
    json_dumpf(ready, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(ready);
    service_notify("READY=1");
}

static void start_loop_handles(router *r)
{
    uv_timer_init(&r->loop, &r->tick);
    uv_prepare_init(&r->loop, &r->prepare);
    uv_check_init(&r->loop, &r->check);
    uv_signal_init(&r->loop, &r->sigint);
    uv_signal_init(&r->loop, &r->sigterm);
    uv_signal_init(&r->loop, &r->sighup);
    r->tick.data = r->prepare.data = r->check.data = r;
    r->sigint.data = r->sigterm.data = r->sighup.data = r;
    uv_timer_start(&r->tick, on_tick, link_until_tick_ms(&r->loop), 0);
    uv_prepare_start(&r->prepare, on_prepare);
    uv_check_start(&r->check, on_check);
    uv_signal_start(&r->sigint, on_signal, SIGINT);
    uv_signal_start(&r->sigterm, on_signal, SIGTERM);
    uv_signal_start(&r->sighup, on_hangup, SIGHUP);
}

static status serve(router *r, error *err)
{
    core_options options = settings_core_options(&r->settings);
    if (getrandom(&options.seed, sizeof options.seed, 0) != sizeof options.seed)
        return error_set(err, ST_INTERNAL, "the kernel gives no random numbers");
    r->instance = id128_random();
    const core_io io = {
        .send = io_send, .is_idle = io_is_idle, .close = io_close, .rtt_us = io_rtt_us, .ctx = r};

    int rv = uv_loop_init(&r->loop);
    if (rv != 0)
        return error_set(err, ST_RESOURCE_EXHAUSTED, "starting the loop: %s", uv_strerror(rv));
    status st = session_hub_create(&r->hub, &r->loop, err);
    if (st != ST_OK) return st;
    r->core = core_create(&options, &io, clock_now_ms());
    apply_tenants(r);
    start_loop_handles(r);
    r->client_door = (door){r, ROLE_CLIENT};
    r->worker_door = (door){r, ROLE_WORKER};
    json_t *clients = json_array(), *workers = json_array(), *http = json_array();
    st = open_doors(r, &r->settings.listen, &r->client_door, r->settings.client_ca, clients, err);
    if (st == ST_OK)
        st = open_doors(r, &r->settings.worker_listen, &r->worker_door, r->settings.worker_ca,
                        workers, err);
    if (st == ST_OK) st = open_sight(r, http, err);
    if (st == ST_OK)
        print_ready(clients, workers, http);
    else
        stop(r);
    json_decref(clients);
    json_decref(workers);
    json_decref(http);
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
    log_init("router", LOG_INFO);
    r.argc = argc;
    r.argv = argv;
    status st = settings_read(&r.settings, argc, argv, &err);
    if (st == ST_OK && !r.settings.check_config) {
        settings_apply_log(&r.settings);
        st = serve(&r, &err);
    }
    settings_free(&r.settings);
    if (st == ST_OK) return 0;
    log_farewell("gaggle-router", err.text);
    return st == ST_INVALID_ARGUMENT ? 2 : 1;
}
