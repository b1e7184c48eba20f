/* Answers outlive their workers: whatever kills, hangs, cuts off or ends a worker, each answer's
 * ids, text and logprobs are those of the undisturbed run, to the bit.
 *
 * The break is put where it hurts by the window: a client that does not read lets the source make
 * exactly `window` tokens and no more. So an answer stands still between two known tokens, inside
 * a character or a stop string if need be, until the test has killed its worker and reads on. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"
#include "tests/e2e/answers.h"
#include "tests/sanitized.h"

enum { LENGTH = SANITIZED ? 48 : 96, MIN_TOKENS = LENGTH - 6 };

/* -- the requests that are hard to break ---------------------------------------------------- */

enum kind {
    GREEDY,
    SAMPLED,
    PENALISED,
    WITH_LOGPROBS,
    BIASED,
    HALF_CHARACTERS,
    UNENDING, /* would end at once if min_tokens let it */
    STOPPED,  /* by a text of which the break leaves a half on either side */
    KINDS
};

enum { END_ID = 2 }; /* the bundled model's */

typedef struct hard_request {
    gaggle_request request;
    gaggle_message message;
    char stop[64];
    const char *stops[1];
} hard_request;

static void prepare(hard_request *h, enum kind kind)
{
    /* Bytes C3 A9 (é), E2 82 AC (€): drawn at random, every other token ends inside a character. */
    static const uint32_t byte_ids[] = {133, 108, 164, 230, 111};
    static const float byte_bias[] = {90, 90, 90, 90, 90};
    static const uint32_t end_ids[] = {END_ID};
    static const float end_bias[] = {60};
    static const uint32_t bias_ids[] = {300, 301, 420};
    static const float bias[] = {2, -100, 1.5f};
    static const char *const questions[KINDS] = {
        "What is the capital of France?",
        "Tell me a story about a dragon.",
        "Tell me a story about a boat.",
        "Who are you?",
        "What colour is the sky?",
        "What is 2 + 2?",
        "Count to five.",
        "Tell me a story about a storm.",
    };
    *h = (hard_request){.message = {"user", questions[kind]}};
    gaggle_request *r = &h->request;
    gaggle_sampling *s = &r->sampling;
    r->messages = &h->message;
    r->message_count = 1;
    r->max_tokens = LENGTH;
    r->ignore_eos = kind != UNENDING;
    s->has_seed = s->has_temperature = true;
    s->seed = 77 + (uint64_t)kind;
    s->temperature = kind == GREEDY ? 0 : 1;
    switch (kind) {
    case PENALISED:
        s->has_repetition_penalty = s->has_presence_penalty = s->has_frequency_penalty = true;
        s->repetition_penalty = 1.3f;
        s->presence_penalty = 0.6f;
        s->frequency_penalty = 0.4f;
        break;
    case WITH_LOGPROBS:
        s->has_top_k = s->has_top_p = true;
        s->top_k = 40;
        s->top_p = 0.95f;
        r->logprobs = GAGGLE_LOGPROBS(5);
        break;
    case BIASED:
        s->has_min_p = true;
        s->min_p = 0.02f;
        s->bias_ids = bias_ids;
        s->bias = bias;
        s->bias_count = 3;
        break;
    case HALF_CHARACTERS:
        s->temperature = 5;
        s->bias_ids = byte_ids;
        s->bias = byte_bias;
        s->bias_count = 5;
        r->logprobs = GAGGLE_LOGPROBS(0);
        break;
    case UNENDING:
        s->bias_ids = end_ids;
        s->bias = end_bias;
        s->bias_count = 1;
        r->min_tokens = MIN_TOKENS;
        break;
    default:
        break;
    }
}

static gaggle_stream *submit(gaggle_client *client, const gaggle_request *request)
{
    gaggle_stream *s;
    gaggle_error err;
    if (gaggle_submit(&s, client, request, &err) != GAGGLE_OK) fail_msg("%s", err.text);
    return s;
}

static void ask(gaggle_client *client, const gaggle_request *request, answer *a)
{
    gaggle_stream *s = submit(client, request);
    answer_read(a, s, SIZE_MAX);
    gaggle_stream_close(s);
    if (a->code != GAGGLE_OK) fail_msg("%s", a->sentence);
}

static uint32_t text_len_of(const answer *a, uint32_t token)
{
    return ((const uint32_t *)(const void *)a->text_len.data)[token];
}

/* The first break from the smallest window on that holds back text of the token before it. */
static uint32_t break_inside_character(const answer *a)
{
    for (uint32_t at = LIMIT_WINDOW_TOKENS_MIN; at < answer_tokens(a); at++)
        if (text_len_of(a, at - 1) == 0) return at;
    fail_msg("no token of the answer ends inside a character");
    return 0;
}

/* A text of the answer that begins before `at` and ends after it, and does not come before. */
static void span_break(hard_request *h, const answer *a, uint32_t at)
{
    size_t middle = 0;
    for (uint32_t i = 0; i < at; i++)
        middle += text_len_of(a, i);
    size_t before = text_len_of(a, at - 1), after = text_len_of(a, at);
    assert_true(before > 0 && after > 0 && before + after + 12 < sizeof h->stop);
    /* Some more of both sides, so that it is the only one. */
    const char *text = (const char *)a->text.data;
    size_t first = middle - before - 6, size = before + 6 + after;
    memcpy(h->stop, text + first, size);
    h->stop[size] = '\0';
    h->stops[0] = h->stop;
    h->request.stop = h->stops;
    h->request.stop_count = 1;
}

/* One of each kind: undisturbed, and with the window that makes it stand where it hurts. */
typedef struct hard_answers {
    hard_request asked[KINDS];
    answer alone[KINDS], broken[KINDS];
    gaggle_stream *streams[KINDS];
} hard_answers;

static void ask_undisturbed(gaggle_client *client, hard_answers *all, enum kind kind)
{
    hard_request *asked = &all->asked[kind];
    answer *alone = &all->alone[kind];
    prepare(asked, kind);
    ask(client, &asked->request, alone);
    uint32_t at = LIMIT_WINDOW_TOKENS_MIN + (uint32_t)kind;
    if (kind == HALF_CHARACTERS) at = break_inside_character(alone);
    if (kind == UNENDING) assert_int_equal(answer_tokens(alone), MIN_TOKENS + 1);
    if (kind == STOPPED) {
        span_break(asked, alone, at);
        answer_free(alone);
        *alone = (answer){0};
        ask(client, &asked->request, alone);
        assert_int_equal(alone->reason, GAGGLE_FINISH_STOP);
        assert_true(answer_tokens(alone) > at);
    }
    asked->request.window = at;
}

/* -- waiting ---------------------------------------------------------------------------------- */

/* All at once, until each stands at its break. */
static void stand(gaggle_client *client, hard_answers *all)
{
    uint32_t tokens = 0;
    uint64_t before = cluster_relayed(client);
    for (enum kind k = 0; k < KINDS; k++) {
        all->streams[k] = submit(client, &all->asked[k].request);
        tokens += all->asked[k].request.window;
    }
    cluster_wait_relayed(client, before + tokens);
}

/* All kinds undisturbed, then so. */
static void stand_all(gaggle_client *client, hard_answers *all)
{
    for (enum kind k = 0; k < KINDS; k++)
        ask_undisturbed(client, all, k);
    stand(client, all);
}

/* Each must be what it was undisturbed. Returns how often they changed hands. */
static uint32_t read_all(hard_answers *all)
{
    uint32_t continuations = 0;
    answers_read_all(all->broken, all->streams, KINDS);
    for (enum kind k = 0; k < KINDS; k++) {
        gaggle_stream_close(all->streams[k]);
        assert_answers_equal(&all->alone[k], &all->broken[k], k);
        assert_false(all->broken[k].approximate);
        continuations += all->broken[k].continuations;
        answer_free(&all->alone[k]);
        answer_free(&all->broken[k]);
    }
    return continuations;
}

static bool is_gone(const gaggle_report *report, void *ctx)
{
    return cluster_worker(report, *(const uint32_t *)ctx) == NULL;
}

static uint32_t streams_on(gaggle_client *client, uint32_t index)
{
    gaggle_report *report;
    gaggle_error err;
    assert_int_equal(gaggle_query_wait(&report, client, 10000, &err), GAGGLE_OK);
    uint32_t streams = cluster_worker(report, index)->streams;
    gaggle_report_free(report);
    return streams;
}

static void kill_and_wait_forgotten(cluster *c, gaggle_client *client, uint32_t index)
{
    cluster_kill_worker(c, index);
    cluster_wait(client, is_gone, &index, "a dead worker's end");
}

/* -- deaths ------------------------------------------------------------------------------------ */

static const cluster_options two_workers = {
    .workers = 2, .router_args = {"--worker-grace-ms", "100", "--stall-ms", "600000"}};

static void start(cluster *c, const cluster_options *options)
{
    cluster_options all = *options;
    all.model = bundled_model();
    cluster_start(c, &all);
}

/* Every answer stands where it hurts; then each worker dies in turn, so that all answers change
 * hands at their break, those of the first worker perhaps twice. */
static void test_every_kind_of_answer_outlives_its_workers(void **state)
{
    (void)state;
    cluster c;
    start(&c, &two_workers);
    gaggle_client *client = cluster_client(&c);
    hard_answers all = {0};
    stand_all(client, &all);
    kill_and_wait_forgotten(&c, client, 0);
    cluster_start_worker(&c, 0);
    cluster_kill_worker(&c, 1);
    read_all(&all);
    for (enum kind k = 0; k < KINDS; k++)
        assert_in_range(all.broken[k].continuations, 1, 2);
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

/* Before the first token, one before the last, behind the last with its Finish. */
static void test_first_and_last_token_are_breaks_as_well(void **state)
{
    (void)state;
    cluster c;
    start(&c, &two_workers);
    gaggle_client *client = cluster_client(&c);
    hard_request asked;
    answer alone = {0}, first = {0}, last = {0}, whole = {0};
    prepare(&asked, SAMPLED);
    ask(client, &asked.request, &alone);

    /* Nobody can make a token, so that the first worker is killed before its first. */
    kill(c.workers[0].pid, SIGSTOP);
    kill(c.workers[1].pid, SIGSTOP);
    gaggle_stream *s = submit(client, &asked.request);
    uint32_t victim = cluster_busy_worker(&c, client);
    cluster_kill_worker(&c, victim);
    kill(c.workers[1 - victim].pid, SIGCONT);
    answer_read(&first, s, SIZE_MAX);
    gaggle_stream_close(s);
    assert_answers_equal(&alone, &first, 0);
    assert_true(first.continuations >= 1);
    assert_false(first.approximate);

    cluster_start_worker(&c, victim);
    uint64_t before = cluster_relayed(client);
    asked.request.window = LENGTH - 1;
    s = submit(client, &asked.request);
    cluster_wait_relayed(client, before + LENGTH - 1);
    victim = cluster_busy_worker(&c, client);
    kill_and_wait_forgotten(&c, client, victim);
    answer_read(&last, s, SIZE_MAX);
    gaggle_stream_close(s);
    assert_answers_equal(&alone, &last, 1);
    assert_int_equal(last.continuations, 1);
    assert_false(last.approximate);

    before = cluster_relayed(client);
    asked.request.window = LENGTH;
    s = submit(client, &asked.request);
    cluster_wait_relayed(client, before + LENGTH);
    kill_and_wait_forgotten(&c, client, 1 - victim);
    cluster_start_worker(&c, victim);
    cluster_start_worker(&c, 1 - victim);
    answer_read(&whole, s, SIZE_MAX);
    gaggle_stream_close(s);
    assert_answers_equal(&alone, &whole, 2);

    answer_free(&alone);
    answer_free(&first);
    answer_free(&last);
    answer_free(&whole);
    cluster_wait_idle(client, 2);
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

/* Whoever takes over dies as well, `deaths` times; there is always one worker left, and the dead
 * one comes back. The answer stands at the end of its window each time, and is read up to there. */
static void kill_in_a_row(cluster *c, gaggle_client *client, answer *a, gaggle_stream *s,
                          uint32_t window, uint32_t deaths)
{
    for (uint32_t i = 0; i < deaths; i++) {
        assert_true(answer_read(a, s, (i + 1) * (size_t)window));
        uint32_t victim = cluster_busy_worker(c, client);
        kill_and_wait_forgotten(c, client, victim);
        cluster_start_worker(c, victim);
    }
}

static void test_fifth_death_in_a_row_changes_nothing(void **state)
{
    (void)state;
    enum { DEATHS = 5, WINDOW = 32 };
    cluster c;
    start(&c, &two_workers);
    gaggle_client *client = cluster_client(&c);
    hard_request asked;
    answer alone = {0}, broken = {0};
    prepare(&asked, PENALISED);
    asked.request.max_tokens = (DEATHS + 2) * WINDOW;
    ask(client, &asked.request, &alone);
    asked.request.window = WINDOW;
    gaggle_stream *s = submit(client, &asked.request);
    kill_in_a_row(&c, client, &broken, s, WINDOW, DEATHS);
    answer_read(&broken, s, SIZE_MAX);
    gaggle_stream_close(s);
    assert_answers_equal(&alone, &broken, 0);
    assert_int_equal(broken.continuations, DEATHS);
    assert_false(broken.approximate);
    answer_free(&alone);
    answer_free(&broken);
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

static void test_one_death_too_many_says_what_was_delivered(void **state)
{
    (void)state;
    enum { ALLOWED = 2, WINDOW = 32 };
    cluster c;
    start(&c, &(cluster_options){.workers = 2,
                                 .router_args = {"--worker-grace-ms", "100", "--stall-ms", "600000",
                                                 "--max-continuations", "2"}});
    gaggle_client *client = cluster_client(&c);
    hard_request asked;
    answer alone = {0}, broken = {0};
    prepare(&asked, SAMPLED);
    asked.request.max_tokens = (ALLOWED + 3) * WINDOW;
    ask(client, &asked.request, &alone);
    asked.request.window = WINDOW;
    gaggle_stream *s = submit(client, &asked.request);
    kill_in_a_row(&c, client, &broken, s, WINDOW, ALLOWED + 1);
    answer_read(&broken, s, SIZE_MAX);
    gaggle_stream_close(s);
    assert_int_equal(broken.code, GAGGLE_UNAVAILABLE);
    assert_int_equal(broken.retry_after_ms, 0);
    char delivered[64];
    snprintf(delivered, sizeof delivered, "%u tokens were delivered", answer_tokens(&broken));
    if (strstr(broken.sentence, delivered) == NULL || strstr(broken.sentence, "2 are") == NULL)
        fail_msg("%s", broken.sentence);
    assert_true(answer_tokens(&broken) >= (ALLOWED + 1) * WINDOW);
    assert_memory_equal(broken.ids.data, alone.ids.data, broken.ids.size);
    answer_free(&alone);
    answer_free(&broken);
    cluster_wait_idle(client, 2);
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

/* -- hung, cut off -------------------------------------------------------------------------------
 */

static void hang(cluster *c, uint32_t index)
{
    kill(c->workers[index].pid, SIGSTOP);
}

static void wake(cluster *c, uint32_t index)
{
    kill(c->workers[index].pid, SIGCONT);
}

static void unplug(cluster *c, uint32_t index)
{
    tcp_proxy_hold(c->worker_cables[index]);
}

static void plug(cluster *c, uint32_t index)
{
    tcp_proxy_release(c->worker_cables[index]);
}

/* Away for longer than its grace while it has answers, back when another has gone on with them: it
 * must forget them, and the answers must not notice. */
static void check_away(void (*away)(cluster *c, uint32_t index),
                       void (*back)(cluster *c, uint32_t index))
{
    cluster c;
    start(&c, &two_workers);
    gaggle_client *client = cluster_client(&c);
    hard_answers all = {0};
    stand_all(client, &all);
    uint32_t expected = streams_on(client, 0), absent = 0;
    away(&c, 0);
    cluster_wait(client, is_gone, &absent, "the end of an absent worker's grace");
    back(&c, 0);
    assert_int_equal(read_all(&all), expected);
    cluster_wait_idle(client, 2);
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

static void test_hung_workers_answers_go_on_and_it_forgets_them(void **state)
{
    (void)state;
    check_away(hang, wake);
}

static void test_cut_off_workers_answers_go_on_and_it_forgets_them(void **state)
{
    (void)state;
    check_away(unplug, plug);
}

/* -- planned ends ---------------------------------------------------------------------------------
 */

static void run_drain(const cluster *c, const char *const *more, int expected)
{
    const char *args[8] = {"drain", "w0", "--router", c->client_url};
    for (size_t i = 0; more[i] != NULL; i++)
        args[4 + i] = more[i];
    process drain;
    int end;
    process_start(&drain, "gaggle", args, false);
    mem_free(process_output(&drain, &end));
    assert_int_equal(end, expected);
}

typedef struct drain_case {
    const char *const *flags; /* of gaggle drain */
    bool handed_over;
} drain_case;

/* The answers stand at their breaks, so that none ends by itself while the worker drains. */
static void check_drain(const drain_case *d)
{
    cluster c;
    start(&c, &two_workers);
    gaggle_client *client = cluster_client(&c);
    hard_answers all = {0};
    stand_all(client, &all);
    uint32_t expected = streams_on(client, 0);
    run_drain(&c, d->flags, 0);
    if (d->handed_over) assert_int_equal(process_wait(&c.workers[0]), 0);

    assert_int_equal(read_all(&all), d->handed_over ? expected : 0);
    if (!d->handed_over) assert_int_equal(process_wait(&c.workers[0]), 0);
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

static void test_drained_worker_ends_with_its_answers(void **state)
{
    (void)state;
    check_drain(&(drain_case){(const char *[]){"--no-wait", NULL}, false});
}

static void test_drain_with_a_limit_hands_answers_over(void **state)
{
    (void)state;
    check_drain(&(drain_case){(const char *[]){"--limit", "200ms", NULL}, true});
}

/* One of the workers says when it will end. How fast workers are is known by then, or the router
 * would not give it anything. */
static void test_end_of_a_lifetime_hands_answers_over(void **state)
{
    (void)state;
    cluster c;
    start(&c, &two_workers);
    gaggle_client *client = cluster_client(&c);
    hard_answers all = {0};
    for (enum kind k = 0; k < KINDS; k++)
        ask_undisturbed(client, &all, k);
    assert_int_equal(process_stop(&c.workers[0], SIGTERM), 0);
    c.options.worker_args[0] = "--lifetime";
    c.options.worker_args[1] = SANITIZED ? "20s" : "7s";
    cluster_start_worker(&c, 0);
    stand(client, &all);
    uint32_t moved = streams_on(client, 0); /* none, if this machine made it look slow */
    assert_int_equal(process_wait(&c.workers[0]), 0);
    assert_int_equal(read_all(&all), moved);
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

/* SIGTERM, and a new process under the same name. */
static void replace_worker(cluster *c, uint32_t blow)
{
    uint32_t index = (blow - 1) % c->options.workers;
    assert_int_equal(process_stop(&c->workers[index], SIGTERM), 0);
    cluster_start_worker(c, index);
}

static void replace_worker_or_router(cluster *c, uint32_t blow)
{
    if (blow % 3 == 0)
        cluster_replace_router(c);
    else
        replace_worker(c, blow % 3);
}

/* Workers hand over what they run within a drain of half a second; so does the router, which
 * leaves everything to its successor. */
static void test_rolling_restart_of_workers_and_router_loses_nothing(void **state)
{
    (void)state;
    cluster c;
    start(&c, &(cluster_options){.workers = 2,
                                 .worker_args = {"--drain-ms", "500"},
                                 .router_args = {"--worker-grace-ms", "2000", "--stall-ms",
                                                 "600000", "--drain-ms", "100"}});
    assert_answers_survive(&c, 16, 400 / (SANITIZED ? 4 : 1),
                           &(trouble){6, 20 / (SANITIZED ? 4 : 1), replace_worker_or_router});
    cluster_stop(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_of_answer_outlives_its_workers),
        cmocka_unit_test(test_first_and_last_token_are_breaks_as_well),
        cmocka_unit_test(test_fifth_death_in_a_row_changes_nothing),
        cmocka_unit_test(test_one_death_too_many_says_what_was_delivered),
        cmocka_unit_test(test_hung_workers_answers_go_on_and_it_forgets_them),
        cmocka_unit_test(test_cut_off_workers_answers_go_on_and_it_forgets_them),
        cmocka_unit_test(test_drained_worker_ends_with_its_answers),
        cmocka_unit_test(test_drain_with_a_limit_hands_answers_over),
        cmocka_unit_test(test_end_of_a_lifetime_hands_answers_over),
        cmocka_unit_test(test_rolling_restart_of_workers_and_router_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
