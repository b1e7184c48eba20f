/* Goal: who may connect is what the keys file and the certificates say, from `gaggle token` and
 * `gaggle certs` through router, worker and client as real processes; and a key that ends takes its
 * links with it, and nobody else's.
 * Method: keys made, revoked and let expire by the commands while answers run; dialling with every
 * role's certificate at every door. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "router/keys_file.h"
#include "tests/e2e/answers.h"

enum { TOKEN_SIZE = 128, URL_SIZE = 64 };

/* Enter a fresh folder of this name: the commands below use short names of files in it. */
static void enter_folder(const char *name)
{
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s' && mkdir '%s'", name, name);
    const char *scratch = getenv("GAGGLE_TEST_TMP");
    CHECK(scratch != NULL && chdir(scratch) == 0);
    CHECK(system(command) == 0 && chdir(name) == 0);
}

static char *run(const char *const *args, int *exit_status)
{
    process p;
    process_start(&p, "gaggle", args, false);
    return process_output(&p, exit_status);
}

static void must_run(const char *const *args)
{
    int code;
    mem_free(run(args, &code));
    assert_int_equal(code, 0);
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* `gaggle token new --keys keys ...` */
static void make_token(char token[TOKEN_SIZE], const char *which, const char *option,
                       const char *value)
{
    int code;
    char *output =
        run(ARGS("token", "new", "--keys", "keys", "--role", which, option, value), &code);
    assert_int_equal(code, 0);
    output[strcspn(output, "\n")] = '\0';
    snprintf(token, TOKEN_SIZE, "%s", output);
    mem_free(output);
}

static void id_of(const char *token, char id[LIMIT_KEY_NAME_BYTES + 1])
{
    text_view found = token_id(text_of(token));
    snprintf(id, LIMIT_KEY_NAME_BYTES + 1, "%.*s", (int)found.size, found.data);
}

static gaggle_client *client_with(const char *url, const char *token)
{
    const gaggle_options options = {.urls = &url, .url_count = 1, .token = token};
    gaggle_client *client;
    gaggle_error err;
    assert_int_equal(gaggle_client_create(&client, &options, &err), GAGGLE_OK);
    return client;
}

/* The end of a short answer, or why there is none. */
static void ask(answer *a, const gaggle_options *options)
{
    gaggle_client *client;
    gaggle_stream *stream;
    gaggle_error err;
    *a = (answer){0};
    assert_int_equal(gaggle_client_create(&client, options, &err), GAGGLE_OK);
    assert_int_equal(
        gaggle_submit(&stream, client, &(gaggle_request){.text = "x", .max_tokens = 4}, &err),
        GAGGLE_OK);
    answer_read(a, stream, SIZE_MAX);
    gaggle_stream_close(stream);
    gaggle_client_destroy(client);
    answer_free(a);
}

static void assert_refused(const char *url, const char *token, gaggle_code code, const char *why)
{
    answer a;
    ask(&a, &(gaggle_options){.urls = &url, .url_count = 1, .token = token, .offline_ms = 5000});
    assert_int_equal(a.code, code);
    if (strstr(a.sentence, why) == NULL) fail_msg("'%s' is not in '%s'", why, a.sentence);
}

/* Until a reload has been read. */
static void wait_until_refused(const char *url, const char *token)
{
    const uint64_t until_ms = clock_now_ms() + 20000;
    answer a;
    do
        ask(&a, &(gaggle_options){.urls = &url, .url_count = 1, .token = token});
    while (a.code == GAGGLE_OK && clock_now_ms() < until_ms);
    assert_int_equal(a.code, GAGGLE_UNAUTHENTICATED);
}

/* -- keys --------------------------------------------------------------------------------- */

/* A router that goes by the file "keys", and a worker with the token `join`. */
typedef struct keyed_cluster {
    process router, worker;
    char client_url[URL_SIZE], worker_url[URL_SIZE];
} keyed_cluster;

static void keyed_start_router(keyed_cluster *k)
{
    process_start(
        &k->router, "gaggle-router",
        ARGS("--listen", k->client_url, "--worker-listen", k->worker_url, "--keys", "keys"), true);
}

static void keyed_start(keyed_cluster *k, const char *join, const char *worker_name)
{
    snprintf(k->client_url, URL_SIZE, "tcp://127.0.0.1:%u", free_port());
    snprintf(k->worker_url, URL_SIZE, "tcp://127.0.0.1:%u", free_port());
    keyed_start_router(k);
    process_start(&k->worker, "gaggle-worker",
                  ARGS("-m", bundled_model(), "--router", k->worker_url, "--threads", "1",
                       "--join-token", join, "--name", worker_name),
                  true);
}

static void keyed_stop(keyed_cluster *k)
{
    process_stop(&k->worker, SIGKILL);
    assert_int_equal(process_stop(&k->router, SIGTERM), 0);
}

static void test_a_keys_file_says_who_gets_in(void **state)
{
    (void)state;
    char ada[TOKEN_SIZE], boss[TOKEN_SIZE], join[TOKEN_SIZE];
    enter_folder("who");
    make_token(ada, "client", "--tenant", "research");
    make_token(boss, "admin", "--expires", "1h");
    make_token(join, "worker", "--worker", "w0");
    keyed_cluster k;
    keyed_start(&k, join, "w0");
    answer a;
    const char *url = k.client_url;
    const char *const in[] = {ada, boss};
    for (size_t i = 0; i < 2; i++) {
        ask(&a, &(gaggle_options){.urls = &url, .url_count = 1, .token = in[i]});
        assert_int_equal(a.code, GAGGLE_OK);
    }
    assert_refused(url, NULL, GAGGLE_UNAUTHENTICATED, "a token is required");
    assert_refused(url, "gg_c_nobody_0123456789", GAGGLE_UNAUTHENTICATED, "the token is not valid");
    ada[strlen(ada) - 1] ^= 1;
    assert_refused(url, ada, GAGGLE_UNAUTHENTICATED, "the token is not valid");
    assert_refused(url, join, GAGGLE_PERMISSION_DENIED, "is for workers, this address for clients");
    keyed_stop(&k);
}

/* Submit an answer that does not end by itself, and read its first token. */
static gaggle_stream *begin_answer(gaggle_client *client, answer *a)
{
    gaggle_stream *stream;
    gaggle_error err;
    const gaggle_request request = {.text = "Once", .max_tokens = 900, .ignore_eos = true};
    *a = (answer){0};
    assert_int_equal(gaggle_submit(&stream, client, &request, &err), GAGGLE_OK);
    assert_true(answer_read(a, stream, 1));
    return stream;
}

static void end_answer(gaggle_stream *stream, answer *a)
{
    answer_read(a, stream, SIZE_MAX);
    gaggle_stream_close(stream);
    answer_free(a);
}

static void test_a_revoked_key_takes_its_links_and_nobody_elses(void **state)
{
    (void)state;
    char ada[TOKEN_SIZE], bob[TOKEN_SIZE], join[TOKEN_SIZE], id[LIMIT_KEY_NAME_BYTES + 1];
    enter_folder("revoked");
    make_token(ada, "client", "--tenant", "a");
    make_token(bob, "client", "--tenant", "b");
    make_token(join, "worker", "--expires", "never");
    keyed_cluster k;
    keyed_start(&k, join, "w0");
    gaggle_client *first = client_with(k.client_url, ada), *second = client_with(k.client_url, bob);
    answer a, b;
    gaggle_stream *of_ada = begin_answer(first, &a), *of_bob = begin_answer(second, &b);

    id_of(ada, id);
    must_run(ARGS("token", "revoke", "--keys", "keys", id));
    kill(k.router.pid, SIGHUP);
    wait_until_refused(k.client_url, ada);
    end_answer(of_ada, &a); /* which waited at the end of its window: nobody read it */
    assert_int_equal(a.code, GAGGLE_UNAUTHENTICATED);
    assert_non_null(strstr(a.sentence, "was revoked"));
    end_answer(of_bob, &b);
    assert_int_equal(b.code, GAGGLE_OK);
    assert_int_equal(b.reason, GAGGLE_FINISH_LENGTH);
    assert_refused(k.client_url, ada, GAGGLE_UNAUTHENTICATED, "was revoked");

    /* A broken file changes nothing. */
    CHECK(system("echo '[key' >> keys") == 0);
    kill(k.router.pid, SIGHUP);
    assert_refused(k.client_url, ada, GAGGLE_UNAUTHENTICATED, "was revoked");
    answer again;
    const char *url = k.client_url;
    ask(&again, &(gaggle_options){.urls = &url, .url_count = 1, .token = bob});
    assert_int_equal(again.code, GAGGLE_OK);
    gaggle_client_destroy(first);
    gaggle_client_destroy(second);
    keyed_stop(&k);
}

static void test_an_expired_key_takes_its_links(void **state)
{
    (void)state;
    char join[TOKEN_SIZE];
    enter_folder("expired");
    make_token(join, "worker", "--expires", "never");
    /* The command's shortest life is a minute; the file can say less. */
    static const char token[] = "gg_c_brief_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
    key_entry key = {.id = "brief", .name = "", .role = KEY_CLIENT, .expires_s = time(NULL) + 3};
    token_hash(key.sha256, text_of(token));
    buffer text = {0};
    keys_file_write_key(&text, &key, "t");
    FILE *file = fopen("keys", "a");
    CHECK(file != NULL && fwrite(text.data, 1, text.size, file) == text.size);
    CHECK(fclose(file) == 0);
    buffer_free(&text);

    keyed_cluster k;
    keyed_start(&k, join, "w0");
    gaggle_client *client = client_with(k.client_url, token);
    answer a = {0};
    while (a.code == GAGGLE_OK) { /* one after the other, until one is ended */
        gaggle_stream *stream;
        gaggle_error err;
        const gaggle_request request = {.text = "Once", .max_tokens = 900, .ignore_eos = true};
        assert_int_equal(gaggle_submit(&stream, client, &request, &err), GAGGLE_OK);
        a = (answer){0};
        end_answer(stream, &a);
        assert_true(time(NULL) < key.expires_s + 30);
    }
    assert_true(time(NULL) >= key.expires_s);
    assert_int_equal(a.code, GAGGLE_UNAUTHENTICATED);
    assert_non_null(strstr(a.sentence, "key brief expired at"));
    gaggle_client_destroy(client);
    keyed_stop(&k);
}

static void test_a_workers_key_is_for_one_name(void **state)
{
    (void)state;
    char join[TOKEN_SIZE], ada[TOKEN_SIZE];
    enter_folder("name");
    make_token(join, "worker", "--worker", "gpu-7");
    make_token(ada, "client", "--tenant", "t");
    keyed_cluster k;
    snprintf(k.client_url, URL_SIZE, "tcp://127.0.0.1:%u", free_port());
    snprintf(k.worker_url, URL_SIZE, "tcp://127.0.0.1:%u", free_port());
    process_start(&k.router, "gaggle-router",
                  ARGS("--listen", k.client_url, "--worker-listen", k.worker_url, "--keys", "keys"),
                  true);
    process_start(&k.worker, "gaggle-worker",
                  ARGS("-m", bundled_model(), "--router", k.worker_url, "--threads", "1",
                       "--join-token", join, "--name", "gpu-8"),
                  false);
    int code; /* to be refused by name is final */
    mem_free(process_output(&k.worker, &code));
    assert_int_not_equal(code, 0);
    assert_int_equal(system("grep -q 'is for worker gpu-7, not for gpu-8' ../gaggle-worker.log"),
                     0);
    assert_refused(k.client_url, ada, GAGGLE_UNAVAILABLE, "no worker");
    assert_int_equal(process_stop(&k.router, SIGTERM), 0);
}

/* -- cached prompts ------------------------------------------------------------------------- */

/* How much of this prompt of over 48 tokens a worker had in its cache. */
static uint32_t cached_of(gaggle_client *client, const char *salt)
{
    gaggle_request request = {.max_tokens = 2, .cache_salt = salt};
    request.text =
        "The geese set out at dawn, when the mist lay low upon the water, and the eldest of "
        "them called each one by name before she rose. They flew over the mill, over the "
        "long hedge and the seven fields, and not one of them looked back.";
    gaggle_stream *stream;
    gaggle_error err;
    gaggle_event event;
    assert_int_equal(gaggle_submit(&stream, client, &request, &err), GAGGLE_OK);
    do
        assert_int_equal(gaggle_stream_next(stream, 20000, &event), GAGGLE_OK);
    while (event.type != GAGGLE_FINISH);
    assert_int_equal(event.reason, GAGGLE_FINISH_LENGTH);
    assert_true(event.prompt_tokens > 3 * LIMIT_KV_BLOCK_TOKENS);
    uint32_t cached = event.cached_tokens;
    gaggle_stream_close(stream);
    return cached;
}

/* Until the worker is back: a restarted router refuses for a moment. */
static void wait_for_worker(gaggle_client *client)
{
    const uint64_t until_ms = clock_now_ms() + 20000;
    for (bool is_there = false; !is_there; assert_true(clock_now_ms() < until_ms)) {
        gaggle_report *report;
        gaggle_error err;
        if (gaggle_query_wait(&report, client, 1000, &err) != GAGGLE_OK) continue;
        is_there = report->worker_count == 1 && report->workers[0].connected;
        gaggle_report_free(report);
    }
}

static void test_no_tenant_finds_what_another_ones_prompt_left(void **state)
{
    (void)state;
    char ada[TOKEN_SIZE], too[TOKEN_SIZE], bob[TOKEN_SIZE], join[TOKEN_SIZE];
    enter_folder("salt");
    make_token(ada, "client", "--tenant", "ada");
    make_token(too, "client", "--tenant", "ada");
    make_token(bob, "client", "--tenant", "bob");
    make_token(join, "worker", "--worker", "w0");
    keyed_cluster k;
    keyed_start(&k, join, "w0");
    gaggle_client *a = client_with(k.client_url, ada), *b = client_with(k.client_url, bob);
    gaggle_client *a_too = client_with(k.client_url, too);
    assert_int_equal(cached_of(a, NULL), 0);
    uint32_t all = cached_of(a, NULL);
    assert_true(all >= 3 * LIMIT_KV_BLOCK_TOKENS);
    assert_int_equal(cached_of(a_too, NULL), all); /* the tenant's, not the key's */
    assert_int_equal(cached_of(b, NULL), 0);
    assert_int_equal(cached_of(b, NULL), all);
    /* And within a tenant, for who asks for it. */
    assert_int_equal(cached_of(a, "user-1"), 0);
    assert_int_equal(cached_of(a, "user-2"), 0);
    assert_int_equal(cached_of(a_too, "user-1"), all);
    assert_int_equal(cached_of(b, "user-1"), 0);

    /* Another router process makes the same salts. */
    process_stop(&k.router, SIGKILL);
    keyed_start_router(&k);
    wait_for_worker(a);
    assert_int_equal(cached_of(a, NULL), all);
    assert_int_equal(cached_of(a, "user-1"), all);
    assert_int_equal(cached_of(a, "user-3"), 0);
    gaggle_client_destroy(a);
    gaggle_client_destroy(a_too);
    gaggle_client_destroy(b);
    keyed_stop(&k);
}

/* -- certificates ------------------------------------------------------------------------- */

static gaggle_options with_certificate(const char *const *url, const char *cert, const char *key)
{
    return (gaggle_options){.urls = url,
                            .url_count = 1,
                            .ca_file = "pki/ca.pem",
                            .cert_file = cert,
                            .key_file = key,
                            .offline_ms = 1000};
}

static gaggle_code code_with(const char *url, const char *cert, const char *key)
{
    answer a;
    const gaggle_options options = with_certificate(&url, cert, key);
    ask(&a, &options);
    return a.code;
}

static void test_certs_init_serves_a_fleet_and_keeps_the_roles_apart(void **state)
{
    (void)state;
    uint16_t clients = free_port(), workers = free_port();
    char by_address[URL_SIZE], by_name[URL_SIZE], worker_door[URL_SIZE];
    snprintf(by_address, URL_SIZE, "tls+tcp://127.0.0.1:%u", clients);
    snprintf(by_name, URL_SIZE, "tls+tcp://localhost:%u", clients);
    snprintf(worker_door, URL_SIZE, "tls+tcp://127.0.0.1:%u", workers);
    enter_folder("certs");
    must_run(ARGS("certs", "init", "pki"));
    must_run(ARGS("certs", "worker", "pki", "gpu-7"));
    process router, worker;
    process_start(&router, "gaggle-router",
                  ARGS("--listen", by_address, "--worker-listen", worker_door, "--tls-cert",
                       "pki/router.pem", "--tls-key", "pki/router.key", "--worker-ca",
                       "pki/worker-ca.pem", "--client-ca", "pki/client-ca.pem"),
                  true);
    process_start(&worker, "gaggle-worker",
                  ARGS("-m", bundled_model(), "--router", worker_door, "--threads", "1", "--tls-ca",
                       "pki/ca.pem", "--tls-cert", "pki/worker-gpu-7.pem", "--tls-key",
                       "pki/worker-gpu-7.key"),
                  true);
    const char *const urls[] = {by_address, by_name};
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(code_with(urls[i], "pki/client.pem", "pki/client.key"), GAGGLE_OK);

    /* The other role's certificate, the router's own or none: no link, and so no Hello. */
    assert_int_equal(code_with(by_address, "pki/worker.pem", "pki/worker.key"), GAGGLE_UNAVAILABLE);
    assert_int_equal(code_with(by_address, "pki/router.pem", "pki/router.key"), GAGGLE_UNAVAILABLE);
    assert_int_equal(code_with(by_address, NULL, NULL), GAGGLE_UNAVAILABLE);
    assert_int_equal(code_with(worker_door, "pki/client.pem", "pki/client.key"),
                     GAGGLE_UNAVAILABLE);
    /* With a worker's it is the Hello that says no. */
    assert_int_equal(code_with(worker_door, "pki/worker.pem", "pki/worker.key"),
                     GAGGLE_PERMISSION_DENIED);

    assert_int_equal(process_stop(&worker, SIGTERM), 0);
    assert_int_equal(process_stop(&router, SIGTERM), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_keys_file_says_who_gets_in),
        cmocka_unit_test(test_a_revoked_key_takes_its_links_and_nobody_elses),
        cmocka_unit_test(test_an_expired_key_takes_its_links),
        cmocka_unit_test(test_a_workers_key_is_for_one_name),
        cmocka_unit_test(test_no_tenant_finds_what_another_ones_prompt_left),
        cmocka_unit_test(test_certs_init_serves_a_fleet_and_keeps_the_roles_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
