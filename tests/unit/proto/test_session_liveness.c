/* Goal: a silent peer is declared dead after dead_ms and hardly later, a living one never is, and
 * strangers get ten seconds. Method: peers that go silent in every way there is (a raw socket, a
 * PAIR0 socket behind TLS, a stopped process), peers that only answer, and a loop that stands
 * still. */
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <nng/nng.h>

#include "common/clock.h"
#include "session_support.h"

static uv_loop_t loop;
static session_hub *hub;
static link_hub *scripts;
static char program[1024];

static int setup(void **state)
{
    (void)state;
    error err;
    hub = open_sessions(&loop);
    return link_hub_create(&scripts, &loop, &err) == ST_OK ? 0 : -1;
}

static void set_flag(void *arg)
{
    *(unsigned *)arg = 1;
}

static int teardown(void **state)
{
    (void)state;
    unsigned closed = 0;
    link_hub_close(scripts, set_flag, &closed);
    assert_true(run_until_at_least(&loop, &closed, 1));
    close_sessions(&loop, hub);
    return 0;
}

static envelope query(uint32_t id)
{
    return (envelope){.kind = ENVELOPE_QUERY, .query.id = id};
}

/* -- silence ------------------------------------------------------------------------------ */

/* 1.5 s, and what the guard allows where the machine itself is late. */
static uint64_t dead_by_ms(void)
{
    return 1500 + 3 * 2 * (uint64_t)link_hub_lag_ms(scripts);
}

/* The last byte has just been heard: from now on 1.0 to 1.5 s. */
static void expect_death(unsigned *downs, const error *why)
{
    uv_update_time(&loop);
    uint64_t start = uv_now(&loop);
    assert_true(run_until_at_least(&loop, downs, 1));
    assert_in_range(uv_now(&loop) - start, 900, dead_by_ms());
    assert_int_equal(why->code, ST_UNAVAILABLE);
    assert_non_null(strstr(why->text, "nothing came"));
}

static void test_a_dialler_that_falls_silent_is_dead_after_a_second(void **state)
{
    (void)state;
    static const scheme kinds[] = {TCP, TLS, IPC};
    for (size_t i = 0; i < 3; i++) {
        house h = {0};
        house_open(&h, hub, kinds[i], "silent");
        script p = {0};
        script_dial(&p, &loop, scripts, kinds[i], "silent", session_listener_port(h.listener));
        script_hello(&p, &loop);
        talker *t = h.talkers;
        run_for(&loop, 1); /* what was sent has been counted */
        expect_death(&h.downs, &t->why);
        assert_true(p.pings >= 2);
        assert_true(run_until_at_least(&loop, &p.end.downs, 1));
        session_listener_close(h.listener);
        script_free(&p);
        house_free(&h);
    }
}

/* A router that says Welcome and nothing more. */
static void welcome_only(end *e, const uint8_t *bytes, size_t size)
{
    arena scratch = {0};
    envelope got;
    error err;
    assert_int_equal(envelope_decode(bytes, size, &scratch, &got, &err), ST_OK);
    if (got.kind == ENVELOPE_HELLO) {
        envelope answer = {.link = got.link,
                           .n = 1,
                           .kind = ENVELOPE_WELCOME,
                           .welcome = {.version = LIMIT_PROTOCOL_VERSION,
                                       .router_instance = id128_random(),
                                       .ping_ms = LIMIT_PING_MS_DEFAULT,
                                       .dead_ms = LIMIT_DEAD_MS_DEFAULT,
                                       .max_message_bytes = LIMIT_MESSAGE_BYTES}};
        buffer body = {0};
        assert_int_equal(envelope_encode(&answer, &scratch, &body), ST_OK);
        link_send(e->link, body.data, body.size);
        buffer_free(&body);
    }
    arena_free(&scratch);
}

static void close_when_down(talker *t)
{
    session_close(t->s, "seen enough");
}

static void test_a_router_that_falls_silent_is_dead_after_a_second(void **state)
{
    (void)state;
    server srv[SCHEME_COUNT] = {0};
    talker t[SCHEME_COUNT] = {0};
    error err;
    for (scheme s = 0; s < scheme_count(); s++) {
        srv[s].hook = welcome_only;
        t[s].on_down = close_when_down;
        server_open(&srv[s], scripts, s, "router", NULL);
        test_url url = dial_url(s, "router", link_listener_port(srv[s].listener));
        const char *urls[] = {url.text};
        session_dial_options options = dial_options(s, urls);
        assert_int_equal(session_dial(&t[s].s, hub, &options, &talker_handlers, &t[s], &err),
                         ST_OK);
    }
    for (scheme s = 0; s < scheme_count(); s++)
        assert_true(run_until_at_least(&loop, &t[s].ups, 1));
    uv_update_time(&loop);
    uint64_t start = uv_now(&loop);
    for (scheme s = 0; s < scheme_count(); s++) {
        assert_true(run_until_at_least(&loop, &t[s].downs, 1));
        assert_true(uv_now(&loop) - start < dead_by_ms());
        assert_non_null(strstr(t[s].why.text, "nothing came"));
        assert_int_equal(t[s].closeds, 1);
        link_listener_close(srv[s].listener);
        assert_true(run_until_at_least(&loop, &srv[s].downs, 1));
        server_free(&srv[s]);
    }
}

/* A process of ours that dials `url` and stays. The test program itself, started anew. */
static int child_main(const char *url, bool tls)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    use_certificates();
    uv_loop_t mine;
    session_hub *own = open_sessions(&mine);
    const char *urls[] = {url};
    session_dial_options options = dial_options(tls ? TLS : TCP, urls);
    talker t = {0};
    error err;
    if (session_dial(&t.s, own, &options, &talker_handlers, &t, &err) != ST_OK) return 1;
    uv_run(&mine, UV_RUN_DEFAULT);
    return 0;
}

static pid_t start_child(scheme s, const char *url)
{
    char *const argv[] = {program, (char *)"--child", (char *)(s == TLS ? "tls" : "tcp"),
                          (char *)url, NULL};
    pid_t pid;
    assert_int_equal(posix_spawn(&pid, program, NULL, NULL, argv, environ), 0);
    return pid;
}

static void test_a_stopped_process_is_dead_and_comes_back_when_it_goes_on(void **state)
{
    (void)state;
    static const scheme kinds[] = {TCP, TLS};
    for (size_t i = 0; i < 2; i++) {
        house h = {0};
        house_open(&h, hub, kinds[i], "stop");
        test_url url = dial_url(kinds[i], "stop", session_listener_port(h.listener));
        pid_t pid = start_child(kinds[i], url.text);
        assert_true(run_until_at_least(&loop, &h.ups, 1));
        talker *first = h.talkers;
        run_for(&loop, 300);
        assert_int_equal(h.downs, 0);
        kill(pid, SIGSTOP);
        uint64_t start = uv_now(&loop);
        assert_true(run_until_at_least(&loop, &h.downs, 1));
        /* Its last Ping may be one interval old, and more on a busy machine. */
        assert_in_range(uv_now(&loop) - start, 500 / slowness(), dead_by_ms());
        assert_non_null(strstr(first->why.text, "nothing came"));
        kill(pid, SIGCONT);
        assert_true(run_until_at_least(&loop, &h.ups, 2));
        kill(pid, SIGKILL);
        assert_true(run_until_at_least(&loop, &h.downs, 2));
        waitpid(pid, NULL, 0);
        session_listener_close(h.listener);
        house_free(&h);
    }
}

/* -- life ----------------------------------------------------------------------------------------
 */

static void test_idle_sessions_stay_up(void **state)
{
    (void)state;
    house h[SCHEME_COUNT] = {0};
    talker t[SCHEME_COUNT] = {0};
    for (scheme s = 0; s < scheme_count(); s++) {
        house_open(&h[s], hub, s, "stay");
        connect_talker(&loop, hub, &t[s], &h[s], s, "stay");
    }
    run_for(&loop, 1800);
    for (scheme s = 0; s < scheme_count(); s++) {
        assert_int_equal(t[s].downs, 0);
        assert_int_equal(h[s].downs, 0);
        assert_int_equal(t[s].envelopes, 0); /* Pings are nobody's business */
        session_close(t[s].s, "done");
        assert_true(run_until_at_least(&loop, &h[s].downs, 1));
        assert_true(run_until_at_least(&loop, &t[s].closeds, 1));
        session_listener_close(h[s].listener);
        house_free(&h[s]);
    }
}

static void send_on_idle(talker *t)
{
    envelope e = query(1);
    session_send(t->s, &e);
    assert_false(session_is_idle(t->s)); /* call again */
}

/* It never speaks first, and our side is never silent: only Pings that answer its silence save it.
 */
static void test_a_peer_that_only_answers_pings_lives_while_we_talk(void **state)
{
    (void)state;
    house h = {.on_idle = send_on_idle};
    house_open(&h, hub, TCP, "answer");
    script p = {.answer_pings = true};
    script_dial(&p, &loop, scripts, TCP, "answer", session_listener_port(h.listener));
    script_hello(&p, &loop);
    run_for(&loop, 1800);
    if (h.downs > 0) fail_msg("%s", h.talkers->why.text);
    assert_true(p.pings >= 3);
    link_close(p.end.link, 0);
    assert_true(run_until_at_least(&loop, &h.downs, 1));
    session_listener_close(h.listener);
    script_free(&p);
    house_free(&h);
}

/* Its own messages would otherwise be answer enough to any Ping. */
static void test_the_round_trip_to_a_busy_worker_is_measured(void **state)
{
    (void)state;
    house h = {.on_idle = send_on_idle};
    house_open(&h, hub, TCP, "measure");
    talker client = {0}, worker = {.on_idle = send_on_idle};
    connect_talker(&loop, hub, &client, &h, TCP, "measure");
    session *of_client = h.talkers->s;
    test_url url = dial_url(TCP, "measure", session_listener_port(h.listener));
    const char *urls[] = {url.text};
    session_dial_options options = dial_options(TCP, urls);
    options.role = ROLE_WORKER;
    error err;
    assert_int_equal(session_dial(&worker.s, hub, &options, &talker_handlers, &worker, &err),
                     ST_OK);
    assert_true(run_until_at_least(&loop, &h.ups, 2));
    session *of_worker = h.talkers->s;
    assert_int_equal(session_rtt_us(of_worker), 0);
    uint64_t start_ms = clock_now_ms();
    while (session_rtt_us(of_worker) == 0 && clock_now_ms() - start_ms < 5000)
        uv_run(&loop, UV_RUN_ONCE);
    assert_in_range(session_rtt_us(of_worker), 1, 5000000);
    assert_int_equal(session_rtt_us(of_client), 0);
    assert_int_equal(session_rtt_us(worker.s), 0);
    session_close(client.s, "done");
    session_close(worker.s, "done");
    assert_true(run_until_at_least(&loop, &h.downs, 2));
    session_traffic got = session_hub_traffic(hub, ROLE_CLIENT);
    assert_true(got.received_messages > 0 && got.received_bytes > got.received_messages);
    assert_true(got.sent_messages > 0 && got.sent_bytes > got.sent_messages);
    assert_true(run_until_at_least(&loop, &client.closeds, 1));
    assert_true(run_until_at_least(&loop, &worker.closeds, 1));
    session_listener_close(h.listener);
    house_free(&h);
}

static void test_a_loop_that_stood_still_kills_nobody(void **state)
{
    (void)state;
    house h[SCHEME_COUNT] = {0};
    script p[SCHEME_COUNT] = {0};
    talker t[SCHEME_COUNT] = {0};
    for (scheme s = 0; s < scheme_count(); s++) {
        house_open(&h[s], hub, s, "still");
        connect_talker(&loop, hub, &t[s], &h[s], s, "still");
        p[s].answer_pings = true;
        script_dial(&p[s], &loop, scripts, s, "still", session_listener_port(h[s].listener));
        script_hello(&p[s], &loop);
    }
    for (int i = 0; i < 2; i++) {
        uv_sleep(1500); /* this is the fault: a callback that blocks */
        run_for(&loop, 200);
    }
    for (scheme s = 0; s < scheme_count(); s++) {
        assert_int_equal(t[s].downs, 0);
        assert_int_equal(h[s].downs, 0);
        session_close(t[s].s, "done");
        link_close(p[s].end.link, 0);
        assert_true(run_until_at_least(&loop, &h[s].downs, 2));
        assert_true(run_until_at_least(&loop, &t[s].closeds, 1));
        assert_true(run_until_at_least(&loop, &p[s].end.downs, 1));
        session_listener_close(h[s].listener);
        script_free(&p[s]);
        house_free(&h[s]);
    }
}

/* -- strangers -----------------------------------------------------------------------------------
 */

static void test_who_does_not_say_hello_in_time_is_told_and_closed(void **state)
{
    (void)state;
    house h[SCHEME_COUNT] = {0};
    script p[SCHEME_COUNT] = {0};
    uint64_t start[SCHEME_COUNT] = {0};
    for (scheme s = 0; s < scheme_count(); s++) {
        house_open(&h[s], hub, s, "hello");
        uv_update_time(&loop);
        start[s] = uv_now(&loop);
        script_dial(&p[s], &loop, scripts, s, "hello", session_listener_port(h[s].listener));
    }
    for (scheme s = 0; s < scheme_count(); s++) {
        assert_true(run_until_at_least(&loop, &p[s].errors, 1));
        assert_in_range(uv_now(&loop) - start[s], LIMIT_HELLO_TIMEOUT_MS - 500,
                        LIMIT_HELLO_TIMEOUT_MS + 3000 * slowness());
        assert_int_equal(p[s].error.code, ST_DEADLINE_EXCEEDED);
        assert_non_null(strstr(p[s].error.text, "no Hello within"));
        assert_true(run_until_at_least(&loop, &p[s].end.downs, 1));
        assert_int_equal(h[s].hellos, 0);
        session_listener_close(h[s].listener);
        script_free(&p[s]);
        house_free(&h[s]);
    }
}

/* -- a client that does not read
 * -------------------------------------------------------------------- */

static void test_a_client_that_asks_and_never_reads_is_closed_before_it_fills_memory(void **state)
{
    (void)state;
    house h = {0};
    house_open(&h, hub, TCP, "deaf");
    int fd = raw_connect(TCP, "deaf", session_listener_port(h.listener));
    buffer out = {0};
    buffer_append(&out, sp_hello_bytes, sizeof sp_hello_bytes);
    envelope hello = hello_envelope();
    hello.link = 9;
    hello.n = 1;
    frame_envelope(&out, &hello);
    raw_write(fd, out.data, out.size);
    assert_true(run_until_at_least(&loop, &h.ups, 1));

    /* Answers that do not wait for on_idle. */
    static char text[LIMIT_TOKENS_TEXT_LEN];
    memset(text, 'x', sizeof text);
    envelope answer = {.kind = ENVELOPE_TOKENS};
    uint32_t one = 1, zero = 0, size = sizeof text;
    answer.tokens = (msg_tokens){.stream = &one,
                                 .first_index = &zero,
                                 .count = &one,
                                 .groups = 1,
                                 .token = &one,
                                 .text_len = &size,
                                 .tokens = 1,
                                 .text = (const uint8_t *)text,
                                 .text_size = size};
    size_t most = 0;
    for (int i = 0; i < 10000 && session_is_up(h.talkers->s); i++) {
        session_send(h.talkers->s, &answer);
        if (session_tx_bytes(h.talkers->s) > most) most = session_tx_bytes(h.talkers->s);
    }
    assert_in_range(most, LIMIT_CLIENT_BACKLOG_BYTES, LIMIT_CLIENT_BACKLOG_BYTES + LIMIT_MIB);
    assert_int_equal(h.downs, 0); /* not from within session_send() */
    assert_true(run_until_at_least(&loop, &h.downs, 1));
    assert_int_equal(h.talkers->why.code, ST_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(h.talkers->why.text, "does not read"));
    close(fd);
    buffer_free(&out);
    session_listener_close(h.listener);
    house_free(&h);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    /* The link itself would start valgrind, not us. */
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0) return 1;
    if (argc == 4 && strcmp(argv[1], "--child") == 0)
        return child_main(argv[3], strcmp(argv[2], "tls") == 0);
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    fail_at_once();
    make_certificates();
    const struct CMUnitTest tests[] = {
        TEST(test_a_dialler_that_falls_silent_is_dead_after_a_second),
        TEST(test_a_router_that_falls_silent_is_dead_after_a_second),
        TEST(test_a_stopped_process_is_dead_and_comes_back_when_it_goes_on),
        TEST(test_idle_sessions_stay_up),
        TEST(test_a_peer_that_only_answers_pings_lives_while_we_talk),
        TEST(test_the_round_trip_to_a_busy_worker_is_measured),
        TEST(test_a_loop_that_stood_still_kills_nobody),
        TEST(test_who_does_not_say_hello_in_time_is_told_and_closed),
        TEST(test_a_client_that_asks_and_never_reads_is_closed_before_it_fills_memory),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nng_fini(); /* so that a leak checker sees what it had left to free */
    return failed;
}
