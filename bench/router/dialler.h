/* dialler: what every process of a bench that talks to the router needs: a loop with a hub, a
 * session that outlasts a busy machine, acknowledgements in batches. Loop thread. */
#ifndef GAGGLE_BENCH_ROUTER_DIALLER_H
#define GAGGLE_BENCH_ROUTER_DIALLER_H

#include "proto/session.h"

/* A process that gets no turn for a second is not dead: what is measured are figures, not how a
 * link is repaired, and a stream lost with its link would never be counted as open. */
enum { DIALLER_DEAD_MS = 30000 };

/* Initialises `loop`; the hub lives as long as it. */
session_hub *dialler_hub(uv_loop_t *loop);

/* A client of the router at `url`. `token` and `handlers` as session_dial() takes them. */
session *dialler_client(session_hub *hub, const char *url, const char *token,
                        const session_handlers *handlers, void *ctx);

/* Acknowledgements that wait for their batch; {0} is empty. */
typedef struct acks {
    buffer stream, next_wanted; /* uint32_t each */
} acks;

void acks_add(acks *a, uint32_t stream, uint32_t next_wanted);
/* All in one message; none, when nothing waits. */
void acks_send(acks *a, session *s);
void acks_free(acks *a);

#endif
