/* Goal: two routers that know nothing of each other are one service: workers dial both, clients
 * have a list, and whichever router dies, answers go on through the other with the same ids; links
 * that break or that lead to one router by two ways change nothing. Method: real processes; answers
 * alone first, then all at once under trouble, as answers.h. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/e2e/answers.h"
#include "tests/sanitized.h"

enum { ROUTERS = 2, WORKERS = 2, ANSWERS = 12, TOKENS = SANITIZED ? 100 : 400, URL_BYTES = 64 };

typedef struct pair {
    process routers[ROUTERS], workers[WORKERS];
    uint16_t client_ports[ROUTERS], worker_ports[ROUTERS];
    tcp_proxy *worker_cables[ROUTERS]; /* all workers' links to that router */
    char client_urls[ROUTERS][URL_BYTES];
} pair;

static void start_router(pair *p, uint32_t index)
{
    char clients[URL_BYTES], workers[URL_BYTES];
    snprintf(clients, sizeof clients, "tcp://127.0.0.1:%u", p->client_ports[index]);
    snprintf(workers, sizeof workers, "tcp://127.0.0.1:%u", p->worker_ports[index]);
    const char *args[] = {"--listen",   clients,  "--worker-listen",   workers,
                          "--stall-ms", "600000", "--client-grace-ms", "3000",
                          NULL};
    process_start(&p->routers[index], "gaggle-router", args, true);
}

static void start_worker(pair *p, uint32_t index, const uint16_t ports[ROUTERS])
{
    char name[16], urls[ROUTERS][URL_BYTES];
    snprintf(name, sizeof name, "w%u", index);
    for (uint32_t i = 0; i < ROUTERS; i++)
        snprintf(urls[i], sizeof urls[i], "tcp://127.0.0.1:%u", ports[i]);
    const char *args[] = {"-m",         bundled_model(), "--router", urls[0],     "--router",
                          urls[1],      "--name",        name,       "--threads", "1",
                          "--drain-ms", "5000",          NULL};
    process_start(&p->workers[index], "gaggle-worker", args, true);
}

static void pair_start(pair *p, uint32_t workers)
{
    *p = (pair){0};
    uint16_t cables[ROUTERS];
    for (uint32_t i = 0; i < ROUTERS; i++) {
        p->client_ports[i] = free_port();
        p->worker_ports[i] = free_port();
        start_router(p, i);
        p->worker_cables[i] = tcp_proxy_start(p->worker_ports[i]);
        cables[i] = tcp_proxy_port(p->worker_cables[i]);
        snprintf(p->client_urls[i], URL_BYTES, "tcp://127.0.0.1:%u", p->client_ports[i]);
    }
    for (uint32_t i = 0; i < workers; i++)
        start_worker(p, i, cables);
}

static void pair_stop(pair *p)
{
    for (uint32_t i = 0; i < WORKERS; i++)
        if (p->workers[i].pid != 0) assert_int_equal(process_stop(&p->workers[i], SIGTERM), 0);
    for (uint32_t i = 0; i < ROUTERS; i++) {
        assert_int_equal(process_stop(&p->routers[i], SIGTERM), 0);
        tcp_proxy_stop(p->worker_cables[i]);
    }
}

/* Of the routers, the first in the list is tried first. */
static gaggle_client *client_of(const pair *p, uint32_t first)
{
    const char *const urls[ROUTERS] = {p->client_urls[first], p->client_urls[1 - first]};
    gaggle_options options = {.urls = urls, .url_count = ROUTERS};
    gaggle_client *client;
    gaggle_error err;
    assert_int_equal(gaggle_client_create(&client, &options, &err), GAGGLE_OK);
    return client;
}

static bool has_all_workers(const gaggle_report *report, void *ctx)
{
    (void)ctx;
    uint32_t connected = 0;
    for (size_t i = 0; i < report->worker_count; i++)
        connected += report->workers[i].connected;
    return connected == WORKERS;
}

/* Through router `index`: both workers are there. */
static void wait_for_workers(const pair *p, uint32_t index)
{
    gaggle_client *client = client_of(p, index);
    cluster_wait(client, has_all_workers, NULL, "both workers at a router");
    gaggle_client_destroy(client);
}

static void read_some(answer *answers, gaggle_stream **streams, uint32_t more)
{
    for (uint32_t i = 0; i < ANSWERS; i++)
        if (answers[i].reason == 0)
            (void)answer_read(&answers[i], streams[i], answer_tokens(&answers[i]) + more);
}

static void assert_equal_alone(answer *alone, answer *answers, gaggle_stream **streams)
{
    for (uint32_t i = 0; i < ANSWERS; i++) {
        if (answers[i].reason == 0) (void)answer_read(&answers[i], streams[i], SIZE_MAX);
        gaggle_stream_close(streams[i]);
        assert_answers_equal(&alone[i], &answers[i], i);
        answer_free(&alone[i]);
        answer_free(&answers[i]);
    }
}

static void test_answers_go_on_through_the_other_router_and_back(void **state)
{
    (void)state;
    pair p;
    pair_start(&p, WORKERS);
    wait_for_workers(&p, 0);
    wait_for_workers(&p, 1);
    answer alone[ANSWERS] = {0}, answers[ANSWERS] = {0};
    gaggle_stream *streams[ANSWERS];
    gaggle_client *client = client_of(&p, 0);
    run_alone(client, alone, ANSWERS, TOKENS);
    for (uint32_t i = 0; i < ANSWERS; i++)
        streams[i] = submit_mixed(client, i, TOKENS);
    read_some(answers, streams, 10);
    assert_int_equal(process_stop(&p.routers[0], SIGKILL), 128 + SIGKILL);
    read_some(answers, streams, 10); /* through the other */
    start_router(&p, 0);
    wait_for_workers(&p, 0);
    assert_int_equal(process_stop(&p.routers[1], SIGKILL), 128 + SIGKILL);
    read_some(answers, streams, 10); /* and back */
    start_router(&p, 1);
    assert_equal_alone(alone, answers, streams);
    gaggle_client_destroy(client);
    pair_stop(&p);
}

static void test_workers_that_lose_one_router_change_nothing(void **state)
{
    (void)state;
    pair p;
    pair_start(&p, WORKERS);
    wait_for_workers(&p, 0);
    wait_for_workers(&p, 1);
    answer alone[ANSWERS] = {0}, answers[ANSWERS] = {0};
    gaggle_stream *streams[ANSWERS];
    gaggle_client *clients[ROUTERS] = {client_of(&p, 0), client_of(&p, 1)};
    run_alone(clients[0], alone, ANSWERS, TOKENS);
    for (uint32_t i = 0; i < ANSWERS; i++)
        streams[i] = submit_mixed(clients[i % ROUTERS], i, TOKENS);
    for (uint32_t blow = 0; blow < 6; blow++) {
        read_some(answers, streams, 5);
        tcp_proxy_cut(p.worker_cables[blow % ROUTERS]);
    }
    assert_equal_alone(alone, answers, streams);
    gaggle_client_destroy(clients[0]);
    gaggle_client_destroy(clients[1]);
    pair_stop(&p);
}

/* A second connection of a process replaces its first: two ways to one router must not fight. */
static void test_two_ways_to_one_router_are_one_link(void **state)
{
    (void)state;
    pair p;
    pair_start(&p, 0);
    tcp_proxy *ways[ROUTERS] = {p.worker_cables[0], tcp_proxy_start(p.worker_ports[0])};
    const uint16_t ports[ROUTERS] = {tcp_proxy_port(ways[0]), tcp_proxy_port(ways[1])};
    start_worker(&p, 0, ports);
    answer alone[ANSWERS] = {0};
    gaggle_client *client = client_of(&p, 0);
    run_alone(client, alone, ANSWERS, TOKENS);
    uint32_t dialled = tcp_proxy_connections(ways[0]) + tcp_proxy_connections(ways[1]);
    assert_in_range(dialled, 2, 6);
    /* The way in use breaks: the other is taken, or the same again. */
    for (uint32_t blow = 0; blow < 2; blow++) {
        tcp_proxy_cut(ways[blow]);
        gaggle_stream *stream = submit_mixed(client, blow, TOKENS);
        answer again = {0};
        assert_false(answer_read(&again, stream, SIZE_MAX));
        gaggle_stream_close(stream);
        assert_answers_equal(&alone[blow], &again, blow);
        answer_free(&again);
    }
    for (uint32_t i = 0; i < ANSWERS; i++)
        answer_free(&alone[i]);
    gaggle_client_destroy(client);
    pair_stop(&p);
    tcp_proxy_stop(ways[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_go_on_through_the_other_router_and_back),
        cmocka_unit_test(test_workers_that_lose_one_router_change_nothing),
        cmocka_unit_test(test_two_ways_to_one_router_are_one_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
