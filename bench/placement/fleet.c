#include "bench/placement/fleet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/check.h"
#include "router/placement.h"

enum { SLOTS_MAX = 256 };

/* One request, as the router and the clock saw it. */
typedef struct journey {
    uint32_t worker;
    prefix_belief cached;
    work_charge charge;
    double first_s, done_s;
} journey;

typedef struct fleet {
    const load *load;
    policy policy;
    fake_engine *engines[FLEET_WORKERS];
    worker *workers[FLEET_WORKERS]; /* of the table */
    worker_table table;
    prefix_table *prefixes;
    placement_history history;
    journey *journeys; /* [load->count] */
    uint32_t arrived, placed, finished;
    uint32_t turn; /* for policies that go round */
    double now_s, load_due_s;
} fleet;

const char *policy_name(policy p)
{
    static const char *const names[] = {"gaggle", "round_robin", "least_outstanding",
                                        "round_robin_room", "least_outstanding_room"};
    return names[p];
}

static uint64_t now_ms(const fleet *f)
{
    return (uint64_t)(f->now_s * 1000);
}

/* -- the router --------------------------------------------------------------------------- */

static void join(fleet *f, uint32_t i, const fake_engine_speed *speed)
{
    static char link; /* placement only asks whether there is one */
    char id[32];
    snprintf(id, sizeof id, "worker-%u", i);
    const msg_model model = {.name = text_of("m"), .context_max = LIMIT_CONTEXT_TOKENS};
    const msg_register said = {.worker_id = text_of(id),
                               .models = &model,
                               .model_count = 1,
                               .slots = speed->slots,
                               .kv_blocks = speed->kv_tokens / LIMIT_KV_BLOCK_TOKENS,
                               .kv_block_tokens = LIMIT_KV_BLOCK_TOKENS};
    worker *w = worker_table_register(&f->table, &said);
    w->link = (struct core_link *)(void *)&link;
    w->prefix_holder = prefix_table_join(f->prefixes);
    f->workers[i] = w;
}

static void hear_load(fleet *f, uint32_t i)
{
    worker *w = f->workers[i];
    fake_engine_load(f->engines[i], &w->load, f->now_s);
    work_ledger_report(&w->work, &w->load, w->streams);
    if (w->load.cache_age_ms > 0)
        prefix_table_set_horizon(f->prefixes, w->prefix_holder, now_ms(f) - w->load.cache_age_ms);
}

static void hear_token(fleet *f, uint32_t i, const fake_event *e)
{
    worker *w = f->workers[i];
    journey *j = &f->journeys[e->request];
    const load_request *r = &f->load->requests[e->request];
    work_ledger_progress(&w->work, &j->charge, 1);
    if (e->first) j->first_s = f->now_s;
    if (!e->finished) return;
    j->done_s = f->now_s;
    f->finished++;
    w->streams--;
    work_ledger_settle(&w->work, &j->charge);
    if (f->policy != POLICY_GAGGLE) return;
    const msg_finish finish = {.reason = FINISH_STOP,
                               .total = r->answer_tokens,
                               .prompt_tokens = r->prompt_tokens,
                               .cached_tokens = e->cached_tokens};
    placement_learn(&f->history, r->prompt, &finish);
    prefix_table_correct(f->prefixes, w->prefix_holder, &j->cached, finish.cached_tokens);
    prefix_table_record(f->prefixes, r->prompt->chunk, r->prompt->count, w->prefix_holder,
                        now_ms(f));
}

static bool place_by_estimate(fleet *f, uint32_t number)
{
    journey *j = &f->journeys[number];
    const prefix_chain *prompt = f->load->requests[number].prompt;
    const placement_request asked = {.model = text_of("m"), .prompt = prompt, .number = number};
    placement_choice choice;
    if (placement_decide(&f->table, f->prefixes, &f->history, &asked, now_ms(f), &choice) !=
        PLACEMENT_OK)
        return false;
    while (f->workers[j->worker] != choice.worker)
        j->worker++;
    j->cached = choice.cached;
    work_ledger_charge(&choice.worker->work, &j->charge, choice.prefill_tokens,
                       choice.decode_tokens);
    prefix_table_record(f->prefixes, prompt->chunk, prompt->count, choice.worker->prefix_holder,
                        now_ms(f));
    return true;
}

/* Ties go to the next in turn. */
static bool place_by_turn(fleet *f, uint32_t number, bool asks_room, bool asks_least)
{
    uint32_t best = FLEET_WORKERS;
    for (uint32_t k = 0; k < FLEET_WORKERS; k++) {
        uint32_t i = (f->turn + k) % FLEET_WORKERS;
        const worker *w = f->workers[i];
        if (asks_room && w->streams >= placement_stream_limit(w)) continue;
        if (best == FLEET_WORKERS || (asks_least && w->streams < f->workers[best]->streams))
            best = i;
    }
    if (best == FLEET_WORKERS) return false;
    f->turn = best + 1;
    f->journeys[number].worker = best;
    return true;
}

static bool place(fleet *f, uint32_t number)
{
    bool least =
        f->policy == POLICY_LEAST_OUTSTANDING || f->policy == POLICY_LEAST_OUTSTANDING_ROOM;
    bool room = f->policy == POLICY_ROUND_ROBIN_ROOM || f->policy == POLICY_LEAST_OUTSTANDING_ROOM;
    bool placed = f->policy == POLICY_GAGGLE ? place_by_estimate(f, number)
                                             : place_by_turn(f, number, room, least);
    if (!placed) return false;
    uint32_t i = f->journeys[number].worker;
    f->workers[i]->streams++;
    fake_engine_submit(f->engines[i], number, f->now_s);
    return true;
}

/* -- time --------------------------------------------------------------------------------- */

static void run_next_event(fleet *f)
{
    double next_s =
        f->arrived < f->load->count ? f->load->requests[f->arrived].arrival_s : INFINITY;
    uint32_t engine = FLEET_WORKERS;
    for (uint32_t i = 0; i < FLEET_WORKERS; i++) {
        if (fake_engine_next_s(f->engines[i]) >= next_s) continue;
        next_s = fake_engine_next_s(f->engines[i]);
        engine = i;
    }
    if (f->load_due_s < next_s) {
        f->now_s = f->load_due_s;
        f->load_due_s += LIMIT_LOAD_INTERVAL_MS / 1000.0;
        for (uint32_t i = 0; i < FLEET_WORKERS; i++)
            hear_load(f, i);
        return;
    }
    f->now_s = next_s;
    if (engine == FLEET_WORKERS) {
        f->arrived++;
        return;
    }
    fake_event events[SLOTS_MAX];
    uint32_t count = fake_engine_step(f->engines[engine], events);
    for (uint32_t i = 0; i < count; i++)
        hear_token(f, engine, &events[i]);
}

/* -- what came of it ---------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static fleet_result sum_up(const fleet *f, const fake_engine_speed *speeds)
{
    const load *l = f->load;
    fleet_result result = {.throughput = (double)l->answer_tokens / f->now_s};
    double *ttft_s = mem_calloc(l->count, sizeof *ttft_s);
    for (uint32_t i = 0; i < l->count; i++) {
        ttft_s[i] = f->journeys[i].first_s - l->requests[i].arrival_s;
        result.ttft_mean_s += ttft_s[i] / l->count;
        result.done_mean_s += (f->journeys[i].done_s - l->requests[i].arrival_s) / l->count;
    }
    qsort(ttft_s, l->count, sizeof *ttft_s, compare_doubles);
    result.ttft_p99_s = ttft_s[(size_t)l->count * 99 / 100];
    mem_free(ttft_s);

    /* Work in seconds of the first worker, which all are like but for a factor. */
    double work[FLEET_WORKERS], all_work = 0, all_ability = 0, cached = 0;
    for (uint32_t i = 0; i < FLEET_WORKERS; i++) {
        fake_engine_done done = fake_engine_work(f->engines[i]);
        work[i] = (double)done.prefill_tokens / speeds[0].prefill +
                  (double)done.decode_tokens / speeds[0].decode;
        all_work += work[i];
        all_ability += speeds[i].decode;
        cached += (double)done.cached_tokens;
    }
    for (uint32_t i = 0; i < FLEET_WORKERS; i++) {
        double share = work[i] / all_work / (speeds[i].decode / all_ability);
        if (share > result.worst_share) result.worst_share = share;
    }
    result.cached_share = cached / (double)l->prompt_tokens;
    return result;
}

fleet_result fleet_run(const load *l, policy p, const fake_engine_speed speeds[FLEET_WORKERS])
{
    fleet f = {.load = l,
               .policy = p,
               .prefixes = prefix_table_create(LIMIT_PREFIX_ENTRIES),
               .history = placement_history_default(),
               .journeys = mem_calloc(l->count, sizeof *f.journeys)};
    for (uint32_t i = 0; i < FLEET_WORKERS; i++) {
        CHECK(speeds[i].slots <= SLOTS_MAX);
        f.engines[i] = fake_engine_create(&speeds[i], l);
        join(&f, i, &speeds[i]);
    }
    while (f.finished < l->count) {
        run_next_event(&f);
        while (f.placed < f.arrived && place(&f, f.placed))
            f.placed++;
    }
    fleet_result result = sum_up(&f, speeds);
    for (uint32_t i = 0; i < FLEET_WORKERS; i++)
        fake_engine_destroy(f.engines[i]);
    worker_table_free(&f.table);
    prefix_table_destroy(f.prefixes);
    mem_free(f.journeys);
    return result;
}
