/* Goal: probes, Prometheus and admins see the router as it is, each page only by whom it is for,
 * and who asks often costs little.
 * Method: a core with a worker spoken for by hand, and pages fetched over a real connection; the
 * keys file and tokens are set between requests, as a reload would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "prometheus_check.h"
#include "router/sight.h"

#define ADMIN_TOKEN "gg_a_top_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
#define USER_TOKEN  "gg_c_ada_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"

static uv_loop_t loop;
static session_hub *hub;
static core *router;
static auth doors;
static sight *pages;
static uint64_t now_ms;
static core_link *worker_link;

/* -- a core with one worker ----------------------------------------------------------------------
 */

static void io_send(void *ctx, void *handle, const envelope *e)
{
    (void)ctx;
    (void)handle;
    (void)e;
}

static bool io_is_idle(void *ctx, void *handle)
{
    (void)ctx;
    (void)handle;
    return true;
}

static void io_close(void *ctx, void *handle, const char *reason)
{
    (void)ctx;
    (void)handle;
    (void)reason;
}

static uint32_t io_rtt_us(void *ctx, void *handle)
{
    (void)ctx;
    (void)handle;
    return 777;
}

static void worker_comes(void)
{
    static const id128 instance = {{1}};
    const core_tenant nobody = {0};
    worker_link = core_link_up(router, NULL, ROLE_WORKER, &nobody, &instance, "w", now_ms);
    const msg_model model = {text_of("gosling"), text_of("r1"), 1024};
    envelope e = {.kind = ENVELOPE_REGISTER};
    e.reg = (msg_register){.worker_id = text_of("w-\"1\""),
                           .device = text_of("cpu"),
                           .models = &model,
                           .model_count = 1,
                           .slots = 4,
                           .kv_blocks = 100,
                           .lease_ms = 60000};
    core_envelope(router, worker_link, &e, NULL, now_ms);
    e = (envelope){.kind = ENVELOPE_LOAD,
                   .load = {.running = 2, .kv_blocks_free = 40, .output_tokens = 99}};
    core_envelope(router, worker_link, &e, NULL, now_ms);
}

static void open_pages(void)
{
    error err = {0};
    const sight_source source = {.core = router, .hub = hub, .auth = &doors, .vllm = true};
    status st = sight_open(&pages, &loop, "http://127.0.0.1:0", &source, &err);
    if (st != ST_OK) fail_msg("%s", err.text);
}

static int setup(void **state)
{
    (void)state;
    static const core_io io = {
        .send = io_send, .is_idle = io_is_idle, .close = io_close, .rtt_us = io_rtt_us};
    error err = {0};
    const core_options options = core_options_default();
    log_set(LOG_ERROR, LOG_TEXT);
    doors = (auth){0};
    now_ms = 1000000;
    router = core_create(&options, &io, now_ms);
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(session_hub_create(&hub, &loop, &err), ST_OK);
    open_pages();
    return 0;
}

static void hub_closed(void *ctx)
{
    (void)ctx;
}

static int teardown(void **state)
{
    (void)state;
    sight_close(pages);
    session_hub_close(hub, hub_closed, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    core_destroy(router);
    keys_destroy(doors.keys);
    return 0;
}

/* -- fetching
 * -------------------------------------------------------------------------------------- */

typedef struct page {
    int status;
    buffer all; /* with the head, and a NUL */
    const char *body;
    size_t body_size;
} page;

/* `bearer`: NULL = none is shown. Free with buffer_free(&p.all). */
static page fetch(const char *path, const char *bearer)
{
    char request[1024];
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n%s%s%s\r\n", path,
                        bearer != NULL ? "Authorization: Bearer " : "",
                        bearer != NULL ? bearer : "", bearer != NULL ? "\r\n" : "");
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(sight_port(pages)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(send(fd, request, (size_t)size, 0), size);
    page p = {0};
    for (ssize_t got = -1; got != 0;) {
        char bytes[65536];
        struct pollfd waits = {.fd = uv_backend_fd(&loop), .events = POLLIN};
        poll(&waits, 1, 2);
        uv_run(&loop, UV_RUN_NOWAIT);
        got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (got > 0) buffer_append(&p.all, bytes, (size_t)got);
    }
    close(fd);
    buffer_append(&p.all, "", 1);
    const char *text = (const char *)p.all.data;
    p.status = atoi(text + strlen("HTTP/1.1 "));
    p.body = strstr(text, "\r\n\r\n") + 4;
    p.body_size = p.all.size - 1 - (size_t)(p.body - text);
    return p;
}

static void expect_status(const char *path, const char *bearer, int status_code)
{
    page p = fetch(path, bearer);
    if (p.status != status_code)
        fail_msg("%s: %d instead of %d: %s", path, p.status, status_code, p.body);
    buffer_free(&p.all);
}

/* What is shared is as old as a fifth of a second. */
static void until_fresh(void)
{
    uint64_t start_ms = clock_now_ms();
    while (clock_now_ms() - start_ms < 210)
        poll(NULL, 0, 10);
}

static void expect_phase(int status_code, const char *phase)
{
    until_fresh();
    page p = fetch("/readyz", NULL);
    json_t *ready = json_loads(p.body, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(ready);
    assert_int_equal(p.status, status_code);
    assert_string_equal(json_string_value(json_object_get(ready, "phase")), phase);
    json_decref(ready);
    buffer_free(&p.all);
}

/* -- the pages
 * ------------------------------------------------------------------------------------- */

static void test_ready_means_that_a_request_would_find_a_worker(void **state)
{
    (void)state;
    expect_status("/livez", NULL, 200);
    expect_phase(503, "starting");
    worker_comes();
    expect_phase(200, "ready");
    page p = fetch("/readyz", NULL);
    assert_non_null(strstr(p.body, "{\"name\": \"gosling\", \"workers\": 1}"));
    buffer_free(&p.all);

    envelope e = {.kind = ENVELOPE_DRAIN};
    core_envelope(router, worker_link, &e, NULL, now_ms);
    for (int i = 0; i < 200; i++)
        core_tick(router, now_ms += 100);
    expect_phase(503, "no_workers");
    core_drain(router, "end");
    expect_phase(503, "draining");
    expect_status("/livez", NULL, 200);
}

static void test_metrics_show_the_fleet(void **state)
{
    (void)state;
    worker_comes();
    page p = fetch("/metrics", NULL);
    assert_int_equal(p.status, 200);
    assert_non_null(strstr((const char *)p.all.data,
                           "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert_true(prometheus_check(p.body, p.body_size) > 100);
    static const struct {
        const char *series;
        double value;
    } expected[] = {
        {"gaggle_workers{state=\"up\"}", 1},
        {"gaggle_worker_running{worker=\"w-\\\"1\\\"\"}", 2},
        {"gaggle_worker_rtt_seconds{worker=\"w-\\\"1\\\"\"}", 0.000777},
        {"gaggle_worker_lease_left_seconds{worker=\"w-\\\"1\\\"\"}", 60},
        {"gaggle_worker_output_tokens_total{worker=\"w-\\\"1\\\"\"}", 99},
        {"gaggle_link_bytes_total{role=\"client\",direction=\"sent\"}", 0},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_true(prometheus_value(p.body, p.body_size, expected[i].series) == expected[i].value);
    buffer_free(&p.all);
}

static void test_a_page_for_everybody_is_not_made_for_each(void **state)
{
    (void)state;
    page before = fetch("/metrics", NULL);
    worker_comes();
    page at_once = fetch("/metrics", NULL);
    assert_int_equal(before.all.size, at_once.all.size);
    assert_memory_equal(before.all.data, at_once.all.data, before.all.size);
    until_fresh();
    page later = fetch("/metrics", NULL);
    assert_true(later.body_size > before.body_size);
    buffer_free(&before.all);
    buffer_free(&at_once.all);
    buffer_free(&later.all);
}

static void test_admins_see_the_workers(void **state)
{
    (void)state;
    worker_comes();
    page p = fetch("/admin/workers", NULL);
    assert_int_equal(p.status, 200);
    json_t *seen = json_loads(p.body, JSON_REJECT_DUPLICATES, NULL);
    json_t *w = json_array_get(json_object_get(seen, "workers"), 0);
    assert_string_equal(json_string_value(json_object_get(w, "worker_id")), "w-\"1\"");
    assert_true(json_is_true(json_object_get(w, "connected")));
    assert_int_equal(json_integer_value(json_object_get(w, "kv_blocks_free")), 40);
    assert_int_equal(json_integer_value(json_object_get(w, "lease_left_ms")), 60000);
    assert_string_equal(json_string_value(json_object_get(w, "breaker")), "closed");
    json_decref(seen);
    buffer_free(&p.all);
    expect_status("/admin", NULL, 404);
    expect_status("/admin/workers/", NULL, 404);
}

/* -- who may
 * --------------------------------------------------------------------------------------- */

static keys *admin_and_user(void)
{
    buffer text = {0};
    static const struct {
        const char *token;
        key_entry key;
    } all[] = {{ADMIN_TOKEN, {.id = "top", .role = KEY_ADMIN}},
               {USER_TOKEN, {.id = "ada", .role = KEY_CLIENT}}};
    for (size_t i = 0; i < 2; i++) {
        key_entry key = all[i].key;
        key.name = "";
        key.expires_s = KEY_NEVER_EXPIRES;
        token_hash(key.sha256, text_of(all[i].token));
        keys_file_write_key(&text, &key, "people");
    }
    char path[1024];
    snprintf(path, sizeof path, "%s/sight-keys", getenv("GAGGLE_TEST_TMP"));
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text.data, 1, text.size, file), text.size);
    assert_int_equal(fclose(file), 0);
    buffer_free(&text);
    keys *k;
    error err;
    if (keys_create(&k, path, &err) != ST_OK) fail_msg("%s", err.text);
    return k;
}

static void test_admin_pages_ask_for_an_admins_token(void **state)
{
    (void)state;
    expect_status("/admin/workers", NULL, 200);
    doors.api_tokens = (option_list){.items = {"a-long-enough-token"}, .count = 1};
    expect_status("/admin/workers", NULL, 401);
    expect_status("/admin/workers", "another-long-token", 401);
    expect_status("/admin/workers", "a-long-enough-token", 200);
    expect_status("/metrics", NULL, 200);

    doors.keys = admin_and_user();
    expect_status("/admin/workers", ADMIN_TOKEN, 200);
    expect_status("/admin/workers", USER_TOKEN, 403);
    expect_status("/admin/workers", ADMIN_TOKEN "x", 401);
    expect_status("/admin/workers", "a-long-enough-token", 401);
    expect_status("/admin/workers", NULL, 401);
    page p = fetch("/admin/workers", NULL);
    assert_non_null(strstr((const char *)p.all.data, "WWW-Authenticate: Bearer\r\n"));
    buffer_free(&p.all);
}

static void test_without_a_lock_strangers_are_no_admins(void **state)
{
    (void)state;
    error err = {0};
    sight_close(pages);
    const sight_source source = {.core = router, .hub = hub, .auth = &doors};
    assert_int_equal(sight_open(&pages, &loop, "http://0.0.0.0:0", &source, &err), ST_OK);
    expect_status("/admin/workers", NULL, 403);
    expect_status("/admin/workers", "anything-at-all-goes", 403);
    expect_status("/livez", NULL, 200);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_ready_means_that_a_request_would_find_a_worker),
        TEST(test_metrics_show_the_fleet),
        TEST(test_a_page_for_everybody_is_not_made_for_each),
        TEST(test_admins_see_the_workers),
        TEST(test_admin_pages_ask_for_an_admins_token),
        TEST(test_without_a_lock_strangers_are_no_admins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
