#include "bench/router/fleet.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/router/dialler.h"
#include "bench/router/under_test.h"
#include "common/check.h"
#include "common/clock.h"
#include "tests/fake_worker/fake_worker.h"

enum {
    WINDOW = 256,
    STREAMS_PER_CLIENT = 4000,
    CLIENTS_MAX = 16,
    WORKERS_MAX = LIMIT_WORKERS,
    DIALS_AT_ONCE = 50,
    DIAL_PAUSE_MS = 20,
    TICK_MS = 20,
    WAIT_MS = 60000,
    WARM_MS = 3000,
};

/* Written by the children, read by the parent. */
typedef struct results {
    volatile uint64_t open, tokens, wrong, failed; /* of all clients, which are one process */
    volatile uint32_t go;                          /* the parent's: streams may begin */
} results;

/* -- the workers' process ------------------------------------------------------------------- */

typedef struct fleet {
    const fleet_load *load;
    const char *url;
    uv_loop_t loop;
    session_hub *hub;
    uv_timer_t timer;
    fake_worker *workers[WORKERS_MAX];
    uint32_t started;
} fleet;

static void start_some(uv_timer_t *timer)
{
    fleet *f = timer->data;
    error err;
    for (uint32_t i = 0; i < DIALS_AT_ONCE && f->started < f->load->workers; i++, f->started++) {
        char name[16];
        snprintf(name, sizeof name, "fake-%u", f->started);
        const fake_worker_options options = {.router = f->url,
                                             .worker_id = name,
                                             .model = "fake",
                                             .slots = f->load->streams / f->load->workers + 8,
                                             .text_bytes = 4,
                                             .tokens_per_second =
                                                 f->load->tokens_per_second / f->load->workers,
                                             .tick_ms = TICK_MS,
                                             .dead_ms = DIALLER_DEAD_MS};
        CHECK(fake_worker_start(&f->workers[f->started], &f->loop, f->hub, &options, &err) ==
              ST_OK);
    }
    if (f->started == f->load->workers) uv_timer_stop(timer);
}

static void run_workers(const char *url, const fleet_load *load)
{
    static fleet f;
    f.load = load;
    f.url = url;
    f.hub = dialler_hub(&f.loop);
    CHECK(uv_timer_init(&f.loop, &f.timer) == 0);
    f.timer.data = &f;
    uv_timer_start(&f.timer, start_some, 0, DIAL_PAUSE_MS);
    uv_run(&f.loop, UV_RUN_DEFAULT); /* until the parent kills us */
}

/* -- the clients' process --------------------------------------------------------------------- */

typedef struct held {
    id128 id;
    uint32_t next;
} held;

typedef struct client {
    const fleet_load *load;
    results *out;
    session *session;
    held *streams;
    uint32_t count, asked;
    acks acks;
    uv_timer_t timer;
    uint32_t *prompt;
} client;

/* A few at a time, as people come. */
static void ask_some(uv_timer_t *timer)
{
    client *c = timer->data;
    if (!c->out->go || !session_is_up(c->session)) return;
    for (uint32_t i = 0; i < DIALS_AT_ONCE && c->asked < c->count; i++, c->asked++) {
        held *h = &c->streams[c->asked];
        *h = (held){.id = id128_random()};
        memcpy(c->prompt, &h->id, sizeof h->id);
        envelope e = {.kind = ENVELOPE_SUBMIT};
        e.submit = (msg_submit){.stream = c->asked + 1,
                                .request_id = h->id,
                                .ids = c->prompt,
                                .id_count = c->load->prompt_tokens,
                                .max_tokens = 1u << 19,
                                .logprobs = LOGPROBS_NONE,
                                .window = WINDOW};
        session_send(c->session, &e);
    }
}

static void on_tokens(client *c, const msg_tokens *t)
{
    size_t at = 0;
    for (size_t g = 0; g < t->groups; g++) {
        held *h = &c->streams[t->stream[g] - 1];
        c->out->wrong += t->first_index[g] != h->next;
        for (uint32_t i = 0; i < t->count[g]; i++, at++, h->next++)
            c->out->wrong += t->token[at] != fake_token(&h->id, h->next);
        if (h->next % (WINDOW / 4) != 0) continue;
        acks_add(&c->acks, t->stream[g], h->next);
    }
    c->out->tokens += t->tokens;
    if (session_is_idle(c->session)) acks_send(&c->acks, c->session);
}

static void on_envelope(void *ctx, session *s, const envelope *e, const error *refused)
{
    (void)s;
    client *c = ctx;
    CHECK(refused == NULL);
    if (e->kind == ENVELOPE_TOKENS)
        on_tokens(c, &e->tokens);
    else if (e->kind == ENVELOPE_ACCEPTED)
        c->out->open++;
    else if (e->kind == ENVELOPE_ERROR && c->out->failed++ == 0)
        fprintf(stderr, "client: %.*s\n", (int)e->error.text.size, e->error.text.data);
}

static void on_down(void *ctx, session *s, const error *why)
{
    (void)ctx;
    (void)s;
    fprintf(stderr, "client: the link is lost, and its streams with it: %s\n", why->text);
}

static void on_idle(void *ctx, session *s)
{
    acks_send(&((client *)ctx)->acks, s);
}

static void run_clients(const char *url, const fleet_load *load, results *out)
{
    static const session_handlers handlers = {
        .on_envelope = on_envelope, .on_idle = on_idle, .on_down = on_down};
    static client clients[CLIENTS_MAX];
    uv_loop_t loop;
    session_hub *hub = dialler_hub(&loop);
    uint32_t left = load->streams;
    for (uint32_t i = 0; left > 0; i++) {
        CHECK(i < CLIENTS_MAX);
        client *c = &clients[i];
        c->load = load;
        c->out = out;
        c->count = left < STREAMS_PER_CLIENT ? left : STREAMS_PER_CLIENT;
        left -= c->count;
        c->streams = mem_calloc(c->count, sizeof *c->streams);
        c->prompt = mem_calloc(load->prompt_tokens, sizeof *c->prompt);
        c->session = dialler_client(hub, url, NULL, &handlers, c);
        CHECK(uv_timer_init(&loop, &c->timer) == 0);
        c->timer.data = c;
        uv_timer_start(&c->timer, ask_some, 1, DIAL_PAUSE_MS);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
}

/* -- the parent ---------------------------------------------------------------------------------
 */

typedef struct usage {
    double cpu, at_s;
    uint64_t tokens;
} usage;

static usage usage_now(pid_t router, const results *r)
{
    return (usage){cpu_seconds(router), (double)clock_now_ns() / 1e9, r->tokens};
}

/* Until its memory stops growing: everybody has dialled. */
static long settled_kib(pid_t router)
{
    long before, now = memory_kib(router, "RssAnon");
    do {
        before = now;
        pause_ms(1000);
        now = memory_kib(router, "RssAnon");
    } while (now > before + 8);
    return now;
}

fleet_figures fleet_measure(const fleet_load *load)
{
    CHECK(load->workers <= WORKERS_MAX && load->prompt_tokens * sizeof(uint32_t) >= sizeof(id128));
    const bench_urls urls = bench_urls_make(load->scheme);
    results *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    pid_t router = router_start(load->router, urls.client, urls.worker);
    pid_t clients = bench_fork();
    if (clients == 0) run_clients(urls.client, load, shared);
    long empty_kib = settled_kib(router);
    pid_t workers = bench_fork();
    if (workers == 0) run_workers(urls.worker, load);
    pause_ms(load->workers / DIALS_AT_ONCE * DIAL_PAUSE_MS + 1000);
    long fleet_kib = settled_kib(router);
    usage idle = usage_now(router, shared);
    pause_ms(WARM_MS);
    usage idle_end = usage_now(router, shared);

    shared->go = 1;
    for (uint32_t i = 0; i < WAIT_MS / 10 && shared->open < load->streams; i++)
        pause_ms(10);
    CHECK(shared->open == load->streams);
    pause_ms(WARM_MS);
    usage begin = usage_now(router, shared);
    pause_ms((uint32_t)(load->seconds * 1000));
    usage over = usage_now(router, shared);
    double elapsed = over.at_s - begin.at_s;
    const fleet_figures f = {
        .worker_bytes = (double)(fleet_kib - empty_kib) * 1024 / load->workers,
        .stream_bytes = (double)(memory_kib(router, "RssAnon") - fleet_kib) * 1024 / load->streams,
        .stream_tokens = (double)over.tokens / load->streams,
        .tokens_per_second = (double)(over.tokens - begin.tokens) / elapsed,
        .cpu_share = (over.cpu - begin.cpu) / elapsed,
        .idle_cpu_share = (idle_end.cpu - idle.cpu) / (idle_end.at_s - idle.at_s),
        .rss_kib = memory_kib(router, "VmRSS"),
    };
    CHECK(shared->wrong == 0);
    process_kill(clients);
    process_kill(workers);
    process_kill(router);
    munmap(shared, sizeof *shared);
    return f;
}
