/* Goal: memory that is handed out is the caller's alone, aligned and zeroed where that is promised,
 * and nothing that was written is lost while it grows.
 * Method: thousands of random steps on a buffer and on an arena beside a plain copy of what they
 * must hold; sizes that overflow must end the process or give NULL, never a short block. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/mem.h"
#include "tests/unit/worker/engine/test_random.h"

/* Does `act` end the process? Asked of a child, whose words about it are not wanted. */
static bool ends_the_process(void (*act)(void))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        close(STDERR_FILENO);
        act();
        _exit(0);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    return !(WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

/* -- buffer ------------------------------------------------------------------------------ */

enum { MODEL_BYTES = 1 << 16 };

static void test_buffer_holds_what_was_appended_and_not_consumed(void **state)
{
    (void)state;
    static uint8_t model[MODEL_BYTES];
    uint8_t piece[512];
    for (uint64_t seed = 1; seed <= 20; seed++) {
        test_random random = {seed};
        size_t size = 0;
        buffer b = {0};
        for (int step = 0; step < 3000; step++) {
            uint32_t count = random_below(&random, sizeof piece);
            switch (random_below(&random, 8)) {
            default:
                if (size + count > MODEL_BYTES) break;
                for (uint32_t i = 0; i < count; i++)
                    piece[i] = (uint8_t)random_next(&random);
                buffer_append(&b, piece, count);
                memcpy(model + size, piece, count);
                size += count;
                break;
            case 0:
            case 1:
            case 2:
                if (count > size) count = (uint32_t)size;
                buffer_consume(&b, count);
                memmove(model, model + count, size - count);
                size -= count;
                break;
            case 3:
                buffer_reserve(&b, count);
                assert_true(b.capacity - b.size >= count);
                break;
            case 4:
                if (random_below(&random, 50) != 0) break;
                buffer_clear(&b);
                size = 0;
                break;
            }
            assert_int_equal(b.size, size);
            assert_true(b.capacity >= b.size);
            if (size > 0) assert_memory_equal(b.data, model, size);
        }
        buffer_free(&b);
        assert_null(b.data);
        assert_int_equal(b.size + b.capacity, 0);
    }
}

static void test_buffer_grows_in_few_steps(void **state)
{
    (void)state;
    buffer b = {0};
    size_t moves = 0, capacity = 0;
    for (uint32_t i = 0; i < 1000000; i++) {
        uint8_t byte = (uint8_t)i;
        buffer_append(&b, &byte, 1);
        moves += b.capacity != capacity;
        capacity = b.capacity;
    }
    assert_true(moves < 40);
    assert_true(capacity < 2 * b.size);
    buffer_free(&b);
}

static void test_buffer_clear_keeps_its_memory(void **state)
{
    (void)state;
    buffer b = {0};
    buffer_append(&b, "12345", 5);
    const uint8_t *data = b.data;
    buffer_clear(&b);
    buffer_append(&b, NULL, 0);
    assert_int_equal(b.size, 0);
    buffer_append(&b, "abc", 3);
    assert_ptr_equal(b.data, data);
    assert_memory_equal(b.data, "abc", 3);
    buffer_free(&b);
    buffer_free(&b);
}

static void consume_too_much(void)
{
    buffer b = {0};
    buffer_append(&b, "x", 1);
    buffer_consume(&b, 2);
}

static void reserve_more_than_there_is(void)
{
    buffer b = {0};
    buffer_append(&b, "x", 1);
    buffer_reserve(&b, SIZE_MAX);
}

static void reserve_almost_everything(void)
{
    buffer b = {0};
    buffer_append(&b, "x", 1);
    buffer_reserve(&b, SIZE_MAX - 1);
}

static void test_buffer_misuse_ends_the_process(void **state)
{
    (void)state;
    assert_true(ends_the_process(consume_too_much));
    assert_true(ends_the_process(reserve_more_than_there_is));
    assert_true(ends_the_process(reserve_almost_everything));
}

/* -- arena ------------------------------------------------------------------------------- */

enum { PIECES = 400 };

typedef struct piece {
    uint8_t *bytes;
    size_t size;
    uint8_t stamp;
} piece;

static void check_pieces(const piece *pieces, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        for (size_t at = 0; at < pieces[i].size; at++)
            assert_int_equal(pieces[i].bytes[at], pieces[i].stamp);
}

static uint32_t random_size(test_random *random)
{
    switch (random_below(random, 12)) {
    case 0:
        return 0;
    case 1:
        return random_between(random, 8000, 8400); /* around a whole chunk */
    case 2:
        return random_below(random, 40000);
    default:
        return random_below(random, 300);
    }
}

static void test_arena_pieces_are_zeroed_aligned_and_apart(void **state)
{
    (void)state;
    static piece pieces[PIECES];
    arena a = {0};
    for (uint64_t seed = 1; seed <= 30; seed++) {
        test_random random = {seed};
        uint32_t count = random_below(&random, PIECES);
        size_t bytes = 0;
        for (uint32_t i = 0; i < count; i++) {
            piece *p = &pieces[i];
            p->size = random_size(&random);
            p->bytes = arena_alloc(&a, p->size);
            p->stamp = (uint8_t)random_between(&random, 1, 255);
            assert_non_null(p->bytes);
            assert_int_equal((uintptr_t)p->bytes % 16, 0);
            for (size_t at = 0; at < p->size; at++)
                assert_int_equal(p->bytes[at], 0);
            memset(p->bytes, p->stamp, p->size);
            bytes += p->size;
        }
        check_pieces(pieces, count);
        assert_true(a.bytes >= bytes && a.bytes <= bytes + 16u * count);
        arena_reset(&a);
        assert_int_equal(a.bytes, 0);
    }
    arena_free(&a);
    assert_null(a.chunks);
    arena_free(&a);
}

static void test_arena_reset_reuses_memory(void **state)
{
    (void)state;
    arena a = {0};
    void *first = arena_alloc(&a, 100);
    for (int i = 0; i < 100; i++)
        (void)arena_alloc(&a, 5000);
    arena_reset(&a);
    void *kept = arena_alloc(&a, 100);
    arena_reset(&a);
    for (int round = 0; round < 1000; round++) {
        assert_ptr_equal(arena_alloc(&a, 100), kept);
        arena_reset(&a);
    }
    (void)first;
    arena_free(&a);
}

static void test_arena_copies(void **state)
{
    (void)state;
    arena a = {0};
    const char *copy = arena_strndup(&a, "hello there", 5);
    assert_string_equal(copy, "hello");
    assert_string_equal(arena_strndup(&a, NULL, 0), "");
    const uint32_t numbers[] = {1, 2, 3};
    assert_memory_equal(arena_copy(&a, numbers, sizeof numbers), numbers, sizeof numbers);
    assert_non_null(arena_copy(&a, NULL, 0));
    arena_free(&a);
}

static void alloc_more_than_there_is(void)
{
    arena a = {0};
    arena_alloc(&a, SIZE_MAX);
}

static void alloc_almost_everything(void)
{
    arena a = {0};
    arena_alloc(&a, SIZE_MAX - 20);
}

static void test_arena_size_overflow_ends_the_process(void **state)
{
    (void)state;
    assert_true(ends_the_process(alloc_more_than_there_is));
    assert_true(ends_the_process(alloc_almost_everything));
}

/* -- mem_* ------------------------------------------------------------------------------- */

static void test_copies_end_with_their_nul(void **state)
{
    (void)state;
    char *text = mem_strndup("abcdef", 3);
    assert_string_equal(text, "abc");
    mem_free(text);
    text = mem_strndup(NULL, 0);
    assert_string_equal(text, "");
    mem_free(text);
    text = mem_strdup("whole");
    assert_string_equal(text, "whole");
    text = mem_realloc(text, 100);
    assert_string_equal(text, "whole");
    mem_free(text);
    mem_free(NULL);
}

static void test_size_zero_gives_a_pointer(void **state)
{
    (void)state;
    void *all[] = {mem_alloc(0),         mem_calloc(0, 8),
                   mem_calloc(8, 0),     mem_copy(NULL, 0),
                   mem_realloc(NULL, 0), mem_try_alloc(0, 8),
                   mem_try_alloc(8, 0),  mem_try_alloc_aligned(64, 0)};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_non_null(all[i]);
        mem_free(all[i]);
    }
}

static void test_try_refuses_what_overflows(void **state)
{
    (void)state;
    assert_null(mem_try_alloc(SIZE_MAX / 2 + 1, 2));
    assert_null(mem_try_alloc(SIZE_MAX, SIZE_MAX));
    assert_null(mem_try_alloc_aligned(64, SIZE_MAX));
    assert_null(mem_try_alloc_aligned(4096, SIZE_MAX - 4094));
}

static void test_aligned_memory_is_aligned_and_zeroed(void **state)
{
    (void)state;
    for (size_t alignment = 8; alignment <= 65536; alignment *= 2) {
        for (size_t size = 0; size < 300; size += 37) {
            uint8_t *bytes = mem_try_alloc_aligned(alignment, size);
            assert_non_null(bytes);
            assert_int_equal((uintptr_t)bytes % alignment, 0);
            for (size_t i = 0; i < size; i++)
                assert_int_equal(bytes[i], 0);
            mem_free(bytes);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buffer_holds_what_was_appended_and_not_consumed),
        cmocka_unit_test(test_buffer_grows_in_few_steps),
        cmocka_unit_test(test_buffer_clear_keeps_its_memory),
        cmocka_unit_test(test_buffer_misuse_ends_the_process),
        cmocka_unit_test(test_arena_pieces_are_zeroed_aligned_and_apart),
        cmocka_unit_test(test_arena_reset_reuses_memory),
        cmocka_unit_test(test_arena_copies),
        cmocka_unit_test(test_arena_size_overflow_ends_the_process),
        cmocka_unit_test(test_copies_end_with_their_nul),
        cmocka_unit_test(test_size_zero_gives_a_pointer),
        cmocka_unit_test(test_try_refuses_what_overflows),
        cmocka_unit_test(test_aligned_memory_is_aligned_and_zeroed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
