/* Goal: `gaggle doctor` says what is wrong between this machine and a router, by each scheme, and
 * nothing where nothing is.
 * Method: the program against real routers and a worker: up, down, with the wrong token, at the
 * wrong door, with certificates that are over, of strangers and for other names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/make_certificate.h"
#include "common/check.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/e2e/certificates.h"
#include "tests/e2e/cluster.h"

enum { URL_SIZE = 96 };

#define ARGS(...)                                                                                  \
    ((const char *const[]){"doctor", "--json", "--port", a_free_port(), __VA_ARGS__, NULL})

/* Others may hold the usual ones. */
static const char *a_free_port(void)
{
    static char text[8];
    snprintf(text, sizeof text, "%u", free_port());
    return text;
}

/* Everything it found, as JSON; the exit status follows from it. */
static json_t *examine(const char *const *args)
{
    process p;
    int code;
    json_t *found;
    error err;
    process_start(&p, "gaggle", args, false);
    char *output = process_output(&p, &code);
    if (json_parse(&found, output, strlen(output), "output", &err) != ST_OK)
        fail_msg("%s: %s", err.text, output);
    mem_free(output);
    assert_int_equal(code, json_is_true(json_object_get(found, "ok")) ? 0 : 1);
    return found;
}

static const char *text_in(const json_t *finding, const char *key)
{
    const char *text = json_string_value(json_object_get(finding, key));
    return text != NULL ? text : "";
}

/* Is there one of this level that says `text` and advises `advice`? */
static void assert_found(json_t *found, const char *check, const char *level, const char *text,
                         const char *advice)
{
    size_t i;
    json_t *one;
    bool there = false;
    json_array_foreach(json_object_get(found, "findings"), i, one)
    {
        there |= strcmp(text_in(one, "check"), check) == 0 &&
                 strcmp(text_in(one, "level"), level) == 0 &&
                 strstr(text_in(one, "text"), text) != NULL &&
                 strstr(text_in(one, "advice"), advice) != NULL;
    }
    if (!there) {
        char *all = json_dumps(found, JSON_INDENT(1));
        fail_msg("no %s of %s: '%s' -> '%s' in %s", level, check, text, advice, all);
    }
    json_decref(found);
}

static void test_a_fleet_that_serves_is_well(void **state)
{
    (void)state;
    static const char *const schemes[] = {"tcp", "tls+tcp", "ws", "wss", "ipc"};
    const certificates *pem = certificates_made();
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        cluster c;
        cluster_start(
            &c, &(cluster_options){.scheme = schemes[i], .workers = 1, .model = bundled_model()});
        json_t *found =
            examine(ARGS("--router", c.client_url, "--tls-ca", pem->ca_file, "--tls-cert",
                         pem->dialler_cert, "--tls-key", pem->dialler_key, "-m", bundled_model()));
        assert_true(json_is_true(json_object_get(found, "ok")));
        json_incref(found);
        assert_found(found, "model", "ok", "of weights, readable", "");
        assert_found(found, "router", "ok", "1 of 1 workers ready: gosling", "");
        cluster_stop(&c);
    }
}

/* A router that has two locks; `scheme` and the certificate are the clients' door's. */
typedef struct door {
    process router;
    char clients[URL_SIZE], workers[URL_SIZE];
} door;

static void door_open(door *d, const char *scheme, const char *cert, const char *key)
{
    snprintf(d->clients, URL_SIZE, "%s://127.0.0.1:%u", scheme, free_port());
    snprintf(d->workers, URL_SIZE, "tcp://127.0.0.1:%u", free_port());
    const char *const args[] = {"--listen",
                                d->clients,
                                "--worker-listen",
                                d->workers,
                                "--api-token",
                                "a-token-of-clients",
                                "--join-token",
                                "a-token-of-workers",
                                cert != NULL ? "--tls-cert" : NULL,
                                cert,
                                "--tls-key",
                                key,
                                NULL};
    process_start(&d->router, "gaggle-router", args, true);
}

static void test_who_may_not_come_in_is_told_why(void **state)
{
    (void)state;
    door d;
    door_open(&d, "tcp", NULL, NULL);
    assert_found(examine(ARGS("--router", d.clients)), "router", "FAIL", "a token is required",
                 "gaggle token new");
    assert_found(examine(ARGS("--router", d.clients, "--token", "not-this-one-at-all")), "router",
                 "FAIL", "the token is not valid", "keys file");
    assert_found(examine(ARGS("--router", d.workers, "--token", "a-token-of-clients")), "router",
                 "FAIL", "this address is for workers", "--role");
    assert_found(
        examine(ARGS("--router", d.workers, "--token", "a-token-of-workers", "--role", "worker")),
        "router", "ok", "admits us as a worker", "");
    /* It has no worker, which is worth a word and no failure. */
    json_t *found = examine(ARGS("--router", d.clients, "--token", "a-token-of-clients"));
    assert_true(json_is_true(json_object_get(found, "ok")));
    assert_found(found, "router", "warn", "0 of 0 workers", "gaggle-worker");
    assert_int_equal(process_stop(&d.router, SIGTERM), 0);

    assert_found(examine(ARGS("--router", d.clients)), "router", "FAIL", "nobody listens there",
                 "start gaggle-router");
}

static void test_the_wrong_scheme_is_told(void **state)
{
    (void)state;
    const certificates *pem = certificates_made();
    char url[2 * URL_SIZE];
    door d;
    door_open(&d, "tcp", NULL, NULL);
    snprintf(url, sizeof url, "tls+%s", d.clients);
    assert_found(examine(ARGS("--router", url, "--tls-ca", pem->ca_file)), "router", "FAIL",
                 "the TLS handshake fails", "tcp://");
    assert_found(examine(ARGS("--router", url)), "router", "FAIL", "needs the CA", "--tls-ca");
    snprintf(url, sizeof url, "ws%s", strchr(d.clients, ':'));
    assert_found(examine(ARGS("--router", url)), "router", "FAIL", "speaks no HTTP", "tcp://");
    snprintf(url, sizeof url, "ipc://%s/nothing.sock", getenv("GAGGLE_TEST_TMP"));
    assert_found(examine(ARGS("--router", url)), "router", "FAIL", "No such file",
                 "start gaggle-router");
    assert_found(examine(ARGS("--router", "http://localhost")), "router", "FAIL",
                 "the scheme must be", "tls+tcp://");
    assert_int_equal(process_stop(&d.router, SIGTERM), 0);

    door_open(&d, "ws", NULL, NULL);
    snprintf(url, sizeof url, "%s/elsewhere", d.clients);
    assert_found(examine(ARGS("--router", url)), "router", "FAIL", "HTTP 404", "its own path");
    assert_int_equal(process_stop(&d.router, SIGTERM), 0);
}

static void write_file(const char *name, const buffer *bytes)
{
    FILE *file = fopen(name, "wb");
    CHECK(file != NULL && fwrite(bytes->data, 1, bytes->size, file) == bytes->size &&
          fclose(file) == 0);
}

enum { DAY_S = 86400 };

/* NAME-ca.pem and, by it for `host`, NAME.pem and NAME.key, all made `ago_s` ago for 30 days. */
static void make_certificates(const char *name, const char *host, int64_t ago_s)
{
    const certificate_wish ca_wish = {CERTIFICATE_CA, "a CA", NULL, 0, 1000};
    const certificate_wish wish = {CERTIFICATE_ROUTER, name, &host, 1, 30};
    const int64_t then_s = (int64_t)time(NULL) - ago_s;
    certificate_pem ca, router;
    char path[64];
    CHECK(certificate_make(&ca, &ca_wish, NULL, then_s, NULL) == ST_OK &&
          certificate_make(&router, &wish, &ca, then_s, NULL) == ST_OK);
    snprintf(path, sizeof path, "%s-ca.pem", name);
    write_file(path, &ca.cert);
    snprintf(path, sizeof path, "%s.pem", name);
    write_file(path, &router.cert);
    snprintf(path, sizeof path, "%s.key", name);
    write_file(path, &router.key);
    certificate_pem_free(&ca);
    certificate_pem_free(&router);
}

static void test_certificates_that_do_not_do_are_told(void **state)
{
    (void)state;
    const char *strangers_ca = certificates_made()->ca_file;
    door d;
    const char *scratch = getenv("GAGGLE_TEST_TMP");
    CHECK(scratch != NULL && chdir(scratch) == 0);
    make_certificates("over", "127.0.0.1", 31 * DAY_S);
    door_open(&d, "tls+tcp", "over.pem", "over.key");
    assert_found(examine(ARGS("--router", d.clients, "--tls-ca", "over-ca.pem")), "router tls",
                 "FAIL", "'over' expired on", "gaggle certs router");
    assert_int_equal(process_stop(&d.router, SIGTERM), 0);

    make_certificates("early", "127.0.0.1", -2 * DAY_S);
    door_open(&d, "tls+tcp", "early.pem", "early.key");
    assert_found(examine(ARGS("--router", d.clients, "--tls-insecure")), "router tls", "FAIL",
                 "'early' begins to be valid on", "clock");
    assert_int_equal(process_stop(&d.router, SIGTERM), 0);

    make_certificates("soon", "router.example", 25 * DAY_S);
    door_open(&d, "wss", "soon.pem", "soon.key");
    assert_found(examine(ARGS("--router", d.clients, "--tls-ca", "soon-ca.pem", "--token",
                              "a-token-of-clients")),
                 "router", "FAIL", "its certificate is for router.example", "--tls-server-name");
    assert_found(examine(ARGS("--router", d.clients, "--tls-ca", strangers_ca)), "router", "FAIL",
                 "not signed by the CA", "ca.pem");
    assert_found(
        examine(ARGS("--router", d.clients, "--tls-insecure", "--token", "a-token-of-clients")),
        "router tls", "warn", "'soon' expires on", "gaggle certs router");
    json_t *found =
        examine(ARGS("--router", d.clients, "--tls-ca", "soon-ca.pem", "--tls-server-name",
                     "router.example", "--token", "a-token-of-clients"));
    assert_true(json_is_true(json_object_get(found, "ok")));
    json_decref(found);
    assert_int_equal(process_stop(&d.router, SIGTERM), 0);
}

/* Who listens and answers everybody with the same, or not at all. */
typedef struct stand_in {
    int fd;
    const char *answer; /* NULL: none */
    pthread_t thread;
    char url[2 * URL_SIZE];
} stand_in;

static void *answer_all(void *ctx)
{
    const stand_in *s = ctx;
    int fd;
    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        char request[4096];
        if (read(fd, request, sizeof request) > 0)
            CHECK(write(fd, s->answer, strlen(s->answer)) > 0);
        shutdown(fd, SHUT_WR);
        while (read(fd, request, sizeof request) > 0)
            continue;
        close(fd);
    }
    return NULL;
}

static void stand_in_start(stand_in *s, const char *scheme, const char *answer)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof any;
    s->answer = answer;
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(s->fd >= 0 && bind(s->fd, (struct sockaddr *)&any, sizeof any) == 0 &&
          listen(s->fd, 8) == 0 && getsockname(s->fd, (struct sockaddr *)&any, &size) == 0);
    snprintf(s->url, sizeof s->url, "%s://127.0.0.1:%u", scheme, ntohs(any.sin_port));
    if (answer != NULL) CHECK(pthread_create(&s->thread, NULL, answer_all, s) == 0);
}

static void stand_in_stop(stand_in *s)
{
    shutdown(s->fd, SHUT_RDWR);
    if (s->answer != NULL) pthread_join(s->thread, NULL);
    close(s->fd);
}

static void test_a_proxy_without_its_router_and_another_clock_are_told(void **state)
{
    (void)state;
    stand_in s;
    stand_in_start(&s, "ws",
                   "HTTP/1.1 502 Bad Gateway\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                   "Content-Length: 0\r\nConnection: close\r\n\r\n");
    json_t *found = examine(ARGS("--router", s.url));
    json_incref(found);
    assert_found(found, "clock", "warn", "s ahead of what ws://", "set the clock");
    assert_found(found, "router", "FAIL", "HTTP 502", "the proxy is there and its router is not");
    stand_in_stop(&s);
}

static void test_who_says_nothing_is_told(void **state)
{
    (void)state;
    stand_in s;
    stand_in_start(&s, "wss", NULL); /* the kernel takes the connection, and nobody reads */
    assert_found(examine(ARGS("--router", s.url, "--tls-insecure", "--offline-ms", "300")),
                 "router", "FAIL", "no answer within 300 ms", "firewall");
    stand_in_stop(&s);
    stand_in_start(&s, "tcp", NULL);
    assert_found(examine(ARGS("--router", s.url, "--offline-ms", "300")), "router", "FAIL",
                 "it did not answer within 300 ms", "scheme and port");
    stand_in_stop(&s);
    assert_found(examine(ARGS("--router", "tcp://no.such.name.invalid:7400")), "router", "FAIL",
                 "the name no.such.name.invalid is not known", "getent hosts");
}

static void test_a_model_that_is_not_there_is_told(void **state)
{
    (void)state;
    assert_found(examine(ARGS("-m", "/nowhere/at/all")), "model", "FAIL", "/nowhere/at/all",
                 "Hugging Face folder");
    assert_found(examine(ARGS("-m", "nobody/has-this")), "model", "FAIL", "nobody/has-this",
                 "gaggle pull nobody/has-this");
}

static void test_lines_are_for_people_and_slips_are_refused(void **state)
{
    (void)state;
    process p;
    int code;
    process_start(&p, "gaggle", (const char *[]){"doctor", "--router", "tcp://127.0.0.1:1", NULL},
                  false);
    char *output = process_output(&p, &code);
    assert_int_equal(code, 1);
    assert_non_null(
        strstr(output, "FAIL  router      tcp://127.0.0.1:1: nobody listens there -> "));
    mem_free(output);
    process_start(&p, "gaggle", (const char *[]){"doctor", "--port", "74O0", NULL}, false);
    mem_free(process_output(&p, &code));
    assert_int_equal(code, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_fleet_that_serves_is_well),
        cmocka_unit_test(test_who_may_not_come_in_is_told_why),
        cmocka_unit_test(test_the_wrong_scheme_is_told),
        cmocka_unit_test(test_certificates_that_do_not_do_are_told),
        cmocka_unit_test(test_a_proxy_without_its_router_and_another_clock_are_told),
        cmocka_unit_test(test_who_says_nothing_is_told),
        cmocka_unit_test(test_a_model_that_is_not_there_is_told),
        cmocka_unit_test(test_lines_are_for_people_and_slips_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
