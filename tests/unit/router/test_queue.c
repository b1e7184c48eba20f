/* Goal: those who wait leave in the promised order: nobody starves, nobody gains by pausing, by
 * coming one at a time or by asking for more than he uses, and nobody waits for another's model.
 * Method: each promise by itself, with the bounds that queue.h states. test_queue_model.c has the
 * random steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tests/unit/router/queue_fixture.h"
#include "tests/unit/worker/engine/test_random.h"

/* -- inside a tenant ------------------------------------------------------------------------ */

static void test_a_tenants_earliest_deadline_goes_first(void **state)
{
    (void)state;
    const uint64_t deadlines_ms[] = {0, 900, 300, 0, 300, 600};
    const int expected[] = {2, 4, 5, 1, 0, 3};
    int numbers[6];
    for (int i = 0; i < 6; i++)
        numbers[i] = push((queue_ask){.tokens = 10, .deadline_ms = deadlines_ms[i]});
    for (int i = 0; i < 6; i++)
        assert_int_equal(take(), numbers[expected[i]]);
    assert_int_equal(head(), NOBODY);
}

/* -- classes -------------------------------------------------------------------------------- */

static int class_of(int number)
{
    int32_t priority = fx.asks[number].priority;
    return priority > 0 ? 0 : priority == 0 ? 1 : 2;
}

static void test_classes_share_by_their_weights(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        for (int32_t priority = -7; priority <= 7; priority += 7)
            push((queue_ask){.tokens = 100, .priority = priority});
    uint64_t tokens[3] = {0};
    for (int i = 0; i < 2100; i++)
        tokens[class_of(take_and_repeat())] += 100;
    assert_in_range(tokens[0], 160000 - 200, 160000 + 200);
    assert_in_range(tokens[1], 40000 - 200, 40000 + 200);
    assert_in_range(tokens[2], 10000 - 200, 10000 + 200);
}

static void test_an_idle_classs_share_goes_to_the_others(void **state)
{
    (void)state;
    push((queue_ask){.tokens = 100});
    push((queue_ask){.tokens = 100, .priority = -1});
    uint64_t tokens[3] = {0};
    for (int i = 0; i < 1000; i++)
        tokens[class_of(take_and_repeat())] += 100;
    assert_in_range(tokens[1], 80000 - 200, 80000 + 200);
    assert_in_range(tokens[2], 20000 - 200, 20000 + 200);
}

static void test_urgent_requests_overtake_a_full_queue(void **state)
{
    (void)state;
    for (int i = 0; i < 500; i++)
        push((queue_ask){.tokens = 1000, .priority = -1});
    for (int i = 0; i < 3; i++)
        settle(take(), 1000);
    int urgent = push((queue_ask){.tokens = 1000, .priority = 1});
    take();
    settle(urgent, 1000);
}

/* The bound of queue.h, exactly: between two batch requests, the first of which had c tokens, each
 * other class gets at most its weight * c and one request more. */
static void test_batch_does_not_starve_under_interactive_overload(void **state)
{
    (void)state;
    enum { MOST = 3000 };
    static const uint64_t weights[] = {16, 4};
    for (uint64_t seed = 1; seed <= 10; seed++) {
        test_random random = {seed};
        fixture_close();
        fixture_open(NULL);
        bool backlogged = seed % 2 == 0;
        uint64_t since[2] = {0}, before = 0, batches = 0;
        int batch = NOBODY;
        for (int step = 0; step < 30000; step++) {
            /* Always a hundred interactive and standard ones of several tenants. */
            while (queue_waiting(fx.queue).requests < 100)
                push((queue_ask){.tokens = random_between(&random, 1, MOST),
                                 .tenant = random_below(&random, 5),
                                 .priority = (int32_t)random_below(&random, 2)});
            if (batch == NOBODY && (backlogged || random_below(&random, 40) == 0)) {
                batch = push((queue_ask){.tokens = random_between(&random, 1, MOST),
                                         .tenant = random_below(&random, 5),
                                         .priority = -1});
                if (!backlogged) since[0] = since[1] = 0;
            }
            int number = take();
            uint32_t tokens = fx.asks[number].tokens;
            settle(number, tokens);
            if (number != batch) {
                since[class_of(number)] += tokens;
                continue;
            }
            for (int i = 0; i < 2; i++) {
                assert_in_range(since[i], 0, weights[i] * before + MOST);
                since[i] = 0;
            }
            before = tokens;
            batch = NOBODY;
            batches++;
        }
        assert_true(batches > 200);
    }
}

/* -- tenants -------------------------------------------------------------------------------- */

static void test_tenants_share_by_their_weights(void **state)
{
    (void)state;
    static const uint32_t weights[] = {100, 300, 50}, sizes[] = {700, 100, 350};
    for (uint32_t i = 0; i < 3; i++) {
        set_tenant(i, (tenant_limits){.weight = weights[i]});
        push((queue_ask){.tenant = i, .tokens = sizes[i]});
    }
    uint64_t tokens[3] = {0};
    for (int i = 0; i < 20000; i++) {
        const queue_ask *ask = &fx.asks[take_and_repeat()];
        tokens[ask->tenant] += ask->tokens;
    }
    assert_in_range(tokens[1], tokens[0] * 3 - 3 * 700, tokens[0] * 3 + 3 * 700);
    assert_in_range(tokens[2], tokens[0] / 2 - 700, tokens[0] / 2 + 700);
}

/* However many requests one tenant has in front: the bound between tenants. */
static void test_no_tenant_starves(void **state)
{
    (void)state;
    enum { TENANTS = 6, MOST = 2000 };
    for (uint64_t seed = 1; seed <= 10; seed++) {
        test_random random = {seed};
        fixture_close();
        fixture_open(NULL);
        uint64_t weights[TENANTS], since[TENANTS][TENANTS] = {{0}}, before[TENANTS] = {0};
        uint32_t backlog[TENANTS];
        for (uint32_t i = 0; i < TENANTS; i++) {
            weights[i] = random_between(&random, 1, 1000);
            backlog[i] = random_between(&random, 1, 200);
            set_tenant(i, (tenant_limits){.weight = (uint32_t)weights[i]});
            for (uint32_t j = 0; j < backlog[i]; j++)
                push((queue_ask){.tenant = i, .tokens = random_between(&random, 1, MOST)});
        }
        for (int step = 0; step < 20000; step++) {
            int number = take();
            queue_ask ask = fx.asks[number];
            settle(number, ask.tokens);
            for (uint32_t i = 0; i < TENANTS; i++) {
                /* What i got while this tenant waited, +1 for rounding shares up. */
                double bound =
                    (double)(weights[i] * before[ask.tenant]) / (double)weights[ask.tenant];
                if (i != ask.tenant) assert_true((double)since[ask.tenant][i] <= bound + MOST + 1);
                since[ask.tenant][i] = 0;
                since[i][ask.tenant] += ask.tokens;
            }
            before[ask.tenant] = ask.tokens;
            ask.tokens = random_between(&random, 1, MOST);
            push(ask);
        }
    }
}

static void test_a_pause_saves_nothing_up(void **state)
{
    (void)state;
    uint32_t got[2];
    push((queue_ask){.tenant = 0, .tokens = 100});
    push((queue_ask){.tenant = 1, .tokens = 100});
    count_next(20, got, 2);
    int number = take();
    if (fx.asks[number].tenant == 1) {
        settle(number, 100);
        number = take();
    }
    settle(number, 100); /* tenant 0 has nothing any more */
    while (queue_waiting(fx.queue).requests > 0)
        settle(take(), 100);
    push((queue_ask){.tenant = 1, .tokens = 100});
    count_next(1000, got, 2);
    assert_int_equal(got[1], 1000);
    for (int i = 0; i < 50; i++)
        push((queue_ask){.tenant = 0, .tokens = 100});
    count_next(20, got, 2);
    assert_in_range(got[0], 9, 11);
}

/* A client that has one request at a time comes anew each time; it must not be first each time. */
static void test_coming_one_at_a_time_gains_nothing(void **state)
{
    (void)state;
    for (uint32_t tenant = 0; tenant < 3; tenant++)
        for (int i = 0; i < 10; i++)
            push((queue_ask){.tenant = tenant, .tokens = 100});
    int alone[2] = {NOBODY, NOBODY};
    uint32_t got[5] = {0};
    for (int step = 0; step < 5000; step++) {
        for (uint32_t i = 0; i < 2; i++)
            if (alone[i] == NOBODY) alone[i] = push((queue_ask){.tenant = 3 + i, .tokens = 100});
        int number = take();
        queue_ask ask = fx.asks[number];
        got[ask.tenant]++;
        settle(number, 100);
        if (ask.tenant < 3)
            push(ask);
        else
            alone[ask.tenant - 3] = NOBODY;
    }
    for (uint32_t i = 0; i < 5; i++)
        assert_in_range(got[i], 990, 1010);
}

/* Tokens that tenants 0 and 1 got when `slots` requests run at a time and end in random order, the
 * first's costing `charged` by the estimate and `actual` in truth. */
static void run_with_estimates(uint32_t charged, uint32_t actual, double *share)
{
    enum { SLOTS = 16 };
    test_random random = {5};
    int running[SLOTS];
    double got[2] = {0};
    for (uint32_t tenant = 0; tenant < 2; tenant++)
        for (int i = 0; i < 20; i++)
            push((queue_ask){.tenant = tenant, .tokens = tenant == 0 ? charged : 4000});
    for (int i = 0; i < SLOTS; i++)
        running[i] = take();
    for (int step = 0; step < 50000; step++) {
        int *slot = &running[random_below(&random, SLOTS)];
        queue_ask ask = fx.asks[*slot];
        uint32_t cost = ask.tenant == 0 ? actual : 4000;
        got[ask.tenant] += cost;
        settle(*slot, cost);
        push(ask);
        *slot = take();
    }
    for (int i = 0; i < SLOTS; i++)
        settle(running[i], 0);
    *share = got[0] / (got[0] + got[1]);
}

static void test_shares_are_of_what_was_used_not_of_what_was_asked(void **state)
{
    (void)state;
    const uint32_t charged[] = {4000, 100, 4000}, actual[] = {100, 4000, 4000};
    for (int i = 0; i < 3; i++) {
        fixture_close();
        fixture_open(NULL);
        double share;
        run_with_estimates(charged[i], actual[i], &share);
        assert_true(share > 0.48 && share < 0.52);
    }
}

/* max_tokens of a million, and a short answer: its sender is held up no longer than it runs, and
 * then gets what he would have got meanwhile. */
static void test_a_high_estimate_is_given_back_at_once(void **state)
{
    (void)state;
    uint32_t got[2];
    int high = push((queue_ask){.tenant = 0, .tokens = 1000000});
    for (uint32_t tenant = 0; tenant < 2; tenant++)
        for (int i = 0; i < 20; i++)
            push((queue_ask){.tenant = tenant, .tokens = 100});
    assert_int_equal(take(), high);
    count_next(20, got, 2);
    assert_int_equal(got[0], 0);
    settle(high, 100);
    count_next(20, got, 2);
    assert_in_range(got[0], 18, 20);
    count_next(20, got, 2);
    assert_in_range(got[0], 9, 11);
}

/* A worker may say what it likes: that must not shut a tenant out. */
static void test_what_no_request_can_cost_is_not_believed(void **state)
{
    (void)state;
    int number = push((queue_ask){.tenant = 0, .tokens = 100});
    push((queue_ask){.tenant = 0, .tokens = 1});
    push((queue_ask){.tenant = 1, .tokens = 1u << 18});
    assert_int_equal(take(), number);
    settle(number, UINT32_MAX);
    uint32_t got[2];
    count_next(7, got, 2);
    assert_true(got[0] > 0);
}

static void test_cancelled_requests_cost_what_they_used(void **state)
{
    (void)state;
    uint32_t got[2] = {0};
    for (uint32_t tenant = 0; tenant < 2; tenant++)
        for (int i = 0; i < 5; i++)
            push((queue_ask){.tenant = tenant, .tokens = 1000});
    for (int step = 0; step < 2200; step++) {
        int number = take();
        queue_ask ask = fx.asks[number];
        got[ask.tenant]++;
        settle(number, ask.tenant == 0 ? 100 : 1000); /* tenant 0 cancels after 100 tokens */
        push(ask);
    }
    assert_in_range(got[0], 1990, 2010);
    /* And those that were never sent cost nothing. */
    for (int i = 0; i < 1000; i++)
        remove_waiting(push((queue_ask){.tenant = 0, .tokens = 1000000}));
    count_next(20, got, 2);
    assert_in_range(got[0], 9, 12);
}

static void test_a_tenants_highest_class_holds(void **state)
{
    (void)state;
    set_tenant(1, (tenant_limits){.class_max = -1});
    push((queue_ask){.tenant = 1, .tokens = 1, .priority = INT32_MAX});
    push((queue_ask){.tenant = 2, .tokens = 1, .priority = INT32_MIN});
    push((queue_ask){.tenant = 2, .tokens = 1, .priority = INT32_MAX});
    assert_int_equal(queue_waiting_class(fx.queue, QUEUE_INTERACTIVE).requests, 1);
    assert_int_equal(queue_waiting_class(fx.queue, QUEUE_STANDARD).requests, 0);
    assert_int_equal(queue_waiting_class(fx.queue, QUEUE_BATCH).requests, 2);
}

/* -- a tenant that may not run more ----------------------------------------------------------- */

static void test_a_tenant_at_its_limit_is_passed_over(void **state)
{
    (void)state;
    set_tenant(1, (tenant_limits){.concurrent = 2});
    int own[4], other[3];
    for (int i = 0; i < 4; i++)
        own[i] = push((queue_ask){.tenant = 1, .tokens = 10, .priority = i % 2});
    for (int i = 0; i < 3; i++)
        other[i] = push((queue_ask){.tenant = 2, .tokens = 10, .model = model_name(1)});
    uint32_t taken[3] = {0};
    int first = NOBODY;
    for (int i = 0; i < 5; i++) {
        int number = take();
        taken[fx.asks[number].tenant]++;
        if (first == NOBODY && fx.asks[number].tenant == 1) first = number;
    }
    assert_int_equal(taken[1], 2);
    assert_int_equal(taken[2], 3);
    assert_int_equal(head(), NOBODY);
    queue_verify(fx.queue);
    settle(first, 10);
    assert_int_not_equal(take(), NOBODY);
    assert_int_equal(head(), NOBODY);
    set_tenant(1, (tenant_limits){.concurrent = 3});
    assert_int_equal(head(), NOBODY);
    queue_limits_changed(fx.queue);
    assert_int_not_equal(take(), NOBODY);
    assert_int_equal(head(), NOBODY);
    (void)own;
    (void)other;
}

static void test_one_that_comes_back_has_kept_its_place(void **state)
{
    (void)state;
    set_tenant(1, (tenant_limits){.concurrent = 1});
    int runs = push((queue_ask){.tenant = 1, .tokens = 10});
    int waits = push((queue_ask){.tenant = 1, .tokens = 10, .model = model_name(1)});
    assert_int_equal(take(), runs);
    settle(runs, 10);
    push_back(runs, 10);
    queue_block(fx.queue, &fx.places[runs]); /* nobody has room for it */
    assert_int_equal(head(), NOBODY);
    queue_verify(fx.queue);
    remove_waiting(runs);
    assert_int_equal(take(), waits);
    queue_verify(fx.queue);
}

/* It had ended, and its client wants a part of it again. */
static void test_one_that_comes_back_late_waits_for_the_limit(void **state)
{
    (void)state;
    set_tenant(1, (tenant_limits){.concurrent = 2});
    int late = push((queue_ask){.tenant = 1, .tokens = 10});
    int runs = push((queue_ask){.tenant = 1, .tokens = 10, .model = model_name(1)});
    take();
    take();
    set_tenant(1, (tenant_limits){.concurrent = 1});
    settle(late, 10);
    push_back(late, 10);
    assert_int_equal(head(), NOBODY);
    queue_verify(fx.queue);
    settle(runs, 10);
    assert_int_equal(head(), late);
    remove_waiting(late);
    queue_verify(fx.queue);
}

static void test_one_that_was_passed_over_may_leave(void **state)
{
    (void)state;
    set_tenant(1, (tenant_limits){.concurrent = 1});
    push((queue_ask){.tenant = 1, .tokens = 10});
    int waits = push((queue_ask){.tenant = 1, .tokens = 10});
    int runs = take();
    assert_int_equal(head(), NOBODY);
    remove_waiting(waits);
    queue_verify(fx.queue);
    settle(runs, 10);
    assert_int_equal(head(), NOBODY);
    queue_verify(fx.queue);
}

static void test_being_held_up_saves_nothing_up(void **state)
{
    (void)state;
    uint32_t got[3];
    set_tenant(1, (tenant_limits){.concurrent = 1});
    for (int i = 0; i < 50; i++)
        push((queue_ask){.tenant = 1, .tokens = 100});
    take(); /* and never ends */
    push((queue_ask){.tenant = 2, .tokens = 100});
    count_next(1000, got, 3);
    assert_int_equal(got[2], 1000);
    set_tenant(1, (tenant_limits){0});
    queue_limits_changed(fx.queue);
    count_next(20, got, 3);
    assert_in_range(got[1], 9, 11);
}

/* -- models --------------------------------------------------------------------------------- */

static void test_a_model_without_room_holds_nobody_else_up(void **state)
{
    (void)state;
    for (uint32_t m = 0; m < 3; m++)
        for (int i = 0; i < 4; i++)
            push((queue_ask){.model = model_name(m), .tokens = 10});
    uint32_t taken[3] = {0};
    for (int i = 0; i < 12; i++) {
        int number = head();
        if (number == NOBODY) break;
        uint32_t m = (uint32_t)(fx.asks[number].model.data[1] - '0');
        if (m == 1) {
            queue_block(fx.queue, &fx.places[number]);
            continue;
        }
        taken[m]++;
        take();
    }
    assert_int_equal(taken[0], 4);
    assert_int_equal(taken[1], 0);
    assert_int_equal(taken[2], 4);
    assert_int_equal(head(), NOBODY);
    assert_non_null(queue_any(fx.queue, model_name(1)));
    assert_null(queue_any(fx.queue, model_name(2)));
    assert_null(queue_any(fx.queue, model_name(7)));
    queue_unblock(fx.queue, model_name(7));
    queue_unblock(fx.queue, model_name(0));
    assert_int_equal(head(), NOBODY);
    queue_unblock(fx.queue, model_name(1));
    for (int i = 0; i < 3; i++)
        assert_int_not_equal(take(), NOBODY);
    queue_block(fx.queue, &fx.places[head()]);
    push((queue_ask){.model = model_name(1), .tokens = 10, .priority = 1});
    assert_int_equal(head(), NOBODY); /* who comes later finds it blocked, too */
    queue_unblock_all(fx.queue);
    assert_int_not_equal(take(), NOBODY);
    assert_int_not_equal(take(), NOBODY);
}

/* One that no worker with room can take, as others of its model can: too long for a lease. */
static void test_one_that_is_held_back_keeps_its_place(void **state)
{
    (void)state;
    int numbers[4];
    for (uint32_t i = 0; i < 4; i++)
        numbers[i] = push((queue_ask){.tokens = 10, .tenant = i / 2});
    int lost = push((queue_ask){.tokens = 10, .priority = 1});
    take();
    settle(lost, 0);
    push_back(lost, 10);
    queue_hold(fx.queue, &fx.places[lost]);
    queue_hold(fx.queue, &fx.places[numbers[0]]);
    queue_verify(fx.queue);
    assert_int_equal(head(), numbers[1]);
    queue_hold(fx.queue, &fx.places[numbers[1]]); /* the tenant has no other */
    assert_int_equal(take(), numbers[2]);
    queue_unblock(fx.queue, model_name(1));
    assert_int_equal(head(), numbers[3]);
    queue_unblock(fx.queue, model_name(0));
    queue_verify(fx.queue);
    assert_int_equal(take(), lost);
    assert_int_equal(take(), numbers[0]);
    queue_hold(fx.queue, &fx.places[numbers[1]]);
    remove_waiting(numbers[1]);
    queue_verify(fx.queue);
    queue_hold(fx.queue, &fx.places[numbers[3]]);
    assert_int_equal(head(), NOBODY);
    assert_ptr_equal(queue_any(fx.queue, model_name(0)), &fx.requests[numbers[3]]);
    queue_unblock_all(fx.queue);
    assert_int_equal(take(), numbers[3]);
}

/* What a tenant gets of one model costs it nothing at another. */
static void test_models_are_apart(void **state)
{
    (void)state;
    uint32_t got[2];
    push((queue_ask){.tenant = 0, .tokens = 100, .model = model_name(1)});
    count_next(1000, got, 2);
    queue_block(fx.queue, &fx.places[head()]);
    push((queue_ask){.tenant = 0, .tokens = 100});
    push((queue_ask){.tenant = 1, .tokens = 100});
    count_next(100, got, 2);
    assert_in_range(got[0], 49, 51);
}

/* On shared workers a token counts by its class, whichever model it is for. */
static void test_models_that_share_workers_share_by_class(void **state)
{
    (void)state;
    push((queue_ask){.tenant = 0, .tokens = 100, .model = model_name(0), .priority = 1});
    push((queue_ask){.tenant = 1, .tokens = 100, .model = model_name(1), .priority = -1});
    uint32_t got[2];
    count_next(1700, got, 2);
    assert_in_range(got[1], 98, 102);
}

static void test_a_blocked_model_saves_nothing_up(void **state)
{
    (void)state;
    uint32_t got[2];
    for (int i = 0; i < 50; i++)
        push((queue_ask){.tenant = 0, .tokens = 100, .model = model_name(0)});
    queue_block(fx.queue, &fx.places[head()]);
    push((queue_ask){.tenant = 1, .tokens = 100, .model = model_name(1)});
    count_next(1000, got, 2);
    queue_unblock(fx.queue, model_name(0));
    count_next(20, got, 2);
    assert_in_range(got[0], 9, 11);
}

/* -- those who come back ---------------------------------------------------------------------- */

static void test_who_comes_back_goes_before_all_of_its_class(void **state)
{
    (void)state;
    set_tenant(3, (tenant_limits){.concurrent = 1});
    int lost[2];
    for (int i = 0; i < 2; i++)
        lost[i] = push((queue_ask){.tenant = 3 + (uint32_t)i, .tokens = 5000});
    for (int i = 0; i < 2; i++)
        take();
    for (uint32_t i = 0; i < 20; i++)
        push((queue_ask){.tenant = i, .tokens = 10, .deadline_ms = 1001});
    for (int i = 1; i >= 0; i--) {
        settle(lost[i], 700);
        push_back(lost[i], 4300);
    }
    queue_verify(fx.queue);
    /* Its tenant is at its limit by another one meanwhile: it goes all the same. */
    assert_int_equal(take(), lost[1]);
    assert_int_equal(take(), lost[0]);
    queue_verify(fx.queue);
    settle(lost[0], 100);
    push_back(lost[0], 4200);
    remove_waiting(lost[0]);
    queue_verify(fx.queue);
}

static void test_who_comes_back_does_not_change_its_class(void **state)
{
    (void)state;
    int lost = push((queue_ask){.tokens = 1000, .priority = -1});
    take();
    settle(lost, 0);
    for (int i = 0; i < 10; i++)
        push((queue_ask){.tokens = 1000, .priority = 1});
    for (int i = 0; i < 3; i++)
        take_and_repeat();
    push_back(lost, 1000);
    bool came = false;
    for (int i = 0; i < 18 && !came; i++) {
        int number = take();
        came = number == lost;
        settle(number, 1000);
    }
    assert_true(came);
}

static void test_a_place_that_holds_nothing_settles_nothing(void **state)
{
    (void)state;
    queue_place none = {0};
    queue_settle(fx.queue, &none, 100, fx.now_ms);
    queue_verify(fx.queue);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_a_tenants_earliest_deadline_goes_first),
        CASE(test_classes_share_by_their_weights),
        CASE(test_an_idle_classs_share_goes_to_the_others),
        CASE(test_urgent_requests_overtake_a_full_queue),
        CASE(test_batch_does_not_starve_under_interactive_overload),
        CASE(test_tenants_share_by_their_weights),
        CASE(test_no_tenant_starves),
        CASE(test_a_pause_saves_nothing_up),
        CASE(test_coming_one_at_a_time_gains_nothing),
        CASE(test_shares_are_of_what_was_used_not_of_what_was_asked),
        CASE(test_a_high_estimate_is_given_back_at_once),
        CASE(test_what_no_request_can_cost_is_not_believed),
        CASE(test_cancelled_requests_cost_what_they_used),
        CASE(test_a_tenants_highest_class_holds),
        CASE(test_a_tenant_at_its_limit_is_passed_over),
        CASE(test_one_that_comes_back_has_kept_its_place),
        CASE(test_one_that_comes_back_late_waits_for_the_limit),
        CASE(test_one_that_was_passed_over_may_leave),
        CASE(test_being_held_up_saves_nothing_up),
        CASE(test_a_model_without_room_holds_nobody_else_up),
        CASE(test_one_that_is_held_back_keeps_its_place),
        CASE(test_models_are_apart),
        CASE(test_models_that_share_workers_share_by_class),
        CASE(test_a_blocked_model_saves_nothing_up),
        CASE(test_who_comes_back_goes_before_all_of_its_class),
        CASE(test_who_comes_back_does_not_change_its_class),
        CASE(test_a_place_that_holds_nothing_settles_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
