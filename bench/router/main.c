/* gaggle-bench-router: what the router costs.
 *
 * Starts a real gaggle-router, a fake worker and a client as processes of their own, streams S
 * answers through them, and prints tokens a second at saturation and the router's CPU time a token
 * there; and at 20,000 tokens a second its CPU time a token, the added latency (the worker's encode
 * to the client's decode) and its memory a stream: how much larger it is than with 64 streams, for
 * each stream more. The client checks every index and every id.
 *
 *     gaggle-bench-router [--streams N] [--seconds S] [--scheme NAME]    CSV on stdout
 *
 * The ceiling beside each figure is what the prototype of this design did (ARCHITECTURE.md). */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/options.h"
#include "tests/fake_worker/fake_worker.h"

enum { WINDOW = 256, BUCKETS = 4096, BUCKET_US = 16, TEXT_BYTES = 12 };

/* Written by the client process, read by the parent. */
typedef struct results {
    volatile uint32_t open;    /* answers that have begun */
    volatile uint64_t tokens;  /* since the start */
    volatile uint64_t wrong;   /* ids or indices that were not the right ones */
    uint32_t latency[BUCKETS]; /* histogram of BUCKET_US, the last bucket for all above */
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
    size_t bucket = added_us / BUCKET_US < BUCKETS ? added_us / BUCKET_US : BUCKETS - 1;
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
    c->out->latency[bucket] += (uint32_t)t->tokens;
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

/* Of all its threads, to the nanosecond: user and system time in /proc/PID/stat come in steps of
 * 10 ms, more than the router uses in a second. */
static double cpu_seconds(pid_t pid)
{
    char path[300], folder[64];
    snprintf(folder, sizeof folder, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(folder);
    CHECK(tasks != NULL);
    uint64_t all_ns = 0;
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        unsigned long long ns;
        snprintf(path, sizeof path, "%s/%.200s/schedstat", folder, entry->d_name);
        FILE *f = fopen(path, "r");
        if (f == NULL) continue;
        if (fscanf(f, "%llu", &ns) == 1) all_ns += ns;
        fclose(f);
    }
    closedir(tasks);
    return (double)all_ns / 1e9;
}

/* "VmRSS": all that is resident, of which the pages of libraries vary by 100 KiB from run to run;
 * "RssAnon": what the process filled itself. */
static long memory_kib(pid_t pid, const char *kind)
{
    char path[64], line[256];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    CHECK(f != NULL);
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, kind, strlen(kind)) == 0) sscanf(line + strlen(kind), ": %ld", &kib);
    fclose(f);
    return kib;
}

static pid_t spawn_router(const char *program, const char *client_url, const char *worker_url)
{
    int ready[2];
    CHECK(pipe(ready) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(ready[1], STDOUT_FILENO);
        close(ready[0]);
        execl(program, program, "--listen", client_url, "--worker-listen", worker_url,
              "--log-level", "error", (char *)NULL);
        perror(program);
        _exit(127);
    }
    close(ready[1]);
    char byte;
    CHECK(read(ready[0], &byte, 1) == 1); /* its ready line begins */
    close(ready[0]);
    return pid;
}

static void pause_ms(uint32_t ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static uint32_t percentile_us(const uint32_t *before, const uint32_t *after, double share)
{
    uint64_t all = 0, seen = 0;
    for (size_t i = 0; i < BUCKETS; i++)
        all += after[i] - before[i];
    for (uint32_t i = 0; i < BUCKETS; i++) {
        seen += after[i] - before[i];
        if ((double)seen >= share * (double)all) return (i + 1) * BUCKET_US;
    }
    return BUCKETS * BUCKET_US;
}

typedef struct figures {
    double tokens_per_second, cpu_us_per_token;
    uint32_t p50_us, p99_us;
    long rss_kib, own_kib;
} figures;

static figures measure(const char *router_program, const char *scheme, uint32_t streams,
                       double rate, double seconds)
{
    char client_url[128], worker_url[128];
    if (strcmp(scheme, "ipc") == 0) {
        snprintf(client_url, sizeof client_url, "ipc:///tmp/gaggle-bench-%d-c", (int)getpid());
        snprintf(worker_url, sizeof worker_url, "ipc:///tmp/gaggle-bench-%d-w", (int)getpid());
    } else {
        snprintf(client_url, sizeof client_url, "%s://127.0.0.1:17400", scheme);
        snprintf(worker_url, sizeof worker_url, "%s://127.0.0.1:17410", scheme);
    }
    results *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    pid_t router = spawn_router(router_program, client_url, worker_url);
    pid_t worker = fork();
    if (worker == 0) run_worker(worker_url, rate);
    pause_ms(500);
    pid_t client = fork();
    if (client == 0) run_client(client_url, streams, shared);
    for (int i = 0; i < 1000 && shared->open < streams; i++)
        pause_ms(10);
    CHECK(shared->open == streams);
    pause_ms(1000); /* warm */

    static uint32_t before[BUCKETS], after[BUCKETS];
    memcpy(before, shared->latency, sizeof before);
    uint64_t tokens = shared->tokens;
    double cpu = cpu_seconds(router);
    uint64_t start_ns = clock_now_ns();
    pause_ms((uint32_t)(seconds * 1000));
    double elapsed = (double)(clock_now_ns() - start_ns) / 1e9;
    tokens = shared->tokens - tokens;
    cpu = cpu_seconds(router) - cpu;
    memcpy(after, shared->latency, sizeof after);

    figures f = {
        .tokens_per_second = (double)tokens / elapsed,
        .cpu_us_per_token = cpu * 1e6 / (double)(tokens > 0 ? tokens : 1),
        .p50_us = percentile_us(before, after, 0.50),
        .p99_us = percentile_us(before, after, 0.99),
        .rss_kib = memory_kib(router, "VmRSS"),
        .own_kib = memory_kib(router, "RssAnon"),
    };
    CHECK(shared->wrong == 0);
    pid_t all[] = {client, worker, router};
    for (int i = 0; i < 3; i++) {
        kill(all[i], SIGKILL);
        waitpid(all[i], NULL, 0);
    }
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

static const char *beside(const char *argv0, char out[512])
{
    const char *slash = strrchr(argv0, '/');
    snprintf(out, 512, "%.*sgaggle-router", slash != NULL ? (int)(slash + 1 - argv0) : 0, argv0);
    return out;
}

int main(int argc, char **argv)
{
    double seconds = 5;
    const char *scheme = "tcp";
    uint32_t only = 0;
    const option_row rows[] = {
        {"seconds", 's', OPTION_F64, &seconds, "S", "each measurement takes [5]", 0.5, 600},
        {"scheme", 0, OPTION_TEXT, &scheme, "NAME", "tcp, ws or ipc [tcp]", 0, 0},
        {"streams", 'n', OPTION_U32, &only, "N", "64, 512 or 4096 alone [all]", 0, 0},
    };
    const option_table table = {.usage = "gaggle-bench-router [options]",
                                .about = "What the router costs, beside the prototype's figures. "
                                         "CSV on stdout.",
                                .rows = rows,
                                .row_count = 3};
    error err;
    if (options_parse(&table, argc, argv, NULL, &err) != ST_OK) {
        fprintf(stderr, "gaggle-bench-router: %s\n", err.text);
        return 2;
    }
    log_init("bench", LOG_ERROR);
    char path[512];
    const char *router = beside(argv[0], path);
    printf("work,streams,figure,unit,prototype,ratio\n");
    long few_kib = 0;
    if (only > prototypes[0].streams)
        few_kib = measure(router, scheme, prototypes[0].streams, 20000, 1).own_kib;
    for (size_t i = 0; i < sizeof prototypes / sizeof *prototypes; i++)
        if (only == 0 || only == prototypes[i].streams)
            compare(&prototypes[i], router, scheme, seconds, &few_kib);
    return 0;
}
