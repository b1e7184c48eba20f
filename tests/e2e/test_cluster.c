/* Whole clusters of real processes on the bundled model: answers under load and trouble are the
 * answers alone (answers.h says how), and what is refused, full, late or gone is told in words and
 * leaves nothing behind. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/e2e/answers.h"
#include "tests/sanitized.h"

/* With a sanitizer answers are a quarter as long, for the test's time. */
enum { SHORTER = SANITIZED ? 4 : 1 };

static void test_64_streams_over_2_workers_equal_each_alone(void **state)
{
    (void)state;
    cluster c;
    /* The answers are read one after the other: the last are not acknowledged for a while. */
    cluster_start(&c, &(cluster_options){.workers = 2,
                                         .model = bundled_model(),
                                         .router_args = {"--stall-ms", "600000"}});
    assert_answers_survive(&c, 64, 96 / SHORTER, &(trouble){0});
    cluster_stop(&c);
}

static void cut_a_cable_or_restart_the_router(cluster *c, uint32_t blow)
{
    switch (blow % 4) {
    case 0:
        cluster_restart_router(c);
        break;
    case 1:
        tcp_proxy_cut(c->client_cable);
        break;
    default:
        tcp_proxy_cut(c->worker_cables[blow % 2]);
    }
}

static void test_cut_links_and_router_restarts_change_nothing(void **state)
{
    (void)state;
    cluster c;
    /* An answer that ended just before a router died is held for the grace: its client might want
     * it again. Short here, so that the workers' drain at the end is. */
    cluster_start(&c, &(cluster_options){
                          .workers = 2,
                          .model = bundled_model(),
                          .router_args = {"--client-grace-ms", "5000", "--stall-ms", "600000"}});
    assert_answers_survive(&c, 24, 400 / SHORTER,
                           &(trouble){9, 20 / SHORTER, cut_a_cable_or_restart_the_router});
    assert_true(tcp_proxy_connections(c.client_cable) > 2);
    cluster_stop(&c);
}

static void kill_a_worker(cluster *c, uint32_t blow)
{
    (void)blow;
    assert_int_equal(process_stop(&c->workers[0], SIGKILL), 128 + SIGKILL);
}

/* The router ends a dead worker's streams with UNAVAILABLE; the library submits them again behind
 * the tokens it has, and the other worker goes on with the same answer. */
static void test_killed_worker_answers_go_on_elsewhere(void **state)
{
    (void)state;
    cluster c;
    cluster_start(&c, &(cluster_options){
                          .workers = 2,
                          .model = bundled_model(),
                          .router_args = {"--worker-grace-ms", "100", "--stall-ms", "600000"}});
    assert_answers_survive(&c, 12, 300 / SHORTER, &(trouble){1, 5, kill_a_worker});
    cluster_stop(&c);
}

static bool is_running(const gaggle_report *r, void *ctx)
{
    (void)ctx;
    return r->running == 1 && r->workers[0].running == 1 &&
           r->workers[0].kv_blocks_free < r->workers[0].kv_blocks;
}

static bool is_idle(const gaggle_report *r, void *ctx)
{
    (void)ctx;
    return r->running == 0 && r->queued == 0 && r->worker_count == 1 &&
           r->workers[0].running == 0 && r->workers[0].streams == 0 &&
           r->workers[0].kv_blocks_free == r->workers[0].kv_blocks;
}

static void test_killed_client_frees_its_blocks(void **state)
{
    (void)state;
    cluster c;
    cluster_start(&c, &(cluster_options){.workers = 1,
                                         .model = bundled_model(),
                                         .router_args = {"--client-grace-ms", "300"}});
    gaggle_client *watcher = cluster_client(&c);
    cluster_wait(watcher, is_idle, NULL, "an idle worker");
    process victim;
    uint64_t before = cluster_relayed(watcher);
    process_start(&victim, "gaggle",
                  (const char *[]){"complete", "--router", c.client_url, "--ignore-eos",
                                   "--max-tokens", "900", "Once upon a time", NULL},
                  false);
    /* It acknowledges no more, so that the answer still runs when the worker next reports. */
    cluster_wait_relayed(watcher, before + 1);
    kill(victim.pid, SIGSTOP);
    cluster_wait(watcher, is_running, NULL, "a running answer");
    process_stop(&victim, SIGKILL);
    cluster_wait(watcher, is_idle, NULL, "the killed client's blocks");
    gaggle_client_destroy(watcher);
    cluster_stop(&c);
}

static void expect_refusal(gaggle_client *client, const gaggle_request *request, gaggle_code code,
                           const char *const *words)
{
    gaggle_stream *s;
    gaggle_error err = {0};
    answer a = {0};
    if (gaggle_submit(&s, client, request, &err) == GAGGLE_OK) {
        answer_read(&a, s, SIZE_MAX);
        gaggle_stream_close(s);
        assert_int_equal(a.reason, GAGGLE_FINISH_FAILED);
        err.code = a.code;
        memcpy(err.text, a.sentence, sizeof err.text);
    }
    if (err.code != code) fail_msg("%s: %s", gaggle_code_name(err.code), err.text);
    for (; *words != NULL; words++)
        if (strstr(err.text, *words) == NULL) fail_msg("no '%s' in: %s", *words, err.text);
    answer_free(&a);
}

static void test_refusals_name_field_limit_and_value(void **state)
{
    (void)state;
    cluster c;
    cluster_start(&c, &(cluster_options){.workers = 1, .model = bundled_model()});
    gaggle_client *client = cluster_client(&c);

    expect_refusal(client, &(gaggle_request){.model = "unicorn", .text = "x"}, GAGGLE_NOT_FOUND,
                   (const char *[]){"unicorn", "gosling", NULL});

    gaggle_request hot = {.text = "x"};
    hot.sampling.has_temperature = true;
    hot.sampling.temperature = 101;
    expect_refusal(client, &hot, GAGGLE_INVALID_ARGUMENT,
                   (const char *[]){"temperature", "101", "100", NULL});
    gaggle_request wide = {.text = "x"};
    wide.sampling.has_top_p = true;
    wide.sampling.top_p = 1.5f;
    expect_refusal(client, &wide, GAGGLE_INVALID_ARGUMENT, (const char *[]){"top_p", "1.5", NULL});

    static uint32_t long_prompt[5000];
    for (size_t i = 0; i < 5000; i++)
        long_prompt[i] = 300;
    expect_refusal(client, &(gaggle_request){.ids = long_prompt, .id_count = 5000},
                   GAGGLE_INVALID_ARGUMENT, (const char *[]){"5000", NULL});
    const uint32_t alien = 4000000;
    expect_refusal(client, &(gaggle_request){.ids = &alien, .id_count = 1}, GAGGLE_INVALID_ARGUMENT,
                   (const char *[]){"4000000", NULL});

    /* and the cluster still answers */
    answer a = {0};
    run_alone(client, &a, 1, 10);
    answer_free(&a);
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

static void test_full_queue_says_when_to_come_back(void **state)
{
    (void)state;
    enum { STREAMS = 12 };
    cluster c;
    cluster_start(&c, &(cluster_options){.workers = 1,
                                         .model = bundled_model(),
                                         .worker_args = {"--max-num-seqs", "1"},
                                         .router_args = {"--max-queue", "2"}});
    gaggle_client *client = cluster_client(&c);
    gaggle_stream *streams[STREAMS];
    answer answers[STREAMS] = {0};
    for (uint32_t i = 0; i < STREAMS; i++)
        streams[i] = submit_mixed(client, 4, 300 / SHORTER);
    uint32_t refused = 0, done = 0;
    for (uint32_t i = 0; i < STREAMS; i++) {
        answer_read(&answers[i], streams[i], SIZE_MAX);
        if (answers[i].code == GAGGLE_RESOURCE_EXHAUSTED) {
            assert_true(answers[i].retry_after_ms > 0);
            assert_non_null(strstr(answers[i].sentence, "2"));
            refused++;
        } else {
            assert_int_equal(answers[i].code, GAGGLE_OK);
            done++;
        }
        gaggle_stream_close(streams[i]);
        answer_free(&answers[i]);
    }
    assert_true(refused > 0 && done >= 3);
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

static void test_deadline_ends_queued_and_running_answers(void **state)
{
    (void)state;
    cluster c;
    cluster_start(&c, &(cluster_options){.workers = 1,
                                         .model = bundled_model(),
                                         .worker_args = {"--max-num-seqs", "1"}});
    gaggle_client *client = cluster_client(&c);
    gaggle_request request = {
        .text = "Once", .max_tokens = 900, .ignore_eos = true, .deadline_ms = 150};
    gaggle_stream *streams[6];
    answer answers[6] = {0};
    gaggle_error err;
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(gaggle_submit(&streams[i], client, &request, &err), GAGGLE_OK);
    uint32_t late = 0;
    for (uint32_t i = 0; i < 6; i++) {
        answer_read(&answers[i], streams[i], SIZE_MAX);
        late += answers[i].reason == GAGGLE_FINISH_DEADLINE ||
                answers[i].code == GAGGLE_DEADLINE_EXCEEDED;
        gaggle_stream_close(streams[i]);
        answer_free(&answers[i]);
    }
    assert_true(late >= 4);
    cluster_wait(client, is_idle, NULL, "blocks of late answers");
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

static void test_wrong_token_is_refused_for_good(void **state)
{
    (void)state;
    cluster c;
    cluster_start(&c, &(cluster_options){.workers = 0,
                                         .model = bundled_model(),
                                         .router_args = {"--api-token", "a-very-secret-token"}});
    const char *url = c.client_url;
    gaggle_client *client;
    gaggle_error err;
    const gaggle_options wrong = {.urls = &url, .url_count = 1, .token = "another-token-here"};
    assert_int_equal(gaggle_client_create(&client, &wrong, &err), GAGGLE_OK);
    expect_refusal(client, &(gaggle_request){.text = "x"}, GAGGLE_UNAUTHENTICATED,
                   (const char *[]){"token", NULL});
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_64_streams_over_2_workers_equal_each_alone),
        cmocka_unit_test(test_cut_links_and_router_restarts_change_nothing),
        cmocka_unit_test(test_killed_worker_answers_go_on_elsewhere),
        cmocka_unit_test(test_killed_client_frees_its_blocks),
        cmocka_unit_test(test_refusals_name_field_limit_and_value),
        cmocka_unit_test(test_full_queue_says_when_to_come_back),
        cmocka_unit_test(test_deadline_ends_queued_and_running_answers),
        cmocka_unit_test(test_wrong_token_is_refused_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
