/* Goal: until it is acknowledged, a token can be sent again, the same as the first time; after
 * that it is gone; the checksum is over all of them.
 * Method: random tokens, acknowledgements, rewinds and emissions beside a plain array of every
 * token that was ever made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "tests/unit/worker/engine/test_random.h"
#include "worker/held_stream.h"

enum { TOKENS_MAX = 3000, PRIOR_MAX = 50, TOPS = 4, TEXT_MAX = 20, STREAM = 4711 };

typedef struct token {
    uint32_t id, text_size, top_count;
    char text[TEXT_MAX];
    float logprob;
    uint32_t top_ids[TOPS];
    float top_logprobs[TOPS];
} token;

typedef struct model {
    token all[TOKENS_MAX];
    uint32_t ids[TOKENS_MAX];
    uint32_t base, sent, made;
    uint32_t heard; /* the next index of the emission that is looked at */
} model;

static model m;

static void make_token(held_stream *h, test_random *random, bool with_tops)
{
    token *t = &m.all[m.made];
    *t = (token){.id = (uint32_t)random_next(random),
                 .text_size = random_below(random, TEXT_MAX + 1),
                 .logprob = NAN};
    for (uint32_t i = 0; i < t->text_size; i++)
        t->text[i] = (char)random_next(random);
    if (with_tops && random_below(random, 2) == 0) t->logprob = -random_unit(random);
    if (with_tops) t->top_count = random_below(random, TOPS + 1);
    for (uint32_t i = 0; i < t->top_count; i++) {
        t->top_ids[i] = (uint32_t)random_next(random);
        t->top_logprobs[i] = -random_unit(random);
    }
    m.ids[m.made++] = t->id;
    held_stream_add(h, t->id, t->text_size > 0 ? t->text : NULL, t->text_size, t->logprob,
                    t->top_count, t->top_count > 0 ? t->top_ids : NULL,
                    t->top_count > 0 ? t->top_logprobs : NULL);
}

static void hear(void *ctx, const envelope *e)
{
    (void)ctx;
    const msg_tokens *t = &e->tokens;
    size_t at = 0, text = 0, top = 0;
    for (size_t g = 0; g < t->groups; g++) {
        assert_int_equal(t->stream[g], STREAM);
        assert_int_equal(t->first_index[g], m.heard);
        for (uint32_t i = 0; i < t->count[g]; i++, at++) {
            const token *expected = &m.all[m.heard++];
            assert_int_equal(t->token[at], expected->id);
            assert_int_equal(t->text_len[at], expected->text_size);
            if (expected->text_size > 0)
                assert_memory_equal(t->text + text, expected->text, expected->text_size);
            float logprob = t->logprob != NULL ? t->logprob[at] : NAN;
            assert_true(isnan(logprob) ? isnan(expected->logprob) : logprob == expected->logprob);
            uint32_t tops = t->top_count != NULL ? t->top_count[at] : 0;
            assert_int_equal(tops, expected->top_count);
            if (tops > 0) {
                assert_memory_equal(t->top_id + top, expected->top_ids, tops * sizeof(uint32_t));
                assert_memory_equal(t->top_logprob + top, expected->top_logprobs,
                                    tops * sizeof(float));
            }
            text += t->text_len[at];
            top += tops;
        }
    }
}

static void emit(held_stream *h)
{
    token_columns out = {0};
    held_stream_emit(h, STREAM, &out);
    assert_int_equal(token_columns_tokens(&out), m.made - m.sent);
    m.heard = m.sent;
    token_columns_flush(&out, hear, NULL);
    assert_int_equal(m.heard, m.made);
    m.sent = m.made;
    token_columns_free(&out);
}

static void acknowledge(held_stream *h, test_random *random)
{
    uint32_t next_wanted = random_between(random, m.base > 3 ? m.base - 3 : 0, m.made + 3);
    bool within = next_wanted >= m.base && next_wanted <= m.made;
    assert_int_equal(held_stream_acknowledge(h, next_wanted), within);
    if (!within) return;
    m.base = next_wanted;
    if (m.sent < m.base) m.sent = m.base;
}

static void check(const held_stream *h)
{
    assert_int_equal(h->base, m.base);
    assert_int_equal(h->sent, m.sent);
    assert_int_equal(h->made, m.made);
    assert_int_equal(h->crc, ids_crc32c(0, m.ids, m.made));
    size_t text = 0, top = 0; /* what is acknowledged takes no memory */
    for (uint32_t i = m.base; i < m.made; i++) {
        text += m.all[i].text_size;
        top += m.all[i].top_count;
    }
    assert_int_equal(h->text.size, text);
    assert_int_equal(h->top_ids.size, top * sizeof(uint32_t));
    assert_int_equal(h->top_logprobs.size, top * sizeof(float));
}

static void start(held_stream *h, test_random *random, uint32_t prior)
{
    for (uint32_t i = 0; i < prior; i++)
        m.ids[i] = (uint32_t)random_next(random);
    m.base = m.sent = m.made = prior;
    held_stream_init(h, prior > 0 ? m.ids : NULL, prior);
    check(h);
}

static void test_random_lives(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        test_random random = {seed};
        held_stream h;
        start(&h, &random, random_below(&random, PRIOR_MAX));
        uint32_t window = random_between(&random, 1, 300);
        bool with_tops = seed % 2 == 0;
        for (int step = 0; step < 2000 && m.made < TOKENS_MAX; step++) {
            switch (random_below(&random, 6)) {
            case 0:
            case 1:
            case 2:
                if (m.made < m.base + window) make_token(&h, &random, with_tops);
                break;
            case 3:
                emit(&h);
                break;
            case 4:
                if (random_below(&random, 3) == 0) acknowledge(&h, &random);
                break;
            default:
                if (random_below(&random, 4) > 0) break;
                m.sent = random_between(&random, m.base, m.made);
                held_stream_rewind(&h, m.sent);
            }
            check(&h);
        }
        held_stream_rewind(&h, m.base); /* all that is held once more */
        m.sent = m.base;
        emit(&h);
        assert_true(held_stream_acknowledge(&h, m.made));
        m.base = m.made;
        check(&h);
        held_stream_free(&h);
    }
}

static void test_acknowledging_what_was_not_sent_skips_it(void **state)
{
    (void)state;
    test_random random = {2};
    held_stream h;
    start(&h, &random, 3);
    for (int i = 0; i < 10; i++)
        make_token(&h, &random, true);
    /* A client that came back has heard from somebody else what we have not sent. */
    assert_true(held_stream_acknowledge(&h, 8));
    m.base = m.sent = 8;
    check(&h);
    emit(&h);
    held_stream_free(&h);
}

static void test_acknowledging_outside_changes_nothing(void **state)
{
    (void)state;
    test_random random = {3};
    held_stream h;
    start(&h, &random, 5);
    make_token(&h, &random, false);
    make_token(&h, &random, false);
    assert_true(held_stream_acknowledge(&h, 6));
    m.base = m.sent = 6;
    const uint32_t outside[] = {0, 4, 5, 8, UINT32_MAX};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        assert_false(held_stream_acknowledge(&h, outside[i]));
        check(&h);
    }
    assert_true(held_stream_acknowledge(&h, 6)); /* again: fine */
    check(&h);
    held_stream_free(&h);
}

static void test_an_answer_without_tokens(void **state)
{
    (void)state;
    test_random random = {4};
    held_stream h;
    start(&h, &random, 0);
    assert_int_equal(h.crc, 0);
    emit(&h);
    assert_true(held_stream_acknowledge(&h, 0));
    held_stream_rewind(&h, 0);
    check(&h);
    held_stream_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_lives),
        cmocka_unit_test(test_acknowledging_what_was_not_sent_skips_it),
        cmocka_unit_test(test_acknowledging_outside_changes_nothing),
        cmocka_unit_test(test_an_answer_without_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
