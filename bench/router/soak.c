#include "bench/router/soak.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/router/dialler.h"
#include "bench/router/under_test.h"
#include "common/check.h"
#include "common/clock.h"
#include "tests/fake_worker/fake_worker.h"

enum {
    CLIENTS = 16,
    STREAMS = 8, /* of a client at once */
    WINDOW = 64,
    TOKENS_MAX = 200,
    REAL_TOKENS_MAX = 64,
    PROMPTS = 512,
    PROMPT_MIN = 16, /* tokens */
    PROMPT_MAX = 1016,
    TICK_MS = 100,
    STAY_MS_MAX = 6000,       /* of a client; then somebody new comes */
    COME_BACK_MS = 1000,      /* who was refused */
    REST_MS_MAX = 900,        /* between the requests of a stream's place */
    REAL_REST_MS_MAX = 15000, /* the real worker is to be busy now and then, not always */
    DEADLINE_MS = 500,
    WORKER_PROCESSES = 2,
    WORKERS_EACH = 4,
    WORKER_TOKENS_PER_SECOND = 400,
    WORKER_TICK_MS = 20,
    SAMPLE_S = 10,
    WORKERS_STAY_S = 10, /* then one of the processes is another */
    CLIENTS_STAY_S = 23, /* samples find them at any age */
    RELOAD_S = 12,       /* and a token is good for two of these: they may outlive theirs */
};

/* Written by the children, read by the parent. */
typedef struct results {
    volatile uint64_t finished, cancelled, deadlines, refused, tokens, clients, wrong;
} results;

/* Below `bound`. */
static uint32_t draw(uint32_t bound)
{
    id128 random = id128_random();
    uint32_t number;
    memcpy(&number, random.bytes, sizeof number);
    return number % bound;
}

/* -- the clients' process --------------------------------------------------------------------- */

/* Room for one answer after the other. */
typedef struct place {
    id128 id;
    uint32_t number; /* of the stream; 0: free */
    uint32_t next, acked, cancel_at;
    uint64_t ask_ms; /* not before */
} place;

typedef struct client {
    session_hub *hub;
    const char *url, *token, *model;
    bool real; /* its model's ids are not known beforehand */
    results *out;
    session *session; /* NULL: gone */
    uv_timer_t timer;
    acks acks;
    place places[STREAMS];
    uint32_t last_number;
    uint64_t come_ms, leave_ms;
} client;

static void ask(client *c, place *p)
{
    uint32_t which = draw(PROMPTS), kind = draw(8);
    uint32_t length = 1 + draw(c->real ? REAL_TOKENS_MAX : TOKENS_MAX);
    uint32_t prompt[PROMPT_MAX];
    uint32_t count = PROMPT_MIN + (PROMPT_MAX - PROMPT_MIN) * which / PROMPTS;
    for (uint32_t i = 0; i < count; i++)
        prompt[i] = 300 + (which * 7919 + i * 31) % 1500;
    *p = (place){.id = id128_random(), .number = ++c->last_number, .cancel_at = UINT32_MAX};
    if (kind == 0) p->cancel_at = draw(length);
    envelope e = {.kind = ENVELOPE_SUBMIT};
    e.submit = (msg_submit){.stream = p->number,
                            .request_id = p->id,
                            .model = text_of(c->model),
                            .ids = prompt,
                            .id_count = count,
                            .max_tokens = length,
                            .ignore_eos = true,
                            .logprobs = LOGPROBS_NONE,
                            .window = WINDOW,
                            .deadline_ms = kind == 1 ? DEADLINE_MS : 0,
                            .priority = (int32_t)draw(3) - 1};
    session_send(c->session, &e);
}

static place *place_of(client *c, uint32_t number)
{
    for (place *p = c->places; p < c->places + STREAMS; p++)
        if (p->number == number) return p;
    return NULL;
}

static void rest(const client *c, place *p)
{
    p->number = 0;
    p->ask_ms = clock_now_ms() + draw(c->real ? REAL_REST_MS_MAX : REST_MS_MAX);
}

static void cancel(const client *c, place *p)
{
    envelope e = {.kind = ENVELOPE_CANCEL};
    e.cancel = (msg_cancel){.stream = &p->number, .count = 1};
    session_send(c->session, &e);
    p->cancel_at = UINT32_MAX;
}

static void on_tokens(client *c, const msg_tokens *t)
{
    size_t at = 0;
    for (size_t g = 0; g < t->groups; g++) {
        place *p = place_of(c, t->stream[g]);
        CHECK(p != NULL);
        c->out->wrong += t->first_index[g] != p->next;
        for (uint32_t i = 0; i < t->count[g]; i++, at++, p->next++)
            c->out->wrong += !c->real && t->token[at] != fake_token(&p->id, p->next);
        if (p->next > p->cancel_at) cancel(c, p);
        if (p->next - p->acked < WINDOW / 4) continue;
        p->acked = p->next;
        acks_add(&c->acks, p->number, p->next);
    }
    c->out->tokens += t->tokens;
}

static void on_finish(client *c, const msg_finish *f)
{
    place *p = place_of(c, f->stream);
    CHECK(p != NULL);
    c->out->wrong += f->total != p->next;
    if (f->reason == FINISH_CANCELLED)
        c->out->cancelled++;
    else if (f->reason == FINISH_DEADLINE)
        c->out->deadlines++;
    else
        c->out->finished++;
    acks_add(&c->acks, p->number, p->next);
    rest(c, p);
}

static void on_error(client *c, const msg_error *e)
{
    place *p = place_of(c, e->stream);
    if (e->stream == 0 || p == NULL) return;
    if (e->code == ST_DEADLINE_EXCEEDED)
        c->out->deadlines++;
    else
        c->out->refused++;
    rest(c, p);
}

static void on_envelope(void *ctx, session *s, const envelope *e, const error *refused)
{
    client *c = ctx;
    CHECK(refused == NULL);
    if (e->kind == ENVELOPE_TOKENS) on_tokens(c, &e->tokens);
    if (e->kind == ENVELOPE_FINISH) on_finish(c, &e->finish);
    if (e->kind == ENVELOPE_ERROR) on_error(c, &e->error);
    if (session_is_idle(s)) acks_send(&c->acks, s);
}

static void on_idle(void *ctx, session *s)
{
    acks_send(&((client *)ctx)->acks, s);
}

static void on_up(void *ctx, session *s, const msg_welcome *welcome)
{
    (void)s;
    (void)welcome;
    client *c = ctx;
    c->out->clients++;
    c->leave_ms = clock_now_ms() + 1 + draw(STAY_MS_MAX);
}

/* What it asked for is not its any more. */
static void on_down(void *ctx, session *s, const error *why)
{
    (void)s;
    (void)why;
    client *c = ctx;
    acks_free(&c->acks);
    memset(c->places, 0, sizeof c->places);
}

static void on_closed(void *ctx, session *s, const error *why)
{
    (void)s;
    client *c = ctx;
    c->session = NULL;
    c->come_ms = clock_now_ms() + (why->code == ST_OK ? 0 : COME_BACK_MS);
}

static void on_timer(uv_timer_t *timer)
{
    static const session_handlers handlers = {.on_up = on_up,
                                              .on_envelope = on_envelope,
                                              .on_idle = on_idle,
                                              .on_down = on_down,
                                              .on_closed = on_closed};
    client *c = timer->data;
    uint64_t now_ms = clock_now_ms();
    if (c->session == NULL && now_ms >= c->come_ms)
        c->session = dialler_client(c->hub, c->url, c->token, &handlers, c);
    if (c->session == NULL || !session_is_up(c->session)) return;
    if (now_ms >= c->leave_ms) {
        session_close(c->session, "soak");
        return;
    }
    for (place *p = c->places; p < c->places + STREAMS; p++)
        if (p->number == 0 && now_ms >= p->ask_ms) ask(c, p);
}

/* The first of them asks the real worker, where there is one. */
static void run_clients(const char *url, const char *token, const char *real_model, results *out)
{
    static client clients[CLIENTS];
    uv_loop_t loop;
    session_hub *hub = dialler_hub(&loop);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        client *c = &clients[i];
        bool real = i == 0 && real_model != NULL;
        *c = (client){.hub = hub,
                      .url = url,
                      .token = token,
                      .model = real ? real_model : "fake",
                      .real = real,
                      .out = out};
        CHECK(uv_timer_init(&loop, &c->timer) == 0);
        c->timer.data = c;
        uv_timer_start(&c->timer, on_timer, 1 + draw(TICK_MS), TICK_MS);
    }
    uv_run(&loop, UV_RUN_DEFAULT); /* until the parent kills us */
}

/* -- the workers' processes ------------------------------------------------------------------- */

static void on_hub_closed(void *ctx)
{
    uv_close(ctx, NULL);
}

/* They say goodbye. */
static void on_end(uv_signal_t *handle, int number)
{
    (void)number;
    session_hub_close(handle->data, on_hub_closed, handle);
}

/* Those of `process` 0 always have the same names. */
static void run_workers(const char *url, uint32_t process, uint64_t generation)
{
    uv_loop_t loop;
    uv_signal_t end;
    fake_worker *workers[WORKERS_EACH];
    error err;
    session_hub *hub = dialler_hub(&loop);
    CHECK(uv_signal_init(&loop, &end) == 0);
    end.data = hub;
    CHECK(uv_signal_start(&end, on_end, SIGTERM) == 0);
    for (uint32_t i = 0; i < WORKERS_EACH; i++) {
        char name[48];
        if (process == 0)
            snprintf(name, sizeof name, "steady-%u", i);
        else
            snprintf(name, sizeof name, "guest-%llu-%u", (unsigned long long)generation, i);
        const fake_worker_options options = {.router = url,
                                             .worker_id = name,
                                             .model = "fake",
                                             .slots = 64,
                                             .text_bytes = 4,
                                             .tokens_per_second = WORKER_TOKENS_PER_SECOND,
                                             .tick_ms = WORKER_TICK_MS};
        CHECK(fake_worker_start(&workers[i], &loop, hub, &options, &err) == ST_OK);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    _exit(0);
}

/* -- what is seen -------------------------------------------------------------------------------
 */

typedef struct samples {
    double *values;
    size_t count;
} samples;

static double max_of(const double *values, size_t count)
{
    double max = 0;
    for (size_t i = 0; i < count; i++)
        if (values[i] > max) max = values[i];
    return max;
}

/* Of the straight line with the least squares, a value. */
static double slope_of(const double *values, size_t count)
{
    double mean = 0, along = 0, all = 0;
    for (size_t i = 0; i < count; i++)
        mean += values[i] / (double)count;
    for (size_t i = 0; i < count; i++) {
        double x = (double)i - ((double)count - 1) / 2;
        along += x * (values[i] - mean);
        all += x * x;
    }
    return all > 0 ? along / all : 0;
}

static soak_series judge(const samples *s, double allowance)
{
    size_t warm_up = s->count / 6, third = (s->count - warm_up) / 3;
    soak_series j = {.first_max = max_of(s->values + warm_up, third),
                     .last_max = max_of(s->values + s->count - third, third),
                     .per_hour =
                         slope_of(s->values + s->count - 2 * third, 2 * third) * 3600 / SAMPLE_S};
    j.bound = 1.05 * j.first_max + allowance;
    j.flat = j.last_max <= j.bound;
    return j;
}

/* -- the parent ---------------------------------------------------------------------------------
 */

typedef struct soak {
    const soak_load *load;
    bench_urls urls;
    char tokens_path[64], token[32];
    const char *real_model;
    pid_t router, real_worker, clients, workers[WORKER_PROCESSES];
    results *shared;
    samples router_kib, router_files, worker_kib;
    uint64_t worker_processes, reloads;
} soak;

/* The one before is good once more. */
static void write_tokens(soak *s)
{
    FILE *file = fopen(s->tokens_path, "we");
    CHECK(file != NULL);
    fprintf(file, "%s\n", s->token);
    snprintf(s->token, sizeof s->token, "soak-token-number-%llu", (unsigned long long)s->reloads);
    fprintf(file, "%s\n", s->token);
    CHECK(fclose(file) == 0);
}

static void reload(soak *s)
{
    s->reloads++;
    write_tokens(s);
    kill(s->router, SIGHUP);
}

static void start_clients(soak *s)
{
    s->clients = bench_fork();
    if (s->clients == 0) run_clients(s->urls.client, s->token, s->real_model, s->shared);
}

static void start_workers(soak *s, uint32_t process)
{
    s->worker_processes++;
    s->workers[process] = bench_fork();
    if (s->workers[process] == 0) run_workers(s->urls.worker, process, s->worker_processes);
}

/* The processes in turn; every other time they have no time to say goodbye. */
static void replace_workers(soak *s)
{
    uint32_t process = (uint32_t)(s->worker_processes % WORKER_PROCESSES);
    if (s->worker_processes % 4 < 2) {
        int end;
        kill(s->workers[process], SIGTERM);
        CHECK(waitpid(s->workers[process], &end, 0) == s->workers[process]);
        CHECK(WIFEXITED(end) && WEXITSTATUS(end) == 0);
    } else {
        process_kill(s->workers[process]);
    }
    start_workers(s, process);
}

static void start_all(soak *s)
{
    s->urls = bench_urls_make(s->load->scheme);
    snprintf(s->tokens_path, sizeof s->tokens_path, "/tmp/gaggle-bench-%d-tokens", (int)getpid());
    write_tokens(s);
    s->router = program_start(s->load->router,
                              (const char *[]){s->load->router, "--listen", s->urls.client,
                                               "--worker-listen", s->urls.worker, "--log-level",
                                               "error", "--client-grace-ms", "2000",
                                               "--api-token-file", s->tokens_path, NULL});
    if (s->load->model != NULL) {
        const char *slash = strrchr(s->load->model, '/');
        s->real_model = slash != NULL ? slash + 1 : s->load->model;
        s->real_worker = program_start(
            s->load->worker,
            (const char *[]){s->load->worker, "-m", s->load->model, "--router", s->urls.worker,
                             "--name", "real", "--threads", "1", "--log-level", "error", NULL});
    }
    for (uint32_t i = 0; i < WORKER_PROCESSES; i++)
        start_workers(s, i);
    start_clients(s);
}

static void stop_all(soak *s)
{
    process_kill(s->clients);
    for (uint32_t i = 0; i < WORKER_PROCESSES; i++)
        process_kill(s->workers[i]);
    if (s->real_worker != 0) process_kill(s->real_worker);
    process_kill(s->router);
    unlink(s->tokens_path);
}

static void sample(soak *s, size_t at)
{
    s->router_kib.values[at] = (double)memory_kib(s->router, "VmRSS");
    s->router_files.values[at] = (double)files_open(s->router);
    if (s->real_worker != 0) s->worker_kib.values[at] = (double)memory_kib(s->real_worker, "VmRSS");
    if (!isatty(STDERR_FILENO)) return;
    const results *r = s->shared;
    fprintf(stderr,
            "\rsoak: %zu of %zu s, router %.0f KiB, %.0f files, worker %.0f KiB; clients=%llu "
            "finished=%llu cancelled=%llu refused=%llu wrong=%llu\033[K",
            (at + 1) * SAMPLE_S, s->router_kib.count * SAMPLE_S, s->router_kib.values[at],
            s->router_files.values[at], s->real_worker != 0 ? s->worker_kib.values[at] : 0,
            (unsigned long long)r->clients, (unsigned long long)r->finished,
            (unsigned long long)r->cancelled, (unsigned long long)r->refused,
            (unsigned long long)r->wrong);
    if (at + 1 == s->router_kib.count) fputc('\n', stderr);
}

static void live(soak *s)
{
    uint64_t begun_ms = clock_now_ms();
    for (uint64_t second = 1; second <= s->router_kib.count * SAMPLE_S; second++) {
        uint64_t elapsed_ms = clock_now_ms() - begun_ms;
        if (elapsed_ms < second * 1000) pause_ms((uint32_t)(second * 1000 - elapsed_ms));
        if (second % RELOAD_S == 0) reload(s);
        if (second % WORKERS_STAY_S == WORKERS_STAY_S / 2) replace_workers(s);
        if (second % CLIENTS_STAY_S == 0) {
            process_kill(s->clients);
            start_clients(s);
        }
        if (second % SAMPLE_S == 0) sample(s, second / SAMPLE_S - 1);
    }
}

soak_figures soak_measure(const soak_load *load)
{
    static soak s;
    s.load = load;
    s.shared =
        mmap(NULL, sizeof *s.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(s.shared != MAP_FAILED);
    samples *const all[] = {&s.router_kib, &s.router_files, &s.worker_kib};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        all[i]->count = (size_t)(load->minutes * 60 / SAMPLE_S);
        all[i]->values = mem_calloc(all[i]->count, sizeof(double));
    }
    start_all(&s);
    double cpu = cpu_seconds(s.router), begun_s = (double)clock_now_ns() / 1e9;
    live(&s);
    const results *r = s.shared;
    const soak_figures f = {
        .router_kib = judge(&s.router_kib, 1024),
        .router_files = judge(&s.router_files, 8),
        .worker_kib = judge(&s.worker_kib, 1024),
        .router_cpu_share =
            (cpu_seconds(s.router) - cpu) / ((double)clock_now_ns() / 1e9 - begun_s),
        .finished = r->finished,
        .cancelled = r->cancelled,
        .deadlines = r->deadlines,
        .refused = r->refused,
        .tokens = r->tokens,
        .clients = r->clients,
        .worker_processes = s.worker_processes,
        .reloads = s.reloads,
        .wrong = r->wrong,
    };
    stop_all(&s);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mem_free(all[i]->values);
    munmap(s.shared, sizeof *s.shared);
    return f;
}
