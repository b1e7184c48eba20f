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
 *   soak       half an hour of a fleet's mixed life; not one of "all". The exit status is 1 when
 * the router's or the real worker's memory grew, or an answer was wrong (soak.h)
 *
 *     gaggle-bench-router [--work NAME] [--streams N] [--seconds S] [--scheme NAME]  CSV on stdout
 *     gaggle-bench-router --work soak [--minutes N] [--model FOLDER]
 *
 * The clients check every index and every id. Beside each figure stands what the prototype of this
 * design did (ARCHITECTURE.md), or what was asked for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/router/dialler.h"
#include "bench/router/fleet.h"
#include "bench/router/requests.h"
#include "bench/router/soak.h"
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
    acks acks;
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
        acks_add(&c->acks, t->stream[g], s->next);
    }
    latency_add(&c->out->added, added_us, (uint32_t)t->tokens);
    c->out->tokens += t->tokens;
    if (session_is_idle(c->session)) acks_send(&c->acks, c->session);
}

static void client_idle(void *ctx, session *s)
{
    acks_send(&((bench_client *)ctx)->acks, s);
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
    bench_client c = {.out = out, .count = streams};
    c.streams = mem_calloc(streams, sizeof *c.streams);
    c.session = dialler_client(dialler_hub(&loop), url, NULL, &handlers, &c);
    uv_run(&loop, UV_RUN_DEFAULT); /* until the parent kills us */
}

static void run_worker(const char *url, double rate)
{
    uv_loop_t loop;
    fake_worker *w;
    error err;
    session_hub *hub = dialler_hub(&loop);
    const fake_worker_options options = {.router = url,
                                         .worker_id = "fake",
                                         .model = "fake",
                                         .slots = LIMIT_STREAMS_PER_LINK,
                                         .text_bytes = TEXT_BYTES,
                                         .tokens_per_second = rate,
                                         .dead_ms = DIALLER_DEAD_MS};
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
    print("requests_added_p50", load.prompt_tokens, f.added_p50_us, "us", 1000);
    print("requests_added_p99", load.prompt_tokens, f.added_p99_us, "us", 1000);
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

/* Beside what was at most seen in the last third stands what it may be, by the first third; beside
 * the straight line's growth, what would be that growth over the last two thirds. */
static bool print_series(const char *figure, const char *unit, double minutes,
                         const soak_series *series)
{
    char name[64], per_hour[32];
    snprintf(name, sizeof name, "%s_max", figure);
    print(name, (uint32_t)minutes, series->last_max, unit, series->bound);
    snprintf(name, sizeof name, "%s_growth", figure);
    snprintf(per_hour, sizeof per_hour, "%s/hour", unit);
    print(name, (uint32_t)minutes, series->per_hour, per_hour,
          (series->bound - series->first_max) * 60 / (minutes * 5 / 6 * 2 / 3));
    return series->flat;
}

static void print_count(const char *figure, double minutes, uint64_t count)
{
    printf("%s,%u,%llu,count,,\n", figure, (uint32_t)minutes, (unsigned long long)count);
}

/* True: it passed. */
static bool measure_soak(const soak_load *load)
{
    const soak_figures f = soak_measure(load);
    bool passed = f.wrong == 0 && f.finished > 0;
    passed &= print_series("soak_router_rss", "KiB", load->minutes, &f.router_kib);
    passed &= print_series("soak_router_files", "file", load->minutes, &f.router_files);
    if (load->model != NULL)
        passed &= print_series("soak_worker_rss", "KiB", load->minutes, &f.worker_kib);
    print("soak_router_cpu", (uint32_t)load->minutes, f.router_cpu_share, "core", 1);
    print_count("soak_finished", load->minutes, f.finished);
    print_count("soak_cancelled", load->minutes, f.cancelled);
    print_count("soak_deadlines", load->minutes, f.deadlines);
    print_count("soak_refused", load->minutes, f.refused);
    print_count("soak_tokens", load->minutes, f.tokens);
    print_count("soak_clients", load->minutes, f.clients);
    print_count("soak_worker_processes", load->minutes, f.worker_processes);
    print_count("soak_reloads", load->minutes, f.reloads);
    print_count("soak_wrong", load->minutes, f.wrong);
    return passed;
}

static const char *beside(const char *argv0, const char *name, char out[512])
{
    const char *slash = strrchr(argv0, '/');
    snprintf(out, 512, "%.*s%s", slash != NULL ? (int)(slash + 1 - argv0) : 0, argv0, name);
    return out;
}

int main(int argc, char **argv)
{
    double seconds = 5, minutes = 30;
    const char *scheme = "tcp", *what = "all", *model = NULL;
    uint32_t only = 0;
    static const char *const works[] = {"tokens", "requests", "fleet", "soak", "all", NULL};
    const option_row rows[] = {
        {"work", 'w', OPTION_TEXT, &what, "NAME",
         .help = "tokens, requests, fleet, soak or all but soak [all]", .choices = works},
        {"seconds", 's', OPTION_F64, &seconds, "S", "each measurement takes [5]", 0.5, 600},
        {"scheme", 0, OPTION_TEXT, &scheme, "NAME", "tcp, ws or ipc [tcp]", 0, 0},
        {"minutes", 'm', OPTION_F64, &minutes, "N", "soak takes [30]", 1, 1440},
        {"model", 0, OPTION_TEXT, &model, "FOLDER", "soak has a real worker of it, too [none]", 0,
         0},
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
    char router_path[512], worker_path[512];
    const char *router = beside(argv[0], "gaggle-router", router_path);
    printf("figure,of,value,unit,beside,ratio\n");
    fflush(stdout); /* children have it, too */
    bool all = strcmp(what, "all") == 0;
    if (all || strcmp(what, "tokens") == 0) compare_all(router, scheme, seconds, only);
    if (all || strcmp(what, "requests") == 0) measure_requests(router, scheme, seconds);
    if (all || strcmp(what, "fleet") == 0) measure_fleet(router, scheme, seconds);
    if (strcmp(what, "soak") == 0)
        return measure_soak(&(soak_load){.router = router,
                                         .worker = beside(argv[0], "gaggle-worker", worker_path),
                                         .scheme = scheme,
                                         .model = model,
                                         .minutes = minutes})
                   ? 0
                   : 1;
    return 0;
}
