/* Goal: whatever else runs, each request gets the answer it would get alone, exactly once, within
 * its credit; no block leaks; nothing starves.
 * Method: thousands of random requests through engines of random, mostly tiny size with the fake
 * backend, compared with each request run alone; every invariant checked after every step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/check.h"
#include "common/mem.h"
#include "tests/unit/worker/engine/fake_backend.h"
#include "tests/unit/worker/engine/fixture.h"
#include "tests/unit/worker/engine/test_random.h"

enum { CONTEXT = 400, REQUESTS_MAX = 32, ANSWER_MAX = 256, TEXT_MAX = 4096 };

/* What one request has given so far. */
typedef struct transcript {
    uint32_t ids[ANSWER_MAX];
    uint32_t text_end[ANSWER_MAX]; /* bytes of text up to and with token i */
    uint32_t first, count;         /* index of ids[first] is `first`; prior ones are not there */
    uint8_t text[TEXT_MAX];
    uint32_t text_size;
    uint32_t credit_end;
    uint32_t finishes;
    finish_reason reason;
    uint32_t total, prompt_tokens, cached_tokens;
    bool has_stop_id;
    uint32_t stop_id;
    char stop_text[64];
    float first_logit;
    bool has_logits;
    status failure;
} transcript;

typedef struct bench {
    tokenizer *tokenizer;
    model model;
    backend *backend;
    engine *engine;
    transcript *transcripts; /* by key */
} bench;

static void record(void *ctx, const engine_output *o)
{
    bench *b = ctx;
    transcript *t = &b->transcripts[o->key];
    assert_int_equal(t->finishes, 0);
    assert_int_equal(o->first_index, t->first + t->count);
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < o->token_count; i++) {
        assert_true(o->first_index + i < t->credit_end);
        assert_true(t->count < ANSWER_MAX);
        bytes += o->text_sizes[i];
        t->ids[t->count] = o->tokens[i].id;
        t->text_end[t->count++] = t->text_size + bytes;
    }
    assert_int_equal(bytes, o->text_size);
    assert_true(t->text_size + bytes <= TEXT_MAX);
    if (bytes > 0) memcpy(t->text + t->text_size, o->text, bytes);
    t->text_size += bytes;
    if (o->logits != NULL) {
        assert_int_equal(t->count, 1);
        t->has_logits = true;
        t->first_logit = o->logits[7];
    }
    if (!o->finished) return;
    t->finishes++;
    t->reason = o->reason;
    t->total = o->total;
    t->prompt_tokens = o->prompt_tokens;
    t->cached_tokens = o->cached_tokens;
    t->has_stop_id = o->has_stop_id;
    t->stop_id = o->stop_id;
    snprintf(t->stop_text, sizeof t->stop_text, "%s", o->stop_text != NULL ? o->stop_text : "");
    t->failure = o->failure.code;
}

static void bench_open(bench *b, const fake_backend_options *fake, const engine_options *options)
{
    b->tokenizer = fixture_tokenizer();
    b->model = fixture_model(CONTEXT);
    b->backend = fake_backend_create(fake);
    b->transcripts = mem_calloc(REQUESTS_MAX, sizeof *b->transcripts);
    error err;
    if (engine_create(&b->engine, b->backend, &b->model, b->tokenizer, options, record, b, &err) !=
        ST_OK)
        fail_msg("%s", err.text);
}

static void bench_close(bench *b)
{
    engine_destroy(b->engine);
    backend_destroy(b->backend);
    tokenizer_destroy(b->tokenizer);
    mem_free(b->transcripts);
}

static const fake_backend_options roomy = {
    .kv_blocks = 4 * CONTEXT / LIMIT_KV_BLOCK_TOKENS,
    .step_tokens = 512,
    .step_sequences = 32,
    .vocab = FIXTURE_VOCAB,
    .vocab_used = FIXTURE_USED,
    .likely_id = FIXTURE_EOS,
};

static void bench_submit(bench *b, engine_request *r)
{
    transcript *t = &b->transcripts[r->key];
    memset(t, 0, sizeof *t);
    t->first = r->prior_count;
    t->credit_end = r->credit_end;
    error err;
    if (engine_submit(b->engine, r, 1000, &err) != ST_OK) fail_msg("%s", err.text);
}

static bool bench_step(bench *b)
{
    error err;
    bool more = engine_step(b->engine, 2000, &err);
    assert_int_equal(err.code, ST_OK);
    engine_verify(b->engine);
    return more;
}

static void bench_drain(bench *b)
{
    for (uint32_t steps = 0; bench_step(b); steps++)
        assert_true(steps < 100000);
}

static engine_request *copy_request(const engine_request *r)
{
    engine_request *c = mem_copy(r, sizeof *r);
    c->prompt = mem_copy(r->prompt, r->prompt_count * sizeof *r->prompt);
    c->prior = mem_copy(r->prior, r->prior_count * sizeof *r->prior);
    c->stop_ids = mem_copy(r->stop_ids, r->stop_id_count * sizeof *r->stop_ids);
    c->stop_sizes = mem_copy(r->stop_sizes, r->stop_count * sizeof *r->stop_sizes);
    c->stop = mem_calloc(r->stop_count, sizeof *c->stop);
    for (uint32_t i = 0; i < r->stop_count; i++)
        c->stop[i] = mem_strdup(r->stop[i]);
    c->sampling.bias_ids = NULL;
    c->sampling.bias = NULL;
    return c;
}

/* The answer of a request that is alone, in one piece, without a cache. */
static void run_alone(transcript *out, const engine_request *r)
{
    bench b;
    bench_open(&b, &roomy, &(engine_options){.prefix_cache = false});
    engine_request *copy = copy_request(r);
    copy->key = 0;
    copy->credit_end = UINT32_MAX;
    bench_submit(&b, copy);
    bench_drain(&b);
    *out = b.transcripts[0];
    assert_int_equal(out->finishes, 1);
    bench_close(&b);
}

/* -- random runs ---------------------------------------------------------------------- */

static engine_request *random_request(test_random *r, uint64_t key, const uint32_t *common)
{
    uint32_t ids[CONTEXT];
    uint32_t count = random_between(r, 1, random_below(r, 3) ? 90 : 20);
    uint32_t shared = random_below(r, 3) ? random_below(r, count + 1) : 0;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = i < shared ? common[i] : random_below(r, FIXTURE_USED);
    engine_request *q = fixture_request(key, ids, count, random_between(r, 1, 100));
    q->sampling.seed = random_next(r);
    q->sampling.temperature = random_below(r, 3) ? 0.7f : 0.0f;
    q->sampling.repetition_penalty = random_below(r, 2) ? 1.1f : 1.0f;
    q->sampling.frequency_penalty = random_below(r, 3) ? 0.0f : 0.4f;
    q->sampling.top_p = random_below(r, 2) ? 0.9f : 1.0f;
    q->sampling.logprobs = random_below(r, 4) ? LOGPROBS_OFF : random_below(r, 5);
    q->priority = (int32_t)random_below(r, 3) - 1;
    q->cache_salt.bytes[0] = random_below(r, 4) == 0;
    q->ignore_eos = random_below(r, 4) == 0;
    q->wants_logits = random_below(r, 4) == 0;
    if (random_below(r, 3) == 0) q->min_tokens = random_between(r, 1, q->max_tokens);
    if (random_below(r, 3) == 0) {
        static const char *const stops[] = {"abc",           "dd", "ca b",  "abab",
                                            "\357\277\275a", "b",  " alpha"};
        uint32_t stop_count = random_between(r, 1, 3);
        for (uint32_t i = 0; i < stop_count; i++)
            fixture_add_stop(q, stops[random_below(r, 7)]);
    }
    if (random_below(r, 4) == 0) {
        q->stop_id_count = 1;
        q->stop_ids = mem_alloc(sizeof *q->stop_ids);
        q->stop_ids[0] = random_between(r, 'a', 'z');
    }
    return q;
}

/* `t` is a whole answer or, when cancelled, the beginning of one. */
static void check_answer(const transcript *t, const transcript *alone, uint64_t seed, uint64_t key)
{
    bool same = t->finishes == 1 && t->count <= alone->count &&
                memcmp(t->ids, alone->ids, t->count * sizeof t->ids[0]) == 0 &&
                memcmp(t->text_end, alone->text_end, t->count * sizeof t->text_end[0]) == 0 &&
                memcmp(t->text, alone->text, t->text_size) == 0 && t->total == t->count &&
                t->prompt_tokens == alone->prompt_tokens;
    if (t->reason != FINISH_CANCELLED)
        same = same && t->count == alone->count && t->text_size == alone->text_size &&
               t->reason == alone->reason && t->has_stop_id == alone->has_stop_id &&
               t->stop_id == alone->stop_id && strcmp(t->stop_text, alone->stop_text) == 0;
    if (t->count > 0)
        same = same && t->has_logits == alone->has_logits && t->first_logit == alone->first_logit;
    if (!same)
        fail_msg("seed %llu request %llu: %u tokens reason %d; alone %u tokens reason %d",
                 (unsigned long long)seed, (unsigned long long)key, t->count, (int)t->reason,
                 alone->count, (int)alone->reason);
}

typedef struct totals {
    uint64_t requests, preemptions, cached, cancelled, stops, tokens;
} totals;

static void random_run(uint64_t seed, totals *sum)
{
    test_random r = {seed};
    fake_backend_options fake = roomy;
    engine_options options = {.prefix_cache = random_below(&r, 4) > 0};
    /* The longest request has 190 tokens: 12 blocks. */
    fake.kv_blocks = random_below(&r, 3) ? random_between(&r, 12, 24) : 100;
    fake.step_tokens = random_between(&r, 1, random_below(&r, 2) ? 8 : 64);
    fake.step_sequences = random_between(&r, 1, 10);
    fake.steps_ahead = random_below(&r, 2);
    options.step_tokens = random_below(&r, 2) ? 0 : random_between(&r, 1, fake.step_tokens);
    bench b;
    bench_open(&b, &fake, &options);

    uint32_t common[CONTEXT];
    for (uint32_t i = 0; i < CONTEXT; i++)
        common[i] = random_below(&r, FIXTURE_USED);
    uint32_t requests = random_between(&r, 1, REQUESTS_MAX), submitted = 0;
    bool with_credit = random_below(&r, 2), with_cancel = random_below(&r, 2);
    transcript *alone = mem_calloc(requests, sizeof *alone);

    for (uint32_t steps = 0;; steps++) {
        assert_true(steps < 200000);
        while (submitted < requests && random_below(&r, 3) == 0) {
            engine_request *q = random_request(&r, submitted, common);
            run_alone(&alone[submitted], q);
            if (with_credit) q->credit_end = random_below(&r, 5);
            bench_submit(&b, q);
            submitted++;
        }
        for (uint32_t key = 0; with_credit && key < submitted; key++) {
            transcript *t = &b.transcripts[key];
            if (random_below(&r, 6)) continue;
            uint32_t credit_end = t->count + random_below(&r, 8);
            engine_credit(b.engine, key, credit_end);
            if (credit_end > t->credit_end) t->credit_end = credit_end; /* never moves back */
        }
        if (with_cancel && submitted > 0 && random_below(&r, 40) == 0)
            engine_cancel(b.engine, random_below(&r, submitted), FINISH_CANCELLED);

        bool more = bench_step(&b);
        uint32_t finished = 0;
        for (uint32_t key = 0; key < submitted; key++) {
            const transcript *t = &b.transcripts[key];
            finished += t->finishes;
            /* Whoever has credit when the engine has nothing to do was forgotten. */
            if (!more && t->finishes == 0) assert_true(t->first + t->count >= t->credit_end);
        }
        if (finished == requests) break;
    }
    for (uint32_t key = 0; key < requests; key++) {
        check_answer(&b.transcripts[key], &alone[key], seed, key);
        sum->cancelled += b.transcripts[key].reason == FINISH_CANCELLED;
        sum->stops += b.transcripts[key].reason == FINISH_STOP;
        sum->tokens += b.transcripts[key].count;
    }
    engine_stats stats = engine_get_stats(b.engine);
    assert_int_equal(stats.kv_blocks_free, stats.kv_blocks);
    assert_int_equal(stats.running + stats.waiting, 0);
    sum->requests += requests;
    sum->preemptions += stats.preemptions;
    sum->cached += stats.cached_tokens;
    mem_free(alone);
    bench_close(&b);
}

static void test_answers_do_not_depend_on_the_batch(void **state)
{
    (void)state;
    totals sum = {0};
    for (uint64_t seed = 1; seed <= 200; seed++)
        random_run(seed, &sum);
    printf("%llu requests, %llu tokens, %llu preemptions, %llu cached tokens, %llu cancelled, %llu "
           "stopped\n",
           (unsigned long long)sum.requests, (unsigned long long)sum.tokens,
           (unsigned long long)sum.preemptions, (unsigned long long)sum.cached,
           (unsigned long long)sum.cancelled, (unsigned long long)sum.stops);
    /* Else the run did not try what it is for. */
    assert_true(sum.preemptions > 300 && sum.cached > 1000 && sum.cancelled > 100 &&
                sum.stops > 1000);
}

/* An answer broken off after any token and continued elsewhere is the undisturbed answer: the same
 * ids, and over the break the same text with the same boundaries. */
static void test_continued_answers_equal_undisturbed_ones(void **state)
{
    (void)state;
    uint32_t breaks = 0;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        test_random r = {seed * 1000};
        uint32_t common[CONTEXT] = {0};
        engine_request *q = random_request(&r, 0, common);
        q->wants_logits = false;
        transcript *whole = mem_alloc(sizeof *whole), *rest = mem_alloc(sizeof *rest);
        run_alone(whole, q);
        for (uint32_t cut = 0; cut <= whole->count; cut += 1 + cut / 8) {
            fixture_set_prior(q, whole->ids, cut);
            run_alone(rest, q);
            breaks++;
            uint32_t text_before = cut > 0 ? whole->text_end[cut - 1] : 0;
            assert_int_equal(rest->total, whole->total);
            assert_int_equal(rest->count, whole->count - cut);
            assert_memory_equal(rest->ids, whole->ids + cut, rest->count * sizeof rest->ids[0]);
            for (uint32_t i = 0; i < rest->count; i++)
                assert_int_equal(rest->text_end[i] + text_before, whole->text_end[cut + i]);
            assert_int_equal(rest->text_size, whole->text_size - text_before);
            assert_memory_equal(rest->text, whole->text + text_before, rest->text_size);
            assert_int_equal(rest->reason, whole->reason);
            assert_int_equal(rest->has_stop_id, whole->has_stop_id);
            assert_int_equal(rest->stop_id, whole->stop_id);
            assert_string_equal(rest->stop_text, whole->stop_text);
        }
        engine_request_destroy(q);
        mem_free(whole);
        mem_free(rest);
    }
    assert_true(breaks > 1000);
}

/* -- one at a time ---------------------------------------------------------------------- */

static void fill_ids(uint32_t *ids, uint32_t count, uint32_t salt)
{
    for (uint32_t i = 0; i < count; i++)
        ids[i] = (i * 37 + salt) % FIXTURE_WORDS;
}

static void test_equal_prompts_are_computed_once(void **state)
{
    (void)state;
    fake_backend_options fake = roomy;
    fake.step_tokens = 64;
    bench b;
    bench_open(&b, &fake, &(engine_options){.prefix_cache = true});
    uint32_t ids[200];
    fill_ids(ids, 200, 1);
    for (uint32_t key = 0; key < 20; key++) {
        engine_request *q = fixture_request(key, ids, 200, 1);
        q->ignore_eos = true;
        bench_submit(&b, q);
    }
    bench_drain(&b);
    /* 12 whole blocks once, and 8 tokens of the last for each; the second request gets the rest of
     * the first step, before anything is published. */
    uint64_t computed = fake_backend_tokens(b.backend);
    assert_true(computed >= 192 + 20 * 8 && computed <= 192 + 20 * 8 + 64);
    assert_true(engine_get_stats(b.engine).cached_tokens >= 2432); /* 19 times 128 */
    /* A prompt that is whole blocks leaves the last one to be run. */
    bench_submit(&b, fixture_request(0, ids, 192, 1));
    bench_drain(&b);
    assert_int_equal(b.transcripts[0].cached_tokens, 176);
    assert_int_equal(fake_backend_tokens(b.backend), computed + 16);
    /* Answer tokens are shared as well as prompt tokens. */
    engine_request *q = fixture_request(1, ids, 10, 60);
    q->ignore_eos = true;
    bench_submit(&b, q);
    bench_drain(&b);
    uint32_t again[71];
    memcpy(again, ids, 10 * sizeof *ids);
    memcpy(again + 10, b.transcripts[1].ids, 60 * sizeof *again);
    again[70] = 5;
    bench_submit(&b, fixture_request(2, again, 71, 1));
    bench_drain(&b);
    assert_int_equal(b.transcripts[2].cached_tokens, 64);
    bench_close(&b);
}

/* Tenants do not see in cached_tokens what others asked, nor their own answers' continuations. */
static void test_requests_share_blocks_within_their_salt(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, &roomy, &(engine_options){.prefix_cache = true});
    uint32_t ids[100];
    fill_ids(ids, 100, 1);
    const struct {
        uint8_t salt;
        uint32_t cached;
    } turns[] = {{1, 0}, {1, 96}, {2, 0}, {0, 0}, {2, 96}, {0, 96}, {1, 96}};
    for (uint32_t key = 0; key < sizeof turns / sizeof turns[0]; key++) {
        engine_request *q = fixture_request(key, ids, 100, 40);
        q->cache_salt.bytes[15] = turns[key].salt;
        q->sampling.seed = 1;
        q->ignore_eos = true;
        bench_submit(&b, q);
        bench_drain(&b);
        const transcript *t = &b.transcripts[key];
        assert_int_equal(t->cached_tokens, turns[key].cached);
        assert_int_equal(t->count, 40);
        assert_memory_equal(t->ids, b.transcripts[0].ids, 40 * sizeof t->ids[0]);
    }
    bench_close(&b);
}

static void test_cancel_at_each_stage_releases_blocks(void **state)
{
    (void)state;
    fake_backend_options fake = roomy;
    fake.step_tokens = 32;
    bench b;
    bench_open(&b, &fake, &(engine_options){.prefix_cache = false});
    uint32_t ids[100];
    fill_ids(ids, 100, 2);
    uint32_t total = engine_get_stats(b.engine).kv_blocks;
    /* Cancelled while waiting, in the middle of the prefill, after it, and while decoding. */
    for (uint32_t steps = 0; steps < 12; steps++) {
        engine_request *q = fixture_request(0, ids, 100, 50);
        q->ignore_eos = true;
        bench_submit(&b, q);
        for (uint32_t i = 0; i < steps; i++)
            assert_true(bench_step(&b));
        assert_int_equal(b.transcripts[0].finishes, 0);
        engine_cancel(b.engine, 0, FINISH_DEADLINE);
        engine_cancel(b.engine, 0, FINISH_CANCELLED); /* the first reason stays */
        assert_int_equal(engine_get_stats(b.engine).kv_blocks_free, total);
        assert_true(bench_step(&b));
        assert_int_equal(b.transcripts[0].finishes, 1);
        assert_int_equal(b.transcripts[0].reason, FINISH_DEADLINE);
        assert_int_equal(b.transcripts[0].total, steps < 4 ? 0 : steps - 3);
        assert_false(bench_step(&b));
    }
    engine_cancel(b.engine, 77, FINISH_CANCELLED); /* unknown */
    assert_false(bench_step(&b));
    bench_close(&b);
}

static void test_without_credit_a_sequence_keeps_its_blocks_until_they_are_needed(void **state)
{
    (void)state;
    fake_backend_options fake = roomy;
    fake.kv_blocks = 12;
    bench b;
    bench_open(&b, &fake, &(engine_options){.prefix_cache = false});
    uint32_t ids[100];
    fill_ids(ids, 100, 3);
    engine_request *q = fixture_request(0, ids, 70, 20);
    q->ignore_eos = true;
    q->credit_end = 3;
    transcript *alone = mem_alloc(sizeof *alone);
    run_alone(alone, q);
    bench_submit(&b, q);
    bench_drain(&b);
    assert_int_equal(b.transcripts[0].count, 3);
    assert_int_equal(engine_get_stats(b.engine).kv_blocks_free, 12 - 5);
    uint64_t computed = fake_backend_tokens(b.backend);

    b.transcripts[0].credit_end = 5;
    engine_credit(b.engine, 0, 5);
    engine_credit(b.engine, 0, 1); /* never moves back */
    bench_drain(&b);
    assert_int_equal(b.transcripts[0].count, 5);
    assert_int_equal(fake_backend_tokens(b.backend), computed + 2); /* nothing again */

    engine_request *large = fixture_request(1, ids, 100, 60);
    large->ignore_eos = true;
    bench_submit(&b, large);
    bench_drain(&b);
    assert_int_equal(b.transcripts[1].finishes, 1);
    assert_int_equal(engine_get_stats(b.engine).preemptions, 1);
    assert_int_equal(engine_get_stats(b.engine).waiting, 1);

    b.transcripts[0].credit_end = UINT32_MAX;
    engine_credit(b.engine, 0, UINT32_MAX);
    bench_drain(&b);
    check_answer(&b.transcripts[0], alone, 0, 0);
    mem_free(alone);
    bench_close(&b);
}

static void test_prior_tokens_that_end_the_answer_finish_at_once(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, &roomy, &(engine_options){.prefix_cache = true});
    uint32_t prompt[] = {1, 2, 3};
    uint32_t with_eos[] = {'x', 'a', FIXTURE_EOS_2};

    engine_request *q = fixture_request(0, prompt, 3, 10);
    fixture_set_prior(q, with_eos, 3);
    bench_submit(&b, q);
    bench_drain(&b);
    assert_int_equal(b.transcripts[0].reason, FINISH_STOP);
    assert_int_equal(b.transcripts[0].total, 3);
    assert_int_equal(b.transcripts[0].count, 0);
    assert_true(b.transcripts[0].has_stop_id);
    assert_int_equal(b.transcripts[0].stop_id, FIXTURE_EOS_2);

    q = fixture_request(0, prompt, 3, 2);
    fixture_set_prior(q, with_eos, 2);
    bench_submit(&b, q);
    bench_drain(&b);
    assert_int_equal(b.transcripts[0].reason, FINISH_LENGTH);
    assert_int_equal(b.transcripts[0].total, 2);

    q = fixture_request(0, prompt, 3, 10);
    fixture_set_prior(q, with_eos, 2);
    fixture_add_stop(q, "xa");
    bench_submit(&b, q);
    bench_drain(&b);
    assert_int_equal(b.transcripts[0].reason, FINISH_STOP);
    assert_string_equal(b.transcripts[0].stop_text, "xa");

    /* Tokens behind the end were never part of this answer. */
    error err;
    q = fixture_request(0, prompt, 3, 10);
    uint32_t beyond[] = {FIXTURE_EOS, 'a'};
    fixture_set_prior(q, beyond, 2);
    assert_int_equal(engine_submit(b.engine, q, 0, &err), ST_INVALID_ARGUMENT);
    assert_string_equal(err.text, "prior_ids has 2 tokens; the answer ended after 1");
    engine_request_destroy(q);
    assert_int_equal(fake_backend_tokens(b.backend), 0);
    bench_close(&b);
}

static void expect_refusal(bench *b, engine_request *q, const char *text)
{
    error err;
    assert_int_equal(engine_submit(b->engine, q, 0, &err), ST_INVALID_ARGUMENT);
    assert_string_equal(err.text, text);
    engine_request_destroy(q);
}

static void test_impossible_requests_are_refused_with_reason(void **state)
{
    (void)state;
    fake_backend_options fake = roomy;
    fake.kv_blocks = 10; /* 160 tokens: less than the model's context */
    bench b;
    bench_open(&b, &fake, &(engine_options){.prefix_cache = true});
    assert_int_equal(engine_context_max(b.engine), 160);
    uint32_t ids[200];
    fill_ids(ids, 200, 4);
    expect_refusal(&b, fixture_request(0, ids, 0, 5),
                   "the prompt is empty; at least 1 token is needed");
    expect_refusal(&b, fixture_request(0, ids, 200, 5),
                   "the prompt has 200 tokens and max_tokens is 5; together they may have at most "
                   "160");
    expect_refusal(&b, fixture_request(0, ids, 156, 5),
                   "the prompt has 156 tokens and max_tokens is 5; together they may have at most "
                   "160");
    expect_refusal(&b, fixture_request(0, ids, 5, 0), "max_tokens is 0; it must be at least 1");
    ids[3] = FIXTURE_USED;
    expect_refusal(&b, fixture_request(0, ids, 5, 5),
                   "prompt[3] is 267; the model has ids below 267");
    ids[3] = 0;
    engine_request *q = fixture_request(0, ids, 5, 1);
    fixture_set_prior(q, ids, 2);
    expect_refusal(&b, q, "prior_ids has 2 tokens; max_tokens is 1");
    q = fixture_request(0, ids, 5, 5);
    q->sampling.top_p = 1.5f;
    expect_refusal(&b, q, "top_p is 1.5; it must be above 0 and at most 1");

    /* The largest that fits. */
    q = fixture_request(0, ids, 155, 5);
    q->ignore_eos = true;
    bench_submit(&b, q);
    bench_drain(&b);
    assert_int_equal(b.transcripts[0].reason, FINISH_LENGTH);
    assert_int_equal(b.transcripts[0].total, 5);
    bench_close(&b);

    /* Options above what is there. */
    error err;
    engine *e;
    tokenizer *t = fixture_tokenizer();
    model m = fixture_model(CONTEXT);
    backend *device = fake_backend_create(&fake);
    engine_options options = {.context_max = CONTEXT + 1};
    assert_int_equal(engine_create(&e, device, &m, t, &options, record, NULL, &err),
                     ST_INVALID_ARGUMENT);
    assert_string_equal(err.text, "context_max is 401; the model allows at most 400");
    options = (engine_options){.step_tokens = 513};
    assert_int_equal(engine_create(&e, device, &m, t, &options, record, NULL, &err),
                     ST_INVALID_ARGUMENT);
    assert_string_equal(err.text, "step_tokens is 513; the backend allows at most 512");
    backend_destroy(device);
    tokenizer_destroy(t);
}

static void test_a_broken_device_ends_every_request(void **state)
{
    (void)state;
    fake_backend_options fake = roomy;
    fake.fail_at_step = 4;
    fake.step_sequences = 2;
    bench b;
    bench_open(&b, &fake, &(engine_options){.prefix_cache = true});
    uint32_t ids[20];
    fill_ids(ids, 20, 5);
    for (uint32_t key = 0; key < 5; key++) {
        engine_request *q = fixture_request(key, ids, 20, 50);
        q->ignore_eos = true;
        if (key == 1) q->credit_end = 1;
        bench_submit(&b, q);
    }
    error err;
    for (int i = 0; i < 3; i++)
        assert_true(engine_step(b.engine, 1, &err));
    engine_cancel(b.engine, 4, FINISH_CANCELLED);
    assert_false(engine_step(b.engine, 1, &err));
    assert_int_equal(err.code, ST_UNAVAILABLE);
    assert_string_equal(err.text, "the fake device is on fire");
    for (uint32_t key = 0; key < 5; key++) {
        assert_int_equal(b.transcripts[key].finishes, 1);
        assert_int_equal(b.transcripts[key].reason, key == 4 ? FINISH_CANCELLED : FINISH_FAILED);
        assert_int_equal(b.transcripts[key].failure, key == 4 ? ST_OK : ST_UNAVAILABLE);
    }
    engine_verify(b.engine);
    bench_close(&b);
}

/* A higher priority is served first; within one, the earlier request. */
static void test_priority_then_arrival_decides(void **state)
{
    (void)state;
    fake_backend_options fake = roomy;
    fake.step_sequences = 1;
    bench b;
    bench_open(&b, &fake, &(engine_options){.prefix_cache = true});
    uint32_t ids[20];
    fill_ids(ids, 20, 6);
    static const int32_t priorities[] = {0, -1, 0, 7, 7, -1};
    static const uint32_t expected[] = {3, 4, 0, 2, 1, 5};
    for (uint32_t key = 0; key < 6; key++) {
        engine_request *q = fixture_request(key, ids, 20, 3);
        q->ignore_eos = true;
        q->priority = priorities[key];
        bench_submit(&b, q);
    }
    uint32_t done = 0;
    while (bench_step(&b))
        for (uint32_t key = 0; key < 6; key++)
            if (b.transcripts[key].finishes == 1) {
                b.transcripts[key].finishes = 2; /* seen */
                assert_int_equal(key, expected[done]);
                done++;
            }
    assert_int_equal(done, 6);
    bench_close(&b);
}

/* A large prompt is not passed by for ever by small ones that fit. */
static void test_a_large_request_does_not_starve(void **state)
{
    (void)state;
    fake_backend_options fake = roomy;
    fake.kv_blocks = 12;
    bench b;
    bench_open(&b, &fake, &(engine_options){.prefix_cache = true});
    uint32_t ids[180];
    fill_ids(ids, 180, 7);
    for (uint32_t steps = 0; b.transcripts[0].finishes == 0; steps++) {
        assert_true(steps < 200);
        if (steps == 5) bench_submit(&b, fixture_request(0, ids, 180, 3));
        for (uint32_t key = 1; key < 8; key++)
            if (steps == 0 || b.transcripts[key].finishes == 1) {
                engine_request *q = fixture_request(key, ids + key, 30, 10);
                q->ignore_eos = true;
                bench_submit(&b, q);
            }
        bench_step(&b);
    }
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_do_not_depend_on_the_batch),
        cmocka_unit_test(test_continued_answers_equal_undisturbed_ones),
        cmocka_unit_test(test_equal_prompts_are_computed_once),
        cmocka_unit_test(test_requests_share_blocks_within_their_salt),
        cmocka_unit_test(test_cancel_at_each_stage_releases_blocks),
        cmocka_unit_test(test_without_credit_a_sequence_keeps_its_blocks_until_they_are_needed),
        cmocka_unit_test(test_prior_tokens_that_end_the_answer_finish_at_once),
        cmocka_unit_test(test_impossible_requests_are_refused_with_reason),
        cmocka_unit_test(test_a_broken_device_ends_every_request),
        cmocka_unit_test(test_priority_then_arrival_decides),
        cmocka_unit_test(test_a_large_request_does_not_starve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
