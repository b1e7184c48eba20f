/* Every scheme carries the same answers: a router, a worker and libgaggle on tls+tcp (both ends
 * with certificates), ws, wss and ipc give the ids that they give on tcp, and where cables are cut
 * while answers run, nothing is lost on tls+tcp and ws either. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/e2e/answers.h"

enum { ANSWERS = 6, TOKENS = 64 };

static answer on_tcp[ANSWERS];

static void run_on(const char *scheme, answer *answers)
{
    cluster c;
    cluster_start(&c, &(cluster_options){.scheme = scheme, .workers = 1, .model = bundled_model()});
    gaggle_client *client = cluster_client(&c);
    run_alone(client, answers, ANSWERS, TOKENS);
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

static int answer_on_tcp(void **state)
{
    (void)state;
    run_on("tcp", on_tcp);
    return 0;
}

static int forget_answers(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ANSWERS; i++)
        answer_free(&on_tcp[i]);
    return 0;
}

static void assert_same_as_on_tcp(const char *scheme)
{
    answer answers[ANSWERS] = {0};
    run_on(scheme, answers);
    for (uint32_t i = 0; i < ANSWERS; i++) {
        assert_answers_equal(&on_tcp[i], &answers[i], i);
        answer_free(&answers[i]);
    }
}

static void test_tls_gives_the_answers_of_tcp(void **state)
{
    (void)state;
    assert_same_as_on_tcp("tls+tcp");
}

static void test_ws_gives_the_answers_of_tcp(void **state)
{
    (void)state;
    assert_same_as_on_tcp("ws");
}

static void test_wss_gives_the_answers_of_tcp(void **state)
{
    (void)state;
    assert_same_as_on_tcp("wss");
}

static void test_ipc_gives_the_answers_of_tcp(void **state)
{
    (void)state;
    assert_same_as_on_tcp("ipc");
}

static void cut_a_cable(cluster *c, uint32_t blow)
{
    tcp_proxy_cut(blow % 2 == 1 ? c->client_cable : c->worker_cables[0]);
}

/* Both links are cut twice, mid-byte, while every answer runs. */
static void assert_cuts_change_nothing(const char *scheme)
{
    cluster c;
    cluster_start(&c, &(cluster_options){.scheme = scheme,
                                         .workers = 1,
                                         .model = bundled_model(),
                                         .router_args = {"--stall-ms", "600000"}});
    assert_answers_survive(&c, 8, 300, &(trouble){4, 20, cut_a_cable});
    assert_true(tcp_proxy_connections(c.client_cable) > 1);
    assert_true(tcp_proxy_connections(c.worker_cables[0]) > 1);
    cluster_stop(&c);
}

static void test_cut_tls_links_change_nothing(void **state)
{
    (void)state;
    assert_cuts_change_nothing("tls+tcp");
}

static void test_cut_ws_links_change_nothing(void **state)
{
    (void)state;
    assert_cuts_change_nothing("ws");
}

/* Whoever may dial is the certificate's matter: without one of the CA there is no link. */
static void test_tls_client_without_certificate_gets_no_link(void **state)
{
    (void)state;
    cluster c;
    cluster_start(&c, &(cluster_options){.scheme = "tls+tcp", .model = bundled_model()});
    gaggle_options options = cluster_client_options(&c);
    options.cert_file = options.key_file = NULL;
    options.offline_ms = 500;
    gaggle_client *client;
    gaggle_stream *stream;
    gaggle_error err;
    assert_int_equal(gaggle_client_create(&client, &options, &err), GAGGLE_OK);
    assert_int_equal(gaggle_submit(&stream, client, &(gaggle_request){.text = "x"}, &err),
                     GAGGLE_OK);
    answer a = {0};
    answer_read(&a, stream, SIZE_MAX);
    assert_int_equal(a.reason, GAGGLE_FINISH_FAILED);
    assert_int_equal(a.code, GAGGLE_UNAVAILABLE);
    answer_free(&a);
    gaggle_stream_close(stream);
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tls_gives_the_answers_of_tcp),
        cmocka_unit_test(test_ws_gives_the_answers_of_tcp),
        cmocka_unit_test(test_wss_gives_the_answers_of_tcp),
        cmocka_unit_test(test_ipc_gives_the_answers_of_tcp),
        cmocka_unit_test(test_cut_tls_links_change_nothing),
        cmocka_unit_test(test_cut_ws_links_change_nothing),
        cmocka_unit_test(test_tls_client_without_certificate_gets_no_link),
    };
    return cmocka_run_group_tests(tests, answer_on_tcp, forget_answers);
}
