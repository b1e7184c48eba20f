/* What others' clusters are known to lose, hang or leak on, one disruption a test: workers that die
 * whenever they are given something, clients whose socket closes at every point of an answer, a
 * fleet that is gone and comes back, a reader so slow that everything must wait for it. Answers
 * must be the undisturbed ones, and nothing may be left behind: every worker's blocks are free. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "tests/e2e/answers.h"
#include "tests/e2e/dummy_model.h"
#include "tests/sanitized.h"

enum { SHORTER = SANITIZED ? 4 : 1 };

static void start(cluster *c, uint32_t workers)
{
    cluster_start(c, &(cluster_options){.workers = workers,
                                        .model = bundled_model(),
                                        .worker_args = {"--drain-ms", "500"},
                                        .router_args = {"--worker-grace-ms", "100", "--stall-ms",
                                                        "600000", "--client-grace-ms", "100"}});
}

/* -- workers ----------------------------------------------------------------------------------- */

/* Each worker that is given the request dies before it can make a token, all but the last. */
static void test_worker_dies_on_every_retry_before_the_first_token(void **state)
{
    (void)state;
    enum { WORKERS = 3 };
    cluster c;
    start(&c, WORKERS);
    gaggle_client *client = cluster_client(&c);
    answer alone = {0}, broken = {0};
    gaggle_stream *s = submit_mixed(client, 2, 80);
    answer_read(&alone, s, SIZE_MAX);
    gaggle_stream_close(s);

    for (uint32_t i = 0; i < WORKERS; i++)
        kill(c.workers[i].pid, SIGSTOP);
    s = submit_mixed(client, 2, 80);
    for (uint32_t died = 0; died + 1 < WORKERS; died++)
        cluster_kill_worker(&c, cluster_busy_worker(&c, client));
    kill(c.workers[cluster_busy_worker(&c, client)].pid, SIGCONT);
    answer_read(&broken, s, SIZE_MAX);
    gaggle_stream_close(s);
    assert_answers_equal(&alone, &broken, 0);
    assert_in_range(broken.continuations, WORKERS - 1, WORKERS);
    answer_free(&alone);
    answer_free(&broken);
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

static void kill_all(cluster *c)
{
    for (uint32_t i = 0; i < c->options.workers; i++)
        cluster_kill_worker(c, i);
}

static void end_all(cluster *c)
{
    for (uint32_t i = 0; i < c->options.workers; i++)
        kill(c->workers[i].pid, SIGTERM);
    for (uint32_t i = 0; i < c->options.workers; i++)
        assert_int_equal(process_wait(&c->workers[i]), 0);
}

static bool nobody(const gaggle_report *report, void *ctx)
{
    (void)ctx;
    return report->worker_count == 0;
}

/* Meanwhile a new request is refused with a time to come back. */
static void check_all_gone_and_back(void (*leave)(cluster *c))
{
    enum { ANSWERS = 6, TOKENS = 320 / SHORTER };
    cluster c;
    start(&c, 2);
    gaggle_client *client = cluster_client(&c);
    answer alone[ANSWERS] = {0}, broken[ANSWERS] = {0}, refused = {0};
    gaggle_stream *streams[ANSWERS];
    run_alone(client, alone, ANSWERS, TOKENS);
    for (uint32_t i = 0; i < ANSWERS; i++)
        streams[i] = submit_mixed(client, i, TOKENS);
    assert_true(answer_read(&broken[1], streams[1], 3));
    leave(&c);
    cluster_wait(client, nobody, NULL, "a fleet that is gone");
    gaggle_stream *s = submit_mixed(client, 0, TOKENS);
    answer_read(&refused, s, SIZE_MAX);
    gaggle_stream_close(s);
    assert_int_equal(refused.code, GAGGLE_UNAVAILABLE);
    assert_true(refused.retry_after_ms > 0);

    cluster_start_worker(&c, 0);
    cluster_start_worker(&c, 1);
    answers_read_all(broken, streams, ANSWERS);
    for (uint32_t i = 0; i < ANSWERS; i++) {
        gaggle_stream_close(streams[i]);
        assert_answers_equal(&alone[i], &broken[i], i);
        answer_free(&alone[i]);
        answer_free(&broken[i]);
    }
    cluster_wait_idle(client, 2);
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

static void test_all_workers_killed_and_back(void **state)
{
    (void)state;
    check_all_gone_and_back(kill_all);
}

static void test_fleet_scaled_to_zero_and_back(void **state)
{
    (void)state;
    check_all_gone_and_back(end_all);
}

/* -- clients whose socket closes ------------------------------------------------------------------
 */

typedef struct closing {
    cluster c;
    tcp_proxy *cable;
    gaggle_client *watcher, *client; /* the client's cable will be cut */
} closing;

static void closing_begin(closing *x)
{
    x->cable = tcp_proxy_start(x->c.client_port);
    x->watcher = cluster_client(&x->c);
    x->client = cluster_client_through(&x->c, x->cable);
}

/* No Bye: the socket is closed, and the process never heard of again. */
static void close_socket(closing *x, gaggle_stream *s)
{
    tcp_proxy_hold(x->cable);
    gaggle_stream_close(s);
    gaggle_client_destroy(x->client);
    tcp_proxy_stop(x->cable);
}

static void closing_end(closing *x)
{
    cluster_wait_idle(x->watcher, 1);
    gaggle_client_destroy(x->watcher);
    cluster_stop(&x->c);
}

static void test_socket_closed_before_the_first_token_frees_all(void **state)
{
    (void)state;
    closing x;
    start(&x.c, 1);
    closing_begin(&x);
    kill(x.c.workers[0].pid, SIGSTOP);
    gaggle_stream *s = submit_mixed(x.client, 4, 900);
    cluster_busy_worker(&x.c, x.watcher);
    close_socket(&x, s);
    kill(x.c.workers[0].pid, SIGCONT);
    closing_end(&x);
}

static bool reads_a_prompt(const gaggle_report *report, void *ctx)
{
    (void)ctx;
    const gaggle_worker_report *w = cluster_worker(report, 0);
    return w->running == 1 && w->output_tokens == 0 && w->kv_blocks_free < w->kv_blocks;
}

static uint64_t output_tokens(gaggle_client *client)
{
    gaggle_report *report;
    gaggle_error err;
    assert_int_equal(gaggle_query_wait(&report, client, 10000, &err), GAGGLE_OK);
    uint64_t total = cluster_worker(report, 0)->output_tokens;
    gaggle_report_free(report);
    return total;
}

/* Its model needs a second or so for the prompt, in small steps. */
static void test_socket_closed_in_prefill_frees_all(void **state)
{
    (void)state;
    static const dummy_shape shape = {.layers = 6,
                                      .hidden = 1024,
                                      .intermediate = 2816,
                                      .heads = 16,
                                      .kv_heads = 4,
                                      .head_dim = 64,
                                      .context = 4096};
    enum { PROMPT_TOKENS = SANITIZED ? 512 : 4000 };
    closing x;
    cluster_start(&x.c,
                  &(cluster_options){.workers = 1,
                                     .model = dummy_model_write(&shape),
                                     .worker_args = {"--load-format", "dummy", "--kv-cache-memory",
                                                     "64M", "--max-num-batched-tokens", "64"},
                                     .router_args = {"--client-grace-ms", "100"}});
    closing_begin(&x);
    static uint32_t prompt[PROMPT_TOKENS];
    for (uint32_t i = 0; i < PROMPT_TOKENS; i++)
        prompt[i] = 300 + i % 1500;
    gaggle_stream *s;
    gaggle_error err;
    const gaggle_request request = {.ids = prompt, .id_count = PROMPT_TOKENS, .max_tokens = 50};
    assert_int_equal(gaggle_submit(&s, x.client, &request, &err), GAGGLE_OK);
    cluster_wait(x.watcher, reads_a_prompt, NULL, "a prompt being read");
    close_socket(&x, s);
    cluster_wait_idle(x.watcher, 1);
    assert_int_equal(output_tokens(x.watcher), 0); /* it was in the prompt indeed */
    closing_end(&x);
}

static void test_socket_closed_mid_decode_frees_all(void **state)
{
    (void)state;
    closing x;
    start(&x.c, 1);
    closing_begin(&x);
    gaggle_stream *s = submit_mixed(x.client, 4, 900);
    answer a = {0};
    assert_true(answer_read(&a, s, 5));
    close_socket(&x, s);
    answer_free(&a);
    closing_end(&x);
}

/* All its tokens have been relayed. Its Finish may be acknowledged by then, or not: in
 * test_cancel_times it certainly is not. */
static void test_socket_closed_on_the_last_token_frees_all(void **state)
{
    (void)state;
    closing x;
    start(&x.c, 1);
    closing_begin(&x);
    uint64_t before = cluster_relayed(x.watcher);
    gaggle_stream *s = submit_mixed(x.client, 4, 100);
    cluster_wait_relayed(x.watcher, before + 100);
    close_socket(&x, s);
    closing_end(&x);
}

/* -- a slow reader -------------------------------------------------------------------------------
 */

enum { OTHERS = 6 };

/* The first of the answers again and again until then, at least once. Returns the most memory of
 * the router seen after a round. */
static long answer_others(const cluster *c, gaggle_client *client, const answer *alone,
                          uint32_t max_tokens, uint64_t until_ms)
{
    long most_kib = 0;
    do {
        answer others[OTHERS] = {0};
        run_alone(client, others, OTHERS, max_tokens);
        for (uint32_t i = 0; i < OTHERS; i++) {
            assert_answers_equal(&alone[i], &others[i], i);
            answer_free(&others[i]);
        }
        long kib = process_memory_kib(&c->router, "VmRSS");
        if (kib > most_kib) most_kib = kib;
    } while (clock_now_ms() < until_ms);
    return most_kib;
}

/* 10 bytes a second get through to it. Its sources stop after a window each; the router keeps what
 * it has of them and grows no more, whatever it does for others; and when the reader is itself
 * again, it finds its answers as they should be. GAGGLE_SLOW_READER_S=300 makes it minutes. */
static void test_slow_reader_costs_nobody_anything(void **state)
{
    (void)state;
    enum { SLOW = 8, TOKENS = 600 / SHORTER, WINDOW = 256, GROWTH_KIB = 512 };
    const char *slow_s = getenv("GAGGLE_SLOW_READER_S");
    uint64_t slow_ms = slow_s != NULL ? 1000 * strtoull(slow_s, NULL, 10) : 0;
    cluster c;
    start(&c, 1);
    tcp_proxy *cable = tcp_proxy_start(c.client_port);
    gaggle_client *other = cluster_client(&c), *client = cluster_client_through(&c, cable);
    answer alone[SLOW] = {0}, slow[SLOW] = {0};
    gaggle_stream *streams[SLOW];
    run_alone(client, alone, SLOW, TOKENS);

    uint64_t before = cluster_relayed(other), windows = 0;
    for (uint32_t i = 0; i < SLOW; i++)
        windows += answer_tokens(&alone[i]) < WINDOW ? answer_tokens(&alone[i]) : WINDOW;
    for (uint32_t i = 0; i < SLOW; i++)
        streams[i] = submit_mixed(client, i, TOKENS);
    assert_true(answer_read(&slow[4], streams[4], 1));
    tcp_proxy_throttle(cable, 10);
    cluster_wait_relayed(other, before + windows);
    long resident = process_memory_kib(&c.router, "VmRSS");
    long most = answer_others(&c, other, alone, TOKENS, clock_now_ms() + slow_ms);
    printf("router: %ld KiB behind a slow reader at first, %ld KiB at most\n", resident, most);
    if (!SANITIZED && most - resident > GROWTH_KIB)
        fail_msg("the router grew by %ld KiB behind a slow reader", most - resident);

    tcp_proxy_throttle(cable, 0);
    answers_read_all(slow, streams, SLOW);
    for (uint32_t i = 0; i < SLOW; i++) {
        gaggle_stream_close(streams[i]);
        assert_answers_equal(&alone[i], &slow[i], i);
        answer_free(&alone[i]);
        answer_free(&slow[i]);
    }
    gaggle_client_destroy(client);
    cluster_wait_idle(other, 1);
    gaggle_client_destroy(other);
    tcp_proxy_stop(cable);
    cluster_stop(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worker_dies_on_every_retry_before_the_first_token),
        cmocka_unit_test(test_all_workers_killed_and_back),
        cmocka_unit_test(test_fleet_scaled_to_zero_and_back),
        cmocka_unit_test(test_socket_closed_before_the_first_token_frees_all),
        cmocka_unit_test(test_socket_closed_in_prefill_frees_all),
        cmocka_unit_test(test_socket_closed_mid_decode_frees_all),
        cmocka_unit_test(test_socket_closed_on_the_last_token_frees_all),
        cmocka_unit_test(test_slow_reader_costs_nobody_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
