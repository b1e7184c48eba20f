/* sight: the pages of the router's HTTP server.
 *
 *   /livez           200 as long as the loop turns
 *   /readyz          200 when a request would find a worker; else 503, and why
 *   /metrics         for Prometheus
 *   /admin/workers   the workers, for admins
 *
 * Who knocks often costs little: a page that anybody may read is made a few times a second at most,
 * and shared. /admin asks for an admin's key where there is a keys file, for an API token where
 * there are such, and is open without any lock on loopback only. docs/metrics.md shows the pages.
 * Loop thread. */
#ifndef GAGGLE_ROUTER_SIGHT_H
#define GAGGLE_ROUTER_SIGHT_H

#include "proto/session.h"
#include "router/auth.h"
#include "router/core.h"
#include "router/http.h"

typedef struct sight sight;

/* What is shown; all of it outlives the sight. */
typedef struct sight_source {
    core *core;
    const session_hub *hub;
    const auth *auth;
    bool vllm; /* vLLM's names in /metrics, too */
} sight_source;

/* Listen on http://ADDRESS:PORT; errors as of http_listen(). */
MUST_USE status sight_open(sight **out, uv_loop_t *loop, const char *url,
                           const sight_source *source, error *err);
uint16_t sight_port(const sight *s);

/* No more answers; NULL is fine. What the loop still closes frees itself. */
void sight_close(sight *s);

#endif
