/* gaggle-bench-cluster: a fleet under load, seen from a client.
 *
 *   rate   N answers at once; tokens a second while all of them run, to hold against what the
 *          engine alone does with the same lengths (gaggle-worker bench)
 *   soak   N streams for some time, each a request out of a pool that was run alone before; some
 *          are cancelled on the way, others end at a stop id. Every answer must be the beginning of
 *          its request's own, and in the end no worker may hold a block. That an answer does not
 * depend on its company is true of CPU workers and of --batch-invariant ones.
 *
 * One thread: the client runs on this program's loop. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "client/gaggle.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/mem.h"
#include "common/options.h"

enum { STREAMS_MAX = 4096, POOL = 64, POOL_TOKENS_MAX = 200, SETTLE_MS = 50, SETTLE_TURNS = 400 };

typedef struct stream {
    gaggle_stream *handle;
    uint32_t number;    /* of its request */
    uint32_t tokens;    /* so far */
    uint32_t cancel_at; /* tokens after which to cancel; 0 = never */
    uint32_t stop_at;   /* tokens up to the first that is the stop id; UINT32_MAX = none */
} stream;

/* A request of the soak's pool, and what it answers when it is alone. */
typedef struct known_answer {
    uint32_t prompt_count, max_tokens;
    uint32_t ids[POOL_TOKENS_MAX];
    uint32_t count;
} known_answer;

static const char *router = GAGGLE_DEFAULT_URL, *model, *token;
static uint32_t stream_count = 256, prompt_tokens = 128, output_tokens = 512, soak_s,
                ids_below = 256;
static double engine_rate; /* token/s */

static uv_loop_t loop;
static gaggle_client *client;
static stream streams[STREAMS_MAX];
static known_answer pool[POOL];
static uint32_t running, finished, failures, cancelled, stopped;
static uint32_t pool_next; /* request of the pool that runs alone; POOL: the soak has begun */
static uint64_t random_state = 1, end_ns;

/* Of `rate`: tokens between the last stream's first one and the first stream's last. */
static uint32_t begun;
static uint64_t all_begun_ns, first_end_ns, tokens_between, tokens_all;
static uv_timer_t settle;
static uint32_t settle_turns;

static uint32_t random_below(uint32_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 33) % bound;
}

static void fail(const char *what, const gaggle_error *err)
{
    fprintf(stderr, "gaggle-bench-cluster: %s: %s\n", what, err->text);
    failures++;
}

/* stop_id: UINT32_MAX for none. */
static void submit(stream *s, uint32_t number, uint32_t prompt_count, uint32_t max_tokens,
                   bool sampled, uint32_t stop_id,
                   void (*on_event)(void *, gaggle_stream *, const gaggle_event *))
{
    uint32_t ids[4096];
    for (uint32_t i = 0; i < prompt_count; i++)
        ids[i] = (number * 2654435761u + i * 40503u) % ids_below;
    gaggle_request request = {.model = model,
                              .ids = ids,
                              .id_count = prompt_count,
                              .max_tokens = max_tokens,
                              .ignore_eos = true,
                              .stop_ids = &stop_id,
                              .stop_id_count = stop_id != UINT32_MAX,
                              .sampling = {.has_temperature = true,
                                           .temperature = sampled ? 0.8f : 0.0f,
                                           .has_seed = true,
                                           .seed = number},
                              .on_event = on_event,
                              .ctx = s};
    gaggle_error err;
    s->number = number;
    s->tokens = 0;
    if (gaggle_submit(&s->handle, client, &request, &err) == GAGGLE_OK)
        running++;
    else
        fail("submit", &err);
}

static void done(void)
{
    gaggle_client_close(client, NULL, NULL);
    if (!uv_is_closing((uv_handle_t *)&settle)) uv_close((uv_handle_t *)&settle, NULL);
}

/* -- rate -------------------------------------------------------------------------------- */

static void on_rate_event(void *ctx, gaggle_stream *handle, const gaggle_event *e)
{
    stream *s = ctx;
    if (e->type == GAGGLE_TOKENS) {
        begun += s->tokens == 0;
        s->tokens += e->count;
        tokens_all += e->count;
        if (begun == stream_count && all_begun_ns == 0)
            all_begun_ns = clock_now_ns();
        else if (all_begun_ns != 0 && first_end_ns == 0)
            tokens_between += e->count;
        return;
    }
    if (e->error != NULL) fail("an answer", e->error);
    if (first_end_ns == 0) first_end_ns = clock_now_ns();
    gaggle_stream_close(handle);
    if (--running == 0) done();
}

static void start_rate(void)
{
    for (uint32_t i = 0; i < stream_count; i++)
        submit(&streams[i], i, prompt_tokens, output_tokens, false, UINT32_MAX, on_rate_event);
}

static void print_rate(void)
{
    double seconds = (double)(first_end_ns - all_begun_ns) * 1e-9;
    double rate = (double)tokens_between / seconds;
    if (engine_rate > 0)
        printf("work,figure,unit,ceiling,ratio\ncluster_%u,%.1f,token/s,%.1f,%.3f\n", stream_count,
               rate, engine_rate, rate / engine_rate);
    else
        printf("work,figure,unit\ncluster_%u,%.1f,token/s\n", stream_count, rate);
    fprintf(stderr, "%llu tokens in all; the figure is of %.2f s in which all %u ran\n",
            (unsigned long long)tokens_all, seconds, stream_count);
}

/* -- soak -------------------------------------------------------------------------------- */

static void start_soak_stream(stream *s);

static void on_report(void *ctx, const gaggle_report *report, const gaggle_error *err)
{
    (void)ctx;
    bool clean = err == NULL && report->running == 0;
    for (size_t i = 0; clean && i < report->worker_count; i++)
        clean = report->workers[i].kv_blocks_free == report->workers[i].kv_blocks &&
                report->workers[i].running == 0;
    if (clean) {
        done();
    } else if (++settle_turns == SETTLE_TURNS) {
        fprintf(stderr, "gaggle-bench-cluster: blocks are still held after the last answer\n");
        failures++;
        done();
    }
}

static void on_settle(uv_timer_t *timer)
{
    (void)timer;
    gaggle_error err;
    if (gaggle_query(client, 2000, on_report, NULL, &err) != GAGGLE_OK) fail("query", &err);
}

static void check_tokens(stream *s, const gaggle_event *e)
{
    const known_answer *k = &pool[s->number];
    for (uint32_t i = 0; i < e->count; i++) {
        uint32_t index = e->first_index + i;
        if (index < k->count && e->ids[i] == k->ids[index]) continue;
        fprintf(stderr, "gaggle-bench-cluster: request %u, token %u is %u; alone it was %u\n",
                s->number, index, e->ids[i], index < k->count ? k->ids[index] : 0);
        failures++;
    }
}

static void on_soak_event(void *ctx, gaggle_stream *handle, const gaggle_event *e)
{
    stream *s = ctx;
    if (e->type == GAGGLE_TOKENS) {
        check_tokens(s, e);
        s->tokens += e->count;
        tokens_all += e->count;
        if (s->cancel_at > 0 && s->tokens >= s->cancel_at) {
            s->cancel_at = 0;
            gaggle_cancel(handle);
        }
        return;
    }
    if (e->error != NULL) fail("an answer", e->error);
    uint32_t expected = pool[s->number].count;
    if (s->stop_at < expected) expected = s->stop_at;
    cancelled += e->reason == GAGGLE_FINISH_CANCELLED;
    stopped += e->reason == GAGGLE_FINISH_STOP;
    finished++;
    if (e->reason != GAGGLE_FINISH_CANCELLED && s->tokens != expected) {
        fprintf(stderr, "gaggle-bench-cluster: request %u ended after %u of %u tokens\n", s->number,
                s->tokens, expected);
        failures++;
    }
    gaggle_stream_close(handle);
    running--;
    if (clock_now_ns() < end_ns && failures < 20)
        start_soak_stream(s);
    else if (running == 0)
        uv_timer_start(&settle, on_settle, SETTLE_MS, SETTLE_MS);
}

static void start_soak_stream(stream *s)
{
    uint32_t number = random_below(POOL);
    const known_answer *k = &pool[number];
    uint32_t kind = random_below(4), stop_id = UINT32_MAX;
    s->cancel_at = kind == 0 ? 1 + random_below(k->max_tokens) : 0;
    s->stop_at = UINT32_MAX;
    if (kind == 1) {
        stop_id = k->ids[random_below(k->count)];
        s->stop_at = 0;
        while (k->ids[s->stop_at++] != stop_id)
            ;
    }
    submit(s, number, k->prompt_count, k->max_tokens, number % 2 == 1, stop_id, on_soak_event);
}

static void on_alone_event(void *ctx, gaggle_stream *handle, const gaggle_event *e);

static void run_next_alone(void)
{
    if (pool_next == POOL) {
        end_ns = clock_now_ns() + soak_s * 1000000000ull;
        for (uint32_t i = 0; i < stream_count; i++)
            start_soak_stream(&streams[i]);
        return;
    }
    known_answer *k = &pool[pool_next];
    k->prompt_count = 1 + random_below(300);
    k->max_tokens = 1 + random_below(POOL_TOKENS_MAX);
    submit(&streams[0], pool_next, k->prompt_count, k->max_tokens, pool_next % 2 == 1, UINT32_MAX,
           on_alone_event);
}

static void on_alone_event(void *ctx, gaggle_stream *handle, const gaggle_event *e)
{
    const stream *s = ctx;
    known_answer *k = &pool[s->number];
    if (e->type == GAGGLE_TOKENS) {
        memcpy(k->ids + e->first_index, e->ids, e->count * sizeof *e->ids);
        k->count = e->first_index + e->count;
        return;
    }
    if (e->error != NULL) fail("an answer alone", e->error);
    gaggle_stream_close(handle);
    running--;
    pool_next++;
    if (failures > 0)
        done();
    else
        run_next_alone();
}

/* -- main -------------------------------------------------------------------------------- */

static status read_settings(int argc, char **argv, error *err)
{
    const option_row rows[] = {
        {"router", 'r', OPTION_TEXT, &router, "URL", "[" GAGGLE_DEFAULT_URL "]", 0, 0},
        {"token", 0, OPTION_TEXT, &token, "TOKEN", "bearer token", 0, 0},
        {"model", 'm', OPTION_TEXT, &model, "NAME", "[the only one]", 0, 0},
        {"streams", 'n', OPTION_U32, &stream_count, "N", "at once [256]", 1, STREAMS_MAX},
        {"prompt-tokens", 0, OPTION_U32, &prompt_tokens, "N", "of each [128]", 1, 4096},
        {"output-tokens", 0, OPTION_U32, &output_tokens, "N", "of each [512]", 1, 1 << 20},
        {"ids-below", 0, OPTION_U32, &ids_below, "ID", "prompts are of ids below it [256]", 1,
         1 << 20},
        {"engine-rate", 0, OPTION_F64, &engine_rate, "TOKENS/S",
         "of the engine alone, to compare with", 0, 1e9},
        {"soak", 0, OPTION_U32, &soak_s, "SECONDS", "check answers under load for so long instead",
         1, 86400},
    };
    const option_table table = {
        .usage = "gaggle-bench-cluster [options]",
        .about = "Tokens a second through a running router, or a check of its answers under load.",
        .rows = rows,
        .row_count = sizeof rows / sizeof rows[0],
    };
    return options_parse(&table, argc, argv, NULL, err);
}

int main(int argc, char **argv)
{
    error err = {0};
    if (read_settings(argc, argv, &err) != ST_OK) {
        fprintf(stderr, "gaggle-bench-cluster: %s\n", err.text);
        return 2;
    }
    CHECK(uv_loop_init(&loop) == 0 && uv_timer_init(&loop, &settle) == 0);
    gaggle_options options = {
        .urls = &router, .url_count = 1, .token = token, .name = "bench", .uv_loop = &loop};
    gaggle_error why;
    if (gaggle_client_create(&client, &options, &why) != GAGGLE_OK) {
        fprintf(stderr, "gaggle-bench-cluster: %s\n", why.text);
        return 1;
    }
    if (soak_s > 0)
        run_next_alone();
    else
        start_rate();
    uv_run(&loop, UV_RUN_DEFAULT);
    if (soak_s > 0 && failures == 0)
        printf("soak: %u answers, %u cancelled and %u stopped, %llu tokens, all as when alone; no "
               "block is held\n",
               finished, cancelled, stopped, (unsigned long long)tokens_all);
    else if (failures == 0)
        print_rate();
    return failures == 0 ? 0 : 1;
}
