/* gaggle-chaos: a cluster of real processes for which nothing goes right, for as long as one likes.
 *
 * Streams over CPU workers of the bundled model, each a request of a pool that was answered alone
 * before, again and again. Meanwhile workers, the router and a visiting client are killed, stopped
 * and ended, links are cut, some for longer than any grace. Every answer's ids, text, its division
 * among them and, where asked for, logprobs and alternatives must be those of its request alone, to
 * the bit. In the end every block of every worker must be free.
 *
 * tests/chaos/run.sh sets up what it needs. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/options.h"
#include "tests/e2e/answers.h"

#define TOKEN "one-for-all-of-them" /* off loopback the router wants one */

enum {
    POOL = 40,
    CLIENTS = 4,
    STREAMS_MAX = 2048,
    TURN_MS = 20,
    AWAY_MS_MAX = 10000,
    DOWN_MS_MAX = 3000,
    BLOW_MS_MIN = 300,
    BLOW_MS_MAX = 2500,
    SHOW_MS = 10000,
    QUIET_MS = 120000, /* for all to end when nothing is done to them any more */
};

/* -- settings -------------------------------------------------------------------------------- */

static uint32_t seconds = 600, stream_count = 200, worker_count = 4, answer_tokens_max = 300;
static uint32_t delay_ms = 50, loss = 100;
static uint64_t seed = 1;
static bool lossy_line;

static const option_row rows[] = {
    {"seconds", 's', OPTION_U32, &seconds, "S", .help = "how long [600]", .min = 1, .max = 86400},
    {"streams", 'n', OPTION_U32, &stream_count, "N", .help = "answers at once [200]", .min = 1,
     .max = STREAMS_MAX},
    {"workers", 'w', OPTION_U32, &worker_count, "N", .help = "[4]", .min = 1,
     .max = CLUSTER_WORKERS_MAX},
    {"tokens", 't', OPTION_U32, &answer_tokens_max, "N", .help = "of an answer [300]", .min = 1,
     .max = 900},
    {"delay-ms", 0, OPTION_U32, &delay_ms, "MS", .help = "of every link [50]", .max = 10000},
    {"loss", 0, OPTION_U32, &loss, "N", .help = "one piece in N is late by 200 ms [100]",
     .max = 1000000},
    {"lossy-line", 0, OPTION_FLAG, &lossy_line, NULL,
     .help = "over the line of gaggle-lossy-link, which runs here"},
    {"seed", 0, OPTION_U64, &seed, "N", .help = "of what happens when [1]", .min = 1, .max = 1e18},
};

static uint32_t random_below(uint32_t bound)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 16) % bound);
}

/* -- what is asked -----------------------------------------------------------------------------
 */

/* The mixed requests of the other tests, and on top of them, by other divisors so that all of it
 * meets: half of them with logprobs, some asked in characters of several bytes, some answered in
 * them, every other token ending inside one. */
static void prepare(mixed_request *m, uint32_t number)
{
    static const char *const questions[] = {
        "Qu'est-ce que c'est qu'un \xc5\x93uf \xc3\xa0 3 \xe2\x82\xac ?",
        "\xe6\x97\xa5\xe6\x9c\xac\xe3\x81\xae\xe9\xa6\x96\xe9\x83\xbd\xe3\x81\xaf?",
        "\xd0\xa7\xd1\x82\xd0\xbe \xd1\x8d\xd1\x82\xd0\xbe? \xf0\x9f\xa6\x86",
    };
    /* Bytes of two and three byte characters (C3 A9, E2 82 AC) in the bundled model's vocabulary.
     */
    static const uint32_t byte_ids[] = {133, 108, 164, 230, 111};
    static const float byte_bias[] = {90, 90, 90, 90, 90};
    prepare_mixed(m, number, answer_tokens_max);
    gaggle_request *r = &m->request;
    if (number % 4 < 2) r->logprobs = GAGGLE_LOGPROBS(number % 7);
    if (number % 5 == 3) m->message.content = questions[number % 3];
    if (number % 5 == 4) {
        r->sampling.temperature = 5;
        r->sampling.bias_ids = byte_ids;
        r->sampling.bias = byte_bias;
        r->sampling.bias_count = sizeof byte_ids / sizeof *byte_ids;
    }
}

/* -- the streams: their events come on their clients' threads --------------------------------- */

typedef struct slot {
    gaggle_client *client;
    gaggle_stream *stream;
    uint32_t number; /* of its request in the pool */
    answer heard;
    _Atomic bool ended;
} slot;

static answer pool[POOL];
static slot slots[STREAMS_MAX];
static _Atomic uint64_t answers, tokens, logprobs, continuations, approximate, refused, lost, wrong;

static void say_wrong(const slot *s, const gaggle_stream *stream, const char *what, uint32_t same)
{
    char id[33];
    gaggle_stream_id(stream, id);
    fprintf(stderr, "WRONG request=%s number=%u: of %u tokens the first %u are right; %s differ\n",
            id, s->number, answer_tokens(&s->heard), same, what);
    atomic_fetch_add(&wrong, 1);
}

static void on_event(void *ctx, gaggle_stream *stream, const gaggle_event *event)
{
    slot *s = ctx;
    answer *heard = &s->heard;
    if (event->type == GAGGLE_TOKENS) {
        atomic_fetch_add(&tokens, event->count);
        if (event->first_index != answer_tokens(heard))
            say_wrong(s, stream, "indices", answer_tokens(heard));
        answer_hear(heard, event);
        return;
    }
    if (event->error != NULL && answer_tokens(heard) == 0 && event->error->retry_after_ms > 0) {
        atomic_fetch_add(&refused, 1); /* nobody was there to take it */
    } else if (event->error != NULL) {
        fprintf(stderr, "LOST number=%u after %u tokens: %s\n", s->number, answer_tokens(heard),
                event->error->text);
        atomic_fetch_add(&lost, 1);
    } else {
        uint32_t same;
        heard->reason = event->reason;
        const char *what = answer_difference(&pool[s->number], heard, &same);
        if (what != NULL) say_wrong(s, stream, what, same);
        atomic_fetch_add(&answers, 1);
        atomic_fetch_add(&logprobs, heard->logprobs.size / sizeof(float));
        atomic_fetch_add(&continuations, event->continuations);
        atomic_fetch_add(&approximate, event->approximate);
    }
    atomic_store(&s->ended, true);
}

static gaggle_stream *submit(gaggle_client *client, mixed_request *m)
{
    gaggle_stream *stream;
    gaggle_error err;
    if (gaggle_submit(&stream, client, &m->request, &err) == GAGGLE_OK) return stream;
    fprintf(stderr, "%s\n", err.text);
    UNREACHABLE("a request of the pool can be asked");
}

static void begin(slot *s)
{
    mixed_request m;
    s->number = random_below(POOL);
    answer_free(&s->heard);
    s->heard = (answer){0};
    atomic_store(&s->ended, false);
    prepare(&m, s->number);
    m.request.on_event = on_event;
    m.request.ctx = s;
    s->stream = submit(s->client, &m);
}

static void answer_pool_alone(gaggle_client *client)
{
    for (uint32_t i = 0; i < POOL; i++) {
        mixed_request m;
        prepare(&m, i);
        gaggle_stream *stream = submit(client, &m);
        answer_read(&pool[i], stream, SIZE_MAX);
        gaggle_stream_close(stream);
        CHECK(pool[i].code == GAGGLE_OK && answer_tokens(&pool[i]) > 0);
        CHECK(m.request.logprobs == 0 ||
              pool[i].logprobs.size == answer_tokens(&pool[i]) * sizeof(float));
    }
}

/* Those that have ended are closed, and begun again while there is time. Returns how many run. */
static uint32_t turn_over(bool again)
{
    uint32_t running = 0;
    for (uint32_t i = 0; i < stream_count; i++) {
        slot *s = &slots[i];
        if (s->stream != NULL && atomic_load(&s->ended)) {
            gaggle_stream_close(s->stream);
            s->stream = NULL;
        }
        if (s->stream == NULL && again) begin(s);
        running += s->stream != NULL;
    }
    return running;
}

/* -- what is done to whom --------------------------------------------------------------------- */

typedef struct victim {
    uint64_t back_ms; /* 0: it is well */
    bool stopped, held;
} victim;

enum blow {
    KILL_WORKER,
    END_WORKER,
    STOP_WORKER,
    CUT_WORKER,
    HOLD_WORKER,
    CUT_CLIENT,
    HOLD_CLIENT,
    KILL_ROUTER,
    END_ROUTER,
    KILL_VISITOR,
    BLOWS
};
static const char *const blow_names[BLOWS] = {
    "worker_killed", "worker_ended", "worker_stopped", "worker_cut",   "worker_held",
    "client_cut",    "client_held",  "router_killed",  "router_ended", "client_killed",
};

typedef struct storm {
    cluster c;
    tcp_proxy *cables[CLIENTS];
    gaggle_client *clients[CLIENTS], *watcher;
    victim workers[CLUSTER_WORKERS_MAX], cut_clients[CLIENTS];
    process visitor;
    uint32_t count[BLOWS];
    uint64_t next_ms;
} storm;

static void visit(storm *s)
{
    process_start(&s->visitor, "gaggle",
                  (const char *[]){"complete", "--router", s->c.client_url, "--ignore-eos",
                                   "--max-tokens", "900", "Once upon a time", NULL},
                  false);
}

static void strike_worker(storm *s, enum blow what, uint64_t now_ms)
{
    uint32_t index = random_below(worker_count);
    victim *v = &s->workers[index];
    process *p = &s->c.workers[index];
    if (v->back_ms != 0 || p->pid == 0) return;
    s->count[what]++;
    uint32_t away_ms = 1 + random_below(AWAY_MS_MAX);
    if (what == KILL_WORKER) {
        cluster_kill_worker(&s->c, index);
        away_ms = 1 + random_below(DOWN_MS_MAX);
    } else if (what == END_WORKER) {
        kill(p->pid, SIGTERM);
    } else if (what == STOP_WORKER) {
        kill(p->pid, SIGSTOP);
        v->stopped = true;
    } else if (what == CUT_WORKER) {
        tcp_proxy_cut(s->c.worker_cables[index]);
        return;
    } else {
        tcp_proxy_hold(s->c.worker_cables[index]);
        v->held = true;
    }
    v->back_ms = now_ms + away_ms;
}

static void strike(storm *s, uint64_t now_ms)
{
    static const enum blow often[] = {
        KILL_WORKER, KILL_WORKER, KILL_WORKER, END_WORKER,  STOP_WORKER, STOP_WORKER, CUT_WORKER,
        HOLD_WORKER, HOLD_WORKER, CUT_CLIENT,  HOLD_CLIENT, KILL_ROUTER, END_ROUTER,  KILL_VISITOR};
    enum blow what = often[random_below(sizeof often / sizeof *often)];
    uint32_t index = random_below(CLIENTS);
    if (what <= HOLD_WORKER) {
        strike_worker(s, what, now_ms);
        return;
    }
    s->count[what]++;
    if (what == CUT_CLIENT) {
        tcp_proxy_cut(s->cables[index]);
    } else if (what == HOLD_CLIENT) {
        tcp_proxy_hold(s->cables[index]);
        s->cut_clients[index] = (victim){.back_ms = now_ms + 1 + random_below(AWAY_MS_MAX)};
    } else if (what == KILL_ROUTER) {
        cluster_restart_router(&s->c);
    } else if (what == END_ROUTER) {
        cluster_replace_router(&s->c);
    } else {
        process_stop(&s->visitor, SIGKILL);
        visit(s);
    }
}

/* Whose time has come is well again; everybody, with `all`. */
static void heal(storm *s, uint64_t now_ms, bool all)
{
    for (uint32_t i = 0; i < worker_count; i++) {
        victim *v = &s->workers[i];
        process *p = &s->c.workers[i];
        int end;
        if (p->pid != 0 && process_has_ended(p, &end) && end != 0) {
            fprintf(stderr, "WRONG worker w%u ended by itself with status %d\n", i, end);
            atomic_fetch_add(&wrong, 1);
        }
        if (!all && now_ms < v->back_ms) continue;
        if (v->stopped) kill(p->pid, SIGCONT);
        if (v->held) tcp_proxy_release(s->c.worker_cables[i]);
        *v = (victim){0};
        if (p->pid == 0) cluster_launch_worker(&s->c, i);
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        if (s->cut_clients[i].back_ms == 0 || (!all && now_ms < s->cut_clients[i].back_ms))
            continue;
        tcp_proxy_release(s->cables[i]);
        s->cut_clients[i] = (victim){0};
    }
}

/* -- the frame ----------------------------------------------------------------------------------
 */

/* A timerfd(2) of the driver's turns. */
static int start_clock(void)
{
    const struct timespec turn = {.tv_nsec = TURN_MS * 1000 * 1000};
    int clock = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    CHECK(clock >= 0);
    CHECK(timerfd_settime(clock, 0, &(struct itimerspec){turn, turn}, NULL) == 0);
    return clock;
}

static void next_turn(int clock)
{
    uint64_t turns;
    CHECK(read(clock, &turns, sizeof turns) == sizeof turns);
}

static void show(const storm *s, uint64_t since_ms)
{
    printf("%5.0f s  answers=%llu tokens=%llu logprobs=%llu continuations=%llu approximate=%llu "
           "refused=%llu lost=%llu wrong=%llu router_kib=%ld\n",
           (double)since_ms / 1000, (unsigned long long)answers, (unsigned long long)tokens,
           (unsigned long long)logprobs, (unsigned long long)continuations,
           (unsigned long long)approximate, (unsigned long long)refused, (unsigned long long)lost,
           (unsigned long long)wrong, process_memory_kib(&s->c.router, "VmRSS"));
    fflush(stdout);
}

static void set_up(storm *s)
{
    cluster_options options = {
        .workers = worker_count,
        .model = bundled_model(),
        .worker_args = {"--drain-ms", "2000", "--join-token", TOKEN},
        .router_args = {"--worker-grace-ms", "1000", "--client-grace-ms", "12000",
                        "--max-continuations", "1000", "--drain-ms", "200", "--join-token", TOKEN,
                        "--api-token", TOKEN},
        .client_token = TOKEN,
    };
    if (lossy_line) {
        options.near_host = "10.77.0.1";
        options.far_host = "10.77.0.2";
    }
    cluster_start(&s->c, &options);
    s->watcher = cluster_client(&s->c);
    answer_pool_alone(s->watcher);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        s->cables[i] = cluster_client_cable(&s->c);
        s->clients[i] = cluster_client_through(&s->c, s->cables[i]);
        tcp_proxy_worsen(s->cables[i], delay_ms, loss);
    }
    for (uint32_t i = 0; i < worker_count; i++)
        tcp_proxy_worsen(s->c.worker_cables[i], delay_ms, loss);
    for (uint32_t i = 0; i < stream_count; i++)
        slots[i].client = s->clients[i % CLIENTS];
}

static void tear_down(storm *s)
{
    cluster_wait_idle(s->watcher, worker_count);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        gaggle_client_destroy(s->clients[i]);
        tcp_proxy_stop(s->cables[i]);
    }
    gaggle_client_destroy(s->watcher);
    for (uint32_t i = 0; i < worker_count; i++)
        tcp_proxy_worsen(s->c.worker_cables[i], 0, 0);
    cluster_stop(&s->c);
}

static void run(storm *s)
{
    uint64_t begun_ms = clock_now_ms(), shown_ms = begun_ms, end_ms = begun_ms + 1000ull * seconds;
    uint64_t now_ms;
    int clock = start_clock();
    visit(s);
    for (; (now_ms = clock_now_ms()) < end_ms; next_turn(clock)) {
        turn_over(true);
        if (now_ms - shown_ms >= SHOW_MS) {
            show(s, now_ms - begun_ms);
            shown_ms = now_ms;
        }
        heal(s, now_ms, false);
        if (now_ms < s->next_ms) continue;
        strike(s, now_ms);
        s->next_ms = now_ms + BLOW_MS_MIN + random_below(BLOW_MS_MAX - BLOW_MS_MIN);
    }
    process_stop(&s->visitor, SIGKILL);
    while (turn_over(false) > 0 && clock_now_ms() < end_ms + QUIET_MS) {
        heal(s, clock_now_ms(), true);
        next_turn(clock);
    }
    close(clock);
    heal(s, clock_now_ms(), true);
    show(s, clock_now_ms() - begun_ms);
    for (uint32_t i = 0; i < BLOWS; i++)
        printf("%s=%u ", blow_names[i], s->count[i]);
    putchar('\n');
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const option_table table = {.usage = "gaggle-chaos [options]",
                                .about = "Answers through everything that can go wrong.",
                                .rows = rows,
                                .row_count = sizeof rows / sizeof *rows};
    error err;
    if (options_parse(&table, argc, argv, NULL, &err) != ST_OK) {
        fprintf(stderr, "gaggle-chaos: %s\n", err.text);
        return 2;
    }
    static storm s;
    set_up(&s);
    run(&s);
    uint32_t left = turn_over(false);
    if (left == 0) tear_down(&s);
    bool passed = left == 0 && atomic_load(&wrong) == 0 && atomic_load(&lost) == 0;
    printf("%s: %u of %u streams hang\n", passed ? "passed" : "FAILED", left, stream_count);
    return passed ? 0 : 1;
}
