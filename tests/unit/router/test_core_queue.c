/* Goal: the router's core keeps the promises of queue.h, tenant.h and breaker.h towards clients and
 * workers: who is next, who is refused with which words, and which worker is left alone.
 * Method: clients of several tenants and workers of several models, spoken for by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "proto/token_columns.h"
#include "router/breaker.h"
#include "router/core.h"

enum { PEERS = 8, HEARD = 64, QUEUE_MAX = 4 };

/* A client, or a worker of the model "m0", "m1" ... by its place. */
typedef struct peer {
    core_link *link;
    uint32_t count;           /* of what it was sent: Submits or Errors */
    uint32_t requests[HEARD]; /* of its Submits: the numbers of the requests */
    uint32_t streams[HEARD];  /* of its Submits or Errors */
    status code;              /* of the last Error */
    uint32_t retry_after_ms;
    char text[ERROR_TEXT_SIZE];
} peer;

static core *router;
static uint64_t now_ms;
static peer clients[PEERS], workers[PEERS];

static void io_send(void *ctx, void *handle, const envelope *e)
{
    (void)ctx;
    peer *p = handle;
    if (e->kind == ENVELOPE_SUBMIT) {
        assert_true(p->count < HEARD);
        p->requests[p->count] = e->submit.request_id.bytes[0];
        p->streams[p->count++] = e->submit.stream;
    } else if (e->kind == ENVELOPE_ERROR) {
        assert_true(p->count < HEARD);
        p->streams[p->count++] = e->error.stream;
        p->code = e->error.code;
        p->retry_after_ms = e->error.retry_after_ms;
        snprintf(p->text, sizeof p->text, "%.*s", (int)e->error.text.size, e->error.text.data);
    }
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

static int set_up(void **state)
{
    (void)state;
    log_init("test", LOG_ERROR);
    memset(clients, 0, sizeof clients);
    memset(workers, 0, sizeof workers);
    now_ms = 1000000;
    core_options o = core_options_default();
    o.seed = 1;
    o.queue_requests_max = QUEUE_MAX;
    const core_io io = {.send = io_send, .is_idle = io_is_idle, .close = io_close};
    router = core_create(&o, &io, now_ms);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    core_verify(router);
    core_destroy(router);
    return 0;
}

static void wait_ms(uint64_t ms)
{
    for (const uint64_t end_ms = now_ms + ms; now_ms < end_ms;) {
        now_ms = end_ms - now_ms > LIMIT_TICK_MS ? now_ms + LIMIT_TICK_MS : end_ms;
        core_tick(router, now_ms);
    }
}

static void say(peer *p, const envelope *e)
{
    core_envelope(router, p->link, e, NULL, now_ms);
    core_verify(router);
}

static void connect_peer(peer *p, role what, uint32_t tenant)
{
    static uint8_t processes;
    const id128 instance = {{(uint8_t)what, ++processes}};
    const core_tenant whose = {.number = tenant, .owner = tenant};
    *p = (peer){.link = core_link_up(router, p, what, &whose, &instance, "peer", now_ms)};
}

/* Worker w of model "m<w>", with room for two requests. */
static void start_worker(uint32_t w)
{
    char name[8], id[8];
    snprintf(name, sizeof name, "m%u", w);
    snprintf(id, sizeof id, "w%u", w);
    connect_peer(&workers[w], ROLE_WORKER, 0);
    const msg_model m = {.name = text_of(name), .revision = text_of("r"), .context_max = 100000};
    const envelope e = {.kind = ENVELOPE_REGISTER,
                        .reg = {.worker_id = text_of(id),
                                .device = text_of("hand"),
                                .models = &m,
                                .model_count = 1,
                                .slots = 1,
                                .kv_blocks = 100,
                                .kv_block_tokens = 16}};
    say(&workers[w], &e);
}

static void start_client(uint32_t tenant)
{
    connect_peer(&clients[tenant], ROLE_CLIENT, tenant);
}

static void submit(uint32_t tenant, uint8_t n, uint32_t model, int32_t priority)
{
    static const uint32_t prompt[100];
    char name[8];
    snprintf(name, sizeof name, "m%u", model);
    const envelope e = {.kind = ENVELOPE_SUBMIT,
                        .submit = {.stream = n,
                                   .request_id = {{n}},
                                   .model = text_of(name),
                                   .ids = prompt,
                                   .id_count = 100,
                                   .max_tokens = 100,
                                   .priority = priority,
                                   .logprobs = LOGPROBS_NONE}};
    say(&clients[tenant], &e);
}

/* The worker's request that it was sent as its i-th ends. */
static void finish(uint32_t w, uint32_t i, finish_reason reason, status code)
{
    const envelope e = {.kind = ENVELOPE_FINISH,
                        .finish = {.stream = workers[w].streams[i],
                                   .reason = reason,
                                   .prompt_tokens = 100,
                                   .error = {.code = code}}};
    say(&workers[w], &e);
}

static uint32_t last_request(uint32_t w)
{
    assert_true(workers[w].count > 0);
    return workers[w].requests[workers[w].count - 1];
}

/* -- the queue ------------------------------------------------------------------------------ */

static void test_interactive_requests_overtake_batch(void **state)
{
    (void)state;
    start_worker(0);
    start_client(0);
    for (uint8_t n = 1; n <= 4; n++)
        submit(0, n, 0, -1);
    submit(0, 5, 0, 1);
    assert_int_equal(workers[0].count, 2);
    finish(0, 0, FINISH_STOP, ST_OK);
    assert_int_equal(last_request(0), 5);
    finish(0, 1, FINISH_STOP, ST_OK);
    assert_int_equal(last_request(0), 3);
}

static void test_a_full_model_holds_no_other_up(void **state)
{
    (void)state;
    start_worker(0);
    start_worker(1);
    start_client(0);
    for (uint8_t n = 1; n <= 5; n++)
        submit(0, n, 0, 1);
    submit(0, 6, 1, -1);
    assert_int_equal(workers[0].count, 2);
    assert_int_equal(last_request(1), 6);
}

static void test_a_full_queue_gives_up_its_youngest_batch_request(void **state)
{
    (void)state;
    start_worker(0);
    start_client(0);
    start_client(1);
    for (uint8_t n = 1; n <= 6; n++)
        submit(0, n, 0, -1);
    submit(0, 7, 0, -1);
    assert_int_equal(clients[0].streams[0], 7);
    assert_non_null(strstr(clients[0].text, "4 requests wait, the limit is 4"));
    submit(1, 8, 0, 1);
    assert_int_equal(clients[1].count, 0);
    assert_int_equal(clients[0].count, 2);
    assert_int_equal(clients[0].streams[1], 6);
    assert_int_equal(clients[0].code, ST_RESOURCE_EXHAUSTED);
    assert_true(clients[0].retry_after_ms >= 100);
    finish(0, 0, FINISH_STOP, ST_OK);
    assert_int_equal(last_request(0), 8);
}

static void test_requests_of_a_lost_worker_go_first(void **state)
{
    (void)state;
    start_worker(0);
    start_client(0);
    for (uint8_t n = 1; n <= 4; n++)
        submit(0, n, 0, 0);
    core_link_down(router, workers[0].link, false, now_ms);
    start_worker(0); /* a new process, which holds nothing */
    assert_int_equal(workers[0].count, 2);
    assert_int_equal(workers[0].requests[0] + workers[0].requests[1], 1 + 2);
    assert_int_equal(clients[0].count, 0);
}

/* -- tenants -------------------------------------------------------------------------------- */

static void limit(uint32_t tenant, tenant_limits limits)
{
    limits.weight = LIMIT_TENANT_WEIGHT_DEFAULT;
    limits.class_max = 1;
    core_set_tenant(router, tenant, &limits, now_ms);
    core_tenants_changed(router);
}

static void test_a_tenant_runs_no_more_than_it_may(void **state)
{
    (void)state;
    start_worker(0);
    start_client(1);
    start_client(2);
    limit(1, (tenant_limits){.concurrent = 1});
    submit(1, 1, 0, 0);
    submit(1, 2, 0, 0);
    submit(1, 3, 0, 0);
    assert_int_equal(workers[0].count, 1); /* though there is room */
    submit(2, 4, 0, -1);
    assert_int_equal(last_request(0), 4);
    finish(0, 0, FINISH_STOP, ST_OK);
    assert_int_equal(last_request(0), 2);
    finish(0, 1, FINISH_STOP, ST_OK);
    assert_int_equal(workers[0].count, 3);
    limit(1, (tenant_limits){0});
    assert_int_equal(last_request(0), 3);
}

static void test_a_tenants_rates_are_refusals_with_a_time(void **state)
{
    (void)state;
    start_worker(0);
    start_client(1);
    limit(1, (tenant_limits){.requests_per_minute = 1});
    submit(1, 1, 0, 0);
    submit(1, 2, 0, 0);
    assert_int_equal(clients[1].code, ST_RESOURCE_EXHAUSTED);
    assert_int_equal(clients[1].retry_after_ms, 60000);
    assert_non_null(strstr(clients[1].text, "limit is 1 requests per minute"));
    wait_ms(60000);
    submit(1, 3, 0, 0);
    assert_int_equal(clients[1].count, 1);
}

static void test_tokens_that_were_not_made_are_given_back(void **state)
{
    (void)state;
    start_worker(0);
    start_client(1);
    limit(1, (tenant_limits){.tokens_per_minute = 350});
    submit(1, 1, 0, 0); /* counts 200, and took 100 */
    finish(0, 0, FINISH_STOP, ST_OK);
    submit(1, 2, 0, 0);
    assert_int_equal(workers[0].count, 2);
    submit(1, 3, 0, 0);
    assert_non_null(strstr(clients[1].text, "350 tokens per minute"));
}

/* -- the breaker ---------------------------------------------------------------------------- */

static void fail_requests(uint32_t count, uint8_t first, status code)
{
    for (uint8_t i = 0; i < count; i++) {
        submit(0, (uint8_t)(first + i), 0, 0);
        finish(0, workers[0].count - 1, FINISH_FAILED, code);
    }
}

static void test_a_worker_that_fails_is_left_alone_and_probed(void **state)
{
    (void)state;
    start_worker(0);
    start_client(0);
    fail_requests(3, 1, ST_INTERNAL);
    for (uint8_t n = 11; n <= 13; n++)
        submit(0, n, 0, 0);
    assert_int_equal(workers[0].count, 3);
    wait_ms(BREAKER_OPEN_MS_FIRST - 1);
    assert_int_equal(workers[0].count, 3);
    wait_ms(LIMIT_TICK_MS);
    assert_int_equal(workers[0].count, 4); /* exactly one, though there is room for two */
    wait_ms(10000);
    assert_int_equal(workers[0].count, 4);
    finish(0, 3, FINISH_STOP, ST_OK);
    assert_int_equal(workers[0].count, 6);
}

/* A long answer, or one whose reader is slow, must not keep a worker that is well on trial. */
static void test_a_probe_that_gets_on_is_enough(void **state)
{
    (void)state;
    start_worker(0);
    start_client(0);
    fail_requests(3, 1, ST_INTERNAL);
    submit(0, 11, 0, 0);
    submit(0, 12, 0, 0);
    wait_ms(BREAKER_OPEN_MS_FIRST + LIMIT_TICK_MS);
    assert_int_equal(workers[0].count, 4);
    uint32_t ids[LIMIT_WINDOW_TOKENS_MIN] = {0}, lengths[LIMIT_WINDOW_TOKENS_MIN] = {0};
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t first = i * (LIMIT_WINDOW_TOKENS_MIN - 1);
        const uint32_t count = i == 0 ? LIMIT_WINDOW_TOKENS_MIN - 1 : 1;
        const envelope e = {.kind = ENVELOPE_TOKENS,
                            .tokens = {.stream = &workers[0].streams[3],
                                       .first_index = &first,
                                       .count = &count,
                                       .groups = 1,
                                       .token = ids,
                                       .text_len = lengths,
                                       .tokens = count}};
        say(&workers[0], &e);
        wait_ms(LIMIT_TICK_MS);
        assert_int_equal(workers[0].count, i == 0 ? 4 : 5);
    }
}

static void test_bad_requests_and_busy_workers_open_no_breaker(void **state)
{
    (void)state;
    start_worker(0);
    start_client(0);
    fail_requests(10, 1, ST_INVALID_ARGUMENT);
    fail_requests(10, 11, ST_RESOURCE_EXHAUSTED);
    submit(0, 31, 0, 0);
    assert_int_equal(workers[0].count, 21);
}

static void test_a_worker_that_dies_with_its_streams_is_probed_when_it_is_back(void **state)
{
    (void)state;
    start_worker(0);
    start_client(0);
    for (uint8_t n = 1; n <= 2; n++)
        submit(0, n, 0, 0);
    /* Each death is one fault, though two requests die of it. */
    const int trip = BREAKER_TRIP / BREAKER_FAULT;
    for (int death = 1; death <= trip; death++) {
        core_link_down(router, workers[0].link, false, now_ms);
        start_worker(0);
        assert_int_equal(workers[0].count, death < trip ? 2 : 0);
    }
    wait_ms(BREAKER_OPEN_MS_FIRST + LIMIT_TICK_MS);
    assert_int_equal(workers[0].count, 1);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_interactive_requests_overtake_batch),
        CASE(test_a_full_model_holds_no_other_up),
        CASE(test_a_full_queue_gives_up_its_youngest_batch_request),
        CASE(test_requests_of_a_lost_worker_go_first),
        CASE(test_a_tenant_runs_no_more_than_it_may),
        CASE(test_a_tenants_rates_are_refusals_with_a_time),
        CASE(test_tokens_that_were_not_made_are_given_back),
        CASE(test_a_worker_that_fails_is_left_alone_and_probed),
        CASE(test_a_probe_that_gets_on_is_enough),
        CASE(test_bad_requests_and_busy_workers_open_no_breaker),
        CASE(test_a_worker_that_dies_with_its_streams_is_probed_when_it_is_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
