#include "bench/placement/cost.h"

#include <math.h>
#include <stdio.h>

#include "common/check.h"
#include "common/clock.h"
#include "router/placement.h"
#include "tests/unit/worker/engine/test_random.h"

/* Enough that neither prompts nor their hashes stay in the caches. */
enum { PROMPTS = 256, ROUNDS = 8 };

static void join(worker_table *t, prefix_table *prefixes, uint32_t number)
{
    static char link; /* placement only asks whether there is one */
    char id[32];
    snprintf(id, sizeof id, "worker-%u", number);
    const msg_model model = {.name = text_of("meta-llama/Llama-3.1-8B-Instruct"),
                             .context_max = LIMIT_CONTEXT_TOKENS};
    const msg_register said = {.worker_id = text_of(id),
                               .models = &model,
                               .model_count = 1,
                               .slots = LIMIT_STREAMS_PER_LINK / 2,
                               .kv_blocks = 50000,
                               .kv_block_tokens = LIMIT_KV_BLOCK_TOKENS};
    worker *w = worker_table_register(t, &said);
    w->link = (struct core_link *)(void *)&link;
    w->load = (msg_load){.prefill_rate = 10000 + number,
                         .decode_rate = 1000,
                         .kv_blocks_free = 40000,
                         .running = 10};
    work_ledger_report(&w->work, &w->load, 0);
    w->prefix_holder = prefix_table_join(prefixes);
}

placement_times cost_measure(uint32_t workers, uint32_t prompt_bytes)
{
    worker_table table = {0};
    prefix_table *prefixes = prefix_table_create(LIMIT_PREFIX_ENTRIES);
    for (uint32_t i = 0; i < workers; i++)
        join(&table, prefixes, i);
    char *texts = mem_alloc((size_t)PROMPTS * prompt_bytes);
    test_random random = {1};
    for (size_t i = 0; i < (size_t)PROMPTS * prompt_bytes; i++)
        texts[i] = (char)('a' + random_below(&random, 26));

    const placement_history history = placement_history_default();
    placement_times best = {INFINITY, INFINITY, INFINITY};
    for (uint32_t round = 0; round <= ROUNDS; round++) {
        uint64_t hash_ns = 0, decide_ns = 0, record_ns = 0;
        for (uint32_t i = 0; i < PROMPTS; i++) {
            const msg_submit submit = {.model = text_of("meta-llama/Llama-3.1-8B-Instruct"),
                                       .has_text = true,
                                       .text = {texts + (size_t)i * prompt_bytes, prompt_bytes}};
            uint64_t begin_ns = clock_now_ns();
            prefix_chain *prompt = prefix_chain_create(&submit, 1);
            uint64_t hashed_ns = clock_now_ns();
            const placement_request r = {.model = submit.model, .prompt = prompt, .number = i};
            placement_choice choice;
            CHECK(placement_decide(&table, prefixes, &history, &r, round, &choice) == PLACEMENT_OK);
            uint64_t decided_ns = clock_now_ns();
            prefix_table_record(prefixes, prompt->chunk, prompt->count,
                                choice.worker->prefix_holder, round);
            record_ns += clock_now_ns() - decided_ns;
            decide_ns += decided_ns - hashed_ns;
            hash_ns += hashed_ns - begin_ns;
            mem_free(prompt);
        }
        if (round == 0) continue; /* it has filled the table */
        best.hash_us = fmin(best.hash_us, (double)hash_ns / PROMPTS / 1000);
        best.decide_us = fmin(best.decide_us, (double)decide_ns / PROMPTS / 1000);
        best.record_us = fmin(best.record_us, (double)record_ns / PROMPTS / 1000);
    }
    mem_free(texts);
    worker_table_free(&table);
    prefix_table_destroy(prefixes);
    return best;
}
