#include "tests/unit/router/queue_fixture.h"

#include <string.h>

#include "common/check.h"

queue_fixture fx;

void fixture_open(const queue_sum *limits)
{
    static const queue_sum none = {UINT32_MAX, UINT64_MAX / 2, UINT64_MAX / 2};
    fx = (queue_fixture){.now_ms = 1000, .tenants = tenant_table_create()};
    fx.queue = queue_create(limits != NULL ? limits : &none, fx.tenants, 42);
    for (uint32_t i = 0; i < FIXTURE_REQUESTS; i++)
        fx.requests[i].number = i;
}

void fixture_close(void)
{
    queue_destroy(fx.queue);
    tenant_table_destroy(fx.tenants);
}

int fixture_setup(void **state)
{
    (void)state;
    fixture_open(NULL);
    return 0;
}

int fixture_teardown(void **state)
{
    (void)state;
    fixture_close();
    return 0;
}

text_view model_name(uint32_t number)
{
    static const char *const names[] = {"m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"};
    CHECK(number < sizeof names / sizeof *names);
    return (text_view){names[number], 2};
}

void set_tenant(uint32_t tenant, tenant_limits limits)
{
    if (limits.weight == 0) limits.weight = LIMIT_TENANT_WEIGHT_DEFAULT;
    tenant_set_limits(fx.tenants, tenant, &limits, fx.now_ms);
}

static bool is_free(uint32_t i)
{
    return fx.places[i].entry == NULL && fx.places[i].charged == 0;
}

int push(queue_ask ask)
{
    static uint32_t at;
    for (uint32_t tries = 0; !is_free(at); tries++) {
        CHECK(tries < FIXTURE_REQUESTS);
        at = (at + 1) % FIXTURE_REQUESTS;
    }
    if (ask.model.size == 0) ask.model = model_name(0);
    fx.asks[at] = ask;
    queue_push(fx.queue, &fx.requests[at], &fx.places[at], &ask, false, fx.now_ms);
    return (int)at;
}

void push_back(int number, uint32_t tokens)
{
    queue_ask *ask = &fx.asks[number];
    ask->tokens = tokens;
    queue_push(fx.queue, &fx.requests[number], &fx.places[number], ask, true, fx.now_ms);
}

int head(void)
{
    const request *r = queue_head(fx.queue);
    return r != NULL ? (int)r->number : NOBODY;
}

int take(void)
{
    int number = head();
    if (number != NOBODY) queue_take(fx.queue, &fx.places[number], fx.now_ms);
    return number;
}

void settle(int number, uint32_t actual)
{
    CHECK(fx.places[number].charged > 0);
    queue_settle(fx.queue, &fx.places[number], actual, fx.now_ms);
    CHECK(is_free((uint32_t)number));
}

void remove_waiting(int number)
{
    queue_remove(fx.queue, &fx.places[number], fx.now_ms);
    CHECK(is_free((uint32_t)number));
}

int take_and_repeat(void)
{
    int number = take();
    CHECK(number != NOBODY);
    queue_ask ask = fx.asks[number];
    settle(number, ask.tokens);
    push(ask);
    return number;
}

void count_next(int dispatches, uint32_t *of, uint32_t tenants)
{
    memset(of, 0, tenants * sizeof *of);
    for (int i = 0; i < dispatches; i++)
        of[fx.asks[take_and_repeat()].tenant]++;
}
