/* Goal: a key finds what was put under it, until it is removed.
 * Method: random steps against an array, with keys that collide and keys in sequence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/worker/engine/test_random.h"
#include "worker/engine/key_map.h"

static void test_map_agrees_with_the_model(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 20; seed++) {
        enum { KEYS = 100 };
        test_random r = {seed};
        uint32_t capacity = random_between(&r, 1, 60), count = 0;
        uint64_t keys[KEYS];
        bool there[KEYS] = {0};
        for (uint32_t i = 0; i < KEYS; i++)
            keys[i] = seed % 2 ? i : random_next(&r);
        key_map *m = key_map_create(capacity);
        for (uint32_t step = 0; step < 5000; step++) {
            uint32_t i = random_below(&r, KEYS);
            if (there[i]) {
                assert_ptr_equal(key_map_remove(m, keys[i]), &keys[i]);
                there[i] = false;
                count--;
            } else if (count < capacity) {
                key_map_add(m, keys[i], &keys[i]);
                there[i] = true;
                count++;
            } else {
                assert_null(key_map_remove(m, keys[i]));
            }
            assert_int_equal(key_map_count(m), count);
            for (uint32_t k = 0; k < KEYS; k++)
                assert_ptr_equal(key_map_find(m, keys[k]), there[k] ? &keys[k] : NULL);
            uint32_t cursor = 0, seen = 0;
            for (uint64_t *key; (key = key_map_next(m, &cursor)) != NULL; seen++)
                assert_true(there[key - keys]);
            assert_int_equal(seen, count);
        }
        key_map_destroy(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_map_agrees_with_the_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
