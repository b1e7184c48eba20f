/* Goal: what goes in comes out once, in order, from one thread to another; full and empty are
 * answers.
 * Method: random steps against counters; then two threads and a million items, with the payload
 * checked (a data race shows under the thread sanitizer). */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/mem.h"
#include "common/ring.h"

static void test_ring_is_a_bounded_queue(void **state)
{
    (void)state;
    for (uint32_t capacity = 1; capacity <= 16; capacity *= 2) {
        ring *r = ring_create(capacity);
        assert_int_equal(ring_capacity(r), capacity);
        static char items[64];
        uint64_t pushed = 0, popped = 0;
        unsigned random = capacity;
        for (int step = 0; step < 20000; step++) {
            random = random * 1103515245u + 12345u;
            if (random >> 16 & 1) {
                bool fits = ring_push(r, &items[pushed % 64]);
                assert_int_equal(fits, pushed - popped < capacity);
                pushed += fits;
            } else {
                char *item = ring_pop(r);
                if (pushed == popped)
                    assert_null(item);
                else
                    assert_ptr_equal(item, &items[popped++ % 64]);
            }
            assert_int_equal(ring_count(r), pushed - popped);
        }
        ring_destroy(r);
    }
}

enum { ITEMS = 1000000 };

typedef struct item {
    uint32_t number, copy;
} item;

static void *push_all(void *argument)
{
    ring *r = argument;
    for (uint32_t i = 0; i < ITEMS; i++) {
        item *next = mem_alloc(sizeof *next);
        *next = (item){i, i};
        while (!ring_push(r, next))
            sched_yield();
    }
    return NULL;
}

static void test_items_cross_threads_whole_and_in_order(void **state)
{
    (void)state;
    ring *r = ring_create(64);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, push_all, r), 0);
    for (uint32_t i = 0; i < ITEMS;) {
        item *next = ring_pop(r);
        if (next == NULL) {
            sched_yield();
            continue;
        }
        if (next->number != i || next->copy != i) fail_msg("item %u is %u", i, next->number);
        mem_free(next);
        i++;
    }
    pthread_join(thread, NULL);
    assert_null(ring_pop(r));
    ring_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring_is_a_bounded_queue),
        cmocka_unit_test(test_items_cross_threads_whole_and_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
