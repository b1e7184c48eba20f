/* Goal: a request goes to the worker with the least work per slot that can take it, and when none
 * can it is said whether waiting helps.
 * Method: each rule alone, then thousands of random fleets against a choice made the slow way, in
 * exact fractions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "router/placement.h"
#include "tests/unit/worker/engine/test_random.h"

static char any_link; /* placement only asks whether there is one */

static worker *add_worker(worker_table *t, const char *const *models, size_t model_count,
                          uint32_t slots)
{
    char id[32];
    snprintf(id, sizeof id, "worker-%zu", t->count);
    msg_model offered[LIMIT_MODELS_PER_WORKER];
    for (size_t i = 0; i < model_count; i++)
        offered[i] = (msg_model){.name = text_of(models[i])};
    const msg_register said = {
        .worker_id = text_of(id), .models = offered, .model_count = model_count, .slots = slots};
    worker *w = worker_table_register(t, &said);
    w->link = (struct core_link *)(void *)&any_link;
    return w;
}

static const char *const model_m[] = {"m"};
static const char *const model_n[] = {"n"};
static const char *const models_m_n[] = {"m", "n"};

static void assert_placed(const worker_table *t, const char *model, const worker *expected)
{
    worker *w = NULL;
    assert_int_equal(placement_choose(t, text_of(model), &w), PLACEMENT_OK);
    assert_ptr_equal(w, expected);
}

static void assert_not_placed(const worker_table *t, const char *model, placement_outcome expected)
{
    worker *untouched = (worker *)(void *)&any_link, *w = untouched;
    assert_int_equal(placement_choose(t, text_of(model), &w), expected);
    assert_ptr_equal(w, untouched);
}

static void test_least_work_per_slot_wins(void **state)
{
    (void)state;
    worker_table t = {0};
    worker *small = add_worker(&t, model_m, 1, 2);
    worker *large = add_worker(&t, model_m, 1, 20);
    assert_placed(&t, "m", small); /* equal: the one registered first */
    small->outstanding_tokens = 10;
    large->outstanding_tokens = 90;
    assert_placed(&t, "m", large); /* 4.5 a slot against 5 */
    large->outstanding_tokens = 100;
    assert_placed(&t, "m", small);
    large->outstanding_tokens = 110;
    assert_placed(&t, "m", small);
    worker_table_free(&t);
}

static void test_only_those_who_offer_the_model(void **state)
{
    (void)state;
    worker_table t = {0};
    assert_not_placed(&t, "m", PLACEMENT_NO_MODEL);
    worker *m = add_worker(&t, model_m, 1, 2);
    worker *n = add_worker(&t, model_n, 1, 2);
    m->outstanding_tokens = 1000;
    assert_placed(&t, "m", m);
    assert_placed(&t, "n", n);
    assert_not_placed(&t, "o", PLACEMENT_NO_MODEL);
    assert_not_placed(&t, "M", PLACEMENT_NO_MODEL);
    assert_not_placed(&t, "mm", PLACEMENT_NO_MODEL);
    worker_table_free(&t);
}

static void test_full_draining_and_away_mean_wait(void **state)
{
    (void)state;
    worker_table t = {0};
    worker *w = add_worker(&t, model_m, 1, 4);
    w->streams = placement_stream_limit(w) - 1;
    assert_placed(&t, "m", w);
    w->streams++;
    assert_not_placed(&t, "m", PLACEMENT_FULL);
    w->streams = 0;
    w->draining = true;
    assert_not_placed(&t, "m", PLACEMENT_FULL);
    w->draining = false;
    w->link = NULL;
    assert_not_placed(&t, "m", PLACEMENT_FULL);
    worker *other = add_worker(&t, model_m, 1, 4);
    other->outstanding_tokens = 100000;
    assert_placed(&t, "m", other);
    worker_table_free(&t);
}

/* Which model an answer comes from must not depend on who happens to be free. */
static void test_the_empty_name_stands_for_the_only_model(void **state)
{
    (void)state;
    worker_table t = {0};
    assert_int_equal(placement_only_model(&t).size, 0);
    add_worker(&t, model_m, 1, 2);
    assert_true(text_equal(placement_only_model(&t), text_of("m")));
    add_worker(&t, model_m, 1, 2);
    assert_true(text_equal(placement_only_model(&t), text_of("m")));
    assert_not_placed(&t, "", PLACEMENT_NO_MODEL); /* itself it is no name */
    add_worker(&t, model_n, 1, 2);
    assert_int_equal(placement_only_model(&t).size, 0);
    worker_table_free(&t);

    add_worker(&t, models_m_n, 2, 2);
    assert_int_equal(placement_only_model(&t).size, 0);
    worker_table_free(&t);
}

static void test_a_worker_without_slots_gets_nothing(void **state)
{
    (void)state;
    worker_table t = {0};
    const worker *none = add_worker(&t, model_m, 1, 0);
    assert_int_equal(placement_stream_limit(none), 0);
    assert_not_placed(&t, "m", PLACEMENT_FULL);
    worker *some = add_worker(&t, model_m, 1, 1);
    assert_placed(&t, "m", some);
    worker_table_free(&t);
}

static void test_stream_limit_is_the_slots_and_a_few_more(void **state)
{
    (void)state;
    uint32_t before = 0;
    for (uint32_t slots = 1; slots < 5000; slots++) {
        uint32_t limit = placement_stream_limit(&(worker){.slots = slots});
        assert_true(limit > slots || limit == LIMIT_STREAMS_PER_LINK);
        assert_true(limit <= LIMIT_STREAMS_PER_LINK && limit >= before);
        before = limit;
    }
    const uint32_t absurd[] = {1u << 31, UINT32_MAX, UINT32_MAX - 1, 3817748707u, 3817748708u};
    for (size_t i = 0; i < sizeof absurd / sizeof *absurd; i++)
        assert_int_equal(placement_stream_limit(&(worker){.slots = absurd[i]}),
                         LIMIT_STREAMS_PER_LINK);
}

/* -- random fleets ------------------------------------------------------------------------ */

static bool offers(const worker *w, const char *model)
{
    for (size_t i = 0; i < w->model_count; i++)
        if (text_equal(text_of(w->models[i].name), text_of(model))) return true;
    return false;
}

static placement_outcome choose_slowly(const worker_table *t, const char *model, const worker **out)
{
    placement_outcome outcome = PLACEMENT_NO_MODEL;
    *out = NULL;
    for (size_t i = 0; i < t->count; i++) {
        const worker *w = t->all[i];
        if (!offers(w, model)) continue;
        if (outcome == PLACEMENT_NO_MODEL) outcome = PLACEMENT_FULL;
        if (w->link == NULL || w->draining || w->streams > w->slots + w->slots / 8) continue;
        outcome = PLACEMENT_OK;
        /* a/b < c/d by whole part, then by rest */
        if (*out != NULL) {
            uint64_t whole = w->outstanding_tokens / w->slots;
            uint64_t best = (*out)->outstanding_tokens / (*out)->slots;
            uint64_t rest = w->outstanding_tokens % w->slots * (*out)->slots;
            uint64_t best_rest = (*out)->outstanding_tokens % (*out)->slots * w->slots;
            if (whole > best || (whole == best && rest >= best_rest)) continue;
        }
        *out = w;
    }
    return outcome;
}

static void test_random_fleets(void **state)
{
    (void)state;
    const char *const *const offerings[] = {model_m, model_n, models_m_n};
    const size_t offering_counts[] = {1, 1, 2};
    test_random random = {21};
    uint32_t seen[3] = {0};
    for (int round = 0; round < 5000; round++) {
        worker_table t = {0};
        uint32_t count = random_below(&random, 7);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t offering = random_below(&random, 3);
            worker *w = add_worker(&t, offerings[offering], offering_counts[offering],
                                   random_between(&random, 1, 12));
            w->outstanding_tokens = random_below(&random, 30);
            w->streams = random_below(&random, placement_stream_limit(w) + 2);
            w->draining = random_below(&random, 4) == 0;
            if (random_below(&random, 4) == 0) w->link = NULL;
        }
        const char *model = random_below(&random, 8) == 0   ? "o"
                            : random_below(&random, 2) == 0 ? "m"
                                                            : "n";
        const worker *expected;
        worker *chosen = NULL;
        placement_outcome outcome = choose_slowly(&t, model, &expected);
        assert_int_equal(placement_choose(&t, text_of(model), &chosen), outcome);
        assert_ptr_equal(chosen, expected);
        seen[outcome]++;
        worker_table_free(&t);
    }
    assert_true(seen[PLACEMENT_OK] > 500 && seen[PLACEMENT_FULL] > 500 &&
                seen[PLACEMENT_NO_MODEL] > 500);
}

/* -- cost --------------------------------------------------------------------------------- */

static void test_cost_is_prompt_and_answer(void **state)
{
    (void)state;
    msg_submit s = {.text = text_of("0123456789abcdef"), .has_text = true, .max_tokens = 100};
    assert_int_equal(placement_cost(&s), 104);
    s.max_tokens = 0;
    assert_true(placement_cost(&s) > 4 && placement_cost(&s) < 10000);

    const msg_chat_message messages[] = {{text_of("user"), text_of("12345678")},
                                         {text_of("user"), text_of("1234")}};
    s = (msg_submit){.messages = messages, .message_count = 2, .max_tokens = 1};
    assert_int_equal(placement_cost(&s), 4);

    const uint32_t ids[7] = {0};
    s = (msg_submit){
        .ids = ids, .id_count = 7, .prior_ids = ids, .prior_count = 2, .max_tokens = 10};
    assert_int_equal(placement_cost(&s), 19);
    s.max_tokens = UINT32_MAX;
    assert_int_equal(placement_cost(&s), LIMIT_CONTEXT_TOKENS);
    s.text.size = SIZE_MAX / 2;
    assert_int_equal(placement_cost(&s), LIMIT_CONTEXT_TOKENS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_least_work_per_slot_wins),
        cmocka_unit_test(test_only_those_who_offer_the_model),
        cmocka_unit_test(test_full_draining_and_away_mean_wait),
        cmocka_unit_test(test_the_empty_name_stands_for_the_only_model),
        cmocka_unit_test(test_a_worker_without_slots_gets_nothing),
        cmocka_unit_test(test_stream_limit_is_the_slots_and_a_few_more),
        cmocka_unit_test(test_random_fleets),
        cmocka_unit_test(test_cost_is_prompt_and_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
