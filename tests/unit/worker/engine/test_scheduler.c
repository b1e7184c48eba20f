/* Goal: each step is within its limits, decodes go first, the best sequence always moves on, blocks
 * are taken from the right victim, and everybody with credit ends.
 * Method: hand-made situations, and thousands of random steps in which each promise of scheduler.h
 * is checked and each sequence must end within a bounded number of steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"
#include "tests/unit/worker/engine/test_random.h"
#include "worker/engine/scheduler.h"

enum { SEQUENCES = 16, STEP_MAX = 64 };

typedef struct rig {
    kv_blocks *kv;
    prefix_cache *cache;
    scheduler *scheduler;
    sequence sequences[SEQUENCES];
    scheduled plan[STEP_MAX];
    uint32_t plan_count;
    uint32_t step_tokens, sequences_max;
} rig;

static void rig_open(rig *g, uint32_t blocks, bool cached, uint32_t step_tokens,
                     uint32_t sequences_max)
{
    memset(g, 0, sizeof *g);
    g->kv = kv_blocks_create(blocks);
    g->cache = prefix_cache_create(g->kv, cached);
    g->scheduler = scheduler_create(g->cache, step_tokens, sequences_max, SEQUENCES);
    g->step_tokens = step_tokens;
    g->sequences_max = sequences_max;
}

static void rig_close(rig *g)
{
    scheduler_destroy(g->scheduler);
    prefix_cache_destroy(g->cache);
    kv_blocks_destroy(g->kv);
}

static void add(rig *g, uint32_t i, int32_t priority, uint32_t id_count, uint32_t salt)
{
    uint32_t ids[512];
    for (uint32_t k = 0; k < id_count; k++)
        ids[k] = k < salt ? 1 : 1000 * i + k;
    static uint64_t arrivals;
    sequence_init(&g->sequences[i], i, arrivals++, priority, ids, id_count);
    scheduler_add(g->scheduler, &g->sequences[i]);
}

static void remove_sequence(rig *g, uint32_t i)
{
    scheduler_remove(g->scheduler, &g->sequences[i]);
    sequence_fini(&g->sequences[i]);
}

/* Plan a step; nobody's state changes but by the plan. */
static void plan(rig *g)
{
    g->plan_count = scheduler_plan(g->scheduler, g->plan);
    scheduler_verify(g->scheduler);
}

static void run_planned(rig *g)
{
    for (uint32_t i = 0; i < g->plan_count; i++) {
        sequence *q = g->plan[i].sequence;
        scheduler_submitted(g->scheduler, q, g->plan[i].token_count);
        if (q->known_count < q->id_count) scheduler_resolve(g->scheduler, q, 7);
        scheduler_verify(g->scheduler);
    }
}

/* Tokens that the plan gives to sequence `i`; 0: it is not in it. */
static uint32_t share_of(const rig *g, uint32_t i)
{
    for (uint32_t k = 0; k < g->plan_count; k++)
        if (g->plan[k].sequence == &g->sequences[i]) return g->plan[k].token_count;
    return 0;
}

static void test_decodes_go_before_prefill_chunks(void **state)
{
    (void)state;
    rig g;
    rig_open(&g, 64, false, 20, 4);
    add(&g, 0, 0, 10, 0);
    add(&g, 1, 0, 5, 0);
    plan(&g);
    assert_int_equal(share_of(&g, 0), 10);
    assert_int_equal(share_of(&g, 1), 5);
    run_planned(&g);
    add(&g, 2, 5, 50, 0); /* a better priority does not come before decodes */
    add(&g, 3, 0, 50, 0);
    plan(&g);
    assert_ptr_equal(g.plan[0].sequence, &g.sequences[0]);
    assert_ptr_equal(g.plan[1].sequence, &g.sequences[1]);
    assert_int_equal(share_of(&g, 2), 18);
    assert_int_equal(share_of(&g, 3), 0);
    run_planned(&g);
    plan(&g);
    assert_int_equal(share_of(&g, 2), 18);
    run_planned(&g);
    plan(&g);
    assert_int_equal(share_of(&g, 2), 14);
    assert_int_equal(share_of(&g, 3), 4);
    for (uint32_t i = 0; i < 4; i++)
        remove_sequence(&g, i);
    rig_close(&g);
}

static void test_the_parked_then_the_worst_lose_their_blocks(void **state)
{
    (void)state;
    rig g;
    rig_open(&g, 6, false, 64, 4);
    add(&g, 2, 0, 15, 0);
    g.sequences[2].id_limit = 16; /* credit for one token */
    add(&g, 0, 0, 16, 0);
    add(&g, 1, 0, 16, 0);
    plan(&g);
    assert_int_equal(g.plan_count, 3);
    run_planned(&g);
    assert_int_equal(g.sequences[2].state, SEQUENCE_PARKED);

    /* 0 and 1 take their second blocks, which leaves 1: too little for 3 and one in reserve for
     * each of them. The parked one goes, though it ranks first; it is not enough yet. */
    add(&g, 3, 0, 16, 0);
    plan(&g);
    assert_int_equal(share_of(&g, 0), 1);
    assert_int_equal(share_of(&g, 1), 1);
    assert_int_equal(share_of(&g, 3), 0);
    assert_int_equal(g.sequences[2].state, SEQUENCE_WAITING);
    assert_int_equal(scheduler_preemptions(g.scheduler), 1);

    /* Nobody is parked any more: at its fourth block, 0 pushes out 1, which ranks behind it. */
    while (g.sequences[0].id_count < 49) {
        assert_int_equal(g.sequences[1].state, SEQUENCE_RUNNING);
        run_planned(&g);
        plan(&g);
        assert_int_equal(share_of(&g, 0), 1);
    }
    assert_int_equal(g.sequences[1].state, SEQUENCE_WAITING);
    assert_int_equal(scheduler_preemptions(g.scheduler), 2);
    for (uint32_t i = 0; i < 4; i++)
        remove_sequence(&g, i);
    rig_close(&g);
}

/* When the worst one needs a block it misses steps, with its blocks kept; it pushes out no one. */
static void test_the_worst_waits_for_a_block(void **state)
{
    (void)state;
    rig g;
    rig_open(&g, 4, false, 64, 4);
    add(&g, 0, 0, 10, 0);
    add(&g, 1, 0, 16, 0);
    do {
        plan(&g);
        assert_int_equal(g.plan_count, 2);
        run_planned(&g);
    } while (g.sequences[1].id_count < 33);
    for (uint32_t i = 0; i < 3; i++) {
        plan(&g);
        assert_int_equal(share_of(&g, 0), 1);
        assert_int_equal(share_of(&g, 1), 0);
        run_planned(&g);
    }
    assert_int_equal(g.sequences[1].computed, 32);
    assert_int_equal(scheduler_preemptions(g.scheduler), 0);
    remove_sequence(&g, 0);
    plan(&g);
    assert_int_equal(share_of(&g, 1), 1);
    remove_sequence(&g, 1);
    rig_close(&g);
}

/* -- random steps --------------------------------------------------------------------------- */

static const sequence *best_runnable(const rig *g, const bool *live)
{
    const sequence *best = NULL;
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        const sequence *q = &g->sequences[i];
        if (!live[i] || q->state != SEQUENCE_RUNNING) continue;
        if (best == NULL || sequence_before(q, best)) best = q;
    }
    return best;
}

static void check_plan(const rig *g)
{
    uint32_t tokens = 0;
    assert_true(g->plan_count <= g->sequences_max);
    for (uint32_t i = 0; i < g->plan_count; i++) {
        const sequence *q = g->plan[i].sequence;
        uint32_t share = g->plan[i].token_count;
        assert_int_equal(q->state, SEQUENCE_RUNNING);
        assert_true(share >= 1 && share <= sequence_remaining(q));
        assert_true(q->computed + share <= q->block_count * LIMIT_KV_BLOCK_TOKENS);
        tokens += share;
        for (uint32_t k = 0; k < i; k++)
            assert_ptr_not_equal(q, g->plan[k].sequence);
        /* Decodes stand in front. */
        if (i > 0 && sequence_remaining(q) == 1 && sequence_remaining(g->plan[i - 1].sequence) > 1)
            assert_true(q->computed % LIMIT_KV_BLOCK_TOKENS ==
                        0); /* by what it just found cached */
    }
    assert_true(tokens <= g->step_tokens);
}

static void random_scheduling(uint32_t seed)
{
    test_random r = {seed};
    rig g;
    uint32_t step_tokens = random_between(&r, 1, 40);
    uint32_t slots = random_between(&r, 1, step_tokens < 8 ? step_tokens : 8);
    rig_open(&g, random_between(&r, 8, 20), random_below(&r, 2), step_tokens, slots);
    bool live[SEQUENCES] = {0};
    uint32_t ends_at[SEQUENCES];
    for (uint64_t step = 0; step < 2000; step++) {
        bool filling = step < 1500;
        uint32_t i = random_below(&r, SEQUENCES);
        if (filling && !live[i] && random_below(&r, 3) == 0) {
            uint32_t ids = random_between(&r, 1, 100);
            add(&g, i, (int32_t)random_below(&r, 3), ids, random_below(&r, 100));
            ends_at[i] = ids + random_between(&r, 1, 28); /* at most 8 blocks */
            if (random_below(&r, 3) == 0) g.sequences[i].id_limit = ids + random_below(&r, 4);
            live[i] = true;
        }
        i = random_below(&r, SEQUENCES);
        if (live[i] && random_below(&r, filling ? 4 : 1) == 0)
            scheduler_credit(g.scheduler, &g.sequences[i],
                             filling ? g.sequences[i].id_count + random_below(&r, 3) : UINT32_MAX);
        if (live[i] && filling && random_below(&r, 50) == 0) {
            remove_sequence(&g, i);
            live[i] = false;
        }
        const sequence *best = best_runnable(&g, live);
        plan(&g);
        check_plan(&g);
        if (best != NULL) assert_true(share_of(&g, (uint32_t)(best - g.sequences)) > 0);
        if (g.plan_count == 0)
            for (uint32_t k = 0; k < SEQUENCES; k++)
                assert_true(!live[k] || !sequence_has_credit(&g.sequences[k]));
        run_planned(&g);
        for (uint32_t k = 0; k < SEQUENCES; k++) {
            if (!live[k] || g.sequences[k].id_count < ends_at[k]) continue;
            remove_sequence(&g, k);
            live[k] = false;
        }
    }
    /* Nothing new for 500 steps, and credit for all: nobody may be left. */
    uint32_t left = 0;
    for (uint32_t k = 0; k < SEQUENCES; k++)
        left += live[k];
    for (uint32_t more = 0; left > 0; more++) {
        assert_true(more < 20000);
        for (uint32_t k = 0; k < SEQUENCES; k++)
            if (live[k]) scheduler_credit(g.scheduler, &g.sequences[k], UINT32_MAX);
        plan(&g);
        check_plan(&g);
        assert_true(g.plan_count > 0);
        run_planned(&g);
        for (uint32_t k = 0; k < SEQUENCES; k++) {
            if (!live[k] || g.sequences[k].id_count < ends_at[k]) continue;
            remove_sequence(&g, k);
            live[k] = false;
            left--;
        }
    }
    assert_int_equal(prefix_cache_available(g.cache), kv_blocks_count(g.kv));
    rig_close(&g);
}

static void test_random_scheduling_keeps_its_promises(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 60; seed++)
        random_scheduling(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decodes_go_before_prefill_chunks),
        cmocka_unit_test(test_the_parked_then_the_worst_lose_their_blocks),
        cmocka_unit_test(test_the_worst_waits_for_a_block),
        cmocka_unit_test(test_random_scheduling_keeps_its_promises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
