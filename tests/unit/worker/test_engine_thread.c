/* Goal: across the two rings nothing is lost, doubled or reordered; cancel and credit are never
 * refused; a slow loop stops the engine instead of filling memory; stop and failure end cleanly.
 * Method: the fake backend behind a real thread, with a loop that waits for `wake`; run under the
 * address and the thread sanitizer. */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/limits.h"
#include "common/mem.h"
#include "tests/unit/worker/engine/fake_backend.h"
#include "tests/unit/worker/engine/fixture.h"
#include "tests/unit/worker/engine/test_random.h"
#include "worker/engine_thread.h"

enum { CONTEXT = 2000, KEYS = 64, ANSWER_MAX = 1600 };

typedef struct seen {
    uint32_t ids[ANSWER_MAX];
    uint32_t first, count;
    uint32_t credit_end;
    uint32_t finishes;
    finish_reason reason;
    error failure;
} seen;

typedef struct loop {
    tokenizer *tokenizer;
    model model;
    backend *backend;
    engine_thread *thread;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    uint64_t wakes, wakes_handled;
    seen seen[KEYS];
    uint32_t finishes;
    uint32_t logprobs, alternatives;
} loop;

static void on_wake(void *ctx)
{
    loop *l = ctx;
    pthread_mutex_lock(&l->lock);
    l->wakes++;
    pthread_cond_signal(&l->woken);
    pthread_mutex_unlock(&l->lock);
}

static void wait_for_wake(loop *l)
{
    pthread_mutex_lock(&l->lock);
    while (l->wakes == l->wakes_handled)
        pthread_cond_wait(&l->woken, &l->lock);
    l->wakes_handled = l->wakes;
    pthread_mutex_unlock(&l->lock);
}

static void wait_for_wakes(loop *l, uint64_t count)
{
    pthread_mutex_lock(&l->lock);
    while (l->wakes < count)
        pthread_cond_wait(&l->woken, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

static void loop_open(loop *l, bool cheap, uint64_t fail_at_step)
{
    memset(l, 0, sizeof *l);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->woken, NULL);
    l->tokenizer = fixture_tokenizer();
    l->model = fixture_model(CONTEXT);
    fake_backend_options fake = {
        .kv_blocks = 300,
        .step_tokens = 256,
        .step_sequences = 32,
        .vocab = FIXTURE_VOCAB,
        .vocab_used = FIXTURE_USED,
        .likely_id = 'a',
        .cheap = cheap,
        .fail_at_step = fail_at_step,
    };
    l->backend = fake_backend_create(&fake);
    engine_thread_options options = {
        .backend = l->backend,
        .model = &l->model,
        .tokenizer = l->tokenizer,
        .engine = engine_options_default(),
        .wake = on_wake,
        .wake_ctx = l,
    };
    error err;
    if (engine_thread_start(&l->thread, &options, &err) != ST_OK) fail_msg("%s", err.text);
    assert_int_equal(engine_thread_context_max(l->thread), CONTEXT);
}

static void loop_close(loop *l)
{
    engine_thread_destroy(l->thread);
    backend_destroy(l->backend);
    tokenizer_destroy(l->tokenizer);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->woken);
}

static void take_batch(loop *l, engine_batch *b)
{
    assert_true(b->groups > 0 || b->finish_count > 0);
    uint32_t token = 0, text = 0, top = 0;
    for (uint32_t g = 0; g < b->groups; g++) {
        seen *s = &l->seen[b->key[g]];
        assert_int_equal(s->finishes, 0);
        assert_int_equal(b->first_index[g], s->first + s->count);
        for (uint32_t i = 0; i < b->count[g]; i++, token++) {
            assert_true(s->first + s->count < s->credit_end);
            s->ids[s->count++] = b->token[token];
            text += b->text_len[token];
            if (b->logprob != NULL && !isnan(b->logprob[token])) l->logprobs++;
            if (b->top_count != NULL) top += b->top_count[token];
        }
    }
    assert_int_equal(token, b->tokens);
    assert_int_equal(text, b->text_size);
    assert_int_equal(top, b->top_total);
    l->alternatives += top;
    for (uint32_t i = 0; i < b->finish_count; i++) {
        const engine_finish *f = &b->finishes[i];
        seen *s = &l->seen[f->key];
        s->finishes++;
        s->reason = f->reason;
        s->failure = f->failure;
        if (f->reason != FINISH_FAILED) assert_int_equal(f->total, s->first + s->count);
        l->finishes++;
    }
    engine_batch_destroy(b);
}

static void take_all(loop *l)
{
    for (engine_batch *b; (b = engine_thread_take(l->thread)) != NULL;)
        take_batch(l, b);
}

static engine_request *request(uint64_t key, uint32_t prompt_count, uint32_t max_tokens)
{
    uint32_t ids[CONTEXT];
    for (uint32_t i = 0; i < prompt_count; i++)
        ids[i] = (uint32_t)(key * 7 + (uint64_t)i * 3) % 256;
    engine_request *q = fixture_request(key, ids, prompt_count, max_tokens);
    q->ignore_eos = true;
    return q;
}

static void submit(loop *l, engine_request *q)
{
    memset(&l->seen[q->key], 0, sizeof l->seen[0]);
    l->seen[q->key].credit_end = q->credit_end;
    error err;
    if (engine_thread_submit(l->thread, q, &err) != ST_OK) fail_msg("%s", err.text);
}

static void run_all(loop *l, uint32_t keys, uint64_t seed, bool disturb)
{
    test_random r = {seed};
    for (uint32_t key = 0; key < keys; key++) {
        engine_request *q = request(key, 1 + key * 5 % 60, 30);
        if (key % 3 == 0) q->sampling.logprobs = 2;
        if (disturb) q->credit_end = 3;
        submit(l, q);
    }
    while (l->finishes < keys) {
        take_all(l);
        for (uint32_t key = 0; disturb && key < keys; key++) {
            seen *s = &l->seen[key];
            if (s->finishes > 0) continue;
            if (key % 5 == 0 && s->count > 10)
                engine_thread_cancel(l->thread, key, FINISH_SLOW_CONSUMER);
            /* Whoever has used up its credit gets some, so that a wake will come. */
            if (s->count < s->credit_end && random_below(&r, 2)) continue;
            uint32_t credit_end = s->count + random_between(&r, 1, 4);
            if (credit_end > s->credit_end) s->credit_end = credit_end;
            engine_thread_credit(l->thread, key, credit_end);
        }
        if (l->finishes < keys) wait_for_wake(l);
    }
    assert_int_equal(engine_thread_requests(l->thread), 0);
    l->finishes = 0;
}

static void test_answers_cross_the_rings_once_and_in_order(void **state)
{
    (void)state;
    static loop plain, disturbed;
    loop_open(&plain, false, 0);
    loop_open(&disturbed, false, 0);
    for (uint64_t seed = 1; seed <= 5; seed++) {
        run_all(&plain, KEYS, seed, false);
        run_all(&disturbed, KEYS, seed, true);
        uint32_t whole = 0;
        for (uint32_t key = 0; key < KEYS; key++) {
            const seen *p = &plain.seen[key], *d = &disturbed.seen[key];
            assert_int_equal(p->finishes, 1);
            assert_int_equal(p->reason, FINISH_LENGTH);
            assert_int_equal(p->count, 30);
            assert_int_equal(d->finishes, 1);
            assert_true(d->reason == FINISH_LENGTH || d->reason == FINISH_SLOW_CONSUMER);
            assert_memory_equal(p->ids, d->ids, d->count * sizeof d->ids[0]);
            whole += d->reason == FINISH_LENGTH;
            if (key % 5 > 0) assert_int_equal(d->count, 30);
        }
        assert_true(whole >= KEYS * 4 / 5 && whole < KEYS);
    }
    /* Keys 0, 3, ..., 63 asked: 22 of them, 30 tokens each, five times. */
    assert_int_equal(plain.logprobs, 22 * 30 * 5);
    assert_int_equal(plain.alternatives, 22 * 30 * 5 * 2);
    loop_close(&plain);
    loop_close(&disturbed);
}

/* A loop that takes nothing stops the engine at a full outbox; later it gets everything. */
static void test_a_full_outbox_holds_the_engine(void **state)
{
    (void)state;
    static loop l;
    loop_open(&l, true, 0);
    submit(&l, request(0, 1, 1500)); /* one batch a token */
    wait_for_wakes(&l, LIMIT_ENGINE_OUTBOX);
    submit(&l, request(1, 1, 1500)); /* seen only when there is room again */
    uint32_t taken = 0;
    while (l.finishes < 2) {
        engine_batch *b = engine_thread_take(l.thread);
        if (b == NULL) {
            wait_for_wake(&l);
            continue;
        }
        if (taken++ < LIMIT_ENGINE_OUTBOX) assert_int_equal(b->tokens, 1);
        take_batch(&l, b);
    }
    assert_int_equal(l.seen[0].count, 1500);
    assert_int_equal(l.seen[1].count, 1500);
    loop_close(&l);
}

static void test_wishes_are_never_refused(void **state)
{
    (void)state;
    static loop l;
    loop_open(&l, true, 0);
    for (uint32_t key = 0; key < KEYS; key++) {
        engine_request *q = request(key, 4, 1000);
        q->credit_end = 0;
        submit(&l, q);
    }
    for (uint32_t i = 1; i <= 900; i++)
        for (uint32_t key = 0; key < KEYS; key++) {
            l.seen[key].credit_end = i;
            engine_thread_credit(l.thread, key, i);
        }
    for (uint32_t i = 0; i < 1000; i++)
        for (uint32_t key = 0; key < KEYS; key++)
            engine_thread_cancel(l.thread, key, FINISH_DEADLINE);
    engine_thread_cancel(l.thread, 12345, FINISH_CANCELLED); /* unknown: nothing happens */
    engine_thread_credit(l.thread, 12345, 5);
    while (l.finishes < KEYS) {
        take_all(&l);
        if (l.finishes < KEYS) wait_for_wake(&l);
    }
    for (uint32_t key = 0; key < KEYS; key++)
        assert_int_equal(l.seen[key].reason, FINISH_DEADLINE);
    loop_close(&l);
}

static void test_refusals_come_back_as_failed_finishes(void **state)
{
    (void)state;
    static loop l;
    loop_open(&l, true, 0);
    submit(&l, request(3, 10, CONTEXT));
    while (l.finishes < 1) {
        wait_for_wake(&l);
        take_all(&l);
    }
    assert_int_equal(l.seen[3].reason, FINISH_FAILED);
    assert_int_equal(l.seen[3].failure.code, ST_INVALID_ARGUMENT);
    assert_string_equal(l.seen[3].failure.text,
                        "the prompt has 10 tokens and max_tokens is 2000; together they may have "
                        "at most 2000");
    submit(&l, request(3, 10, 5)); /* the key is free again */
    while (l.finishes < 2) {
        wait_for_wake(&l);
        take_all(&l);
    }
    assert_int_equal(l.seen[3].reason, FINISH_LENGTH);
    loop_close(&l);
}

static void test_requests_have_a_limit(void **state)
{
    (void)state;
    static loop l;
    loop_open(&l, true, 0);
    error err;
    for (uint64_t key = 0; key < LIMIT_STREAMS_PER_LINK; key++) {
        engine_request *q = request(key, 1, 2);
        q->credit_end = 0;
        assert_int_equal(engine_thread_submit(l.thread, q, &err), ST_OK);
    }
    engine_request *q = request(LIMIT_STREAMS_PER_LINK, 1, 2);
    assert_int_equal(engine_thread_submit(l.thread, q, &err), ST_RESOURCE_EXHAUSTED);
    assert_string_equal(err.text, "the worker has 4096 requests already, which is its limit");
    engine_request_destroy(q);
    assert_int_equal(engine_thread_requests(l.thread), LIMIT_STREAMS_PER_LINK);
    loop_close(&l); /* all of them still there: dropped with the thread */
}

static void test_stop_ends_in_the_middle_of_everything(void **state)
{
    (void)state;
    for (uint32_t batches = 0; batches < 40; batches += 3) {
        static loop l;
        loop_open(&l, true, 0);
        for (uint32_t key = 0; key < KEYS; key++)
            submit(&l, request(key, 50, 1000));
        if (batches > 0) wait_for_wakes(&l, batches);
        engine_thread_stop(l.thread);
        engine_thread_stop(l.thread);
        take_all(&l); /* what was made is still there */
        uint32_t tokens = 0;
        for (uint32_t key = 0; key < KEYS; key++)
            tokens += l.seen[key].count;
        assert_true(batches == 0 || tokens > 0);
        error err;
        engine_request *q = request(KEYS, 1, 1);
        assert_int_equal(engine_thread_submit(l.thread, q, &err), ST_UNAVAILABLE);
        engine_request_destroy(q);
        loop_close(&l);
    }
}

static void test_a_broken_device_is_reported(void **state)
{
    (void)state;
    static loop l;
    loop_open(&l, true, 20);
    for (uint32_t key = 0; key < 8; key++) {
        engine_request *q = request(key, 5, 1000);
        q->credit_end = 0; /* no step before all are in */
        submit(&l, q);
    }
    for (uint32_t key = 0; key < 8; key++) {
        l.seen[key].credit_end = 1000;
        engine_thread_credit(l.thread, key, 1000);
    }
    while (l.finishes < 8) {
        wait_for_wake(&l);
        take_all(&l);
    }
    for (uint32_t key = 0; key < 8; key++) {
        assert_int_equal(l.seen[key].reason, FINISH_FAILED);
        assert_int_equal(l.seen[key].failure.code, ST_UNAVAILABLE);
    }
    engine_thread_state state_now = engine_thread_get_state(l.thread);
    assert_true(state_now.failed);
    assert_string_equal(state_now.failure.text, "the fake device is on fire");
    error err;
    engine_request *q = request(0, 1, 1);
    assert_int_equal(engine_thread_submit(l.thread, q, &err), ST_UNAVAILABLE);
    engine_request_destroy(q);
    loop_close(&l);
}

/* A device that holds its step until it is told to go on. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const backend_class *class;
    bool is_in_step, may_go_on;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static status submit_at_gate(backend *b, const step_plan *plan, error *err)
{
    pthread_mutex_lock(&gate.lock);
    gate.is_in_step = true;
    pthread_cond_broadcast(&gate.changed);
    while (!gate.may_go_on)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    return gate.class->submit(b, plan, err);
}

static void test_a_step_that_does_not_end_is_seen(void **state)
{
    (void)state;
    static loop l;
    loop_open(&l, true, 0);
    gate.class = l.backend->class;
    backend_class held = *gate.class;
    held.submit = submit_at_gate;
    l.backend->class = &held;
    uint64_t before_ms = clock_now_ms();
    submit(&l, request(0, 5, 3));
    pthread_mutex_lock(&gate.lock);
    while (!gate.is_in_step)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    assert_in_range(engine_thread_get_state(l.thread).step_began_ms, before_ms, clock_now_ms());
    pthread_mutex_lock(&gate.lock);
    gate.may_go_on = true;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
    while (l.finishes < 1) {
        wait_for_wake(&l);
        take_all(&l);
    }
    /* It looks for more work once, and then it waits. */
    while (engine_thread_get_state(l.thread).step_began_ms != 0)
        sched_yield();
    l.backend->class = gate.class;
    loop_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_cross_the_rings_once_and_in_order),
        cmocka_unit_test(test_a_full_outbox_holds_the_engine),
        cmocka_unit_test(test_wishes_are_never_refused),
        cmocka_unit_test(test_refusals_come_back_as_failed_finishes),
        cmocka_unit_test(test_requests_have_a_limit),
        cmocka_unit_test(test_stop_ends_in_the_middle_of_everything),
        cmocka_unit_test(test_a_broken_device_is_reported),
        cmocka_unit_test(test_a_step_that_does_not_end_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
