#include "worker/speed_meter.h"

#include <stddef.h>

static const double SUM_US_MAX = 20e6;

static void sum_add(speed_sum *s, uint32_t tokens, uint32_t us)
{
    s->steps += 1;
    s->tokens += tokens;
    s->us += us;
    if (s->us < SUM_US_MAX) return;
    s->steps /= 2;
    s->tokens /= 2;
    s->us /= 2;
}

static uint32_t size_class(uint32_t tokens)
{
    uint32_t class = 0;
    while (class + 1 < SPEED_METER_CLASSES && 1u << class < tokens)
        class ++;
    return class;
}

void speed_meter_add(speed_meter *m, uint32_t read, uint32_t written, uint32_t us)
{
    if (us == 0 || read + written == 0) return;
    if (read == 0)
        sum_add(&m->writing[size_class(written)], written, us);
    else if (read >= written)
        sum_add(&m->reading, read, us);
}

static uint32_t rate_of(double tokens, double us)
{
    double rate = tokens * 1e6 / us;
    if (rate < 1) return 1;
    return rate < 4e9 ? (uint32_t)rate : 4000000000u;
}

uint32_t speed_meter_prefill_rate(const speed_meter *m)
{
    return m->reading.us > 0 ? rate_of(m->reading.tokens, m->reading.us) : 0;
}

uint32_t speed_meter_decode_rate(const speed_meter *m, uint32_t slots)
{
    const speed_sum *least = NULL, *most = NULL;
    for (uint32_t i = 0; i < SPEED_METER_CLASSES; i++) {
        if (m->writing[i].us <= 0) continue;
        if (least == NULL) least = &m->writing[i];
        most = &m->writing[i];
    }
    if (most == NULL || slots == 0) return 0;
    double n = most->tokens / most->steps, us = most->us / most->steps;
    double per_token = 0;
    if (least != most) {
        double few = least->tokens / least->steps, few_us = least->us / least->steps;
        per_token = (us - few_us) / (n - few);
        if (per_token < 0) per_token = 0;           /* noise */
        if (per_token > us / n) per_token = us / n; /* so is this: a step costs something */
    }
    double batch = slots < SPEED_METER_REACH * n ? slots : SPEED_METER_REACH * n;
    return rate_of(batch, us + (batch - n) * per_token);
}
