/* placement: which worker runs a request. A pure function of the worker table and of what the
 * prefix_table believes; it has no clock, no randomness and no state of its own.
 *
 * Each worker that is connected, not draining, offers the model and has room is asked for the
 * seconds until it would be done with the request, by its own measured speeds:
 *
 *     seconds = ahead + own / free
 *     ahead     what other requests have left for it to read and to write (work_ledger.h)
 *     own       what it would have to read of this prompt, which is what its cache has not, and to
 *               write
 *     free      the share of its KV memory that would be left: short memory means waiting, and
 *               doing things twice
 *
 * where reading goes at the worker's prefill rate and writing at its decode rate with all slots
 * busy. The fewest seconds win. So unlike devices share a fleet by ability, and a cached beginning
 * counts for the time that it saves: never enough to overload the worker that has it. Among workers
 * within 2 % of the best the request's own number decides, so that an idle fleet is used evenly.
 *
 * A speed that a worker has not measured yet is taken from its last step, else from its peers, slot
 * by slot; where nobody knows any, all slots are equal.
 *
 * Cost: O(workers) and O(chunks of the prompt); see gaggle-bench-placement. Loop thread. */
#ifndef GAGGLE_ROUTER_PLACEMENT_H
#define GAGGLE_ROUTER_PLACEMENT_H

#include "router/prefix_chain.h"
#include "router/prefix_table.h"
#include "router/worker_table.h"

typedef enum placement_outcome {
    PLACEMENT_OK,
    PLACEMENT_FULL,      /* workers offer the model, all are full or away: wait */
    PLACEMENT_LEASE_END, /* those with room will be gone before this request is done: wait */
    PLACEMENT_NO_MODEL,  /* nobody offers it */
} placement_outcome;

/* What an empty model name stands for: the name that all workers' offers share; empty when there
 * are several, or none. */
text_view placement_only_model(const worker_table *workers);

/* Does anybody offer it, be they full or away? */
bool placement_is_offered(const worker_table *workers, text_view model);

/* Does anybody offer it, full or away, whose end is not known? */
bool placement_is_lasting(const worker_table *workers, text_view model);

/* Requests a worker is given at once: its slots and a few more, so that a finished sequence's
 * place is taken without waiting for a round trip. */
uint32_t placement_stream_limit(const worker *w);

/* What a request will cost in tokens, as far as a router without a tokenizer can tell. */
uint32_t placement_cost(const msg_submit *submit);

/* How much of such cost all that offer its model get done in a second; 0 while nobody knows. */
uint32_t placement_rate(const worker_table *workers, const msg_submit *submit);

/* What a router without a tokenizer has learned of this fleet's requests: moving averages. */
typedef struct placement_history {
    double bytes_per_token; /* of prompts that come as text */
    double answer_tokens;
} placement_history;

placement_history placement_history_default(void);

/* A request finished: what its Finish says. Prompts of ids teach nothing about text, and answers
 * that did not end by themselves or by their limit nothing about lengths. */
void placement_learn(placement_history *h, const prefix_chain *prompt, const msg_finish *finish);

/* A request, as placement sees it. */
typedef struct placement_request {
    text_view model;
    const prefix_chain *prompt;
    uint32_t prior_tokens; /* of its answer, that it has already: read together with the prompt */
    uint32_t max_tokens;   /* as the Submit has it: prior tokens included; 0 = not said */
    uint64_t number;       /* any, but not the same for all */
    bool ending_too;       /* workers that end before it does will do: it is handed over then */
    uint32_t numerics; /* of who began the answer: equal ones come first; 0 = makes no difference */
} placement_request;

typedef struct placement_choice {
    worker *worker;
    double seconds;
    bool is_exact;        /* as `numerics` asks */
    prefix_belief cached; /* of the prompt; for prefix_table_correct() */
    /* As estimated for this worker: */
    uint32_t prefill_tokens, decode_tokens; /* for work_ledger_charge() */
} placement_choice;

/* Choose for `r`. `out` is written when PLACEMENT_OK.
 *
 * A worker whose lease ends, or which leaves, before the request would is passed over. One whose
 * context the prompt seems not to fit is chosen only where no other has room: it knows better, and
 * says so. */
placement_outcome placement_decide(const worker_table *workers, const prefix_table *prefixes,
                                   const placement_history *history, const placement_request *r,
                                   uint64_t now_ms, placement_choice *out);

#endif
