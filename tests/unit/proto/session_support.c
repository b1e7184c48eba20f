#include "session_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

const uint8_t sp_hello_bytes[8] = {0, 'S', 'P', 0, 0, 0x10, 0, 0};

session_hub *open_sessions(uv_loop_t *loop)
{
    session_hub *hub = NULL;
    error err;
    assert_int_equal(uv_loop_init(loop), 0);
    assert_int_equal(session_hub_create(&hub, loop, &err), ST_OK);
    return hub;
}

static void set_flag(void *arg)
{
    *(unsigned *)arg = 1;
}

void close_sessions(uv_loop_t *loop, session_hub *hub)
{
    unsigned closed = 0;
    session_hub_close(hub, set_flag, &closed);
    assert_true(run_until_at_least(loop, &closed, 1));
    assert_int_equal(uv_run(loop, UV_RUN_NOWAIT), 0);
    assert_int_equal(uv_loop_close(loop), 0);
}

/* -- talkers ---------------------------------------------------------------------------- */

static status house_hello(void *ctx, session *s, const msg_hello *hello, msg_welcome *welcome,
                          void **session_ctx, error *err)
{
    house *h = ctx;
    h->hellos++;
    assert_null(*session_ctx);
    assert_false(session_is_up(s));
    assert_true(hello->role == ROLE_CLIENT || hello->role == ROLE_WORKER);
    if (h->answer != ST_OK) {
        *err = h->err;
        return h->answer;
    }
    talker *t = mem_calloc(1, sizeof *t);
    t->house = h;
    t->s = s;
    t->on_up = h->on_up;
    t->on_envelope = h->on_envelope;
    t->on_idle = h->on_idle;
    t->on_down = h->on_down;
    t->arg = h->arg;
    t->next = h->talkers;
    h->talkers = t;
    *session_ctx = t;
    welcome->router_instance = h->instance;
    welcome->window_default = LIMIT_WINDOW_TOKENS_DEFAULT;
    welcome->streams_max = 16;
    welcome->build = text_of("test");
    if (h->close_in_hello) session_close(s, "changed its mind");
    return ST_OK;
}

static void talker_up(void *ctx, session *s, const msg_welcome *welcome)
{
    talker *t = ctx;
    assert_ptr_equal(t->s, s);
    assert_true(session_is_up(s));
    assert_int_equal(welcome == NULL, t->house != NULL);
    t->ups++;
    if (welcome != NULL) t->welcome = *welcome;
    if (t->house != NULL) t->house->ups++;
    if (t->on_up != NULL) t->on_up(t);
}

static void talker_envelope(void *ctx, session *s, const envelope *e, const error *refused)
{
    talker *t = ctx;
    assert_ptr_equal(t->s, s);
    t->envelopes++;
    t->last_kind = e->kind;
    if (refused != NULL) {
        t->refusals++;
        t->why = *refused;
    }
    if (t->on_envelope != NULL) t->on_envelope(t, e);
}

static void talker_idle(void *ctx, session *s)
{
    talker *t = ctx;
    assert_ptr_equal(t->s, s);
    assert_true(session_is_idle(s));
    t->idles++;
    if (t->on_idle != NULL) t->on_idle(t);
}

static void talker_down(void *ctx, session *s, const error *why)
{
    talker *t = ctx;
    assert_ptr_equal(t->s, s);
    assert_false(session_is_up(s));
    t->downs++;
    t->why = *why;
    if (t->house != NULL) {
        assert_int_equal(t->downs, 1);
        t->house->downs++;
        t->s = NULL;
    }
    if (t->on_down != NULL) t->on_down(t);
}

static void talker_closed(void *ctx, session *s, const error *why)
{
    talker *t = ctx;
    assert_ptr_equal(t->s, s);
    t->closeds++;
    assert_int_equal(t->closeds, 1);
    t->closed_why = *why;
    t->s = NULL;
}

const session_handlers house_handlers = {.on_hello = house_hello,
                                         .on_up = talker_up,
                                         .on_envelope = talker_envelope,
                                         .on_idle = talker_idle,
                                         .on_down = talker_down};
const session_handlers talker_handlers = {.on_up = talker_up,
                                          .on_envelope = talker_envelope,
                                          .on_idle = talker_idle,
                                          .on_down = talker_down,
                                          .on_closed = talker_closed};

void house_open(house *h, session_hub *hub, scheme s, const char *tag)
{
    error err;
    h->instance = id128_random();
    status st = session_listen(&h->listener, hub, listen_url(s, tag).text, server_tls(s),
                               &house_handlers, h, &err);
    if (st != ST_OK) fail_msg("%s", err.text);
}

void house_free(house *h)
{
    while (h->talkers != NULL) {
        talker *t = h->talkers;
        h->talkers = t->next;
        mem_free(t);
    }
}

session_dial_options dial_options(scheme s, const char *const *url)
{
    return (session_dial_options){.urls = url,
                                  .url_count = 1,
                                  .tls = client_tls(s),
                                  .role = ROLE_CLIENT,
                                  .instance = id128_random(),
                                  .token = "secret",
                                  .name = "tester"};
}

void connect_talker(uv_loop_t *loop, session_hub *hub, talker *t, house *h, scheme s,
                    const char *tag)
{
    error err;
    test_url url = dial_url(s, tag, session_listener_port(h->listener));
    const char *urls[] = {url.text};
    session_dial_options options = dial_options(s, urls);
    unsigned ups = h->ups;
    status st = session_dial(&t->s, hub, &options, &talker_handlers, t, &err);
    if (st != ST_OK) fail_msg("%s", err.text);
    if (!run_until_at_least(loop, &t->ups, 1) || !run_until_at_least(loop, &h->ups, ups + 1))
        fail_msg("%s did not come up: %s", url.text, t->why.text);
}

/* -- scripts --------------------------------------------------------------------------------- */

static void script_message(end *e, const uint8_t *bytes, size_t size)
{
    script *p = e->hook_arg;
    envelope got;
    error err;
    arena_reset(&p->arena);
    if (envelope_decode(bytes, size, &p->arena, &got, &err) != ST_OK) fail_msg("%s", err.text);
    switch (got.kind) {
    case ENVELOPE_ERROR:
        p->errors++;
        p->error.code = got.error.code;
        p->error.retry_after_ms = got.error.retry_after_ms;
        snprintf(p->error.text, sizeof p->error.text, "%.*s", (int)got.error.text.size,
                 got.error.text.data);
        p->fatal = got.error.fatal;
        break;
    case ENVELOPE_WELCOME:
        p->welcomes++;
        break;
    case ENVELOPE_BYE:
        p->byes++;
        break;
    case ENVELOPE_PING:
        p->pings++;
        if (p->answer_pings)
            script_send(p, (envelope){.kind = ENVELOPE_PONG, .pong.t = got.ping.t});
        break;
    default:
        break;
    }
}

void script_dial(script *p, uv_loop_t *loop, link_hub *hub, scheme s, const char *tag,
                 uint16_t port)
{
    error err;
    test_url url = dial_url(s, tag, port);
    p->link = 4711;
    p->end.hook = script_message;
    p->end.hook_arg = p;
    status st =
        link_dial(&p->end.link, hub, url.text, client_tls(s), NULL, &end_handlers, &p->end, &err);
    if (st != ST_OK) fail_msg("%s", err.text);
    if (!run_until_at_least(loop, &p->end.ups, 1)) fail_msg("no link: %s", p->end.text);
}

void script_free(script *p)
{
    arena_free(&p->arena);
    end_free(&p->end);
}

static void encode(buffer *out, const envelope *e)
{
    arena scratch = {0};
    assert_int_equal(envelope_encode(e, &scratch, out), ST_OK);
    arena_free(&scratch);
}

void script_send(script *p, envelope e)
{
    buffer body = {0};
    e.link = p->link;
    e.n = ++p->n;
    encode(&body, &e);
    link_send(p->end.link, body.data, body.size);
    buffer_free(&body);
}

void frame_envelope(buffer *out, const envelope *e)
{
    buffer body = {0};
    encode(&body, e);
    uint8_t length[8] = {0};
    for (int i = 0; i < 4; i++)
        length[7 - i] = (uint8_t)(body.size >> (8 * i));
    buffer_append(out, length, sizeof length);
    buffer_append(out, body.data, body.size);
    buffer_free(&body);
}

envelope hello_envelope(void)
{
    return (envelope){.kind = ENVELOPE_HELLO,
                      .hello = {.version = LIMIT_PROTOCOL_VERSION,
                                .role = ROLE_CLIENT,
                                .instance = id128_random(),
                                .token = text_of("secret"),
                                .name = text_of("script")}};
}

void script_hello(script *p, uv_loop_t *loop)
{
    script_send(p, hello_envelope());
    assert_true(run_until_at_least(loop, &p->welcomes, 1));
}
