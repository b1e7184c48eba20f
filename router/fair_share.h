/* fair_share: virtual time among those who share something, by start-time fair queueing (Goyal, Vin
 * and Cheng 1996).
 *
 * Each has an account whose time moves on by what he is charged, divided by his weight, and whoever
 * is furthest behind is next. The clock shows where the one who was next last began: who comes
 * after a pause, or was held up, goes on from there, so that nobody saves a share up.
 *
 * Charges are put right later. What was too much is given back as far as that does not put the
 * account behind the clock; from the rest, `credit`, its next charges are paid. Loop thread. */
#ifndef GAGGLE_ROUTER_FAIR_SHARE_H
#define GAGGLE_ROUTER_FAIR_SHARE_H

#include <stdint.h>

typedef struct fair_account {
    uint64_t time, credit;
} fair_account;

typedef struct fair_clock {
    uint64_t now, latest; /* the start of the last charge, and the latest time of an account */
} fair_clock;

/* Tokens to virtual time, in 1/65536 tokens of weight 1; rounded up. */
uint64_t fair_share_of(uint32_t tokens, uint32_t weight);

/* It has something to do, after a time without. */
void fair_share_wake(fair_account *a, const fair_clock *clock);
void fair_share_charge(fair_account *a, fair_clock *clock, uint64_t amount);
/* Of what it was charged. */
void fair_share_correct(fair_account *a, fair_clock *clock, uint64_t charged, uint64_t actual);
/* Nobody begins before `time` any more. */
void fair_share_pass(fair_clock *clock, uint64_t time);

#endif
