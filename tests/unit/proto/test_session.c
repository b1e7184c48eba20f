/* Goal: Hello and Welcome, refusals in words, the tripwire, goodbyes and the limits on strangers do
 * what session.h says, and a callback may close anything.
 * Method: houses and talkers in one loop; scripts say the wrong things. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <nng/nng.h>

#include "session_support.h"

static uv_loop_t loop;
static session_hub *hub;
static link_hub *scripts; /* in the same loop */

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

static void answer_query(talker *t, const envelope *e)
{
    envelope answer = {.kind = ENVELOPE_REPORT, .report.id = e->query.id};
    session_send(t->s, &answer);
}

static void close_talker(talker *t)
{
    session_close(t->s, "test over");
    assert_true(run_until_at_least(&loop, &t->closeds, 1));
}

static void test_hello_is_welcomed_and_envelopes_flow(void **state)
{
    (void)state;
    for (scheme s = 0; s < scheme_count(); s++) {
        house h = {.on_envelope = answer_query};
        house_open(&h, hub, s, "flow");
        talker t = {0};
        connect_talker(&loop, hub, &t, &h, s, "flow");
        assert_true(id128_equal(&t.welcome.router_instance, &h.instance));
        assert_int_equal(t.welcome.version, LIMIT_PROTOCOL_VERSION);
        assert_int_equal(t.welcome.ping_ms, LIMIT_PING_MS_DEFAULT);
        assert_int_equal(t.welcome.dead_ms,
                         s == WS || s == WSS ? LIMIT_DEAD_MS_WS_DEFAULT : LIMIT_DEAD_MS_DEFAULT);
        assert_int_equal(t.welcome.max_message_bytes, LIMIT_MESSAGE_BYTES);
        assert_int_equal(t.welcome.streams_max, 16);
        assert_string_equal(session_peer_name(h.talkers->s), "tester");
        assert_true(run_until_at_least(&loop, &t.idles, 1));

        for (uint32_t i = 1; i <= 100; i++) {
            envelope e = query(i);
            session_send(t.s, &e);
        }
        assert_true(run_until_at_least(&loop, &t.envelopes, 100));
        assert_int_equal(h.talkers->envelopes, 100);
        assert_int_equal(t.last_kind, ENVELOPE_REPORT);

        /* Goodbye from the dialler: both are told why; no Bye reaches on_envelope. */
        close_talker(&t);
        assert_int_equal(t.downs, 1);
        assert_int_equal(t.why.code, ST_OK);
        assert_int_equal(t.closed_why.code, ST_OK);
        assert_true(run_until_at_least(&loop, &h.downs, 1));
        assert_int_equal(h.talkers->why.code, ST_CANCELLED);
        assert_non_null(strstr(h.talkers->why.text, "test over"));
        assert_int_equal(h.talkers->envelopes, 100);
        session_listener_close(h.listener);
        house_free(&h);
    }
}

/* The longest Hello, and a message of the largest size through a session. */
static void test_the_largest_hello_and_the_largest_message_pass(void **state)
{
    (void)state;
    for (scheme s = 0; s < scheme_count(); s++) {
        house h = {0};
        house_open(&h, hub, s, "large");
        char token[LIMIT_TOKEN_BYTES + 1], name[LIMIT_NAME_BYTES + 1];
        memset(token, 't', sizeof token - 1);
        memset(name, 'n', sizeof name - 1);
        token[sizeof token - 1] = name[sizeof name - 1] = 0;
        test_url url = dial_url(s, "large", session_listener_port(h.listener));
        const char *urls[] = {url.text};
        session_dial_options options = dial_options(s, urls);
        options.token = token;
        options.name = name;
        talker t = {0};
        error err;
        assert_int_equal(session_dial(&t.s, hub, &options, &talker_handlers, &t, &err), ST_OK);
        assert_true(run_until_at_least(&loop, &h.ups, 1));
        assert_string_equal(session_peer_name(h.talkers->s), name);

        size_t size = LIMIT_MESSAGE_BYTES - 200;
        char *text = mem_alloc(size);
        memset(text, 'x', size);
        assert_true(run_until_at_least(&loop, &t.ups, 1));
        envelope e = {.kind = ENVELOPE_SUBMIT,
                      .submit = {.stream = 1,
                                 .request_id = id128_random(),
                                 .has_text = true,
                                 .text = {text, size},
                                 .logprobs = LOGPROBS_NONE}};
        session_send(t.s, &e);
        assert_true(run_until_at_least(&loop, &h.talkers->envelopes, 1));
        assert_int_equal(h.talkers->last_kind, ENVELOPE_SUBMIT);
        mem_free(text);
        close_talker(&t);
        session_listener_close(h.listener);
        assert_true(run_until_at_least(&loop, &h.downs, 1));
        house_free(&h);
    }
}

static void test_wanted_liveness_is_agreed_within_reason(void **state)
{
    (void)state;
    static const struct {
        uint32_t ping, dead, agreed_ping, agreed_dead;
    } cases[] = {
        {0, 0, LIMIT_PING_MS_DEFAULT, LIMIT_DEAD_MS_DEFAULT},
        {5000, 30000, 5000, 30000},
        {5000, 0, 5000, 10000},
        {1, 1, LIMIT_PING_MS_MIN, 2 * LIMIT_PING_MS_MIN},
        {UINT32_MAX, UINT32_MAX, LIMIT_DEAD_MS_MAX / 2, LIMIT_DEAD_MS_MAX},
    };
    house h = {0};
    house_open(&h, hub, TCP, "agree");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        test_url url = dial_url(TCP, "agree", session_listener_port(h.listener));
        const char *urls[] = {url.text};
        session_dial_options options = dial_options(TCP, urls);
        options.ping_ms = cases[i].ping;
        options.dead_ms = cases[i].dead;
        talker t = {0};
        error err;
        assert_int_equal(session_dial(&t.s, hub, &options, &talker_handlers, &t, &err), ST_OK);
        assert_true(run_until_at_least(&loop, &t.ups, 1));
        assert_int_equal(t.welcome.ping_ms, cases[i].agreed_ping);
        assert_int_equal(t.welcome.dead_ms, cases[i].agreed_dead);
        close_talker(&t);
    }
    assert_true(run_until_at_least(&loop, &h.downs, h.ups));
    session_listener_close(h.listener);
    house_free(&h);
}

/* -- what a script says wrong ------------------------------------------------------- */

static void wrong_version(script *p)
{
    envelope e = hello_envelope();
    e.hello.version = 7;
    script_send(p, e);
}

static void small_messages(script *p)
{
    envelope e = hello_envelope();
    e.hello.max_message_bytes = 1000;
    script_send(p, e);
}

static void no_hello(script *p)
{
    script_send(p, query(1));
}

static void hello_with_n_two(script *p)
{
    p->n = 1;
    script_send(p, hello_envelope());
}

static void hello_without_link(script *p)
{
    p->link = 0;
    script_send(p, hello_envelope());
}

static void garbage(script *p)
{
    link_send(p->end.link, (const uint8_t *)"\xff\xff\xff\xff garbage", 12);
}

static void nothing_in_a_message(script *p)
{
    link_send(p->end.link, (const uint8_t *)"", 0);
}

static void long_hello(script *p)
{
    static uint8_t zeros[LIMIT_HELLO_BYTES + 1];
    link_send(p->end.link, zeros, sizeof zeros);
}

static void wrong_link(script *p)
{
    script_hello(p, &loop);
    p->link++;
    script_send(p, query(1));
}

static void lost_message(script *p)
{
    script_hello(p, &loop);
    script_send(p, query(1));
    p->n++;
    script_send(p, query(2));
}

static void repeated_message(script *p)
{
    script_hello(p, &loop);
    script_send(p, query(1));
    p->n--;
    script_send(p, query(2));
}

static void garbage_later(script *p)
{
    script_hello(p, &loop);
    garbage(p);
}

static void second_hello(script *p)
{
    script_hello(p, &loop);
    script_send(p, hello_envelope());
}

static const struct mistake {
    const char *name;
    void (*make)(script *p);
    status code;
    const char *words;
    bool comes_up;
} mistakes[] = {
    {"wrong version", wrong_version, ST_FAILED_PRECONDITION, "version 7", false},
    {"small messages", small_messages, ST_FAILED_PRECONDITION, "is 1000", false},
    {"no hello", no_hello, ST_FAILED_PRECONDITION, "it is Query", false},
    {"n is 2", hello_with_n_two, ST_FAILED_PRECONDITION, "n 2", false},
    {"link is 0", hello_without_link, ST_FAILED_PRECONDITION, "link 0", false},
    {"garbage", garbage, ST_INVALID_ARGUMENT, "", false},
    {"nothing", nothing_in_a_message, ST_INVALID_ARGUMENT, "", false},
    {"long hello", long_hello, ST_INVALID_ARGUMENT, "the limit is 16384", false},
    {"wrong link", wrong_link, ST_ABORTED, "4712", true},
    {"lost message", lost_message, ST_DATA_LOSS, "message 4 came where 3", true},
    {"repeated message", repeated_message, ST_DATA_LOSS, "message 2 came where 3", true},
    {"garbage later", garbage_later, ST_INVALID_ARGUMENT, "", true},
    {"second hello", second_hello, ST_ABORTED, "second time", true},
};

static void test_each_mistake_is_answered_in_words_and_closed(void **state)
{
    (void)state;
    for (scheme s = 0; s < scheme_count(); s++) {
        house h = {0};
        house_open(&h, hub, s, "mistake");
        talker good = {0}; /* nobody else notices */
        connect_talker(&loop, hub, &good, &h, s, "mistake");
        for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
            const struct mistake *m = &mistakes[i];
            unsigned ups = h.ups, downs = h.downs;
            script p = {0};
            script_dial(&p, &loop, scripts, s, "mistake", session_listener_port(h.listener));
            m->make(&p);
            if (!run_until_at_least(&loop, &p.errors, 1))
                fail_msg("%s on %s: no Error", m->name, scheme_names[s]);
            assert_true(p.fatal);
            if (p.error.code != m->code || strstr(p.error.text, m->words) == NULL)
                fail_msg("%s on %s: %s, %s", m->name, scheme_names[s], status_name(p.error.code),
                         p.error.text);
            link_close(p.end.link, 0);
            assert_true(run_until_at_least(&loop, &p.end.downs, 1));
            assert_int_equal(h.ups, ups + (m->comes_up ? 1 : 0));
            if (m->comes_up) {
                assert_true(run_until_at_least(&loop, &h.downs, downs + 1));
                assert_int_equal(h.talkers->why.code, m->code);
            }
            script_free(&p);
        }
        assert_int_equal(good.downs, 0);
        envelope e = query(1);
        session_send(good.s, &e);
        talker *first = h.talkers;
        while (first->next != NULL)
            first = first->next;
        assert_true(run_until_at_least(&loop, &first->envelopes, 1));
        close_talker(&good);
        session_listener_close(h.listener);
        assert_true(run_until_at_least(&loop, &h.downs, h.ups));
        house_free(&h);
    }
}

/* A frame over 8 MiB can only be announced by hand. On ws nng itself refuses it, without words. */
static void test_an_announced_frame_over_the_limit_is_answered_and_closed(void **state)
{
    (void)state;
    house h = {0};
    house_open(&h, hub, TCP, "announce");
    int fd = raw_connect(TCP, "announce", session_listener_port(h.listener));
    buffer out = {0};
    buffer_append(&out, sp_hello_bytes, sizeof sp_hello_bytes);
    envelope hello = hello_envelope();
    hello.link = 9;
    hello.n = 1;
    frame_envelope(&out, &hello);
    raw_write(fd, out.data, out.size);
    assert_true(run_until_at_least(&loop, &h.ups, 1));
    static const uint8_t huge[8] = {0, 0, 0, 0, 0, 0x80, 0, 1};
    raw_write(fd, huge, sizeof huge);
    assert_true(run_until_at_least(&loop, &h.downs, 1)); /* although the socket stays open */
    assert_int_equal(h.talkers->why.code, ST_INVALID_ARGUMENT);
    assert_non_null(strstr(h.talkers->why.text, "8388609 bytes"));
    char got[4096];
    size_t size = 0;
    ssize_t n;
    while ((n = read(fd, got + size, sizeof got - size)) > 0)
        size += (size_t)n;
    assert_non_null(memmem(got, size, "8388609 bytes", 13)); /* the Error's text */
    close(fd);
    buffer_free(&out);
    session_listener_close(h.listener);
    house_free(&h);
}

/* -- refusals and goodbyes -------------------------------------------------------------- */

static void test_a_refusal_that_cannot_be_mended_ends_the_dialling(void **state)
{
    (void)state;
    static const status codes[] = {ST_UNAUTHENTICATED, ST_PERMISSION_DENIED,
                                   ST_FAILED_PRECONDITION};
    for (scheme s = 0; s < scheme_count(); s++) {
        for (int i = 0; i < 3; i++) {
            house h = {.answer = codes[i]};
            error_set(&h.err, codes[i], "the token is unknown");
            house_open(&h, hub, s, "refuse");
            test_url url = dial_url(s, "refuse", session_listener_port(h.listener));
            const char *urls[] = {url.text};
            session_dial_options options = dial_options(s, urls);
            talker t = {0};
            error err;
            assert_int_equal(session_dial(&t.s, hub, &options, &talker_handlers, &t, &err), ST_OK);
            assert_true(run_until_at_least(&loop, &t.closeds, 1));
            assert_int_equal(t.ups, 0);
            assert_int_equal(t.downs, 1);
            assert_int_equal(t.closed_why.code, codes[i]);
            assert_string_equal(t.closed_why.text, "the token is unknown");
            assert_int_equal(h.hellos, 1);
            assert_int_equal(h.ups + h.downs, 0);
            session_listener_close(h.listener);
            house_free(&h);
        }
    }
}

static void test_a_full_router_says_when_to_come_back(void **state)
{
    (void)state;
    house h = {.answer = ST_RESOURCE_EXHAUSTED};
    error_set(&h.err, ST_RESOURCE_EXHAUSTED, "full");
    h.err.retry_after_ms = 300;
    house_open(&h, hub, TCP, "full");
    test_url url = dial_url(TCP, "full", session_listener_port(h.listener));
    const char *urls[] = {url.text};
    session_dial_options options = dial_options(TCP, urls);
    talker t = {0};
    error err;
    assert_int_equal(session_dial(&t.s, hub, &options, &talker_handlers, &t, &err), ST_OK);
    assert_true(run_until_at_least(&loop, &t.downs, 1));
    assert_int_equal(t.why.retry_after_ms, 300);
    uint64_t start = uv_now(&loop);
    assert_true(run_until_at_least(&loop, &h.hellos, 2));
    assert_in_range(uv_now(&loop) - start, 290, 5000);
    h.answer = ST_OK;
    assert_true(run_until_at_least(&loop, &t.ups, 1));
    close_talker(&t);
    assert_true(run_until_at_least(&loop, &h.downs, 1));
    session_listener_close(h.listener);
    house_free(&h);
}

static void test_urls_are_tried_in_turn(void **state)
{
    (void)state;
    house h = {0};
    house_open(&h, hub, TCP, "turn");
    test_url url = dial_url(TCP, "turn", session_listener_port(h.listener));
    const char *urls[] = {"tcp://127.0.0.1:1", "ipc:///nonexistent/socket", url.text};
    session_dial_options options = dial_options(TCP, urls);
    options.url_count = 3;
    talker t = {0};
    error err;
    assert_int_equal(session_dial(&t.s, hub, &options, &talker_handlers, &t, &err), ST_OK);
    assert_true(run_until_at_least(&loop, &t.ups, 1));
    assert_int_equal(t.downs, 2);
    assert_string_equal(session_peer_name(t.s), url.text);
    close_talker(&t);
    assert_true(run_until_at_least(&loop, &h.downs, 1));
    session_listener_close(h.listener);
    house_free(&h);
}

static void test_bad_options_start_nothing(void **state)
{
    (void)state;
    talker t = {0};
    error err;
    const char *urls[] = {"tcp://127.0.0.1:1", "http://x"};
    session_dial_options options = dial_options(TCP, urls);
    options.url_count = 2;
    assert_int_equal(session_dial(&t.s, hub, &options, &talker_handlers, &t, &err),
                     ST_INVALID_ARGUMENT);
    options.url_count = 0;
    assert_int_equal(session_dial(&t.s, hub, &options, &talker_handlers, &t, &err),
                     ST_INVALID_ARGUMENT);
    options.url_count = 1;
    char token[LIMIT_TOKEN_BYTES + 2];
    memset(token, 't', sizeof token);
    token[sizeof token - 1] = 0;
    options.token = token;
    assert_int_equal(session_dial(&t.s, hub, &options, &talker_handlers, &t, &err),
                     ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "4097"));
    run_for(&loop, 20);
    assert_int_equal(t.downs + t.closeds, 0);
}

static void test_an_acceptor_says_goodbye_and_the_dialler_comes_back(void **state)
{
    (void)state;
    for (scheme s = 0; s < scheme_count(); s++) {
        house h = {0};
        house_open(&h, hub, s, "bye");
        talker t = {0};
        connect_talker(&loop, hub, &t, &h, s, "bye");
        session_close(h.talkers->s, "restarting");
        session_close(h.talkers->s, "twice");
        assert_true(run_until_at_least(&loop, &h.downs, 1));
        assert_int_equal(h.talkers->why.code, ST_OK);
        assert_true(run_until_at_least(&loop, &t.downs, 1));
        assert_non_null(strstr(t.why.text, "restarting"));
        assert_true(run_until_at_least(&loop, &t.ups, 2));
        assert_int_equal(t.closeds, 0);
        close_talker(&t);
        assert_true(run_until_at_least(&loop, &h.downs, 2));
        session_listener_close(h.listener);
        house_free(&h);
    }
}

static void test_a_submit_that_breaks_a_limit_reaches_its_reader_as_refused(void **state)
{
    (void)state;
    house h = {0};
    house_open(&h, hub, TCP, "submit");
    script p = {0};
    script_dial(&p, &loop, scripts, TCP, "submit", session_listener_port(h.listener));
    script_hello(&p, &loop);
    /* Encoding refuses to write it, so: stream 1, a request id, and a priority for a prompt. */
    uint8_t bytes[64] = {0x0d, 0x67, 0x12, 0, 0, 0x10, 2, 0x7a, 20, 0x08, 1, 0x12, 16};
    memset(bytes + 13, 7, 16);
    link_send(p.end.link, bytes, 29);
    assert_true(run_until_at_least(&loop, &h.talkers->envelopes, 1));
    assert_int_equal(h.talkers->refusals, 1);
    assert_true(session_is_up(h.talkers->s));
    p.n = 2;
    script_send(&p, query(1)); /* the numbering went on */
    assert_true(run_until_at_least(&loop, &h.talkers->envelopes, 2));
    link_close(p.end.link, 0);
    assert_true(run_until_at_least(&loop, &h.downs, 1));
    session_listener_close(h.listener);
    script_free(&p);
    house_free(&h);
}

/* -- callbacks that close ------------------------------------------------------------------- */

static void close_self(talker *t)
{
    session_close(t->s, "from a callback");
    envelope e = query(1);
    session_send(t->s, &e); /* dropped */
    assert_false(session_is_up(t->s));
}

static void close_self_on_envelope(talker *t, const envelope *e)
{
    (void)e;
    close_self(t);
}

static void close_self_when_down(talker *t)
{
    if (t->s != NULL) session_close(t->s, "enough");
}

static void test_every_callback_may_close_its_session(void **state)
{
    (void)state;
    for (scheme s = 0; s < scheme_count(); s++) {
        for (int where = 0; where < 5; where++) {
            house h = {.close_in_hello = where == 0,
                       .on_up = where == 1 ? close_self : NULL,
                       .on_envelope = where == 2 ? close_self_on_envelope : NULL,
                       .on_idle = where == 3 ? close_self : NULL};
            house_open(&h, hub, s, "closing");
            talker t = {.on_down = close_self_when_down};
            test_url url = dial_url(s, "closing", session_listener_port(h.listener));
            const char *urls[] = {url.text};
            session_dial_options options = dial_options(s, urls);
            error err;
            assert_int_equal(session_dial(&t.s, hub, &options, &talker_handlers, &t, &err), ST_OK);
            if (where == 2) {
                assert_true(run_until_at_least(&loop, &t.ups, 1));
                envelope e = query(1);
                session_send(t.s, &e);
                session_send(t.s, &e);
            }
            if (where == 4) {
                t.on_up = close_self;
                t.on_down = NULL;
            }
            if (!run_until_at_least(&loop, &h.downs, 1))
                fail_msg("%s, callback %d: not down", scheme_names[s], where);
            if (!run_until_at_least(&loop, &t.closeds, 1))
                fail_msg("%s, callback %d: not closed", scheme_names[s], where);
            if (where == 0) assert_int_equal(h.ups, 0);
            if (where == 2) assert_int_equal(h.talkers->envelopes, 1);
            if (where < 4) assert_int_equal(h.talkers->why.code, ST_OK);
            session_listener_close(h.listener);
            house_free(&h);
        }
    }
}

static void test_closing_the_hub_ends_every_session_in_every_phase(void **state)
{
    (void)state;
    uv_loop_t mine;
    session_hub *all = open_sessions(&mine);
    house h[SCHEME_COUNT] = {0};
    talker up[SCHEME_COUNT] = {0}, dialling[SCHEME_COUNT] = {0}, waiting[SCHEME_COUNT] = {0};
    for (scheme s = 0; s < scheme_count(); s++) {
        house_open(&h[s], all, s, "all");
        connect_talker(&mine, all, &up[s], &h[s], s, "all");
        error err;
        test_url nowhere = dial_url(s, "nowhere", 1);
        const char *urls[] = {nowhere.text};
        session_dial_options options = dial_options(s, urls);
        assert_int_equal(
            session_dial(&waiting[s].s, all, &options, &talker_handlers, &waiting[s], &err), ST_OK);
        assert_true(run_until_at_least(&mine, &waiting[s].downs, 3));
    }
    for (scheme s = 0; s < scheme_count(); s++) {
        error err;
        test_url url = dial_url(s, "all", session_listener_port(h[s].listener));
        const char *urls[] = {url.text};
        session_dial_options options = dial_options(s, urls);
        assert_int_equal(
            session_dial(&dialling[s].s, all, &options, &talker_handlers, &dialling[s], &err),
            ST_OK);
    }
    uv_run(&mine, UV_RUN_NOWAIT);
    close_sessions(&mine, all);
    for (scheme s = 0; s < scheme_count(); s++) {
        assert_int_equal(up[s].closeds, 1);
        assert_int_equal(up[s].downs, 1);
        assert_int_equal(dialling[s].closeds, 1);
        assert_int_equal(waiting[s].closeds, 1);
        assert_int_equal(h[s].downs, h[s].ups);
        house_free(&h[s]);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    fail_at_once();
    make_certificates();
    const struct CMUnitTest tests[] = {
        TEST(test_hello_is_welcomed_and_envelopes_flow),
        TEST(test_the_largest_hello_and_the_largest_message_pass),
        TEST(test_wanted_liveness_is_agreed_within_reason),
        TEST(test_each_mistake_is_answered_in_words_and_closed),
        TEST(test_an_announced_frame_over_the_limit_is_answered_and_closed),
        TEST(test_a_refusal_that_cannot_be_mended_ends_the_dialling),
        TEST(test_a_full_router_says_when_to_come_back),
        TEST(test_urls_are_tried_in_turn),
        TEST(test_bad_options_start_nothing),
        TEST(test_an_acceptor_says_goodbye_and_the_dialler_comes_back),
        TEST(test_a_submit_that_breaks_a_limit_reaches_its_reader_as_refused),
        TEST(test_every_callback_may_close_its_session),
        TEST(test_closing_the_hub_ends_every_session_in_every_phase),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nng_fini(); /* so that a leak checker sees what it had left to free */
    return failed;
}
