/* Goal: a number on a worker's link means one request, and after that no other one for as long as
 * a late message may live; a worker that registers anew is described anew and keeps its streams.
 * Method: thousands of random openings and closings beside a plain list of numbers, every number
 * that ever was among them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "router/worker_table.h"
#include "tests/unit/worker/engine/test_random.h"

static worker *register_worker(worker_table *t, const char *id, const char *const *models,
                               size_t model_count)
{
    msg_model offered[LIMIT_MODELS_PER_WORKER];
    for (size_t i = 0; i < model_count; i++)
        offered[i] =
            (msg_model){.name = text_of(models[i]), .revision = text_of("r1"), .context_max = 1000};
    const msg_register said = {.worker_id = text_of(id),
                               .device = text_of("cpu: a test"),
                               .models = offered,
                               .model_count = model_count,
                               .slots = 4,
                               .kv_blocks = 100,
                               .kv_block_tokens = 16};
    return worker_table_register(t, &said);
}

static const char *const one_model[] = {"m"};

/* -- streams ------------------------------------------------------------------------------ */

enum { OPEN_MAX = 300, PAST_MAX = 20000 };

static void test_numbers_mean_one_request_and_no_later_one(void **state)
{
    (void)state;
    static request requests[OPEN_MAX];
    static uint32_t past[PAST_MAX];
    for (uint64_t seed = 1; seed <= 10; seed++) {
        test_random random = {seed};
        worker_table t = {0};
        worker *w = register_worker(&t, "w", one_model, 1);
        uint32_t numbers[OPEN_MAX] = {0}, past_count = 0;
        for (int step = 0; step < 15000; step++) {
            uint32_t i = random_below(&random, OPEN_MAX);
            if (numbers[i] == 0) {
                assert_true(worker_open_stream(w, &requests[i]));
                numbers[i] = requests[i].worker_stream;
                assert_int_not_equal(numbers[i], 0);
                for (uint32_t j = 0; j < OPEN_MAX; j++)
                    assert_true(j == i || numbers[j] != numbers[i]);
            } else {
                worker_close_stream(w, &requests[i]);
                assert_int_equal(requests[i].worker_stream, 0);
                past[past_count++] = numbers[i];
                numbers[i] = 0;
            }
            i = random_below(&random, OPEN_MAX);
            if (numbers[i] != 0) assert_ptr_equal(worker_find_stream(w, numbers[i]), &requests[i]);
            if (past_count > 0)
                assert_null(worker_find_stream(w, past[random_below(&random, past_count)]));
        }
        for (uint32_t i = 0; i < past_count; i++)
            assert_null(worker_find_stream(w, past[i]));
        memset(requests, 0, sizeof requests);
        worker_table_free(&t);
    }
}

static void test_numbers_nobody_gave_out_find_nothing(void **state)
{
    (void)state;
    worker_table t = {0};
    worker *w = register_worker(&t, "w", one_model, 1);
    assert_null(worker_find_stream(w, 0));
    assert_null(worker_find_stream(w, UINT32_MAX));
    request r = {0};
    assert_true(worker_open_stream(w, &r));
    uint32_t number = r.worker_stream;
    test_random random = {3};
    for (int i = 0; i < 100000; i++) {
        uint32_t guess = (uint32_t)random_next(&random);
        assert_ptr_equal(worker_find_stream(w, guess), guess == number ? &r : NULL);
    }
    for (uint32_t guess = 0; guess < 3 * LIMIT_STREAMS_PER_LINK; guess++)
        assert_ptr_equal(worker_find_stream(w, guess), guess == number ? &r : NULL);
    worker_table_free(&t);
}

static void test_a_link_has_so_many_streams_and_no_more(void **state)
{
    (void)state;
    static request requests[LIMIT_STREAMS_PER_LINK];
    static request more;
    worker_table t = {0};
    worker *w = register_worker(&t, "w", one_model, 1);
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < LIMIT_STREAMS_PER_LINK; i++) {
            assert_true(worker_open_stream(w, &requests[i]));
            assert_int_not_equal(requests[i].worker_stream, 0);
        }
        assert_false(worker_open_stream(w, &more));
        for (uint32_t i = 0; i < LIMIT_STREAMS_PER_LINK; i++)
            assert_ptr_equal(worker_find_stream(w, requests[i].worker_stream), &requests[i]);
        uint32_t before = requests[7].worker_stream;
        worker_close_stream(w, &requests[7]);
        assert_true(worker_open_stream(w, &requests[7]));
        assert_int_not_equal(requests[7].worker_stream, before);
        assert_null(worker_find_stream(w, before));
        assert_false(worker_open_stream(w, &more));
        for (uint32_t i = 0; i < LIMIT_STREAMS_PER_LINK; i++)
            worker_close_stream(w, &requests[i]);
    }
    worker_table_free(&t);
}

/* The same slot a million times: its number wraps, but is never 0 and never two in a row. */
static void test_a_worn_slot_never_gives_zero(void **state)
{
    (void)state;
    worker_table t = {0};
    worker *w = register_worker(&t, "w", one_model, 1);
    request r = {0};
    uint32_t before = 0, first = 0, repeats = 0;
    for (uint32_t i = 0; i < (1u << 20) + 100; i++) {
        assert_true(worker_open_stream(w, &r));
        uint32_t number = r.worker_stream;
        if (i == 0) first = number;
        assert_true(number != 0 && number != before);
        assert_ptr_equal(worker_find_stream(w, number), &r);
        if (before != 0) assert_null(worker_find_stream(w, before));
        repeats += i > 0 && number == first;
        worker_close_stream(w, &r);
        before = number;
    }
    assert_int_equal(repeats, 1); /* not before all others had their turn */
    worker_table_free(&t);
}

static bool closing_ends_the_process(uint32_t times)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        close(STDERR_FILENO);
        worker_table t = {0};
        worker *w = register_worker(&t, "w", one_model, 1);
        request r = {0};
        if (!worker_open_stream(w, &r)) _exit(0);
        for (uint32_t i = 0; i < times; i++)
            worker_close_stream(w, &r);
        _exit(0);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    return !(WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

static void test_closing_twice_is_caught(void **state)
{
    (void)state;
    assert_false(closing_ends_the_process(1));
    assert_true(closing_ends_the_process(2));
}

/* -- workers ------------------------------------------------------------------------------ */

static void test_registering_again_describes_anew_and_keeps_streams(void **state)
{
    (void)state;
    worker_table t = {0};
    const char *const two_models[] = {"a", "b"};
    worker *w = register_worker(&t, "w", two_models, 2);
    request r = {0};
    assert_true(worker_open_stream(w, &r));
    w->draining = true;
    assert_non_null(worker_find_model(w, text_of("a")));
    assert_string_equal(worker_find_model(w, text_of("b"))->revision, "r1");
    assert_null(worker_find_model(w, text_of("m")));
    assert_null(worker_find_model(w, text_of("")));
    assert_null(worker_find_model(w, text_of("aa")));

    assert_ptr_equal(register_worker(&t, "w", one_model, 1), w);
    assert_int_equal(t.count, 1);
    assert_int_equal(w->model_count, 1);
    assert_false(w->draining);
    assert_non_null(worker_find_model(w, text_of("m")));
    assert_null(worker_find_model(w, text_of("a")));
    assert_ptr_equal(worker_find_stream(w, r.worker_stream), &r);
    worker_table_free(&t);
}

static void test_workers_are_found_until_they_are_removed(void **state)
{
    (void)state;
    enum { WORKERS = 60 };
    worker_table t = {0};
    worker *all[WORKERS] = {NULL};
    test_random random = {11};
    for (int step = 0; step < 5000; step++) {
        uint32_t i = random_below(&random, WORKERS);
        char id[16];
        snprintf(id, sizeof id, "worker-%u", i);
        if (all[i] == NULL) {
            all[i] = register_worker(&t, id, one_model, 1);
            assert_ptr_equal(t.all[t.count - 1], all[i]); /* in the order they came */
        } else if (random_below(&random, 2) == 0) {
            worker_table_remove(&t, all[i]);
            all[i] = NULL;
        }
        size_t count = 0;
        for (uint32_t j = 0; j < WORKERS; j++) {
            snprintf(id, sizeof id, "worker-%u", j);
            assert_ptr_equal(worker_table_find(&t, text_of(id)), all[j]);
            count += all[j] != NULL;
        }
        assert_int_equal(t.count, count);
    }
    assert_null(worker_table_find(&t, text_of("worker-")));
    assert_null(worker_table_find(&t, text_of("")));
    worker_table_free(&t);
}

static void test_the_table_is_bounded(void **state)
{
    (void)state;
    worker_table t = {0};
    char id[16];
    for (uint32_t i = 0; i < LIMIT_WORKERS; i++) {
        snprintf(id, sizeof id, "w%u", i);
        assert_non_null(register_worker(&t, id, one_model, 1));
    }
    assert_null(register_worker(&t, "one more", one_model, 1));
    assert_non_null(register_worker(&t, "w5", one_model, 1)); /* known: no new one */
    worker_table_remove(&t, worker_table_find(&t, text_of("w5")));
    assert_non_null(register_worker(&t, "one more", one_model, 1));
    worker_table_free(&t);
    worker_table_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_mean_one_request_and_no_later_one),
        cmocka_unit_test(test_numbers_nobody_gave_out_find_nothing),
        cmocka_unit_test(test_a_link_has_so_many_streams_and_no_more),
        cmocka_unit_test(test_a_worn_slot_never_gives_zero),
        cmocka_unit_test(test_closing_twice_is_caught),
        cmocka_unit_test(test_registering_again_describes_anew_and_keeps_streams),
        cmocka_unit_test(test_workers_are_found_until_they_are_removed),
        cmocka_unit_test(test_the_table_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
