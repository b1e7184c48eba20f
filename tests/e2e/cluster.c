#include "tests/e2e/cluster.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"

enum { WAIT_MS = 20000 };

static void start_router(cluster *c)
{
    char clients[64], workers[64];
    snprintf(clients, sizeof clients, "tcp://127.0.0.1:%u", c->client_port);
    snprintf(workers, sizeof workers, "tcp://127.0.0.1:%u", c->worker_port);
    const char *args[CLUSTER_ARGS_MAX + 5] = {"--listen", clients, "--worker-listen", workers};
    for (size_t i = 0; c->options.router_args[i] != NULL; i++)
        args[4 + i] = c->options.router_args[i];
    process_start(&c->router, "gaggle-router", args, true);
}

static void start_worker(cluster *c, uint32_t index)
{
    char url[64], name[16];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", tcp_proxy_port(c->worker_cables[index]));
    snprintf(name, sizeof name, "w%u", index);
    const char *args[CLUSTER_ARGS_MAX + 9] = {"-m", c->options.model, "--router", url, "--name",
                                              name, "--threads",      "1"};
    for (size_t i = 0; c->options.worker_args[i] != NULL; i++)
        args[8 + i] = c->options.worker_args[i];
    process_start(&c->workers[index], "gaggle-worker", args, true);
}

void cluster_start(cluster *c, const cluster_options *options)
{
    *c = (cluster){.options = *options};
    c->client_port = free_port();
    c->worker_port = free_port();
    start_router(c);
    c->client_cable = tcp_proxy_start(c->client_port);
    snprintf(c->client_url, sizeof c->client_url, "tcp://127.0.0.1:%u",
             tcp_proxy_port(c->client_cable));
    for (uint32_t i = 0; i < options->workers; i++) {
        c->worker_cables[i] = tcp_proxy_start(c->worker_port);
        start_worker(c, i);
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

gaggle_client *cluster_client(const cluster *c)
{
    const char *url = c->client_url;
    gaggle_client *client;
    gaggle_error err;
    CHECK(gaggle_client_create(&client, &(gaggle_options){.urls = &url, .url_count = 1}, &err) ==
          GAGGLE_OK);
    return client;
}

void cluster_wait(gaggle_client *client, bool (*holds)(const gaggle_report *report, void *ctx),
                  void *ctx, const char *what)
{
    uint64_t deadline_ms = clock_now_ms() + WAIT_MS;
    while (clock_now_ms() < deadline_ms) {
        gaggle_report *report;
        gaggle_error err;
        if (gaggle_query_wait(&report, client, 1000, &err) != GAGGLE_OK) continue;
        bool yes = holds(report, ctx);
        gaggle_report_free(report);
        if (yes) return;
    }
    fprintf(stderr, "waited %d ms in vain for: %s\n", WAIT_MS, what);
    UNREACHABLE("the cluster reaches the state it was waited for");
}
