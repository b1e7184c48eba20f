/* Goal: the fast ways of encoding (scanning, heap, cutting long pieces, remembering) all give what
 * the rules say.
 *
 * Method: thousands of random vocabularies and rules over a tiny alphabet, each against a model
 * that joins the best pair again and again; pieces long enough for every way. And pieces of a
 * megabyte, which a quadratic way would not finish. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/mem.h"
#include "text_support.h"
#include "worker/text/bpe.h"

#define RULES_MAX 64
#define PIECE_MAX 400

typedef struct rule {
    char left[32], right[32];
} rule;

static void add_word(bpe *b, const char *word)
{
    for (size_t i = 0; i < b->words.count; i++) {
        const vocab_entry *entry = &b->words.entries[i];
        if (entry->size == strlen(word) &&
            memcmp(vocab_spelling(&b->words, entry), word, entry->size) == 0)
            return;
    }
    vocab_add(&b->words, word, strlen(word), (uint32_t)b->words.count);
}

/* Random rules, each joining words that exist by then. */
static size_t make_rules(uint64_t *seed, bpe *b, const char *letters, rule *rules)
{
    char words[RULES_MAX + 8][32];
    size_t word_count = 0, rule_count = next_random(seed) % RULES_MAX;
    for (; letters[word_count] != '\0'; word_count++) {
        snprintf(words[word_count], sizeof words[0], "%c", letters[word_count]);
        add_word(b, words[word_count]);
    }
    size_t kept = 0;
    for (size_t i = 0; i < rule_count; i++) {
        const char *left = words[next_random(seed) % word_count];
        const char *right = words[next_random(seed) % word_count];
        if (strlen(left) + strlen(right) > 12) continue;
        snprintf(rules[kept].left, sizeof rules[kept].left, "%s", left);
        snprintf(rules[kept].right, sizeof rules[kept].right, "%s", right);
        char joined[64];
        snprintf(joined, sizeof joined, "%s%s", left, right);
        snprintf(words[word_count++], sizeof words[0], "%.31s", joined);
        add_word(b, joined);
        kept++;
    }
    size_t twice;
    const char *missing;
    assert_true(bpe_index_words(b, &twice));
    for (size_t i = 0; i < kept; i++)
        assert_int_equal(bpe_add_rule(b, rules[i].left, strlen(rules[i].left), rules[i].right,
                                      strlen(rules[i].right), &missing),
                         ST_OK);
    bpe_finish(b);
    return kept;
}

/* The definition: of all neighbours that a rule joins, join those of the last equal rule with the
 * lowest rank, the leftmost first; repeat. */
static size_t encode_naively(const rule *rules, size_t rule_count, const char *piece, size_t size,
                             char (*symbols)[32])
{
    size_t count = 0;
    for (size_t i = 0; i < size; i++)
        snprintf(symbols[count++], 32, "%c", piece[i]);
    for (;;) {
        size_t best = SIZE_MAX, place = 0;
        for (size_t i = 0; i + 1 < count; i++)
            for (size_t r = rule_count; r-- > 0;) {
                if (strcmp(rules[r].left, symbols[i]) != 0 ||
                    strcmp(rules[r].right, symbols[i + 1]) != 0)
                    continue;
                if (r < best) {
                    best = r;
                    place = i;
                }
                break; /* an earlier equal rule does not count */
            }
        if (best == SIZE_MAX) return count;
        snprintf(symbols[place], 32, "%.15s%.15s", rules[best].left, rules[best].right);
        memmove(symbols[place + 1], symbols[place + 2], (count - place - 2) * sizeof symbols[0]);
        count--;
    }
}

static void check_piece(const bpe *b, bpe_scratch *scratch, const rule *rules, size_t rule_count,
                        const char *piece, size_t size)
{
    static char symbols[PIECE_MAX][32];
    size_t count = encode_naively(rules, rule_count, piece, size, symbols);
    token_list got = {0};
    uint32_t whole = b->ignore_merges ? vocab_find(&b->words, piece, size) : TOKEN_NONE;
    bpe_encode(b, scratch, piece, size, &got);
    if (whole != TOKEN_NONE) {
        assert_int_equal(got.count, 1);
        assert_int_equal(got.ids[0], whole);
    } else {
        assert_int_equal(got.count, count);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(got.ids[i], vocab_find(&b->words, symbols[i], strlen(symbols[i])));
    }
    token_list_free(&got);
}

static void test_every_way_of_encoding_follows_the_rules(void **state)
{
    (void)state;
    static const char *const alphabets[] = {"ab", "abc", "abcdef"};
    uint64_t seed = 42;
    for (int round = 0; round < 300; round++) {
        rule rules[RULES_MAX];
        bpe b = {.unknown = TOKEN_NONE, .ignore_merges = round % 3 == 0};
        const char *letters = alphabets[round % 3];
        size_t rule_count = make_rules(&seed, &b, letters, rules);
        bpe_scratch *scratch = bpe_scratch_create(PIECE_MAX);
        for (int piece_number = 0; piece_number < 20; piece_number++) {
            char piece[PIECE_MAX];
            size_t longest = piece_number == 0 ? PIECE_MAX : 80;
            size_t size = 1 + next_random(&seed) % (longest - 1);
            for (size_t i = 0; i < size; i++)
                piece[i] = letters[next_random(&seed) % strlen(letters)];
            check_piece(&b, scratch, rules, rule_count, piece, size);
        }
        bpe_scratch_destroy(scratch);
        bpe_free(&b);
    }
}

static const char doubling[] =
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1,\"aaaa\":2,\"aaaaaaaa\":3,\"b\":4,"
    "\"ab\":5},\"merges\":[\"a a\",\"aa aa\",\"aaaa aaaa\",\"a b\"]}}";

static double seconds_of_processor(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void test_a_megabyte_of_one_letter_is_not_quadratic(void **state)
{
    (void)state;
    const size_t size = 1u << 20;
    tokenizer *t = small_tokenizer(doubling);
    char *text = mem_alloc(size);
    memset(text, 'a', size);
    token_list ids = {0};
    double start = seconds_of_processor();
    tokenizer_encode(t, text, size, 0, &ids);
    assert_true(seconds_of_processor() - start < 10); /* takes 0.2 s; with sanitizers 2 s */
    assert_int_equal(ids.count, size / 8);
    for (size_t i = 0; i < ids.count; i++)
        assert_int_equal(ids.ids[i], 3);
    token_list_free(&ids);
    mem_free(text);
    tokenizer_destroy(t);
}

static void test_cuts_keep_unknown_characters_together(void **state)
{
    (void)state;
    /* 60 characters, so the piece is cut where it can be: unknown ones in a row are one token. */
    static const char text[] = "abababababababababababababxyzxyzxyzababababababababxababababab";
    tokenizer *t =
        small_tokenizer("{\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\",\"fuse_unk\":true,"
                        "\"vocab\":{\"?\":0,\"a\":1,\"b\":2,\"ab\":3},"
                        "\"merges\":[\"a b\"]}}");
    token_list ids = {0};
    tokenizer_encode(t, text, sizeof text - 1, 0, &ids);
    assert_int_equal(ids.count, 13 + 1 + 8 + 1 + 5);
    for (size_t i = 0; i < ids.count; i++)
        assert_int_equal(ids.ids[i], i == 13 || i == 22 ? 0 : 3);
    token_list_free(&ids);
    tokenizer_destroy(t);
}

static void test_cuts_let_neighbours_of_vanished_characters_join(void **state)
{
    (void)state;
    /* Unknown characters leave no trace; "a" and "b" meet over each of them. */
    static const char text[] = "axbaxbaxbaxbaxbaxbaxbaxbaxbaxbaxbaxbaxbaxbaxbaxb";
    tokenizer *t = small_tokenizer("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,"
                                   "\"ab\":2},\"merges\":[\"a b\"]}}");
    token_list ids = {0};
    tokenizer_encode(t, text, sizeof text - 1, 0, &ids);
    assert_int_equal(ids.count, (sizeof text - 1) / 3);
    for (size_t i = 0; i < ids.count; i++)
        assert_int_equal(ids.ids[i], 2);
    token_list_free(&ids);
    tokenizer_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_way_of_encoding_follows_the_rules),
        cmocka_unit_test(test_a_megabyte_of_one_letter_is_not_quadratic),
        cmocka_unit_test(test_cuts_keep_unknown_characters_together),
        cmocka_unit_test(test_cuts_let_neighbours_of_vanished_characters_join),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
