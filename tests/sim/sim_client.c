/* A client process: the real libgaggle, and people who ask, read, dawdle, cancel and walk away.
 *
 * Every answer is held against the model's, column by column, as it arrives. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "client/client_internal.h"
#include "client/gaggle.h"
#include "common/check.h"
#include "tests/sim/sim.h"

enum { URLS_MAX = 4, READS_AT_ONCE = 3, LATE_MS = 3000 };

typedef enum wish_state { WISH_WAITING, WISH_OPEN, WISH_ENDED } wish_state;

typedef struct wish {
    sim_wish what;
    sim_question question;
    sim_client *client;
    wish_state state;
    gaggle_stream *stream;
    uint32_t next;
    uint64_t asked_ms;
    bool cancelled;
    sim_event *act; /* ask, or read */
} wish;

struct sim_client {
    sim_process process;
    uint32_t number, tenant, routers;
    gaggle_client *client; /* NULL: down */
    bool leaves;
    wish *wishes;
    uint32_t wish_count, ended;
    sim_ends *ends;
    sim_event *look;  /* at the fleet; NULL: never again */
    uint32_t queries; /* unanswered */
};

id128 sim_last_request;

static void ask(void *ctx);

static void wish_end(wish *w, uint32_t *counter)
{
    CHECK(w->state == WISH_OPEN); /* ends exactly once */
    w->state = WISH_ENDED;
    w->client->ended++;
    ++*counter;
    if (w->stream != NULL) gaggle_stream_close(w->stream);
    w->stream = NULL;
    sim_cancel(w->act);
    w->act = NULL;
}

/* -- what is heard --------------------------------------------------------------------------- */

static void check_tokens(wish *w, const gaggle_event *e)
{
    const sim_question *q = &w->question;
    CHECK(e->first_index == w->next); /* none lost, none doubled */
    CHECK(e->count >= 1 && w->next + e->count <= sim_answer_total(q));
    const char *text = e->text;
    size_t top = 0;
    for (uint32_t i = 0; i < e->count; i++, w->next++) {
        CHECK(e->ids[i] == sim_answer_token(q, w->next));
        char expected[SIM_TEXT_MAX];
        uint32_t size = sim_answer_text(q, w->next, expected);
        CHECK(e->text_len[i] == size && memcmp(text, expected, size) == 0);
        text += size;
        if (q->logprobs == LOGPROBS_NONE) {
            CHECK(e->logprobs == NULL || isnan(e->logprobs[i]));
            CHECK(e->top_count == NULL || e->top_count[i] == 0);
            continue;
        }
        CHECK(e->logprobs != NULL && e->logprobs[i] == sim_answer_logprob(q, w->next));
        CHECK(q->logprobs == 0 || (e->top_count != NULL && e->top_count[i] == q->logprobs));
        for (uint32_t rank = 0; rank < q->logprobs; rank++, top++) {
            CHECK(e->top_ids[top] == sim_answer_top_id(q, w->next, rank));
            CHECK(e->top_logprobs[top] == sim_answer_top_logprob(q, w->next, rank));
        }
    }
    CHECK((size_t)(text - e->text) == e->text_size);
    w->client->ends->tokens += e->count;
}

/* Refused before any router took it: people try again. */
static bool worth_asking_again(const wish *w, const gaggle_event *e)
{
    return !w->stream->core.accepted &&
           (e->error->code == GAGGLE_UNAVAILABLE || e->error->code == GAGGLE_RESOURCE_EXHAUSTED);
}

/* The library asked again and again, and each time the queue was full. */
static bool patience_is_over(const wish *w)
{
    const stream_core *core = &w->stream->core;
    uint64_t since_ms = core->trouble_since_ms;
    return since_ms != 0 && sim_clock_ms(&w->client->process) - since_ms >= core->patience_ms;
}

static void check_failure(wish *w, const gaggle_event *e)
{
    sim_ends *ends = w->client->ends;
    CHECK(e->error != NULL);
    sim_trace("wish fails after %u tokens: %s: %s", w->next, gaggle_code_name(e->error->code),
              e->error->text);
    if (w->what.prompt[0] == SIM_BAD_ID && e->error->code == GAGGLE_INVALID_ARGUMENT) {
        wish_end(w, &ends->bad);
    } else if (e->error->code == GAGGLE_INTERNAL && ends->failed < sim_engine_failed) {
        wish_end(w, &ends->failed);
    } else if (worth_asking_again(w, e)) {
        bool full = e->error->code == GAGGLE_RESOURCE_EXHAUSTED;
        CHECK(!full || e->error->retry_after_ms > 0);
        if (full && w->what.leaves) {
            wish_end(w, &ends->turned_away);
            return;
        }
        ends->retries++;
        gaggle_stream_close(w->stream);
        w->stream = NULL;
        w->state = WISH_WAITING;
        sim_cancel(w->act);
        uint64_t pause_ms = e->error->retry_after_ms + sim_pick(500) + 1;
        w->act = sim_after(&w->client->process, pause_ms * 1000, ask, w);
    } else if (e->error->code == GAGGLE_RESOURCE_EXHAUSTED && patience_is_over(w)) {
        wish_end(w, &ends->turned_away);
    } else if (e->error->code == GAGGLE_CANCELLED && w->what.read_us > 0 && sim_allowed.adopted) {
        wish_end(w, &ends->slow); /* a router that restarted knows too little to finish it */
    } else if (e->error->code == GAGGLE_UNAVAILABLE && sim_allowed.lost) {
        wish_end(w, &ends->lost);
    } else {
        sim_fail("%s wish %u: failed after %u tokens: %s: %s", w->client->process.name,
                 (unsigned)(w - w->client->wishes), w->next, gaggle_code_name(e->error->code),
                 e->error->text);
    }
}

/* Are all its parts of equal bits? What is asked again of a router that does not know it counts as
 * not. */
static void check_parts(const wish *w, const gaggle_event *e)
{
    if (sim_parts_are_mixed(&w->question, e->total_tokens)) {
        CHECK(e->approximate);
        if (w->stream->core.submitted == 0) CHECK(e->continuations > 0);
    }
    if (sim_parts_are_equal(&w->question) && w->stream->core.submitted == 0) CHECK(!e->approximate);
}

static uint64_t asked_for_ms(const wish *w)
{
    return sim_clock_ms(&w->client->process) - w->asked_ms;
}

static void check_finish(wish *w, const gaggle_event *e)
{
    sim_ends *ends = w->client->ends;
    const sim_question *q = &w->question;
    CHECK(e->total_tokens == w->next);
    if (sim_allowed.punctual && w->what.read_us == 0 && w->what.deadline_ms > 0)
        CHECK(asked_for_ms(w) <= w->what.deadline_ms + LATE_MS);
    CHECK(e->continuations == 0 || sim_allowed.continued);
    ends->continuations += e->continuations;
    bool whole = w->next == sim_answer_total(q);
    switch (e->reason) {
    case GAGGLE_FINISH_STOP:
    case GAGGLE_FINISH_LENGTH:
        CHECK(whole);
        CHECK((e->reason == GAGGLE_FINISH_LENGTH) == (w->next < q->length));
        check_parts(w, e);
        ends->approximate += e->approximate;
        wish_end(w, &ends->complete);
        break;
    case GAGGLE_FINISH_CANCELLED:
        CHECK(w->cancelled);
        wish_end(w, &ends->cancelled);
        break;
    case GAGGLE_FINISH_DEADLINE:
        CHECK(w->what.deadline_ms > 0);
        /* Before it has begun it may be told that it would be late. */
        CHECK(w->next == 0 || sim_allowed.early_deadline ||
              asked_for_ms(w) + 1 >= w->what.deadline_ms);
        wish_end(w, &ends->deadline);
        break;
    case GAGGLE_FINISH_SLOW_CONSUMER:
        CHECK(w->what.read_us > 0);
        wish_end(w, &ends->slow);
        break;
    default:
        CHECK(e->reason == GAGGLE_FINISH_FAILED);
        check_failure(w, e);
    }
}

static void maybe_cancel(wish *w)
{
    if (w->state != WISH_OPEN || w->cancelled || w->next < w->what.cancel_at) return;
    w->cancelled = true;
    if (!w->what.close) {
        gaggle_cancel(w->stream);
        return;
    }
    wish_end(w, &w->client->ends->closed);
}

static void hear(wish *w, const gaggle_event *e)
{
    CHECK(w->state == WISH_OPEN);
    if (e->type == GAGGLE_TOKENS) {
        check_tokens(w, e);
        maybe_cancel(w);
    } else {
        check_finish(w, e);
    }
}

static void on_event(void *ctx, gaggle_stream *stream, const gaggle_event *e)
{
    (void)stream;
    hear(ctx, e);
}

/* -- what is done --------------------------------------------------------------------------------
 */

static void read_some(void *ctx)
{
    wish *w = ctx;
    w->act = sim_after(&w->client->process, w->what.read_us / 2 + sim_pick(w->what.read_us),
                       read_some, w);
    gaggle_event e;
    for (uint32_t i = 0; i < READS_AT_ONCE && w->state == WISH_OPEN; i++) {
        if (w->next >= w->what.read_max) {
            /* They look again when it is over. */
            w->what.read_max = UINT32_MAX;
            sim_cancel(w->act);
            w->act = sim_after(&w->client->process, 20000000, read_some, w);
            return;
        }
        if (gaggle_stream_next(w->stream, 0, &e) != GAGGLE_OK) return;
        hear(w, &e);
    }
}

static void ask(void *ctx)
{
    wish *w = ctx;
    sim_client *c = w->client;
    const sim_wish *what = &w->what;
    w->act = NULL;
    w->state = WISH_OPEN;
    w->asked_ms = sim_clock_ms(&c->process);
    gaggle_request request = {
        .ids = what->prompt,
        .id_count = what->prompt_count,
        .sampling = {.has_seed = true, .seed = what->seed},
        .max_tokens = what->max_tokens,
        .logprobs = what->logprobs == LOGPROBS_NONE ? 0 : GAGGLE_LOGPROBS(what->logprobs),
        .window = what->window,
        .deadline_ms = what->deadline_ms,
        .priority = what->priority,
        .on_event = what->read_us == 0 ? on_event : NULL,
        .ctx = w,
    };
    gaggle_error err;
    gaggle_code code = gaggle_submit(&w->stream, c->client, &request, &err);
    CHECK(code == GAGGLE_OK);
    sim_last_request = w->stream->submit.request_id;
    if (what->read_us > 0) w->act = sim_after(&c->process, what->read_us, read_some, w);
    if (what->cancel_at == 0) maybe_cancel(w);
}

/* `gaggle top`, now and then. */
static void on_report(void *ctx, const gaggle_report *report, const gaggle_error *err)
{
    sim_client *c = ctx;
    CHECK((report == NULL) == (err != NULL) && c->queries > 0);
    c->queries--;
}

static void look(void *ctx)
{
    sim_client *c = ctx;
    gaggle_error err;
    gaggle_code code = gaggle_query(c->client, sim_between(100, 4000), on_report, c, &err);
    CHECK(code == GAGGLE_OK);
    c->queries++;
    c->look = sim_client_is_done(c) ? NULL : sim_after(&c->process, 3000000, look, c);
}

/* `gaggle drain`. The library's own waits for the answer; this one does as it does until there. */
typedef struct drain_order {
    sim_client *client;
    char worker_id[16];
    uint32_t worker;
} drain_order;

static void on_drained(void *ctx, const gaggle_report *report, const gaggle_error *err)
{
    drain_order *order = ctx;
    sim_trace("drain of %s: %s", order->worker_id, err != NULL ? err->text : "it has been told");
    CHECK(order->worker != SIM_NOBODY || report == NULL);
    /* It is this worker's refusal, and not another one's. */
    if (err != NULL && err->code == GAGGLE_NOT_FOUND)
        CHECK(strstr(err->text, order->worker_id) != NULL);
    order->client->queries--;
    mem_free(order);
}

void sim_client_drain(sim_client *c, uint32_t worker, uint32_t limit_ms)
{
    if (c->client == NULL || c->leaves) return;
    sim_process *previous = sim_enter(&c->process);
    drain_order *order = mem_calloc(1, sizeof *order);
    *order = (drain_order){.client = c, .worker = worker};
    snprintf(order->worker_id, sizeof order->worker_id, SIM_WORKER_ID, worker);
    sim_trace("asks for %s to drain limit_ms=%u", order->worker_id, limit_ms);
    query *q = mem_calloc(1, sizeof *q);
    *q = (query){.next = c->client->new_queries,
                 .until_ms = sim_clock_ms(&c->process) + sim_between(100, 4000),
                 .drain = mem_strdup(order->worker_id),
                 .drain_ms = limit_ms,
                 .on_report = on_drained,
                 .ctx = order};
    c->client->new_queries = q;
    c->client->query_count++;
    c->queries++;
    uv_async_send(&c->client->wake);
    sim_enter(previous);
}

/* -- the process
 * ----------------------------------------------------------------------------------- */

void sim_client_start(sim_client *c)
{
    sim_process *previous = sim_enter(&c->process);
    c->process.dead = false;
    char text[URLS_MAX][64];
    const char *urls[URLS_MAX];
    for (uint32_t i = 0; i < c->routers; i++) {
        snprintf(text[i], sizeof text[i], SIM_CLIENT_URL, (c->number + i) % c->routers);
        urls[i] = text[i];
    }
    char token[16];
    snprintf(token, sizeof token, SIM_TENANT_TOKEN, c->tenant);
    const gaggle_options options = {
        .urls = urls,
        .url_count = c->routers,
        .name = c->process.name,
        .token = c->tenant > 0 ? token : NULL,
        .offline_ms = 600000,
        .uv_loop = &c->process.loop,
    };
    gaggle_error err;
    gaggle_code code = gaggle_client_create(&c->client, &options, &err);
    CHECK(code == GAGGLE_OK);
    for (uint32_t i = 0; i < c->wish_count; i++)
        c->wishes[i].act = sim_after(&c->process, c->wishes[i].what.at_us, ask, &c->wishes[i]);
    c->look = sim_after(&c->process, sim_pick(3000000), look, c);
    sim_enter(previous);
}

static void on_closed(void *ctx)
{
    ((sim_client *)ctx)->client = NULL;
}

static void end_wishes(sim_client *c)
{
    for (uint32_t i = 0; i < c->wish_count; i++) {
        wish *w = &c->wishes[i];
        sim_cancel(w->act);
        w->act = NULL;
        if (w->state == WISH_ENDED) continue;
        w->state = WISH_OPEN;
        wish_end(w, &c->ends->gone);
    }
    sim_cancel(c->look);
    c->look = NULL;
}

void sim_client_kill(sim_client *c, bool silently)
{
    if (c->client == NULL) return;
    sim_process *previous = sim_enter(&c->process);
    sim_trace("client is killed%s", silently ? " with its machine" : "");
    c->process.dead = true;
    sim_network_kill(&c->process, silently);
    end_wishes(c);
    if (!c->leaves) gaggle_client_close(c->client, on_closed, c);
    sim_run_out(&c->process);
    CHECK(c->client == NULL && c->queries == 0);
    sim_enter(previous);
}

void sim_client_leave(sim_client *c)
{
    if (c->client == NULL || c->leaves) return;
    sim_process *previous = sim_enter(&c->process);
    sim_trace("client leaves");
    end_wishes(c);
    c->leaves = true;
    gaggle_client_close(c->client, on_closed, c);
    sim_enter(previous);
}

bool sim_client_is_up(const sim_client *c)
{
    return c->client != NULL;
}

bool sim_client_is_done(const sim_client *c)
{
    return c->ended == c->wish_count;
}

bool sim_client_is_empty(const sim_client *c)
{
    const gaggle_client *g = c->client;
    return g == NULL || (g->stream_count == 0 && g->streams == NULL && g->query_count == 0);
}

sim_process *sim_client_process(sim_client *c)
{
    return &c->process;
}

void sim_client_dump(const sim_client *c)
{
    for (uint32_t i = 0; i < c->wish_count; i++) {
        const wish *w = &c->wishes[i];
        if (w->state == WISH_ENDED) continue;
        char id[33] = "-";
        if (w->stream != NULL) gaggle_stream_id(w->stream, id);
        sim_trace("%s wish %u request=%s %s next=%u of %u", c->process.name, i, id,
                  w->state == WISH_OPEN ? "open" : "waiting", w->next,
                  sim_answer_total(&w->question));
    }
}

uint32_t sim_client_credit_end(const sim_client *c, const sim_question *q)
{
    for (uint32_t i = 0; i < c->wish_count; i++) {
        const wish *w = &c->wishes[i];
        if (w->question.hash != q->hash || w->state != WISH_OPEN) continue;
        const stream_core *core = &w->stream->core;
        return core->window > 0 ? core->acked + core->window : UINT32_MAX;
    }
    return UINT32_MAX;
}

sim_client *sim_client_create(uint32_t number, uint32_t tenant, uint32_t routers,
                              const sim_wish *wishes, uint32_t wish_count, sim_ends *ends)
{
    CHECK(routers <= URLS_MAX);
    sim_client *c = mem_calloc(1, sizeof *c);
    char name[16];
    snprintf(name, sizeof name, "client%u", number % 100);
    sim_process_init(&c->process, name, NULL, NULL);
    c->number = number;
    c->tenant = tenant;
    c->routers = routers;
    c->ends = ends;
    c->wish_count = wish_count;
    c->wishes = mem_calloc(wish_count, sizeof *c->wishes);
    for (uint32_t i = 0; i < wish_count; i++) {
        const sim_wish *w = &wishes[i];
        c->wishes[i] = (wish){.what = *w, .client = c};
        c->wishes[i].question =
            sim_question_of(w->prompt, w->prompt_count, w->seed, w->max_tokens, w->logprobs);
    }
    return c;
}

void sim_client_destroy(sim_client *c)
{
    if (c == NULL) return;
    sim_client_kill(c, false);
    mem_free(c->wishes);
    mem_free(c);
}
