/* Goal: each thing is counted once and under its own name, label sets stay bounded whatever people
 * call their models, tenants and workers, the page is what Prometheus reads, and 1,000 workers do
 * not stall the loop that writes it.
 * Method: counters fed by hand; every page goes through a strict checker of the format. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "../../sanitized.h"
#include "common/clock.h"
#include "prometheus_check.h"
#include "router/metrics_page.h"

static core_metrics m;
static buffer page;

static char *tenant_name(const void *ctx, uint32_t tenant, char out[LIMIT_KEY_NAME_BYTES + 1])
{
    (void)ctx;
    snprintf(out, LIMIT_KEY_NAME_BYTES + 1, tenant % 3 == 0 ? "same" : "tenant-%u", tenant);
    return out;
}

static int setup(void **state)
{
    (void)state;
    memset(&m, 0, sizeof m);
    metrics_init(&m);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    metrics_fini(&m);
    buffer_free(&page);
    return 0;
}

/* Checks the page, and returns how many samples it has. */
static size_t write_page(const msg_report *report, bool vllm)
{
    static const msg_report empty;
    const metrics_source source = {.metrics = &m,
                                   .report = report != NULL ? report : &empty,
                                   .vllm = vllm,
                                   .tenant_name = tenant_name};
    buffer_clear(&page);
    metrics_page(&source, &page);
    return prometheus_check((const char *)page.data, page.size);
}

static double value(const char *series)
{
    return prometheus_value((const char *)page.data, page.size, series);
}

static bool shows(const char *text)
{
    return memmem(page.data, page.size, text, strlen(text)) != NULL;
}

/* -- counting ---------------------------------------------------------------------------------- */

static void test_one_request_is_counted_from_submit_to_finish(void **state)
{
    (void)state;
    request_meter r = {0};
    bool counted = false;
    metrics_submitted(&m, &r, text_of("gosling"), 1, 1000);
    write_page(NULL, true);
    assert_true(value("gaggle_requests_waiting{model=\"gosling\"}") == 1);
    metrics_placed(&m, &r, METRICS_BY_PREFIX, 1400);
    metrics_relayed(&m, &r, 1, 1500);  /* 500 ms to the first token */
    metrics_relayed(&m, &r, 10, 1600); /* 10 ms each */
    const msg_finish finish = {.reason = FINISH_STOP,
                               .prompt_tokens = 100,
                               .cached_tokens = 64,
                               .prefill_us = 90000,
                               .decode_us = 100000,
                               .approximate = true};
    write_page(NULL, true);
    assert_true(value("vllm:num_requests_running{model_name=\"gosling\",engine=\"0\"}") == 1);
    metrics_ended(&m, &r, &counted, 5, METRICS_STOP, &finish, 11, 1700);
    assert_true(counted);
    write_page(NULL, true);
    assert_true(value("gaggle_requests_waiting{model=\"gosling\"}") == 0);
    assert_true(value("gaggle_requests_running{model=\"gosling\"}") == 0);
    assert_true(value("gaggle_requests_total{class=\"interactive\",outcome=\"stop\"}") == 1);
    assert_true(value("gaggle_tenant_requests_total{tenant=\"tenant-5\",outcome=\"stop\"}") == 1);
    assert_true(value("gaggle_tenant_output_tokens_total{tenant=\"tenant-5\"}") == 11);
    assert_true(value("gaggle_placements_total{reason=\"prefix\"}") == 1);
    assert_true(value("gaggle_cached_tokens_total{model=\"gosling\"}") == 64);
    assert_true(value("gaggle_approximate_answers_total") == 1);
    assert_true(value("gaggle_queue_seconds_sum{model=\"gosling\"}") == 0.4);
    assert_true(value("gaggle_request_seconds_sum{model=\"gosling\"}") == 0.7);
    assert_true(value("gaggle_time_to_first_token_seconds_sum{model=\"gosling\"}") == 0.5);
    assert_true(value("gaggle_inter_token_seconds_sum{model=\"gosling\"}") == 0.1);
    assert_true(value("gaggle_inter_token_seconds_count{model=\"gosling\"}") == 10);
    assert_true(value("gaggle_inter_token_seconds_bucket{model=\"gosling\",le=\"0.005\"}") == 0);
    assert_true(value("gaggle_inter_token_seconds_bucket{model=\"gosling\",le=\"0.01\"}") == 10);
}

/* A Finish may be sent again, and a client may come back for a part of the answer. */
static void test_a_request_ends_once_however_often_that_is_said(void **state)
{
    (void)state;
    request_meter r = {0};
    bool counted = false;
    metrics_submitted(&m, &r, text_of("x"), 0, 0);
    metrics_placed(&m, &r, METRICS_BY_LOAD, 0);
    metrics_ended(&m, &r, &counted, 0, METRICS_LENGTH, NULL, 3, 10);
    metrics_move(&m, &r, METRICS_RUNNING);
    metrics_ended(&m, &r, &counted, 0, METRICS_LENGTH, NULL, 3, 20);
    metrics_ended(&m, &r, &counted, 0, METRICS_ABANDONED, NULL, 3, 30);
    assert_int_equal(m.ended[QUEUE_STANDARD][METRICS_LENGTH], 1);
    assert_int_equal(m.ended[QUEUE_STANDARD][METRICS_ABANDONED], 0);
    assert_int_equal(m.models[1].running, 0);
    assert_int_equal(m.models[1].waiting, 0);
    assert_int_equal(m.tenants[0].output_tokens, 3);
}

static void test_waiting_again_after_a_lost_worker_keeps_the_gauges_right(void **state)
{
    (void)state;
    request_meter r = {0};
    bool counted = false;
    metrics_submitted(&m, &r, text_of("x"), -1, 0);
    metrics_placed(&m, &r, METRICS_BY_LOAD, 5);
    metrics_move(&m, &r, METRICS_WAITING);
    assert_int_equal(m.models[1].waiting, 1);
    assert_int_equal(m.models[1].running, 0);
    metrics_placed(&m, &r, METRICS_BY_CONTINUATION, 9);
    metrics_ended(&m, &r, &counted, 0, METRICS_CANCELLED, NULL, 0, 10);
    assert_int_equal(m.models[1].waiting + m.models[1].running, 0);
    assert_int_equal(m.placements[METRICS_BY_CONTINUATION], 1);
    uint64_t queued = 0; /* only the first wait is one */
    for (size_t i = 0; i <= HISTOGRAM_BOUNDS_MAX; i++)
        queued += m.models[1].queued.cells[i];
    assert_int_equal(queued, 1);
    assert_int_equal(m.ended[QUEUE_BATCH][METRICS_CANCELLED], 1);
}

/* After a router restart nothing is known of it but its tokens. */
static void test_an_adopted_answer_is_counted_as_other(void **state)
{
    (void)state;
    bool counted = false;
    write_page(NULL, true);
    assert_false(shows("\"other\",engine"));
    metrics_relayed(&m, NULL, 7, 100);
    metrics_ended(&m, NULL, &counted, TENANT_UNKNOWN, METRICS_STOP, NULL, 7, 200);
    write_page(NULL, true);
    assert_true(value("gaggle_output_tokens_total{model=\"other\"}") == 7);
    assert_true(value("gaggle_tenant_requests_total{tenant=\"other\",outcome=\"stop\"}") == 1);
}

static void test_bounds_are_inclusive_and_what_is_larger_is_infinite(void **state)
{
    (void)state;
    histogram h = {0};
    histogram_add(&h, &bounds_cancel, 1000, 1);
    histogram_add(&h, &bounds_cancel, 1001, 2);
    histogram_add(&h, &bounds_cancel, 10000000, 1);
    histogram_add(&h, &bounds_cancel, 10000001, 5);
    assert_int_equal(h.cells[0], 1);
    assert_int_equal(h.cells[1], 2);
    assert_int_equal(h.cells[bounds_cancel.count - 1], 1);
    assert_int_equal(h.cells[bounds_cancel.count], 5);
    static const histogram_bounds *const all[] = {&bounds_first_token, &bounds_between_tokens,
                                                  &bounds_whole, &bounds_tokens, &bounds_cancel};
    for (size_t i = 0; i < 5; i++) {
        assert_true(all[i]->count <= HISTOGRAM_BOUNDS_MAX && all[i]->ours < all[i]->count);
        for (uint32_t b = 1; b < all[i]->count; b++)
            assert_true(all[i]->upper[b] > all[i]->upper[b - 1]);
    }
}

static void test_vllm_buckets_are_vllms_alone(void **state)
{
    (void)state;
    request_meter r = {0};
    metrics_submitted(&m, &r, text_of("x"), 0, 1000);
    metrics_placed(&m, &r, METRICS_BY_LOAD, 1000);
    metrics_relayed(&m, &r, 1, 1001);
    metrics_relayed(&m, &r, 1, 1003); /* 2 ms: finer than vLLM's first bucket */
    write_page(NULL, true);
    assert_true(shows("gaggle_inter_token_seconds_bucket{model=\"x\",le=\"0.0025\"} 1"));
    assert_false(shows("vllm:inter_token_latency_seconds_bucket{model_name=\"x\",engine=\"0\","
                       "le=\"0.0025\"}"));
    assert_true(shows("vllm:inter_token_latency_seconds_bucket{model_name=\"x\",engine=\"0\","
                      "le=\"0.01\"} 1"));
    assert_true(shows("vllm:time_to_first_token_seconds_bucket{model_name=\"x\",engine=\"0\","
                      "le=\"2560\"} 1"));
    write_page(NULL, false);
    assert_false(shows("vllm:"));
}

/* -- names ------------------------------------------------------------------------------------- */

static void test_label_sets_stay_bounded(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        char name[32];
        request_meter r = {0};
        bool counted = false;
        snprintf(name, sizeof name, "model-%u", i);
        metrics_submitted(&m, &r, text_of(name), 0, 0);
        metrics_ended(&m, &r, &counted, i, METRICS_CANCELLED, NULL, 1, 5);
    }
    size_t before = write_page(NULL, true);
    assert_int_equal(m.model_count, METRICS_MODELS + 1);
    assert_int_equal(m.tenant_count, METRICS_TENANTS);
    assert_true(value("gaggle_model_requests_total{model=\"other\",outcome=\"cancelled\"}") == 968);
    assert_true(value("gaggle_tenant_requests_total{tenant=\"other\",outcome=\"cancelled\"}") ==
                1000 - METRICS_TENANTS);
    bool counted = false;
    metrics_ended(&m, NULL, &counted, LIMIT_TENANT_NUMBERS, METRICS_CANCELLED, NULL, 0, 5);
    assert_int_equal(write_page(NULL, true), before);
}

/* The checker refuses a series that is there twice. */
static void test_names_like_our_own_do_not_collide(void **state)
{
    (void)state;
    request_meter r = {0};
    bool counted[9] = {0};
    metrics_submitted(&m, &r, text_of("other"), 0, 0);
    assert_int_equal(r.model, 0);
    for (uint32_t i = 0; i < 9; i++) /* three of them are called "same" */
        metrics_ended(&m, &r, &counted[i], i, METRICS_STOP, NULL, 1, 1);
    write_page(NULL, true);
    assert_true(value("gaggle_tenant_requests_total{tenant=\"same\",outcome=\"stop\"}") == 1);
    assert_true(value("gaggle_tenant_requests_total{tenant=\"same#3\",outcome=\"stop\"}") == 1);
}

static void test_what_people_call_things_is_escaped(void **state)
{
    (void)state;
    static const msg_model model = {.name = {"m\"1\\\n", 5}};
    static const msg_worker_report worker = {.worker_id = {"w\"\\\n{}\xc3\xa9", 8},
                                             .device = {"a \"gpu\"", 7},
                                             .models = &model,
                                             .model_count = 1,
                                             .connected = true,
                                             .kv_blocks = 8,
                                             .load.kv_blocks_free = 6,
                                             .rtt_us = 1500,
                                             .breaker = 2};
    const msg_report report = {.workers = &worker, .worker_count = 1};
    metrics_model_number(&m, model.name);
    write_page(&report, true);
    assert_true(value("gaggle_worker_rtt_seconds{worker=\"w\\\"\\\\\\n{}\xc3\xa9\"}") == 0.0015);
    assert_true(value("gaggle_kv_usage_ratio{model=\"m\\\"1\\\\\\n\"}") == 0.25);
    assert_true(value("gaggle_worker_breaker_state{worker=\"w\\\"\\\\\\n{}\xc3\xa9\"}") == 2);
    assert_false(shows("gaggle_worker_lease_left_seconds{"));
}

/* -- cost ----------------------------------------------------------------------------------------
 */

static void test_a_thousand_workers_do_not_stall_the_loop(void **state)
{
    (void)state;
    enum { WORKERS = 1000, ROUNDS = 20, MODELS = 8 };
    static msg_worker_report workers[WORKERS];
    static char ids[WORKERS][32];
    static char names[MODELS][32];
    static msg_model models[MODELS];
    for (uint32_t i = 0; i < MODELS; i++) {
        request_meter r = {0};
        snprintf(names[i], sizeof names[i], "a-model-of-8b-%u", i);
        models[i].name = text_of(names[i]);
        metrics_submitted(&m, &r, models[i].name, 0, 0);
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        snprintf(ids[i], sizeof ids[i], "gpu-node-%04u-cuda-0", i);
        workers[i] = (msg_worker_report){.worker_id = text_of(ids[i]),
                                         .device = text_of("cuda:0 NVIDIA H200"),
                                         .models = &models[i % MODELS],
                                         .model_count = 1,
                                         .connected = true,
                                         .slots = 256,
                                         .kv_blocks = 100000,
                                         .load = {.running = 200,
                                                  .step_us = 12345,
                                                  .prompt_tokens = 123456789012,
                                                  .output_tokens = 123456789 + i},
                                         .rtt_us = 34567,
                                         .lease_left_ms = 3600000 + i};
    }
    const msg_report report = {.workers = workers, .worker_count = WORKERS};
    size_t samples = write_page(&report, true);
    assert_true(samples > WORKERS * 19);
    const metrics_source source = {
        .metrics = &m, .report = &report, .vllm = true, .tenant_name = tenant_name};
    uint64_t best_ns = UINT64_MAX;
    for (int i = 0; i < ROUNDS; i++) {
        buffer fresh = {0};
        uint64_t start_ns = clock_now_ns();
        metrics_page(&source, &fresh);
        uint64_t took_ns = clock_now_ns() - start_ns;
        if (took_ns < best_ns) best_ns = took_ns;
        buffer_free(&fresh);
    }
    printf("%d workers: %zu samples, %zu bytes in %.2f ms\n", WORKERS, samples, page.size,
           (double)best_ns / 1e6);
#if !SANITIZED && defined(__OPTIMIZE__)
    assert_true(best_ns < 5000000);
#endif
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_one_request_is_counted_from_submit_to_finish),
        TEST(test_a_request_ends_once_however_often_that_is_said),
        TEST(test_waiting_again_after_a_lost_worker_keeps_the_gauges_right),
        TEST(test_an_adopted_answer_is_counted_as_other),
        TEST(test_bounds_are_inclusive_and_what_is_larger_is_infinite),
        TEST(test_vllm_buckets_are_vllms_alone),
        TEST(test_label_sets_stay_bounded),
        TEST(test_names_like_our_own_do_not_collide),
        TEST(test_what_people_call_things_is_escaped),
        TEST(test_a_thousand_workers_do_not_stall_the_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
