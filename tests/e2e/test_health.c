/* Goal: `gaggle health` never calls well what is not: it asks the process as it is at that moment,
 * and a router or worker that is gone, stands still or answers nonsense is not well. What only
 * waits for another (a worker for its router, a router for its workers) is well and not ready.
 * Method: the real programs; signals that stop and kill them; a listener of ours that is no router.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/mem.h"
#include "tests/e2e/answers.h"
#include "tests/e2e/processes.h"

enum { WELL = 0, NOT_WELL = 1, MISUSED = 2, TEXT_SIZE = 64 };

typedef struct fleet {
    process router, worker;
    char client_url[TEXT_SIZE], worker_url[TEXT_SIZE], http_url[TEXT_SIZE], name[TEXT_SIZE];
} fleet;

static void choose_names(fleet *f)
{
    static unsigned fleets;
    *f = (fleet){0};
    snprintf(f->client_url, TEXT_SIZE, "tcp://127.0.0.1:%u", free_port());
    snprintf(f->worker_url, TEXT_SIZE, "tcp://127.0.0.1:%u", free_port());
    snprintf(f->http_url, TEXT_SIZE, "http://127.0.0.1:%u", free_port());
    snprintf(f->name, TEXT_SIZE, "gaggle-test-%d-%u", (int)getpid(), fleets++);
}

static void start_router(fleet *f)
{
    const char *args[] = {"--listen",    f->client_url,   "--worker-listen",
                          f->worker_url, "--http-listen", f->http_url,
                          "--drain-ms",  "20000",         NULL};
    process_start(&f->router, "gaggle-router", args, true);
}

/* With `registered` it returns when a router knows it. */
static void start_worker(fleet *f, bool registered)
{
    const char *args[] = {"-m", bundled_model(), "--router", f->worker_url, "--threads",
                          "1",  "--health-name", f->name,    "--drain-ms",  "20000",
                          NULL};
    process_start(&f->worker, "gaggle-worker", args, registered);
}

/* Exit status of `gaggle health ARGS`; what it says must contain `words`. */
static int health(const char *const *args, const char *words)
{
    const char *all[16] = {"health"};
    for (size_t i = 0; args[i] != NULL; i++)
        all[i + 1] = args[i];
    process p;
    process_start(&p, "gaggle", all, false);
    int exit_status;
    char *said = process_output(&p, &exit_status);
    if (strstr(said, words) == NULL) fail_msg("it says '%s', not '%s'", said, words);
    mem_free(said);
    return exit_status;
}

static int router_health(const fleet *f, bool ready, const char *words)
{
    const char *args[] = {"--http-listen", f->http_url, ready ? "--ready" : NULL, NULL};
    return health(args, words);
}

static int worker_health(const fleet *f, bool ready, const char *words)
{
    const char *args[] = {"--health-name",          f->name, "--timeout-ms", "1s",
                          ready ? "--ready" : NULL, NULL};
    return health(args, words);
}

/* Asks until the exit status is `wanted`, at most 20 s. */
static void wait_for_worker_health(const fleet *f, bool ready, int wanted)
{
    uint64_t until_ms = clock_now_ms() + 20000;
    while (worker_health(f, ready, "worker is ") != wanted)
        if (clock_now_ms() > until_ms) fail_msg("the worker's health is never %d", wanted);
}

static void test_alive_is_not_yet_ready(void **state)
{
    (void)state;
    fleet f;
    choose_names(&f);
    start_worker(&f, false);
    wait_for_worker_health(&f, false, WELL); /* it is loaded and dials */
    assert_int_equal(worker_health(&f, false, "worker is well: connecting registered=0"), WELL);
    assert_int_equal(worker_health(&f, true, "worker is not well: connecting"), NOT_WELL);

    assert_int_equal(router_health(&f, false, "Connection refused"), NOT_WELL);
    start_router(&f);
    assert_int_equal(router_health(&f, false, "router is well: ok"), WELL);
    wait_for_worker_health(&f, true, WELL);
    assert_int_equal(worker_health(&f, true, "worker is well: serving registered=1"), WELL);
    assert_int_equal(router_health(&f, true, "router is well: {\"phase\": \"ready\""), WELL);

    assert_int_equal(process_stop(&f.worker, SIGTERM), 0);
    assert_int_equal(worker_health(&f, false, "Connection refused"), NOT_WELL);
    uint64_t until_ms = clock_now_ms() + 20000; /* its page is held for 200 ms */
    while (router_health(&f, true, "{\"phase\": ") != NOT_WELL)
        assert_true(clock_now_ms() < until_ms);
    assert_int_equal(router_health(&f, false, "router is well"), WELL);
    assert_int_equal(process_stop(&f.router, SIGTERM), 0);
}

static void test_what_stands_still_is_not_well(void **state)
{
    (void)state;
    fleet f;
    choose_names(&f);
    start_router(&f);
    start_worker(&f, true);
    kill(f.worker.pid, SIGSTOP);
    kill(f.router.pid, SIGSTOP);
    assert_int_equal(worker_health(&f, false, "worker is not well: Connection timed out"),
                     NOT_WELL);
    assert_int_equal(router_health(&f, false, "router is not well: Connection timed out"),
                     NOT_WELL);
    kill(f.router.pid, SIGCONT);
    kill(f.worker.pid, SIGCONT);
    assert_int_equal(router_health(&f, false, "router is well"), WELL);
    assert_int_equal(worker_health(&f, false, "worker is well"), WELL);
    process_stop(&f.worker, SIGKILL);
    assert_int_equal(worker_health(&f, false, "Connection refused"), NOT_WELL);
    assert_int_equal(process_stop(&f.router, SIGTERM), 0);
}

static void test_who_drains_is_well_and_not_ready(void **state)
{
    (void)state;
    fleet f;
    choose_names(&f);
    start_router(&f);
    start_worker(&f, true);
    const char *url = f.client_url;
    const gaggle_options options = {.urls = &url, .url_count = 1};
    gaggle_client *client;
    gaggle_error err;
    assert_int_equal(gaggle_client_create(&client, &options, &err), GAGGLE_OK);
    const gaggle_request request = {
        .text = "Once", .max_tokens = 900, .ignore_eos = true, .window = 32};
    gaggle_stream *stream;
    assert_int_equal(gaggle_submit(&stream, client, &request, &err), GAGGLE_OK);
    answer a = {0};
    assert_true(answer_read(&a, stream, 1)); /* and the rest waits for us */
    kill(f.worker.pid, SIGTERM);
    wait_for_worker_health(&f, true, NOT_WELL);
    assert_int_equal(worker_health(&f, false, "worker is well: draining"), WELL);
    answer_read(&a, stream, SIZE_MAX);
    assert_int_equal(a.reason, GAGGLE_FINISH_LENGTH);
    gaggle_stream_close(stream);
    answer_free(&a);
    gaggle_client_destroy(client);
    assert_int_equal(process_wait(&f.worker), 0);
    assert_int_equal(process_stop(&f.router, SIGTERM), 0);
}

/* Answers one caller with `text` and then waits for the end, in a process of its own. */
static pid_t serve_nonsense(int listener, const char *text)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0) return child;
    int caller = accept(listener, NULL, NULL);
    char question[512];
    if (read(caller, question, sizeof question) <= 0) _exit(1);
    if (write(caller, text, strlen(text)) < 0) _exit(1);
    if (text[0] != '\0') _exit(0);
    pause();
    _exit(0);
}

static void test_what_is_no_router_is_not_well(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    fleet f = {0};
    snprintf(f.http_url, TEXT_SIZE, "http://127.0.0.1:%u", ntohs(address.sin_port));
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"SSH-2.0-OpenSSH\r\n", "not HTTP's"},
        {"HTTP/1.1 200 OK\r\n", "not HTTP's"}, /* and no end of its head */
        {"HTTP/1.1 503 Busy\r\n\r\nno\n", "router is not well: no"},
        {"HTTP/1.1 204 Nothing\r\n\r\n", "router is not well: "},
        {"", "Connection timed out"}, /* it says nothing at all */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pid_t child = serve_nonsense(listener, cases[i].text);
        assert_int_equal(router_health(&f, false, cases[i].words), NOT_WELL);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
    }
    close(listener);
}

static void test_a_name_belongs_to_one_worker(void **state)
{
    (void)state;
    fleet f;
    choose_names(&f);
    start_router(&f);
    start_worker(&f, true);
    const process first = f.worker;
    start_worker(&f, false);
    assert_int_equal(process_wait(&f.worker), 1);
    f.worker = first;
    assert_int_equal(worker_health(&f, true, "worker is well"), WELL);
    assert_int_equal(process_stop(&f.worker, SIGTERM), 0);
    assert_int_equal(process_stop(&f.router, SIGTERM), 0);
}

static void test_misuse_is_told_apart(void **state)
{
    (void)state;
    char long_name[256];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    const char *const cases[][4] = {
        {NULL},
        {"--http-listen", "tcp://127.0.0.1:7480"},
        {"--http-listen", "http://127.0.0.1"},
        {"--http-listen", "http://127.0.0.1:7480/metrics"},
        {"--http-listen", "http://[::1:7480"},
        {"--health-name", ""},
        {"--health-name", long_name},
        {"--timeout-ms", "0"},
        {"--redy"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(health(cases[i], ""), MISUSED);
    const char *const v6[] = {"--http-listen", "http://[::1]:1", NULL};
    assert_int_equal(health(v6, "router is not well"), NOT_WELL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alive_is_not_yet_ready),
        cmocka_unit_test(test_what_stands_still_is_not_well),
        cmocka_unit_test(test_who_drains_is_well_and_not_ready),
        cmocka_unit_test(test_what_is_no_router_is_not_well),
        cmocka_unit_test(test_a_name_belongs_to_one_worker),
        cmocka_unit_test(test_misuse_is_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
