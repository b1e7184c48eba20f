#include "tests/e2e/cluster.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "tests/e2e/certificates.h"
#include "tests/e2e/news.h"

enum { WAIT_MS = 20000 };

static bool has_tls(const cluster *c)
{
    return strcmp(c->options.scheme, "tls+tcp") == 0 || strcmp(c->options.scheme, "wss") == 0;
}

static bool is_ipc(const cluster *c)
{
    return strcmp(c->options.scheme, "ipc") == 0;
}

static void make_url_at(const cluster *c, char *url, size_t size, const char *who, const char *host,
                        uint16_t port)
{
    if (is_ipc(c))
        snprintf(url, size, "ipc://%s.sock", who);
    else
        snprintf(url, size, "%s://%s:%u%s", c->options.scheme, host, port,
                 strncmp(c->options.scheme, "ws", 2) == 0 ? "/gaggle" : "");
}

/* `who` are "clients" or "workers". The router's certificate knows it as localhost. */
static void make_url(const cluster *c, char *url, size_t size, const char *who, uint16_t port)
{
    make_url_at(c, url, size, who, has_tls(c) ? "localhost" : "127.0.0.1", port);
}

static tcp_proxy *start_cable(const cluster *c, uint16_t to_port)
{
    tcp_proxy *cable = tcp_proxy_start(to_port);
    if (c->options.far_host != NULL) tcp_proxy_lead_to(cable, c->options.far_host);
    return cable;
}

static size_t add_args(const char **args, size_t count, const char *const *more)
{
    while (*more != NULL)
        args[count++] = *more++;
    args[count] = NULL;
    return count;
}

static void start_router(cluster *c)
{
    char clients[64], workers[64];
    const char *host = c->options.near_host;
    if (host == NULL) host = has_tls(c) ? "localhost" : "127.0.0.1";
    make_url_at(c, clients, sizeof clients, "clients", host, c->client_port);
    make_url_at(c, workers, sizeof workers, "workers", host, c->worker_port);
    const char *args[CLUSTER_ARGS_MAX + 13];
    size_t count =
        add_args(args, 0, (const char *[]){"--listen", clients, "--worker-listen", workers, NULL});
    if (has_tls(c)) {
        const certificates *made = certificates_made();
        count = add_args(args, count,
                         (const char *[]){"--tls-cert", made->router_cert, "--tls-key",
                                          made->router_key, "--client-ca", made->ca_file,
                                          "--worker-ca", made->ca_file, NULL});
    }
    add_args(args, count, c->options.router_args);
    process_start(&c->router, "gaggle-router", args, true);
}

static void start_worker(cluster *c, uint32_t index, bool wait_ready)
{
    char url[64], name[16];
    tcp_proxy *cable = c->worker_cables[index];
    make_url(c, url, sizeof url, "workers", cable != NULL ? tcp_proxy_port(cable) : 0);
    snprintf(name, sizeof name, "w%u", index);
    const char *args[CLUSTER_ARGS_MAX + 15];
    size_t count = add_args(args, 0,
                            (const char *[]){"-m", c->options.model, "--router", url, "--name",
                                             name, "--threads", "1", NULL});
    if (has_tls(c)) {
        const certificates *made = certificates_made();
        count =
            add_args(args, count,
                     (const char *[]){"--tls-ca", made->ca_file, "--tls-cert", made->dialler_cert,
                                      "--tls-key", made->dialler_key, NULL});
    }
    add_args(args, count, c->options.worker_args);
    process_start(&c->workers[index], "gaggle-worker", args, wait_ready);
}

/* Socket files get short names in the scratch folder: its path may be too long for an address. */
static void enter_scratch(void)
{
    const char *folder = getenv("GAGGLE_TEST_TMP");
    CHECK(folder != NULL && chdir(folder) == 0);
}

void cluster_start(cluster *c, const cluster_options *options)
{
    *c = (cluster){.options = *options};
    if (c->options.scheme == NULL) c->options.scheme = "tcp";
    if (is_ipc(c)) {
        enter_scratch();
    } else {
        c->client_port = free_port();
        c->worker_port = free_port();
    }
    start_router(c);
    if (!is_ipc(c)) c->client_cable = start_cable(c, c->client_port);
    make_url(c, c->client_url_text, sizeof c->client_url_text, "clients",
             c->client_cable != NULL ? tcp_proxy_port(c->client_cable) : 0);
    c->client_url = c->client_url_text;
    for (uint32_t i = 0; i < options->workers; i++) {
        if (!is_ipc(c)) {
            c->worker_cables[i] = start_cable(c, c->worker_port);
            tcp_proxy_tell(c->worker_cables[i], news_event());
        }
        start_worker(c, i, true);
    }
}

void cluster_stop(cluster *c)
{
    for (uint32_t i = 0; i < c->options.workers; i++) {
        CHECK(process_stop(&c->workers[i], SIGTERM) == 0);
        tcp_proxy_stop(c->worker_cables[i]);
    }
    CHECK(process_stop(&c->router, SIGTERM) == 0);
    tcp_proxy_stop(c->client_cable);
}

void cluster_kill_router(cluster *c)
{
    CHECK(process_stop(&c->router, SIGKILL) == 128 + SIGKILL);
}

void cluster_restart_router(cluster *c)
{
    cluster_kill_router(c);
    start_router(c);
}

void cluster_replace_router(cluster *c)
{
    CHECK(process_stop(&c->router, SIGTERM) == 0);
    start_router(c);
}

void cluster_kill_worker(cluster *c, uint32_t index)
{
    CHECK(process_stop(&c->workers[index], SIGKILL) == 128 + SIGKILL);
}

void cluster_start_worker(cluster *c, uint32_t index)
{
    start_worker(c, index, true);
}

void cluster_launch_worker(cluster *c, uint32_t index)
{
    start_worker(c, index, false);
}

gaggle_options cluster_client_options(const cluster *c)
{
    gaggle_options options = {
        .urls = &c->client_url, .url_count = 1, .token = c->options.client_token};
    if (has_tls(c)) {
        const certificates *made = certificates_made();
        options.ca_file = made->ca_file;
        options.cert_file = made->dialler_cert;
        options.key_file = made->dialler_key;
    }
    return options;
}

gaggle_client *cluster_client(const cluster *c)
{
    const gaggle_options options = cluster_client_options(c);
    gaggle_client *client;
    gaggle_error err;
    CHECK(gaggle_client_create(&client, &options, &err) == GAGGLE_OK);
    return client;
}

tcp_proxy *cluster_client_cable(const cluster *c)
{
    return start_cable(c, c->client_port);
}

gaggle_client *cluster_client_through(const cluster *c, const tcp_proxy *cable)
{
    char text[64];
    make_url(c, text, sizeof text, "clients", tcp_proxy_port(cable));
    const char *url = text;
    gaggle_options options = cluster_client_options(c);
    options.urls = &url;
    gaggle_client *client;
    gaggle_error err;
    CHECK(gaggle_client_create(&client, &options, &err) == GAGGLE_OK);
    return client;
}

const gaggle_worker_report *cluster_worker(const gaggle_report *report, uint32_t index)
{
    char name[16];
    snprintf(name, sizeof name, "w%u", index);
    for (size_t i = 0; i < report->worker_count; i++)
        if (strcmp(report->workers[i].worker_id, name) == 0) return &report->workers[i];
    return NULL;
}

typedef struct busy_search {
    const cluster *cluster;
    uint32_t index;
} busy_search;

/* The router may not have heard yet of one that was killed a moment ago. */
static bool find_busy(const gaggle_report *report, void *ctx)
{
    busy_search *search = ctx;
    for (uint32_t i = 0; i < search->cluster->options.workers; i++) {
        const gaggle_worker_report *w = cluster_worker(report, i);
        search->index = i;
        if (search->cluster->workers[i].pid != 0 && w != NULL && w->connected && w->streams > 0)
            return true;
    }
    return false;
}

uint32_t cluster_busy_worker(const cluster *c, gaggle_client *client)
{
    busy_search search = {.cluster = c};
    cluster_wait(client, find_busy, &search, "a worker with an answer");
    return search.index;
}

uint64_t cluster_relayed(gaggle_client *client)
{
    gaggle_report *report;
    gaggle_error err;
    CHECK(gaggle_query_wait(&report, client, WAIT_MS, &err) == GAGGLE_OK);
    uint64_t total = report->tokens_total;
    gaggle_report_free(report);
    return total;
}

static bool has_relayed(const gaggle_report *report, void *ctx)
{
    return report->tokens_total >= *(const uint64_t *)ctx;
}

void cluster_wait_relayed(gaggle_client *client, uint64_t total)
{
    cluster_wait(client, has_relayed, &total, "tokens");
}

static bool all_idle(const gaggle_report *report, void *ctx)
{
    const uint32_t *workers = ctx;
    if (report->running > 0 || report->queued > 0 || report->worker_count != *workers) return false;
    for (size_t i = 0; i < report->worker_count; i++) {
        const gaggle_worker_report *w = &report->workers[i];
        if (!w->connected || w->running > 0 || w->waiting > 0 || w->streams > 0 ||
            w->kv_blocks_free != w->kv_blocks)
            return false;
    }
    return true;
}

void cluster_wait_idle(gaggle_client *client, uint32_t workers)
{
    cluster_wait(client, all_idle, &workers, "idle workers with all blocks free");
}

void cluster_wait(gaggle_client *client, bool (*holds)(const gaggle_report *report, void *ctx),
                  void *ctx, const char *what)
{
    uint64_t deadline_ms = clock_now_ms() + WAIT_MS;
    do {
        gaggle_report *report;
        gaggle_error err;
        news_clear();
        if (gaggle_query_wait(&report, client, 1000, &err) != GAGGLE_OK) continue;
        bool yes = holds(report, ctx);
        gaggle_report_free(report);
        if (yes) return;
    } while (news_wait(deadline_ms));
    fprintf(stderr, "waited %d ms in vain for: %s\n", WAIT_MS, what);
    UNREACHABLE("the cluster reaches the state it was waited for");
}
