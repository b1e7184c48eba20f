/* Goal: those who wait leave in the order that was promised; the queue is bounded in requests and
 * bytes; whoever is refused is told a time that has to do with how fast the queue moves.
 * Method: thousands of random pushes and removals beside a plain sorted list; the estimate against
 * made-up histories. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "router/admission.h"
#include "tests/unit/worker/engine/test_random.h"

enum { REQUESTS = 200 };

static request requests[REQUESTS];

static request *make(uint32_t i, int32_t priority, uint32_t size)
{
    request *r = &requests[i];
    mem_free(r->submit);
    *r = (request){.submit = mem_calloc(1, sizeof *r->submit + size)};
    r->submit->priority = priority;
    r->submit->size = size;
    return r;
}

static int free_requests(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        mem_free(requests[i].submit);
        requests[i] = (request){0};
    }
    return 0;
}

typedef struct model {
    request *order[REQUESTS];
    uint32_t count;
} model;

static void model_push(model *m, request *r, bool first)
{
    uint32_t at = 0;
    while (at < m->count && (m->order[at]->submit->priority > r->submit->priority ||
                             (!first && m->order[at]->submit->priority == r->submit->priority)))
        at++;
    memmove(&m->order[at + 1], &m->order[at], (m->count - at) * sizeof *m->order);
    m->order[at] = r;
    m->count++;
}

static void model_remove(model *m, uint32_t at)
{
    m->count--;
    memmove(&m->order[at], &m->order[at + 1], (m->count - at) * sizeof *m->order);
}

static void check(const admission *a, const model *m)
{
    assert_int_equal(a->count, m->count);
    uint64_t bytes = 0;
    const request *r = a->head, *previous = NULL;
    for (uint32_t i = 0; i < m->count; i++, previous = r, r = r->submit->queue_next) {
        assert_ptr_equal(r, m->order[i]);
        assert_ptr_equal(r->submit->queue_previous, previous);
        bytes += r->submit->size;
    }
    assert_null(r);
    assert_ptr_equal(a->tail, previous);
    assert_int_equal(a->bytes, bytes);
}

static void test_random_steps_keep_the_promised_order(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        test_random random = {seed};
        admission a;
        admission_init(&a, REQUESTS, UINT64_MAX);
        model m = {.count = 0};
        bool waits[REQUESTS] = {false};
        for (int step = 0; step < 3000; step++) {
            uint32_t i = random_below(&random, REQUESTS);
            if (!waits[i] && m.count < 60) {
                int32_t priority = (int32_t)random_below(&random, 5) - 2;
                if (random_below(&random, 30) == 0) priority = INT32_MIN;
                if (random_below(&random, 30) == 0) priority = INT32_MAX;
                request *r = make(i, priority, random_below(&random, 100));
                bool first = random_below(&random, 4) == 0;
                admission_push(&a, r, first);
                model_push(&m, r, first);
                waits[i] = true;
            } else if (m.count > 0) {
                uint32_t at = random_below(&random, m.count);
                request *r = m.order[at];
                admission_remove(&a, r);
                assert_null(r->submit->queue_previous);
                assert_null(r->submit->queue_next);
                model_remove(&m, at);
                waits[r - requests] = false;
            }
            check(&a, &m);
        }
    }
}

static void test_equal_priority_leaves_as_it_came(void **state)
{
    (void)state;
    admission a;
    admission_init(&a, 10, 1000);
    for (uint32_t i = 0; i < 3; i++)
        admission_push(&a, make(i, 0, 1), false);
    admission_push(&a, make(3, 5, 1), false);  /* important */
    admission_push(&a, make(4, 0, 1), true);   /* back from a lost worker */
    admission_push(&a, make(5, 5, 1), true);   /* the same, important */
    admission_push(&a, make(6, -1, 1), false); /* can wait */
    const uint32_t expected[] = {5, 3, 4, 0, 1, 2, 6};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        assert_ptr_equal(a.head, &requests[expected[i]]);
        admission_remove(&a, a.head);
    }
    assert_null(a.tail);
}

/* -- bounds ------------------------------------------------------------------------------ */

static void test_the_queue_is_bounded_in_requests(void **state)
{
    (void)state;
    admission a;
    admission_init(&a, 3, 1000);
    error err = {0};
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(admission_check(&a, 1, &err), ST_OK);
        admission_push(&a, make(i, 0, 1), false);
    }
    assert_int_equal(admission_check(&a, 0, &err), ST_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(err.text, "3 requests wait, the limit is 3"));
    assert_true(err.retry_after_ms > 0);
    assert_int_equal(admission_check(&a, 0, NULL), ST_RESOURCE_EXHAUSTED);
    /* What comes back from a lost worker was admitted before: it may exceed. */
    admission_push(&a, make(3, 0, 1), true);
    assert_int_equal(a.count, 4);
    admission_remove(&a, a.head);
    admission_remove(&a, a.head);
    assert_int_equal(admission_check(&a, 0, &err), ST_OK);
}

static void test_the_queue_is_bounded_in_bytes(void **state)
{
    (void)state;
    admission a;
    admission_init(&a, 100, 1000);
    error err = {0};
    admission_push(&a, make(0, 0, 600), false);
    assert_int_equal(admission_check(&a, 400, &err), ST_OK);
    assert_int_equal(admission_check(&a, 401, &err), ST_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(err.text, "600 bytes wait, the limit is 1000"));
    assert_true(err.retry_after_ms > 0);
    admission_remove(&a, a.head);
    assert_int_equal(admission_check(&a, 1000, &err), ST_OK);
}

static void test_what_never_fits_is_not_told_to_wait(void **state)
{
    (void)state;
    admission a;
    admission_init(&a, 100, 1000);
    error err = {.retry_after_ms = 9};
    assert_int_equal(admission_check(&a, 1001, &err), ST_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(err.text, "1001 bytes"));
    assert_non_null(strstr(err.text, "1000"));
    assert_int_equal(err.retry_after_ms, 0);
    assert_int_equal(admission_check(&a, SIZE_MAX, &err), ST_RESOURCE_EXHAUSTED);
}

/* -- when to come back ------------------------------------------------------------------- */

static void fill(admission *a, uint32_t count)
{
    admission_init(a, count, UINT64_MAX);
    for (uint32_t i = 0; i < count; i++)
        admission_push(a, make(i, 0, 1), false);
}

static uint32_t retry_ms(const admission *a)
{
    error err = {0};
    assert_int_equal(admission_check(a, 1, &err), ST_RESOURCE_EXHAUSTED);
    return err.retry_after_ms;
}

static void test_retry_time_follows_the_pace(void **state)
{
    (void)state;
    const uint32_t intervals_ms[] = {10, 100, 1000};
    uint32_t before_ms = 0;
    for (size_t i = 0; i < sizeof intervals_ms / sizeof *intervals_ms; i++) {
        admission a;
        fill(&a, 80);
        uint64_t now_ms = 5000;
        for (int ends = 0; ends < 100; ends++)
            admission_note_finish(&a, now_ms += intervals_ms[i]);
        uint32_t expected_ms = intervals_ms[i] * (80 / 8 + 1);
        if (expected_ms < 100) expected_ms = 100;
        assert_in_range(retry_ms(&a), expected_ms - 1, expected_ms + 1);
        assert_true(retry_ms(&a) > before_ms);
        before_ms = retry_ms(&a);
    }
}

static void test_retry_time_is_bounded(void **state)
{
    (void)state;
    admission a;
    fill(&a, 8);
    assert_in_range(retry_ms(&a), 100, 60000); /* nothing is known yet */
    uint64_t now_ms = 1;
    for (int ends = 0; ends < 50; ends++)
        admission_note_finish(&a, now_ms); /* all at once */
    assert_in_range(retry_ms(&a), 100, 60000);
    for (int ends = 0; ends < 50; ends++)
        admission_note_finish(&a, now_ms += 10000000);
    assert_int_equal(retry_ms(&a), 60000);
}

/* A quiet night is not a slow queue. */
static void test_idle_time_does_not_count(void **state)
{
    (void)state;
    admission a;
    admission_init(&a, 8, UINT64_MAX);
    uint64_t now_ms = 1000;
    for (int night = 0; night < 10; night++)
        admission_note_finish(&a, now_ms += 36000000);
    for (uint32_t i = 0; i < 8; i++)
        admission_push(&a, make(i, 0, 1), false);
    for (int ends = 0; ends < 3; ends++)
        admission_note_finish(&a, now_ms += 50);
    assert_in_range(retry_ms(&a), 100, 150);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_steps_keep_the_promised_order),
        cmocka_unit_test(test_equal_priority_leaves_as_it_came),
        cmocka_unit_test(test_the_queue_is_bounded_in_requests),
        cmocka_unit_test(test_the_queue_is_bounded_in_bytes),
        cmocka_unit_test(test_what_never_fits_is_not_told_to_wait),
        cmocka_unit_test(test_retry_time_follows_the_pace),
        cmocka_unit_test(test_retry_time_is_bounded),
        cmocka_unit_test(test_idle_time_does_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, free_requests);
}
