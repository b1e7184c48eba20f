#include "bench/router/requests.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/router/dialler.h"
#include "bench/router/under_test.h"
#include "common/check.h"
#include "common/clock.h"
#include "tests/fake_worker/fake_worker.h"

enum { WINDOW = 64, WORKERS = 2, SLOTS = 1024 };

/* Written by the client process, read by the parent. */
typedef struct results {
    volatile uint64_t done, failed;
    latency first_token, added;
} results;

typedef struct client {
    const requests_load *load;
    results *out;
    session *session;
    uv_timer_t timer;
    uint32_t *prompt;
    uint32_t *free_numbers;
    uint32_t free_count;
    uint64_t *sent_us;  /* by stream number */
    uint64_t *taken_us; /* how long until its token came */
    uint64_t asked, begun_us;
    acks acks; /* in batches, as libgaggle's */
} client;

static uint64_t now_us(void)
{
    return clock_now_ns() / 1000;
}

static void ask(client *c)
{
    uint32_t number = c->free_numbers[--c->free_count];
    c->prompt[0] = (uint32_t)c->asked++;
    c->sent_us[number] = now_us();
    envelope e = {.kind = ENVELOPE_SUBMIT};
    e.submit = (msg_submit){.stream = number,
                            .request_id = id128_random(),
                            .ids = c->prompt,
                            .id_count = c->load->prompt_tokens,
                            .max_tokens = 1,
                            .logprobs = LOGPROBS_NONE,
                            .window = WINDOW};
    session_send(c->session, &e);
}

static void ask_what_is_due(client *c)
{
    if (!session_is_up(c->session)) return;
    double due = 1e18;
    if (c->load->per_second > 0) due = (double)(now_us() - c->begun_us) * c->load->per_second / 1e6;
    acks_send(&c->acks, c->session); /* a number is free once its answer is acknowledged */
    while (c->free_count > 0 && (double)c->asked < due)
        ask(c);
}

static void on_timer(uv_timer_t *timer)
{
    ask_what_is_due(timer->data);
}

static void on_up(void *ctx, session *s, const msg_welcome *welcome)
{
    (void)welcome;
    client *c = ctx;
    c->session = s;
    c->begun_us = now_us();
    ask_what_is_due(c);
}

static void end(client *c, uint32_t number)
{
    c->free_numbers[c->free_count++] = number;
    if (c->load->per_second == 0) ask_what_is_due(c);
}

static void on_envelope(void *ctx, session *s, const envelope *e, const error *refused)
{
    client *c = ctx;
    CHECK(refused == NULL);
    if (e->kind == ENVELOPE_TOKENS) {
        uint64_t at_us = now_us();
        for (size_t g = 0; g < e->tokens.groups; g++) {
            uint32_t stream = e->tokens.stream[g];
            c->taken_us[stream] = at_us - c->sent_us[stream];
            latency_add(&c->out->first_token, c->taken_us[stream], 1);
        }
    } else if (e->kind == ENVELOPE_FINISH) {
        uint32_t stream = e->finish.stream, total = e->finish.total;
        uint64_t taken_us = c->taken_us[stream], there_us = e->finish.queue_us;
        latency_add(&c->out->added, taken_us > there_us ? taken_us - there_us : 0, 1);
        acks_add(&c->acks, stream, total);
        if (session_is_idle(s)) acks_send(&c->acks, s);
        c->out->done++;
        end(c, stream);
    } else if (e->kind == ENVELOPE_ERROR) {
        if (c->out->failed++ == 0)
            fprintf(stderr, "client: %.*s\n", (int)e->error.text.size, e->error.text.data);
        end(c, e->error.stream);
    }
}

static void on_idle(void *ctx, session *s)
{
    acks_send(&((client *)ctx)->acks, s);
}

static void run_client(const char *url, const requests_load *load, results *out)
{
    static const session_handlers handlers = {
        .on_up = on_up, .on_envelope = on_envelope, .on_idle = on_idle};
    uv_loop_t loop;
    client c = {.load = load, .out = out};
    c.prompt = mem_calloc(load->prompt_tokens, sizeof *c.prompt);
    c.free_numbers = mem_calloc(load->open_max, sizeof *c.free_numbers);
    c.sent_us = mem_calloc(load->open_max + 1, sizeof *c.sent_us);
    c.taken_us = mem_calloc(load->open_max + 1, sizeof *c.taken_us);
    for (uint32_t i = 0; i < load->open_max; i++)
        c.free_numbers[c.free_count++] = i + 1;
    c.session = dialler_client(dialler_hub(&loop), url, NULL, &handlers, &c);
    CHECK(uv_timer_init(&loop, &c.timer) == 0);
    c.timer.data = &c;
    uv_timer_start(&c.timer, on_timer, 1, 1);
    uv_run(&loop, UV_RUN_DEFAULT); /* until the parent kills us */
}

static void run_workers(const char *url)
{
    uv_loop_t loop;
    error err;
    session_hub *hub = dialler_hub(&loop);
    for (int i = 0; i < WORKERS; i++) {
        fake_worker *w;
        char name[16];
        snprintf(name, sizeof name, "fake-%d", i);
        const fake_worker_options options = {.router = url,
                                             .worker_id = name,
                                             .model = "fake",
                                             .slots = SLOTS,
                                             .text_bytes = 4,
                                             .dead_ms = DIALLER_DEAD_MS};
        CHECK(fake_worker_start(&w, &loop, hub, &options, &err) == ST_OK);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
}

requests_figures requests_measure(const requests_load *load)
{
    const bench_urls urls = bench_urls_make(load->scheme);
    results *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    pid_t router = router_start(load->router, urls.client, urls.worker);
    pid_t workers = bench_fork();
    if (workers == 0) run_workers(urls.worker);
    pause_ms(500);
    pid_t asking = bench_fork();
    if (asking == 0) run_client(urls.client, load, shared);
    pause_ms(1000); /* warm */

    static latency before, after, added_before, added_after;
    before = shared->first_token;
    added_before = shared->added;
    uint64_t done = shared->done;
    double cpu = cpu_seconds(router);
    uint64_t start_ns = clock_now_ns();
    pause_ms((uint32_t)(load->seconds * 1000));
    double elapsed = (double)(clock_now_ns() - start_ns) / 1e9;
    done = shared->done - done;
    cpu = cpu_seconds(router) - cpu;
    after = shared->first_token;
    added_after = shared->added;
    const requests_figures f = {
        .per_second = (double)done / elapsed,
        .cpu_us = cpu * 1e6 / (double)(done > 0 ? done : 1),
        .p50_us = percentile_us(&before, &after, 0.50),
        .p99_us = percentile_us(&before, &after, 0.99),
        .added_p50_us = percentile_us(&added_before, &added_after, 0.50),
        .added_p99_us = percentile_us(&added_before, &added_after, 0.99),
        .rss_kib = memory_kib(router, "VmRSS"),
    };
    CHECK(shared->failed == 0);
    process_kill(asking);
    process_kill(workers);
    process_kill(router);
    munmap(shared, sizeof *shared);
    return f;
}
