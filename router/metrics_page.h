/* metrics_page: everything the router knows of itself, as Prometheus reads it (text format 0.0.4).
 *
 * docs/metrics.md says what each means. Beside gaggle_* the most used of vLLM's names are there
 * with vLLM's buckets, so that dashboards, autoscaling rules and the Kubernetes inference gateway
 * work unchanged. Pure, but for /proc/self of this process. Loop thread. */
#ifndef GAGGLE_ROUTER_METRICS_PAGE_H
#define GAGGLE_ROUTER_METRICS_PAGE_H

#include "proto/session.h"
#include "router/metrics.h"

typedef struct metrics_source {
    const core_metrics *metrics;
    const msg_report *report;
    session_traffic clients, workers;
    uint64_t started_ms; /* since 1970 */
    bool vllm;           /* vLLM's names, too */
    /* What a tenant is called; writes to `out` and returns it. */
    char *(*tenant_name)(const void *ctx, uint32_t tenant, char out[LIMIT_KEY_NAME_BYTES + 1]);
    const void *tenant_ctx;
} metrics_source;

void metrics_page(const metrics_source *source, buffer *out);

#endif
