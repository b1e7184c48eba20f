/* gaggle-bench-router: what the router costs.
 *
 * A real gaggle-router between fake workers and clients that are processes of their own:
 *
 *   tokens     S answers; tokens a second at saturation and the router's CPU time a token there; at
 *              20,000 tokens a second its CPU time a token, the added latency (the worker's encode
 *              to the client's decode) and its memory a stream: how much larger it is than with 64
 *              streams, for each stream more
 *   requests   short answers, 5,000 a second; and as many prompts of 60,000 tokens as go
 *   fleet      1,000 workers and 20,000 streams, held
 *
 *     gaggle-bench-router [--work NAME] [--streams N] [--seconds S] [--scheme NAME]  CSV on stdout
 *
 * The clients check every index and every id. Beside each figure stands what the prototype of this
 * design did (ARCHITECTURE.md), or what was asked for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/router/fleet.h"
#include "bench/router/requests.h"
#include "bench/router/under_test.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/options.h"
#include "tests/fake_worker/fake_worker.h"

enum { WINDOW = 256, TEXT_BYTES = 12 };

/* Written by the client process, read by the parent. */
typedef struct results {
    volatile uint32_t open;   /* answers that have begun */
    volatile uint64_t tokens; /* since the start */
    volatile uint64_t wrong;  /* ids or indices that were not the right ones */
    latency added;
} results;

/* -- the client process ----------------------------------------------------------------- */

typedef struct bench_stream {
    id128 id;
    uint32_t next, acked;
} bench_stream;

typedef struct bench_client {
    session *session;
    results *out;
    bench_stream *streams;
    uint32_t count;
    buffer ack_stream, ack_next;
} bench_client;

static void client_up(void *ctx, session *s, const msg_welcome *welcome)
{
    (void)welcome;
    bench_client *c = ctx;
    static const uint32_t prompt[] = {1, 2, 3, 4};
    for (uint32_t i = 0; i < c->count; i++) {
        c->streams[i] = (bench_stream){.id = id128_random()};
        envelope e = {.kind = ENVELOPE_SUBMIT};
        e.submit = (msg_submit){.stream = i + 1,
                                .request_id = c->streams[i].id,
                                .ids = prompt,
                                .id_count = 4,
                                .max_tokens = 1u << 19,
                                .logprobs = LOGPROBS_NONE,
                                .window = WINDOW};
        session_send(s, &e);
    }
}

static void client_flush(bench_client *c)
{
    if (c->ack_stream.size == 0) return;
    envelope e = {.kind = ENVELOPE_ACK};
    e.ack = (msg_ack){.stream = (const uint32_t *)(const void *)c->ack_stream.data,
                      .next_wanted = (const uint32_t *)(const void *)c->ack_next.data,
                      .count = c->ack_stream.size / sizeof(uint32_t)};
    session_send(c->session, &e);
    buffer_clear(&c->ack_stream);
    buffer_clear(&c->ack_next);
}

static void client_tokens(bench_client *c, const msg_tokens *t)
{
    uint64_t now_us = clock_now_ns() / 1000;
    uint64_t added_us = now_us > t->emitted_us ? now_us - t->emitted_us : 0;
    size_t at = 0;
    for (size_t g = 0; g < t->groups; g++) {
        bench_stream *s = &c->streams[t->stream[g] - 1];
        c->out->wrong += t->first_index[g] != s->next;
        for (uint32_t i = 0; i < t->count[g]; i++, at++, s->next++)
            c->out->wrong += t->token[at] != fake_token(&s->id, s->next);
        if (s->next - s->acked < WINDOW / 4) continue;
        s->acked = s->next;
        buffer_append(&c->ack_stream, &t->stream[g], sizeof(uint32_t));
        buffer_append(&c->ack_next, &s->next, sizeof(uint32_t));
    }
    latency_add(&c->out->added, added_us, (uint32_t)t->tokens);
    c->out->tokens += t->tokens;
    if (session_is_idle(c->session)) client_flush(c);
}

static void client_idle(void *ctx, session *s)
{
    (void)s;
    client_flush(ctx);
}

static void client_envelope(void *ctx, session *s, const envelope *e, const error *refused)
{
    (void)s;
    bench_client *c = ctx;
    CHECK(refused == NULL);
    if (e->kind == ENVELOPE_TOKENS)
        client_tokens(c, &e->tokens);
    else if (e->kind == ENVELOPE_ACCEPTED)
        c->out->open++;
    else if (e->kind == ENVELOPE_ERROR)
        fprintf(stderr, "client: %.*s\n", (int)e->error.text.size, e->error.text.data);
}

static void run_client(const char *url, uint32_t streams, results *out)
{
    static const session_handlers handlers = {
        .on_up = client_up, .on_envelope = client_envelope, .on_idle = client_idle};
    uv_loop_t loop;
    session_hub *hub;
    error err;
    bench_client c = {.out = out, .count = streams};
    c.streams = mem_calloc(streams, sizeof *c.streams);
    CHECK(uv_loop_init(&loop) == 0);
    CHECK(session_hub_create(&hub, &loop, &err) == ST_OK);
    const session_dial_options dial = {.urls = &url,
                                       .url_count = 1,
                                       .role = ROLE_CLIENT,
                                       .instance = id128_random(),
                                       .name = "bench"};
    CHECK(session_dial(&c.session, hub, &dial, &handlers, &c, &err) == ST_OK);
    uv_run(&loop, UV_RUN_DEFAULT); /* until the parent kills us */
}

static void run_worker(const char *url, double rate)
{
    uv_loop_t loop;
    session_hub *hub;
    fake_worker *w;
    error err;
    CHECK(uv_loop_init(&loop) == 0);
    CHECK(session_hub_create(&hub, &loop, &err) == ST_OK);
    const fake_worker_options options = {.router = url,
                                         .worker_id = "fake",
                                         .model = "fake",
                                         .slots = LIMIT_STREAMS_PER_LINK,
                                         .text_bytes = TEXT_BYTES,
                                         .tokens_per_second = rate};
    CHECK(fake_worker_start(&w, &loop, hub, &options, &err) == ST_OK);
    uv_run(&loop, UV_RUN_DEFAULT);
}

/* -- the parent --------------------------------------------------------------------------- */

typedef struct figures {
    double tokens_per_second, cpu_us_per_token;
    uint32_t p50_us, p99_us;
    long rss_kib, own_kib;
} figures;

static figures measure(const char *router_program, const char *scheme, uint32_t streams,
                       double rate, double seconds)
{
    const bench_urls urls = bench_urls_make(scheme);
    results *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    pid_t router = router_start(router_program, urls.client, urls.worker);
    pid_t worker = bench_fork();
    if (worker == 0) run_worker(urls.worker, rate);
    pause_ms(500);
    pid_t client = bench_fork();
    if (client == 0) run_client(urls.client, streams, shared);
    for (int i = 0; i < 1000 && shared->open < streams; i++)
        pause_ms(10);
    CHECK(shared->open == streams);
    pause_ms(1000); /* warm */

    static latency before, after;
    before = shared->added;
    uint64_t tokens = shared->tokens;
    double cpu = cpu_seconds(router);
    uint64_t start_ns = clock_now_ns();
    pause_ms((uint32_t)(seconds * 1000));
    double elapsed = (double)(clock_now_ns() - start_ns) / 1e9;
    tokens = shared->tokens - tokens;
    cpu = cpu_seconds(router) - cpu;
    after = shared->added;

    figures f = {
        .tokens_per_second = (double)tokens / elapsed,
        .cpu_us_per_token = cpu * 1e6 / (double)(tokens > 0 ? tokens : 1),
        .p50_us = percentile_us(&before, &after, 0.50),
        .p99_us = percentile_us(&before, &after, 0.99),
        .rss_kib = memory_kib(router, "VmRSS"),
        .own_kib = memory_kib(router, "RssAnon"),
    };
    CHECK(shared->wrong == 0);
    process_kill(client);
    process_kill(worker);
    process_kill(router);
    munmap(shared, sizeof *shared);
    return f;
}

/* The prototype's figures on two shared cores over tcp (ARCHITECTURE.md, "The wire"). */
typedef struct prototype {
    uint32_t streams;
    double saturation, saturation_cpu_us, cpu_us;
    uint32_t p50_us, p99_us;
    long rss_kib;
} prototype;

static const prototype prototypes[] = {
    {64, 1.0e6, 0.64, 2.3, 248, 2048, 3136},
    {512, 6.0e6, 0.10, 0.39, 352, 2432, 3212},
    {4096, 13e6, 0.06, 0.09, 640, 1600, 3824},
};

/* Of each stream beyond the 64 of `few_kib`. */
static double bytes_per_stream(long kib, long few_kib, uint32_t streams)
{
    return (double)(kib - few_kib) * 1024.0 / (streams - prototypes[0].streams);
}

static void print(const char *figure, uint32_t streams, double value, const char *unit,
                  double prototype_value)
{
    const char *format = value < 100 ? "%s,%u,%.3f,%s,%g,%.2f\n" : "%s,%u,%.0f,%s,%.0f,%.2f\n";
    printf(format, figure, streams, value, unit, prototype_value, value / prototype_value);
}

static void compare(const prototype *p, const char *router, const char *scheme, double seconds,
                    long *few_kib)
{
    figures full = measure(router, scheme, p->streams, 0, seconds);
    figures rated = measure(router, scheme, p->streams, 20000, seconds);
    if (p->streams == prototypes[0].streams) *few_kib = rated.own_kib;
    print("saturation", p->streams, full.tokens_per_second, "tok/s", p->saturation);
    print("router_cpu_at_saturation", p->streams, full.cpu_us_per_token, "us/token",
          p->saturation_cpu_us);
    print("router_cpu_at_20k", p->streams, rated.cpu_us_per_token, "us/token", p->cpu_us);
    print("rate_reached", p->streams, rated.tokens_per_second, "tok/s", 20000);
    print("added_p50", p->streams, rated.p50_us, "us", p->p50_us);
    print("added_p99", p->streams, rated.p99_us, "us", p->p99_us);
    if (p->streams != prototypes[0].streams)
        print("memory_per_stream", p->streams,
              bytes_per_stream(rated.own_kib, *few_kib, p->streams), "byte",
              bytes_per_stream(p->rss_kib, prototypes[0].rss_kib, p->streams));
    print("rss", p->streams, (double)rated.rss_kib, "KiB", (double)p->rss_kib);
    fflush(stdout);
}

static void compare_all(const char *router, const char *scheme, double seconds, uint32_t only)
{
    long few_kib = 0;
    if (only > prototypes[0].streams)
        few_kib = measure(router, scheme, prototypes[0].streams, 20000, 1).own_kib;
    for (size_t i = 0; i < sizeof prototypes / sizeof *prototypes; i++)
        if (only == 0 || only == prototypes[i].streams)
            compare(&prototypes[i], router, scheme, seconds, &few_kib);
}

/* Beside them stands what was asked for: 500 long prompts a second (others' front ends do 40), and
 * less than a millisecond for the 99th of 100 requests when 5,000 come in a second. */
static void measure_requests(const char *router, const char *scheme, double seconds)
{
    requests_load load = {.router = router,
                          .scheme = scheme,
                          .per_second = 5000,
                          .open_max = 4000,
                          .prompt_tokens = 100,
                          .seconds = seconds};
    requests_figures f = requests_measure(&load);
    print("requests_rate_reached", load.prompt_tokens, f.per_second, "request/s", load.per_second);
    print("requests_p50", load.prompt_tokens, f.p50_us, "us", 1000);
    print("requests_p99", load.prompt_tokens, f.p99_us, "us", 1000);
    print("router_cpu_at_5k_requests", load.prompt_tokens, f.cpu_us, "us/request", 200);

    load.per_second = 0;
    load.open_max = 16;
    load.prompt_tokens = 60000;
    f = requests_measure(&load);
    print("long_prompts", load.prompt_tokens, f.per_second, "request/s", 500);
    print("router_cpu_a_long_prompt", load.prompt_tokens, f.cpu_us, "us/request", 2000);
    print("long_prompts_rss", load.prompt_tokens, (double)f.rss_kib, "KiB", 65536);
    fflush(stdout);
}

/* 1,000 workers and 20,000 streams. Beside the memory stands what an empty stream and an empty link
 * should cost at most. */
static void measure_fleet(const char *router, const char *scheme, double seconds)
{
    static const uint32_t prompts[] = {16, 1000};
    for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
        const fleet_load load = {.router = router,
                                 .scheme = scheme,
                                 .workers = 1000,
                                 .streams = 20000,
                                 .prompt_tokens = prompts[i],
                                 .tokens_per_second = 20000,
                                 .seconds = seconds};
        fleet_figures f = fleet_measure(&load);
        print("fleet_memory_per_worker", load.workers, f.worker_bytes, "byte", 65536);
        print("fleet_memory_per_stream", load.prompt_tokens, f.stream_bytes, "byte",
              1024 + 4 * (load.prompt_tokens + f.stream_tokens));
        print("fleet_tokens_a_stream", load.streams, f.stream_tokens, "token", f.stream_tokens);
        print("fleet_rate_reached", load.streams, f.tokens_per_second, "tok/s",
              load.tokens_per_second);
        print("fleet_cpu", load.streams, f.cpu_share, "core", 1);
        print("fleet_idle_cpu", load.workers, f.idle_cpu_share, "core", 1);
        print("fleet_rss", load.streams, (double)f.rss_kib, "KiB", 262144);
        fflush(stdout);
    }
}

static const char *beside(const char *argv0, char out[512])
{
    const char *slash = strrchr(argv0, '/');
    snprintf(out, 512, "%.*sgaggle-router", slash != NULL ? (int)(slash + 1 - argv0) : 0, argv0);
    return out;
}

int main(int argc, char **argv)
{
    double seconds = 5;
    const char *scheme = "tcp", *what = "all";
    uint32_t only = 0;
    static const char *const works[] = {"tokens", "requests", "fleet", "all", NULL};
    const option_row rows[] = {
        {"work", 'w', OPTION_TEXT, &what, "NAME", .help = "tokens, requests, fleet or all [all]",
         .choices = works},
        {"seconds", 's', OPTION_F64, &seconds, "S", "each measurement takes [5]", 0.5, 600},
        {"scheme", 0, OPTION_TEXT, &scheme, "NAME", "tcp, ws or ipc [tcp]", 0, 0},
        {"streams", 'n', OPTION_U32, &only, "N", "of tokens: 64, 512 or 4096 alone [all]", 0, 0},
    };
    const option_table table = {.usage = "gaggle-bench-router [options]",
                                .about = "What the router costs, beside the prototype's figures. "
                                         "CSV on stdout.",
                                .rows = rows,
                                .row_count = sizeof rows / sizeof *rows};
    error err;
    if (options_parse(&table, argc, argv, NULL, &err) != ST_OK) {
        fprintf(stderr, "gaggle-bench-router: %s\n", err.text);
        return 2;
    }
    log_init("bench", LOG_ERROR);
    char path[512];
    const char *router = beside(argv[0], path);
    printf("figure,of,value,unit,beside,ratio\n");
    bool all = strcmp(what, "all") == 0;
    if (all || strcmp(what, "tokens") == 0) compare_all(router, scheme, seconds, only);
    if (all || strcmp(what, "requests") == 0) measure_requests(router, scheme, seconds);
    if (all || strcmp(what, "fleet") == 0) measure_fleet(router, scheme, seconds);
    return 0;
}
