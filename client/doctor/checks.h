/* checks: each looks at one thing and adds what it finds.
 *
 * `root` is the root of the machine that is looked at, "" for this one (host_facts.h). */
#ifndef GAGGLE_DOCTOR_CHECKS_H
#define GAGGLE_DOCTOR_CHECKS_H

#include "client/doctor/findings.h"
#include "client/doctor/gpu_driver.h"
#include "client/doctor/worker_probe.h"
#include "common/link.h"
#include "proto/envelope.h"

/* glibc, CPU, memory (host_checks.c). */
void check_host(findings *f, const char *root);

/* That gaggle-worker starts; driver, GPUs, and whether its backend has code for them
 * (gpu_checks.c). */
void check_worker(findings *f, const worker_probe *worker);
void check_gpus(findings *f, const char *root, const gpu_driver *driver,
                const worker_probe *worker);

/* May a router listen there? (port_checks.c) */
void check_port(findings *f, const char *root, uint16_t port);

/* The clock by itself; and by somebody else's, who said `other_s` when it was `now_s` here
 * (clock_checks.c). */
void check_clock(findings *f, int64_t now_s);
void check_clock_against(findings *f, const char *whose, int64_t other_s, int64_t now_s);

/* PEM files that are named; NULL: none is (certificate_checks.c). */
void check_certificates(findings *f, const link_tls *tls, int64_t now_s);

/* The cache of models and its disk; a model, if one is named (model_checks.c). */
void check_cache(findings *f);
void check_model(findings *f, const char *root, const char *model);

typedef struct router_wish {
    const char *url;
    const link_tls *tls;
    role role;
    const char *token; /* NULL = none */
    uint32_t patience_ms;
    bool named; /* by the user: otherwise it is fine that nobody is there */
} router_wish;

/* Name, connection, certificate, admission and fleet (router_checks.c). */
void check_router(findings *f, const router_wish *wish);

#endif
