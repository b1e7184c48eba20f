#include "router/work_ledger.h"

#include "common/check.h"

void work_ledger_charge(work_ledger *l, work_charge *charge, uint32_t prefill_tokens,
                        uint32_t decode_tokens)
{
    CHECK(charge->prefill_tokens == 0 && charge->decode_tokens == 0);
    *charge = (work_charge){prefill_tokens, decode_tokens};
    l->prefill_tokens += prefill_tokens;
    l->decode_tokens += decode_tokens;
    l->kv_tokens_since_load += (uint64_t)prefill_tokens + decode_tokens;
}

static void take_off(work_ledger *l, work_charge *charge, uint32_t decode_tokens)
{
    CHECK(l->prefill_tokens >= charge->prefill_tokens && l->decode_tokens >= decode_tokens);
    l->prefill_tokens -= charge->prefill_tokens;
    l->decode_tokens -= decode_tokens;
    charge->prefill_tokens = 0;
    charge->decode_tokens -= decode_tokens;
}

void work_ledger_progress(work_ledger *l, work_charge *charge, uint32_t tokens)
{
    take_off(l, charge, tokens < charge->decode_tokens ? tokens : charge->decode_tokens);
}

void work_ledger_settle(work_ledger *l, work_charge *charge)
{
    take_off(l, charge, charge->decode_tokens);
}

/* Our own are at most those we know of: a Finish comes before the Load that no longer counts it. */
void work_ledger_report(work_ledger *l, const msg_load *load, uint32_t streams)
{
    uint64_t there = (uint64_t)load->running + load->waiting;
    uint64_t foreign = there > streams ? there - streams : 0;
    l->foreign_streams =
        foreign < LIMIT_STREAMS_PER_LINK ? (uint32_t)foreign : LIMIT_STREAMS_PER_LINK;
    l->kv_tokens_since_load = 0;
    l->was_reported = true;
}
