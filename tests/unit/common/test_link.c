/* Goal: a link carries messages whole, in order and of every size on all five schemes, ordinary nng
 * PAIR0 sockets are its peers, and its life (up, idle, lingering, down) goes as link.h says.
 * Method: a hub with listeners and diallers in one loop; a PAIR0 socket on a thread of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/supplemental/tls/tls.h>

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

static const size_t sizes[] = {
    0,
    1,
    LIMIT_LINK_READ_BYTES - 9,
    LIMIT_LINK_READ_BYTES - 8,
    LIMIT_LINK_READ_BYTES - 1,
    LIMIT_LINK_READ_BYTES,
    LIMIT_LINK_READ_BYTES + 1,
    3 * LIMIT_MIB + 7,
    LIMIT_MESSAGE_BYTES,
};
enum { SIZE_COUNT = sizeof sizes / sizeof sizes[0] };

/* Byte i of message m: every message and every shift of one differs. */
static void fill(uint8_t *bytes, size_t size, unsigned m)
{
    uint32_t x = 0x9e3779b9u * (m + 1);
    for (size_t i = 0; i < size; i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(x >> 24);
    }
}

static uint8_t *pattern; /* room for the largest */

/* Checks that the nth message back is the nth that was sent. */
static void check_pattern(end *e, const uint8_t *bytes, size_t size)
{
    unsigned m = e->messages - 1;
    assert_int_equal(size, sizes[m]);
    fill(pattern, size, m);
    assert_memory_equal(bytes, pattern, size);
}

static void test_messages_of_every_size_come_back_whole_and_in_order(void **state)
{
    (void)state;
    pattern = mem_alloc(LIMIT_MESSAGE_BYTES);
    for (scheme s = 0; s < scheme_count(); s++) {
        server srv = {.hook = echo};
        server_open(&srv, hub, s, "sizes", NULL);
        end e = {.hook = check_pattern};
        connect_end(&loop, hub, &e, &srv, s, "sizes");
        /* All at once: frames of all sizes share reads and writes. */
        for (unsigned m = 0; m < SIZE_COUNT; m++) {
            fill(pattern, sizes[m], m);
            link_send(e.link, pattern, sizes[m]);
        }
        assert_true(run_until_at_least(&loop, &e.messages, SIZE_COUNT));
        assert_int_equal(link_tx_bytes(e.link), 0);
        assert_true(link_rx_total(e.link) > LIMIT_MESSAGE_BYTES);
        assert_true(link_rx_total(srv.ends->link) > LIMIT_MESSAGE_BYTES);

        link_close(e.link, 0);
        assert_true(run_until_at_least(&loop, &e.downs, 1));
        assert_int_equal(e.why, ST_OK);
        assert_true(run_until_at_least(&loop, &srv.downs, 1));
        assert_int_equal(srv.ends->why, ST_UNAVAILABLE);
        link_listener_close(srv.listener);
        server_free(&srv);
        end_free(&e);
    }
    mem_free(pattern);
}

/* -- an ordinary nng socket on a thread of its own ------------------------------------ */

typedef struct pair_peer {
    pthread_t thread;
    test_url url;
    const link_tls *tls;
    unsigned echoed; /* read after the join */
    int rv;
    atomic_bool may_go;
} pair_peer;

static char *slurp(const char *path)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char *text = mem_calloc(1, 16384);
    size_t got = fread(text, 1, 16383, f);
    assert_true(got > 0);
    fclose(f);
    return text;
}

static nng_tls_config *pair_tls(const link_tls *tls)
{
    nng_tls_config *config;
    char *cert = slurp(tls->cert_file);
    char *key = slurp(tls->key_file);
    nng_tls_config_alloc(&config, NNG_TLS_MODE_CLIENT);
    nng_tls_config_ca_file(config, tls->ca_file);
    nng_tls_config_own_cert(config, cert, key, NULL);
    nng_tls_config_server_name(config, tls->server_name);
    mem_free(cert);
    mem_free(key);
    return config;
}

/* Echo until the peer closes or nothing comes for a while. */
static void *pair_main(void *arg)
{
    pair_peer *p = arg;
    nng_socket socket;
    nng_dialer dialer;
    nng_pair0_open(&socket);
    nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, LIMIT_MESSAGE_BYTES);
    nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, BUDGET_MS);
    p->rv = nng_dialer_create(&dialer, socket, p->url.text);
    if (p->tls != NULL) {
        nng_tls_config *config = pair_tls(p->tls);
        nng_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG, config);
        nng_tls_config_free(config);
    }
    if (p->rv == 0) p->rv = nng_dialer_start(dialer, 0);
    nng_msg *message;
    while (p->rv == 0 && p->echoed < SIZE_COUNT) {
        p->rv = nng_recvmsg(socket, &message, 0);
        if (p->rv != 0) break;
        p->rv = nng_sendmsg(socket, message, 0);
        if (p->rv != 0) nng_msg_free(message);
        if (p->rv == 0) p->echoed++;
    }
    /* A PAIR0 socket that closes drops what it has queued: stay until told. */
    nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, 20);
    while (p->rv == 0 && !atomic_load(&p->may_go))
        if (nng_recvmsg(socket, &message, 0) == 0) nng_msg_free(message);
    nng_close(socket);
    return NULL;
}

static void test_an_ordinary_pair0_socket_is_a_peer(void **state)
{
    (void)state;
    pattern = mem_alloc(LIMIT_MESSAGE_BYTES);
    for (scheme s = 0; s < scheme_count(); s++) {
        server srv = {.hook = check_pattern};
        server_open(&srv, hub, s, "pair", NULL);
        pair_peer p = {.url = dial_url(s, "pair", link_listener_port(srv.listener)),
                       .tls = client_tls(s)};
        assert_int_equal(pthread_create(&p.thread, NULL, pair_main, &p), 0);
        assert_true(run_until_at_least(&loop, &srv.ups, 1));
        end *e = srv.ends;
        for (unsigned m = 0; m < SIZE_COUNT; m++) {
            fill(pattern, sizes[m], m);
            link_send(e->link, pattern, sizes[m]);
        }
        if (!run_until_at_least(&loop, &e->messages, SIZE_COUNT))
            fail_msg("%s: %u messages came back; ups %u, down: %s; waiting %zu", scheme_names[s],
                     e->messages, srv.ups, e->text, e->link != NULL ? link_tx_bytes(e->link) : 0);
        link_listener_close(srv.listener); /* first: the socket would dial again */
        link_close(e->link, 0);
        assert_true(run_until_at_least(&loop, &srv.downs, 1));
        atomic_store(&p.may_go, true);
        pthread_join(p.thread, NULL);
        assert_int_equal(p.rv, 0);
        assert_int_equal(p.echoed, SIZE_COUNT);
        server_free(&srv);
    }
    mem_free(pattern);
}

/* The same the other way round: our dialler, an nng PAIR0 listener. */
static void test_a_pair0_listener_can_be_dialled(void **state)
{
    (void)state;
    nng_socket socket;
    nng_listener listener;
    nng_pair0_open(&socket);
    nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, BUDGET_MS);
    assert_int_equal(nng_listen(socket, "tcp://127.0.0.1:0", &listener, 0), 0);
    int port = 0;
    nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port);

    end e = {0};
    error err;
    test_url url = dial_url(TCP, "", (uint16_t)port);
    assert_int_equal(link_dial(&e.link, hub, url.text, NULL, NULL, &end_handlers, &e, &err), ST_OK);
    assert_true(run_until_at_least(&loop, &e.ups, 1));
    assert_int_equal(nng_send(socket, "to us", 5, 0), 0);
    assert_true(run_until_at_least(&loop, &e.messages, 1));
    assert_memory_equal(e.last.data, "to us", 5);
    link_send(e.link, (const uint8_t *)"to you", 6);
    assert_false(link_is_idle(e.link));
    assert_true(run_until_at_least(&loop, &e.idles, 2));
    char got[16];
    size_t size = sizeof got;
    assert_int_equal(nng_recv(socket, got, &size, 0), 0);
    assert_int_equal(size, 6);
    nng_close(socket);
    assert_true(run_until_at_least(&loop, &e.downs, 1));
    end_free(&e);
}

/* -- callbacks -------------------------------------------------------------------------- */

static void test_idle_comes_once_after_up_and_once_after_each_burst(void **state)
{
    (void)state;
    for (scheme s = 0; s < scheme_count(); s++) {
        server srv = {0};
        server_open(&srv, hub, s, "idle", NULL);
        end e = {0};
        connect_end(&loop, hub, &e, &srv, s, "idle");
        assert_true(run_until_at_least(&loop, &e.idles, 1));
        assert_int_equal(e.idles, 1);
        for (int i = 0; i < 100; i++)
            link_send(e.link, (const uint8_t *)"abc", 3);
        assert_false(link_is_idle(e.link));
        assert_true(run_until_at_least(&loop, &srv.ends->messages, 100));
        assert_true(run_until_at_least(&loop, &e.idles, 2));
        run_for(&loop, 20);
        assert_int_equal(e.idles, 2);
        link_close(e.link, 0);
        assert_true(run_until_at_least(&loop, &srv.downs, 1));
        link_listener_close(srv.listener);
        server_free(&srv);
        end_free(&e);
    }
}

static void close_self(end *e, const uint8_t *bytes, size_t size)
{
    (void)bytes, (void)size;
    link_peer *l = e->link;
    link_send(l, (const uint8_t *)"never", 5);
    link_close(l, 0);
    link_close(l, 100);
    link_send(l, (const uint8_t *)"dropped", 7);
    assert_int_equal(e->downs, 0); /* not from within link_close() */
    assert_false(link_is_idle(l));
}

static void test_a_callback_may_close_its_own_link(void **state)
{
    (void)state;
    for (scheme s = 0; s < scheme_count(); s++) {
        server srv = {.hook = close_self};
        server_open(&srv, hub, s, "self", NULL);
        end e = {0};
        connect_end(&loop, hub, &e, &srv, s, "self");
        for (int i = 0; i < 10; i++)
            link_send(e.link, (const uint8_t *)"x", 1);
        assert_true(run_until_at_least(&loop, &srv.downs, 1));
        assert_int_equal(srv.ends->messages, 1); /* the other nine came too late */
        assert_int_equal(srv.ends->why, ST_OK);
        assert_true(run_until_at_least(&loop, &e.downs, 1));
        assert_int_equal(e.why, ST_UNAVAILABLE);
        link_listener_close(srv.listener);
        server_free(&srv);
        end_free(&e);
    }
}

static void close_other(end *e, const uint8_t *bytes, size_t size)
{
    (void)bytes, (void)size;
    server *srv = e->hook_arg;
    for (end *other = srv->ends; other != NULL; other = other->next)
        if (other->link != NULL) link_close(other->link, 0);
}

static void test_a_callback_may_close_every_other_link(void **state)
{
    (void)state;
    enum { N = 16 };
    for (scheme s = 0; s < scheme_count(); s++) {
        server srv = {.hook = close_other};
        srv.hook_arg = &srv;
        server_open(&srv, hub, s, "others", NULL);
        end e[N] = {0};
        for (int i = 0; i < N; i++)
            connect_end(&loop, hub, &e[i], &srv, s, "others");
        for (int i = 0; i < N; i++)
            link_send(e[i].link, (const uint8_t *)"x", 1);
        assert_true(run_until_at_least(&loop, &srv.downs, N));
        for (int i = 0; i < N; i++) {
            assert_true(run_until_at_least(&loop, &e[i].downs, 1));
            end_free(&e[i]);
        }
        unsigned messages = 0;
        for (end *one = srv.ends; one != NULL; one = one->next)
            messages += one->messages;
        assert_int_equal(messages, 1);
        link_listener_close(srv.listener);
        server_free(&srv);
    }
}

static void *close_on_up(void *ctx, link_peer *l)
{
    link_close(l, 0);
    return ctx;
}

static void test_closing_while_coming_up_tells_down_once(void **state)
{
    (void)state;
    for (scheme s = 0; s < scheme_count(); s++) {
        server srv = {0};
        server_open(&srv, hub, s, "early", NULL);
        link_handlers handlers = end_handlers;
        handlers.on_up = close_on_up;
        end e = {0};
        error err;
        test_url url = dial_url(s, "early", link_listener_port(srv.listener));
        assert_int_equal(
            link_dial(&e.link, hub, url.text, client_tls(s), NULL, &handlers, &e, &err), ST_OK);
        assert_true(run_until_at_least(&loop, &e.downs, 1));
        assert_int_equal(e.why, ST_OK);

        /* And closing at once, in every stage of dialling. */
        for (unsigned turns = 0; turns < 12; turns++) {
            end early = {0};
            assert_int_equal(link_dial(&early.link, hub, url.text, client_tls(s), NULL,
                                       &end_handlers, &early, &err),
                             ST_OK);
            for (unsigned i = 0; i < turns; i++)
                uv_run(&loop, UV_RUN_NOWAIT);
            link_close(early.link, 0);
            assert_int_equal(early.downs, 0);
            assert_true(run_until_at_least(&loop, &early.downs, 1));
            assert_int_equal(early.why, ST_OK);
        }
        link_listener_close(srv.listener);
        if (!run_until_at_least(&loop, &srv.downs, srv.ups))
            fail_msg("%s: %u of %u went down", scheme_names[s], srv.downs, srv.ups);
        server_free(&srv);
    }
}

/* -- lingering ------------------------------------------------------------------------------ */

static void say_and_close(end *e, const uint8_t *bytes, size_t size)
{
    (void)bytes, (void)size;
    static uint8_t large[LIMIT_MIB];
    link_send(e->link, large, sizeof large);
    link_send(e->link, (const uint8_t *)"goodbye", 7);
    link_close(e->link, BUDGET_MS);
}

static void close_on_goodbye(end *e, const uint8_t *bytes, size_t size)
{
    if (size == 7 && memcmp(bytes, "goodbye", 7) == 0) link_close(e->link, 0);
}

static void test_a_lingering_link_delivers_its_last_word(void **state)
{
    (void)state;
    for (scheme s = 0; s < scheme_count(); s++) {
        server srv = {.hook = say_and_close};
        server_open(&srv, hub, s, "linger", NULL);
        end e = {.hook = close_on_goodbye};
        connect_end(&loop, hub, &e, &srv, s, "linger");
        uint64_t start = uv_now(&loop);
        /* More than one, so that unread bytes wait at the closing side. */
        for (int i = 0; i < 1000; i++)
            link_send(e.link, (const uint8_t *)"hello", 5);
        assert_true(run_until_at_least(&loop, &e.downs, 1));
        assert_int_equal(e.messages, 2);
        assert_int_equal(e.last.size, 7);
        assert_true(run_until_at_least(&loop, &srv.downs, 1));
        assert_int_equal(srv.ends->why, ST_OK);
        assert_int_equal(srv.ends->messages, 1);
        /* It ended because the peer closed, not because the time was up. TLS on a dead peer needs
         * its timers; a closed one it sees. */
        assert_true(uv_now(&loop) - start < BUDGET_MS / 2);
        link_listener_close(srv.listener);
        server_free(&srv);
        end_free(&e);
    }
}

static void linger_briefly(end *e, const uint8_t *bytes, size_t size)
{
    (void)bytes, (void)size;
    link_close(e->link, 200);
}

static void test_lingering_ends_although_the_peer_stays(void **state)
{
    (void)state;
    server srv = {.hook = linger_briefly};
    server_open(&srv, hub, TCP, "stay", NULL);
    int fd = raw_connect(TCP, "stay", link_listener_port(srv.listener));
    static const uint8_t bytes[] = {0, 'S', 'P', 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 'x'};
    raw_write(fd, bytes, sizeof bytes);
    assert_true(run_until_at_least(&loop, &srv.ups, 1));
    uint64_t start = uv_now(&loop);
    assert_true(run_until_at_least(&loop, &srv.downs, 1));
    assert_in_range(uv_now(&loop) - start, 100, 5000);
    close(fd);
    link_listener_close(srv.listener);
    server_free(&srv);
}

/* -- URLs and addresses --------------------------------------------------------------------- */

static void expect_listen(const char *url, const link_tls *tls, status expected, const char *word)
{
    server srv = {0};
    error err = {0};
    status st = link_listen(&srv.listener, hub, url, tls, NULL, &server_handlers, &srv, &err);
    if (st != expected) fail_msg("%s: %s, %s", url, status_name(st), err.text);
    if (strstr(err.text, word) == NULL) fail_msg("\"%s\" lacks \"%s\"", err.text, word);
}

static void expect_dial(const char *url, const link_tls *tls, status expected, const char *word)
{
    end e = {0};
    error err = {0};
    status st = link_dial(&e.link, hub, url, tls, NULL, &end_handlers, &e, &err);
    if (st != expected) fail_msg("%s: %s, %s", url, status_name(st), err.text);
    if (strstr(err.text, word) == NULL) fail_msg("\"%s\" lacks \"%s\"", err.text, word);
    error checked = {0};
    assert_int_equal(link_dial_check(url, tls, &checked), expected);
    assert_string_equal(checked.text, err.text);
}

static void test_bad_urls_and_files_are_refused_in_words(void **state)
{
    (void)state;
    expect_dial("127.0.0.1:80", NULL, ST_INVALID_ARGUMENT, "no URL");
    expect_dial("http://127.0.0.1", NULL, ST_INVALID_ARGUMENT, "not http");
    expect_dial("inproc://x", NULL, ST_INVALID_ARGUMENT, "not inproc");
    expect_dial("tls+tcp://127.0.0.1:1", NULL, ST_INVALID_ARGUMENT, "CA");
    expect_dial("ipc://", NULL, ST_INVALID_ARGUMENT, "no path");
    expect_dial("tcp://127.0.0.1", NULL, ST_INVALID_ARGUMENT, "no port");
    expect_dial("tcp://:1", NULL, ST_INVALID_ARGUMENT, "no host");
    expect_listen("tcp://127.0.0.1", NULL, ST_INVALID_ARGUMENT, "no port");
    expect_listen("tcp://192.0.2.1:0", NULL, ST_INVALID_ARGUMENT, "192.0.2.1"); /* not ours */
    expect_listen("tls+tcp://127.0.0.1:0", NULL, ST_INVALID_ARGUMENT, "certificate");
    expect_listen("tcp://127.0.0.1:0", server_tls(TLS), ST_INVALID_ARGUMENT, "not be encrypted");

    link_tls tls = *client_tls(TLS);
    tls.key_file = NULL;
    expect_dial("wss://127.0.0.1:1/", &tls, ST_INVALID_ARGUMENT, "key");
    tls.key_file = "/nonexistent/key.pem";
    expect_dial("wss://127.0.0.1:1/", &tls, ST_INVALID_ARGUMENT, "/nonexistent/key.pem");
    tls.key_file = server_tls(TLS)->cert_file;
    expect_dial("tls+tcp://127.0.0.1:1", &tls, ST_INVALID_ARGUMENT, "PEM certificate and its");
    tls = *client_tls(TLS);
    tls.ca_file = tls.key_file;
    expect_dial("tls+tcp://127.0.0.1:1", &tls, ST_INVALID_ARGUMENT, "CA file");
    tls.ca_file = "/dev/zero";
    expect_dial("tls+tcp://127.0.0.1:1", &tls, ST_INVALID_ARGUMENT, "larger than");
    tls = *server_tls(TLS);
    tls.ca_file = NULL;
    expect_listen("tls+tcp://127.0.0.1:0", &tls, ST_INVALID_ARGUMENT, "CA");

    char path[200];
    memset(path, 'a', sizeof path);
    memcpy(path, "ipc:///tmp/", 11);
    path[6 + 107] = 0; /* "ipc://" and 107 bytes: the longest that fits */
    assert_int_equal(link_dial_check(path, NULL, NULL), ST_OK);
    path[6 + 107] = 'a';
    path[6 + 108] = 0;
    expect_dial(path, NULL, ST_INVALID_ARGUMENT, "allows 107");
    expect_listen(path, NULL, ST_INVALID_ARGUMENT, "allows 107");
}

static void test_an_address_in_use_is_refused(void **state)
{
    (void)state;
    for (scheme s = 0; s < scheme_count(); s++) {
        server srv = {.hook = echo};
        server_open(&srv, hub, s, "used", NULL);
        test_url url = dial_url(s, "used", link_listener_port(srv.listener));
        expect_listen(url.text, server_tls(s), ST_ALREADY_EXISTS, url.text);
        end e = {0};
        connect_end(&loop, hub, &e, &srv, s, "used"); /* the first one goes on serving */
        link_close(e.link, 0);
        assert_true(run_until_at_least(&loop, &e.downs, 1));
        link_listener_close(srv.listener);
        assert_true(run_until_at_least(&loop, &srv.downs, 1));
        server_free(&srv);
        end_free(&e);
    }
}

static void test_a_stale_socket_file_is_replaced_and_another_file_is_not(void **state)
{
    (void)state;
    /* A socket that was bound and whose process died: the file stays, nobody listens. */
    server srv = {.hook = echo};
    test_url url = listen_url(IPC, "stale");
    const char *path = url.text + 6;
    unlink(path);
    uv_pipe_t dead;
    uv_loop_t other;
    uv_loop_init(&other);
    uv_pipe_init(&other, &dead, 0);
    assert_int_equal(uv_pipe_bind(&dead, path), 0);
    char moved[300];
    snprintf(moved, sizeof moved, "%s.moved", path);
    assert_int_equal(rename(path, moved), 0); /* uv removes the name that it knows */
    uv_close((uv_handle_t *)&dead, NULL);
    uv_run(&other, UV_RUN_DEFAULT);
    uv_loop_close(&other);
    assert_int_equal(rename(moved, path), 0);

    server_open(&srv, hub, IPC, "stale", NULL);
    end e = {0};
    connect_end(&loop, hub, &e, &srv, IPC, "stale");
    link_close(e.link, 0);
    link_listener_close(srv.listener);
    assert_true(run_until_at_least(&loop, &srv.downs, 1));
    assert_int_not_equal(access(path, F_OK), 0); /* removed with the listener */
    server_free(&srv);
    end_free(&e);

    FILE *precious = fopen(path, "w");
    assert_non_null(precious);
    fclose(precious);
    expect_listen(url.text, NULL, ST_ALREADY_EXISTS, "not a socket");
    assert_int_equal(unlink(path), 0);
}

static void test_dialling_nobody_fails_in_words(void **state)
{
    (void)state;
    for (scheme s = 0; s < scheme_count(); s++) {
        end e = {0};
        error err;
        test_url url = dial_url(s, "nobody", 1); /* nothing listens on port 1 */
        assert_int_equal(
            link_dial(&e.link, hub, url.text, client_tls(s), NULL, &end_handlers, &e, &err), ST_OK);
        assert_true(run_until_at_least(&loop, &e.downs, 1));
        assert_int_equal(e.ups, 0);
        assert_int_equal(e.why, ST_UNAVAILABLE);
        assert_non_null(strstr(e.text, "connecting: "));
    }
}

/* -- the end of everything ------------------------------------------------------------------------
 */

static void test_closing_the_hub_in_the_middle_of_everything_tells_each_link_once(void **state)
{
    (void)state;
    uv_loop_t mine;
    link_hub *all = open_hub(&mine);
    server srv[SCHEME_COUNT];
    end up[SCHEME_COUNT], dialling[SCHEME_COUNT], lingering[SCHEME_COUNT];
    memset(srv, 0, sizeof srv);
    memset(up, 0, sizeof up);
    memset(dialling, 0, sizeof dialling);
    memset(lingering, 0, sizeof lingering);
    static uint8_t large[4 * LIMIT_MIB];
    error err;
    for (scheme s = 0; s < scheme_count(); s++) {
        srv[s].hook = echo;
        server_open(&srv[s], all, s, "all", NULL);
        connect_end(&mine, all, &up[s], &srv[s], s, "all");
        connect_end(&mine, all, &lingering[s], &srv[s], s, "all");
        link_send(up[s].link, large, sizeof large); /* in flight */
        link_send(lingering[s].link, large, sizeof large);
        link_close(lingering[s].link, 50);
        test_url url = dial_url(s, "all", link_listener_port(srv[s].listener));
        assert_int_equal(link_dial(&dialling[s].link, all, url.text, client_tls(s), NULL,
                                   &end_handlers, &dialling[s], &err),
                         ST_OK);
    }
    uv_run(&mine, UV_RUN_NOWAIT);
    close_hub(&mine, all);
    for (scheme s = 0; s < scheme_count(); s++) {
        assert_int_equal(up[s].downs, 1);
        assert_int_equal(dialling[s].downs, 1);
        assert_int_equal(lingering[s].downs, 1);
        assert_int_equal(srv[s].downs, srv[s].ups);
        end_free(&up[s]);
        end_free(&dialling[s]);
        end_free(&lingering[s]);
        server_free(&srv[s]);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    fail_at_once();
    make_certificates();
    const struct CMUnitTest tests[] = {
        TEST(test_messages_of_every_size_come_back_whole_and_in_order),
        TEST(test_an_ordinary_pair0_socket_is_a_peer),
        TEST(test_a_pair0_listener_can_be_dialled),
        TEST(test_idle_comes_once_after_up_and_once_after_each_burst),
        TEST(test_a_callback_may_close_its_own_link),
        TEST(test_a_callback_may_close_every_other_link),
        TEST(test_closing_while_coming_up_tells_down_once),
        TEST(test_a_lingering_link_delivers_its_last_word),
        TEST(test_lingering_ends_although_the_peer_stays),
        TEST(test_bad_urls_and_files_are_refused_in_words),
        TEST(test_an_address_in_use_is_refused),
        TEST(test_a_stale_socket_file_is_replaced_and_another_file_is_not),
        TEST(test_dialling_nobody_fails_in_words),
        TEST(test_closing_the_hub_in_the_middle_of_everything_tells_each_link_once),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nng_fini();
    return failed;
}
