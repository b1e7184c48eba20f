/* Goal: a client with a thread of its own serves readers on other threads: they wait, time out, are
 * slow, cancel and close; and whoever does not read stops the source.
 * Method: the fake router runs on a thread of its own; readers are this thread or several. To be
 * run under TSan, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "client/gaggle.h"
#include "fake_service.h"

static gaggle_client *connect_to(fake_service *s)
{
    const char *url = s->url;
    gaggle_client *client;
    gaggle_error err;
    if (gaggle_client_create(&client, &(gaggle_options){.urls = &url, .url_count = 1}, &err) !=
        GAGGLE_OK)
        fail_msg("%s", err.text);
    return client;
}

static gaggle_stream *ask(gaggle_client *client, uint32_t window)
{
    gaggle_stream *stream;
    gaggle_error err;
    gaggle_request request = {.text = "Once", .window = window};
    if (gaggle_submit(&stream, client, &request, &err) != GAGGLE_OK) fail_msg("%s", err.text);
    return stream;
}

/* Read to the end; true when every token was right. For threads: no assertions here. */
static bool read_all(gaggle_stream *stream, uint32_t tokens)
{
    gaggle_event e;
    uint32_t next = 0;
    for (;;) {
        if (gaggle_stream_next(stream, -1, &e) != GAGGLE_OK) return false;
        if (e.type == GAGGLE_FINISH) break;
        size_t at = 0;
        for (uint32_t i = 0; i < e.count; i++, next++) {
            char text[16];
            uint32_t size = fake_text(next, text);
            if (e.first_index + i != next || e.ids[i] != fake_token(next)) return false;
            if (e.text_len[i] != size || memcmp(e.text + at, text, size) != 0) return false;
            at += size;
        }
    }
    return e.reason == GAGGLE_FINISH_STOP && next == tokens && e.total_tokens == tokens &&
           gaggle_stream_next(stream, -1, &e) == GAGGLE_NOT_FOUND;
}

/* -- tests --------------------------------------------------------------------------------- */

static void test_reader_gets_the_whole_answer(void **state)
{
    (void)state;
    static fake_service s;
    fake_service_start(&s, &(fake_plan){.tokens = 3000, .group = 50});
    gaggle_client *client = connect_to(&s);
    gaggle_stream *stream = ask(client, 0);
    char id[33];
    gaggle_stream_id(stream, id);
    assert_int_equal(strlen(id), 32);
    assert_true(read_all(stream, 3000));
    gaggle_stream_close(stream);
    gaggle_client_destroy(client);
    fake_service_stop(&s);
}

static void test_waiting_ends_when_it_should(void **state)
{
    (void)state;
    static fake_service s;
    fake_service_start(&s, &(fake_plan){.silent = true});
    gaggle_client *client = connect_to(&s);
    gaggle_stream *stream = ask(client, 0);
    gaggle_event e;
    assert_int_equal(gaggle_stream_next(stream, 0, &e), GAGGLE_DEADLINE_EXCEEDED);
    assert_int_equal(gaggle_stream_next(stream, 30, &e), GAGGLE_DEADLINE_EXCEEDED);
    gaggle_cancel(stream);
    assert_int_equal(gaggle_stream_next(stream, -1, &e), GAGGLE_OK);
    assert_int_equal(e.type, GAGGLE_FINISH);
    assert_int_equal(e.reason, GAGGLE_FINISH_CANCELLED);
    gaggle_stream_close(stream);
    gaggle_client_destroy(client);
    fake_service_stop(&s);
}

/* A query's answer comes behind everything that was sent before it, so after one that was asked
 * when the window was full, any excess would have been counted. */
static void test_reader_who_waits_stops_the_source(void **state)
{
    (void)state;
    enum { WINDOW = 64 };
    static fake_service s;
    fake_service_start(&s, &(fake_plan){.tokens = 1000, .group = 8});
    gaggle_client *client = connect_to(&s);
    gaggle_stream *stream = ask(client, WINDOW);
    do {
        fake_service_call(&s, fake_call_counts);
    } while (s.counts.sent_max < WINDOW);
    gaggle_report *report;
    assert_int_equal(gaggle_query_wait(&report, client, 10000, NULL), GAGGLE_OK);
    assert_string_equal(report->workers[0].models[0].name, "fake-model");
    gaggle_report_free(report);
    fake_service_call(&s, fake_call_counts);
    assert_int_equal(s.counts.sent_max, WINDOW);

    /* Nor does a new link, where all that came is acknowledged, let it run away. */
    for (int i = 0; i < 5; i++) {
        fake_service_call(&s, fake_call_cut);
        assert_int_equal(gaggle_query_wait(&report, client, 10000, NULL), GAGGLE_OK);
        gaggle_report_free(report);
    }
    assert_true(read_all(stream, 1000));
    gaggle_stream_close(stream);
    gaggle_client_destroy(client);
    fake_service_stop(&s);
}

typedef struct crowd {
    fake_service *service;
    gaggle_client *client;
    bool right;
} crowd;

enum { CROWD_THREADS = 4, CROWD_ROUNDS = 3, CROWD_STREAMS = 5, CROWD_TOKENS = 120 };

static void *crowd_main(void *arg)
{
    crowd *c = arg;
    c->right = true;
    for (int round = 0; round < CROWD_ROUNDS; round++) {
        gaggle_stream *streams[CROWD_STREAMS];
        gaggle_request request = {.text = "Once", .window = 32};
        for (size_t i = 0; i < CROWD_STREAMS; i++)
            if (gaggle_submit(&streams[i], c->client, &request, NULL) != GAGGLE_OK) return NULL;
        gaggle_cancel(streams[CROWD_STREAMS - 1]);
        for (size_t i = 0; i < CROWD_STREAMS; i++) {
            /* One is cancelled and one is closed unread. */
            if (i < CROWD_STREAMS - 2) c->right = c->right && read_all(streams[i], CROWD_TOKENS);
            gaggle_stream_close(streams[i]);
        }
    }
    return NULL;
}

static void test_many_threads_share_a_client_while_links_break(void **state)
{
    (void)state;
    static fake_service s;
    fake_service_start(&s, &(fake_plan){.tokens = CROWD_TOKENS, .chaos = 200, .seed = 9});
    gaggle_client *client = connect_to(&s);
    crowd crowds[CROWD_THREADS];
    pthread_t threads[CROWD_THREADS];
    for (size_t i = 0; i < CROWD_THREADS; i++) {
        crowds[i] = (crowd){&s, client, false};
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_main, &crowds[i]), 0);
    }
    fake_service_call(&s, fake_call_restart);
    for (size_t i = 0; i < CROWD_THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(crowds[i].right);
    }
    gaggle_client_destroy(client);
    fake_service_stop(&s);
}

static void ignore_event(void *ctx, gaggle_stream *stream, const gaggle_event *e)
{
    (void)stream;
    if (e->type == GAGGLE_FINISH) ++*(int *)ctx;
}

static void test_destroying_a_client_ends_and_frees_what_is_open(void **state)
{
    (void)state;
    static fake_service s;
    fake_service_start(&s, &(fake_plan){.tokens = 500, .group = 4});
    gaggle_client *client = connect_to(&s);
    int finishes = 0;
    gaggle_request request = {.text = "Once", .on_event = ignore_event, .ctx = &finishes};
    gaggle_stream *with_callback, *unread = ask(client, 0);
    assert_int_equal(gaggle_submit(&with_callback, client, &request, NULL), GAGGLE_OK);
    gaggle_event e;
    assert_int_equal(gaggle_stream_next(with_callback, -1, &e), GAGGLE_FAILED_PRECONDITION);
    assert_int_equal(gaggle_stream_next(unread, -1, &e), GAGGLE_OK);
    gaggle_client_destroy(client);
    assert_int_equal(finishes, 1);
    fake_service_stop(&s);
    gaggle_client_destroy(NULL);
    gaggle_stream_close(NULL);
}

static void test_client_without_router_waits_and_can_be_destroyed(void **state)
{
    (void)state;
    const char *url = "tcp://127.0.0.1:1";
    gaggle_client *client;
    gaggle_options options = {.urls = &url, .url_count = 1, .offline_ms = 200};
    assert_int_equal(gaggle_client_create(&client, &options, NULL), GAGGLE_OK);
    gaggle_stream *stream = ask(client, 0);
    gaggle_event e;
    assert_int_equal(gaggle_stream_next(stream, -1, &e), GAGGLE_OK);
    assert_int_equal(e.type, GAGGLE_FINISH);
    assert_int_equal(e.error->code, GAGGLE_UNAVAILABLE);
    gaggle_report *report;
    gaggle_error err;
    assert_int_equal(gaggle_query_wait(&report, client, 100, &err), GAGGLE_UNAVAILABLE);
    gaggle_client_destroy(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader_gets_the_whole_answer),
        cmocka_unit_test(test_waiting_ends_when_it_should),
        cmocka_unit_test(test_reader_who_waits_stops_the_source),
        cmocka_unit_test(test_many_threads_share_a_client_while_links_break),
        cmocka_unit_test(test_destroying_a_client_ends_and_frees_what_is_open),
        cmocka_unit_test(test_client_without_router_waits_and_can_be_destroyed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
