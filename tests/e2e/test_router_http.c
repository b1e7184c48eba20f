/* Goal: what probes, Prometheus and admins are told by a real router is how it is: ready when a
 * request would find a worker, counters that move by what was answered, workers for admins alone,
 * and a refusal in words for what is no proper request.
 * Method: router and worker as processes; a client that writes HTTP byte by byte. That slow callers
 * are closed after their 10 s is test_http's. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/limits.h"
#include "tests/e2e/answers.h"
#include "tests/e2e/http_client.h"
#include "tests/unit/router/prometheus_check.h"

enum { URL_SIZE = 64, TOKEN_SIZE = 128, ARGS_COUNT = 16 };

/* -- a router and its worker ------------------------------------------------------------------- */

typedef struct fleet {
    process router, worker;
    uint16_t http_port;
    char client_url[URL_SIZE], worker_url[URL_SIZE];
} fleet;

/* `more` flags, ended by NULL. */
static void start_router(fleet *f, const char *const *more)
{
    char http_url[URL_SIZE];
    f->http_port = free_port();
    snprintf(f->client_url, URL_SIZE, "tcp://127.0.0.1:%u", free_port());
    snprintf(f->worker_url, URL_SIZE, "tcp://127.0.0.1:%u", free_port());
    snprintf(http_url, URL_SIZE, "http://127.0.0.1:%u", f->http_port);
    const char *args[ARGS_COUNT] = {"--listen",    f->client_url,   "--worker-listen",
                                    f->worker_url, "--http-listen", http_url};
    for (size_t i = 6; *more != NULL; i++)
        args[i] = *more++;
    process_start(&f->router, "gaggle-router", args, true);
}

/* Returns when it is registered; `join` NULL: it shows no token. */
static void start_worker(fleet *f, const char *join)
{
    const char *args[] = {
        "-m", bundled_model(), "--router", f->worker_url,  "--name", "w0", "--threads",
        "1",  "--drain-ms",    "0",        "--join-token", join,     NULL};
    if (join == NULL) args[10] = NULL;
    process_start(&f->worker, "gaggle-worker", args, true);
}

static gaggle_client *client_of(const fleet *f, const char *token)
{
    const char *url = f->client_url;
    const gaggle_options options = {.urls = &url, .url_count = 1, .token = token};
    gaggle_client *client;
    gaggle_error err;
    assert_int_equal(gaggle_client_create(&client, &options, &err), GAGGLE_OK);
    return client;
}

static gaggle_stream *ask(gaggle_client *client, const char *text, uint32_t max_tokens)
{
    const gaggle_request request = {.text = text, .max_tokens = max_tokens, .ignore_eos = true};
    gaggle_stream *stream;
    gaggle_error err;
    assert_int_equal(gaggle_submit(&stream, client, &request, &err), GAGGLE_OK);
    return stream;
}

/* -- readiness --------------------------------------------------------------------------------- */

static void assert_page(const fleet *f, const char *path, int code, const char *body)
{
    http_reply r;
    http_get(&r, f->http_port, path, NULL);
    assert_int_equal(r.status, code);
    assert_string_equal((const char *)r.body.data, body);
    http_reply_free(&r);
}

/* A page is held for 200 ms, and what it tells takes its time. */
static void wait_for_page(const fleet *f, const char *path, int code, const char *body)
{
    const uint64_t until_ms = clock_now_ms() + 20000;
    http_reply r;
    for (bool is_there = false; !is_there;) {
        http_get(&r, f->http_port, path, NULL);
        is_there = r.status == code && strcmp((const char *)r.body.data, body) == 0;
        if (!is_there && clock_now_ms() > until_ms)
            fail_msg("%s is %d %s", path, r.status, (const char *)r.body.data);
        http_reply_free(&r);
    }
}

static void test_ready_is_whether_a_request_would_find_a_worker(void **state)
{
    (void)state;
    fleet f;
    start_router(&f, (const char *[]){"--drain-ms", "20000", NULL});
    assert_page(&f, "/livez", 200, "ok\n");
    assert_page(&f, "/readyz", 503, "{\"phase\": \"starting\", \"models\": []}\n");
    start_worker(&f, NULL);
    wait_for_page(
        &f, "/readyz", 200,
        "{\"phase\": \"ready\", \"models\": [{\"name\": \"gosling\", \"workers\": 1}]}\n");

    /* It drains as long as an answer runs, alive and not ready. */
    gaggle_client *client = client_of(&f, NULL);
    gaggle_stream *stream = ask(client, "Once", 900);
    answer a = {0};
    assert_true(answer_read(&a, stream, 1));
    kill(f.router.pid, SIGTERM);
    wait_for_page(
        &f, "/readyz", 503,
        "{\"phase\": \"draining\", \"models\": [{\"name\": \"gosling\", \"workers\": 1}]}\n");
    assert_page(&f, "/livez", 200, "ok\n");
    answer_read(&a, stream, SIZE_MAX);
    assert_int_equal(a.reason, GAGGLE_FINISH_LENGTH);
    gaggle_stream_close(stream);
    answer_free(&a);
    assert_int_equal(process_wait(&f.router), 0);
    gaggle_client_destroy(client);
    assert_int_equal(process_stop(&f.worker, SIGTERM), 0);
}

static void test_a_fleet_without_workers_is_not_ready(void **state)
{
    (void)state;
    fleet f;
    start_router(&f, (const char *[]){"--worker-grace-ms", "100", NULL});
    start_worker(&f, NULL);
    wait_for_page(
        &f, "/readyz", 200,
        "{\"phase\": \"ready\", \"models\": [{\"name\": \"gosling\", \"workers\": 1}]}\n");
    process_stop(&f.worker, SIGKILL);
    wait_for_page(&f, "/readyz", 503, "{\"phase\": \"starting\", \"models\": []}\n");
    assert_int_equal(process_stop(&f.router, SIGTERM), 0);
}

/* -- metrics ----------------------------------------------------------------------------------- */

static double value(const http_reply *page, const char *series)
{
    return prometheus_value((const char *)page->body.data, page->body.size - 1, series);
}

typedef struct expected {
    const char *series;
    double value;
} expected;

/* Until the page, which is made anew every 200 ms, shows the first of them. */
static void wait_for_metrics(const fleet *f, const expected *all, size_t count)
{
    const uint64_t until_ms = clock_now_ms() + 20000;
    http_reply page;
    for (;;) {
        http_get(&page, f->http_port, "/metrics", NULL);
        assert_int_equal(page.status, 200);
        if (value(&page, all[0].series) == all[0].value || clock_now_ms() > until_ms) break;
        http_reply_free(&page);
    }
    char type[64];
    assert_true(http_header(&page, "Content-Type", type, sizeof type));
    assert_string_equal(type, "text/plain; version=0.0.4; charset=utf-8");
    assert_true(prometheus_check((const char *)page.body.data, page.body.size - 1) > 500);
    for (size_t i = 0; i < count; i++)
        if (value(&page, all[i].series) != all[i].value)
            fail_msg("%s is %g, not %g", all[i].series, value(&page, all[i].series), all[i].value);
    http_reply_free(&page);
}

static void test_counters_move_by_what_was_answered(void **state)
{
    (void)state;
    enum { ANSWERS = 5, TOKENS = 7 };
    fleet f;
    start_router(&f, (const char *[]){NULL});
    start_worker(&f, NULL);
    static const expected nothing[] = {
        {"gaggle_workers{state=\"up\"}", 1},
        {"gaggle_requests_total{class=\"standard\",outcome=\"length\"}", 0},
        {"gaggle_output_tokens_total{model=\"gosling\"}", 0},
        {"gaggle_time_to_first_token_seconds_count{model=\"gosling\"}", 0},
        {"vllm:request_success_total{model_name=\"gosling\",engine=\"0\",finished_reason="
         "\"length\"}",
         0}};
    wait_for_metrics(&f, nothing, sizeof nothing / sizeof *nothing);

    gaggle_client *client = client_of(&f, NULL);
    double prompt_tokens = 0;
    for (uint32_t i = 0; i < ANSWERS; i++) {
        gaggle_stream *stream = ask(client, "Geese", TOKENS);
        gaggle_event event;
        do
            assert_int_equal(gaggle_stream_next(stream, 20000, &event), GAGGLE_OK);
        while (event.type != GAGGLE_FINISH);
        assert_int_equal(event.total_tokens, TOKENS);
        prompt_tokens += event.prompt_tokens;
        gaggle_stream_close(stream);
    }
    gaggle_stream *wrong = ask(client, "x", 1000000); /* more than the context leaves */
    gaggle_event event;
    assert_int_equal(gaggle_stream_next(wrong, 20000, &event), GAGGLE_OK);
    assert_int_equal(event.reason, GAGGLE_FINISH_FAILED);
    gaggle_stream_close(wrong);
    const expected after[] = {
        {"gaggle_requests_total{class=\"standard\",outcome=\"failed\"}", 1},
        {"gaggle_requests_total{class=\"standard\",outcome=\"length\"}", ANSWERS},
        {"gaggle_requests_total{class=\"standard\",outcome=\"cancelled\"}", 0},
        {"gaggle_requests_total{class=\"interactive\",outcome=\"length\"}", 0},
        {"gaggle_model_requests_total{model=\"gosling\",outcome=\"length\"}", ANSWERS},
        {"gaggle_tenant_requests_total{tenant=\"default\",outcome=\"length\"}", ANSWERS},
        {"gaggle_tenant_output_tokens_total{tenant=\"default\"}", ANSWERS * TOKENS},
        {"gaggle_output_tokens_total{model=\"gosling\"}", ANSWERS * TOKENS},
        {"gaggle_prompt_tokens_total{model=\"gosling\"}", prompt_tokens},
        {"gaggle_requests_running{model=\"gosling\"}", 0},
        {"gaggle_requests_waiting{model=\"gosling\"}", 0},
        {"gaggle_clients", 1},
        {"gaggle_time_to_first_token_seconds_count{model=\"gosling\"}", ANSWERS},
        {"gaggle_request_seconds_count{model=\"gosling\"}", ANSWERS},
        {"gaggle_cancel_seconds_count", 0},
        {"vllm:request_success_total{model_name=\"gosling\",engine=\"0\",finished_reason="
         "\"length\"}",
         ANSWERS},
        {"vllm:generation_tokens_total{model_name=\"gosling\",engine=\"0\"}", ANSWERS * TOKENS},
        {"vllm:prompt_tokens_total{model_name=\"gosling\",engine=\"0\"}", prompt_tokens},
        {"vllm:num_requests_running{model_name=\"gosling\",engine=\"0\"}", 0},
        {"vllm:num_requests_waiting{model_name=\"gosling\",engine=\"0\"}", 0},
        {"vllm:time_to_first_token_seconds_count{model_name=\"gosling\",engine=\"0\"}", ANSWERS},
        {"vllm:e2e_request_latency_seconds_count{model_name=\"gosling\",engine=\"0\"}", ANSWERS}};
    wait_for_metrics(&f, after, sizeof after / sizeof *after);
    gaggle_client_destroy(client);
    assert_int_equal(process_stop(&f.worker, SIGTERM), 0);
    assert_int_equal(process_stop(&f.router, SIGTERM), 0);
}

/* -- admins ------------------------------------------------------------------------------------ */

static void make_token(char token[TOKEN_SIZE], const char *keys, const char *which)
{
    process p;
    int code;
    process_start(&p, "gaggle",
                  (const char *[]){"token", "new", "--keys", keys, "--role", which, NULL}, false);
    char *output = process_output(&p, &code);
    assert_int_equal(code, 0);
    snprintf(token, TOKEN_SIZE, "%.*s", (int)strcspn(output, "\n"), output);
    mem_free(output);
}

static void assert_admin(const fleet *f, const char *token, int code, const char *word)
{
    http_reply r;
    http_get(&r, f->http_port, "/admin/workers", token);
    assert_int_equal(r.status, code);
    if (strstr((const char *)r.body.data, word) == NULL)
        fail_msg("'%s' is not in '%s'", word, (const char *)r.body.data);
    char challenge[32];
    assert_int_equal(http_header(&r, "WWW-Authenticate", challenge, sizeof challenge), code == 401);
    http_reply_free(&r);
}

static void test_workers_are_shown_to_admins_alone(void **state)
{
    (void)state;
    char keys[512], client[TOKEN_SIZE], worker[TOKEN_SIZE], admin[TOKEN_SIZE];
    snprintf(keys, sizeof keys, "%s/keys", getenv("GAGGLE_TEST_TMP"));
    unlink(keys);
    make_token(client, keys, "client");
    make_token(worker, keys, "worker");
    make_token(admin, keys, "admin");
    fleet f;
    start_router(&f, (const char *[]){"--keys", keys, NULL});
    start_worker(&f, worker);
    assert_admin(&f, NULL, 401, "token");
    assert_admin(&f, "gg_a_nobody0000_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG", 401, "token");
    assert_admin(&f, client, 403, "admin");
    assert_admin(&f, worker, 403, "is for workers");
    assert_page(&f, "/livez", 200, "ok\n"); /* and the rest is everybody's */

    http_reply r;
    http_get(&r, f.http_port, "/admin/workers", admin);
    assert_int_equal(r.status, 200);
    json_error_t why;
    json_t *page = json_loads((const char *)r.body.data, JSON_REJECT_DUPLICATES, &why);
    if (page == NULL) fail_msg("%s in %s", why.text, (const char *)r.body.data);
    const json_t *w = json_array_get(json_object_get(page, "workers"), 0);
    assert_int_equal(json_array_size(json_object_get(page, "workers")), 1);
    assert_string_equal(json_string_value(json_object_get(w, "worker_id")), "w0");
    assert_true(json_is_true(json_object_get(w, "connected")));
    assert_string_equal(json_string_value(json_object_get(w, "breaker")), "closed");
    const json_t *m = json_array_get(json_object_get(w, "models"), 0);
    assert_string_equal(json_string_value(json_object_get(m, "name")), "gosling");
    json_decref(page);
    http_reply_free(&r);
    assert_int_equal(process_stop(&f.worker, SIGTERM), 0);
    assert_int_equal(process_stop(&f.router, SIGTERM), 0);
}

static void test_without_keys_an_api_token_or_loopback_is_the_admins_door(void **state)
{
    (void)state;
    fleet f;
    start_router(&f, (const char *[]){"--api-token", "sixteen-letters-and-more", NULL});
    assert_admin(&f, NULL, 401, "token");
    assert_admin(&f, "sixteen-letters-but-others", 401, "token");
    assert_admin(&f, "sixteen-letters-and-more", 200, "{\"workers\": []}");
    assert_int_equal(process_stop(&f.router, SIGTERM), 0);
    start_router(&f, (const char *[]){NULL});
    assert_admin(&f, NULL, 200, "{\"workers\": []}");
    assert_int_equal(process_stop(&f.router, SIGTERM), 0);
}

/* -- HTTP itself ------------------------------------------------------------------------------- */

#define HOST "Host: router\r\n"

/* What is refused on a connection of its own ends it. */
static void assert_refused(const fleet *f, const char *request, int code, const char *word)
{
    http_connection c;
    http_reply r;
    http_open(&c, f->http_port);
    http_send(&c, request);
    http_read(&r, &c, false);
    assert_int_equal(r.status, code);
    if (strstr((const char *)r.body.data, word) == NULL)
        fail_msg("'%s' is not in '%s'", word, (const char *)r.body.data);
    http_reply_free(&r);
    assert_true(http_is_closed(&c));
    http_end(&c);
}

static void test_what_is_no_request_for_a_page_is_refused_in_words(void **state)
{
    (void)state;
    fleet f;
    start_router(&f, (const char *[]){NULL});
    http_reply r;
    http_get(&r, f.http_port, "/metrics/", NULL);
    assert_int_equal(r.status, 404);
    http_reply_free(&r);
    assert_refused(&f, "POST /metrics HTTP/1.1\r\n" HOST "\r\n", 405, "GET and HEAD");
    assert_refused(&f, "DELETE /admin/workers HTTP/1.1\r\n" HOST "\r\n", 405, "GET and HEAD");
    assert_refused(&f, "POST /livez HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}", 413, "body");
    assert_refused(&f, "GET /livez HTTP/1.1\r\n\r\n", 400, "Host");
    assert_refused(&f, "GET /livez HTTP/2.0\r\n" HOST "\r\n", 505, "HTTP");
    assert_refused(&f, "GET /livez\r\n\r\n", 400, "");
    static char large[LIMIT_HTTP_HEAD_BYTES + 64] = "GET /livez HTTP/1.1\r\n" HOST "X-Filler: ";
    memset(large + strlen(large), 'x', sizeof large - 1 - strlen(large));
    assert_refused(&f, large, 431, "8192");
    assert_page(&f, "/livez", 200, "ok\n");
    assert_int_equal(process_stop(&f.router, SIGTERM), 0);
}

static void test_connections_are_kept_and_requests_answered_in_order(void **state)
{
    (void)state;
    fleet f;
    start_router(&f, (const char *[]){NULL});
    http_connection c;
    http_reply r;
    char length[32];
    http_open(&c, f.http_port);
    for (int i = 0; i < 3; i++) { /* one after the other */
        http_send(&c, "GET /livez HTTP/1.1\r\n" HOST "\r\n");
        http_read(&r, &c, false);
        assert_int_equal(r.status, 200);
        http_reply_free(&r);
    }
    /* All at once, the last one half. */
    http_send(&c, "GET /livez HTTP/1.1\r\n" HOST "\r\n"
                  "HEAD /readyz HTTP/1.1\r\n" HOST "\r\n"
                  "GET /nowhere HTTP/1.1\r\n" HOST "\r\n"
                  "GET /readyz HT");
    http_read(&r, &c, false);
    assert_int_equal(r.status, 200);
    assert_string_equal((const char *)r.body.data, "ok\n");
    http_reply_free(&r);
    http_read(&r, &c, true);
    assert_int_equal(r.status, 503);
    assert_true(http_header(&r, "Content-Length", length, sizeof length));
    http_reply_free(&r);
    http_read(&r, &c, false);
    assert_int_equal(r.status, 404);
    http_reply_free(&r);
    http_send(&c, "TP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    http_read(&r, &c, false);
    assert_int_equal(r.status, 503);
    assert_int_equal(strtoul(length, NULL, 10), r.body.size - 1); /* HEAD said so */
    http_reply_free(&r);
    assert_true(http_is_closed(&c));
    http_end(&c);

    http_open(&c, f.http_port);
    http_send(&c, "GET /livez HTTP/1.0\r\n" HOST "\r\n");
    http_read(&r, &c, false);
    assert_int_equal(r.status, 200);
    http_reply_free(&r);
    assert_true(http_is_closed(&c));
    http_end(&c);
    assert_int_equal(process_stop(&f.router, SIGTERM), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ready_is_whether_a_request_would_find_a_worker),
        cmocka_unit_test(test_a_fleet_without_workers_is_not_ready),
        cmocka_unit_test(test_counters_move_by_what_was_answered),
        cmocka_unit_test(test_workers_are_shown_to_admins_alone),
        cmocka_unit_test(test_without_keys_an_api_token_or_loopback_is_the_admins_door),
        cmocka_unit_test(test_what_is_no_request_for_a_page_is_refused_in_words),
        cmocka_unit_test(test_connections_are_kept_and_requests_answered_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
