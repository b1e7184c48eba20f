/* fake_worker: the real wire with a stated speed model instead of a model.
 *
 * Registers with a router, takes every request, and makes tokens either as fast as windows and link
 * allow or at a fixed rate over all streams. Token i of a request is fake_token(id, i), so that a
 * receiver can check each. Finish.queue_us is the time that a request waited here. Several may live
 * in one process. Loop thread. */
#ifndef GAGGLE_TESTS_FAKE_WORKER_H
#define GAGGLE_TESTS_FAKE_WORKER_H

#include "proto/session.h"

typedef struct fake_worker fake_worker;

typedef struct fake_worker_options {
    const char *router;    /* URL; outlives it, as `model` does */
    const char *worker_id; /* copied */
    const char *model;
    uint32_t slots;
    uint32_t text_bytes;      /* a token */
    double tokens_per_second; /* over all streams; 0 = as fast as it goes */
    uint32_t tick_ms;         /* it looks whether a token is due so often; 0 = 1 */
    uint32_t dead_ms;         /* of its link, as session_dial() takes it */
} fake_worker_options;

MUST_USE status fake_worker_start(fake_worker **out, uv_loop_t *loop, session_hub *hub,
                                  const fake_worker_options *options, error *err);

/* After the hub was closed: frees it. */
void fake_worker_destroy(fake_worker *w);

uint32_t fake_token(const id128 *request_id, uint32_t index);

#endif
