#include "router/fair_share.h"

enum { TIME_UNIT = 65536 };

uint64_t fair_share_of(uint32_t tokens, uint32_t weight)
{
    return ((uint64_t)tokens * TIME_UNIT + weight - 1) / weight;
}

void fair_share_wake(fair_account *a, const fair_clock *clock)
{
    a->time -= a->credit < a->time ? a->credit : a->time;
    a->credit = 0;
    if (a->time < clock->now) a->time = clock->now;
}

static void advance(fair_account *a, fair_clock *clock, uint64_t amount)
{
    uint64_t paid = a->credit < amount ? a->credit : amount;
    a->credit -= paid;
    a->time += amount - paid;
    if (a->time > clock->latest) clock->latest = a->time;
}

void fair_share_charge(fair_account *a, fair_clock *clock, uint64_t amount)
{
    if (a->time < clock->now) a->time = clock->now; /* it was held up: that saves nothing up */
    clock->now = a->time;
    advance(a, clock, amount);
}

void fair_share_correct(fair_account *a, fair_clock *clock, uint64_t charged, uint64_t actual)
{
    if (actual > charged) {
        advance(a, clock, actual - charged);
        return;
    }
    a->credit += charged - actual;
    uint64_t ahead = a->time > clock->now ? a->time - clock->now : 0;
    uint64_t back = a->credit < ahead ? a->credit : ahead;
    a->credit -= back;
    a->time -= back;
}

void fair_share_pass(fair_clock *clock, uint64_t time)
{
    if (clock->now < time) clock->now = time;
    if (clock->latest < time) clock->latest = time;
}
