/* Goal: what scripts read of gaggle-router's start can be read, what neither it nor gaggle-worker
 * can start with is refused in words, and a running router takes new settings or leaves all as it
 * was. Method: the programs themselves. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

enum { LINE = 1024, ARGS = 12 };

/* Start `program` with at most `descriptors` (0: as many as we have); *output is its stdout and
 * stderr. */
static pid_t start_reading(const char *program, const char *const *args, rlim_t descriptors,
                           FILE **output)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", getenv("GAGGLE_BIN_DIR"), program);
        const char *argv[ARGS + 2] = {path};
        for (size_t i = 0; args[i] != NULL && i < ARGS; i++)
            argv[i + 1] = args[i];
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        const struct rlimit limit = {descriptors, descriptors};
        if (descriptors > 0) setrlimit(RLIMIT_NOFILE, &limit);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(ends[1]);
    *output = fdopen(ends[0], "r");
    assert_non_null(*output);
    return pid;
}

/* The same, and read the first line that it writes. */
static pid_t start(const char *program, const char *const *args, rlim_t descriptors,
                   char line[LINE])
{
    FILE *f;
    pid_t pid = start_reading(program, args, descriptors, &f);
    if (fgets(line, LINE, f) == NULL) line[0] = '\0';
    for (char rest[LINE]; strstr(line, "\"ready\"") == NULL && fgets(rest, LINE, f) != NULL;)
        continue; /* so that it is not ended by SIGPIPE */
    fclose(f);
    return pid;
}

/* It must end by itself; returns its exit code. */
static int run(const char *program, const char *const *args, rlim_t descriptors, char line[LINE])
{
    int how;
    pid_t pid = start(program, args, descriptors, line);
    if (strstr(line, "\"ready\"") != NULL) kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &how, 0), pid);
    if (!WIFEXITED(how)) fail_msg("%s was ended by signal %d: %s", program, WTERMSIG(how), line);
    return WEXITSTATUS(how);
}

static const char *bundled_model(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/models/gosling", getenv("GAGGLE_SOURCE_DIR"));
    return path;
}

static void test_the_ready_line_is_json_whatever_the_url(void **state)
{
    (void)state;
    char url[256], line[LINE];
    snprintf(url, sizeof url, "ipc:///tmp/gaggle \"quoted\" \\ name-%d", (int)getpid());
    pid_t pid =
        start("gaggle-router",
              (const char *[]){"--listen", url, "--worker-listen", "tcp://127.0.0.1:0",
                               "--http-listen", "http://127.0.0.1:0", "--log-level", "error", NULL},
              0, line);
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
    json_error_t why;
    json_t *ready = json_loads(line, 0, &why);
    if (ready == NULL) fail_msg("%s: %s", why.text, line);
    assert_true(json_is_true(json_object_get(ready, "ready")));
    assert_string_equal(json_string_value(json_array_get(json_object_get(ready, "listen"), 0)),
                        url);
    const char *worker =
        json_string_value(json_array_get(json_object_get(ready, "worker_listen"), 0));
    unsigned port = 0;
    assert_int_equal(sscanf(worker, "tcp://127.0.0.1:%u", &port), 1);
    assert_true(port > 0);
    const char *http = json_string_value(json_array_get(json_object_get(ready, "http_listen"), 0));
    assert_int_equal(sscanf(http, "http://127.0.0.1:%u", &port), 1);
    assert_true(port > 0);
    json_decref(ready);
}

static void test_a_queue_without_room_is_refused(void **state)
{
    (void)state;
    static const char *const options[] = {"--max-queue-bytes", "--max-queue"};
    for (size_t i = 0; i < 2; i++) {
        char line[LINE];
        const char *const args[] = {"--listen",
                                    "tcp://127.0.0.1:0",
                                    "--worker-listen",
                                    "tcp://127.0.0.1:0",
                                    "--log-level",
                                    "error",
                                    options[i],
                                    "0",
                                    NULL};
        assert_int_equal(run("gaggle-router", args, 0, line), 2);
        assert_non_null(strstr(line, options[i]));
        assert_non_null(strstr(line, "must be 1 to"));
    }
}

static void test_a_name_the_wire_does_not_carry_is_refused(void **state)
{
    (void)state;
    char line[LINE], folder[512];
    static const char *const options[] = {"--served-model-name", "--name"};
    static const char *const names[] = {"caf\xe9", ""};
    for (size_t i = 0; i < 4; i++) {
        const char *const args[] = {"-m", bundled_model(), options[i / 2], names[i % 2], NULL};
        assert_int_equal(run("gaggle-worker", args, 0, line), 2);
        assert_non_null(strstr(line, options[i / 2]));
    }
    /* The folder's name is the model's where none is given. */
    snprintf(folder, sizeof folder, "%s/caf\xe9", getenv("GAGGLE_TEST_TMP"));
    unlink(folder);
    assert_int_equal(symlink(bundled_model(), folder), 0);
    const char *const args[] = {"-m", folder, "--log-level", "error", NULL};
    assert_int_equal(run("gaggle-worker", args, 0, line), 2);
    assert_non_null(strstr(line, "byte 3 is 0xe9"));
}

/* Wherever it stops, it says why and ends; with enough of them, it is the URL that is refused. With
 * fewer than eight libuv itself gives up. */
static void test_too_few_descriptors_end_the_start_in_words(void **state)
{
    (void)state;
    char line[LINE];
    unsigned kinds = 0;
    for (rlim_t descriptors = 8; descriptors < 24; descriptors++) {
        const char *const router[] = {"--listen", "nonsense://x", "--log-level", "error", NULL};
        assert_int_not_equal(run("gaggle-router", router, descriptors, line), 0);
        assert_non_null(strstr(line, "gaggle-router: "));
        const char *const worker[] = {"-m",          bundled_model(), "--router", "nonsense://x",
                                      "--log-level", "error",         NULL};
        assert_int_not_equal(run("gaggle-worker", worker, descriptors, line), 0);
        assert_non_null(strstr(line, "gaggle-worker: "));
        kinds |= strstr(line, "starting nng") != NULL ? 1 : 0;
        kinds |= strstr(line, "nonsense") != NULL ? 2 : 0;
    }
    assert_int_equal(kinds, 3);
}

static void write_config(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* Every line is JSON; the next one whose event is this, "" for the ready line. The caller
 * json_decref()s it. */
static json_t *next_event(FILE *f, const char *event)
{
    for (char line[LINE]; fgets(line, sizeof line, f) != NULL;) {
        json_error_t why;
        json_t *o = json_loads(line, JSON_REJECT_DUPLICATES, &why);
        if (o == NULL) fail_msg("%s: %s", why.text, line);
        const char *found = json_string_value(json_object_get(o, "event"));
        if (strcmp(found != NULL ? found : "", event) == 0) return o;
        json_decref(o);
    }
    fail_msg("no event \"%s\"", event);
    return NULL;
}

static void expect_member(json_t *event, const char *key, const char *part)
{
    const char *value = json_string_value(json_object_get(event, key));
    if (value == NULL || strstr(value, part) == NULL)
        fail_msg("%s is \"%s\"; it should say \"%s\"", key, value, part);
    json_decref(event);
}

static void test_hangup_reads_the_settings_again(void **state)
{
    (void)state;
#define DOORS "[router]\nlisten = tcp://127.0.0.1:0\nworker-listen = tcp://127.0.0.1:0\n"
    char path[512];
    snprintf(path, sizeof path, "%s/router.ini", getenv("GAGGLE_TEST_TMP"));
    write_config(path, DOORS "log-format = json\n");
    FILE *f;
    pid_t pid = start_reading("gaggle-router", (const char *[]){"--config", path, NULL}, 0, &f);
    json_decref(next_event(f, ""));

    write_config(path, DOORS "log-format = json\ndrain-ms = 1s\ntls-key = /key.pem\n");
    assert_int_equal(kill(pid, SIGHUP), 0);
    expect_member(next_event(f, "settings read again"), "changed", "drain-ms");
    expect_member(next_event(f, "changed settings wait for a restart"), "names", "tls-key");

    write_config(path, DOORS "log-format = text\ndrain = 1s\n");
    assert_int_equal(kill(pid, SIGHUP), 0);
    expect_member(next_event(f, "settings refused; nothing has changed"), "reason",
                  "router.ini line 5: [router] has no setting drain; did you mean");

    assert_int_equal(kill(pid, SIGTERM), 0);
    json_t *draining = next_event(f, "draining");
    assert_int_equal(json_integer_value(json_object_get(draining, "limit_ms")), 1000);
    json_decref(draining);
    json_decref(next_event(f, "stopped"));
    fclose(f);
    int how;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

static void test_check_config_says_only_what_is_wrong(void **state)
{
    (void)state;
    char path[512], line[LINE];
    snprintf(path, sizeof path, "%s/check.ini", getenv("GAGGLE_TEST_TMP"));
    const char *const args[] = {"--config", path, "--check-config", NULL};
    write_config(path, DOORS);
    assert_int_equal(run("gaggle-router", args, 0, line), 0);
    assert_string_equal(line, "");
    write_config(path, "[router]\nstall-ms = 3 s\n");
    assert_int_equal(run("gaggle-router", args, 0, line), 2);
    assert_non_null(strstr(line, "gaggle-router: "));
    assert_non_null(strstr(line, "check.ini line 2: stall-ms is '3 s'"));
    write_config(path, "[router]\nlisten = tcp://0.0.0.0:7400\n");
    assert_int_equal(run("gaggle-router", args, 0, line), 1);
    assert_non_null(strstr(line, "tcp://0.0.0.0:7400"));
}

/* The last line that begins so, of all that a program prints, without its newline. */
static int run_for_last_line(const char *program, const char *const *args, const char *begin,
                             char last[LINE])
{
    FILE *f;
    pid_t pid = start_reading(program, args, 0, &f);
    last[0] = '\0';
    for (char line[LINE]; fgets(line, sizeof line, f) != NULL;)
        if (strncmp(line, begin, strlen(begin)) == 0)
            snprintf(last, LINE, "%.*s", (int)strcspn(line, "\n"), line);
    fclose(f);
    int how;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

static void test_a_revoked_key_ends_the_link_of_its_worker(void **state)
{
    (void)state;
    char keys[512], token[LINE], line[LINE], url[64];
    snprintf(keys, sizeof keys, "%s/keys-%d", getenv("GAGGLE_TEST_TMP"), (int)getpid());
    unlink(keys);
    assert_int_equal(run_for_last_line("gaggle",
                                       (const char *[]){"token", "new", "--keys", keys, "--role",
                                                        "worker", "--worker", "lab1", NULL},
                                       "gg_w_", token),
                     0);
    char id[64];
    assert_int_equal(sscanf(token, "gg_w_%63[a-z0-9]_", id), 1);

    FILE *f, *output;
    pid_t router = start_reading("gaggle-router",
                                 (const char *[]){"--keys", keys, "--listen", "tcp://127.0.0.1:0",
                                                  "--worker-listen", "tcp://127.0.0.1:0",
                                                  "--log-format", "json", NULL},
                                 0, &f);
    json_t *ready = next_event(f, "");
    snprintf(url, sizeof url, "%s",
             json_string_value(json_array_get(json_object_get(ready, "worker_listen"), 0)));
    json_decref(ready);
    const char *args[] = {"-m",  bundled_model(), "--router", url, "--join-token",
                          token, "--name",        "lab2",     NULL};
    assert_int_equal(run_for_last_line("gaggle-worker", args, "gaggle-worker:", line), 1);
    assert_non_null(strstr(line, "is for worker lab1, not for lab2"));

    args[7] = "lab1";
    pid_t worker = start_reading("gaggle-worker", args, 0, &output);
    expect_member(next_event(f, "registered"), "worker", "lab1");
    assert_int_equal(
        run_for_last_line("gaggle", (const char *[]){"token", "revoke", "--keys", keys, id, NULL},
                          "", line),
        0);
    assert_int_equal(kill(router, SIGHUP), 0);
    json_decref(next_event(f, "settings read again"));
    expect_member(next_event(f, "refused"), "reason", "revoked");
    while (fgets(line, sizeof line, output) != NULL)
        continue;
    fclose(output);
    assert_non_null(strstr(line, "was revoked"));
    int how;
    assert_int_equal(waitpid(worker, &how, 0), worker);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 1);
    kill(router, SIGTERM);
    json_decref(next_event(f, "stopped"));
    fclose(f);
    assert_int_equal(waitpid(router, &how, 0), router);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_ready_line_is_json_whatever_the_url),
        cmocka_unit_test(test_a_queue_without_room_is_refused),
        cmocka_unit_test(test_a_name_the_wire_does_not_carry_is_refused),
        cmocka_unit_test(test_too_few_descriptors_end_the_start_in_words),
        cmocka_unit_test(test_hangup_reads_the_settings_again),
        cmocka_unit_test(test_check_config_says_only_what_is_wrong),
        cmocka_unit_test(test_a_revoked_key_ends_the_link_of_its_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
