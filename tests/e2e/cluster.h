/* cluster: a router and workers as real processes, with cables in between that can be cut. */
#ifndef GAGGLE_TESTS_CLUSTER_H
#define GAGGLE_TESTS_CLUSTER_H

#include "client/gaggle.h"
#include "tests/e2e/processes.h"
#include "tests/e2e/tcp_proxy.h"

enum { CLUSTER_WORKERS_MAX = 4, CLUSTER_ARGS_MAX = 16 };

typedef struct cluster_options {
    const char *scheme; /* of every link; NULL: tcp. TLS is mutual. No cables with ipc */
    uint32_t workers;
    const char *model;                         /* folder */
    const char *worker_args[CLUSTER_ARGS_MAX]; /* more flags; NULL ends them */
    const char *router_args[CLUSTER_ARGS_MAX];
    /* tcp only. Where the router listens instead of on 127.0.0.1, and how that is reached from the
     * cables; with the clients' token, for off loopback a router wants them. */
    const char *near_host, *far_host, *client_token;
} cluster_options;

typedef struct cluster {
    cluster_options options;
    process router, workers[CLUSTER_WORKERS_MAX];
    uint16_t client_port, worker_port;
    tcp_proxy *client_cable, *worker_cables[CLUSTER_WORKERS_MAX]; /* NULL with ipc */
    char client_url_text[64];
    const char *client_url; /* through the cable */
} cluster;

/* Returns when every worker is registered. */
void cluster_start(cluster *c, const cluster_options *options);
/* SIGTERM to all; every process must end with status 0. */
void cluster_stop(cluster *c);

void cluster_kill_router(cluster *c);    /* kill -9 */
void cluster_restart_router(cluster *c); /* on the same ports */
/* SIGTERM, and another on the same ports when it has ended. */
void cluster_replace_router(cluster *c);

void cluster_kill_worker(cluster *c, uint32_t index); /* kill -9 */
/* One that was killed or has ended, again under its name; returns when it is registered. */
void cluster_start_worker(cluster *c, uint32_t index);
/* The same without waiting. */
void cluster_launch_worker(cluster *c, uint32_t index);

/* A client of it; the test fails where there is none. */
gaggle_client *cluster_client(const cluster *c);
/* What its clients say: the URL and, with TLS, the certificates. For clients that differ. */
gaggle_options cluster_client_options(const cluster *c);

/* Another cable to its router's clients. */
tcp_proxy *cluster_client_cable(const cluster *c);
/* A client that dials `cable` instead. */
gaggle_client *cluster_client_through(const cluster *c, const tcp_proxy *cable);

/* Its report, or NULL where it has none. */
const gaggle_worker_report *cluster_worker(const gaggle_report *report, uint32_t index);
/* Index of the first worker that runs an answer; waits until there is one. */
uint32_t cluster_busy_worker(const cluster *c, gaggle_client *client);
/* Until no worker runs anything, and all `workers` of them hold no block but cached ones. */
void cluster_wait_idle(gaggle_client *client, uint32_t workers);

/* Tokens that the router has relayed since its start. */
uint64_t cluster_relayed(gaggle_client *client);
/* Until there are so many. */
void cluster_wait_relayed(gaggle_client *client, uint64_t total);

/* Ask the router, at first and after any news of the cluster, until `holds` says yes, at most 20 s;
 * the test fails after that. */
void cluster_wait(gaggle_client *client, bool (*holds)(const gaggle_report *report, void *ctx),
                  void *ctx, const char *what);

#endif
