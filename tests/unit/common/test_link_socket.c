/* Goal: what link_socket does beyond the byte stream that test_link tries on every scheme: names
 * with several addresses, names without any, wildcard listeners, and descriptors that run out.
 * Method: dials of localhost, whose first address need not be the one that is listened on; and an
 * RLIMIT_NOFILE below what waits to be accepted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include <nng/nng.h>

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

static void listen_at(server *srv, const char *url)
{
    error err;
    if (link_listen(&srv->listener, hub, url, NULL, NULL, &server_handlers, srv, &err) != ST_OK)
        fail_msg("%s", err.text);
    assert_int_not_equal(link_listener_port(srv->listener), 0);
}

static void dial(end *e, const char *format, uint16_t port)
{
    char url[64];
    snprintf(url, sizeof url, format, port);
    error err;
    if (link_dial(&e->link, hub, url, NULL, NULL, &end_handlers, e, &err) != ST_OK)
        fail_msg("%s", err.text);
}

static void expect_meeting(const char *listen_url, const char *dial_format)
{
    server srv = {.hook = echo};
    listen_at(&srv, listen_url);
    end e = {0};
    dial(&e, dial_format, link_listener_port(srv.listener));
    if (!run_until_at_least(&loop, &e.ups, 1)) fail_msg("%s: %s", dial_format, e.text);
    link_send(e.link, (const uint8_t *)"there", 5);
    assert_true(run_until_at_least(&loop, &e.messages, 1));
    assert_memory_equal(e.last.data, "there", 5);
    link_close(e.link, 0);
    assert_true(run_until_at_least(&loop, &srv.downs, 1));
    link_listener_close(srv.listener);
    server_free(&srv);
    end_free(&e);
}

/* Where localhost is ::1 first, the second address is the right one. */
static void test_every_address_of_a_name_is_tried(void **state)
{
    (void)state;
    expect_meeting("tcp://127.0.0.1:0", "tcp://localhost:%u");
    expect_meeting("tcp4://localhost:0", "tcp4://localhost:%u");
}

static void test_wildcards_listen_everywhere(void **state)
{
    (void)state;
    expect_meeting("tcp://*:0", "tcp://127.0.0.1:%u");
    expect_meeting("tcp4://:0", "tcp://127.0.0.1:%u");
    expect_meeting("tcp://0.0.0.0:0", "tcp://localhost:%u");
}

static void test_a_name_without_an_address_fails_in_words(void **state)
{
    (void)state;
    end e = {0};
    dial(&e, "tcp://no..body:%u", 1);
    assert_true(run_until_at_least(&loop, &e.downs, 1));
    assert_int_equal(e.ups, 0);
    assert_int_equal(e.why, ST_UNAVAILABLE);
    assert_ptr_equal(strstr(e.text, "connecting: "), e.text);
    end_free(&e);
}

static void test_a_dial_may_be_given_up_while_its_name_is_looked_up(void **state)
{
    (void)state;
    end e = {0};
    dial(&e, "tcp://localhost:%u", 1);
    link_close(e.link, 0);
    assert_int_equal(e.downs, 0); /* not from within link_close() */
    assert_true(run_until_at_least(&loop, &e.downs, 1));
    assert_int_equal(e.why, ST_OK);
    end_free(&e);
}

static unsigned turns;

static void count_turn(uv_prepare_t *prepare)
{
    (void)prepare;
    turns++;
}

/* They wait in the kernel's queue; the listener neither spins nor gives up. */
static void test_who_comes_while_descriptors_are_out_is_accepted_later(void **state)
{
    (void)state;
    enum { CALLERS = 5 };
    static const uint8_t hello[8] = {0, 'S', 'P', 0, 0, 0x10, 0, 0};
    server srv = {0};
    listen_at(&srv, "tcp://127.0.0.1:0");
    int fds[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        fds[i] = raw_connect(TCP, "", link_listener_port(srv.listener));
        raw_write(fds[i], hello, sizeof hello);
    }
    struct rlimit usual, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
    none = usual;
    none.rlim_cur = 3; /* less than is open: no new one */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    uv_prepare_t prepare;
    uv_prepare_init(&loop, &prepare);
    uv_prepare_start(&prepare, count_turn);
    turns = 0;
    run_for(&loop, 500);
    unsigned refused = turns;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
    assert_int_equal(srv.ups, 0);
    assert_true(refused < 500);
    assert_true(run_until_at_least(&loop, &srv.ups, CALLERS));
    uv_close((uv_handle_t *)&prepare, NULL);
    for (int i = 0; i < CALLERS; i++)
        close(fds[i]);
    assert_true(run_until_at_least(&loop, &srv.downs, CALLERS));
    link_listener_close(srv.listener);
    server_free(&srv);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    fail_at_once();
    const struct CMUnitTest tests[] = {
        TEST(test_every_address_of_a_name_is_tried),
        TEST(test_wildcards_listen_everywhere),
        TEST(test_a_name_without_an_address_fails_in_words),
        TEST(test_a_dial_may_be_given_up_while_its_name_is_looked_up),
        TEST(test_who_comes_while_descriptors_are_out_is_accepted_later),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nng_fini();
    return failed;
}
