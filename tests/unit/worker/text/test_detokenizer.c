/* Goal: streamed text is whole characters, and together exactly the decoded text.
 *
 * Method: small tokenizers of the two great kinds (bytes as letters; pieces with byte tokens), ids
 * chosen so that characters arrive torn, broken or late; random ids against tokenizer_decode(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "text_support.h"
#include "worker/text/detokenizer.h"

#define REPLACEMENT "\xEF\xBF\xBD"

/* Ids 0..7: a, space, the three bytes of U+6F22, 0xFF, an unfinished two, a special token. */
static const char byte_level[] =
    "{\"added_tokens\":[{\"id\":7,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,"
    "\"rstrip\":false,\"normalized\":false,\"special\":true}],"
    "\"decoder\":{\"type\":\"ByteLevel\"},"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"\\u0120\":1,\"\\u00e6\":2,\"\\u00bc\":3,"
    "\"\\u00a2\":4,\"\\u00ff\":5,\"\\u00e6\\u00bc\":6},\"merges\":[]}}";

/* Ids 0..6: "▁a", a, the three bytes, 0xFF, "▁". */
static const char pieces[] =
    "{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{"
    "\"String\":\"\\u2581\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"\\u2581a\":0,\"a\":1,\"<0xE6>\":2,\"<0xBC>\":3,"
    "\"<0xA2>\":4,\"<0xFF>\":5,\"\\u2581\":6},\"merges\":[]}}";

#define PARTS_MAX 6
#define END       UINT32_MAX

/* What each id, and then the end, adds to the text. */
static const struct stream_case {
    const char *what, *tokenizer;
    bool at_start, skip_special;
    uint32_t ids[PARTS_MAX];
    const char *adds[PARTS_MAX];
} cases[] = {
    {"a character waits for its last byte",
     byte_level,
     true,
     true,
     {0, 2, 3, 4, END},
     {"a", "", "", "\xE6\xBC\xA2", ""}},
    {"a broken character is given up at once",
     byte_level,
     true,
     true,
     {2, 3, 0, END},
     {"", "", REPLACEMENT "a", ""}},
    {"an impossible byte does not wait",
     byte_level,
     true,
     true,
     {5, 5, END},
     {REPLACEMENT, REPLACEMENT, ""}},
    {"an unfinished character at the end",
     byte_level,
     true,
     true,
     {0, 6, END},
     {"a", "", REPLACEMENT}},
    {"a special token inside a character says nothing",
     byte_level,
     true,
     true,
     {6, 7, 4, END},
     {"", "", "\xE6\xBC\xA2", ""}},
    {"a special token that is shown breaks it",
     byte_level,
     true,
     false,
     {6, 7, 4, END},
     {"", REPLACEMENT "<s>", REPLACEMENT, ""}},
    {"an unknown id says nothing",
     byte_level,
     true,
     true,
     {0, 4000000000u, 0, END},
     {"a", "", "a", ""}},
    {"the first space of a text goes", pieces, true, true, {0, 0, END}, {"a", " a", ""}},
    {"the first space of an answer stays", pieces, false, true, {0, 0, END}, {" a", " a", ""}},
    {"only one space goes", pieces, true, true, {6, 0, END}, {"", " a", ""}},
    {"a row of bytes waits for its end",
     pieces,
     true,
     true,
     {2, 3, 4, 1, END},
     {"", "", "", "\xE6\xBC\xA2\x61", ""}},
    {"a row of bytes at the end",
     pieces,
     true,
     true,
     {1, 2, 3, 4, END},
     {"a", "", "", "", "\xE6\xBC\xA2"}},
    {"one bad byte breaks its row",
     pieces,
     true,
     true,
     {2, 3, 4, 5, 1, END},
     {"", "", "", "", REPLACEMENT REPLACEMENT REPLACEMENT REPLACEMENT "a", ""}},
};

static void check_case(const struct stream_case *c)
{
    tokenizer *t = small_tokenizer(c->tokenizer);
    detokenizer *d = detokenizer_create(t, c->skip_special, c->at_start);
    for (size_t i = 0; i < PARTS_MAX; i++) {
        buffer out = {0};
        if (c->ids[i] == END)
            detokenizer_finish(d, &out);
        else
            detokenizer_push(d, c->ids[i], &out);
        if (out.size != strlen(c->adds[i]) ||
            (out.size > 0 && memcmp(out.data, c->adds[i], out.size) != 0))
            fail_msg("%s: part %zu adds \"%.*s\"", c->what, i, (int)out.size,
                     out.data != NULL ? (const char *)out.data : "");
        buffer_free(&out);
        if (c->ids[i] == END) break;
    }
    detokenizer_destroy(d);
    tokenizer_destroy(t);
}

static void test_text_comes_when_it_is_certain(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_case(&cases[i]);
}

static void test_streaming_equals_decoding_for_random_ids(void **state)
{
    (void)state;
    static const char *const tokenizers[] = {byte_level, pieces};
    uint64_t seed = 99;
    for (size_t k = 0; k < 2; k++) {
        tokenizer *t = small_tokenizer(tokenizers[k]);
        for (int round = 0; round < 3000; round++) {
            uint32_t ids[24];
            size_t count = next_random(&seed) % 24;
            for (size_t i = 0; i < count; i++)
                ids[i] = next_random(&seed) % 8;
            assert_stream_equals_decode(t, ids, count, round % 2 == 0);
        }
        tokenizer_destroy(t);
    }
}

/* A continued stream is replayed: the same ids give the same text up to any point. */
static void test_text_is_a_function_of_the_ids(void **state)
{
    (void)state;
    static const uint32_t ids[] = {0, 2, 3, 4, 6, 0, 2, 3, 1, 5, 0};
    tokenizer *t = small_tokenizer(byte_level);
    detokenizer *first = detokenizer_create(t, true, false);
    buffer before = {0};
    for (size_t n = 0; n < sizeof ids / sizeof *ids; n++) {
        detokenizer_push(first, ids[n], &before);
        detokenizer *again = detokenizer_create(t, true, false);
        buffer replayed = {0};
        for (size_t i = 0; i <= n; i++)
            detokenizer_push(again, ids[i], &replayed);
        assert_int_equal(replayed.size, before.size);
        assert_memory_equal(replayed.data, before.data, before.size);
        buffer_free(&replayed);
        detokenizer_destroy(again);
    }
    buffer_free(&before);
    detokenizer_destroy(first);
    tokenizer_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_comes_when_it_is_certain),
        cmocka_unit_test(test_streaming_equals_decoding_for_random_ids),
        cmocka_unit_test(test_text_is_a_function_of_the_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
