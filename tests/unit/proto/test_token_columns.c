/* Goal: every token that was added comes out once, in order, with its own text and logprobs, in
 * messages that keep the wire's limits.
 * Method: random tokens and groups, some skipped or dropped, beside a plain list; each flush is
 * encoded, measured, decoded again and compared with the list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "proto/token_columns.h"
#include "tests/unit/worker/engine/test_random.h"

enum { TOKENS_MAX = 60000, TOPS = LIMIT_LOGPROBS_TOP, TEXT_POOL = 8192 };

typedef struct item {
    uint32_t stream, index, token;
    uint32_t text_at, text_size; /* in text_pool */
    float logprob;
    uint32_t top_count;
    uint32_t top_ids[TOPS];
    float top_logprobs[TOPS];
} item;

static char text_pool[TEXT_POOL]; /* any bytes */

/* What went in and has not come out, and how far it has. */
typedef struct list {
    item all[TOKENS_MAX];
    size_t count, checked;
    size_t messages;
    uint64_t emitted_us;
} list;

static list expected;

/* How wild the tokens are. */
typedef struct taste {
    uint32_t text_max;
    uint32_t logprob_percent, top_percent;
    uint32_t streams;
} taste;

static float random_logprob(test_random *random)
{
    return -20.0f * random_unit(random);
}

static item random_item(test_random *random, const taste *t, uint32_t stream, uint32_t index)
{
    item i = {.stream = stream,
              .index = index,
              .token = random_below(random, LIMIT_VOCAB),
              .text_size = random_below(random, t->text_max + 1),
              .logprob = NAN};
    if (random_below(random, 10) == 0) i.text_size = 0;
    i.text_at = random_below(random, TEXT_POOL - i.text_size);
    if (random_below(random, 100) < t->logprob_percent) i.logprob = random_logprob(random);
    if (random_below(random, 100) < t->top_percent) i.top_count = random_below(random, TOPS + 1);
    for (uint32_t top = 0; top < i.top_count; top++) {
        i.top_ids[top] = random_below(random, LIMIT_VOCAB);
        i.top_logprobs[top] = random_logprob(random);
    }
    return i;
}

static void expect(const item *i)
{
    assert_true(expected.count < TOKENS_MAX);
    expected.all[expected.count++] = *i;
}

static void add_item(token_columns *c, const item *i)
{
    token_columns_add(c, i->stream, i->index, i->token,
                      i->text_size > 0 ? text_pool + i->text_at : NULL, i->text_size, i->logprob,
                      i->top_count, i->top_count > 0 ? i->top_ids : NULL,
                      i->top_count > 0 ? i->top_logprobs : NULL);
    expect(i);
}

/* -- a message of somebody else --------------------------------------------------------- */

typedef struct foreign {
    buffer stream, first_index, count, token, text_len, text;
    buffer logprob, top_count, top_id, top_logprob;
    buffer items; /* of item: what it says, token by token */
    msg_tokens m;
} foreign;

static void push(buffer *b, uint32_t value)
{
    buffer_append(b, &value, sizeof value);
}

static void foreign_group(foreign *f, test_random *random, const taste *t, uint32_t stream,
                          uint32_t first, uint32_t count)
{
    push(&f->stream, stream);
    push(&f->first_index, first);
    push(&f->count, count);
    for (uint32_t n = 0; n < count; n++) {
        item i = random_item(random, t, stream, first + n);
        push(&f->token, i.token);
        push(&f->text_len, i.text_size);
        buffer_append(&f->text, text_pool + i.text_at, i.text_size);
        buffer_append(&f->logprob, &i.logprob, sizeof i.logprob);
        push(&f->top_count, i.top_count);
        buffer_append(&f->top_id, i.top_ids, i.top_count * sizeof *i.top_ids);
        buffer_append(&f->top_logprob, i.top_logprobs, i.top_count * sizeof *i.top_logprobs);
        buffer_append(&f->items, &i, sizeof i);
    }
}

/* With `logprobs` and `tops` the columns are there, even where no token has any. */
static void foreign_finish(foreign *f, bool logprobs, bool tops, uint64_t emitted_us)
{
    f->m = (msg_tokens){.stream = (void *)f->stream.data,
                        .first_index = (void *)f->first_index.data,
                        .count = (void *)f->count.data,
                        .groups = f->stream.size / 4,
                        .token = (void *)f->token.data,
                        .text_len = (void *)f->text_len.data,
                        .tokens = f->token.size / 4,
                        .text = f->text.data,
                        .text_size = f->text.size,
                        .emitted_us = emitted_us};
    if (logprobs) f->m.logprob = (void *)f->logprob.data;
    if (!tops) return;
    f->m.top_count = (void *)f->top_count.data;
    f->m.top_id = (void *)f->top_id.data;
    f->m.top_logprob = (void *)f->top_logprob.data;
    f->m.top_total = f->top_id.size / 4;
}

static void foreign_free(foreign *f)
{
    buffer *all[] = {&f->stream,   &f->first_index, &f->count,   &f->token,
                     &f->text_len, &f->text,        &f->logprob, &f->top_count,
                     &f->top_id,   &f->top_logprob, &f->items};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buffer_free(all[i]);
}

/* Relay every group: some in part, some not at all, some under another number. */
static void relay(token_columns *c, const foreign *f, test_random *random, bool all_of_it)
{
    const item *items = (const item *)(const void *)f->items.data;
    token_cursor at = {0};
    size_t token = 0;
    for (size_t g = 0; g < f->m.groups; g++) {
        uint32_t count = f->m.count[g];
        uint32_t skip =
            all_of_it || random_below(random, 2) == 0 ? 0 : random_below(random, count + 1);
        uint32_t stream = !all_of_it && random_below(random, 5) == 0 ? 0 : f->m.stream[g] + 1000;
        if (stream != 0 && skip < count && expected.emitted_us == 0)
            expected.emitted_us = f->m.emitted_us;
        token_columns_add_group(stream == 0 ? NULL : c, &f->m, g, skip, stream, &at);
        for (uint32_t i = skip; stream != 0 && i < count; i++) {
            item renamed = items[token + i];
            renamed.stream = stream;
            if (f->m.logprob == NULL) renamed.logprob = NAN;
            if (f->m.top_count == NULL) renamed.top_count = 0;
            expect(&renamed);
        }
        token += count;
        assert_int_equal(at.token, token);
    }
    assert_int_equal(at.text, f->m.text_size);
    assert_int_equal(at.top, f->m.top_total);
}

/* -- what comes out ----------------------------------------------------------------------- */

static void check_token(const msg_tokens *m, size_t token, size_t text, size_t top, uint32_t stream,
                        uint32_t index)
{
    assert_true(expected.checked < expected.count);
    const item *i = &expected.all[expected.checked++];
    assert_int_equal(stream, i->stream);
    assert_int_equal(index, i->index);
    assert_int_equal(m->token[token], i->token);
    assert_int_equal(m->text_len[token], i->text_size);
    if (i->text_size > 0) assert_memory_equal(m->text + text, text_pool + i->text_at, i->text_size);
    float logprob = m->logprob != NULL ? m->logprob[token] : NAN;
    assert_true(isnan(logprob) ? isnan(i->logprob) : logprob == i->logprob);
    uint32_t top_count = m->top_count != NULL ? m->top_count[token] : 0;
    assert_int_equal(top_count, i->top_count);
    if (top_count == 0) return;
    assert_memory_equal(m->top_id + top, i->top_ids, top_count * sizeof *i->top_ids);
    assert_memory_equal(m->top_logprob + top, i->top_logprobs, top_count * sizeof(float));
}

static void hear(void *ctx, const envelope *e)
{
    (void)ctx;
    envelope full = *e;
    full.link = UINT32_MAX; /* the longest they can be */
    full.n = UINT32_MAX;
    arena scratch = {0};
    buffer frame = {0};
    assert_int_equal(envelope_encode(&full, &scratch, &frame), ST_OK);
    assert_true(frame.size <= LIMIT_TOKENS_MESSAGE_BYTES);
    arena_reset(&scratch);
    envelope got;
    error err = {0};
    if (envelope_decode(frame.data, frame.size, &scratch, &got, &err) != ST_OK)
        fail_msg("refused: %s", err.text);

    const msg_tokens *m = &got.tokens;
    assert_in_range(m->groups, 1, LIMIT_TOKENS_MESSAGE_ENTRIES);
    assert_in_range(m->tokens, 1, LIMIT_TOKENS_MESSAGE_ENTRIES);
    assert_true(m->emitted_us == expected.emitted_us);
    size_t token = 0, text = 0, top = 0;
    for (size_t g = 0; g < m->groups; g++) {
        for (uint32_t i = 0; i < m->count[g]; i++, token++) {
            check_token(m, token, text, top, m->stream[g], m->first_index[g] + i);
            text += m->text_len[token];
            top += m->top_count != NULL ? m->top_count[token] : 0;
        }
    }
    assert_int_equal(token, m->tokens);
    expected.messages++;
    buffer_free(&frame);
    arena_free(&scratch);
}

/* The number of messages it took. */
static size_t flush_and_check(token_columns *c)
{
    assert_int_equal(token_columns_tokens(c), expected.count);
    assert_int_equal(token_columns_empty(c), expected.count == 0);
    token_columns_flush(c, hear, NULL);
    assert_int_equal(expected.checked, expected.count);
    assert_true(token_columns_empty(c));
    assert_int_equal(token_columns_tokens(c), 0);
    size_t messages = expected.messages;
    expected.count = expected.checked = expected.messages = 0;
    expected.emitted_us = 0;
    return messages;
}

/* -- random runs -------------------------------------------------------------------------- */

static void fill_pool(test_random *random)
{
    for (size_t i = 0; i < TEXT_POOL; i++)
        text_pool[i] = (char)random_next(random);
}

static void add_foreign(token_columns *c, test_random *random, const taste *t, uint32_t *next)
{
    foreign f = {0};
    uint32_t groups = random_between(random, 1, 12);
    for (uint32_t g = 0; g < groups; g++) {
        uint32_t stream = random_between(random, 1, t->streams);
        uint32_t count = random_below(random, 6) == 0 ? random_between(random, 1, 200)
                                                      : random_between(random, 1, 4);
        foreign_group(&f, random, t, stream, next[stream], count);
        next[stream] += count;
    }
    foreign_finish(&f, random_below(random, 100) < t->logprob_percent,
                   random_below(random, 100) < t->top_percent, random_next(random));
    relay(c, &f, random, false);
    foreign_free(&f);
}

static void run(uint64_t seed, taste t, uint32_t flushes)
{
    enum { STREAMS = 64 };
    test_random random = {seed};
    fill_pool(&random);
    token_columns c = {0};
    uint32_t next[STREAMS] = {0};
    for (uint32_t flush = 0; flush < flushes; flush++) {
        uint32_t steps = random_below(&random, 40);
        for (uint32_t step = 0; step < steps; step++) {
            if (random_below(&random, 3) == 0) {
                add_foreign(&c, &random, &t, next);
                continue;
            }
            uint32_t stream = random_between(&random, 1, t.streams);
            uint32_t run_length = random_between(&random, 1, 3);
            if (random_below(&random, 10) == 0) run_length = random_below(&random, 300);
            if (random_below(&random, 10) == 0) next[stream] += 5; /* a gap */
            if (random_below(&random, 10) == 0) next[stream] /= 2; /* sent again */
            for (uint32_t i = 0; i < run_length; i++) {
                item one = random_item(&random, &t, stream, next[stream]++);
                add_item(&c, &one);
            }
        }
        if (random_below(&random, 10) == 0) {
            token_columns_clear(&c);
            expected.count = 0;
            expected.emitted_us = 0;
        }
        flush_and_check(&c);
    }
    token_columns_free(&c);
    token_columns_free(&c);
}

static void test_plain_tokens_come_out_as_they_went_in(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++)
        run(seed, (taste){.text_max = 12, .streams = 20}, 40);
}

static void test_logprobs_and_tops_stay_with_their_token(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        run(seed, (taste){.text_max = 12, .streams = 8, .logprob_percent = 3, .top_percent = 2},
            30);
        run(seed, (taste){.text_max = 4, .streams = 3, .logprob_percent = 60, .top_percent = 50},
            30);
        run(seed, (taste){.text_max = 4, .streams = 3, .logprob_percent = 100}, 10);
    }
}

static void test_long_texts_split_into_messages_within_the_limit(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++)
        run(seed,
            (taste){.text_max = LIMIT_TOKEN_TEXT_BYTES,
                    .streams = 40,
                    .logprob_percent = 50,
                    .top_percent = 30},
            12);
}

/* -- the limits ---------------------------------------------------------------------------- */

static void test_as_many_streams_as_a_message_has_entries(void **state)
{
    (void)state;
    token_columns c = {0};
    for (uint32_t stream = 1; stream <= 3 * LIMIT_TOKENS_MESSAGE_ENTRIES; stream++) {
        const item i = {.stream = UINT32_MAX - stream, .index = 1u << 19, .logprob = NAN};
        add_item(&c, &i);
    }
    size_t messages = flush_and_check(&c);
    assert_in_range(messages, 3, 5);
    token_columns_free(&c);
}

static void test_one_stream_with_many_tokens(void **state)
{
    (void)state;
    token_columns c = {0};
    for (uint32_t index = 0; index < 2 * LIMIT_TOKENS_MESSAGE_ENTRIES + 5; index++) {
        const item i = {.stream = 1, .index = index, .token = index, .logprob = NAN};
        add_item(&c, &i);
    }
    assert_in_range(flush_and_check(&c), 3, 4);
    token_columns_free(&c);
}

/* The largest tokens there are: full texts and all alternatives. */
static void test_the_largest_tokens(void **state)
{
    (void)state;
    test_random random = {4};
    fill_pool(&random);
    token_columns c = {0};
    for (uint32_t index = 0; index < 700; index++) {
        item i = {.stream = UINT32_MAX,
                  .index = LIMIT_CONTEXT_TOKENS - 700 + index,
                  .token = UINT32_MAX,
                  .text_size = LIMIT_TOKEN_TEXT_BYTES,
                  .logprob = -1,
                  .top_count = TOPS};
        memset(i.top_ids, 0xff, sizeof i.top_ids);
        add_item(&c, &i);
    }
    assert_true(flush_and_check(&c) > 2);
    token_columns_free(&c);
}

/* A worker of another make may send a whole window as one group, larger than a message may be. */
static void test_a_foreign_group_is_cut_to_fit(void **state)
{
    (void)state;
    test_random random = {6};
    fill_pool(&random);
    token_columns c = {0};
    foreign f = {0};
    const taste t = {.text_max = LIMIT_TOKEN_TEXT_BYTES, .streams = 1};
    foreign_group(&f, &random, &t, 7, 100, LIMIT_WINDOW_TOKENS_MAX);
    foreign_finish(&f, false, false, 5);
    assert_true(f.m.text_size > 4 * LIMIT_TOKENS_MESSAGE_BYTES);
    relay(&c, &f, &random, true);
    assert_in_range(flush_and_check(&c), f.m.text_size / LIMIT_TOKENS_MESSAGE_BYTES + 1, 20);
    token_columns_free(&c);
    foreign_free(&f);
}

/* A column that is there but says "none" for every token. */
static void test_empty_alternatives_are_none(void **state)
{
    (void)state;
    test_random random = {8};
    token_columns c = {0};
    foreign f = {0};
    const taste t = {.text_max = 3, .streams = 1};
    foreign_group(&f, &random, &t, 7, 0, 5);
    foreign_finish(&f, true, true, 5);
    relay(&c, &f, &random, true);
    const item plain = {.stream = 9, .index = 0, .token = 1, .logprob = NAN};
    add_item(&c, &plain);
    assert_int_equal(flush_and_check(&c), 1);
    token_columns_free(&c);
    foreign_free(&f);
}

static void test_the_oldest_emission_time_counts(void **state)
{
    (void)state;
    test_random random = {8};
    token_columns c = {0};
    const taste t = {.text_max = 3, .streams = 1};
    for (uint64_t emitted_us = 100; emitted_us < 400; emitted_us += 100) {
        foreign f = {0};
        foreign_group(&f, &random, &t, 7, (uint32_t)emitted_us, 5);
        foreign_finish(&f, false, false, emitted_us);
        relay(&c, &f, &random, true);
        assert_int_equal(expected.emitted_us, 100);
        foreign_free(&f);
    }
    flush_and_check(&c); /* compares */
    assert_int_equal(c.emitted_us, 0);
    token_columns_free(&c);
}

static void test_nothing_makes_no_message(void **state)
{
    (void)state;
    token_columns c = {0};
    assert_int_equal(flush_and_check(&c), 0);
    token_columns_clear(&c);
    token_columns_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_tokens_come_out_as_they_went_in),
        cmocka_unit_test(test_logprobs_and_tops_stay_with_their_token),
        cmocka_unit_test(test_long_texts_split_into_messages_within_the_limit),
        cmocka_unit_test(test_as_many_streams_as_a_message_has_entries),
        cmocka_unit_test(test_one_stream_with_many_tokens),
        cmocka_unit_test(test_the_largest_tokens),
        cmocka_unit_test(test_a_foreign_group_is_cut_to_fit),
        cmocka_unit_test(test_empty_alternatives_are_none),
        cmocka_unit_test(test_the_oldest_emission_time_counts),
        cmocka_unit_test(test_nothing_makes_no_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
