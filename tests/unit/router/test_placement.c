/* Goal: a request goes where it would be done soonest, by what is known of every worker; nobody is
 * overloaded for what it has cached; and when no one can take it, it is said whether waiting helps.
 * Method: each rule alone, in fleets of two or three; then thousands of random fleets, extreme
 * numbers among them, against the sum written down a second time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>

#include "router/placement.h"
#include "tests/unit/worker/engine/test_random.h"

static char any_link; /* placement only asks whether there is one */

typedef struct fleet {
    worker_table workers;
    prefix_table *prefixes;
    placement_history history;
    placement_request request;
    prefix_chain *prompt;
    uint64_t now_ms;
} fleet;

/* The request has a prompt of 4,000 tokens, 125 chunks of 32 tokens each, and an answer of 200. */
enum { PROMPT_TOKENS = 4000, PROMPT_CHUNKS = 125, ANSWER_TOKENS = 200 };

static fleet new_fleet(void)
{
    fleet f = {.prefixes = prefix_table_create(1000),
               .history = {.bytes_per_token = 16, .answer_tokens = ANSWER_TOKENS},
               .prompt = mem_calloc(1, sizeof *f.prompt + PROMPT_CHUNKS * sizeof(uint64_t)),
               .now_ms = 1000000};
    f.prompt->text_bytes = PROMPT_TOKENS * 16;
    f.prompt->count = PROMPT_CHUNKS;
    for (uint32_t i = 0; i < PROMPT_CHUNKS; i++)
        f.prompt->chunk[i] = i + 1000;
    f.request = (placement_request){.model = text_of("m"), .prompt = f.prompt};
    return f;
}

static void free_fleet(fleet *f)
{
    worker_table_free(&f->workers);
    prefix_table_destroy(f->prefixes);
    mem_free(f->prompt);
}

static worker *add_worker(worker_table *t, const char *const *models, size_t model_count,
                          uint32_t slots)
{
    char id[32];
    snprintf(id, sizeof id, "worker-%zu", t->count);
    msg_model offered[LIMIT_MODELS_PER_WORKER];
    for (size_t i = 0; i < model_count; i++)
        offered[i] = (msg_model){.name = text_of(models[i])};
    const msg_register said = {
        .worker_id = text_of(id), .models = offered, .model_count = model_count, .slots = slots};
    worker *w = worker_table_register(t, &said);
    w->link = (struct core_link *)(void *)&any_link;
    return w;
}

static const char *const model_m[] = {"m"};
static const char *const model_n[] = {"n"};
static const char *const models_m_n[] = {"m", "n"};

static worker *join(fleet *f, uint32_t prefill_rate, uint32_t decode_rate)
{
    worker *w = add_worker(&f->workers, model_m, 1, 16);
    w->load.prefill_rate = prefill_rate;
    w->load.decode_rate = decode_rate;
    w->prefix_holder = prefix_table_join(f->prefixes);
    return w;
}

static placement_outcome decide(const fleet *f, placement_choice *out)
{
    return placement_decide(&f->workers, f->prefixes, &f->history, &f->request, f->now_ms, out);
}

static placement_choice choose(const fleet *f)
{
    placement_choice choice = {0};
    assert_int_equal(decide(f, &choice), PLACEMENT_OK);
    assert_true(isfinite(choice.seconds) && choice.seconds >= 0);
    return choice;
}

static void assert_placed(const fleet *f, const worker *expected)
{
    assert_ptr_equal(choose(f).worker, expected);
}

static void assert_not_placed(const fleet *f, placement_outcome expected)
{
    placement_choice untouched = {.seconds = -1};
    assert_int_equal(decide(f, &untouched), expected);
    assert_true(untouched.worker == NULL && untouched.seconds < 0);
}

/* -- who may ------------------------------------------------------------------------------ */

static void test_only_those_who_offer_the_model(void **state)
{
    (void)state;
    fleet f = new_fleet();
    assert_not_placed(&f, PLACEMENT_NO_MODEL);
    worker *m = add_worker(&f.workers, model_m, 1, 2);
    const worker *n = add_worker(&f.workers, model_n, 1, 2);
    m->work.decode_tokens = 1000;
    assert_placed(&f, m);
    f.request.model = text_of("n");
    assert_placed(&f, n);
    const char *const others[] = {"o", "M", "mm", ""};
    for (size_t i = 0; i < 4; i++) {
        f.request.model = text_of(others[i]);
        assert_not_placed(&f, PLACEMENT_NO_MODEL);
        assert_false(placement_is_offered(&f.workers, text_of(others[i])));
    }
    assert_true(placement_is_offered(&f.workers, text_of("n")));
    free_fleet(&f);
}

static void test_full_draining_and_away_mean_wait(void **state)
{
    (void)state;
    fleet f = new_fleet();
    worker *w = add_worker(&f.workers, model_m, 1, 4);
    w->streams = placement_stream_limit(w) - 1;
    assert_placed(&f, w);
    w->streams++;
    assert_not_placed(&f, PLACEMENT_FULL);
    w->streams = 0;
    w->draining = true;
    assert_not_placed(&f, PLACEMENT_FULL);
    w->draining = false;
    w->link = NULL;
    assert_not_placed(&f, PLACEMENT_FULL);
    assert_true(placement_is_offered(&f.workers, text_of("m")));
    worker *none = add_worker(&f.workers, model_m, 1, 0);
    assert_int_equal(placement_stream_limit(none), 0);
    assert_not_placed(&f, PLACEMENT_FULL);
    worker *other = add_worker(&f.workers, model_m, 1, 4);
    other->work.decode_tokens = 100000;
    assert_placed(&f, other);
    free_fleet(&f);
}

static void test_a_lease_that_ends_before_the_request_is_passed_over(void **state)
{
    (void)state;
    fleet f = new_fleet();
    worker *leased = join(&f, 1000, 320); /* 4 s to read, and 10 s to write: 20 tokens/s a stream */
    leased->lease_end_ms = f.now_ms + 60000;
    assert_placed(&f, leased);
    leased->lease_end_ms = f.now_ms + 13000;
    assert_not_placed(&f, PLACEMENT_LEASE_END);
    assert_false(placement_is_lasting(&f.workers, f.request.model));
    f.request.ending_too = true; /* there is nobody else */
    assert_placed(&f, leased);
    leased->lease_end_ms = f.now_ms; /* but nobody runs on a worker that is gone */
    assert_not_placed(&f, PLACEMENT_LEASE_END);
    leased->lease_end_ms = f.now_ms + 13000;
    f.request.ending_too = false;
    f.request.max_tokens = 20; /* a short one still may */
    assert_placed(&f, leased);
    leased->work.prefill_tokens = 20000;
    assert_not_placed(&f, PLACEMENT_LEASE_END);
    worker *slow = join(&f, 10, 10);
    assert_true(placement_is_lasting(&f.workers, f.request.model));
    assert_placed(&f, slow);
    slow->streams = placement_stream_limit(slow);
    assert_not_placed(&f, PLACEMENT_LEASE_END);
    leased->work.prefill_tokens = 0;
    leased->lease_end_ms = f.now_ms;
    assert_not_placed(&f, PLACEMENT_LEASE_END);
    leased->lease_end_ms = f.now_ms - 1;
    assert_not_placed(&f, PLACEMENT_LEASE_END);
    leased->lease_end_ms = UINT64_MAX;
    assert_placed(&f, leased);
    leased->leave_ms = f.now_ms + 1000; /* what runs then is handed over */
    assert_not_placed(&f, PLACEMENT_LEASE_END);
    leased->lease_end_ms = 0;
    assert_not_placed(&f, PLACEMENT_LEASE_END);
    leased->leave_ms = f.now_ms + 60000;
    assert_placed(&f, leased);
    free_fleet(&f);
}

static void test_a_context_too_short_is_the_last_resort(void **state)
{
    (void)state;
    fleet f = new_fleet();
    worker *small = join(&f, 10000, 1000), *large = join(&f, 100, 100);
    small->models[0].context_max = PROMPT_TOKENS;
    large->models[0].context_max = 2 * PROMPT_TOKENS;
    assert_placed(&f, small);
    small->models[0].context_max = PROMPT_TOKENS - 1;
    assert_placed(&f, large);
    large->streams = placement_stream_limit(large);
    assert_placed(&f, small);
    free_fleet(&f);
}

/* Which model an answer comes from must not depend on who happens to be free. */
static void test_the_empty_name_stands_for_the_only_model(void **state)
{
    (void)state;
    worker_table t = {0};
    assert_int_equal(placement_only_model(&t).size, 0);
    add_worker(&t, model_m, 1, 2);
    assert_true(text_equal(placement_only_model(&t), text_of("m")));
    add_worker(&t, model_m, 1, 2);
    assert_true(text_equal(placement_only_model(&t), text_of("m")));
    assert_false(placement_is_offered(&t, text_of(""))); /* itself it is no name */
    add_worker(&t, model_n, 1, 2);
    assert_int_equal(placement_only_model(&t).size, 0);
    worker_table_free(&t);

    add_worker(&t, models_m_n, 2, 2);
    assert_int_equal(placement_only_model(&t).size, 0);
    worker_table_free(&t);
}

static void test_stream_limit_is_the_slots_and_a_few_more(void **state)
{
    (void)state;
    uint32_t before = 0;
    for (uint32_t slots = 1; slots < 5000; slots++) {
        uint32_t limit = placement_stream_limit(&(worker){.slots = slots});
        assert_true(limit > slots || limit == LIMIT_STREAMS_PER_LINK);
        assert_true(limit <= LIMIT_STREAMS_PER_LINK && limit >= before);
        before = limit;
    }
    const uint32_t absurd[] = {1u << 31, UINT32_MAX, UINT32_MAX - 1, 3817748707u, 3817748708u};
    for (size_t i = 0; i < sizeof absurd / sizeof *absurd; i++)
        assert_int_equal(placement_stream_limit(&(worker){.slots = absurd[i]}),
                         LIMIT_STREAMS_PER_LINK);
}

/* -- the estimate ------------------------------------------------------------------------- */

static void test_unlike_workers_are_loaded_by_ability(void **state)
{
    (void)state;
    fleet f = new_fleet();
    worker *slow = join(&f, 2000, 400), *fast = join(&f, 20000, 4000);
    assert_placed(&f, fast);
    fast->work.prefill_tokens = 40000; /* 2 s */
    assert_placed(&f, fast);           /* still sooner than 2.5 s on the slow one */
    fast->work.prefill_tokens = 50000;
    assert_placed(&f, slow);
    slow->work.decode_tokens = 400; /* 1 s */
    assert_placed(&f, fast);
    fast->work.decode_tokens = 4000;
    assert_placed(&f, slow);
    free_fleet(&f);
}

/* What was placed since the last Load is known to the router alone. */
static void test_a_burst_is_shared_by_ability_before_any_load(void **state)
{
    (void)state;
    fleet f = new_fleet();
    enum { REQUESTS = 2600 };
    worker *workers[8];
    for (uint32_t i = 0; i < 8; i++) {
        workers[i] = join(&f, i < 2 ? 20000 : 2000, i < 2 ? 4000 : 400);
        workers[i]->slots = 2000;
    }
    f.request.prompt = &(prefix_chain){.ids = 1000};
    for (uint32_t i = 0; i < REQUESTS; i++) {
        f.request.number = i;
        placement_choice c = choose(&f);
        work_ledger_charge(&c.worker->work, &(work_charge){0}, c.prefill_tokens, c.decode_tokens);
        c.worker->streams++;
    }
    for (uint32_t i = 0; i < 8; i++)
        assert_in_range(workers[i]->streams, i < 2 ? 970 : 97, i < 2 ? 1030 : 103);
    free_fleet(&f);
}

static void test_a_cached_beginning_counts_for_the_time_it_saves(void **state)
{
    (void)state;
    fleet f = new_fleet();
    worker *warm = join(&f, 1000, 1000), *cold = join(&f, 1000, 1000);
    prefix_table_record(f.prefixes, f.prompt->chunk, PROMPT_CHUNKS, warm->prefix_holder, f.now_ms);
    placement_choice c = choose(&f);
    assert_ptr_equal(c.worker, warm);
    assert_int_equal(c.cached.tokens, PROMPT_TOKENS - 1); /* the last one is always read */
    assert_int_equal(c.prefill_tokens, 1);
    assert_int_equal(c.decode_tokens, ANSWER_TOKENS);
    warm->work.prefill_tokens = 3900; /* 3.9 s to wait, 4 s to gain */
    assert_placed(&f, warm);
    warm->work.prefill_tokens = 4200;
    c = choose(&f);
    assert_ptr_equal(c.worker, cold);
    assert_int_equal(c.cached.tokens, 0);
    assert_int_equal(c.prefill_tokens, PROMPT_TOKENS);
    /* Half of it is worth half. */
    prefix_table_forget(f.prefixes, f.prompt->chunk, PROMPT_CHUNKS, warm->prefix_holder, 62);
    warm->work.prefill_tokens = 1800;
    c = choose(&f);
    assert_ptr_equal(c.worker, warm);
    assert_int_equal(c.cached.tokens, 62 * 32);
    warm->work.prefill_tokens = 2200;
    assert_placed(&f, cold);
    warm->work.prefill_tokens = 0;
    prefix_table_leave(f.prefixes, warm->prefix_holder);
    warm->prefix_holder = prefix_table_join(f.prefixes); /* restarted */
    assert_int_equal(choose(&f).cached.tokens, 0);
    free_fleet(&f);
}

static void test_one_popular_prompt_does_not_overload_its_worker(void **state)
{
    (void)state;
    fleet f = new_fleet();
    worker *workers[4];
    for (uint32_t i = 0; i < 4; i++) {
        workers[i] = join(&f, 1000, 1000);
        workers[i]->slots = 2000;
    }
    for (uint32_t i = 0; i < 1000; i++) {
        f.request.number = i;
        placement_choice c = choose(&f);
        prefix_table_record(f.prefixes, f.prompt->chunk, PROMPT_CHUNKS, c.worker->prefix_holder,
                            f.now_ms);
        work_ledger_charge(&c.worker->work, &(work_charge){0}, c.prefill_tokens, c.decode_tokens);
        c.worker->streams++;
    }
    for (uint32_t i = 0; i < 4; i++)
        assert_in_range(workers[i]->streams, 225, 275);
    free_fleet(&f);
}

static void test_unknown_speeds_come_from_the_step_and_from_peers(void **state)
{
    (void)state;
    fleet f = new_fleet();
    worker *a = join(&f, 0, 0), *b = join(&f, 0, 0);
    b->slots = 160;
    assert_placed(&f, b);                /* nobody knows: by slots */
    worker *known = join(&f, 1000, 100); /* like a; b is ten of it */
    assert_placed(&f, b);
    double seconds = choose(&f).seconds;
    b->load.prefill_rate = 10000;
    b->load.decode_rate = 1000;
    assert_true(fabs(choose(&f).seconds - seconds) < 0.001);
    b->streams = placement_stream_limit(b);
    known->streams = placement_stream_limit(known);
    assert_placed(&f, a);
    known->streams = 0;
    a->load.running = 1;
    a->load.step_us = 1000000; /* 16 tokens a second */
    assert_placed(&f, known);
    a->load.step_us = 1000;
    assert_placed(&f, a);
    free_fleet(&f);
}

static void test_short_memory_costs_time(void **state)
{
    (void)state;
    fleet f = new_fleet();
    worker *a = join(&f, 1000, 1000), *b = join(&f, 1000, 1000);
    a->kv_blocks = b->kv_blocks = 1000; /* 16,000 tokens */
    double empty = choose(&f).seconds;
    work_ledger_report(&a->work, &a->load, 0); /* none are free */
    assert_placed(&f, b);
    b->load.kv_blocks_free = 500;
    work_ledger_report(&b->work, &b->load, 0);
    placement_choice c = choose(&f);
    assert_ptr_equal(c.worker, b);
    assert_true(c.seconds > 1.5 * empty);
    a->load.kv_blocks_free = 600;
    assert_placed(&f, a);
    a->work.kv_tokens_since_load = 3200; /* 200 blocks */
    assert_placed(&f, b);
    free_fleet(&f);
}

static void test_streams_of_another_router_count(void **state)
{
    (void)state;
    fleet f = new_fleet();
    worker *a = join(&f, 1000, 1000), *b = join(&f, 1000, 1000);
    a->load.running = 10;
    work_ledger_report(&a->work, &a->load, 0);
    assert_placed(&f, b);
    b->load.running = 20;
    b->load.waiting = 10;
    work_ledger_report(&b->work, &b->load, 0);
    assert_placed(&f, a);
    free_fleet(&f);
}

static void test_equal_workers_take_turns_by_the_requests_number(void **state)
{
    (void)state;
    fleet f = new_fleet();
    enum { WORKERS = 8, REQUESTS = 8000 };
    uint32_t taken[WORKERS] = {0};
    for (uint32_t i = 0; i < WORKERS; i++)
        join(&f, 10000 + i, 1000); /* equal but for noise */
    for (uint32_t i = 0; i < REQUESTS; i++) {
        f.request.number = i;
        const worker *w = choose(&f).worker;
        assert_placed(&f, w);
        for (uint32_t k = 0; k < WORKERS; k++)
            taken[k] += f.workers.all[k] == w;
    }
    for (uint32_t k = 0; k < WORKERS; k++)
        assert_in_range(taken[k], REQUESTS / WORKERS * 85 / 100, REQUESTS / WORKERS * 115 / 100);
    free_fleet(&f);
}

static void test_a_continued_answer_is_read_and_not_written_again(void **state)
{
    (void)state;
    fleet f = new_fleet();
    join(&f, 1000, 1000);
    f.request.prior_tokens = 500;
    placement_choice c = choose(&f);
    assert_int_equal(c.prefill_tokens, PROMPT_TOKENS + 500);
    assert_int_equal(c.decode_tokens, ANSWER_TOKENS);
    f.request.max_tokens = 530;
    assert_int_equal(choose(&f).decode_tokens, 30);
    f.request.max_tokens = 400; /* nonsense: it is over */
    assert_int_equal(choose(&f).decode_tokens, 1);
    f.request.prior_tokens = UINT32_MAX;
    assert_int_equal(choose(&f).prefill_tokens, LIMIT_CONTEXT_TOKENS);
    free_fleet(&f);
}

static void test_a_continued_answer_goes_where_it_stays_the_same(void **state)
{
    (void)state;
    fleet f = new_fleet();
    const worker *fast = join(&f, 10000, 10000);
    worker *same = join(&f, 10, 10);
    same->models[0].numerics = 7;
    assert_placed(&f, fast);
    assert_true(choose(&f).is_exact); /* a new one always is */
    f.request.numerics = 7;
    placement_choice c = choose(&f);
    assert_ptr_equal(c.worker, same);
    assert_true(c.is_exact);
    same->models[0].context_max = 1; /* exact, but impossible */
    c = choose(&f);
    assert_ptr_equal(c.worker, fast);
    assert_false(c.is_exact);
    same->models[0].context_max = 0;
    same->streams = placement_stream_limit(same);
    c = choose(&f);
    assert_ptr_equal(c.worker, fast);
    assert_false(c.is_exact);
    free_fleet(&f);
}

static void test_ids_are_counted_as_they_are(void **state)
{
    (void)state;
    fleet f = new_fleet();
    worker *w = join(&f, 1000, 1000);
    f.prompt->text_bytes = 0;
    f.prompt->ids = PROMPT_CHUNKS * 128 + 5;
    prefix_table_record(f.prefixes, f.prompt->chunk, PROMPT_CHUNKS, w->prefix_holder, f.now_ms);
    placement_choice c = choose(&f);
    assert_int_equal(c.cached.tokens, PROMPT_CHUNKS * 128);
    assert_int_equal(c.prefill_tokens, 5);
    f.request.prompt = &(prefix_chain){0}; /* no prompt at all */
    c = choose(&f);
    assert_int_equal(c.cached.tokens + c.prefill_tokens, 0);
    free_fleet(&f);
}

/* -- what is learned ---------------------------------------------------------------------- */

static void test_lengths_are_learned_from_what_finished(void **state)
{
    (void)state;
    placement_history h = placement_history_default();
    const prefix_chain text = {.text_bytes = 3000}, ids = {.ids = 1000};
    for (int i = 0; i < 1000; i++) {
        placement_learn(&h, &text,
                        &(msg_finish){.reason = FINISH_STOP, .prompt_tokens = 1000, .total = 70});
        placement_learn(&h, &ids,
                        &(msg_finish){.reason = FINISH_LENGTH, .prompt_tokens = 9, .total = 70});
        placement_learn(&h, &text, &(msg_finish){.reason = FINISH_CANCELLED, .total = 4});
    }
    assert_true(fabs(h.bytes_per_token - 3) < 0.01);
    assert_true(fabs(h.answer_tokens - 70) < 0.01);
    const prefix_chain huge = {.text_bytes = UINT32_MAX}, tiny = {.text_bytes = 1};
    for (int i = 0; i < 1000; i++)
        placement_learn(
            &h, &huge,
            &(msg_finish){.reason = FINISH_STOP, .prompt_tokens = 1, .total = UINT32_MAX});
    assert_true(h.bytes_per_token <= 64 && h.answer_tokens <= LIMIT_CONTEXT_TOKENS);
    for (int i = 0; i < 1000; i++)
        placement_learn(&h, &tiny,
                        &(msg_finish){.reason = FINISH_STOP, .prompt_tokens = UINT32_MAX});
    assert_true(h.bytes_per_token >= 0.5 && h.answer_tokens >= 0);
}

/* -- random fleets ------------------------------------------------------------------------ */

static uint32_t random_rate(test_random *random)
{
    const uint32_t extreme[] = {0, 1, UINT32_MAX, 1u << 31};
    uint32_t i = random_below(random, 40);
    return i < 4 ? extreme[i] : random_between(random, 10, 100000);
}

static worker *join_random(fleet *f, test_random *random)
{
    const char *const *const offerings[] = {model_m, model_n, models_m_n};
    uint32_t offering = random_below(random, 3);
    worker *w = add_worker(&f->workers, offerings[offering], offering == 2 ? 2 : 1,
                           random_between(random, 1, 12));
    w->prefix_holder = prefix_table_join(f->prefixes);
    w->load = (msg_load){.prefill_rate = random_rate(random),
                         .decode_rate = random_rate(random),
                         .running = random_below(random, 3),
                         .step_us = random_rate(random),
                         .kv_blocks_free = random_rate(random)};
    w->kv_blocks = random_rate(random);
    w->streams = random_below(random, placement_stream_limit(w) + 2);
    if (random_below(random, 2) == 0) work_ledger_report(&w->work, &w->load, w->streams);
    w->work.prefill_tokens = random_rate(random);
    w->work.decode_tokens = random_below(random, 50) == 0 ? UINT64_MAX : random_rate(random);
    w->draining = random_below(random, 4) == 0;
    if (random_below(random, 4) == 0) w->link = NULL;
    if (random_below(random, 3) == 0)
        w->lease_end_ms = f->now_ms + random_below(random, 100000) - 1000;
    if (random_below(random, 4) == 0) w->models[0].context_max = random_below(random, 10000);
    prefix_table_record(f->prefixes, f->prompt->chunk, random_below(random, PROMPT_CHUNKS + 1),
                        w->prefix_holder, f->now_ms);
    return w;
}

static double decode_rate_of(const worker *w)
{
    if (w->load.decode_rate > 0) return w->load.decode_rate;
    return w->load.running > 0 && w->load.step_us > 0 ? w->slots * 1e6 / w->load.step_us : 0;
}

/* Per slot, of all that offer the model; -1: nobody knows. */
static double peers_rate(const fleet *f, text_view model, bool decode)
{
    double sum = 0, slots = 0;
    for (size_t i = 0; i < f->workers.count; i++) {
        const worker *w = f->workers.all[i];
        double rate = decode ? decode_rate_of(w) : w->load.prefill_rate;
        if (worker_find_model(w, model) == NULL || !(rate > 0)) continue;
        sum += rate;
        slots += w->slots;
    }
    return slots > 0 ? sum / slots : -1;
}

/* The seconds on `w` as placement.h has them; negative: it may not. */
static double seconds_slowly(const fleet *f, const worker *w, bool *fits)
{
    const placement_request *r = &f->request;
    const worker_model *m = worker_find_model(w, r->model);
    if (m == NULL || w->link == NULL || w->draining || w->streams > w->slots + w->slots / 8)
        return -1;
    double peers_decode = peers_rate(f, r->model, true);
    double peers_prefill = peers_rate(f, r->model, false);
    double decode = decode_rate_of(w), prefill = w->load.prefill_rate;
    if (!(decode > 0)) decode = w->slots * (peers_decode > 0 ? peers_decode : 20);
    if (!(prefill > 0)) prefill = peers_prefill > 0 ? w->slots * peers_prefill : 20 * decode;
    prefix_match match;
    prefix_table_match(f->prefixes, r->prompt->chunk, r->prompt->count, &match);
    double cached = prefix_match_chunks(&match, w->prefix_holder) * 32;
    double unread = PROMPT_TOKENS - fmin(cached, PROMPT_TOKENS - 1);
    double blocks = w->work.was_reported ? w->load.kv_blocks_free : w->kv_blocks;
    double free_share =
        w->kv_blocks == 0
            ? 1
            : (blocks * 16 - (double)w->work.kv_tokens_since_load - unread - ANSWER_TOKENS) /
                  (w->kv_blocks * 16.0);
    double seconds = (double)w->work.prefill_tokens / prefill +
                     ((double)w->work.decode_tokens + 128.0 * w->work.foreign_streams) / decode +
                     (unread / prefill + ANSWER_TOKENS / decode) / fmin(1, fmax(0.02, free_share));
    double stream_seconds = ANSWER_TOKENS / (decode / w->slots);
    if (w->lease_end_ms != 0 &&
        (double)f->now_ms + 1000 * (seconds + stream_seconds) + 2000 > (double)w->lease_end_ms)
        return -1;
    *fits = m->context_max == 0 || m->context_max >= PROMPT_TOKENS;
    return seconds;
}

static void check_choice(const fleet *f, uint32_t seen[4])
{
    double best[2] = {INFINITY, INFINITY}; /* of those that fit not, and that do */
    bool offered = false, room = false;
    for (size_t i = 0; i < f->workers.count; i++) {
        const worker *w = f->workers.all[i];
        offered |= worker_find_model(w, f->request.model) != NULL;
        room |= worker_find_model(w, f->request.model) != NULL && w->link != NULL && !w->draining &&
                w->streams < placement_stream_limit(w);
        bool fits = false;
        double seconds = seconds_slowly(f, w, &fits);
        if (seconds >= 0) best[fits] = fmin(best[fits], seconds);
    }
    placement_choice c = {0};
    placement_outcome outcome = decide(f, &c);
    seen[outcome]++;
    bool possible = isfinite(best[0]) || isfinite(best[1]);
    assert_int_equal(outcome, possible  ? PLACEMENT_OK
                              : room    ? PLACEMENT_LEASE_END
                              : offered ? PLACEMENT_FULL
                                        : PLACEMENT_NO_MODEL);
    assert_int_equal(placement_is_offered(&f->workers, f->request.model), offered);
    if (outcome != PLACEMENT_OK) return;
    bool fits = false;
    double seconds = seconds_slowly(f, c.worker, &fits);
    double least = isfinite(best[1]) ? best[1] : best[0];
    assert_int_equal(fits, isfinite(best[1]));
    assert_true(isfinite(c.seconds) && fabs(c.seconds - seconds) <= 1e-9 * seconds);
    assert_true(seconds <= least * 1.0201 + 0.0021);
    assert_int_equal(c.cached.tokens + c.prefill_tokens, PROMPT_TOKENS);
}

static void test_random_fleets(void **state)
{
    (void)state;
    test_random random = {21};
    uint32_t seen[4] = {0};
    for (int round = 0; round < 5000; round++) {
        fleet f = new_fleet();
        uint32_t count = random_below(&random, 7);
        for (uint32_t i = 0; i < count; i++)
            join_random(&f, &random);
        f.request.number = random_next(&random);
        f.request.model = text_of(random_below(&random, 8) == 0   ? "o"
                                  : random_below(&random, 2) == 0 ? "m"
                                                                  : "n");
        check_choice(&f, seen);
        free_fleet(&f);
    }
    for (size_t i = 0; i < 4; i++)
        assert_true(seen[i] > 100);
}

/* -- cost --------------------------------------------------------------------------------- */

static void test_cost_is_prompt_and_answer(void **state)
{
    (void)state;
    msg_submit s = {.text = text_of("0123456789abcdef"), .has_text = true, .max_tokens = 100};
    assert_int_equal(placement_cost(&s), 104);
    s.max_tokens = 0;
    assert_true(placement_cost(&s) > 4 && placement_cost(&s) < 10000);

    const msg_chat_message messages[] = {{text_of("user"), text_of("12345678")},
                                         {text_of("user"), text_of("1234")}};
    s = (msg_submit){.messages = messages, .message_count = 2, .max_tokens = 1};
    assert_int_equal(placement_cost(&s), 4);

    const uint32_t ids[7] = {0};
    s = (msg_submit){
        .ids = ids, .id_count = 7, .prior_ids = ids, .prior_count = 2, .max_tokens = 10};
    assert_int_equal(placement_cost(&s), 19);
    s.max_tokens = UINT32_MAX;
    assert_int_equal(placement_cost(&s), LIMIT_CONTEXT_TOKENS);
    s.text.size = SIZE_MAX / 2;
    assert_int_equal(placement_cost(&s), LIMIT_CONTEXT_TOKENS);
}

static void test_rate_is_what_all_workers_get_done(void **state)
{
    (void)state;
    fleet f = new_fleet();
    const uint32_t ids[900] = {0};
    msg_submit s = {.model = text_of("m"), .ids = ids, .id_count = 900, .max_tokens = 100};
    assert_int_equal(placement_rate(&f.workers, &s), 0);
    worker *a = join(&f, 0, 0), *b = join(&f, 0, 0);
    assert_int_equal(placement_rate(&f.workers, &s), 0);
    a->load.prefill_rate = 1800;                                 /* half a second */
    a->load.decode_rate = 200;                                   /* and another half */
    assert_in_range(placement_rate(&f.workers, &s), 1999, 2000); /* b like a */
    b->load.prefill_rate = 18000;
    b->load.decode_rate = 2000;
    assert_in_range(placement_rate(&f.workers, &s), 10999, 11000);
    add_worker(&f.workers, model_n, 1, 2)->load = b->load;
    add_worker(&f.workers, model_m, 1, 0)->load = b->load;
    assert_in_range(placement_rate(&f.workers, &s), 10999, 11000);
    b->draining = true;
    assert_in_range(placement_rate(&f.workers, &s), 999, 1000);
    a->link = NULL;
    assert_int_equal(placement_rate(&f.workers, &s), 0);
    a->link = b->link;
    a->load.prefill_rate = a->load.decode_rate = UINT32_MAX;
    s.max_tokens = UINT32_MAX;
    assert_in_range(placement_rate(&f.workers, &s), UINT32_MAX - 256, UINT32_MAX);
    free_fleet(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_those_who_offer_the_model),
        cmocka_unit_test(test_full_draining_and_away_mean_wait),
        cmocka_unit_test(test_a_lease_that_ends_before_the_request_is_passed_over),
        cmocka_unit_test(test_a_context_too_short_is_the_last_resort),
        cmocka_unit_test(test_the_empty_name_stands_for_the_only_model),
        cmocka_unit_test(test_stream_limit_is_the_slots_and_a_few_more),
        cmocka_unit_test(test_unlike_workers_are_loaded_by_ability),
        cmocka_unit_test(test_a_burst_is_shared_by_ability_before_any_load),
        cmocka_unit_test(test_a_cached_beginning_counts_for_the_time_it_saves),
        cmocka_unit_test(test_one_popular_prompt_does_not_overload_its_worker),
        cmocka_unit_test(test_unknown_speeds_come_from_the_step_and_from_peers),
        cmocka_unit_test(test_short_memory_costs_time),
        cmocka_unit_test(test_streams_of_another_router_count),
        cmocka_unit_test(test_equal_workers_take_turns_by_the_requests_number),
        cmocka_unit_test(test_a_continued_answer_is_read_and_not_written_again),
        cmocka_unit_test(test_a_continued_answer_goes_where_it_stays_the_same),
        cmocka_unit_test(test_ids_are_counted_as_they_are),
        cmocka_unit_test(test_lengths_are_learned_from_what_finished),
        cmocka_unit_test(test_random_fleets),
        cmocka_unit_test(test_cost_is_prompt_and_answer),
        cmocka_unit_test(test_rate_is_what_all_workers_get_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
