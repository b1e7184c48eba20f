/* Whole clusters of real processes on the bundled model.
 *
 * Each test runs answers first alone and undisturbed, then many at once or under trouble, and
 * compares ids and text. A CPU worker's logits are bit-identical in any batch, so equal means
 * equal: sampled, penalised and greedy answers alike. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/check.h"
#include "common/mem.h"
#include "tests/e2e/cluster.h"

typedef struct answer {
    buffer ids, text; /* uint32_t; bytes */
    gaggle_finish_reason reason;
    gaggle_code code;
    char sentence[GAGGLE_ERROR_TEXT_SIZE];
    uint32_t retry_after_ms;
} answer;

static void answer_free(answer *a)
{
    buffer_free(&a->ids);
    buffer_free(&a->text);
}

static bool answer_equal(const answer *a, const answer *b)
{
    return a->reason == b->reason && a->ids.size == b->ids.size && a->text.size == b->text.size &&
           memcmp(a->ids.data, b->ids.data, a->ids.size) == 0 &&
           (a->text.size == 0 || memcmp(a->text.data, b->text.data, a->text.size) == 0);
}

/* Says where two answers part when they are not equal. */
static void assert_answers_equal(const answer *alone, const answer *other, uint32_t number)
{
    if (answer_equal(alone, other)) return;
    size_t at = 0, count = alone->ids.size < other->ids.size ? alone->ids.size : other->ids.size;
    while (at < count && alone->ids.data[at] == other->ids.data[at])
        at++;
    fail_msg("answer %u: %zu tokens, %s alone; %zu tokens, %s (%s) here; they part at token %zu",
             number, alone->ids.size / sizeof(uint32_t), gaggle_finish_reason_name(alone->reason),
             other->ids.size / sizeof(uint32_t), gaggle_finish_reason_name(other->reason),
             other->sentence, at / sizeof(uint32_t));
}

/* Take events until the end; `until_tokens` stops early when so many have come (false: ended). */
static bool answer_read(answer *a, gaggle_stream *s, size_t until_tokens)
{
    gaggle_event event;
    while (a->ids.size / sizeof(uint32_t) < until_tokens) {
        assert_int_equal(gaggle_stream_next(s, 60000, &event), GAGGLE_OK);
        if (event.type == GAGGLE_TOKENS) {
            assert_int_equal(event.first_index, a->ids.size / sizeof(uint32_t));
            buffer_append(&a->ids, event.ids, event.count * sizeof(uint32_t));
            buffer_append(&a->text, event.text, event.text_size);
            continue;
        }
        a->reason = event.reason;
        if (event.error != NULL) {
            a->code = event.error->code;
            a->retry_after_ms = event.error->retry_after_ms;
            snprintf(a->sentence, sizeof a->sentence, "%s", event.error->text);
        } else {
            assert_int_equal(event.total_tokens, a->ids.size / sizeof(uint32_t));
        }
        return false;
    }
    return true;
}

static const char *const prompts[] = {
    "What is the capital of France?",
    "Tell me a story about a dragon.",
    "What colour is the sky?",
    "Count to five.",
    "What is 2 + 2?",
    "Who are you?",
    "Tell me a story about a small boat and a large storm.",
    "What is the capital of Japan?",
};
enum { PROMPTS = sizeof prompts / sizeof *prompts };

/* Mixed on purpose: greedy, sampled, truncated, penalised, biased, stopped, with logprobs. */
static gaggle_stream *submit_mixed(gaggle_client *client, uint32_t number, uint32_t max_tokens)
{
    static const char *const stops[] = {".", "zzz"};
    static const uint32_t bias_ids[] = {300, 301};
    static const float bias[] = {2.0f, -100.0f};
    const gaggle_message message = {"user", prompts[number % PROMPTS]};
    gaggle_request request = {.messages = &message, .message_count = 1, .max_tokens = max_tokens};
    gaggle_sampling *s = &request.sampling;
    s->has_seed = s->has_temperature = true;
    s->seed = 1000 + number;
    switch (number % 6) {
    case 0:
        break; /* greedy: temperature 0 */
    case 1:
        s->temperature = 1.0f;
        break;
    case 2:
        s->temperature = 0.8f;
        s->has_top_k = s->has_top_p = true;
        s->top_k = 20;
        s->top_p = 0.9f;
        request.logprobs = GAGGLE_LOGPROBS(3);
        break;
    case 3:
        s->temperature = 1.3f;
        s->has_min_p = s->has_repetition_penalty = true;
        s->min_p = 0.05f;
        s->repetition_penalty = 1.2f;
        break;
    case 4:
        s->temperature = 0.7f;
        s->has_presence_penalty = s->has_frequency_penalty = true;
        s->presence_penalty = 0.5f;
        s->frequency_penalty = 0.3f;
        s->bias_ids = bias_ids;
        s->bias = bias;
        s->bias_count = 2;
        request.ignore_eos = true;
        break;
    default:
        s->temperature = 1.0f;
        request.stop = stops;
        request.stop_count = 2;
    }
    gaggle_stream *stream;
    gaggle_error err;
    if (gaggle_submit(&stream, client, &request, &err) != GAGGLE_OK) fail_msg("%s", err.text);
    return stream;
}

static void run_alone(gaggle_client *client, answer *answers, uint32_t count, uint32_t max_tokens)
{
    for (uint32_t i = 0; i < count; i++) {
        gaggle_stream *s = submit_mixed(client, i, max_tokens);
        answer_read(&answers[i], s, SIZE_MAX);
        gaggle_stream_close(s);
        assert_int_equal(answers[i].code, GAGGLE_OK);
        assert_true(answers[i].ids.size > 0);
    }
}

static void test_64_streams_over_2_workers_equal_each_alone(void **state)
{
    (void)state;
    enum { STREAMS = 64, TOKENS = 96 };
    cluster c;
    /* The answers are read one after the other: the last are not acknowledged for a while. */
    cluster_start(&c, &(cluster_options){.workers = 2,
                                         .model = bundled_model(),
                                         .router_args = {"--stall-ms", "600000"}});
    gaggle_client *client = cluster_client(&c);
    answer alone[STREAMS] = {0}, together[STREAMS] = {0};
    run_alone(client, alone, STREAMS, TOKENS);

    gaggle_stream *streams[STREAMS];
    for (uint32_t i = 0; i < STREAMS; i++)
        streams[i] = submit_mixed(client, i, TOKENS);
    for (uint32_t i = 0; i < STREAMS; i++) {
        answer_read(&together[i], streams[i], SIZE_MAX);
        gaggle_stream_close(streams[i]);
    }
    for (uint32_t i = 0; i < STREAMS; i++) {
        assert_answers_equal(&alone[i], &together[i], i);
        answer_free(&alone[i]);
        answer_free(&together[i]);
    }
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

/* Kill -9 the router, cut the client's cable and each worker's cable, over and over, while the
 * answers run. */
static void test_cut_links_and_router_restarts_change_nothing(void **state)
{
    (void)state;
    enum { STREAMS = 24, TOKENS = 400, ROUNDS = 9 };
    cluster c;
    /* An answer that ended just before a router died is held for the grace: its client might want
     * it again. Short here, so that the workers' drain at the end is. */
    cluster_start(&c, &(cluster_options){
                          .workers = 2,
                          .model = bundled_model(),
                          .router_args = {"--client-grace-ms", "5000", "--stall-ms", "600000"}});
    gaggle_client *client = cluster_client(&c);
    answer alone[STREAMS] = {0}, disturbed[STREAMS] = {0};
    run_alone(client, alone, STREAMS, TOKENS);

    gaggle_stream *streams[STREAMS];
    bool running[STREAMS];
    for (uint32_t i = 0; i < STREAMS; i++) {
        streams[i] = submit_mixed(client, i, TOKENS);
        running[i] = true;
    }
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        /* every answer has moved since the last blow, or has ended */
        for (uint32_t i = 0; i < STREAMS; i++)
            if (running[i])
                running[i] = answer_read(&disturbed[i], streams[i],
                                         disturbed[i].ids.size / sizeof(uint32_t) + 20);
        switch (round % 4) {
        case 0:
            cluster_restart_router(&c);
            break;
        case 1:
            tcp_proxy_cut(c.client_cable);
            break;
        default:
            tcp_proxy_cut(c.worker_cables[round % 2]);
        }
    }
    for (uint32_t i = 0; i < STREAMS; i++) {
        if (running[i]) answer_read(&disturbed[i], streams[i], SIZE_MAX);
        gaggle_stream_close(streams[i]);
        assert_answers_equal(&alone[i], &disturbed[i], i);
        answer_free(&alone[i]);
        answer_free(&disturbed[i]);
    }
    assert_true(tcp_proxy_connections(c.client_cable) > 2);
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

/* The router ends a dead worker's streams with UNAVAILABLE; the library submits them again behind
 * the tokens it has, and the other worker goes on with the same answer. */
static void test_killed_worker_answers_go_on_elsewhere(void **state)
{
    (void)state;
    enum { STREAMS = 12, TOKENS = 300 };
    cluster c;
    cluster_start(&c, &(cluster_options){
                          .workers = 2,
                          .model = bundled_model(),
                          .router_args = {"--worker-grace-ms", "100", "--stall-ms", "600000"}});
    gaggle_client *client = cluster_client(&c);
    answer alone[STREAMS] = {0}, disturbed[STREAMS] = {0};
    run_alone(client, alone, STREAMS, TOKENS);
    gaggle_stream *streams[STREAMS];
    bool running[STREAMS];
    for (uint32_t i = 0; i < STREAMS; i++)
        streams[i] = submit_mixed(client, i, TOKENS);
    for (uint32_t i = 0; i < STREAMS; i++)
        running[i] = answer_read(&disturbed[i], streams[i], 5);
    assert_int_equal(process_stop(&c.workers[0], SIGKILL), 128 + SIGKILL);
    for (uint32_t i = 0; i < STREAMS; i++) {
        if (running[i]) answer_read(&disturbed[i], streams[i], SIZE_MAX);
        gaggle_stream_close(streams[i]);
        assert_answers_equal(&alone[i], &disturbed[i], i);
        answer_free(&alone[i]);
        answer_free(&disturbed[i]);
    }
    gaggle_client_destroy(client);
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
    process_start(&victim, "gaggle",
                  (const char *[]){"complete", "--router", c.client_url, "--ignore-eos",
                                   "--max-tokens", "900", "Once upon a time", NULL},
                  false);
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
        streams[i] = submit_mixed(client, 4, 300);
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
