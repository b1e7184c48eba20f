/* work_ledger: what the router gave a worker to do and has not seen done.
 *
 * A worker's Load says how it was up to a quarter of a second ago; meanwhile hundreds of requests
 * may be placed. So each request is charged to its worker when it is sent there, and settled as its
 * tokens come back. Reading a prompt and writing an answer are kept apart, since a device does the
 * first ten to fifty times as fast. What a Load speaks of and nobody here charged is another
 * router's: it counts too.
 *
 * The ledger is part of a worker, the charge of a request. Pure. Loop thread. */
#ifndef GAGGLE_ROUTER_WORK_LEDGER_H
#define GAGGLE_ROUTER_WORK_LEDGER_H

#include "proto/envelope.h"

/* What one request is still charged for. {0} is nothing. */
typedef struct work_charge {
    uint32_t prefill_tokens; /* of its prompt, to be read: until its first token comes */
    uint32_t decode_tokens;  /* of its answer, to be written */
} work_charge;

typedef struct work_ledger {
    uint64_t prefill_tokens, decode_tokens; /* sums of the charges */
    uint64_t kv_tokens_since_load;          /* that what was placed since may come to hold */
    uint32_t foreign_streams;               /* at the last Load */
    bool was_reported;                      /* a Load came */
} work_ledger;                              /* {0} is empty */

/* A request is sent to the worker, which is expected to read `prefill_tokens` of its prompt (the
 * rest is in its cache) and to write `decode_tokens`. `charge` is {0} before. */
void work_ledger_charge(work_ledger *l, work_charge *charge, uint32_t prefill_tokens,
                        uint32_t decode_tokens);

/* `tokens` of its answer came, at least one. */
void work_ledger_progress(work_ledger *l, work_charge *charge, uint32_t tokens);

/* It is finished, or no longer this worker's: `charge` is {0} again. May be called again. */
void work_ledger_settle(work_ledger *l, work_charge *charge);

/* A Load came; `streams` are those that we placed there and know unfinished. */
void work_ledger_report(work_ledger *l, const msg_load *load, uint32_t streams);

#endif
