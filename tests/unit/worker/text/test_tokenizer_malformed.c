/* Goal: a tokenizer.json that is wrong in any way is refused by the name of what is wrong, quickly
 * and without taking much memory; nothing unknown is passed over.
 *
 * Method: one table of defects, each in an otherwise good file, with the words that the refusal
 * must hold; every prefix of a good file; large hostile files, in a process of their own that is
 * killed after a second of processor time and held to 64 MiB beyond the file itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/limits.h"
#include "common/mem.h"
#include "tests/sanitized.h"
#include "text_support.h"

#define MODEL(words, rules, more)                                                                  \
    "{\"model\":{\"type\":\"BPE\"," more "\"vocab\":{" words "},\"merges\":[" rules "]}}"
#define PART(name, spec)                                                                           \
    "{\"" name "\":" spec ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}"
#define ADDED(tokens) PART("added_tokens", "[" tokens "]")
#define TOKEN(id, content)                                                                         \
    "{\"id\":" id ",\"content\":" content ",\"single_word\":false,\"lstrip\":false,"               \
    "\"rstrip\":false,\"normalized\":false,\"special\":true}"

static const struct {
    const char *json;
    status code;
    const char *says[3];
} cases[] = {
    {"", ST_INVALID_ARGUMENT, {"JSON"}},
    {"[]", ST_INVALID_ARGUMENT, {"object"}},
    {"{}", ST_INVALID_ARGUMENT, {"model"}},
    {"{\"model\":{}} x", ST_INVALID_ARGUMENT, {"JSON", "follows"}},
    {"{\"model\":{},\"model\":{}}", ST_INVALID_ARGUMENT, {"model", "twice"}},
    {"{\"version\":\"2.0\",\"model\":{}}", ST_UNIMPLEMENTED, {"version", "1.0"}},
    {"{\"model\":{\"type\":\"\xFF\"}}", ST_INVALID_ARGUMENT, {"UTF-8"}},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", ST_UNIMPLEMENTED, {"model", "Unigram"}},
    {"{\"model\":{\"type\":\"WordPiece\"}}", ST_UNIMPLEMENTED, {"model", "WordPiece"}},
    {"{\"model\":{\"type\":7}}", ST_INVALID_ARGUMENT, {"model.type", "integer"}},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", ST_INVALID_ARGUMENT, {"model.merges"}},
    {"{\"model\":{\"type\":\"BPE\",\"merges\":[]}}", ST_INVALID_ARGUMENT, {"model.vocab"}},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}}",
     ST_INVALID_ARGUMENT,
     {"model.vocab"}},
    {MODEL("\"a\":\"0\"", "", ""), ST_INVALID_ARGUMENT, {"vocab[\"a\"]", "\"0\""}},
    {MODEL("\"a\":-1", "", ""), ST_INVALID_ARGUMENT, {"vocab[\"a\"]", "-1"}},
    {MODEL("\"a\":1.5", "", ""), ST_INVALID_ARGUMENT, {"vocab[\"a\"]", "1.5"}},
    {MODEL("\"a\":1048576", "", ""), ST_INVALID_ARGUMENT, {"vocab[\"a\"]", "1048576"}},
    {MODEL("\"a\":99999999999999999999999", "", ""), ST_INVALID_ARGUMENT, {"vocab[\"a\"]"}},
    {MODEL("\"a\":0,\"b\":0", "", ""), ST_INVALID_ARGUMENT, {"id 0", "\"a\"", "\"b\""}},
    {MODEL("\"a\":0,\"a\":1", "", ""), ST_INVALID_ARGUMENT, {"vocab[\"a\"]", "twice"}},
    {MODEL("\"a\":0,\"\\u0061\":1", "", ""), ST_INVALID_ARGUMENT, {"vocab[\"a\"]", "twice"}},
    {MODEL("\"a\":0", "\"a c\"", ""), ST_INVALID_ARGUMENT, {"merges[0]", "right", "\"c\""}},
    {MODEL("\"a\":0,\"aa\":1", "\"a a\",\"c a\"", ""),
     ST_INVALID_ARGUMENT,
     {"merges[1]", "left", "\"c\""}},
    {MODEL("\"a\":0", "\"a a\"", ""), ST_INVALID_ARGUMENT, {"merges[0]", "result"}},
    {MODEL("\"a\":0", "\"aa\"", ""), ST_INVALID_ARGUMENT, {"merges[0]", "left right"}},
    {MODEL("\"a\":0", "\"a a a\"", ""), ST_INVALID_ARGUMENT, {"merges[0]", "left right"}},
    {MODEL("\"a\":0", "[\"a\"]", ""), ST_INVALID_ARGUMENT, {"merges[0]", "left right"}},
    {MODEL("\"a\":0", "[\"a\",\"a\",\"a\"]", ""), ST_INVALID_ARGUMENT, {"merges[0]"}},
    {MODEL("\"a\":0", "[\"a\",7]", ""), ST_INVALID_ARGUMENT, {"merges[0]"}},
    {MODEL("\"a\":0", "7", ""), ST_INVALID_ARGUMENT, {"merges[0]"}},
    {MODEL("\"a\":0", "", "\"dropout\":0.1,"), ST_UNIMPLEMENTED, {"model.dropout"}},
    {MODEL("\"a\":0", "", "\"byte_fallback\":1,"), ST_INVALID_ARGUMENT, {"byte_fallback"}},
    {MODEL("\"a\":0", "", "\"unk_token\":1,"), ST_INVALID_ARGUMENT, {"unk_token"}},
    {ADDED("7"), ST_INVALID_ARGUMENT, {"added_tokens[0]"}},
    {ADDED("{\"id\":1}"), ST_INVALID_ARGUMENT, {"added_tokens[0].content"}},
    {ADDED(TOKEN("1", "\"\"")), ST_INVALID_ARGUMENT, {"added_tokens[0].content"}},
    {ADDED(TOKEN("2", "\"<s>\"")), ST_INVALID_ARGUMENT, {"added_tokens[0].id", "id 1", "found 2"}},
    {ADDED(TOKEN("1", "\"a\"")), ST_INVALID_ARGUMENT, {"added_tokens[0].id", "id 0"}},
    {ADDED(TOKEN("-1", "\"<s>\"")), ST_INVALID_ARGUMENT, {"added_tokens[0].id", "-1"}},
    {ADDED(TOKEN("4294967295", "\"<s>\"")), ST_INVALID_ARGUMENT, {"added_tokens[0].id"}},
    {ADDED(TOKEN("1", "\"<s>\"") "," TOKEN("2", "\"<s>\"")),
     ST_INVALID_ARGUMENT,
     {"added_tokens[1]", "twice"}},
    {PART("added_tokens", "{}"), ST_INVALID_ARGUMENT, {"added_tokens"}},
    {"{\"normalizer\":{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true},"
     "\"added_tokens\":[{\"id\":1,\"content\":\"\\n\",\"single_word\":false,\"lstrip\":false,"
     "\"rstrip\":false,\"normalized\":true,\"special\":false}],"
     "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
     ST_UNIMPLEMENTED,
     {"added_tokens[0]", "normalizer"}},
    {PART("normalizer", "7"), ST_INVALID_ARGUMENT, {"normalizer"}},
    {PART("normalizer", "{\"type\":\"Precompiled\"}"),
     ST_UNIMPLEMENTED,
     {"normalizer", "Precompiled"}},
    {PART("normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Nmt\"}]}"),
     ST_UNIMPLEMENTED,
     {"normalizers[0]", "Nmt"}},
    {PART("normalizer", "{\"type\":\"Replace\",\"content\":\"\",\"pattern\":\"x\"}"),
     ST_INVALID_ARGUMENT,
     {"normalizer.pattern"}},
    {PART("normalizer", "{\"type\":\"Prepend\"}"), ST_INVALID_ARGUMENT, {"normalizer.prepend"}},
    {PART("pre_tokenizer", "{\"type\":\"UnicodeScripts\"}"),
     ST_UNIMPLEMENTED,
     {"pre_tokenizer", "UnicodeScripts"}},
    {PART("pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},"
                           "\"behavior\":\"Isolated\",\"invert\":false}"),
     ST_INVALID_ARGUMENT,
     {"pre_tokenizer.pattern", "regular expression"}},
    {PART("pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&]\"},"
                           "\"behavior\":\"Isolated\",\"invert\":false}"),
     ST_UNIMPLEMENTED,
     {"pre_tokenizer.pattern", "&&"}},
    {PART("pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},"
                           "\"behavior\":\"Sideways\",\"invert\":false}"),
     ST_UNIMPLEMENTED,
     {"behavior", "Sideways"}},
    {PART("pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"),
     ST_INVALID_ARGUMENT,
     {"pre_tokenizer.replacement", "one character"}},
    {PART("pre_tokenizer",
          "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}"),
     ST_UNIMPLEMENTED,
     {"prepend_scheme", "last"}},
    {PART("post_processor", "{\"type\":\"Mystery\"}"),
     ST_UNIMPLEMENTED,
     {"post_processor", "Mystery"}},
    {PART("post_processor",
          "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}}],"
          "\"pair\":[],\"special_tokens\":{}}"),
     ST_INVALID_ARGUMENT,
     {"single[0]", "<s>"}},
    {PART("post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":"
                            "\"C\"}}],\"pair\":[],\"special_tokens\":{}}"),
     ST_INVALID_ARGUMENT,
     {"single[0]", "found C"}},
    {PART("decoder", "{\"type\":\"WordPiece\"}"), ST_UNIMPLEMENTED, {"decoder", "WordPiece"}},
    {PART("decoder", "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},"
                     "{\"type\":\"ByteFallback\"}]}"),
     ST_UNIMPLEMENTED,
     {"decoders[1]", "ByteFallback"}},
    {PART("decoder", "{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}"),
     ST_INVALID_ARGUMENT,
     {"decoder.start", "-1"}},
};

static void test_refusals_name_what_is_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        error err = {0};
        tokenizer *t = NULL;
        status st = tokenizer_parse(&t, cases[i].json, strlen(cases[i].json), &err);
        if (st != cases[i].code) fail_msg("%s: %s: %s", cases[i].json, status_name(st), err.text);
        assert_int_equal(err.code, st);
        for (size_t k = 0; k < 3 && cases[i].says[k] != NULL; k++)
            if (strstr(err.text, cases[i].says[k]) == NULL)
                fail_msg("%s: \"%s\" does not say %s", cases[i].json, err.text, cases[i].says[k]);
    }
}

static void test_every_prefix_of_a_file_is_refused(void **state)
{
    (void)state;
    static const char whole[] = "{\"added_tokens\":[" TOKEN(
        "3", "\"<s>\"") "],\"normalizer\":{\"type\":\"NFC\"},"
                        "\"pre_tokenizer\":{\"type\":\"Digits\",\"individual_digits\":true},"
                        "\"decoder\":null,"
                        "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"\\u00e9\":1,\"aa\":2},"
                        "\"merges\":[[\"a\",\"a\"]]}}";
    tokenizer_destroy(small_tokenizer(whole));
    for (size_t size = 0; size < sizeof whole - 1; size++) {
        tokenizer *t = NULL;
        char *part = mem_copy(whole, size); /* of exact size, for the sanitizer to see the end */
        assert_int_equal(tokenizer_parse(&t, part, size, NULL), ST_INVALID_ARGUMENT);
        mem_free(part);
    }
}

/* -- hostile sizes ------------------------------------------------------------------- */

typedef struct hostile {
    const char *what, *head, *item, *tail;
} hostile;

static const hostile hostiles[] = {
    {"empty arrays in an unknown field", "{\"x\":[", "[],", "0]}"},
    {"empty arrays in a component", "{\"normalizer\":[", "[],", "0],\"model\":{}}"},
    {"empty arrays as merges", "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[", "[],",
     "0]}}"},
    {"empty objects as added tokens",
     "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]},"
     "\"added_tokens\":[",
     "{},", "0]}"},
    {"brackets without end", "", "[", ""},
    {"one endless string", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"", "aaaaaaaa",
     "\":0},\"merges\":[]}}"},
    {"one word again and again", "{\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{",
     "\"a\":0,", "\"b\":1}}}"},
    {"a component of nested sequences",
     "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]},\"decoder\":",
     "{\"type\":\"Sequence\",\"decoders\":[", ""},
    {"many steps",
     "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]},\"pre_tokenizer\":"
     "{\"type\":\"Sequence\",\"pretokenizers\":[",
     "{\"type\":\"Whitespace\"},", "{\"type\":\"Whitespace\"}]}}"},
};

#define HOSTILE_BYTES ((SANITIZED ? 2u : 16u) * LIMIT_MIB)

static buffer make_hostile(const hostile *h)
{
    buffer file = {0};
    buffer_reserve(&file, HOSTILE_BYTES + 1024);
    buffer_append(&file, h->head, strlen(h->head));
    while (file.size < HOSTILE_BYTES)
        buffer_append(&file, h->item, strlen(h->item));
    buffer_append(&file, h->tail, strlen(h->tail));
    return file;
}

/* In the child: exit status 0 when refused. */
static void refuse_within_limits(const buffer *file)
{
    struct rlimit second = {1, 1};
    struct rlimit memory = {64u * LIMIT_MIB + file->size, 64u * LIMIT_MIB + file->size};
    if (!SANITIZED) {
        setrlimit(RLIMIT_CPU, &second);
        setrlimit(RLIMIT_DATA, &memory);
    }
    tokenizer *t = NULL;
    error err = {0};
    status st = tokenizer_parse(&t, (const char *)file->data, file->size, &err);
    _exit(st == ST_INVALID_ARGUMENT && err.text[0] != '\0' ? 0 : 1);
}

static void test_hostile_files_cost_little(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostiles / sizeof *hostiles; i++) {
        buffer file = make_hostile(&hostiles[i]);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) refuse_within_limits(&file);
        int outcome;
        assert_int_equal(waitpid(child, &outcome, 0), child);
        if (outcome != 0) fail_msg("%s: outcome %d", hostiles[i].what, outcome);
        buffer_free(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals_name_what_is_wrong),
        cmocka_unit_test(test_every_prefix_of_a_file_is_refused),
        cmocka_unit_test(test_hostile_files_cost_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
