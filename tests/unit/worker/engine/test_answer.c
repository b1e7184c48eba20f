/* Goal: which text each token releases and where the answer ends.
 * Method: hand-made answers with the fixture's byte tokens. test_engine.c has the random ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "tests/unit/worker/engine/fixture.h"
#include "worker/engine/answer.h"

typedef struct rig {
    tokenizer *tokenizer;
    answer *answer;
    buffer text; /* of the last token */
} rig;

static void open_rules(rig *g, const answer_rules *rules)
{
    memset(g, 0, sizeof *g);
    g->tokenizer = fixture_tokenizer();
    g->answer = answer_create(g->tokenizer, rules);
}

static void close_rig(rig *g)
{
    answer_destroy(g->answer);
    tokenizer_destroy(g->tokenizer);
    buffer_free(&g->text);
}

static void push(rig *g, uint32_t id, const char *expected)
{
    buffer_clear(&g->text);
    answer_push(g->answer, id, &g->text);
    buffer_append(&g->text, "", 1);
    assert_string_equal((const char *)g->text.data, expected);
}

static const uint32_t end_ids[] = {FIXTURE_EOS, 'Z'};
static const answer_rules plain = {.end_ids = end_ids, .end_id_count = 2, .max_tokens = 100};

static answer_rules with_stops(const char *const *stops, const size_t *sizes, uint32_t count)
{
    answer_rules rules = plain;
    rules.stop = stops;
    rules.stop_sizes = sizes;
    rules.stop_count = count;
    return rules;
}

static void test_characters_come_with_their_last_byte(void **state)
{
    (void)state;
    rig g;
    open_rules(&g, &plain);
    push(&g, 'a', "a");
    push(&g, 0xE2, "");
    push(&g, 0x82, "");
    push(&g, 0xAC, "\xE2\x82\xAC");
    push(&g, FIXTURE_WORDS, " alpha");
    push(&g, FIXTURE_BOS, ""); /* special: no text */
    assert_false(answer_ended(g.answer));
    assert_int_equal(answer_count(g.answer), 6);
    close_rig(&g);
}

static void test_an_end_id_has_no_text_but_releases_what_was_held(void **state)
{
    (void)state;
    static const char *const stops[] = {"abc"};
    rig g;
    answer_rules rules = with_stops(stops, (const size_t[]){3}, 1);
    open_rules(&g, &rules);
    push(&g, 'x', "x");
    push(&g, 'a', "");
    push(&g, 'b', "");
    push(&g, 0xE2, "");
    push(&g, 'Z', "ab\xEF\xBF\xBD");
    assert_true(answer_ended(g.answer));
    assert_int_equal(answer_reason(g.answer), FINISH_STOP);
    uint32_t id;
    assert_true(answer_stop_id(g.answer, &id));
    assert_int_equal(id, 'Z');
    assert_null(answer_stop_text(g.answer));
    assert_int_equal(answer_count(g.answer), 5);
    close_rig(&g);
}

static void test_a_stop_string_ends_the_text_before_it(void **state)
{
    (void)state;
    static const char *const stops[] = {"zz", "bcd"};
    rig g;
    answer_rules rules = with_stops(stops, (const size_t[]){2, 3}, 2);
    open_rules(&g, &rules);
    push(&g, FIXTURE_WORDS + 4, "a"); /* "ab": b may begin bcd */
    push(&g, 'c', "");
    push(&g, FIXTURE_WORDS + 7, ""); /* "dab": the stop string and more */
    assert_true(answer_ended(g.answer));
    assert_int_equal(answer_reason(g.answer), FINISH_STOP);
    assert_string_equal(answer_stop_text(g.answer), "bcd");
    uint32_t id;
    assert_false(answer_stop_id(g.answer, &id));
    close_rig(&g);
}

static void test_length_releases_what_was_held(void **state)
{
    (void)state;
    static const char *const stops[] = {"abc"};
    rig g;
    answer_rules rules = with_stops(stops, (const size_t[]){3}, 1);
    rules.max_tokens = 3;
    open_rules(&g, &rules);
    push(&g, 'a', "");
    push(&g, 'b', "");
    push(&g, 'a', "aba");
    assert_int_equal(answer_reason(g.answer), FINISH_LENGTH);
    close_rig(&g);
}

/* What the detokenizer held to the end may complete a stop string. */
static void test_a_stop_string_in_the_last_held_bytes_counts(void **state)
{
    (void)state;
    static const char *const stops[] = {"b\xEF\xBF\xBD"};
    rig g;
    answer_rules rules = with_stops(stops, (const size_t[]){4}, 1);
    rules.max_tokens = 3;
    open_rules(&g, &rules);
    push(&g, 'a', "a");
    push(&g, 'b', "");
    push(&g, 0xE2, "");
    assert_int_equal(answer_reason(g.answer), FINISH_STOP);
    assert_string_equal(answer_stop_text(g.answer), "b\xEF\xBF\xBD");
    close_rig(&g);
}

static void test_nothing_ends_before_min_tokens(void **state)
{
    (void)state;
    static const char *const stops[] = {"ab"};
    rig g;
    answer_rules rules = with_stops(stops, (const size_t[]){2}, 1);
    rules.min_tokens = 3;
    open_rules(&g, &rules);
    uint32_t count;
    assert_memory_equal(answer_masked_ids(g.answer, 0, &count), end_ids, sizeof end_ids);
    assert_int_equal(count, 2);
    answer_masked_ids(g.answer, 2, &count); /* one planned ahead */
    assert_int_equal(count, 2);
    push(&g, 'a', "a"); /* not held: no stop string may begin here */
    push(&g, 'b', "b");
    push(&g, 'Z', "Z"); /* cannot be drawn; if given, it is text */
    answer_masked_ids(g.answer, 3, &count);
    assert_int_equal(count, 0);
    push(&g, 'b', "b");
    push(&g, 'a', "");
    push(&g, 'b', "");
    assert_string_equal(answer_stop_text(g.answer), "ab");
    assert_int_equal(answer_count(g.answer), 6);
    close_rig(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_characters_come_with_their_last_byte),
        cmocka_unit_test(test_an_end_id_has_no_text_but_releases_what_was_held),
        cmocka_unit_test(test_a_stop_string_ends_the_text_before_it),
        cmocka_unit_test(test_length_releases_what_was_held),
        cmocka_unit_test(test_a_stop_string_in_the_last_held_bytes_counts),
        cmocka_unit_test(test_nothing_ends_before_min_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
