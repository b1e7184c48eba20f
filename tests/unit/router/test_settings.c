/* Goal: a reload is all or nothing: what is wrong anywhere changes nothing, what is right takes
 * effect where it may, and a lock never falls off a door that is open to others. Method: settings
 * from files that are rewritten, without a router. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "router/settings.h"

#define TOKEN_A "aaaaaaaaaaaaaaaaaaaa"
#define TOKEN_B "bbbbbbbbbbbbbbbbbbbb"
#define TOKEN_C "cccccccccccccccccccc"

enum { PATH_SIZE = 512, ARGS = 16 };

static char config[PATH_SIZE], tokens[PATH_SIZE], keys_path[PATH_SIZE];
static settings running;
static error err;
static option_changes changes;

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, 0600), 0);
}

static char *argv[ARGS] = {"gaggle-router", "--config", config};

static status start(const char *text)
{
    write_file(config, text);
    settings_free(&running);
    err = (error){0};
    return settings_read(&running, 3, argv, &err);
}

static status reload(const char *text)
{
    write_file(config, text);
    err = (error){0};
    return settings_reload(&running, 3, argv, &changes, &err);
}

static bool admits(role what, const char *token)
{
    const msg_hello hello = {.role = what, .token = text_of(token)};
    identity who;
    return auth_judge(&running.auth, &hello, time(NULL), &who, NULL) == ST_OK;
}

static void assert_says(const char *part)
{
    if (strstr(err.text, part) == NULL) fail_msg("\"%s\" should say \"%s\"", err.text, part);
}

static int tear_down(void **state)
{
    (void)state;
    settings_free(&running);
    running = (settings){0};
    return 0;
}

static void test_defaults_and_the_file_section(void **state)
{
    (void)state;
    assert_int_equal(start("[worker]\nlog-level = nonsense\n"), ST_OK);
    assert_int_equal(running.listen.count, 1);
    assert_string_equal(running.listen.items[0], "tcp://127.0.0.1:7400");
    assert_string_equal(running.worker_listen.items[0], "tcp://127.0.0.1:7410");
    assert_int_equal(running.client_grace_ms, LIMIT_CLIENT_GRACE_MS_DEFAULT);
    assert_false(running.check_config);
    assert_int_equal(start("[router]\nclient-grace-ms = 2m\nmax-queue-bytes = 1G\n"
                           "max-queue-tokens = 1000\nlog-format = json\ncheck-config = yes\n"),
                     ST_OK);
    assert_int_equal(running.client_grace_ms, 120000);
    assert_true(running.queue_bytes == 1ull << 30);
    assert_true(running.check_config);
    assert_int_equal(settings_core_options(&running).client_grace_ms, 120000);
    assert_true(settings_core_options(&running).queue_bytes_max == 1ull << 30);
    assert_true(settings_core_options(&running).queue_tokens_max == 1000);
    assert_int_equal(start("[router]\nlog-level = loud\n"), ST_INVALID_ARGUMENT);
    assert_says("line 2: log-level is 'loud'; it must be error, warn, info or debug");
}

static void test_an_open_door_needs_a_lock(void **state)
{
    (void)state;
    assert_int_equal(start("[router]\nlisten = tcp://0.0.0.0:7400\n"), ST_FAILED_PRECONDITION);
    assert_says("tcp://0.0.0.0:7400");
    assert_int_equal(start("[router]\nlisten = tcp://0.0.0.0:7400\napi-token = " TOKEN_A "\n"),
                     ST_OK);
    /* The lock may not go while the door is open, whatever the file says of the next start. */
    assert_int_equal(reload("[router]\nlisten = tcp://0.0.0.0:7400\n"), ST_FAILED_PRECONDITION);
    assert_int_equal(reload("[router]\n"), ST_FAILED_PRECONDITION);
    assert_int_equal(reload("[router]\napi-token = " TOKEN_A "\nworker-listen = tcp://0.0.0.0:1\n"),
                     ST_FAILED_PRECONDITION);
    assert_true(admits(ROLE_CLIENT, TOKEN_A));
    assert_false(admits(ROLE_CLIENT, ""));
    assert_int_equal(reload("[router]\nlisten = tcp://0.0.0.0:7400\napi-token = " TOKEN_B "\n"),
                     ST_OK);
    assert_false(admits(ROLE_CLIENT, TOKEN_A));
    assert_true(admits(ROLE_CLIENT, TOKEN_B));
}

static void test_token_files_are_read_again(void **state)
{
    (void)state;
    char text[2 * PATH_SIZE];
    snprintf(text, sizeof text, "[router]\njoin-token = " TOKEN_A "\njoin-token-file = %s\n",
             tokens);
    write_file(tokens, TOKEN_B "\n");
    assert_int_equal(start(text), ST_OK);
    assert_true(admits(ROLE_WORKER, TOKEN_A) && admits(ROLE_WORKER, TOKEN_B));
    for (int round = 0; round < 3; round++) { /* what is read again is not read twice */
        assert_int_equal(reload(text), ST_OK);
        assert_string_equal(changes.applied, "");
        assert_int_equal(running.auth.join_tokens.count, 2);
    }
    write_file(tokens, TOKEN_C "\n");
    assert_int_equal(reload(text), ST_OK);
    assert_non_null(strstr(changes.applied, "tokens"));
    assert_true(admits(ROLE_WORKER, TOKEN_A) && admits(ROLE_WORKER, TOKEN_C));
    assert_false(admits(ROLE_WORKER, TOKEN_B));
    write_file(tokens, TOKEN_B "\nshort\n");
    assert_int_equal(reload(text), ST_INVALID_ARGUMENT);
    assert_says("line 2");
    assert_true(admits(ROLE_WORKER, TOKEN_C));
    assert_false(admits(ROLE_WORKER, TOKEN_B));
    assert_int_equal(remove(tokens), 0);
    assert_int_equal(reload(text), ST_NOT_FOUND);
    assert_true(admits(ROLE_WORKER, TOKEN_C));
}

static void test_a_bad_file_changes_nothing(void **state)
{
    (void)state;
    assert_int_equal(start("[router]\ndrain-ms = 1s\napi-token = " TOKEN_A "\n"), ST_OK);
    static const char *const bad[] = {
        "[router]\ndrain-ms = 2s\nmax-queue = 0\n",
        "[router]\ndrain-ms = 2s\nmax-qeue = 1\n",
        "[router]\ndrain-ms = 2s\napi-token = short\n",
        "[router]\ndrain-ms = 2s\nlog-format = yaml\n",
        "[router]\ndrain-ms = 2s\ndrain-ms = 3s\n",
        "drain-ms = 2s\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(reload(bad[i]), ST_INVALID_ARGUMENT);
        assert_true(err.text[0] != '\0');
        assert_int_equal(running.drain_ms, 1000);
        assert_true(admits(ROLE_CLIENT, TOKEN_A));
        assert_false(admits(ROLE_CLIENT, TOKEN_B));
    }
    assert_int_equal(remove(config), 0);
    assert_int_equal(settings_reload(&running, 3, argv, &changes, &err), ST_NOT_FOUND);
    assert_int_equal(running.drain_ms, 1000);
}

static void test_what_needs_a_restart_is_named_and_stays(void **state)
{
    (void)state;
    assert_int_equal(start("[router]\n"), ST_OK);
    assert_int_equal(reload("[router]\ndrain-ms = 7s\nlog-level = debug\nlisten = tcp://[::1]:1\n"
                            "tls-cert = /cert.pem\n"),
                     ST_OK);
    assert_string_equal(changes.applied, "drain-ms,log-level");
    assert_string_equal(changes.needs_restart, "listen,tls-cert");
    assert_int_equal(running.drain_ms, 7000);
    assert_string_equal(running.log_level, "debug");
    assert_string_equal(running.listen.items[0], "tcp://127.0.0.1:7400");
    assert_null(running.tls_cert);
}

static void test_the_keys_file_is_read_again(void **state)
{
    (void)state;
    static const char *const key =
        "[key %s]\nrole = client\nname = n\ntenant = t\n"
        "expires = never\nsha256 = "
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n";
    char text[2 * PATH_SIZE], keys_text[600];
    snprintf(text, sizeof text, "[router]\nlisten = tcp://0.0.0.0:1\nkeys = %s\n", keys_path);
    snprintf(keys_text, sizeof keys_text, key, "one");
    write_file(keys_path, keys_text);
    assert_int_equal(start(text), ST_OK);
    assert_non_null(running.auth.keys);
    assert_false(admits(ROLE_CLIENT, ""));
    write_file(keys_path, "[key broken\n");
    assert_int_equal(reload(text), ST_INVALID_ARGUMENT);
    assert_says(keys_path);
    snprintf(keys_text, sizeof keys_text, key, "two");
    write_file(keys_path, keys_text);
    assert_int_equal(reload(text), ST_OK);
    assert_int_equal(reload("[router]\n"), ST_OK);
    assert_string_equal(changes.needs_restart, "listen,keys");
    assert_non_null(running.auth.keys);
}

int main(void)
{
    const char *folder = getenv("GAGGLE_TEST_TMP");
    snprintf(config, sizeof config, "%s/router.ini", folder);
    snprintf(tokens, sizeof tokens, "%s/tokens", folder);
    snprintf(keys_path, sizeof keys_path, "%s/keys", folder);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_defaults_and_the_file_section, tear_down),
        cmocka_unit_test_teardown(test_an_open_door_needs_a_lock, tear_down),
        cmocka_unit_test_teardown(test_token_files_are_read_again, tear_down),
        cmocka_unit_test_teardown(test_a_bad_file_changes_nothing, tear_down),
        cmocka_unit_test_teardown(test_what_needs_a_restart_is_named_and_stays, tear_down),
        cmocka_unit_test_teardown(test_the_keys_file_is_read_again, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
