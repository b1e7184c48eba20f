#include "tests/unit/worker/engine/fixture.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/mem.h"

/* GPT-2's printable stand-in for a byte, as UTF-8: printable bytes stand for themselves, the
 * others get U+0100 and up in order. */
static void byte_character(uint32_t byte, char out[3])
{
    uint32_t shifted = 0, code = byte;
    for (uint32_t b = 0; b <= byte; b++) {
        bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
        if (b == byte && !printable) code = 256 + shifted;
        if (!printable) shifted++;
    }
    if (code < 128) {
        out[0] = (char)code;
        out[1] = '\0';
    } else {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 63));
        out[2] = '\0';
    }
}

static json_t *added_token(uint32_t id, const char *content)
{
    return json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", (int)id, "content", content,
                     "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
}

tokenizer *fixture_tokenizer(void)
{
    static const char *const words[FIXTURE_WORD_COUNT] = {
        "\304\240alpha", "\304\240beta", "\304\240gamma", "\304\240delta", "ab", "bcd", "cc", "dab",
    };
    json_t *vocab = json_object();
    for (uint32_t byte = 0; byte < 256; byte++) {
        char spelling[3] = {0};
        byte_character(byte, spelling);
        json_object_set_new(vocab, spelling, json_integer(byte));
    }
    for (uint32_t i = 0; i < FIXTURE_WORD_COUNT; i++)
        json_object_set_new(vocab, words[i], json_integer(FIXTURE_WORDS + i));
    json_t *root = json_pack(
        "{s:s,s:n,s:n,s:[o,o,o],s:n,s:{s:s,s:b,s:b,s:b},s:n,s:{s:s,s:b,s:b,s:b},"
        "s:{s:s,s:n,s:n,s:n,s:n,s:b,s:b,s:o,s:[]}}",
        "version", "1.0", "truncation", "padding",                                             //
        "added_tokens", added_token(FIXTURE_BOS, "<bos>"), added_token(FIXTURE_EOS, "<eos>"),  //
        added_token(FIXTURE_EOS_2, "<end>"),                                                   //
        "normalizer",                                                                          //
        "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,        //
        "use_regex", 1,                                                                        //
        "post_processor",                                                                      //
        "decoder", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", //
        1,                                                                                     //
        "model", "type", "BPE", "dropout", "unk_token", "continuing_subword_prefix",           //
        "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0, "vocab", vocab, "merges");
    CHECK(root != NULL);
    char *text = json_dumps(root, 0);
    json_decref(root);
    tokenizer *t;
    error err;
    if (tokenizer_parse(&t, text, strlen(text), &err) != ST_OK) {
        fprintf(stderr, "fixture tokenizer: %s\n", err.text);
        abort();
    }
    free(text);
    CHECK(tokenizer_vocab_size(t) == FIXTURE_USED);
    return t;
}

model fixture_model(uint32_t context_max)
{
    model m = {0};
    m.config.vocab_size = FIXTURE_VOCAB;
    m.config.context_max = context_max;
    m.config.eos_ids[0] = FIXTURE_EOS;
    m.config.eos_ids[1] = FIXTURE_EOS_2;
    m.config.eos_count = 2;
    return m;
}

engine_request *fixture_request(uint64_t key, const uint32_t *ids, uint32_t count,
                                uint32_t max_tokens)
{
    engine_request *r = mem_calloc(1, sizeof *r);
    r->key = key;
    r->prompt = mem_copy(ids, count * sizeof *ids);
    r->prompt_count = count;
    r->sampling = sampling_params_default();
    r->sampling.seed = key;
    r->max_tokens = max_tokens;
    r->credit_end = UINT32_MAX;
    return r;
}

void fixture_add_stop(engine_request *r, const char *text)
{
    uint32_t i = r->stop_count++;
    r->stop = mem_realloc(r->stop, r->stop_count * sizeof *r->stop);
    r->stop_sizes = mem_realloc(r->stop_sizes, r->stop_count * sizeof *r->stop_sizes);
    r->stop[i] = mem_strdup(text);
    r->stop_sizes[i] = strlen(text);
}

void fixture_set_prior(engine_request *r, const uint32_t *ids, uint32_t count)
{
    mem_free(r->prior);
    r->prior = mem_copy(ids, count * sizeof *ids);
    r->prior_count = count;
}
