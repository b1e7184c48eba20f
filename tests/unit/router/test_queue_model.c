/* Goal: whatever happens in whatever order, the head is one that the rules of queue.h allow, and
 * the queue's parts agree with each other. Method: thousands of random steps beside a model that
 * keeps plain arrays and looks at all of them each time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/router/queue_fixture.h"
#include "tests/unit/worker/engine/test_random.h"

enum { MODELS = 3, TENANTS = 4, CLASSES = 3, REQUESTS = 60 };

typedef struct plain_account {
    uint64_t time, credit;
} plain_account;

typedef struct plain_clock {
    uint64_t now, latest;
} plain_clock;

typedef enum request_is { GONE, WAITS, RUNS } request_is;

typedef struct plain_request {
    request_is is;
    uint32_t model, class, tenant, tokens;
    uint64_t deadline_ms, order; /* `order` of those that came back: of their return */
    bool again, held;
} plain_request;

typedef struct plain_queue {
    plain_request all[REQUESTS];
    plain_account models[MODELS], lanes[MODELS][CLASSES], flows[MODELS][CLASSES][TENANTS];
    plain_clock root, model_clocks[MODELS], lane_clocks[MODELS][CLASSES];
    bool blocked[MODELS];
    uint32_t weights[TENANTS], concurrent[TENANTS];
    uint64_t order;
} plain_queue;

static const uint32_t plain_class_weights[CLASSES] = {16, 4, 1};

static uint64_t plain_share(uint64_t tokens, uint32_t weight)
{
    uint64_t whole = tokens * 65536;
    return whole / weight + (whole % weight != 0);
}

enum { ANY = 100 };

/* How many of them there are in that state. */
static uint32_t plain_count(const plain_queue *q, request_is is, uint32_t model, uint32_t class,
                            uint32_t tenant)
{
    uint32_t count = 0;
    for (int i = 0; i < REQUESTS; i++) {
        const plain_request *r = &q->all[i];
        count += r->is == is && (model == ANY || r->model == model) &&
                 (class == ANY || r->class == class) && (tenant == ANY || r->tenant == tenant);
    }
    return count;
}

static void plain_wake(plain_account *a, const plain_clock *clock)
{
    a->time = a->time > a->credit ? a->time - a->credit : 0;
    a->credit = 0;
    if (clock->now > a->time) a->time = clock->now;
}

static void plain_spend(plain_account *a, plain_clock *clock, uint64_t amount)
{
    while (amount > 0 && a->credit > 0) {
        uint64_t step = amount < a->credit ? amount : a->credit;
        amount -= step;
        a->credit -= step;
    }
    a->time += amount;
    if (a->time > clock->latest) clock->latest = a->time;
}

static void plain_charge(plain_account *a, plain_clock *clock, uint64_t amount)
{
    if (clock->now > a->time) a->time = clock->now;
    clock->now = a->time;
    plain_spend(a, clock, amount);
}

static void plain_rest(plain_clock *clock)
{
    if (clock->latest > clock->now) clock->now = clock->latest;
}

static void plain_rest_all(plain_queue *q)
{
    for (uint32_t m = 0; m < MODELS; m++) {
        for (uint32_t c = 0; c < CLASSES; c++)
            if (plain_count(q, WAITS, m, c, ANY) + plain_count(q, RUNS, m, c, ANY) == 0)
                plain_rest(&q->lane_clocks[m][c]);
        if (plain_count(q, WAITS, m, ANY, ANY) + plain_count(q, RUNS, m, ANY, ANY) == 0)
            plain_rest(&q->model_clocks[m]);
    }
    if (plain_count(q, WAITS, ANY, ANY, ANY) + plain_count(q, RUNS, ANY, ANY, ANY) == 0)
        plain_rest(&q->root);
}

static void plain_push(plain_queue *q, int number, plain_request r)
{
    if (plain_count(q, WAITS, r.model, ANY, ANY) == 0) plain_wake(&q->models[r.model], &q->root);
    if (plain_count(q, WAITS, r.model, r.class, ANY) == 0)
        plain_wake(&q->lanes[r.model][r.class], &q->model_clocks[r.model]);
    if (plain_count(q, WAITS, r.model, r.class, r.tenant) == 0)
        plain_wake(&q->flows[r.model][r.class][r.tenant], &q->lane_clocks[r.model][r.class]);
    r.is = WAITS;
    r.held = false;
    r.order = ++q->order;
    q->all[number] = r;
}

static bool plain_may_go(const plain_queue *q, const plain_request *r)
{
    if (r->is != WAITS || r->held || q->blocked[r->model]) return false;
    uint32_t begun = plain_count(q, RUNS, ANY, ANY, r->tenant);
    for (int i = 0; i < REQUESTS && !r->again; i++)
        begun += q->all[i].is == WAITS && q->all[i].again && q->all[i].tenant == r->tenant;
    return q->concurrent[r->tenant] == 0 || begun < q->concurrent[r->tenant];
}

/* Would it be right to send this one before that one? Where times agree either is. */
static bool plain_precedes(const plain_queue *q, const plain_request *a, const plain_request *b)
{
    if (a->model != b->model) return q->models[a->model].time <= q->models[b->model].time;
    const plain_account *lanes = q->lanes[a->model];
    if (a->class != b->class)
        return lanes[a->class].time < lanes[b->class].time ||
               (lanes[a->class].time == lanes[b->class].time && a->class < b->class);
    if (a->again != b->again) return a->again;
    if (a->again) return a->order <= b->order;
    const plain_account *flows = q->flows[a->model][a->class];
    if (a->tenant != b->tenant) return flows[a->tenant].time <= flows[b->tenant].time;
    uint64_t a_ms = a->deadline_ms - 1,
             b_ms = b->deadline_ms - 1; /* 0, for never, is the largest */
    return a_ms < b_ms || (a_ms == b_ms && a->order <= b->order);
}

static void plain_check_head(const plain_queue *q, int number)
{
    for (int i = 0; i < REQUESTS; i++) {
        if (!plain_may_go(q, &q->all[i])) continue;
        assert_int_not_equal(number, NOBODY);
        assert_true(plain_precedes(q, &q->all[number], &q->all[i]));
    }
    if (number != NOBODY) assert_true(plain_may_go(q, &q->all[number]));
}

static void plain_take(plain_queue *q, int number)
{
    plain_request *r = &q->all[number];
    uint64_t by_class = plain_share(r->tokens, plain_class_weights[r->class]);
    plain_charge(&q->models[r->model], &q->root, by_class);
    plain_charge(&q->lanes[r->model][r->class], &q->model_clocks[r->model], by_class);
    plain_charge(&q->flows[r->model][r->class][r->tenant], &q->lane_clocks[r->model][r->class],
                 plain_share(r->tokens, q->weights[r->tenant]));
    r->is = RUNS;
}

static void plain_correct(plain_account *a, plain_clock *clock, uint64_t charged, uint64_t actual)
{
    if (actual > charged) plain_spend(a, clock, actual - charged);
    if (actual < charged) a->credit += charged - actual;
    if (actual < charged && a->time > clock->now) {
        uint64_t given = a->time - clock->now;
        if (given > a->credit) given = a->credit;
        a->time -= given;
        a->credit -= given;
    }
}

static void plain_settle(plain_queue *q, int number, uint32_t actual)
{
    plain_request *r = &q->all[number];
    uint32_t of_class = plain_class_weights[r->class], of_tenant = q->weights[r->tenant];
    uint64_t charged = plain_share(r->tokens, of_class), cost = plain_share(actual, of_class);
    plain_correct(&q->models[r->model], &q->root, charged, cost);
    plain_correct(&q->lanes[r->model][r->class], &q->model_clocks[r->model], charged, cost);
    plain_correct(&q->flows[r->model][r->class][r->tenant], &q->lane_clocks[r->model][r->class],
                  plain_share(r->tokens, of_tenant), plain_share(actual, of_tenant));
    r->is = GONE;
    plain_rest_all(q);
}

static int pick(const plain_queue *q, test_random *random, request_is is)
{
    uint32_t count = plain_count(q, is, ANY, ANY, ANY);
    if (count == 0) return NOBODY;
    uint32_t skip = random_below(random, count);
    for (int i = 0;; i++)
        if (q->all[i].is == is && skip-- == 0) return i;
}

static void model_push(plain_queue *q, test_random *random)
{
    plain_request r = {.model = random_below(random, MODELS),
                       .class = random_below(random, CLASSES),
                       .tenant = random_below(random, TENANTS),
                       .tokens = random_between(random, 1, random_below(random, 2) == 0 ? 3 : 2000),
                       .deadline_ms =
                           random_below(random, 2) == 0 ? 0 : random_between(random, 1, 10)};
    int number = NOBODY;
    for (int i = 0; i < REQUESTS && number == NOBODY; i++)
        if (q->all[i].is == GONE) number = i;
    if (number == NOBODY) return;
    fx.asks[number] = (queue_ask){.model = model_name(r.model),
                                  .priority = 1 - (int32_t)r.class,
                                  .tenant = r.tenant,
                                  .tokens = r.tokens,
                                  .bytes = random_below(random, 1000),
                                  .deadline_ms = r.deadline_ms};
    queue_push(fx.queue, &fx.requests[number], &fx.places[number], &fx.asks[number], false,
               fx.now_ms);
    plain_push(q, number, r);
}

static void model_end(plain_queue *q, test_random *random, int number)
{
    if (number == NOBODY) return;
    uint32_t tokens = q->all[number].tokens;
    uint32_t actual = random_below(random, 3) == 0 ? tokens : random_below(random, 2 * tokens + 1);
    settle(number, actual);
    plain_settle(q, number, actual);
    if (random_below(random, 5) > 0) return;
    plain_request back = q->all[number];
    back.again = true;
    back.deadline_ms = 0;
    back.tokens = random_between(random, 1, tokens);
    push_back(number, back.tokens);
    plain_push(q, number, back);
}

static void model_dispatch(plain_queue *q, test_random *random)
{
    int number = head();
    plain_check_head(q, number);
    if (number == NOBODY) return;
    uint32_t what = random_below(random, 16);
    if (what < 2) {
        queue_hold(fx.queue, &fx.places[number]);
        q->all[number].held = true;
    } else if (what < 4) {
        queue_block(fx.queue, &fx.places[number]);
        q->blocked[q->all[number].model] = true;
    } else {
        queue_take(fx.queue, &fx.places[number], fx.now_ms);
        plain_take(q, number);
    }
}

static void plain_unblock(plain_queue *q, uint32_t model)
{
    q->blocked[model] = false;
    for (int i = 0; i < REQUESTS; i++)
        if (q->all[i].model == model) q->all[i].held = false;
}

static void model_change(plain_queue *q, test_random *random)
{
    uint32_t m = random_below(random, MODELS), tenant = random_below(random, TENANTS);
    switch (random_below(random, 3)) {
    case 0:
        queue_unblock(fx.queue, model_name(m));
        plain_unblock(q, m);
        return;
    case 1:
        queue_unblock_all(fx.queue);
        for (m = 0; m < MODELS; m++)
            plain_unblock(q, m);
        return;
    default:
        q->concurrent[tenant] = random_below(random, 4);
        set_tenant(tenant, (tenant_limits){.weight = q->weights[tenant],
                                           .concurrent = q->concurrent[tenant],
                                           .class_max = 1});
        queue_limits_changed(fx.queue);
    }
}

static void random_run(uint64_t seed)
{
    test_random random = {seed};
    plain_queue q = {.order = 0};
    for (uint32_t i = 0; i < TENANTS; i++) {
        q.weights[i] = random_below(&random, 2) == 0 ? 100 : random_between(&random, 1, 10000);
        set_tenant(i, (tenant_limits){.weight = q.weights[i], .class_max = 1});
    }
    uint32_t pushes = random_between(&random, 1, 6), busy = random_between(&random, 1, 6);
    for (int step = 0; step < 1500; step++) {
        uint32_t what = random_below(&random, pushes + busy + 6);
        if (what < pushes)
            model_push(&q, &random);
        else if (what < pushes + busy)
            model_end(&q, &random, pick(&q, &random, RUNS));
        else if (what < pushes + busy + 4)
            model_dispatch(&q, &random);
        else if (what == pushes + busy + 4)
            model_change(&q, &random);
        else {
            int number = pick(&q, &random, WAITS);
            if (number == NOBODY) continue;
            remove_waiting(number);
            q.all[number].is = GONE;
            plain_rest_all(&q);
        }
        queue_verify(fx.queue);
        assert_int_equal(queue_waiting(fx.queue).requests, plain_count(&q, WAITS, ANY, ANY, ANY));
    }
}

static void test_random_steps_keep_the_promised_order(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        fixture_close();
        fixture_open(NULL);
        random_run(seed);
    }
}

/* -- memory --------------------------------------------------------------------------------- */

/* Every tenant at every model in every class, once: what is remembered of them is bounded, and
 * forgetting gains nobody anything. */
static void test_what_is_remembered_is_bounded(void **state)
{
    (void)state;
    for (uint32_t m = 0; m < 3; m++) {
        for (uint32_t tenant = 0; tenant < LIMIT_TENANTS; tenant++) {
            push((queue_ask){.model = model_name(m),
                             .tenant = tenant,
                             .tokens = 10 + tenant % 7,
                             .priority = (int32_t)(tenant % 3) - 1});
            settle(take(), 10);
        }
        queue_verify(fx.queue);
    }
    uint32_t got[2];
    push((queue_ask){.tenant = 0, .tokens = 10});
    push((queue_ask){.tenant = 1, .tokens = 10});
    count_next(20, got, 2);
    assert_in_range(got[0], 9, 11);
}

static void make_it_forget(void)
{
    for (uint32_t i = 0; i <= LIMIT_QUEUE_IDLE_FLOWS; i++)
        remove_waiting(push((queue_ask){
            .model = model_name(6 + i / LIMIT_TENANTS), .tenant = i % LIMIT_TENANTS, .tokens = 1}));
}

/* Who had more than his share is not first because he was forgotten: neither a tenant nor, where
 * models share workers, those of a model. */
static void test_being_forgotten_gains_nothing(void **state)
{
    (void)state;
    for (uint32_t other_model = 0; other_model < 2; other_model++) {
        queue_ask greedy = {.tenant = 5, .tokens = 100000, .model = model_name(0)};
        queue_ask modest = {.tenant = 6, .tokens = 100, .model = model_name(other_model)};
        push(modest);
        push(modest);
        push(modest);
        push(greedy);
        for (int i = 0; i < 3; i++) {
            int number = take();
            settle(number, fx.asks[number].tokens);
        }
        make_it_forget();
        int again = push(greedy);
        assert_int_equal(fx.asks[take()].tenant, 6);
        assert_int_equal(take(), again);
        queue_verify(fx.queue);
        fixture_close();
        fixture_open(NULL);
    }
}

static void test_requests_that_wait_go_with_the_queue(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 100; i++)
        push((queue_ask){.tenant = i % 5,
                         .tokens = 10,
                         .model = model_name(i % 3),
                         .priority = (int32_t)(i % 3) - 1});
    int lost = take();
    settle(lost, 0);
    push_back(lost, 10);
    take(); /* the leak checker sees the rest */
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_random_steps_keep_the_promised_order),
        CASE(test_what_is_remembered_is_bounded),
        CASE(test_being_forgotten_gains_nothing),
        CASE(test_requests_that_wait_go_with_the_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
