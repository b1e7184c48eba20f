/* Goal: connections that are cut, silent or refused are made anew, a bounded number of times, and
 * no byte is fetched twice over it. Method: the hub cuts, falls silent or answers 5xx as each test
 * says, and counts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "pull_fixture.h"

static void cut_all(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->body_size > 30000) r->cut_after = 30000;
}

static void test_answers_that_are_cut_go_on_where_they_were(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, cut_all, NULL);
    pull(f);
    assert_pulled(f);
    assert_int_equal(hub_sent(f->hub, BIG), BIG_BYTES);
    assert_int_equal(hub_sent(f->hub, SMALL), SMALL_BYTES);
}

/* An end without Content-Length looks like a good end. */
static void end_early(void *ctx, hub_request *r)
{
    (void)ctx;
    if (!r->at_store || r->body_size < 30000) return;
    r->promised = UINT64_MAX;
    r->cut_after = 30000;
}

static void test_an_answer_that_ends_early_is_not_taken_for_whole(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, end_early, NULL);
    pull(f);
    assert_pulled(f);
    assert_int_equal(hub_sent(f->hub, BIG), BIG_BYTES);
}

static void cut_at_once(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->at_store) r->cut_after = 0;
}

static void test_tries_that_bring_nothing_are_bounded(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, cut_at_once, NULL);
    gaggle(f, (const char *const[]){"pull", HUB_MODEL, "--retry-ms", "1", "--retries", "3",
                                    "--connections", "1", NULL});
    assert_failed(f, BIG ": 127.0.0.1: ");
    assert_int_equal(hub_count(f->hub, BIG, true), 4);
    assert_said(f, "(1 of 3)");
}

static void silent_first(void *ctx, hub_request *r)
{
    (void)ctx;
    r->silent = r->number == 0 && (strstr(r->target, SMALL) != NULL || r->file == NULL);
}

static void test_silence_is_a_lost_connection(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, silent_first, NULL);
    gaggle(f,
           (const char *const[]){"pull", HUB_MODEL, "--retry-ms", "1", "--timeout", "300ms", NULL});
    assert_pulled(f);
    assert_said(f, "was silent for 0.3 s; trying again");
}

static void silent_always(void *ctx, hub_request *r)
{
    (void)ctx;
    r->silent = true;
}

static void test_a_hub_that_never_answers_is_given_up(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, silent_always, NULL);
    gaggle(f, (const char *const[]){"pull", HUB_MODEL, "--retry-ms", "1", "--timeout", "150ms",
                                    "--retries", "2", NULL});
    assert_failed(f, "was silent for 0.1 s");
    assert_int_equal(hub_count(f->hub, "", false), 3);
}

static void test_a_hub_that_is_not_there_is_named(void **state)
{
    fixture *f = *state;
    setenv("HF_ENDPOINT", "http://127.0.0.1:1", 1);
    gaggle(f, (const char *const[]){"pull", HUB_MODEL, "--retry-ms", "1", "--retries", "1", NULL});
    assert_failed(f, "127.0.0.1");
    setenv("HF_ENDPOINT", hub_url(f->hub), 1);
    pull(f);
    setenv("HF_ENDPOINT", "http://127.0.0.1:1", 1);
    assert_int_equal(gaggle(f, (const char *const[]){"pull", HUB_MODEL, "--retries", "0", NULL}),
                     1);
    assert_said(f, "what was pulled before is whole and can be used");
    setenv("HF_ENDPOINT", "ftp://127.0.0.1", 1);
    assert_int_equal(pull(f), 2);
    assert_said(f, "must be an http:// or https:// URL");
}

static void fail_thrice(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->number < 3) {
        r->answer = 500 + (int)r->number;
        r->body_size = 0;
        if (r->number == 1) r->answer = 503;
    }
}

static void test_errors_of_the_server_pass(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, fail_thrice, NULL);
    pull(f);
    assert_pulled(f);
}

static void too_many_requests(void *ctx, hub_request *r)
{
    if (r->number > 0 || r->file != NULL) return;
    r->answer = 429;
    r->body_size = 0;
    snprintf(r->headers, sizeof r->headers, "Retry-After: %s\r\n", (const char *)ctx);
}

static void test_retry_after_is_kept(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, too_many_requests, "1");
    uint64_t begin_ms = clock_now_ms();
    pull(f);
    assert_pulled(f);
    assert_true(clock_now_ms() - begin_ms >= 1000);
    hub_forget(f->hub);
    hub_behave(f->hub, too_many_requests, "3600");
    assert_int_equal(pull(f), 1);
    assert_said(f, "asks to come back in 3600 s");
    assert_int_equal(hub_count(f->hub, "", false), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PULL_TEST(test_answers_that_are_cut_go_on_where_they_were),
        PULL_TEST(test_an_answer_that_ends_early_is_not_taken_for_whole),
        PULL_TEST(test_tries_that_bring_nothing_are_bounded),
        PULL_TEST(test_silence_is_a_lost_connection),
        PULL_TEST(test_a_hub_that_never_answers_is_given_up),
        PULL_TEST(test_a_hub_that_is_not_there_is_named),
        PULL_TEST(test_errors_of_the_server_pass),
        PULL_TEST(test_retry_after_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
