#include "bench/router/dialler.h"

#include "common/check.h"

session_hub *dialler_hub(uv_loop_t *loop)
{
    session_hub *hub;
    error err;
    CHECK(uv_loop_init(loop) == 0);
    CHECK(session_hub_create(&hub, loop, &err) == ST_OK);
    return hub;
}

session *dialler_client(session_hub *hub, const char *url, const char *token,
                        const session_handlers *handlers, void *ctx)
{
    const session_dial_options dial = {.urls = &url,
                                       .url_count = 1,
                                       .role = ROLE_CLIENT,
                                       .instance = id128_random(),
                                       .token = token,
                                       .name = "bench",
                                       .dead_ms = DIALLER_DEAD_MS};
    session *s;
    error err;
    CHECK(session_dial(&s, hub, &dial, handlers, ctx, &err) == ST_OK);
    return s;
}

void acks_add(acks *a, uint32_t stream, uint32_t next_wanted)
{
    buffer_append(&a->stream, &stream, sizeof stream);
    buffer_append(&a->next_wanted, &next_wanted, sizeof next_wanted);
}

void acks_send(acks *a, session *s)
{
    if (a->stream.size == 0) return;
    envelope e = {.kind = ENVELOPE_ACK};
    e.ack = (msg_ack){.stream = (const uint32_t *)(const void *)a->stream.data,
                      .next_wanted = (const uint32_t *)(const void *)a->next_wanted.data,
                      .count = a->stream.size / sizeof(uint32_t)};
    session_send(s, &e);
    buffer_clear(&a->stream);
    buffer_clear(&a->next_wanted);
}

void acks_free(acks *a)
{
    buffer_free(&a->stream);
    buffer_free(&a->next_wanted);
}
