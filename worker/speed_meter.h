/* speed_meter: how fast this worker reads prompts and writes answers, learned from its steps.
 *
 * Reading: tokens a second over the steps of which at least half was read. What such a step also
 * writes counts as time, not as tokens, so the figure errs on the low side.
 *
 * Writing: a step of n answers takes about a + b n, so what all slots together would give can be
 * told from steps of fewer. Steps that write only are kept by size class (1, 2, 3-4, 5-8, ...);
 * a and b come from the smallest class and the largest. Nobody is believed far beyond what was
 * measured: the figure is for at most SPEED_METER_REACH times the largest class's size. With one
 * class alone a larger batch is taken to cost no more than it (b = 0): a router that gives a
 * worker more because of it makes it measure more.
 *
 * Older steps fade: sums are halved whenever they cover 20 s of steps. Pure; engine thread. */
#ifndef GAGGLE_WORKER_SPEED_METER_H
#define GAGGLE_WORKER_SPEED_METER_H

#include <stdint.h>

#define SPEED_METER_CLASSES 16u
#define SPEED_METER_REACH   4u

typedef struct speed_sum {
    double steps, tokens, us;
} speed_sum;

typedef struct speed_meter {
    speed_sum reading;
    speed_sum writing[SPEED_METER_CLASSES]; /* [ceil(log2(tokens))] */
} speed_meter;                              /* {0} has seen nothing */

/* A step that read and wrote so many tokens took `us`; 0 us are not counted. */
void speed_meter_add(speed_meter *m, uint32_t read, uint32_t written, uint32_t us);

/* Tokens a second; 0: not known. */
uint32_t speed_meter_prefill_rate(const speed_meter *m);
/* The same of all answers together when `slots` of them run. */
uint32_t speed_meter_decode_rate(const speed_meter *m, uint32_t slots);

#endif
