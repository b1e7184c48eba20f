/* Goal: what strangers do on a listener's port disturbs no established link, leaks nothing and is
 * bounded. Method: raw sockets that send garbage, absurd lengths, half a hello or nothing, that
 * close at once or with a reset, on all five schemes, while a link exchanges messages; then the
 * deadlines and limits of link.h one by one; then churn, with descriptors counted. */
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <nng/nng.h>

#include "common/limits.h"
#include "link_support.h"

static uv_loop_t loop;
static link_hub *hub;

static int setup(void **state)
{
    (void)state;
    hub = open_hub(&loop);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_hub(&loop, hub);
    return 0;
}

/* -- rude peers ------------------------------------------------------------------------ */

static const uint8_t sp_hello[8] = {0, 'S', 'P', 0, 0, 0x10, 0, 0};
static const uint8_t req_hello[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
static const uint8_t absurd_tcp[16] = {0,    'S',  'P',  0,    0,    0x10, 0,    0,
                                       0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t absurd_ipc[17] = {0,    'S',  'P',  0,    0,    0x10, 0,    0,   1,
                                       0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
static const char half_http[] = "GET /rude HTTP/1.1\r\nUpgr";
static const uint8_t tls_alert[] = {21, 3, 3, 0, 2, 2, 40};

typedef struct rude {
    const void *bytes;
    size_t size;
    bool reset;
} rude;

static const rude manners[] = {
    {"", 0, false},
    {"", 0, true},
    {"\xde\xad\xbe\xef garbage that is no protocol", 30, false},
    {"\xde\xad\xbe\xef garbage that is no protocol", 30, true},
    {sp_hello, 3, false},
    {sp_hello, 3, true},
    {sp_hello, 8, true},
    {req_hello, 8, false},
    {absurd_tcp, sizeof absurd_tcp, false},
    {absurd_ipc, sizeof absurd_ipc, false},
    {http, sizeof http - 1, false},
    {half_http, sizeof half_http - 1, true},
    {tls_alert, sizeof tls_alert, false},
};

static void test_rude_peers_disturb_nobody(void **state)
{
    (void)state;
    for (scheme s = 0; s < scheme_count(); s++) {
        server srv = {.hook = echo};
        server_open(&srv, hub, s, "rude", NULL);
        uint16_t port = link_listener_port(srv.listener);
        end e = {0};
        connect_end(&loop, hub, &e, &srv, s, "rude");
        for (unsigned round = 0; round < 5; round++)
            for (size_t i = 0; i < sizeof manners / sizeof manners[0]; i++) {
                int fd = raw_connect(s, "rude", port);
                raw_write(fd, manners[i].bytes, manners[i].size);
                unsigned expected = e.messages + 1;
                link_send(e.link, (const uint8_t *)"still here", 10);
                assert_true(run_until_at_least(&loop, &e.messages, expected));
                if (manners[i].reset)
                    raw_close_with_reset(fd);
                else
                    close(fd);
            }
        /* A good newcomer is still served. */
        end late = {0};
        connect_end(&loop, hub, &late, &srv, s, "rude");
        assert_int_equal(e.downs, 0);
        link_close(e.link, 0);
        link_close(late.link, 0);
        assert_true(run_until_at_least(&loop, &late.downs, 1));
        link_listener_close(srv.listener);
        assert_true(run_until_at_least(&loop, &srv.downs, srv.ups));
        server_free(&srv);
        end_free(&e);
        end_free(&late);
    }
}

/* -- limits ------------------------------------------------------------------------------- */

typedef struct silence {
    const uint8_t *bytes;
    size_t size;
    bool eof;
    int fd;
} silence;

/* Whether the other side has closed the socket. */
static bool is_closed(void *arg)
{
    silence *q = arg;
    char byte;
    ssize_t n = recv(q->fd, &byte, 1, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) q->eof = true;
    return q->eof;
}

static void test_one_who_connects_and_says_nothing_is_closed_in_time(void **state)
{
    (void)state;
    static const scheme kinds[] = {TCP, TLS, IPC};
    link_limits limits = {.connect_ms = 300};
    for (size_t i = 0; i < 3; i++) {
        server srv = {0};
        server_open(&srv, hub, kinds[i], "mute", &limits);
        silence q = {.fd = raw_connect(kinds[i], "mute", link_listener_port(srv.listener))};
        uint64_t start = uv_now(&loop);
        assert_true(run_until(&loop, is_closed, &q, BUDGET_MS));
        assert_in_range(uv_now(&loop) - start, 200, 8000); /* not the default of 10 s */
        assert_int_equal(srv.ups, 0);
        close(q.fd);
        link_listener_close(srv.listener);
    }
}

/* nng holds these by itself: one that says nothing, one that stops in the middle of its request. A
 * link that came before stays. */
static void test_one_who_never_becomes_a_ws_link_is_closed_in_time(void **state)
{
    (void)state;
    link_limits limits = {.connect_ms = 3000};
    for (scheme s = 0; s < scheme_count(); s++) {
        if (s != WS && s != WSS) continue;
        server srv = {.hook = echo};
        server_open(&srv, hub, s, "mute", &limits);
        end e = {0};
        connect_end(&loop, hub, &e, &srv, s, "mute");
        uint16_t port = link_listener_port(srv.listener);
        silence mute = {.fd = raw_connect(s, "mute", port)};
        silence half = {.fd = raw_connect(s, "mute", port)};
        raw_write(half.fd, half_http, sizeof half_http - 1);
        uint64_t start = uv_now(&loop);
        assert_true(run_until(&loop, is_closed, &mute, BUDGET_MS));
        assert_true(run_until(&loop, is_closed, &half, BUDGET_MS));
        assert_in_range(uv_now(&loop) - start, 1500, 8000); /* not the default of 10 s */
        link_send(e.link, (const uint8_t *)"still there", 11);
        assert_true(run_until_at_least(&loop, &e.messages, 1));
        assert_int_equal(srv.ups, 1);
        close(mute.fd);
        close(half.fd);
        link_close(e.link, 0);
        assert_true(run_until_at_least(&loop, &srv.downs, 1));
        link_listener_close(srv.listener);
        server_free(&srv);
        end_free(&e);
    }
}

static void test_a_dial_that_is_never_answered_ends_in_time(void **state)
{
    (void)state;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in name = {.sin_family = AF_INET};
    socklen_t size = sizeof name;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listening, (struct sockaddr *)&name, size), 0);
    assert_int_equal(listen(listening, 16), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&name, &size), 0);
    link_limits limits = {.connect_ms = 300};
    for (scheme s = 0; s < scheme_count(); s++) {
        if (s == IPC) continue;
        end e = {0};
        error err;
        test_url url = dial_url(s, "", ntohs(name.sin_port));
        assert_int_equal(
            link_dial(&e.link, hub, url.text, client_tls(s), &limits, &end_handlers, &e, &err),
            ST_OK);
        assert_true(run_until_at_least(&loop, &e.downs, 1));
        assert_int_equal(e.why, ST_DEADLINE_EXCEEDED);
    }
    close(listening);
}

/* The refused side is told in words, and what else it sends is swallowed. */
static void test_a_message_over_the_limit_is_refused_with_a_last_word(void **state)
{
    (void)state;
    link_limits limits = {.message_bytes = 1000, .first_message_bytes = 100};
    static uint8_t bytes[100000];
    for (scheme s = 0; s < scheme_count(); s++) {
        server srv = {0};
        server_open(&srv, hub, s, "limit", &limits);
        end e = {0};
        connect_end(&loop, hub, &e, &srv, s, "limit");
        link_send(e.link, bytes, 100);
        assert_true(run_until_at_least(&loop, &srv.ends->messages, 1));
        link_set_message_bytes(srv.ends->link, 1000);
        link_send(e.link, bytes, 1000);
        assert_true(run_until_at_least(&loop, &srv.ends->messages, 2));
        /* Now over it: announced on tcp and ipc; on ws nng itself closes. */
        bool told = s != WS && s != WSS;
        link_send(e.link, bytes, told ? sizeof bytes : 1001);
        link_send(e.link, bytes, 1);
        if (told) {
            assert_true(run_until_at_least(&loop, &e.messages, 1));
            assert_non_null(memmem(e.last.data, e.last.size, "100000", 6));
            assert_int_equal(srv.ends->refusals, 1);
        }
        assert_true(run_until_at_least(&loop, &srv.downs, 1));
        if (told) assert_int_equal(srv.ends->why, ST_INVALID_ARGUMENT);
        assert_int_equal(srv.ends->messages, 2);
        assert_true(run_until_at_least(&loop, &e.downs, 1));
        link_listener_close(srv.listener);
        server_free(&srv);
        end_free(&e);
    }
}

static void test_before_proof_only_the_first_limit_holds(void **state)
{
    (void)state;
    link_limits limits = {.message_bytes = 1000, .first_message_bytes = 100};
    static uint8_t bytes[101];
    for (scheme s = 0; s < scheme_count(); s++) {
        server srv = {0};
        server_open(&srv, hub, s, "first", &limits);
        end e = {0};
        connect_end(&loop, hub, &e, &srv, s, "first");
        link_send(e.link, bytes, sizeof bytes);
        assert_true(run_until_at_least(&loop, &srv.downs, 1));
        assert_int_equal(srv.ends->why, ST_INVALID_ARGUMENT);
        assert_int_equal(srv.ends->refusals, 1);
        assert_int_equal(srv.ends->messages, 0);
        assert_true(run_until_at_least(&loop, &e.messages, 1)); /* on ws as well */
        link_listener_close(srv.listener);
        assert_true(run_until_at_least(&loop, &e.downs, 1));
        server_free(&srv);
        end_free(&e);
    }
}

static void test_strangers_are_counted_and_the_surplus_is_closed(void **state)
{
    (void)state;
    enum { SURPLUS = 20, ALL = LIMIT_UNAUTHENTICATED_LINKS + SURPLUS };
    server srv = {.hook = echo};
    link_limits limits = {.first_message_bytes = 100};
    server_open(&srv, hub, TCP, "count", &limits);
    end known = {0};
    connect_end(&loop, hub, &known, &srv, TCP, "count");
    link_set_message_bytes(srv.ends->link, 1000); /* proven: no stranger */

    int fds[ALL];
    unsigned closed = 0;
    for (int i = 0; i < ALL; i++) {
        fds[i] = raw_connect(TCP, "count", link_listener_port(srv.listener));
        /* Half of them come UP and then say nothing. Wait for those: were all the accepts used up
         * and the kernel's queue full, the next connect() would wait for this very loop. */
        if (i % 2 == 0) raw_write(fds[i], sp_hello, sizeof sp_hello);
        if (i % 2 == 0 && i < (int)LIMIT_UNAUTHENTICATED_LINKS)
            assert_true(run_until_at_least(&loop, &srv.ups, 2 + (unsigned)i / 2));
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    link_send(known.link, (const uint8_t *)"ping", 4);
    assert_true(run_until_at_least(&loop, &known.messages, 1));
    silence last = {.fd = fds[ALL - 1]};
    assert_true(run_until(&loop, is_closed, &last, BUDGET_MS));
    for (int i = 0; i < ALL; i++) {
        silence q = {.fd = fds[i]};
        char byte;
        while (recv(fds[i], &byte, 1, MSG_DONTWAIT) > 0) /* our hello */
            continue;
        if (is_closed(&q)) closed++;
    }
    assert_int_equal(closed, SURPLUS);

    /* When one goes, the next may come. */
    unsigned downs = srv.downs;
    close(fds[0]);
    assert_true(run_until_at_least(&loop, &srv.downs, downs + 1));
    end next = {0};
    connect_end(&loop, hub, &next, &srv, TCP, "count");

    for (int i = 1; i < ALL; i++)
        close(fds[i]);
    link_close(known.link, 0);
    link_close(next.link, 0);
    link_listener_close(srv.listener);
    assert_true(run_until_at_least(&loop, &srv.downs, srv.ups));
    server_free(&srv);
    end_free(&known);
    end_free(&next);
}

/* -- back-pressure ----------------------------------------------------------------------------- */

enum { BATCH = 256 * 1024 };
static uint8_t batch[BATCH];

static void send_batch(end *e)
{
    link_send(e->link, batch, BATCH);
    assert_false(link_is_idle(e->link)); /* call again */
}

static void test_a_peer_that_does_not_read_stops_its_sender_and_nobody_else(void **state)
{
    (void)state;
    server srv = {.idle_hook = send_batch}; /* builds a batch whenever idle, as the router does */
    link_limits limits = {.tx_stall_ms = 3000};
    server_open(&srv, hub, TCP, "slow", &limits);
    uint16_t port = link_listener_port(srv.listener);
    int fd = raw_connect(TCP, "slow", port);
    raw_write(fd, sp_hello, sizeof sp_hello);
    assert_true(run_until_at_least(&loop, &srv.ups, 1));
    end *slow = srv.ends;
    end quick = {0};
    connect_end(&loop, hub, &quick, &srv, TCP, "slow");

    /* The quick one gets its batches while the slow one's sender stands still. */
    unsigned stuck_at = 0;
    for (int i = 0; i < 5; i++) {
        assert_true(run_until_at_least(&loop, &quick.messages, quick.messages + 30));
        assert_true(link_tx_bytes(slow->link) <= BATCH + 8);
        if (i == 1) stuck_at = slow->idles;
        if (i > 1) assert_int_equal(slow->idles, stuck_at);
    }
    assert_true(link_tx_bytes(slow->link) > 0);
    /* In the end the sender loses patience, and only with that one. */
    assert_true(run_until_at_least(&loop, &slow->downs, 1));
    assert_int_equal(slow->why, ST_DEADLINE_EXCEEDED);
    assert_non_null(strstr(slow->text, "took nothing for 3000 ms"));
    assert_int_equal(quick.downs, 0);
    close(fd);
    link_close(quick.link, 0);
    link_listener_close(srv.listener);
    assert_true(run_until_at_least(&loop, &srv.downs, 2));
    server_free(&srv);
    end_free(&quick);
}

static void test_a_reader_that_wakes_up_gets_everything(void **state)
{
    (void)state;
    server srv = {0};
    server_open(&srv, hub, TCP, "wake", NULL);
    int fd = raw_connect(TCP, "wake", link_listener_port(srv.listener));
    raw_write(fd, sp_hello, sizeof sp_hello);
    assert_true(run_until_at_least(&loop, &srv.ups, 1));
    enum { N = 64 };
    for (int i = 0; i < N; i++)
        link_send(srv.ends->link, batch, BATCH);
    run_for(&loop, 50);
    assert_true(link_tx_bytes(srv.ends->link) > 0);
    size_t expected = 8 + N * (size_t)(BATCH + 8), got = 0;
    static uint8_t sink[BATCH];
    while (got < expected) {
        ssize_t n = recv(fd, sink, sizeof sink, MSG_DONTWAIT);
        if (n > 0) got += (size_t)n;
        uv_run(&loop, UV_RUN_NOWAIT);
        assert_int_equal(srv.downs, 0);
    }
    assert_int_equal(got, expected);
    assert_true(link_is_idle(srv.ends->link) || run_until_at_least(&loop, &srv.ends->idles, 2));
    close(fd);
    assert_true(run_until_at_least(&loop, &srv.downs, 1));
    link_listener_close(srv.listener);
    server_free(&srv);
}

/* -- TLS ------------------------------------------------------------------------------------------
 */

static void expect_no_entry(scheme s, const char *url, const link_tls *tls, server *srv,
                            const char *what)
{
    end e = {0};
    error err;
    link_limits limits = {.connect_ms = 2000};
    assert_int_equal(link_dial(&e.link, hub, url, tls, &limits, &end_handlers, &e, &err), ST_OK);
    assert_true(run_until_at_least(&loop, &e.downs, 1));
    if (e.ups > 0) fail_msg("%s came up on %s", what, scheme_names[s]);
    if (e.why == ST_OK) fail_msg("%s on %s: no reason", what, scheme_names[s]);
    assert_int_equal(srv->ups, 0);
}

static void test_tls_lets_nobody_in_without_the_right_certificates(void **state)
{
    (void)state;
    for (scheme s = 0; s < scheme_count(); s++) {
        if (!scheme_has_tls(s)) continue;
        server srv = {0};
        server_open(&srv, hub, s, "tls", NULL);
        uint16_t port = link_listener_port(srv.listener);
        test_url url = dial_url(s, "tls", port);
        expect_no_entry(s, url.text, no_certificate_tls(), &srv, "a client without certificate");
        expect_no_entry(s, url.text, foreign_client_tls(), &srv, "a client of a foreign CA");
        expect_no_entry(s, url.text, wrong_name_tls(), &srv, "a client that wants another server");
        expect_no_entry(s, url.text, wrong_ca_tls(), &srv, "a client that trusts another CA");
        test_url plain = dial_url(s == TLS ? TCP : WS, "tls", port);
        expect_no_entry(s, plain.text, NULL, &srv, "a client without TLS");
        end good = {0};
        connect_end(&loop, hub, &good, &srv, s, "tls");
        link_close(good.link, 0);
        link_listener_close(srv.listener);
        assert_true(run_until_at_least(&loop, &srv.downs, 1));
        server_free(&srv);
        end_free(&good);
    }
}

static void test_a_tls_client_does_not_talk_to_a_plain_listener(void **state)
{
    (void)state;
    server srv = {0};
    server_open(&srv, hub, TCP, "plain", NULL);
    test_url url = dial_url(TLS, "plain", link_listener_port(srv.listener));
    expect_no_entry(TLS, url.text, client_tls(TLS), &srv, "TLS on a plain listener");
    link_listener_close(srv.listener);
}

static void test_an_insecure_client_and_an_open_listener_meet(void **state)
{
    (void)state;
    link_tls open_server = *server_tls(TLS), insecure = {.insecure = true};
    open_server.ca_file = NULL;
    open_server.require_peer = false;
    server srv = {0};
    error err;
    assert_int_equal(link_listen(&srv.listener, hub, "tls+tcp://127.0.0.1:0", &open_server, NULL,
                                 &server_handlers, &srv, &err),
                     ST_OK);
    end e = {0};
    test_url url = dial_url(TLS, "", link_listener_port(srv.listener));
    assert_int_equal(link_dial(&e.link, hub, url.text, &insecure, NULL, &end_handlers, &e, &err),
                     ST_OK);
    assert_true(run_until_at_least(&loop, &e.ups, 1));
    assert_true(run_until_at_least(&loop, &srv.ups, 1));
    link_close(e.link, 0);
    link_listener_close(srv.listener);
    assert_true(run_until_at_least(&loop, &srv.downs, 1));
    server_free(&srv);
    end_free(&e);
}

/* More handshakes than slots, and strangers that hold slots without ever shaking hands. */
static void test_a_storm_of_handshakes_is_worked_off(void **state)
{
    (void)state;
    enum { STORM = 60, SILENT = 20 };
    /* Handshakes at once take as long as all of them. */
    unsigned dials = slowness() > 1 ? 2 : STORM, silent_ones = SILENT / slowness();
    server srv = {.hook = echo};
    server_open(&srv, hub, TLS, "storm", patient_limits());
    uint16_t port = link_listener_port(srv.listener);
    end first = {0};
    connect_end(&loop, hub, &first, &srv, TLS, "storm");
    int silent[SILENT];
    for (unsigned i = 0; i < silent_ones; i++)
        silent[i] = raw_connect(TLS, "storm", port);
    static end storm[STORM];
    error err;
    test_url url = dial_url(TLS, "storm", port);
    for (unsigned i = 0; i < dials; i++)
        assert_int_equal(link_dial(&storm[i].link, hub, url.text, client_tls(TLS), patient_limits(),
                                   &end_handlers, &storm[i], &err),
                         ST_OK);
    assert_true(run_until_at_least(&loop, &srv.ups, 1 + dials));
    for (unsigned i = 0; i < dials; i++) {
        assert_true(run_until_at_least(&loop, &storm[i].ups, 1));
        link_close(storm[i].link, 0);
    }
    link_send(first.link, (const uint8_t *)"x", 1);
    assert_true(run_until_at_least(&loop, &first.messages, 1));
    for (unsigned i = 0; i < silent_ones; i++)
        close(silent[i]);
    link_close(first.link, 0);
    assert_true(run_until_at_least(&loop, &srv.downs, 1 + dials));
    link_listener_close(srv.listener);
    server_free(&srv);
    for (unsigned i = 0; i < dials; i++)
        end_free(&storm[i]);
    end_free(&first);
}

/* -- churn
 * --------------------------------------------------------------------------------------------- */

/* What the program holds now. Nothing under a sanitizer, which looks for leaks itself. */
static size_t allocated_kib(void)
{
    struct mallinfo2 info = mallinfo2();
    return (info.uordblks + info.hblkhd) / 1024;
}

typedef struct baseline {
    unsigned descriptors;
    size_t kib;
} baseline;

static bool back_at_baseline(void *arg)
{
    const baseline *b = arg;
    return open_descriptors() <= b->descriptors && allocated_kib() <= b->kib + 64;
}

/* Up to 16 links at a time are dialled, used and cut at one end or the other in mid-message. */
static void churn(scheme s, unsigned rounds)
{
    enum { N = 16 };
    /* nng gives wss two seconds for the handshakes, which a busy machine needs for a few. */
    unsigned links = slowness() > 1 ? 2 : s == WSS ? 4 : N;
    server srv = {.hook = echo};
    server_open(&srv, hub, s, "churn", patient_limits());
    for (unsigned round = 0; round < rounds; round++) {
        static end e[N];
        memset(e, 0, sizeof e);
        unsigned ups = srv.ups;
        error err;
        test_url url = dial_url(s, "churn", link_listener_port(srv.listener));
        for (unsigned i = 0; i < links; i++)
            assert_int_equal(link_dial(&e[i].link, hub, url.text, client_tls(s), patient_limits(),
                                       &end_handlers, &e[i], &err),
                             ST_OK);
        assert_true(run_until_at_least(&loop, &srv.ups, ups + links));
        for (unsigned i = 0; i < links; i++)
            if (!run_until_at_least(&loop, &e[i].ups, 1))
                fail_msg("%s, round %u: %s", scheme_names[s], round, e[i].text);
        for (unsigned i = 0; i < links; i++)
            link_send(e[i].link, batch, BATCH);
        uv_run(&loop, UV_RUN_ONCE);
        end *theirs = srv.ends;
        for (unsigned i = 0; i < links; i++, theirs = theirs->next) {
            if (i % 2 == 0)
                link_close(e[i].link, 0);
            else if (theirs->link != NULL)
                link_close(theirs->link, 0);
        }
        for (unsigned i = 0; i < links; i++) {
            if (e[i].link != NULL) link_close(e[i].link, 0);
            assert_true(run_until_at_least(&loop, &e[i].downs, 1));
            end_free(&e[i]);
        }
        for (theirs = srv.ends; theirs != NULL; theirs = theirs->next)
            if (theirs->link != NULL) link_close(theirs->link, 0);
        assert_true(run_until_at_least(&loop, &srv.downs, srv.ups));
        server_free(&srv);
    }
    link_listener_close(srv.listener);
}

static void test_churn_leaves_no_descriptor_and_no_memory(void **state)
{
    (void)state;
    for (scheme s = 0; s < scheme_count(); s++) {
        churn(s, 1);
        run_for(&loop, 300); /* nng frees streams on a thread of its own */
        baseline b = {open_descriptors(), allocated_kib()};
        churn(s, 5);
        if (!run_until(&loop, back_at_baseline, &b, 3000))
            fail_msg("%s: %u descriptors and %zu KiB after, %u and %zu before", scheme_names[s],
                     open_descriptors(), allocated_kib(), b.descriptors, b.kib);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    fail_at_once();
    make_certificates();
    const struct CMUnitTest tests[] = {
        TEST(test_rude_peers_disturb_nobody),
        TEST(test_one_who_connects_and_says_nothing_is_closed_in_time),
        TEST(test_one_who_never_becomes_a_ws_link_is_closed_in_time),
        TEST(test_a_dial_that_is_never_answered_ends_in_time),
        TEST(test_a_message_over_the_limit_is_refused_with_a_last_word),
        TEST(test_before_proof_only_the_first_limit_holds),
        TEST(test_strangers_are_counted_and_the_surplus_is_closed),
        TEST(test_a_peer_that_does_not_read_stops_its_sender_and_nobody_else),
        TEST(test_a_reader_that_wakes_up_gets_everything),
        TEST(test_tls_lets_nobody_in_without_the_right_certificates),
        TEST(test_a_tls_client_does_not_talk_to_a_plain_listener),
        TEST(test_an_insecure_client_and_an_open_listener_meet),
        TEST(test_a_storm_of_handshakes_is_worked_off),
        TEST(test_churn_leaves_no_descriptor_and_no_memory),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nng_fini();
    return failed;
}
