/* Goal: what the table believes of a worker is what was recorded of it, less what was evicted, void
 * or forgotten; its size stays bounded and the entry used longest ago goes first.
 * Method: each rule alone; then random steps against a model that keeps a plain list, with the
 * table's invariants checked on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/mem.h"
#include "router/prefix_table.h"
#include "tests/unit/worker/engine/test_random.h"

enum { TICK_MS = 64 }; /* what times are rounded down to */

static uint32_t believed(const prefix_table *t, const uint64_t *chunk, uint32_t count,
                         uint32_t holder)
{
    prefix_match match;
    prefix_table_match(t, chunk, count, &match);
    return prefix_match_chunks(&match, holder);
}

static void test_a_prompt_is_found_with_whoever_read_it(void **state)
{
    (void)state;
    prefix_table *t = prefix_table_create(100);
    uint32_t a = prefix_table_join(t), b = prefix_table_join(t);
    assert_true(a != 0 && b != 0 && a != b);
    const uint64_t chunk[] = {11, 12, 13, 14};
    const uint64_t other[] = {11, 12, 23, 24};
    assert_int_equal(believed(t, chunk, 4, a), 0);
    prefix_table_record(t, chunk, 4, a, 0);
    prefix_table_record(t, chunk, 2, b, 0);
    assert_int_equal(believed(t, chunk, 4, a), 4);
    assert_int_equal(believed(t, chunk, 3, a), 3);
    assert_int_equal(believed(t, chunk, 0, a), 0);
    assert_int_equal(believed(t, chunk, 4, b), 2);
    assert_int_equal(believed(t, other, 4, a), 2);
    assert_int_equal(believed(t, other + 2, 2, a), 0);
    assert_int_equal(believed(t, chunk, 4, 0), 0); /* a worker that never joined */
    assert_int_equal(prefix_table_count(t), 4);
    prefix_table_verify(t);
    prefix_table_destroy(t);
    prefix_table_destroy(NULL);
}

static void test_who_leaves_takes_its_entries_with_it(void **state)
{
    (void)state;
    prefix_table *t = prefix_table_create(100);
    uint32_t a = prefix_table_join(t), b = prefix_table_join(t);
    const uint64_t chunk[] = {1, 2};
    prefix_table_record(t, chunk, 2, a, 0);
    prefix_table_record(t, chunk, 2, b, 0);
    prefix_table_leave(t, a);
    assert_int_equal(believed(t, chunk, 2, a), 0);
    assert_int_equal(believed(t, chunk, 2, b), 2);
    uint32_t again = prefix_table_join(t); /* most likely in the same place */
    assert_true(again != a && again != b);
    assert_int_equal(believed(t, chunk, 2, again), 0);
    prefix_table_record(t, chunk, 1, again, 0);
    assert_int_equal(believed(t, chunk, 2, again), 1);
    prefix_table_destroy(t);
}

static void test_all_workers_may_join_and_come_back(void **state)
{
    (void)state;
    prefix_table *t = prefix_table_create(10);
    static uint32_t holder[LIMIT_WORKERS];
    for (uint32_t i = 0; i < LIMIT_WORKERS; i++)
        holder[i] = prefix_table_join(t);
    const uint64_t chunk = 5;
    prefix_table_record(t, &chunk, 1, holder[LIMIT_WORKERS - 1], 0);
    for (uint32_t i = 0; i < LIMIT_WORKERS; i++)
        assert_int_equal(believed(t, &chunk, 1, holder[i]), i == LIMIT_WORKERS - 1);
    for (uint32_t round = 0; round < 5000; round++) {
        uint32_t i = round * 7 % LIMIT_WORKERS;
        prefix_table_leave(t, holder[i]);
        uint32_t now = prefix_table_join(t);
        assert_true(now != 0 && now != holder[i]);
        holder[i] = now;
    }
    prefix_table_destroy(t);
}

static void test_what_was_used_before_the_horizon_is_void(void **state)
{
    (void)state;
    prefix_table *t = prefix_table_create(100);
    uint32_t a = prefix_table_join(t), b = prefix_table_join(t);
    const uint64_t chunk[] = {1, 2, 3};
    prefix_table_record(t, chunk, 3, a, 10000);
    prefix_table_record(t, chunk, 3, b, 10000);
    prefix_table_record(t, chunk, 1, a, 20000); /* others use the same beginning */
    prefix_table_set_horizon(t, a, 10000);
    assert_int_equal(believed(t, chunk, 3, a), 3);
    prefix_table_set_horizon(t, a, 10000 + TICK_MS);
    assert_int_equal(believed(t, chunk, 3, a), 1);
    assert_int_equal(believed(t, chunk, 3, b), 3); /* each has its own */
    prefix_table_set_horizon(t, a, 20000 + TICK_MS);
    assert_int_equal(believed(t, chunk, 3, a), 0);
    prefix_table_record(t, chunk, 2, a, 30000);
    assert_int_equal(believed(t, chunk, 3, a), 2);
    prefix_table_set_horizon(t, a, UINT32_MAX);
    assert_int_equal(believed(t, chunk, 3, a), 0);
    prefix_table_leave(t, a);
    a = prefix_table_join(t); /* most likely in the same place */
    prefix_table_record(t, chunk, 2, a, 30000);
    assert_int_equal(believed(t, chunk, 3, a), 2);
    prefix_table_destroy(t);
}

static void test_a_beginning_outlives_its_ends(void **state)
{
    (void)state;
    prefix_table *t = prefix_table_create(4);
    uint32_t a = prefix_table_join(t);
    const uint64_t chunk[] = {1, 2, 3, 4, 5, 6};
    prefix_table_record(t, chunk, 6, a, 0); /* longer than the table */
    assert_int_equal(prefix_table_count(t), 4);
    assert_int_equal(believed(t, chunk, 6, a), 4);
    const uint64_t other[] = {7, 8};
    prefix_table_record(t, other, 2, a, 0);
    assert_int_equal(believed(t, chunk, 6, a), 2);
    assert_int_equal(believed(t, other, 2, a), 2);
    prefix_table_record(t, chunk, 1, a, 0); /* used again: 2 goes before it */
    prefix_table_record(t, &other[1], 1, a, 0);
    const uint64_t third = 9;
    prefix_table_record(t, &third, 1, a, 0);
    assert_int_equal(believed(t, chunk, 6, a), 1);
    prefix_table_verify(t);
    prefix_table_destroy(t);

    t = prefix_table_create(1);
    a = prefix_table_join(t);
    prefix_table_record(t, chunk, 6, a, 0);
    assert_int_equal(prefix_table_count(t), 1);
    assert_int_equal(believed(t, chunk, 6, a), 1);
    prefix_table_verify(t);
    prefix_table_destroy(t);
}

static void test_of_many_holders_the_latest_are_named(void **state)
{
    (void)state;
    prefix_table *t = prefix_table_create(10);
    uint32_t holder[PREFIX_HOLDERS + 2];
    const uint64_t chunk = 1;
    for (uint32_t i = 0; i < PREFIX_HOLDERS + 2; i++) {
        holder[i] = prefix_table_join(t);
        prefix_table_record(t, &chunk, 1, holder[i], i * UINT64_C(1000));
    }
    for (uint32_t i = 0; i < PREFIX_HOLDERS + 2; i++)
        assert_int_equal(believed(t, &chunk, 1, holder[i]), i >= 2);
    /* One that is gone, or void, makes room before one that is not. */
    prefix_table_leave(t, holder[PREFIX_HOLDERS + 1]);
    prefix_table_record(t, &chunk, 1, holder[0], 100000);
    for (uint32_t i = 2; i < PREFIX_HOLDERS + 1; i++)
        assert_int_equal(believed(t, &chunk, 1, holder[i]), 1);
    prefix_table_set_horizon(t, holder[0], 200000);
    prefix_table_record(t, &chunk, 1, holder[1], 100000);
    for (uint32_t i = 1; i < PREFIX_HOLDERS + 1; i++)
        assert_int_equal(believed(t, &chunk, 1, holder[i]), 1);
    prefix_table_verify(t);
    prefix_table_destroy(t);
}

static void test_what_was_never_read_is_forgotten(void **state)
{
    (void)state;
    prefix_table *t = prefix_table_create(10);
    uint32_t a = prefix_table_join(t), b = prefix_table_join(t);
    const uint64_t chunk[] = {1, 2, 3, 4};
    prefix_table_record(t, chunk, 4, a, 0);
    prefix_table_record(t, chunk, 4, b, 0);
    prefix_table_forget(t, chunk, 4, a, 2);
    assert_int_equal(believed(t, chunk, 4, a), 2);
    assert_int_equal(believed(t, chunk, 4, b), 4);
    prefix_table_forget(t, chunk, 4, a, 0);
    assert_int_equal(believed(t, chunk, 4, a), 0);
    const uint64_t unknown[] = {1, 77, 78};
    prefix_table_forget(t, unknown, 3, b, 1);
    assert_int_equal(believed(t, chunk, 4, b), 4);
    prefix_table_verify(t);
    prefix_table_destroy(t);
}

/* Caches drop what was used longest ago: who has lost one thing has lost all that is older. */
static void test_a_wrong_belief_moves_the_horizon(void **state)
{
    (void)state;
    prefix_table *t = prefix_table_create(200);
    uint32_t a = prefix_table_join(t), b = prefix_table_join(t);
    const uint64_t oldest = 1, lost = 2, newer = 3;
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t holder = i == 0 ? a : b;
        prefix_table_record(t, &oldest, 1, holder, 1000);
        prefix_table_record(t, &lost, 1, holder, 20000);
        prefix_table_record(t, &newer, 1, holder, 21000);
    }
    prefix_belief belief = {
        .given_ms = 30000, .used_ms = prefix_table_used_ms(t, lost, a), .tokens = 1000};
    assert_in_range(belief.used_ms, 20000 - TICK_MS, 20000);
    prefix_table_correct(t, a, &belief, 1000);
    prefix_table_correct(t, a, &belief, 500); /* that tokens are guessed explains as much */
    assert_int_equal(believed(t, &oldest, 1, a), 1);
    prefix_table_correct(t, a, &belief, 499);
    assert_int_equal(believed(t, &oldest, 1, a), 0);
    assert_int_equal(believed(t, &lost, 1, a), 0);
    assert_int_equal(believed(t, &newer, 1, a), 1);
    assert_int_equal(believed(t, &oldest, 1, b), 1); /* each has its own */
    belief.used_ms = 1000;
    prefix_table_correct(t, a, &belief, 0); /* known already */
    assert_int_equal(believed(t, &lost, 1, a), 0);
    assert_int_equal(believed(t, &newer, 1, a), 1);
    prefix_table_set_horizon(t, a, 1000); /* it knows better */
    assert_int_equal(believed(t, &oldest, 1, a), 1);

    belief = (prefix_belief){.given_ms = 24000, .used_ms = 20000, .tokens = 1000};
    prefix_table_correct(t, b, &belief, 0); /* it may not have read it yet */
    belief = (prefix_belief){.given_ms = 24000};
    prefix_table_correct(t, b, &belief, 0); /* nothing was believed */
    assert_int_equal(believed(t, &oldest, 1, b), 1);
    assert_int_equal(prefix_table_used_ms(t, 77, a), 0);
    assert_int_equal(prefix_table_used_ms(t, oldest, 0), 0);
    prefix_table_destroy(t);
}

/* -- random steps ------------------------------------------------------------------------- */

enum { MODEL_ENTRIES = 40, MODEL_HOLDERS = 7, MODEL_PROMPTS = 12, PROMPT_CHUNKS = 9 };

typedef struct model_belief {
    uint32_t holder;
    uint64_t tick;
} model_belief;

typedef struct model_entry {
    uint64_t hash;
    model_belief beliefs[PREFIX_HOLDERS];
} model_entry;

typedef struct model {
    model_entry entries[MODEL_ENTRIES + 1]; /* the one used last comes first */
    uint32_t count;
    uint32_t holders[MODEL_HOLDERS]; /* 0: not joined */
    uint64_t horizons[MODEL_HOLDERS];
} model;

static bool model_is_void(const model *m, const model_belief *b)
{
    for (uint32_t i = 0; i < MODEL_HOLDERS; i++)
        if (b->holder != 0 && m->holders[i] == b->holder) return b->tick < m->horizons[i];
    return true;
}

static model_entry *model_find(model *m, uint64_t hash)
{
    for (uint32_t i = 0; i < m->count; i++)
        if (m->entries[i].hash == hash) return &m->entries[i];
    return NULL;
}

static void model_use(model *m, uint64_t hash, uint32_t holder, uint64_t tick)
{
    model_entry used = {.hash = hash};
    model_entry *found = model_find(m, hash);
    uint32_t at = found != NULL ? (uint32_t)(found - m->entries) : m->count;
    if (found != NULL) used = *found;
    if (found == NULL && m->count < MODEL_ENTRIES) m->count++;
    if (at == MODEL_ENTRIES) at--; /* the last one goes */
    memmove(&m->entries[1], &m->entries[0], at * sizeof *m->entries);
    uint32_t k = PREFIX_HOLDERS;
    for (uint32_t i = 0; i < PREFIX_HOLDERS; i++)
        if (used.beliefs[i].holder == holder) k = i;
    for (uint32_t i = 0; i < PREFIX_HOLDERS && k == PREFIX_HOLDERS; i++)
        if (model_is_void(m, &used.beliefs[i])) k = i;
    if (k == PREFIX_HOLDERS) {
        k = 0;
        for (uint32_t i = 1; i < PREFIX_HOLDERS; i++)
            if (used.beliefs[i].tick < used.beliefs[k].tick) k = i;
    }
    used.beliefs[k] = (model_belief){holder, tick};
    m->entries[0] = used;
}

static uint32_t model_believed(model *m, const uint64_t *chunk, uint32_t count, uint32_t holder)
{
    uint32_t deepest = 0;
    for (uint32_t i = 0; i < count; i++) {
        const model_entry *e = model_find(m, chunk[i]);
        if (e == NULL) break;
        for (uint32_t k = 0; k < PREFIX_HOLDERS; k++)
            if (e->beliefs[k].holder == holder && !model_is_void(m, &e->beliefs[k]))
                deepest = i + 1;
    }
    return deepest;
}

static void model_forget(model *m, const uint64_t *chunk, uint32_t count, uint32_t holder,
                         uint32_t kept)
{
    for (uint32_t i = kept; i < count; i++) {
        model_entry *e = model_find(m, chunk[i]);
        if (e == NULL) return;
        for (uint32_t k = 0; k < PREFIX_HOLDERS; k++)
            if (e->beliefs[k].holder == holder) e->beliefs[k] = (model_belief){0};
    }
}

/* Prompts that share beginnings with each other: chunk c of prompt p is that of prompt p / 2 where
 * c is small. Some hashes share a bucket. */
static void make_prompts(uint64_t prompts[MODEL_PROMPTS][PROMPT_CHUNKS])
{
    for (uint64_t p = 0; p < MODEL_PROMPTS; p++)
        for (uint64_t c = 0; c < PROMPT_CHUNKS; c++)
            prompts[p][c] = c < p % 5 ? prompts[p / 2][c] : (p * 100 + c + 1) << (p % 3 * 8);
}

static void random_step(prefix_table *t, model *m, test_random *random, uint64_t *now_ms,
                        uint64_t prompts[MODEL_PROMPTS][PROMPT_CHUNKS])
{
    *now_ms += random_below(random, 100);
    uint32_t i = random_below(random, MODEL_HOLDERS);
    const uint64_t *chunk = prompts[random_below(random, MODEL_PROMPTS)];
    uint32_t count = random_below(random, PROMPT_CHUNKS + 1);
    uint32_t what = random_below(random, 100);
    if (m->holders[i] == 0) {
        m->holders[i] = prefix_table_join(t);
        m->horizons[i] = 0;
    } else if (what < 2) {
        prefix_table_leave(t, m->holders[i]);
        m->holders[i] = 0;
    } else if (what < 12) {
        uint64_t oldest_ms =
            *now_ms - random_below(random, (uint32_t)(*now_ms < 5000 ? *now_ms + 1 : 5000));
        prefix_table_set_horizon(t, m->holders[i], oldest_ms);
        m->horizons[i] = oldest_ms / TICK_MS;
    } else if (what < 18) {
        uint32_t kept = random_below(random, PROMPT_CHUNKS + 1);
        prefix_table_forget(t, chunk, count, m->holders[i], kept);
        model_forget(m, chunk, count, m->holders[i], kept);
    } else {
        prefix_table_record(t, chunk, count, m->holders[i], *now_ms);
        for (uint32_t c = count; c-- > 0;)
            model_use(m, chunk[c], m->holders[i], *now_ms / TICK_MS);
    }
}

static void test_random_steps(void **state)
{
    (void)state;
    uint64_t prompts[MODEL_PROMPTS][PROMPT_CHUNKS];
    make_prompts(prompts);
    uint32_t found = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        test_random random = {seed};
        prefix_table *t = prefix_table_create(MODEL_ENTRIES);
        model m = {0};
        uint64_t now_ms = 0;
        for (int step = 0; step < 2000; step++) {
            random_step(t, &m, &random, &now_ms, prompts);
            assert_int_equal(prefix_table_count(t), m.count);
            prefix_table_verify(t);
            const uint64_t *chunk = prompts[random_below(&random, MODEL_PROMPTS)];
            for (uint32_t i = 0; i < MODEL_HOLDERS; i++) {
                if (m.holders[i] == 0) continue;
                uint32_t expected = model_believed(&m, chunk, PROMPT_CHUNKS, m.holders[i]);
                assert_int_equal(believed(t, chunk, PROMPT_CHUNKS, m.holders[i]), expected);
                found += expected > 0;
            }
        }
        prefix_table_destroy(t);
    }
    assert_true(found > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_prompt_is_found_with_whoever_read_it),
        cmocka_unit_test(test_who_leaves_takes_its_entries_with_it),
        cmocka_unit_test(test_all_workers_may_join_and_come_back),
        cmocka_unit_test(test_what_was_used_before_the_horizon_is_void),
        cmocka_unit_test(test_a_beginning_outlives_its_ends),
        cmocka_unit_test(test_of_many_holders_the_latest_are_named),
        cmocka_unit_test(test_what_was_never_read_is_forgotten),
        cmocka_unit_test(test_a_wrong_belief_moves_the_horizon),
        cmocka_unit_test(test_random_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
