/* Goal: libgaggle keeps its promise on real links: each token once and in order, one end, whatever
 * router and network do; and its queries, refusals, cancels and closes are what gaggle.h says.
 * Method: a fake router (fake_router.h) on the same loop as the client. The scripted faults come
 * one by one, then all of them at random for many streams at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "client/gaggle.h"
#include "fake_router.h"

enum { READERS_MAX = 64, GIVE_UP_MS = 60000 };

/* What came of one stream. */
typedef struct reader {
    gaggle_stream *stream;
    uint32_t next, finishes;
    buffer text;
    gaggle_finish_reason reason;
    gaggle_error error;
    uint32_t total, prompt_tokens;
    char stop_text[32];
    uint32_t cancel_at; /* tokens; 0 = never */
    uint32_t close_at;
    bool expect_logprobs;
    bool closed;
} reader;

typedef struct fixture {
    uv_loop_t loop;
    fake_router *router;
    gaggle_client *client;
    uint32_t ups, downs;
    bool client_closed, router_closed, timed_out;
    reader readers[READERS_MAX];
    uv_timer_t guard;
} fixture;

static void on_link(void *ctx, bool up, const gaggle_error *why)
{
    fixture *f = ctx;
    if (up) f->ups++;
    if (!up) f->downs++;
    assert_true(up == (why == NULL));
}

static void on_guard(uv_timer_t *timer)
{
    ((fixture *)timer->data)->timed_out = true;
}

static void begin(fixture *f, const fake_plan *plan, uint32_t offline_ms)
{
    memset(f, 0, sizeof *f);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    uv_timer_init(&f->loop, &f->guard);
    f->guard.data = f;
    uv_timer_start(&f->guard, on_guard, GIVE_UP_MS, 0);
    f->router = fake_router_create(&f->loop, plan);
    const char *url = fake_router_url(f->router);
    gaggle_options options = {.urls = &url,
                              .url_count = 1,
                              .name = "test",
                              .uv_loop = &f->loop,
                              .offline_ms = offline_ms,
                              .on_link = on_link,
                              .ctx = f};
    gaggle_error err;
    if (gaggle_client_create(&f->client, &options, &err) != GAGGLE_OK) fail_msg("%s", err.text);
}

/* Run the loop until `*value` reaches `least`. */
static void run_until(fixture *f, const uint32_t *value, uint32_t least)
{
    while (*value < least && !f->timed_out)
        uv_run(&f->loop, UV_RUN_ONCE);
    assert_false(f->timed_out);
}

static void on_client_closed(void *ctx)
{
    ((fixture *)ctx)->client_closed = true;
}

static void on_router_closed(void *ctx)
{
    ((fixture *)ctx)->router_closed = true;
}

static void end(fixture *f)
{
    gaggle_client_close(f->client, on_client_closed, f);
    while (!f->client_closed)
        uv_run(&f->loop, UV_RUN_ONCE);
    fake_router_close(f->router, on_router_closed, f);
    uv_close((uv_handle_t *)&f->guard, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(f->router_closed);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    for (size_t i = 0; i < READERS_MAX; i++)
        buffer_free(&f->readers[i].text);
}

static void check_logprobs(const gaggle_event *e)
{
    assert_non_null(e->logprobs);
    size_t top = 0;
    for (uint32_t i = 0; i < e->count; i++) {
        assert_true(e->logprobs[i] == -(float)(e->first_index + i));
        assert_int_equal(e->top_count[i], (e->first_index + i) % 3);
        for (uint32_t k = 0; k < e->top_count[i]; k++, top++) {
            assert_int_equal(e->top_ids[top], e->ids[i] + k);
            assert_true(e->top_logprobs[top] == e->logprobs[i] - (float)k);
        }
    }
}

static void take_tokens(reader *r, const gaggle_event *e)
{
    assert_int_equal(r->finishes, 0);
    assert_int_equal(e->first_index, r->next);
    assert_true(e->count > 0);
    size_t at = 0;
    for (uint32_t i = 0; i < e->count; i++) {
        char expected[16];
        uint32_t size = fake_text(r->next, expected);
        assert_int_equal(e->ids[i], fake_token(r->next));
        assert_int_equal(e->text_len[i], size);
        assert_memory_equal(e->text + at, expected, size);
        at += size;
        r->next++;
    }
    assert_int_equal(at, e->text_size);
    buffer_append(&r->text, e->text, e->text_size);
    if (r->expect_logprobs) check_logprobs(e);
}

static void take_finish(reader *r, const gaggle_event *e)
{
    r->finishes++;
    r->reason = e->reason;
    r->total = e->total_tokens;
    r->prompt_tokens = e->prompt_tokens;
    assert_true((e->reason == GAGGLE_FINISH_FAILED) == (e->error != NULL));
    if (e->error != NULL) r->error = *e->error;
    snprintf(r->stop_text, sizeof r->stop_text, "%s", e->stop_text != NULL ? e->stop_text : "");
    assert_int_equal(r->finishes, 1);
}

static void on_event(void *ctx, gaggle_stream *stream, const gaggle_event *e)
{
    reader *r = ctx;
    assert_ptr_equal(r->stream, stream);
    assert_false(r->closed);
    if (e->type == GAGGLE_TOKENS) {
        take_tokens(r, e);
        if (r->cancel_at != 0 && r->next >= r->cancel_at) gaggle_cancel(stream);
        if (r->close_at == 0 || r->next < r->close_at) return;
        r->finishes++; /* nothing else will come */
    } else {
        take_finish(r, e);
    }
    r->closed = true;
    gaggle_stream_close(stream);
}

static reader *ask(fixture *f, size_t index, gaggle_request request)
{
    reader *r = &f->readers[index];
    request.text = "Once";
    request.on_event = on_event;
    request.ctx = r;
    r->expect_logprobs = request.logprobs != 0;
    gaggle_error err;
    if (gaggle_submit(&r->stream, f->client, &request, &err) != GAGGLE_OK) fail_msg("%s", err.text);
    return r;
}

static void assert_whole(const reader *r, uint32_t tokens)
{
    if (r->reason == GAGGLE_FINISH_FAILED) fail_msg("failed: %s", r->error.text);
    assert_int_equal(r->reason, GAGGLE_FINISH_STOP);
    assert_int_equal(r->next, tokens);
    assert_int_equal(r->total, tokens);
    assert_string_equal(r->stop_text, "the end");
    assert_int_equal(r->prompt_tokens, 11);
}

/* -- peace --------------------------------------------------------------------------------- */

static void test_answer_arrives_with_everything_on_it(void **state)
{
    (void)state;
    static fixture f;
    begin(&f, &(fake_plan){.tokens = 700, .logprobs = true, .seed = 1}, 0);
    reader *r = ask(&f, 0, (gaggle_request){.logprobs = GAGGLE_LOGPROBS(2)});
    run_until(&f, &r->finishes, 1);
    assert_whole(r, 700);
    assert_true(fake_router_counts(f.router)->acks >= 700 / (256 / 4));
    assert_int_equal(fake_router_counts(f.router)->submits, 1);
    assert_int_equal(fake_router_counts(f.router)->resumes, 0);
    end(&f);
}

static void test_empty_answer_ends(void **state)
{
    (void)state;
    static fixture f;
    begin(&f, &(fake_plan){.tokens = 0}, 0);
    reader *r = ask(&f, 0, (gaggle_request){0});
    run_until(&f, &r->finishes, 1);
    assert_whole(r, 0);
    end(&f);
}

static void test_many_streams_share_the_link(void **state)
{
    (void)state;
    static fixture f;
    begin(&f, &(fake_plan){.tokens = 100, .seed = 5}, 0);
    for (size_t i = 0; i < READERS_MAX; i++)
        ask(&f, i, (gaggle_request){.window = 32});
    for (size_t i = 0; i < READERS_MAX; i++) {
        run_until(&f, &f.readers[i].finishes, 1);
        assert_whole(&f.readers[i], 100);
    }
    assert_int_equal(fake_router_counts(f.router)->hellos, 1);
    end(&f);
}

/* -- trouble -------------------------------------------------------------------------------- */

static void test_cut_link_resumes(void **state)
{
    (void)state;
    enum { CUTS = 5, TOKENS = 3000 }; /* far more than the windows in flight */
    static fixture f;
    begin(&f, &(fake_plan){.tokens = TOKENS, .group = 3}, 0);
    reader *r = ask(&f, 0, (gaggle_request){0});
    for (uint32_t cut = 0; cut < CUTS; cut++) {
        run_until(&f, &f.ups, cut + 1);
        run_until(&f, &r->next, r->next + 20);
        fake_router_cut(f.router);
    }
    run_until(&f, &r->finishes, 1);
    assert_whole(r, TOKENS);
    const fake_counts *counts = fake_router_counts(f.router);
    assert_int_equal(counts->submits, 1);
    assert_int_equal(counts->resumes, CUTS);
    assert_int_equal(f.ups, CUTS + 1);
    end(&f);
}

static void test_restarted_router_gets_the_request_again_with_prior_ids(void **state)
{
    (void)state;
    static fixture f;
    begin(&f, &(fake_plan){.tokens = 3000, .group = 3}, 0);
    reader *r = ask(&f, 0, (gaggle_request){0});
    run_until(&f, &r->next, 100);
    fake_router_restart(f.router);
    run_until(&f, &f.ups, 2);
    run_until(&f, &r->next, r->next + 20);
    fake_router_restart(f.router);
    run_until(&f, &r->finishes, 1);
    assert_whole(r, 3000);
    assert_int_equal(fake_router_counts(f.router)->repeated_submits, 2);
    end(&f);
}

static void test_restarted_router_may_take_its_time(void **state)
{
    (void)state;
    static fixture f;
    begin(&f, &(fake_plan){.tokens = 1000, .group = 3}, 0);
    reader *r = ask(&f, 0, (gaggle_request){0});
    run_until(&f, &r->next, 30);
    fake_plan *plan = fake_router_plan(f.router);
    plan->refuse = ST_UNAVAILABLE; /* its workers are not back */
    plan->refusals = 3;
    plan->refuse_again = true;
    fake_router_restart(f.router);
    run_until(&f, &r->finishes, 1);
    assert_whole(r, 1000);
    assert_int_equal(plan->refusals, 0);
    end(&f);
}

static void test_everything_at_once_for_many_streams(void **state)
{
    (void)state;
    fake_counts all = {0};
    for (uint64_t seed = 1; seed <= 6; seed++) {
        static fixture f;
        begin(&f, &(fake_plan){.tokens = 400, .chaos = 60, .seed = seed, .logprobs = true}, 0);
        enum { STREAMS = 12 };
        for (size_t i = 0; i < STREAMS; i++)
            ask(&f, i, (gaggle_request){.window = i % 2 == 0 ? 32 : 0, .logprobs = 1});
        for (size_t i = 0; i < STREAMS; i++) {
            run_until(&f, &f.readers[i].finishes, 1);
            assert_whole(&f.readers[i], 400);
        }
        const fake_counts *counts = fake_router_counts(f.router);
        all.gaps += counts->gaps;
        all.repeats += counts->repeats;
        all.swaps += counts->swaps;
        all.losses += counts->losses;
        all.cuts += counts->cuts;
        all.restarts += counts->restarts;
        end(&f);
    }
    assert_true(all.gaps > 0 && all.repeats > 0 && all.swaps > 0);
    assert_true(all.losses > 0 && all.cuts > 0 && all.restarts > 0);
}

static void test_lying_finish_is_data_loss(void **state)
{
    (void)state;
    static fixture f;
    begin(&f, &(fake_plan){.tokens = 10, .wrong_crc = true}, 0);
    reader *r = ask(&f, 0, (gaggle_request){0});
    run_until(&f, &r->finishes, 1);
    assert_int_equal(r->reason, GAGGLE_FINISH_FAILED);
    assert_int_equal(r->error.code, GAGGLE_DATA_LOSS);
    assert_int_equal(r->next, 10);
    end(&f);
}

/* -- refusals --------------------------------------------------------------------------------- */

static void test_refused_submit_tells_code_sentence_and_retry_time(void **state)
{
    (void)state;
    static fixture f;
    begin(&f, &(fake_plan){.refuse = ST_RESOURCE_EXHAUSTED, .refusals = UINT32_MAX}, 0);
    reader *r = ask(&f, 0, (gaggle_request){0});
    run_until(&f, &r->finishes, 1);
    assert_int_equal(r->reason, GAGGLE_FINISH_FAILED);
    assert_int_equal(r->error.code, GAGGLE_RESOURCE_EXHAUSTED);
    assert_int_equal(r->error.retry_after_ms, 20);
    assert_string_equal(r->error.text, "the fake router was told to refuse");
    assert_int_equal(fake_router_counts(f.router)->submits, 1);
    end(&f);
}

static void test_refused_client_ends_its_streams(void **state)
{
    (void)state;
    static fixture f;
    begin(&f, &(fake_plan){.hello_status = ST_UNAUTHENTICATED}, 0);
    reader *r = ask(&f, 0, (gaggle_request){0});
    run_until(&f, &r->finishes, 1);
    assert_int_equal(r->error.code, GAGGLE_UNAUTHENTICATED);
    reader *late = ask(&f, 1, (gaggle_request){0});
    run_until(&f, &late->finishes, 1);
    assert_int_equal(late->error.code, GAGGLE_UNAUTHENTICATED);
    end(&f);
}

static void test_no_router_ends_streams_after_offline_ms(void **state)
{
    (void)state;
    static fixture f;
    begin(&f, &(fake_plan){.tokens = 1000, .group = 1}, 300);
    reader *r = ask(&f, 0, (gaggle_request){0});
    run_until(&f, &r->next, 20);
    fake_router_plan(f.router)->hello_status = ST_UNAVAILABLE;
    fake_router_cut(f.router);
    run_until(&f, &r->finishes, 1);
    assert_int_equal(r->error.code, GAGGLE_UNAVAILABLE);
    assert_int_equal(r->total, r->next);
    end(&f);
}

static void test_deadline_passes_without_a_router(void **state)
{
    (void)state;
    static fixture f;
    begin(&f, &(fake_plan){.hello_status = ST_UNAVAILABLE}, 0);
    reader *r = ask(&f, 0, (gaggle_request){.deadline_ms = 250});
    run_until(&f, &r->finishes, 1);
    assert_int_equal(r->reason, GAGGLE_FINISH_DEADLINE);
    end(&f);
}

static gaggle_code submit_code(gaggle_client *client, gaggle_request request, const char *sentence)
{
    gaggle_stream *stream;
    gaggle_error err = {0};
    gaggle_code code = gaggle_submit(&stream, client, &request, &err);
    assert_int_equal(err.code, code);
    if (strstr(err.text, sentence) == NULL) fail_msg("'%s' is not in '%s'", sentence, err.text);
    return code;
}

static void test_bad_requests_are_refused_by_name(void **state)
{
    (void)state;
    static fixture f;
    begin(&f, &(fake_plan){0}, 0);
    static char long_name[300], big[9 << 20];
    memset(long_name, 'x', sizeof long_name - 1);
    memset(big, 'x', sizeof big - 1);
    uint32_t ids[2] = {1, 2};
    const char *empty_stop[] = {""};
    assert_int_equal(submit_code(f.client, (gaggle_request){0}, "exactly one of"), 3);
    assert_int_equal(
        submit_code(f.client, (gaggle_request){.text = "a", .ids = ids, .id_count = 2}, "exactly"),
        3);
    assert_int_equal(
        submit_code(f.client, (gaggle_request){.text = "a", .model = long_name}, "Submit.model"),
        3);
    assert_int_equal(submit_code(f.client, (gaggle_request){.text = "a", .window = 5}, "window"),
                     3);
    assert_int_equal(submit_code(f.client, (gaggle_request){.text = "a", .cache_salt = long_name},
                                 "Submit.cache_salt has 299 bytes; at most 256"),
                     3);
    assert_int_equal(submit_code(f.client, (gaggle_request){.text = "\xff"}, "UTF-8"), 3);
    assert_int_equal(
        submit_code(f.client,
                    (gaggle_request){.text = "a", .sampling = {.has_top_p = true, .top_p = NAN}},
                    "top_p"),
        3);
    assert_int_equal(submit_code(f.client,
                                 (gaggle_request){.text = "a", .logprobs = GAGGLE_LOGPROBS(21)},
                                 "logprobs"),
                     3);
    assert_int_equal(submit_code(f.client,
                                 (gaggle_request){.text = "a", .stop = empty_stop, .stop_count = 1},
                                 "stop"),
                     3);
    assert_int_equal(
        submit_code(f.client, (gaggle_request){.text = "a", .stop_count = 17}, "at most 16"), 3);
    assert_int_equal(submit_code(f.client, (gaggle_request){.id_count = 3}, "NULL"), 3);
    assert_int_equal(submit_code(f.client, (gaggle_request){.text = big}, "Submit.text"), 3);
    big[(8 << 20) - 1] = '\0'; /* a text that fits, in a message that does not */
    assert_int_equal(submit_code(f.client, (gaggle_request){.text = big}, "larger"), 8);
    end(&f);
}

static void test_bad_options_are_refused_by_name(void **state)
{
    (void)state;
    static char long_name[300];
    memset(long_name, 'x', sizeof long_name - 1);
    const char *bad_url = "gopher://here";
    gaggle_client *client;
    gaggle_error err;
    gaggle_options options = {.name = long_name};
    assert_int_equal(gaggle_client_create(&client, &options, &err), GAGGLE_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "name has 299 bytes"));
    options = (gaggle_options){.urls = &bad_url, .url_count = 1};
    assert_int_equal(gaggle_client_create(&client, &options, &err), GAGGLE_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "gopher"));

    uv_loop_t loop;
    uv_loop_init(&loop);
    options.uv_loop = &loop;
    assert_int_equal(gaggle_client_create(&client, &options, &err), GAGGLE_INVALID_ARGUMENT);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* -- cancel and close ---------------------------------------------------------------------------
 */

static void test_cancel_ends_with_cancelled_after_the_tokens_that_were_made(void **state)
{
    (void)state;
    static fixture f;
    begin(&f, &(fake_plan){.tokens = 100000, .group = 2}, 0);
    reader *r = &f.readers[0];
    r->cancel_at = 50;
    ask(&f, 0, (gaggle_request){0});
    run_until(&f, &r->finishes, 1);
    assert_int_equal(r->reason, GAGGLE_FINISH_CANCELLED);
    assert_true(r->next >= 50 && r->next < 1000);
    assert_int_equal(r->total, r->next);
    assert_int_equal(fake_router_counts(f.router)->cancels, 1);
    end(&f);
}

static void test_cancel_without_a_link_ends_at_once(void **state)
{
    (void)state;
    static fixture f;
    begin(&f, &(fake_plan){.hello_status = ST_UNAVAILABLE}, 0);
    reader *r = ask(&f, 0, (gaggle_request){0});
    gaggle_cancel(r->stream);
    run_until(&f, &r->finishes, 1);
    assert_int_equal(r->reason, GAGGLE_FINISH_CANCELLED);
    end(&f);
}

static void test_closed_stream_is_cancelled_and_hears_no_more(void **state)
{
    (void)state;
    static fixture f;
    begin(&f, &(fake_plan){.tokens = 100000, .group = 2}, 0);
    f.readers[0].close_at = 20;
    ask(&f, 0, (gaggle_request){0});
    run_until(&f, &f.readers[0].finishes, 1);
    run_until(&f, &fake_router_counts(f.router)->cancels, 1);
    fake_router_plan(f.router)->tokens = 30;
    reader *other = ask(&f, 1, (gaggle_request){0}); /* on_event asserts that the first is quiet */
    run_until(&f, &other->finishes, 1);
    assert_whole(other, 30);
    end(&f);
}

static void test_closing_client_finishes_its_streams(void **state)
{
    (void)state;
    static fixture f;
    begin(&f, &(fake_plan){.silent = true}, 0);
    ask(&f, 0, (gaggle_request){0});
    ask(&f, 1, (gaggle_request){0});
    run_until(&f, &fake_router_counts(f.router)->submits, 2);
    end(&f);
    assert_int_equal(f.readers[0].reason, GAGGLE_FINISH_CANCELLED);
    assert_int_equal(f.readers[1].finishes, 1);
}

/* -- queries -------------------------------------------------------------------------------------
 */

static uint32_t reports, report_errors;

static void on_report(void *ctx, const gaggle_report *report, const gaggle_error *err)
{
    (void)ctx;
    if (report == NULL) {
        assert_int_equal(err->code, GAGGLE_UNAVAILABLE);
        report_errors++;
        return;
    }
    reports++;
    assert_null(err);
    assert_string_equal(report->router_build, "fake 1");
    assert_int_equal(report->tokens_total, 5000000000u);
    assert_int_equal(report->worker_count, 2);
    assert_string_equal(report->workers[0].models[0].name, "fake-model");
    assert_int_equal(report->workers[0].kv_blocks_free, 75);
    assert_true(report->workers[0].connected);
    assert_true(report->workers[1].draining);
    assert_int_equal(report->workers[1].model_count, 0);
}

static void test_query_reports_the_fleet_or_times_out(void **state)
{
    (void)state;
    static fixture f;
    reports = report_errors = 0;
    begin(&f, &(fake_plan){0}, 0);
    gaggle_error err;
    assert_int_equal(gaggle_query(f.client, 10000, on_report, NULL, &err), GAGGLE_OK);
    run_until(&f, &reports, 1);
    assert_int_equal(gaggle_query(f.client, 10000, on_report, NULL, &err), GAGGLE_OK);
    run_until(&f, &reports, 2);

    fake_router_plan(f.router)->hello_status = ST_UNAVAILABLE;
    fake_router_cut(f.router);
    run_until(&f, &f.downs, 1);
    assert_int_equal(gaggle_query(f.client, 150, on_report, NULL, &err), GAGGLE_OK);
    run_until(&f, &report_errors, 1);
    /* Waiting on the loop's own thread would wait for ever. */
    gaggle_report *report;
    assert_int_equal(gaggle_query_wait(&report, f.client, 100, &err), GAGGLE_FAILED_PRECONDITION);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer_arrives_with_everything_on_it),
        cmocka_unit_test(test_empty_answer_ends),
        cmocka_unit_test(test_many_streams_share_the_link),
        cmocka_unit_test(test_cut_link_resumes),
        cmocka_unit_test(test_restarted_router_gets_the_request_again_with_prior_ids),
        cmocka_unit_test(test_restarted_router_may_take_its_time),
        cmocka_unit_test(test_everything_at_once_for_many_streams),
        cmocka_unit_test(test_lying_finish_is_data_loss),
        cmocka_unit_test(test_refused_submit_tells_code_sentence_and_retry_time),
        cmocka_unit_test(test_refused_client_ends_its_streams),
        cmocka_unit_test(test_no_router_ends_streams_after_offline_ms),
        cmocka_unit_test(test_deadline_passes_without_a_router),
        cmocka_unit_test(test_bad_requests_are_refused_by_name),
        cmocka_unit_test(test_bad_options_are_refused_by_name),
        cmocka_unit_test(test_cancel_ends_with_cancelled_after_the_tokens_that_were_made),
        cmocka_unit_test(test_cancel_without_a_link_ends_at_once),
        cmocka_unit_test(test_closed_stream_is_cancelled_and_hears_no_more),
        cmocka_unit_test(test_closing_client_finishes_its_streams),
        cmocka_unit_test(test_query_reports_the_fleet_or_times_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
