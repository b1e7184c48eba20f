/* Goal: what a client leaves by going away is free within a step and a round trip, wherever its
 * answer was (waiting, in its prompt, amid its tokens, behind the last one), and the router's
 * histogram says how long each took.
 * Method: a real router and worker whose prompts take seconds; a client goes away in each of the
 * four places, by a Bye and by its socket alone; then /metrics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "common/clock.h"
#include "proto/session.h"
#include "tests/e2e/answers.h"
#include "tests/e2e/dummy_model.h"
#include "tests/e2e/http_client.h"
#include "tests/e2e/news.h"
#include "tests/sanitized.h"
#include "tests/unit/router/prometheus_check.h"

enum {
    PROMPT_TOKENS = SANITIZED ? 256 : 4000,
    LAST_TOKENS = 20,
    LONG_TOKENS = SANITIZED ? 200 : 1000,
    PLACES = 4,
    LAST_TOKEN = 3, /* of them */
    /* A step of 64 tokens takes tens of milliseconds; machines are busy, sanitizers slow. */
    EACH_MS_MAX = SANITIZED ? 10000 : 1000,
};

static const char *const places[PLACES] = {"waiting", "prefill", "decode", "last token"};

typedef struct stage {
    cluster c;
    uint16_t http_port;
    gaggle_client *watcher;
    uint32_t prompts; /* so that none finds another's in the cache */
} stage;

static void begin(stage *s)
{
    static const dummy_shape shape = {.layers = 6,
                                      .hidden = 1024,
                                      .intermediate = 2816,
                                      .heads = 16,
                                      .kv_heads = 4,
                                      .head_dim = 64,
                                      .context = 4096};
    char url[64];
    *s = (stage){.http_port = free_port()};
    snprintf(url, sizeof url, "http://127.0.0.1:%u", s->http_port);
    cluster_start(&s->c,
                  &(cluster_options){.workers = 1,
                                     .model = dummy_model_write(&shape),
                                     .worker_args = {"--load-format", "dummy", "--kv-cache-memory",
                                                     "64M", "--max-num-batched-tokens", "64",
                                                     "--max-num-seqs", "1", "--drain-ms", "0"},
                                     .router_args = {"--http-listen", url, "--client-grace-ms",
                                                     "100", "--stall-ms", "600000"}});
    s->watcher = cluster_client(&s->c);
}

static void end(stage *s)
{
    gaggle_client_destroy(s->watcher);
    cluster_stop(&s->c);
}

/* -- a client in each of the places -------------------------------------------------------------
 */

static gaggle_stream *ask(stage *s, gaggle_client *client, uint32_t prompt_tokens,
                          uint32_t max_tokens)
{
    static uint32_t prompt[PROMPT_TOKENS];
    s->prompts++;
    for (uint32_t i = 0; i < prompt_tokens; i++)
        prompt[i] = 300 + (i + s->prompts * 7) % 1500;
    const gaggle_request request = {
        .ids = prompt, .id_count = prompt_tokens, .max_tokens = max_tokens, .ignore_eos = true};
    gaggle_stream *stream;
    gaggle_error err;
    assert_int_equal(gaggle_submit(&stream, client, &request, &err), GAGGLE_OK);
    return stream;
}

static bool one_waits(const gaggle_report *report, void *ctx)
{
    (void)ctx;
    return report->queued == 1;
}

static bool reads_a_prompt(const gaggle_report *report, void *ctx)
{
    (void)ctx;
    const gaggle_worker_report *w = cluster_worker(report, 0);
    return w->running == 1 && w->kv_blocks_free < w->kv_blocks;
}

static gaggle_stream *get_to(stage *s, gaggle_client *client, uint32_t place)
{
    answer a = {0};
    gaggle_stream *stream;
    uint64_t before = cluster_relayed(s->watcher);
    switch (place) {
    case 0:
        stream = ask(s, client, 10, LONG_TOKENS);
        cluster_wait(s->watcher, one_waits, NULL, "one that waits");
        return stream;
    case 1:
        stream = ask(s, client, PROMPT_TOKENS, 50);
        cluster_wait(s->watcher, reads_a_prompt, NULL, "a prompt being read");
        assert_int_equal(cluster_relayed(s->watcher), before);
        return stream;
    default:
        stream = ask(s, client, 10, LONG_TOKENS);
        assert_true(answer_read(&a, stream, 3));
        answer_free(&a);
        return stream;
    }
}

/* Without a Bye the socket is closed, and the process never heard of again. */
static void leave_at(stage *s, uint32_t place, bool bye)
{
    tcp_proxy *cable = tcp_proxy_start(s->c.client_port);
    gaggle_client *client = cluster_client_through(&s->c, cable);
    gaggle_stream *stream = get_to(s, client, place);
    if (!bye) tcp_proxy_hold(cable);
    gaggle_stream_close(stream);
    gaggle_client_destroy(client);
    tcp_proxy_stop(cable);
}

/* The library acknowledges an answer when its end has come; this client goes just then. */
typedef struct silent_client {
    session_hub *hub;
    id128 request_id;
    bool bye;
    uint32_t tokens;
} silent_client;

static void on_up(void *ctx, session *s, const msg_welcome *welcome)
{
    silent_client *c = ctx;
    (void)welcome;
    c->tokens = 0;
    static const uint32_t prompt[] = {300, 301, 302};
    const envelope e = {.kind = ENVELOPE_SUBMIT,
                        .submit = {.stream = 1,
                                   .request_id = c->request_id,
                                   .ids = prompt,
                                   .id_count = 3,
                                   .max_tokens = LAST_TOKENS,
                                   .ignore_eos = true,
                                   .logprobs = LOGPROBS_NONE}};
    session_send(s, &e);
}

static void hub_closed(void *ctx)
{
    (void)ctx;
}

static void on_envelope(void *ctx, session *s, const envelope *e, const error *refused)
{
    silent_client *c = ctx;
    (void)refused;
    if (e->kind == ENVELOPE_ERROR) fail_msg("%.*s", (int)e->error.text.size, e->error.text.data);
    if (e->kind == ENVELOPE_TOKENS) c->tokens += (uint32_t)e->tokens.tokens;
    if (e->kind != ENVELOPE_FINISH) return;
    assert_int_equal(e->finish.total, LAST_TOKENS);
    if (!c->bye) session_cut(s);
    session_hub_close(c->hub, hub_closed, NULL);
}

static void leave_behind_the_last_token(stage *s, bool bye)
{
    static const session_handlers handlers = {.on_up = on_up, .on_envelope = on_envelope};
    silent_client c = {.request_id = id128_random(), .bye = bye};
    const session_dial_options options = {.urls = &s->c.client_url,
                                          .url_count = 1,
                                          .role = ROLE_CLIENT,
                                          .instance = id128_random(),
                                          .name = "silent"};
    uv_loop_t loop;
    session *dialled;
    error err;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(session_hub_create(&c.hub, &loop, &err), ST_OK);
    assert_int_equal(session_dial(&dialled, c.hub, &options, &handlers, &c, &err), ST_OK);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(c.tokens, LAST_TOKENS);
}

/* -- what the router says of it ------------------------------------------------------------------
 */

typedef struct times {
    double count, sum_s;
} times;

static times read_times(const stage *s)
{
    http_reply page;
    http_get(&page, s->http_port, "/metrics", NULL);
    assert_int_equal(page.status, 200);
    const char *text = (const char *)page.body.data;
    const times t = {prometheus_value(text, page.body.size - 1, "gaggle_cancel_seconds_count"),
                     prometheus_value(text, page.body.size - 1, "gaggle_cancel_seconds_sum")};
    http_reply_free(&page);
    return t;
}

/* Until so many are counted; more would be wrong. */
static times wait_times(const stage *s, uint32_t count)
{
    const uint64_t until_ms = clock_now_ms() + 20000;
    for (;;) {
        news_clear();
        const times t = read_times(s);
        assert_true(t.count <= count);
        if (t.count == count) return t;
        if (!news_wait(until_ms)) fail_msg("%u ends are counted, not %u", (unsigned)t.count, count);
    }
}

static void check_every_place(bool bye)
{
    stage s;
    begin(&s);
    assert_int_equal(read_times(&s).count, 0);
    double sum_s = 0;
    for (uint32_t place = PLACES; place-- > 0;) { /* the waiting one last: others must hold it up */
        gaggle_client *holder = cluster_client(&s.c);
        gaggle_stream *held[2];
        for (uint32_t i = 0; place == 0 && i < 2; i++)
            held[i] = ask(&s, holder, 10, LONG_TOKENS);
        if (place == LAST_TOKEN)
            leave_behind_the_last_token(&s, bye);
        else
            leave_at(&s, place, bye);
        const times t = wait_times(&s, PLACES - place);
        printf("%s: %.3f s\n", places[place], t.sum_s - sum_s);
        assert_true(t.sum_s - sum_s <= EACH_MS_MAX / 1000.0);
        sum_s = t.sum_s;
        for (uint32_t i = 0; place == 0 && i < 2; i++)
            gaggle_stream_close(held[i]);
        gaggle_client_destroy(holder);
        cluster_wait_idle(s.watcher, 1);
    }
    end(&s);
}

static void test_a_client_that_says_bye_is_timed_in_every_place(void **state)
{
    (void)state;
    check_every_place(true);
}

static void test_a_socket_that_closes_is_timed_in_every_place(void **state)
{
    (void)state;
    check_every_place(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_client_that_says_bye_is_timed_in_every_place),
        cmocka_unit_test(test_a_socket_that_closes_is_timed_in_every_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
