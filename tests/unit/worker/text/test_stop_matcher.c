/* Goal: no byte of a stop string is ever sent, no other byte is ever kept, and neither depends on
 * how the text was cut into pieces.
 *
 * Method: thousands of random texts, cuts and stop strings over a tiny alphabet, against a model
 * that looks at the whole text; after every piece the model also says what may be out by then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "text_support.h"
#include "worker/text/stop_matcher.h"

typedef struct stops {
    char text[LIMIT_STOP_STRINGS][LIMIT_STOP_STRING_BYTES];
    const char *strings[LIMIT_STOP_STRINGS];
    size_t sizes[LIMIT_STOP_STRINGS];
    size_t count;
} stops;

/* Where the text ends (its size: nowhere), and by which string. The first byte that completes a
 * string ends it; of the strings complete there the longest counts, of equal ones the first. */
static size_t find_end(const stops *s, const char *text, size_t size, size_t *completed_at,
                       size_t *which)
{
    for (size_t end = 1; end <= size; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < s->count; i++)
            if (s->sizes[i] <= end && s->sizes[i] > longest &&
                memcmp(text + end - s->sizes[i], s->strings[i], s->sizes[i]) == 0) {
                longest = s->sizes[i];
                *which = i;
            }
        if (longest > 0) {
            *completed_at = end;
            return end - longest;
        }
    }
    *completed_at = SIZE_MAX;
    return size;
}

/* How many bytes at the end of `text` begin some stop string. */
static size_t held_back(const stops *s, const char *text, size_t size)
{
    size_t longest = 0;
    for (size_t i = 0; i < s->count; i++)
        for (size_t n = 1; n < s->sizes[i] && n <= size; n++)
            if (n > longest && memcmp(text + size - n, s->strings[i], n) == 0) longest = n;
    return longest;
}

static void make_stops(uint64_t *seed, stops *s, size_t letters)
{
    s->count = next_random(seed) % 5;
    if (next_random(seed) % 50 == 0) s->count = LIMIT_STOP_STRINGS;
    for (size_t i = 0; i < s->count; i++) {
        s->sizes[i] = 1 + next_random(seed) % (next_random(seed) % 4 == 0 ? 12 : 4);
        for (size_t k = 0; k < s->sizes[i]; k++)
            s->text[i][k] = (char)('a' + next_random(seed) % letters);
        s->strings[i] = s->text[i];
    }
}

static void check(uint64_t *seed, const stops *s, const char *text, size_t size)
{
    size_t completed_at, which = 0;
    size_t end = find_end(s, text, size, &completed_at, &which);
    stop_matcher *m = stop_matcher_create(s->strings, s->sizes, s->count);
    buffer safe = {0};
    bool done = false;
    for (size_t at = 0; at < size && !done;) {
        size_t piece = next_random(seed) % 6;
        if (piece > size - at) piece = size - at;
        done = stop_matcher_push(m, text + at, piece, &safe);
        at += piece;
        assert_int_equal(done, at >= completed_at);
        if (!done) assert_int_equal(safe.size, at - held_back(s, text, at));
    }
    if (done)
        assert_int_equal(stop_matcher_matched(m), which);
    else
        stop_matcher_finish(m, &safe);
    assert_int_equal(safe.size, end);
    if (end > 0) assert_memory_equal(safe.data, text, end);
    buffer_free(&safe);
    stop_matcher_destroy(m);
}

static void test_matches_the_model_for_any_cut(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 20000; round++) {
        static stops s;
        char text[64];
        size_t letters = 2 + next_random(&seed) % 2;
        size_t size = next_random(&seed) % sizeof text;
        make_stops(&seed, &s, letters);
        for (size_t i = 0; i < size; i++)
            text[i] = (char)('a' + next_random(&seed) % letters);
        check(&seed, &s, text, size);
    }
}

static void test_longest_of_several_complete_at_once_wins(void **state)
{
    (void)state;
    const char *strings[] = {"cd", "abcd", "d"};
    const size_t sizes[] = {2, 4, 1};
    stop_matcher *m = stop_matcher_create(strings, sizes, 3);
    buffer safe = {0};
    assert_false(stop_matcher_push(m, "xabc", 4, &safe));
    assert_int_equal(safe.size, 1);
    assert_true(stop_matcher_push(m, "dz", 2, &safe));
    assert_int_equal(safe.size, 1);
    assert_int_equal(stop_matcher_matched(m), 1);
    buffer_free(&safe);
    stop_matcher_destroy(m);
}

static void test_longest_strings_allowed(void **state)
{
    (void)state;
    static char longest[LIMIT_STOP_STRING_BYTES];
    const char *strings[LIMIT_STOP_STRINGS];
    size_t sizes[LIMIT_STOP_STRINGS];
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = 'b';
    for (size_t i = 0; i < LIMIT_STOP_STRINGS; i++) {
        strings[i] = longest + i; /* each the end of the one before */
        sizes[i] = sizeof longest - i;
    }
    stop_matcher *m = stop_matcher_create(strings, sizes, LIMIT_STOP_STRINGS);
    buffer safe = {0};
    for (int i = 0; i < 1000; i++)
        assert_false(stop_matcher_push(m, "a", 1, &safe));
    assert_int_equal(safe.size, 1000 - (sizeof longest - 1));
    assert_true(stop_matcher_push(m, "b", 1, &safe));
    assert_int_equal(stop_matcher_matched(m), 0);
    buffer_free(&safe);
    stop_matcher_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches_the_model_for_any_cut),
        cmocka_unit_test(test_longest_of_several_complete_at_once_wins),
        cmocka_unit_test(test_longest_strings_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
