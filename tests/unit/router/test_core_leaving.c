/* Goal: whoever leaves and says so is not waited for, and the word that somebody shall leave is not
 * lost.
 * Method: the core with clients and workers spoken for by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/log.h"
#include "router/core.h"

typedef struct peer {
    core_link *link;
    uint32_t submits, cancels, drains, drain_ms;
    uint32_t stream; /* of the last Submit */
    status code;     /* of the last Error */
} peer;

static struct {
    core *core;
    uint64_t now_ms;
    peer client, other, workers[2];
} b;

static void io_send(void *ctx, void *handle, const envelope *e)
{
    (void)ctx;
    peer *p = handle;
    assert_non_null(p->link); /* nothing is said to who is gone */
    if (e->kind == ENVELOPE_SUBMIT) {
        p->submits++;
        p->stream = e->submit.stream;
    } else if (e->kind == ENVELOPE_DRAIN) {
        p->drains++;
        p->drain_ms = e->drain.deadline_ms;
    } else if (e->kind == ENVELOPE_CANCEL) {
        p->cancels += (uint32_t)e->cancel.count;
    } else if (e->kind == ENVELOPE_ERROR) {
        p->code = e->error.code;
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
    b.now_ms = 1000000;
    core_options o = core_options_default();
    o.seed = 1;
    const core_io io = {.send = io_send, .is_idle = io_is_idle, .close = io_close};
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

static void connect_peer(peer *p, role what, uint8_t process)
{
    const id128 instance = {{(uint8_t)what, process}};
    const core_tenant nobody = {0};
    *p = (peer){0};
    p->link = core_link_up(b.core, p, what, &nobody, &instance, "peer", b.now_ms);
}

static void leave(peer *p, bool goodbye)
{
    core_link *l = p->link;
    p->link = NULL;
    core_link_down(b.core, l, goodbye, b.now_ms);
    core_verify(b.core);
}

static void say(peer *p, const envelope *e)
{
    core_envelope(b.core, p->link, e, NULL, b.now_ms);
    core_verify(b.core);
}

/* Processes 0 and 1 are "w0", 2 and 3 "w1". */
static void start_worker(peer *p, uint8_t process)
{
    connect_peer(p, ROLE_WORKER, process);
    const msg_model m = {.name = text_of("m"), .revision = text_of("r"), .context_max = 1000};
    const envelope e = {.kind = ENVELOPE_REGISTER,
                        .reg = {.worker_id = text_of(process < 2 ? "w0" : "w1"),
                                .device = text_of("hand"),
                                .models = &m,
                                .model_count = 1,
                                .slots = 4,
                                .kv_blocks = 100,
                                .kv_block_tokens = 16}};
    say(p, &e);
}

static void submit(peer *client, uint8_t n)
{
    static const uint32_t prompt[] = {1, 2, 3};
    const envelope e = {.kind = ENVELOPE_SUBMIT,
                        .submit = {.stream = n,
                                   .request_id = {{n, 1, 2, 3}},
                                   .model = text_of("m"),
                                   .ids = prompt,
                                   .id_count = 3,
                                   .max_tokens = 100,
                                   .logprobs = LOGPROBS_NONE}};
    say(client, &e);
}

static void resume(peer *client, uint8_t n)
{
    const id128 id = {{n, 1, 2, 3}};
    const uint32_t stream = n, next_wanted = 0;
    const envelope e = {
        .kind = ENVELOPE_RESUME,
        .resume = {.request_id = &id, .stream = &stream, .next_wanted = &next_wanted, .count = 1}};
    say(client, &e);
}

static void test_a_goodbye_drops_what_an_earlier_link_had(void **state)
{
    (void)state;
    start_worker(&b.workers[0], 0);
    connect_peer(&b.client, ROLE_CLIENT, 1);
    connect_peer(&b.other, ROLE_CLIENT, 2);
    submit(&b.client, 1);
    submit(&b.client, 2);
    submit(&b.other, 3);
    leave(&b.client, false);
    leave(&b.other, false);
    connect_peer(&b.client, ROLE_CLIENT, 1);
    resume(&b.client, 1); /* it has no use for the other one */
    assert_int_equal(core_request_count(b.core), 3);
    leave(&b.client, true);
    assert_int_equal(core_request_count(b.core), 1); /* somebody else's */
    assert_int_equal(b.workers[0].cancels, 2);
}

static void test_a_link_that_is_cut_drops_nothing(void **state)
{
    (void)state;
    start_worker(&b.workers[0], 0);
    connect_peer(&b.client, ROLE_CLIENT, 1);
    submit(&b.client, 1);
    leave(&b.client, false);
    connect_peer(&b.client, ROLE_CLIENT, 1);
    leave(&b.client, false);
    assert_int_equal(core_request_count(b.core), 1);
}

static void test_what_was_on_its_way_to_a_worker_that_left_goes_elsewhere_at_once(void **state)
{
    (void)state;
    start_worker(&b.workers[0], 0);
    connect_peer(&b.client, ROLE_CLIENT, 1);
    submit(&b.client, 1);
    assert_int_equal(b.workers[0].submits, 1);
    start_worker(&b.workers[1], 2);
    const envelope drain = {.kind = ENVELOPE_DRAIN};
    say(&b.workers[0], &drain);
    assert_int_equal(b.workers[1].submits, 0);
    leave(&b.workers[0], true);
    assert_int_equal(b.workers[1].submits, 1);
}

static void test_a_worker_whose_link_is_cut_is_waited_for(void **state)
{
    (void)state;
    start_worker(&b.workers[0], 0);
    start_worker(&b.workers[1], 2);
    const envelope drain = {.kind = ENVELOPE_DRAIN};
    connect_peer(&b.client, ROLE_CLIENT, 1);
    submit(&b.client, 1);
    peer *has = &b.workers[b.workers[1].submits], *other = &b.workers[b.workers[0].submits];
    say(has, &drain);
    leave(has, false);
    assert_int_equal(other->submits, 0);
}

static void admin_drains(const char *worker_id, uint32_t limit_ms)
{
    const envelope e = {.kind = ENVELOPE_DRAIN,
                        .drain = {.deadline_ms = limit_ms, .worker_id = text_of(worker_id)}};
    say(&b.client, &e);
}

static void test_an_admins_drain_is_said_again_after_a_cut(void **state)
{
    (void)state;
    start_worker(&b.workers[0], 0);
    connect_peer(&b.client, ROLE_CLIENT, 1);
    admin_drains("w0", 700);
    assert_int_equal(b.workers[0].drains, 1);
    leave(&b.workers[0], false); /* perhaps before it arrived */
    start_worker(&b.workers[0], 0);
    assert_int_equal(b.workers[0].drains, 1);
    assert_int_equal(b.workers[0].drain_ms, 700);
    submit(&b.client, 1);
    assert_int_equal(b.workers[0].submits, 0);
    leave(&b.workers[0], true);
    start_worker(&b.workers[0], 1); /* the next process of that name was not meant */
    assert_int_equal(b.workers[0].drains, 0);
    assert_int_equal(b.workers[0].submits, 1);
}

static void test_nobody_can_not_be_drained(void **state)
{
    (void)state;
    connect_peer(&b.client, ROLE_CLIENT, 1);
    admin_drains("w0", 0);
    assert_int_equal(b.client.code, ST_NOT_FOUND);
    start_worker(&b.workers[0], 0);
    leave(&b.workers[0], false);
    b.client.code = ST_OK;
    admin_drains("w0", 0);
    assert_int_equal(b.client.code, ST_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_goodbye_drops_what_an_earlier_link_had, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_link_that_is_cut_drops_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_what_was_on_its_way_to_a_worker_that_left_goes_elsewhere_at_once, set_up,
            tear_down),
        cmocka_unit_test_setup_teardown(test_a_worker_whose_link_is_cut_is_waited_for, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_an_admins_drain_is_said_again_after_a_cut, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_nobody_can_not_be_drained, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
