/* Goal: what goes wrong at an unlucky moment, or on purpose, ends in an answer and not in the
 * router's end.
 * Method: one client and one worker spoken for by hand; every envelope that the core sends is
 * encoded, so that breaking a rule of the wire is seen. */
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
#include "router/core.h"

/* What one peer has heard. */
typedef struct peer {
    core_link *link;
    bool busy;
    uint32_t submits, accepted, tokens, finishes, errors, acks, cancels;
    uint32_t stream;      /* of the last Submit */
    uint32_t next_wanted; /* of the last Resume */
    uint32_t adopted;     /* streams of the last Adopt */
    finish_reason finish; /* of the last Finish or Cancel */
    bool forget;          /* of the last Cancel */
    uint64_t t;           /* of the last Cancel */
    status code;          /* of the last Error */
    uint32_t retry_after_ms;
    char text[ERROR_TEXT_SIZE];
} peer;

typedef struct bench {
    core *core;
    uint64_t now_ms;
    peer client, worker;
} bench;

static bench b;

static void io_send(void *ctx, void *handle, const envelope *e)
{
    (void)ctx;
    peer *p = handle;
    arena scratch = {0};
    buffer frame = {0};
    assert_int_equal(envelope_encode(e, &scratch, &frame), ST_OK);
    buffer_free(&frame);
    arena_free(&scratch);
    switch (e->kind) {
    case ENVELOPE_SUBMIT:
        p->submits++;
        p->stream = e->submit.stream;
        break;
    case ENVELOPE_ACCEPTED:
        p->accepted++;
        break;
    case ENVELOPE_TOKENS:
        p->tokens += (uint32_t)e->tokens.tokens;
        break;
    case ENVELOPE_FINISH:
        p->finishes++;
        p->finish = e->finish.reason;
        break;
    case ENVELOPE_ERROR:
        p->errors++;
        p->code = e->error.code;
        p->retry_after_ms = e->error.retry_after_ms;
        snprintf(p->text, sizeof p->text, "%.*s", (int)e->error.text.size, e->error.text.data);
        break;
    case ENVELOPE_ACK:
        p->acks += (uint32_t)e->ack.count;
        break;
    case ENVELOPE_CANCEL:
        p->cancels++;
        p->finish = e->cancel.finish;
        p->forget = e->cancel.forget;
        p->t = e->cancel.t;
        break;
    case ENVELOPE_RESUME:
        p->next_wanted = e->resume.next_wanted[0];
        break;
    case ENVELOPE_ADOPT:
        p->adopted = (uint32_t)e->adopt.count;
        if (e->adopt.count > 0) p->stream = e->adopt.stream[0];
        break;
    default:
        break;
    }
}

static bool io_is_idle(void *ctx, void *handle)
{
    (void)ctx;
    return !((peer *)handle)->busy;
}

static void io_close(void *ctx, void *handle, const char *reason)
{
    (void)ctx;
    (void)handle;
    (void)reason;
}

enum { STALL_MS = 5000, CLIENT_GRACE_MS = 20000 };

static int set_up(void **state)
{
    (void)state;
    log_init("test", LOG_ERROR);
    b = (bench){.now_ms = 1000000};
    core_options o = core_options_default();
    o.stall_ms = STALL_MS;
    o.client_grace_ms = CLIENT_GRACE_MS;
    o.seed = 1;
    const core_io io = {.send = io_send, .is_idle = io_is_idle, .close = io_close, .ctx = &b};
    b.core = core_create(&o, &io, b.now_ms);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    core_verify(b.core);
    core_destroy(b.core);
    return 0;
}

static void connect_peer(peer *p, role what)
{
    static uint8_t processes;
    const id128 instance = {{(uint8_t)what, ++processes}};
    const core_tenant nobody = {0};
    *p = (peer){.link = core_link_up(b.core, p, what, &nobody, &instance, "peer", b.now_ms)};
}

static void cut(peer *p)
{
    core_link_down(b.core, p->link, false, b.now_ms);
    p->link = NULL;
}

static void say(peer *p, const envelope *e)
{
    core_envelope(b.core, p->link, e, NULL, b.now_ms);
    core_verify(b.core);
}

static void wait_ms(uint64_t ms)
{
    while (ms > 0) { /* a longer pause would be the router's own */
        uint64_t part_ms = ms < LIMIT_STANDSTILL_MS ? ms : LIMIT_STANDSTILL_MS;
        b.now_ms += part_ms;
        ms -= part_ms;
        core_tick(b.core, b.now_ms);
    }
    core_flush(b.core);
    core_verify(b.core);
}

static void register_model(const char *name, uint32_t slots, const msg_live *live,
                           size_t live_count)
{
    connect_peer(&b.worker, ROLE_WORKER);
    const msg_model m = {.name = text_of(name), .revision = text_of("r"), .context_max = 1000};
    const envelope e = {.kind = ENVELOPE_REGISTER,
                        .reg = {.worker_id = text_of("w"),
                                .device = text_of("hand"),
                                .models = &m,
                                .model_count = 1,
                                .slots = slots,
                                .kv_blocks = 100,
                                .kv_block_tokens = 16,
                                .live = live,
                                .live_count = live_count}};
    say(&b.worker, &e);
}

static id128 request_id(uint8_t n)
{
    return (id128){{n, 1, 2, 3}};
}

static void submit(uint8_t n, const char *model, uint32_t deadline_ms)
{
    static const uint32_t prompt[] = {1, 2, 3};
    const envelope e = {.kind = ENVELOPE_SUBMIT,
                        .submit = {.stream = n,
                                   .request_id = request_id(n),
                                   .model = text_of(model),
                                   .ids = prompt,
                                   .id_count = 3,
                                   .max_tokens = 100,
                                   .logprobs = LOGPROBS_NONE,
                                   .deadline_ms = deadline_ms}};
    say(&b.client, &e);
}

static void resume(uint8_t n, uint32_t next_wanted)
{
    const id128 id = request_id(n);
    const uint32_t stream = n;
    const envelope e = {
        .kind = ENVELOPE_RESUME,
        .resume = {.request_id = &id, .stream = &stream, .next_wanted = &next_wanted, .count = 1}};
    say(&b.client, &e);
}

static void hear_tokens(void *ctx, const envelope *e)
{
    (void)ctx;
    say(&b.worker, e);
}

static void make_tokens(uint32_t stream, uint32_t first, uint32_t count)
{
    token_columns c = {0};
    for (uint32_t i = first; i < first + count; i++)
        token_columns_add(&c, stream, i, i, "x", 1, NAN, 0, NULL, NULL);
    token_columns_flush(&c, hear_tokens, NULL);
    token_columns_free(&c);
    core_flush(b.core);
}

static void finish(uint32_t stream, uint32_t total)
{
    const envelope e = {.kind = ENVELOPE_FINISH,
                        .finish = {.stream = stream, .total = total, .reason = FINISH_STOP}};
    say(&b.worker, &e);
}

static void ack(uint32_t stream, uint32_t next_wanted)
{
    const envelope e = {.kind = ENVELOPE_ACK,
                        .ack = {.stream = &stream, .next_wanted = &next_wanted, .count = 1}};
    say(&b.client, &e);
}

static void test_a_deadline_passes_while_queued_and_the_client_is_away(void **state)
{
    (void)state;
    register_model("m", 1, NULL, 0);
    connect_peer(&b.client, ROLE_CLIENT);
    for (uint8_t n = 1; n <= 10; n++)
        submit(n, "m", 1000);
    assert_true(b.worker.submits < 10);
    cut(&b.client);
    wait_ms(2000);
    connect_peer(&b.client, ROLE_CLIENT);
    resume(10, 0);
    assert_int_equal(b.client.accepted, 1);
    assert_int_equal(b.client.errors, 1);
    assert_int_equal(b.client.code, ST_DEADLINE_EXCEEDED);
    wait_ms(CLIENT_GRACE_MS);
}

static void test_a_slow_first_token_is_not_a_slow_client(void **state)
{
    (void)state;
    register_model("m", 4, NULL, 0);
    connect_peer(&b.client, ROLE_CLIENT);
    submit(1, "m", 0);
    for (int i = 0; i < 20; i++)
        wait_ms(STALL_MS / 10);
    make_tokens(b.worker.stream, 0, 1);
    assert_int_equal(b.client.tokens, 1);
    wait_ms(50); /* its acknowledgement is on the way */
    assert_int_equal(b.worker.cancels, 0);
    ack(1, 1);
    for (int i = 0; i < 20; i++)
        wait_ms(STALL_MS / 10);
    make_tokens(b.worker.stream, 1, 1);
    wait_ms(STALL_MS - 1);
    assert_int_equal(b.worker.cancels, 0);
    wait_ms(1); /* now it is one */
    assert_int_equal(b.worker.cancels, 1);
    assert_int_equal(b.worker.finish, FINISH_SLOW_CONSUMER);
}

static void test_a_flood_of_acknowledgements_reaches_the_worker_in_measure(void **state)
{
    (void)state;
    register_model("m", 4, NULL, 0);
    connect_peer(&b.client, ROLE_CLIENT);
    submit(1, "m", 0);
    make_tokens(b.worker.stream, 0, 5);
    finish(b.worker.stream, 5);
    static uint32_t streams[LIMIT_STREAMS_PER_LINK], wanted[LIMIT_STREAMS_PER_LINK];
    for (uint32_t i = 0; i < LIMIT_STREAMS_PER_LINK; i++)
        streams[i] = 1;
    const envelope e = {
        .kind = ENVELOPE_ACK,
        .ack = {.stream = streams, .next_wanted = wanted, .count = LIMIT_STREAMS_PER_LINK}};
    b.worker.busy = true;
    for (int i = 0; i < 4; i++)
        say(&b.client, &e);
    b.worker.busy = false;
    core_flush(b.core);
}

static void test_a_worker_that_names_a_stream_twice(void **state)
{
    (void)state;
    const msg_live live[] = {{.request_id = request_id(1), .next = 3, .model = text_of("m")},
                             {.request_id = request_id(1), .next = 3, .model = text_of("m")}};
    register_model("m", 4, live, 2);
    connect_peer(&b.client, ROLE_CLIENT);
    resume(1, 0);
    make_tokens(b.worker.stream, 0, 3);
    finish(b.worker.stream, 3);
    ack(1, 3);
    make_tokens(b.worker.stream, 0, 3); /* what is over must not be found again */
    for (uint32_t slot = 0; slot < 100; slot++)
        make_tokens((1u << 12) + slot, 3, 1);
}

static void test_a_gap_does_not_drop_what_the_client_has_not_acknowledged(void **state)
{
    (void)state;
    register_model("m", 4, NULL, 0);
    connect_peer(&b.client, ROLE_CLIENT);
    submit(1, "m", 0);
    make_tokens(b.worker.stream, 0, 10);
    ack(1, 4);
    b.worker.next_wanted = UINT32_MAX;
    make_tokens(b.worker.stream, 20, 1);
    assert_int_equal(b.worker.next_wanted, 4); /* a Resume acknowledges what lies below it */
}

static void test_the_empty_model_name_is_settled_at_admission(void **state)
{
    (void)state;
    register_model("m", 1, NULL, 0);
    connect_peer(&b.client, ROLE_CLIENT);
    for (uint8_t n = 1; n <= 5; n++)
        submit(n, "", 0);
    uint32_t placed = b.worker.submits;
    assert_true(placed < 5);
    /* Another model comes: those who wait still mean the first. */
    peer other;
    connect_peer(&other, ROLE_WORKER);
    const msg_model m = {.name = text_of("n"), .revision = text_of("r"), .context_max = 1000};
    const envelope e = {.kind = ENVELOPE_REGISTER,
                        .reg = {.worker_id = text_of("x"),
                                .device = text_of("hand"),
                                .models = &m,
                                .model_count = 1,
                                .slots = 8,
                                .kv_block_tokens = 16}};
    say(&other, &e);
    assert_int_equal(other.submits, 0);
    make_tokens(b.worker.stream, 0, 1);
    finish(b.worker.stream, 1);
    assert_int_equal(b.worker.submits, placed + 1);
    assert_int_equal(other.submits, 0);
    core_link_down(b.core, other.link, false, b.now_ms);
}

/* The reason stands in the client's Finish: it must survive a link that takes the Cancel with it.
 */
static void test_a_repeated_cancel_keeps_its_reason(void **state)
{
    (void)state;
    register_model("m", 4, NULL, 0);
    connect_peer(&b.client, ROLE_CLIENT);
    submit(1, "m", 0);
    make_tokens(b.worker.stream, 0, 3);
    wait_ms(STALL_MS);
    assert_int_equal(b.worker.finish, FINISH_SLOW_CONSUMER);
    cut(&b.worker);
    const msg_live stalled = {
        .request_id = request_id(1), .next = 3, .yours = true, .model = text_of("m")};
    register_model("m", 4, &stalled, 1);
    assert_int_equal(b.worker.cancels, 1);
    assert_int_equal(b.worker.finish, FINISH_SLOW_CONSUMER);

    submit(2, "m", 1000);
    make_tokens(b.worker.stream, 0, 3);
    wait_ms(1000);
    assert_int_equal(b.worker.finish, FINISH_DEADLINE);
    cut(&b.worker);
    const msg_live late = {
        .request_id = request_id(2), .next = 3, .yours = true, .model = text_of("m")};
    register_model("m", 4, &late, 1);
    assert_int_equal(b.worker.cancels, 1);
    assert_int_equal(b.worker.finish, FINISH_DEADLINE);
}

/* A worker with a request of a former router: the others are on their way, too. */
static void test_a_restarted_router_waits_for_the_workers_of_its_predecessor(void **state)
{
    (void)state;
    const msg_live orphan = {.request_id = request_id(9), .next = 3, .model = text_of("m")};
    register_model("m", 4, &orphan, 1);
    connect_peer(&b.client, ROLE_CLIENT);
    submit(1, "n", 0);
    assert_int_equal(b.client.code, ST_UNAVAILABLE);
    assert_in_range(b.client.retry_after_ms, 1, 10000);
    submit(2, "m", 0); /* what is back works */
    assert_int_equal(b.client.accepted, 1);
    wait_ms(5 * LIMIT_RESUME_UNKNOWN_MS);
    submit(3, "n", 0);
    assert_int_equal(b.client.code, ST_NOT_FOUND);
    assert_non_null(strstr(b.client.text, "'n'"));
    assert_non_null(strstr(b.client.text, "models: m"));
}

static void test_a_client_may_be_the_one_who_tells_of_the_predecessor(void **state)
{
    (void)state;
    register_model("m", 4, NULL, 0);
    connect_peer(&b.client, ROLE_CLIENT);
    submit(1, "n", 0);
    assert_int_equal(b.client.code, ST_NOT_FOUND); /* nothing says that there was one */
    resume(9, 5);
    submit(1, "n", 0);
    assert_int_equal(b.client.code, ST_UNAVAILABLE);
    wait_ms(5 * LIMIT_RESUME_UNKNOWN_MS);
    resume(8, 5); /* its worker never came: no reason to wait again */
    submit(1, "n", 0);
    assert_int_equal(b.client.code, ST_NOT_FOUND);
}

/* A tick looks only at requests whose time has come, and must find all of those. */
static void test_deadlines_and_graces_of_many_requests_end_each_in_its_time(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    register_model("m", COUNT, NULL, 0);
    connect_peer(&b.client, ROLE_CLIENT);
    for (uint8_t n = 1; n <= (uint8_t)COUNT; n++) {
        submit(n, "m", 100 + n * 100u); /* due 101 ms after the one before */
        wait_ms(1);
    }
    for (uint32_t n = 0; n <= COUNT / 2; n++) {
        assert_int_equal(b.worker.cancels, n);
        wait_ms(101);
    }
    submit(COUNT + 1, "m", 0);
    cut(&b.client);
    wait_ms(CLIENT_GRACE_MS - 1);
    assert_true(core_request_count(b.core) > 0);
    wait_ms(1);
    assert_int_equal(core_request_count(b.core), 0);
}

/* -- until it is free ------------------------------------------------------------------------ */

typedef struct freed {
    uint64_t count, sum_us;
} freed;

static freed freed_so_far(void)
{
    const histogram *h = &core_read_metrics(b.core)->cancel;
    freed f = {.sum_us = h->sum};
    for (uint32_t i = 0; i <= HISTOGRAM_BOUNDS_MAX; i++)
        f.count += h->cells[i];
    return f;
}

static void assert_freed(uint64_t count, uint64_t sum_ms)
{
    assert_int_equal(freed_so_far().count, count);
    assert_int_equal(freed_so_far().sum_us, sum_ms * 1000);
}

static void say_freed(uint32_t stream, uint64_t t)
{
    const envelope e = {.kind = ENVELOPE_CANCEL, .cancel = {.stream = &stream, .count = 1, .t = t}};
    say(&b.worker, &e);
}

static void close_client(void)
{
    core_link_down(b.core, b.client.link, true, b.now_ms);
    b.client.link = NULL;
}

static void test_a_closed_client_is_timed_until_the_worker_is_free(void **state)
{
    (void)state;
    enum { ASKED = 10 };
    register_model("m", 1, NULL, 0);
    connect_peer(&b.client, ROLE_CLIENT);
    for (uint8_t n = 1; n <= ASKED; n++)
        submit(n, "m", 0);
    uint32_t placed = b.worker.submits;
    assert_in_range(placed, 1, ASKED - 1);
    close_client();
    assert_freed(ASKED - placed, 0); /* those that waited held nothing */
    assert_int_equal(b.worker.cancels, placed);
    assert_true(b.worker.forget && b.worker.t == b.now_ms);
    const uint64_t t = b.worker.t;
    wait_ms(30);
    for (uint32_t i = 0; i < placed; i++)
        say_freed(b.worker.stream, t);
    assert_freed(ASKED, 30 * placed);
}

static void test_a_client_that_is_away_is_timed_from_the_end_of_its_grace(void **state)
{
    (void)state;
    register_model("m", 4, NULL, 0);
    connect_peer(&b.client, ROLE_CLIENT);
    submit(1, "m", 0);
    make_tokens(b.worker.stream, 0, 3);
    cut(&b.client);
    wait_ms(CLIENT_GRACE_MS - 1);
    assert_int_equal(b.worker.cancels, 0);
    wait_ms(1);
    assert_true(b.worker.cancels == 1 && b.worker.forget && b.worker.t == b.now_ms);
    wait_ms(7);
    say_freed(b.worker.stream, b.worker.t);
    assert_freed(1, 7);
}

/* A Cancel, and then its client goes: it is one end, from the first word on. */
static void test_a_cancel_is_timed_from_its_first_word(void **state)
{
    (void)state;
    register_model("m", 4, NULL, 0);
    connect_peer(&b.client, ROLE_CLIENT);
    submit(1, "m", 0);
    make_tokens(b.worker.stream, 0, 5);
    const uint32_t stream = 1;
    const envelope cancel = {.kind = ENVELOPE_CANCEL, .cancel = {.stream = &stream, .count = 1}};
    say(&b.client, &cancel);
    const uint64_t t = b.worker.t;
    assert_true(b.worker.cancels == 1 && !b.worker.forget && t == b.now_ms);
    wait_ms(5);
    ack(1, 5); /* does not make it younger */
    wait_ms(5);
    close_client();
    assert_true(b.worker.cancels == 2 && b.worker.forget && b.worker.t == t);
    say_freed(b.worker.stream, t);
    assert_freed(1, 10);
}

/* An answer that ended well, or goes on elsewhere, is none; and a worker's clock does not count. */
static void test_only_what_was_ended_early_is_timed(void **state)
{
    (void)state;
    register_model("m", 4, NULL, 0);
    connect_peer(&b.client, ROLE_CLIENT);
    submit(1, "m", 0);
    make_tokens(b.worker.stream, 0, 3);
    finish(b.worker.stream, 3);
    ack(1, 3);
    submit(2, "m", 0);
    say_freed(b.worker.stream, 0);
    say_freed(b.worker.stream, b.now_ms + 1);
    say_freed(b.worker.stream, UINT64_MAX);
    assert_freed(0, 0);
    const envelope drain = {.kind = ENVELOPE_DRAIN, .drain = {.deadline_ms = 10}};
    say(&b.worker, &drain);
    wait_ms(10); /* it goes elsewhere */
    assert_true(b.worker.cancels == 1 && b.worker.forget && b.worker.t == 0);
    close_client(); /* and waits for a worker */
    assert_freed(1, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_deadline_passes_while_queued_and_the_client_is_away,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_slow_first_token_is_not_a_slow_client, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_repeated_cancel_keeps_its_reason, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_closed_client_is_timed_until_the_worker_is_free,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_a_client_that_is_away_is_timed_from_the_end_of_its_grace, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_cancel_is_timed_from_its_first_word, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_only_what_was_ended_early_is_timed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_a_restarted_router_waits_for_the_workers_of_its_predecessor, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_client_may_be_the_one_who_tells_of_the_predecessor,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_deadlines_and_graces_of_many_requests_end_each_in_its_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_a_gap_does_not_drop_what_the_client_has_not_acknowledged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_empty_model_name_is_settled_at_admission, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_worker_that_names_a_stream_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_a_flood_of_acknowledgements_reaches_the_worker_in_measure, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
