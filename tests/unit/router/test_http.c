/* Goal: whoever asks rightly gets the page, and whoever asks wrongly, slowly, too much or not at
 * all gets a clear answer or nothing, and costs the router little.
 * Method: heads given to the parser whole and byte by byte; and a server on a loop, with plain
 * sockets that are looked at between turns of the loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "router/http.h"
#include "router/page.h"

/* -- the parser -------------------------------------------------------------------------------- */

#define GET "GET /x HTTP/1.1\r\n"
#define END "Host: h\r\n\r\n"

static int parse(const char *text, http_request *out)
{
    const char *why = NULL;
    int code = http_request_parse(text, strlen(text), out, &why);
    assert_true((code == 0 || code == 200) == (why == NULL));
    return code;
}

static void test_a_request_is_read(void **state)
{
    (void)state;
    static const char head[] = "GET /metrics?a=b&c HTTP/1.1\r\nhOsT: example:80\r\n"
                               "Authorization:  bearer  secret \r\nAccept: */*\r\nX:\r\n\r\nnext";
    http_request r;
    assert_int_equal(parse(head, &r), 200);
    assert_true(text_equal(r.method, text_of("GET")));
    assert_true(text_equal(r.path, text_of("/metrics")));
    assert_true(text_equal(r.query, text_of("a=b&c")));
    assert_true(text_equal(r.bearer, text_of("secret")));
    assert_true(r.keep_alive);
    assert_int_equal(r.size, strlen(head) - 4);
    assert_int_equal(parse("HEAD / HTTP/1.0\r\n\r\n", &r), 200);
    assert_true(text_equal(r.path, text_of("/")) && r.query.size == 0 && r.bearer.size == 0);
    assert_false(r.keep_alive);
    assert_int_equal(parse(GET "Connection: x, Close\r\n" END, &r), 200);
    assert_false(r.keep_alive);
    assert_int_equal(parse(GET "Content-Length: 0\r\n" END, &r), 200);
}

static void test_every_beginning_of_a_request_waits_for_the_rest(void **state)
{
    (void)state;
    static const char head[] = GET "Accept: a\r\nAuthorization: Bearer t\r\n" END;
    http_request r;
    const char *why;
    for (size_t size = 0; size < sizeof head - 1; size++)
        assert_int_equal(http_request_parse(head, size, &r, &why), 0);
    assert_int_equal(http_request_parse(head, sizeof head - 1, &r, &why), 200);
}

static void test_what_can_be_read_in_two_ways_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        int code;
    } cases[] = {
        {"\r\n" GET END, 400},
        {"GET /x HTTP/1.1\nHost: h\n\n", 400},
        {GET "Host: h\n\r\n", 400},
        {"GET  /x HTTP/1.1\r\n" END, 400},
        {"GET /x  HTTP/1.1\r\n" END, 400},
        {"GET /x\r\n" END, 400},
        {" GET /x HTTP/1.1\r\n" END, 400},
        {"G:T /x HTTP/1.1\r\n" END, 400},
        {"GET x HTTP/1.1\r\n" END, 400},
        {"GET http://h/x HTTP/1.1\r\n" END, 400},
        {"GET * HTTP/1.1\r\n" END, 400},
        {"GET /\x7f HTTP/1.1\r\n" END, 400},
        {"GET /\xc3\xa9 HTTP/1.1\r\n" END, 400},
        {"GET /x#y HTTP/1.1\r\n" END, 400},
        {"GET /x HTTP/1.1 \r\n" END, 400},
        {"GET /x http/1.1\r\n" END, 400},
        {"GET /x HTTP/2.0\r\n" END, 505},
        {"GET /x HTTP/1.2\r\n" END, 505},
        {GET "\r\n", 400},
        {GET "Host: a\r\nHost: b\r\n\r\n", 400},
        {GET "Host : h\r\n\r\n", 400},
        {GET "Host\r\n\r\n", 400},
        {GET ": h\r\n" END, 400},
        {GET "A b: h\r\n" END, 400},
        {GET "A: b\r\n c\r\n" END, 400},
        {GET " A: b\r\n" END, 400},
        {GET "A: b\rc\r\n" END, 400},
        {GET "A: \x01\r\n" END, 400},
        {GET "Content-Length: 5\r\n" END, 413},
        {GET "Transfer-Encoding: chunked\r\n" END, 413},
        {GET "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n" END, 400},
        {GET "Content-Length: 0\r\nContent-Length: 0\r\n" END, 400},
        {GET "Content-Length: +5\r\n" END, 400},
        {GET "Content-Length: 5, 5\r\n" END, 400},
        {GET "Content-Length:\r\n" END, 400},
        {GET "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n" END, 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        http_request r;
        int code = parse(cases[i].head, &r);
        if (code != cases[i].code) fail_msg("%d for: %s", code, cases[i].head);
    }
    http_request r;
    const char *why;
    static const char nul[] = GET "A: b\0c\r\n" END;
    assert_int_equal(http_request_parse(nul, sizeof nul - 1, &r, &why), 400);
}

static void test_a_head_without_end_is_refused_at_its_limit(void **state)
{
    (void)state;
    static char head[LIMIT_HTTP_HEAD_BYTES + 64];
    http_request r;
    const char *why;
    memset(head, 'a', sizeof head);
    assert_int_equal(http_request_parse(head, LIMIT_HTTP_HEAD_BYTES - 1, &r, &why), 0);
    assert_int_equal(http_request_parse(head, LIMIT_HTTP_HEAD_BYTES, &r, &why), 431);
    size_t size = (size_t)snprintf(head, sizeof head, GET "A: ");
    memset(head + size, 'b', sizeof head - size);
    memcpy(head + LIMIT_HTTP_HEAD_BYTES - 11, "\r\n" END, 13);
    assert_int_equal(http_request_parse(head, LIMIT_HTTP_HEAD_BYTES + 2, &r, &why), 431);
    memcpy(head + LIMIT_HTTP_HEAD_BYTES - 13, "\r\n" END, 13);
    assert_int_equal(http_request_parse(head, LIMIT_HTTP_HEAD_BYTES, &r, &why), 200);

    buffer many = {0};
    page_text(&many, GET);
    for (int i = 0; i < 70; i++)
        page_text(&many, "A: b\r\n");
    page_text(&many, END);
    assert_int_equal(http_request_parse((const char *)many.data, many.size, &r, &why), 431);
    buffer_free(&many);
}

/* -- the server ----------------------------------------------------------------------------------
 */

static uv_loop_t loop;
static http_server *server;
static unsigned handled;
static http_body *large;

static void handle(void *ctx, const http_request *request, http_answer *answer)
{
    assert_ptr_equal(ctx, &server);
    handled++;
    if (text_equal(request->path, text_of("/large"))) {
        *answer = (http_answer){200, "text/plain", NULL, http_body_take(large)};
    } else if (text_equal(request->path, text_of("/page"))) {
        *answer = (http_answer){200, "text/plain", NULL, http_body_create()};
        page_text(&answer->body->bytes, "the page");
    } else {
        *answer = http_refusal(404, "no \"such\" page");
    }
}

static int setup(void **state)
{
    (void)state;
    error err = {0};
    handled = 0;
    large = http_body_create();
    assert_int_equal(uv_loop_init(&loop), 0);
    status st = http_listen(&server, &loop, "http://127.0.0.1:0", handle, &server, &err);
    if (st != ST_OK) fail_msg("%s", err.text);
    return 0;
}

/* Whatever is open is closed with it, and the loop ends. */
static int teardown(void **state)
{
    (void)state;
    http_close(server);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(large->taken, 1);
    http_body_release(large);
    return 0;
}

static int dial(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(http_port(server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void say(int fd, const char *bytes, size_t size)
{
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* One turn of the loop, which waits a little for something to happen. */
static void turn(void)
{
    struct pollfd backend = {.fd = uv_backend_fd(&loop), .events = POLLIN};
    poll(&backend, 1, 5);
    uv_run(&loop, UV_RUN_NOWAIT);
}

/* All that comes until the server closes or, with `size` > 0, until so much is there. False: it was
 * reset, or nothing more came for `wait_ms`. */
static bool hear(int fd, buffer *out, size_t size, uint64_t wait_ms)
{
    char bytes[65536];
    for (uint64_t until = clock_now_ms() + wait_ms; clock_now_ms() < until;) {
        ssize_t got = recv(fd, bytes, sizeof bytes, 0);
        if (got == 0) return true;
        if (got < 0 && errno != EAGAIN) return false;
        if (got > 0) {
            buffer_append(out, bytes, (size_t)got);
            until = clock_now_ms() + wait_ms;
        }
        if (size > 0 && out->size >= size) return true;
        turn();
    }
    return false;
}

/* Ask on a connection of its own; all that is said until it is closed. Free it. */
static char *ask(const char *request, size_t size)
{
    int fd = dial();
    buffer answer = {0};
    say(fd, request, size);
    if (!hear(fd, &answer, 0, 5000)) fail_msg("the connection was not closed");
    close(fd);
    buffer_append(&answer, "", 1);
    return (char *)answer.data;
}

static void expect(const char *request, const char *first_line, const char *part)
{
    char *answer = ask(request, strlen(request));
    if (strncmp(answer, first_line, strlen(first_line)) != 0 || strstr(answer, part) == NULL)
        fail_msg("expected %s and '%s', found: %s", first_line, part, answer);
    mem_free(answer);
}

#define CLOSE "Host: h\r\nConnection: close\r\n\r\n"

static void test_pages_and_refusals_are_answered(void **state)
{
    (void)state;
    expect("GET /page HTTP/1.1\r\n" CLOSE, "HTTP/1.1 200 OK\r\n", "\r\n\r\nthe page");
    expect("GET /page HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "Connection: close\r\n");
    expect("GET /none HTTP/1.1\r\n" CLOSE, "HTTP/1.1 404 Not Found\r\n",
           "{\"error\": \"no \\\"such\\\" page\"}");
    expect("POST /page HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 405 Method Not Allowed\r\n",
           "Allow: GET, HEAD\r\n");
    expect("nonsense\r\n", "HTTP/1.1 400 Bad Request\r\n", "{\"error\": ");
    char *head = ask("HEAD /page HTTP/1.1\r\n" CLOSE, strlen("HEAD /page HTTP/1.1\r\n" CLOSE));
    assert_non_null(strstr(head, "Content-Length: 8\r\n"));
    assert_null(strstr(head, "the page"));
    mem_free(head);
}

/* To close with its bytes unread would reset the connection, and the answer with it. */
static void test_a_refusal_is_heard_although_a_body_follows(void **state)
{
    (void)state;
    buffer request = {0};
    page_text(&request, "POST /page HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n");
    for (int i = 0; i < 2000; i++)
        page_text(&request, "0123456789");
    char *answer = ask((const char *)request.data, request.size);
    assert_non_null(strstr(answer, "HTTP/1.1 413 "));
    mem_free(answer);
    buffer_free(&request);
    assert_int_equal(handled, 0);
}

static void test_requests_behind_each_other_are_answered_in_order(void **state)
{
    (void)state;
    static const char requests[] = "GET /page HTTP/1.1\r\nHost: h\r\n\r\n"
                                   "GET /none HTTP/1.1\r\nHost: h\r\n\r\n"
                                   "GET /page HTTP/1.1\r\n" CLOSE;
    char *answer = ask(requests, sizeof requests - 1);
    char *second = strstr(answer, "404 Not Found");
    assert_non_null(second);
    assert_true(strstr(answer, "the page") < second);
    assert_non_null(strstr(second, "the page"));
    assert_int_equal(handled, 3);
    mem_free(answer);
}

static void test_a_request_that_comes_byte_by_byte_is_answered(void **state)
{
    (void)state;
    static const char request[] = "GET /page HTTP/1.1\r\n" CLOSE;
    int fd = dial();
    for (size_t i = 0; i < sizeof request - 1; i++) {
        say(fd, request + i, 1);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    buffer answer = {0};
    assert_true(hear(fd, &answer, 0, 5000));
    assert_non_null(memmem(answer.data, answer.size, "the page", 8));
    buffer_free(&answer);
    close(fd);
}

static void test_a_page_is_held_once_however_many_take_it_slowly(void **state)
{
    (void)state;
    enum { READERS = 10, SIZE = 8 << 20 };
    static const char request[] = "GET /large HTTP/1.1\r\n" CLOSE;
    buffer_reserve(&large->bytes, SIZE);
    memset(large->bytes.data, 'x', SIZE);
    large->bytes.size = SIZE;
    int fd[READERS];
    for (int i = 0; i < READERS; i++) {
        fd[i] = dial();
        say(fd[i], request, sizeof request - 1);
    }
    while (handled < READERS)
        turn();
    assert_int_equal(large->taken, 1 + READERS);
    close(fd[0]); /* one goes away in the middle */
    buffer answer = {0};
    assert_true(hear(fd[1], &answer, 0, 5000)); /* one takes all of it */
    assert_true(answer.size > SIZE && answer.data[answer.size - 1] == 'x');
    while (large->taken > READERS - 1)
        turn();
    buffer_free(&answer);
    for (int i = 1; i < READERS; i++) /* the others find it closed by teardown */
        close(fd[i]);
}

static void test_strangers_on_all_connections_keep_no_probe_out(void **state)
{
    (void)state;
    int fd[LIMIT_HTTP_CONNECTIONS];
    for (uint32_t i = 0; i < LIMIT_HTTP_CONNECTIONS; i++) {
        fd[i] = dial();
        turn();
    }
    char byte;
    assert_true(recv(fd[0], &byte, 1, 0) < 0 && errno == EAGAIN);
    expect("GET /page HTTP/1.1\r\n" CLOSE, "HTTP/1.1 200 OK\r\n", "the page");
    assert_int_equal(recv(fd[0], &byte, 1, 0), 0); /* the first of them made room */
    for (uint32_t i = 1; i < LIMIT_HTTP_CONNECTIONS; i++)
        assert_true(recv(fd[i], &byte, 1, 0) < 0 && errno == EAGAIN);
    for (uint32_t i = 0; i < LIMIT_HTTP_CONNECTIONS; i++)
        close(fd[i]);
}

/* Who says nothing, and who never comes to an end. */
static void test_who_is_not_done_in_ten_seconds_is_closed(void **state)
{
    (void)state;
    int silent = dial(), slow = dial();
    turn();
    uint64_t start_ms = clock_now_ms(), said_ms = 0;
    bool silent_open = true, slow_open = true;
    while (silent_open || slow_open) {
        char byte;
        if (slow_open && clock_now_ms() - said_ms >= 500) {
            said_ms = clock_now_ms();
            slow_open = send(slow, "G", 1, MSG_NOSIGNAL) == 1;
        }
        turn();
        if (recv(slow, &byte, 1, 0) == 0) slow_open = false;
        if (recv(silent, &byte, 1, 0) == 0) silent_open = false;
        assert_true(clock_now_ms() - start_ms < 2 * LIMIT_HTTP_MS);
    }
    assert_in_range(clock_now_ms() - start_ms, LIMIT_HTTP_MS - 500, LIMIT_HTTP_MS + 2000);
    close(silent);
    close(slow);
}

static void test_an_address_that_is_none_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"127.0.0.1:80",         "http://",
                                      "http://127.0.0.1",     "http://127.0.0.1:99999",
                                      "https://127.0.0.1:80", "http://127.0.0.1:80/x",
                                      "http://example:80",    "http://::1:80",
                                      "http://127.0.0.1:80x", "http://300.0.0.1:80"};
    http_server *none;
    error err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(http_listen(&none, &loop, bad[i], handle, NULL, &err),
                         ST_INVALID_ARGUMENT);
    char taken[64];
    snprintf(taken, sizeof taken, "http://127.0.0.1:%u", http_port(server));
    assert_int_equal(http_listen(&none, &loop, taken, handle, NULL, &err), ST_ALREADY_EXISTS);
}

int main(void)
{
#define WITH_SERVER(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_request_is_read),
        cmocka_unit_test(test_every_beginning_of_a_request_waits_for_the_rest),
        cmocka_unit_test(test_what_can_be_read_in_two_ways_is_refused),
        cmocka_unit_test(test_a_head_without_end_is_refused_at_its_limit),
        WITH_SERVER(test_pages_and_refusals_are_answered),
        WITH_SERVER(test_a_refusal_is_heard_although_a_body_follows),
        WITH_SERVER(test_requests_behind_each_other_are_answered_in_order),
        WITH_SERVER(test_a_request_that_comes_byte_by_byte_is_answered),
        WITH_SERVER(test_a_page_is_held_once_however_many_take_it_slowly),
        WITH_SERVER(test_strangers_on_all_connections_keep_no_probe_out),
        WITH_SERVER(test_who_is_not_done_in_ten_seconds_is_closed),
        WITH_SERVER(test_an_address_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
